//! A desk at work for a long time, with faults in turn: `scripts/test --full`.
//!
//! `SOAK_SECONDS` (1800) is how long. Four clients send payments of an amount that no other has, read, sign messages
//! and ask for what is forbidden, while the signer worker is killed, the node drops, garbles or loses its answers, and
//! (in the first half) the gateway itself is killed. At the end: who got a hash was paid, nobody was paid twice, no nonce
//! is missing, the audit chain holds, and the gateway's memory has not grown in the second half.

#![allow(
    dead_code,
    unused_imports,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test may panic, and the kit is part of the tests, used here in part"
)]

#[path = "../blackbox/kit/mod.rs"]
mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::kit::{Client, FRIEND, Fault, Gateway, STRANGER};

const CLIENTS: usize = 4;

/// Between two faults.
const PAUSE: Duration = Duration::from_secs(3);

/// What the clients did and got.
#[derive(Default)]
struct Book {
    next: AtomicU64,
    /// The amount that each hash was promised for.
    paid: Mutex<BTreeMap<String, u64>>,
    refused: AtomicU64,
    failed: AtomicU64,
    ended: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(1800, |text| text.parse().unwrap());
    let half = Duration::from_secs(seconds) / 2;
    let mut gateway = Gateway::start().await;
    let book = Arc::new(Book::default());
    let desks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (trader, payment) = (gateway.client("trader"), gateway.payment(0));
            tokio::spawn(desk(trader, payment, Arc::clone(&book)))
        })
        .collect();

    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < half {
        fault(&mut gateway, rounds, true).await;
        rounds += 1;
    }
    let before = memory(&gateway);
    while start.elapsed() < 2 * half {
        fault(&mut gateway, rounds, false).await;
        rounds += 1;
    }
    book.ended.store(true, Ordering::Relaxed);
    for desk in desks {
        desk.await.unwrap();
    }
    // The last one closes what a killed worker may have left open.
    kit::eventually("a last payment", async || {
        gateway.client("trader").try_send(gateway.payment(999_999_999)).await.and_then(Result::ok)
    })
    .await;
    gateway.settled().await;
    let after = memory(&gateway);

    let mined = gateway.node().sent_by(gateway.treasury()).await;
    let count = gateway.node().mined(gateway.treasury()).await;
    let paid = book.paid.lock().unwrap().clone();
    println!(
        "soak: {seconds} s, {rounds} faults, {} promised, {count} mined, {} refused by policy, {} without an answer",
        paid.len(),
        book.refused.load(Ordering::Relaxed),
        book.failed.load(Ordering::Relaxed),
    );
    println!("soak: {before} KiB of memory in the middle, {after} KiB at the end");
    let values: BTreeSet<&str> = mined.iter().map(|sent| sent["value"].as_str().unwrap()).collect();
    assert_eq!(values.len(), mined.len(), "a payment was made twice");
    assert_eq!(count, u64::try_from(mined.len()).unwrap());
    let by_hash: BTreeMap<&str, &str> =
        mined.iter().map(|sent| (sent["hash"].as_str().unwrap(), sent["value"].as_str().unwrap())).collect();
    for (hash, wei) in &paid {
        assert_eq!(by_hash.get(&**hash), Some(&&*format!("{wei:#x}")), "{hash} was promised");
    }
    assert!(paid.len() > rounds * CLIENTS / 2, "hardly anything was sent: {}", gateway.log());
    assert!(after < before * 3 / 2, "memory grows: {before} KiB, then {after} KiB");
    gateway.chancery(&["audit", "verify"]).await.well();
}

/// One client's day.
async fn desk(trader: Client, payment: Value, book: Arc<Book>) {
    while !book.ended.load(Ordering::Relaxed) {
        let number = book.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut transaction = payment.clone();
        transaction["value"] = format!("{number:#x}").into();
        if number % 7 == 0 {
            transaction["to"] = STRANGER.into();
        }
        match trader.try_send(transaction).await {
            Some(Ok(hash)) => {
                book.paid.lock().unwrap().insert(hash.as_str().unwrap().to_owned(), number);
            }
            Some(Err(error)) if error.code == -32003 => _ = book.refused.fetch_add(1, Ordering::Relaxed),
            _ => {
                book.failed.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// One fault, for a while; then all is well for as long.
async fn fault(gateway: &mut Gateway, round: usize, kills: bool) {
    match round % 6 {
        0 => gateway.workers().into_iter().for_each(|worker| kill_process(worker, Signal::KILL).unwrap()),
        1 => gateway.node().fail("*", Fault::Drop),
        2 => gateway.node().fail("eth_sendRawTransaction", Fault::LoseAnswer),
        3 => gateway.node().fail("*", Fault::Garbage),
        4 => gateway.node().fail("*", Fault::Delay(Duration::from_millis(500))),
        _ if kills => {
            gateway.kill().await;
            gateway.restart().await;
        }
        _ => {}
    }
    sleep(PAUSE).await;
    gateway.node().heal();
    sleep(PAUSE).await;
}

/// Resident memory, in KiB.
fn memory(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
