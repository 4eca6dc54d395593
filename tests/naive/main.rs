//! A second interpreter of policies, as naive as the language's reference reads, against the one that decides.
//!
//! It shares no code with the program: it knows rules as they were made up (`rules.rs`), not as they are read, reads
//! calldata with another decoder, has no index, and opens calls by recursion (`interpreter.rs`). Both must agree on
//! random policies and requests of every kind (transactions, also such as come signed, hand in authorizations or have
//! blobs; messages and sign-ins; typed data, also what a Safe is to do; authorizations): whether it is allowed, by which
//! rule, and what it takes from budgets; and why not, where there is one call only. `CHANCERY_POLICY_PAIRS=1000000` tries
//! more than the 20,000 of every run, and `CHANCERY_POLICY_SEED` another world; a pair that differs is printed whole.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::needless_for_each,
    clippy::option_option,
    clippy::similar_names,
    clippy::string_slice,
    clippy::struct_excessive_bools,
    clippy::unwrap_used,
    reason = "a test may panic, and this one is to be plain before all"
)]

mod interpreter;
mod keys;
mod others;
mod requests;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use chancery::clock::Timestamp;
use chancery::config::Client;
use chancery::identity::{Caller, RequestId};
use chancery::policy::{DenialCause, Evidence, Moment, Policy, Simulated, World};
use chancery::transaction::{
    Authorization, DelegationRequest, Event, Message, Presigned, Quote, Request, Simulation, Structured,
    Text, Tx, TypedData,
};
use serde_json::json;

use interpreter::Answer;
use requests::{Asked, Tried, What};
use rules::{ACCOUNTS, BOB, CLIENTS, USDC, World as Written};

/// How many requests are asked of one policy.
const REQUESTS: usize = 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

/// xorshift64*: the same seed, the same pairs.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

fn world() -> World {
    let client = |(name, role, accounts): &(&str, Option<&str>, &[usize])| Client {
        name: (*name).to_owned(),
        identity: format!("spiffe://desk/{name}"),
        issuer: chancery::config::OWN_ISSUER.to_owned(),
        role: role.map(str::to_owned),
        person: None,
        accounts: accounts.iter().map(|at| ACCOUNTS[*at].1).collect(),
        origins: vec![],
        repeat_window: None,
    };
    World {
        chains: vec![1],
        accounts: ACCOUNTS.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect(),
        clients: CLIENTS.iter().map(client).collect(),
    }
}

/// What a node found, as the program is told it.
fn seen(asked: &Asked) -> Simulated {
    let (reverts, wei, usdc, other, approves) = match asked.tried {
        Tried::Never => return Simulated::Never,
        Tried::Failed => return Simulated::Failed("no node answers".to_owned()),
        Tried::Then => return Simulated::Then,
        Tried::Seen { reverts, wei, usdc, other, approves } => (reverts, wei, usdc, other, approves),
    };
    let event = |address: Address, signature: &str, amount: u64| Event {
        address,
        topics: vec![keccak256(signature), asked.account.into_word(), BOB.into_word()],
        data: B256::from(U256::from(amount)).into(),
    };
    let moved = "Transfer(address,address,uint256)";
    let mut logs = Vec::new();
    logs.extend((usdc > 0).then(|| event(USDC, moved, usdc)));
    logs.extend(other.then(|| event(BOB, moved, 1)));
    logs.extend(approves.then(|| event(BOB, "Approval(address,address,uint256)", 1)));
    let before = U256::from(1_000_000);
    Simulated::Seen(Simulation {
        nonce: 0,
        reverts: reverts.then(|| "no".to_owned()),
        ether: (before, before - U256::from(wei)),
        tokens: vec![(USDC, (before, before - U256::from(usdc)))],
        logs,
    })
}

/// What the program says.
fn decide(policy: &Policy, world: &World, asked: &Asked) -> Answer {
    let client = world.clients.iter().find(|client| client.name == asked.client).unwrap();
    let caller = || Caller::new(Arc::new(client.clone()), RequestId::from_number(1));
    let own = || caller().for_account(asked.account).unwrap();
    let filled = || {
        let request = Request::parse(Some(&asked.json().to_string())).unwrap();
        request.fill(&Quote { chain_id: 1, mined: 0, gas: None, fees: None }, None).unwrap()
    };
    let evidence = Evidence { created: asked.created.clone(), outcome: seen(asked) };
    let moment = Moment { now: Timestamp::from_millis(asked.now * 1000), evidence };
    let assessed = match &asked.what {
        What::Transaction => policy.assess::<Tx>(&own(), &filled(), moment),
        What::Presigned => {
            let signed = keys::presigned(filled());
            policy.assess::<Presigned>(&caller().presenting(asked.account), &signed, moment)
        }
        What::Message(said) => {
            let text = Text::new(asked.account, said.bytes.clone().into());
            policy.assess::<Message>(&own(), &text, moment)
        }
        What::Typed(typed) => {
            let read = Structured::read_text(asked.account, &typed.json().to_string());
            policy.assess::<TypedData>(&own(), &read.unwrap_or_else(|e| panic!("{e}: {asked:?}")), moment)
        }
        What::Authorization(delegate) => {
            let asked = json!([{ "from": asked.account, "address": delegate, "chainId": "0x1" }]);
            let request = DelegationRequest::parse(Some(&asked.to_string())).unwrap();
            policy.assess::<Authorization>(&own(), &request.fill(1, 0).unwrap(), moment)
        }
    };
    match assessed {
        Ok((rule, charges)) => {
            let mut sums = BTreeMap::<_, U256>::new();
            for charge in charges {
                *sums.entry((charge.limit.id.clone(), charge.scope)).or_default() += charge.amount;
            }
            Answer::Allowed { rule: rule.to_string(), charges: sums }
        }
        Err(denied) => {
            assert!(!matches!(denied.cause, DenialCause::Rate { .. }), "there are no rates here");
            Answer::Denied { cause: denied.cause.name().to_owned() }
        }
    }
}

#[test]
fn inv_04_a_naive_interpreter_agrees_with_the_compiled_policy() {
    let (pairs, seed) = (setting("CHANCERY_POLICY_PAIRS", 20_000), setting("CHANCERY_POLICY_SEED", 1));
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let (mut allowed, mut carried, mut causes) = (0, 0, BTreeMap::<String, u64>::new());
    let mut kinds = BTreeMap::<&str, u64>::new();
    for round in 0..pairs.div_ceil(REQUESTS as u64) {
        let written = Written::random(&mut random);
        std::fs::write(folder.path().join("policy.toml"), written.text()).unwrap();
        let policy =
            Policy::load(folder.path(), &world).unwrap_or_else(|e| panic!("{e}\n{}", written.text()));
        for _ in 0..REQUESTS {
            let asked = Asked::random(&mut random);
            let (expected, calls) = interpreter::judge(&written, &asked);
            let got = decide(&policy, &world, &asked);
            // With several calls there may be several reasons, and either names one of them.
            let same = match (&got, &expected) {
                (Answer::Denied { .. }, Answer::Denied { .. }) if calls > 1 => true,
                (got, expected) => got == expected,
            };
            assert!(
                same,
                "round {round} of seed {seed}: {asked:?}\n{}\nthe program: {got:?}\nnaively:     {expected:?}",
                written.text()
            );
            match expected {
                Answer::Allowed { .. } => {
                    allowed += 1;
                    *kinds.entry(asked.kind(calls)).or_default() += 1;
                    carried += u64::from(calls > 1);
                }
                Answer::Denied { cause } => *causes.entry(cause).or_default() += 1,
            }
        }
    }
    println!("{allowed} allowed, {carried} of them with calls inside: {kinds:?}; denied: {causes:?}");
    // That they agree says little if everything is denied.
    assert!(allowed * 20 > pairs && carried * 200 > pairs, "{allowed} {carried} of {pairs}");
    for kind in
        ["transaction", "with codes", "presigned", "message", "typed data", "of a safe", "authorization"]
    {
        assert!(kinds.get(kind).is_some_and(|times| times * 2000 > pairs), "{kind}: {kinds:?}");
    }
    for cause in ["foreign_signature", "rule", "no_rule", "cap", "undecodable", "wrapper"] {
        assert!(causes.get(cause).is_some_and(|times| times * 400 > pairs), "{cause}: {causes:?}");
    }
}
