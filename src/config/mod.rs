//! The configuration as it is meant: read once at start, every value checked, every path resolved.
//!
//! `deploy/chancery.example.toml` is the annotated reference of every key.

mod chain;
mod error;
mod network;
mod profile;
mod read;
mod shown;
pub mod spiffe;
pub mod units;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::secret::SecretUrl;

pub use chain::{Chain, Node, NodeAuth};
pub use error::{ConfigError, position};
pub use network::Network;
pub use profile::{Attest, PinForm, Profile};
pub use read::is_name;

/// How audit rows call the gateway where it acts for itself; no client can have this name.
pub const OWN_NAME: &str = "chancery";

/// The issuer that `[gateway]` itself describes; no `[[issuer]]` can have this name.
pub const OWN_ISSUER: &str = "gateway";

/// Everything that `serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that this was read from.
    pub file: PathBuf,
    /// What stands in it, as others may see it: without what may be secret.
    pub shown: String,
    pub gateway: Gateway,
    pub admin: Option<Admin>,
    /// At least one; the first is the one at `/`.
    pub chains: Vec<Chain>,
    /// The folder of policy files.
    pub policies: PathBuf,
    /// Who signs them.
    pub officers: Officers,
    /// The folder of a policy that is judged beside it, and decides nothing.
    pub shadow: Option<PathBuf>,
    pub ledger: Ledger,
    pub audit: Option<Audit>,
    pub signer: Signer,
    pub limits: Limits,
    pub clients: Vec<Client>,
    pub operators: Vec<Operator>,
    pub tokens: Vec<Token>,
    pub accounts: Vec<Account>,
}

/// The mutual-TLS listener that tools are pointed at.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub listen: SocketAddr,
    /// The `Host` (HTTP/1.1) or `:authority` (HTTP/2) values that are ours, with port where it is not 443.
    pub hosts: Vec<String>,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who may sign clients' certificates: its own first, then each `[[issuer]]`.
    pub issuers: Vec<Issuer>,
    /// Load balancers whose connections begin with a PROXY header.
    pub balancers: Vec<Network>,
    /// How long open requests may take to end after SIGTERM.
    pub drain: Duration,
}

/// A trust domain: CAs of one owner, and what is asked of the certificates that they sign. A client is known by its
/// issuer *and* its name, so that no issuer can name another's clients.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// [`OWN_ISSUER`] for the one of `[gateway]`.
    pub name: String,
    pub client_ca: PathBuf,
    pub identity: IdentityKind,
    /// Files of certificate revocation lists.
    pub crls: Vec<PathBuf>,
    pub revocation: Revocation,
}

/// What is known of revoked certificates, and what follows where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// There are no lists: a certificate is good until it expires, or its client is removed.
    Unchecked,
    /// A certificate that no list speaks of is good; a list that is too old still refuses all that it speaks of.
    Optional,
    /// Without a list in force that speaks of it, no certificate is good.
    Required,
}

/// Where in a client certificate the identity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    Uri,
    Dns,
}

/// The second listener, for operators. It uses the gateway's certificate, key and client CA.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    pub hosts: Vec<String>,
    pub balancers: Vec<Network>,
}

/// Whose signatures a policy needs: `[policy] signers` and `required_signatures`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Officers {
    pub signers: Vec<Address>,
    /// 0: none is needed.
    pub required: usize,
}

#[derive(Clone, Debug)]
pub struct Ledger {
    /// The file of SQLite; with `url`, what this process keeps for itself lies beside this name.
    pub path: PathBuf,
    /// A database of PostgreSQL that replicas share.
    pub url: Option<SecretUrl>,
    /// How many nonces of one account may be open (recorded and not final) at once.
    pub max_open: u32,
    /// Bytes of its disk that stay free: below them nothing is signed, so that what was begun can be written down.
    pub min_free: u64,
    /// The most that closing a gap may cost, in wei; nothing where gaps are left open.
    pub fill_gaps: Option<U256>,
    /// Whether a client that is paused is told why.
    pub show_pause_reason: bool,
    /// How long the key that a client gave to a request stands for it.
    pub keys_kept: Duration,
}

/// Signed checkpoints of the audit chain, and where they go.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The account whose key signs them. No client may use it.
    pub key: Address,
    /// The chain is sealed after so many rows, and after this time where there was any.
    pub every_rows: u64,
    pub every: Duration,
    /// Appended to, one line of JSON each.
    pub file: Option<PathBuf>,
    pub webhook: Option<Webhook>,
}

/// Where each checkpoint is posted to.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub url: SecretUrl,
    /// Holds what is sent as `Authorization: Bearer …`.
    pub secret_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Signer {
    pub allow_software_keys: bool,
    /// From the reservation to its signature; past it the reservation is void.
    pub deadline: Duration,
    /// Whose processes the workers are, where a token does not say another.
    pub user: Option<String>,
    /// How many calls into the module may hang before its worker is killed.
    pub max_stuck: usize,
    /// How often each backup is to be proved by a drill.
    pub drill_every: Duration,
}

/// Bounds; over each of them there is a clear error, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Calls in one batch.
    pub max_batch: usize,
    /// Nesting of JSON.
    pub max_depth: usize,
    /// Bytes of a request's head.
    pub max_header: usize,
    pub max_connections: usize,
    /// Of one client, or one operator.
    pub max_connections_per_client: usize,
    /// Of one address (of IPv6: one network of 64 bits), whoever it is.
    pub max_connections_per_address: usize,
    /// Connections that have not shown a certificate yet.
    pub max_handshakes: usize,
    /// Requests being answered, of all clients together.
    pub max_in_flight: usize,
    pub max_in_flight_per_client: usize,
    pub handshake_timeout: Duration,
    /// HTTP/1.1: from a head's first byte to the whole of it.
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    /// How long a client may leave what is written to it unread.
    pub write_timeout: Duration,
    /// HTTP/1.1: from the end of one request to the first byte of the next. An HTTP/2 connection may be idle for as
    /// long as its client answers a ping in every half of this.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 2 * 1024 * 1024,
            max_batch: 100,
            max_depth: 32,
            max_header: 16 * 1024,
            max_connections: 4096,
            max_connections_per_client: 1024,
            max_connections_per_address: 1024,
            max_handshakes: 512,
            max_in_flight: 1024,
            max_in_flight_per_client: 256,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// Who may connect, and which accounts it may use.
#[derive(Clone, Debug)]
pub struct Client {
    pub name: String,
    /// The SAN that its certificate carries, exactly.
    pub identity: String,
    /// The name of the issuer that signs its certificate.
    pub issuer: String,
    /// A free label that policies can name.
    pub role: Option<String>,
    pub person: Option<String>,
    /// In the order in which `eth_accounts` answers them.
    pub accounts: Vec<Address>,
    pub origins: Vec<String>,
    /// How long the same request, asked without a key, is taken for a repeat.
    pub repeat_window: Option<Duration>,
}

/// Who may use the admin listener.
#[derive(Clone, Debug)]
pub struct Operator {
    pub name: String,
    pub identity: String,
    pub issuer: String,
    pub role: OperatorRole,
    pub person: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorRole {
    Admin,
    Auditor,
    Approver,
}

/// A PKCS#11 token. Its PIN is read by the worker process alone.
#[derive(Clone, Debug)]
pub struct Token {
    pub name: String,
    /// What differs with its vendor.
    pub profile: &'static Profile,
    pub module: PathBuf,
    pub label: String,
    pub serial: Option<String>,
    pub pin: PinSource,
    /// The file and line that say so, for mistakes that only show at the start.
    pub pin_place: String,
    /// Whose process the worker is, where it is not ours.
    pub user: Option<String>,
    /// What the worker may use; `None` where nothing is kept from it.
    pub sandbox: Option<Sandbox>,
    pub sessions: usize,
    /// Where it stands; tokens of one account had better stand at several.
    pub site: Option<String>,
    /// Set for the worker process only, for modules that are configured by it (`SOFTHSM2_CONF`).
    pub environment: BTreeMap<String, String>,
}

/// What a token's module may use beside what every program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether it may open connections.
    pub network: bool,
    /// Files and folders that it may read and write.
    pub files: Vec<PathBuf>,
}

/// Where a token's PIN stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    File(PathBuf),
    /// A file that whoever started us opened for us.
    Descriptor(i32),
    /// Of systemd, by its name; in this folder, where there is one.
    Credential {
        name: String,
        folder: Option<PathBuf>,
    },
}

/// A key, pinned to its address.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub address: Address,
    pub key: KeySource,
    pub backup: Backup,
    pub auto_bump: Option<AutoBump>,
}

/// How a key is kept from being lost, which says what must be true of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backup {
    /// It is in one token, and lost with it.
    None,
    /// The vendor's own means clone a key that PKCS#11 lets nobody take out.
    #[default]
    Vendor,
    /// It leaves its token under a key that the token trusts (`CKA_WRAP_WITH_TRUSTED`), and under no other.
    Wrapped,
}

/// What is done with a transaction that is not mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoBump {
    /// Since it was signed, or last bumped.
    pub after: Duration,
    /// Per cent more, at least 10.
    pub step: u32,
    /// In wei for a unit of gas, and for one of blob gas: no bump pays more.
    pub up_to: u128,
}

#[derive(Clone, Debug)]
pub enum KeySource {
    /// By the label of its token's entry, and `CKA_LABEL`.
    /// The same key, under the same label, in each of these; the primary first.
    Token { tokens: Vec<String>, label: String, order: Order },
    /// An encrypted JSON keystore; laptops only.
    Keystore { file: PathBuf, password_file: PathBuf },
}

/// Which of an account's tokens is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The others only where the first fails.
    PrimaryBackup,
    RoundRobin,
}

impl PinSource {
    /// A path that names it in this very process. Where systemd did not start it there is no credential, and the path
    /// says why.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File(file) => file.clone(),
            Self::Descriptor(number) => PathBuf::from(format!("/dev/fd/{number}")),
            Self::Credential { name, folder } => {
                folder.as_deref().unwrap_or(Path::new("$CREDENTIALS_DIRECTORY")).join(name)
            }
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "the PIN file {}", file.display()),
            Self::Descriptor(number) => write!(f, "the PIN's descriptor {number}"),
            Self::Credential { name, .. } => write!(f, "the PIN credential `{name}`"),
        }
    }
}

impl Config {
    /// By its name or its number.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.is_called(name))
    }

    pub fn token(&self, name: &str) -> Option<&Token> {
        self.tokens.iter().find(|token| token.name == name)
    }
}
