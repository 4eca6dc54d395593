//! A node that is gone, late, wrong or lying.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{FRIEND, Fault, Gateway, Node, World, eventually};

#[tokio::test]
async fn inv_13_a_node_that_was_away_is_used_again() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for fault in [
        Fault::Drop,
        Fault::Garbage,
        Fault::Answer(json!({ "neither": "here nor there" })),
        Fault::Flood(1 << 20),
    ] {
        gateway.node().fail("*", fault.clone());
        let refused = trader.send(gateway.payment(1)).await.unwrap_err();
        assert_eq!(
            (refused.code, &refused.data["code"]),
            (-32603, &json!("node_unavailable")),
            "{fault:?}: {refused:?}"
        );
        gateway.node().heal();
    }
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
    eventually("a payment", async || trader.send(gateway.payment(1)).await.ok()).await;
    gateway.node().mines(gateway.treasury(), 1).await;
}

#[tokio::test]
async fn a_node_that_is_gone_is_said_to_be_gone() {
    let mut gateway = Gateway::start().await;
    gateway.world.node.stop();
    let trader = gateway.client("trader");
    let read = trader.call("eth_getBalance", json!([FRIEND, "latest"])).await.unwrap_err();
    assert_eq!((read.code, &read.data["code"]), (-32603, &json!("node_unavailable")));
    let send = trader.send(gateway.payment(1)).await.unwrap_err();
    assert_eq!((send.code, &send.data["code"]), (-32603, &json!("node_unavailable")));
    // What we know ourselves is still answered.
    assert_eq!(trader.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
    assert!(trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.is_ok());
}

#[tokio::test]
async fn inv_12_a_node_that_does_not_answer_is_given_up_in_time() {
    let gateway = Gateway::start().await;
    gateway.node().fail("*", Fault::Delay(Duration::from_secs(60)));
    let trader = gateway.client("trader");
    let answer = tokio::time::timeout(Duration::from_secs(8), trader.send(gateway.payment(1))).await;
    let refused = answer.expect("an answer within 8 s").unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("node_unavailable")));
}

#[tokio::test]
async fn inv_12_an_answer_without_end_is_cut() {
    let gateway =
        World::new().await.replace("timeout = \"2s\"", "timeout = \"2s\"\nmax_answer = 65536").start().await;
    gateway.node().fail("eth_getBlockByNumber", Fault::Flood(1 << 20));
    let refused =
        gateway.client("trader").call("eth_getBlockByNumber", json!(["latest", true])).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("node_unavailable")));
}

#[tokio::test]
async fn inv_11_a_node_on_another_chain_is_not_used() {
    let world = World::with_node(Node::start_with(&["--chain-id", "1"]).await).await;
    let refused = match world.try_start().await {
        // A gateway may start before its node; then it says no until the node is the right one.
        Ok(gateway) => gateway.client("trader").send(gateway.payment(1)).await.unwrap_err().message,
        Err(end) => end.stderr,
    };
    assert!(refused.contains("chain"), "{refused}");
}

#[tokio::test]
async fn inv_11_a_node_that_changes_its_chain_is_out_at_once() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    gateway.node().fail("eth_chainId", Fault::Answer(json!("0x1")));
    let refused = eventually("a refusal", async || trader.send(gateway.payment(1)).await.err()).await;
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("node_unavailable")), "{refused:?}");
    gateway.node().heal();
    eventually("a payment", async || trader.send(gateway.payment(1)).await.ok()).await;
}

#[tokio::test]
async fn inv_10_a_lost_answer_is_a_success_and_the_same_bytes_are_sent_again() {
    for fault in [
        Fault::Drop,
        Fault::LoseAnswer,
        Fault::Garbage,
        Fault::Refuse { code: -32000, message: "flux capacitor" },
        // Said by a node that has it and has not indexed it, or of a nonce that it is wrong about.
        Fault::Refuse { code: -32000, message: "nonce too low: next nonce 1, tx nonce 0" },
    ] {
        let gateway = Gateway::start().await;
        gateway.node().fail("eth_sendRawTransaction", fault.clone());
        let hash = gateway.client("trader").send(gateway.payment(7)).await;
        let hash = hash.unwrap_or_else(|e| panic!("{fault:?}: {e:?}"));
        gateway.node().heal();
        gateway.settled().await;
        assert_eq!(gateway.node().transaction(&hash).await["value"], "0x7", "{fault:?}");
        let sent: BTreeSet<_> = gateway
            .node()
            .calls_of("eth_sendRawTransaction")
            .iter()
            .map(|call| call.params.to_string())
            .collect();
        assert_eq!(sent.len(), 1, "{fault:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_nodes_refusal_is_told_in_geths_words_whatever_its_code() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for (message, words) in [
        ("Upfront cost exceeds account balance", "insufficient funds"),
        ("InsufficientFunds, Account balance: 0", "insufficient funds"),
        ("Intrinsic gas exceeds gas limit", "intrinsic gas"),
        ("exceeds block gas limit", "gas limit"),
    ] {
        gateway.node().fail("eth_sendRawTransaction", Fault::Refuse { code: -32005, message });
        let refused = trader.send(gateway.payment(1)).await.unwrap_err();
        assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("node_refused")), "{message}");
        assert!(refused.message.contains(words), "{message}: {}", refused.message);
    }
    // The nonce that was refused is vacant: the next payload outbids all those before it and is mined there.
    gateway.node().heal();
    let hash = trader.send(gateway.payment(8)).await.unwrap();
    assert_eq!(gateway.node().transaction(&hash).await["nonce"], "0x0");
}

#[tokio::test]
async fn a_repeat_of_the_same_explicit_nonce_gets_the_same_hash_and_no_second_signature() {
    let gateway = Gateway::start().await;
    let mut payment = gateway.payment(3);
    payment["nonce"] = json!("0x0");
    let trader = gateway.client("trader");
    let first = trader.send(payment.clone()).await.unwrap();
    for _ in 0..4 {
        assert_eq!(trader.send(payment.clone()).await, Ok(first.clone()));
    }
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_ne!(first, Value::Null);
}
