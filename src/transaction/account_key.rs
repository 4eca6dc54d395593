//! The proof that a signature is by a key that is known: R = (z G + r Q) / s (SEC 1, 4.1.4) from tables of multiples, which
//! costs a quarter of a recovery, and gives the parity at once.
//!
//! All that is computed with here is public, so that time may depend on it.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use alloy_primitives::{Address, B256, U256};
use k256::elliptic_curve::ops::{Invert as _, Reduce};
use k256::elliptic_curve::point::AffineCoordinates as _;
use k256::elliptic_curve::{BatchNormalize, PrimeField as _};
use k256::{AffinePoint, ProjectivePoint, Scalar};

use super::signature::{NotOurs, Signature, low_s, recovered_key};

/// Width of a window, in bits: with 5 a key's table has 1,612 points, which is 140 KiB; with 8 that of G has 8,160.
const KEY_BITS: u32 = 5;
const G_BITS: u32 = 8;

static G: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ProjectivePoint::GENERATOR, G_BITS));

/// An account's key, of which the address is pinned, and the rest is learnt from the first signature that recovers to it.
pub struct AccountKey {
    address: Address,
    multiples: OnceLock<Multiples>,
}

/// The multiples of a point by which its product with any scalar is a sum: for each window of the scalar, those by each
/// digit but 0.
struct Multiples {
    bits: u32,
    points: Vec<AffinePoint>,
}

impl AccountKey {
    pub const fn new(address: Address) -> Self {
        Self { address, multiples: OnceLock::new() }
    }

    pub const fn address(&self) -> Address {
        self.address
    }

    /// What [`recover`](super::recover) proves, and the same signature.
    pub fn prove(&self, digest: B256, raw: &[u8; 64]) -> Result<Signature, NotOurs> {
        let refused = NotOurs { expected: self.address };
        if let Some(multiples) = self.multiples.get() {
            let (r, s) = low_s(raw).ok_or(refused)?;
            if let Some(odd) = parity(digest, (&r, &s), multiples) {
                return Ok(Signature { r, s, odd });
            }
        }
        // What the tables do not prove is looked at once more, without them: a bit of theirs that was flipped must not have
        // good tokens distrusted.
        let (signature, key) = recovered_key(digest, raw, self.address)?;
        if let Ok(key) = k256::PublicKey::from_sec1_bytes(&key.serialize_uncompressed()) {
            self.multiples.get_or_init(|| Multiples::of(key.to_projective(), KEY_BITS));
        }
        Ok(signature)
    }
}

/// The parity of R, where r is R's x; nothing where the signature is another key's or over something else.
#[expect(clippy::arithmetic_side_effects, reason = "scalars are modulo n")]
fn parity(digest: B256, (r, s): (&[u8; 32], &[u8; 32]), key: &Multiples) -> Option<bool> {
    let scalar = |bytes: &[u8; 32]| Option::<Scalar>::from(Scalar::from_repr((*bytes).into()));
    let inverse = Option::<Scalar>::from(scalar(s)?.invert_vartime())?;
    let digest = <Scalar as Reduce<k256::U256>>::reduce_bytes(&digest.0.into());
    let mut sum = ProjectivePoint::IDENTITY;
    G.add(digest * inverse, &mut sum);
    key.add(scalar(r)? * inverse, &mut sum);
    let point = sum.to_affine();
    // The point at infinity has x = 0, which is no r: its own scalar would be 0, and r = 0 is refused here.
    let is_theirs = point.x().as_slice() == r && r.iter().any(|byte| *byte != 0);
    is_theirs.then(|| point.y_is_odd().into())
}

impl Multiples {
    /// `bits` is at most 8, so that no window is wider than what is shifted out of a limb.
    #[expect(clippy::arithmetic_side_effects, reason = "points are added on the curve")]
    fn of(point: ProjectivePoint, bits: u32) -> Self {
        let (windows, digits) = (256_u32.div_ceil(bits), digits(bits));
        let mut points = Vec::new();
        let mut base = point;
        for _ in 0..windows {
            let mut multiple = base;
            for _ in 0..digits {
                points.push(multiple);
                multiple += base;
            }
            base = multiple;
        }
        Self {
            bits,
            points: <ProjectivePoint as BatchNormalize<[ProjectivePoint]>>::batch_normalize(&points),
        }
    }

    /// Adds the point times `scalar`.
    #[expect(clippy::arithmetic_side_effects, reason = "points are added on the curve")]
    fn add(&self, scalar: Scalar, sum: &mut ProjectivePoint) {
        let (scalar, digits) = (U256::from_be_bytes(scalar.to_bytes().into()), digits(self.bits));
        let mut left = scalar;
        for window in self.points.chunks_exact(digits) {
            let [low, ..] = left.into_limbs();
            let digit = usize::from(low.to_le_bytes()[0]) & digits;
            left >>= self.bits;
            if let Some(point) = digit.checked_sub(1).and_then(|place| window.get(place)) {
                *sum += point;
            }
        }
    }
}

/// How many digits of so many bits there are, without 0; their mask, too.
const fn digits(bits: u32) -> usize {
    usize::MAX.wrapping_shr(usize::BITS.wrapping_sub(bits))
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccountKey").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{address_of_point, recover};
    use alloy_primitives::uint;
    use k256::ecdsa::SigningKey;
    use proptest::prelude::*;

    /// The order of the curve (SEC 2, 2.4.1).
    const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

    fn known(secret: &[u8; 32]) -> (SigningKey, AccountKey) {
        let key = SigningKey::from_slice(secret).unwrap();
        let address = address_of_point(&key.verifying_key().to_sec1_bytes()).unwrap();
        let account = AccountKey::new(address);
        account.prove(B256::ZERO, &signed(&key, B256::ZERO)).unwrap();
        assert!(account.multiples.get().is_some(), "the first signature teaches the key");
        (key, account)
    }

    fn signed(key: &SigningKey, digest: B256) -> [u8; 64] {
        key.sign_prehash_recoverable(digest.as_slice()).unwrap().0.to_bytes().into()
    }

    #[test]
    fn a_product_from_tables_is_the_product() {
        for scalar in
            [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(255_u64), Scalar::from(1_u64 << 40)]
        {
            for bits in [KEY_BITS, G_BITS] {
                let point = ProjectivePoint::GENERATOR * Scalar::from(7_u64);
                let mut sum = ProjectivePoint::GENERATOR;
                Multiples::of(point, bits).add(scalar, &mut sum);
                assert_eq!(sum, ProjectivePoint::GENERATOR + point * scalar);
            }
        }
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a scalar's negation is modulo n")]
    /// n - s: what a token that does not normalise would as soon have answered.
    fn high_s(raw: &[u8; 64]) -> [u8; 64] {
        let signature = k256::ecdsa::Signature::from_slice(raw).unwrap();
        let high = k256::ecdsa::Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
        high.to_bytes().into()
    }

    #[test]
    fn what_a_damaged_table_does_not_prove_is_proved_without_it() {
        let ((key, account), (_, other)) = (known(&[1; 32]), known(&[2; 32]));
        let damaged = AccountKey { address: account.address, multiples: other.multiples };
        let digest = B256::repeat_byte(7);
        let raw = signed(&key, digest);
        assert_eq!(damaged.prove(digest, &raw), account.prove(digest, &raw));
        assert!(damaged.prove(!digest, &raw).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The other library, which knows no key, finds the same.
        #[test]
        fn inv_06_a_known_key_is_proved_as_recovery_proves_it(
            secret in proptest::array::uniform32(1_u8..), other in proptest::array::uniform32(1_u8..),
            digests in proptest::collection::vec(proptest::array::uniform32(any::<u8>()), 8), bit in 0_usize..512,
        ) {
            let (key, account) = known(&secret);
            let stranger = SigningKey::from_slice(&other).unwrap();
            let edges = [B256::ZERO, B256::repeat_byte(0xff), B256::from(N)];
            for digest in digests.into_iter().map(B256::from).chain(edges) {
                let raw = signed(&key, digest);
                let proved = account.prove(digest, &raw);
                prop_assert!(proved.is_ok());
                prop_assert_eq!(proved, recover(digest, &raw, account.address()));
                prop_assert_eq!(account.prove(digest, &high_s(&raw)), proved);

                let mut flipped = raw;
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(account.prove(digest, &flipped).is_err());
                prop_assert!(account.prove(!digest, &raw).is_err());
                prop_assert!(secret == other || account.prove(digest, &signed(&stranger, digest)).is_err());
            }
            for zero in [[0; 64], [0xff; 64]] {
                prop_assert!(account.prove(B256::ZERO, &zero).is_err());
            }
            let mut raw = signed(&key, B256::ZERO);
            raw[..32].fill(0);
            prop_assert!(account.prove(B256::ZERO, &raw).is_err(), "r = 0");
        }
    }
}
