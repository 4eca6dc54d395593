//! What a rule can look at: who asks, for which account, and what exactly; read from the payload, once.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use alloy_primitives::Address;

use crate::clock::Timestamp;
use crate::policy::Evidence;
use crate::policy::abi::Abi;
use crate::policy::amount::Unit;
use crate::policy::call::TransactionFacts;
use crate::policy::rule::Place;
use crate::policy::siwe::{Siwe, SiweError};
use crate::policy::spend::{Asset, Spend};
use crate::policy::typed::TypedFacts;
use crate::transaction::{Delegation, Text};

/// Everything that conditions are tested against.
pub(in crate::policy) struct Facts<'a> {
    pub client: &'a str,
    pub role: Option<&'a str>,
    /// The caller's account; the payload's own is compared with it before anything else.
    pub account: Address,
    /// All accounts that the client may use.
    pub own: &'a [Address],
    pub now: Timestamp,
    pub evidence: &'a Evidence,
    pub book: &'a Book,
    pub subject: Subject<'a>,
}

pub(in crate::policy) enum Subject<'a> {
    Transaction(TransactionFacts<'a>),
    Message(MessageFacts<'a>),
    TypedData(TypedFacts<'a>),
    Authorization(&'a Delegation),
}

pub(in crate::policy) struct MessageFacts<'a> {
    pub asked: &'a Text,
    siwe: OnceCell<Result<Siwe<'a>, SiweError>>,
}

/// A contract of `[contracts]`.
#[derive(Debug)]
pub(in crate::policy) struct Contract {
    pub label: String,
    pub chain: u64,
    pub address: Address,
    pub abi: Option<Arc<Abi>>,
    /// Set for tokens whose amounts can be written with their symbol.
    pub unit: Option<Unit>,
    /// What its calls move.
    pub spends: Vec<Spend>,
    pub place: Place,
}

impl Contract {
    /// Whether this token may come out of it for its shares.
    pub fn gives_out(&self, token: Address) -> bool {
        let is_of = |spend: &Spend| match spend.asset {
            Asset::Underlying(underlying) => underlying.is_none_or(|underlying| underlying == token),
            _ => false,
        };
        self.spends.iter().any(|spend| is_of(spend) && spend.gives_out())
    }
}

/// Which address has which name.
#[derive(Debug, Default)]
pub(in crate::policy) struct Book {
    pub contracts: HashMap<(u64, Address), Arc<Contract>>,
    /// The chains that those are on.
    pub chains: BTreeSet<u64>,
    pub accounts: HashMap<Address, String>,
    /// The roles of clients that have one, by name.
    pub roles: HashMap<String, String>,
}

impl<'a> MessageFacts<'a> {
    pub const fn new(asked: &'a Text) -> Self {
        Self { asked, siwe: OnceCell::new() }
    }

    /// The message as EIP-4361 reads it.
    pub fn siwe(&self) -> &Result<Siwe<'a>, SiweError> {
        self.siwe.get_or_init(|| Siwe::parse(self.asked.as_str().ok_or(SiweError::NotSiwe)?))
    }
}

impl<'a> Facts<'a> {
    /// The same with another subject.
    pub fn about(&self, subject: Subject<'a>) -> Self {
        Self { subject, ..*self }
    }

    /// What is asked, as the end of "client X may not …".
    pub fn describe(&self) -> String {
        let account = self.book.account(self.account);
        match &self.subject {
            Subject::Transaction(transaction) if transaction.presigned => {
                format!("pass on a transaction to {} that {account} has signed", transaction.describe(self))
            }
            Subject::Transaction(transaction) => {
                format!("{} from {account}", transaction.describe(self))
            }
            Subject::Message(message) => {
                format!("sign this message of {} bytes with {account}", message.asked.bytes().len())
            }
            Subject::TypedData(typed) => format!("{} with {account}", typed.describe(self)),
            Subject::Authorization(asked) if asked.delegate().is_zero() => {
                format!("sign that no contract's code acts as {account} any more")
            }
            Subject::Authorization(asked) => {
                let delegate = self.name(asked.chain_id(), asked.delegate());
                format!("sign that the code of {delegate} may act as {account}")
            }
        }
    }

    /// An address with the name it has here. Of accounts, the client's own only: which others there are, nobody
    /// learns by asking for a payment to them.
    pub fn name(&self, chain: u64, address: Address) -> String {
        match self.book.contracts.get(&(chain, address)) {
            Some(contract) => format!("`{}` ({address})", contract.label),
            None if self.own.contains(&address) => self.book.account(address),
            None => address.to_string(),
        }
    }

    /// Whose code acts as an account: the zero address takes away what did.
    pub fn delegate(&self, chain: u64, delegate: Address) -> String {
        if delegate.is_zero() { "\"none\" (the zero address)".to_owned() } else { self.name(chain, delegate) }
    }
}

impl Book {
    pub fn insert(&mut self, contract: Arc<Contract>) {
        self.chains.insert(contract.chain);
        self.contracts.insert((contract.chain, contract.address), contract);
    }

    /// Every contract at an address; on any chain, where none is given.
    pub fn at(&self, chain: Option<u64>, at: Address) -> impl Iterator<Item = &Arc<Contract>> {
        let chains = self.chains.iter().filter(move |id| chain.is_none_or(|chain| chain == **id));
        chains.filter_map(move |id| self.contracts.get(&(*id, at)))
    }

    pub fn contract(&self, chain: u64, at: Address) -> Option<&Contract> {
        self.contracts.get(&(chain, at)).map(AsRef::as_ref)
    }

    /// An address with the name it has here.
    pub fn name(&self, chain: u64, address: Address) -> String {
        match self.contracts.get(&(chain, address)) {
            Some(contract) => format!("`{}` ({address})", contract.label),
            None => self.account(address),
        }
    }

    pub fn account(&self, address: Address) -> String {
        match self.accounts.get(&address) {
            Some(name) => format!("`{name}` ({address})"),
            None => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Address = Address::repeat_byte(2);

    fn contract(label: &str, chain: u64, address: Address) -> Arc<Contract> {
        Arc::new(Contract {
            label: label.to_owned(),
            chain,
            address,
            abi: None,
            unit: None,
            spends: Vec::new(),
            place: Place { file: "p.toml".into(), line: 1 },
        })
    }

    #[test]
    fn an_address_has_its_name_on_its_chain() {
        let (token, account) = (Address::repeat_byte(1), Address::repeat_byte(9));
        let mut book = Book::default();
        book.accounts.insert(account, "treasury".to_owned());
        book.insert(contract("one", 1, token));
        book.insert(contract("ten", 10, token));
        book.insert(contract("two", 10, SECOND));
        for (chain, address, name) in [
            (1, token, format!("`one` ({token})")),
            (10, token, format!("`ten` ({token})")),
            (5, token, token.to_string()),
            (1, SECOND, SECOND.to_string()),
            (1, account, format!("`treasury` ({account})")),
        ] {
            assert_eq!(book.name(chain, address), name);
        }
        let at = |chain: Option<u64>, address: Address| {
            book.at(chain, address).map(|contract| contract.label.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            [at(None, token), at(Some(10), token), at(Some(5), token)],
            [vec!["one", "ten"], vec!["ten"], vec![]]
        );
        assert_eq!(book.contract(10, SECOND).map(|contract| contract.label.as_str()), Some("two"));
        assert!(book.contract(1, SECOND).is_none());
        assert_eq!(
            (book.account(account), book.account(token)),
            (format!("`treasury` ({account})"), token.to_string())
        );
    }
}
