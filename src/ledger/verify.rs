//! Reading the audit chain back, and proving that nobody touched it. Opens the file for reading only, so it
//! works beside a running gateway and on a copy.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnection;

use crate::ledger::LedgerError;
use crate::ledger::audit::Entry;
use crate::ledger::error::said;
use crate::ledger::pauses;
use crate::ledger::reader;
use crate::ledger::replay::Replay;
use crate::ledger::store;

const PAGE: i64 = 1000;

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub rows: i64,
    /// The hash of the last row: write it down elsewhere, and a later truncation shows.
    pub head: B256,
    pub intents: usize,
    pub signatures: usize,
}

/// The first row that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub seq: i64,
    pub why: String,
}

/// Which rows to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The newest so many.
    pub last: Option<usize>,
    /// Those of this request, from its intent to its end.
    pub request: Option<String>,
    /// Those of what this account signed or was asked to sign.
    pub account: Option<Address>,
    /// Those of this kind.
    pub kind: Option<String>,
}

/// The rows that the filter lets through, oldest first.
pub async fn show(path: &Path, filter: &Filter) -> Result<Vec<Entry>, LedgerError> {
    let mut db = reader::open(path).await.map_err(|error| not_opened(path, &error))?;
    let mut chosen = Chosen { filter, reservations: HashSet::new() };
    let mut found = VecDeque::new();
    let mut after = 0;
    loop {
        let page = reader::entries(&mut db, after, PAGE).await.map_err(|error| not_opened(path, &error))?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for entry in page {
            if !chosen.takes(&entry) {
                continue;
            }
            found.push_back(entry);
            if filter.last.is_some_and(|last| found.len() > last) {
                found.pop_front();
            }
        }
    }
    Ok(found.into())
}

/// Walks the chain from its first row to its end, and holds what it says against itself and against the tables.
pub async fn verify(path: &Path) -> Result<Result<Verified, Broken>, LedgerError> {
    let mut replay = Replay::new();
    match live_through(path, &mut replay).await {
        Ok(()) => Ok(Ok(Verified {
            rows: replay.head.seq,
            head: replay.head.hash,
            intents: replay.intents,
            signatures: replay.signatures,
        })),
        Err(Trouble::Broken(broken)) => Ok(Err(broken)),
        // What cannot be read was not written by the gateway; what cannot be reached says nothing of it.
        Err(Trouble::Sql(error)) if is_damage(&error) => {
            let why = format!("the file is damaged from here on: {}", said(&error));
            Ok(Err(Broken { seq: replay.head.seq.saturating_add(1), why }))
        }
        Err(Trouble::Sql(error)) => Err(not_opened(path, &error)),
    }
}

async fn live_through(path: &Path, replay: &mut Replay) -> Result<(), Trouble> {
    let mut db = reader::open(path).await?;
    // One snapshot, so that a gateway that writes meanwhile changes nothing.
    reader::begin(&mut db).await?;
    walk(&mut db, replay).await?;
    compare(&mut db, replay).await
}

enum Trouble {
    Sql(sqlx::Error),
    Broken(Broken),
}

async fn walk(db: &mut SqliteConnection, replay: &mut Replay) -> Result<(), Trouble> {
    loop {
        let page = reader::entries(db, replay.head.seq, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            replay.step(entry).map_err(|why| Broken { seq: entry.seq, why })?;
        }
    }
    let (written, _) = store::head(db).await?;
    let (end, written) = ((replay.head.seq, replay.head.hash), (written.seq, written.hash));
    if end == written {
        return Ok(());
    }
    let why = if written.0 > end.0 {
        format!("the chain ends here, but was written up to row {}: its end was cut off", written.0)
    } else {
        format!("the chain was written up to row {}, and not by the gateway from there on", written.0)
    };
    Err(Broken { seq: end.0, why }.into())
}

async fn compare(db: &mut SqliteConnection, replay: &mut Replay) -> Result<(), Trouble> {
    let broken = |(seq, why)| Broken { seq, why };
    let mut after = 0;
    loop {
        let page = reader::reservations(db, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in &page {
            replay.compare(row).map_err(broken)?;
        }
    }
    replay.compare_pauses(&pauses::all(db).await?).map_err(broken)?;
    Ok(replay.left().map_err(broken)?)
}

/// Whether it is the content that is wrong: bytes that are no row of ours, or that SQLite cannot make sense of.
fn is_damage(error: &sqlx::Error) -> bool {
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    match error {
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            // The low byte is the class, the rest of it the particular.
            code.is_some_and(|code| matches!(code & 0xff, CORRUPT | NOT_A_DATABASE))
        }
        _ => false,
    }
}

/// A row's fields that a filter goes by.
#[derive(Deserialize)]
struct Fields {
    reservation: Option<i64>,
    request: Option<String>,
    account: Option<Address>,
    asked: Option<String>,
}

/// A filter at work: the rows that follow an intent name its reservation only.
struct Chosen<'a> {
    filter: &'a Filter,
    reservations: HashSet<i64>,
}

impl Chosen<'_> {
    fn takes(&mut self, entry: &Entry) -> bool {
        let Filter { request, account, kind, .. } = self.filter;
        if request.is_some() || account.is_some() {
            let Ok(fields) = serde_json::from_str::<Fields>(&entry.body) else { return false };
            let follows = fields.reservation.is_some_and(|id| self.reservations.contains(&id));
            let asked_by = request.is_none() || fields.request == *request;
            let about = account.is_none_or(|account| {
                let account_of_asked = || {
                    let asked = fields.asked.as_deref().unwrap_or_default().to_lowercase();
                    asked.contains(&account.to_string().to_lowercase())
                };
                fields.account == Some(account) || account_of_asked()
            });
            if !(follows || asked_by && about) {
                return false;
            }
            self.reservations.extend(fields.reservation);
        }
        kind.as_ref().is_none_or(|kind| *kind == entry.kind)
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn not_opened(path: &Path, error: &sqlx::Error) -> LedgerError {
    LedgerError::Open { path: path.to_owned(), why: said(error) }
}
