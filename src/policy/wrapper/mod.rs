//! Calls that carry other calls: each of these is opened, so that what it carries is judged as well, or refused.

mod commands;
mod form;
mod open;
mod safe_tx;

pub(in crate::policy) use form::{Form, Wrappers};
pub(in crate::policy) use open::Whole;

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, hex};
    use serde_json::json;

    use std::collections::BTreeSet;

    use super::open::{MAX_CALLS, MAX_DEPTH};
    use crate::clock::Timestamp;
    use crate::policy::Charge;
    use crate::policy::decide::Policy;
    use crate::policy::denied::DenialCause;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, caller, decide, policy, transaction,
    };
    use crate::transaction::Tx;
    use alloy_dyn_abi::DynSolValue;

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
        assert_eq!(three.cause, DenialCause::Rate { retry_after: None }, "no wait is long enough: {three}");
        assert!(three.sentence.contains("it counts 3 times on rate `r`"), "{three}");
        assert!(decide(&policy, "ann", &data(&[1])).is_ok(), "what was refused is not counted");
        let two = decide(&policy, "ann", &data(&[1, 1])).unwrap_err();
        assert!(matches!(two.cause, DenialCause::Rate { retry_after: Some(_) }), "{two}");
        assert!(decide(&policy, "ann", &data(&[1])).is_ok(), "of two none was counted");
    }
}
