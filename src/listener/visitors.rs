//! Who came to a listener, counted until somebody asks: bounded, whoever knocks and however often.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Timestamp};
use crate::identity::Person;

/// Addresses that are told apart in one count.
const ADDRESSES: usize = 16;

/// The visits to one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Visitors {
    clock: Clock,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    /// By the name of the client or operator: no more than the configuration has.
    arrived: BTreeMap<String, Visits>,
    refused: Option<Visits>,
}

/// Visits of one kind since they were last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visits {
    /// The name in the certificate; nothing for those who were refused.
    pub identity: Option<String>,
    pub since: Timestamp,
    pub count: u64,
    /// Why they were refused, out of a fixed set.
    pub reasons: BTreeMap<&'static str, u64>,
    pub from: BTreeMap<IpAddr, u64>,
    /// Visits from further addresses.
    pub others: u64,
}

impl Visitors {
    pub fn new(clock: Clock) -> Self {
        Self { clock, counted: Arc::default() }
    }

    pub(in crate::listener) fn arrived(&self, person: &Person, identity: &str, remote: SocketAddr) {
        let name = match person {
            Person::Client(client) => &client.name,
            Person::Operator(operator) => &operator.name,
        };
        let since = self.clock.now();
        let mut counted = self.lock();
        let visits = counted.arrived.entry(name.clone()).or_insert_with(|| Visits::new(since));
        visits.identity.get_or_insert_with(|| identity.to_owned());
        visits.count(remote.ip());
    }

    pub(in crate::listener) fn refused(&self, remote: SocketAddr, reason: &'static str) {
        let since = self.clock.now();
        let mut counted = self.lock();
        let visits = counted.refused.get_or_insert_with(|| Visits::new(since));
        visits.count(remote.ip());
        add(visits.reasons.entry(reason).or_default());
    }

    /// Those whose names `wanted` takes, and forgets them.
    pub fn take_arrived(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Visits)> {
        self.lock().arrived.extract_if(.., |name, _| wanted(name)).collect()
    }

    /// Those who were refused, all together, and forgets them.
    pub fn take_refused(&self) -> Option<Visits> {
        self.lock().refused.take()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visits {
    const fn new(since: Timestamp) -> Self {
        Self { identity: None, since, count: 0, reasons: BTreeMap::new(), from: BTreeMap::new(), others: 0 }
    }

    fn count(&mut self, from: IpAddr) {
        add(&mut self.count);
        if self.from.len() < ADDRESSES || self.from.contains_key(&from) {
            add(self.from.entry(from).or_default());
        } else {
            add(&mut self.others);
        }
    }
}

const fn add(number: &mut u64) {
    *number = number.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_12_a_million_strangers_are_one_count() {
        let visitors = Visitors::new(Clock::set_to(Timestamp::from_millis(7)));
        for number in 0..100_000_u32 {
            let from = SocketAddr::from((number.to_be_bytes(), 1));
            visitors.refused(from, if number % 2 == 0 { "no_certificate" } else { "handshake" });
        }
        let visits = visitors.take_refused().unwrap();
        assert_eq!((visits.count, visits.from.len(), visits.others), (100_000, 16, 99_984));
        assert_eq!(visits.reasons, [("no_certificate", 50_000), ("handshake", 50_000)].into());
        assert_eq!(visitors.take_refused(), None);
    }
}
