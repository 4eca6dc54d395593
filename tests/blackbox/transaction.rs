//! The main job: what is asked, what is signed, and what the node gets are one and the same.

use std::collections::BTreeSet;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::Decodable2718 as _;
use alloy_primitives::{Address, Bytes, Signature, U256, eip191_hash_message};
use serde_json::json;

use crate::kit::{FRIEND, Fault, Gateway, STRANGER, signer_of};

#[tokio::test]
async fn inv_05_an_allowed_payment_is_mined_exactly_as_asked() {
    let gateway = Gateway::start().await;
    let hash = gateway.client("trader").send(gateway.payment(12345)).await.unwrap();

    let mined = gateway.node().transaction(&hash).await;
    assert_eq!(mined["from"], json!(gateway.treasury()).as_str().unwrap().to_lowercase());
    assert_eq!(mined["to"], FRIEND);
    assert_eq!(mined["value"], "0x3039");
    assert_eq!(mined["input"], "0x");
    assert_eq!(mined["nonce"], "0x0");
    assert_eq!(mined["type"], "0x2");
    assert_eq!(mined["chainId"], "0x7a69");
    assert_eq!(gateway.node().receipt(&hash).await["status"], "0x1");
}

#[tokio::test]
async fn what_the_client_set_is_kept_in_every_transaction_type() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let slot = format!("0x{:064x}", 7);
    let access = json!([{ "address": FRIEND, "storageKeys": [slot] }]);
    for (nonce, more) in (0_u64..).zip([
        json!({ "type": "0x0", "gasPrice": "0x77359400", "gas": "0x5208" }),
        json!({ "type": "0x1", "gasPrice": "0x77359400", "accessList": access, "gas": "0x7530" }),
        json!({ "type": "0x2", "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1", "gasLimit": "0x5209" }),
        json!({ "chainId": "0x7a69", "nonce": "0x3", "data": "0x", "input": "0x" }),
    ]) {
        let mut asked = gateway.payment(nonce + 1);
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let hash = trader.send(asked.clone()).await.unwrap_or_else(|e| panic!("{asked}: {e:?}"));
        let mined = gateway.node().transaction(&hash).await;
        assert_eq!(mined["nonce"], format!("{nonce:#x}"));
        assert_eq!(mined["value"], asked["value"]);
        for field in ["type", "accessList", "maxFeePerGas", "maxPriorityFeePerGas"] {
            if !asked[field].is_null() {
                let (mined, asked) = (mined[field].to_string(), asked[field].to_string());
                assert_eq!(mined.to_lowercase(), asked.to_lowercase(), "{field}");
            }
        }
        let gas = asked.get("gas").or(asked.get("gasLimit")).cloned().unwrap_or(json!("0x5208"));
        assert_eq!(mined["gas"], gas, "{asked}");
    }
}

#[tokio::test]
async fn inv_04_a_payment_that_no_rule_allows_is_refused_and_nothing_reaches_the_node() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for (field, value) in
        [("to", json!(STRANGER)), ("value", json!("0xde0b6b3a7640001")), ("data", json!("0x00"))]
    {
        let mut payment = gateway.payment(1);
        payment[field] = value;
        let refused = trader.send(payment).await.unwrap_err();
        assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("transaction_denied")), "{field}");
    }
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction"), []);
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
}

#[tokio::test]
async fn inv_04_what_is_not_understood_is_refused_by_name() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for (names, field, value) in [
        ("value", "value", json!("0x01")),
        ("value", "value", json!("")),
        ("value", "value", json!("0x")),
        ("value", "value", json!("0X1")),
        ("value", "value", json!("1")),
        ("value", "value", json!(1)),
        ("value", "value", json!(format!("0x1{}", "0".repeat(64)))),
        ("input", "input", json!("0x00")),
        ("data", "data", json!("0x0")),
        ("chain", "chainId", json!("0x1")),
        ("maxFeePerGas", "gasPrice", json!("0x77359400")),
        ("to", "to", json!("0x70997970C51812dc3A010C7d01b50e0d17dc79c8")),
        ("to", "to", json!("0x70997970")),
        ("nonce", "nonce", json!("0x10000000000000000")),
        ("gas", "gasLimit", json!("0x5209")),
        ("gass", "gass", json!("0x5208")),
        ("Value", "Value", json!("0x1")),
        ("accessList", "accessList", json!([{ "address": FRIEND, "storageKeys": ["0x01"] }])),
        ("type", "type", json!("0x5")),
        ("maxFeePerBlobGas", "type", json!("0x3")),
        ("maxFeePerBlobGas", "blobVersionedHashes", json!([])),
        ("authorizationList", "type", json!("0x4")),
        ("authorizationList", "authorizationList", json!([])),
    ] {
        let mut asked = gateway.payment(1);
        asked["maxFeePerGas"] = json!("0x77359400");
        asked["data"] = json!("0x");
        asked["gas"] = json!("0x5208");
        if names == "input" {
            asked["data"] = json!("0x01");
        }
        asked[field] = value;
        let refused = trader.send(asked.clone()).await.expect_err(&asked.to_string());
        assert_eq!(refused.code, -32602, "{asked}: {refused:?}");
        assert!(refused.message.contains(names), "{asked}: {}", refused.message);
    }
    for params in [json!([]), json!({}), json!([1]), json!([gateway.payment(1), {}])] {
        let refused = trader.call("eth_sendTransaction", params.clone()).await.unwrap_err();
        assert_eq!(refused.code, -32602, "{params}: {refused:?}");
    }
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
}

#[tokio::test]
async fn an_account_that_does_not_exist_and_one_of_others_get_the_same_answer() {
    let gateway = Gateway::start().await;
    let intern = gateway.client("intern");
    let mut payment = gateway.payment(1);
    payment["from"] = json!(STRANGER);
    let treasury = gateway.treasury().to_string().to_lowercase();
    let anonymous = |text: &str| text.to_lowercase().replace(&treasury, "…").replace(STRANGER, "…");
    for (method, foreign, unknown) in [
        ("eth_sendTransaction", json!([gateway.payment(1)]), json!([payment])),
        ("eth_signTransaction", json!([gateway.payment(1)]), json!([payment])),
        ("personal_sign", json!(["0x68656c6c6f", gateway.treasury()]), json!(["0x68656c6c6f", STRANGER])),
    ] {
        let foreign = intern.call(method, foreign).await.unwrap_err();
        let unknown = intern.call(method, unknown).await.unwrap_err();
        assert_eq!(
            (foreign.code, &foreign.data["code"]),
            (4100, &json!("account_not_available")),
            "{method}"
        );
        assert_eq!(
            (unknown.code, &unknown.data["code"]),
            (4100, &json!("account_not_available")),
            "{method}"
        );
        assert_eq!(anonymous(&foreign.message), anonymous(&unknown.message), "{method}");
    }
}

#[tokio::test]
async fn a_client_sees_its_own_accounts_and_no_other() {
    let gateway = Gateway::start().await;
    let (trader, intern) = (gateway.client("trader"), gateway.client("intern"));
    let treasury = json!([gateway.treasury()]).to_string().to_lowercase();
    let accounts = trader.call("eth_accounts", json!([])).await.unwrap();
    assert_eq!(accounts.to_string().to_lowercase(), treasury);
    assert_eq!(intern.call("eth_accounts", json!([])).await, Ok(json!([])));
    assert_eq!(trader.call("net_version", json!([])).await, Ok(json!("31337")));
}

#[tokio::test]
async fn reads_are_the_nodes_answers() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(77)).await.unwrap();
    for (method, params) in [
        ("eth_blockNumber", json!([])),
        ("eth_getBalance", json!([FRIEND, "latest"])),
        ("eth_getTransactionCount", json!([gateway.treasury(), "latest"])),
        ("eth_getBlockByNumber", json!(["0x1", true])),
        ("eth_call", json!([{ "to": FRIEND }, "latest"])),
        ("eth_feeHistory", json!(["0x1", "latest", [50]])),
        ("eth_estimateGas", json!([{ "from": FRIEND, "to": STRANGER, "value": "0x1" }])),
    ] {
        let here = trader.call(method, params.clone()).await;
        assert_eq!(here, Ok(gateway.node().ask(method, params).await), "{method}");
    }
    // A read that the node answers with an error keeps the node's own.
    let reverted = trader.call("eth_getBlockByNumber", json!(["nonsense", true])).await.unwrap_err();
    assert!(reverted.code != 0 && !reverted.message.is_empty());
}

#[tokio::test]
async fn inv_05_the_clients_bytes_are_never_forwarded() {
    let gateway = Gateway::start().await;
    let id = "5f0c0a52-7d4c-4d43-9a52-9e2f2f1a9d11";
    let body = format!(
        r#"{{ "m\u0065thod" : "eth_getBal\u0061nce" , "params" : [ "{FRIEND}" , "latest" ] , "id":"{id}", "jsonrpc":"2.0"}}"#
    );
    let answer = gateway.client("trader").post(body).await.json();
    assert_eq!(answer["id"], id);
    let sent = gateway.node().bodies().into_iter().find(|body| body.contains("eth_getBalance")).unwrap();
    assert!(!sent.contains(id) && !sent.contains("\\u") && !sent.contains(" :"), "{sent}");
}

#[tokio::test]
async fn inv_04_a_method_that_is_not_listed_does_not_exist_and_never_reaches_the_node() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let before = gateway.node().calls().len();
    for method in [
        "eth_noSuchMethod",
        "ETH_CHAINID",
        "eth_chainId ",
        "wallet_sendTransaction",
        "eth_resend",
        "personal_unlockAccount",
        "personal_sendTransaction",
        "anvil_nodeInfo",
        "anvil_setBalance",
        "hardhat_metadata",
        "hardhat_impersonateAccount",
        "evm_mine",
        "engine_newPayloadV3",
        "admin_peers",
        "miner_start",
        "debug_traceTransaction",
        "txpool_content",
        "",
    ] {
        let refused = trader.call(method, json!([])).await.expect_err(method);
        assert_eq!((refused.code, &refused.data["code"]), (-32601, &json!("method_not_found")), "{method}");
    }
    let since = gateway.node().calls().split_off(before);
    assert!(
        since.iter().all(|call| ["eth_chainId", "eth_blockNumber"].contains(&&*call.method)),
        "{since:?}"
    );
}

#[tokio::test]
async fn a_signed_transaction_is_returned_and_not_sent() {
    let gateway = Gateway::start().await;
    let raw =
        gateway.client("trader").call("eth_signTransaction", json!([gateway.payment(5)])).await.unwrap();

    let raw: Bytes = serde_json::from_value(raw).unwrap();
    let signed = TxEnvelope::decode_2718_exact(&raw).unwrap();
    assert_eq!(signer_of(signed.signature_hash(), signed.signature()), gateway.treasury());
    assert_eq!((signed.value(), signed.nonce()), (U256::from(5), 0));
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction"), []);
    gateway.node().ask("eth_sendRawTransaction", json!([raw])).await;
    gateway.node().mines(gateway.treasury(), 1).await;
}

#[tokio::test]
async fn inv_06_every_signature_is_the_accounts_and_low() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    // Half of what SoftHSM2 signs is high: sixteen would not be low by chance.
    for number in 0..16 {
        let text = format!("hello {number}");
        let data = Bytes::from(text.clone().into_bytes());
        let params = match number % 2 {
            0 => json!([data, gateway.treasury()]),
            // web3.js and the browser wallets add a password.
            _ => json!([data, gateway.treasury(), ""]),
        };
        let signature = trader.call("personal_sign", params).await.unwrap();
        let signature: Bytes = serde_json::from_value(signature).unwrap();
        let signature = Signature::try_from(signature.as_ref()).unwrap();
        assert!(signature.normalize_s().is_none(), "{text}: high s");
        assert_eq!(signer_of(eip191_hash_message(&text), &signature), gateway.treasury(), "{text}");
    }
}

#[tokio::test]
async fn a_message_that_no_rule_allows_is_refused() {
    let gateway = Gateway::start().await;
    let refused = gateway
        .client("trader")
        .call("personal_sign", json!([Bytes::from("pay everything"), gateway.treasury()]))
        .await
        .unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (4100, &json!("message_denied")));
}

#[tokio::test]
async fn a_contract_is_created_only_where_a_rule_says_so() {
    // Returns one byte of code: STOP.
    let code = "0x600160005360016000f3";
    let gateway = Gateway::start().await;
    let create = |gateway: &Gateway| json!({ "from": gateway.treasury(), "to": null, "data": code });
    let refused = gateway.client("trader").send(create(&gateway)).await.unwrap_err();
    assert_eq!(refused.code, -32003);

    let policy = r#"
        [[rule]]
        id = "deploy"
        effect = "allow"
        kind = "transaction"
        chain = 31337
        clients = ["trader"]
        from = ["treasury"]
        to = ["create"]
        call = "any"
        execution_fee = { max = "0.1 ether" }
    "#;
    let gateway = Gateway::with_policy(policy).await;
    let hash = gateway.client("trader").send(create(&gateway)).await.unwrap();
    let contract = gateway.node().receipt(&hash).await["contractAddress"].clone();
    assert_eq!(gateway.node().ask("eth_getCode", json!([contract, "latest"])).await, "0x01");
}

#[tokio::test]
async fn inv_02_two_senders_at_once_get_consecutive_nonces() {
    let gateway = Gateway::start().await;
    let mut nonces = BTreeSet::new();
    for hash in gateway.send_at_once((1..=8).map(|wei| gateway.payment(wei))).await {
        nonces.insert(gateway.node().transaction(&hash.unwrap()).await["nonce"].as_str().unwrap().to_owned());
    }
    assert_eq!(nonces, (0..8).map(|nonce| format!("{nonce:#x}")).collect());
    gateway.node().mines(gateway.treasury(), 8).await;
    assert_eq!(gateway.node().balance(FRIEND).await % U256::from(1_000_000), U256::from(36));
}

#[tokio::test]
async fn inv_02_one_nonce_is_used_for_one_payload() {
    let gateway = Gateway::start().await;
    let at_zero = |wei| {
        let mut payment = gateway.payment(wei);
        payment["nonce"] = json!("0x0");
        payment
    };
    let answers = gateway.send_at_once((0..6).map(|number| at_zero(number % 2 + 1))).await;

    // One of the two payloads won; its repeats got the same hash, the other one an error.
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (3, 3), "{won:?} {lost:?}");
    assert!(won.iter().all(|hash| *hash == won[0]), "{won:?}");
    let names = [json!("nonce_taken"), json!("nonce_too_low"), json!("replacement_underpriced")];
    assert!(lost.iter().all(|e| names.contains(&e.as_ref().unwrap_err().data["code"])), "{lost:?}");
    let sent: BTreeSet<_> = gateway
        .node()
        .calls_of("eth_sendRawTransaction")
        .iter()
        .map(|call| call.params.to_string())
        .collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
}

#[tokio::test]
async fn a_burst_out_of_order_is_sent_in_order_and_a_gap_is_refused() {
    let gateway = Gateway::start().await;
    let at = |nonce: u64| {
        let mut payment = gateway.payment(nonce + 1);
        payment["nonce"] = json!(format!("{nonce:#x}"));
        payment
    };
    let answers = gateway.send_at_once([at(2), at(1), at(0)]).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    gateway.node().mines(gateway.treasury(), 3).await;

    let gap = gateway.client("trader").send(at(5)).await.unwrap_err();
    assert_eq!((gap.code, &gap.data["code"]), (-32003, &json!("nonce_gap")));
}

#[tokio::test]
async fn inv_11_a_node_does_not_choose_the_fees() {
    let gateway = Gateway::start().await;
    let high = json!({
        "oldestBlock": "0x0", "baseFeePerGas": ["0x746a528800", "0x746a528800"], "gasUsedRatio": [0.5],
        "reward": [["0xe8d4a51000"]],
    });
    gateway.node().fail("eth_feeHistory", Fault::Answer(high));
    gateway.node().fail("eth_gasPrice", Fault::Answer(json!("0x746a528800000")));
    gateway.node().fail("eth_maxPriorityFeePerGas", Fault::Answer(json!("0x746a528800000")));
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("transaction_denied")), "{refused:?}");
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction"), []);
}

#[tokio::test]
async fn the_next_nonce_of_an_own_account_is_the_ledgers() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    gateway.node().ask("evm_setAutomine", json!([false])).await;
    trader.send(gateway.payment(1)).await.unwrap();
    let pending = trader.call("eth_getTransactionCount", json!([gateway.treasury(), "pending"])).await;
    assert_eq!(pending, Ok(json!("0x1")));
    let latest = trader.call("eth_getTransactionCount", json!([gateway.treasury(), "latest"])).await;
    assert_eq!(latest, Ok(json!("0x0")));
    assert_eq!(
        trader.call("eth_getTransactionCount", json!([Address::ZERO, "pending"])).await,
        Ok(json!("0x0"))
    );
}
