//! The answer to a request that got none from the gateway: a JSON-RPC error with the request's own id.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::cmd::connect::trouble::Trouble;

/// What a JSON-RPC error is made of.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    pub code: i32,
    pub message: String,
    pub name: &'a str,
    pub hint: Option<&'a str>,
}

/// All that is looked at of a request.
#[derive(Deserialize)]
struct Request<'a> {
    /// `None` for a notification; `null` is an id like any other.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: i32,
    message: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl<'a> From<&'a Trouble> for Reply<'a> {
    fn from(trouble: &'a Trouble) -> Self {
        Reply { code: -32603, message: trouble.to_string(), name: trouble.name(), hint: Some(trouble.hint()) }
    }
}

impl Reply<'_> {
    /// The error for `request`: an object, or an array for a batch; `None` if it holds notifications only.
    pub fn to(&self, request: &[u8]) -> Option<Bytes> {
        if request.first() == Some(&b'[')
            && let Ok(batch) = serde_json::from_slice::<Vec<&RawValue>>(request)
        {
            let answers: Vec<_> = batch
                .iter()
                .filter_map(|call| id_of(call.get().as_bytes()))
                .map(|id| self.with_id(id))
                .collect();
            return match (batch.is_empty(), answers.is_empty()) {
                (true, _) => self.to_nobody(),
                (false, true) => None,
                (false, false) => written(&answers),
            };
        }
        written(&self.with_id(id_of(request)?))
    }

    /// The error for what could not be read at all.
    pub fn to_nobody(&self) -> Option<Bytes> {
        written(&self.with_id(RawValue::NULL))
    }

    fn with_id<'a>(&'a self, id: &'a RawValue) -> Answer<'a> {
        let data = Data { code: self.name, hint: self.hint };
        Answer { jsonrpc: "2.0", id, error: ErrorObject { code: self.code, message: &self.message, data } }
    }
}

/// The id to answer with: the request's own as it was written, `null` where there is none to be found.
fn id_of(request: &[u8]) -> Option<&RawValue> {
    match serde_json::from_slice::<Request<'_>>(request) {
        Ok(Request { id: None }) => None,
        Ok(Request { id: Some(id) }) if !id.get().starts_with(['{', '[', 't', 'f']) => Some(id),
        _ => Some(RawValue::NULL),
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn written(answer: &impl Serialize) -> Option<Bytes> {
    serde_json::to_vec(answer).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ids(request: &str) -> Value {
        let trouble = Trouble::NotHttp2;
        let Some(answer) = Reply::from(&trouble).to(request.as_bytes()) else { return json!("nothing") };
        match serde_json::from_slice(&answer).unwrap() {
            Value::Array(all) => all.into_iter().map(|one| one["id"].clone()).collect(),
            one => {
                assert_eq!(one["error"]["code"], -32603);
                assert_eq!(one["error"]["data"]["code"], "gateway_unreachable");
                one["id"].clone()
            }
        }
    }

    #[test]
    fn the_id_comes_back_as_it_was() {
        for id in ["0", "9007199254740991", "\"b0c5-é\\u0041\"", "null", "-1", "1e400"] {
            let request = format!(r#"{{"method":"eth_chainId", "id" : {id} ,"params":[{{"id":7}}]}}"#);
            let trouble = Trouble::NotHttp2;
            let answer = Reply::from(&trouble).to(request.as_bytes()).unwrap();
            let answer = std::str::from_utf8(&answer).unwrap();
            assert!(answer.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#)), "{answer}");
        }
    }

    #[test]
    fn a_batch_gets_one_answer_for_each_call_and_a_notification_none() {
        assert_eq!(
            ids(r#"[{"id":1},{"id":"two"},{"method":"x"},{"id":null},5]"#),
            json!([1, "two", null, null])
        );
        assert_eq!(ids(r#"{"method":"x"}"#), json!("nothing"));
        assert_eq!(ids(r#"[{"method":"x"}]"#), json!("nothing"));
        assert_eq!(ids("[]"), Value::Null);
    }

    #[test]
    fn what_is_no_request_is_answered_with_null() {
        for request in
            ["{", "{foo}", "[{]", r#"{"id":{}}"#, r#"{"id":[1]}"#, r#"{"id":true}"#, r#"{"id":1,"id":2}"#]
        {
            assert_eq!(ids(request), Value::Null, "{request}");
        }
    }
}
