//! The calls of one body: each handed to the service as jsonrpsee's `Request`, the answers put in their order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jsonrpsee::core::middleware::{Batch, Notification, Request, RpcServiceT};
use jsonrpsee::types::Id;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Client;
use crate::identity::{Caller, IdempotencyKey, RequestId, Ticket};
use crate::methods::{Cause, Method, Outbox, Refusal, Reply, Text, TooLate};
use crate::rpc::budget::{Budget, Over};
use crate::rpc::envelope::{Body, Bounds, Entry, EntryError, Envelope};
use crate::rpc::share::Place;
use crate::rpc::tally::Tally;

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
    pub tally: Tally,
}

/// Who asks, and how.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub client: &'a Arc<Client>,
    /// The name that the client gave to the body; in a batch each call has it with its place.
    pub key: Option<&'a IdempotencyKey>,
    /// Where news go that are subscribed to.
    pub outbox: Option<&'a Outbox>,
    /// What of its client's share the answer takes.
    pub place: &'a Place,
    /// Whether the client's certificate is still accepted.
    pub may_ask: &'a Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Asking<'_> {
    fn caller(&self, request: RequestId) -> Caller {
        Caller::new(Arc::clone(self.client), request).with_room(Arc::clone(self.place.room()))
    }

    /// For what goes on where the client hangs up.
    fn ticket(&self) -> Ticket {
        Ticket::new(Arc::clone(self.may_ask), self.place.keep())
    }
}

/// Calls of a batch, each with its place in it.
enum Lane<'a> {
    /// One after another.
    InOrder(Vec<(usize, Envelope<'a>)>),
    /// All at once, as one batch of the service.
    Together(Vec<(usize, Envelope<'a>)>),
}

/// What a call left to be answered, and where in the batch.
type Placed = (usize, Option<Bytes>);

/// How many lanes of one batch run at the same time.
const LANES: usize = 16;

/// How much of a body that cannot be read is searched for the name of a method that signs, in bytes.
const NAMES_WITHIN: usize = 4096;

/// The longest method name that logs repeat; every real one is far shorter.
const LONGEST_NAME: usize = 64;

impl<S> Calls<S>
where
    S: RpcServiceT<MethodResponse = Reply, BatchResponse = Vec<Reply>> + Send + Sync,
{
    /// Does what `body` asks. `None`: nothing is to be answered, for all of it were notifications.
    pub async fn answer(&self, asking: Asking<'_>, body: &[u8]) -> Option<Text> {
        match Body::read(body, self.bounds) {
            Ok(Body::Single(entry)) => {
                let budget = Budget::new(usize::MAX, self.begin_within, asking.place);
                self.entry(asking, asking.key.cloned(), entry, &budget).await
            }
            // Boxed: it is much larger than a single call, which would carry its room around.
            Ok(Body::Batch(entries)) => Box::pin(self.batch(asking, entries)).await.map(Text::from),
            Err(error) => {
                // Nobody can say what such a body asks; that it names a signature is enough to write it down.
                let head = body.get(..NAMES_WITHIN).unwrap_or(body);
                let mut parts = head.split(|byte| *byte == b'"').filter_map(|part| str::from_utf8(part).ok());
                let named = parts.find(|part| (self.is_ordered)(part));
                let client = asking.client;
                Some(self.refuse_malformed(client, Id::Null, named, &Refusal::from(&error)).await.into())
            }
        }
    }

    /// The node's reads go together, calls of ordered methods one after another in one lane, and the others side by side.
    async fn batch(&self, asking: Asking<'_>, entries: Vec<Entry<'_>>) -> Option<Bytes> {
        let budget = Budget::new(self.max_batch_answer, self.begin_within, asking.place);
        let mut answers: Vec<Option<Bytes>> = vec![None; entries.len()];
        let mut place_answers = |placed: Vec<Placed>| {
            for (place, answer) in placed {
                if let Some(slot) = answers.get_mut(place) {
                    *slot = answer;
                }
            }
        };

        let (mut ordered, mut reads, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
        for (place, entry) in entries.into_iter().enumerate() {
            match entry {
                Ok(envelope) if (self.is_ordered)(&envelope.method) => ordered.push((place, envelope)),
                Ok(envelope) if is_read(&envelope) => reads.push((place, envelope)),
                Ok(envelope) => lanes.push(Lane::InOrder(vec![(place, envelope)])),
                Err(error) => {
                    let refused = self.refuse_entry(asking.client, error).await;
                    place_answers(vec![(place, Some(refused))]);
                }
            }
        }
        let first = [Lane::InOrder(ordered), Lane::Together(reads)];

        let mut waiting = first.into_iter().chain(lanes);
        let mut running: FuturesUnordered<_> =
            waiting.by_ref().take(LANES).map(|lane| self.lane(asking, lane, &budget)).collect();
        while let Some(placed) = running.next().await {
            place_answers(placed);
            running.extend(waiting.next().map(|lane| self.lane(asking, lane, &budget)));
        }
        joined(&answers)
    }

    async fn lane(&self, asking: Asking<'_>, lane: Lane<'_>, budget: &Budget<'_>) -> Vec<Placed> {
        let calls = match lane {
            Lane::Together(calls) => return self.together(asking, calls, budget).await,
            Lane::InOrder(calls) => calls,
        };
        let mut placed = Vec::with_capacity(calls.len());
        for (place, envelope) in calls {
            let (key, id) = (asking.key.map(|key| key.at(place)), envelope.id.clone());
            let answer = self.entry(asking, key, Ok(envelope), budget).await;
            let sound = |answer: Text| sound(asking.client, id.as_ref(), answer.into_json());
            placed.push((place, answer.map(sound)));
        }
        placed
    }

    async fn together(
        &self,
        asking: Asking<'_>,
        calls: Vec<(usize, Envelope<'_>)>,
        budget: &Budget<'_>,
    ) -> Vec<Placed> {
        if calls.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let (mut batch, mut asked) = (Batch::with_capacity(calls.len()), Vec::with_capacity(calls.len()));
        for (place, envelope) in calls {
            let (Some(id), Ok(request)) = (envelope.id, RequestId::random()) else { continue };
            let caller = asking.caller(request);
            let name = Method::find(&envelope.method).map_or("other", Method::label);
            let mut call = Request::borrowed("", envelope.params, id.clone());
            call.method = envelope.method;
            call.extensions.insert(caller.clone());
            batch.push(call);
            asked.push((place, id, caller, name));
        }
        let span = tracing::debug_span!("reads", client = asking.client.name, count = asked.len());
        let replies = self.service.batch(batch).instrument(span).await;
        let placed = asked.into_iter().zip(replies).map(|((place, id, caller, name), mut reply)| {
            let room = budget.take(&mut reply);
            let outcome = room.as_ref().map_or_else(|over| over.outcome(), |()| outcome_of(&reply));
            self.tally.count(name, false, outcome, started);
            let answer = match room {
                Ok(()) => reply.into_json(),
                Err(over) => refuse(&caller, &id, &over.refusal()),
            };
            (place, Some(sound(asking.client, Some(&id), answer)))
        });
        placed.collect()
    }

    async fn entry(
        &self,
        asking: Asking<'_>,
        key: Option<IdempotencyKey>,
        entry: Entry<'_>,
        budget: &Budget<'_>,
    ) -> Option<Text> {
        let client = asking.client;
        let envelope = match entry {
            Ok(envelope) => envelope,
            Err(error) => return Some(self.refuse_entry(client, error).await.into()),
        };
        let Ok(request) = RequestId::random() else {
            let refusal = Refusal::new(Cause::Internal, "the system gives no randomness; nothing was done");
            return envelope.id.map(|id| refuse_body(client, &id, &refusal).into());
        };
        let is_ordered = (self.is_ordered)(&envelope.method);
        // Of reads there are many, and little is said about each.
        let (client_name, method) = (&client.name, loggable(&envelope.method));
        let span = if is_ordered {
            tracing::info_span!("call", client = client_name, method, %request)
        } else {
            tracing::debug_span!("call", client = client_name, method, %request)
        };
        let ticket = is_ordered.then(|| asking.ticket());
        let caller = asking.caller(request).with_key(key).with_ticket(ticket);
        self.call(caller, envelope, (budget, asking.outbox)).instrument(span).await
    }

    async fn call(
        &self,
        caller: Caller,
        envelope: Envelope<'_>,
        (budget, outbox): (&Budget<'_>, Option<&Outbox>),
    ) -> Option<Text> {
        let started = Instant::now();
        let is_ordered = (self.is_ordered)(&envelope.method);
        let method = Method::find(&envelope.method);
        let name = method.map_or("other", Method::label);
        let count = |outcome| self.tally.count(name, is_ordered, outcome, started);
        let Some(id) = envelope.id else {
            let params = envelope.params.map(std::borrow::Cow::Borrowed);
            let mut notification = Notification::new(envelope.method, params);
            notification.extensions.insert(caller);
            self.service.notification(notification).await;
            count("notification");
            return None;
        };
        let is_late = budget.is_late(started);
        if is_late && !is_ordered {
            count("too_late");
            return Some(refuse(&caller, &id, &TooLate.into()).into());
        }
        if !is_ordered && budget.is_spent() {
            count(Over::Batch.outcome());
            return Some(refuse(&caller, &id, &Over::Batch.refusal()).into());
        }
        let mut request = Request::borrowed("", envelope.params, id.clone());
        request.method = envelope.method;
        request.extensions.insert(caller.clone());
        if let (Some(Method::Subscribe | Method::Unsubscribe), Some(outbox)) = (method, outbox) {
            request.extensions.insert(outbox.clone());
        }
        if is_late {
            // The service refuses it: what asked for a signature is recorded there.
            request.extensions.insert(TooLate);
        }
        let mut reply = self.service.call(request).await;
        let outcome = if is_late { "too_late" } else { outcome_of(&reply) };
        // An answer about a signature is never dropped: whoever does not see it would ask again. Nor is a name, which is short:
        // whoever does not know it cannot end what it is of.
        let is_told = is_ordered || method.is_some_and(Method::leaves_a_name) && reply.code().is_none();
        if let (Err(over), false) = (budget.take(&mut reply), is_told) {
            count(over.outcome());
            return Some(refuse(&caller, &id, &over.refusal()).into());
        }
        count(outcome);
        Some(reply.into_text())
    }

    async fn refuse_entry(&self, client: &Arc<Client>, error: EntryError<'_>) -> Bytes {
        self.refuse_malformed(client, error.id, error.method.as_deref(), &Refusal::from(&error.fault)).await
    }

    /// What asks for a signature and is no call is refused on the record, as every refusal of one is.
    async fn refuse_malformed(
        &self,
        client: &Arc<Client>,
        id: Id<'_>,
        named: Option<&str>,
        refusal: &Refusal,
    ) -> Bytes {
        let request = RequestId::random().ok();
        if let (Some(method), Some(request)) = (named.filter(|name| (self.is_ordered)(name)), request) {
            self.put_on_record(Caller::new(Arc::clone(client), request), method, refusal).await;
        }
        refused(client, request, &id, refusal)
    }

    /// The service keeps the record; a notification with a refusal in its hand is for that alone.
    async fn put_on_record(&self, caller: Caller, method: &str, refusal: &Refusal) {
        let mut notification = Notification::new(method.to_owned().into(), None);
        notification.extensions.insert(caller);
        notification.extensions.insert(refusal.clone());
        self.service.notification(notification).await;
    }
}

/// The answer to a call that does not reach the service, or whose answer is not passed on.
fn refuse(caller: &Caller, id: &Id<'_>, refusal: &Refusal) -> Bytes {
    refused(caller.client(), Some(caller.request()), id, refusal)
}

/// The answer to a body or an entry in which no call was found.
pub fn refuse_body(client: &Client, id: &Id<'_>, refusal: &Refusal) -> Bytes {
    refused(client, RequestId::random().ok(), id, refusal)
}

fn refused(client: &Client, request: Option<RequestId>, id: &Id<'_>, refusal: &Refusal) -> Bytes {
    let name = refusal.cause().name();
    metrics::counter!("chancery_rpc_refused_total", "cause" => name).increment(1);
    let shown = request.map(|request| request.to_string());
    tracing::info!(client = client.name, request = shown, cause = name, "refused: {refusal}");
    Reply::error(id, &refusal.to_error(request)).into_json()
}

/// The answer, if it is good JSON. A node's result that is none would take the answers beside it along, and whoever cannot
/// read that its transaction was sent sends it again.
fn sound(client: &Client, id: Option<&Id<'_>>, answer: Bytes) -> Bytes {
    if serde_json::from_slice::<&RawValue>(&answer).is_ok() {
        return answer;
    }
    let refusal =
        Refusal::new(Cause::NodeUnavailable, "the node's answer makes no sense: its result is not JSON");
    refuse_body(client, id.unwrap_or(&Id::Null), &refusal)
}

/// Whether it is a read for the node that somebody hears the answer to.
fn is_read(envelope: &Envelope<'_>) -> bool {
    envelope.id.is_some() && Method::find(&envelope.method).is_some_and(Method::is_read)
}

/// `[` answers `]`, without those of notifications.
fn joined(answers: &[Option<Bytes>]) -> Option<Bytes> {
    let length = answers.iter().flatten().map(|json| json.len().saturating_add(1)).sum::<usize>();
    let mut joined = Vec::with_capacity(length.saturating_add(1));
    for json in answers.iter().flatten() {
        joined.push(if joined.is_empty() { b'[' } else { b',' });
        joined.extend_from_slice(json);
    }
    if joined.is_empty() {
        return None;
    }
    joined.push(b']');
    Some(joined.into())
}

/// The name as logs may repeat it: whoever asks chooses it, and could write lines of its own with it.
fn loggable(method: &str) -> &str {
    let is_plain = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain && method.len() <= LONGEST_NAME { method } else { "(not a method name)" }
}

/// What became of a call, out of a fixed set: a node chooses its codes freely.
fn outcome_of(reply: &Reply) -> &'static str {
    match reply.code() {
        None => "ok",
        Some(-32700 | -32600 | -32602) => "invalid",
        Some(-32601) => "unknown_method",
        Some(-32003 | 4100) => "denied",
        Some(-32005) => "limited",
        Some(-32603) => "unavailable",
        Some(_) => "node_error",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{LazyLock, Mutex};

    use jsonrpsee::core::middleware::BatchEntry;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};
    use tokio::sync::Barrier;

    use super::*;
    use crate::room::Room;
    use crate::rpc::share::Share;
    use crate::upstream::{Answer, Json};

    /// Answers with the parameters it was given, and writes down what it saw.
    #[derive(Clone)]
    struct Recorder {
        seen: Arc<Mutex<Vec<String>>>,
        meeting: Arc<Barrier>,
        large: Json,
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
        type MethodResponse = Reply;
        type NotificationResponse = ();
        type BatchResponse = Vec<Reply>;

        fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = Reply> + Send + 'a {
            let this = self.clone();
            async move {
                if let Some(late) = request.extensions.get::<TooLate>() {
                    this.see(&format!("late {}", request.method), None);
                    let refusal = Refusal::from(*late).to_error(None);
                    return Reply::error(&request.id, &refusal);
                }
                let params = request.params.as_deref();
                assert_eq!(request.extensions.get::<Caller>().unwrap().client().name, "trader");
                this.see(&format!("begin {}", request.method), params);
                if request.method == "large" {
                    return Reply::of_node(&request.id, Answer::Result(this.large.clone()));
                }
                if request.method == "meet" {
                    this.meeting.wait().await;
                }
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                this.see(&format!("end {}", request.method), params);
                let echo = params.map_or(Value::Null, |params| serde_json::from_str(params.get()).unwrap());
                Reply::result(&request.id, &echo)
            }
        }

        fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = Vec<Reply>> + Send + 'a {
            self.see("batch", None);
            let replies = batch.into_iter().map(|entry| {
                let Ok(BatchEntry::Call(call)) = entry else { panic!("a call") };
                self.see(&call.method, call.params.as_deref());
                assert_eq!(call.extensions.get::<Caller>().unwrap().client().name, "trader");
                Reply::result(&call.id, call.params.as_deref().unwrap())
            });
            std::future::ready(replies.collect())
        }

        fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = ()> + Send + 'a {
            assert!(n.extensions.get::<Caller>().is_some());
            self.see(&format!("notified {}", n.method), n.params.as_deref());
            std::future::ready(())
        }
    }

    fn calls(meeting: usize, max_batch_answer: usize) -> Calls<Recorder> {
        let large = to_raw_value(&"x".repeat(100_000)).unwrap().into();
        Calls {
            service: Recorder { seen: Arc::default(), meeting: Arc::new(Barrier::new(meeting)), large },
            bounds: Bounds { max_batch: 100, max_depth: 32 },
            is_ordered: |method| method == "sign",
            max_batch_answer,
            begin_within: Duration::from_secs(60),
            tally: Tally::default(),
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

    fn share(max_calls: usize, max: usize) -> Arc<Share> {
        Arc::new(Share::new(max_calls, Arc::new(Room::new(max, None))))
    }

    fn place() -> Place {
        share(1, usize::MAX).enter().unwrap()
    }

    static ANYBODY: LazyLock<Arc<dyn Fn() -> bool + Send + Sync>> = LazyLock::new(|| Arc::new(|| true));

    fn asking<'a>(client: &'a Arc<Client>, place: &'a Place) -> Asking<'a> {
        Asking { client, key: None, outbox: None, place, may_ask: &ANYBODY }
    }

    fn call(id: u64, method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    }

    async fn answer(calls: &Calls<Recorder>, body: &str) -> Value {
        let answer = calls.answer(asking(&trader(), &place()), body.as_bytes()).await;
        serde_json::from_slice(&answer.expect("an answer").into_json()).unwrap()
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
    async fn the_nodes_reads_of_a_batch_go_together_and_nothing_else_does() {
        let calls = calls(1, 1000);
        let body = format!(
            r#"[{}, {}, {}, {}, {{"jsonrpc":"2.0","method":"eth_call","params":[5]}}, {}]"#,
            call(1, "eth_call", "[1]"),
            call(2, "sign", "[2]"),
            call(3, "eth_chainId", "[3]"),
            call(4, "eth_getBalance", "[4]"),
            call(6, "eth_call", "[6]"),
        );
        let answer = answer(&calls, &body).await;
        let told: Vec<_> =
            answer.as_array().unwrap().iter().map(|a| (a["id"].as_u64(), a["result"][0].as_u64())).collect();
        assert_eq!(told, [1, 2, 3, 4, 6].map(|n| (Some(n), Some(n))));
        let seen = calls.service.seen();
        let at = seen.iter().position(|seen| seen == "batch ").unwrap();
        assert_eq!(seen[at + 1..at + 4], ["eth_call [1]", "eth_getBalance [4]", "eth_call [6]"]);
        assert_eq!(seen.iter().filter(|seen| *seen == "batch ").count(), 1);

        // One alone goes the same way: its answer stands among others.
        let body = format!("[{},{}]", call(1, "eth_call", "[1]"), call(2, "sign", "[2]"));
        assert_eq!(self::answer(&calls, &body).await[0]["result"], json!([1]));
        assert!(calls.service.seen().contains(&"batch ".to_owned()));

        // Past what a batch may gather they are refused like others.
        let long = format!(r#"["{}"]"#, "a".repeat(600));
        let body = format!("[{},{}]", call(1, "eth_call", &long), call(2, "eth_call", &long));
        let answer = self::answer(&calls, &body).await;
        assert!(answer[0]["result"].is_array());
        assert_eq!(answer[1]["error"]["data"]["code"], "answer_too_large");
    }

    #[test]
    fn inv_11_what_is_no_json_takes_no_other_answer_along() {
        let client = trader();
        let good = Bytes::from_static(br#"{"id":1,"result":[]}"#);
        assert_eq!(sound(&client, None, good.clone()), good);
        for bad in
            [r#"{"id":1,"result":[}}"#, r#"{"id":1,"result":1},{"id":2,"result":2}"#, r#"{"id":1,"result":}"#]
        {
            let answer = sound(&client, Some(&Id::Number(1)), Bytes::copy_from_slice(bad.as_bytes()));
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(
                (&answer["id"], &answer["error"]["data"]["code"]),
                (&json!(1), &json!("node_unavailable"))
            );
        }
    }

    #[tokio::test]
    async fn nothing_answers_a_notification() {
        let calls = calls(1, 1000);
        let note = r#"{"jsonrpc":"2.0","method":"sign","params":[1]}"#;
        assert_eq!(calls.answer(asking(&trader(), &place()), note.as_bytes()).await, None);
        assert_eq!(
            calls.answer(asking(&trader(), &place()), format!("[{note},{note}]").as_bytes()).await,
            None
        );
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
    async fn inv_12_the_name_of_what_was_made_is_told_though_there_is_no_room() {
        let calls = calls(1, 150);
        let long = format!(r#"["{}"]"#, "a".repeat(150));
        for (method, is_told) in [("eth_subscribe", true), ("eth_newFilter", true), ("echo", false)] {
            // They begin together; the long one ends first, and there is nothing left.
            let batch = format!("[{},{}]", call(1, "echo", &long), call(2, method, "[7]"));
            let answer = answer(&calls, &batch).await;
            assert_eq!(answer[0]["error"]["data"]["code"], "answer_too_large");
            assert_eq!(answer[1]["result"] == json!([7]), is_told, "{method}: {answer}");
        }
    }

    #[tokio::test]
    async fn inv_12_reads_of_a_client_that_does_not_read_are_refused_and_signatures_are_not() {
        let calls = calls(1, 10_000);
        let long = format!(r#"["{}"]"#, "a".repeat(80));
        let share = share(10, 150);
        let (client, unread) = (trader(), share.enter().unwrap());
        assert!(unread.make_room(100), "an answer that is there, and is not read");
        let ask = async |call: String| {
            let place = share.enter().unwrap();
            let answer = calls.answer(asking(&client, &place), call.as_bytes()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.into_json()).unwrap()
        };
        assert_eq!(ask(call(1, "echo", &long)).await["error"]["data"]["code"], "busy");
        assert_eq!(
            ask(format!("[{}]", call(1, "eth_call", &long))).await[0]["error"]["data"]["code"],
            "busy"
        );
        assert!(ask(call(1, "sign", &long)).await["result"].is_array());
        drop(unread);
        assert!(ask(call(1, "echo", &long)).await["result"].is_array());
    }

    #[tokio::test]
    async fn inv_12_what_many_share_is_written_for_nobody_before_there_is_room() {
        let calls = calls(1, usize::MAX);
        let (client, share) = (trader(), share(100, 250_000));
        let mut told = Vec::new();
        for id in 0..100 {
            let place = share.enter().unwrap();
            let answer = calls.answer(asking(&client, &place), call(id, "large", "[]").as_bytes()).await;
            told.push((answer.unwrap(), place));
        }
        let shared = calls.service.large.bytes().as_ptr();
        let is_shared = |text: &Text| matches!(text, Text::Around { value, .. } if value.as_ptr() == shared);
        assert_eq!(told.iter().filter(|(text, _)| is_shared(text)).count(), 2, "and these are no copies");
        let written: usize = told.drain(..).skip(2).map(|(text, _)| text.into_json().len()).sum();
        assert!(written < 100 * 500, "the others are told to wait");
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
