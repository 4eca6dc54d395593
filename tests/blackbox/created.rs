//! `$created`: an account may call what it created itself, and what that is, the ledger knows.

use std::time::Duration;

use alloy_primitives::{hex, keccak256};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::kit::{Gateway, POLICY, STRANGER};

const DEPLOYER: &str = r#"
[[rule]]
id      = "create"
effect  = "allow"
kind    = "transaction"
chain   = 31337
clients = ["trader"]
from    = ["treasury"]
to      = ["create"]
call    = "any"

[[rule]]
id      = "set-up"
effect  = "allow"
kind    = "transaction"
chain   = 31337
clients = ["trader"]
from    = ["treasury"]
to      = ["$created"]
call    = "ping()"
"#;

/// A contract that does nothing, whoever calls it.
fn creation(gateway: &Gateway, nonce: u64) -> Value {
    let code = "0x6001600c60003960016000f300";
    json!({ "from": gateway.treasury(), "data": code, "gas": "0x186a0", "nonce": format!("{nonce:#x}") })
}

fn ping(gateway: &Gateway, to: &str) -> Value {
    let selector = hex::encode_prefixed(keccak256("ping()").get(..4).unwrap());
    json!({ "from": gateway.treasury(), "to": to, "data": selector, "gas": "0x186a0" })
}

#[tokio::test]
async fn an_account_calls_what_it_created_and_nothing_else() {
    let mut gateway = Gateway::with_policy(&format!("{POLICY}{DEPLOYER}")).await;
    let [first, second] = [0, 1].map(|nonce| gateway.treasury().create(nonce).to_string());
    let refused = async |gateway: &Gateway, to: &str| {
        let denied = gateway.client("trader").send(ping(gateway, to)).await.unwrap_err();
        assert_eq!((denied.code, &denied.data["condition"]), (-32003, &json!("to")), "{denied:?}");
    };
    refused(&gateway, &first).await;

    // A tool sends both at once, and the call comes first.
    let trader = gateway.client("trader");
    let mut call = ping(&gateway, &first);
    call["nonce"] = json!("0x1");
    let late = async {
        sleep(Duration::from_millis(300)).await;
        trader.send(creation(&gateway, 0)).await
    };
    let (called, created) = tokio::join!(trader.send(call), late);
    created.unwrap();
    assert_eq!(gateway.node().transaction(&called.unwrap()).await["to"], json!(first.to_lowercase()));
    gateway.node().mines(gateway.treasury(), 2).await;

    refused(&gateway, STRANGER).await;
    // By that nonce it called something, and created nothing.
    refused(&gateway, &second).await;
    gateway.kill().await;
    gateway.restart().await;
    gateway.client("trader").send(ping(&gateway, &first)).await.unwrap();
}
