//! Rows of the audit chain that tell a fact and change nothing in the tables: who came, which configuration, which
//! key, what was counted, and what was sealed by a checkpoint.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use serde::Serialize;

/// A fact for the audit chain.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Note {
    Configuration(Configuration),
    Access(Access),
    Refusals(Refusals),
    Key(KeyUse),
    Reconciliation(Reconciliation),
    Checkpoint(CheckpointRow),
}

/// What the gateway was told when it started.
#[derive(Clone, Debug, Serialize)]
pub struct Configuration {
    pub file: String,
    /// Keccak-256 of `text`.
    pub hash: B256,
    /// The whole file, with what may be secret taken out.
    pub text: String,
}

/// Who came to a listener since the last row of this kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// `gateway` or `admin`.
    pub listener: &'static str,
    /// `connected`: one name, let in. `refused`: everybody who was not, together.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// RFC 3339: the first of them.
    pub since: String,
    pub count: u64,
    /// For those who were refused: why, out of a fixed set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<&'static str, u64>,
    /// Where they came from, at most 16 addresses; the rest is in `others`.
    pub from: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub others: u64,
}

/// A client's refusals that got no row of their own, because there were too many of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusals {
    pub client: String,
    pub count: u64,
    pub causes: BTreeMap<&'static str, u64>,
}

/// Something was done with a key or with a token's PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyUse {
    pub token: String,
    /// `proved`, `generated` or `unlatched`.
    pub what: &'static str,
    pub keys: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The user of the machine, where a person did it on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// What a token's worker says that it signed, against what the ledger knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    pub token: String,
    /// One number for each life of the worker, from 1 in each run of the gateway.
    pub life: u64,
    /// How often the worker began a signature (`C_SignInit`) for a reservation, and how often it made one.
    pub calls: u64,
    pub made: u64,
    /// The same for probes: values that can be no transaction and no message.
    pub probe_calls: u64,
    pub probes: u64,
    /// What the gateway asked this worker to sign for the ledger's reservations.
    pub asked: u64,
    /// What of `made` came back in time.
    pub answered: u64,
    pub agrees: bool,
}

/// A signed statement of where the chain stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointRow {
    /// The reservation that the signature was made under.
    pub reservation: i64,
    /// The signed text, to the byte.
    pub statement: String,
    pub key: Address,
    /// 65 bytes r, s, v.
    pub signature: Bytes,
}

impl Note {
    /// The kinds that change nothing, as `replay` meets them; `checkpoint` is checked there.
    pub(in crate::ledger) const PLAIN: [&'static str; 5] =
        ["configuration", "access", "refusals", "key", "reconciliation"];

    pub(in crate::ledger) const fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::Access(_) => "access",
            Self::Refusals(_) => "refusals",
            Self::Key(_) => "key",
            Self::Reconciliation(_) => "reconciliation",
            Self::Checkpoint(_) => "checkpoint",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
