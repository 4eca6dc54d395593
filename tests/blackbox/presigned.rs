//! Transactions that come signed, and methods that answer a receipt.

use alloy_primitives::Address;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{
    FRIEND, Fault, Gateway, Node, POLICY, STRANGER, TestToken, Tool, World, eventually, run, tool,
};

/// The key of anvil's second account, FRIEND.
const FRIENDS_KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// The trader may pass on what FRIEND signs, to one address.
fn policy() -> String {
    let [friend, stranger] = [FRIEND, STRANGER].map(|at| at.parse::<Address>().unwrap());
    format!(
        r#"{POLICY}
        [[rule]]
        id            = "hot-wallet"
        effect        = "allow"
        kind          = "presigned"
        chain         = 31337
        clients       = ["trader"]
        from          = ["{friend}"]
        to            = ["{stranger}"]
        call          = "empty"
        value         = {{ max = "1 ether" }}
        execution_fee = {{ max = "0.05 ether" }}

        [[budget]]
        id     = "passed-on"
        sum    = "count"
        max    = 3
        window = "1h"
        match  = {{ kind = "presigned" }}
        "#
    )
}

/// Signed by cast, without asking a node.
async fn signed(key: &str, to: &str, wei: u64, nonce: u64, chain: u64) -> String {
    let (wei, nonce, chain) = (wei.to_string(), nonce.to_string(), chain.to_string());
    let mktx = ["mktx", to, "--private-key", key, "--value", &wei, "--nonce", &nonce, "--chain", &chain];
    let fees = ["--gas-limit", "21000", "--gas-price", "3000000000", "--priority-gas-price", "1000000000"];
    run(Command::new(tool(Tool::Cast)).args(mktx).args(fees)).await.well().trim().to_owned()
}

#[tokio::test]
async fn what_came_signed_is_judged_recorded_and_passed_on() {
    let gateway = Gateway::with_policy(&policy()).await;
    let trader = gateway.client("trader");
    let first = signed(FRIENDS_KEY, STRANGER, 5, 0, 31337).await;
    let hash = trader.call("eth_sendRawTransaction", json!([first])).await.unwrap();
    let is_mined = async || (gateway.node().receipt(&hash).await["status"] == "0x1").then_some(());
    eventually("it is mined", is_mined).await;
    // The same again is the same transaction: nothing is charged twice.
    for _ in 0..4 {
        assert_eq!(trader.call("eth_sendRawTransaction", json!([first])).await.unwrap(), hash);
    }
    let second = signed(FRIENDS_KEY, STRANGER, 5, 1, 31337).await;
    let receipt = trader.call("eth_sendRawTransactionSync", json!([second, 5000])).await.unwrap();
    assert_eq!((&receipt["status"], &receipt["from"]), (&json!("0x1"), &json!(FRIEND.to_lowercase())));

    for (raw, code, condition) in [
        (signed(FRIENDS_KEY, FRIEND, 5, 2, 31337).await, "transaction_denied", Value::Null),
        (
            signed(FRIENDS_KEY, STRANGER, 2_000_000_000_000_000_000, 2, 31337).await,
            "transaction_denied",
            json!("value"),
        ),
        (signed(FRIENDS_KEY, STRANGER, 5, 2, 1).await, "invalid_params", Value::Null),
        (format!("{}00", signed(FRIENDS_KEY, STRANGER, 5, 2, 31337).await), "invalid_params", Value::Null),
    ] {
        let refused = trader.call("eth_sendRawTransaction", json!([raw])).await.unwrap_err();
        assert_eq!(
            (&refused.data["code"], &refused.data["condition"]),
            (&json!(code), &condition),
            "{refused:?}"
        );
    }
    trader
        .call("eth_sendRawTransaction", json!([signed(FRIENDS_KEY, STRANGER, 5, 2, 31337).await]))
        .await
        .unwrap();
    let over = json!([signed(FRIENDS_KEY, STRANGER, 5, 3, 31337).await]);
    assert_eq!(trader.call("eth_sendRawTransaction", over).await.unwrap_err().data["code"], "over_budget");

    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    let rows = gateway.audit().await;
    let of = |kind: &str| rows.iter().filter(|row| row["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("intent").iter().filter(|row| row["body"]["kind"] == "presigned").count(), 3, "{rows:#?}");
    assert_eq!((of("signature").len(), of("refusal").len()), (3, 5), "{rows:#?}");
}

#[tokio::test]
async fn inv_03_the_same_handed_in_by_many_at_once_is_charged_once() {
    let gateway = Gateway::with_policy(&policy()).await;
    let trader = gateway.client("trader");
    let raw = signed(FRIENDS_KEY, STRANGER, 5, 0, 31337).await;
    let hashes = join_all((0..12).map(|_| trader.call("eth_sendRawTransaction", json!([raw])))).await;
    assert!(hashes.iter().all(|hash| hash.as_ref().is_ok_and(|hash| hash == hashes[0].as_ref().unwrap())));
    let rows = gateway.audit().await;
    assert_eq!(rows.iter().filter(|row| row["kind"] == "intent").count(), 1, "{rows:#?}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// The token signed none of it, and the ledger's count says so.
#[tokio::test]
async fn inv_14_what_came_signed_is_not_counted_as_a_tokens_signature() {
    let mut gateway = Gateway::with_policy(&policy()).await;
    let raw = signed(FRIENDS_KEY, STRANGER, 5, 0, 31337).await;
    gateway.client("trader").call("eth_sendRawTransaction", json!([raw])).await.unwrap();
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    gateway.signal(rustix::process::Signal::TERM);
    let end = gateway.ends().await;
    assert!(!end.stderr.contains("do not agree"), "{}", end.stderr);
    let rows = gateway.audit().await;
    let last = rows.iter().rfind(|row| row["kind"] == "reconciliation").unwrap();
    assert_eq!((&last["body"]["recorded"], &last["body"]["agrees"]), (&json!(1), &json!(true)), "{last}");
}

#[tokio::test]
async fn what_a_client_had_signed_it_may_send_and_what_it_had_not_raises_the_alarm() {
    let (world, _token, key) = TestToken::instead(World::new().await);
    let gateway = world.start().await;
    gateway.node().adopt(key.address).await;
    let trader = gateway.client("trader");
    let payment = json!({ "from": key.address, "to": FRIEND, "value": "0x5" });
    let raw = trader.call("eth_signTransaction", json!([payment])).await.unwrap();
    let hash = trader.call("eth_sendRawTransaction", json!([raw])).await.unwrap();
    assert_eq!(gateway.node().receipt(&hash).await["status"], "0x1");

    let foreign = signed(&key.secret(), FRIEND, 5, 1, 31337).await;
    let sent = gateway.node().calls_of("eth_sendRawTransaction").len();
    let refused = trader.call("eth_sendRawTransaction", json!([foreign])).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("unrecorded_signature")));
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), sent);
    assert!(gateway.metric("chancery_foreign_signatures_total").await > 0.5);
    for what in ["is signed by an account of ours, and not by us", "ALARM: transaction 0x"] {
        gateway.logs(what).await;
    }
}

#[tokio::test]
async fn a_receipt_is_answered_when_there_is_one_and_the_hash_when_there_is_none() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let receipt = trader.call("eth_sendTransactionSync", json!([gateway.payment(7)])).await.unwrap();
    assert_eq!((&receipt["status"], &receipt["to"]), (&json!("0x1"), &json!(FRIEND.to_lowercase())));
    for params in [json!([]), json!([gateway.payment(7), "soon"]), json!([gateway.payment(7), 1, 2])] {
        assert_eq!(trader.call("eth_sendTransactionSync", params).await.unwrap_err().code, -32602);
    }

    let idle = World::with_node(Node::start_with(&["--no-mining"]).await).await.start().await;
    let params = json!([idle.payment(7), 500]);
    let waiting = idle.client("trader").call("eth_sendTransactionSync", params).await.unwrap_err();
    assert_eq!((waiting.code, &waiting.data["code"]), (4, &json!("not_mined_yet")));
    let sent = idle.node().transaction(&waiting.data["hash"]).await;
    assert_eq!(sent["value"], "0x7", "{waiting:?}");
}

#[tokio::test]
async fn conditions_go_to_a_node_that_knows_them_and_a_lost_answer_can_be_asked_for_again() {
    let gateway = Gateway::with_policy(&policy()).await;
    let trader = gateway.client("trader");
    let raw = signed(FRIENDS_KEY, STRANGER, 5, 0, 31337).await;
    // anvil does not know them.
    let conditional = json!([raw, { "blockNumberMax": "0xffff" }]);
    let refused = trader.call("eth_sendRawTransactionConditional", conditional).await.unwrap_err();
    assert_eq!(refused.data["code"], "node_unavailable", "{refused:?}");
    let asked = gateway.node().calls_of("eth_sendRawTransactionConditional");
    assert_eq!(asked.len(), 1);
    let wrong =
        trader.call("eth_sendRawTransactionConditional", json!([raw, { "blockNumber": "0x1" }])).await;
    assert_eq!(wrong.unwrap_err().code, -32602);

    gateway.node().fail("eth_sendRawTransaction", Fault::Drop);
    let lost = trader.call("eth_sendRawTransaction", json!([raw])).await.unwrap_err();
    assert_eq!(lost.data["code"], "node_unavailable", "{lost:?}");
    gateway.node().heal();
    trader.call("eth_sendRawTransaction", json!([raw])).await.unwrap();
}
