//! The calls of one body: each handed to the service as jsonrpsee's `Request`, the answers put in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jsonrpsee::MethodResponse;
use jsonrpsee::core::middleware::{Notification, Request, RpcServiceT};
use jsonrpsee::types::Id;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Client;
use crate::identity::{Caller, RequestId};
use crate::methods::{Cause, Refusal};
use crate::rpc::envelope::{Body, Bounds, Entry, Envelope};

/// Where calls go, and how they are told apart.
pub struct Calls<S> {
    pub service: S,
    pub bounds: Bounds,
    /// Whether calls of this method keep their order within a batch: those that sign do.
    pub is_ordered: fn(&str) -> bool,
}

/// The calls of a batch that run one after another, each with its place in the batch.
type Lane<'a> = Vec<(usize, Envelope<'a>)>;

/// What a call left to be answered, and where in the batch.
type Placed = (usize, Option<Box<RawValue>>);

/// How many lanes of one batch run at the same time.
const LANES: usize = 16;

/// Bytes of answers to reads that one batch may gather; 100 calls for the largest block would fill the memory.
const MAX_BATCH_ANSWER: usize = 32 * 1024 * 1024;

/// The longest method name that logs repeat; every real one is far shorter.
const LONGEST_NAME: usize = 64;

impl<S> Calls<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Send + Sync,
{
    /// Does what `body` asks. `None`: nothing is to be answered, for all of it were notifications.
    pub async fn answer(&self, client: &Arc<Client>, body: &[u8]) -> Option<Box<str>> {
        match Body::read(body, self.bounds) {
            Ok(Body::Single(entry)) => {
                let room = Room::new(usize::MAX);
                self.entry(client, entry, &room).await.map(Into::into)
            }
            Ok(Body::Batch(entries)) => self.batch(client, entries).await,
            Err(error) => {
                let refused = refuse(client, Id::Null, &Refusal::from(&error));
                Some(refused.into())
            }
        }
    }

    /// Reads run side by side, calls of ordered methods one after another, in one lane.
    async fn batch(&self, client: &Arc<Client>, entries: Vec<Entry<'_>>) -> Option<Box<str>> {
        let room = Room::new(MAX_BATCH_ANSWER);
        let mut answers: Vec<Option<Box<RawValue>>> = Vec::new();
        answers.resize_with(entries.len(), || None);
        let mut place_answers = |placed: Vec<Placed>| {
            for (place, answer) in placed {
                if let Some(slot) = answers.get_mut(place) {
                    *slot = answer;
                }
            }
        };

        let mut lanes: Vec<Lane<'_>> = Vec::new();
        let mut ordered = None;
        for (place, entry) in entries.into_iter().enumerate() {
            match entry {
                Ok(envelope) if (self.is_ordered)(&envelope.method) => {
                    let lane = *ordered.get_or_insert_with(|| {
                        lanes.push(Vec::new());
                        lanes.len().saturating_sub(1)
                    });
                    if let Some(lane) = lanes.get_mut(lane) {
                        lane.push((place, envelope));
                    }
                }
                Ok(envelope) => lanes.push(vec![(place, envelope)]),
                Err(error) => {
                    let refused = refuse(client, error.id, &Refusal::from(&error.fault));
                    place_answers(vec![(place, Some(refused))]);
                }
            }
        }

        let mut waiting = lanes.into_iter();
        let mut running: FuturesUnordered<_> =
            waiting.by_ref().take(LANES).map(|lane| self.lane(client, lane, &room)).collect();
        while let Some(placed) = running.next().await {
            place_answers(placed);
            running.extend(waiting.next().map(|lane| self.lane(client, lane, &room)));
        }
        joined(&answers)
    }

    async fn lane(&self, client: &Arc<Client>, lane: Lane<'_>, room: &Room) -> Vec<Placed> {
        let mut placed = Vec::with_capacity(lane.len());
        for (place, envelope) in lane {
            placed.push((place, self.entry(client, Ok(envelope), room).await));
        }
        placed
    }

    async fn entry(&self, client: &Arc<Client>, entry: Entry<'_>, room: &Room) -> Option<Box<RawValue>> {
        let envelope = match entry {
            Ok(envelope) => envelope,
            Err(error) => return Some(refuse(client, error.id, &Refusal::from(&error.fault))),
        };
        let Ok(request) = RequestId::random() else {
            let refusal = Refusal::new(Cause::Internal, "the system gives no randomness; nothing was done");
            return envelope.id.map(|id| refuse(client, id, &refusal));
        };
        let span = tracing::info_span!(
            "call", client = client.name, method = loggable(&envelope.method), %request
        );
        self.call(Caller::new(client.clone(), request), envelope, room).instrument(span).await
    }

    async fn call(&self, caller: Caller, envelope: Envelope<'_>, room: &Room) -> Option<Box<RawValue>> {
        let started = Instant::now();
        let is_ordered = (self.is_ordered)(&envelope.method);
        let class = if is_ordered { "sign" } else { "other" };
        let Some(id) = envelope.id else {
            let params = envelope.params.map(std::borrow::Cow::Borrowed);
            let mut notification = Notification::new(envelope.method, params);
            notification.extensions.insert(caller);
            self.service.notification(notification).await;
            count(class, "notification", started);
            return None;
        };
        let request_id = caller.request();
        if !is_ordered && room.is_full() {
            count(class, "too_large", started);
            return Some(too_large(id, request_id));
        }
        let mut request = Request::borrowed("", envelope.params, id.clone());
        request.method = envelope.method;
        request.extensions.insert(caller);
        let response = self.service.call(request).await;
        let outcome = outcome_of(&response);
        let json = response.into_json();
        // An answer about a signature is never dropped: whoever does not see it would ask again.
        if !room.take(json.get().len()) && !is_ordered {
            count(class, "too_large", started);
            return Some(too_large(id, request_id));
        }
        count(class, outcome, started);
        Some(json)
    }
}

/// How many more bytes of answers a batch may gather.
struct Room(AtomicUsize);

impl Room {
    const fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// `false` if there was not that much; then there is none left.
    fn take(&self, bytes: usize) -> bool {
        let taken = |left: usize| Some(left.saturating_sub(bytes));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok_and(|left| left >= bytes)
    }
}

/// The answer to what no service saw.
pub fn refuse(client: &Client, id: Id<'_>, refusal: &Refusal) -> Box<RawValue> {
    let request = RequestId::random().ok();
    let name = refusal.cause().name();
    metrics::counter!("chancery_rpc_refused_total", "cause" => name).increment(1);
    let shown = request.map(|request| request.to_string());
    tracing::info!(client = client.name, request = shown, cause = name, "refused: {refusal}");
    MethodResponse::error(id, refusal.to_error(request)).into_json()
}

fn too_large(id: Id<'_>, request: RequestId) -> Box<RawValue> {
    let refusal = Refusal::new(
        Cause::AnswerTooLarge,
        "the answers to this batch are too large together; send a smaller one",
    );
    MethodResponse::error(id, refusal.to_error(Some(request))).into_json()
}

/// `[` answers `]`, without those of notifications.
fn joined(answers: &[Option<Box<RawValue>>]) -> Option<Box<str>> {
    let length = answers.iter().flatten().map(|json| json.get().len().saturating_add(1)).sum::<usize>();
    let mut joined = String::with_capacity(length.saturating_add(1));
    for json in answers.iter().flatten() {
        joined.push(if joined.is_empty() { '[' } else { ',' });
        joined.push_str(json.get());
    }
    if joined.is_empty() {
        return None;
    }
    joined.push(']');
    Some(joined.into_boxed_str())
}

/// The name as logs may repeat it: whoever asks chooses it, and could write lines of its own with it.
fn loggable(method: &str) -> &str {
    let is_plain = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain && method.len() <= LONGEST_NAME { method } else { "(not a method name)" }
}

/// What became of a call, out of a fixed set: a node chooses its codes freely.
fn outcome_of(response: &MethodResponse) -> &'static str {
    match response.as_error_code() {
        None => "ok",
        Some(-32700 | -32600 | -32602) => "invalid",
        Some(-32601) => "unknown_method",
        Some(-32003 | 4100) => "denied",
        Some(-32005) => "limited",
        Some(-32603) => "unavailable",
        Some(_) => "node_error",
    }
}

fn count(class: &'static str, outcome: &'static str, started: Instant) {
    metrics::counter!("chancery_rpc_calls_total", "class" => class, "outcome" => outcome).increment(1);
    metrics::histogram!("chancery_rpc_call_seconds", "class" => class)
        .record(started.elapsed().as_secs_f64());
}
