//! How many rows one client's refusals may make: some at once, then a trickle; what is beyond that is counted, and
//! told in one row. Nobody who may connect can fill the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::note::Refusals;

/// Rows that a client's refusals may make at once.
const BURST: u32 = 100;

/// How often one more is allowed after that: with 8 KiB a row, below 60 MB a day.
const REFILL: Duration = Duration::from_secs(12);

/// Every client's refusals. Clients come from the configuration, causes from a table: both are few.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Tally(Mutex<HashMap<String, Book>>);

#[derive(Debug)]
struct Book {
    left: u32,
    refilled: Instant,
    causes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Whether this refusal may have a row of its own; otherwise it is counted.
    pub(in crate::ledger) fn admits(&self, client: &str, cause: &'static str, now: Instant) -> bool {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !books.contains_key(client) {
            let book = Book { left: BURST, refilled: now, causes: BTreeMap::new() };
            books.insert(client.to_owned(), book);
        }
        let Some(book) = books.get_mut(client) else { return true };
        book.refill(now);
        if let Some(left) = book.left.checked_sub(1) {
            book.left = left;
            return true;
        }
        book.count(cause, 1);
        false
    }

    /// Counts what could not be written.
    pub(in crate::ledger) fn count(
        &self,
        client: &str,
        causes: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let book = books.entry(client.to_owned()).or_insert_with(|| Book {
            left: 0,
            refilled: now,
            causes: BTreeMap::new(),
        });
        for (cause, number) in causes {
            book.count(cause, number);
        }
    }

    /// What was counted since the last time, a row for each client.
    pub(in crate::ledger) fn take(&self) -> Vec<Refusals> {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = books.iter_mut().filter(|(_, book)| !book.causes.is_empty());
        let told = counted.map(|(client, book)| {
            let causes = std::mem::take(&mut book.causes);
            Refusals { client: client.clone(), count: causes.values().sum(), causes }
        });
        told.collect()
    }
}

impl Book {
    fn refill(&mut self, now: Instant) {
        let whole = now
            .saturating_duration_since(self.refilled)
            .as_millis()
            .checked_div(REFILL.as_millis())
            .unwrap_or(0);
        let more = u32::try_from(whole).unwrap_or(u32::MAX).min(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
    }

    fn count(&mut self, cause: &'static str, number: u64) {
        let counted = self.causes.entry(cause).or_default();
        *counted = counted.saturating_add(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_12_a_client_gets_a_bounded_number_of_rows_and_the_rest_is_counted() {
        let (tally, now) = (Tally::default(), Instant::now());
        let admitted = |number, client, now| {
            (0..number).filter(|_| tally.admits(client, "transaction_denied", now)).count()
        };
        assert_eq!(admitted(5000, "mallory", now), 100);
        assert_eq!(admitted(1, "alice", now), 1, "each client has its own");
        let [told] = <[_; 1]>::try_from(tally.take()).unwrap();
        assert_eq!((told.client.as_str(), told.count), ("mallory", 4900));
        assert_eq!(told.causes, [("transaction_denied", 4900)].into());
        assert!(tally.take().is_empty(), "what was told is not told again");
        assert_eq!(admitted(10, "mallory", now + REFILL * 3), 3);
        assert_eq!(admitted(500, "mallory", now + REFILL * 1000), 100, "never more than at first");
    }
}
