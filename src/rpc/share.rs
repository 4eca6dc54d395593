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
pub struct Place(Arc<Share>);

/// An answer that nobody has taken yet. Whoever asks and does not read would fill the memory otherwise.
#[derive(Debug)]
struct Unread {
    json: Bytes,
    place: Place,
}

impl Share {
    pub const fn new(max_calls: usize) -> Self {
        Self { max_calls, max_unread: MAX_UNREAD, calls: AtomicUsize::new(0), unread: AtomicUsize::new(0) }
    }

    /// `None` where the client has as much under way as it may.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.unread.load(Ordering::Relaxed) >= self.max_unread {
            return None;
        }
        let one_more = |calls: usize| calls.checked_add(1).filter(|calls| *calls <= self.max_calls);
        let entered = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Place(Arc::clone(self)))
    }
}

impl Place {
    /// The answer's bytes, which keep the place until the last of them is handed to the socket, or the connection
    /// is gone.
    pub fn answer(self, json: Bytes) -> Bytes {
        self.0.unread.fetch_add(json.len(), Ordering::Relaxed);
        Bytes::from_owner(Unread { json, place: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.place.0.unread.fetch_sub(self.json.len(), Ordering::Relaxed);
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
        let share = Arc::new(Share { max_unread: 10, ..Share::new(100) });
        let large = share.enter().unwrap().answer("0123456789".into());
        assert!(share.enter().is_none());
        drop(large);
        assert!(share.enter().is_some());
    }
}
