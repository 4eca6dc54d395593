//! What policy files may refer to: the chains, the accounts and the clients of the configuration.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::config::{Client, Config};

/// The names that a policy is read against. A policy is loaded anew whenever one of them changes.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The chains that the configuration pins, in its order.
    pub chains: Vec<u64>,
    /// Accounts that have a key here, by name.
    pub accounts: BTreeMap<String, Address>,
    pub clients: Vec<Client>,
}

impl World {
    pub fn new(config: &Config) -> Self {
        Self {
            chains: config.chains.iter().map(|chain| chain.id).collect(),
            accounts: config.accounts.iter().map(|account| (account.name.clone(), account.address)).collect(),
            clients: config.clients.clone(),
        }
    }

    /// The chain that a payload is for: the one that it names, where it is one of these, or else the first.
    pub fn chain_of(&self, asked: Option<u64>) -> u64 {
        let known = asked.filter(|asked| self.chains.contains(asked));
        known.or_else(|| self.chains.first().copied()).unwrap_or_default()
    }

    /// Whether a client has this name, or this role.
    pub fn knows_client(&self, name_or_role: &str) -> bool {
        self.clients.iter().any(|client| {
            client.name == name_or_role || client.role.as_ref().is_some_and(|role| role == name_or_role)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_for_the_chain_that_it_names_or_the_first() {
        let world = World { chains: vec![5, 10], ..World::default() };
        for (asked, is) in [(Some(10), 10), (Some(5), 5), (Some(1), 5), (None, 5)] {
            assert_eq!(world.chain_of(asked), is, "{asked:?}");
        }
        assert_eq!(World::default().chain_of(None), 0);
    }

    #[test]
    fn a_client_is_known_by_its_name_and_by_its_role() {
        let world = crate::policy::tests::world();
        for (name, is) in [("ann", true), ("trader", true), ("ben", true), ("tradr", false), ("", false)] {
            assert_eq!(world.knows_client(name), is, "{name}");
        }
    }
}
