//! Several gateways on one ledger in PostgreSQL, behind a balancer, and what breaks there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::kit::{Client, Gateway, Process, Server, World, eventually, free_port};

/// A gateway whose ledger is in a database.
struct Shared {
    gateway: Gateway,
    server: Arc<Server>,
    database: String,
}

impl Shared {
    async fn start(server: Arc<Server>, front: u16) -> Self {
        let database = server.database();
        let path = "path = \"ledger.sqlite\"";
        let url = format!("{path}\nurl = \"{}\"", server.url(&database));
        let world = World::new().await.replace(path, &url);
        let world = world.replace("hosts = [", &format!("hosts = [\"127.0.0.1:{front}\", "));
        // A reservation that is not recorded is everybody's after 4 s.
        let gateway = world.append("\n[signer]\ndeadline = \"2s\"\n").start().await;
        Self { gateway, server, database }
    }

    fn payment(&self, wei: u64) -> Value {
        self.gateway.payment(wei)
    }

    fn trader(&self, address: SocketAddr) -> Client {
        self.gateway.client_at(address, "trader")
    }

    /// What is true in the end: every payment is mined once, nothing else is, and the chain of rows holds.
    async fn is_whole(&self, payments: u64, promised: &BTreeSet<String>) {
        let node = self.gateway.node();
        eventually("every payment is mined", async || {
            (node.mined(self.gateway.treasury()).await >= payments).then_some(())
        })
        .await;
        assert_eq!(node.mined(self.gateway.treasury()).await, payments, "not one more");
        assert_eq!(promised.len().try_into(), Ok(payments), "a hash each");
        let trader = self.gateway.client("trader");
        for hash in promised {
            let receipt = trader.call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
            assert_eq!(receipt["status"], "0x1", "{hash}");
        }
        self.gateway.chancery(&["audit", "verify"]).await.well();
        let twice = "SELECT count(*) FROM reservation WHERE state IN ('recorded', 'final') GROUP BY nonce HAVING count(*) > 1";
        assert_eq!(self.server.psql(&self.database, twice), "");
    }
}

/// Sends under a key until there is a hash, wherever that comes from; as a careful client does.
async fn insist(client: impl Fn() -> Client, transaction: Value, key: String) -> String {
    let began = Instant::now();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction] });
    let mut said = String::new();
    while began.elapsed() < Duration::from_secs(90) {
        let client = client();
        let mut request = client.json_request(call.to_string());
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        if let Ok(answer) = client.request(request).await {
            said = answer.body;
            let answer: Value = serde_json::from_str(&said).unwrap_or_default();
            if let Some(hash) = answer["result"].as_str() {
                return hash.to_owned();
            }
            // Nothing but that it could not be done now: -32603, or what became of it is not known yet.
            assert_eq!(answer["error"]["code"], -32603, "{said}");
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("{key}: {said}");
}

async fn balancer(front: u16, behind: &[SocketAddr], folder: &std::path::Path) -> Process {
    let mut servers = String::new();
    for (number, address) in (1..).zip(behind) {
        writeln!(servers, "    server s{number} {address} check inter 200ms").unwrap();
    }
    let text = format!(
        "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n    \
         option redispatch\nfrontend chancery\n    bind 127.0.0.1:{front}\n    default_backend replicas\n\
         backend replicas\n    balance roundrobin\n    option tcp-check\n{servers}"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let process = Process::start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    eventually("the balancer listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", front)).await.ok()
    })
    .await;
    process
}

#[tokio::test]
async fn inv_13_one_of_two_replicas_is_killed_under_load_and_nothing_is_lost_or_doubled() {
    let front = free_port();
    let shared = Shared::start(Server::shared(), front).await;
    let two = shared.gateway.replica("two").await;
    let folder = shared.gateway.folder().to_owned();
    let _balancer = balancer(front, &[shared.gateway.world.address(), two.address], &folder).await;
    let front = SocketAddr::from(([127, 0, 0, 1], front));
    let clients = (0..24_u64).map(|number| {
        // A connection of its own for each try: the balancer picks who answers.
        insist(|| shared.trader(front), shared.payment(1000 + number), format!("order-{number}"))
    });
    let killed = async {
        sleep(Duration::from_millis(400)).await;
        two.process.signal(Signal::KILL);
    };
    let (hashes, ()) = tokio::join!(futures_util::future::join_all(clients), killed);
    shared.is_whole(24, &hashes.into_iter().collect()).await;

    // A pause holds on a replica that comes later, too.
    shared.gateway.operate("admin", &["pause", "--all"]).await.well();
    let three = shared.gateway.replica("three").await;
    let refused = shared.trader(three.address).send(shared.payment(1)).await.unwrap_err();
    assert_eq!(refused.data["code"], "paused", "{refused:?}");
}

/// The stale owner has a reservation and a worker that may be signing; it must not send what another has by then.
#[tokio::test]
async fn inv_01_a_replica_that_was_stopped_sends_nothing_when_it_goes_on() {
    let shared = Shared::start(Server::shared(), free_port()).await;
    let two = shared.gateway.replica("two").await;
    let shared = &shared;
    let trader = |address| move || shared.trader(address);
    let mut running = Vec::new();
    for number in 0..6 {
        running.push(insist(trader(two.address), shared.payment(100 + number), format!("stopped-{number}")));
    }
    let stopped = async {
        // Somewhere in the middle of signing.
        sleep(Duration::from_millis(60)).await;
        two.process.signal(Signal::STOP);
        let one = shared.gateway.world.address();
        let others =
            (0..6).map(|number| insist(trader(one), shared.payment(200 + number), format!("other-{number}")));
        let others = futures_util::future::join_all(others).await;
        sleep(Duration::from_secs(7)).await;
        two.process.signal(Signal::CONT);
        others
    };
    let (mut hashes, others) = tokio::join!(futures_util::future::join_all(running), stopped);
    hashes.extend(others);
    shared.is_whole(12, &hashes.into_iter().collect()).await;
}

#[tokio::test]
async fn inv_13_the_database_goes_and_comes_back() {
    let server = Arc::new(Server::start());
    let shared = Shared::start(Arc::clone(&server), free_port()).await;
    let trader = shared.gateway.client("trader");
    let first = trader.send(shared.payment(1)).await.unwrap();
    server.crash();
    let refused = trader.send(shared.payment(2)).await.unwrap_err();
    assert_eq!((refused.code, &refused.data["code"]), (-32603, &json!("ledger_unavailable")), "{refused:?}");
    // Reads go on, and whoever looks is told.
    trader.call("eth_blockNumber", json!([])).await.unwrap();
    let ready = shared.gateway.admin("admin", "/readyz").await.unwrap();
    assert_eq!(ready.status, http::StatusCode::SERVICE_UNAVAILABLE, "{}", ready.body);
    assert!(!ready.body.contains("host="), "nor where the database is: {}", ready.body);
    server.run();
    let second = insist(|| shared.gateway.client("trader"), shared.payment(2), "again".to_owned()).await;
    shared.is_whole(2, &[first.as_str().unwrap().to_owned(), second].into()).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_at_the_start() {
    let path = "path = \"ledger.sqlite\"";
    let url = "postgres://chancery:hush@127.0.0.1:9/ledger";
    let world = World::new().await.replace(path, &format!("{path}\nurl = \"{url}\""));
    let end = world.refuses_to_start().await;
    assert!(end.stderr.contains("postgres://127.0.0.1:9"), "{}", end.stderr);
    assert!(!end.stderr.contains("hush"), "{}", end.stderr);
    let world = world.replace("postgres://", "mysql://");
    let end = world.refuses_to_start().await;
    assert!(end.stderr.contains("expected postgres://"), "{}", end.stderr);
}
