//! Keys that nobody keeps: what came signed, and authorizations (EIP-7702) that transactions hand in.

use std::sync::OnceLock;

use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, B256, U256, keccak256};
use chancery::transaction::{Filled, Kind as _, SignedTransaction, Tx, recover};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::rules::{ALICE, BOB, DESK, HOT, WARM};

/// Of the wallet that signs elsewhere, of the account of ours that no client may use, and of one that is nobody's here.
const HOT_KEY: u8 = 0x46;
const DESK_KEY: u8 = 0x47;
const WARM_KEY: u8 = 0x48;

/// Who lets the code of whom act as itself.
const LET: [(u8, Address); AUTHORIZATIONS] =
    [(WARM_KEY, ALICE), (WARM_KEY, BOB), (WARM_KEY, Address::ZERO), (WARM_KEY, ALICE), (DESK_KEY, ALICE)];

pub const AUTHORIZATIONS: usize = 5;

pub struct Handed {
    pub delegate: Address,
    /// Whether an account of ours is said to have signed it, of which nobody here knows.
    pub is_foreign: bool,
    pub json: Value,
}

pub fn authorizations() -> &'static [Handed] {
    static ALL: OnceLock<Vec<Handed>> = OnceLock::new();
    ALL.get_or_init(|| {
        for (key, is) in [(HOT_KEY, HOT), (DESK_KEY, DESK), (WARM_KEY, WARM)] {
            assert_eq!(address(key), is);
        }
        LET.iter().map(|(key, delegate)| handed(*key, *delegate)).collect()
    })
}

fn handed(of: u8, delegate: Address) -> Handed {
    let authorization = Authorization { chain_id: U256::from(1), address: delegate, nonce: 3 };
    let (rs, parity) = sign(of, authorization.signature_hash());
    let half = |at: usize| format!("{:#x}", U256::from_be_slice(&rs[at..at + 32]));
    let json = json!({
        "chainId": "0x1", "address": delegate, "nonce": "0x3", "yParity": if parity { "0x1" } else { "0x0" },
        "r": half(0), "s": half(32),
    });
    Handed { delegate, is_foreign: of == DESK_KEY, json }
}

/// The transaction as the wallet signs it that has its key elsewhere.
pub fn presigned(filled: Filled) -> SignedTransaction {
    let unsigned = Tx::assign(filled, Some(0));
    let digest = Tx::digest(&unsigned);
    let signature = recover(digest, &sign(HOT_KEY, digest).0, HOT).unwrap();
    SignedTransaction::decode(Tx::seal(&unsigned, signature).raw).unwrap()
}

fn sign(of: u8, digest: B256) -> ([u8; 64], bool) {
    let (signature, id) = key(of).sign_prehash_recoverable(digest.as_slice()).unwrap();
    (signature.to_bytes().into(), id.is_y_odd())
}

fn key(of: u8) -> SigningKey {
    SigningKey::from_slice(&[of; 32]).unwrap()
}

fn address(of: u8) -> Address {
    let point = key(of).verifying_key().to_encoded_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}
