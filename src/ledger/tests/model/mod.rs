//! Every interleaving of a small world, over the real pure core: two replicas on one database, two clients, a node
//! that accepts, loses, refuses and lies, and a crash or a pause at every step.
//!
//! Only what surrounds the core is modelled. A replica that is paused, cut off or slow is one whose next step comes
//! late: the checker tries every order, so no step needs to say so. A payload that left may be mined whatever a node
//! said of it, so a lie is a word without more.

#![expect(clippy::arithmetic_side_effects, reason = "a model that panics is a test that fails")]

mod payload;

use std::collections::BTreeSet;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use crate::ledger::Final;
use crate::ledger::core::{Bid, Decision, Row, decide};
use crate::ledger::life::{State, Word, heard, heir, settle};
use crate::ledger::tests::kit::stand_back;
use crate::ledger::tests::model::payload::{Payload, fees, intent};
use crate::ledger::tests::taken::{START_OF_TIME, Taken};
use crate::policy::Replace;
use crate::transaction::{Slot, Stands};

const REPLICAS: u8 = 2;
const MAX_OPEN: u32 = 4;

/// How big a world is looked at.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nonces: u64,
    payloads: usize,
    crashes: u8,
    reorgs: u8,
    /// Fees that a client may offer, each a tenth more than the one before.
    bids: u128,
    fault: Fault,
}

/// A guard that is taken out, to see that the checker finds it missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A signature that comes after its reservation was voided is recorded all the same.
    RecordWithoutReservation,
    /// The payload at a nonce counts as gone when a node gives no answer.
    SilenceFreesTheNonce,
    /// What a node took and then refused counts as if none had ever taken it.
    DroppedIsNowhere,
}

/// The database, what the replicas hold in memory, and the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    payloads: Vec<Payload>,
    tasks: BTreeSet<Task>,
    /// Payloads that left. Any of them may be mined.
    left: BTreeSet<usize>,
    /// By nonce.
    mined: Vec<usize>,
    finalized: usize,
    crashes: u8,
    reorgs: u8,
}

/// A payload between its reservation and its record, in the memory of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Task {
    payload: usize,
    replica: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Claim {
        replica: u8,
        client: u8,
        wanted: Option<u64>,
        mined: u64,
        bid: u128,
    },
    /// The token signed, and the signature is to be written: both leave no trace before this.
    Record(Task),
    /// The deadline of a reservation passed, by the clock of the database.
    Void(usize),
    Crash(u8),
    Send {
        payload: usize,
        word: Word,
    },
    Mine(usize),
    /// The last block is undone; what was in it can be mined again.
    Undo,
    Finalize,
}

impl World {
    fn rows(&self, client: u8) -> Vec<Row> {
        let rows = self.payloads.iter().enumerate().filter(|(_, payload)| payload.state != State::Void);
        rows.map(|(id, payload)| Row {
            id: i64::try_from(id).unwrap(),
            nonce: payload.nonce,
            at: START_OF_TIME,
            state: payload.state,
            intent: payload.intent(),
            fees: fees(payload.bid),
            word: payload.taken.word(payload.state),
            is_own: payload.client == client,
            is_authorization: false,
        })
        .collect()
    }

    fn others(&self, id: usize) -> Vec<(i64, State)> {
        let nonce = self.payloads[id].nonce;
        let others =
            self.payloads.iter().enumerate().filter(|(other, row)| *other != id && row.nonce == nonce);
        others.map(|(other, row)| (i64::try_from(other).unwrap(), row.state)).collect()
    }

    /// The same world under other names of its replicas and clients: the two of each are alike.
    fn canonical(self) -> Self {
        let replicas_swapped = |world: &Self| Self {
            tasks: world.tasks.iter().map(|task| Task { replica: 1 - task.replica, ..*task }).collect(),
            ..world.clone()
        };
        let mut clients_swapped = self.clone();
        for payload in &mut clients_swapped.payloads {
            payload.client = 1 - payload.client;
        }
        let all = [replicas_swapped(&self), replicas_swapped(&clients_swapped), clients_swapped, self];
        all.into_iter().min_by(|a, b| a.names().cmp(b.names())).unwrap()
    }

    fn names(&self) -> impl Iterator<Item = u8> + '_ {
        let clients = self.payloads.iter().map(|payload| payload.client);
        clients.chain(self.tasks.iter().map(|task| task.replica))
    }

    /// What was outbid is live again where nothing else is.
    fn restore(&mut self, id: usize) {
        if let Some(heir) = heir(self.payloads[id].state, &self.others(id)) {
            self.turn(usize::try_from(heir).unwrap(), State::Recorded);
        }
    }

    fn turn(&mut self, id: usize, to: State) {
        assert!(self.payloads[id].state.may_become(to));
        self.payloads[id].state = to;
        if to.is_settled() {
            self.payloads[id].taken = Taken::default();
        }
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
            crashes: 0,
            reorgs: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.payloads.len() < self.payloads {
            let mined = u64::try_from(world.mined.len()).unwrap();
            for replica in 0..REPLICAS {
                for client in 0..2 {
                    for wanted in std::iter::once(None).chain((0..self.nonces).map(Some)) {
                        for bid in 0..self.bids {
                            // A node that lags, and one that is right.
                            for mined in BTreeSet::from([0, mined]) {
                                steps.push(Step::Claim { replica, client, wanted, mined, bid });
                            }
                        }
                    }
                }
            }
        }
        steps.extend(world.tasks.iter().map(|task| Step::Record(*task)));
        for (id, payload) in world.payloads.iter().enumerate() {
            if payload.state == State::Reserved {
                steps.push(Step::Void(id));
            }
            if payload.state.is_signed() {
                // `Known` does what `Accepted` does, `NonceTooLow` what `Unknown` does.
                // What is no refusal is the same to all but one that was refused, and to a guard that is taken out.
                let is_more = payload.state == State::Vacant || self.fault == Fault::SilenceFreesTheNonce;
                let words =
                    [Word::Accepted, Word::Refused].into_iter().chain(is_more.then_some(Word::Unknown));
                steps.extend(words.map(|word| Step::Send { payload: id, word }));
            }
        }
        if world.crashes < self.crashes {
            steps.extend((0..REPLICAS).map(Step::Crash));
        }
        let next = u64::try_from(world.mined.len()).unwrap();
        steps.extend(
            world.left.iter().filter(|id| world.payloads[**id].nonce == next).map(|id| Step::Mine(*id)),
        );
        if world.mined.len() > world.finalized {
            steps.push(Step::Finalize);
            if world.reorgs < self.reorgs {
                steps.push(Step::Undo);
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Claim { replica, client, wanted, mined, bid } => {
                let slot = Slot {
                    chain: 1,
                    wanted,
                    mined,
                    fees: fees(bid),
                    fees_are_fixed: wanted.is_some(),
                    stands: Stands::Transaction,
                };
                let mut rows = world.rows(client);
                if self.fault == Fault::DroppedIsNowhere {
                    for row in rows.iter_mut().filter(|row| row.state == State::Vacant) {
                        row.word = Some(Word::Refused);
                    }
                }
                // Whoever names a nonce may replace what is its own there.
                let replace = if wanted.is_some() { Replace::Own } else { Replace::Never };
                let intent = intent(client, wanted, bid);
                match decide(
                    &rows,
                    &Bid { slot, intent, replace, is_sent: true, accepted: 0, now: START_OF_TIME },
                    MAX_OPEN,
                ) {
                    Decision::Take { nonce, replaces } if nonce < self.nonces => {
                        if let Some(replaced) = replaces {
                            world.turn(usize::try_from(replaced).unwrap(), State::Outbid);
                        }
                        let (state, taken, wanted) = (State::Reserved, Taken::default(), wanted.is_some());
                        let is_too_cheap = world.payloads.iter().any(|row| {
                            row.nonce == nonce
                                && row.taken.may_be_pooled(row.state)
                                && !fees(bid).outbids(&fees(row.bid))
                        });
                        let new = Payload { nonce, state, client, wanted, bid, taken, is_too_cheap };
                        world.payloads.push(new);
                        world.tasks.insert(Task { replica, payload: world.payloads.len() - 1 });
                    }
                    _ => return None,
                }
            }
            Step::Record(task) => {
                world.tasks.remove(&task);
                let state = world.payloads[task.payload].state;
                // Too late: the signature is thrown away.
                if state.may_become(State::Recorded) || self.fault == Fault::RecordWithoutReservation {
                    world.payloads[task.payload].state = State::Recorded;
                }
            }
            Step::Void(id) => {
                world.turn(id, State::Void);
                world.restore(id);
            }
            Step::Crash(replica) => {
                world.crashes += 1;
                world.tasks.retain(|task| task.replica != replica);
            }
            Step::Send { payload, word: said } => {
                world.left.insert(payload);
                let state = world.payloads[payload].state;
                let others: Vec<State> = world.others(payload).into_iter().map(|(_, state)| state).collect();
                let heard_as = world.payloads[payload].taken.hear(said, state);
                let mut turned = heard(state, heard_as, &others);
                if self.fault == Fault::SilenceFreesTheNonce
                    && said == Word::Unknown
                    && state == State::Recorded
                {
                    turned = Some(State::Void);
                }
                if let Some(to) = turned {
                    world.payloads[payload].state = to;
                    world.restore(payload);
                }
            }
            Step::Mine(id) => world.mined.push(id),
            Step::Undo => {
                world.reorgs += 1;
                world.mined.pop();
            }
            Step::Finalize => {
                let id = world.mined[world.finalized];
                world.finalized += 1;
                let last = Final::Mined { block: 1, succeeded: true };
                let this = (i64::try_from(id).unwrap(), world.payloads[id].state);
                for (id, to) in settle(this, last, &world.others(id)) {
                    world.turn(usize::try_from(id).unwrap(), to);
                    if to == State::Void {
                        world.restore(usize::try_from(id).unwrap());
                    }
                }
            }
        }
        (world != *before).then(|| world.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("inv 1: what left is durable", |_, world: &World| {
                world.left.iter().all(|id| world.payloads[*id].state.is_signed())
            }),
            Property::always("inv 2: one payload lives at a nonce", |bounds: &Self, world: &World| {
                (0..bounds.nonces).all(|nonce| {
                    let at = world.payloads.iter().filter(|row| row.nonce == nonce);
                    at.filter(|row| row.state.is_live() || row.state == State::Final).count() <= 1
                })
            }),
            Property::always("inv 2: a second record outbids what a node may have", |_, world: &World| {
                world.payloads.iter().all(|row| !row.is_too_cheap || !row.state.is_signed())
            }),
            Property::always(
                "inv 10: one intent at an explicit nonce is recorded once",
                |_, world: &World| {
                    let mut seen = BTreeSet::new();
                    let explicit = world.payloads.iter().filter(|row| row.wanted && row.state.is_signed());
                    explicit.into_iter().all(|row| seen.insert(row.intent()))
                },
            ),
            Property::always("what is final was mined", |_, world: &World| {
                let finals = world.payloads.iter().enumerate().filter(|(_, row)| row.state == State::Final);
                finals.into_iter().all(|(id, _)| world.mined[..world.finalized].contains(&id))
            }),
            Property::sometimes("a signature comes too late", |_, world: &World| {
                world.tasks.iter().any(|task| world.payloads[task.payload].state == State::Void)
            }),
            Property::sometimes("a refused payload is mined after all", |_, world: &World| {
                world.payloads.iter().any(|row| row.state == State::Vacant)
                    && world.mined.iter().any(|id| world.payloads[*id].state == State::Vacant)
            }),
            Property::always("what is outbid has a payload in its place", |_, world: &World| {
                let outbid = world.payloads.iter().filter(|row| row.state == State::Outbid);
                outbid.into_iter().all(|row| {
                    let mut at = world.payloads.iter().filter(|other| other.nonce == row.nonce);
                    at.any(|other| other.state.is_live() || other.state.is_settled())
                })
            }),
            Property::sometimes("an outbid payload is mined after all", |_, world: &World| {
                world.mined.iter().any(|id| world.payloads[*id].state == State::Outbid)
            }),
            Property::sometimes("one payload ends another", |_, world: &World| {
                world.payloads.iter().any(|row| row.state == State::Replaced)
            }),
        ]
    }
}

const SMALL: Bounds = Bounds { nonces: 2, payloads: 3, crashes: 1, reorgs: 1, bids: 2, fault: Fault::None };

#[test]
fn no_interleaving_breaks_an_invariant() {
    stand_back();
    let checker = SMALL.checker().threads(2).spawn_dfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn a_guard_that_is_missing_is_found() {
    stand_back();
    for (fault, broken) in [
        (Fault::RecordWithoutReservation, "inv 2: one payload lives at a nonce"),
        (Fault::SilenceFreesTheNonce, "inv 1: what left is durable"),
        (Fault::DroppedIsNowhere, "inv 2: a second record outbids what a node may have"),
    ] {
        let checker = Bounds { fault, ..SMALL }.checker().threads(2);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        assert!(checker.discovery(broken).is_some(), "{fault:?} was not found");
    }
}
