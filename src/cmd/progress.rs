//! How far a long work is, for a person at a terminal.

use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::cmd::Context;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

const WIDTH: u64 = 30;

/// A bar on stderr, where a person is looking; else nothing. Wiped away when it is dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    started: Instant,
    is_on: bool,
}

impl Progress {
    pub fn new(context: &Context, what: &'static str) -> Self {
        Self { what, shown: None, started: Instant::now(), is_on: context.interactive() }
    }

    /// So much of all is done.
    pub fn at(&mut self, done: u64, all: u64) {
        let now = Instant::now();
        if !self.is_on || self.shown.is_some_and(|shown| now.saturating_duration_since(shown) < EVERY) {
            return;
        }
        self.shown = Some(now);
        let took = now.saturating_duration_since(self.started);
        // Nobody listening is no reason to fail.
        drop(write!(std::io::stderr().lock(), "\r{}\x1b[K", line(self.what, done, all, took)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

fn line(what: &str, done: u64, all: u64, took: Duration) -> String {
    let part = |of: u64| done.min(all).saturating_mul(of).checked_div(all).unwrap_or(of);
    let filled = part(WIDTH);
    let bar: String = (0..WIDTH).map(|place| if place < filled { '█' } else { '·' }).collect();
    let left = took.as_millis().saturating_mul(u128::from(all.saturating_sub(done)));
    let left = left.checked_div(u128::from(done)).unwrap_or(0) / 1000;
    format!("{what} {bar} {:>3} %, {left} s left", part(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_and_how_long() {
        let said = line("verifying", 250, 1000, Duration::from_secs(2));
        assert!(said.contains("███████·") && said.contains(" 25 %, 6 s left"), "{said}");
        assert!(line("x", 0, 0, Duration::ZERO).contains("100 %"), "nothing to do is done");
        assert!(line("x", 9, 3, Duration::ZERO).contains("100 %"), "it grew meanwhile");
    }
}
