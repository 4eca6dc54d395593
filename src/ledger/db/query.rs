//! A statement with its arguments, and the rows that come of it: the same words for both databases.
//!
//! SQLite is called where it stands, a few microseconds a statement: a thread of its own for the connection, with a
//! message for each statement and each row, costs several times that. Whoever holds one on a thread of the runtime tells
//! the runtime so.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::ledger::db::{Db, Sql, SqlError};

/// One statement, in the making. Its arguments are `?1`, `?2` and so on, as SQLite has them.
#[derive(Debug)]
pub(in crate::ledger) struct Query<'q> {
    sql: Cow<'static, str>,
    arguments: Vec<Argument<'q>>,
}

/// A value that goes in. Each knows its type where it is nothing, as PostgreSQL must.
#[derive(Debug)]
pub(in crate::ledger) enum Argument<'q> {
    Number(Option<i64>),
    Text(Option<Cow<'q, str>>),
    Bytes(Option<Cow<'q, [u8]>>),
}

/// A row of either database.
pub(in crate::ledger) enum DbRow {
    File { names: Arc<[String]>, values: Vec<Value> },
    Server(PgRow),
}

/// What a column can be read as.
pub(in crate::ledger) trait Column<'r>: Sized {
    fn of_file(value: &'r Value) -> Option<Self>;
    fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error>;
}

pub(in crate::ledger) fn query<'q>(sql: impl Into<Cow<'static, str>>) -> Query<'q> {
    Query { sql: sql.into(), arguments: Vec::new() }
}

impl<'q> Query<'q> {
    pub(in crate::ledger) fn bind(mut self, argument: impl Into<Argument<'q>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// How many rows it changed.
    pub(in crate::ledger) async fn execute(self, db: &mut Db) -> Sql<u64> {
        match db {
            Db::File(file) => in_place(|| {
                let mut statement = file.prepare_cached(&self.sql)?;
                self.put_into(&mut statement)?;
                let changed = statement.raw_execute()?;
                Ok(u64::try_from(changed).unwrap_or(u64::MAX))
            }),
            Db::Server(server) => Ok(self.for_server().execute(server.as_mut()).await?.rows_affected()),
        }
    }

    /// Puts a row into a table with an `id` of its own. That id.
    pub(in crate::ledger) async fn insert(mut self, db: &mut Db) -> Sql<i64> {
        if matches!(db, Db::Server(_)) {
            self.sql.to_mut().push_str(" RETURNING id");
            return self.number(db).await;
        }
        // What is returned would go through a table of its own, which costs more than the row.
        self.execute(&mut *db).await?;
        match db {
            Db::File(file) => Ok(file.last_insert_rowid()),
            Db::Server(_) => Err(SqlError::NoRow),
        }
    }

    pub(in crate::ledger) async fn fetch_all(self, db: &mut Db) -> Sql<Vec<DbRow>> {
        self.rows(db, usize::MAX).await
    }

    pub(in crate::ledger) async fn fetch_optional(self, db: &mut Db) -> Sql<Option<DbRow>> {
        Ok(self.rows(db, 1).await?.pop())
    }

    pub(in crate::ledger) async fn fetch_one(self, db: &mut Db) -> Sql<DbRow> {
        self.fetch_optional(db).await?.ok_or(SqlError::NoRow)
    }

    /// The only column of the only row.
    pub(in crate::ledger) async fn number(self, db: &mut Db) -> Sql<i64> {
        self.fetch_one(db).await?.only()
    }

    async fn rows(self, db: &mut Db, most: usize) -> Sql<Vec<DbRow>> {
        match db {
            Db::File(file) => in_place(|| {
                let mut statement = file.prepare_cached(&self.sql)?;
                self.put_into(&mut statement)?;
                let columns = statement.column_count();
                let mut names: Option<Arc<[String]>> = None;
                let (mut found, mut rows) = (Vec::new(), statement.raw_query());
                while let Some(row) = rows.next()? {
                    let names = names.get_or_insert_with(|| {
                        row.as_ref().column_names().into_iter().map(str::to_owned).collect()
                    });
                    let values = (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<_, _>>()?;
                    // To its end all the same: a statement that changes rows changes them as it is read.
                    if found.len() < most {
                        found.push(DbRow::File { names: Arc::clone(names), values });
                    }
                }
                Ok(found)
            }),
            Db::Server(server) if most == 1 => {
                let row = self.for_server().fetch_optional(server.as_mut()).await?;
                Ok(row.map(DbRow::Server).into_iter().collect())
            }
            Db::Server(server) => {
                let rows = self.for_server().fetch_all(server.as_mut()).await?;
                Ok(rows.into_iter().map(DbRow::Server).collect())
            }
        }
    }

    fn put_into(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        if statement.parameter_count() != self.arguments.len() {
            let (wanted, given) = (statement.parameter_count(), self.arguments.len());
            return Err(rusqlite::Error::InvalidParameterCount(given, wanted));
        }
        for (at, argument) in (1..).zip(&self.arguments) {
            statement.raw_bind_parameter(at, argument)?;
        }
        Ok(())
    }

    fn for_server(self) -> sqlx::query::Query<'q, Postgres, PgArguments> {
        // No statement of ours has a question mark that is none of its arguments.
        let query = sqlx::query(AssertSqlSafe(self.sql.replace('?', "$")));
        self.arguments.into_iter().fold(query, |query, argument| match argument {
            Argument::Number(number) => query.bind(number),
            Argument::Text(text) => query.bind(text),
            Argument::Bytes(bytes) => query.bind(bytes),
        })
    }
}

/// Statements that give nothing back, one after the other.
pub(in crate::ledger) async fn batch(db: &mut Db, sql: &str) -> Sql<()> {
    match db {
        Db::File(file) => in_place(|| Ok(file.execute_batch(sql)?)),
        Db::Server(server) => {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(server.as_mut()).await?;
            Ok(())
        }
    }
}

/// Has the runtime's other tasks go on while this one waits for the disk. A thread that has no others, as the writer's,
/// just waits.
pub(in crate::ledger) fn in_place<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

impl DbRow {
    pub(in crate::ledger) fn get<'r, T: Column<'r>>(&'r self, name: &str) -> Sql<T> {
        match self {
            Self::File { names, values } => {
                let at = names.iter().position(|column| column == name);
                let value = at.and_then(|at| values.get(at));
                let value = value.ok_or_else(|| SqlError::decode(format!("there is no column {name}")))?;
                T::of_file(value)
                    .ok_or_else(|| SqlError::decode(format!("column {name} holds something else")))
            }
            Self::Server(row) => Ok(T::of_server(row, name)?),
        }
    }

    /// A number that is 0 or 1: not all databases have truth values.
    pub(in crate::ledger) fn is_set(&self, name: &str) -> Sql<bool> {
        Ok(self.get::<i64>(name)? != 0)
    }

    fn only(&self) -> Sql<i64> {
        match self {
            Self::File { values, .. } => {
                values.first().and_then(i64::of_file).ok_or_else(|| SqlError::decode("it is no number"))
            }
            Self::Server(row) => Ok(row.try_get(0)?),
        }
    }
}

/// A type by the kind of value that it is in SQLite; the server checks for itself.
macro_rules! column {
    ($($type:ty: $pattern:pat => $found:expr),+ $(,)?) => {$(
        impl<'r> Column<'r> for $type {
            fn of_file(value: &'r Value) -> Option<Self> {
                match value { $pattern => $found, _ => None }
            }

            fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error> {
                row.try_get(name)
            }
        }

        impl<'r> Column<'r> for Option<$type> {
            fn of_file(value: &'r Value) -> Option<Self> {
                match value {
                    Value::Null => Some(None),
                    value => <$type>::of_file(value).map(Some),
                }
            }

            fn of_server(row: &'r PgRow, name: &str) -> Result<Self, sqlx::Error> {
                row.try_get(name)
            }
        }
    )+};
}

column! {
    i64: Value::Integer(number) => Some(*number),
    &'r str: Value::Text(text) => Some(text),
    String: Value::Text(text) => Some(text.clone()),
    &'r [u8]: Value::Blob(bytes) => Some(bytes),
    Vec<u8>: Value::Blob(bytes) => Some(bytes.clone()),
}

impl rusqlite::ToSql for Argument<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Number(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Number(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl From<i64> for Argument<'_> {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Argument<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl<'q> From<&'q str> for Argument<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl<'q> From<&'q String> for Argument<'q> {
    fn from(text: &'q String) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Argument<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}

impl<'q> From<Option<&'q str>> for Argument<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

impl<'q> From<&'q [u8]> for Argument<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Self::Bytes(Some(Cow::Borrowed(bytes)))
    }
}

impl From<Vec<u8>> for Argument<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(Cow::Owned(bytes)))
    }
}

impl From<Option<Vec<u8>>> for Argument<'_> {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes.map(Cow::Owned))
    }
}

impl std::fmt::Debug for DbRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { names, .. } => write!(f, "DbRow({names:?})"),
            Self::Server(_) => f.write_str("DbRow(of a server)"),
        }
    }
}
