//! Why the ledger says no, or cannot say anything.

use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::B256;

use crate::ledger::db::{Location, SqlError};
use crate::ledger::{NotReplaced, Paused};
use crate::transaction::Fees;

/// The ledger itself is in trouble: nothing is signed until it is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger cannot be written: {0}")]
    Unavailable(String),
    #[error("the ledger's queue is full")]
    Busy,
    #[error("{0}: another process has this ledger open; one writer at a time")]
    Locked(PathBuf),
    #[error("{at}: {why}")]
    Open { at: Location, why: String },
    #[error("the ledger's audit chain does not hold: {0}")]
    Broken(String),
    #[error(
        "another policy is in force in this ledger: a replica that was started later brought it; this one signs nothing \
         until it is started with the same policy"
    )]
    OtherPolicy,
    #[error(
        "a policy with serial {serial}, or a later one, was in force in this ledger: what officers signed before is not taken again; \
         sign this one with a higher serial"
    )]
    OldPolicy { serial: u64 },
    #[error(
        "the budgets of this policy cannot count payload {payload}, which was signed before: {why}; the policy before stays in force. \
         Declare in `spends` of [contracts] what it moves, or change the budget that asks (`chancery audit show` has the payload)"
    )]
    Uncountable { payload: i64, why: String },
}

/// Why a permitted payload gets no reservation.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReserveError {
    /// The nonce is vacant, and what was recorded there must be outbid: fill and judge again with this floor.
    #[error("the nonce's earlier payload must be outbid")]
    Outbid { floor: Fees },
    /// As [`ReserveError::Outbid`], where the client set the fees itself.
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("another transaction of this account is signed, or being signed, at nonce {nonce}{}", kept(*.why))]
    NonceTaken { nonce: u64, why: NotReplaced },
    #[error("nonce too low: next nonce {mined}, tx nonce {nonce}")]
    NonceTooLow { nonce: u64, mined: u64 },
    #[error("nonce {nonce} leaves a gap: the transaction at nonce {expected} did not come")]
    Gap { nonce: u64, expected: u64 },
    #[error("nonce {nonce} is higher than any nonce can be")]
    NonceTooHigh { nonce: u64 },
    #[error("this account has {max} unfinished transactions, as many as [ledger] max_open allows")]
    TooManyOpen { max: u32 },
    #[error(
        "no node took {max} transactions of this client at this account's next nonce, as many as [ledger] max_open \
         allows: ask again for one of them, or in ten minutes, or have the nonce used up with `chancery tx cancel`"
    )]
    TooManyRefused { max: u32 },
    #[error(
        "the node says that {mined} transactions of this account are mined, and the ledger knows of {known}; nothing \
         is signed until an operator looks: `chancery tx accept`"
    )]
    MinedJump { mined: u64, known: u64 },
    #[error("another transaction of this account is still being signed")]
    StillSigning,
    #[error("the policy was replaced while this was judged")]
    PolicyChanged,
    /// It was permitted for one nonce, or in the place of one payload, and another has that now: to be judged again.
    #[error("another payload of this account came before it while it was judged")]
    Moved,
    #[error("this Idempotency-Key was used for another request; give each request a key of its own")]
    KeyReused,
    /// The same request again, whose payload can never be mined any more.
    #[error("{}", refusal.as_deref().unwrap_or("another transaction is mined at the nonce of this request's first try"))]
    Spent { refusal: Option<String> },
    #[error(transparent)]
    OverBudget(Box<OverBudget>),
    #[error(transparent)]
    Paused(#[from] Paused),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A budget that has not enough left. Amounts are as a person reads them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this takes {wanted} from budget `{budget}`, which has {left} left of {max} in {} s; nothing was signed", window.as_secs())]
pub struct OverBudget {
    pub budget: String,
    pub wanted: String,
    pub left: String,
    pub max: String,
    pub window: Duration,
    /// When there is room again if nothing else is spent; `None` if not by itself.
    pub room_in: Option<Duration>,
}

/// What would have to be so for the payload to be replaced.
const fn kept(why: NotReplaced) -> &'static str {
    match why {
        NotReplaced::Settled => ", and is final",
        NotReplaced::NotAllowed => "; to replace it, a rule that allows this one must say replace = \"own\"",
        NotReplaced::Anothers => {
            "; it is another client's, or was returned and not sent, and only one's own can be replaced"
        }
        NotReplaced::MayBeMined => {
            ", which a node refused and which may be mined all the same; `chancery tx cancel` uses it up"
        }
        NotReplaced::OtherPool => {
            "; nodes keep transactions with blobs in a pool of their own: one with blobs takes the place of one with blobs only"
        }
    }
}

/// Why a signature may not leave.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// It came too late; its nonce may be another's by now.
    #[error("the reservation was voided before its signature came")]
    Void,
    /// An operator paused it while it was being signed; the signature is thrown away.
    #[error(transparent)]
    Paused(#[from] Paused),
    /// Neither the record nor its void was heard of: the ledger settles it by itself, and one of the two holds.
    #[error(
        "{hash} may have been recorded, and will be sent if it was: look for it before you ask again ({why})"
    )]
    Unknown { hash: B256, why: LedgerError },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::ledger) fn unavailable(error: SqlError) -> LedgerError {
    LedgerError::Unavailable(error.to_string())
}
