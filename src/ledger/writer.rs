//! The one task that writes: takes what is queued, does it in one transaction, and answers after the commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::clock::{Clock, after, later};
use crate::config;
use crate::ledger::LedgerError;
use crate::ledger::agreed::{self, Lead};
use crate::ledger::apply::{apply, retry, void};
use crate::ledger::audit::{Body, Head};
use crate::ledger::chain_store::{self, End};
use crate::ledger::claims::Parked;
use crate::ledger::command::Command;
use crate::ledger::db::{self, Db, Location, Sql, SqlError};
use crate::ledger::error::unavailable;
use crate::ledger::gather::{GROUP, gather};
use crate::ledger::group::{Answer, Known, Time, begin};
use crate::ledger::headroom::Headroom;
use crate::ledger::others::Others;
use crate::ledger::pauses;
use crate::ledger::store;
use crate::ledger::watermark::Watermark;

/// How often the writer looks for reservations whose signature did not come, and for claims that waited enough.
const SWEEP: Duration = Duration::from_millis(100);

/// How often the writer of a shared ledger looks what others have left.
const SHARED_SWEEP: Duration = Duration::from_secs(1);

/// How long a server may take over one transaction. Whoever waits for its answer waits a little longer.
const TRANSACTION: Duration = Duration::from_secs(8);

/// How long a writer that failed leaves its own upkeep alone.
const REST: Duration = Duration::from_secs(1);

pub(in crate::ledger) use crate::ledger::group::Group;
pub(in crate::ledger) use crate::ledger::rules::Rules;

/// Why the last commit failed; nothing while commits succeed.
pub(in crate::ledger) type Failure = Arc<ArcSwapOption<LedgerError>>;

pub(in crate::ledger) struct Writer {
    pub db: Db,
    /// What was under way on the connection may be so still: nothing more is done there. (A second guard: the server begins no
    /// transaction of our kind within another.)
    is_lost: bool,
    at: Location,
    /// Whether other processes may write at the same time.
    is_shared: bool,
    /// The name of this process in the ledger.
    name: Arc<str>,
    time: Time,
    /// `None` after a failed commit, and where others write too: read again before anything is written.
    end: Option<End>,
    watermark: Watermark,
    /// From the last commit, where nobody else writes.
    known: Known,
    lead: Lead,
    /// When a shared ledger was looked at last.
    looked: Instant,
    rules: Rules,
    /// Claims that wait for a signature or a lower nonce.
    parked: Vec<Parked>,
    /// The reservations that may still be recorded, and when each is void. By the monotonic clock: a wall clock
    /// that steps back must not keep a nonce.
    live: BTreeMap<i64, Instant>,
    others: Others,
    /// After a failure: when the writer tries again by itself. A command is tried at once.
    rest_until: Option<Instant>,
    failure: Failure,
    headroom: Headroom,
    /// One writer at a time: held until the file is closed; the kernel lets go of it when the process dies.
    lock: File,
}

impl Writer {
    pub(in crate::ledger) async fn start(
        config: &config::Ledger,
        lock: File,
        clock: Clock,
        deadline: Duration,
    ) -> Result<Self, LedgerError> {
        let at = Location::from(config);
        let is_shared = at.is_shared();
        Self::start_on(at, is_shared, config, lock, (clock, deadline)).await
    }

    pub(in crate::ledger) async fn start_on(
        at: Location,
        is_shared: bool,
        config: &config::Ledger,
        lock: File,
        (clock, deadline): (Clock, Duration),
    ) -> Result<Self, LedgerError> {
        let failed = |error: SqlError| LedgerError::Open { at: at.clone(), why: error.to_string() };
        let unnamed = |error: getrandom::Error| LedgerError::Unavailable(error.to_string());
        let mut db = at.create().await.map_err(failed)?;
        let (head, last) = chain_store::head(&mut db).await.map_err(unavailable)?;
        match last {
            // Others may have gone on between the two looks.
            _ if is_shared => {}
            Some(last) if (last.seq, last.hash) == (head.seq, head.hash) && last.is_whole() => {}
            None if head == Head::START => {}
            _ => return Err(LedgerError::Broken("its end is not as it was written".to_owned())),
        }
        let mut writer = Self {
            db,
            is_lost: false,
            name: format!("{:08x}", getrandom::u32().map_err(unnamed)?).into(),
            time: Time::new(clock),
            end: None,
            watermark: Watermark::beside(&config.path, is_shared),
            known: Known::default(),
            lead: Lead::default(),
            looked: Instant::now(),
            rules: Rules {
                policy: None,
                max_open: config.max_open,
                show_pause_reason: config.show_pause_reason,
                keys_kept: config.keys_kept,
                deadline,
            },
            parked: Vec::new(),
            live: BTreeMap::new(),
            others: Others::default(),
            rest_until: None,
            failure: Failure::default(),
            headroom: Headroom::new(&config.path, config.min_free),
            at,
            is_shared,
            lock,
        };
        writer.restart().await.map_err(unavailable)?;
        Ok(writer)
    }

    /// Nothing that this file had reserved before a restart can be signed any more: its task is gone. What another
    /// process has reserved has its time.
    async fn restart(&mut self) -> Sql<()> {
        let known = (self.end, Known::default());
        let mut group = begin(&mut self.db, &self.at, &mut self.time, &self.name, known).await?;
        self.watermark.compare(&mut group).await?;
        pauses::show(&pauses::all(group.db).await?);
        let orphans = if self.is_shared { Vec::new() } else { store::unrecorded(group.db).await? };
        for id in &orphans {
            void(&mut group, *id, "the process ended before the signature came").await?;
        }
        let version = env!("CARGO_PKG_VERSION");
        let shared = self.is_shared;
        group.audit(&Body::Started { version, writer: group.writer, voided: orphans.len(), shared }).await?;
        let end = group.commit().await?;
        self.committed(end, true).await;
        Ok(())
    }

    /// What is true from a commit on.
    async fn committed(&mut self, end: End, now: bool) {
        self.end = Some(end).filter(|_| !self.is_shared);
        self.watermark.keep(end.head, now || self.is_shared).await;
    }

    pub(in crate::ledger) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Whether this process looks after what was sent; of a file there is one writer.
    pub(in crate::ledger) fn lead(&self) -> Option<Lead> {
        self.is_shared.then(|| self.lead.clone())
    }

    pub(in crate::ledger) fn failure(&self) -> Failure {
        Arc::clone(&self.failure)
    }

    /// Runs from now on. The writer of a file has a thread to itself: it waits for the disk most of the time.
    pub(in crate::ledger) fn begin(self, commands: mpsc::Receiver<Command>) -> Result<(), LedgerError> {
        if self.is_shared {
            let run = tokio::spawn(self.run(commands));
            tokio::spawn(async move {
                if run.await.is_err_and(|error| error.is_panic()) {
                    alarm();
                }
            });
            return Ok(());
        }
        let failed = |error: std::io::Error| LedgerError::Unavailable(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let work = move || {
            let run = std::panic::AssertUnwindSafe(|| runtime.block_on(self.run(commands)));
            if std::panic::catch_unwind(run).is_err() {
                alarm();
            }
        };
        thread.spawn(work).map(drop).map_err(failed)
    }

    /// Runs until it is closed or nobody can ask any more.
    pub(in crate::ledger) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(GROUP);
        let mut closing = None;
        while closing.is_none() {
            // A quiet ledger still voids what was never signed.
            let sweep = match (self.parked.is_empty() && self.live.is_empty(), self.is_shared) {
                (false, _) => Some(SWEEP),
                (true, true) => Some(SHARED_SWEEP),
                (true, false) => None,
            };
            let received = match sweep {
                None => commands.recv_many(&mut batch, GROUP).await,
                Some(sweep) => timeout(sweep, commands.recv_many(&mut batch, GROUP)).await.unwrap_or(1),
            };
            if received == 0 {
                break;
            }
            if !self.is_shared {
                gather(&mut commands, &mut batch).await;
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
        if let Err(error) = db::close(self.db).await {
            tracing::warn!(%error, "the ledger's database was not closed in order; nothing is lost");
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
        let mut is_due = self.live.values().any(|until| *until <= now) || self.parked.iter().any(waits);
        if self.is_shared {
            let unseen = now.saturating_duration_since(self.looked) >= SHARED_SWEEP;
            is_due = is_due || unseen || !self.parked.is_empty();
        }
        let rests = self.rest_until.is_some_and(|until| now < until);
        if work.is_empty() && !closing && (rests || !is_due) {
            return;
        }
        self.headroom.keep(&mut work);
        let mut answers = Vec::new();
        let committed = if self.is_shared {
            let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer");
            let done = timeout(TRANSACTION, self.transaction(work, closing, &mut answers)).await;
            done.unwrap_or_else(|_| Err(SqlError::Io(late())))
        } else {
            self.transaction(work, closing, &mut answers).await
        };
        let committed = committed.map_err(|error| {
            tracing::error!(%error, "the ledger could not be written; nothing is signed meanwhile");
            metrics::counter!("chancery_ledger_failures_total").increment(1);
            unavailable(error)
        });
        self.failure.store(committed.as_ref().err().cloned().map(Arc::new));
        self.rest_until = committed.is_err().then(|| later(now, REST));
        if let Err(error) = &committed {
            self.give_up().await;
            for waits in self.parked.drain(..) {
                waits.refuse(error.clone());
            }
        }
        for answer in answers {
            answer(committed.clone());
        }
    }

    /// After a failure nothing of what was known of the ledger is sure.
    async fn give_up(&mut self) {
        self.end = None;
        self.known = Known::default();
        self.lead.hold(None);
        self.watermark.doubt();
        if self.is_shared {
            // Rolls back by going, whatever it was in the middle of.
            match self.at.connect().await {
                Ok(fresh) => self.db = fresh,
                Err(_) => self.is_lost = true,
            }
        } else {
            db::roll_back(&mut self.db).await;
        }
    }

    /// All of `work` is done, or nothing is.
    async fn transaction(&mut self, work: Vec<Command>, closing: bool, answers: &mut Vec<Answer>) -> Sql<()> {
        let mut waiting = std::mem::take(&mut self.parked);
        let (mut rules, now) = (self.rules.clone(), Instant::now());
        let is_shared = self.is_shared;
        if self.is_lost {
            self.db = self.at.connect().await?;
            self.is_lost = false;
        }
        let known = (self.end, std::mem::take(&mut self.known));
        let mut group = begin(&mut self.db, &self.at, &mut self.time, &self.name, known).await?;
        self.watermark.compare(&mut group).await?;
        let mut due: Vec<_> =
            self.live.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        if is_shared {
            let reserved = store::reserved(group.db).await?;
            due.extend(reserved.iter().filter(|row| row.void_at <= group.now).map(|row| row.id));
            let others = reserved.iter().filter(|row| !self.live.contains_key(&row.id));
            let others = others.map(|row| (row.id, row.span));
            // By the time after the lock: what is there was made before it.
            due.extend(self.others.see(others, Instant::now()));
        } else if self.end.is_none() {
            // A reservation whose commit seemed to fail and did not: nobody was told of it, so nobody signs it.
            for id in store::unrecorded(group.db).await? {
                self.live.entry(id).or_insert(now);
            }
        }
        let done = all(&mut group, (due, work), &mut rules, &mut waiting).await;
        answers.append(&mut group.answers);
        self.parked = waiting;
        done?;
        let mut leads = None;
        if closing {
            group.audit(&Body::Stopped {}).await?;
            agreed::give_up_lead(group.db, group.writer).await?;
        } else if is_shared {
            leads = self.lead.ask(group.db, (group.writer, now, group.now)).await?;
        }
        let end = group.commit().await?;
        if !is_shared {
            self.known = std::mem::take(&mut group.known);
        }
        self.rules = rules;
        let until = after(self.rules.deadline);
        self.live.extend(group.opened.iter().map(|id| (*id, until)));
        for id in &group.closed {
            self.live.remove(id);
        }
        self.lead.hold(leads);
        self.looked = now;
        self.committed(end, closing).await;
        Ok(())
    }
}

async fn all(
    group: &mut Group<'_>,
    (due, work): (Vec<i64>, Vec<Command>),
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
    retry(group, rules, waiting).await
}

/// The writer broke down. Whoever asks it is told that it is closed, and so is whoever asks whether the gateway is ready.
fn alarm() {
    tracing::error!("ALARM: the ledger's writer broke down; nothing is signed before a restart");
    metrics::counter!("chancery_ledger_failures_total").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    impl Writer {
        /// Holds what is known against the tables.
        pub(in crate::ledger) async fn compare(&mut self) {
            self.known.accounts.compare(&mut self.db).await;
            self.known.counts.compare(&mut self.db).await;
        }

        /// The ledger's time.
        pub(in crate::ledger) fn seen(&self) -> Timestamp {
            self.end.map_or(Head::START.at, |end| end.head.at)
        }

        /// Has the time of every signature that is waited for be over.
        pub(in crate::ledger) fn expire(&mut self) {
            for until in self.live.values_mut() {
                *until = Instant::now();
            }
            self.others.expire();
        }
    }
}
