//! Which policy was in force at a time: the audit has a row for each that came into force, and the archive has their texts. Reads
//! beside a running gateway, or a copy.

use alloy_primitives::{B256, keccak256};
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::db::{self, Location, query};
use crate::ledger::store::{entry, malformed};
use crate::ledger::verify::not_opened;

/// A policy that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    pub hash: B256,
    /// When it came into force, or a gateway started with it, for the last time until then.
    pub since: Timestamp,
    pub text: String,
}

#[derive(Deserialize)]
struct Row {
    policy: B256,
}

/// The policy that was in force then; nothing where the audit has none of that time or before.
pub async fn in_force(at: impl Into<Location>, then: Timestamp) -> Result<Option<InForce>, LedgerError> {
    let at = at.into();
    let failed = |error| not_opened(&at, &error);
    let mut db = at.read().await.map_err(failed)?;
    db::snapshot(&mut db).await.map_err(failed)?;
    let rows = query("SELECT * FROM audit WHERE kind = 'policy' AND at <= $1 ORDER BY seq DESC LIMIT 1");
    let then = i64::try_from(then.millis()).unwrap_or(i64::MAX);
    let row = rows.bind(then).fetch_optional(&mut db).await.map_err(failed)?;
    let Some(row) = row.map(|row| entry(&row)).transpose().map_err(failed)? else { return Ok(None) };
    let Row { policy: hash } = serde_json::from_str(&row.body).map_err(malformed).map_err(failed)?;
    let text = query("SELECT text FROM policy WHERE hash = $1").bind(hash.as_slice());
    let text = text.fetch_optional(&mut db).await.map_err(failed)?;
    let text = text.map(|text| text.get::<String>("text")).transpose().map_err(failed)?;
    // The text is in no row of the chain: its hash is.
    let Some(text) = text.filter(|text| keccak256(text.as_bytes()) == hash) else {
        let why = format!("the text of policy {hash} is not there as it was in force");
        return Err(LedgerError::Open { at: at.clone(), why });
    };
    Ok(Some(InForce { hash, since: row.at, text }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::Ledger;
    use crate::ledger::tests::kit::config;

    #[tokio::test]
    async fn inv_14_the_policy_of_a_time_is_what_the_audit_says_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        for (seconds, text) in [(1000, "one"), (2000, "two"), (3000, "one")] {
            let clock = Clock::set_to(at(seconds));
            let ledger = Ledger::open(&config(&file), Duration::from_secs(6), clock).await.unwrap();
            ledger.activate_policy(keccak256(text), text).await.unwrap();
            ledger.close().await;
        }
        let told = async |seconds: u64| in_force(&file, at(seconds)).await.unwrap();
        let was = |seconds: u64, text: &str| {
            Some(InForce { hash: keccak256(text), since: at(seconds), text: text.to_owned() })
        };
        assert_eq!(told(999).await, None);
        assert_eq!(told(1000).await, was(1000, "one"));
        assert_eq!(told(1999).await, was(1000, "one"));
        assert_eq!(told(2000).await, was(2000, "two"));
        assert_eq!(told(9999).await, was(3000, "one"));
        // The archive is in no row of the chain; that it is what was in force is proved by its hash.
        let db = rusqlite::Connection::open(&file).unwrap();
        db.execute("UPDATE policy SET text = 'another' WHERE text = 'two'", []).unwrap();
        drop(db);
        let error = in_force(&file, at(2500)).await.unwrap_err().to_string();
        assert!(error.contains("is not there as it was in force"), "{error}");
        assert_eq!(told(1500).await, was(1000, "one"));
    }
}
