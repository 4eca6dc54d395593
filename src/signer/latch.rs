//! A wrong PIN is tried once, ever: tokens lock themselves after a few, and a supervisor that restarts us would
//! try again and again. The latch is a file, written and synced before the attempt and removed after success, so
//! that a crash in between latches too.
//!
//! A crash in the middle of a login says nothing of the PIN, though, and a worker may be killed at any time. So what
//! the last accepted PIN's file looked like (not what stood in it) is remembered beside the latch: with that very file,
//! an attempt that was only interrupted is made once more.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use tokio::time::Instant;

use crate::signer::pin::Pin;

/// What stands in a latch while the token is asked.
const TRYING: &str = "the process ended while it logged in";
const TRYING_AGAIN: &str = "the process ended while it logged in, twice in a row";

/// Held from an attempt to log in until what came of it is written.
static ATTEMPT: Mutex<()> = Mutex::new(());

/// What the end of this process has to know of logins, and a login of the end.
static LIFE: Mutex<Life> = Mutex::new(Life { is_over: false, trying_since: None });

/// Threads find out at once that a PIN is wrong: no two of them write one draft, and each process has its own.
static WRITING: Mutex<()> = Mutex::new(());

/// How often, and how far apart, it is looked whether another process is done with its attempt.
const LOOKS: (u32, Duration) = (100, Duration::from_millis(100));

/// As much of a latch is read, in bytes; its reasons are a line.
const MOST: u64 = 64 * 1024;

struct Life {
    /// The process ends: no PIN is given to a token any more.
    is_over: bool,
    trying_since: Option<Instant>,
}

/// An attempt to log in; neither this process nor another makes one at this token until it is dropped.
pub(super) struct Attempt {
    // In the order in which they are let go of: who waits here finds the other one free.
    _elsewhere: File,
    _here: MutexGuard<'static, ()>,
}

/// Begins an attempt. Whether the latch is closed is to be looked at after this: somebody else's may just have been refused.
pub(super) fn attempt(latch: &Path) -> io::Result<Attempt> {
    if let Some(folder) = latch.parent() {
        std::fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    }
    // It stays, for who waits for it holds it open.
    let lock = latch.with_extension("pin-lock");
    let file = match create(&lock) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            careful(OpenOptions::new().write(true)).open(&lock).map_err(|error| named(&lock, &error))?
        }
        created => created?,
    };
    let here = ATTEMPT.lock().unwrap_or_else(PoisonError::into_inner);
    wait_for(&file).map_err(|error| named(&lock, &error))?;
    Ok(Attempt { _elsewhere: file, _here: here })
}

impl Drop for Attempt {
    fn drop(&mut self) {
        life().trying_since = None;
    }
}

fn life() -> MutexGuard<'static, Life> {
    LIFE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the lock of a file, where need be after another process, which may take ten seconds.
#[expect(clippy::disallowed_methods, reason = "whoever asks a token has left the runtime's threads")]
pub fn wait_for(lock: &File) -> io::Result<()> {
    for _ in 0..LOOKS.0 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(LOOKS.1),
            Err(TryLockError::Error(why)) => return Err(why),
            Ok(()) => return Ok(()),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process has been logging in there for ten seconds"))
}

/// The PIN is given to the token from now on, until the attempt is dropped; not where the process ends.
pub(super) fn begins() -> io::Result<()> {
    let mut life = life();
    if life.is_over {
        return Err(io::Error::other("the process ends"));
    }
    life.trying_since = Some(Instant::now());
    Ok(())
}

/// The process is about to end, and gives no PIN to a token any more. Whether that was said before.
pub(super) fn ends() -> bool {
    std::mem::replace(&mut life().is_over, true)
}

/// For how long a PIN has been with its token, if one is: a process that ended in it would leave a PIN that was just refused to be
/// tried again, or a right one latched.
pub(super) fn trying_for() -> Option<Duration> {
    life().trying_since.map(|since| since.elapsed())
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

/// Makes the folder in which a worker of this user writes its latch, and takes along what was latched before. Another user's is
/// taken only where the configuration names who is to have it: who looks after a gateway as root would lock it out.
pub(super) fn give_to(
    state: &Path,
    token: &str,
    (user, group): (u32, u32),
    is_named: bool,
) -> io::Result<PathBuf> {
    let (before, own) = (path(state, token), folder(state, token));
    if let (false, Ok(there)) = (is_named, std::fs::metadata(&own))
        && there.uid() != user
    {
        let what = format!(
            "{} belongs to the user {}, as whom the gateway runs: run this as that user, or give the folder and what is in \
             it to the user {user}",
            own.display(),
            there.uid()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
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

/// The same, where a token refused the PIN: an attempt that was interrupted says nothing to whoever's was right before.
pub(super) fn refused(latch: &Path) -> io::Result<Option<String>> {
    Ok(reason(latch)?.filter(|why| why != TRYING))
}

/// The same as [`reason`], for a PIN in this file: an attempt that was interrupted does not count against one that was right before.
pub(super) fn closed(latch: &Path, pin: &Pin) -> io::Result<Option<String>> {
    let why = reason(latch)?;
    if why.as_deref() != Some(TRYING) {
        return Ok(why);
    }
    let accepted = read(&accepted(latch))?;
    let same = accepted.is_some_and(|accepted| looks(pin).is_ok_and(|looks| looks == accepted));
    Ok(if same { None } else { why })
}

/// Closes it, durably, before the PIN is given to the token; not where the process ends.
pub(super) fn close(latch: &Path) -> io::Result<()> {
    begins()?;
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

/// Leaves it as it was before an attempt that was not refused.
pub(super) fn leave(latch: &Path, before: Option<&str>) -> io::Result<()> {
    before.map_or_else(|| open(latch), |why| write(latch, why))
}

/// Opens it, durably, after success or an operator's word.
pub(super) fn open(latch: &Path) -> io::Result<()> {
    remove(latch)?;
    sync_folder(latch)
}

/// Whether something is latched, also where it cannot be read why; who may not look does not know.
pub fn is_closed(latch: &Path) -> io::Result<bool> {
    match latch.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(named(latch, &error)),
    }
}

/// An operator's word that the PIN is right now: `keys unlatch`. False where nothing was latched.
pub fn unlatch(state: &Path, token: &str) -> io::Result<bool> {
    let latch = path(state, token);
    let was = is_closed(&latch)?;
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

/// The folder may be another user's, who may neither lead us elsewhere nor keep us with a pipe that nobody else opens.
fn careful(options: &mut OpenOptions) -> &mut OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
}

/// What lies there may have no end.
fn read(file: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    let open = careful(OpenOptions::new().read(true)).open(file);
    match open.and_then(|file| file.take(MOST).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(file, &error)),
    }
}

fn named(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

/// All of it, or nothing: on a full disk, or where the power fails, half a latch would be one that nobody closed.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    }
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let draft = draft(path);
    // What a process with this number left that was killed here.
    remove(&draft)?;
    let mut file = create(&draft)?;
    let written = writeln!(file, "{}", text.trim_end()).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&draft, path)).map_err(|error| named(path, &error))?;
    sync_folder(path)
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension(format!("pin-draft-{}", std::process::id()))
}

/// A file that is not there yet, and not through a link. What root makes in another's folder (`keys list`, before the gateway
/// itself came so far) is that other's, who could not open it else.
fn create(path: &Path) -> io::Result<File> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = open.map_err(|error| named(path, &error))?;
    if let Some(folder) = path.parent().filter(|folder| geteuid().is_root() && !folder.as_os_str().is_empty())
    {
        let folder = std::fs::metadata(folder)?;
        if folder.uid() != 0 {
            fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
        }
    }
    Ok(file)
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(file, &error)),
        _ => Ok(()),
    }
}

fn sync_folder(latch: &Path) -> io::Result<()> {
    match latch.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| named(folder, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, Mode};

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

    /// As where its folder is another user's; root may look into every folder, so it is none here.
    #[test]
    fn who_may_not_look_for_a_latch_is_told_so_and_not_that_there_is_none() {
        let state = tempfile::tempdir().unwrap();
        let nowhere = state.path().join("loop");
        std::os::unix::fs::symlink("loop", &nowhere).unwrap();
        let told = unlatch(&nowhere, "main").expect_err("nobody knows").to_string();
        assert!(told.starts_with(&path(&nowhere, "main").display().to_string()), "{told}");
    }

    /// It is closed: what it says is not known.
    #[test]
    fn a_latch_that_is_a_pipe_keeps_nobody_who_looks() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        std::fs::create_dir_all(latch.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &latch, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (told, seen) = std::sync::mpsc::channel();
        let looked_at = latch.clone();
        std::thread::spawn(move || told.send(reason(&looked_at)));
        let seen = seen.recv_timeout(Duration::from_secs(30)).expect("it still looks");
        assert!(!matches!(seen, Ok(None)), "open: {seen:?}");
    }

    #[test]
    fn a_lock_that_is_a_pipe_keeps_nobody_who_logs_in() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        let lock = latch.with_extension("pin-lock");
        rustix::fs::mknodat(rustix::fs::CWD, &lock, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (told, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(attempt(&latch).is_err()));
        assert!(seen.recv_timeout(Duration::from_secs(30)).expect("it still waits"));
    }

    #[test]
    fn a_latch_without_end_is_read_for_as_long_as_a_reason_is() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        File::create(&latch).unwrap().set_len(MOST * 4).unwrap();
        assert_eq!(reason(&latch).unwrap().map(|why| u64::try_from(why.len()).unwrap()), Some(MOST));
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
        let us = (geteuid().as_raw(), rustix::process::getegid().as_raw());
        for _ in 0..2 {
            let own = give_to(state.path(), "main", us, false).unwrap();
            assert_eq!((path(state.path(), "main"), before.exists()), (own.clone(), false));
            assert_eq!(reason(&own).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        }
        // Not even by root.
        let other = (us.0 + 1, us.1);
        let refused = give_to(state.path(), "main", other, false).unwrap_err().to_string();
        assert!(refused.contains(&format!("belongs to the user {}", us.0)), "{refused}");
        assert!(unlatch(state.path(), "main").unwrap());
    }

    /// Two processes that try at once: the second sees what came of the first's.
    #[test]
    fn inv_07_one_attempt_is_made_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        let held = attempt(&latch).unwrap();
        close(&latch).unwrap();
        let lock = File::open(latch.with_extension("pin-lock")).unwrap();
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(trying_for().is_some());
        drop(held);
        lock.try_lock().unwrap();
    }

    /// Root's `keys list` beside a gateway that runs as somebody else.
    #[test]
    fn what_root_leaves_belongs_to_whose_folder_it_is() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        let owner = if geteuid().is_root() { 12_345 } else { geteuid().as_raw() };
        lchown(state.path(), Some(owner), None).unwrap();
        drop(attempt(&latch).unwrap());
        close(&latch).unwrap();
        for file in [latch.with_extension("pin-lock"), latch] {
            assert_eq!(std::fs::metadata(&file).unwrap().uid(), owner, "{}", file.display());
        }
    }

    /// What is there stays as it was where the disk is full.
    #[test]
    fn inv_13_a_latch_is_written_whole_or_not_at_all() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        // Nothing can be written there, as on a full disk.
        std::fs::create_dir(draft(&latch)).unwrap();
        assert!(close(&latch).is_err());
        assert_eq!(reason(&latch).unwrap(), None, "nothing was tried, and nothing is latched");
    }

    #[test]
    fn threads_that_are_refused_at_once_all_write_it() {
        let state = tempfile::tempdir().unwrap();
        let latch = path(state.path(), "main");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| refuse(&latch, "CKR_PIN_INCORRECT").unwrap()));
            }
        });
        assert_eq!(reason(&latch).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        assert!(!draft(&latch).exists());
    }

    #[test]
    fn a_latch_that_is_a_link_to_elsewhere_is_neither_read_nor_written_through() {
        let state = tempfile::tempdir().unwrap();
        let (latch, other) = (path(state.path(), "main"), state.path().join("other"));
        std::fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &latch).unwrap();
        let shown = reason(&latch).expect_err("what stands elsewhere is not shown").to_string();
        assert!(shown.starts_with(&latch.display().to_string()), "{shown}");
        assert!(unlatch(state.path(), "main").unwrap() && !is_closed(&latch).unwrap());
        std::os::unix::fs::symlink(&other, &latch).unwrap();
        // It is no link afterwards.
        refuse(&latch, "CKR_PIN_INCORRECT").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "untouched");
        assert_eq!(reason(&latch).unwrap().as_deref(), Some("CKR_PIN_INCORRECT"));
        assert!(!latch.is_symlink());
    }
}
