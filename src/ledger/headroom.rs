//! Room on the disk that is kept free: nothing new is signed below it, so that what was begun can be written to its end.

use std::path::{Path, PathBuf};

use crate::ledger::LedgerError;
use crate::ledger::command::Command;

/// How much of the ledger's disk stays free.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Headroom {
    folder: PathBuf,
    /// In bytes.
    min: u64,
}

impl Headroom {
    pub(in crate::ledger) fn new(ledger: &Path, min: u64) -> Self {
        let folder = ledger.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self { folder: folder.unwrap_or(Path::new(".")).to_owned(), min }
    }

    /// Refuses what is new in `work` where there is not enough; what was begun is written to its end.
    pub(in crate::ledger) fn keep(&self, work: &mut Vec<Command>) {
        let begins = |command: &Command| matches!(command, Command::Reserve(_) | Command::Ready { .. });
        let Some(Err(full)) = work.iter().any(begins).then(|| self.check()) else { return };
        for command in work.extract_if(.., |command| begins(command)) {
            match command {
                Command::Reserve(reserve) => drop(reserve.reply.send(Err(full.clone().into()))),
                Command::Ready { reply } => drop(reply.send(Err(full.clone()))),
                _ => {}
            }
        }
    }

    /// Whether there is enough. A disk that does not say counts as full.
    pub(in crate::ledger) fn check(&self) -> Result<(), LedgerError> {
        if self.min == 0 {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| {
            LedgerError::Unavailable(format!("how much room its disk has cannot be read: {error}"))
        })?;
        // For those who are not root, as we should be.
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= self.min {
            return Ok(());
        }
        let (free, min) = (free >> 10, self.min >> 10);
        Err(LedgerError::Unavailable(format!(
            "its disk has {free} KiB left, and below {min} KiB ([ledger] min_free) nothing is signed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said_and_no_bound_is_no_question() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.sqlite");
        Headroom::new(&ledger, 1).check().unwrap();
        let said = Headroom::new(&ledger, u64::MAX).check().unwrap_err().to_string();
        assert!(said.contains("min_free"), "{said}");
        let gone = folder.path().join("gone/ledger.sqlite");
        assert!(Headroom::new(&gone, 1).check().is_err());
        Headroom::new(&gone, 0).check().unwrap();
    }
}
