//! `chancery_preflight`: what would become of transactions, told before the first of them is sent. Nothing is signed,
//! reserved or counted.

use std::sync::Arc;

use alloy_primitives::Address;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::task::yield_now;

use crate::identity::{AccountCaller, Caller};
use crate::ledger::{Pause, Paused};
use crate::methods::road::{self, answer_by, in_time, signed_here};
use crate::methods::{App, Cause, Refusal};
use crate::policy::{Charge, Evidence, Policy, Simulated, Taken, Takings};
use crate::seats::Seats;
use crate::transaction::{Draft, Quote, Request, RequestError, Tx};

/// More than any script sends in one go (forge itself sends a hundred at once).
const MOST: usize = 256;

/// Authorizations (EIP-7702) that all of them together hand in: to find out who signed one takes longer than all else.
const MOST_HANDED_IN: usize = 32;

/// Preflights of one client at once.
const AT_ONCE: usize = 2;

/// Between two pauses for whatever else this thread serves.
const DECISIONS: usize = 8;

/// One of those that are asked about, and who may use its account; or why not.
type Asked = Result<(Request, AccountCaller), Refusal>;

/// Which are under way, on all chains.
#[derive(Clone, Debug)]
pub struct Preflights(Arc<Seats<String>>);

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

impl Default for Preflights {
    fn default() -> Self {
        Self(Seats::new(AT_ONCE))
    }
}

/// Judges each as a send of it would be judged now; with what is to be recorded if any would be refused: whoever asks
/// for what is forbidden is seen, also where he only asks.
pub(super) async fn preflight(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<(Preflight, Option<Refusal>), Refusal> {
    let Some(_seat) = app.preflights.0.take(caller.client().name.clone()) else {
        let why =
            format!("{AT_ONCE} preflights of this client are under way; ask again when they are answered");
        return Err(Refusal::new(Cause::Busy, why));
    };
    in_time(answer_by(), judged(app, caller, params), Cause::Busy).await
}

async fn judged(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<(Preflight, Option<Refusal>), Refusal> {
    let (list,): (Vec<&RawValue>,) =
        serde_json::from_str(params.unwrap_or("[]")).map_err(|_| RequestError::Parameters)?;
    if list.len() > MOST {
        let what = format!("{} transactions are more than {MOST}, which one preflight takes", list.len());
        return Err(Refusal::new(Cause::InvalidParams, what));
    }
    let requests = read(caller, &list).await?;
    let quote = quote(app, &requests).await?;
    app.ledger.has_time()?;
    let pauses = app.ledger.pauses().await?;
    let policy = app.policy.now();
    let mut contracts = Vec::new();
    let mut takings = Takings::default();
    let mut refused = Vec::new();
    let mut transactions = Vec::with_capacity(requests.len());
    for (place, asked) in requests.into_iter().enumerate() {
        if place % DECISIONS == 0 {
            yield_now().await;
        }
        let judged = match asked {
            Ok(asked) => judge(app, &policy, asked, (quote.as_ref(), &pauses), &contracts).await,
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

/// As a send reads them: whether the client may use the account comes before all that costs something. Who signed what they
/// hand in is worked out for so many only.
async fn read(caller: &Caller, list: &[&RawValue]) -> Result<Vec<Asked>, Refusal> {
    let draft = |written: &&RawValue| {
        let draft = Draft::parse(Some(&format!("[{}]", written.get())))?;
        let caller = caller.for_account(draft.from())?;
        Ok((draft, caller))
    };
    let drafts: Vec<Result<_, Refusal>> = list.iter().map(draft).collect();
    let handed_in: usize = drafts.iter().flatten().map(|(draft, _)| draft.handed_in()).sum();
    if handed_in > MOST_HANDED_IN {
        let what =
            format!("{handed_in} authorizations are more than {MOST_HANDED_IN}, which one preflight takes");
        return Err(Refusal::new(Cause::InvalidParams, what));
    }
    let mut read = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if draft.as_ref().is_ok_and(|(draft, _)| draft.handed_in() > 0) {
            yield_now().await;
        }
        read.push(
            draft.and_then(|(draft, caller)| Ok((with_gas(draft.recovered()?.to_be_sent()?)?, caller))),
        );
    }
    Ok(read)
}

/// Gas cannot be estimated for one that stands behind others.
fn with_gas(request: Request) -> Result<Request, Refusal> {
    if request.gas().is_none() {
        let what = "`gas` is missing: what stands behind others cannot be estimated before they are sent";
        return Err(Refusal::new(Cause::InvalidParams, what));
    }
    Ok(request)
}

/// One for all of them: fees are the only thing in it that they need. None where nothing is to be judged.
async fn quote(app: &Arc<App>, requests: &[Asked]) -> Result<Option<Quote>, Refusal> {
    let read = || requests.iter().flatten().map(|(request, _)| request);
    let Some(one) = read().find(|request| request.needs_fees()).or_else(|| read().next()) else {
        return Ok(None);
    };
    road::quote(app, one, answer_by()).await.map(Some)
}

/// What a rule says to it, what it takes, and who creates which contract by it. `created` is what those before it create; what it would
/// do to the chain, no node can try out before those are sent.
async fn judge(
    app: &App,
    policy: &Policy,
    (request, caller): (Request, AccountCaller),
    (quote, pauses): (Option<&Quote>, &[Pause]),
    created: &[(Address, Address)],
) -> Result<(Arc<str>, Vec<Charge>, Option<(Address, Address)>), Refusal> {
    let quote = quote.ok_or_else(Refusal::internal)?;
    let covers = |pause: &&Pause| pause.scope.covers(&caller.client().name, request.from());
    if let Some(pause) = pauses.iter().find(covers) {
        let refused = Paused { scope: pause.scope.clone(), reason: None, by_itself: false };
        return Err(Refusal::new(Cause::Paused, refused.to_string()));
    }
    app.ledger.has_time()?;
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
