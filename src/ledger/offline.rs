//! A fact for the audit chain of a ledger that no gateway has open: what operators do on the command line.

use std::path::Path;

use crate::clock::Clock;
use crate::ledger::audit::{Body, Head};
use crate::ledger::error::unavailable;
use crate::ledger::handle::prepare;
use crate::ledger::note::Note;
use crate::ledger::{LedgerError, store};

/// Appends one row; false where there is no ledger yet, or a gateway has it open.
pub async fn note_offline(path: &Path, clock: Clock, note: &Note) -> Result<bool, LedgerError> {
    if !path.exists() {
        return Ok(false);
    }
    let lock = match prepare(path) {
        Ok(lock) => lock,
        Err(LedgerError::Locked(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut db = store::connect(path).await.map_err(unavailable)?;
    let (head, last) = store::head(&mut db).await.map_err(unavailable)?;
    if last.is_some_and(|last| Head::from(&last) != head || !last.is_whole()) {
        return Err(LedgerError::Broken("its end is not as it was written".to_owned()));
    }
    let entry = head
        .next(clock.now(), &Body::Note(note))
        .map_err(|error| LedgerError::Unavailable(error.to_string()))?;
    store::begin(&mut db).await.map_err(unavailable)?;
    let appended = store::append(&mut db, &entry).await;
    if appended.is_err() {
        store::roll_back(&mut db).await;
    }
    appended.map_err(unavailable)?;
    store::commit(&mut db).await.map_err(unavailable)?;
    store::close(db).await.map_err(unavailable)?;
    drop(lock);
    Ok(true)
}
