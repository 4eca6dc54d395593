//! For `policy check`: rules that others make superfluous, and rules that nothing can reach.

use std::collections::HashMap;

use alloy_primitives::Address;

use crate::policy::amount::Range;
use crate::policy::argument::{ArgumentTest, Operand, order};
use crate::policy::condition::{Called, Condition};
use crate::policy::decide::Policy;
use crate::policy::rule::{Effect, Rule};

/// The rules of one effect by a target, so that few are compared with each other.
pub(in crate::policy) struct ByTarget<'a> {
    any: Vec<&'a Rule>,
    at: HashMap<Address, Vec<&'a Rule>>,
}

impl<'a> ByTarget<'a> {
    pub fn new(rules: &'a [Rule], effect: Effect) -> Self {
        let mut found = Self { any: Vec::new(), at: HashMap::new() };
        for rule in rules.iter().filter(|rule| rule.effect == effect) {
            match targets(rule) {
                Some(addresses) => {
                    for at in addresses {
                        found.at.entry(*at).or_default().push(rule);
                    }
                }
                None => found.any.push(rule),
            }
        }
        found
    }

    /// A rule that holds whenever `rule` does.
    pub fn covering(&self, rule: &Rule) -> Option<&'a Rule> {
        let first = targets(rule).and_then(|addresses| addresses.first());
        let at = first.and_then(|at| self.at.get(at)).map(Vec::as_slice).unwrap_or_default();
        let mut others = self.any.iter().chain(at).filter(|other| other.id != rule.id);
        others.find(|other| covers_all(other, rule)).copied()
    }
}

impl Policy {
    /// Why a rule about calls inside others never matches.
    pub(in crate::policy) fn never_inside(&self, rule: &Rule) -> Vec<String> {
        let mut found = Vec::new();
        let via = rule.conditions.iter().find_map(|condition| match condition {
            Condition::Via(carriers) => Some(carriers),
            _ => None,
        });
        if rule.conditions.contains(&Condition::Delegatecall(true)) && via.is_some_and(Vec::is_empty) {
            found.push(
                "it is for delegatecalls and has no `via`: an account makes none itself, so it never matches"
                    .to_owned(),
            );
        }
        let idle: Vec<_> = via.into_iter().flatten().filter(|at| !self.carries(rule, **at)).collect();
        if let Some(at) = idle.first() {
            let every =
                if via.is_some_and(|all| all.len() == idle.len()) { ", so it never matches" } else { "" };
            found.push(format!(
                "`via`: nothing is opened of {}{every}; give it the `abi` of what it is",
                self.book.account(**at)
            ));
        }
        found
    }

    /// Whether some function of the contract is opened, where the rule is for.
    fn carries(&self, rule: &Rule, at: Address) -> bool {
        self.book
            .at(rule.chain(), at)
            .filter_map(|contract| contract.abi.as_ref())
            .any(|abi| self.wrappers.any_opened(abi))
    }
}

/// The addresses that it is for; `None` for any, and for creations.
fn targets(rule: &Rule) -> Option<&[Address]> {
    rule.conditions.iter().find_map(|condition| match condition {
        Condition::To(to) if !to.any && !to.nobody && !to.created => Some(to.addresses.as_slice()),
        _ => None,
    })
}

/// Whether the one rule holds whenever the other does.
fn covers_all(wide: &Rule, narrow: &Rule) -> bool {
    wide.kind.is_none_or(|kind| Some(kind) == narrow.kind)
        && wide.conditions.iter().all(|one| narrow.conditions.iter().any(|other| covers(one, other)))
}

/// Whether whatever the one condition lets through, the other does too.
fn covers(wide: &Condition, narrow: &Condition) -> bool {
    match (wide, narrow) {
        (Condition::Clients(wide), Condition::Clients(narrow)) => {
            narrow.iter().all(|name| wide.contains(name))
        }
        (Condition::From(wide), Condition::From(narrow)) => {
            narrow.iter().all(|account| wide.contains(account))
        }
        (Condition::To(wide), Condition::To(narrow)) => {
            (wide.any || !narrow.any)
                && (wide.nobody || !narrow.nobody)
                && (wide.any || wide.created || !narrow.created)
                && (wide.any || narrow.addresses.iter().all(|address| wide.addresses.contains(address)))
        }
        (Condition::Via(wide), Condition::Via(narrow)) => {
            wide.is_empty() == narrow.is_empty() && narrow.iter().all(|carrier| wide.contains(carrier))
        }
        (Condition::Call(Called::Function(wide)), Condition::Call(Called::Function(narrow))) => {
            wide.selector == narrow.selector
        }
        (Condition::Value(wide), Condition::Value(narrow))
        | (Condition::Blobs(wide), Condition::Blobs(narrow))
        | (Condition::BlobFee(wide), Condition::BlobFee(narrow))
        | (Condition::ExecutionFee(wide), Condition::ExecutionFee(narrow)) => within(narrow, wide),
        (
            Condition::Argument { function, path, test },
            Condition::Argument { function: other, path: at, test: narrow },
        ) => function.selector == other.selector && path.is_same(at) && lets_through(test, narrow),
        (wide, narrow) => wide == narrow,
    }
}

fn within(narrow: &Range, wide: &Range) -> bool {
    wide.min.is_none_or(|min| narrow.min.is_some_and(|least| least >= min))
        && wide.max.is_none_or(|max| narrow.max.is_some_and(|most| most <= max))
}

fn lets_through(wide: &ArgumentTest, narrow: &ArgumentTest) -> bool {
    let compared = |one: &Operand, other: &Operand| match (one, other) {
        (Operand::Value(one), Operand::Value(other)) => order(one, other),
        _ => None,
    };
    match (wide, narrow) {
        (ArgumentTest::OneOf(wide, _), ArgumentTest::OneOf(narrow, _)) => {
            narrow.iter().all(|value| wide.contains(value))
        }
        (ArgumentTest::NoneOf(wide, _), ArgumentTest::NoneOf(narrow, _)) => {
            wide.iter().all(|value| narrow.contains(value))
        }
        (ArgumentTest::Max(wide, _), ArgumentTest::Max(narrow, _)) => {
            compared(wide, narrow).is_some_and(std::cmp::Ordering::is_ge)
        }
        (ArgumentTest::Min(wide, _), ArgumentTest::Min(narrow, _)) => {
            compared(wide, narrow).is_some_and(std::cmp::Ordering::is_le)
        }
        (wide, narrow) => wide == narrow,
    }
}
