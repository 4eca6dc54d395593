//! The network: one node, asked for reads and quotes, and handed what is recorded. Its word is not trusted.
//!
//! **Invariant:** [`Upstream::broadcast`] takes a `Recorded<Tx>`; nothing else can be sent from here.

mod answer;
mod broadcast;
mod classify;
mod client;
mod error;
mod follow;
mod health;
mod quote;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::{Clock, Timestamp};
use crate::config::Chain;

pub use answer::{Answer, NodeError};
pub use error::UpstreamError;
pub use follow::follow;
pub use health::Health;

use client::Client;

/// The chain's node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    chain_id: u64,
    finality: u64,
    clock: Clock,
    /// When the node last said that it is on the pinned chain. Never held while it is asked: a node that hangs
    /// must not make its callers wait for each other.
    on_chain: Mutex<Option<Timestamp>>,
}

/// How long a node's chain id is believed. A node does not change its chain, but the address behind a URL can.
const CHAIN_ID_HOLDS: std::time::Duration = std::time::Duration::from_secs(10);

impl Upstream {
    pub fn new(chain: &Chain, clock: Clock) -> Result<Self, UpstreamError> {
        Ok(Self(Arc::new(Inner {
            client: Client::new(chain)?,
            chain_id: chain.id,
            finality: chain.finality,
            clock,
            on_chain: Mutex::new(None),
        })))
    }

    /// Asks the node and passes its answer on, a result or an error of its own.
    pub async fn forward(&self, method: &str, params: Option<&RawValue>) -> Result<Answer, UpstreamError> {
        self.pinned().await?;
        self.noticed(self.0.client.call(method, params).await)
    }

    /// Asks for something of our own.
    async fn ask(&self, method: &str, params: Option<Value>) -> Result<Answer, UpstreamError> {
        self.noticed(self.0.client.ask(method, params).await)
    }

    /// After a failure there may be another node behind the same URL.
    fn noticed(&self, answer: Result<Answer, UpstreamError>) -> Result<Answer, UpstreamError> {
        if answer.is_err() {
            self.unpin();
        }
        answer
    }

    /// Whether the node is on the pinned chain; asked again when the last answer is too old.
    async fn pinned(&self) -> Result<(), UpstreamError> {
        let now = self.0.clock.now();
        if self.checked().is_some_and(|at| now.since(at) < CHAIN_ID_HOLDS && at <= now) {
            return Ok(());
        }
        self.unpin();
        let found: u64 = self.0.client.ask("eth_chainId", None).await?.number()?;
        if found != self.0.chain_id {
            return Err(UpstreamError::OtherChain { found, ours: self.0.chain_id });
        }
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    fn checked(&self) -> Option<Timestamp> {
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets that the node was on the right chain: after a failure it is asked again.
    fn unpin(&self) {
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
