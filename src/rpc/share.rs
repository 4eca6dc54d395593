//! What one client may have under way, on all its connections together: calls, and answers that it has not read.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::body::Body;
use crate::methods::Text;
use crate::room::{Room, SMALL};

/// Bytes of answers that one client may have on their way or leave unread before it gets no more: as many as a few of the
/// largest.
pub(in crate::rpc) const MAX_OF_A_CLIENT: usize = 256 * 1024 * 1024;

/// The same for the large answers of all clients together.
pub(in crate::rpc) const MAX_OF_ALL: usize = 1024 * 1024 * 1024;

/// The share of one client.
#[derive(Debug)]
pub struct Share {
    max_calls: usize,
    calls: AtomicUsize,
    /// For its answers.
    room: Arc<Room>,
}

/// A call's place in its client's share: from before its body is read until its answer is gone.
#[derive(Debug)]
pub struct Place {
    share: Arc<Share>,
    /// Of the share's room: what is taken piece by piece for small answers, and for large ones.
    small: AtomicUsize,
    large: AtomicUsize,
    /// Set where something that outlives the call has it too.
    kept: OnceLock<Arc<Counted>>,
}

/// One of its client's calls.
#[derive(Debug)]
struct Counted(Arc<Share>);

/// An answer that nobody has taken yet. Whoever asks and does not read would fill the memory otherwise.
#[derive(Debug)]
struct Unread {
    json: Bytes,
    _place: Place,
}

impl Share {
    pub const fn new(max_calls: usize, room: Arc<Room>) -> Self {
        Self { max_calls, calls: AtomicUsize::new(0), room }
    }

    pub const fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// `None` where the client has as much under way as it may.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.room.is_full() {
            return None;
        }
        let one_more = |calls: usize| calls.checked_add(1).filter(|calls| *calls <= self.max_calls);
        let entered = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Place {
            share: Arc::clone(self),
            small: AtomicUsize::new(0),
            large: AtomicUsize::new(0),
            kept: OnceLock::new(),
        })
    }
}

impl Place {
    /// Room for so many bytes of an answer, from when they are there. `false`: its client has left so much unread that
    /// it gets no more.
    pub fn make_room(&self, bytes: usize) -> bool {
        let room = &self.share.room;
        let (is_there, taken) = if bytes > SMALL {
            (room.take_large(bytes), &self.large)
        } else {
            (room.take(bytes), &self.small)
        };
        if is_there {
            taken.fetch_add(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// Has the call count until this is gone too.
    pub fn keep(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<Counted>::clone(self.kept.get_or_init(|| Arc::new(Counted(Arc::clone(&self.share)))))
    }

    /// For its answers, while they are on their way.
    pub fn room(&self) -> &Arc<Room> {
        &self.share.room
    }

    /// The answer's bytes, which keep the place until the last of them has left, or the connection is gone.
    pub fn answer(self, json: Bytes) -> Bytes {
        // What there was no room for, and must be told all the same.
        let taken = self.small.load(Ordering::Relaxed).saturating_add(self.large.load(Ordering::Relaxed));
        let more = json.len().saturating_sub(taken);
        self.share.room.add(more);
        self.small.fetch_add(more, Ordering::Relaxed);
        Bytes::from_owner(Unread { json, _place: self })
    }

    /// The same, in as many pieces as there are: a value that others have too stays where it is.
    pub fn body(self, text: Text) -> Body {
        match text {
            Text::Whole(json) => self.answer(json).into(),
            Text::Around { head, value } => {
                Body::of([head, self.answer(value), Bytes::from_static(Text::TAIL)])
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.share.room.give_back(*self.small.get_mut());
        self.share.room.give_back_large(*self.large.get_mut());
        if self.kept.get().is_none() {
            self.share.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
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

    fn share(max_calls: usize, max: usize) -> Arc<Share> {
        Arc::new(Share::new(max_calls, Arc::new(Room::new(max, None))))
    }

    fn used(share: &Share) -> (usize, usize) {
        (share.calls.load(Ordering::Relaxed), share.room.used())
    }

    #[test]
    fn inv_12_an_answer_keeps_its_place_until_it_is_taken() {
        let share = share(2, MAX_OF_A_CLIENT);
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
        assert_eq!(used(&share), (0, 0));
    }

    #[test]
    fn inv_12_a_call_counts_until_what_was_begun_for_it_is_done() {
        let share = share(1, MAX_OF_A_CLIENT);
        let place = share.enter().unwrap();
        let (one, two) = (place.keep(), place.keep());
        drop((place, one));
        assert!(share.enter().is_none(), "its client hung up, and it is still under way");
        drop(two);
        assert!(share.enter().is_some());
        assert_eq!(used(&share).0, 0);
    }

    #[test]
    fn inv_12_who_does_not_read_its_answers_gets_no_more() {
        let share = share(100, 10);
        let large = share.enter().unwrap().answer("0123456789".into());
        assert!(share.enter().is_none());
        drop(large);
        assert!(share.enter().is_some());
    }

    #[test]
    fn inv_12_also_those_that_were_under_way_get_no_more_than_there_is_room_for() {
        let share = share(100, 10);
        let (one, two, three) = (share.enter().unwrap(), share.enter().unwrap(), share.enter().unwrap());
        assert!(one.make_room(6));
        assert!(!two.make_room(5) && two.make_room(4));
        let told = three.answer("told all the same".into());
        assert_eq!(used(&share).1, 27);
        let (one, two) = (one.answer("012345".into()), two.answer("0123".into()));
        assert_eq!(used(&share).1, 27, "each byte once");
        drop((one, two, told));
        assert_eq!(used(&share), (0, 0));
    }
}
