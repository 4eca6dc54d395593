//! What goes wrong between the ledger and its database.

use std::error::Error;

/// Why a statement, or what was made of its rows, did not succeed.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum SqlError {
    #[error("{}", in_its_words(.0))]
    File(#[from] rusqlite::Error),
    #[error("{}", servers_words(.0))]
    Server(#[from] sqlx::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A row that must be there is not.
    #[error("no rows returned by a query that expected to return at least one row")]
    NoRow,
    /// What stands in the tables was not written by us.
    #[error("{0}")]
    Decode(Box<dyn Error + Send + Sync>),
    #[error("{0}")]
    Encode(#[from] serde_json::Error),
    /// A database that must not be used as it is.
    #[error("{0}")]
    Unfit(String),
}

impl SqlError {
    pub(in crate::ledger) fn decode(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Decode(why.into())
    }

    /// Whether it is the content that is wrong: bytes that are no row of ours, or that SQLite cannot make sense of.
    pub(in crate::ledger) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Decode(_)
            | Self::Server(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. })
            | Self::File(rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::Utf8Error(..)) => {
                true
            }
            Self::File(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase)
            }
            _ => false,
        }
    }
}

fn in_its_words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        other => other.to_string(),
    }
}

fn servers_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}
