//! How much memory answers may fill, on their way and until they are read: one client's, and within that of all. And how many of
//! a client's answers may be on their way at once.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Room for the answers of one client, or of a node's answers to questions of our own.
#[derive(Debug)]
pub struct Room {
    max: usize,
    used: AtomicUsize,
    /// Answers that nodes are waited for.
    awaited: Semaphore,
    /// What is large takes of this one too.
    all: Option<Arc<Room>>,
}

/// Room that is taken, and free again when this is dropped.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: usize,
}

/// The same for what is there and does not grow: where it is small, it takes nothing of the room of all.
#[derive(Debug)]
pub struct Kept {
    room: Arc<Room>,
    bytes: usize,
}

/// What is on its way and grows: nothing is taken of the room before the first step is full, and then whole steps.
#[derive(Debug)]
pub struct Meter<R> {
    room: R,
    step: usize,
    counted: usize,
    held: Option<Held>,
}

/// An answer of no more than this is never counted on its way, and not among those of all: there are only as many at once
/// as there are calls. What is larger is counted in steps of it. In bytes.
pub const SMALL: usize = 256 * 1024;

/// Answers of one client that nodes are waited for at once, at all nodes together, where it may not have more calls under way. A
/// batch is one call of its client, and many of a node's where that takes no batches.
pub const MAX_AWAITED: usize = 256;

impl Room {
    pub const fn new(max: usize, all: Option<Arc<Self>>) -> Self {
        Self { max, used: AtomicUsize::new(0), awaited: Semaphore::const_new(MAX_AWAITED), all }
    }

    /// With places for more answers at once.
    #[must_use]
    pub fn awaiting(mut self, more: usize) -> Self {
        self.awaited = Semaphore::new(more.clamp(MAX_AWAITED, Semaphore::MAX_PERMITS));
        self
    }

    /// A place for each answer while a node is waited for.
    pub const fn awaited(&self) -> &Semaphore {
        &self.awaited
    }

    /// For what is there, and goes when it is dropped.
    pub fn keep(self: &Arc<Self>, bytes: usize) -> Option<Kept> {
        let is_there = if bytes > SMALL { self.take_large(bytes) } else { self.take(bytes) };
        is_there.then(|| Kept { room: Arc::clone(self), bytes })
    }

    pub fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max
    }

    /// For what is on its way. An eighth is left for what has come, and so for calls that sign: they are let in while there
    /// is any.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let mut held = Held { room: Arc::clone(self), bytes: 0 };
        held.grow(bytes).then_some(held)
    }

    /// For what is there. To be given back in the same pieces.
    pub fn take(&self, bytes: usize) -> bool {
        self.take_below(self.max, bytes)
    }

    /// Whether there is room or not.
    pub fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The same for what is large.
    pub fn take_large(&self, bytes: usize) -> bool {
        self.take_large_below(self.max, bytes)
    }

    pub fn give_back_large(&self, bytes: usize) {
        self.give_back(bytes);
        if let Some(all) = &self.all {
            all.give_back(bytes);
        }
    }

    fn take_large_below(&self, max: usize, bytes: usize) -> bool {
        if !self.take_below(max, bytes) {
            return false;
        }
        let is_there = self.all.as_ref().is_none_or(|all| all.take(bytes));
        if !is_there {
            self.give_back(bytes);
        }
        is_there
    }

    fn take_below(&self, max: usize, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Held {
    /// `false`: there is no room for so much more.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let max = self.room.max.saturating_sub(self.room.max / 8);
        let is_there = self.room.take_large_below(max, bytes);
        if is_there {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        is_there
    }
}

impl<R: Borrow<Arc<Room>>> Meter<R> {
    pub const fn new(room: R, step: usize) -> Self {
        Self { room, step, counted: step, held: None }
    }

    /// So much is there by now. `false`: there is no room for it.
    pub fn count(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.counted).next_multiple_of(self.step);
        if more == 0 {
            return true;
        }
        let is_there = if let Some(held) = &mut self.held {
            held.grow(more)
        } else {
            self.held = self.room.borrow().hold(more);
            self.held.is_some()
        };
        if is_there {
            self.counted = self.counted.saturating_add(more);
        }
        is_there
    }

    /// What was there is gone, and its room is free.
    pub fn begin_again(&mut self) {
        (self.held, self.counted) = (None, self.step);
    }

    /// What it has taken.
    pub fn into_held(self) -> Option<Held> {
        self.held
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.bytes > SMALL {
            self.room.give_back_large(self.bytes);
        } else {
            self.room.give_back(self.bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back_large(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Room {
        pub fn used(&self) -> usize {
            self.used.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn inv_12_one_has_no_more_than_its_own_and_all_have_no_more_than_there_is() {
        let all = Arc::new(Room::new(100, None));
        let [one, two] = [(); 2].map(|()| Arc::new(Room::new(80, Some(Arc::clone(&all)))));
        let mut held = one.hold(60).unwrap();
        assert!(!held.grow(20), "an eighth is for what has come");
        assert!(one.take(20) && one.is_full());
        assert!(two.hold(41).is_none());
        assert_eq!(two.used(), 0, "of what is refused nothing is taken");
        let other = two.hold(40).unwrap();
        drop(held);
        assert!(!two.is_full() && one.take_large(60));
        one.give_back(20);
        one.give_back_large(60);
        drop(other);
        assert_eq!((one.used(), two.used(), all.used()), (0, 0, 0));
    }

    #[test]
    fn inv_12_what_grows_is_counted_in_steps_from_the_second_on() {
        let room = Arc::new(Room::new(80, None));
        let mut meter = Meter::new(&room, 10);
        for (bytes, used) in [(10, 0), (11, 10), (20, 10), (21, 20), (55, 50), (30, 50)] {
            assert!(meter.count(bytes));
            assert_eq!(room.used(), used, "with {bytes}");
        }
        assert!(!meter.count(90), "an eighth is for what has come");
        meter.begin_again();
        assert_eq!(room.used(), 0);
        assert!(meter.count(11));
        drop(meter.into_held());
        assert_eq!(room.used(), 0);
    }
}
