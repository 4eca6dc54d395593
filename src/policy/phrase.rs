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
            let gets = of.as_ref().map_or_else(|| "that of anything".to_owned(), |of| code_of(of, names));
            let which = if *all { "every" } else { "some" };
            Some(format!("{which} account whose code it sets gets {gets}"))
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

/// Such as `that of simple_account, or none any more`: the zero address takes an account's code away.
fn code_of(of: &[Address], names: &impl Fn(&[Address]) -> String) -> String {
    let (none, contracts): (Vec<_>, Vec<Address>) = of.iter().partition(|at| at.is_zero());
    match (contracts.is_empty(), none.is_empty()) {
        (true, _) => "none any more".to_owned(),
        (false, true) => format!("that of {}", names(&contracts)),
        (false, false) => format!("that of {}, or none any more", names(&contracts)),
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
        ArgumentTest::Prefix(prefix) => {
            format!("{what} begins with {}", value_text(prefix, None, policy, chain))
        }
    }
}

fn operand_text(operand: &Operand, unit: Option<&Unit>, policy: &Policy, chain: Option<u64>) -> String {
    match operand {
        Operand::From => "the account itself".to_owned(),
        Operand::Sender => "who makes the call".to_owned(),
        Operand::Created => "what the account created".to_owned(),
        Operand::Client => "the client's name".to_owned(),
        Operand::Now(0) => "now".to_owned(),
        Operand::Now(seconds) => format!("{seconds} s from now"),
        Operand::Value(value) => value_text(value, unit, policy, chain),
    }
}

fn value_text(value: &DynSolValue, unit: Option<&Unit>, policy: &Policy, chain: Option<u64>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{CONTRACTS, PAY, policy, world};

    /// What a rule demands of the one argument of a function, as it is told.
    fn told(parameter: &str, condition: &str) -> String {
        let rule = format!(
            "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n\
             to = [\"bob\"]\ncall = \"f({parameter} it)\"\nargs = {{ {condition} }}\n"
        );
        let policy = policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}\n{condition}"));
        let text = policy.describe(&world()).rules.remove(0).text;
        let inside =
            text.split_once(", if ").and_then(|(_, rest)| rest.split_once(", and no ether goes along"));
        inside.unwrap_or_else(|| panic!("{text}")).0.to_owned()
    }

    #[test]
    fn each_condition_on_an_argument_reads_as_what_it_is() {
        for (parameter, condition, text) in [
            ("address", "it = \"$from\"", "`it` is the account itself"),
            ("address", "it = \"$sender\"", "`it` is who makes the call"),
            ("address", "it = \"$created\"", "`it` is what the account created"),
            ("address", "it = [\"alice\", \"bob\", \"treasury\"]", "`it` is alice, bob or treasury"),
            ("address", "it = { not = [\"alice\", \"bob\"] }", "`it` is not alice or bob"),
            (
                "address",
                "it = \"0x3535353535353535353535353535353535353535\"",
                "`it` is 0x3535353535353535353535353535353535353535",
            ),
            ("address[]", "\"some(it)\" = \"alice\", \"all(it)\" = \"any\"", "`some(it)` is alice"),
            ("string", "it = \"$client\"", "`it` is the client's name"),
            ("string", "it = \"a \\\"b\\\"\"", "`it` is \"a \\\"b\\\"\""),
            ("string", "it = { prefix = \"desk-\" }", "`it` begins with \"desk-\""),
            ("string", "it = { prefix = \"0x01\" }", "`it` begins with \"0x01\""),
            ("bytes", "it = { prefix = \"0x0102\" }", "`it` begins with 0x0102"),
            ("bytes", "it = \"0x\"", "`it` is 0x"),
            ("bytes4", "it = { prefix = \"0x01\" }", "`it` begins with 0x01"),
            ("bytes4", "it = \"0x01020304\"", "`it` is 0x01020304"),
            ("bool", "it = false", "`it` is false"),
            ("int24", "it = { min = -5, max = \"7\" }", "`it` is at most 7, and `it` is at least -5"),
            ("uint256", "it = { max = 5 }", "`it` is at most 5"),
            ("uint256", "it = [0, 3]", "`it` is 0 or 3"),
            ("uint256", "it = { min = \"$now\" }", "`it` is at least now"),
            ("uint256", "it = { max = \"$now + 1m\" }", "`it` is at most 60 s from now"),
            ("uint256", "it = { min = \"$now - 5m\" }", "`it` is at least -300 s from now"),
            (
                "uint256",
                "it = { within = \"1h\" }",
                "`it` is at most 3600 s from now, and `it` is at least now",
            ),
            ("uint256[]", "\"len(it)\" = { max = 2 }", "`len(it)` is at most 2"),
        ] {
            assert_eq!(told(parameter, condition), text, "{condition}");
        }
    }

    /// An amount is in the unit of its token.
    #[test]
    fn an_amount_reads_as_it_is_written() {
        let policy = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        let text = policy.describe(&world()).rules.remove(0).text;
        assert_eq!(
            text,
            "trader may call transfer(address to, uint256 amount) at usdc on chain 1 from treasury, if `to` is alice or bob, and \
             `amount` is at most 1000 USDC, and no ether goes along, and the most that execution can cost is at most 0.05 ether"
        );
    }

    /// The zero address in `delegates` takes an account's code away, and is never told as an address.
    #[test]
    fn whose_code_accounts_get_is_said_with_none_as_none() {
        let told = |kind: &str, effect: &str, delegates: &str| {
            let from = if kind == "presigned" { "bob" } else { "treasury" };
            let allow = format!(
                "chain = 1\nclients = [\"trader\"]\nfrom = [\"{from}\"]\nto = [\"alice\"]\ncall = \"empty\"\n"
            );
            let rule = format!(
                "[[rule]]\nid = \"a\"\neffect = \"{effect}\"\nkind = \"{kind}\"\ndelegates = [{delegates}]\n{}",
                if effect == "allow" { &allow } else { "" }
            );
            let policy = policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}"));
            policy.describe(&world()).rules.remove(0).text
        };
        for (effect, delegates, says) in [
            ("allow", "\"bob\"", "every account whose code it sets gets that of bob"),
            ("allow", "\"bob\", \"alice\"", "every account whose code it sets gets that of bob or alice"),
            ("allow", "\"none\"", "every account whose code it sets gets none any more"),
            (
                "allow",
                "\"none\", \"bob\"",
                "every account whose code it sets gets that of bob, or none any more",
            ),
            ("deny", "\"none\"", "some account whose code it sets gets none any more"),
            ("deny", "\"any\"", "some account whose code it sets gets that of anything"),
        ] {
            for kind in ["transaction", "presigned"] {
                let text = told(kind, effect, delegates);
                assert!(text.ends_with(says) && !text.contains("0x00"), "{text}");
            }
        }
        let text = told("transaction", "allow", "\"any\"");
        assert!(
            text.ends_with("; accounts that signed for it get any code") && !text.contains("gets"),
            "{text}"
        );
        let none = "chain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n";
        let rule = format!(
            "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"authorization\"\ndelegates = [\"none\"]\n{none}"
        );
        let told = policy(&rule).unwrap().describe(&world());
        assert!(told.rules[0].text.contains("the code of (none any more) may act"), "{}", told.rules[0].text);
        assert_eq!(told.matrix[0].contract, "(none any more)");
    }

    #[test]
    fn other_conditions_read_as_what_they_are() {
        let rule = |kind: &str, more: &str| {
            format!("[[rule]]\nid = \"a\"\neffect = \"deny\"\nkind = \"{kind}\"\n{more}\n")
        };
        for (kind, more, says) in [
            ("transaction", "delegatecall = true", ", if it is a delegatecall"),
            ("transaction", "delegatecall = false", ""),
            ("transaction", "via = [\"alice\", \"bob\"]", ", if alice or bob makes the call"),
            ("transaction", "value = 0", ", if no ether goes along"),
            ("transaction", "value = { min = \"1 wei\" }", ", if the ether sent along is at least 1 wei"),
            (
                "transaction",
                "value = { min = \"1 wei\", max = \"2 wei\" }",
                ", if the ether sent along is from 1 wei to 2 wei",
            ),
            (
                "transaction",
                "execution_fee = { max = \"1 gwei\" }",
                ", if the most that execution can cost is at most 1 gwei",
            ),
            ("transaction", "blobs = { min = 2 }", ", if the number of blobs is at least 2"),
            ("transaction", "blobs = 0", ""),
            ("transaction", "blob_fee = \"3 wei\"", ", if the most that blobs can cost is exactly 3 wei"),
            (
                "transaction",
                "hours = [\"Mon-Fri 08:00-20:00 UTC\", \"Sat 00:00-24:00 UTC\"]",
                ", if it is Mon-Fri 08:00-20:00 UTC or Sat 00:00-24:00 UTC",
            ),
            ("message", "text = { equals = \"x\" }", ", if the text is \"x\""),
            ("message", "text = \"any\"", ""),
            ("message", "siwe = {}", ", if it signs in to any site"),
            (
                "message",
                "siwe = { domain = [\"a.example\", \"b.example\"], chain_id = 5, expires_within = \"1h\" }",
                ", if it signs in to a.example or b.example on chain 5, and ends within 60m",
            ),
            ("typed_data", "domain = { name = \"N\" }", ", if its domain has the name \"N\""),
            (
                "typed_data",
                "domain = { name = \"N\", version = \"2\" }",
                ", if its domain has the name \"N\" and the version \"2\"",
            ),
        ] {
            let policy =
                policy(&format!("{CONTRACTS}{}", rule(kind, more))).unwrap_or_else(|e| panic!("{e}"));
            let text = policy.describe(&world()).rules.remove(0).text;
            assert!(text.ends_with(&format!("from any account{says}")), "{more}: {text}");
        }
    }

    #[test]
    fn what_an_outcome_allows_is_told() {
        for (outcome, says) in [
            ("", "it takes nothing, and lets nobody take anything"),
            ("approvals = \"any\"", "it takes nothing"),
            (
                "max_out = [\"1 ether\"]",
                "it takes at most 1 ether and nothing else, and lets nobody take anything",
            ),
            (
                "max_out = [\"1 ether\", \"5 USDC\"]",
                "it takes at most 5 USDC, 1 ether and nothing else, and lets nobody take anything",
            ),
        ] {
            let rule = PAY.replace("execution_fee =", &format!("outcome = {{ {outcome} }} #"));
            let policy = policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}"));
            let text = policy.describe(&world()).rules.remove(0).text;
            assert!(text.ends_with(&format!("a node that tries it out finds that {says}")), "{text}");
        }
    }

    #[test]
    fn alternatives_read_as_a_list() {
        let of = |names: &[&str]| either(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(
            [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["a", "b", "c"])],
            ["nobody", "a", "a or b", "a, b or c"]
        );
    }
}
