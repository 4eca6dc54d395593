//! What one step does, and what must hold after it.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;

use crate::clock::{Clock, Timestamp};
use crate::ledger::db::{batch, query};
use crate::ledger::tests::kit::{ASK, Ask, CHAIN, START, sign};
use crate::ledger::tests::simulation::chain::Chain;
use crate::ledger::tests::simulation::ears::{Owed, heard};
use crate::ledger::tests::simulation::policies::{POLICIES, READ};
use crate::ledger::tests::simulation::record::Record;
use crate::ledger::tests::simulation::replica::{Done, Replica, Site, Stage, Task, poll, take_up};
use crate::ledger::tests::simulation::steps::{End, Said, Step, Told, Wants};
use crate::ledger::{Claim, Final, LedgerError, Outcome, Purpose, Recorded, RefusalClass, ReserveError};
use crate::policy::Replace;
use crate::transaction::Tx;

const KEYS: [&str; 30] = [
    "k00", "k01", "k02", "k03", "k04", "k05", "k06", "k07", "k08", "k09", "k10", "k11", "k12", "k13", "k14",
    "k15", "k16", "k17", "k18", "k19", "k20", "k21", "k22", "k23", "k24", "k25", "k26", "k27", "k28", "k29",
];

/// How many steps a request waits before its client is gone.
const PATIENCE: u32 = 60;

pub struct World {
    pub site: Site,
    pub replicas: Vec<Replica>,
    pub chains: [Chain; 2],
    pub record: Record,
    /// The true time, in milliseconds.
    now: u64,
}

impl World {
    /// `replicas` of one store. More than one share it, and have its clock.
    pub async fn new(template: &[u8], replicas: usize) -> Self {
        let site = Site::new(template, (replicas > 1).then(|| Clock::set_to(START)));
        let mut world = Self {
            replicas: Vec::new(),
            chains: [Chain::default(), Chain::default()],
            record: Record::default(),
            now: START.millis(),
            site,
        };
        for at in 0..replicas {
            let replica = Replica::start(&world.site, (at, START), 0).await;
            world.replicas.push(replica);
        }
        for replica in 0..replicas {
            world.activate(replica, 0);
            world.turn(replica, End::Told).await;
        }
        world
    }

    pub async fn step(&mut self, step: Step) {
        let of = |replica: u8, all: &[Replica]| usize::from(replica) % all.len();
        match step {
            Step::Ask { replica, client, account, value, wants, told } => {
                let replica = of(replica, &self.replicas);
                self.ask(replica, self.wanted((client, account), value, wants, told));
            }
            Step::Turn { replica, end } => self.turn(of(replica, &self.replicas), end).await,
            Step::Sign(which) => self.sign(which).await,
            Step::Fail(which) => {
                let Some((replica, task)) = self.at_token(which) else { return };
                let Stage::AtToken(reserved) = task.stage else { return };
                let id = reserved.id();
                self.replicas[replica].begin(task.ask, move |ledger| async move {
                    let _ = ledger.void(id, "the token failed").await;
                    Done::Nothing
                });
            }
            Step::Leave(which) => {
                let Some(at) = self.one_of(which, |replica| !replica.tasks.is_empty()) else { return };
                let replica = &mut self.replicas[at];
                let which = usize::from(which) % replica.tasks.len();
                replica.tasks.swap_remove(which);
            }
            Step::Send { which, word } => {
                let Some(replica) = self.one_of(which, |replica| !replica.outbox.is_empty()) else { return };
                let outbox = &mut self.replicas[replica].outbox;
                let recorded = outbox.swap_remove(usize::from(which) % outbox.len());
                self.send(replica, recorded, word);
            }
            Step::Resend { replica, which, word } => {
                let replica = of(replica, &self.replicas);
                self.resend(replica);
                self.turn(replica, End::Told).await;
                self.turn(replica, End::Told).await;
                let outbox = &mut self.replicas[replica].outbox;
                if !outbox.is_empty() {
                    let recorded = outbox.swap_remove(usize::from(which) % outbox.len());
                    self.send(replica, recorded, word);
                }
            }
            Step::Follow { replica } => self.follow(of(replica, &self.replicas)),
            Step::Mine { account, which } => {
                self.chains[usize::from(account)].mine(which);
            }
            Step::External { account } => self.external(account),
            Step::Undo { account } => self.chains[usize::from(account)].undo(),
            Step::Finalize { account } => self.finalize(account),
            Step::Pass(millis) => {
                self.now += millis;
                let clocks = if self.is_shared() { 1 } else { self.replicas.len() };
                for replica in self.replicas.iter().take(clocks) {
                    replica.clock.advance(Duration::from_millis(millis));
                }
            }
            Step::Set { replica, by } => self.replicas[of(replica, &self.replicas)].clock.step(by),
            Step::Policy { replica, policy } => {
                self.activate(of(replica, &self.replicas), usize::from(policy) % POLICIES.len());
            }
            Step::Crash { replica, committed } => {
                let replica = of(replica, &self.replicas);
                if committed {
                    self.turn(replica, End::Unheard).await;
                }
                self.crash(replica).await;
            }
            Step::Deadline { replica } => {
                let replica = of(replica, &self.replicas);
                self.replicas[replica].writer.expire();
                self.turn(replica, End::Told).await;
            }
        }
    }

    fn is_shared(&self) -> bool {
        self.replicas.len() > 1
    }

    /// Somebody else sends for an account.
    fn external(&mut self, account: u8) {
        let ours = self.record.payloads.values().filter(|payload| payload.ask.seed == account + 1);
        let known = ours.map(|payload| payload.nonce + 1).max().unwrap_or(0);
        let chain = &mut self.chains[usize::from(account)];
        // Further from what we know than this, an operator has to say that it is true.
        if chain.next() < known + 8 {
            chain.mined.push(None);
        }
    }

    fn wanted(&self, (client, account): (u8, u8), value: u64, wants: Wants, told: Told) -> Ask {
        let client = if client == 0 { "alice" } else { "bob" };
        let account = if let Wants::Key(key) = wants { key % 2 } else { account };
        let chain = &self.chains[usize::from(account)];
        let mined = match told {
            Told::Right => chain.next(),
            Told::Less(by) => chain.next().saturating_sub(u64::from(by)),
            Told::More(by) => chain.next() + u64::from(by),
        };
        let ask = Ask { client, seed: account + 1, value, mined, ..ASK };
        match wants {
            Wants::Nothing => ask,
            Wants::Nonce { above, bid, replace } => Ask {
                nonce: Some(chain.next() + u64::from(above)),
                fee: Some((0..bid).fold(300, |fee, _| fee * 112 / 100 + 1)),
                // Few different values, so that the same request comes again.
                value: value % 3,
                replace: if replace { Replace::Own } else { Replace::Never },
                ..ask
            },
            Wants::Key(key) => Ask {
                key: Some(KEYS[usize::from(key)]),
                value: u64::from(key) * 100_000,
                seed: 1 + key % 2,
                ..ask
            },
        }
    }

    pub fn ask(&mut self, replica: usize, ask: Ask) {
        let replica = &mut self.replicas[replica];
        let permitted = ask.judged(&READ[replica.policy]).replacing_for_test(ask.replace);
        replica.begin(
            ask,
            |ledger| async move { Done::Claimed(ledger.reserve(permitted, Purpose::Send).await) },
        );
    }

    pub fn activate(&mut self, replica: usize, policy: usize) {
        let replica = &mut self.replicas[replica];
        replica.policy = policy;
        let policy = Arc::clone(&READ[policy]);
        replica.begin(ASK, |ledger| async move {
            let _ = ledger.activate(policy).await;
            Done::Nothing
        });
    }

    /// One of those replicas of which this is true.
    fn one_of(&self, which: u8, is: impl Fn(&Replica) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.replicas.len()).filter(|at| is(&self.replicas[*at])).collect();
        found.get(usize::from(which) % found.len().max(1)).copied()
    }

    fn at_token(&mut self, which: u8) -> Option<(usize, Task)> {
        let is_there = |task: &Task| matches!(task.stage, Stage::AtToken(_));
        let replica = self.one_of(which, |replica| replica.tasks.iter().any(is_there))?;
        let tasks = &mut self.replicas[replica].tasks;
        let there: Vec<usize> = (0..tasks.len()).filter(|at| is_there(&tasks[*at])).collect();
        Some((replica, tasks.swap_remove(there[usize::from(which) % there.len()])))
    }

    pub async fn sign(&mut self, which: u8) {
        let Some((replica, task)) = self.at_token(which) else { return };
        let Stage::AtToken(reserved) = task.stage else { return };
        self.is_intended(replica, reserved.id().0).await;
        let signed = sign(*reserved);
        self.replicas[replica]
            .begin(task.ask, |ledger| async move { Done::Recorded(ledger.record(signed).await) });
    }

    /// Invariant 1: whoever looks at the disk finds the intent.
    async fn is_intended(&mut self, replica: usize, id: i64) {
        let found = query(
            "SELECT count(*) FROM audit WHERE kind = 'intent' AND json_extract(body, '$.reservation') = ?1",
        );
        let found = found.bind(id).number(&mut self.replicas[replica].writer.db).await.unwrap();
        assert_eq!(found, 1, "inv 1: {id} is signed without an intent");
    }

    /// The node's answer, which may be a lie, is told to the ledger.
    pub fn send(&mut self, replica: usize, recorded: Recorded<Tx>, said: Said) {
        // Invariant 1: nothing is broadcast that is not recorded, to the byte.
        let (id, payload) = self.record.of_hash(recorded.hash());
        assert_eq!((recorded.raw(), recorded.id().0), (&payload.raw, id));
        let (nonce, chain) = (payload.nonce, &mut self.chains[usize::from(payload.ask.seed - 1)]);
        if matches!(said, Said::Accepted | Said::Slow | Said::RefusedAndKept) {
            chain.keep(id, nonce);
        }
        let no = |class| Outcome::Refused { class, text: "no".to_owned() };
        let outcome = match said {
            Said::Accepted if nonce < chain.next() => no(RefusalClass::NonceTooLow),
            Said::Accepted | Said::AcceptedAndGone => Outcome::Accepted,
            Said::Lost | Said::Slow => Outcome::Unknown { text: "no answer".to_owned() },
            Said::Refused | Said::RefusedAndKept => no(RefusalClass::InsufficientFunds),
        };
        self.replicas[replica].begin(ASK, move |ledger| async move {
            let _ = ledger.outcome(&recorded, outcome).await;
            Done::Nothing
        });
    }

    pub fn resend(&mut self, replica: usize) {
        self.replicas[replica].begin(ASK, take_up);
    }

    /// What is final is told to the ledger, which takes several commits.
    pub fn follow(&mut self, replica: usize) {
        let told = self.record.payloads.iter().filter(|(_, payload)| payload.settled.is_none());
        let told: Vec<(B256, Final)> = told
            .filter_map(|(id, payload)| {
                let chain = &self.chains[usize::from(payload.ask.seed - 1)];
                let mined = Final::Mined { block: payload.nonce, succeeded: true };
                let is_ours = chain.decided(*id, payload.nonce)?;
                Some((payload.hash, if is_ours { mined } else { Final::Replaced }))
            })
            .collect();
        self.replicas[replica].begin(ASK, |ledger| async move {
            for recorded in ledger.unsettled::<Tx>(CHAIN).await.unwrap_or_default() {
                if let Some((_, last)) = told.iter().find(|(hash, _)| *hash == recorded.hash()) {
                    let _ = ledger.settled(recorded.id(), *last).await;
                }
            }
            Done::Nothing
        });
    }

    pub fn finalize(&mut self, account: u8) {
        if let Some((nonce, payload)) = self.chains[usize::from(account)].finalize() {
            self.record.finalized(account + 1, nonce, payload);
        }
    }

    pub async fn crash(&mut self, at: usize) {
        let before = self.replicas.remove(at);
        // A clock that is ahead when a process starts cannot be told from time that passed, nor can one that is behind,
        // and not before what the ledger has seen.
        let (wall, now) = (before.clock.now(), Timestamp::from_millis(self.now));
        let is_seen = wall < before.writer.seen();
        let wall = if is_seen { wall.min(now) } else { now };
        let policy = before.policy;
        if self.replicas.is_empty() {
            self.site = self.site.killed();
        }
        drop(before);
        let after = Replica::start(&self.site, (at, wall), policy).await;
        self.replicas.insert(at, after);
        self.activate(at, policy);
        self.turn(at, End::Told).await;
    }

    /// One commit of what is queued, and what its answers bring about.
    pub async fn turn(&mut self, at: usize, end: End) {
        let replica = &mut self.replicas[at];
        let (mut work, mut owed) = (Vec::new(), Vec::new());
        let number = |hash| READ.iter().position(|read| read.hash() == hash).unwrap();
        while let Ok(command) = replica.queue.try_recv() {
            work.push(heard(command, end, number, &mut owed));
        }
        if end == End::Broken {
            batch(&mut replica.writer.db, FAIL).await.unwrap();
        }
        replica.writer.group(work, false).await;
        replica.writer.compare().await;
        if end == End::Broken {
            batch(&mut replica.writer.db, MEND).await.unwrap();
        }
        for owed in owed {
            self.learn(owed, end);
        }
        self.proceed(at);
    }

    fn learn(&mut self, owed: Owed, end: End) {
        let (record, now) = (&mut self.record, self.now);
        match owed {
            Owed::Record { id, raw, hash, answer } => {
                answer.pass(end, |()| record.recorded(id, &raw, hash, now));
            }
            Owed::Outcome { id, is_refusal, answer } => {
                answer.pass(end, |is_sure| record.told(id, is_refusal && *is_sure));
            }
            Owed::Settled { id, last, answer } => answer.pass(end, |()| record.told_settled(id, last)),
            Owed::Policy { policy, answer } => answer.pass(end, |()| record.policy(POLICIES[policy])),
            Owed::Claim { answer } => answer.pass(end, |_| {}),
            Owed::Unsettled { answer } => answer.pass(end, |rows| {
                let open = rows.iter().map(|row| row.hash).collect();
                assert_eq!(record.unsettled(), open, "inv 10: what is promised is not what is sent");
            }),
        }
    }

    /// Every request goes as far as it gets.
    fn proceed(&mut self, at: usize) {
        let tasks = std::mem::take(&mut self.replicas[at].tasks);
        for mut task in tasks {
            task.age += 1;
            let Stage::Waits(doing) = &mut task.stage else {
                self.replicas[at].tasks.push(task);
                continue;
            };
            match poll(doing) {
                None if task.age < PATIENCE => self.replicas[at].tasks.push(task),
                None => {}
                Some(done) => self.done(at, task.ask, done),
            }
        }
    }

    fn done(&mut self, at: usize, ask: Ask, done: Done) {
        let replica = &mut self.replicas[at];
        match done {
            Done::Claimed(Ok(Claim::Fresh(reserved))) => {
                self.record.intended(reserved.id().0, ask);
                let stage = Stage::AtToken(Box::new(reserved));
                replica.tasks.push(Task { ask, stage, age: 0 });
            }
            Done::Claimed(Ok(Claim::Known(recorded))) if !recorded.is_in_hand() => {}
            Done::Claimed(Ok(Claim::Known(recorded))) | Done::Recorded(Ok(recorded)) => {
                replica.outbox.push(recorded);
            }
            // It is filled again, and judged again.
            Done::Claimed(Err(ReserveError::Outbid { floor })) => {
                self.ask(at, Ask { floor: Some(floor), ..ask });
            }
            Done::Open(open) => replica.outbox.extend(open),
            // Another replica has a newer policy, which this one reads as well.
            Done::Claimed(Err(ReserveError::Ledger(LedgerError::OtherPolicy))) => {
                self.activate(at, self.record.in_force());
            }
            Done::Claimed(Err(_)) | Done::Recorded(Err(_)) | Done::Nothing => {}
        }
    }
}

const FAIL: &str = "CREATE TRIGGER broken BEFORE INSERT ON audit WHEN new.seq % 2 = 0
                    BEGIN SELECT RAISE(ABORT, 'no more'); END";
const MEND: &str = "DROP TRIGGER broken";
