//! From policy files as written to a policy as meant: every mistake is found, and named with its line.

mod argument;
mod budget;
mod caps;
mod contract;
mod list;
mod matcher;
mod names;
mod operand;
mod outcome;
mod rule;
mod value;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use alloy_primitives::B256;

use crate::clock::Clock;
use crate::config::ConfigError;
use crate::policy::caps::Caps;
use crate::policy::decide::Policy;
use crate::policy::error::PolicyError;
use crate::policy::evidence::asks_created;
use crate::policy::index::Index;
use crate::policy::load::{Beside, Source};
use crate::policy::outcome::asks_outcome;
use crate::policy::rate::Rates;
use crate::policy::rule::{Place, RuleKind};
use crate::policy::world::World;
use crate::policy::wrapper::Wrappers;
use crate::policy::written;

use names::Names;

/// A policy, but for the text of its archive.
pub(in crate::policy) struct Read {
    pub policy: Policy,
    /// The ABIs that were used, by name.
    pub abis: BTreeMap<String, String>,
    /// The lists of addresses, by path.
    pub lists: BTreeMap<String, String>,
}

pub(in crate::policy) fn policy(
    sources: &[Source],
    world: &World,
    beside: impl Fn(Beside<'_>) -> Result<String, String>,
) -> Result<Read, PolicyError> {
    let mut mistakes = Vec::new();
    let mut files = Vec::new();
    for source in sources {
        match toml::from_str::<written::File>(&source.text) {
            Ok(written) => files.push((File::of(source), written)),
            Err(e) => mistakes.push(ConfigError::of_toml(&source.path, &source.text, &e)),
        }
    }
    let mut names = Names::new(world);
    for (_, written) in &files {
        contract::note(&written.contracts, &mut names);
    }
    for (file, written) in &mut files {
        contract::read(file, &written.contracts, &mut names, &beside);
        list::read(file, &written.lists, &mut names, &beside);
    }
    let mut rules = Vec::new();
    let mut rates = Vec::new();
    let mut budgets = Vec::new();
    let mut all_caps = None;
    for (file, written) in &mut files {
        rules.extend(written.rule.iter().filter_map(|written| rule::read(file, written, &mut names)));
        rates.extend(written.rate.iter().filter_map(|written| rule::read_rate(file, written, &mut names)));
        if let Some(written) = &written.caps {
            if all_caps.is_some() {
                file.wrong(&written.span(), "there are [caps] already; they stand once for all files");
            }
            all_caps = Some(caps::read(file, written.get_ref(), world));
        }
        budgets.extend(written.budget.iter().filter_map(|written| budget::read(file, written, &mut names)));
    }
    mistakes.extend(files.into_iter().flat_map(|(file, _)| file.mistakes));
    if !mistakes.is_empty() {
        mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        return Err(PolicyError { mistakes });
    }
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rates.sort_by(|a, b| a.id.cmp(&b.id));
    budgets.sort_by(|a, b| a.limit.id.cmp(&b.limit.id));
    let abis = std::mem::take(&mut names.abis);
    let lists = std::mem::take(&mut names.list_files);
    let policy = Policy {
        index: Index::new(&rules),
        asks_created: rules.iter().any(asks_created),
        asks_outcome: rules.iter().any(asks_outcome),
        rules,
        caps: all_caps.unwrap_or_default(),
        rates: Rates::new(rates),
        budgets,
        book: names.into_book(),
        wrappers: Wrappers::known(),
        hash: B256::ZERO,
        text: String::new(),
        files: Vec::new(),
        serial: None,
        clock: Clock::system(),
    };
    Ok(Read { policy, abis, lists })
}

/// The file that is being read, and the mistakes found in it.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where its lines end: ten thousand rules ask for their line.
    ends: Vec<usize>,
    mistakes: Vec<ConfigError>,
}

impl<'a> File<'a> {
    fn of(source: &'a Source) -> Self {
        let ends = source.text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path: &source.path, text: &source.text, ends, mistakes: Vec::new() }
    }

    fn wrong(&mut self, span: &Range<usize>, what: impl Display) {
        self.mistakes.push(ConfigError::at(self.path, self.text, span, what));
    }

    /// The value, or its mistake.
    fn right<T, E: Display>(&mut self, span: &Range<usize>, read: Result<T, E>) -> Option<T> {
        read.map_err(|e| self.wrong(span, e)).ok()
    }

    /// A key that goes with some kinds of rule only.
    fn only_with(
        &mut self,
        key: &str,
        span: Option<Range<usize>>,
        (kind, kinds): (Option<RuleKind>, &[RuleKind]),
    ) {
        let Some(span) = span.filter(|_| !kind.is_some_and(|kind| kinds.contains(&kind))) else { return };
        let names: Vec<_> = kinds.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
        self.wrong(&span, format_args!("`{key}` goes with kind = {} only", names.join(" or ")));
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let line = self.ends.partition_point(|end| *end < span.start).saturating_add(1);
        Place { file: self.path.to_owned(), line }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            asks_created: false,
            asks_outcome: false,
            index: Index::default(),
            caps: Caps::default(),
            rates: Rates::new(Vec::new()),
            budgets: Vec::new(),
            book: crate::policy::facts::Book::default(),
            wrappers: Wrappers::known(),
            hash: B256::ZERO,
            text: String::new(),
            files: Vec::new(),
            serial: None,
            clock: Clock::system(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{CONTRACTS, PAY, policy, policy_of};

    /// The lines and sentences of all mistakes.
    fn mistakes(text: &str) -> Vec<(usize, String)> {
        let error = policy(text).err().map(|e| e.mistakes).unwrap_or_default();
        error.into_iter().map(|mistake| (mistake.line.unwrap_or(0), mistake.what)).collect()
    }

    #[test]
    fn each_mistake_in_a_rule_is_named_with_its_line() {
        // Lines: [contracts] is 2, usdc 3, alice 4, bob 5; [[rule]] 7, id 8, effect 9, kind 10, chain 11,
        // clients 12, from 13, to 14, call 15, args 16, execution_fee 17.
        let good = format!("{CONTRACTS}{PAY}");
        assert_eq!(mistakes(&good), []);
        for (right, wrong, line, what) in [
            ("[[rule]]", "[[rules]]", 7, "unknown field `rules`"),
            ("call    =", "cal     =", 15, "unknown field `cal`"),
            ("\"pay\"", "\"pay me\"", 8, "an id has"),
            ("\"allow\"", "\"needs_approval\"", 9, "nobody to ask yet"),
            ("\"allow\"", "\"permit\"", 9, "expected \"allow\" or \"deny\""),
            ("\"transaction\"", "\"authorization\"", 8, "from and delegates"),
            ("\"transaction\"", "\"authorization\"", 15, "`call` goes with kind"),
            ("\"transaction\"", "\"tx\"", 10, "`tx` is not a kind"),
            ("kind    = \"transaction\"\n", "", 8, "missing: `kind`"),
            ("chain   = 1\n", "", 8, "missing: `chain`"),
            ("clients = [\"trader\"]\n", "", 8, "missing: `clients`"),
            ("from    = [\"treasury\"]\n", "", 8, "missing: `from`"),
            ("to      = [\"usdc\"]\n", "", 8, "missing: `to`"),
            ("call    = \"transfer\"\n", "", 8, "missing: `call`"),
            ("chain   = 1", "chain   = \"1\"", 11, "invalid type"),
            ("chain   = 1", "chain   = 10", 14, "`usdc` is on chain 1, the rule is for chain 10"),
            ("[\"trader\"]", "[\"tradr\"]", 12, "no role of a client, named `tradr`"),
            ("[\"trader\"]", "[]", 12, "names nobody"),
            ("[\"treasury\"]", "[\"tresury\"]", 13, "there is no account named `tresury`"),
            ("[\"usdc\"]", "[\"usdt\"]", 14, "no contract or account named `usdt`; known are `alice`"),
            ("[\"usdc\"]", "[\"$created\"]", 15, "or a full signature"),
            ("[\"usdc\"]", "[\"$made\"]", 14, "`$made` is not read"),
            ("[\"usdc\"]", "[\"none\"]", 14, "no contract or account named `none`"),
            ("[\"usdc\"]", "[\"0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48\"]", 14, "has no EIP-55 checksum"),
            ("[\"usdc\"]", "[\"usdc\", \"create\"]", 15, "write call = \"any\""),
            ("[\"usdc\"]", "[\"usdc\", \"alice\"]", 15, "has no ABI, so `transfer` must be a full signature"),
            ("[\"usdc\"]", "[\"any\"]", 15, "or a full signature"),
            ("\"transfer\"", "\"transfr\"", 15, "it has no function `transfr`; it has `"),
            ("\"transfer\"", "\"mint(address)\"", 15, "it has no function `mint(address)`"),
            ("\"transfer\"", "\"transfer(\"", 15, "is no function signature"),
            ("\"transfer\"", "\"any\"", 16, "`args` needs a `call`"),
            (
                "to = [\"alice\", \"bob\"], ",
                "",
                16,
                "`to` of transfer(address to, uint256 amount) is missing",
            ),
            ("to = [\"alice\"", "whom = [\"alice\"", 16, "has no parameter `whom`"),
            ("to = [\"alice\"", "0 = \"bob\", to = [\"alice\"", 16, "twice, by name and number"),
            ("[\"alice\", \"bob\"]", "17", 16, "17 is no address"),
            ("[\"alice\", \"bob\"]", "[\"alice\", \"any\"]", 16, "\"any\" stands alone"),
            ("[\"alice\", \"bob\"]", "[]", 16, "the list is empty"),
            ("[\"alice\", \"bob\"]", "{ max = \"bob\" }", 16, "has no order"),
            ("[\"alice\", \"bob\"]", "\"$client\"", 16, "`$client` is not read here"),
            ("\"1_000 USDC\"", "\"1_000 USDT\"", 16, "an amount in USDT needs its token pinned"),
            ("\"1_000 USDC\"", "\"1_000 ether\"", 16, "write the amount in USDC"),
            ("\"1_000 USDC\"", "\"0.0000001 USDC\"", 16, "more than 6 decimals"),
            ("\"1_000 USDC\"", "-1", 16, "does not fit into uint256"),
            ("\"1_000 USDC\"", "\"1,000\"", 16, "is not a number"),
            ("max = \"1_000", "most = \"1_000", 16, "`most` is not a condition"),
            ("max = \"1_000 USDC\"", "max = 1, min = 2", 16, "`min` is more than `max`"),
            ("max = \"0.05 ether\"", "max = \"0.05\"", 17, "has no unit"),
            ("max = \"0.05 ether\"", "max = \"0.05 eth\"", 17, "`eth` is not a unit"),
            ("max = \"0.05 ether\"", "max = 5", 17, "only 0 may be bare"),
            ("max = \"0.05 ether\"", "max = 0, min = \"1 wei\"", 17, "`min` is more than `max`"),
            ("max = \"0.05 ether\"", "", 17, "write { min"),
            ("execution_fee = {", "text = \"any\" # {", 17, "`text` goes with kind = \"message\" only"),
            ("execution_fee = {", "hours = \"always\" # {", 17, "write days, times and a time zone"),
            ("execution_fee = {", "hours = [] # {", 17, "the list is empty"),
            ("execution_fee = {", "hours = [\"Mon 08:00-09:00 UTC\", 5] # {", 17, "5: write hours ="),
            ("execution_fee = {", "via = [] # {", 17, "`via` names nobody"),
            ("execution_fee = {", "via = [\"safe\"] # {", 17, "no contract or account named `safe`"),
            ("execution_fee = {", "via = \"bob\" # {", 17, "invalid type"),
            ("execution_fee = {", "delegatecall = \"yes\" # {", 17, "invalid type"),
            ("execution_fee = {", "blobs = \"5\" # {", 17, "is no number"),
            ("execution_fee = {", "replace = \"any\" # {", 17, "expected \"own\" or \"never\""),
            ("abi = \"erc20\"", "abi = \"erc-20\"", 3, "no such ABI"),
            ("decimals = 6, ", "", 3, "`symbol` needs `decimals`"),
            ("symbol = \"USDC\"", "symbol = \"ether\"", 3, "a meaning of its own"),
            (
                "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                "0x70997970C51812dc3A010C7d01b50e0d17dc79c8",
                4,
                "checksum",
            ),
            ("bob   =", "any   =", 5, "`any` has a meaning of its own"),
            ("bob   =", "treasury =", 5, "is the name of an account"),
            (
                "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
                "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                5,
                "is this address already",
            ),
        ] {
            assert!(good.contains(right), "{right}");
            let found = mistakes(&good.replacen(right, wrong, 1));
            assert!(
                found.iter().any(|(at, said)| *at == line && said.contains(what)),
                "{wrong}: {line} {what}: {found:?}"
            );
        }
    }

    #[test]
    fn an_overflow_is_a_mistake_and_not_another_number() {
        let huge = "9".repeat(78);
        let text = format!("{CONTRACTS}{PAY}").replace("1_000 USDC", &format!("{huge} USDC"));
        assert!(mistakes(&text)[0].1.contains("256 bits"), "{:?}", mistakes(&text));
        let small = format!("{CONTRACTS}{PAY}")
            .replace("\"transfer\"", "\"f(address to, uint8 amount)\"")
            .replace("[\"usdc\"]", "[\"alice\"]")
            .replace("\"1_000 USDC\"", "256");
        assert!(mistakes(&small)[0].1.contains("does not fit into uint8"), "{:?}", mistakes(&small));
    }

    #[test]
    fn every_mistake_of_every_file_is_reported_at_once() {
        let a = format!("{CONTRACTS}{PAY}").replace("\"transfer\"", "\"transfr\"");
        let b = PAY.replace("[\"trader\"]", "[\"nobody\"]").replace("0.05 ether", "5 eth");
        let error = policy_of(&[("a.toml", &a), ("b.toml", &b)]).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 4, "{error}");
        for (line, expected) in lines.iter().zip([
            "policies/a.toml:15: the ABI of `usdc`: it has no function `transfr`",
            "policies/b.toml:3: the id `pay` stands there twice",
            "policies/b.toml:7: there is no client",
            "policies/b.toml:12: `eth` is not a unit",
        ]) {
            assert!(line.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn messages_rates_and_caps_have_mistakes_too() {
        let message = "[[rule]]\nid = \"m\"\neffect = \"allow\"\nkind = \"message\"\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n";
        for (line, what) in [
            ("", "missing: `siwe` or `text`"),
            ("text = { prefix = \"\" }", "every text begins with nothing"),
            ("text = { suffix = \"x\" }", "write text ="),
            ("siwe = { domain = [\"a.example\"] }", "must state `domain` and `chain_id`"),
            ("siwe = { domain = [\"https://a.example\"], chain_id = 1 }", "a domain is a host"),
            (
                "siwe = { domain = [\"a.example\"], chain_id = 1, expires_within = \"1 week\" }",
                "is not a unit",
            ),
            ("text = \"any\"\nsiwe = { domain = [\"a.example\"], chain_id = 1 }", "do not go together"),
            (
                "text = \"any\"\nto = [\"any\"]",
                "`to` goes with kind = \"transaction\" or \"typed_data\" or \"presigned\" only",
            ),
            (
                "text = \"any\"\nvia = [\"any\"]",
                "`via` goes with kind = \"transaction\" or \"presigned\" only",
            ),
            ("text = \"any\"\nvalue = 0", "`value` goes with kind = \"transaction\" or \"presigned\" only"),
        ] {
            let found = mistakes(&format!("{message}{line}\n"));
            assert!(found.iter().any(|(_, said)| said.contains(what)), "{line}: {found:?}");
        }
        for (text, line, what) in [
            ("[caps]\nmax_gas = \"5\"\n", 2, "invalid type"),
            ("[caps]\nmax_fee_per_gas = \"5\"\n", 2, "has no unit"),
            ("[caps]\nmax_fee = \"5 gwei\"\n", 2, "unknown field `max_fee`"),
            ("[[rate]]\nid = \"r\"\nmax = 0\nwindow = \"1s\"\n", 3, "`max` is at least 1"),
            ("[[rate]]\nid = \"r\"\nmax = 9\nwindow = \"0s\"\n", 4, "too short"),
            ("[[rate]]\nid = \"r\"\nmax = 9\nwindow = \"1s\"\nper = [\"ip\"]\n", 5, "`ip`: expected"),
            (
                "[[rate]]\nid = \"r\"\nmax = 9\nwindow = \"1s\"\nmatch = { to = [\"any\"] }\n",
                5,
                "`to` goes with",
            ),
            ("[[budget]]\nid = \"b\"\nmax = 1\nwindow = \"24h\"\n", 2, "either `asset` or `sum`"),
            (
                "[[budget]]\nid = \"b\"\nasset = \"usdc\"\nmax = 1\nwindow = \"24h\"\n",
                3,
                "no token named `usdc`",
            ),
            ("[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = 1\nwindow = \"24h\"\n", 4, "has no unit"),
            (
                "[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = \"1 USDC\"\nwindow = \"24h\"\n",
                4,
                "is not a unit",
            ),
            (
                "[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = \"1 ether\"\nwindow = \"24h\"\n",
                4,
                "is not a number",
            ),
            ("[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = -1\nwindow = \"24h\"\n", 4, "has no unit"),
            ("[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = 1\nwindow = \"59s\"\n", 5, "from 1 minute"),
            (
                "[[budget]]\nid = \"b\"\nsum = \"amount\"\nmax = 1\nwindow = \"24h\"\n",
                3,
                "expected \"count\"",
            ),
            ("[[budget]]\nid = \"b\"\nsum = \"args.amount\"\nmax = 1\nwindow = \"24h\"\n", 3, "needs `call`"),
            (
                "[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"24h\"\nmatch = { kind = \"message\" }\n",
                2,
                "a message moves nothing",
            ),
            ("[[budget]]\nid = \"b\"\nlimit = 1\n", 3, "unknown field `limit`"),
            ("[[rule]]\nid = \"d\"\neffect = \"deny\"\nto = [\"any\"]\n", 4, "`to` goes with"),
        ] {
            let found = mistakes(text);
            assert!(found.iter().any(|(at, said)| *at == line && said.contains(what)), "{text}: {found:?}");
        }
        let twice = policy_of(&[("a.toml", "[caps]\nmax_gas = 1\n"), ("b.toml", "\n[caps]\nmax_gas = 2\n")]);
        assert!(twice.unwrap_err().to_string().starts_with("policies/b.toml:2: there are [caps] already"));
    }

    /// The one mistake of a policy in which `right` is `wrong`, as the officer reads it.
    fn said(right: &str, wrong: &str) -> String {
        let good = format!("{CONTRACTS}{PAY}");
        assert!(good.contains(right), "{right}");
        let error = policy(&good.replacen(right, wrong, 1)).err().map(|e| e.to_string()).unwrap_or_default();
        error.trim_end().replace("policies/policy.toml:", "")
    }

    /// `right` in a good policy, what stands there instead, and what is said of it: whole, or how it begins.
    fn are_said(cases: &[(&str, &str, &str)]) {
        for (right, wrong, says) in cases {
            let found = said(right, wrong);
            let first = found.lines().next().unwrap_or_default();
            match says.strip_suffix('…') {
                Some(begins) => assert!(first.starts_with(begins), "{wrong}: {first}\n{says}"),
                None => assert_eq!(first, *says, "{wrong}"),
            }
        }
    }

    #[test]
    fn a_mistake_in_a_rules_head_says_what_to_write() {
        are_said(&[
            ("\"pay\"", "\"pay me\"", "8: an id has 1 to 64 letters, digits, `-`, `_` or `.`"),
            (
                "\"allow\"",
                "\"needs_approval\"",
                "9: \"needs_approval\" is not read by this version: there is nobody to ask yet",
            ),
            ("\"allow\"", "\"permit\"", "9: `permit`: expected \"allow\" or \"deny\""),
            (
                "clients = [\"trader\"]\nfrom    = [\"treasury\"]\n",
                "",
                "8: rule `pay`: an allow rule must state kind, chain, clients, from, to and call (\"any\" where any is meant); missing: `clients`, `from`",
            ),
            ("[\"trader\"]", "[\"tradr\"]", "12: there is no client, and no role of a client, named `tradr`"),
            ("[\"trader\"]", "[]", "12: `clients` names nobody, so nothing can match"),
            ("[\"treasury\"]", "[\"tresury\"]", "13: there is no account named `tresury`"),
            ("[\"treasury\"]", "[]", "13: `from` names nobody, so nothing can match"),
            (
                "[\"usdc\"]",
                "[\"usdt\"]",
                "14: there is no contract or account named `usdt`; known are `alice`, `bob`, `usdc`, `treasury`",
            ),
            ("[\"usdc\"]", "[\"$made\"]", "14: `$made` is not read here by this version"),
            ("[\"usdc\"]", "[\"@made\"]", "14: there is no list named `made` in [lists]"),
            (
                "call    = \"transfer\"",
                "call    = \"transfr\"",
                "15: the ABI of `usdc`: it has no function `transfr`; it has `…",
            ),
            (
                "[\"usdc\"]\ncall    = \"transfer\"",
                "[\"alice\"]\ncall    = \"transfer\"",
                "15: `alice` (0x70997970C51812dc3A010C7d01b50e0d17dc79C8) has no ABI, so `transfer` must be a full signature, such as \"transfer(address,uint256)\"",
            ),
            (
                "[\"usdc\"]\ncall    = \"transfer\"",
                "[\"treasury\"]\ncall    = \"transfer\"",
                "15: `treasury` (0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045) has no ABI, so `transfer` must be a full signature, such as \"transfer(address,uint256)\"",
            ),
            (
                "[\"usdc\"]\ncall    = \"transfer\"",
                "[\"any\"]\ncall    = \"transfer\"",
                "15: without contracts in `to`, `transfer` must be \"any\", \"empty\", or a full signature such as \"transfer(address,uint256)\"",
            ),
        ]);
    }

    #[test]
    fn a_mistake_in_an_argument_says_what_to_write() {
        let to = "[\"alice\", \"bob\"]";
        let amount = "{ max = \"1_000 USDC\" }";
        are_said(&[
            (
                to,
                "17",
                "16: 17 is no address: write a label, an account's name, an address, \"@list\", \"$from\", \"$sender\" or \"$created\"",
            ),
            (to, "[]", "16: the list is empty"),
            (to, "[\"alice\", \"any\"]", "16: \"any\" stands alone, not in a list"),
            (to, "{ max = \"bob\" }", "16: a address has no order: `min` and `max` are for numbers"),
            (to, "{}", "16: there is no condition in { }; write \"any\" if that is meant"),
            (to, "{ within = 5 }", "16: 5 is no length of time; write for example \"1h\""),
            (to, "{ within = \"1h\" }", "16: `within` is for times, which are uints; this is a address"),
            (to, "{ prefix = \"0x00\" }", "16: `prefix` is for bytes and text, not for a address"),
            (to, "{ prefix = 5 }", "16: 5 is no text"),
            (to, "{ is = 5 }", "16: `is` is not a condition; write equals, not, min, max, prefix or within"),
            (amount, "true", "16: true is no number; write digits, or text with a unit"),
            (amount, "\"$now + 1\"", "16: `$now + 1`: write \"$now\", \"$now + 1h\" or \"$now - 5m\": …"),
            (amount, "\"$now 1h\"", "16: `$now 1h`: write \"$now\", \"$now + 1h\" or \"$now - 5m\""),
            (amount, "\"1_000 ether\"", "16: the rule pins USDC, so write the amount in USDC, not in ether"),
            (
                amount,
                "\"1_000 DAI\"",
                "16: an amount in DAI needs its token pinned by the same rule, in `to` or as an address argument, with `symbol` and `decimals` in [contracts]; pinned here: USDC",
            ),
            (amount, "{ max = 1, min = 2 }", "16: `min` is more than `max`, so nothing can match"),
            (
                amount,
                "{ min = \"$now + 2h\", max = \"$now + 1h\" }",
                "16: `min` is more than `max`, so nothing can match",
            ),
            (amount, "{ max = 2, min = 2 }", ""),
            (amount, "{ min = \"$now + 1h\", max = \"$now + 1h\" }", ""),
            (amount, "{ min = \"$now + 1h\", max = 5 }", ""),
            (amount, "-1", "16: -1 does not fit into uint256 (256 bits)"),
            (amount, "\"-1\"", "16: `-1` is not a number; write digits, `_` between them, and one point"),
        ]);
    }

    #[test]
    fn a_mistake_in_a_bound_says_what_to_write() {
        are_said(&[
            ("max = \"0.05 ether\"", "most = 5", "17: `most` is not a bound; write { min = …, max = … }"),
            ("max = \"0.05 ether\"", "", "17: write { min = …, max = … }, or \"any\""),
            (
                "max = \"0.05 ether\"",
                "max = 0, min = \"1 wei\"",
                "17: `min` is more than `max`, so nothing can match",
            ),
            ("max = \"0.05 ether\"", "max = \"1 wei\", min = \"1 wei\"", ""),
            (
                "max = \"0.05 ether\"",
                "max = 5",
                "17: an amount is text with its unit, such as \"0.05 ether\" (only 0 may be bare)",
            ),
            ("execution_fee = {", "blobs = -1 # {", "17: -1 is no number; write for example { max = 6 }"),
            (
                "execution_fee = {",
                "hours = 5 # {",
                "17: 5: write hours = \"Mon-Fri 08:00-20:00 UTC\", or a list of such texts",
            ),
            ("execution_fee = {", "hours = [] # {", "17: the list is empty, so nothing can match"),
            ("execution_fee = {", "replace = \"any\" # {", "17: `any`: expected \"own\" or \"never\""),
            (
                "execution_fee = {",
                "delegates = [\"bobby\"] # {",
                "17: there is no contract or account named `bobby`; known are…",
            ),
        ]);
    }

    #[test]
    fn a_mistake_in_a_contract_says_what_to_write() {
        let alice = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
        are_said(&[
            ("decimals = 6, ", "", "3: `symbol` needs `decimals`: amounts are written with both"),
            (", symbol = \"USDC\"", "", "3: `decimals` needs `symbol`: amounts are written with both"),
            ("bob   = {", "alice = {", "5:…"),
            ("bob   = {", "\"b b\" = {", "5: a label has 1 to 64 letters, digits, `-`, `_` or `.`"),
            ("bob   = {", "0xbob = {", "5: `0xbob` has a meaning of its own in rules; choose another label"),
            ("bob   = {", "none = {", "5: `none` has a meaning of its own in rules; choose another label"),
            ("bob   = {", "treasury = {", "5: `treasury` is the name of an account; choose another label"),
            (
                "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
                alice,
                "5: `alice` is this address already; one address has one label",
            ),
            (
                "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
                "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293bc",
                "5: `0x3C44CdDdB6a900fa2b585dd299e03d12FA4293bc` has a wrong EIP-55 checksum…",
            ),
            (
                "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
                "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
                "5: `0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc` has no EIP-55 checksum; compare it with its source, then write 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
            ),
        ]);
    }

    #[test]
    fn what_fits_fits_to_the_last_one() {
        let of = |symbol: &str, decimals: u8| {
            let token = format!("symbol = \"{symbol}\"");
            let text = CONTRACTS
                .replace("symbol = \"USDC\"", &token)
                .replace("decimals = 6", &format!("decimals = {decimals}"));
            policy(&text).map(drop).map_err(|e| e.to_string())
        };
        let symbols = "a symbol has 1 to 16 letters, digits or `.`";
        for (symbol, decimals, why) in [
            ("ABCDEFGHIJKLMNOP", 36, None),
            ("A.B", 0, None),
            ("ABCDEFGHIJKLMNOPQ", 6, Some(symbols)),
            ("", 6, Some(symbols)),
            ("A-B", 6, Some(symbols)),
            ("A B", 6, Some(symbols)),
            ("USDC", 37, Some("`decimals` is at most 36")),
            ("Ether", 18, Some("`Ether` has a meaning of its own in amounts")),
            ("any", 18, Some("`any` has a meaning of its own in amounts")),
        ] {
            match (of(symbol, decimals), why) {
                (Ok(()), None) => {}
                (Err(error), Some(why)) => assert_eq!(error, format!("policies/policy.toml:3: {why}")),
                (found, _) => panic!("{symbol} {decimals}: {found:?}"),
            }
        }
        let id = |length: usize| said("\"pay\"", &format!("\"{}\"", "p".repeat(length)));
        assert_eq!((id(1), id(64)), (String::new(), String::new()));
        assert!(!id(65).is_empty() && !id(0).is_empty());
        let argument = |ty: &str, condition: &str| {
            let rule = PAY
                .replace("\"transfer\"", &format!("\"f({ty} it)\""))
                .replace("[\"usdc\"]", "[\"alice\"]")
                .replace(
                    "{ to = [\"alice\", \"bob\"], amount = { max = \"1_000 USDC\" } }",
                    &format!("{{ it = {condition} }}"),
                );
            let error = policy(&format!("{CONTRACTS}{rule}")).map(drop).map_err(|e| e.to_string());
            error.err().unwrap_or_default().trim_end().replace("policies/policy.toml:16: ", "")
        };
        for (ty, condition, says) in [
            ("uint8", "255", ""),
            ("uint8", "256", "256 does not fit into uint8 (8 bits)"),
            ("int8", "127", ""),
            ("int8", "128", "128 does not fit into int8 (8 bits)"),
            ("int8", "-128", ""),
            ("int8", "\"-128\"", ""),
            ("int8", "-129", "-129 does not fit into int8 (8 bits)"),
            ("int8", "{ min = -3, max = \"-4\" }", "`min` is more than `max`, so nothing can match"),
            ("bytes4", "\"0x01020304\"", ""),
            ("bytes4", "\"0x010203\"", "`0x010203` has 3 bytes, a bytes4 has 4"),
            ("bytes4", "{ prefix = \"0x01020304\" }", ""),
            (
                "bytes4",
                "{ prefix = \"0x0102030405\" }",
                "`0x0102030405` is longer than a bytes4, so nothing can match",
            ),
            (
                "bytes4",
                "{ prefix = \"0x\" }",
                "everything begins with nothing: write \"any\" if that is meant",
            ),
            (
                "bytes",
                "{ prefix = \"0x\" }",
                "everything begins with nothing: write \"any\" if that is meant",
            ),
            ("string", "{ prefix = \"\" }", "everything begins with nothing: write \"any\" if that is meant"),
            ("bytes", "5", "5 is no bytes: write \"0x…\""),
            ("bool", "1", "1 is no bool: write true or false"),
            ("string", "1", "1 is no string: write text"),
            ("function", "\"0x\"", "\"0x\" is no function: only \"any\" can be said of it"),
            (
                "uint8[]",
                "5",
                "a uint8[] is no single value: name its parts, such as \"params.recipient\", \"path[0]\" or \"all(amounts)\", or write \"any\"",
            ),
        ] {
            assert_eq!(argument(ty, condition), says, "{ty} {condition}");
        }
    }

    #[test]
    fn a_rate_and_a_budget_have_their_bounds() {
        let rate = |max: u64, window: &str| {
            let text = format!("[[rate]]\nid = \"r\"\nmax = {max}\nwindow = \"{window}\"\n");
            policy(&text).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!((rate(60_000, "60s"), rate(1, "1ms")), (Ok(()), Ok(())));
        let short = "policies/policy.toml:4: `window` is too short for `max`: at least 1 ms for each request";
        assert_eq!(rate(60_001, "60s"), Err(short.to_owned()));
        let none = "policies/policy.toml:3: `max` is at least 1; to allow nothing, write a deny rule";
        assert_eq!(rate(0, "60s"), Err(none.to_owned()));
        let budget = |window: &str| {
            let text = format!("[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = 1\nwindow = \"{window}\"\n");
            policy(&text).map(drop).map_err(|e| e.to_string())
        };
        let long = Err("policies/policy.toml:5: a budget's `window` is from 1 minute to 366 days".to_owned());
        for (window, is) in [
            ("60s", Ok(())),
            ("366d", Ok(())),
            ("59999ms", long.clone()),
            ("8785h", long.clone()),
            ("367d", long),
        ] {
            assert_eq!(budget(window), is, "{window}");
        }
    }

    /// A name stands once, in whichever file.
    #[test]
    fn what_stands_there_twice_is_said_where_it_stands_again() {
        let token =
            "[contracts]\nusdc = { chain = 1, address = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\" }\n";
        let error = policy_of(&[("a.toml", CONTRACTS), ("b.toml", token)]).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(
            lines,
            [
                "policies/b.toml:2: the label `usdc` stands there twice: give one of them another",
                "policies/b.toml:2: `alice` is this address already; one address has one label",
            ]
        );
        let rate = "\n[[rate]]\nid = \"pay\"\nmax = 1\nwindow = \"1s\"\n";
        let error =
            policy_of(&[("a.toml", &format!("{CONTRACTS}{PAY}")), ("b.toml", rate)]).unwrap_err().to_string();
        assert_eq!(
            error.trim_end(),
            "policies/b.toml:3: the id `pay` stands there twice: give one of them another"
        );
    }
}
