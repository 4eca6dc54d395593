//! The database that the ledger is in: a file of SQLite, which one process writes, or PostgreSQL, which replicas share.

mod error;
mod query;
mod rows;

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::keccak256;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::OpenFlags;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::clock::Timestamp;
use crate::config;
use crate::secret::SecretUrl;

pub(in crate::ledger) use error::SqlError;
pub(in crate::ledger) use query::{Query, batch, query};
pub(in crate::ledger) use rows::DbRow;

use query::in_place;

/// A connection to either.
pub(in crate::ledger) enum Db {
    File(rusqlite::Connection),
    Server(Box<PgConnection>),
}

pub(in crate::ledger) type Sql<T> = Result<T, SqlError>;

/// Where a ledger is. Shown without a password.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Server(SecretUrl),
}

/// How long a server may take to let us in.
const CONNECT: Duration = Duration::from_secs(3);

/// What a path may not hold as it is in a URL.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

/// How long another process may keep a file from us.
const BUSY: Duration = Duration::from_secs(5);

/// How many statements a connection keeps prepared: more than there are.
const PREPARED: usize = 128;

/// What makes the tables of a file, step by step; the file's `user_version` says how many of them it has seen, and its
/// `application_id` which they were.
const STEPS: [&str; 1] = [include_str!("../../../migrations/sqlite/0001_ledger.sql")];

/// What a session of a server is told first. A replica that is stopped in the middle of a transaction must not keep the
/// others out, and a commit is one only when it is on the disk, on that of a synchronous standby too where there is one.
const SESSION: &str = "
    SET synchronous_commit = on;
    SET lock_timeout = '4s';
    SET statement_timeout = '5s';
    SET idle_in_transaction_session_timeout = '5s';
";

/// The name of the lock that a transaction holds while it writes: any number, so long as all replicas say the same.
const LOCK: i64 = 0x6368_616e_6365_7279;

impl Location {
    /// Whether other processes may write at the same time.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Whether there is anything yet; of a server only it knows.
    pub fn exists(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }

    /// Opens for writing.
    pub(in crate::ledger) async fn connect(&self) -> Sql<Db> {
        match self {
            Self::File(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
                let file = open_file(path, flags, "")?;
                // In WAL mode only FULL survives a loss of power.
                // The pages that a busy day comes back to fit into 8 MiB.
                let session = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                               PRAGMA cache_size = -8192";
                in_place(|| {
                    steps_made(&file)?;
                    file.execute_batch(session).map_err(SqlError::from)
                })?;
                Ok(Db::File(file))
            }
            Self::Server(url) => {
                let mut db = connect_to(url).await?;
                batch(&mut db, SESSION).await?;
                Ok(db)
            }
        }
    }

    /// Opens for writing, and makes the tables where they are missing.
    pub(in crate::ledger) async fn create(&self) -> Sql<Db> {
        let mut db = self.connect().await?;
        match &mut db {
            Db::File(file) => in_place(|| migrate(file))?,
            Db::Server(server) => {
                let done = sqlx::migrate!("migrations/postgres").run(server.as_mut()).await;
                done.map_err(|error| SqlError::Unfit(error.to_string()))?;
                is_fit(&mut db).await?;
            }
        }
        Ok(db)
    }

    /// Opens for reading only, as an auditor does while the gateway runs.
    pub(in crate::ledger) async fn read(&self) -> Sql<Db> {
        match self {
            Self::File(path) => {
                // A copy on a medium that cannot be written: SQLite must be told that nobody writes it.
                let lone = !side_file(path, "-wal").exists();
                match looked_at(path, "").await {
                    Err(_) if lone => looked_at(path, "?immutable=1").await,
                    opened => opened,
                }
            }
            Self::Server(url) => {
                let mut db = connect_to(url).await?;
                // Who reads a long ledger takes long, and keeps nobody waiting.
                let session = "SET default_transaction_read_only = on; SET statement_timeout = 0; \
                               SET idle_in_transaction_session_timeout = 0";
                batch(&mut db, session).await?;
                Ok(db)
            }
        }
    }
}

async fn connect_to(url: &SecretUrl) -> Sql<Db> {
    let options: PgConnectOptions = url.expose().parse()?;
    let options = options.disable_statement_logging();
    let server = timeout(CONNECT, options.connect()).await.map_err(|_| {
        let why = format!("the database did not answer within {} s", CONNECT.as_secs());
        std::io::Error::new(std::io::ErrorKind::TimedOut, why)
    })?;
    Ok(Db::Server(Box::new(server?)))
}

/// `options` are SQLite's own, for a file that is named as a URL.
fn open_file(path: &Path, flags: OpenFlags, options: &str) -> Sql<rusqlite::Connection> {
    in_place(|| {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        // Before an absolute path stands a host, which is none; `//srv/x` would be taken for one.
        let host = if path.is_absolute() { "//" } else { "" };
        let url =
            format!("file:{host}{}{options}", percent_encode(path.as_os_str().as_bytes(), NOT_IN_A_PATH));
        let file = rusqlite::Connection::open_with_flags(url, flags)?;
        file.busy_timeout(BUSY)?;
        file.set_prepared_statement_cache_capacity(PREPARED);
        Ok(file)
    })
}

/// Opens for reading, and reads once: SQLite looks at the file no earlier.
async fn looked_at(path: &Path, options: &str) -> Sql<Db> {
    let mut db = Db::File(open_file(path, OpenFlags::SQLITE_OPEN_READ_ONLY, options)?);
    if let Db::File(file) = &db {
        in_place(|| steps_made(file))?;
    }
    query("SELECT seq FROM head").fetch_optional(&mut db).await?;
    Ok(db)
}

/// Each step in a transaction of its own, with the mark that it was made.
fn migrate(file: &rusqlite::Connection) -> Sql<()> {
    for (step, number) in STEPS.iter().zip(1_usize..).skip(steps_made(file)?) {
        let mark = mark_of(number);
        let all = format!(
            "BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; PRAGMA application_id = {mark}; COMMIT"
        );
        if let Err(error) = file.execute_batch(&all) {
            // It may have rolled back by itself.
            let _ = file.execute_batch("ROLLBACK");
            return Err(error.into());
        }
    }
    Ok(())
}

/// How many steps made the tables of a file, which must be the ones that are known here: with other tables a start would
/// succeed, and the first claim fail.
fn steps_made(file: &rusqlite::Connection) -> Sql<usize> {
    let pragma = |name| file.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let made = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    if made > STEPS.len() {
        let why = "the ledger was made by a newer version of chancery; this one does not understand it";
        return Err(SqlError::Unfit(why.to_owned()));
    }
    if made > 0 && pragma("application_id")? != i64::from(mark_of(made)) {
        let why = "the ledger was made by a version of chancery with other tables; only that version understands it";
        return Err(SqlError::Unfit(why.to_owned()));
    }
    Ok(made)
}

/// The first steps, by what they say.
fn mark_of(steps: usize) -> i32 {
    let all: String = STEPS.iter().take(steps).copied().collect();
    let [a, b, c, d, ..] = keccak256(all).0;
    // Never 0, as in a file that bears no mark.
    i32::from_be_bytes([a, b, c, d]) | 1
}

/// A server with a standby that it does not wait for loses commits when it fails: payloads that have left, forgotten. And one
/// that cannot write every text would fail a commit, with all that is in it.
async fn is_fit(db: &mut Db) -> Sql<()> {
    let standbys = query("SELECT count(*) FROM pg_stat_replication").number(db).await?;
    let setting =
        "SELECT current_setting('synchronous_standby_names') AS waits_for, current_setting('fsync') AS fsync,
                current_setting('server_encoding') AS encoding";
    let settings = query(setting).fetch_one(db).await?;
    let encoding: &str = settings.get("encoding")?;
    if encoding != "UTF8" {
        let why = format!(
            "the database's encoding is {encoding}, which has no place for much that a client may say: create it with \
             `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`"
        );
        return Err(SqlError::Unfit(why));
    }
    if standbys > 0 && settings.get::<&str>("waits_for")?.trim().is_empty() {
        let why = "the database has a standby that it does not wait for, and would forget what was signed when it \
                   fails: set `synchronous_standby_names`";
        return Err(SqlError::Unfit(why.to_owned()));
    }
    if settings.get::<&str>("fsync")? != "on" {
        let why =
            "the database does not wait for its disk, and would forget what was signed: set `fsync = on`";
        return Err(SqlError::Unfit(why.to_owned()));
    }
    Ok(())
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Begins a transaction that writes, when nobody else does.
pub(in crate::ledger) async fn begin(db: &mut Db) -> Sql<()> {
    match db {
        Db::File(_) => batch(db, "BEGIN IMMEDIATE").await,
        // What is read after the lock is what the writer before us committed.
        Db::Server(_) => {
            let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({LOCK})");
            batch(db, &begin).await
        }
    }
}

/// Begins a snapshot for reading.
pub(in crate::ledger) async fn snapshot(db: &mut Db) -> Sql<()> {
    let begin = match db {
        Db::File(_) => "BEGIN",
        Db::Server(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    batch(db, begin).await
}

pub(in crate::ledger) async fn commit(db: &mut Db) -> Sql<()> {
    batch(db, "COMMIT").await
}

/// After an error: SQLite may have rolled back by itself, so a failure here says nothing.
pub(in crate::ledger) async fn roll_back(db: &mut Db) {
    drop(batch(db, "ROLLBACK").await);
}

pub(in crate::ledger) async fn close(db: Db) -> Sql<()> {
    match db {
        Db::File(file) => in_place(|| file.close().map_err(|(_, error)| error.into())),
        Db::Server(server) => Ok(server.close().await?),
    }
}

/// What time it is where the ledger is: replicas must not differ. Nothing where that is this machine.
pub(in crate::ledger) async fn now(db: &mut Db) -> Sql<Option<Timestamp>> {
    if matches!(db, Db::File(_)) {
        return Ok(None);
    }
    let millis = query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").number(db).await?;
    Ok(Some(Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(url) => url.fmt(f),
        }
    }
}

impl From<&config::Ledger> for Location {
    fn from(config: &config::Ledger) -> Self {
        match &config.url {
            Some(url) => Self::Server(url.clone()),
            None => Self::File(config.path.clone()),
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for Location {
    fn from(other: &Self) -> Self {
        other.clone()
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "Db(a file)",
            Self::Server(_) => "Db(a server)",
        })
    }
}

#[cfg(test)]
mod tests {
    mod cost;

    use super::*;

    /// A step that is out is never edited: another one comes after it. Whoever edits it, if it be a comment, locks everybody
    /// out of what they have.
    #[test]
    fn the_steps_are_what_they_were() {
        assert_eq!(mark_of(STEPS.len()), -1_360_292_141);
    }
}
