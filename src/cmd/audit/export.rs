//! `chancery audit export`: rows as JSON Lines, exact to the byte, or as CSV for a spreadsheet.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::clock::Timestamp;
use crate::cmd::audit::{HINT, ledger_at};
use crate::cmd::progress::Progress;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::ledger::{self, Entry, Filter};

/// Which rows, and where to.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The ledger, or a copy of it; by default the configuration's
    #[arg(long)]
    file: Option<PathBuf>,
    /// Only rows of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only rows from this time on: 2026-01-31, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only rows before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// JSON Lines can be verified without the ledger, CSV can be looked at
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// The file to write, which must not be there yet; by default stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

/// Fields of a row's body that have a column of their own.
const COLUMNS: [&str; 12] = [
    "request",
    "client",
    "person",
    "account",
    "chain",
    "nonce",
    "reservation",
    "method",
    "rule",
    "policy",
    "cause",
    "outcome",
];

impl Export {
    pub(super) fn run(self, context: &Context, runtime: &Runtime) -> Done {
        let file = ledger_at(context, self.file)?;
        let filter = Filter { kind: self.kind, since: self.since, until: self.until, ..Filter::default() };
        let path = self.output.as_ref();
        let mut out: Box<dyn Write> = match path {
            Some(path) => Box::new(BufWriter::new(
                new_file(path).hint(path.display(), "name a file that is not there yet")?,
            )),
            None => Box::new(BufWriter::new(io::stdout().lock())),
        };
        if self.format == Format::Csv {
            let names = ["seq", "at", "kind"].into_iter().chain(COLUMNS).chain(["body", "hash"]);
            record(&mut out, names.map(str::to_owned))?;
        }
        let mut progress = Progress::new(context, "exporting");
        let each = |row: Entry| match self.format {
            Format::Jsonl => {
                serde_json::to_writer(&mut out, &row)?;
                out.write_all(b"\n")
            }
            Format::Csv => record(&mut out, cells(&row)),
        };
        let exported =
            runtime.block_on(ledger::export(&file, &filter, each, &mut |done, all| progress.at(done, all)));
        drop(progress);
        let rows = exported.hint("the rows cannot be exported", HINT)?;
        out.flush()?;
        if let Some(path) = path {
            File::open(path)?.sync_all()?;
            let text = format!("{rows} rows in {}", path.display());
            context.print(&json!({ "rows": rows, "file": path.display().to_string() }), text)?;
        }
        Ok(Success::Done)
    }
}

/// Rows tell who did what: the file is for this user alone.
pub(super) fn new_file(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(in crate::cmd) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write 2026-01-31, or 2026-01-31T08:00:00Z".to_owned())
}

fn cells(row: &Entry) -> impl Iterator<Item = String> {
    let body: Map<String, Value> = serde_json::from_str(&row.body).unwrap_or_default();
    let field = move |name: &str| match body.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let first = [row.seq.to_string(), row.at.to_string(), row.kind.clone()];
    let last = [row.body.clone(), row.hash.to_string()];
    first.into_iter().chain(COLUMNS.into_iter().map(field)).chain(last)
}

/// A line by RFC 4180.
fn record(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    let cells: Vec<String> = cells.map(|text| cell(&text)).collect();
    write!(out, "{}\r\n", cells.join(","))
}

/// A spreadsheet takes a cell that begins so for a formula, which may read and send what is in the sheet. Clients
/// choose what stands in some cells; a quote in front makes them text.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("0x02", "0x02"),
            ("", ""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
