//! The connections to one node: HTTP/1.1, kept open between requests, each driven by whoever waits for its answer.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::upstream::UpstreamError;

/// Idle connections that are kept; more are opened when they are needed, and closed again.
const MAX_IDLE: usize = 256;

/// How long a connection is kept without a request. Nodes and what stands before them close theirs after a minute or
/// more.
const MAX_REST: Duration = Duration::from_secs(30);

/// What is reserved for an answer whose length is not known, or not believed yet, in bytes.
const FIRST_PIECE: usize = 4 * 1024;
const LARGEST_FIRST_PIECE: usize = 1024 * 1024;

pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    /// May hold an API key: never shown.
    uri: Uri,
    /// The last used at the back. The lock is held for a push or a pop, never while anybody waits.
    idle: Mutex<VecDeque<Channel>>,
}

type Connection = http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>;

/// A connection that is open and between two requests.
struct Channel {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Polled by the request that is on it. It has no task of its own: a request would be two switches between tasks,
    /// often between cores, dearer than all else that is done for it.
    connection: Pin<Box<Connection>>,
    is_over: bool,
    since: Instant,
}

/// Why there was no answer.
enum Failed {
    /// The connection was closed before anything of the request was written.
    Unsent(Box<Request<Full<Bytes>>>),
    Broken(UpstreamError),
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

    /// Status and body of the answer; of no more than `max` bytes. Redirects are not followed.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), UpstreamError> {
        loop {
            let kept = self.take();
            let is_kept = kept.is_some();
            let mut channel = match kept {
                Some(channel) => channel,
                // Seldom, and large: it does not travel with every request.
                None => Box::pin(self.connect()).await?,
            };
            match channel.exchange(request, max).await {
                Ok(answer) => {
                    self.put_back(channel);
                    return Ok(answer);
                }
                // Closed by the node while nobody looked. Each round has one idle connection fewer.
                Err(Failed::Unsent(back)) if is_kept => request = *back,
                Err(Failed::Unsent(_)) => return Err(broke_off()),
                Err(Failed::Broken(error)) => return Err(error),
            }
        }
    }

    fn take(&self) -> Option<Channel> {
        loop {
            let mut channel = self.idle().pop_back()?;
            if channel.since.elapsed() < MAX_REST && channel.is_open() {
                return Some(channel);
            }
        }
    }

    fn put_back(&self, mut channel: Channel) {
        channel.since = Instant::now();
        if !channel.is_open() {
            return;
        }
        let mut idle = self.idle();
        let is_stale = |oldest: &Channel| oldest.since.elapsed() >= MAX_REST;
        let stale = if idle.len() >= MAX_IDLE || idle.front().is_some_and(is_stale) {
            idle.pop_front()
        } else {
            None
        };
        idle.push_back(channel);
        drop(idle);
        // Closing is a call of the system, and not done under the lock.
        drop(stale);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Channel, UpstreamError> {
        let stream = self.connector.clone().oneshot(self.uri.clone()).await;
        let stream = stream.map_err(|e| UpstreamError::Unreachable(root_of(&*e)))?;
        let (sender, connection) =
            http1::handshake(stream).await.map_err(|e| UpstreamError::Unreachable(root_of(&e)))?;
        Ok(Channel { sender, connection: Box::pin(connection), is_over: false, since: Instant::now() })
    }
}

impl Channel {
    /// Whether it can take a request: notices what the node did meanwhile, such as closing it.
    fn is_open(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready()
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.is_over {
            self.is_over = self.connection.as_mut().poll(context).is_ready();
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), Failed> {
        let Self { sender, connection, is_over, .. } = self;
        let mut answer = pin!(ask(sender, request, max));
        poll_fn(|context| {
            if let done @ Poll::Ready(_) = answer.as_mut().poll(context) {
                return done;
            }
            if !*is_over {
                *is_over = connection.as_mut().poll(context).is_ready();
            }
            // What the connection has just read is for the answer, and nobody else would wake it.
            answer.as_mut().poll(context)
        })
        .await
    }
}

async fn ask(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    max: usize,
) -> Result<(StatusCode, Vec<u8>), Failed> {
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            return Err(match error.take_message() {
                Some(unsent) => Failed::Unsent(Box::new(unsent)),
                None => Failed::Broken(UpstreamError::Unreachable(root_of(error.error()))),
            });
        }
    };
    let status = response.status();
    let mut body = response.into_body();
    let length = body.size_hint().upper().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > max) {
        return Err(Failed::Broken(UpstreamError::TooLarge(max)));
    }
    let mut whole = Vec::with_capacity(length.unwrap_or(FIRST_PIECE).min(LARGEST_FIRST_PIECE));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Failed::Broken(broke_off()))?.into_data() else { continue };
        if data.len() > max.saturating_sub(whole.len()) {
            return Err(Failed::Broken(UpstreamError::TooLarge(max)));
        }
        whole.extend_from_slice(&data);
    }
    Ok((status, whole))
}

fn broke_off() -> UpstreamError {
    UpstreamError::Unreachable("the connection broke in the middle of an answer".to_owned())
}

/// The innermost reason (connection refused, certificate unknown), which never names the URL.
pub(super) fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
