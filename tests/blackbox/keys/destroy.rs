//! `keys destroy`: refused for every reason there is, and then for good.

use serde_json::{Value, json};

use crate::kit::{Gateway, LABEL, World, eventually, softhsm_module};

async fn labels(world: &World) -> Vec<String> {
    let text = world.chancery(&["keys", "list", "--json"]).await.well();
    let keys: Vec<Value> = serde_json::from_str(&text).unwrap();
    keys.iter().map(|key| key["label"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_destroyed_by_its_address_and_what_was_done_is_on_record() {
    let gateway = Gateway::start().await;
    let world = &gateway.world;
    let old = world.token.generate("old").await;
    let wrong = gateway.treasury().to_string();
    for (arguments, why) in [
        (vec!["old"], format!("--yes {old}")),
        (vec!["old", "--yes", &wrong], "nothing was destroyed".to_owned()),
        (vec!["older", "--yes", &wrong], "no key labelled `older`".to_owned()),
        (vec!["treasury", "--yes", &wrong], "--still-configured".to_owned()),
    ] {
        let end = gateway.operate("admin", &[&["keys", "destroy"], &arguments[..]].concat()).await;
        assert!(end.code == Some(1) && end.stderr.contains(&why), "{arguments:?}: {end:?}");
    }
    // What cannot be written down is not done.
    let yes = old.to_string().to_lowercase();
    let destroy = ["keys", "destroy", "old", "--yes", &yes];
    let end = gateway.chancery(&destroy).await;
    assert!(end.code == Some(1) && end.stderr.contains("cannot be written down"), "{end:?}");
    assert_eq!(labels(world).await, ["old", "treasury"]);

    gateway.operate("admin", &destroy).await.well();
    assert_eq!(labels(world).await, ["treasury"]);
    let rows = world.chancery(&["audit", "show", "--kind", "key", "--last", "2", "--json"]).await.well();
    for (row, what) in rows.lines().zip(["destroying", "destroyed"]) {
        let row: Value = serde_json::from_str(row).unwrap();
        assert_eq!(
            (&row["body"]["what"], &row["body"]["keys"][0], &row["body"]["operator"]),
            (&json!(what), &json!(yes), &json!("admin")),
            "{row}"
        );
    }
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

#[tokio::test]
async fn a_key_whose_transactions_are_open_stays() {
    let gateway = Gateway::start().await;
    gateway.node().ask("evm_setAutomine", json!([false])).await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    let treasury = gateway.treasury().to_string();
    let destroy = ["keys", "destroy", "treasury", "--still-configured", "--yes", &treasury];
    let end = gateway.operate("admin", &destroy).await;
    assert!(end.code == Some(1) && end.stderr.contains("1 transactions of"), "{end:?}");
    assert_eq!(labels(&gateway.world).await, ["treasury"]);

    // Mined, and far below the head.
    gateway.node().ask("anvil_mine", json!(["0x100"])).await;
    eventually("the end of the transaction", async || {
        let end = gateway.operate("admin", &destroy).await;
        (end.code == Some(0)).then_some(())
    })
    .await;
    assert!(labels(&gateway.world).await.is_empty());
}

/// What it says of accounts and open transactions is not known, which is not that it says nothing.
#[tokio::test]
async fn beside_a_configuration_with_a_mistake_nothing_is_destroyed() {
    let world = World::new().await;
    let key = world.token.generate("old").await.to_string();
    let module = softhsm_module().display().to_string();
    let pin = world.token.pin_file().display().to_string();
    let token = ["--module", &module, "--token-label", LABEL, "--pin-file", &pin];
    let destroy = [&["keys", "destroy", "old", "--yes", &key], &token[..]].concat();
    let broken = world.replace("[ledger]", "[leger]");
    let end = broken.chancery(&destroy).await;
    assert!(end.code != Some(0) && end.stderr.contains("leger"), "{end:?}");
    let world = broken.replace("[leger]", "[ledger]");
    assert_eq!(labels(&world).await, ["old", "treasury"]);
}
