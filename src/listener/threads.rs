//! The threads that serve connections, each with a runtime of its own: a request is read, asked of a node and answered
//! on the thread where its connection lives, and wakes no other.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::log;
use crate::turns::Turns;

/// They end, with whatever still runs on them, when this is dropped.
#[derive(Debug)]
pub struct Threads {
    runtimes: Vec<(Handle, Turns)>,
    _end: DropGuard,
}

/// After so many tasks a thread looks who else has something to say: from outside, and from another thread. Where
/// several clients are busy it looks after each of their rounds.
const LOOK_EVERY: u32 = 16;

impl Threads {
    /// One for each processor that this process may use.
    pub fn start() -> io::Result<Self> {
        let end = CancellationToken::new();
        let start = |number| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(LOOK_EVERY)
                .global_queue_interval(LOOK_EVERY)
                .build()?;
            let (handle, ended, turns) = (runtime.handle().clone(), end.clone(), Turns::default());
            runtime.spawn(turns.clone().run());
            let thread = thread::Builder::new().name(format!("serve-{number}"));
            thread.spawn(move || serve(|| runtime.block_on(ended.cancelled_owned())))?;
            Ok((handle, turns))
        };
        let count = thread::available_parallelism().map_or(1, usize::from);
        let runtimes = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { runtimes, _end: end.drop_guard() })
    }

    /// The one that has least to do, by its connections, and the streams and sockets on them.
    pub(in crate::listener) fn idlest(&self) -> Option<(Handle, Turns)> {
        self.runtimes.iter().min_by_key(|(runtime, _)| runtime.metrics().num_alive_tasks()).cloned()
    }
}

/// Whoever came to a thread that is gone would never be answered, and it would look the idlest of all: the process ends, and is
/// started anew by whoever watches it.
fn serve(until_the_end: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(until_the_end)).is_err() {
        tracing::error!(target: log::ALWAYS, "a thread that serves connections broke down: the gateway ends at once");
        log::flush();
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_comes_next_goes_where_there_is_least_to_do_and_all_ends_together() {
        let threads = Threads::start().unwrap();
        let (gone, ended): (Vec<_>, Vec<_>) =
            threads.runtimes.iter().map(|_| oneshot::channel::<()>()).unzip();
        let mut used = Vec::new();
        for gone in gone {
            let (runtime, _) = threads.idlest().unwrap();
            runtime.spawn(async move {
                let _gone = gone;
                pending::<()>().await;
            });
            assert!(!used.contains(&runtime.id()), "each once");
            used.push(runtime.id());
        }
        drop(threads);
        for ended in ended {
            assert!(ended.await.is_err());
        }
    }
}
