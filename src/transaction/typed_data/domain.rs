//! The domain: for which contract, on which chain, a signature is meant. `EIP712Domain` must list exactly what it holds.

use std::collections::BTreeMap;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{Address, B256, U256};

use crate::transaction::typed_data::TypedDataError;
use crate::transaction::typed_data::encode::hash_struct;
use crate::transaction::typed_data::json::{Node, shown};
use crate::transaction::typed_data::types::StructType;
use crate::transaction::typed_data::value;

/// What of the five members is there. At least one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub name: Option<String>,
    pub version: Option<String>,
    pub chain_id: Option<u64>,
    pub verifying_contract: Option<Address>,
    pub salt: Option<B256>,
}

/// In the order that EIP-712 gives; libraries that derive the type from the domain put them so.
const MEMBERS: [(&str, &str); 5] = [
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
];

pub(super) const TYPE: &str = "EIP712Domain";

impl Domain {
    pub(super) fn read(
        listed: &[(String, String)],
        given: &BTreeMap<String, Node>,
    ) -> Result<Self, TypedDataError> {
        let wrong = |what: String| Err(TypedDataError::Domain(what));
        if let Some(unknown) = given.keys().find(|key| !MEMBERS.iter().any(|(name, _)| name == key)) {
            return wrong(format!("`{}` is no member that a domain can have", shown(unknown)));
        }
        let expected: Vec<_> = MEMBERS.into_iter().filter(|(name, _)| given.contains_key(*name)).collect();
        if expected.is_empty() {
            return wrong(
                "the domain is empty: the signature would be good for any contract and chain".to_owned(),
            );
        }
        let is_listed = listed.len() == expected.len()
            && listed.iter().zip(&expected).all(|((name, ty), (wanted, of))| name == wanted && ty == of);
        if !is_listed {
            let expected: Vec<_> = expected.iter().map(|(name, ty)| format!("{ty} {name}")).collect();
            return wrong(format!(
                "`types.EIP712Domain` must list what the domain holds, in this order: {}",
                expected.join(", ")
            ));
        }
        let mut domain = Self::default();
        for (name, node) in given {
            let place = format!("domain.{name}");
            match name.as_str() {
                "name" => domain.name = Some(text(node, &place)?),
                "version" => domain.version = Some(text(node, &place)?),
                "chainId" => domain.chain_id = Some(chain_id(node, &place)?),
                "verifyingContract" => {
                    let read = value::read_value(&DynSolType::Address, node, &place)?;
                    domain.verifying_contract = read.as_address();
                }
                _ => {
                    let read = value::read_value(&DynSolType::FixedBytes(32), node, &place)?;
                    domain.salt = read.as_fixed_bytes().and_then(|(bytes, _)| B256::try_from(bytes).ok());
                }
            }
        }
        Ok(domain)
    }

    /// `hashStruct` of the domain.
    pub fn separator(&self) -> Result<B256, TypedDataError> {
        hash_struct(&StructType::plain(TYPE, &self.listed())?, &self.values())
    }

    /// Its members and their types, in order.
    pub(super) fn listed(&self) -> Vec<(String, String)> {
        let is_there = [
            self.name.is_some(),
            self.version.is_some(),
            self.chain_id.is_some(),
            self.verifying_contract.is_some(),
            self.salt.is_some(),
        ];
        let members = MEMBERS.into_iter().zip(is_there).filter(|(_, is_there)| *is_there);
        members.map(|((name, ty), _)| (name.to_owned(), ty.to_owned())).collect()
    }

    pub(super) fn values(&self) -> Vec<DynSolValue> {
        let parts = [
            self.name.clone().map(DynSolValue::String),
            self.version.clone().map(DynSolValue::String),
            self.chain_id.map(|id| DynSolValue::Uint(U256::from(id), 256)),
            self.verifying_contract.map(DynSolValue::Address),
            self.salt.map(|salt| DynSolValue::FixedBytes(salt, 32)),
        ];
        parts.into_iter().flatten().collect()
    }
}

fn text(node: &Node, place: &str) -> Result<String, TypedDataError> {
    match value::read_value(&DynSolType::String, node, place)? {
        DynSolValue::String(text) => Ok(text),
        _ => Err(TypedDataError::value(place, "must be text")),
    }
}

/// As a number (viem), a QUANTITY (ethers), or decimal digits (web pages): a chain id that a chain can have.
fn chain_id(node: &Node, place: &str) -> Result<u64, TypedDataError> {
    let read = value::read_value(&DynSolType::Uint(256), node, place)?;
    let number = read.as_uint().and_then(|(number, _)| u64::try_from(number).ok());
    number.filter(|id| *id > 0).ok_or_else(|| TypedDataError::value(place, "is no chain's id"))
}
