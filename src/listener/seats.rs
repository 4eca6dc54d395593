//! How many connections one client or one address has open, so that none can have them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Who sits where. No more entries than connections.
#[derive(Debug)]
pub(in crate::listener) struct Seats<K> {
    each: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub(in crate::listener) struct Seat<K: Clone + Eq + Hash> {
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

/// What counts as one address: of IPv6 the network of 64 bits, in which one machine has as many as it likes.
pub(in crate::listener) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_12_each_has_its_seats_and_what_is_empty_is_forgotten() {
        let seats = Seats::new(2);
        let (one, two) = (seats.take("a").unwrap(), seats.take("a").unwrap());
        assert!(seats.take("a").is_none());
        assert!(seats.take("b").is_some());
        drop(one);
        assert!(seats.take("a").is_some());
        drop(two);
        assert!(seats.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn one_machine_is_one_address() {
        let of = |address: &str| household(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
