//! May it be signed: policy files become rules, and rules decide. No I/O on the path of a request.
//!
//! A folder of files is read ([`Policy::load`]) against the names of the configuration ([`World`]); a decision
//! ([`Policy::decide`]) ends in a [`Permitted`], which is the one thing that the ledger takes, or in a
//! [`Denied`], which says who may not do what, and why. `docs/policy.md` is the language's reference.
//!
//! **Invariant:** a decision reads no file, asks no node and looks at no state but its rates.

mod abi;
mod amount;
mod caps;
mod condition;
mod decide;
mod denied;
mod error;
mod facts;
mod index;
mod judged;
mod load;
mod permitted;
mod rate;
mod read;
mod rule;
mod siwe;
mod world;
mod wrapper;
mod written;

pub use decide::Policy;
pub use denied::{DenialCause, Denied};
pub use error::PolicyError;
pub use judged::Judged;
pub use permitted::Permitted;
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
    use crate::policy::load::Source;
    use crate::transaction::{Filled, Message, Quote, QuotedFees, Request, Text, Tx};

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
            role: role.map(str::to_owned),
            person: None,
            accounts: vec![TREASURY.parse().unwrap()],
            origins: vec![],
        }
    }

    pub(super) fn world() -> World {
        World {
            chain: 1,
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
        let abi = |name: &str| abi::built_in(name).map(str::to_owned).ok_or("no such ABI".to_owned());
        Policy::of_sources(&sources, &world(), abi)
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
        policy.decide::<Tx>(&caller(who), transaction(fields)).map(|permitted| permitted.rule().to_owned())
    }

    pub(super) fn sign(policy: &Policy, who: &str, text: &str) -> Result<String, Denied> {
        let asked = Text::new(TREASURY.parse().unwrap(), Bytes::copy_from_slice(text.as_bytes()));
        let now = Timestamp::from_millis(1_769_860_800_000);
        policy.judge::<Message>(&caller(who), &asked, now).map(|rule| rule.to_string())
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
}
