//! A policy in sentences, and who may do what in one table: for those who answer for it and do not write it.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use serde::Serialize;

use crate::config::Client;
use crate::policy::budget::{Budget, Sum};
use crate::policy::condition::{Called, Condition, Delegates};
use crate::policy::decide::Policy;
use crate::policy::phrase::{either, open, other_sentence, tested};
use crate::policy::rule::{Effect, Rule, RuleKind};
use crate::policy::scope::{Per, Reach};
use crate::policy::world::World;

/// What a call without calldata is.
const SEND: &str = "send ether";

/// How what any other is begins.
const CALL: &str = "call ";

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
        let parts = Parts::of(self, (rule.kind, rule.chain()), &rule.conditions);
        let delegates = self.delegates(rule);
        let verb = match (rule.kind, parts.what.as_str()) {
            (Some(RuleKind::Message), _) => "have messages signed".to_owned(),
            (Some(RuleKind::TypedData), "") => "have typed data signed".to_owned(),
            (Some(RuleKind::TypedData), ty) => format!("have {ty} signed"),
            (Some(RuleKind::Authorization), _) => {
                format!(
                    "have it signed that the code of {} may act as the account",
                    either(delegates.into_iter())
                )
            }
            (None, _) => "have anything signed".to_owned(),
            (Some(RuleKind::Presigned), "") => "pass on signed transactions that call anything".to_owned(),
            (Some(RuleKind::Presigned), what) => format!("pass on signed transactions that {what}"),
            (Some(RuleKind::Transaction), "") => "call anything".to_owned(),
            (Some(RuleKind::Transaction), what) => what.to_owned(),
        };
        let chain = rule.chain().map(|chain| format!(" on chain {chain}")).unwrap_or_default();
        let target = parts.place().map(|place| format!(" {place}")).unwrap_or_default();
        let rest =
            if parts.rest.is_empty() { String::new() } else { format!(", if {}", parts.rest.join(", and ")) };
        let replaces = if rule.replaces_own {
            "; it may take the place of what the same client sent at its nonce"
        } else {
            ""
        };
        let open = open(rule).collect::<String>();
        let text =
            format!("{} {may} {verb}{target}{chain} from {}{rest}{open}{replaces}", parts.who, parts.from);
        let file = rule.place.file.display().to_string();
        Sentence { rule: rule.id.to_string(), effect, file, line: rule.place.line, text }
    }

    fn matrix(&self, world: &World) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.effect == Effect::Allow) {
            let parts = Parts::of(self, (rule.kind, rule.chain()), &rule.conditions);
            let delegates = self.delegates(rule);
            let what = match (rule.kind, parts.what.as_str()) {
                (Some(RuleKind::Message), _) => "messages",
                (Some(RuleKind::Authorization), _) => "act as the account",
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
                    let contracts = match rule.kind {
                        Some(RuleKind::Message) => &none[..],
                        Some(RuleKind::Authorization) => delegates.as_slice(),
                        _ => parts.contracts.as_slice(),
                    };
                    for contract in contracts {
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
        let parts = Parts::of(self, (reach.kind, chain), &reach.conditions);
        let mut text = String::new();
        if !reach.conditions.is_empty() || reach.kind.is_some() {
            let what = match parts.what.strip_prefix(CALL) {
                Some(function) => format!("calls of {function}"),
                None if parts.what == SEND => "transfers of ether".to_owned(),
                None => parts.what.clone(),
            };
            let comma = if what.is_empty() { "" } else { "," };
            let kind = reach.kind.map(|kind| format!("kind {}{comma}", kind.name()));
            let from = Some(format!("from {}", parts.from)).filter(|_| parts.is_from_some);
            let who = Some(format!("by {}", parts.who)).filter(|_| parts.is_some_client);
            let chain = chain.map(|chain| format!("on chain {chain}"));
            let said = [kind, Some(what), parts.place(), chain, who, from]
                .into_iter()
                .flatten()
                .filter(|part| !part.is_empty());
            let of = if reach.kind.is_some() { "of " } else { "" };
            text = format!(", {of}{}", said.chain(parts.rest).collect::<Vec<_>>().join(" "));
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

    /// Whose code a rule for authorizations is about.
    fn delegates(&self, rule: &Rule) -> Vec<String> {
        let of = rule.conditions.iter().find_map(|condition| match condition {
            Condition::Delegates(Delegates { of, .. }) => of.as_ref(),
            _ => None,
        });
        let name = |delegate: &Address| match *delegate {
            Address::ZERO => "(none any more)".to_owned(),
            delegate => self.short(rule.chain(), delegate),
        };
        of.map_or_else(|| vec!["(any)".to_owned()], |of| of.iter().map(name).collect())
    }

    /// A label or a name, where there is one.
    pub(in crate::policy) fn short(&self, chain: Option<u64>, address: Address) -> String {
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
    fn of(policy: &Policy, (kind, chain): (Option<RuleKind>, Option<u64>), conditions: &[Condition]) -> Self {
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
                    all.extend(to.created.then(|| "(what the account created)".to_owned()));
                    all.extend(to.any.then(|| "(any)".to_owned()));
                    all.extend(to.nobody.then(|| "(none: creation, or no contract)".to_owned()));
                    parts.target = either(all.iter().cloned());
                    parts.contracts = all;
                    None
                }
                Condition::Call(called) => {
                    parts.what = match called {
                        Called::Empty => SEND.to_owned(),
                        Called::Function(function) => format!("{CALL}{}", function.describe()),
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
                // Of an authorization it is what is signed.
                Condition::Delegates(_) if kind == Some(RuleKind::Authorization) => None,
                other => other_sentence(other, &names),
            };
            parts.rest.extend(rest);
        }
        parts
    }

    /// Where it goes, where that is said.
    fn place(&self) -> Option<String> {
        let word = if self.what == SEND { "to" } else { "at" };
        (!self.target.is_empty()).then(|| format!("{word} {}", self.target))
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

#[cfg(test)]
mod tests {
    use crate::policy::tests::{CONTRACTS, PAY, policy, world};

    fn described(rule: &str) -> (String, Vec<String>) {
        let described =
            policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}")).describe(&world());
        (described.rules.first().map(|rule| rule.text.clone()).unwrap_or_default(), described.limits)
    }

    fn presigned(rule: &str) -> String {
        rule.replace("\"transaction\"", "\"presigned\"").replace("[\"treasury\"]", "[\"bob\"]")
    }

    #[test]
    fn a_rule_for_authorizations_says_whose_code() {
        let rule = |delegates: &str| {
            format!(
                "[[rule]]\nid = \"code\"\neffect = \"allow\"\nkind = \"authorization\"\nchain = 1\nclients = [\"trader\"]\n\
                 from = [\"treasury\"]\ndelegates = [{delegates}]\n"
            )
        };
        let policy = policy(&format!("{CONTRACTS}{}", rule("\"bob\", \"none\""))).unwrap();
        let told = policy.describe(&world());
        assert_eq!(
            told.rules[0].text,
            "trader may have it signed that the code of bob or (none any more) may act as the account on chain 1 from treasury"
        );
        let contracts: Vec<_> = told.matrix.iter().map(|cell| cell.contract.as_str()).collect();
        assert_eq!(contracts, ["(none any more)", "bob"]);
        assert!(described(&rule("\"any\"")).0.contains("the code of (any) may act"));
    }

    /// What an officer signs by: every condition is in its rule's sentence, and nothing else is.
    #[test]
    fn a_sentence_says_every_condition() {
        let rule = |id: &str, effect: &str, more: &str| {
            format!("[[rule]]\nid = \"{id}\"\neffect = \"{effect}\"\n{more}\n")
        };
        let who = "chain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]\n";
        let rules = [
            rule(
                "a",
                "allow",
                &format!(
                    "kind = \"transaction\"\n{who}to = [\"alice\"]\ncall = \"note(bytes tag)\"\nargs = {{ tag = \"0x0102\" }}\n\
                via = [\"bob\"]\nvalue = {{ max = \"5 wei\" }}\nblobs = {{ max = 2 }}\nblob_fee = {{ max = \"7 wei\" }}\ndelegates = [\"bob\"]"
                ),
            ),
            rule(
                "b",
                "allow",
                &format!(
                    "kind = \"transaction\"\n{who}to = [\"alice\"]\ncall = \"empty\"\nblobs = {{ max = 0 }}"
                ),
            ),
            rule(
                "c",
                "allow",
                &format!(
                    "kind = \"message\"\n{}text = {{ prefix = \"health \" }}",
                    who.replace("chain = 1\n", "")
                ),
            ),
            rule("d", "deny", "kind = \"transaction\"\ndelegates = [\"alice\"]"),
            "[caps]\nmax_gas = 5\n".to_owned(),
        ];
        let told = policy(&format!("{CONTRACTS}{}", rules.concat()))
            .unwrap_or_else(|e| panic!("{e}"))
            .describe(&world());
        let texts: Vec<_> = told.rules.iter().map(|rule| rule.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "trader may call note(bytes tag) at alice on chain 1 from treasury, if `tag` is 0x0102, and bob makes the call, and the \
                 ether sent along is at most 5 wei, and the number of blobs is at most 2, and the most that blobs can cost is at most \
                 7 wei, and every account whose code it sets gets that of bob",
                "trader may send ether to alice on chain 1 from treasury, if no ether goes along",
                "trader may have messages signed from treasury, if the text begins with \"health \"",
                "any client may not call anything from any account, if some account whose code it sets gets that of alice",
            ]
        );
        assert_eq!(
            told.limits,
            ["every transaction on chain 1: at most an execution fee of 1 ether, a gas limit of 5"]
        );
        let cells: Vec<_> =
            told.matrix.iter().map(|cell| (cell.client.as_str(), cell.contract.as_str())).collect();
        assert_eq!(cells, [("ann", "-"), ("ann", "alice")]);
    }

    /// Nobody may take the widest rule for the strictest.
    #[test]
    fn what_an_allow_rule_leaves_open_is_said() {
        let (bound, _) = described(PAY);
        // Nor is anything said of what a plain rule has none of.
        for none in ["makes the call", "blobs", "code", "delegatecall", "node"] {
            assert!(!bound.contains(none), "{none}: {bound}");
        }
        for (more, says) in [
            ("via = [\"any\"]", "; whatever contract makes the call"),
            ("value = \"any\"", "; any ether goes along"),
            ("blobs = \"any\"", "; any number of blobs goes along"),
            ("delegates = [\"any\"]", "; accounts that signed for it get any code"),
        ] {
            for kind in ["transaction", "presigned"] {
                let rule = format!("{PAY}{more}\n");
                let rule = if kind == "presigned" { presigned(&rule) } else { rule };
                let (open, _) = described(&rule);
                assert!(open.contains(says) && !bound.contains(says), "{open}");
            }
        }
        assert!(bound.contains("no ether goes along"), "{bound}");
        let (deny, _) = described("[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\n");
        assert!(!deny.contains(';'), "{deny}");
    }

    #[test]
    fn a_sentence_reads_as_one() {
        let (call, _) = described(&presigned(PAY));
        assert!(
            call.contains(
                "may pass on signed transactions that call transfer(address to, uint256 amount) at usdc"
            ),
            "{call}"
        );
        let budget = |call: &str| {
            let reach = format!("match = {{ kind = \"transaction\", to = [\"usdc\"], call = \"{call}\" }}");
            let text =
                format!("[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = \"5\"\nwindow = \"1h\"\n{reach}\n");
            described(&text).1.into_iter().find(|one| one.starts_with("budget")).unwrap_or_default()
        };
        let (empty, calls) = (budget("empty"), budget("transfer"));
        assert!(empty.ends_with(", of kind transaction, transfers of ether to usdc"), "{empty}");
        assert!(
            calls.ends_with(", of kind transaction, calls of transfer(address to, uint256 amount) at usdc"),
            "{calls}"
        );
    }

    #[test]
    fn each_effect_and_kind_has_its_verb() {
        let rule = |kind: &str, more: &str| {
            let kind = if kind.is_empty() { String::new() } else { format!("kind = \"{kind}\"\n") };
            format!("[[rule]]\nid = \"a\"\neffect = \"deny\"\n{kind}{more}\n")
        };
        for (kind, more, text) in [
            ("", "", "any client may not have anything signed from any account"),
            ("", "clients = [\"ann\", \"ben\"]", "ann or ben may not have anything signed from any account"),
            ("transaction", "", "any client may not call anything from any account"),
            ("transaction", "chain = 1", "any client may not call anything on chain 1 from any account"),
            (
                "transaction",
                "to = [\"alice\", \"usdc\"]",
                "any client may not call anything at alice or usdc from any account",
            ),
            ("transaction", "call = \"empty\"", "any client may not send ether from any account"),
            (
                "transaction",
                "to = [\"bob\"]\ncall = \"empty\"",
                "any client may not send ether to bob from any account",
            ),
            (
                "transaction",
                "to = [\"create\", \"$created\"]",
                "any client may not call anything at (what the account created) or (none: creation, or no contract) from any account",
            ),
            (
                "presigned",
                "",
                "any client may not pass on signed transactions that call anything from any account",
            ),
            (
                "presigned",
                "call = \"empty\"",
                "any client may not pass on signed transactions that send ether from any account",
            ),
            ("message", "", "any client may not have messages signed from any account"),
            ("typed_data", "", "any client may not have typed data signed from any account"),
            (
                "typed_data",
                "primary_type = \"Permit\"",
                "any client may not have Permit signed from any account",
            ),
            (
                "authorization",
                "from = [\"treasury\"]",
                "any client may not have it signed that the code of (any) may act as the account from treasury",
            ),
        ] {
            let (told, _) = described(&rule(kind, more));
            assert_eq!(told, text, "{kind} {more}");
        }
        let (own, _) = described(&format!("{PAY}replace = \"own\"\n"));
        assert!(own.ends_with("; it may take the place of what the same client sent at its nonce"), "{own}");
        let policy = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        let sentence = policy.describe(&world()).rules.remove(0);
        assert_eq!((sentence.rule.as_str(), sentence.effect, sentence.line), ("pay", "allow", 8));
        assert_eq!(sentence.file, "policies/policy.toml");
    }

    #[test]
    fn each_limit_says_what_it_counts_and_how_long() {
        let budget = |what: &str| format!("[[budget]]\nid = \"b\"\n{what}\n");
        for (limit, text) in [
            (budget("asset = \"ether\"\nmax = \"1 ether\"\nwindow = \"24h\""), "budget `b`: at most 1 ether in any 24h"),
            (budget("asset = \"usdc\"\nmax = \"5 USDC\"\nwindow = \"7d\""), "budget `b`: at most 5 USDC in any 7d"),
            (
                budget("sum = \"count\"\nmax = 3\nwindow = \"90s\"\nper = [\"client\", \"from\", \"to\", \"rule\"]"),
                "budget `b`: at most 3 requests in any 90s, counted for each client and account and contract and rule apart",
            ),
            (
                budget(
                    "sum = \"args.n\"\nmax = 3\nwindow = \"1h\"\nmatch = { kind = \"transaction\", chain = 1, call = \"f(uint8 n)\" }",
                ),
                "budget `b`: at most 3 of `n` of f(uint8) in any 60m, of kind transaction, calls of f(uint8 n) on chain 1",
            ),
            (
                budget("sum = \"count\"\nmax = 3\nwindow = \"1h\"\nmatch = { kind = \"transaction\" }"),
                "budget `b`: at most 3 requests in any 60m, of kind transaction",
            ),
            (
                budget(
                    "sum = \"count\"\nmax = 3\nwindow = \"1h\"\nmatch = { clients = [\"ann\"], from = [\"treasury\"] }",
                ),
                "budget `b`: at most 3 requests in any 60m, by ann from treasury",
            ),
            (
                "[[rate]]\nid = \"r\"\nmax = 2\nwindow = \"60s\"\nper = [\"client\"]\nmatch = { kind = \"transaction\", to = [\"usdc\"] }\n"
                    .to_owned(),
                "rate `r`: at most 2 requests in 60s, of kind transaction at usdc, counted for each client apart",
            ),
            ("[[rate]]\nid = \"r\"\nmax = 2\nwindow = \"2h\"\n".to_owned(), "rate `r`: at most 2 requests in 2h"),
        ] {
            let (_, limits) = described(&limit);
            assert_eq!(limits.last().unwrap(), text);
        }
    }

    #[test]
    fn each_cap_is_said() {
        let told = |caps: &str| described(&format!("[caps]\n{caps}\n")).1.remove(0);
        for (caps, text) in [
            ("", "at most an execution fee of 1 ether"),
            ("max_execution_fee = \"any\"", "no cap"),
            ("max_execution_fee = \"any\"\nmax_gas = 5", "at most a gas limit of 5"),
            ("max_execution_fee = \"any\"\nmax_calldata = 7", "at most 7 bytes of calldata"),
            (
                "max_execution_fee = \"2 gwei\"\nmax_fee_per_gas = \"3 gwei\"",
                "at most a fee per gas of 3 gwei, an execution fee of 2 gwei",
            ),
            (
                "max_execution_fee = \"any\"\nmax_fee_per_blob_gas = \"4 gwei\"",
                "at most a fee per blob gas of 4 gwei",
            ),
        ] {
            assert_eq!(told(caps), format!("every transaction on chain 1: {text}"));
        }
    }

    /// Who is not meant, and what is not allowed, has no cell.
    #[test]
    fn the_table_has_a_cell_for_each_client_account_and_contract() {
        let second = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let mut world = world();
        world.accounts.insert("second".to_owned(), second.parse().unwrap());
        world.clients[0].accounts.push(second.parse().unwrap());
        let rule = |id: &str, clients: &str, from: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nclients = [\"{clients}\"]\nfrom = [\"{from}\"]\n{more}\n"
            )
        };
        let send = "kind = \"transaction\"\nchain = 1\nto = [\"alice\"]\ncall = \"empty\"";
        let rules = [
            rule("a-one", "trader", "treasury", send),
            rule("b-two", "any", "second", send),
            rule("c-again", "ann", "treasury", &send.replace("\"empty\"", "\"ping()\"")),
            rule(
                "d-any",
                "ben",
                "any",
                &send.replace("[\"alice\"]", "[\"any\"]").replace("\"empty\"", "\"any\""),
            ),
            rule("e-talk", "ben", "any", "kind = \"message\"\ntext = \"any\""),
            rule("f-pass", "ben", "any", &send.replace("transaction", "presigned")),
            "[[rule]]\nid = \"g-no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"bob\"]\n".to_owned(),
        ];
        let policy = crate::policy::Policy::of_text(&format!("{CONTRACTS}{}", rules.concat()), &world);
        let told = policy.describe(&world).matrix;
        let cells: Vec<_> = told
            .iter()
            .map(|cell| {
                let join = |all: &std::collections::BTreeSet<String>| {
                    all.iter().cloned().collect::<Vec<_>>().join(" + ")
                };
                format!(
                    "{} {} {}: {} by {}",
                    cell.client,
                    cell.account,
                    cell.contract,
                    join(&cell.what),
                    join(&cell.rules)
                )
            })
            .collect();
        assert_eq!(
            cells,
            [
                "ann second alice: send ether by b-two",
                "ann treasury alice: call ping() + send ether by a-one + c-again",
                "ben (signed elsewhere) alice: send ether by f-pass",
                "ben treasury (any): anything by d-any",
                "ben treasury -: messages by e-talk",
            ]
        );
    }
}
