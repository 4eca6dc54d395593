//! `connect … run --preflight`: a Foundry script is run dry, and the gateway is asked what it would refuse, before the
//! first of its transactions is sent.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::cmd::connect::child::VARIABLES;
use crate::cmd::connect::gateway::{Answer, Gateway};
use crate::cmd::{Context, Failure, HintExt as _};

/// Where forge puts what a script would send, in a folder of its own for this one run.
const BROADCAST: &str = "FOUNDRY_BROADCAST";

/// What makes a script send.
const SENDS: [&str; 2] = ["--broadcast", "--verify"];

/// A script that is to be run without sending anything.
#[derive(Debug)]
pub struct DryRun {
    command: Vec<OsString>,
    folder: TempDir,
}

/// What is to be expected of what a script sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The gateway would take all of it.
    Taken,
    Refused,
    /// It sends nothing.
    Nothing,
}

/// What forge leaves behind.
#[derive(Deserialize)]
struct Script {
    transactions: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    transaction: Value,
}

/// The gateway's answer.
#[derive(Deserialize)]
struct Answered {
    result: Option<Foreseen>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Foreseen {
    transactions: Vec<Verdict>,
    budgets: Vec<Taken>,
}

#[derive(Deserialize)]
struct Verdict {
    allowed: bool,
    rule: Option<String>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct Taken {
    budget: String,
    scope: String,
    amount: String,
    max: String,
    over: bool,
}

impl DryRun {
    /// Of a command that sends; any other is refused.
    pub fn of(command: &[OsString]) -> Result<Self> {
        let words: Vec<_> = command.iter().map(|word| word.to_str().unwrap_or_default()).collect();
        let is_forge = command
            .first()
            .is_some_and(|program| Path::new(program).file_stem() == Some(OsStr::new("forge")));
        if !is_forge || words.get(1) != Some(&"script") {
            let what =
                "`run --preflight` is for `forge script …`: only of that is it known what it would send";
            return Err(Failure::new(what)
                .with_hint("for a list of transactions: chancery policy preflight")
                .into());
        }
        if words.contains(&"--resume") {
            let what = "`forge script --resume` sends what is left of an earlier run, and cannot be run dry";
            return Err(Failure::new(what).with_hint("run it without --preflight").into());
        }
        if !words.contains(&"--broadcast") {
            let what = "the script is not told to send anything";
            return Err(Failure::new(what).with_hint("add --broadcast; the dry run is made without").into());
        }
        let sends = |word: &&OsString| SENDS.iter().any(|flag| *word == flag);
        let command = command.iter().filter(|word| !sends(word)).cloned().collect();
        let folder = TempDir::new().hint("a folder for the dry run", "is there room in $TMPDIR?")?;
        Ok(Self { command, folder })
    }

    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    pub fn environment<'a>(&'a self, endpoint: &'a OsStr) -> Vec<(&'a str, &'a OsStr)> {
        let folder = (BROADCAST, self.folder.path().as_os_str());
        VARIABLES.map(|name| (name, endpoint)).into_iter().chain([folder]).collect()
    }

    /// Asks the gateway, and tells what it says.
    pub async fn judge(&self, gateway: &Gateway, context: &Context) -> Result<Judgement> {
        let transactions = self.transactions()?;
        if transactions.is_empty() {
            context.say("preflight: the script sends nothing, and is not run again");
            return Ok(Judgement::Nothing);
        }
        let request = serde_json::json!({
            "jsonrpc": "2.0", "id": 0, "method": "chancery_preflight", "params": [transactions],
        });
        let answer = gateway.call(request.to_string().into(), &[]).await;
        let answer = answer.map_err(|trouble| Failure::new(&trouble).with_hint(trouble.hint()))?;
        let Answer::Body(body) = answer else {
            return Err(Failure::new("the gateway answered nothing").into());
        };
        let foreseen = Foreseen::read(&body, transactions.len())?;
        Ok(if foreseen.tell(&transactions, context) { Judgement::Taken } else { Judgement::Refused })
    }

    /// What the script would send, in its order.
    fn transactions(&self) -> Result<Vec<Value>> {
        let left =
            left_in(self.folder.path()).hint("the dry run's result", "run forge script alone to see")?;
        // Of a script for several chains.
        let within = |file: &PathBuf| file.strip_prefix(self.folder.path()).map(Path::to_owned);
        if left.iter().flat_map(within).any(|file| file.starts_with("multi")) {
            let what = "the script sends to several chains; this gateway's URL is of one";
            return Err(Failure::new(what).with_hint("run it once for each chain").into());
        }
        // Named for the function that `--sig` names. Beside it forge keeps the same under the time of the run.
        let is_latest = |file: &&PathBuf| file.to_str().is_some_and(|name| name.ends_with("-latest.json"));
        let latest: Vec<_> = left.iter().filter(is_latest).collect();
        let file = match (latest.as_slice(), left.is_empty()) {
            ([file], _) => *file,
            ([], true) => return Ok(Vec::new()),
            // What was not judged is not sent.
            (found, _) => {
                let what =
                    format!("the dry run left {} files of which {} are its result", left.len(), found.len());
                let hint = "is it a version of Foundry that docs/clients.md lists?";
                return Err(Failure::new(what).with_hint(hint).into());
            }
        };
        let text = fs::read_to_string(file)?;
        let script: Script = serde_json::from_str(&text).hint(
            "what forge writes is not understood",
            "is it a version of Foundry that docs/clients.md lists?",
        )?;
        Ok(script.transactions.into_iter().map(|sent| sent.transaction).collect())
    }
}

/// Every file of JSON below a folder.
fn left_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new("json")) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

impl Foreseen {
    /// An answer about so many transactions.
    fn read(body: &[u8], asked: usize) -> Result<Self> {
        let answered: Answered = serde_json::from_slice(body)
            .hint("the gateway's answer is not understood", "is it of the same version as this program?")?;
        match answered {
            Answered { error: Some(said), .. } => {
                Err(Failure::new(format_args!("preflight: {} ({})", said.message, said.code))
                    .with_hint("nothing was sent; to send without asking, leave --preflight out")
                    .into())
            }
            Answered { result: Some(foreseen), .. } if foreseen.transactions.len() == asked => Ok(foreseen),
            _ => Err(Failure::new("the gateway's answer is not one to what was asked").into()),
        }
    }

    fn tell(&self, transactions: &[Value], context: &Context) -> bool {
        let mut denied = 0_usize;
        for (number, (verdict, transaction)) in (1..).zip(self.transactions.iter().zip(transactions)) {
            let to = transaction.get("to").and_then(Value::as_str).unwrap_or("a new contract");
            match (verdict.allowed, &verdict.rule, &verdict.error) {
                (true, Some(rule), _) => {
                    context.say(format_args!("{number:>3} ok     to {to} (rule `{rule}`)"));
                }
                (_, _, error) => {
                    denied = denied.saturating_add(1);
                    let why = error.as_ref().map_or("refused", |said| &said.message);
                    context.say(format_args!("{number:>3} DENIED to {to}: {why}"));
                }
            }
        }
        for Taken { budget, scope, amount, max, over } in &self.budgets {
            let scope = if scope.is_empty() { String::new() } else { format!(" for {scope}") };
            let over = if *over { ": MORE THAN IT EVER HAS" } else { "" };
            context.say(format_args!("takes {amount} of budget `{budget}`{scope}, {max}{over}"));
        }
        let fine = denied == 0 && !self.budgets.iter().any(|taken| taken.over);
        let all = self.transactions.len();
        context.say(if fine {
            format!("preflight: all {all} would be signed; now they are sent")
        } else {
            format!("preflight: {denied} of {all} would be refused; nothing was sent")
        });
        fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn a_script_is_run_dry_as_it_is_but_for_the_sending() {
        let line = "/opt/forge script S --broadcast --verify --unlocked --sender 0x1";
        let dry = DryRun::of(&words(line)).unwrap();
        assert_eq!(dry.command(), words("/opt/forge script S --unlocked --sender 0x1"));
        let environment = dry.environment(OsStr::new("/run/x.ipc"));
        assert!(environment.contains(&("FOUNDRY_ETH_RPC_URL", OsStr::new("/run/x.ipc"))));
        assert!(environment.contains(&("FOUNDRY_BROADCAST", dry.folder.path().as_os_str())));
        for (line, why) in [
            ("cast script S --broadcast", "is for `forge script"),
            ("forge create S --broadcast", "is for `forge script"),
            ("forge script S", "not told to send"),
            ("forge script S --broadcast --resume", "cannot be run dry"),
        ] {
            assert!(DryRun::of(&words(line)).unwrap_err().to_string().contains(why), "{line}");
        }
    }

    #[test]
    fn all_that_is_sent_must_be_foreseen_and_permitted() {
        let transactions = [serde_json::json!({ "to": "0x1" }), serde_json::json!({ "to": null })];
        let context = Context::new("chancery.toml".into(), false);
        let fine = |answer: &str| {
            Foreseen::read(answer.as_bytes(), 2)
                .map(|foreseen| foreseen.tell(&transactions, &context))
                .map_err(|error| error.to_string())
        };
        let good = r#"{"allowed":true,"rule":"a"}"#;
        let result = |all: &str, budgets: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"transactions":[{all}],"budgets":[{budgets}]}}}}"#)
        };
        let taken =
            |over: bool| format!(r#"{{"budget":"b","scope":"","amount":"1","max":"2","over":{over}}}"#);
        assert_eq!(fine(&result(&format!("{good},{good}"), &taken(false))), Ok(true));
        assert_eq!(fine(&result(&format!("{good},{good}"), &taken(true))), Ok(false));
        for bad in [
            r#"{"allowed":false,"rule":"a","error":{"code":-32003,"message":"no"}}"#,
            r#"{"allowed":false,"rule":"a"}"#,
            r#"{"allowed":true}"#,
        ] {
            assert_eq!(fine(&result(&format!("{good},{bad}"), "")), Ok(false), "{bad}");
        }
        for (answer, why) in [
            (result(good, ""), "not one to what was asked"),
            (result(&format!("{good},{good},{good}"), ""), "not one to what was asked"),
            (
                r#"{"error":{"code":-32601,"message":"the method is not there"}}"#.to_owned(),
                "is not there (-32601)",
            ),
            ("{}".to_owned(), "not one to what was asked"),
            ("nothing".to_owned(), "is not understood"),
        ] {
            let refused = fine(&answer).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_forge_leaves_is_read_and_several_chains_are_not() {
        let dry = DryRun::of(&words("forge script S --broadcast")).unwrap();
        assert_eq!(dry.transactions().unwrap(), Vec::<Value>::new());
        let place = dry.folder.path().join("S.s.sol/31337/dry-run");
        fs::create_dir_all(&place).unwrap();
        let left =
            r#"{"transactions":[{"hash":null,"transaction":{"to":"0x1"}},{"transaction":{"to":"0x2"}}]}"#;
        fs::write(place.join("run-latest.json"), left).unwrap();
        fs::write(place.join("run-1700000000.json"), left).unwrap();
        let found = dry.transactions().unwrap();
        assert_eq!(found, [serde_json::json!({ "to": "0x1" }), serde_json::json!({ "to": "0x2" })]);
        // Another function's, a file of a kind that is not known, and none at all of those that are.
        fs::rename(place.join("run-latest.json"), place.join("go-latest.json")).unwrap();
        assert_eq!(dry.transactions().unwrap(), found);
        fs::write(place.join("run-latest.json"), left).unwrap();
        assert!(dry.transactions().unwrap_err().to_string().contains("3 files of which 2"));
        fs::remove_file(place.join("run-latest.json")).unwrap();
        fs::remove_file(place.join("go-latest.json")).unwrap();
        assert!(dry.transactions().unwrap_err().to_string().contains("1 files of which 0"));
        let multi = dry.folder.path().join("multi/dry-run/S.s.sol-latest");
        fs::create_dir_all(&multi).unwrap();
        fs::write(multi.join("run.json"), "{}").unwrap();
        assert!(dry.transactions().unwrap_err().to_string().contains("several chains"));
    }
}
