//! `outcome`: a real node tries transactions out before they are signed.

use alloy_primitives::{Bytes, U256, hex};
use serde_json::{Value, json};

use crate::delegation::authorization;
use crate::kit::{FRIEND, Fault, Gateway, STRANGER};

/// Where the coin is.
const COIN: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

const POLICY: &str = r#"
[contracts]
coin = { chain = 31337, address = "0x5FbDB2315678afecb367f032d93F642f64180aa3", decimals = 6, symbol = "COIN" }

[[rule]]
id      = "spend"
effect  = "allow"
kind    = "transaction"
chain   = 31337
clients = ["trader"]
from    = ["treasury"]
to      = ["coin"]
call    = "any"
outcome = { max_out = ["5 COIN"] }
"#;

/// A coin that says what its one holder has to whoever asks with 36 bytes (`balanceOf`), and takes from it what any other
/// calldata begins with: no argument's name says so, and no ABI.
const CODE: &str = "0x36602414603f57600035806000540360005560005260013\
                    37fddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef60206000a3005b60005460005260206000f3";

fn spend(gateway: &Gateway, amount: u64) -> Value {
    let data = hex::encode_prefixed(U256::from(amount).to_be_bytes::<32>());
    json!({ "from": gateway.treasury(), "to": COIN, "data": data, "gas": "0x30d40" })
}

/// The same, for transactions that hand in authorizations as well; and ether may be paid to FRIEND.
const MORE: &str = r#"
[[rule]]
id        = "spend-by-code"
effect    = "allow"
kind      = "transaction"
chain     = 31337
clients   = ["trader"]
from      = ["treasury"]
to        = ["coin"]
call      = "any"
delegates = ["any"]
outcome   = { max_out = ["5 COIN"] }

[[rule]]
id      = "pay"
effect  = "allow"
kind    = "transaction"
chain   = 31337
clients = ["trader"]
from    = ["treasury"]
to      = ["any"]
call    = "empty"
value   = { max = "1 ether" }
"#;

/// Whoever holds back what was signed could change what the next one does.
#[tokio::test]
async fn inv_04_nothing_is_tried_out_behind_what_is_not_mined() {
    let gateway = Gateway::with_policy(&format!("{POLICY}{MORE}")).await;
    let (node, trader) = (gateway.node(), gateway.client("trader"));
    node.ask("anvil_setCode", json!([COIN, CODE.parse::<Bytes>().unwrap()])).await;
    let thousand = hex::encode_prefixed(U256::from(1_000_000_000).to_be_bytes::<32>());
    node.ask("anvil_setStorageAt", json!([COIN, "0x0", thousand])).await;
    let held =
        json!({ "from": gateway.treasury(), "to": FRIEND, "value": "0x1", "gas": "0x5208", "nonce": "0x0" });
    let held = trader.call("eth_signTransaction", json!([held])).await.unwrap();

    let mut second = spend(&gateway, 1);
    second["nonce"] = json!("0x1");
    let mut by_code = spend(&gateway, 1);
    by_code["authorizationList"] = json!([authorization(STRANGER, "31337").await]);
    for asked in [spend(&gateway, 1), second, by_code.clone()] {
        let denied = trader.send(asked).await.unwrap_err();
        assert_eq!((denied.code, &denied.data["condition"]), (-32003, &json!("outcome")), "{denied:?}");
        assert!(denied.message.contains("not mined yet, or not sent"), "{denied:?}");
    }
    assert!(node.calls_of("eth_simulateV1").is_empty());

    trader.call("eth_sendRawTransaction", json!([held])).await.unwrap();
    node.mines(gateway.treasury(), 1).await;
    trader.send(by_code).await.unwrap();
    node.mines(gateway.treasury(), 2).await;
    let hash = trader.send(spend(&gateway, 1)).await.unwrap();
    node.mines(gateway.treasury(), 3).await;
    assert_eq!(node.receipt(&hash).await["status"], "0x1");
}

#[tokio::test]
async fn what_a_transaction_would_do_is_found_out_before_it_is_signed() {
    let gateway = Gateway::with_policy(POLICY).await;
    let (node, trader) = (gateway.node(), gateway.client("trader"));
    node.ask("anvil_setCode", json!([COIN, CODE.parse::<Bytes>().unwrap()])).await;
    let thousand = hex::encode_prefixed(U256::from(1_000_000_000).to_be_bytes::<32>());
    node.ask("anvil_setStorageAt", json!([COIN, "0x0", thousand])).await;

    let denied = trader.send(spend(&gateway, 5_000_001)).await.unwrap_err();
    assert_eq!((denied.code, &denied.data["condition"]), (-32003, &json!("outcome")), "{denied:?}");
    assert!(
        denied.message.contains("it would take 5.000001 COIN from the account, and may take 5 COIN"),
        "{denied:?}"
    );
    let hash = trader.send(spend(&gateway, 5_000_000)).await.unwrap();
    node.mines(gateway.treasury(), 1).await;
    assert_eq!(node.receipt(&hash).await["status"], "0x1");

    // It is the chain as it is now: what reverts there is not signed, and what nobody can try out neither.
    node.ask("anvil_setCode", json!([COIN, "0x36602414600857fe5b60005460005260206000f3"])).await;
    let denied = trader.send(spend(&gateway, 1)).await.unwrap_err();
    assert!(denied.message.contains("it would revert"), "{denied:?}");
    node.fail(
        "eth_simulateV1",
        Fault::Refuse { code: -32601, message: "the method eth_simulateV1 does not exist" },
    );
    let denied = trader.send(spend(&gateway, 1)).await.unwrap_err();
    assert!(
        denied.code == -32003 && denied.message.contains("no node could say what it would do"),
        "{denied:?}"
    );
    node.heal();
    assert_eq!(node.calls_of("eth_simulateV1").len(), 4);
    assert!(gateway.metric("chancery_simulations_total{outcome=\"failed\"}").await > 0.5);
}
