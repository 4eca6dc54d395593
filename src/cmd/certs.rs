//! `chancery certs`.

use crate::cmd::{Context, Done, Success};

/// Make and inspect certificates
#[derive(Debug, clap::Args)]
pub struct Certs {}

impl Certs {
    pub fn run(self, _context: &Context) -> Done {
        Ok(Success::Done)
    }
}
