//! What is trusted changes while connections are open: reloads, revocation, and who may name whom.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    CertificateParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, ExtendedKeyUsagePurpose,
    KeyPair,
};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::clock::Timestamp;
use crate::config::{Issuer as Trusted, OWN_ISSUER, Revocation};
use crate::identity::Directory;
use crate::listener::guard::Guarded;
use crate::listener::tests::kit::*;
use crate::listener::wire::Talk;
use crate::listener::*;

const HOUR: u64 = 3600;

fn now() -> u64 {
    Clock::system().now().seconds()
}

/// One request on a connection that stays open: whether it was answered with 200.
async fn once_more(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut answer = [0; 1024];
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let read = timeout(Duration::from_secs(3), stream.read(&mut answer)).await;
    asked.is_ok() && matches!(read, Ok(Ok(count)) if answer[..count].starts_with(b"HTTP/1.1 200"))
}

fn configuration(clients: &[&str]) -> String {
    let mut text = "[gateway]\nlisten = \"127.0.0.1:1\"\nhosts = [\"a\"]\ncertificate = \"c\"\nkey = \"k\"\n\
        client_ca = \"ca\"\n[chain]\nid = 1\nnode = \"http://127.0.0.1:1\"\n[policy]\ndirectory = \"p\"\n\
        [ledger]\npath = \"l\"\n"
        .to_owned();
    for name in clients {
        writeln!(text, "[[client]]\nname = \"{name}\"\nidentity = \"spiffe://desk/{name}\"").unwrap();
    }
    text
}

/// The end of a connection on which nobody asks for anything.
async fn is_cut_within_a_second(stream: &mut TlsStream<TcpStream>) -> bool {
    let read = timeout(Duration::from_secs(1), stream.read(&mut [0; 64])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn inv_08_who_is_revoked_is_cut_on_every_kind_of_connection() {
    let door = Door::new().with_crls(Revocation::Required);
    door.publish(&crl(1, &[], now() - 10, HOUR));
    let trust = door.trust(Clock::system());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), Clock::system());
    let mut asking = open.connect(door.trader()).await.unwrap();
    assert!(once_more(&mut asking).await);
    let mut idle = open.connect(door.trader()).await.unwrap();
    let mut config = door.trader();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let h2 = TokioIo::new(open.connect(config).await.unwrap());
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), h2).await.unwrap();
    let h2_ends = tokio::spawn(connection);
    let get = || Request::get("https://localhost/").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(send.send_request(get()).await.unwrap().status(), 200);
    let mut other = trader();
    other.serial_number = Some(8_u64.into());
    let mut other = open.connect(door.client(Some(door.issue(&other)))).await.unwrap();

    door.publish(&crl(2, &[7], now() - 10, HOUR));
    trust.reload().unwrap();
    assert!(!once_more(&mut asking).await);
    assert!(is_cut_within_a_second(&mut idle).await);
    assert!(send.send_request(get()).await.is_err());
    assert!(timeout(Duration::from_secs(1), h2_ends).await.is_ok());
    assert!(once_more(&mut other).await, "the same client's other certificate is good");
    let refused = open.ask(door.trader()).await.unwrap_err();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
}

#[tokio::test]
async fn inv_08_each_request_is_asked_even_before_its_connection_is_cut() {
    let door = Door::new().with_crls(Revocation::Required);
    door.publish(&crl(1, &[], now() - 10, HOUR));
    let trust = door.trust(Clock::system());
    let tls = trust.clone().door(Entrance::Clients);
    let (pass, _) = Pass::new(&tls, door.issue(&trader()).0).unwrap();
    assert_eq!(pass.check(), Ok(()));
    door.publish(&crl(2, &[7], now() - 10, HOUR));
    trust.reload().unwrap();
    assert_eq!(pass.check(), Err(Lapsed));
    // A list that takes it off again makes it no better: it was told that it is over.
    door.publish(&crl(3, &[], now() - 10, HOUR));
    trust.reload().unwrap();
    assert_eq!(pass.check(), Err(Lapsed));
}

#[tokio::test]
async fn inv_08_a_request_of_somebody_revoked_reaches_nothing() {
    let door = Door::new().with_crls(Revocation::Required);
    door.publish(&crl(1, &[], now() - 10, HOUR));
    let trust = door.trust(Clock::system());
    let (pass, _) = Pass::new(&trust.clone().door(Entrance::Clients), door.issue(&trader()).0).unwrap();
    let inner =
        service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(Body::default())) });
    let talk = Talk::new(false, &Limits::default());
    let guarded = Guarded::new(inner, pass, talk, CancellationToken::new());
    assert_eq!(guarded.call(Request::new(Full::default())).await.unwrap().status(), 200);
    door.publish(&crl(2, &[7], now() - 10, HOUR));
    trust.reload().unwrap();
    assert_eq!(guarded.call(Request::new(Full::default())).await.unwrap().status(), 403);
}

#[tokio::test]
async fn inv_08_a_list_that_has_ended_or_is_missing_proves_nothing() {
    let (start, clock) = (now(), Clock::set_to(Timestamp::from_millis(now() * 1000)));
    let door = Door::new().with_crls(Revocation::Required);
    door.publish(&crl(1, &[], start - 10, 12));
    let trust = door.trust(clock.clone());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), clock.clone());
    let mut stream = open.connect(door.trader()).await.unwrap();
    assert!(once_more(&mut stream).await);
    clock.advance(Duration::from_secs(2));
    assert!(!once_more(&mut stream).await, "the list ended two seconds after the start");
    assert!(open.ask(door.trader()).await.is_err());
    // The next one opens the door again.
    door.publish(&crl(2, &[], start, HOUR));
    trust.reload().unwrap();
    assert!(open.ask(door.trader()).await.is_ok());

    // A second CA in the bundle, of which there is no list.
    let (unlisted, pem) = authority_named("Unlisted CA");
    let ca = file(door.folder.path(), "both.pem", &format!("{}{pem}", door.ca_pem));
    for (mode, is_let_in) in [(Revocation::Required, false), (Revocation::Optional, true)] {
        let mut door = Door { sources: door.sources.clone(), ..Door::new() };
        door.sources.issuers[0].client_ca = ca.clone();
        door.sources.issuers[0].revocation = mode;
        let trust = door.trust(clock.clone());
        let admitted = Pass::new(&trust.door(Entrance::Clients), issue_by(&unlisted, &trader()).0);
        assert_eq!(admitted.is_ok(), is_let_in, "{mode:?}");
    }
}

#[tokio::test]
async fn a_list_as_step_ca_makes_it_is_understood() {
    let door = Door::new().with_crls(Revocation::Required);
    let distribution_point = CrlDistributionPoint { uris: vec!["https://ca.example/1.0/crl".to_owned()] };
    let scope = Some(CrlScope::UserCertsOnly);
    for scope in [None, scope] {
        let idp = CrlIssuingDistributionPoint { distribution_point: distribution_point.clone(), scope };
        let mut list = crl(1, &[8], now() - 10, HOUR);
        list.issuing_distribution_point = Some(idp);
        // It serves DER by default.
        door.publish_bytes(list.signed_by(&door.ca).unwrap().der());
        let tls = door.trust(Clock::system()).door(Entrance::Clients);
        assert!(Pass::new(&tls, door.issue(&trader()).0).is_ok());
        let mut revoked = trader();
        revoked.serial_number = Some(8_u64.into());
        let error = Pass::new(&tls, door.issue(&revoked).0).unwrap_err();
        assert_eq!(gatekeeper::reason(&error), "revoked");
    }
}

#[tokio::test]
async fn inv_09_a_file_that_cannot_be_taken_changes_nothing() {
    let mut door = Door::new().with_crls(Revocation::Required);
    let list = crl(5, &[], now() - 10, HOUR);
    door.publish(&list);
    let config = file(door.folder.path(), "chancery.toml", &configuration(&["trader"]));
    door.sources.config = Some(config.clone());
    let trust = door.trust(Clock::system());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = open.connect(door.trader()).await.unwrap();

    let (other_ca, other_pem) = authority_named("Throwaway CA");
    let (good, good_ca) = (list.signed_by(&door.ca).unwrap().pem().unwrap(), door.ca_pem.clone());
    let cut = |text: &str| text.lines().take(3).collect::<Vec<_>>().join("\n");
    let signed =
        |list: &rcgen::CertificateRevocationListParams| list.signed_by(&door.ca).unwrap().pem().unwrap();
    let cases: Vec<(&str, PathBuf, String, &str)> = vec![
        ("half a list", door.sources.issuers[0].crls[0].clone(), cut(&good), "ca.crl"),
        ("no list", door.sources.issuers[0].crls[0].clone(), String::new(), "no list in it"),
        ("two lists", door.sources.issuers[0].crls[0].clone(), format!("{good}{good}"), "second list"),
        (
            "another CA's list of the same name",
            door.sources.issuers[0].crls[0].clone(),
            list.signed_by(&other_ca).unwrap().pem().unwrap(),
            "no CA in `client_ca` has signed",
        ),
        (
            "an older list",
            door.sources.issuers[0].crls[0].clone(),
            signed(&crl(4, &[], now(), HOUR)),
            "older than the one in use",
        ),
        ("half a CA", door.sources.issuers[0].client_ca.clone(), cut(&good_ca), "ca.pem"),
        ("another CA", door.sources.issuers[0].client_ca.clone(), other_pem, "has signed"),
        ("no CA", door.sources.issuers[0].client_ca.clone(), "\n".to_owned(), "no certificate in it"),
        (
            "another key",
            door.sources.key.clone(),
            KeyPair::generate().unwrap().serialize_pem(),
            "its key must be",
        ),
        ("half a key", door.sources.key.clone(), "-----BEGIN PRIVATE KEY-----\nAA".to_owned(), "server.key"),
        ("half a configuration", config, "[gateway]\nlisten = ".to_owned(), "chancery.toml"),
    ];
    for (what, path, text, why) in cases {
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let error = trust.reload().expect_err(what).to_string();
        assert!(error.contains(why), "{what}: {error}");
        assert_eq!(trust.generation(), 1, "{what}");
        assert_eq!(trust.trouble().as_deref(), Some(&*error), "{what}");
        assert!(once_more(&mut stream).await, "{what}");
        assert!(open.ask(door.trader()).await.is_ok(), "{what}");
        std::fs::write(&path, before).unwrap();
    }
    door.sources.config = None;
    let trust = door.trust(Clock::system());
    trust.reload().unwrap();
    assert_eq!((trust.generation(), trust.trouble()), (2, None));
}

#[tokio::test]
async fn inv_09_a_certificate_and_its_key_change_together() {
    let door = Door::new();
    let trust = door.trust(Clock::system());
    let following = tokio::spawn(trust.clone().follow());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), Clock::system());
    let mut old = open.connect(door.trader()).await.unwrap();
    let (first, shown) = (shown_by(&old), async || shown_by(&open.connect(door.trader()).await.unwrap()));

    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &door.ca).unwrap();
    // As an operator does it, by hand: one file, a pause, and the other.
    std::fs::write(&door.sources.certificate, certificate.pem()).unwrap();
    let refused = async {
        while trust.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), refused).await.expect("half a change is noticed");
    assert_eq!(shown().await, first);
    std::fs::write(&door.sources.key, key.serialize_pem()).unwrap();
    let taken = async { while shown().await != *certificate.der() {} };
    timeout(Duration::from_secs(5), taken).await.expect("the whole change is taken");
    assert_eq!(trust.trouble(), None);
    assert!(once_more(&mut old).await, "who was connected stays so");
    following.abort();
}

fn shown_by(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn inv_08_who_is_taken_out_of_the_configuration_is_cut() {
    let mut door = Door::new();
    let path = file(door.folder.path(), "chancery.toml", &configuration(&["trader", "other"]));
    door.sources.config = Some(path.clone());
    let people = ["trader", "other"].map(|name| client(name, OWN_ISSUER)).to_vec();
    door.sources.people = Directory::of(people, Vec::new());
    let trust = door.trust(Clock::system());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = open.connect(door.trader()).await.unwrap();
    trust.reload().unwrap();
    assert!(once_more(&mut stream).await);

    // Whoever is new waits for the restart that reads the rest of the configuration, too.
    std::fs::write(&path, configuration(&["other", "new"])).unwrap();
    trust.reload().unwrap();
    assert!(is_cut_within_a_second(&mut stream).await);
    assert!(open.ask(door.trader()).await.is_err());
    for (name, is_let_in) in [("other", true), ("new", false)] {
        let mut params = trader();
        params.subject_alt_names = vec![uri(&format!("spiffe://desk/{name}"))];
        assert_eq!(open.ask(door.client(Some(door.issue(&params)))).await.is_ok(), is_let_in, "{name}");
    }
}

#[tokio::test]
async fn an_issuer_names_its_own_clients_only() {
    let mut door = Door::new();
    let (partner, pem) = authority_named("Partner CA");
    let client_ca = file(door.folder.path(), "partner.pem", &pem);
    let issuer = Trusted { name: "partner".to_owned(), client_ca, ..door.sources.issuers[0].clone() };
    door.sources.issuers.push(issuer);
    door.sources.people =
        Directory::of(vec![client("trader", OWN_ISSUER), client("robot", "partner")], Vec::new());
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let ask = async |ca: &rcgen::Issuer<'static, KeyPair>, name: &str| {
        let mut params = trader();
        params.subject_alt_names = vec![uri(&format!("spiffe://desk/{name}"))];
        open.ask(door.client(Some(issue_by(ca, &params)))).await
    };
    assert!(ask(&door.ca, "trader").await.is_ok());
    assert!(ask(&partner, "robot").await.is_ok());
    for (ca, name) in [(&partner, "trader"), (&door.ca, "robot")] {
        let refused = ask(ca, name).await.unwrap_err();
        assert!(refused.contains("AccessDenied"), "{name}: {refused}");
    }

    door.sources.issuers[1].client_ca = door.sources.issuers[0].client_ca.clone();
    let why = Trust::load(door.sources.clone(), Clock::system()).unwrap_err().to_string();
    assert!(why.contains("another issuer's as well"), "{why}");
}

#[tokio::test]
async fn inv_09_fifty_reloads_under_load_fail_no_handshake() {
    let door = Door::new().with_crls(Revocation::Required);
    door.publish(&crl(1, &[], now() - 10, HOUR));
    let trust = door.trust(Clock::system());
    let open = door.open_with(trust.clone(), Entrance::Clients, &Limits::default(), Clock::system());
    let config = door.trader();
    let asking = async {
        let mut asked = 0_u32;
        loop {
            open.ask(config.clone()).await.expect("each handshake succeeds");
            asked += 1;
            if trust.generation() > 50 && asked >= 10 {
                return;
            }
        }
    };
    let reloading = async {
        for number in 2.. {
            door.publish(&crl(number, &[], now() - 10, HOUR));
            let trust = trust.clone();
            tokio::task::spawn_blocking(move || trust.reload()).await.unwrap().unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = reloading => unreachable!("it goes on"),
    }
}
