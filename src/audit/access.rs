//! Who came to which listener, in few rows: a client once in an hour, all strangers together, and ever more rarely
//! while they go on.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::{Access, Ledger, Note};
use crate::listener::{Visitors, Visits};

/// A name that goes on coming gets one row in this time; a new one gets its row at once.
const EVERY: Duration = Duration::from_secs(3600);

/// Between two rows about strangers: doubled from one row to the next, until they stay away for as long.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(3600);

/// Rows that wait for a ledger that cannot be written.
const WAITING: usize = 256;

/// The listeners that are watched.
#[derive(Debug, Default)]
pub struct Doors {
    doors: Vec<Door>,
    waiting: VecDeque<Access>,
}

#[derive(Debug)]
struct Door {
    name: &'static str,
    visitors: Visitors,
    /// When each name was told of last. As many as the configuration has names.
    told: HashMap<String, Instant>,
    strangers: Pace,
}

/// When strangers may be told of again.
#[derive(Debug)]
struct Pace {
    next: Option<Instant>,
    wait: Duration,
}

impl Doors {
    #[must_use]
    pub fn with(mut self, name: &'static str, visitors: Visitors) -> Self {
        let strangers = Pace { next: None, wait: SOONEST };
        self.doors.push(Door { name, visitors, told: HashMap::new(), strangers });
        self
    }

    /// Writes what is due; with `all`, everything that was counted.
    pub(super) async fn tell(&mut self, ledger: &Ledger, all: bool) {
        let now = Instant::now();
        for door in &mut self.doors {
            self.waiting.extend(door.due(now, all));
        }
        while self.waiting.len() > WAITING {
            tracing::warn!(row = ?self.waiting.pop_front(), "an audit row is lost: the ledger cannot be written");
        }
        while let Some(row) = self.waiting.front() {
            if ledger.note(Note::Access(row.clone())).await.is_err() {
                break;
            }
            self.waiting.pop_front();
        }
    }
}

impl Door {
    fn due(&mut self, now: Instant, all: bool) -> Vec<Access> {
        let told = &self.told;
        let rests = |name: &str| told.get(name).is_some_and(|at| now.saturating_duration_since(*at) < EVERY);
        let arrived = self.visitors.take_arrived(|name| all || !rests(name));
        let mut rows = Vec::with_capacity(arrived.len());
        for (name, visits) in arrived {
            self.told.insert(name.clone(), now);
            rows.push(self.row("connected", Some(name), visits));
        }
        if all || self.strangers.is_due(now) {
            let refused = self.visitors.take_refused();
            self.strangers.looked(now, refused.is_some());
            rows.extend(refused.map(|visits| self.row("refused", None, visits)));
        }
        rows
    }

    fn row(&self, what: &'static str, who: Option<String>, visits: Visits) -> Access {
        Access {
            listener: self.name,
            what,
            who,
            identity: visits.identity,
            since: visits.since.to_string(),
            count: visits.count,
            reasons: visits.reasons,
            from: visits.from.into_iter().map(|(address, count)| (address.to_string(), count)).collect(),
            others: visits.others,
        }
    }
}

impl Pace {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    fn looked(&mut self, now: Instant, came: bool) {
        if came {
            self.next = now.checked_add(self.wait);
            self.wait = self.wait.saturating_mul(2).min(LATEST);
        } else {
            self.wait = SOONEST;
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_12_strangers_who_never_stop_get_a_row_an_hour() {
        let (mut pace, start) = (Pace { next: None, wait: SOONEST }, Instant::now());
        let mut rows = Vec::new();
        for second in 0..24 * 3600 {
            let now = start + Duration::from_secs(second);
            if pace.is_due(now) {
                pace.looked(now, true);
                rows.push(second);
            }
        }
        assert_eq!(rows[..4], [0, 60, 180, 420]);
        assert!(rows.len() < 32, "{rows:?}");
        // They stay away, and come again: told at once.
        pace.looked(start + Duration::from_secs(100_000), false);
        assert!(pace.is_due(start + Duration::from_secs(100_001)));
        assert_eq!(pace.wait, SOONEST);
    }
}
