//! What other processes have reserved, and for how long it was seen so.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A reservation is void at the time that stands in its row. Where the wall clock was set back meanwhile, that time may
/// be hours away; by the clock that nobody sets, a process that is gone is not waited for any longer than one that is slow.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Others {
    seen: BTreeMap<i64, Instant>,
}

impl Others {
    /// Sees what is reserved now by others, oldest first. What was seen for at least `wait` comes back.
    pub(in crate::ledger) fn see(
        &mut self,
        reserved: impl Iterator<Item = i64>,
        now: Instant,
        wait: Duration,
    ) -> Vec<i64> {
        let still = |id| (id, self.seen.get(&id).copied().unwrap_or(now));
        self.seen = reserved.map(still).collect();
        let long = |seen: Instant| now.saturating_duration_since(seen) >= wait;
        self.seen.iter().filter(|(_, seen)| long(**seen)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(8);

    impl Others {
        /// Has all of it be seen for long.
        pub(in crate::ledger) fn expire(&mut self) {
            let long_ago = Instant::now().checked_sub(Duration::from_secs(600)).unwrap();
            self.seen.values_mut().for_each(|seen| *seen = long_ago);
        }
    }

    #[test]
    fn inv_13_what_is_reserved_for_too_long_is_nobodys_whatever_the_wall_clock_says() {
        let (mut others, now) = (Others::default(), Instant::now());
        let later = |seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        assert!(others.see([1, 2].into_iter(), now, WAIT).is_empty());
        assert!(others.see([2, 3].into_iter(), later(7), WAIT).is_empty());
        assert_eq!(
            others.see([1, 2, 3].into_iter(), later(8), WAIT),
            [2],
            "1 was gone, and is another's view"
        );
        assert_eq!(others.see([3].into_iter(), later(15), WAIT), [3]);
    }
}
