//! The one table in which a cause becomes a JSON-RPC error: code, stable name and sentence.
//!
//! `docs/errors.md` holds the same table; a test keeps them equal. Which code makes which client retry, hide
//! or resend was measured; that is why *you may not* and *we could not* never share one.

use std::time::Duration;

use alloy_primitives::B256;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;

use crate::identity::RequestId;

/// Why there is no result. The variants are the rows of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    ParseError,
    InvalidRequest,
    BatchTooLarge,
    MethodNotFound,
    InvalidParams,
    KeyReused,
    AccountNotAvailable,
    TransactionDenied,
    MessageDenied,
    TypedDataDenied,
    AuthorizationDenied,
    OverBudget,
    RateLimited,
    NonceTooLow,
    NonceTaken,
    NonceGap,
    Underpriced,
    TooManyOpen,
    MinedJump,
    Paused,
    NodeRefused,
    Unrecorded,
    NotMinedYet,
    SignerUnavailable,
    LedgerUnavailable,
    OutcomeUnknown,
    NodeUnavailable,
    Busy,
    AnswerTooLarge,
    Internal,
}

/// A row: the cause, its JSON-RPC code, its stable name, and what it means.
#[derive(Debug)]
pub struct Row {
    pub cause: Cause,
    pub code: i32,
    pub name: &'static str,
    pub meaning: &'static str,
}

const fn row(cause: Cause, code: i32, name: &'static str, meaning: &'static str) -> Row {
    Row { cause, code, name, meaning }
}

/// Every error that Chancery answers of itself. A read that the node answered with an error keeps the node's own.
pub const TABLE: &[Row] = &[
    row(
        Cause::ParseError,
        -32700,
        "parse_error",
        "The body is not JSON by RFC 8259, or is nested too deeply.",
    ),
    row(
        Cause::InvalidRequest,
        -32600,
        "invalid_request",
        "The JSON is not a JSON-RPC 2.0 request, has a key twice, or a key that does not belong there.",
    ),
    row(
        Cause::BatchTooLarge,
        -32600,
        "batch_too_large",
        "The batch has more calls than allowed, or none. Nothing of it was done.",
    ),
    row(
        Cause::MethodNotFound,
        -32601,
        "method_not_found",
        "The method does not exist here. What is not listed is never forwarded.",
    ),
    row(
        Cause::InvalidParams,
        -32602,
        "invalid_params",
        "A parameter is missing, malformed or contradicts another; the message names it.",
    ),
    row(
        Cause::KeyReused,
        -32602,
        "idempotency_key_reused",
        "The `Idempotency-Key` was used for another request before. Nothing was signed.",
    ),
    row(
        Cause::AccountNotAvailable,
        4100,
        "account_not_available",
        "The account does not exist, or is not this client's. One text for both.",
    ),
    row(
        Cause::TransactionDenied,
        -32003,
        "transaction_denied",
        "The policy does not allow this transaction. `rule` and `condition` say which part of it.",
    ),
    row(Cause::MessageDenied, 4100, "message_denied", "The policy does not allow this message."),
    row(
        Cause::TypedDataDenied,
        4100,
        "typed_data_denied",
        "The policy does not allow this typed data (EIP-712).",
    ),
    row(
        Cause::AuthorizationDenied,
        4100,
        "authorization_denied",
        "The policy does not allow this authorization (EIP-7702).",
    ),
    row(
        Cause::OverBudget,
        -32003,
        "over_budget",
        "A budget has not enough left; nothing was signed. `rule` names it; `retry_after`, in seconds, says when it will.",
    ),
    row(
        Cause::RateLimited,
        -32005,
        "rate_limited",
        "Too many requests; nothing was signed. `retry_after` is in seconds.",
    ),
    row(
        Cause::NonceTooLow,
        -32003,
        "nonce_too_low",
        "The nonce that the client set was used before, for something else.",
    ),
    row(
        Cause::NonceTaken,
        -32003,
        "nonce_taken",
        "Another payload of ours is signed, or being signed, at the nonce that the client set, and this one may not replace it.",
    ),
    row(
        Cause::NonceGap,
        -32003,
        "nonce_gap",
        "The nonce that the client set leaves a gap below it that was not filled in time.",
    ),
    row(
        Cause::Underpriced,
        -32003,
        "replacement_underpriced",
        "The fees that the client set do not outbid what was signed at this nonce before, by 10 % (with blobs: 100 %, also of `maxFeePerBlobGas`).",
    ),
    row(
        Cause::TooManyOpen,
        -32005,
        "too_many_open",
        "The account has as many unfinished transactions as the configuration allows, or no node took as many of the client's at its next nonce.",
    ),
    row(
        Cause::Paused,
        -32003,
        "paused",
        "An operator has paused this account, this client or all, or the ledger has paused itself. Nothing was signed.",
    ),
    row(
        Cause::MinedJump,
        -32603,
        "mined_jump",
        "The node's count of this account's mined transactions stands far above the ledger's; an operator must look.",
    ),
    row(
        Cause::NodeRefused,
        -32003,
        "node_refused",
        "The node refused the transaction for good; the message is its reason, in geth's words.",
    ),
    row(
        Cause::Unrecorded,
        -32003,
        "unrecorded_signature",
        "The transaction, or an authorization in it (EIP-7702), is signed by an account of Chancery's, and was not signed here: somebody else has the key, or the ledger was lost.",
    ),
    row(
        Cause::NotMinedYet,
        4,
        "not_mined_yet",
        "The transaction was sent, and is in no block yet. `hash` names it; asking for its receipt is all that is left to do.",
    ),
    row(
        Cause::SignerUnavailable,
        -32603,
        "signer_unavailable",
        "The token did not sign in time or is down. Nothing was sent.",
    ),
    row(
        Cause::LedgerUnavailable,
        -32603,
        "ledger_unavailable",
        "The ledger cannot be written (disk full, lost). Nothing is signed without it.",
    ),
    row(
        Cause::OutcomeUnknown,
        -32603,
        "outcome_unknown",
        "The ledger failed while the signature was recorded: if it was, it is sent. Look for the hash in the message first.",
    ),
    row(
        Cause::NodeUnavailable,
        -32603,
        "node_unavailable",
        "The node is down, on another chain, or gives no usable answer. Nothing was sent.",
    ),
    row(Cause::Busy, -32603, "busy", "A queue is full. Nothing was signed."),
    row(
        Cause::AnswerTooLarge,
        -32008,
        "answer_too_large",
        "The answers to the batch are too large together. What signed in it is answered all the same.",
    ),
    row(Cause::Internal, -32603, "internal", "A fault of Chancery; the request id finds it in the log."),
];

/// A refusal: its cause and what the caller may know of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    cause: Cause,
    message: String,
    rule: Option<String>,
    condition: Option<String>,
    retry_after: Option<Duration>,
    hash: Option<Box<B256>>,
}

/// The error's `data`.
#[derive(Serialize)]
struct Data<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Refusal {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), rule: None, condition: None, retry_after: None, hash: None }
    }

    /// A fault of our own, of which the log says more than the caller may know.
    pub fn internal() -> Self {
        Self::new(Cause::Internal, "internal fault; nothing is lost, the request id finds it in the log")
    }

    /// The conditions kept changing while the request was judged.
    pub fn unsettled() -> Self {
        Self::new(
            Cause::Busy,
            "the policy or the nonce's price changed while this was judged; nothing was signed",
        )
    }

    /// The rule that said so, if one did.
    #[must_use]
    pub fn by_rule(mut self, rule: Option<String>, condition: Option<String>) -> Self {
        self.rule = rule;
        self.condition = condition;
        self
    }

    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The transaction that this is about, which is out.
    #[must_use]
    pub fn about(mut self, hash: B256) -> Self {
        self.hash = Some(Box::new(hash));
        self
    }

    pub const fn cause(&self) -> Cause {
        self.cause
    }

    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    pub fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    /// The JSON-RPC error object.
    pub fn to_error(&self, request: Option<RequestId>) -> ErrorObjectOwned {
        let row = self.cause.row();
        let data = Data {
            code: row.name,
            rule: self.rule(),
            condition: self.condition(),
            // Rounded up: whoever waits as long as we say must not come too early.
            retry_after: self
                .retry_after
                .map(|wait| wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))),
            hash: self.hash.as_deref().copied(),
            request_id: request.map(|id| id.to_string()),
        };
        ErrorObjectOwned::owned(row.code, self.message.clone(), Some(data))
    }
}

impl Cause {
    pub fn row(self) -> &'static Row {
        const INTERNAL: &Row = &row(
            Cause::Internal,
            -32603,
            "internal",
            "A fault of Chancery; the request id finds it in the log.",
        );
        TABLE.iter().find(|row| row.cause == self).unwrap_or(INTERNAL)
    }

    /// The stable name, as in `data.code`, metrics and audit rows.
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_in_the_documentation() {
        let documented: Vec<_> = include_str!("../../docs/errors.md")
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>())
            .collect();
        let here: Vec<_> = TABLE
            .iter()
            .map(|row| (format!("`{}`", row.name), row.code.to_string(), row.meaning.to_owned()))
            .collect();
        assert_eq!(documented.len(), here.len(), "docs/errors.md has a row too few or too many");
        for (documented, (name, code, meaning)) in documented.iter().zip(&here) {
            assert_eq!(documented, &[name, code, meaning]);
        }
    }

    #[test]
    fn every_cause_has_one_row_and_every_row_a_name_of_its_own() {
        for row in TABLE {
            assert_eq!(row.cause.row().name, row.name);
            assert_eq!(TABLE.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            assert_eq!(TABLE.iter().filter(|other| other.cause == row.cause).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn you_may_not_and_we_could_not_never_share_a_code() {
        let denied = [
            Cause::AccountNotAvailable,
            Cause::TransactionDenied,
            Cause::MessageDenied,
            Cause::Paused,
            Cause::NodeRefused,
        ];
        let failed = [
            Cause::SignerUnavailable,
            Cause::LedgerUnavailable,
            Cause::OutcomeUnknown,
            Cause::NodeUnavailable,
            Cause::Busy,
            Cause::Internal,
            Cause::RateLimited,
        ];
        for denied in denied {
            assert!(failed.iter().all(|failed| failed.row().code != denied.row().code), "{denied:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_caller_may_know() {
        let refusal = Refusal::new(Cause::TransactionDenied, "no")
            .by_rule(Some("pay".to_owned()), Some("value".to_owned()))
            .retry_after(Duration::from_millis(1500));
        let error = serde_json::to_value(refusal.to_error(Some(RequestId::from_number(7)))).unwrap();
        assert_eq!(
            error,
            serde_json::json!({
                "code": -32003,
                "message": "no",
                "data": {
                    "code": "transaction_denied",
                    "rule": "pay",
                    "condition": "value",
                    "retry_after": 2,
                    "request_id": format!("{:032x}", 7),
                },
            })
        );
        let bare = serde_json::to_value(Refusal::new(Cause::Busy, "later").to_error(None)).unwrap();
        assert_eq!(bare, serde_json::json!({"code": -32603, "message": "later", "data": {"code": "busy"}}));
    }
}
