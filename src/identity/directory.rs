//! The clients and operators of the configuration, found by the issuer and the identity of their certificate.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Client, Config, Operator};

/// Everyone who may connect.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By the issuer's name, then by the identity.
    issuers: HashMap<String, HashMap<String, Person>>,
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

    /// The directory of these people; who they are is unique, which the configuration has checked.
    pub fn of(clients: Vec<Client>, operators: Vec<Operator>) -> Self {
        let clients = clients.into_iter().map(|client| Person::Client(Arc::new(client)));
        let operators = operators.into_iter().map(|operator| Person::Operator(Arc::new(operator)));
        let mut directory = Self::default();
        for person in clients.chain(operators) {
            let of_issuer = directory.issuers.entry(person.issuer().to_owned()).or_default();
            of_issuer.insert(person.identity().to_owned(), person);
        }
        directory
    }

    /// The one whose certificate is of this issuer and carries exactly this name; no wildcards, no patterns, no case
    /// folding.
    pub fn find(&self, issuer: &str, identity: &str) -> Option<&Person> {
        self.issuers.get(issuer)?.get(identity)
    }

    /// Who is here and, by the same name, issuer and identity, there as well.
    #[must_use]
    pub fn without_those_not_in(&self, there: &Self) -> Self {
        let mut left = self.clone();
        for people in left.issuers.values_mut() {
            people.retain(|_, person| {
                there.find(person.issuer(), person.identity()).is_some_and(|other| other.is_same(person))
            });
        }
        left
    }

    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.issuers.values().flat_map(HashMap::values)
    }
}

impl Person {
    /// The name in the configuration: clients and operators share one space of names.
    pub fn name(&self) -> &str {
        match self {
            Self::Client(client) => &client.name,
            Self::Operator(operator) => &operator.name,
        }
    }

    pub fn identity(&self) -> &str {
        match self {
            Self::Client(client) => &client.identity,
            Self::Operator(operator) => &operator.identity,
        }
    }

    pub fn issuer(&self) -> &str {
        match self {
            Self::Client(client) => &client.issuer,
            Self::Operator(operator) => &operator.issuer,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let is_client = |person: &Self| matches!(person, Self::Client(_));
        self.name() == other.name() && is_client(self) == is_client(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OWN_ISSUER, OperatorRole};

    fn client(name: &str, issuer: &str) -> Client {
        Client {
            name: name.to_owned(),
            identity: "spiffe://desk/trader".to_owned(),
            issuer: issuer.to_owned(),
            role: None,
            person: None,
            accounts: Vec::new(),
            origins: Vec::new(),
            repeat_window: None,
        }
    }

    #[test]
    fn a_name_is_another_client_under_another_issuer() {
        let directory =
            Directory::of(vec![client("ours", OWN_ISSUER), client("theirs", "partner")], Vec::new());
        let name = |issuer| directory.find(issuer, "spiffe://desk/trader").map(Person::name);
        assert_eq!((name(OWN_ISSUER), name("partner"), name("other")), (Some("ours"), Some("theirs"), None));
    }

    #[test]
    fn who_is_gone_renamed_or_made_an_operator_is_not_there_any_more() {
        let now = Directory::of(vec![client("a", OWN_ISSUER), client("b", "partner")], Vec::new());
        let left = |there: &Directory| {
            let left = now.without_those_not_in(there);
            let mut names: Vec<_> = left.people().map(|person| person.name().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(left(&now), ["a", "b"]);
        assert_eq!(left(&Directory::of(vec![client("b", "partner")], Vec::new())), ["b"]);
        let renamed = Directory::of(vec![client("c", OWN_ISSUER), client("b", "partner")], Vec::new());
        assert_eq!(left(&renamed), ["b"]);
        let operator = Operator {
            name: "a".to_owned(),
            identity: "spiffe://desk/trader".to_owned(),
            issuer: OWN_ISSUER.to_owned(),
            role: OperatorRole::Admin,
            person: "Ada".to_owned(),
        };
        assert_eq!(left(&Directory::of(Vec::new(), vec![operator])), [""; 0]);
    }
}
