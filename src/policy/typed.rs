//! Typed data as conditions see it, and what is known of well-known types: their members, and what their signatures let
//! others move.

use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, address};

use crate::policy::abi::Function;
use crate::policy::facts::Facts;
use crate::transaction::Structured;

pub(in crate::policy) struct TypedFacts<'a> {
    pub asked: &'a Structured,
}

/// A type that has a name here.
#[derive(Debug)]
pub(in crate::policy) struct Template {
    /// As `primary_type` names it.
    pub name: &'static str,
    pub encode_type: &'static str,
    pub moves: Moves,
    /// Where the amount stands, for those who look whether it is bounded.
    pub amount: Option<&'static str>,
}

/// What a signature lets others move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Moves {
    Nothing,
    /// The token that verifies it; the member that is the amount.
    Own(usize),
    /// All of the token that verifies it, if this member is true.
    AllIf(usize),
    /// What the first member, a struct or a list of them, begins with: a token and an amount.
    Listed,
}

/// Where Permit2 is, on every chain.
const PERMIT2: Address = address!("0x000000000022D473030F116dDEE9F6B43aC78BA3");

const TEMPLATES: &[Template] = &[
    Template {
        name: "Permit",
        encode_type: "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
        moves: Moves::Own(2),
        amount: Some("value"),
    },
    Template {
        name: "DaiPermit",
        encode_type: "Permit(address holder,address spender,uint256 nonce,uint256 expiry,bool allowed)",
        moves: Moves::AllIf(4),
        amount: None,
    },
    Template {
        name: "TransferWithAuthorization",
        encode_type: "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)",
        moves: Moves::Own(2),
        amount: Some("value"),
    },
    Template {
        name: "ReceiveWithAuthorization",
        encode_type: "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)",
        moves: Moves::Own(2),
        amount: Some("value"),
    },
    Template {
        name: "CancelAuthorization",
        encode_type: "CancelAuthorization(address authorizer,bytes32 nonce)",
        moves: Moves::Nothing,
        amount: None,
    },
    Template {
        name: "PermitSingle",
        encode_type: "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)",
        moves: Moves::Listed,
        amount: Some("details.amount"),
    },
    Template {
        name: "PermitBatch",
        encode_type: "PermitBatch(PermitDetails[] details,address spender,uint256 sigDeadline)PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)",
        moves: Moves::Listed,
        amount: Some("all(details.amount)"),
    },
    Template {
        name: "PermitTransferFrom",
        encode_type: "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)",
        moves: Moves::Listed,
        amount: Some("permitted.amount"),
    },
    Template {
        name: "PermitBatchTransferFrom",
        encode_type: "PermitBatchTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)",
        moves: Moves::Listed,
        amount: Some("all(permitted.amount)"),
    },
    Template {
        name: SAFE_TX,
        encode_type: "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)",
        // What it moves is the Safe's, and counts as the call that it carries.
        moves: Moves::Nothing,
        amount: None,
    },
];

/// A transaction of a Safe, of which the account is an owner.
pub(in crate::policy) const SAFE_TX: &str = "SafeTx";

/// Permit2's types with a witness: whatever the application adds stands after these members.
const WITNESSED: &[&str] = &[
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
    "PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,",
];

impl TypedFacts<'_> {
    /// The chain that it is for, where its domain says so.
    pub fn chain(&self) -> Option<u64> {
        self.asked.domain().chain_id
    }

    /// The contract that verifies the signature, where the domain names one.
    pub fn to(&self) -> Option<Address> {
        self.asked.domain().verifying_contract
    }

    /// The contract that verifies the signature, and its chain, where the domain names both.
    pub fn verifier(&self) -> Option<(u64, Address)> {
        self.chain().zip(self.to())
    }

    pub fn describe(&self, facts: &Facts<'_>) -> String {
        let name = self.asked.ty().name();
        match (self.to(), self.chain()) {
            (Some(to), Some(chain)) => format!("sign typed data `{name}` for {}", facts.name(chain, to)),
            (Some(to), None) => format!("sign typed data `{name}` for {to} on any chain"),
            (None, _) => format!("sign typed data `{name}` for no contract"),
        }
    }

    /// How much of a token the signature lets others move, or why nobody can tell.
    pub fn moved(&self, chain: u64, token: Address) -> Result<U256, String> {
        if self.chain().is_some_and(|of| of != chain) {
            return Ok(U256::ZERO);
        }
        let encode_type = self.asked.ty().encode_type();
        let moves = match Template::of(encode_type) {
            Some(template) => template.moves,
            None if WITNESSED.iter().any(|begin| encode_type.starts_with(begin)) => Moves::Listed,
            None if self.to() == Some(token) || self.to() == Some(PERMIT2) => {
                return Err(format!(
                    "nobody knows what a signature of `{}` lets others move",
                    self.asked.ty().name()
                ));
            }
            None => Moves::Nothing,
        };
        let values = self.asked.values();
        let none = || "there is no amount in it".to_owned();
        let amount = |value: Option<&DynSolValue>| value?.as_uint().map(|(amount, _)| amount);
        match moves {
            Moves::Own(at) if self.to() == Some(token) => amount(values.get(at)).ok_or_else(none),
            Moves::AllIf(at) if self.to() == Some(token) => {
                match values.get(at).and_then(DynSolValue::as_bool) {
                    Some(true) => Ok(U256::MAX),
                    Some(false) => Ok(U256::ZERO),
                    None => Err(none()),
                }
            }
            Moves::Nothing | Moves::Own(_) | Moves::AllIf(_) => Ok(U256::ZERO),
            Moves::Listed => {
                let first = values.first().ok_or_else(none)?;
                let list = first.as_array().unwrap_or(std::slice::from_ref(first));
                list.iter().try_fold(U256::ZERO, |sum, one| match one.as_tuple() {
                    Some([of, much, ..]) if of.as_address() == Some(token) => {
                        Ok(sum.saturating_add(amount(Some(much)).ok_or_else(none)?))
                    }
                    Some([of, ..]) if of.as_address().is_some() => Ok(sum),
                    _ => Err(none()),
                })
            }
        }
    }
}

impl Template {
    pub fn named(name: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    pub fn of(encode_type: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.encode_type == encode_type)
    }

    /// The names of all, for a sentence.
    pub fn names() -> String {
        TEMPLATES.iter().map(|template| template.name).collect::<Vec<_>>().join(", ")
    }
}

/// What `primary_type` means: the name of a template, or the type as EIP-712 encodes it.
pub(in crate::policy) fn primary_type(text: &str) -> Result<Arc<Function>, String> {
    let encode_type = match Template::named(text) {
        Some(template) => template.encode_type,
        None if text.contains('(') => text,
        None => {
            return Err(format!(
                "`{text}` is not known; write the type with its members, such as \"Vote(uint256 proposal,bool support)\", or one of {}",
                Template::names()
            ));
        }
    };
    let ty = crate::transaction::StructType::parse(encode_type).map_err(|e| e.to_string())?;
    Ok(Arc::new(Function::of_struct(&ty)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, NOW, TREASURY, USDC, assess, failed, policy, structured, template, typed,
    };
    use crate::policy::{DenialCause, Past, Policy};
    use crate::transaction::{Kind as _, TypedData};

    const PERMIT: &str = r#"
[[rule]]
id           = "permit"
effect       = "allow"
kind         = "typed_data"
chain        = 1
clients      = ["trader"]
from         = ["treasury"]
to           = ["usdc"]
primary_type = "Permit"
fields       = { owner = "$from", spender = "alice", value = { max = "1_000 USDC" }, deadline = { within = "1h" } }
"#;

    const PERMIT2_RULES: &str = r#"
[[rule]]
id = "single"
effect = "allow"
kind = "typed_data"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
primary_type = "PermitSingle"
fields = { "details.token" = "usdc", "details.amount" = { max = "5 USDC" }, spender = "any" }

[[rule]]
id = "batch"
effect = "allow"
kind = "typed_data"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
primary_type = "PermitBatch"
fields = { "all(details.token)" = "any", spender = "any" }

[[rule]]
id = "witness"
effect = "allow"
kind = "typed_data"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
primary_type = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Order witness)Order(uint8 side)TokenPermissions(address token,uint256 amount)"
fields = { "permitted.token" = "any", spender = "any" }
"#;

    const DAY: &str = "[[budget]]\nid = \"day\"\nasset = \"usdc\"\nmax = \"1_000 USDC\"\nwindow = \"24h\"\n";

    fn permit(to: &str, spender: &str, value: u64) -> Value {
        let message = json!({
            "owner": TREASURY, "spender": spender, "value": value.to_string(), "nonce": 0, "deadline": NOW + 60,
        });
        template("Permit", to, message)
    }

    fn with(rules: &str) -> Policy {
        policy(&format!("{CONTRACTS}{rules}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn mistakes(rules: &str) -> String {
        policy(&format!("{CONTRACTS}{rules}")).unwrap_err().to_string()
    }

    #[test]
    fn a_permit_is_signed_within_its_conditions_and_charged_as_an_approval() {
        let policy = with(&format!("{PERMIT}{DAY}"));
        let day = |amount: &str| Ok(vec![("day".to_owned(), amount.to_owned())]);
        assert_eq!(assess(&policy, &permit(USDC, ALICE, 7_000_000)), day("7 USDC"));
        let refused = assess(&policy, &permit(USDC, ALICE, 1_000_000_001)).unwrap_err();
        assert!(
            refused.to_string().contains(
                "sign typed data `Permit` for `usdc` (0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48) with `treasury` \
                 (0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045): rule `permit` comes nearest, but `fields.value`: it is \
                 1000.000001 USDC, and may be at most 1000 USDC"
            ),
            "{refused}"
        );
        let mut late = permit(USDC, ALICE, 1);
        late["message"]["deadline"] = json!(NOW + 3601);
        let mut other_owner = permit(USDC, ALICE, 1);
        other_owner["message"]["owner"] = json!(BOB);
        for (data, condition) in [
            (permit(USDC, BOB, 1), "fields.spender"),
            (late, "fields.deadline"),
            (other_owner, "fields.owner"),
        ] {
            assert_eq!(failed(&policy, &data).as_deref(), Some(condition));
        }
        assert_eq!(
            assess(&with(&format!("{PERMIT}{}", DAY.replace("day", "x"))), &permit(USDC, ALICE, 0)),
            Ok(vec![])
        );
    }

    /// A permit for shares of a vault is one for what they stand for.
    #[test]
    fn inv_03_a_permit_for_shares_is_denied_where_a_budget_of_what_they_stand_for_asks() {
        const VAULT: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let of = |underlying: &str, value: u64| {
            let vault =
                format!("vault = {{ chain = 1, address = \"{VAULT}\", abi = \"erc4626\"{underlying} }}\n");
            let rule = PERMIT.replace("[\"usdc\"]", "[\"vault\"]").replace("\"1_000 USDC\"", "5");
            let policy = policy(&format!("{CONTRACTS}{vault}{rule}{DAY}")).unwrap_or_else(|e| panic!("{e}"));
            assess(&policy, &permit(VAULT, ALICE, value))
        };
        for underlying in [", underlying = \"usdc\"", ""] {
            let denied = of(underlying, 5).unwrap_err();
            assert!(
                denied.cause == DenialCause::Undecodable && denied.sentence.contains("shares of `vault`"),
                "{denied}"
            );
            assert!(of(underlying, 0).is_ok());
        }
        assert!(of(", underlying = \"bob\"", 5).is_ok());
    }

    /// What a domain calls itself means nothing; what it leaves out, no rule can pin.
    #[test]
    fn inv_04_typed_data_whose_domain_lies_is_refused() {
        let policy = with(PERMIT);
        assert_eq!(failed(&policy, &permit(USDC, ALICE, 1)), None);
        assert_eq!(
            failed(&policy, &permit(BOB, ALICE, 1)).as_deref(),
            Some("no_rule"),
            "another contract, the same name"
        );
        let without = |member: &str, at: usize| {
            let mut data = permit(USDC, ALICE, 1);
            data["domain"].as_object_mut().unwrap().remove(member);
            data["types"]["EIP712Domain"].as_array_mut().unwrap().remove(at);
            data
        };
        assert_eq!(failed(&policy, &without("chainId", 1)).as_deref(), Some("chain"), "good on every chain");
        assert_eq!(
            failed(&policy, &without("verifyingContract", 2)).as_deref(),
            Some("no_rule"),
            "good for any contract"
        );
        let mut elsewhere = permit(USDC, ALICE, 1);
        elsewhere["domain"]["chainId"] = json!(5);
        assert_eq!(failed(&policy, &elsewhere).as_deref(), Some("chain"));
        // A domain that holds more or less than its type says is none: see `Domain::read`.
        let mut hidden = permit(USDC, ALICE, 1);
        hidden["types"]["EIP712Domain"].as_array_mut().unwrap().remove(2);
        assert!(Structured::read_text(TREASURY.parse().unwrap(), &hidden.to_string()).is_err());
        let named = with(&format!("{PERMIT}domain = {{ name = \"USDC\", version = \"2\" }}\n"));
        assert_eq!(failed(&named, &permit(USDC, ALICE, 1)).as_deref(), Some("domain"));
    }

    /// The same name with other members is another type: an allow rule does not mean it, a deny rule may.
    #[test]
    fn inv_04_a_type_is_its_members_not_its_name() {
        let other = typed(
            "Permit(address owner,address spender,uint256 value,uint256 deadline)",
            USDC,
            json!({ "owner": TREASURY, "spender": ALICE, "value": 1, "deadline": NOW + 60 }),
        );
        assert_eq!(failed(&with(PERMIT), &other).as_deref(), Some("primary_type"));
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"typed_data\"\nprimary_type = \"Permit\"\nfields = { spender = \"bob\" }\n";
        let allow = PERMIT
            .replace("\"Permit\"", "\"Permit(address owner,address spender,uint256 value,uint256 deadline)\"")
            .replace("\"permit\"", "\"other\"");
        let policy = with(&format!("{PERMIT}{allow}"));
        assert_eq!(failed(&policy, &other), None);
        let policy = with(&format!("{PERMIT}{allow}{deny}"));
        assert_eq!(failed(&policy, &other).as_deref(), Some("rule"), "in doubt, denied");
        assert_eq!(failed(&policy, &permit(USDC, ALICE, 1)), None);
        let everything = format!("{PERMIT}[[rule]]\nid = \"no\"\neffect = \"deny\"\n");
        assert_eq!(failed(&with(&everything), &permit(USDC, ALICE, 1)).as_deref(), Some("rule"));
    }

    #[test]
    fn inv_03_what_permit2_lets_others_move_is_charged() {
        let policy = with(&format!("{PERMIT2_RULES}{DAY}"));
        let day = |amount: &str| vec![("day".to_owned(), amount.to_owned())];
        let details = |token: &str, amount: u64| json!({ "token": token, "amount": amount, "expiration": 0, "nonce": 0 });
        let single = |token, amount| {
            template(
                "PermitSingle",
                BOB,
                json!({ "details": details(token, amount), "spender": ALICE, "sigDeadline": 0 }),
            )
        };
        assert_eq!(assess(&policy, &single(USDC, 5_000_000)).unwrap(), day("5 USDC"));
        assert_eq!(failed(&policy, &single(USDC, 5_000_001)).as_deref(), Some("fields.details.amount"));
        assert_eq!(failed(&policy, &single(BOB, 1)).as_deref(), Some("fields.details.token"));
        let batch = json!({
            "details": [details(USDC, 3), details(ALICE, 100), details(USDC, 4)], "spender": ALICE, "sigDeadline": 0,
        });
        assert_eq!(assess(&policy, &template("PermitBatch", BOB, batch)).unwrap(), day("0.000007 USDC"));
        let witness = typed(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Order witness)Order(uint8 side)TokenPermissions(address token,uint256 amount)",
            &PERMIT2.to_string(),
            json!({ "permitted": { "token": USDC, "amount": 9 }, "spender": BOB, "nonce": 0, "deadline": 0, "witness": { "side": 1 } }),
        );
        assert_eq!(assess(&policy, &witness).unwrap(), day("0.000009 USDC"));
    }

    #[test]
    fn inv_03_what_nobody_knows_of_a_token_is_denied_where_a_budget_counts_it() {
        let ty = "Delegate(address to,uint256 share)";
        let rule = PERMIT
            .replace("\"Permit\"", &format!("\"{ty}\""))
            .replace("[\"usdc\"]", "[\"any\"]")
            .replace("{ owner = \"$from\", spender = \"alice\", value = { max = \"1_000 USDC\" }, deadline = { within = \"1h\" } }", "{ to = \"alice\" }");
        let data = |to: &str| typed(ty, to, json!({ "to": ALICE, "share": 1 }));
        assert_eq!(assess(&with(&rule), &data(USDC)), Ok(vec![]));
        let policy = with(&format!("{rule}{DAY}"));
        let denied = assess(&policy, &data(USDC)).unwrap_err();
        assert_eq!((denied.cause, denied.rule.as_deref()), (DenialCause::Undecodable, Some("day")));
        assert!(assess(&policy, &data(&PERMIT2.to_string())).is_err());
        assert_eq!(assess(&policy, &data(BOB)), Ok(vec![]));
        let dai = |allowed: bool| {
            let message =
                json!({ "holder": TREASURY, "spender": ALICE, "nonce": 0, "expiry": 0, "allowed": allowed });
            template("DaiPermit", USDC, message)
        };
        let rule = "[[rule]]\nid = \"dai\"\neffect = \"allow\"\nkind = \"typed_data\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\nto = [\"usdc\"]\nprimary_type = \"DaiPermit\"\nfields = { holder = \"$from\", spender = \"any\" }\n";
        let policy = with(&format!("{rule}{DAY}"));
        assert_eq!(assess(&policy, &dai(false)), Ok(vec![]));
        let charges = assess(&policy, &dai(true)).unwrap();
        assert!(charges[0].1.starts_with("1157920892"), "all there is: {charges:?}");
    }

    #[test]
    fn a_rule_for_typed_data_that_leaves_something_open_is_refused_with_its_line() {
        for (right, wrong, why) in [
            ("to           = [\"usdc\"]\n", "", "missing: `to`"),
            ("chain        = 1\n", "", "missing: `chain`"),
            ("primary_type = \"Permit\"\n", "", "missing: `primary_type`"),
            (
                ", spender = \"alice\"",
                "",
                "`spender` of Permit(address owner, address spender, uint256 value",
            ),
            ("\"Permit\"", "\"Vote\"", "write the type with its members"),
            ("\"Permit\"", "\"Permit(address owner)Extra(uint8 a)\"", "`Extra` is not used"),
            ("spender =", "spend =", "has no parameter `spend`"),
            (
                "kind         = \"typed_data\"",
                "kind = \"transaction\"",
                "`fields` goes with kind = \"typed_data\" only",
            ),
            ("to           = [\"usdc\"]", "to = [\"create\"]", "typed data creates nothing"),
            (
                "id           = \"permit\"",
                "call = \"any\"\nid = \"permit\"",
                "`call` goes with kind = \"transaction\" or \"presigned\" only",
            ),
            ("1_000 USDC", "1 ether", "so write the amount in USDC"),
        ] {
            assert!(PERMIT.contains(right), "{right}");
            let error = mistakes(&PERMIT.replacen(right, wrong, 1));
            assert!(error.contains("policy.toml:") && error.contains(why), "{wrong}: {error}");
        }
        let budget = format!(
            "{PERMIT}{}match = {{ kind = \"typed_data\" }}\n",
            DAY.replace("\"usdc\"", "\"ether\"").replace("1_000 USDC", "1 ether")
        );
        let error = mistakes(&budget);
        assert!(error.contains("typed data moves no ether"), "{error}");
    }

    #[test]
    fn what_a_rule_leaves_open_is_warned_of() {
        let warned = |text: &str| -> String {
            let found = with(text).warnings(&crate::policy::tests::world());
            let found = found.iter().filter(|warning| !warning.what.contains("whose key everybody has"));
            found.map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(warned(PERMIT), "");
        let unlimited =
            PERMIT.replace("value = { max = \"1_000 USDC\" }, ", "").replace("\"alice\"", "\"any\"");
        let warnings = warned(&unlimited);
        assert!(
            warnings.contains("an unlimited permit") && warnings.contains("`fields.spender` is \"any\""),
            "{warnings}"
        );
        assert!(
            warned(&PERMIT.replace("[\"usdc\"]", "[\"any\"]").replace("1_000 USDC", "1_000"))
                .contains("`to` is \"any\"")
        );
    }

    /// A budget that is counted anew reads what was signed from beside its signature.
    #[test]
    fn inv_03_a_permit_that_was_signed_is_counted_again() {
        let policy = with(&format!("{PERMIT}{DAY}"));
        let raw =
            [[0; 65].as_slice(), structured(&permit(USDC, ALICE, 7_000_000)).text().as_bytes()].concat();
        let raw = alloy_primitives::Bytes::from(raw);
        let account = TREASURY.parse().unwrap();
        let at = crate::clock::Timestamp::from_millis(0);
        let past = Past { client: "ann", account, rule: "permit", kind: TypedData::NAME, at, raw: &raw };
        let charges = policy.charges_of(&past).unwrap();
        assert_eq!(charges[0].limit.show(charges[0].amount), "7 USDC");
        let cut = alloy_primitives::Bytes::from_static(&[0; 65]);
        assert!(
            policy.charges_of(&Past { raw: &cut, ..past }).is_err(),
            "what cannot be read is not forgotten"
        );
    }

    #[test]
    fn every_template_is_a_type_with_the_amount_where_it_says() {
        for template in TEMPLATES {
            let function = primary_type(template.name).unwrap_or_else(|e| panic!("{}: {e}", template.name));
            assert_eq!(function.signature, template.encode_type);
            if let Some(amount) = template.amount {
                let (_, ty) = crate::policy::path::Path::parse(&function, amount).unwrap();
                assert!(matches!(ty, alloy_dyn_abi::DynSolType::Uint(_)), "{}", template.name);
            }
        }
    }

    /// The type hashes that stand in the contracts themselves.
    #[test]
    fn the_templates_are_those_of_the_contracts() {
        for (name, hash) in [
            ("Permit", "0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9"),
            ("DaiPermit", "0xea2aa0a1be11a07ed86d755c93467f4f82362b452371d1ba94d1715123511acb"),
            (
                "TransferWithAuthorization",
                "0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267",
            ),
            (
                "ReceiveWithAuthorization",
                "0xd099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8",
            ),
            ("CancelAuthorization", "0x158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429"),
            ("SafeTx", "0xbb8310d486368db6bd6f849402fdd73ad53d316b5a4b2644ad6efe0f941286d8"),
            ("PermitSingle", "0xf3841cd1ff0085026a6327b620b67997ce40f282c88a8e905a7a5626e310f3d0"),
            ("PermitBatch", "0xaf1b0d30d2cab0380e68f0689007e3254993c596f2fdd0aaa7f4d04f79440863"),
            ("PermitTransferFrom", "0x939c21a48a8dbe3a9a2404a1d46691e4d39f6583d6ec6b35714604c986d80106"),
            ("PermitBatchTransferFrom", "0xfcf35f5ac6a2c28868dc44c302166470266239195f02b0ee408334829333b766"),
        ] {
            let template = Template::named(name).unwrap();
            let found = alloy_primitives::keccak256(template.encode_type.as_bytes());
            assert_eq!(found.to_string(), hash, "{name}");
        }
    }

    /// A permit of one token is none of another; and a contract of another chain is not the one at its address here.
    #[test]
    fn inv_03_a_permit_counts_for_its_own_token_on_its_own_chain() {
        const VAULT: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let rule = |ty: &str, owner: &str| {
            format!(
                "[[rule]]\nid = \"{ty}\"\neffect = \"allow\"\nkind = \"typed_data\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 to = [\"any\"]\nprimary_type = \"{ty}\"\nfields = {{ {owner} = \"$from\", spender = \"any\" }}\n"
            )
        };
        let vault = format!("vault = {{ chain = 10, address = \"{VAULT}\", abi = \"erc4626\" }}\n");
        let policy = with(&format!("{vault}{}{}{DAY}", rule("Permit", "owner"), rule("DaiPermit", "holder")));
        let dai = |to: &str| {
            let message =
                json!({ "holder": TREASURY, "spender": ALICE, "nonce": 0, "expiry": 0, "allowed": true });
            template("DaiPermit", to, message)
        };
        for (data, is_counted) in [
            (permit(USDC, ALICE, 5), true),
            (permit(BOB, ALICE, 5), false),
            (permit(VAULT, ALICE, 5), false),
            (dai(USDC), true),
            (dai(BOB), false),
        ] {
            assert_eq!(assess(&policy, &data).unwrap().len(), usize::from(is_counted), "{data}");
        }
    }
}
