//! What the ledger has on keys: the rows that tell of their use, and what is still open in their name. Reads only.

use alloy_primitives::Address;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::config;
use crate::ledger::db::query;
use crate::ledger::error::unavailable;
use crate::ledger::{LedgerError, Location, store};

/// A row of the kind `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub seq: i64,
    pub at: Timestamp,
    pub token: String,
    pub what: String,
    pub keys: Vec<Address>,
}

/// Its fields that anybody needs.
#[derive(Deserialize)]
struct Body {
    token: String,
    what: String,
    #[serde(default)]
    keys: Vec<Address>,
}

/// What was done with keys after a row, oldest first; nothing where there is no ledger yet.
pub async fn key_rows(ledger: &config::Ledger, after: i64) -> Result<Vec<KeyRow>, LedgerError> {
    let at = Location::from(ledger);
    if !at.exists() {
        return Ok(Vec::new());
    }
    let mut db = at.read().await.map_err(unavailable)?;
    let rows = query("SELECT * FROM audit WHERE kind = 'key' AND seq > ?1 ORDER BY seq").bind(after);
    let rows = rows.fetch_all(&mut db).await.map_err(unavailable)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let entry = store::entry(row).map_err(unavailable)?;
        let body: Body = serde_json::from_str(&entry.body)
            .map_err(|error| LedgerError::Broken(format!("row {} is no use of a key: {error}", entry.seq)))?;
        let Body { token, what, keys } = body;
        found.push(KeyRow { seq: entry.seq, at: entry.at, token, what, keys });
    }
    Ok(found)
}

/// How many of an account's transactions the chain has not decided of; none where there is no ledger yet.
pub async fn open_of(ledger: &config::Ledger, account: Address) -> Result<u64, LedgerError> {
    let at = Location::from(ledger);
    if !at.exists() {
        return Ok(0);
    }
    let mut db = at.read().await.map_err(unavailable)?;
    let row = query(
        "SELECT COUNT(*) AS many FROM reservation
         WHERE open = 1 AND account = ?1 AND nonce IS NOT NULL AND state <> 'reserved'",
    );
    let row = row.bind(account.as_slice()).fetch_one(&mut db).await.map_err(unavailable)?;
    let open: i64 = row.get("many").map_err(unavailable)?;
    Ok(open.unsigned_abs())
}
