//! From what was asked to what would be signed: chain id, gas and fees from a quote, never a field that the
//! caller set.

use alloy_consensus::{
    SignableTransaction as _, Transaction as _, TxEip1559, TxEip2930, TxEip4844, TxEip4844Variant,
    TxEip4844WithSidecar, TxEip7702, TxEnvelope, TxLegacy, TxType, TypedTransaction,
};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};

use crate::transaction::request::AskedFees;
use crate::transaction::{Authorizations, Blobs, Fees, Handed, Request, Sealed, Signature, Slot, Stands};

/// What a node said, for one request. Not trusted: the policy's caps stand above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The chain that the configuration pins.
    pub chain_id: u64,
    /// The account's mined count (`eth_getTransactionCount` at `latest`).
    pub mined: u64,
    /// `eth_estimateGas`; asked only where the request sets no gas limit.
    pub gas: Option<u64>,
    /// Asked only where the request leaves a fee open.
    pub fees: Option<QuotedFees>,
}

/// Fees as the node suggests them, in wei for a unit of gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedFees {
    /// The next block's base fee; `None` on a chain without EIP-1559.
    pub base_fee: Option<u128>,
    pub max_priority_fee: u128,
    pub gas_price: u128,
}

/// Why a request cannot be completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    #[error("`chainId` is {asked}, this endpoint is for chain {ours}")]
    OtherChain { asked: u64, ours: u64 },
    #[error("an authorization is for chain {asked}, this endpoint is for chain {ours}")]
    OtherAuthorization { asked: u64, ours: u64 },
    #[error("the node's quote has no {0}")]
    NotQuoted(&'static str),
    #[error("this chain has no base fee (EIP-1559): set `gasPrice`, or `type` to 0x0")]
    NoBaseFee,
}

/// A transaction complete but for its nonce. Made by [`Request::fill`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    request: Request,
    chain_id: u64,
    mined: u64,
    gas: u64,
    fees: Fees,
}

/// A transaction with its nonce: exactly what is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned(TypedTransaction);

impl Request {
    /// Completes the request. Where `floor` is given, fees that the caller left open are at least that.
    pub fn fill(self, quote: &Quote, floor: Option<&Fees>) -> Result<Filled, FillError> {
        if let Some(asked) = self.chain_id
            && asked != quote.chain_id
        {
            return Err(FillError::OtherChain { asked, ours: quote.chain_id });
        }
        let other = self.authorizations.as_ref().and_then(|all| all.of_another_chain(quote.chain_id));
        if let Some(asked) = other {
            return Err(FillError::OtherAuthorization { asked, ours: quote.chain_id });
        }
        let gas = self.gas.or(quote.gas).ok_or(FillError::NotQuoted("gas estimate"))?;
        let fees = self.fill_fees(quote.fees)?;
        let fees = match floor {
            Some(floor) if !self.sets_fees() => fees.at_least(floor),
            _ => fees,
        };
        // What a unit of blob gas may cost is always said by the caller, and not ours to raise.
        let fees = match &self.blobs {
            Some(blobs) => Fees::of(fees.max_per_gas(), fees.max_priority(), Some(blobs.max_fee_per_gas())),
            None => fees,
        };
        Ok(Filled { chain_id: quote.chain_id, mined: quote.mined, gas, fees, request: self })
    }

    fn fill_fees(&self, quoted: Option<QuotedFees>) -> Result<Fees, FillError> {
        let quoted = || quoted.ok_or(FillError::NotQuoted("fees"));
        if !self.has_dynamic_fees() {
            return match self.fees.gas_price {
                Some(price) => Ok(Fees::GasPrice(price)),
                None => Ok(Fees::GasPrice(quoted()?.gas_price)),
            };
        }
        let (max, priority) = match (self.fees.max_fee, self.fees.max_priority) {
            (Some(max), Some(priority)) => (max, priority),
            (Some(max), None) => (max, quoted()?.max_priority_fee.min(max)),
            (None, priority) => {
                let quoted = quoted()?;
                let priority = priority.unwrap_or(quoted.max_priority_fee);
                // Twice the base fee holds for at least five full blocks in a row (each raises it by 1/8).
                let base = quoted.base_fee.ok_or(FillError::NoBaseFee)?;
                (base.saturating_mul(2).saturating_add(priority), priority)
            }
        };
        Ok(Fees::Dynamic { max_fee_per_gas: max, max_priority_fee_per_gas: priority })
    }
}

impl Filled {
    /// The contract that it creates, where its nonce is known.
    pub fn creates(&self) -> Option<Address> {
        let nonce = self.request.nonce()?;
        self.request.to.is_none().then(|| self.request.from.create(nonce))
    }

    /// What the caller set.
    pub const fn request(&self) -> &Request {
        &self.request
    }

    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub const fn from(&self) -> Address {
        self.request.from
    }

    /// `None` creates a contract.
    pub const fn to(&self) -> Option<Address> {
        self.request.to
    }

    /// In wei.
    pub const fn value(&self) -> U256 {
        self.request.value
    }

    pub const fn data(&self) -> &Bytes {
        &self.request.data
    }

    pub const fn gas(&self) -> u64 {
        self.gas
    }

    pub const fn fees(&self) -> Fees {
        self.fees
    }

    /// The most that executing it can cost, in wei: gas limit times the most a unit can cost, and the most that its blobs
    /// can cost. It cannot overflow: 64 and 128 bits.
    pub fn max_execution_fee(&self) -> U256 {
        let gas = U256::from(self.gas).saturating_mul(U256::from(self.fees.max_per_gas()));
        gas.saturating_add(self.blobs().map(Blobs::max_fee).unwrap_or_default())
    }

    /// What it says of its blobs, if it has some.
    pub const fn blobs(&self) -> Option<&Blobs> {
        self.request.blobs()
    }

    /// Whose code it sets, and to what.
    pub const fn authorizations(&self) -> Option<&Authorizations> {
        self.request.authorizations()
    }

    /// A transaction that was signed before, as it was asked for.
    pub fn signed(from: Address, raw: &[u8]) -> Option<Self> {
        let signed = TxEnvelope::decode_2718_exact(raw).ok()?;
        let authorizations = signed.authorization_list().map(<[_]>::to_vec);
        let authorizations = authorizations.map(Authorizations::of_signed).transpose().ok()?;
        Self::of_envelope(from, &signed, authorizations)
    }

    /// The same, where its authorizations were recovered already.
    pub(super) fn of_envelope(
        from: Address,
        signed: &TxEnvelope,
        authorizations: Option<Authorizations>,
    ) -> Option<Self> {
        let max_fee_per_gas = signed.max_fee_per_gas();
        let kind = signed.tx_type();
        let fees = match signed.max_priority_fee_per_gas() {
            Some(tip) => Fees::of(max_fee_per_gas, tip, signed.max_fee_per_blob_gas()),
            None => Fees::GasPrice(max_fee_per_gas),
        };
        let blobs = match signed {
            TxEnvelope::Eip4844(signed) => Some(Blobs::of_signed(signed.tx()).ok()?),
            _ => None,
        };
        let (chain_id, gas, nonce) = (signed.chain_id()?, signed.gas_limit(), signed.nonce());
        let request = Request {
            from,
            to: signed.to(),
            gas: Some(gas),
            fees: AskedFees::default(),
            value: signed.value(),
            nonce: Some(nonce),
            data: signed.input().clone(),
            chain_id: Some(chain_id),
            kind,
            access_list: signed.access_list().cloned().unwrap_or_default(),
            blobs,
            authorizations,
        };
        Some(Self { request, chain_id, mined: nonce, gas, fees })
    }

    pub const fn access_list(&self) -> &AccessList {
        &self.request.access_list
    }

    /// Marks authorizations as signed here: the ledger says so.
    pub(super) fn recognise(&mut self, known: &[Handed]) {
        if let Some(authorizations) = &mut self.request.authorizations {
            authorizations.recognise(known);
        }
    }

    /// Marks all of its authorizations as looked up: it was judged before, and let through.
    #[must_use]
    pub fn recognised(mut self) -> Self {
        let all = self.request.authorizations.as_ref().map(|all| all.by(|_| true)).unwrap_or_default();
        self.recognise(&all);
        self
    }

    pub(super) fn slot(&self) -> Slot {
        Slot {
            chain: self.chain_id,
            wanted: self.request.wanted(),
            mined: self.mined,
            fees: self.fees,
            fees_are_fixed: self.request.sets_fees(),
            stands: Stands::Transaction,
        }
    }

    pub(super) fn assign(self, nonce: u64) -> Unsigned {
        let Self { request, chain_id, gas: gas_limit, fees, .. } = self;
        let to = request.to.map_or(TxKind::Create, TxKind::Call);
        let (value, input, access_list) = (request.value, request.data, request.access_list);
        let (max_fee_per_gas, max_priority_fee_per_gas) = (fees.max_per_gas(), fees.max_priority());
        // Types 3 and 4 have a target, or they are not read.
        let target = request.to.unwrap_or_default();
        if let Some(blobs) = request.blobs {
            let tx = TxEip4844 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to: target,
                value,
                access_list,
                blob_versioned_hashes: blobs.hashes().to_vec(),
                max_fee_per_blob_gas: blobs.max_fee_per_gas(),
                input,
            };
            return Unsigned(TypedTransaction::Eip4844(match blobs.sidecar() {
                Some(sidecar) => TxEip4844WithSidecar { tx, sidecar }.into(),
                None => TxEip4844Variant::TxEip4844(tx),
            }));
        }
        if let Some(authorizations) = request.authorizations {
            let tx = TxEip7702 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to: target,
                value,
                access_list,
                authorization_list: authorizations.signed().to_vec(),
                input,
            };
            return Unsigned(tx.into());
        }
        Unsigned(match (request.kind, fees) {
            (TxType::Legacy, fees) => {
                let gas_price = fees.max_per_gas();
                TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input }.into()
            }
            (TxType::Eip2930, fees) => {
                let gas_price = fees.max_per_gas();
                TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, input, access_list }.into()
            }
            _ => TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            }
            .into(),
        })
    }
}

impl Unsigned {
    /// The transaction itself.
    pub const fn transaction(&self) -> &TypedTransaction {
        &self.0
    }

    pub(super) fn bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.0.encode_for_signing(&mut out);
        out.into()
    }

    pub(super) fn digest(&self) -> B256 {
        self.0.signature_hash()
    }

    pub(super) fn seal(&self, signature: Signature) -> Sealed {
        let signature = alloy_primitives::Signature::new(
            U256::from_be_bytes(*signature.r()),
            U256::from_be_bytes(*signature.s()),
            signature.odd(),
        );
        let signed = self.0.clone().into_envelope(signature);
        Sealed { raw: signed.encoded_2718().into(), hash: *signed.tx_hash() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{Kind, Tx, recover};
    use k256::ecdsa::SigningKey;

    const FROM: &str = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F";

    fn quote(chain_id: u64) -> Quote {
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        Quote { chain_id, mined: 5, gas: Some(21_000), fees: Some(fees) }
    }

    fn filled(fields: &str, quote: &Quote) -> Filled {
        let params = format!(r#"[{{"from":"{FROM}",{fields}}}]"#);
        Request::parse(Some(&params)).unwrap().fill(quote, None).unwrap()
    }

    /// Each line made with eth-account, an implementation of its own (RFC 6979, so that bytes can be compared).
    #[test]
    fn inv_05_what_is_signed_is_bit_exact() {
        let to = r#""to":"0x3535353535353535353535353535353535353535""#;
        let listed = r#""accessList":[{"address":"0x3535353535353535353535353535353535353535","storageKeys""#;
        let (one, ones) = (format!("{:064x}", 1), "f".repeat(64));
        for (chain, fields, nonce, raw) in [
            (
                1,
                format!(r#"{to},"gasPrice":"0x4a817c800","gas":"0x5208","value":"0xde0b6b3a7640000""#),
                9,
                "0xf86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83",
            ),
            (
                31337,
                r#""gasPrice":"0x1","gas":"0x186a0","data":"0x6000","input":"0x6000","to":null"#.to_owned(),
                0,
                "0xf8508001830186a0808082600082f4f5a0119e9234567604402ba6967465a83f840ffaa48f4cc33800b7de75e4bbdb77f3a04b646f56336683be047b3caa01059ebc5a87980952edc7290979a356889f0609",
            ),
            (
                10,
                format!(
                    r#"{to},"type":"0x1","gasPrice":"0x7","gas":"0xc350","input":"0xa9059cbb00",{listed}:["0x{one}","0x{ones}"]}}]"#
                ),
                3,
                "0x01f8c20a030782c3509435353535353535353535353535353535353535358085a9059cbb00f85bf859943535353535353535353535353535353535353535f842a00000000000000000000000000000000000000000000000000000000000000001a0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff01a08d1a20d0dd7a471bc96cb598ab355589678d526ee1a28a22d36ca01279036fb1a042cbbfd37b14b3e8b6c2d4391e1e6ca75bea2c5832bed920022717556cc4d6b4",
            ),
            (
                31337,
                format!(
                    r#"{to},"maxFeePerGas":"0x77359400","maxPriorityFeePerGas":"0x1","gas":"0x5208","value":"0x1","data":"0x""#
                ),
                1 << 32,
                "0x02f86d827a698501000000000184773594008252089435353535353535353535353535353535353535350180c001a08badd1cad1eee3429a12b8baacab39516d6d639e9180b9c0e5318ee15a643d89a06e6a5af3f954ecc415b782ff12b8fcd6f713ce37358705ce3f47b8b7d27c6ced",
            ),
            (
                1,
                format!(
                    r#"{to},"type":"0x2","maxFeePerGas":"0x3b9aca00","maxPriorityFeePerGas":"0x3b9aca00","gasLimit":"0xea60","data":"0x00",{listed}:[]}}]"#
                ),
                1,
                "0x02f8810101843b9aca00843b9aca0082ea609435353535353535353535353535353535353535358000d7d6943535353535353535353535353535353535353535c080a08cb0a09d4bbe9e81fba32e031e81a6f55a865a94aeac70a1b9ed289442a363a4a03e3440b1b850276467b7fc7d20c619a9c504aeeb0282ef8b5d050b55c45203e7",
            ),
        ] {
            let unsigned = Tx::assign(filled(&fields, &quote(chain)), Some(nonce));
            let digest = Tx::digest(&unsigned);
            let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
            let (signature, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
            let proved = recover(digest, &signature.to_bytes().into(), FROM.parse().unwrap()).unwrap();
            let sealed = Tx::seal(&unsigned, proved);
            assert_eq!(sealed.raw.to_string(), raw);
            assert_eq!(sealed.hash, alloy_primitives::keccak256(&sealed.raw));
        }
    }

    #[test]
    fn only_what_the_caller_left_open_is_filled() {
        let bare = filled(r#""to":"0x3535353535353535353535353535353535353535""#, &quote(1));
        assert_eq!(bare.fees(), Fees::Dynamic { max_fee_per_gas: 207, max_priority_fee_per_gas: 7 });
        assert_eq!((bare.gas(), bare.chain_id(), bare.slot().wanted), (21_000, 1, None));
        assert!(!bare.slot().fees_are_fixed);

        let max = r#""to":"0x3535353535353535353535353535353535353535","maxFeePerGas":"0x3","gas":"0x1","nonce":"0x0""#;
        let max = filled(max, &quote(1));
        assert_eq!(max.fees(), Fees::Dynamic { max_fee_per_gas: 3, max_priority_fee_per_gas: 3 });
        assert_eq!((max.gas(), max.slot().wanted), (1, Some(0)));
        assert!(max.slot().fees_are_fixed);

        let legacy = r#""to":"0x3535353535353535353535353535353535353535","type":"0x0""#;
        assert_eq!(filled(legacy, &quote(1)).fees(), Fees::GasPrice(150));
        assert_eq!(bare.max_execution_fee(), U256::from(21_000_u64 * 207));
    }

    #[test]
    fn a_floor_raises_open_fees_and_never_the_callers_own() {
        let floor = Fees::Dynamic { max_fee_per_gas: 1_000, max_priority_fee_per_gas: 500 };
        let fill = |fields: &str| {
            let params = format!(r#"[{{"from":"{FROM}","to":"{FROM}"{fields}}}]"#);
            Request::parse(Some(&params)).unwrap().fill(&quote(1), Some(&floor)).unwrap().fees()
        };
        assert_eq!(fill(""), floor);
        assert_eq!(fill(r#","type":"0x1""#), Fees::GasPrice(1_000));
        assert_eq!(fill(r#","gasPrice":"0x1""#), Fees::GasPrice(1));
    }

    #[test]
    fn inv_11_another_chain_and_an_incomplete_quote_are_refused() {
        let request = |fields: &str| {
            let params = format!(r#"[{{"from":"{FROM}","to":"{FROM}"{fields}}}]"#);
            Request::parse(Some(&params)).unwrap()
        };
        let other = request(r#","chainId":"0x2""#).fill(&quote(1), None);
        assert_eq!(other, Err(FillError::OtherChain { asked: 2, ours: 1 }));
        let no_gas = Quote { gas: None, ..quote(1) };
        assert_eq!(request("").fill(&no_gas, None), Err(FillError::NotQuoted("gas estimate")));
        let no_fees = Quote { fees: None, ..quote(1) };
        assert_eq!(request("").fill(&no_fees, None), Err(FillError::NotQuoted("fees")));
        let legacy_chain = QuotedFees { base_fee: None, max_priority_fee: 0, gas_price: 9 };
        let old = Quote { fees: Some(legacy_chain), ..quote(1) };
        assert_eq!(request("").fill(&old, None), Err(FillError::NoBaseFee));
        assert!(request(r#","type":"0x0""#).fill(&old, None).is_ok());
    }

    #[test]
    fn the_slot_is_what_the_ledger_has_to_know() {
        let to = r#""to":"0x3535353535353535353535353535353535353535""#;
        let filled = filled(&format!(r#"{to},"nonce":"0x9","gasPrice":"0x7""#), &quote(3));
        let slot = Slot {
            chain: 3,
            wanted: Some(9),
            mined: 5,
            fees: Fees::GasPrice(7),
            fees_are_fixed: true,
            stands: Stands::Transaction,
        };
        assert_eq!((Tx::slot(&filled), <Tx as Kind>::from(&filled)), (Some(slot), FROM.parse().unwrap()));
        assert_eq!(Tx::intent(&filled), filled.request().intent());
        assert!(!Tx::creates(&filled) && filled.creates().is_none());
        let unsigned = Tx::assign(filled.clone(), Some(9));
        assert_eq!(alloy_primitives::keccak256(Tx::unsigned_bytes(&unsigned)), Tx::digest(&unsigned));
        // Without a nonce it has one that no account ever has.
        assert_eq!(Tx::assign(filled.clone(), None), Tx::assign(filled, Some(u64::MAX)));
    }

    /// The address follows from the account and its nonce: the first contract of this account, as ethers works it out.
    #[test]
    fn what_is_created_is_known_where_the_nonce_is() {
        let create = |more: &str| filled(&format!(r#""data":"0x6000"{more}"#), &quote(1));
        assert_eq!(create("").creates(), None);
        let created = create(r#","nonce":"0x0""#).creates().unwrap();
        assert_eq!(created, FROM.parse::<Address>().unwrap().create(0));
        assert_ne!(create(r#","nonce":"0x1""#).creates(), Some(created));
        assert!(Tx::creates(&create("")));
    }

    #[test]
    fn of_two_fees_the_one_that_is_open_is_filled() {
        let to = r#""to":"0x3535353535353535353535353535353535353535""#;
        let fees = |more: &str| filled(&format!("{to}{more}"), &quote(1)).fees();
        let dynamic =
            |max, priority| Fees::Dynamic { max_fee_per_gas: max, max_priority_fee_per_gas: priority };
        assert_eq!(fees(r#","maxFeePerGas":"0x3e8""#), dynamic(1000, 7));
        assert_eq!(fees(r#","maxPriorityFeePerGas":"0x5""#), dynamic(205, 5));
        assert_eq!(fees(r#","maxFeePerGas":"0x9","maxPriorityFeePerGas":"0x2""#), dynamic(9, 2));
        assert_eq!(fees(r#","gasPrice":"0x4""#), Fees::GasPrice(4));
        // Nothing is asked of a quote that is not needed.
        let request = format!(r#"[{{"from":"{FROM}",{to},"gasPrice":"0x4","gas":"0x5208"}}]"#);
        let bare = Quote { fees: None, gas: None, ..quote(1) };
        assert!(Request::parse(Some(&request)).unwrap().fill(&bare, None).is_ok());
        let ours = request.replace("\"gasPrice\"", "\"chainId\":\"0x1\",\"gasPrice\"");
        assert!(Request::parse(Some(&ours)).unwrap().fill(&bare, None).is_ok());
    }
}
