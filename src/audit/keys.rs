//! Which keys were proved, and when a token came and went.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::config::{Config, KeySource};
use crate::ledger::{KeyUse, Ledger, Note};
use crate::signer::{Signer, TokenState};

/// The tokens, and what was last written of each.
#[derive(Debug)]
pub struct Keys {
    signer: Signer,
    /// The accounts of each token; those of keystore files under the name of their worker.
    accounts: BTreeMap<String, Vec<Address>>,
    written: BTreeMap<String, &'static str>,
}

impl Keys {
    pub fn new(config: &Config, signer: Signer) -> Self {
        let mut accounts: BTreeMap<String, Vec<Address>> = BTreeMap::new();
        for account in &config.accounts {
            let tokens = match &account.key {
                KeySource::Token { tokens, .. } => tokens.clone(),
                KeySource::Keystore { .. } => vec!["software".to_owned()],
            };
            for token in tokens {
                accounts.entry(token).or_default().push(account.address);
            }
        }
        Self { signer, accounts, written: BTreeMap::new() }
    }

    /// Writes a row for each token that changed since the last look.
    pub(super) async fn look(&mut self, ledger: &Ledger) {
        for status in self.signer.readiness() {
            let (what, why) = match &status.state {
                TokenState::Starting | TokenState::Restarting(_) => continue,
                TokenState::Ready { .. } => ("proved", None),
                TokenState::PinLatched(why) => ("latched", Some(why.clone())),
                TokenState::Mismatch(why) | TokenState::Down(why) => ("unavailable", Some(why.clone())),
            };
            let before = self.written.get(&status.token).copied();
            if before == Some(what) {
                continue;
            }
            let row = |what, keys, why| Note::Key(KeyUse { keys, why, ..KeyUse::new(&status.token, what) });
            if before == Some("latched") && ledger.note(row("unlatched", Vec::new(), None)).await.is_err() {
                continue;
            }
            let keys = if what == "proved" { self.accounts.get(&status.token) } else { None };
            // One that cannot be written is tried again at the next look.
            if ledger.note(row(what, keys.cloned().unwrap_or_default(), why)).await.is_ok() {
                self.written.insert(status.token.clone(), what);
            }
        }
    }
}
