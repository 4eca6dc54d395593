//! From what was asked to what would be signed: chain id, gas and fees from a quote, never a field that the
//! caller set.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEip2930, TxLegacy, TxType, TypedTransaction};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};

use crate::transaction::{Fees, Request, Sealed, Signature, Slot};

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
        let gas = self.gas.or(quote.gas).ok_or(FillError::NotQuoted("gas estimate"))?;
        let fees = self.fill_fees(quote.fees)?;
        let fees = match floor {
            Some(floor) if !self.sets_fees() => fees.at_least(floor),
            _ => fees,
        };
        Ok(Filled { chain_id: quote.chain_id, mined: quote.mined, gas, fees, request: self })
    }

    fn fill_fees(&self, quoted: Option<QuotedFees>) -> Result<Fees, FillError> {
        let quoted = || quoted.ok_or(FillError::NotQuoted("fees"));
        if self.kind != TxType::Eip1559 {
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

    /// The most that executing it can cost, in wei: gas limit times the most a unit can cost. It cannot
    /// overflow: 64 and 128 bits.
    pub fn max_execution_fee(&self) -> U256 {
        U256::from(self.gas).saturating_mul(U256::from(self.fees.max_per_gas()))
    }

    pub const fn access_list(&self) -> &AccessList {
        &self.request.access_list
    }

    pub(super) fn slot(&self) -> Slot {
        Slot {
            chain: self.chain_id,
            wanted: self.request.nonce,
            mined: self.mined,
            fees: self.fees,
            fees_are_fixed: self.request.sets_fees(),
        }
    }

    pub(super) fn assign(self, nonce: u64) -> Unsigned {
        let Self { request, chain_id, gas: gas_limit, fees, .. } = self;
        let to = request.to.map_or(TxKind::Create, TxKind::Call);
        let (value, input, access_list) = (request.value, request.data, request.access_list);
        Unsigned(match (request.kind, fees) {
            (TxType::Legacy, fees) => {
                let gas_price = fees.max_per_gas();
                TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input }.into()
            }
            (TxType::Eip2930, fees) => {
                let gas_price = fees.max_per_gas();
                TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, input, access_list }.into()
            }
            (_, fees) => TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: fees.max_per_gas(),
                max_priority_fee_per_gas: fees.max_priority(),
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
