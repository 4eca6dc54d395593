//! What one node is asked, and what it answers: every call is written anew, with an id of our own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::uri::PathAndQuery;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::clock::{Clock, later};
use crate::config::{Chain, Node};
use crate::room::Room;
use crate::secret::SecretUrl;
use crate::upstream::auth::{self, Credentials};
use crate::upstream::exchange::Arrived;
use crate::upstream::pool::Pool;
use crate::upstream::{Answer, UpstreamError, batch};

/// Where our ids begin: as long as the longest of most clients, so that an answer's head can be written over in place
/// (`answer.rs`), and exact in every JSON decoder.
const FIRST_ID: u64 = 1_000_000_000_000_000;

/// How the names of methods begin that hand a transaction over, or make a filter.
const ONCE: [&str; 2] = ["eth_send", "eth_new"];

/// What leaves nothing behind to be answered a second time.
const EMPTIES: &str = "eth_getFilterChanges";

/// Room for the head of most requests, in bytes.
const HEAD: usize = 512;

/// One call. The name is of our own table, never a client's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub method: &'static str,
    /// An array or an object; nothing is `[]`.
    pub params: Option<&'a RawValue>,
}

/// What came of several calls in one body.
#[derive(Debug)]
pub(super) enum Batched {
    /// An answer to each, in their order.
    Each(Vec<Answer>),
    /// These together are too much for it, or went wrong: of other batches that says nothing.
    NotThese,
    /// One answer to all of them, as from a node that knows no batches.
    No,
}

pub(super) struct Client {
    pool: Pool,
    credentials: Credentials,
    /// The request line.
    line: String,
    shown: SecretUrl,
    timeout: Duration,
    max_answer: usize,
    next_id: AtomicU64,
    seconds: metrics::Histogram,
}

impl Call<'_> {
    /// A transaction that is handed over twice is another's word against the first; what a filter had to tell is told once, and
    /// an error says that it may be lost, where an empty answer would not.
    fn may_be_repeated(&self) -> bool {
        self.method != EMPTIES && !ONCE.iter().any(|begin| self.method.starts_with(begin))
    }
}

impl Client {
    pub(super) fn new(chain: &Chain, node: &Node, clock: Clock) -> Result<Self, UpstreamError> {
        let credentials = Credentials::new(&node.url, &node.auth, clock)?;
        let tls = auth::tls(&node.auth, Pool::is_encrypted(&credentials.uri))?;
        let path = credentials.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            line: format!("POST {path} HTTP/1.1\r\n"),
            pool: Pool::new(credentials.uri.clone(), tls, chain.timeout),
            credentials,
            shown: node.url.clone(),
            timeout: chain.timeout,
            max_answer: chain.max_answer,
            next_id: AtomicU64::new(FIRST_ID),
            seconds: metrics::histogram!("chancery_node_seconds"),
        })
    }

    /// `room`: for the answer, while it comes and until somebody else counts it.
    pub(super) async fn call(&self, call: Call<'_>, room: &Arc<Room>) -> Result<Answer, UpstreamError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut body = Vec::with_capacity(size(&call));
        write(&mut body, id, call);
        let Arrived { status, body, held } = self.timed((&body, call.may_be_repeated()), room).await?;
        Ok(read(status, body, id)?.holding(held.map(Arc::new).as_ref()))
    }

    /// All of these in one body; `None` where the node does not take that, or its answer is not one to each of them.
    pub(super) async fn batch(&self, calls: &[Call<'_>], room: &Arc<Room>) -> Result<Batched, UpstreamError> {
        let count = u64::try_from(calls.len()).unwrap_or(u64::MAX);
        let first = self.next_id.fetch_add(count, Ordering::Relaxed);
        let mut body = Vec::with_capacity(calls.iter().map(size).sum());
        for (id, call) in (first..).zip(calls) {
            body.push(if body.is_empty() { b'[' } else { b',' });
            write(&mut body, id, *call);
        }
        body.push(b']');
        match self.timed((&body, true), room).await {
            Ok(Arrived { status, body, held }) if status.is_success() => {
                let held = held.map(Arc::new);
                let answers = batch::read(&body, first, calls.len());
                Ok(answers.map_or(no_batch(status, &body), |answers| {
                    Batched::Each(answers.into_iter().map(|answer| answer.holding(held.as_ref())).collect())
                }))
            }
            Ok(Arrived { status, body, .. }) => Ok(no_batch(status, &body)),
            Err(UpstreamError::TooLarge(_)) => Ok(Batched::NotThese),
            Err(error) => Err(error),
        }
    }

    async fn timed(
        &self,
        (body, may_be_repeated): (&[u8], bool),
        room: &Arc<Room>,
    ) -> Result<Arrived, UpstreamError> {
        let asked = Instant::now();
        let until = later(asked, self.timeout);
        let request = self.request(body);
        let answer = self.pool.send((&request, may_be_repeated), (self.max_answer, room), until).await;
        self.seconds.record(asked.elapsed());
        answer
    }

    /// As it goes over the wire.
    fn request(&self, body: &[u8]) -> Vec<u8> {
        let mut request = Vec::with_capacity(body.len().saturating_add(HEAD));
        request.extend_from_slice(self.line.as_bytes());
        self.credentials.write(&mut request);
        for part in [b"content-length: ", body.len().to_string().as_bytes(), b"\r\n\r\n", body] {
            request.extend_from_slice(part);
        }
        request
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("node", &self.shown).finish_non_exhaustive()
    }
}

/// Whether a node that did not answer each call of a batch takes none at all.
fn no_batch(status: StatusCode, body: &Bytes) -> Batched {
    let is_about_these = matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS);
    let is_one_answer = body.trim_ascii_start().starts_with(b"{");
    let is_about_all = status.is_client_error() || status.is_success() && is_one_answer;
    if is_about_all && !is_about_these { Batched::No } else { Batched::NotThese }
}

/// Some nodes send JSON-RPC errors with a status of failure; a body that is JSON-RPC counts, an error page does
/// not, and a result comes with success only. A redirect is not followed, whatever is in it.
fn read(status: StatusCode, body: Bytes, id: u64) -> Result<Answer, UpstreamError> {
    if status.is_success() {
        return Answer::read(body, id);
    }
    match Answer::read(body, id) {
        Ok(Answer::Error(error)) if !status.is_redirection() => Ok(Answer::Error(error)),
        _ => Err(UpstreamError::Garbage(format!("HTTP status {}", status.as_u16()))),
    }
}

/// About as long as a call is when it is written.
fn size(call: &Call<'_>) -> usize {
    let params = call.params.map_or(2, |params| params.get().len());
    params.saturating_add(call.method.len()).saturating_add(80)
}

fn write(into: &mut Vec<u8>, id: u64, call: Call<'_>) {
    let params = call.params.map_or("[]", RawValue::get);
    let id = id.to_string();
    for part in
        [r#"{"jsonrpc":"2.0","id":"#, &id, r#","method":""#, call.method, r#"","params":"#, params, "}"]
    {
        into.extend_from_slice(part.as_bytes());
    }
}
