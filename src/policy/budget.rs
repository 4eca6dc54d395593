//! `[[budget]]`: how much may be spent in a rolling window. What a payload takes from each budget is worked out here,
//! from its facts alone; the ledger holds the sums.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};

use crate::policy::abi::Function;
use crate::policy::amount::{Unit, show_unit, show_wei};
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Call, Contract, Facts, Subject, TransactionFacts};
use crate::policy::scope::Reach;

/// What a payload takes from one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub limit: Arc<Limit>,
    /// Whose count it is: one text for each.
    pub scope: String,
    pub amount: U256,
}

/// How much a budget has, and of what.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    pub id: String,
    pub max: U256,
    pub window: Duration,
    /// Names what is counted, and how: while it stays the same, so do the sums, whatever `max` becomes.
    pub definition: B256,
    pub(in crate::policy) unit: Measure,
}

/// In what its amounts are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Measure {
    Wei,
    Token(Unit),
    Plain,
}

/// One `[[budget]]` as it is meant.
#[derive(Debug)]
pub(in crate::policy) struct Budget {
    pub limit: Arc<Limit>,
    pub sum: Sum,
    pub reach: Reach,
}

/// What is added up.
#[derive(Debug, PartialEq)]
pub(in crate::policy) enum Sum {
    /// Value, and the most that execution can cost.
    Ether,
    /// What moves this token, or lets another move it.
    Token {
        chain: u64,
        address: Address,
    },
    Count,
    Argument {
        function: Arc<Function>,
        at: usize,
    },
}

/// A call that moves a token, as a contract's `spends` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Spend {
    pub function: Arc<Function>,
    pub asset: Asset,
    /// The parameter that is the amount.
    pub amount: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Asset {
    /// The contract that is called.
    Own,
    Parameter(usize),
    Token(Address),
}

/// The functions of a token that move it, or let another move it, and the parameter that says how much. An approval is
/// an exposure: what it allows counts as spent.
const MOVES: &[(&str, usize)] = &[
    ("transfer(address,uint256)", 1),
    ("transferFrom(address,address,uint256)", 2),
    ("approve(address,uint256)", 1),
    ("increaseAllowance(address,uint256)", 1),
    ("increaseApproval(address,uint256)", 1),
    ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", 2),
    ("burn(uint256)", 0),
    ("withdraw(uint256)", 0),
];

/// The functions of a token that do neither.
const STILL: &[&str] =
    &["deposit()", "decreaseAllowance(address,uint256)", "decreaseApproval(address,uint256)"];

impl Limit {
    /// An amount as a person reads it.
    pub fn show(&self, amount: U256) -> String {
        match &self.unit {
            Measure::Wei => show_wei(amount),
            Measure::Token(unit) => show_unit(amount, unit),
            Measure::Plain => amount.to_string(),
        }
    }
}

impl Budget {
    /// What `facts` take from it; nothing where it is not about them. What cannot be told is refused.
    pub fn charge(&self, facts: &Facts<'_>, rule: &Arc<str>) -> Result<Option<Charge>, Denied> {
        if !self.reach.covers(facts) {
            return Ok(None);
        }
        let amount = match (&self.sum, &facts.subject) {
            (Sum::Count, _) => Ok(U256::ONE),
            (_, Subject::Message(_)) => return Ok(None),
            (sum, Subject::Transaction(transaction)) => sum.of(transaction),
        };
        let amount = amount.map_err(|why| self.unclear(facts, &why))?;
        if amount.is_zero() {
            return Ok(None);
        }
        let scope = self.reach.scope(facts, rule).to_string();
        Ok(Some(Charge { limit: Arc::clone(&self.limit), scope, amount }))
    }

    fn unclear(&self, facts: &Facts<'_>, why: &str) -> Denied {
        let sentence = format!(
            "client `{}` may not {}: what it takes from budget `{}` cannot be told: {why}",
            facts.client,
            facts.describe(),
            self.limit.id
        );
        Denied::new(DenialCause::Undecodable, sentence).by(&self.limit.id, None)
    }
}

impl Sum {
    fn of(&self, transaction: &TransactionFacts<'_>) -> Result<U256, String> {
        match self {
            Self::Count => Ok(U256::ONE),
            Self::Ether => {
                Ok(transaction.asked.value().saturating_add(transaction.asked.max_execution_fee()))
            }
            Self::Token { chain, address } if transaction.asked.chain_id() == *chain => {
                moved(transaction, *address)
            }
            Self::Token { .. } => Ok(U256::ZERO),
            // `match` names the function, so whatever else is called is not covered.
            Self::Argument { function, at } => number(transaction, function, *at),
        }
    }
}

/// How much of `token` a transaction moves, or lets others move.
fn moved(transaction: &TransactionFacts<'_>, token: Address) -> Result<U256, String> {
    let Call::Function(selector, _) = transaction.call else { return Ok(U256::ZERO) };
    let Some(contract) = transaction.contract else { return Ok(U256::ZERO) };
    let declared = contract.spends.iter().filter(|spend| spend.function.selector == selector);
    let mut sum = U256::ZERO;
    let mut is_declared = false;
    for spend in declared {
        is_declared = true;
        if spend.asset.is(token, contract, transaction, &spend.function)? {
            sum = sum.saturating_add(number(transaction, &spend.function, spend.amount)?);
        }
    }
    if is_declared || contract.address != token {
        return Ok(sum);
    }
    let function = contract.abi.as_ref().and_then(|abi| abi.by_selector(selector));
    let Some(function) = function else {
        return Err(format!("selector {selector} is not in the ABI of `{}`", contract.label));
    };
    match MOVES.iter().find(|(signature, _)| *signature == function.signature) {
        Some((_, amount)) => number(transaction, function, *amount),
        None if STILL.contains(&function.signature.as_str()) => Ok(U256::ZERO),
        None => Err(format!("declare what {} moves in `spends` of `{}`", function.signature, contract.label)),
    }
}

impl Asset {
    fn is(
        self,
        token: Address,
        contract: &Contract,
        transaction: &TransactionFacts<'_>,
        function: &Arc<Function>,
    ) -> Result<bool, String> {
        match self {
            Self::Own => Ok(contract.address == token),
            Self::Token(address) => Ok(address == token),
            Self::Parameter(at) => match transaction.arguments(function).as_ref() {
                Ok(values) => Ok(values.get(at).and_then(|value| value.as_address()) == Some(token)),
                Err(why) => Err(why.to_string()),
            },
        }
    }
}

fn number(transaction: &TransactionFacts<'_>, function: &Arc<Function>, at: usize) -> Result<U256, String> {
    match transaction.arguments(function).as_ref() {
        Ok(values) => match values.get(at).and_then(|value| value.as_uint()) {
            Some((number, _)) => Ok(number),
            None => Err(format!("`{}` of {} is no amount", function.label(at), function.signature)),
        },
        Err(why) => Err(why.to_string()),
    }
}
