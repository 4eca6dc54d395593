//! Proving that nobody touched the audit chain: in the ledger itself, in a copy of it, or in rows that were exported.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use serde::Serialize;

use crate::ledger::LedgerError;
use crate::ledger::ahead::{self, Ahead, Seen, seen};
use crate::ledger::archive;
use crate::ledger::audit::{Entry, Head};
use crate::ledger::chain_store;
use crate::ledger::db::{self, Location, SqlError};
use crate::ledger::lines::{Lines, NoRow, is_database};
use crate::ledger::note::SealedRow;
use crate::ledger::pauses;
use crate::ledger::reader;
use crate::ledger::replay::Replay;
use crate::ledger::seals::Seals;

/// What the chain is held against, beside itself.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The key that every checkpoint must be by.
    pub key: Option<Address>,
    /// Checkpoints that were kept elsewhere, as they were pushed.
    pub checkpoints: Option<PathBuf>,
    /// Whether exported rows may be only some of the chain's.
    pub partial: bool,
    /// Rows that were taken out of the ledger, oldest first.
    pub archives: Vec<PathBuf>,
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub rows: i64,
    /// Rows up to this one were taken out to files, and not looked at.
    pub not_seen: i64,
    /// The hash of the last row: write it down elsewhere, and a later truncation shows.
    pub head: B256,
    pub intents: usize,
    pub signatures: usize,
    /// How many checkpoints agree with it, whose they are, and the last row that they cover: nobody can have changed
    /// or cut off anything up to there.
    pub checkpoints: usize,
    pub keys: Vec<Address>,
    pub covered: i64,
    /// Rows that say that a token signed more, or less, than the ledger knows of.
    pub disagreements: usize,
}

/// The first row that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub seq: i64,
    pub why: String,
}

/// Hears of what is done, and of all that there is to do: rows or bytes.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Walks the chain from its first row to its end, and holds what it says against itself, against the tables, and
/// against checkpoints.
pub async fn verify(at: impl Into<Location>) -> Result<Result<Verified, Broken>, LedgerError> {
    verify_against(at, &Against::default(), &mut |_, _| {}).await
}

/// As [`verify`]; exported rows have no tables.
pub async fn verify_against(
    at: impl Into<Location>,
    against: &Against,
    progress: &mut Progress<'_>,
) -> Result<Result<Verified, Broken>, LedgerError> {
    let seals = Seals::by(against.key);
    let mut walk = Walk { replay: Replay::new(), seals, later: None, not_seen: 0, archived: None };
    let at = at.into();
    let opened = |error: std::io::Error| LedgerError::Open { at: at.clone(), why: error.to_string() };
    let walked = match &against.checkpoints {
        Some(file) => walk.pushed(file)?,
        None => Ok(()),
    };
    let walked = match walked {
        Err(broken) => Err(broken.into()),
        Ok(()) => match &at {
            Location::File(path) if !is_database(path).map_err(opened)? => {
                read_through(path, &mut walk, against, progress)
            }
            at => live_through(at, &mut walk, &against.archives, progress).await,
        },
    };
    match walked {
        Ok(()) => Ok(Ok(walk.verified())),
        Err(Trouble::Broken(broken)) => Ok(Err(broken)),
        // What cannot be read was not written by the gateway; what cannot be reached says nothing of it.
        Err(Trouble::Sql(error)) if error.is_damage() => {
            let why = format!("the file is damaged from here on: {error}");
            Ok(Err(Broken { seq: walk.replay.head.seq.saturating_add(1), why }))
        }
        Err(Trouble::Sql(error)) => Err(not_opened(&at, &error)),
        Err(Trouble::Io(error)) => Err(opened(error)),
    }
}

/// One walk along the chain.
struct Walk {
    replay: Replay,
    seals: Seals,
    /// What is wrong between checkpoints, told where no row is.
    later: Option<Broken>,
    /// Rows up to this one are not there to be walked.
    not_seen: i64,
    /// The last row that was taken out, as the chain itself says.
    archived: Option<(i64, B256)>,
}

enum Trouble {
    Sql(SqlError),
    Io(std::io::Error),
    Broken(Broken),
}

impl Walk {
    fn verified(self) -> Verified {
        Verified {
            rows: self.replay.head.seq,
            not_seen: self.not_seen,
            head: self.replay.head.hash,
            intents: self.replay.intents,
            signatures: self.replay.signatures,
            checkpoints: self.seals.count(),
            covered: self.seals.covered,
            keys: self.seals.keys,
            disagreements: self.replay.disagreements,
        }
    }

    /// Reads the checkpoints that were kept elsewhere. A line that a crash cut off is passed over.
    fn pushed(&mut self, file: &Path) -> Result<Result<(), Broken>, LedgerError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| LedgerError::Open { at: file.into(), why: error.to_string() })?;
        for (line, text) in (1..).zip(text.lines()) {
            let Ok(row) = serde_json::from_str::<SealedRow>(text) else { continue };
            if let Err((seq, why)) = self.seals.add(&row) {
                return Ok(Err(Broken { seq, why: format!("line {line} of {}: {why}", file.display()) }));
            }
        }
        Ok(Ok(()))
    }

    /// A checkpoint of the chain itself, before the walk: it speaks of rows before it. What is no checkpoint is found
    /// when the walk gets there.
    fn foresee(&mut self, entry: &Entry) {
        let Ok(row) = serde_json::from_str::<SealedRow>(&entry.body) else { return };
        if let Err((_, why)) = self.seals.add(&row) {
            self.later.get_or_insert(Broken { seq: entry.seq, why });
        }
    }

    fn step(&mut self, (entry, is_whole): &Seen) -> Result<(), Broken> {
        if self.not_seen > 0 {
            return self.pass(entry, *is_whole);
        }
        let broken = |why| Broken { seq: entry.seq, why };
        self.archived = archive::mark_of(entry).or(self.archived);
        self.replay.step(entry, *is_whole).map_err(broken)?;
        self.seals.meet(entry).map_err(broken)
    }

    fn end(&mut self) -> Result<(), Broken> {
        let seq = self.replay.head.seq;
        self.seals.end(&self.replay.head).map_err(|why| Broken { seq, why })?;
        self.later.take().map_or(Ok(()), Err)
    }
}

async fn live_through(
    at: &Location,
    walk: &mut Walk,
    archives: &[PathBuf],
    progress: &mut Progress<'_>,
) -> Result<(), Trouble> {
    let mut db = at.read().await?;
    // One snapshot, so that a gateway that writes meanwhile changes nothing.
    db::snapshot(&mut db).await?;
    let (written, _) = chain_store::head(&mut db).await?;
    match reader::before_the_first(&mut db).await? {
        [None, None] => {}
        [Some(seq), _] => {
            let why = "it stands before the first row that was written".to_owned();
            return Err(Broken { seq, why }.into());
        }
        [None, Some(id)] => {
            let why = format!("the table has a reservation {id} that the chain has not");
            return Err(Broken { seq: written.seq, why }.into());
        }
    }
    for entry in reader::all_of_kind(&mut db, "checkpoint").await? {
        walk.foresee(&entry);
    }
    let taken_out = archive::last(&mut db).await?;
    match taken_out {
        Some(last) if archives.is_empty() => {
            walk.not_seen = last.seq;
            walk.replay.head = last;
        }
        last => {
            walk.read_archives(archives, progress)?;
            walk.goes_on_after(last.unwrap_or(Head::START))?;
        }
    }
    let Ahead { mut rows, mut table, reader } = Ahead::of(db, walk.replay.head.seq);
    while let Some(page) = ahead::next(&mut rows).await? {
        for seen in &page {
            walk.step(seen)?;
        }
        progress(walk.replay.head.seq.unsigned_abs(), written.seq.unsigned_abs());
    }
    ends_as_written(&walk.replay.head, &written)?;
    walk.end()?;
    if walk.archived != taken_out.map(|last| (last.seq, last.hash)) {
        let why = "the first rows are missing, and nobody wrote down that they were taken out".to_owned();
        return Err(Broken { seq: walk.not_seen, why }.into());
    }
    if walk.not_seen > 0 {
        return Ok(());
    }
    let broken = |(seq, why)| Broken { seq, why };
    while let Some(page) = ahead::next(&mut table).await? {
        for row in &page {
            walk.replay.compare(row).map_err(broken)?;
        }
    }
    let mut db = reader.await.map_err(std::io::Error::other)?;
    walk.replay.compare_pauses(&pauses::all(&mut db).await?).map_err(broken)?;
    Ok(walk.replay.left().map_err(broken)?)
}

fn ends_as_written(end: &Head, written: &Head) -> Result<(), Broken> {
    if (end.seq, end.hash) == (written.seq, written.hash) {
        return Ok(());
    }
    let why = if written.seq > end.seq {
        format!("the chain ends here, but was written up to row {}: its end was cut off", written.seq)
    } else {
        format!("the chain was written up to row {}, and not by the gateway from there on", written.seq)
    };
    Err(Broken { seq: end.seq, why })
}

/// Rows that were exported: the whole chain is lived through; of some of its rows each is held against its own hash,
/// neighbours against each other, and all against checkpoints.
fn read_through(
    path: &Path,
    walk: &mut Walk,
    against: &Against,
    progress: &mut Progress<'_>,
) -> Result<(), Trouble> {
    let all = std::fs::metadata(path)?.len();
    let mut lines = Lines::open(path)?;
    while let Ok(Some(entry)) = lines.next() {
        if entry.kind == "checkpoint" {
            walk.foresee(&entry);
        }
    }
    walk.read_archives(&against.archives, progress)?;
    let mut lines = Lines::open(path)?;
    while let Some(entry) = next_of(&mut lines, path, walk.replay.head.seq)? {
        let seen = seen(entry);
        if against.partial {
            walk.pass(&seen.0, seen.1)?;
        } else {
            walk.step(&seen)?;
        }
        progress(lines.read(), all);
    }
    Ok(walk.end()?)
}

fn next_of(lines: &mut Lines, path: &Path, after: i64) -> Result<Option<Entry>, Broken> {
    lines.next().map_err(|NoRow { line, why }| Broken {
        seq: after.saturating_add(1),
        why: format!("line {line} of {} is no row: {why}", path.display()),
    })
}

impl Walk {
    /// One of some rows.
    fn pass(&mut self, entry: &Entry, is_whole: bool) -> Result<(), Broken> {
        let broken = |why: String| Broken { seq: entry.seq, why };
        let head = self.replay.head;
        if entry.seq <= head.seq {
            return Err(broken("it is not in order".to_owned()));
        }
        let is_next = head != Head::START && entry.seq == head.seq.saturating_add(1);
        if is_next {
            entry.stands_after(&head, is_whole).map_err(|why| broken(why.to_owned()))?;
        } else if !is_whole {
            return Err(broken("its content was edited".to_owned()));
        }
        self.archived = archive::mark_of(entry).or(self.archived);
        self.replay.head = Head::from(entry);
        self.seals.meet(entry).map_err(broken)
    }

    /// Rows that were taken out, from their files.
    fn read_archives(&mut self, files: &[PathBuf], progress: &mut Progress<'_>) -> Result<(), Trouble> {
        for file in files {
            let all = std::fs::metadata(file)?.len();
            let mut lines = Lines::open(file)?;
            while let Some(entry) = next_of(&mut lines, file, self.replay.head.seq)? {
                self.step(&seen(entry))?;
                progress(lines.read(), all);
            }
        }
        Ok(())
    }

    /// They end where the ledger's rows begin.
    fn goes_on_after(&self, last: Head) -> Result<(), Broken> {
        let end = self.replay.head;
        if (end.seq, end.hash) == (last.seq, last.hash) {
            return Ok(());
        }
        let why = format!(
            "the files of rows that were taken out end here, at {}, and the ledger goes on after row {}, {}: name them \
             all, the oldest first",
            end.hash, last.seq, last.hash
        );
        Err(Broken { seq: end.seq, why })
    }
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

pub(in crate::ledger) fn not_opened(at: &Location, error: &SqlError) -> LedgerError {
    LedgerError::Open { at: at.clone(), why: error.to_string() }
}
