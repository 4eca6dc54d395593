//! A statement with its arguments: the same words for both databases.
//!
//! SQLite is called where it stands, a few microseconds a statement: a thread of its own for the connection, with a
//! message for each statement and each row, costs several times that. Whoever holds one on a thread of the runtime tells
//! the runtime so.

use std::borrow::Cow;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rusqlite::types::{ToSqlOutput, ValueRef};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, Postgres};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::ledger::db::rows::{DbRow, Page};
use crate::ledger::db::{Db, Sql, SqlError};

/// From how many bytes on a page is given, however few its rows: a payload with blobs is a megabyte.
const PAGE_BYTES: usize = 1024 * 1024;

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

    /// All rows, page by page as they come, while somebody wants them; whether somebody did to the end. The database goes on
    /// while a page is looked at. Where nobody does, a server's connection is of no more use: what it was asked is still on its way.
    pub(in crate::ledger) async fn pages(
        self,
        db: &mut Db,
        size: usize,
        mut wants: impl AsyncFnMut(Vec<DbRow>) -> Sql<bool>,
    ) -> Sql<bool> {
        match db {
            Db::File(file) => {
                let mut statement = file.prepare_cached(&self.sql)?;
                self.put_into(&mut statement)?;
                let mut rows = statement.raw_query();
                loop {
                    let page = in_place(|| Page::read(&mut rows, (size, PAGE_BYTES)))?.rows();
                    if page.is_empty() {
                        return Ok(true);
                    }
                    if !wants(page).await? {
                        return Ok(false);
                    }
                }
            }
            Db::Server(server) => {
                let mut rows = self.for_server().fetch(server.as_mut()).fuse();
                loop {
                    let (mut page, mut bytes) = (Vec::new(), 0_usize);
                    while page.len() < size
                        && bytes < PAGE_BYTES
                        && let Some(row) = rows.try_next().await?
                    {
                        bytes = bytes.saturating_add(DbRow::size_of(&row));
                        page.push(DbRow::Server(row));
                    }
                    if page.is_empty() {
                        return Ok(true);
                    }
                    if !wants(page).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn rows(self, db: &mut Db, most: usize) -> Sql<Vec<DbRow>> {
        match db {
            Db::File(file) => in_place(|| {
                let mut statement = file.prepare_cached(&self.sql)?;
                self.put_into(&mut statement)?;
                let mut rows = statement.raw_query();
                let page = Page::read(&mut rows, (most, usize::MAX))?;
                // To its end all the same: a statement that changes rows changes them as it is read.
                while rows.next()?.is_some() {}
                Ok(page.rows())
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
