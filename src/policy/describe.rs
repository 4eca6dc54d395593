//! A policy in sentences, and who may do what in one table: for those who answer for it and do not write it.

use std::collections::BTreeSet;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, hex};
use serde::Serialize;

use crate::config::Client;
use crate::policy::amount::{Range, Unit, show_unit, show_wei};
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::budget::{Budget, Sum};
use crate::policy::condition::{Called, Condition, Delegates, DomainTest, SiweTest, TextTest};
use crate::policy::decide::Policy;
use crate::policy::path::Path;
use crate::policy::rule::{Effect, Rule, RuleKind};
use crate::policy::scope::{Per, Reach};
use crate::policy::world::World;

/// What a call without calldata is.
const SEND: &str = "send ether";

/// What `chancery policy describe` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    pub rules: Vec<Sentence>,
    pub limits: Vec<String>,
    pub matrix: Vec<Cell>,
}

/// A rule in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    pub rule: String,
    pub effect: &'static str,
    pub file: String,
    pub line: usize,
    pub text: String,
}

/// What a client may have signed by an account, at one contract or for none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    pub client: String,
    pub account: String,
    pub contract: String,
    /// Functions, types of typed data, and what else is allowed there.
    pub what: BTreeSet<String>,
    /// The rules that allow it. A deny rule may forbid some of it all the same.
    pub rules: BTreeSet<String>,
}

impl Policy {
    /// The policy in sentences, and the table of who may do what.
    pub fn describe(&self, world: &World) -> Description {
        let limits = world
            .chains
            .iter()
            .map(|chain| self.caps.of(*chain).describe(*chain))
            .chain(self.budgets.iter().map(|budget| self.budget_sentence(budget)))
            .chain(self.rates.each().map(|rate| {
                let window = crate::policy::amount::show_window(rate.window);
                let what = format!("rate `{}`: at most {} requests in {window}", rate.id, rate.max);
                format!("{what}{}", self.reach_sentence(&rate.reach))
            }));
        Description {
            rules: self.rules.iter().map(|rule| self.sentence(rule)).collect(),
            limits: limits.collect(),
            matrix: self.matrix(world),
        }
    }

    fn sentence(&self, rule: &Rule) -> Sentence {
        let (effect, may) = match rule.effect {
            Effect::Allow => ("allow", "may"),
            Effect::Deny => ("deny", "may not"),
        };
        let parts = Parts::of(self, rule.chain(), &rule.conditions);
        let verb = match (rule.kind, parts.what.as_str()) {
            (Some(RuleKind::Message), _) => "have messages signed".to_owned(),
            (Some(RuleKind::TypedData), "") => "have typed data signed".to_owned(),
            (Some(RuleKind::TypedData), ty) => format!("have {ty} signed"),
            (None, _) => "have anything signed".to_owned(),
            (Some(RuleKind::Presigned), "") => "pass on any signed call".to_owned(),
            (Some(RuleKind::Presigned), what) => format!("pass on signed calls of {what}"),
            (Some(RuleKind::Transaction), "") => "call anything".to_owned(),
            (Some(RuleKind::Transaction), what) => what.to_owned(),
        };
        let chain = rule.chain().map(|chain| format!(" on chain {chain}")).unwrap_or_default();
        let word = if parts.what == SEND { "to" } else { "at" };
        let target =
            if parts.target.is_empty() { String::new() } else { format!(" {word} {}", parts.target) };
        let rest =
            if parts.rest.is_empty() { String::new() } else { format!(", if {}", parts.rest.join(", and ")) };
        let replaces = if rule.replaces_own {
            "; it may take the place of what the same client sent at its nonce"
        } else {
            ""
        };
        let text = format!("{} {may} {verb}{target}{chain} from {}{rest}{replaces}", parts.who, parts.from);
        let file = rule.place.file.display().to_string();
        Sentence { rule: rule.id.to_string(), effect, file, line: rule.place.line, text }
    }

    fn matrix(&self, world: &World) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.effect == Effect::Allow) {
            let parts = Parts::of(self, rule.chain(), &rule.conditions);
            let what = match (rule.kind, parts.what.as_str()) {
                (Some(RuleKind::Message), _) => "messages",
                (_, "") => "anything",
                (_, what) => what,
            };
            for client in world.clients.iter().filter(|client| is_among(rule, client)) {
                let accounts = if rule.kind == Some(RuleKind::Presigned) {
                    vec!["(signed elsewhere)".to_owned()]
                } else {
                    let named = client.accounts.iter().filter(|account| is_for(rule, **account));
                    named.map(|account| self.short(None, *account)).collect()
                };
                for account in accounts {
                    let none = [String::from("-")];
                    let is_message = rule.kind == Some(RuleKind::Message);
                    for contract in if is_message { &none[..] } else { parts.contracts.as_slice() } {
                        let there = cells.iter_mut().find(|cell| {
                            cell.client == client.name
                                && cell.account == account
                                && cell.contract == *contract
                        });
                        let add = |cell: &mut Cell| {
                            cell.what.insert(what.to_owned());
                            cell.rules.insert(rule.id.to_string());
                        };
                        if let Some(cell) = there {
                            add(cell);
                            continue;
                        }
                        let mut cell = Cell {
                            client: client.name.clone(),
                            account: account.clone(),
                            contract: contract.clone(),
                            what: BTreeSet::new(),
                            rules: BTreeSet::new(),
                        };
                        add(&mut cell);
                        cells.push(cell);
                    }
                }
            }
        }
        cells.sort();
        cells
    }

    fn budget_sentence(&self, budget: &Budget) -> String {
        let of = match &budget.sum {
            Sum::Ether | Sum::Token { .. } => String::new(),
            Sum::Count => " requests".to_owned(),
            Sum::Argument { function, path } => format!(" of `{path}` of {}", function.signature),
        };
        let limit = &budget.limit;
        let most = format!(
            "budget `{}`: at most {}{of} in any {}",
            limit.id,
            limit.show(limit.max),
            limit.show_window()
        );
        format!("{most}{}", self.reach_sentence(&budget.reach))
    }

    fn reach_sentence(&self, reach: &Reach) -> String {
        let chain = reach.conditions.iter().find_map(|condition| match condition {
            Condition::Chain(chain) => Some(*chain),
            _ => None,
        });
        let parts = Parts::of(self, chain, &reach.conditions);
        let mut text = String::new();
        if !reach.conditions.is_empty() || reach.kind.is_some() {
            let kind = reach.kind.map(|kind| format!("kind {}", kind.name()));
            let from = Some(format!("from {}", parts.from)).filter(|_| parts.is_from_some);
            let who = Some(format!("by {}", parts.who)).filter(|_| parts.is_some_client);
            let chain = chain.map(|chain| format!("on chain {chain}"));
            let at = Some(format!("at {}", parts.target)).filter(|_| !parts.target.is_empty());
            let said = [kind, Some(parts.what), at, chain, who, from]
                .into_iter()
                .flatten()
                .filter(|part| !part.is_empty());
            text = format!(", of {}", said.chain(parts.rest).collect::<Vec<_>>().join(" "));
        }
        let per = reach.per.iter().map(|per| match per {
            Per::Client => "client",
            Per::From => "account",
            Per::To => "contract",
            Per::Rule => "rule",
        });
        let per: Vec<_> = per.collect();
        if per.is_empty() { text } else { format!("{text}, counted for each {} apart", per.join(" and ")) }
    }

    /// A label or a name, where there is one.
    fn short(&self, chain: Option<u64>, address: Address) -> String {
        match self.book.at(chain, address).next() {
            Some(contract) => contract.label.clone(),
            None => self.book.accounts.get(&address).cloned().unwrap_or_else(|| address.to_string()),
        }
    }
}

/// A rule taken apart into what a sentence is made of.
struct Parts {
    who: String,
    is_some_client: bool,
    from: String,
    is_from_some: bool,
    /// What is called, or the type.
    what: String,
    target: String,
    contracts: Vec<String>,
    rest: Vec<String>,
}

impl Parts {
    fn of(policy: &Policy, chain: Option<u64>, conditions: &[Condition]) -> Self {
        let mut parts = Self {
            who: "any client".to_owned(),
            is_some_client: false,
            from: "any account".to_owned(),
            is_from_some: false,
            what: String::new(),
            target: String::new(),
            contracts: vec!["(any)".to_owned()],
            rest: Vec::new(),
        };
        let name = |address: &Address| policy.short(chain, *address);
        let names = |addresses: &[Address]| either(addresses.iter().map(name));
        for condition in conditions {
            let rest = match condition {
                // It stands beside the target.
                Condition::Chain(_) => None,
                Condition::Clients(clients) => {
                    parts.who = either(clients.iter().cloned());
                    parts.is_some_client = true;
                    None
                }
                Condition::From(accounts) => {
                    parts.from = names(accounts);
                    parts.is_from_some = true;
                    None
                }
                Condition::To(to) => {
                    let mut all: Vec<_> = to.addresses.iter().map(name).collect();
                    all.extend(to.any.then(|| "(any)".to_owned()));
                    all.extend(to.nobody.then(|| "(none: creation, or no contract)".to_owned()));
                    parts.target = either(all.iter().cloned());
                    parts.contracts = all;
                    None
                }
                Condition::Call(called) => {
                    parts.what = match called {
                        Called::Empty => SEND.to_owned(),
                        Called::Function(function) => format!("call {}", function.describe()),
                    };
                    None
                }
                Condition::PrimaryType(ty) => {
                    parts.what.clone_from(&ty.name);
                    None
                }
                Condition::Argument { path, test, .. } | Condition::Field { path, test, .. } => {
                    Some(tested(path, test, policy, chain))
                }
                other => other_sentence(other, &names),
            };
            parts.rest.extend(rest);
        }
        parts
    }
}

fn other_sentence(condition: &Condition, names: &impl Fn(&[Address]) -> String) -> Option<String> {
    let amount = |what: &str, range: &Range| format!("{what} is {}", range.describe(show_wei));
    match condition {
        Condition::Via(carriers) if carriers.is_empty() => None,
        Condition::Via(carriers) => Some(format!("{} makes the call", names(carriers))),
        Condition::Delegatecall(true) => Some("it is a delegatecall".to_owned()),
        Condition::Value(range) if *range == Range::exactly(U256::ZERO) => {
            Some("no ether goes along".to_owned())
        }
        Condition::Value(range) => Some(amount("the ether sent along", range)),
        Condition::ExecutionFee(range) => Some(amount("the most that execution can cost", range)),
        Condition::Blobs(range) if range.max.is_some_and(|max| max.is_zero()) => None,
        Condition::Blobs(range) => {
            Some(format!("the number of blobs is {}", range.describe(|n| n.to_string())))
        }
        Condition::BlobFee(range) => Some(amount("the most that blobs can cost", range)),
        Condition::Delegates(Delegates { of: Some(of), all: true }) if of.is_empty() => None,
        Condition::Delegates(Delegates { of, all }) => {
            let of = of.as_ref().map_or_else(|| "anything".to_owned(), |of| names(of));
            let which = if *all { "every" } else { "some" };
            Some(format!("{which} account whose code it sets gets that of {of}"))
        }
        Condition::Hours(hours) => {
            Some(format!("it is {}", either(hours.iter().map(|hours| hours.text.clone()))))
        }
        Condition::Text(TextTest::Prefix(prefix)) => Some(format!("the text begins with {prefix:?}")),
        Condition::Text(TextTest::Equals(text)) => Some(format!("the text is {text:?}")),
        Condition::Siwe(SiweTest { domains, chain, expires_within }) => {
            let chain = chain.map(|chain| format!(" on chain {chain}")).unwrap_or_default();
            let within = expires_within.map(crate::policy::amount::show_window);
            let within = within.map(|within| format!(", and ends within {within}")).unwrap_or_default();
            let domains =
                if domains.is_empty() { "any site".to_owned() } else { either(domains.iter().cloned()) };
            Some(format!("it signs in to {domains}{chain}{within}"))
        }
        Condition::Domain(DomainTest { name, version }) => {
            let part = |what: &str, is: &Option<String>| is.as_ref().map(|is| format!("{what} {is:?}"));
            let parts: Vec<_> =
                [part("name", name), part("version", version)].into_iter().flatten().collect();
            Some(format!("its domain has the {}", parts.join(" and the ")))
        }
        _ => None,
    }
}

/// Such as `amount is at most 250000 USDC`.
fn tested(path: &Path, test: &ArgumentTest, policy: &Policy, chain: Option<u64>) -> String {
    let one = |operand: &Operand, unit: &Option<Unit>| operand_text(operand, unit.as_ref(), policy, chain);
    let all =
        |operands: &[Operand], unit: &Option<Unit>| either(operands.iter().map(|operand| one(operand, unit)));
    match test {
        ArgumentTest::OneOf(operands, unit) => format!("`{path}` is {}", all(operands, unit)),
        ArgumentTest::NoneOf(operands, unit) => format!("`{path}` is not {}", all(operands, unit)),
        ArgumentTest::Min(least, unit) => format!("`{path}` is at least {}", one(least, unit)),
        ArgumentTest::Max(most, unit) => format!("`{path}` is at most {}", one(most, unit)),
        ArgumentTest::Prefix(prefix) => format!("`{path}` begins with {}", hex::encode_prefixed(prefix)),
    }
}

fn operand_text(operand: &Operand, unit: Option<&Unit>, policy: &Policy, chain: Option<u64>) -> String {
    let value = match operand {
        Operand::From => return "the account itself".to_owned(),
        Operand::Sender => return "who makes the call".to_owned(),
        Operand::Client => return "the client's name".to_owned(),
        Operand::Now(0) => return "now".to_owned(),
        Operand::Now(seconds) => return format!("{seconds} s from now"),
        Operand::Value(value) => value,
    };
    match (value, unit) {
        (DynSolValue::Uint(number, _), Some(unit)) => show_unit(*number, unit),
        (DynSolValue::Uint(number, _), None) => number.to_string(),
        (DynSolValue::Int(number, _), _) => number.to_dec_string(),
        (DynSolValue::Bool(is), _) => is.to_string(),
        (DynSolValue::Address(address), _) => policy.short(chain, *address),
        (DynSolValue::FixedBytes(word, size), _) => {
            hex::encode_prefixed(word.get(..*size).unwrap_or_default())
        }
        (DynSolValue::Bytes(bytes), _) => hex::encode_prefixed(bytes),
        (DynSolValue::String(text), _) => format!("{text:?}"),
        _ => "what the rule says".to_owned(),
    }
}

/// Whether an allow rule is for a client.
fn is_among(rule: &Rule, client: &Client) -> bool {
    let named = rule.conditions.iter().find_map(|condition| match condition {
        Condition::Clients(clients) => Some(clients),
        _ => None,
    });
    let is_meant = |meant: &String| *meant == client.name || client.role.as_ref() == Some(meant);
    named.is_none_or(|clients| clients.iter().any(is_meant))
}

/// Whether a rule is for an account.
fn is_for(rule: &Rule, account: Address) -> bool {
    let named = rule.conditions.iter().find_map(|condition| match condition {
        Condition::From(accounts) => Some(accounts),
        _ => None,
    });
    named.is_none_or(|accounts| accounts.contains(&account))
}

/// Such as `a, b or c`.
fn either(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nobody".to_owned(),
    }
}
