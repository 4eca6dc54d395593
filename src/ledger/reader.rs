//! Reading a ledger that another process may be writing, or a copy of one. Never writes.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, U128, keccak256};
use serde::Deserialize;

use crate::ledger::audit::Entry;
use crate::ledger::db::{Db, DbRow, Query, Sql, query};
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
    /// What a node said of it last.
    pub word: Option<String>,
    pub rule: String,
    /// What it pays at most: in all, as a tip, for blob gas; in wei for a unit.
    pub fees: [Option<U128>; 3],
    /// The hash of what was signed, and of the bytes that could leave.
    pub signed: Option<(B256, B256)>,
}

/// The chain after a row, in order, at most so many.
pub(in crate::ledger) fn chain(after: i64, count: i64) -> Query<'static> {
    query("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2").bind(after).bind(count)
}

/// The numbers of a row and of a reservation that stand before the first that there can be.
pub(in crate::ledger) async fn before_the_first(db: &mut Db) -> Sql<[Option<i64>; 2]> {
    let first = "SELECT (SELECT min(seq) FROM audit WHERE seq < 1) AS seq, (SELECT min(id) FROM reservation WHERE id < 1) AS id";
    let row = query(first).fetch_one(&mut *db).await?;
    Ok([row.get("seq")?, row.get("id")?])
}

/// A page of the chain.
pub(in crate::ledger) async fn entries(db: &mut Db, after: i64, count: i64) -> Sql<Vec<Entry>> {
    chain(after, count).fetch_all(&mut *db).await?.iter().map(entry).collect()
}

/// Where every writer's chain ends.
pub(in crate::ledger) async fn heads(db: &mut Db) -> Sql<Vec<ChainHead>> {
    let rows = query("SELECT seq, hash FROM head").fetch_all(&mut *db).await?;
    let head = |row: &DbRow| Ok(ChainHead { writer: 0, seq: row.get("seq")?, hash: word(row, "hash")? });
    rows.iter().map(head).collect()
}

/// How many intents and signatures of one writer stand after a row, and the last row: in one look, so that none is
/// missed.
pub(in crate::ledger) async fn count_after(db: &mut Db, seq: i64, writer: &str) -> Sql<(i64, u64, u64)> {
    #[derive(Deserialize)]
    struct By<'a> {
        #[serde(borrow)]
        writer: Cow<'a, str>,
    }
    let rows = query("SELECT seq, kind, body FROM audit WHERE seq > ?1 ORDER BY seq").bind(seq);
    let (mut last, mut intents, mut signatures) = (seq, 0_u64, 0_u64);
    for row in rows.fetch_all(&mut *db).await? {
        last = row.get("seq")?;
        let count = match row.get::<&str>("kind")? {
            "intent" => &mut intents,
            "signature" => &mut signatures,
            _ => continue,
        };
        let by: By<'_> = serde_json::from_str(row.get("body")?).map_err(malformed)?;
        *count = count.saturating_add(u64::from(by.writer == writer));
    }
    Ok((last, intents, signatures))
}

/// The hash of a row; nothing where there is no such row.
pub(in crate::ledger) async fn hash_at(db: &mut Db, seq: i64) -> Sql<Option<B256>> {
    let row = query("SELECT hash FROM audit WHERE seq = ?1").bind(seq).fetch_optional(&mut *db).await?;
    row.map(|row| word(&row, "hash")).transpose()
}

/// The newest row of a kind.
pub(in crate::ledger) async fn last_of_kind(db: &mut Db, kind: &'static str) -> Sql<Option<Entry>> {
    // The kind stands in the text, so that its partial index is used.
    let sql = format!("SELECT * FROM audit WHERE kind = '{kind}' ORDER BY seq DESC LIMIT 1");
    let row = query(sql).fetch_optional(&mut *db).await?;
    row.map(|row| entry(&row)).transpose()
}

/// All rows of a kind, in order.
pub(in crate::ledger) async fn all_of_kind(db: &mut Db, kind: &'static str) -> Sql<Vec<Entry>> {
    let sql = format!("SELECT * FROM audit WHERE kind = '{kind}' ORDER BY seq");
    query(sql).fetch_all(&mut *db).await?.iter().map(entry).collect()
}

/// The reservations after one, by id, at most so many, for [`reservation`].
pub(in crate::ledger) fn reservations(after: i64, count: i64) -> Query<'static> {
    let rows = query(
        "SELECT id, kind, client, account, chain, nonce, max_fee, max_tip, max_blob_fee, state, outcome, rule, raw, hash
         FROM reservation WHERE id > ?1 ORDER BY id LIMIT ?2",
    );
    rows.bind(after).bind(count)
}

/// One of them, as `verify` holds it against the chain.
pub(in crate::ledger) fn reservation(row: &DbRow) -> Sql<Reservation> {
    let number = |name: &str| -> Sql<Option<u64>> {
        let number: Option<i64> = row.get(name)?;
        number.map(u64::try_from).transpose().map_err(malformed)
    };
    let hash = row.get::<Option<&[u8]>>("hash")?.map(B256::try_from).transpose().map_err(malformed)?;
    let bytes = row.get::<Option<&[u8]>>("raw")?.map(keccak256);
    let fee = |name: &str| -> Sql<Option<U128>> {
        let fee = row.get::<Option<&[u8]>>(name)?.map(<[u8; 16]>::try_from);
        Ok(fee.transpose().map_err(malformed)?.map(U128::from_be_bytes))
    };
    Ok(Reservation {
        id: row.get("id")?,
        kind: row.get("kind")?,
        client: row.get("client")?,
        account: address(row)?,
        chain: number("chain")?,
        nonce: number("nonce")?,
        state: row.get("state")?,
        word: row.get("outcome")?,
        rule: row.get("rule")?,
        fees: [fee("max_fee")?, fee("max_tip")?, fee("max_blob_fee")?],
        signed: hash.zip(bytes),
    })
}
