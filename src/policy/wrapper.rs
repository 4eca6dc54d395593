//! Calls that carry other calls. Those that a contract does on itself are opened, and each is judged; all others are
//! refused, whatever a rule says.

use std::collections::HashMap;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Selector, keccak256};

use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Call, Facts, Subject, TransactionFacts};

/// By signature, since that is what anyone can check.
const SIGNATURES: &[&str] = &[
    // multicall of routers, vaults and name services, with their deadlines and block hashes
    "multicall(bytes[])",
    "multicall(uint256,bytes[])",
    "multicall(bytes32,bytes[])",
    "batch(bytes[])",
    "batch(bytes[],bool)",
    // Multicall, Multicall2, Multicall3
    "aggregate((address,bytes)[])",
    "tryAggregate(bool,(address,bytes)[])",
    "blockAndAggregate((address,bytes)[])",
    "tryBlockAndAggregate(bool,(address,bytes)[])",
    "aggregate3((address,bool,bytes)[])",
    "aggregate3Value((address,bool,uint256,bytes)[])",
    // Safe and its modules
    "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
    "execTransactionFromModule(address,uint256,bytes,uint8)",
    "execTransactionFromModuleReturnData(address,uint256,bytes,uint8)",
    "multiSend(bytes)",
    // Universal Router
    "execute(bytes,bytes[])",
    "execute(bytes,bytes[],uint256)",
    // ERC-4337 and ERC-7579 accounts, and the entry point (0.6, 0.7 and later)
    "execute(address,uint256,bytes)",
    "execute(bytes32,bytes)",
    "executeBatch(address[],bytes[])",
    "executeBatch(address[],uint256[],bytes[])",
    "executeBatch((address,uint256,bytes)[])",
    "executeUserOp((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes),bytes32)",
    "handleOps((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address)",
    "handleOps((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address)",
    "handleAggregatedOps(((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address,bytes)[],address)",
    "handleAggregatedOps(((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address,bytes)[],address)",
    // DSProxy, access managers, and accounts of other making
    "execute(address,bytes)",
    "execute(address,uint256,bytes,uint8)",
    "execute((address,uint256,bytes)[])",
];

/// Those whose calls a contract does on itself, with the same sender and value, and the number of the argument.
const ON_ITSELF: &[(&str, usize)] =
    &[("multicall(bytes[])", 0), ("multicall(uint256,bytes[])", 1), ("multicall(bytes32,bytes[])", 1)];

/// How many calls one transaction may carry, and how deep in each other.
const MAX_CALLS: usize = 64;
const MAX_DEPTH: usize = 4;

/// The known wrappers by selector.
#[derive(Debug)]
pub(in crate::policy) struct Wrappers(HashMap<Selector, &'static str>);

impl Wrappers {
    pub fn known() -> Self {
        let selector = |signature: &&'static str| {
            let hash = keccak256(signature.as_bytes());
            let selector = hash.first_chunk::<4>().copied().unwrap_or_default();
            (Selector::from(selector), *signature)
        };
        Self(SIGNATURES.iter().map(selector).collect())
    }

    /// The wrapper's signature.
    pub fn find(&self, selector: Selector) -> Option<&'static str> {
        self.0.get(&selector).copied()
    }
}

/// The argument in which the calls stand that `transaction` makes its target do on itself. The ABI must say that the
/// contract has such a function: of an unknown contract nobody knows what it does with them.
pub(in crate::policy) fn opened(transaction: &TransactionFacts<'_>) -> Option<usize> {
    let Call::Function(selector, _) = transaction.call else { return None };
    let function = transaction.contract?.abi.as_ref()?.by_selector(selector)?;
    on_itself(&function.signature)
}

pub(in crate::policy) fn on_itself(signature: &str) -> Option<usize> {
    ON_ITSELF.iter().find(|(known, _)| *known == signature).map(|(_, at)| *at)
}

/// Calls `each` with every call that is carried inside, at any depth.
pub(in crate::policy) fn inside(
    facts: &Facts<'_>,
    each: &mut dyn FnMut(&Facts<'_>) -> Result<(), Denied>,
) -> Result<(), Denied> {
    open(facts, &mut 0, 0, each)
}

fn open(
    facts: &Facts<'_>,
    count: &mut usize,
    depth: usize,
    each: &mut dyn FnMut(&Facts<'_>) -> Result<(), Denied>,
) -> Result<(), Denied> {
    let Subject::Transaction(transaction) = &facts.subject else { return Ok(()) };
    let Some(calls) = carried(transaction) else { return Ok(()) };
    let refused = |why: &str| {
        let sentence = format!("client `{}` may not {}: {why}", facts.client, facts.describe());
        Denied::new(DenialCause::Wrapper, sentence)
    };
    let calls = calls.map_err(|why| refused(&why))?;
    if calls.is_empty() {
        return Err(refused("it carries no call"));
    }
    *count = count.saturating_add(calls.len());
    if *count > MAX_CALLS || depth >= MAX_DEPTH {
        return Err(refused(&format!(
            "it carries more than {MAX_CALLS} calls, or more than {MAX_DEPTH} deep in each other"
        )));
    }
    for calldata in &calls {
        let subject = Subject::Transaction(transaction.inner(calldata));
        let inner = Facts { subject, ..*facts };
        each(&inner)?;
        open(&inner, count, depth.saturating_add(1), each)?;
    }
    Ok(())
}

/// The calls that are carried; `None` where it is no such call.
fn carried(transaction: &TransactionFacts<'_>) -> Option<Result<Vec<Vec<u8>>, String>> {
    let at = opened(transaction)?;
    let Call::Function(selector, _) = transaction.call else { return None };
    let function = transaction.contract?.abi.as_ref()?.by_selector(selector)?;
    let arguments = transaction.arguments(function);
    let values = match arguments.as_ref() {
        Ok(values) => values,
        Err(why) => return Some(Err(why.to_string())),
    };
    let calls = values.get(at).and_then(DynSolValue::as_array).unwrap_or_default();
    let bytes = |call: &DynSolValue| match call {
        DynSolValue::Bytes(bytes) => Ok(bytes.clone()),
        _ => Err("what it carries is no call".to_owned()),
    };
    Some(calls.iter().map(bytes).collect())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, hex};
    use serde_json::json;

    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::Charge;
    use crate::policy::abi::Function;
    use crate::policy::decide::Policy;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, caller, decide, policy, transaction,
    };
    use crate::transaction::Tx;

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
            assert_eq!(wrappers.find(selector), Some(signature));
        }
        assert!(
            wrappers.find("6a761202".parse().unwrap()).is_some_and(|s| s.starts_with("execTransaction("))
        );
        assert!(wrappers.find("1fad948c".parse().unwrap()).is_some_and(|s| s.starts_with("handleOps(")));
        assert!(wrappers.find("765e827f".parse().unwrap()).is_some_and(|s| s.starts_with("handleOps(")));
        assert_eq!(wrappers.find("a9059cbb".parse().unwrap()), None);
    }

    #[test]
    fn every_signature_is_one_and_they_differ() {
        for signature in SIGNATURES {
            assert_eq!(Function::parse(signature).unwrap().signature, *signature);
        }
        assert_eq!(Wrappers::known().0.len(), SIGNATURES.len());
    }

    const RULES: &str = r#"
[[rule]]
id = "multi"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
to = ["bob"]
call = "multicall(bytes[])"

[[rule]]
id = "swap"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
to = ["bob"]
call = "exactInputSingle"
args = { "params.tokenIn" = "usdc", "params.tokenOut" = "any", "params.recipient" = "$from", "params.amountIn" = { max = "0.00001 USDC" } }

[[rule]]
id = "wrap"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
to = ["bob"]
call = "wrapETH"

[[rule]]
id = "no-wrap-of-7"
effect = "deny"
call = "wrapETH(uint256 value)"
kind = "transaction"
args = { value = 7 }
"#;

    fn router(more: &str) -> Policy {
        let contracts = CONTRACTS.replace("bob   = {", "bob = { abi = \"uniswap-v3-router-02\",");
        policy(&format!("{contracts}{RULES}{more}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    fn swap(recipient: &str, amount: u64) -> String {
        let small = |bits| DynSolValue::Uint(U256::ZERO, bits);
        let (tokens, whom) = ([address(USDC), address(ALICE)], address(recipient));
        let [one, other] = tokens;
        let params = vec![one, other, small(24), whom, number(amount), number(1), small(160)];
        let signature = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))";
        call(signature, &[DynSolValue::Tuple(params)])
    }

    fn wrap(amount: u64) -> String {
        call("wrapETH(uint256)", &[number(amount)])
    }

    fn multicall(calls: &[String]) -> String {
        let calls = calls.iter().map(|call| DynSolValue::Bytes(hex::decode(call).unwrap())).collect();
        call("multicall(bytes[])", &[DynSolValue::Array(calls)])
    }

    #[test]
    fn inv_04_every_call_inside_is_judged_by_itself() {
        use DenialCause::{NoRule, Rule, Undecodable};
        let policy = router("");
        let good = swap(TREASURY, 10);
        let nest = |times: usize| (0..times).fold(good.clone(), |inner, _| multicall(&[inner]));
        for (data, expected) in [
            (good.clone(), None),
            (multicall(std::slice::from_ref(&good)), None),
            (multicall(&[good.clone(), wrap(6), good.clone()]), None),
            (multicall(&[good.clone(), multicall(&[wrap(6), good.clone()])]), None),
            (nest(MAX_DEPTH), None),
            (multicall(&vec![good.clone(); MAX_CALLS]), None),
            (multicall(&[swap(BOB, 10)]), Some((NoRule, "inside another call"))),
            (multicall(&[good.clone(), swap(BOB, 10)]), Some((NoRule, "args.params.recipient"))),
            (multicall(&[good.clone(), swap(TREASURY, 11)]), Some((NoRule, "args.params.amountIn"))),
            (multicall(&[multicall(&[swap(BOB, 10)])]), Some((NoRule, "args.params.recipient"))),
            (multicall(&[wrap(7)]), Some((Rule, "no-wrap-of-7"))),
            (multicall(&[good.clone(), multicall(&[wrap(7)])]), Some((Rule, "no-wrap-of-7"))),
            (multicall(&[call("refundETH()", &[])]), Some((NoRule, "refundETH()"))),
            (multicall(&["0xdeadbeef".to_owned()]), Some((Undecodable, "no function with selector"))),
            (multicall(&["0x".to_owned()]), Some((Undecodable, "fewer than 4 bytes"))),
            (multicall(&[format!("{good}00")]), Some((Undecodable, "left over"))),
            (format!("{}00", multicall(std::slice::from_ref(&good))), Some((Undecodable, "left over"))),
            (multicall(&[]), Some((DenialCause::Wrapper, "carries no call"))),
            (nest(MAX_DEPTH + 1), Some((DenialCause::Wrapper, "deep in each other"))),
            (
                multicall(&vec![good.clone(); MAX_CALLS + 1]),
                Some((DenialCause::Wrapper, "more than 64 calls")),
            ),
            (
                multicall(&[multicall(&vec![good.clone(); 40]), multicall(&vec![good.clone(); 40])]),
                Some((DenialCause::Wrapper, "more than 64 calls")),
            ),
        ] {
            let judged = decide(&policy, "ann", &json!({ "to": BOB, "data": data }));
            match (&judged, expected) {
                (Ok(_), None) => {}
                (Err(denied), Some((cause, why))) => {
                    assert!(
                        denied.cause == cause && denied.sentence.contains(why),
                        "{denied}: {cause:?} {why}"
                    );
                }
                _ => panic!("{judged:?} {expected:?}"),
            }
        }
        // What it sends along is there for every call inside.
        let paid = json!({ "to": BOB, "data": multicall(&[good]), "value": "0x1" });
        assert_eq!(decide(&policy, "ann", &paid).unwrap_err().cause, NoRule);
    }

    #[test]
    fn budgets_and_rates_see_every_call_inside() {
        let swaps = "call = \"exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))\"";
        let budget = |id: &str, what: &str| format!("[[budget]]\nid = \"{id}\"\nwindow = \"24h\"\n{what}\n");
        let rate = format!(
            "[[rate]]\nid = \"r\"\nmax = 2\nwindow = \"24h\"\nmatch = {{ kind = \"transaction\", {swaps} }}\n"
        );
        let policy = router(&format!(
            "{}{}{}{}{}{rate}",
            budget("usdc", "asset = \"usdc\"\nmax = \"1 USDC\""),
            budget("coin", "asset = \"ether\"\nmax = \"1 ether\""),
            budget(
                "coin-of-swaps",
                &format!(
                    "asset = \"ether\"\nmax = \"1 ether\"\nmatch = {{ kind = \"transaction\", {swaps} }}"
                )
            ),
            budget("rules", "sum = \"count\"\nmax = 9\nper = [\"rule\"]\nmatch = { kind = \"transaction\" }"),
            budget(
                "swaps",
                &format!("sum = \"count\"\nmax = 9\nmatch = {{ kind = \"transaction\", {swaps} }}")
            ),
        ));
        let data = |amounts: &[u64]| {
            let calls: Vec<_> = amounts.iter().map(|amount| swap(TREASURY, *amount)).collect();
            json!({ "to": BOB, "data": multicall(&calls), "gas": "0x186a0", "gasPrice": "0x1" })
        };
        let asked = transaction(&data(&[3, 4]));
        let (rule, charges) = policy
            .assess::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0))
            .unwrap_or_else(|e| panic!("{e}"));
        let of = |charge: &Charge| (charge.limit.id.clone(), charge.scope.clone(), charge.amount);
        let charges: BTreeSet<_> = charges.iter().map(of).collect();
        // Each call is counted under its own rule, and the ether of them all once, also where the carrier is not counted.
        let expected = [
            ("coin", "chain=1", 100_000_u64),
            ("coin-of-swaps", "chain=1", 100_000),
            ("rules", "rule=multi", 1),
            ("rules", "rule=swap", 2),
            ("swaps", "", 2),
            ("usdc", "", 7),
        ];
        let expected = expected.map(|(id, scope, n)| (id.to_owned(), scope.to_owned(), U256::from(n)));
        assert_eq!((rule.as_ref(), charges), ("multi", expected.into()));

        let three = decide(&policy, "ann", &data(&[1, 1, 1])).unwrap_err();
        assert!(matches!(three.cause, DenialCause::Rate { .. }), "{three}");
        assert!(decide(&policy, "ann", &data(&[1, 1])).is_ok(), "what was refused is not counted");
        assert!(matches!(decide(&policy, "ann", &data(&[1])).unwrap_err().cause, DenialCause::Rate { .. }));
    }
}
