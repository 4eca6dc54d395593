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
        return Ok(Err(EntryError { id: Id::Null, fault: Fault::NotAnObject }));
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
        self.envelope(id).map_err(|fault| EntryError { id: answer_to, fault })
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
    // `parse` takes a sign, which plain writing has none of. (A leading zero is no JSON.)
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && *number <= MAX_ID);
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
