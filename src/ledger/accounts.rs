//! What the tables hold of accounts' nonces, read once: by all claims of one commit, and, where nobody else writes, by those
//! of all commits after it. What changes a row says so here; after a commit that failed everything is read anew.

use std::collections::HashMap;

use alloy_primitives::Address;

use crate::ledger::core::Row;
use crate::ledger::db::{Db, Sql};
use crate::ledger::life::State;
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

    /// A row came to another state.
    pub(in crate::ledger) fn turned(&mut self, id: i64, to: State) {
        let at = |read: &Read| read.rows.iter().position(|held| held.row.id == id);
        let found = self.0.iter_mut().find_map(|(account, read)| Some((*account, at(read)?, read)));
        match found {
            // It may have been the highest, and what is the highest now stands below what was read.
            Some((account, ..)) if to == State::Void => drop(self.0.remove(&account)),
            Some((_, at, read)) => read.turned(at, to),
            // It stood below what was read, and is where reading begins from now on.
            None if to.is_settled() => self.0.clear(),
            None => {}
        }
    }

    /// What was to be returned is ours to send.
    pub(in crate::ledger) fn adopted(&mut self, id: i64) {
        for held in self.0.values_mut().flat_map(|read| &mut read.rows) {
            held.returned &= held.row.id != id;
        }
    }

    /// An operator took a mined count as true.
    pub(in crate::ledger) fn accepted(&mut self, account: (u64, Address), count: u64) {
        if let Some(read) = self.0.get_mut(&account) {
            read.accepted = count;
        }
    }
}

impl Read {
    /// What is below the last settled nonce has no say any more.
    fn turned(&mut self, at: usize, to: State) {
        if let Some(held) = self.rows.get_mut(at) {
            held.row.state = to;
        }
        if let Some(settled) = self.settled().filter(|_| to.is_settled()) {
            self.rows.retain(|held| held.row.nonce >= settled);
            self.wanted = None;
        }
    }

    fn settled(&self) -> Option<u64> {
        let settled = self.rows.iter().filter(|held| held.row.state.is_settled());
        settled.map(|held| held.row.nonce).max()
    }

    fn serves(&self, mined: u64, wanted: Option<u64>) -> bool {
        let from = self.mined.max(self.settled().unwrap_or_default());
        let has = |wanted| Some(wanted) == self.wanted || wanted >= from;
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
    use crate::ledger::tests::kit::{ASK, Ask, CHAIN, PATIENT, fresh, sign, turn, writer};
    use crate::ledger::{Ledger, Purpose};
    use crate::transaction::Fees;

    impl Accounts {
        /// What is known is what would be read now, and perhaps more of what is below it.
        pub(in crate::ledger) async fn compare(&self, db: &mut Db) {
            for (account, read) in &self.0 {
                let words = |held: &Held| format!("{held:?}");
                let known: Vec<_> = read.rows.iter().map(words).collect();
                let there = store::rows_of(db, *account, (read.mined, None)).await.unwrap();
                let missing = there.iter().find(|held| !known.contains(&words(held)));
                assert!(missing.is_none(), "the tables have {missing:?}, and {read:?} is known");
                let settled = there.iter().filter(|held| held.row.state.is_settled());
                let from = settled.map(|held| held.row.nonce).max().unwrap_or_default().max(read.mined);
                let there: Vec<_> = there.iter().map(words).collect();
                let more =
                    read.rows.iter().find(|held| held.row.nonce >= from && !there.contains(&words(held)));
                assert!(more.is_none(), "{more:?} is known, and the tables have {there:?}");
                assert_eq!(read.accepted, nonce_store::accepted(db, *account).await.unwrap());
            }
        }
    }

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

    #[tokio::test]
    async fn inv_02_a_nonce_that_becomes_free_in_a_commit_is_given_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
        let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
        let policy = ledger.activate_policy(ASK.policy, "allow all");
        tokio::join!(policy, turn(&mut writer, &mut queue)).0.unwrap();
        let claim = ledger.reserve(ASK.permitted(), Purpose::Send);
        let slow = fresh(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap());

        let next = ledger.next_nonce(CHAIN, slow.from(), 0);
        let void = ledger.void(slow.id(), "the token did not answer");
        let claim = ledger.reserve(Ask { value: 2, ..ASK }.permitted(), Purpose::Send);
        let (next, voided, claim, ()) = tokio::join!(next, void, claim, turn(&mut writer, &mut queue));
        voided.unwrap();
        let record = ledger.record(sign(fresh(claim.unwrap())));
        let recorded = tokio::join!(record, turn(&mut writer, &mut queue)).0.unwrap();
        assert_eq!((next.unwrap(), recorded.nonce()), (1, Some(0)));
    }
}
