//! `chancery policy`.

use crate::cmd::{Context, Done, Success};

/// Check, test and explain a policy
#[derive(Debug, clap::Args)]
pub struct Policy {}

impl Policy {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
