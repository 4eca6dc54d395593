//! A Safe's transaction as its owners sign it (EIP-712). Whoever has enough of their signatures can have the Safe make the
//! call, so it is opened as `execTransaction` is.

use crate::policy::call::Inner;
use crate::policy::typed::{SAFE_TX, Template, TypedFacts};
use crate::policy::wrapper::form;

/// Before Safe 1.0 one member had another name.
const OF_OLD: &str = "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 dataGas,uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)";

/// The call that a Safe makes when it is handed in; `None` where the typed data is no `SafeTx`.
pub(super) fn call(typed: &TypedFacts<'_>) -> Result<Option<Inner>, String> {
    let ty = typed.asked.ty();
    if ty.name() != SAFE_TX {
        return Ok(None);
    }
    let is_known = Template::named(SAFE_TX).is_some_and(|known| known.encode_type == ty.encode_type());
    if !is_known && ty.encode_type() != OF_OLD {
        return Err(
            "its members are not those of a Safe's transaction, so nobody can tell what it does".to_owned()
        );
    }
    if typed.verifier().is_none() {
        return Err(
            "its domain does not name both a chain and a Safe, so nobody can tell what it calls".to_owned()
        );
    }
    form::one(typed.asked.values(), (0, 1, 2), Some(3), Some(6)).map(Some)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Evidence;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, USDC, assess, caller, failed, policy, structured, template, transfer, typed,
    };
    use crate::policy::{DenialCause, Policy};
    use crate::transaction::TypedData;

    const SIGN: &str = r#"
[[rule]]
id = "sign"
effect = "allow"
kind = "typed_data"
chain = 1
clients = ["any"]
from = ["any"]
to = ["bob"]
primary_type = "SafeTx"
fields = { to = "any", gasToken = "any", refundReceiver = "any" }
"#;
    const INSIDE: &str = r#"
[[rule]]
id = "inside"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
via = ["bob"]
to = ["usdc"]
call = "transfer"
args = { to = "alice", amount = { max = "1_000 USDC" } }

[[rule]]
id = "ether"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
via = ["bob"]
to = ["alice"]
call = "empty"
value = { max = "5 wei" }
"#;
    const BUDGETS: &str = r#"
[[budget]]
id = "day"
asset = "usdc"
max = "1_000 USDC"
window = "24h"
match = { kind = "transaction" }

[[budget]]
id = "wei"
asset = "ether"
max = "1 ether"
window = "24h"
"#;

    fn message(changes: &[(&str, Value)]) -> Value {
        let nobody = Address::ZERO;
        let mut message = json!({
            "to": USDC, "value": 0, "data": transfer(ALICE, 7_000_000), "operation": 0, "safeTxGas": 0, "baseGas": 0,
            "gasPrice": 0, "gasToken": nobody, "refundReceiver": nobody, "nonce": 7,
        });
        for (key, value) in changes {
            message[*key] = value.clone();
        }
        message
    }

    /// A transaction of bob, who is the Safe here.
    fn safe(changes: &[(&str, Value)]) -> Value {
        template(SAFE_TX, BOB, message(changes))
    }

    fn with(rules: &[&str]) -> Policy {
        policy(&format!("{CONTRACTS}{}", rules.concat())).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn inv_04_what_a_safe_is_to_do_must_be_allowed_by_itself() {
        let closed = assess(&with(&[SIGN]), &safe(&[])).unwrap_err();
        assert_eq!(closed.cause, DenialCause::NoRule);
        assert!(closed.sentence.contains("call transfer(address,uint256) of `usdc`"), "{closed}");
        assert!(closed.sentence.contains("through `bob`"), "{closed}");

        let open = with(&[SIGN, INSIDE]);
        let direct = INSIDE.replace("via = [\"bob\"]\n", "");
        for (changes, failure) in [
            (vec![], None),
            (vec![("nonce", json!(8))], None),
            (vec![("data", json!(transfer(BOB, 1)))], Some("args.to")),
            (vec![("data", json!(transfer(ALICE, 1_000_000_001)))], Some("args.amount")),
            (vec![("data", json!(format!("{}00", transfer(ALICE, 1))))], Some("undecodable")),
            (vec![("data", json!("0x"))], Some("no_rule")),
            (vec![("value", json!(1))], Some("value")),
            (vec![("operation", json!(1))], Some("delegatecall")),
            (vec![("operation", json!(2))], Some("wrapper")),
            (vec![("gasPrice", json!(1))], Some("wrapper")),
            (vec![("to", json!(ALICE)), ("data", json!("0x")), ("value", json!(5))], None),
            (vec![("to", json!(ALICE)), ("data", json!("0x")), ("value", json!(6))], Some("value")),
        ] {
            assert_eq!(failed(&open, &safe(&changes)).as_deref(), failure, "{changes:?}");
        }
        assert_eq!(
            failed(&with(&[SIGN, &direct]), &safe(&[])).as_deref(),
            Some("via"),
            "the Safe makes the call"
        );
        let delegated = INSIDE.replace("call = \"transfer\"", "call = \"transfer\"\ndelegatecall = true");
        assert_eq!(failed(&with(&[SIGN, &delegated]), &safe(&[("operation", json!(1))])), None);
    }

    #[test]
    fn inv_04_deny_rules_budgets_and_rates_see_what_a_safe_is_to_do() {
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"usdc\"]\n";
        assert_eq!(failed(&with(&[SIGN, INSIDE, deny]), &safe(&[])).as_deref(), Some("rule"));

        let counted = with(&[SIGN, INSIDE, BUDGETS]);
        let charges = |changes: &[(&str, Value)]| assess(&counted, &safe(changes)).unwrap();
        assert_eq!(charges(&[]), [("day".to_owned(), "7 USDC".to_owned())]);
        let ether = charges(&[("to", json!(ALICE)), ("data", json!("0x")), ("value", json!(5))]);
        assert_eq!(ether, [("wei".to_owned(), "5 wei".to_owned())], "and no fee, which somebody else pays");

        let rate = "[[rate]]\nid = \"once\"\nmax = 1\nwindow = \"1h\"\nmatch = { kind = \"transaction\", to = [\"usdc\"] }\n";
        let policy = with(&[SIGN, INSIDE, rate]);
        let asked = || structured(&safe(&[]));
        assert!(policy.decide::<TypedData>(&caller("ann"), asked(), Evidence::default()).is_ok());
        let again = policy.decide::<TypedData>(&caller("ann"), asked(), Evidence::default()).unwrap_err();
        assert!(matches!(again.cause, DenialCause::Rate { .. }), "{again}");
    }

    /// What only looks like a Safe's transaction is not signed for want of an opening.
    #[test]
    fn inv_04_a_safe_tx_that_cannot_be_opened_is_refused() {
        let renamed = |from: &str, to: &str| {
            let mut message = message(&[]);
            let value = message.as_object_mut().unwrap().remove(from).unwrap();
            message[to] = value;
            message
        };
        let all = SIGN.replace("to = \"any\", gas", "to = \"any\", data = \"any\", gas");
        let of_old = with(&[&all.replace("\"SafeTx\"", &format!("\"{OF_OLD}\"")), INSIDE]);
        assert_eq!(failed(&of_old, &typed(OF_OLD, BOB, renamed("baseGas", "dataGas"))), None);
        let mut elsewhere = renamed("baseGas", "dataGas");
        elsewhere["data"] = json!(transfer(BOB, 1));
        assert_eq!(failed(&of_old, &typed(OF_OLD, BOB, elsewhere)).as_deref(), Some("args.to"));

        let other = OF_OLD.replace("dataGas", "moreGas");
        let policy = with(&[&all.replace("\"SafeTx\"", &format!("\"{other}\"")), INSIDE]);
        let refused = failed(&policy, &typed(&other, BOB, renamed("baseGas", "moreGas")));
        assert_eq!(refused.as_deref(), Some("wrapper"));

        // A domain without a chain is good on all; no allow rule matches it either.
        let mut unbound = safe(&[]);
        unbound["domain"].as_object_mut().unwrap().remove("chainId");
        unbound["types"]["EIP712Domain"].as_array_mut().unwrap().remove(1);
        assert!(failed(&with(&[SIGN, INSIDE]), &unbound).is_some());
    }
}
