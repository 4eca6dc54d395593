//! What the methods work with on one chain: one of each stage. All but the network is shared by all chains.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::ledger::Ledger;
use crate::methods::preflight::Preflights;
use crate::policy::ActivePolicy;
use crate::signer::Signer;
use crate::upstream::Upstream;

/// The stages, and the work that outlives its request.
#[derive(Debug)]
pub struct App {
    pub policy: Arc<ActivePolicy>,
    pub ledger: Ledger,
    pub signer: Signer,
    pub upstream: Upstream,
    /// EIP-155.
    pub chain_id: u64,
    /// The preflights of each client that are under way.
    pub preflights: Preflights,
    /// What was begun for a client and is finished whether or not the client still waits. `serve` waits for
    /// all of it before it ends.
    pub tasks: TaskTracker,
}
