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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::U256;

    use super::*;
    use crate::policy::abi::Function;
    use crate::policy::condition::Targets;
    use crate::policy::path::Path;
    use crate::policy::tests::{CONTRACTS, TREASURY, USDC, policy};

    fn at(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    /// `[any, nobody, created]`, and the addresses.
    fn to(flags: [bool; 3], addresses: &[u8]) -> Condition {
        let [any, nobody, created] = flags;
        let addresses = addresses.iter().map(|byte| at(*byte)).collect();
        Condition::To(Targets { any, nobody, created, addresses })
    }

    #[test]
    fn a_target_covers_another_where_it_has_all_of_it() {
        const NONE: [bool; 3] = [false; 3];
        const ANY: [bool; 3] = [true, false, false];
        const NOBODY: [bool; 3] = [false, true, false];
        const CREATED: [bool; 3] = [false, false, true];
        for (wide, narrow, is) in [
            (to(NONE, &[1, 2]), to(NONE, &[1]), true),
            (to(NONE, &[1]), to(NONE, &[1, 2]), false),
            (to(NONE, &[1]), to(NONE, &[2]), false),
            (to(ANY, &[]), to(NONE, &[1]), true),
            (to(ANY, &[]), to(ANY, &[]), true),
            (to(NONE, &[1]), to(ANY, &[]), false),
            (to(ANY, &[]), to(NOBODY, &[]), false),
            (to(NOBODY, &[]), to(NOBODY, &[]), true),
            (to(NOBODY, &[1]), to(NOBODY, &[]), true),
            (to(NONE, &[1]), to(NOBODY, &[]), false),
            (to(NONE, &[1]), to(NOBODY, &[1]), false),
            (to([true, true, false], &[]), to(NOBODY, &[1]), true),
            (to(ANY, &[]), to(CREATED, &[]), true),
            (to(CREATED, &[]), to(CREATED, &[]), true),
            (to(CREATED, &[1]), to(CREATED, &[1]), true),
            (to(NONE, &[1]), to(CREATED, &[1]), false),
            (to(CREATED, &[]), to(NONE, &[1]), false),
        ] {
            assert_eq!(covers(&wide, &narrow), is, "{wide:?} {narrow:?}");
        }
    }

    #[test]
    fn a_condition_covers_another_where_it_lets_as_much_through() {
        let clients =
            |names: &[&str]| Condition::Clients(names.iter().map(|name| (*name).to_owned()).collect());
        let from = |of: &[u8]| Condition::From(of.iter().map(|byte| at(*byte)).collect());
        let via = |of: &[u8]| Condition::Via(of.iter().map(|byte| at(*byte)).collect());
        let range =
            |min: Option<u64>, max: Option<u64>| Range { min: min.map(U256::from), max: max.map(U256::from) };
        let value = |min, max| Condition::Value(range(min, max));
        let call = |text: &str| Condition::Call(Called::Function(Arc::new(Function::parse(text).unwrap())));
        for (wide, narrow, is) in [
            (clients(&["a", "b"]), clients(&["a"]), true),
            (clients(&["a"]), clients(&["a", "b"]), false),
            (from(&[1, 2]), from(&[2]), true),
            (from(&[1]), from(&[1, 2]), false),
            (via(&[]), via(&[]), true),
            (via(&[]), via(&[1]), false),
            (via(&[1]), via(&[]), false),
            (via(&[1, 2]), via(&[1]), true),
            (via(&[1]), via(&[1, 2]), false),
            (value(None, Some(5)), value(None, Some(5)), true),
            (value(None, Some(5)), value(None, Some(4)), true),
            (value(None, Some(5)), value(None, Some(6)), false),
            (value(None, Some(5)), value(None, None), false),
            (value(Some(5), None), value(Some(5), None), true),
            (value(Some(5), None), value(Some(6), Some(7)), true),
            (value(Some(5), None), value(Some(4), Some(7)), false),
            (value(Some(5), None), value(None, Some(7)), false),
            (value(None, None), value(Some(5), Some(7)), true),
            (value(Some(1), Some(9)), value(Some(2), None), false),
            (Condition::Blobs(range(None, Some(2))), Condition::Blobs(range(None, Some(1))), true),
            (Condition::BlobFee(range(None, Some(2))), Condition::BlobFee(range(None, Some(3))), false),
            (
                Condition::ExecutionFee(range(None, Some(2))),
                Condition::ExecutionFee(range(None, Some(2))),
                true,
            ),
            // What is said of one thing says nothing of another.
            (Condition::Blobs(range(None, Some(2))), value(None, Some(1)), false),
            (call("f(uint8)"), call("f(uint8 n)"), true),
            (call("f(uint8)"), call("f(uint16)"), false),
            (Condition::Call(Called::Empty), Condition::Call(Called::Empty), true),
            (Condition::Call(Called::Empty), call("f()"), false),
            (Condition::Chain(1), Condition::Chain(1), true),
            (Condition::Chain(1), Condition::Chain(2), false),
            (Condition::Delegatecall(true), Condition::Delegatecall(false), false),
        ] {
            assert_eq!(covers(&wide, &narrow), is, "{wide:?} {narrow:?}");
        }
    }

    #[test]
    fn a_test_of_an_argument_covers_another_at_the_same_place() {
        let number = |number: u64| Operand::Value(DynSolValue::Uint(U256::from(number), 256));
        let one_of = |all: &[u64]| ArgumentTest::OneOf(all.iter().map(|one| number(*one)).collect(), None);
        let none_of = |all: &[u64]| ArgumentTest::NoneOf(all.iter().map(|one| number(*one)).collect(), None);
        let (min, max) = (|n| ArgumentTest::Min(number(n), None), |n| ArgumentTest::Max(number(n), None));
        let prefix = |text: &str| ArgumentTest::Prefix(DynSolValue::String(text.to_owned()));
        for (wide, narrow, is) in [
            (one_of(&[1, 2]), one_of(&[1]), true),
            (one_of(&[1]), one_of(&[1, 2]), false),
            (none_of(&[1]), none_of(&[1, 2]), true),
            (none_of(&[1, 2]), none_of(&[1]), false),
            (max(5), max(5), true),
            (max(5), max(4), true),
            (max(5), max(6), false),
            (min(5), min(5), true),
            (min(5), min(6), true),
            (min(5), min(4), false),
            (max(5), min(5), false),
            (prefix("a"), prefix("a"), true),
            (prefix("a"), prefix("b"), false),
            (ArgumentTest::Max(Operand::Now(5), None), ArgumentTest::Max(Operand::Now(4), None), false),
        ] {
            assert_eq!(lets_through(&wide, &narrow), is, "{wide:?} {narrow:?}");
        }
        let function = Arc::new(Function::parse("f(uint256 a,uint256 b)").unwrap());
        let other = Arc::new(Function::parse("g(uint256 a,uint256 b)").unwrap());
        let at = |of: &Arc<Function>, place: &str, test: ArgumentTest| Condition::Argument {
            function: Arc::clone(of),
            path: Path::parse(of, place).unwrap().0,
            test,
        };
        for (wide, narrow, is) in [
            (at(&function, "a", max(5)), at(&function, "0", max(4)), true),
            (at(&function, "a", max(5)), at(&function, "b", max(4)), false),
            (at(&function, "a", max(5)), at(&other, "a", max(4)), false),
            (at(&function, "a", max(5)), at(&function, "a", max(6)), false),
        ] {
            assert_eq!(covers(&wide, &narrow), is, "{wide:?} {narrow:?}");
        }
    }

    /// A rule that is for every target is found whatever the other is for.
    #[test]
    fn a_rule_is_found_by_what_it_is_for() {
        let rule = |id: &str, to: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 to = [{to}]\ncall = \"any\"\n{more}\n"
            )
        };
        for (wide, narrow, is) in [
            ("\"any\"", "\"alice\"", true),
            ("\"any\"", "\"$created\"", true),
            ("\"alice\", \"bob\"", "\"bob\"", true),
            ("\"alice\", \"bob\"", "\"bob\", \"alice\"", true),
            ("\"bob\"", "\"alice\", \"bob\"", false),
            ("\"create\"", "\"create\"", true),
            ("\"$created\"", "\"$created\"", true),
            ("\"any\"", "\"create\"", false),
            ("\"alice\"", "\"any\"", false),
        ] {
            // Its own rule covers none itself.
            let narrow_rule = rule("b-narrow", narrow, "value = 0\nhours = \"daily 08:00-09:00 UTC\"");
            let policy = policy(&format!("{CONTRACTS}{}{narrow_rule}", rule("a-wide", wide, ""))).unwrap();
            let found = ByTarget::new(&policy.rules, Effect::Allow);
            let covering = |at: usize| found.covering(&policy.rules[at]).map(|rule| rule.id.to_string());
            assert_eq!(
                (covering(0), covering(1)),
                (None, is.then(|| "a-wide".to_owned())),
                "{wide} {narrow}"
            );
            assert!(ByTarget::new(&policy.rules, Effect::Deny).covering(&policy.rules[1]).is_none());
        }
    }

    #[test]
    fn where_nothing_is_opened_a_rule_about_what_is_inside_never_matches() {
        let multicall = "0xcA11bde05977b3631167028862bE2a173976CA11";
        let entry = "0x0000000071727De22E5E9d8BAf0edAc6f37da032";
        let contracts = format!(
            "{CONTRACTS}multi = {{ chain = 1, address = \"{multicall}\", abi = \"multicall3\" }}\n\
             entry = {{ chain = 1, address = \"{entry}\", abi = \"erc4337-entry-point\" }}\n"
        );
        let said = |more: &str| {
            let rule = format!(
                "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n\
                 to = [\"alice\"]\ncall = \"empty\"\nvalue = {{ max = \"1 wei\" }}\n{more}\n"
            );
            let policy = policy(&format!("{contracts}{rule}")).unwrap_or_else(|e| panic!("{e}"));
            policy.never_inside(&policy.rules[0])
        };
        let none = Vec::<String>::new();
        assert_eq!(said(""), none);
        assert_eq!(said("via = [\"multi\"]"), none);
        assert_eq!(said("via = [\"any\"]\ndelegatecall = true"), none);
        assert_eq!(said("via = [\"multi\"]\ndelegatecall = true"), none);
        assert_eq!(
            said("delegatecall = true"),
            ["it is for delegatecalls and has no `via`: an account makes none itself, so it never matches"]
        );
        let nothing = |at: &str, every: &str| {
            format!("`via`: nothing is opened of {at}{every}; give it the `abi` of what it is")
        };
        assert_eq!(said("via = [\"usdc\"]"), [nothing(USDC, ", so it never matches")]);
        assert_eq!(said("via = [\"multi\", \"usdc\"]"), [nothing(USDC, "")]);
        assert_eq!(
            said("via = [\"treasury\"]"),
            [nothing(&format!("`treasury` ({TREASURY})"), ", so it never matches")]
        );
        // It has functions that carry calls, of which none is opened.
        assert_eq!(said("via = [\"entry\"]"), [nothing(entry, ", so it never matches")]);
        assert_eq!(said("via = [\"usdc\", \"entry\"]"), [nothing(USDC, ", so it never matches")]);
    }
}
