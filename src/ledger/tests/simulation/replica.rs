//! One process: its writer, and the requests that are under way in it. All of it is gone when it is killed.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use crate::clock::{Clock, Timestamp};
use crate::identity::{Caller, RequestId};
use crate::ledger::command::Command;
use crate::ledger::db;
use crate::ledger::lock::prepare;
use crate::ledger::tests::kit::{self, ASK, Ask, CHAIN, PATIENT};
use crate::ledger::writer::Writer;
use crate::ledger::{Claim, Ledger, Location, Presented, RecordError, Recorded, ReserveError, Reserved};
use crate::transaction::Tx;

/// Where the rows are: a file that one process writes, or one that several share, as replicas do a server. What a server
/// has beside its rows, the file has here: a lock for the transaction that writes, and one clock.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    shared: Option<Clock>,
}

impl Site {
    /// A ledger that is made and closed already, so that a run need not wait for that.
    pub fn new(template: &[u8], shared: Option<Clock>) -> Self {
        let folder = folder();
        std::fs::write(folder.path().join(FILE), template).unwrap();
        Self { folder, shared }
    }

    pub async fn template() -> Vec<u8> {
        let site = Self::new(&[], None);
        let mut writer = site.writer(0, Clock::set_to(kit::START)).await;
        writer.group(Vec::new(), true).await;
        let copy = site.killed();
        drop(writer);
        let merged = kit::connect(&copy.file()).await;
        db::close(merged).await.unwrap();
        std::fs::read(copy.file()).unwrap()
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join(FILE)
    }

    pub async fn writer(&self, replica: usize, clock: Clock) -> Writer {
        let mut config = kit::config(&self.file());
        config.keys_kept = std::time::Duration::from_secs(1_000_000);
        if self.shared.is_some() {
            // What each process has for itself: its lock and its watermark.
            config.path = self.folder.path().join(format!("replica{replica}"));
        }
        let (lock, at) = (prepare(&config).unwrap(), Location::File(self.file()));
        Writer::start_on(at, self.shared.is_some(), &config, lock, (clock, PATIENT)).await.unwrap()
    }

    /// The clock of a process that starts when its machine says that it is `wall`.
    pub fn clock(&self, wall: Timestamp) -> Clock {
        self.shared.clone().unwrap_or_else(|| Clock::set_to(wall))
    }

    /// What the disk holds when the process is killed.
    pub fn killed(&self) -> Self {
        let copy = folder();
        for name in [FILE, "ledger.sqlite-wal", "ledger.sqlite.watermark"] {
            // The others are there when something was written.
            let _ = std::fs::copy(self.folder.path().join(name), copy.path().join(name));
        }
        Self { folder: copy, shared: self.shared.clone() }
    }
}

const FILE: &str = "ledger.sqlite";

/// In memory where there is such a disk: this is about the order of commits; `durable.rs` is about the disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub type Doing = Pin<Box<dyn Future<Output = Done>>>;

pub enum Done {
    Claimed(Result<Claim<Tx>, ReserveError>),
    Recorded(Result<Recorded<Tx>, RecordError>),
    /// What is to be handed to the node.
    Open(Vec<Recorded<Tx>>),
    Nothing,
}

/// A request on its way.
pub struct Task {
    pub ask: Ask,
    pub stage: Stage,
    pub age: u32,
}

pub enum Stage {
    Waits(Doing),
    AtToken(Box<Reserved<Tx>>),
}

pub struct Replica {
    pub writer: Writer,
    pub ledger: Ledger,
    pub queue: Receiver<Command>,
    pub clock: Clock,
    pub tasks: Vec<Task>,
    /// Recorded, and not yet handed to the node.
    pub outbox: Vec<Recorded<Tx>>,
    pub policy: usize,
}

impl Replica {
    pub async fn start(site: &Site, (at, wall): (usize, Timestamp), policy: usize) -> Self {
        let clock = site.clock(wall);
        let writer = site.writer(at, clock.clone()).await;
        let (ledger, queue) = Ledger::over(&writer, PATIENT);
        Self { writer, ledger, queue, clock, tasks: Vec::new(), outbox: Vec::new(), policy }
    }

    /// Begins something: it comes as far as it gets without the writer. What is told a node's word may need no answer.
    pub fn begin<F: Future<Output = Done> + 'static>(&mut self, ask: Ask, doing: impl FnOnce(Ledger) -> F) {
        let mut doing: Doing = Box::pin(tokio::task::coop::unconstrained(doing(self.ledger.clone())));
        match poll(&mut doing) {
            None => self.tasks.push(Task { ask, stage: Stage::Waits(doing), age: 0 }),
            Some(done) => assert!(matches!(done, Done::Nothing), "nobody has answered yet"),
        }
    }
}

pub fn poll(doing: &mut Doing) -> Option<Done> {
    match doing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Whatever is open, in hand: sent again by us, or, where a node has refused it, handed in by its client.
pub async fn take_up(ledger: Ledger) -> Done {
    let open: Vec<Recorded<Tx>> = ledger.unsettled(CHAIN).await.unwrap_or_default();
    let taken = join_all(open.iter().map(async |one| {
        if one.standing().is_live() {
            return ledger.take_up::<Tx>(one.id()).await.ok().flatten();
        }
        let caller = Caller::new(Arc::new(ASK.caller().client().clone()), RequestId::from_number(1));
        let place = (CHAIN, one.from(), one.nonce().unwrap_or_default());
        match ledger.presented(&caller, (place, one.hash()), true).await.ok().flatten() {
            Some(Presented::Ours(recorded)) => Some(recorded).filter(Recorded::is_in_hand),
            _ => None,
        }
    }));
    Done::Open(taken.await.into_iter().flatten().collect())
}
