//! Which nonces an account's transactions get, and what happens to one that is stuck.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kit::{Gateway, Node, POLICY, World};

#[tokio::test]
async fn inv_02_many_senders_on_one_account_leave_no_gap() {
    let gateway = Gateway::start().await;
    let payments: Vec<Value> = (1..=16).map(|wei| gateway.payment(wei)).collect();
    for _ in 0..4 {
        for sent in gateway.send_at_once(payments.clone()).await {
            sent.unwrap();
        }
    }
    gateway.node().mines(gateway.treasury(), 64).await;
    let mined = gateway.node().sent_by(gateway.treasury()).await;
    let nonces: BTreeSet<_> = mined.iter().map(|sent| sent["nonce"].as_str().unwrap().to_owned()).collect();
    assert_eq!((mined.len(), nonces.len()), (64, 64));
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// A world whose node mines only when it is asked to.
async fn unmined() -> World {
    World::with_node(Node::start_with(&["--no-mining"]).await).await
}

async fn mine(gateway: &Gateway) {
    gateway.node().ask("evm_mine", json!([])).await;
}

#[tokio::test]
async fn another_payment_at_a_used_nonce_replaces_the_first_where_the_rule_allows_it() {
    let own = POLICY.replacen("execution_fee", "replace = \"own\"\nexecution_fee", 1);
    for (policy, may_replace) in [(own.as_str(), true), (POLICY, false)] {
        let gateway = unmined().await.policy(policy).start().await;
        let trader = gateway.client("trader");
        let at_zero = |wei: u64, gwei: u64| {
            let (mut payment, fee) = (gateway.payment(wei), format!("{:#x}", gwei * 1_000_000_000));
            payment["nonce"] = json!("0x0");
            payment["maxFeePerGas"] = json!(fee);
            payment["maxPriorityFeePerGas"] = json!(fee);
            payment
        };
        let first = trader.send(at_zero(1, 10)).await.unwrap();
        let second = trader.send(at_zero(2, 11)).await;
        if !may_replace {
            let refused = second.unwrap_err();
            assert_eq!(refused.data["code"], "nonce_taken", "{refused:?}");
            assert!(refused.message.contains("replace"), "{refused:?}");
            mine(&gateway).await;
            assert_eq!(gateway.node().transaction(&first).await["value"], "0x1");
            continue;
        }
        let second = second.unwrap();
        let cheap = trader.send(at_zero(3, 12)).await.unwrap_err();
        assert_eq!(cheap.data["code"], "replacement_underpriced", "{cheap:?}");
        // Whoever asks for the first again is answered, and changes nothing.
        assert_eq!(trader.send(at_zero(1, 10)).await.unwrap(), first);
        mine(&gateway).await;
        assert_eq!(gateway.node().receipt(&first).await, Value::Null);
        assert_eq!(gateway.node().receipt(&second).await["status"], "0x1");
        assert_eq!(gateway.node().mined(gateway.treasury()).await, 1);
        assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    }
}
