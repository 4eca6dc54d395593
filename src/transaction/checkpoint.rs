//! Checkpoints of the audit chain: a statement of where every writer's chain stood, signed by a key of its own. The
//! signed bytes can be no transaction and no message.

use alloy_primitives::{Address, B256, Bytes, Keccak256};
use serde::{Deserialize, Serialize};

use crate::transaction::{Kind, Sealed, Signature, Slot, recover};

/// The kind of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub enum Checkpoint {}

/// 0x19 is no RLP and starts no transaction; EIP-191 gives the byte after it to no version that hashes to this.
const DOMAIN: &[u8] = b"\x19chancery checkpoint 1\n";

/// Where the chain stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// From 1, without a gap.
    pub checkpoint: u64,
    /// RFC 3339.
    pub at: String,
    /// Every writer's chain.
    pub heads: Vec<ChainHead>,
    /// The digest of the checkpoint before, or zero.
    pub previous: B256,
}

/// The end of one writer's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    pub writer: i64,
    pub seq: i64,
    pub hash: B256,
}

/// A statement as it is signed, and the key that is to sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedText {
    from: Address,
    text: String,
}

impl SealedText {
    pub fn new(from: Address, statement: &Statement) -> serde_json::Result<Self> {
        Ok(Self { from, text: serde_json::to_string(statement)? })
    }

    /// What is signed, to the byte.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What is hashed and signed.
pub fn checkpoint_digest(text: &str) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(DOMAIN);
    hasher.update(text);
    hasher.finalize()
}

/// Whether `key` signed this text: 65 bytes r, s, v.
pub fn is_signed_checkpoint(text: &str, key: Address, signature: &[u8]) -> bool {
    let Some((raw, [27 | 28])) = signature.split_first_chunk::<64>() else { return false };
    recover(checkpoint_digest(text), raw, key).is_ok()
}

impl Kind for Checkpoint {
    const NAME: &'static str = "checkpoint";
    type Asked = SealedText;
    type Unsigned = SealedText;

    fn from(asked: &SealedText) -> Address {
        asked.from
    }

    fn slot(_: &SealedText) -> Option<Slot> {
        None
    }

    fn intent(asked: &SealedText) -> Vec<u8> {
        asked.text.clone().into_bytes()
    }

    fn assign(asked: SealedText, _: Option<u64>) -> SealedText {
        asked
    }

    fn unsigned_bytes(unsigned: &SealedText) -> Bytes {
        Bytes::copy_from_slice(unsigned.text.as_bytes())
    }

    fn digest(unsigned: &SealedText) -> B256 {
        checkpoint_digest(&unsigned.text)
    }

    fn seal(unsigned: &SealedText, signature: Signature) -> Sealed {
        Sealed { raw: Bytes::copy_from_slice(&signature.to_rsv()), hash: Self::digest(unsigned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{eip191_hash_message, keccak256};

    fn statement() -> Statement {
        let heads = vec![ChainHead { writer: 0, seq: 7, hash: B256::repeat_byte(1) }];
        Statement { checkpoint: 1, at: "2026-01-01T00:00:00.000Z".to_owned(), heads, previous: B256::ZERO }
    }

    #[test]
    fn a_checkpoint_is_neither_a_message_nor_a_transaction() {
        let sealed = SealedText::new(Address::ZERO, &statement()).unwrap();
        let digest = Checkpoint::digest(&sealed);
        assert_ne!(digest, eip191_hash_message(sealed.text()));
        assert_ne!(digest, keccak256(sealed.text()));
        assert_eq!(Checkpoint::intent(&sealed), sealed.text().as_bytes());
        // Neither a list of RLP (legacy) nor a type that is in use begins so.
        assert_eq!(DOMAIN[0], 0x19);
        assert!(!matches!(DOMAIN[1], 0x00 | 0x01 | 0x45), "the versions that EIP-191 has");
        assert_eq!(serde_json::from_str::<Statement>(sealed.text()).unwrap(), statement());
    }

    #[test]
    fn inv_06_a_signature_of_another_key_or_another_text_is_none() {
        let key = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        let address = crate::transaction::address_of_point(point.as_bytes()).unwrap();
        let sealed = SealedText::new(address, &statement()).unwrap();
        let (raw, _) = key.sign_prehash_recoverable(Checkpoint::digest(&sealed).as_slice()).unwrap();
        let signature = recover(Checkpoint::digest(&sealed), &raw.to_bytes().into(), address).unwrap();
        let raw = Checkpoint::seal(&sealed, signature).raw;
        assert!(is_signed_checkpoint(sealed.text(), address, &raw));
        assert!(!is_signed_checkpoint(&sealed.text().replace('7', "8"), address, &raw));
        assert!(!is_signed_checkpoint(sealed.text(), Address::ZERO, &raw));
        assert!(!is_signed_checkpoint(sealed.text(), address, &raw[..64]));
    }

    #[test]
    fn a_checkpoint_is_its_text_and_its_key() {
        let key: Address = "0xd8da6bf26964af9d7eed9e03e53415d37aa96045".parse().unwrap();
        let sealed = SealedText::new(key, &statement()).unwrap();
        assert_eq!((<Checkpoint as Kind>::from(&sealed), Checkpoint::slot(&sealed)), (key, None));
        let unsigned = Checkpoint::assign(sealed.clone(), None);
        assert_eq!(unsigned, sealed);
        assert_eq!(Checkpoint::unsigned_bytes(&unsigned), Bytes::copy_from_slice(sealed.text().as_bytes()));
        assert_eq!(Checkpoint::digest(&unsigned), keccak256([DOMAIN, sealed.text().as_bytes()].concat()));
        assert!(
            sealed.text().starts_with(
                r#"{"checkpoint":1,"at":"2026-01-01T00:00:00.000Z","heads":[{"writer":0,"seq":7,"#
            )
        );
    }
}
