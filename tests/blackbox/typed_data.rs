//! Typed data (EIP-712) and `eth_sign`, as tools ask for them: who signed is recovered from the answer.

use alloy_primitives::{Address, B256, Signature, eip191_hash_message, hex};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{FRIEND, Gateway, POLICY, STRANGER, Tool, run, signer_of, tool};

const TOKEN: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

fn policy() -> String {
    let friend = FRIEND.parse::<Address>().unwrap();
    format!(
        r#"{POLICY}
        [contracts]
        token = {{ chain = 31337, address = "{TOKEN}", abi = "erc20", decimals = 6, symbol = "USDC" }}

        [[rule]]
        id           = "permit"
        effect       = "allow"
        kind         = "typed_data"
        chain        = 31337
        clients      = ["trader"]
        from         = ["treasury"]
        to           = ["token"]
        primary_type = "Permit"
        fields       = {{ owner = "$from", spender = "{friend}", value = {{ max = "100 USDC" }} }}

        [[budget]]
        id     = "usdc"
        asset  = "token"
        max    = "150 USDC"
        window = "24h"
        "#
    )
}

/// A permit of so many USDC for `spender`.
fn permit(owner: &str, spender: &str, usdc: u64) -> Value {
    let member = |name: &str, ty: &str| json!({ "name": name, "type": ty });
    json!({
        "types": {
            "EIP712Domain": [member("name", "string"), member("chainId", "uint256"), member("verifyingContract", "address")],
            "Permit": [
                member("owner", "address"), member("spender", "address"), member("value", "uint256"),
                member("nonce", "uint256"), member("deadline", "uint256"),
            ],
        },
        "primaryType": "Permit",
        "domain": { "name": "USD Coin", "chainId": "0x7a69", "verifyingContract": TOKEN },
        "message": {
            "owner": owner, "spender": spender, "value": (usdc * 1_000_000).to_string(), "nonce": 0,
            "deadline": "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        },
    })
}

/// Who signed this; alloy's reading of typed data, not ours.
fn signer(data: &Value, signature: &str) -> Address {
    let typed: alloy_dyn_abi::TypedData = serde_json::from_value(data.clone()).unwrap();
    recovered(typed.eip712_signing_hash().unwrap(), signature)
}

fn recovered(hash: B256, signature: &str) -> Address {
    let bytes = hex::decode(signature).unwrap();
    assert_eq!(bytes.len(), 65);
    signer_of(hash, &Signature::from_raw(&bytes).unwrap())
}

#[tokio::test]
async fn a_permit_is_signed_as_every_tool_asks_for_it_and_charged() {
    let gateway = Gateway::with_policy(&policy()).await;
    let (trader, owner) = (gateway.client("trader"), gateway.treasury().to_string());
    let data = permit(&owner, FRIEND, 1);
    for (method, params) in [
        ("eth_signTypedData_v4", json!([owner, data.to_string()])),
        ("eth_signTypedData_v3", json!([owner, data])),
        ("eth_signTypedData", json!([data, owner])),
    ] {
        let signature = trader.call(method, params).await.unwrap();
        assert_eq!(signer(&data, signature.as_str().unwrap()).to_string(), owner, "{method}");
    }
    let (_process, url) = gateway.connect("trader").await;
    let ask = ["rpc", "--rpc-url", &url, "eth_signTypedData_v4", &owner, &data.to_string()];
    let signature = run(Command::new(tool(Tool::Cast)).args(ask)).await.well();
    assert_eq!(signer(&data, signature.trim().trim_matches('"')).to_string(), owner);

    // 4 of 150 are gone; 100 more fit, then no other 100.
    let large = |nonce: u64| {
        let mut data = permit(&owner, FRIEND, 100);
        data["message"]["nonce"] = json!(nonce);
        json!([owner, data])
    };
    trader.call("eth_signTypedData_v4", large(1)).await.unwrap();
    let refused = trader.call("eth_signTypedData_v4", large(2)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32003, &json!("over_budget")));
    let verified = gateway.chancery(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let rows = gateway.audit().await;
    let kinds =
        rows.iter().filter(|row| row["kind"] == "intent" && row["body"]["kind"] == "typed_data").count();
    assert_eq!(kinds, 5, "{rows:#?}");
}

#[tokio::test]
async fn inv_04_typed_data_that_no_rule_allows_or_that_lies_is_refused() {
    let gateway = Gateway::with_policy(&policy()).await;
    let (trader, owner) = (gateway.client("trader"), gateway.treasury().to_string());
    let ask =
        async |data: Value| trader.call("eth_signTypedData_v4", json!([owner, data])).await.unwrap_err();
    let denied = ask(permit(&owner, STRANGER, 1)).await;
    assert_eq!((denied.code, &denied.data["code"]), (4100, &json!("typed_data_denied")));
    assert_eq!(
        (&denied.data["rule"], &denied.data["condition"]),
        (&json!("permit"), &json!("fields.spender"))
    );

    let mut elsewhere = permit(&owner, FRIEND, 1);
    elsewhere["domain"]["chainId"] = json!(1);
    assert_eq!(ask(elsewhere).await.code, -32602);
    let mut unlisted = permit(&owner, FRIEND, 1);
    unlisted["types"]["EIP712Domain"].as_array_mut().unwrap().pop();
    let refused = ask(unlisted).await;
    assert!(refused.message.contains("`types.EIP712Domain` must list"), "{refused:?}");
    let version_1 = json!([[{ "type": "string", "name": "x", "value": "hello" }], owner]);
    let refused = trader.call("eth_signTypedData", version_1).await.unwrap_err();
    assert!(refused.code == -32602 && refused.message.contains("version 1"), "{refused:?}");
    let of_another =
        trader.call("eth_signTypedData_v4", json!([STRANGER, permit(STRANGER, FRIEND, 1)])).await;
    assert_eq!(of_another.unwrap_err().data["code"], json!("account_not_available"));
    let rows = gateway.audit().await;
    assert_eq!(rows.iter().filter(|row| row["kind"] == "refusal").count(), 5, "{rows:#?}");
}

#[tokio::test]
async fn eth_sign_is_personal_sign_with_its_parameters_turned() {
    let gateway = Gateway::start().await;
    let (trader, owner) = (gateway.client("trader"), gateway.treasury().to_string());
    let text = hex::encode_prefixed("hello desk");
    for (method, params) in [
        ("eth_sign", json!([owner, text])),
        ("personal_sign", json!([text, owner])),
        ("personal_sign", json!([text, owner, ""])),
    ] {
        let signature = trader.call(method, params).await.unwrap();
        let signer = recovered(eip191_hash_message("hello desk"), signature.as_str().unwrap());
        assert_eq!(signer.to_string(), owner, "{method}");
    }
    let hash = json!([owner, hex::encode_prefixed([7; 32])]);
    let refused = trader.call("eth_sign", hash).await.unwrap_err();
    assert_eq!(
        (refused.code, &refused.data["code"]),
        (4100, &json!("message_denied")),
        "no raw hash is signed"
    );
}
