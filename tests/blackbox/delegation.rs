//! Transactions that set accounts' code (EIP-7702).

use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, hex};
use alloy_rlp::Decodable as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{FRIEND, Gateway, POLICY, STRANGER, Tool, run, tool};

/// The key of anvil's second account, FRIEND.
const FRIENDS_KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// FRIEND lets a contract act as itself; signed by cast.
async fn authorization(delegate: &str, chain: &str) -> Value {
    let arguments =
        ["wallet", "sign-auth", delegate, "--private-key", FRIENDS_KEY, "--nonce", "0", "--chain", chain];
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
