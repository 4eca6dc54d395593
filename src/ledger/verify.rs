//! Reading the audit chain back, and proving that nobody touched it. Opens the file for reading only, so it
//! works beside a running gateway and on a copy.

use std::collections::HashMap;
use std::path::Path;

use alloy_primitives::B256;
use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use crate::ledger::LedgerError;
use crate::ledger::audit::{Entry, Head};
use crate::ledger::store;
use crate::ledger::writer::unavailable;

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
    /// Those that name this request.
    pub request: Option<String>,
    /// Those of this kind.
    pub kind: Option<String>,
}

/// The rows that the filter lets through, oldest first.
pub async fn show(path: &Path, filter: &Filter) -> Result<Vec<Entry>, LedgerError> {
    let mut db = reader(path).await?;
    let mut found = std::collections::VecDeque::new();
    let mut after = 0;
    loop {
        let page = store::entries(&mut db, after, PAGE).await.map_err(unavailable)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for entry in page.into_iter().filter(|entry| filter.takes(entry)) {
            found.push_back(entry);
            if filter.last.is_some_and(|last| found.len() > last) {
                found.pop_front();
            }
        }
    }
    Ok(found.into())
}

/// Walks the chain from its first row to its end, and holds what it says against itself: every signature has its
/// intent before it, once.
pub async fn verify(path: &Path) -> Result<Result<Verified, Broken>, LedgerError> {
    let mut db = reader(path).await?;
    // One snapshot, so that a gateway that writes meanwhile changes nothing.
    store::begin_read(&mut db).await.map_err(unavailable)?;
    let (written, _) = store::head(&mut db).await.map_err(unavailable)?;
    let mut walk = Walk { head: Head::START, open: HashMap::new(), intents: 0, signatures: 0 };
    loop {
        let page = store::entries(&mut db, walk.head.seq, PAGE).await.map_err(unavailable)?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            if let Err(why) = walk.step(entry) {
                return Ok(Err(Broken { seq: entry.seq, why }));
            }
        }
    }
    if (walk.head.seq, walk.head.hash) != (written.seq, written.hash) {
        let why =
            format!("the chain ends here, it was written up to row {}: its end was cut off", written.seq);
        return Ok(Err(Broken { seq: walk.head.seq, why }));
    }
    if let Err(why) = rows_agree(&mut db, &walk).await? {
        return Ok(Err(Broken { seq: walk.head.seq, why }));
    }
    Ok(Ok(Verified {
        rows: walk.head.seq,
        head: walk.head.hash,
        intents: walk.intents,
        signatures: walk.signatures,
    }))
}

struct Walk {
    head: Head,
    /// Reservations by id, and the hash that was signed for each that was.
    open: HashMap<i64, Option<String>>,
    intents: usize,
    signatures: usize,
}

impl Walk {
    fn step(&mut self, entry: &Entry) -> Result<(), String> {
        entry.follows(&self.head)?;
        self.head = Head::from(entry);
        let body: Value = serde_json::from_str(&entry.body).map_err(|_| "its body is not JSON")?;
        let reservation = body.get("reservation").and_then(Value::as_i64);
        match (entry.kind.as_str(), reservation) {
            ("intent", Some(id)) => {
                self.intents = self.intents.saturating_add(1);
                if self.open.insert(id, None).is_some() {
                    return Err(format!("reservation {id} has two intents"));
                }
            }
            ("signature", Some(id)) => {
                self.signatures = self.signatures.saturating_add(1);
                let hash = body.get("hash").and_then(Value::as_str).unwrap_or_default().to_owned();
                match self.open.get_mut(&id) {
                    Some(signed @ None) => *signed = Some(hash),
                    Some(Some(_)) => return Err(format!("reservation {id} was signed twice")),
                    None => return Err(format!("reservation {id} was signed without an intent before it")),
                }
            }
            ("intent" | "signature", None) => return Err("it names no reservation".to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// What the table of reservations says was recorded is what the chain says.
async fn rows_agree(db: &mut SqliteConnection, walk: &Walk) -> Result<Result<(), String>, LedgerError> {
    let recorded = store::recorded_hashes(db).await.map_err(unavailable)?;
    for (id, hash) in &recorded {
        if walk.open.get(id).and_then(Option::as_deref) != Some(hash.to_string().as_str()) {
            return Ok(Err(format!(
                "reservation {id} holds a signature that the chain does not: the table was edited"
            )));
        }
    }
    let signed = walk.open.values().filter(|hash| hash.is_some()).count();
    if signed != recorded.len() {
        let why =
            format!("the chain has {signed} signatures, the table {}: rows were deleted", recorded.len());
        return Ok(Err(why));
    }
    Ok(Ok(()))
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == entry.kind)
            && self.request.as_ref().is_none_or(|request| entry.body.contains(request.as_str()))
    }
}

async fn reader(path: &Path) -> Result<SqliteConnection, LedgerError> {
    store::open_read_only(path)
        .await
        .map_err(|error| LedgerError::Open { path: path.to_owned(), why: unavailable(error).to_string() })
}
