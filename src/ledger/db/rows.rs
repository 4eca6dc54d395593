//! What a statement gives: rows of either database, whose columns are read by their names.

use std::ops::Range;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::ledger::db::{Sql, SqlError};

/// A row of either database.
pub(in crate::ledger) enum DbRow {
    File { page: Arc<Page>, row: usize },
    Server(PgRow),
}

/// Rows that one statement gave, all or some. They lie in one piece: an allocation for each value of each row costs as much as SQLite.
#[derive(Debug)]
pub(in crate::ledger) struct Page {
    /// Where the names of columns lie among the texts.
    names: Vec<Range<usize>>,
    values: Vec<Value>,
    texts: String,
    blobs: Vec<u8>,
}

/// A value, or where it lies.
#[derive(Debug)]
enum Value {
    Nothing,
    Number(i64),
    /// Nothing of ours.
    Real,
    Text(Range<usize>),
    Blob(Range<usize>),
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) enum Found<'r> {
    Nothing,
    Number(i64),
    Text(&'r str),
    Blob(&'r [u8]),
}

/// What a column can be read as.
pub(in crate::ledger) trait Column<'r>: Sized {
    fn of_file(found: Found<'r>) -> Option<Self>;
    fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error>;
}

impl Page {
    /// The next rows of a statement, at most so many, and none after so many bytes.
    pub(super) fn read(
        rows: &mut rusqlite::Rows<'_>,
        (most, bytes): (usize, usize),
    ) -> rusqlite::Result<Self> {
        let mut page =
            Self { names: Vec::new(), values: Vec::new(), texts: String::new(), blobs: Vec::new() };
        for count in 0..most {
            let Some(row) = rows.next()? else { break };
            if count == 0 {
                page.name(row);
            }
            page.add(row)?;
            if page.texts.len().saturating_add(page.blobs.len()) >= bytes {
                break;
            }
        }
        Ok(page)
    }

    fn name(&mut self, row: &rusqlite::Row<'_>) {
        for name in row.as_ref().column_names() {
            let range = self.text(name);
            self.names.push(range);
        }
    }

    fn text(&mut self, text: &str) -> Range<usize> {
        let start = self.texts.len();
        self.texts.push_str(text);
        start..self.texts.len()
    }

    fn add(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        for at in 0..self.names.len() {
            let value = match row.get_ref(at)? {
                ValueRef::Null => Value::Nothing,
                ValueRef::Integer(number) => Value::Number(number),
                ValueRef::Real(_) => Value::Real,
                ValueRef::Text(text) => {
                    let text = str::from_utf8(text).map_err(|error| rusqlite::Error::Utf8Error(at, error))?;
                    Value::Text(self.text(text))
                }
                ValueRef::Blob(bytes) => {
                    let start = self.blobs.len();
                    self.blobs.extend_from_slice(bytes);
                    Value::Blob(start..self.blobs.len())
                }
            };
            self.values.push(value);
        }
        Ok(())
    }

    pub(super) fn rows(self) -> Vec<DbRow> {
        let count = self.values.len().checked_div(self.names.len()).unwrap_or_default();
        let page = Arc::new(self);
        (0..count).map(|row| DbRow::File { page: Arc::clone(&page), row }).collect()
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|range| self.texts.as_bytes().get(range.clone()).unwrap_or_default())
    }

    fn find(&self, row: usize, column: usize) -> Option<Found<'_>> {
        let place = row.checked_mul(self.names.len())?.checked_add(column)?;
        Some(match self.values.get(place)? {
            Value::Nothing => Found::Nothing,
            Value::Number(number) => Found::Number(*number),
            Value::Real => return None,
            Value::Text(range) => Found::Text(self.texts.get(range.clone())?),
            Value::Blob(range) => Found::Blob(self.blobs.get(range.clone())?),
        })
    }
}

impl DbRow {
    pub(in crate::ledger) fn get<'r, T: Column<'r>>(&'r self, name: &str) -> Sql<T> {
        match self {
            Self::File { page, row } => {
                let at = page.names().position(|column| column == name.as_bytes());
                let at = at.ok_or_else(|| SqlError::decode(format!("there is no column {name}")))?;
                page.find(*row, at)
                    .and_then(T::of_file)
                    .ok_or_else(|| SqlError::decode(format!("column {name} holds something else")))
            }
            Self::Server(row) => Ok(T::of_server(row, name)?),
        }
    }

    /// A number that is 0 or 1: not all databases have truth values.
    pub(in crate::ledger) fn is_set(&self, name: &str) -> Sql<bool> {
        Ok(self.get::<i64>(name)? != 0)
    }

    /// About how much memory a row of a server takes.
    pub(super) fn size_of(row: &PgRow) -> usize {
        let value = |at| row.try_get_raw(at).ok().and_then(|value| Some(value.as_bytes().ok()?.len()));
        (0..row.len()).filter_map(value).sum()
    }

    pub(super) fn only(&self) -> Sql<i64> {
        match self {
            Self::File { page, row } => {
                page.find(*row, 0).and_then(i64::of_file).ok_or_else(|| SqlError::decode("it is no number"))
            }
            Self::Server(row) => Ok(row.try_get(0)?),
        }
    }
}

/// A type by the kind of value that it is in SQLite; the server checks for itself.
macro_rules! column {
    ($($type:ty: $pattern:pat => $found:expr),+ $(,)?) => {$(
        impl<'r> Column<'r> for $type {
            fn of_file(found: Found<'r>) -> Option<Self> {
                match found { $pattern => Some($found), _ => None }
            }

            fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error> {
                row.try_get(name)
            }
        }

        impl<'r> Column<'r> for Option<$type> {
            fn of_file(found: Found<'r>) -> Option<Self> {
                match found {
                    Found::Nothing => Some(None),
                    found => <$type>::of_file(found).map(Some),
                }
            }

            fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error> {
                row.try_get(name)
            }
        }
    )+};
}

column! {
    i64: Found::Number(number) => number,
    &'r str: Found::Text(text) => text,
    String: Found::Text(text) => text.to_owned(),
    &'r [u8]: Found::Blob(bytes) => bytes,
    Vec<u8>: Found::Blob(bytes) => bytes.to_vec(),
}

impl std::fmt::Debug for DbRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { page, .. } => {
                f.debug_list().entries(page.names().map(String::from_utf8_lossy)).finish()
            }
            Self::Server(_) => f.write_str("DbRow(of a server)"),
        }
    }
}
