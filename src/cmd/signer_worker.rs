//! `chancery signer-worker`: the process that holds a token. Started by `serve`, never by hand.

use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::signer;

/// The process that holds a token's PIN and sessions; started by `serve`
#[derive(Debug, clap::Args)]
pub struct SignerWorker {}

impl SignerWorker {
    pub fn run(self, _: &Context) -> Done {
        // The gateway's log takes what is written to standard error.
        // What `cryptoki` says of each session that is closed after its token died, the worker says once.
        let filter = tracing_subscriber::EnvFilter::new("info,cryptoki=off");
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
        signer::run_worker()
            .hint("the signer worker ends", "it is started by `chancery serve`, not by hand")?;
        Ok(Success::Done)
    }
}
