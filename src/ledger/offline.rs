//! A fact for the audit chain of a ledger that no gateway has open, or that is shared: what operators do on the command
//! line.

use crate::clock::Clock;
use crate::config;
use crate::ledger::audit::{Body, Head};
use crate::ledger::db::{self, Db, Location};
use crate::ledger::error::unavailable;
use crate::ledger::lock::prepare;
use crate::ledger::note::Note;
use crate::ledger::{LedgerError, chain_store};

/// Appends one row; false where there is no ledger yet, or a gateway has its file open.
pub async fn note_offline(config: &config::Ledger, clock: Clock, note: &Note) -> Result<bool, LedgerError> {
    let at = Location::from(config);
    if !at.exists() {
        return Ok(false);
    }
    let lock = match prepare(config) {
        Ok(lock) => Some(lock),
        Err(LedgerError::Locked(_)) if at.is_shared() => None,
        Err(LedgerError::Locked(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut db = at.connect().await.map_err(unavailable)?;
    db::begin(&mut db).await.map_err(unavailable)?;
    let appended = append(&mut db, clock, note).await;
    if appended.is_err() {
        db::roll_back(&mut db).await;
    }
    appended?;
    db::commit(&mut db).await.map_err(unavailable)?;
    db::close(db).await.map_err(unavailable)?;
    drop(lock);
    Ok(true)
}

async fn append(db: &mut Db, clock: Clock, note: &Note) -> Result<(), LedgerError> {
    let (head, last) = chain_store::head(db).await.map_err(unavailable)?;
    if last.is_some_and(|last| Head::from(&last) != head || !last.is_whole()) {
        return Err(LedgerError::Broken("its end is not as it was written".to_owned()));
    }
    let now = db::now(db).await.map_err(unavailable)?.unwrap_or_else(|| clock.now());
    let entry =
        head.next(now, &Body::Note(note)).map_err(|error| LedgerError::Unavailable(error.to_string()))?;
    chain_store::append(db, &[entry]).await.map_err(unavailable)
}
