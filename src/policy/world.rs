//! What policy files may refer to: the chain, the accounts and the clients of the configuration.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::config::{Client, Config};

/// The names that a policy is read against. A policy is loaded anew whenever one of them changes.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The chain that the configuration pins: the first, where it has several.
    pub chain: u64,
    /// The others.
    pub other_chains: Vec<u64>,
    /// Accounts that have a key here, by name.
    pub accounts: BTreeMap<String, Address>,
    pub clients: Vec<Client>,
}

impl World {
    pub fn new(config: &Config) -> Self {
        Self {
            chain: config.chains.first().map_or(0, |chain| chain.id),
            other_chains: config.chains.iter().skip(1).map(|chain| chain.id).collect(),
            accounts: config.accounts.iter().map(|account| (account.name.clone(), account.address)).collect(),
            clients: config.clients.clone(),
        }
    }

    pub fn chains(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.chain).chain(self.other_chains.iter().copied())
    }

    /// Whether a client has this name, or this role.
    pub fn knows_client(&self, name_or_role: &str) -> bool {
        self.clients.iter().any(|client| {
            client.name == name_or_role || client.role.as_ref().is_some_and(|role| role == name_or_role)
        })
    }
}
