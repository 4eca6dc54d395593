//! How long one of an account's tokens has for a signature, and whether that is enough to blame it where there is none.

use std::time::Duration;

/// A token that had less than its share of this, or of half of a shorter deadline, is not blamed for what it did not sign: something
/// else took the client's time.
const FAIR: Duration = Duration::from_millis(500);

/// A probe that takes longer has failed, whatever the deadline: the others wait for it.
const LONGEST_PROBE: Duration = Duration::from_secs(8);

/// One token's share of a request's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub within: Duration,
    /// A token that does not sign within this has failed.
    pub is_fair: bool,
}

impl Share {
    /// Of what is left for the next of `rest` tokens, of `tokens` in all: one that hangs leaves time for the others.
    pub(super) fn of(left: Duration, rest: usize, (deadline, tokens): (Duration, usize)) -> Self {
        let within = part(left, rest);
        Self { within, is_fair: within >= part(FAIR.min(part(deadline, 2)), tokens) }
    }

    /// That of a probe, which is one of so many tokens' in a request: what is too slow for requests is so for probes.
    pub(super) fn of_probe(deadline: Duration, tokens: usize) -> Self {
        Self { within: part(LONGEST_PROBE.min(deadline), tokens), is_fair: true }
    }

    /// That of a drill, which nobody but an operator waits for.
    pub(super) fn of_drill(deadline: Duration) -> Self {
        Self { within: deadline, is_fair: true }
    }
}

fn part(whole: Duration, parts: usize) -> Duration {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
    whole.checked_div(parts).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_hangs_leaves_time_for_the_others() {
        let within = |left, rest| Share::of(Duration::from_secs(left), rest, (Duration::MAX, 3)).within;
        assert_eq!([(6, 1), (6, 3), (0, 2)].map(|(left, rest)| within(left, rest).as_secs()), [6, 2, 0]);
    }

    #[test]
    fn a_token_is_blamed_where_it_had_time() {
        let [moment, half, second] = [100, 500, 1000].map(Duration::from_millis);
        let is_fair = |left, deadline, tokens| Share::of(left, 1, (deadline, tokens)).is_fair;
        assert!(is_fair(half, second, 1) && is_fair(half, second.saturating_mul(60), 1));
        assert!(!is_fair(moment, second, 1) && !is_fair(moment, second, 2));
        assert!(is_fair(moment, moment, 1) && is_fair(moment, second, 5), "its share of a short deadline");
    }

    /// Else its breaker, which requests open, would be closed by every probe.
    #[test]
    fn a_probe_has_no_more_time_than_a_request_gives_the_token() {
        for (deadline, tokens, millis) in [(2, 1, 2000), (2, 2, 1000), (60, 1, 8000), (60, 2, 4000)] {
            let share = Share::of_probe(Duration::from_secs(deadline), tokens);
            assert_eq!((share.within.as_millis(), share.is_fair), (millis, true), "{deadline} s, {tokens}");
        }
    }
}
