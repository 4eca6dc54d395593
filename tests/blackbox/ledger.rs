//! What is kept, through crashes, full disks and meddling.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{FRIEND, FailingCalls, Fault, Gateway, STRANGER, SmallDisk, World, eventually};

#[tokio::test]
async fn every_request_for_a_signature_is_in_the_audit_which_verifies() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let hash = trader.send(gateway.payment(1)).await.unwrap();
    let mut stranger = gateway.payment(1);
    stranger["to"] = json!(STRANGER);
    trader.send(stranger).await.unwrap_err();
    gateway.client("intern").send(gateway.payment(1)).await.unwrap_err();
    trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();

    let text = json!(gateway.audit().await).to_string();
    for what in [
        hash.as_str().unwrap(),
        "pay-friend",
        "greet",
        "transaction_denied",
        "account_not_available",
        "intern",
    ] {
        assert!(text.contains(what), "{what} is not in {text}");
    }
    let verified = gateway.chancery(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test]
async fn a_request_whose_batch_took_too_long_is_in_the_audit_too() {
    let gateway = Gateway::start().await;
    // Each waits two seconds for a nonce below it that does not come; after eight seconds none is begun any more.
    let calls: Vec<_> = (1..=6)
        .map(|id| {
            let mut payment = gateway.payment(1);
            payment["nonce"] = json!(format!("{:#x}", 10 * id));
            json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendTransaction", "params": [payment] })
        })
        .collect();
    let answers = gateway.client("trader").post(json!(calls).to_string()).await.json();
    let codes: Vec<_> = (0..6).map(|at| answers[at]["error"]["data"]["code"].as_str().unwrap()).collect();
    assert_eq!((codes[0], codes[5]), ("nonce_gap", "busy"), "{codes:?}");
    let refused = gateway.audit().await.into_iter().filter(|row| row["kind"] == "refusal").count();
    assert_eq!(refused, 6);
}

#[tokio::test]
async fn inv_14_an_edited_a_deleted_and_a_cut_audit_are_noticed() {
    let mut gateway = Gateway::start().await;
    for wei in 1..=4 {
        gateway.client("trader").send(gateway.payment(wei)).await.unwrap();
    }
    gateway.kill().await;
    let ledger = gateway.folder().join("ledger.sqlite");
    let good = keep(&ledger);
    for change in [
        "UPDATE audit SET body = replace(body, 'trader', 'intern')",
        "UPDATE audit SET at = at + 1 WHERE seq = 4",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit SET seq = -seq WHERE seq IN (3, 4); UPDATE audit SET seq = 7 + seq WHERE seq < 0",
    ] {
        put_back(&good, &ledger);
        meddle(&ledger, change);
        let verified = gateway.chancery(&["audit", "verify"]).await;
        assert_eq!(verified.code, Some(3), "{change}: {verified:?}");
    }
    put_back(&good, &ledger);
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_02_after_a_crash_nothing_is_lost_and_nothing_is_doubled() {
    let mut gateway = World::new().await.counting().start().await;
    let mut paid: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0_u64..4 {
        // Each amount once, so that a payment made twice would show.
        let amounts: Vec<u64> = (1..=6).map(|number| round * 10 + number).collect();
        let sends: Vec<_> = amounts
            .iter()
            .map(|wei| {
                let (trader, payment, wei) = (gateway.client("trader"), gateway.payment(*wei), *wei);
                tokio::spawn(async move { (wei, trader.try_send(payment).await) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(5 + 25 * round)).await;
        gateway.kill().await;
        for send in sends {
            if let (wei, Some(Ok(Value::String(hash)))) = send.await.unwrap() {
                paid.insert(hash, wei);
            }
        }
        gateway.restart().await;
    }
    gateway.client("trader").send(gateway.payment(1000)).await.unwrap();
    gateway.settled().await;

    // Whoever got a hash was paid; nobody was paid twice; no nonce is missing.
    for (hash, wei) in &paid {
        assert_eq!(gateway.node().transaction(&json!(hash)).await["value"], format!("{wei:#x}"), "{hash}");
    }
    // Where several were killed at the token, the nonces of some are filled by transfers of nothing, which no budget counts.
    let mut mined = gateway.node().sent_by(gateway.treasury()).await;
    mined.retain(|transaction| transaction["value"] != "0x0");
    let values: BTreeSet<_> = mined.iter().map(|transaction| transaction["value"].to_string()).collect();
    assert_eq!(values.len(), mined.len(), "a payment was made twice: {mined:#?}");
    assert!(mined.len() > paid.len(), "{} mined, {} answered", mined.len(), paid.len());
    gateway.has_counted(mined.len().try_into().unwrap()).await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_10_what_was_recorded_and_not_sent_is_sent_after_a_restart_with_the_same_bytes() {
    let mut gateway = Gateway::start().await;
    gateway.node().fail("eth_sendRawTransaction", Fault::Drop);
    let hash = gateway.client("trader").send(gateway.payment(9)).await.unwrap();
    assert_eq!(gateway.node().transaction(&hash).await, Value::Null);
    gateway.kill().await;
    gateway.node().heal();
    gateway.restart().await;

    gateway.settled().await;
    assert_eq!(gateway.node().transaction(&hash).await["value"], "0x9");
    let raw: BTreeSet<_> = gateway
        .node()
        .calls_of("eth_sendRawTransaction")
        .iter()
        .map(|call| call.params.to_string())
        .collect();
    assert_eq!(raw.len(), 1, "{raw:?}");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_ledger_refuses_to_start() {
    let gateway = Gateway::start().await;
    let end = gateway.rival().await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("ledger"), "{}", end.stderr);
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

#[tokio::test]
async fn inv_01_on_a_full_disk_nothing_is_signed_and_with_room_it_goes_on() {
    let disk = SmallDisk::new();
    let ledger = disk.path().join("ledger.sqlite");
    // No headroom: the disk is to be full to the last byte.
    let world = World::new().await.counting();
    let world = world.replace("\"ledger.sqlite\"", &format!("{ledger:?}\nmin_free = \"0\""));
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    gateway.settled().await;

    disk.fill(gateway.pid());
    let refused = trader.send(gateway.payment(2)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("ledger_unavailable")), "{refused:?}");
    let hello = json!(["0x68656c6c6f", gateway.treasury()]);
    let refused = trader.call("personal_sign", hello).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("ledger_unavailable")), "{refused:?}");
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), 1);
    // Reads need no ledger.
    assert!(trader.call("eth_getBalance", json!([FRIEND, "latest"])).await.is_ok());

    disk.clear(gateway.pid());
    let hash = eventually("a payment", async || trader.send(gateway.payment(3)).await.ok()).await;
    assert_eq!(gateway.node().transaction(&hash).await["nonce"], "0x1");
    gateway.has_counted(2).await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_13_while_writes_fail_nothing_is_signed_and_then_it_goes_on() {
    let (world, calls) = FailingCalls::of(World::new().await.counting());
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    gateway.settled().await;
    for (what, sent) in [("posix/io/sync/*", 1), ("posix/io/rw/pwrite", 2)] {
        calls.begin(gateway.pid(), what);
        for _ in 0..3 {
            let refused = trader.send(gateway.payment(50)).await.unwrap_err();
            let said = (refused.code, &refused.data["code"]);
            assert_eq!(said, (-32603, &json!("ledger_unavailable")), "{what}: {refused:?}");
        }
        assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), sent, "{what}");
        calls.end(gateway.pid(), what);
        let again = async || trader.send(gateway.payment(2)).await.ok();
        eventually(&format!("a payment after {what}"), again).await;
        gateway.settled().await;
    }
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 3);
    gateway.has_counted(3).await;
    gateway.chancery(&["audit", "verify"]).await.well();
}

/// Changes the ledger behind the program's back, as someone with the file could.
pub fn meddle(ledger: &Path, change: &str) {
    let connection = rusqlite::Connection::open(ledger).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let triggers = "DROP TRIGGER audit_is_append_only; DROP TRIGGER audit_keeps_every_row;";
    connection.execute_batch(&format!("{triggers}{change}")).unwrap();
}

/// Copies a ledger with the files beside it into a folder of its own.
fn keep(ledger: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", ledger.file_name().unwrap().display());
        let from = ledger.with_file_name(&name);
        if from.exists() {
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
    }
    folder
}

fn put_back(kept: &TempDir, ledger: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{}{suffix}", ledger.file_name().unwrap().display());
        let to = ledger.with_file_name(&name);
        drop(std::fs::remove_file(&to));
        let from = kept.path().join(name);
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
}
