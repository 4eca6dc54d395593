//! Every interleaving of a small world in which two budgets bound what two clients of two replicas may sign at three
//! nonces: over the real cores of nonces, states and budgets, with a node that accepts, loses, refuses and lies, a crash
//! at every step and however often, time that passes, and a policy that changes to and fro.
//!
//! `model.rs` looks at nonces alone, and further: blocks that are undone, a node that lags. What counts is found from
//! the payloads by `budget::fate`, as `charges.rs` does it in its tables.

#![expect(clippy::arithmetic_side_effects, reason = "a model that panics is a test that fails")]

mod payload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::U256;
use stateright::{Checker as _, HasDiscoveries, Model, Property};

use crate::clock::Timestamp;
use crate::ledger::Final;
use crate::ledger::budget::{Fate, Used, bucket, fate, oldest};
use crate::ledger::core::{Bid, Decision, Row, decide};
use crate::ledger::life::{State, Word, heard, heir, settle};
use crate::ledger::tests::kit::{number, stand_back};
use crate::ledger::tests::taken::{START_OF_TIME, Taken};
use crate::policy::Replace;
use crate::transaction::{Slot, Stands};
use payload::{Payload, charges, fees, id, intent};

const WINDOW: Duration = Duration::from_secs(60);

/// The last moment of a bucket.
const START: u64 = 999;

/// From there to the first moment of the sixtieth bucket after it, less than a window later.
const TICK: u64 = 59_001;

/// What all may sign together, by the policy in force: payloads in a window.
const TOTAL: [u64; 2] = [2, 1];

/// What each client may spend in a window, by either policy.
const EACH: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Bounds {
    nonces: u64,
    payloads: usize,
    ticks: u64,
    /// Whether a client names any nonce, or only one whose payload it would replace.
    any_nonce: bool,
    fault: Fault,
}

/// A guard that is taken out, to see that the checker finds it missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// What a node refuses is charged no longer.
    ReleaseOnRefusal,
    /// The current bucket and 59 whole ones are counted.
    SixtyBuckets,
    /// A signature that comes after its reservation was voided is recorded all the same.
    RecordWithoutReservation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    payloads: Vec<Payload>,
    /// Payloads at the token, and in the memory of which replica.
    tasks: BTreeSet<(usize, u8)>,
    left: BTreeSet<usize>,
    mined: Vec<usize>,
    finalized: usize,
    now: u64,
    policy: usize,
    /// Whether a record made a window hold more than its limit.
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Claim { replica: u8, client: u8, bid: u64, wanted: Option<u64> },
    Record(usize, u8),
    Void(usize),
    Crash(u8),
    Send(usize, Word),
    Mine(usize),
    Finalize,
    Pass,
    Policy,
}

impl World {
    fn counted(&self, whose: Option<u8>) -> impl Iterator<Item = (&Payload, U256)> {
        let ours = self.payloads.iter().filter(move |row| whose.is_none_or(|client| client == row.client));
        ours.map(move |row| (row, U256::from(if whose.is_none() { 1 } else { row.amount() })))
    }

    fn used(&self, whose: Option<u8>, fault: Fault) -> Used<u64> {
        let mut used = Used::default();
        for (row, amount) in self.counted(whose) {
            let is_freed = fault == Fault::ReleaseOnRefusal && row.state == State::Vacant;
            match fate(row.state, true) {
                Fate::Open if !is_freed => used.open(row.nonce, amount),
                Fate::Spent => {
                    let there = used.spent.entry(bucket(Timestamp::from_millis(row.at), WINDOW)).or_default();
                    *there += amount;
                }
                Fate::Open | Fate::Released => {}
            }
        }
        if fault == Fault::SixtyBuckets {
            used.spent.remove(&oldest(Timestamp::from_millis(self.now), WINDOW));
        }
        used
    }

    fn admits(&self, nonce: u64, client: u8, bid: u64, fault: Fault) -> bool {
        charges(client, bid).into_iter().all(|(whose, amount)| {
            let max = if whose.is_none() { TOTAL[self.policy] } else { EACH };
            let (used, now) = (self.used(whose, fault), Timestamp::from_millis(self.now));
            used.admit(&nonce, U256::from(amount), (U256::from(max), WINDOW), now).is_ok()
        })
    }

    /// Invariant 3, counted by hand for the window that ends with this record.
    fn is_over(&self, recorded: usize) -> bool {
        let row = &self.payloads[recorded];
        charges(row.client, row.bid).into_iter().any(|(whose, amount)| {
            let limit = if whose.is_none() { row.limit } else { EACH };
            let mut most = BTreeMap::<u64, U256>::new();
            let mut before = U256::ZERO;
            for (other, amount) in self.counted(whose).filter(|(other, _)| other.state.is_signed()) {
                let is_dead = other.state == State::Replaced;
                if other.nonce == row.nonce && !std::ptr::eq(other, row) {
                    before = before.max(amount);
                }
                if !is_dead && other.at + 60_000 > self.now {
                    let there = most.entry(other.nonce).or_default();
                    *there = amount.max(*there);
                }
            }
            // Where a limit was lowered, what takes no more than its nonce took before is no matter.
            let is_more = U256::from(amount) > before;
            is_more && most.into_values().fold(U256::ZERO, |sum, amount| sum + amount) > U256::from(limit)
        })
    }

    fn rows(&self, client: u8) -> Vec<Row> {
        let rows = self.payloads.iter().enumerate().filter(|(_, row)| row.state != State::Void);
        rows.map(|(at, row)| Row {
            id: id(at),
            nonce: row.nonce,
            at: START_OF_TIME,
            state: row.state,
            intent: row.intent(),
            fees: fees(row.bid),
            word: row.taken.word(row.state),
            is_own: row.client == client,
            is_authorization: false,
        })
        .collect()
    }

    fn others(&self, this: usize) -> Vec<(i64, State)> {
        let nonce = self.payloads[this].nonce;
        let others = self.payloads.iter().enumerate();
        let others = others.filter(|(other, row)| *other != this && row.nonce == nonce);
        others.map(|(other, row)| (id(other), row.state)).collect()
    }

    fn restore(&mut self, this: usize) {
        if let Some(heir) = heir(self.payloads[this].state, &self.others(this)) {
            self.payloads[usize::try_from(heir).unwrap()].state = State::Recorded;
        }
    }

    /// The same world under the other name of its replicas.
    fn canonical(self) -> Self {
        let tasks = self.tasks.iter().map(|(payload, replica)| (*payload, 1 - replica)).collect();
        let swapped = Self { tasks, ..self.clone() };
        if swapped.tasks < self.tasks { swapped } else { self }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            payloads: Vec::new(),
            tasks: BTreeSet::new(),
            left: BTreeSet::new(),
            mined: Vec::new(),
            finalized: 0,
            now: START,
            policy: 0,
            over: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.payloads.len() < self.payloads {
            for (replica, client, bid) in [0, 1].into_iter().flat_map(|replica| {
                [0, 1].into_iter().flat_map(move |client| [0, 1].map(move |bid| (replica, client, bid)))
            }) {
                let is_recorded = |nonce: &u64| {
                    let mut recorded = world.payloads.iter().filter(|row| row.state == State::Recorded);
                    recorded.any(|row| row.nonce == *nonce)
                };
                let named = (0..self.nonces).filter(|nonce| self.any_nonce || is_recorded(nonce));
                for wanted in std::iter::once(None).chain(named.map(Some)) {
                    steps.push(Step::Claim { replica, client, bid, wanted });
                }
            }
        }
        steps.extend(world.tasks.iter().map(|(payload, replica)| Step::Record(*payload, *replica)));
        for (at, row) in world.payloads.iter().enumerate() {
            if row.state == State::Reserved {
                steps.push(Step::Void(at));
            }
            if row.state.is_signed() && !row.state.is_settled() {
                steps.extend([Word::Accepted, Word::Refused].map(|word| Step::Send(at, word)));
            }
        }
        let busy: BTreeSet<u8> = world.tasks.iter().map(|(_, replica)| *replica).collect();
        steps.extend(busy.into_iter().map(Step::Crash));
        let next = u64::try_from(world.mined.len()).unwrap();
        let ready = world.left.iter().filter(|at| world.payloads[**at].nonce == next);
        steps.extend(ready.map(|at| Step::Mine(*at)));
        if world.mined.len() > world.finalized {
            steps.push(Step::Finalize);
        }
        if world.now < START + self.ticks * TICK {
            steps.push(Step::Pass);
        }
        steps.push(Step::Policy);
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Claim { replica, client, bid, wanted } => {
                let mined = u64::try_from(world.mined.len()).unwrap();
                let (fees, stands) = (fees(bid), Stands::Transaction);
                let slot = Slot { chain: 1, wanted, mined, fees, fees_are_fixed: true, stands };
                let replace = if wanted.is_some() { Replace::Own } else { Replace::Never };
                let asked = Bid {
                    slot,
                    intent: intent(client, wanted, bid),
                    replace,
                    is_sent: true,
                    accepted: 0,
                    now: START_OF_TIME,
                };
                match decide(&world.rows(client), &asked, 8) {
                    Decision::Take { nonce, replaces } if nonce < self.nonces => {
                        if !world.admits(nonce, client, bid, self.fault) {
                            return None;
                        }
                        if let Some(replaced) = replaces {
                            world.payloads[usize::try_from(replaced).unwrap()].state = State::Outbid;
                        }
                        let (limit, wanted) = (TOTAL[world.policy], wanted.is_some());
                        let (state, at) = (State::Reserved, world.now);
                        world.tasks.insert((world.payloads.len(), replica));
                        let (taken, mut there) = (Taken::default(), world.payloads.iter());
                        let is_too_cheap = there.any(|row| {
                            row.nonce == nonce
                                && row.taken.may_be_pooled(row.state)
                                && !fees.outbids(&payload::fees(row.bid))
                        });
                        let payload =
                            Payload { nonce, state, client, bid, wanted, at, limit, taken, is_too_cheap };
                        world.payloads.push(payload);
                    }
                    _ => return None,
                }
            }
            Step::Record(at, replica) => {
                world.tasks.remove(&(at, replica));
                let row = &mut world.payloads[at];
                if row.state == State::Reserved || self.fault == Fault::RecordWithoutReservation {
                    row.state = State::Recorded;
                    row.at = world.now;
                    world.over |= world.is_over(at);
                }
            }
            Step::Void(at) => {
                world.payloads[at].state = State::Void;
                world.restore(at);
            }
            Step::Crash(replica) => world.tasks.retain(|(_, of)| *of != replica),
            Step::Send(at, said) => {
                world.left.insert(at);
                let others: Vec<State> = world.others(at).into_iter().map(|(_, state)| state).collect();
                let state = world.payloads[at].state;
                // Else a node never took what it refuses: then what comes may pay less, and is charged for less.
                if self.any_nonce {
                    world.payloads[at].taken.hear(said, state);
                }
                if let Some(to) = heard(world.payloads[at].state, said, &others) {
                    world.payloads[at].state = to;
                    world.restore(at);
                }
            }
            Step::Mine(at) => world.mined.push(at),
            Step::Finalize => {
                let last = world.mined[world.finalized];
                world.finalized += 1;
                let this = (id(last), world.payloads[last].state);
                for (other, to) in
                    settle(this, Final::Mined { block: 1, succeeded: true }, &world.others(last))
                {
                    world.payloads[usize::try_from(other).unwrap()].state = to;
                }
            }
            Step::Pass => world.now += TICK,
            Step::Policy => {
                world.policy = 1 - world.policy;
                for row in world.payloads.iter_mut().filter(|row| row.state == State::Reserved) {
                    row.limit = row.limit.max(TOTAL[world.policy]);
                }
            }
        }
        (world != *before).then(|| world.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DURABLE, |_, world: &World| {
                world.left.iter().all(|at| world.payloads[*at].state.is_signed())
            }),
            Property::always(ALONE, |bounds: &Self, world: &World| {
                (0..bounds.nonces).all(|nonce| {
                    let at = world.payloads.iter().filter(|row| row.nonce == nonce);
                    at.filter(|row| row.state.is_live() || row.state == State::Final).count() <= 1
                })
            }),
            Property::always("inv 2: a second record outbids what a node may have", |_, world: &World| {
                world.payloads.iter().all(|row| !row.is_too_cheap || !row.state.is_signed())
            }),
            Property::always(HOLDS, |_, world: &World| !world.over),
            Property::always(
                "inv 10: one intent at an explicit nonce is recorded once",
                |_, world: &World| {
                    let mut seen = BTreeSet::new();
                    let mut explicit =
                        world.payloads.iter().filter(|row| row.wanted && row.state.is_signed());
                    explicit.all(|row| seen.insert(row.intent()))
                },
            ),
            Property::sometimes("a budget is full", |_, world: &World| {
                !world.admits(9, 0, 0, Fault::None) && world.policy == 0
            }),
            Property::sometimes("a lower limit holds less than was spent", |_, world: &World| {
                let used = world.used(None, Fault::None);
                world.policy == 1
                    && used.total(Timestamp::from_millis(world.now), WINDOW) > U256::from(TOTAL[1])
            }),
        ]
    }
}

const DURABLE: &str = "inv 1: what left is durable";
const ALONE: &str = "inv 2: one payload lives at a nonce";
const HOLDS: &str = "inv 3: no window holds more than its limit";

const SMALL: Bounds = Bounds { nonces: 3, payloads: 3, ticks: 1, any_nonce: false, fault: Fault::None };

#[test]
fn inv_03_no_interleaving_overspends_or_breaks_another_invariant() {
    stand_back();
    // Minutes with all that a client may name; `scripts/test --full` takes them.
    let any_nonce = number("CHANCERY_WHOLE_MODEL").is_some();
    let checker = Bounds { any_nonce, ..SMALL }.checker().threads(2).spawn_dfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn inv_03_a_guard_that_is_missing_is_found() {
    stand_back();
    for (fault, broken) in [
        (Fault::ReleaseOnRefusal, HOLDS),
        (Fault::SixtyBuckets, HOLDS),
        (Fault::RecordWithoutReservation, ALONE),
    ] {
        let checker = Bounds { fault, ..SMALL }.checker().threads(2);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        assert!(checker.discovery(broken).is_some(), "{fault:?} was not found");
    }
}
