//! The calls of one body: each handed to the service as jsonrpsee's `Request`, the answers put in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jsonrpsee::MethodResponse;
use jsonrpsee::core::middleware::{Notification, Request, RpcServiceT};
use jsonrpsee::types::Id;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Client;
use crate::identity::{Caller, IdempotencyKey, RequestId};
use crate::methods::{Cause, Method, Refusal, TooLate};
use crate::rpc::envelope::{Body, Bounds, Entry, EntryError, Envelope};

/// Where calls go, and how they are told apart.
pub struct Calls<S> {
    pub service: S,
    pub bounds: Bounds,
    /// Whether calls of this method keep their order within a batch: those that sign do.
    pub is_ordered: fn(&str) -> bool,
    /// Bytes of answers to reads that one batch may gather.
    pub max_batch_answer: usize,
    /// A call of a batch that did not begin within this is refused: its client has stopped waiting for it.
    pub begin_within: Duration,
}

/// The calls of a batch that run one after another, each with its place in the batch.
type Lane<'a> = Vec<(usize, Envelope<'a>)>;

/// What a call left to be answered, and where in the batch.
type Placed = (usize, Option<Box<RawValue>>);

/// How many lanes of one batch run at the same time.
const LANES: usize = 16;

/// How much of a body that cannot be read is searched for the name of a method that signs, in bytes.
const NAMES_WITHIN: usize = 4096;

/// The longest method name that logs repeat; every real one is far shorter.
const LONGEST_NAME: usize = 64;

impl<S> Calls<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Send + Sync,
{
    /// Does what `body` asks. `None`: nothing is to be answered, for all of it were notifications.
    /// `key` is the name that the client gave to it; in a batch each call has it with its place.
    pub async fn answer(
        &self,
        client: &Arc<Client>,
        key: Option<&IdempotencyKey>,
        body: &[u8],
    ) -> Option<Box<str>> {
        match Body::read(body, self.bounds) {
            Ok(Body::Single(entry)) => {
                let budget = Budget::new(usize::MAX, self.begin_within);
                self.entry(client, key.cloned(), entry, &budget).await.map(Into::into)
            }
            Ok(Body::Batch(entries)) => self.batch(client, key, entries).await,
            Err(error) => {
                // Nobody can say what such a body asks; that it names a signature is enough to write it down.
                let head = body.get(..NAMES_WITHIN).unwrap_or(body);
                let mut parts = head.split(|byte| *byte == b'"').filter_map(|part| str::from_utf8(part).ok());
                let named = parts.find(|part| (self.is_ordered)(part));
                let refused = self.refuse_malformed(client, Id::Null, named, &Refusal::from(&error)).await;
                Some(refused.into())
            }
        }
    }

    /// Reads run side by side, calls of ordered methods one after another, in one lane.
    async fn batch(
        &self,
        client: &Arc<Client>,
        key: Option<&IdempotencyKey>,
        entries: Vec<Entry<'_>>,
    ) -> Option<Box<str>> {
        let budget = Budget::new(self.max_batch_answer, self.begin_within);
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
                    let refused = self.refuse_entry(client, error).await;
                    place_answers(vec![(place, Some(refused))]);
                }
            }
        }

        let mut waiting = lanes.into_iter();
        let mut running: FuturesUnordered<_> =
            waiting.by_ref().take(LANES).map(|lane| self.lane(client, key, lane, &budget)).collect();
        while let Some(placed) = running.next().await {
            place_answers(placed);
            running.extend(waiting.next().map(|lane| self.lane(client, key, lane, &budget)));
        }
        joined(&answers)
    }

    async fn lane(
        &self,
        client: &Arc<Client>,
        key: Option<&IdempotencyKey>,
        lane: Lane<'_>,
        budget: &Budget,
    ) -> Vec<Placed> {
        let mut placed = Vec::with_capacity(lane.len());
        for (place, envelope) in lane {
            let key = key.map(|key| key.at(place));
            placed.push((place, self.entry(client, key, Ok(envelope), budget).await));
        }
        placed
    }

    async fn entry(
        &self,
        client: &Arc<Client>,
        key: Option<IdempotencyKey>,
        entry: Entry<'_>,
        budget: &Budget,
    ) -> Option<Box<RawValue>> {
        let envelope = match entry {
            Ok(envelope) => envelope,
            Err(error) => return Some(self.refuse_entry(client, error).await),
        };
        let Ok(request) = RequestId::random() else {
            let refusal = Refusal::new(Cause::Internal, "the system gives no randomness; nothing was done");
            return envelope.id.map(|id| refuse_body(client, id, &refusal));
        };
        let span = tracing::info_span!(
            "call", client = client.name, method = loggable(&envelope.method), %request
        );
        let caller = Caller::new(client.clone(), request).with_key(key);
        self.call(caller, envelope, budget).instrument(span).await
    }

    async fn call(&self, caller: Caller, envelope: Envelope<'_>, budget: &Budget) -> Option<Box<RawValue>> {
        let started = Instant::now();
        let is_ordered = (self.is_ordered)(&envelope.method);
        let name = Method::find(&envelope.method).map_or("other", Method::label);
        let count = |outcome| count(name, is_ordered, outcome, started);
        let Some(id) = envelope.id else {
            let params = envelope.params.map(std::borrow::Cow::Borrowed);
            let mut notification = Notification::new(envelope.method, params);
            notification.extensions.insert(caller);
            self.service.notification(notification).await;
            count("notification");
            return None;
        };
        let is_late = started > budget.begin_until;
        if is_late && !is_ordered {
            count("too_late");
            return Some(refuse(&caller, id, &TooLate.into()));
        }
        if !is_ordered && budget.is_spent() {
            count("too_large");
            return Some(refuse(&caller, id, &too_large()));
        }
        let mut request = Request::borrowed("", envelope.params, id.clone());
        request.method = envelope.method;
        request.extensions.insert(caller.clone());
        if is_late {
            // The service refuses it: what asked for a signature is recorded there.
            request.extensions.insert(TooLate);
        }
        let response = self.service.call(request).await;
        let outcome = if is_late { "too_late" } else { outcome_of(&response) };
        let json = response.into_json();
        // An answer about a signature is never dropped: whoever does not see it would ask again.
        if !budget.take(json.get().len()) && !is_ordered {
            count("too_large");
            return Some(refuse(&caller, id, &too_large()));
        }
        count(outcome);
        Some(json)
    }

    async fn refuse_entry(&self, client: &Arc<Client>, error: EntryError<'_>) -> Box<RawValue> {
        self.refuse_malformed(client, error.id, error.method.as_deref(), &Refusal::from(&error.fault)).await
    }

    /// What asks for a signature and is no call is refused on the record, as every refusal of one is.
    async fn refuse_malformed(
        &self,
        client: &Arc<Client>,
        id: Id<'_>,
        named: Option<&str>,
        refusal: &Refusal,
    ) -> Box<RawValue> {
        let request = RequestId::random().ok();
        if let (Some(method), Some(request)) = (named.filter(|name| (self.is_ordered)(name)), request) {
            self.put_on_record(Caller::new(Arc::clone(client), request), method, refusal).await;
        }
        refused(client, request, id, refusal)
    }

    /// The service keeps the record; a notification with a refusal in its hand is for that alone.
    async fn put_on_record(&self, caller: Caller, method: &str, refusal: &Refusal) {
        let mut notification = Notification::new(method.to_owned().into(), None);
        notification.extensions.insert(caller);
        notification.extensions.insert(refusal.clone());
        self.service.notification(notification).await;
    }
}

/// What the calls of one body share.
struct Budget {
    /// How many more bytes of answers they may gather.
    bytes: AtomicUsize,
    begin_until: Instant,
}

impl Budget {
    fn new(bytes: usize, begin_within: Duration) -> Self {
        let now = Instant::now();
        Self { bytes: AtomicUsize::new(bytes), begin_until: now.checked_add(begin_within).unwrap_or(now) }
    }

    fn is_spent(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    /// `false` if there was not that much; then there is nothing left.
    fn take(&self, bytes: usize) -> bool {
        let taken = |left: usize| Some(left.saturating_sub(bytes));
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok_and(|left| left >= bytes)
    }
}

fn too_large() -> Refusal {
    Refusal::new(
        Cause::AnswerTooLarge,
        "the answers to this batch are too large together; send a smaller one",
    )
}

/// The answer to a call that does not reach the service, or whose answer is not passed on.
fn refuse(caller: &Caller, id: Id<'_>, refusal: &Refusal) -> Box<RawValue> {
    refused(caller.client(), Some(caller.request()), id, refusal)
}

/// The answer to a body or an entry in which no call was found.
pub fn refuse_body(client: &Client, id: Id<'_>, refusal: &Refusal) -> Box<RawValue> {
    refused(client, RequestId::random().ok(), id, refusal)
}

fn refused(client: &Client, request: Option<RequestId>, id: Id<'_>, refusal: &Refusal) -> Box<RawValue> {
    let name = refusal.cause().name();
    metrics::counter!("chancery_rpc_refused_total", "cause" => name).increment(1);
    let shown = request.map(|request| request.to_string());
    tracing::info!(client = client.name, request = shown, cause = name, "refused: {refusal}");
    MethodResponse::error(id, refusal.to_error(request)).into_json()
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

fn count(method: &'static str, is_ordered: bool, outcome: &'static str, started: Instant) {
    metrics::counter!("chancery_rpc_calls_total", "method" => method, "outcome" => outcome).increment(1);
    // Reads and signatures differ by a token and two fsyncs: one histogram of both would tell of neither.
    let class = if is_ordered { "sign" } else { "other" };
    metrics::histogram!("chancery_rpc_call_seconds", "class" => class)
        .record(started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jsonrpsee::ResponsePayload;
    use jsonrpsee::core::middleware::Batch;
    use serde_json::{Value, json};
    use tokio::sync::Barrier;

    use super::*;

    /// Answers with the parameters it was given, and writes down what it saw.
    #[derive(Clone)]
    struct Recorder {
        seen: Arc<Mutex<Vec<String>>>,
        meeting: Arc<Barrier>,
    }

    impl Recorder {
        fn see(&self, what: &str, params: Option<&RawValue>) {
            let params = params.map_or("", RawValue::get);
            self.seen.lock().unwrap().push(format!("{what} {params}"));
        }

        fn seen(&self) -> Vec<String> {
            std::mem::take(&mut self.seen.lock().unwrap())
        }
    }

    impl RpcServiceT for Recorder {
        type MethodResponse = MethodResponse;
        type NotificationResponse = ();
        type BatchResponse = ();

        fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
            let this = self.clone();
            async move {
                if let Some(late) = request.extensions.get::<TooLate>() {
                    this.see(&format!("late {}", request.method), None);
                    let refusal = Refusal::from(*late).to_error(None);
                    return MethodResponse::error(request.id, refusal);
                }
                let params = request.params.as_deref();
                assert_eq!(request.extensions.get::<Caller>().unwrap().client().name, "trader");
                this.see(&format!("begin {}", request.method), params);
                if request.method == "meet" {
                    this.meeting.wait().await;
                }
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                this.see(&format!("end {}", request.method), params);
                let echo = params.map_or(Value::Null, |params| serde_json::from_str(params.get()).unwrap());
                MethodResponse::response(request.id, ResponsePayload::success(echo), usize::MAX)
            }
        }

        fn batch<'a>(&self, _: Batch<'a>) -> impl Future<Output = ()> + Send + 'a {
            std::future::ready(())
        }

        fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = ()> + Send + 'a {
            assert!(n.extensions.get::<Caller>().is_some());
            self.see(&format!("notified {}", n.method), n.params.as_deref());
            std::future::ready(())
        }
    }

    fn calls(meeting: usize, max_batch_answer: usize) -> Calls<Recorder> {
        Calls {
            service: Recorder { seen: Arc::default(), meeting: Arc::new(Barrier::new(meeting)) },
            bounds: Bounds { max_batch: 100, max_depth: 32 },
            is_ordered: |method| method == "sign",
            max_batch_answer,
            begin_within: Duration::from_secs(60),
        }
    }

    fn trader() -> Arc<Client> {
        Arc::new(Client {
            name: "trader".to_owned(),
            identity: "trader.example".to_owned(),
            issuer: crate::config::OWN_ISSUER.to_owned(),
            role: None,
            person: None,
            accounts: Vec::new(),
            origins: Vec::new(),
            repeat_window: None,
        })
    }

    fn call(id: u64, method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    }

    async fn answer(calls: &Calls<Recorder>, body: &str) -> Value {
        let answer = calls.answer(&trader(), None, body.as_bytes()).await;
        serde_json::from_str(&answer.expect("an answer")).unwrap()
    }

    #[tokio::test]
    async fn a_call_is_handed_on_whole_and_its_answer_handed_back() {
        let calls = calls(1, 1000);
        let body = r#"{"jsonrpc":"2.0","id":"x\u0079","method":"e\u0063ho","params":[ {"a" :1} ]}"#;
        assert_eq!(answer(&calls, body).await, json!({"jsonrpc": "2.0", "id": "xy", "result": [{"a": 1}]}));
        assert_eq!(calls.service.seen(), [r#"begin echo [ {"a" :1} ]"#, r#"end echo [ {"a" :1} ]"#]);
    }

    #[tokio::test]
    async fn what_is_refused_as_a_whole_reaches_no_service() {
        let calls = calls(1, 1000);
        for body in ["", "[]", "{}", r#"{"jsonrpc":"2.0","id":1,"method":"m","method":"n"}"#] {
            let answer = answer(&calls, body).await;
            assert_eq!(answer["id"], Value::Null, "{body}");
            assert!(answer["error"]["code"].as_i64().unwrap() <= -32600, "{body}");
            assert_eq!(answer["error"]["data"]["request_id"].as_str().unwrap().len(), 32, "{body}");
        }
        let good = call(1, "echo", "[]");
        let bad = format!("[{good},{}]", r#"{"jsonrpc":"2.0","id":2,"method":"m","params":[{"a":1,"a":2}]}"#);
        assert_eq!(answer(&calls, &bad).await["error"]["data"]["code"], "invalid_request");
        assert_eq!(calls.service.seen(), [""; 0], "also not the good half of the batch");
    }

    #[tokio::test]
    async fn what_asks_for_a_signature_and_is_no_call_is_put_on_record() {
        let calls = calls(1, 1000);
        for body in [
            r#"{"jsonrpc":"2.0","id":-1,"method":"sign"}"#,
            r#"[{"jsonrpc":"1.0","id":1,"method":"s\u0069gn"}]"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"sign","method":"sign"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"sign""#,
        ] {
            answer(&calls, body).await;
            assert_eq!(calls.service.seen(), ["notified sign "], "{body}");
        }
        answer(&calls, r#"{"jsonrpc":"2.0","id":-1,"method":"echo"}"#).await;
        assert_eq!(calls.service.seen(), [""; 0], "reads are not");
    }

    #[tokio::test]
    async fn answers_of_a_batch_stand_in_the_order_of_its_calls_without_notifications() {
        let calls = calls(2, 1000);
        let body = format!(
            r#"[{}, 7, {}, {{"jsonrpc":"2.0","method":"sign","params":[3]}}, {}, {}]"#,
            call(1, "meet", "[1]"),
            call(2, "sign", "[2]"),
            call(4, "METHOD", "4"),
            call(5, "meet", "[5]"),
        );
        let answer = answer(&calls, &body).await;
        let seen: Vec<_> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|a| (a["id"].as_u64(), a["result"][0].as_u64(), a["error"]["code"].as_i64()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some(1), Some(1), None),
                (None, None, Some(-32600)),
                (Some(2), Some(2), None),
                (Some(4), None, Some(-32600)),
                (Some(5), Some(5), None),
            ]
        );
        assert!(calls.service.seen().contains(&"notified sign [3]".to_owned()));
    }

    #[tokio::test]
    async fn nothing_answers_a_notification() {
        let calls = calls(1, 1000);
        let note = r#"{"jsonrpc":"2.0","method":"sign","params":[1]}"#;
        assert_eq!(calls.answer(&trader(), None, note.as_bytes()).await, None);
        assert_eq!(calls.answer(&trader(), None, format!("[{note},{note}]").as_bytes()).await, None);
        assert_eq!(calls.service.seen(), ["notified sign [1]"; 3]);
    }

    #[tokio::test]
    async fn calls_that_sign_keep_their_order_and_never_overlap() {
        let calls = calls(1, 1000);
        let batch: Vec<_> = (0..30)
            .map(|id| call(id, if id % 3 == 0 { "echo" } else { "sign" }, &format!("[{id}]")))
            .collect();
        answer(&calls, &format!("[{}]", batch.join(","))).await;
        let signs: Vec<_> = calls.service.seen().into_iter().filter(|seen| seen.contains("sign")).collect();
        let one_by_one: Vec<_> = (0..30)
            .filter(|id| id % 3 != 0)
            .flat_map(|id| [format!("begin sign [{id}]"), format!("end sign [{id}]")])
            .collect();
        assert_eq!(signs, one_by_one);
    }

    #[tokio::test]
    async fn inv_12_reads_of_a_batch_run_side_by_side_up_to_a_bound() {
        // None of them ends before all that may run have begun: alone, the first would wait for ever.
        let calls = calls(LANES, 10_000);
        let batch: Vec<_> = (0..96).map(|id| call(id, "meet", "[]")).collect();
        answer(&calls, &format!("[{}]", batch.join(","))).await;
        let mut running = 0_usize;
        let mut most = 0;
        for seen in calls.service.seen() {
            running = if seen.starts_with("begin") { running + 1 } else { running - 1 };
            most = most.max(running);
        }
        assert_eq!(most, LANES);
    }

    #[tokio::test]
    async fn inv_12_reads_past_the_bound_on_a_batchs_answers_are_refused_and_signatures_are_not() {
        let calls = calls(1, 150);
        let long = format!(r#"["{}"]"#, "a".repeat(80));
        let batch = [
            call(1, "sign", &long),
            call(2, "echo", &long),
            call(3, "echo", &long),
            call(4, "sign", &long),
            call(5, "sign", &long),
        ];
        let answer = answer(&calls, &format!("[{}]", batch.join(","))).await;
        let errors: Vec<_> =
            answer.as_array().unwrap().iter().map(|a| a["error"]["data"]["code"].as_str()).collect();
        let refused = Some("answer_too_large");
        assert_eq!(errors.iter().filter(|error| **error == refused).count(), 2, "{errors:?}");
        for signature in [0, 3, 4] {
            assert_eq!(errors[signature], None, "the signature is there");
        }
    }

    #[tokio::test]
    async fn inv_12_what_cannot_begin_in_time_is_refused_and_not_done() {
        let mut calls = calls(2, 1000);
        calls.begin_within = Duration::from_millis(50);
        // The first waits for a second that comes when the batch is already late.
        let body = format!("[{},{}]", call(1, "sign", "[1]"), call(2, "sign", "[2]"));
        calls.is_ordered = |method| matches!(method, "sign" | "meet");
        let late = format!("[{},{body}", call(0, "meet", "[]")).replacen(",[", ",", 1);
        let meeting = calls.service.meeting.clone();
        let other = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            meeting.wait().await;
        });
        let answer = answer(&calls, &late).await;
        other.await.unwrap();
        assert_eq!(answer[0]["result"], json!([]));
        for place in [1, 2] {
            assert_eq!(answer[place]["error"]["data"]["code"], "busy");
        }
        assert_eq!(calls.service.seen(), ["begin meet []", "end meet []", "late sign ", "late sign "]);
    }

    #[test]
    fn inv_12_the_metrics_have_no_more_labels_than_there_are_methods() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let calls = calls(1, 1000);
                for method in ["eth_call", "eth_call", "made_up", "also_made_up"] {
                    answer(&calls, &call(1, method, "[]")).await;
                }
                answer(&calls, "{").await;
            });
        });
        let rendered = recorder.handle().render();
        for line in [
            r#"chancery_rpc_calls_total{method="eth_call",outcome="ok"} 2"#,
            r#"chancery_rpc_calls_total{method="other",outcome="ok"} 2"#,
            r#"chancery_rpc_call_seconds_count{class="other"} 4"#,
            r#"chancery_rpc_refused_total{cause="parse_error"} 1"#,
        ] {
            assert!(rendered.contains(line), "{line} is not in {rendered}");
        }
        assert!(!rendered.contains("made_up"));
    }

    #[test]
    fn a_method_name_cannot_write_into_the_log() {
        assert_eq!(loggable("eth_sendTransaction"), "eth_sendTransaction");
        for name in ["a\nb", "\u{1b}[2J", "a b", &"a".repeat(65)] {
            assert_eq!(loggable(name), "(not a method name)");
        }
    }
}
