//! Why the node could not answer. No sentence here holds more of its URL than scheme and host.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::room::Held;

/// What went wrong between us and the node.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    #[error("the node did not answer in time")]
    Timeout,
    #[error("too many calls wait for the node")]
    Busy,
    #[error("too much of what was asked is on its way, or is answered and not read yet: read, and ask again")]
    NoRoom,
    #[error("the node is on chain {found}, the configuration pins chain {ours}; it is not used")]
    OtherChain { found: u64, ours: u64 },
    #[error("the node's answer makes no sense: {0}")]
    Garbage(String),
    #[error("the node's answer is larger than the {0} bytes that `max_answer` of its [chain] allows")]
    TooLarge(usize),
    /// What was asked would fail on the chain as it is now; in geth's words, with what the contract returned.
    #[error("{message}")]
    Reverted { message: String, data: Option<Box<RawValue>> },
    /// The node answers a call of ours with an error; its own words, which say nothing of the transaction.
    #[error("the node answers with an error ({code}): {message}")]
    /// `held`: what a large one takes of its asker's room.
    Node { code: i32, message: String, data: Option<Box<RawValue>>, held: Option<Arc<Held>> },
}

/// JSON-RPC's code of a node that does not have a method.
pub(in crate::upstream) const METHOD_NOT_FOUND: i32 = -32601;

/// JSON-RPC codes (EIP-1474) of a node that cannot, for now or at all: method unknown, not supported, limit exceeded.
const ELSEWHERE: [i32; 3] = [METHOD_NOT_FOUND, -32004, -32005];

/// How nodes say that they do not have a block's state, or not any more.
const NOT_HERE: [&str; 6] = [
    "missing trie node",
    "header not found",
    "historical state",
    "state not available",
    "state is not available",
    "unknown block",
];

impl UpstreamError {
    pub(super) fn garbage(why: impl std::fmt::Display) -> Self {
        Self::Garbage(why.to_string())
    }

    /// Whether the next question would most likely end in the same way.
    pub(super) const fn is_about_the_node(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout | Self::OtherChain { .. })
    }

    /// Whether another node may do better: this one is away or confused, has too much to do, does not know the method, or
    /// does not have the state.
    pub(super) fn may_differ_elsewhere(&self) -> bool {
        match self {
            Self::Node { code, message, .. } => {
                let lower = message.to_ascii_lowercase();
                ELSEWHERE.contains(code) || NOT_HERE.iter().any(|text| lower.contains(text))
            }
            Self::Reverted { .. } | Self::NoRoom => false,
            _ => true,
        }
    }

    /// For metrics: a fixed set.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::NoRoom => "no_room",
            Self::OtherChain { .. } => "other_chain",
            Self::Garbage(_) => "garbage",
            Self::TooLarge(_) => "too_large",
            Self::Reverted { .. } => "reverted",
            Self::Node { .. } => "node",
        }
    }
}
