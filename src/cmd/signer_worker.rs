//! `chancery signer-worker`.

use crate::cmd::{Context, Done, Success};

/// The process that holds a token's PIN and sessions; started by `serve`
#[derive(Debug, clap::Args)]
pub struct SignerWorker {}

impl SignerWorker {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
