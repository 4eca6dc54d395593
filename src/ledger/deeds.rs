//! What was signed, in its order, for whoever judges it anew. Reads beside a running gateway.

use alloy_primitives::{Address, Bytes};

use crate::clock::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::db::{Db, DbRow, Location, Sql, query};
use crate::ledger::error::unavailable;
use crate::ledger::store::{address, unsigned};

/// How many are read at once; one with blobs is a megabyte.
const PAGE: i64 = 64;

/// A payload that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    pub id: i64,
    pub kind: String,
    pub client: String,
    pub account: Address,
    pub rule: String,
    /// When it was recorded.
    pub at: Timestamp,
    /// A transaction's signed bytes, or a signature with its typed data; of a message only the signature.
    pub raw: Bytes,
}

/// Shows `each` what was recorded since then.
pub async fn deeds(at: &Location, since: Timestamp, mut each: impl FnMut(&Deed)) -> Result<(), LedgerError> {
    let mut db = at.read().await.map_err(unavailable)?;
    let mut after = 0;
    loop {
        let page = page(&mut db, after, since).await.map_err(unavailable)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        page.iter().for_each(&mut each);
    }
}

async fn page(db: &mut Db, after: i64, since: Timestamp) -> Sql<Vec<Deed>> {
    let rows = query(
        "SELECT id, kind, client, account, rule, charged_at, raw FROM reservation
         WHERE id > ?1 AND raw IS NOT NULL AND charged_at >= ?2 ORDER BY id LIMIT ?3",
    );
    let since = i64::try_from(since.millis()).unwrap_or(i64::MAX);
    let rows = rows.bind(after).bind(since).bind(PAGE).fetch_all(&mut *db).await?;
    rows.iter().map(deed).collect()
}

fn deed(row: &DbRow) -> Sql<Deed> {
    Ok(Deed {
        id: row.get("id")?,
        kind: row.get("kind")?,
        client: row.get("client")?,
        account: address(row)?,
        rule: row.get("rule")?,
        at: Timestamp::from_millis(unsigned(row, "charged_at")?),
        raw: Bytes::from(row.get::<Vec<u8>>("raw")?),
    })
}
