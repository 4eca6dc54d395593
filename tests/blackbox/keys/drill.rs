//! `keys drill`: a backup is proved before it is needed, by the gateway that runs or without one.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::with_backup;
use crate::kit::{Gateway, Output, TestToken, World};

fn told(end: &Output) -> Value {
    serde_json::from_str(&end.stdout).unwrap_or_else(|error| panic!("{error}: {end:?}"))
}

/// What the chain says of drills: token, what, and by whom.
async fn rows(world: &World) -> Vec<(String, String, Value)> {
    let text = world.chancery(&["audit", "show", "--kind", "key", "--last", "100", "--json"]).await.well();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].clone());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let drills = rows.filter(|row| text(&row["what"]).starts_with("drill"));
    drills.map(|row| (text(&row["token"]), text(&row["what"]), row["operator"].clone())).collect()
}

async fn doctor(world: &World) -> Vec<Value> {
    let text = world.chancery(&["doctor", "--json"]).await.stdout;
    let findings = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    findings.filter(|finding| finding["check"] == "drill").collect()
}

#[tokio::test]
async fn a_running_gateway_drills_with_its_own_workers_and_writes_who_wanted_it() {
    let mut gateway = with_backup().await.start().await;
    crate::kit::eventually("the metric", async || {
        (gateway.metric("chancery_drill_overdue{").await > 0.5).then_some(())
    })
    .await;
    gateway.logs("a backup was not drilled for long").await;
    let end = gateway.chancery(&["keys", "drill"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("--cert"), "{end:?}");
    let end = gateway.operate("auditor", &["keys", "drill"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("auditor"), "{end:?}");

    let end = gateway.operate("admin", &["keys", "drill", "--json"]).await;
    assert_eq!(end.code, Some(0), "{end:?}");
    let tokens = &told(&end)[0]["tokens"];
    assert_eq!(
        *tokens,
        json!([
            { "token": "main", "primary": true, "trouble": null },
            { "token": "spare", "primary": false, "trouble": null },
        ])
    );
    let by = json!("admin");
    let drilled = |token: &str| (token.to_owned(), "drilled".to_owned(), by.clone());
    assert_eq!(rows(&gateway.world).await, [drilled("main"), drilled("spare")]);

    gateway.signal(Signal::TERM);
    gateway.ends().await;
    let findings = doctor(&gateway.world).await;
    assert_eq!((findings.len(), &findings[0]["state"]), (1, &json!("ok")), "{findings:?}");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    gateway.restart().await;
    crate::kit::eventually("the metric", async || {
        let page = gateway.admin("admin", "/metrics").await.ok()?.body;
        page.contains("chancery_drill_overdue{account=\"treasury\",token=\"spare\"} 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_drill_whose_operator_has_hung_up_is_ended_and_recorded() {
    let (world, token) = TestToken::before(World::new().await);
    let gateway = world.start().await;
    token.faults(&["on = \"C_Sign\"; delay_us = 1000000"]);
    let (asked, before) = (json!({ "account": "treasury" }), token.calls("C_Sign"));
    let signs =
        crate::kit::eventually("it is drilled", async || (token.calls("C_Sign") > before).then_some(()));
    tokio::select! {
        answer = gateway.admin_post("admin", "/v1/keys/drill", &asked) => panic!("already: {}", answer.body),
        () = signs => {}
    }
    crate::kit::eventually("the row", async || {
        let row = ("main".to_owned(), "drilled".to_owned(), json!("admin"));
        (rows(&gateway.world).await == [row]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_gateway_it_is_drilled_too_and_a_backup_that_fails_is_told() {
    let mut gateway = with_backup().await.start().await;
    gateway.signal(Signal::TERM);
    gateway.ends().await;
    let world = &gateway.world;
    assert_eq!(doctor(world).await[0]["state"], "warning");
    assert_eq!(world.chancery(&["keys", "drill", "treasury"]).await.code, Some(0));
    assert_eq!(doctor(world).await[0]["state"], "ok");

    std::fs::remove_dir_all(world.folder().join("spare/tokens")).unwrap();
    let end = world.chancery(&["keys", "drill", "--json"]).await;
    assert_eq!(end.code, Some(3), "{end:?}");
    assert!(told(&end)[0]["tokens"][1]["trouble"].is_string(), "{end:?}");
    let what: Vec<_> =
        rows(world).await.into_iter().map(|(token, what, _)| format!("{token} {what}")).collect();
    assert_eq!(what, ["main drilled", "spare drilled", "main drilled", "spare drill-failed"]);
    assert_eq!(world.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_token_of_no_group_proves_that_it_holds_the_accounts_key_or_does_not() {
    let gateway = Gateway::start().await;
    let world = &gateway.world;
    let end = world.chancery(&["keys", "drill"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("no account has `backups`"), "{end:?}");
    let drill = ["keys", "drill", "treasury", "--token", "main"];
    let end = gateway.operate("admin", &drill).await;
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(rows(world).await, [("main".to_owned(), "drilled".to_owned(), json!("admin"))]);

    // Another key is no backup of this one.
    world.token.generate("other").await;
    let end = gateway.operate("admin", &[&drill[..], &["--label", "other"]].concat()).await;
    assert!(end.code == Some(3) && end.stdout.contains("its address is"), "{end:?}");
    assert_eq!(rows(world).await[1].1, "drill-failed");
}
