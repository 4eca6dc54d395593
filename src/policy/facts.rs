//! What a rule can look at: who asks, for which account, and what exactly; read from the payload, once.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, Selector, U256};

use crate::clock::Timestamp;
use crate::policy::abi::{Abi, Function};
use crate::policy::amount::{Unit, show_wei};
use crate::policy::budget::Spend;
use crate::policy::siwe::{Siwe, SiweError};
use crate::policy::typed::TypedFacts;
use crate::transaction::calldata::{self, CalldataError};
use crate::transaction::{Filled, Text};

/// Everything that conditions are tested against.
pub(in crate::policy) struct Facts<'a> {
    pub client: &'a str,
    pub role: Option<&'a str>,
    /// The caller's account; the payload's own is compared with it before anything else.
    pub account: Address,
    /// All accounts that the client may use.
    pub own: &'a [Address],
    pub now: Timestamp,
    pub book: &'a Book,
    pub subject: Subject<'a>,
}

pub(in crate::policy) enum Subject<'a> {
    Transaction(TransactionFacts<'a>),
    Message(MessageFacts<'a>),
    TypedData(TypedFacts<'a>),
}

pub(in crate::policy) struct TransactionFacts<'a> {
    pub asked: &'a Filled,
    pub call: Call<'a>,
    /// Whether it is carried by another call, which has the same target, sender, value and fee.
    pub is_inner: bool,
    /// The contract of `[contracts]` that is called.
    pub contract: Option<&'a Contract>,
    /// What was decoded so far: a function's arguments are read once, however many rules look at them.
    decoded: RefCell<Vec<(Arc<Function>, Arguments)>>,
}

/// A function's arguments, or why the calldata is no call of it.
pub(in crate::policy) type Arguments = Rc<Result<Vec<DynSolValue>, CalldataError>>;

/// What the calldata is at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Call<'a> {
    Creation,
    Empty,
    /// One to three bytes.
    Short,
    Function(Selector, &'a [u8]),
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
}

/// Which address has which name.
#[derive(Debug, Default)]
pub(in crate::policy) struct Book {
    pub contracts: HashMap<(u64, Address), Arc<Contract>>,
    pub accounts: HashMap<Address, String>,
    /// The roles of clients that have one, by name.
    pub roles: HashMap<String, String>,
}

impl<'a> TransactionFacts<'a> {
    pub fn new(asked: &'a Filled, book: &'a Book) -> Self {
        let call = match (asked.to(), calldata::split_selector(asked.data())) {
            (None, _) => Call::Creation,
            (Some(_), Some((selector, arguments))) => Call::Function(selector, arguments),
            (Some(_), None) if asked.data().is_empty() => Call::Empty,
            (Some(_), None) => Call::Short,
        };
        let contract = asked.to().and_then(|to| book.contracts.get(&(asked.chain_id(), to)));
        let contract = contract.map(AsRef::as_ref);
        Self { asked, call, is_inner: false, contract, decoded: RefCell::default() }
    }

    /// A call that this one makes its target do on itself.
    pub fn inner<'b>(&'b self, calldata: &'b [u8]) -> TransactionFacts<'b> {
        let call = match calldata::split_selector(calldata) {
            Some((selector, arguments)) => Call::Function(selector, arguments),
            None => Call::Short,
        };
        let (asked, contract) = (self.asked, self.contract);
        TransactionFacts { asked, call, is_inner: true, contract, decoded: RefCell::default() }
    }

    /// The calldata as a call of `function`.
    pub fn arguments(&self, function: &Arc<Function>) -> Arguments {
        let mut decoded = self.decoded.borrow_mut();
        let known = decoded.iter().find(|(known, _)| Arc::ptr_eq(known, function) || known == function);
        if let Some((_, arguments)) = known {
            return Rc::clone(arguments);
        }
        let bytes = match self.call {
            Call::Function(_, bytes) => bytes,
            Call::Creation | Call::Empty | Call::Short => &[],
        };
        let arguments = Rc::new(calldata::decode(&function.types, bytes));
        decoded.push((Arc::clone(function), Rc::clone(&arguments)));
        arguments
    }

    /// Why the calldata cannot be judged: the contract's ABI does not know it, or reads it otherwise.
    pub fn undecodable(&self) -> Option<String> {
        let contract = self.contract?;
        let abi = contract.abi.as_ref()?;
        match self.call {
            Call::Creation | Call::Empty => None,
            Call::Short => Some("calldata of fewer than 4 bytes names no function".to_owned()),
            Call::Function(selector, _) => match abi.by_selector(selector) {
                None => {
                    Some(format!("the ABI of `{}` has no function with selector {selector}", contract.label))
                }
                Some(function) => match self.arguments(function).as_ref() {
                    Ok(_) => None,
                    Err(why) => {
                        Some(format!("the calldata is no exact encoding of {}: {why}", function.signature))
                    }
                },
            },
        }
    }

    fn describe(&self, facts: &Facts<'_>) -> String {
        let to = self.asked.to().map(|to| facts.name(self.asked.chain_id(), to)).unwrap_or_default();
        let value = match self.asked.value() {
            U256::ZERO => String::new(),
            value => format!(" with {}", show_wei(value)),
        };
        match self.call {
            Call::Creation => format!("create a contract{value}"),
            Call::Empty => format!("send {} to {to}", show_wei(self.asked.value())),
            Call::Short => format!("send malformed calldata to {to}{value}"),
            Call::Function(selector, _) => {
                let known = self.contract.and_then(|contract| contract.abi.as_ref()?.by_selector(selector));
                let name = known.map_or_else(|| selector.to_string(), |function| function.signature.clone());
                let inside = if self.is_inner { ", inside another call," } else { "" };
                format!("call {name} of {to}{inside}{value}")
            }
        }
    }
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

impl Facts<'_> {
    /// What is asked, as the end of "client X may not …".
    pub fn describe(&self) -> String {
        let account = self.book.account(self.account);
        match &self.subject {
            Subject::Transaction(transaction) => {
                format!("{} from {account}", transaction.describe(self))
            }
            Subject::Message(message) => {
                format!("sign this message of {} bytes with {account}", message.asked.bytes().len())
            }
            Subject::TypedData(typed) => format!("{} with {account}", typed.describe(self)),
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
}

impl Book {
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
