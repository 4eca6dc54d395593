//! `chancery init`.

use crate::cmd::{Context, Done, Success};

/// Write a first configuration, policy and development certificates
#[derive(Debug, clap::Args)]
pub struct Init {}

impl Init {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
