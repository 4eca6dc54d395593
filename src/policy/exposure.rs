//! For `policy check`: allow rules that let others take without a limit, and addresses that look like others.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, U256};

use crate::policy::abi::{Function, holds_address};
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::condition::{Called, Condition};
use crate::policy::decide::Policy;
use crate::policy::facts::Contract;
use crate::policy::path::{Over, Path};
use crate::policy::rule::{Place, Rule};
use crate::policy::spend::Amount;
use crate::policy::typed::{Moves, Template};

/// The functions that let somebody take an amount later, and the parameter that says how much.
const APPROVALS: &[(&str, usize)] = &[
    ("approve(address,uint256)", 1),
    ("increaseAllowance(address,uint256)", 1),
    ("increaseApproval(address,uint256)", 1),
    ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", 2),
    ("approve(address,address,uint160,uint48)", 2),
];

/// Those that let somebody take everything, and the parameter that switches it on.
const SWITCHES: &[(&str, usize)] = &[
    ("setApprovalForAll(address,bool)", 1),
    ("allow(address,bool)", 1),
    ("allowBySig(address,address,bool,uint256,uint256,uint8,bytes32,bytes32)", 2),
    ("permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)", 4),
];

/// The functions whose amounts are warned of here, and not as any token's amount.
pub(in crate::policy) fn is_approval(signature: &str) -> bool {
    APPROVALS.iter().any(|(known, _)| *known == signature)
}

impl Policy {
    /// The contracts that a rule names in `to`.
    pub(in crate::policy) fn targets<'p>(
        &'p self,
        rule: &'p Rule,
    ) -> impl Iterator<Item = &'p Arc<Contract>> {
        let addresses = rule.to().map_or(&[][..], |to| &to.addresses);
        addresses.iter().flat_map(|at| self.book.at(rule.chain(), *at))
    }

    /// What a rule lets others take, or lets move, without a limit.
    pub(in crate::policy) fn exposures(&self, rule: &Rule) -> Vec<String> {
        let function = rule.conditions.iter().find_map(|condition| match condition {
            Condition::Call(Called::Function(function)) => Some(function),
            _ => None,
        });
        let Some(function) = function else { return Vec::new() };
        let find = |list: &[(&str, usize)]| {
            list.iter().find(|(known, _)| *known == function.signature).map(|(_, at)| *at)
        };
        let mut found = Vec::new();
        if let Some(at) = find(APPROVALS)
            && !is_bounded(rule, function, &Path::argument(function, at))
        {
            found.push(format!(
                "an approval without a limit: whoever gets it may take all there will ever be; give `args.{}` a max",
                function.label(at)
            ));
        }
        if let Some(at) = find(SWITCHES)
            && !tests(rule, function, &Path::argument(function, at)).any(is_off)
        {
            found.push(format!(
                "{} lets another take everything; write args = {{ {} = false }} if it is to be switched off only",
                function.signature,
                function.label(at)
            ));
        }
        found.extend(self.unbounded(rule, function));
        found
    }

    /// The amounts that its contracts declare as moved, and that it does not bound.
    fn unbounded(&self, rule: &Rule, function: &Function) -> Vec<String> {
        let spends = self.targets(rule).flat_map(|contract| &contract.spends);
        let spends = spends.filter(|spend| spend.function.selector == function.selector);
        let mut open = Vec::new();
        let amounts = spends.filter_map(|spend| match &spend.amount {
            Amount::At(amount) if !spend.to.as_ref().is_some_and(|to| comes_back(rule, function, to)) => {
                Some(amount)
            }
            _ => None,
        });
        for amount in amounts {
            let what = format!("`args.{amount}` has no max, and that much is moved");
            if !is_approval(&function.signature)
                && !is_bounded(rule, function, amount)
                && !open.contains(&what)
            {
                open.push(what);
            }
        }
        open
    }

    /// Addresses that a person would take for each other: alike at both ends. Where the last of them is written, if it is written
    /// here.
    pub(in crate::policy) fn lookalikes(&self) -> Vec<(Option<&Place>, String)> {
        let contracts = self.book.contracts.values();
        let contracts =
            contracts.map(|contract| (contract.address, (contract.label.as_str(), Some(&contract.place))));
        let accounts = self.book.accounts.iter().map(|(at, name)| (*at, (name.as_str(), None)));
        let known: BTreeMap<Address, _> = contracts.chain(accounts).collect();
        let mut ends = BTreeMap::<_, Vec<_>>::new();
        for (at, (name, place)) in &known {
            let (first, last) = (at.0.first_chunk::<2>(), at.0.last_chunk::<2>());
            ends.entry((first, last)).or_default().push((format!("`{name}` ({at})"), *place));
        }
        let alike = ends.into_values().filter(|alike| alike.len() > 1);
        let mut said = Vec::new();
        for alike in alike {
            let (names, places): (Vec<_>, Vec<_>) = alike.into_iter().unzip();
            let what = format!("{} look alike: compare each with its source", names.join(" and "));
            said.push((places.into_iter().flatten().max(), what));
        }
        said
    }
}

/// What a rule for typed data leaves open.
pub(in crate::policy) fn open_members(rule: &Rule) -> Vec<String> {
    let ty = rule.conditions.iter().find_map(|condition| match condition {
        Condition::PrimaryType(ty) => Some(ty),
        _ => None,
    });
    let Some(ty) = ty else { return Vec::new() };
    let mut open = Vec::new();
    for (at, holds) in ty.types.iter().map(holds_address).enumerate() {
        let is_said =
            rule.conditions.iter().any(|c| matches!(c, Condition::Field { path, .. } if path.at == at));
        if holds && !is_said {
            open.push(format!("`fields.{}` is \"any\" address", ty.label(at)));
        }
    }
    let Some(template) = Template::of(&ty.signature) else { return open };
    let bounded = |test: &&ArgumentTest| matches!(test, ArgumentTest::OneOf(..) | ArgumentTest::Max(..));
    if let Some(amount) = template.amount
        && !tests_of(rule, amount).iter().any(bounded)
    {
        open.push(format!("`fields.{amount}` has no max: an unlimited permit is signed"));
    }
    if matches!(template.moves, Moves::AllIf(_)) {
        open.push("a DaiPermit lets its spender move all there is".to_owned());
    }
    open
}

fn tests_of<'r>(rule: &'r Rule, field: &str) -> Vec<&'r ArgumentTest> {
    let mut found = Vec::new();
    for condition in &rule.conditions {
        if let Condition::Field { path, test, .. } = condition
            && path.text == field
        {
            found.push(test);
        }
    }
    found
}

/// What a rule demands of a place in the arguments.
fn tests<'r>(rule: &'r Rule, function: &Function, place: &Path) -> impl Iterator<Item = &'r ArgumentTest> {
    let selector = function.selector;
    let place = place.clone();
    rule.conditions.iter().filter_map(move |condition| match condition {
        Condition::Argument { function, path, test }
            if function.selector == selector && is_said_by(path, &place) =>
        {
            Some(test)
        }
        _ => None,
    })
}

/// Whether what is said of one place holds for the other.
fn is_said_by(said: &Path, place: &Path) -> bool {
    let one = |over: Over| if over == Over::All { Over::One } else { over };
    said.at == place.at && said.steps == place.steps && one(said.over) == one(place.over)
}

fn is_bounded(rule: &Rule, function: &Function, place: &Path) -> bool {
    // Nobody has half of all numbers of a token.
    let much = U256::ONE.checked_shl(159).unwrap_or(U256::MAX);
    let little = |operand: &Operand| match operand {
        Operand::Value(value) => value.as_uint().is_some_and(|(number, _)| number < much),
        _ => false,
    };
    tests(rule, function, place).any(|test| match test {
        ArgumentTest::OneOf(operands, _) => operands.iter().all(little),
        ArgumentTest::Max(most, _) => little(most),
        _ => false,
    })
}

/// Whether the rule lets it go to nobody but the account, or who makes the call.
fn comes_back(rule: &Rule, function: &Function, to: &Path) -> bool {
    let accounts = rule.conditions.iter().find_map(|condition| match condition {
        Condition::From(accounts) => Some(accounts.as_slice()),
        _ => None,
    });
    let is_own = |operand: &Operand| match operand {
        Operand::From | Operand::Sender => true,
        Operand::Value(value) => value.as_address().is_some_and(|to| accounts == Some(&[to])),
        Operand::Client | Operand::Created | Operand::Now(_) => false,
    };
    tests(rule, function, to)
        .any(|test| matches!(test, ArgumentTest::OneOf(operands, _) if operands.iter().all(is_own)))
}

fn is_off(test: &ArgumentTest) -> bool {
    let off = |operand: &Operand| matches!(operand, Operand::Value(value) if value.as_bool() == Some(false));
    matches!(test, ArgumentTest::OneOf(operands, _) if operands.iter().all(off))
}
