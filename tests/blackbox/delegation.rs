//! Accounts that act by the code of contracts (EIP-7702): authorizations that are signed here, and transactions that hand them in.

use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, hex};
use alloy_rlp::Decodable as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{
    FRIEND, Gateway, POLICY, RpcError, STRANGER, TestToken, Tool, World, eventually, run, tool,
};

/// The key of anvil's second account, FRIEND.
const FRIENDS_KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// FRIEND lets a contract act as itself; signed by cast.
pub async fn authorization(delegate: &str, chain: &str) -> Value {
    signed_with(FRIENDS_KEY, delegate, chain).await
}

async fn signed_with(key: &str, delegate: &str, chain: &str) -> Value {
    let arguments = ["wallet", "sign-auth", delegate, "--private-key", key, "--nonce", "0", "--chain", chain];
    let output = run(Command::new(tool(Tool::Cast)).args(arguments)).await;
    let bytes = hex::decode(output.well().trim()).unwrap();
    let signed = SignedAuthorization::decode(&mut bytes.as_slice()).unwrap();
    json!({
        "chainId": signed.chain_id(), "address": signed.address(), "nonce": format!("{:#x}", signed.nonce()),
        "yParity": format!("{:#x}", signed.y_parity()), "r": signed.r(), "s": signed.s(),
    })
}

#[tokio::test]
async fn code_is_set_where_a_rule_names_the_delegate() {
    let stranger: Address = STRANGER.parse().unwrap();
    let named = format!("delegates     = [\"{stranger}\"]\nvalue         =");
    let gateway = Gateway::with_policy(&POLICY.replace("value         =", &named)).await;
    let trader = gateway.client("trader");
    let asked = |authorization: Value| json!({ "from": gateway.treasury(), "to": FRIEND, "value": "0x1", "gas": "0x186a0", "authorizationList": [authorization] });
    let refused = trader.send(asked(authorization(FRIEND, "31337").await)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["condition"]), (-32003, &json!("delegates")), "{refused:?}");
    for (chain, why) in [("0", "good on every chain"), ("1", "is for chain 1")] {
        let refused = trader.send(asked(authorization(STRANGER, chain).await)).await.unwrap_err();
        assert!(refused.code == -32602 && refused.message.contains(why), "{refused:?}");
    }
    let hash = trader.send(asked(authorization(STRANGER, "31337").await)).await.unwrap();
    assert_eq!(gateway.node().receipt(&hash).await["status"], "0x1");
    let code = gateway.node().ask("eth_getCode", json!([FRIEND, "latest"])).await;
    assert_eq!(code, json!(format!("0xef0100{}", &STRANGER.to_lowercase()[2..])));
}

/// The policy of these tests, and the treasury may act by the code of STRANGER.
fn authorizing() -> String {
    let stranger: Address = STRANGER.parse().unwrap();
    let named = format!("delegates     = [\"{stranger}\"]\nvalue         =");
    let rule = format!(
        "[[rule]]\nid = \"code\"\neffect = \"allow\"\nkind = \"authorization\"\nchain = 31337\nclients = [\"trader\"]\n\
         from = [\"treasury\"]\ndelegates = [\"{stranger}\"]\n"
    );
    format!("{}{rule}", POLICY.replace("value         =", &named))
}

/// Asks the trader's gateway for an authorization.
async fn ask(gateway: &Gateway, more: Value) -> Result<Value, RpcError> {
    let mut asked = json!({ "from": gateway.treasury(), "address": STRANGER });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    gateway.client("trader").call("eth_signAuthorization", json!([asked])).await
}

/// The treasury acts by the code of STRANGER.
async fn acts_by_code(gateway: &Gateway) -> bool {
    let code = gateway.node().ask("eth_getCode", json!([gateway.treasury(), "latest"])).await;
    code == json!(format!("0xef0100{}", &STRANGER.to_lowercase()[2..]))
}

/// The last state of every authorization, by its audit rows.
async fn settled(gateway: &Gateway) -> Option<Value> {
    let rows = gateway.audit().await;
    let of = |row: &&Value| row["body"]["kind"] == "authorization";
    let id = rows.iter().find(of).map(|row| row["body"]["reservation"].clone())?;
    let last = |row: &&Value| row["kind"] == "final" && row["body"]["reservation"] == id;
    rows.iter().find(last).map(|row| row["body"]["succeeded"].clone())
}

#[tokio::test]
async fn inv_02_an_authorization_holds_its_nonce_until_somebody_hands_it_in() {
    let gateway = Gateway::with_policy(&authorizing()).await;
    let trader = gateway.client("trader");
    for (more, code, why) in [
        (json!({ "address": FRIEND }), 4100, "which the rule does not name"),
        (json!({ "chainId": "0x0" }), -32602, "good on every chain"),
        (json!({ "chainId": "0x1" }), -32602, "is for chain 1"),
        (json!({ "nonce": "0x2" }), -32003, "leaves a gap"),
        (json!({ "from": STRANGER }), 4100, "not available"),
    ] {
        let refused = ask(&gateway, more).await.unwrap_err();
        assert!(refused.code == code && refused.message.contains(why), "{why}: {refused:?}");
    }
    let signed = ask(&gateway, json!({})).await.unwrap();
    assert_eq!((&signed["nonce"], &signed["chainId"]), (&json!("0x0"), &json!("0x7a69")));
    assert_eq!(ask(&gateway, json!({ "nonce": "0x0" })).await.unwrap_err().data["code"], "nonce_taken");

    // No payment takes its place; the next one stands behind it.
    let mut first = gateway.payment(1);
    first["nonce"] = json!("0x0");
    assert_eq!(trader.send(first).await.unwrap_err().data["code"], "nonce_taken");
    let pending = json!([gateway.treasury(), "pending"]);
    assert_eq!(trader.call("eth_getTransactionCount", pending).await.unwrap(), json!("0x1"));
    let listed = gateway.operate("auditor", &["tx", "list"]).await.well();
    assert!(listed.contains("an authorization: whoever has it may hand it in"), "{listed}");

    // FRIEND hands it in, with a key and a node of his own.
    let sponsor = json!({ "from": FRIEND, "to": FRIEND, "gas": "0x186a0", "type": "0x4", "authorizationList": [signed] });
    gateway.node().ask("eth_sendTransaction", json!([sponsor])).await;
    gateway.node().mines(gateway.treasury(), 1).await;
    assert!(acts_by_code(&gateway).await);
    let behind = trader.send(gateway.payment(2)).await.unwrap();
    assert_eq!(gateway.node().transaction(&behind).await["nonce"], "0x1");
    gateway.node().mines(gateway.treasury(), 2).await;
    gateway.node().ask("anvil_mine", json!(["0x80"])).await;
    let succeeded = eventually("the ledger has heard of it", async || settled(&gateway).await).await;
    assert_eq!(succeeded, json!(true));
    assert!(gateway.metric("chancery_foreign_signatures_total").await < 0.5);
    gateway.chancery(&["audit", "verify"]).await.well();
}

#[tokio::test]
async fn an_account_that_hands_in_its_own_authorization_uses_up_two_nonces() {
    let gateway = Gateway::with_policy(&authorizing()).await;
    let trader = gateway.client("trader");
    let signed = ask(&gateway, json!({ "executor": "self" })).await.unwrap();
    assert_eq!(signed["nonce"], "0x1");
    let mut asked = json!({ "from": gateway.treasury(), "to": FRIEND, "value": "0x1", "gas": "0x186a0", "authorizationList": [signed] });
    asked["nonce"] = json!("0x1");
    let refused = trader.send(asked.clone()).await.unwrap_err();
    assert!(refused.code == -32602 && refused.message.contains("nonce behind"), "{refused:?}");
    asked.as_object_mut().unwrap().remove("nonce");
    let hash = trader.send(asked).await.unwrap();
    assert_eq!(gateway.node().transaction(&hash).await["nonce"], "0x0");
    gateway.node().mines(gateway.treasury(), 2).await;
    assert!(acts_by_code(&gateway).await);
    let next = trader.send(gateway.payment(2)).await.unwrap();
    assert_eq!(gateway.node().transaction(&next).await["nonce"], "0x2");
    assert!(gateway.metric("chancery_foreign_signatures_total").await < 0.5);
}

/// What is not used any more holds its nonce for good, but for an operator.
#[tokio::test]
async fn inv_13_an_operator_uses_up_the_nonce_of_an_authorization_that_nobody_hands_in() {
    let gateway = Gateway::with_policy(&authorizing()).await;
    let signed = ask(&gateway, json!({})).await.unwrap();
    let behind = gateway.client("trader").send(gateway.payment(2)).await.unwrap();
    gateway.operate("admin", &["tx", "cancel", "--account", "treasury", "--nonce", "0"]).await.well();
    gateway.node().mines(gateway.treasury(), 2).await;
    assert_eq!(gateway.node().receipt(&behind).await["status"], "0x1");
    // It is good for nothing any more.
    let late = json!({ "from": FRIEND, "to": FRIEND, "gas": "0x186a0", "type": "0x4", "authorizationList": [signed] });
    gateway.node().ask("eth_sendTransaction", json!([late])).await;
    assert!(!acts_by_code(&gateway).await);
}

/// Whoever has an authorization by a key of ours that was not signed here has the key.
#[tokio::test]
async fn an_authorization_by_a_key_of_ours_raises_the_alarm() {
    let (world, _token, key) = TestToken::instead(World::new().await);
    let gateway = world.start().await;
    let stolen = signed_with(&key.secret(), STRANGER, "31337").await;
    let asked = json!({ "from": key.address, "to": FRIEND, "value": "0x1", "gas": "0x186a0", "authorizationList": [stolen] });
    let refused = gateway.client("trader").send(asked).await.unwrap_err();
    assert_eq!(
        (refused.code, &refused.data["code"]),
        (-32003, &json!("unrecorded_signature")),
        "{refused:?}"
    );
    assert!(gateway.metric("chancery_foreign_signatures_total").await > 0.5);
    gateway.logs("ALARM: an authorization is signed by an account of ours").await;
}
