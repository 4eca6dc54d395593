//! `chancery keys`.

use crate::cmd::{Context, Done, Success};

/// Make and inspect keys in a token
#[derive(Debug, clap::Args)]
pub struct Keys {}

impl Keys {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
