//! Transactions that no client asks for: a transfer of nothing, and what was signed before, with other fees.

use alloy_consensus::{Transaction as _, TxEnvelope, TxType};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, U256};

use crate::transaction::request::AskedFees;
use crate::transaction::{Blobs, Fees, Request, SignedTransaction};

/// What a transfer without calldata costs, in gas.
const TRANSFER: u64 = 21_000;

/// What was signed in these bytes; nothing where they are no signed transaction.
pub fn digest_of(raw: &[u8]) -> Option<B256> {
    TxEnvelope::decode_2718_exact(raw).ok().map(|signed| signed.signature_hash())
}

impl Request {
    /// A transfer of nothing from an account to itself, which does no more than use up its nonce. `is_dynamic`:
    /// the chain has a base fee (EIP-1559).
    pub fn nothing(from: Address, nonce: u64, is_dynamic: bool) -> Self {
        Self {
            from,
            to: Some(from),
            gas: Some(TRANSFER),
            fees: AskedFees::default(),
            value: U256::ZERO,
            nonce: Some(nonce),
            data: Bytes::new(),
            chain_id: None,
            kind: if is_dynamic { TxType::Eip1559 } else { TxType::Legacy },
            access_list: alloy_eips::eip2930::AccessList::default(),
            blobs: None,
            authorizations: None,
        }
    }

    /// What was signed, as if it was asked for once more with its fees left open. Nothing where these are not the
    /// bytes of a transaction of type 0 to 3, with its blobs if it is about some: authorizations are used up. Nothing either
    /// where the account did not sign them: no rule is asked a second time, so a table is not taken at its word.
    pub fn again(raw: &[u8], from: Address) -> Option<Self> {
        let signed = TxEnvelope::decode_2718_exact(raw).ok()?;
        if SignedTransaction::decode(Bytes::copy_from_slice(raw)).ok()?.from() != from {
            return None;
        }
        let kind = signed.tx_type();
        let blobs = match &signed {
            TxEnvelope::Eip4844(signed) => Some(Blobs::of_sent(signed.tx())?),
            TxEnvelope::Eip7702(_) => return None,
            TxEnvelope::Legacy(_) | TxEnvelope::Eip2930(_) | TxEnvelope::Eip1559(_) => None,
        };
        Some(Self {
            from,
            to: signed.to(),
            gas: Some(signed.gas_limit()),
            fees: AskedFees::default(),
            value: signed.value(),
            nonce: Some(signed.nonce()),
            data: signed.input().clone(),
            chain_id: signed.chain_id(),
            kind,
            access_list: signed.access_list().cloned().unwrap_or_default(),
            blobs,
            authorizations: None,
        })
    }

    /// A transfer of nothing with a blob of zeros: in a pool, blobs give way to blobs only. Its proof is of the kind that
    /// `like` came with, and for its cells (EIP-7594) where that came with none.
    pub fn nothing_with_a_blob(from: Address, nonce: u64, like: Option<&Self>) -> Self {
        let for_the_blob = like.and_then(Self::blobs).is_some_and(Blobs::has_proofs_for_blobs);
        let blobs = Some(Blobs::of_zeros(for_the_blob));
        Self { blobs, kind: TxType::Eip4844, ..Self::nothing(from, nonce, true) }
    }

    /// The same with these fees, which are not to be raised.
    #[must_use]
    pub fn paying(self, fees: &Fees) -> Self {
        let (max, priority, blob_fee) = (fees.max_per_gas(), fees.max_priority(), fees.max_per_blob_gas());
        let fees = if self.has_dynamic_fees() {
            AskedFees { gas_price: None, max_fee: Some(max), max_priority: Some(priority) }
        } else {
            AskedFees { gas_price: Some(max.max(priority)), max_fee: None, max_priority: None }
        };
        let blobs = match (self.blobs, blob_fee) {
            (Some(blobs), Some(fee)) => Some(blobs.paying(fee)),
            (blobs, _) => blobs,
        };
        Self { fees, blobs, ..self }
    }

    /// Whether it does the same as the other: all but the fees is equal.
    pub fn does_the_same(&self, other: &Self) -> bool {
        let bare = |request: &Self| {
            let blobs = request.blobs.clone().map(|blobs| blobs.paying(0));
            Self { fees: AskedFees::default(), blobs, ..request.clone() }
        };
        bare(self) == bare(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{Kind as _, Quote, QuotedFees, Tx, address_of_point, recover};
    use k256::ecdsa::SigningKey;

    const LOW: Fees = Fees::Dynamic { max_fee_per_gas: 100, max_priority_fee_per_gas: 10 };

    #[test]
    fn what_was_signed_is_read_back_to_the_bit() {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let from = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        let to = r#""to":"0x3535353535353535353535353535353535353535""#;
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 150 };
        let quote = Quote { chain_id: 5, mined: 0, gas: Some(50_000), fees: Some(fees) };
        for fields in [
            format!(r#"{to},"gasPrice":"0x9","value":"0x1""#),
            format!(r#"{to},"type":"0x1","accessList":[{{"address":"{from}","storageKeys":[]}}]"#),
            format!(r#"{to},"data":"0x0102","maxFeePerGas":"0x99""#),
            r#""data":"0x6000""#.to_owned(),
        ] {
            let asked = format!(r#"[{{"from":"{from}","nonce":"0x7","chainId":"0x5",{fields}}}]"#);
            let request = Request::parse(Some(&asked)).unwrap();
            let filled = request.clone().fill(&quote, None).unwrap();
            let unsigned = Tx::assign(filled, Some(7));
            let (signature, _) = key.sign_prehash_recoverable(Tx::digest(&unsigned).as_slice()).unwrap();
            let signature = recover(Tx::digest(&unsigned), &signature.to_bytes().into(), from).unwrap();
            let raw = Tx::seal(&unsigned, signature).raw;
            assert_eq!(digest_of(&raw), Some(Tx::digest(&unsigned)));
            assert_eq!(Request::again(&raw, Address::repeat_byte(7)), None, "another account signed it");
            let again = Request::again(&raw, from).unwrap();
            let whole = Request { gas: again.gas, ..request };
            assert!(again.does_the_same(&whole), "{asked}");
            assert!(!again.does_the_same(&Request { value: U256::from(99), ..whole }));
            let paid = again.paying(&LOW).fill(&quote, None).unwrap();
            assert_eq!(paid.fees().max_per_gas(), 100);
        }
        assert_eq!((Request::again(b"no transaction", from), digest_of(b"no transaction")), (None, None));
    }

    #[test]
    fn a_transfer_of_nothing_goes_to_itself() {
        let from: Address = "0x3535353535353535353535353535353535353535".parse().unwrap();
        for (is_dynamic, kind) in [(true, TxType::Eip1559), (false, TxType::Legacy)] {
            let request = Request::nothing(from, 9, is_dynamic);
            assert_eq!(
                (request.from, request.to, request.value, request.nonce),
                (from, Some(from), U256::ZERO, Some(9))
            );
            assert_eq!((request.gas, request.kind, request.data.len()), (Some(21_000), kind, 0));
            let paid = request.paying(&LOW);
            assert!(paid.sets_fees() && !paid.needs_fees());
            let expected = if is_dynamic { (None, Some(100), Some(10)) } else { (Some(100), None, None) };
            assert_eq!((paid.fees.gas_price, paid.fees.max_fee, paid.fees.max_priority), expected);
            let steep = Fees::Dynamic { max_fee_per_gas: 3, max_priority_fee_per_gas: 4 };
            assert_eq!(Request::nothing(from, 9, false).paying(&steep).fees.gas_price, Some(4));
        }
        let one = Request::nothing(from, 9, true);
        assert!(one.does_the_same(&one.clone().paying(&LOW)));
        assert!(!one.does_the_same(&Request::nothing(from, 8, true)));
    }
}
