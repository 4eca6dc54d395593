//! A call as rules look at it: the transaction itself, or one that it carries, with its own sender, target and value.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, Bytes, Selector, U256};

use crate::policy::abi::Function;
use crate::policy::amount::show_wei;
use crate::policy::facts::{Book, Contract, Facts};
use crate::transaction::calldata::{self, CalldataError};
use crate::transaction::{Authorizations, Blobs, Filled};

pub(in crate::policy) struct TransactionFacts<'a> {
    /// The transaction that is signed, whose fees, gas and nonce hold for all that it carries. `None` where it is typed
    /// data that carries the call: whoever hands that in pays for it.
    pub asked: Option<&'a Filled>,
    pub chain: u64,
    /// Whether it came signed.
    pub presigned: bool,
    /// How it comes about.
    pub made: Made,
    /// Who makes the call: the account, or the contract that carries it.
    pub sender: Address,
    /// `None` creates a contract.
    pub to: Option<Address>,
    /// In wei; what its code sees.
    pub value: U256,
    pub call: Call,
    /// The contract of `[contracts]` that is called.
    pub contract: Option<&'a Contract>,
    data: Bytes,
    /// What was decoded so far: a function's arguments are read once, however many rules look at them.
    decoded: RefCell<Vec<(Arc<Function>, Arguments)>>,
}

/// How a call comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Made {
    /// It is the transaction that is signed.
    Signed,
    /// The target of the call that carries it makes it on itself, with the same sender and value.
    OnItself,
    /// The same, of a command of a Universal Router.
    AsCommand,
    /// The target of the call that carries it makes it.
    Sent,
    /// The same, by delegatecall: the code of `to` runs as the sender.
    Delegated,
}

/// A call inside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Inner {
    pub made: Made,
    /// Of those that are made on the carrier itself, nothing but the data counts.
    pub to: Address,
    pub value: U256,
    pub data: Bytes,
}

/// A function's arguments, or why the calldata is no call of it.
pub(in crate::policy) type Arguments = Rc<Result<Vec<DynSolValue>, CalldataError>>;

/// What the calldata is at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Call {
    Creation,
    Empty,
    /// One to three bytes.
    Short,
    Function(Selector),
}

impl Call {
    fn of(data: &[u8]) -> Self {
        match calldata::split_selector(data) {
            Some((selector, _)) => Self::Function(selector),
            None if data.is_empty() => Self::Empty,
            None => Self::Short,
        }
    }
}

impl<'a> TransactionFacts<'a> {
    pub fn new(asked: &'a Filled, book: &'a Book) -> Self {
        Self {
            asked: Some(asked),
            chain: asked.chain_id(),
            presigned: false,
            made: Made::Signed,
            sender: asked.from(),
            to: asked.to(),
            value: asked.value(),
            call: asked.to().map_or(Call::Creation, |_| Call::of(asked.data())),
            contract: asked.to().and_then(|to| book.contract(asked.chain_id(), to)),
            data: asked.data().clone(),
            decoded: RefCell::default(),
        }
    }

    /// One that came signed.
    pub fn came_signed(self) -> Self {
        Self { presigned: true, ..self }
    }

    /// A call that a contract makes once somebody hands in the typed data that carries it.
    pub fn handed_in((chain, sender): (u64, Address), inner: Inner, book: &'a Book) -> Self {
        let Inner { made, to, value, data } = inner;
        Self {
            asked: None,
            chain,
            presigned: false,
            made,
            sender,
            to: Some(to),
            value: if made == Made::Sent { value } else { U256::ZERO },
            call: Call::of(&data),
            contract: book.contract(chain, to),
            data,
            decoded: RefCell::default(),
        }
    }

    /// A call that this one carries.
    pub fn carrying(&self, inner: Inner, book: &'a Book) -> Self {
        let Inner { made, to, value, data } = inner;
        let on_itself = matches!(made, Made::OnItself | Made::AsCommand);
        let (sender, to, contract) = if on_itself {
            (self.sender, self.to, self.contract)
        } else {
            (self.acts_as(), Some(to), book.contract(self.chain, to))
        };
        Self {
            asked: self.asked,
            chain: self.chain,
            presigned: self.presigned,
            made,
            sender,
            to,
            value: if made == Made::Sent { value } else { self.value },
            // A fallback that runs for want of a selector is no call that anyone could name.
            call: if on_itself && data.is_empty() { Call::Short } else { Call::of(&data) },
            contract,
            data,
            decoded: RefCell::default(),
        }
    }

    /// From whom the calls are that it carries.
    fn acts_as(&self) -> Address {
        match (self.made, self.to) {
            (Made::Delegated, _) | (_, None) => self.sender,
            (_, Some(to)) => to,
        }
    }

    /// The most that its execution can cost the account, in wei.
    pub fn max_execution_fee(&self) -> U256 {
        self.asked.map(Filled::max_execution_fee).unwrap_or_default()
    }

    /// What the transaction says of its blobs.
    pub fn blobs(&self) -> Option<&'a Blobs> {
        self.asked?.blobs()
    }

    /// Whose code the transaction sets, and to what.
    pub fn authorizations(&self) -> Option<&'a Authorizations> {
        self.asked?.authorizations()
    }

    pub const fn is_inner(&self) -> bool {
        !matches!(self.made, Made::Signed)
    }

    /// The function of the contract's ABI that is called.
    pub fn function(&self) -> Option<&'a Arc<Function>> {
        let Call::Function(selector) = self.call else { return None };
        self.contract?.abi.as_ref()?.by_selector(selector)
    }

    /// The calldata as a call of `function`.
    pub fn arguments(&self, function: &Arc<Function>) -> Arguments {
        let mut decoded = self.decoded.borrow_mut();
        let known = decoded.iter().find(|(known, _)| Arc::ptr_eq(known, function) || known == function);
        if let Some((_, arguments)) = known {
            return Rc::clone(arguments);
        }
        let bytes = calldata::split_selector(&self.data).map_or(&[][..], |(_, arguments)| arguments);
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
            Call::Function(selector) => match abi.by_selector(selector) {
                None => {
                    Some(format!("the ABI of `{}` has no function with selector {selector}", contract.label))
                }
                Some(function) if abi.is_command(selector) != (self.made == Made::AsCommand) => {
                    Some(format!("{} is a command inside `execute`, and nothing else", function.name))
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

    /// Why `call = "any"` is not enough for it: nobody knows what it does, or what it carries.
    pub fn must_be_named(&self) -> Option<&'static str> {
        let is_read = self.contract.is_some_and(|contract| contract.abi.is_some());
        match self.call {
            Call::Short | Call::Function(_) if self.is_inner() && !is_read => {
                Some("a call inside another must be one that a rule names, or its contract needs an `abi`")
            }
            Call::Function(_) if self.function().is_some_and(|function| function.may_carry) => {
                Some("its arguments may carry other calls, so a rule has to name it")
            }
            _ => None,
        }
    }

    pub fn describe(&self, facts: &Facts<'_>) -> String {
        let what = self.describe_call(facts);
        if self.is_inner() {
            return what;
        }
        let blobs = match self.blobs().map_or(0, Blobs::count) {
            0 => String::new(),
            count => format!(" with {count} blobs"),
        };
        let codes = match self.authorizations().map_or(0, |all| all.each().count()) {
            0 => String::new(),
            count => format!(" and set the code of {count} accounts"),
        };
        format!("{what}{blobs}{codes}")
    }

    fn describe_call(&self, facts: &Facts<'_>) -> String {
        let chain = self.chain;
        let to = self.to.map(|to| facts.name(chain, to)).unwrap_or_default();
        let value = match self.value {
            U256::ZERO => String::new(),
            value => format!(" with {}", show_wei(value)),
        };
        let inside = match self.made {
            Made::Signed => String::new(),
            Made::OnItself | Made::AsCommand => ", inside another call,".to_owned(),
            Made::Sent => format!(", through {},", facts.name(chain, self.sender)),
            Made::Delegated => format!(", by delegatecall of {},", facts.name(chain, self.sender)),
        };
        match self.call {
            Call::Creation => format!("create a contract{value}"),
            Call::Empty => format!("send {} to {to}{inside}", show_wei(self.value)),
            Call::Short => format!("send malformed calldata to {to}{inside}{value}"),
            Call::Function(selector) => {
                let known = self.function();
                let name = known.map_or_else(|| selector.to_string(), |function| function.signature.clone());
                format!("call {name} of {to}{inside}{value}")
            }
        }
    }
}
