//! `chancery audit`.

use crate::cmd::{Context, Done, Success};

/// Show and verify the audit chain
#[derive(Debug, clap::Args)]
pub struct Audit {}

impl Audit {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
