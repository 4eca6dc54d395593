//! The conditions of rules: each looks at one thing, and says in a sentence why it does not hold.

use std::sync::Arc;

use alloy_primitives::{Address, U256};

use crate::policy::abi::Function;
use crate::policy::amount::{Range, show_wei};
use crate::policy::argument::{self, ArgumentTest};
use crate::policy::call::{Call, Made, TransactionFacts};
use crate::policy::facts::{Facts, Subject};
use crate::policy::hours::Hours;
use crate::policy::messages::{SiweTest, TextTest};
use crate::policy::outcome::OutcomeTest;
use crate::policy::path::Path;
use crate::policy::typed::TypedFacts;
use crate::transaction::calldata::CalldataError;
use crate::transaction::{Authorizations, Blobs};

/// One condition. Several values in a list are alternatives.
#[derive(Debug, PartialEq)]
pub(in crate::policy) enum Condition {
    Chain(u64),
    /// Names of clients, or of roles.
    Clients(Vec<String>),
    From(Vec<Address>),
    To(Targets),
    /// The contracts that may make the call for the account; without any, it is the account that makes it.
    Via(Vec<Address>),
    /// Whether it is a delegatecall.
    Delegatecall(bool),
    Call(Called),
    Argument {
        function: Arc<Function>,
        path: Path,
        test: ArgumentTest,
    },
    PrimaryType(Arc<Function>),
    /// A member of typed data.
    Field {
        ty: Arc<Function>,
        path: Path,
        test: ArgumentTest,
    },
    Domain(DomainTest),
    Value(Range),
    ExecutionFee(Range),
    /// How many blobs it has (EIP-4844).
    Blobs(Range),
    /// The most that they can cost together.
    BlobFee(Range),
    Delegates(Delegates),
    Outcome(OutcomeTest),
    /// At any of these times.
    Hours(Vec<Hours>),
    Text(TextTest),
    Siwe(SiweTest),
}

/// `to`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Targets {
    /// Any address.
    pub any: bool,
    /// No address at all: a creation (`"create"`), or typed data for no contract (`"none"`).
    pub nobody: bool,
    /// `"$created"`: a contract that the account created here.
    pub created: bool,
    pub addresses: Vec<Address>,
}

/// `delegates`: whose code may act as an account, or to whose code those are set that have signed for it (EIP-7702). The zero
/// address stands for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Delegates {
    /// `None`: any.
    pub of: Option<Vec<Address>>,
    /// Whether it must hold of each authorization, of none as well; else of at least one.
    pub all: bool,
}

/// `call`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) enum Called {
    Empty,
    Function(Arc<Function>),
}

/// `domain`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) struct DomainTest {
    pub name: Option<String>,
    pub version: Option<String>,
}

/// Whether a condition holds.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) enum Holds {
    Yes,
    No(String),
    /// The payload cannot be read well enough to say.
    Unclear(String),
}

impl Condition {
    /// The key of the rule that this is written under.
    pub fn key(&self) -> String {
        match self {
            Self::Chain(_) => "chain".to_owned(),
            Self::Clients(_) => "clients".to_owned(),
            Self::From(_) => "from".to_owned(),
            Self::To(_) => "to".to_owned(),
            Self::Via(_) => "via".to_owned(),
            Self::Delegatecall(_) => "delegatecall".to_owned(),
            Self::Call(_) => "call".to_owned(),
            Self::Argument { path, .. } => format!("args.{path}"),
            Self::PrimaryType(_) => "primary_type".to_owned(),
            Self::Field { path, .. } => format!("fields.{path}"),
            Self::Domain(_) => "domain".to_owned(),
            Self::Value(_) => "value".to_owned(),
            Self::ExecutionFee(_) => "execution_fee".to_owned(),
            Self::Blobs(_) => "blobs".to_owned(),
            Self::BlobFee(_) => "blob_fee".to_owned(),
            Self::Delegates(_) => "delegates".to_owned(),
            Self::Outcome(_) => "outcome".to_owned(),
            Self::Hours(_) => "hours".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::Siwe(_) => "siwe".to_owned(),
        }
    }

    pub fn test(&self, facts: &Facts<'_>) -> Holds {
        match (self, &facts.subject) {
            (Self::Clients(names), _) => {
                let found =
                    names.iter().any(|name| name == facts.client || Some(name.as_str()) == facts.role);
                when(found, || format!("client `{}` is not among those of the rule", facts.client))
            }
            (Self::From(accounts), _) => when(accounts.contains(&facts.account), || {
                format!("account {} is not among those of the rule", facts.book.account(facts.account))
            }),
            (Self::Hours(hours), _) => when(hours.iter().any(|hours| hours.contain(facts.now)), || {
                let hours: Vec<_> = hours.iter().map(|hours| hours.text.as_str()).collect();
                format!("it is {}, and the rule is for {}", facts.now, hours.join(", "))
            }),
            (Self::Chain(chain), Subject::Transaction(transaction)) => {
                let is = transaction.chain;
                when(is == *chain, || format!("the chain is {is}, the rule is for chain {chain}"))
            }
            (Self::To(targets), Subject::Transaction(transaction)) => targets.test(transaction, facts),
            (Self::Via(carriers), Subject::Transaction(transaction)) => via(carriers, transaction, facts),
            (Self::Delegatecall(wanted), Subject::Transaction(transaction)) => {
                let is = transaction.made == Made::Delegated;
                when(is == *wanted, || format!("it is {} delegatecall", if is { "a" } else { "no" }))
            }
            (Self::Call(called), Subject::Transaction(transaction)) => called.test(transaction),
            (Self::Argument { function, path, test }, Subject::Transaction(transaction)) => {
                argument::test(transaction, function, (path, test), facts)
            }
            (Self::Value(range), Subject::Transaction(transaction)) => {
                amount("value", transaction.value, range)
            }
            (Self::ExecutionFee(range), Subject::Transaction(transaction)) => amount(
                "the most it can cost to execute (gas limit times fee, and blobs)",
                transaction.max_execution_fee(),
                range,
            ),
            (Self::Blobs(range), Subject::Transaction(transaction)) => {
                let count = transaction.blobs().map_or(0, Blobs::count);
                when(range.contains(U256::from(count)), || {
                    format!(
                        "it has {count} blobs, and must have {}",
                        range.describe(|count| count.to_string())
                    )
                })
            }
            (Self::BlobFee(range), Subject::Transaction(transaction)) => {
                let fee = transaction.blobs().map(Blobs::max_fee).unwrap_or_default();
                amount("the most that its blobs can cost", fee, range)
            }
            (Self::Delegates(delegates), Subject::Transaction(transaction)) => {
                delegates.test(transaction, facts)
            }
            (Self::Outcome(test), Subject::Transaction(_)) => test.test(facts),
            (Self::Chain(chain), Subject::TypedData(typed)) => match typed.chain() {
                Some(is) => when(is == *chain, || {
                    format!("the domain is of chain {is}, the rule is for chain {chain}")
                }),
                None => Holds::Unclear("the domain names no chain, so it is good on all".to_owned()),
            },
            (Self::To(targets), Subject::TypedData(typed)) => targets.verify(typed, facts),
            (Self::PrimaryType(ty), Subject::TypedData(typed)) => is_of_type(ty, typed),
            (Self::Field { ty, path, test }, Subject::TypedData(typed)) => match is_of_type(ty, typed) {
                Holds::Yes => argument::field(typed, (path, test), facts),
                no => no,
            },
            (Self::Domain(test), Subject::TypedData(typed)) => test.test(typed),
            (Self::Chain(chain), Subject::Authorization(asked)) => {
                let is = asked.chain_id();
                when(is == *chain, || format!("it is for chain {is}, the rule is for chain {chain}"))
            }
            (Self::Delegates(delegates), Subject::Authorization(asked)) => {
                when(delegates.has(&asked.delegate()), || {
                    let delegate = facts.delegate(asked.chain_id(), asked.delegate());
                    format!("the delegate is {delegate}, which the rule does not name")
                })
            }
            (Self::Text(test), Subject::Message(message)) => test.test(message),
            (Self::Siwe(test), Subject::Message(message)) => test.test(message, facts),
            // Reading a policy keeps conditions of one kind out of rules of another.
            _ => Holds::Unclear(format!("`{}` is for another kind of payload", self.key())),
        }
    }
}

impl Targets {
    fn test(&self, transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Holds {
        match transaction.to {
            None => when(self.nobody, || "it creates a contract, which the rule does not name".to_owned()),
            Some(to) => when(self.any || self.addresses.contains(&to) || self.has_created(to, facts), || {
                let name = facts.name(transaction.chain, to);
                format!("the target is {name}, which is not among those of the rule")
            }),
        }
    }
}

impl Delegates {
    fn has(&self, delegate: &Address) -> bool {
        self.of.as_ref().is_none_or(|of| of.contains(delegate))
    }

    fn test(&self, transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Holds {
        let mut delegates = transaction.authorizations().into_iter().flat_map(Authorizations::each);
        if !self.all {
            return when(delegates.any(|(_, delegate)| self.has(&delegate)), || {
                "it sets no account's code to what the rule names".to_owned()
            });
        }
        match delegates.find(|(_, delegate)| !self.has(delegate)) {
            None => Holds::Yes,
            Some((authority, delegate)) => Holds::No(format!(
                "it sets the code of {authority} to that of {}, which the rule does not name",
                facts.delegate(transaction.chain, delegate)
            )),
        }
    }
}

impl Targets {
    fn has_created(&self, to: Address, facts: &Facts<'_>) -> bool {
        self.created && facts.evidence.created.contains(&to)
    }

    fn verify(&self, typed: &TypedFacts<'_>, facts: &Facts<'_>) -> Holds {
        match typed.to() {
            None => when(self.nobody, || "its domain names no contract".to_owned()),
            Some(to) => when(self.any || self.addresses.contains(&to), || {
                let name = typed.chain().map_or_else(|| to.to_string(), |chain| facts.name(chain, to));
                format!("the contract that verifies it is {name}, which is not among those of the rule")
            }),
        }
    }
}

/// Whether typed data is of this very type; one that only has its name may be meant for it.
fn is_of_type(ty: &Function, typed: &TypedFacts<'_>) -> Holds {
    let is = typed.asked.ty();
    if is.encode_type() == ty.signature {
        Holds::Yes
    } else if is.name() == ty.name {
        Holds::Unclear(format!("its members are not those of {}", ty.signature))
    } else {
        Holds::No(format!("it is no {}", ty.name))
    }
}

impl DomainTest {
    fn test(&self, typed: &TypedFacts<'_>) -> Holds {
        let domain = typed.asked.domain();
        for (what, wanted, is) in
            [("name", &self.name, &domain.name), ("version", &self.version, &domain.version)]
        {
            if wanted.is_some() && wanted != is {
                return Holds::No(format!("the domain has another {what} than the rule's"));
            }
        }
        Holds::Yes
    }
}

fn via(carriers: &[Address], transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Holds {
    let is_own = transaction.sender == facts.account;
    let holds = if is_own { carriers.is_empty() } else { carriers.contains(&transaction.sender) };
    when(holds, || {
        if is_own {
            return "the account makes the call itself, and the rule is for calls through contracts"
                .to_owned();
        }
        let sender = facts.name(transaction.chain, transaction.sender);
        format!("the call is made through {sender}, which the rule does not name")
    })
}

impl Called {
    fn test(&self, transaction: &TransactionFacts<'_>) -> Holds {
        match (self, transaction.call) {
            (Self::Empty, call) => when(call == Call::Empty, || "there is calldata".to_owned()),
            (Self::Function(function), Call::Function(is)) if is == function.selector => {
                // Also where no condition looks at the arguments: calldata that is not exactly this call may be
                // anything to the contract.
                match transaction.arguments(function).as_ref() {
                    Ok(_) => Holds::Yes,
                    Err(why) => Holds::Unclear(inexact(function, why)),
                }
            }
            (Self::Function(function), _) => Holds::No(format!("it is no call of {}", function.signature)),
        }
    }
}

pub(in crate::policy) fn inexact(function: &Function, why: &CalldataError) -> String {
    format!("the calldata is no exact encoding of {}: {why}", function.signature)
}

fn amount(what: &str, is: U256, range: &Range) -> Holds {
    when(range.contains(is), || {
        format!("{what} is {}, and must be {}", show_wei(is), range.describe(show_wei))
    })
}

pub(in crate::policy) fn when(holds: bool, why: impl FnOnce() -> String) -> Holds {
    if holds { Holds::Yes } else { Holds::No(why()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, NOW, PAY, TREASURY, USDC, caller, policy, structured, transaction, transfer,
        typed,
    };
    use crate::transaction::{Authorization, DelegationRequest, Tx, TypedData};

    /// What keeps the one rule from matching a payment of alice, at 12:00 on a Saturday.
    fn failures(changes: &[(&str, &str)], fields: &serde_json::Value) -> Vec<String> {
        let mut rule = PAY.replace("\"transfer\"", "\"transfer(address to, uint256 amount)\"");
        rule = rule.replace("[\"usdc\"]", &format!("[\"{USDC}\"]"));
        for (right, other) in changes {
            assert!(rule.contains(right), "{right}");
            rule = rule.replacen(right, other, 1);
        }
        let policy = policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}"));
        let mut asked = json!({ "data": transfer(ALICE, 1), "gas": "0x186a0", "gasPrice": "0x1" });
        asked.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let told =
            policy.explain::<Tx>(&caller("ann"), &transaction(&asked), Timestamp::from_millis(NOW * 1000));
        let [rule] = told.rules.as_slice() else { panic!("{told:?}") };
        rule.failures.iter().map(|(key, why)| format!("{key}: {why}")).collect()
    }

    #[test]
    fn each_condition_says_why_it_does_not_hold() {
        let none = json!({});
        let more = |line: &'static str| vec![("execution_fee = { max = \"0.05 ether\" }", line)];
        let data = "call    = \"transfer(address to, uint256 amount)\"\nargs";
        for (changes, fields, why) in [
            (vec![], none.clone(), String::new()),
            (
                vec![("chain   = 1", "chain   = 10"), ("[\"alice\", \"bob\"], amount = { max = \"1_000 USDC\" }", "\"any\"")],
                none.clone(),
                "chain: the chain is 1, the rule is for chain 10".to_owned(),
            ),
            (vec![(USDC, BOB), (", amount = { max = \"1_000 USDC\" }", "")], none.clone(), format!("to: the target is `usdc` ({USDC}), which is not among those of the rule")),
            (
                more("via = [\"bob\"]"),
                none.clone(),
                "via: the account makes the call itself, and the rule is for calls through contracts".to_owned(),
            ),
            (more("delegatecall = true\nvia = [\"any\"]"), none.clone(), "delegatecall: it is no delegatecall".to_owned()),
            (
                vec![(data, "call = \"approve(address spender, uint256 amount)\"\nargs"), ("to = [\"alice\", \"bob\"]", "spender = \"any\"")],
                none.clone(),
                "call: it is no call of approve(address,uint256)".to_owned(),
            ),
            (vec![(data, "call = \"empty\"\n# args")], none.clone(), "call: there is calldata".to_owned()),
            (vec![], json!({ "value": "0x1" }), "value: value is 1 wei, and must be exactly 0 ether".to_owned()),
            (
                more("value = { min = \"2 wei\", max = \"3 wei\" }"),
                json!({ "value": "0x1" }),
                "value: value is 1 wei, and must be from 2 wei to 3 wei".to_owned(),
            ),
            (
                more("execution_fee = { max = \"99_999 wei\" }"),
                none.clone(),
                "execution_fee: the most it can cost to execute (gas limit times fee, and blobs) is 100000 wei, and must be at most 99999 wei"
                    .to_owned(),
            ),
            (more("execution_fee = { max = \"100_000 wei\" }"), none.clone(), String::new()),
            (more("blobs = { min = 1 }"), none.clone(), "blobs: it has 0 blobs, and must have at least 1".to_owned()),
            (
                more("blob_fee = { min = \"1 wei\" }"),
                none.clone(),
                "blob_fee: the most that its blobs can cost is 0 ether, and must be at least 1 wei".to_owned(),
            ),
            (
                more("hours = [\"Mon-Fri 08:00-20:00 UTC\", \"Sat 13:00-14:00 UTC\"]"),
                none.clone(),
                "hours: it is 2026-01-31T12:00:00.000Z, and the rule is for Mon-Fri 08:00-20:00 UTC, Sat 13:00-14:00 UTC".to_owned(),
            ),
            (more("hours = [\"Mon-Fri 08:00-20:00 UTC\", \"Sat 12:00-13:00 UTC\"]"), none.clone(), String::new()),
            (more("outcome = {}"), none.clone(), "outcome: no node was asked what it would do".to_owned()),
            (
                vec![],
                json!({ "data": transfer(TREASURY, 1) }),
                format!("args.to: it is `treasury` ({TREASURY}), which is not what the rule names"),
            ),
            (
                vec![("[\"0x", "[\"create\"] # [\"0x"), (data, "call = \"any\"\n# args")],
                none.clone(),
                format!("to: the target is `usdc` ({USDC}), which is not among those of the rule"),
            ),
        ] {
            let expected: Vec<_> = Some(why).filter(|why| !why.is_empty()).into_iter().collect();
            assert_eq!(failures(&changes, &fields), expected, "{changes:?} {fields}");
        }
        // Of what is inside nothing is said where it is another call.
        let other = failures(&[], &json!({ "data": "0x095ea7b3", "value": "0x1" }));
        assert_eq!(
            other,
            [
                "call: it is no call of transfer(address,uint256)",
                "value: value is 1 wei, and must be exactly 0 ether"
            ]
        );
        let create = failures(&[], &json!({ "to": null, "data": "0x6000" }));
        assert_eq!(create[0], "to: it creates a contract, which the rule does not name");
    }

    #[test]
    fn a_domain_is_compared_where_a_rule_names_it() {
        let rule = |domain: &str| {
            format!(
                "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"typed_data\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 to = [\"usdc\"]\nprimary_type = \"Vote(uint256 id)\"\n{domain}\n"
            )
        };
        let data = typed("Vote(uint256 id)", USDC, json!({ "id": 1 }));
        for (domain, failure) in [
            ("", None),
            ("domain = { name = \"USD Coin\" }", None),
            ("domain = { name = \"usd coin\" }", Some("the domain has another name than the rule's")),
            ("domain = { version = \"2\" }", Some("the domain has another version than the rule's")),
            (
                "domain = { name = \"USD Coin\", version = \"2\" }",
                Some("the domain has another version than the rule's"),
            ),
        ] {
            let policy = policy(&format!("{CONTRACTS}{}", rule(domain))).unwrap();
            let judged =
                policy.judge::<TypedData>(&caller("ann"), &structured(&data), Timestamp::from_millis(0));
            let why = judged.err().map(|denied| denied.sentence);
            match (&why, failure) {
                (None, None) => {}
                (Some(why), Some(failure)) => {
                    assert!(why.ends_with(&format!("`domain`: {failure}")), "{why}");
                }
                _ => panic!("{domain}: {why:?}"),
            }
        }
        let policy = policy(&format!("{CONTRACTS}{}", rule(""))).unwrap();
        let why = |data: &serde_json::Value| {
            let denied = policy
                .judge::<TypedData>(&caller("ann"), &structured(data), Timestamp::from_millis(0))
                .unwrap_err();
            denied.sentence.split_once("comes nearest, but ").map(|(_, why)| why.to_owned())
        };
        let other = typed("Vote(uint8 id)", USDC, json!({ "id": 1 }));
        assert_eq!(
            why(&other).as_deref(),
            Some("`primary_type`: its members are not those of Vote(uint256 id)")
        );
        let another = typed("Ballot(uint256 id)", USDC, json!({ "id": 1 }));
        assert_eq!(why(&another).as_deref(), Some("`primary_type`: it is no Vote"));
        let mut elsewhere = data.clone();
        elsewhere["domain"]["chainId"] = json!(5);
        assert_eq!(
            why(&elsewhere).as_deref(),
            Some("`chain`: the domain is of chain 5, the rule is for chain 1")
        );
    }

    #[test]
    fn whose_code_is_not_named_is_said() {
        let rule = |delegates: &str| {
            let rule = format!(
                "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"authorization\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 delegates = [{delegates}]\n"
            );
            policy(&format!("{CONTRACTS}{rule}")).unwrap()
        };
        let judge = |delegates: &str, delegate: &str| {
            let asked = json!([{ "from": TREASURY, "address": delegate }]).to_string();
            let asked = DelegationRequest::parse(Some(&asked)).unwrap().fill(1, 0).unwrap();
            let judged =
                rule(delegates).judge::<Authorization>(&caller("ann"), &asked, Timestamp::from_millis(0));
            judged.err().map(|denied| denied.sentence.split_once("`delegates`: ").unwrap().1.to_owned())
        };
        let nobody = Address::ZERO.to_string();
        let not_named = |who: &str| Some(format!("the delegate is {who}, which the rule does not name"));
        for (delegates, delegate, why) in [
            ("\"bob\"", BOB, None),
            ("\"any\"", ALICE, None),
            ("\"none\"", &nobody, None),
            ("\"bob\"", ALICE, not_named(&format!("`alice` ({ALICE})"))),
            ("\"bob\"", &nobody, not_named("\"none\" (the zero address)")),
            ("\"none\"", BOB, not_named(&format!("`bob` ({BOB})"))),
        ] {
            assert_eq!(judge(delegates, delegate), why, "{delegates} {delegate}");
        }
    }
}
