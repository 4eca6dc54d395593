//! Two tokens with the same key: one fails, and nobody notices but the operator.

use std::time::Duration;

use chancery::signer::TokenState;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::bench::{Bench, Parts};
use crate::kit::eventually;
use crate::kit::test_token::places;

/// How often each token was asked since it was started.
fn asked(bench: &Bench) -> [u64; 2] {
    [0, 1].map(|lane: usize| bench.lanes[lane].token.calls("C_SignInit"))
}

fn since(bench: &Bench, before: [u64; 2]) -> [u64; 2] {
    let [first, second] = asked(bench);
    [first - before[0], second - before[1]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_asked_only_where_its_primary_fails_and_turns_are_taken_otherwise() {
    for (order, expected) in [("primary-backup", [60, 0]), ("round-robin", [30, 30])] {
        let bench = Parts::group(order, "deadline = \"4s\"").start_again().await;
        let before = asked(&bench);
        assert_eq!(bench.times(0, 4, 15).await.len(), 60);
        assert_eq!(since(&bench, before), expected, "{order}");
        bench.signer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_a_token_that_is_killed_or_goes_away_under_load_costs_no_request() {
    for order in ["primary-backup", "round-robin"] {
        let bench = Parts::group(order, "deadline = \"4s\"").start_again().await;
        let token = &bench.lanes[0].token;
        bench.sign_well(0).await;
        let fault = async {
            sleep(Duration::from_millis(200)).await;
            // Dead, and not to be started again for as long as the fault lasts.
            token.faults(&["on = \"C_Initialize\"; code = \"CKR_DEVICE_ERROR\""]);
            let worker = i32::try_from(token.count(places::PROCESS)).unwrap();
            kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        };
        let (times, ()) = tokio::join!(bench.times(0, 8, 400), fault);
        let p99 = times[times.len() * 99 / 100];
        println!(
            "{order}: {} signatures, none lost; p99 {p99:.1?}, longest {:.1?}",
            times.len(),
            times.last().unwrap()
        );
        let status = &bench.signer.readiness()[0];
        assert!(!matches!(status.state, TokenState::Ready { .. }) && status.is_covered, "{status:?}");
        assert!(!bench.signer.readiness()[1].is_covered, "nobody stands in for the second");

        // It is used again when it is back.
        token.lift();
        eventually("the first token", async || {
            let before = asked(&bench);
            bench.times(0, 2, 10).await;
            (since(&bench, before)[0] >= 10).then_some(())
        })
        .await;
        bench.signer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_a_token_that_hangs_is_left_alone_until_it_signs_again() {
    let bench = Parts::group("primary-backup", "deadline = \"1s\"\nmax_stuck = 1000").start_again().await;
    let token = &bench.lanes[0].token;
    bench.sign_well(0).await;
    token.faults(&["on = \"C_Sign\"; hang = \"until-lifted\""]);
    // Each of the first few waits for its share of the deadline, and is signed by the other token.
    let first = bench.times(0, 3, 1).await;
    assert!(first[0] >= Duration::from_millis(450), "{first:?}");
    let then = bench.times(0, 3, 10).await;
    assert!(then[29] < Duration::from_millis(400), "{then:?}");

    token.lift();
    let lifted = Instant::now();
    eventually("the first token", async || {
        let before = asked(&bench);
        bench.sign_well(0).await;
        (since(&bench, before)[0] > 0
            && bench.signer.readiness()[0].state == TokenState::Ready { sessions: 4 })
        .then_some(())
    })
    .await;
    println!("used again {:.1?} after it was well", lifted.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_another_key_in_one_token_starts_nothing() {
    let parts = Parts::group("primary-backup", "");
    let other = Parts::group("primary-backup", "");
    let strange = other.lanes[1].token.pin_file().with_file_name("token.toml");
    std::fs::copy(strange, parts.lanes[1].token.pin_file().with_file_name("token.toml")).unwrap();
    let Err(refused) = parts.try_start().await else { panic!("it starts") };
    let (said, pinned) = (refused.to_string(), parts.lanes[0].key.address.to_string());
    assert!(said.contains("token second") && said.contains("treasury") && said.contains(&pinned), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_idle_is_asked_for_a_probe_and_each_session_is_used() {
    let bench = Parts::group("primary-backup", "deadline = \"4s\"").start_again().await;
    let before = asked(&bench);
    // The backup signs nothing for anybody, and its four sessions are kept alive all the same: one by the probe.
    let asked = eventually("every session", async || {
        let asked = since(&bench, before);
        asked.iter().all(|times| *times >= 4).then_some(asked)
    })
    .await;
    // No more than once in 20 s, on a machine that is not very slow.
    assert!(asked.iter().all(|times| *times <= 10), "{asked:?}");
}
