//! cast and forge.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy_dyn_abi::eip712::TypedData;
use alloy_primitives::{Address, hex};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::kit::{self, FRIEND, Output, Process, Tool, repository, run, tool};
use crate::trial::{Trial, certify};
use crate::{BY_SOCKET, BY_URL, report, script};

/// As in `scenario.cjs`: logs an empty line, hands what it is given to ecrecover, and answers what that says.
pub const RECOVERS: &str = "0x60168060093d393df33d3da0363d3d3760203d363d60015afa5060206000f3";

struct Cast<'t> {
    trial: &'t Trial,
}

impl Cast<'_> {
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut cast = Command::new(tool(Tool::Cast));
        run(cast.args(arguments).env("ETH_RPC_URL", &self.trial.url).env("NO_COLOR", "1")).await
    }

    async fn says(&self, arguments: &[&str]) -> String {
        self.run(arguments).await.well().trim().trim_matches('"').to_owned()
    }

    /// The receipt of a transaction of the treasury's.
    async fn send(&self, arguments: &[&str]) -> Value {
        let all = [&["send", "--unlocked", "--json", "--from", &self.trial.from], arguments].concat();
        let receipt = serde_json::from_str::<Value>(&self.says(&all).await).unwrap();
        assert_eq!(receipt["status"], "0x1", "{arguments:?}: {receipt}");
        receipt
    }

    /// The contract says that the treasury signed it.
    async fn recovers(&self, contract: &str, digest: &str, signature: &str) {
        let (rs, v) = signature.trim_start_matches("0x").split_at(128);
        let said = self.says(&["call", contract, &format!("{digest}{v:0>64}{rs}")]).await;
        assert_eq!(Address::from_slice(&hex::decode(said).unwrap()[12..]).to_string(), self.trial.from);
    }
}

#[tokio::test]
async fn cast() {
    let trial = Trial::begin().await;
    let cast = Cast { trial: &trial };
    let accounts: Vec<String> =
        serde_json::from_str(&cast.run(&["rpc", "eth_accounts"]).await.well()).unwrap();
    assert_eq!(accounts[0].to_lowercase(), trial.from.to_lowercase());

    for kind in [&[][..], &["--legacy"], &["--access-list"], &["--sync"]] {
        cast.send(&[&[FRIEND, "--value", "1"], kind].concat()).await;
    }
    let contract = cast.send(&["--create", RECOVERS]).await["contractAddress"].as_str().unwrap().to_owned();
    cast.send(&[&contract]).await;

    // Each of the eight names its nonce, since cast takes the same one for all that are not mined yet.
    let next: u64 = cast.says(&["nonce", &trial.from]).await.parse().unwrap();
    let nonces: Vec<_> = (next..next + 8).map(|nonce| nonce.to_string()).collect();
    let send = async |nonce: &String| cast.send(&[FRIEND, "--value", "1", "--nonce", nonce]).await;
    futures_util::future::join_all(nonces.iter().map(send)).await;
    assert_eq!(cast.says(&["nonce", &trial.from]).await, (next + 8).to_string());

    let signature =
        cast.says(&["rpc", "personal_sign", &hex::encode_prefixed("hello cast"), &trial.from]).await;
    cast.says(&["wallet", "verify", "--address", &trial.from, "hello cast", &signature]).await;
    cast.recovers(&contract, &cast.says(&["hash-message", "hello cast"]).await, &signature).await;

    let order = order(&trial.from);
    let signature = cast.says(&["rpc", "eth_signTypedData_v4", &trial.from, &order.to_string()]).await;
    let digest = serde_json::from_value::<TypedData>(order).unwrap().eip712_signing_hash().unwrap();
    cast.recovers(&contract, &digest.to_string(), &signature).await;

    let url = trial.url.replacen("http", "ws", 1);
    let mut listen = Command::new(tool(Tool::Cast));
    listen.args(["logs", "--subscribe", "--rpc-url", &url, "--address", &contract]);
    let listening = Process::start(&mut listen);
    // It does not say when it listens.
    kit::eventually("a log is heard", async || {
        cast.send(&[&contract]).await;
        listening.stdout().to_lowercase().contains(&contract.to_lowercase()).then_some(())
    })
    .await;

    trial
        .meets_trouble("cast", false, async |from, to| {
            let refused = cast.run(&["send", "--unlocked", "--from", from, to, "--value", "1"]).await;
            assert_ne!(refused.code, Some(0), "{refused:?}");
            refused.stderr
        })
        .await;
    let done = ["accounts", "transfer", "deploy", "call", "parallel", "message", "typed data", "events"];
    certify(&report("cast", &version(Tool::Cast).await, &done), BY_SOCKET);
}

#[tokio::test]
async fn forge() {
    let trial = Trial::begin().await;
    let project = project();
    let create = ["create", "src/Till.sol:Till", "--broadcast", "--unlocked", "--from", &trial.from];
    let created = forge_in(&project, &trial, &create).await.well();
    let till = created
        .lines()
        .find_map(|line| line.strip_prefix("Deployed to: "))
        .unwrap_or_else(|| panic!("{created}"));
    assert_ne!(trial.gateway.node().ask("eth_getCode", json!([till, "latest"])).await, "0x");

    // Two senders in turn, two transactions each.
    let senders = [&*trial.from, &*trial.other];
    let before = trial.gateway.node().mined(senders[0].parse().unwrap()).await;
    let broadcast = ["script", "script/Senders.s.sol", "--broadcast", "--unlocked", "--sender", senders[0]];
    let signature = ["--sig", "run(address,address)", senders[0], senders[1]];
    let done = forge_in(&project, &trial, &[&broadcast[..], &signature].concat()).await.well();
    assert!(done.contains("ONCHAIN EXECUTION COMPLETE & SUCCESSFUL"), "{done}");
    trial.gateway.node().mines(senders[0].parse().unwrap(), before + 2).await;
    trial.gateway.node().mines(senders[1].parse().unwrap(), 2).await;

    // A script that pays whom it is told, with its payment in the middle of three transactions.
    trial
        .meets_trouble("forge", true, async |from, to| {
            let broadcast = ["script", "script/Middle.s.sol", "--broadcast", "--unlocked", "--sender", from];
            let refused =
                forge_in(&project, &trial, &[&broadcast[..], &["--sig", "run(address)", to]].concat()).await;
            assert_ne!(refused.code, Some(0), "{refused:?}");
            let error = refused.stderr.lines().filter(|line| line.starts_with("Error")).collect::<Vec<_>>();
            error.join("\n")
        })
        .await;
    // Several at once hear this or that of a rate; one alone asks as often each time.
    trial
        .meets_rate("forge, alone", async |from, to| {
            let broadcast = ["script", "script/Alone.s.sol", "--broadcast", "--unlocked", "--sender", from];
            let refused =
                forge_in(&project, &trial, &[&broadcast[..], &["--sig", "run(address)", to]].concat()).await;
            assert_ne!(refused.code, Some(0), "{refused:?}");
            let error = refused.stderr.lines().filter(|line| line.starts_with("Error")).collect::<Vec<_>>();
            error.join("\n")
        })
        .await;
    // Whatever was refused, it left no gap behind that keeps the next one waiting.
    trial.gateway.settled().await;
    trial.gateway.client("trader").send(trial.gateway.payment(1)).await.unwrap();
    certify(
        &report("forge", &version(Tool::Forge).await, &["transfer", "deploy", "call", "parallel"]),
        BY_URL,
    );
}

/// cast waits for 45 s. Long before that the gateway has given up on the token, and said so; what the token signs at last is
/// nobody's any more.
#[tokio::test]
async fn a_token_that_takes_longer_than_a_tool_waits_makes_no_second_transaction() {
    let trial = Trial::begin().await;
    let cast = Cast { trial: &trial };
    let payment = [FRIEND, "--value", "77"];
    let send = [&["send", "--unlocked", "--json", "--from", &trial.from], &payment[..]].concat();
    trial.token.faults(&["on = \"C_Sign\"; delay_us = 75000000"]);
    let began = Instant::now();
    // Its user is told each time, and asks again.
    for _ in 0..3 {
        let said = cast.run(&send).await;
        assert!(said.stderr.contains("-32603") && said.stderr.contains("nothing was sent"), "{said:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(45), "it was told before it gave up");
    trial.token.lift();
    kit::eventually("the token is back", async || (cast.run(&send).await.code == Some(0)).then_some(()))
        .await;
    // Until the first signature would have come.
    tokio::time::sleep_until((began + Duration::from_secs(80)).into()).await;
    let sent = trial.gateway.node().sent_by(trial.from.parse().unwrap()).await;
    assert_eq!(sent.iter().filter(|sent| sent["value"] == "0x4d").count(), 1, "{sent:#?}");
    trial.gateway.settled().await;
    assert_eq!(trial.gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

async fn forge_in(project: &TempDir, trial: &Trial, arguments: &[&str]) -> Output {
    let mut forge = Command::new(tool(Tool::Forge));
    forge.args(arguments).args(["--rpc-url", &trial.url]).current_dir(project.path());
    run(forge.env("FOUNDRY_SOLC", tool(Tool::Solc)).env("NO_COLOR", "1")).await
}

/// The project of the black-box tests, with more scripts, where forge may write.
fn project() -> TempDir {
    let folder = TempDir::with_prefix("chancery-foundry-").unwrap();
    let from = repository().join("tests/blackbox/foundry");
    std::fs::copy(from.join("foundry.toml"), folder.path().join("foundry.toml")).unwrap();
    for (from, to) in [
        (from.join("src/Till.sol"), "src/Till.sol"),
        (script("Senders.s.sol"), "script/Senders.s.sol"),
        (script("Middle.s.sol"), "script/Middle.s.sol"),
        (script("Alone.s.sol"), "script/Alone.s.sol"),
    ] {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    folder
}

async fn version(program: Tool) -> String {
    let said = run(Command::new(tool(program)).arg("--version")).await.well();
    said.split_whitespace().nth(2).unwrap().to_owned()
}

pub fn order(maker: &str) -> Value {
    json!({
        "types": {
            "EIP712Domain": [
                { "name": "name", "type": "string" }, { "name": "version", "type": "string" },
                { "name": "chainId", "type": "uint256" }, { "name": "verifyingContract", "type": "address" }
            ],
            "Order": [
                { "name": "maker", "type": "address" }, { "name": "amount", "type": "uint256" },
                { "name": "note", "type": "string" }
            ]
        },
        "primaryType": "Order",
        "domain": { "name": "Chancery", "version": "1", "chainId": 31337, "verifyingContract": FRIEND },
        "message": { "maker": maker, "amount": "123456789012345678901234567890", "note": "hello" }
    })
}
