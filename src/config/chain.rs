//! A chain, and the nodes that speak for it.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::secret::SecretUrl;

/// One of the chains that are served.
#[derive(Clone, Debug)]
pub struct Chain {
    /// What it is called in paths, metrics and logs; its number where nothing else is written.
    pub name: String,
    /// EIP-155.
    pub id: u64,
    /// At least one, and at least one that is read from; the preferred first.
    pub nodes: Vec<Node>,
    /// By their place in `nodes`: those that signed transactions are sent to. At least one.
    pub broadcast: Vec<usize>,
    /// For one call to a node.
    pub timeout: Duration,
    /// After how many blocks a transaction is final where the chain has no finalized block.
    pub finality: u64,
    /// The largest answer of a node that is passed on, in bytes.
    pub max_answer: usize,
    /// How many blocks a node may be behind the foremost one and still be read from before others.
    pub max_lag: u64,
    /// How much more gas than a node estimates a transaction gets that sets no limit of its own, in per cent.
    pub gas_margin: u64,
}

/// A node, and how it is reached.
#[derive(Clone, Debug)]
pub struct Node {
    /// For metrics and logs.
    pub name: String,
    pub url: SecretUrl,
    /// Where its subscriptions are.
    pub ws: SecretUrl,
    pub auth: NodeAuth,
    /// Whether reads go there; one that is not read from gets signed transactions only.
    pub reads: bool,
}

/// What a node is shown, beside what is in its URL.
#[derive(Clone, Debug, Default)]
pub struct NodeAuth {
    pub headers: Vec<(String, SecretString)>,
    /// 32 bytes in hexadecimal: the key of a JWT as geth's authenticated port wants it.
    pub jwt: Option<SecretString>,
    /// A client certificate with its chain, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whom its server certificate must be from; the system's authorities where nothing is written.
    pub ca: Option<PathBuf>,
}

impl Chain {
    /// Whether a path, an operator or a policy means this one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || name.parse() == Ok(self.id)
    }
}
