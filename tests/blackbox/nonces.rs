//! Which nonces an account's transactions get, and what happens to one that is stuck.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{FRIEND, Fault, Gateway, Node, POLICY, World, eventually};
use crate::ledger::meddle;

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
pub async fn unmined() -> World {
    World::with_node(Node::start_with(&["--no-mining"]).await).await
}

pub async fn mine(gateway: &Gateway) {
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

/// Payments that a node takes a second to answer about: both are recorded before it speaks of the first.
async fn refused_below(gateway: &Gateway) {
    let half = json!(["0x6f05b59d3b20000"]); // half an ether, in wei
    gateway.node().ask("anvil_setBalance", json!([gateway.treasury(), half[0]])).await;
    gateway.node().fail("eth_sendRawTransaction", Fault::Delay(Duration::from_secs(1)));
    let (rich, poor) = (gateway.client("trader"), gateway.client("trader"));
    let mut too_much = gateway.payment(1_000_000_000_000_000_000);
    too_much["gas"] = json!("0x5208"); // an estimate would tell at once
    let refused = tokio::spawn(async move { rich.send(too_much).await });
    eventually("the first is recorded", async || {
        (!gateway.node().calls_of("eth_sendRawTransaction").is_empty()).then_some(())
    })
    .await;
    poor.send(gateway.payment(2)).await.unwrap();
    let refused = refused.await.unwrap().unwrap_err();
    assert_eq!(refused.data["code"], "node_refused", "{refused:?}");
    gateway.node().heal();
}

#[tokio::test]
async fn inv_13_a_payment_that_is_refused_below_another_is_filled_also_after_a_restart() {
    for restarts in [false, true] {
        let mut gateway = Gateway::start().await;
        refused_below(&gateway).await;
        if restarts {
            gateway.kill().await;
            gateway.restart().await;
        }
        gateway.node().mines(gateway.treasury(), 2).await;
        let mined = gateway.node().sent_by(gateway.treasury()).await;
        let own = gateway.treasury().to_string().to_lowercase();
        let told: Vec<(&Value, &Value)> = mined.iter().map(|sent| (&sent["to"], &sent["value"])).collect();
        assert_eq!(told, [(&json!(own), &json!("0x0")), (&json!(FRIEND), &json!("0x2"))]);
        let text = json!(gateway.audit().await).to_string();
        assert!(text.contains("chancery: fill gap"), "{text}");
        assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    }
}

#[tokio::test]
async fn a_gap_that_costs_more_than_its_cap_stays_and_is_told() {
    let world = World::new().await.replace("[ledger]", "[ledger]\nfill_gaps_max_fee = \"1 wei\"");
    let gateway = world.start().await;
    refused_below(&gateway).await;
    eventually("it is told", async || {
        (gateway.metric("chancery_gap_failures_total").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
    assert!(gateway.metric("chancery_gaps{").await > 0.0);
    // It is not forgotten where the node does not say what is mined.
    let silence = Fault::Refuse { code: -32000, message: "not now" };
    gateway.node().fail("eth_getTransactionCount", silence);
    let asked = || gateway.node().calls_of("eth_getTransactionCount").len();
    let before = asked();
    eventually("the node is asked in vain", async || (asked() >= before + 3).then_some(())).await;
    assert!(gateway.metric("chancery_gaps{").await > 0.0);
    gateway.node().heal();
    // Whoever pays enough closes it.
    gateway.client("trader").send(gateway.payment(3)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 2).await;
}

#[tokio::test]
async fn an_operator_bumps_and_cancels_and_the_chain_takes_that_instead() {
    let gateway = unmined().await.start().await;
    let trader = gateway.client("trader");
    let mut stuck = gateway.payment(7);
    stuck["gasPrice"] = json!("0x77359400"); // two gwei
    let first = trader.send(stuck).await.unwrap();
    let second = trader.send(gateway.payment(8)).await.unwrap();

    let listed = gateway.not_final().await;
    let hashes: Vec<&Value> = listed.iter().map(|one| &one["hash"]).collect();
    assert_eq!(hashes, [&first, &second]);
    let at = |nonce| ["--account", "treasury", "--nonce", nonce];
    let nobody = gateway.operate("auditor", &[&["tx", "bump"][..], &at("0")].concat()).await;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("may not do this"), "{nobody:?}");
    let nothing = gateway.operate("admin", &[&["tx", "cancel"][..], &at("2")].concat()).await;
    assert!(nothing.code == Some(1) && nothing.stderr.contains("nothing of this account"), "{nothing:?}");

    let order = async |verb, nonce| {
        let done = gateway.operate("admin", &[&["tx", verb, "--json"][..], &at(nonce)].concat()).await.well();
        let done: Value = serde_json::from_str(&done).unwrap();
        assert_eq!(done["node"], "accepted", "{done}");
        done["hash"].clone()
    };
    let bumped = order("bump", "0").await;
    let again = order("bump", "0").await;
    let cancelled = order("cancel", "1").await;
    mine(&gateway).await;
    for gone in [&first, &second, &bumped] {
        assert_eq!(gateway.node().receipt(gone).await, Value::Null, "{gone}");
    }
    assert_eq!(gateway.node().receipt(&again).await["status"], "0x1");
    let (again, cancelled) =
        (gateway.node().transaction(&again).await, gateway.node().transaction(&cancelled).await);
    assert_eq!((&again["value"], &again["to"]), (&json!("0x7"), &json!(FRIEND)));
    assert_eq!((&cancelled["value"], &cancelled["nonce"]), (&json!("0x0"), &json!("0x1")));
    assert_eq!(cancelled["to"], json!(gateway.treasury().to_string().to_lowercase()));

    let rows = gateway.audit().await;
    let ordered =
        rows.iter().filter(|row| row["kind"] == "administration" && row["body"]["operator"] == "admin");
    assert_eq!(ordered.count(), 3, "{rows:#?}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// No rule is asked for a bump: whoever can write to the database would have another payment made once more.
#[tokio::test]
async fn inv_01_what_is_bumped_was_signed_at_that_very_nonce() {
    let gateway = unmined().await.start().await;
    let trader = gateway.client("trader");
    for wei in [7, 8] {
        trader.send(gateway.payment(wei)).await.unwrap();
    }
    meddle(
        &gateway.folder().join("ledger.sqlite"),
        "UPDATE reservation SET raw = (SELECT raw FROM reservation WHERE nonce = 0) WHERE nonce = 1",
    );
    for (nonce, code, said) in [("1", 1, "not what this account signed at this nonce"), ("0", 0, "")] {
        let asked = ["tx", "bump", "--account", "treasury", "--nonce", nonce];
        let bumped = gateway.operate("admin", &asked).await;
        assert!(bumped.code == Some(code) && bumped.stderr.contains(said), "{bumped:?}");
    }
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(3));
}

#[tokio::test]
async fn what_is_not_mined_in_time_is_bumped_by_itself_up_to_a_bound() {
    let bump = "key = \"treasury\"\nauto_bump = { after = \"2s\", step = 50, up_to = \"5 gwei\" }";
    let world = unmined().await.replace("key = \"treasury\"", bump);
    let gateway = world.start().await;
    let mut stuck = gateway.payment(7);
    stuck["gasPrice"] = json!("0x77359400"); // two gwei
    gateway.client("trader").send(stuck).await.unwrap();
    eventually("it pays as much as it may", async || {
        (gateway.metric("chancery_auto_bump_failures_total").await > 0.0).then_some(())
    })
    .await;
    mine(&gateway).await;
    let mined = gateway.node().sent_by(gateway.treasury()).await;
    assert_eq!((mined.len(), &mined[0]["value"]), (1, &json!("0x7")));
    assert_eq!(mined[0]["gasPrice"], format!("{:#x}", 4_500_000_000_u64), "half as much again, twice");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// It costs its client nothing, so its fees may be of any height.
#[tokio::test]
async fn inv_13_what_no_node_takes_is_in_nobodys_way_and_an_operator_can_use_its_nonce_up() {
    let policy = POLICY.replace("max_fee_per_gas   = \"500 gwei\"\n", "");
    let gateway = unmined().await.policy(&policy).start().await;
    let trader = gateway.client("trader");
    // 40,000 gwei for a unit, of which it has fewer than a transfer of nothing uses.
    let empty = |wei: u64, gwei: u64| {
        let (mut payment, fee) = (gateway.payment(wei), format!("{:#x}", gwei * 1_000_000_000));
        payment["gas"] = json!("0x0");
        payment["maxFeePerGas"] = json!(fee);
        payment["maxPriorityFeePerGas"] = json!(fee);
        payment
    };
    let over = trader.send(empty(1, 50_000)).await.unwrap_err();
    assert!(over.message.contains("`max_execution_fee` is 1 ether"), "{over:?}");
    for wei in 1..=2 {
        let refused = trader.send(empty(wei, 40_000)).await.unwrap_err();
        assert_eq!(refused.data["code"], "node_refused", "{refused:?}");
    }
    let told: Vec<_> = gateway
        .not_final()
        .await
        .into_iter()
        .map(|one| (one["state"].clone(), one["node"].clone()))
        .collect();
    assert_eq!(told, vec![(json!("vacant"), json!("invalid")); 2]);

    let cancel = ["tx", "cancel", "--json", "--account", "treasury", "--nonce", "0"];
    let done: Value = serde_json::from_str(&gateway.operate("admin", &cancel).await.well()).unwrap();
    assert_eq!(done["node"], "accepted", "{done}");
    // The next goes above it, for what the market asks.
    let paid = trader.send(gateway.payment(3)).await.unwrap();
    mine(&gateway).await;
    let (own, paid) =
        (gateway.node().transaction(&done["hash"]).await, gateway.node().transaction(&paid).await);
    assert_eq!((&own["nonce"], &own["value"], &paid["nonce"]), (&json!("0x0"), &json!("0x0"), &json!("0x1")));
    let gwei = |sent: &Value| {
        let fee = sent["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(fee, 16).unwrap() / 1_000_000_000
    };
    assert!(gwei(&own) < 100 && gwei(&paid) < 100, "{own} {paid}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn what_was_to_be_bumped_or_cancelled_and_was_refused_is_tried_again_for_more() {
    let gateway = unmined().await.start().await;
    let trader = gateway.client("trader");
    for wei in 1..=2 {
        let mut stuck = gateway.payment(wei);
        stuck["gasPrice"] = json!("0x2540be400"); // ten gwei, more than the market asks
        trader.send(stuck).await.unwrap();
    }
    for (verb, nonce) in [("bump", "0"), ("cancel", "1")] {
        let order = ["tx", verb, "--json", "--account", "treasury", "--nonce", nonce];
        let said = async || -> Value {
            serde_json::from_str(&gateway.operate("admin", &order).await.well()).unwrap()
        };
        let fault = Fault::Refuse { code: -32000, message: "replacement transaction underpriced" };
        gateway.node().fail("eth_sendRawTransaction", fault);
        assert_eq!(said().await["node"], "refused");
        gateway.node().heal();
        assert_eq!(said().await["node"], "accepted", "{verb}");
    }
    mine(&gateway).await;
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 2);
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// Each is a signature, and for more than the one before.
#[tokio::test]
async fn inv_12_a_bump_by_itself_that_is_refused_rests_before_the_next() {
    let bump = "key = \"treasury\"\nauto_bump = { after = \"6s\", step = 50, up_to = \"500 gwei\" }";
    let gateway = unmined().await.replace("key = \"treasury\"", bump).start().await;
    let mut stuck = gateway.payment(7);
    stuck["gasPrice"] = json!("0x77359400"); // two gwei
    gateway.client("trader").send(stuck).await.unwrap();
    let fault = Fault::Refuse { code: -32000, message: "replacement transaction underpriced" };
    gateway.node().fail("eth_sendRawTransaction", fault);
    let refused = async || gateway.metric("chancery_auto_bump_failures_total").await;
    eventually("it is bumped", async || (refused().await > 0.0).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(refused().await < 1.5, "one in six seconds");
    gateway.node().heal();
    eventually("it is bumped again, for more than what was refused", async || {
        (gateway.metric("chancery_auto_bumps_total").await > 0.0).then_some(())
    })
    .await;
    mine(&gateway).await;
    let mined = gateway.node().sent_by(gateway.treasury()).await;
    assert_eq!(
        (mined.len(), &mined[0]["gasPrice"]),
        (1, &json!("0xc4b20100")),
        "a tenth above what was refused"
    );
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}
