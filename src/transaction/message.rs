//! Messages by EIP-191 (version 0x45, `personal_sign`): a text a wallet would show before it signs.

use alloy_primitives::{Address, B256, Bytes, eip191_hash_message};
use serde_json::Value;

use crate::transaction::{Kind, MalformedValue, Sealed, Signature, Slot, address, data};

/// The kind of a message. Raw hashes are no messages and cannot be signed at all.
#[derive(Clone, Copy, Debug)]
pub enum Message {}

/// A message and the account that is asked to sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    from: Address,
    bytes: Bytes,
}

/// Why a message cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error(
        "personal_sign takes two parameters, the message and the account (a third, the password, is ignored)"
    )]
    Parameters,
    #[error("eth_sign takes two parameters, the account and the message")]
    SignParameters,
    #[error("the message {0}; write its bytes as 0x and hexadecimal digits")]
    Message(MalformedValue),
    #[error("the account {0}")]
    Account(MalformedValue),
}

impl Text {
    /// The parameters of `personal_sign`: message, account, and a password that older tools still send.
    pub fn parse(params: Option<&str>) -> Result<Self, MessageError> {
        let params: Vec<Value> =
            serde_json::from_str(params.unwrap_or("[]")).map_err(|_| MessageError::Parameters)?;
        let (Value::String(text), Value::String(account)) = (match params.as_slice() {
            [text, account] | [text, account, Value::String(_)] => (text, account),
            _ => return Err(MessageError::Parameters),
        }) else {
            return Err(MessageError::Parameters);
        };
        Ok(Self {
            from: address(account).map_err(MessageError::Account)?,
            bytes: data(text).map_err(MessageError::Message)?,
        })
    }

    /// The parameters of `eth_sign`: account, message. What is signed is the message by EIP-191, as every node does by
    /// now; a raw hash cannot be signed.
    pub fn parse_sign(params: Option<&str>) -> Result<Self, MessageError> {
        let params: Result<[String; 2], _> = serde_json::from_str(params.unwrap_or("[]"));
        let [account, text] = params.map_err(|_| MessageError::SignParameters)?;
        Ok(Self {
            from: address(&account).map_err(MessageError::Account)?,
            bytes: data(&text).map_err(MessageError::Message)?,
        })
    }

    pub const fn new(from: Address, bytes: Bytes) -> Self {
        Self { from, bytes }
    }

    pub const fn from(&self) -> Address {
        self.from
    }

    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message as text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl Kind for Message {
    const NAME: &'static str = "message";
    type Asked = Text;
    type Unsigned = Text;

    fn from(asked: &Text) -> Address {
        asked.from
    }

    fn slot(_: &Text) -> Option<Slot> {
        None
    }

    fn intent(asked: &Text) -> Vec<u8> {
        asked.bytes.to_vec()
    }

    fn assign(asked: Text, _: Option<u64>) -> Text {
        asked
    }

    fn unsigned_bytes(unsigned: &Text) -> Bytes {
        unsigned.bytes.clone()
    }

    fn digest(unsigned: &Text) -> B256 {
        eip191_hash_message(&unsigned.bytes)
    }

    fn seal(unsigned: &Text, signature: Signature) -> Sealed {
        Sealed { raw: Bytes::copy_from_slice(&signature.to_rsv()), hash: Self::digest(unsigned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: &str = "0xd8da6bf26964af9d7eed9e03e53415d37aa96045";

    #[test]
    fn two_or_three_parameters_are_taken() {
        let two = Text::parse(Some(&format!(r#"["0x68656c6c6f","{WHO}"]"#))).unwrap();
        assert_eq!(two.as_str(), Some("hello"));
        assert_eq!(Text::parse(Some(&format!(r#"["0x68656c6c6f","{WHO}",""]"#))), Ok(two));
        for params in [None, Some("null"), Some("[]"), Some(r#"["0x00"]"#), Some(r#"["0x00",1]"#), Some("{}")]
        {
            assert_eq!(Text::parse(params), Err(MessageError::Parameters), "{params:?}");
        }
        let plain = Text::parse(Some(&format!(r#"["hello","{WHO}"]"#)));
        assert_eq!(plain, Err(MessageError::Message(MalformedValue::NoPrefix)));
    }

    #[test]
    fn eth_sign_has_the_account_first() {
        let text = Text::parse_sign(Some(&format!(r#"["{WHO}","0x68656c6c6f"]"#))).unwrap();
        assert_eq!((text.as_str(), text.from()), (Some("hello"), WHO.parse().unwrap()));
        assert_eq!(Message::intent(&text), b"hello", "what is asked is what tells two askings apart");
        let turned = Text::parse_sign(Some(&format!(r#"["0x68656c6c6f","{WHO}"]"#)));
        assert_eq!(turned, Err(MessageError::Account(MalformedValue::NotAnAddress)));
        for params in [None, Some("null"), Some("[]"), Some(r#"["0x00",1]"#), Some(r#"["0x00","0x","0x"]"#)] {
            assert_eq!(Text::parse_sign(params), Err(MessageError::SignParameters), "{params:?}");
        }
    }

    #[test]
    fn the_hash_is_eip_191s() {
        let text = Text::new(WHO.parse().unwrap(), Bytes::from_static(b"hello"));
        let hash = "0x50b2c43fd39106bafbba0da34fc430e1f91e3c96ea2acee2bc34119f92b37750";
        assert_eq!(Message::digest(&text).to_string(), hash);
    }

    #[test]
    fn a_message_is_its_bytes_and_its_account() {
        let text = Text::new(WHO.parse().unwrap(), Bytes::from_static(b"hello"));
        assert_eq!(Message::intent(&text), b"hello");
        assert_eq!((<Message as Kind>::from(&text), Message::slot(&text)), (WHO.parse().unwrap(), None));
        let unsigned = Message::assign(text.clone(), None);
        assert_eq!((&unsigned, Message::unsigned_bytes(&unsigned)), (&text, Bytes::from_static(b"hello")));
        assert!(!Message::creates(&text));
        let none = Text::new(WHO.parse().unwrap(), Bytes::new());
        assert_ne!(Message::intent(&none), Message::intent(&text));
        assert_eq!(Text::new(Address::ZERO, Bytes::from_static(&[0xff])).as_str(), None);
    }
}
