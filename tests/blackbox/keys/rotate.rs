//! `keys rotate` and `keys attest`: what a new key means, and what proves one.

use serde_json::{Value, json};

use crate::kit::{FRIEND, POLICY, World};

#[tokio::test]
async fn an_account_moves_to_a_new_key_in_two_steps_with_both_in_use_between_them() {
    let world = World::new().await;
    let old = world.treasury();
    let end = world.chancery(&["keys", "rotate", "begin", "treasury", "--label", "next"]).await.well();
    assert!(
        end.contains("A new key is a new address") && end.contains("clients of `treasury` (trader)"),
        "{end}"
    );
    let made = world.chancery(&["keys", "list", "--json"]).await.well();
    let made: Vec<Value> = serde_json::from_str(&made).unwrap();
    let next =
        made.iter().find(|key| key["label"] == "next").unwrap()["address"].as_str().unwrap().to_owned();
    assert!(end.to_lowercase().contains(&next), "{end}");
    let again = world.chancery(&["keys", "rotate", "begin", "treasury", "--label", "next"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("already"), "{again:?}");

    let account =
        format!("\n[[account]]\nname = \"next\"\naddress = \"{next}\"\ntoken = \"main\"\nkey = \"next\"\n");
    let world = world.append(&account);
    let retire = ["keys", "rotate", "retire", "treasury", "--to", "next"];
    let end = world.chancery(&retire).await;
    assert!(end.code == Some(1) && end.stderr.contains("may still use `treasury`: trader"), "{end:?}");
    let end = world.chancery(&["keys", "rotate", "retire", "treasury", "--to", "nobody"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("no [[account]] named `nobody`"), "{end:?}");

    // No gateway has run with the new one yet.
    let only = |accounts: &str| format!("spiffe://chancery/trader\"\naccounts = {accounts}");
    let world = world.replace(&only("[\"treasury\"]"), &only("[\"next\"]"));
    let end = world.chancery(&retire).await;
    assert!(end.code == Some(1) && end.stderr.contains("there was no overlap"), "{end:?}");

    let policy = POLICY.replace("[\"treasury\"]", "[\"treasury\", \"next\"]");
    let gateway = world.policy(&policy).start().await;
    gateway.node().adopt(next.parse().unwrap()).await;
    let payment = json!({ "from": next, "to": FRIEND, "value": "0x1" });
    gateway.client("trader").send(payment).await.unwrap();
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!(refused.code, 4100, "{refused:?}");
    let end = crate::kit::eventually("the proof on record", async || {
        let end = gateway.operate("admin", &[&retire[..], &["--json"]].concat()).await;
        (end.code == Some(0)).then_some(end)
    })
    .await;
    let done: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(done["retired"], old.to_string().to_lowercase());
    assert_eq!(done["balance_wei"], gateway.node().balance(&old.to_string()).await.to_string());
    let rows = gateway.chancery(&["audit", "show", "--kind", "key", "--last", "1", "--json"]).await.well();
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["body"]["what"], &row["body"]["operator"]),
        (&json!("rotation-retired"), &json!("admin"))
    );
}

#[tokio::test]
async fn attestation_is_the_vendors_and_no_token_vouches_for_itself() {
    let world = World::new().await;
    let end = world.chancery(&["keys", "attest", "treasury"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("knows of no attestation"), "{end:?}");
    let world = world.replace("name = \"main\"\n", "name = \"main\"\nprofile = \"luna\"\n");
    let end = world.chancery(&["keys", "attest", "treasury"]).await.well();
    assert!(end.contains("cmu getpkc") && end.contains(&world.treasury().to_string()), "{end}");
}
