//! A claim to be signed: tried at once, parked while it must wait, refused when it waited enough.

use std::fmt;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U128};
use tokio::time::Instant;

use crate::ledger::audit::{Body, Intent};
use crate::ledger::core::{Bid, Decision, Refused, decide};
use crate::ledger::life::State;
use crate::ledger::pause::stops;
use crate::ledger::store::{self, NewRow, Stored};
use crate::ledger::writer::{Group, Reply, Rules};
use crate::ledger::{LedgerError, Pause, Purpose, ReserveError};
use crate::policy::Replace;
use crate::transaction::Slot;

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
    pub rule: String,
    pub policy: B256,
    pub purpose: Purpose,
    pub replace: Replace,
    /// Puts a nonce in: the unsigned bytes, and the digest that will be signed.
    pub assign: Box<dyn Fn(Option<u64>) -> (Bytes, B256) + Send>,
    pub reply: Reply<Result<Claimed, ReserveError>>,
    /// How long it may wait for another's signature.
    pub patience: Duration,
}

/// What a claim came to.
#[derive(Debug)]
pub(in crate::ledger) enum Claimed {
    Fresh { id: i64, nonce: Option<u64> },
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

type Sql<T> = Result<T, sqlx::Error>;

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
        let pause = stops(pauses, &self.reserve.client, self.reserve.account);
        let stopped = pause.map(|pause| pause.refusal(rules.show_pause_reason));
        let Some(slot) = self.reserve.slot else {
            if let Some(stopped) = stopped {
                group.answer(self.reserve.reply, Err(stopped.into()));
                return Ok(None);
            }
            self.reserve.take(None, None, group).await?;
            return Ok(None);
        };
        let account = (slot.chain, self.reserve.account);
        let Reserve { intent, replace, .. } = *self.reserve;
        let asker = (self.reserve.client.as_str(), self.reserve.purpose == Purpose::Return);
        let rows = store::rows_of(group.db, account, (slot.mined, slot.wanted), Some(asker)).await?;
        let decision = decide(&rows, &Bid { slot, intent, replace }, rules.max_open);
        if let Some(stopped) = stopped
            && !is_out(decision, self.reserve.purpose, group).await?
        {
            group.answer(self.reserve.reply, Err(stopped.into()));
            return Ok(None);
        }
        match decision {
            Decision::Take { nonce, replaces } => {
                self.reserve.take(Some((slot, nonce)), replaces, group).await?;
                return Ok(None);
            }
            Decision::Known { id } => {
                self.reserve.repeat(id, group).await?;
                return Ok(None);
            }
            Decision::Refuse(refused) => {
                let nonce = slot.wanted.unwrap_or(slot.mined);
                group.answer(self.reserve.reply, Err(refused.into_error(nonce, rules.max_open)));
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
                self.last = ReserveError::Gap { nonce: slot.wanted.unwrap_or(slot.mined), expected };
            }
        }
        Ok(Some(self))
    }
}

impl Reserve {
    /// The audit intent stands in the same commit as the nonce, before the token is asked.
    async fn take(self, slot: Option<(Slot, u64)>, replaces: Option<i64>, group: &mut Group<'_>) -> Sql<()> {
        if let Some(replaced) = replaces
            && !store::turn(group.db, replaced, State::Outbid).await?
        {
            return Err(sqlx::Error::RowNotFound);
        }
        let nonce = slot.map(|(_, nonce)| nonce);
        let row = NewRow {
            kind: self.kind,
            client: &self.client,
            request: &self.request,
            account: self.account,
            slot: slot.map(|(slot, nonce)| (slot.chain, nonce, slot.fees)),
            intent: self.intent,
            returned: self.purpose == Purpose::Return,
            at: group.now,
        };
        let id = store::insert(group.db, &row).await?;
        let (unsigned, digest) = (self.assign)(nonce);
        let intent = Intent {
            reservation: id,
            request: &self.request,
            client: &self.client,
            person: self.person.as_deref(),
            kind: self.kind,
            account: self.account,
            chain: slot.map(|(slot, _)| slot.chain),
            nonce,
            max_fee: slot.map(|(slot, _)| U128::from(slot.fees.max_per_gas())),
            max_tip: slot.map(|(slot, _)| U128::from(slot.fees.max_priority())),
            returned: self.purpose == Purpose::Return,
            replaces,
            rule: &self.rule,
            policy: self.policy,
            unsigned,
            digest,
        };
        group.audit(&Body::Intent(Box::new(intent))).await?;
        group.reserved(id, nonce, self.reply);
        Ok(())
    }

    async fn repeat(self, id: i64, group: &mut Group<'_>) -> Sql<()> {
        // Once we were asked to send it, we go on sending it, also after a crash.
        if self.purpose == Purpose::Send {
            store::adopt(group.db, id).await?;
        }
        let known = store::stored(group.db, id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let body = Body::Repeat { reservation: id, request: &self.request, client: &self.client };
        group.audit(&body).await?;
        group.answer(self.reply, Ok(Claimed::Known(known)));
        Ok(())
    }
}

/// Whether it asks for what has left already: answering it once more changes nothing.
async fn is_out(decision: Decision, purpose: Purpose, group: &mut Group<'_>) -> Sql<bool> {
    let Decision::Known { id } = decision else { return Ok(false) };
    let is_live =
        matches!(store::state_of(group.db, id).await?, Some(State::Recorded | State::Outbid | State::Final));
    let known = store::stored(group.db, id).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(is_live && !(known.returned && purpose == Purpose::Send))
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
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserve({} {} {:?})", self.kind, self.account, self.slot)
    }
}
