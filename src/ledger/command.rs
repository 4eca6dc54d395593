//! What the writer can be asked for.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use tokio::sync::oneshot;

use crate::ledger::archive;
use crate::ledger::authorizations::HandedIn;
use crate::ledger::claims::Reserve;
use crate::ledger::creations::Created;
use crate::ledger::hands::Taking;
use crate::ledger::life::Word;
use crate::ledger::open::Inquiry;
use crate::ledger::outcome::Sender;
use crate::ledger::presented::Inquest;
use crate::ledger::repeats::Repeat;
use crate::ledger::store::Stored;
use crate::ledger::{
    Administration, Final, LedgerError, Note, Outcome, Pause, PauseOrder, RecordError, RefusedRow, Voided,
};
use crate::policy::Policy;

pub(in crate::ledger) type Reply<T> = oneshot::Sender<T>;

/// A question to the writer; each has its answer after the commit.
#[derive(Debug)]
pub(in crate::ledger) enum Command {
    Reserve(Box<Reserve>),
    /// Whether this was asked before, under the same name.
    Earlier(Box<Repeat>),
    /// Whether this very transaction is in the ledger.
    Presented(Box<Inquest>),
    /// Which of these authorizations are.
    Handed(HandedIn),
    /// What is to be handed to a node once more.
    TakeUp(Taking),
    /// What was live again for somebody who is gone; its last word then.
    PutBack {
        id: i64,
        left: Word,
    },
    /// Which of these contracts an account created.
    Created(Created),
    Record {
        id: i64,
        kind: &'static str,
        has_nonce: bool,
        raw: Bytes,
        hash: B256,
        reply: Reply<Result<(), RecordError>>,
    },
    Void {
        id: i64,
        why: String,
        reply: Reply<Result<Voided, LedgerError>>,
    },
    Outcome {
        id: i64,
        outcome: Outcome,
        sender: Sender,
        /// The last word when it was taken in hand.
        left: Option<Word>,
        /// Whether a refusal may be told.
        reply: Reply<Result<bool, LedgerError>>,
    },
    Settled {
        id: i64,
        last: Final,
        reply: Reply<Result<(), LedgerError>>,
    },
    Refused {
        row: Box<RefusedRow>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Note {
        note: Box<Note>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Policy {
        hash: B256,
        text: String,
        policy: Arc<Policy>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Pause {
        order: PauseOrder,
        by: Administration,
        reply: Reply<Result<bool, LedgerError>>,
    },
    Resume {
        order: PauseOrder,
        by: Administration,
        reply: Reply<Result<bool, LedgerError>>,
    },
    Pauses {
        reply: Reply<Result<Vec<Pause>, LedgerError>>,
    },
    Unsettled {
        kind: &'static str,
        chain: u64,
        /// The rows after this one, up to that one.
        after: i64,
        upto: i64,
        reply: Reply<Result<Vec<Stored>, LedgerError>>,
    },
    /// The last reservation.
    Newest {
        reply: Reply<Result<i64, LedgerError>>,
    },
    Next {
        chain: u64,
        account: Address,
        mined: u64,
        reply: Reply<Result<u64, LedgerError>>,
    },
    Nonces(Inquiry),
    /// Rows that are in a file by now.
    Archive(archive::Step),
    /// Writes nothing but proves that it could: takes the write lock and commits.
    Ready {
        reply: Reply<Result<(), LedgerError>>,
    },
    Close {
        reply: Reply<()>,
    },
}

impl Command {
    /// Nobody waits for its answer: [`Ledger::outcome`](crate::ledger::Ledger::outcome).
    pub fn may_linger(&self) -> bool {
        matches!(self, Self::Outcome { outcome, sender: Sender::First, .. } if outcome.is_taken())
    }
}
