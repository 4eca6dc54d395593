//! `chancery doctor`.

use crate::cmd::{Context, Done, Success};

/// Try each thing that can be wrong, in order, with its fix
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
