//! What the OP Stack's signer client (`op-service/signer`) sends, letter by letter: op-batcher and op-proposer are pointed at the
//! gateway by `--signer.endpoint`, `--signer.address` and `--signer.tls.*`, and send what was signed to their own node.

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, U256, hex};
use serde_json::{Value, json};

use crate::kit::{Client, FRIEND, Gateway, STRANGER, signer_of};

const POLICY: &str = r#"
[[rule]]
id            = "batch"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["trader"]
from          = ["treasury"]
to            = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
call          = "any"
execution_fee = { max = "0.05 ether" }
replace       = "own"
"#;

/// `TransactionArgs` as Go marshals it: every pointer is there, as null where it is nil, and so is an empty access list.
fn args(from: Address, to: &str, nonce: u64, gwei: u64) -> String {
    format!(
        r#"{{"from":"{from:?}","to":"{to}","gas":"0xc350","gasPrice":null,"maxFeePerGas":"{:#x}","maxPriorityFeePerGas":"{:#x}","value":"0x0","nonce":"{nonce:#x}","data":null,"input":"0x00d8d3a4f9","accessList":null,"chainId":"0x7a69"}}"#,
        gwei * 1_000_000_000,
        gwei * 100_000_000,
    )
}

/// A call as go-ethereum's `rpc.Client` posts it: over HTTP/1.1, its `params` left out where there are none.
async fn call(client: &Client, method: &str, params: Option<&str>) -> Value {
    let params = params.map(|params| format!(r#","params":[{params}]"#)).unwrap_or_default();
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"{params}}}"#);
    let mut request = client.json_request(body);
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    client.request(request).await.unwrap().json()
}

#[tokio::test]
async fn the_op_stacks_signer_client_signs_and_bumps_and_sends_by_itself() {
    let gateway = Gateway::with_policy(POLICY).await;
    let (batcher, from) = (gateway.client("trader").http1(), gateway.treasury());
    // It only wants a text, with which it says that the signer is there.
    let status = call(&batcher, "health_status", None).await;
    assert!(status["result"].as_str().is_some_and(|version| version.starts_with("Chancery/")), "{status}");

    // The second is the same batch with its fees raised, as its transaction manager does where nothing is mined in time.
    let mut signed = Vec::new();
    for gwei in [10, 20] {
        let answer = call(&batcher, "eth_signTransaction", Some(&args(from, FRIEND, 0, gwei))).await;
        let raw = answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let transaction = TxEnvelope::decode_2718_exact(&hex::decode(&raw).unwrap()).unwrap();
        assert_eq!(signer_of(transaction.signature_hash(), transaction.signature()), from);
        assert_eq!(transaction.chain_id(), Some(31337));
        assert_eq!((transaction.nonce(), transaction.gas_limit()), (0, 50_000));
        assert_eq!(transaction.max_fee_per_gas(), u128::from(gwei) * 1_000_000_000);
        assert_eq!(transaction.max_priority_fee_per_gas(), Some(u128::from(gwei) * 100_000_000));
        assert_eq!(
            (transaction.value(), transaction.input().to_string()),
            (U256::ZERO, "0x00d8d3a4f9".to_owned())
        );
        signed.push(raw);
    }
    gateway.node().ask("eth_sendRawTransaction", json!([signed[1]])).await;
    gateway.node().mines(from, 1).await;
    let next = call(&batcher, "eth_signTransaction", Some(&args(from, FRIEND, 1, 10))).await;
    assert!(next["result"].is_string(), "{next}");
}

#[tokio::test]
async fn the_op_stacks_signer_client_is_told_why_not() {
    let gateway = Gateway::with_policy(POLICY).await;
    let (batcher, from) = (gateway.client("trader").http1(), gateway.treasury());
    let refused = call(&batcher, "eth_signTransaction", Some(&args(from, STRANGER, 0, 10))).await;
    assert_eq!(refused["error"]["data"]["code"], "transaction_denied", "{refused}");
    let stranger = gateway.client("intern").http1();
    let refused = call(&stranger, "eth_signTransaction", Some(&args(from, FRIEND, 0, 10))).await;
    assert_eq!(refused["error"]["data"]["code"], "account_not_available", "{refused}");
}
