//! Sign-In with Ethereum (EIP-4361), read by the letter of its grammar.

use alloy_primitives::Address;

use crate::clock::Timestamp;
use crate::transaction::address;

/// What a sign-in message says, as far as rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Siwe<'a> {
    /// Who asks for the sign-in: a host, with its port where it has one.
    pub domain: &'a str,
    pub address: Address,
    pub chain: u64,
    pub expires: Option<Timestamp>,
}

/// Why a text is no sign-in message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::policy) enum SiweError {
    /// Nothing in it looks like one.
    #[error("it does not say that it is one")]
    NotSiwe,
    #[error("its domain or scheme is malformed")]
    Domain,
    #[error("its address is malformed, or has not the checksum that EIP-4361 demands")]
    Address,
    #[error("its statement is malformed")]
    Statement,
    #[error("the line `{0}` is missing, misplaced or malformed")]
    Line(&'static str),
    #[error("it goes on after its last line")]
    Trailing,
}

const REQUEST: &str = " wants you to sign in with your Ethereum account:";

impl<'a> Siwe<'a> {
    pub fn parse(text: &'a str) -> Result<Self, SiweError> {
        // A verifier that is less strict than this one might still take it: then it is a malformed sign-in.
        if !text.to_ascii_lowercase().contains("wants you to sign in with your ethereum account") {
            return Err(SiweError::NotSiwe);
        }
        // Line feeds alone separate lines; a carriage return, or any other control character, is refused.
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(SiweError::Statement);
        }
        let mut lines = Lines { rest: Some(text) };
        let who = lines.next().and_then(|line| line.strip_suffix(REQUEST)).ok_or(SiweError::Domain)?;
        let domain = match who.split_once("://") {
            // Over anything else but TLS the domain proves nothing.
            Some(("https", domain)) => domain,
            Some(_) => return Err(SiweError::Domain),
            None => who,
        };
        if domain.is_empty() || !domain.bytes().all(is_authority) {
            return Err(SiweError::Domain);
        }
        let written = lines.next().ok_or(SiweError::Address)?;
        let account = address(written).map_err(|_| SiweError::Address)?;
        if account.to_checksum(None) != written {
            return Err(SiweError::Address);
        }
        lines.statement()?;
        let uri = lines.value("URI: ")?;
        if !is_uri(uri) {
            return Err(SiweError::Line("URI"));
        }
        if lines.value("Version: ")? != "1" {
            return Err(SiweError::Line("Version"));
        }
        let chain = lines.value("Chain ID: ")?;
        let digits = !chain.is_empty() && chain.bytes().all(|b| b.is_ascii_digit());
        let chain = digits.then(|| chain.parse().ok()).flatten().ok_or(SiweError::Line("Chain ID"))?;
        let nonce = lines.value("Nonce: ")?;
        if nonce.len() < 8 || !nonce.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(SiweError::Line("Nonce"));
        }
        time(lines.value("Issued At: ")?).ok_or(SiweError::Line("Issued At"))?;
        let expires = lines.optional("Expiration Time: ");
        let expires = expires.map(|text| time(text).ok_or(SiweError::Line("Expiration Time"))).transpose()?;
        if let Some(text) = lines.optional("Not Before: ") {
            time(text).ok_or(SiweError::Line("Not Before"))?;
        }
        if let Some(id) = lines.optional("Request ID: ")
            && !id.bytes().all(is_uri_byte)
        {
            return Err(SiweError::Line("Request ID"));
        }
        if lines.optional("Resources:").is_some_and(|rest| !rest.is_empty()) {
            return Err(SiweError::Line("Resources"));
        }
        while let Some(resource) = lines.optional("- ") {
            if !is_uri(resource) {
                return Err(SiweError::Line("Resources"));
            }
        }
        if lines.rest.is_some() {
            return Err(SiweError::Trailing);
        }
        Ok(Self { domain, address: account, chain, expires })
    }
}

/// The lines that are left; `None` after the last.
struct Lines<'a> {
    rest: Option<&'a str>,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let (line, rest) = match rest.split_once('\n') {
            Some((line, rest)) => (line, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        Some(line)
    }

    /// An empty line, then either a statement and an empty line, or (two readings of the grammar are in use)
    /// one or two empty lines.
    fn statement(&mut self) -> Result<(), SiweError> {
        if self.next() != Some("") {
            return Err(SiweError::Statement);
        }
        if self.rest.is_some_and(|rest| rest.starts_with("URI: ")) {
            return Ok(());
        }
        let statement = self.next().ok_or(SiweError::Statement)?;
        if statement.is_empty() {
            return Ok(());
        }
        match self.next() {
            Some("") => Ok(()),
            _ => Err(SiweError::Statement),
        }
    }

    fn value(&mut self, tag: &'static str) -> Result<&'a str, SiweError> {
        self.optional(tag).ok_or(SiweError::Line(tag.trim_end_matches([':', ' '])))
    }

    fn optional(&mut self, tag: &str) -> Option<&'a str> {
        let before = self.rest;
        let value = self.next().and_then(|line| line.strip_prefix(tag));
        if value.is_none() {
            self.rest = before;
        }
        value
    }
}

/// RFC 3339, in the one form that all its readers share: `2026-01-31T12:00:00.000Z`, or with `+hh:mm`.
fn time(text: &str) -> Option<Timestamp> {
    let shape = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b'T' | b'Z' | b'+');
    if text.len() < 20 || !text.bytes().all(shape) || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// Host and port; user names before an `@` are there to deceive.
fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_' | b'[' | b']')
}

fn is_uri(text: &str) -> bool {
    let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.split_once(':').is_some_and(|(name, rest)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(scheme)
            && !rest.is_empty()
            && rest.bytes().all(is_uri_byte)
    })
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "app.example.com wants you to sign in with your Ethereum account:
0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045

I accept the terms.

URI: https://app.example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2026-01-31T12:00:00Z
Expiration Time: 2026-01-31T13:00:00.500Z
Not Before: 2026-01-31T12:00:00Z
Request ID: some-id
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/claim.json";

    #[test]
    fn a_full_and_a_short_message_are_read() {
        let full = Siwe::parse(GOOD).unwrap();
        assert_eq!((full.domain, full.chain), ("app.example.com", 1));
        assert_eq!(full.expires.unwrap().to_string(), "2026-01-31T13:00:00.500Z");
        let (short, _) = GOOD.split_once("\nExpiration").unwrap();
        assert_eq!(Siwe::parse(short).unwrap().expires, None);
        for statement in ["\n", "\n\n"] {
            let without = short.replace("\nI accept the terms.\n\n", statement);
            assert!(Siwe::parse(&without).is_ok(), "{without}");
        }
        assert!(Siwe::parse(&format!("https://{GOOD}")).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for (right, wrong) in [
            ("app.example.com wants", "http://app.example.com wants"),
            ("app.example.com wants", "app.example.com@evil.example wants"),
            ("app.example.com wants", " wants"),
            ("account:\n", "account: \n"),
            ("wants you", "Wants you"),
            ("0xd8dA", "0xd8da"),
            ("\n\nI accept", "\nI accept"),
            ("terms.\n\nURI", "terms.\nand more\n\nURI"),
            ("terms.\n\nURI", "terms.\nURI"),
            ("terms.", "terms.\r"),
            ("URI: https://", "URI: https://<"),
            ("URI: https://", "URI: https://\u{e9}"),
            ("Version: 1", "Version: 2"),
            ("Version: 1\n", ""),
            ("Chain ID: 1", "Chain ID: +1"),
            ("Chain ID: 1", "Chain ID: 0x1"),
            ("Chain ID: 1\nNonce: 32891756", "Nonce: 32891756\nChain ID: 1"),
            ("Nonce: 32891756", "Nonce: 3289175"),
            ("Issued At: 2026-01-31T", "Issued At: 2026-01-31 "),
            ("Time: 2026-01-31T13", "Time: 2026-01-31T25"),
            ("Time: 2026-01-31T13:00:00.500Z", "Time: never"),
            ("Not Before: 2026-01-31T12:00:00Z", "Not Before: 2026"),
            ("claim.json", "claim.json\n"),
            ("claim.json", "claim.json\nExpiration Time: 2036-01-31T13:00:00Z"),
            ("URI: https", "URI: not a uri https"),
            ("Resources:\n", "Resources: \n"),
        ] {
            let text = GOOD.replacen(right, wrong, 1);
            assert_ne!(text, GOOD, "{right}");
            let refused = Siwe::parse(&text);
            assert!(refused.is_err() && refused != Err(SiweError::NotSiwe), "{wrong}: {refused:?}");
        }
        assert_eq!(Siwe::parse("hello"), Err(SiweError::NotSiwe));
    }

    #[test]
    fn each_line_that_is_wrong_is_named() {
        let of =
            |right: &str, wrong: &str| Siwe::parse(&GOOD.replacen(right, wrong, 1)).unwrap_err().to_string();
        let line = |name: &str| format!("the line `{name}` is missing, misplaced or malformed");
        for (right, wrong, says) in [
            (
                "app.example.com wants",
                "http://app.example.com wants",
                "its domain or scheme is malformed".to_owned(),
            ),
            ("app.example.com wants", "a b wants", "its domain or scheme is malformed".to_owned()),
            (
                "0xd8dA",
                "0xd8da",
                "its address is malformed, or has not the checksum that EIP-4361 demands".to_owned(),
            ),
            ("terms.\n\nURI", "terms.\nURI", "its statement is malformed".to_owned()),
            ("URI: https://app.example.com/login", "URI: login", line("URI")),
            ("URI: https:", "URI: 9https:", line("URI")),
            ("URI: https://app.example.com/login", "URI: https:", line("URI")),
            ("Version: 1", "Version: 2", line("Version")),
            ("Chain ID: 1", "Chain ID: ", line("Chain ID")),
            ("Chain ID: 1", "Chain ID: 99999999999999999999", line("Chain ID")),
            ("Nonce: 32891756", "Nonce: 3289175", line("Nonce")),
            ("Nonce: 32891756", "Nonce: 3289175-", line("Nonce")),
            ("Issued At: 2026-01-31T12:00:00Z", "Issued At: 2026-01-31 12:00:00Z", line("Issued At")),
            (
                "Expiration Time: 2026-01-31T13:00:00.500Z",
                "Expiration Time: tomorrow",
                line("Expiration Time"),
            ),
            ("Not Before: 2026-01-31T12:00:00Z", "Not Before: 2026-01-31T12:00Z", line("Not Before")),
            ("Request ID: some-id", "Request ID: some id", line("Request ID")),
            ("Resources:\n", "Resources: x\n", line("Resources")),
            ("- ipfs://", "- ipfs//", line("Resources")),
            ("claim.json", "claim.json\n", "it goes on after its last line".to_owned()),
        ] {
            assert_eq!(of(right, wrong), says, "{wrong}");
        }
        for (right, other) in [
            ("Nonce: 32891756", "Nonce: abcDEF12"),
            ("Request ID: some-id", "Request ID: "),
            ("Issued At: 2026-01-31T12:00:00Z", "Issued At: 2026-01-31T12:00:00+02:00"),
            ("app.example.com wants", "[::1]:8545 wants"),
            ("app.example.com wants", "a_b-c.example:443 wants"),
            ("URI: https://app.example.com/login", "URI: did:key:z6Mk%20~a!$&'()*+,;=@[1]?x#y"),
            ("URI: https://app.example.com/login", "URI: a+b-c.1:x"),
        ] {
            let text = GOOD.replacen(right, other, 1);
            assert_eq!(Siwe::parse(&text).map(drop), Ok(()), "{other}");
        }
        assert_eq!(
            Siwe::parse(&GOOD.replace(
                "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
                "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA9604"
            )),
            Err(SiweError::Address)
        );
        assert_eq!(SiweError::NotSiwe.to_string(), "it does not say that it is one");
    }
}
