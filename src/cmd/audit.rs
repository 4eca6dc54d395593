//! `chancery audit`: what was signed, for whom and by which rule, and the proof that nobody touched the record.

mod archive;
mod export;
mod verify;

pub(in crate::cmd) use export::time;

use std::path::PathBuf;

use alloy_primitives::Address;
use serde_json::Value;

use crate::cmd::audit::archive::Archive;
use crate::cmd::audit::export::Export;
use crate::cmd::audit::verify::Verify;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::{self, Entry, Filter, Location};

/// Show, verify, export and archive the audit chain
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
        /// Only rows of this kind, such as intent, signature, refusal, access; docs/audit.md lists them
        #[arg(long)]
        kind: Option<String>,
    },
    /// Walk the whole chain; exit code 3 and the first row that does not hold, if one does not
    Verify(Verify),
    /// Take the oldest rows out of the ledger, into a file that `verify --archive` reads in their place
    Archive(Archive),
    /// Write rows to a file: JSON Lines that can be verified offline, or CSV
    Export(Export),
}

impl Audit {
    pub fn run(self, context: &Context) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.verb {
            Verb::Show { file, last, request, account, kind } => {
                let is_narrow = request.is_some() || account.is_some() || kind.is_some();
                let last = last.or((!is_narrow).then_some(NEWEST));
                let filter = Filter { last, request, account, kind, ..Filter::default() };
                let file = ledger_at(context, file)?;
                let rows =
                    runtime.block_on(ledger::show(&file, &filter)).hint("the ledger cannot be read", HINT)?;
                for row in &rows {
                    context.print(row, line(row))?;
                }
                Ok(Success::Done)
            }
            Verb::Verify(verb) => verb.run(context, &runtime),
            Verb::Archive(verb) => verb.run(context, &runtime),
            Verb::Export(verb) => verb.run(context, &runtime),
        }
    }
}

/// How many rows `show` shows where nothing else is asked for.
const NEWEST: usize = 20;

const HINT: &str = "name the ledger's file, or give the configuration with --config";

fn ledger_at(context: &Context, file: Option<PathBuf>) -> anyhow::Result<Location> {
    match file {
        Some(file) => Ok(Location::File(file)),
        None => Ok(Location::from(&Config::load(context.config())?.ledger)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    use alloy_primitives::B256;

    use crate::clock::Clock;
    use crate::config;
    use crate::ledger::Ledger;

    #[test]
    fn inv_14_verify_ends_with_3_where_the_chain_does_not_hold_and_fails_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = config::Ledger {
                path: file.clone(),
                url: None,
                max_open: 1,
                fill_gaps: None,
                min_free: 0,
                show_pause_reason: false,
                keys_kept: Duration::from_secs(86_400),
            };
            let ledger = Ledger::open(&config, Duration::from_secs(1), Clock::system()).await.unwrap();
            ledger.activate_policy(B256::ZERO, "").await.unwrap();
            ledger.close().await;
        });
        assert_eq!(verify(&file).unwrap(), Success::Done);
        let db = rusqlite::Connection::open(&file).unwrap();
        db.execute_batch("DROP TRIGGER audit_is_append_only; UPDATE audit SET at = 0 WHERE seq = 2").unwrap();
        drop(db);
        assert_eq!(verify(&file).unwrap(), Success::Denied);
        let missing = verify(&folder.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
    }

    fn verify(file: &Path) -> Done {
        let audit = Audit { verb: Verb::Verify(Verify { file: Some(file.to_owned()), ..Verify::default() }) };
        audit.run(&Context::new(PathBuf::new(), true))
    }

    #[test]
    fn a_row_is_shown_without_its_long_fields() {
        let row = Entry {
            seq: 7,
            at: crate::clock::Timestamp::from_millis(1_700_000_000_000),
            kind: "intent".to_owned(),
            body: r#"{"client":"alice","person":null,"nonce":3,"unsigned":"0x02","text":""}"#.to_owned(),
            previous: B256::ZERO,
            hash: B256::ZERO,
        };
        assert_eq!(line(&row), "     7  2023-11-14T22:13:20.000Z  intent     client=alice nonce=3");
    }
}
