//! The password of a container or the PIN of a token: from a file, or asked for at the terminal, once and unseen.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::cmd::{Failure, HintExt as _};
use crate::secret;

/// No password is longer.
const LONGEST: usize = 1024;

/// Where it comes from.
#[derive(Clone, Debug)]
pub enum Password {
    /// Read each time, since it may be renewed with what it opens.
    File(PathBuf),
    /// What a person has typed, kept for as long as we run.
    Asked(Arc<Mutex<Option<SecretString>>>),
}

impl Password {
    pub fn of(file: Option<PathBuf>) -> Self {
        file.map_or_else(|| Self::Asked(Arc::default()), Self::File)
    }

    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Asked(_) => None,
        }
    }

    /// `what` it is for is shown to who is asked.
    pub fn read(&self, what: &str) -> Result<SecretString> {
        match self {
            Self::File(file) => {
                secret::read_file(file).hint(file.display(), "give the file with --password-file")
            }
            Self::Asked(known) => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = &*known {
                    return Ok(known.clone());
                }
                let typed = ask(what)
                    .map_err(|error| Failure::new(error).with_hint("give it with --password-file"))?;
                Ok(known.insert(typed).clone())
            }
        }
    }
}

/// Asks the person at the terminal, and shows nothing of what is typed.
fn ask(what: &str) -> io::Result<SecretString> {
    let nobody = |_| io::Error::other(format!("nobody can be asked for {what}: there is no terminal"));
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(nobody)?;
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    write!(terminal, "{what}: ")?;
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let typed = line(&mut terminal);
    // Whatever was typed, the terminal is to be as it was.
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    typed
}

/// One line, byte by byte: what is behind it is not ours to read.
fn line(from: &mut impl io::Read) -> io::Result<SecretString> {
    // As large as it may ever become: what grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = [0];
    while from.read(&mut byte)? > 0 && byte != *b"\n" {
        if text.len() == LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "that is too long for a password"));
        }
        text.extend_from_slice(&byte);
    }
    let text = std::str::from_utf8(&text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "that is no text"))?;
    Ok(SecretString::from(text.trim_end_matches('\r')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_password_is_what_stands_on_one_line() {
        let typed = |text: &str| line(&mut text.as_bytes()).map(|typed| typed.expose_secret().to_owned());
        assert_eq!(typed("sésame \nmore").unwrap(), "sésame ");
        assert_eq!(typed("1234\r\n").unwrap(), "1234");
        assert_eq!(typed("").unwrap(), "");
        assert!(typed(&"x".repeat(LONGEST + 1)).is_err());
    }
}
