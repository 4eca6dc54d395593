//! Reading a ledger that another process may be writing, or a copy of one. Never writes.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};

use crate::ledger::audit::Entry;
use crate::ledger::store::{address, entry, malformed, word};
use crate::transaction::ChainHead;

/// A row as `verify` reads it.
#[derive(Debug)]
pub(in crate::ledger) struct Reservation {
    pub id: i64,
    pub kind: String,
    pub client: String,
    pub account: Address,
    pub chain: Option<u64>,
    pub nonce: Option<u64>,
    pub state: String,
    pub raw: Option<Bytes>,
    pub hash: Option<B256>,
}

type Sql<T> = Result<T, sqlx::Error>;

/// Opens for reading only, as an auditor does while the gateway runs.
pub(in crate::ledger) async fn open(path: &Path) -> Sql<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    // A copy on a medium that cannot be written: SQLite must be told that nobody writes it.
    let lone = !side_file(path, "-wal").exists();
    match probe_read(options.clone()).await {
        Err(_) if lone => probe_read(options.immutable(true)).await,
        opened => opened,
    }
}

/// Opens, and reads once: SQLite looks at the file no earlier.
async fn probe_read(options: SqliteConnectOptions) -> Sql<SqliteConnection> {
    let mut db = options.connect().await?;
    sqlx::query("SELECT seq FROM head").fetch_optional(&mut db).await?;
    Ok(db)
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A snapshot for reading.
pub(in crate::ledger) async fn begin(db: &mut SqliteConnection) -> Sql<()> {
    sqlx::query("BEGIN").execute(db).await.map(drop)
}

/// A page of the chain, in order.
pub(in crate::ledger) async fn entries(db: &mut SqliteConnection, after: i64, count: i64) -> Sql<Vec<Entry>> {
    let rows = sqlx::query("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?").bind(after).bind(count);
    rows.fetch_all(&mut *db).await?.iter().map(entry).collect()
}

/// Where every writer's chain ends.
pub(in crate::ledger) async fn heads(db: &mut SqliteConnection) -> Sql<Vec<ChainHead>> {
    let rows = sqlx::query("SELECT seq, hash FROM head").fetch_all(&mut *db).await?;
    let head =
        |row: &SqliteRow| Ok(ChainHead { writer: 0, seq: row.try_get("seq")?, hash: word(row, "hash")? });
    rows.iter().map(head).collect()
}

/// How many intents and signatures stand after a row, and the last row: in one look, so that none is missed.
pub(in crate::ledger) async fn count_after(db: &mut SqliteConnection, seq: i64) -> Sql<(i64, u64, u64)> {
    let rows = sqlx::query("SELECT seq, kind FROM audit WHERE seq > $1 ORDER BY seq").bind(seq);
    let (mut last, mut intents, mut signatures) = (seq, 0_u64, 0_u64);
    for row in rows.fetch_all(&mut *db).await? {
        last = row.try_get("seq")?;
        match row.try_get::<&str, _>("kind")? {
            "intent" => intents = intents.saturating_add(1),
            "signature" => signatures = signatures.saturating_add(1),
            _ => {}
        }
    }
    Ok((last, intents, signatures))
}

/// The newest row of a kind.
pub(in crate::ledger) async fn last_of_kind(
    db: &mut SqliteConnection,
    kind: &'static str,
) -> Sql<Option<Entry>> {
    // The kind stands in the text, so that its partial index is used.
    let sql = format!("SELECT * FROM audit WHERE kind = '{kind}' ORDER BY seq DESC LIMIT 1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_optional(&mut *db).await?;
    row.map(|row| entry(&row)).transpose()
}

/// All rows of a kind, in order.
pub(in crate::ledger) async fn all_of_kind(db: &mut SqliteConnection, kind: &'static str) -> Sql<Vec<Entry>> {
    let sql = format!("SELECT * FROM audit WHERE kind = '{kind}' ORDER BY seq");
    sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *db).await?.iter().map(entry).collect()
}

/// A page of all reservations, by id, as `verify` holds them against the chain.
pub(in crate::ledger) async fn reservations(
    db: &mut SqliteConnection,
    after: i64,
    count: i64,
) -> Sql<Vec<Reservation>> {
    let rows =
        sqlx::query("SELECT * FROM reservation WHERE id > ? ORDER BY id LIMIT ?").bind(after).bind(count);
    rows.fetch_all(&mut *db).await?.iter().map(reservation).collect()
}

fn reservation(row: &SqliteRow) -> Sql<Reservation> {
    let number = |name: &str| -> Sql<Option<u64>> {
        let number: Option<i64> = row.try_get(name)?;
        number.map(u64::try_from).transpose().map_err(malformed)
    };
    let hash: Option<&[u8]> = row.try_get("hash")?;
    Ok(Reservation {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        client: row.try_get("client")?,
        account: address(row)?,
        chain: number("chain")?,
        nonce: number("nonce")?,
        state: row.try_get("state")?,
        raw: row.try_get::<Option<Vec<u8>>, _>("raw")?.map(Bytes::from),
        hash: hash.map(B256::try_from).transpose().map_err(malformed)?,
    })
}
