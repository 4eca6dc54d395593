//! `chancery_preflight`: what would become of transactions, told before the first of them is sent. Nothing is signed,
//! reserved or counted.

use std::sync::Arc;

use alloy_primitives::Address;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::identity::Caller;
use crate::ledger::{Pause, Paused};
use crate::methods::road::{answer_by, in_time, signed_here};
use crate::methods::{App, Cause, Refusal};
use crate::policy::{Charge, Evidence, Policy, Simulated, Taken, Takings};
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
    let mut contracts = Vec::new();
    let mut takings = Takings::default();
    let mut refused = Vec::new();
    let mut transactions = Vec::with_capacity(requests.len());
    for request in requests {
        let judged = match request {
            Ok(request) => {
                judge(app, (&policy, caller), request, (quote.as_ref(), &pauses), &contracts).await
            }
            Err(refusal) => Err(refusal),
        };
        transactions.push(match judged {
            Ok((rule, charges, creates)) => {
                contracts.extend(creates);
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

/// What a rule says to it, what it takes, and who creates which contract by it. `created` is what those before it create; what it would
/// do to the chain, no node can try out before those are sent.
async fn judge(
    app: &App,
    (policy, caller): (&Policy, &Caller),
    request: Request,
    (quote, pauses): (Option<&Quote>, &[Pause]),
    created: &[(Address, Address)],
) -> Result<(Arc<str>, Vec<Charge>, Option<(Address, Address)>), Refusal> {
    let caller = caller.for_account(request.from())?;
    let quote = quote.ok_or_else(Refusal::internal)?;
    let covers = |pause: &&Pause| pause.scope.covers(&caller.client().name, request.from());
    if let Some(pause) = pauses.iter().find(covers) {
        let refused = Paused { scope: pause.scope.clone(), reason: None, by_itself: false };
        return Err(Refusal::new(Cause::Paused, refused.to_string()));
    }
    let known = signed_here(app, request.authorizations()).await?;
    let filled = request.recognising(&known)?.fill(quote, None)?;
    let own = created.iter().filter(|(by, _)| *by == caller.account()).map(|(_, contract)| *contract);
    let mut evidence = Evidence { created: own.collect(), outcome: Simulated::Never };
    let looked_up = policy.inquire::<Tx>(&caller, &filled).created;
    let place = (app.chain_id, caller.account());
    evidence.created.extend(app.ledger.created(place, looked_up).await?);
    policy
        .assess_now::<Tx>(&caller, &filled, evidence)
        .map(|(rule, charges)| (rule, charges, filled.creates().map(|contract| (caller.account(), contract))))
        .map_err(|denied| Refusal::denied(denied, Cause::TransactionDenied))
}
