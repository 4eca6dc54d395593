//! Typed data by EIP-712: read so strictly that no two libraries could read it otherwise, then hashed.
//!
//! eth-account, eth-sig-util and alloy disagree on about half of the edge cases: a member that is missing or too
//! many, `bytes4` of five bytes, `"false"`, types that are not used or hold themselves, an `EIP712Domain` that is
//! not the domain's. What is read here is only that on which they agree; all else is refused before it is hashed.

mod domain;
mod encode;
mod json;
mod payload;
mod types;
mod value;

pub use domain::Domain;
pub use payload::{Structured, TypedData, TypedDataError};
pub use types::{Member, MemberType, StructType};
