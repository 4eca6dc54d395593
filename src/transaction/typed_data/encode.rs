//! `encodeData` and `hashStruct` of EIP-712, over values that have been read.

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{B256, Keccak256, keccak256};

use crate::transaction::typed_data::TypedDataError;
use crate::transaction::typed_data::types::{MemberType, StructType};

/// What is signed: `0x19 0x01`, the domain, the message.
pub(super) fn digest(separator: B256, message: B256) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([0x19, 0x01]);
    hasher.update(separator);
    hasher.update(message);
    hasher.finalize()
}

pub(super) fn hash_struct(ty: &StructType, values: &[DynSolValue]) -> Result<B256, TypedDataError> {
    if ty.members().len() != values.len() {
        return Err(mismatch());
    }
    let mut hasher = Keccak256::new();
    hasher.update(ty.type_hash());
    for (member, value) in ty.members().iter().zip(values) {
        hasher.update(word(&member.ty, value)?);
    }
    Ok(hasher.finalize())
}

/// The 32 bytes that stand for a value.
fn word(ty: &MemberType, value: &DynSolValue) -> Result<B256, TypedDataError> {
    match (ty, value) {
        (MemberType::Struct(inner), DynSolValue::Tuple(values)) => hash_struct(inner, values),
        (MemberType::List(item, _), DynSolValue::Array(items) | DynSolValue::FixedArray(items)) => {
            let mut hasher = Keccak256::new();
            for value in items {
                hasher.update(word(item, value)?);
            }
            Ok(hasher.finalize())
        }
        (MemberType::Value(_), DynSolValue::Bytes(bytes)) => Ok(keccak256(bytes)),
        (MemberType::Value(_), DynSolValue::String(text)) => Ok(keccak256(text.as_bytes())),
        (MemberType::Value(_), value) => value.as_word().ok_or_else(mismatch),
        _ => Err(mismatch()),
    }
}

/// Values are read by their types, so that this is never said.
fn mismatch() -> TypedDataError {
    TypedDataError::Types("a value is not of its type".to_owned())
}
