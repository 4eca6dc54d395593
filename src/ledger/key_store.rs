//! The table of names that requests were given: rows in and out, and the old ones gone.

use std::time::Duration;

use alloy_primitives::B256;

use crate::clock::Timestamp;
use crate::ledger::audit::cut;
use crate::ledger::beside;
use crate::ledger::db::{Db, Sql, SqlError, query};
use crate::ledger::keys::Named;
use crate::ledger::store;

/// How many old rows a new one takes with it: more than one, so that the table shrinks again.
const PRUNED: i64 = 4;

/// What was reserved under this name last.
pub(in crate::ledger) async fn named(db: &mut Db, client: &str, name: &str) -> Sql<Option<Named>> {
    let row = query(
        "SELECT k.reservation, k.intent, k.at, k.refusal, r.nonce, r.outcome
         FROM idempotency AS k JOIN reservation AS r ON r.id = k.reservation
         WHERE k.client = ?1 AND k.name = ?2",
    );
    let Some(row) = row.bind(client).bind(name).fetch_optional(&mut *db).await? else { return Ok(None) };
    let id: i64 = row.get("reservation")?;
    let Some((state, others)) = beside::at_nonce_of(db, id).await? else { return Ok(None) };
    let at: i64 = row.get("at")?;
    Ok(Some(Named {
        id,
        intent: store::word(&row, "intent")?,
        at: Timestamp::from_millis(u64::try_from(at).map_err(store::malformed)?),
        state,
        word: store::word_in(&row)?,
        others: others.into_iter().map(|(_, state)| state).collect(),
        has_nonce: row.get::<Option<i64>>("nonce")?.is_some(),
        refusal: row.get("refusal")?,
    }))
}

/// Gives a reservation its name, in place of `before`, which had it. Fails where another took it meanwhile.
pub(in crate::ledger) async fn put(
    db: &mut Db,
    (client, name): (&str, &str),
    (id, intent): (i64, B256),
    before: Option<i64>,
    at: Timestamp,
) -> Sql<()> {
    let done = query(
        "INSERT INTO idempotency (client, name, reservation, intent, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (client, name) DO UPDATE
         SET reservation = excluded.reservation, intent = excluded.intent, at = excluded.at, refusal = NULL
         WHERE idempotency.reservation = ?6",
    )
    .bind(client)
    .bind(name)
    .bind(id)
    .bind(intent.as_slice())
    .bind(i64::try_from(at.millis()).unwrap_or(i64::MAX))
    .bind(before.unwrap_or(0))
    .execute(&mut *db)
    .await?;
    if done == 1 { Ok(()) } else { Err(SqlError::NoRow) }
}

/// Keeps a node's definite refusal for whoever asks again under the same name; `None`: it has taken it after all.
pub(in crate::ledger) async fn refused(db: &mut Db, id: i64, text: Option<&str>) -> Sql<()> {
    let done = query("UPDATE idempotency SET refusal = ?1 WHERE reservation = ?2");
    done.bind(text.map(cut)).bind(id).execute(&mut *db).await.map(drop)
}

/// Drops some rows that are forgotten whatever their name; those of whose payload the chain has not decided stay.
pub(in crate::ledger) async fn prune(db: &mut Db, kept: Duration, now: Timestamp) -> Sql<()> {
    let kept = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
    let until = now.millis().saturating_sub(kept);
    let done = query(
        "DELETE FROM idempotency WHERE (client, name) IN (
         SELECT k.client, k.name FROM idempotency AS k JOIN reservation AS r ON r.id = k.reservation
         WHERE k.at <= ?1 AND r.state <> 'reserved'
           AND (r.nonce IS NULL OR r.state IN ('void', 'final', 'replaced'))
         ORDER BY k.at LIMIT ?2)",
    );
    done.bind(i64::try_from(until).unwrap_or(i64::MAX)).bind(PRUNED).execute(&mut *db).await.map(drop)
}
