//! What an auditor finds: who came, what was asked in what form, and proof that nothing was left out.

use serde_json::{Value, json};

use crate::kit::{Gateway, WallClock, World, eventually, softhsm_module, spy_module};

/// The rows of one kind, oldest first.
async fn rows(gateway: &Gateway, kind: &str) -> Vec<Value> {
    rows_of(gateway, &["--kind", kind]).await.into_iter().map(|row| row["body"].clone()).collect()
}

async fn rows_of(gateway: &Gateway, which: &[&str]) -> Vec<Value> {
    let text = gateway.chancery(&[&["audit", "show", "--json"], which].concat()).await.well();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_audit_says_who_came_who_was_turned_away_and_what_the_gateway_was_told() {
    let gateway = Gateway::start().await;
    gateway.client("trader").call("eth_chainId", json!([])).await.unwrap();
    gateway.visitor(None).alert().await;
    gateway.client("nobody").alert().await;
    let access = eventually("rows about visitors", async || {
        let access = rows(&gateway, "access").await;
        (access.iter().any(|row| row["who"] == "trader") && access.iter().any(|row| row["what"] == "refused"))
            .then_some(access)
    })
    .await;
    let trader = access.iter().find(|row| row["who"] == "trader").unwrap();
    assert_eq!(trader["identity"], "spiffe://chancery/trader");
    assert_eq!(trader["from"]["127.0.0.1"], 1);
    let [configuration] = &rows(&gateway, "configuration").await[..] else { panic!() };
    assert!(configuration["text"].as_str().unwrap().contains("spiffe://chancery/trader"));
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_12_a_client_that_is_refused_without_end_does_not_fill_the_disk() {
    let mut gateway = Gateway::start().await;
    let intern = gateway.client("intern");
    let bad = json!({ "from": gateway.treasury() });
    for _ in 0..130 {
        intern.send(bad.clone()).await.unwrap_err();
    }
    gateway.signal(rustix::process::Signal::TERM);
    gateway.ends().await;
    assert_eq!(rows(&gateway, "refusal").await.len(), 100);
    let [counted] = &rows(&gateway, "refusals").await[..] else { panic!() };
    assert_eq!((&counted["client"], &counted["count"]), (&json!("intern"), &json!(30)));
}

#[tokio::test]
async fn a_malformed_request_for_a_signature_is_on_the_record() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for body in [
        r#"{"jsonrpc":"2.0","method":"eth_sendTransaction","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":-1,"method":"personal_sign","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"eth_signTransaction","METHOD":"eth_chainId","params":[]}"#,
    ] {
        trader.post(body).await;
    }
    let refusals = rows(&gateway, "refusal").await;
    let methods: Vec<_> = refusals.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["eth_sendTransaction", "personal_sign", "eth_signTransaction"]);
    assert!(refusals.iter().all(|row| row["cause"] == "invalid_request"), "{refusals:?}");
}

#[tokio::test]
async fn with_less_room_than_the_headroom_nothing_is_signed_and_readiness_says_so() {
    let world = World::new().await;
    let world = world.replace("\"ledger.sqlite\"", "\"ledger.sqlite\"\nmin_free = \"900_000_000 GiB\"");
    let gateway = world.start().await;
    let refused = gateway.client("trader").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!(refused.data["code"], "ledger_unavailable");
    assert!(refused.message.contains("min_free"), "{refused:?}");
    assert_eq!(gateway.node().calls_of("eth_sendRawTransaction").len(), 0);
    let ready = gateway.admin("admin", "/readyz").await.unwrap();
    assert!(ready.body.contains("min_free"), "{}", ready.body);
}

#[tokio::test]
async fn the_audit_says_which_keys_were_proved_made_and_unlatched() {
    let mut gateway = Gateway::start().await;
    let treasury = json!(gateway.treasury().to_string().to_lowercase());
    let proved = eventually("the proof", async || rows(&gateway, "key").await.into_iter().next()).await;
    assert_eq!(
        (&proved["what"], &proved["token"], &proved["keys"][0]),
        (&json!("proved"), &json!("main"), &treasury)
    );
    let said = gateway.chancery(&["keys", "generate", "--label", "second"]).await;
    assert!(said.stderr.contains("a running gateway has it open"), "{said:?}");
    stop(&mut gateway).await;
    gateway.chancery(&["keys", "generate", "--label", "third"]).await.well();
    std::fs::write(gateway.folder().join("main.worker/main.pin-latch"), "CKR_PIN_INCORRECT\n").unwrap();
    gateway.chancery(&["keys", "unlatch", "main"]).await.well();
    let rows = rows(&gateway, "key").await;
    let done: Vec<_> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(done, ["proved", "generated", "unlatched"]);
    assert_eq!(rows[1]["label"], "third");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

/// A world whose chain is sealed by a key of its own, often.
pub async fn sealed() -> (World, String) {
    let world = World::new().await;
    let seal = world.token.generate("seal").await.to_string();
    let sealed = format!(
        "\n[[account]]\nname = \"seal\"\naddress = \"{seal}\"\ntoken = \"main\"\nkey = \"seal\"\n\
         \n[audit]\nkey = \"seal\"\nevery_rows = 10\nevery = \"1s\"\nfile = \"out/checkpoints.jsonl\"\n"
    );
    (world.append(&sealed), seal)
}

async fn stop(gateway: &mut Gateway) {
    gateway.signal(rustix::process::Signal::TERM);
    let end = gateway.ends().await;
    assert_eq!(end.code, Some(0), "{end:?}");
}

/// What `verify` says, as JSON, and its exit code.
pub async fn verify(gateway: &Gateway, arguments: &[&str]) -> (Value, Option<i32>) {
    let all = [&["audit", "verify", "--json"], arguments].concat();
    let output = gateway.chancery(&all).await;
    (serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")), output.code)
}

fn why(verdict: &Value) -> &str {
    verdict["broken"]["why"].as_str().unwrap_or_else(|| panic!("{verdict}"))
}

#[tokio::test]
async fn inv_14_the_chain_is_sealed_by_a_key_of_its_own_and_holds_against_what_was_pushed() {
    let (world, seal) = sealed().await;
    let mut gateway = world.start().await;
    let trader = gateway.client("trader");
    for wei in 1..=6 {
        trader.send(gateway.payment(wei)).await.unwrap();
    }
    gateway.settled().await;
    // No client gets a signature out of that key.
    let message = json!(["0x68656c6c6f", seal]);
    let refused = trader.call("personal_sign", message).await.unwrap_err();
    assert_eq!(refused.data["code"], "account_not_available");
    assert!(!trader.call("eth_accounts", json!([])).await.unwrap().to_string().contains(&seal));
    eventually("two checkpoints", async || (rows(&gateway, "checkpoint").await.len() >= 2).then_some(()))
        .await;
    stop(&mut gateway).await;

    let pushed = std::fs::read_to_string(gateway.folder().join("out/checkpoints.jsonl")).unwrap();
    let shown = rows(&gateway, "checkpoint").await;
    let pushed: Vec<Value> = pushed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pushed, shown, "what is pushed is what the chain has");
    let (verdict, code) = verify(&gateway, &["--checkpoints", "out/checkpoints.jsonl", "--key", &seal]).await;
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verdict["holds"]["checkpoints"], pushed.len());
    assert_eq!(verdict["holds"]["keys"], json!([seal.to_lowercase()]));
    // The last checkpoint writes three rows, and the gateway that it stopped.
    let rows = verdict["holds"]["rows"].as_i64().unwrap();
    assert_eq!(verdict["holds"]["covered"], rows - 4);
    let (verdict, code) = verify(&gateway, &["--key", &gateway.treasury().to_string()]).await;
    assert_eq!((code, why(&verdict).contains("is signed by")), (Some(3), true), "{verdict}");
}

#[tokio::test]
async fn inv_14_old_rows_go_into_a_file_and_out_of_the_ledger_and_all_of_it_still_holds() {
    let (world, _) = sealed().await;
    let (world, clock) = WallClock::of(world);
    clock.set("-3d");
    let gateway = world.start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    gateway.settled().await;
    eventually("a checkpoint", async || (!rows(&gateway, "checkpoint").await.is_empty()).then_some(())).await;
    clock.set("+0");
    gateway.client("trader").send(gateway.payment(2)).await.unwrap();
    let all = verify(&gateway, &[]).await.0["holds"]["rows"].as_i64().unwrap();

    let until = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(30)).unwrap().to_string();
    let archive = ["audit", "archive", "--until", &until, "--output", "old.jsonl"];
    // Nobody may but an operator who may change things; the others have read what they may read.
    for name in ["trader", "auditor"] {
        let refused = gateway.operate(name, &archive).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        std::fs::remove_file(gateway.folder().join("old.jsonl")).unwrap();
    }

    // What no checkpoint has sealed yet stays; the next one is not long in coming.
    let said = eventually("a checkpoint over it", async || {
        let done = gateway.operate("admin", &archive).await;
        if done.code != Some(0) {
            assert!(done.stderr.contains("no checkpoint covers"), "{done:?}");
            std::fs::remove_file(gateway.folder().join("old.jsonl")).unwrap();
        }
        (done.code == Some(0)).then_some(done.stdout)
    })
    .await;
    assert!(said.contains("--archive old.jsonl"), "{said}");
    let removed = async || gateway.log().contains("archived rows are removed").then_some(());
    eventually("they are removed", removed).await;
    let first: Value = rows_of(&gateway, &["--kind", "intent"]).await.remove(0);
    assert_eq!(first["body"]["nonce"], 1, "the first payment's rows are gone: {first}");
    assert!(gateway.chancery(&archive).await.stderr.contains("certificate"), "and it takes an operator");

    let alone = verify(&gateway, &[]).await.0["holds"].clone();
    assert!(alone["not_seen"].as_i64().unwrap() > 5, "{alone}");
    let whole = verify(&gateway, &["--archive", "old.jsonl"]).await.0["holds"].clone();
    assert_eq!((&whole["not_seen"], whole["rows"].as_i64() > Some(all)), (&json!(0), true), "{whole}");
    // Exported rows go on where the file ends.
    gateway.chancery(&["audit", "export", "-o", "rows.jsonl"]).await.well();
    let exported = verify(&gateway, &["rows.jsonl", "--archive", "old.jsonl"]).await;
    assert_eq!(exported.1, Some(0), "{}", exported.0);
}

#[tokio::test]
async fn inv_14_a_ledger_that_was_rolled_back_or_forked_is_found_by_what_was_pushed() {
    let (world, _) = sealed().await;
    let mut gateway = world.start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    gateway.settled().await;
    stop(&mut gateway).await;
    let ledger = gateway.folder().join("ledger.sqlite");
    let older = std::fs::read(&ledger).unwrap();
    gateway.restart().await;
    gateway.client("trader").send(gateway.payment(2)).await.unwrap();
    gateway.settled().await;
    stop(&mut gateway).await;
    let pushed = gateway.folder().join("out/checkpoints.jsonl");
    let kept = gateway.folder().join("kept.jsonl");
    std::fs::copy(&pushed, &kept).unwrap();
    let kept = ["--checkpoints", "kept.jsonl"];
    assert_eq!(verify(&gateway, &kept).await.1, Some(0));

    std::fs::write(&ledger, older).unwrap();
    assert_eq!(verify(&gateway, &[]).await.1, Some(0), "by itself it holds");
    let (verdict, code) = verify(&gateway, &kept).await;
    assert_eq!(code, Some(3), "{verdict}");
    assert!(why(&verdict).contains("an older copy"), "{verdict}");

    // It goes on from the older copy, with good signatures of its own. Whoever put that back knows of the watermark.
    std::fs::remove_file(gateway.folder().join("ledger.sqlite.watermark")).unwrap();
    gateway.restart().await;
    eventually("the alarm", async || gateway.log().contains("ALARM: the file of checkpoints").then_some(()))
        .await;
    gateway.client("trader").send(gateway.payment(3)).await.unwrap();
    gateway.settled().await;
    stop(&mut gateway).await;
    assert_eq!(verify(&gateway, &[]).await.1, Some(0), "by itself it holds");
    let (verdict, code) = verify(&gateway, &kept).await;
    assert_eq!(code, Some(3), "{verdict}");
    assert!(why(&verdict).contains("another row here"), "{verdict}");
    let (verdict, code) = verify(&gateway, &["--checkpoints", "out/checkpoints.jsonl"]).await;
    assert_eq!(code, Some(3), "{verdict}");
    assert!(why(&verdict).contains("two checkpoints"), "{verdict}");
}

#[tokio::test]
async fn inv_14_exported_rows_are_verified_without_the_ledger_and_every_change_is_found() {
    let (world, seal) = sealed().await;
    let mut gateway = world.start().await;
    for wei in 1..=3 {
        gateway.client("trader").send(gateway.payment(wei)).await.unwrap();
    }
    gateway.settled().await;
    stop(&mut gateway).await;
    gateway.chancery(&["audit", "export", "-o", "rows.jsonl"]).await.well();
    let again = gateway.chancery(&["audit", "export", "-o", "rows.jsonl"]).await;
    assert_eq!(again.code, Some(1), "no file is written over");
    let (verdict, code) = verify(&gateway, &["rows.jsonl", "--key", &seal]).await;
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verify(&gateway, &[]).await.0, verdict, "the same as of the ledger itself");

    let file = gateway.folder().join("rows.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [&lines[..4], &[lines[5], lines[4]], &lines[6..]].concat();
    let edited = lines[4].replacen("\"at\":\"2", "\"at\":\"3", 1);
    let last = lines.len();
    for (what, changed, row, said) in [
        ("edited", [&lines[..4], &[edited.as_str()], &lines[5..]].concat(), 5, "edited"),
        ("deleted", [&lines[..4], &lines[5..]].concat(), 6, "missing"),
        ("first deleted", lines[1..].to_vec(), 2, "missing"),
        ("reordered", swapped, 6, "reordered"),
        ("twice", [&lines[..5], &lines[4..]].concat(), 5, "reordered"),
        ("no row", [&lines[..4], &["{}"], &lines[4..]].concat(), 5, "no row"),
        // The last checkpoint, its rows and the end are gone: the file that was pushed knows.
        ("cut", lines[..last - 6].to_vec(), i64::try_from(last - 6).unwrap(), "ends here"),
    ] {
        std::fs::write(&file, changed.join("\n") + "\n").unwrap();
        let (verdict, code) =
            verify(&gateway, &["rows.jsonl", "--checkpoints", "out/checkpoints.jsonl"]).await;
        assert_eq!(code, Some(3), "{what}: {verdict}");
        assert_eq!(verdict["broken"]["seq"], row, "{what}: {verdict}");
        assert!(why(&verdict).contains(said), "{what}: {verdict}");
    }

    gateway.chancery(&["audit", "export", "--kind", "intent", "-o", "intents.jsonl"]).await.well();
    assert_eq!(verify(&gateway, &["intents.jsonl"]).await.1, Some(3), "not the whole chain");
    assert_eq!(verify(&gateway, &["intents.jsonl", "--partial"]).await.1, Some(0));
    let csv = gateway.chancery(&["audit", "export", "--format", "csv", "--kind", "intent"]).await.well();
    assert!(csv.starts_with("seq,at,kind,request,client,"), "{csv}");
    assert!(csv.contains("pay-friend") && csv.lines().count() > 3, "{csv}");
    let none = gateway.chancery(&["audit", "export", "--since", "2100-01-01"]).await.well();
    assert_eq!(none, "");
}

#[tokio::test]
async fn each_checkpoint_is_posted_with_the_secret_and_posted_again_where_it_failed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (world, _) = sealed().await;
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    std::fs::write(world.folder().join("webhook-secret"), "open sesame\n").unwrap();
    let world = world.append(&format!(
        "webhook = \"http://{}/hook\"\nwebhook_secret_file = \"webhook-secret\"\n",
        socket.local_addr().unwrap()
    ));
    let gateway = world.start().await;
    let mut posted = Vec::new();
    for status in ["500 Oops", "200 OK"] {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\"}") {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&some[..read]);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        posted.push(String::from_utf8(request).unwrap());
    }
    assert_eq!(posted[0], posted[1], "the same is tried again");
    assert!(posted[0].contains("authorization: Bearer open sesame\r\n"), "{}", posted[0]);
    let body = posted[0].split("\r\n\r\n").nth(1).unwrap();
    let pushed = std::fs::read_to_string(gateway.folder().join("out/checkpoints.jsonl")).unwrap();
    assert_eq!(pushed.lines().next(), Some(body));
    let log = gateway.whole_log().await;
    assert!(log.contains("stopped") && !log.contains("sesame"), "{log}");
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_signed_is_late_and_stops_nothing() {
    let (world, _) = sealed().await;
    let gateway = world.start().await;
    eventually("a checkpoint", async || (!rows(&gateway, "checkpoint").await.is_empty()).then_some(())).await;
    gateway.operate("admin", &["pause", "--account", "seal"]).await.well();
    for wei in 1..=3 {
        gateway.client("trader").send(gateway.payment(wei)).await.unwrap();
    }
    let ready = eventually("a remark", async || {
        let ready = gateway.admin("admin", "/readyz").await.unwrap();
        ready.body.contains("checkpoint").then_some(ready)
    })
    .await;
    assert_eq!(ready.status, http::StatusCode::OK, "{}", ready.body);
    assert!(gateway.metric("chancery_checkpoint_late").await > 0.5);
    gateway.client("trader").send(gateway.payment(4)).await.unwrap();
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_01_what_the_token_counts_is_what_the_ledger_knows_of() {
    let (world, _) = sealed().await;
    let log = world.folder().join("logs/spy.log");
    std::fs::create_dir(log.parent().unwrap()).unwrap();
    let world = world.lets_write(log.parent().unwrap());
    let (module, output) = (softhsm_module().display().to_string(), log.display().to_string());
    let world = world.module(&spy_module(), &[("PKCS11SPY", &module), ("PKCS11SPY_OUTPUT", &output)]);
    let mut gateway = world.start().await;
    let trader = gateway.client("trader");
    for wei in 1..=5 {
        trader.send(gateway.payment(wei)).await.unwrap();
    }
    trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();
    gateway.client("intern").send(gateway.payment(1)).await.unwrap_err();
    gateway.settled().await;
    // It is compared before the last checkpoint, whose signature is the one that the row does not have.
    stop(&mut gateway).await;
    let spied = std::fs::read_to_string(&log).unwrap().matches("C_SignInit\n").count();
    let [row] = &rows(&gateway, "reconciliation").await[..] else { panic!() };
    assert_eq!(row["agrees"], true, "{row}");
    let token = &row["tokens"][0];
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (intents, signatures) =
        (rows(&gateway, "intent").await.len(), rows(&gateway, "signature").await.len());
    assert_eq!(intents, signatures, "none was voided");
    let last = usize::from(intents > number(&row["intents"]));
    assert_eq!(number(&row["intents"]) + last, intents, "{row}");
    assert_eq!(number(&token["calls"]) + last + number(&token["proofs"]), spied, "{row}");
    assert_eq!(number(&token["proofs"]), 2, "both keys, once");
    assert_eq!(number(&token["made"]), number(&row["intents"]), "{row}");
    let (verdict, code) = verify(&gateway, &[]).await;
    assert_eq!((code, &verdict["holds"]["disagreements"]), (Some(0), &json!(0)), "{verdict}");
}
