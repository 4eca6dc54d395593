//! Blobs (EIP-4844): what a transaction says of them, and the blobs themselves where they come along, with a proof for each
//! (EIP-4844) or for each cell (EIP-7594).
//!
//! Commitments and proofs are the client's: they are compared with each other and with the hashes, and not proved. A wrong
//! proof costs nothing, since no node takes it.

use std::sync::Arc;

use alloy_consensus::TxEip4844Variant;
use alloy_eips::eip4844::{
    BYTES_PER_BLOB, Blob, BlobTransactionSidecar, Bytes48, DATA_GAS_PER_BLOB, VERSIONED_HASH_VERSION_KZG,
};
use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant, CELLS_PER_EXT_BLOB};
use alloy_primitives::{B256, Bytes, U256, b256, keccak256};
use serde_json::Value;

use crate::transaction::RequestError;
use crate::transaction::fields::{list, number, same, words};

/// The versioned hash of a blob of zeros; its commitment, and each proof, is the point at infinity.
const OF_ZEROS: B256 = b256!("010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014");

/// What a transaction of type 3 says of its blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blobs {
    hashes: Vec<B256>,
    /// In wei for a unit of blob gas.
    max_fee_per_gas: u128,
    /// What goes to the network with it, and is no part of what is signed.
    sidecar: Option<Sidecar>,
}

/// The blobs themselves, and what names them with their proofs: some milliseconds of hashing, so it is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sidecar {
    whole: Arc<BlobTransactionSidecarVariant>,
    hash: B256,
}

/// The fields of a transaction object that are about blobs.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub blobs: Option<Value>,
    pub hashes: Option<Value>,
    pub version: Option<Value>,
    pub max_fee: Option<Value>,
    pub commitments: Option<Value>,
    pub proofs: Option<Value>,
    pub cell_proofs: Option<Value>,
}

/// Why what a transaction says of its blobs is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobsError {
    #[error("a blob transaction must state `maxFeePerBlobGas`: the node is not asked what a blob may cost")]
    NoFee,
    #[error("a blob transaction must state `blobVersionedHashes`, or come with its `blobs`")]
    None,
    #[error("a blob transaction is sent with its `blobs`; eth_signTransaction signs one without")]
    NotAlong,
    #[error("a hash of `blobVersionedHashes` is no hash of a KZG commitment: it must begin with 0x01")]
    Version,
    #[error("`{0}` goes with `blobs` only: together they are what goes to the network")]
    Alone(&'static str),
    #[error("`blobs` come with `commitments`, and with `proofs` or `cellProofs`; Chancery makes none")]
    NoProofs,
    #[error(
        "there are {blobs} blobs, {commitments} commitments and {proofs} proofs: one for each, or 128 for each (cells)"
    )]
    Counts { blobs: usize, commitments: usize, proofs: usize },
    #[error("each of `{0}` must be {1} bytes")]
    Size(&'static str, usize),
    #[error("`blobVersionedHashes` are not those of the commitments")]
    OtherHashes,
    #[error("`blobVersion` is 0x0 for a proof for each blob, 0x1 for one for each cell; it is not what came")]
    OtherVersion,
}

impl Blobs {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.hashes.len()
    }

    pub fn hashes(&self) -> &[B256] {
        &self.hashes
    }

    /// The most for a unit of blob gas, in wei.
    pub const fn max_fee_per_gas(&self) -> u128 {
        self.max_fee_per_gas
    }

    /// The most that they can cost together, in wei.
    pub fn max_fee(&self) -> U256 {
        let gas = U256::from(self.count()).saturating_mul(U256::from(DATA_GAS_PER_BLOB));
        gas.saturating_mul(U256::from(self.max_fee_per_gas))
    }

    /// Whether they came along: without them no node takes the transaction.
    pub const fn came_along(&self) -> bool {
        self.sidecar.is_some()
    }

    pub(super) fn sidecar(&self) -> Option<BlobTransactionSidecarVariant> {
        self.sidecar.as_ref().map(|sidecar| sidecar.whole.as_ref().clone())
    }

    /// Names what came along, if something did.
    pub(super) fn sidecar_hash(&self) -> Option<B256> {
        self.sidecar.as_ref().map(|sidecar| sidecar.hash)
    }

    /// Those of a transaction that was signed before. What came along is compared, and left out.
    pub(super) fn of_signed(signed: &TxEip4844Variant) -> Result<Self, BlobsError> {
        let tx = signed.tx();
        if let Some(sidecar) = signed.sidecar() {
            let proofs = match sidecar {
                BlobTransactionSidecarVariant::Eip4844(sidecar) => sidecar.proofs.len(),
                BlobTransactionSidecarVariant::Eip7594(sidecar) => sidecar.cell_proofs.len(),
            };
            let for_each = match sidecar {
                BlobTransactionSidecarVariant::Eip4844(_) => 1,
                BlobTransactionSidecarVariant::Eip7594(_) => CELLS_PER_EXT_BLOB,
            };
            let (blobs, commitments) = (sidecar.blobs().len(), sidecar.commitments().len());
            if commitments != blobs || proofs != blobs.saturating_mul(for_each) {
                return Err(BlobsError::Counts { blobs, commitments, proofs });
            }
            if !sidecar.versioned_hashes().eq(tx.blob_versioned_hashes.iter().copied()) {
                return Err(BlobsError::OtherHashes);
            }
        }
        let hashes = tx.blob_versioned_hashes.clone();
        Self { hashes, max_fee_per_gas: tx.max_fee_per_blob_gas, sidecar: None }.checked()
    }

    /// Those of a transaction that was signed before, with what came along; nothing where that is not there.
    pub(super) fn of_sent(signed: &TxEip4844Variant) -> Option<Self> {
        let sidecar = Sidecar::of(signed.sidecar()?.clone());
        Some(Self { sidecar: Some(sidecar), ..Self::of_signed(signed).ok()? })
    }

    /// One of zeros, that costs nothing yet, with a proof for it or for its cells.
    pub(super) fn of_zeros(for_the_blob: bool) -> Self {
        let mut infinity = Bytes48::ZERO;
        if let Some(first) = infinity.first_mut() {
            *first = 0xc0;
        }
        let (blobs, commitments) = (vec![Blob::ZERO], vec![infinity]);
        let whole = if for_the_blob {
            BlobTransactionSidecar { blobs, commitments, proofs: vec![infinity] }.into()
        } else {
            let cell_proofs = vec![infinity; CELLS_PER_EXT_BLOB];
            BlobTransactionSidecarEip7594 { blobs, commitments, cell_proofs }.into()
        };
        Self { hashes: vec![OF_ZEROS], max_fee_per_gas: 0, sidecar: Some(Sidecar::of(whole)) }
    }

    pub fn is_one_of_zeros(&self) -> bool {
        self.hashes == [OF_ZEROS]
    }

    /// Whether they came with a proof for each blob (EIP-4844), and not for its cells.
    pub(super) fn has_proofs_for_blobs(&self) -> bool {
        let sidecar = self.sidecar.as_ref().map(|sidecar| sidecar.whole.as_ref());
        matches!(sidecar, Some(BlobTransactionSidecarVariant::Eip4844(_)))
    }

    /// The same at this most for a unit of blob gas, in wei.
    #[must_use]
    pub(super) fn paying(self, max_fee_per_gas: u128) -> Self {
        Self { max_fee_per_gas, ..self }
    }

    fn checked(self) -> Result<Self, BlobsError> {
        if self.hashes.is_empty() {
            return Err(BlobsError::None);
        }
        let is_kzg = |hash: &B256| hash.first() == Some(&VERSIONED_HASH_VERSION_KZG);
        if self.hashes.iter().all(is_kzg) { Ok(self) } else { Err(BlobsError::Version) }
    }
}

impl Sidecar {
    fn of(whole: BlobTransactionSidecarVariant) -> Self {
        Self { hash: keccak256(alloy_rlp::encode(&whole)), whole: Arc::new(whole) }
    }
}

impl Written {
    /// The name of one that is there.
    pub fn first(&self) -> Option<&'static str> {
        let Self { blobs, hashes, version, max_fee, commitments, proofs, cell_proofs } = self;
        let fields = [
            ("blobs", blobs),
            ("blobVersionedHashes", hashes),
            ("blobVersion", version),
            ("maxFeePerBlobGas", max_fee),
            ("commitments", commitments),
            ("proofs", proofs),
            ("cellProofs", cell_proofs),
        ];
        fields.into_iter().find(|(_, field)| field.is_some()).map(|(name, _)| name)
    }

    pub fn read(&self) -> Result<Blobs, RequestError> {
        let max_fee_per_gas = number("maxFeePerBlobGas", self.max_fee.as_ref())?.ok_or(BlobsError::NoFee)?;
        let sidecar = self.sidecar()?;
        let stated = words("blobVersionedHashes", self.hashes.as_ref())?;
        let meant = sidecar.as_ref().map(|sidecar| sidecar.versioned_hashes().collect::<Vec<_>>());
        let hashes = match (stated, meant) {
            (Some(stated), Some(meant)) if stated != meant => return Err(BlobsError::OtherHashes.into()),
            (stated, meant) => stated.or(meant).ok_or(BlobsError::None)?,
        };
        let version: Option<u64> = number("blobVersion", self.version.as_ref())?;
        match (version, &sidecar) {
            (None, _)
            | (Some(0), Some(BlobTransactionSidecarVariant::Eip4844(_)))
            | (Some(1), Some(BlobTransactionSidecarVariant::Eip7594(_))) => {}
            _ => return Err(BlobsError::OtherVersion.into()),
        }
        let blobs = Blobs { hashes, max_fee_per_gas, sidecar: None }.checked()?;
        Ok(Blobs { sidecar: sidecar.map(Sidecar::of), ..blobs })
    }

    fn sidecar(&self) -> Result<Option<BlobTransactionSidecarVariant>, RequestError> {
        let commitments = list("commitments", self.commitments.as_ref())?;
        let proofs = list("proofs", self.proofs.as_ref())?;
        let cells = list("cellProofs", self.cell_proofs.as_ref())?;
        let Some(blobs) = list("blobs", self.blobs.as_ref())? else {
            let named = [("commitments", &commitments), ("proofs", &proofs), ("cellProofs", &cells)];
            return match named.iter().find(|(_, there)| there.is_some()) {
                Some((name, _)) => Err(BlobsError::Alone(name).into()),
                None => Ok(None),
            };
        };
        // geth has one name for both kinds of proof.
        let proofs = same(("proofs", proofs), ("cellProofs", cells))?;
        let (commitments, proofs) = commitments.zip(proofs).ok_or(BlobsError::NoProofs)?;
        let counts =
            BlobsError::Counts { blobs: blobs.len(), commitments: commitments.len(), proofs: proofs.len() };
        let is_for_cells = proofs.len() == blobs.len().saturating_mul(CELLS_PER_EXT_BLOB);
        if commitments.len() != blobs.len() || !(is_for_cells || proofs.len() == blobs.len()) {
            return Err(counts.into());
        }
        let blobs = on_the_heap(&blobs)?;
        let (commitments, proofs) = (short("commitments", &commitments)?, short("proofs", &proofs)?);
        Ok(Some(if is_for_cells {
            BlobTransactionSidecarEip7594 { blobs, commitments, cell_proofs: proofs }.into()
        } else {
            BlobTransactionSidecar { blobs, commitments, proofs }.into()
        }))
    }
}

/// Copied from where they are to where they stay: on a stack there is room for few of them.
fn on_the_heap(items: &[Bytes]) -> Result<Vec<Blob>, BlobsError> {
    let mut blobs = vec![Blob::ZERO; items.len()];
    for (blob, bytes) in blobs.iter_mut().zip(items) {
        if bytes.len() != BYTES_PER_BLOB {
            return Err(BlobsError::Size("blobs", BYTES_PER_BLOB));
        }
        blob.copy_from_slice(bytes);
    }
    Ok(blobs)
}

/// Points of the curve, compressed.
fn short(field: &'static str, items: &[Bytes]) -> Result<Vec<Bytes48>, BlobsError> {
    items
        .iter()
        .map(|item| Bytes48::try_from(item.as_ref()).map_err(|_| BlobsError::Size(field, 48)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k256::ecdsa::SigningKey;
    use serde_json::json;

    use super::*;
    use crate::transaction::{
        Filled, Kind as _, PresignedError, Quote, QuotedFees, Request, Sealed, SignedTransaction, Tx, recover,
    };

    const FROM: &str = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F";
    const TO: &str = "0x3535353535353535353535353535353535353535";

    fn object(more: &Value) -> Value {
        let mut all = json!({
            "from": FROM, "to": TO, "gas": "0x5208", "maxFeePerGas": "0x6fc23ac00", "maxPriorityFeePerGas": "0x3b9aca00",
        });
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    }

    fn parse(more: &Value) -> Result<Request, RequestError> {
        Request::parse(Some(&json!([object(more)]).to_string()))
    }

    fn fill(request: Request, chain_id: u64) -> Filled {
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        request.fill(&Quote { chain_id, mined: 0, gas: None, fees: Some(fees) }, None).unwrap()
    }

    fn sign(filled: Filled, nonce: u64) -> Sealed {
        let unsigned = Tx::assign(filled, Some(nonce));
        let digest = Tx::digest(&unsigned);
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let (signature, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
        let proved = recover(digest, &signature.to_bytes().into(), FROM.parse().unwrap()).unwrap();
        Tx::seal(&unsigned, proved)
    }

    fn repeated(byte: &str, times: usize) -> String {
        format!("0x{}", byte.repeat(times))
    }

    /// One blob with a commitment and so many proofs, none of which is right.
    fn blob(proofs: (&str, usize)) -> Value {
        let mut more = json!({
            "type": "0x3", "value": "0x1", "maxFeePerBlobGas": "0x1",
            "blobs": [repeated("00ab", 65_536)], "commitments": [repeated("c0", 48)],
        });
        more[proofs.0] = vec![repeated("d1", 48); proofs.1].into();
        more
    }

    /// Each made with ethers 6, an implementation of its own (RFC 6979, so that bytes can be compared).
    #[test]
    fn inv_05_a_blob_transaction_is_signed_bit_exactly_with_its_blobs_and_without() {
        let hashes = ["a1", "b2"].map(|byte| format!("0x01{}", byte.repeat(31)));
        // As the OP Stack's signer client asks: no type, and null for what is not there.
        let batcher = json!({
            "gasPrice": null, "value": "0x0", "data": "0x", "input": null, "nonce": "0x7", "chainId": "0x1",
            "maxFeePerBlobGas": "0x12a05f200", "blobVersionedHashes": hashes,
        });
        let request = parse(&batcher).unwrap();
        let filled = fill(request.clone(), 1);
        assert_eq!(
            filled.max_execution_fee(),
            U256::from(21_000_u64 * 30_000_000_000 + 2 * 131_072 * 5_000_000_000)
        );
        let canonical = sign(filled, 7);
        assert_eq!(
            canonical.raw.to_string(),
            "0x03f8b50107843b9aca008506fc23ac008252089435353535353535353535353535353535353535358080c085012a05f200f842a001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a001b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b280a001ed34d4ffa53ac743f8a214c081c175f385f59c1efcc5716cf42e087b2f936ba02207e0649bb1e757f25011af5f713c3f1128cdecbe0a3eb5192f145077199e31"
        );
        assert_eq!(
            canonical.hash.to_string(),
            "0x062f38f5294445d22a9bb4d31a5cc681c06bcc107ea279df687c91348fd8ebb2"
        );
        assert!(request.to_be_sent().is_err(), "no node takes it without its blobs");

        let hash = "0xe740c278858477f73f3a193e53f6bb92e25f93eae97f348e8222a45240eebac9";
        let mut intents = BTreeSet::new();
        for (proofs, length, bytes) in [
            (("proofs", 1), 131_332, "0xb5266fef0d031f12f5c32aba7002fb4da7a2bc77a90de74d078ed18e7fb6e99e"),
            (
                ("cellProofs", 128),
                137_558,
                "0xd88c0be2235aaf559ac3bcbff8fec202dcfad0b49df608db1d03d5625f1b62ce",
            ),
            (("proofs", 128), 137_558, "0xd88c0be2235aaf559ac3bcbff8fec202dcfad0b49df608db1d03d5625f1b62ce"),
        ] {
            let request = parse(&blob(proofs)).unwrap().to_be_sent().unwrap();
            intents.insert(request.intent());
            let network = sign(fill(request, 11_155_111), 0);
            assert_eq!((network.raw.len(), keccak256(&network.raw).to_string().as_str()), (length, bytes));
            assert_eq!(network.hash.to_string(), hash, "whatever came along");
        }
        assert_eq!(intents.len(), 2, "what is recorded with other proofs would not do");
    }

    #[test]
    fn a_blob_transaction_that_came_signed_is_read_in_both_forms() {
        let network = sign(fill(parse(&blob(("cellProofs", 128))).unwrap(), 5), 3);
        let read = SignedTransaction::decode(network.raw.clone()).unwrap();
        assert_eq!((read.hash(), read.from().to_string().as_str()), (network.hash, FROM));
        assert!(read.brings_blobs());
        assert_eq!(read.filled().blobs().map(Blobs::count), Some(1));
        // Without what is only for the network it is the same transaction.
        let mut stated = blob(("cellProofs", 128));
        let hashes: Vec<_> = read.filled().blobs().unwrap().hashes().to_vec();
        for key in ["blobs", "commitments", "cellProofs"] {
            stated.as_object_mut().unwrap().remove(key);
        }
        stated["blobVersionedHashes"] = json!(hashes);
        let canonical = sign(fill(parse(&stated).unwrap(), 5), 3);
        let short = SignedTransaction::decode(canonical.raw.clone()).unwrap();
        assert_eq!((short.hash(), short.brings_blobs()), (network.hash, false));
        assert_eq!((read.with_blobs(), short.with_blobs()), (Ok(()), Err(BlobsError::NotAlong.into())));
        assert_eq!(short.filled(), read.filled());

        // Another commitment than the one that was signed for; and something after the whole.
        let mut other = network.raw.to_vec();
        let commitment = other.windows(48).position(|bytes| bytes == [0xc0; 48]).unwrap();
        other[commitment] = 0xc1;
        assert_eq!(
            SignedTransaction::decode(other.into()),
            Err(PresignedError::Blobs(BlobsError::OtherHashes))
        );
        // More commitments or more proofs than blobs.
        let with = |change: fn(&mut Vec<Bytes48>, &mut Vec<Bytes48>)| {
            use alloy_consensus::TxEnvelope;
            use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
            let TxEnvelope::Eip4844(signed) = TxEnvelope::decode_2718_exact(&network.raw).unwrap() else {
                panic!()
            };
            let (variant, signature, hash) = signed.into_parts();
            let TxEip4844Variant::TxEip4844WithSidecar(mut whole) = variant else { panic!() };
            let BlobTransactionSidecarVariant::Eip7594(sidecar) = &mut whole.sidecar else { panic!() };
            change(&mut sidecar.commitments, &mut sidecar.cell_proofs);
            let signed = alloy_consensus::Signed::new_unchecked(whole.into(), signature, hash);
            SignedTransaction::decode(TxEnvelope::Eip4844(signed).encoded_2718().into()).map(drop)
        };
        let counts = |blobs, commitments, proofs| {
            Err(PresignedError::Blobs(BlobsError::Counts { blobs, commitments, proofs }))
        };
        assert_eq!(with(|_, _| {}), Ok(()));
        assert_eq!(with(|commitments, _| commitments.push([0xc0; 48].into())), counts(1, 2, 128));
        assert_eq!(with(|_, proofs| proofs.truncate(127)), counts(1, 1, 127));
        let longer = [network.raw.as_ref(), &[0]].concat();
        assert_eq!(SignedTransaction::decode(longer.into()), Err(PresignedError::Undecodable));
        assert!(SignedTransaction::decode(Bytes::copy_from_slice(&network.raw[..500])).is_err());
    }

    #[test]
    fn inv_04_what_is_said_of_blobs_must_be_whole() {
        let right = blob(("proofs", 1));
        assert!(parse(&right).is_ok());
        let hash = json!([repeated("01", 32)]);
        for (key, value, said) in [
            ("maxFeePerBlobGas", Value::Null, "must state `maxFeePerBlobGas`"),
            ("blobs", Value::Null, "`commitments` goes with `blobs` only"),
            ("commitments", Value::Null, "come with `commitments`"),
            ("proofs", Value::Null, "come with `commitments`"),
            ("commitments", json!([]), "there are 1 blobs, 0 commitments and 1 proofs"),
            ("proofs", json!([repeated("d1", 48), repeated("d1", 48)]), "and 2 proofs"),
            (
                "cellProofs",
                json!([repeated("d2", 48)]),
                "`proofs` and `cellProofs` are both set and not equal",
            ),
            ("blobs", json!(["0x00"]), "each of `blobs` must be 131072 bytes"),
            ("commitments", json!(["0x00"]), "each of `commitments` must be 48 bytes"),
            ("blobVersionedHashes", hash.clone(), "are not those of the commitments"),
            ("blobVersion", json!("0x1"), "it is not what came"),
            ("blobs", json!("0x00"), "`blobs` must be a list"),
            ("to", Value::Null, "type 0x3 creates no contract"),
            ("gasPrice", json!("0x1"), "`gasPrice` and `maxFeePerGas` are both set"),
        ] {
            let mut wrong = right.clone();
            wrong[key] = value;
            let error = parse(&wrong).expect_err(said).to_string();
            assert!(error.contains(said), "{key}: {error}");
        }
        for (hashes, said) in [
            (Value::Null, "must state `blobVersionedHashes`"),
            (json!([]), "must state `blobVersionedHashes`"),
            (json!([repeated("02", 32)]), "it must begin with 0x01"),
            (json!(["0x01"]), "must be 32 bytes"),
        ] {
            let error = parse(&json!({ "maxFeePerBlobGas": "0x1", "blobVersionedHashes": hashes }));
            assert!(error.clone().unwrap_err().to_string().contains(said), "{said}: {error:?}");
        }
        // Hashes that are those of the commitments may be stated as well.
        let hashes = parse(&right).unwrap().blobs().unwrap().hashes().to_vec();
        let mut stated = right.clone();
        stated["blobVersionedHashes"] = json!(hashes);
        stated["blobVersion"] = json!("0x0");
        assert_eq!(parse(&stated), parse(&right));
        let one =
            |fee: &str| parse(&json!({ "maxFeePerBlobGas": fee, "blobVersionedHashes": hash })).unwrap();
        assert_ne!(one("0x1").intent(), one("0x2").intent());
    }

    #[test]
    fn what_was_sent_with_blobs_is_read_back_with_them_and_pays_more_for_them() {
        let asked = parse(&blob(("cellProofs", 128))).unwrap();
        let sent = sign(fill(asked.clone(), 1), 7);
        let again = Request::again(&sent.raw, FROM.parse().unwrap()).unwrap();
        let fees = crate::transaction::Fees::of(9, 8, Some(7));
        let paying = again.clone().paying(&fees);
        assert!(paying.does_the_same(&again), "all but the fees");
        let filled = fill(paying, 1);
        assert_eq!(filled.fees(), fees);
        let dearer = Filled::signed(FROM.parse().unwrap(), &sign(filled, 7).raw).unwrap();
        assert_eq!(dearer.fees(), fees);
        let sidecar = |request: &Request| request.blobs.as_ref().and_then(Blobs::sidecar_hash);
        assert!(sidecar(&again).is_some() && sidecar(&again) == sidecar(&asked));
        assert!(!again.does_the_same(&Request { blobs: None, ..again.clone() }));

        for proofs in [("cellProofs", 128), ("proofs", 1)] {
            let like = parse(&blob(proofs)).unwrap();
            let nothing = Request::nothing_with_a_blob(FROM.parse().unwrap(), 7, Some(&like));
            assert_eq!(
                (nothing.to(), nothing.value(), nothing.data().len()),
                (Some(nothing.from()), U256::ZERO, 0)
            );
            let blobs = nothing.blobs.as_ref().unwrap();
            assert!(blobs.is_one_of_zeros() && blobs.has_proofs_for_blobs() == (proofs.1 == 1));
            let whole = blobs.sidecar().unwrap();
            assert!(whole.versioned_hashes().eq([OF_ZEROS]), "its hash is its commitment's");
            let sent = sign(fill(nothing.paying(&fees), 1), 7);
            assert!(sent.raw.len() > BYTES_PER_BLOB, "it is sent");
        }
        assert!(!again.blobs.as_ref().unwrap().is_one_of_zeros());

        // Signed without them, it cannot be sent by anybody but who has them.
        let stated =
            json!({ "maxFeePerBlobGas": "0x1", "blobVersionedHashes": [format!("0x01{}", "a1".repeat(31))] });
        let canonical = sign(fill(parse(&stated).unwrap(), 1), 7);
        assert_eq!(Request::again(&canonical.raw, FROM.parse().unwrap()), None);
    }

    #[test]
    fn what_blobs_may_cost_is_not_raised_by_a_floor() {
        let mut open = object(&blob(("proofs", 1)));
        for fee in ["maxFeePerGas", "maxPriorityFeePerGas"] {
            open.as_object_mut().unwrap().remove(fee);
        }
        let request = Request::parse(Some(&json!([open]).to_string())).unwrap();
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        let quote = Quote { chain_id: 1, mined: 0, gas: None, fees: Some(fees) };
        let floor = crate::transaction::Fees::of(1000, 500, Some(70));
        let filled = request.fill(&quote, Some(&floor)).unwrap();
        assert_eq!(filled.fees(), crate::transaction::Fees::of(1000, 500, Some(1)));
    }
}
