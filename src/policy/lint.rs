//! What is no mistake and yet worth a second look: rules that allow more than they seem to, or nothing at all.

use std::path::PathBuf;
use std::sync::Arc;

use alloy_dyn_abi::DynSolType;
use alloy_primitives::{Address, U256};
use serde::Serialize;

use crate::policy::abi::holds_address;
use crate::policy::amount::Range;
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::budget::{Budget, Sum};
use crate::policy::condition::{Called, Condition};
use crate::policy::decide::Policy;
use crate::policy::exposure::{is_approval, open_members};
use crate::policy::facts::Contract;
use crate::policy::messages::TextTest;
use crate::policy::packed;
use crate::policy::public_keys;
use crate::policy::rule::{Effect, Place, Rule, RuleKind};
use crate::policy::shadowed::ByTarget;
use crate::policy::spend::Asset;
use crate::policy::world::World;
use crate::policy::wrapper::Form;

/// Something worth a second look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub file: Option<PathBuf>,
    pub line: Option<usize>,
    pub what: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, "{}:{line}: ", file.display())?;
        }
        write!(f, "{}", self.what)
    }
}

impl Policy {
    /// What `chancery policy check` warns of.
    pub fn warnings(&self, world: &World) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut at = |place: Option<&Place>, what: String| {
            let (file, line) = place.map(|place| (place.file.clone(), place.line)).unzip();
            warnings.push(Warning { file, line, what });
        };
        if !self.rules.iter().any(|rule| rule.effect == Effect::Allow) {
            at(None, "no rule allows anything: every signature is denied".to_owned());
        }
        let has_transactions = self.rules.iter().any(|rule| rule.kind == Some(RuleKind::Transaction));
        for chain in world.chains.iter().filter(|chain| self.caps.of(**chain).execution_fee.is_none()) {
            if has_transactions {
                let what =
                    "max_execution_fee is \"any\": a node that lies about fees is bound by the rules only";
                let place = if world.chains.len() > 1 {
                    format!("[caps.chain.{chain}]")
                } else {
                    "[caps]".to_owned()
                };
                at(None, format!("{place} {what}"));
            }
        }
        for chain in self.caps.of_chain.keys().filter(|chain| !world.chains.contains(chain)) {
            at(None, format!("[caps.chain.{chain}]: this gateway is for chain {}", ours(world)));
        }
        let (allowing, denying) =
            (ByTarget::new(&self.rules, Effect::Allow), ByTarget::new(&self.rules, Effect::Deny));
        for rule in &self.rules {
            let mut about = |what: String| at(Some(&rule.place), format!("rule `{}`: {what}", rule.id));
            for what in self.never(rule, world) {
                about(what);
            }
            if let Some(other) = denying.covering(rule) {
                let what = if rule.effect == Effect::Allow { "allows, so it never does" } else { "denies" };
                about(format!("rule `{}` denies all that it {what}", other.id));
            } else if let Some(other) = allowing.covering(rule).filter(|_| rule.effect == Effect::Allow)
                && (other.replaces_own || !rule.replaces_own)
            {
                about(format!("rule `{}` allows all that it allows, so it changes nothing", other.id));
            }
            if rule.effect == Effect::Allow {
                for what in self.wide(rule).into_iter().chain(public_keys::named(rule)) {
                    about(what);
                }
            }
        }
        self.lookalikes().into_iter().for_each(|(place, what)| at(place, what));
        self.unknown_underlyings().into_iter().for_each(|(place, what)| at(Some(place), what));
        for budget in &self.budgets {
            for what in idle(budget, world) {
                at(Some(&budget.place), format!("budget `{}`: {what}", budget.limit.id));
            }
        }
        warnings
    }

    /// Contracts that give out a token of which nobody has said which it is, where budgets of tokens would count it.
    fn unknown_underlyings(&self) -> Vec<(&Place, String)> {
        let is_counted = |chain: u64| {
            self.budgets
                .iter()
                .any(|budget| matches!(budget.sum, Sum::Token { chain: of, .. } if of == chain))
        };
        let is_unknown = |contract: &&Arc<Contract>| {
            let spends = &contract.spends;
            spends.iter().any(|spend| spend.asset == Asset::Underlying(None) && spend.gives_out())
        };
        let contracts =
            self.book.contracts.values().filter(|contract| is_counted(contract.chain)).filter(is_unknown);
        let mut contracts: Vec<_> = contracts.collect();
        contracts.sort_unstable_by_key(|contract| &contract.label);
        let say = |contract: &Arc<Contract>| {
            format!(
                "`{}` has no `underlying`: what it gives to others cannot be counted, and is denied where a budget of a token asks",
                contract.label
            )
        };
        contracts.into_iter().map(|contract| (&contract.place, say(contract))).collect()
    }

    /// Why the rule can never match.
    fn never(&self, rule: &Rule, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        let mut clients = None;
        let mut accounts = None;
        for condition in &rule.conditions {
            match condition {
                Condition::Chain(chain) if !world.chains.contains(chain) => {
                    found.push(format!(
                        "it is for chain {chain}, and this gateway is for chain {}",
                        ours(world)
                    ));
                }
                Condition::Clients(names) => {
                    for name in names.iter().filter(|name| is_ambiguous(world, name)) {
                        found.push(format!(
                            "`{name}` is both a client and the role of another; both are meant"
                        ));
                    }
                    clients = Some(names);
                }
                Condition::From(from) => accounts = Some(from),
                Condition::Call(Called::Function(function))
                    if rule.effect == Effect::Allow
                        && self
                            .wrappers
                            .find(function.selector)
                            .is_some_and(|(_, form)| !self.opens(rule, form)) =>
                {
                    let signature = &function.signature;
                    found.push(format!("{signature} carries other calls, and is refused always"));
                }
                _ => {}
            }
        }
        if let (Some(clients), Some(accounts)) = (clients, accounts)
            && rule.kind != Some(RuleKind::Presigned)
        {
            let may = world.clients.iter().any(|client| {
                let named = clients.contains(&client.name);
                let in_role = client.role.as_ref().is_some_and(|role| clients.contains(role));
                (named || in_role) && client.accounts.iter().any(|account| accounts.contains(account))
            });
            if !may {
                found.push("none of its clients may use any of its accounts, so it never matches".to_owned());
            }
        }
        found.extend(self.never_inside(rule));
        found
    }

    /// Whether what the rule's targets carry with this function is opened.
    fn opens(&self, rule: &Rule, form: Form) -> bool {
        let known = |at: &Address| self.book.at(rule.chain(), *at).any(|contract| contract.abi.is_some());
        form != Form::Closed
            && rule.to().is_some_and(|to| !to.any && !to.created && to.addresses.iter().all(known))
    }

    /// What an allow rule leaves open.
    fn wide(&self, rule: &Rule) -> Vec<String> {
        let has = |wanted: fn(&Condition) -> bool| rule.conditions.iter().any(wanted);
        let mut open = Vec::new();
        let mut any = |open_is: bool, what: &str| {
            if open_is {
                open.push(what.to_owned());
            }
        };
        any(!has(|c| matches!(c, Condition::Clients(_))), "`clients` is \"any\"");
        any(
            !has(|c| matches!(c, Condition::From(_))),
            "`from` is \"any\": every account that a client may use",
        );
        if rule.kind == Some(RuleKind::Message) {
            any(
                has(|c| matches!(c, Condition::Text(TextTest::Any))),
                "`text` is \"any\": every text is signed",
            );
            any(
                has(|c| matches!(c, Condition::Siwe(siwe) if siwe.expires_within.is_none())),
                "`siwe` has no expires_within: a sign-in that never expires is signed",
            );
            return open;
        }
        if rule.kind == Some(RuleKind::Authorization) {
            any(
                !has(|c| matches!(c, Condition::Delegates(_))),
                "`delegates` is \"any\": any code may act as its accounts",
            );
            return open;
        }
        any(has(|c| matches!(c, Condition::To(to) if to.any)), "`to` is \"any\"");
        if rule.kind == Some(RuleKind::TypedData) {
            open.extend(open_members(rule));
            return open;
        }
        let creates =
            has(|c| matches!(c, Condition::To(to) if to.nobody && to.addresses.is_empty() && !to.any));
        any(
            !creates && !has(|c| matches!(c, Condition::Call(_))),
            "`call` is \"any\": calldata is not judged",
        );
        any(!has(|c| matches!(c, Condition::Via(_))), "`via` is \"any\": whatever contract makes the call");
        any(
            has(|c| *c == Condition::Delegatecall(true)) && !has(|c| matches!(c, Condition::Call(_))),
            "`delegatecall` with `call` \"any\": any code may act as the account that delegates",
        );
        any(!has(|c| matches!(c, Condition::Value(_))), "`value` is \"any\"");
        any(!has(|c| matches!(c, Condition::Blobs(_))), "`blobs` is \"any\"");
        any(
            !has(|c| matches!(c, Condition::Delegates(_))),
            "`delegates` is \"any\": any code may act as the accounts that signed for it",
        );
        any(has(|c| matches!(c, Condition::Value(range) if range.max.is_none())), "`value` has no max");
        any(
            has(|c| *c == Condition::Call(Called::Empty))
                && has(|c| *c == Condition::Value(Range::exactly(U256::ZERO))),
            "it allows nothing to be sent with nothing: state `value`",
        );
        any(
            !has(|c| matches!(c, Condition::ExecutionFee(_)))
                && rule.chain().is_some_and(|chain| self.caps.of(chain).execution_fee.is_none()),
            "neither `execution_fee` nor [caps] bounds what it costs to execute",
        );
        open.extend(self.open_arguments(rule));
        open.extend(open_paths(rule));
        if !has(|c| matches!(c, Condition::Call(_))) {
            open.extend(self.unnamed(rule));
        }
        open.extend(self.exposures(rule));
        open
    }

    /// The functions of its targets that a rule has to name.
    fn unnamed(&self, rule: &Rule) -> Vec<String> {
        let of_contract = |contract: &Arc<Contract>| {
            let functions = contract.abi.iter().flat_map(|abi| abi.functions());
            let carriers =
                functions.filter(|one| one.may_carry && self.wrappers.find(one.selector).is_none());
            let names: Vec<_> = carriers.map(|one| format!("`{}`", one.name)).collect();
            (!names.is_empty()).then(|| {
                format!(
                    "`call` is \"any\", which is not enough for {} of `{}`: other calls may stand in the arguments, so a rule has to name it",
                    names.join(", "),
                    contract.label
                )
            })
        };
        self.targets(rule).filter_map(of_contract).collect()
    }

    fn open_arguments(&self, rule: &Rule) -> Vec<String> {
        let selector = rule.conditions.iter().find_map(|condition| match condition {
            Condition::Call(Called::Function(function)) => Some(function.selector),
            _ => None,
        });
        let Some(selector) = selector else { return Vec::new() };
        let known = |contract| -> Option<_> {
            let contract: &Arc<Contract> = contract;
            Some((contract, contract.abi.as_ref()?.by_selector(selector)?))
        };
        let Some((contract, function)) = self.targets(rule).find_map(known) else { return Vec::new() };
        let mut open = Vec::new();
        let is_opened = self.wrappers.find(selector).is_some_and(|(_, form)| self.opens(rule, form));
        for (at, ty) in function.types.iter().enumerate() {
            let tests: Vec<_> = rule
                .conditions
                .iter()
                .filter_map(|condition| match condition {
                    Condition::Argument { path, test, .. } if path.at == at => Some(test),
                    _ => None,
                })
                .collect();
            let label = function.label(at);
            // Who is called inside is judged there.
            if holds_address(ty) && tests.is_empty() && !is_opened {
                open.push(format!("`args.{label}` is \"any\" address"));
            }
            let bounded =
                tests.iter().any(|test| matches!(test, ArgumentTest::OneOf(..) | ArgumentTest::Max(..)));
            if *ty == DynSolType::Uint(256)
                && contract.unit.is_some()
                && !bounded
                && !is_approval(&function.signature)
            {
                open.push(format!("`args.{label}` has no max"));
            }
            let bare = |test: &&&ArgumentTest| match test {
                ArgumentTest::Max(Operand::Value(value), None) => {
                    !value.as_uint().is_some_and(|(number, _)| number.is_zero())
                }
                _ => false,
            };
            if let (Some(unit), Some(_)) = (&contract.unit, tests.iter().find(bare)) {
                open.push(format!(
                    "`args.{label}` is a bare number; write it in {} if it is an amount",
                    unit.symbol
                ));
            }
        }
        open
    }
}

/// The path of a swap that may lead through any token.
fn open_paths(rule: &Rule) -> Option<String> {
    let function = rule.conditions.iter().find_map(|condition| match condition {
        Condition::Call(Called::Function(function)) => Some(function),
        _ => None,
    })?;
    let tests = rule.conditions.iter().filter_map(|condition| match condition {
        Condition::Argument { path, test, .. } => Some((path, test)),
        _ => None,
    });
    packed::through_any(function, &tests)
}

/// Why a budget does not do what it seems to.
fn idle(budget: &Budget, world: &World) -> Vec<String> {
    let of_token = match budget.sum {
        Sum::Token { chain, .. } => Some(chain),
        _ => None,
    };
    let of_match = budget.reach.conditions.iter().find_map(|condition| match condition {
        Condition::Chain(chain) => Some(*chain),
        _ => None,
    });
    let mut found = Vec::new();
    if let Some(chain) = of_token.or(of_match).filter(|chain| !world.chains.contains(chain)) {
        found.push(format!(
            "it is for chain {chain}, and this gateway is for chain {}: it counts nothing",
            ours(world)
        ));
    }
    if budget.limit.max.is_zero() {
        found.push(
            "`max` is 0, so all that takes from it is refused; a deny rule says so more plainly".to_owned(),
        );
    }
    found
}

fn ours(world: &World) -> String {
    world.chains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_ambiguous(world: &World, name: &str) -> bool {
    let client = world.clients.iter().any(|client| client.name == name);
    let role_of_another =
        world.clients.iter().any(|client| client.name != name && client.role.as_deref() == Some(name));
    client && role_of_another
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{CONTRACTS, PAY, policy, world};

    const CAPS: &str = "[caps]\nmax_execution_fee = \"1 ether\"\n";

    fn warnings(text: &str) -> Vec<String> {
        let policy = policy(&format!("{CONTRACTS}{text}")).unwrap_or_else(|e| panic!("{e}"));
        let warnings = policy.warnings(&world());
        // The receivers of these tests are among them.
        let others = warnings.iter().filter(|warning| !warning.what.contains("whose key everybody has"));
        others.map(ToString::to_string).collect()
    }

    #[test]
    fn a_narrow_policy_has_no_warnings() {
        assert_eq!(warnings(&format!("{PAY}{CAPS}")), Vec::<String>::new());
    }

    #[test]
    fn what_is_left_open_is_said_with_its_line() {
        let any = "[\"any\"]";
        for (right, wrong, what) in [
            ("[\"trader\"]", any, "`clients` is \"any\""),
            ("[\"treasury\"]", any, "`from` is \"any\""),
            (
                "to      = [\"usdc\"]\ncall    = \"transfer\"\nargs",
                "to = [\"any\"]\ncall = \"any\"\n# args",
                "`to` is \"any\"",
            ),
            ("call    = \"transfer\"\nargs", "call = \"any\"\n# args", "`call` is \"any\""),
            ("execution_fee", "value = \"any\" #", "`value` is \"any\""),
            ("execution_fee", "via = [\"any\"] #", "`via` is \"any\""),
            (
                "call    = \"transfer\"\nargs",
                "delegatecall = true\ncall = \"any\"\n# args",
                "any code may act as the account",
            ),
            ("execution_fee", "value = { min = 0 } #", "`value` has no max"),
            ("[\"alice\", \"bob\"]", "\"any\"", "`args.to` is \"any\" address"),
            (", amount = { max = \"1_000 USDC\" }", "", "`args.amount` has no max"),
            ("\"1_000 USDC\"", "1000", "`args.amount` is a bare number"),
            ("call    = \"transfer\"\nargs", "call = \"empty\"\n# args", "nothing to be sent with nothing"),
        ] {
            assert!(PAY.contains(right), "{right}");
            let found = warnings(&format!("{}{CAPS}", PAY.replacen(right, wrong, 1)));
            assert!(found.iter().any(|said| said.contains(what)), "{wrong}: {found:?}");
            assert!(
                found.iter().all(|said| said.starts_with("policies/policy.toml:8: rule `pay`: ")),
                "{found:?}"
            );
        }
        let unbound = PAY.replace("execution_fee", "# execution_fee");
        assert_eq!(warnings(&unbound), Vec::<String>::new(), "there is a cap where none is stated");
        let no_caps = warnings(&format!("{unbound}[caps]\nmax_execution_fee = \"any\"\n"));
        assert_eq!(no_caps.len(), 2, "{no_caps:?}");
        assert!(no_caps[0].starts_with("[caps] max_execution_fee is \"any\""), "{no_caps:?}");
    }

    #[test]
    fn what_can_never_match_is_said() {
        assert!(warnings("")[0].contains("no rule allows anything"));
        for (more, what) in [
            (
                "[[rule]]\nid = \"d\"\neffect = \"deny\"\nkind = \"transaction\"\ncall = \"transfer(address,uint256)\"\n",
                "rule `d` denies all",
            ),
            ("[[rule]]\nid = \"d\"\neffect = \"deny\"\nfrom = [\"treasury\"]\n", "rule `d` denies all"),
            (
                "[[rule]]\nid = \"d\"\neffect = \"deny\"\nkind = \"transaction\"\nchain = 5\n",
                "it is for chain 5",
            ),
            (
                "[[rule]]\nid = \"w\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n\
                 to = [\"bob\"]\ncall = \"multicall(bytes[])\"\n",
                "carries other calls",
            ),
        ] {
            let found = warnings(&format!("{PAY}{CAPS}{more}"));
            assert!(found.iter().any(|said| said.contains(what)), "{more}: {found:?}");
        }
        let narrow = "[[rule]]\nid = \"d\"\neffect = \"deny\"\nkind = \"transaction\"\nfrom = [\"treasury\"]\nvalue = { min = \"1 wei\" }\n";
        assert_eq!(warnings(&format!("{PAY}{CAPS}{narrow}")), Vec::<String>::new());
    }

    #[test]
    fn what_is_superfluous_or_out_of_reach_is_said() {
        let another = |from: &str, to: &str| PAY.replace("\"pay\"", "\"another\"").replacen(from, to, 1);
        for (more, what) in [
            (another("", ""), Some("rule `another` allows all that it allows")),
            (another("[\"alice\", \"bob\"]", "\"bob\""), Some("`pay` allows all that it allows")),
            (another("\"1_000 USDC\"", "\"5 USDC\""), Some("`pay` allows all that it allows")),
            (another("\"0.05 ether\"", "\"1 wei\""), Some("`pay` allows all that it allows")),
            (another("\"1_000 USDC\"", "\"1_001 USDC\""), Some("rule `another` allows all that it allows")),
            (another("[\"alice\", \"bob\"]", "\"$from\""), None),
            (another("[\"trader\"]", "[\"ben\"]"), None),
            (
                another("execution_fee", "value = { max = \"1 wei\" }\nexecution_fee"),
                Some("rule `another` allows all"),
            ),
            (
                another("execution_fee", "hours = \"daily 08:00-09:00 UTC\"\nexecution_fee"),
                Some("`pay` allows all"),
            ),
            (
                another("execution_fee", "replace = \"own\"\nexecution_fee"),
                Some("rule `another` allows all that it allows"),
            ),
            (another("execution_fee", "via = [\"bob\"]\nexecution_fee"), Some("nothing is opened of")),
            (
                another("execution_fee", "delegatecall = true\nexecution_fee"),
                Some("an account makes none itself"),
            ),
        ] {
            let found = warnings(&format!("{PAY}{CAPS}{more}"));
            let about_this = found.iter().filter(|said| what.is_some_and(|what| said.contains(what))).count();
            assert_eq!(about_this, usize::from(what.is_some()), "{more}: {found:?}");
            assert!(what.is_some() || found.is_empty(), "{more}: {found:?}");
        }
    }

    #[test]
    fn what_lets_others_take_without_a_limit_is_said() {
        let call = |to: &str, call: &str, args: &str| {
            format!(
                "[[rule]]\nid = \"x\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
                 from = [\"treasury\"]\nto = [\"{to}\"]\ncall = \"{call}\"\nargs = {{ {args} }}\n"
            )
        };
        let all = alloy_primitives::U256::MAX;
        let nft = "setApprovalForAll(address operator, bool approved)";
        let supply = "supply(address asset, uint256 amount)";
        for (rule, what) in [
            (call("usdc", "approve", "spender = \"bob\""), Some("an approval without a limit")),
            (
                call("usdc", "approve", &format!("spender = \"bob\", amount = {{ max = \"{all}\" }}")),
                Some("an approval without a limit"),
            ),
            (
                call("usdc", "approve", &format!("spender = \"bob\", amount = [5, \"{all}\"]")),
                Some("an approval without a limit"),
            ),
            (call("usdc", "approve", "spender = \"bob\", amount = { max = \"5 USDC\" }"), None),
            (call("usdc", "approve", "spender = \"bob\", amount = 0"), None),
            (call("usdc", "increaseAllowance", "spender = \"bob\""), Some("give `args.addedValue` a max")),
            (call("bob", nft, "operator = \"alice\""), Some("lets another take everything")),
            (call("bob", nft, "operator = \"alice\", approved = true"), Some("lets another take everything")),
            (call("bob", nft, "operator = \"alice\", approved = false"), None),
            (
                call("pool", supply, "asset = \"usdc\""),
                Some("`args.amount` has no max, and that much is moved"),
            ),
            (call("pool", supply, "asset = \"usdc\", amount = { max = \"5 USDC\" }"), None),
            // What comes back to the account does not leave.
            (call("pool", "withdrawTo", "to = \"$from\", asset = \"usdc\""), None),
            (
                call("pool", "withdrawTo", "to = \"bob\", asset = \"usdc\""),
                Some("`args.amount` has no max, and that much is moved"),
            ),
        ] {
            let pool = "pool = { chain = 1, address = \"0xc3d688B66703497DAA19211EEdff47f25384cdc3\", abi = \"compound-v3-comet\" }\n";
            let found = warnings(&format!("{pool}{CAPS}{rule}"));
            // A number that large has no unit, which is said as well.
            let found: Vec<_> = found.iter().filter(|said| !said.contains("is a bare number")).collect();
            assert_eq!(found.len(), usize::from(what.is_some()), "{rule}: {found:?}");
            assert!(what.is_none_or(|what| found[0].contains(what)), "{rule}: {found:?}");
        }
    }

    #[test]
    fn addresses_that_look_alike_are_said() {
        let near = "near = { chain = 1, address = \"0x7099000000000000000000000000000000000000\" }\n";
        let twin = near.replace("near", "twin").replace("0000\"", "79C8\"");
        let checked = |text: &str| {
            let at = text.split('"').nth(1).unwrap();
            text.replace(at, &at.parse::<alloy_primitives::Address>().unwrap().to_checksum(None))
        };
        assert_eq!(warnings(&format!("{}{PAY}{CAPS}", checked(near))), Vec::<String>::new());
        let found = warnings(&format!("{}{PAY}{CAPS}", checked(&twin)));
        assert!(found.len() == 1 && found[0].contains("look alike"), "{found:?}");
        assert!(found[0].contains("`alice`") && found[0].contains("`twin`"), "{found:?}");
        // It is said where the later of them is written.
        assert!(found[0].starts_with("policies/policy.toml:6: `"), "{found:?}");
        assert!(found[0].ends_with(" look alike: compare each with its source"), "{found:?}");
    }

    #[test]
    fn a_budget_that_counts_nothing_or_lets_nothing_through_is_said() {
        let budget = |what: &str| format!("[[budget]]\nid = \"b\"\nwindow = \"24h\"\n{what}\n");
        let usdc = budget("asset = \"usdc\"\nmax = \"1 USDC\"");
        assert_eq!(warnings(&format!("{PAY}{CAPS}{usdc}")), Vec::<String>::new());
        for (what, warning) in [
            ("asset = \"usdc\"\nmax = 0", "budget `b`: `max` is 0"),
            (
                "sum = \"count\"\nmax = 1\nmatch = { kind = \"transaction\", chain = 5 }",
                "budget `b`: it is for chain 5, and this gateway is for chain 1",
            ),
        ] {
            let found = warnings(&format!("{PAY}{CAPS}{}", budget(what)));
            assert!(found.len() == 1 && found[0].contains(&format!(":21: {warning}")), "{found:?}");
        }
    }

    /// A client of the name that is the role of others gets what is theirs; one whose role has its own name is nobody else.
    #[test]
    fn a_name_that_is_a_client_and_the_role_of_another_is_said() {
        let policy = policy(&format!("{CONTRACTS}{PAY}{CAPS}")).unwrap();
        let said = |name: &str, role: Option<&str>| {
            let mut world = world();
            (world.clients[1].name, world.clients[1].role) = (name.to_owned(), role.map(str::to_owned));
            policy
                .warnings(&world)
                .iter()
                .any(|said| said.what.contains("is both a client and the role of another"))
        };
        assert!(said("trader", None));
        assert!(!said("ben", None) && !said("ben", Some("trader")));
        let mut alone = world();
        alone.clients.truncate(1);
        "trader".clone_into(&mut alone.clients[0].name);
        assert!(!policy.warnings(&alone).iter().any(|said| said.what.contains("is both a client")));
    }

    #[test]
    fn a_rule_whose_clients_have_none_of_its_accounts_is_said() {
        let policy = policy(&format!("{CONTRACTS}{PAY}{CAPS}")).unwrap();
        let mut world = world();
        world.clients[0].accounts.clear();
        assert!(policy.warnings(&world)[0].what.contains("none of its clients"));
    }

    /// An allow rule with everything stated, but for what `changes` puts in the place of something.
    fn only(changes: &[(&str, &str)]) -> Vec<String> {
        let mut text = format!("{PAY}{CAPS}");
        for (right, other) in changes {
            assert!(text.contains(right), "{right}");
            text = text.replacen(right, other, 1);
        }
        warnings(&text)
    }

    #[test]
    fn each_warning_is_a_whole_sentence_with_its_line() {
        let rule = |what: &str| vec![format!("policies/policy.toml:8: rule `pay`: {what}")];
        let open = ("call    = \"transfer\"\nargs", "call = \"any\"\n# args");
        for (changes, what) in [
            (vec![("[\"trader\"]", "[\"any\"]")], "`clients` is \"any\""),
            (vec![("[\"treasury\"]", "[\"any\"]")], "`from` is \"any\": every account that a client may use"),
            (vec![open], "`call` is \"any\": calldata is not judged"),
            (
                vec![("execution_fee", "via = [\"any\"]\nexecution_fee")],
                "`via` is \"any\": whatever contract makes the call",
            ),
            (vec![("execution_fee", "value = \"any\"\nexecution_fee")], "`value` is \"any\""),
            (vec![("execution_fee", "blobs = \"any\"\nexecution_fee")], "`blobs` is \"any\""),
            (
                vec![("execution_fee", "delegates = [\"any\"]\nexecution_fee")],
                "`delegates` is \"any\": any code may act as the accounts that signed for it",
            ),
            (vec![("execution_fee", "value = { min = 0 }\nexecution_fee")], "`value` has no max"),
            (vec![("[\"alice\", \"bob\"]", "\"any\"")], "`args.to` is \"any\" address"),
            (vec![(", amount = { max = \"1_000 USDC\" }", "")], "`args.amount` has no max"),
            (vec![("{ max = \"1_000 USDC\" }", "{ min = \"1 USDC\" }")], "`args.amount` has no max"),
            (vec![("{ max = \"1_000 USDC\" }", "\"5 USDC\"")], ""),
            (vec![("{ max = \"1_000 USDC\" }", "{ max = 0 }")], ""),
            (
                vec![("\"1_000 USDC\"", "1000")],
                "`args.amount` is a bare number; write it in USDC if it is an amount",
            ),
            (
                vec![("call    = \"transfer\"\nargs", "call = \"empty\"\n# args")],
                "it allows nothing to be sent with nothing: state `value`",
            ),
            (
                vec![(
                    "call    = \"transfer\"\nargs",
                    "call = \"empty\"\nvalue = { max = \"1 wei\" }\n# args",
                )],
                "",
            ),
            (
                vec![
                    ("execution_fee", "# execution_fee"),
                    ("max_execution_fee = \"1 ether\"", "max_execution_fee = \"2 ether\""),
                ],
                "",
            ),
        ] {
            let expected = if what.is_empty() { Vec::new() } else { rule(what) };
            assert_eq!(only(&changes), expected, "{changes:?}");
        }
        // A delegatecall of anything; and one of what is named, which is no more than it says.
        let delegated = "delegatecall = true\nvia = [\"any\"]\nexecution_fee";
        let both = only(&[open, ("execution_fee", delegated)]);
        assert_eq!(both.len(), 3, "{both:?}");
        assert!(
            both[2].ends_with(
                "`delegatecall` with `call` \"any\": any code may act as the account that delegates"
            )
        );
        let named = only(&[("execution_fee", delegated)]);
        assert_eq!(named.len(), 1, "{named:?}");
        let no_caps = only(&[
            ("execution_fee", "# execution_fee"),
            ("max_execution_fee = \"1 ether\"", "max_execution_fee = \"any\""),
        ]);
        assert_eq!(
            no_caps,
            [
                "[caps] max_execution_fee is \"any\": a node that lies about fees is bound by the rules only".to_owned(),
                "policies/policy.toml:8: rule `pay`: neither `execution_fee` nor [caps] bounds what it costs to execute".to_owned(),
            ]
        );
    }

    #[test]
    fn messages_typed_data_and_authorizations_are_warned_of_by_what_they_have() {
        let rule = |kind: &str, more: &str| {
            let found = warnings(&format!(
                "[[rule]]\nid = \"m\"\neffect = \"allow\"\nkind = \"{kind}\"\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n{more}\n"
            ));
            let begins = "policies/policy.toml:7: rule `m`: ";
            found.iter().map(|said| said.strip_prefix(begins).unwrap_or(said).to_owned()).collect::<Vec<_>>()
        };
        for (kind, more, what) in [
            ("message", "text = { prefix = \"x\" }", None),
            ("message", "text = \"any\"", Some("`text` is \"any\": every text is signed")),
            ("message", "siwe = { domain = [\"a.example\"], chain_id = 1, expires_within = \"1h\" }", None),
            (
                "message",
                "siwe = { domain = [\"a.example\"], chain_id = 1 }",
                Some("`siwe` has no expires_within: a sign-in that never expires is signed"),
            ),
            ("authorization", "chain = 1\ndelegates = [\"bob\"]", None),
            (
                "authorization",
                "chain = 1\ndelegates = [\"any\"]",
                Some("`delegates` is \"any\": any code may act as its accounts"),
            ),
            (
                "typed_data",
                "chain = 1\nto = [\"bob\"]\nprimary_type = \"Vote(uint256 id,address by)\"\nfields = { by = \"any\" }",
                Some("`fields.by` is \"any\" address"),
            ),
            ("typed_data", "chain = 1\nto = [\"bob\"]\nprimary_type = \"Vote(uint256 id)\"", None),
            (
                "typed_data",
                "chain = 1\nto = [\"any\"]\nprimary_type = \"Vote(uint256 id)\"",
                Some("`to` is \"any\""),
            ),
            (
                "typed_data",
                "chain = 1\nto = [\"bob\"]\nprimary_type = \"DaiPermit\"\nfields = { holder = \"$from\", spender = \"bob\" }",
                Some("a DaiPermit lets its spender move all there is"),
            ),
            (
                "typed_data",
                "chain = 1\nto = [\"bob\"]\nprimary_type = \"Permit\"\nfields = { owner = \"$from\", spender = \"bob\", value = { min = 1 } }",
                Some("`fields.value` has no max: an unlimited permit is signed"),
            ),
            (
                "typed_data",
                "chain = 1\nto = [\"bob\"]\nprimary_type = \"Permit\"\nfields = { owner = \"$from\", spender = \"bob\", value = 5 }",
                None,
            ),
        ] {
            let expected: Vec<_> = what.into_iter().map(str::to_owned).collect();
            assert_eq!(rule(kind, more), expected, "{kind} {more}");
        }
    }

    #[test]
    fn what_never_matches_and_what_denies_all_is_told_whole() {
        let of = |more: &str| {
            let found = warnings(&format!("{PAY}{CAPS}{more}"));
            found.iter().map(|said| said.replace("policies/policy.toml:", "")).collect::<Vec<_>>()
        };
        let deny = |more: &str| format!("[[rule]]\nid = \"d\"\neffect = \"deny\"\n{more}\n");
        assert_eq!(
            of(&deny("from = [\"treasury\"]")),
            ["8: rule `pay`: rule `d` denies all that it allows, so it never does"]
        );
        let twice = format!(
            "{}{}",
            deny("kind = \"message\""),
            deny("kind = \"message\"\nfrom = [\"treasury\"]").replace("\"d\"", "\"e\"")
        );
        assert_eq!(of(&twice), ["25: rule `e`: rule `d` denies all that it denies"]);
        assert_eq!(
            of(&deny("kind = \"transaction\"\nchain = 5")),
            ["21: rule `d`: it is for chain 5, and this gateway is for chain 1"]
        );
        let again = PAY.replace("\"pay\"", "\"pay-2\"");
        assert_eq!(
            of(&again),
            [
                "8: rule `pay`: rule `pay-2` allows all that it allows, so it changes nothing",
                "22: rule `pay-2`: rule `pay` allows all that it allows, so it changes nothing",
            ]
        );
        // What may be replaced allows more than what may not.
        let replaces = format!("{again}replace = \"own\"\n");
        assert_eq!(
            of(&replaces),
            ["8: rule `pay`: rule `pay-2` allows all that it allows, so it changes nothing"]
        );
        assert_eq!(warnings(""), ["no rule allows anything: every signature is denied"]);
        assert_eq!(
            warnings(&deny("from = [\"treasury\"]")),
            ["no rule allows anything: every signature is denied"]
        );
        let none = "[caps.chain.5]\nmax_gas = 5\n";
        assert_eq!(warnings(&format!("{PAY}{none}")), ["[caps.chain.5]: this gateway is for chain 1"]);
    }

    /// What is opened may be called by name; what is not is refused whatever allows it, whether its ABI is known or not.
    #[test]
    fn a_rule_for_what_is_never_opened_is_said() {
        let contracts = "entry = { chain = 1, address = \"0x0000000071727De22E5E9d8BAf0edAc6f37da032\", abi = \"erc4337-entry-point\" }\n\
                         multi = { chain = 1, address = \"0xcA11bde05977b3631167028862bE2a173976CA11\", abi = \"multicall3\" }\n";
        let of = |to: &str, call: &str, args: &str| {
            let rule = format!(
                "[[rule]]\nid = \"x\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n\
                 to = [{to}]\ncall = \"{call}\"\nargs = {{ {args} }}\n"
            );
            warnings(&format!("{contracts}{rule}"))
        };
        let ops = "handleOps((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address)";
        let closed = of("\"entry\"", ops, "\"all(ops.sender)\" = \"any\", beneficiary = \"$from\"");
        assert!(
            closed
                .iter()
                .any(|said| said.ends_with(&format!("{ops} carries other calls, and is refused always"))),
            "{closed:?}"
        );
        let three = "aggregate3((address,bool,bytes)[])";
        assert_eq!(of("\"multi\"", "aggregate3", "\"all(calls.target)\" = \"any\""), Vec::<String>::new());
        for to in ["\"bob\"", "\"multi\", \"bob\"", "\"any\"", "\"$created\""] {
            let said = of(to, three, "\"all(0.0)\" = \"any\"");
            assert!(said.iter().any(|said| said.contains("is refused always")), "{to}: {said:?}");
        }
    }

    #[test]
    fn a_token_of_another_chain_is_counted_nowhere() {
        let far = "far = { chain = 5, address = \"0x90F79bf6EB2c4f870365E785982E1f101E93b906\", abi = \"erc20\", decimals = 6, symbol = \"FAR\" }\n";
        let budget = "[[budget]]\nid = \"b\"\nwindow = \"24h\"\nasset = \"far\"\nmax = \"1 FAR\"\n";
        assert_eq!(
            warnings(&format!("{far}{PAY}{CAPS}{budget}")),
            [
                "policies/policy.toml:22: budget `b`: it is for chain 5, and this gateway is for chain 1: it counts nothing"
            ]
        );
        let none = budget.replace("far", "usdc").replace("\"1 FAR\"", "0");
        assert_eq!(
            warnings(&format!("{PAY}{CAPS}{none}")),
            [
                "policies/policy.toml:21: budget `b`: `max` is 0, so all that takes from it is refused; a deny rule says so more plainly"
            ]
        );
    }

    #[test]
    fn several_chains_are_named_one_by_one() {
        let rules = |chains: &[u64], text: &str| {
            let world = crate::policy::World { chains: chains.to_vec(), ..world() };
            let policy = crate::policy::Policy::of_text(&format!("{CONTRACTS}{text}"), &world);
            policy
                .warnings(&world)
                .iter()
                .map(ToString::to_string)
                .filter(|said| said.starts_with("[caps"))
                .collect::<Vec<_>>()
        };
        let any = format!("{PAY}[caps.chain.1]\nmax_execution_fee = \"any\"\n");
        let what = "max_execution_fee is \"any\": a node that lies about fees is bound by the rules only";
        assert_eq!(rules(&[1, 10], &any), [format!("[caps.chain.1] {what}")]);
        assert_eq!(rules(&[1], &any), [format!("[caps] {what}")]);
        // Where nothing is sent, no fee is paid.
        let talk = any.replace(PAY, "[[rule]]\nid = \"t\"\neffect = \"allow\"\nkind = \"message\"\nclients = [\"ann\"]\nfrom = [\"treasury\"]\ntext = \"any\"\n");
        assert_eq!(rules(&[1], &talk), Vec::<String>::new());
    }

    /// Of an approval, what is said of another parameter bounds nothing.
    #[test]
    fn an_approval_is_bounded_by_its_own_amount() {
        let permit2 = "permit2 = { chain = 1, address = \"0x000000000022D473030F116dDEE9F6B43aC78BA3\", abi = \"permit2\" }\n\
                       pool = { chain = 1, address = \"0xc3d688B66703497DAA19211EEdff47f25384cdc3\", abi = \"compound-v3-comet\" }\n";
        let of = |from: &str, to: &str, call: &str, args: &str| {
            let found = warnings(&format!(
                "{permit2}{CAPS}[[rule]]\nid = \"x\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
                 from = [{from}]\nto = [\"{to}\"]\ncall = \"{call}\"\nargs = {{ {args} }}\n"
            ));
            found
                .iter()
                .map(|said| said.split_once("rule `x`: ").map_or(said.as_str(), |(_, what)| what).to_owned())
                .collect::<Vec<_>>()
        };
        let treasury = "\"treasury\"";
        let approve = |more: &str| {
            of(treasury, "permit2", "approve", &format!("token = \"usdc\", spender = \"bob\"{more}"))
        };
        let unlimited = "an approval without a limit: whoever gets it may take all there will ever be; give `args.amount` a max";
        assert_eq!(approve(""), [unlimited]);
        assert_eq!(approve(", expiration = { max = 5 }"), [unlimited]);
        assert_eq!(approve(", amount = { max = \"5 USDC\" }"), Vec::<String>::new());
        assert_eq!(approve(", amount = { min = \"5 USDC\" }"), [unlimited]);
        // 2^159 is the least that nobody has half of.
        let half = alloy_primitives::U256::from(1).checked_shl(159).unwrap();
        assert_eq!(approve(&format!(", amount = {{ max = \"{half}\" }}")), [unlimited]);
        assert_eq!(
            approve(&format!(", amount = {{ max = \"{}\" }}", half - alloy_primitives::U256::from(1))),
            Vec::<String>::new()
        );
        // Who gets it: the one account of the rule comes back; one of several, or anybody's, does not.
        let moved = "`args.amount` has no max, and that much is moved";
        let withdraw =
            |from: &str, to: &str| of(from, "pool", "withdrawTo", &format!("to = {to}, asset = \"usdc\""));
        assert_eq!(withdraw(treasury, "\"treasury\""), Vec::<String>::new());
        assert_eq!(withdraw(treasury, "\"$sender\""), Vec::<String>::new());
        assert_eq!(withdraw(treasury, "[\"$from\", \"treasury\"]"), Vec::<String>::new());
        assert_eq!(withdraw(treasury, "[\"$from\", \"bob\"]"), [moved]);
        assert_eq!(withdraw(treasury, "\"$created\""), [moved]);
        assert!(withdraw("\"any\"", "\"treasury\"").iter().any(|said| said == moved));
        assert_eq!(withdraw(treasury, "{ not = \"bob\" }"), [moved]);
    }

    /// An account has no place in a policy, so what looks like one is said where it is written; two accounts nowhere.
    #[test]
    fn what_looks_like_an_account_is_said_where_it_is_written() {
        let twin: alloy_primitives::Address = "0xd8da000000000000000000000000000000006045".parse().unwrap();
        let found = warnings(&format!("twin = {{ chain = 1, address = \"{twin}\" }}\n{PAY}{CAPS}"));
        let treasury = crate::policy::tests::TREASURY;
        let alike = |name: &str| {
            format!("`{name}` ({twin}) and `treasury` ({treasury}) look alike: compare each with its source")
        };
        assert_eq!(found, [format!("policies/policy.toml:6: {}", alike("twin"))]);
        let mut world = world();
        world.accounts.insert("second".to_owned(), twin);
        let policy = crate::policy::Policy::of_text(&format!("{CONTRACTS}{PAY}{CAPS}"), &world);
        let said = policy.warnings(&world).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(said.contains(&alike("second")), "{said:?}");
    }
}
