//! The path token: every process on this machine can reach a port, so only who knows the URL is answered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::geteuid;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::cmd::{Failure, HintExt as _};

/// 192 bits: 32 characters without padding.
const BYTES: usize = 24;

/// What the path of a request must be, after its `/`.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    pub fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0_u8; BYTES]);
        getrandom::fill(bytes.as_mut()).hint("no randomness from the system", "try again")?;
        Ok(Self(URL_SAFE_NO_PAD.encode(*bytes).into()))
    }

    /// The token in `file`, which is made if it is not there, so that a URL can be kept.
    pub fn kept_in(file: &Path) -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
            Ok(mut made) => {
                let token = Self::random()?;
                writeln!(made, "{}", token.expose())
                    .and_then(|()| made.sync_all())
                    .hint(file.display(), "is the disk full?")?;
                Ok(token)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(file),
            Err(error) => Err(error).hint(file.display(), "give another file with `--token-file`"),
        }
    }

    /// For the URL that is shown.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Compares in a time that does not depend on how much of it is right.
    pub fn is(&self, given: &str) -> bool {
        self.expose().as_bytes().ct_eq(given.as_bytes()).into()
    }

    fn read(file: &Path) -> Result<Self> {
        let hint = "remove the file: a new token is made";
        let opened = File::open(file).hint(file.display(), hint)?;
        let found = opened.metadata().hint(file.display(), hint)?;
        let (mode, owner) = (found.mode(), found.uid());
        if owner != geteuid().as_raw() && owner != 0 {
            let what = format!("{}: this token is of another user, who knows it", file.display());
            return Err(Failure::new(what).with_hint(hint).into());
        }
        if mode & 0o077 != 0 {
            let what = format!("{}: others can read this token (mode {:03o})", file.display(), mode & 0o777);
            return Err(Failure::new(what).with_hint(hint).into());
        }
        let mut text = Zeroizing::new(String::new());
        opened.take(1024).read_to_string(&mut text).hint(file.display(), hint)?;
        let token = text.trim();
        let decoded = URL_SAFE_NO_PAD.decode(token).map(Zeroizing::new);
        if decoded.is_ok_and(|bytes| bytes.len() >= 16) {
            return Ok(Self(token.into()));
        }
        let what = format!("{}: not a token: expected at least 22 characters of base64url", file.display());
        Err(Failure::new(what).with_hint(hint).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.expose().len(), 32);
        assert!(
            one.is(one.expose())
                && !one.is(two.expose())
                && !one.is("")
                && !one.is(&format!("{}x", one.expose()))
        );
        assert!(!format!("{one:?}").contains(one.expose()));
    }

    #[test]
    fn a_kept_token_is_the_same_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let first = Token::kept_in(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(Token::kept_in(&file).unwrap().is(first.expose()));
    }

    #[test]
    fn a_weak_or_readable_token_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        Token::kept_in(&file).unwrap();
        for text in ["", "short", "no/base64url/of/any/kind/at/all"] {
            std::fs::write(&file, text).unwrap();
            assert!(Token::kept_in(&file).is_err(), "{text}");
        }
        std::fs::write(&file, "abcdefghijklmnopqrstuv").unwrap();
        assert!(Token::kept_in(&file).is_err(), "21 and a bit");
        std::fs::write(&file, "abcdefghijklmnopqrstuw").unwrap();
        Token::kept_in(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::kept_in(&file).unwrap_err().to_string().contains("others can read"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Only root can give a file away; nobody else can try this.
        if geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
            assert!(Token::kept_in(&file).unwrap_err().to_string().contains("of another user"));
        }
    }
}
