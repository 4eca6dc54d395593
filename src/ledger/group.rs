//! One transaction of the writer in the making: what it writes, what time it is, and who is answered after its commit.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::ledger::accounts::Accounts;
use crate::ledger::audit::{Body, Entry, Head};
use crate::ledger::beside;
use crate::ledger::chain_store::{self, End};
use crate::ledger::claims::Claimed;
use crate::ledger::command::Reply;
use crate::ledger::counts::Counts;
use crate::ledger::db::{self, Db, Location, Sql};
use crate::ledger::handover::Handover;
use crate::ledger::lag::{self, Lag};
use crate::ledger::life::State;
use crate::ledger::{LedgerError, ReserveError};

/// How far the wall clock may be from the steady one before somebody should look.
const STEP: Duration = Duration::from_secs(30);

/// How many rows of the audit chain wait for each other, and how many bytes: a payload with blobs makes large ones.
const MAX_ROWS: usize = 256;
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// An answer that waits for the commit.
pub(in crate::ledger) type Answer = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

/// What time it is in the ledger: this machine's, or, where replicas share it, its server's.
#[derive(Debug)]
pub(in crate::ledger) struct Time {
    clock: Clock,
    /// What the server's clock said first, and the steady clock then.
    anchor: Option<(Timestamp, Timestamp)>,
}

/// What is known of the tables without that they are asked.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Known {
    pub accounts: Accounts,
    pub counts: Counts,
}

/// One transaction in the making.
pub(in crate::ledger) struct Group<'a> {
    pub db: &'a mut Db,
    /// Whether it is on a connection that was made for it: to a server that may be another than before.
    pub is_new: bool,
    /// Who writes: the name of this process in the ledger.
    pub writer: &'a str,
    pub now: Timestamp,
    /// When a charge is made: never earlier than by any clock, so that it does not leave its window early when the
    /// wall clock is set right again.
    pub stamp_time: Timestamp,
    /// By which budgets' windows move: never faster than a clock that nobody sets.
    pub window_time: Timestamp,
    /// Where the chain ends with what is not written yet.
    pub head: Head,
    /// Whether clocks are behind what the ledger has seen, and since when.
    pub lag: Option<Lag>,
    /// Rows of the audit chain that are not written yet.
    rows: Vec<Entry>,
    bytes: usize,
    pub known: Known,
    pub answers: Vec<Answer>,
    /// The reservations that it makes, and those that can be recorded no longer.
    pub opened: Vec<i64>,
    pub closed: Vec<i64>,
}

impl Group<'_> {
    /// A payload's state, and the other payloads at its nonce with theirs; nothing where there is no such payload.
    pub(in crate::ledger) async fn at_nonce_of(
        &mut self,
        id: i64,
    ) -> Sql<Option<(State, Vec<(i64, State)>)>> {
        match self.known.accounts.at_nonce_of(id) {
            None => beside::at_nonce_of(self.db, id).await,
            known => Ok(known),
        }
    }

    /// Puts a row at the end of the audit chain, in this commit.
    pub(in crate::ledger) async fn audit(&mut self, body: &Body<'_>) -> Sql<()> {
        let entry = self.head.next(self.now, body)?;
        self.head = Head::from(&entry);
        self.bytes = self.bytes.saturating_add(entry.body.len());
        self.rows.push(entry);
        let is_much = self.rows.len() >= MAX_ROWS || self.bytes >= MAX_BYTES;
        if is_much { self.write_rows().await } else { Ok(()) }
    }

    pub(in crate::ledger) async fn write_rows(&mut self) -> Sql<()> {
        chain_store::append(self.db, &self.rows).await?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Makes all of it last, and says where the chain ends now.
    pub(in crate::ledger) async fn commit(&mut self) -> Sql<End> {
        self.write_rows().await?;
        db::commit(self.db).await?;
        Ok(End { head: self.head, lag: self.lag })
    }

    /// Answers after the commit; where it fails, with its failure.
    pub(in crate::ledger) fn answer<T: Send + 'static, E: From<LedgerError> + Send + 'static>(
        &mut self,
        reply: Reply<Result<T, E>>,
        value: Result<T, E>,
    ) {
        self.answers.push(Box::new(move |committed| {
            drop(reply.send(committed.map_err(E::from).and(value)));
        }));
    }

    /// Hands a reservation over after the commit.
    pub(in crate::ledger) fn reserved(
        &mut self,
        reservation: Handover,
        (id, nonce): (i64, Option<u64>),
        reply: Reply<Result<Claimed, ReserveError>>,
    ) {
        self.opened.push(id);
        self.answers.push(Box::new(move |committed| match committed {
            Ok(()) => drop(reply.send(Ok(Claimed::Fresh { reservation, nonce }))),
            Err(error) => {
                // There is no such row; its number may be another's by the time that a void would come.
                reservation.take();
                drop(reply.send(Err(error.into())));
            }
        }));
    }
}

impl Time {
    pub(in crate::ledger) const fn new(clock: Clock) -> Self {
        Self { clock, anchor: None }
    }

    /// By a clock that can be set, and by one that cannot.
    fn tell(&mut self, server: Option<Timestamp>) -> (Timestamp, Timestamp) {
        let Some(server) = server else { return (self.clock.now(), self.clock.steady()) };
        let here = self.clock.steady();
        let (then, since) = *self.anchor.get_or_insert((server, here));
        let passed = u64::try_from(here.since(since).as_millis()).unwrap_or(u64::MAX);
        (server, Timestamp::from_millis(then.millis().saturating_add(passed)))
    }
}

/// Begins a transaction, on a new connection where the old one cannot any more.
pub(in crate::ledger) async fn begin<'a>(
    db: &'a mut Db,
    at: &Location,
    time: &mut Time,
    writer: &'a str,
    (end, known): (Option<End>, Known),
) -> Sql<Group<'a>> {
    let is_new = db::begin(db).await.is_err();
    if is_new {
        *db = at.connect().await?;
        db::begin(db).await?;
    }
    let (End { head, lag }, server) = match end {
        Some(end) => (end, None),
        None => chain_store::end(db).await?,
    };
    // Time never runs backwards in the ledger.
    let (wall, steady) = time.tell(server);
    watch(wall, steady);
    let mut group = Group {
        db,
        is_new,
        writer,
        now: wall.max(head.at),
        stamp_time: wall.max(head.at).max(steady),
        window_time: wall.min(steady),
        head,
        lag,
        rows: Vec::new(),
        bytes: 0,
        // Another server may have lost what this one had said.
        known: if is_new { Known::default() } else { known },
        answers: Vec::new(),
        opened: Vec::new(),
        closed: Vec::new(),
    };
    // Of replicas, which have a steady clock each, one would say so and another not.
    let latest = if server.is_some() { wall } else { wall.max(steady) };
    lag::watch(&mut group, latest < head.at).await?;
    Ok(group)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_03_no_clock_that_is_set_moves_the_windows_of_what_replicas_share() {
        let (clock, server) =
            (Clock::set_to(Timestamp::from_millis(0)), Timestamp::from_millis(1_800_000_000_000));
        let mut time = Time::new(clock.clone());
        assert_eq!(time.tell(Some(server)), (server, server));
        clock.advance(Duration::from_secs(10));
        let passed = Timestamp::from_millis(server.millis() + 10_000);
        for hours in [-2, 0, 2] {
            let set = Timestamp::from_millis(server.millis().saturating_add_signed(hours * 3_600_000));
            clock.step(hours * 7_200_000);
            assert_eq!(time.tell(Some(set)), (set, passed));
        }
    }
}
