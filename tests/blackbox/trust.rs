//! Certificates, CAs and revocation lists change while the gateway is at work.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::kit::{Client, Gateway, Socket, TestToken, World, eventually};

/// A world in which a certificate without a list in force is not good.
async fn with_lists() -> World {
    let with = "client_ca = \"ca.pem\"\ncrls = [\"ca.crl\"]";
    let world = World::new().await.replace("client_ca = \"ca.pem\"", with);
    exchange(world.folder(), "ca.crl", &world.authority.crl(1, &[]));
    world
}

/// All at once, as whoever fetches a list should do it.
fn exchange(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

async fn works(client: &Client) -> bool {
    let request = client.json_request(json!({"jsonrpc":"2.0","id":1,"method":"eth_chainId"}).to_string());
    client.request(request).await.is_ok_and(|answer| answer.status == 200 && answer.body.contains("0x7a69"))
}

fn millis_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_08_who_is_revoked_under_load_succeeds_for_no_more_than_a_second() {
    let gateway = with_lists().await.start().await;
    let robber = gateway.world.authority.leaf("trader").serial(4711).issue();
    let (begun, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    // When the last question was asked that was still answered.
    let last = Arc::new(AtomicU64::new(0));
    for number in 0..6 {
        let (client, last, over) = (gateway.visitor(Some(&robber)), Arc::clone(&last), Arc::clone(&over));
        tokio::spawn(async move {
            // Over HTTP/2, over HTTP/1.1, and on a new connection each time.
            let client = if number % 3 == 0 { client } else { client.http1() };
            while !over.load(Ordering::Relaxed) {
                let at = millis_since(begun);
                let is_answered =
                    if number % 3 == 2 { works(&client.http1()).await } else { works(&client).await };
                if is_answered {
                    last.fetch_max(at, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let mut idle = gateway.visitor(Some(&robber)).http1().stream().await;
    sleep(Duration::from_secs(1)).await;
    assert!(last.load(Ordering::Relaxed) > 500, "they are at work");

    exchange(gateway.folder(), "ca.crl", &gateway.world.authority.crl(2, &[4711]));
    let revoked = millis_since(begun);
    let cut = timeout(Duration::from_secs(1), idle.read(&mut [0; 16])).await;
    assert!(matches!(cut, Ok(Ok(0) | Err(_))), "an idle connection: {cut:?}");
    sleep(Duration::from_millis(1500)).await;
    over.store(true, Ordering::Relaxed);
    let late = last.load(Ordering::Relaxed).saturating_sub(revoked);
    assert!(late <= 1000, "the last success {late} ms after the list was there");
    assert!(works(&gateway.client("trader")).await, "the trader's other certificate");
    assert!(gateway.metric("chancery_connections_cut_total{reason=\"revoked\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_08_who_is_revoked_is_cut_on_a_websocket_that_says_nothing() {
    let gateway = with_lists().await.start().await;
    let robber = gateway.world.authority.leaf("trader").serial(4711).issue();
    let mut idle = Socket::open(&gateway.visitor(Some(&robber))).await;
    let mut good = Socket::open(&gateway.client("trader")).await;
    assert!(idle.call("eth_chainId", json!([])).await.is_ok());
    exchange(gateway.folder(), "ca.crl", &gateway.world.authority.crl(2, &[4711]));
    let cut = timeout(Duration::from_secs(1), idle.hear()).await;
    assert!(matches!(cut, Ok(Err(_))), "{cut:?}");
    assert!(good.call("eth_chainId", json!([])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_08_nothing_is_signed_for_who_is_revoked_while_it_waits_for_the_token() {
    let (world, token) = TestToken::before(with_lists().await);
    let gateway = world.start().await;
    let robber = gateway.world.authority.leaf("trader").serial(4711).issue();
    // The token was tried out before.
    let before = token.calls("C_Sign");
    token.faults(&["on = \"C_Sign\"; hang = \"until-lifted\""]);
    let (visitor, payment) = (gateway.visitor(Some(&robber)), gateway.payment(666));
    let asked = tokio::spawn(async move { visitor.send(payment).await.is_ok() });
    eventually("it is with the token", async || (token.calls("C_Sign") > before).then_some(())).await;
    exchange(gateway.folder(), "ca.crl", &gateway.world.authority.crl(2, &[4711]));
    let cut = "chancery_connections_cut_total{reason=\"revoked\"}";
    eventually("it is cut", async || (gateway.metric(cut).await >= 1.0).then_some(())).await;
    token.lift();
    assert!(!asked.await.unwrap_or(false));
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    let sent = gateway.node().sent_by(gateway.treasury()).await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["value"], "0x1", "at the nonce that is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_09_fifty_reloads_under_load_fail_no_handshake() {
    let gateway = with_lists().await.start().await;
    let (over, handshakes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let (trader, over, handshakes) =
            (gateway.client("trader").http1(), Arc::clone(&over), Arc::clone(&handshakes));
        visitors.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                // Each on a connection of its own.
                assert!(works(&trader.http1()).await);
                handshakes.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for number in 2..52 {
        // One file after the other: in between they do not fit together.
        gateway.world.authority.server().write(gateway.folder(), "server");
        exchange(gateway.folder(), "ca.crl", &gateway.world.authority.crl(number, &[]));
        gateway.signal(Signal::HUP);
        sleep(Duration::from_millis(40)).await;
    }
    let newest = gateway.world.authority.server();
    newest.write(gateway.folder(), "server");
    let shown = async || {
        let stream = gateway.client("trader").stream().await;
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let is_shown = async || (shown().await == newest.der()).then_some(());
    eventually("the newest certificate is shown", is_shown).await;
    over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.expect("no handshake fails");
    }
    let reloads = gateway.metric("chancery_trust_reloads_total{result=\"ok\"}").await;
    assert!(reloads >= 25.0, "{reloads} reloads; signals that come too soon are one");
    assert!(handshakes.load(Ordering::Relaxed) >= 50, "there was load");
}

#[tokio::test]
async fn inv_09_what_cannot_be_read_is_told_and_the_last_good_set_stays() {
    let gateway = with_lists().await.start().await;
    let list = gateway.folder().join("ca.crl");
    let good = std::fs::read_to_string(&list).unwrap();
    let is = |what: &'static str, stale: bool| {
        let gateway = &gateway;
        eventually(what, async move || {
            ((gateway.metric("chancery_trust_stale").await > 0.5) == stale).then_some(())
        })
    };
    std::fs::write(&list, good.lines().take(4).collect::<Vec<_>>().join("\n")).unwrap();
    is("half a list is noticed", true).await;
    let ready = gateway.admin("admin", "/readyz").await.unwrap();
    assert!(ready.status == 200 && ready.body.contains("ca.crl"), "{}", ready.body);
    assert!(works(&gateway.client("trader")).await);
    std::fs::write(&list, &good).unwrap();
    is("the whole list is taken", false).await;
    let trust = eventually("all three are on the record", async || {
        let rows = gateway.chancery(&["audit", "show", "--json", "--kind", "trust"]).await.well();
        let rows: Vec<Value> =
            rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["body"].clone()).collect();
        (rows.len() >= 3).then_some(rows)
    })
    .await;
    let told: Vec<_> = trust.iter().map(|row| (row["what"].as_str().unwrap(), &row["generation"])).collect();
    assert_eq!(told[..3], [("taken", &json!(1)), ("refused", &json!(1)), ("taken", &json!(2))]);
    assert!(trust[1]["why"].as_str().unwrap().contains("ca.crl"));
    assert_eq!(trust[0]["server"].as_str().unwrap().len(), 64);
    assert!(trust[0]["people"].as_array().unwrap().contains(&json!("trader")));
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    let days = gateway.metric("chancery_days_left{of=\"crl\"}").await;
    assert!(days > 0.0 && days < 0.05, "an hour: {days}");
    assert!(gateway.metric("chancery_days_left{of=\"server\"}").await > 365.0);
}

#[tokio::test]
async fn inv_08_a_client_taken_out_of_the_configuration_is_out() {
    let gateway = Gateway::start().await;
    let (trader, intern) = (gateway.client("trader"), gateway.client("intern"));
    assert!(works(&trader).await && works(&intern).await);
    let file = gateway.folder().join("chancery.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("\n[[client]]\nname = \"intern\"").unwrap();
    let (_, after) = after.split_once("\n[[").unwrap();
    exchange(gateway.folder(), "chancery.toml", &format!("{before}\n[[{after}"));
    eventually("the intern is out", async || (!works(&intern).await).then_some(())).await;
    assert!(works(&trader).await);
}
