//! A claim to be signed: tried at once, parked while it must wait, refused when it waited enough.

use std::fmt;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use tokio::time::Instant;

use crate::ledger::audit::{Body, Intent};
use crate::ledger::core::{Decision, Refused, decide};
use crate::ledger::store::{self, NewRow, Stored};
use crate::ledger::writer::{Group, Reply, Rules};
use crate::ledger::{LedgerError, Purpose, ReserveError};
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

/// A claim that waits.
#[derive(Debug)]
pub(in crate::ledger) struct Parked {
    reserve: Reserve,
    since: Instant,
    last: ReserveError,
}

/// Settled, or to be tried again.
#[derive(Debug)]
pub(in crate::ledger) enum Attempt {
    Done,
    Park(Box<Parked>),
}

type Sql<T> = Result<T, sqlx::Error>;

impl Reserve {
    pub(in crate::ledger) async fn attempt(self, group: &mut Group<'_>, rules: &Rules) -> Sql<Attempt> {
        self.since(Instant::now(), group, rules).await
    }

    async fn since(self, since: Instant, group: &mut Group<'_>, rules: &Rules) -> Sql<Attempt> {
        if rules.policy != Some(self.policy) {
            group.answer(self.reply, Err(ReserveError::PolicyChanged));
            return Ok(Attempt::Done);
        }
        let Some(slot) = self.slot else {
            self.take(None, group).await?;
            return Ok(Attempt::Done);
        };
        let rows = store::rows_of(group.db, (slot.chain, self.account), (slot.mined, slot.wanted)).await?;
        let nonce = slot.wanted.unwrap_or(slot.mined);
        let last = match decide(&rows, &slot, self.intent, rules.max_open) {
            Decision::Take { nonce } => {
                self.take(Some((slot, nonce)), group).await?;
                return Ok(Attempt::Done);
            }
            Decision::Known { id } => {
                let known = store::stored(group.db, id).await?.ok_or(sqlx::Error::RowNotFound)?;
                group.answer(self.reply, Ok(Claimed::Known(known)));
                return Ok(Attempt::Done);
            }
            Decision::Refuse(refused) => {
                group.answer(self.reply, Err(refused.into_error(nonce, rules.max_open)));
                return Ok(Attempt::Done);
            }
            Decision::WaitForSignature => ReserveError::StillSigning,
            Decision::WaitForGap { expected } => ReserveError::Gap { nonce, expected },
        };
        Ok(Attempt::Park(Box::new(Parked { reserve: self, since, last })))
    }

    /// The audit intent stands in the same commit as the nonce, before the token is asked.
    async fn take(self, slot: Option<(Slot, u64)>, group: &mut Group<'_>) -> Sql<()> {
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
        group.made.push(id);
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
            rule: &self.rule,
            policy: self.policy,
            unsigned,
            digest,
        };
        group.audit(&Body::Intent(Box::new(intent))).await?;
        group.answer(self.reply, Ok(Claimed::Fresh { id, nonce }));
        Ok(())
    }
}

impl Parked {
    pub(in crate::ledger) const fn account(&self) -> Address {
        self.reserve.account
    }

    /// Whether any nonce will do, so that it need not be tried before those that came earlier.
    pub(in crate::ledger) fn is_automatic(&self) -> bool {
        self.reserve.slot.is_some_and(|slot| slot.wanted.is_none())
    }

    /// Whether nobody waits for it any more.
    pub(in crate::ledger) fn abandoned(&self) -> bool {
        self.reserve.reply.is_closed()
    }

    pub(in crate::ledger) fn expired(&self, now: Instant) -> bool {
        let patience = match self.last {
            ReserveError::Gap { .. } => GAP,
            _ => self.reserve.patience,
        };
        now.saturating_duration_since(self.since) >= patience
    }

    pub(in crate::ledger) fn give_up(self, group: &mut Group<'_>) {
        group.answer(self.reserve.reply, Err(self.last));
    }

    pub(in crate::ledger) async fn again(self, group: &mut Group<'_>, rules: &Rules) -> Sql<Attempt> {
        self.reserve.since(self.since, group, rules).await
    }

    /// Refuses at once, where the ledger is in trouble.
    pub(in crate::ledger) fn refuse(self, error: LedgerError) {
        drop(self.reserve.reply.send(Err(error.into())));
    }
}

impl Refused {
    fn into_error(self, nonce: u64, max: u32) -> ReserveError {
        match self {
            Self::Outbid { floor } => ReserveError::Outbid { floor },
            Self::Underpriced => ReserveError::Underpriced,
            Self::NonceTaken => ReserveError::NonceTaken { nonce },
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
