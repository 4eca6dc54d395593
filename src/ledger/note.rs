//! Rows of the audit chain that tell a fact and change nothing in the tables: who came, which configuration, which
//! key, what was counted, and what was sealed by a checkpoint.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

use crate::ledger::Recorded;
use crate::transaction::{Checkpoint, Statement, is_signed_checkpoint};

/// A fact for the audit chain.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Note {
    Configuration(Configuration),
    Trust(TrustRead),
    Access(Access),
    Refusals(Refusals),
    Key(KeyUse),
    Reconciliation(Reconciliation),
    Checkpoint(SealedRow),
    Tried(Tried),
}

/// What a policy that is tried would have said otherwise about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// `stricter` or `looser` than the policy in force.
    pub verdict: &'static str,
    pub client: String,
    pub request: String,
    /// What was asked for, such as `transaction`.
    pub kind: &'static str,
    /// The rule that allows it, of the policy that does.
    pub rule: String,
    /// Why the other denies it.
    pub why: String,
    /// The hash of the policy that is tried.
    pub policy: B256,
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

/// Whom the gateway lets in, as it was read at the start and whenever the files have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustRead {
    /// `taken`, or `refused`: then what was read before stays, and stands here.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Counted from 1 at each start.
    pub generation: u64,
    /// SHA-256 of the server's certificate, and by issuer of its CAs and its revocation lists, in hexadecimal.
    pub server: String,
    pub cas: BTreeMap<String, Vec<String>>,
    pub lists: BTreeMap<String, Vec<String>>,
    /// The names of all clients and operators.
    pub people: Vec<String>,
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
    /// `proved` (it signed with each of these keys, and recovered to its address), `unavailable`, or one of
    /// [`KeyUse::DONE`]; `tried` is by `keys conformance`.
    pub what: &'static str,
    pub keys: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The user of the machine, where a person did it on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Whose certificate it was, where the admin listener was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// What the tokens signed since the gateway started, against what the ledger knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// Rows of the kinds `intent` and `signature`.
    pub intents: u64,
    pub recorded: u64,
    /// Requests of the gateway for values that can be no transaction and no message.
    pub probes: u64,
    pub tokens: Vec<TokenCount>,
    pub agrees: bool,
}

/// One token's share, over all lives of its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenCount {
    pub token: String,
    pub lives: u64,
    /// Requests that were handed over to a worker, how often one was handed to the next worker as well, and signatures
    /// that came back.
    pub handed: u64,
    pub again: u64,
    pub answered: u64,
    /// The worker's own count: signatures begun (`C_SignInit`) and made, and those that proved keys at its start.
    pub calls: u64,
    pub made: u64,
    pub proofs: u64,
}

/// A signed statement of where the chain stood; the row of kind `checkpoint`, and what is pushed off the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRow {
    /// The reservation that the signature was made under.
    pub reservation: i64,
    /// The signed text, to the byte.
    pub statement: String,
    pub key: Address,
    /// 65 bytes r, s, v.
    pub signature: Bytes,
}

impl KeyUse {
    /// What commands do with keys, and say of it.
    pub const DONE: [&'static str; 12] = [
        "generated",
        "unlatched",
        "wrapping-key-made",
        "backed-up",
        "restored",
        "tried",
        "drilled",
        "drill-failed",
        "rotation-begun",
        "rotation-retired",
        "destroying",
        "destroyed",
    ];

    pub fn new(token: &str, what: &'static str) -> Self {
        Self {
            token: token.to_owned(),
            what,
            keys: Vec::new(),
            label: None,
            why: None,
            user: None,
            operator: None,
            person: None,
        }
    }
}

impl SealedRow {
    /// Of a checkpoint that is recorded.
    pub fn new(statement: &str, recorded: &Recorded<Checkpoint>) -> Self {
        Self {
            reservation: recorded.id().0,
            statement: statement.to_owned(),
            key: recorded.from(),
            signature: recorded.raw().clone(),
        }
    }

    /// The statement, where it is one and `key` signed it.
    pub fn read(&self) -> Result<Statement, String> {
        if !is_signed_checkpoint(&self.statement, self.key, &self.signature) {
            return Err(format!("the checkpoint's signature is not by {}", self.key));
        }
        serde_json::from_str(&self.statement).map_err(|error| format!("it is no checkpoint: {error}"))
    }

    /// The last row that it speaks of.
    pub(in crate::ledger) fn covers(&self) -> Option<i64> {
        let statement = serde_json::from_str::<Statement>(&self.statement).ok()?;
        statement.heads.iter().map(|head| head.seq).max()
    }

    pub(in crate::ledger) fn number(&self) -> Option<u64> {
        serde_json::from_str::<Statement>(&self.statement).ok().map(|statement| statement.checkpoint)
    }
}

impl Note {
    /// The kinds that change nothing, as `replay` meets them; the others are looked at there.
    pub(in crate::ledger) const PLAIN: [&'static str; 6] =
        ["configuration", "trust", "access", "refusals", "key", "tried"];

    pub(in crate::ledger) const fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::Trust(_) => "trust",
            Self::Access(_) => "access",
            Self::Refusals(_) => "refusals",
            Self::Key(_) => "key",
            Self::Reconciliation(_) => "reconciliation",
            Self::Checkpoint(_) => "checkpoint",
            Self::Tried(_) => "tried",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
