//! The thread on which every token's keeper runs: it wakes for many answers at once, where a pool of threads would wake each
//! other for each of them.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// It ends, with whatever still runs on it, when this is dropped.
#[derive(Debug)]
pub(super) struct Thread {
    runtime: Handle,
    _end: DropGuard,
}

impl Thread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone().cancelled_owned();
        std::thread::Builder::new().name("signer".to_owned()).spawn(move || runtime.block_on(ended))?;
        Ok(Self { runtime: handle, _end: end.drop_guard() })
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
