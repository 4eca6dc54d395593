//! `chancery policy explain`: what would be decided about a request, and why.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::clock::{Clock, Timestamp};
use crate::cmd::policy::case::{Asked, addresses, caller, plain};
use crate::cmd::policy::world::{WorldFlags, folder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::policy::{ChargeReport, Evidence, Explanation, Moment, Policy};

/// Say what would be decided about a request, and which condition of which rule makes it so
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// JSON: a request (`eth_sendTransaction`, `eth_signTypedData_v4`, …), its params, or a transaction; `-` for stdin
    request: PathBuf,
    /// The client that would ask
    #[arg(long, value_name = "NAME")]
    client: String,
    /// The time at which it would (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// A contract that the account created before (for `$created`), by label or address; may be repeated
    #[arg(long, value_name = "CONTRACT")]
    created: Vec<String>,
    /// The policy folder [default: the configuration's, or `policies`]
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    world: WorldFlags,
}

impl Explain {
    pub fn run(self, context: &Context) -> Done {
        let (world, configured) = self.world.read(context, None)?;
        let directory = folder(self.policy.as_deref(), configured);
        let policy = Policy::load(&directory, &world)
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        let mut json: Value = serde_json::from_str(&self.text()?)
            .hint("the request is no JSON", "give a JSON-RPC request, its params, or a transaction object")?;
        // A bare transaction may be written for people, as in test cases.
        if let Value::Object(written) = &json
            && !written.contains_key("method")
        {
            json = plain(written, &policy, &world).map_err(Failure::new)?;
        }
        let hint = "the gateway refuses it before the policy is asked";
        let asked = Asked::of_json(&json, &world).hint("the request is malformed", hint)?;
        let caller = caller(&world, &self.client, &asked).hint("nobody could ask this", hint)?;
        let now = match self.at {
            Some(at) => Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default()),
            None => Clock::system().now(),
        };
        let created = addresses(&self.created, &policy).map_err(Failure::new)?;
        let moment = Moment { now, evidence: Evidence { created, ..Evidence::default() } };
        let explanation = asked.explain(&policy, &caller, moment);
        if let Asked::Transaction(filled) = &asked {
            let request = filled.request();
            if request.gas().is_none() || !request.sets_fees() {
                context.say("note: what the request leaves open is taken as 100,000 gas, base fee 10 gwei, priority fee 1 gwei");
            }
        }
        context.print(&explanation, show(&explanation, &self.client)?)?;
        Ok(if explanation.allowed { Success::Done } else { Success::Denied })
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let read = if self.request.as_os_str() == "-" {
            std::io::stdin().lock().read_to_string(&mut text)
        } else {
            std::fs::File::open(&self.request).and_then(|mut file| file.read_to_string(&mut text))
        };
        read.hint(self.request.display(), "name a file, or - for standard input")?;
        Ok(text)
    }
}

fn show(told: &Explanation, client: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "client `{client}` asks to {}", told.asked)?;
    for (name, value) in &told.arguments {
        writeln!(text, "  {name} = {value}")?;
    }
    for inside in &told.inside {
        writeln!(text, "  and to {inside}")?;
    }
    for rule in &told.rules {
        let matches = if rule.matches { "matches" } else { "does not match" };
        writeln!(text, "\n{} rule `{}` ({}:{}) {matches}", rule.effect, rule.rule, rule.file, rule.line)?;
        for (condition, why) in &rule.failures {
            writeln!(text, "  {condition}: {why}")?;
        }
    }
    if told.others > 0 {
        writeln!(text, "\n{} rules are for other clients, accounts or kinds of payload", told.others)?;
    }
    match (&told.sentence, &told.rule) {
        (Some(sentence), _) => write!(text, "\nDENIED: {sentence}")?,
        (None, rule) => write!(text, "\nALLOWED by rule `{}`", rule.as_deref().unwrap_or_default())?,
    }
    for charge in &told.charges {
        let ChargeReport { budget, scope, amount, max, window } = charge;
        let scope = if scope.is_empty() { String::new() } else { format!(" for {scope}") };
        write!(
            text,
            "\n  takes {amount} of budget `{budget}`, {max} in {window}{scope}; `chancery limits` shows what is left"
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        explain: Explain,
    }

    #[test]
    fn the_exit_tells_the_decision() {
        let folder = tempfile::tempdir().unwrap();
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/payments");
        let world = policy.join("tests/payments.toml");
        let request = folder.path().join("request.json");
        let run = |json: &str, client: &str| {
            std::fs::write(&request, json).unwrap();
            let (request, policy, world) = (request.to_str(), policy.to_str(), world.to_str());
            let line = <Line as clap::Parser>::parse_from([
                "explain",
                request.unwrap(),
                "--client",
                client,
                "--policy",
                policy.unwrap(),
                "--world",
                world.unwrap(),
            ]);
            line.explain.run(&Context::new(PathBuf::from("no-such-file.toml"), false))
        };
        let tx = r#"{"from":"0xd8da6bf26964af9d7eed9e03e53415d37aa96045","to":"0x1111111111111111111111111111111111111111","value":"0x1"}"#;
        assert_eq!(run(tx, "ann").unwrap(), Success::Done);
        assert_eq!(run(tx, "robot").unwrap(), Success::Denied);
        let call = |method: &str, params: &str| format!(r#"{{"method":"{method}","params":{params}}}"#);
        assert_eq!(run(&call("eth_sendTransaction", &format!("[{tx}]")), "ann").unwrap(), Success::Done);
        let health = r#"["0x6578616d706c652e636f6d206865616c746820636865636b2031","0xd8da6bf26964af9d7eed9e03e53415d37aa96045"]"#;
        assert_eq!(run(&call("personal_sign", health), "robot").unwrap(), Success::Done);
        assert_eq!(run(health, "ann").unwrap(), Success::Denied);
        for (json, client) in [("{", "ann"), (tx, "nobody"), (tx, "guest"), (&call("eth_call", "[]"), "ann")]
        {
            assert!(run(json, client).is_err(), "{json} {client}");
        }
    }
}
