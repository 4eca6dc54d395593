//! `chancery connect`.

use crate::cmd::{Context, Done, Success};

/// Give tools that cannot present a certificate a local endpoint
#[derive(Debug, clap::Args)]
pub struct Connect {}

impl Connect {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
