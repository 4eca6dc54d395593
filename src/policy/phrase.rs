//! Conditions of rules in words, as `chancery policy describe` says them.

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, hex};

use crate::policy::amount::{Range, Unit, show_unit, show_wei};
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::condition::{Condition, Delegates, DomainTest};
use crate::policy::decide::Policy;
use crate::policy::messages::{SiweTest, TextTest};
use crate::policy::outcome::OutcomeTest;
use crate::policy::path::{Over, Path};
use crate::policy::rule::{Effect, Rule, RuleKind};

/// What an allow rule leaves open in so many words: where nothing is written of it, it is bound.
pub(in crate::policy) fn open(rule: &Rule) -> impl Iterator<Item = &'static str> {
    let is_open = rule.effect == Effect::Allow
        && matches!(rule.kind, Some(RuleKind::Transaction | RuleKind::Presigned));
    let has = |wanted: fn(&Condition) -> bool| rule.conditions.iter().any(wanted);
    let found = [
        (has(|c| matches!(c, Condition::Via(_))), "; whatever contract makes the call"),
        (has(|c| matches!(c, Condition::Value(_))), "; any ether goes along"),
        (has(|c| matches!(c, Condition::Blobs(_))), "; any number of blobs goes along"),
        (has(|c| matches!(c, Condition::Delegates(_))), "; accounts that signed for it get any code"),
    ];
    found.into_iter().filter(move |(is_bound, _)| is_open && !is_bound).map(|(_, what)| what)
}

/// What any condition but those that name client, account, target, call and arguments demands.
pub(in crate::policy) fn other_sentence(
    condition: &Condition,
    names: &impl Fn(&[Address]) -> String,
) -> Option<String> {
    let amount = |what: &str, range: &Range| format!("{what} is {}", range.describe(show_wei));
    match condition {
        Condition::Via(carriers) if carriers.is_empty() => None,
        Condition::Via(carriers) => Some(format!("{} makes the call", names(carriers))),
        Condition::Delegatecall(true) => Some("it is a delegatecall".to_owned()),
        Condition::Value(range) if *range == Range::exactly(U256::ZERO) => {
            Some("no ether goes along".to_owned())
        }
        Condition::Value(range) => Some(amount("the ether sent along", range)),
        Condition::ExecutionFee(range) => Some(amount("the most that execution can cost", range)),
        Condition::Blobs(range) if range.max.is_some_and(|max| max.is_zero()) => None,
        Condition::Blobs(range) => {
            Some(format!("the number of blobs is {}", range.describe(|n| n.to_string())))
        }
        Condition::BlobFee(range) => Some(amount("the most that blobs can cost", range)),
        Condition::Delegates(Delegates { of: Some(of), all: true }) if of.is_empty() => None,
        Condition::Delegates(Delegates { of, all }) => {
            let of = of.as_ref().map_or_else(|| "anything".to_owned(), |of| names(of));
            let which = if *all { "every" } else { "some" };
            Some(format!("{which} account whose code it sets gets that of {of}"))
        }
        Condition::Outcome(test) => Some(outcome_text(test)),
        Condition::Hours(hours) => {
            Some(format!("it is {}", either(hours.iter().map(|hours| hours.text.clone()))))
        }
        Condition::Text(TextTest::Prefix(prefix)) => Some(format!("the text begins with {prefix:?}")),
        Condition::Text(TextTest::Equals(text)) => Some(format!("the text is {text:?}")),
        Condition::Siwe(SiweTest { domains, chain, expires_within }) => {
            let chain = chain.map(|chain| format!(" on chain {chain}")).unwrap_or_default();
            let within = expires_within.map(crate::policy::amount::show_window);
            let within = within.map(|within| format!(", and ends within {within}")).unwrap_or_default();
            let domains =
                if domains.is_empty() { "any site".to_owned() } else { either(domains.iter().cloned()) };
            Some(format!("it signs in to {domains}{chain}{within}"))
        }
        Condition::Domain(DomainTest { name, version }) => {
            let part = |what: &str, is: &Option<String>| is.as_ref().map(|is| format!("{what} {is:?}"));
            let parts: Vec<_> =
                [part("name", name), part("version", version)].into_iter().flatten().collect();
            Some(format!("its domain has the {}", parts.join(" and the ")))
        }
        _ => None,
    }
}

/// Such as `a node finds that it takes at most 5 USDC, 1 ether and nothing else, and lets nobody take anything`.
fn outcome_text(test: &OutcomeTest) -> String {
    let tokens = test.tokens.values().map(|(most, unit)| unit.show(*most));
    let mut most: Vec<_> = tokens.collect();
    most.extend((!test.ether.is_zero()).then(|| show_wei(test.ether)));
    let most = if most.is_empty() {
        "nothing".to_owned()
    } else {
        format!("at most {} and nothing else", most.join(", "))
    };
    let lets = if test.approvals { "" } else { ", and lets nobody take anything" };
    format!("a node that tries it out finds that it takes {most}{lets}")
}

/// Such as `amount is at most 250000 USDC`.
pub(in crate::policy) fn tested(
    path: &Path,
    test: &ArgumentTest,
    policy: &Policy,
    chain: Option<u64>,
) -> String {
    let one = |operand: &Operand, unit: &Option<Unit>| operand_text(operand, unit.as_ref(), policy, chain);
    let all =
        |operands: &[Operand], unit: &Option<Unit>| either(operands.iter().map(|operand| one(operand, unit)));
    let some = if path.over == Over::SomeToken { "some of " } else { "" };
    let what = format!("{some}`{path}`");
    match test {
        ArgumentTest::OneOf(operands, unit) => format!("{what} is {}", all(operands, unit)),
        ArgumentTest::NoneOf(operands, unit) => format!("{what} is not {}", all(operands, unit)),
        ArgumentTest::Min(least, unit) => format!("{what} is at least {}", one(least, unit)),
        ArgumentTest::Max(most, unit) => format!("{what} is at most {}", one(most, unit)),
        ArgumentTest::Prefix(prefix) => format!("{what} begins with {}", hex::encode_prefixed(prefix)),
    }
}

fn operand_text(operand: &Operand, unit: Option<&Unit>, policy: &Policy, chain: Option<u64>) -> String {
    let value = match operand {
        Operand::From => return "the account itself".to_owned(),
        Operand::Sender => return "who makes the call".to_owned(),
        Operand::Created => return "what the account created".to_owned(),
        Operand::Client => return "the client's name".to_owned(),
        Operand::Now(0) => return "now".to_owned(),
        Operand::Now(seconds) => return format!("{seconds} s from now"),
        Operand::Value(value) => value,
    };
    match (value, unit) {
        (DynSolValue::Uint(number, _), Some(unit)) => show_unit(*number, unit),
        (DynSolValue::Uint(number, _), None) => number.to_string(),
        (DynSolValue::Int(number, _), _) => number.to_dec_string(),
        (DynSolValue::Bool(is), _) => is.to_string(),
        (DynSolValue::Address(address), _) => policy.short(chain, *address),
        (DynSolValue::FixedBytes(word, size), _) => {
            hex::encode_prefixed(word.get(..*size).unwrap_or_default())
        }
        (DynSolValue::Bytes(bytes), _) => hex::encode_prefixed(bytes),
        (DynSolValue::String(text), _) => format!("{text:?}"),
        _ => "what the rule says".to_owned(),
    }
}

/// Such as `a, b or c`.
pub(in crate::policy) fn either(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nobody".to_owned(),
    }
}
