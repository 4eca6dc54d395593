//! Every code in every function: whatever a module answers, no wrong signature leaves, every request is answered
//! within its deadline, and the token is used again soon after the fault is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chancery::signer::{SignError, TokenState};
use tokio::time::{Instant, timeout};

use crate::kit::test_token::codes::CODES;
use crate::kit::test_token::places;

use super::bench::{Bench, Parts};

/// Tokens that are tried at the same time: most of a case is waiting.
const LANES: usize = 10;

const DEADLINE: Duration = Duration::from_millis(500);

/// Beyond its deadline, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

/// What the worker calls.
const FUNCTIONS: &[&str] = &[
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_Login",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_SignInit",
    "C_Sign",
    "C_CloseSession",
];

/// One or two of each class: what is tried in every run. `CHANCERY_ALL_CODES` tries all.
const SOME: &[&str] = &[
    "CKR_HOST_MEMORY",
    "CKR_SLOT_ID_INVALID",
    "CKR_GENERAL_ERROR",
    "CKR_FUNCTION_FAILED",
    "CKR_ARGUMENTS_BAD",
    "CKR_DATA_LEN_RANGE",
    "CKR_DEVICE_ERROR",
    "CKR_DEVICE_REMOVED",
    "CKR_KEY_HANDLE_INVALID",
    "CKR_OPERATION_ACTIVE",
    "CKR_PIN_INCORRECT",
    "CKR_SESSION_COUNT",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_USER_ALREADY_LOGGED_IN",
    "CKR_USER_NOT_LOGGED_IN",
    "CKR_BUFFER_TOO_SMALL",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_CRYPTOKI_ALREADY_INITIALIZED",
    "CKR_OF_A_VENDOR",
];

/// What goes wrong in a function beside codes.
const WORSE: &[&str] = &[
    "hang = \"until-lifted\"",
    "hang = \"for-ever\"; times = 1",
    "abort = true; times = 1",
    "after = true; abort = true; times = 1",
    "after = true; code = \"CKR_DEVICE_ERROR\"",
    "delay_us = 50000",
    "lose = \"sessions\"",
    "lose = \"login\"",
];

#[derive(Debug)]
struct Case {
    function: &'static str,
    fault: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_13_every_code_in_every_function() {
    let all = std::env::var_os("CHANCERY_ALL_CODES").is_some();
    let codes = CODES.iter().map(|(name, _)| *name).filter(|name| all || SOME.contains(name));
    let faults: Vec<String> = codes
        .map(|code| format!("code = \"{code}\""))
        .chain(WORSE.iter().map(|worse| (*worse).to_owned()))
        .collect();
    let cases: Vec<Case> = FUNCTIONS
        .iter()
        .flat_map(|function| faults.iter().map(|fault| Case { function, fault: fault.clone() }))
        .collect();
    let began = Instant::now();
    let signer = format!("deadline = \"{}ms\"\nmax_stuck = 4", DEADLINE.as_millis());
    let bench = Arc::new(Parts::of(LANES, "", 2, &signer).start_again().await);
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (bench, cases, next) = (Arc::clone(&bench), Arc::clone(&cases), Arc::clone(&next));
            tokio::spawn(async move {
                let mut slowest = BTreeMap::<&str, (Duration, String)>::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let took = try_one(&bench, lane, case).await;
                    let slowest = slowest.entry(case.function).or_default();
                    if took > slowest.0 {
                        *slowest = (took, case.fault.clone());
                    }
                }
                slowest
            })
        })
        .collect();
    let mut slowest = BTreeMap::<&str, (Duration, String)>::new();
    for lane in lanes {
        for (function, took) in lane.await.unwrap() {
            let entry = slowest.entry(function).or_default();
            *entry = took.max(entry.clone());
        }
    }
    println!("{} cases in {:.1?}; slowest recoveries:", cases.len(), began.elapsed());
    for (function, (took, fault)) in slowest {
        println!("  {function:<22} {took:>8.0?}  {fault}");
    }
    for lane in bench.lanes.iter() {
        assert_eq!(lane.token.count(places::WRONG_PINS), 0, "{}", lane.name);
    }
}

/// Says how long the token took to recover.
async fn try_one(bench: &Bench, lane: usize, case: &Case) -> Duration {
    let token = &bench.lanes[lane].token;
    bench.recovers(lane).await;
    let calls = token.calls(case.function);
    let fault = format!("on = \"{}\"; {}", case.function, case.fault);
    // Most functions are called when a session is opened or a worker started, so one or the other is made to happen.
    let trigger = match case.function {
        "C_SignInit" | "C_Sign" => None,
        "C_CloseSession" => Some("on = \"C_SignInit\"; times = 1; code = \"CKR_OPERATION_ACTIVE\""),
        _ => Some("on = \"C_SignInit\"; times = 1; code = \"CKR_DEVICE_REMOVED\""),
    };
    let faults: Vec<&str> = trigger.into_iter().chain([&*fault]).collect();
    token.faults(&faults);
    let began = Instant::now();
    let answers = timeout(DEADLINE + SLACK, bench.sign_at_once(lane, 4)).await;
    let answers = answers.unwrap_or_else(|_| panic!("{case:?}: not answered in {:?}", began.elapsed()));
    for answer in &answers {
        assert!(
            !matches!(answer, Err(SignError::BadSignature { .. } | SignError::NoKey(_))),
            "{case:?}: {answer:?}"
        );
    }
    // The fault has had its chance before it is lifted. The first requests may have been faster than its file.
    let reached = timeout(Duration::from_secs(20), async {
        while token.calls(case.function) == calls {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = timeout(DEADLINE + SLACK, bench.sign(lane)).await;
        }
    });
    assert!(reached.await.is_ok(), "{case:?}: the function was not called");

    token.lift();
    let lifted = Instant::now();
    // A PIN that was refused needs an operator's word, be it that the token's word came in any function.
    loop {
        let recovered = timeout(DEADLINE + SLACK, bench.sign(lane)).await;
        if recovered.unwrap_or_else(|_| panic!("{case:?}: not answered")).is_ok() {
            return lifted.elapsed();
        }
        if matches!(bench.signer.readiness()[lane].state, TokenState::PinLatched(_)) {
            assert!(may_latch(case), "{case:?}: latched");
            bench.unlatch(lane);
        }
        assert!(lifted.elapsed() < Duration::from_secs(30), "{case:?}: it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What closes the PIN latch: the token speaks of the PIN, or fails in a login for no known reason.
fn may_latch(case: &Case) -> bool {
    let speaks_of_it = case.fault.contains("PIN") || case.fault.contains("USER_TYPE_INVALID");
    speaks_of_it || case.function == "C_Login" && !case.fault.contains("USER_ALREADY_LOGGED_IN")
}
