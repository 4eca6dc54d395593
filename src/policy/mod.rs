//! May it be signed: policy files become rules, and rules decide. No I/O on the path of a request.
//!
//! A folder of files is read ([`Policy::load`]) against the names of the configuration ([`World`]); a decision
//! ([`Policy::decide`]) ends in a [`Permitted`], which is the one thing that the ledger takes, or in a
//! [`Denied`], which says who may not do what, and why. `docs/policy.md` is the language's reference.
//!
//! **Invariant:** a decision reads no file, asks no node and looks at no state but its rates.

mod abi;
mod active;
mod amount;
mod archived;
mod argument;
mod budget;
mod call;
mod caps;
mod carrier;
mod condition;
mod decide;
mod denied;
mod describe;
mod error;
mod evasions;
mod evidence;
mod explain;
mod exposure;
mod facts;
mod hours;
mod include;
mod index;
mod judged;
mod lint;
mod load;
mod manifest;
mod messages;
mod outcome;
mod own;
mod packed;
mod pairs;
mod past;
mod path;
mod permitted;
mod phrase;
mod public_keys;
mod rate;
mod read;
mod registry;
mod rule;
mod scope;
mod shadow;
mod shadowed;
mod signature;
mod siwe;
mod spend;
mod suggest;
mod takings;
mod typed;
mod verbatim;
mod world;
mod wrapper;
mod written;

pub use active::{ActivePolicy, AllCompare, Comparison, Stamp};
pub use budget::{Charge, Limit};
pub use decide::Policy;
pub use denied::{DenialCause, Denied};
pub use describe::{Cell, Description, Sentence};
pub use error::PolicyError;
pub use evidence::{Evidence, Inquiry, Moment};
pub use explain::{ChargeReport, Explanation, RuleReport};
pub use judged::Judged;
pub use lint::Warning;
pub use manifest::{MANIFEST, Manifest, SIGNATURES};
pub use outcome::Simulated;
pub use own::{Own, is_for_another, is_own};
pub use past::{Again, Past};
pub use permitted::{Permitted, Replace};
pub use shadow::Difference;
pub use takings::{Taken, Takings};
pub use world::World;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::{Address, Bytes, U256, hex};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::config::Client;
    use crate::identity::{AccountCaller, Caller, RequestId};
    use crate::policy::abi::Function;
    use crate::policy::load::{Beside, Source};
    use crate::policy::typed::Template;
    use crate::transaction::{
        Filled, Message, Quote, QuotedFees, Request, StructType, Structured, Text, Tx, TypedData,
    };

    pub(super) const TREASURY: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
    pub(super) const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
    pub(super) const ALICE: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    pub(super) const BOB: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";

    pub(super) const CONTRACTS: &str = r#"
[contracts]
usdc  = { chain = 1, address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", abi = "erc20", decimals = 6, symbol = "USDC" }
alice = { chain = 1, address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8" }
bob   = { chain = 1, address = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC" }
"#;

    pub(super) const PAY: &str = r#"
[[rule]]
id      = "pay"
effect  = "allow"
kind    = "transaction"
chain   = 1
clients = ["trader"]
from    = ["treasury"]
to      = ["usdc"]
call    = "transfer"
args    = { to = ["alice", "bob"], amount = { max = "1_000 USDC" } }
execution_fee = { max = "0.05 ether" }
"#;

    pub(super) fn client(name: &str, role: Option<&str>) -> Client {
        Client {
            name: name.to_owned(),
            identity: format!("spiffe://desk/{name}"),
            issuer: crate::config::OWN_ISSUER.to_owned(),
            role: role.map(str::to_owned),
            person: None,
            accounts: vec![TREASURY.parse().unwrap()],
            origins: vec![],
            repeat_window: None,
        }
    }

    pub(super) fn world() -> World {
        World {
            chains: vec![1],
            accounts: [("treasury".to_owned(), TREASURY.parse().unwrap())].into(),
            clients: vec![client("ann", Some("trader")), client("ben", None)],
        }
    }

    pub(super) fn policy(text: &str) -> Result<Policy, PolicyError> {
        policy_of(&[("policy.toml", text)])
    }

    pub(super) fn policy_of(files: &[(&str, &str)]) -> Result<Policy, PolicyError> {
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).to_owned(),
            path: Path::new("policies").join(name),
            text: (*text).to_owned(),
        };
        let sources: Vec<_> = files.iter().map(source).collect();
        Policy::of_sources(&sources, &world(), built_in_only)
    }

    pub(super) fn built_in_only(beside: Beside<'_>) -> Result<String, String> {
        match beside {
            Beside::Abi(name) => registry::built_in(name).map(str::to_owned).ok_or("no such ABI".to_owned()),
            Beside::List(_) => Err("no such list".to_owned()),
        }
    }

    pub(super) fn caller(name: &str) -> AccountCaller {
        let client = world().clients.into_iter().find(|client| client.name == name).unwrap();
        let caller = Caller::new(Arc::new(client), RequestId::from_number(1));
        caller.for_account(TREASURY.parse().unwrap()).unwrap()
    }

    /// A transaction of the treasury; `fields` are set or replaced.
    pub(super) fn transaction(fields: &Value) -> Filled {
        let mut request = json!({ "from": TREASURY, "to": USDC });
        for (key, value) in fields.as_object().unwrap() {
            request[key] = value.clone();
        }
        let gwei = 1_000_000_000;
        let fees = QuotedFees { base_fee: Some(gwei), max_priority_fee: gwei, gas_price: 2 * gwei };
        let quote = Quote { chain_id: 1, mined: 0, gas: Some(100_000), fees: Some(fees) };
        Request::parse(Some(&json!([request]).to_string())).unwrap().fill(&quote, None).unwrap()
    }

    pub(super) fn call(signature: &str, args: &[DynSolValue]) -> String {
        let function = Function::parse(signature).unwrap();
        let args = DynSolValue::Tuple(args.to_vec()).abi_encode_sequence().unwrap_or_default();
        hex::encode_prefixed([function.selector.as_slice(), &args].concat())
    }

    pub(super) fn address(text: &str) -> DynSolValue {
        DynSolValue::Address(text.parse::<Address>().unwrap())
    }

    pub(super) fn transfer(to: &str, amount: u64) -> String {
        call("transfer(address,uint256)", &[address(to), DynSolValue::Uint(U256::from(amount), 256)])
    }

    pub(super) fn decide(policy: &Policy, who: &str, fields: &Value) -> Result<String, Denied> {
        policy
            .decide::<Tx>(&caller(who), transaction(fields), Evidence::default())
            .map(|permitted| permitted.rule().to_owned())
    }

    pub(super) fn sign(policy: &Policy, who: &str, text: &str) -> Result<String, Denied> {
        let asked = Text::new(TREASURY.parse().unwrap(), Bytes::copy_from_slice(text.as_bytes()));
        let now = Timestamp::from_millis(1_769_860_800_000);
        policy.judge::<Message>(&caller(who), &asked, now).map(|rule| rule.to_string())
    }

    /// 2026-01-31T12:00:00Z
    pub(super) const NOW: u64 = 1_769_860_800;

    /// Typed data of a type, for a contract on a chain.
    pub(super) fn typed(encode_type: &str, to: &str, message: impl Into<Value>) -> Value {
        let ty = StructType::parse(encode_type).unwrap();
        let mut types = json!({
            "EIP712Domain": [
                { "name": "name", "type": "string" },
                { "name": "chainId", "type": "uint256" },
                { "name": "verifyingContract", "type": "address" },
            ],
        });
        let mut pending = vec![&ty];
        while let Some(ty) = pending.pop() {
            let member =
                |one: &crate::transaction::Member| json!({ "name": one.name, "type": one.ty.name() });
            types[ty.name()] = ty.members().iter().map(member).collect();
            pending.extend(ty.members().iter().filter_map(|member| member.ty.innermost()));
        }
        json!({
            "types": types,
            "primaryType": ty.name(),
            "domain": { "name": "USD Coin", "chainId": 1, "verifyingContract": to },
            "message": message.into(),
        })
    }

    pub(super) fn template(name: &str, to: &str, message: impl Into<Value>) -> Value {
        typed(Template::named(name).unwrap().encode_type, to, message)
    }

    pub(super) fn structured(data: &Value) -> Structured {
        Structured::read_text(TREASURY.parse().unwrap(), &data.to_string()).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(super) fn assess(policy: &Policy, data: &Value) -> Result<Vec<(String, String)>, Denied> {
        let now = Timestamp::from_millis(NOW * 1000);
        let (_, charges) = policy.assess::<TypedData>(&caller("ann"), &structured(data), now)?;
        Ok(charges.iter().map(|one| (one.limit.id.clone(), one.limit.show(one.amount))).collect())
    }

    pub(super) fn failed(policy: &Policy, data: &Value) -> Option<String> {
        let denied = assess(policy, data).err()?;
        Some(denied.condition.unwrap_or_else(|| denied.cause.name().to_owned()))
    }

    #[test]
    fn any_rule_that_allows_it_may_let_a_transaction_with_a_nonce_replace() {
        let own = format!("{PAY}replace = \"own\"\n");
        let other = own.replace("\"pay\"", "\"another\"");
        let nonce = json!({ "nonce": "0x5" });
        for (rules, fields, expected) in [
            (PAY.to_owned(), &nonce, Replace::Never),
            (own.clone(), &nonce, Replace::Own),
            (own.clone(), &json!({}), Replace::Never),
            (format!("{PAY}{other}"), &nonce, Replace::Own),
            // One that does not allow this has no say.
            (format!("{PAY}{}", other.replace("[\"alice\", \"bob\"]", "[\"bob\"]")), &nonce, Replace::Never),
        ] {
            let mut fields = fields.clone();
            fields["data"] = json!(transfer(ALICE, 1));
            let policy = policy(&format!("{CONTRACTS}{rules}")).unwrap();
            let permitted =
                policy.decide::<Tx>(&caller("ann"), transaction(&fields), Evidence::default()).unwrap();
            assert_eq!(permitted.replace(), expected, "{rules}{fields}");
        }
    }

    #[test]
    fn a_payment_is_allowed_within_its_conditions_and_denied_outside() {
        let policy = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        let good = json!({ "data": transfer(ALICE, 1_000_000_000) });
        assert_eq!(decide(&policy, "ann", &good).unwrap(), "pay");

        let much = decide(&policy, "ann", &json!({ "data": transfer(ALICE, 1_000_000_001) })).unwrap_err();
        assert_eq!(much.cause, DenialCause::NoRule);
        assert_eq!((much.rule.as_deref(), much.condition.as_deref()), (Some("pay"), Some("args.amount")));
        assert_eq!(
            much.to_string(),
            format!(
                "client `ann` may not call transfer(address,uint256) of `usdc` ({USDC}) from `treasury` ({TREASURY}): \
                 rule `pay` comes nearest, but `args.amount`: it is 1000.000001 USDC, and may be at most 1000 USDC"
            )
        );

        let who = decide(&policy, "ben", &good).unwrap_err();
        assert_eq!(
            (who.cause, who.rule),
            (DenialCause::NoRule, None),
            "whom a rule is for is not told to others"
        );
    }

    /// A rule of its own, made from `PAY` by putting lines in place of others.
    fn with(changes: &[(&str, &str)], more: &str) -> Policy {
        let mut text = PAY.to_owned();
        for (right, other) in changes {
            assert!(text.contains(right), "{right}");
            text = text.replacen(right, other, 1);
        }
        policy(&format!("{CONTRACTS}{text}{more}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn cause(policy: &Policy, fields: &Value) -> Option<DenialCause> {
        decide(policy, "ann", fields).err().map(|denied| denied.cause)
    }

    #[test]
    fn inv_04_every_condition_of_a_rule_must_hold() {
        use DenialCause::NoRule;
        let policy = with(&[], "");
        let paid = transfer(ALICE, 1);
        let table = [
            (json!({ "data": &paid }), None),
            (json!({ "data": &paid, "value": "0x1" }), Some((NoRule, "value"))),
            (json!({ "data": transfer(TREASURY, 1) }), Some((NoRule, "args.to"))),
            (
                json!({ "data": &paid, "gas": "0x1e8480", "maxFeePerGas": "0x6fc23ac00" }),
                Some((NoRule, "execution_fee")),
            ),
            (json!({ "data": &paid, "gas": "0x186a0", "maxFeePerGas": "0x6fc23ac00" }), None),
        ];
        for (fields, expected) in table {
            let denied = decide(&policy, "ann", &fields).err();
            let got = denied.as_ref().map(|denied| (denied.cause, denied.condition.as_deref().unwrap_or("")));
            assert_eq!(got, expected, "{fields}");
        }
        for (to, data) in [(ALICE, paid.as_str()), (USDC, "0x")] {
            assert_eq!(cause(&policy, &json!({ "to": to, "data": data })), Some(NoRule), "{to} {data}");
        }
    }

    #[test]
    fn inv_04_what_does_not_decode_is_refused_whatever_is_allowed() {
        let wide = with(&[("call    = \"transfer\"", "call = \"any\""), ("args ", "# args ")], "");
        assert_eq!(cause(&wide, &json!({ "data": transfer(BOB, 7) })), None);
        let dirty = transfer(ALICE, 1).replacen("000000000000000000000000", "000000000000000000000001", 1);
        for (data, why) in [
            (format!("{}00", transfer(ALICE, 1)), "left over"),
            (transfer(ALICE, 1).get(..136).unwrap().to_owned(), "ends at"),
            (dirty, "no address"),
            ("0xdeadbeef".to_owned(), "no function with selector"),
            ("0xa9059c".to_owned(), "fewer than 4 bytes"),
        ] {
            let denied = decide(&wide, "ann", &json!({ "data": data })).unwrap_err();
            assert_eq!(denied.cause, DenialCause::Undecodable, "{denied}");
            assert!(denied.sentence.contains(why), "{denied}");
        }
        assert_eq!(cause(&wide, &json!({ "data": "0x" })), None, "no calldata needs no decoding");
    }

    #[test]
    fn inv_04_a_deny_rule_matches_on_the_selector_even_where_the_arguments_do_not_decode() {
        let deny = r#"
[[rule]]
id = "no-bob"
effect = "deny"
kind = "transaction"
call = "transfer(address to, uint256 amount)"
args = { to = "bob" }
"#;
        let policy = with(&[], deny);
        assert_eq!(cause(&policy, &json!({ "data": transfer(ALICE, 1) })), None);
        for data in [transfer(BOB, 1), format!("{}00", transfer(ALICE, 1)), "0xa9059cbb".to_owned()] {
            let denied = decide(&policy, "ann", &json!({ "data": data })).unwrap_err();
            assert_eq!((denied.cause, denied.rule.as_deref()), (DenialCause::Rule, Some("no-bob")), "{data}");
        }
    }

    #[test]
    fn inv_04_a_contract_without_abi_is_called_by_its_signature_exactly() {
        let policy = with(
            &[
                ("call    = \"transfer\"", "call = \"ping(uint8 n)\""),
                ("[\"usdc\"]", "[\"alice\"]"),
                ("args    = {", "# args = {"),
            ],
            "",
        );
        let ping = call("ping(uint8)", &[DynSolValue::Uint(U256::from(7), 8)]);
        assert_eq!(cause(&policy, &json!({ "to": ALICE, "data": &ping })), None);
        for data in [format!("{ping}00"), ping.replace("07", "0107"), ping.get(..10).unwrap().to_owned()] {
            let denied = decide(&policy, "ann", &json!({ "to": ALICE, "data": data })).unwrap_err();
            assert_eq!(denied.cause, DenialCause::NoRule);
            assert!(denied.sentence.contains("no exact encoding of ping(uint8)"), "{denied}");
        }
    }

    #[test]
    fn a_wrapper_is_refused_even_where_any_call_is_allowed() {
        let wide = with(
            &[
                ("call    = \"transfer\"", "call = \"any\""),
                ("args ", "# args "),
                ("[\"usdc\"]", "[\"any\"]"),
            ],
            "",
        );
        assert_eq!(cause(&wide, &json!({ "to": BOB, "data": "0xdeadbeef" })), None);
        let multicall = call("multicall(bytes[])", &[DynSolValue::Array(vec![])]);
        let denied = decide(&wide, "ann", &json!({ "to": BOB, "data": multicall })).unwrap_err();
        assert_eq!(denied.cause, DenialCause::Wrapper);
        assert!(denied.sentence.contains("multicall(bytes[]) carries other calls"), "{denied}");
    }

    #[test]
    fn creation_is_a_permission_of_its_own() {
        let creation = json!({ "to": null, "data": "0x6080604052" });
        let any = with(
            &[
                ("call    = \"transfer\"", "call = \"any\""),
                ("args ", "# args "),
                ("[\"usdc\"]", "[\"any\"]"),
            ],
            "",
        );
        assert_eq!(cause(&any, &creation), Some(DenialCause::NoRule), "\"any\" target is no creation");
        let create = with(
            &[
                ("call    = \"transfer\"", "call = \"any\""),
                ("args ", "# args "),
                ("[\"usdc\"]", "[\"create\"]"),
            ],
            "",
        );
        assert_eq!(cause(&create, &creation), None);
        assert_eq!(cause(&create, &json!({ "data": transfer(ALICE, 1) })), Some(DenialCause::NoRule));
        let denied = "[[rule]]\nid = \"none\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"any\"]\n";
        let create = with(
            &[
                ("call    = \"transfer\"", "call = \"any\""),
                ("args ", "# args "),
                ("[\"usdc\"]", "[\"create\"]"),
            ],
            denied,
        );
        assert_eq!(
            cause(&create, &creation),
            Some(DenialCause::Rule),
            "in a deny rule \"any\" is everything"
        );
    }

    #[test]
    fn caps_hold_whatever_the_rules_say() {
        let caps = "[caps]\nmax_fee_per_gas = \"100 gwei\"\nmax_gas = 200_000\nmax_execution_fee = \"0.01 ether\"\nmax_calldata = 100\n";
        let policy = with(&[("execution_fee", "# execution_fee")], caps);
        let with = |fields: Value| {
            let mut all = json!({ "data": transfer(ALICE, 1), "gas": "0x186a0", "maxFeePerGas": "0x3b9aca00", "maxPriorityFeePerGas": "0x1" });
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            decide(&policy, "ann", &all).err().and_then(|denied| {
                assert_eq!(denied.cause, DenialCause::Cap, "{denied}");
                denied.condition
            })
        };
        assert_eq!(with(json!({})), None);
        assert_eq!(with(json!({ "maxFeePerGas": "0x174876e800" })), None, "exactly 100 gwei");
        assert_eq!(with(json!({ "maxFeePerGas": "0x174876e801" })).as_deref(), Some("caps.max_fee_per_gas"));
        assert_eq!(with(json!({ "gas": "0x30d41" })).as_deref(), Some("caps.max_gas"));
        assert_eq!(
            with(json!({ "gas": "0x30d40", "maxFeePerGas": "0xba43b7401" })).as_deref(),
            Some("caps.max_execution_fee")
        );
    }

    #[test]
    fn arguments_are_compared_by_type() {
        let signature =
            "f(address who, int24 tick, bool yes, bytes4 tag, string note, uint256 n, bytes blob)";
        let args = r#"args = { who = { not = "bob" }, tick = { min = -5, max = "10" }, yes = true, tag = "0x01020304",
            note = ["a", "b"], n = { not = [0, 3] }, blob = "0xff" }"#;
        let policy = with(
            &[
                ("call    = \"transfer\"", &format!("call = \"{signature}\"")),
                ("[\"usdc\"]", "[\"alice\"]"),
                ("args    = { to = [\"alice\", \"bob\"], amount = { max = \"1_000 USDC\" } }", args),
            ],
            "",
        );
        let good = || {
            let int = |n: i32| DynSolValue::Int(n.try_into().unwrap(), 24);
            let tag = alloy_primitives::B256::right_padding_from(&[1, 2, 3, 4]);
            vec![
                address(ALICE),
                int(-5),
                DynSolValue::Bool(true),
                DynSolValue::FixedBytes(tag, 4),
                DynSolValue::String("b".to_owned()),
                DynSolValue::Uint(U256::from(4), 256),
                DynSolValue::Bytes(vec![255]),
            ]
        };
        let bad = [
            address(BOB),
            DynSolValue::Int((-6).try_into().unwrap(), 24),
            DynSolValue::Bool(false),
            DynSolValue::FixedBytes(alloy_primitives::B256::ZERO, 4),
            DynSolValue::String("c".to_owned()),
            DynSolValue::Uint(U256::from(3), 256),
            DynSolValue::Bytes(vec![]),
        ];
        let asked = |values: &[DynSolValue]| json!({ "to": ALICE, "data": call(signature, values) });
        assert_eq!(cause(&policy, &asked(&good())), None);
        let names = ["who", "tick", "yes", "tag", "note", "n", "blob"];
        for (at, value) in bad.into_iter().enumerate() {
            let mut values = good();
            values[at] = value;
            let denied = decide(&policy, "ann", &asked(&values)).unwrap_err();
            assert_eq!(denied.condition, Some(format!("args.{}", names[at])), "{denied}");
        }
    }

    #[test]
    fn the_account_that_signs_can_be_named() {
        let from = with(&[("to = [\"alice\", \"bob\"]", "to = \"$from\"")], "");
        assert_eq!(cause(&from, &json!({ "data": transfer(TREASURY, 1) })), None);
        assert_eq!(cause(&from, &json!({ "data": transfer(ALICE, 1) })), Some(DenialCause::NoRule));
    }

    #[test]
    fn inv_04_the_payload_must_be_from_the_callers_account() {
        let policy = with(&[], "");
        let other = transaction(&json!({ "from": BOB, "data": transfer(ALICE, 1) }));
        assert_eq!(
            policy.decide::<Tx>(&caller("ann"), other, Evidence::default()).unwrap_err().cause,
            DenialCause::Account
        );
        let text = Text::new(BOB.parse().unwrap(), Bytes::new());
        assert_eq!(
            policy.decide::<Message>(&caller("ann"), text, Evidence::default()).unwrap_err().cause,
            DenialCause::Account
        );
    }

    #[test]
    fn inv_11_where_no_cap_is_stated_there_is_one_on_the_execution_fee() {
        let much = json!({ "data": transfer(ALICE, 1), "gas": "0x186a0", "maxFeePerGas": "0x9184e72a001", "maxPriorityFeePerGas": "0x9184e72a000" });
        for caps in ["", "[caps]\nmax_gas = 200_000\n"] {
            let policy = with(&[("execution_fee", "# execution_fee")], caps);
            let denied = decide(&policy, "ann", &much).unwrap_err();
            assert_eq!(denied.condition.as_deref(), Some("caps.max_execution_fee"), "{denied}");
        }
        let any = with(&[("execution_fee", "# execution_fee")], "[caps]\nmax_execution_fee = \"any\"\n");
        assert_eq!(cause(&any, &much), None);
    }

    #[test]
    fn a_refusal_does_not_tell_whose_accounts_there_are() {
        let vault = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let mut world = world();
        world.accounts.insert("vault".to_owned(), vault.parse().unwrap());
        let text = format!("{CONTRACTS}{PAY}");
        let source = Source { name: "p.toml".to_owned(), path: "p.toml".into(), text };
        let policy = Policy::of_sources(&[source], &world, built_in_only).unwrap();
        for fields in [json!({ "to": vault, "value": "0x1" }), json!({ "data": transfer(vault, 1) })] {
            let denied = decide(&policy, "ann", &fields).unwrap_err();
            assert!(denied.sentence.contains(vault) && !denied.sentence.contains("`vault`"), "{denied}");
        }
        let own = decide(&policy, "ann", &json!({ "to": TREASURY, "value": "0x1" })).unwrap_err();
        assert!(own.sentence.contains("to `treasury`"), "{own}");
    }

    fn message_rule(condition: &str) -> Policy {
        policy(&format!(
            "[[rule]]\nid = \"m\"\neffect = \"allow\"\nkind = \"message\"\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n{condition}\n"
        ))
        .unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn inv_04_a_sign_in_that_is_forbidden_is_forbidden_however_its_domain_is_written() {
        let rule = |effect: &str, id: &str, condition: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"{effect}\"\nkind = \"message\"\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n{condition}\n"
            )
        };
        let domain = "siwe = { domain = [\"evil.example\"], chain_id = 1 }";
        let forbids =
            policy(&[rule("allow", "any", "text = \"any\""), rule("deny", "no", domain)].concat()).unwrap();
        let allows = policy(&rule("allow", "yes", domain)).unwrap();
        let message = |domain: &str| {
            format!(
                "{domain} wants you to sign in with your Ethereum account:\n{TREASURY}\n\n\nURI: https://x\nVersion: 1\n\
                 Chain ID: 1\nNonce: 12345678\nIssued At: 2026-01-31T12:00:00Z"
            )
        };
        assert!(sign(&forbids, "ann", &message("good.example")).is_ok());
        assert!(sign(&allows, "ann", &message("evil.example")).is_ok());
        for domain in
            ["EVIL.example", "evil.example:443", "evil.example.", "Evil.Example.:443", "https://evil.Example"]
        {
            assert!(sign(&forbids, "ann", &message(domain)).is_err(), "{domain}");
            assert!(sign(&allows, "ann", &message(domain)).is_err(), "{domain}");
        }
        for domain in ["notevil.example", "evil.example.org", "evil.example:8443"] {
            assert!(sign(&forbids, "ann", &message(domain)).is_ok(), "{domain}");
        }
    }

    #[test]
    fn messages_are_judged_by_their_text() {
        let login = "Log in to the desk: ";
        let (prefix, equals, any) = (
            message_rule(&format!("text = {{ prefix = \"{login}\" }}")),
            message_rule("text = { equals = \"hello\" }"),
            message_rule("text = \"any\""),
        );
        let hash = "0123456789abcdef0123456789abcdef";
        for (policy, text, allowed) in [
            (&prefix, "Log in to the desk: 17", true),
            (&prefix, "log in to the desk: 17", false),
            (&prefix, "", false),
            (&equals, "hello", true),
            (&equals, "hello ", false),
            (&any, "whatever", true),
            (&any, hash, false),
            (&message_rule(&format!("text = {{ equals = \"{hash}\" }}")), hash, true),
        ] {
            assert_eq!(sign(policy, "ann", text).is_ok(), allowed, "{text}");
            assert!(sign(policy, "ben", text).is_err());
        }
        let bytes = Text::new(TREASURY.parse().unwrap(), Bytes::from_static(&[0xff, 0xfe]));
        let denied = any.decide::<Message>(&caller("ann"), bytes, Evidence::default()).unwrap_err();
        assert!(denied.sentence.contains("not UTF-8"), "{denied}");
    }

    #[test]
    fn sign_ins_are_judged_by_their_fields() {
        let policy =
            message_rule("siwe = { domain = [\"app.example.com\"], chain_id = 1, expires_within = \"1h\" }");
        // The clock of `sign` stands at 12:00.
        let good = format!(
            "app.example.com wants you to sign in with your Ethereum account:\n{TREASURY}\n\n\nURI: https://app.example.com\n\
             Version: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2026-01-31T12:00:00Z\nExpiration Time: 2026-01-31T13:00:00Z"
        );
        assert_eq!(sign(&policy, "ann", &good).unwrap(), "m");
        for (right, wrong) in [
            ("app.example.com wants", "app.examp1e.com wants"),
            (TREASURY, ALICE),
            ("Chain ID: 1", "Chain ID: 10"),
            ("T13:00:00Z", "T13:00:01Z"),
            ("T13:00:00Z", "T12:00:00Z"),
            ("\nExpiration Time: 2026-01-31T13:00:00Z", ""),
            ("Version: 1", "Version: 01"),
        ] {
            let denied = sign(&policy, "ann", &good.replacen(right, wrong, 1)).expect_err(wrong);
            assert_eq!(denied.condition.as_deref(), Some("siwe"), "{wrong}: {denied}");
        }
    }

    #[test]
    fn a_malformed_sign_in_does_not_slip_by_a_deny_rule() {
        let policy = policy(
            "[[rule]]\nid = \"m\"\neffect = \"allow\"\nkind = \"message\"\nclients = [\"any\"]\nfrom = [\"any\"]\ntext = \"any\"\n\
             [[rule]]\nid = \"no-evil\"\neffect = \"deny\"\nkind = \"message\"\nsiwe = { domain = [\"evil.example\"] }\n",
        )
        .unwrap();
        assert!(sign(&policy, "ann", "good morning").is_ok());
        let nearly = "evil.example wants you to sign in with your Ethereum account: please";
        assert_eq!(sign(&policy, "ann", nearly).unwrap_err().cause, DenialCause::Rule);
    }

    #[test]
    fn an_empty_policy_denies() {
        for policy in [Policy::default(), policy("").unwrap()] {
            assert_eq!(cause(&policy, &json!({ "data": transfer(ALICE, 1) })), Some(DenialCause::NoRule));
            assert_eq!(sign(&policy, "ann", "hi").unwrap_err().cause, DenialCause::NoRule);
        }
    }

    #[test]
    fn the_hash_names_files_abis_and_accounts() {
        let one = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        assert_eq!(one.hash(), policy(&format!("{CONTRACTS}{PAY}")).unwrap().hash());
        assert_eq!(one.hash(), alloy_primitives::keccak256(one.text()));
        for part in
            ["chain 1", &format!("account treasury {TREASURY}"), "1_000 USDC", "\nabi ", "transferFrom"]
        {
            assert!(one.text().contains(part), "{part}");
        }
        assert_ne!(one.hash(), policy(&format!("{CONTRACTS}{PAY}# a comment\n")).unwrap().hash());
        let two = policy_of(&[("a.toml", CONTRACTS), ("b.toml", PAY)]).unwrap();
        assert_ne!(one.hash(), two.hash());
    }

    #[test]
    fn an_explanation_agrees_with_the_decision_and_shows_each_rule() {
        let policy = with(&[], "[[rule]]\nid = \"stop\"\neffect = \"deny\"\nclients = [\"ben\"]\n");
        let asked = transaction(&json!({ "data": transfer(BOB, 5_000_000_000) }));
        let told = policy.explain::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0));
        assert!(!told.allowed);
        assert_eq!(told.rule.as_deref(), Some("pay"));
        assert_eq!(told.arguments[1], ("amount".to_owned(), "5000000000".to_owned()));
        assert_eq!((told.rules.len(), told.others), (1, 1), "the rule for ben is not ann's");
        assert_eq!(told.rules[0].failures[0].0, "args.amount");
        assert_eq!(told.rules[0].line, 8);
    }

    #[test]
    fn no_sentence_holds_a_phrase_that_clients_act_on() {
        let policy = with(
            &[],
            "[caps]\nmax_gas = 1\n[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"bob\"]\n",
        );
        let multicall = call("multicall(bytes[])", &[DynSolValue::Array(vec![])]);
        let sentences = [
            json!({ "data": transfer(ALICE, 1) }),
            json!({ "data": transfer(ALICE, u64::MAX) }),
            json!({ "data": multicall }),
            json!({ "to": BOB }),
            json!({ "to": ALICE, "value": "0x1" }),
            json!({ "to": null, "data": "0x00" }),
            json!({ "data": "0x00" }),
        ]
        .map(|fields| decide(&policy, "ann", &fields).unwrap_err().sentence.to_lowercase());
        for sentence in sentences {
            for phrase in [
                "insufficient funds",
                "nonce",
                "underpriced",
                "rate limit",
                "rate exceeded",
                "too many requests",
                "request limit",
                "header not found",
                "execution reverted",
                "gas limit",
                "exceeds",
                "already known",
                "user denied",
                "does not exist",
                "user rejected",
            ] {
                assert!(!sentence.contains(phrase), "{phrase}: {sentence}");
            }
        }
    }
}
