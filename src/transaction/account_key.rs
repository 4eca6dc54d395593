//! The proof that a signature is by a key that is known: R = (z G + r Q) / s (SEC 1, 4.1.4) from tables of multiples, which
//! costs half of a recovery, and gives the parity at once.
//!
//! Points are added by libsecp256k1, which has them in 64 bytes each; what is modulo n is `ruint`'s, whose inverse takes a tenth
//! of the time. All that is computed with here is public, so that time may depend on it.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use alloy_primitives::{Address, B256, U256};
use secp256k1::constants::{CURVE_ORDER, GENERATOR_X};
use secp256k1::{Parity, PublicKey, XOnlyPublicKey};

use super::signature::{NotOurs, Signature, low_s, recovered_key};

/// Width of a window, in bits: with 5 a key's table has 1,612 points, which is 101 KiB; with 8 that of G has 8,160.
const KEY_BITS: u32 = 5;
const G_BITS: u32 = 8;

/// The order of the curve (SEC 2, 2.4.1).
const N: U256 = U256::from_be_bytes(CURVE_ORDER);

/// The y of G is even (SEC 2, 2.4.1).
static G: LazyLock<Option<Multiples>> = LazyLock::new(|| {
    let x = XOnlyPublicKey::from_byte_array(GENERATOR_X).ok()?;
    Multiples::of(PublicKey::from_x_only_public_key(x, Parity::Even), G_BITS)
});

/// Makes the tables that all keys share, which takes some 20 ms: not while somebody waits for a signature.
pub fn prepare_proofs() {
    LazyLock::force(&G);
}

/// An account's key, of which the address is pinned, and the rest is learnt from the first signature that recovers to it.
pub struct AccountKey {
    address: Address,
    multiples: OnceLock<Option<Multiples>>,
}

/// The multiples of a point by which its product with any scalar is a sum: for each window of the scalar, those by each
/// digit but 0.
struct Multiples {
    bits: u32,
    points: Vec<PublicKey>,
}

impl AccountKey {
    pub const fn new(address: Address) -> Self {
        Self { address, multiples: OnceLock::new() }
    }

    pub const fn address(&self) -> Address {
        self.address
    }

    fn known(&self) -> Option<&Multiples> {
        self.multiples.get()?.as_ref()
    }

    /// What [`recover`](super::recover) proves, and the same signature.
    pub fn prove(&self, digest: B256, raw: &[u8; 64]) -> Result<Signature, NotOurs> {
        let refused = NotOurs { expected: self.address };
        if let Some(multiples) = self.known() {
            let (r, s) = low_s(raw).ok_or(refused)?;
            if let Some(odd) = parity(digest, (&r, &s), multiples) {
                return Ok(Signature { r, s, odd });
            }
        }
        // What the tables do not prove is looked at once more, without them: a bit of theirs that was flipped must not have
        // good tokens distrusted.
        let (signature, key) = recovered_key(digest, raw, self.address)?;
        self.multiples.get_or_init(|| Multiples::of(key, KEY_BITS));
        Ok(signature)
    }
}

/// The parity of R, where r is R's x; nothing where the signature is another key's or over something else.
fn parity(digest: B256, (r, s): (&[u8; 32], &[u8; 32]), key: &Multiples) -> Option<bool> {
    let inverse = U256::from_be_bytes(*s).inv_mod(N)?;
    // Copied before they are added: each is somewhere else in memory, and all are fetched at once.
    let mut points = Vec::with_capacity(G.as_ref()?.windows().saturating_add(key.windows()));
    G.as_ref()?.of_product(U256::from_be_bytes(digest.0).mul_mod(inverse, N), &mut points);
    key.of_product(U256::from_be_bytes(*r).mul_mod(inverse, N), &mut points);
    // Neither no points nor the point at infinity is a sum.
    let points: Vec<&PublicKey> = points.iter().collect();
    let (x, parity) = PublicKey::combine_keys(&points).ok()?.x_only_public_key();
    (x.to_byte_array() == *r).then_some(parity == Parity::Odd)
}

impl Multiples {
    /// `bits` is at most 8, so that no window is wider than what is shifted out of a limb. Nothing where a multiple were the
    /// point at infinity, which none is: the order is a prime, and greater than a digit.
    fn of(point: PublicKey, bits: u32) -> Option<Self> {
        let (windows, digits) = (256_u32.div_ceil(bits), digits(bits));
        let mut points = Vec::with_capacity(usize::try_from(windows).ok()?.saturating_mul(digits));
        let mut base = point;
        for _ in 0..windows {
            let mut multiple = base;
            for _ in 1..digits {
                points.push(multiple);
                multiple = multiple.combine(&base).ok()?;
            }
            points.push(multiple);
            base = multiple.combine(&base).ok()?;
        }
        Some(Self { bits, points })
    }

    fn windows(&self) -> usize {
        self.points.len().div_ceil(digits(self.bits))
    }

    /// The points whose sum is the point times `scalar`.
    #[expect(clippy::arithmetic_side_effects, reason = "a shift by less than the width")]
    fn of_product(&self, scalar: U256, points: &mut Vec<PublicKey>) {
        let digits = digits(self.bits);
        let mut left = scalar;
        for window in self.points.chunks_exact(digits) {
            let [low, ..] = left.into_limbs();
            let digit = usize::from(low.to_le_bytes()[0]) & digits;
            left >>= self.bits;
            points.extend(digit.checked_sub(1).and_then(|place| window.get(place).copied()));
        }
    }
}

/// How many digits of so many bits there are, without 0; their mask, too.
const fn digits(bits: u32) -> usize {
    !usize::MAX.unbounded_shl(bits)
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
    use k256::ecdsa::SigningKey;
    use proptest::prelude::*;

    fn known(secret: &[u8; 32]) -> (SigningKey, AccountKey) {
        let key = SigningKey::from_slice(secret).unwrap();
        let address = address_of_point(&key.verifying_key().to_sec1_bytes()).unwrap();
        let account = AccountKey::new(address);
        account.prove(B256::ZERO, &signed(&key, B256::ZERO)).unwrap();
        assert!(account.known().is_some(), "the first signature teaches the key");
        (key, account)
    }

    fn signed(key: &SigningKey, digest: B256) -> [u8; 64] {
        key.sign_prehash_recoverable(digest.as_slice()).unwrap().0.to_bytes().into()
    }

    fn public(secret: U256) -> PublicKey {
        let key = k256::SecretKey::from_slice(&secret.to_be_bytes::<32>()).unwrap();
        PublicKey::from_slice(&key.public_key().to_sec1_bytes()).unwrap()
    }

    #[test]
    fn a_product_from_tables_is_the_product() {
        let (seven, before_last) = (U256::from(7), N.wrapping_sub(U256::from(2)));
        for scalar in
            [U256::ONE, U256::from(255), U256::from(1_u64 << 40), before_last, N.wrapping_sub(U256::ONE)]
        {
            for bits in [KEY_BITS, G_BITS] {
                let sum = |points: &[PublicKey]| PublicKey::combine_keys(&points.iter().collect::<Vec<_>>());
                let (table, mut points) = (Multiples::of(public(seven), bits).unwrap(), Vec::new());
                assert_eq!(table.points.len(), table.windows() * digits(bits));
                table.of_product(scalar, &mut points);
                assert!(points.len() <= table.windows());
                assert_eq!(sum(&points).unwrap(), public(scalar.mul_mod(seven, N)));
                table.of_product(U256::ZERO, &mut points);
                table.of_product(N.wrapping_sub(scalar), &mut points);
                assert!(sum(&points).is_err(), "the point at infinity");
            }
        }
        assert!(G.as_ref().unwrap().points.first().is_some_and(|point| *point == public(U256::ONE)));
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
                // By the tables, and not by the second look.
                let (r, s) = low_s(&raw).unwrap();
                let by_tables = |digest| parity(digest, (&r, &s), account.known().unwrap());
                prop_assert_eq!(by_tables(digest), proved.ok().map(|signature| signature.odd()));
                prop_assert_eq!(by_tables(!digest), None);
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
