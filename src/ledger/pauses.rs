//! Pausing and resuming inside the writer's transaction: the table's rows, the audit row, and what a pause voids.

use alloy_primitives::Address;
use serde_json::json;

use crate::clock::Timestamp;
use crate::ledger::apply::void;
use crate::ledger::audit::{Administration, Body};
use crate::ledger::db::{Db, DbRow, Sql, SqlError, query};
use crate::ledger::pause::{Pause, PauseOrder, PauseScope};
use crate::ledger::store;
use crate::ledger::writer::Group;

/// Pauses: from this commit on nothing of its scope is reserved, and what is reserved cannot be recorded any more.
/// False where it was paused before; who paused first, and why, stays.
pub(in crate::ledger) async fn begin(
    group: &mut Group<'_>,
    order: &PauseOrder,
    by: &Administration,
) -> Sql<bool> {
    let PauseOrder { scope, reason } = order;
    let done = query(
        "INSERT INTO pause (scope, name, reason, operator, person, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (scope, name) DO NOTHING",
    )
    .bind(scope.kind())
    .bind(scope.name())
    .bind(reason.as_deref())
    .bind(&by.operator)
    .bind(&by.person)
    .bind(i64::try_from(group.now.millis()).unwrap_or(i64::MAX))
    .execute(&mut *group.db)
    .await?;
    if done == 0 {
        return Ok(false);
    }
    audit(group, "pause", order, by).await?;
    for (id, client, account) in reserved(group.db).await? {
        if scope.covers(&client, account) {
            void(group, id, "paused").await?;
        }
    }
    show(&all(group.db).await?);
    Ok(true)
}

/// Resumes; false where it was not paused.
pub(in crate::ledger) async fn end(
    group: &mut Group<'_>,
    order: &PauseOrder,
    by: &Administration,
) -> Sql<bool> {
    let done = query("DELETE FROM pause WHERE scope = ?1 AND name = ?2");
    let done = done.bind(order.scope.kind()).bind(order.scope.name()).execute(&mut *group.db).await?;
    if done == 0 {
        return Ok(false);
    }
    audit(group, "resume", order, by).await?;
    show(&all(group.db).await?);
    Ok(true)
}

/// What is paused now, the widest first.
pub(in crate::ledger) async fn all(db: &mut Db) -> Sql<Vec<Pause>> {
    let rows = query("SELECT scope, name, reason, operator, person, since FROM pause");
    let mut pauses = rows.fetch_all(&mut *db).await?.iter().map(pause).collect::<Sql<Vec<_>>>()?;
    pauses.sort_by(|a, b| a.scope.cmp(&b.scope));
    Ok(pauses)
}

/// Who asked for a reservation, and of which account.
pub(in crate::ledger) async fn asked_by(db: &mut Db, id: i64) -> Sql<Option<(String, Address)>> {
    let row = query("SELECT client, account FROM reservation WHERE id = ?1").bind(id);
    let row = row.fetch_optional(&mut *db).await?;
    row.map(|row| Ok((row.get("client")?, store::address(&row)?))).transpose()
}

/// Puts the number of pauses where Prometheus reads it.
pub(in crate::ledger) fn show(pauses: &[Pause]) {
    for kind in ["all", "account", "client"] {
        let count = pauses.iter().filter(|pause| pause.scope.kind() == kind).count();
        metrics::gauge!("chancery_paused", "scope" => kind).set(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

async fn audit(group: &mut Group<'_>, action: &str, order: &PauseOrder, by: &Administration) -> Sql<()> {
    let account = match order.scope {
        PauseScope::Account(account) => Some(account),
        PauseScope::All | PauseScope::Client(_) => None,
    };
    let detail = json!({
        "scope": order.scope.kind(),
        "name": order.scope.name(),
        // As in other rows, so that it is found with them.
        "account": account,
        "reason": order.reason,
    });
    group.audit(&Body::Administration { by, action, detail: &detail }).await
}

async fn reserved(db: &mut Db) -> Sql<Vec<(i64, String, Address)>> {
    let rows = query(
        "SELECT id, client, account FROM reservation WHERE open = 1 AND state = 'reserved' ORDER BY id",
    );
    let rows = rows.fetch_all(&mut *db).await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("client")?, store::address(row)?))).collect()
}

fn pause(row: &DbRow) -> Sql<Pause> {
    let (kind, name): (&str, &str) = (row.get("scope")?, row.get("name")?);
    let scope = PauseScope::read(kind, name)
        .ok_or_else(|| SqlError::decode(format!("no pause is of {kind} {name}")))?;
    let since: i64 = row.get("since")?;
    Ok(Pause {
        scope,
        reason: row.get("reason")?,
        operator: row.get("operator")?,
        person: row.get("person")?,
        since: Timestamp::from_millis(u64::try_from(since).map_err(store::malformed)?),
    })
}
