//! What is open: the transactions that the chain has not decided of, the nonces that are missing below them, and what
//! an operator says of both.

use std::marker::PhantomData;

use alloy_primitives::{Address, B256, Bytes};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ledger::audit::{Administration, Body};
use crate::ledger::command::{Command, Reply};
use crate::ledger::db::{Db, DbRow, Sql, query};
use crate::ledger::life::{State, Word};
use crate::ledger::writer::Group;
use crate::ledger::{Doubt, Ledger, LedgerError, Recorded, ReservationId, core, nonce_store, places, store};
use crate::transaction::{Fees, Kind};

/// How many payloads are read at once, and how many bytes of them unless it is one alone: one with blobs is a megabyte.
const PAGE: i64 = 128;
const PAGE_BYTES: i64 = 4 << 20;

/// A signed transaction, or an authorization, that the chain has not decided of.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    /// `transaction`, or `authorization`, which holds a nonce like one.
    pub kind: String,
    pub client: String,
    pub request: String,
    pub chain: u64,
    pub account: Address,
    pub nonce: u64,
    pub raw: Bytes,
    pub hash: B256,
    pub fees: Fees,
    /// When it was reserved.
    pub at: Timestamp,
    /// It is its client's to send.
    pub is_returned: bool,
    word: Option<Word>,
    state: State,
}

/// What the writer can be asked about nonces.
#[derive(Debug)]
pub(in crate::ledger) enum Inquiry {
    Open {
        reply: Reply<Result<Vec<OpenTransaction>, LedgerError>>,
    },
    Lowest {
        chain: u64,
        account: Address,
        reply: Reply<Result<Vec<OpenTransaction>, LedgerError>>,
    },
    Accounts {
        chain: u64,
        reply: Reply<Result<Vec<Address>, LedgerError>>,
    },
    Gaps {
        chain: u64,
        account: Address,
        mined: Option<u64>,
        reply: Reply<Result<Vec<u64>, LedgerError>>,
    },
    Accept {
        chain: u64,
        account: Address,
        count: u64,
        by: Administration,
        reply: Reply<Result<(), LedgerError>>,
    },
    Administered {
        by: Administration,
        action: &'static str,
        detail: Value,
        reply: Reply<Result<(), LedgerError>>,
    },
}

impl OpenTransaction {
    /// Whether it is the one at its nonce that is to be mined.
    pub fn is_live(&self) -> bool {
        self.state == State::Recorded
    }

    /// Whether a node has spoken of it since it was handed over last.
    pub fn is_heard_of(&self) -> bool {
        self.word.is_some_and(|word| !word.is_ours())
    }

    /// The last word of a node.
    pub fn word(&self) -> Option<&'static str> {
        self.word.map(Word::name)
    }

    /// `recorded`, `outbid` or `vacant`: `docs/ledger.md` says what each means.
    pub const fn state(&self) -> &'static str {
        self.state.name()
    }

    /// The least that outbids it; nothing where none has to, for no node ever took it.
    pub fn least_over(&self) -> Option<Fees> {
        places::least_over(&self.fees, self.state, self.word)
    }
}

impl Ledger {
    /// Whatever is signed for this chain, and it has not decided of: any of it may be mined. In the order in which it was
    /// reserved, and no further than `upto`, so that whoever reads it comes to an end.
    pub fn open_pages<K: Kind>(&self, chain: u64, upto: ReservationId) -> Pages<'_, K> {
        Pages { ledger: self, chain, after: 0, upto: upto.0, kind: PhantomData }
    }

    /// The last reservation.
    pub async fn newest(&self) -> Result<ReservationId, LedgerError> {
        self.ask(|reply| Command::Newest { reply }).await?.map(ReservationId)
    }

    /// Every signed transaction that the chain has not decided of, by account and nonce.
    pub async fn open_transactions(&self) -> Result<Vec<OpenTransaction>, LedgerError> {
        self.ask(|reply| Command::Nonces(Inquiry::Open { reply })).await?
    }

    /// Those of an account at the lowest nonce at which one waits to be mined; of what is below one that was mined the chain
    /// has decided, whether we have seen it or not.
    pub async fn lowest_open(
        &self,
        chain: u64,
        account: Address,
    ) -> Result<Vec<OpenTransaction>, LedgerError> {
        self.ask(|reply| Command::Nonces(Inquiry::Lowest { chain, account, reply })).await?
    }

    /// The accounts with transactions that the chain has not decided of.
    pub async fn open_accounts(&self, chain: u64) -> Result<Vec<Address>, LedgerError> {
        self.ask(|reply| Command::Nonces(Inquiry::Accounts { chain, reply })).await?
    }

    /// The nonces that are missing below recorded payloads, lowest first, no more than one over [`MAX_GAPS`]. Without a mined
    /// count they are looked for among the rows that are in memory, where they are: what was mined far below the last claims is not.
    ///
    /// [`MAX_GAPS`]: crate::ledger::MAX_GAPS
    pub async fn gaps(
        &self,
        chain: u64,
        account: Address,
        mined: Option<u64>,
    ) -> Result<Vec<u64>, LedgerError> {
        self.ask(|reply| Command::Nonces(Inquiry::Gaps { chain, account, mined, reply })).await?
    }

    /// Takes a mined count as true that stands far above what the ledger knows: an operator's word, or several nodes'.
    pub async fn accept_count(
        &self,
        (chain, account): (u64, Address),
        count: u64,
        by: Administration,
    ) -> Result<(), LedgerError> {
        self.doubts.end((chain, account));
        self.ask(|reply| Command::Nonces(Inquiry::Accept { chain, account, count, by, reply })).await?
    }

    /// Writes down what an operator is about to have signed.
    pub async fn administered(
        &self,
        by: Administration,
        action: &'static str,
        detail: Value,
    ) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Nonces(Inquiry::Administered { by, action, detail, reply })).await?
    }

    /// The accounts for which nothing is signed because a node's mined count jumped, with what it said.
    pub fn doubts(&self) -> Vec<Doubt> {
        self.doubts.all()
    }
}

/// What is open of a kind, some of it at a time: nobody waits for the writer longer than for one page.
#[derive(Debug)]
pub struct Pages<'a, K> {
    ledger: &'a Ledger,
    chain: u64,
    after: i64,
    upto: i64,
    kind: PhantomData<K>,
}

impl<K: Kind> Pages<'_, K> {
    /// The next page; empty where there is none.
    pub async fn next(&mut self) -> Result<Vec<Recorded<K>>, LedgerError> {
        let (kind, chain, after, upto) = (K::NAME, self.chain, self.after, self.upto);
        let page = self.ledger.ask(|reply| Command::Unsettled { kind, chain, after, upto, reply }).await??;
        let page: Vec<Recorded<K>> = page.into_iter().map(Into::into).collect();
        self.after = page.last().map_or(upto, |last| last.id().0);
        Ok(page)
    }
}

impl Inquiry {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>) -> Sql<()> {
        match self {
            Self::Open { reply } => {
                let open = open(group.db).await?;
                group.answer(reply, Ok(open));
            }
            Self::Lowest { chain, account, reply } => {
                let lowest = lowest(group.db, chain, account).await?;
                group.answer(reply, Ok(lowest));
            }
            Self::Accounts { chain, reply } => {
                let accounts = accounts(group.db, chain).await?;
                group.answer(reply, Ok(accounts));
            }
            Self::Gaps { chain, account, mined, reply } => {
                let mined = mined.unwrap_or_else(|| group.known.accounts.whole_from((chain, account)));
                let read = group.known.accounts.read(group.db, (chain, account), (mined, None)).await?;
                let gaps = core::gaps(&read.seen_by(("", false), (mined, None)), mined);
                group.answer(reply, Ok(gaps));
            }
            Self::Accept { chain, account, count, by, reply } => {
                nonce_store::accept(group, (chain, account), count, &by).await?;
                group.answer(reply, Ok(()));
            }
            Self::Administered { by, action, detail, reply } => {
                group.audit(&Body::Administration { by: &by, action, detail: &detail }).await?;
                group.answer(reply, Ok(()));
            }
        }
        Ok(())
    }
}

/// A page of the signed payloads of a kind of which the chain has not decided.
pub(in crate::ledger) async fn unsettled(
    db: &mut Db,
    (kind, chain): (&str, u64),
    (after, upto): (i64, i64),
) -> Sql<Vec<store::Stored>> {
    let sizes = query(
        "SELECT id, CAST(length(raw) AS BIGINT) AS size FROM reservation
         WHERE open = 1 AND id > ?1 AND id <= ?5 AND state <> 'reserved' AND nonce IS NOT NULL AND kind = ?2 AND chain = ?3
         ORDER BY id LIMIT ?4",
    );
    let sizes = sizes.bind(after).bind(kind).bind(store::signed(chain)).bind(PAGE).bind(upto);
    let (mut last, mut bytes) = (None, 0_i64);
    for row in sizes.fetch_all(&mut *db).await? {
        bytes = bytes.saturating_add(row.get("size")?);
        if last.is_some() && bytes > PAGE_BYTES {
            break;
        }
        last = Some(row.get::<i64>("id")?);
    }
    let Some(last) = last else { return Ok(Vec::new()) };
    let rows = query(
        "SELECT * FROM reservation
         WHERE open = 1 AND id > ?1 AND id <= ?4 AND state <> 'reserved' AND nonce IS NOT NULL AND kind = ?2 AND chain = ?3
         ORDER BY id",
    );
    let rows = rows.bind(after).bind(kind).bind(store::signed(chain)).bind(last);
    rows.fetch_all(&mut *db).await?.iter().map(store::stored_row).collect()
}

/// The last reservation.
pub(in crate::ledger) async fn newest(db: &mut Db) -> Sql<i64> {
    query("SELECT coalesce(max(id), 0) AS id FROM reservation").number(db).await
}

async fn open(db: &mut Db) -> Sql<Vec<OpenTransaction>> {
    let rows = query(
        "SELECT * FROM reservation WHERE open = 1 AND state <> 'reserved' AND nonce IS NOT NULL
         ORDER BY account, nonce, id",
    );
    rows.fetch_all(&mut *db).await?.iter().map(open_row).collect()
}

async fn lowest(db: &mut Db, chain: u64, account: Address) -> Sql<Vec<OpenTransaction>> {
    let rows = query(
        "SELECT * FROM reservation
         WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND open = 1 AND state <> 'reserved' AND nonce =
             (SELECT nonce FROM reservation
              WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND open = 1 AND state = 'recorded' AND nonce >= coalesce(
                  (SELECT nonce FROM reservation
                   WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND open = 0
                   ORDER BY nonce DESC LIMIT 1), 0)
              ORDER BY nonce LIMIT 1)
         ORDER BY id",
    );
    let rows = rows.bind(store::signed(chain)).bind(account.as_slice());
    rows.fetch_all(&mut *db).await?.iter().map(open_row).collect()
}

async fn accounts(db: &mut Db, chain: u64) -> Sql<Vec<Address>> {
    let rows =
        query("SELECT DISTINCT account FROM reservation WHERE open = 1 AND chain = ?1 ORDER BY account");
    rows.bind(store::signed(chain)).fetch_all(&mut *db).await?.iter().map(store::address).collect()
}

fn open_row(row: &DbRow) -> Sql<OpenTransaction> {
    Ok(OpenTransaction {
        kind: row.get("kind")?,
        client: row.get("client")?,
        request: row.get("request")?,
        chain: store::unsigned(row, "chain")?,
        account: store::address(row)?,
        nonce: store::unsigned(row, "nonce")?,
        state: store::state_in(row)?,
        raw: Bytes::from(row.get::<Vec<u8>>("raw")?),
        hash: store::word(row, "hash")?,
        fees: store::fees(row)?,
        at: Timestamp::from_millis(store::unsigned(row, "reserved_at")?),
        word: store::word_in(row)?,
        is_returned: row.is_set("returned")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::kit::{ASK, Ask, CHAIN, Desk, PATIENT, POLICY, address, fresh, sign};
    use crate::ledger::{Final, Purpose};
    use crate::policy::{Permitted, Replace};
    use crate::transaction::{Authorization, DelegationRequest, Tx};

    impl Ledger {
        /// The first page of what is open.
        pub async fn unsettled<K: Kind>(&self, chain: u64) -> Result<Vec<Recorded<K>>, LedgerError> {
            self.open_pages(chain, ReservationId(i64::MAX)).next().await
        }
    }

    /// Whoever reads page by page comes to an end, however much is recorded meanwhile.
    #[tokio::test]
    async fn pages_of_what_is_open_end_where_they_were_to() {
        let desk = Desk::open(PATIENT).await;
        let first = desk.send(ASK).await.unwrap();
        let newest = desk.ledger.newest().await.unwrap();
        desk.send(Ask { value: 2, ..ASK }).await.unwrap();
        let mut pages = desk.ledger.open_pages::<Tx>(CHAIN, newest);
        let page = pages.next().await.unwrap();
        assert_eq!(page.iter().map(Recorded::id).collect::<Vec<_>>(), [first.id()]);
        assert!(pages.next().await.unwrap().is_empty());
        assert_eq!(desk.ledger.unsettled::<Tx>(CHAIN).await.unwrap().len(), 2);
    }

    /// The page ends where its bytes would be too many, and the next one goes on from there.
    #[tokio::test]
    async fn pages_of_large_payloads_are_small() {
        let desk = Desk::open(PATIENT).await;
        for value in 1..=3 {
            desk.send(Ask { value, ..ASK }).await.unwrap();
        }
        desk.sql("UPDATE reservation SET raw = zeroblob(3 * 1024 * 1024)").await;
        let newest = desk.ledger.newest().await.unwrap();
        let mut pages = desk.ledger.open_pages::<Tx>(CHAIN, newest);
        for _ in 0..3 {
            assert_eq!(pages.next().await.unwrap().len(), 1);
        }
        assert!(pages.next().await.unwrap().is_empty());
    }

    /// Its charge would be freed, and the transaction's end be written as another's.
    #[tokio::test]
    async fn inv_03_an_authorization_is_not_settled_while_a_transaction_may_have_used_its_nonce() {
        let desk = Desk::open(PATIENT).await;
        let asked = format!(r#"[{{"from":"{from}","address":"{from}"}}]"#, from = address(ASK.seed));
        let asked = DelegationRequest::parse(Some(&asked)).unwrap().fill(CHAIN, 0).unwrap();
        let asked = Permitted::<Authorization>::for_test(asked, ASK.caller(), POLICY);
        let held = fresh(desk.ledger.reserve(asked, Purpose::Return).await.unwrap());
        let held = desk.ledger.record(sign(held)).await.unwrap();
        // An operator uses its nonce up.
        let over = Ask { nonce: held.nonce(), request: 2, replace: Replace::Any, ..ASK };
        let over = desk.send(over).await.unwrap();
        assert_eq!(held.nonce(), over.nonce());

        let past = Final::Past { block: 9, succeeded: false };
        desk.ledger.settled(held.id(), past).await.unwrap();
        assert_eq!(desk.states().await, ["outbid", "recorded"]);
        desk.ledger.settled(over.id(), Final::Replaced).await.unwrap();
        desk.ledger.settled(held.id(), past).await.unwrap();
        assert_eq!(desk.states().await, ["final", "replaced"]);
    }
}
