//! `keys conformance`: a report that can be sent, of a token that is well and of tokens that are not.

use serde_json::Value;

use crate::kit::{Gateway, Output, PIN, TestKey, TestToken, World};

/// The report, and what each rule says.
fn report(end: &Output) -> Value {
    let report: Value = serde_json::from_str(&end.stdout).unwrap_or_else(|error| panic!("{error}: {end:?}"));
    assert!(!end.stdout.contains(PIN) && !end.stderr.contains(PIN), "the PIN is shown: {end:?}");
    assert_eq!(report["passed"], end.code == Some(0), "{end:?}");
    report
}

fn verdict<'a>(report: &'a Value, rule: &str) -> Vec<&'a str> {
    let rules = report["rules"].as_array().unwrap().iter();
    rules.filter(|one| one["rule"] == rule).map(|one| one["verdict"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_token_that_is_well_passes_and_is_left_as_it_was() {
    let world = World::new().await;
    let before = world.chancery(&["keys", "list", "--json"]).await.well();
    let end = world.chancery(&["keys", "conformance", "--lose-sessions", "--json"]).await;
    let report = report(&end);
    assert_eq!(report["passed"], true, "{report:#}");
    for rule in [
        "module",
        "token",
        "login",
        "generate",
        "find",
        "attributes",
        "birth",
        "public key",
        "signs",
        "high-s",
        "together",
        "sessions",
        "open call",
        "destroy",
        "lost",
    ] {
        assert_eq!(verdict(&report, rule), ["pass"], "{rule}: {report:#}");
    }
    assert_eq!(report["signatures"]["count"], 100);
    // Each is high-s with a probability of a half.
    let high = report["signatures"]["high_s"].as_u64().unwrap();
    assert!((10..=90).contains(&high), "{high}");
    assert_eq!(report["signatures"]["deterministic"], false);
    assert_eq!(report["together"]["sessions"], 4);
    assert_eq!(report["key"]["attributes"]["CKA_SENSITIVE"], "true");
    assert_eq!(report["key"]["attributes"]["CKA_EC_PARAMS"], "06052b8104000a");
    assert!(report["mechanisms"].to_string().contains("CKM_ECDSA"), "{report:#}");
    assert_eq!(world.chancery(&["keys", "list", "--json"]).await.well(), before, "the trial key is gone");

    // With a key that is there already, which stays, and as text.
    let end = world.chancery(&["keys", "conformance", "--key", "treasury", "--signatures", "8"]).await;
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.contains("this token does what Chancery needs"), "{end:?}");
    assert_eq!(world.chancery(&["keys", "list", "--json"]).await.well(), before);
}

#[tokio::test]
async fn it_stays_away_from_a_token_that_a_gateway_uses() {
    let gateway = Gateway::start().await;
    let end = gateway.chancery(&["keys", "conformance"]).await;
    assert!(end.code == Some(1) && end.stderr.contains("--beside-the-gateway"), "{end:?}");
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_by_it_too() {
    let (world, token) = TestToken::before(World::new().await);
    world.token.write_wrong_pin();
    let first = report(&world.chancery(&["keys", "conformance", "--json"]).await);
    assert_eq!((verdict(&first, "login"), token.calls("C_Login")), (vec!["fail"], 1), "{first:#}");
    world.token.write_right_pin();
    let second = report(&world.chancery(&["keys", "conformance", "--json"]).await);
    assert_eq!((verdict(&second, "login"), token.calls("C_Login")), (vec!["fail"], 1), "{second:#}");
    world.chancery(&["keys", "unlatch", "main"]).await.well();
    assert_eq!(report(&world.chancery(&["keys", "conformance", "--json"]).await)["passed"], true);
}

#[tokio::test]
async fn each_thing_that_is_wrong_with_signatures_is_found() {
    let (world, token) = TestToken::before(World::new().await);
    for bad in ["wrong-key", "flipped-bit", "zero", "short"] {
        token.faults(&[&format!("on = \"signature\"; skip = 20; times = 1; signature = \"{bad}\"")]);
        let report = report(&world.chancery(&["keys", "conformance", "--json"]).await);
        assert_eq!(verdict(&report, "signs"), ["fail"], "{bad}: {report:#}");
        assert_eq!(verdict(&report, "destroy"), ["pass"], "{bad}: the trial key is gone: {report:#}");
    }
    token.faults(&["on = \"signature\"; signature = \"high-s\""]);
    let report = report(&world.chancery(&["keys", "conformance", "--json", "--signatures", "20"]).await);
    assert_eq!(
        (&report["passed"], &report["signatures"]["high_s"]),
        (&true.into(), &20.into()),
        "{report:#}"
    );
}

#[tokio::test]
async fn a_login_of_each_session_and_a_limit_of_sessions_are_found() {
    let folder = tempfile::TempDir::new().unwrap();
    let key = TestKey::random();
    let odd = "login = \"session\"\nsession_limit = 3\n";
    let token = TestToken::alone(folder.path(), &format!("{odd}{}", key.named("treasury", "")));
    let end = token.keys(&["conformance", "--key", "treasury", "--signatures", "10", "--json"]).await;
    let report = report(&end);
    assert_eq!(report["key"]["address"], key.address.to_string().to_lowercase(), "{report:#}");
    assert!(report["rules"].to_string().contains("each session's own"), "{report:#}");
    assert_eq!(
        (verdict(&report, "together"), &report["together"]["sessions"]),
        (vec!["note"], &2.into()),
        "{report:#}"
    );
    assert_eq!((&report["sessions"], &report["passed"]), (&2.into(), &true.into()), "{report:#}");
    // One login for each session that needs one: the first, the two together, and that of the open call.
    assert_eq!(token.calls("C_Login"), 4, "{report:#}");
}

#[tokio::test]
async fn a_key_that_is_not_fit_is_named_with_what_is_wrong() {
    let folder = tempfile::TempDir::new().unwrap();
    let key = TestKey::random();
    let token = TestToken::alone(folder.path(), &key.named("treasury", "extractable = true"));
    let report = report(&token.keys(&["conformance", "--key", "treasury", "--json"]).await);
    assert_eq!(
        (verdict(&report, "attributes"), &report["passed"]),
        (vec!["fail"], &false.into()),
        "{report:#}"
    );
    assert!(report["rules"].to_string().contains("CKA_EXTRACTABLE"), "{report:#}");
}

#[tokio::test]
async fn what_was_found_is_told_where_the_module_hangs() {
    let (world, token) = TestToken::before(World::new().await);
    token.faults(&["on = \"C_Sign\"; skip = 5; hang = \"for-ever\""]);
    let end = world.chancery(&["keys", "conformance", "--json", "--patience", "3"]).await;
    let report = report(&end);
    assert_eq!(
        (verdict(&report, "answers"), verdict(&report, "birth")),
        (vec!["fail"], vec!["pass"]),
        "{report:#}"
    );
}
