//! The gateway over a socket of RFC 6455: the same road for each message, and news of the node.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::kit::{FRIEND, Fault, Gateway, Node, Process, Socket, World, eventually};

/// A gateway whose nodes are the world's, `first`, and this one; with subscriptions at both.
async fn with_feeds(second: &Node) -> Gateway {
    let world = World::new().await;
    let node = |name: &str, node: &Node| {
        let (url, ws) = (node.url(), node.ws_url());
        format!("[[chain.nodes]]\nname = \"{name}\"\nurl = \"{url}\"\nws = \"{ws}\"\n")
    };
    let nodes = node("first", &world.node) + &node("second", second);
    let (one, timeout) = (format!("node = \"{}\"\n", world.node.url()), "timeout = \"2s\"\n");
    world.replace(&one, "").replace(timeout, &format!("{timeout}{nodes}")).start().await
}

#[tokio::test]
async fn over_a_websocket_all_goes_as_over_http() {
    let gateway = Gateway::start().await;
    let mut socket = Socket::open(&gateway.client("trader")).await;
    assert_eq!(socket.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
    let balance = socket.call("eth_getBalance", json!([FRIEND, "latest"])).await.unwrap();
    assert_eq!(balance, gateway.node().ask("eth_getBalance", json!([FRIEND, "latest"])).await);
    let hash = socket.call("eth_sendTransaction", json!([gateway.payment(5)])).await.unwrap();
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_eq!(gateway.node().transaction(&hash).await["value"], "0x5");
    let refused =
        socket.call("eth_sendTransaction", json!([{ "from": FRIEND, "to": FRIEND }])).await.unwrap_err();
    assert_eq!(refused.data["code"], "account_not_available");
    assert_eq!(socket.call("anvil_nodeInfo", json!([])).await.unwrap_err().code, -32601);

    socket.say(r#"[{"jsonrpc":"2.0","id":"a","method":"eth_blockNumber"},{"jsonrpc":"2.0","id":"b","method":"eth_chainId"}]"#).await;
    let batch = socket.hear().await.unwrap();
    assert_eq!((&batch[0]["id"], &batch[1]["result"]), (&json!("a"), &json!("0x7a69")));
    socket.say("{").await;
    assert_eq!(socket.hear().await.unwrap()["error"]["code"], -32700);
    // Nothing answers a notification; one that asks for a signature is refused on the record.
    socket
        .say(
            json!({ "jsonrpc": "2.0", "method": "eth_sendTransaction", "params": [gateway.payment(6)] })
                .to_string(),
        )
        .await;
    assert_eq!(socket.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
    let noted = async || {
        gateway
            .audit()
            .await
            .into_iter()
            .any(|row| row.to_string().contains("nobody would hear"))
            .then_some(())
    };
    eventually("the refusal is on record", noted).await;
}

#[tokio::test]
async fn a_handshake_that_is_not_ours_to_take_is_refused() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let host = trader.address().to_string();
    let good = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = trader.raw(&good).await;
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    for (from, to, status) in [
        ("Connection: ", "Origin: https://evil.example\r\nConnection: ", 403),
        ("Host: ", "Host: evil.example\r\nX: ", 421),
        ("GET / ", "GET /elsewhere ", 404),
        ("GET / ", "POST / ", 405),
        ("Version: 13", "Version: 8", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("Connection: ", "Transfer-Encoding: chunked\r\nConnection: ", 411),
    ] {
        let answer = trader.raw(good.replacen(from, to, 1)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {answer}");
    }
}

#[tokio::test]
async fn news_come_under_a_name_of_ours_until_they_are_ended() {
    let gateway = with_feeds(&Node::start().await).await;
    let mut socket = Socket::open(&gateway.client("trader")).await;
    let mut other = Socket::open(&gateway.client("intern")).await;
    let heads = socket.call("eth_subscribe", json!(["newHeads"])).await.unwrap();
    let theirs = other.call("eth_subscribe", json!(["newHeads"])).await.unwrap();
    assert_ne!(heads, theirs);
    gateway.node().ask("evm_mine", json!([])).await;
    let head = gateway.node().ask("eth_getBlockByNumber", json!(["latest", false])).await;
    for (socket, name) in [(&mut socket, &heads), (&mut other, &theirs)] {
        let notice = socket.notice().await;
        assert_eq!((&notice["subscription"], &notice["result"]["hash"]), (name, &head["hash"]));
    }
    // Nobody ends another's, and what is ended is over.
    assert_eq!(other.call("eth_unsubscribe", json!([heads])).await, Ok(json!(false)));
    assert_eq!(socket.call("eth_unsubscribe", json!([heads])).await, Ok(json!(true)));
    gateway.node().ask("evm_mine", json!([])).await;
    assert_eq!(other.notice().await["subscription"], theirs);
    assert_eq!(socket.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));

    assert_eq!(socket.call("eth_subscribe", json!(["everything"])).await.unwrap_err().code, -32602);
    let http = gateway.client("trader").call("eth_subscribe", json!(["newHeads"])).await.unwrap_err();
    assert_eq!((http.code, http.message.contains("WebSocket")), (-32601, true), "{http:?}");
}

#[tokio::test]
async fn inv_13_a_subscription_keeps_its_name_when_its_node_dies() {
    let second = Node::start().await;
    let mut gateway = with_feeds(&second).await;
    let mut socket = Socket::open(&gateway.client("trader")).await;
    let heads = socket.call("eth_subscribe", json!(["newHeads"])).await.unwrap();
    gateway.node().ask("evm_mine", json!([])).await;
    assert_eq!(socket.notice().await["subscription"], heads);
    gateway.world.node.stop();
    let mut mined = Value::Null;
    eventually("news of the other node", async || {
        second.ask("evm_mine", json!([])).await;
        let head = second.ask("eth_getBlockByNumber", json!(["latest", false])).await;
        let notice = timeout(Duration::from_millis(500), socket.notice()).await.ok()?;
        assert_eq!(notice["subscription"], heads);
        mined = head["hash"].clone();
        (notice["result"]["hash"] == mined).then_some(())
    })
    .await;
    assert!(mined.is_string());
}

#[tokio::test]
async fn inv_12_a_client_that_does_not_read_is_dropped() {
    let gateway = Gateway::start().await;
    gateway.node().fail("eth_getCode", Fault::Answer(json!("0x".to_owned() + &"ab".repeat(1 << 20))));
    let mut socket = Socket::open(&gateway.client("trader")).await;
    for id in 0..32 {
        socket
            .say(
                json!({ "jsonrpc": "2.0", "id": id, "method": "eth_getCode", "params": [FRIEND, "latest"] })
                    .to_string(),
            )
            .await;
    }
    eventually("it is dropped", async || {
        (gateway.metric("chancery_sockets_overrun_total").await > 0.0).then_some(())
    })
    .await;
    eventually("it is gone", async || (gateway.metric("chancery_sockets_open").await == 0.0).then_some(()))
        .await;
    assert_eq!(gateway.client("trader").call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
}

#[tokio::test]
async fn inv_12_a_message_has_a_bound() {
    let gateway = Gateway::start().await;
    let mut socket = Socket::open(&gateway.client("trader")).await;
    socket.say(" ".repeat(2 * 1024 * 1024 + 1)).await;
    let frame = socket.hear().await.unwrap_err().expect("a reason");
    assert_eq!(frame.code, CloseCode::Size, "{frame:?}");
}

#[tokio::test]
async fn what_was_begun_is_answered_when_the_gateway_ends() {
    let mut gateway = Gateway::start().await;
    let mut socket = Socket::open(&gateway.client("trader")).await;
    gateway.node().fail("eth_getBalance", Fault::Delay(Duration::from_millis(1500)));
    socket
        .say(
            json!({ "jsonrpc": "2.0", "id": 7, "method": "eth_getBalance", "params": [FRIEND, "latest"] })
                .to_string(),
        )
        .await;
    eventually("it is asked", async || (!gateway.node().calls_of("eth_getBalance").is_empty()).then_some(()))
        .await;
    gateway.signal(Signal::TERM);
    assert_eq!(socket.hear().await.unwrap()["id"], 7);
    let frame = socket.hear().await.unwrap_err().expect("a farewell");
    assert_eq!(frame.code, CloseCode::Away);
    gateway.ends().await;
}

#[tokio::test]
async fn a_tool_on_the_unix_socket_of_a_connector_hears_news_too() {
    let mut gateway = with_feeds(&Node::start().await).await;
    let mut connector = Process::start(gateway.connector("trader").arg("--json"));
    connector.says("\"socket\"").await.unwrap_or_else(|end| panic!("{end:?}"));
    let (reader, mut writer) =
        UnixStream::connect(gateway.folder().join("trader.ipc")).await.unwrap().into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut hear = async || -> Option<Value> {
        let line = timeout(Duration::from_secs(30), lines.next_line()).await.expect("something").unwrap();
        line.map(|line| serde_json::from_str(&line).unwrap())
    };
    let mut say = async |id: u64, method: &str, params: Value| {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writer.write_all(call.to_string().as_bytes()).await.unwrap();
    };
    say(1, "eth_subscribe", json!(["newHeads"])).await;
    let subscribed = hear().await.unwrap();
    assert_eq!(subscribed["id"], 1);
    gateway.node().ask("evm_mine", json!([])).await;
    let news = hear().await.unwrap();
    assert_eq!(
        (&news["method"], &news["params"]["subscription"]),
        (&json!("eth_subscription"), &subscribed["result"])
    );
    // Everything else goes as it always did, in between.
    say(2, "eth_chainId", json!([])).await;
    assert_eq!(hear().await.unwrap()["result"], "0x7a69");
    say(3, "eth_unsubscribe", json!([subscribed["result"]])).await;
    assert_eq!(hear().await.unwrap(), json!({ "jsonrpc": "2.0", "id": 3, "result": true }));
    say(4, "eth_subscribe", json!(["newHeads"])).await;
    assert_eq!(hear().await.unwrap()["id"], 4);

    // Silence would be taken for no news.
    gateway.kill().await;
    assert_eq!(hear().await, None, "the tool's connection ends with its subscription");
    let (reader, mut writer) =
        UnixStream::connect(gateway.folder().join("trader.ipc")).await.unwrap().into_split();
    writer.write_all(br#"{"id":"x","method":"eth_subscribe","params":["newHeads"]}"#).await.unwrap();
    let refused = BufReader::new(reader).lines().next_line().await.unwrap().unwrap();
    assert!(refused.contains(r#""id":"x""#) && refused.contains("gateway_unreachable"), "{refused}");
}
