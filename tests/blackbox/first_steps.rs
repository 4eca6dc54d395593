//! What a newcomer does: `init`, `certs`, `doctor`.

use tokio::process::Command;

use crate::kit::{Gateway, Output, repository, run};

#[tokio::test]
async fn what_init_writes_is_read_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let init = chancery(&["init", folder.path().to_str().unwrap()]).await;
    assert_eq!(init.code, Some(0), "{init:?}");
    let config = folder.path().join("chancery.toml");
    let check = chancery(&["--config", config.to_str().unwrap(), "policy", "check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");

    let before = std::fs::read_to_string(&config).unwrap();
    let again = chancery(&["init", folder.path().to_str().unwrap()]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("hint:"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
}

#[tokio::test]
async fn no_private_key_is_readable_by_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    chancery(&["certs", "init", "--dir", dir, "--host", "localhost"]).await.well();
    chancery(&["certs", "issue", "trader", "--dir", dir, "--identity", "spiffe://chancery/trader"])
        .await
        .well();
    for key in ["ca.key", "server.key", "trader.key"] {
        let mode = folder.path().join(key).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{key}: {mode:o}");
    }
}

#[tokio::test]
async fn inspect_says_whose_a_certificate_is_and_why_it_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    chancery(&["certs", "init", "--dir", dir]).await.well();
    chancery(&["certs", "issue", "trader", "--dir", dir, "--identity", "spiffe://chancery/trader"])
        .await
        .well();
    let inspect = chancery(&["certs", "inspect", &format!("{dir}/trader.pem")]).await.well();
    assert!(inspect.contains("spiffe://chancery/trader"), "{inspect}");
    let server = chancery(&["certs", "inspect", &format!("{dir}/server.pem")]).await.well();
    assert!(server.contains("refused") && server.contains("clientAuth"), "{server}");
}

#[tokio::test]
async fn certs_issues_revokes_and_renews_for_a_gateway_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let certs = async |rest: &[&str]| chancery(&[&["certs"], rest, &["--dir", dir]].concat()).await;
    certs(&["init"]).await.well();
    for kind in ["client", "connector", "admin"] {
        certs(&["issue", kind, "--kind", kind]).await.well();
        let inspect = chancery(&["certs", "inspect", &format!("{dir}/{kind}.pem")]).await.well();
        assert!(inspect.contains(&format!("identity    spiffe://chancery/{kind}\n")), "{inspect}");
    }
    certs(&["issue", "gateway", "--kind", "server", "--host", "gw.example", "--host", "::1"]).await.well();
    let bad = certs(&["issue", "bad", "--identity", "spiffe://Desk/trader"]).await;
    assert!(bad.code == Some(1) && bad.stderr.contains("trust domain"), "{bad:?}");

    // An empty list first, so that a gateway can be told of it; each further one has the next number.
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (files, number, revoked) in [
        (vec![], 1, 0),
        (vec![file("client.pem")], 2, 1),
        (vec![file("client.pem"), file("admin.pem")], 3, 2),
    ] {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let said =
            certs(&[&["--json", "revoke", "--reason", "key-compromise"], &files[..]].concat()).await.well();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&said["number"], &said["revoked"]), (&number.into(), &revoked.into()), "{said}");
    }
    let list = std::fs::read_to_string(file("ca.crl")).unwrap();
    assert_eq!(revoked_in(&list), 2);

    let before = std::fs::read_to_string(file("gateway.pem")).unwrap();
    certs(&["renew", "gateway", "--within", "30"]).await.well();
    assert_eq!(std::fs::read_to_string(file("gateway.pem")).unwrap(), before, "it has 90 days left");
    certs(&["renew", "gateway"]).await.well();
    assert_ne!(std::fs::read_to_string(file("gateway.pem")).unwrap(), before);
    let expiry = chancery(&["certs", "expiry", &file("gateway.pem"), &file("ca.crl")]).await.well();
    // Whole days: one less as soon as a second has passed.
    let has = |days: [&str; 2]| days.iter().any(|days| expiry.contains(days));
    assert!(has([" 29 days", " 30 days"]) && has([" 89 days", " 90 days"]), "{expiry}");
    let soon = chancery(&["certs", "expiry", "--within", "40", &file("ca.crl")]).await;
    assert_eq!(soon.code, Some(3), "{soon:?}");
    let revoked = certs(&["renew", "client"]).await;
    assert!(revoked.code == Some(1) && revoked.stderr.contains("is revoked"), "{revoked:?}");

    // Whom it did not issue it neither revokes nor renews, and what it cannot read it does not write over.
    let stranger = crate::kit::Authority::new().client("trader");
    stranger.write(folder.path(), "stranger");
    for verb in [["revoke", &file("stranger.pem")], ["renew", "stranger"]] {
        let refused = certs(&verb).await;
        assert!(refused.code == Some(1) && refused.stderr.contains("not of th"), "{refused:?}");
    }
    std::fs::write(file("ca.crl"), &list[..list.len() / 2]).unwrap();
    let damaged = certs(&["revoke", &file("connector.pem")]).await;
    assert!(damaged.code == Some(1) && damaged.stderr.contains("last copy"), "{damaged:?}");
}

#[tokio::test]
async fn doctor_is_content_with_a_gateway_that_works_and_names_what_does_not() {
    let mut gateway = Gateway::start().await;
    let well = gateway.chancery(&["doctor"]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    gateway.world.node.stop();
    let ill = gateway.chancery(&["doctor"]).await;
    assert_eq!(ill.code, Some(3), "{ill:?}");
    assert!(ill.stdout.contains("node"), "{ill:?}");
}

#[tokio::test]
async fn data_goes_to_stdout_as_json_and_talk_to_stderr() {
    let gateway = Gateway::start().await;
    for verb in [&["audit", "verify"][..], &["policy", "check"], &["keys", "list"], &["doctor"]] {
        let mut arguments = verb.to_vec();
        arguments.push("--json");
        let output = gateway.chancery(&arguments).await;
        for line in output.stdout.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{verb:?}: {line}");
        }
        assert!(!output.stdout.is_empty(), "{verb:?}: {output:?}");
    }
    let version = chancery(&["--version"]).await.well();
    assert_eq!(version.trim(), concat!("chancery ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut folders = vec![repository().to_owned()];
    let mut links = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !matches!(name.as_str(), "target" | "node_modules")
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                    let file = link.split('#').next().unwrap();
                    let is_ours = !file.is_empty() && !file.contains("://") && !file.contains(' ');
                    assert!(!is_ours || folder.join(file).exists(), "{}: {link}", path.display());
                    links += usize::from(is_ours);
                }
            }
        }
    }
    assert!(links > 10, "{links} links were found");
}

async fn chancery(arguments: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_chancery")).args(arguments)).await
}

fn revoked_in(list: &str) -> usize {
    use x509_parser::prelude::FromDer as _;
    let (_, pem) = x509_parser::pem::parse_x509_pem(list.as_bytes()).unwrap();
    let (_, list) = x509_parser::prelude::CertificateRevocationList::from_der(&pem.contents).unwrap();
    list.iter_revoked_certificates().count()
}
