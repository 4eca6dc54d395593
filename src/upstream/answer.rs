//! What a node answers, read strictly enough that nobody can be fooled by it, and copied as little as can be.

use std::sync::Arc;

use alloy_primitives::U256;
use bytes::Bytes;
use memchr::memchr2;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::room::Held;
use crate::transaction::quantity;
use crate::upstream::UpstreamError;

/// The node's result, or its own error.
#[derive(Clone, Debug)]
pub enum Answer {
    Result(Json),
    Error(NodeError),
}

/// One JSON value as the node wrote it, still in the body that it came in.
#[derive(Clone, Debug)]
pub struct Json {
    body: Bytes,
    start: usize,
    end: usize,
    /// What a large one takes of its asker's room.
    held: Option<Arc<Held>>,
}

/// A JSON-RPC error as the node wrote it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NodeError {
    pub code: i32,
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// It says what it answers, and not that it could not read what it was asked.
    #[serde(skip)]
    pub names_its_call: bool,
    /// What a large one takes of its asker's room.
    #[serde(skip)]
    pub(super) held: Option<Arc<Held>>,
}

/// An answer, before it is known to be one.
#[derive(Deserialize)]
pub(super) struct Written<'a> {
    id: Option<u64>,
    #[serde(borrow, default, deserialize_with = "some")]
    result: Option<&'a RawValue>,
    error: Option<NodeError>,
}

/// A present `null` is a result (no receipt yet), an absent key is none.
fn some<'de: 'a, 'a, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(from).map(Some)
}

impl Answer {
    /// Reads one answer to the call with this id.
    ///
    /// What most nodes write, in the order in which they write it, is recognised by its frame; a result is then only
    /// followed by its brackets and strings to where it ends. That it is one value, and that nothing stands beside it,
    /// is certain; that it is good JSON inside is for the client to find: this answer goes to it alone.
    pub(super) fn read(body: Bytes, id: u64) -> Result<Self, UpstreamError> {
        if let Some((start, end)) = framed(&body, id) {
            std::str::from_utf8(&body).map_err(|_| UpstreamError::garbage("not UTF-8"))?;
            return Ok(Self::Result(Json { body, start, end, held: None }));
        }
        Self::read_strictly(&body, id)
    }

    /// The same for an answer whose bytes go among others: every letter of it is looked at.
    pub(super) fn read_strictly(body: &Bytes, id: u64) -> Result<Self, UpstreamError> {
        let written: Written<'_> =
            serde_json::from_slice(body).map_err(|_| UpstreamError::garbage("not JSON-RPC"))?;
        written.answer(body, id)
    }

    /// With what its body takes of its asker's room.
    pub(super) fn holding(mut self, held: Option<&Arc<Held>>) -> Self {
        let place = match &mut self {
            Self::Result(json) => &mut json.held,
            Self::Error(error) => &mut error.held,
        };
        *place = held.cloned();
        self
    }

    /// An error of a node that another may not make is a failure of this node.
    pub(super) fn or_elsewhere(self) -> Result<Self, UpstreamError> {
        match self {
            Self::Error(NodeError { code, message, data, held, .. }) => {
                let error = UpstreamError::Node { code, message, data, held };
                if error.may_differ_elsewhere() { Err(error) } else { Ok(Self::told(Err(error))?) }
            }
            result @ Self::Result(_) => Ok(result),
        }
    }

    /// Where no node did better, the error is the answer after all.
    pub(super) fn told(answer: Result<Self, UpstreamError>) -> Result<Self, UpstreamError> {
        match answer {
            Err(UpstreamError::Node { code, message, data, held }) => {
                Ok(Self::Error(NodeError { code, message, data, names_its_call: true, held }))
            }
            other => other,
        }
    }

    /// The result; the node's own error becomes ours.
    pub(super) fn ok(self) -> Result<Json, UpstreamError> {
        match self {
            Self::Result(result) => Ok(result),
            Self::Error(NodeError { code, message, data, held, .. }) => {
                Err(UpstreamError::Node { code, message, data, held })
            }
        }
    }

    /// A result that is a QUANTITY.
    pub(super) fn number<T: TryFrom<U256>>(self) -> Result<T, UpstreamError> {
        let result = self.ok()?;
        let text: &str =
            serde_json::from_slice(result.bytes()).map_err(|_| UpstreamError::garbage("not a QUANTITY"))?;
        read_number(text)
    }

    /// A result of a known shape.
    pub(super) fn shape<T: serde::de::DeserializeOwned>(self) -> Result<T, UpstreamError> {
        serde_json::from_slice(self.ok()?.bytes())
            .map_err(|e| UpstreamError::garbage(format_args!("unexpected shape: {e}")))
    }
}

impl Written<'_> {
    pub(super) const fn id(&self) -> Option<u64> {
        self.id
    }

    /// The answer to this call, of which `body` holds the text.
    pub(super) fn answer(self, body: &Bytes, id: u64) -> Result<Answer, UpstreamError> {
        match (self.result, self.error) {
            // A node that cannot read the request answers with id null; it is an answer all the same.
            (None, Some(error)) if self.id.is_none_or(|found| found == id) => {
                Ok(Answer::Error(NodeError { names_its_call: self.id.is_some(), ..error }))
            }
            (Some(result), None) if self.id == Some(id) => {
                Ok(Answer::Result(Json::of(body.slice_ref(result.get().as_bytes()))))
            }
            (Some(_), Some(_)) | (None, None) => {
                Err(UpstreamError::garbage("neither result nor error, or both"))
            }
            _ => Err(UpstreamError::garbage("the id is not the one that was asked")),
        }
    }
}

impl NodeError {
    /// As it is passed on. What it takes of its asker's room goes with it.
    pub fn into_json(mut self) -> Json {
        let held = self.held.take();
        let data = self.data.as_deref().map_or(0, |data| data.get().len());
        let mut body = Vec::with_capacity(self.message.len().saturating_add(data).saturating_add(64));
        // A code, a text and JSON that was read before: this does not fail.
        drop(serde_json::to_writer(&mut body, &self));
        Json { held, ..Json::of(body.into()) }
    }
}

impl Json {
    /// All of these bytes, which are one value.
    fn of(body: Bytes) -> Self {
        Self { start: 0, end: body.len(), body, held: None }
    }

    pub fn bytes(&self) -> &[u8] {
        self.body.get(self.start..self.end).unwrap_or_default()
    }

    /// The value alone, where it is.
    pub fn into_bytes(self) -> Bytes {
        self.body.get(self.start..self.end).map(|value| self.body.slice_ref(value)).unwrap_or_default()
    }

    /// What it takes of its asker's room is counted elsewhere from here on.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// The value between `head` and `}`. Where nobody else has the body, and the node's own head was at least as long,
    /// this is written over that, and nothing is copied.
    pub fn within(self, head: &[u8]) -> Bytes {
        self.within_in_place(head).unwrap_or_else(|json| [head, json.bytes(), b"}"].concat().into())
    }

    /// The same, if it can be done without a copy.
    pub fn within_in_place(self, head: &[u8]) -> Result<Bytes, Self> {
        let Self { body, start, end, held } = self;
        let body = match body.try_into_mut() {
            Ok(mut body) => {
                if let Some(from) = start.checked_sub(head.len())
                    && let Some(place) = body.get_mut(from..start)
                {
                    place.copy_from_slice(head);
                    if let Some(last) = body.get_mut(end) {
                        *last = b'}';
                        return Ok(body.freeze().slice(from..=end));
                    }
                }
                body.freeze()
            }
            Err(body) => body,
        };
        Err(Self { body, start, end, held })
    }
}

impl From<Box<RawValue>> for Json {
    fn from(value: Box<RawValue>) -> Self {
        Self::of(String::from(Box::<str>::from(value)).into())
    }
}

/// A QUANTITY that fits.
pub(super) fn read_number<T: TryFrom<U256>>(text: &str) -> Result<T, UpstreamError> {
    let number = quantity(text).map_err(|why| UpstreamError::garbage(format_args!("a QUANTITY {why}")))?;
    T::try_from(number).map_err(|_| UpstreamError::garbage("a QUANTITY too large to be true"))
}

/// Where the result stands in `{"jsonrpc":"2.0","id":…,"result":…}`, if this is that and nothing else.
fn framed(body: &[u8], id: u64) -> Option<(usize, usize)> {
    let rest = body.strip_prefix(br#"{"jsonrpc":"2.0","id":"#)?;
    let rest = rest.strip_prefix(id.to_string().as_bytes())?.strip_prefix(br#","result":"#)?;
    let length = value(rest)?;
    let start = body.len().checked_sub(rest.len())?;
    let end = start.checked_add(length)?;
    (body.get(end..)?.trim_ascii() == b"}").then_some((start, end))
}

/// How long the JSON value is that this text begins with, by its brackets and strings.
fn value(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    // A value that ends with a comma or a brace of what is around it; or is nothing at all.
    let ends_before = |at: usize| (at > 0).then_some(at);
    loop {
        let mut is_end = false;
        match text.get(at)? {
            b'"' => {
                at = string(text, at)?;
                is_end = depth == 0;
            }
            b'{' | b'[' => depth = depth.checked_add(1)?,
            b'}' | b']' | b',' | b':' if depth == 0 => return ends_before(at),
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                is_end = depth == 0;
            }
            _ => {}
        }
        at = at.checked_add(1)?;
        if is_end {
            return Some(at);
        }
    }
}

/// Where the string ends that begins here: at its closing quote.
fn string(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from.checked_add(1)?;
    loop {
        let next = at.checked_add(memchr2(b'"', b'\\', text.get(at..)?)?)?;
        if text.get(next) == Some(&b'"') {
            return Some(next);
        }
        at = next.checked_add(2)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Answer, UpstreamError> {
        Answer::read(Bytes::copy_from_slice(body.as_bytes()), 7)
    }

    #[test]
    fn inv_11_an_answer_is_a_result_or_an_error_to_the_call_that_was_asked() {
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

    #[test]
    fn inv_11_nothing_hides_beside_a_result() {
        let framed = |rest: &str| read(&format!(r#"{{"jsonrpc":"2.0","id":7,"result":{rest}"#));
        for good in
            ["1}", "null}", "\"a\\\"}\"}", "[{\"a\":[]},\"}\"]}", "{}}\n", "true }", "{\"a\":\"\\\\\"}}"]
        {
            let Ok(Answer::Result(json)) = framed(good) else { panic!("{good}") };
            let value = good.trim_end().strip_suffix('}').unwrap();
            assert_eq!(json.bytes().trim_ascii(), value.trim().as_bytes());
        }
        for bad in [
            "",
            "}",
            "1",
            "1}}",
            "\"a}",
            "\"a\\\"}",
            "{}",
            "[1,2}",
            "1,\"id\":8}",
            "1,\"result\":2}",
            "1,\"error\":{\"code\":1,\"message\":\"x\"}}",
            "{},\"id\":8}",
            "\"a\"\"b\"}",
            "1}{\"id\":7,\"result\":2}",
        ] {
            assert!(matches!(framed(bad), Err(UpstreamError::Garbage(_))), "{bad}");
        }
        let mut bytes = br#"{"jsonrpc":"2.0","id":7,"result":"X"}"#.to_vec();
        *bytes.iter_mut().find(|byte| **byte == b'X').unwrap() = 0xff;
        assert!(Answer::read(bytes.into(), 7).is_err(), "not UTF-8");
    }

    #[test]
    fn a_result_is_handed_on_in_place_where_its_new_head_fits() {
        for (head, is_in_place) in [
            ("{\"id\":1,\"result\":", true),
            ("{\"id\":\"a name longer than what was there before\",\"result\":", false),
        ] {
            let Ok(Answer::Result(json)) = read(r#"{"jsonrpc":"2.0","id":7,"result":{"a":[1,"}"]} }"#) else {
                panic!("read")
            };
            let shared = json.clone();
            let before = json.bytes().as_ptr();
            let whole = format!("{head}{{\"a\":[1,\"}}\"]}}}}");
            assert_eq!(json.within(head.as_bytes()), whole.as_bytes(), "a copy: it is shared");
            let moved = shared.within(head.as_bytes());
            assert_eq!(moved, whole.as_bytes());
            assert_eq!(moved[head.len()..].as_ptr() == before, is_in_place);
        }
    }

    proptest! {
        /// What the frame's reader takes, serde takes, with the same result; and what serde takes of good JSON, in this
        /// frame, it takes.
        #[test]
        fn inv_11_the_quick_reader_and_the_strict_one_agree(
            value in "(\\PC|[\\[\\]{}\",:\\\\ 0-9a-z]){0,24}", tail in "[}\\], \n]{0,3}"
        ) {
            let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{value}{tail}");
            let body = Bytes::from(body);
            let strict = Answer::read_strictly(&body, 7);
            let quick = Answer::read(body.clone(), 7);
            if let Ok(Answer::Result(strict)) = &strict {
                let Ok(Answer::Result(quick)) = &quick else { panic!("{body:?}") };
                prop_assert_eq!(quick.bytes().trim_ascii(), strict.bytes().trim_ascii());
            }
            if let (Ok(Answer::Result(quick)), Err(_)) = (&quick, &strict) {
                // Then the result itself is no JSON, and would be none anywhere.
                prop_assert!(serde_json::from_slice::<&RawValue>(quick.bytes()).is_err());
            }
        }
    }
}
