//! The connections to one node: HTTP/1.1, kept open between requests, each driven by whoever waits for its answer.
//!
//! A connection has no task of its own, and is used by the runtime only that opened it: else a request would be several
//! switches between tasks and threads, dearer than all else that is done for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt as _;

use crate::room::Room;
use crate::upstream::UpstreamError;
use crate::upstream::exchange::{Arrived, Channel, Failed};

/// Idle connections that are kept; more are opened when they are needed, and closed again.
const MAX_IDLE: usize = 256;

/// How many idle connections a request is tried on before one is opened for it.
const KEPT_TRIES: usize = 2;

/// How long a connection is kept without a request. Nodes and what stands before them close theirs after a minute or
/// more.
const MAX_REST: Duration = Duration::from_secs(30);

pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    /// May hold an API key: never shown.
    uri: Uri,
    /// The last used at the back. The lock is held for a push or a pop, never while anybody waits. Boxed: a connection is
    /// more than a kilobyte, and would be moved with every future of a request.
    idle: Mutex<VecDeque<Box<Idle>>>,
}

/// A connection between two requests.
struct Idle {
    channel: Channel<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>,
    /// The runtime that is told of what comes over it.
    home: Id,
    since: Instant,
}

impl Pool {
    pub(super) fn new(uri: Uri, tls: ClientConfig, connect_within: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_within));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Self { connector: https.wrap_connector(tcp), uri, idle: Mutex::default() }
    }

    pub(super) fn is_encrypted(uri: &Uri) -> bool {
        uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The answer to a whole request, which must come until then; of no more than `max` bytes, and if there is room.
    /// Redirects are not followed. `may_be_repeated`: it may be asked twice.
    pub(super) async fn send(
        &self,
        (request, may_be_repeated): (&[u8], bool),
        (max, room): (usize, &Arc<Room>),
        until: Instant,
    ) -> Result<Arrived, UpstreamError> {
        let home = Handle::current().id();
        let (mut kept_left, mut is_asked) = (KEPT_TRIES, false);
        loop {
            let kept = if kept_left > 0 { self.take(home) } else { None };
            let is_kept = kept.is_some();
            kept_left = kept_left.saturating_sub(1);
            let mut idle = match kept {
                Some(idle) => idle,
                // Seldom, and large: it does not travel with every request.
                None => timeout_at(until, Box::pin(self.connect(home)))
                    .await
                    .unwrap_or(Err(UpstreamError::Timeout))?,
            };
            match idle.channel.exchange(request, (max, room), until).await {
                Ok(answer) => {
                    self.put_back(idle);
                    return Ok(answer);
                }
                // Closed by the node while nobody looked.
                Err(Failed::Unsent) if is_kept => {}
                // Most likely the same, a moment later. One that has just been opened is asked then.
                Err(Failed::Unanswered(_)) if is_kept && may_be_repeated && !is_asked => {
                    (kept_left, is_asked) = (0, true);
                }
                Err(Failed::Unsent) => {
                    let why = "the connection was closed in the middle of the request";
                    return Err(UpstreamError::Unreachable(why.to_owned()));
                }
                Err(Failed::Broken(error) | Failed::Unanswered(error)) => return Err(error),
            }
        }
    }

    fn take(&self, home: Id) -> Option<Box<Idle>> {
        loop {
            let mut all = self.idle();
            let place = all.iter().rposition(|idle| idle.home == home)?;
            let mut idle = all.remove(place)?;
            drop(all);
            if idle.since.elapsed() < MAX_REST && idle.channel.is_open() {
                return Some(idle);
            }
        }
    }

    fn put_back(&self, mut idle: Box<Idle>) {
        idle.since = Instant::now();
        if !idle.channel.is_open() {
            return;
        }
        let mut all = self.idle();
        let is_stale = |since: Instant| idle.since.duration_since(since) >= MAX_REST;
        let stale = if all.len() >= MAX_IDLE || all.front().is_some_and(|oldest| is_stale(oldest.since)) {
            all.pop_front()
        } else {
            None
        };
        all.push_back(idle);
        drop(all);
        // Closing is a call of the system, and not done under the lock.
        drop(stale);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Box<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, home: Id) -> Result<Box<Idle>, UpstreamError> {
        let stream = self.connector.clone().oneshot(self.uri.clone()).await;
        let stream = stream.map_err(|e| UpstreamError::Unreachable(root_of(&*e)))?;
        Ok(Box::new(Idle { channel: Channel::new(TokioIo::new(stream)), home, since: Instant::now() }))
    }
}

/// The innermost reason (connection refused, certificate unknown), which never names the URL.
pub(super) fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
