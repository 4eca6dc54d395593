//! A transaction that came signed: read strictly, its sender recovered. No key of ours is asked.

use std::time::Duration;

use alloy_consensus::{SignableTransaction as _, Transaction as _, TxEnvelope, TypedTransaction};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, B256, Bytes};
use serde_json::Value;

use crate::transaction::{
    Authorizations, AuthorizationsError, Blobs, BlobsError, FillError, Filled, Handed, Kind, MalformedValue,
    Sealed, Sendable, Signature, Slot, data, signer_of,
};

/// The kind of a transaction that came signed.
#[derive(Clone, Copy, Debug)]
pub enum Presigned {}

/// A signed transaction, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    filled: Filled,
    raw: Bytes,
    hash: B256,
    /// What its signature is over, and the signature: `r ‖ s`.
    unsigned: Bytes,
    digest: B256,
    rs: [u8; 64],
    brings_blobs: bool,
}

/// Why a signed transaction is not passed on, whatever a policy says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignedError {
    #[error("expected one parameter, the signed transaction as 0x and hexadecimal digits")]
    Parameters,
    #[error("the signed transaction {0}")]
    Hex(MalformedValue),
    #[error("the signed transaction cannot be decoded, or something stands after it")]
    Undecodable,
    #[error(
        "the signed transaction is not encoded as RLP and EIP-2718 demand: written again, it has other bytes"
    )]
    NotCanonical,
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    #[error(transparent)]
    Authorizations(#[from] AuthorizationsError),
    #[error("the transaction names no chain (EIP-155), so it could be sent on any")]
    Unprotected,
    #[error("the signature is none: no address recovers from it, or its s is in the upper half (EIP-2)")]
    Signature,
}

impl SignedTransaction {
    /// The parameters of `eth_sendRawTransaction`: the transaction, and what stands after it.
    pub fn parse(params: Option<&str>) -> Result<(Self, Vec<Value>), PresignedError> {
        let params: Result<Vec<Value>, _> = serde_json::from_str(params.unwrap_or("[]"));
        let mut params = params.map_err(|_| PresignedError::Parameters)?;
        let more = params.split_off(params.len().min(1));
        let [Value::String(text)] = params.as_slice() else { return Err(PresignedError::Parameters) };
        Ok((Self::decode(data(text).map_err(PresignedError::Hex)?)?, more))
    }

    /// Signed bytes: EIP-2718, or a transaction of before.
    pub fn decode(raw: Bytes) -> Result<Self, PresignedError> {
        let read = TxEnvelope::decode_2718_exact(&raw).map_err(|_| PresignedError::Undecodable)?;
        if read.encoded_2718() != raw {
            return Err(PresignedError::NotCanonical);
        }
        let mut brings_blobs = false;
        if let TxEnvelope::Eip4844(signed) = &read {
            Blobs::of_signed(signed.tx())?;
            brings_blobs = signed.tx().sidecar().is_some();
        }
        // Each costs a recovery, so they are read once.
        let authorizations = read.authorization_list().map(<[_]>::to_vec);
        let authorizations = authorizations.map(Authorizations::of_signed).transpose()?;
        if read.chain_id().is_none() {
            return Err(PresignedError::Unprotected);
        }
        let signature = read.signature();
        let mut rs = [0; 64];
        rs.copy_from_slice(&[signature.r().to_be_bytes::<32>(), signature.s().to_be_bytes::<32>()].concat());
        let digest = read.signature_hash();
        let from = signer_of(digest, &rs, signature.v()).ok_or(PresignedError::Signature)?;
        let filled = Filled::of_envelope(from, &read, authorizations).ok_or(PresignedError::Undecodable)?;
        if let Some(authorizations) = filled.authorizations()
            && authorizations.nonce_of_carrier(from)?.is_some_and(|nonce| nonce != read.nonce())
        {
            return Err(AuthorizationsError::OwnNonce.into());
        }
        let mut unsigned = Vec::new();
        TypedTransaction::from(read.clone()).encode_for_signing(&mut unsigned);
        Ok(Self { filled, hash: *read.tx_hash(), unsigned: unsigned.into(), digest, rs, brings_blobs, raw })
    }

    /// A transaction for another chain is not passed on.
    pub fn for_chain(self, ours: u64) -> Result<Self, FillError> {
        let other = self.filled.authorizations().and_then(|all| all.of_another_chain(ours));
        match (self.filled.chain_id(), other) {
            (asked, _) if asked != ours => Err(FillError::OtherChain { asked, ours }),
            (_, Some(asked)) => Err(FillError::OtherAuthorization { asked, ours }),
            _ => Ok(self),
        }
    }

    /// Whether its blobs came along.
    pub const fn brings_blobs(&self) -> bool {
        self.brings_blobs
    }

    /// Whether nodes would take it as it is: a transaction is sent with its blobs.
    pub fn with_blobs(&self) -> Result<(), PresignedError> {
        let has_all = self.filled.blobs().is_none() || self.brings_blobs;
        if has_all { Ok(()) } else { Err(BlobsError::NotAlong.into()) }
    }

    /// Marks authorizations as signed here: the ledger says so.
    #[must_use]
    pub fn recognising(mut self, known: &[Handed]) -> Self {
        self.filled.recognise(known);
        self
    }

    /// What it does.
    pub const fn filled(&self) -> &Filled {
        &self.filled
    }

    /// Who signed it.
    pub const fn from(&self) -> Address {
        self.filled.from()
    }

    /// Where it stands: its chain, account and nonce.
    pub fn place(&self) -> (u64, Address, u64) {
        // What is signed has its nonce.
        (self.filled.chain_id(), self.from(), self.filled.slot().wanted.unwrap_or_default())
    }

    pub const fn hash(&self) -> B256 {
        self.hash
    }

    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Its signature, `r ‖ s`.
    pub const fn rs(&self) -> &[u8; 64] {
        &self.rs
    }
}

impl Kind for Presigned {
    const NAME: &'static str = "presigned";

    /// It is one transaction however often it is handed in; one that is recorded is known by its hash, and this is for those
    /// that come at the same time.
    const SAME_FOR: Option<Duration> = Some(Duration::from_secs(60));

    type Asked = SignedTransaction;
    type Unsigned = SignedTransaction;

    fn from(asked: &SignedTransaction) -> Address {
        asked.from()
    }

    /// Its nonce is its sender's, of whom the ledger knows nothing.
    fn slot(_: &SignedTransaction) -> Option<Slot> {
        None
    }

    fn intent(asked: &SignedTransaction) -> Vec<u8> {
        asked.hash.to_vec()
    }

    fn assign(asked: SignedTransaction, _: Option<u64>) -> SignedTransaction {
        asked
    }

    fn unsigned_bytes(unsigned: &SignedTransaction) -> Bytes {
        unsigned.unsigned.clone()
    }

    fn digest(unsigned: &SignedTransaction) -> B256 {
        unsigned.digest
    }

    /// The bytes that came: of one digest and sender there is one low-s signature with these r and s.
    fn seal(unsigned: &SignedTransaction, _: Signature) -> Sealed {
        Sealed { raw: unsigned.raw.clone(), hash: unsigned.hash }
    }
}

impl Sendable for Presigned {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{Quote, QuotedFees, Request, Tx, address_of_point, recover};
    use alloy_primitives::hex;
    use k256::ecdsa::SigningKey;

    fn decode(text: &str) -> Result<SignedTransaction, PresignedError> {
        SignedTransaction::decode(hex::decode(text).unwrap().into())
    }

    /// Vectors of ethers (`@ethersproject/testcases`), of which these are a part: who signed what for which chain.
    #[test]
    fn ethers_transactions_have_their_senders() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/vectors/transactions.json")).unwrap();
        let (mut read, mut refused) = (0, 0);
        for vector in vectors {
            let (name, raw) = (&vector["name"], vector["raw"].as_str().unwrap());
            match decode(raw) {
                Ok(signed) => {
                    assert_eq!(serde_json::json!(signed.from()), vector["from"], "{name}");
                    assert_eq!(signed.filled().chain_id(), vector["chain"].as_u64().unwrap(), "{name}");
                    assert_eq!(alloy_primitives::keccak256(signed.raw()), signed.hash(), "{name}");
                    read += 1;
                }
                Err(why) => {
                    assert!(vector["refused"].as_str() == Some(&format!("{why:?}")), "{name}: {why:?}");
                    refused += 1;
                }
            }
        }
        assert!(read > 36 && refused > 2, "{read} {refused}");
    }

    /// Signed by a key of ours, each type once.
    fn signed() -> Vec<(Bytes, Address)> {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let from = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        let quote = Quote { chain_id: 5, mined: 0, gas: Some(50_000), fees: Some(fees) };
        let to = r#""to":"0x3535353535353535353535353535353535353535""#;
        let one = |fields: String| {
            let asked = format!(r#"[{{"from":"{from}","nonce":"0x7",{fields}}}]"#);
            let filled = Request::parse(Some(&asked)).unwrap().fill(&quote, None).unwrap();
            assert_eq!(Tx::creates(&filled), !fields.contains(to));
            let unsigned = Tx::assign(filled, Some(7));
            let (raw, _) = key.sign_prehash_recoverable(Tx::digest(&unsigned).as_slice()).unwrap();
            let signature = recover(Tx::digest(&unsigned), &raw.to_bytes().into(), from).unwrap();
            (Tx::seal(&unsigned, signature).raw, from)
        };
        let all = [
            format!(r#"{to},"gasPrice":"0x9","value":"0x1""#),
            format!(r#"{to},"type":"0x1","accessList":[{{"address":"{from}","storageKeys":[]}}]"#),
            format!(r#"{to},"data":"0x0102""#),
            r#""data":"0x6000""#.to_owned(),
        ];
        all.into_iter().map(one).collect()
    }

    #[test]
    fn what_came_is_what_leaves() {
        for (raw, from) in signed() {
            let read = SignedTransaction::decode(raw.clone()).unwrap();
            assert_eq!((read.from(), read.raw()), (from, &raw));
            assert_eq!(Presigned::intent(&read), alloy_primitives::keccak256(&raw).to_vec());
            let signature = recover(Presigned::digest(&read), read.rs(), from).unwrap();
            let sealed = Presigned::seal(&read, signature);
            assert_eq!((sealed.raw, sealed.hash), (raw.clone(), alloy_primitives::keccak256(&raw)));
            let nonce = TxEnvelope::decode_2718_exact(&raw).unwrap().nonce();
            assert_eq!(read.place(), (5, from, nonce));
            assert!(read.clone().for_chain(5).is_ok());
            assert!(!read.brings_blobs() && read.with_blobs().is_ok(), "it has none, and needs none");
            assert_eq!(read.for_chain(1), Err(FillError::OtherChain { asked: 5, ours: 1 }));
            let params = serde_json::json!([raw, 5]).to_string();
            assert_eq!(SignedTransaction::parse(Some(&params)).unwrap().1, [serde_json::json!(5)]);
        }
        for params in [None, Some("null"), Some("[]"), Some("[1]"), Some("{}"), Some(r#"["f8"]"#)] {
            assert!(SignedTransaction::parse(params).is_err(), "{params:?}");
        }
    }

    #[test]
    fn inv_04_bytes_that_another_decoder_could_read_otherwise_are_refused() {
        for (raw, from) in signed() {
            let trailing = [raw.as_ref(), &[0]].concat();
            assert_eq!(SignedTransaction::decode(trailing.into()), Err(PresignedError::Undecodable));
            let cut = raw.slice(..raw.len() - 1);
            assert_eq!(SignedTransaction::decode(cut), Err(PresignedError::Undecodable));
            // The same signature with s in the upper half and the other parity: the same sender by plain recovery.
            let high = high_s(&raw);
            assert_eq!(SignedTransaction::decode(high), Err(PresignedError::Signature));
            // Any other change of a bit is refused, or is another's.
            for at in 0..raw.len() {
                let mut flipped = raw.to_vec();
                flipped[at] ^= 1;
                let read = SignedTransaction::decode(flipped.into());
                assert!(read.is_err() || read.is_ok_and(|read| read.from() != from), "byte {at}");
            }
        }
    }

    fn high_s(raw: &Bytes) -> Bytes {
        use alloy_primitives::{U256, uint};
        const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
        let read = TxEnvelope::decode_2718_exact(raw).unwrap();
        let old = *read.signature();
        let turned = alloy_primitives::Signature::new(old.r(), N.wrapping_sub(old.s()), !old.v());
        let transaction = TypedTransaction::from(read);
        transaction.into_envelope(turned).encoded_2718().into()
    }
}
