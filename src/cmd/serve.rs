//! `chancery serve`.

use crate::cmd::{Context, Done, Success};

/// Run the gateway
#[derive(Debug, clap::Args)]
pub struct Serve {}

impl Serve {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
