//! What the headers of a request say.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::Client;
use crate::identity::IdempotencyKey;
use crate::rpc::rejection::Rejection;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The Content-Length; hyper has checked that there is one, and that it is a number.
pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    Some(length.parse().unwrap_or(usize::MAX))
}

/// A header stands there twice, or is not ASCII.
#[derive(Debug)]
pub struct Unclear;

/// The only value of a header, if it is there.
pub fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Unclear> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Unclear);
    }
    first.map(|value| value.to_str().map_err(|_| Unclear)).transpose()
}

/// The name that the client gave to what it asks, if it gave one.
pub fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Rejection> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            IdempotencyKey::parse(value.as_bytes()).map(Some).ok_or(Rejection::IdempotencyKey)
        }
        (Some(_), Some(_)) => Err(Rejection::IdempotencyKey),
    }
}

pub fn without_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

pub fn is_welcome(client: &Client, origin: &HeaderValue) -> bool {
    // Firefox gives an extension another name in each installation.
    let is_extension = origin.as_bytes().starts_with(b"moz-extension://");
    client.origins.iter().any(|listed| {
        listed.as_bytes() == origin.as_bytes() || (listed == "moz-extension://*" && is_extension)
    })
}

/// `application/json`, with no parameter but a charset of UTF-8.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(value)) = only(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}
