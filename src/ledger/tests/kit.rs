//! A ledger on a real file, software keys instead of a token, and the fewest words to make a permission.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use k256::ecdsa::SigningKey;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use crate::clock::{Clock, Timestamp};
use crate::config::{self, Client};
use crate::identity::{AccountCaller, Caller, IdempotencyKey, RequestId};
use crate::ledger::command::Command;
use crate::ledger::db::{Db, batch, query};
use crate::ledger::lock::prepare;
use crate::ledger::writer::Writer;
use crate::ledger::{
    Claim, Ledger, LedgerError, Location, Purpose, Recorded, ReserveError, Reserved, Signed,
};
use crate::policy::{Evidence, Permitted, Policy, Replace, World};
use crate::transaction::{
    AccountKey, Fees, Kind, Message, Quote, QuotedFees, Request, Text, Tx, address_of_point,
};

pub const CHAIN: u64 = 31337;
pub const POLICY: B256 = B256::repeat_byte(7);
pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const ALLOW_ALL: &str = r#"
[[rule]]
id            = "all"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["any"]
from          = ["any"]
to            = ["any"]
call          = "any"
value         = { max = "1000 ether" }
execution_fee = { max = "1 ether" }

[[rule]]
id      = "say"
effect  = "allow"
kind    = "message"
clients = ["any"]
from    = ["any"]
text    = "any"
"#;

/// Longer than any test waits for a signature.
pub const PATIENT: Duration = Duration::from_secs(6);

pub struct Desk {
    pub ledger: Ledger,
    pub file: PathBuf,
    folder: TempDir,
}

/// What a client asks for; a transfer of one wei with nothing else set, to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub client: &'static str,
    pub seed: u8,
    pub request: u128,
    pub value: u64,
    pub nonce: Option<u64>,
    /// Fees that the client set: the most for a unit of gas, all of it the proposer's.
    pub fee: Option<u64>,
    /// What we were told to fill in at least, after an earlier payload at the nonce.
    pub floor: Option<Fees>,
    pub mined: u64,
    pub policy: B256,
    pub replace: Replace,
    pub key: Option<&'static str>,
    pub is_bump: bool,
    /// Seconds of the client's `repeat_window`.
    pub window: Option<u64>,
}

pub const ASK: Ask = Ask {
    client: "alice",
    seed: 1,
    request: 1,
    value: 1,
    nonce: None,
    fee: None,
    floor: None,
    mined: 0,
    policy: POLICY,
    replace: Replace::Never,
    key: None,
    is_bump: false,
    window: None,
};

impl Desk {
    pub async fn open(deadline: Duration) -> Self {
        Self::at(tempfile::tempdir().unwrap(), deadline, START).await.unwrap()
    }

    pub async fn at(folder: TempDir, deadline: Duration, now: Timestamp) -> Result<Self, LedgerError> {
        let file = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open(&config(&file), deadline, Clock::set_to(now)).await?;
        ledger.activate_policy(POLICY, "allow all").await?;
        Ok(Self { ledger, file, folder })
    }

    /// Closes the ledger; what is left is the folder.
    pub async fn close(self) -> TempDir {
        self.ledger.close().await;
        self.folder
    }

    /// What the disk holds at this moment, as a process that is killed leaves it.
    pub fn killed(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
            std::fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    /// The whole road, but for the policy and the network.
    pub async fn send(&self, ask: Ask) -> Result<Recorded<Tx>, ReserveError> {
        send(&self.ledger, ask).await
    }

    /// A reservation that must be new.
    pub async fn reserve(&self, ask: Ask) -> Reserved<Tx> {
        fresh(self.ledger.reserve(ask.permitted(), Purpose::Send).await.unwrap())
    }

    /// What is to be sent until the chain has decided of it.
    pub async fn live(&self) -> Vec<Recorded<Tx>> {
        let unsettled = self.ledger.unsettled(CHAIN).await.unwrap();
        unsettled.into_iter().filter(|recorded| recorded.standing().is_live()).collect()
    }

    /// What is recorded already, as whoever sends it again finds it.
    pub async fn again(&self, sent: &Recorded<Tx>) -> Recorded<Tx> {
        let open = self.ledger.unsettled(CHAIN).await.unwrap();
        open.into_iter().find(|open| open.hash() == sent.hash()).unwrap()
    }

    /// The nonces that the audit says somebody else used.
    pub async fn external(&self) -> Vec<(u64, u64)> {
        let filter =
            crate::ledger::Filter { kind: Some("external".to_owned()), ..crate::ledger::Filter::default() };
        let rows = crate::ledger::show(&self.file, &filter).await.unwrap();
        let number = |body: &serde_json::Value, name: &str| body[name].as_u64().unwrap();
        let bodies = rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(&row.body).unwrap());
        bodies.map(|body| (number(&body, "first"), number(&body, "last"))).collect()
    }

    /// What nodes said, by the audit chain, oldest first.
    pub async fn words(&self) -> Vec<String> {
        // After what is still queued.
        self.ledger.ready().await.unwrap();
        let filter =
            crate::ledger::Filter { kind: Some("outcome".to_owned()), ..crate::ledger::Filter::default() };
        let rows = crate::ledger::show(&self.file, &filter).await.unwrap();
        let bodies = rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(&row.body).unwrap());
        bodies.map(|body| body["outcome"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn sql(&self, statement: &'static str) {
        sql(&self.file, statement).await;
    }

    /// What the ledger says of every reservation, oldest first.
    pub async fn states(&self) -> Vec<String> {
        self.ledger.ready().await.unwrap();
        let mut db = connect(&self.file).await;
        let rows = query("SELECT state FROM reservation ORDER BY id").fetch_all(&mut db).await.unwrap();
        rows.iter().map(|row| row.get("state").unwrap()).collect()
    }
}

impl Ask {
    pub fn permitted(self) -> Permitted<Tx> {
        let nonce = self.nonce.map(|nonce| format!(r#","nonce":"{nonce:#x}""#)).unwrap_or_default();
        let fee =
            self.fee.map(|fee| format!(r#","maxFeePerGas":"{fee:#x}","maxPriorityFeePerGas":"{fee:#x}""#));
        let params = format!(
            r#"[{{"from":"{from}","to":"{from}","gas":"0x5208","value":"{value:#x}"{nonce}{fee}}}]"#,
            from = address(self.seed),
            value = self.value,
            fee = fee.unwrap_or_default(),
        );
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 7, gas_price: 107 };
        let quote = Quote { chain_id: CHAIN, mined: self.mined, gas: None, fees: Some(fees) };
        let filled = Request::parse(Some(&params)).unwrap().fill(&quote, self.floor.as_ref()).unwrap();
        let permitted = Permitted::for_test(filled, self.caller(), self.policy);
        permitted
            .by_for_test(if self.is_bump { "chancery: bump" } else { "test" })
            .replacing_for_test(self.replace)
    }

    /// As `policy` permits it, with what it takes from its budgets.
    pub fn judged(self, policy: &Policy) -> Permitted<Tx> {
        policy.decide(&self.caller(), self.permitted().into_asked(), Evidence::default()).unwrap()
    }

    pub fn message(self, text: &'static str) -> Permitted<Message> {
        let text = Text::new(address(self.seed), Bytes::from_static(text.as_bytes()));
        Permitted::for_test(text, self.caller(), self.policy)
    }

    pub fn caller(self) -> AccountCaller {
        let account = address(self.seed);
        let client = Client {
            name: self.client.to_owned(),
            identity: self.client.to_owned(),
            issuer: config::OWN_ISSUER.to_owned(),
            role: None,
            person: None,
            accounts: vec![account],
            origins: Vec::new(),
            repeat_window: self.window.map(Duration::from_secs),
        };
        let key = self.key.map(|key| IdempotencyKey::parse(key.as_bytes()).unwrap());
        let caller = Caller::new(Arc::new(client), RequestId::from_number(self.request)).with_key(key);
        caller.for_account(account).unwrap()
    }
}

pub fn config(file: &Path) -> config::Ledger {
    config::Ledger {
        path: file.to_owned(),
        url: None,
        max_open: 64,
        fill_gaps: None,
        min_free: 0,
        show_pause_reason: false,
        keys_kept: Duration::from_secs(86_400),
    }
}

/// The whole road, but for the policy and the network.
pub async fn send(ledger: &Ledger, ask: Ask) -> Result<Recorded<Tx>, ReserveError> {
    match ledger.reserve(ask.permitted(), Purpose::Send).await? {
        Claim::Fresh(reserved) => Ok(ledger.record(sign(reserved)).await.unwrap()),
        Claim::Known(recorded) => Ok(recorded),
    }
}

/// A writer that runs only where a test lets it.
pub async fn writer(file: &Path) -> Writer {
    let config = config(file);
    let lock = prepare(&config).unwrap();
    Writer::start(&config, lock, Clock::set_to(START), PATIENT).await.unwrap()
}

/// Does what is queued, in one commit, as the writer's own loop does.
pub async fn turn(writer: &mut Writer, queue: &mut Receiver<Command>) {
    let mut batch = Vec::new();
    queue.recv_many(&mut batch, 256).await;
    writer.group(batch, false).await;
}

pub fn fresh<K: Kind>(claim: Claim<K>) -> Reserved<K> {
    match claim {
        Claim::Fresh(reserved) => reserved,
        Claim::Known(known) => panic!("known already: {known:?}"),
    }
}

pub fn known<K: Kind>(claim: Claim<K>) -> Recorded<K> {
    match claim {
        Claim::Known(known) => known,
        Claim::Fresh(reserved) => panic!("signed again: {reserved:?}"),
    }
}

pub fn sign<K: Kind>(reserved: Reserved<K>) -> Signed<K> {
    let key = (1..=u8::MAX).find(|seed| address(*seed) == reserved.from()).map(key).unwrap();
    let (signature, _) = key.sign_prehash_recoverable(reserved.digest().as_slice()).unwrap();
    let key = AccountKey::new(reserved.from());
    reserved.seal(&signature.to_bytes().into(), &key).unwrap()
}

pub fn address(seed: u8) -> Address {
    address_of_point(key(seed).verifying_key().to_encoded_point(false).as_bytes()).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "scripts/test says how long it may take")]
/// A number that `scripts/test --full` sets for what takes long.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Lets others have the processor first: this thread, and those that it starts, work for a long time, beside tests that go by
/// the clock.
pub fn stand_back() {
    rustix::process::nice(19).unwrap();
}

/// Somebody else's hand in the file.
pub async fn connect(file: &Path) -> Db {
    Location::from(file).connect().await.unwrap()
}

pub async fn sql(file: &Path, statement: &'static str) {
    batch(&mut connect(file).await, statement).await.unwrap();
}

/// A policy that allows everything, with these budgets.
pub fn policy(budgets: &str) -> Arc<Policy> {
    let client = |name| Ask { client: name, ..ASK }.caller().client().clone();
    let accounts = [("treasury".to_owned(), address(1)), ("second".to_owned(), address(2))].into();
    let world = World { chains: vec![CHAIN], accounts, clients: ["alice", "bob"].map(client).into() };
    Arc::new(Policy::of_text(&format!("{ALLOW_ALL}{budgets}"), &world))
}
