//! Budgets on the running program: what fits is signed, and nothing more, whatever happens meanwhile.

use alloy_dyn_abi::{DynSolValue, JsonAbiExt as _};
use alloy_json_abi::Function;
use alloy_primitives::{Address, U256, address, hex};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Gateway, POLICY, RpcError, World, eventually, remote_module};

/// What the tests' policy allows, with budgets.
fn with(budgets: &str) -> String {
    format!("{POLICY}\n{budgets}")
}

/// So many transactions in an hour.
fn sends(id: &str, max: u32) -> String {
    with(&format!(
        "[[budget]]\nid = \"{id}\"\nsum = \"count\"\nmax = {max}\nwindow = \"1h\"\nper = [\"from\"]\n\
         match = {{ kind = \"transaction\" }}\n"
    ))
}

fn is_over(refused: &RpcError, budget: &str) -> bool {
    let names = (refused.code, &refused.data["code"], &refused.data["rule"]);
    names == (-32003, &json!("over_budget"), &json!(budget))
}

/// The one row that `chancery limits` shows.
async fn limits(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.chancery(&["limits", "--json"]).await.well()).unwrap()
}

#[tokio::test]
async fn inv_03_of_senders_at_once_exactly_as_many_pass_as_fit() {
    let mut gateway = Gateway::with_policy(&sends("hourly", 5)).await;
    let answers = gateway.send_at_once((1..=12).map(|wei| gateway.payment(wei))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5, "{answers:?}");
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(is_over(refused, "hourly"), "{refused:?}");
    }
    let refusals = gateway.audit().await.into_iter().filter(|row| row["kind"] == "refusal").count();
    assert_eq!(refusals, 7, "each is on the record");
    let row = limits(&gateway).await;
    assert_eq!((&row["used"], &row["left"]), (&json!("5"), &json!("0")), "{row}");

    gateway.settled().await;
    gateway.kill().await;
    gateway.restart().await;
    let refused = gateway.client("trader").send(gateway.payment(99)).await.unwrap_err();
    assert!(is_over(&refused, "hourly"), "a restart frees nothing: {refused:?}");
    assert_eq!(gateway.node().sent_by(gateway.treasury()).await.len(), 5);
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_03_ether_counts_with_the_most_that_its_fee_can_be() {
    let budget = "[[budget]]\nid = \"ether\"\nasset = \"ether\"\nmax = \"0.1 ether\"\nwindow = \"24h\"\n";
    let gateway = Gateway::with_policy(&with(budget)).await;
    let payment = |wei: u64| {
        let mut payment = gateway.payment(wei);
        // 21,000 gas at 100 gwei: 0.0021 ether.
        payment["gas"] = json!("0x5208");
        payment["maxFeePerGas"] = json!("0x174876e800");
        payment
    };
    let trader = gateway.client("trader");
    trader.send(payment(47_900_000_000_000_000)).await.unwrap();
    let refused = trader.send(payment(47_900_000_000_000_001)).await.unwrap_err();
    assert!(is_over(&refused, "ether"), "{refused:?}");
    for part in ["0.050000000000000001 ether", "0.05 ether", "0.1 ether"] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }
    trader.send(payment(47_900_000_000_000_000)).await.expect("to the last wei");
}

#[tokio::test]
async fn messages_count_and_a_refusal_says_when_there_is_room() {
    let budget = "[[budget]]\nid = \"talks\"\nsum = \"count\"\nmax = 2\nwindow = \"1h\"\nper = [\"client\"]\n\
                  match = { kind = \"message\" }\n";
    let gateway = Gateway::with_policy(&with(budget)).await;
    let trader = gateway.client("trader");
    let talk = async || trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await;
    talk().await.unwrap();
    talk().await.unwrap();
    let refused = talk().await.unwrap_err();
    assert!(is_over(&refused, "talks"), "{refused:?}");
    // The window and one sixtieth of it, less what has passed.
    let room = refused.data["retry_after"].as_u64().unwrap();
    assert!((3600..=3661).contains(&room), "{room}");
    trader.send(gateway.payment(1)).await.expect("a budget of messages is not about transactions");
}

#[tokio::test]
async fn inv_03_a_kill_between_reserve_and_record_frees_what_was_never_signed() {
    let world = World::new().await.policy(&sends("hourly", 2));
    let remote = world.token.serve().await;
    let world = world.module(&remote_module(), &[("P11_KIT_SERVER_ADDRESS", &remote.address())]);
    let mut gateway = world.start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    remote.signal(Signal::STOP);
    let hanging = {
        let (trader, payment) = (gateway.client("trader"), gateway.payment(2));
        tokio::spawn(async move { trader.try_send(payment).await })
    };
    eventually("the second is reserved", async || {
        let intents = gateway.audit().await.into_iter().filter(|row| row["kind"] == "intent").count();
        (intents == 2).then_some(())
    })
    .await;
    assert_eq!(limits(&gateway).await["left"], "0", "what is reserved counts");
    gateway.kill().await;
    hanging.abort();
    remote.signal(Signal::CONT);
    gateway.restart().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(3)).await.unwrap();
    let refused = trader.send(gateway.payment(4)).await.unwrap_err();
    assert!(is_over(&refused, "hourly"), "{refused:?}");
    gateway.settled().await;
    assert_eq!(gateway.node().sent_by(gateway.treasury()).await.len(), 2);
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_03_another_limit_and_another_budget_count_what_was_spent_before() {
    let mut gateway = Gateway::with_policy(&sends("hourly", 5)).await;
    for wei in 1..=3 {
        gateway.client("trader").send(gateway.payment(wei)).await.unwrap();
    }
    for (id, max, fits) in
        [("hourly", 3, false), ("hourly", 4, true), ("another", 4, false), ("another", 5, true)]
    {
        gateway.kill().await;
        std::fs::write(gateway.folder().join("policies/main.toml"), sends(id, max)).unwrap();
        gateway.restart().await;
        let sent = gateway.client("trader").send(gateway.payment(9)).await;
        assert_eq!(sent.is_ok(), fits, "{id} {max}: {sent:?}");
        assert!(sent.err().is_none_or(|refused| is_over(&refused, id)));
    }
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// A batch counts for each contract that its calls go to.
#[tokio::test]
async fn inv_03_a_batch_is_on_several_counts_of_one_budget() {
    const MULTICALL: &str = "0xcA11bde05977b3631167028862bE2a173976CA11";
    const TOKEN: Address = address!("5FbDB2315678afecb367f032d93F642f64180aa3");
    let policy = with(&format!(
        r#"
        [contracts]
        coin = {{ chain = 31337, address = "{TOKEN}", abi = "erc20", decimals = 6, symbol = "COIN" }}
        multicall = {{ chain = 31337, address = "{MULTICALL}", abi = "multicall3" }}
        [[rule]]
        id = "batch"
        effect = "allow"
        kind = "transaction"
        chain = 31337
        clients = ["trader"]
        from = ["treasury"]
        to = ["multicall"]
        call = "aggregate3"
        args = {{ calls = "any" }}
        [[rule]]
        id = "call"
        effect = "allow"
        kind = "transaction"
        chain = 31337
        clients = ["trader"]
        from = ["treasury"]
        to = ["coin"]
        via = ["multicall"]
        call = "transfer"
        args = {{ to = "any" }}
        [[budget]]
        id = "calls"
        sum = "count"
        max = 2
        window = "1h"
        per = ["client", "to"]
        "#
    ));
    let mut gateway = Gateway::with_policy(&policy).await;
    let transfer = Function::parse("transfer(address,uint256)").unwrap();
    let transfer = transfer.abi_encode_input(&[TOKEN.into(), U256::ONE.into()]).unwrap();
    let call = DynSolValue::Tuple(vec![TOKEN.into(), false.into(), transfer.into()]);
    let batch = Function::parse("aggregate3((address,bool,bytes)[])").unwrap();
    let data = batch.abi_encode_input(&[DynSolValue::Array(vec![call])]).unwrap();
    let batch = json!({ "from": gateway.treasury(), "to": MULTICALL, "gas": "0x186a0", "data": hex::encode_prefixed(data) });
    let trader = gateway.client("trader");
    for _ in 0..2 {
        trader.send(batch.clone()).await.unwrap();
    }
    let refused = trader.send(batch.clone()).await.unwrap_err();
    assert!(is_over(&refused, "calls"), "{refused:?}");
    trader.send(gateway.payment(1)).await.expect("the friend has a count of its own");
    let rows = gateway.chancery(&["limits", "--json"]).await.well();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let mut used: Vec<_> = rows.iter().map(|row| row["used"].as_str().unwrap()).collect();
    used.sort_unstable();
    assert_eq!(used, ["1", "2", "2"], "{rows:#?}");

    gateway.settled().await;
    gateway.kill().await;
    std::fs::write(gateway.folder().join("policies/main.toml"), policy.replace("\"calls\"", "\"anew\""))
        .unwrap();
    gateway.restart().await;
    let refused = gateway.client("trader").send(batch).await.unwrap_err();
    assert!(is_over(&refused, "anew"), "counted from what was signed: {refused:?}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}
