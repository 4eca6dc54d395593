//! Signed transactions as strangers hand them in: nothing panics, what is read is what was written, and it is judged.
#![no_main]

use alloy_primitives::{Bytes, keccak256};
use chancery::clock::Timestamp;
use chancery::transaction::{Kind as _, Presigned, SignedTransaction, recover};
use chancery_fuzz::{POLICY, presenting};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fuzz_target!(|raw: &[u8]| {
    let Ok(signed) = SignedTransaction::decode(Bytes::copy_from_slice(raw)) else { return };
    assert_eq!(signed.raw().as_ref(), raw);
    assert_eq!(signed.hash(), keccak256(raw));
    let digest = Presigned::digest(&signed);
    let signature = recover(digest, signed.rs(), signed.from()).expect("the sender's signature");
    assert_eq!(Presigned::seal(&signed, signature).raw.as_ref(), raw);
    let _ = POLICY.judge::<Presigned>(&presenting(signed.from()), &signed, NOW);
});
