//! A key outlives its token: wrapped under a key that both tokens trust, or by the vendor's means.

use std::path::Path;

use serde_json::{Value, json};

use crate::kit::{Output, PIN, TestToken, Token, World, softhsm_module, test_token};

const SO_PIN: &str = "12345678";

/// A world whose account's key may be wrapped, and a second token that is empty.
async fn two() -> (World, Token) {
    two_with(&softhsm_module(), "").await
}

/// The same, where the second one's module is another, or wants more of its environment.
async fn two_with(module: &Path, environment: &str) -> (World, Token) {
    let world = World::new().await;
    let second = Token::create(&world.folder().join("second")).await;
    std::fs::write(world.folder().join("so-pin"), SO_PIN).unwrap();
    let account =
        world.token.keys(&["generate", "--label", "desk", "--backup", "wrapped", "--json"]).await.well();
    let made: Value = serde_json::from_str(&account).unwrap();
    let table = format!(
        "\n[[token]]\nname = \"second\"\nnetwork = false\nlabel = \"chancery\"\nmodule = \"{}\"\npin_file = \"{}\"\n\
         environment.SOFTHSM2_CONF = \"{}\"\n{environment}\
         \n[[account]]\nname = \"desk\"\naddress = {}\ntoken = \"main\"\nkey = \"desk\"\nbackup = \"wrapped\"\n",
        module.display(),
        second.pin_file().display(),
        second.configuration().display(),
        made["address"],
    );
    (world.append(&table), second)
}

/// Three custodians, each with a file, and the same wrapping key in both tokens. Its check value.
async fn ceremony(world: &World) -> String {
    for name in ["a", "b", "c"] {
        world.chancery(&["keys", "component", "--output", name]).await.well();
    }
    let mut checks = Vec::new();
    for token in ["main", "second"] {
        let said = wrapping_key(world, token, &["a", "b", "c"]).await.well();
        let said: Value = serde_json::from_str(&said).unwrap();
        checks.push(said["check_value"].as_str().unwrap().to_owned());
    }
    assert_eq!(checks[0], checks[1]);
    checks.remove(0)
}

async fn wrapping_key(world: &World, token: &str, components: &[&str]) -> Output {
    let mut arguments = vec![
        "keys",
        "wrapping-key",
        "--json",
        "--token",
        token,
        "--label",
        "wrap",
        "--so-pin-file",
        "so-pin",
    ];
    for component in components {
        arguments.extend(["--component", component]);
    }
    world.chancery(&arguments).await
}

async fn backup(world: &World, account: &str, under: &str) -> Output {
    world.chancery(&["keys", "backup", account, "--wrapping-key", under, "--output", "desk.wrapped"]).await
}

async fn restore(world: &World, token: &str) -> Output {
    world.chancery(&["keys", "restore", "desk.wrapped", "--wrapping-key", "wrap", "--token", token]).await
}

#[tokio::test]
async fn a_key_that_was_wrapped_signs_in_another_token_when_its_own_is_gone() {
    let (world, second) = two().await;
    let check = ceremony(&world).await;
    assert_eq!(check.len(), 6);
    backup(&world, "desk", "wrap").await.well();
    let file = std::fs::read_to_string(world.folder().join("desk.wrapped")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    // 72 bytes: a PKCS#8 of 64 and the padding's 8 (RFC 5649); no part of a secret that anybody could use.
    assert_eq!(
        (&file["label"], file["wrapped"].as_str().unwrap().len()),
        (&json!("desk"), 2 + 2 * 72),
        "{file}"
    );
    restore(&world, "second").await.well();

    let listed: Value = serde_json::from_str(&second.keys(&["list", "--json"]).await.well()).unwrap();
    let [key] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(
        (&key["address"], &key["trouble"], &key["born_here"]),
        (&file["address"], &Value::Null, &json!(false))
    );

    // The backup alone is enough, proved by the same demands as at every start; and by a drill.
    let world = world.replace("key = \"desk\"\n", "key = \"desk\"\nbackups = [\"second\"]\n");
    let world = world.replace("accounts = [\"treasury\"]", "accounts = [\"treasury\", \"desk\"]");
    let desk = file["address"].clone();
    let policy = "[[rule]]\nid = \"greet\"\neffect = \"allow\"\nkind = \"message\"\nclients = [\"trader\"]\n\
                  from = [\"desk\"]\ntext = \"any\"\n";
    let gateway = world.policy(policy).start().await;
    let greet = async || gateway.client("trader").call("personal_sign", json!(["0x68656c6c6f", desk])).await;
    greet().await.unwrap();
    gateway.operate("admin", &["keys", "drill", "desk"]).await.well();
    let again = ["keys", "backup", "desk", "--wrapping-key", "wrap", "--output", "again"];
    gateway.operate("admin", &again).await.well();
    std::fs::rename(gateway.folder().join("token/tokens"), gateway.folder().join("token/gone")).unwrap();
    for worker in gateway.workers() {
        rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    }
    crate::kit::eventually("the backup signs", async || greet().await.ok()).await;
    let rows = gateway.audit().await;
    let done: Vec<_> = rows
        .iter()
        .filter(|row| row["kind"] == "key")
        .map(|row| row["body"]["what"].as_str().unwrap())
        .collect();
    assert!(done.contains(&"drilled") && done.contains(&"backed-up"), "{done:?}");
}

#[tokio::test]
async fn a_key_that_is_restored_without_its_public_key_signs_and_that_is_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let token = TestToken::in_front(folder.path());
    let environment = format!(
        "environment.CHANCERY_TEST_TOKEN = \"{}\"\nenvironment.CHANCERY_TEST_TOKEN_MODULE = \"{}\"\n",
        folder.path().display(),
        softhsm_module().display()
    );
    let (world, _second) = two_with(test_token::module(), &environment).await;
    ceremony(&world).await;
    backup(&world, "desk", "wrap").await.well();
    token.faults(&["on = \"C_CreateObject\"; code = \"CKR_ACTION_PROHIBITED\""]);
    let said = restore(&world, "second").await.well();
    assert!(
        said.contains("signs for") && said.contains("could not be put beside it (C_CreateObject"),
        "{said}"
    );
}

#[tokio::test]
async fn inv_07_no_key_leaves_but_wrapped_under_a_key_that_is_trusted() {
    let (world, second) = two().await;
    // Neither under no key, nor where it was not made for that.
    let none = backup(&world, "desk", "wrap").await;
    assert!(none.stderr.contains("no wrapping key labelled `wrap`"), "{none:?}");
    assert!(!world.folder().join("desk.wrapped").exists());
    ceremony(&world).await;
    let vendors = backup(&world, "treasury", "wrap").await;
    assert!(vendors.stderr.contains("its key cannot leave"), "{vendors:?}");
    let mistaken = world.replace("name = \"treasury\"\n", "name = \"treasury\"\nbackup = \"wrapped\"\n");
    let refused = backup(&mistaken, "treasury", "wrap").await;
    assert!(refused.stderr.contains("CKA_EXTRACTABLE is false"), "{refused:?}");
    let end = mistaken.refuses_to_start().await;
    assert!(
        end.stderr.contains("`treasury`") && end.stderr.contains("can never be wrapped"),
        "{}",
        end.stderr
    );

    // A key that may leave is none for an account that does not say so.
    let world = mistaken.replace("\nbackup = \"wrapped\"\n", "\n").replace("\nbackup = \"wrapped\"\n", "\n");
    let end = world.refuses_to_start().await;
    assert!(end.stderr.contains("`desk`") && end.stderr.contains("can be taken out"), "{}", end.stderr);
    let world = world.replace("key = \"desk\"\n", "key = \"desk\"\nbackup = \"wrapped\"\n");

    // Another wrapping key opens nothing, and a file that was changed is no key.
    backup(&world, "desk", "wrap").await.well();
    let file = world.folder().join("desk.wrapped");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    let wrapped = changed["wrapped"].as_str().unwrap().to_owned();
    changed["wrapped"] = json!(format!("{}00", &wrapped[..wrapped.len() - 2]));
    std::fs::write(&file, changed.to_string()).unwrap();
    let refused = restore(&world, "second").await;
    assert!(refused.stderr.contains("cannot be unwrapped"), "{refused:?}");
    changed["wrapped"] = json!(wrapped);
    changed["address"] = json!(crate::kit::FRIEND);
    std::fs::write(&file, changed.to_string()).unwrap();
    let refused = restore(&world, "second").await;
    assert!(refused.stderr.contains("pins"), "{refused:?}");
    assert_eq!(
        second.keys(&["list", "--json"]).await.well().trim(),
        "[]",
        "nothing is left of what did not prove itself"
    );
    // Into a token that has it already it does not go.
    std::fs::write(&file, text).unwrap();
    let refused = restore(&world, "main").await;
    assert!(refused.stderr.contains("already"), "{refused:?}");
}

#[tokio::test]
async fn a_wrapping_key_wants_several_custodians_and_the_security_officer() {
    let (world, _) = two().await;
    for name in ["a", "b"] {
        world.chancery(&["keys", "component", "--output", name]).await.well();
    }
    let again = world.chancery(&["keys", "component", "--output", "a"]).await;
    assert!(again.stderr.contains("not there yet"), "{again:?}");
    let one = wrapping_key(&world, "main", &["a"]).await;
    assert!(one.stderr.contains("one component alone"), "{one:?}");
    let same = wrapping_key(&world, "main", &["a", "b", "a"]).await;
    assert!(same.stderr.contains("the same"), "{same:?}");
    std::fs::write(world.folder().join("short"), "00ff").unwrap();
    let short = wrapping_key(&world, "main", &["a", "short"]).await;
    assert!(short.stderr.contains("64 hexadecimal digits"), "{short:?}");
    std::fs::write(world.folder().join("so-pin"), PIN).unwrap();
    let users = wrapping_key(&world, "main", &["a", "b"]).await;
    assert!(users.stderr.contains("CKR_PIN_INCORRECT"), "{users:?}");
    let part = std::fs::read_to_string(world.folder().join("a")).unwrap();
    for said in [one, same, short, users] {
        assert!(!said.stderr.contains(part.trim()) && !said.stdout.contains(part.trim()));
    }
}

#[tokio::test]
async fn the_vendors_steps_are_told_and_a_key_without_a_backup_has_none() {
    let world = World::new().await.replace("network = false", "network = false\nprofile = \"luna\"");
    let said = world.chancery(&["keys", "backup", "treasury"]).await.well();
    assert!(said.contains("LunaCM") && said.contains("chancery keys drill treasury"), "{said}");
    let world = world.replace("name = \"treasury\"\n", "name = \"treasury\"\nbackup = \"none\"\n");
    let refused = world.chancery(&["keys", "backup", "treasury"]).await;
    assert!(refused.stderr.contains("keys rotate"), "{refused:?}");
}
