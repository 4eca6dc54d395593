//! The part of the road that every signature takes, from a permission to a record.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::clock::after;
use crate::config::OWN_NAME;
use crate::identity::{AccountCaller, RequestId, Ticket};
use crate::ledger::{
    Administration, Claim, Earlier, LedgerError, Outcome, Purpose, Recorded, RefusalClass, ReserveError,
};
use crate::methods::evidence::found_out;
use crate::methods::{App, Cause, Refusal, shadow};
use crate::policy::Judged;
use crate::policy::Permitted;
use crate::transaction::{Authorizations, Fees, Handed, Kind, Quote, Request};

/// How long a client may wait for its answer in all: viem gives up after 10 s, and its user sends again.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// Between two looks at a request that is being signed for somebody else.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why a permitted payload was not recorded.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its nonce was given up to a payload that paid more: to be filled with at least this, and judged again.
    Outbid(Fees),
    /// The policy was replaced meanwhile: to be judged again.
    PolicyChanged,
    /// Another payload got the nonce for which it was permitted: to be judged again.
    Moved,
    /// A mined count that jumped was confirmed: to be asked for once more.
    Confirmed,
    Refused(Refusal),
}

/// One judgement of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// It was permitted before, and counted against the rates then.
    again: bool,
    /// Fees that the caller left open are at least these.
    pub floor: Option<Fees>,
}

impl Round {
    /// Asks the policy, once what it needs to know is found out.
    async fn decide<K: Judged>(
        self,
        app: &Arc<App>,
        caller: &AccountCaller,
        asked: K::Asked,
        no: Cause,
    ) -> Result<Permitted<K>, Refusal> {
        let policy = app.policy.now();
        let evidence = found_out::<K>(app, &policy, caller, &asked).await?;
        // Compared once for a request, however often it is judged.
        let compared = if self.again { None } else { shadow::begin(app) };
        let compared = compared.map(|with| (with, asked.clone()));
        let decided = if self.again {
            policy.decide_again(caller, asked, evidence)
        } else {
            policy.decide(caller, asked, evidence)
        };
        if let Some((with, asked)) = compared {
            shadow::compare::<K>(app, (caller, asked), decided.as_ref(), with);
        }
        decided.map_err(|denied| Refusal::denied(denied, no))
    }
}

/// Those of a transaction's authorizations that an account of ours signed. Each was signed here, or there is an alarm.
pub(super) async fn signed_here(
    app: &App,
    authorizations: Option<&Authorizations>,
) -> Result<Vec<Handed>, Refusal> {
    let policy = app.policy.now();
    let ours = authorizations.map(|all| all.by(|account| policy.has_account(account))).unwrap_or_default();
    let known = app.ledger.authorized(ours.clone()).await?;
    match ours.into_iter().find(|one| !known.contains(one)) {
        None => Ok(known),
        Some(Handed { authority, .. }) => {
            alarm(authority, "an authorization");
            let why = format!(
                "an authorization is signed by {authority}, whose key is here, and was not signed here"
            );
            Err(Refusal::new(Cause::Unrecorded, why))
        }
    }
}

/// Somebody signs with a key of ours, and not here.
pub(super) fn alarm(account: Address, what: &str) {
    tracing::error!(%account, "ALARM: {what} is signed by an account of ours, and not by us");
    metrics::counter!("chancery_foreign_signatures_total").increment(1);
}

/// Identity is asked once more right before a commit: what is signed waits for other payloads, and for the token.
pub(super) fn still_good(ticket: Option<&Ticket>) -> Result<(), Stop> {
    if ticket.is_none_or(Ticket::is_good) { Ok(()) } else { Err(Stop::Refused(lapsed())) }
}

fn lapsed() -> Refusal {
    let why = "the client's certificate is not accepted any more; nothing was signed that leaves";
    Refusal::new(Cause::AccountNotAvailable, why)
}

/// When the client must have its answer.
pub(super) fn answer_by() -> Instant {
    after(ANSWER_WITHIN)
}

/// Waits for a stage no longer than the client does.
pub(super) async fn in_time<T, E: Into<Refusal>>(
    answer_by: Instant,
    stage: impl Future<Output = Result<T, E>>,
    late: Cause,
) -> Result<T, Refusal> {
    match timeout_at(answer_by, stage).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Refusal::new(late, "no answer in time; nothing was signed")),
    }
}

/// What the node says that a transaction needs; asked in a task of its own, for the answer may be waited for by other clients
/// too, and would come when it is this one's turn. Whoever hangs up takes the task along: else nothing would bound them.
pub(super) async fn quote(app: &Arc<App>, request: &Request, answer_by: Instant) -> Result<Quote, Refusal> {
    let (asked, request) = (Arc::clone(app), request.clone());
    let quote = app.tasks.spawn(async move { asked.upstream.quote(&request).await });
    let quote = AbortOnDropHandle::new(quote);
    let quote = async { quote.await.map_err(|_| Refusal::internal())?.map_err(Refusal::from) };
    in_time(answer_by, quote, Cause::NodeUnavailable).await
}

/// Answers with what was recorded for the very same request before, where it has a key or its client a window; else
/// goes `fresh`, the whole road. Nothing is asked of the node or the policy for a repeat: whoever asks again must
/// learn of the payload that is out, even if it could not be made any more.
pub(super) async fn once<K: Kind, T>(
    app: &App,
    caller: &AccountCaller,
    (chain, fields): (Option<u64>, Vec<u8>),
    (purpose, answer_by): (Purpose, Instant),
    known: impl Fn(Recorded<K>) -> T,
    fresh: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let earlier = || app.ledger.earlier::<K>(caller, (chain, &fields), purpose);
    loop {
        match earlier().await? {
            Earlier::Recorded(recorded) => return answered_before(recorded, known, answer_by).await,
            Earlier::Nothing => break,
            Earlier::Signing if Instant::now() >= answer_by => {
                return Err(Refusal::new(Cause::Busy, "this very request is still being signed; ask again"));
            }
            Earlier::Signing => sleep(LOOK_AGAIN).await,
        }
    }
    let refusal = match fresh.await {
        Ok(done) => return Ok(done),
        Err(refusal) => refusal,
    };
    // A repeat that came beside its first may have been refused because the first had its way.
    match earlier().await {
        Ok(Earlier::Recorded(recorded)) if recorded.request() != caller.request() => {
            answered_before(recorded, known, answer_by).await
        }
        _ => Err(refusal),
    }
}

/// Signs what is not sent but returned, and has no nonce: judged, reserved, signed, recorded. Answers what was sealed.
pub(super) async fn signature<K: Judged>(
    app: &Arc<App>,
    caller: &AccountCaller,
    asked: K::Asked,
    no: Cause,
) -> Result<Bytes, Refusal> {
    let answer_by = answer_by();
    let ask = |_: Round| Ok(asked.clone());
    let fresh = travel(app, (caller, no), ask, |app, permitted: Permitted<K>| async move {
        Ok(record(&app, permitted, Purpose::Return, answer_by).await?.raw().clone())
    });
    let intent = (None, K::intent(&asked));
    let known = |recorded: Recorded<K>| recorded.raw().clone();
    once(app, caller, intent, (Purpose::Return, answer_by), known, fresh).await
}

/// Judges what `ask` says is asked for, and has `run` do the rest in a task of its own, which a client that hangs up no longer
/// stops. `no` is the row of the table for a denial of this kind.
///
/// Judged again with higher fees where a vacant nonce demands them, and again where the policy was replaced
/// between the decision and the reservation; both together end after a few rounds.
pub(super) async fn travel<K, T, R>(
    app: &Arc<App>,
    (caller, no): (&AccountCaller, Cause),
    ask: impl Fn(Round) -> Result<K::Asked, Refusal>,
    run: impl Fn(Arc<App>, Permitted<K>) -> R,
) -> Result<T, Refusal>
where
    K: Judged,
    T: Send + 'static,
    R: Future<Output = Result<T, Stop>> + Send + 'static,
{
    let mut round = Round { again: false, floor: None };
    for _ in 0..3 {
        let permitted = round.decide::<K>(app, caller, ask(round)?, no).await?;
        round.again = true;
        // It counts among the client's calls to its end, whether or not anybody waits. Boxed: it would be moved whole, and twice
        // as large, into its task.
        let (ticket, run) = (caller.ticket().cloned(), Box::pin(run(Arc::clone(app), permitted)));
        let work = async move {
            let _ticket = ticket;
            run.await
        };
        match app.tasks.spawn(work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Stop::Refused(refusal))) => return Err(refusal),
            // The ledger has the new one already; here it comes with the ledger's answer.
            Ok(Err(Stop::PolicyChanged)) => sleep(LOOK_AGAIN).await,
            Ok(Err(Stop::Confirmed | Stop::Moved)) => {}
            Ok(Err(Stop::Outbid(fees))) => round.floor = Some(fees),
            Err(error) => {
                tracing::error!(%error, "a signing task ended without an answer");
                return Err(Refusal::internal());
            }
        }
    }
    Err(Refusal::unsettled())
}

/// Whether enough nodes say that an account's mined count is true although it stands far above what the ledger knows;
/// then that is written down like an operator's word.
async fn confirm(app: &App, account: Address, mined: u64) -> bool {
    let Some(nodes) = app.upstream.who_confirms(account, mined).await else { return false };
    let by = Administration {
        operator: OWN_NAME.to_owned(),
        person: format!("the nodes {}", nodes.join(", ")),
        request: RequestId::random().map(|request| request.to_string()).unwrap_or_default(),
    };
    tracing::warn!(%account, mined, ?nodes, "several nodes say that a mined count which jumped is true");
    match app.ledger.accept_count((app.chain_id, account), mined, by).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, %account, "a mined count that is confirmed could not be written");
            false
        }
    }
}

/// What a client is told of its transaction, and whoever asks beside it.
pub(super) fn told<K: Kind>(
    recorded: &Recorded<K>,
    outcome: Outcome,
    written: Result<Outcome, LedgerError>,
) -> Outcome {
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
    let was_refused = is_refused(&outcome);
    let told = match written {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(%error, hash = %recorded.hash(), "the outcome could not be written");
            // What was returned may be ours to send by now.
            let has_nonce = recorded.nonce().is_some();
            if has_nonce { outcome.unwritten(recorded.standing()) } else { outcome }
        }
    };
    if was_refused && !is_refused(&told) {
        tracing::error!(hash = %recorded.hash(), told = ?told, "a node refused it, and its client is told the hash: another node may have it");
    }
    recorded.tell(&told);
    told
}

/// Whether Chancery goes on sending it until the chain has decided.
pub(super) fn is_followed<K: Kind>(recorded: &Recorded<K>) -> bool {
    recorded.is_ours_to_send() && recorded.nonce().is_some() && recorded.standing().is_live()
}

/// A node's definite refusal. That a nonce is used up is none: perhaps it was by this very transaction, which the node has not
/// indexed yet, and nobody is told to pay again on a node's word.
pub(super) fn refusal_of(outcome: Outcome) -> Option<Refusal> {
    match outcome {
        Outcome::Refused { class, text } if class != RefusalClass::NonceTooLow => {
            Some(Refusal::new(Cause::NodeRefused, text))
        }
        _ => None,
    }
}

/// The answer for what was recorded before. Where a task is just handing it to a node, it hears what that one hears.
async fn answered_before<K: Kind, T>(
    recorded: Recorded<K>,
    known: impl Fn(Recorded<K>) -> T,
    answer_by: Instant,
) -> Result<T, Refusal> {
    match timeout_at(answer_by, recorded.overhear()).await.ok().and_then(refusal_of) {
        Some(refusal) => Err(refusal),
        None => Ok(known(recorded)),
    }
}

/// Reserves, signs and records: two durable commits, and one call of the token between them.
///
/// What is signed and not recorded never leaves: on any failure the reservation is voided at once, and where
/// even that fails (or this process dies) the ledger voids it by itself.
pub(super) async fn record<K: Kind>(
    app: &App,
    permitted: Permitted<K>,
    purpose: Purpose,
    answer_by: Instant,
) -> Result<Recorded<K>, Stop> {
    let (client, account) = (permitted.client().to_owned(), permitted.from());
    let ticket = permitted.caller().ticket().cloned();
    still_good(ticket.as_ref())?;
    // A claim that is given up here is dropped by the ledger, or voided if it was just granted.
    let reserved = match timeout_at(answer_by, app.ledger.reserve(permitted, purpose)).await {
        Ok(Ok(Claim::Fresh(reserved))) => reserved,
        Ok(Ok(Claim::Known(recorded))) => return Ok(recorded),
        Ok(Err(ReserveError::Outbid { floor })) => return Err(Stop::Outbid(floor)),
        Ok(Err(ReserveError::PolicyChanged)) => return Err(Stop::PolicyChanged),
        Ok(Err(ReserveError::Moved)) => return Err(Stop::Moved),
        Ok(Err(ReserveError::MinedJump { mined, .. }))
            if timeout_at(answer_by, confirm(app, account, mined)).await.unwrap_or(false) =>
        {
            return Err(Stop::Confirmed);
        }
        Ok(Err(error)) => return Err(Stop::Refused(error.into())),
        Err(_) => {
            let why = "other transactions of this account are still being signed; nothing was signed";
            return Err(Stop::Refused(Refusal::new(Cause::Busy, why)));
        }
    };
    let id = reserved.id();
    let refusal: Refusal = match app.signer.sign(&client, reserved, Some(answer_by)).await {
        // Signed, and nobody has it: what is not recorded does not leave.
        Ok(_) if still_good(ticket.as_ref()).is_err() => lapsed(),
        Ok(signed) => {
            return app.ledger.record(signed).await.map_err(|error| Stop::Refused(error.into()));
        }
        Err(error) => error.into(),
    };
    if let Err(error) = app.ledger.void(id, &refusal.to_string()).await {
        tracing::warn!(%error, "a reservation stays until the ledger voids it by itself");
    }
    Err(Stop::Refused(refusal))
}
