//! Who may connect, over real TLS, and how many.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ClientConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock::Timestamp;
use crate::listener::tests::kit::*;
use crate::listener::*;

#[tokio::test]
async fn a_client_is_known_by_its_one_name() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    assert_eq!(open.ask(door.client(Some(door.issue(&trader())))).await.unwrap(), "spiffe://desk/trader");
}

#[tokio::test]
async fn inv_12_who_comes_in_and_says_nothing_keeps_no_place() {
    let door = Door::new();
    let limits = Limits { max_connections: 1, idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    for http in ["h2", "http/1.1"] {
        let mut config = door.trader();
        config.alpn_protocols = vec![http.as_bytes().to_vec()];
        // Held to the end, and silent: its place is another's all the same.
        let mute = open.connect(config).await.unwrap();
        assert!(open.ask(door.trader()).await.is_ok(), "{http}");
        drop(mute);
    }
}

#[tokio::test]
async fn http_2_is_spoken_to_whoever_asks_for_it() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let mut config = door.client(Some(door.issue(&trader())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = open.connect(config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(send.send_request(request).await.unwrap().status(), 200);
}

/// Each certificate is wrong in one way.
#[tokio::test]
async fn whoever_has_no_right_certificate_gets_an_alert() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let changed = |change: fn(&mut CertificateParams)| {
        let mut params = trader();
        change(&mut params);
        params
    };
    for (what, params, alert) in [
        ("expired", changed(|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)), "Expired"),
        ("not valid yet", changed(|p| p.not_before = rcgen::date_time_ymd(2090, 1, 1)), "Expired"),
        ("no extended key usage", changed(|p| p.extended_key_usages.clear()), "Certificate"),
        ("any usage", changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), "Certificate"),
        (
            "a server's",
            changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "Certificate",
        ),
        (
            "no signature usage",
            changed(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "Certificate",
        ),
        ("a SPIFFE ID without a key usage", changed(|p| p.key_usages.clear()), "Certificate"),
        (
            "a SPIFFE ID that may sign lists",
            changed(|p| p.key_usages.push(KeyUsagePurpose::CrlSign)),
            "Certificate",
        ),
        ("a CA", changed(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "Certificate"),
        ("two names", changed(|p| p.subject_alt_names.push(uri("spiffe://desk/other"))), "Certificate"),
        (
            "the same name twice",
            changed(|p| p.subject_alt_names.push(uri("spiffe://desk/trader"))),
            "Certificate",
        ),
        ("a wildcard", changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/*")]), "Certificate"),
        (
            "a name of another kind",
            changed(|p| {
                p.subject_alt_names = vec![SanType::DnsName("trader".to_owned().try_into().unwrap())];
            }),
            "Certificate",
        ),
        (
            "a common name only",
            changed(|p| {
                p.subject_alt_names.clear();
                p.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://desk/trader");
            }),
            "Certificate",
        ),
        (
            "nobody's name",
            changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/stranger")]),
            "AccessDenied",
        ),
        (
            "a name in other letters",
            changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/Trader")]),
            "AccessDenied",
        ),
        ("an operator's", changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/ops")]), "Certificate"),
    ] {
        let refused = open.ask(door.client(Some(door.issue(&params)))).await.expect_err(what);
        assert!(refused.contains(alert), "{what}: {refused}");
    }
    let none = open.ask(door.client(None)).await.unwrap_err();
    assert!(none.contains("CertificateRequired"), "{none}");
    let (stranger, _) = authority();
    let other = open.ask(door.client(Some(issue_by(&stranger, &trader())))).await.unwrap_err();
    assert!(
        other.contains("UnknownCa") || other.contains("UnknownCA") || other.contains("Decrypt"),
        "{other}"
    );
}

#[tokio::test]
async fn whoever_is_refused_while_writing_can_still_read_why() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = open.connect(door.client(None)).await.unwrap();
    for _ in 0..3 {
        stream.write_all(&[0; 1024]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = stream.read_u8().await.unwrap_err().to_string();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn operators_come_in_at_their_own_door() {
    let door = Door::new();
    let open = door.open(Entrance::Everyone, &Limits::default(), Clock::system());
    let mut ops = trader();
    ops.subject_alt_names = vec![uri("spiffe://desk/ops")];
    assert_eq!(open.ask(door.client(Some(door.issue(&ops)))).await.unwrap(), "spiffe://desk/ops");
    assert!(open.ask(door.client(Some(door.issue(&trader())))).await.is_ok());
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_and_nothing_is_resumed() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let identity = || Some(door.issue(&trader()));
    assert!(open.ask(door.client_of(identity(), &[&rustls::version::TLS12])).await.is_err());
    let config = door.client(identity());
    for _ in 0..2 {
        let mut stream = open.connect(config.clone()).await.unwrap();
        ask(&mut stream, "/").await.unwrap();
        let connection: &ClientConnection = stream.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(connection.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn inv_08_a_certificate_that_expires_ends_its_open_connection() {
    let door = Door::new();
    let mut params = trader();
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    // Our clock stands half a second before that.
    let end = 3_786_912_000_000;
    let clock = Clock::set_to(Timestamp::from_millis(end - 500));
    let open = door.open(Entrance::Clients, &Limits::default(), clock.clone());
    let mut stream = open.connect(door.client(Some(door.issue(&params)))).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let mut rest = Vec::new();
    let cut = timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
    assert!(cut.is_ok() && rest.starts_with(b" 200"), "still open");
}

#[tokio::test]
async fn inv_12_handshakes_are_bounded_and_one_that_stalls_is_cut() {
    let door = Door::new();
    let limits =
        Limits { max_handshakes: 2, handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    let mut mute =
        [TcpStream::connect(open.address).await.unwrap(), TcpStream::connect(open.address).await.unwrap()];
    // Both permits are held by strangers that say nothing; a third waits until they are cut.
    let begun = tokio::time::Instant::now();
    open.ask(door.trader()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(250), "more handshakes than permits");
    for stream in &mut mute {
        let read = timeout(Duration::from_secs(1), stream.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "the silent connection is still open");
    }
}

#[tokio::test]
async fn inv_12_one_address_cannot_have_all_handshakes() {
    let door = Door::new();
    let limits = Limits { max_handshakes: 8, ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    let mut mute = Vec::new();
    for _ in 0..16 {
        mute.push(TcpStream::connect(open.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let trader = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let stream = socket.connect(open.address).await.unwrap();
        let mut stream = open.over(stream, door.trader()).await.unwrap();
        ask(&mut stream, "/").await.unwrap()
    };
    assert!(timeout(Duration::from_secs(1), trader).await.expect("at once").contains("trader"));
    drop(mute);
}

#[tokio::test]
async fn inv_12_strangers_take_no_place_of_those_who_are_known() {
    let door = Door::new();
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    let mut mute = Vec::new();
    for _ in 0..20 {
        mute.push(TcpStream::connect(open.address).await.unwrap());
    }
    let asked = timeout(Duration::from_secs(2), open.ask(door.trader())).await;
    assert!(asked.expect("at once").is_ok());
    assert!(mute.iter().all(|stream| stream.peer_addr().is_ok()));
}

#[tokio::test]
async fn inv_12_where_all_places_are_taken_a_client_waits_a_while() {
    let door = Door::new();
    let limits =
        Limits { max_connections: 1, handshake_timeout: Duration::from_millis(500), ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    let mut first = open.connect(door.trader()).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
    assert!(!open.ask(door.trader()).await.is_ok_and(|said| !said.is_empty()), "there is one place");
    let second = async { open.ask(door.trader()).await };
    let freed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    };
    let (second, ()) = tokio::join!(second, freed);
    assert!(second.unwrap().contains("trader"), "the place that is free again");
}

#[tokio::test]
async fn inv_12_one_address_cannot_have_all_connections() {
    let door = Door::new();
    let limits = Limits { max_connections_per_address: 2, ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    // Until both places are taken: of those who come at once, anyone may be the first.
    let mut mute = Vec::new();
    let is_refused = async {
        while open.ask(door.trader()).await.is_ok() {
            mute.push(TcpStream::connect(open.address).await.unwrap());
        }
    };
    timeout(Duration::from_secs(3), is_refused).await.unwrap();
    assert!(mute.len() >= 2, "{mute:?}");
    drop(mute);
    let again = async { while open.ask(door.trader()).await.is_err() {} };
    timeout(Duration::from_secs(3), again).await.expect("places are free again");
    assert!(open.visitors.take_refused().unwrap().reasons.contains_key("too_many_of_address"));
}

#[tokio::test]
async fn a_load_balancer_says_whose_connection_it_is() {
    let mut door = Door::new();
    door.balancers = vec!["127.0.0.1".parse().unwrap()];
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = TcpStream::connect(open.address).await.unwrap();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\x30\x39\x21\x61";
    stream.write_all(header).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream =
        tokio_rustls::TlsConnector::from(Arc::new(door.trader())).connect(name, stream).await.unwrap();
    assert_eq!(ask(&mut stream, "/").await.unwrap(), "spiffe://desk/trader");
    let visits = open.visitors.take_arrived(|_| true);
    assert_eq!(visits[0].1.from.keys().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.9"]);

    // Whoever comes without one could be anybody; and a header from anybody else is no header.
    assert!(open.ask(door.trader()).await.is_err());
    assert!(open.visitors.take_refused().unwrap().reasons.contains_key("proxy_header"));
    door.balancers = vec!["192.0.2.0/24".parse().unwrap()];
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    assert!(open.ask(door.trader()).await.is_ok());
    let mut liar = TcpStream::connect(open.address).await.unwrap();
    liar.write_all(header).await.unwrap();
    drop(liar.read_to_end(&mut Vec::new()).await);
    let refused = open.visitors.take_refused().unwrap();
    assert_eq!(refused.from.keys().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1"]);
}

#[tokio::test]
async fn inv_12_one_client_cannot_have_all_connections() {
    let door = Door::new();
    let limits = Limits { max_connections_per_client: 2, ..Limits::default() };
    let open = door.open(Entrance::Everyone, &limits, Clock::system());
    let (config, mut ops) = (door.client(Some(door.issue(&trader()))), trader());
    ops.subject_alt_names = vec![uri("spiffe://desk/ops")];
    let hold = async || {
        let mut stream = open.connect(config.clone()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream
    };
    let is_served = async || open.ask(config.clone()).await.is_ok_and(|said| !said.is_empty());
    let (one, mut two) = (hold().await, hold().await);
    assert!(!is_served().await, "a third connection of the same client");
    assert!(open.ask(door.client(Some(door.issue(&ops)))).await.is_ok(), "others come in");
    ask(&mut two, "/").await.expect("what is open goes on");
    drop((one, two));
    // Their places are free as soon as the gateway has seen their end.
    let again = async { while !is_served().await {} };
    timeout(Duration::from_secs(3), again).await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_open_requests_end_and_nobody_else_in() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let config = door.client(Some(door.issue(&trader())));
    let mut stream = open.connect(config.clone()).await.unwrap();
    let slow = tokio::spawn(async move { ask(&mut stream, "/slow").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    open.stop.cancel();
    assert_eq!(slow.await.unwrap().unwrap(), "spiffe://desk/trader");
    assert!(open.ask(config).await.is_err());
    timeout(Duration::from_secs(3), open.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_came_just_before_a_stop_may_still_ask_once() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = open.connect(door.trader()).await.unwrap();
    open.stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    timeout(Duration::from_secs(1), open.ended).await.expect("and then it is over").unwrap();
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    let door = Door::new();
    let load = |sources: Sources| Trust::load(sources, Clock::system()).unwrap_err().to_string();
    let (folder, right) = (tempfile::tempdir().unwrap(), &door.sources);
    let key = file(folder.path(), "other.key", &KeyPair::generate().unwrap().serialize_pem());
    let why = load(Sources { key, ..right.clone() });
    assert!(why.contains("its key must be the one in [gateway] key"), "{why}");
    let mut sources = right.clone();
    sources.issuers[0].client_ca = file(folder.path(), "empty.pem", "");
    assert!(load(sources).contains("empty.pem"));
    let why = load(Sources { certificate: folder.path().join("missing.pem"), ..right.clone() });
    assert!(why.contains("missing.pem"), "{why}");
}
