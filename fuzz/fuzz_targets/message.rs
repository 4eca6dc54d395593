//! A message, with what EIP-4361 makes of it, judged: nothing panics.
#![no_main]

use alloy_primitives::Bytes;
use chancery::clock::Timestamp;
use chancery::transaction::{Message, Text};
use chancery_fuzz::{POLICY, TREASURY, caller};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fuzz_target!(|message: &[u8]| {
    let text = Text::new(TREASURY, Bytes::copy_from_slice(message));
    // Allowed or not, it is read to its end.
    let _ = POLICY.judge::<Message>(&caller(), &text, NOW);
});
