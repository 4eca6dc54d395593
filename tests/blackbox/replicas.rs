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

use crate::audit::{sealed, verify};
use crate::kit::{
    Client, Fault, Gateway, Node, Process, Server, World, eventually, free_port, insist, number_of,
};

/// A gateway whose ledger is in a database.
struct Shared {
    gateway: Gateway,
    server: Arc<Server>,
    database: String,
}

impl Shared {
    async fn start(server: Arc<Server>, front: u16) -> Self {
        Self::start_in(World::new().await, server, front).await
    }

    async fn start_in(world: World, server: Arc<Server>, front: u16) -> Self {
        let database = server.database();
        let world = world.counting();
        let path = "path = \"ledger.sqlite\"";
        let url = format!("{path}\nurl = \"{}\"", server.url(&database));
        let world = world.replace(path, &url);
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
        self.is_whole_at(payments, promised, self.gateway.world.address()).await;
    }

    async fn is_whole_at(&self, payments: u64, promised: &BTreeSet<String>, asked: SocketAddr) {
        let node = self.gateway.node();
        eventually("every payment is mined", async || {
            (node.mined(self.gateway.treasury()).await >= payments).then_some(())
        })
        .await;
        assert_eq!(node.mined(self.gateway.treasury()).await, payments, "not one more");
        assert_eq!(promised.len().try_into(), Ok(payments), "a hash each");
        let trader = self.trader(asked);
        let promised: Vec<&String> = promised.iter().collect();
        for some in promised.chunks(50) {
            let asked: Vec<_> =
                some.iter().map(|hash| ("eth_getTransactionReceipt", json!([hash]))).collect();
            for (hash, receipt) in some.iter().zip(trader.batch(&asked).await) {
                assert_eq!(receipt.unwrap()["status"], "0x1", "{hash}");
            }
        }
        self.gateway.has_counted(payments).await;
        self.gateway.chancery(&["audit", "verify"]).await.well();
        let twice = "SELECT count(*) FROM reservation WHERE state IN ('recorded', 'final') GROUP BY nonce HAVING count(*) > 1";
        assert_eq!(self.server.psql(&self.database, twice), "");
    }
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
        sleep(Duration::from_secs(number_of("CHANCERY_STOPPED_SECONDS", 7))).await;
        two.process.signal(Signal::CONT);
        others
    };
    let (mut hashes, others) = tokio::join!(futures_util::future::join_all(running), stopped);
    hashes.extend(others);
    shared.is_whole(12, &hashes.into_iter().collect()).await;
}

/// What the leading replica recorded and could not send is sent by another, once the lead is its own.
#[tokio::test]
async fn inv_13_the_work_of_a_replica_that_died_is_adopted() {
    let mut shared = Shared::start(Server::shared(), free_port()).await;
    shared.gateway.node().fail("eth_sendRawTransaction", Fault::Drop);
    let two = shared.gateway.replica("two").await;
    let hash = shared.gateway.client("trader").send(shared.payment(1)).await.unwrap();
    shared.gateway.kill().await;
    shared.gateway.node().heal();
    let next = insist(|| shared.trader(two.address), shared.payment(2), "next".to_owned()).await;
    shared.is_whole_at(2, &[hash.as_str().unwrap().to_owned(), next].into(), two.address).await;
}

/// One of two seals the rows of both; when it is gone the other goes on where it ended.
#[tokio::test]
async fn inv_14_the_rows_of_all_replicas_are_sealed_in_one_sequence_whoever_leads() {
    let (world, seal) = sealed().await;
    let mut shared = Shared::start_in(world, Server::shared(), free_port()).await;
    let second = |config: String| config.replace("out/checkpoints.jsonl", "out/two.jsonl");
    let two = shared.gateway.replica_with("two", second).await;
    let one = shared.gateway.world.address();
    let pushed = |gateway: &Gateway, name: &str| {
        std::fs::read_to_string(gateway.folder().join("out").join(name)).unwrap_or_default()
    };
    let is_sealed = async |gateway: &Gateway| {
        let last: i64 = shared
            .server
            .psql(&shared.database, "SELECT max(seq) FROM audit WHERE body LIKE '%\"kind\":\"transaction\"%'")
            .parse()
            .unwrap();
        eventually("all transactions are under a checkpoint", async || {
            let (verdict, code) = verify(gateway, &["--key", &seal]).await;
            assert_eq!(code, Some(0), "{verdict}");
            (verdict["holds"]["covered"].as_i64().unwrap() >= last).then_some(())
        })
        .await;
    };
    for (wei, address) in (1..).zip([one, two.address, one, two.address]) {
        shared.trader(address).send(shared.payment(wei)).await.unwrap();
    }
    is_sealed(&shared.gateway).await;
    assert_eq!(pushed(&shared.gateway, "two.jsonl"), "", "one of them leads");
    shared.gateway.kill().await;
    insist(|| shared.trader(two.address), shared.payment(5), "five".to_owned()).await;
    is_sealed(&shared.gateway).await;

    // It tells all of them anew, and its own after those.
    let first = pushed(&shared.gateway, "checkpoints.jsonl");
    let then = eventually("what the second seals is pushed", async || {
        Some(pushed(&shared.gateway, "two.jsonl")).filter(|then| then.len() > first.len())
    })
    .await;
    assert!(!first.is_empty() && then.starts_with(&first), "{first}\n{then}");
    let (verdict, code) = verify(&shared.gateway, &["--checkpoints", "out/two.jsonl", "--key", &seal]).await;
    assert_eq!(code, Some(0), "{verdict}");
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
async fn inv_13_connections_to_the_database_are_cut_again_and_again() {
    let shared = Shared::start(Server::shared(), free_port()).await;
    let two = shared.gateway.replica("two").await;
    let addresses = [shared.gateway.world.address(), two.address];
    let shared = &shared;
    let payments = (0..16_u64).map(|number| {
        let address = addresses[usize::try_from(number % 2).unwrap()];
        insist(move || shared.trader(address), shared.payment(300 + number), format!("cut-{number}"))
    });
    let cut = async {
        for _ in 0..8 {
            sleep(Duration::from_millis(150)).await;
            let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            shared.server.psql(&shared.database, all);
        }
    };
    let (hashes, ()) = tokio::join!(futures_util::future::join_all(payments), cut);
    shared.is_whole(16, &hashes.into_iter().collect()).await;
}

/// Its reservations are void by the time that it is heard again, and the other replica's go on.
#[tokio::test]
async fn inv_13_the_network_to_the_database_loses_everything_for_a_while() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (server, port) = Server::with_tls(&certificate.cert.pem(), &certificate.signing_key.serialize_pem());
    let server = Arc::new(server);
    let front = free_port();
    let shared = Shared::start(Arc::clone(&server), front).await;
    // The other one reaches the database through the network, which is its alone.
    let two = shared.gateway.replica_with("two", |config| {
        let ours = server.url(&shared.database);
        config.replace(&ours, &format!("postgres://chancery@127.0.0.1:{port}/{}", shared.database))
    });
    let two = two.await;
    let shared = &shared;
    let (one, two) = (shared.gateway.world.address(), two.address);
    let mut hashes =
        BTreeSet::from([insist(|| shared.trader(two), shared.payment(400), "before".to_owned()).await]);
    let lost = LostPackets::to(port);
    let cut_off = (1..4_u64).map(|number| {
        insist(move || shared.trader(two), shared.payment(400 + number), format!("lost-{number}"))
    });
    let meanwhile = async {
        let mut hashes = Vec::new();
        for number in 0..4 {
            let key = format!("meanwhile-{number}");
            hashes.push(insist(|| shared.trader(one), shared.payment(500 + number), key).await);
        }
        sleep(Duration::from_secs(8)).await;
        drop(lost);
        hashes
    };
    let (later, meanwhile) = tokio::join!(futures_util::future::join_all(cut_off), meanwhile);
    hashes.extend(later.into_iter().chain(meanwhile));
    shared.is_whole(8, &hashes).await;
}

/// One account, by many clients and two replicas: every nonce once, and none left out.
#[tokio::test]
async fn inv_02_many_clients_send_of_one_account_through_two_replicas() {
    let (clients, each) = (number_of("CHANCERY_CLIENTS", 8), number_of("CHANCERY_SENDS_EACH", 8));
    let front = free_port();
    // A block for each would keep the node busier than us.
    let world = World::with_node(Node::start_with(&["--block-time", "1"]).await).await;
    let world = world.replace("[ledger]", "[ledger]\nmax_open = 2000");
    let shared = Shared::start_in(world, Server::shared(), front).await;
    let two = shared.gateway.replica("two").await;
    let folder = shared.gateway.folder().to_owned();
    let _balancer = balancer(front, &[shared.gateway.world.address(), two.address], &folder).await;
    let front = SocketAddr::from(([127, 0, 0, 1], front));
    let shared = &shared;
    let senders = (0..clients).map(|client| async move {
        let mut hashes = Vec::new();
        for number in 0..each {
            let wei = 1000 + client * each + number;
            let key = format!("client-{client}-{number}");
            hashes.push(insist(|| shared.trader(front), shared.payment(wei), key).await);
        }
        hashes
    });
    let began = Instant::now();
    let hashes = futures_util::future::join_all(senders).await;
    println!("{clients} clients x {each} sends through two replicas in {:?}", began.elapsed());
    shared.is_whole(clients * each, &hashes.into_iter().flatten().collect()).await;
}

/// Nothing passes to a port of this machine, in either direction, until this is dropped: a table of nftables of its own.
struct LostPackets {
    table: String,
}

impl LostPackets {
    fn to(port: u16) -> Self {
        let lost = Self { table: format!("chancery_test_{port}") };
        let table = &lost.table;
        nft(&format!(
            "add table inet {table}; \
             add chain inet {table} out {{ type filter hook output priority 0 ; }}; \
             add rule inet {table} out oif lo tcp dport {port} drop; \
             add rule inet {table} out oif lo tcp sport {port} drop"
        ));
        lost
    }
}

impl Drop for LostPackets {
    fn drop(&mut self) {
        nft(&format!("delete table inet {}", self.table));
    }
}

/// Filtering packets is root's.
fn nft(rules: &str) {
    let (program, arguments): (_, &[&str]) =
        if rustix::process::geteuid().is_root() { ("nft", &[]) } else { ("sudo", &["-n", "nft"]) };
    let done = std::process::Command::new(program).args(arguments).arg(rules).output();
    let done = done.expect("nft (nftables) is needed");
    assert!(done.status.success(), "{rules}: {}", String::from_utf8_lossy(&done.stderr));
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
