//! What the calls of one body share: room for their answers, and the time to begin.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::after;
use crate::methods::{Cause, Refusal, Reply};
use crate::rpc::share::Place;

/// Held by all calls of a body.
#[derive(Debug)]
pub struct Budget<'a> {
    /// How many more bytes of answers they may gather.
    bytes: AtomicUsize,
    begin_until: Instant,
    place: &'a Place,
}

/// Why there is no room for an answer.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    /// The answers to one batch.
    Batch,
    /// All answers that the client has not read.
    Unread,
}

impl<'a> Budget<'a> {
    pub fn new(bytes: usize, begin_within: Duration, place: &'a Place) -> Self {
        Self { bytes: AtomicUsize::new(bytes), begin_until: after(begin_within), place }
    }

    /// A call that begins now has nobody any more who waits for it.
    pub fn is_late(&self, now: Instant) -> bool {
        now > self.begin_until
    }

    pub fn is_spent(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    /// Room for an answer before it is written. Where there was not that much, there is nothing left for the batch.
    pub fn take(&self, reply: &mut Reply) -> Result<(), Over> {
        reply.let_go();
        let bytes = reply.length();
        let taken = |left: usize| Some(left.saturating_sub(bytes));
        let left = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        if left.is_ok_and(|left| left < bytes) {
            return Err(Over::Batch);
        }
        if self.place.make_room(bytes) { Ok(()) } else { Err(Over::Unread) }
    }
}

impl Over {
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::Batch => "too_large",
            Self::Unread => "unread",
        }
    }

    pub fn refusal(self) -> Refusal {
        let (cause, what) = match self {
            Self::Batch => (
                Cause::AnswerTooLarge,
                "the answers to this batch are too large together; send a smaller one",
            ),
            Self::Unread => (
                Cause::Busy,
                "too much of what was answered before is not read yet: there is no room for this answer; read, and ask again",
            ),
        };
        Refusal::new(cause, what)
    }
}
