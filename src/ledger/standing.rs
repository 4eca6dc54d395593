//! Where the audit chain stands, for the checkpoints that seal it.

use alloy_primitives::B256;

use crate::ledger::LedgerError;
use crate::ledger::db::{Db, Location, SqlError};
use crate::ledger::error::unavailable;
use crate::ledger::note::SealedRow;
use crate::ledger::reader;
use crate::transaction::{ChainHead, Statement, checkpoint_digest};

/// Reads the ledger's end again and again, on a connection of its own that cannot write.
#[derive(Debug)]
pub struct Watch {
    at: Location,
    db: Option<Db>,
}

/// The newest checkpoint that the chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    pub statement: Statement,
    pub digest: B256,
}

impl Watch {
    pub const fn new(at: Location) -> Self {
        Self { at, db: None }
    }

    /// The end of every writer's chain.
    pub async fn heads(&mut self) -> Result<Vec<ChainHead>, LedgerError> {
        let read = match self.open().await {
            Ok(db) => reader::heads(db).await,
            Err(error) => Err(error),
        };
        self.told(read)
    }

    /// How many intents and signatures of this writer stand after a row, and the last row.
    pub async fn count_after(&mut self, seq: i64, writer: &str) -> Result<(i64, u64, u64), LedgerError> {
        let read = match self.open().await {
            Ok(db) => reader::count_after(db, seq, writer).await,
            Err(error) => Err(error),
        };
        self.told(read)
    }

    pub async fn last_checkpoint(&mut self) -> Result<Option<LastCheckpoint>, LedgerError> {
        let row = match self.open().await {
            Ok(db) => reader::last_of_kind(db, "checkpoint").await,
            Err(error) => Err(error),
        };
        let Some(row) = self.told(row)? else { return Ok(None) };
        let unreadable = |error: serde_json::Error| {
            LedgerError::Broken(format!("row {} is no checkpoint: {error}", row.seq))
        };
        let sealed: SealedRow = serde_json::from_str(&row.body).map_err(unreadable)?;
        let statement = serde_json::from_str(&sealed.statement).map_err(unreadable)?;
        Ok(Some(LastCheckpoint { statement, digest: checkpoint_digest(&sealed.statement) }))
    }

    /// The checkpoints that the chain holds from this number on, oldest first, as they are pushed.
    pub async fn checkpoints_from(&mut self, number: u64) -> Result<Vec<SealedRow>, LedgerError> {
        let rows = match self.open().await {
            Ok(db) => reader::all_of_kind(db, "checkpoint").await,
            Err(error) => Err(error),
        };
        let rows = self.told(rows)?;
        let sealed = rows.iter().filter_map(|row| serde_json::from_str::<SealedRow>(&row.body).ok());
        Ok(sealed.filter(|row| row.number().is_some_and(|found| found >= number)).collect())
    }

    async fn open(&mut self) -> Result<&mut Db, SqlError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => self.at.read().await?,
        };
        Ok(self.db.insert(db))
    }

    /// After an error a new connection is made.
    fn told<T>(&mut self, read: Result<T, SqlError>) -> Result<T, LedgerError> {
        read.map_err(|error| {
            self.db = None;
            unavailable(error)
        })
    }
}
