//! Whether a budget has room, and when it has again. Pure: what is spent, a charge and a time in, a decision out.
//!
//! A window is counted in sixtieths, the current one and sixty whole ones before it, so that every rolling window lies
//! within what is counted. A nonce counts once, with the most that any payload recorded there takes; while the chain
//! has not decided of it, it counts whatever its age.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::U256;

use crate::clock::Timestamp;
use crate::ledger::life::State;

/// Whole buckets before the current one.
const WHOLE: u64 = 60;

/// What is spent of one budget by one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Used<P> {
    /// What is spent for good, by bucket.
    pub spent: BTreeMap<u64, U256>,
    /// What payloads take that the chain has not decided of, by the place for which they compete: a nonce, or a
    /// message's own.
    pub open: BTreeMap<P, U256>,
}

/// Why a charge does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Over {
    pub left: U256,
    /// When there is room if nothing else is spent; never by itself where open payloads or the limit stand against it.
    pub room_in: Option<Duration>,
}

/// What becomes of a payload's charges when its state changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Fate {
    /// The chain has not decided: they count whatever their age.
    Open,
    /// They count from their record on until they leave the window.
    Spent,
    /// They do not count: nothing was signed, or another payload at its nonce is final.
    Released,
}

/// A refusal by a node releases nothing: it may be lying, or late.
pub(in crate::ledger) const fn fate(state: State, has_nonce: bool) -> Fate {
    match state {
        State::Void | State::Replaced => Fate::Released,
        State::Final => Fate::Spent,
        // What has no nonce is out when it is recorded.
        State::Recorded | State::Outbid | State::Vacant if !has_nonce => Fate::Spent,
        State::Reserved | State::Recorded | State::Outbid | State::Vacant => Fate::Open,
    }
}

/// The bucket of a time.
pub(in crate::ledger) fn bucket(at: Timestamp, window: Duration) -> u64 {
    at.millis().checked_div(width(window)).unwrap_or_default()
}

/// The oldest bucket that still counts.
pub(in crate::ledger) fn oldest(now: Timestamp, window: Duration) -> u64 {
    bucket(now, window).saturating_sub(WHOLE)
}

/// When a bucket counts no longer.
fn leaves(bucket: u64, window: Duration) -> Timestamp {
    let end = bucket.saturating_add(WHOLE).saturating_add(1).saturating_mul(width(window));
    Timestamp::from_millis(end)
}

/// Milliseconds of a bucket: a sixtieth of the window, rounded up.
fn width(window: Duration) -> u64 {
    u64::try_from(window.as_millis().div_ceil(u128::from(WHOLE))).unwrap_or(u64::MAX).max(1)
}

impl<P: Ord> Default for Used<P> {
    fn default() -> Self {
        Self { spent: BTreeMap::new(), open: BTreeMap::new() }
    }
}

impl<P: Ord> Used<P> {
    /// What counts now.
    pub(in crate::ledger) fn total(&self, now: Timestamp, window: Duration) -> U256 {
        let spent = self.spent.range(oldest(now, window)..).map(|(_, amount)| *amount);
        spent.chain(self.open.values().copied()).fold(U256::ZERO, U256::saturating_add)
    }

    /// Puts a payload's amount at its place; of several at one place the largest counts.
    pub(in crate::ledger) fn open(&mut self, place: P, amount: U256) {
        let there = self.open.entry(place).or_default();
        *there = amount.max(*there);
    }

    /// Whether `amount` at `place` fits under `max`.
    pub(in crate::ledger) fn admit(
        &self,
        place: &P,
        amount: U256,
        (max, window): (U256, Duration),
        now: Timestamp,
    ) -> Result<(), Over> {
        // At a nonce that is charged already, only what goes beyond that is new.
        let there = self.open.get(place).copied().unwrap_or_default();
        let more = amount.saturating_sub(there);
        let left = max.saturating_sub(self.total(now, window));
        if more <= left {
            return Ok(());
        }
        Err(Over { left, room_in: self.room_in(more, (max, window), now) })
    }

    /// When the oldest of what is spent leaves the window.
    pub(in crate::ledger) fn next_frees(&self, now: Timestamp, window: Duration) -> Option<Duration> {
        let (bucket, _) = self.spent.range(oldest(now, window)..).next()?;
        Some(leaves(*bucket, window).since(now))
    }

    /// How long until `more` fits, as what is spent leaves the window.
    fn room_in(&self, more: U256, (max, window): (U256, Duration), now: Timestamp) -> Option<Duration> {
        let mut total = self.total(now, window);
        let fits = |total: U256| total.checked_add(more).is_some_and(|sum| sum <= max);
        for (bucket, amount) in self.spent.range(oldest(now, window)..) {
            total = total.saturating_sub(*amount);
            if fits(total) {
                return Some(leaves(*bucket, window).since(now));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, and fails")]

    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn n(number: u64) -> U256 {
        U256::from(number)
    }

    #[test]
    fn a_bucket_counts_until_the_whole_of_it_has_left_the_window() {
        let mut used = Used::<u64>::default();
        used.spent.insert(bucket(at(90), HOUR), n(7));
        // The bucket of second 90 is that of the second minute; the window is an hour.
        assert_eq!(used.total(at(3719), HOUR), n(7), "an hour and 29 s after the bucket's end");
        assert_eq!(used.total(at(3720), HOUR), U256::ZERO);
        let over = used.admit(&1, n(4), (n(10), HOUR), at(200)).unwrap_err();
        assert_eq!(over, Over { left: n(3), room_in: Some(Duration::from_secs(3720 - 200)) });
        used.admit(&1, n(4), (n(10), HOUR), at(3720)).unwrap();
    }

    #[test]
    fn an_open_nonce_counts_once_with_its_most_and_whatever_its_age() {
        let mut used = Used::<u64>::default();
        used.open(5, n(6));
        used.open(5, n(4));
        assert_eq!(used.total(at(10_000_000), MINUTE), n(6));
        used.admit(&5, n(10), (n(10), MINUTE), at(0)).expect("only what goes beyond 6 is new");
        let over = used.admit(&6, n(5), (n(10), MINUTE), at(0)).unwrap_err();
        assert_eq!(over, Over { left: n(4), room_in: None }, "nobody knows when it is decided");
    }

    #[test]
    fn what_is_over_the_limit_never_fits_and_nothing_overflows() {
        let mut used = Used::<u64>::default();
        assert_eq!(used.admit(&1, n(11), (n(10), HOUR), at(0)), Err(Over { left: n(10), room_in: None }));
        used.open(1, U256::MAX);
        used.open(2, U256::MAX);
        assert_eq!(used.total(at(0), HOUR), U256::MAX);
        assert!(used.admit(&3, U256::ONE, (U256::MAX, HOUR), at(0)).is_err());
        assert!(
            used.admit(&3, U256::ZERO, (U256::ZERO, HOUR), at(0)).is_ok(),
            "what takes nothing is no matter"
        );
    }

    #[test]
    fn inv_10_a_refusal_by_a_node_releases_nothing() {
        for state in State::ALL {
            let released = matches!(state, State::Void | State::Replaced);
            assert_eq!(fate(state, true) == Fate::Released, released, "{state:?}");
            assert_eq!(fate(state, false) == Fate::Released, released, "{state:?}");
        }
        assert_eq!(fate(State::Vacant, true), Fate::Open);
        assert_eq!(fate(State::Recorded, false), Fate::Spent, "a message is out");
    }

    /// One thing that happens to a budget.
    #[derive(Clone, Debug)]
    enum Step {
        /// Some of a budget of 100 is wanted for a nonce.
        Ask { nonce: u64, amount: u64 },
        /// The chain decides of the oldest open nonce: what was recorded there is final, or something else is.
        Decide { ours: bool },
        /// Time passes, by the steady clock.
        Pass(u64),
        /// Somebody sets the wall clock.
        Set(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0_u64..6, 1_u64..60).prop_map(|(nonce, amount)| Step::Ask { nonce, amount }),
            3 => any::<bool>().prop_map(|ours| Step::Decide { ours }),
            3 => (0_u64..90).prop_map(Step::Pass),
            1 => (-7200_i64..7200).prop_map(Step::Set),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Every recorded payload counts from its record on, by the true time, and a nonce counts once.
        #[test]
        fn inv_03_no_rolling_window_holds_more_than_the_limit(steps in prop::collection::vec(step(), 1..80)) {
            let (limit, mut used) = (n(100), Used::<u64>::default());
            let (mut steady, mut wall, mut mark) = (1_000_000_u64, 1_000_000_u64, 0_u64);
            // What was recorded: at which true time, for which nonce, how much; and what the ledger stamped.
            let mut recorded: Vec<(u64, u64, u64, u64)> = Vec::new();
            let mut done: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Ask { nonce, amount } if !done.contains(&nonce) => {
                        // The two times of a group: stamps are never behind the true time, windows never ahead.
                        mark = mark.max(wall);
                        let stamp = mark.max(steady);
                        let window_time = at(wall.min(steady));
                        if used.admit(&nonce, n(amount), (limit, MINUTE), window_time).is_ok() {
                            used.open(nonce, n(amount));
                            recorded.push((steady, nonce, amount, stamp));
                        }
                    }
                    Step::Ask { .. } => {}
                    Step::Decide { ours } => {
                        let Some((nonce, _)) = used.open.pop_first() else { continue };
                        done.push(nonce);
                        if ours {
                            // The last one recorded there is mined; the others never will be.
                            let last = *recorded.iter().rev().find(|(_, other, ..)| *other == nonce).unwrap();
                            recorded.retain(|(_, other, ..)| *other != nonce);
                            recorded.push(last);
                            *used.spent.entry(bucket(at(last.3), MINUTE)).or_default() += n(last.2);
                        } else {
                            recorded.retain(|(_, other, ..)| *other != nonce);
                        }
                    }
                    Step::Pass(seconds) => {
                        steady += seconds;
                        wall += seconds;
                    }
                    Step::Set(by) => wall = wall.saturating_add_signed(by),
                }
                // Whatever minute ends at a record, counted by the true time, holds no more than the limit.
                for (end, ..) in &recorded {
                    let mut most = BTreeMap::<u64, u64>::new();
                    for (when, nonce, amount, _) in &recorded {
                        if when <= end && when + 60 > *end {
                            let there = most.entry(*nonce).or_default();
                            *there = *amount.max(there);
                        }
                    }
                    prop_assert!(most.values().sum::<u64>() <= 100, "{most:?}");
                }
            }
        }
    }
}
