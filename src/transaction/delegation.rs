//! An authorization (EIP-7702) that an account of ours is asked to sign: that the code of another contract may act as it.
//!
//! It uses up a nonce of the account as a transaction does, whoever hands it in. So it has a place among them: where the
//! account hands it in itself, right behind the transaction that does.

use alloy_eips::eip7702::{Authorization as Tuple, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::{Decodable as _, Encodable as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transaction::fields::{account, number, said, same, word};
use crate::transaction::{
    AuthorizationsError, Fees, FillError, Kind, RequestError, Sealed, Signature, Slot, Stands,
};

/// The kind of an authorization.
#[derive(Clone, Copy, Debug)]
pub enum Authorization {}

/// What the caller of `eth_signAuthorization` set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationRequest {
    from: Address,
    delegate: Address,
    chain_id: Option<U256>,
    nonce: Option<u64>,
    /// Whether the account is to hand it in itself.
    by_itself: bool,
}

/// An authorization complete but for its nonce. Made by [`DelegationRequest::fill`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    request: DelegationRequest,
    chain_id: u64,
    mined: u64,
}

/// What EIP-7702 puts before the list that is hashed.
const MAGIC: u8 = 0x05;

/// What an account's code begins with that has a delegate.
const DESIGNATOR: [u8; 3] = [0xef, 0x01, 0x00];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    from: Option<Value>,
    address: Option<Value>,
    /// viem's name for it.
    contract_address: Option<Value>,
    chain_id: Option<Value>,
    nonce: Option<Value>,
    executor: Option<Value>,
}

impl DelegationRequest {
    /// The parameters of `eth_signAuthorization`.
    pub fn parse(params: Option<&str>) -> Result<Self, RequestError> {
        let params: Vec<Value> =
            serde_json::from_str(params.unwrap_or("[]")).map_err(|_| AuthorizationsError::Parameters)?;
        let [object @ Value::Object(_)] = params.as_slice() else {
            return Err(AuthorizationsError::Parameters.into());
        };
        let written = Written::deserialize(object).map_err(|e| RequestError::Shape(said(&e)))?;
        let delegate = same(
            ("address", account("address", written.address.as_ref())?),
            ("contractAddress", account("contractAddress", written.contract_address.as_ref())?),
        )?;
        let by_itself = match &written.executor {
            None | Some(Value::Null) => false,
            Some(Value::String(who)) if who == "self" => true,
            Some(_) => return Err(AuthorizationsError::Executor.into()),
        };
        let chain_id = word("chainId", written.chain_id.as_ref())?;
        if chain_id.is_some_and(|chain| chain.is_zero()) {
            return Err(AuthorizationsError::EveryChain.into());
        }
        Ok(Self {
            from: account("from", written.from.as_ref())?.ok_or(RequestError::NoFrom)?,
            delegate: delegate.ok_or(AuthorizationsError::NoDelegate)?,
            chain_id,
            nonce: number("nonce", written.nonce.as_ref())?,
            by_itself,
        })
    }

    pub const fn from(&self) -> Address {
        self.from
    }

    /// The chain that it names, where it is one that can be.
    pub fn chain_id(&self) -> Option<u64> {
        self.chain_id.and_then(|chain| u64::try_from(chain).ok())
    }

    /// Completes it for the chain of this endpoint, which has mined so many transactions of the account.
    pub fn fill(self, ours: u64, mined: u64) -> Result<Delegation, FillError> {
        if self.chain_id.is_some_and(|asked| asked != U256::from(ours)) {
            let asked = self.chain_id().unwrap_or(u64::MAX);
            return Err(FillError::OtherAuthorization { asked, ours });
        }
        Ok(Delegation { request: self, chain_id: ours, mined })
    }

    /// One canonical form of what was asked; see [`Kind::intent`].
    pub fn intent(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(self.from.as_slice());
        out.extend_from_slice(self.delegate.as_slice());
        out.push(u8::from(self.by_itself));
        if let Some(nonce) = self.nonce {
            out.extend_from_slice(&nonce.to_be_bytes());
        }
        out
    }
}

impl Delegation {
    pub const fn from(&self) -> Address {
        self.request.from
    }

    /// Whose code acts as the account; the zero address stands for none any more.
    pub const fn delegate(&self) -> Address {
        self.request.delegate
    }

    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Whether an account has this code once it is handed in.
    pub fn is_code(&self, code: &[u8]) -> bool {
        match code.strip_prefix(&DESIGNATOR) {
            Some(delegate) => delegate == self.delegate().as_slice(),
            None => self.delegate().is_zero() && code.is_empty(),
        }
    }

    /// One that was signed before, as it was recorded.
    pub fn signed(from: Address, raw: &[u8]) -> Option<Self> {
        let signed = read(raw)?;
        let chain_id = u64::try_from(*signed.chain_id()).ok()?;
        let request = DelegationRequest {
            from,
            delegate: *signed.address(),
            chain_id: Some(*signed.chain_id()),
            nonce: Some(signed.nonce()),
            by_itself: false,
        };
        Some(Self { request, chain_id, mined: signed.nonce() })
    }

    /// What was recorded, as an entry of `authorizationList`.
    pub fn answer(raw: &[u8]) -> Option<Value> {
        let signed = read(raw)?;
        Some(json!({
            "chainId": format!("{:#x}", signed.chain_id()),
            "address": signed.address(),
            "nonce": format!("{:#x}", signed.nonce()),
            "yParity": format!("{:#x}", signed.y_parity()),
            "r": format!("{:#x}", signed.r()),
            "s": format!("{:#x}", signed.s()),
        }))
    }
}

fn read(mut raw: &[u8]) -> Option<SignedAuthorization> {
    let signed = SignedAuthorization::decode(&mut raw).ok()?;
    raw.is_empty().then_some(signed)
}

impl Kind for Authorization {
    const NAME: &'static str = "authorization";
    type Asked = Delegation;
    type Unsigned = Tuple;

    fn from(asked: &Delegation) -> Address {
        asked.from()
    }

    fn slot(asked: &Delegation) -> Option<Slot> {
        Some(Slot {
            chain: asked.chain_id,
            wanted: asked.request.nonce,
            mined: asked.mined,
            // It pays nothing: whoever hands it in does.
            fees: Fees::Dynamic { max_fee_per_gas: 0, max_priority_fee_per_gas: 0 },
            fees_are_fixed: true,
            stands: Stands::Authorization { behind: asked.request.by_itself },
        })
    }

    fn intent(asked: &Delegation) -> Vec<u8> {
        asked.request.intent()
    }

    fn assign(asked: Delegation, nonce: Option<u64>) -> Tuple {
        // As of a transaction: without a nonce, which does not happen, it is for one that no account ever has.
        let nonce = nonce.unwrap_or(u64::MAX);
        Tuple { chain_id: U256::from(asked.chain_id), address: asked.request.delegate, nonce }
    }

    fn unsigned_bytes(unsigned: &Tuple) -> Bytes {
        let mut out = vec![MAGIC];
        unsigned.encode(&mut out);
        out.into()
    }

    fn digest(unsigned: &Tuple) -> B256 {
        unsigned.signature_hash()
    }

    fn seal(unsigned: &Tuple, signature: Signature) -> Sealed {
        let (r, s) = (U256::from_be_bytes(*signature.r()), U256::from_be_bytes(*signature.s()));
        let signed = SignedAuthorization::new_unchecked(unsigned.clone(), u8::from(signature.odd()), r, s);
        Sealed { raw: alloy_rlp::encode(&signed).into(), hash: Self::digest(unsigned) }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;
    use k256::ecdsa::SigningKey;

    use super::*;
    use crate::transaction::{Request, recover};

    const FROM: &str = "0xb595B18c88b1f651cA387489067f855b5C8E6720";
    const TO: &str = "0x3535353535353535353535353535353535353535";

    fn parse(fields: &Value) -> Result<DelegationRequest, RequestError> {
        DelegationRequest::parse(Some(&json!([fields]).to_string()))
    }

    fn asked(more: &Value) -> Value {
        let mut all = json!({ "from": FROM, "address": TO });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    /// The vector of `authorizations.rs`, which ethers 6 signed (RFC 6979, so that bytes can be compared).
    #[test]
    fn inv_05_an_authorization_is_signed_bit_exactly() {
        let key = SigningKey::from_slice(&[0x47; 32]).unwrap();
        let filled = parse(&asked(&json!({ "chainId": "0x1", "nonce": "0x3" }))).unwrap().fill(1, 0).unwrap();
        let other = asked(&json!({ "address": FROM, "chainId": "0x1", "nonce": "0x3" }));
        let other = parse(&other).unwrap().fill(1, 0).unwrap();
        assert_ne!(Authorization::intent(&filled), Authorization::intent(&other), "another delegate");
        let unsigned = Authorization::assign(filled.clone(), Some(3));
        let digest = Authorization::digest(&unsigned);
        assert_eq!(keccak256(Authorization::unsigned_bytes(&unsigned)), digest);
        let (raw, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
        let signature = recover(digest, &raw.to_bytes().into(), filled.from()).unwrap();
        let sealed = Authorization::seal(&unsigned, signature);
        let answer = Delegation::answer(&sealed.raw).unwrap();
        assert_eq!(
            answer,
            json!({
                "chainId": "0x1", "address": TO, "nonce": "0x3", "yParity": "0x0",
                "r": "0x6f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7ac",
                "s": "0x7f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf4",
            })
        );
        // What is answered can be handed in as it is, and what is recorded is read as what was asked.
        let transaction = json!([{ "from": TO, "to": TO, "authorizationList": [answer] }]);
        let carried = Request::parse(Some(&transaction.to_string())).unwrap();
        let each: Vec<_> = carried.authorizations().unwrap().each().collect();
        assert_eq!(each, [(filled.from(), filled.delegate())]);
        let read = Delegation::signed(filled.from(), &sealed.raw).unwrap();
        assert_eq!((read.delegate(), read.chain_id()), (filled.delegate(), 1));
        assert_eq!(Delegation::signed(filled.from(), &[&sealed.raw[..], &[0]].concat()), None);
        let code = [&DESIGNATOR[..], filled.delegate().as_slice()].concat();
        assert!(read.is_code(&code) && !read.is_code(&[]) && !read.is_code(&code[..22]));
        let none = parse(&asked(&json!({ "address": Address::ZERO }))).unwrap().fill(1, 0).unwrap();
        assert!(none.is_code(&[]) && !none.is_code(&code) && !none.is_code(&[0x60]));
    }

    #[test]
    fn inv_04_what_is_asked_to_be_authorized_is_read_strictly() {
        for (fields, said) in [
            (json!({ "address": TO }), "`from` is missing"),
            (json!({ "from": FROM }), "says no `address`"),
            (asked(&json!({ "contractAddress": FROM })), "are both set and not equal"),
            (asked(&json!({ "chainId": "0x0" })), "good on every chain"),
            (asked(&json!({ "chainId": 1 })), "`chainId` must be a string"),
            (asked(&json!({ "nonce": "0x03" })), "`nonce` has leading zeros"),
            (asked(&json!({ "executor": FROM })), "`executor` is"),
            (asked(&json!({ "r": "0x1" })), "unknown field `r`"),
        ] {
            let error = parse(&fields).expect_err(said).to_string();
            assert!(error.contains(said), "{fields}: {error}");
        }
        for params in [None, Some("null"), Some("[]"), Some("[{},{}]"), Some("{}"), Some("[[]]")] {
            let error = DelegationRequest::parse(params).unwrap_err();
            assert_eq!(error, AuthorizationsError::Parameters.into(), "{params:?}");
        }
        let other = parse(&asked(&json!({ "chainId": "0xa" }))).unwrap();
        assert_eq!(other.fill(1, 0), Err(FillError::OtherAuthorization { asked: 10, ours: 1 }));
        let named = parse(&json!({ "from": FROM, "contractAddress": TO, "executor": "self" })).unwrap();
        let slot = Authorization::slot(&named.clone().fill(1, 7).unwrap()).unwrap();
        assert_eq!((slot.mined, slot.stands), (7, Stands::Authorization { behind: true }));
        assert_ne!(named.intent(), parse(&asked(&json!({}))).unwrap().intent());
    }

    #[test]
    fn an_authorization_is_told_apart_by_all_that_was_set() {
        let of = |more: Value| parse(&asked(&more)).unwrap().intent();
        let mut intents = vec![
            of(json!({})),
            of(json!({ "nonce": "0x3" })),
            of(json!({ "nonce": "0x4" })),
            of(json!({ "executor": "self" })),
            of(json!({ "address": FROM })),
            of(json!({ "from": TO })),
        ];
        let count = intents.len();
        intents.sort();
        intents.dedup();
        assert_eq!(intents.len(), count);
        let delegation = parse(&asked(&json!({ "nonce": "0x3" }))).unwrap().fill(5, 7).unwrap();
        let expected = [
            &FROM.parse::<Address>().unwrap()[..],
            &TO.parse::<Address>().unwrap()[..],
            &[0],
            &3_u64.to_be_bytes(),
        ]
        .concat();
        assert_eq!(Authorization::intent(&delegation), expected);
        let slot = Authorization::slot(&delegation).unwrap();
        assert_eq!((slot.chain, slot.wanted, slot.mined, slot.fees_are_fixed), (5, Some(3), 7, true));
        assert_eq!((slot.fees.max_per_gas(), slot.stands), (0, Stands::Authorization { behind: false }));
        assert_eq!(Authorization::assign(delegation.clone(), None).nonce, u64::MAX);
        assert_eq!(Authorization::assign(delegation, Some(4)).chain_id, U256::from(5));
    }
}
