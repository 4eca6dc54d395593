//! What the pool's threads sign, with what, and why that may fail.

use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::signer::protocol::Class;

/// Something that opens sessions: a token, or files of keys.
pub(super) trait Source: Send + Sync + 'static {
    type Session: Session;

    fn open(&self) -> Result<Self::Session, Failure>;

    /// A code of the module said that the PIN is wrong. It is to be remembered before anything else is done.
    fn refused(&self, _why: &str) {}
}

/// What one thread signs with. Dropping it closes it.
pub(super) trait Session: Sized {
    fn sign(&mut self, key: u16, digest: &B256) -> Result<[u8; 64], Failure>;

    /// Uses the session for nobody, so that the token does not close it; whether there was anything to do it with.
    fn keep_alive(&mut self) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Lets go of a session that the token has closed already.
    fn forget(self) {}
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub class: Class,
    pub why: String,
    /// For metrics: one of a few.
    pub label: String,
    /// The token has closed the session already.
    pub closed: bool,
}

/// A request, with the moment after which nobody wants its signature.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub id: u64,
    pub key: u16,
    pub digest: B256,
    pub since: Instant,
    pub by: Instant,
}

impl Job {
    pub(super) fn new(id: u64, key: u16, digest: B256, within: Duration) -> Self {
        let since = Instant::now();
        Self { id, key, digest, since, by: since.checked_add(within).unwrap_or(since) }
    }
}

impl Failure {
    pub(super) fn request(why: impl Into<String>) -> Self {
        Self { class: Class::Request, why: why.into(), label: "request".to_owned(), closed: false }
    }

    pub(super) fn down(why: impl Into<String>) -> Self {
        Self { class: Class::Down, why: why.into(), label: "token".to_owned(), closed: false }
    }
}
