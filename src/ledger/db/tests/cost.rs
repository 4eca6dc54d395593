//! What a transaction costs the writer of a file.

use std::cell::RefCell;
use std::sync::Arc;

use futures_util::future::join_all;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use crate::ledger::db::Db;
use crate::ledger::tests::kit::{
    ASK, Ask, CHAIN, PATIENT, address, connect, fresh, policy, sign, turn, writer,
};
use crate::ledger::writer::Writer;
use crate::ledger::{Final, Ledger, Outcome, Purpose};

thread_local! {
    /// The statements that this thread's writer runs.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn hear(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        SAID.with_borrow_mut(|said| said.push(statement.sql().into_owned()));
    }
}

fn listen(writer: &mut Writer) {
    let Db::File(file) = &mut writer.db else { panic!("it is a file") };
    file.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(hear));
}

/// A list of more than two values, a union, an order that no index has: each is a table to SQLite, which it makes and throws
/// away. Thirteen of them took half of a transaction's time.
#[tokio::test]
async fn what_every_transaction_does_makes_no_tables_to_throw_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let mut writer = writer(&file).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let policy = policy("[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"1h\"\n");
    tokio::join!(ledger.activate(Arc::clone(&policy)), turn(&mut writer, &mut queue)).0.unwrap();
    for mined in 0..2 {
        // What is known of an account is read once.
        if mined == 1 {
            listen(&mut writer);
        }
        let ask = Ask { mined, ..ASK };
        let claim = ledger.reserve(ask.judged(&policy), Purpose::Send);
        let signed = sign(fresh(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap()));
        let sent = tokio::join!(ledger.record(signed), turn(&mut writer, &mut queue)).0.unwrap();
        tokio::join!(ledger.outcome(&sent, Outcome::Accepted), turn(&mut writer, &mut queue)).0.unwrap();
        let mined = Final::Mined { block: 1, succeeded: true };
        tokio::join!(ledger.settled(sent.id(), mined), turn(&mut writer, &mut queue)).0.unwrap();
    }
    let said = SAID.take();
    for some in
        ["INSERT INTO reservation", "SET state = 'recorded'", "SET state = 'final'", "INSERT INTO audit"]
    {
        assert!(said.iter().any(|said| said.contains(some)), "{some}: {said:#?}");
    }
    let Db::File(file) = connect(&file).await else { panic!("it is a file") };
    for said in said {
        let mut plan = file.prepare(&format!("EXPLAIN {said}")).unwrap();
        // Its arguments are nothing.
        let mut steps = plan.raw_query();
        while let Some(row) = steps.next().unwrap() {
            let step: String = row.get("opcode").unwrap();
            let makes = ["OpenEphemeral", "OpenAutoindex", "SorterOpen"].contains(&step.as_str());
            assert!(!makes, "{step}: {said}");
        }
    }
}

/// It is done every second for each account: all that is open of it may be thousands of rows. What is found is the same.
#[tokio::test]
async fn a_look_for_gaps_reads_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    let activated = ledger.activate_policy(ASK.policy, "allow all");
    tokio::join!(activated, turn(&mut writer, &mut queue)).0.unwrap();
    // None of it is final yet, and the first of it is let go of.
    for mined in (0..1_250).step_by(50) {
        let ask = Ask { mined, ..ASK };
        let claims = join_all((0..50).map(|_| ledger.reserve(ask.permitted(), Purpose::Send)));
        let (claims, ()) = tokio::join!(claims, turn(&mut writer, &mut queue));
        let records = claims.into_iter().map(|claim| ledger.record(sign(fresh(claim.unwrap()))));
        tokio::join!(join_all(records), turn(&mut writer, &mut queue));
    }
    listen(&mut writer);
    for (mined, reads) in [(None, false), (Some(0), true)] {
        let gaps = ledger.gaps(CHAIN, address(ASK.seed), mined);
        let (gaps, ()) = tokio::join!(gaps, turn(&mut writer, &mut queue));
        assert!(gaps.unwrap().is_empty());
        let said = SAID.take();
        assert_eq!(said.iter().any(|said| said.contains("FROM reservation")), reads, "{mined:?}: {said:#?}");
    }

    // One of two is not signed.
    let ask = Ask { mined: 1_200, ..ASK };
    let claims = join_all((0..2).map(|_| ledger.reserve(ask.permitted(), Purpose::Send)));
    let (claims, ()) = tokio::join!(claims, turn(&mut writer, &mut queue));
    let [first, second] = claims.try_into().unwrap();
    let (void, record) =
        (ledger.void(fresh(first.unwrap()).id(), "late"), ledger.record(sign(fresh(second.unwrap()))));
    let (voided, recorded, ()) = tokio::join!(void, record, turn(&mut writer, &mut queue));
    assert_eq!((voided.is_ok(), recorded.unwrap().nonce()), (true, Some(1_251)));
    for mined in [None, Some(0), Some(1_200), None] {
        let gaps = ledger.gaps(CHAIN, address(ASK.seed), mined);
        let (gaps, ()) = tokio::join!(gaps, turn(&mut writer, &mut queue));
        assert_eq!(gaps.unwrap(), [1_250], "{mined:?}");
    }
}
