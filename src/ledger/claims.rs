//! A claim to be signed: tried at once, parked while it must wait, refused when it waited enough.

use std::fmt;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U128};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ledger::again;
use crate::ledger::apply::{self, signer};
use crate::ledger::audit::{Body, Charged, Intent};
use crate::ledger::beside;
use crate::ledger::charges::{self, Place};
use crate::ledger::command::{Command, Reply};
use crate::ledger::core::{self, Bid, Decision, Refused, Row, decide};
use crate::ledger::creations;
use crate::ledger::db::{Sql, SqlError};
use crate::ledger::handover::Handover;
use crate::ledger::hands::{Hands, Revived};
use crate::ledger::keys::{Name, Verdict};
use crate::ledger::life::State;
use crate::ledger::pause::stops;
use crate::ledger::repeats::{remember, verdict};
use crate::ledger::store::{self, Held, NewRow, Stored};
use crate::ledger::writer::{Group, Rules};
use crate::ledger::{LedgerError, Pause, Purpose, ReserveError};
use crate::policy::Charge;
use crate::policy::Replace;
use crate::transaction::{Fees, Kind as _, Presigned, Slot, Tx};

/// How long an explicit nonce waits for those below it: tools fire a burst in any order.
const GAP: Duration = Duration::from_secs(2);

/// What the writer needs to know of a `Permitted`, whatever its kind.
pub(in crate::ledger) struct Reserve {
    pub kind: &'static str,
    pub client: String,
    pub person: Option<String>,
    pub request: String,
    pub account: Address,
    pub slot: Option<Slot>,
    pub intent: B256,
    /// The name by which a repeat is known.
    pub name: Option<Name>,
    pub rule: String,
    pub policy: B256,
    pub charges: Vec<Charge>,
    pub purpose: Purpose,
    pub replace: Replace,
    /// The only nonce that it may get.
    pub only_at: Option<u64>,
    /// Whether it creates a contract.
    pub creates: bool,
    /// Puts a nonce in: the unsigned bytes, and the digest that will be signed.
    pub assign: Box<dyn Fn(Option<u64>) -> (Bytes, B256) + Send>,
    pub reply: Reply<Result<Claimed, ReserveError>>,
    pub hands: Hands,
    /// The way back of what nobody takes.
    pub commands: mpsc::WeakSender<Command>,
    /// How long it may wait for another's signature.
    pub patience: Duration,
}

/// The nonce that a payload gets.
#[derive(Clone, Copy, Debug)]
struct Taken {
    slot: Slot,
    nonce: u64,
    /// The recorded payload that it outbids there.
    replaces: Option<i64>,
}

/// What a claim came to.
#[derive(Debug)]
pub(in crate::ledger) enum Claimed {
    Fresh { reservation: Handover, nonce: Option<u64> },
    Known(Stored),
}

/// A claim that waits for its turn, for a signature, or for a lower nonce.
#[derive(Debug)]
pub(in crate::ledger) struct Parked {
    reserve: Box<Reserve>,
    since: Instant,
    /// The missing nonce below, and since when it is that one: while a burst makes progress, nothing is missing.
    gap: Option<(u64, Instant)>,
    /// What it is told when it waited enough.
    last: ReserveError,
}

impl Parked {
    pub(in crate::ledger) fn new(reserve: Box<Reserve>) -> Self {
        Self { reserve, since: Instant::now(), gap: None, last: ReserveError::StillSigning }
    }

    /// Explicit nonces from the lowest on, then those that take any nonce, in the order in which they came.
    pub(in crate::ledger) fn turn(&self) -> (bool, u64) {
        let wanted = self.reserve.slot.and_then(|slot| slot.wanted);
        (wanted.is_none(), wanted.unwrap_or(0))
    }

    /// Whether nobody waits for it any more.
    pub(in crate::ledger) fn is_abandoned(&self) -> bool {
        self.reserve.reply.is_closed()
    }

    pub(in crate::ledger) fn is_expired(&self, now: Instant) -> bool {
        let gone = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        gone(self.since, self.reserve.patience) || self.gap.is_some_and(|(_, since)| gone(since, GAP))
    }

    pub(in crate::ledger) fn give_up(self, group: &mut Group<'_>) {
        group.answer(self.reserve.reply, Err(self.last));
    }

    /// Refuses at once, where the ledger is in trouble.
    pub(in crate::ledger) fn refuse(self, error: LedgerError) {
        drop(self.reserve.reply.send(Err(error.into())));
    }

    /// Tries it; what comes back still waits.
    pub(in crate::ledger) async fn attempt(
        mut self,
        group: &mut Group<'_>,
        rules: &Rules,
        pauses: &[Pause],
    ) -> Sql<Option<Self>> {
        if rules.policy != Some(self.reserve.policy) {
            group.answer(self.reserve.reply, Err(ReserveError::PolicyChanged));
            return Ok(None);
        }
        let asked = (self.reserve.client.as_str(), self.reserve.intent);
        let (verdict, before) = verdict(group, rules, asked, self.reserve.name.as_ref()).await?;
        let slot = self.reserve.slot;
        // Nothing to decide where no nonce is needed.
        let decision = match (verdict, slot) {
            (Verdict::OtherIntent, _) => {
                group.answer(self.reserve.reply, Err(ReserveError::KeyReused));
                return Ok(None);
            }
            (Verdict::Spent { refusal, .. }, _) => {
                group.answer(self.reserve.reply, Err(ReserveError::Spent { refusal }));
                return Ok(None);
            }
            (Verdict::Out { id } | Verdict::Refused { id }, _) => Some(Decision::Known { id }),
            (Verdict::Signing, _) => Some(Decision::WaitForSignature),
            (Verdict::Free, None) => None,
            (Verdict::Free, Some(slot)) => {
                let account = (slot.chain, self.reserve.account);
                let Reserve { intent, replace, .. } = *self.reserve;
                let read = group.known.accounts.read(group.db, account, (slot.mined, slot.wanted)).await?;
                let accepted = read.accepted;
                let own = (self.reserve.client.as_str(), self.reserve.purpose == Purpose::Return);
                let rows = read.seen_by(own, (slot.mined, slot.wanted));
                let is_sent = self.reserve.purpose == Purpose::Send;
                let bid = Bid { slot, intent, replace, is_sent, accepted, now: group.now };
                let decision = decide(&rows, &bid, rules.max_open);
                let decision = match decision {
                    Decision::Take { nonce, .. } if core::may_be_there(&rows, (nonce, &slot.fees)) => {
                        let (_, digest) = (self.reserve.assign)(Some(nonce));
                        let is_signed =
                            beside::is_signed_at(group.db, account, (nonce, &slot.fees), digest).await?;
                        if is_signed { core::outbid(&slot) } else { decision }
                    }
                    decision => decision,
                };
                notice(&decision, &rows, &slot, self.reserve.account);
                Some(decision)
            }
        };
        if let Some(pause) = stops(pauses, &self.reserve.client, self.reserve.account)
            && !is_out(decision, self.reserve.purpose, group).await?
        {
            let refusal = pause.refusal(rules.show_pause_reason);
            group.answer(self.reserve.reply, Err(refusal.into()));
            return Ok(None);
        }
        let nonce_of = |slot: Option<Slot>| slot.map_or(0, |slot| slot.wanted.unwrap_or(slot.mined));
        let Some(decision) = decision else {
            self.reserve.take(None, before, rules, group).await?;
            return Ok(None);
        };
        match decision {
            Decision::Take { nonce, .. } if self.reserve.only_at.is_some_and(|only| only != nonce) => {
                group.answer(self.reserve.reply, Err(ReserveError::Moved));
                return Ok(None);
            }
            Decision::Take { replaces, .. }
                if !may_replace(self.reserve.replace, replaces, group).await? =>
            {
                group.answer(self.reserve.reply, Err(ReserveError::Moved));
                return Ok(None);
            }
            Decision::Take { nonce, replaces } => {
                let taken = slot.map(|slot| Taken { slot, nonce, replaces });
                self.reserve.take(taken, before, rules, group).await?;
                return Ok(None);
            }
            Decision::Known { id } => {
                self.reserve.repeat(id, before, rules, group).await?;
                return Ok(None);
            }
            Decision::Refuse(refused) => {
                let refused = refused.into_error(nonce_of(slot), rules.max_open);
                group.answer(self.reserve.reply, Err(refused));
                return Ok(None);
            }
            Decision::WaitForSignature => {
                self.gap = None;
                self.last = ReserveError::StillSigning;
            }
            Decision::WaitForGap { expected } => {
                if self.gap.is_none_or(|(missing, _)| missing != expected) {
                    self.gap = Some((expected, Instant::now()));
                }
                self.last = ReserveError::Gap { nonce: nonce_of(slot), expected };
            }
        }
        Ok(Some(self))
    }
}

impl Reserve {
    /// The audit intent stands in the same commit as the nonce, before the token is asked.
    async fn take(
        mut self,
        taken: Option<Taken>,
        before: Option<i64>,
        rules: &Rules,
        group: &mut Group<'_>,
    ) -> Sql<()> {
        let place = taken.map_or(Place::Alone(0), |Taken { slot, nonce, .. }| Place::Nonce {
            chain: slot.chain,
            account: self.account,
            nonce,
        });
        let replaces = taken.and_then(|taken| taken.replaces);
        if let (Some(replaced), Replace::Only(_) | Replace::Any) = (replaces, self.replace) {
            // It goes on the counts of what it takes the place of, whoever ordered it.
            let charges = std::mem::take(&mut self.charges);
            self.charges = charges::on_counts_of(group.db, replaced, charges).await?;
        }
        if let Err(over) = charges::admit(group, &self.charges, place).await? {
            group.answer(self.reply, Err(over));
            return Ok(());
        }
        if let Some(replaced) = replaces
            && !charges::turn(group, replaced, State::Outbid).await?
        {
            return Err(SqlError::NoRow);
        }
        let nonce = taken.map(|taken| taken.nonce);
        let row = NewRow {
            kind: self.kind,
            client: &self.client,
            request: &self.request,
            account: self.account,
            slot: taken.map(|Taken { slot, nonce, .. }| (slot.chain, nonce, slot.fees)),
            intent: self.intent,
            returned: self.purpose == Purpose::Return,
            at: group.now,
            void_at: rules.void_at(group.now),
            rule: &self.rule,
            charged_at: group.stamp_time,
        };
        let id = store::insert(group.db, &row).await?;
        if let Some(Taken { slot, nonce, .. }) = taken {
            // As it will be read.
            let fees = slot.fees;
            let fees = Fees::of(fees.max_per_gas(), fees.max_priority(), fees.max_per_blob_gas());
            let (state, intent) = (State::Reserved, self.intent);
            let is_authorization = slot.stands.is_authorization();
            let (word, is_own) = (None, false);
            let at = group.now;
            let row = Row { id, nonce, at, state, intent, fees, word, is_own, is_authorization };
            let held = Held { row, client: self.client.clone(), returned: self.purpose == Purpose::Return };
            group.known.accounts.add((slot.chain, self.account), held);
        }
        if let (true, Some(nonce)) = (self.creates, nonce) {
            creations::insert(group.db, id, (self.account, nonce)).await?;
        }
        charges::charge(group, (id, place), &self.charges).await?;
        if let Some(name) = &self.name {
            remember(group, rules, (&self.client, name), (id, self.intent), before).await?;
        }
        let (unsigned, digest) = (self.assign)(nonce);
        let intent = Intent {
            reservation: id,
            writer: signer(group, self.kind),
            request: &self.request,
            client: &self.client,
            person: self.person.as_deref(),
            kind: self.kind,
            account: self.account,
            chain: taken.map(|taken| taken.slot.chain),
            nonce,
            max_fee: taken.map(|taken| U128::from(taken.slot.fees.max_per_gas())),
            max_tip: taken.map(|taken| U128::from(taken.slot.fees.max_priority())),
            max_blob_fee: taken.and_then(|taken| taken.slot.fees.max_per_blob_gas()).map(U128::from),
            returned: self.purpose == Purpose::Return,
            replaces,
            rule: &self.rule,
            policy: self.policy,
            key: self.name.as_ref().and_then(Name::key),
            charges: self.charges.iter().map(Charged::from).collect(),
            unsigned,
            digest,
        };
        group.audit(&Body::Intent(Box::new(intent))).await?;
        group.reserved(Handover::new(id, self.commands), (id, nonce), self.reply);
        Ok(())
    }

    async fn repeat(self, id: i64, before: Option<i64>, rules: &Rules, group: &mut Group<'_>) -> Sql<()> {
        // Known by its nonce; from now on by its name as well.
        if let Some(name) = &self.name
            && before != Some(id)
        {
            remember(group, rules, (&self.client, name), (id, self.intent), before).await?;
        }
        let mut known = store::stored(group.db, id).await?.ok_or(SqlError::NoRow)?;
        match (self.kind, self.purpose) {
            (Presigned::NAME, _) => again::handed_in(group, &mut known, &self.hands).await?,
            (Tx::NAME, Purpose::Return) => apply::handed_out(group, id).await?,
            (Tx::NAME, Purpose::Send) => again::asked_again(group, &mut known, &self.hands).await?,
            _ => {}
        }
        known.revived = Revived::of(&known, self.commands);
        // Once we were asked to send it, we go on sending it, also after a crash.
        if self.purpose == Purpose::Send {
            store::adopt(group.db, id).await?;
            group.known.accounts.adopted(id);
            known.returned = false;
        }
        let body = Body::Repeat { reservation: id, request: &self.request, client: &self.client };
        group.audit(&body).await?;
        group.answer(self.reply, Ok(Claimed::Known(known)));
        Ok(())
    }
}

/// Whether the payload in whose place another would be signed is the one that this was permitted for.
async fn may_replace(replace: Replace, other: Option<i64>, group: &mut Group<'_>) -> Sql<bool> {
    let Replace::Only(hash) = replace else { return Ok(true) };
    let Some(other) = other else { return Ok(false) };
    let stored = store::stored(group.db, other).await?;
    Ok(stored.is_some_and(|stored| stored.hash == hash))
}

/// Whether it asks for what has left already: answering it once more changes nothing.
async fn is_out(decision: Option<Decision>, purpose: Purpose, group: &mut Group<'_>) -> Sql<bool> {
    let Some(Decision::Known { id }) = decision else { return Ok(false) };
    let state = store::state_of(group.db, id).await?;
    let is_sent = state.is_some_and(|state| state.is_signed() && state != State::Vacant);
    let known = store::stored(group.db, id).await?.ok_or(SqlError::NoRow)?;
    Ok(is_sent && !(known.returned && purpose == Purpose::Send))
}

/// Somebody else sends for this account. It is written down when it is final: until then it is one node's word.
fn notice(decision: &Decision, rows: &[Row], slot: &Slot, account: Address) {
    let others = core::known_count(rows).map_or(0, |known| slot.mined.saturating_sub(known));
    match decision {
        Decision::Take { .. } if others > 0 => {
            tracing::warn!(%account, mined = slot.mined, "external sender noticed: {others} nonces of this account were used by somebody else");
            metrics::counter!("chancery_external_nonces_total").increment(others);
        }
        Decision::Refuse(Refused::MinedJump { mined, known }) => {
            tracing::error!(%account, mined, known, "the node's mined count jumps; nothing is signed for this account");
            metrics::counter!("chancery_mined_jumps_total").increment(1);
        }
        _ => {}
    }
}

impl Refused {
    fn into_error(self, nonce: u64, max: u32) -> ReserveError {
        match self {
            Self::Outbid { floor } => ReserveError::Outbid { floor },
            Self::Underpriced => ReserveError::Underpriced,
            Self::NonceTaken { why } => ReserveError::NonceTaken { nonce, why },
            Self::NonceTooLow { mined } => ReserveError::NonceTooLow { nonce, mined },
            Self::NonceTooHigh => ReserveError::NonceTooHigh { nonce },
            Self::TooManyOpen => ReserveError::TooManyOpen { max },
            Self::NoNodeTakesIt => ReserveError::TooManyRefused { max },
            Self::MinedJump { mined, known } => ReserveError::MinedJump { mined, known },
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserve({} {} {:?})", self.kind, self.account, self.slot)
    }
}
