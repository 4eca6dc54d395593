//! `eth_sendRawTransaction` and its kin: a transaction that came signed. It is judged and recorded like any other, and no
//! key is asked; one that claims to be by an account of ours must be one that the ledger knows.

use std::sync::Arc;

use alloy_primitives::B256;
use tokio::time::{Instant, timeout_at};

use crate::identity::Caller;
use crate::ledger::{Claim, Outcome, Presented, Purpose, Recorded, RefusalClass, ReserveError};
use crate::methods::road::{self, Round, Stop};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Conditions, Presigned, Sendable, SignedTransaction};

/// Answers the transaction's hash.
pub(super) async fn send_raw(
    app: &Arc<App>,
    caller: &Caller,
    signed: SignedTransaction,
    conditions: Option<Conditions>,
) -> Result<B256, Refusal> {
    let answer_by = road::answer_by();
    let signed = signed.for_chain(app.chain_id)?;
    let is_ours = app.policy.now().has_account(signed.from());
    let may_use = caller.for_account(signed.from());
    let place = (signed.place(), signed.hash());
    if !is_ours {
        app.ledger.has_time()?;
    }
    match app.ledger.presented(caller, place, !is_ours || may_use.is_ok()).await? {
        None if is_ours => return Err(unrecorded(&signed)),
        // Whose accounts there are, nobody learns from here either.
        Some(_) if is_ours && may_use.is_err() => may_use.map(drop)?,
        Some(Presented::Ours(recorded)) => {
            return hand_on(app, whole(recorded, &signed)?, conditions, answer_by).await;
        }
        Some(Presented::Before(recorded)) => {
            return hand_on(app, whole(recorded, &signed)?, conditions, answer_by).await;
        }
        None => signed.with_blobs()?,
    }
    let known = road::signed_here(app, signed.filled().authorizations()).await?;
    let signed = signed.recognising(&known);
    let presenting = caller.presenting(signed.from());
    let by = (&presenting, Cause::TransactionDenied);
    let ask = |_: Round| Ok(signed.clone());
    let recorded = road::travel(app, by, ask, |app, permitted| record(app, permitted, answer_by)).await?;
    hand_on(app, recorded.with_blobs_of(&signed), conditions, answer_by).await
}

/// With its blobs, from here or from the ledger: without them a node may call it malformed, also one that has it.
fn whole<K: Sendable>(recorded: Recorded<K>, signed: &SignedTransaction) -> Result<Recorded<K>, Refusal> {
    let recorded = recorded.with_blobs_of(signed);
    if recorded.raw() == signed.raw() {
        signed.with_blobs()?;
    }
    Ok(recorded)
}

/// Reserves and records: the signature is there, and is proved once more.
async fn record(
    app: Arc<App>,
    permitted: Permitted<Presigned>,
    answer_by: Instant,
) -> Result<Recorded<Presigned>, Stop> {
    let ticket = permitted.caller().ticket().cloned();
    road::still_good(ticket.as_ref())?;
    let reserved = match timeout_at(answer_by, app.ledger.reserve(permitted, Purpose::Send)).await {
        Ok(Ok(Claim::Fresh(reserved))) => reserved,
        Ok(Ok(Claim::Known(recorded))) => return Ok(recorded),
        Ok(Err(ReserveError::PolicyChanged)) => return Err(Stop::PolicyChanged),
        Ok(Err(error)) => return Err(Stop::Refused(error.into())),
        Err(_) => {
            return Err(Stop::Refused(Refusal::new(Cause::Busy, "no answer in time; nothing was sent")));
        }
    };
    let signed = reserved.signed_already().map_err(|error| {
        tracing::error!(%error, "a signature that was read is none");
        Stop::Refused(Refusal::internal())
    })?;
    // What is reserved and not recorded the ledger voids by itself.
    road::still_good(ticket.as_ref())?;
    app.ledger.record(signed).await.map_err(|error| Stop::Refused(error.into()))
}

/// Hands it to the network. What is handed in again is handed on again: it is one transaction whatever happens.
async fn hand_on<K: Sendable>(
    app: &Arc<App>,
    recorded: Recorded<K>,
    conditions: Option<Conditions>,
    answer_by: Instant,
) -> Result<B256, Refusal> {
    let (hash, is_followed) = (recorded.hash(), road::is_followed(&recorded));
    let broadcast = {
        let app = Arc::clone(app);
        async move {
            if !recorded.is_in_hand() {
                return recorded.overhear().await;
            }
            let outcome = app.upstream.broadcast_if(&recorded, conditions.as_ref()).await;
            let written = app.ledger.outcome_of_client(&recorded, outcome.clone()).await;
            road::told(&recorded, outcome, written)
        }
    };
    match timeout_at(answer_by, app.tasks.spawn(broadcast)).await {
        Ok(Ok(Outcome::Accepted | Outcome::Known)) => Ok(hash),
        Ok(Ok(Outcome::Refused { class: RefusalClass::NonceTooLow, .. })) if is_followed => Ok(hash),
        Ok(Ok(Outcome::Refused { text, .. })) => Err(Refusal::new(Cause::NodeRefused, text)),
        // Chancery goes on sending it.
        _ if is_followed => Ok(hash),
        _ => {
            let what = format!(
                "no node said whether it has {hash}; sending the same transaction again does no harm"
            );
            Err(Refusal::new(Cause::NodeUnavailable, what))
        }
    }
}

/// Somebody signs with a key of ours, and not here.
fn unrecorded(signed: &SignedTransaction) -> Refusal {
    let (account, hash) = (signed.from(), signed.hash());
    road::alarm(account, &format!("transaction {hash}"));
    let what = format!("{hash} is signed by {account}, and was not signed here; it is not passed on");
    Refusal::new(Cause::Unrecorded, what)
}
