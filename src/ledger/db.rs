//! The database that the ledger is in: a file of SQLite, which one process writes, or PostgreSQL, which replicas share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sqlx::any::{AnyConnectOptions, AnyRow, install_default_drivers};
use sqlx::{
    Any, AnyConnection, AssertSqlSafe, ColumnIndex, ConnectOptions as _, Connection as _, Decode, Row as _,
    Type,
};
use tokio::time::timeout;

use crate::clock::Timestamp;
use crate::config;
use crate::secret::SecretUrl;

/// A connection to either.
pub(in crate::ledger) type Db = AnyConnection;
pub(in crate::ledger) type DbRow = AnyRow;

type Sql<T> = Result<T, sqlx::Error>;

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

    fn url(&self, options: &str) -> String {
        match self {
            Self::File(path) => {
                let path = path.to_string_lossy();
                format!("sqlite:{}?{options}", utf8_percent_encode(&path, NOT_IN_A_PATH))
            }
            Self::Server(url) => url.expose().to_owned(),
        }
    }

    async fn open(&self, options: &str) -> Sql<Db> {
        install_default_drivers();
        let options: AnyConnectOptions = self.url(options).parse()?;
        let options = options.disable_statement_logging();
        match self {
            Self::File(_) => options.connect().await,
            Self::Server(_) => timeout(CONNECT, options.connect()).await.map_err(|_| {
                let why = format!("the database did not answer within {} s", CONNECT.as_secs());
                sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
            })?,
        }
    }

    /// Opens for writing.
    pub(in crate::ledger) async fn connect(&self) -> Sql<Db> {
        let mut db = self.open("mode=rwc").await?;
        // In WAL mode only FULL survives a loss of power.
        let session = match self {
            Self::File(_) => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON",
            Self::Server(_) => SESSION,
        };
        sqlx::raw_sql(session).execute(&mut db).await?;
        Ok(db)
    }

    /// Opens for writing, and makes the tables where they are missing.
    pub(in crate::ledger) async fn create(&self) -> Sql<Db> {
        let mut db = self.connect().await?;
        match self {
            Self::File(_) => sqlx::migrate!("migrations/sqlite").run(&mut db).await?,
            Self::Server(_) => {
                sqlx::migrate!("migrations/postgres").run(&mut db).await?;
                is_durable(&mut db).await?;
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
                match self.looked_at("mode=ro").await {
                    Err(_) if lone => self.looked_at("mode=ro&immutable=true").await,
                    opened => opened,
                }
            }
            Self::Server(_) => {
                let mut db = self.open("").await?;
                sqlx::raw_sql("SET default_transaction_read_only = on").execute(&mut db).await?;
                Ok(db)
            }
        }
    }

    /// Opens, and reads once: SQLite looks at the file no earlier.
    async fn looked_at(&self, options: &str) -> Sql<Db> {
        let mut db = self.open(options).await?;
        sqlx::query("SELECT seq FROM head").fetch_optional(&mut db).await?;
        Ok(db)
    }
}

/// A server with a standby that it does not wait for loses commits when it fails: payloads that have left, forgotten.
async fn is_durable(db: &mut Db) -> Sql<()> {
    let standbys: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_replication").fetch_one(&mut *db).await?;
    let waits_for: String =
        sqlx::query_scalar("SELECT current_setting('synchronous_standby_names')").fetch_one(&mut *db).await?;
    if standbys > 0 && waits_for.trim().is_empty() {
        let why = "the database has a standby that it does not wait for, and would forget what was signed when it \
                   fails: set `synchronous_standby_names`";
        return Err(sqlx::Error::Configuration(why.into()));
    }
    let full: String = sqlx::query_scalar("SELECT current_setting('fsync')").fetch_one(&mut *db).await?;
    if full != "on" {
        let why =
            "the database does not wait for its disk, and would forget what was signed: set `fsync = on`";
        return Err(sqlx::Error::Configuration(why.into()));
    }
    Ok(())
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_server(db: &Db) -> bool {
    db.backend_name() == "PostgreSQL"
}

/// Begins a transaction that writes, when nobody else does.
pub(in crate::ledger) async fn begin(db: &mut Db) -> Sql<()> {
    if is_server(db) {
        // What is read after the lock is what the writer before us committed.
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({LOCK})");
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(db).await.map(drop)
    } else {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(db).await.map(drop)
    }
}

/// Begins a snapshot for reading.
pub(in crate::ledger) async fn snapshot(db: &mut Db) -> Sql<()> {
    let begin = if is_server(db) { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" } else { "BEGIN" };
    sqlx::raw_sql(begin).execute(db).await.map(drop)
}

pub(in crate::ledger) async fn commit(db: &mut Db) -> Sql<()> {
    sqlx::raw_sql("COMMIT").execute(db).await.map(drop)
}

/// After an error: SQLite may have rolled back by itself, so a failure here says nothing.
pub(in crate::ledger) async fn roll_back(db: &mut Db) {
    drop(sqlx::raw_sql("ROLLBACK").execute(db).await);
}

pub(in crate::ledger) async fn close(db: Db) -> Sql<()> {
    db.close().await
}

/// What time it is where the ledger is: replicas must not differ. Nothing where that is this machine.
pub(in crate::ledger) async fn now(db: &mut Db) -> Sql<Option<Timestamp>> {
    if !is_server(db) {
        return Ok(None);
    }
    let millis = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint");
    let millis: i64 = millis.fetch_one(&mut *db).await?;
    Ok(Some(Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))))
}

/// A number that is 0 or 1: not all databases have truth values.
pub(in crate::ledger) fn is_set<'r, I>(row: &'r DbRow, name: I) -> Sql<bool>
where
    I: ColumnIndex<DbRow>,
    i64: Decode<'r, Any> + Type<Any>,
{
    Ok(row.try_get::<i64, _>(name)? != 0)
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
