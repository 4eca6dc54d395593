//! Keeps a token's worker alive: starts the process, hands it what waits, and starts another when it ends.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::signer::alerts::{Alerts, holds_another};
use crate::signer::count::Counter;
use crate::signer::launch::Launch;
use crate::signer::link::TokenState;
use crate::signer::pending::Pending;
use crate::signer::protocol::{Class, Confinement, Frame, MAX_FRAME, Settings, SourceSetting, Status};
use crate::signer::queue::Queue;
use crate::signer::{SignError, latch};

/// How many requests a worker has for each session: enough to keep it busy, few enough that the line before it stays
/// fair.
const IN_FLIGHT: usize = 4;

/// A worker says every second how it is, also where a call hangs. One that has not for two of these is stopped, or nobody
/// watches its calls any more. Two, for the first may have passed while this process was stopped itself.
const QUIET: Duration = Duration::from_secs(5);

/// How long requests wait for a new worker.
const RESTART: Duration = Duration::from_secs(3);

/// A worker that was ready is started again at once. Where one after the other dies within a second, there is a pause
/// between them from the fourth on: they would only go on to die.
const GOOD_LIFE: Duration = Duration::from_secs(1);
const SHORT_LIVES: u32 = 3;

/// A request that two workers died of is not given to a third.
const TRIES: u8 = 2;

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// The same after a worker that was ready, if only for a moment: its token is there.
const LONGEST_AFTER_READY: Duration = Duration::from_secs(1);

/// One for each token, for as long as the gateway runs.
pub(super) struct Keeper {
    pub settings: Settings,
    pub launch: Launch,
    pub queue: Arc<Queue>,
    pub counter: Arc<Counter>,
    pub tell: watch::Sender<TokenState>,
    pub confinement: watch::Sender<Option<Confinement>>,
    pub distrust: watch::Receiver<u64>,
    pub stop: CancellationToken,
    pub name: Arc<str>,
}

/// How a life ended.
struct End {
    state: TokenState,
    /// For how long it was ready.
    ready: Option<Duration>,
    /// What it had waits for the next one, which is to be started at once.
    again: bool,
}

/// What a worker writes: many answers come in one read.
type Answers = BufReader<OwnedReadHalf>;

impl Keeper {
    pub(super) async fn run(self) {
        let (mut wait, mut short_lives) = (FIRST_BACK_OFF, 0_u32);
        for life in 1_u64.. {
            let Err(end) = self.one_life(life, short_lives < SHORT_LIVES).await else { return };
            if self.stop.is_cancelled() {
                return;
            }
            metrics::counter!("chancery_worker_starts_total", "token" => self.name.to_string()).increment(1);
            let was_short = end.ready.is_some_and(|ready| ready < GOOD_LIFE);
            short_lives = if was_short { short_lives.saturating_add(1) } else { 0 };
            if end.again {
                wait = FIRST_BACK_OFF;
                continue;
            }
            tracing::error!(token = %self.name, state = %end.state, "the token is not available");
            let longest = if end.ready.is_some() { LONGEST_AFTER_READY } else { LONGEST_BACK_OFF };
            wait = wait.min(longest);
            let pause = self.pause(&end.state, wait);
            self.refuse(end.state.clone());
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = pause => {}
            }
            // Whoever came in at the very moment of the end.
            self.refuse(end.state);
            wait = wait.saturating_mul(2).min(longest);
        }
    }

    /// Says that the token is down, to whoever asks and whoever waits.
    fn refuse(&self, state: TokenState) {
        let why = state.to_string();
        self.tell.send_replace(state);
        while let Some(job) = self.queue.try_next() {
            drop(job.reply.send(Err(self.down(&why))));
        }
    }

    fn down(&self, why: &str) -> SignError {
        SignError::Down { token: self.name.to_string(), why: why.to_owned() }
    }

    /// What the worker says of a request that failed.
    fn failed(&self, class: Class, why: String) -> SignError {
        let token = self.name.to_string();
        metrics::counter!("chancery_token_errors_total", "token" => token.clone(), "class" => class.label())
            .increment(1);
        match class {
            Class::Late => SignError::Timeout,
            Class::Busy => SignError::Busy { token },
            Class::Request => SignError::Refused { token, why },
            Class::Session | Class::Down | Class::Gone | Class::Credentials => SignError::Down { token, why },
        }
    }

    /// A latch is waited out: nothing is tried until an operator opens it.
    fn pause(&self, why: &TokenState, wait: Duration) -> impl Future<Output = ()> + use<> {
        let latched = match (&self.settings.source, why) {
            (SourceSetting::Token { latch, .. }, TokenState::PinLatched(_)) => Some(latch.clone()),
            _ => None,
        };
        async move {
            tokio::time::sleep(wait).await;
            if let Some(file) = latched {
                // Its folder is the worker's: what lies there may keep whoever opens it.
                let reason = |file: PathBuf| spawn_blocking(move || latch::reason(&file));
                while !matches!(reason(file.clone()).await, Ok(Ok(None))) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Starts a worker and serves it until it ends; `Ok` when we are to stop.
    async fn one_life(&self, life: u64, even_if_short: bool) -> Result<(), End> {
        let stillborn = |state| End { state, ready: None, again: false };
        let (mut child, mut from, mut to, sessions) = self.start().await.map_err(stillborn)?;
        tracing::info!(token = %self.name, sessions, keys = self.settings.keys.len(), "token ready, every key proved");
        self.counter.life_begins();
        holds_another(&self.name, &TokenState::Ready { sessions });
        self.tell.send_replace(TokenState::Ready { sessions });
        let ready = metrics::gauge!("chancery_token_ready", "token" => self.name.to_string());
        ready.set(1.0);

        let since = Instant::now();
        let (pending, heard) = (Pending::default(), AtomicU64::new(0));
        let mut distrust = self.distrust.clone();
        let window = sessions.saturating_mul(IN_FLIGHT).max(16);
        let why = tokio::select! {
            () = self.stop.cancelled() => None,
            () = hand_over(self, &mut to, &pending, window) => Some("the socket to its worker broke".to_owned()),
            why = self.take_back(&mut from, (&pending, &heard), life) => Some(why),
            () = silence(&heard) => {
                // It would not hear that it is to end.
                drop(child.start_kill());
                Some("its worker has said nothing for ten seconds".to_owned())
            }
            Ok(_) = distrust.wait_for(|last| *last >= life) => Some("it signed with another key than it was to".to_owned()),
            status = child.wait() => Some(status.map_or_else(|e| e.to_string(), |status| format!("its worker process ended ({status})"))),
        };
        ready.set(0.0);
        let Some(why) = why else {
            drop(pending);
            self.refuse(TokenState::Down("the gateway is stopping".to_owned()));
            self.last_call(child, (from, to)).await;
            return Ok(());
        };
        let lived = since.elapsed();
        let again = even_if_short || lived >= GOOD_LIFE;
        if again {
            tracing::warn!(token = %self.name, why, "the signer worker is started anew");
            self.tell.send_replace(TokenState::Restarting(why.clone()));
        } else {
            self.refuse(TokenState::Down(why.clone()));
        }
        self.put_back(pending, &why, again);
        self.last_call(child, (from, to)).await;
        Err(End { state: TokenState::Down(why), ready: Some(lived), again })
    }

    /// Gives each answer to whoever waits for it; returns why there will be no more.
    async fn take_back(
        &self,
        from: &mut Answers,
        (pending, heard): (&Pending, &AtomicU64),
        life: u64,
    ) -> String {
        let name = &self.name;
        let mut alerts = Alerts::new(name, self.queue.room());
        let of_token = |metric| metrics::histogram!(metric, "token" => name.to_string());
        let (waited, took) =
            (of_token("chancery_token_wait_seconds"), of_token("chancery_token_call_seconds"));
        loop {
            // Many answers come in one read: others have their turn all the same. Whoever stops us here loses nothing that was read.
            consume_budget().await;
            let frame = read(from).await;
            heard.fetch_add(1, Ordering::Relaxed);
            let (id, result) = match frame {
                Ok(Frame::Signed { id, raw, waited_us, took_us }) => {
                    waited.record(Duration::from_micros(waited_us.into()).as_secs_f64());
                    self.counter.answered();
                    took.record(Duration::from_micros(took_us.into()).as_secs_f64());
                    (id, Ok((raw, life)))
                }
                Ok(Frame::Failed { id, class, why }) => (id, Err(self.failed(class, why))),
                Ok(Frame::Report(report)) => {
                    self.counter.reported(&report);
                    alerts.look(&report, self.queue.len());
                    continue;
                }
                Ok(Frame::Status(Status::Down(why) | Status::Mismatch(why) | Status::Latched(why))) => {
                    return why;
                }
                Ok(_) => return "its worker does not keep to the protocol".to_owned(),
                Err(error) => return format!("its worker process is gone ({error})"),
            };
            if let Some(job) = pending.take(id) {
                drop(job.reply.send(result));
            }
        }
    }

    /// What a worker had when it ended waits for the next one: signing the same digest again is harmless, as only one
    /// of the signatures is ever seen.
    fn put_back(&self, pending: Pending, why: &str, again: bool) {
        let (now, mut back) = (Instant::now(), Vec::new());
        for job in pending.in_order() {
            if again && job.tries < TRIES && job.is_wanted(now) {
                back.push(job);
            } else {
                drop(job.reply.send(Err(self.down(why))));
            }
        }
        self.queue.put_back(back);
    }

    /// A worker that is ready, with how many sessions it has.
    async fn start(&self) -> Result<(Child, Answers, OwnedWriteHalf, usize), TokenState> {
        let down = |why: &dyn fmt::Display| TokenState::Down(why.to_string());
        let (child, stream) = self.launch.worker(&self.settings).await.map_err(|e| down(&e))?;
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        let mut out = Vec::new();
        Frame::Settings(serde_json::to_vec(&self.settings).map_err(|e| down(&e))?).write(&mut out);
        to.write_all(&out).await.map_err(|e| down(&e))?;
        let word = async {
            let first = timeout(RESTART, from.get_ref().readable()).await;
            if first.is_err() && matches!(*self.tell.borrow(), TokenState::Restarting(_)) {
                self.refuse(down(&"its worker takes long to start anew"));
            }
            read(&mut from).await
        };
        let word = timeout(self.settings.start_limit(), word);
        let state = match self.stop.run_until_cancelled(word).await {
            Some(Ok(Ok(Frame::Status(Status::Ready { sessions, confinement })))) => {
                self.confined(confinement);
                return Ok((child, from, to, sessions));
            }
            Some(Ok(Ok(Frame::Status(Status::Mismatch(why))))) => TokenState::Mismatch(why),
            Some(Ok(Ok(Frame::Status(Status::Latched(why))))) => TokenState::PinLatched(why),
            Some(Ok(Ok(Frame::Status(Status::Down(why))))) => TokenState::Down(why),
            Some(Ok(_)) => down(&"its worker process ended before it was ready"),
            Some(Err(_)) => down(&"it did not get ready in time"),
            None => down(&"the gateway is stopping"),
        };
        // At once: what is known of it is not to wait for its end.
        holds_another(&self.name, &state);
        self.refuse(state.clone());
        self.last_call(child, (from, to)).await;
        Err(state)
    }

    /// Said once for each change, and loudly where it is not the whole.
    fn confined(&self, now: Confinement) {
        self.confinement.send_if_modified(|known| {
            if known.as_ref() == Some(&now) {
                return false;
            }
            match &now {
                Confinement::Whole { .. } => tracing::info!(token = %self.name, "worker: {now}"),
                Confinement::Off | Confinement::Part(_) => {
                    tracing::warn!(token = %self.name, "SANDBOX: worker: {now}");
                }
            }
            *known = Some(now);
            true
        });
    }

    /// A worker ends by itself when nobody is there to hear it, and not in the middle of a login, which would latch its PIN.
    async fn last_call(&self, mut child: Child, socket: (Answers, OwnedWriteHalf)) {
        drop(socket);
        if timeout(RESTART, child.wait()).await.is_err() {
            if matches!(*self.tell.borrow(), TokenState::Restarting(_)) {
                self.refuse(TokenState::Down("its worker takes long to end".to_owned()));
            }
            drop(timeout(self.settings.end_limit().saturating_sub(RESTART), child.wait()).await);
        }
    }
}

/// Writes what waits, many requests in one write, for as long as the worker has room.
async fn hand_over(keeper: &Keeper, to: &mut OwnedWriteHalf, pending: &Pending, window: usize) {
    let queue = &keeper.queue;
    let (mut id, mut out) = (0_u64, Vec::new());
    loop {
        let room = pending.room(window).await;
        let first = queue.next().await;
        out.clear();
        let now = Instant::now();
        let more = std::iter::from_fn(|| queue.try_next()).take(room.saturating_sub(1));
        for mut job in std::iter::once(first).chain(more) {
            if !job.is_wanted(now) {
                continue;
            }
            let within = job.by.saturating_duration_since(now).as_millis();
            let within_ms = u32::try_from(within).unwrap_or(u32::MAX);
            id = id.wrapping_add(1);
            Frame::Sign { id, within_ms, key: job.key, digest: job.digest }.write(&mut out);
            keeper.counter.handed(job.tries > 0);
            job.tries = job.tries.saturating_add(1);
            pending.add(id, job);
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// Ends when nothing was heard for long.
async fn silence(heard: &AtomicU64) {
    let (mut before, mut quiet) = (0, 0_u32);
    while quiet < 2 {
        tokio::time::sleep(QUIET).await;
        let now = heard.load(Ordering::Relaxed);
        quiet = if now == before { quiet.saturating_add(1) } else { 0 };
        before = now;
    }
}

async fn read(from: &mut Answers) -> std::io::Result<Frame> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let length = Frame::length(length).map_err(std::io::Error::other)?.min(MAX_FRAME);
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Frame::read(&body).map_err(std::io::Error::other)
}
