//! How many connections one client has open, so that none can have them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Who sits where. By the certificate's name; names come from the configuration, so there are few.
#[derive(Debug)]
pub(in crate::listener) struct Seats {
    each: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub(in crate::listener) struct Seat {
    seats: Arc<Seats>,
    identity: String,
}

impl Seats {
    pub fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { each, taken: Mutex::default() })
    }

    /// `None` where this one has as many as it may.
    pub fn take(self: &Arc<Self>, identity: &str) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(identity.to_owned()).or_default();
        let more = count.checked_add(1).filter(|more| *more <= self.each)?;
        *count = more;
        drop(taken);
        Some(Seat { seats: Arc::clone(self), identity: identity.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.identity) {
            *count = count.saturating_sub(1);
        }
    }
}
