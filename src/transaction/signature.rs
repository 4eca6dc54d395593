//! From the 64 bytes of a token to a signature that Ethereum accepts: low-s, with its parity, and proved.

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{self, RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey};

/// A signature proved to be by the account that was to sign. Made by [`recover`] and [`AccountKey::prove`] only.
///
/// [`AccountKey::prove`]: super::AccountKey::prove
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub(super) r: [u8; 32],
    pub(super) s: [u8; 32],
    pub(super) odd: bool,
}

/// The 64 bytes are no signature of the expected account over this digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token's answer is not a signature by {expected} over what it was given")]
pub struct NotOurs {
    pub expected: Address,
}

/// Normalises a raw `r ‖ s` to low-s (EIP-2) and finds the parity under which it recovers to `expected`.
///
/// For the first signature of an account, and whoever is asked for once: [`AccountKey`](super::AccountKey) proves faster what
/// comes after. About half of a token's signatures are high-s. Recovery is verification: a wrong key, a flipped bit or a
/// wrong digest recovers to some other address. Ids 2 and 3 need r >= n, which no honest signer meets and
/// Ethereum has no `v` for.
pub fn recover(digest: B256, raw: &[u8; 64], expected: Address) -> Result<Signature, NotOurs> {
    recovered_key(digest, raw, expected).map(|(signature, _)| signature)
}

/// The same, and the key whose address is the expected one.
pub(super) fn recovered_key(
    digest: B256,
    raw: &[u8; 64],
    expected: Address,
) -> Result<(Signature, PublicKey), NotOurs> {
    let refused = NotOurs { expected };
    let (r, s) = low_s(raw).ok_or(refused)?;
    for odd in [false, true] {
        let key = recovered(digest, &joined(&r, &s), odd).ok_or(refused)?;
        if address_of(&key) == expected {
            return Ok((Signature { r, s, odd }, key));
        }
    }
    Err(refused)
}

/// Both halves, and `s` in the lower half; nothing where one is not below the order.
pub(super) fn low_s(raw: &[u8; 64]) -> Option<([u8; 32], [u8; 32])> {
    let mut normal = ecdsa::Signature::from_compact(raw).ok()?;
    normal.normalize_s();
    Some(split(&normal.serialize_compact()))
}

impl Signature {
    pub const fn r(&self) -> &[u8; 32] {
        &self.r
    }

    pub const fn s(&self) -> &[u8; 32] {
        &self.s
    }

    /// The parity of R's y coordinate.
    pub const fn odd(&self) -> bool {
        self.odd
    }

    /// r, s, v with v = 27 or 28, as `personal_sign` returns it.
    pub fn to_rsv(&self) -> [u8; 65] {
        let mut bytes = [0; 65];
        let (rs, v) = bytes.split_at_mut(64);
        rs.copy_from_slice(&joined(&self.r, &self.s));
        v.fill(27_u8.saturating_add(u8::from(self.odd)));
        bytes
    }
}

/// Who signed this; nobody where `s` is in the upper half (EIP-2).
pub fn signer_of(digest: B256, raw: &[u8; 64], odd: bool) -> Option<Address> {
    let mut normal = ecdsa::Signature::from_compact(raw).ok()?;
    normal.normalize_s();
    if normal.serialize_compact() != *raw {
        return None;
    }
    recovered(digest, raw, odd).map(|key| address_of(&key))
}

/// The address of a secp256k1 public key given as its uncompressed or compressed point.
pub fn address_of_point(point: &[u8]) -> Option<Address> {
    PublicKey::from_slice(point).ok().map(|key| address_of(&key))
}

/// The key is (s R - z G) / r (SEC 1, 4.1.6), for the R of this parity.
fn recovered(digest: B256, compact: &[u8; 64], odd: bool) -> Option<PublicKey> {
    let id = if odd { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(compact, id).ok()?;
    signature.recover_ecdsa(Message::from_digest(digest.0)).ok()
}

fn address_of(key: &PublicKey) -> Address {
    let point = key.serialize_uncompressed();
    let hash = keccak256(point.get(1..).unwrap_or_default());
    Address::from_word(hash)
}

fn joined(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    let mut compact = [0; 64];
    let (first, second) = compact.split_at_mut(32);
    first.copy_from_slice(r);
    second.copy_from_slice(s);
    compact
}

fn split(compact: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    let (first, second) = compact.split_at(32);
    r.copy_from_slice(first);
    s.copy_from_slice(second);
    (r, s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};
    use k256::elliptic_curve::sec1::ToEncodedPoint as _;
    use proptest::prelude::*;

    fn signed(key: &SigningKey, digest: B256) -> [u8; 64] {
        let (signature, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
        signature.to_bytes().into()
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a scalar's negation is modulo n")]
    /// n - s: what a token that does not normalise would as soon have answered.
    fn high_s(raw: &[u8; 64]) -> [u8; 64] {
        let signature = k256::ecdsa::Signature::from_slice(raw).unwrap();
        let high = k256::ecdsa::Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
        high.to_bytes().into()
    }

    fn address(key: &SigningKey) -> Address {
        address_of_point(key.verifying_key().as_affine().to_encoded_point(false).as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn inv_06_high_s_is_normalised_and_another_key_is_refused(
            secret in proptest::array::uniform32(1_u8..), other in proptest::array::uniform32(1_u8..),
            digest in proptest::array::uniform32(any::<u8>()), bit in 0_usize..512,
        ) {
            let digest = B256::from(digest);
            let key = SigningKey::from_slice(&secret).unwrap();
            let low = signed(&key, digest);
            let expected = recover(digest, &low, address(&key)).unwrap();
            prop_assert_eq!(recover(digest, &high_s(&low), address(&key)).unwrap(), expected);
            prop_assert!(*expected.s() <= split(&high_s(&low)).1, "low-s");
            // The other library finds the same parity, and by it the same key.
            let (theirs, id) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
            prop_assert_eq!(expected.odd(), id.is_y_odd());
            let id = RecoveryId::new(expected.odd(), false);
            let recovered = VerifyingKey::recover_from_prehash(digest.as_slice(), &theirs, id).unwrap();
            prop_assert_eq!(&recovered, key.verifying_key());

            let mut flipped = low;
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(recover(digest, &flipped, address(&key)).is_err());
            let other = SigningKey::from_slice(&other).unwrap();
            prop_assume!(address(&other) != address(&key));
            prop_assert!(recover(digest, &signed(&other, digest), address(&key)).is_err());
        }
    }
}
