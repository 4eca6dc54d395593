//! The trust that holds now: one snapshot for both listeners, with a generation that is asked of every request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::listener::gatekeeper::Vetted;
use crate::listener::sources::{Sources, Stamp};
use crate::listener::tls::{Entrance, Snapshot, TlsError, fingerprint};

/// Who may connect. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub struct Trust(pub(in crate::listener) Arc<Inner>);

#[derive(Debug)]
pub(in crate::listener) struct Inner {
    pub sources: Sources,
    pub clock: Clock,
    current: ArcSwap<Snapshot>,
    /// Of `current`, stored after it: a request that sees the new number finds the new snapshot.
    generation: AtomicU64,
    /// Sends each new generation to those who wait on open connections.
    changes: watch::Sender<u64>,
    /// Held while the files are read, so that two reloads cannot cross.
    last: Mutex<Attempt>,
}

/// One reading of the files, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Why they were not taken; then the rest is what holds on.
    pub refused: Option<String>,
    pub generation: u64,
    /// SHA-256, in hexadecimal: of the server's certificate, and by issuer of its CAs and its revocation lists.
    pub server: String,
    pub cas: BTreeMap<String, Vec<String>>,
    pub lists: BTreeMap<String, Vec<String>>,
    pub people: Vec<String>,
}

/// The last time that the files were read.
#[derive(Debug)]
struct Attempt {
    /// What they looked like before that: whatever is written while they are read makes them look new.
    stamp: Stamp,
    /// Why they were not taken.
    trouble: Option<String>,
    /// What nobody has asked for yet.
    readings: VecDeque<Reading>,
}

/// Readings that wait to be asked for; of more the oldest are forgotten.
const MAX_READINGS: usize = 64;

/// One listener's side of TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(in crate::listener) trust: Trust,
    pub(in crate::listener) entrance: Entrance,
}

impl Trust {
    pub fn load(sources: Sources, clock: Clock) -> Result<Self, TlsError> {
        let stamp = sources.stamp();
        let first = Snapshot::load(&sources, &clock, None)?;
        let last = Mutex::new(Attempt { stamp, trouble: None, readings: [Reading::of(&first, None)].into() });
        let generation = AtomicU64::new(first.generation);
        let changes = watch::Sender::new(first.generation);
        let current = ArcSwap::from_pointee(first);
        Ok(Self(Arc::new(Inner { sources, clock, current, generation, changes, last })))
    }

    pub const fn door(self, entrance: Entrance) -> Tls {
        Tls { trust: self, entrance }
    }

    /// Reads all files again; if anything is wrong with any of them, nothing changes.
    pub fn reload(&self) -> Result<(), TlsError> {
        let inner = &*self.0;
        let mut last = inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.stamp = inner.sources.stamp();
        let next = Snapshot::load(&inner.sources, &inner.clock, Some(&inner.current.load())).map(Arc::new);
        let result = if next.is_ok() { "ok" } else { "failed" };
        metrics::counter!("chancery_trust_reloads_total", "result" => result).increment(1);
        metrics::gauge!("chancery_trust_stale").set(if next.is_ok() { 0.0 } else { 1.0 });
        let trouble = next.as_ref().err().map(ToString::to_string);
        if next.is_ok() || trouble != last.trouble {
            let holds = next.as_ref().map_or_else(|_| inner.current.load_full(), Arc::clone);
            if last.readings.len() >= MAX_READINGS {
                tracing::warn!("certificates are read again more often than can be written down");
                last.readings.pop_front();
            }
            last.readings.push_back(Reading::of(&holds, trouble.clone()));
        }
        last.trouble = trouble;
        let next = next?;
        let generation = next.generation;
        inner.current.store(next);
        inner.generation.store(generation, Ordering::Release);
        inner.changes.send_replace(generation);
        drop(last);
        Ok(())
    }

    /// Why what is in use is not what stands in the files, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// What was read since this was asked last; each is told once.
    pub fn take_readings(&self) -> VecDeque<Reading> {
        std::mem::take(&mut self.0.last.lock().unwrap_or_else(PoisonError::into_inner).readings)
    }

    /// Whether files that look so were read already.
    pub(in crate::listener) fn has_tried(&self, stamp: &Stamp) -> bool {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).stamp == *stamp
    }

    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    pub(in crate::listener) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl Reading {
    fn of(holds: &Snapshot, refused: Option<String>) -> Self {
        let keeper = &holds.keeper;
        let by_issuer = |of: fn(&Vetted) -> Vec<String>| {
            keeper.issuers.iter().map(|issuer| (issuer.name.clone(), of(issuer))).collect()
        };
        let mut people: Vec<_> = keeper.people.people().map(|person| person.name().to_owned()).collect();
        people.sort_unstable();
        Self {
            refused,
            generation: holds.generation,
            server: holds.server.clone(),
            cas: by_issuer(|issuer| issuer.cas.clone()),
            lists: by_issuer(|issuer| issuer.crls.iter().map(|crl| fingerprint(&crl.der)).collect()),
            people,
        }
    }
}
