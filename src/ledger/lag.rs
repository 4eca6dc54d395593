//! Clocks that are behind what the ledger has seen: a machine that started before its clock was set. What is charged
//! meanwhile bears a time that is too early, and would leave its window too early once the clock is right. It is
//! remembered from when on that was so, and when the clock has caught up those charges are stamped again.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::ledger::audit::Body;
use crate::ledger::budget::bucket;
use crate::ledger::charges;
use crate::ledger::db::{Db, DbRow, Sql, query};
use crate::ledger::store::{millis, unsigned};
use crate::ledger::writer::Group;

/// What a charge's time may be off by: less than any bucket is wide that anybody would want.
const MOMENT: Duration = Duration::from_secs(1);

/// From when on clocks were behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Lag {
    /// Where the ledger's time stood still.
    since: Timestamp,
    /// No payload with a lower number was reserved meanwhile, or recorded, or recorded again.
    from: i64,
}

impl Lag {
    pub(in crate::ledger) async fn read(db: &mut Db) -> Sql<Option<Self>> {
        Self::of(&query("SELECT lag_since, lag_from FROM agreed").fetch_one(&mut *db).await?)
    }

    /// From a row with both columns.
    pub(in crate::ledger) fn of(row: &DbRow) -> Sql<Option<Self>> {
        let Some(from) = row.get::<Option<i64>>("lag_from")? else { return Ok(None) };
        Ok(Some(Self { since: Timestamp::from_millis(unsigned(row, "lag_since")?), from }))
    }
}

/// Before anything else in a commit.
pub(in crate::ledger) async fn watch(group: &mut Group<'_>, is_behind: bool) -> Sql<()> {
    match (group.lag, is_behind) {
        (None, true) => begin(group).await,
        (Some(lag), false) => end(group, lag).await,
        _ => Ok(()),
    }
}

async fn begin(group: &mut Group<'_>) -> Sql<()> {
    tracing::warn!(
        "the clock is behind what the ledger has seen: what is signed now counts from when it is right"
    );
    let from = query(
        "SELECT coalesce((SELECT min(id) FROM reservation WHERE open = 1 AND state <> 'recorded'),
            (SELECT max(id) + 1 FROM reservation), 0) AS lag_from",
    );
    let from = from.number(&mut *group.db).await?;
    let since = group.head.at;
    let done = query("UPDATE agreed SET lag_since = ?1, lag_from = ?2").bind(millis(since)).bind(from);
    done.execute(&mut *group.db).await?;
    group.lag = Some(Lag { since, from });
    Ok(())
}

/// A charge that was made in that time was made now at the latest.
async fn end(group: &mut Group<'_>, lag: Lag) -> Sql<()> {
    let now = group.stamp_time;
    if now.since(lag.since) < MOMENT {
        // It was the ledger's time that was ahead, and has been waited for.
        return clear(group).await;
    }
    let again = query(
        "UPDATE reservation SET charged_at = ?1 WHERE id >= ?2 AND charged_at >= ?3 AND charged_at < ?1",
    );
    let again = again.bind(millis(now)).bind(lag.from).bind(millis(lag.since));
    let payloads = again.execute(&mut *group.db).await?;
    group.audit(&Body::Clock { since: lag.since, payloads }).await?;
    charges::move_spent(group, |window| bucket(lag.since, window)..bucket(now, window)).await?;
    clear(group).await
}

async fn clear(group: &mut Group<'_>) -> Sql<()> {
    query("UPDATE agreed SET lag_since = NULL, lag_from = NULL").execute(&mut *group.db).await?;
    group.lag = None;
    Ok(())
}
