//! The audit rows, and the chain of hashes that holds them together.

use alloy_primitives::{Address, B256, Bytes, Keccak256, U128};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::identity::RequestId;
use crate::ledger::note::Note;
use crate::policy::Charge;

/// The longest text that a caller or a node can have written into a row.
const MAX_TEXT: usize = 4096;

/// A row of the audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub seq: i64,
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    pub kind: String,
    /// JSON.
    #[serde(serialize_with = "raw")]
    pub body: String,
    pub previous: B256,
    pub hash: B256,
}

/// A signature that was asked for and refused.
#[derive(Clone, Debug)]
pub struct RefusedRow {
    pub client: String,
    pub request: RequestId,
    pub method: String,
    pub cause: &'static str,
    pub rule: Option<String>,
    pub condition: Option<String>,
    pub sentence: String,
    /// The parameters as they came, cut to a bound.
    pub asked: String,
}

/// Who did something through the admin API, and the name of that request.
#[derive(Clone, Debug, Serialize)]
pub struct Administration {
    pub operator: String,
    pub person: String,
    pub request: String,
}

/// What a row says. The names of fields are what an auditor reads and `export` will keep.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::ledger) enum Body<'a> {
    Started {
        version: &'a str,
        /// The name of this process in the ledger.
        writer: &'a str,
        voided: usize,
        /// Whether other processes may go on at the same time.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        shared: bool,
    },
    Stopped {},
    Policy {
        policy: B256,
    },
    Intent(Box<Intent<'a>>),
    Signature {
        reservation: i64,
        writer: &'a str,
        hash: B256,
        raw: &'a Bytes,
    },
    /// The same intent was asked for again, and got the same bytes.
    Repeat {
        reservation: i64,
        request: &'a str,
        client: &'a str,
    },
    Void {
        reservation: i64,
        why: &'a str,
    },
    Outcome {
        reservation: i64,
        outcome: &'a str,
        text: &'a str,
    },
    Final {
        reservation: i64,
        block: Option<u64>,
        succeeded: Option<bool>,
    },
    /// Nonces that the chain has mined for good and none of our payloads has: somebody else sends for this account.
    External {
        chain: u64,
        account: Address,
        first: u64,
        last: u64,
    },
    /// The clock is right again: what was charged while it was behind counts from now on.
    Clock {
        /// Where the ledger's time stood still.
        #[serde(serialize_with = "rfc3339")]
        since: Timestamp,
        payloads: u64,
    },
    Refusal {
        client: &'a str,
        request: &'a str,
        method: &'a str,
        cause: &'a str,
        rule: Option<&'a str>,
        condition: Option<&'a str>,
        sentence: &'a str,
        asked: &'a str,
    },
    Note(&'a Note),
    /// An operator changed something; `detail` is an object whose fields are the action's.
    Administration {
        #[serde(flatten)]
        by: &'a Administration,
        action: &'a str,
        #[serde(flatten)]
        detail: &'a serde_json::Value,
    },
}

/// What is going to be signed, for whom and by which rule: durable before the token sees it.
#[derive(Debug, Serialize)]
pub(in crate::ledger) struct Intent<'a> {
    pub reservation: i64,
    /// Whose token is asked, where several processes write this ledger; nobody's for what came signed.
    pub writer: &'a str,
    pub request: &'a str,
    pub client: &'a str,
    pub person: Option<&'a str>,
    pub kind: &'a str,
    pub account: Address,
    pub chain: Option<u64>,
    pub nonce: Option<u64>,
    /// Wei for a unit of gas.
    pub max_fee: Option<U128>,
    pub max_tip: Option<U128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blob_fee: Option<U128>,
    /// Whether the client wants it returned and not sent.
    pub returned: bool,
    /// The recorded payload at this nonce in whose place it is to be mined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<i64>,
    pub rule: &'a str,
    pub policy: B256,
    /// The name that the client gave to the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    pub charges: Vec<Charged<'a>>,
    pub unsigned: Bytes,
    pub digest: B256,
}

/// What a payload takes from a budget.
#[derive(Debug, Serialize)]
pub(in crate::ledger) struct Charged<'a> {
    budget: &'a str,
    scope: &'a str,
    /// In the smallest unit, in decimal digits.
    amount: String,
}

impl<'a> From<&'a Charge> for Charged<'a> {
    fn from(charge: &'a Charge) -> Self {
        Self { budget: &charge.limit.id, scope: &charge.scope, amount: charge.amount.to_string() }
    }
}

impl RefusedRow {
    pub(in crate::ledger) fn body<'a>(&'a self, request: &'a str) -> Body<'a> {
        Body::Refusal {
            client: &self.client,
            request,
            method: cut(&self.method),
            cause: self.cause,
            rule: self.rule.as_deref(),
            condition: self.condition.as_deref().map(cut),
            sentence: cut(&self.sentence),
            asked: cut(&self.asked),
        }
    }
}

impl Body<'_> {
    pub(in crate::ledger) const fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped {} => "stopped",
            Self::Policy { .. } => "policy",
            Self::Intent(_) => "intent",
            Self::Signature { .. } => "signature",
            Self::Repeat { .. } => "repeat",
            Self::Void { .. } => "void",
            Self::Outcome { .. } => "outcome",
            Self::Final { .. } => "final",
            Self::External { .. } => "external",
            Self::Clock { .. } => "clock",
            Self::Refusal { .. } => "refusal",
            Self::Note(note) => note.kind(),
            Self::Administration { .. } => "administration",
        }
    }
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Head {
    pub seq: i64,
    pub hash: B256,
    pub at: Timestamp,
}

impl Head {
    /// Of an empty chain.
    pub(in crate::ledger) const START: Self =
        Self { seq: 0, hash: B256::ZERO, at: Timestamp::from_millis(0) };

    /// The row that comes next. Time never runs backwards in the chain, whatever the clock does.
    pub(in crate::ledger) fn next(&self, now: Timestamp, body: &Body<'_>) -> serde_json::Result<Entry> {
        let (seq, at) = (self.seq.saturating_add(1), now.max(self.at));
        let (kind, body) = (body.kind().to_owned(), serde_json::to_string(body)?);
        let hash = row_hash(seq, at, &kind, &body, self.hash);
        Ok(Entry { seq, at, kind, body, previous: self.hash, hash })
    }
}

impl From<&Entry> for Head {
    fn from(entry: &Entry) -> Self {
        Self { seq: entry.seq, hash: entry.hash, at: entry.at }
    }
}

impl Entry {
    /// Whether this row stands unchanged right after `head`.
    pub(in crate::ledger) fn follows(&self, head: &Head) -> Result<(), &'static str> {
        self.stands_after(head, self.is_whole())
    }

    /// The same, where somebody has looked at its content already.
    pub(in crate::ledger) fn stands_after(&self, head: &Head, is_whole: bool) -> Result<(), &'static str> {
        if self.seq != head.seq.saturating_add(1) {
            return Err("the row before it is missing, or rows were reordered");
        }
        if self.previous != head.hash {
            return Err("it does not follow the row before it: the chain was forked or edited there");
        }
        if self.at < head.at {
            return Err("it is older than the row before it");
        }
        if !is_whole {
            return Err("its content was edited");
        }
        Ok(())
    }

    /// Whether its content is what its hash was made over.
    pub(in crate::ledger) fn is_whole(&self) -> bool {
        self.hash == row_hash(self.seq, self.at, &self.kind, &self.body, self.previous)
    }
}

/// Cuts at a bound, so that nobody fills the disk with one row.
pub(in crate::ledger) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default()
}

/// Keccak-256 over every field, each with its length, so that no two rows have the same bytes.
fn row_hash(seq: i64, at: Timestamp, kind: &str, body: &str, previous: B256) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"chancery audit row 1");
    hasher.update(seq.to_be_bytes());
    hasher.update(at.millis().to_be_bytes());
    for text in [kind, body] {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    }
    hasher.update(previous);
    hasher.finalize()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(in crate::ledger) fn rfc3339<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn raw<S: serde::Serializer>(body: &str, to: S) -> Result<S::Ok, S::Error> {
    match serde_json::value::RawValue::from_string(body.to_owned()) {
        Ok(json) => json.serialize(to),
        Err(_) => to.serialize_str(body),
    }
}
