//! What operators do through the admin listener: pause and resume, and who may not.

use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Gateway, World, eventually};

/// The stable name of the refusal, if it is one.
async fn refusal(gateway: &Gateway) -> Option<Value> {
    let sent = gateway.client("trader").send(gateway.payment(1)).await;
    sent.err().map(|error| {
        assert_eq!(error.code, -32003, "{error:?}");
        error.data["code"].clone()
    })
}

#[tokio::test]
async fn a_pause_stops_an_account_a_client_or_all_at_once_and_a_resume_ends_it() {
    let gateway = Gateway::start().await;
    let treasury = gateway.treasury().to_string();
    for scope in
        [&["--account", "treasury"][..], &["--account", &treasury], &["--client", "trader"], &["--all"]]
    {
        let with = |verb| [&[verb], scope].concat();
        gateway.operate("admin", &[&with("pause")[..], &["--reason", "a drill"]].concat()).await.well();
        assert_eq!(refusal(&gateway).await, Some(json!("paused")), "{scope:?}");
        let message = json!(["0x68656c6c6f", gateway.treasury()]);
        let refused = gateway.client("trader").call("personal_sign", message).await.unwrap_err();
        assert_eq!(refused.data["code"], "paused");
        assert!(!refused.message.contains("drill"), "the reason is not for clients: {}", refused.message);
        let listed = gateway.operate("auditor", &["pause", "--list"]).await.well();
        assert!(listed.contains("a drill") && listed.contains("by admin (admin)"), "{listed}");
        gateway.operate("admin", &with("resume")).await.well();
        assert_eq!(refusal(&gateway).await, None, "{scope:?}");
    }
    let nobody = gateway.operate("admin", &["resume", "--all"]).await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("is not paused") && nobody.stderr.contains("hint:"), "{nobody:?}");
    let rows = gateway.audit().await;
    let written = rows.iter().filter(|row| row["kind"] == "administration").count();
    assert_eq!(written, 8, "each pause and each resume");
    let of_account =
        gateway.chancery(&["audit", "show", "--account", &treasury, "--kind", "administration"]).await;
    assert_eq!(of_account.well().lines().count(), 4, "what was done to the account is a part of its story");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_pause_is_for_its_own_account_and_client_and_reads_go_on() {
    let gateway = Gateway::start().await;
    gateway.operate("admin", &["pause", "--client", "intern"]).await.well();
    assert_eq!(refusal(&gateway).await, None);
    gateway.operate("admin", &["pause", "--all"]).await.well();
    assert!(gateway.client("trader").call("eth_blockNumber", json!([])).await.is_ok());
    for (arguments, why) in [
        (["pause", "--account", "treasry"], "no [[account]] `treasry`"),
        (["pause", "--client", "treasury"], "no [[client]] `treasury`"),
        (["resume", "--client", "no name"], "no [[client]] `no name`"),
    ] {
        let slip = gateway.operate("admin", &arguments).await;
        assert_eq!(slip.code, Some(1), "{slip:?}");
        assert!(slip.stderr.contains(why), "{}", slip.stderr);
    }
    assert_eq!(gateway.operate("admin", &["pause"]).await.code, Some(2), "it must be said what");
}

#[tokio::test]
async fn a_pause_survives_kill_9_and_readyz_and_metrics_show_it() {
    let mut gateway = Gateway::start().await;
    gateway.operate("admin", &["pause", "--account", "treasury", "--reason", "key suspected"]).await.well();
    gateway.kill().await;
    gateway.restart().await;
    assert!((gateway.metric("chancery_paused{scope=\"account\"}").await - 1.0).abs() < f64::EPSILON);
    assert_eq!(refusal(&gateway).await, Some(json!("paused")));
    let ready = gateway.admin("auditor", "/readyz").await.unwrap();
    assert_eq!(ready.status, StatusCode::OK, "a paused gateway is ready");
    let paused = &ready.json()["paused"][0];
    assert_eq!((&paused["name"], &paused["reason"]), (&json!("treasury"), &json!("key suspected")));
    gateway.operate("admin", &["resume", "--account", "treasury"]).await.well();
    assert_eq!(refusal(&gateway).await, None);
}

#[tokio::test]
async fn the_reason_is_told_where_the_configuration_says_so() {
    let world = World::new().await;
    let world =
        world.replace("path = \"ledger.sqlite\"", "path = \"ledger.sqlite\"\nshow_pause_reason = true");
    let gateway = world.start().await;
    gateway.operate("admin", &["pause", "--all", "--reason", "audit until 3 pm"]).await.well();
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert!(refused.message.ends_with(": audit until 3 pm"), "{}", refused.message);
}

#[tokio::test]
async fn senders_that_are_in_flight_when_the_pause_comes_leave_nothing_behind() {
    let gateway = Gateway::start().await;
    let sending = gateway.send_at_once((1..=12).map(|wei| gateway.payment(wei)));
    let pausing = async {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        gateway.operate("admin", &["pause", "--all"]).await.well();
    };
    let (answers, ()) = tokio::join!(sending, pausing);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.data["code"], "paused", "{refused:?}");
    }
    assert_eq!(refusal(&gateway).await, Some(json!("paused")));
    gateway.operate("admin", &["resume", "--all"]).await.well();
    assert_eq!(refusal(&gateway).await, None);
    // What the pause took away may have stood below what was sent: that waits for somebody else at its nonce.
    gateway.settled().await;
    for hash in answers.iter().filter_map(|answer| answer.as_ref().ok()) {
        assert_ne!(gateway.node().transaction(hash).await["blockNumber"], Value::Null, "{hash}");
    }
    assert_eq!(
        gateway.chancery(&["audit", "verify"]).await.code,
        Some(0),
        "no signature while it was paused"
    );
}

#[tokio::test]
async fn only_an_admin_may_write_and_whoever_is_no_operator_gets_403() {
    let gateway = Gateway::start().await;
    let all = json!({ "scope": "all" });
    for (name, status, why) in [
        ("trader", StatusCode::FORBIDDEN, "not an operator"),
        ("auditor", StatusCode::FORBIDDEN, "role auditor"),
        ("admin", StatusCode::OK, ""),
    ] {
        let answer = gateway.admin_post(name, "/v1/pause", &all).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        assert!(answer.json()["error"].as_str().unwrap_or_default().contains(why), "{}", answer.body);
    }
    let trader = gateway.operate("trader", &["resume", "--all"]).await;
    assert_eq!(trader.code, Some(1));
    assert!(trader.stderr.contains("not an operator"), "{}", trader.stderr);
    assert_eq!(gateway.admin("trader", "/v1/pauses").await.unwrap().status, StatusCode::FORBIDDEN);
    assert_eq!(gateway.admin("auditor", "/v1/pauses").await.unwrap().status, StatusCode::OK);
    assert_eq!(refusal(&gateway).await, Some(json!("paused")));
}

#[tokio::test]
async fn an_order_that_is_not_understood_changes_nothing() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let gateway = Gateway::start().await;
    let visitor = gateway.admin_visitor("admin");
    let post = |body: String, headers: &[(&str, &str)]| {
        let mut request = http::Request::post(format!("https://{}/v1/pause", visitor.address()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(http_body_util::Full::from(body)).unwrap()
    };
    let all = r#"{"scope":"all"}"#;
    for (status, request) in [
        (400, post(r#"{"scope":"all","more":1}"#.to_owned(), JSON)),
        (400, post(r#"{"scope":"all","scope":"all"}"#.to_owned(), JSON)),
        (400, post(r#"{"scope":"all","name":"x"}"#.to_owned(), JSON)),
        (400, post(r#"{"scope":"account"}"#.to_owned(), JSON)),
        (400, post(r#"{"scope":"everything"}"#.to_owned(), JSON)),
        (400, post(r#"{"scope":"all","reason":"a\nb"}"#.to_owned(), JSON)),
        (400, post(format!(r#"{{"scope":"all","reason":"{}"}}"#, "x".repeat(201)), JSON)),
        (400, post(format!("{all}{all}"), JSON)),
        (404, post(r#"{"scope":"client","name":"nobody"}"#.to_owned(), JSON)),
        (413, post(format!("{all}{}", " ".repeat(16 * 1024)), JSON)),
        (415, post(all.to_owned(), &[])),
        (415, post(all.to_owned(), &[("content-type", "text/plain")])),
        (403, post(all.to_owned(), &[JSON[0], ("origin", "https://evil.example")])),
    ] {
        let answer = visitor.request(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    }
    let chunked = "POST /v1/pause HTTP/1.1\r\nHost: ADDRESS\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\nf\r\n{\"scope\":\"all\"}\r\n0\r\n\r\n";
    let answer = visitor.raw(chunked.replace("ADDRESS", &visitor.address().to_string())).await;
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    let get = |path: &str| format!("https://{}{path}", visitor.address());
    for (status, path) in [(405, "/v1/pause"), (404, "/v1/nothing"), (400, "/v1/pauses?x=1")] {
        let request = http::Request::get(get(path)).body(http_body_util::Full::default()).unwrap();
        let answer = visitor.request(request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("allow")), (status, status == 405));
    }
    assert_eq!(refusal(&gateway).await, None);
}

#[tokio::test]
async fn a_slip_on_the_command_line_is_told_what_to_do() {
    let gateway = Gateway::start().await;
    let none = gateway.chancery(&["pause", "--list"]).await;
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("--cert"), "{}", none.stderr);
    let stranger = gateway.operate("stranger", &["pause", "--all"]).await;
    assert!(stranger.stderr.contains("[[operator]]"), "{}", stranger.stderr);
    gateway.signal(Signal::TERM);
    eventually("it is gone", async || {
        let gone = gateway.operate("admin", &["pause", "--all"]).await;
        gone.stderr.contains("cannot be reached").then_some(())
    })
    .await;
}
