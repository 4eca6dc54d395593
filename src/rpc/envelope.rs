//! The strict reading of a body: which JSON-RPC 2.0 calls are in it, borrowed from its bytes.

use std::borrow::Cow;

use jsonrpsee::types::Id;
use serde_json::value::RawValue;

use crate::methods::{Cause, Refusal};
use crate::rpc::scan::{ScanError, Scanner};

/// How much a body may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub max_batch: usize,
    pub max_depth: usize,
}

/// What a body asks.
#[derive(Debug)]
pub enum Body<'a> {
    Single(Entry<'a>),
    /// At least one entry, and not more than the bound.
    Batch(Vec<Entry<'a>>),
}

/// One call, or why it is none. A bad entry of a batch spoils no other.
pub type Entry<'a> = Result<Envelope<'a>, EntryError<'a>>;

/// One well-formed call.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// `None`: a notification, to which nothing is answered. An `id` of null is a call like any other.
    pub id: Option<Id<'a>>,
    /// Decoded: `"eth_\u0063all"` is `eth_call`.
    pub method: Cow<'a, str>,
    /// An array or an object; absent and null are the same.
    pub params: Option<&'a RawValue>,
}

/// An entry that is no JSON-RPC 2.0 request.
#[derive(Debug)]
pub struct EntryError<'a> {
    /// The entry's id, if that much of it could be read; else null.
    pub id: Id<'a>,
    /// What it seems to ask for.
    pub method: Option<Cow<'a, str>>,
    pub fault: Fault,
}

/// What is wrong with one entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a JSON-RPC request is an object")]
    NotAnObject,
    #[error(
        "a JSON-RPC request has no key {0:?}; its keys are jsonrpc, id, method and params, in this spelling"
    )]
    UnknownKey(String),
    #[error("`jsonrpc` must be \"2.0\"")]
    Version,
    #[error("`method` is missing or not a string")]
    Method,
    #[error("`id` must be a string, an integer from 0 to 9007199254740991 written plainly, or null")]
    Id,
    #[error("`params` must be an array or an object, if it is there at all")]
    Params,
}

/// Why nothing of a body is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("the batch is empty")]
    EmptyBatch,
    #[error("the batch has more than {0} calls; nothing of it was done")]
    BatchTooLarge(usize),
}

/// How much of an unknown key an error repeats.
const SHOWN: usize = 64;

/// The largest integer that every JSON decoder keeps exactly.
const MAX_ID: u64 = (1 << 53) - 1;

impl<'a> Body<'a> {
    /// Reads all of `body`, or nothing.
    ///
    /// What is wrong within one entry concerns that entry. A key that stands twice, nesting past the bound or
    /// broken JSON concern the whole body, wherever they are: they are where decoders part ways, also on where
    /// one entry ends and the next begins, and no client's library writes them.
    pub fn read(body: &'a [u8], bounds: Bounds) -> Result<Self, BodyError> {
        let mut scan = Scanner::new(body, bounds.max_depth)?;
        if scan.peek() != Some(b'[') {
            let entry = entry(&mut scan)?;
            scan.end()?;
            return Ok(Self::Single(entry));
        }
        let mut entries = Vec::new();
        scan.begin()?;
        while scan.advance()? {
            if entries.len() >= bounds.max_batch {
                return Err(BodyError::BatchTooLarge(bounds.max_batch));
            }
            entries.push(entry(&mut scan)?);
        }
        scan.end()?;
        if entries.is_empty() {
            return Err(BodyError::EmptyBatch);
        }
        Ok(Self::Batch(entries))
    }
}

/// The members of an envelope, as text.
#[derive(Default)]
struct Members<'a> {
    jsonrpc: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    unknown: Option<Cow<'a, str>>,
}

fn entry<'a>(scan: &mut Scanner<'a>) -> Result<Entry<'a>, ScanError> {
    if scan.peek() != Some(b'{') {
        scan.value()?;
        return Ok(Err(EntryError { id: Id::Null, method: None, fault: Fault::NotAnObject }));
    }
    let mut members = Members::default();
    scan.begin()?;
    while scan.advance()? {
        let key = scan.key();
        let value = Some(scan.value()?);
        match &*key {
            "jsonrpc" => members.jsonrpc = value,
            "id" => members.id = value,
            "method" => members.method = value,
            "params" => members.params = value,
            _ => members.unknown = members.unknown.take().or(Some(key)),
        }
    }
    Ok(members.read())
}

impl<'a> Members<'a> {
    fn read(self) -> Entry<'a> {
        let id = self.id.map(id_of).transpose();
        let answer_to = id.as_ref().ok().cloned().flatten().unwrap_or(Id::Null);
        let method = self.method.and_then(string_of);
        self.envelope(id).map_err(|fault| EntryError { id: answer_to, method, fault })
    }

    fn envelope(self, id: Result<Option<Id<'a>>, Fault>) -> Result<Envelope<'a>, Fault> {
        if let Some(key) = &self.unknown {
            return Err(Fault::UnknownKey(key.chars().take(SHOWN).collect()));
        }
        if self.jsonrpc.and_then(string_of).as_deref() != Some("2.0") {
            return Err(Fault::Version);
        }
        let id = id?;
        let method = self.method.and_then(string_of).ok_or(Fault::Method)?;
        Ok(Envelope { id, method, params: params_of(self.params)? })
    }
}

fn id_of(text: &str) -> Result<Id<'_>, Fault> {
    if text == "null" {
        return Ok(Id::Null);
    }
    if let Some(string) = string_of(text) {
        return Ok(Id::Str(string));
    }
    // JSON has no leading zero and no plus sign, and a `u64` no minus, fraction or exponent.
    let number = text.parse().ok().filter(|number| *number <= MAX_ID);
    number.map(Id::Number).ok_or(Fault::Id)
}

fn string_of(text: &str) -> Option<Cow<'_, str>> {
    let content = text.strip_prefix('"')?.strip_suffix('"')?;
    if content.contains('\\') {
        return serde_json::from_str(text).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(content))
}

/// serde has no way to take text for JSON without looking: so its own reader passes over the parameters too, and
/// must agree that they are one value.
fn params_of(text: Option<&str>) -> Result<Option<&RawValue>, Fault> {
    match text {
        None | Some("null") => Ok(None),
        Some(text) if text.starts_with(['[', '{']) => {
            serde_json::from_str(text).map(Some).map_err(|_| Fault::Params)
        }
        Some(_) => Err(Fault::Params),
    }
}

impl From<&BodyError> for Refusal {
    fn from(error: &BodyError) -> Self {
        let cause = match error {
            BodyError::Scan(ScanError::DuplicateKey(_)) => Cause::InvalidRequest,
            BodyError::Scan(_) => Cause::ParseError,
            BodyError::EmptyBatch | BodyError::BatchTooLarge(_) => Cause::BatchTooLarge,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        Self::new(Cause::InvalidRequest, fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const BOUNDS: Bounds = Bounds { max_batch: 100, max_depth: 32 };

    fn single(body: &str) -> Entry<'_> {
        match Body::read(body.as_bytes(), BOUNDS) {
            Ok(Body::Single(entry)) => entry,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn refused(body: &str) -> Cause {
        match Body::read(body.as_bytes(), BOUNDS) {
            Err(error) => Refusal::from(&error).cause(),
            Ok(read) => panic!("{body}: {read:?}"),
        }
    }

    fn with_id(id: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)
    }

    fn with_params(params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#)
    }

    #[test]
    fn an_id_is_echoed_as_it_came() {
        for id in [
            "0",
            "1",
            "42",
            "4294967296",
            "9007199254740991",
            "null",
            "\"\"",
            "\"0\"",
            "\"-1\"",
            "\"7b0dd2ea-8c3a-4e59-9a6f-5c7a4a3e2d10\"",
            "\"a\\\"b\\\\c\"",
            "\"é\u{1f600}\"",
        ] {
            let body = with_id(id);
            let envelope = single(&body).unwrap();
            assert_eq!(serde_json::to_string(&envelope.id.unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn an_id_that_is_no_string_plain_integer_or_null_is_refused() {
        for id in [
            "-1",
            "-0",
            "1.0",
            "1.5",
            "1e3",
            "1E0",
            "9007199254740992",
            "18446744073709551615",
            "18446744073709551617",
            "{}",
            "{\"a\":1}",
            "[]",
            "[1]",
            "true",
            "false",
        ] {
            let body = with_id(id);
            let error = single(&body).unwrap_err();
            assert_eq!((error.fault, error.id), (Fault::Id, Id::Null), "{id}");
        }
    }

    #[test]
    fn an_id_that_is_absent_makes_a_notification_and_null_does_not() {
        assert!(single(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap().id.is_none());
        assert_eq!(single(&with_id("null")).unwrap().id, Some(Id::Null));
    }

    #[test]
    fn params_are_an_array_an_object_or_not_there() {
        assert!(single(&with_id("1")).unwrap().params.is_none());
        assert!(single(&with_params("null")).unwrap().params.is_none());
        for params in ["[]", "{}", "[1, {\"a\": [null]}]", "{\"a\" : 1}"] {
            let body = with_params(params);
            assert_eq!(single(&body).unwrap().params.unwrap().get(), params);
        }
        for params in ["1", "\"a\"", "true", "\"[]\""] {
            assert_eq!(single(&with_params(params)).unwrap_err().fault, Fault::Params);
        }
    }

    #[test]
    fn inv_04_a_key_twice_is_refused_at_any_depth_and_however_it_is_written() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","method":"eth_sendTransaction"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","\u006dethod":"eth_sendTransaction"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[],"params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","x":1,"x":1}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1,"a":2},"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[{"to":"0xgood","to":"0xevil"}]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[{"to":"0xgood","\u0074o":"0xevil"}]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[[[{"a":[{"b":1,"c":2,"b":1}]}]]]}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"},{"jsonrpc":"2.0","id":2,"method":"m","params":[{"a":1,"a":1}]}]"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"},[{"a":1,"a":1}]]"#,
        ] {
            assert_eq!(refused(body), Cause::InvalidRequest, "{body}");
        }
    }

    #[test]
    fn inv_04_a_key_that_another_decoder_folds_into_ours_is_refused_by_name() {
        for key in [
            "METHOD",
            "Method",
            "Id",
            "ID",
            "JSONRPC",
            "Params",
            "param\u{17f}",
            "\u{212a}",
            "",
            "method ",
            "x",
        ] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"eth_call","{key}":"eth_sendTransaction"}}"#);
            let error = single(&body).unwrap_err();
            assert_eq!((error.id, error.fault), (Id::Number(7), Fault::UnknownKey(key.to_owned())));
        }
    }

    #[test]
    fn inv_05_a_method_is_compared_as_it_is_meant_not_as_it_is_written() {
        let envelope =
            single(r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"eth_send\u0054ransaction"}"#).unwrap();
        assert_eq!(envelope.method, "eth_sendTransaction");
    }

    #[test]
    fn an_envelope_that_is_none_keeps_its_id() {
        for (body, fault) in [
            (r#"{"id":7,"method":"m"}"#, Fault::Version),
            (r#"{"jsonrpc":"1.0","id":7,"method":"m"}"#, Fault::Version),
            (r#"{"jsonrpc":2.0,"id":7,"method":"m"}"#, Fault::Version),
            (r#"{"jsonrpc":"2.0","id":7}"#, Fault::Method),
            (r#"{"jsonrpc":"2.0","id":7,"method":1}"#, Fault::Method),
            (r#"{"jsonrpc":"2.0","id":7,"method":null}"#, Fault::Method),
            (r#"{"jsonrpc":"2.0","id":7,"method":["m"]}"#, Fault::Method),
        ] {
            let error = single(body).unwrap_err();
            assert_eq!((error.id, error.fault), (Id::Number(7), fault), "{body}");
        }
        for body in ["1", "\"a\"", "null", "true"] {
            assert_eq!(single(body).unwrap_err().fault, Fault::NotAnObject);
        }
    }

    #[test]
    fn a_body_that_is_not_one_json_text_is_refused() {
        for body in [
            "",
            " ",
            "{",
            r#"{"jsonrpc":"2.0","id":1,"method":"m"} {}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m"},"#,
            "\u{feff}{}",
            "[",
            "[{}",
            "[{},]",
            "{} x",
        ] {
            assert_eq!(refused(body), Cause::ParseError, "{body}");
        }
        assert!(matches!(
            Body::read(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"m\"}", BOUNDS),
            Err(BodyError::Scan(ScanError::NotUtf8))
        ));
    }

    #[test]
    fn inv_12_a_batch_has_at_least_one_call_and_not_more_than_the_bound() {
        let batch = |count: u32| {
            let calls = (0..count).map(|id| with_id(&id.to_string())).collect::<Vec<_>>();
            format!("[{}]", calls.join(","))
        };
        let body = batch(100);
        let Ok(Body::Batch(entries)) = Body::read(body.as_bytes(), BOUNDS) else { panic!() };
        let ids: Vec<_> = entries.into_iter().map(|entry| entry.unwrap().id.unwrap()).collect();
        assert_eq!(ids, (0..100).map(Id::Number).collect::<Vec<_>>());
        assert_eq!(refused(&batch(101)), Cause::BatchTooLarge);
        assert_eq!(refused("[]"), Cause::BatchTooLarge);
    }

    #[test]
    fn inv_12_nesting_past_the_bound_is_refused_where_it_begins() {
        let nested = |depth: usize| with_params(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(single(&nested(31)).is_ok(), "with the envelope, 32");
        assert_eq!(refused(&nested(32)), Cause::ParseError);
        assert_eq!(refused(&nested(1_000_000)), Cause::ParseError);
        assert_eq!(refused(&"[".repeat(2_000_000)), Cause::ParseError);
    }

    #[test]
    fn a_bad_entry_of_a_batch_spoils_no_other() {
        let body = r#"[1, {"jsonrpc":"2.0","id":1,"method":"m"}, {"id":"x"}, [], {"jsonrpc":"2.0","id":-1,"method":"m"},
            {"jsonrpc":"2.0","method":"n","params":[2]}]"#;
        let Ok(Body::Batch(entries)) = Body::read(body.as_bytes(), BOUNDS) else { panic!() };
        let read: Vec<_> = entries
            .iter()
            .map(|entry| entry.as_ref().map(|e| (&*e.method, e.id.clone())).map_err(|e| (&e.fault, &e.id)))
            .collect();
        assert_eq!(
            read,
            [
                Err((&Fault::NotAnObject, &Id::Null)),
                Ok(("m", Some(Id::Number(1)))),
                Err((&Fault::Version, &Id::Str("x".into()))),
                Err((&Fault::NotAnObject, &Id::Null)),
                Err((&Fault::Id, &Id::Null)),
                Ok(("n", None)),
            ]
        );
    }

    #[test]
    fn what_was_read_borrows_from_the_body() {
        let body = r#"{"jsonrpc":"2.0","id":"seven","method":"eth_call","params":["0x1"]}"#;
        let envelope = single(body).unwrap();
        assert!(matches!(envelope.method, Cow::Borrowed("eth_call")));
        assert!(matches!(envelope.id, Some(Id::Str(Cow::Borrowed("seven")))));
        let at = body.find("[\"0x1\"]").unwrap();
        assert!(std::ptr::eq(envelope.params.unwrap().get(), body.get(at..at.saturating_add(7)).unwrap()));
    }

    fn member() -> impl Strategy<Value = (String, Value)> {
        let key = prop_oneof![
            6 => prop::sample::select(vec!["jsonrpc", "id", "method", "params"]).prop_map(str::to_owned),
            1 => "[a-zA-Z]{0,7}",
        ];
        let value = prop_oneof![
            4 => Just(json!("2.0")),
            2 => any::<String>().prop_map(Value::from),
            2 => any::<u64>().prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            1 => any::<f64>().prop_map(Value::from),
            1 => Just(Value::Null),
            2 => any::<Vec<u8>>().prop_map(Value::from),
            1 => Just(json!({"a": [{}]})),
        ];
        (key, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn inv_05_an_envelope_means_what_serde_reads_in_it(
            members in prop::collection::vec(member(), 0..5),
            has_version in any::<bool>(),
        ) {
            let mut members = members;
            if has_version {
                members.push(("jsonrpc".to_owned(), json!("2.0")));
            }
            let text: Vec<String> = members.iter().map(|(key, value)| format!("{}: {value}", json!(key))).collect();
            let body = format!("{{{}}}", text.join(", "));
            let value: serde_json::Map<String, Value> = serde_json::from_str(&body).unwrap();
            let read = Body::read(body.as_bytes(), BOUNDS);
            if value.len() < members.len() {
                prop_assert!(matches!(read, Err(BodyError::Scan(ScanError::DuplicateKey(_)))), "{}", body);
                return Ok(());
            }
            let Ok(Body::Single(entry)) = read else { panic!("{body}: {read:?}") };
            let is_request = value.keys().all(|key| ["jsonrpc", "id", "method", "params"].contains(&&**key))
                && value.get("jsonrpc") == Some(&json!("2.0"))
                && value.get("method").is_some_and(Value::is_string)
                && value.get("params").is_none_or(|p| p.is_array() || p.is_object() || p.is_null())
                && value.get("id").is_none_or(|id| {
                    id.is_null() || id.is_string() || id.as_u64().is_some_and(|id| id < 1 << 53)
                });
            prop_assert_eq!(entry.is_ok(), is_request, "{}", body);
            if let Ok(envelope) = entry {
                prop_assert_eq!(Some(&*envelope.method), value["method"].as_str());
                let id = envelope.id.map(|id| serde_json::to_value(id).unwrap());
                prop_assert_eq!(id.as_ref(), value.get("id"));
                let params = envelope.params.map(|p| serde_json::from_str::<Value>(p.get()).unwrap());
                prop_assert_eq!(params.as_ref(), value.get("params").filter(|p| !p.is_null()));
            }
        }
    }
}
