//! A request as a test case or `explain` gives it, made into what a policy judges.

use std::sync::Arc;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_json_abi::Function;
use alloy_primitives::{Address, Bytes, U256, hex};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::config::units;
use crate::identity::{AccountCaller, Caller, RequestId};
use crate::policy::{Charge, Denied, Explanation, Moment, Policy, World};
use crate::transaction::{
    Authorization, Delegation, DelegationRequest, Filled, Message, Presigned, Quote, QuotedFees, Request,
    SignedTransaction, Structured, Text, Tx, TypedData,
};

/// What would be signed.
#[derive(Debug)]
pub(super) enum Asked {
    Transaction(Box<Filled>),
    Message(Text),
    TypedData(Box<Structured>),
    Presigned(Box<SignedTransaction>),
    Authorization(Box<Delegation>),
}

/// What a node would have quoted: 100,000 gas, a base fee of 10 gwei and a priority fee of 1 gwei.
const GAS: u64 = 100_000;
const GWEI: u128 = 1_000_000_000;

impl Asked {
    /// A JSON-RPC request, its parameters, or a transaction object.
    pub fn of_json(json: &Value, world: &World) -> Result<Self, String> {
        let method = json.get("method").and_then(Value::as_str);
        let params = json.get("params").unwrap_or(json);
        let params = if params.is_array() { params.clone() } else { Value::Array(vec![params.clone()]) };
        let is_text = params.get(0).is_some_and(Value::is_string);
        let is_typed = |one: &Value| one.get("primaryType").is_some();
        match method {
            Some("personal_sign") => Self::message(&params),
            Some("eth_sign") => {
                Text::parse_sign(Some(&params.to_string())).map(Self::Message).map_err(|e| e.to_string())
            }
            Some("eth_signTypedData" | "eth_signTypedData_v3" | "eth_signTypedData_v4") => {
                Self::typed_data(&params, world)
            }
            Some("eth_signAuthorization") => {
                let request =
                    DelegationRequest::parse(Some(&params.to_string())).map_err(|e| e.to_string())?;
                let chain = world.chain_of(request.chain_id());
                let filled = request.fill(chain, 0).map_err(|e| e.to_string())?;
                Ok(Self::Authorization(Box::new(filled)))
            }
            Some(method) if method.starts_with("eth_sendRawTransaction") => {
                let (signed, _) =
                    SignedTransaction::parse(Some(&params.to_string())).map_err(|e| e.to_string())?;
                let chain = world.chain_of(Some(signed.filled().chain_id()));
                let signed = signed.for_chain(chain).map_err(|e| e.to_string())?;
                Ok(Self::Presigned(Box::new(signed)))
            }
            None if params.as_array().is_some_and(|params| params.iter().any(is_typed)) => {
                Self::typed_data(&params, world)
            }
            None if is_text => Self::message(&params),
            None | Some("eth_sendTransaction" | "eth_signTransaction" | "eth_sendTransactionSync") => {
                Self::transaction(&params, world)
            }
            Some(other) => Err(format!("`{other}` asks for no signature that a policy judges")),
        }
    }

    fn transaction(params: &Value, world: &World) -> Result<Self, String> {
        let request = Request::parse(Some(&params.to_string())).map_err(|e| e.to_string())?;
        let fees = QuotedFees { base_fee: Some(10 * GWEI), max_priority_fee: GWEI, gas_price: 11 * GWEI };
        let chain_id = world.chain_of(request.chain_id());
        let quote = Quote { chain_id, mined: 0, gas: Some(GAS), fees: Some(fees) };
        let filled = request.fill(&quote, None).map_err(|e| e.to_string())?;
        Ok(Self::Transaction(Box::new(filled)))
    }

    fn typed_data(params: &Value, world: &World) -> Result<Self, String> {
        let read = Structured::parse(Some(&params.to_string())).map_err(|e| e.to_string())?;
        let chain = world.chain_of(read.domain().chain_id);
        let read = read.for_chain(chain).map_err(|e| e.to_string())?;
        Ok(Self::TypedData(Box::new(read)))
    }

    fn message(params: &Value) -> Result<Self, String> {
        Text::parse(Some(&params.to_string())).map(Self::Message).map_err(|e| e.to_string())
    }

    pub fn from(&self) -> Address {
        match self {
            Self::Transaction(filled) => filled.from(),
            Self::Message(text) => text.from(),
            Self::TypedData(typed) => typed.from(),
            Self::Presigned(signed) => signed.from(),
            Self::Authorization(asked) => asked.from(),
        }
    }

    /// The chain that it is for, or the first of the world.
    pub fn chain_id(&self, world: &World) -> u64 {
        match self {
            Self::Transaction(filled) => filled.chain_id(),
            _ => world.chain_of(None),
        }
    }

    /// The contract that it creates, where it names its nonce.
    pub fn creates(&self) -> Option<Address> {
        if let Self::Transaction(filled) = self { filled.creates() } else { None }
    }

    /// The rule that allows it, and what it takes from each budget.
    pub fn assess(
        &self,
        policy: &Policy,
        caller: &AccountCaller,
        now: Moment,
    ) -> Result<(Arc<str>, Vec<Charge>), Denied> {
        match self {
            Self::Transaction(filled) => policy.assess::<Tx>(caller, filled, now),
            Self::Message(text) => policy.assess::<Message>(caller, text, now),
            Self::TypedData(typed) => policy.assess::<TypedData>(caller, typed, now),
            Self::Presigned(signed) => policy.assess::<Presigned>(caller, signed, now),
            Self::Authorization(asked) => policy.assess::<Authorization>(caller, asked, now),
        }
    }

    /// The narrowest rules that allow it.
    pub fn suggest(
        &self,
        policy: &Policy,
        caller: &AccountCaller,
        by: (Timestamp, &str),
    ) -> Result<String, String> {
        match self {
            Self::Transaction(filled) => policy.suggest::<Tx>(caller, filled, by),
            Self::Message(text) => policy.suggest::<Message>(caller, text, by),
            Self::TypedData(typed) => policy.suggest::<TypedData>(caller, typed, by),
            Self::Presigned(signed) => policy.suggest::<Presigned>(caller, signed, by),
            Self::Authorization(asked) => policy.suggest::<Authorization>(caller, asked, by),
        }
    }

    pub fn explain(&self, policy: &Policy, caller: &AccountCaller, now: Moment) -> Explanation {
        match self {
            Self::Transaction(filled) => policy.explain::<Tx>(caller, filled, now),
            Self::Message(text) => policy.explain::<Message>(caller, text, now),
            Self::TypedData(typed) => policy.explain::<TypedData>(caller, typed, now),
            Self::Presigned(signed) => policy.explain::<Presigned>(caller, signed, now),
            Self::Authorization(asked) => policy.explain::<Authorization>(caller, asked, now),
        }
    }
}

/// The client by its name, as it would ask for the account, or bring what another has signed.
pub(super) fn caller(world: &World, name: &str, asked: &Asked) -> Result<AccountCaller, String> {
    let client = world.clients.iter().find(|client| client.name == name);
    let client = client.ok_or_else(|| {
        let known: Vec<_> = world.clients.iter().map(|client| client.name.as_str()).collect();
        format!("there is no client named `{name}`; there are: {}", known.join(", "))
    })?;
    let caller = Caller::new(Arc::new(client.clone()), RequestId::from_number(0));
    match asked {
        Asked::Presigned(signed) => Ok(caller.presenting(signed.from())),
        asked => caller.for_account(asked.from()).map_err(|e| e.to_string()),
    }
}

/// Puts addresses for names, QUANTITYs for amounts, and calldata for `call` and `args` into a transaction that
/// was written for people to read.
pub(super) fn plain(written: &Map<String, Value>, policy: &Policy, world: &World) -> Result<Value, String> {
    let mut plain = Map::new();
    for (key, value) in written {
        let value = match (key.as_str(), value) {
            ("call" | "args", _) => continue,
            ("from" | "to", Value::String(name)) => Value::String(named(name, policy)),
            (
                "value" | "maxFeePerGas" | "maxPriorityFeePerGas" | "maxFeePerBlobGas" | "gasPrice",
                Value::String(text),
            ) if !text.starts_with("0x") => {
                let wei = units::wei(text).map_err(|e| format!("{key}: {e}"))?;
                Value::String(format!("0x{wei:x}"))
            }
            ("gas" | "nonce" | "chainId", Value::Number(number)) => {
                let number = number.as_u64().ok_or_else(|| format!("{key}: {number} is no number here"))?;
                Value::String(format!("0x{number:x}"))
            }
            (_, value) => value.clone(),
        };
        plain.insert(key.clone(), value);
    }
    if let Some(call) = written.get("call") {
        let signature = call.as_str().ok_or("`call` must be a signature")?;
        let args = match written.get("args") {
            None => &[][..],
            Some(Value::Array(args)) => args.as_slice(),
            Some(_) => return Err("`args` must be a list".to_owned()),
        };
        let to = plain.get("to").and_then(Value::as_str).and_then(|to| to.parse().ok());
        let data = hex::encode_prefixed(encode(signature, args, to, policy, world)?);
        if plain.insert("data".to_owned(), Value::String(data)).is_some() {
            return Err("write either `call` or `data`".to_owned());
        }
    }
    Ok(Value::Object(plain))
}

fn encode(
    signature: &str,
    args: &[Value],
    to: Option<Address>,
    policy: &Policy,
    world: &World,
) -> Result<Vec<u8>, String> {
    let function = Function::parse(signature).map_err(|e| format!("`{signature}`: {e}"))?;
    if function.inputs.len() != args.len() {
        return Err(format!("`{signature}` takes {} arguments, not {}", function.inputs.len(), args.len()));
    }
    let mut values = Vec::new();
    for (input, arg) in function.inputs.iter().zip(args) {
        let ty = DynSolType::parse(&input.selector_type()).map_err(|e| e.to_string())?;
        values.push(value(&ty, arg, to, policy, world)?);
    }
    let encoded = DynSolValue::Tuple(values).abi_encode_sequence().unwrap_or_default();
    Ok([function.selector().as_slice(), &encoded].concat())
}

/// An argument: text, a list of what an array or a tuple is made of, or for bytes a call of its own, `{ call, args }`, or
/// `{ input, args }` for its arguments alone.
fn value(
    ty: &DynSolType,
    arg: &Value,
    to: Option<Address>,
    policy: &Policy,
    world: &World,
) -> Result<DynSolValue, String> {
    let each = |items: &[Value], types: &mut dyn Iterator<Item = &DynSolType>| {
        let values = items.iter().zip(types).map(|(item, ty)| value(ty, item, to, policy, world));
        values.collect::<Result<Vec<_>, _>>()
    };
    match (ty, arg) {
        (DynSolType::Array(item), Value::Array(items)) => {
            Ok(DynSolValue::Array(each(items, &mut std::iter::repeat(item.as_ref()))?))
        }
        (DynSolType::FixedArray(item, size), Value::Array(items)) if items.len() == *size => {
            Ok(DynSolValue::FixedArray(each(items, &mut std::iter::repeat(item.as_ref()))?))
        }
        (DynSolType::Tuple(types), Value::Array(items)) if items.len() == types.len() => {
            Ok(DynSolValue::Tuple(each(items, &mut types.iter())?))
        }
        (DynSolType::Bytes, Value::Object(call)) => {
            let (signature, skip) = match (call.get("call"), call.get("input")) {
                (Some(Value::String(signature)), None) => (signature, 0),
                (None, Some(Value::String(signature))) => (signature, 4),
                _ => return Err("write { call = \"…\", args = […] }".to_owned()),
            };
            let args = call.get("args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let to = call.get("to").and_then(Value::as_str).and_then(|to| named(to, policy).parse().ok());
            let data = encode(signature, args, to, policy, world)?;
            Ok(DynSolValue::Bytes(data.get(skip..).unwrap_or_default().to_vec()))
        }
        (_, Value::String(text)) => plain_value(ty, text, to, policy, world),
        (_, other) => plain_value(ty, &other.to_string(), to, policy, world),
    }
}

fn plain_value(
    ty: &DynSolType,
    text: &str,
    to: Option<Address>,
    policy: &Policy,
    world: &World,
) -> Result<DynSolValue, String> {
    let text = match ty {
        DynSolType::Address => named(text, policy),
        DynSolType::Uint(_) => match text.split_once(' ') {
            Some((number, symbol)) => amount(number, symbol, to, policy, world)?.to_string(),
            None => text.replace('_', ""),
        },
        _ => text.to_owned(),
    };
    ty.coerce_str(&text).map_err(|e| format!("`{text}` is no {ty}: {e}"))
}

/// An amount of the token that is called, or of ether.
fn amount(
    number: &str,
    symbol: &str,
    to: Option<Address>,
    policy: &Policy,
    world: &World,
) -> Result<U256, String> {
    // A label is of one chain; of an address that is a token on several, the units agree or are not known.
    let unit = to.and_then(|to| policy.unit_at(&world.chains, to));
    match unit {
        Some((known, decimals)) if known == symbol => units::decimal(number, decimals),
        _ => units::wei(&format!("{number} {symbol}")),
    }
    .map_err(|e| e.to_string())
}

/// The addresses that labels, names of accounts, and addresses mean.
pub(super) fn addresses(written: &[String], policy: &Policy) -> Result<Vec<Address>, String> {
    let read = |name: &String| {
        let named = named(name, policy);
        named.parse().map_err(|_| format!("`{name}` is no label and no address"))
    };
    written.iter().map(read).collect()
}

fn named(name: &str, policy: &Policy) -> String {
    policy.address_of(name).map_or_else(|| name.to_owned(), |address| address.to_string())
}

/// The parameters of `personal_sign`.
pub(super) fn message(text: &str, account: Address) -> Value {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Value::Array(vec![Value::String(bytes.to_string()), Value::String(account.to_string())])
}
