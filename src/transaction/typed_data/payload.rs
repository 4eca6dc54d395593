//! The kind of typed data, and its one way in: the parameters of `eth_signTypedData_v4` and its older names.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, B256, Bytes};
use serde_json::{Value, json};

use crate::transaction::typed_data::domain::{Domain, TYPE as DOMAIN};
use crate::transaction::typed_data::encode::{digest, hash_struct};
use crate::transaction::typed_data::json::{Node, shown};
use crate::transaction::typed_data::types::{StructType, Written, build};
use crate::transaction::typed_data::value::{self, plain, write_struct};
use crate::transaction::{FillError, Kind, MalformedValue, Sealed, Signature, Slot, address};

/// The kind of typed data (EIP-712).
#[derive(Clone, Copy, Debug)]
pub enum TypedData {}

/// Typed data that has been read, and the account that is asked to sign it.
#[derive(Clone, Debug, PartialEq)]
pub struct Structured {
    from: Address,
    domain: Domain,
    ty: Arc<StructType>,
    values: Vec<DynSolValue>,
    digest: B256,
    /// JSON in one canonical form, which is read back as the same.
    text: Arc<str>,
}

/// Why typed data is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypedDataError {
    #[error("expected two parameters, the account and the typed data (an object, or JSON as text)")]
    Parameters,
    #[error(
        "a list of typed values is version 1 of eth_signTypedData, which names no contract and no chain; use eth_signTypedData_v4"
    )]
    Version1,
    #[error("the account {0}")]
    Account(MalformedValue),
    #[error("the typed data is longer than {0} bytes")]
    TooLong(usize),
    #[error("the typed data is not the JSON that is expected: {0}")]
    Json(String),
    #[error("typed data: {0}")]
    Types(String),
    #[error("typed data: {0}")]
    Domain(String),
    #[error("typed data: `{place}` {why}")]
    Value { place: String, why: String },
}

/// What of it is read, in bytes: far more than anyone could look at.
const MAX_TEXT: usize = 128 * 1024;

/// A signature, before the text that was signed.
const SIGNATURE: usize = 65;

impl TypedDataError {
    pub(super) fn value(place: &str, why: impl Into<String>) -> Self {
        // The names in a place are the client's own.
        let place: String = place.chars().take(160).collect();
        Self::Value { place, why: why.into() }
    }
}

impl Structured {
    /// The parameters of `eth_signTypedData_v4`, `_v3` and `eth_signTypedData`: account and typed data, in this order
    /// or, as older tools have it, the other.
    pub fn parse(params: Option<&str>) -> Result<Self, TypedDataError> {
        let params = params.unwrap_or("[]");
        // What is text in text is escaped, so that twice as much can stand for it.
        if params.len() > MAX_TEXT.saturating_mul(2) {
            return Err(TypedDataError::TooLong(MAX_TEXT));
        }
        let params: Node = serde_json::from_str(params).map_err(|e| TypedDataError::Json(said(&e)))?;
        let Node::List(params) = params else { return Err(TypedDataError::Parameters) };
        let (account, data) = match params.as_slice() {
            [Node::List(_), _] | [_, Node::List(_)] => return Err(TypedDataError::Version1),
            [Node::Text(account), data] if account.starts_with("0x") => (account, data),
            [data, Node::Text(account)] => (account, data),
            _ => return Err(TypedDataError::Parameters),
        };
        let from = address(account).map_err(TypedDataError::Account)?;
        match data {
            Node::Text(text) => Self::read_text(from, text),
            data => Self::read(from, data),
        }
    }

    /// Typed data as JSON text.
    pub fn read_text(from: Address, text: &str) -> Result<Self, TypedDataError> {
        if text.len() > MAX_TEXT {
            return Err(TypedDataError::TooLong(MAX_TEXT));
        }
        let node: Node = serde_json::from_str(text).map_err(|e| TypedDataError::Json(said(&e)))?;
        Self::read(from, &node)
    }

    /// What [`TypedData`]'s `seal` made: the typed data that was signed.
    pub fn signed(from: Address, raw: &[u8]) -> Option<Self> {
        let text = raw.get(SIGNATURE..)?;
        Self::read_text(from, std::str::from_utf8(text).ok()?).ok()
    }

    /// The 65 bytes r, s, v of what [`TypedData`]'s `seal` made.
    pub fn signature(raw: &Bytes) -> Bytes {
        raw.slice(..raw.len().min(SIGNATURE))
    }

    fn read(from: Address, data: &Node) -> Result<Self, TypedDataError> {
        let parts = members(data, ["types", "primaryType", "domain", "message"], "the typed data")?;
        let [types, primary, domain, message] = parts;
        let (Node::Object(types), Node::Text(primary)) = (types, primary) else {
            return Err(TypedDataError::Json("`types` is an object, `primaryType` text".to_owned()));
        };
        let (Node::Object(domain), Node::Object(message)) = (domain, message) else {
            return Err(TypedDataError::Json("`domain` and `message` are objects".to_owned()));
        };
        let mut written = written(types)?;
        let listed = written.remove(DOMAIN).ok_or_else(|| {
            TypedDataError::Domain(
                "`types.EIP712Domain` is missing: libraries differ in what it then is".to_owned(),
            )
        })?;
        let ty = build(&written, primary)?;
        let values = value::read_struct(&ty, message, "message")?;
        Self::of(from, Domain::read(&listed, domain)?, ty, values)
    }

    fn of(
        from: Address,
        domain: Domain,
        ty: Arc<StructType>,
        values: Vec<DynSolValue>,
    ) -> Result<Self, TypedDataError> {
        let digest = digest(domain.separator()?, hash_struct(&ty, &values)?);
        let mut types = ty.written();
        types.insert(DOMAIN.to_owned(), domain.listed());
        let list = |members: &Vec<(String, String)>| {
            Value::Array(members.iter().map(|(name, ty)| json!({ "name": name, "type": ty })).collect())
        };
        let types: BTreeMap<_, _> = types.iter().map(|(name, members)| (name, list(members))).collect();
        let named = domain.listed().into_iter().zip(domain.values());
        let domain_text: serde_json::Map<_, _> =
            named.map(|((name, _), value)| (name, plain(&value))).collect();
        let text = json!({
            "types": types,
            "primaryType": ty.name(),
            "domain": domain_text,
            "message": write_struct(&ty, &values),
        });
        Ok(Self { from, domain, ty, values, digest, text: text.to_string().into() })
    }

    /// Typed data for another chain is not signed here, as no transaction is.
    pub fn for_chain(self, ours: u64) -> Result<Self, FillError> {
        match self.domain.chain_id {
            Some(asked) if asked != ours => Err(FillError::OtherChain { asked, ours }),
            _ => Ok(self),
        }
    }

    pub const fn from(&self) -> Address {
        self.from
    }

    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The primary type.
    pub const fn ty(&self) -> &Arc<StructType> {
        &self.ty
    }

    /// The message: the values of the primary type's members, in order.
    pub fn values(&self) -> &[DynSolValue] {
        &self.values
    }

    /// As JSON, in one canonical form.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Kind for TypedData {
    const NAME: &'static str = "typed_data";
    type Asked = Structured;
    type Unsigned = Structured;

    fn from(asked: &Structured) -> Address {
        asked.from
    }

    fn slot(_: &Structured) -> Option<Slot> {
        None
    }

    fn intent(asked: &Structured) -> Vec<u8> {
        asked.text.as_bytes().to_vec()
    }

    fn assign(asked: Structured, _: Option<u64>) -> Structured {
        asked
    }

    fn unsigned_bytes(unsigned: &Structured) -> Bytes {
        Bytes::copy_from_slice(unsigned.text.as_bytes())
    }

    fn digest(unsigned: &Structured) -> B256 {
        unsigned.digest
    }

    /// The signature, and after it what was signed: budgets that are counted anew must be able to read it.
    fn seal(unsigned: &Structured, signature: Signature) -> Sealed {
        let raw = [signature.to_rsv().as_slice(), unsigned.text.as_bytes()].concat();
        Sealed { raw: raw.into(), hash: unsigned.digest }
    }
}

/// An object with these members and no others.
fn members<'n, const N: usize>(
    node: &'n Node,
    names: [&str; N],
    what: &str,
) -> Result<[&'n Node; N], TypedDataError> {
    let wrong = |why: String| TypedDataError::Json(format!("{what} {why}"));
    let Node::Object(object) = node else { return Err(wrong("is no object".to_owned())) };
    if let Some(unknown) = object.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(wrong(format!("has `{}`, which does not belong there", shown(unknown))));
    }
    let mut found = [&Node::Null; N];
    for (place, name) in found.iter_mut().zip(names) {
        *place = object.get(name).ok_or_else(|| wrong(format!("has no `{name}`")))?;
    }
    Ok(found)
}

fn written(types: &BTreeMap<String, Node>) -> Result<Written, TypedDataError> {
    let list = |(name, list): (&String, &Node)| {
        let what = format!("`types.{}`", shown(name));
        let Node::List(list) = list else { return Err(TypedDataError::Json(format!("{what} is no list"))) };
        let member = |node| match members(node, ["name", "type"], &format!("a member of {what}"))? {
            [Node::Text(name), Node::Text(ty)] => Ok((name.clone(), ty.clone())),
            _ => Err(TypedDataError::Json(format!("{what}: `name` and `type` are texts"))),
        };
        Ok((name.clone(), list.iter().map(member).collect::<Result<_, _>>()?))
    };
    types.iter().map(list).collect()
}

/// serde's sentence without its position, which is one within the parameters and would mislead.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{address_of_point, recover};
    use k256::ecdsa::SigningKey;
    use proptest::prelude::*;
    use serde_json::Map;

    const WHO: &str = "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826";

    /// The example of EIP-712 itself.
    fn mail() -> Value {
        json!({
            "types": {
                "EIP712Domain": [
                    { "name": "name", "type": "string" },
                    { "name": "version", "type": "string" },
                    { "name": "chainId", "type": "uint256" },
                    { "name": "verifyingContract", "type": "address" },
                ],
                "Person": [{ "name": "name", "type": "string" }, { "name": "wallet", "type": "address" }],
                "Mail": [
                    { "name": "from", "type": "Person" },
                    { "name": "to", "type": "Person" },
                    { "name": "contents", "type": "string" },
                ],
            },
            "primaryType": "Mail",
            "domain": {
                "name": "Ether Mail",
                "version": "1",
                "chainId": 1,
                "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
            },
            "message": {
                "from": { "name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826" },
                "to": { "name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB" },
                "contents": "Hello, Bob!",
            },
        })
    }

    fn read(data: &Value) -> Result<Structured, TypedDataError> {
        Structured::parse(Some(&json!([WHO, data]).to_string()))
    }

    fn digest_of(data: &Value) -> B256 {
        TypedData::digest(&read(data).unwrap_or_else(|e| panic!("{e}: {data}")))
    }

    /// What alloy makes of it.
    fn theirs(data: &Value) -> B256 {
        let typed: alloy_dyn_abi::TypedData = serde_json::from_value(data.clone()).unwrap();
        typed.eip712_signing_hash().unwrap()
    }

    #[test]
    fn the_hash_is_eip_712s() {
        let read = read(&mail()).unwrap();
        assert_eq!(
            TypedData::digest(&read).to_string(),
            "0xbe609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
        );
        assert_eq!(
            read.ty().encode_type(),
            "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
        );
    }

    /// Vectors of ethers (`@ethersproject/testcases`), of which these are a part.
    #[test]
    fn inv_05_ethers_and_alloy_find_the_same_hashes() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../../tests/vectors/eip712.json")).unwrap();
        assert!(vectors.len() > 50);
        for vector in vectors {
            let (data, name) = (&vector["typedData"], &vector["name"]);
            assert_eq!(json!(digest_of(data)), vector["digest"], "{name}");
            assert_eq!(json!(theirs(data)), vector["digest"], "{name}");
        }
    }

    #[test]
    fn both_orders_and_both_forms_are_taken_and_version_1_is_not() {
        let plain = read(&mail()).unwrap();
        let text = mail().to_string();
        for params in [json!([WHO, text]), json!([mail(), WHO]), json!([text, WHO.to_lowercase()])] {
            assert_eq!(Structured::parse(Some(&params.to_string())).as_ref(), Ok(&plain));
        }
        for chain in [json!("0x1"), json!("1"), json!(1)] {
            let mut data = mail();
            data["domain"]["chainId"] = chain;
            assert_eq!(read(&data), Ok(plain.clone()));
        }
        let old = json!([[{ "type": "string", "name": "Message", "value": "Hi" }], WHO]);
        assert_eq!(Structured::parse(Some(&old.to_string())), Err(TypedDataError::Version1));
        for params in [None, Some("null"), Some("{}"), Some("[]"), Some("[1,2]"), Some(r#"["0x00"]"#)] {
            assert!(Structured::parse(params).is_err(), "{params:?}");
        }
        let cut = Structured::parse(Some("[1,")).unwrap_err().to_string();
        let says = "the typed data is not the JSON that is expected: EOF while parsing a value";
        assert_eq!(cut, says, "where in the parameters is nobody's matter");
        let none = json!(["0x00", mail()]).to_string();
        assert!(matches!(Structured::parse(Some(&none)), Err(TypedDataError::Account(_))));
        let long = json!([WHO, " ".repeat(MAX_TEXT + 1)]).to_string();
        assert_eq!(Structured::parse(Some(&long)), Err(TypedDataError::TooLong(MAX_TEXT)));
    }

    #[test]
    fn inv_04_that_on_which_libraries_differ_is_refused() {
        // Each is a path into the example, and what stands there instead (`null`: nothing).
        let changes = [
            ("/types/EIP712Domain", Value::Null, "`types.EIP712Domain` is missing"),
            ("/types/EIP712Domain/3", Value::Null, "must list what the domain holds"),
            ("/domain/version", Value::Null, "must list what the domain holds"),
            ("/domain/salt", json!(B256::ZERO), "must list what the domain holds"),
            ("/domain/owner", json!("me"), "`owner` is no member"),
            ("/domain/chainId", json!("01"), "`domain.chainId` must be an integer"),
            ("/domain/chainId", json!("0x01"), "`domain.chainId` has leading zeros"),
            ("/domain/chainId", json!(0), "no chain's id"),
            ("/domain/chainId", json!("18446744073709551616"), "no chain's id"),
            ("/types/EIP712Domain/0/type", json!("bytes"), "must list what the domain holds"),
            ("/types/Other", json!([{ "name": "a", "type": "bool" }]), "`Other` is not used"),
            ("/types/Person/1", Value::Null, "`message.from` has `wallet`"),
            ("/types/Person/0/internalType", json!("string"), "has `internalType`"),
            ("/types/Mail/0/type", json!("Mail"), "holds itself"),
            ("/types/Mail/2/type", json!("bytes"), "`message.contents` must begin with 0x"),
            ("/types/Mail/2/type", json!("uint256"), "`message.contents` must be an integer"),
            ("/types/Mail/2/type", json!("bool"), "`message.contents` must be true or false"),
            ("/types/Mail/2/type", json!("string[]"), "`message.contents` must be a list"),
            ("/types/Mail/2/type", json!("Text"), "`Text` is no type"),
            ("/types/Mail/2/type", json!("uint"), "write its size"),
            ("/message/contents", Value::Null, "`message.contents` is missing"),
            ("/message/more", json!(1), "has `more`"),
            ("/message/to", json!([]), "must be an object"),
            ("/message/to/wallet", json!(""), "must be an address"),
            ("/message/to/wallet", json!(0), "must be an address"),
            ("/message/to/wallet", json!("0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8Dd826"), "EIP-55"),
            ("/message/to/name", json!(7), "must be text"),
            ("/primaryType", json!("EIP712Domain"), "is no type that is known"),
            ("/primaryType", json!("Person"), "`Mail` is not used"),
            ("/primaryType", json!("Mail[]"), "is no type that is known"),
            ("/more", json!(1), "has `more`"),
        ];
        for (place, value, why) in changes {
            let mut data = mail();
            let (parent, key) = place.rsplit_once('/').unwrap();
            match data.pointer_mut(parent).unwrap() {
                Value::Array(list) if value.is_null() => drop(list.remove(key.parse().unwrap())),
                Value::Object(map) if value.is_null() => drop(map.remove(key)),
                parent => match key.parse::<usize>() {
                    Ok(at) => parent[at] = value.clone(),
                    Err(_) => parent[key] = value.clone(),
                },
            }
            let error = read(&data).expect_err(place).to_string();
            assert!(error.contains(why), "{place} {value}: {error}");
        }
        let twice =
            mail().to_string().replacen(r#""contents":"Hello"#, r#""contents":"x","contents":"Hello"#, 1);
        let text = json!([WHO, twice]).to_string();
        assert!(matches!(Structured::parse(Some(&text)), Err(TypedDataError::Json(_))), "{text}");
    }

    #[test]
    fn inv_04_a_number_has_the_width_of_its_type() {
        let with = |ty: &str, value: Value| {
            read(&json!({
                "types": { "EIP712Domain": [{ "name": "name", "type": "string" }], "A": [{ "name": "a", "type": ty }] },
                "primaryType": "A", "domain": { "name": "x" }, "message": { "a": value },
            }))
        };
        for (ty, value, fits) in [
            ("uint8", json!(255), true),
            ("uint8", json!(256), false),
            ("uint8", json!(-1), false),
            ("uint8", json!("0xff"), true),
            ("uint8", json!("0x0ff"), false),
            ("uint8", json!("+1"), false),
            ("uint8", json!(" 1"), false),
            ("uint8", json!("1.0"), false),
            ("uint8", json!("1e1"), false),
            ("uint8", json!(true), false),
            ("uint8", json!(""), false),
            ("int8", json!(-128), true),
            ("int8", json!("-128"), true),
            ("int8", json!("-129"), false),
            ("int8", json!(128), false),
            ("int8", json!("-0"), false),
            ("uint256", json!(9_007_199_254_740_991_u64), true),
            ("uint256", json!(9_007_199_254_740_992_u64), false),
            ("uint256", json!(format!("{:#x}", alloy_primitives::U256::MAX)), true),
            ("uint256", json!(format!("{}0", alloy_primitives::U256::MAX)), false),
            ("bytes4", json!("0x01020304"), true),
            ("bytes4", json!("0x0102030405"), false),
            ("bytes4", json!("0x010203"), false),
            ("bool", json!("false"), false),
            ("bool", json!(0), false),
            ("uint8[2]", json!([1, 2]), true),
            ("uint8[2]", json!([1]), false),
            ("uint8[2][]", json!([[1, 2], [3, 4]]), true),
            ("bytes", json!("0x"), true),
            ("bytes", json!("0x0"), false),
        ] {
            assert_eq!(with(ty, value.clone()).is_ok(), fits, "{ty} {value}");
        }
    }

    #[test]
    fn what_was_signed_can_be_read_again_beside_its_signature() {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let from = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        let asked = Structured::read_text(from, &mail().to_string()).unwrap();
        let (raw, _) = key.sign_prehash_recoverable(TypedData::digest(&asked).as_slice()).unwrap();
        let signature = recover(TypedData::digest(&asked), &raw.to_bytes().into(), from).unwrap();
        let sealed = TypedData::seal(&asked, signature);
        assert_eq!(Structured::signature(&sealed.raw).as_ref(), signature.to_rsv());
        assert_eq!(Structured::signed(from, &sealed.raw), Some(asked));
        assert_eq!(Structured::signed(from, &sealed.raw[..65]), None);
    }

    #[test]
    fn the_intent_is_all_that_is_signed() {
        let one = read(&mail()).unwrap();
        let mut other = mail();
        other["domain"]["name"] = json!("another");
        let other = read(&other).unwrap();
        assert_eq!(TypedData::intent(&one), TypedData::intent(&read(&mail()).unwrap()));
        assert_ne!(TypedData::intent(&one), TypedData::intent(&other));
        assert_ne!(TypedData::digest(&one), TypedData::digest(&other));
    }

    #[test]
    fn typed_data_of_another_chain_is_not_for_this_one() {
        assert!(read(&mail()).unwrap().for_chain(1).is_ok());
        let other = read(&mail()).unwrap().for_chain(5);
        assert_eq!(other, Err(FillError::OtherChain { asked: 1, ours: 5 }));
    }

    /// Types, and values for them, as JSON has both.
    fn some_member() -> impl Strategy<Value = (String, Value)> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(|value| ("bool".to_owned(), json!(value))),
            any::<String>().prop_map(|text| ("string".to_owned(), json!(text))),
            any::<[u8; 20]>().prop_map(|bytes| ("address".to_owned(), json!(Address::from(bytes)))),
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| ("bytes".to_owned(), json!(Bytes::from(bytes)))),
            (1_usize..=32, any::<[u8; 32]>()).prop_map(|(size, bytes)| {
                (format!("bytes{size}"), json!(Bytes::copy_from_slice(&bytes[..size])))
            }),
            (1_usize..=32, any::<[u8; 32]>()).prop_map(|(size, bytes)| {
                let number = alloy_primitives::U256::from_be_slice(&bytes[..size]);
                (format!("uint{}", size << 3), json!(number.to_string()))
            }),
            any::<i64>().prop_map(|number| ("int64".to_owned(), json!(number.to_string()))),
            any::<i32>().prop_map(|number| ("int72".to_owned(), json!(number))),
        ];
        (leaf, 0_usize..4, any::<bool>()).prop_map(|((ty, value), count, fixed)| match (count, fixed) {
            (0, _) => (ty, value),
            (count, true) => (format!("{ty}[{count}]"), Value::Array(vec![value; count])),
            (count, false) => (format!("{ty}[][]"), json!([vec![value; count], []])),
        })
    }

    fn some_struct() -> impl Strategy<Value = (Value, Value)> {
        prop::collection::vec(some_member(), 1..5).prop_map(|members| {
            let named = || members.iter().enumerate().map(|(at, member)| (format!("m{at}"), member));
            let types = named().map(|(name, (ty, _))| json!({ "name": name, "type": ty })).collect();
            let values: Map<_, _> = named().map(|(name, (_, value))| (name, value.clone())).collect();
            (Value::Array(types), Value::Object(values))
        })
    }

    proptest! {
        #[test]
        fn inv_05_alloy_finds_the_same_hash_and_the_canonical_form_says_the_same(
            (leaf, in_leaf) in some_struct(), (mut top, mut in_top) in some_struct(),
            in_domain in 1_u8..32, several in any::<bool>(),
        ) {
            let suffix = if several { "[]" } else { "" };
            top.as_array_mut().unwrap().push(json!({ "name": "leaf", "type": format!("Leaf{suffix}") }));
            in_top["leaf"] = if several { json!([in_leaf, in_leaf]) } else { in_leaf };
            let all = [
                ("name", "string", json!("Ether Mail")),
                ("version", "string", json!("2")),
                ("chainId", "uint256", json!(137)),
                ("verifyingContract", "address", json!(WHO)),
                ("salt", "bytes32", json!(B256::repeat_byte(7))),
            ];
            let there: Vec<_> = all.iter().enumerate().filter(|(at, _)| in_domain >> at & 1 == 1).map(|(_, one)| one).collect();
            let listed: Vec<_> = there.iter().map(|(name, ty, _)| json!({ "name": name, "type": ty })).collect();
            let domain: Map<_, _> = there.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())).collect();
            let data = json!({
                "types": { "EIP712Domain": listed, "Top": top, "Leaf": leaf },
                "primaryType": "Top", "domain": domain, "message": in_top,
            });
            let ours = read(&data).unwrap_or_else(|e| panic!("{e}: {data}"));
            prop_assert_eq!(TypedData::digest(&ours), theirs(&data), "{}", data);
            let again = Structured::read_text(ours.from(), ours.text()).unwrap();
            prop_assert_eq!(again, ours);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let mut data = mail().to_string();
            let at = at.index(data.len());
            data.truncate(at);
            data.push_str(&text);
            let _ = Structured::read_text(Address::ZERO, &data);
        }
    }

    #[test]
    fn inv_12_typed_data_is_so_long_and_no_longer() {
        let text = mail().to_string();
        let padded = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
        let who = WHO.parse().unwrap();
        assert!(Structured::read_text(who, &padded(MAX_TEXT)).is_ok());
        assert_eq!(Structured::read_text(who, &padded(MAX_TEXT + 1)), Err(TypedDataError::TooLong(MAX_TEXT)));
        // As parameters, in which text may be written twice as long.
        let params = |length: usize| {
            let params = json!([WHO, mail()]).to_string();
            let spaces = " ".repeat(length - params.len());
            Structured::parse(Some(&format!("{params}{spaces}")))
        };
        assert!(params(2 * MAX_TEXT).is_ok());
        assert_eq!(params(2 * MAX_TEXT + 1), Err(TypedDataError::TooLong(MAX_TEXT)));
    }

    #[test]
    fn typed_data_is_its_text_and_its_account() {
        let read = read(&mail()).unwrap();
        assert_eq!((<TypedData as Kind>::from(&read), TypedData::slot(&read)), (WHO.parse().unwrap(), None));
        assert_eq!(TypedData::intent(&read), read.text().as_bytes());
        let unsigned = TypedData::assign(read.clone(), None);
        assert_eq!(TypedData::unsigned_bytes(&unsigned), Bytes::copy_from_slice(read.text().as_bytes()));
        assert_eq!(
            Structured::read_text(read.from(), read.text()).as_ref(),
            Ok(&read),
            "it is read back as it is"
        );
        let raw = Bytes::from([&[7_u8; 65][..], read.text().as_bytes()].concat());
        assert_eq!(Structured::signature(&raw), Bytes::from_static(&[7; 65]));
        assert_eq!(Structured::signed(read.from(), &raw), Some(read.clone()));
        assert_eq!(Structured::signature(&Bytes::from_static(&[7; 3])), Bytes::from_static(&[7; 3]));
        for (ours, is_for) in [(1, true), (5, false)] {
            assert_eq!(read.clone().for_chain(ours).is_ok(), is_for);
        }
        let long = TypedDataError::value(&"a".repeat(200), "is missing").to_string();
        assert_eq!(long, format!("typed data: `{}` is missing", "a".repeat(160)));
    }
}
