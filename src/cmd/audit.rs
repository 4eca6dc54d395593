//! `chancery audit`: what was signed, for whom and by which rule, and the proof that nobody touched the record.

use std::path::PathBuf;

use alloy_primitives::Address;
use serde::Serialize;
use serde_json::Value;

use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::{self, Broken, Entry, Filter, Verified};

/// Show and verify the audit chain
#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show rows, oldest first; one line of JSON each with --json
    Show {
        /// The ledger, or a copy of it; by default the configuration's
        #[arg(long)]
        file: Option<PathBuf>,
        /// Only the newest so many; 20 where nothing else narrows it down
        #[arg(long)]
        last: Option<usize>,
        /// Only this request, from its intent to what became of it
        #[arg(long, value_name = "ID")]
        request: Option<String>,
        /// Only what this account signed or was asked to sign
        #[arg(long, value_name = "ADDRESS")]
        account: Option<Address>,
        /// Only rows of this kind: intent, signature, outcome, void, final, repeat, refusal, policy, started, stopped
        #[arg(long)]
        kind: Option<String>,
    },
    /// Walk the whole chain; exit code 3 and the first row that does not hold, if one does not
    Verify {
        /// The ledger, or a copy of it; by default the configuration's
        file: Option<PathBuf>,
    },
}

/// What `verify` found.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict<'a> {
    Holds(&'a Verified),
    Broken(&'a Broken),
}

impl Audit {
    pub fn run(self, context: &Context) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.verb {
            Verb::Show { file, last, request, account, kind } => {
                let is_narrow = request.is_some() || account.is_some() || kind.is_some();
                let last = last.or((!is_narrow).then_some(NEWEST));
                let filter = Filter { last, request, account, kind };
                let file = ledger_file(context, file)?;
                let rows =
                    runtime.block_on(ledger::show(&file, &filter)).hint("the ledger cannot be read", HINT)?;
                for row in &rows {
                    context.print(row, line(row))?;
                }
                Ok(Success::Done)
            }
            Verb::Verify { file } => {
                let file = ledger_file(context, file)?;
                match runtime.block_on(ledger::verify(&file)).hint("the ledger cannot be read", HINT)? {
                    Ok(verified) => {
                        let text = format!(
                            "the chain holds: {} rows, {} intents, {} signatures, head {}",
                            verified.rows, verified.intents, verified.signatures, verified.head
                        );
                        context.print(&Verdict::Holds(&verified), text)?;
                        Ok(Success::Done)
                    }
                    Err(broken) => {
                        let text = format!("BROKEN at row {}: {}", broken.seq, broken.why);
                        context.print(&Verdict::Broken(&broken), text)?;
                        Ok(Success::Denied)
                    }
                }
            }
        }
    }
}

/// How many rows `show` shows where nothing else is asked for.
const NEWEST: usize = 20;

const HINT: &str = "name the ledger's file, or give the configuration with --config";

fn ledger_file(context: &Context, file: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match file {
        Some(file) => Ok(file),
        None => Ok(Config::load(context.config())?.ledger.path),
    }
}

/// A row as a person reads it: when, what, and its fields without the long ones.
fn line(row: &Entry) -> String {
    let body: Value = serde_json::from_str(&row.body).unwrap_or_default();
    let fields = body.as_object().into_iter().flatten().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() || name == "raw" || name == "unsigned" => None,
        Value::String(text) => Some(format!("{name}={text}")),
        other => Some(format!("{name}={other}")),
    });
    format!("{:>6}  {}  {:<9}  {}", row.seq, row.at, row.kind, fields.collect::<Vec<_>>().join(" "))
}
