//! Values of typed data: read by their types, each in a form that no library reads otherwise, and written back.

use std::collections::BTreeMap;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{B256, I256, Sign, U256, hex};
use serde_json::Value;

use crate::transaction::typed_data::TypedDataError;
use crate::transaction::typed_data::json::{Node, shown};
use crate::transaction::typed_data::types::{MemberType, StructType};
use crate::transaction::{address, data, quantity};

/// The largest integer that every JSON library reads exactly.
const MAX_JSON_INTEGER: u64 = (1 << 53) - 1;

/// The members of a struct in their order: each there, and no other.
pub(super) fn read_struct(
    ty: &StructType,
    given: &BTreeMap<String, Node>,
    place: &str,
) -> Result<Vec<DynSolValue>, TypedDataError> {
    if let Some(unknown) = given.keys().find(|key| !ty.members().iter().any(|member| member.name == **key)) {
        let why = format!("has `{}`, which is no member of {}", shown(unknown), ty.name());
        return Err(TypedDataError::value(place, why));
    }
    let member = |member: &crate::transaction::typed_data::Member| {
        let place = format!("{place}.{}", member.name);
        match given.get(&member.name) {
            None => Err(TypedDataError::value(&place, "is missing")),
            Some(node) => read(&member.ty, node, &place),
        }
    };
    ty.members().iter().map(member).collect()
}

fn read(ty: &MemberType, node: &Node, place: &str) -> Result<DynSolValue, TypedDataError> {
    match (ty, node) {
        (MemberType::Value(ty), node) => read_value(ty, node, place),
        (MemberType::Struct(inner), Node::Object(given)) => {
            read_struct(inner, given, place).map(DynSolValue::Tuple)
        }
        (MemberType::Struct(inner), _) => {
            Err(TypedDataError::value(place, format!("must be an object, a {}", inner.name())))
        }
        (MemberType::List(item, size), Node::List(items)) => {
            if let Some(size) = size.filter(|size| *size != items.len()) {
                return Err(TypedDataError::value(place, format!("must have {size} items")));
            }
            let items =
                items.iter().enumerate().map(|(at, node)| read(item, node, &format!("{place}[{at}]")));
            let items = items.collect::<Result<_, _>>()?;
            Ok(if size.is_some() { DynSolValue::FixedArray(items) } else { DynSolValue::Array(items) })
        }
        (MemberType::List(..), _) => Err(TypedDataError::value(place, "must be a list")),
    }
}

/// A value of one of Solidity's own types.
pub(super) fn read_value(ty: &DynSolType, node: &Node, place: &str) -> Result<DynSolValue, TypedDataError> {
    let wrong = |why: &str| TypedDataError::value(place, why);
    match (ty, node) {
        (DynSolType::Bool, Node::Bool(value)) => Ok(DynSolValue::Bool(*value)),
        (DynSolType::Bool, _) => Err(wrong("must be true or false")),
        (DynSolType::String, Node::Text(text)) => Ok(DynSolValue::String(text.clone())),
        (DynSolType::String, _) => Err(wrong("must be text")),
        (DynSolType::Address, Node::Text(text)) => {
            address(text).map(DynSolValue::Address).map_err(|e| wrong(&e.to_string()))
        }
        (DynSolType::Address, _) => Err(wrong("must be an address: 0x and 40 hexadecimal digits")),
        (DynSolType::Bytes, Node::Text(text)) => {
            data(text).map(|bytes| DynSolValue::Bytes(bytes.to_vec())).map_err(|e| wrong(&e.to_string()))
        }
        (DynSolType::FixedBytes(size), Node::Text(text)) => {
            let bytes = data(text).map_err(|e| wrong(&e.to_string()))?;
            if bytes.len() != *size {
                return Err(wrong(&format!("has {} bytes, and must have {size}", bytes.len())));
            }
            let mut word = B256::ZERO;
            word.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            Ok(DynSolValue::FixedBytes(word, *size))
        }
        (DynSolType::Bytes | DynSolType::FixedBytes(_), _) => Err(wrong("must be bytes: \"0x…\"")),
        (DynSolType::Uint(bits), node) => {
            let (negative, number) = integer(node).map_err(|why| wrong(&why))?;
            if negative || number.bit_len() > *bits {
                return Err(wrong(&format!("does not fit into uint{bits}")));
            }
            Ok(DynSolValue::Uint(number, *bits))
        }
        (DynSolType::Int(bits), node) => {
            let (negative, number) = integer(node).map_err(|why| wrong(&why))?;
            let sign = if negative { Sign::Negative } else { Sign::Positive };
            let fits = |number: &I256| usize::try_from(number.bits()).is_ok_and(|needed| needed <= *bits);
            let number = I256::checked_from_sign_and_abs(sign, number).filter(fits);
            let number = number.ok_or_else(|| wrong(&format!("does not fit into int{bits}")))?;
            Ok(DynSolValue::Int(number, *bits))
        }
        _ => Err(wrong("is of a type that is not read here")),
    }
}

/// An integer in one of its forms: a number that every library reads exactly, decimal digits, or a QUANTITY.
fn integer(node: &Node) -> Result<(bool, U256), String> {
    match node {
        Node::Integer(number) => {
            let size = u64::try_from(number.unsigned_abs()).ok().filter(|size| *size <= MAX_JSON_INTEGER);
            let size =
                size.ok_or("is too large for a JSON number, which libraries round; write it as text")?;
            Ok((*number < 0, U256::from(size)))
        }
        Node::Text(text) if text.starts_with("0x") => {
            quantity(text).map(|number| (false, number)).map_err(|e| e.to_string())
        }
        Node::Text(text) => {
            let (negative, digits) = match text.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, text.as_str()),
            };
            let plain = !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit())
                && (!digits.starts_with('0') || digits == "0" && !negative);
            if !plain {
                return Err("must be an integer: decimal digits without leading zeros, or \"0x…\"".to_owned());
            }
            let number =
                U256::from_str_radix(digits, 10).map_err(|_| "is larger than 256 bits".to_owned())?;
            Ok((negative, number))
        }
        _ => Err("must be an integer, as a number or as text".to_owned()),
    }
}

/// A value in its one canonical form, which is read back as the same.
pub(super) fn write(ty: &MemberType, value: &DynSolValue) -> Value {
    match (ty, value) {
        (MemberType::Struct(inner), DynSolValue::Tuple(values)) => write_struct(inner, values),
        (MemberType::List(item, _), DynSolValue::Array(items) | DynSolValue::FixedArray(items)) => {
            Value::Array(items.iter().map(|value| write(item, value)).collect())
        }
        (_, value) => plain(value),
    }
}

pub(super) fn write_struct(ty: &StructType, values: &[DynSolValue]) -> Value {
    let members = ty.members().iter().zip(values);
    Value::Object(members.map(|(member, value)| (member.name.clone(), write(&member.ty, value))).collect())
}

pub(super) fn plain(value: &DynSolValue) -> Value {
    match value {
        DynSolValue::Bool(value) => Value::Bool(*value),
        DynSolValue::String(text) => Value::String(text.clone()),
        DynSolValue::Address(address) => Value::String(address.to_string()),
        DynSolValue::Uint(number, _) => Value::String(number.to_string()),
        DynSolValue::Int(number, _) => Value::String(number.to_dec_string()),
        DynSolValue::Bytes(bytes) => Value::String(hex::encode_prefixed(bytes)),
        DynSolValue::FixedBytes(word, size) => {
            Value::String(hex::encode_prefixed(word.get(..*size).unwrap_or_default()))
        }
        // Values are read by their types, and there are no others.
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ty: &str, node: &str) -> Result<DynSolValue, String> {
        let node: Node = serde_json::from_str(node).unwrap();
        read_value(&DynSolType::parse(ty).unwrap(), &node, "x")
            .map_err(|e| e.to_string().replacen("typed data: ", "", 1))
    }

    #[test]
    fn a_number_fits_its_type_to_the_last_bit() {
        for (ty, node, is) in [
            ("uint8", "255", Ok("255")),
            ("uint8", "256", Err("`x` does not fit into uint8")),
            ("uint8", "\"0xff\"", Ok("255")),
            ("uint8", "\"255\"", Ok("255")),
            ("uint8", "-1", Err("`x` does not fit into uint8")),
            ("uint8", "\"-1\"", Err("`x` does not fit into uint8")),
            ("int8", "127", Ok("127")),
            ("int8", "128", Err("`x` does not fit into int8")),
            ("int8", "-128", Ok("-128")),
            ("int8", "-129", Err("`x` does not fit into int8")),
            ("int8", "\"-128\"", Ok("-128")),
            ("uint256", "9007199254740991", Ok("9007199254740991")),
            (
                "uint256",
                "9007199254740992",
                Err("`x` is too large for a JSON number, which libraries round; write it as text"),
            ),
            ("int256", "-9007199254740991", Ok("-9007199254740991")),
            (
                "int256",
                "-9007199254740992",
                Err("`x` is too large for a JSON number, which libraries round; write it as text"),
            ),
            ("uint256", "\"0\"", Ok("0")),
            ("uint256", "\"10\"", Ok("10")),
            (
                "int256",
                "\"-0\"",
                Err("`x` must be an integer: decimal digits without leading zeros, or \"0x…\""),
            ),
            (
                "uint256",
                "\"01\"",
                Err("`x` must be an integer: decimal digits without leading zeros, or \"0x…\""),
            ),
            (
                "uint256",
                "\"\"",
                Err("`x` must be an integer: decimal digits without leading zeros, or \"0x…\""),
            ),
            (
                "uint256",
                "\"1e3\"",
                Err("`x` must be an integer: decimal digits without leading zeros, or \"0x…\""),
            ),
            ("uint256", "true", Err("`x` must be an integer, as a number or as text")),
        ] {
            let read = of(ty, node).map(|value| plain(&value).as_str().unwrap().to_owned());
            assert_eq!(read.as_deref().map_err(String::as_str), is, "{ty} {node}");
        }
        let large = format!("\"{}\"", "9".repeat(78));
        assert_eq!(of("uint256", &large).unwrap_err(), "`x` is larger than 256 bits");
    }

    #[test]
    fn a_value_of_another_form_says_what_it_must_be() {
        for (ty, node, why) in [
            ("bool", "1", "`x` must be true or false"),
            ("bool", "\"true\"", "`x` must be true or false"),
            ("string", "1", "`x` must be text"),
            ("address", "1", "`x` must be an address: 0x and 40 hexadecimal digits"),
            ("bytes", "[]", "`x` must be bytes: \"0x…\""),
            ("bytes4", "1", "`x` must be bytes: \"0x…\""),
            ("bytes4", "\"0x010203\"", "`x` has 3 bytes, and must have 4"),
            ("bytes4", "\"0x0102030405\"", "`x` has 5 bytes, and must have 4"),
            ("bytes", "\"0x1\"", "`x` has an odd number of hexadecimal digits"),
            ("function", "\"0x\"", "`x` is of a type that is not read here"),
        ] {
            assert_eq!(of(ty, node).unwrap_err(), why, "{ty} {node}");
        }
        for (ty, node) in [
            ("bool", "false"),
            ("string", "\"h\u{e9}\""),
            ("address", "\"0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826\""),
            ("bytes", "\"0x0102\""),
            ("bytes4", "\"0x01020304\""),
        ] {
            let value = of(ty, node).unwrap();
            assert_eq!(
                plain(&value),
                serde_json::from_str::<Value>(node).unwrap(),
                "{ty}: written as it is read"
            );
        }
    }
}
