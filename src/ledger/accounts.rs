//! What the tables hold of accounts' nonces, read once: by all claims of one commit, and, where nobody else writes, by those
//! of all commits after it. What changes a row says so here; after a commit that failed everything is read anew.

use std::collections::HashMap;

use alloy_primitives::Address;

use crate::ledger::core::Row;
use crate::ledger::db::{Db, Sql};
use crate::ledger::life::{State, Word};
use crate::ledger::nonce_store;
use crate::ledger::store::{self, Held};

/// How far a node may lag behind what another said, or it before, without that everything is read anew.
const LAG: u64 = 512;

/// How many rows of which the chain has decided, or is about to, are kept before they are let go of.
const PAST: usize = 512;

/// An account on a chain.
type Account = (u64, Address);

#[derive(Debug, Default)]
pub(in crate::ledger) struct Accounts {
    read: HashMap<Account, Read>,
    /// Where each row is, by its number.
    places: HashMap<i64, (Account, u64)>,
}

/// What was read, and by what it was asked for.
#[derive(Debug)]
pub(in crate::ledger) struct Read {
    /// From here on all rows are here.
    mined: u64,
    wanted: Option<u64>,
    /// Lowest nonce first, and at a nonce in the order in which they came.
    rows: Vec<Held>,
    settled: Option<u64>,
    /// The mined count that an operator took as true.
    pub accepted: u64,
}

impl Accounts {
    /// What is known of an account, as a claim with this mined count and this wanted nonce needs it.
    pub(in crate::ledger) async fn read(
        &mut self,
        db: &mut Db,
        account: Account,
        (mined, wanted): (u64, Option<u64>),
    ) -> Sql<&Read> {
        let read = match self.read.remove(&account) {
            Some(read) if read.serves(mined, wanted) => read,
            stale => {
                self.forget_rows(stale);
                let rows = store::rows_of(db, account, (mined, wanted)).await?;
                let accepted = nonce_store::accepted(db, account).await?;
                let read = Read::new((mined, wanted), rows, accepted);
                self.places.extend(read.rows.iter().map(|held| (held.row.id, (account, held.row.nonce))));
                read
            }
        };
        let read = self.read.entry(account).insert_entry(read).into_mut();
        for past in read.past(mined) {
            self.places.remove(&past.row.id);
        }
        Ok(read)
    }

    /// From which nonce on all rows of an account are known; all of them are read where nothing is.
    pub(in crate::ledger) fn whole_from(&self, account: Account) -> u64 {
        self.read.get(&account).map_or(0, |read| read.mined)
    }

    /// A new reservation.
    pub(in crate::ledger) fn add(&mut self, account: Account, held: Held) {
        if let Some(read) = self.read.get_mut(&account) {
            self.places.insert(held.row.id, (account, held.row.nonce));
            read.add(held);
        }
    }

    /// A row came to another state. One that is not known here stood below what was read: what becomes of it says nothing
    /// to those who are above.
    pub(in crate::ledger) fn turned(&mut self, id: i64, to: State) {
        let Some((account, nonce)) = self.places.get(&id).copied() else { return };
        // It may have been the highest, and what is the highest now stands below what was read.
        if to == State::Void {
            self.forget(account);
        } else if let Some(read) = self.read.get_mut(&account) {
            read.turned((id, nonce), to);
        }
    }

    /// What was to be returned is ours to send.
    pub(in crate::ledger) fn adopted(&mut self, id: i64) {
        if let Some(held) = self.held(id) {
            held.returned = false;
        }
    }

    /// A node said something else of it than before.
    pub(in crate::ledger) fn said(&mut self, id: i64, word: Word) {
        if let Some(held) = self.held(id) {
            held.row.word = Some(word);
        }
    }

    fn held(&mut self, id: i64) -> Option<&mut Held> {
        let (account, nonce) = self.places.get(&id)?;
        self.read.get_mut(account)?.row((id, *nonce))
    }

    /// A payload's state, and the other payloads at its nonce with theirs, as the tables have them; nothing where
    /// not all of them are known.
    pub(in crate::ledger) fn at_nonce_of(&self, id: i64) -> Option<(State, Vec<(i64, State)>)> {
        let (account, nonce) = self.places.get(&id)?;
        let there = self.read.get(account)?.all_at(*nonce)?;
        let own = there.clone().find(|held| held.row.id == id)?;
        let others = there.filter(|held| held.row.id != id).map(|held| (held.row.id, held.row.state));
        Some((own.row.state, others.collect()))
    }

    /// Whether a payload of ours is known to be signed right below this one.
    pub(in crate::ledger) fn is_signed_below(&self, id: i64) -> bool {
        let below = self
            .places
            .get(&id)
            .and_then(|(account, nonce)| self.read.get(account)?.all_at(nonce.checked_sub(1)?));
        below.is_some_and(|mut there| there.any(|held| held.row.state.is_signed()))
    }

    /// An operator took a mined count as true.
    pub(in crate::ledger) fn accepted(&mut self, account: Account, count: u64) {
        if let Some(read) = self.read.get_mut(&account) {
            read.accepted = count;
        }
    }

    fn forget(&mut self, account: Account) {
        let read = self.read.remove(&account);
        self.forget_rows(read);
    }

    fn forget_rows(&mut self, read: Option<Read>) {
        for held in read.into_iter().flat_map(|read| read.rows) {
            self.places.remove(&held.row.id);
        }
    }
}

impl Read {
    fn new((mined, wanted): (u64, Option<u64>), mut rows: Vec<Held>, accepted: u64) -> Self {
        rows.sort_by_key(|held| (held.row.nonce, held.row.id));
        let settled = rows.iter().filter(|held| held.row.state.is_settled()).map(|held| held.row.nonce).max();
        let mined = mined.max(settled.unwrap_or_default());
        Self { mined, wanted, rows, settled, accepted }
    }

    fn add(&mut self, held: Held) {
        let at = self.rows.partition_point(|other| other.row.nonce <= held.row.nonce);
        self.rows.insert(at, held);
    }

    /// The rows at this nonce and above.
    fn from(&self, nonce: u64) -> &[Held] {
        let at = self.rows.partition_point(|held| held.row.nonce < nonce);
        self.rows.get(at..).unwrap_or_default()
    }

    /// All rows at this nonce, in the order in which they came; nothing where some may be missing.
    fn all_at(&self, nonce: u64) -> Option<impl Iterator<Item = &Held> + Clone> {
        let there = self.from(nonce).iter().take_while(move |held| held.row.nonce == nonce);
        (nonce >= self.mined).then_some(there)
    }

    fn row(&mut self, (id, nonce): (i64, u64)) -> Option<&mut Held> {
        let at = self.rows.partition_point(|held| held.row.nonce < nonce);
        let mut there = self.rows.get_mut(at..)?.iter_mut().take_while(|held| held.row.nonce == nonce);
        there.find(|held| held.row.id == id)
    }

    fn turned(&mut self, (id, nonce): (i64, u64), to: State) {
        if let Some(held) = self.row((id, nonce)) {
            held.row.state = to;
        }
        if to.is_settled() {
            self.settled = self.settled.max(Some(nonce));
        }
    }

    /// Lets go of what is far below where claims begin, where there is much of it; the highest row stays.
    fn past(&mut self, mined: u64) -> impl Iterator<Item = Held> {
        let floor = mined.max(self.settled.unwrap_or_default()).saturating_sub(LAG).max(self.mined);
        let below = self.rows.partition_point(|held| held.row.nonce < floor);
        let below = below.min(self.rows.len().saturating_sub(1));
        let gone = if below < PAST { 0 } else { below };
        if gone > 0 {
            (self.mined, self.wanted) = (floor, None);
        }
        self.rows.drain(..gone)
    }

    fn serves(&self, mined: u64, wanted: Option<u64>) -> bool {
        let settled = self.settled.unwrap_or_default();
        let has = |wanted| Some(wanted) == self.wanted || wanted >= self.mined.max(settled);
        mined.max(settled) >= self.mined && wanted.is_none_or(has)
    }

    /// The rows that have a say in a claim, as [`store::rows_of`] has them, and as the client sees them that claims now and
    /// wants its payload returned or not.
    pub(in crate::ledger) fn seen_by(
        &self,
        (client, returned): (&str, bool),
        (mined, wanted): (u64, Option<u64>),
    ) -> Vec<Row> {
        let from = mined.max(self.settled.unwrap_or_default());
        let above = self.from(from);
        // What was mined, where nothing is above it, says how much was mined.
        let highest = self.rows.last().filter(|_| above.is_empty());
        let wanted = wanted.filter(|wanted| *wanted < from);
        let at = |wanted| self.from(wanted).iter().take_while(move |held| held.row.nonce == wanted);
        let rows = wanted.map(at).into_iter().flatten().chain(highest).chain(above);
        let is_own = |held: &Held| held.client == client && held.returned == returned;
        rows.map(|held| Row { is_own: is_own(held), ..held.row }).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::ledger::beside;
    use crate::ledger::store::signed;
    use crate::ledger::tests::kit::{ASK, Ask, CHAIN, PATIENT, fresh, sign, turn, writer};
    use crate::ledger::{Ledger, Purpose};
    use crate::transaction::Fees;

    /// What a claim goes by: where nothing is at its nonces, how much the highest row says to be mined.
    fn say(rows: impl Iterator<Item = Row>, mined: u64) -> Vec<String> {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.nonce, row.id));
        let settled = rows.iter().filter(|row| row.state.is_settled()).map(|row| row.nonce).max();
        let highest = rows.last().map(|row| row.nonce);
        rows.retain(|row| Some(row.nonce) >= settled.max(Some(mined)));
        let words = rows.iter().map(|row| format!("{row:?}"));
        if rows.is_empty() { vec![format!("{highest:?}")] } else { words.collect() }
    }

    impl Accounts {
        /// What is known is what would be read now, for every claim that it serves.
        pub(in crate::ledger) async fn compare(&self, db: &mut Db) {
            for (account, read) in &self.read {
                let above = read.rows.iter().map(|held| held.row.nonce).max().unwrap_or_default();
                assert!(read.serves(self.whole_from(*account), None));
                let counts = [read.mined, above];
                for mined in counts.into_iter().filter(|mined| read.serves(*mined, None)) {
                    let asked = (mined, None);
                    let there = store::rows_of(db, *account, asked).await.unwrap();
                    let there = say(there.into_iter().map(|held| held.row), mined);
                    let known = say(read.seen_by(("nobody", false), asked).into_iter(), mined);
                    assert_eq!(known, there, "what is known of {account:?} at {mined}: {read:?}");
                }
                assert_eq!(read.accepted, nonce_store::accepted(db, *account).await.unwrap());
                let placed = |held: &Held| self.places.get(&held.row.id) == Some(&(*account, held.row.nonce));
                assert!(read.rows.iter().all(placed), "{read:?}");
                // The lowest, which may be incomplete, and the newest, to which things happen.
                for held in read.rows.iter().take(2).chain(read.rows.iter().rev().take(3)) {
                    let known = self.at_nonce_of(held.row.id);
                    assert_eq!(known.is_some(), held.row.nonce >= read.mined);
                    let there = beside::at_nonce_of(db, held.row.id).await.unwrap();
                    assert!(known.is_none() || known == there, "{known:?} is not {there:?}");
                }
            }
            let rows: usize = self.read.values().map(|read| read.rows.len()).sum();
            assert_eq!(self.places.len(), rows, "places of rows that are let go of");
        }
    }

    fn read(mined: u64, wanted: Option<u64>) -> Read {
        let fees = Fees::Dynamic { max_fee_per_gas: 1, max_priority_fee_per_gas: 1 };
        let (intent, word, is_own, is_authorization) = (B256::ZERO, None, false, false);
        let at = crate::clock::Timestamp::from_millis(0);
        let row =
            |nonce, state| Row { id: 1, nonce, at, state, intent, fees, word, is_own, is_authorization };
        let held = |nonce, state| Held { row: row(nonce, state), client: "a".to_owned(), returned: false };
        let rows = vec![held(7, State::Final), held(9, State::Recorded)];
        Read::new((mined, wanted), rows, 0)
    }

    /// Rows from the seventh on are there, and whatever was asked for by its nonce.
    #[test]
    fn inv_02_what_was_read_serves_no_claim_that_would_have_read_more() {
        assert!(read(5, None).serves(5, None) && read(5, None).serves(8, None));
        assert!(read(5, None).serves(4, None), "a node that knows less than what is settled");
        assert!(!read(8, None).serves(7, None), "a node that knows less");
        for (wanted, serves) in [(4, false), (6, false), (7, true), (9, true), (12, true)] {
            assert_eq!(read(5, None).serves(5, Some(wanted)), serves, "{wanted}");
        }
        assert!(!read(8, None).serves(8, Some(7)), "below the mined count");
        assert!(read(5, Some(3)).serves(6, Some(3)) && !read(5, Some(3)).serves(6, Some(4)));
    }

    #[test]
    fn a_payload_is_its_clients_own_where_it_was_for_the_same_purpose() {
        let own = |client, returned| read(5, None).seen_by((client, returned), (5, None))[0].is_own;
        assert!(own("a", false) && !own("a", true) && !own("b", false));
    }

    #[test]
    fn inv_02_a_claim_sees_what_is_at_its_nonce_and_above_and_the_highest() {
        let seen = |mined, wanted| {
            let rows = read(5, Some(7)).seen_by(("a", false), (mined, wanted));
            rows.iter().map(|row| row.nonce).collect::<Vec<_>>()
        };
        assert_eq!(seen(5, None), [7, 9]);
        assert_eq!(seen(8, None), [9]);
        assert_eq!(seen(8, Some(7)), [7, 9]);
        assert_eq!(seen(20, None), [9], "how much was mined is known by it");
    }

    /// However much is signed, no more than this is kept of what the chain has decided of.
    #[test]
    fn what_is_far_below_is_let_go_of() {
        let mut read = read(5, None);
        let held = read.rows[1].clone();
        let row = |nonce| Row { id: signed(nonce), nonce, ..held.row };
        for nonce in 10..10_000 {
            read.add(Held { row: row(nonce), ..held.clone() });
            assert_eq!(read.past(nonce).filter(|past| past.row.nonce + LAG >= nonce).count(), 0);
            assert!(read.rows.len() <= PAST + usize::try_from(LAG).unwrap() + 1);
            assert!(read.serves(nonce - LAG.min(nonce - 5), None), "a node that lags a little");
        }
        drop(read.past(20_000));
        assert_eq!(read.rows.last().map(|held| held.row.nonce), Some(9_999), "the highest stays");
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
