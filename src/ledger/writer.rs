//! The one task that writes: takes what is queued, does it in one transaction, and answers after the commit.

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::{Clock, Timestamp};
use crate::ledger::audit::{Body, Head};
use crate::ledger::claims::{Attempt, Parked, Reserve};
use crate::ledger::core;
use crate::ledger::store::{self, Stored};
use crate::ledger::{Final, LedgerError, Outcome, RecordError, RefusedRow, Voided};

/// How many commands one commit takes at most.
const GROUP: usize = 256;

/// How often the writer looks for reservations whose signature did not come, and for claims that waited enough.
const SWEEP: Duration = Duration::from_millis(100);

pub(in crate::ledger) type Reply<T> = oneshot::Sender<T>;

/// What the writer can be asked for.
#[derive(Debug)]
pub(in crate::ledger) enum Command {
    Reserve(Box<Reserve>),
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
    Policy {
        hash: B256,
        text: String,
        reply: Reply<Result<(), LedgerError>>,
    },
    Open {
        reply: Reply<Result<Vec<Stored>, LedgerError>>,
    },
    Next {
        chain: u64,
        account: Address,
        mined: u64,
        reply: Reply<Result<u64, LedgerError>>,
    },
    /// Writes nothing but proves that it could: takes the write lock and commits.
    Ready {
        reply: Reply<Result<(), LedgerError>>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// An answer that waits for the commit.
type Answer = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

pub(in crate::ledger) struct Writer {
    db: SqliteConnection,
    clock: Clock,
    /// From a reservation to its record; past it the reservation is void.
    deadline: Duration,
    max_open: u32,
    /// `None` after a failed commit: read again before anything is written.
    head: Option<Head>,
    /// The policy in force; a claim that was judged by another is judged again.
    policy: Option<B256>,
    /// Claims that wait for a signature or a lower nonce; bounded by the requests in flight.
    parked: VecDeque<Box<Parked>>,
    /// When each reservation of this process is void if it is not recorded, oldest first. By the monotonic clock:
    /// a wall clock that steps must neither void early nor never.
    due: VecDeque<(Instant, i64)>,
}

/// One transaction in the making.
pub(in crate::ledger) struct Group<'a> {
    pub db: &'a mut SqliteConnection,
    pub now: Timestamp,
    /// Reservations that this group makes.
    pub made: Vec<i64>,
    head: Head,
    answers: Vec<Answer>,
}

type Sql<T> = Result<T, sqlx::Error>;

impl Group<'_> {
    pub(in crate::ledger) async fn audit(&mut self, body: &Body<'_>) -> Sql<()> {
        let entry = self.head.next(self.now, body).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
        store::append(self.db, &entry).await?;
        self.head = Head::from(&entry);
        Ok(())
    }

    /// Answers after the commit; where it fails, with its failure.
    pub(in crate::ledger) fn answer<T: Send + 'static, E: From<LedgerError> + Send + 'static>(
        &mut self,
        reply: Reply<Result<T, E>>,
        value: Result<T, E>,
    ) {
        self.answers.push(Box::new(move |committed| {
            // Whoever stopped waiting is voided by the sweep.
            drop(reply.send(committed.map_err(E::from).and(value)));
        }));
    }
}

impl Writer {
    pub(in crate::ledger) async fn start(
        mut db: SqliteConnection,
        clock: Clock,
        deadline: Duration,
        max_open: u32,
    ) -> Result<Self, LedgerError> {
        let (head, last) = store::head(&mut db).await.map_err(unavailable)?;
        match last {
            Some(last) if last.seq == head.seq && last.hash == head.hash => {}
            None if head.seq == 0 => {}
            _ => return Err(LedgerError::Broken("its end is not where it was written".to_owned())),
        }
        let mut writer = Self {
            db,
            clock,
            deadline,
            max_open,
            head: Some(head),
            policy: None,
            parked: VecDeque::new(),
            due: VecDeque::new(),
        };
        writer.restart().await?;
        Ok(writer)
    }

    /// Nothing that was reserved before a restart can be signed any more: its task is gone.
    async fn restart(&mut self) -> Result<(), LedgerError> {
        let mut group = group(&mut self.db, &self.clock, self.head).await.map_err(unavailable)?;
        let done = async {
            let orphans = store::unrecorded(group.db).await?;
            for id in &orphans {
                void(&mut group, *id, "the process ended before the signature came").await?;
            }
            group.audit(&Body::Started { version: env!("CARGO_PKG_VERSION"), voided: orphans.len() }).await?;
            store::commit(group.db).await
        };
        done.await.map_err(unavailable)?;
        self.head = Some(group.head);
        Ok(())
    }

    /// Runs until it is closed or nobody can ask any more.
    pub(in crate::ledger) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(GROUP);
        loop {
            // A quiet ledger still voids what was never signed.
            let received = timeout(SWEEP, commands.recv_many(&mut batch, GROUP)).await;
            if received == Ok(0) {
                break;
            }
            let mut closing = None;
            let mut work = Vec::with_capacity(batch.len());
            for command in batch.drain(..) {
                match command {
                    Command::Close { reply } => closing = Some(reply),
                    other => work.push(other),
                }
            }
            self.group(work, closing.is_some()).await;
            if let Some(reply) = closing {
                drop(store::close(self.db).await);
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
                return;
            }
        }
        drop(store::close(self.db).await);
    }

    async fn group(&mut self, work: Vec<Command>, closing: bool) {
        if work.is_empty() && !closing && self.parked.is_empty() && !self.has_late() {
            return;
        }
        let mut answers = Vec::new();
        let committed = self.transaction(work, closing, &mut answers).await.map_err(|error| {
            tracing::error!(%error, "the ledger could not be written; nothing is signed meanwhile");
            metrics::counter!("chancery_ledger_failures_total").increment(1);
            self.head = None;
            unavailable(error)
        });
        if let Err(error) = &committed {
            store::roll_back(&mut self.db).await;
            for waits in self.parked.drain(..) {
                waits.refuse(error.clone());
            }
        }
        for answer in answers {
            answer(committed.clone());
        }
    }

    async fn transaction(&mut self, work: Vec<Command>, closing: bool, answers: &mut Vec<Answer>) -> Sql<()> {
        let mut waiting = std::mem::take(&mut self.parked);
        let begun = Instant::now();
        let late: Vec<i64> =
            self.due.iter().take_while(|(due, _)| *due <= begun).map(|(_, id)| *id).collect();
        let outcome = async {
            let mut group = group(&mut self.db, &self.clock, self.head).await?;
            let rules = Rules { policy: self.policy, max_open: self.max_open };
            let mut chosen = None;
            let done = async {
                for id in &late {
                    void(&mut group, *id, "no signature came in time").await?;
                }
                for command in work {
                    apply(&mut group, command, &rules, &mut waiting, &mut chosen).await?;
                }
                retry(&mut group, &rules, &mut waiting).await?;
                if closing {
                    group.audit(&Body::Stopped {}).await?;
                }
                store::commit(group.db).await
            }
            .await;
            answers.append(&mut group.answers);
            let head = group.head;
            let made = std::mem::take(&mut group.made);
            done.map(|()| (head, chosen, made))
        }
        .await;
        self.parked = waiting;
        let (head, chosen, made) = outcome?;
        self.due.drain(..late.len());
        let due = begun.checked_add(self.deadline).unwrap_or(begun);
        self.due.extend(made.into_iter().map(|id| (due, id)));
        self.head = Some(head);
        self.policy = chosen.or(self.policy);
        Ok(())
    }

    fn has_late(&self) -> bool {
        self.due.front().is_some_and(|(due, _)| *due <= Instant::now())
    }
}

/// What a claim is held against inside its commit.
pub(in crate::ledger) struct Rules {
    pub policy: Option<B256>,
    pub max_open: u32,
}

async fn group<'a>(db: &'a mut SqliteConnection, clock: &Clock, head: Option<Head>) -> Sql<Group<'a>> {
    let head = match head {
        Some(head) => head,
        None => store::head(db).await?.0,
    };
    store::begin(db).await?;
    // Time never runs backwards in the ledger.
    Ok(Group { db, now: clock.now().max(head.at), made: Vec::new(), head, answers: Vec::new() })
}

async fn apply(
    group: &mut Group<'_>,
    command: Command,
    rules: &Rules,
    parked: &mut VecDeque<Box<Parked>>,
    chosen: &mut Option<B256>,
) -> Sql<()> {
    match command {
        Command::Reserve(reserve) => {
            let rules = Rules { policy: chosen.or(rules.policy), ..*rules };
            if let Attempt::Park(waits) = reserve.attempt(group, &rules).await? {
                parked.push_back(waits);
            }
        }
        Command::Record { id, raw, hash, reply } => {
            let recorded = store::record(group.db, id, &raw, hash).await?;
            if recorded {
                group.audit(&Body::Signature { reservation: id, hash, raw: &raw }).await?;
            }
            group.answer(reply, if recorded { Ok(()) } else { Err(RecordError::Void) });
        }
        Command::Void { id, why, reply } => {
            let state = store::state_of(group.db, id).await?;
            let voided = if matches!(state.as_deref(), Some("recorded" | "vacant" | "final" | "replaced")) {
                Voided::Recorded
            } else {
                void(group, id, &why).await?;
                Voided::Void
            };
            group.answer(reply, Ok(voided));
        }
        Command::Outcome { id, outcome, reply } => {
            note(group, id, &outcome).await?;
            group.answer(reply, Ok(()));
        }
        Command::Settled { id, last, reply } => {
            let (state, block, succeeded) = match last {
                Final::Mined { block, succeeded } => ("final", Some(block), Some(succeeded)),
                Final::Replaced => ("replaced", None, None),
            };
            if store::turn(group.db, id, &["recorded", "vacant"], state).await? {
                group.audit(&Body::Final { reservation: id, block, succeeded }).await?;
            }
            group.answer(reply, Ok(()));
        }
        Command::Refused { row, reply } => {
            let request = row.request.to_string();
            let body = Body::Refusal {
                client: &row.client,
                request: &request,
                method: &row.method,
                cause: row.cause,
                rule: row.rule.as_deref(),
                condition: row.condition.as_deref(),
                sentence: &row.sentence,
                asked: &row.asked,
            };
            group.audit(&body).await?;
            group.answer(reply, Ok(()));
        }
        Command::Policy { hash, text, reply } => {
            store::archive_policy(group.db, hash, &text, group.now).await?;
            group.audit(&Body::Policy { policy: hash }).await?;
            *chosen = Some(hash);
            group.answer(reply, Ok(()));
        }
        Command::Open { reply } => {
            let open = store::open_transactions(group.db).await?;
            group.answer(reply, Ok(open));
        }
        Command::Next { chain, account, mined, reply } => {
            let rows = store::rows_of(group.db, (chain, account), (mined, None)).await?;
            group.answer(reply, Ok(core::next(&rows, mined)));
        }
        Command::Ready { reply } => group.answer(reply, Ok(())),
        Command::Close { .. } => {}
    }
    Ok(())
}

/// Claims that wait are tried again in the order in which they came, as far as each account's first must wait.
async fn retry(group: &mut Group<'_>, rules: &Rules, parked: &mut VecDeque<Box<Parked>>) -> Sql<()> {
    let now = Instant::now();
    let mut blocked: Vec<Address> = Vec::new();
    for waits in std::mem::take(parked) {
        if waits.abandoned() {
            continue;
        }
        if waits.expired(now) {
            waits.give_up(group);
        } else if waits.is_automatic() && blocked.contains(&waits.account()) {
            parked.push_back(waits);
        } else {
            let (automatic, account) = (waits.is_automatic(), waits.account());
            if let Attempt::Park(waits) = waits.again(group, rules).await? {
                if automatic {
                    blocked.push(account);
                }
                parked.push_back(waits);
            }
        }
    }
    Ok(())
}

async fn void(group: &mut Group<'_>, id: i64, why: &str) -> Sql<()> {
    if store::turn(group.db, id, &["reserved"], "void").await? {
        metrics::counter!("chancery_voided_total").increment(1);
        group.audit(&Body::Void { reservation: id, why }).await?;
    }
    Ok(())
}

/// A definite refusal frees the nonce for a payload that outbids this one; anything else keeps it live. What the
/// node says over and over again is written once.
async fn note(group: &mut Group<'_>, id: i64, outcome: &Outcome) -> Sql<()> {
    let (name, text, changed) = match outcome {
        Outcome::Refused { text, .. } => {
            ("refused", text.as_str(), store::turn(group.db, id, &["recorded"], "vacant").await?)
        }
        Outcome::Accepted => ("accepted", "", store::note(group.db, id, "accepted").await?),
        Outcome::Known => ("known", "", store::note(group.db, id, "known").await?),
        Outcome::Unknown { text } => ("unknown", text.as_str(), store::note(group.db, id, "unknown").await?),
    };
    if changed {
        group.audit(&Body::Outcome { reservation: id, outcome: name, text }).await?;
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::ledger) fn unavailable(error: sqlx::Error) -> LedgerError {
    LedgerError::Unavailable(match &error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    })
}
