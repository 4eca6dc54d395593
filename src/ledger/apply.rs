//! What each command does to the tables and to the audit chain, inside the writer's transaction.

use std::collections::HashSet;

use alloy_primitives::Address;
use tokio::time::Instant;

use crate::ledger::audit::Body;
use crate::ledger::claims::{Attempt, Parked};
use crate::ledger::core;
use crate::ledger::store;
use crate::ledger::writer::{Command, Group, Rules};
use crate::ledger::{Final, LedgerError, Outcome, RecordError, RefusalClass, Voided};

/// How many claims may wait.
const MAX_PARKED: usize = 4096;

type Sql<T> = Result<T, sqlx::Error>;

/// Does what is asked; claims only join those that wait.
pub(in crate::ledger) async fn apply(
    group: &mut Group<'_>,
    command: Command,
    rules: &mut Rules,
    waiting: &mut Vec<Parked>,
) -> Sql<()> {
    match command {
        // Claims are tried last, in their order, those that waited before those that come now.
        Command::Reserve(reserve) if waiting.len() < MAX_PARKED => {
            waiting.push(Parked::new(reserve));
        }
        Command::Reserve(reserve) => group.answer(reserve.reply, Err(LedgerError::Busy.into())),
        Command::Record { id, raw, hash, reply } => {
            let recorded = store::record(group.db, id, &raw, hash).await?;
            if recorded {
                group.audit(&Body::Signature { reservation: id, hash, raw: &raw }).await?;
                group.closed.push(id);
            }
            group.answer(reply, if recorded { Ok(()) } else { Err(RecordError::Void) });
        }
        Command::Void { id, why, reply } => {
            let state = store::state_of(group.db, id).await?;
            let voided = match state.as_deref() {
                Some("recorded" | "vacant" | "final" | "replaced") => Voided::Recorded,
                _ => Voided::Void,
            };
            void(group, id, &why).await?;
            group.answer(reply, Ok(voided));
        }
        Command::Outcome { id, outcome, reply } => {
            note(group, id, &outcome).await?;
            group.answer(reply, Ok(()));
        }
        Command::Settled { id, last, reply } => {
            settle(group, id, last).await?;
            group.answer(reply, Ok(()));
        }
        Command::Refused { row, reply } => {
            group.audit(&row.body(&row.request.to_string())).await?;
            group.answer(reply, Ok(()));
        }
        Command::Note { note, reply } => {
            group.audit(&Body::Note(&note)).await?;
            group.answer(reply, Ok(()));
        }
        Command::Policy { hash, text, reply } => {
            store::archive_policy(group.db, hash, &text, group.now).await?;
            group.audit(&Body::Policy { policy: hash }).await?;
            rules.policy = Some(hash);
            group.answer(reply, Ok(()));
        }
        Command::Open { reply } => {
            let open = store::open_transactions(group.db).await?;
            group.answer(reply, Ok(open));
        }
        Command::Next { chain, account, mined, reply } => {
            let rows = store::rows_of(group.db, (chain, account), (mined, None)).await?;
            group.answer(reply, Ok(core::next(&rows, mined)));
        }
        Command::Ready { reply } => {
            store::probe(group.db, group.now).await?;
            group.answer(reply, Ok(()));
        }
        Command::Close { .. } => {}
    }
    Ok(())
}

/// Tries every claim in its order; of those that take any nonce, none before its account's first has got one.
pub(in crate::ledger) async fn retry(
    group: &mut Group<'_>,
    rules: &Rules,
    waiting: &mut Vec<Parked>,
) -> Sql<()> {
    let now = Instant::now();
    let mut blocked: HashSet<(u64, Address)> = HashSet::new();
    waiting.sort_by_key(Parked::turn);
    for claim in std::mem::take(waiting) {
        if claim.is_abandoned() {
            continue;
        }
        let queue = claim.queue();
        let behind = queue.is_some_and(|queue| blocked.contains(&queue));
        let attempt = if behind { Attempt::Waits(claim) } else { claim.attempt(group, rules).await? };
        if !matches!(attempt, Attempt::Answered) {
            blocked.extend(queue);
        }
        match attempt {
            Attempt::Waits(claim) if claim.is_expired(now) => claim.give_up(group),
            Attempt::Waits(claim) => waiting.push(claim),
            Attempt::Taken | Attempt::Answered => {}
        }
    }
    Ok(())
}

pub(in crate::ledger) async fn void(group: &mut Group<'_>, id: i64, why: &str) -> Sql<()> {
    if store::turn(group.db, id, &["reserved"], "void").await? {
        metrics::counter!("chancery_voided_total").increment(1);
        group.audit(&Body::Void { reservation: id, why }).await?;
        group.closed.push(id);
    }
    Ok(())
}

/// A definite refusal frees the nonce for a payload that outbids this one; anything else keeps it live. What the
/// node says over and over again is written once.
async fn note(group: &mut Group<'_>, id: i64, outcome: &Outcome) -> Sql<()> {
    let (name, text) = match outcome {
        Outcome::Accepted => ("accepted", ""),
        Outcome::Known => ("known", ""),
        // The nonce is used up, by this very payload or by another: the chain will tell. It is not given away.
        Outcome::Refused { class: RefusalClass::NonceTooLow, text } => ("nonce_too_low", text.as_str()),
        Outcome::Refused { text, .. } => ("refused", text.as_str()),
        Outcome::Unknown { text } => ("unknown", text.as_str()),
    };
    let turned = match name {
        "accepted" | "known" => store::revive(group.db, id).await?,
        "refused" => store::turn(group.db, id, &["recorded"], "vacant").await?,
        _ => false,
    };
    if store::note(group.db, id, name).await? || turned {
        group.audit(&Body::Outcome { reservation: id, outcome: name, text }).await?;
    }
    Ok(())
}

/// Once one payload is final, the others at its nonce can never be.
async fn settle(group: &mut Group<'_>, id: i64, last: Final) -> Sql<()> {
    let state = store::state_of(group.db, id).await?;
    if !matches!(state.as_deref(), Some("recorded" | "vacant")) {
        return Ok(());
    }
    let (to, block, succeeded) = match last {
        Final::Mined { block, succeeded } => ("final", Some(block), Some(succeeded)),
        Final::Replaced => ("replaced", None, None),
    };
    if block.is_some() {
        for (rival, state) in store::rivals(group.db, id).await? {
            if state == "reserved" {
                void(group, rival, "another payload at its nonce is final").await?;
            } else if store::turn(group.db, rival, &["recorded", "vacant"], "replaced").await? {
                let body = Body::Final { reservation: rival, block: None, succeeded: None };
                group.audit(&body).await?;
            }
        }
    }
    if store::turn(group.db, id, &["recorded", "vacant"], to).await? {
        group.audit(&Body::Final { reservation: id, block, succeeded }).await?;
    }
    Ok(())
}
