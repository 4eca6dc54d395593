//! A wrong PIN of a card is tried once, also by the next process: a supervisor starts us again and again, and a few tries lock a
//! card for good.
//!
//! The latch is a file, written and synced before the attempt and emptied after a success, so that a crash in between latches
//! too. It holds what the PIN's file looks like, not what stands in it: a file that was written anew is tried.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use crate::cmd::{Failure, HintExt as _};
use crate::signer::wait_for;

/// A token has refused a PIN, and starting anew is of no use; `EX_NOPERM` of sysexits.h.
pub const REFUSED: u8 = 77;

/// An attempt to log in; nobody else makes one with this PIN until it is dropped.
#[derive(Debug)]
pub struct Attempt {
    latch: File,
    path: PathBuf,
}

impl Attempt {
    /// Begins one at the token that is so called, with the PIN in `pin`, unless that was refused before.
    pub fn begin(folder: &Path, token: &str, pin: &Path) -> Result<Self> {
        let path = folder.join(file_name(token, pin));
        let hint = "without this file it is not known whether a PIN was refused before";
        let looks = looks(pin).hint(pin.display(), "give the file with --password-file")?;
        // It may have been taken away while we run, as when a session ends.
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .hint(folder.display(), hint)?;
        let mut latch = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .hint(path.display(), hint)?;
        wait_for(&latch).hint(path.display(), "another connector is logging in there: try again")?;
        let mut before = String::new();
        latch.read_to_string(&mut before).hint(path.display(), hint)?;
        if before == looks {
            let what = format!("the token `{token}` refused the PIN in {} before", pin.display());
            let hint = format!(
                "it is not tried again, for a few wrong ones lock a token: write the right one into the file; if it is the \
                 right one, remove {}",
                path.display()
            );
            return Err(Failure::new(what).with_hint(hint).with_code(REFUSED).into());
        }
        let written = write(&mut latch, &looks).and_then(|()| File::open(folder)?.sync_all());
        written.hint(path.display(), hint)?;
        Ok(Self { latch, path })
    }

    /// The token did not refuse the PIN.
    pub fn open(mut self) -> Result<()> {
        write(&mut self.latch, "").hint(self.path.display(), "is the disk full?")
    }
}

/// One for each token and file. The file stays, for who waits for it holds it open.
fn file_name(token: &str, pin: &Path) -> String {
    let mut hash = Sha256::new();
    hash.update(token);
    hash.update([0]);
    hash.update(fs::canonicalize(pin).unwrap_or_else(|_| pin.to_owned()).as_os_str().as_encoded_bytes());
    let mut name = String::new();
    for byte in hash.finalize().iter().take(16) {
        // A `String` takes everything.
        let _ = write!(name, "{byte:02x}");
    }
    name + ".pin-latch"
}

/// What tells one content of a file from another without its content.
fn looks(file: &Path) -> io::Result<String> {
    let file = fs::metadata(file)?;
    let (seconds, nanos) = (file.mtime(), file.mtime_nsec());
    Ok(format!("{} {} {} {seconds}.{nanos:09}\n", file.dev(), file.ino(), file.len()))
}

/// Durably, and nothing else.
fn write(latch: &mut File, text: &str) -> io::Result<()> {
    latch.set_len(0)?;
    latch.rewind()?;
    latch.write_all(text.as_bytes())?;
    latch.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_tried_again_only_when_its_file_was_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        let latches = folder.path().join("latches");
        let begin = |token: &str| Attempt::begin(&latches, token, &pin);
        assert!(begin("card").is_err(), "there is no PIN");
        fs::write(&pin, "1234").unwrap();
        begin("card").unwrap().open().unwrap();
        // Whether it was refused or we were ended in the middle of it.
        drop(begin("card").unwrap());
        for _ in 0..2 {
            let refused = begin("card").unwrap_err().to_string();
            assert!(refused.contains("the token `card` refused the PIN"), "{refused}");
        }
        begin("another").unwrap().open().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "1234").unwrap();
        Attempt::begin(&latches, "card", &other).unwrap().open().unwrap();
        begin("card").expect_err("another file says nothing of this one");
        fs::write(&pin, "12345").unwrap();
        begin("card").unwrap().open().unwrap();
        begin("card").unwrap().open().unwrap();
    }
}
