//! `chancery policy preflight`: which of many transactions would be refused, before the first of them is sent.

use std::fmt::Write as _;
use std::path::PathBuf;

use alloy_primitives::Address;
use serde::Serialize;
use serde_json::Value;

use crate::clock::{Clock, Timestamp};
use crate::cmd::policy::case::{Asked, caller, plain};
use crate::cmd::policy::world::{WorldFlags, folder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::policy::{Evidence, Moment, Policy, Taken, Takings, World};

/// Say which of many requests would be refused: of a Foundry script's run, or of a list
#[derive(Debug, clap::Args)]
pub struct Preflight {
    /// JSON: what `forge script` leaves in broadcast/ (a dry run too), or a list of requests or transactions
    file: PathBuf,
    /// The client that would ask
    #[arg(long, value_name = "NAME")]
    client: String,
    /// The policy folder [default: the configuration's, or `policies`]
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    world: WorldFlags,
}

#[derive(Serialize)]
struct Report {
    allowed: usize,
    denied: usize,
    requests: Vec<Line>,
    /// What all that is allowed takes together.
    budgets: Vec<Taken>,
}

#[derive(Serialize)]
struct Line {
    number: usize,
    allowed: bool,
    rule: Option<String>,
    condition: Option<String>,
    /// What is asked, or why it is refused.
    sentence: String,
}

impl Preflight {
    pub fn run(self, context: &Context) -> Done {
        let (world, configured) = self.world.read(context, None)?;
        let directory = folder(self.policy.as_deref(), configured);
        let policy = Policy::load(&directory, &world)
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        let text = std::fs::read_to_string(&self.file)
            .map_err(|e| Failure::new(format_args!("{}: {e}", self.file.display())))?;
        let json: Value = serde_json::from_str(&text)
            .hint("the file is no JSON", "give a file of broadcast/, or a list")?;
        let requests = requests(&json).ok_or_else(|| {
            Failure::new("there are no transactions in it")
                .with_hint("give a file of broadcast/, or a list of requests")
        })?;
        let report = self.judge(&requests, &policy, &world, Clock::system().now());
        let shown = show(&report)?;
        let fine = report.denied == 0 && !report.budgets.iter().any(|taken| taken.over);
        context.print(&report, shown)?;
        Ok(if fine { Success::Done } else { Success::Denied })
    }

    fn judge(&self, requests: &[Value], policy: &Policy, world: &World, now: Timestamp) -> Report {
        let mut report = Report { allowed: 0, denied: 0, requests: Vec::new(), budgets: Vec::new() };
        let mut takings = Takings::default();
        let mut created = Vec::new();
        for (number, request) in (1..).zip(requests) {
            let asked = match request {
                Value::Object(written) if !written.contains_key("method") => plain(written, policy, world),
                request => Ok(request.clone()),
            };
            let asked = asked.and_then(|request| Asked::of_json(&request, world));
            let asked = asked.and_then(|asked| Ok((caller(world, &self.client, &asked)?, asked)));
            let line = match asked {
                // The gateway refuses it before the policy is asked.
                Err(sentence) => Line { number, allowed: false, rule: None, condition: None, sentence },
                Ok((caller, asked)) => match asked.assess(policy, &caller, at(now, &created)) {
                    Ok((rule, charges)) => {
                        created.extend(asked.creates());
                        takings.extend(charges);
                        let sentence = asked.explain(policy, &caller, at(now, &created)).asked;
                        Line {
                            number,
                            allowed: true,
                            rule: Some(rule.to_string()),
                            condition: None,
                            sentence,
                        }
                    }
                    Err(denied) => Line {
                        number,
                        allowed: false,
                        rule: denied.rule,
                        condition: denied.condition,
                        sentence: denied.sentence,
                    },
                },
            };
            let count = if line.allowed { &mut report.allowed } else { &mut report.denied };
            *count = count.saturating_add(1);
            report.requests.push(line);
        }
        report.budgets = takings.shown();
        report
    }
}

/// A time at which the transactions before have created these.
fn at(now: Timestamp, created: &[Address]) -> Moment {
    Moment { now, evidence: Evidence { created: created.to_vec(), ..Evidence::default() } }
}

/// The transactions that stand in a file of Foundry's, or a list as it is.
fn requests(json: &Value) -> Option<Vec<Value>> {
    let list = match json {
        Value::Array(list) => list.clone(),
        json => {
            let of_foundry = json.get("transactions")?.as_array()?;
            of_foundry.iter().map(|one| one.get("transaction").cloned()).collect::<Option<_>>()?
        }
    };
    (!list.is_empty()).then_some(list)
}

fn show(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for line in &report.requests {
        match (&line.rule, line.allowed) {
            (Some(rule), true) => {
                writeln!(text, "{:>3} ok     {} (rule `{rule}`)", line.number, line.sentence)?;
            }
            _ => writeln!(text, "{:>3} DENIED {}", line.number, line.sentence)?,
        }
    }
    for taken in &report.budgets {
        let over =
            if taken.over { ": MORE THAN IT EVER HAS" } else { "; `chancery limits` shows what is left" };
        let scope = if taken.scope.is_empty() { String::new() } else { format!(" for {}", taken.scope) };
        writeln!(text, "takes {} of budget `{}`{scope}, {}{over}", taken.amount, taken.budget, taken.max)?;
    }
    write!(text, "{} allowed, {} denied", report.allowed, report.denied)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Written {
        #[command(flatten)]
        preflight: Preflight,
    }

    /// With the example policy, as `ann`.
    fn run(file: &Value) -> (anyhow::Result<Success>, Option<Report>) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/payments");
        let path = folder.path().join("run.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let cases = directory.join("tests/payments.toml");
        let line =
            ["preflight", path.to_str().unwrap(), "--client", "ann", "--policy", directory.to_str().unwrap()];
        let line = line.into_iter().chain(["--world", cases.to_str().unwrap()]);
        let parsed = <Written as clap::Parser>::parse_from(line).preflight;
        let context = Context::new(PathBuf::from("no-such-file.toml"), false);
        let report = requests(file).map(|requests| {
            let (world, _) = parsed.world.read(&context, None).unwrap();
            let policy = Policy::load(&directory, &world).unwrap();
            parsed.judge(&requests, &policy, &world, Timestamp::from_millis(1_769_860_800_000))
        });
        (parsed.run(&context), report)
    }

    fn payment(to: &str, value: &str) -> Value {
        json!({ "from": "0xd8da6bf26964af9d7eed9e03e53415d37aa96045", "to": to, "value": value, "input": "0x", "chainId": "0x1" })
    }

    const PAYROLL: &str = "0x1111111111111111111111111111111111111111";
    const OTHER: &str = "0x2222222222222222222222222222222222222222";

    /// As `forge script` writes it; what stands beside the transaction is not looked at.
    fn foundry(transactions: &[Value]) -> Value {
        let one = |transaction: &Value| json!({ "hash": null, "transactionType": "CALL", "function": null, "transaction": transaction, "isFixedGasLimit": false });
        json!({ "transactions": transactions.iter().map(one).collect::<Vec<_>>(), "receipts": [], "chain": 1 })
    }

    #[test]
    fn what_would_be_refused_is_told_before_anything_is_sent() {
        let (done, report) = run(&foundry(&[payment(PAYROLL, "0x1"), payment(PAYROLL, "0x2")]));
        let report = report.unwrap();
        assert_eq!((done.unwrap(), report.allowed, report.denied), (Success::Done, 2, 0));
        let ether = report.budgets.iter().find(|taken| taken.budget == "ether-per-day").unwrap();
        assert!(ether.amount.starts_with("0.0042") && !ether.over, "of both together: {}", ether.amount);

        let (done, report) =
            run(&foundry(&[payment(PAYROLL, "0x1"), payment(OTHER, "0x1"), payment(PAYROLL, "0x01")]));
        let report = report.unwrap();
        assert_eq!((done.unwrap(), report.allowed, report.denied), (Success::Denied, 1, 2));
        assert!(report.requests[1].sentence.contains("may not send"), "{}", report.requests[1].sentence);
        assert!(report.requests[2].sentence.contains("leading zeros"), "{}", report.requests[2].sentence);
    }

    #[test]
    fn a_list_is_taken_and_what_is_too_much_together_is_told() {
        let call = json!({ "method": "eth_sendTransaction", "params": [payment(PAYROLL, "0x1")] });
        assert_eq!(run(&json!([call, payment(PAYROLL, "0x1")])).0.unwrap(), Success::Done);
        let four_ether = "0x3782dace9d900000";
        let (done, report) = run(&json!(vec![payment(PAYROLL, four_ether); 7]));
        let report = report.unwrap();
        assert_eq!((done.unwrap(), report.denied), (Success::Denied, 0), "each is allowed, all are not");
        assert!(report.budgets.iter().any(|taken| taken.over && taken.budget == "ether-per-day"));
        for none in [json!([]), json!({}), json!({ "transactions": [{}] }), json!(1)] {
            assert!(run(&none).0.is_err(), "{none}");
        }
    }
}
