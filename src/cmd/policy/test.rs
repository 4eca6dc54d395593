//! `chancery policy test`: cases as data, each a request and what is to become of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use toml::{Spanned, Table};

use crate::clock::Timestamp;
use crate::cmd::policy::case::{self, Asked};
use crate::cmd::policy::world::{WorldFlags, WrittenWorld, folder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::{ConfigError, position};
use crate::policy::{Charge, Evidence, Moment, Policy, Simulated, World};

/// Run test cases: files of [[case]] in `tests/` beside the policy
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Policy folders, folders of such folders, or files of cases [default: the configuration's, or `policies`]
    paths: Vec<PathBuf>,
    /// The policy folder to test, where it is not the one above `tests/`
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    world: WorldFlags,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    world: Option<WrittenWorld>,
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    client: String,
    /// Where the request names none.
    account: Option<String>,
    /// RFC 3339; omitted: 2026-01-01T00:00:00Z.
    at: Option<String>,
    transaction: Option<Table>,
    message: Option<String>,
    /// A JSON-RPC request, as text.
    request: Option<String>,
    expect: Expected,
    rule: Option<String>,
    condition: Option<String>,
    cause: Option<String>,
    /// Which contracts the account created before, for `$created`: labels or addresses.
    #[serde(default)]
    created: Vec<String>,
    /// What a node would find that it does, for `outcome`.
    outcome: Option<WrittenOutcome>,
    /// What it takes from budgets, by id: all of them, and no others.
    charges: Option<BTreeMap<String, toml::Value>>,
}

/// A simulation as a person writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOutcome {
    /// What leaves the account: amounts of ether, and of tokens by their symbols.
    #[serde(default)]
    out: Vec<String>,
    #[serde(default)]
    approves: bool,
    #[serde(default)]
    reverts: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

#[derive(Serialize)]
struct Report {
    passed: usize,
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    file: PathBuf,
    line: usize,
    case: String,
    expected: String,
    got: String,
}

/// 2026-01-01T00:00:00Z
const NEW_YEAR: Timestamp = Timestamp::from_millis(1_767_225_600_000);

impl Test {
    pub fn run(self, context: &Context) -> Done {
        let paths = if self.paths.is_empty() {
            let configured = self.world.read(context, None).ok().and_then(|(_, configured)| configured);
            vec![folder(None, configured)]
        } else {
            self.paths.clone()
        };
        let mut files = Vec::new();
        for path in &paths {
            if path.is_dir() {
                find(path, 0, &mut files)?;
            } else {
                files.push(path.clone());
            }
        }
        if files.is_empty() {
            let message = format!("there is no file of cases under {}", shown(&paths));
            return Err(Failure::new(message)
                .with_hint("write them to tests/NAME.toml in the policy folder")
                .into());
        }
        let mut report = Report { passed: 0, failed: Vec::new() };
        for file in &files {
            self.run_file(context, file, &mut report)?;
        }
        let mut text = String::new();
        for failed in &report.failed {
            writeln!(text, "{}:{}: {}", failed.file.display(), failed.line, failed.case)?;
            writeln!(text, "  expected: {}\n  got:      {}", failed.expected, failed.got)?;
        }
        write!(text, "{} passed, {} failed", report.passed, report.failed.len())?;
        context.print(&report, text)?;
        Ok(if report.failed.is_empty() { Success::Done } else { Success::Denied })
    }

    fn run_file(&self, context: &Context, file: &Path, report: &mut Report) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Failure::new(format_args!("{}: {e}", file.display())))?;
        let cases: Cases = toml::from_str(&text)
            .map_err(|e| ConfigError::of_toml(file, &text, &e))
            .hint("the cases cannot be read", "docs/policy.md shows how a case is written")?;
        let (world, _) = self.world.read(context, cases.world.as_ref())?;
        let beside = file.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let directory = match &self.policy {
            Some(named) => named.as_path(),
            None if beside.as_os_str().is_empty() => Path::new("."),
            None => beside,
        };
        let policy = Policy::load(directory, &world)
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        for case in &cases.case {
            let line = position(&text, case.span().start);
            let case = case.get_ref();
            let wrong = |why: String| {
                let hint =
                    "a case has one of `transaction`, `message` and `request`; docs/policy.md shows them";
                Failure::new(format_args!("{}:{line}: {}: {why}", file.display(), case.name)).with_hint(hint)
            };
            let got = case.judge(&policy, &world).map_err(wrong)?;
            let expected = case.expected();
            if got.is(case) {
                report.passed = report.passed.saturating_add(1);
            } else {
                let got = got.describe();
                report.failed.push(Failed {
                    file: file.to_owned(),
                    line,
                    case: case.name.clone(),
                    expected,
                    got,
                });
            }
        }
        Ok(())
    }
}

/// What became of a case.
struct Got {
    decision: Expected,
    cause: Option<String>,
    rule: Option<String>,
    condition: Option<String>,
    sentence: Option<String>,
    /// What it takes from each budget, and whether that is what the case expects.
    charges: Vec<String>,
    charges_fit: bool,
}

impl Case {
    /// `Err` is a case that is written wrongly.
    fn judge(&self, policy: &Policy, world: &World) -> Result<Got, String> {
        let account = self.account(world)?;
        let now = match &self.at {
            None => NEW_YEAR,
            Some(text) => {
                let at: jiff::Timestamp = text.parse().map_err(|e| format!("`at`: {e}"))?;
                let millis =
                    u64::try_from(at.as_millisecond()).map_err(|_| "`at` is before 1970".to_owned())?;
                Timestamp::from_millis(millis)
            }
        };
        let json = match (&self.transaction, &self.message, &self.request) {
            (Some(table), None, None) => {
                let written = serde_json::to_value(table).map_err(|e| e.to_string())?;
                let mut written = written.as_object().cloned().unwrap_or_default();
                if let Some(account) = account {
                    written.entry("from").or_insert_with(|| account.to_string().into());
                }
                case::plain(&written, policy, world)?
            }
            (None, Some(text), None) => {
                let account = account.ok_or("a message needs `account`: the client has several, or none")?;
                case::message(text, account)
            }
            (None, None, Some(text)) => serde_json::from_str(text).map_err(|e| format!("`request`: {e}"))?,
            _ => return Err("it has none or several of `transaction`, `message` and `request`".to_owned()),
        };
        // What the gateway refuses before a policy sees it is denied too.
        let refused = |cause: &str, why: String| Got {
            decision: Expected::Deny,
            cause: Some(cause.to_owned()),
            rule: None,
            condition: None,
            sentence: Some(why),
            charges: Vec::new(),
            charges_fit: self.charges.as_ref().is_none_or(BTreeMap::is_empty),
        };
        let asked = match Asked::of_json(&json, world) {
            Ok(asked) => asked,
            Err(why) => return Ok(refused("malformed", why)),
        };
        if !world.clients.iter().any(|client| client.name == self.client) {
            return Err(format!("there is no client named `{}`", self.client));
        }
        let caller = match case::caller(world, &self.client, &asked) {
            Ok(caller) => caller,
            Err(why) => return Ok(refused("account", why)),
        };
        let created = case::addresses(&self.created, policy).map_err(|why| format!("`created`: {why}"))?;
        let place = (asked.chain_id(world), asked.from());
        let outcome = match &self.outcome {
            None => Simulated::Never,
            Some(WrittenOutcome { out, approves, reverts }) => {
                let seen = policy.pretend(place, out, (*approves, *reverts));
                Simulated::Seen(seen.map_err(|why| format!("`outcome`: {why}"))?)
            }
        };
        let moment = Moment { now, evidence: Evidence { created, outcome } };
        Ok(match asked.assess(policy, &caller, moment) {
            Ok((rule, charges)) => Got {
                decision: Expected::Allow,
                cause: None,
                rule: Some(rule.to_string()),
                condition: None,
                sentence: None,
                charges: charges
                    .iter()
                    .map(|charge| show_charge(&charge.limit.id, charge.limit.show(charge.amount)))
                    .collect(),
                charges_fit: self.charges_fit(policy, &charges)?,
            },
            Err(denied) => Got {
                decision: Expected::Deny,
                cause: Some(denied.cause.name().to_owned()),
                rule: denied.rule,
                condition: denied.condition,
                sentence: Some(denied.sentence),
                charges: Vec::new(),
                charges_fit: self.charges_fit(policy, &[])?,
            },
        })
    }

    /// Whether exactly the charges that the case names are made; `Err` is a charge that is written wrongly.
    fn charges_fit(&self, policy: &Policy, charges: &[Charge]) -> Result<bool, String> {
        let Some(expected) = &self.charges else { return Ok(true) };
        let mut fit = expected.len() == charges.len();
        for (id, written) in expected {
            let limit = policy.limits().find(|limit| limit.id == *id);
            let limit = limit.ok_or_else(|| format!("`charges`: there is no budget `{id}`"))?;
            let amount = limit.read(written).map_err(|e| format!("`charges`, {id}: {e}"))?;
            fit &= charges.iter().any(|charge| charge.limit.id == *id && charge.amount == amount);
        }
        Ok(fit)
    }

    /// The account that the case names, or the client's only one.
    fn account(&self, world: &World) -> Result<Option<Address>, String> {
        if let Some(name) = &self.account {
            let found = world.accounts.get(name).copied();
            return found.map(Some).ok_or_else(|| format!("there is no account named `{name}`"));
        }
        let client = world.clients.iter().find(|client| client.name == self.client);
        Ok(match client.map(|client| client.accounts.as_slice()) {
            Some([only]) => Some(*only),
            _ => None,
        })
    }

    fn expected(&self) -> String {
        let mut text =
            describe(self.expect, self.cause.as_deref(), self.rule.as_deref(), self.condition.as_deref());
        for (id, amount) in self.charges.iter().flatten() {
            text.push_str(&show_charge(id, amount));
        }
        if self.charges.as_ref().is_some_and(BTreeMap::is_empty) {
            text.push_str(", no charge");
        }
        text
    }
}

impl Got {
    /// Whether it is as the case expects; what the case does not say may be anything.
    fn is(&self, case: &Case) -> bool {
        let same = |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || wanted == got;
        self.decision == case.expect
            && same(&case.rule, &self.rule)
            && same(&case.condition, &self.condition)
            && same(&case.cause, &self.cause)
            && self.charges_fit
    }

    fn describe(&self) -> String {
        let mut text =
            describe(self.decision, self.cause.as_deref(), self.rule.as_deref(), self.condition.as_deref());
        text.extend(self.charges.iter().map(String::as_str));
        if let Some(sentence) = &self.sentence {
            text.push_str(": ");
            text.push_str(sentence);
        }
        text
    }
}

fn describe(decision: Expected, cause: Option<&str>, rule: Option<&str>, condition: Option<&str>) -> String {
    let decision = match decision {
        Expected::Allow => "allow",
        Expected::Deny => "deny",
    };
    let part = |name: &str, value: Option<&str>| value.map(|v| format!(", {name} {v}")).unwrap_or_default();
    format!("{decision}{}{}{}", part("cause", cause), part("rule", rule), part("condition", condition))
}

fn show_charge(budget: &str, amount: impl std::fmt::Display) -> String {
    format!(", charge {budget} {amount}")
}

/// The files of cases in `tests/` of this folder, and of those in it.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = |e| Failure::new(format_args!("{}: {e}", folder.display()));
    let mut entries = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(unreadable))
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    let is_tests = folder.file_name().is_some_and(|name| name == "tests");
    for path in entries {
        if path.is_dir() && depth < 8 {
            find(&path, depth.saturating_add(1), found)?;
        } else if is_tests && path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    Ok(())
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        test: Test,
    }

    fn run(arguments: &[&str]) -> Done {
        let line = <Line as clap::Parser>::parse_from([&["test"], arguments].concat());
        line.test.run(&Context::new(PathBuf::from("no-such-file.toml"), false))
    }

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
    }

    #[test]
    fn every_example_policy_passes_its_cases() {
        assert_eq!(run(&[examples().to_str().unwrap()]).unwrap(), Success::Done);
    }

    /// What the examples of `docs/policy.md` are about.
    const WORLD: &str = r#"
[world]
chain    = 1
accounts = { treasury = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045" }
clients  = [{ name = "ann", role = "trader" }]
"#;
    const CONTRACTS: &str = r#"
[contracts]
usdc      = { chain = 1, address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", abi = "erc20", decimals = 6, symbol = "USDC" }
weth      = { chain = 1, address = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", abi = "weth", decimals = 18, symbol = "WETH" }
aave_pool = { chain = 1, address = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2", abi = "aave-v3-pool" }
router    = { chain = 1, address = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45", abi = "uniswap-v3-router-02" }
safe      = { chain = 1, address = "0x90F79bf6EB2c4f870365E785982E1f101E93b906", abi = "safe" }
multisend = { chain = 1, address = "0x40A2aCCbd92BCA938b02010E17A5b8929b49130D", abi = "multisend" }
alice     = { chain = 1, address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8" }
bob       = { chain = 1, address = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC" }
exchange  = { chain = 1, address = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc" }
"#;
    const VAULT: &str = r#"[{"type":"function","name":"supply","inputs":[{"name":"asset","type":"address"},{"name":"amount","type":"uint256"}],"outputs":[],"stateMutability":"nonpayable"},
{"type":"function","name":"redeem","inputs":[{"name":"shares","type":"uint256"}],"outputs":[],"stateMutability":"nonpayable"}]"#;
    const PAYEES: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8 # alice\n0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC # bob\n";

    #[test]
    fn every_example_of_the_reference_does_what_it_says() {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
        let reference = std::fs::read_to_string(reference).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("contracts.toml", CONTRACTS),
            ("abis/vault.json", VAULT),
            ("lists/payees.txt", PAYEES),
            ("tests/none.toml", WORLD),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (mut policies, mut cases) = (0, 0);
        for block in reference.split("```toml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            if block.starts_with("[policy]") {
                // That is of `chancery.toml`, whose own example is tested elsewhere.
                continue;
            }
            if block.starts_with("[world]") {
                // The page on cases speaks of the first example.
                let file = folder.path().join("cases.txt");
                std::fs::write(&file, block).unwrap();
                let (file, policy) = (file.to_str().unwrap(), examples().join("payments"));
                let done = run(&[file, "--policy", policy.to_str().unwrap()]);
                assert_eq!(done.unwrap(), Success::Done, "{block}");
            } else if block.starts_with("[[case]]") {
                cases += block.matches("[[case]]").count();
                std::fs::write(folder.path().join("tests/cases.toml"), format!("{WORLD}{block}")).unwrap();
                assert_eq!(run(&[folder.path().to_str().unwrap()]).unwrap(), Success::Done, "{block}");
            } else {
                policies += 1;
                std::fs::remove_file(folder.path().join("tests/cases.toml")).unwrap_or_default();
                std::fs::write(folder.path().join("example.toml"), block).unwrap();
                assert_eq!(run(&[folder.path().to_str().unwrap()]).unwrap(), Success::Done, "{block}");
            }
        }
        assert!(policies >= 22 && cases >= 57, "{policies} {cases}");
    }

    #[test]
    fn a_case_that_does_not_hold_fails_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let written = std::fs::read_to_string(examples().join("payments/tests/payments.toml")).unwrap();
        let policy = examples().join("payments");
        let file = folder.path().join("cases.toml");
        let arguments = [file.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
        for (right, wrong) in [
            ("rule        = \"pay-usdc\"", "rule = \"pay-ether\""),
            ("expect      = \"allow\"", "expect = \"deny\""),
            ("condition   = \"args.amount\"", "condition = \"args.to\""),
            ("cause       = \"cap\"", "cause = \"no_rule\""),
            ("\"250_000 USDC\"", "\"250_001 USDC\""),
            ("usdc-per-day = \"250_000 USDC\"", "usdc-per-day = \"250_000.000001 USDC\""),
            ("usdc-per-day = \"250_000 USDC\", ", ""),
            ("charges     = { ether-per-day = \"5.0021 ether\" }", "charges = {}"),
            ("charges     = {}", "charges = { usdc-per-day = 0 }"),
        ] {
            assert!(written.contains(right), "{right}");
            std::fs::write(&file, written.replacen(right, wrong, 1)).unwrap();
            assert_eq!(run(&arguments).unwrap(), Success::Denied, "{wrong}");
        }
        std::fs::write(&file, written).unwrap();
        assert_eq!(run(&arguments).unwrap(), Success::Done);
    }

    #[test]
    fn a_case_that_is_written_wrongly_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cases.toml");
        let policy = examples().join("payments");
        let written = std::fs::read_to_string(policy.join("tests/payments.toml")).unwrap();
        let (world, _) = written.split_once("[[case]]").unwrap();
        for (case, what) in [
            ("name = \"n\"\nclient = \"ann\"\nexpect = \"deny\"\n", "none or several of"),
            (
                "name = \"n\"\nclient = \"bob\"\nmessage = \"m\"\naccount = \"treasury\"\nexpect = \"deny\"\n",
                "no client named `bob`",
            ),
            ("name = \"n\"\nclient = \"ann\"\nmesage = \"m\"\nexpect = \"deny\"\n", "unknown field `mesage`"),
            (
                "name = \"n\"\nclient = \"ann\"\nexpect = \"deny\"\ntransaction = { to = \"usdc\", call = \"f(uint8)\", args = [256] }\n",
                "`256` is no uint8",
            ),
            (
                "name = \"n\"\nclient = \"robot\"\nmessage = \"m\"\nexpect = \"deny\"\ncharges = { weekly = 1 }\n",
                "there is no budget `weekly`",
            ),
            (
                "name = \"n\"\nclient = \"robot\"\nmessage = \"m\"\nexpect = \"deny\"\ncharges = { usdc-per-day = 5 }\n",
                "has no unit",
            ),
        ] {
            std::fs::write(&file, format!("{world}[[case]]\n{case}")).unwrap();
            let error =
                run(&[file.to_str().unwrap(), "--policy", policy.to_str().unwrap()]).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("cases.toml:"), "{error}");
        }
    }

    #[test]
    fn no_cases_are_no_success() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            run(&[folder.path().to_str().unwrap()]).unwrap_err().to_string().contains("no file of cases")
        );
    }
}
