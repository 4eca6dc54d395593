//! What must come of it all once nothing fails any more and the node is honest.

use crate::ledger::tests::kit::{ASK, Ask, CHAIN, address};
use crate::ledger::tests::simulation::policies::POLICIES;
use crate::ledger::tests::simulation::replica::Stage;
use crate::ledger::tests::simulation::steps::{End, Said, Step};
use crate::ledger::tests::simulation::world::World;
use crate::ledger::verify;

/// How often an honest world goes round until nothing is open any more.
const ROUNDS: usize = 80;

impl World {
    /// Invariant 13: with an honest node and nothing that fails, everything comes to its end by itself.
    pub async fn recover(&mut self) {
        for at in 0..self.replicas.len() {
            self.crash(at).await;
        }
        // Whatever is over a budget now waits for no window.
        self.activate(0, POLICIES.len() - 1);
        self.turn(0, End::Told).await;
        // What those had reserved that are gone is nobody's after a while.
        for _ in 0..2 {
            self.step(Step::Deadline { replica: 0 }).await;
        }
        for _ in 0..ROUNDS {
            self.round().await;
            if self.is_at_rest() {
                return self.ends().await;
            }
        }
        let open: Vec<_> =
            self.record.payloads.iter().filter(|(_, payload)| payload.settled.is_none()).collect();
        panic!("inv 13: after {ROUNDS} rounds there is still open: {open:#?}");
    }

    async fn round(&mut self) {
        for account in 0..2_u8 {
            let mined = self.chains[usize::from(account)].next();
            for _ in 0..self.gaps(account, mined).await {
                self.ask(0, Ask { client: "alice", seed: account + 1, mined, value: 0, ..ASK });
            }
            self.drain().await;
        }
        self.resend(0);
        self.drain().await;
        while let Some(recorded) = self.replicas[0].outbox.pop() {
            self.send(0, recorded, Said::Accepted);
        }
        self.drain().await;
        for account in 0..2_u8 {
            while self.chains[usize::from(account)].mine(0) {}
            while self.chains[usize::from(account)].finalized < self.chains[usize::from(account)].mined.len()
            {
                self.finalize(account);
            }
        }
        self.follow(0);
        self.drain().await;
    }

    /// Everything that was begun comes to its end.
    async fn drain(&mut self) {
        while !self.replicas[0].tasks.is_empty() {
            self.turn(0, End::Told).await;
            while self.replicas[0].tasks.iter().any(|task| matches!(task.stage, Stage::AtToken(_))) {
                self.sign(0).await;
            }
        }
    }

    async fn gaps(&mut self, account: u8, mined: u64) -> usize {
        let replica = &mut self.replicas[0];
        let asked = replica.ledger.gaps(CHAIN, address(account + 1), Some(mined));
        let answered = async {
            let command = replica.queue.recv().await.unwrap();
            replica.writer.group(vec![command], false).await;
        };
        tokio::join!(asked, answered).0.unwrap().len()
    }

    fn is_at_rest(&self) -> bool {
        self.record.payloads.values().all(|payload| payload.settled.is_some())
    }

    /// The chain holds, and has seen exactly what happened.
    async fn ends(&mut self) {
        for payload in self.record.payloads.values() {
            let chain = &self.chains[usize::from(payload.ask.seed - 1)];
            assert!(payload.nonce < chain.next(), "inv 13: a gap is left below {payload:?}");
        }
        for replica in &mut self.replicas {
            replica.writer.group(Vec::new(), true).await;
        }
        let verified = verify(&self.site.file()).await.unwrap().unwrap_or_else(|broken| panic!("{broken:?}"));
        assert_eq!(verified.signatures, self.record.payloads.len());
    }
}
