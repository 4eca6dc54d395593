//! What rules say of messages: a text, or a sign-in by EIP-4361.

use std::time::Duration;

use crate::policy::condition::{Holds, when};
use crate::policy::facts::{Facts, MessageFacts};
use crate::policy::siwe::SiweError;

/// `text`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) enum TextTest {
    Any,
    Prefix(String),
    Equals(String),
}

/// `siwe`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) struct SiweTest {
    pub domains: Vec<String>,
    pub chain: Option<u64>,
    pub expires_within: Option<Duration>,
}

impl TextTest {
    pub fn test(&self, message: &MessageFacts<'_>) -> Holds {
        let bytes = message.asked.bytes();
        if let Self::Equals(text) = self {
            return when(text.as_bytes() == bytes.as_ref(), || "it is another text".to_owned());
        }
        if let Self::Prefix(prefix) = self
            && !bytes.starts_with(prefix.as_bytes())
        {
            return Holds::No("it does not begin as the rule demands".to_owned());
        }
        if message.asked.as_str().is_none() {
            return Holds::Unclear(
                "it is not UTF-8, so it is no text that anyone could have read".to_owned(),
            );
        }
        // Safe and others take a signature over 32 bytes for the approval of the transaction with that hash.
        if bytes.len() == 32 {
            return Holds::Unclear("its 32 bytes can be the hash of something else".to_owned());
        }
        Holds::Yes
    }
}

impl SiweTest {
    pub fn test(&self, message: &MessageFacts<'_>, facts: &Facts<'_>) -> Holds {
        let siwe = match message.siwe() {
            Ok(siwe) => siwe,
            Err(SiweError::NotSiwe) => return Holds::No("it is no sign-in message (EIP-4361)".to_owned()),
            Err(why) => {
                return Holds::Unclear(format!("it is no well-formed sign-in message (EIP-4361): {why}"));
            }
        };
        if siwe.address != facts.account {
            return Holds::Unclear("it is a sign-in of another account".to_owned());
        }
        if !self.domains.is_empty() && !self.domains.iter().any(|domain| domain == siwe.domain) {
            return if self.domains.iter().any(|domain| plainly(domain) == plainly(siwe.domain)) {
                Holds::Unclear("its domain is not written as in the rule".to_owned())
            } else {
                Holds::No("it signs in to another domain".to_owned())
            };
        }
        if let Some(chain) = self.chain
            && chain != siwe.chain
        {
            return Holds::No(format!("it signs in on chain {}, the rule is for chain {chain}", siwe.chain));
        }
        let Some(within) = self.expires_within else { return Holds::Yes };
        match siwe.expires {
            None => Holds::No("it never expires".to_owned()),
            Some(expires) if expires <= facts.now => Holds::No("it has expired".to_owned()),
            Some(expires) => when(expires.since(facts.now) <= within, || {
                format!("it expires at {expires}, later than {} s from now", within.as_secs())
            }),
        }
    }
}

/// A domain as DNS and browsers take it: the same in capitals, with the port that is implied, or with the root's dot.
fn plainly(domain: &str) -> String {
    let domain = domain.to_ascii_lowercase();
    let domain = domain.strip_suffix(":443").unwrap_or(&domain);
    match domain.rsplit_once(':') {
        Some((host, port)) => format!("{}:{port}", host.trim_end_matches('.')),
        None => domain.trim_end_matches('.').to_owned(),
    }
}
