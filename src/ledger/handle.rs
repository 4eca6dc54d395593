//! The ledger as the other stages see it.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Keccak256};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::config;
use crate::identity::AccountCaller;
use crate::ledger::agreed::Lead;
use crate::ledger::claims::{Claimed, Reserve};
use crate::ledger::command::{Command, Reply};
use crate::ledger::doubts::Doubts;
use crate::ledger::hands::Hands;
use crate::ledger::keys::Name;
use crate::ledger::lock::prepare;
use crate::ledger::note::Note;
use crate::ledger::repeats::{Met, Repeat};
use crate::ledger::tally::Tally;
use crate::ledger::writer::{Failure, Writer};
use crate::ledger::{
    Administration, Claim, LedgerError, Pause, PauseOrder, Purpose, RecordError, Recorded, RefusedRow,
    ReservationId, ReserveError, Reserved, Signed, Voided,
};
use crate::policy::{Permitted, Policy};
use crate::transaction::Kind;

/// How many commands may wait for the writer.
const QUEUE: usize = 4096;

/// How long the writer may take over one command, a full disk's time-outs included.
const ANSWER: Duration = Duration::from_secs(10);

/// What a reservation may take on top of its own waiting: its commit.
const COMMIT: Duration = Duration::from_secs(2);

/// The ledger. Cheap to clone; the file is closed and free for another when [`Ledger::close`] returns.
#[derive(Clone, Debug)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    deadline: Duration,
    /// Why the writer's last commit failed.
    failure: Failure,
    pub(in crate::ledger) doubts: Doubts,
    pub(in crate::ledger) hands: Hands,
    refusals: Arc<Tally>,
    name: Arc<str>,
    lead: Option<Lead>,
}

/// What became of the same request before.
#[derive(Debug)]
pub enum Earlier<K: Kind> {
    /// Nothing that answers it.
    Nothing,
    /// It is being signed right now.
    Signing,
    Recorded(Recorded<K>),
}

impl Ledger {
    /// Opens the ledger for writing, makes it where it is missing, and voids what an earlier process left
    /// reserved. `deadline` is the time from a reservation to its record.
    pub async fn open(
        config: &config::Ledger,
        deadline: Duration,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        let lock = prepare(config)?;
        let writer = Writer::start(config, lock, clock, deadline).await?;
        let (ledger, queue) = Self::over(&writer, deadline);
        writer.begin(queue)?;
        Ok(ledger)
    }

    /// A handle on a writer, and the queue that it is to read.
    pub(in crate::ledger) fn over(writer: &Writer, deadline: Duration) -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(QUEUE);
        let ledger = Self {
            commands,
            deadline,
            failure: writer.failure(),
            doubts: Doubts::default(),
            hands: Hands::default(),
            refusals: Arc::default(),
            name: writer.name(),
            lead: writer.lead(),
        };
        (ledger, queue)
    }

    /// The name of this process in the ledger, made anew at each start.
    pub fn writer(&self) -> &str {
        &self.name
    }

    /// Whether this process looks after what was sent, and seals the chain: one of those that share a ledger does.
    pub fn leads(&self) -> bool {
        self.lead.as_ref().is_none_or(Lead::is_held)
    }

    /// Archives the policy's text and makes it the one that reservations must have been judged by.
    pub async fn activate(&self, policy: Arc<Policy>) -> Result<(), LedgerError> {
        let (hash, text) = (policy.hash(), policy.text().to_owned());
        self.ask(|reply| Command::Policy { hash, text, policy, reply }).await?
    }

    /// Gives a permitted payload its nonce and writes the audit intent, in one durable commit.
    pub async fn reserve<K: Kind>(
        &self,
        permitted: Permitted<K>,
        purpose: Purpose,
    ) -> Result<Claim<K>, ReserveError> {
        let (request, from) = (permitted.request(), permitted.from());
        let account = (K::slot(permitted.asked()).map_or(0, |slot| slot.chain), from);
        let (claim, (reply, answer)) = (self.claim(&permitted, purpose), oneshot::channel());
        // New work is refused at once where the queue is full; what is under way waits for its place.
        self.commands.try_send(Command::Reserve(Box::new(claim(reply)))).map_err(|error| match error {
            TrySendError::Full(_) => LedgerError::Busy,
            TrySendError::Closed(_) => closed(),
        })?;
        let claimed = self.answered(answer, self.deadline.saturating_add(COMMIT)).await?;
        self.doubts.hear(account, &claimed);
        Ok(match claimed? {
            Claimed::Fresh { reservation, nonce } => {
                let id = reservation.take().ok_or_else(closed)?;
                let unsigned = K::assign(permitted.into_asked(), nonce);
                Claim::Fresh(Reserved::new(ReservationId(id), request, from, nonce, purpose, unsigned))
            }
            Claimed::Known(mut stored) => {
                if let Some(revived) = stored.revived.take() {
                    revived.take();
                }
                Claim::Known(stored.into())
            }
        })
    }

    /// What was recorded for the very same request before: the same client, account and fields (`K::intent`), under
    /// the same key or within the client's window. Nothing where the request has neither.
    pub async fn earlier<K: Kind>(
        &self,
        caller: &AccountCaller,
        (chain, fields): (Option<u64>, &[u8]),
        purpose: Purpose,
    ) -> Result<Earlier<K>, ReserveError> {
        let client = caller.client();
        let intent = intent_hash(K::NAME, &client.name, chain, caller.account(), fields);
        let Some(name) = Name::of(caller.key(), client.repeat_window, intent) else {
            return Ok(Earlier::Nothing);
        };
        let (client, request) = (client.name.clone(), caller.request().to_string());
        let (hands, tally) = (self.hands.clone(), Arc::clone(&self.refusals));
        let met = self.ask(|reply| {
            Command::Earlier(Box::new(Repeat {
                kind: K::NAME,
                client,
                request,
                name,
                intent,
                purpose,
                hands,
                tally,
                reply,
            }))
        });
        Ok(match met.await?? {
            Met::Nothing => Earlier::Nothing,
            Met::Signing => Earlier::Signing,
            Met::Out(stored) => Earlier::Recorded((*stored).into()),
        })
    }

    /// How many rows each client's repeats may still make.
    pub(in crate::ledger) fn repeats(&self) -> Arc<Tally> {
        Arc::clone(&self.refusals)
    }

    /// Makes a signature durable, so that it may leave. Fails for good where the reservation is void.
    pub async fn record<K: Kind>(&self, signed: Signed<K>) -> Result<Recorded<K>, RecordError> {
        let (id, sealed) = (signed.id(), signed.sealed().clone());
        // Before anybody can find it.
        let hold = self.hands.take(id.0);
        let done = self
            .ask(|reply| Command::Record {
                id: id.0,
                kind: K::NAME,
                has_nonce: signed.has_nonce(),
                raw: sealed.raw,
                hash: sealed.hash,
                reply,
            })
            .await;
        match done {
            Ok(Ok(())) => {}
            // Nobody knows how the commit ended. Whichever row exists wins: the record, or a void from now on.
            Ok(Err(RecordError::Ledger(why))) | Err(why) => {
                match self.void(id, "the record's commit was lost").await {
                    Ok(Voided::Recorded) => {}
                    Ok(Voided::Void) => return Err(why.into()),
                    Err(_) => return Err(RecordError::Unknown { hash: signed.sealed().hash, why }),
                }
            }
            Ok(Err(late)) => return Err(late),
        }
        Ok(signed.into_recorded(hold))
    }

    /// Ends a reservation without a record; also settles a record whose commit nobody knows the end of.
    pub async fn void(&self, id: ReservationId, why: &str) -> Result<Voided, LedgerError> {
        let why = why.to_owned();
        self.ask(|reply| Command::Void { id: id.0, why, reply }).await?
    }

    /// Records that a signature was asked for and refused: in a row of its own, or, where a client has too many of
    /// them, in a count.
    pub async fn refused(&self, row: RefusedRow) -> Result<(), LedgerError> {
        if !self.refusals.admits(&row.client, row.cause, Instant::now()) {
            metrics::counter!("chancery_audit_refusals_counted_total").increment(1);
            return Ok(());
        }
        let (client, cause) = (row.client.clone(), row.cause);
        let row = Box::new(row);
        let written = self.ask(|reply| Command::Refused { row, reply }).await.flatten();
        if written.is_err() {
            self.refusals.count(&client, [(cause, 1)]);
        }
        written
    }

    /// Writes the refusals that were only counted since the last time.
    pub async fn tell_refusals(&self) -> Result<(), LedgerError> {
        let mut told = Ok(());
        for refusals in self.refusals.take() {
            if told.is_ok() {
                told = self.note(Note::Refusals(refusals.clone())).await;
            }
            if told.is_err() {
                self.refusals.count(&refusals.client, refusals.causes);
            }
        }
        told
    }

    /// Writes a fact into the audit chain.
    pub async fn note(&self, note: Note) -> Result<(), LedgerError> {
        let note = Box::new(note);
        self.ask(|reply| Command::Note { note, reply }).await?
    }

    /// To be asked before a question that anyone may have as often as he likes: half of the queue is for what signs.
    pub fn has_time(&self) -> Result<(), LedgerError> {
        let has_time = self.commands.capacity() >= self.commands.max_capacity() / 2;
        has_time.then_some(()).ok_or(LedgerError::Busy)
    }

    /// The lowest nonce from `mined` that none of our own transactions has.
    pub async fn next_nonce(&self, chain: u64, account: Address, mined: u64) -> Result<u64, LedgerError> {
        self.has_time()?;
        self.ask(|reply| Command::Next { chain, account, mined, reply }).await?
    }

    /// Has nothing of this scope signed until [`Ledger::resume`]; what is being signed is void. False where it was paused before.
    pub async fn pause(&self, order: PauseOrder, by: Administration) -> Result<bool, LedgerError> {
        self.ask(|reply| Command::Pause { order, by, reply }).await?
    }

    /// Ends a pause; false where there is none of this very scope.
    pub async fn resume(&self, order: PauseOrder, by: Administration) -> Result<bool, LedgerError> {
        self.ask(|reply| Command::Resume { order, by, reply }).await?
    }

    /// What is paused now.
    pub async fn pauses(&self) -> Result<Vec<Pause>, LedgerError> {
        self.ask(|reply| Command::Pauses { reply }).await?
    }

    /// Whether it can be written right now.
    pub async fn ready(&self) -> Result<(), LedgerError> {
        self.ask(|reply| Command::Ready { reply }).await?
    }

    /// Writes the last row and ends the writer.
    pub async fn close(&self) {
        if let Err(error) = self.ask(|reply| Command::Close { reply }).await {
            tracing::warn!(%error, "the ledger was not closed in order; nothing is lost");
        }
    }

    /// What the writer needs of a permission; the reply is put in last.
    fn claim<K: Kind>(
        &self,
        permitted: &Permitted<K>,
        purpose: Purpose,
    ) -> impl FnOnce(Reply<Result<Claimed, ReserveError>>) -> Reserve + use<K> {
        let asked = permitted.asked().clone();
        let slot = K::slot(&asked);
        let (client, account) = (permitted.client().to_owned(), permitted.from());
        let intent = intent_hash(K::NAME, &client, slot.map(|slot| slot.chain), account, &K::intent(&asked));
        let caller = permitted.caller();
        let name = match K::SAME_FOR {
            Some(same) => Name::of(None, Some(same), intent),
            None => Name::of(caller.key(), caller.client().repeat_window, intent),
        };
        let (person, only_at) = (caller.client().person.clone(), permitted.nonce());
        let (request, replace) = (permitted.request().to_string(), permitted.replace());
        let (rule, policy, patience) = (permitted.rule().to_owned(), permitted.policy(), self.deadline);
        let (charges, creates) = (permitted.charges().to_vec(), K::creates(&asked));
        let assign = Box::new(move |nonce| {
            let unsigned = K::assign(asked.clone(), nonce);
            (K::unsigned_bytes(&unsigned), K::digest(&unsigned))
        });
        let (kind, hands, commands) = (K::NAME, self.hands.clone(), self.commands.downgrade());
        move |reply| Reserve {
            kind,
            client,
            person,
            request,
            account,
            slot,
            intent,
            name,
            rule,
            policy,
            charges,
            purpose,
            replace,
            only_at,
            creates,
            assign,
            reply,
            hands,
            commands,
            patience,
        }
    }

    pub(in crate::ledger) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, LedgerError> {
        let answer = self.put(command).await?;
        self.answered(answer, ANSWER).await
    }

    /// Puts it into the queue, where it is done in its turn, also if nobody waits for the answer.
    pub(in crate::ledger) async fn put<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<oneshot::Receiver<T>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        match timeout(ANSWER, self.commands.reserve()).await {
            Ok(Ok(place)) => place.send(command(reply)),
            Ok(Err(_)) => return Err(closed()),
            Err(_) => return Err(LedgerError::Busy),
        }
        Ok(answer)
    }

    async fn answered<T>(&self, answer: oneshot::Receiver<T>, within: Duration) -> Result<T, LedgerError> {
        match timeout(within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // Dropped without an answer: what it was written with failed before its turn came.
            Ok(Err(_)) => {
                let why = self.failure.load_full();
                let unsaid = || LedgerError::Unavailable("its last write failed".to_owned());
                Err(why.map_or_else(unsaid, |why| why.as_ref().clone()))
            }
            Err(_) => Err(LedgerError::Unavailable("it does not answer".to_owned())),
        }
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("it is closed".to_owned())
}

/// Names what a client wants: the same client, chain, account and fields are the same intent.
fn intent_hash(kind: &str, client: &str, chain: Option<u64>, account: Address, fields: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"chancery intent 1");
    for part in [kind.as_bytes(), client.as_bytes()] {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(chain.map_or([0; 9], |chain| {
        let mut some = [1; 9];
        some.split_at_mut(1).1.copy_from_slice(&chain.to_be_bytes());
        some
    }));
    hasher.update(account);
    hasher.update(fields);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ledger {
        /// A policy by its name alone.
        pub(crate) async fn activate_policy(&self, hash: B256, text: &str) -> Result<(), LedgerError> {
            let (text, policy) = (text.to_owned(), Arc::default());
            self.ask(|reply| Command::Policy { hash, text, policy, reply }).await?
        }

        /// Another process that shares it.
        pub(crate) fn elsewhere(&self) -> Self {
            Self { hands: Hands::default(), ..self.clone() }
        }

        /// Has the writer break down in the middle of a commit.
        pub(crate) async fn break_down<K: Kind>(&self, permitted: Permitted<K>) {
            let (reply, answer) = oneshot::channel();
            let claim = self.claim(&permitted, Purpose::Send)(reply);
            let claim = Reserve { assign: Box::new(|_| panic!("a mistake of ours")), ..claim };
            self.commands.send(Command::Reserve(Box::new(claim))).await.unwrap();
            answer.await.unwrap_err();
        }
    }
}
