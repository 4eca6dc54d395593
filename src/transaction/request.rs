//! A transaction as the client asked for it: `eth_sendTransaction`'s object, read strictly.

use alloy_consensus::TxType;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, Bytes, U256};

use crate::transaction::{
    Authorizations, AuthorizationsError, Blobs, BlobsError, Draft, Handed, MalformedValue,
};

/// What the caller set, and nothing that the caller did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) from: Address,
    /// `None` creates a contract.
    pub(super) to: Option<Address>,
    pub(super) gas: Option<u64>,
    pub(super) fees: AskedFees,
    pub(super) value: U256,
    pub(super) nonce: Option<u64>,
    pub(super) data: Bytes,
    pub(super) chain_id: Option<u64>,
    pub(super) kind: TxType,
    pub(super) access_list: AccessList,
    /// Of type 3 (EIP-4844).
    pub(super) blobs: Option<Blobs>,
    /// Of type 4 (EIP-7702).
    pub(super) authorizations: Option<Authorizations>,
}

/// The fees that the caller set, in wei for a unit of gas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AskedFees {
    pub gas_price: Option<u128>,
    pub max_fee: Option<u128>,
    pub max_priority: Option<u128>,
}

/// Why a transaction object is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("expected one parameter, the transaction object")]
    Parameters,
    #[error("transaction: {0}")]
    Shape(String),
    #[error("`{field}` {why}")]
    Field { field: &'static str, why: MalformedValue },
    #[error("`from` is missing; Chancery does not choose an account for you")]
    NoFrom,
    #[error("`{0}` and `{1}` are both set and not equal")]
    Differ(&'static str, &'static str),
    #[error("`{0}` and `{1}` are both set; choose one kind of fee")]
    TwoKindsOfFee(&'static str, &'static str),
    #[error("`{field}` does not go with transaction type {kind}")]
    NotInType { field: &'static str, kind: &'static str },
    #[error("`maxPriorityFeePerGas` is higher than `maxFeePerGas`")]
    PriorityAboveMax,
    #[error("`to` is null or missing and there is no `data`: a contract is created from code")]
    EmptyCreation,
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    #[error(transparent)]
    Authorizations(#[from] AuthorizationsError),
    #[error("transaction type {0} creates no contract: it needs `to`")]
    NoTarget(&'static str),
    #[error("`type` is not a transaction type that is known here: 0x0 to 0x4")]
    UnknownType,
}

impl Request {
    /// The parameters of `eth_sendTransaction` and `eth_signTransaction`, all of it worked out.
    pub fn parse(params: Option<&str>) -> Result<Self, RequestError> {
        Draft::parse(params)?.recovered()?.recognising(&[])
    }

    /// The same, if nodes would take it: a transaction is sent with its blobs.
    pub fn to_be_sent(self) -> Result<Self, RequestError> {
        match &self.blobs {
            Some(blobs) if !blobs.came_along() => Err(BlobsError::NotAlong.into()),
            _ => Ok(self),
        }
    }

    /// Marks authorizations as signed here: the ledger says so. One that is the sender's own says which nonce the transaction
    /// must have.
    pub fn recognising(mut self, known: &[Handed]) -> Result<Self, RequestError> {
        if let Some(authorizations) = &mut self.authorizations {
            authorizations.recognise(known);
            let carrier = authorizations.nonce_of_carrier(self.from)?;
            if self.nonce.zip(carrier).is_some_and(|(nonce, carrier)| nonce != carrier) {
                return Err(AuthorizationsError::OwnNonce.into());
            }
        }
        Ok(self)
    }

    /// The nonce that it must have: the one that the caller set, or that the sender's own authorization goes with.
    pub(super) fn wanted(&self) -> Option<u64> {
        let carrier = || self.authorizations.as_ref()?.nonce_of_carrier(self.from).ok()?;
        self.nonce.or_else(carrier)
    }

    pub const fn from(&self) -> Address {
        self.from
    }

    /// `None` creates a contract.
    pub const fn to(&self) -> Option<Address> {
        self.to
    }

    pub const fn value(&self) -> U256 {
        self.value
    }

    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// The gas limit, where the caller set one.
    pub const fn gas(&self) -> Option<u64> {
        self.gas
    }

    pub const fn nonce(&self) -> Option<u64> {
        self.nonce
    }

    pub const fn chain_id(&self) -> Option<u64> {
        self.chain_id
    }

    pub const fn access_list(&self) -> &AccessList {
        &self.access_list
    }

    /// What it says of its blobs, if it has some.
    pub const fn blobs(&self) -> Option<&Blobs> {
        self.blobs.as_ref()
    }

    /// Whose code it sets, and to what.
    pub const fn authorizations(&self) -> Option<&Authorizations> {
        self.authorizations.as_ref()
    }

    /// Whether the caller set any fee, so that none may be raised.
    pub const fn sets_fees(&self) -> bool {
        self.fees.gas_price.is_some() || self.fees.max_fee.is_some() || self.fees.max_priority.is_some()
    }

    /// Whether a fee is left open, so that the node has to be asked.
    pub fn needs_fees(&self) -> bool {
        if self.has_dynamic_fees() {
            self.fees.max_fee.is_none() || self.fees.max_priority.is_none()
        } else {
            self.fees.gas_price.is_none()
        }
    }

    /// Whether its fees are those of EIP-1559.
    pub(super) const fn has_dynamic_fees(&self) -> bool {
        matches!(self.kind, TxType::Eip1559 | TxType::Eip4844 | TxType::Eip7702)
    }

    /// One canonical form of what was asked; see [`Kind::intent`](crate::transaction::Kind::intent).
    pub fn intent(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160_usize.saturating_add(self.data.len()));
        let mut put = |tag: u8, bytes: &[u8]| {
            out.push(tag);
            out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        put(0, &[u8::from(self.kind)]);
        put(1, self.from.as_slice());
        if let Some(to) = self.to {
            put(2, to.as_slice());
        }
        put(3, &self.value.to_be_bytes::<32>());
        put(4, &self.data);
        for (tag, number) in [(5, self.gas), (6, self.nonce), (7, self.chain_id)] {
            if let Some(number) = number {
                put(tag, &number.to_be_bytes());
            }
        }
        for (tag, fee) in [(8, self.fees.gas_price), (9, self.fees.max_fee), (10, self.fees.max_priority)] {
            if let Some(fee) = fee {
                put(tag, &fee.to_be_bytes());
            }
        }
        put(11, &alloy_rlp::encode(&self.access_list));
        if let Some(blobs) = &self.blobs {
            put(12, blobs.hashes().concat().as_slice());
            put(13, &blobs.max_fee_per_gas().to_be_bytes());
            // The same hashes with other proofs, or without the blobs, are another thing to nodes: what is recorded would not
            // do in its place.
            if let Some(hash) = blobs.sidecar_hash() {
                put(15, hash.as_slice());
            }
        }
        if let Some(authorizations) = &self.authorizations {
            let mut list = Vec::new();
            alloy_rlp::encode_list(authorizations.signed(), &mut list);
            put(14, &list);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#""from":"0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f""#;
    const TO: &str = r#""to":"0x3535353535353535353535353535353535353535""#;

    fn parse(fields: &str) -> Result<Request, RequestError> {
        Request::parse(Some(&format!("[{{{A},{fields}}}]")))
    }

    #[test]
    fn inv_04_fields_without_names_are_refused() {
        let from = "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f";
        let to = "0x3535353535353535353535353535353535353535";
        let unnamed = format!(r#"[["{from}","{to}"{}]]"#, ",null".repeat(20));
        assert!(matches!(Request::parse(Some(&unnamed)), Err(RequestError::Shape(_))));
        let listed = format!(r#"{TO},"accessList":[["{to}",[]]]"#);
        assert!(matches!(parse(&listed), Err(RequestError::Shape(_))));
    }

    #[test]
    fn inv_04_what_is_not_understood_is_refused_by_its_name() {
        for (fields, said) in [
            (r#""value":"0x01""#, "`value` has leading zeros"),
            (r#""value":"""#, "`value` must begin with 0x"),
            (r#""value":"0x""#, "`value` is empty"),
            (r#""value":1"#, "`value` must be a string"),
            (r#""value":"0X1""#, "`value` must begin with 0x"),
            (r#""nonce":"0x10000000000000000""#, "`nonce` is larger than 64 bits"),
            (r#""gas":"0x1","gasLimit":"0x2""#, "`gas` and `gasLimit` are both set and not equal"),
            (r#""data":"0x00","input":"0x01""#, "`data` and `input` are both set and not equal"),
            (r#""data":"0x0""#, "`data` has an odd number"),
            (r#""gasPrice":"0x1","maxFeePerGas":"0x1""#, "`gasPrice` and `maxFeePerGas` are both set"),
            (
                r#""gasPrice":"0x1","maxPriorityFeePerGas":"0x1""#,
                "`gasPrice` and `maxPriorityFeePerGas` are both set",
            ),
            (r#""maxFeePerGas":"0x1","maxPriorityFeePerGas":"0x2""#, "is higher than `maxFeePerGas`"),
            (r#""type":"0x2","gasPrice":"0x1""#, "`gasPrice` does not go with transaction type 0x2"),
            (r#""type":"0x1","maxFeePerGas":"0x1""#, "`maxFeePerGas` does not go with transaction type 0x1"),
            (r#""type":"0x0","accessList":[]"#, "`accessList` does not go with transaction type 0x0"),
            (r#""type":"0x3""#, "must state `maxFeePerBlobGas`"),
            (r#""blobs":[]"#, "must state `maxFeePerBlobGas`"),
            (r#""type":"0x2","blobs":[]"#, "`blobs` does not go with transaction type 0x2"),
            (
                r#""type":"0x2","maxFeePerBlobGas":"0x1""#,
                "`maxFeePerBlobGas` does not go with transaction type 0x2",
            ),
            (r#""type":"0x4","blobVersionedHashes":[]"#, "`blobVersionedHashes` does not go with"),
            (r#""type":"0x3","gasPrice":"0x1""#, "`gasPrice` does not go with transaction type 0x3"),
            (r#""type":"0x4""#, "has no authorization"),
            (r#""authorizationList":[]"#, "has no authorization"),
            (r#""authorizationList":[],"type":"0x2""#, "`authorizationList` does not go with"),
            (r#""type":"0x5""#, "is not a transaction type"),
            (r#""gasprice":"0x1""#, "unknown field `gasprice`"),
            (r#""TO":"0x3535353535353535353535353535353535353535""#, "unknown field `TO`"),
            (r#""value":"0x1","value":"0x2""#, "duplicate field `value`"),
            (r#""accessList":[{"address":"0x35","storageKeys":[]}]"#, "`accessList` must be an address"),
            (
                r#""accessList":[{"address":"0x3535353535353535353535353535353535353535","storageKeys":["0x01"]}]"#,
                "must be 32 bytes",
            ),
            (
                r#""accessList":[{"address":"0x3535353535353535353535353535353535353535","storageKeys":[],"x":1}]"#,
                "unknown field `x`",
            ),
        ] {
            let error = parse(&format!("{TO},{fields}")).expect_err(fields).to_string();
            assert!(error.contains(said), "{fields}: {error}");
        }
        assert_eq!(parse(r#""value":"0x1""#), Err(RequestError::EmptyCreation));
        for params in [None, Some("null"), Some("[]"), Some("{}"), Some("[{},{}]")] {
            assert!(Request::parse(params).is_err(), "{params:?}");
        }
        assert_eq!(Request::parse(Some(&format!("[{{{TO}}}]"))), Err(RequestError::NoFrom));
        assert_eq!(Request::parse(Some("[]")), Err(RequestError::Parameters));
    }

    /// What the tools really send; see the transcripts that the compatibility suite repeats.
    #[test]
    fn every_clients_shape_is_taken() {
        let viem = parse(r#""to":"0x3535353535353535353535353535353535353535","value":"0x1""#).unwrap();
        assert_eq!((viem.kind, viem.gas, viem.nonce), (TxType::Eip1559, None, None));
        let cast = r#""maxFeePerGas":"0x77359401","maxPriorityFeePerGas":"0x1","gas":"0x5208","value":"0x1","input":"0x","data":"0x","nonce":"0x0","chainId":"0x7a69","type":"0x2""#;
        assert_eq!(parse(&format!("{TO},{cast}")).unwrap().nonce, Some(0));
        let create = parse(r#""to":null,"data":"0x6000","gasPrice":"0x1","value":null"#).unwrap();
        assert_eq!((create.to, create.kind), (None, TxType::Legacy));
        let listed = parse(&format!(r#"{TO},"gasPrice":"0x1","accessList":[]"#)).unwrap();
        assert_eq!(listed.kind, TxType::Eip2930);
    }

    #[test]
    fn the_intent_tells_apart_what_was_set_and_nothing_else() {
        let base = parse(&format!("{TO},\"data\":\"0x00\"")).unwrap();
        assert_eq!(
            parse(&format!("{TO},\"input\":\"0x00\",\"data\":\"0x00\"")).unwrap().intent(),
            base.intent()
        );
        assert_eq!(
            parse(&format!("{TO},\"data\":\"0x00\",\"value\":\"0x0\"")).unwrap().intent(),
            base.intent()
        );
        for other in [
            "\"value\":\"0x1\"",
            "\"nonce\":\"0x0\"",
            "\"gas\":\"0x0\"",
            "\"maxFeePerGas\":\"0x0\"",
            "\"type\":\"0x0\"",
        ] {
            let other = parse(&format!("{TO},\"data\":\"0x00\",{other}")).unwrap();
            assert_ne!(other.intent(), base.intent());
        }
    }

    #[test]
    fn each_field_that_is_set_is_told_apart_from_one_that_is_not() {
        let of = |more: &str| parse(&format!("{TO},\"data\":\"0x00\"{more}")).unwrap().intent();
        let mut intents = vec![of("")];
        for more in [
            r#","value":"0x1""#,
            r#","value":"0x100""#,
            r#","nonce":"0x7""#,
            r#","gas":"0x7""#,
            r#","chainId":"0x7""#,
            r#","maxFeePerGas":"0x7""#,
            r#","maxPriorityFeePerGas":"0x7""#,
            r#","maxFeePerGas":"0x7","maxPriorityFeePerGas":"0x7""#,
            r#","gasPrice":"0x7""#,
            r#","type":"0x0""#,
            r#","type":"0x1""#,
            r#","accessList":[{"address":"0x3535353535353535353535353535353535353535","storageKeys":[]}]"#,
        ] {
            intents.push(of(more));
        }
        intents.push(parse("\"data\":\"0x00\"").unwrap().intent());
        intents.push(parse(&format!("{TO},\"data\":\"0x0000\"")).unwrap().intent());
        let other = A.replace("9d8a", "9d8b");
        let other = Request::parse(Some(&format!("[{{{other},{TO},\"data\":\"0x00\"}}]"))).unwrap();
        intents.push(other.intent());
        let count = intents.len();
        intents.sort();
        intents.dedup();
        assert_eq!(intents.len(), count);
    }

    #[test]
    fn the_node_is_asked_for_the_fees_that_are_left_open() {
        for (fields, needs, sets) in [
            ("", true, false),
            (r#","maxFeePerGas":"0x7""#, true, true),
            (r#","maxPriorityFeePerGas":"0x7""#, true, true),
            (r#","maxFeePerGas":"0x7","maxPriorityFeePerGas":"0x7""#, false, true),
            (r#","gasPrice":"0x7""#, false, true),
            (r#","type":"0x0""#, true, false),
            (r#","type":"0x1""#, true, false),
        ] {
            let read = parse(&format!("{TO}{fields}")).unwrap();
            assert_eq!((read.needs_fees(), read.sets_fees()), (needs, sets), "{fields}");
        }
    }

    #[test]
    fn what_the_caller_set_is_what_is_read() {
        let all = r#""value":"0x5","nonce":"0x6","gas":"0x7","chainId":"0x8","data":"0x0102","type":"0x1","accessList":[]"#;
        let read = parse(&format!("{TO},{all}")).unwrap();
        assert_eq!(
            (read.value(), read.nonce(), read.gas(), read.chain_id()),
            (U256::from(5), Some(6), Some(7), Some(8))
        );
        assert_eq!((read.data().to_string().as_str(), read.access_list().len()), ("0x0102", 0));
        assert_eq!(read.to().unwrap().to_string(), "0x3535353535353535353535353535353535353535");
        assert_eq!(read.from().to_string().to_lowercase(), "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f");
        assert!(read.blobs().is_none() && read.authorizations().is_none() && read.to_be_sent().is_ok());
    }
}
