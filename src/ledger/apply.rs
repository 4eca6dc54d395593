//! What each command does to the tables and to the audit chain, inside the writer's transaction.

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::ledger::again;
use crate::ledger::agreed;
use crate::ledger::audit::Body;
use crate::ledger::beside;
use crate::ledger::charges;
use crate::ledger::claims::Parked;
use crate::ledger::command::Command;
use crate::ledger::core;
use crate::ledger::db::{Sql, query};
use crate::ledger::key_store;
use crate::ledger::life::{self, State, Word, heard, heir};
use crate::ledger::nonce_store;
use crate::ledger::open;
use crate::ledger::outcome::Sender;
use crate::ledger::pause::stops;
use crate::ledger::pauses;
use crate::ledger::recount::{self, NotCounted};
use crate::ledger::store;
use crate::ledger::writer::{Group, Rules};
use crate::ledger::{Final, LedgerError, Outcome, RecordError, Voided};
use crate::policy::Policy;
use crate::transaction::{Kind as _, Presigned};

/// How many claims may wait.
const MAX_PARKED: usize = 4096;

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
        Command::Earlier(repeat) => repeat.answer(group, rules).await?,
        Command::Presented(inquest) => inquest.answer(group, rules).await?,
        Command::Handed(handed) => handed.answer(group).await?,
        Command::TakeUp(taking) => taking.answer(group).await?,
        Command::PutBack { id, left } => again::put_back(group, id, left).await?,
        Command::Created(created) => created.answer(group).await?,
        Command::Record { id, kind, has_nonce, raw, hash, reply } => {
            let recorded = store::record(group.db, (id, has_nonce), (&raw, hash), group.stamp_time).await?;
            if recorded {
                charges::turned(group, id, (State::Recorded, has_nonce)).await?;
                group
                    .audit(&Body::Signature { reservation: id, writer: signer(group, kind), hash, raw: &raw })
                    .await?;
                group.closed.push(id);
            }
            let done = if recorded { Ok(()) } else { Err(late(group, id, rules).await?) };
            group.answer(reply, done);
        }
        Command::Void { id, why, reply } => {
            let state = store::state_of(group.db, id).await?;
            let voided = if state.is_some_and(State::is_signed) { Voided::Recorded } else { Voided::Void };
            void(group, id, &why).await?;
            group.answer(reply, Ok(voided));
        }
        Command::Outcome { id, outcome, sender, left, reply } => {
            let is_sure = note(group, id, (&outcome, sender), left).await?;
            group.answer(reply, Ok(is_sure));
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
        Command::Policy { hash, text, policy, reply } => {
            let taken = take_policy(group, &policy, (hash, &text)).await?;
            if taken.is_ok() {
                rules.policy = Some(hash);
            }
            group.answer(reply, taken);
        }
        Command::Pause { order, by, reply } => {
            let done = pauses::begin(group, &order, &by).await?;
            group.answer(reply, Ok(done));
        }
        Command::Resume { order, by, reply } => {
            let done = pauses::end(group, &order, &by).await?;
            group.answer(reply, Ok(done));
        }
        Command::Pauses { reply } => {
            let pauses = pauses::all(group.db).await?;
            pauses::show(&pauses);
            group.answer(reply, Ok(pauses));
        }
        Command::Newest { reply } => {
            let newest = open::newest(group.db).await?;
            group.answer(reply, Ok(newest));
        }
        Command::Unsettled { kind, chain, after, upto, reply } => {
            let unsettled = open::unsettled(group.db, (kind, chain), (after, upto)).await?;
            group.answer(reply, Ok(unsettled));
        }
        Command::Next { chain, account, mined, reply } => {
            let read = group.known.accounts.read(group.db, (chain, account), (mined, None)).await?;
            let next = core::next(&read.seen_by(("", false), (mined, None)), mined);
            group.answer(reply, Ok(next));
        }
        Command::Nonces(inquiry) => inquiry.answer(group).await?,
        Command::Archive(step) => step.take(group).await?,
        Command::Ready { reply } => {
            store::probe(group.db, group.now).await?;
            group.answer(reply, Ok(()));
        }
        Command::Close { .. } => {}
    }
    Ok(())
}

/// Puts a policy in force, or says why not; what cannot be counted refuses it, and nothing else of the group.
async fn take_policy(
    group: &mut Group<'_>,
    policy: &Policy,
    (hash, text): (B256, &str),
) -> Sql<Result<(), LedgerError>> {
    if let Some(serial) = policy.serial()
        && store::has_later_policy(group.db, hash, serial).await?
    {
        return Ok(Err(LedgerError::OldPolicy { serial }));
    }
    query("SAVEPOINT policy").execute(&mut *group.db).await?;
    store::archive_policy(group.db, (hash, text, policy.serial()), group.now).await?;
    let is_counted_anew = match recount::activate(group, policy).await {
        Ok(anew) => anew,
        Err(NotCounted::Sql(error)) => return Err(error),
        Err(NotCounted::Payload { payload, why }) => {
            query("ROLLBACK TO SAVEPOINT policy").execute(&mut *group.db).await?;
            return Ok(Err(LedgerError::Uncountable { payload, why }));
        }
    };
    query("RELEASE SAVEPOINT policy").execute(&mut *group.db).await?;
    if is_counted_anew {
        // It was counted by budgets that are no more, and would be recorded past those that are.
        for id in store::unrecorded(group.db).await? {
            void(group, id, "a budget that would not count it came into force").await?;
        }
    }
    agreed::put_in_force(group.db, hash).await?;
    group.audit(&Body::Policy { policy: hash }).await?;
    Ok(Ok(()))
}

/// Whose token is asked for a signature: nobody's, where it is there already.
pub(in crate::ledger) fn signer<'a>(group: &Group<'a>, kind: &str) -> &'a str {
    if kind == Presigned::NAME { "" } else { group.writer }
}

/// Tries every claim in its order: explicit nonces from the lowest on, then the others as they came.
pub(in crate::ledger) async fn retry(
    group: &mut Group<'_>,
    rules: &Rules,
    waiting: &mut Vec<Parked>,
) -> Sql<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    // Read in this very commit, so that a pause holds from its own commit on, whichever replica made it.
    let (policy, many) = agreed::in_force(group.db).await?;
    let pauses = if many == 0 { Vec::new() } else { pauses::all(group.db).await? };
    pauses::show(&pauses);
    if rules.policy.is_some() && policy != rules.policy {
        for claim in std::mem::take(waiting) {
            claim.refuse(LedgerError::OtherPolicy);
        }
        return Ok(());
    }
    let now = Instant::now();
    waiting.sort_by_key(Parked::turn);
    for claim in std::mem::take(waiting) {
        if claim.is_abandoned() {
            continue;
        }
        match claim.attempt(group, rules, &pauses).await? {
            Some(claim) if claim.is_expired(now) => claim.give_up(group),
            still => waiting.extend(still),
        }
    }
    Ok(())
}

/// Why a signature cannot be recorded any more.
async fn late(group: &mut Group<'_>, id: i64, rules: &Rules) -> Sql<RecordError> {
    let pauses = pauses::all(group.db).await?;
    let asked_by = pauses::asked_by(group.db, id).await?;
    let pause = asked_by.and_then(|(client, account)| stops(&pauses, &client, account));
    Ok(pause.map_or(RecordError::Void, |pause| pause.refusal(rules.show_pause_reason).into()))
}

pub(in crate::ledger) async fn void(group: &mut Group<'_>, id: i64, why: &str) -> Sql<()> {
    if charges::turn(group, id, State::Void).await? {
        metrics::counter!("chancery_voided_total").increment(1);
        group.audit(&Body::Void { reservation: id, why }).await?;
        group.closed.push(id);
        restore(group, id, State::Void).await?;
    }
    Ok(())
}

/// What a payload had outbid is live again where nothing else is at its nonce. The row of its turn says so.
async fn restore(group: &mut Group<'_>, id: i64, turned: State) -> Sql<()> {
    let Some((_, others)) = group.at_nonce_of(id).await? else { return Ok(()) };
    if let Some(heir) = heir(turned, &others) {
        charges::turn(group, heir, State::Recorded).await?;
    }
    Ok(())
}

/// Its client has the bytes, and may hand them to whom it likes: from then on no refusal says that it is nowhere.
pub(in crate::ledger) async fn handed_out(group: &mut Group<'_>, id: i64) -> Sql<()> {
    if matches!(store::word_of(group.db, id).await?, None | Some(Word::Refused | Word::Resent | Word::Again))
    {
        let outcome = Outcome::Unknown { text: "its client has it".to_owned() };
        note(group, id, (&outcome, Sender::Client), None).await?;
    }
    Ok(())
}

/// What the node says over and over again is written once. Tells whether a refusal may be told. It is not sure, and frees nothing,
/// where another process has handed it to a node since it was taken in hand, when the word `left` was the last.
async fn note(
    group: &mut Group<'_>,
    id: i64,
    (outcome, sender): (&Outcome, Sender),
    left: Option<Word>,
) -> Sql<bool> {
    let text = match outcome {
        Outcome::Accepted | Outcome::Known => "",
        Outcome::Refused { text, .. } | Outcome::Unknown { text } => text.as_str(),
    };
    let (mut word, mut is_sure) = (Word::from(outcome), true);
    if word.is_refusal() {
        let before = store::word_of(group.db, id).await?;
        is_sure = before == left || before.is_some_and(Word::is_refusal);
        word = match before {
            Some(taken @ (Word::Accepted | Word::Known)) if !is_sure => taken,
            _ if !is_sure => Word::Unknown,
            // Its client may have sent it elsewhere, or a process that was killed may have, and not said so.
            before if sender == Sender::Client => word.after(before).after(Some(Word::Unknown)),
            None if sender == Sender::Again => word.after(Some(Word::Unknown)),
            before => word.after(before),
        };
    }
    hear(group, id, word, text).await?;
    Ok(is_sure)
}

/// The last word of a payload, and what becomes of it by that.
pub(in crate::ledger) async fn hear(group: &mut Group<'_>, id: i64, word: Word, text: &str) -> Sql<()> {
    let Some((state, others)) = group.at_nonce_of(id).await? else { return Ok(()) };
    let others: Vec<State> = others.into_iter().map(|(_, state)| state).collect();
    let to = heard(state, word, &others).unwrap_or(state);
    let turned = to != state && charges::turn(group, id, to).await?;
    let is_new = store::note(group.db, id, word.name()).await?;
    if is_new {
        group.known.accounts.said(id, word);
    }
    // What it is told, and told no longer once a node takes it after all, or may have.
    if turned || is_new {
        key_store::refused(group.db, id, Some(text).filter(|_| word.is_refusal())).await?;
    }
    if is_new || turned {
        group.audit(&Body::Outcome { reservation: id, outcome: word.name(), text }).await?;
    }
    if turned {
        restore(group, id, to).await?;
    }
    Ok(())
}

async fn settle(group: &mut Group<'_>, id: i64, last: Final) -> Sql<()> {
    let Some((state, others)) = group.at_nonce_of(id).await? else { return Ok(()) };
    if matches!(last, Final::Past { .. }) && beside::is_transaction(group.db, id).await? {
        return Ok(());
    }
    for (settled, to) in life::settle((id, state), last, &others) {
        if to == State::Void {
            void(group, settled, "another payload at its nonce is final").await?;
        } else if charges::turn(group, settled, to).await? {
            let (block, succeeded) = match last {
                Final::Mined { block, succeeded } | Final::Past { block, succeeded }
                    if to == State::Final =>
                {
                    (Some(block), Some(succeeded))
                }
                _ => (None, None),
            };
            group.audit(&Body::Final { reservation: settled, block, succeeded }).await?;
        }
    }
    // The first end at a nonce tells of those below; the last one without a payload of ours in a block, of its own.
    let is_first = !others.iter().any(|(_, other)| other.is_settled());
    let is_anothers = last == Final::Replaced
        && others.iter().all(|(_, other)| matches!(other, State::Void | State::Reserved | State::Replaced));
    if state.may_become(State::Final) && (is_first || is_anothers) {
        external(group, id, is_first, is_anothers).await?;
    }
    Ok(())
}

/// Writes down which nonces somebody else used: those right below a payload, its own, or both.
async fn external(group: &mut Group<'_>, id: i64, below: bool, own: bool) -> Sql<()> {
    if !own && group.known.accounts.is_signed_below(id) {
        return Ok(());
    }
    let Some((chain, account, first, nonce)) = nonce_store::missing_below(group.db, id).await? else {
        return Ok(());
    };
    let first = if below { first } else { nonce };
    let last = if own { Some(nonce) } else { nonce.checked_sub(1) };
    match last {
        Some(last) if first <= last => group.audit(&Body::External { chain, account, first, last }).await,
        _ => Ok(()),
    }
}
