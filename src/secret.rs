//! What must not be seen: node URLs that carry keys, and files that hold PINs and passwords.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// A URL that may carry an API key in its user part, path or query. Shown as scheme and host only.
#[derive(Clone)]
pub struct SecretUrl {
    whole: SecretString,
    shown: String,
}

/// Why a text is no URL of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a URL of a node: expected http://host[:port]/… or https://host[:port]/…; a `/`, `?`, `#` or `@` in a password is written %2F, %3F, %23, %40"
)]
pub struct NotAUrl;

/// Why a text is no URL of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a URL of a WebSocket: expected ws://host[:port]/… or wss://host[:port]/…")]
pub struct NotAWebSocket;

/// Why a text is no URL of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a URL of a PostgreSQL database: expected postgres://user@host[:port]/database; a `/`, `?`, `#` or `@` in a password is written %2F, %3F, %23, %40"
)]
pub struct NotADatabase;

impl SecretUrl {
    pub fn parse(text: &str) -> Result<Self, NotAUrl> {
        Self::of_schemes(text, &["http", "https"]).ok_or(NotAUrl)
    }

    /// The URL of a node's WebSocket.
    pub fn parse_websocket(text: &str) -> Result<Self, NotAWebSocket> {
        Self::of_schemes(text, &["ws", "wss"]).ok_or(NotAWebSocket)
    }

    /// The WebSocket at the same place as this HTTP.
    #[must_use]
    pub fn as_websocket(&self) -> Self {
        // Of `http` and `https` alike.
        let changed = |text: &str| text.replacen("http", "ws", 1);
        Self { whole: changed(self.whole.expose_secret()).into(), shown: changed(&self.shown) }
    }

    /// Whether it has a user part.
    pub fn has_credentials(&self) -> bool {
        let rest = self.expose().split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@')
    }

    /// The URL of a PostgreSQL database.
    pub fn parse_database(text: &str) -> Result<Self, NotADatabase> {
        Self::of_schemes(text, &["postgres", "postgresql"]).ok_or(NotADatabase)
    }

    fn of_schemes(text: &str, schemes: &[&str]) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !schemes.contains(&scheme) || rest.contains(char::is_whitespace) {
            return None;
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // A password that is not escaped would end the host too early, and be shown.
        let path = match rest.get(authority.len()..)? {
            path if path.starts_with('/') => path.split('?').next().unwrap_or_default(),
            all => all,
        };
        let port = host.rsplit_once(']').map_or(host, |(_, port)| port).split_once(':').map(|(_, port)| port);
        if host.is_empty() || path.contains('@') || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return None;
        }
        let more = if rest.len() > host.len().saturating_add(1) { "/…" } else { "" };
        Some(Self { shown: format!("{scheme}://{host}{more}"), whole: text.to_owned().into() })
    }

    /// The URL with its secrets, for the connection itself.
    pub fn expose(&self) -> &str {
        self.whole.expose_secret()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.shown)
    }
}

/// No PIN and no password is longer.
const LONGEST: usize = 4096;

/// Reads a PIN or a password from a file: its first line, without the line's end.
pub fn read_file(path: &Path) -> io::Result<SecretString> {
    let mut file = File::open(path)?;
    first_line(|rest, _| file.read(rest))
}

/// The same from a file that is open, from its beginning, wherever others have read to.
pub fn read_open(file: &File) -> io::Result<SecretString> {
    first_line(|rest, read| file.read_at(rest, u64::try_from(read).unwrap_or(u64::MAX)))
}

fn first_line(mut more_of: impl FnMut(&mut [u8], usize) -> io::Result<usize>) -> io::Result<SecretString> {
    // As large as it may ever become: what grows leaves copies behind.
    let mut whole = Zeroizing::new(vec![0; LONGEST]);
    let mut read = 0_usize;
    while let Some(rest) = whole.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match more_of(rest, read) {
            Ok(0) => break,
            Ok(more) => read = read.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if read == LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a secret of one line"));
    }
    let text = std::str::from_utf8(whole.get(..read).unwrap_or_default());
    let text = text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))?;
    Ok(SecretString::from(text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_secret_is_the_first_line_of_its_file_however_often_it_is_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"1234\r\nremark\n").unwrap();
        for _ in 0..2 {
            assert_eq!(read_open(&file).unwrap().expose_secret(), "1234");
        }
        file.write_all(&[b'x'; 5000]).unwrap();
        assert_eq!(read_open(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn inv_07_a_url_is_shown_without_its_secrets() {
        let url = SecretUrl::parse("https://user:pass@node.example:8545/v3/KEY?token=KEY").unwrap();
        assert_eq!(url.to_string(), "https://node.example:8545/…");
        assert!(!format!("{url:?}").contains("KEY") && !format!("{url:?}").contains("pass"));
        assert!(url.expose().contains("KEY"));
        for text in ["", "node:8545", "ftp://x", "http://", "https:///v3", "http://a b"] {
            assert_eq!(SecretUrl::parse(text).err(), Some(NotAUrl), "{text}");
        }
        // Of these a part of the password would be taken for the host.
        for text in
            ["u:pa/ss@db/ledger", "u:12/ss@db/ledger", "u:12?ss@db/ledger", "u:pa#ss@db/ledger", "u@db:x/l"]
        {
            let text = format!("postgres://{text}");
            assert_eq!(SecretUrl::parse_database(&text).err(), Some(NotADatabase), "{text}");
        }
        for text in ["u:pa%2Fss@db/ledger", "u@[::1]:5432/ledger", "[::1]/ledger", "localhost:1/l?host=/a@b"]
        {
            assert!(SecretUrl::parse_database(&format!("postgres://{text}")).is_ok(), "{text}");
        }
    }
}
