//! What else is signed at a payload's nonce, by the tables. Reads only.

use alloy_primitives::{Address, B256};

use crate::ledger::db::{Db, Sql, query};
use crate::ledger::life::State;
use crate::ledger::store::{Stored, signed, state_in, state_named, stored_row};
use crate::policy::is_for_another;
use crate::transaction::{Fees, Kind as _, Tx, digest_of};

/// A payload's state, and the other payloads at its nonce with theirs; nothing where there is no such payload.
pub(in crate::ledger) async fn at_nonce_of(db: &mut Db, id: i64) -> Sql<Option<(State, Vec<(i64, State)>)>> {
    let rows = query(
        "SELECT this.state AS own, other.id, other.state FROM reservation AS this LEFT JOIN reservation AS other
         ON other.chain = this.chain AND other.account = this.account AND other.nonce = this.nonce
            AND other.id <> this.id AND other.live IS NOT NULL
         WHERE this.id = ?1 ORDER BY other.id",
    );
    let rows = rows.bind(id).fetch_all(&mut *db).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let state = state_named(first.get("own")?)?;
    let mut others = Vec::new();
    for row in &rows {
        if let Some(other) = row.get::<Option<i64>>("id")? {
            others.push((other, state_in(row)?));
        }
    }
    Ok(Some((state, others)))
}

/// The payload that its nonce is given to now, where that is a bump; what a client asks for itself is a payment of its own.
pub(in crate::ledger) async fn bumped_to(db: &mut Db, id: i64) -> Sql<Option<Stored>> {
    let row = query(
        "SELECT other.* FROM reservation AS this JOIN reservation AS other
         ON other.chain = this.chain AND other.account = this.account AND other.nonce = this.nonce
            AND other.live = 1 AND other.raw IS NOT NULL AND other.client = this.client AND other.kind = this.kind
         WHERE this.id = ?1 LIMIT 1",
    );
    let row = row.bind(id).fetch_optional(&mut *db).await?;
    let Some(row) = row.filter(|row| row.get::<&str>("rule").is_ok_and(is_for_another)) else {
        return Ok(None);
    };
    stored_row(&row).map(Some)
}

/// Whether exactly this was signed at a nonce, and refused.
pub(in crate::ledger) async fn is_signed_at(
    db: &mut Db,
    (chain, account): (u64, Address),
    (nonce, fees): (u64, &Fees),
    digest: B256,
) -> Sql<bool> {
    let rows = query(
        "SELECT raw FROM reservation WHERE chain = ?1 AND account = ?2 AND nonce = ?3 AND live = 0 AND state = 'vacant'
           AND max_fee = ?4 AND max_tip = ?5",
    );
    let rows = rows.bind(signed(chain)).bind(account.as_slice()).bind(signed(nonce));
    let rows = rows.bind(fees.max_per_gas().to_be_bytes().to_vec());
    let rows = rows.bind(fees.max_priority().to_be_bytes().to_vec()).fetch_all(db).await?;
    let mut is_signed = false;
    for row in &rows {
        is_signed |= digest_of(row.get("raw")?) == Some(digest);
    }
    Ok(is_signed)
}

/// Whether a signed transaction at the nonce of this payload may yet be mined, or is and its receipt was not seen.
pub(in crate::ledger) async fn is_transaction(db: &mut Db, id: i64) -> Sql<bool> {
    let beside = query(
        "SELECT count(*) AS transactions FROM reservation AS this JOIN reservation AS other
         ON other.chain = this.chain AND other.account = this.account AND other.nonce = this.nonce
         WHERE this.id = ?1 AND other.kind = ?2 AND other.open = 1 AND other.state <> 'reserved'",
    );
    Ok(beside.bind(id).bind(Tx::NAME).number(db).await? > 0)
}
