//! `doctor`: finds nothing where nothing is wrong, and names each thing that is, with its fix.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::kit::{Authority, Gateway, World};

/// What it found: check, state and text of each line.
async fn doctor(world: &World) -> (Option<i32>, Vec<(String, String, String)>) {
    let output = world.chancery(&["doctor", "--json"]).await;
    let finding = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(finding["state"] == "ok", text("fix").is_empty(), "{line}");
        (text("check"), text("state"), text("what"))
    };
    (output.code, output.stdout.lines().map(finding).collect())
}

/// The checks that failed, each once. Panics where the exit code says otherwise.
async fn failures(world: &World) -> Vec<String> {
    let (code, findings) = doctor(world).await;
    let mut failed: Vec<_> = findings.into_iter().filter(|f| f.1 == "failed").map(|f| f.0).collect();
    failed.dedup();
    assert_eq!(code, Some(if failed.is_empty() { 0 } else { 3 }), "{failed:?}");
    failed
}

#[tokio::test]
async fn where_nothing_is_wrong_it_finds_nothing() {
    let world = World::new().await;
    let (code, findings) = doctor(&world).await;
    assert_eq!(code, Some(0), "{findings:#?}");
    let checks: Vec<_> = findings.iter().map(|(check, ..)| check.as_str()).collect();
    let expected = [
        "configuration",
        "certificate",
        "hosts",
        "key",
        "client CA",
        "tls",
        "module",
        "pin",
        "policy",
        "ledger",
        "space",
        "token",
        "key",
        "node",
        "listen",
        "admin",
    ];
    let missing: Vec<_> = expected.iter().filter(|check| !checks.contains(check)).collect();
    assert!(missing.is_empty(), "{missing:?} in {findings:#?}");
    assert!(findings.iter().any(|(.., what)| what.contains("treasury") && what.contains("it signs")));
    assert!(!world.folder().join("ledger.sqlite").exists(), "it changes nothing");

    // Beside a running gateway as well.
    let gateway = world.start().await;
    let output = gateway.chancery(&["doctor"]).await.well();
    assert!(
        output.contains("a gateway has it open") && output.contains("the gateway is running"),
        "{output}"
    );
    assert!(!output.contains("FAILED"), "{output}");
}

#[tokio::test]
async fn a_misspelt_configuration_is_all_that_it_says() {
    let world = World::new().await.append("\n[gatewaye]\n");
    let (code, findings) = doctor(&world).await;
    assert_eq!(code, Some(3));
    assert!(matches!(&findings[..], [(check, ..)] if check == "configuration"), "{findings:#?}");
    assert!(findings[0].2.contains("gatewaye") && findings[0].2.contains("chancery.toml:"), "{findings:#?}");
}

#[tokio::test]
async fn each_wrong_file_is_named() {
    let world = World::new().await;
    let file = |name: &str| world.folder().join(name);
    let good = |name: &str| fs::read(file(name)).unwrap();
    let (certificate, key, ca) = (good("server.pem"), good("server.key"), good("ca.pem"));
    let other = Authority::new().server();
    let old = world.authority.leaf("old").expired().issue();
    let not_for_servers = world.authority.client("trader");

    for (name, text, failed) in [
        ("server.pem", "", &["certificate", "tls"][..]),
        ("server.pem", &other.certificate, &["tls"]),
        ("server.pem", &old.certificate, &["certificate", "hosts", "tls"]),
        ("server.pem", &not_for_servers.certificate, &["certificate", "hosts", "tls"]),
        ("server.key", "", &["key", "tls"]),
        ("server.key", &other.key, &["tls"]),
        ("ca.pem", &other.certificate, &["client CA"]),
        ("ca.pem", "no PEM", &["client CA", "tls"]),
        ("policies/main.toml", "[[rulee]]", &["policy"]),
    ] {
        let before = good(name);
        fs::write(file(name), text).unwrap();
        assert_eq!(failures(&world).await, failed, "{name}: {text:.40}");
        fs::write(file(name), before).unwrap();
    }
    assert_eq!((good("server.pem"), good("server.key"), good("ca.pem")), (certificate, key, ca));

    for (name, mode, failed) in [("server.key", 0o644, "key"), ("token/pin", 0o604, "pin")] {
        fs::set_permissions(file(name), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(failures(&world).await, [failed], "{name}");
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(failures(&world).await, [""; 0]);
}

#[tokio::test]
async fn each_wrong_setting_is_named() {
    let mut world = World::new().await;
    let treasury = world.treasury().to_string();
    let node = world.node.url();
    let port = world.address().port();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    let hosts = format!("hosts = [\"127.0.0.1:{port}\"");
    for (right, wrong, failed) in [
        (hosts.as_str(), "hosts = [\"gateway.example\"", &["hosts"][..]),
        (&listen, &elsewhere, &["listen"]),
        (&node, "http://127.0.0.1:1", &["node"]),
        ("path = \"ledger.sqlite\"", "path = \"ca.pem/ledger.sqlite\"", &["ledger", "token"]),
        ("label = \"chancery\"", "label = \"elsewhere\"", &["token"]),
        (&treasury, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", &["token"]),
        ("key = \"treasury\"", "key = \"no-such-key\"", &["token"]),
    ] {
        world = world.replace(right, wrong);
        assert_eq!(failures(&world).await, failed, "{wrong}");
        world = world.replace(wrong, right);
    }
    assert_eq!(failures(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_refused_pin_is_named_and_not_tried_again() {
    let gateway = Gateway::start().await;
    gateway.world.token.write_wrong_pin();
    let failed = |output: &str| {
        let line = |line: &&str| line.starts_with("FAILED");
        output
            .lines()
            .filter(line)
            .map(|l| l.split_whitespace().nth(1).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = gateway.chancery(&["doctor"]).await;
    assert_eq!((first.code, failed(&first.stdout)), (Some(3), vec!["token".to_owned()]), "{}", first.stdout);
    let second = gateway.chancery(&["doctor"]).await;
    assert_eq!(failed(&second.stdout), ["pin", "token"], "{}", second.stdout);
    assert!(second.stdout.contains("keys unlatch main"), "{}", second.stdout);
    gateway.world.token.write_right_pin();
    gateway.chancery(&["keys", "unlatch", "main"]).await.well();
    gateway.chancery(&["doctor"]).await.well();
}
