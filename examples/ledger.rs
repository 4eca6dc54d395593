//! What the ledger costs, for `scripts/bench ledger`: reservations and records as fast as they are answered, against
//! single rows that are committed one after the other in the same database. Not part of the program; it prints one line of
//! JSON.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for measuring may stop where it stands, and says what it found"
)]

#[allow(dead_code, reason = "each of the programs that include this file uses a part of it")]
#[path = "../src/ledger/tests/server.rs"]
mod server;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use chancery::clock::Clock;
use chancery::config::{self, Client};
use chancery::identity::{AccountCaller, Caller, RequestId};
use chancery::ledger::{self, Claim, Final, Ledger, Location, Outcome, Purpose};
use chancery::policy::{Evidence, Policy, World};
use chancery::secret::SecretUrl;
use chancery::transaction::{AccountKey, Quote, QuotedFees, Request, Tx, address_of_point};
use clap::{Parser, ValueEnum};
use k256::ecdsa::SigningKey;
use serde_json::json;
use server::Server;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

/// As the program has it: memory and time are measured with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHAIN: u64 = 31337;

/// Each task has an account of its own: nonces are not what is measured.
#[derive(Parser)]
struct Bench {
    #[arg(long, value_enum)]
    store: Store,
    /// On the disk that is measured
    #[arg(long)]
    folder: std::path::PathBuf,
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    #[arg(long, default_value_t = 64)]
    tasks: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Goes on until there are so many transactions
    #[arg(long, default_value_t = 0)]
    least: usize,
}

/// How long the sends were kept, in steps of a twentieth of a millisecond up to a second: it takes the same room however many
/// there are, so that the memory beside it is the ledger's.
struct Waits {
    steps: Vec<u32>,
    count: usize,
}

impl Waits {
    const STEP: Duration = Duration::from_micros(50);
    const STEPS: usize = 20_000;

    fn new() -> Self {
        // Not of zeros as the system gives them: these pages are there from the start.
        Self {
            steps: std::hint::black_box(vec![1_u32; Self::STEPS]).into_iter().map(|one| one - 1).collect(),
            count: 0,
        }
    }

    fn add(&mut self, waited: Duration) {
        let step = (waited.as_micros() / Self::STEP.as_micros()) as usize;
        self.steps[step.min(Self::STEPS - 1)] += 1;
        self.count += 1;
    }

    fn percentile_ms(&self, share: usize) -> f64 {
        let (wanted, mut seen) = (self.count * share / 100, 0);
        let step = self.steps.iter().position(|count| {
            seen += *count as usize;
            seen > wanted
        });
        Self::STEP.as_secs_f64() * 1000.0 * (step.unwrap_or(Self::STEPS - 1) + 1) as f64
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Sqlite,
    Postgres,
}

struct Desk {
    policy: Arc<Policy>,
    clients: Vec<(SigningKey, AccountKey)>,
    client: Arc<Client>,
}

impl Desk {
    fn new(folder: &Path, tasks: usize) -> Self {
        let account = |number: usize| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let key = SigningKey::from_slice(&seed).unwrap();
            let address = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
            (key, AccountKey::new(address))
        };
        let clients: Vec<_> = (1..=tasks).map(account).collect();
        let client = Client {
            name: "bench".to_owned(),
            identity: "bench".to_owned(),
            issuer: config::OWN_ISSUER.to_owned(),
            role: None,
            person: None,
            accounts: clients.iter().map(|(_, account)| account.address()).collect(),
            origins: Vec::new(),
            repeat_window: None,
        };
        let named = clients
            .iter()
            .enumerate()
            .map(|(number, (_, account))| (format!("a{number}"), account.address()));
        let world = World { chains: vec![CHAIN], accounts: named.collect(), clients: vec![client.clone()] };
        let policies = folder.join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        let rule = "[[rule]]\nid = \"all\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 31337\nclients = [\"any\"]\n\
                    from = [\"any\"]\nto = [\"any\"]\ncall = \"any\"\nvalue = { max = \"1 ether\" }\n\
                    execution_fee = { max = \"1 ether\" }\n";
        std::fs::write(policies.join("main.toml"), rule).unwrap();
        let policy = Arc::new(Policy::load(&policies, &world).unwrap());
        Self { policy, clients, client: Arc::new(client) }
    }

    fn caller(&self, account: Address) -> AccountCaller {
        Caller::new(Arc::clone(&self.client), RequestId::random().unwrap()).for_account(account).unwrap()
    }

    /// A transaction from its reservation to its end. How long it was kept from being sent.
    async fn send(&self, ledger: &Ledger, (key, known): &(SigningKey, AccountKey), mined: u64) -> Duration {
        let account = known.address();
        let params = format!(r#"[{{"from":"{account}","to":"{account}","gas":"0x5208","value":"0x1"}}]"#);
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 107 };
        let quote = Quote { chain_id: CHAIN, mined, gas: None, fees: Some(fees) };
        let filled = Request::parse(Some(&params)).unwrap().fill(&quote, None).unwrap();
        let permitted = self.policy.decide::<Tx>(&self.caller(account), filled, Evidence::default()).unwrap();
        let began = Instant::now();
        let Claim::Fresh(reserved) = ledger.reserve(permitted, Purpose::Send).await.unwrap() else {
            panic!("known already")
        };
        let waited = began.elapsed();
        let (signature, _) = key.sign_prehash_recoverable(reserved.digest().as_slice()).unwrap();
        let signed = reserved.seal(&signature.to_bytes().into(), known).unwrap();
        let began = Instant::now();
        let recorded = ledger.record(signed).await.unwrap();
        let waited = waited + began.elapsed();
        ledger.outcome(&recorded, Outcome::Accepted).await.unwrap();
        ledger.settled(recorded.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
        waited
    }
}

fn config(path: &Path, url: Option<&str>) -> config::Ledger {
    config::Ledger {
        path: path.to_owned(),
        url: url.map(|url| SecretUrl::parse_database(url).unwrap()),
        max_open: 64,
        fill_gaps: None,
        min_free: 0,
        show_pause_reason: false,
        keys_kept: Duration::from_secs(86_400),
    }
}

const BARE: &str = "CREATE TABLE bare (at BIGINT NOT NULL, what TEXT NOT NULL)";
const ROW: &str = "INSERT INTO bare (at, what) VALUES ($1, $2)";

/// One row, one commit, one after the other: what a disk and a database can do.
fn single_rows_of_file(file: &Path, seconds: u64) -> f64 {
    let db = rusqlite::Connection::open(file).unwrap();
    db.execute_batch(&format!("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {BARE}")).unwrap();
    let mut row = db.prepare(ROW).unwrap();
    let (began, mut count) = (Instant::now(), 0_i64);
    while began.elapsed() < Duration::from_secs(seconds) {
        row.execute((count, "x".repeat(500))).unwrap();
        count += 1;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

async fn single_rows_of_server(url: &str, seconds: u64) -> f64 {
    let mut db = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(BARE).execute(&mut db).await.unwrap();
    let (began, mut count) = (Instant::now(), 0_i64);
    while began.elapsed() < Duration::from_secs(seconds) {
        sqlx::query(ROW).bind(count).bind("x".repeat(500)).execute(&mut db).await.unwrap();
        count += 1;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

#[tokio::main]
async fn main() {
    let bench = Bench::parse();
    let desk = Arc::new(Desk::new(&bench.folder, bench.tasks));
    let server = matches!(bench.store, Store::Postgres).then(Server::start);
    let url = server.as_ref().map(|server| server.url(&server.database()));
    let mut ledgers = Vec::new();
    for number in 0..bench.replicas {
        let config = config(&bench.folder.join(format!("ledger{number}.sqlite")), url.as_deref());
        let ledger = Ledger::open(&config, Duration::from_secs(6), Clock::system()).await.unwrap();
        ledger.activate(Arc::clone(&desk.policy)).await.unwrap();
        ledgers.push(ledger);
    }
    let bare = if let Some(server) = &server {
        single_rows_of_server(&server.url(&server.database()), bench.seconds).await
    } else {
        single_rows_of_file(&bench.folder.join("bare.sqlite"), bench.seconds)
    };
    let before = resident_mb();
    let waits = Arc::new(Mutex::new(Waits::new()));
    let until = Instant::now() + Duration::from_secs(bench.seconds);
    let began = Instant::now();
    let tasks: Vec<_> = (0..bench.tasks)
        .map(|number| {
            let (desk, ledger) = (Arc::clone(&desk), ledgers[number % ledgers.len()].clone());
            let (waits, least) = (Arc::clone(&waits), bench.least);
            tokio::spawn(async move {
                let mut mined = 0;
                while Instant::now() < until || waits.lock().unwrap().count < least {
                    let waited = desk.send(&ledger, &desk.clients[number], mined).await;
                    waits.lock().unwrap().add(waited);
                    mined += 1;
                }
            })
        })
        .collect();
    // Once all there is to fill has been filled: caches, pools and the database's own.
    tokio::time::sleep_until(began + Duration::from_secs(bench.seconds) / 5).await;
    let warm = resident_mb();
    for task in tasks {
        task.await.unwrap();
    }
    let took = began.elapsed();
    let after = resident_mb();
    for ledger in ledgers {
        ledger.close().await;
    }
    let waits = Arc::into_inner(waits).expect("all tasks are done").into_inner().unwrap();
    let at = match &url {
        Some(url) => Location::Server(SecretUrl::parse_database(url).unwrap()),
        None => Location::File(bench.folder.join("ledger0.sqlite")),
    };
    // The first look at rows is another's too: PostgreSQL notes on each that its transaction is over.
    let mut seconds = Vec::new();
    let mut verified = None;
    for _ in 0..3 {
        let began = Instant::now();
        verified = Some(ledger::verify(&at).await.unwrap().unwrap());
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let verified = verified.unwrap();
    let figures = json!({
        "count": waits.count,
        "per_second": waits.count as f64 / took.as_secs_f64(),
        "bare_per_second": bare,
        "p50_ms": waits.percentile_ms(50),
        "p99_ms": waits.percentile_ms(99),
        "rows": verified.rows,
        "verified_per_second": verified.rows as f64 / seconds[1],
        "memory_before_mb": before,
        "memory_warm_mb": warm,
        "memory_after_mb": after,
        "head": B256::to_string(&verified.head),
    });
    println!("{figures}");
}
