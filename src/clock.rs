//! What time it is: read here only, so that a test can say otherwise; and deadlines.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Set {
        wall: Arc<AtomicU64>,
        steady: Arc<AtomicU64>,
    },
}

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The time by a clock that nobody can set: what the wall clock said when this process first asked, and what has
    /// passed since (also while the machine slept).
    pub fn steady(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let (wall, boot) = *ANCHOR;
                let passed = since_boot().saturating_sub(boot);
                Timestamp(wall.0.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
            }
            Source::Set { steady, .. } => Timestamp(steady.load(Ordering::Relaxed)),
        }
    }

    /// A clock that stands at `now` until [`Clock::advance`] moves it; for tests and `policy test`.
    pub fn set_to(now: Timestamp) -> Self {
        let at = || Arc::new(AtomicU64::new(now.millis()));
        Self(Source::Set { wall: at(), steady: at() })
    }

    /// Moves a set clock on; the machine's own clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Set { wall, steady } = &self.0 {
            for at in [wall, steady] {
                at.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::of(system_now()),
            Source::Set { wall, .. } => Timestamp(wall.load(Ordering::Relaxed)),
        }
    }
}

/// A time zone of the IANA database that is part of this program: no machine's own is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(jiff::tz::TimeZone);

impl Zone {
    pub fn named(name: &str) -> Option<Self> {
        jiff::tz::TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }
}

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> u64 {
        self.0
    }

    /// RFC 3339, as [`Display`](std::fmt::Display) writes it, or a date alone, which is its midnight in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let at =
            text.parse::<jiff::Timestamp>().ok().or_else(|| date().map(|midnight| midnight.timestamp()))?;
        u64::try_from(at.as_millisecond()).ok().map(Self)
    }

    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The day (0 is Monday) and the minute of the day that a clock on a wall there shows.
    pub fn in_week(self, zone: &Zone) -> Option<(u8, u16)> {
        let at =
            jiff::Timestamp::from_millisecond(i64::try_from(self.0).ok()?).ok()?.to_zoned(zone.0.clone());
        let day = u8::try_from(at.weekday().to_monday_zero_offset()).ok()?;
        let minute = i16::from(at.hour()).checked_mul(60)?.checked_add(i16::from(at.minute()))?;
        Some((day, u16::try_from(minute).ok()?))
    }

    /// How long ago `earlier` was; zero where it was not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Display for Timestamp {
    /// RFC 3339, in UTC.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match at {
            Some(at) => write!(f, "{at:.3}"),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// The end of a wait that begins now.
pub fn after(wait: Duration) -> Instant {
    later(Instant::now(), wait)
}

/// The end of a wait that begins then; a wait for longer than time lasts is none.
pub fn later(then: Instant, wait: Duration) -> Instant {
    then.checked_add(wait).unwrap_or(then)
}

/// For deadlines that are set all the time and hardly ever come. The runtime's timer stays where it was set first, and is
/// moved on when it goes off too early: to set and clear one for each request takes locks, and may wake the thread that
/// minds them.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at `until`, which may be another time at each poll. It may wake its task for nothing.
    pub fn poll(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        // A task that has used up its turn is not told of timers: whoever has always something to read would have no end.
        if !has_budget_remaining() && Instant::now() >= until {
            return Poll::Ready(());
        }
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}

/// The wall clock and the time since boot, at the first question.
static ANCHOR: LazyLock<(Timestamp, Duration)> =
    LazyLock::new(|| (Timestamp::of(system_now()), since_boot()));

/// `CLOCK_BOOTTIME` goes on while the machine sleeps; where there is none, the monotonic clock does.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
fn system_now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::task::coop::consume_budget;

    use super::*;

    impl Clock {
        /// Has somebody set the wall clock.
        pub(crate) fn step(&self, millis: i64) {
            if let Source::Set { wall, .. } = &self.0 {
                let now = wall.load(Ordering::Relaxed);
                wall.store(now.saturating_add_signed(millis), Ordering::Relaxed);
            }
        }
    }

    #[tokio::test]
    async fn an_alarm_goes_off_at_the_last_time_that_was_set() {
        let mut alarm = Alarm::default();
        let far = after(Duration::from_secs(60));
        assert!(futures_util::poll!(poll_fn(|context| alarm.poll(far, context))).is_pending());
        let soon = after(Duration::from_millis(20));
        poll_fn(|context| alarm.poll(soon, context)).await;
        assert!((soon..far).contains(&Instant::now()), "at an earlier time");
        let (one, other) = (after(Duration::from_millis(10)), after(Duration::from_millis(50)));
        assert!(futures_util::poll!(poll_fn(|context| alarm.poll(one, context))).is_pending());
        poll_fn(|context| alarm.poll(other, context)).await;
        assert!((other..far).contains(&Instant::now()), "and at a later one");
        assert!(futures_util::poll!(poll_fn(|context| alarm.poll(soon, context))).is_ready());
    }

    #[tokio::test]
    async fn inv_12_an_alarm_is_heard_by_whoever_is_never_idle() {
        let (mut alarm, until) = (Alarm::default(), after(Duration::from_millis(20)));
        poll_fn(|context| {
            // Something is always there to be read.
            while has_budget_remaining() {
                let mut turn = pin!(consume_budget());
                let _ = turn.as_mut().poll(context);
            }
            alarm.poll(until, context)
        })
        .await;
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_set_clock_stands_until_it_is_moved() {
        let clock = Clock::set_to(Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(clock.now().to_string(), "2023-11-14T22:13:20.000Z");
        assert_eq!(
            Timestamp::parse("2023-11-14T22:13:20.007Z"),
            Some(Timestamp::from_millis(1_700_000_000_007))
        );
        assert_eq!(Timestamp::parse("1970-01-02").map(Timestamp::millis), Some(86_400_000));
        assert_eq!(Timestamp::parse("yesterday"), None);
        clock.clone().advance(Duration::from_secs(2));
        assert_eq!(clock.now().since(Timestamp::from_millis(1_700_000_000_000)), Duration::from_secs(2));
    }
}
