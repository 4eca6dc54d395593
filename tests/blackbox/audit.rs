//! What an auditor finds: who came, what was asked in what form, and proof that nothing was left out.

use serde_json::{Value, json};

use crate::kit::{Gateway, World, eventually};

/// The rows of one kind, oldest first.
async fn rows(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.chancery(&["audit", "show", "--kind", kind, "--json"]).await.well();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].clone()).collect()
}

#[tokio::test]
async fn the_audit_says_who_came_who_was_turned_away_and_what_the_gateway_was_told() {
    let gateway = Gateway::start().await;
    gateway.client("trader").call("eth_chainId", json!([])).await.unwrap();
    gateway.visitor(None).alert().await;
    gateway.client("nobody").alert().await;
    let access = eventually("rows about visitors", async || {
        let access = rows(&gateway, "access").await;
        (access.iter().any(|row| row["who"] == "trader") && access.iter().any(|row| row["what"] == "refused"))
            .then_some(access)
    })
    .await;
    let trader = access.iter().find(|row| row["who"] == "trader").unwrap();
    assert_eq!(trader["identity"], "spiffe://chancery/trader");
    assert_eq!(trader["from"]["127.0.0.1"], 1);
    let [configuration] = &rows(&gateway, "configuration").await[..] else { panic!() };
    assert!(configuration["text"].as_str().unwrap().contains("spiffe://chancery/trader"));
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_12_a_client_that_is_refused_without_end_does_not_fill_the_disk() {
    let mut gateway = Gateway::start().await;
    let intern = gateway.client("intern");
    let bad = json!({ "from": gateway.treasury() });
    for _ in 0..130 {
        intern.send(bad.clone()).await.unwrap_err();
    }
    gateway.signal(rustix::process::Signal::TERM);
    gateway.ends().await;
    assert_eq!(rows(&gateway, "refusal").await.len(), 100);
    let [counted] = &rows(&gateway, "refusals").await[..] else { panic!() };
    assert_eq!((&counted["client"], &counted["count"]), (&json!("intern"), &json!(30)));
}

#[tokio::test]
async fn a_malformed_request_for_a_signature_is_on_the_record() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for body in [
        r#"{"jsonrpc":"2.0","method":"eth_sendTransaction","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":-1,"method":"personal_sign","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"eth_signTransaction","METHOD":"eth_chainId","params":[]}"#,
    ] {
        trader.post(body).await;
    }
    let refusals = rows(&gateway, "refusal").await;
    let methods: Vec<_> = refusals.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["eth_sendTransaction", "personal_sign", "eth_signTransaction"]);
    assert!(refusals.iter().all(|row| row["cause"] == "invalid_request"), "{refusals:?}");
}

#[tokio::test]
async fn with_less_room_than_the_headroom_nothing_is_signed_and_readiness_says_so() {
    let world = World::new().await;
    let world = world.replace("\"ledger.sqlite\"", "\"ledger.sqlite\"\nmin_free = \"900_000_000 GiB\"");
    let gateway = world.start().await;
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!(refused.data["code"], "ledger_unavailable");
    assert!(refused.message.contains("min_free"), "{refused:?}");
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), 0);
    let ready = gateway.admin("admin", "/readyz").await.unwrap();
    assert!(ready.body.contains("min_free"), "{}", ready.body);
}
