//! Blob transactions (EIP-4844): sent with their blobs, and signed without, as the OP Stack's batcher has it.

use alloy_consensus::{Signed, TxEip4844Variant, TxEip4844WithSidecar, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_eips::eip4844::{Blob, Bytes48};
use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
use alloy_primitives::{Bytes, hex};
use serde_json::{Value, json};

use crate::kit::{FRIEND, Gateway, POLICY};
use crate::nonces::{mine, unmined};

/// The commitment to a blob of zeros, and each of its proofs: the point at infinity.
fn infinity() -> String {
    format!("0xc0{}", "00".repeat(47))
}

const HASH: &str = "0x010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014";

/// What the OP Stack's signer client sends: no type, and null for what is not there.
fn batch(gateway: &Gateway, nonce: u64) -> Value {
    json!({
        "from": gateway.treasury(), "to": FRIEND, "gas": "0x5208", "gasPrice": null, "maxFeePerGas": "0x77359400",
        "maxPriorityFeePerGas": "0x3b9aca00", "value": "0x0", "nonce": format!("{nonce:#x}"), "data": "0x", "input": null,
        "chainId": "0x7a69", "maxFeePerBlobGas": "0x3b9aca00", "blobVersionedHashes": [HASH],
    })
}

/// The same with its blob.
fn with_blob(gateway: &Gateway, nonce: u64) -> Value {
    let mut asked = batch(gateway, nonce);
    asked["type"] = json!("0x3");
    asked["blobs"] = json!([format!("0x{}", "00".repeat(131_072))]);
    asked["commitments"] = json!([infinity()]);
    asked["cellProofs"] = vec![infinity(); 128].into();
    asked
}

fn policy() -> String {
    POLICY.replace("value         =", "blobs         = { max = 1 }\nvalue         =")
}

#[tokio::test]
async fn a_blob_transaction_is_sent_with_its_blobs() {
    let gateway = Gateway::with_policy(&policy()).await;
    let trader = gateway.client("trader");
    let mut asked = batch(&gateway, 0);
    let alone = trader.send(asked.clone()).await.unwrap_err();
    assert!(alone.message.contains("is sent with its `blobs`"), "{}", alone.message);
    asked = with_blob(&gateway, 0);
    let hash = trader.send(asked.clone()).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    let receipt = gateway.node().receipt(&hash).await;
    assert_eq!((&receipt["status"], &receipt["blobGasUsed"]), (&json!("0x1"), &json!("0x20000")));
    assert_eq!(trader.send(asked.clone()).await.unwrap(), hash, "the same again is the same transaction");

    asked["nonce"] = json!("0x1");
    asked["blobVersionedHashes"] = json!([HASH, HASH]);
    let two = trader.send(asked).await.unwrap_err();
    assert!(two.message.contains("are not those of the commitments"), "{}", two.message);
}

/// With its blobs, and by a blob of zeros, for twice as much: what pools ask for.
#[tokio::test]
async fn an_operator_bumps_and_cancels_what_has_blobs() {
    let gateway = unmined().await.policy(&policy()).start().await;
    let trader = gateway.client("trader");
    let mut hashes = Vec::new();
    for nonce in 0..2 {
        hashes.push(trader.send(with_blob(&gateway, nonce)).await.unwrap());
    }
    let order = async |verb, nonce| {
        let asked = ["tx", verb, "--json", "--account", "treasury", "--nonce", nonce];
        let done: Value = serde_json::from_str(&gateway.operate("admin", &asked).await.well()).unwrap();
        assert_eq!(
            (&done["node"], &done["max_fee_per_blob_gas"]),
            (&json!("accepted"), &json!("2000000000"))
        );
        done["hash"].clone()
    };
    let (bumped, cancelled) = (order("bump", "0").await, order("cancel", "1").await);
    let listed = gateway.operate("auditor", &["tx", "list"]).await.well();
    assert!(listed.contains(", blobs 2000000000 wei"), "{listed}");
    mine(&gateway).await;
    for (hash, gone, to) in
        [(&bumped, &hashes[0], FRIEND.to_owned()), (&cancelled, &hashes[1], gateway.treasury().to_string())]
    {
        assert_eq!(gateway.node().receipt(gone).await, Value::Null);
        let (receipt, sent) = (gateway.node().receipt(hash).await, gateway.node().transaction(hash).await);
        assert_eq!((&receipt["status"], &receipt["blobGasUsed"]), (&json!("0x1"), &json!("0x20000")));
        assert_eq!(
            (&sent["to"], &sent["maxFeePerBlobGas"]),
            (&json!(to.to_lowercase()), &json!("0x77359400"))
        );
    }
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// What nodes would refuse is refused before it is signed, and what they would take is signed.
#[tokio::test]
async fn a_client_replaces_blobs_by_blobs_that_pay_twice_as_much() {
    let own = policy().replacen("execution_fee", "replace = \"own\"\nexecution_fee", 1);
    let gateway = unmined().await.policy(&own).start().await;
    let trader = gateway.client("trader");
    let paying = |times: u64| {
        let mut asked = with_blob(&gateway, 0);
        for (field, gwei) in [("maxFeePerGas", 2), ("maxPriorityFeePerGas", 1), ("maxFeePerBlobGas", 1)] {
            asked[field] = json!(format!("{:#x}", gwei * times * 100_000_000));
        }
        asked
    };
    let first = trader.send(paying(10)).await.unwrap();
    let cheap = trader.send(paying(19)).await.unwrap_err();
    assert_eq!(cheap.data["code"], "replacement_underpriced", "{cheap:?}");
    let mut plain = gateway.payment(1);
    plain["nonce"] = json!("0x0");
    let other = trader.send(plain).await.unwrap_err();
    assert!(other.message.contains("a pool of their own"), "{other:?}");
    let second = trader.send(paying(20)).await.unwrap();
    mine(&gateway).await;
    assert_eq!(gateway.node().receipt(&first).await, Value::Null);
    assert_eq!(gateway.node().receipt(&second).await["status"], "0x1");
}

/// Signed by its hashes only, its blobs are not here: a blob of zeros takes its place.
#[tokio::test]
async fn an_operator_cancels_blobs_that_are_not_here() {
    let gateway = unmined().await.policy(&policy()).start().await;
    let trader = gateway.client("trader");
    trader.call("eth_signTransaction", json!([batch(&gateway, 0)])).await.unwrap();
    let asked = ["tx", "cancel", "--json", "--account", "treasury", "--nonce", "0"];
    let done: Value = serde_json::from_str(&gateway.operate("admin", &asked).await.well()).unwrap();
    assert_eq!(done["node"], "accepted", "{done}");
    mine(&gateway).await;
    let receipt = gateway.node().receipt(&done["hash"]).await;
    assert_eq!((&receipt["status"], &receipt["blobGasUsed"]), (&json!("0x1"), &json!("0x20000")));
}

#[tokio::test]
async fn a_batcher_has_its_transaction_signed_and_sends_it_with_its_blobs() {
    let gateway = Gateway::with_policy(&policy()).await;
    let trader = gateway.client("trader");
    let signed = trader.call("eth_signTransaction", json!([batch(&gateway, 0)])).await.unwrap();
    let alone = trader.call("eth_sendRawTransaction", json!([signed])).await.unwrap_err();
    assert!(alone.message.contains("is sent with its `blobs`"), "{}", alone.message);
    let signed = hex::decode(signed.as_str().unwrap()).unwrap();
    assert_eq!(signed[0], 3);
    let TxEnvelope::Eip4844(envelope) = TxEnvelope::decode_2718_exact(&signed).unwrap() else {
        panic!("it is no blob transaction")
    };
    let point: Bytes48 = infinity().parse().unwrap();
    let sidecar = BlobTransactionSidecarEip7594 {
        blobs: vec![Blob::ZERO],
        commitments: vec![point],
        cell_proofs: vec![point; 128],
    };
    let (tx, signature, hash) = envelope.into_parts();
    let sidecar = BlobTransactionSidecarVariant::Eip7594(sidecar);
    let tx = TxEip4844WithSidecar { tx: tx.tx().clone(), sidecar };
    let network = Signed::new_unchecked(TxEip4844Variant::TxEip4844WithSidecar(tx), signature, hash);
    let raw = Bytes::from(TxEnvelope::Eip4844(network).encoded_2718());
    // It was recorded as it was returned; the node must get it as it comes now.
    assert_eq!(trader.call("eth_sendRawTransaction", json!([raw])).await.unwrap(), json!(hash));
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_eq!(gateway.node().receipt(&json!(hash)).await["status"], "0x1");
}

#[tokio::test]
async fn inv_04_blobs_are_refused_where_no_rule_speaks_of_them() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let refused = trader.call("eth_signTransaction", json!([batch(&gateway, 0)])).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["condition"]), (-32003, &json!("blobs")), "{refused:?}");
    assert!(refused.message.contains("with 1 blobs"), "{}", refused.message);
}
