//! Several processes on one ledger, in a real PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::ledger::tests::kit::{
    ASK, Ask, CHAIN, PATIENT, POLICY, address, config, fresh, known, policy, send, sign,
};
use crate::ledger::tests::server::Server;
use crate::ledger::{
    Administration, Filter, Final, Ledger, LedgerError, Location, Outcome, PauseOrder, PauseScope, Purpose,
    RecordError, Recorded, RefusalClass, ReserveError, Reserved, show, usage, verify,
};
use crate::policy::Replace;
use crate::secret::SecretUrl;
use crate::transaction::Tx;

/// How long anything may take on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A ledger in a database, and the server that it is in.
pub struct Shared {
    pub server: Arc<Server>,
    pub database: String,
}

/// One process that uses it.
pub struct Replica {
    pub ledger: Ledger,
    folder: TempDir,
}

impl Shared {
    pub fn new() -> Self {
        Self::on(Server::shared())
    }

    pub fn on(server: Arc<Server>) -> Self {
        let database = server.database();
        Self { server, database }
    }

    pub fn config(&self, folder: &TempDir) -> config::Ledger {
        let url = SecretUrl::parse_database(&self.server.url(&self.database)).unwrap();
        config::Ledger { url: Some(url), ..config(&folder.path().join("ledger")) }
    }

    pub fn at(&self) -> Location {
        Location::Server(SecretUrl::parse_database(&self.server.url(&self.database)).unwrap())
    }

    pub async fn replica(&self) -> Replica {
        self.replica_in(tempfile::tempdir().unwrap(), PATIENT).await.unwrap()
    }

    pub async fn replica_in(&self, folder: TempDir, deadline: Duration) -> Result<Replica, LedgerError> {
        self.replica_by(Clock::system(), folder, deadline).await
    }

    async fn replica_by(
        &self,
        clock: Clock,
        folder: TempDir,
        deadline: Duration,
    ) -> Result<Replica, LedgerError> {
        let ledger = Ledger::open(&self.config(&folder), deadline, clock).await?;
        ledger.activate_policy(POLICY, "allow all").await?;
        Ok(Replica { ledger, folder })
    }

    pub fn sql(&self, statement: &str) -> String {
        self.server.psql(&self.database, statement)
    }

    pub async fn holds(&self) {
        verify(&self.at()).await.unwrap().unwrap();
    }

    /// What is true in the end, whatever happened: no nonce twice, none missing, and a chain that says the same.
    pub async fn is_whole(&self, signed: u64) {
        let nonces = self.sql("SELECT count(*), count(DISTINCT nonce), max(nonce) + 1 FROM reservation WHERE state = 'recorded'");
        assert_eq!(nonces, format!("{signed}|{signed}|{signed}"));
        self.holds().await;
    }
}

impl Replica {
    pub async fn send(&self, ask: Ask) -> Result<Recorded<Tx>, ReserveError> {
        send(&self.ledger, ask).await
    }

    async fn reserve(&self, ask: Ask) -> Reserved<Tx> {
        fresh(self.ledger.reserve(ask.permitted(), Purpose::Send).await.unwrap())
    }

    pub async fn close(self) -> TempDir {
        self.ledger.close().await;
        self.folder
    }

    /// Asks until the database is there again. Only what a client may hear meanwhile is heard.
    pub async fn sends(&self, ask: Ask) -> Recorded<Tx> {
        let began = Instant::now();
        loop {
            match self.send(ask).await {
                Ok(recorded) => return recorded,
                Err(ReserveError::Ledger(_) | ReserveError::StillSigning) => {}
                Err(other) => panic!("{other}"),
            }
            assert!(began.elapsed() < PATIENCE, "it does not recover");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

pub fn by() -> Administration {
    Administration { operator: "ops".to_owned(), person: "Grace".to_owned(), request: String::new() }
}

fn values(values: std::ops::Range<u64>) -> impl Iterator<Item = Ask> {
    values.map(|value| Ask { value, ..ASK })
}

#[tokio::test]
async fn what_a_file_does_a_server_does() {
    let shared = Shared::new();
    let (one, two) = (shared.replica().await, shared.replica().await);
    // Each step on the other replica than the one before.
    let first = one.send(Ask { nonce: Some(0), fee: Some(1000), ..ASK }).await.unwrap();
    let again = two.send(Ask { nonce: Some(0), fee: Some(1000), ..ASK }).await.unwrap();
    assert_eq!(first.hash(), again.hash(), "the same bytes");
    let dearer = Ask { nonce: Some(0), fee: Some(2000), value: 2, replace: Replace::Own, ..ASK };
    let second = two.send(dearer).await.unwrap();
    assert_eq!((second.nonce(), second.hash() == first.hash()), (Some(0), false));
    let refused = Outcome::Refused { class: RefusalClass::InsufficientFunds, text: "no funds".to_owned() };
    one.ledger.outcome(&second, refused).await.unwrap();
    let message = one.ledger.reserve(ASK.message("hello"), Purpose::Return).await.unwrap();
    two.ledger.record(sign(fresh(message))).await.unwrap_or_else(|_| panic!("any replica may record"));
    two.ledger.settled(first.id(), Final::Mined { block: 7, succeeded: true }).await.unwrap();
    assert_eq!(one.ledger.next_nonce(CHAIN, address(1), 0).await.unwrap(), 1);
    assert_eq!(one.ledger.open_transactions().await.unwrap().len(), 0);
    one.ledger.accept_count((CHAIN, address(1)), 5, by()).await.unwrap();
    two.ledger.ready().await.unwrap();
    let filter = Filter { kind: Some("started".to_owned()), ..Filter::default() };
    let writers: BTreeSet<_> =
        show(&shared.at(), &filter).await.unwrap().into_iter().map(|row| row.body).collect();
    assert_eq!(writers.len(), 2, "each by a name of its own: {writers:?}");
    one.close().await;
    two.close().await;
    shared.holds().await;
    for meddling in ["UPDATE audit SET at = 0", "DELETE FROM audit", "TRUNCATE audit"] {
        let refused = shared.server.try_psql(&shared.database, meddling).unwrap_err();
        assert!(refused.contains("append-only"), "{refused}");
    }
    shared.sql("UPDATE reservation SET client = 'bob' WHERE id = 1");
    assert!(verify(&shared.at()).await.unwrap().is_err(), "an edit is found");
}

#[tokio::test]
async fn inv_02_replicas_give_no_nonce_twice_and_leave_none_out() {
    let shared = Shared::new();
    let replicas = [shared.replica().await, shared.replica().await];
    let sent =
        join_all(values(1..61).zip(replicas.iter().cycle()).map(|(ask, replica)| replica.send(ask))).await;
    // Nobody is turned away because another writes.
    let nonces: BTreeSet<_> = sent.into_iter().map(|sent| sent.unwrap().nonce().unwrap()).collect();
    assert_eq!(nonces, (0..60).collect());
    shared.is_whole(60).await;
}

#[tokio::test]
async fn inv_01_a_stale_owner_can_neither_record_nor_send() {
    let shared = Shared::new();
    let stale = shared.replica_in(tempfile::tempdir().unwrap(), Duration::from_millis(100)).await.unwrap();
    let other = shared.replica().await;
    let reserved = fresh(stale.ledger.reserve(ASK.permitted(), Purpose::Send).await.unwrap());
    // As a process that is stopped: it does nothing of its own any more.
    let id = shared.sql("SELECT id FROM reservation WHERE state = 'reserved'");
    let folder = stale.folder;
    let stale = stale.ledger;
    let began = Instant::now();
    while shared.sql(&format!("SELECT state FROM reservation WHERE id = {id}")) != "void" {
        assert!(began.elapsed() < PATIENCE, "it is not voided");
        sleep(Duration::from_millis(100)).await;
    }
    let taken = other.send(Ask { value: 2, ..ASK }).await.unwrap();
    assert_eq!(taken.nonce(), Some(0), "its nonce is free");
    let late = stale.record(sign(reserved)).await;
    assert!(matches!(late, Err(RecordError::Void)), "{late:?}");
    shared.is_whole(1).await;
    drop(folder);
}

#[tokio::test]
async fn one_key_is_one_payload_on_every_replica() {
    let shared = Shared::new();
    let (one, two) = (shared.replica().await, shared.replica().await);
    let keyed = Ask { key: Some("order-1"), ..ASK };
    let asked = join_all([&one, &two, &one, &two].map(|replica| replica.sends(keyed))).await;
    let hashes: BTreeSet<_> = asked.iter().map(Recorded::hash).collect();
    assert_eq!(hashes.len(), 1);
    let other = two.send(Ask { value: 2, ..keyed }).await.unwrap_err();
    assert!(matches!(other, ReserveError::KeyReused), "{other}");
    // Also where the replica that signed it is gone.
    one.close().await;
    let repeated = known(two.ledger.reserve(keyed.permitted(), Purpose::Send).await.unwrap());
    assert!(hashes.contains(&repeated.hash()));
    shared.is_whole(1).await;
}

#[tokio::test]
async fn inv_03_replicas_share_one_budget() {
    let shared = Shared::new();
    // A payment of ten wei costs 21,000 gas at 207 wei besides.
    let payment = 21_000 * 207 + 10;
    let max = format!("max = \"{} wei\"", payment * 7);
    let text = policy(&format!("[[budget]]\nid = \"b\"\nwindow = \"60s\"\nasset = \"ether\"\n{max}\n"));
    let replicas = [shared.replica().await, shared.replica().await];
    for replica in &replicas {
        replica.ledger.activate(Arc::clone(&text)).await.unwrap();
    }
    let one = async |replica: &Replica, ask: Ask| match replica
        .ledger
        .reserve(ask.judged(&text), Purpose::Send)
        .await
    {
        Ok(claim) => {
            replica.ledger.record(sign(fresh(claim))).await.unwrap();
            true
        }
        Err(ReserveError::OverBudget(_)) => false,
        Err(other) => panic!("{other}"),
    };
    let ten = Ask { value: 10, ..ASK };
    let done = join_all(replicas.iter().cycle().take(20).map(|replica| one(replica, ten))).await;
    assert_eq!(done.iter().filter(|done| **done).count(), 7);
    let used = usage(&shared.at(), text.limits(), Clock::system().now()).await.unwrap();
    assert_eq!(used[0].used, U256::from(7 * payment));
    shared.holds().await;
}

/// Their own clocks are hours off, to either side: what replicas share has the server's time.
#[tokio::test]
async fn inv_03_replicas_go_by_the_servers_clock_whatever_their_own_say() {
    let shared = Shared::new();
    let began = Clock::system().now().millis();
    let hours =
        |off: i64| Clock::set_to(Timestamp::from_millis(began.saturating_add_signed(off * 3_600_000)));
    let replica =
        async |off| shared.replica_by(hours(off), tempfile::tempdir().unwrap(), PATIENCE).await.unwrap();
    let (behind, ahead) = (replica(-5).await, replica(5).await);
    let reserved = behind.reserve(Ask { value: 1, ..ASK }).await;
    // It is not late by any clock that counts.
    ahead.send(Ask { value: 2, ..ASK }).await.unwrap();
    behind.ledger.record(sign(reserved)).await.unwrap();
    let rows = show(&shared.at(), &Filter::default()).await.unwrap();
    let about_now = began - 2_000..Clock::system().now().millis() + 2_000;
    assert!(rows.iter().all(|row| about_now.contains(&row.at.millis())), "{rows:?}");
    assert_eq!(
        shared.sql("SELECT count(*) FROM agreed WHERE lag_since IS NOT NULL"),
        "0",
        "no clock is behind"
    );
    shared.is_whole(2).await;
}

#[tokio::test]
async fn a_pause_holds_on_every_replica_from_its_commit_on() {
    let shared = Shared::new();
    let (one, two) = (shared.replica().await, shared.replica().await);
    let being_signed = fresh(two.ledger.reserve(ASK.permitted(), Purpose::Send).await.unwrap());
    let order = PauseOrder { scope: PauseScope::All, reason: None };
    assert!(one.ledger.pause(order.clone(), by()).await.unwrap());
    let late = two.ledger.record(sign(being_signed)).await;
    assert!(matches!(late, Err(RecordError::Paused(_))), "{late:?}");
    let refused = two.send(ASK).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Paused(_)), "{refused}");
    assert!(two.ledger.resume(order, by()).await.unwrap());
    one.send(ASK).await.unwrap();
    shared.is_whole(1).await;
}

#[tokio::test]
async fn a_replica_with_another_policy_signs_nothing() {
    let shared = Shared::new();
    let (one, two) = (shared.replica().await, shared.replica().await);
    let newer = Ask { policy: alloy_primitives::B256::repeat_byte(9), ..ASK };
    two.ledger.activate_policy(newer.policy, "newer").await.unwrap();
    let refused = one.send(ASK).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Ledger(LedgerError::OtherPolicy)), "{refused}");
    two.send(newer).await.unwrap();
    one.ledger.activate_policy(newer.policy, "newer").await.unwrap();
    one.send(Ask { value: 2, ..newer }).await.unwrap();
    shared.is_whole(2).await;
}

#[tokio::test]
async fn inv_13_connections_that_are_cut_are_made_again() {
    let shared = Shared::new();
    let replicas = [shared.replica().await, shared.replica().await];
    let cut = async {
        for _ in 0..5 {
            sleep(Duration::from_millis(150)).await;
            shared.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
        }
    };
    // Under keys: whoever is not told how it ended asks again.
    let keys: Vec<&'static str> = (0..40).map(|number| &*format!("order-{number}").leak()).collect();
    let one = async |(key, replica): (&&'static str, &Replica)| {
        sleep(Duration::from_millis(20 * u64::try_from(key.len()).unwrap())).await;
        let ask = Ask { key: Some(key), ..ASK };
        loop {
            match replica.ledger.reserve(ask.permitted(), Purpose::Send).await {
                Ok(crate::ledger::Claim::Known(recorded)) => return recorded,
                Ok(crate::ledger::Claim::Fresh(reserved)) => {
                    // A record that nobody heard of is told by the next question.
                    if let Ok(recorded) = replica.ledger.record(sign(reserved)).await {
                        return recorded;
                    }
                }
                Err(ReserveError::Ledger(_) | ReserveError::StillSigning) => {}
                Err(other) => panic!("{other}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let (sent, ()) = tokio::join!(join_all(keys.iter().zip(replicas.iter().cycle()).map(one)), cut);
    let hashes: BTreeSet<_> = sent.iter().map(Recorded::hash).collect();
    assert_eq!(hashes.len(), 40);
    shared.is_whole(40).await;
}

#[tokio::test]
async fn one_replica_leads_and_another_when_it_is_gone() {
    let shared = Shared::new();
    let one = shared.replica().await;
    let began = Instant::now();
    while !one.ledger.leads() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
    let two = shared.replica().await;
    two.send(ASK).await.unwrap();
    assert!(one.ledger.leads() && !two.ledger.leads());
    one.close().await;
    while !two.ledger.leads() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
    // What the other left is there for this one.
    assert_eq!(two.ledger.unsettled::<Tx>(CHAIN).await.unwrap().len(), 1);
}
