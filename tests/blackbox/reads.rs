//! Every read that there is, answered as the node answers it; and nothing else ever gets there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kit::{FRIEND, Gateway, Node, RpcError, Socket, repository};

/// The names in one of the lists of `methods/table.rs`.
fn listed(list: &str) -> Vec<String> {
    let table = std::fs::read_to_string(repository().join("src/methods/table.rs")).unwrap();
    let names = table.split(&format!("const {list}: &[&str] =")).nth(1).unwrap().split(';').next().unwrap();
    names.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What each is asked, on a chain with one transaction in block 1.
fn questions(node_has: &Value, hash: &Value) -> Vec<(&'static str, Value)> {
    let (block, zero) = (&node_has["hash"], format!("0x{}", "0".repeat(64)));
    let call = json!({ "from": FRIEND, "to": FRIEND, "value": "0x1" });
    vec![
        ("eth_blobBaseFee", json!([])),
        ("eth_blockNumber", json!([])),
        ("eth_call", json!([call, "latest"])),
        ("eth_config", json!([])),
        ("eth_createAccessList", json!([call, "latest"])),
        ("eth_estimateGas", json!([call])),
        ("eth_feeHistory", json!(["0x1", "latest", [50]])),
        ("eth_fillTransaction", json!([call])),
        ("eth_gasPrice", json!([])),
        ("eth_getBalance", json!([FRIEND, "0x1"])),
        ("eth_getBlockByHash", json!([block, true])),
        ("eth_getBlockByNumber", json!(["0x1", false])),
        ("eth_getBlockReceipts", json!(["0x1"])),
        ("eth_getBlockTransactionCountByHash", json!([block])),
        ("eth_getBlockTransactionCountByNumber", json!(["0x1"])),
        ("eth_getCode", json!([FRIEND, "latest"])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "latest" }])),
        ("eth_getProof", json!([FRIEND, [zero], "latest"])),
        ("eth_getStorageAt", json!([FRIEND, zero, "latest"])),
        ("eth_getTransactionByBlockHashAndIndex", json!([block, "0x0"])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x0"])),
        ("eth_getTransactionByHash", json!([hash])),
        ("eth_getTransactionReceipt", json!([hash])),
        ("eth_getUncleByBlockHashAndIndex", json!([block, "0x0"])),
        ("eth_getUncleByBlockNumberAndIndex", json!(["0x1", "0x0"])),
        ("eth_getUncleCountByBlockHash", json!([block])),
        ("eth_getUncleCountByBlockNumber", json!(["0x1"])),
        ("eth_maxPriorityFeePerGas", json!([])),
        ("eth_protocolVersion", json!([])),
        ("eth_simulateV1", json!([{ "blockStateCalls": [{ "calls": [call] }] }, "latest"])),
        ("eth_syncing", json!([])),
        ("net_listening", json!([])),
        ("net_peerCount", json!([])),
        ("web3_sha3", json!(["0x68656c6c6f"])),
        // Errors are the node's own too.
        ("eth_getBlockByNumber", json!(["nonsense", false])),
        ("eth_getBalance", json!([])),
        ("eth_call", json!([{ "to": FRIEND }, "0xffffffff"])),
    ]
}

/// What the node itself answers, past the recorder.
async fn directly(node: &Node, method: &str, params: &Value) -> Result<Value, (i64, String)> {
    let answer = node.ask_raw(method, params.clone()).await;
    match answer.get("error") {
        None => Ok(answer["result"].clone()),
        Some(error) => {
            Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap_or_default().to_owned()))
        }
    }
}

fn told(answer: Result<Value, RpcError>) -> Result<Value, (i64, String)> {
    answer.map_err(|error| (error.code, error.message))
}

#[tokio::test]
async fn every_read_is_answered_as_the_node_answers_it_whichever_way_it_comes() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let hash = trader.send(gateway.payment(77)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    let receipt = gateway.node().receipt(&hash).await;
    let block = gateway.node().ask("eth_getBlockByHash", json!([receipt["blockHash"], false])).await;
    let asked = questions(&block, &hash);
    let names: BTreeSet<&str> = asked.iter().map(|(method, _)| *method).collect();
    assert_eq!(
        names,
        listed("READS").iter().map(String::as_str).collect(),
        "each of the table, and no other"
    );

    let mut socket = Socket::open(&trader).await;
    for (method, params) in &asked {
        // Some answers hold the second in which they were made.
        let mut answers = Vec::new();
        for _ in 0..4 {
            let expected = directly(gateway.node(), method, params).await;
            answers = vec![
                told(trader.call(method, params.clone()).await),
                told(socket.call(method, params.clone()).await),
                expected,
            ];
            if answers.iter().all(|answer| *answer == answers[2]) {
                break;
            }
        }
        assert!(answers.iter().all(|answer| *answer == answers[2]), "{method} {params}: {answers:#?}");
    }

    // All of them in one batch, which goes to the node in one.
    let still: Vec<_> = asked.into_iter().filter(|(method, _)| *method != "eth_simulateV1").collect();
    let before = gateway.node().bodies().len();
    let batch = trader.batch(&still).await;
    let bodies = gateway.node().bodies().split_off(before);
    assert_eq!(bodies.iter().filter(|body| body.starts_with('[')).count(), 1, "{bodies:#?}");
    for ((method, params), answer) in still.iter().zip(batch) {
        assert_eq!(told(answer), directly(gateway.node(), method, params).await, "{method} {params}");
    }
}

#[tokio::test]
async fn filters_are_made_asked_and_ended() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    assert_eq!(listed("NEW_FILTERS").len() + listed("FILTERS").len(), 6);
    let blocks = trader.call("eth_newBlockFilter", json!([])).await.unwrap();
    let logs = trader.call("eth_newFilter", json!([{ "fromBlock": "0x0" }])).await.unwrap();
    let pending = trader.call("eth_newPendingTransactionFilter", json!([])).await.unwrap();
    let hash = trader.send(gateway.payment(1)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    let block = gateway.node().receipt(&hash).await["blockHash"].clone();
    let changes = async |filter: &Value| trader.call("eth_getFilterChanges", json!([filter])).await.unwrap();
    assert!(changes(&blocks).await.as_array().unwrap().contains(&block));
    assert_eq!(changes(&pending).await, json!([hash]));
    assert_eq!(trader.call("eth_getFilterLogs", json!([logs])).await, Ok(json!([])));
    // Nobody else's.
    let intern = gateway.client("intern");
    assert!(
        intern.call("eth_getFilterChanges", json!([blocks])).await.unwrap_err().message.contains("not found")
    );
    for filter in [blocks, logs, pending] {
        assert_eq!(trader.call("eth_uninstallFilter", json!([filter])).await, Ok(json!(true)));
        assert_eq!(trader.call("eth_uninstallFilter", json!([filter])).await, Ok(json!(false)));
    }
}

/// Names of methods that nodes and wallets have, and of none.
const NOT_HERE: &[&str] = &[
    "",
    " ",
    "eth",
    "eth_",
    "eth_call ",
    " eth_call",
    "Eth_call",
    "eth_Call",
    "ETH_CALL",
    "eth_call\u{0}",
    "eth_calls",
    "eth\u{2e}call",
    "eth_ſyncing",
    "eth_resend",
    "eth_mining",
    "eth_hashrate",
    "eth_submitWork",
    "eth_getWork",
    "eth_pendingTransactions",
    "eth_getRawTransactionByHash",
    "eth_sendBundle",
    "eth_sendPrivateTransaction",
    "eth_cancelPrivateTransaction",
    "eth_sendUserOperation",
    "eth_decrypt",
    "eth_getEncryptionPublicKey",
    "eth_sendUnsignedTransaction",
    "debug_traceTransaction",
    "debug_setHead",
    "debug_traceCall",
    "trace_block",
    "trace_filter",
    "ots_getApiLevel",
    "erigon_forks",
    "txpool_content",
    "txpool_status",
    "anvil_setBalance",
    "anvil_impersonateAccount",
    "anvil_nodeInfo",
    "anvil_reset",
    "anvil_mine",
    "hardhat_setBalance",
    "hardhat_impersonateAccount",
    "hardhat_metadata",
    "evm_mine",
    "evm_snapshot",
    "evm_revert",
    "evm_setNextBlockTimestamp",
    "engine_newPayloadV4",
    "engine_forkchoiceUpdatedV3",
    "admin_peers",
    "admin_addPeer",
    "miner_start",
    "miner_setEtherbase",
    "clique_propose",
    "les_serverInfo",
    "personal_listAccounts",
    "personal_unlockAccount",
    "personal_sendTransaction",
    "personal_importRawKey",
    "wallet_sendTransaction",
    "wallet_sendCalls",
    "wallet_getCapabilities",
    "wallet_switchEthereumChain",
    "rpc_modules",
    "parity_allTransactions",
    "web3_sha3 ",
    "net_peerCount ",
    "net_version2",
    "bor_getAuthor",
    "optimism_syncStatus",
    "rollup_gasPrices",
    "zks_estimateFee",
    "arb_getRawBlockMetadata",
    "system_listMethods",
    "rpc.discover",
    "__proto__",
    "constructor",
];

#[tokio::test]
async fn inv_04_what_is_not_in_the_table_never_reaches_the_node() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    for method in NOT_HERE {
        let refused = trader.call(method, json!([])).await.unwrap_err();
        assert_eq!((refused.code, &refused.data["code"]), (-32601, &json!("method_not_found")), "{method:?}");
    }
    let calls: Vec<(&str, Value)> = NOT_HERE.iter().map(|method| (*method, json!([]))).collect();
    for answer in trader.batch(&calls).await {
        assert_eq!(answer.unwrap_err().code, -32601);
    }
    // Written otherwise it is the same name, and the node gets it as the table has it.
    let escaped = trader.post(r#"{"jsonrpc":"2.0","id":1,"method":"eth_b\u006cockNumber"}"#).await.json();
    assert!(escaped["result"].is_string(), "{escaped}");

    let known: BTreeSet<String> = ["READS", "NEW_FILTERS", "FILTERS"]
        .into_iter()
        .flat_map(listed)
        .chain(OUR_OWN.map(str::to_owned))
        .collect();
    let seen: BTreeSet<String> = gateway.node().calls().into_iter().map(|call| call.method).collect();
    assert!(seen.is_subset(&known), "{:?}", seen.difference(&known));
}

/// What the gateway asks for itself beside what clients may ask.
const OUR_OWN: [&str; 3] = ["eth_chainId", "eth_getTransactionCount", "eth_sendRawTransaction"];
