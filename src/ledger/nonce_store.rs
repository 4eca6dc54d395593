//! What the tables say of an account's nonces beyond its rows: mined counts that an operator took as true, and
//! nonces that none of our payloads has.

use alloy_primitives::Address;

use crate::ledger::audit::Administration;
use crate::ledger::audit::Body;
use crate::ledger::db::{Db, Sql, query};
use crate::ledger::store::{address, signed};
use crate::ledger::writer::Group;

/// The mined count that an operator took as true; 0 where none did.
pub(in crate::ledger) async fn accepted(db: &mut Db, (chain, account): (u64, Address)) -> Sql<u64> {
    let row = query("SELECT count FROM accepted_count WHERE chain = ?1 AND account = ?2")
        .bind(signed(chain))
        .bind(account.as_slice())
        .fetch_optional(&mut *db)
        .await?;
    let count: i64 = row.map_or(Ok(0), |row| row.get("count"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// An operator's word on a mined count, and its audit row.
pub(in crate::ledger) async fn accept(
    group: &mut Group<'_>,
    (chain, account): (u64, Address),
    count: u64,
    by: &Administration,
) -> Sql<()> {
    query(
        "INSERT INTO accepted_count (chain, account, count) VALUES (?1, ?2, ?3)
         ON CONFLICT (chain, account) DO UPDATE SET count = excluded.count",
    )
    .bind(signed(chain))
    .bind(account.as_slice())
    .bind(signed(count))
    .execute(&mut *group.db)
    .await?;
    group.known.accounts.accepted((chain, account), count);
    let detail = serde_json::json!({ "chain": chain, "account": account, "count": count });
    group.audit(&Body::Administration { by, action: "accept_count", detail: &detail }).await
}

/// The nonces right below a payload's that none of our signed payloads has, and the payload's own chain, account and
/// nonce. Nothing below the first that we know of: what was there before us is nobody's news.
pub(in crate::ledger) async fn missing_below(db: &mut Db, id: i64) -> Sql<Option<(u64, Address, u64, u64)>> {
    let row = query(
        "SELECT this.chain, this.account, this.nonce,
            (SELECT other.nonce FROM reservation AS other
             WHERE other.chain = this.chain AND other.account = this.account AND other.nonce < this.nonce
               AND other.live IS NOT NULL AND other.state <> 'reserved'
             ORDER BY other.nonce DESC LIMIT 1) AS below
         FROM reservation AS this WHERE this.id = ?1 AND this.nonce IS NOT NULL",
    )
    .bind(id)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let number = |name| -> Sql<Option<u64>> {
        let number: Option<i64> = row.get(name)?;
        Ok(number.and_then(|number| u64::try_from(number).ok()))
    };
    let (Some(chain), Some(nonce)) = (number("chain")?, number("nonce")?) else { return Ok(None) };
    let first = number("below")?.map_or(nonce, |below| below.saturating_add(1));
    Ok(Some((chain, address(&row)?, first, nonce)))
}
