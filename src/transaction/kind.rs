//! The kinds of thing a key can be asked to sign, and what each stage needs to know of every one of them.

use std::fmt::Debug;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};

use crate::transaction::{Filled, Signature, Unsigned};

/// A kind of payload: [`Tx`], [`Message`](crate::transaction::Message), ….
///
/// The stages from `policy` on are generic over it, so that a message cannot be broadcast and a
/// transaction cannot skip its nonce.
pub trait Kind: Sized + Debug + Send + Sync + 'static {
    /// As policies and audit rows call it.
    const NAME: &'static str;

    /// How long the same intent of the same client is the same payload without being named so: not at all where it may be
    /// meant anew.
    const SAME_FOR: Option<Duration> = None;

    /// What policy judges: everything but the nonce.
    type Asked: Clone + Debug + Send + Sync + 'static;

    /// What is hashed and signed, to the bit.
    type Unsigned: Clone + Debug + Send + Sync + 'static;

    /// The account that is to sign.
    fn from(asked: &Self::Asked) -> Address;

    /// The nonce that this needs; `None` for kinds that use none.
    fn slot(asked: &Self::Asked) -> Option<Slot>;

    /// Whether it creates a contract, at the address that follows from its account and nonce.
    fn creates(_: &Self::Asked) -> bool {
        false
    }

    /// The fields that the caller set, in one canonical form: two requests with the same bytes ask for the
    /// same thing. What we filled in ourselves is not part of it.
    fn intent(asked: &Self::Asked) -> Vec<u8>;

    /// Puts the nonce in. `reserve` does this and nothing else to what policy judged.
    fn assign(asked: Self::Asked, nonce: Option<u64>) -> Self::Unsigned;

    /// The unsigned payload as an auditor would want to read it again: EIP-2718 bytes, or the message itself.
    fn unsigned_bytes(unsigned: &Self::Unsigned) -> Bytes;

    /// The 32 bytes that go to the token.
    fn digest(unsigned: &Self::Unsigned) -> B256;

    /// What leaves the process: payload and signature together.
    fn seal(unsigned: &Self::Unsigned, signature: Signature) -> Sealed;
}

/// A kind that is sent to the network once it is recorded.
pub trait Sendable: Kind {}

/// What a signature makes of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// A transaction's EIP-2718 encoding, or a message's 65 bytes r, s, v.
    pub raw: Bytes,
    /// A transaction's hash, or the hash a message was signed under.
    pub hash: B256,
}

/// A claim to a nonce of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub chain: u64,
    /// The nonce that the client insists on.
    pub wanted: Option<u64>,
    /// How many transactions of this account the chain has mined (`latest`), as the node just said.
    pub mined: u64,
    pub fees: Fees,
    /// Whether the client set the fees, so that we may not raise them.
    pub fees_are_fixed: bool,
    pub stands: Stands,
}

/// What is to stand at a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Transaction,
    /// An authorization (EIP-7702). It waits for nothing below it: whoever hands it in chooses when.
    Authorization {
        /// Right behind the lowest free nonce, which is left for the transaction by which the account hands it in.
        behind: bool,
    },
}

impl Stands {
    pub const fn is_authorization(self) -> bool {
        matches!(self, Self::Authorization { .. })
    }
}

/// What a transaction pays for a unit of gas, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fees {
    /// Types 0 (EIP-155) and 1 (EIP-2930).
    GasPrice(u128),
    /// Types 2 (EIP-1559) and 4 (EIP-7702).
    Dynamic { max_fee_per_gas: u128, max_priority_fee_per_gas: u128 },
    /// Type 3 (EIP-4844).
    Blob { max_fee_per_gas: u128, max_priority_fee_per_gas: u128, max_fee_per_blob_gas: u128 },
}

impl Fees {
    /// From the figures, whatever form they were written in.
    pub const fn of(
        max_fee_per_gas: u128,
        max_priority_fee_per_gas: u128,
        max_fee_per_blob_gas: Option<u128>,
    ) -> Self {
        match max_fee_per_blob_gas {
            Some(max_fee_per_blob_gas) => {
                Self::Blob { max_fee_per_gas, max_priority_fee_per_gas, max_fee_per_blob_gas }
            }
            None => Self::Dynamic { max_fee_per_gas, max_priority_fee_per_gas },
        }
    }

    /// The most that one unit of gas can cost.
    pub const fn max_per_gas(&self) -> u128 {
        match *self {
            Self::GasPrice(price) => price,
            Self::Dynamic { max_fee_per_gas, .. } | Self::Blob { max_fee_per_gas, .. } => max_fee_per_gas,
        }
    }

    /// What of it can go to the block's proposer.
    pub const fn max_priority(&self) -> u128 {
        match *self {
            Self::GasPrice(price) => price,
            Self::Dynamic { max_priority_fee_per_gas, .. } | Self::Blob { max_priority_fee_per_gas, .. } => {
                max_priority_fee_per_gas
            }
        }
    }

    /// The most that one unit of blob gas can cost; nothing where there are no blobs.
    pub const fn max_per_blob_gas(&self) -> Option<u128> {
        match *self {
            Self::Blob { max_fee_per_blob_gas, .. } => Some(max_fee_per_blob_gas),
            Self::GasPrice(_) | Self::Dynamic { .. } => None,
        }
    }

    /// Whether a pool that holds `other` would take this in its place: each figure higher by what pools ask for.
    pub fn outbids(&self, other: &Self) -> bool {
        self.at_least(&other.raised()) == *self
    }

    /// The least that outbids this: 10 % more of each figure, and where there are blobs twice as much (geth's and reth's
    /// pools for those ask for 100 %).
    #[must_use]
    pub fn raised(&self) -> Self {
        let raised = if self.max_per_blob_gas().is_some() { doubled } else { raised };
        self.each(raised)
    }

    /// With `more` of each figure.
    #[must_use]
    pub fn each(&self, more: impl Fn(u128) -> u128) -> Self {
        Self::of(more(self.max_per_gas()), more(self.max_priority()), self.max_per_blob_gas().map(&more))
    }

    /// Each figure at least as high as `floor`'s, in this one's own form.
    #[must_use]
    pub fn at_least(&self, floor: &Self) -> Self {
        let higher = self.highest(floor);
        match *self {
            Self::GasPrice(_) => Self::GasPrice(higher.max_per_gas().max(higher.max_priority())),
            Self::Dynamic { .. } => Self::of(higher.max_per_gas(), higher.max_priority(), None),
            Self::Blob { .. } => higher,
        }
    }

    /// The higher one of each figure of both.
    #[must_use]
    pub fn highest(&self, other: &Self) -> Self {
        Self::of(
            self.max_per_gas().max(other.max_per_gas()),
            self.max_priority().max(other.max_priority()),
            self.max_per_blob_gas().max(other.max_per_blob_gas()),
        )
    }
}

/// 10 % more, rounded up, and never the same figure again.
fn raised(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(10)).max(fee.saturating_add(1))
}

/// 100 % more, and never the same figure again.
fn doubled(fee: u128) -> u128 {
    fee.saturating_mul(2).max(fee.saturating_add(1))
}

/// A transaction that is signed here, of any type from 0 to 4.
#[derive(Clone, Copy, Debug)]
pub enum Tx {}

impl Sendable for Tx {}

impl Kind for Tx {
    const NAME: &'static str = "transaction";
    type Asked = Filled;
    type Unsigned = Unsigned;

    fn from(asked: &Filled) -> Address {
        asked.from()
    }

    fn slot(asked: &Filled) -> Option<Slot> {
        Some(asked.slot())
    }

    fn creates(asked: &Filled) -> bool {
        asked.to().is_none()
    }

    fn intent(asked: &Filled) -> Vec<u8> {
        asked.request().intent()
    }

    fn assign(asked: Filled, nonce: Option<u64>) -> Unsigned {
        // A transaction always has a slot, so the ledger always gives a nonce; without one, the
        // unusable nonce 2^64-1 (EIP-2681) keeps the payload from ever being executed.
        asked.assign(nonce.unwrap_or(u64::MAX))
    }

    fn unsigned_bytes(unsigned: &Unsigned) -> Bytes {
        unsigned.bytes()
    }

    fn digest(unsigned: &Unsigned) -> B256 {
        unsigned.digest()
    }

    fn seal(unsigned: &Unsigned, signature: Signature) -> Sealed {
        unsigned.seal(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbidding_means_ten_per_cent_on_both_figures() {
        let old = Fees::Dynamic { max_fee_per_gas: 1000, max_priority_fee_per_gas: 1 };
        let dearer = Fees::Dynamic { max_fee_per_gas: 1100, max_priority_fee_per_gas: 1 };
        assert!(!dearer.outbids(&old), "the priority fee did not rise");
        assert!(old.raised().outbids(&old));
        assert!(!Fees::GasPrice(1099).outbids(&Fees::GasPrice(1000)));
        assert!(Fees::GasPrice(1100).outbids(&Fees::GasPrice(1000)));
        assert!(Fees::GasPrice(0).raised().outbids(&Fees::GasPrice(0)));
        assert!(Fees::GasPrice(5).at_least(&old.raised()).outbids(&old));
    }

    #[test]
    fn a_figure_is_raised_by_a_tenth_and_at_least_by_one() {
        for (fee, more) in
            [(0, 1), (1, 2), (9, 10), (10, 11), (11, 13), (100, 110), (101, 112), (u128::MAX, u128::MAX)]
        {
            assert_eq!(raised(fee), more, "{fee}");
        }
        let of = |max, priority| Fees::Dynamic { max_fee_per_gas: max, max_priority_fee_per_gas: priority };
        assert_eq!(of(100, 10).raised(), of(110, 11));
        for (fees, outbids) in
            [(of(110, 11), true), (of(109, 11), false), (of(110, 10), false), (Fees::GasPrice(110), true)]
        {
            assert_eq!(fees.outbids(&of(100, 10)), outbids, "{fees:?}");
        }
        assert_eq!((Fees::GasPrice(5).max_per_gas(), Fees::GasPrice(5).max_priority()), (5, 5));
        assert_eq!((of(7, 3).max_per_gas(), of(7, 3).max_priority()), (7, 3));
    }

    /// geth's and reth's pools for blobs ask for 100 % more of each of the three figures.
    #[test]
    fn what_has_blobs_is_outbid_by_twice_each_figure() {
        let old = Fees::of(100, 10, Some(7));
        assert_eq!(old.raised(), Fees::of(200, 20, Some(14)));
        for (max, priority, blob, outbids) in [
            (200, 20, Some(14), true),
            (199, 20, Some(14), false),
            (200, 19, Some(14), false),
            (200, 20, Some(13), false),
            (200, 20, None, true),
            (199, 20, None, false),
        ] {
            let fees = Fees::of(max, priority, blob);
            assert_eq!(fees.outbids(&old), outbids, "{fees:?}");
        }
        assert_eq!([0, 1, 2, u128::MAX].map(doubled), [1, 2, 4, u128::MAX]);
        assert!(Fees::of(110, 11, Some(1)).outbids(&Fees::of(100, 10, None)));
        assert_eq!(Fees::of(1, 5, Some(7)).highest(&Fees::of(3, 2, None)), Fees::of(3, 5, Some(7)));
        assert_eq!(Fees::of(1, 5, None).highest(&Fees::of(3, 2, Some(7))), Fees::of(3, 5, Some(7)));
        assert_eq!(Fees::GasPrice(4).highest(&Fees::of(3, 6, None)), Fees::of(4, 6, None));
    }

    #[test]
    fn a_floor_is_kept_in_each_form() {
        let of = |max, priority| Fees::of(max, priority, None);
        for (fees, floor, is) in [
            (of(5, 1), of(3, 2), of(5, 2)),
            (of(5, 2), of(7, 1), of(7, 2)),
            (of(5, 2), Fees::GasPrice(4), of(5, 4)),
            (Fees::GasPrice(5), of(3, 7), Fees::GasPrice(7)),
            (Fees::GasPrice(5), of(9, 1), Fees::GasPrice(9)),
            (Fees::GasPrice(5), Fees::GasPrice(4), Fees::GasPrice(5)),
            (of(5, 2), Fees::of(7, 1, Some(9)), of(7, 2)),
            (Fees::of(5, 2, Some(3)), of(7, 1), Fees::of(7, 2, Some(3))),
            (Fees::of(5, 2, Some(3)), Fees::of(7, 1, Some(9)), Fees::of(7, 2, Some(9))),
        ] {
            assert_eq!(fees.at_least(&floor), is, "{fees:?} {floor:?}");
        }
        assert!(
            Stands::Authorization { behind: false }.is_authorization()
                && !Stands::Transaction.is_authorization()
        );
    }
}
