//! A wrong PIN is tried once, ever: tokens lock themselves after a few, and a supervisor that restarts us would
//! try again and again. The latch is a file, written and synced before the attempt and removed after success, so
//! that a crash in between latches too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where a token's latch lies, beside the ledger.
pub fn path(state: &Path, token: &str) -> PathBuf {
    state.join(format!("{token}.pin-latch"))
}

/// Why the latch is closed, if it is.
pub(super) fn reason(latch: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(latch) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Closes it, durably, before the attempt.
pub(super) fn close(latch: &Path, why: &str) -> io::Result<()> {
    if let Some(folder) = latch.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(latch)?;
    writeln!(file, "{why}")?;
    file.sync_all()?;
    sync_folder(latch)
}

/// Opens it, durably, after success or an operator's word.
pub(super) fn open(latch: &Path) -> io::Result<()> {
    match std::fs::remove_file(latch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_folder(latch)
}

/// An operator's word that the PIN is right now: `keys unlatch`. False where nothing was latched.
pub fn unlatch(state: &Path, token: &str) -> io::Result<bool> {
    let latch = path(state, token);
    let was = reason(&latch)?.is_some();
    if was {
        open(&latch)?;
    }
    Ok(was)
}

fn sync_folder(latch: &Path) -> io::Result<()> {
    match latch.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latch_outlives_the_process_and_opens_on_an_operators_word() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(&state.path().join("not/yet"), "main");
        assert_eq!(reason(&latch).unwrap(), None);
        close(&latch, "trying").unwrap();
        close(&latch, "CKR_PIN_INCORRECT").unwrap();
        assert_eq!(reason(&latch).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        let folder = latch.parent().unwrap();
        assert!(unlatch(folder, "main").unwrap());
        assert!(!unlatch(folder, "main").unwrap());
        assert_eq!(reason(&latch).unwrap(), None);
    }
}
