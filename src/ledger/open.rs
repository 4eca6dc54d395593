//! What is open: the transactions that the chain has not decided of, the nonces that are missing below them, and what
//! an operator says of both.

use alloy_primitives::{Address, B256, Bytes};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ledger::audit::{Administration, Body};
use crate::ledger::command::{Command, Reply};
use crate::ledger::db::{Db, DbRow, Sql, query};
use crate::ledger::handle::recorded;
use crate::ledger::writer::Group;
use crate::ledger::{Doubt, Ledger, LedgerError, Recorded, ReservationId, core, nonce_store, store};
use crate::transaction::{Fees, Kind};

/// How many payloads are read at once; one with blobs is a megabyte.
const PAGE: i64 = 128;

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
    /// `recorded`, `outbid` or `vacant`: `docs/ledger.md` says what each means.
    pub state: &'static str,
    pub raw: Bytes,
    pub hash: B256,
    pub fees: Fees,
    /// When it was reserved.
    pub at: Timestamp,
    /// The last word of a node.
    pub word: Option<String>,
    /// It is its client's to send.
    pub is_returned: bool,
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
        mined: u64,
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
        self.state == "recorded"
    }
}

impl Ledger {
    /// Whatever is signed for this chain, and it has not decided of: any of it may be mined. A page of it, as it was reserved;
    /// the next one begins after the last of this. Nobody waits for the writer longer than for one page.
    pub async fn unsettled<K: Kind>(
        &self,
        chain: u64,
        after: Option<ReservationId>,
        upto: Option<ReservationId>,
    ) -> Result<Vec<Recorded<K>>, LedgerError> {
        let (kind, after) = (K::NAME, after.map_or(0, |id| id.0));
        let upto = upto.map_or(i64::MAX, |id| id.0);
        let page = self.ask(|reply| Command::Unsettled { kind, chain, after, upto, reply }).await??;
        Ok(page.into_iter().map(recorded).collect())
    }

    /// The last reservation: whoever reads pages up to it comes to an end, however many are made meanwhile.
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

    /// The nonces that are missing below recorded payloads, lowest first, no more than one over [`MAX_GAPS`].
    ///
    /// [`MAX_GAPS`]: crate::ledger::MAX_GAPS
    pub async fn gaps(&self, chain: u64, account: Address, mined: u64) -> Result<Vec<u64>, LedgerError> {
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
                let read = group.accounts.read(group.db, (chain, account), (mined, None)).await?;
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
    let rows = query(
        "SELECT * FROM reservation
         WHERE open = 1 AND id > ?1 AND id <= ?5 AND state <> 'reserved' AND nonce IS NOT NULL AND kind = ?2 AND chain = ?3
         ORDER BY id LIMIT ?4",
    );
    let rows = rows.bind(after).bind(kind).bind(store::signed(chain)).bind(PAGE).bind(upto);
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
        state: store::state_in(row)?.name(),
        raw: Bytes::from(row.get::<Vec<u8>>("raw")?),
        hash: store::word(row, "hash")?,
        fees: store::fees(row)?,
        at: Timestamp::from_millis(store::unsigned(row, "reserved_at")?),
        word: row.get("outcome")?,
        is_returned: row.is_set("returned")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::kit::{ASK, Ask, CHAIN, Desk, PATIENT};
    use crate::transaction::Tx;

    /// Whoever reads page by page comes to an end, however much is recorded meanwhile.
    #[tokio::test]
    async fn pages_of_what_is_open_end_where_they_were_to() {
        let desk = Desk::open(PATIENT).await;
        let first = desk.send(ASK).await.unwrap();
        let newest = desk.ledger.newest().await.unwrap();
        desk.send(Ask { value: 2, ..ASK }).await.unwrap();
        let page = desk.ledger.unsettled::<Tx>(CHAIN, None, Some(newest)).await.unwrap();
        assert_eq!(page.iter().map(Recorded::id).collect::<Vec<_>>(), [first.id()]);
        assert!(desk.ledger.unsettled::<Tx>(CHAIN, Some(newest), Some(newest)).await.unwrap().is_empty());
        assert_eq!(desk.ledger.unsettled::<Tx>(CHAIN, Some(newest), None).await.unwrap().len(), 1);
    }
}
