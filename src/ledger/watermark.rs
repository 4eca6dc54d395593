//! A small file beside the ledger that says how far it was written: a ledger that was put back to an earlier state, by a
//! restored backup or by a standby that had not heard everything, is noticed, and nothing is signed before an operator
//! has looked.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::ledger::archive;
use crate::ledger::audit::{Administration, Head};
use crate::ledger::db::{Sql, SqlError};
use crate::ledger::group::Group;
use crate::ledger::pause::{ITSELF, PauseOrder, PauseScope};
use crate::ledger::{pauses, reader};

/// How often it is written where one process writes the ledger on the same machine: only a backup can put that back.
const EVERY: Duration = Duration::from_secs(1);

/// Where the chain ended when this was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    seq: i64,
    hash: B256,
}

#[derive(Debug)]
pub(in crate::ledger) struct Watermark {
    path: PathBuf,
    is_shared: bool,
    /// When it was written last.
    written: Option<Instant>,
    /// What could not be written.
    owed: Option<Mark>,
    /// Whether it was held against the ledger since that was connected to.
    compared: bool,
}

impl Watermark {
    pub(in crate::ledger) fn beside(ledger: &Path, is_shared: bool) -> Self {
        let path = ledger.with_added_extension("watermark");
        Self { path, is_shared, written: None, owed: None, compared: false }
    }

    /// After a new connection it is compared again.
    pub(in crate::ledger) const fn doubt(&mut self) {
        self.compared = false;
    }

    /// Holds it against the ledger, inside a transaction. One that does not have what it had pauses everything.
    pub(in crate::ledger) async fn compare(&mut self, group: &mut Group<'_>) -> Sql<()> {
        if let Some(mark) = self.owed {
            // What was committed and not noted comes first; without it a rollback would go unnoticed.
            self.write(mark).await.map_err(SqlError::Io)?;
            self.owed = None;
        }
        if self.compared && !group.is_new {
            return Ok(());
        }
        let why = match read(&self.path) {
            Ok(None) => None,
            Ok(Some(mark)) => match reader::hash_at(group.db, mark.seq).await? {
                Some(hash) if hash == mark.hash => None,
                // Taken out since; it is long ago that the mark was written.
                None if archive::last(group.db).await?.is_some_and(|last| mark.seq <= last.seq) => None,
                Some(_) => Some(format!("row {} of the ledger is not the one that was written", mark.seq)),
                None => Some(format!(
                    "the ledger ends at row {} and was written up to row {}",
                    group.head.seq, mark.seq
                )),
            },
            Err(error) => Some(format!("{} cannot be read: {error}", self.path.display())),
        };
        if let Some(why) = why {
            tracing::error!(%why, "ALARM: the ledger is an earlier one than it was; nothing is signed until an operator resumes");
            metrics::counter!("chancery_ledger_rollbacks_total").increment(1);
            let order = PauseOrder {
                scope: PauseScope::All,
                reason: Some(format!(
                    "{why}: it was put back; look what it does not know of before `chancery resume`"
                )),
            };
            let nobody = ITSELF.to_owned();
            let by = Administration { operator: nobody.clone(), person: nobody, request: String::new() };
            pauses::begin(group, &order, &by).await?;
        }
        self.compared = true;
        Ok(())
    }

    /// Notes the end of the chain after a commit: at once, or now and then.
    pub(in crate::ledger) async fn keep(&mut self, head: Head, at_once: bool) {
        if !at_once && self.written.is_some_and(|written| written.elapsed() < EVERY) {
            return;
        }
        let mark = Mark { seq: head.seq, hash: head.hash };
        self.written = Some(Instant::now());
        if let Err(error) = self.write(mark).await {
            tracing::error!(%error, "{} cannot be written", self.path.display());
            // A file of this machine is put back by a backup alone, and the next mark does for that.
            self.owed = Some(mark).filter(|_| self.is_shared);
        }
    }

    async fn write(&self, mark: Mark) -> std::io::Result<()> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || write(&path, mark)).await.map_err(std::io::Error::other)?
    }
}

/// One line of a fixed length, written over the one before: less than a sector, so it is the old or the new.
fn write(path: &Path, mark: Mark) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.rewind()?;
    file.write_all(format!("{:020} {:x}\n", mark.seq, mark.hash).as_bytes())?;
    file.sync_data()
}

fn read(path: &Path) -> std::io::Result<Option<Mark>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_string(&mut text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mark = text
        .trim_end()
        .split_once(' ')
        .and_then(|(seq, hash)| Some(Mark { seq: seq.parse().ok()?, hash: hash.parse().ok()? }));
    mark.map(Some).ok_or_else(|| std::io::Error::other("it is no watermark"))
}
