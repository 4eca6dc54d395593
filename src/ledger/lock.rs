//! The files beside a ledger, which belong to one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use crate::config;
use crate::ledger::LedgerError;

/// How often the lock is tried. A process that has just let go of it may have begun another at that very moment, which has
/// it too until it becomes its own program.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(50);

/// Whether a process has this ledger open, without opening it. Asking takes the lock for a moment, but only
/// where nobody has it.
pub fn in_use(path: &Path) -> std::io::Result<bool> {
    match File::open(path.with_added_extension("lock")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        file => match file?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(why)) => Err(why),
        },
    }
}

/// Makes the folder and the file, which only this user may read, and takes the lock: one writer at a time, also
/// across processes. Beside a ledger on a server the folder holds what this process alone must know.
#[expect(clippy::disallowed_methods, reason = "at the start, before anything is served")]
pub(in crate::ledger) fn prepare(config: &config::Ledger) -> Result<File, LedgerError> {
    let path = &config.path;
    let failed = |why: std::io::Error| LedgerError::Open { at: path.into(), why: why.to_string() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let lock = private(&path.with_added_extension("lock")).map_err(failed)?;
    let mut left = TRIES;
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::WouldBlock if left > 0 => std::thread::sleep(BETWEEN),
            TryLockError::WouldBlock => return Err(LedgerError::Locked(path.clone())),
            TryLockError::Error(why) => return Err(failed(why)),
        }
        left = left.saturating_sub(1);
    }
    // SQLite gives its side files the mode of the main file.
    if config.url.is_none() {
        private(path).map_err(failed)?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(lock)
}

fn private(path: &Path) -> std::io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // One that was there before, from a copy or a restored backup, may be open to others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
