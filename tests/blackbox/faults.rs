//! What the signer does when its token fails, with the test token of `tests/token/`: in every function, with every
//! code, and in worse ways. The signer runs in this process; its workers are the program as built.

mod bench;
mod group;
mod start;
mod stop;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use chancery::signer::{SignError, TokenState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::sleep;

use crate::kit::test_token::places;
use crate::kit::{TestToken, World, eventually, insist, signer_of};

use bench::{Bench, Parts};
use stop::replace_pin_file;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_06_only_the_accounts_own_low_s_signature_leaves() {
    let (world, token) = TestToken::before(World::new().await);
    let gateway = world.append("\n[signer]\ndeadline = \"2s\"\n").start().await;
    let trader = gateway.client("trader");
    let greet = async || trader.call("personal_sign", json!(["0x68656c6c6f", gateway.treasury()])).await;
    let digest = alloy_primitives::eip191_hash_message("hello");
    for (bad, fine) in
        [("high-s", true), ("wrong-key", false), ("flipped-bit", false), ("zero", false), ("short", false)]
    {
        token.faults(&[&format!("on = \"signature\"; signature = \"{bad}\"")]);
        let mut refused = 0;
        for _ in 0..4 {
            match greet().await {
                Ok(answer) => {
                    assert!(fine, "{bad}: {answer}");
                    let signature: alloy_primitives::Signature = answer.as_str().unwrap().parse().unwrap();
                    assert!(signature.normalize_s().is_none(), "{bad}: high-s left");
                    assert_eq!(signer_of(digest, &signature), gateway.treasury(), "{bad}");
                }
                Err(error) => {
                    assert_eq!(error.data["code"], "signer_unavailable", "{bad}: {error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, if fine { 0 } else { 4 }, "{bad}");
        token.lift();
        eventually("a signature", async || greet().await.ok()).await;
    }
    gateway.logs("ALARM").await;
    assert!(gateway.metric("chancery_bad_signatures_total").await >= 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_lost_sessions_and_lost_logins_cost_no_request() {
    for what in ["sessions", "login"] {
        let bench = Bench::of_one("", 8, "deadline = \"5s\"").await;
        let token = &bench.lanes[0].token;
        bench.sign_well(0).await;
        for round in 0..3 {
            token.faults(&[&format!("on = \"C_Sign\"; skip = 20; times = 1; lose = \"{what}\"")]);
            let signed = bench.sign_at_once(0, 64).await;
            let failed: Vec<_> = signed.iter().filter(|result| result.is_err()).collect();
            assert!(failed.is_empty(), "{what}, round {round}: {failed:?}");
        }
        assert!(token.calls("C_Login") >= 3, "nothing was lost: {what}");
        assert_eq!(token.calls("C_Initialize"), 1, "{what}: no new worker was needed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_half_a_per_mille_of_calls_hanging_for_ever_costs_little() {
    let bench = Bench::of_one("", 16, "deadline = \"1s\"\nmax_stuck = 16").await;
    let token = &bench.lanes[0].token;
    // As a token on the network; each signature is two calls of C_Sign.
    let latency = "on = \"C_Sign\"; delay_us = 2000";
    token.faults(&[latency]);
    let (well, _) = bench.load(0, 64, Duration::from_secs(3)).await;
    token.faults(&[latency, "on = \"C_Sign\"; chance = 0.00025; hang = \"for-ever\""]);
    let (with_hangs, errors) = bench.load(0, 64, Duration::from_secs(6)).await;
    println!("{well:.0} signatures/s well, {with_hangs:.0} with hangs; errors {errors:?}");
    assert!(with_hangs > 0.5 * well, "{with_hangs:.0} of {well:.0} signatures/s");
    let failed: u32 = errors.values().sum();
    assert!(f64::from(failed) < 0.01 * with_hangs * 6.0, "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_a_worker_killed_under_load_loses_no_request() {
    let bench = Bench::of_one("", 4, "deadline = \"5s\"").await;
    let token = &bench.lanes[0].token;
    let kills = async {
        for round in 0..kills() {
            sleep(Duration::from_millis(1200 + 37 * (round % 11))).await;
            // Its requests are handed to one more worker, so that one is not killed as well before it is there.
            let is_there = async || {
                let is_new = token.calls("C_Initialize") == round + 1;
                let is_ready = matches!(bench.signer.readiness()[0].state, TokenState::Ready { .. });
                (is_new && is_ready).then_some(())
            };
            eventually("the next worker", is_there).await;
            let worker = i32::try_from(token.count(places::PROCESS)).unwrap();
            kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        }
    };
    let time = Duration::from_millis(2000 + 1400 * self::kills());
    let (load, ()) = tokio::join!(bench.load(0, 16, time), kills);
    let (rate, errors) = load;
    println!("{rate:.0} signatures/s over {} kills", self::kills());
    assert!(errors.is_empty(), "{errors:?}");
    bench.recovers(0).await;
    assert_eq!(token.calls("C_Initialize"), self::kills() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_02_workers_killed_under_load_lose_and_double_no_transaction() {
    let (world, token) = TestToken::before(World::new().await);
    let gateway = world.start().await;
    let kills = async {
        for round in 0..kills() {
            sleep(Duration::from_millis(1100 + 31 * (round % 11))).await;
            let worker = i32::try_from(token.count(places::PROCESS)).unwrap();
            if let Err(error) = kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL) {
                assert_eq!(error, rustix::io::Errno::SRCH, "on a slow machine it may be the one from before");
            }
        }
    };
    // The kills are over before the payments are.
    let rounds = 4 * self::kills();
    let payments = async {
        let mut hashes = Vec::new();
        for round in 0..rounds {
            // Where the next worker is killed as well before it has signed, the client is told to come again.
            let five = (1..=5).map(|wei| {
                let payment = gateway.payment(10 * round + wei);
                insist(|| gateway.client("trader"), payment, format!("{round}-{wei}"))
            });
            hashes.extend(futures_util::future::join_all(five).await);
            sleep(Duration::from_millis(300)).await;
        }
        hashes
    };
    let (mut hashes, ()) = tokio::join!(payments, kills);
    gateway.settled().await;
    let sent = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    let all = usize::try_from(5 * rounds).unwrap();
    assert_eq!((sent, hashes.len()), (all, all), "each has a hash of its own");
    assert_eq!(gateway.node().mined(gateway.treasury()).await, 5 * rounds, "and is mined, and nothing else");
    assert!(token.calls("C_Initialize") > self::kills());
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_a_session_limit_is_kept_to_whether_or_not_it_is_announced() {
    for announced in [true, false] {
        let settings = format!("session_limit = 4\nannounce_limit = {announced}\n");
        let bench = Bench::of_one(&settings, 16, "deadline = \"5s\"").await;
        let sessions = if announced { 3 } else { 16 };
        assert_eq!(bench.signer.readiness()[0].state, TokenState::Ready { sessions });
        let signed = bench.sign_at_once(0, 64).await;
        assert!(signed.iter().all(Result::is_ok), "{signed:?}");
        let refused = bench.lanes[0].token.calls("C_OpenSession");
        assert!(announced == (refused <= 4), "{refused} sessions were asked for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_pin_is_tried_once_whatever_is_restarted() {
    // This one locks itself at the first mistake.
    let bench = Parts::of(1, "pin_tries = 1\n", 4, "deadline = \"1s\"");
    let token = &bench.lanes[0].token;
    std::fs::write(token.pin_file(), "87654321").unwrap();
    for _ in 0..3 {
        let bench = bench.start_again().await;
        let state = bench.signer.readiness()[0].state.clone();
        assert!(matches!(state, TokenState::PinLatched(_)), "{state:?}");
        assert!(matches!(bench.sign(0).await, Err(SignError::Down { .. })));
        sleep(Duration::from_millis(500)).await;
        bench.signer.stop().await;
    }
    assert_eq!((token.calls("C_Login"), token.count(places::WRONG_PINS)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_is_no_longer_right_is_tried_once_too() {
    let bench = Bench::of_one("", 8, "deadline = \"1s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    // The anchor, and eight sessions, of which the first can sign before the others are there.
    let all = || async { (token.calls("C_Login") >= 9).then_some(()) };
    eventually("all sessions are logged in", all).await;
    let logins = token.calls("C_Login");
    // Every session opened from now on would try it.
    token.faults(&[
        "on = \"C_Login\"; code = \"CKR_PIN_INCORRECT\"",
        "on = \"C_SignInit\"; times = 8; lose = \"login\"",
    ]);
    let signed = bench.sign_at_once(0, 32).await;
    assert!(signed.iter().any(Result::is_err));
    eventually("the latch", async || {
        matches!(bench.signer.readiness()[0].state, TokenState::PinLatched(_)).then_some(())
    })
    .await;
    let again = bench.start_again().await;
    assert!(matches!(again.signer.readiness()[0].state, TokenState::PinLatched(_)));
    // Those that found the login there do not count.
    let tried = token.calls("C_Login") - logins;
    assert_eq!(tried, 1, "{tried} logins with a PIN that is wrong");
    token.lift();
    again.unlatch(0);
    again.recovers(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_another_process_was_refused_is_not_tried_by_a_session() {
    let bench = Bench::of_one("", 8, "deadline = \"1s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    let all = || async { (token.calls("C_Login") >= 9).then_some(()) };
    eventually("all sessions are logged in", all).await;
    let logins = token.calls("C_Login");
    bench.refuse(0, "CKR_PIN_INCORRECT");
    token.faults(&["on = \"C_SignInit\"; times = 8; lose = \"login\""]);
    let signed = bench.sign_at_once(0, 32).await;
    assert!(signed.iter().any(Result::is_err));
    eventually("the latch", async || {
        matches!(bench.signer.readiness()[0].state, TokenState::PinLatched(_)).then_some(())
    })
    .await;
    assert_eq!(token.calls("C_Login"), logins, "it was wrong for the other as well");
    token.lift();
    assert!(bench.unlatch(0));
    bench.recovers(0).await;
}

/// Nobody knows what the token made of the PIN: it may have counted a wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_a_sessions_login_counts_as_an_attempt() {
    let bench = Bench::of_one("", 1, "deadline = \"1s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    let logins = token.calls("C_Login");
    token.faults(&["on = \"C_SignInit\"; times = 1; lose = \"login\"", "on = \"C_Login\"; abort = true"]);
    drop(bench.sign(0).await);
    eventually("the latch", async || {
        matches!(bench.signer.readiness()[0].state, TokenState::PinLatched(_)).then_some(())
    })
    .await;
    assert_eq!(
        token.calls("C_Login") - logins,
        2,
        "the session's, and once more the PIN that was right before"
    );
    token.lift();
    assert!(bench.unlatch(0));
    bench.recovers(0).await;
}

/// The PIN is right, and whoever looks at its file next sees another, as of systemd's credentials after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_sessions_log_in_latches_nothing() {
    let parts = Parts::of(1, "login = \"session\"\n", 4, "deadline = \"2s\"");
    let token = &parts.lanes[0].token;
    token.faults(&["on = \"C_Login\"; delay_us = 300000"]);
    let bench = parts.start_again().await;
    let token = &bench.lanes[0].token;
    let logins = token.calls("C_Login");
    eventually("a session logs in", async || (token.calls("C_Login") > logins).then_some(())).await;
    // As systemd does it, or a terminal: to the gateway and to its workers.
    let worker = i32::try_from(token.count(places::PROCESS)).unwrap();
    kill_process(Pid::from_raw(worker).unwrap(), Signal::TERM).unwrap();
    bench.signer.stop().await;
    replace_pin_file(&token.pin_file());
    token.lift();
    let bench = bench.start_again().await;
    bench.sign_well(0).await;
}

/// A module that cannot say that a session is logged in is asked to log it in, and says that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_there_already_latches_nothing() {
    let parts = Parts::of(1, "", 4, "deadline = \"2s\"");
    parts.lanes[0].token.faults(&["on = \"C_GetSessionInfo\"; code = \"CKR_FUNCTION_FAILED\""]);
    let bench = parts.start_again().await;
    let token = &bench.lanes[0].token;
    eventually("each session asked", async || (token.calls("C_Login") >= 5).then_some(())).await;
    bench.sign_well(0).await;
    assert!(!bench.unlatch(0), "a right PIN is latched");
}

/// What another process may have tried with another PIN stays as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_login_leaves_anothers_latch_as_it_was() {
    let bench = Bench::of_one("", 1, "deadline = \"1s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    bench.refuse(0, "the process ended while it logged in");
    let logins = token.calls("C_Login");
    token.faults(&["on = \"C_SignInit\"; times = 1; lose = \"login\""]);
    bench.recovers(0).await;
    assert!(token.calls("C_Login") > logins);
    assert!(bench.unlatch(0), "it is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendors_own_login_code_counts_as_a_wrong_pin() {
    let bench = Parts::of(1, "", 4, "deadline = \"1s\"");
    let token = &bench.lanes[0].token;
    token.faults(&["on = \"C_Login\"; code = \"CKR_OF_A_VENDOR\""]);
    let bench = bench.start_again().await;
    sleep(Duration::from_secs(1)).await;
    let state = bench.signer.readiness()[0].state.clone();
    assert!(matches!(&state, TokenState::PinLatched(why) if why.contains("0x80000123")), "{state:?}");
    assert_eq!(token.calls("C_Login"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_06_a_worker_that_signs_with_another_key_is_not_asked_again() {
    let bench = Bench::of_one("", 4, "deadline = \"2s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    // As with a stale handle that names another key by now: only a new process is rid of it.
    token.faults(&["on = \"signature\"; signature = \"wrong-key\"; until_restart = true"]);
    let signed = bench.sign(0).await;
    assert!(matches!(signed, Err(SignError::BadSignature { .. })), "{signed:?}");
    bench.recovers(0).await;
    assert_eq!(token.calls("C_Initialize"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_12_what_is_late_is_dropped_unsigned() {
    let bench = Bench::of_one("", 1, "deadline = \"1s\"").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    let before = token.calls("C_SignInit");
    token.faults(&["on = \"C_SignInit\"; delay_us = 400000"]);
    let signed = bench.sign_at_once(0, 12).await;
    assert!((1..=3).contains(&signed.iter().filter(|result| result.is_ok()).count()), "{signed:?}");
    sleep(Duration::from_secs(2)).await;
    let asked = token.calls("C_SignInit") - before;
    assert!(asked <= 4, "the token was asked {asked} times, for 12 of which 3 were in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_calls_that_hang_for_ever_are_replaced_up_to_the_cap_and_then_the_worker_is() {
    let bench = Bench::of_one("", 2, "deadline = \"500ms\"\nmax_stuck = 2").await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    for (hanging, processes) in [(2, 1), (1, 2)] {
        token.faults(&[&format!("on = \"C_SignInit\"; times = {hanging}; hang = \"for-ever\"")]);
        let signed = bench.sign_at_once(0, hanging).await;
        assert!(signed.iter().all(|result| *result == Err(SignError::Timeout)), "{signed:?}");
        eventually("another worker", async || (token.calls("C_Initialize") >= processes).then_some(())).await;
        bench.recovers(0).await;
        assert_eq!(token.calls("C_Initialize"), processes, "after {hanging} more that hang");
    }
}

/// How often a worker is killed under load: 5 times, or as often as a long run says.
fn kills() -> u64 {
    let asked = std::env::var_os("CHANCERY_WORKER_KILLS");
    asked.map_or(5, |number| number.to_str().and_then(|number| number.parse().ok()).expect("a number"))
}

/// Errors by their kind.
type Errors = BTreeMap<String, u32>;
