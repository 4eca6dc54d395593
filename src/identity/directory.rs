//! The clients and operators of the configuration, found by the identity that their certificate carries.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Client, Config, Operator};

/// Everyone who may connect.
#[derive(Debug, Default)]
pub struct Directory {
    people: HashMap<String, Person>,
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
        Self::of(config.clients.clone(), config.operators.clone())
    }

    /// The directory of these people; their identities are unique, which the configuration has checked.
    pub fn of(clients: Vec<Client>, operators: Vec<Operator>) -> Self {
        let clients = clients.into_iter().map(|c| (c.identity.clone(), Person::Client(Arc::new(c))));
        let operators = operators.into_iter().map(|o| (o.identity.clone(), Person::Operator(Arc::new(o))));
        Self { people: clients.chain(operators).collect() }
    }

    /// The one whose certificate carries exactly this name; no wildcards, no patterns, no case folding.
    pub fn find(&self, identity: &str) -> Option<&Person> {
        self.people.get(identity)
    }
}
