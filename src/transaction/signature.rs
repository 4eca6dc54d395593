//! From the 64 bytes of a token to a signature that Ethereum accepts: low-s, with its parity, and proved.

use alloy_primitives::{Address, B256, U256, keccak256, uint};
use secp256k1::ecdsa::{self, RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, Scalar};

/// The order of the curve (SEC 2, 2.4.1).
const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// A signature proved to be by the account that was to sign. Made by [`recover`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    r: [u8; 32],
    s: [u8; 32],
    odd: bool,
}

/// The 64 bytes are no signature of the expected account over this digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token's answer is not a signature by {expected} over what it was given")]
pub struct NotOurs {
    pub expected: Address,
}

/// Normalises a raw `r ‖ s` to low-s (EIP-2) and finds the parity under which it recovers to `expected`.
///
/// About half of a token's signatures are high-s. Recovery is verification: a wrong key, a flipped bit or a
/// wrong digest recovers to some other address. Ids 2 and 3 need r >= n, which no honest signer meets and
/// Ethereum has no `v` for.
pub fn recover(digest: B256, raw: &[u8; 64], expected: Address) -> Result<Signature, NotOurs> {
    let refused = NotOurs { expected };
    let mut normal = ecdsa::Signature::from_compact(raw).map_err(|_| refused)?;
    normal.normalize_s();
    let compact = normal.serialize_compact();
    let (r, s) = split(&compact);
    let even = recovered(digest, &compact, false).ok_or(refused)?;
    let odd = if address_of(&even) == expected {
        false
    } else {
        let odd = of_the_other_parity(&even, digest, &r).ok_or(refused)?;
        (address_of(&odd) == expected).then_some(true).ok_or(refused)?
    };
    Ok(Signature { r, s, odd })
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
        rs.copy_from_slice(&[self.r, self.s].concat());
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

/// With -R in the place of R, half of all signatures: the two keys add up to -2 z G / r, so that the second costs one
/// multiplication of G, and not a recovery of its own.
fn of_the_other_parity(key: &PublicKey, digest: B256, r: &[u8; 32]) -> Option<PublicKey> {
    let z = U256::from_be_bytes(digest.0).reduce_mod(N);
    let share = z.mul_mod(U256::from_be_bytes(*r).inv_mod(N)?, N);
    let twice = N.checked_sub(share.add_mod(share, N))?.reduce_mod(N);
    let tweak = Scalar::from_be_bytes(twice.to_be_bytes()).ok()?;
    key.negate().add_exp_tweak(&tweak).ok()
}

fn address_of(key: &PublicKey) -> Address {
    let point = key.serialize_uncompressed();
    let hash = keccak256(point.get(1..).unwrap_or_default());
    Address::from_word(hash)
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
        fn the_second_key_is_the_one_that_a_recovery_of_its_own_finds(
            secret in proptest::array::uniform32(1_u8..), digest in proptest::array::uniform32(any::<u8>()),
            edge in 0_usize..8,
        ) {
            let digest = match edge {
                0 => B256::ZERO,
                1 => B256::from(N),
                2 => B256::repeat_byte(0xff),
                _ => B256::from(digest),
            };
            let raw = signed(&SigningKey::from_slice(&secret).unwrap(), digest);
            let [even, odd] = [false, true].map(|odd| recovered(digest, &raw, odd).unwrap());
            let r = split(&raw).0;
            prop_assert_eq!(of_the_other_parity(&even, digest, &r), Some(odd));
            prop_assert_eq!(of_the_other_parity(&odd, digest, &r), Some(even));
        }

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
