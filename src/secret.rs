//! What must not be seen: node URLs that carry keys, and files that hold PINs and passwords.

use std::fmt;
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
#[error("not a URL of a node: expected http://host[:port]/… or https://host[:port]/…")]
pub struct NotAUrl;

/// Why a text is no URL of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a URL of a PostgreSQL database: expected postgres://user@host[:port]/database")]
pub struct NotADatabase;

impl SecretUrl {
    pub fn parse(text: &str) -> Result<Self, NotAUrl> {
        Self::of_schemes(text, &["http", "https"]).ok_or(NotAUrl)
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
        if host.is_empty() {
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

/// Reads a PIN or a password from a file: its first line, without the line's end.
pub fn read_file(path: &Path) -> std::io::Result<SecretString> {
    let whole = Zeroizing::new(std::fs::read_to_string(path)?);
    let line = whole.lines().next().unwrap_or_default();
    Ok(SecretString::from(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_07_a_url_is_shown_without_its_secrets() {
        let url = SecretUrl::parse("https://user:pass@node.example:8545/v3/KEY?token=KEY").unwrap();
        assert_eq!(url.to_string(), "https://node.example:8545/…");
        assert!(!format!("{url:?}").contains("KEY") && !format!("{url:?}").contains("pass"));
        assert!(url.expose().contains("KEY"));
        for text in ["", "node:8545", "ftp://x", "http://", "https:///v3", "http://a b"] {
            assert_eq!(SecretUrl::parse(text).err(), Some(NotAUrl), "{text}");
        }
    }
}
