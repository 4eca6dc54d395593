//! How the fields of a transaction object are read: each in its one canonical form, and named where it is not.

use alloy_primitives::{Address, B256, Bytes, U256};
use serde_json::Value;

use crate::transaction::{MalformedValue, RequestError, address, data, quantity};

fn text<'a, T>(
    field: &'static str,
    value: Option<&'a Value>,
    read: impl Fn(&'a str) -> Result<T, MalformedValue>,
) -> Result<Option<T>, RequestError> {
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => read(text),
        Some(_) => Err(MalformedValue::NotAString),
    };
    value.map(Some).map_err(|why| RequestError::Field { field, why })
}

pub(super) fn word(field: &'static str, value: Option<&Value>) -> Result<Option<U256>, RequestError> {
    text(field, value, quantity)
}

pub(super) fn number<T: TryFrom<U256>>(
    field: &'static str,
    value: Option<&Value>,
) -> Result<Option<T>, RequestError> {
    let bits = size_of::<T>().saturating_mul(8);
    text(field, value, |text| T::try_from(quantity(text)?).map_err(|_| MalformedValue::TooLarge(bits)))
}

pub(super) fn bytes(field: &'static str, value: Option<&Value>) -> Result<Option<Bytes>, RequestError> {
    text(field, value, data)
}

pub(super) fn account(field: &'static str, value: Option<&Value>) -> Result<Option<Address>, RequestError> {
    text(field, value, address)
}

/// A list of DATA; `None` where it is missing or null.
pub(super) fn list(field: &'static str, value: Option<&Value>) -> Result<Option<Vec<Bytes>>, RequestError> {
    let items = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(RequestError::Shape(format!("`{field}` must be a list"))),
    };
    let one = |item| {
        bytes(field, Some(item))?.ok_or(RequestError::Field { field, why: MalformedValue::NotAString })
    };
    items.iter().map(one).collect::<Result<_, _>>().map(Some)
}

/// A list of words.
pub(super) fn words(field: &'static str, value: Option<&Value>) -> Result<Option<Vec<B256>>, RequestError> {
    let wrong = |_| RequestError::Shape(format!("each of `{field}` must be 32 bytes"));
    let read =
        |items: Vec<Bytes>| items.iter().map(|item| B256::try_from(item.as_ref()).map_err(wrong)).collect();
    list(field, value)?.map(read).transpose()
}

/// Two names of one thing: either, or both if they are equal.
pub(super) fn same<T: PartialEq>(
    (one, a): (&'static str, Option<T>),
    (other, b): (&'static str, Option<T>),
) -> Result<Option<T>, RequestError> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(RequestError::Differ(one, other)),
        (a, b) => Ok(a.or(b)),
    }
}

/// serde's sentence without its position, which is one within the parameters and would mislead.
pub(super) fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
