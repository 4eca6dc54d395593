//! What a decision costs, for `scripts/bench policy`: a swap of Uniswap v3, judged from its bytes, under 10, 1,000 and
//! 10,000 rules; `one-target` has all of them for one function of one contract, each for another client.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a tool for measuring may stop where it stands, and says what it found"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256, hex, keccak256};
use chancery::clock::Timestamp;
use chancery::config::Client;
use chancery::identity::{AccountCaller, Caller, RequestId};
use chancery::policy::{Policy, World};
use chancery::transaction::{Filled, Quote, Request, Tx};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

const ACCOUNT: Address = Address::with_last_byte(0xa1);
const TOKEN: Address = Address::with_last_byte(0xb1);
const FUNCTIONS: usize = 5;

criterion_group!(benches, decisions);
criterion_main!(benches);

fn decisions(criterion: &mut Criterion) {
    for (name, one_target) in [("decision", false), ("one-target", true)] {
        let mut group = criterion.benchmark_group(name);
        for rules in [10, 1000, 10_000] {
            let (world, policy) = policy(rules, one_target);
            let (caller, asked) = (caller(&world), swap());
            let now = Timestamp::from_millis(0);
            group.bench_function(rules.to_string(), |bencher| {
                bencher.iter(|| {
                    let asked: &Filled = black_box(&asked);
                    let judged = policy.assess::<Tx>(&caller, asked, now);
                    let (rule, charges) = judged.unwrap_or_else(|no| panic!("{no}"));
                    assert_eq!(charges.len(), 2, "{rule}");
                    black_box(rule);
                });
            });
        }
        group.finish();
    }
}

/// Contract number `n`.
fn target(n: usize) -> Address {
    Address::from_word(keccak256(n.to_be_bytes()))
}

/// Rules for ten clients, five functions and as many contracts as it takes; and a token budget and one of ether.
fn policy(rules: usize, one_target: bool) -> (World, Policy) {
    let clients = if one_target { rules } else { 10 };
    let client = |n: usize| Client {
        name: format!("client-{n}"),
        identity: format!("spiffe://desk/{n}"),
        issuer: chancery::config::OWN_ISSUER.to_owned(),
        role: None,
        person: None,
        accounts: vec![ACCOUNT],
        origins: vec![],
        repeat_window: None,
    };
    let world = World {
        chains: vec![1],
        accounts: [("treasury".to_owned(), ACCOUNT)].into(),
        clients: (0..clients).map(client).collect(),
    };
    let functions = if one_target { 1 } else { FUNCTIONS };
    let mut text = format!(
        "[contracts]\nusdc = {{ chain = 1, address = \"{TOKEN}\", abi = \"erc20\", decimals = 6, symbol = \"USDC\" }}\n"
    );
    for n in 0..rules.div_ceil(clients * functions) {
        let at = target(n);
        writeln!(text, "router-{n} = {{ chain = 1, address = \"{at}\", abi = \"uniswap-v3-router-02\" }}")
            .unwrap();
    }
    for n in 0..rules {
        let (client, function, contract) = (n % clients, n / clients % functions, n / clients / functions);
        let call = [
            "call = \"exactInputSingle\"\nargs = { \"params.tokenIn\" = \"usdc\", \"params.tokenOut\" = \"any\", \"params.recipient\" = \"$from\", \"params.amountIn\" = { max = \"1_000 USDC\" } }",
            "call = \"exactInput\"\nargs = { \"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"any\", \"params.recipient\" = \"$from\" }",
            "call = \"pull\"\nargs = { token = \"usdc\" }",
            "call = \"wrapETH\"",
            "call = \"refundETH\"",
        ];
        let call = call.get(function).unwrap();
        writeln!(
            text,
            "[[rule]]\nid = \"rule-{n}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"client-{client}\"]\n\
             from = [\"treasury\"]\nto = [\"router-{contract}\"]\n{call}\nexecution_fee = {{ max = \"0.05 ether\" }}"
        )
        .unwrap();
    }
    text.push_str(
        "[[budget]]\nid = \"usdc\"\nasset = \"usdc\"\nmax = \"1_000_000 USDC\"\nwindow = \"24h\"\nper = [\"from\"]\n\
         [[budget]]\nid = \"ether\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"24h\"\nper = [\"client\"]\n",
    );
    let folder = std::env::temp_dir().join(format!("chancery-bench-policy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // A policy file has at most a mebibyte.
    for (n, part) in split(&text).iter().enumerate() {
        std::fs::write(folder.join(format!("{n}.toml")), part).unwrap();
    }
    let policy = Policy::load(&folder, &world).unwrap_or_else(|e| panic!("{e}"));
    std::fs::remove_dir_all(&folder).unwrap();
    (world, policy)
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for rule in text.split_inclusive("\n[[") {
        let (rule, open) = rule.strip_suffix("[[").map_or((rule, ""), |rule| (rule, "[["));
        let last = parts.last_mut().unwrap();
        last.push_str(rule);
        let is_full = last.len() > 900_000;
        if is_full {
            parts.push(open.to_owned());
        } else {
            last.push_str(open);
        }
    }
    parts
}

fn caller(world: &World) -> AccountCaller {
    let client = world.clients.first().unwrap();
    Caller::new(Arc::new(client.clone()), RequestId::from_number(1)).for_account(ACCOUNT).unwrap()
}

/// `exactInputSingle` of the first router.
fn swap() -> Filled {
    let number = |n: u64, bits| DynSolValue::Uint(U256::from(n), bits);
    let [token, out, to] = [TOKEN, target(7), ACCOUNT].map(DynSolValue::Address);
    let values =
        [token, out, number(500, 24), to, number(5_000_000, 256), number(4_900_000, 256), number(0, 160)];
    let values = DynSolValue::Tuple(vec![DynSolValue::Tuple(values.into())]).abi_encode_sequence().unwrap();
    let selector = keccak256("exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))");
    let data = [selector.first_chunk::<4>().unwrap().as_slice(), &values].concat();
    let request = json!([{
        "from": ACCOUNT, "to": target(0), "data": hex::encode_prefixed(data), "gas": "0x30d40", "gasPrice": "0x3b9aca00",
    }]);
    let quote = Quote { chain_id: 1, mined: 0, gas: None, fees: None };
    Request::parse(Some(&request.to_string())).unwrap().fill(&quote, None).unwrap()
}
