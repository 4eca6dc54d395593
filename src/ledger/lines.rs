//! Rows as `audit export` writes them, one JSON object a line, and read back to the byte.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::ledger::audit::Entry;

/// Longer than any row: a row that is longer was not written by us.
const MAX_LINE: u64 = 32 << 20;

/// A file of exported rows.
#[derive(Debug)]
pub(in crate::ledger) struct Lines {
    file: BufReader<File>,
    line: u64,
    read: u64,
}

/// A line that is no row.
#[derive(Debug)]
pub(in crate::ledger) struct NoRow {
    pub line: u64,
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    seq: i64,
    at: String,
    kind: String,
    body: Box<RawValue>,
    previous: B256,
    hash: B256,
}

impl Lines {
    pub(in crate::ledger) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 16, File::open(path)?), line: 0, read: 0 })
    }

    /// Bytes that were read.
    pub(in crate::ledger) const fn read(&self) -> u64 {
        self.read
    }

    pub(in crate::ledger) fn next(&mut self) -> Result<Option<Entry>, NoRow> {
        let mut text = String::new();
        self.line = self.line.saturating_add(1);
        let no = |why: &dyn std::fmt::Display, line| NoRow { line, why: why.to_string() };
        let read = self.file.by_ref().take(MAX_LINE).read_line(&mut text).map_err(|e| no(&e, self.line))?;
        if read == 0 {
            return Ok(None);
        }
        self.read = self.read.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let row: Written = serde_json::from_str(&text).map_err(|e| no(&e, self.line))?;
        let at = Timestamp::parse(&row.at).ok_or_else(|| no(&"its time is none", self.line))?;
        let (seq, kind, previous, hash) = (row.seq, row.kind, row.previous, row.hash);
        Ok(Some(Entry { seq, at, kind, body: row.body.get().to_owned(), previous, hash }))
    }
}

/// Whether a file is a database and not lines of text.
pub(in crate::ledger) fn is_database(path: &Path) -> std::io::Result<bool> {
    let mut first = [0];
    let read = File::open(path)?.read(&mut first)?;
    Ok(read == 0 || first != *b"{")
}
