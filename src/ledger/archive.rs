//! The oldest rows of the chain, taken out of the ledger: to a file, which `verify` then reads in their place. What is left
//! is a chain as before, whose first row follows the last one that was taken out.

use std::time::Duration;

use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::json;

use crate::clock::Timestamp;
use crate::ledger::audit::{Administration, Body, Entry, Head};
use crate::ledger::command::{Command, Reply};
use crate::ledger::db::{self, Db, Location, Sql, query};
use crate::ledger::note::SealedRow;
use crate::ledger::verify::not_opened;
use crate::ledger::writer::Group;
use crate::ledger::{Ledger, LedgerError, chain_store, reader, store};

/// Rows younger than this stay: a running gateway looks at what it wrote.
const STAYS: Duration = Duration::from_secs(24 * 60 * 60);

/// Rows that one commit removes, so that requests need not wait for long.
const AT_ONCE: i64 = 1000;

const PAGE: i64 = 1000;

/// The last row of a file, and the file.
#[derive(Clone, Debug)]
pub struct Archived {
    pub upto: i64,
    /// Of that row.
    pub hash: B256,
    /// Keccak-256 of the file.
    pub digest: B256,
}

/// Why rows are not taken out.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Two steps: from the first on the rows count as taken out; the second removes them, bit by bit.
#[derive(Debug)]
pub(in crate::ledger) enum Step {
    Mark { archived: Archived, by: Administration, reply: Reply<Result<(), ArchiveError>> },
    Remove { reply: Reply<Result<u64, LedgerError>> },
}

impl Ledger {
    /// Has rows counted as taken out, for good. They are in a file by now.
    pub async fn archive(&self, archived: Archived, by: Administration) -> Result<(), ArchiveError> {
        self.ask(|reply| Command::Archive(Step::Mark { archived, by, reply })).await?
    }

    /// Removes what was taken out. How many rows that were.
    pub async fn remove_archived(&self) -> Result<u64, LedgerError> {
        let mut removed = 0_u64;
        loop {
            match self.ask(|reply| Command::Archive(Step::Remove { reply })).await?? {
                0 => return Ok(removed),
                some => removed = removed.saturating_add(some),
            }
        }
    }
}

impl Step {
    pub(in crate::ledger) async fn take(self, group: &mut Group<'_>) -> Sql<()> {
        // It reads the chain.
        group.write_rows().await?;
        match self {
            Self::Mark { archived, by, reply } => {
                let done = mark(group, &archived, &by).await?;
                group.answer(reply, done.map_err(ArchiveError::Refused));
            }
            Self::Remove { reply } => {
                let removed = remove(group.db).await?;
                group.answer(reply, Ok(removed));
            }
        }
        Ok(())
    }
}

/// The rows before `until` that are in the ledger and can be taken out, oldest first, each looked at whether it follows the
/// one before it. Where they end.
pub async fn oldest(
    at: impl Into<Location>,
    until: Timestamp,
    mut each: impl FnMut(&Entry) -> std::io::Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<(i64, B256)>, LedgerError> {
    let at = at.into();
    let failed = |error| not_opened(&at, &error);
    let mut db = at.read().await.map_err(failed)?;
    db::snapshot(&mut db).await.map_err(failed)?;
    let all = chain_store::head(&mut db).await.map_err(failed)?.0.seq;
    let start = last(&mut db).await.map_err(failed)?.unwrap_or(Head::START);
    let mut head = start;
    loop {
        let page = reader::entries(&mut db, head.seq, PAGE).await.map_err(failed)?;
        let before = page.len();
        for entry in page.iter().take_while(|entry| entry.at < until) {
            entry
                .follows(&head)
                .map_err(|why| LedgerError::Broken(format!("row {} of the chain: {why}", entry.seq)))?;
            each(entry).map_err(|error| LedgerError::Unavailable(error.to_string()))?;
            head = Head::from(entry);
        }
        progress(head.seq.unsigned_abs(), all.unsigned_abs());
        if before == 0 || page.last().is_some_and(|last| last.seq != head.seq) {
            return Ok((head.seq > start.seq).then_some((head.seq, head.hash)));
        }
    }
}

/// The last row that was taken out.
pub(in crate::ledger) async fn last(db: &mut Db) -> Sql<Option<Head>> {
    let row = query("SELECT upto, hash, at FROM archive").fetch_optional(&mut *db).await?;
    let Some(row) = row else { return Ok(None) };
    let at: i64 = row.get("at")?;
    let at = Timestamp::from_millis(u64::try_from(at).map_err(store::malformed)?);
    Ok(Some(Head { seq: row.get("upto")?, hash: store::word(&row, "hash")?, at }))
}

/// Whether this is what an operator wrote down when rows were taken out.
pub(in crate::ledger) fn mark_of(entry: &Entry) -> Option<(i64, B256)> {
    #[derive(Deserialize)]
    struct Written {
        action: String,
        upto: i64,
        hash: B256,
    }
    // Asked of every row.
    if entry.kind != "administration" {
        return None;
    }
    let written: Written = serde_json::from_str(&entry.body).ok()?;
    (written.action == "archive").then_some((written.upto, written.hash))
}

async fn mark(group: &mut Group<'_>, archived: &Archived, by: &Administration) -> Sql<Result<(), String>> {
    let Archived { upto, hash, digest } = archived;
    if let Some(before) = last(group.db).await?
        && before.seq >= *upto
    {
        return Ok(Err(format!("rows up to {} were taken out before", before.seq)));
    }
    let row = reader::entries(group.db, upto.saturating_sub(1), 1).await?;
    let Some(row) = row.first().filter(|row| row.seq == *upto && row.hash == *hash) else {
        return Ok(Err(format!("row {upto} of this ledger is not the last one of the file")));
    };
    if group.now.since(row.at) < STAYS {
        return Ok(Err(format!("row {upto} is of {}: rows of the last 24 hours stay", row.at)));
    }
    if let Some(newest) = reader::last_of_kind(group.db, "checkpoint").await? {
        let sealed = serde_json::from_str::<SealedRow>(&newest.body).ok().and_then(|row| row.covers());
        if sealed.is_none_or(|sealed| sealed < *upto) {
            let why = format!("no checkpoint covers row {upto}: what is not sealed stays");
            return Ok(Err(why));
        }
    }
    query(
        "INSERT INTO archive (one, upto, hash, at) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO UPDATE SET upto = excluded.upto, hash = excluded.hash, at = excluded.at",
    )
    .bind(*upto)
    .bind(hash.as_slice())
    .bind(i64::try_from(row.at.millis()).unwrap_or(i64::MAX))
    .execute(&mut *group.db)
    .await?;
    let detail = json!({ "upto": upto, "hash": hash, "digest": digest });
    group.audit(&Body::Administration { by, action: "archive", detail: &detail }).await?;
    Ok(Ok(()))
}

/// Checkpoints, and what was done with keys, stay: they are looked at again.
async fn remove(db: &mut Db) -> Sql<u64> {
    let some = query(
        "DELETE FROM audit WHERE seq IN (
             SELECT seq FROM audit WHERE seq <= (SELECT max(upto) FROM archive) AND kind NOT IN ('checkpoint', 'key')
             ORDER BY seq LIMIT ?1)",
    );
    some.bind(AT_ONCE).execute(&mut *db).await
}
