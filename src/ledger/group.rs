//! One transaction of the writer in the making: what it writes, what time it is, and who is answered after its commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use crate::clock::{Clock, Timestamp};
use crate::ledger::audit::{Body, Head};
use crate::ledger::claims::Claimed;
use crate::ledger::store;
use crate::ledger::writer::Reply;
use crate::ledger::{LedgerError, ReserveError};

/// How far the wall clock may be from the steady one before somebody should look.
const STEP: Duration = Duration::from_secs(30);

/// An answer that waits for the commit. Names the reservation that nobody was there to take.
pub(in crate::ledger) type Answer = Box<dyn FnOnce(Result<(), LedgerError>) -> Option<i64> + Send>;

/// The windows of the budgets that are counted, by id.
pub(in crate::ledger) type Windows = Arc<BTreeMap<String, Duration>>;

/// One transaction in the making.
pub(in crate::ledger) struct Group<'a> {
    pub db: &'a mut SqliteConnection,
    pub now: Timestamp,
    /// By which charges are stamped: never behind a clock that nobody sets.
    pub stamp: Timestamp,
    /// By which budgets' windows move: never faster than a clock that nobody sets.
    pub window_time: Timestamp,
    /// The windows of the budgets that are counted.
    pub windows: Windows,
    pub head: Head,
    pub answers: Vec<Answer>,
    /// The reservations that it makes, and those that can be recorded no longer.
    pub opened: Vec<i64>,
    pub closed: Vec<i64>,
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
            drop(reply.send(committed.map_err(E::from).and(value)));
            None
        }));
    }

    /// Hands a reservation over after the commit; one that nobody takes is void at once.
    pub(in crate::ledger) fn reserved(
        &mut self,
        id: i64,
        nonce: Option<u64>,
        reply: Reply<Result<Claimed, ReserveError>>,
    ) {
        self.opened.push(id);
        self.answers.push(Box::new(move |committed| {
            let claimed = committed.map(|()| Claimed::Fresh { id, nonce });
            reply.send(claimed.map_err(ReserveError::from)).is_err().then_some(id)
        }));
    }
}

/// Begins a transaction, on a new connection where the old one cannot any more.
pub(in crate::ledger) async fn begin<'a>(
    db: &'a mut SqliteConnection,
    path: &Path,
    clock: &Clock,
    head: Option<Head>,
    windows: &Windows,
) -> Sql<Group<'a>> {
    if store::begin(db).await.is_err() {
        *db = store::connect(path).await?;
        store::begin(db).await?;
    }
    let head = match head {
        Some(head) => head,
        None => store::head(db).await?.0,
    };
    // Time never runs backwards in the ledger.
    let (wall, steady) = (clock.now(), clock.steady());
    watch(wall, steady);
    Ok(Group {
        db,
        now: wall.max(head.at),
        stamp: wall.max(head.at).max(steady),
        window_time: wall.min(steady),
        windows: Arc::clone(windows),
        head,
        answers: Vec::new(),
        opened: Vec::new(),
        closed: Vec::new(),
    })
}

/// A wall clock that somebody set: budgets go on by the steady one, so that nothing leaves a window before its time.
fn watch(wall: Timestamp, steady: Timestamp) {
    let step = wall.since(steady).max(steady.since(wall));
    metrics::gauge!("chancery_clock_step_seconds").set(step.as_secs_f64());
    if step > STEP {
        tracing::warn!(
            seconds = step.as_secs(),
            "the wall clock was set while this ran; budgets go by the steady clock"
        );
    }
}
