//! `kill -9` at each step of a transaction, held there by what stands beyond the program: its database, its token, its node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kit::{Client, Fault, Gateway, Server, TestToken, World, eventually};

/// Where it dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The reservation is on its way into the database.
    Reserving,
    /// The token has been asked, and takes its time.
    Signing,
    /// The token has answered; the record is on its way into the database.
    Recording,
    /// What is recorded has not reached the node.
    Sending,
    /// The node has it, and nobody was told.
    Sent,
    /// It is mined, and the ledger does not know.
    Mined,
}

const STEPS: [Step; 6] =
    [Step::Reserving, Step::Signing, Step::Recording, Step::Sending, Step::Sent, Step::Mined];

struct Desk {
    gateway: Gateway,
    token: TestToken,
    server: Arc<Server>,
    database: String,
}

impl Desk {
    async fn start() -> Self {
        let server = Server::shared();
        let database = server.database();
        let path = "path = \"ledger.sqlite\"";
        let url = format!("{path}\nurl = \"{}\"", server.url(&database));
        let (world, token) = TestToken::before(World::new().await.counting().replace(path, &url));
        let gateway = world.append("\n[signer]\ndeadline = \"3s\"\n").start().await;
        Self { gateway, token, server, database }
    }

    /// Holds every write of the program back, until the answer is dropped.
    fn lock(&self) -> Locked {
        let (server, database) = (Arc::clone(&self.server), self.database.clone());
        let held = "BEGIN; LOCK TABLE audit IN EXCLUSIVE MODE; SELECT pg_sleep(600)";
        let holder = tokio::task::spawn_blocking(move || drop(server.try_psql(&database, held)));
        Locked { server: Arc::clone(&self.server), database: self.database.clone(), holder }
    }

    async fn counts(&self, what: &str, statement: &str) {
        let count = async || (self.server.psql(&self.database, statement) != "0").then_some(());
        eventually(what, count).await;
    }

    /// Has a client send, and kills the program at this step.
    async fn crash(&mut self, step: Step, transaction: &Value, key: &str) {
        let held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                    WHERE mode = 'ExclusiveLock' AND granted AND relation = 'audit'::regclass";
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";
        let reserved = "SELECT count(*) FROM reservation WHERE state = 'reserved'";
        let recorded = "SELECT count(*) FROM reservation WHERE state = 'recorded'";
        let node = self.gateway.node();
        let mined = node.mined(self.gateway.treasury()).await;
        let mut locked = None;
        match step {
            Step::Reserving => {
                locked = Some(self.lock());
                self.counts("the lock", held).await;
            }
            Step::Signing | Step::Recording => {
                self.token.faults(&["on = \"C_SignInit\"; delay_us = 1_500_000"]);
            }
            Step::Sending => node.fail("eth_sendRawTransaction", Fault::Delay(Duration::from_secs(60))),
            Step::Sent => node.fail("eth_sendRawTransaction", Fault::LoseAnswer),
            Step::Mined => node.fail("eth_getTransactionReceipt", Fault::Drop),
        }
        let sender = ask(self.gateway.client("trader"), transaction, key.to_owned());
        match step {
            Step::Reserving => self.counts("a reservation that waits", waits).await,
            Step::Signing => self.counts("a reservation", reserved).await,
            Step::Recording => {
                self.counts("a reservation", reserved).await;
                locked = Some(self.lock());
                self.counts("the lock", held).await;
                self.counts("a record that waits", waits).await;
            }
            Step::Sending => self.counts("a record", recorded).await,
            Step::Sent | Step::Mined => {
                let is_mined =
                    async || (self.gateway.node().mined(self.gateway.treasury()).await > mined).then_some(());
                eventually("it is mined", is_mined).await;
            }
        }
        self.gateway.kill().await;
        drop(locked);
        sender.abort();
        self.token.lift();
        self.gateway.node().heal();
        self.gateway.restart().await;
    }
}

/// A lock that somebody else has on the database.
struct Locked {
    server: Arc<Server>,
    database: String,
    holder: JoinHandle<()>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        self.server.psql(&self.database, end);
        self.holder.abort();
    }
}

fn ask(client: Client, transaction: &Value, key: String) -> JoinHandle<Option<String>> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction] });
    tokio::spawn(async move {
        let mut request = client.json_request(call.to_string());
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        let answer: Value = serde_json::from_str(&client.request(request).await.ok()?.body).ok()?;
        answer["result"].as_str().map(str::to_owned)
    })
}

#[tokio::test]
async fn inv_10_killed_at_each_step_it_pays_once_and_needs_no_operator() {
    let mut desk = Desk::start().await;
    let account = desk.gateway.treasury();
    let mut hashes = BTreeSet::new();
    for (step, wei) in STEPS.into_iter().zip(1..) {
        let payment = desk.gateway.payment(wei);
        let key = format!("order-{wei}");
        desk.crash(step, &payment, &key).await;
        // The client never heard of it, and asks again.
        let gateway = &desk.gateway;
        let again = async || ask(gateway.client("trader"), &payment, key.clone()).await.unwrap();
        let hash = eventually(&format!("{step:?}: a hash"), again).await;
        assert!(hashes.insert(hash), "{step:?}");
        let node = gateway.node();
        let is_mined = async || (node.mined(account).await >= wei).then_some(());
        eventually(&format!("{step:?}: it is mined"), is_mined).await;
        assert_eq!(node.mined(account).await, wei, "{step:?}: not one more");
    }
    let mined = desk.gateway.node().sent_by(account).await;
    let values: BTreeSet<_> = mined.iter().map(|transaction| transaction["value"].to_string()).collect();
    assert_eq!(values.len(), STEPS.len(), "each payment once: {mined:#?}");
    desk.gateway.has_counted(STEPS.len().try_into().unwrap()).await;
    desk.gateway.chancery(&["audit", "verify"]).await.well();
}
