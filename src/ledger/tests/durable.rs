//! What is on the disk when, and what a restart makes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use alloy_primitives::B256;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, Timestamp};
use crate::ledger::db::query;
use crate::ledger::tests::kit::{
    ASK, Ask, Desk, PATIENT, POLICY, START, address, config, connect, fresh, send, sign,
};
use crate::ledger::{
    Administration, Filter, Ledger, LedgerError, PauseOrder, PauseScope, Purpose, RecordError, ReserveError,
    show, verify,
};

#[tokio::test]
async fn inv_01_the_intent_is_on_the_disk_before_the_token_is_asked() {
    let desk = Desk::open(PATIENT).await;
    let reserved = desk.reserve(ASK).await;
    let left = desk.killed();
    let intents = Filter { kind: Some("intent".to_owned()), ..Filter::default() };
    let rows = show(&left.path().join("ledger.sqlite"), &intents).await.unwrap();
    let [intent] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(intent.body.contains(&reserved.digest().to_string()), "{}", intent.body);
    assert!(intent.body.contains(&address(1).to_string().to_lowercase()), "{}", intent.body);
}

#[tokio::test]
async fn inv_01_what_is_recorded_is_on_the_disk_before_it_may_leave() {
    let desk = Desk::open(PATIENT).await;
    let recorded = desk.send(ASK).await.unwrap();
    let restarted = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    let open = restarted.live().await;
    let [again] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((again.id(), again.raw(), again.hash()), (recorded.id(), recorded.raw(), recorded.hash()));
    assert_eq!((again.nonce(), again.from()), (recorded.nonce(), recorded.from()));
}

#[tokio::test]
async fn inv_02_a_restart_voids_what_was_not_recorded() {
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    let lost = desk.reserve(Ask { value: 2, ..ASK }).await;
    let restarted = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    assert_eq!(restarted.states().await, ["recorded", "void"]);
    let late = restarted.ledger.record(sign(lost)).await;
    assert!(matches!(late, Err(RecordError::Void)), "{late:?}");
    assert_eq!(restarted.send(Ask { value: 3, ..ASK }).await.unwrap().nonce(), Some(1));
    assert!(verify(&restarted.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn inv_02_a_late_record_is_refused_and_its_nonce_is_anothers() {
    let desk = Desk::open(Duration::from_millis(200)).await;
    let slow = desk.reserve(ASK).await;
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(1), "nobody waits for it");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(desk.send(Ask { value: 3, ..ASK }).await.unwrap().nonce(), Some(0));
    let late = desk.ledger.record(sign(slow)).await;
    assert!(matches!(late, Err(RecordError::Void)), "{late:?}");
    assert_eq!(desk.states().await, ["void", "recorded", "recorded"]);
}

#[tokio::test]
async fn inv_13_a_reservation_that_is_dropped_is_voided_whatever_the_clock_does() {
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    // The wall clock is two hours behind what the ledger has seen.
    let behind = Timestamp::from_millis(START.millis() - 7_200_000);
    let desk = Desk::at(desk.close().await, Duration::from_millis(200), behind).await.unwrap();
    drop(desk.reserve(Ask { value: 2, ..ASK }).await);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(desk.states().await, ["recorded", "void"]);
    let rows = show(&desk.file, &Filter::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.at == START), "time does not run backwards: {rows:?}");
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_takes_no_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let mut writer = crate::ledger::tests::kit::writer(&file).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let policy = ledger.activate_policy(POLICY, "allow all");
    let in_force = async {
        let command = queue.recv().await.unwrap();
        writer.group(vec![command], false).await;
    };
    tokio::join!(policy, in_force).0.unwrap();
    {
        let mut gone = std::pin::pin!(ledger.reserve(ASK.permitted(), Purpose::Send));
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
    }
    let mut work = Vec::new();
    queue.recv_many(&mut work, 8).await;
    writer.group(work, false).await;
    let reserved = query("SELECT count(*) FROM reservation").number(&mut writer.db).await.unwrap();
    assert_eq!(reserved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_13_whenever_a_task_goes_away_its_nonce_is_soon_free() {
    let desk = Desk::open(PATIENT).await;
    let began = Instant::now();
    let first = desk.ledger.reserve(Ask { seed: 100, ..ASK }.permitted(), Purpose::Send).await.unwrap();
    let usual = began.elapsed();
    let mut fates = vec![true];
    // Up to twice the time that one took, in steps that no timer has.
    for seed in 1..=60_u8 {
        let claim = desk.ledger.reserve(Ask { seed, ..ASK }.permitted(), Purpose::Send);
        let patience = usual * u32::from(seed) / 30;
        let gives_up = async {
            let began = Instant::now();
            while began.elapsed() < patience {
                tokio::task::yield_now().await;
            }
        };
        let is_taken = tokio::select! {
            biased;
            _ = claim => true,
            () = gives_up => false,
        };
        fates.push(is_taken);
    }
    let taken = fates.iter().filter(|is_taken| **is_taken).count();
    drop(first);
    let began = Instant::now();
    let states = loop {
        let states = desk.states().await;
        let kept = states.iter().filter(|state| *state == "reserved").count();
        if kept == taken {
            break states;
        }
        assert!(began.elapsed() < PATIENT, "only what a task holds is reserved, {taken}: {states:?}");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(taken < 61 && states.len() > taken, "some went away in time, some too late: {states:?}");
}

/// What was tried out as the account's next is signed as that, or judged again.
#[tokio::test]
async fn inv_04_what_is_permitted_for_one_nonce_gets_no_other() {
    let desk = Desk::open(PATIENT).await;
    let only_at = |nonce| ASK.permitted().only_at_for_test(nonce);
    let refused = desk.ledger.reserve(only_at(1), Purpose::Send).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Moved), "{refused:?}");
    let first = fresh(desk.ledger.reserve(only_at(0), Purpose::Send).await.unwrap());
    // Somebody was quicker.
    let other = Ask { value: 2, ..ASK }.permitted().only_at_for_test(0);
    let refused = desk.ledger.reserve(other, Purpose::Send).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Moved), "{refused:?}");
    desk.ledger.record(sign(first)).await.unwrap();
}

#[tokio::test]
async fn a_claim_judged_by_an_older_policy_is_judged_again() {
    let desk = Desk::open(PATIENT).await;
    let stale = Ask { policy: B256::repeat_byte(8), ..ASK };
    let refused = desk.send(stale).await.unwrap_err();
    assert!(matches!(refused, ReserveError::PolicyChanged), "{refused:?}");

    // Also one that waited while the policy was replaced.
    let signing = desk.reserve(ASK).await;
    let replace = async {
        sleep(Duration::from_millis(100)).await;
        desk.ledger.activate_policy(stale.policy, "deny all").await.unwrap();
        desk.ledger.record(sign(signing)).await.unwrap();
    };
    let waits = desk.send(Ask { nonce: Some(1), ..ASK });
    let (waited, ()) = tokio::join!(waits, replace);
    assert!(matches!(waited, Err(ReserveError::PolicyChanged)), "{waited:?}");
    desk.send(stale).await.unwrap();
    assert!(verify(&desk.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_has_closed() {
    let desk = Desk::open(PATIENT).await;
    let second = Ledger::open(&config(&desk.file), PATIENT, Clock::set_to(START)).await;
    assert!(matches!(second, Err(LedgerError::Locked(_))), "{second:?}");
    desk.send(ASK).await.unwrap();
    let still_held = desk.ledger.clone();
    let folder = desk.close().await;
    Desk::at(folder, PATIENT, START).await.unwrap();
    assert!(still_held.ready().await.is_err(), "a closed ledger writes no more");
}

#[tokio::test]
async fn only_its_own_user_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ledger.sqlite"), []).unwrap();
    let desk = Desk::at(folder, PATIENT, START).await.unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let name = format!("{}{suffix}", desk.file.display());
        let mode = std::fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn who_asks_at_once_shares_a_commit() {
    let desk = Desk::open(PATIENT).await;
    let before = commits(&desk);
    let claims = (1..=64).map(|seed| desk.ledger.reserve(Ask { seed, ..ASK }.permitted(), Purpose::Send));
    let claims = join_all(claims).await;
    let records = claims.into_iter().map(|claim| desk.ledger.record(sign(fresh(claim.unwrap()))));
    for recorded in join_all(records).await {
        recorded.unwrap();
    }
    let commits = commits(&desk).checked_sub(before).unwrap();
    assert!((2..=8).contains(&commits), "{commits} commits for 64 reservations and 64 records");
}

/// The commits in the write-ahead log: its frames that carry a database size.
fn commits(desk: &Desk) -> usize {
    let log = std::fs::read(format!("{}-wal", desk.file.display())).unwrap();
    let frames = log.get(32..).unwrap_or_default().chunks_exact(24 + 4096);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn every_commit_is_synced() {
    let desk = Desk::open(PATIENT).await;
    let mut other = connect(&desk.file).await;
    let mode = query("PRAGMA journal_mode").fetch_one(&mut other).await.unwrap();
    let mode: String = mode.get("journal_mode").unwrap();
    assert_eq!(mode, "wal");
    let folder = desk.close().await;
    let mut writer = crate::ledger::tests::kit::writer(&folder.path().join("ledger.sqlite")).await;
    let full = query("PRAGMA synchronous").number(&mut writer.db).await.unwrap();
    assert_eq!(full, 2);
}

#[tokio::test]
async fn a_file_that_was_put_back_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let open = async || {
        let ledger = Ledger::open(&config(&file), PATIENT, Clock::system()).await.unwrap();
        ledger.activate_policy(POLICY, "allow all").await.unwrap();
        ledger
    };
    let ledger = open().await;
    ledger.close().await;
    let backup = std::fs::read(&file).unwrap();
    let ledger = open().await;
    send(&ledger, ASK).await.unwrap();
    ledger.close().await;
    std::fs::write(&file, backup).unwrap();
    let ledger = open().await;
    assert!(matches!(send(&ledger, ASK).await, Err(ReserveError::Paused(_))));
    let by =
        Administration { operator: "ops".to_owned(), person: "Grace".to_owned(), request: String::new() };
    ledger.resume(PauseOrder { scope: PauseScope::All, reason: None }, by).await.unwrap();
    send(&ledger, Ask { mined: 1, ..ASK }).await.unwrap();
    ledger.close().await;
    verify(&file).await.unwrap().unwrap();
}
