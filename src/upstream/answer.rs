//! What a node answers, read strictly enough that nobody can be fooled by it.

use alloy_primitives::U256;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::transaction::quantity;
use crate::upstream::UpstreamError;

/// The node's result, or its own error.
#[derive(Clone, Debug)]
pub enum Answer {
    Result(Box<RawValue>),
    Error(NodeError),
}

/// A JSON-RPC error as the node wrote it.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeError {
    pub code: i32,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Written {
    id: Option<u64>,
    #[serde(default, deserialize_with = "some")]
    result: Option<Box<RawValue>>,
    error: Option<NodeError>,
}

/// A present `null` is a result (no receipt yet), an absent key is none.
fn some<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

impl Answer {
    /// Reads one answer to the call with this id.
    pub(super) fn read(body: &[u8], id: u64) -> Result<Self, UpstreamError> {
        let written: Written =
            serde_json::from_slice(body).map_err(|_| UpstreamError::garbage("not JSON-RPC"))?;
        match (written.result, written.error) {
            // A node that cannot read the request answers with id null; it is an answer all the same.
            (None, Some(error)) if written.id.is_none_or(|found| found == id) => Ok(Self::Error(error)),
            (Some(result), None) if written.id == Some(id) => Ok(Self::Result(result)),
            (Some(_), Some(_)) | (None, None) => {
                Err(UpstreamError::garbage("neither result nor error, or both"))
            }
            _ => Err(UpstreamError::garbage("the id is not the one that was asked")),
        }
    }

    /// The result; the node's own error becomes ours.
    pub(super) fn ok(self) -> Result<Box<RawValue>, UpstreamError> {
        match self {
            Self::Result(result) => Ok(result),
            Self::Error(NodeError { code, message, data }) => {
                Err(UpstreamError::Node { code, message, data })
            }
        }
    }

    /// A result that is a QUANTITY.
    pub(super) fn number<T: TryFrom<U256>>(self) -> Result<T, UpstreamError> {
        let result = self.ok()?;
        let text: &str =
            serde_json::from_str(result.get()).map_err(|_| UpstreamError::garbage("not a QUANTITY"))?;
        read_number(text)
    }

    /// A result of a known shape.
    pub(super) fn shape<T: serde::de::DeserializeOwned>(self) -> Result<T, UpstreamError> {
        serde_json::from_str(self.ok()?.get())
            .map_err(|e| UpstreamError::garbage(format_args!("unexpected shape: {e}")))
    }
}

/// A QUANTITY that fits.
pub(super) fn read_number<T: TryFrom<U256>>(text: &str) -> Result<T, UpstreamError> {
    let number = quantity(text).map_err(|why| UpstreamError::garbage(format_args!("a QUANTITY {why}")))?;
    T::try_from(number).map_err(|_| UpstreamError::garbage("a QUANTITY too large to be true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_11_an_answer_is_a_result_or_an_error_to_the_call_that_was_asked() {
        let read = |body: &str| Answer::read(body.as_bytes(), 7);
        assert!(matches!(read(r#"{"jsonrpc":"2.0","id":7,"result":null}"#), Ok(Answer::Result(_))));
        assert!(matches!(read(r#"{"id":7,"error":{"code":-32000,"message":"x"}}"#), Ok(Answer::Error(_))));
        assert!(matches!(read(r#"{"id":null,"error":{"code":-32700,"message":"x"}}"#), Ok(Answer::Error(_))));
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":8,"result":1}"#,
            r#"{"id":null,"result":1}"#,
            r#"{"id":"7","result":1}"#,
            r#"{"id":8,"error":{"code":1,"message":"x"}}"#,
            r#"{"id":7,"result":1,"error":{"code":1,"message":"x"}}"#,
        ] {
            assert!(matches!(read(body), Err(UpstreamError::Garbage(_))), "{body}");
        }
        assert!(read(r#"{"id":7,"result":"0x01"}"#).unwrap().number::<u64>().is_err());
        assert!(read(r#"{"id":7,"result":"0x10000000000000000"}"#).unwrap().number::<u64>().is_err());
        assert_eq!(read(r#"{"id":7,"result":"0x10"}"#).unwrap().number::<u64>().unwrap(), 16);
    }
}
