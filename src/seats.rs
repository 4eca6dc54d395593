//! So many for each and no more, so that none has what all share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Who has how many. No more entries than seats are taken.
#[derive(Debug)]
pub struct Seats<K> {
    each: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub struct Seat<K: Clone + Eq + Hash> {
    seats: Arc<Seats<K>>,
    of: K,
}

impl<K: Clone + Eq + Hash> Seats<K> {
    pub fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { each, taken: Mutex::default() })
    }

    /// `None` where this one has as many as it may.
    pub fn take(self: &Arc<Self>, of: K) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&of).copied().unwrap_or_default();
        let more = count.checked_add(1).filter(|more| *more <= self.each)?;
        taken.insert(of.clone(), more);
        drop(taken);
        Some(Seat { seats: Arc::clone(self), of })
    }
}

impl<K: Clone + Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.of) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => _ = taken.remove(&self.of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<K> Seats<K> {
        pub fn is_empty(&self) -> bool {
            self.taken.lock().is_ok_and(|taken| taken.is_empty())
        }
    }

    #[test]
    fn inv_12_each_has_its_seats_and_what_is_empty_is_forgotten() {
        let seats = Seats::new(2);
        let (one, two) = (seats.take("a").unwrap(), seats.take("a").unwrap());
        assert!(seats.take("a").is_none());
        assert!(seats.take("b").is_some());
        drop(one);
        assert!(seats.take("a").is_some());
        drop(two);
        assert!(seats.is_empty());
    }
}
