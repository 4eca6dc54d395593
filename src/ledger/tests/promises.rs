//! Random lives of a real ledger: whatever happens in between, a key has one payload, and a pause lets nothing through.

use std::collections::BTreeSet;

use alloy_primitives::Bytes;
use proptest::prelude::*;

use crate::clock::Timestamp;
use crate::identity::RequestId;
use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, START, address, sign};
use crate::ledger::{
    Administration, Claim, Earlier, Final, Outcome, PauseOrder, PauseScope, Purpose, Recorded, RefusalClass,
    ReserveError, Reserved, verify,
};
use crate::transaction::{Fees, Kind as _, Tx};

const CLIENTS: [&str; 2] = ["alice", "bob"];
const KEYS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
const DAY: u64 = 86_400_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask {
        client: usize,
        key: usize,
        value: u64,
        seed: u8,
    },
    Record(prop::sample::Index),
    Void(prop::sample::Index),
    Refuse(prop::sample::Index),
    Mine(prop::sample::Index),
    Pause(u8),
    Resume(u8),
    /// `kill -9`, and a start so many hours later.
    Kill {
        hours: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        12 => (0..2_usize, 0..4_usize, 1..3_u64, 1..3_u8)
            .prop_map(|(client, key, value, seed)| Step::Ask { client, key, value, seed }),
        8 => index().prop_map(Step::Record),
        2 => index().prop_map(Step::Void),
        3 => index().prop_map(Step::Refuse),
        3 => index().prop_map(Step::Mine),
        1 => (0..5_u8).prop_map(Step::Pause),
        2 => (0..5_u8).prop_map(Step::Resume),
        1 => (0..30_u64).prop_map(|hours| Step::Kill { hours }),
    ]
}

/// What was recorded, for whom and under which name; `at` is when it was reserved.
struct Signed {
    ask: Ask,
    at: u64,
    sent: Recorded<Tx>,
}

/// A ledger, what is at the token, and what must hold.
struct Life {
    desk: Desk,
    now: u64,
    number: u128,
    fees: Fees,
    signing: Vec<(Ask, u64, Reserved<Tx>)>,
    signed: Vec<Signed>,
    paused: BTreeSet<PauseScope>,
}

impl Life {
    async fn begin() -> Self {
        let desk = Desk::open(PATIENT).await;
        let (now, number, paused) = (START.millis(), 0, BTreeSet::new());
        let fees = Fees::Dynamic { max_fee_per_gas: 1000, max_priority_fee_per_gas: 1000 };
        Self { desk, now, number, fees, signing: Vec::new(), signed: Vec::new(), paused }
    }

    fn stops(&self, ask: Ask) -> bool {
        self.paused.iter().any(|scope| scope.covers(ask.client, address(ask.seed)))
    }

    /// The bytes that stand for this key, if it is not old enough to be forgotten.
    fn known(&self, ask: Ask, now: u64) -> Option<&Bytes> {
        let same = |signed: &&Signed| {
            ask.key.is_some() && (signed.ask.client, signed.ask.key) == (ask.client, ask.key)
        };
        let last = self.signed.iter().filter(same).max_by_key(|signed| signed.at);
        last.filter(|last| now.saturating_sub(last.at) < DAY).map(|last| last.sent.raw())
    }

    async fn ask(&mut self, ask: Ask) {
        self.number = self.number.saturating_add(1);
        // Above every fee before, so that any free nonce may be taken; not what the client asked for.
        self.fees = self.fees.raised().raised();
        let floor = Some(self.fees);
        let ask = Ask { request: self.number, floor, ..ask };
        let permitted = ask.permitted();
        let slot = Tx::slot(permitted.asked()).unwrap();
        let intent = Tx::intent(permitted.asked());
        let chain = Some(slot.chain);
        match self.desk.ledger.earlier::<Tx>(&ask.caller(), (chain, &intent), Purpose::Send).await {
            Ok(Earlier::Signing) => return,
            Ok(Earlier::Recorded(recorded)) => {
                assert_eq!(self.known(ask, self.now).unwrap_or(recorded.raw()), recorded.raw());
                return;
            }
            Ok(Earlier::Nothing) | Err(_) => {}
        }
        match self.desk.ledger.reserve(permitted, Purpose::Send).await {
            Ok(Claim::Fresh(reserved)) => {
                assert!(!self.stops(ask), "reserved while it is paused: {:?}", self.paused);
                assert_eq!(self.known(ask, self.now), None, "a second payload under {:?}", ask.key);
                self.signing.push((ask, self.now, reserved));
            }
            Ok(Claim::Known(recorded)) => {
                assert!(!self.stops(ask), "what was refused is sent again while it is paused");
                assert_eq!(self.known(ask, self.now).unwrap_or(recorded.raw()), recorded.raw());
            }
            Err(ReserveError::Paused(_)) => {
                assert!(self.stops(ask), "it is not paused");
            }
            Err(ReserveError::KeyReused | ReserveError::Spent { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn record(&mut self, which: prop::sample::Index) {
        if self.signing.is_empty() {
            return;
        }
        let (ask, at, reserved) = self.signing.swap_remove(which.index(self.signing.len()));
        if let Ok(sent) = self.desk.ledger.record(sign(reserved)).await {
            assert!(!self.stops(ask), "recorded while it is paused: {:?}", self.paused);
            assert_eq!(self.known(ask, at), None, "a second signature under {:?}", ask.key);
            self.signed.push(Signed { ask, at, sent });
        }
    }

    async fn step(&mut self, step: Step) {
        let scopes = [
            PauseScope::All,
            PauseScope::Account(address(1)),
            PauseScope::Account(address(2)),
            PauseScope::Client("alice".to_owned()),
            PauseScope::Client("bob".to_owned()),
        ];
        let by = || Administration {
            operator: "ops".to_owned(),
            person: "Grace".to_owned(),
            request: RequestId::from_number(0).to_string(),
        };
        let order = |scope: u8| PauseOrder { scope: scopes[usize::from(scope)].clone(), reason: None };
        match step {
            Step::Ask { client, key, value, seed } => {
                let ask = Ask { client: CLIENTS[client], key: KEYS[key], value, seed, ..ASK };
                self.ask(ask).await;
            }
            Step::Record(which) => self.record(which).await,
            Step::Void(which) if !self.signing.is_empty() => {
                let (.., reserved) = &self.signing[which.index(self.signing.len())];
                // Its signature comes all the same, and is worth nothing.
                self.desk.ledger.void(reserved.id(), "a test").await.unwrap();
            }
            Step::Refuse(which) if !self.signed.is_empty() => {
                let sent = &self.signed[which.index(self.signed.len())].sent;
                let text = "insufficient funds".to_owned();
                let no = Outcome::Refused { class: RefusalClass::InsufficientFunds, text };
                self.desk.ledger.outcome(sent, no).await.unwrap();
            }
            Step::Mine(which) if !self.signed.is_empty() => {
                let id = self.signed[which.index(self.signed.len())].sent.id();
                self.desk.ledger.settled(id, Final::Mined { block: 1, succeeded: true }).await.unwrap();
            }
            Step::Pause(scope) => {
                let changed = self.desk.ledger.pause(order(scope), by()).await.unwrap();
                assert_eq!(changed, self.paused.insert(order(scope).scope));
            }
            Step::Resume(scope) => {
                let changed = self.desk.ledger.resume(order(scope), by()).await.unwrap();
                assert_eq!(changed, self.paused.remove(&order(scope).scope));
            }
            Step::Kill { hours } => {
                self.now = self.now.saturating_add(hours.saturating_mul(3_600_000));
                let now = Timestamp::from_millis(self.now);
                self.desk = Desk::at(self.desk.killed(), PATIENT, now).await.unwrap();
            }
            Step::Void(_) | Step::Refuse(_) | Step::Mine(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn inv_02_a_key_has_one_payload_and_a_pause_lets_nothing_through(
        steps in prop::collection::vec(step(), 30..90),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut life = Life::begin().await;
            for step in steps {
                life.step(step).await;
            }
            verify(&life.desk.file).await.unwrap().unwrap();
        });
    }
}
