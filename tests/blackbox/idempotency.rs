//! A request that is repeated under its key is made once, whatever happens in between.

use std::time::Duration;

use http::HeaderValue;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::kit::{Client, Fault, Gateway, Output, Tool, World, eventually, run, tool};
use crate::nonces::unmined;
use crate::token::with_remote_token;

/// A body under a key; `None` where no answer came.
async fn post(client: &Client, key: &str, body: &Value) -> Option<Value> {
    let mut request = client.json_request(body.to_string());
    request.headers_mut().insert("idempotency-key", HeaderValue::from_str(key).unwrap());
    client.request(request).await.ok().map(|answer| answer.json())
}

fn call(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn send(transaction: &Value) -> Value {
    call("eth_sendTransaction", &json!([transaction]))
}

#[tokio::test]
async fn inv_10_the_same_request_under_the_same_key_is_one_transaction() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let first = post(&trader, "order-17", &send(&gateway.payment(7))).await.unwrap()["result"].clone();
    assert!(first.is_string(), "{first}");
    // Once it is mined, the node could refuse to estimate it, or be gone.
    gateway.settled().await;
    gateway.node().fail("eth_estimateGas", Fault::Refuse { code: 3, message: "execution reverted" });
    for fault in [None, Some("eth_sendRawTransaction")] {
        if let Some(method) = fault {
            gateway.node().fail(method, Fault::Drop);
        }
        let again = post(&gateway.client("trader"), "order-17", &send(&gateway.payment(7))).await.unwrap();
        assert_eq!(again["result"], first, "{again}");
    }
    assert_eq!(gateway.node().calls_of("eth_estimateGas").len(), 1, "nothing is asked for a repeat");
    gateway.node().heal();
    let other = post(&trader, "order-17", &send(&gateway.payment(8))).await.unwrap();
    let error = &other["error"];
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32602), &json!("idempotency_key_reused")));
    let next = post(&trader, "order-18", &send(&gateway.payment(7))).await.unwrap();
    assert_ne!(next["result"], first);
    gateway.node().mines(gateway.treasury(), 2).await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// A client that hears a hash waits for it, and one that hears a refusal pays again: of one transaction both must hear the same.
#[tokio::test]
async fn inv_02_who_asks_beside_the_first_hears_what_the_node_says_of_it() {
    let gateway = Gateway::start().await;
    let node = gateway.node();
    let mut payment = gateway.payment(1_000_000_000_000_000_000);
    payment["gas"] = json!("0x5208"); // an estimate would tell at once
    payment["nonce"] = json!("0x0");
    let handed_over = || node.calls_of("eth_sendRawTransaction").len();
    let half = json!([gateway.treasury(), "0x6f05b59d3b20000"]); // half an ether, in wei
    node.ask("anvil_setBalance", half).await;
    node.fail("eth_sendRawTransaction", Fault::Delay(Duration::from_secs(1)));
    // The first by a key, the second by its nonce; and, once it is refused, both at once.
    for first_is_out in [false, true] {
        let before = handed_over();
        let (trader, body) = (gateway.client("trader"), send(&payment));
        let first = tokio::spawn(async move { post(&trader, "order-17", &body).await.unwrap() });
        eventually("it is handed over", async || (handed_over() > before).then_some(())).await;
        let (keyed, named) = (gateway.client("trader"), gateway.client("trader"));
        let body = send(&payment);
        let (keyed, named) = tokio::join!(post(&keyed, "order-17", &body), named.send(payment.clone()));
        let (first, keyed, named) = (first.await.unwrap(), keyed.unwrap(), named.unwrap_err());
        for told in [&first["error"]["data"], &keyed["error"]["data"], &named.data] {
            assert_eq!(told["code"], "node_refused", "{first_is_out}: {first} {keyed} {named:?}");
        }
        let open = gateway.not_final().await;
        assert_eq!((open.len(), &open[0]["node"]), (1, &json!("refused")), "no node ever had it: {open:?}");
    }
    node.heal();
    let plenty = json!([gateway.treasury(), "0x8ac7230489e80000"]);
    node.ask("anvil_setBalance", plenty).await;
    let hash = gateway.client("trader").send(payment.clone()).await.unwrap();
    assert_eq!(node.receipt(&hash).await["status"], "0x1");
    assert_eq!(node.mined(gateway.treasury()).await, 1);
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn each_call_of_a_batch_has_the_key_with_its_place() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let batch = |values: &[u64]| -> Value {
        let one = |wei: &u64| send(&gateway.payment(*wei));
        values.iter().map(one).collect::<Vec<_>>().into()
    };
    let hashes = |answer: Value| -> Vec<Value> {
        answer.as_array().unwrap().iter().map(|one| one["result"].clone()).collect()
    };
    // The same payment twice in one batch is two payments.
    let first = hashes(post(&trader, "run-1", &batch(&[1, 1, 2])).await.unwrap());
    assert!(first.iter().all(Value::is_string) && first[0] != first[1], "{first:?}");
    assert_eq!(hashes(post(&trader, "run-1", &batch(&[1, 1, 2])).await.unwrap()), first);
    let mixed = post(&trader, "run-1", &batch(&[1, 3, 2, 4])).await.unwrap();
    assert_eq!(mixed[0]["result"], first[0]);
    assert_eq!(mixed[1]["error"]["data"]["code"], "idempotency_key_reused", "{mixed}");
    assert_eq!(mixed[2]["result"], first[2]);
    assert!(mixed[3]["result"].is_string(), "its place is new: {mixed}");
    let single = post(&trader, "run-1", &send(&gateway.payment(1))).await.unwrap();
    assert!(single["result"].is_string() && single["result"] != first[0], "no batch: {single}");
    gateway.node().mines(gateway.treasury(), 5).await;
}

#[tokio::test]
async fn the_same_message_under_the_same_key_has_the_same_signature() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let hello = call("personal_sign", &json!(["0x68656c6c6f", gateway.treasury()]));
    let first = post(&trader, "login", &hello).await.unwrap()["result"].clone();
    assert_eq!(post(&trader, "login", &hello).await.unwrap()["result"], first);
    // The token's signatures of one message all differ.
    assert_ne!(post(&trader, "other", &hello).await.unwrap()["result"], first);
    let signed = call("eth_signTransaction", &json!([gateway.payment(3)]));
    let raw = post(&trader, "returned", &signed).await.unwrap()["result"].clone();
    assert!(raw.is_string() || raw.is_object(), "{raw}");
    assert_eq!(post(&trader, "returned", &signed).await.unwrap()["result"], raw);
}

#[tokio::test]
async fn inv_02_a_client_that_gives_up_on_a_slow_token_and_asks_again_pays_once() {
    let (gateway, remote) = with_remote_token().await;
    for round in 0_u64..4 {
        let (key, payment) = (format!("slow-{round}"), send(&gateway.payment(round + 1)));
        remote.signal(Signal::STOP);
        // Gives up, and its connection is gone.
        let impatient = gateway.client("trader");
        assert!(timeout(Duration::from_millis(200), post(&impatient, &key, &payment)).await.is_err());
        let asks_again = async {
            let trader = gateway.client("trader");
            eventually("a hash", async || {
                let answer = post(&trader, &key, &payment).await.unwrap();
                answer["result"].as_str().map(str::to_owned)
            })
            .await
        };
        let goes_on = async {
            // Sooner and later than the deadline of one second.
            sleep(Duration::from_millis(300 + 400 * round)).await;
            remote.signal(Signal::CONT);
        };
        let (hash, ()) = tokio::join!(asks_again, goes_on);
        // Whoever asks again gets the hash at once, and may get it before the node does.
        gateway.node().mines(gateway.treasury(), round + 1).await;
        assert_eq!(gateway.node().transaction(&json!(hash)).await["nonce"], format!("{round:#x}"));
    }
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_02_after_kill_9_at_any_moment_a_repeat_pays_once() {
    let mut gateway = Gateway::start().await;
    // Recorded, and the node has not answered: what was begun is gone with the process.
    gateway.node().fail("eth_sendRawTransaction", Fault::Delay(Duration::from_secs(5)));
    let (client, payment) = (gateway.client("trader"), send(&gateway.payment(100)));
    let asking = tokio::spawn(async move { post(&client, "recorded", &payment).await });
    eventually("it is recorded", async || {
        let signed = gateway.audit().await.iter().any(|row| row["kind"] == "signature");
        signed.then_some(())
    })
    .await;
    gateway.kill().await;
    asking.abort();
    gateway.node().heal();
    gateway.restart().await;
    let payment = send(&gateway.payment(100));
    let first = post(&gateway.client("trader"), "recorded", &payment).await.unwrap()["result"].clone();
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_eq!(gateway.node().transaction(&first).await["value"], "0x64");

    for round in 0_u64..5 {
        let (client, key) = (gateway.client("trader"), format!("killed-{round}"));
        let (body, again) = (send(&gateway.payment(round + 1)), send(&gateway.payment(round + 1)));
        let same = key.clone();
        let asking = tokio::spawn(async move { post(&client, &same, &body).await });
        sleep(Duration::from_millis(4 + 9 * round)).await;
        gateway.kill().await;
        let answered = asking.await.unwrap().and_then(|answer| answer["result"].as_str().map(str::to_owned));
        gateway.restart().await;
        let hash = post(&gateway.client("trader"), &key, &again).await.unwrap()["result"].clone();
        assert!(hash.is_string(), "{hash}");
        assert!(answered.is_none_or(|answered| hash == answered), "the answer that came before holds");
        gateway.node().mines(gateway.treasury(), round + 2).await;
    }
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn within_a_clients_window_the_same_request_is_made_once_without_a_key() {
    let world = World::new().await;
    let with = "accounts = [\"treasury\"]\nrepeat_window = \"60s\"";
    let gateway = world.replace("accounts = [\"treasury\"]", with).start().await;
    let first = gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    for answer in gateway.send_at_once((0..8).map(|_| gateway.payment(1))).await {
        assert_eq!(answer.unwrap(), first);
    }
    assert_ne!(gateway.client("trader").send(gateway.payment(2)).await.unwrap(), first);
    gateway.node().mines(gateway.treasury(), 2).await;
}

#[tokio::test]
async fn inv_02_many_at_once_under_one_key_are_one_transaction() {
    let gateway = Gateway::start().await;
    let asking: Vec<_> = (0..12)
        .map(|_| {
            let (client, body) = (gateway.client("trader"), send(&gateway.payment(1)));
            tokio::spawn(async move { post(&client, "storm", &body).await.unwrap() })
        })
        .collect();
    let mut hashes = Vec::new();
    for one in asking {
        hashes.push(one.await.unwrap()["result"].clone());
    }
    assert!(hashes.iter().all(|hash| hash.is_string() && *hash == hashes[0]), "{hashes:?}");
    gateway.node().mines(gateway.treasury(), 1).await;
}

#[tokio::test]
async fn a_repeat_that_is_too_late_to_be_made_learns_of_its_first() {
    let gateway = Gateway::start().await;
    let node = gateway.node();
    // Enough for one of the two.
    node.ask("anvil_setBalance", json!([gateway.treasury(), "0x10a741a462780000"])).await;
    let payment = send(&gateway.payment(900_000_000_000_000_000));
    node.fail("eth_estimateGas", Fault::Delay(Duration::from_secs(2)));
    let (client, body) = (gateway.client("trader"), payment.clone());
    let slow = tokio::spawn(async move { post(&client, "once", &body).await.unwrap() });
    eventually("it asks the node", async || (!node.calls_of("eth_estimateGas").is_empty()).then_some(()))
        .await;
    node.heal();
    let first = post(&gateway.client("trader"), "once", &payment).await.unwrap()["result"].clone();
    assert!(first.is_string(), "{first}");
    node.mines(gateway.treasury(), 1).await;
    // By now the account cannot pay that again.
    assert_eq!(slow.await.unwrap()["result"], first);
    let poor = post(&gateway.client("trader"), "twice", &payment).await.unwrap();
    assert_eq!(poor["error"]["data"]["code"], "node_refused", "{poor}");
}

#[tokio::test]
async fn curl_and_cast_through_the_connector_repeat_themselves_safely() {
    let gateway = Gateway::start().await;
    let from = gateway.treasury().to_string();
    let (certificate, key) = gateway.world.authority.client("trader").write(gateway.folder(), "curl");
    let curl = async |name: &str| -> Value {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", &gateway.url(), "--cacert"])
            .arg(gateway.folder().join("ca.pem"));
        curl.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        curl.args(["-H", "Content-Type: application/json", "-H", &format!("Idempotency-Key: {name}")]);
        curl.args(["-d", &send(&gateway.payment(5)).to_string()]);
        serde_json::from_str(&run(&mut curl).await.well()).unwrap()
    };
    let first = curl("invoice-1").await["result"].clone();
    assert!(first.is_string(), "{first}");
    assert_eq!(curl("invoice-1").await["result"], first);

    let (_connector, url) = gateway.connect("trader").await;
    let cast = async |arguments: &[&str]| -> Output {
        let named = ["--rpc-url", &url, "--rpc-headers", "Idempotency-Key: invoice-1"];
        run(Command::new(tool(Tool::Cast)).args(arguments).args(named)).await
    };
    let again = cast(&["rpc", "eth_sendTransaction", &gateway.payment(5).to_string()]).await.well();
    assert_eq!(
        again.trim().trim_matches('"'),
        first.as_str().unwrap(),
        "the header goes through the connector"
    );
    // `cast send` fills in the nonce by itself, so that a repeat of it is another request, and refused.
    let other = cast(&["send", "--unlocked", "--from", &from, crate::kit::FRIEND, "--value", "5"]).await;
    assert!(other.stderr.contains("idempotency_key_reused"), "{other:?}");
    gateway.node().mines(gateway.treasury(), 1).await;
}

#[tokio::test]
async fn inv_10_a_repeat_of_what_an_operator_bumped_gets_what_was_mined() {
    let gateway = unmined().await.start().await;
    let trader = gateway.client("trader");
    let mut payment = gateway.payment(7);
    payment["gasPrice"] = json!("0x77359400"); // two gwei
    let first = post(&trader, "order-17", &send(&payment)).await.unwrap()["result"].clone();
    assert!(first.is_string(), "{first}");
    let bump = ["tx", "bump", "--json", "--account", "treasury", "--nonce", "0"];
    let bumped: Value = serde_json::from_str(&gateway.operate("admin", &bump).await.well()).unwrap();
    gateway.node().ask("anvil_mine", json!(["0x80"])).await;
    eventually("the repeat gets it", async || {
        let again = post(&trader, "order-17", &send(&payment)).await.unwrap();
        assert!(again["result"].is_string(), "it never hears that it failed: {again}");
        (again["result"] == bumped["hash"]).then_some(())
    })
    .await;
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 1, "and nothing is paid twice");
    let other = post(&trader, "order-17", &send(&gateway.payment(8))).await.unwrap();
    assert_eq!(other["error"]["data"]["code"], "idempotency_key_reused", "{other}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}
