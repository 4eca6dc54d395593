//! `hours`: the days and times at which a rule holds, in a time zone.

use crate::clock::{Timestamp, Zone};

/// Spans of a week in one time zone; `"Mon-Fri 08:00-20:00 Europe/Berlin"`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) struct Hours {
    /// By day, from Monday.
    days: [bool; 7],
    /// Minutes from midnight; the end is not included.
    from: u16,
    to: u16,
    zone: Zone,
    pub text: String,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Hours {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split_ascii_whitespace();
        let (Some(days), Some(times), Some(zone), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!(
                "`{text}`: write days, times and a time zone: \"Mon-Fri 08:00-20:00 UTC\", \"Sat,Sun 10:00-24:00 Europe/Berlin\""
            ));
        };
        let (from, to) = times.split_once('-').ok_or_else(|| format!("`{times}`: write \"08:00-20:00\""))?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        if from >= to {
            return Err(format!(
                "`{times}`: hours end later than they begin; those over midnight are two: \"22:00-24:00\" and \"00:00-06:00\""
            ));
        }
        let zone = Zone::named(zone).ok_or_else(|| {
            format!("`{zone}` is no time zone; write \"UTC\", or a name of the IANA database such as \"Europe/Berlin\"")
        })?;
        Ok(Self { days: week(days)?, from, to, zone, text: text.to_owned() })
    }

    pub fn contain(&self, now: Timestamp) -> bool {
        let Some((day, minute)) = now.in_week(&self.zone) else { return false };
        self.days.get(usize::from(day)).copied().unwrap_or(false) && minute >= self.from && minute < self.to
    }
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`, `daily`.
fn week(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    if text == "daily" {
        return Ok([true; 7]);
    }
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| *day == name);
        found.ok_or_else(|| format!("`{name}` is no day; write Mon, Tue, Wed, Thu, Fri, Sat, Sun, or daily"))
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut at = first;
        loop {
            if let Some(day) = days.get_mut(at) {
                *day = true;
            }
            if at == last {
                break;
            }
            at = if at >= 6 { 0 } else { at.saturating_add(1) };
        }
    }
    Ok(days)
}

fn minutes(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is no time; write \"08:00\"");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or_else(wrong)
    };
    match (number(hours)?, number(minutes)?) {
        (24, 0) => Ok(1440),
        (hours @ 0..24, minutes @ 0..60) => Ok(hours.saturating_mul(60).saturating_add(minutes)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: &str, time: &str) -> bool {
        Hours::parse(hours).unwrap().contain(Timestamp::parse(time).unwrap())
    }

    #[test]
    fn hours_hold_on_their_days_and_in_their_zone() {
        // 2026-01-30 is a Friday.
        for (hours, time, holds) in [
            ("Mon-Fri 08:00-20:00 UTC", "2026-01-30T07:59:59Z", false),
            ("Mon-Fri 08:00-20:00 UTC", "2026-01-30T08:00:00Z", true),
            ("Mon-Fri 08:00-20:00 UTC", "2026-01-30T19:59:59Z", true),
            ("Mon-Fri 08:00-20:00 UTC", "2026-01-30T20:00:00Z", false),
            ("Mon-Fri 08:00-20:00 UTC", "2026-01-31T12:00:00Z", false),
            ("Sat,Sun 00:00-24:00 UTC", "2026-01-31T23:59:59Z", true),
            ("Fri-Mon 00:00-24:00 UTC", "2026-02-02T12:00:00Z", true),
            ("Fri-Mon 00:00-24:00 UTC", "2026-02-03T12:00:00Z", false),
            ("daily 00:00-24:00 UTC", "2026-02-03T00:00:00Z", true),
            // Winter is an hour before UTC's noon, summer two.
            ("Mon-Fri 08:00-20:00 Europe/Berlin", "2026-01-30T07:00:00Z", true),
            ("Mon-Fri 08:00-20:00 Europe/Berlin", "2026-01-30T06:59:59Z", false),
            ("Mon-Fri 08:00-20:00 Europe/Berlin", "2026-07-31T06:00:00Z", true),
            ("Mon-Fri 08:00-20:00 Europe/Berlin", "2026-07-31T18:00:00Z", false),
            // It is Saturday there.
            ("Sat 00:00-24:00 Asia/Tokyo", "2026-01-30T15:00:00Z", true),
        ] {
            assert_eq!(at(hours, time), holds, "{hours} {time}");
        }
    }

    #[test]
    fn what_is_no_span_of_a_week_is_refused() {
        for (text, why) in [
            ("", "write days"),
            ("08:00-20:00 UTC", "write days"),
            ("Mon-Fri 08:00-20:00", "write days"),
            ("Mon-Fri 08:00-20:00 UTC x", "write days"),
            ("mon 08:00-20:00 UTC", "`mon` is no day"),
            ("Mon-Xyz 08:00-20:00 UTC", "`Xyz` is no day"),
            ("Mon, 08:00-20:00 UTC", "`` is no day"),
            ("Mon 8:00-20:00 UTC", "`8:00` is no time"),
            ("Mon 08:00-24:01 UTC", "`24:01` is no time"),
            ("Mon 08:60-20:00 UTC", "`08:60` is no time"),
            ("Mon +8:00-20:00 UTC", "is no time"),
            ("Mon 08:00 UTC", "write \"08:00-20:00\""),
            ("Mon 20:00-08:00 UTC", "are two"),
            ("Mon 08:00-08:00 UTC", "end later"),
            ("Mon 08:00-20:00 Mars/Base", "is no time zone"),
        ] {
            let said = Hours::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
