//! The token: how often it is asked, and what happens when it is gone, locked or slow.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokio::time::timeout;

use crate::kit::{
    Gateway, PIN, RemoteToken, STRANGER, TestToken, World, eventually, remote_module, softhsm_module,
    spy_module,
};

#[tokio::test]
async fn inv_01_the_token_is_asked_once_for_what_is_allowed_and_never_for_what_is_refused() {
    let world = World::new().await;
    let log = world.folder().join("logs/spy.log");
    std::fs::create_dir(log.parent().unwrap()).unwrap();
    let environment = [
        ("PKCS11SPY", softhsm_module().display().to_string()),
        ("PKCS11SPY_OUTPUT", log.display().to_string()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
    let logs = world.folder().join("logs");
    let gateway = world.module(&spy_module(), &environment).lets_write(&logs).start().await;
    let trader = gateway.client("trader");
    let asked = || std::fs::read_to_string(&log).unwrap().matches("C_SignInit\n").count();
    let at_start = asked();

    let mut stranger = gateway.payment(1);
    stranger["to"] = json!(STRANGER);
    trader.send(stranger).await.unwrap_err();
    gateway.client("intern").send(gateway.payment(1)).await.unwrap_err();
    assert_eq!(asked(), at_start, "a refused request reached the token");

    trader.send(gateway.payment(1)).await.unwrap();
    assert_eq!(asked(), at_start + 1, "one signature for one transaction");
    trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await.unwrap();
    assert_eq!(asked(), at_start + 2);
    assert!(at_start >= 1, "the spy saw the proof of the address at the start");
}

#[tokio::test]
async fn inv_07_only_the_worker_has_the_module_and_nobody_shows_the_pin() {
    let gateway = Gateway::start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    let of = |pid: rustix::process::Pid, file: &str| {
        std::fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap_or_default()
    };
    let contains = |text: &[u8], what: &str| text.windows(what.len()).any(|part| part == what.as_bytes());
    assert!(!contains(&of(gateway.pid(), "maps"), "softhsm"), "the gateway has loaded the module");
    let [worker] = gateway.workers()[..] else { panic!("{:?}", gateway.workers()) };
    for pid in [gateway.pid(), worker] {
        for file in ["cmdline", "environ"] {
            assert!(!contains(&of(pid, file), PIN), "{file}");
        }
    }
    for text in [json!(gateway.audit().await).to_string(), gateway.whole_log().await] {
        assert!(!text.contains(PIN), "{text}");
    }
}

#[tokio::test]
async fn inv_13_a_killed_worker_is_replaced() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader");
    for round in 1..=3 {
        let workers = gateway.workers();
        assert_eq!(workers.len(), 1);
        kill_process(workers[0], Signal::KILL).unwrap();
        eventually("a payment", async || trader.send(gateway.payment(round)).await.ok()).await;
    }
    gateway.settled().await;
    gateway.node().mines(gateway.treasury(), 3).await;
}

#[tokio::test]
async fn inv_13_a_worker_killed_in_the_middle_loses_nothing() {
    let gateway = Gateway::start().await;
    for round in 0_u64..4 {
        let workers = gateway.workers();
        let delay = Duration::from_millis(3 + 7 * round);
        let kill = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            for worker in workers {
                // It may be gone already.
                let _ = kill_process(worker, Signal::KILL);
            }
        });
        for answer in gateway.send_at_once((1..=6).map(|wei| gateway.payment(wei))).await {
            if let Err(refused) = answer {
                assert_eq!(refused.data["code"], "signer_unavailable", "{refused:?}");
            }
        }
        kill.await.unwrap();
    }
    let trader = gateway.client("trader");
    eventually("a payment", async || trader.send(gateway.payment(1)).await.ok()).await;
    gateway.settled().await;
    // No gap is left, and the audit tells the story.
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_02_a_signature_that_comes_too_late_is_thrown_away() {
    let (gateway, remote) = with_remote_token().await;
    let trader = gateway.client("trader");
    remote.signal(Signal::STOP);
    let answer = timeout(Duration::from_secs(8), trader.send(gateway.payment(1))).await;
    let answer = answer.expect("an answer within 8 s");
    let Err(refused) = answer else { panic!("it was signed: {answer:?}\n{}", gateway.log()) };
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("signer_unavailable")), "{refused:?}");
    remote.signal(Signal::CONT);

    // The nonce is free, and the payment that was given up is not made.
    let hash = eventually("a payment", async || trader.send(gateway.payment(2)).await.ok()).await;
    let mined = gateway.node().transaction(&hash).await;
    assert_eq!((&mined["nonce"], &mined["value"]), (&json!("0x0"), &json!("0x2")));
    gateway.node().mines(gateway.treasury(), 1).await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn inv_13_a_token_that_hangs_for_good_gets_another_worker() {
    let (gateway, remote) = with_remote_token().await;
    let trader = gateway.client("trader");
    remote.signal(Signal::STOP);
    // More than may hang at once. Those that wait when the worker is replaced are signed by the next one.
    let answers = gateway.send_at_once((1..=12).map(|wei| gateway.payment(wei))).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    eventually("the worker's end", async || gateway.log().contains("too many calls hang").then_some(()))
        .await;
    assert!(refused.iter().all(|error| error.code == -32603), "{refused:?}");
    // The connections that hang stay hung; a new worker gets new ones.
    eventually("a payment", async || trader.send(gateway.payment(99)).await.ok()).await;
    gateway.settled().await;
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
    // Who is stopped would outlive the server.
    remote.vanish().await;
}

#[tokio::test]
async fn inv_13_a_token_that_went_away_is_used_again() {
    let (gateway, remote) = with_remote_token().await;
    let trader = gateway.client("trader");
    remote.vanish().await;
    let refused = trader.send(gateway.payment(1)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("signer_unavailable")), "{refused:?}");
    assert!(trader.call("eth_blockNumber", json!([])).await.is_ok(), "reads need no token");

    let _remote = gateway.world.token.serve().await;
    let hash = eventually("a payment", async || trader.send(gateway.payment(2)).await.ok()).await;
    assert_eq!(gateway.node().transaction(&hash).await["nonce"], "0x0");
}

/// A gateway whose token can hang and go away.
pub async fn with_remote_token() -> (Gateway, RemoteToken) {
    let world = World::new().await;
    let remote = world.token.serve().await;
    let world = world.module(&remote_module(), &[("P11_KIT_SERVER_ADDRESS", &remote.address())]);
    let gateway = world.append("\n[signer]\ndeadline = \"1s\"\nmax_stuck = 2\n").start().await;
    // Who is stopped while they open hangs in all of them, and the worker is replaced before a deadline has passed.
    let open = async || (gateway.metric("chancery_token_sessions{token=\"main\"}").await > 3.5).then_some(());
    eventually("all sessions", open).await;
    (gateway, remote)
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_and_then_never_until_an_operator_says_so() {
    let world = World::new().await;
    world.token.write_wrong_pin();
    let first = world.refuses_or_is_not_ready().await;
    assert!(first.to_lowercase().contains("pin"), "{first}");
    // Each further start leaves the token alone, so that it is not locked.
    world.token.write_right_pin();
    let second = world.refuses_or_is_not_ready().await;
    assert!(second.contains("unlatch"), "{second}");

    let unlatch = world.chancery(&["keys", "unlatch", "main"]).await;
    assert_eq!(unlatch.code, Some(0), "{unlatch:?}");
    let gateway = world.start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_pin_is_one_login_in_the_tokens_own_log_over_three_starts() {
    let world = World::new().await;
    let log = world.folder().join("logs/spy.log");
    std::fs::create_dir(log.parent().unwrap()).unwrap();
    let (softhsm, output) = (softhsm_module().display().to_string(), log.display().to_string());
    let world = world
        .lets_write(log.parent().unwrap())
        .module(&spy_module(), &[("PKCS11SPY", &softhsm), ("PKCS11SPY_OUTPUT", &output)]);
    world.token.write_wrong_pin();
    for _ in 0..3 {
        let said = world.refuses_or_is_not_ready().await;
        assert!(said.to_lowercase().contains("pin"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap().matches("C_Login\n").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_one_of_two_softhsm_tokens_goes_away_under_load_and_no_request_is_lost() {
    let world = World::new().await;
    // The same token with the same key, as SoftHSM2's is restored elsewhere: its folder is copied.
    let other = world.folder().join("other");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(world.folder().join("token")).arg(&other).status();
    assert!(copied.unwrap().success());
    let configuration = other.join("softhsm2.conf");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let text =
        text.replace(&world.folder().join("token").display().to_string(), &other.display().to_string());
    std::fs::write(&configuration, text).unwrap();
    let second = format!(
        "\n[[token]]\nname = \"other\"\nlabel = \"chancery\"\nmodule = \"{}\"\npin_file = \"other/pin\"\n\
         environment.SOFTHSM2_CONF = \"{}\"\n",
        softhsm_module().display(),
        configuration.display(),
    );
    let gateway = world
        // All of them: anvil keeps what comes while it makes a block, until its keeper notices.
        .replace("[ledger]", "[ledger]\nmax_open = 240")
        .replace("token = \"main\"", "token = \"main\"\nbackups = [\"other\"]\norder = \"round-robin\"")
        .append(&second)
        .start()
        .await;
    let fault = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Gone, and dead: the folder first, so that no new worker finds it.
        std::fs::rename(gateway.folder().join("token"), gateway.folder().join("gone")).unwrap();
        kill_process(gateway.workers()[0], Signal::KILL).unwrap();
    };
    let load = async {
        let mut times = Vec::new();
        for round in 0..30 {
            let began = tokio::time::Instant::now();
            for answer in gateway.send_at_once((1..=8).map(|wei| gateway.payment(10 * round + wei))).await {
                answer.unwrap();
            }
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times
    };
    let (times, ()) = tokio::join!(load, fault);
    let p99 = times[times.len() * 99 / 100];
    println!(
        "240 transactions, none lost; p99 of eight at once {p99:.1?}, p50 {:.1?}",
        times[times.len() / 2]
    );
    gateway.settled().await;
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 240);
    assert!(gateway.metric("chancery_token_ready").await < 1.5, "one of two is gone");
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_token_with_another_key_starts_nothing() {
    let world = World::new().await;
    let treasury = world.treasury().to_string();
    let end = world
        .replace(&format!("address = \"{treasury}\""), &format!("address = \"{STRANGER}\""))
        .refuses_to_start()
        .await;
    assert!(end.stderr.contains(&treasury), "it names the address of the key: {}", end.stderr);
}

#[tokio::test]
async fn a_token_that_is_not_there_signs_nothing_and_reads_go_on() {
    let world = World::new().await;
    std::fs::remove_dir_all(world.folder().join("token/tokens")).unwrap();
    let said = world.refuses_or_is_not_ready().await;
    assert!(said.contains("main") || said.contains("token"), "{said}");
}

#[tokio::test]
async fn inv_13_a_gateway_whose_only_token_does_not_sign_is_not_ready_until_it_does() {
    let (world, token) = TestToken::before(World::new().await);
    let gateway = world.append("\n[signer]\ndeadline = \"500ms\"\n").start().await;
    // Each is late, and the worker itself is well.
    token.faults(&["on = \"C_Sign\"; delay_us = 800000"]);
    let greeting = json!(["0x68656c6c6f", gateway.treasury()]);
    for _ in 0..3 {
        gateway.client("trader").call("personal_sign", greeting.clone()).await.unwrap_err();
    }
    eventually("it is not ready", async || {
        let ready = gateway.admin("admin", "/readyz").await.ok()?;
        let is_told = ready.body.contains("it failed several times in a row");
        (is_told && ready.status == http::StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    token.lift();
    eventually("it is ready", async || {
        let ready = gateway.admin("admin", "/readyz").await.ok()?;
        (ready.status == http::StatusCode::OK).then_some(())
    })
    .await;
}

/// Clients are answered within 8 s, whatever a token may take.
#[tokio::test]
async fn inv_13_a_deadline_beyond_what_clients_wait_for_leaves_time_for_the_other_token() {
    let (world, token, key) = TestToken::instead(World::new().await);
    let other = TestToken::alone(&world.folder().join("other"), &key.named("treasury", ""));
    let gateway = world
        .replace("token = \"main\"", "token = \"main\"\nbackups = [\"other\"]")
        .append(&format!("\n{}\n[signer]\ndeadline = \"30s\"\n", other.table("other", 4)))
        .start()
        .await;
    token.faults(&["on = \"C_Sign\"; hang = \"until-lifted\""]);
    let trader = gateway.client("trader");
    let greet = |_| trader.call("personal_sign", json!(["0x68656c6c6f", key.address]));
    // 8 s, and not the 15 s of half a deadline.
    let in_time = Duration::from_secs(14);
    for answer in timeout(in_time, join_all((0..3).map(greet))).await.expect("as ever") {
        answer.unwrap();
    }
    let open = gateway.metric("chancery_token_breaker_open{token=\"main\"}").await;
    assert!(open > 0.5, "the token that hangs is asked first again: {open}");

    other.faults(&["on = \"C_Sign\"; hang = \"until-lifted\""]);
    let refused = timeout(in_time, greet(0)).await.expect("as ever").unwrap_err();
    assert_eq!(refused.data["code"], "signer_unavailable", "{refused:?}");
    token.lift();
    other.lift();
}
