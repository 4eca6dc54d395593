//! Requests that are made up: calls, calls inside calls, and what is none.

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{Address, U256, hex, keccak256};
use serde_json::{Value, json};

use crate::Random;
use crate::keys::{AUTHORIZATIONS, authorizations};
use crate::others::{Said, Typed};
use crate::rules::{
    ACCOUNTS, ALICE, BOB, CLIENTS, HOT, MULTICALL, MULTISEND, PLAIN, POOL, ROUTER, SAFE, TREASURY, USDC,
    VAULT,
};

pub struct Asked {
    pub what: What,
    pub client: &'static str,
    pub account: Address,
    pub to: Option<Address>,
    pub value: u64,
    pub data: Vec<u8>,
    pub gas: u64,
    pub price: u64,
    /// How many blobs come along (EIP-4844), for a wei a byte of them at most.
    pub blobs: u64,
    /// The authorizations that it hands in, by their numbers.
    pub handed: Vec<usize>,
    /// In seconds since 1970.
    pub now: u64,
    /// What was found that the account created.
    pub created: Vec<Address>,
    pub tried: Tried,
}

/// What is asked. Of a transaction the rest stands in [`Asked`].
pub enum What {
    Transaction,
    /// A transaction that came signed.
    Presigned,
    Message(Said),
    Typed(Typed),
    /// That this contract's code may act as the account.
    Authorization(Address),
}

/// What a node found.
#[derive(Clone, Copy, Debug)]
pub enum Tried {
    Never,
    Failed,
    Then,
    Seen {
        reverts: bool,
        /// What leaves the account, of ether, of USDC, and of a token that no rule names.
        wei: u64,
        usdc: u64,
        other: bool,
        approves: bool,
    },
}

impl Tried {
    fn random(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Never,
            1 => Self::Failed,
            2 => Self::Then,
            _ => Self::Seen {
                reverts: random.one_in(10),
                wei: *random.of(&[0, 0, 7, 8]),
                usdc: *random.of(&[0, 0, 5, 6, 1000]),
                other: random.one_in(8),
                approves: random.one_in(4),
            },
        }
    }
}

/// A Thursday at noon, a Saturday, a Monday a minute before eight, and at eight.
const TIMES: &[u64] = &[1_769_688_000, 1_769_860_800, 1_770_019_140, 1_770_019_200];

/// The hash of a blob of zeros.
const BLOB: &str = "0x010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014";

impl Asked {
    pub fn random(random: &mut Random) -> Self {
        let (client, _, accounts) = *random.of(CLIENTS);
        let mut account = ACCOUNTS[*random.of(accounts)].1;
        let now = *random.of(TIMES);
        let what = match random.below(20) {
            0 | 1 => What::Presigned,
            2 => What::Message(Said::random(random, account, now)),
            3..=5 => What::Typed(Typed::random(random, account, now)),
            6 => What::Authorization(*random.of(&[ALICE, BOB, Address::ZERO])),
            _ => What::Transaction,
        };
        if matches!(what, What::Presigned) {
            account = HOT;
        }
        let (mut to, _, mut data) = call(random, 0);
        if random.one_in(12) {
            to = *random.of(&[ALICE, BOB, PLAIN, USDC, SAFE]);
        }
        spoil(random, &mut data);
        let to = (!random.one_in(12)).then_some(to);
        if to.is_none() && data.is_empty() {
            data.push(0);
        }
        // Blobs and authorizations go to somebody, and not together.
        let (mut blobs, mut handed) = (0, Vec::new());
        match random.below(8) {
            0 if to.is_some() => blobs = 1 + random.below(2) as u64,
            1 if to.is_some() => {
                handed = (0..=random.below(2)).map(|_| random.below(AUTHORIZATIONS)).collect();
            }
            _ => {}
        }
        handed.dedup();
        Self {
            what,
            client,
            account,
            to,
            value: *random.of(&[0, 0, 0, 5, 7]),
            data,
            gas: *random.of(&[21_000, 50_000, 50_001]),
            price: *random.of(&[1, 2, 5]),
            blobs,
            handed,
            now,
            created: [PLAIN, ALICE, USDC, POOL, ROUTER].into_iter().filter(|_| random.one_in(3)).collect(),
            tried: Tried::random(random),
        }
    }

    pub fn json(&self) -> Value {
        let number = |number: u64| format!("0x{number:x}");
        let mut asked = json!({
            "from": self.account, "to": self.to, "value": number(self.value),
            "data": hex::encode_prefixed(&self.data), "gas": number(self.gas),
        });
        if self.blobs == 0 && self.handed.is_empty() {
            asked["gasPrice"] = json!(number(self.price));
        } else {
            asked["maxFeePerGas"] = json!(number(self.price));
            asked["maxPriorityFeePerGas"] = json!("0x1");
        }
        if !self.handed.is_empty() {
            asked["authorizationList"] =
                self.handed.iter().map(|at| authorizations()[*at].json.clone()).collect();
        }
        if self.blobs > 0 {
            asked["maxFeePerBlobGas"] = json!("0x1");
            asked["blobVersionedHashes"] = (0..self.blobs).map(|_| json!(BLOB)).collect();
        }
        json!([asked])
    }

    /// For a count: what it is, with so many calls inside.
    pub fn kind(&self, calls: usize) -> &'static str {
        match &self.what {
            What::Transaction if !self.handed.is_empty() => "with codes",
            What::Transaction => "transaction",
            What::Presigned => "presigned",
            What::Message(_) => "message",
            What::Typed(_) if calls > 1 => "of a safe",
            What::Typed(_) => "typed data",
            What::Authorization(_) => "authorization",
        }
    }

    /// Whether it is a transaction, whoever signs it.
    pub const fn is_sent(&self) -> bool {
        matches!(self.what, What::Transaction | What::Presigned)
    }

    /// The most that its execution can cost, with its blobs.
    pub fn fee(&self) -> U256 {
        if !self.is_sent() {
            return U256::ZERO;
        }
        U256::from(self.gas * self.price + self.blobs * 131_072)
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, account, now, created, tried, .. } = self;
        write!(f, "{client} asks at {now}, {created:?} are its own, {tried:?}: ")?;
        match &self.what {
            What::Transaction => write!(f, "{}", self.json()),
            What::Presigned => write!(f, "signed, {}", self.json()),
            What::Message(said) => write!(f, "by {account}, {:?}", String::from_utf8_lossy(&said.bytes)),
            What::Typed(typed) => write!(f, "by {account}, {}", typed.json()),
            What::Authorization(delegate) => write!(f, "code of {delegate} for {account}"),
        }
    }
}

/// Now and then something that no encoder writes.
fn spoil(random: &mut Random, data: &mut Vec<u8>) {
    match random.below(60) {
        0 => data.push(0),
        1 => drop(data.pop()),
        2 if !data.is_empty() => {
            let at = random.below(data.len());
            data[at] ^= 1 << random.below(8);
        }
        3 => data.truncate(3),
        4 => data.truncate(4),
        _ => {}
    }
}

pub fn selector(signature: &str) -> [u8; 4] {
    *keccak256(signature.as_bytes()).first_chunk().unwrap()
}

fn encode(signature: &str, values: Vec<DynSolValue>) -> Vec<u8> {
    let values = DynSolValue::Tuple(values).abi_encode_sequence().unwrap();
    [&selector(signature)[..], &values].concat()
}

pub fn number(number: u64) -> DynSolValue {
    DynSolValue::Uint(U256::from(number), 256)
}

/// Target, value and calldata.
pub fn call(random: &mut Random, depth: usize) -> (Address, u64, Vec<u8>) {
    let amount = number(*random.of(&[0, 5, 10, 100, 500, 5000]));
    let who = *random.of(&[ALICE, BOB, TREASURY, VAULT, SAFE, ROUTER]);
    let one = DynSolValue::Address(who);
    let value = *random.of(&[0, 0, 0, 3, 5, 7]);
    let kinds = if depth < 3 { 16 } else { 10 };
    match random.below(kinds) {
        0 | 1 => (USDC, value, encode("transfer(address,uint256)", vec![one, amount])),
        2 => (USDC, value, encode("approve(address,uint256)", vec![one, amount])),
        3 => (ROUTER, value, encode("wrapETH(uint256)", vec![amount])),
        4 => {
            let token = DynSolValue::Address(*random.of(&[USDC, ALICE]));
            (ROUTER, value, encode("pull(address,uint256)", vec![token, amount]))
        }
        5 => (*random.of(&[ALICE, BOB, PLAIN, USDC]), value, Vec::new()),
        6 => {
            let n = DynSolValue::Uint(U256::from(random.below(10)), 8);
            (*random.of(&[PLAIN, ALICE]), value, encode("ping(uint8)", vec![n]))
        }
        7 => (PLAIN, value, note(random, who, amount)),
        8 => (ROUTER, value, swap(random, who, amount)),
        9 => {
            let asset = DynSolValue::Address(*random.of(&[USDC, ALICE]));
            (POOL, value, encode("withdraw(address,uint256,address)", vec![asset, amount, one]))
        }
        10 | 11 => {
            let calls = inner(random, depth).into_iter();
            let calls = calls.filter(|(to, _, _)| *to == ROUTER || depth > 1);
            let calls = calls.map(|(_, _, data)| DynSolValue::Bytes(data)).collect();
            (ROUTER, value, encode("multicall(bytes[])", vec![DynSolValue::Array(calls)]))
        }
        12 => {
            let tuple = |(to, _, data)| {
                let parts = [DynSolValue::Address(to), DynSolValue::Bool(false), DynSolValue::Bytes(data)];
                DynSolValue::Tuple(parts.into())
            };
            let calls = inner(random, depth).into_iter().map(tuple).collect();
            (MULTICALL, value, encode("aggregate3((address,bool,bytes)[])", vec![DynSolValue::Array(calls)]))
        }
        13 => {
            let (to, value, data) = call(random, depth + 1);
            (SAFE, 0, exec(random, to, value, data, 0))
        }
        14 => {
            let data = packed(random, depth);
            (SAFE, 0, exec(random, MULTISEND, 0, data, 1))
        }
        _ => (MULTISEND, value, packed(random, depth)),
    }
}

fn swap(random: &mut Random, recipient: Address, amount: DynSolValue) -> Vec<u8> {
    let mut path = Vec::new();
    for hop in 0..2 + random.below(2) {
        path.extend_from_slice(if hop == 0 { &[] } else { &[0, 1, 244] });
        path.extend_from_slice(random.of(&[USDC, BOB, ALICE]).as_slice());
    }
    match random.below(12) {
        0 => path.push(0),
        1 => path.truncate(20),
        2 => path.truncate(random.below(path.len())),
        _ => {}
    }
    let params = vec![DynSolValue::Bytes(path), DynSolValue::Address(recipient), amount, number(1)];
    encode("exactInput((bytes,address,uint256,uint256))", vec![DynSolValue::Tuple(params)])
}

fn inner(random: &mut Random, depth: usize) -> Vec<(Address, u64, Vec<u8>)> {
    let mut calls = Vec::new();
    for _ in 0..random.below(4) {
        let (to, value, mut data) = call(random, depth + 1);
        spoil(random, &mut data);
        calls.push((to, value, data));
    }
    calls
}

fn note(random: &mut Random, who: Address, amount: DynSolValue) -> Vec<u8> {
    let list = (0..random.below(3)).map(|_| DynSolValue::Address(*random.of(&[ALICE, BOB, TREASURY])));
    let list = list.collect();
    let text = DynSolValue::String((*random.of(&["", "x1", "ann"])).to_owned());
    let tag = DynSolValue::Bytes(vec![1; random.below(3)]);
    let pair = DynSolValue::Tuple(vec![DynSolValue::Address(who), amount]);
    encode("note(address[],(address,uint256),string,bytes)", vec![DynSolValue::Array(list), pair, text, tag])
}

pub const EXEC: &str =
    "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)";

fn exec(random: &mut Random, to: Address, value: u64, data: Vec<u8>, operation: u8) -> Vec<u8> {
    let operation = if random.one_in(20) { *random.of(&[0, 1, 2]) } else { operation };
    let price = u64::from(random.one_in(30));
    let nobody = || DynSolValue::Address(Address::ZERO);
    let values = vec![
        DynSolValue::Address(to),
        number(value),
        DynSolValue::Bytes(data),
        DynSolValue::Uint(U256::from(operation), 8),
        number(0),
        number(0),
        number(price),
        nobody(),
        nobody(),
        DynSolValue::Bytes(vec![1]),
    ];
    encode(EXEC, values)
}

fn packed(random: &mut Random, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (to, value, data) in inner(random, depth) {
        let operation = u8::from(random.one_in(12));
        let to = if random.one_in(40) { Address::ZERO } else { to };
        bytes.push(operation);
        bytes.extend_from_slice(to.as_slice());
        bytes.extend_from_slice(&U256::from(value).to_be_bytes::<32>());
        bytes.extend_from_slice(&U256::from(data.len()).to_be_bytes::<32>());
        bytes.extend_from_slice(&data);
    }
    if random.one_in(30) {
        bytes.pop();
    }
    encode("multiSend(bytes)", vec![DynSolValue::Bytes(bytes)])
}

/// Another decoder than the program's: a lenient one, whose reading must encode to the same bytes again, with a look at
/// the one width that it does not check.
pub fn decode(types: &str, arguments: &[u8]) -> Option<Vec<DynSolValue>> {
    fn fits(value: &DynSolValue) -> bool {
        match value {
            DynSolValue::Uint(number, bits) => number.bit_len() <= *bits,
            DynSolValue::Array(items) | DynSolValue::Tuple(items) => items.iter().all(fits),
            _ => true,
        }
    }
    let ty = DynSolType::parse(types).unwrap();
    let value = ty.abi_decode_params(arguments).ok()?;
    let again = value.abi_encode_params();
    let values = match value {
        DynSolValue::Tuple(values) => values,
        one => vec![one],
    };
    (again == arguments && values.iter().all(fits)).then_some(values)
}
