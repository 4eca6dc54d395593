//! `chancery signer-worker`: the process that holds a token. Started by `serve`, never by hand.

use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::signer;

/// The process that holds a token's PIN and sessions; started by `serve`
#[derive(Debug, clap::Args)]
pub struct SignerWorker {}

impl SignerWorker {
    pub fn run(self, _: &Context) -> Done {
        signer::run_worker()
            .hint("the signer worker ends", "it is started by `chancery serve`, not by hand")?;
        Ok(Success::Done)
    }
}
