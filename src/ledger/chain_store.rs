//! The table of the audit chain: where it ends, and what is put there.

use std::sync::LazyLock;

use crate::clock::Timestamp;
use crate::ledger::audit::{Entry, Head};
use crate::ledger::db::{Db, Sql, query};
use crate::ledger::lag::Lag;
use crate::ledger::store::{entry, millis, unsigned, word};

/// The statements that put rows into the audit chain, and how many each: to a server every statement is a journey. A few
/// sizes, so that there are a few to prepare.
static INSERTS: LazyLock<[(usize, String); 4]> = LazyLock::new(|| {
    [64_usize, 16, 4, 1].map(|count| {
        let row = |row: usize| {
            let place = |place: usize| format!("?{}", row.saturating_mul(6).saturating_add(place));
            format!("({})", (1..=6).map(place).collect::<Vec<_>>().join(", "))
        };
        let rows = (0..count).map(row).collect::<Vec<_>>().join(", ");
        (count, format!("INSERT INTO audit (seq, at, kind, body, previous, hash) VALUES {rows}"))
    })
});

/// Where the chain ends by the head row, and the last row itself.
pub(in crate::ledger) async fn head(db: &mut Db) -> Sql<(Head, Option<Entry>)> {
    let last = query("SELECT * FROM audit ORDER BY seq DESC LIMIT 1").fetch_optional(&mut *db).await?;
    let last = last.map(|row| entry(&row)).transpose()?;
    let head = query("SELECT seq, hash FROM head").fetch_optional(&mut *db).await?;
    let at = last.as_ref().map_or(Head::START.at, |last| last.at);
    let head = match head {
        Some(row) => Head { seq: row.get("seq")?, hash: word(&row, "hash")?, at },
        None => Head::START,
    };
    Ok((head, last))
}

/// Where a commit begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct End {
    pub head: Head,
    pub lag: Option<Lag>,
}

/// Where the chain ends, and what time it is there: on a server, in one journey.
pub(in crate::ledger) async fn end(db: &mut Db) -> Sql<(End, Option<Timestamp>)> {
    if matches!(db, Db::File(_)) {
        return Ok((End { head: head(db).await?.0, lag: Lag::read(db).await? }, None));
    }
    let row = query(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now, head.seq, head.hash,
            (SELECT at FROM audit ORDER BY audit.seq DESC LIMIT 1) AS at, agreed.lag_since, agreed.lag_from
         FROM agreed LEFT JOIN head ON true",
    );
    let row = row.fetch_one(&mut *db).await?;
    let head = match (row.get::<Option<i64>>("seq")?, row.get::<Option<i64>>("at")?) {
        (Some(seq), Some(_)) => {
            Head { seq, hash: word(&row, "hash")?, at: Timestamp::from_millis(unsigned(&row, "at")?) }
        }
        (Some(seq), None) => Head { seq, hash: word(&row, "hash")?, at: Head::START.at },
        (None, _) => Head::START,
    };
    Ok((End { head, lag: Lag::of(&row)? }, Some(Timestamp::from_millis(unsigned(&row, "now")?))))
}

/// Puts rows at the end of the chain, and says that it ends there.
pub(in crate::ledger) async fn append(db: &mut Db, entries: &[Entry]) -> Sql<()> {
    let Some(last) = entries.last() else { return Ok(()) };
    let mut left = entries;
    while let Some((sql, rows, others)) = INSERTS.iter().find_map(|(count, sql)| {
        let (rows, others) = left.split_at_checked(*count)?;
        Some((sql, rows, others))
    }) {
        let rows = rows.iter().fold(query(sql.as_str()), |rows, entry| {
            let rows = rows.bind(entry.seq).bind(millis(entry.at)).bind(&entry.kind).bind(&entry.body);
            rows.bind(entry.previous.as_slice()).bind(entry.hash.as_slice())
        });
        rows.execute(&mut *db).await?;
        left = others;
    }
    query("INSERT INTO head (one, seq, hash) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash")
        .bind(last.seq)
        .bind(last.hash.as_slice())
        .execute(&mut *db)
        .await
        .map(drop)
}
