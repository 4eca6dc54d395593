//! What a worker reports, as metrics, and what an operator is to be woken for.

use std::sync::Arc;

use crate::signer::link::TokenState;
use crate::signer::protocol::Report;

/// Reports in a row, one a second, until an alert is raised or is over: a burst is none.
const IN_A_ROW: u8 = 3;

/// One worker's, from its first report to its end.
#[derive(Debug)]
pub(super) struct Alerts {
    token: Arc<str>,
    /// Requests that may wait for this token.
    room: usize,
    sessions: Alert,
    queue: Alert,
}

/// Raised while more than 80 % of something is in use.
#[derive(Debug, Default)]
struct Alert {
    is_raised: bool,
    /// Reports in a row that say otherwise.
    otherwise: u8,
}

impl Alerts {
    pub(super) fn new(token: &Arc<str>, room: usize) -> Self {
        let alerts =
            Self { token: Arc::clone(token), room, sessions: Alert::default(), queue: Alert::default() };
        alerts.show("sessions", false);
        alerts.show("queue", false);
        alerts
    }

    pub(super) fn look(&mut self, report: &Report, queued: usize) {
        publish(report, &self.token, queued);
        let (busy, sessions, room) = (report.busy, report.sessions, self.room);
        if let Some(is_raised) = self.sessions.look(busy, sessions) {
            self.show("sessions", is_raised);
            self.tell(is_raised, format_args!("sessions: {busy} of {sessions} in use"));
        }
        if let Some(is_raised) = self.queue.look(queued, room) {
            self.show("queue", is_raised);
            self.tell(is_raised, format_args!("queue: {queued} of {room} places in use"));
        }
    }

    fn show(&self, of: &'static str, is_raised: bool) {
        let value = if is_raised { 1.0 } else { 0.0 };
        metrics::gauge!("chancery_token_saturated", "token" => self.token.to_string(), "of" => of).set(value);
    }

    fn tell(&self, is_raised: bool, what: std::fmt::Arguments<'_>) {
        if is_raised {
            tracing::warn!(token = %self.token, "ALERT: over 80 %: {what}; give the token more sessions, or add one");
        } else {
            tracing::info!(token = %self.token, "below 80 % again: {what}");
        }
    }
}

impl Alert {
    /// Whether it is raised now, where that changed.
    fn look(&mut self, used: usize, all: usize) -> Option<bool> {
        let is_over = used.saturating_mul(5) > all.saturating_mul(4);
        if is_over == self.is_raised {
            self.otherwise = 0;
            return None;
        }
        self.otherwise = self.otherwise.saturating_add(1);
        if self.otherwise < IN_A_ROW {
            return None;
        }
        *self = Self { is_raised: is_over, otherwise: 0 };
        Some(is_over)
    }
}

/// A key that the configuration pins is not in the token any more, or is another one: no restart mends that.
pub(super) fn holds_another(token: &str, state: &TokenState) {
    let metric = metrics::gauge!("chancery_token_mismatch", "token" => token.to_owned());
    match state {
        TokenState::Mismatch(why) => {
            metric.set(1.0);
            tracing::error!(token, why, "ALARM: a key that the configuration pins is not there");
        }
        TokenState::Ready { .. } => metric.set(0.0),
        _ => {}
    }
}

fn publish(report: &Report, name: &str, queued: usize) {
    let token = || name.to_owned();
    let counted = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    metrics::gauge!("chancery_token_sessions", "token" => token()).set(counted(report.sessions));
    metrics::gauge!("chancery_token_busy_sessions", "token" => token()).set(counted(report.busy));
    let waiting = queued.saturating_add(report.waiting);
    metrics::gauge!("chancery_token_waiting", "token" => token()).set(counted(waiting));
    metrics::gauge!("chancery_token_stuck_calls", "token" => token()).set(counted(report.stuck));
    metrics::counter!("chancery_token_given_up_total", "token" => token()).increment(report.replaced);
    metrics::counter!("chancery_token_logins_total", "token" => token()).increment(report.logins);
    for (code, count) in &report.errors {
        metrics::counter!("chancery_token_codes_total", "token" => token(), "code" => code.clone())
            .increment(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_raised_after_three_reports_over_four_fifths_and_is_over_after_three_below() {
        let mut alert = Alert::default();
        let mut look = |used| alert.look(used, 10);
        assert_eq!([9, 9, 8].map(&mut look), [None; 3], "80 % is not over 80 %, and begins anew");
        assert_eq!([9, 10, 9].map(&mut look), [None, None, Some(true)]);
        assert_eq!([10, 0, 0, 9, 0, 0].map(&mut look), [None; 6]);
        assert_eq!([8, 9, 0, 0, 0].map(&mut look), [Some(false), None, None, None, None]);
        assert_eq!(Alert::default().look(0, 0), None);
    }
}
