//! The one task that writes: takes what is queued, does it in one transaction, and answers after the commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use arc_swap::ArcSwapOption;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::config;
use crate::ledger::apply::{apply, retry, void};
use crate::ledger::audit::{Body, Head};
use crate::ledger::claims::{Parked, Reserve};
use crate::ledger::error::{said, unavailable};
use crate::ledger::group::{Answer, Windows, begin};
use crate::ledger::headroom::Headroom;
use crate::ledger::open::Inquiry;
use crate::ledger::pauses;
use crate::ledger::repeats::Repeat;
use crate::ledger::store::{self, Stored};
use crate::ledger::{
    Administration, Final, LedgerError, Outcome, Pause, PauseOrder, RecordError, RefusedRow, Voided,
};
use crate::policy::Policy;

/// How many commands one commit takes at most.
const GROUP: usize = 256;

/// How often the writer looks for reservations whose signature did not come, and for claims that waited enough.
const SWEEP: Duration = Duration::from_millis(100);

/// How long a writer that failed leaves its own upkeep alone.
const REST: Duration = Duration::from_secs(1);

pub(in crate::ledger) use crate::ledger::group::Group;

pub(in crate::ledger) type Reply<T> = oneshot::Sender<T>;

/// What the writer can be asked for.
#[derive(Debug)]
pub(in crate::ledger) enum Command {
    Reserve(Box<Reserve>),
    /// Whether this was asked before, under the same name.
    Earlier(Box<Repeat>),
    Record {
        id: i64,
        raw: Bytes,
        hash: B256,
        reply: Reply<Result<(), RecordError>>,
    },
    Void {
        id: i64,
        why: String,
        reply: Reply<Result<Voided, LedgerError>>,
    },
    Outcome {
        id: i64,
        outcome: Outcome,
        reply: Reply<Result<(), LedgerError>>,
    },
    Settled {
        id: i64,
        last: Final,
        reply: Reply<Result<(), LedgerError>>,
    },
    Refused {
        row: Box<RefusedRow>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Note {
        note: Box<crate::ledger::Note>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Policy {
        hash: B256,
        text: String,
        policy: Arc<Policy>,
        reply: Reply<Result<(), LedgerError>>,
    },
    Pause {
        order: PauseOrder,
        by: Administration,
        reply: Reply<Result<bool, LedgerError>>,
    },
    Resume {
        order: PauseOrder,
        by: Administration,
        reply: Reply<Result<bool, LedgerError>>,
    },
    Pauses {
        reply: Reply<Result<Vec<Pause>, LedgerError>>,
    },
    Unsettled {
        reply: Reply<Result<Vec<Stored>, LedgerError>>,
    },
    Next {
        chain: u64,
        account: Address,
        mined: u64,
        reply: Reply<Result<u64, LedgerError>>,
    },
    Nonces(Inquiry),
    /// Writes nothing but proves that it could: takes the write lock and commits.
    Ready {
        reply: Reply<Result<(), LedgerError>>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// Why the last commit failed; nothing while commits succeed.
pub(in crate::ledger) type Failure = Arc<ArcSwapOption<LedgerError>>;

pub(in crate::ledger) struct Writer {
    pub db: SqliteConnection,
    path: PathBuf,
    clock: Clock,
    /// From a reservation to its record; past it the reservation is void.
    deadline: Duration,
    /// `None` after a failed commit: read again before anything is written.
    head: Option<Head>,
    rules: Rules,
    /// Claims that wait for a signature or a lower nonce.
    parked: Vec<Parked>,
    /// The reservations that may still be recorded, and when each is void. By the monotonic clock: a wall clock
    /// that steps back must not keep a nonce.
    live: BTreeMap<i64, Instant>,
    /// After a failure: when the writer tries again by itself. A command is tried at once.
    rest_until: Option<Instant>,
    failure: Failure,
    headroom: Headroom,
    /// One writer at a time: held until the file is closed; the kernel lets go of it when the process dies.
    lock: File,
}

/// What a claim is held against inside its commit.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Rules {
    /// The policy in force; a claim that was judged by another is judged again.
    pub policy: Option<B256>,
    pub max_open: u32,
    /// Whether a client is told why it is paused.
    pub show_pause_reason: bool,
    pub keys_kept: Duration,
    pub windows: Windows,
}

type Sql<T> = Result<T, sqlx::Error>;

impl Writer {
    pub(in crate::ledger) async fn start(
        config: &config::Ledger,
        lock: File,
        clock: Clock,
        deadline: Duration,
    ) -> Result<Self, LedgerError> {
        let path = config.path.clone();
        let failed = |error| LedgerError::Open { path: path.clone(), why: said(&error) };
        let mut db = store::open(&path).await.map_err(failed)?;
        let (head, last) = store::head(&mut db).await.map_err(unavailable)?;
        match last {
            Some(last) if (last.seq, last.hash) == (head.seq, head.hash) && last.is_whole() => {}
            None if head == Head::START => {}
            _ => return Err(LedgerError::Broken("its end is not as it was written".to_owned())),
        }
        let mut writer = Self {
            db,
            path,
            clock,
            deadline,
            head: Some(head),
            rules: Rules {
                policy: None,
                max_open: config.max_open,
                show_pause_reason: config.show_pause_reason,
                keys_kept: config.keys_kept,
                windows: Windows::default(),
            },
            parked: Vec::new(),
            live: BTreeMap::new(),
            rest_until: None,
            failure: Failure::default(),
            headroom: Headroom::new(&config.path, config.min_free),
            lock,
        };
        writer.restart().await.map_err(unavailable)?;
        Ok(writer)
    }

    /// Nothing that was reserved before a restart can be signed any more: its task is gone.
    async fn restart(&mut self) -> Sql<()> {
        let orphans = store::unrecorded(&mut self.db).await?;
        let mut group = begin(&mut self.db, &self.path, &self.clock, self.head, &self.rules.windows).await?;
        pauses::show(&pauses::all(group.db).await?);
        for id in &orphans {
            void(&mut group, *id, "the process ended before the signature came").await?;
        }
        group.audit(&Body::Started { version: env!("CARGO_PKG_VERSION"), voided: orphans.len() }).await?;
        store::commit(group.db).await?;
        self.head = Some(group.head);
        Ok(())
    }

    pub(in crate::ledger) fn failure(&self) -> Failure {
        Arc::clone(&self.failure)
    }

    /// Runs until it is closed or nobody can ask any more.
    pub(in crate::ledger) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(GROUP);
        let mut closing = None;
        while closing.is_none() {
            // A quiet ledger still voids what was never signed.
            let received = if self.parked.is_empty() && self.live.is_empty() {
                commands.recv_many(&mut batch, GROUP).await
            } else {
                timeout(SWEEP, commands.recv_many(&mut batch, GROUP)).await.unwrap_or(1)
            };
            if received == 0 {
                break;
            }
            let mut work = Vec::with_capacity(batch.len());
            for command in batch.drain(..) {
                match command {
                    Command::Close { reply } => closing = Some(reply),
                    other => work.push(other),
                }
            }
            self.group(work, closing.is_some()).await;
        }
        if let Err(error) = store::close(self.db).await {
            tracing::warn!(%error, "the ledger's file was not closed in order; nothing is lost");
        }
        drop(self.lock);
        if let Some(reply) = closing {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    pub(in crate::ledger) async fn group(&mut self, mut work: Vec<Command>, closing: bool) {
        let now = Instant::now();
        let waits = |parked: &Parked| parked.is_expired(now) || parked.is_abandoned();
        let is_due = self.live.values().any(|until| *until <= now) || self.parked.iter().any(waits);
        let rests = self.rest_until.is_some_and(|until| now < until);
        if work.is_empty() && !closing && (rests || !is_due) {
            return;
        }
        self.headroom.keep(&mut work);
        let mut answers = Vec::new();
        let committed = self.transaction(work, closing, &mut answers).await;
        let committed = committed.map_err(|error| {
            tracing::error!(%error, "the ledger could not be written; nothing is signed meanwhile");
            metrics::counter!("chancery_ledger_failures_total").increment(1);
            unavailable(error)
        });
        self.failure.store(committed.as_ref().err().cloned().map(Arc::new));
        self.rest_until = committed.is_err().then(|| after(now, REST));
        if let Err(error) = &committed {
            store::roll_back(&mut self.db).await;
            self.head = None;
            for waits in self.parked.drain(..) {
                waits.refuse(error.clone());
            }
        }
        for answer in answers {
            if let Some(nobodys) = answer(committed.clone())
                && let Some(until) = self.live.get_mut(&nobodys)
            {
                *until = now;
            }
        }
    }

    /// All of `work` is done, or nothing is.
    async fn transaction(&mut self, work: Vec<Command>, closing: bool, answers: &mut Vec<Answer>) -> Sql<()> {
        let mut waiting = std::mem::take(&mut self.parked);
        let (mut rules, now) = (self.rules.clone(), Instant::now());
        let mut group = begin(&mut self.db, &self.path, &self.clock, self.head, &self.rules.windows).await?;
        if self.head.is_none() {
            // A reservation whose commit seemed to fail and did not: nobody was told of it, so nobody signs it.
            for id in store::unrecorded(group.db).await? {
                self.live.entry(id).or_insert(now);
            }
        }
        let due = self.live.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        let done = all(&mut group, (due, work, closing), &mut rules, &mut waiting).await;
        answers.append(&mut group.answers);
        self.parked = waiting;
        done?;
        self.head = Some(group.head);
        self.rules = rules;
        let until = after(Instant::now(), self.deadline);
        self.live.extend(group.opened.iter().map(|id| (*id, until)));
        for id in &group.closed {
            self.live.remove(id);
        }
        Ok(())
    }
}

async fn all(
    group: &mut Group<'_>,
    (due, work, closing): (Vec<i64>, Vec<Command>, bool),
    rules: &mut Rules,
    waiting: &mut Vec<Parked>,
) -> Sql<()> {
    for id in due {
        void(group, id, "no signature came in time").await?;
        // Also where it turns out to be recorded: it need not be looked at again.
        group.closed.push(id);
    }
    for command in work {
        apply(group, command, rules, waiting).await?;
    }
    retry(group, rules, waiting).await?;
    if closing {
        group.audit(&Body::Stopped {}).await?;
    }
    store::commit(group.db).await
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}
