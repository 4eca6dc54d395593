//! From each stage's error to its row of the table.

use crate::identity::NotAvailable;
use crate::ledger::{LedgerError, OverBudget, RecordError, ReserveError};
use crate::methods::{Cause, Refusal, TooLate};
use crate::policy::{DenialCause, Denied};
use crate::signer::SignError;
use crate::transaction::{
    ConditionsError, FillError, MessageError, PresignedError, RequestError, TypedDataError,
};
use crate::upstream::UpstreamError;

impl From<TooLate> for Refusal {
    fn from(_: TooLate) -> Self {
        let why =
            "the calls before this one in the batch took too long; nothing of it was done, send it again";
        Self::new(Cause::Busy, why)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(Cause::InvalidParams, error.to_string())
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::new(Cause::InvalidParams, error.to_string())
    }
}

impl From<TypedDataError> for Refusal {
    fn from(error: TypedDataError) -> Self {
        Self::new(Cause::InvalidParams, error.to_string())
    }
}

impl From<PresignedError> for Refusal {
    fn from(error: PresignedError) -> Self {
        Self::new(Cause::InvalidParams, error.to_string())
    }
}

impl From<ConditionsError> for Refusal {
    fn from(error: ConditionsError) -> Self {
        Self::new(Cause::InvalidParams, error.to_string())
    }
}

impl From<FillError> for Refusal {
    fn from(error: FillError) -> Self {
        let cause = match error {
            FillError::OtherChain { .. } | FillError::OtherAuthorization { .. } | FillError::NoBaseFee => {
                Cause::InvalidParams
            }
            FillError::NotQuoted(_) => Cause::NodeUnavailable,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<NotAvailable> for Refusal {
    fn from(error: NotAvailable) -> Self {
        Self::new(Cause::AccountNotAvailable, error.to_string())
    }
}

impl Refusal {
    /// A denial of the policy; `denied` is the row for this kind of payload.
    pub(super) fn denied(error: Denied, denied: Cause) -> Self {
        let (sentence, rule, condition) = (error.to_string(), error.rule, error.condition);
        match error.cause {
            DenialCause::Rate { retry_after: Some(wait) } => {
                Self::new(Cause::RateLimited, sentence).retry_after(wait)
            }
            DenialCause::ForeignSignature { .. } => Self::new(Cause::Unrecorded, sentence),
            // Asked again it would be the same.
            _ => Self::new(denied, sentence),
        }
        .by_rule(rule, condition)
    }
}

impl Refusal {
    fn over_budget(over: &OverBudget) -> Self {
        let refusal = Self::new(Cause::OverBudget, over.to_string());
        let refusal = match over.room_in {
            Some(room_in) => refusal.retry_after(room_in),
            None => refusal,
        };
        refusal.by_rule(Some(over.budget.clone()), None)
    }
}

impl From<ReserveError> for Refusal {
    fn from(error: ReserveError) -> Self {
        let cause = match &error {
            ReserveError::Ledger(error) => return Self::from(error.clone()),
            ReserveError::Underpriced => Cause::Underpriced,
            ReserveError::NonceTaken { .. } | ReserveError::Spent { refusal: None } => Cause::NonceTaken,
            ReserveError::NonceTooLow { .. } => Cause::NonceTooLow,
            ReserveError::NonceTooHigh { .. } => Cause::InvalidParams,
            ReserveError::Gap { .. } => Cause::NonceGap,
            ReserveError::TooManyOpen { .. } | ReserveError::TooManyRefused { .. } => Cause::TooManyOpen,
            ReserveError::MinedJump { .. } => Cause::MinedJump,
            ReserveError::KeyReused => Cause::KeyReused,
            ReserveError::Spent { refusal: Some(_) } => Cause::NodeRefused,
            ReserveError::OverBudget(over) => return Self::over_budget(over),
            ReserveError::Paused(_) => Cause::Paused,
            // Both are answered before they come here, by judging once more.
            ReserveError::Outbid { .. }
            | ReserveError::PolicyChanged
            | ReserveError::Moved
            | ReserveError::StillSigning => Cause::Busy,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Ledger(error) => error.into(),
            RecordError::Paused(paused) => Self::new(Cause::Paused, paused.to_string()),
            unknown @ RecordError::Unknown { .. } => Self::new(Cause::OutcomeUnknown, unknown.to_string()),
            late @ RecordError::Void => Self::new(Cause::SignerUnavailable, late.to_string()),
        }
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        let cause = if matches!(error, LedgerError::Busy) { Cause::Busy } else { Cause::LedgerUnavailable };
        Self::new(cause, error.to_string())
    }
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        let cause =
            if matches!(error, SignError::Busy { .. }) { Cause::Busy } else { Cause::SignerUnavailable };
        Self::new(cause, error.to_string())
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let cause = match &error {
            // The node's own word on this very transaction: it would revert, or the account cannot pay.
            UpstreamError::Reverted { .. } => Cause::NodeRefused,
            UpstreamError::NoRoom => Cause::Busy,
            _ => Cause::NodeUnavailable,
        };
        Self::new(cause, error.to_string())
    }
}
