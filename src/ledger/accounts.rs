//! What the tables hold of accounts' nonces, read once for all claims of one commit: those of a busy account come
//! together, and each would read the same rows.

use std::collections::HashMap;

use alloy_primitives::Address;

use crate::ledger::core::Row;
use crate::ledger::db::{Db, Sql};
use crate::ledger::nonce_store;
use crate::ledger::store::{self, Held};

#[derive(Debug, Default)]
pub(in crate::ledger) struct Accounts(HashMap<(u64, Address), Read>);

/// What was read, and by what it was asked for.
#[derive(Debug)]
pub(in crate::ledger) struct Read {
    mined: u64,
    wanted: Option<u64>,
    rows: Vec<Held>,
    /// The mined count that an operator took as true.
    pub accepted: u64,
}

impl Accounts {
    /// The rows that have a say, as [`store::rows_of`] has them; more than those do no harm, as they stand below the
    /// mined count.
    pub(in crate::ledger) async fn read(
        &mut self,
        db: &mut Db,
        account: (u64, Address),
        (mined, wanted): (u64, Option<u64>),
    ) -> Sql<&Read> {
        let read = if let Some(read) = self.0.remove(&account).filter(|read| read.serves(mined, wanted)) {
            read
        } else {
            let rows = store::rows_of(db, account, (mined, wanted)).await?;
            let accepted = nonce_store::accepted(db, account).await?;
            Read { mined, wanted, rows, accepted }
        };
        Ok(self.0.entry(account).insert_entry(read).into_mut())
    }

    /// A new reservation.
    pub(in crate::ledger) fn add(&mut self, account: (u64, Address), held: Held) {
        if let Some(read) = self.0.get_mut(&account) {
            read.rows.push(held);
        }
    }

    /// A row changed that was there.
    pub(in crate::ledger) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Read {
    fn serves(&self, mined: u64, wanted: Option<u64>) -> bool {
        let settled = self.rows.iter().filter(|held| held.row.state.is_settled());
        let settled = settled.map(|held| held.row.nonce).max().unwrap_or_default();
        let has = |wanted| Some(wanted) == self.wanted || wanted >= self.mined.max(settled);
        mined >= self.mined && wanted.is_none_or(has)
    }

    /// The rows as the client sees them that claims now, and wants its payload returned or not.
    pub(in crate::ledger) fn seen_by(&self, client: &str, returned: bool) -> Vec<Row> {
        let is_own = |held: &Held| held.client == client && held.returned == returned;
        self.rows.iter().map(|held| Row { is_own: is_own(held), ..held.row }).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::ledger::life::State;
    use crate::transaction::Fees;

    fn read(mined: u64, wanted: Option<u64>) -> Read {
        let fees = Fees::Dynamic { max_fee_per_gas: 1, max_priority_fee_per_gas: 1 };
        let (intent, is_own, is_authorization) = (B256::ZERO, false, false);
        let row = |nonce, state| Row { id: 1, nonce, state, intent, fees, is_own, is_authorization };
        let held = |nonce, state| Held { row: row(nonce, state), client: "a".to_owned(), returned: false };
        let rows = vec![held(7, State::Final), held(9, State::Recorded)];
        Read { mined, wanted, rows, accepted: 0 }
    }

    /// Rows from the seventh on are there, and whatever was asked for by its nonce.
    #[test]
    fn inv_02_what_was_read_serves_no_claim_that_would_have_read_more() {
        assert!(read(5, None).serves(5, None) && read(5, None).serves(8, None));
        assert!(!read(5, None).serves(4, None), "a node that knows less");
        for (wanted, serves) in [(4, false), (6, false), (7, true), (9, true), (12, true)] {
            assert_eq!(read(5, None).serves(5, Some(wanted)), serves, "{wanted}");
        }
        assert!(!read(8, None).serves(8, Some(7)), "below the mined count");
        assert!(read(5, Some(3)).serves(6, Some(3)) && !read(5, Some(3)).serves(6, Some(4)));
    }

    #[test]
    fn a_payload_is_its_clients_own_where_it_was_for_the_same_purpose() {
        let own = |client, returned| read(5, None).seen_by(client, returned)[0].is_own;
        assert!(own("a", false) && !own("a", true) && !own("b", false));
    }
}
