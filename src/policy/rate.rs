//! `[[rate]]`: how often something may be asked of this process. Apart from the decision, which is pure.
//!
//! A strict count over all replicas is a budget; a rate only slows down. It takes `max` requests at once and then
//! one each `window / max`. What is denied, by the policy or by another rate, is not counted.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::Facts;
use crate::policy::scope::{Reach, Scope};
use crate::policy::wrapper::Whole;

/// How many keys one rate remembers. Keys that are as good as new are forgotten first; over it a new key waits.
const MAX_KEYS: usize = 65_536;

/// One `[[rate]]` as it is meant.
#[derive(Debug)]
pub(in crate::policy) struct Rate {
    pub id: String,
    pub max: NonZeroU32,
    pub window: Duration,
    pub reach: Reach,
}

/// All rates of a policy, and what was counted for them.
pub(in crate::policy) struct Rates<C: Clock = MonotonicClock> {
    limiters: Vec<Limiter<C>>,
    clock: C,
    /// Held while all rates of one request are charged, so that it is all of them or none.
    charging: Mutex<()>,
}

struct Limiter<C: Clock> {
    rate: Rate,
    governor: RateLimiter<Scope, Counts, C, NoOpMiddleware<C::Instant>>,
    /// The governor's own, to look at and to put back.
    counts: Counts,
}

/// A count of one rate.
#[derive(Debug)]
struct Due {
    at: usize,
    scope: Scope,
    times: NonZeroU32,
}

/// Governor's state, from which a charge can be taken back.
#[derive(Clone, Debug, Default)]
struct Counts(Arc<Mutex<HashMap<Scope, Nanos>>>);

/// How long to wait where the table is full of keys in use.
const FULL: Duration = Duration::from_secs(1);

/// How long somebody who sits before a tool may be left waiting by it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Rates {
    pub fn new(rates: Vec<Rate>) -> Self {
        Self::with_clock(rates, MonotonicClock)
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn with_clock(rates: Vec<Rate>, clock: C) -> Self {
        let limiter = |rate: Rate| {
            let counts = Counts::default();
            let step = rate.window.checked_div(rate.max.get())?;
            let quota = Quota::with_period(step)?.allow_burst(rate.max);
            Some(Limiter { rate, governor: RateLimiter::new(quota, counts.clone(), clock.clone()), counts })
        };
        // A window of no time, the one thing a quota cannot be made of, is refused when the policy is read.
        Self { limiters: rates.into_iter().filter_map(limiter).collect(), clock, charging: Mutex::default() }
    }

    pub fn each(&self) -> impl Iterator<Item = &Rate> {
        self.limiters.iter().map(|limiter| &limiter.rate)
    }

    pub const fn len(&self) -> usize {
        self.limiters.len()
    }

    /// Counts a request, and each call that it carries under the rule that allows it, on every rate that covers it; or on
    /// none.
    pub fn charge(&self, whole: &Whole<'_>, rules: &[Arc<str>]) -> Result<(), Denied> {
        let due = self.due(whole, rules);
        if due.is_empty() {
            return Ok(());
        }
        let Some(payload) = whole.payload() else { return Ok(()) };
        let _charging = lock(&self.charging);
        let mut charged = Vec::new();
        for Due { at, scope, times } in due {
            let Some(limiter) = self.limiters.get(at) else { continue };
            let before = limiter.counts.of(&scope);
            if let Err(retry_after) = limiter.charge(&scope, times, &self.clock) {
                for (counts, scope, before) in charged {
                    Counts::put_back(counts, scope, before);
                }
                return Err(limiter.rate.denied(payload, times, retry_after));
            }
            charged.push((&limiter.counts, scope, before));
        }
        Ok(())
    }

    /// On which counts it is to be counted, each once.
    fn due(&self, whole: &Whole<'_>, rules: &[Arc<str>]) -> Vec<Due> {
        let mut due = Vec::<Due>::new();
        for (facts, rule) in whole.each().zip(rules) {
            for (at, limiter) in self.limiters.iter().enumerate() {
                if !limiter.rate.reach.covers(facts) {
                    continue;
                }
                let scope = limiter.rate.reach.scope(facts, rule);
                match due.iter_mut().find(|due| due.at == at && due.scope == scope) {
                    Some(due) => due.times = due.times.saturating_add(1),
                    None => due.push(Due { at, scope, times: NonZeroU32::MIN }),
                }
            }
        }
        due
    }
}

impl<C: Clock> Limiter<C> {
    /// Or how long to wait; no wait is long enough for more than `max`.
    fn charge(&self, scope: &Scope, times: NonZeroU32, clock: &C) -> Result<(), Option<Duration>> {
        if self.counts.is_full_for(scope) {
            self.governor.retain_recent();
            if self.counts.is_full_for(scope) {
                return Err(Some(FULL));
            }
        }
        match self.governor.check_key_n(scope, times) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Some(until.wait_time_from(clock.now()))),
            Err(_) => Err(None),
        }
    }
}

impl Rate {
    fn denied(&self, facts: &Facts<'_>, times: NonZeroU32, retry_after: Option<Duration>) -> Denied {
        let (client, what) = (facts.client, facts.describe());
        let rate = format!("rate `{}` ({} in {} s)", self.id, self.max, self.window.as_secs_f64());
        let sentence = match retry_after {
            Some(wait) => {
                let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
                // Foundry reads "try again in" and waits for as long, without a word to its user.
                let when = if wait <= PATIENCE { "try again in" } else { "there is room again after" };
                format!(
                    "client `{client}` may {what}, but has used up {rate}; nothing was signed, {when} {seconds} s"
                )
            }
            None => format!(
                "client `{client}` may {what}, but it counts {times} times on {rate}, at once; send it in several parts"
            ),
        };
        Denied::new(DenialCause::Rate { retry_after }, sentence).by(&self.id, None)
    }
}

impl Counts {
    fn of(&self, scope: &Scope) -> Option<Nanos> {
        lock(&self.0).get(scope).copied()
    }

    fn is_full_for(&self, scope: &Scope) -> bool {
        let counts = lock(&self.0);
        counts.len() >= MAX_KEYS && !counts.contains_key(scope)
    }

    fn put_back(&self, scope: Scope, before: Option<Nanos>) {
        let mut counts = lock(&self.0);
        match before {
            Some(before) => counts.insert(scope, before),
            None => counts.remove(&scope),
        };
    }
}

impl StateStore for Counts {
    type Key = Scope;

    fn measure_and_replace<T, F, E>(&self, key: &Scope, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut counts = lock(&self.0);
        let (done, after) = f(counts.get(key).copied())?;
        counts.insert(key.clone(), after);
        Ok(done)
    }
}

impl ShrinkableKeyedStateStore<Scope> for Counts {
    fn retain_recent(&self, drop_below: Nanos) {
        lock(&self.0).retain(|_, at| *at > drop_below);
    }

    fn len(&self) -> usize {
        lock(&self.0).len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<C: Clock> fmt::Debug for Rates<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.limiters.iter().map(|limiter| &limiter.rate)).finish()
    }
}

/// Nothing that holds these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::Evidence;
    use crate::policy::decide::Policy;
    use crate::policy::judged::facts;
    use crate::policy::scope::Per;
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, PAY, caller, policy, transaction, transfer};
    use crate::transaction::Tx;

    fn rate(id: &str, max: u32, window: u64, per: &[Per]) -> Rate {
        let window = Duration::from_secs(window);
        let max = NonZeroU32::new(max).unwrap();
        Rate { id: id.to_owned(), max, window, reach: Reach { per: per.to_vec(), ..Reach::default() } }
    }

    fn charge(rates: &Rates<FakeRelativeClock>, who: &str, rule: &str) -> Result<(), Denied> {
        let policy = Policy::default();
        let (caller, asked) = (caller(who), transaction(&json!({ "data": transfer(ALICE, 1) })));
        let moment = Timestamp::from_millis(0).into();
        let facts = facts::<Tx>(&caller, &asked, &policy.book, &moment);
        rates.charge(&Whole::open(facts, &policy.wrappers), &[Arc::from(rule)])
    }

    #[test]
    fn a_rate_takes_its_number_and_says_when_there_is_room_again() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(vec![rate("sends", 2, 60, &[Per::Client])], clock.clone());
        charge(&rates, "ann", "pay").unwrap();
        charge(&rates, "ann", "pay").unwrap();
        let denied = charge(&rates, "ann", "pay").unwrap_err();
        assert_eq!(denied.cause, DenialCause::Rate { retry_after: Some(Duration::from_secs(30)) });
        assert_eq!(denied.rule.as_deref(), Some("sends"));
        charge(&rates, "ben", "pay").expect("another client has a count of its own");
        clock.advance(Duration::from_secs(30));
        charge(&rates, "ann", "pay").unwrap();
        assert!(charge(&rates, "ann", "pay").is_err());
    }

    #[test]
    fn no_tool_is_told_to_wait_for_long() {
        for (window, told) in [(10, true), (3600, false)] {
            let rates = Rates::with_clock(vec![rate("once", 1, window, &[])], FakeRelativeClock::default());
            charge(&rates, "ann", "pay").unwrap();
            let said = charge(&rates, "ann", "pay").unwrap_err().sentence;
            assert_eq!(said.contains("try again in"), told, "{said}");
            assert!(said.ends_with(&format!("{window} s")), "{said}");
        }
    }

    #[test]
    fn what_one_rate_denies_no_other_counts() {
        let clock = FakeRelativeClock::default();
        let both = vec![rate("many", 3, 60, &[]), rate("one-a-rule", 1, 60, &[Per::Rule])];
        let rates = Rates::with_clock(both, clock);
        charge(&rates, "ann", "pay").unwrap();
        for _ in 0..5 {
            assert_eq!(charge(&rates, "ann", "pay").unwrap_err().rule.as_deref(), Some("one-a-rule"));
        }
        charge(&rates, "ann", "swap").unwrap();
        charge(&rates, "ann", "mint").expect("the five that were denied left room for the third");
        assert_eq!(charge(&rates, "ann", "burn").unwrap_err().rule.as_deref(), Some("many"));
    }

    #[test]
    fn keys_are_bounded_and_stale_ones_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(vec![rate("r", 1, 60, &[Per::Rule])], clock.clone());
        for n in 0..MAX_KEYS {
            rates.limiters[0].counts.put_back(
                Scope { rule: Some(n.to_string().into()), ..Scope::default() },
                Some(Nanos::from(Duration::from_secs(60))),
            );
        }
        let full = charge(&rates, "ann", "new").unwrap_err();
        assert_eq!(full.cause, DenialCause::Rate { retry_after: Some(FULL) });
        clock.advance(Duration::from_secs(121));
        charge(&rates, "ann", "new").unwrap();
        assert_eq!(rates.limiters[0].counts.len(), 1);
    }

    #[test]
    fn only_what_is_permitted_is_counted_and_a_second_look_is_not() {
        let rate = "[[rate]]\nid = \"one\"\nmax = 1\nwindow = \"1h\"\nper = [\"client\"]\n\
                    match = { kind = \"transaction\", to = [\"usdc\"] }\n";
        let policy = policy(&format!("{CONTRACTS}{PAY}{rate}")).unwrap();
        let good = || transaction(&json!({ "data": transfer(ALICE, 1) }));
        let bad = || transaction(&json!({ "data": transfer(BOB, 1), "value": "0x1" }));
        let ann = caller("ann");
        for _ in 0..5 {
            assert_eq!(
                policy.decide::<Tx>(&ann, bad(), Evidence::default()).unwrap_err().cause,
                DenialCause::NoRule
            );
        }
        policy.decide::<Tx>(&ann, good(), Evidence::default()).expect("nothing was counted so far");
        policy.decide_again::<Tx>(&ann, good(), Evidence::default()).expect("it was counted once");
        assert!(matches!(
            policy.decide::<Tx>(&ann, good(), Evidence::default()).unwrap_err().cause,
            DenialCause::Rate { .. }
        ));
        assert_eq!(
            policy.decide::<Tx>(&ann, bad(), Evidence::default()).unwrap_err().cause,
            DenialCause::NoRule
        );
    }

    #[test]
    fn what_is_due_by_then_is_forgotten() {
        let counts = Counts::default();
        assert!(counts.is_empty());
        let at = |seconds: u64| Nanos::from(Duration::from_secs(seconds));
        let key = |rule: &str| Scope { rule: Some(rule.into()), ..Scope::default() };
        for (rule, due) in [("a", 9), ("b", 10), ("c", 11)] {
            counts.put_back(key(rule), Some(at(due)));
        }
        assert!(!counts.is_empty());
        counts.retain_recent(at(10));
        assert_eq!((counts.len(), counts.of(&key("c"))), (1, Some(at(11))));
        counts.put_back(key("c"), None);
        assert!(counts.is_empty());
    }

    /// A key that is known is counted on, however full the table is.
    #[test]
    fn a_known_key_finds_its_place_in_a_full_table() {
        let counts = Counts::default();
        let key = |n: usize| Scope { rule: Some(n.to_string().into()), ..Scope::default() };
        for n in 0..MAX_KEYS {
            assert!(!counts.is_full_for(&key(MAX_KEYS)), "{n}");
            counts.put_back(key(n), Some(Nanos::from(Duration::from_secs(60))));
        }
        assert!(counts.is_full_for(&key(MAX_KEYS)) && !counts.is_full_for(&key(0)));
    }

    #[test]
    fn who_has_used_up_a_rate_is_told_when_it_has_room() {
        let rates = Rates::with_clock(vec![rate("once", 1, 10, &[])], FakeRelativeClock::default());
        charge(&rates, "ann", "pay").unwrap();
        let said = charge(&rates, "ann", "pay").unwrap_err().sentence;
        assert!(
            said.ends_with("but has used up rate `once` (1 in 10 s); nothing was signed, try again in 10 s"),
            "{said}"
        );
        let slow = FakeRelativeClock::default();
        let rates = Rates::with_clock(vec![rate("slow", 1, 16, &[])], slow.clone());
        charge(&rates, "ann", "pay").unwrap();
        let said = charge(&rates, "ann", "pay").unwrap_err().sentence;
        assert!(said.ends_with("nothing was signed, there is room again after 16 s"), "{said}");
        // Of a part of a second it is the next one, and 15 s is not long.
        slow.advance(Duration::from_millis(999));
        let said = charge(&rates, "ann", "pay").unwrap_err().sentence;
        assert!(said.ends_with("there is room again after 16 s"), "{said}");
        slow.advance(Duration::from_millis(1));
        let said = charge(&rates, "ann", "pay").unwrap_err().sentence;
        assert!(said.ends_with("try again in 15 s"), "{said}");
        assert_eq!(
            (rates.len(), rates.each().map(|rate| rate.id.as_str()).collect::<Vec<_>>()),
            (1, vec!["slow"])
        );
    }

    #[test]
    fn each_rate_has_a_count_of_its_own() {
        let both = vec![rate("many", 5, 60, &[]), rate("one", 1, 60, &[])];
        let rates = Rates::with_clock(both, FakeRelativeClock::default());
        charge(&rates, "ann", "pay").unwrap();
        assert_eq!(charge(&rates, "ann", "pay").unwrap_err().rule.as_deref(), Some("one"));
        assert_eq!(Rates::new(Vec::new()).len(), 0);
    }
}
