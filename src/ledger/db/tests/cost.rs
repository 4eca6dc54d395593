//! What a transaction costs the writer of a file.

use std::sync::{Arc, Mutex};

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use crate::ledger::db::Db;
use crate::ledger::tests::kit::{ASK, Ask, PATIENT, connect, fresh, policy, sign, turn, writer};
use crate::ledger::{Final, Ledger, Outcome, Purpose};

/// The statements that a writer runs.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn hear(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        SAID.lock().unwrap().push(statement.sql().into_owned());
    }
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
            let Db::File(file) = &mut writer.db else { panic!("it is a file") };
            file.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(hear));
        }
        let ask = Ask { mined, ..ASK };
        let claim = ledger.reserve(ask.judged(&policy), Purpose::Send);
        let signed = sign(fresh(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap()));
        let sent = tokio::join!(ledger.record(signed), turn(&mut writer, &mut queue)).0.unwrap();
        tokio::join!(ledger.outcome(sent.id(), Outcome::Accepted), turn(&mut writer, &mut queue)).0.unwrap();
        let mined = Final::Mined { block: 1, succeeded: true };
        tokio::join!(ledger.settled(sent.id(), mined), turn(&mut writer, &mut queue)).0.unwrap();
    }
    let said = std::mem::take(&mut *SAID.lock().unwrap());
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
