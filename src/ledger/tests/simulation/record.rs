//! What happened, kept apart from the ledger, and the invariants counted by hand.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::{Decodable as _, Header};

use crate::ledger::Final;
use crate::ledger::tests::kit::Ask;
use crate::ledger::tests::simulation::policies::POLICIES;

/// A budget as the test understands it.
#[derive(Debug, PartialEq, Eq)]
pub struct Budget {
    pub id: &'static str,
    /// Ether that a payload can cost at most; else it counts for one.
    pub ether: bool,
    /// Each client for itself; else each account.
    pub per_client: bool,
    /// Milliseconds.
    pub window: u64,
    pub max: u64,
}

impl Budget {
    fn amount(&self, payload: &Payload) -> U256 {
        if self.ether { payload.cost } else { U256::ONE }
    }

    fn scope(&self, payload: &Payload) -> (&'static str, Option<u8>) {
        if self.per_client { (payload.ask.client, None) } else { ("", Some(payload.ask.seed)) }
    }

    /// The same count: only the limit may be another.
    fn counts_as(&self, other: &Self) -> bool {
        (self.id, self.ether, self.per_client, self.window)
            == (other.id, other.ether, other.per_client, other.window)
    }
}

/// A payload of which the ledger said that it may leave.
#[derive(Debug)]
pub struct Payload {
    pub ask: Ask,
    pub nonce: u64,
    pub hash: B256,
    pub raw: Bytes,
    fee: u128,
    tip: u128,
    cost: U256,
    /// The true time of its record.
    at: u64,
    /// The ledger was told that a node refused it.
    pub refused: bool,
    /// The ledger was told that a node took it, or may have.
    pub taken: bool,
    /// The ledger was told what the chain decided of it.
    pub settled: Option<bool>,
}

/// What a claim was given.
#[derive(Clone, Debug)]
struct Intent {
    ask: Ask,
    /// The payloads that a node had taken by then, or might have.
    taken: BTreeSet<i64>,
    /// Which policy was in force then, by its place in the history.
    since: usize,
}

#[derive(Debug, Default)]
pub struct Record {
    pub payloads: BTreeMap<i64, Payload>,
    intents: BTreeMap<i64, Intent>,
    /// The policies that were in force, in their order.
    history: Vec<&'static [Budget]>,
    /// By account and nonce: which payload of ours is final there, if it is ours.
    finals: BTreeMap<(u8, u64), Option<i64>>,
}

impl Record {
    pub fn policy(&mut self, budgets: &'static [Budget]) {
        self.history.push(budgets);
    }

    /// The number of the policy in force.
    pub fn in_force(&self) -> usize {
        let last = self.history.last().unwrap();
        POLICIES.iter().position(|policy| policy == last).unwrap()
    }

    pub fn intended(&mut self, id: i64, ask: Ask) {
        let since = self.history.len() - 1;
        let taken = self.payloads.iter().filter(|(_, payload)| payload.taken).map(|(id, _)| *id).collect();
        assert!(
            self.intents.insert(id, Intent { ask, taken, since }).is_none(),
            "reservation {id} was handed out twice"
        );
    }

    /// The chain decided for good.
    pub fn finalized(&mut self, account: u8, nonce: u64, payload: Option<i64>) {
        self.finals.insert((account, nonce), payload);
    }

    /// The ledger says that this may leave.
    pub fn recorded(&mut self, id: i64, raw: &Bytes, hash: B256, now: u64) {
        let intent = self.intents.get(&id).expect("inv 1: nobody was given this reservation").clone();
        assert_eq!(keccak256(raw), hash);
        let payload = read(intent.ask, raw, hash, now);
        for (id, rival) in self.at(payload.ask.seed, payload.nonce) {
            let may_be_pooled = !rival.refused || intent.taken.contains(&id);
            may_stand_beside(rival, &payload, may_be_pooled);
        }
        for twin in self.payloads.values().filter(|other| is_same_request(&other.ask, &payload)) {
            assert_eq!(
                twin.settled,
                Some(false),
                "inv 10: one request was signed twice: {twin:?} {payload:?}"
            );
        }
        assert!(self.payloads.insert(id, payload).is_none(), "reservation {id} was recorded twice");
        self.budgets_hold(id, intent.since);
    }

    /// Invariant 3 at the only moments at which it can break, for the window that ends now.
    fn budgets_hold(&self, id: i64, since: usize) {
        let payload = &self.payloads[&id];
        for budget in *self.history.last().unwrap() {
            // While it was on its way other policies may have been in force: it fits under the widest of them, and is
            // counted by those that there were at its reservation.
            let flight = &self.history[since..];
            let limits: Option<Vec<u64>> = flight.iter().map(|policy| limit(policy, budget)).collect();
            let Some(max) = limits.and_then(|limits| limits.into_iter().max()) else { continue };
            let amount = budget.amount(payload);
            let before = self.at(payload.ask.seed, payload.nonce).filter(|(other, _)| *other != id);
            let before = before.filter(|(_, other)| budget.scope(other) == budget.scope(payload));
            // What takes no more than was taken there before is no matter, also where a limit was lowered since.
            if before.map(|(_, other)| budget.amount(other)).max().is_some_and(|there| there >= amount)
                && self.history.iter().any(|policy| limit(policy, budget).is_none_or(|other| other > max))
            {
                continue;
            }
            let sum = self.sum(budget, payload);
            assert!(sum <= U256::from(max), "inv 3: {sum} of {max} by {budget:?} for {payload:?}");
        }
    }

    /// What a window that ends at `last` holds, by the true time: a nonce counts once, and what another payload at
    /// its nonce replaced for good does not.
    fn sum(&self, budget: &Budget, last: &Payload) -> U256 {
        let mut most = BTreeMap::<(u8, u64), U256>::new();
        for (id, payload) in &self.payloads {
            let place = (payload.ask.seed, payload.nonce);
            let is_dead = self.finals.get(&place).is_some_and(|lives| *lives != Some(*id));
            if budget.scope(payload) == budget.scope(last) && payload.at + budget.window > last.at && !is_dead
            {
                let there = most.entry(place).or_default();
                *there = budget.amount(payload).max(*there);
            }
        }
        most.values().copied().sum()
    }

    pub fn told(&mut self, id: i64, is_refusal: bool) {
        if let Some(payload) = self.payloads.get_mut(&id) {
            payload.refused |= is_refusal;
            payload.taken |= !is_refusal;
        }
    }

    pub fn told_settled(&mut self, id: i64, last: Final) {
        let payload = self.payloads.get_mut(&id).expect("what was never recorded cannot be settled");
        if payload.settled.is_some() {
            return;
        }
        payload.settled = Some(matches!(last, Final::Mined { .. }));
        let (seed, nonce) = (payload.ask.seed, payload.nonce);
        if last != Final::Replaced {
            for other in self.payloads.values_mut() {
                if (other.ask.seed, other.nonce) == (seed, nonce) {
                    other.settled.get_or_insert(false);
                }
            }
        }
    }

    /// Invariant 10: what is promised is neither lost nor more than was recorded.
    pub fn unsettled(&self) -> BTreeSet<B256> {
        let open = self.payloads.values().filter(|payload| payload.settled.is_none());
        open.map(|payload| payload.hash).collect()
    }

    pub fn of_hash(&self, hash: B256) -> (i64, &Payload) {
        let mut found = self.payloads.iter().filter(|(_, payload)| payload.hash == hash);
        let (id, payload) = found.next().expect("inv 1: it was never recorded, and is to be sent");
        (*id, payload)
    }

    fn at(&self, seed: u8, nonce: u64) -> impl Iterator<Item = (i64, &Payload)> {
        let at =
            self.payloads.iter().filter(move |(_, other)| (other.ask.seed, other.nonce) == (seed, nonce));
        at.map(|(id, payload)| (*id, payload))
    }
}

/// What a policy allows by the same count, if it has it.
fn limit(policy: &[Budget], like: &Budget) -> Option<u64> {
    policy.iter().find(|other| other.counts_as(like)).map(|budget| budget.max)
}

/// Invariant 2, between a payload that was recorded before and one that is now. Whether a node may have had the first when
/// the second was reserved: then it has to be outbid.
fn may_stand_beside(before: &Payload, now: &Payload, may_be_pooled: bool) {
    let is_replacement = now.ask.replace != crate::policy::Replace::Never
        && now.ask.nonce.is_some()
        && now.ask.client == before.ask.client;
    assert!(before.refused || is_replacement, "inv 2: two payloads at a nonce: {before:?} {now:?}");
    assert_ne!(before.settled, Some(true), "inv 2: signed at a nonce that is mined: {before:?} {now:?}");
    for (was, is) in [(before.fee, now.fee), (before.tip, now.tip)].into_iter().filter(|_| may_be_pooled) {
        assert!(is * 10 >= was * 11, "inv 2: it does not outbid what was there: {before:?} {now:?}");
    }
}

/// Whether two asks say that they are one: the same client's under one key, or the same fields at one named nonce.
fn is_same_request(ask: &Ask, payload: &Payload) -> bool {
    let now = &payload.ask;
    let who = |ask: &Ask| (ask.client, ask.seed);
    let same_key = now.key.is_some() && ask.key == now.key && ask.client == now.client;
    let same_nonce = now.nonce.is_some() && ask.nonce == now.nonce && who(ask) == who(now);
    same_key || (same_nonce && (ask.value, ask.fee) == (now.value, now.fee))
}

/// Reads a type-2 envelope without the code that wrote it.
fn read(ask: Ask, raw: &Bytes, hash: B256, at: u64) -> Payload {
    let (kind, mut rest) = raw.split_first().unwrap();
    assert_eq!(*kind, 2);
    let rest = &mut rest;
    assert!(Header::decode(rest).unwrap().list);
    let _chain = u64::decode(rest).unwrap();
    let nonce = u64::decode(rest).unwrap();
    let tip = u128::decode(rest).unwrap();
    let fee = u128::decode(rest).unwrap();
    let gas = u64::decode(rest).unwrap();
    let _to = Address::decode(rest).unwrap();
    let value = U256::decode(rest).unwrap();
    assert_eq!(value, U256::from(ask.value), "something else was signed than was asked for");
    assert!(ask.nonce.is_none_or(|wanted| wanted == nonce), "another nonce was signed than was asked for");
    let cost = value + U256::from(gas) * U256::from(fee);
    Payload {
        ask,
        nonce,
        hash,
        raw: raw.clone(),
        fee,
        tip,
        cost,
        at,
        refused: false,
        taken: false,
        settled: None,
    }
}
