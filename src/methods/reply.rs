//! The answer to one call: the JSON text, and what the metrics want to know of it. A node's result stays where it is.

use bytes::Bytes;
use jsonrpsee::types::{ErrorObject, Id};
use serde::Serialize;

use crate::methods::Refusal;
use crate::upstream::Answer;

#[derive(Clone, Debug)]
pub struct Reply {
    json: Bytes,
    code: Option<i32>,
}

impl Reply {
    pub fn result<T: Serialize + ?Sized>(id: &Id<'_>, value: &T) -> Self {
        let mut json = head(id, "result");
        if serde_json::to_writer(&mut json, value).is_err() {
            return Self::error(id, &Refusal::internal().to_error(None));
        }
        json.push(b'}');
        Self { json: json.into(), code: None }
    }

    pub fn error(id: &Id<'_>, error: &ErrorObject<'_>) -> Self {
        let mut json = head(id, "error");
        // A code, a text and JSON that was read before: this does not fail.
        drop(serde_json::to_writer(&mut json, error));
        json.push(b'}');
        Self { json: json.into(), code: Some(error.code()) }
    }

    /// A node's answer under its caller's own id.
    pub(super) fn of_node(id: &Id<'_>, answer: Answer) -> Self {
        match answer {
            Answer::Result(value) => Self { json: value.within(&head(id, "result")), code: None },
            Answer::Error(error) => {
                Self::error(id, &ErrorObject::owned(error.code, error.message, error.data))
            }
        }
    }

    /// The code of an error.
    pub const fn code(&self) -> Option<i32> {
        self.code
    }

    pub fn len(&self) -> usize {
        self.json.len()
    }

    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    pub fn into_json(self) -> Bytes {
        self.json
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
    use serde_json::{Value, json};

    use super::*;

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
