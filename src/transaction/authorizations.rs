//! Authorizations (EIP-7702): an account that lets the code of another contract act as itself. A transaction of type 4 hands
//! in what others have signed.
//!
//! Whose code is set stands in no field: it is who signed. So each signature is recovered, and one that is none is refused,
//! where the chain would only skip it.

use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;
use serde_json::Value;

use crate::transaction::fields::{account, number, said, same, word};
use crate::transaction::{MalformedValue, RequestError, signer_of};

/// How many one transaction may hand in: each costs a recovery.
const MAX: usize = 32;

/// What a transaction of type 4 hands in. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizations {
    signed: Vec<SignedAuthorization>,
    /// Who signed each.
    authorities: Vec<Address>,
    /// Which of them the ledger knows as signed here.
    recognised: Vec<bool>,
}

/// An authorization that is asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    pub chain: u64,
    pub authority: Address,
    pub nonce: u64,
    /// What was signed.
    pub digest: B256,
    /// As the ledger records one.
    pub raw: Bytes,
}

/// Why authorizations are not handed in, whatever a policy says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationsError {
    #[error("a transaction of type 4 has no authorization: `authorizationList` must hold one")]
    None,
    #[error("there are more than {MAX} authorizations")]
    TooMany,
    #[error("an authorization for chain 0 is good on every chain; it must name one")]
    EveryChain,
    #[error(
        "an authorization by the sender itself must be for the nonce behind the transaction's, and be the only one: both are used up, \
         one after the other"
    )]
    OwnNonce,
    #[error(
        "expected one parameter, an object of `from`, `address` (whose code may act as it), and if you like `chainId`, `nonce`, `executor`"
    )]
    Parameters,
    #[error(
        "the authorization says no `address`: whose code is to act as the account (the zero address for none any more)"
    )]
    NoDelegate,
    #[error(
        "`executor` is \"self\" where the account itself sends the transaction that hands it in, or is left out"
    )]
    Executor,
    #[error(
        "an authorization is signed by nobody: no address recovers from it, or its s is in the upper half (EIP-2)"
    )]
    Signature,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    chain_id: Option<Value>,
    address: Option<Value>,
    nonce: Option<Value>,
    y_parity: Option<Value>,
    v: Option<Value>,
    r: Option<Value>,
    s: Option<Value>,
}

impl Authorizations {
    /// As they go into the transaction.
    pub fn signed(&self) -> &[SignedAuthorization] {
        &self.signed
    }

    /// Whose code is set, and to that of whom. The zero address stands for none.
    pub fn each(&self) -> impl Iterator<Item = (Address, Address)> {
        self.authorities.iter().zip(&self.signed).map(|(authority, signed)| (*authority, *signed.address()))
    }

    /// The first that is for another chain.
    pub(super) fn of_another_chain(&self, ours: u64) -> Option<u64> {
        let chains = self.signed.iter().map(|signed| signed.chain_id());
        let other = chains.filter(|chain| **chain != U256::from(ours)).map(|chain| u64::try_from(*chain));
        other.map(|chain| chain.unwrap_or(u64::MAX)).next()
    }

    /// The nonce at which the transaction must stand that hands them in, where one is the sender's own: the chain counts the
    /// transaction first, and skips an authorization that is not for the nonce behind it.
    pub(super) fn nonce_of_carrier(&self, from: Address) -> Result<Option<u64>, AuthorizationsError> {
        let mut own = self.authorities.iter().zip(&self.signed).filter(|(authority, _)| **authority == from);
        let Some((_, signed)) = own.next() else { return Ok(None) };
        match (signed.nonce().checked_sub(1), own.next()) {
            (Some(nonce), None) => Ok(Some(nonce)),
            _ => Err(AuthorizationsError::OwnNonce),
        }
    }

    /// Those by such accounts, in their order.
    pub fn by(&self, is_ours: impl Fn(Address) -> bool) -> Vec<Handed> {
        let ours = self.authorities.iter().zip(&self.signed).filter(|(authority, _)| is_ours(**authority));
        let handed = ours.map(|(authority, signed)| Handed {
            chain: u64::try_from(*signed.chain_id()).unwrap_or(u64::MAX),
            authority: *authority,
            nonce: signed.nonce(),
            digest: signed.inner().signature_hash(),
            raw: alloy_rlp::encode(signed).into(),
        });
        handed.collect()
    }

    /// Marks these as signed here: the ledger says so.
    pub(super) fn recognise(&mut self, known: &[Handed]) {
        for (at, recognised) in self.recognised.iter_mut().enumerate() {
            let (Some(authority), Some(signed)) = (self.authorities.get(at), self.signed.get(at)) else {
                continue;
            };
            let raw = alloy_rlp::encode(signed);
            *recognised |= known.iter().any(|known| known.authority == *authority && known.raw == raw);
        }
    }

    /// Who of these accounts has signed one that the ledger was not said to know.
    pub fn unrecognised(&self, is_ours: impl Fn(Address) -> bool) -> Option<Address> {
        let mut signers = self.authorities.iter().zip(&self.recognised);
        signers.find(|(by, recognised)| !**recognised && is_ours(**by)).map(|(by, _)| *by)
    }

    pub(super) fn of_signed(signed: Vec<SignedAuthorization>) -> Result<Self, AuthorizationsError> {
        if signed.is_empty() {
            return Err(AuthorizationsError::None);
        }
        if signed.len() > MAX {
            return Err(AuthorizationsError::TooMany);
        }
        let authorities: Vec<_> = signed.iter().map(authority).collect::<Result<_, _>>()?;
        Ok(Self { recognised: vec![false; signed.len()], signed, authorities })
    }
}

/// Reads `authorizationList`. Who signed is another step: each costs a recovery, which is for those who may ask.
pub(super) fn read(written: Vec<Value>) -> Result<Vec<SignedAuthorization>, RequestError> {
    if written.is_empty() {
        return Err(AuthorizationsError::None.into());
    }
    if written.len() > MAX {
        return Err(AuthorizationsError::TooMany.into());
    }
    written.into_iter().map(one).collect()
}

fn one(written: Value) -> Result<SignedAuthorization, RequestError> {
    if !written.is_object() {
        return Err(RequestError::Shape("an entry of `authorizationList` must be an object".to_owned()));
    }
    let written = Written::deserialize(written).map_err(|e| RequestError::Shape(said(&e)))?;
    let parity: Option<u8> = number("yParity", written.y_parity.as_ref())?;
    // The same as of a message: 27 and 28.
    let v: Option<u8> = number("v", written.v.as_ref())?;
    let parity = same(("yParity", parity), ("v", v.map(|v| v.checked_sub(27).unwrap_or(v))))?;
    let inner = Authorization {
        chain_id: there("chainId", word("chainId", written.chain_id.as_ref())?)?,
        address: there("address", account("address", written.address.as_ref())?)?,
        nonce: there("nonce", number("nonce", written.nonce.as_ref())?)?,
    };
    let r = there("r", word("r", written.r.as_ref())?)?;
    let s = there("s", word("s", written.s.as_ref())?)?;
    Ok(SignedAuthorization::new_unchecked(inner, there("yParity", parity)?, r, s))
}

fn there<T>(field: &'static str, value: Option<T>) -> Result<T, RequestError> {
    value.ok_or(RequestError::Field { field, why: MalformedValue::NotAString })
}

/// Who signed it.
fn authority(signed: &SignedAuthorization) -> Result<Address, AuthorizationsError> {
    if signed.chain_id().is_zero() {
        return Err(AuthorizationsError::EveryChain);
    }
    let mut rs = [0; 64];
    rs.copy_from_slice(&[signed.r().to_be_bytes::<32>(), signed.s().to_be_bytes::<32>()].concat());
    let odd = match signed.y_parity() {
        0 => false,
        1 => true,
        _ => return Err(AuthorizationsError::Signature),
    };
    signer_of(signed.inner().signature_hash(), &rs, odd).ok_or(AuthorizationsError::Signature)
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::SigningKey;
    use serde_json::json;

    use super::*;
    use crate::transaction::{
        Draft, FillError, Filled, Kind as _, PresignedError, Quote, QuotedFees, Request, SignedTransaction,
        Tx, recover,
    };

    const FROM: &str = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F";
    const TO: &str = "0x3535353535353535353535353535353535353535";
    const AUTHORITY: &str = "0xb595B18c88b1f651cA387489067f855b5C8E6720";

    /// Signed with ethers 6 for chain 1, at nonce 3.
    fn authorization() -> Value {
        json!({
            "chainId": "0x1", "address": TO, "nonce": "0x3", "yParity": "0x0",
            "r": "0x6f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7ac",
            "s": "0x7f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf4",
        })
    }

    fn parse(list: &Value) -> Result<Request, RequestError> {
        let object = json!({
            "from": FROM, "to": TO, "gas": "0x13880", "maxFeePerGas": "0x6fc23ac00", "maxPriorityFeePerGas": "0x3b9aca00",
            "value": "0x5", "data": "0x1234", "authorizationList": list,
        });
        Request::parse(Some(&json!([object]).to_string()))
    }

    fn fill(request: Request, chain_id: u64) -> Result<Filled, FillError> {
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        request.fill(&Quote { chain_id, mined: 0, gas: None, fees: Some(fees) }, None)
    }

    /// Made with ethers 6, an implementation of its own (RFC 6979, so that bytes can be compared).
    #[test]
    fn inv_05_a_delegating_transaction_is_signed_bit_exactly() {
        let filled = fill(parse(&json!([authorization()])).unwrap(), 1).unwrap();
        let each: Vec<_> = filled.authorizations().unwrap().each().collect();
        assert_eq!(each, [(AUTHORITY.parse().unwrap(), TO.parse().unwrap())]);
        let unsigned = Tx::assign(filled.clone(), Some(9));
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let (signature, _) = key.sign_prehash_recoverable(Tx::digest(&unsigned).as_slice()).unwrap();
        let proved =
            recover(Tx::digest(&unsigned), &signature.to_bytes().into(), FROM.parse().unwrap()).unwrap();
        let sealed = Tx::seal(&unsigned, proved);
        assert_eq!(
            sealed.raw.to_string(),
            "0x04f8cc0109843b9aca008506fc23ac008301388094353535353535353535353535353535353535353505821234c0f85cf85a019435353535353535353535353535353535353535350380a06f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7aca07f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf401a09bcca26b766f036c6b1c7c9f4ccf24f29c46663441dd1a726f2a83838654f2bca074be54a62355c9b0c4a054e0f447462f6fe21caff96be17f7c904cb98e306732"
        );
        assert_eq!(
            sealed.hash.to_string(),
            "0x1ae12abdf03477769571dd46b22b1f862e5b1f750fd6d4d11ec3513a5f4e94a2"
        );
        let read = SignedTransaction::decode(sealed.raw).unwrap();
        assert_eq!(read.filled().authorizations(), filled.authorizations());
        assert!(matches!(read.clone().for_chain(2), Err(FillError::OtherChain { .. })));
        assert_eq!(read.from().to_string(), FROM);
    }

    /// The sender's own takes the nonce behind the transaction's.
    #[test]
    fn inv_04_a_senders_own_authorization_is_for_the_nonce_behind_its_transactions() {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let sign = |digest: B256| {
            let (raw, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
            recover(digest, &raw.to_bytes().into(), FROM.parse().unwrap()).unwrap()
        };
        let signed = |nonce: u64| {
            let inner = Authorization { chain_id: U256::from(1), address: TO.parse().unwrap(), nonce };
            let signature = sign(inner.signature_hash());
            let number = |bytes: &[u8; 32]| format!("{:#x}", U256::from_be_bytes(*bytes));
            json!({
                "chainId": "0x1", "address": TO, "nonce": format!("{nonce:#x}"),
                "yParity": if signature.odd() { "0x1" } else { "0x0" },
                "r": number(signature.r()), "s": number(signature.s()),
            })
        };
        let carried = |own: &Value| {
            let unsigned = Tx::assign(fill(parse(&json!([own])).unwrap(), 1).unwrap(), Some(9));
            let raw = Tx::seal(&unsigned, sign(Tx::digest(&unsigned))).raw;
            SignedTransaction::decode(raw)
        };
        assert!(carried(&signed(10)).is_ok());
        for wrong in [9, 11] {
            let refused = carried(&signed(wrong));
            assert_eq!(refused, Err(PresignedError::Authorizations(AuthorizationsError::OwnNonce)));
        }
        // It says which nonce a transaction of ours has, and one that names another contradicts it.
        let request = parse(&json!([signed(10)])).unwrap();
        assert_eq!(request.nonce(), None);
        assert_eq!(Tx::slot(&fill(request, 1).unwrap()).unwrap().wanted, Some(9));
        for list in [json!([signed(0)]), json!([signed(10), signed(11)])] {
            assert_eq!(parse(&list), Err(AuthorizationsError::OwnNonce.into()), "{list}");
        }
        let mut named = json!({
            "from": FROM, "to": TO, "nonce": "0x9", "authorizationList": [signed(10)],
        });
        assert!(Request::parse(Some(&json!([named]).to_string())).is_ok());
        named["nonce"] = json!("0xa");
        let error = Request::parse(Some(&json!([named]).to_string()));
        assert_eq!(error, Err(AuthorizationsError::OwnNonce.into()));
    }

    /// What the ledger was not said to know stays somebody else's, whatever it looks like.
    #[test]
    fn inv_04_an_authorization_is_recognised_by_its_very_bytes() {
        let authority: Address = AUTHORITY.parse().unwrap();
        let request = parse(&json!([authorization()])).unwrap();
        let is_ours = |by: Address| by == authority;
        let handed = request.authorizations().unwrap().by(is_ours);
        let [one] = handed.as_slice() else { panic!("{handed:?}") };
        let unrecognised = |known: &[Handed]| {
            request.clone().recognising(known).unwrap().authorizations().unwrap().unrecognised(is_ours)
        };
        assert_eq!(unrecognised(&handed), None);
        assert_eq!(unrecognised(&[]), Some(authority));
        let raw = Bytes::from(one.raw.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
        assert_eq!(unrecognised(&[Handed { raw, ..one.clone() }]), Some(authority));
        assert_eq!(unrecognised(&[Handed { authority: Address::ZERO, ..one.clone() }]), Some(authority));
        assert!(request.authorizations().unwrap().by(|_| false).is_empty());
    }

    /// A stranger's list costs no recovery: who signed it is asked once it is known that he may use the account.
    #[test]
    fn who_signed_is_worked_out_after_the_rest_was_read() {
        let mut nobodys = authorization();
        nobodys["r"] = json!("0x0");
        let object = json!([{ "from": FROM, "to": TO, "authorizationList": [nobodys] }]);
        let draft = Draft::parse(Some(&object.to_string())).unwrap();
        assert_eq!(draft.from().to_string(), FROM);
        assert_eq!(draft.recovered(), Err(AuthorizationsError::Signature.into()));
    }

    #[test]
    fn inv_04_an_authorization_names_its_chain_and_its_signer() {
        let changed = |key: &str, value: Value| {
            let mut one = authorization();
            one[key] = value;
            parse(&json!([one]))
        };
        // n - s, and the other parity: what somebody else could make of it.
        let high = "0x80e7292489730b6556837f478e3bdcb6edda11c890298ae9a3480593cb90634d";
        for (key, value, said) in [
            ("chainId", json!("0x0"), "good on every chain"),
            ("s", json!(high), "signed by nobody"),
            ("yParity", json!("0x2"), "signed by nobody"),
            ("r", json!("0x0"), "signed by nobody"),
            ("yParity", Value::Null, "`yParity` must be a string"),
            ("v", json!("0x1c"), "`yParity` and `v` are both set and not equal"),
            ("nonce", Value::Null, "`nonce` must be a string"),
            ("address", json!("0x35"), "`address` must be an address"),
            ("extra", json!(1), "unknown field `extra`"),
        ] {
            let error = changed(key, value).expect_err(said).to_string();
            assert!(error.contains(said), "{key}: {error}");
        }
        assert!(changed("v", json!("0x1b")).is_ok());
        let elsewhere = fill(parse(&json!([authorization()])).unwrap(), 10);
        assert_eq!(elsewhere, Err(FillError::OtherAuthorization { asked: 1, ours: 10 }));
        assert!(parse(&json!([])).unwrap_err().to_string().contains("has no authorization"));
        for count in [MAX + 1, MAX + 2] {
            let many: Vec<_> = (0..count).map(|_| authorization()).collect();
            assert!(parse(&many.into()).unwrap_err().to_string().contains("more than 32"), "{count}");
        }
        let mut create = json!({ "from": FROM, "data": "0x00", "authorizationList": [authorization()] });
        create["to"] = Value::Null;
        assert_eq!(Request::parse(Some(&json!([create]).to_string())), Err(RequestError::NoTarget("0x4")));
        assert!(matches!(PresignedError::from(AuthorizationsError::None), PresignedError::Authorizations(_)));
    }

    /// As many as there may be, asked for and signed; and not one more.
    #[test]
    fn inv_12_a_transaction_hands_in_so_many_and_no_more() {
        let many = |count: usize| Value::from((0..count).map(|_| authorization()).collect::<Vec<_>>());
        let request = parse(&many(MAX)).unwrap();
        let all = request.authorizations().unwrap().signed().to_vec();
        assert_eq!(all.len(), MAX);
        assert_eq!(Authorizations::of_signed(all.clone()).unwrap().each().count(), MAX);
        let more = [all.as_slice(), &all[..1]].concat();
        assert_eq!(Authorizations::of_signed(more), Err(AuthorizationsError::TooMany));
        assert_eq!(Authorizations::of_signed(Vec::new()), Err(AuthorizationsError::None));
        assert_eq!(
            Draft::parse(Some(
                &json!([{ "from": FROM, "to": TO, "authorizationList": many(3) }]).to_string()
            ))
            .unwrap()
            .handed_in(),
            3
        );
        assert_eq!(
            Draft::parse(Some(&json!([{ "from": FROM, "to": TO }]).to_string())).unwrap().handed_in(),
            0
        );
    }

    #[test]
    fn what_is_asked_of_the_ledger_is_what_was_signed() {
        let request = parse(&json!([authorization()])).unwrap();
        let handed = request.authorizations().unwrap().by(|_| true);
        let [one] = handed.as_slice() else { panic!("{handed:?}") };
        assert_eq!((one.chain, one.authority, one.nonce), (1, AUTHORITY.parse().unwrap(), 3));
        let inner = Authorization { chain_id: U256::from(1), address: TO.parse().unwrap(), nonce: 3 };
        assert_eq!(one.digest, inner.signature_hash());
        let [signed] = request.authorizations().unwrap().signed() else { panic!() };
        assert_eq!(one.raw, Bytes::from(alloy_rlp::encode(signed)));
        // What was signed before was looked up before.
        let filled = fill(request, 1).unwrap().recognised();
        assert_eq!(filled.authorizations().unwrap().unrecognised(|_| true), None);
    }
}
