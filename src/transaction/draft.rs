//! How a transaction object is read: every field that is known, and who signed what it hands in as a step of its own.

use alloy_consensus::TxType;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::transaction::authorizations::{self, Authorizations};
use crate::transaction::blobs;
use crate::transaction::fields::{account, bytes, number, said, same, word};
use crate::transaction::request::AskedFees;
use crate::transaction::{MalformedValue, Request, RequestError};

/// A transaction object as it was read, before anybody worked out who signed what it hands in: that costs a recovery each,
/// and is for those who may use the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    request: Request,
    handed_in: Option<Vec<SignedAuthorization>>,
}

impl Draft {
    /// The parameters of `eth_sendTransaction` and `eth_signTransaction`.
    pub fn parse(params: Option<&str>) -> Result<Self, RequestError> {
        let params = params.unwrap_or("[]").trim_start();
        if !params.starts_with('[') {
            return Err(RequestError::Parameters);
        }
        let (object,): (&RawValue,) = serde_json::from_str(params).map_err(|e| match e.classify() {
            serde_json::error::Category::Data if e.to_string().starts_with("invalid length") => {
                RequestError::Parameters
            }
            _ => RequestError::Shape(said(&e)),
        })?;
        // serde would take an array for the fields in their order.
        if !object.get().starts_with('{') {
            return Err(RequestError::Shape("expected an object".to_owned()));
        }
        let written: Written =
            serde_json::from_str(object.get()).map_err(|e| RequestError::Shape(said(&e)))?;
        written.read()
    }

    pub const fn from(&self) -> Address {
        self.request.from
    }

    /// How many signatures there are to be worked out.
    pub fn handed_in(&self) -> usize {
        self.handed_in.as_ref().map_or(0, Vec::len)
    }

    /// Works out who signed its authorizations.
    pub fn recovered(self) -> Result<Request, RequestError> {
        let Self { mut request, handed_in } = self;
        request.authorizations = handed_in.map(Authorizations::of_signed).transpose()?;
        Ok(request)
    }
}

/// Every field that is known, so that any other is refused by its name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    from: Option<Value>,
    to: Option<Value>,
    gas: Option<Value>,
    gas_limit: Option<Value>,
    gas_price: Option<Value>,
    max_fee_per_gas: Option<Value>,
    max_priority_fee_per_gas: Option<Value>,
    value: Option<Value>,
    nonce: Option<Value>,
    data: Option<Value>,
    input: Option<Value>,
    chain_id: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<Value>,
    access_list: Option<Vec<Value>>,
    // Type 3.
    blobs: Option<Value>,
    blob_versioned_hashes: Option<Value>,
    blob_version: Option<Value>,
    max_fee_per_blob_gas: Option<Value>,
    commitments: Option<Value>,
    proofs: Option<Value>,
    cell_proofs: Option<Value>,
    // Type 4.
    authorization_list: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenAccess {
    address: Value,
    storage_keys: Vec<Value>,
}

impl Written {
    fn read(self) -> Result<Draft, RequestError> {
        let blobs = blobs::Written {
            blobs: self.blobs,
            hashes: self.blob_versioned_hashes,
            version: self.blob_version,
            max_fee: self.max_fee_per_blob_gas,
            commitments: self.commitments,
            proofs: self.proofs,
            cell_proofs: self.cell_proofs,
        };
        let fees = AskedFees {
            gas_price: number("gasPrice", self.gas_price.as_ref())?,
            max_fee: number("maxFeePerGas", self.max_fee_per_gas.as_ref())?,
            max_priority: number("maxPriorityFeePerGas", self.max_priority_fee_per_gas.as_ref())?,
        };
        let gas = same(
            ("gas", number("gas", self.gas.as_ref())?),
            ("gasLimit", number("gasLimit", self.gas_limit.as_ref())?),
        )?;
        let data = same(
            ("data", bytes("data", self.data.as_ref())?),
            ("input", bytes("input", self.input.as_ref())?),
        )?
        .unwrap_or_default();
        let has = Has {
            access_list: self.access_list.is_some(),
            blobs: blobs.first(),
            authorizations: self.authorization_list.is_some(),
        };
        let kind = kind(self.kind.as_ref(), fees, has)?;
        let request = Request {
            from: account("from", self.from.as_ref())?.ok_or(RequestError::NoFrom)?,
            to: account("to", self.to.as_ref())?,
            gas,
            kind,
            fees,
            value: word("value", self.value.as_ref())?.unwrap_or_default(),
            nonce: number("nonce", self.nonce.as_ref())?,
            data,
            chain_id: number("chainId", self.chain_id.as_ref())?,
            access_list: access_list(self.access_list.unwrap_or_default())?,
            blobs: (kind == TxType::Eip4844).then(|| blobs.read()).transpose()?,
            authorizations: None,
        };
        let handed_in = (kind == TxType::Eip7702)
            .then(|| authorizations::read(self.authorization_list.unwrap_or_default()))
            .transpose()?;
        if request.to.is_none() && matches!(kind, TxType::Eip4844 | TxType::Eip7702) {
            return Err(RequestError::NoTarget(if kind == TxType::Eip4844 { "0x3" } else { "0x4" }));
        }
        if request.to.is_none() && request.data.is_empty() {
            return Err(RequestError::EmptyCreation);
        }
        Ok(Draft { request, handed_in })
    }
}

/// Which fields are there that not every type has.
#[derive(Clone, Copy)]
struct Has {
    access_list: bool,
    /// One of those that are about blobs.
    blobs: Option<&'static str>,
    authorizations: bool,
}

/// The type that was asked for, or the one that the fields imply; a field of another type is refused.
fn kind(written: Option<&Value>, fees: AskedFees, has: Has) -> Result<TxType, RequestError> {
    if let (Some(_), Some(_)) = (fees.gas_price, fees.max_fee.or(fees.max_priority)) {
        let other = if fees.max_fee.is_some() { "maxFeePerGas" } else { "maxPriorityFeePerGas" };
        return Err(RequestError::TwoKindsOfFee("gasPrice", other));
    }
    if let (Some(max), Some(priority)) = (fees.max_fee, fees.max_priority)
        && priority > max
    {
        return Err(RequestError::PriorityAboveMax);
    }
    let kind = match word("type", written)? {
        Some(kind) => match u64::try_from(kind) {
            Ok(0) => TxType::Legacy,
            Ok(1) => TxType::Eip2930,
            Ok(2) => TxType::Eip1559,
            Ok(3) => TxType::Eip4844,
            Ok(4) => TxType::Eip7702,
            _ => return Err(RequestError::UnknownType),
        },
        None if has.authorizations => TxType::Eip7702,
        None if has.blobs.is_some() => TxType::Eip4844,
        None if fees.gas_price.is_none() => TxType::Eip1559,
        None if has.access_list => TxType::Eip2930,
        None => TxType::Legacy,
    };
    let name = match kind {
        TxType::Legacy => "0x0",
        TxType::Eip2930 => "0x1",
        TxType::Eip1559 => "0x2",
        TxType::Eip4844 => "0x3",
        TxType::Eip7702 => "0x4",
    };
    let is_dynamic = !matches!(kind, TxType::Legacy | TxType::Eip2930);
    let others: [(&'static str, bool); 6] = [
        ("accessList", has.access_list && kind == TxType::Legacy),
        ("maxFeePerGas", fees.max_fee.is_some() && !is_dynamic),
        ("maxPriorityFeePerGas", fees.max_priority.is_some() && !is_dynamic),
        ("gasPrice", fees.gas_price.is_some() && is_dynamic),
        (has.blobs.unwrap_or_default(), has.blobs.is_some() && kind != TxType::Eip4844),
        ("authorizationList", has.authorizations && kind != TxType::Eip7702),
    ];
    match others.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(RequestError::NotInType { field, kind: name }),
        None => Ok(kind),
    }
}

fn access_list(written: Vec<Value>) -> Result<AccessList, RequestError> {
    let field = "accessList";
    let items = written.into_iter().map(|item| {
        if !item.is_object() {
            return Err(RequestError::Shape("an entry of `accessList` must be an object".to_owned()));
        }
        let item = WrittenAccess::deserialize(item).map_err(|e| RequestError::Shape(said(&e)))?;
        let keys = item.storage_keys.iter().map(|key| {
            let key = bytes(field, Some(key))?.unwrap_or_default();
            B256::try_from(key.as_ref())
                .map_err(|_| RequestError::Shape("a storage key in `accessList` must be 32 bytes".to_owned()))
        });
        Ok(AccessListItem {
            address: account(field, Some(&item.address))?
                .ok_or(RequestError::Field { field, why: MalformedValue::NotAnAddress })?,
            storage_keys: keys.collect::<Result<_, _>>()?,
        })
    });
    Ok(AccessList(items.collect::<Result<_, RequestError>>()?))
}
