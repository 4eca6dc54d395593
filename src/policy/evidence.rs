//! What a decision goes by beside the payload: the time, and what was found out for it beforehand.
//!
//! A decision asks nobody. What it needs to know of the ledger and of the chain is worked out first ([`Policy::inquire`],
//! [`Policy::inquire_outcome`]), looked up by whoever asks for the decision, and handed in. What was not looked up does not hold.

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::Address;

use crate::clock::Timestamp;
use crate::identity::AccountCaller;
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::condition::Condition;
use crate::policy::decide::Policy;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Facts, Subject};
use crate::policy::judged::{Judged, facts};
use crate::policy::outcome::Simulated;
use crate::policy::rule::Rule;
use crate::policy::wrapper::Whole;

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Of the addresses that were asked for, those where the account created a contract, through this ledger.
    pub created: Vec<Address>,
    /// What the transaction would do.
    pub outcome: Simulated,
}

impl Evidence {
    /// The only nonce at which it says anything of the transaction.
    pub(in crate::policy) const fn nonce(&self) -> Option<u64> {
        match &self.outcome {
            Simulated::Seen(seen) => Some(seen.nonce),
            Simulated::Never | Simulated::Failed(_) | Simulated::Then => None,
        }
    }
}

/// What has to be found out before a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// Which of these the account created.
    pub created: Vec<Address>,
}

/// When a decision is made, and by what.
#[derive(Clone, Debug)]
pub struct Moment {
    pub now: Timestamp,
    pub evidence: Evidence,
}

/// How many addresses are looked up for one payload: more than any call of a deployer has.
const MAX_LOOKED_UP: usize = 256;

impl From<Timestamp> for Moment {
    fn from(now: Timestamp) -> Self {
        Self { now, evidence: Evidence::default() }
    }
}

impl Policy {
    /// What its decision about this payload needs to know.
    pub fn inquire<K: Judged>(&self, caller: &AccountCaller, asked: &K::Asked) -> Inquiry {
        let moment = self.clock.now().into();
        let whole = Whole::open(facts::<K>(caller, asked, &self.book, &moment), &self.wrappers);
        // Where they are too many, it is denied whatever anybody finds out.
        Inquiry { created: self.to_look_up(&whole).unwrap_or_default() }
    }

    /// The addresses of which rules want to know whether the account created them. What they are not asked of, none of them
    /// could forbid: so more than can be looked up are refused.
    pub(in crate::policy) fn to_look_up(&self, whole: &Whole<'_>) -> Result<Vec<Address>, Denied> {
        if !self.asks_created {
            return Ok(Vec::new());
        }
        let mut created: Vec<_> = whole.each().flat_map(|facts| self.looked_up(facts)).collect();
        created.sort_unstable();
        created.dedup();
        if created.len() <= MAX_LOOKED_UP {
            return Ok(created);
        }
        let (client, what) =
            whole.payload().map(|facts| (facts.client, facts.describe())).unwrap_or_default();
        let sentence = format!(
            "client `{client}` may not {what}: of more than {MAX_LOOKED_UP} addresses in it rules ask whether the account created them; send it in parts"
        );
        Err(Denied::new(DenialCause::Undecodable, sentence))
    }

    /// The addresses of one call that rules want to know of whether the account created them.
    fn looked_up(&self, facts: &Facts<'_>) -> Vec<Address> {
        let Subject::Transaction(transaction) = &facts.subject else { return Vec::new() };
        let mut found = Vec::new();
        for at in self.index.candidates(&facts.subject) {
            for condition in self.rules.get(at).into_iter().flat_map(|rule| &rule.conditions) {
                match condition {
                    Condition::To(to) if to.created => found.extend(transaction.to),
                    Condition::Argument { function, path, test } if names_created(test) => {
                        let arguments = transaction.arguments(function);
                        let values = arguments.as_ref().as_ref().ok().and_then(|all| path.values(all).ok());
                        let values = values.unwrap_or_default();
                        found.extend(values.iter().filter_map(|value| match value.as_ref() {
                            DynSolValue::Address(at) => Some(*at),
                            _ => None,
                        }));
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

/// Whether a rule speaks of what its account created.
pub(in crate::policy) fn asks_created(rule: &Rule) -> bool {
    rule.conditions.iter().any(|condition| match condition {
        Condition::To(to) => to.created,
        Condition::Argument { test, .. } | Condition::Field { test, .. } => names_created(test),
        _ => false,
    })
}

fn names_created(test: &ArgumentTest) -> bool {
    matches!(test, ArgumentTest::OneOf(operands, _) | ArgumentTest::NoneOf(operands, _) if operands.contains(&Operand::Created))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, USDC, address, call, caller, policy, transaction, transfer, world,
    };
    use crate::policy::{Denied, Policy};
    use crate::transaction::Tx;

    const VAULT: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

    const SET_UP: &str = r#"
[[rule]]
id      = "set-up"
effect  = "allow"
kind    = "transaction"
chain   = 1
clients = ["trader"]
from    = ["treasury"]
to      = ["$created"]
call    = "initialize(address owner, address registry)"
args    = { owner = "alice", registry = ["$created", "bob"] }
"#;

    fn initialize(owner: &str, registry: &str) -> String {
        call("initialize(address,address)", &[address(owner), address(registry)])
    }

    fn judge(policy: &Policy, created: &[&str], fields: &Value) -> Result<(), Denied> {
        let created = created.iter().map(|at| at.parse().unwrap()).collect();
        let evidence = Evidence { created, ..Evidence::default() };
        let moment = Moment { evidence, ..Timestamp::from_millis(0).into() };
        policy.judge::<Tx>(&caller("ann"), &transaction(fields), moment).map(drop)
    }

    fn failed(policy: &Policy, created: &[&str], fields: &Value) -> Option<String> {
        judge(policy, created, fields).err().map(|denied| denied.condition.unwrap_or_default())
    }

    #[test]
    fn inv_04_what_the_account_created_is_what_was_found_to_be_so() {
        let policy = policy(&format!("{CONTRACTS}{SET_UP}")).unwrap_or_else(|e| panic!("{e}"));
        let own = json!({ "to": VAULT, "data": initialize(ALICE, BOB) });
        assert_eq!(failed(&policy, &[], &own).as_deref(), Some("to"), "nobody found out anything");
        assert_eq!(failed(&policy, &[BOB], &own).as_deref(), Some("to"));
        let other = json!({ "to": BOB, "data": initialize(ALICE, VAULT) });
        assert_eq!(failed(&policy, &[BOB], &other).as_deref(), Some("args.registry"));
        assert_eq!(failed(&policy, &[BOB, VAULT], &other), None);
        let create = json!({ "to": null, "data": "0x6000" });
        assert!(judge(&policy, &[BOB], &create).is_err());
        let forbidden = json!({ "to": BOB, "data": initialize(BOB, VAULT) });
        assert_eq!(failed(&policy, &[BOB, VAULT], &forbidden).as_deref(), Some("args.owner"));
    }

    #[test]
    fn a_deny_rule_can_speak_of_what_the_account_created() {
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"$created\"]\n";
        let not = SET_UP.replace("registry = [\"$created\", \"bob\"]", "registry = { not = \"$created\" }");
        let text = not.replace("to      = [\"$created\"]", "to = [\"bob\"]");
        let own = json!({ "to": BOB, "data": initialize(ALICE, VAULT) });
        let policy_of = |text: &str| policy(&format!("{CONTRACTS}{text}")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(failed(&policy_of(&text), &[], &own), None);
        assert_eq!(failed(&policy_of(&text), &[VAULT], &own).as_deref(), Some("args.registry"));
        // What is not to be one has to be looked up as well: what nobody found out would pass.
        let asked = policy_of(&text).inquire::<Tx>(&caller("ann"), &transaction(&own)).created;
        assert_eq!(asked, [VAULT.parse::<Address>().unwrap()]);
        // So has the target, where it is all that the rule speaks of.
        let alone = policy_of(deny).inquire::<Tx>(&caller("ann"), &transaction(&own)).created;
        assert_eq!(alone, [BOB.parse::<Address>().unwrap()]);
        let both = policy_of(&format!("{text}{deny}"));
        assert_eq!(failed(&both, &[], &own), None);
        assert!(judge(&both, &[BOB], &own).unwrap_err().rule.as_deref() == Some("no"));
    }

    /// What is not looked up is not found to be created: a deny rule would be passed by those that no longer fit.
    #[test]
    fn inv_04_more_addresses_than_can_be_looked_up_are_refused() {
        let rule = |effect: &str, id: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"{effect}\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n\
                 to = [\"bob\"]\ncall = \"pay(address[] whom)\"\nargs = {{ {more} }}\n"
            )
        };
        let rules =
            rule("allow", "pay", "whom = \"any\"") + &rule("deny", "own", "\"some(whom)\" = \"$created\"");
        let policy = policy(&format!("{CONTRACTS}{rules}")).unwrap_or_else(|e| panic!("{e}"));
        let paid = |count: u64| {
            let one =
                |at: u64| DynSolValue::Address(Address::from_word(alloy_primitives::U256::from(at).into()));
            json!({ "to": BOB, "data": call("pay(address[])", &[DynSolValue::Array((1..=count).map(one).collect())]) })
        };
        let asked = |count| policy.inquire::<Tx>(&caller("ann"), &transaction(&paid(count))).created.len();
        assert_eq!((asked(256), judge(&policy, &[], &paid(256))), (256, Ok(())));
        let denied = judge(&policy, &[], &paid(257)).unwrap_err();
        assert!(
            denied.cause == DenialCause::Undecodable && denied.sentence.contains("send it in parts"),
            "{denied}"
        );
    }

    /// Nobody is asked of what no rule wants to know.
    #[test]
    fn what_is_to_be_found_out_is_what_rules_ask_for() {
        let rules = policy(&format!("{CONTRACTS}{SET_UP}")).unwrap();
        let asked = |fields: &Value| rules.inquire::<Tx>(&caller("ann"), &transaction(fields)).created;
        let both: Vec<Address> = [BOB, VAULT].iter().map(|at| at.parse().unwrap()).collect();
        assert_eq!(asked(&json!({ "to": BOB, "data": initialize(ALICE, VAULT) })), both);
        assert!(asked(&json!({ "to": USDC, "data": transfer(ALICE, 1) })).is_empty());
        let without = policy(CONTRACTS).unwrap();
        let fields = json!({ "to": BOB, "data": initialize(ALICE, VAULT) });
        assert_eq!(without.inquire::<Tx>(&caller("ann"), &transaction(&fields)), Inquiry::default());
    }

    #[test]
    fn what_was_created_is_spoken_of_in_rules_for_transactions_only() {
        for (right, wrong, what) in [
            (
                "kind    = \"transaction\"",
                "kind = \"presigned\"",
                "`$created` goes with kind = \"transaction\" only",
            ),
            ("call    = \"initialize(", "call = \"initialise", "without contracts in `to`"),
        ] {
            let text = SET_UP.replace("[\"treasury\"]", "[\"any\"]").replace(right, wrong);
            let error = policy(&format!("{CONTRACTS}{text}")).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        let permit = "[[rule]]\nid = \"p\"\neffect = \"deny\"\nkind = \"typed_data\"\nprimary_type = \"Permit\"\nfields = { spender = \"$created\" }\n";
        let error = policy(&format!("{CONTRACTS}{permit}")).unwrap_err().to_string();
        assert!(error.contains("`$created` goes with kind = \"transaction\" only"), "{error}");
        let budget = "[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = 1\nwindow = \"1h\"\nmatch = { kind = \"transaction\", to = [\"$created\"] }\n";
        let error = policy(&format!("{CONTRACTS}{budget}")).unwrap_err().to_string();
        assert!(error.contains("`$created` goes with rules only"), "{error}");
        let told = policy(&format!("{CONTRACTS}{SET_UP}")).unwrap().describe(&world());
        assert!(told.rules[0].text.contains("at (what the account created)"), "{}", told.rules[0].text);
        assert!(told.rules[0].text.contains("`registry` is what the account created or bob"));
    }
}
