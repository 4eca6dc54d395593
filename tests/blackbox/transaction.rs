//! The main job: a transaction, as asked and as mined.

use serde_json::{Value, json};

use crate::kit::{FRIEND, Gateway, STRANGER};

#[tokio::test]
async fn an_allowed_payment_is_mined_exactly_as_asked() {
    let gateway = Gateway::start().await;
    let hash = gateway.client("trader").send(gateway.payment(12345)).await.unwrap();

    let mined = gateway.node().transaction(&hash).await;
    assert_eq!(mined["from"], json!(gateway.treasury()));
    assert_eq!(mined["to"], FRIEND);
    assert_eq!(mined["value"], "0x3039");
    assert_eq!(mined["input"], "0x");
    assert_eq!(mined["nonce"], "0x0");
    assert_eq!(mined["type"], "0x2");
    assert_eq!(gateway.node().receipt(&hash).await["status"], "0x1");
}

#[tokio::test]
async fn a_payment_that_no_rule_allows_is_refused_and_nothing_reaches_the_node() {
    let gateway = Gateway::start().await;
    let mut payment = gateway.payment(1);
    payment["to"] = json!(STRANGER);
    let refused = gateway.client("trader").send(payment).await.unwrap_err();

    assert_eq!((refused.code, refused.data["code"].as_str()), (-32003, Some("transaction_denied")));
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction"), []);
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
}

#[tokio::test]
async fn an_account_that_does_not_exist_and_one_of_others_get_the_same_answer() {
    let gateway = Gateway::start().await;
    let intern = gateway.client("intern");
    let foreign = intern.send(gateway.payment(1)).await.unwrap_err();
    let mut payment = gateway.payment(1);
    payment["from"] = json!(STRANGER);
    let unknown = intern.send(payment).await.unwrap_err();

    assert_eq!((foreign.code, foreign.data["code"].as_str()), (4100, Some("account_not_available")));
    let treasury = gateway.treasury();
    let anonymous = |text: &str| {
        text.to_lowercase().replace(&treasury.to_string().to_lowercase(), "…").replace(STRANGER, "…")
    };
    assert_eq!(anonymous(&foreign.message), anonymous(&unknown.message));
    assert_eq!((foreign.code, foreign.data["code"].clone()), (unknown.code, unknown.data["code"].clone()));
    assert_eq!(Value::Null, foreign.data["rule"]);
}
