//! The wide matrix of clients, each as it comes from its registry, through a running gateway: `scripts/test --full`.

#![allow(
    dead_code,
    unused_imports,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test may panic, and the kit is part of the tests, used here in part"
)]

#[path = "../blackbox/kit/mod.rs"]
mod kit;

use std::path::PathBuf;

use tokio::process::Command;

use crate::kit::{FRIEND, Gateway, STRANGER, repository, run};

const POLICY: &str = r#"
[[rule]]
id            = "develop"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["trader"]
from          = ["treasury"]
to            = ["create", "any"]
call          = "any"
value         = { max = "1 gwei" }
execution_fee = { max = "0.1 ether" }

[[rule]]
id     = "blocked"
effect = "deny"
kind   = "transaction"
to     = ["0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"]

[[rule]]
id      = "greet"
effect  = "allow"
kind    = "message"
clients = ["trader"]
from    = ["treasury"]
text    = { prefix = "hello" }
"#;

async fn gateway() -> Gateway {
    Gateway::with_policy(POLICY).await
}

fn tools() -> PathBuf {
    repository().join(".tools")
}

fn script(name: &str) -> PathBuf {
    repository().join("tests/clients").join(name)
}

/// Runs a client's program with everything that it needs to know, and shows its last line.
async fn passes(mut command: Command) {
    let gateway = gateway().await;
    let (_connector, url) = gateway.connect("trader").await;
    command
        .env("URL", url)
        .env("FROM", gateway.treasury().to_string())
        .env("FRIEND", FRIEND)
        .env("STRANGER", STRANGER)
        .env("NODE_PATH", tools().join("clients/node_modules"));
    let said = run(&mut command).await.well();
    let ok = said.lines().find(|line| line.starts_with("clients ") && line.ends_with(": ok"));
    println!("{}", ok.unwrap_or_else(|| panic!("it did not come to its end: {said}")));
}

async fn node(name: &str) {
    let mut command = Command::new("node");
    command.arg(script(name));
    passes(command).await;
}

#[tokio::test]
async fn ethers_6() {
    node("ethers6.cjs").await;
}

#[tokio::test]
async fn ethers_5() {
    node("ethers5.cjs").await;
}

#[tokio::test]
async fn viem() {
    node("viem.cjs").await;
}

#[tokio::test]
async fn web3_js() {
    node("web3js.cjs").await;
}

#[tokio::test]
async fn hardhat_2() {
    // Hardhat wants its project around it.
    let project = tempfile::tempdir().unwrap();
    for name in ["hardhat.cjs", "scenario.cjs"] {
        std::fs::copy(script(name), project.path().join(name)).unwrap();
    }
    std::fs::write(project.path().join("package.json"), "{}").unwrap();
    std::os::unix::fs::symlink(tools().join("clients/node_modules"), project.path().join("node_modules"))
        .unwrap();
    let mut command = Command::new("node");
    command.arg(project.path().join("node_modules/hardhat/internal/cli/bootstrap.js"));
    command.args(["--config", "hardhat.cjs", "scenario"]).current_dir(project.path());
    command.env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true").env("HOME", project.path());
    passes(command).await;
}

#[tokio::test]
async fn web3_py() {
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(script("web3py.py"));
    passes(command).await;
}

/// curl presents the certificate by itself, and goes to the gateway without a connector.
#[tokio::test]
async fn curl() {
    let gateway = gateway().await;
    let (certificate, key) = gateway.world.authority.client("trader").write(gateway.folder(), "trader");
    let ask = async |method: &str, params: serde_json::Value| {
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut command = Command::new("curl");
        command.args(["-sS", "-H", "content-type: application/json", "--cacert"]);
        command.arg(gateway.folder().join("ca.pem")).arg("--cert").arg(&certificate).arg("--key").arg(&key);
        command.arg(gateway.url()).arg("-d").arg(body.to_string());
        serde_json::from_str::<serde_json::Value>(&run(&mut command).await.well()).unwrap()
    };
    let accounts = ask("eth_accounts", serde_json::json!([])).await;
    let from = gateway.treasury().to_string().to_lowercase();
    assert_eq!(accounts["result"][0].as_str().map(str::to_lowercase), Some(from));
    let sent = ask("eth_sendTransaction", serde_json::json!([gateway.payment(1)])).await;
    let hash = sent["result"].as_str().unwrap_or_else(|| panic!("{sent}"));
    kit::eventually("its receipt", async || {
        ask("eth_getTransactionReceipt", serde_json::json!([hash])).await["result"]["status"]
            .as_str()
            .map(|status| assert_eq!(status, "0x1"))
    })
    .await;
    let mut payment = gateway.payment(1);
    payment["to"] = STRANGER.into();
    let refused = ask("eth_sendTransaction", serde_json::json!([payment])).await;
    assert_eq!(refused["error"]["data"]["rule"], "blocked", "{refused}");
    println!(
        "clients curl {}: ok",
        run(Command::new("curl").arg("--version")).await.well().split(' ').nth(1).unwrap()
    );
}
