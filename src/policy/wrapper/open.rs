//! A payload with everything that it carries, opened once for all that look at it.

use alloy_primitives::U256;

use crate::policy::call::{Call, Inner, Made, TransactionFacts};
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Facts, Subject};
use crate::policy::wrapper::{Wrappers, is_of_account, safe_tx};

/// How many calls one transaction may carry, and how deep in each other.
pub(super) const MAX_CALLS: usize = 64;
pub(super) const MAX_DEPTH: usize = 4;

/// A payload, and the calls that it carries.
pub(in crate::policy) struct Whole<'a> {
    /// The payload first; each call behind the one that carries it.
    calls: Vec<Node<'a>>,
    /// How many of them are known of, whether they were looked at or not.
    count: usize,
    /// Why not all could be opened.
    refused: Option<Denied>,
}

struct Node<'a> {
    facts: Facts<'a>,
    /// The position of the call that carries it.
    by: usize,
}

/// The ether of one scope, at a call and in what it carries.
struct Ether<S> {
    scope: S,
    /// What comes along: the same wei for a call and for all that runs as it, so the most of them.
    along: U256,
    /// What is sent on, call by call.
    sent: U256,
}

impl<S> Ether<S> {
    /// What is sent on comes from what came along first.
    fn total(&self) -> U256 {
        self.along.max(self.sent)
    }
}

impl<'a> Whole<'a> {
    pub fn open(payload: Facts<'a>, wrappers: &Wrappers) -> Self {
        let mut whole = Self { calls: vec![Node { facts: payload, by: 0 }], count: 0, refused: None };
        whole.refused = whole.open_at(0, 0, wrappers).err();
        whole
    }

    /// What is signed.
    pub fn payload(&self) -> Option<&Facts<'a>> {
        self.calls.first().map(|node| &node.facts)
    }

    /// What is signed, and each call that it carries and that could be opened.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = &Facts<'a>> + ExactSizeIterator {
        self.calls.iter().map(|node| &node.facts)
    }

    /// Whether all that it carries is known.
    pub fn is_open(&self) -> Result<(), Denied> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    /// How much ether is sent, by what `scope` says of each call (`None`: it does not count). Ether leaves once: what is
    /// sent along for the calls inside is not counted again when they send it on. But each call that a contract makes sends its
    /// own, however deep the delegated code stands that makes it.
    pub fn sent<S: PartialEq>(&self, scope: impl Fn(usize, &Facts<'a>) -> Option<S>) -> Vec<(S, U256)> {
        let mut inside: Vec<Vec<Ether<S>>> = self.calls.iter().map(|_| Vec::new()).collect();
        for (at, node) in self.calls.iter().enumerate().rev() {
            let mut sums = inside.get_mut(at).map(std::mem::take).unwrap_or_default();
            let transaction = match &node.facts.subject {
                Subject::Transaction(transaction) => Some(transaction),
                Subject::TypedData(_) | Subject::Message(_) | Subject::Authorization(_) => None,
            };
            if let (Some(transaction), Some(scope)) = (transaction, scope(at, &node.facts)) {
                add(&mut sums, Ether { scope, along: transaction.value, sent: U256::ZERO });
            }
            if at == 0 {
                let total = |ether: Ether<S>| {
                    let total = ether.total();
                    (ether.scope, total)
                };
                return sums.into_iter().map(total).collect();
            }
            let (Some(transaction), Some(carrier)) = (transaction, inside.get_mut(node.by)) else { continue };
            for ether in sums {
                let is_sent = transaction.made == Made::Sent;
                let (along, sent) =
                    if is_sent { (U256::ZERO, ether.total()) } else { (ether.along, ether.sent) };
                add(carrier, Ether { along, sent, ..ether });
            }
        }
        Vec::new()
    }

    fn open_at(&mut self, at: usize, depth: usize, wrappers: &Wrappers) -> Result<(), Denied> {
        let Some(facts) = self.calls.get(at).map(|node| &node.facts) else { return Ok(()) };
        let refused = |why: &str| {
            let sentence = format!("client `{}` may not {}: {why}", facts.client, facts.describe());
            Denied::new(DenialCause::Wrapper, sentence)
        };
        let calls = match &facts.subject {
            Subject::Transaction(transaction) => calls_of(transaction, wrappers),
            Subject::TypedData(typed) => safe_tx::call(typed).map(|call| call.map(|call| (vec![call], true))),
            Subject::Message(_) | Subject::Authorization(_) => Ok(None),
        };
        let Some((calls, by_account)) = calls.map_err(|why| refused(&why))? else { return Ok(()) };
        if calls.is_empty() {
            return Err(refused("it carries no call"));
        }
        self.count = self.count.saturating_add(calls.len());
        if self.count > MAX_CALLS || depth >= MAX_DEPTH {
            return Err(refused(&format!(
                "it carries more than {MAX_CALLS} calls, or more than {MAX_DEPTH} deep in each other"
            )));
        }
        let carried = |inner: Inner| match &facts.subject {
            Subject::Transaction(transaction) => Some(transaction.carrying(inner, by_account, facts.book)),
            Subject::TypedData(typed) => {
                typed.verifier().map(|safe| TransactionFacts::handed_in(safe, inner, facts.book))
            }
            Subject::Message(_) | Subject::Authorization(_) => None,
        };
        let inner = calls.into_iter().filter_map(carried).map(Subject::Transaction);
        for facts in inner.map(|subject| facts.about(subject)).collect::<Vec<_>>() {
            let behind = self.calls.len();
            self.calls.push(Node { facts, by: at });
            self.open_at(behind, depth.saturating_add(1), wrappers)?;
        }
        Ok(())
    }
}

/// The calls that a call carries, and whether it is an account contract that makes them; `None` where it is no carrier that is
/// opened.
fn calls_of(
    transaction: &TransactionFacts<'_>,
    wrappers: &Wrappers,
) -> Result<Option<(Vec<Inner>, bool)>, String> {
    let Call::Function(selector) = transaction.call else { return Ok(None) };
    let known = wrappers.find(selector).filter(|(_, form)| form.opens(transaction));
    let Some(((signature, form), function)) = known.zip(transaction.function()) else { return Ok(None) };
    let arguments = transaction.arguments(function);
    let arguments = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
    let calls = form.calls(transaction, arguments)?;
    Ok(Some((calls, is_of_account(signature))))
}

fn add<S: PartialEq>(sums: &mut Vec<Ether<S>>, ether: Ether<S>) {
    match sums.iter_mut().find(|known| known.scope == ether.scope) {
        Some(sum) => {
            sum.along = sum.along.max(ether.along);
            sum.sent = sum.sent.saturating_add(ether.sent);
        }
        None => sums.push(ether),
    }
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::hex;
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::Policy;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, USDC, address, call, caller, decide, policy, transaction, transfer,
    };
    use crate::transaction::Tx;

    const MULTICALL: &str = "0xcA11bde05977b3631167028862bE2a173976CA11";
    const SAFE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
    const MULTISEND: &str = "0x40A2aCCbd92BCA938b02010E17A5b8929b49130D";
    const WALLET: &str = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65";
    const STRANGER: &str = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc";

    const MORE: &str = r#"
multicall = { chain = 1, address = "0xcA11bde05977b3631167028862bE2a173976CA11", abi = "multicall3" }
safe      = { chain = 1, address = "0x90F79bf6EB2c4f870365E785982E1f101E93b906", abi = "safe" }
multisend = { chain = 1, address = "0x40A2aCCbd92BCA938b02010E17A5b8929b49130D", abi = "multisend" }
wallet    = { chain = 1, address = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65", abi = "erc4337-simple-account" }
"#;

    fn rule(id: &str, to: &str, more: &str) -> String {
        format!(
            "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"treasury\"]\nto = [\"{to}\"]\n{more}\n"
        )
    }

    /// Everything that carries calls may be called; of what they carry, only what `inside` allows.
    fn carriers(inside: &str) -> Policy {
        let rules = [
            rule("three", "multicall", "call = \"aggregate3\"\nargs = { \"all(calls.target)\" = \"any\" }"),
            rule(
                "values",
                "multicall",
                "call = \"aggregate3Value\"\nargs = { \"all(calls.target)\" = \"any\" }\nvalue = \"any\"",
            ),
            rule("try", "multicall", "call = \"tryAggregate\"\nargs = { \"all(calls.target)\" = \"any\" }"),
            rule(
                "safe",
                "safe",
                "call = \"execTransaction\"\nargs = { to = \"any\", gasToken = \"any\", refundReceiver = \"any\" }",
            ),
            rule("one", "wallet", "call = \"execute\"\nargs = { dest = \"any\" }"),
            rule(
                "columns",
                "wallet",
                "call = \"executeBatch(address[],uint256[],bytes[])\"\nargs = { 0 = \"any\" }",
            ),
            rule(
                "tuples",
                "wallet",
                "call = \"executeBatch((address,uint256,bytes)[])\"\nargs = { 0 = \"any\" }",
            ),
        ];
        let text = format!("{CONTRACTS}{MORE}{}{inside}", rules.concat());
        policy(&text).unwrap_or_else(|e| panic!("{e}"))
    }

    const PAY: &str = "call = \"transfer\"\nargs = { to = \"alice\", amount = { max = \"1 USDC\" } }\n";

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    fn bytes(hex: &str) -> DynSolValue {
        DynSolValue::Bytes(hex::decode(hex).unwrap())
    }

    fn list(items: Vec<DynSolValue>) -> DynSolValue {
        DynSolValue::Array(items)
    }

    fn three(calls: &[(&str, &str)]) -> String {
        let one = |(to, data): &(&str, &str)| {
            DynSolValue::Tuple(vec![address(to), DynSolValue::Bool(false), bytes(data)])
        };
        call("aggregate3((address,bool,bytes)[])", &[list(calls.iter().map(one).collect())])
    }

    fn exec_with(to: &str, value: u64, data: &str, operation: u64, gas_price: u64) -> String {
        let signature =
            "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)";
        let nobody = || DynSolValue::Address(alloy_primitives::Address::ZERO);
        let operation = DynSolValue::Uint(U256::from(operation), 8);
        let start =
            [address(to), number(value), bytes(data), operation, number(0), number(0), number(gas_price)];
        call(signature, &[&start[..], &[nobody(), nobody(), bytes("0x01")]].concat())
    }

    fn exec(to: &str, value: u64, data: &str, operation: u64) -> String {
        exec_with(to, value, data, operation, 0)
    }

    fn packed(calls: &[(u8, &str, u64, &str)]) -> Vec<u8> {
        let one = |(operation, to, value, data): &(u8, &str, u64, &str)| {
            let data = hex::decode(data).unwrap();
            let to: alloy_primitives::Address = to.parse().unwrap();
            let words = [U256::from(*value).to_be_bytes::<32>(), U256::from(data.len()).to_be_bytes::<32>()];
            [&[*operation][..], to.as_slice(), &words.concat(), &data].concat()
        };
        calls.iter().flat_map(one).collect()
    }

    fn multisend(calls: &[(u8, &str, u64, &str)]) -> String {
        call("multiSend(bytes)", &[DynSolValue::Bytes(packed(calls))])
    }

    fn check(policy: &Policy, to: &str, data: &str, expected: Result<&str, (DenialCause, &str)>) {
        match (decide(policy, "ann", &json!({ "to": to, "data": data })), expected) {
            (Ok(rule), Ok(wanted)) => assert_eq!(rule, wanted),
            (Err(denied), Err((cause, why))) => {
                assert!(denied.cause == cause && denied.sentence.contains(why), "{denied}: {cause:?} {why}");
            }
            (got, wanted) => panic!("{got:?}: {wanted:?}: {data}"),
        }
    }

    #[test]
    fn inv_04_what_another_contract_does_is_allowed_only_through_it() {
        use DenialCause::{NoRule, Undecodable, Wrapper};
        let paid = transfer(ALICE, 1_000_000);
        let direct = carriers(&rule("pay", "usdc", PAY));
        let through = carriers(&rule("pay", "usdc", &format!("via = [\"multicall\"]\n{PAY}")));
        check(&direct, USDC, &paid, Ok("pay"));
        let own = "the account makes the call itself";
        check(&through, USDC, &paid, Err((NoRule, own)));
        let data = three(&[(USDC, &paid)]);
        check(&direct, MULTICALL, &data, Err((NoRule, "`via`: the call is made through `multicall`")));
        check(&through, MULTICALL, &data, Ok("three"));
        check(&through, SAFE, &exec(USDC, 0, &paid, 0), Err((NoRule, "through `safe`")));

        let much = transfer(ALICE, 1_000_001);
        for (data, expected) in [
            (three(&[(USDC, &paid), (USDC, &paid)]), Ok("three")),
            (three(&[(MULTICALL, &three(&[(USDC, &paid)]))]), Err((NoRule, "call aggregate3"))),
            (three(&[(USDC, &paid), (USDC, &much)]), Err((NoRule, "args.amount"))),
            (three(&[(USDC, &paid), (USDC, &format!("{paid}00"))]), Err((Undecodable, "left over"))),
            (three(&[(USDC, "0xdeadbeef")]), Err((Undecodable, "no function with selector"))),
            (three(&[(USDC, "0x")]), Err((NoRule, "through `multicall`"))),
            (three(&[(STRANGER, &paid)]), Err((NoRule, "no rule allows it"))),
            (three(&[]), Err((Wrapper, "carries no call"))),
        ] {
            check(&through, MULTICALL, &data, expected);
        }
        let twice = rule(
            "again",
            "multicall",
            "via = [\"multicall\"]\ncall = \"aggregate3\"\nargs = { 0 = \"any\" }",
        );
        let deep = carriers(&format!("{}{twice}", rule("pay", "usdc", &format!("via = [\"any\"]\n{PAY}"))));
        check(&deep, USDC, &paid, Ok("pay"));
        check(&deep, MULTICALL, &three(&[(MULTICALL, &three(&[(USDC, &paid)]))]), Ok("three"));
        let pairs = list(vec![DynSolValue::Tuple(vec![address(USDC), bytes(&paid)])]);
        let tried = call("tryAggregate(bool,(address,bytes)[])", &[DynSolValue::Bool(true), pairs]);
        check(&deep, MULTICALL, &tried, Ok("try"));
    }

    #[test]
    fn inv_04_a_deny_rule_sees_what_is_inside_whoever_makes_it() {
        let all = rule("all", "any", "via = [\"any\"]\ncall = \"any\"\nvalue = \"any\"");
        let approve = call("approve(address,uint256)", &[address(BOB), number(1)]);
        let denied = "[[rule]]\nid = \"no-approvals\"\neffect = \"deny\"\nkind = \"transaction\"\nfrom = [\"treasury\"]\n\
                      call = \"approve(address,uint256)\"\n";
        let open = carriers(&all);
        let closed = carriers(&format!("{all}{denied}"));
        let inside = [
            (MULTICALL, three(&[(USDC, &transfer(ALICE, 1)), (USDC, &approve)])),
            (SAFE, exec(USDC, 0, &approve, 0)),
            (WALLET, call("execute(address,uint256,bytes)", &[address(USDC), number(0), bytes(&approve)])),
            (SAFE, exec(MULTICALL, 0, &three(&[(USDC, &approve)]), 0)),
        ];
        for (to, data) in inside {
            assert!(decide(&open, "ann", &json!({ "to": to, "data": data })).is_ok(), "{data}");
            check(&closed, to, &data, Err((DenialCause::Rule, "no-approvals")));
        }
        let only_safe = denied.replace("from =", "via = [\"safe\"]\nfrom =");
        let policy = carriers(&format!("{all}{only_safe}"));
        check(&policy, SAFE, &exec(USDC, 0, &approve, 0), Err((DenialCause::Rule, "no-approvals")));
        check(&policy, USDC, &approve, Ok("all"));
    }

    #[test]
    fn inv_04_what_nobody_knows_inside_a_call_must_be_named() {
        use DenialCause::{NoRule, Wrapper};
        let all = carriers(&rule("all", "any", "via = [\"any\"]\ncall = \"any\"\nvalue = \"any\""));
        let ping = call("ping(uint8)", &[DynSolValue::Uint(U256::from(7), 8)]);
        check(&all, STRANGER, &ping, Ok("all"));
        check(&all, MULTICALL, &three(&[(STRANGER, &ping)]), Err((Wrapper, "must be one that a rule names")));
        check(
            &all,
            MULTICALL,
            &three(&[(STRANGER, "0x01")]),
            Err((Wrapper, "must be one that a rule names")),
        );
        let named =
            carriers(&rule("ping", "any", "via = [\"any\"]\ncall = \"ping(uint8 n)\"\nargs = { n = 7 }"));
        check(&named, MULTICALL, &three(&[(STRANGER, &ping)]), Ok("three"));
        check(
            &named,
            MULTICALL,
            &three(&[(STRANGER, &format!("{ping}00"))]),
            Err((NoRule, "no exact encoding")),
        );

        // A function of a known contract in whose arguments calls could stand.
        let invoke = "[{\"type\":\"function\",\"name\":\"invoke\",\"inputs\":[{\"name\":\"a\",\"type\":\"bytes32[]\"},{\"name\":\"d\",\"type\":\"bytes[]\"}],\"outputs\":[],\"stateMutability\":\"payable\"}]";
        let bulker = |call: &str| {
            let text = format!(
                "[contracts]\nbulker = {{ chain = 1, address = \"{STRANGER}\", abi = \"bulker.json\" }}\n{}",
                rule("bulk", "bulker", &format!("call = \"{call}\""))
            );
            let source =
                crate::policy::load::Source { name: "p.toml".to_owned(), path: "p.toml".into(), text };
            let beside = |_: crate::policy::load::Beside<'_>| Ok(invoke.to_owned());
            Policy::of_sources(&[source], &crate::policy::tests::world(), beside).unwrap()
        };
        let data = call("invoke(bytes32[],bytes[])", &[list(vec![]), list(vec![bytes(&ping)])]);
        check(
            &bulker("any"),
            STRANGER,
            &data,
            Err((Wrapper, "may carry other calls, so a rule has to name it")),
        );
        check(&bulker("invoke\"\nargs = { d = \"any\" } #"), STRANGER, &data, Ok("bulk"));
    }

    #[test]
    fn inv_04_a_delegatecall_is_a_permission_of_its_own() {
        use DenialCause::{NoRule, Undecodable, Wrapper};
        let paid = transfer(ALICE, 1_000_000);
        let pay = rule("pay", "usdc", &format!("via = [\"safe\"]\n{PAY}"));
        let batch = rule("batch", "multisend", "via = [\"safe\"]\ndelegatecall = true\ncall = \"multiSend\"");
        let policy = carriers(&format!("{pay}{batch}"));
        let both = multisend(&[(0, USDC, 0, &paid), (0, USDC, 0, &paid)]);
        for (data, expected) in [
            (exec(USDC, 0, &paid, 0), Ok("safe")),
            (exec(USDC, 0, &paid, 1), Err((NoRule, "`delegatecall`: it is a delegatecall"))),
            (exec(MULTISEND, 0, &both, 1), Ok("safe")),
            // The rule is for the delegatecall only, and what a contract sends as itself is not the Safe's.
            (exec(MULTISEND, 0, &both, 0), Err((NoRule, "it is no delegatecall"))),
            (exec(MULTISEND, 1, &both, 1), Err((Wrapper, "a delegatecall sends no ether"))),
            (exec(USDC, 0, &paid, 2), Err((Wrapper, "its operation is 2"))),
            (exec_with(USDC, 0, &paid, 0, 1), Err((Wrapper, "its `gasPrice` must be 0"))),
            (
                exec(MULTISEND, 0, &multisend(&[(1, USDC, 0, &paid)]), 1),
                Err((NoRule, "it is a delegatecall")),
            ),
            (exec(MULTISEND, 0, &multisend(&[(0, USDC, 0, &transfer(BOB, 1))]), 1), Err((NoRule, "args.to"))),
            (exec(MULTISEND, 0, &multisend(&[(7, USDC, 0, &paid)]), 1), Err((Wrapper, "its operation is 7"))),
            (
                exec(
                    MULTISEND,
                    0,
                    &multisend(&[(0, "0x0000000000000000000000000000000000000000", 0, &paid)]),
                    1,
                ),
                Err((Wrapper, "the zero address")),
            ),
            (exec(MULTISEND, 0, &multisend(&[]), 1), Err((Wrapper, "carries no call"))),
            (exec(MULTISEND, 0, &format!("{both}00"), 1), Err((Undecodable, "left over"))),
            (
                exec(MULTISEND, 0, &call("multiSend(bytes)", &[bytes("0x0011")]), 1),
                Err((Wrapper, "in the middle of one")),
            ),
        ] {
            check(&policy, SAFE, &data, expected);
        }
        let mut cut = packed(&[(0, USDC, 0, &paid)]);
        cut.pop();
        let cut = call("multiSend(bytes)", &[DynSolValue::Bytes(cut)]);
        check(&policy, SAFE, &exec(MULTISEND, 0, &cut, 1), Err((Wrapper, "in the middle of one")));
        // Delegated code that runs calls on itself would run them on the Safe.
        let router = CONTRACTS.replace("bob   = {", "bob = { abi = \"uniswap-v3-router-02\",");
        let any = rule("all", "any", "via = [\"any\"]\ndelegatecall = true\ncall = \"any\"");
        let safe = rule(
            "safe",
            "safe",
            "call = \"execTransaction\"\nargs = { to = \"any\", gasToken = \"any\", refundReceiver = \"any\" }",
        );
        let policy = crate::policy::tests::policy(&format!("{router}{MORE}{any}{safe}")).unwrap();
        let multicall = call("multicall(bytes[])", &[list(vec![bytes(&call("refundETH()", &[]))])]);
        check(&policy, SAFE, &exec(BOB, 0, &multicall, 1), Err((Wrapper, "carries other calls inside it")));
    }

    #[test]
    fn inv_04_an_account_of_erc_4337_is_opened_and_lists_must_fit() {
        use DenialCause::{NoRule, Wrapper};
        let ether =
            rule("ether", "alice", "via = [\"wallet\"]\ncall = \"empty\"\nvalue = { max = \"5 wei\" }");
        let pay = rule("pay", "usdc", &format!("via = [\"wallet\"]\n{PAY}"));
        let policy = carriers(&format!("{ether}{pay}"));
        let paid = transfer(ALICE, 1);
        let columns = |to: &[&str], values: &[u64], data: &[&str]| {
            let to = to.iter().map(|to| address(to)).collect();
            let values = values.iter().map(|value| number(*value)).collect();
            let data = data.iter().map(|data| bytes(data)).collect();
            call("executeBatch(address[],uint256[],bytes[])", &[list(to), list(values), list(data)])
        };
        let tuple = |value| DynSolValue::Tuple(vec![address(ALICE), number(value), bytes("0x")]);
        let one = |to: &str, value, data: &str| {
            call("execute(address,uint256,bytes)", &[address(to), number(value), bytes(data)])
        };
        for (data, expected) in [
            (one(ALICE, 5, "0x"), Ok("one")),
            (one(ALICE, 6, "0x"), Err((NoRule, "`value`: value is 6 wei"))),
            (one(USDC, 0, &paid), Ok("one")),
            (one(USDC, 1, &paid), Err((NoRule, "`value`"))),
            (columns(&[ALICE, USDC], &[5, 0], &["0x", &paid]), Ok("columns")),
            (columns(&[USDC], &[], &[&paid]), Ok("columns")),
            (columns(&[ALICE, USDC], &[5], &["0x", &paid]), Err((Wrapper, "not of one length"))),
            (columns(&[ALICE, USDC], &[], &[&paid]), Err((Wrapper, "not of one length"))),
            (columns(&[ALICE, USDC], &[0, 5], &["0x", &paid]), Err((NoRule, "`value`"))),
            (
                call("executeBatch((address,uint256,bytes)[])", &[list(vec![tuple(4), tuple(5)])]),
                Ok("tuples"),
            ),
        ] {
            check(&policy, WALLET, &data, expected);
        }
    }

    #[test]
    fn ether_and_tokens_are_counted_once_through_what_carries_them() {
        let budget = |id: &str, what: &str| format!("[[budget]]\nid = \"{id}\"\nwindow = \"24h\"\n{what}\n");
        let all =
            rule("all", "any", "via = [\"any\"]\ndelegatecall = false\ncall = \"any\"\nvalue = \"any\"");
        let batch = rule(
            "batch",
            "multisend",
            "via = [\"safe\"]\ndelegatecall = true\ncall = \"multiSend\"\nvalue = \"any\"",
        );
        let policy = carriers(&format!(
            "{all}{batch}{}{}{}{}",
            budget("usdc", "asset = \"usdc\"\nmax = \"1 USDC\""),
            budget("coin", "asset = \"ether\"\nmax = \"1 ether\""),
            budget("to", "asset = \"ether\"\nmax = \"1 ether\"\nper = [\"to\"]"),
            budget("calls", "sum = \"count\"\nmax = 9\nmatch = { kind = \"transaction\", to = [\"usdc\"] }"),
        ));
        let taken = |to: &str, data: &str, value: u64, id: &str| {
            let fields = json!({ "to": to, "data": data, "value": format!("0x{value:x}"), "gas": "0x3e8", "gasPrice": "0x1" });
            let assessed =
                policy.assess::<Tx>(&caller("ann"), &transaction(&fields), Timestamp::from_millis(0));
            let (_, charges) = assessed.unwrap_or_else(|e| panic!("{e}"));
            let of = charges.into_iter().filter(|charge| charge.limit.id == id);
            of.map(|charge| (charge.scope, charge.amount.to::<u64>())).collect::<Vec<_>>()
        };
        let coin = |to, data: &str, value| taken(to, data, value, "coin")[0].1;
        let valued = |calls: &[(&str, u64)]| {
            let one = |(to, value): &(&str, u64)| {
                DynSolValue::Tuple(vec![address(to), DynSolValue::Bool(false), number(*value), bytes("0x")])
            };
            call("aggregate3Value((address,bool,uint256,bytes)[])", &[list(calls.iter().map(one).collect())])
        };
        // The fee is 1000 wei. What is sent on is what was sent along; what is more comes from the carrier.
        let (two, more) = (valued(&[(ALICE, 3), (BOB, 4)]), valued(&[(ALICE, 30), (ALICE, 4)]));
        assert_eq!(coin(MULTICALL, &two, 7), 1007);
        assert_eq!(coin(MULTICALL, &two, 9), 1009);
        assert_eq!(coin(MULTICALL, &more, 9), 1034);
        let to = |at: &str| format!("chain=1 to={at}");
        assert_eq!(
            taken(MULTICALL, &more, 9, "to").into_iter().collect::<std::collections::BTreeSet<_>>(),
            [(to(MULTICALL), 1009), (to(ALICE), 1034)].into()
        );
        let sent = exec(MULTISEND, 0, &multisend(&[(0, ALICE, 5, "0x"), (0, BOB, 6, "0x")]), 1);
        assert_eq!(coin(SAFE, &sent, 0), 1011, "a Safe's own ether counts");
        // Also where batches inside the batch send it, each by the code that the Safe runs as its own.
        let inner = |to: &str, value: u64| multisend(&[(0, to, value, "0x")]);
        let (five, six) = (inner(ALICE, 5), inner(BOB, 6));
        for (calls, along, sum) in [
            (vec![(1, MULTISEND, 0, five.as_str()), (1, MULTISEND, 0, &six)], 0, 1011),
            (vec![(1, MULTISEND, 0, six.as_str()), (0, ALICE, 5, "0x")], 0, 1011),
            (vec![(0, ALICE, 5, "0x"), (1, MULTISEND, 0, six.as_str())], 9, 1011),
            (vec![(0, ALICE, 5, "0x"), (1, MULTISEND, 0, six.as_str())], 12, 1012),
        ] {
            assert_eq!(coin(SAFE, &exec(MULTISEND, 0, &multisend(&calls), 1), along), sum, "{calls:?}");
        }
        let paid = exec(
            MULTISEND,
            0,
            &multisend(&[(0, USDC, 0, &transfer(ALICE, 2)), (0, USDC, 0, &transfer(BOB, 5))]),
            1,
        );
        assert_eq!(taken(SAFE, &paid, 0, "usdc"), [(String::new(), 7)]);
        assert_eq!(taken(SAFE, &paid, 0, "calls"), [(String::new(), 2)]);
        assert_eq!(taken(SAFE, &paid, 0, "to").len(), 3);
    }

    #[test]
    fn calls_are_bounded_in_number_and_depth_over_all_of_them() {
        let all = carriers(&rule("all", "any", "via = [\"any\"]\ncall = \"any\""));
        let one = transfer(ALICE, 1);
        let many = |times: usize| three(&vec![(USDC, one.as_str()); times]);
        let nest = |times: usize| {
            (0..times)
                .fold(one.clone(), |inner, _| three(&[(if inner == one { USDC } else { MULTICALL }, &inner)]))
        };
        check(&all, MULTICALL, &many(MAX_CALLS), Ok("all"));
        check(&all, MULTICALL, &nest(MAX_DEPTH), Ok("all"));
        let much = (DenialCause::Wrapper, "carries more than 64 calls");
        check(&all, MULTICALL, &many(MAX_CALLS + 1), Err(much));
        check(&all, MULTICALL, &nest(MAX_DEPTH + 1), Err(much));
        let forty = many(40);
        check(&all, MULTICALL, &three(&[(MULTICALL, &forty), (MULTICALL, &forty)]), Err(much));
        let calls: Vec<_> =
            std::iter::once((MULTICALL, forty.as_str())).chain(vec![(USDC, one.as_str()); 39]).collect();
        check(&all, MULTICALL, &three(&calls), Err(much));
    }
}
