//! What a database can do to a ledger: go away, forget, lie about its disk, or be another.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::config;
use crate::ledger::charges::{self, Place};
use crate::ledger::tests::kit::{
    ASK, Ask, Desk, PATIENT, POLICY, START, config, fresh, policy, send, sign, sql,
};
use crate::ledger::tests::replicas::{PATIENCE, Shared, by};
use crate::ledger::tests::server::Server;
use crate::ledger::{
    Configuration, Final, Ledger, LedgerError, Location, Note, PauseOrder, PauseScope, Purpose, ReserveError,
    note_offline, usage, verify,
};
use crate::policy::Charge;
use crate::secret::SecretUrl;

/// A standby that nobody waits for becomes the primary, and had not heard everything.
#[tokio::test]
async fn a_server_that_lost_commits_is_noticed_and_nothing_is_signed_before_an_operator_resumes() {
    let shared = Shared::on(Arc::new(Server::start()));
    let replica = shared.replica().await;
    replica.send(ASK).await.unwrap();
    let standby = shared.server.standby();
    standby.has_heard();
    // Nobody starts on such a pair. Who ran before it was one sees it when it has happened.
    let refused = shared.replica_in(tempfile::tempdir().unwrap(), PATIENT).await.err().unwrap();
    assert!(refused.to_string().contains("synchronous_standby_names"), "{refused}");
    drop(standby);
    replica.send(Ask { value: 2, ..ASK }).await.unwrap();
    shared.server.fail_over();
    assert_eq!(shared.sql("SELECT count(*) FROM reservation"), "1", "a payload that was signed is forgotten");
    let began = Instant::now();
    let paused = loop {
        match replica.send(Ask { value: 3, ..ASK }).await {
            Err(ReserveError::Paused(paused)) => break paused,
            Err(ReserveError::Ledger(_)) if began.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(paused.scope, PauseScope::All));
    let why = replica.ledger.pauses().await.unwrap().remove(0);
    assert!(why.reason.unwrap().contains("written up to row"), "what is missing is said");
    // It does not open by itself.
    let folder = replica.close().await;
    let replica = shared.replica_in(folder, PATIENT).await.unwrap();
    assert!(matches!(replica.send(ASK).await, Err(ReserveError::Paused(_))));
    replica.ledger.resume(PauseOrder { scope: PauseScope::All, reason: None }, by()).await.unwrap();
    assert_eq!(replica.send(Ask { value: 4, mined: 2, ..ASK }).await.unwrap().nonce(), Some(2));
    replica.close().await;
    shared.holds().await;
}

/// Sums of ether pass 64 bits at 18 ether, and tokens come in any amount of 256 bits.
#[tokio::test]
async fn inv_03_amounts_are_exact_in_both_databases() {
    let shared = Shared::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let ten_ether = 10_000_000_000_000_000_000;
    let payment = U256::from(ten_ether) + U256::from(21_000 * 207);
    let text = policy("[[budget]]\nid = \"b\"\nwindow = \"1h\"\nasset = \"ether\"\nmax = \"25 ether\"\n");
    let limit = text.limits().next().unwrap();
    for (at, config) in [(Location::from(&file), config(&file)), (shared.at(), shared.config(&folder))] {
        let ledger = Ledger::open(&config, PATIENT, Clock::system()).await.unwrap();
        ledger.activate(Arc::clone(&text)).await.unwrap();
        let reserve = async |mined| {
            let ask = Ask { value: ten_ether, mined, ..ASK };
            ledger.reserve(ask.judged(&text), Purpose::Send).await
        };
        for mined in 0..2 {
            let sent = ledger.record(sign(fresh(reserve(mined).await.unwrap()))).await.unwrap();
            ledger.settled(sent.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
        }
        let refused = reserve(2).await.unwrap_err();
        assert!(matches!(refused, ReserveError::OverBudget(_)), "{at}: {refused}");
        let usage = async || usage(&at, [limit], Clock::system().now()).await.unwrap().remove(0);
        let spent = usage().await;
        assert_eq!(spent.used, payment * U256::from(2), "{at}");
        let charge = Charge { limit: Arc::clone(limit), scope: spent.scope, amount: U256::MAX - spent.used };
        charges::insert(&mut at.connect().await.unwrap(), (1, Place::Alone(1)), &charge).await.unwrap();
        assert_eq!(usage().await.used, U256::MAX, "{at}");
        ledger.close().await;
    }
}

/// Its start would succeed, and the first claim fail in words that nobody understands.
#[tokio::test]
async fn a_file_with_tables_of_another_version_is_not_opened() {
    for (pragma, why) in
        [("PRAGMA application_id = 0", "other tables"), ("PRAGMA user_version = 99", "newer version")]
    {
        let desk = Desk::open(PATIENT).await;
        desk.send(ASK).await.unwrap();
        let folder = desk.close().await;
        let file = folder.path().join("ledger.sqlite");
        verify(&file).await.unwrap().unwrap();
        sql(&file, pragma).await;
        let opened = Ledger::open(&config(&file), PATIENT, Clock::set_to(START)).await.map(drop);
        let note = Configuration { file: String::new(), hash: POLICY, text: String::new() };
        let note = Note::Configuration(note);
        let noted = note_offline(&config(&file), Clock::set_to(START), &note).await.map(drop);
        let verified = verify(&file).await.map(drop);
        for refused in [opened, noted, verified] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_database_that_cannot_keep_what_it_is_told_is_not_used() {
    let shared = Shared::on(Arc::new(Server::start()));
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    shared.server.psql("postgres", latin);
    let at = Location::Server(SecretUrl::parse_database(&shared.server.url("latin")).unwrap());
    let refused = at.create().await.err().unwrap();
    assert!(refused.to_string().contains("encoding is LATIN1"), "{refused}");

    shared.sql("ALTER SYSTEM SET fsync = off");
    shared.server.psql("postgres", "SELECT pg_reload_conf()");
    sleep(Duration::from_millis(500)).await;
    let refused = shared.replica_in(tempfile::tempdir().unwrap(), PATIENT).await.err().unwrap();
    assert!(refused.to_string().contains("fsync"), "{refused}");
    assert!(!refused.to_string().contains("host="), "the URL is not shown: {refused}");
}

#[tokio::test]
async fn a_server_elsewhere_is_reached_over_tls_and_proves_who_it_is() {
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (right, wrong) = (made(), made());
    let (server, port) = Server::with_tls(&right.cert.pem(), &right.signing_key.serialize_pem());
    let shared = Shared::on(Arc::new(server));
    let folder = tempfile::tempdir().unwrap();
    for (name, certificate) in [("right", &right), ("wrong", &wrong)] {
        std::fs::write(folder.path().join(name), certificate.cert.pem()).unwrap();
    }
    let open = async |trusted: &str| {
        let trusted = folder.path().join(trusted);
        let options = format!("sslmode=verify-full&sslrootcert={}", trusted.display());
        let url = format!("postgres://chancery@localhost:{port}/{}?{options}", shared.database);
        let url = Some(SecretUrl::parse_database(&url).unwrap());
        let config = config::Ledger { url, ..config(&folder.path().join("ledger")) };
        Ledger::open(&config, PATIENT, Clock::system()).await
    };
    let refused = open("wrong").await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let ledger = open("right").await.unwrap();
    ledger.activate_policy(POLICY, "allow all").await.unwrap();
    send(&ledger, ASK).await.unwrap();
    assert_eq!(shared.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"), "t");
    ledger.close().await;
}

#[tokio::test]
async fn inv_13_a_server_that_crashes_means_refuse_and_recover() {
    let shared = Shared::on(Arc::new(Server::start()));
    let replica = shared.replica().await;
    replica.send(ASK).await.unwrap();
    shared.server.crash();
    let refused = replica.send(Ask { value: 2, ..ASK }).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Ledger(LedgerError::Unavailable(_))), "{refused}");
    assert!(replica.ledger.ready().await.is_err());
    shared.server.run();
    assert_eq!(replica.sends(Ask { value: 2, ..ASK }).await.nonce(), Some(1));
    shared.is_whole(2).await;
}

/// A commit that outlasts our patience while the server lets nobody in: what is half done there stays half done.
#[tokio::test]
async fn inv_10_a_connection_in_the_middle_of_a_commit_is_never_used_again() {
    let shared = Shared::new();
    let replica = shared.replica().await;
    // Each statement is within its time, all of them are not.
    shared.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(4.4); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON reservation FOR EACH ROW
             WHEN (NEW.client = 'bob') EXECUTE FUNCTION slow();
         CREATE TRIGGER slow BEFORE INSERT ON audit FOR EACH ROW
             WHEN (NEW.body LIKE '%bob%') EXECUTE FUNCTION slow();",
    );
    let open = |is_open: bool| {
        let statement = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {is_open}", shared.database);
        shared.server.psql("postgres", &statement);
    };
    open(false);
    let bob = Ask { client: "bob", ..ASK };
    let refused = replica.send(bob).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Ledger(LedgerError::Unavailable(_))), "{refused:?}");
    replica.send(ASK).await.expect_err("on which connection?");
    open(true);
    let began = Instant::now();
    let sent = loop {
        match replica.send(ASK).await {
            Err(ReserveError::Ledger(_)) if began.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50)).await;
            }
            sent => break sent.unwrap(),
        }
    };
    assert_eq!((sent.nonce(), shared.sql("SELECT count(*) FROM reservation")), (Some(0), "1".to_owned()));
    replica.close().await;
    shared.holds().await;
}
