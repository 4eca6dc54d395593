//! What all writers of a ledger agree on: the policy in force, and who looks after what was sent.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::ledger::db::{Db, Sql, query};
use crate::ledger::store::{malformed, signed};

/// For how long one writer leads before it must say so again. One that is gone is missed for no longer.
const LEASE: Duration = Duration::from_secs(10);

/// How much of it may be left when it is renewed.
const RENEW: Duration = Duration::from_secs(7);

/// Whether this process looks after what was sent: repeats it, follows it, closes gaps. Doing that twice would do no
/// harm, only noise.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct Lead {
    /// By a clock that nobody sets: a process that was stopped meanwhile does not think that it leads.
    until: Arc<ArcSwapOption<Instant>>,
}

impl Lead {
    pub(in crate::ledger) fn is_held(&self) -> bool {
        self.until.load().as_ref().is_some_and(|until| Instant::now() < **until)
    }

    /// Asks for the lead, or keeps it, inside a writer's transaction that began at `began`. Says until when it is held.
    pub(in crate::ledger) async fn ask(
        &self,
        db: &mut Db,
        (writer, began, now): (&str, Instant, Timestamp),
    ) -> Sql<Option<Instant>> {
        let held = self.until.load_full();
        if let Some(until) = held.filter(|until| until.saturating_duration_since(began) > RENEW) {
            return Ok(Some(*until));
        }
        let until = now.millis().saturating_add(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX));
        let done = query(
            "UPDATE agreed SET leader = ?1, leader_until = ?2
             WHERE leader IS NULL OR leader = ?1 OR leader_until <= ?3",
        );
        let done = done.bind(writer).bind(signed(until)).bind(signed(now.millis())).execute(&mut *db).await?;
        Ok(began.checked_add(LEASE).filter(|_| done == 1))
    }

    /// After the commit.
    pub(in crate::ledger) fn hold(&self, until: Option<Instant>) {
        self.until.store(until.map(Arc::new));
    }
}

/// Lets another lead at once.
pub(in crate::ledger) async fn give_up_lead(db: &mut Db, writer: &str) -> Sql<()> {
    let done = query("UPDATE agreed SET leader = NULL, leader_until = 0 WHERE leader = ?1");
    done.bind(writer).execute(&mut *db).await.map(drop)
}

/// The policy by which reservations must have been judged, and how many pauses hold.
pub(in crate::ledger) async fn in_force(db: &mut Db) -> Sql<(Option<B256>, i64)> {
    let row = query("SELECT policy, (SELECT count(*) FROM pause) AS pauses FROM agreed");
    let row = row.fetch_one(&mut *db).await?;
    let hash: Option<&[u8]> = row.get("policy")?;
    Ok((hash.map(B256::try_from).transpose().map_err(malformed)?, row.get("pauses")?))
}

pub(in crate::ledger) async fn put_in_force(db: &mut Db, policy: B256) -> Sql<()> {
    let done = query("UPDATE agreed SET policy = ?1");
    done.bind(policy.as_slice()).execute(&mut *db).await.map(drop)
}
