//! The functions that carry other calls, by signature, since that is what anyone can check; and where the calls stand.

use std::collections::HashMap;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, Bytes, Selector, U256, keccak256};

use crate::policy::abi::Abi;
use crate::policy::call::{Inner, Made, TransactionFacts};
use crate::policy::wrapper::commands;

/// Where the calls stand in the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Form {
    /// In a list of `bytes`; the contract runs them on itself.
    OnItself { at: usize },
    /// In a list of tuples whose first part is the target.
    Tuples { at: usize, value: Option<usize>, data: usize },
    /// In lists side by side. That of values may be empty.
    Columns { to: usize, value: Option<usize>, data: usize },
    /// One call. `operation` is 0 for a call, 1 for a delegatecall. `free` must be 0: else whoever sends this is
    /// refunded from the account that makes the call.
    One { to: usize, value: usize, data: usize, operation: Option<usize>, free: Option<usize> },
    /// In one after the other, as Safe's `multiSend` has them.
    Packed,
    /// Commands of a Universal Router, and their inputs.
    Commands,
    /// Nobody looked at what it does.
    Closed,
}

use Form::{Closed, Columns, Commands, OnItself, One, Packed, Tuples};

const PAIRS: Form = Tuples { at: 0, value: None, data: 1 };
const PAIRS_BEHIND: Form = Tuples { at: 1, value: None, data: 1 };
const MODULE: Form = One { to: 0, value: 1, data: 2, operation: Some(3), free: None };

const WRAPPERS: &[(&str, Form)] = &[
    // multicall of routers, vaults and name services, with their deadlines and block hashes
    ("multicall(bytes[])", OnItself { at: 0 }),
    ("multicall(uint256,bytes[])", OnItself { at: 1 }),
    ("multicall(bytes32,bytes[])", OnItself { at: 1 }),
    ("batch(bytes[])", Closed),
    ("batch(bytes[],bool)", Closed),
    // Multicall, Multicall2, Multicall3
    ("aggregate((address,bytes)[])", PAIRS),
    ("tryAggregate(bool,(address,bytes)[])", PAIRS_BEHIND),
    ("blockAndAggregate((address,bytes)[])", PAIRS),
    ("tryBlockAndAggregate(bool,(address,bytes)[])", PAIRS_BEHIND),
    ("aggregate3((address,bool,bytes)[])", Tuples { at: 0, value: None, data: 2 }),
    ("aggregate3Value((address,bool,uint256,bytes)[])", Tuples { at: 0, value: Some(2), data: 3 }),
    // Safe and its modules
    (
        "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
        One { to: 0, value: 1, data: 2, operation: Some(3), free: Some(6) },
    ),
    ("execTransactionFromModule(address,uint256,bytes,uint8)", MODULE),
    ("execTransactionFromModuleReturnData(address,uint256,bytes,uint8)", MODULE),
    ("multiSend(bytes)", Packed),
    // Universal Router
    ("execute(bytes,bytes[])", Commands),
    ("execute(bytes,bytes[],uint256)", Commands),
    ("EXECUTE_SUB_PLAN(bytes,bytes[])", Commands),
    // ERC-4337 and ERC-7579 accounts, and the entry point (0.6, 0.7 and later)
    ("execute(address,uint256,bytes)", One { to: 0, value: 1, data: 2, operation: None, free: None }),
    ("execute(bytes32,bytes)", Closed),
    ("executeBatch(address[],bytes[])", Columns { to: 0, value: None, data: 1 }),
    ("executeBatch(address[],uint256[],bytes[])", Columns { to: 0, value: Some(1), data: 2 }),
    ("executeBatch((address,uint256,bytes)[])", Tuples { at: 0, value: Some(1), data: 2 }),
    ("executeUserOp((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes),bytes32)", Closed),
    (
        "handleOps((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address)",
        Closed,
    ),
    ("handleOps((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address)", Closed),
    (
        "handleAggregatedOps(((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address,bytes)[],address)",
        Closed,
    ),
    (
        "handleAggregatedOps(((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address,bytes)[],address)",
        Closed,
    ),
    // DSProxy, access managers, and accounts of other making
    ("execute(address,bytes)", Closed),
    ("execute(address,uint256,bytes,uint8)", Closed),
    ("execute((address,uint256,bytes)[])", Closed),
];

/// The known wrappers by selector.
#[derive(Debug)]
pub(in crate::policy) struct Wrappers(HashMap<Selector, (&'static str, Form)>);

impl Wrappers {
    pub fn known() -> Self {
        let selector = |(signature, form): &(&'static str, Form)| {
            let hash = keccak256(signature.as_bytes());
            let selector = hash.first_chunk::<4>().copied().unwrap_or_default();
            (Selector::from(selector), (*signature, *form))
        };
        Self(WRAPPERS.iter().map(selector).collect())
    }

    /// The wrapper's signature, and how it is opened.
    pub fn find(&self, selector: Selector) -> Option<(&'static str, Form)> {
        self.0.get(&selector).copied()
    }
}

impl Wrappers {
    /// Whether the ABI has a function that is opened.
    pub fn any_opened(&self, abi: &Abi) -> bool {
        self.0.iter().any(|(selector, (_, form))| *form != Closed && abi.by_selector(*selector).is_some())
    }
}

impl Form {
    /// Whether it is opened at this call. The ABI must say that the contract has such a function: of an unknown contract
    /// nobody knows what it does with what it gets.
    pub fn opens(self, transaction: &TransactionFacts<'_>) -> bool {
        let abi = transaction.contract.and_then(|contract| contract.abi.as_ref());
        let (Some(abi), Some(_)) = (abi, transaction.function()) else { return false };
        let is_delegated = transaction.made == Made::Delegated;
        match self {
            Closed => false,
            // What is delegated to has no self of its own: it would run the code of another contract.
            OnItself { .. } => !is_delegated,
            Commands => !is_delegated && abi.has_commands(),
            Tuples { .. } | Columns { .. } | One { .. } | Packed => true,
        }
    }

    /// The calls that are carried, or why they cannot be told.
    pub fn calls(
        self,
        transaction: &TransactionFacts<'_>,
        arguments: &[DynSolValue],
    ) -> Result<Vec<Inner>, String> {
        match self {
            OnItself { at } => {
                let calls = list(arguments, at)?;
                let inner = |call| {
                    Ok(Inner { made: Made::OnItself, ..sent(Address::ZERO, U256::ZERO, bytes(call)?) })
                };
                calls.iter().map(inner).collect()
            }
            Tuples { at, value, data } => {
                let inner = |call: &DynSolValue| {
                    let parts = call.as_tuple().unwrap_or_default();
                    Ok(sent(target(parts, 0)?, amount(parts, value)?, bytes(part(parts, data)?)?))
                };
                list(arguments, at)?.iter().map(inner).collect()
            }
            Columns { to, value, data } => {
                let (to, data) = (list(arguments, to)?, list(arguments, data)?);
                let values = value.map_or(Ok(&[][..]), |value| list(arguments, value))?;
                if to.len() != data.len() || !(values.is_empty() || values.len() == to.len()) {
                    return Err("its lists are not of one length".to_owned());
                }
                let inner = |at: usize| {
                    let value = if values.is_empty() { None } else { Some(at) };
                    Ok(sent(target(to, at)?, amount(values, value)?, bytes(part(data, at)?)?))
                };
                (0..to.len()).map(inner).collect()
            }
            One { to, value, data, operation, free } => {
                one(arguments, (to, value, data), operation, free).map(|call| vec![call])
            }
            Packed => packed(&bytes(part(arguments, 0)?)?),
            Commands => commands::open(transaction, arguments),
            Closed => Err("it is not opened".to_owned()),
        }
    }
}

/// The call of [`Form::One`].
pub(super) fn one(
    values: &[DynSolValue],
    (to, value, data): (usize, usize, usize),
    operation: Option<usize>,
    free: Option<usize>,
) -> Result<Inner, String> {
    if !amount(values, free)?.is_zero() {
        return Err("it has the gas refunded from the account that makes the call: its `gasPrice` must be 0"
            .to_owned());
    }
    let call = sent(target(values, to)?, amount(values, Some(value))?, bytes(part(values, data)?)?);
    made_by(amount(values, operation)?, call)
}

const fn sent(to: Address, value: U256, data: Bytes) -> Inner {
    Inner { made: Made::Sent, to, value, data }
}

fn made_by(operation: U256, call: Inner) -> Result<Inner, String> {
    match (u8::try_from(operation), call.value) {
        (Ok(0), _) => Ok(call),
        (Ok(1), U256::ZERO) => Ok(Inner { made: Made::Delegated, ..call }),
        (Ok(1), _) => Err("a delegatecall sends no ether, and a value is given".to_owned()),
        _ => Err(format!("its operation is {operation}, and must be 0 (call) or 1 (delegatecall)")),
    }
}

/// An operation of one byte, a target of 20, a value and a length of 32, and the calldata; and so on.
fn packed(bytes: &Bytes) -> Result<Vec<Inner>, String> {
    let short = || "its transactions end in the middle of one".to_owned();
    let mut rest: &[u8] = bytes;
    let mut calls = Vec::new();
    while let Some((operation, after)) = rest.split_first() {
        let (to, after) = after.split_first_chunk::<20>().ok_or_else(short)?;
        let (value, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let (length, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let length = usize::try_from(U256::from_be_bytes(*length)).map_err(|_| short())?;
        let (data, after) = after.split_at_checked(length).ok_or_else(short)?;
        let to = Address::from(*to);
        if to.is_zero() {
            return Err(
                "a target is the zero address, which some versions take for the account itself".to_owned()
            );
        }
        let call = sent(to, U256::from_be_bytes(*value), Bytes::copy_from_slice(data));
        calls.push(made_by(U256::from(*operation), call)?);
        rest = after;
    }
    Ok(calls)
}

fn part(values: &[DynSolValue], at: usize) -> Result<&DynSolValue, String> {
    values.get(at).ok_or_else(|| "it carries no such call".to_owned())
}

pub(super) fn list(values: &[DynSolValue], at: usize) -> Result<&[DynSolValue], String> {
    part(values, at)?.as_array().ok_or_else(|| "what it carries is no list".to_owned())
}

fn target(values: &[DynSolValue], at: usize) -> Result<Address, String> {
    part(values, at)?.as_address().ok_or_else(|| "what it carries has no target".to_owned())
}

/// The number there; 0 where there is no place for one.
fn amount(values: &[DynSolValue], at: Option<usize>) -> Result<U256, String> {
    let Some(at) = at else { return Ok(U256::ZERO) };
    let number = part(values, at)?.as_uint().map(|(number, _)| number);
    number.ok_or_else(|| "what it carries has no value".to_owned())
}

pub(super) fn bytes(value: &DynSolValue) -> Result<Bytes, String> {
    let bytes = value.as_bytes().map(Bytes::copy_from_slice);
    bytes.ok_or_else(|| "what it carries is no call".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::abi::Function;

    #[test]
    fn the_selectors_are_those_that_are_on_chain() {
        let wrappers = Wrappers::known();
        for (selector, signature) in [
            ("ac9650d8", "multicall(bytes[])"),
            ("5ae401dc", "multicall(uint256,bytes[])"),
            ("1f0464d1", "multicall(bytes32,bytes[])"),
            ("252dba42", "aggregate((address,bytes)[])"),
            ("82ad56cb", "aggregate3((address,bool,bytes)[])"),
            ("174dea71", "aggregate3Value((address,bool,uint256,bytes)[])"),
            ("bce38bd7", "tryAggregate(bool,(address,bytes)[])"),
            ("8d80ff0a", "multiSend(bytes)"),
            ("468721a7", "execTransactionFromModule(address,uint256,bytes,uint8)"),
            ("24856bc3", "execute(bytes,bytes[])"),
            ("3593564c", "execute(bytes,bytes[],uint256)"),
            ("b61d27f6", "execute(address,uint256,bytes)"),
            ("47e1da2a", "executeBatch(address[],uint256[],bytes[])"),
            ("34fcd5be", "executeBatch((address,uint256,bytes)[])"),
            ("18dfb3c7", "executeBatch(address[],bytes[])"),
            ("e9ae5c53", "execute(bytes32,bytes)"),
            ("1cff79cd", "execute(address,bytes)"),
        ] {
            let selector: Selector = selector.parse().unwrap();
            assert_eq!(wrappers.find(selector).map(|(known, _)| known), Some(signature));
        }
        for (selector, name) in
            [("6a761202", "execTransaction("), ("1fad948c", "handleOps("), ("765e827f", "handleOps(")]
        {
            assert!(
                wrappers.find(selector.parse().unwrap()).is_some_and(|(known, _)| known.starts_with(name))
            );
        }
        assert_eq!(wrappers.find("a9059cbb".parse().unwrap()), None);
    }

    #[test]
    fn every_signature_is_one_and_they_differ() {
        for (signature, _) in WRAPPERS {
            assert_eq!(Function::parse(signature).unwrap().signature, *signature);
        }
        assert_eq!(Wrappers::known().0.len(), WRAPPERS.len());
    }
}
