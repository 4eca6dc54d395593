//! Who may connect, and what a request must look like before its body is read.

use std::time::Duration;

use http::StatusCode;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kit::{Authority, Client, Fault, Gateway, Tool, World, run, tls, tool};

const CHAIN_ID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

#[tokio::test]
async fn inv_12_as_many_files_may_be_open_as_the_system_allows() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Enough for the tests beside this one, which get it too.
    setrlimit(Resource::Nofile, Rlimit { current: maximum.map(|most| most.min(8192)), maximum }).unwrap();
    let gateway = Gateway::start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid().as_raw_nonzero())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let figures: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(figures[0], figures[1], "{files}");
}

#[tokio::test]
async fn who_has_no_certificate_of_ours_is_stopped_by_an_alert() {
    let gateway = Gateway::start().await;
    let ours = &gateway.world.authority;
    let dns = SanType::DnsName("trader".try_into().unwrap());
    let wildcard = SanType::URI("spiffe://chancery/*".try_into().unwrap());
    for (why, identity, alert) in [
        ("no certificate", None, "CertificateRequired"),
        ("another authority of the same name", Some(Authority::new().client("trader")), "DecryptError"),
        ("expired", Some(ours.leaf("trader").expired().issue()), "CertificateExpired"),
        ("not valid yet", Some(ours.leaf("trader").of_the_future().issue()), ""),
        ("no purpose", Some(ours.leaf("trader").purposes(&[]).issue()), ""),
        ("any purpose", Some(ours.leaf("trader").purposes(&[ExtendedKeyUsagePurpose::Any]).issue()), ""),
        (
            "a server's",
            Some(ours.leaf("trader").purposes(&[ExtendedKeyUsagePurpose::ServerAuth]).issue()),
            "",
        ),
        ("an authority's", Some(ours.leaf("trader").authority().issue()), ""),
        ("two names", Some(ours.leaf("trader").also("intern").issue()), ""),
        ("a name twice", Some(ours.leaf("trader").also("trader").issue()), ""),
        ("a common name only", Some(ours.leaf("trader").names(vec![]).issue()), ""),
        ("a name of the other kind", Some(ours.leaf("trader").names(vec![dns]).issue()), ""),
        ("a wildcard", Some(ours.leaf("trader").names(vec![wildcard]).issue()), ""),
        ("a client that is not listed", Some(ours.client("stranger")), ""),
        ("other letters", Some(ours.client("Trader")), ""),
        ("an operator", Some(ours.client("admin")), ""),
    ] {
        let seen = gateway.visitor(identity.as_ref()).alert().await;
        assert!(seen.contains("received fatal alert") && seen.contains(alert), "{why}: {seen}");
    }
    assert!(gateway.metric("chancery_handshakes_refused_total").await >= 16.0);
    assert_eq!(gateway.client("trader").call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
}

#[tokio::test]
async fn both_http_versions_are_spoken_and_only_tls_1_3() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    assert_eq!(trader.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
    assert_eq!(trader.http1().call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));

    let identity = gateway.world.authority.client("trader");
    let old = tls(&gateway.world.authority, Some(&identity), &rustls::version::TLS12);
    let alert = Client::new(gateway.world.address(), &old).alert().await;
    assert!(alert.contains("received fatal alert: ProtocolVersion"), "{alert}");
}

#[tokio::test]
async fn no_session_is_resumed() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for _ in 0..3 {
        let mut stream = trader.http1().stream().await;
        // Tickets come with the first bytes of the server, if they come.
        drop(timeout(Duration::from_millis(200), stream.read_u8()).await);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn inv_12_a_connection_that_says_nothing_is_closed() {
    let world =
        World::new().await.append("\n[limits]\nhandshake_timeout = \"500ms\"\nhead_timeout = \"500ms\"\n");
    let gateway = world.start().await;

    let mut silent = TcpStream::connect(gateway.world.address()).await.unwrap();
    let closed = timeout(Duration::from_secs(5), silent.read(&mut [0; 16])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "before the handshake: {closed:?}");

    let mut silent = gateway.client("trader").http1().stream().await;
    silent.write_all(b"POST / HTTP/1.1\r\nHost: ").await.unwrap();
    let closed = timeout(Duration::from_secs(5), silent.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "in the middle of a head");
}

#[tokio::test]
async fn inv_12_connections_are_counted() {
    // Longer than this machine stops for where much runs beside it: a place would be free again.
    let limits = "\n[limits]\nmax_connections = 2\nhandshake_timeout = \"30s\"\nhead_timeout = \"30s\"\n";
    let gateway = World::new().await.append(limits).start().await;
    let trader = gateway.client("trader");
    let held = [trader.stream().await, trader.stream().await];

    let third = timeout(Duration::from_millis(800), trader.call("eth_chainId", json!([]))).await;
    assert!(third.is_err(), "a third connection is served: {third:?}");
    drop(held);
    assert_eq!(trader.call("eth_chainId", json!([])).await, Ok(json!("0x7a69")));
}

#[tokio::test]
async fn a_request_that_a_browser_could_be_made_to_send_is_refused() {
    let gateway = Gateway::start().await;
    for trader in [gateway.client("trader"), gateway.client("trader").http1()] {
        for (why, name, value, status) in [
            ("a form", "content-type", "text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("no such type", "content-type", "application/jsonp", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("a foreign page", "origin", "https://evil.example", StatusCode::FORBIDDEN),
            ("a page of ours", "origin", "https://127.0.0.1", StatusCode::FORBIDDEN),
            ("a sandboxed page", "origin", "null", StatusCode::FORBIDDEN),
        ] {
            let mut request =
                trader.json_request(json!({"jsonrpc":"2.0","id":1,"method":"eth_accounts"}).to_string());
            request.headers_mut().insert(name, value.parse().unwrap());
            let answer = trader.request(request).await.unwrap();
            assert_eq!(answer.status, status, "{why}");
            assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{why}");
        }
        let mut get = trader.json_request("");
        *get.method_mut() = http::Method::GET;
        assert_eq!(trader.request(get).await.unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn an_origin_is_let_in_for_the_client_that_lists_it_only() {
    let listed = "accounts = [\"treasury\"]\norigins = [\"chrome-extension://abc\"]";
    let gateway = World::new().await.replace("accounts = [\"treasury\"]", listed).start().await;
    for (name, origin, status) in [
        ("trader", "chrome-extension://abc", StatusCode::OK),
        ("trader", "chrome-extension://abcd", StatusCode::FORBIDDEN),
        ("intern", "chrome-extension://abc", StatusCode::FORBIDDEN),
    ] {
        let client = gateway.client(name);
        let mut request = client.json_request(CHAIN_ID);
        request.headers_mut().insert("origin", origin.parse().unwrap());
        assert_eq!(client.request(request).await.unwrap().status, status, "{name} from {origin}");
    }
}

#[tokio::test]
async fn a_request_for_another_host_or_of_unclear_length_is_refused() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader").http1();
    let ours = format!("Host: {}", gateway.world.address());
    let length = format!("Content-Length: {}", CHAIN_ID.len());
    for (why, head, status) in [
        ("good", vec![&*ours, &*length], "200"),
        ("another host", vec!["Host: evil.example", &*length], "421"),
        ("no port", vec!["Host: 127.0.0.1", &*length], "421"),
        ("no host", vec![&*length], "4"),
        ("two hosts", vec![&*ours, &*ours, &*length], "4"),
        ("chunked", vec![&*ours, "Transfer-Encoding: chunked"], "411"),
        ("both lengths", vec![&*ours, &*length, "Transfer-Encoding: chunked"], "4"),
        ("two lengths", vec![&*ours, &*length, "Content-Length: 1"], "4"),
    ] {
        let head = head.join("\r\n");
        let request =
            format!("POST / HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\n\r\n{CHAIN_ID}");
        // What follows a refused request must not be taken for another one.
        let answers = trader.raw(format!("{request}{request}")).await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status}")), "{why}: {answers}");
        let expected = if why == "good" { 2 } else { 1 };
        assert_eq!(answers.matches("HTTP/1.1 ").count(), expected, "{why}: {answers}");
    }
}

#[tokio::test]
async fn the_admin_listener_is_for_operators() {
    let gateway = Gateway::start().await;
    let status = async |name, path| gateway.admin(name, path).await.map(|answer| answer.status);
    assert_eq!(status("admin", "/livez").await, Ok(StatusCode::OK));
    assert_eq!(status("admin", "/readyz").await, Ok(StatusCode::OK));
    assert_eq!(status("auditor", "/metrics").await, Ok(StatusCode::OK));
    assert_eq!(status("trader", "/metrics").await, Ok(StatusCode::FORBIDDEN));
    assert_eq!(status("admin", "/nothing").await, Ok(StatusCode::NOT_FOUND));
    assert!(gateway.admin_visitor("stranger").alert().await.contains("received fatal alert"));
}

#[tokio::test]
async fn readiness_tells_the_truth_and_says_why() {
    let gateway = Gateway::start().await;
    gateway.node().fail("*", Fault::Drop);
    let answer = loop {
        let answer = gateway.admin("admin", "/readyz").await.unwrap();
        if answer.status != StatusCode::OK {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("node"), "{}", answer.body);
    assert_eq!(gateway.admin("admin", "/livez").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn on_sigterm_what_was_begun_is_finished() {
    let mut gateway = Gateway::start().await;
    gateway.node().fail("eth_getBalance", Fault::Delay(Duration::from_millis(1500)));
    let (trader, treasury) = (gateway.client("trader"), gateway.treasury());
    let balance =
        tokio::spawn(async move { trader.call("eth_getBalance", json!([treasury, "latest"])).await });
    while gateway.node().calls_of("eth_getBalance").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;

    assert!(TcpStream::connect(gateway.world.address()).await.is_err(), "it still accepts");
    assert!(matches!(balance.await.unwrap(), Ok(Value::String(_))));
    let end = gateway.ends().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
}

/// By somebody else's eyes: sslyze, with a client's certificate.
#[tokio::test]
async fn sslyze_finds_tls_1_3_and_nothing_else() {
    let gateway = Gateway::start().await;
    let (certificate, key) = gateway.world.authority.client("trader").write(gateway.folder(), "visitor");
    for address in [gateway.world.address(), gateway.admin_visitor("trader").address()] {
        let file = gateway.folder().join("sslyze.json");
        let mut sslyze = tokio::process::Command::new(tool(Tool::Sslyze));
        sslyze.args([
            "--sslv2",
            "--sslv3",
            "--tlsv1",
            "--tlsv1_1",
            "--tlsv1_2",
            "--tlsv1_3",
            "--resum",
            "--early_data",
        ]);
        sslyze.args(["--reneg", "--compression", "--heartbleed", "--robot", "--openssl_ccs", "--fallback"]);
        sslyze.arg("--cert").arg(&certificate).arg("--key").arg(&key).arg("--json_out").arg(&file);
        run(sslyze.arg(address.to_string())).await.well();
        let found: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let found = &found["server_scan_results"][0]["scan_result"];
        let of = |scan: &str, what: &str| {
            assert_eq!(found[scan]["status"], "COMPLETED", "{scan}: {}", found[scan]);
            found[scan]["result"][what].clone()
        };
        for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"] {
            assert_eq!(of(&format!("{old}_cipher_suites"), "is_tls_version_supported"), false, "{old}");
        }
        assert_eq!(of("tls_1_3_cipher_suites", "is_tls_version_supported"), true);
        assert_eq!(of("tls_1_3_early_data", "supports_early_data"), false);
        assert_eq!(of("tls_compression", "supports_compression"), false);
        assert_eq!(of("heartbleed", "is_vulnerable_to_heartbleed"), false);
        assert_eq!(of("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"), false);
        assert_eq!(of("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"), false);
        for kind in ["session_id", "tls_ticket"] {
            assert_eq!(of("session_resumption", &format!("{kind}_successful_resumptions_count")), 0);
        }
    }
}
