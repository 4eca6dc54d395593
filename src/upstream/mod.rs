//! The network: a chain's nodes, asked for reads and quotes, and handed what is recorded. Their word is not trusted.
//!
//! **Invariant:** [`Upstream::broadcast`] takes a `Recorded<Tx>`; nothing else can be sent from here.

mod answer;
mod auth;
mod batch;
mod broadcast;
mod classify;
mod client;
mod error;
mod exchange;
mod feed;
mod feeds;
mod filters;
mod flights;
mod follow;
mod health;
mod mined;
mod node;
mod nodes;
mod opinion;
mod pool;
mod quote;
mod simulate;
mod together;
mod wire;

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Chain;
use crate::room::Room;

pub use answer::{Answer, Json, NodeError};
pub use error::UpstreamError;
pub use exchange::{Framing, Head};
pub use feed::{Feed, News};
pub use follow::follow;
pub use health::Health;

use client::Call;
use feeds::Feeds;
use filters::Filters;
use flights::Flights;
use nodes::Nodes;

/// One chain, as its nodes know it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nodes: Arc<Nodes>,
    flights: Flights,
    filters: Filters,
    feeds: Feeds,
    chain_id: u64,
    finality: u64,
    /// In per cent.
    gas_margin: u64,
    /// A node did not take a transaction because it misses one below.
    above_a_gap: Notify,
}

impl Upstream {
    pub fn new(chain: &Chain, clock: &Clock) -> Result<Self, UpstreamError> {
        Ok(Self(Arc::new(Inner {
            nodes: Arc::new(Nodes::new(chain, clock)?),
            flights: Flights::default(),
            filters: Filters::default(),
            feeds: Feeds::default(),
            chain_id: chain.id,
            finality: chain.finality,
            gas_margin: chain.gas_margin,
            above_a_gap: Notify::new(),
        })))
    }

    pub fn chain_id(&self) -> u64 {
        self.0.chain_id
    }

    /// Keeps looking at the nodes until `stop`, so that a bad one is not asked first.
    pub async fn watch(self, stop: CancellationToken) {
        self.0.nodes.watch(stop).await;
    }

    /// Asks a node and passes its answer on, a result or an error of its own. Asked once for all who want the same.
    /// `room`: for the answer while it comes; without one it is counted with those to questions of our own.
    pub async fn forward(
        &self,
        room: Option<&Arc<Room>>,
        method: &'static str,
        params: Option<&RawValue>,
    ) -> Result<Answer, UpstreamError> {
        let (call, whose) = (Call { method, params }, node::Whose::Clients(room));
        let _own = whose.place().await?;
        let read = async |node: Arc<node::Node>| node.read(call, whose).await.and_then(Answer::or_elsewhere);
        self.0.flights.share(call, async || Answer::told(self.0.nodes.first(read).await)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use alloy_primitives::{Address, B256, address};
    use k256::ecdsa::SigningKey;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use crate::clock::Timestamp;
    use crate::config;
    use crate::identity::{Caller, RequestId};
    use crate::ledger::{Claim, Ledger, Outcome, Purpose, Recorded, RefusalClass};
    use crate::policy::Permitted;
    use crate::secret::SecretUrl;
    use crate::transaction::{AccountKey, Quote, QuotedFees, Request, Tx};
    use crate::upstream::node::CHAIN_ID_HOLDS;

    const POLICY: B256 = B256::repeat_byte(7);
    pub(super) const ACCOUNT: Address = address!("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
    const TIMEOUT: Duration = Duration::from_millis(400);
    const MAX_ANSWER: usize = 4096;

    /// What the fake node does with a call.
    #[derive(Clone, Debug)]
    pub(super) enum Reply {
        Result(Value),
        Error(i32, &'static str),
        /// Status and body; `ID` stands for the id that was asked.
        Raw(&'static str, &'static str),
        /// Bytes without end, one at a time or as fast as they go.
        Drip,
        Flood,
        /// A head that promises too much, and nothing after it.
        Promise,
        /// A head that promises a million bytes, nine tenths of them, and no more.
        Stall,
        Close,
        Hang,
    }

    /// A node that answers as it is told.
    #[derive(Clone, Debug)]
    pub(super) struct Fake {
        pub url: String,
        script: Arc<Mutex<HashMap<String, Reply>>>,
        calls: Arc<Mutex<Vec<(String, Value)>>>,
        /// Of each body, single call or batch.
        heads: Arc<Mutex<Vec<String>>>,
        /// How large a batch is that is refused.
        long_batches: Arc<AtomicUsize>,
        /// How large a batch is that takes longer than anybody waits.
        slow_batches: Arc<AtomicUsize>,
    }

    impl Fake {
        pub(super) async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/v3/APIKEY", listener.local_addr().unwrap());
            let fake = Self {
                url,
                script: Arc::default(),
                calls: Arc::default(),
                heads: Arc::default(),
                long_batches: Arc::new(AtomicUsize::new(usize::MAX)),
                slow_batches: Arc::new(AtomicUsize::new(usize::MAX)),
            };
            fake.on("eth_chainId", Reply::Result(json!("0x1")));
            let node = fake.clone();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let node = node.clone();
                    tokio::spawn(async move { node.converse(socket).await });
                }
            });
            fake
        }

        /// A method, or a method with all of its parameters that are strings.
        pub(super) fn on(&self, call: &str, reply: Reply) {
            self.script.lock().unwrap().insert(call.to_owned(), reply);
        }

        pub(super) fn calls(&self, method: &str) -> Vec<Value> {
            let calls = self.calls.lock().unwrap();
            calls.iter().filter(|(m, _)| m == method).map(|(_, params)| params.clone()).collect()
        }

        pub(super) fn upstream(&self, clock: &Clock) -> Upstream {
            Self::known_as(&self.url, clock)
        }

        fn known_as(url: &str, clock: &Clock) -> Upstream {
            Upstream::new(&chain_of(&[("node", url)]), clock).unwrap()
        }

        /// The chain that this is the only node of.
        pub(super) fn chain(&self) -> Chain {
            chain_of(&[("node", &self.url)])
        }

        pub(super) fn takes_batches(&self, takes: bool) {
            self.long_batches.store(if takes { usize::MAX } else { 0 }, Ordering::SeqCst);
        }

        pub(super) fn takes_batches_of(&self, most: usize) {
            self.long_batches.store(most.saturating_add(1), Ordering::SeqCst);
        }

        /// A batch of so many takes longer than anybody waits.
        pub(super) fn is_slow_with_batches_of(&self, calls: usize) {
            self.slow_batches.store(calls, Ordering::SeqCst);
        }

        /// How many bodies came.
        pub(super) fn bodies(&self) -> usize {
            self.heads.lock().unwrap().len()
        }

        async fn converse(&self, socket: TcpStream) {
            let mut socket = BufReader::new(socket);
            while let Some((head, body)) = read_body(&mut socket).await {
                self.heads.lock().unwrap().push(head);
                let answer = match &body {
                    Value::Array(calls) if calls.len() >= self.long_batches.load(Ordering::SeqCst) => {
                        let error = json!({ "code": -32600, "message": "one at a time" });
                        ok(&json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string())
                    }
                    Value::Array(calls) if calls.len() >= self.slow_batches.load(Ordering::SeqCst) => {
                        std::future::pending().await
                    }
                    Value::Array(calls) => {
                        let answers = calls.iter().map(|call| {
                            let answer = self.answer_of(call);
                            match self.reply_to(call) {
                                Some(Reply::Close | Reply::Hang) => Value::Null,
                                _ => answer.unwrap_or_default(),
                            }
                        });
                        let answers: Vec<Value> = answers.collect();
                        if answers.contains(&Value::Null) {
                            return;
                        }
                        ok(&Value::Array(answers).to_string())
                    }
                    call => match (self.answer_of(call), self.reply_to(call)) {
                        (Some(answer), _) => ok(&answer.to_string()),
                        (None, Some(Reply::Raw(status, body))) => {
                            http(status, &body.replace("ID", &call["id"].to_string()))
                        }
                        (None, Some(Reply::Close)) => return,
                        (None, Some(Reply::Hang) | None) => std::future::pending().await,
                        (None, Some(endless)) => {
                            flood(&mut socket, &endless).await;
                            return;
                        }
                    },
                };
                if socket.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }

        fn reply_to(&self, call: &Value) -> Option<Reply> {
            let words = call["params"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let method = call["method"].as_str().unwrap();
            let whole = std::iter::once(method).chain(words).collect::<Vec<_>>().join(" ");
            let script = self.script.lock().unwrap();
            script.get(&whole).or_else(|| script.get(method)).cloned()
        }

        /// The JSON-RPC answer, where that is what it is told to give.
        fn answer_of(&self, call: &Value) -> Option<Value> {
            let (method, params) = (call["method"].as_str().unwrap().to_owned(), call["params"].clone());
            self.calls.lock().unwrap().push((method, params));
            let id = &call["id"];
            let error = |code: i32, message: &str| {
                let error = json!({ "code": code, "message": message });
                Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
            };
            match self.reply_to(call) {
                Some(Reply::Result(result)) => Some(json!({ "jsonrpc": "2.0", "id": id, "result": result })),
                Some(Reply::Error(code, message)) => error(code, message),
                None => error(-32601, "no such method"),
                Some(_) => None,
            }
        }
    }

    async fn flood(socket: &mut BufReader<TcpStream>, endless: &Reply) {
        let length = match endless {
            Reply::Drip => "content-length: 4000\r\n",
            Reply::Promise => "content-length: 99999\r\n",
            Reply::Stall => "content-length: 1000000\r\n",
            _ => "",
        };
        let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        if matches!(endless, Reply::Stall) {
            drop(socket.write_all(&vec![b' '; 900_000]).await);
            drop(socket.flush().await);
        }
        if matches!(endless, Reply::Promise | Reply::Stall) {
            std::future::pending::<()>().await;
        }
        while socket.write_all(b" ").await.is_ok() && socket.flush().await.is_ok() {
            if matches!(endless, Reply::Drip) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Chain 1 with these nodes, each read from and sent to.
    pub(super) fn chain_of(nodes: &[(&str, &str)]) -> Chain {
        let node = |(name, url): &(&str, &str)| {
            let url = SecretUrl::parse(url).unwrap();
            let (name, ws) = ((*name).to_owned(), url.as_websocket());
            config::Node { name, ws, url, auth: config::NodeAuth::default(), reads: true }
        };
        Chain {
            name: "1".to_owned(),
            id: 1,
            nodes: nodes.iter().map(node).collect(),
            broadcast: (0..nodes.len()).collect(),
            timeout: TIMEOUT,
            finality: 3,
            max_answer: MAX_ANSWER,
            max_lag: 3,
            gas_margin: 20,
        }
    }

    async fn read_body(socket: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        socket.read_exact(&mut body).await.ok()?;
        Some((head, serde_json::from_slice(&body).unwrap()))
    }

    fn ok(body: &str) -> String {
        http("200 OK", body)
    }

    fn http(status: &str, body: &str) -> String {
        // Most likely text/html: a node's word on its content is not trusted, its content is read.
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(super) fn still() -> Clock {
        Clock::set_to(Timestamp::from_millis(1_700_000_000_000))
    }

    pub(super) async fn ledger(folder: &tempfile::TempDir, clock: &Clock) -> Ledger {
        let config = config::Ledger {
            path: folder.path().join("ledger.sqlite"),
            url: None,
            max_open: 400,
            fill_gaps: None,
            min_free: 0,
            show_pause_reason: false,
            keys_kept: Duration::from_secs(86_400),
        };
        let ledger = Ledger::open(&config, Duration::from_secs(6), clock.clone()).await.unwrap();
        ledger.activate_policy(POLICY, "policy").await.unwrap();
        ledger
    }

    fn asked(more: &str) -> Request {
        Request::parse(Some(&format!(r#"[{{"from":"{ACCOUNT}","to":"{ACCOUNT}"{more}}}]"#))).unwrap()
    }

    /// A transaction with the next nonce, signed and recorded.
    pub(super) async fn recorded(ledger: &Ledger) -> Recorded<Tx> {
        let client = config::Client {
            name: "trader".to_owned(),
            identity: "spiffe://desk/trader".to_owned(),
            issuer: config::OWN_ISSUER.to_owned(),
            role: None,
            person: Some("Ada".to_owned()),
            accounts: vec![ACCOUNT],
            origins: Vec::new(),
            repeat_window: None,
        };
        let fees = QuotedFees { base_fee: Some(100), max_priority_fee: 10, gas_price: 100 };
        let quote = Quote { chain_id: 1, mined: 0, gas: Some(21_000), fees: Some(fees) };
        let filled = asked("").fill(&quote, None).unwrap();
        let caller = Caller::new(Arc::new(client), RequestId::from_number(1)).for_account(ACCOUNT).unwrap();
        let permitted = Permitted::<Tx>::for_test(filled, caller, POLICY);
        let Claim::Fresh(reserved) = ledger.reserve(permitted, Purpose::Send).await.unwrap() else {
            panic!("known")
        };
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let (raw, _) = key.sign_prehash_recoverable(reserved.digest().as_slice()).unwrap();
        let key = AccountKey::new(reserved.from());
        ledger.record(reserved.seal(&raw.to_bytes().into(), &key).unwrap()).await.unwrap()
    }

    async fn read(upstream: &Upstream) -> Result<Answer, UpstreamError> {
        upstream.forward(None, "eth_blockNumber", None).await
    }

    #[tokio::test]
    async fn inv_11_only_an_answer_to_the_call_that_was_asked_is_an_answer() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        let result = r#"{"jsonrpc":"2.0","id":ID,"result":"0x2"}"#;
        for (status, body, refused) in [
            ("200 OK", result, false),
            ("200 OK", r#"{"jsonrpc":"2.0","id":ID0,"result":"0x2"}"#, true),
            ("200 OK", r#"{"jsonrpc":"2.0","result":"0x2"}"#, true),
            ("200 OK", r#"{"id":ID,"result":"0x2","result":"0x3"}"#, true),
            ("200 OK", r#"[{"id":ID,"result":"0x2"}]"#, true),
            ("200 OK", "<html>", true),
            ("302 Found\r\nlocation: /elsewhere", result, true),
            ("500 Oh", result, true),
            ("307 Temporary Redirect", r#"{"id":ID,"error":{"code":1,"message":"nonce too low"}}"#, true),
            ("429 Too Many", r#"{"id":ID,"error":{"code":1,"message":"slowly"}}"#, false),
            ("502 Bad", r#"{"error":"no node"}"#, true),
        ] {
            fake.on("eth_blockNumber", Reply::Raw(status, body));
            let answer = read(&upstream).await;
            assert_eq!(
                matches!(answer, Err(UpstreamError::Garbage(_))),
                refused,
                "{status} {body}: {answer:?}"
            );
        }
        assert_eq!(
            fake.calls("eth_blockNumber").len(),
            11,
            "no redirect is followed, nothing is asked twice"
        );
    }

    #[tokio::test]
    async fn inv_12_an_answer_is_bounded_in_bytes_and_time() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        for large in [Reply::Flood, Reply::Promise] {
            fake.on("eth_blockNumber", large);
            assert!(matches!(read(&upstream).await, Err(UpstreamError::TooLarge(MAX_ANSWER))));
        }
        for late in [Reply::Drip, Reply::Hang] {
            fake.on("eth_blockNumber", late);
            let asked = tokio::time::Instant::now();
            assert!(matches!(read(&upstream).await, Err(UpstreamError::Timeout)));
            assert!(asked.elapsed() < TIMEOUT * 3);
        }
    }

    #[tokio::test]
    async fn inv_13_a_connection_that_breaks_costs_one_call() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_blockNumber", Reply::Close);
        assert!(matches!(read(&upstream).await, Err(UpstreamError::Unreachable(_))));
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        assert!(read(&upstream).await.is_ok());
    }

    #[tokio::test]
    async fn inv_11_a_node_on_another_chain_is_sent_nothing() {
        let (fake, clock, folder) = (Fake::start().await, still(), tempfile::tempdir().unwrap());
        let recorded = recorded(&ledger(&folder, &clock).await).await;
        let upstream = fake.upstream(&clock);
        fake.on("eth_chainId", Reply::Result(json!("0x2")));
        assert!(matches!(read(&upstream).await, Err(UpstreamError::OtherChain { found: 2, ours: 1 })));
        assert!(upstream.quote(&asked("")).await.is_err());
        assert!(matches!(upstream.broadcast(&recorded).await, Outcome::Unknown { .. }));
        assert!(upstream.health().await.trouble().unwrap().contains("chain 2"));
        assert_eq!(fake.calls("eth_chainId").len(), fake.calls.lock().unwrap().len());
    }

    #[tokio::test]
    async fn inv_11_the_chain_is_asked_again_in_time_and_after_a_failure() {
        let (fake, clock) = (Fake::start().await, still());
        let upstream = fake.upstream(&clock);
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        for _ in 0..3 {
            read(&upstream).await.unwrap();
        }
        assert_eq!(fake.calls("eth_chainId").len(), 1);
        clock.advance(CHAIN_ID_HOLDS);
        read(&upstream).await.unwrap();
        assert_eq!(fake.calls("eth_chainId").len(), 2);
        fake.on("eth_blockNumber", Reply::Close);
        assert!(read(&upstream).await.is_err());
        // Another node may have come up in its place.
        fake.on("eth_chainId", Reply::Result(json!("0x2")));
        assert!(matches!(read(&upstream).await, Err(UpstreamError::OtherChain { .. })));
    }

    #[tokio::test]
    async fn inv_10_what_a_node_says_of_a_broadcast_is_believed_only_where_it_is_definite() {
        let (fake, clock, folder) = (Fake::start().await, still(), tempfile::tempdir().unwrap());
        let recorded = recorded(&ledger(&folder, &clock).await).await;
        let upstream = fake.upstream(&clock);
        let (ours, other) = (json!(recorded.hash()), json!(B256::repeat_byte(9)));
        let known = |hash: &Value| Reply::Result(json!({ "hash": hash }));
        let none = || Reply::Result(Value::Null);
        for (sent, found, expected) in [
            (Reply::Result(ours.clone()), none(), "accepted"),
            (Reply::Result(other.clone()), none(), "unknown"),
            (Reply::Result(json!(true)), none(), "unknown"),
            (none(), none(), "unknown"),
            (Reply::Close, none(), "unknown"),
            (Reply::Hang, none(), "unknown"),
            (Reply::Flood, none(), "unknown"),
            (Reply::Raw("503 Busy", "<html>"), none(), "unknown"),
            (Reply::Error(-32000, "flux capacitor"), none(), "unknown"),
            // It does not say what it refuses.
            (
                Reply::Raw("200 OK", r#"{"id":null,"error":{"code":1,"message":"nonce too low"}}"#),
                none(),
                "unknown",
            ),
            (
                Reply::Raw("200 OK", r#"{"id":ID,"error":{"code":1,"message":"nonce too low"}}"#),
                none(),
                "refused",
            ),
            (Reply::Error(-32003, "transaction already imported"), none(), "known"),
            (Reply::Error(-32004, "Upfront cost exceeds account balance"), none(), "refused"),
            (Reply::Error(-32001, "Nonce too low"), none(), "refused"),
            (Reply::Error(-32001, "Nonce too low"), known(&ours), "known"),
            (Reply::Error(-32001, "Nonce too low"), known(&other), "unknown"),
            (Reply::Error(-32001, "Nonce too low"), Reply::Close, "unknown"),
            (Reply::Error(-32000, "replacement transaction underpriced"), known(&ours), "known"),
            (Reply::Error(-32000, "replacement transaction underpriced"), Reply::Hang, "unknown"),
            (Reply::Error(-32000, "replacement transaction underpriced"), none(), "refused"),
        ] {
            fake.on("eth_sendRawTransaction", sent.clone());
            fake.on("eth_getTransactionByHash", found.clone());
            let outcome = match upstream.broadcast(&recorded).await {
                Outcome::Accepted => "accepted",
                Outcome::Known => "known",
                Outcome::Refused { .. } => "refused",
                Outcome::Unknown { .. } => "unknown",
            };
            assert_eq!(outcome, expected, "{sent:?} {found:?}");
        }
        let sent = fake.calls("eth_sendRawTransaction");
        assert!(sent.len() >= 18 && sent.iter().all(|params| *params == json!([recorded.raw()])));
        fake.on("eth_sendRawTransaction", Reply::Error(-32001, "Nonce too low"));
        fake.on("eth_getTransactionByHash", none());
        let text = "nonce too low".to_owned();
        let refused = Outcome::Refused { class: RefusalClass::NonceTooLow, text };
        assert_eq!(upstream.broadcast(&recorded).await, refused);
    }

    #[tokio::test]
    async fn a_quote_asks_for_what_was_left_open_and_for_nothing_else() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_getTransactionCount", Reply::Result(json!("0x5")));
        let fixed = r#","gas":"0x5208","maxFeePerGas":"0x2","maxPriorityFeePerGas":"0x1""#;
        let quote = upstream.quote(&asked(fixed)).await.unwrap();
        assert_eq!(quote, Quote { chain_id: 1, mined: 5, gas: None, fees: None });
        assert_eq!(fake.calls.lock().unwrap().len(), 2);

        fake.on("eth_estimateGas", Reply::Result(json!("0x5208")));
        fake.on("eth_gasPrice", Reply::Result(json!("0x64")));
        fake.on("eth_feeHistory", Reply::Result(json!({ "baseFeePerGas": ["0x50", "0x5a"] })));
        let fees =
            |base_fee, max_priority_fee| Some(QuotedFees { base_fee, max_priority_fee, gas_price: 100 });
        let open = Quote { chain_id: 1, mined: 5, gas: Some(21_000), fees: fees(Some(90), 10) };
        assert_eq!(
            upstream.quote(&asked("")).await.unwrap(),
            open,
            "the next block's fee; a tip that is left"
        );
        fake.on("eth_maxPriorityFeePerGas", Reply::Result(json!("0x7")));
        assert_eq!(upstream.quote(&asked("")).await.unwrap().fees, fees(Some(90), 7));
        fake.on("eth_estimateGas", Reply::Result(json!("0x186a0")));
        assert_eq!(upstream.quote(&asked("")).await.unwrap().gas, Some(120_000), "the margin of the chain");
        // A chain without base fees does not know the method; a node that is busy does.
        fake.on("eth_feeHistory", Reply::Error(-32601, "the method does not exist"));
        assert_eq!(upstream.quote(&asked("")).await.unwrap().fees, fees(None, 7));
        fake.on("eth_feeHistory", Reply::Error(-32005, "slowly"));
        assert!(matches!(upstream.quote(&asked("")).await, Err(UpstreamError::Node { .. })));
    }

    #[tokio::test]
    async fn inv_11_an_absurd_quote_is_no_quote() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        let good = [
            ("eth_getTransactionCount", json!("0x5")),
            ("eth_estimateGas", json!("0x5208")),
            ("eth_gasPrice", json!("0x64")),
            ("eth_maxPriorityFeePerGas", json!("0x7")),
            ("eth_feeHistory", json!({ "baseFeePerGas": ["0x50"] })),
        ];
        let huge = format!("0x{}", "f".repeat(64));
        for (method, result) in &good {
            for (method, result) in &good {
                fake.on(method, Reply::Result(result.clone()));
            }
            assert!(upstream.quote(&asked("")).await.is_ok());
            let bad = [json!(5), json!("5"), json!("0x05"), json!(huge), Value::Null, json!([])];
            for bad in bad {
                let bad = if result.is_object() { json!({ "baseFeePerGas": [bad] }) } else { bad };
                fake.on(method, Reply::Result(bad.clone()));
                let quote = upstream.quote(&asked("")).await;
                assert!(matches!(quote, Err(UpstreamError::Garbage(_))), "{method} {bad}: {quote:?}");
            }
        }
        fake.on("eth_feeHistory", Reply::Result(json!({ "baseFeePerGas": ["0x50"] })));
        fake.on("eth_estimateGas", Reply::Error(3, "execution reverted: paused"));
        let error = upstream.quote(&asked("")).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Reverted { .. }), "{error:?}");
        assert_eq!(error.to_string(), "execution reverted: paused");
    }

    #[tokio::test]
    async fn inv_12_what_is_on_its_way_fills_no_more_than_there_is_room_for() {
        let fake = Fake::start().await;
        fake.on("eth_getLogs", Reply::Stall);
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let mut chain = fake.chain();
        chain.max_answer = 2 << 20;
        let upstream = Upstream::new(&chain, &still()).unwrap();
        let all = Arc::new(Room::new(2 << 20, None));
        let [one, other] = [(); 2].map(|()| Arc::new(Room::new(8 << 20, Some(Arc::clone(&all)))));
        let params: Vec<_> = (0..8).map(|n| RawValue::from_string(format!("[{n}]")).unwrap()).collect();
        let reads = params.iter().map(|params| upstream.forward(Some(&one), "eth_getLogs", Some(params)));
        let small = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            let large = upstream.forward(Some(&other), "eth_getLogs", None).await;
            assert!(matches!(large, Err(UpstreamError::NoRoom)), "{large:?}");
            upstream.forward(Some(&other), "eth_blockNumber", None).await
        };
        let (reads, small) = tokio::join!(futures_util::future::join_all(reads), small);
        assert!(small.is_ok(), "small answers need none");
        let refused = reads.iter().filter(|read| matches!(read, Err(UpstreamError::NoRoom))).count();
        let waited = reads.iter().filter(|read| matches!(read, Err(UpstreamError::Timeout))).count();
        assert_eq!((waited, refused), (2, 6), "{reads:?}");
        assert_eq!((one.used(), other.used(), all.used()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_large_answer_is_counted_until_somebody_else_counts_it() {
        let fake = Fake::start().await;
        fake.on("eth_getLogs", Reply::Result(json!("x".repeat(600_000))));
        let mut chain = fake.chain();
        chain.max_answer = 2 << 20;
        let upstream = Upstream::new(&chain, &still()).unwrap();
        let room = Arc::new(Room::new(8 << 20, None));
        for calls in [1, 2] {
            let answers = match calls {
                1 => vec![upstream.forward(Some(&room), "eth_getLogs", None).await],
                _ => upstream.forward_batch(Some(&room), &[("eth_getLogs", None); 2]).await,
            };
            assert!(room.used() > calls * 300_000, "{calls}");
            for answer in answers {
                let Ok(Answer::Result(mut json)) = answer else { panic!("{answer:?}") };
                assert!(room.used() > 0);
                json.let_go();
            }
            assert_eq!(room.used(), 0, "{calls}");
        }
    }

    #[tokio::test]
    async fn inv_12_a_large_error_is_counted_until_somebody_else_counts_it() {
        let fake = Fake::start().await;
        let mut chain = fake.chain();
        (chain.max_answer, chain.timeout) = (2 << 20, Duration::from_secs(10));
        let upstream = Upstream::new(&chain, &still()).unwrap();
        let room = Arc::new(Room::new(8 << 20, None));
        // The second is one that another node might not make.
        for said in ["execution reverted", "header not found"] {
            fake.on("eth_call", Reply::Error(3, format!("{said}{}", "x".repeat(600_000)).leak()));
            let answer = upstream.forward(Some(&room), "eth_call", None).await;
            let Ok(Answer::Error(error)) = answer else { panic!("{answer:?}") };
            let mut json = error.into_json();
            assert!(room.used() > 300_000, "{said}");
            json.let_go();
            assert_eq!(room.used(), 0, "{said}");
        }
    }

    #[tokio::test]
    async fn a_read_on_a_connection_that_the_node_has_just_closed_is_asked_again_and_what_is_done_once_is_not()
     {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        for (method, asked) in [
            ("eth_blockNumber", 2),
            ("eth_getFilterLogs", 2),
            ("eth_sendRawTransaction", 1),
            ("eth_getFilterChanges", 1),
            ("eth_newFilter", 1),
            ("eth_uninstallFilter", 2),
        ] {
            fake.on("eth_gasPrice", Reply::Result(json!("0x1")));
            upstream.forward(None, "eth_gasPrice", None).await.unwrap();
            fake.on(method, Reply::Close);
            assert!(upstream.forward(None, method, None).await.is_err());
            assert_eq!(fake.calls(method).len(), asked, "{method}");
        }
    }

    #[tokio::test]
    async fn inv_12_who_has_too_much_under_way_keeps_nobody_who_asks_the_same() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_blockNumber", Reply::Result(json!("0x1")));
        let [ada, bob] = [(); 2].map(|()| Arc::new(Room::new(1 << 20, None)));
        let all = u32::try_from(ada.awaited().available_permits()).unwrap();
        let _under_way = ada.awaited().try_acquire_many(all).unwrap();
        let mut of_ada = Box::pin(upstream.forward(Some(&ada), "eth_blockNumber", None));
        assert!(futures_util::poll!(&mut of_ada).is_pending());
        let began = tokio::time::Instant::now();
        upstream.forward(Some(&bob), "eth_blockNumber", None).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "he did not wait for her");
        let refused = of_ada.await.unwrap_err();
        assert!(matches!(refused, UpstreamError::NoRoom), "{refused:?}");
    }

    #[tokio::test]
    async fn what_a_client_asks_for_too_much_makes_no_node_a_failing_one() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        for fault in [Reply::Promise, Reply::Hang, Reply::Raw("413 Too Large", "<html>")] {
            fake.on("eth_blockNumber", fault);
            read(&upstream).await.unwrap_err();
            assert!(!upstream.0.nodes.readers()[0].condition().is_failing);
        }
        assert_eq!(fake.calls("eth_chainId").len(), 1, "it is on the same chain as before");
        fake.on("eth_blockNumber", Reply::Close);
        read(&upstream).await.unwrap_err();
        assert!(upstream.0.nodes.readers()[0].condition().is_failing);
    }

    /// Two nodes of one chain; `first` is asked first.
    async fn pair() -> (Fake, Fake, Upstream) {
        let (first, second) = (Fake::start().await, Fake::start().await);
        for fake in [&first, &second] {
            fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        }
        let chain = chain_of(&[("first", &first.url), ("second", &second.url)]);
        (first, second, Upstream::new(&chain, &still()).unwrap())
    }

    #[tokio::test]
    async fn a_node_is_shown_what_its_configuration_says() {
        let fake = Fake::start().await;
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let mut chain = fake.chain();
        let auth = &mut chain.nodes[0].auth;
        auth.headers = vec![("x-api-key".to_owned(), "secret".to_owned().into())];
        auth.jwt = Some("0b".repeat(32).into());
        let upstream = Upstream::new(&chain, &still()).unwrap();
        read(&upstream).await.unwrap();
        let heads = fake.heads.lock().unwrap().clone();
        assert_eq!(heads.len(), 2);
        for head in heads {
            assert!(head.contains("\r\nx-api-key: secret\r\n"), "{head}");
            assert!(head.contains("\r\nauthorization: bearer eyj"), "{head}");
            assert!(head.starts_with("post /v3/apikey http/1.1\r\nhost: 127.0.0.1:"), "{head}");
        }
        assert!(!format!("{upstream:?}").contains("secret"));
    }

    #[tokio::test]
    async fn what_several_ask_at_once_is_asked_once_and_after_a_send_anew() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_blockNumber", Reply::Hang);
        futures_util::future::join_all((0..8).map(|_| read(&upstream))).await;
        assert_eq!(fake.calls("eth_blockNumber").len(), 1);
        let after = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            upstream.0.flights.sent();
            read(&upstream).await
        };
        drop(tokio::join!(read(&upstream), read(&upstream), after));
        assert_eq!(fake.calls("eth_blockNumber").len(), 3);
    }

    #[tokio::test]
    async fn inv_13_a_read_goes_to_another_node_where_the_first_fails() {
        for fault in [
            Reply::Close,
            Reply::Raw("503 Busy", "<html>"),
            Reply::Flood,
            Reply::Error(-32601, "the method does not exist"),
            Reply::Error(-32005, "daily limit"),
            Reply::Error(-32000, "missing trie node 0x1"),
        ] {
            let (first, second, upstream) = pair().await;
            first.on("eth_blockNumber", fault.clone());
            assert!(matches!(read(&upstream).await, Ok(Answer::Result(_))), "{fault:?}");
            assert_eq!(second.calls("eth_blockNumber").len(), 1, "{fault:?}");
            // What is said of the question itself is said by every node.
            first.on("eth_blockNumber", Reply::Error(3, "execution reverted"));
            second.on("eth_blockNumber", Reply::Error(3, "execution reverted"));
            assert!(matches!(read(&upstream).await, Ok(Answer::Error(_))));
        }
    }

    #[tokio::test]
    async fn where_all_fail_the_first_ones_reason_is_told() {
        let (first, second, upstream) = pair().await;
        first.on("eth_blockNumber", Reply::Error(-32601, "not here"));
        second.on("eth_blockNumber", Reply::Close);
        let Ok(Answer::Error(error)) = read(&upstream).await else { panic!("an error") };
        assert_eq!(error.message, "not here");
    }

    #[tokio::test]
    async fn inv_11_a_node_on_another_chain_is_out_at_once_and_the_other_is_used() {
        let (first, second, upstream) = pair().await;
        first.on("eth_chainId", Reply::Result(json!("0x2")));
        read(&upstream).await.unwrap();
        assert!(first.calls("eth_blockNumber").is_empty());
        upstream.0.nodes.look().await;
        assert_eq!(upstream.0.nodes.readers()[0].name, "second");
        second.on("eth_chainId", Reply::Result(json!("0x3")));
        upstream.0.nodes.look().await;
        assert!(matches!(read(&upstream).await, Err(UpstreamError::OtherChain { .. })));
        first.on("eth_chainId", Reply::Result(json!("0x1")));
        read(&upstream).await.unwrap();
        assert!(!first.calls("eth_blockNumber").is_empty(), "it is back");
    }

    #[tokio::test]
    async fn a_node_that_is_slow_is_overtaken_and_one_that_is_behind_comes_last() {
        let (first, second, upstream) = pair().await;
        upstream.0.nodes.look().await;
        first.on("eth_blockNumber", Reply::Hang);
        let asked = tokio::time::Instant::now();
        read(&upstream).await.unwrap();
        let took = asked.elapsed();
        assert!(took >= TIMEOUT / 2 && took < TIMEOUT, "{took:?}");
        first.on("eth_blockNumber", Reply::Result(json!("0x2")));
        upstream.0.nodes.look().await;
        assert_eq!(upstream.0.nodes.readers()[0].name, "first");
        second.on("eth_blockNumber", Reply::Result(json!("0x6")));
        upstream.0.nodes.look().await;
        assert_eq!(upstream.0.nodes.readers()[0].name, "second", "four blocks ahead");
        assert_eq!(upstream.0.nodes.well().len(), 1);
    }

    #[tokio::test]
    async fn inv_10_a_transaction_goes_to_every_node_that_is_named_and_one_that_takes_it_is_enough() {
        let (clock, folder) = (still(), tempfile::tempdir().unwrap());
        let recorded = recorded(&ledger(&folder, &clock).await).await;
        let (first, second, upstream) = pair().await;
        first.on("eth_sendRawTransaction", Reply::Hang);
        second.on("eth_sendRawTransaction", Reply::Result(json!(recorded.hash())));
        assert_eq!(upstream.broadcast(&recorded).await, Outcome::Accepted);
        while first.calls("eth_sendRawTransaction").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One that refuses while another does not say: nothing is definite.
        second.on("eth_sendRawTransaction", Reply::Error(-32000, "insufficient funds"));
        assert!(matches!(upstream.broadcast(&recorded).await, Outcome::Unknown { .. }));
        first.on("eth_sendRawTransaction", Reply::Error(-32000, "insufficient funds"));
        assert!(matches!(upstream.broadcast(&recorded).await, Outcome::Unknown { .. }), "do they have it?");
        // It may be paid for already: by itself, in a pool.
        first.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        second.on("eth_getTransactionByHash", Reply::Result(json!({ "hash": recorded.hash() })));
        assert_eq!(upstream.broadcast(&recorded).await, Outcome::Known);
        second.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        assert!(matches!(upstream.broadcast(&recorded).await, Outcome::Refused { .. }));

        // A private relay gets it alone, and is asked nothing else.
        let mut chain = chain_of(&[("public", &first.url), ("relay", &second.url)]);
        (chain.broadcast, chain.nodes[1].reads) = (vec![1], false);
        let upstream = Upstream::new(&chain, &clock).unwrap();
        let before = (first.calls("eth_sendRawTransaction").len(), second.calls("eth_blockNumber").len());
        second.on("eth_sendRawTransaction", Reply::Result(json!(recorded.hash())));
        assert_eq!(upstream.broadcast(&recorded).await, Outcome::Accepted);
        first.on("eth_blockNumber", Reply::Close);
        assert!(read(&upstream).await.is_err());
        assert_eq!(
            before,
            (first.calls("eth_sendRawTransaction").len(), second.calls("eth_blockNumber").len())
        );
    }

    #[tokio::test]
    async fn inv_11_a_mined_count_is_confirmed_by_two_nodes_and_not_by_one() {
        let (first, second, upstream) = pair().await;
        first.on("eth_getTransactionCount", Reply::Result(json!("0x30")));
        for (count, confirmed) in [("0x30", true), ("0x31", true), ("0x2f", false)] {
            second.on("eth_getTransactionCount", Reply::Result(json!(count)));
            assert_eq!(upstream.who_confirms(ACCOUNT, 0x30).await.is_some(), confirmed, "{count}");
        }
        second.on("eth_getTransactionCount", Reply::Close);
        assert_eq!(upstream.who_confirms(ACCOUNT, 0x30).await, None);
        assert_eq!(first.upstream(&still()).who_confirms(ACCOUNT, 0x30).await, None, "one alone");
    }

    #[tokio::test]
    async fn inv_10_a_payload_is_replaced_for_good_only_where_every_node_says_so() {
        let (first, second, upstream) = pair().await;
        let place = (ACCOUNT, 4, B256::repeat_byte(3));
        for fake in [&first, &second] {
            fake.on("eth_getTransactionCount", Reply::Result(json!("0x5")));
            fake.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        }
        assert!(upstream.was_replaced(place, 9).await.unwrap());
        second.on("eth_getTransactionByHash", Reply::Result(json!({ "hash": B256::repeat_byte(3) })));
        assert!(!upstream.was_replaced(place, 9).await.unwrap());
        second.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        second.on("eth_getTransactionCount", Reply::Result(json!("0x4")));
        assert!(!upstream.was_replaced(place, 9).await.unwrap());
        second.on("eth_getTransactionCount", Reply::Error(-32000, "header not found"));
        assert!(upstream.was_replaced(place, 9).await.is_err());
        // One that is away does not hold this up for ever.
        second.on("eth_blockNumber", Reply::Close);
        upstream.0.nodes.look().await;
        assert!(upstream.was_replaced(place, 9).await.unwrap());
    }

    #[tokio::test]
    async fn inv_07_no_error_and_no_debug_output_shows_the_nodes_key() {
        let fake = Fake::start().await;
        let url = fake.url.replace("http://", "http://ada:PASSWORD@");
        let upstream = Fake::known_as(&url, &still());
        let mut said = vec![format!("{upstream:?}")];
        for fault in [Reply::Close, Reply::Hang, Reply::Flood, Reply::Raw("302 Found", "<html>")] {
            fake.on("eth_blockNumber", fault);
            let error = read(&upstream).await.unwrap_err();
            said.push(format!("{error} {error:?}"));
        }
        let nowhere = Fake::known_as("http://ada:PASSWORD@127.0.0.1:1/v3/APIKEY", &still());
        let error = read(&nowhere).await.unwrap_err();
        said.push(format!("{error} {error:?}"));
        for said in said {
            assert!(!said.contains("APIKEY") && !said.contains("PASSWORD"), "{said}");
        }
    }
}
