//! What the methods work with: one of each stage.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::ledger::Ledger;
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
    /// The chain that the configuration pins.
    pub chain_id: u64,
    /// What was begun for a client and is finished whether or not the client still waits. `serve` waits for
    /// all of it before it ends.
    pub tasks: TaskTracker,
}
