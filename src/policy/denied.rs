//! A refusal by the policy: which part of it said no, and a sentence for the client that asked.
//!
//! Client libraries take some phrases for a node's answer and act on them (`nonce` with `too low`,
//! `insufficient funds`, `rate limit`, `header not found`, …). No sentence of the policy contains one.

use std::time::Duration;

use alloy_primitives::Address;

/// Why something is not signed. Its `Display` is the public sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Denied {
    pub cause: DenialCause,
    /// The rule (or rate) that said so, or the allow rule that came nearest.
    pub rule: Option<String>,
    /// The condition that failed, such as `args.amount`.
    pub condition: Option<String>,
    pub sentence: String,
}

/// What part of the policy said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialCause {
    /// The payload is from another account than the caller's.
    Account,
    /// An authorization (EIP-7702) is signed by an account of ours, and was not signed here: somebody else has its key.
    ForeignSignature { by: Address },
    /// A deny rule matches.
    Rule,
    /// No allow rule matches.
    NoRule,
    /// One of `[caps]`.
    Cap,
    /// It cannot be read without doubt, so it cannot be judged.
    Undecodable,
    /// A call that carries other calls.
    Wrapper,
    /// A `[[rate]]` is used up. Nothing else spoke against it. No wait is long enough where there is none.
    Rate { retry_after: Option<Duration> },
}

impl Denied {
    pub(in crate::policy) fn new(cause: DenialCause, sentence: String) -> Self {
        Self { cause, rule: None, condition: None, sentence }
    }

    pub(in crate::policy) fn by(mut self, rule: &str, condition: Option<&str>) -> Self {
        self.rule = Some(rule.to_owned());
        self.condition = condition.map(str::to_owned);
        self
    }
}

impl DenialCause {
    /// A stable name, for test cases and tools.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::ForeignSignature { .. } => "foreign_signature",
            Self::Rule => "rule",
            Self::NoRule => "no_rule",
            Self::Cap => "cap",
            Self::Undecodable => "undecodable",
            Self::Wrapper => "wrapper",
            Self::Rate { .. } => "rate",
        }
    }
}
