//! Tests of what stands in the arguments of a call.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::U256;

use crate::clock::Timestamp;
use crate::policy::abi::Function;
use crate::policy::amount::{Unit, show_unit};
use crate::policy::call::TransactionFacts;
use crate::policy::condition::{Holds, inexact, when};
use crate::policy::facts::{Facts, Subject};
use crate::policy::path::{Over, Path};
use crate::policy::typed::TypedFacts;

/// A test of one value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) enum ArgumentTest {
    OneOf(Vec<Operand>, Option<Unit>),
    NoneOf(Vec<Operand>, Option<Unit>),
    Min(Operand, Option<Unit>),
    Max(Operand, Option<Unit>),
    /// How the bytes or the text must begin: itself bytes or text.
    Prefix(DynSolValue),
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) enum Operand {
    /// `$from`: the account that signs.
    From,
    /// `$sender`: who makes the call; the account, or the contract that carries it.
    Sender,
    /// `$created`: any contract that the account created here.
    Created,
    /// `$client`: the name of the client that asks.
    Client,
    /// `$now`, and so many seconds more (or fewer): a time in seconds since 1970.
    Now(i64),
    Value(DynSolValue),
}

/// Tests what stands at a path of a call's arguments.
pub(in crate::policy) fn test(
    transaction: &TransactionFacts<'_>,
    function: &Arc<Function>,
    (path, test): (&Path, &ArgumentTest),
    facts: &Facts<'_>,
) -> Holds {
    let arguments = transaction.arguments(function);
    let values = match arguments.as_ref() {
        Ok(arguments) => path.values(arguments),
        Err(why) => return Holds::Unclear(inexact(function, why)),
    };
    let values = match values {
        Ok(values) => values,
        Err(why) => return absent(path, why),
    };
    let chain = transaction.chain;
    at(path, &values, test, facts, chain)
}

/// Tests what stands at a path of a message's members.
pub(in crate::policy) fn field(
    typed: &TypedFacts<'_>,
    (path, test): (&Path, &ArgumentTest),
    facts: &Facts<'_>,
) -> Holds {
    match path.values(typed.asked.values()) {
        Ok(values) => at(path, &values, test, facts, typed.chain().unwrap_or_default()),
        Err(why) => absent(path, why),
    }
}

/// Where there is nothing to look at. Of bytes that are no path, others may read a token all the same.
fn absent(path: &Path, why: String) -> Holds {
    if path.is_packed() { Holds::Unclear(why) } else { Holds::No(why) }
}

/// Tests the values that a path led to.
fn at(
    path: &Path,
    values: &[Cow<'_, DynSolValue>],
    test: &ArgumentTest,
    facts: &Facts<'_>,
    chain: u64,
) -> Holds {
    let mut each = values.iter().map(|value| test.of(value, facts, chain));
    match path.over {
        Over::One | Over::Length | Over::Head | Over::Tail => match (each.next(), each.next()) {
            (Some(holds), None) => holds,
            _ => Holds::Unclear("there is no single value".to_owned()),
        },
        Over::All | Over::Tokens => each.find(|holds| *holds != Holds::Yes).unwrap_or(Holds::Yes),
        Over::Some | Over::SomeToken => {
            let found: Vec<_> = each.collect();
            if found.contains(&Holds::Yes) {
                return Holds::Yes;
            }
            let unclear = found.into_iter().find(|holds| matches!(holds, Holds::Unclear(_)));
            unclear.unwrap_or_else(|| Holds::No("none of its items is what the rule names".to_owned()))
        }
    }
}

impl ArgumentTest {
    fn of(&self, value: &DynSolValue, facts: &Facts<'_>, chain: u64) -> Holds {
        let show = |value: &DynSolValue, unit: &Option<Unit>| show_value(value, unit.as_ref(), facts, chain);
        let equal = |operand: &Operand| operand.value(value, facts).is_some_and(|wanted| wanted == *value);
        match self {
            Self::OneOf(operands, unit) => when(operands.iter().any(equal), || {
                format!("it is {}, which is not what the rule names", show(value, unit))
            }),
            Self::NoneOf(operands, unit) => when(!operands.iter().any(equal), || {
                format!("it is {}, which the rule excludes", show(value, unit))
            }),
            Self::Min(least, unit) => compared(value, least, facts, Ordering::is_ge, |least| {
                format!("it is {}, and must be at least {}", show(value, unit), show(least, unit))
            }),
            Self::Max(most, unit) => compared(value, most, facts, Ordering::is_le, |most| {
                format!("it is {}, and may be at most {}", show(value, unit), show(most, unit))
            }),
            Self::Prefix(prefix) => match bytes_of(value).zip(bytes_of(prefix)) {
                Some((bytes, prefix)) => {
                    when(bytes.starts_with(prefix), || "it does not begin as the rule demands".to_owned())
                }
                None => Holds::Unclear("it has no beginning".to_owned()),
            },
        }
    }
}

impl Operand {
    /// What it stands for beside a value; nothing where that has no such type.
    fn value(&self, beside: &DynSolValue, facts: &Facts<'_>) -> Option<DynSolValue> {
        match (self, beside) {
            (Self::Value(value), _) => Some(value.clone()),
            (Self::From, _) => Some(DynSolValue::Address(facts.account)),
            (Self::Sender, _) => match &facts.subject {
                Subject::Transaction(transaction) => Some(DynSolValue::Address(transaction.sender)),
                Subject::TypedData(_) => Some(DynSolValue::Address(facts.account)),
                Subject::Message(_) | Subject::Authorization(_) => None,
            },
            (Self::Created, DynSolValue::Address(at)) => {
                facts.evidence.created.contains(at).then(|| beside.clone())
            }
            (Self::Client, _) => Some(DynSolValue::String(facts.client.to_owned())),
            (Self::Now(more), DynSolValue::Uint(_, bits)) => {
                Some(DynSolValue::Uint(U256::from(seconds(facts.now, *more)), *bits))
            }
            (Self::Created | Self::Now(_), _) => None,
        }
    }
}

/// What a value is made of that has a beginning.
fn bytes_of(value: &DynSolValue) -> Option<&[u8]> {
    match value {
        DynSolValue::Bytes(bytes) => Some(bytes),
        DynSolValue::String(text) => Some(text.as_bytes()),
        DynSolValue::FixedBytes(word, size) => word.get(..*size),
        _ => None,
    }
}

/// A time in whole seconds, moved; never before 1970.
fn seconds(now: Timestamp, more: i64) -> u64 {
    (now.millis() / 1000).saturating_add_signed(more)
}

/// How two numbers of one type compare.
pub(in crate::policy) fn order(one: &DynSolValue, other: &DynSolValue) -> Option<Ordering> {
    match (one, other) {
        (DynSolValue::Uint(one, _), DynSolValue::Uint(other, _)) => Some(one.cmp(other)),
        (DynSolValue::Int(one, _), DynSolValue::Int(other, _)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn compared(
    value: &DynSolValue,
    bound: &Operand,
    facts: &Facts<'_>,
    right: impl Fn(Ordering) -> bool,
    why: impl FnOnce(&DynSolValue) -> String,
) -> Holds {
    let ordered = bound.value(value, facts).and_then(|bound| Some((order(value, &bound)?, bound)));
    let Some((order, bound)) = ordered else { return Holds::Unclear("it is no number".to_owned()) };
    when(right(order), || why(&bound))
}

/// A value as a sentence can hold it: numbers and addresses; what a client could fill with any text is named,
/// not quoted.
pub(in crate::policy) fn show_value(
    value: &DynSolValue,
    unit: Option<&Unit>,
    facts: &Facts<'_>,
    chain: u64,
) -> String {
    match (value, unit) {
        (DynSolValue::Uint(number, _), Some(unit)) => show_unit(*number, unit),
        (DynSolValue::Uint(number, _), None) => number.to_string(),
        (DynSolValue::Int(number, _), _) => number.to_dec_string(),
        (DynSolValue::Bool(value), _) => value.to_string(),
        (DynSolValue::Address(address), _) => facts.name(chain, *address),
        (DynSolValue::FixedBytes(word, size), _) => {
            alloy_primitives::hex::encode_prefixed(word.get(..*size).unwrap_or_default())
        }
        _ => "another value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use serde_json::json;

    use super::*;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, NOW, TREASURY, address, call, caller, policy, transaction,
    };
    use crate::transaction::Tx;

    /// Why a value of this type is not what the rule demands; empty where it is.
    fn why(ty: &str, value: DynSolValue, condition: &str) -> String {
        let rule = format!(
            "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n\
             to = [\"bob\"]\ncall = \"f({ty} it)\"\nargs = {{ it = {condition} }}\n"
        );
        let policy = policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}"));
        let asked = transaction(&json!({ "to": BOB, "data": call(&format!("f({ty})"), &[value]) }));
        match policy.judge::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(NOW * 1000)) {
            Ok(_) => String::new(),
            Err(denied) => {
                let (_, why) =
                    denied.sentence.split_once("`args.it`: ").unwrap_or_else(|| panic!("{denied}"));
                why.to_owned()
            }
        }
    }

    const OTHER: &str = "which is not what the rule names";
    const BEGINS: &str = "it does not begin as the rule demands";

    #[test]
    fn a_number_or_an_address_says_what_it_is_and_what_it_may_be() {
        let uint = |number: u64| DynSolValue::Uint(U256::from(number), 256);
        let int = |number: i32| DynSolValue::Int(number.try_into().unwrap(), 24);
        let (alice, bob) = (format!("`alice` ({ALICE})"), format!("`bob` ({BOB})"));
        let (late, soon) = (NOW + 61, NOW - 61);
        for (ty, value, condition, says) in [
            ("address", address(ALICE), "\"alice\"", ""),
            ("address", address(BOB), "\"alice\"", &format!("it is {bob}, {OTHER}")),
            (
                "address",
                address(ALICE),
                "{ not = [\"alice\", \"bob\"] }",
                &format!("it is {alice}, which the rule excludes"),
            ),
            ("address", address(TREASURY), "\"$sender\"", ""),
            ("address", address(ALICE), "\"$sender\"", &format!("it is {alice}, {OTHER}")),
            ("bool", DynSolValue::Bool(true), "false", &format!("it is true, {OTHER}")),
            ("uint256", uint(5), "{ min = 5 }", ""),
            ("uint256", uint(5), "{ min = 6 }", "it is 5, and must be at least 6"),
            ("uint256", uint(5), "{ max = 5 }", ""),
            ("uint256", uint(5), "{ max = 4 }", "it is 5, and may be at most 4"),
            ("int24", int(-5), "{ min = \"-5\" }", ""),
            ("int24", int(-6), "{ min = \"-5\" }", "it is -6, and must be at least -5"),
            ("int24", int(7), "{ max = -5 }", "it is 7, and may be at most -5"),
            ("uint256", uint(NOW), "{ min = \"$now\", max = \"$now\" }", ""),
            (
                "uint256",
                uint(soon),
                "{ min = \"$now\" }",
                &format!("it is {soon}, and must be at least {NOW}"),
            ),
            (
                "uint256",
                uint(soon),
                "{ min = \"$now - 1m\" }",
                &format!("it is {soon}, and must be at least {}", NOW - 60),
            ),
            (
                "uint256",
                uint(late),
                "{ within = \"1m\" }",
                &format!("it is {late}, and may be at most {}", NOW + 60),
            ),
        ] {
            assert_eq!(why(ty, value.clone(), condition), says, "{ty} {value:?} {condition}");
        }
    }

    /// What a client can fill with any text is named, and not quoted.
    #[test]
    fn a_text_or_bytes_are_compared_whole_or_by_how_they_begin() {
        let text = |text: &str| DynSolValue::String(text.to_owned());
        let bytes = |bytes: &[u8]| DynSolValue::Bytes(bytes.to_vec());
        let four =
            |bytes: [u8; 4]| DynSolValue::FixedBytes(alloy_primitives::B256::right_padding_from(&bytes), 4);
        let another = format!("it is another value, {OTHER}");
        for (ty, value, condition, says) in [
            ("string", text("ann"), "\"$client\"", ""),
            ("string", text("ben"), "\"$client\"", another.as_str()),
            ("string", text("$client"), "\"$client\"", &another),
            ("string", text("desk-1"), "{ prefix = \"desk-\" }", ""),
            ("string", text("desk"), "{ prefix = \"desk-\" }", BEGINS),
            ("bytes", bytes(&[1, 2, 3]), "{ prefix = \"0x0102\" }", ""),
            ("bytes", bytes(&[1]), "{ prefix = \"0x0102\" }", BEGINS),
            ("bytes", bytes(&[1]), "\"0x02\"", &another),
            ("bytes4", four([1, 2, 3, 4]), "{ prefix = \"0x0102\" }", ""),
            ("bytes4", four([1, 2, 3, 4]), "{ prefix = \"0x01020304\" }", ""),
            ("bytes4", four([1, 3, 0, 0]), "{ prefix = \"0x0102\" }", BEGINS),
            ("bytes4", four([1, 3, 0, 0]), "\"0x01020304\"", &format!("it is 0x01030000, {OTHER}")),
        ] {
            assert_eq!(why(ty, value.clone(), condition), says, "{ty} {value:?} {condition}");
        }
    }

    /// Two functions of one selector are read apart, whichever was read before.
    #[test]
    fn inv_04_calldata_is_read_by_the_function_that_a_rule_names() {
        // `transfer(address,uint256)` and `many_msg_babbage(bytes1)` have one selector.
        let deny = |id: &str, call: &str, args: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"deny\"\nkind = \"transaction\"\ncall = \"{call}\"\nargs = {{ {args} }}\n"
            )
        };
        let all = "[[rule]]\nid = \"all\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\nto = [\"any\"]\ncall = \"any\"\n";
        let first = deny("a", "transfer(address to,uint256 amount)", "to = \"alice\"");
        let twin = deny("b", "many_msg_babbage(bytes1 tag)", "tag = \"0x01\"");
        let asked = transaction(&json!({ "to": ALICE, "data": crate::policy::tests::transfer(BOB, 1) }));
        let judge = |rules: &str| {
            let policy = policy(&format!("{CONTRACTS}{all}{rules}")).unwrap();
            policy
                .judge::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0))
                .map_err(|denied| denied.rule)
        };
        assert!(judge(&first).is_ok());
        // Of the other it is no exact encoding, so in doubt it is denied.
        assert_eq!(judge(&twin), Err(Some("b".to_owned())));
        assert_eq!(judge(&format!("{first}{twin}")), Err(Some("b".to_owned())));
    }
}
