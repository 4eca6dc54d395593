//! The parameters of `eth_signTypedData_v4`, judged: nothing panics, and the canonical form says the same.
#![no_main]

use chancery::clock::Timestamp;
use chancery::transaction::{Kind as _, Structured, TypedData};
use chancery_fuzz::{POLICY, caller};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fuzz_target!(|params: &str| {
    let Ok(read) = Structured::parse(Some(params)) else { return };
    let again = Structured::read_text(read.from(), read.text()).expect("what was written is read");
    assert_eq!(TypedData::digest(&again), TypedData::digest(&read));
    assert_eq!(again, read);
    // Allowed or not, it is read to its end.
    let _ = POLICY.judge::<TypedData>(&caller(), &read, NOW);
});
