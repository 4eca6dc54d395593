//! The answer to one call: the JSON text, and what the metrics want to know of it. A node's result stays where it is.

use bytes::Bytes;
use jsonrpsee::types::{ErrorObject, Id};
use serde::Serialize;

use crate::methods::Refusal;
use crate::upstream::{Answer, Json};

#[derive(Clone, Debug)]
pub struct Reply {
    text: Unwritten,
    code: Option<i32>,
}

/// JSON, or what it is to be made of when there is room for it: a large value may be many callers' at once.
#[derive(Clone, Debug)]
enum Unwritten {
    Whole(Bytes),
    Around { head: Vec<u8>, value: Json },
}

/// The JSON of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Whole(Bytes),
    /// A value that stays where it is, behind this head and before [`Text::TAIL`].
    Around {
        head: Bytes,
        value: Bytes,
    },
}

/// A larger value that others have too is not copied, where it need not be in one piece. In bytes.
const LARGE: usize = 64 * 1024;

impl Reply {
    pub fn result<T: Serialize + ?Sized>(id: &Id<'_>, value: &T) -> Self {
        let mut json = head(id, "result");
        if serde_json::to_writer(&mut json, value).is_err() {
            return Self::error(id, &Refusal::internal().to_error(None));
        }
        json.push(b'}');
        Self { text: Unwritten::Whole(json.into()), code: None }
    }

    pub fn error(id: &Id<'_>, error: &ErrorObject<'_>) -> Self {
        let mut json = head(id, "error");
        // A code, a text and JSON that was read before: this does not fail.
        drop(serde_json::to_writer(&mut json, error));
        json.push(b'}');
        Self { text: Unwritten::Whole(json.into()), code: Some(error.code()) }
    }

    /// A node's answer under its caller's own id.
    pub fn of_node(id: &Id<'_>, answer: Answer) -> Self {
        match answer {
            Answer::Result(value) => {
                Self { text: Unwritten::Around { head: head(id, "result"), value }, code: None }
            }
            Answer::Error(error) => {
                let code = Some(error.code);
                Self { text: Unwritten::Around { head: head(id, "error"), value: error.into_json() }, code }
            }
        }
    }

    /// The code of an error.
    pub const fn code(&self) -> Option<i32> {
        self.code
    }

    /// How long it will be, in bytes.
    pub fn length(&self) -> usize {
        match &self.text {
            Unwritten::Whole(json) => json.len(),
            Unwritten::Around { head, value } => {
                head.len().saturating_add(value.bytes().len()).saturating_add(Text::TAIL.len())
            }
        }
    }

    /// From here on what it takes of memory is counted by whoever has it.
    pub fn let_go(&mut self) {
        if let Unwritten::Around { value, .. } = &mut self.text {
            value.let_go();
        }
    }

    /// Writes it, where nobody else has its value in the place where that is.
    pub fn into_text(self) -> Text {
        match self.text {
            Unwritten::Whole(json) => Text::Whole(json),
            Unwritten::Around { head, value } if value.bytes().len() > LARGE => {
                match value.within_in_place(&head) {
                    Ok(whole) => Text::Whole(whole),
                    Err(value) => Text::Around { head: head.into(), value: value.into_bytes() },
                }
            }
            Unwritten::Around { head, value } => Text::Whole(value.within(&head)),
        }
    }

    pub fn into_json(self) -> Bytes {
        self.into_text().into_json()
    }
}

impl Text {
    pub const TAIL: &'static [u8] = b"}";

    /// In one piece.
    pub fn into_json(self) -> Bytes {
        match self {
            Self::Whole(json) => json,
            Self::Around { head, value } => [&head[..], &value, Self::TAIL].concat().into(),
        }
    }
}

impl From<Bytes> for Text {
    fn from(json: Bytes) -> Self {
        Self::Whole(json)
    }
}

/// Everything before the value.
fn head(id: &Id<'_>, value: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(64);
    head.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    // An id was read from JSON.
    drop(serde_json::to_writer(&mut head, id));
    for part in [",\"", value, "\":"] {
        head.extend_from_slice(part.as_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn inv_12_a_large_value_of_many_callers_is_written_for_none_of_them() {
        let value: Json = to_raw_value(&"x".repeat(LARGE)).unwrap().into();
        let place = value.bytes().as_ptr();
        let replies: Vec<_> =
            (0..100).map(|id| Reply::of_node(&Id::Number(id), Answer::Result(value.clone()))).collect();
        for (id, reply) in replies.into_iter().enumerate() {
            let length = reply.length();
            let Text::Around { head, value } = reply.clone().into_text() else { panic!("a copy") };
            assert_eq!(value.as_ptr(), place);
            assert_eq!(head, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#));
            let whole = reply.into_json();
            assert_eq!(whole.len(), length);
            assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap()["id"], json!(id));
        }
        let small: Json = to_raw_value("0x1").unwrap().into();
        let reply = Reply::of_node(&Id::Number(1), Answer::Result(small.clone()));
        assert_eq!(reply.into_text(), Text::Whole(r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#.into()));
    }

    #[test]
    fn a_reply_has_its_callers_id_and_a_result_or_an_error() {
        let read = |reply: Reply| serde_json::from_slice::<Value>(&reply.into_json()).unwrap();
        for (id, written) in
            [(Id::Number(7), json!(7)), (Id::Null, Value::Null), (Id::Str("a\"b\\".into()), json!("a\"b\\"))]
        {
            let result = read(Reply::result(&id, &["0x1"]));
            assert_eq!(result, json!({ "jsonrpc": "2.0", "id": written, "result": ["0x1"] }));
            let error = Reply::error(&id, &ErrorObject::owned(-32000, "no \"way\"", Some(json!({ "a": 1 }))));
            assert_eq!(error.code(), Some(-32000));
            let expected = json!({ "code": -32000, "message": "no \"way\"", "data": { "a": 1 } });
            assert_eq!(read(error), json!({ "jsonrpc": "2.0", "id": written, "error": expected }));
        }
    }
}
