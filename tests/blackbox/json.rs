//! JSON and JSON-RPC that two readers could read differently, or that costs too much to read at all.

use http::StatusCode;
use serde_json::{Value, json};

use crate::kit::{FRIEND, Gateway, STRANGER};

#[tokio::test]
async fn inv_04_what_could_be_read_in_two_ways_is_refused() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let from = gateway.treasury();
    for (why, code, body) in [
        ("no JSON", -32700, "{".to_owned()),
        ("more than one value", -32700, r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}{}"#.to_owned()),
        ("a comment", -32700, r#"{"jsonrpc":"2.0","id":1,/**/"method":"eth_chainId"}"#.to_owned()),
        ("a number", -32600, "1".to_owned()),
        ("no version", -32600, r#"{"id":1,"method":"eth_chainId"}"#.to_owned()),
        ("another version", -32600, r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#.to_owned()),
        ("no method", -32600, r#"{"jsonrpc":"2.0","id":1}"#.to_owned()),
        (
            "a method twice",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"eth_accounts"}"#.to_owned(),
        ),
        (
            "a method twice, once escaped",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","m\u0065thod":"eth_accounts"}"#.to_owned(),
        ),
        (
            "METHOD",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","METHOD":"eth_accounts"}"#.to_owned(),
        ),
        (
            "a long s",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[],"paramſ":[1]}"#.to_owned(),
        ),
        (
            "a key of ours no more",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","auth":1}"#.to_owned(),
        ),
        (
            "a text for params",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":"x"}"#.to_owned(),
        ),
        (
            "an address twice in a transaction",
            -32600,
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":[{{"from":"{from}","to":"{FRIEND}","to":"{STRANGER}"}}]}}"#
            ),
        ),
        (
            "a key twice far below",
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"a":[{"b":{"c":1,"c":2}}]}]}"#
                .to_owned(),
        ),
    ] {
        let answer = trader.post(body.clone()).await;
        assert_eq!((answer.status, answer.error().code), (StatusCode::OK, code), "{why}: {body}: {answer:?}");
    }
    assert_eq!(gateway.node().calls_of("eth_call"), []);
    assert_eq!(gateway.node().mined(from).await, 0);
}

#[tokio::test]
async fn an_id_is_a_text_a_whole_number_or_null() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let ask = async |id: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"eth_chainId","params":[]}}"#);
        trader.post(body).await.json()
    };
    for id in ["0", "1", "9007199254740991", "null", r#""""#, r#""7e1d3a5e-0d5c-4f8e-9f61-7d1a3a0c51a5""#] {
        let answer = ask(id).await;
        assert_eq!((answer["id"].to_string(), &answer["result"]), (id.to_owned(), &json!("0x7a69")), "{id}");
    }
    for id in ["-1", "1.0", "1e0", "{}", "[]", "true", "9007199254740992", "18446744073709551617"] {
        let answer = ask(id).await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&Value::Null, &json!(-32600)),
            "{id}: {answer}"
        );
    }
}

#[tokio::test]
async fn params_may_be_missing_null_or_empty() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for params in ["", r#","params":null"#, r#","params":[]"#, r#","params":{}"#] {
        let answer =
            trader.post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_chainId"{params}}}"#)).await;
        assert_eq!(answer.json()["result"], "0x7a69", "{params}");
    }
}

#[tokio::test]
async fn a_signature_is_never_asked_for_by_a_notification() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let send = json!({"jsonrpc": "2.0", "method": "eth_sendTransaction", "params": [gateway.payment(1)]});
    let answer = trader.post(send.to_string()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 0);
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction"), []);
}

#[tokio::test]
async fn inv_12_a_batch_has_at_most_a_hundred_calls() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let batch = |size: u64| {
        let call = |id| json!({"jsonrpc": "2.0", "id": id, "method": "eth_blockNumber"});
        Value::Array((0..size).map(call).collect()).to_string()
    };
    let answers = trader.post(batch(100)).await.json();
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["result"].is_string()), "{answers}");
    for size in [0, 101] {
        let refused = trader.post(batch(size)).await.error();
        assert_eq!(
            (refused.code, refused.data["code"].as_str()),
            (-32600, Some("batch_too_large")),
            "{size}"
        );
    }
}

#[tokio::test]
async fn each_call_of_a_batch_is_judged_by_itself() {
    let gateway = Gateway::start().await;
    let mut stranger = gateway.payment(1);
    stranger["to"] = json!(STRANGER);
    let answers = gateway
        .client("trader")
        .batch(&[
            ("eth_chainId", json!([])),
            ("eth_sendTransaction", json!([gateway.payment(1)])),
            ("eth_sendTransaction", json!([stranger])),
            ("eth_noSuchMethod", json!([])),
            ("eth_sendTransaction", json!([gateway.payment(2)])),
            ("eth_getBalance", json!([FRIEND, "latest"])),
        ])
        .await;

    assert_eq!(answers[0], Ok(json!("0x7a69")));
    assert_eq!(answers[2].as_ref().unwrap_err().code, -32003);
    assert_eq!(answers[3].as_ref().unwrap_err().code, -32601);
    assert!(answers[5].is_ok());
    // The sends of one account keep their order.
    for (answer, (nonce, value)) in [(&answers[1], ("0x0", "0x1")), (&answers[4], ("0x1", "0x2"))] {
        let mined = gateway.node().transaction(answer.as_ref().unwrap()).await;
        assert_eq!((mined["nonce"].as_str(), mined["value"].as_str()), (Some(nonce), Some(value)));
    }
}

#[tokio::test]
async fn inv_12_what_is_too_much_is_refused_at_once() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");

    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_call","params":["{}"]}}"#, "a".repeat(2 << 20));
    assert_eq!(trader.post(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);

    // 2,000,000 brackets overflow the stack of a reader that recurses; they are within the limit of the body.
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = 2_000_000 / open.len();
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(97_000));
        assert_eq!(trader.post(deep).await.error().code, -32700, "{open}");
    }
    let nested = |depth| {
        let params = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{params}}}"#)
    };
    assert_eq!(trader.post(nested(31)).await.json()["result"], "0x7a69");
    assert_eq!(trader.post(nested(32)).await.error().code, -32700);

    let mut request = trader.json_request(r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#);
    request.headers_mut().insert("x-large", "a".repeat(20 * 1024).parse().unwrap());
    let answer = trader.http1().request(request).await;
    assert!(answer.is_ok_and(|answer| answer.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));

    assert_eq!(trader.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for body in [
        b"\xff\xfe{\x00".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_\xffchainId\"}".to_vec(),
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_chainId\"}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_\x00chainId\"}".to_vec(),
        Vec::new(),
    ] {
        let answer = trader.post(body.clone()).await;
        assert_eq!(answer.error().code, -32700, "{}", String::from_utf8_lossy(&body));
    }
}

/// The examples of the specification's section 7, with methods that there are here for its `subtract`, `sum` and
/// `get_data`. Its named parameters are no parameters of Ethereum's methods.
#[tokio::test]
async fn the_examples_of_the_specification_are_answered_as_it_says() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    let error = |code: i64, id: Value| json!({ "jsonrpc": "2.0", "error": code, "id": id });
    let invalid = || error(-32600, Value::Null);
    let chain = |id: Value| json!({ "jsonrpc": "2.0", "result": "0x7a69", "id": id });
    let answers = [
        (r#"{"jsonrpc": "2.0", "method": "eth_chainId", "params": [], "id": 1}"#, chain(json!(1))),
        (r#"{"jsonrpc": "2.0", "method": "eth_chainId", "id": "1"}"#, chain(json!("1"))),
        (r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#, Value::Null),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, Value::Null),
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, error(-32601, json!("1"))),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, error(-32700, Value::Null)),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, invalid()),
        (
            r#"[{"jsonrpc": "2.0", "method": "eth_chainId", "id": "1"}, {"jsonrpc": "2.0", "method"]"#,
            error(-32700, Value::Null),
        ),
        ("[]", invalid()),
        ("[1]", json!([invalid()])),
        ("[1,2,3]", json!([invalid(), invalid(), invalid()])),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "eth_chainId", "params": [], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "eth_chainId", "params": [], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "eth_chainId", "id": "9"}
            ]"#,
            json!([
                chain(json!("1")),
                chain(json!("2")),
                invalid(),
                error(-32601, json!("5")),
                chain(json!("9")),
            ]),
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#,
            Value::Null,
        ),
    ];
    for (body, expected) in answers {
        let answer = trader.post(body).await;
        if expected.is_null() {
            assert_eq!((answer.status, &*answer.body), (StatusCode::NO_CONTENT, ""), "{body}");
            continue;
        }
        let mut said = answer.json();
        // Of an error the specification fixes the code; its text is ours.
        let bare = |one: &mut Value| {
            if let Some(error) = one.get_mut("error") {
                *error = error["code"].clone();
            }
        };
        match &mut said {
            Value::Array(all) => all.iter_mut().for_each(bare),
            one => bare(one),
        }
        assert_eq!(said, expected, "{body}");
    }
}
