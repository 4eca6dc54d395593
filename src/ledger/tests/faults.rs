//! A disk that is full and writes that fail: nothing is signed meanwhile, and afterwards all is as before.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::ledger::command::Command;
use crate::ledger::db::{batch, query};
use crate::ledger::tests::kit::{ASK, Ask, CHAIN, Desk, PATIENT, START, address, fresh, sign, turn, writer};
use crate::ledger::writer::Writer;
use crate::ledger::{Ledger, LedgerError, Purpose, RecordError, ReserveError, verify};

const FAIL: &str = "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no more'); END";
const MEND: &str = "DROP TRIGGER broken";

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_when_there_is_space_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let mut writer = writer(&file).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let queue = &mut queue;
    let policy = ledger.activate_policy(ASK.policy, "allow all");
    tokio::join!(policy, turn(&mut writer, queue)).0.unwrap();

    let pages = query("PRAGMA page_count").number(&mut writer.db).await.unwrap();
    limit(&mut writer, pages).await;
    let mut refused = None;
    // SQLite finds room in the pages that it has, and then none.
    for seed in 1..99 {
        let claim = ledger.reserve(Ask { seed, ..ASK }.permitted(), Purpose::Send);
        if let Err(error) = tokio::join!(claim, turn(&mut writer, queue)).0 {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the disk is never full");
    let said = refused.to_string();
    assert!(matches!(refused, ReserveError::Ledger(LedgerError::Unavailable(_))), "{said}");
    assert!(said.contains("full"), "{said}");
    let again = ledger.reserve(Ask { seed: 100, ..ASK }.permitted(), Purpose::Send);
    assert!(tokio::join!(again, turn(&mut writer, queue)).0.is_err(), "it is still full");

    limit(&mut writer, pages.saturating_mul(100)).await;
    let claim = ledger.reserve(Ask { seed: 100, ..ASK }.permitted(), Purpose::Send);
    let claim = tokio::join!(claim, turn(&mut writer, queue)).0.unwrap();
    let recorded = ledger.record(sign(fresh(claim)));
    assert_eq!(tokio::join!(recorded, turn(&mut writer, queue)).0.unwrap().nonce(), Some(0));
    drop(writer);
    let desk = Desk::at(folder, PATIENT, START).await.unwrap();
    assert!(verify(&desk.file).await.unwrap().is_ok());
}

async fn limit(writer: &mut Writer, pages: i64) {
    batch(&mut writer.db, &format!("PRAGMA max_page_count = {pages}")).await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_signs_nothing_and_costs_no_nonce() {
    let desk = Desk::open(Duration::from_millis(400)).await;
    desk.send(ASK).await.unwrap();
    let signing = desk.reserve(Ask { value: 2, ..ASK }).await;
    desk.sql(FAIL).await;
    let claim = desk.ledger.reserve(Ask { seed: 2, ..ASK }.permitted(), Purpose::Send).await;
    assert!(matches!(claim, Err(ReserveError::Ledger(LedgerError::Unavailable(_)))), "{claim:?}");
    // Signed, but nobody can say whether it is recorded: it does not leave.
    let signed = sign(signing);
    let sealed = signed.sealed().hash;
    let recorded = desk.ledger.record(signed).await.unwrap_err();
    assert!(matches!(recorded, RecordError::Unknown { hash, .. } if hash == sealed), "{recorded:?}");
    assert!(recorded.to_string().contains(&sealed.to_string()), "{recorded}");
    assert_eq!(desk.states().await, ["recorded", "reserved"]);

    desk.sql(MEND).await;
    sleep(Duration::from_millis(1800)).await;
    assert_eq!(desk.states().await, ["recorded", "void"], "without anybody's asking");
    assert_eq!(desk.send(Ask { value: 3, ..ASK }).await.unwrap().nonce(), Some(1));
    assert_eq!(desk.send(Ask { seed: 2, ..ASK }).await.unwrap().nonce(), Some(0));
    assert!(verify(&desk.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_claim_that_waits_is_told_at_once_when_writing_fails() {
    let desk = Desk::open(PATIENT).await;
    let _signing = desk.reserve(ASK).await;
    let fail = async {
        sleep(Duration::from_millis(100)).await;
        desk.sql(FAIL).await;
        desk.send(Ask { seed: 2, ..ASK }).await.unwrap_err();
    };
    let both = async { tokio::join!(desk.send(Ask { nonce: Some(1), ..ASK }), fail).0 };
    let waited = tokio::time::timeout(Duration::from_secs(1), both).await.unwrap();
    assert!(matches!(waited, Err(ReserveError::Ledger(LedgerError::Unavailable(_)))), "{waited:?}");
}

#[tokio::test]
async fn a_record_whose_commit_seemed_lost_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let policy = ledger.activate_policy(ASK.policy, "allow all");
    tokio::join!(policy, turn(&mut writer, &mut queue)).0.unwrap();
    let claim = tokio::join!(ledger.reserve(ASK.permitted(), Purpose::Send), turn(&mut writer, &mut queue)).0;
    let signed = sign(fresh(claim.unwrap()));

    let lose_the_answer = async {
        let mut batch = Vec::new();
        queue.recv_many(&mut batch, 256).await;
        let Some(Command::Record { id, kind, has_nonce, raw, hash, reply }) = batch.pop() else {
            panic!("no record")
        };
        let (unheard, _) = tokio::sync::oneshot::channel();
        writer.group(vec![Command::Record { id, kind, has_nonce, raw, hash, reply: unheard }], false).await;
        drop(reply);
        turn(&mut writer, &mut queue).await; // what became of it?
    };
    let recorded = tokio::join!(ledger.record(signed), lose_the_answer).0.unwrap();
    assert_eq!(recorded.nonce(), Some(0), "whichever row exists wins");
}

#[tokio::test]
async fn inv_10_a_record_of_which_nobody_heard_is_unknown_and_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let policy = ledger.activate_policy(ASK.policy, "allow all");
    tokio::join!(policy, turn(&mut writer, &mut queue)).0.unwrap();
    let claim = tokio::join!(ledger.reserve(ASK.permitted(), Purpose::Send), turn(&mut writer, &mut queue)).0;
    let signed = sign(fresh(claim.unwrap()));

    let lose_both_answers = async {
        for _ in 0..2 {
            let mut batch = Vec::new();
            queue.recv_many(&mut batch, 256).await;
            match batch.pop().unwrap() {
                Command::Record { id, kind, has_nonce, raw, hash, reply } => {
                    let (unheard, _) = tokio::sync::oneshot::channel();
                    writer
                        .group(
                            vec![Command::Record { id, kind, has_nonce, raw, hash, reply: unheard }],
                            false,
                        )
                        .await;
                    drop(reply);
                }
                void => drop(void),
            }
        }
    };
    let recorded = tokio::join!(ledger.record(signed), lose_both_answers).0;
    assert!(
        matches!(recorded, Err(RecordError::Unknown { .. })),
        "it is in the ledger, and will be sent: {recorded:?}"
    );
}

#[tokio::test]
async fn inv_12_questions_for_a_nonce_leave_room_for_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, queue) = Ledger::over(&writer, PATIENT);
    for _ in 0..5000 {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.next_nonce(CHAIN, address(1), 0).await });
    }
    let mut asked = 0;
    while queue.len() > asked || asked == 0 {
        asked = queue.len();
        sleep(Duration::from_millis(200)).await;
    }
    let claim = ledger.reserve(ASK.permitted(), Purpose::Send);
    let waits = tokio::time::timeout(Duration::from_millis(50), claim).await;
    assert!(waits.is_err(), "behind {asked} questions it is refused and not queued: {waits:?}");
}

#[tokio::test]
async fn ready_means_that_it_can_be_written() {
    let desk = Desk::open(PATIENT).await;
    desk.ledger.ready().await.unwrap();
    desk.ledger.ready().await.unwrap();
    let writes: i64 = {
        let mut db = crate::ledger::tests::kit::connect(&desk.file).await;
        query("SELECT at FROM probe").number(&mut db).await.unwrap()
    };
    assert_eq!(u64::try_from(writes).unwrap(), START.millis() + 1, "each time it wrote");
    desk.sql("CREATE TRIGGER broken BEFORE UPDATE ON probe BEGIN SELECT RAISE(ABORT, 'no more'); END").await;
    desk.ledger.ready().await.unwrap_err();
    desk.sql(MEND).await;
    desk.ledger.ready().await.unwrap();
}

/// The commit fails after a reservation in it was as good as handed over. Its number is the next one's.
#[tokio::test]
async fn inv_02_a_reservation_that_was_never_committed_voids_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let policy = ledger.activate_policy(ASK.policy, "allow all");
    tokio::join!(policy, turn(&mut writer, &mut queue)).0.unwrap();
    let no_bob = "CREATE TRIGGER broken BEFORE INSERT ON reservation WHEN NEW.client = 'bob' BEGIN SELECT RAISE(ABORT, 'no more'); END";
    batch(&mut writer.db, no_bob).await.unwrap();
    // The third stands in the queue already, before anything that the failure could put there.
    let claims = ["alice", "bob", "carol"].map(|client| Ask { client, ..ASK }.permitted());
    let claims = claims.map(|claim| ledger.reserve(claim, Purpose::Send));
    let turns = async {
        for many in [2, 1, 16] {
            let mut some = Vec::new();
            while some.len() < many
                && let Ok(command) = queue.try_recv()
            {
                some.push(command);
            }
            writer.group(some, false).await;
        }
    };
    let (claims, ()) = tokio::join!(join_all(claims), turns);
    let [alice, bob, carol] = <[_; 3]>::try_from(claims).unwrap();
    assert!(alice.is_err() && bob.is_err(), "one commit, one end: {alice:?}, {bob:?}");
    let reserved = fresh(carol.unwrap());
    let recorded = ledger.record(sign(reserved));
    assert_eq!(tokio::join!(recorded, turn(&mut writer, &mut queue)).0.unwrap().nonce(), Some(0));
}

#[tokio::test]
async fn a_writer_that_breaks_down_is_closed_and_not_silent() {
    let desk = Desk::open(PATIENT).await;
    desk.ledger.break_down(ASK.permitted()).await;
    desk.ledger.ready().await.unwrap_err();
    let folder = desk.close().await;
    Desk::at(folder, PATIENT, START).await.unwrap().send(ASK).await.unwrap();
}
