//! What became of a recorded transaction when it was handed to the network.

use crate::ledger::command::Command;
use crate::ledger::{Ledger, LedgerError, Recorded, ReservationId, Standing};
use crate::transaction::Kind;

/// A node's word on a transaction that it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken into the pool.
    Accepted,
    /// Known already, by our own hash.
    Known,
    /// Refused for good; the text is in geth's words.
    Refused { class: RefusalClass, text: String },
    /// No answer, or one that is not understood: it counts as sent, and is sent again.
    Unknown { text: String },
}

/// Who handed a transaction to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Sender {
    /// The task that had it recorded.
    First,
    /// Another one, which looks after what is open or serves a client's repeat: a process that was killed may have handed it to a
    /// node before, and not said so.
    Again,
    /// Its client, through us.
    Client,
}

/// The definite refusals, told by the text, not by the code, which nodes choose freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    InsufficientFunds,
    IntrinsicGas,
    GasLimit,
    FeeCap,
    /// Below the pool's minimum or the block's base fee.
    Underpriced,
    /// Another transaction sits at this nonce in the node's pool.
    ReplacementUnderpriced,
    NonceTooLow,
    ChainId,
    Undecodable,
    /// More bytes than any node of this chain takes.
    TooLarge,
}

/// What the chain itself has decided, in a block that cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    Mined {
        block: u64,
        /// Whether it did what it was to do; a reverted transaction is mined all the same.
        succeeded: bool,
    },
    /// Of an authorization, which has no receipt: its nonce was used up by this block. Where a transaction of ours at that
    /// nonce is open it may be that one, whose receipt will tell; then this changes nothing.
    Past {
        block: u64,
        /// Whether the account has its code.
        succeeded: bool,
    },
    /// Another transaction at its nonce is final.
    Replaced,
}

/// What `void` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voided {
    /// Nothing was recorded, and from now on nothing can be.
    Void,
    /// It was recorded before.
    Recorded,
}

impl Outcome {
    /// A node has it.
    pub const fn is_taken(&self) -> bool {
        matches!(self, Self::Accepted | Self::Known)
    }

    /// What its client is told where this could not be written. What is live is sent again until a node refuses it once more
    /// or the chain has decided: nobody is told that it was refused, for whoever is told pays again.
    #[must_use]
    pub fn unwritten(self, standing: Standing) -> Self {
        if standing.is_live() { self.in_doubt() } else { self }
    }

    /// One node's refusal of what another may have.
    fn in_doubt(self) -> Self {
        match self {
            Self::Refused { text, .. } => Self::Unknown { text },
            other => other,
        }
    }
}

impl RefusalClass {
    /// Whether no node of this chain can ever have taken it, whatever state it is in.
    pub const fn is_of_its_bytes(self) -> bool {
        matches!(self, Self::ChainId | Self::IntrinsicGas | Self::Undecodable | Self::TooLarge)
    }
}

impl Ledger {
    /// Writes what a node said of a recorded transaction. It is durable when this returns, but for a fresh one that a node took:
    /// that is queued, and not waited for. Until it is durable, and after a crash, the row has no word, and whoever meets it holds
    /// that a node may have it and asks once more. A row that says `refused` says that none has.
    ///
    /// Answers what may be told of it: no refusal where somebody else, such as another replica, had it handed to a node meanwhile.
    pub async fn outcome<K: Kind>(
        &self,
        recorded: &Recorded<K>,
        outcome: Outcome,
    ) -> Result<Outcome, LedgerError> {
        let sender = if recorded.standing() == Standing::Fresh { Sender::First } else { Sender::Again };
        if sender == Sender::First && outcome.is_taken() {
            let (id, left, told) = (recorded.id().0, recorded.left(), outcome.clone());
            self.put(|reply| Command::Outcome { id, outcome, sender, left, reply }).await?;
            return Ok(told);
        }
        self.heard(recorded, outcome, sender).await
    }

    /// The same of what its client has the bytes of, and may have handed to whom it likes.
    pub async fn outcome_of_client<K: Kind>(
        &self,
        recorded: &Recorded<K>,
        outcome: Outcome,
    ) -> Result<Outcome, LedgerError> {
        self.heard(recorded, outcome, Sender::Client).await
    }

    async fn heard<K: Kind>(
        &self,
        recorded: &Recorded<K>,
        outcome: Outcome,
        sender: Sender,
    ) -> Result<Outcome, LedgerError> {
        let (id, left, told) = (recorded.id().0, recorded.left(), outcome.clone());
        let is_sure = self.ask(|reply| Command::Outcome { id, outcome, sender, left, reply }).await??;
        Ok(if is_sure { told } else { told.in_doubt() })
    }

    /// Writes what the chain has decided for good.
    pub async fn settled(&self, id: ReservationId, last: Final) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Settled { id: id.0, last, reply }).await?
    }
}
