//! When each backup was last proved by a drill, as the audit chain has it: told in metrics and in the log.

use std::time::Duration;

use alloy_primitives::Address;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, KeySource};
use crate::ledger::{KeyRow, LedgerError, key_rows};

const LOOK: Duration = Duration::from_secs(60);

/// How often the same drill is missed aloud, in looks.
const REMIND: u32 = 24 * 60;

/// A backup, and when it was last proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub account: String,
    pub address: Address,
    pub token: String,
    pub drilled: Option<Timestamp>,
}

/// The backups of a configuration.
#[derive(Debug)]
pub struct Drills {
    ledger: config::Ledger,
    every: Duration,
    clock: Clock,
    backups: Vec<Backup>,
    /// The last row that was read.
    seq: i64,
}

impl Backup {
    /// Whether it was not proved for longer than this.
    pub fn is_overdue(&self, every: Duration, now: Timestamp) -> bool {
        self.drilled.is_none_or(|at| now.since(at) > every)
    }
}

impl Drills {
    pub fn new(config: &Config, clock: Clock) -> Self {
        let of = |account: &config::Account| match &account.key {
            KeySource::Token { tokens, .. } => {
                let backup = |token: &String| Backup {
                    account: account.name.clone(),
                    address: account.address,
                    token: token.clone(),
                    drilled: None,
                };
                tokens.iter().skip(1).map(backup).collect()
            }
            KeySource::Keystore { .. } => Vec::new(),
        };
        Self {
            ledger: config.ledger.clone(),
            every: config.signer.drill_every,
            clock,
            backups: config.accounts.iter().flat_map(of).collect(),
            seq: 0,
        }
    }

    /// Reads what was drilled since the last look.
    pub async fn look(&mut self) -> Result<&[Backup], LedgerError> {
        if !self.backups.is_empty() {
            let rows = key_rows(&self.ledger, self.seq).await?;
            self.seq = rows.last().map_or(self.seq, |row| row.seq);
            learn(&mut self.backups, &rows);
        }
        Ok(&self.backups)
    }

    /// Tells until `stop`. An account without backups has nothing to be told.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.backups.is_empty() {
            return;
        }
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until_told = 0_u32;
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let tells = until_told == 0;
            until_told = until_told.checked_sub(1).unwrap_or(REMIND);
            let (every, now) = (self.every, self.clock.now());
            match self.look().await {
                Ok(backups) => backups.iter().for_each(|backup| tell(backup, every, now, tells)),
                Err(error) => tracing::warn!(%error, "it cannot be read when backups were drilled"),
            }
        }
    }
}

/// What `keys drill` wrote of these backups.
fn learn(backups: &mut [Backup], rows: &[KeyRow]) {
    for row in rows.iter().filter(|row| row.what == "drilled") {
        let meant = |backup: &&mut Backup| backup.token == row.token && row.keys.contains(&backup.address);
        backups.iter_mut().filter(meant).for_each(|backup| backup.drilled = Some(row.at));
    }
}

fn tell(backup: &Backup, every: Duration, now: Timestamp, aloud: bool) {
    let Backup { account, token, drilled, .. } = backup;
    let is_overdue = backup.is_overdue(every, now);
    let labels = [("account", account.clone()), ("token", token.clone())];
    metrics::gauge!("chancery_drill_overdue", &labels).set(if is_overdue { 1.0 } else { 0.0 });
    if is_overdue && aloud {
        let last = drilled.map_or_else(|| "never".to_owned(), |at| at.to_string());
        tracing::warn!(account, token, last, "a backup was not drilled for long: see `chancery keys drill`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_overdue_until_a_drill_of_this_key_in_this_token_is_on_record() {
        let address = Address::repeat_byte(1);
        let fresh = || Backup { account: "a".to_owned(), address, token: "spare".to_owned(), drilled: None };
        let row = |token: &str, what: &str, key: u8, at: u64| KeyRow {
            seq: 1,
            at: Timestamp::from_millis(at),
            token: token.to_owned(),
            what: what.to_owned(),
            keys: vec![Address::repeat_byte(key)],
        };
        let (day, now) = (86_400_000, Timestamp::from_millis(100 * 86_400_000));
        let every = Duration::from_millis(90 * day);
        for (row, overdue) in [
            (row("spare", "drilled", 1, 10 * day), false),
            (row("spare", "drilled", 1, 10 * day - 1), true),
            (row("main", "drilled", 1, 99 * day), true),
            (row("spare", "proved", 1, 99 * day), true),
            (row("spare", "drilled", 2, 99 * day), true),
        ] {
            let mut backups = [fresh()];
            learn(&mut backups, std::slice::from_ref(&row));
            assert_eq!(backups[0].is_overdue(every, now), overdue, "{row:?}");
        }
    }
}
