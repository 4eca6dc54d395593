//! The clients and operators of the configuration, found by the identity that their certificate carries.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;

use crate::config::{Client, Config, Operator};

/// Everyone who may connect.
#[derive(Debug, Default)]
pub struct Directory {
    people: HashMap<String, Person>,
    ours: Vec<Address>,
}

/// Whose certificate it is.
#[derive(Clone, Debug)]
pub enum Person {
    /// May use the gateway.
    Client(Arc<Client>),
    /// May use the admin listener.
    Operator(Arc<Operator>),
}

impl Directory {
    pub fn new(config: &Config) -> Self {
        let clients =
            config.clients.iter().map(|c| (c.identity.clone(), Person::Client(Arc::new(c.clone()))));
        let operators =
            config.operators.iter().map(|o| (o.identity.clone(), Person::Operator(Arc::new(o.clone()))));
        Self {
            people: clients.chain(operators).collect(),
            ours: config.accounts.iter().map(|account| account.address).collect(),
        }
    }

    /// The one whose certificate carries exactly this name; no wildcards, no patterns, no case folding.
    pub fn find(&self, identity: &str) -> Option<&Person> {
        self.people.get(identity)
    }

    /// Every account that has a key here, whoever may use it.
    pub fn accounts(&self) -> &[Address] {
        &self.ours
    }
}
