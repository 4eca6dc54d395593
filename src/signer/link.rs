//! The gateway's end of one token: takes requests in, and answers each within its deadline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::later;
use crate::signer::count::{Count, Counter};
use crate::signer::keeper::Keeper;
use crate::signer::launch::Launch;
use crate::signer::protocol::{Confinement, Settings, SourceSetting};
use crate::signer::queue::{Answer, Job, Queue};
use crate::signer::share::Share;
use crate::signer::{SignError, StartError};

/// How many requests may wait for each session.
const PER_SESSION: usize = 16;

/// How long `serve` waits for a token before it starts without it.
const PATIENCE: Duration = Duration::from_secs(25);

/// Requests in a row that a token did not answer, after which others are asked before it.
const STRIKES: u32 = 3;

/// After so long with an open breaker and no signature an operator is told.
const FAILS_AFTER: Duration = Duration::from_secs(3);

/// How one token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    Starting,
    Ready {
        sessions: usize,
    },
    /// Its worker ended, and another is on its way: what is asked meanwhile waits for it.
    Restarting(String),
    /// It is there, and holds something else than the configuration pins.
    Mismatch(String),
    /// Its PIN was refused once; an operator has to say that it is right now.
    PinLatched(String),
    /// Not there, or gone; tried again.
    Down(String),
}

/// One token, over all the lives of its worker.
#[derive(Debug)]
pub(super) struct Link {
    name: Arc<str>,
    queue: Arc<Queue>,
    counter: Arc<Counter>,
    state: watch::Receiver<TokenState>,
    confinement: watch::Receiver<Option<Confinement>>,
    /// The last life of a worker that gave a signature of another key.
    distrusted: watch::Sender<u64>,
    strikes: AtomicU32,
    /// The breaker is open: it is there, and does not sign.
    open: AtomicBool,
    /// When it last signed, in milliseconds from `began`.
    signed: AtomicU64,
    began: Instant,
    stop: CancellationToken,
    done: CancellationToken,
    /// How long its worker may take to end.
    ends_within: Duration,
    seconds: metrics::Histogram,
}

impl Link {
    pub(super) fn start(settings: Settings, launch: Launch) -> Self {
        let name: Arc<str> = settings.name.as_str().into();
        let sessions = match &settings.source {
            SourceSetting::Token { sessions, .. } => *sessions,
            SourceSetting::Keystores { .. } => 2,
        };
        let queue = Arc::new(Queue::new(sessions.saturating_mul(PER_SESSION).max(64)));
        let (tell, state) = watch::channel(TokenState::Starting);
        let (confine, confinement) = watch::channel(None);
        let (distrusted, distrust) = watch::channel(0);
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let (counter, ends_within) = (Arc::<Counter>::default(), settings.end_limit());
        let keeper = Keeper {
            settings,
            launch,
            queue: Arc::clone(&queue),
            counter: Arc::clone(&counter),
            tell,
            confinement: confine,
            distrust,
            stop: stop.clone(),
            name: Arc::clone(&name),
        };
        let ended = done.clone();
        tokio::spawn(async move {
            keeper.run().await;
            ended.cancel();
        });
        let seconds = metrics::histogram!("chancery_sign_seconds", "token" => name.to_string());
        Self {
            name,
            queue,
            counter,
            state,
            confinement,
            distrusted,
            strikes: AtomicU32::new(0),
            open: AtomicBool::new(false),
            signed: AtomicU64::new(0),
            began: Instant::now(),
            stop,
            done,
            ends_within,
            seconds,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn count(&self) -> Count {
        self.counter.count()
    }

    pub(super) fn state(&self) -> TokenState {
        self.state.borrow().clone()
    }

    /// What the kernel keeps from its worker; nothing before one was ready.
    pub(super) fn confinement(&self) -> Option<Confinement> {
        self.confinement.borrow().clone()
    }

    /// Its breaker is open, and has been for longer than a rush of requests that came too late would keep it so.
    pub(super) fn fails(&self) -> bool {
        self.open.load(Ordering::Relaxed) && self.silent_for() >= FAILS_AFTER
    }

    /// Since its last signature.
    fn silent_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.signed.load(Ordering::Relaxed)))
    }

    /// Ready, or about to be again: what it is asked it answers, or takes its time.
    pub(super) fn is_of_use(&self) -> bool {
        matches!(*self.state.borrow(), TokenState::Ready { .. } | TokenState::Restarting(_))
    }

    /// Ready, and its breaker closed.
    pub(super) fn is_well(&self) -> bool {
        matches!(*self.state.borrow(), TokenState::Ready { .. }) && !self.open.load(Ordering::Relaxed)
    }

    /// Whether it is to be asked for a signature that nobody needs: to see that it signs again, or to keep its
    /// sessions from being closed for idleness.
    pub(super) fn wants_probe(&self, idle: Duration) -> bool {
        let is_ready = matches!(*self.state.borrow(), TokenState::Ready { .. });
        is_ready && (self.open.load(Ordering::Relaxed) || self.silent_for() >= idle)
    }

    /// What the breaker learns of the end of a request, which had a fair time or not.
    fn learn(&self, result: &Answer, is_fair: bool) {
        let is_open = match result {
            Ok(_) => {
                let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.signed.store(now, Ordering::Relaxed);
                self.strikes.store(0, Ordering::Relaxed);
                false
            }
            Err(SignError::Timeout) if !is_fair => return,
            Err(SignError::Timeout | SignError::Down { .. }) => {
                self.strikes.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= STRIKES
            }
            Err(_) => return,
        };
        if self.open.swap(is_open, Ordering::Relaxed) != is_open {
            tracing::warn!(token = %self.name, open = is_open, "the breaker of a token changed");
            let value = if is_open { 1.0 } else { 0.0 };
            metrics::gauge!("chancery_token_breaker_open", "token" => self.name.to_string()).set(value);
        }
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
            TokenState::Mismatch(why) => {
                return Err(StartError::Wrong(format!("token {}: {why}", self.name)));
            }
            TokenState::Ready { .. } => {}
            other => tracing::error!(token = %self.name, state = %other, "starting without this token"),
        }
        Ok(())
    }

    /// One signature, or the reason why there is none, in its share of the time.
    pub(super) async fn sign(&self, client: &str, key: u16, digest: B256, share: Share) -> Answer {
        let token = || self.name.to_string();
        match self.state() {
            TokenState::Ready { .. } | TokenState::Restarting(_) => {}
            other => return Err(SignError::Down { token: token(), why: other.to_string() }),
        }
        let now = Instant::now();
        let (reply, answer) = oneshot::channel();
        let by = later(now, share.within);
        let job = Job { client: client.into(), key, digest, by, tries: 0, reply };
        if let Err(one_too_many) = self.queue.push(job) {
            metrics::counter!("chancery_sign_queue_rejects_total", "token" => token()).increment(1);
            drop(one_too_many.reply.send(Err(SignError::Busy { token: token() })));
        }
        let signed = timeout(share.within, answer).await;
        self.seconds.record(now.elapsed().as_secs_f64());
        let result = match signed {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if Instant::now() < by => {
                Err(SignError::Down { token: token(), why: "the gateway is stopping".to_owned() })
            }
            // Whoever had it let go of it when its time was over.
            Ok(Err(_)) | Err(_) => Err(SignError::Timeout),
        };
        self.learn(&result, share.is_fair);
        if let Err(error) = &result {
            metrics::counter!("chancery_sign_errors_total", "token" => token(), "class" => error.label())
                .increment(1);
        }
        result
    }

    /// What this life of the worker signed was not by the account: a handle may name another key now. Only a new
    /// worker, which proves every key, is believed again.
    pub(super) fn distrust(&self, life: u64) {
        self.distrusted.send_if_modified(|last| {
            let newer = *last < life;
            *last = life.max(*last);
            newer
        });
    }

    pub(super) async fn stop(&self) {
        /// The worker's own limit comes first.
        const MORE: Duration = Duration::from_secs(1);
        self.stop.cancel();
        drop(timeout(self.ends_within.saturating_add(MORE), self.done.cancelled()).await);
    }
}

impl SignError {
    /// Another token may do better.
    pub(super) const fn is_tokens_own(&self) -> bool {
        matches!(self, Self::Timeout | Self::Busy { .. } | Self::Down { .. } | Self::Refused { .. })
    }

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

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready { sessions } => write!(f, "ready, {sessions} sessions"),
            Self::Restarting(why) => write!(f, "its worker is started anew: {why}"),
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

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("not in a sandbox, as the configuration says"),
            Self::Whole { network: false } => f.write_str("in a sandbox, without the network"),
            Self::Whole { network: true } => f.write_str("in a sandbox, with the network"),
            Self::Part(missing) => write!(f, "not in the whole of its sandbox: {missing}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that signs nothing: nobody takes from its queue.
    fn dead() -> Link {
        let (_, state) = watch::channel(TokenState::Ready { sessions: 1 });
        Link {
            name: "main".into(),
            queue: Arc::new(Queue::new(8)),
            counter: Arc::default(),
            state,
            confinement: watch::channel(None).1,
            distrusted: watch::channel(0).0,
            strikes: AtomicU32::default(),
            open: AtomicBool::default(),
            signed: AtomicU64::default(),
            began: Instant::now(),
            stop: CancellationToken::new(),
            done: CancellationToken::new(),
            ends_within: Duration::ZERO,
            seconds: metrics::Histogram::noop(),
        }
    }

    #[tokio::test]
    async fn the_breaker_opens_after_requests_that_had_a_fair_time_and_no_others() {
        for is_fair in [false, true] {
            let link = dead();
            for _ in 0..STRIKES {
                assert!(link.is_well());
                let share = Share { within: Duration::from_millis(1), is_fair };
                assert_eq!(link.sign("trader", 0, B256::ZERO, share).await, Err(SignError::Timeout));
            }
            assert_eq!(link.is_well(), !is_fair);
        }
    }
}
