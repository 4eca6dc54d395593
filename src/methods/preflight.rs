//! `chancery_preflight`: what would become of transactions, told before the first of them is sent. Nothing is signed,
//! reserved or counted.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::identity::Caller;
use crate::ledger::{Pause, Paused};
use crate::methods::road::{answer_by, in_time};
use crate::methods::{App, Cause, Refusal};
use crate::policy::{Charge, Policy, Taken, Takings};
use crate::transaction::{Quote, Request, RequestError, Tx};

/// More than any script sends in one go (forge itself sends a hundred at once).
const MOST: usize = 256;

/// The answer: a verdict for each, in their order.
#[derive(Debug, Serialize)]
pub(super) struct Preflight {
    transactions: Vec<Verdict>,
    /// What all that is allowed takes together.
    budgets: Vec<Taken>,
}

/// What a send would be answered.
#[derive(Debug, Serialize)]
struct Verdict {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObjectOwned>,
}

/// Judges each as a send of it would be judged now; with what is to be recorded if any would be refused: whoever asks
/// for what is forbidden is seen, also where he only asks.
pub(super) async fn preflight(
    app: &App,
    caller: &Caller,
    params: Option<&str>,
) -> Result<(Preflight, Option<Refusal>), Refusal> {
    let (list,): (Vec<&RawValue>,) =
        serde_json::from_str(params.unwrap_or("[]")).map_err(|_| RequestError::Parameters)?;
    if list.len() > MOST {
        let what = format!("{} transactions are more than {MOST}, which one preflight takes", list.len());
        return Err(Refusal::new(Cause::InvalidParams, what));
    }
    let requests: Vec<_> = list.iter().map(|one| read(one)).collect();
    let quote = quote(app, &requests).await?;
    let pauses = app.ledger.pauses().await?;
    let policy = app.policy.now();
    let judge = |request| judge(&policy, caller, request, quote.as_ref(), &pauses);
    let mut takings = Takings::default();
    let mut refused = Vec::new();
    let mut transactions = Vec::with_capacity(requests.len());
    for request in requests {
        transactions.push(match request.and_then(judge) {
            Ok((rule, charges)) => {
                takings.extend(charges);
                Verdict { allowed: true, rule: Some(rule), error: None }
            }
            Err(refusal) => {
                let error = Some(refusal.to_error(Some(caller.request())));
                refused.push(refusal);
                Verdict { allowed: false, rule: None, error }
            }
        });
    }
    let all = transactions.len();
    let refusal = refused.first().map(|first| {
        let sentence =
            format!("preflight: {} of {all} would be refused, the first because {first}", refused.len());
        Refusal::new(first.cause(), sentence)
            .by_rule(first.rule().map(str::to_owned), first.condition().map(str::to_owned))
    });
    Ok((Preflight { transactions, budgets: takings.shown() }, refusal))
}

/// As a send reads it. Gas cannot be estimated for one that stands behind others.
fn read(written: &RawValue) -> Result<Request, Refusal> {
    let request = Request::parse(Some(&format!("[{}]", written.get())))?.to_be_sent()?;
    if request.gas().is_none() {
        let what = "`gas` is missing: what stands behind others cannot be estimated before they are sent";
        return Err(Refusal::new(Cause::InvalidParams, what));
    }
    Ok(request)
}

/// One for all of them: fees are the only thing in it that they need. None where nothing is to be judged.
async fn quote(app: &App, requests: &[Result<Request, Refusal>]) -> Result<Option<Quote>, Refusal> {
    let read = || requests.iter().filter_map(|request| request.as_ref().ok());
    let Some(one) = read().find(|request| request.needs_fees()).or_else(|| read().next()) else {
        return Ok(None);
    };
    in_time(answer_by(), app.upstream.quote(one), Cause::NodeUnavailable).await.map(Some)
}

fn judge(
    policy: &Policy,
    caller: &Caller,
    request: Request,
    quote: Option<&Quote>,
    pauses: &[Pause],
) -> Result<(Arc<str>, Vec<Charge>), Refusal> {
    let caller = caller.for_account(request.from())?;
    let quote = quote.ok_or_else(Refusal::internal)?;
    let covers = |pause: &&Pause| pause.scope.covers(&caller.client().name, request.from());
    if let Some(pause) = pauses.iter().find(covers) {
        let refused = Paused { scope: pause.scope.clone(), reason: None, by_itself: false };
        return Err(Refusal::new(Cause::Paused, refused.to_string()));
    }
    let filled = request.fill(quote, None)?;
    policy
        .assess_now::<Tx>(&caller, &filled)
        .map_err(|denied| Refusal::denied(denied, Cause::TransactionDenied))
}
