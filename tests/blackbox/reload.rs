//! A policy that is edited while the gateway runs.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use crate::kit::{Gateway, POLICY, STRANGER, TestKey, Tool, World, eventually, run, tool};

/// POLICY, and payments to STRANGER as well.
fn wider() -> String {
    let stranger = STRANGER.parse::<alloy_primitives::Address>().unwrap();
    POLICY.replace("to            = [\"", &format!("to            = [\"{stranger}\", \""))
}

/// Exchanged as a whole, as a careful operator does.
fn write(gateway: &Gateway, policy: &str) {
    let file = gateway.folder().join("policies/main.toml");
    std::fs::write(file.with_extension("new"), policy).unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
}

async fn may_pay_stranger(gateway: &Gateway) -> bool {
    let payment = json!({ "from": gateway.treasury(), "to": STRANGER, "value": "0x1" });
    gateway.client("trader").send(payment).await.is_ok()
}

#[tokio::test]
async fn inv_09_a_changed_policy_is_in_force_soon_and_one_with_a_mistake_never() {
    let gateway = Gateway::start().await;
    assert!(!may_pay_stranger(&gateway).await);
    write(&gateway, &wider());
    eventually("the new policy", async || may_pay_stranger(&gateway).await.then_some(())).await;

    let failed = async || gateway.metric("chancery_policy_reload_failed").await;
    write(&gateway, &POLICY.replacen("effect        =", "efect         =", 1));
    eventually("the alarm", async || (failed().await > 0.5).then_some(())).await;
    gateway.logs("main.toml:4: unknown field `efect`").await;
    assert!(may_pay_stranger(&gateway).await, "the last good one stays");
    std::fs::remove_file(gateway.folder().join("policies/main.toml")).unwrap();

    write(&gateway, POLICY);
    eventually("the end of the alarm", async || (failed().await < 0.5).then_some(())).await;
    assert!(!may_pay_stranger(&gateway).await);
    let rows = gateway.audit().await;
    let policies: Vec<_> = rows.iter().filter(|row| row["kind"] == "policy").collect();
    assert!(policies.len() >= 3, "{policies:#?}");
    // Each intent names the one by which it was judged.
    let of_stranger = rows.iter().filter(|row| row["kind"] == "intent").map(|row| &row["body"]["policy"]);
    assert!(of_stranger.into_iter().all(|policy| *policy == policies[1]["body"]["policy"]), "{rows:#?}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_hangup_reads_the_policy_again_and_ends_nothing() {
    let gateway = Gateway::start().await;
    let reloads = async |outcome: &str| {
        gateway.metric(&format!("chancery_policy_reloads_total{{outcome=\"{outcome}\"}}")).await
    };
    gateway.signal(Signal::HUP);
    eventually("a look", async || (reloads("unchanged").await > 0.5).then_some(())).await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

/// Requests that are judged by one policy and reserved under another are judged again, and nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_09_a_reload_refuses_nothing_that_both_policies_allow() {
    let gateway = Gateway::start().await;
    let changes = async {
        for round in 0..8 {
            write(&gateway, &if round % 2 == 0 { wider() } else { POLICY.to_owned() });
            gateway.signal(Signal::HUP);
            sleep(Duration::from_millis(250)).await;
        }
    };
    let load = async {
        let mut refused = Vec::new();
        for round in 0..10 {
            let payments = (1..=8).map(|wei| gateway.payment(round * 8 + wei));
            refused.extend(gateway.send_at_once(payments).await.into_iter().filter_map(Result::err));
        }
        refused
    };
    let (refused, ()) = tokio::join!(load, changes);
    assert_eq!(refused.len(), 0, "{refused:?}");
    let taken = gateway.metric("chancery_policy_reloads_total{outcome=\"taken\"}").await;
    assert!(taken > 3.5, "{taken} reloads");
}

/// What two officers of three have signed, with their own wallets.
#[tokio::test]
async fn inv_09_a_policy_that_too_few_have_signed_or_an_older_one_is_not_taken() {
    let officers = [TestKey::random(), TestKey::random(), TestKey::random()];
    let listed: Vec<_> = officers.iter().map(|officer| format!("\"{}\"", officer.address)).collect();
    let signed_policy = format!("[policy]\nrequired_signatures = 2\nsigners = [{}]", listed.join(", "));
    let world = World::new().await.replace("[policy]", &signed_policy);
    let end = world.refuses_to_start().await;
    assert!(end.stderr.contains("manifest.txt: No such file"), "{}", end.stderr);

    let folder = world.folder().to_owned();
    world.chancery(&["policy", "sign", "--serial", "5"]).await.well();
    let first = sign(&folder, &officers[..2]).await;
    let one = world.chancery(&["policy", "sign", "--signature", &first[0], "--json"]).await.well();
    assert!(one.contains(&format!("{:?}", officers[0].address.to_string())), "{one}");
    assert!(world.refuses_to_start().await.stderr.contains("1 of the signers"));
    world.chancery(&["policy", "sign", "--signature", &first[1]]).await.well();
    let gateway = world.start().await;
    assert!(!may_pay_stranger(&gateway).await);

    // A change that nobody has signed.
    write(&gateway, &wider());
    let failed = async || gateway.metric("chancery_policy_reload_failed").await;
    eventually("the alarm", async || (failed().await > 0.5).then_some(())).await;
    gateway.logs("what was signed is not what is there: main.toml").await;
    assert!(!may_pay_stranger(&gateway).await);
    // The same, signed by two, is in force.
    gateway.chancery(&["policy", "sign", "--serial", "6"]).await.well();
    for signature in sign(&folder, &officers[1..]).await {
        gateway.chancery(&["policy", "sign", "--signature", &signature]).await.well();
    }
    eventually("the signed policy", async || may_pay_stranger(&gateway).await.then_some(())).await;
    eventually("the end of the alarm", async || (failed().await < 0.5).then_some(())).await;

    // What was signed once is not taken back by whoever may write files.
    write(&gateway, POLICY);
    gateway.chancery(&["policy", "sign", "--serial", "5"]).await.well();
    for signature in &first {
        gateway.chancery(&["policy", "sign", "--signature", signature]).await.well();
    }
    eventually("the refusal", async || {
        gateway.log().contains("a policy with serial 5, or a later one").then_some(())
    })
    .await;
    assert!(may_pay_stranger(&gateway).await, "the later one stays in force");
}

/// Signs the manifest as a message, as an officer's wallet does.
async fn sign(folder: &Path, officers: &[TestKey]) -> Vec<String> {
    let manifest = std::fs::read_to_string(folder.join("policies/manifest.txt")).unwrap();
    let mut signatures = Vec::new();
    for officer in officers {
        let sign = ["wallet", "sign", "--private-key", &officer.secret(), &manifest];
        let signature = run(Command::new(tool(Tool::Cast)).args(sign)).await.well();
        signatures.push(signature.trim().to_owned());
    }
    signatures
}

/// A second policy is judged beside the one in force: it changes no answer, and tells what it would have.
#[tokio::test]
async fn a_policy_that_is_tried_decides_nothing_and_tells_what_it_would_have_said() {
    let world = World::new().await.policy(POLICY);
    let world = world.replace("directory = \"policies\"", "directory = \"policies\"\nshadow = \"next\"");
    let next = world.folder().join("next");
    std::fs::create_dir(&next).unwrap();
    std::fs::write(next.join("main.toml"), wider().replacen("\"1 ether\"", "\"5 wei\"", 1)).unwrap();
    let gateway = world.start().await;
    let told = async |verdict: &str| {
        gateway.metric(&format!("chancery_policy_shadow_total{{verdict=\"{verdict}\"}}")).await
    };
    let pay = async |wei| gateway.client("trader").send(gateway.payment(wei)).await.unwrap();
    eventually("the policy that is tried is read", async || {
        pay(1).await;
        (told("same").await > 0.5).then_some(())
    })
    .await;
    pay(9).await;
    assert!(!may_pay_stranger(&gateway).await);
    let rows = eventually("both are written down", async || {
        let rows = gateway.audit().await.into_iter().filter(|row| row["kind"] == "tried");
        let rows: Vec<_> = rows.map(|row| row["body"].clone()).collect();
        (rows.len() == 2).then_some(rows)
    })
    .await;
    assert!(told("stricter").await > 0.5 && told("looser").await > 0.5);
    assert_eq!((&rows[0]["verdict"], &rows[0]["rule"]), (&json!("stricter"), &json!("pay-friend")));
    assert!(rows[0]["why"].as_str().unwrap().contains("at most 5 wei"), "{rows:#?}");
    assert_eq!(rows[1]["verdict"], "looser");

    std::fs::write(next.join("main.toml"), "[[rule").unwrap();
    let failed = async || gateway.metric("chancery_policy_shadow_failed").await;
    eventually("the alarm", async || (failed().await > 0.5).then_some(())).await;
    assert!(gateway.metric("chancery_policy_reload_failed").await < 0.5);
    pay(2).await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}
