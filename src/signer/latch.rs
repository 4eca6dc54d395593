//! A wrong PIN is tried once, ever: tokens lock themselves after a few, and a supervisor that restarts us would
//! try again and again. The latch is a file, written and synced before the attempt and removed after success, so
//! that a crash in between latches too.
//!
//! A crash in the middle of a login says nothing of the PIN, though, and a worker may be killed at any time. So what
//! the last accepted PIN's file looked like (not what stood in it) is remembered beside the latch: with that very file,
//! an attempt that was only interrupted is made once more.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use crate::signer::pin::Pin;

/// What stands in a latch while the token is asked.
const TRYING: &str = "the process ended while it logged in";
const TRYING_AGAIN: &str = "the process ended while it logged in, twice in a row";

/// Held from an attempt to log in until what came of it is written.
static ATTEMPT: Mutex<()> = Mutex::new(());

/// Begins an attempt.
pub(super) fn attempt() -> MutexGuard<'static, ()> {
    ATTEMPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether no attempt is under way: a process that ended now would leave a PIN that was just refused to be tried again.
pub(super) fn is_quiet() -> bool {
    ATTEMPT.try_lock().is_ok()
}

/// Where a token's latch lies: beside the ledger, or in its worker's own folder there, once there is one.
pub fn path(state: &Path, token: &str) -> PathBuf {
    let own = folder(state, token);
    let folder = if own.is_dir() { &own } else { state };
    folder.join(format!("{token}.pin-latch"))
}

fn folder(state: &Path, token: &str) -> PathBuf {
    state.join(format!("{token}.worker"))
}

/// Makes the folder in which a worker of another user writes its latch, and takes along what was latched before.
pub(super) fn give_to(state: &Path, token: &str, user: u32, group: u32) -> io::Result<PathBuf> {
    let (before, own) = (path(state, token), folder(state, token));
    match DirBuilder::new().recursive(true).mode(0o700).create(&own) {
        Err(error) if !own.is_dir() => return Err(error),
        _ => {}
    }
    let latch = path(state, token);
    for (from, to) in [(accepted(&before), accepted(&latch)), (before, latch.clone())] {
        if from != to && from.exists() {
            std::fs::rename(from, &to)?;
        }
        if to.exists() {
            lchown(&to, Some(user), Some(group))?;
        }
    }
    lchown(&own, Some(user), Some(group))?;
    sync_folder(&latch)?;
    sync_folder(&own)?;
    Ok(latch)
}

/// Why the latch is closed, if it is.
pub(super) fn reason(latch: &Path) -> io::Result<Option<String>> {
    Ok(read(latch)?.map(|text| text.trim().to_owned()))
}

/// The same, for a PIN in this file: an attempt that was interrupted does not count against one that was right before.
pub(super) fn closed(latch: &Path, pin: &Pin) -> io::Result<Option<String>> {
    let why = reason(latch)?;
    if why.as_deref() != Some(TRYING) {
        return Ok(why);
    }
    let accepted = read(&accepted(latch))?;
    let same = accepted.is_some_and(|accepted| looks(pin).is_ok_and(|looks| looks == accepted));
    Ok(if same { None } else { why })
}

/// Closes it, durably, before the attempt.
pub(super) fn close(latch: &Path) -> io::Result<()> {
    let again = reason(latch)?.is_some();
    write(latch, if again { TRYING_AGAIN } else { TRYING })
}

/// The token refused the PIN: nothing is tried any more until an operator says so.
pub(super) fn refuse(latch: &Path, why: &str) -> io::Result<()> {
    remove(&accepted(latch))?;
    write(latch, why)
}

/// The token took the PIN.
pub(super) fn accept(latch: &Path, pin: &Pin) -> io::Result<()> {
    let looks = looks(pin)?;
    if read(&accepted(latch))?.as_ref() != Some(&looks) {
        write(&accepted(latch), &looks)?;
    }
    open(latch)
}

/// Opens it, durably, after success or an operator's word.
pub(super) fn open(latch: &Path) -> io::Result<()> {
    remove(latch)?;
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

fn accepted(latch: &Path) -> PathBuf {
    latch.with_extension("pin-accepted")
}

/// What tells one content of a file from another without its content.
fn looks(pin: &Pin) -> io::Result<String> {
    let file = pin.metadata()?;
    let (seconds, nanos) = (file.mtime(), file.mtime_nsec());
    Ok(format!("{} {} {} {seconds}.{nanos:09}\n", file.dev(), file.ino(), file.len()))
}

fn read(file: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Its folder may be another user's, who may not lead us elsewhere.
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(no_link)
        .open(path)?;
    writeln!(file, "{}", text.trim_end())?;
    file.sync_all()?;
    sync_folder(path)
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
        close(&latch).unwrap();
        refuse(&latch, "CKR_PIN_INCORRECT").unwrap();
        assert_eq!(reason(&latch).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        let folder = latch.parent().unwrap();
        assert!(unlatch(folder, "main").unwrap());
        assert!(!unlatch(folder, "main").unwrap());
        assert_eq!(reason(&latch).unwrap(), None);
    }

    #[test]
    fn an_interrupted_login_is_made_once_more_with_a_pin_that_was_right_before() {
        let state = tempfile::tempdir().unwrap();
        let (latch, file) = (path(state.path(), "main"), state.path().join("pin"));
        std::fs::write(&file, "1234").unwrap();
        let pin = Pin::File(file.clone());
        // Never accepted: an interruption latches.
        close(&latch).unwrap();
        assert!(closed(&latch, &pin).unwrap().is_some());
        accept(&latch, &pin).unwrap();
        assert_eq!(closed(&latch, &pin).unwrap(), None);

        close(&latch).unwrap();
        assert_eq!(closed(&latch, &pin).unwrap(), None, "the same PIN, interrupted once");
        close(&latch).unwrap();
        assert!(closed(&latch, &pin).unwrap().is_some(), "twice in a row");

        // Another PIN has no credit, nor has one that the token refused.
        accept(&latch, &pin).unwrap();
        close(&latch).unwrap();
        std::fs::write(&file, "12345").unwrap();
        assert!(closed(&latch, &pin).unwrap().is_some());
        accept(&latch, &pin).unwrap();
        refuse(&latch, "CKR_PIN_INCORRECT").unwrap();
        open(&latch).unwrap();
        close(&latch).unwrap();
        assert!(closed(&latch, &pin).unwrap().is_some());
    }
    #[test]
    fn a_latch_that_is_given_to_another_user_stays_closed() {
        let state = tempfile::tempdir().unwrap();
        let before = path(state.path(), "main");
        refuse(&before, "CKR_PIN_INCORRECT").unwrap();
        let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        for _ in 0..2 {
            let own = give_to(state.path(), "main", us.0, us.1).unwrap();
            assert_eq!((path(state.path(), "main"), before.exists()), (own.clone(), false));
            assert_eq!(reason(&own).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        }
        assert!(unlatch(state.path(), "main").unwrap());
    }

    #[test]
    fn a_latch_that_is_a_link_to_elsewhere_is_not_written_through() {
        let state = tempfile::tempdir().unwrap();
        let (latch, other) = (path(state.path(), "main"), state.path().join("other"));
        std::fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &latch).unwrap();
        assert!(close(&latch).is_err());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "untouched");
    }
}
