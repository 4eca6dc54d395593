//! The gateway's end of one worker: starts the process, hands it requests, and starts another when it ends.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::signer::protocol::{Class, Frame, MAX_FRAME, Settings, SourceSetting, Status};
use crate::signer::{SignError, StartError, latch};

/// How many requests may wait for each session.
const PER_SESSION: usize = 16;

/// How long a worker may take to load its module, log in and prove its keys.
const START: Duration = Duration::from_secs(20);

/// How long `serve` waits for a token before it starts without it.
const PATIENCE: Duration = Duration::from_secs(25);

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// How one token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    Starting,
    Ready {
        sessions: usize,
    },
    /// It is there, and holds something else than the configuration pins.
    Mismatch(String),
    /// Its PIN was refused once; an operator has to say that it is right now.
    PinLatched(String),
    /// Not there, or gone; tried again.
    Down(String),
}

/// One worker, over all its lives.
#[derive(Debug)]
pub(super) struct Link {
    name: Arc<str>,
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<TokenState>,
    stop: CancellationToken,
    done: CancellationToken,
}

#[derive(Debug)]
struct Job {
    key: u16,
    digest: B256,
    by: Instant,
    reply: oneshot::Sender<Result<[u8; 64], SignError>>,
}

/// Requests that are with the worker, by id.
type Pending = Arc<Mutex<HashMap<u64, Job>>>;

impl Link {
    pub(super) fn start(settings: Settings, executable: PathBuf) -> Self {
        let name: Arc<str> = settings.name.as_str().into();
        let sessions = match &settings.source {
            SourceSetting::Token { sessions, .. } => *sessions,
            SourceSetting::Keystores { .. } => 2,
        };
        let (jobs, queue) = mpsc::channel(sessions.saturating_mul(PER_SESSION).max(64));
        let (tell, state) = watch::channel(TokenState::Starting);
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let keeper =
            Keeper { settings, executable, queue, tell, stop: stop.clone(), name: Arc::clone(&name) };
        let ended = done.clone();
        tokio::spawn(async move {
            keeper.run().await;
            ended.cancel();
        });
        Self { name, jobs, state, stop, done }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> TokenState {
        self.state.borrow().clone()
    }

    /// Waits for the worker's first word. Only a mismatch is a reason not to start.
    pub(super) async fn first_answer(&self) -> Result<(), StartError> {
        let mut state = self.state.clone();
        let known = timeout(PATIENCE, state.wait_for(|state| *state != TokenState::Starting)).await;
        let Ok(Ok(state)) = known else {
            tracing::error!(token = %self.name, "starting without this token: it does not answer");
            return Ok(());
        };
        match &*state {
            TokenState::Mismatch(why) => return Err(StartError(format!("token {}: {why}", self.name))),
            TokenState::Ready { .. } => {}
            other => tracing::error!(token = %self.name, state = %other, "starting without this token"),
        }
        Ok(())
    }

    /// One signature, or the reason why there is none, within `deadline`.
    pub(super) async fn sign(
        &self,
        key: u16,
        digest: B256,
        deadline: Duration,
    ) -> Result<[u8; 64], SignError> {
        let token = || self.name.to_string();
        match self.state() {
            TokenState::Ready { .. } => {}
            other => return Err(SignError::Down { token: token(), why: other.to_string() }),
        }
        let now = Instant::now();
        let (reply, answer) = oneshot::channel();
        let job = Job { key, digest, by: now.checked_add(deadline).unwrap_or(now), reply };
        self.jobs.try_send(job).map_err(|_| SignError::Busy { token: token() })?;
        let signed = timeout(deadline, answer).await;
        metrics::histogram!("chancery_sign_seconds", "token" => token()).record(now.elapsed().as_secs_f64());
        let result = match signed {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SignError::Down { token: token(), why: "its worker process ended".to_owned() }),
            Err(_) => Err(SignError::Timeout),
        };
        if let Err(error) = &result {
            metrics::counter!("chancery_sign_errors_total", "token" => token(), "class" => error.label())
                .increment(1);
        }
        result
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        drop(timeout(Duration::from_secs(3), self.done.cancelled()).await);
    }
}

impl SignError {
    const fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Busy { .. } => "busy",
            Self::Down { .. } => "down",
            Self::Refused { .. } => "refused",
            Self::BadSignature { .. } => "bad_signature",
            Self::NoKey(_) => "no_key",
        }
    }
}

/// Keeps a worker alive.
struct Keeper {
    settings: Settings,
    executable: PathBuf,
    queue: mpsc::Receiver<Job>,
    tell: watch::Sender<TokenState>,
    stop: CancellationToken,
    name: Arc<str>,
}

impl Keeper {
    async fn run(mut self) {
        let mut wait = FIRST_BACK_OFF;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let why = match self.one_life().await {
                Ok(()) => return,
                Err(state) => state,
            };
            tracing::error!(token = %self.name, state = %why, "the signer worker is not available");
            self.tell.send_replace(why.clone());
            self.refuse_queued(&why);
            // A worker that lived for a while and died is started again at once.
            wait = if began.elapsed() > LONGEST_BACK_OFF { FIRST_BACK_OFF } else { wait };
            let pause = self.pause(&why, wait);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = pause => {}
            }
            wait = wait.saturating_mul(2).min(LONGEST_BACK_OFF);
            metrics::counter!("chancery_worker_starts_total", "token" => self.name.to_string()).increment(1);
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
                while !matches!(latch::reason(&file), Ok(None)) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Starts a worker and serves it until it ends; `Ok` when we are to stop.
    async fn one_life(&mut self) -> Result<(), TokenState> {
        let down = |why: &dyn fmt::Display| TokenState::Down(why.to_string());
        let (mut child, stream) = self.spawn().map_err(|e| down(&e))?;
        let (mut from, mut to) = stream.into_split();
        let mut out = Vec::new();
        Frame::Settings(serde_json::to_vec(&self.settings).map_err(|e| down(&e))?).write(&mut out);
        to.write_all(&out).await.map_err(|e| down(&e))?;
        let sessions = match timeout(START, read(&mut from)).await {
            Ok(Ok(Frame::Status(Status::Ready { sessions }))) => sessions,
            Ok(Ok(Frame::Status(Status::Mismatch(why)))) => return Err(TokenState::Mismatch(why)),
            Ok(Ok(Frame::Status(Status::Latched(why)))) => return Err(TokenState::PinLatched(why)),
            Ok(Ok(Frame::Status(Status::Down(why)))) => return Err(TokenState::Down(why)),
            Ok(_) => return Err(down(&"its worker process ended before it was ready")),
            Err(_) => return Err(down(&"it did not get ready in time")),
        };
        tracing::info!(token = %self.name, sessions, keys = self.settings.keys.len(), "token ready, every key proved");
        self.tell.send_replace(TokenState::Ready { sessions });

        let pending = Pending::default();
        let room = sessions.saturating_mul(PER_SESSION).max(64);
        let why = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            () = hand_over(&mut self.queue, &mut to, &pending, room) => "the socket to its worker broke".to_owned(),
            why = take_back(&mut from, &pending, &self.name) => why,
            status = child.wait() => status.map_or_else(|e| e.to_string(), |status| format!("its worker process ended ({status})")),
        };
        self.tell.send_replace(TokenState::Down(why.clone()));
        for (_, job) in pending.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            drop(job.reply.send(Err(SignError::Down { token: self.name.to_string(), why: why.clone() })));
        }
        Err(TokenState::Down(why))
    }

    /// The socketpair's other end is the worker's standard input: nothing about the token is in its arguments.
    fn spawn(&self) -> std::io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&self.executable)
            .arg("signer-worker")
            .env_clear()
            .envs(&self.settings.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }

    fn refuse_queued(&mut self, why: &TokenState) {
        while let Ok(job) = self.queue.try_recv() {
            let error = SignError::Down { token: self.name.to_string(), why: why.to_string() };
            drop(job.reply.send(Err(error)));
        }
    }
}

/// Writes what is queued, many requests in one write.
async fn hand_over(queue: &mut mpsc::Receiver<Job>, to: &mut OwnedWriteHalf, pending: &Pending, room: usize) {
    let (mut next, mut batch, mut out) = (0_u64, Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, 64).await > 0 {
        out.clear();
        let now = Instant::now();
        for job in batch.drain(..) {
            // Whoever gave up is not signed for.
            if job.reply.is_closed() || job.by <= now {
                continue;
            }
            let within = job.by.saturating_duration_since(now).as_millis();
            let within_ms = u32::try_from(within).unwrap_or(u32::MAX);
            next = next.wrapping_add(1);
            let frame = Frame::Sign { id: next, within_ms, key: job.key, digest: job.digest };
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            // What a worker never answered is not kept for ever.
            if pending.len() >= room {
                pending.retain(|_, job| job.by > now);
            }
            if pending.len() >= room {
                drop(job.reply.send(Err(SignError::Timeout)));
                continue;
            }
            pending.insert(next, job);
            frame.write(&mut out);
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
    // The last sender is gone with the signer itself.
    std::future::pending::<()>().await;
}

/// Gives each answer to whoever waits for it; returns why there will be no more.
async fn take_back(from: &mut OwnedReadHalf, pending: &Pending, name: &Arc<str>) -> String {
    loop {
        let (id, result) = match read(from).await {
            Ok(Frame::Signed { id, raw }) => (id, Ok(raw)),
            Ok(Frame::Failed { id, class, why }) => (id, Err(error_of(class, name, why))),
            Ok(Frame::Status(Status::Down(why) | Status::Mismatch(why) | Status::Latched(why))) => {
                return why;
            }
            Ok(_) => return "its worker does not keep to the protocol".to_owned(),
            Err(error) => return format!("its worker process is gone ({error})"),
        };
        let job = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(job) = job {
            drop(job.reply.send(result));
        }
    }
}

fn error_of(class: Class, name: &Arc<str>, why: String) -> SignError {
    metrics::counter!("chancery_token_errors_total", "token" => name.to_string(), "class" => class.label())
        .increment(1);
    let token = name.to_string();
    match class {
        Class::Late => SignError::Timeout,
        Class::Busy => SignError::Busy { token },
        Class::Request => SignError::Refused { token, why },
        Class::Session | Class::Down | Class::Credentials => SignError::Down { token, why },
    }
}

async fn read(from: &mut OwnedReadHalf) -> std::io::Result<Frame> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let length = Frame::length(length).map_err(std::io::Error::other)?.min(MAX_FRAME);
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Frame::read(&body).map_err(std::io::Error::other)
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready { sessions } => write!(f, "ready, {sessions} sessions"),
            Self::Mismatch(why) | Self::Down(why) => f.write_str(why),
            Self::PinLatched(why) => {
                write!(
                    f,
                    "its PIN was tried and is not tried again ({why}); set it right, then `chancery keys unlatch`"
                )
            }
        }
    }
}
