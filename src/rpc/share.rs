//! What one client may have under way, on all its connections together: calls, and answers that it has not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes of answers that one client may leave unread before it gets no more: as many as a few of the largest.
const MAX_UNREAD: usize = 256 * 1024 * 1024;

/// The share of one client.
#[derive(Debug)]
pub struct Share {
    max_calls: usize,
    max_unread: usize,
    calls: AtomicUsize,
    unread: AtomicUsize,
}

/// A call's place in its client's share: from before its body is read until its answer is gone.
#[derive(Debug)]
pub struct Place {
    share: Arc<Share>,
    /// Of the share's unread bytes.
    unread: AtomicUsize,
}

/// An answer that nobody has taken yet. Whoever asks and does not read would fill the memory otherwise.
#[derive(Debug)]
struct Unread {
    json: Bytes,
    _place: Place,
}

impl Share {
    pub const fn new(max_calls: usize) -> Self {
        Self::of(max_calls, MAX_UNREAD)
    }

    pub(in crate::rpc) const fn of(max_calls: usize, max_unread: usize) -> Self {
        Self { max_calls, max_unread, calls: AtomicUsize::new(0), unread: AtomicUsize::new(0) }
    }

    /// `None` where the client has as much under way as it may.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.unread.load(Ordering::Relaxed) >= self.max_unread {
            return None;
        }
        let one_more = |calls: usize| calls.checked_add(1).filter(|calls| *calls <= self.max_calls);
        let entered = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Place { share: Arc::clone(self), unread: AtomicUsize::new(0) })
    }
}

impl Place {
    /// Room for so many bytes of an answer, from when they are there. `false`: its client has left so much unread that
    /// it gets no more.
    pub fn make_room(&self, bytes: usize) -> bool {
        let more =
            |unread: usize| unread.checked_add(bytes).filter(|unread| *unread <= self.share.max_unread);
        let is_there = self.share.unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if is_there {
            self.unread.fetch_add(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// The answer's bytes, which keep the place until the last of them is handed to the socket, or the connection
    /// is gone.
    pub fn answer(self, json: Bytes) -> Bytes {
        // What there was no room for, and must be told all the same.
        let more = json.len().saturating_sub(self.unread.load(Ordering::Relaxed));
        self.share.unread.fetch_add(more, Ordering::Relaxed);
        self.unread.fetch_add(more, Ordering::Relaxed);
        Bytes::from_owner(Unread { json, _place: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.share.unread.fetch_sub(self.unread.load(Ordering::Relaxed), Ordering::Relaxed);
        self.share.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_12_an_answer_keeps_its_place_until_it_is_taken() {
        let share = Arc::new(Share::new(2));
        let (one, two) = (share.enter().unwrap(), share.enter().unwrap());
        assert!(share.enter().is_none());
        drop(one);
        let mut answer = two.answer("0123456789".into());
        let other = share.enter().unwrap();
        assert!(share.enter().is_none(), "an answer that is not read is a call under way");
        drop(other);
        drop(answer.split_to(9));
        assert!(share.enter().is_some(), "and its place is one");
        drop(answer);
        assert_eq!((share.calls.load(Ordering::Relaxed), share.unread.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn inv_12_who_does_not_read_its_answers_gets_no_more() {
        let share = Arc::new(Share::of(100, 10));
        let large = share.enter().unwrap().answer("0123456789".into());
        assert!(share.enter().is_none());
        drop(large);
        assert!(share.enter().is_some());
    }

    #[test]
    fn inv_12_also_those_that_were_under_way_get_no_more_than_there_is_room_for() {
        let share = Arc::new(Share::of(100, 10));
        let (one, two, three) = (share.enter().unwrap(), share.enter().unwrap(), share.enter().unwrap());
        assert!(one.make_room(6));
        assert!(!two.make_room(5) && two.make_room(4));
        let told = three.answer("told all the same".into());
        assert_eq!(share.unread.load(Ordering::Relaxed), 27);
        let (one, two) = (one.answer("012345".into()), two.answer("0123".into()));
        assert_eq!(share.unread.load(Ordering::Relaxed), 27, "each byte once");
        drop((one, two, told));
        assert_eq!((share.calls.load(Ordering::Relaxed), share.unread.load(Ordering::Relaxed)), (0, 0));
    }
}
