//! The three proofs that the ledger gives: reserved, signed, recorded.

use alloy_primitives::{Address, B256, Bytes};

use crate::identity::RequestId;
use crate::ledger::hands::Hold;
use crate::ledger::life::{State, Word};
use crate::ledger::store::Stored;
use crate::transaction::{
    AccountKey, Kind, NotOurs, Presigned, Sealed, Signature, SignedTransaction, recover,
};

/// A row of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub(in crate::ledger) i64);

/// What a signature is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// We send it, and go on sending it until the chain has decided.
    Send,
    /// The client gets it and sends it, or does not.
    Return,
}

/// Where a recorded payload stands among those at its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is live, and was recorded by this very task just now.
    Fresh,
    /// It is the one that is to be mined, or is.
    Live,
    /// A node refused it for good. It may be mined all the same.
    Refused,
    /// Another was signed in its place. It may be mined all the same.
    Outbid,
}

impl Standing {
    /// Whether it is to be mined, or is.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Fresh | Self::Live)
    }
}

/// What `reserve` found.
#[derive(Debug)]
pub enum Claim<K: Kind> {
    /// A new reservation: to be signed once, or voided.
    Fresh(Reserved<K>),
    /// The very same intent was recorded before: its bytes are sent again, nothing is signed.
    Known(Recorded<K>),
}

/// A durable intent to sign exactly this payload. Made by the ledger, after its commit, only.
#[derive(Debug)]
pub struct Reserved<K: Kind> {
    id: ReservationId,
    request: RequestId,
    from: Address,
    nonce: Option<u64>,
    purpose: Purpose,
    unsigned: K::Unsigned,
}

/// Proof that the account's key signed exactly this payload. Made by [`Reserved::seal`] only. It may not leave
/// the process: the ledger has not recorded it.
#[derive(Debug)]
pub struct Signed<K: Kind> {
    reserved: Reserved<K>,
    sealed: Sealed,
}

/// A signature that is durable, and so may leave. Made by the ledger, after its commit, only.
#[derive(Debug)]
pub struct Recorded<K: Kind> {
    id: ReservationId,
    request: RequestId,
    from: Address,
    nonce: Option<u64>,
    purpose: Purpose,
    standing: Standing,
    sealed: Sealed,
    hold: Hold,
    /// The last word of it when it was taken in hand; what is fresh has none.
    left: Option<Word>,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Kind> Reserved<K> {
    pub(in crate::ledger) const fn new(
        id: ReservationId,
        request: RequestId,
        from: Address,
        nonce: Option<u64>,
        purpose: Purpose,
        unsigned: K::Unsigned,
    ) -> Self {
        Self { id, request, from, nonce, purpose, unsigned }
    }

    pub const fn id(&self) -> ReservationId {
        self.id
    }

    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// The account whose key is to sign.
    pub const fn from(&self) -> Address {
        self.from
    }

    /// The 32 bytes for the token.
    pub fn digest(&self) -> B256 {
        K::digest(&self.unsigned)
    }

    /// Takes a token's raw `r ‖ s`: normalises it, and proves that it is by the key of `from`.
    pub fn seal(self, raw: &[u8; 64], key: &AccountKey) -> Result<Signed<K>, NotOurs> {
        if key.address() != self.from {
            return Err(NotOurs { expected: self.from });
        }
        let signature = key.prove(self.digest(), raw)?;
        Ok(self.sealed(signature))
    }

    fn sealed(self, signature: Signature) -> Signed<K> {
        let sealed = K::seal(&self.unsigned, signature);
        Signed { reserved: self, sealed }
    }
}

impl Reserved<Presigned> {
    /// Seals it with the signature that it came with, which is proved like a token's.
    pub fn signed_already(self) -> Result<Signed<Presigned>, NotOurs> {
        let signature = recover(self.digest(), self.unsigned.rs(), self.from)?;
        Ok(self.sealed(signature))
    }
}

impl<K: Kind> Signed<K> {
    pub const fn id(&self) -> ReservationId {
        self.reserved.id
    }

    pub(in crate::ledger) const fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    pub(in crate::ledger) const fn has_nonce(&self) -> bool {
        self.reserved.nonce.is_some()
    }

    pub(in crate::ledger) fn into_recorded(self, hold: Hold) -> Recorded<K> {
        let Self { reserved: Reserved { id, request, from, nonce, purpose, .. }, sealed } = self;
        Recorded::new(id, request, from, nonce, (purpose, Standing::Fresh), (sealed, hold, None))
    }
}

impl<K: Kind> Recorded<K> {
    fn new(
        id: ReservationId,
        request: RequestId,
        from: Address,
        nonce: Option<u64>,
        (purpose, standing): (Purpose, Standing),
        (sealed, hold, left): (Sealed, Hold, Option<Word>),
    ) -> Self {
        Self {
            id,
            request,
            from,
            nonce,
            purpose,
            standing,
            sealed,
            hold,
            left,
            kind: std::marker::PhantomData,
        }
    }

    pub const fn id(&self) -> ReservationId {
        self.id
    }

    pub const fn request(&self) -> RequestId {
        self.request
    }

    pub const fn from(&self) -> Address {
        self.from
    }

    pub const fn nonce(&self) -> Option<u64> {
        self.nonce
    }

    /// The same transaction with the blobs that it was handed in with. It may be recorded without them, as it was returned,
    /// and nodes take it with them only; they are no part of what is signed, and it names their hashes.
    #[must_use]
    pub fn with_blobs_of(mut self, signed: &SignedTransaction) -> Self {
        if signed.hash() == self.sealed.hash && signed.brings_blobs() {
            self.sealed.raw = signed.raw().clone();
        }
        self
    }

    /// Whether it is ours to send; what a client asked to have returned is the client's.
    pub fn is_ours_to_send(&self) -> bool {
        self.purpose == Purpose::Send
    }

    pub const fn standing(&self) -> Standing {
        self.standing
    }

    pub(in crate::ledger) const fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(in crate::ledger) const fn left(&self) -> Option<Word> {
        self.left
    }

    /// A transaction's EIP-2718 bytes, or a message's signature.
    pub const fn raw(&self) -> &Bytes {
        &self.sealed.raw
    }

    /// A transaction's hash, or the hash a message was signed under.
    pub const fn hash(&self) -> B256 {
        self.sealed.hash
    }
}

impl<K: Kind> From<Stored> for Recorded<K> {
    /// As it is read back: another may have sent it.
    fn from(stored: Stored) -> Self {
        let request = RequestId::parse(&stored.request);
        let sealed = Sealed { raw: stored.raw, hash: stored.hash };
        let purpose = if stored.returned { Purpose::Return } else { Purpose::Send };
        let standing = match stored.state {
            State::Vacant => Standing::Refused,
            State::Outbid => Standing::Outbid,
            _ => Standing::Live,
        };
        let id = ReservationId(stored.id);
        Self::new(
            id,
            request,
            stored.account,
            stored.nonce,
            (purpose, standing),
            (sealed, stored.hold, stored.word),
        )
    }
}
