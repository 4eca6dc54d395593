//! The narrowest rule that would allow a payload: what stands in it, to the letter, for the client that asked. Only of what it
//! is known to move, and to cost, less is as good.

use std::fmt::Write as _;

use alloy_primitives::Address;

use crate::identity::AccountCaller;
use crate::policy::abi::Function;
use crate::policy::amount::show_wei;
use crate::policy::call::{Call, Made, TransactionFacts};
use crate::policy::decide::Policy;
use crate::policy::evidence::Moment;
use crate::policy::facts::{Facts, MessageFacts, Subject};
use crate::policy::judged::{Judged, facts};
use crate::policy::rule::RuleKind;
use crate::policy::typed::Template;
use crate::policy::verbatim::{Amounts, Places};
use crate::policy::wrapper::Whole;
use crate::transaction::{Authorizations, Blobs};

/// A rule in the making.
struct Written(String);

impl Policy {
    /// Rules for a payload and for each call that it carries, as far as none allows them; an error says why there is none.
    pub fn suggest<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        (at, id): (impl Into<Moment>, &str),
    ) -> Result<String, String> {
        let moment = at.into();
        let whole = Whole::open(facts::<K>(caller, asked, &self.book, &moment), &self.wrappers);
        whole.is_open().map_err(|denied| denied.sentence)?;
        let mut text = String::new();
        for (number, facts) in whole.each().enumerate() {
            if self.verdict_of_one(facts).is_ok() {
                continue;
            }
            let id = if number == 0 { id.to_owned() } else { format!("{id}-{number}") };
            text.push_str(&self.rule_for(facts, &id)?);
        }
        if text.is_empty() { Err("a rule allows it as it is".to_owned()) } else { Ok(text) }
    }

    fn rule_for(&self, facts: &Facts<'_>, id: &str) -> Result<String, String> {
        let mut rule = Written(format!("[[rule]]\nid      = {}\neffect  = \"allow\"\n", quoted(id)));
        rule.line("kind", &quoted(RuleKind::of(&facts.subject).name()));
        let chain = match &facts.subject {
            Subject::Transaction(transaction) => Some(transaction.chain),
            Subject::TypedData(typed) => {
                Some(typed.chain().ok_or("its domain names no chain: no rule allows it")?)
            }
            Subject::Authorization(asked) => Some(asked.chain_id()),
            Subject::Message(_) => None,
        };
        if let Some(chain) = chain {
            rule.line("chain", &chain.to_string());
        }
        rule.line("clients", &format!("[{}]", quoted(facts.client)));
        rule.line("from", &format!("[{}]", self.named(facts, chain, facts.account)));
        match &facts.subject {
            Subject::Transaction(transaction) => self.transaction(&mut rule, transaction, facts)?,
            Subject::TypedData(typed) => {
                let ty = Function::of_struct(typed.asked.ty());
                let to = typed.to().map_or_else(|| "\"none\"".to_owned(), |to| self.named(facts, chain, to));
                rule.line("to", &format!("[{to}]"));
                let name =
                    Template::of(&ty.signature).map_or(ty.signature.as_str(), |template| template.name);
                rule.line("primary_type", &quoted(name));
                let places =
                    Places { policy: self, facts, chain, amounts: Amounts::of_typed(typed, &ty, facts.book) };
                rule.line("fields", &places.all(&ty, typed.asked.values())?);
            }
            Subject::Authorization(asked) => {
                let delegate = match asked.delegate() {
                    Address::ZERO => "\"none\"".to_owned(),
                    delegate => self.named(facts, chain, delegate),
                };
                rule.line("delegates", &format!("[{delegate}]"));
            }
            Subject::Message(message) => rule.message(message)?,
        }
        Ok(rule.0)
    }

    fn transaction(
        &self,
        rule: &mut Written,
        transaction: &TransactionFacts<'_>,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let chain = Some(transaction.chain);
        let to = transaction.to.map_or_else(|| "\"create\"".to_owned(), |to| self.named(facts, chain, to));
        rule.line("to", &format!("[{to}]"));
        if transaction.sender != facts.account {
            rule.line("via", &format!("[{}]", self.named(facts, chain, transaction.sender)));
        }
        if transaction.made == Made::Delegated {
            rule.line("delegatecall", "true");
        }
        match transaction.call {
            Call::Creation => rule.line("call", "\"any\""),
            Call::Empty => rule.line("call", "\"empty\""),
            Call::Short => return Err("its calldata names no function: no rule allows it".to_owned()),
            Call::Function(selector) => {
                let function = transaction.function().ok_or_else(|| {
                    format!("nobody knows the function {selector} of {to}: give that contract its `abi` in [contracts], and ask again")
                })?;
                let arguments = transaction.arguments(function);
                let values = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
                rule.line("call", &quoted(&function.signature));
                let places =
                    Places { policy: self, facts, chain, amounts: Amounts::of_call(transaction, function) };
                if !values.is_empty() {
                    rule.line("args", &places.all(function, values)?);
                }
            }
        }
        if !transaction.value.is_zero() {
            rule.line("value", &format!("{{ max = {} }}", quoted(&show_wei(transaction.value))));
        }
        if transaction.asked.is_some() {
            let fee = quoted(&show_wei(transaction.max_execution_fee()));
            rule.line("execution_fee", &format!("{{ max = {fee} }}"));
        }
        if let Some(blobs) = transaction.blobs() {
            rule.line("blobs", &format!("{{ max = {} }}", blobs.count()));
            rule.line("blob_fee", &format!("{{ max = {} }}", quoted(&show_wei(Blobs::max_fee(blobs)))));
        }
        let delegates = transaction.authorizations().into_iter().flat_map(Authorizations::each);
        let mut delegates: Vec<_> =
            delegates.map(|(_, delegate)| self.named(facts, chain, delegate)).collect();
        delegates.sort();
        delegates.dedup();
        if !delegates.is_empty() {
            rule.line("delegates", &format!("[{}]", delegates.join(", ")));
        }
        Ok(())
    }

    /// An address as a rule names it.
    pub(in crate::policy) fn named(&self, facts: &Facts<'_>, chain: Option<u64>, address: Address) -> String {
        let own = (address == facts.account).then(|| self.book.accounts.get(&address)).flatten();
        let label = self.book.at(chain, address).next().map(|contract| &contract.label);
        quoted(&label.or(own).cloned().unwrap_or_else(|| address.to_checksum(None)))
    }
}

impl Written {
    fn line(&mut self, key: &str, value: &str) {
        // A `String` takes everything.
        let _ = writeln!(self.0, "{key:<7} = {value}");
    }

    fn message(&mut self, message: &MessageFacts<'_>) -> Result<(), String> {
        if let Ok(siwe) = message.siwe() {
            let domain = quoted(siwe.domain);
            self.line(
                "siwe",
                &format!("{{ domain = [{domain}], chain_id = {}, expires_within = \"1h\" }}", siwe.chain),
            );
            return Ok(());
        }
        let text =
            message.asked.as_str().ok_or("it is no text that anyone could have read: no rule allows it")?;
        self.line("text", &format!("{{ equals = {} }}", quoted(text)));
        Ok(())
    }
}

pub(in crate::policy) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::{Bytes, U256, hex};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, NOW, TREASURY, USDC, address, call, caller, policy, structured, template,
        transaction, transfer, typed,
    };
    use crate::transaction::{Authorization, DelegationRequest, Kind, Message, Text, Tx, TypedData};

    const MORE: &str = r#"
router    = { chain = 1, address = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45", abi = "uniswap-v3-router-02" }
multicall = { chain = 1, address = "0xcA11bde05977b3631167028862bE2a173976CA11", abi = "multicall3" }
"#;

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW * 1000)
    }

    /// The rule for a payload, which is allowed by it and by nothing before.
    fn suggested<K: Judged>(asked: &K::Asked) -> (String, Policy) {
        let before = policy(&format!("{CONTRACTS}{MORE}")).unwrap();
        assert!(before.judge::<K>(&caller("ann"), asked, now()).is_err());
        let rules =
            before.suggest::<K>(&caller("ann"), asked, (now(), "new")).unwrap_or_else(|e| panic!("{e}"));
        let after = policy(&format!("{CONTRACTS}{MORE}{rules}")).unwrap_or_else(|e| panic!("{e}\n{rules}"));
        let judged = after.judge::<K>(&caller("ann"), asked, now());
        assert!(judged.is_ok(), "{judged:?}\n{rules}");
        (rules, after)
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    fn swap(recipient: &str, amount: u64, least: u64) -> String {
        let tokens = [address(USDC), address(ALICE), DynSolValue::Uint(U256::from(500), 24)];
        let rest = [address(recipient), number(amount), number(least), DynSolValue::Uint(U256::ZERO, 160)];
        let signature = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))";
        call(signature, &[DynSolValue::Tuple([tokens.to_vec(), rest.to_vec()].concat())])
    }

    /// What is suggested allows what was asked, and nothing that differs from it.
    #[test]
    fn inv_04_what_is_suggested_is_what_was_asked_and_no_more() {
        let router = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45";
        let multicall = "0xcA11bde05977b3631167028862bE2a173976CA11";
        let inside = |to: &str| {
            let data = DynSolValue::Bytes(hex::decode(transfer(to, 5)).unwrap());
            let inner = DynSolValue::Tuple(vec![address(USDC), DynSolValue::Bool(false), data]);
            call("aggregate3((address,bool,bytes)[])", &[DynSolValue::Array(vec![inner])])
        };
        for (asked, others, says) in [
            (
                json!({ "data": transfer(ALICE, 5_000_000) }),
                vec![
                    json!({ "data": transfer(BOB, 1) }),
                    json!({ "data": transfer(ALICE, 5_000_001) }),
                    json!({ "data": transfer(ALICE, 5), "value": "0x1" }),
                    json!({ "data": transfer(ALICE, 5), "gas": "0x186a1" }),
                ],
                "args    = { to = \"alice\", amount = { max = \"5 USDC\" } }",
            ),
            (
                json!({ "to": ALICE, "value": "0xde0b6b3a7640000" }),
                vec![
                    json!({ "to": ALICE, "value": "0xde0b6b3a7640001" }),
                    json!({ "to": BOB, "value": "0x1" }),
                ],
                "value   = { max = \"1 ether\" }",
            ),
            (
                json!({ "to": null, "data": "0x6000" }),
                vec![json!({ "to": ALICE, "value": "0x1" })],
                "to      = [\"create\"]",
            ),
            (
                json!({ "to": router, "data": swap(TREASURY, 9, 7) }),
                vec![
                    json!({ "to": router, "data": swap(ALICE, 9, 7) }),
                    json!({ "to": router, "data": swap(TREASURY, 10, 7) }),
                    // What must come out at least is no limit, but the opposite of one.
                    json!({ "to": router, "data": swap(TREASURY, 9, 6) }),
                    json!({ "to": router, "data": swap(TREASURY, 9, 0) }),
                ],
                "\"params.recipient\" = \"$from\", \"params.amountIn\" = { max = \"9\" }",
            ),
            (
                json!({ "to": multicall, "data": inside(ALICE) }),
                vec![json!({ "to": multicall, "data": inside(BOB) }), json!({ "data": transfer(ALICE, 5) })],
                "via     = [\"multicall\"]",
            ),
        ] {
            let (rules, after) = suggested::<Tx>(&transaction(&asked));
            assert!(rules.contains(says), "{rules}");
            for other in others {
                assert!(
                    after.judge::<Tx>(&caller("ann"), &transaction(&other), now()).is_err(),
                    "{other}\n{rules}"
                );
            }
            assert!(
                after.judge::<Tx>(&caller("ben"), &transaction(&asked), now()).is_err(),
                "another client"
            );
        }
    }

    /// Of a list, each item is what it was in its place; and what the payload says of itself means nothing in a rule.
    #[test]
    fn inv_04_what_is_suggested_of_lists_and_texts_is_what_stands_in_them() {
        let details = |of: &[(&str, u64)]| {
            let one = |(token, amount): &(&str, u64)| json!({ "token": token, "amount": amount, "expiration": 9, "nonce": 0 });
            let details: Vec<_> = of.iter().map(one).collect();
            let message = json!({ "details": details, "spender": ALICE, "sigDeadline": "9" });
            template("PermitBatch", "0x000000000022D473030F116dDEE9F6B43aC78BA3", message)
        };
        let pays = |memo: &str, payees: &[&str], amounts: &[u64]| {
            let message = json!({ "memo": memo, "payees": payees, "amounts": amounts });
            typed("Pay(string memo,address[] payees,uint256[] amounts)", BOB, message)
        };
        for (asked, allowed, others, says) in [
            (
                details(&[(USDC, 5), (BOB, 7)]),
                vec![details(&[(USDC, 4), (BOB, 7)])],
                vec![
                    details(&[(USDC, 6), (BOB, 7)]),
                    details(&[(BOB, 5), (USDC, 7)]),
                    details(&[(USDC, 5)]),
                    details(&[(USDC, 5), (BOB, 7), (BOB, 7)]),
                    details(&[(USDC, 5), (ALICE, 7)]),
                ],
                "\"details[1].amount\" = { max = \"7\" }",
            ),
            (
                pays("any", &[ALICE, BOB], &[1, 1_000_000]),
                vec![],
                vec![
                    pays("other", &[ALICE, BOB], &[1, 1_000_000]),
                    pays("any", &[BOB, BOB], &[1, 1_000_000]),
                    pays("any", &[BOB, ALICE], &[1, 1_000_000]),
                    pays("any", &[ALICE, BOB], &[1_000_000, 1]),
                ],
                "memo = { equals = \"any\" }",
            ),
            (
                pays("", &[], &[]),
                vec![],
                vec![pays("", &[BOB], &[]), pays("", &[], &[0])],
                "\"len(payees)\" = 0, \"all(payees)\" = \"any\"",
            ),
        ] {
            let (rules, after) = suggested::<TypedData>(&structured(&asked));
            assert!(rules.contains(says), "{rules}");
            let judge = |data: &Value| after.judge::<TypedData>(&caller("ann"), &structured(data), now());
            for less in &allowed {
                assert!(judge(less).is_ok(), "{less}\n{rules}");
            }
            for other in &others {
                assert!(judge(other).is_err(), "{other}\n{rules}");
            }
        }
        let before = policy(CONTRACTS).unwrap();
        for memo in ["$client", "$from"] {
            let asked = structured(&pays(memo, &[], &[]));
            let error = before.suggest::<TypedData>(&caller("ann"), &asked, (now(), "new")).unwrap_err();
            assert!(error.contains("`memo` is a text that begins with `$`"), "{error}");
        }
    }

    #[test]
    fn messages_typed_data_and_authorizations_have_rules_suggested_too() {
        let from: Address = TREASURY.parse().unwrap();
        let (rules, after) = suggested::<Message>(&Text::new(from, Bytes::from_static(b"hello \"you\"")));
        assert!(rules.contains("equals"), "{rules}");
        assert!(
            after
                .judge::<Message>(&caller("ann"), &Text::new(from, Bytes::from_static(b"hello")), now())
                .is_err()
        );
        let message = |amount: u64| -> Value {
            json!({ "owner": TREASURY, "spender": ALICE, "value": amount.to_string(), "nonce": "0", "deadline": (NOW + 60).to_string() })
        };
        let permit = |amount| structured(&template("Permit", USDC, message(amount)));
        let (rules, after) = suggested::<TypedData>(&permit(5_000_000));
        assert!(
            rules.contains("primary_type = \"Permit\"") && rules.contains("value = { max = \"5 USDC\" }"),
            "{rules}"
        );
        assert!(after.judge::<TypedData>(&caller("ann"), &permit(5_000_001), now()).is_err());
        let authorize = |delegate: &str| {
            let asked = json!([{ "from": TREASURY, "address": delegate }]).to_string();
            DelegationRequest::parse(Some(&asked)).unwrap().fill(1, 0).unwrap()
        };
        let (rules, after) = suggested::<Authorization>(&authorize(BOB));
        assert!(rules.contains("delegates = [\"bob\"]"), "{rules}");
        assert!(after.judge::<Authorization>(&caller("ann"), &authorize(ALICE), now()).is_err());
        assert_eq!(Authorization::NAME, "authorization");
    }

    #[test]
    fn where_no_rule_helps_it_is_said_why() {
        let rules = policy(&format!("{CONTRACTS}{MORE}")).unwrap();
        for (asked, why) in [
            (json!({ "to": ALICE, "data": "0x12345678" }), "give that contract its `abi`"),
            (json!({ "to": USDC, "data": "0x12345678" }), "nobody knows the function"),
            (json!({ "to": ALICE, "data": "0x12" }), "names no function"),
        ] {
            let error =
                rules.suggest::<Tx>(&caller("ann"), &transaction(&asked), (now(), "new")).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let paid = transaction(&json!({ "data": transfer(ALICE, 1) }));
        let allowed = policy(&format!("{CONTRACTS}{}", crate::policy::tests::PAY)).unwrap();
        let error = allowed.suggest::<Tx>(&caller("ann"), &paid, (now(), "new")).unwrap_err();
        assert!(error.contains("allows it as it is"), "{error}");
    }

    /// A contract of such an ABI, and what is suggested of a call of it.
    fn suggested_of(abi: &str, data: &str) -> Result<String, String> {
        let text = "[contracts]\nthing = { chain = 1, address = \"0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC\", abi = \"thing.json\" }\n\
                    alice = { chain = 1, address = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\" }\n";
        let load = |rules: &str| {
            let source = crate::policy::load::Source {
                name: "p.toml".to_owned(),
                path: "p.toml".into(),
                text: format!("{text}{rules}"),
            };
            Policy::of_sources(&[source], &crate::policy::tests::world(), |_| Ok(abi.to_owned()))
        };
        let asked = transaction(&json!({ "to": BOB, "data": data }));
        let rules = load("").unwrap().suggest::<Tx>(&caller("ann"), &asked, (now(), "new"))?;
        let after = load(&rules).unwrap_or_else(|e| panic!("{e}\n{rules}"));
        let judged = after.judge::<Tx>(&caller("ann"), &asked, now());
        assert!(judged.is_ok(), "{judged:?}\n{rules}");
        Ok(rules)
    }

    #[test]
    fn what_has_no_name_of_its_own_is_suggested_by_its_number() {
        let abi = |inputs: &str| {
            format!(
                r#"[{{"type":"function","name":"f","inputs":[{inputs}],"outputs":[],"stateMutability":"view"}}]"#
            )
        };
        let parts = r#"{"name":"b","type":"uint8"},{"name":"b","type":"uint8"},{"name":"","type":"bool"}"#;
        let twins = abi(&format!(
            r#"{{"name":"a","type":"address"}},{{"name":"a","type":"uint256"}},{{"name":"t","type":"tuple","components":[{parts}]}}"#
        ));
        let eight = |number: u64| DynSolValue::Uint(U256::from(number), 8);
        let tuple = DynSolValue::Tuple(vec![eight(1), eight(2), DynSolValue::Bool(true)]);
        let data = call("f(address,uint256,(uint8,uint8,bool))", &[address(ALICE), number(5), tuple]);
        let rules = suggested_of(&twins, &data).unwrap();
        assert!(
            rules.contains(
                "args    = { a = \"alice\", 1 = \"5\", \"t.b\" = \"1\", \"t.1\" = \"2\", \"t.2\" = true }\n"
            ),
            "{rules}"
        );
        let back = abi(r#"{"name":"cb","type":"function"}"#);
        let data = call("f(function)", &[DynSolValue::Function(alloy_primitives::Function::ZERO)]);
        assert_eq!(
            suggested_of(&back, &data).unwrap_err(),
            "of what stands at `cb` a rule can only say \"any\": write it yourself"
        );
        assert!(!suggested_of(&abi(""), &call("f()", &[])).unwrap().contains("args"));
    }

    /// Every type of value, and lists in lists, each as what stands there.
    #[test]
    fn inv_04_what_is_suggested_reaches_to_the_last_part() {
        let ty = "Order(Leg[] legs,bytes4 tag,int24 tick,bool yes,bytes note,address[2] both)Fee(address to,uint8 n)Leg(Fee fee,address[] payees)";
        let leg = |to: &str| json!({ "fee": { "to": to, "n": 1 }, "payees": [BOB] });
        let message = |to: &str| json!({ "legs": [leg(to)], "tag": "0x01020304", "tick": "-5", "yes": true, "note": "0x0102", "both": [BOB, ALICE] });
        let (rules, after) = suggested::<TypedData>(&structured(&typed(ty, BOB, message(ALICE))));
        assert!(
            rules.contains(
                "fields  = { \"len(legs)\" = 1, \"legs[0].fee.to\" = \"alice\", \"legs[0].fee.n\" = \"1\", \"len(legs[0].payees)\" = 1, \
                 \"legs[0].payees[0]\" = \"bob\", \"all(legs.fee.to)\" = [\"alice\"], \"all(legs.payees)\" = [\"bob\"], tag = \"0x01020304\", \
                 tick = \"-5\", yes = true, note = \"0x0102\", \"both[0]\" = \"bob\", \"both[1]\" = \"alice\", \"all(both)\" = [\"alice\", \"bob\"] }\n"
            ),
            "{rules}"
        );
        let judge = |message: Value| {
            after.judge::<TypedData>(&caller("ann"), &structured(&typed(ty, BOB, message)), now())
        };
        assert!(judge(message(BOB)).is_err());
        for (at, other) in [
            ("tag", json!("0x01020305")),
            ("tick", json!("-6")),
            ("yes", json!(false)),
            ("note", json!("0x01")),
            ("both", json!([ALICE, BOB])),
            ("legs", json!([leg(ALICE), leg(ALICE)])),
        ] {
            let mut changed = message(ALICE);
            changed[at] = other;
            assert!(judge(changed).is_err(), "{at}");
        }
    }

    #[test]
    fn each_rule_that_is_suggested_has_its_lines() {
        let multicall = "0xcA11bde05977b3631167028862bE2a173976CA11";
        let paid = DynSolValue::Bytes(hex::decode(transfer(ALICE, 0)).unwrap());
        let inner = DynSolValue::Tuple(vec![address(USDC), DynSolValue::Bool(false), paid]);
        let data =
            call("aggregate3((address,bool,bytes)[])", &[DynSolValue::Array(vec![inner.clone(), inner])]);
        let (rules, _) =
            suggested::<Tx>(&transaction(&json!({ "to": multicall, "data": data, "gasPrice": "0x1" })));
        let ids: Vec<_> = rules.lines().filter(|line| line.starts_with("id ")).collect();
        assert_eq!(ids, ["id      = \"new\"", "id      = \"new-1\"", "id      = \"new-2\""]);
        assert!(
            rules.contains(
                "id      = \"new-1\"\neffect  = \"allow\"\nkind    = \"transaction\"\nchain   = 1\nclients = [\"ann\"]\n\
                 from    = [\"treasury\"]\nto      = [\"usdc\"]\nvia     = [\"multicall\"]\ncall    = \"transfer(address,uint256)\"\n\
                 args    = { to = \"alice\", amount = \"0\" }\nexecution_fee = { max = \"100000 wei\" }\n"
            ),
            "{rules}"
        );
        let hash = format!("0x01{}", "a1".repeat(31));
        let blobs = json!({ "to": ALICE, "maxFeePerBlobGas": "0xb2d05e00", "blobVersionedHashes": [hash] });
        let (rules, _) = suggested::<Tx>(&transaction(&blobs));
        assert!(rules.contains("blobs   = { max = 1 }\nblob_fee = { max = \"393216 gwei\" }\n"), "{rules}");
        let delegate = "0x3535353535353535353535353535353535353535";
        let code = json!({ "to": ALICE, "authorizationList": [{
            "chainId": "0x1", "address": delegate, "nonce": "0x3", "yParity": "0x0",
            "r": "0x6f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7ac",
            "s": "0x7f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf4",
        }] });
        let (rules, _) = suggested::<Tx>(&transaction(&code));
        assert!(rules.contains(&format!("delegates = [\"{delegate}\"]\n")), "{rules}");
        let siwe = format!(
            "app.example.com wants you to sign in with your Ethereum account:\n{TREASURY}\n\n\nURI: https://app.example.com\n\
             Version: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2026-01-31T12:00:00Z\nExpiration Time: 2026-01-31T13:00:00Z"
        );
        let (rules, _) =
            suggested::<Message>(&Text::new(TREASURY.parse().unwrap(), siwe.into_bytes().into()));
        assert!(
            rules.ends_with(
                "from    = [\"treasury\"]\nsiwe    = { domain = [\"app.example.com\"], chain_id = 1, expires_within = \"1h\" }\n"
            ),
            "{rules}"
        );
        let none = json!([{ "from": TREASURY, "address": Address::ZERO }]).to_string();
        let none = DelegationRequest::parse(Some(&none)).unwrap().fill(1, 0).unwrap();
        let (rules, _) = suggested::<Authorization>(&none);
        assert!(
            rules.ends_with(
                "chain   = 1\nclients = [\"ann\"]\nfrom    = [\"treasury\"]\ndelegates = [\"none\"]\n"
            ),
            "{rules}"
        );
    }

    /// An amount is in the unit of the contract's own token where that is what moves, and in no other.
    #[test]
    fn what_a_vault_moves_is_suggested_in_the_right_unit() {
        let vault = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let contracts = format!(
            "{CONTRACTS}vault = {{ chain = 1, address = \"{vault}\", abi = \"erc4626\", underlying = \"usdc\", decimals = 18, symbol = \"V\" }}\n"
        );
        let policy = policy(&contracts).unwrap();
        let suggest = |signature: &str, args: &[DynSolValue]| {
            let asked = transaction(&json!({ "to": vault, "data": call(signature, args) }));
            policy.suggest::<Tx>(&caller("ann"), &asked, (now(), "new")).unwrap()
        };
        let deposit = suggest("deposit(uint256,address)", &[number(5), address(TREASURY)]);
        assert!(
            deposit.contains("args    = { assets = { max = \"5\" }, receiver = \"$from\" }"),
            "{deposit}"
        );
        let shares = suggest("transfer(address,uint256)", &[address(ALICE), number(5)]);
        assert!(
            shares.contains("args    = { to = \"alice\", value = { max = \"0.000000000000000005 V\" } }"),
            "{shares}"
        );
    }
}
