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
    /// Sees what is reserved now by others, each with the time that it has. What was seen for that long comes back.
    pub(in crate::ledger) fn see(
        &mut self,
        reserved: impl Iterator<Item = (i64, Duration)>,
        now: Instant,
    ) -> Vec<i64> {
        let mut long = Vec::new();
        let still = |(id, span)| {
            let seen = self.seen.get(&id).copied().unwrap_or(now);
            if now.saturating_duration_since(seen) >= span {
                long.push(id);
            }
            (id, seen)
        };
        self.seen = reserved.map(still).collect();
        long
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
        let all = |ids: &[i64]| ids.iter().map(|id| (*id, WAIT)).collect::<Vec<_>>().into_iter();
        assert!(others.see(all(&[1, 2]), now).is_empty());
        assert!(others.see(all(&[2, 3]), later(7)).is_empty());
        assert_eq!(others.see(all(&[1, 2, 3]), later(8)), [2], "1 was gone in between");
        assert!(others.see([(3, WAIT.saturating_mul(2))].into_iter(), later(15)).is_empty(), "it has longer");
        assert_eq!(others.see(all(&[3]), later(15)), [3]);
    }
}
