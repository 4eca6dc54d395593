//! From the parameters of `eth_sendTransaction` to the verdict: nothing panics, and what was filled is what was asked.
#![no_main]

use chancery::clock::Timestamp;
use chancery::transaction::{Request, Tx};
use chancery_fuzz::{POLICY, QUOTE, caller};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fuzz_target!(|params: &str| {
    let Ok(request) = Request::parse(Some(params)) else { return };
    let read: serde_json::Value = serde_json::from_str(params).expect("what is parsed is JSON");
    let from = read[0]["from"].as_str().expect("a sender");
    assert_eq!(from.to_lowercase(), format!("{:#x}", request.from()));
    let (caller, intent) = (caller(), request.intent());
    let Ok(filled) = request.clone().fill(&QUOTE, None) else { return };
    assert_eq!(intent, request.intent(), "asking twice is asking the same");
    let first = POLICY.judge::<Tx>(&caller, &filled, NOW).is_ok();
    assert_eq!(first, POLICY.judge::<Tx>(&caller, &filled, NOW).is_ok());
    assert!(!first || request.from() == caller.account());
});
