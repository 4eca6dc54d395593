//! The network: one node, asked for reads and quotes, and handed what is recorded. Its word is not trusted.
//!
//! **Invariant:** [`Upstream::broadcast`] takes a `Recorded<Tx>`; nothing else can be sent from here.

mod answer;
mod broadcast;
mod classify;
mod client;
mod error;
mod follow;
mod health;
mod quote;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::{Clock, Timestamp};
use crate::config::Chain;

pub use answer::{Answer, NodeError};
pub use error::UpstreamError;
pub use follow::follow;
pub use health::Health;

use client::Client;

/// The chain's node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    /// Reads of clients, and what a signature needs, are bounded apart: nobody's reads keep others from signing.
    reads: Semaphore,
    own: Semaphore,
    chain_id: u64,
    finality: u64,
    clock: Clock,
    /// When the node last said that it is on the pinned chain. Never held while it is asked: a node that hangs
    /// must not make its callers wait for each other.
    on_chain: Mutex<Option<Timestamp>>,
    /// A node did not take a transaction because it misses one below.
    above_a_gap: Notify,
}

/// How long a node's chain id is believed. A node does not change its chain, but the address behind a URL can.
const CHAIN_ID_HOLDS: std::time::Duration = std::time::Duration::from_secs(10);

/// Calls to the node that are under way at once: each may need a connection of its own.
const READS: usize = 256;
const OWN: usize = 256;

/// How long a call waits for its place.
const PLACE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, UpstreamError> {
    match tokio::time::timeout(PLACE_WITHIN, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(UpstreamError::Busy),
    }
}

impl Upstream {
    pub fn new(chain: &Chain, clock: Clock) -> Result<Self, UpstreamError> {
        Ok(Self(Arc::new(Inner {
            client: Client::new(chain)?,
            reads: Semaphore::new(READS),
            own: Semaphore::new(OWN),
            chain_id: chain.id,
            finality: chain.finality,
            clock,
            on_chain: Mutex::new(None),
            above_a_gap: Notify::new(),
        })))
    }

    /// Asks the node and passes its answer on, a result or an error of its own.
    pub async fn forward(&self, method: &str, params: Option<&RawValue>) -> Result<Answer, UpstreamError> {
        let _place = place(&self.0.reads).await?;
        self.pinned().await?;
        self.noticed(self.0.client.call(method, params).await)
    }

    /// Asks for something of our own.
    async fn ask(&self, method: &str, params: Option<Value>) -> Result<Answer, UpstreamError> {
        let _place = place(&self.0.own).await?;
        self.noticed(self.0.client.ask(method, params).await)
    }

    /// After a failure there may be another node behind the same URL.
    fn noticed(&self, answer: Result<Answer, UpstreamError>) -> Result<Answer, UpstreamError> {
        if answer.is_err() {
            self.unpin();
        }
        answer
    }

    /// Whether the node is on the pinned chain; asked again when the last answer is too old.
    async fn pinned(&self) -> Result<(), UpstreamError> {
        let now = self.0.clock.now();
        if self.checked().is_some_and(|at| now.since(at) < CHAIN_ID_HOLDS && at <= now) {
            return Ok(());
        }
        self.unpin();
        let found: u64 = self.0.client.ask("eth_chainId", None).await?.number()?;
        if found != self.0.chain_id {
            return Err(UpstreamError::OtherChain { found, ours: self.0.chain_id });
        }
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    fn checked(&self) -> Option<Timestamp> {
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets that the node was on the right chain: after a failure it is asked again.
    fn unpin(&self) {
        *self.0.on_chain.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::time::Duration;

    use alloy_primitives::{Address, B256, address};
    use k256::ecdsa::SigningKey;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use crate::config;
    use crate::identity::{Caller, RequestId};
    use crate::ledger::{Claim, Ledger, Outcome, Purpose, Recorded, RefusalClass};
    use crate::policy::Permitted;
    use crate::secret::SecretUrl;
    use crate::transaction::{Quote, QuotedFees, Request, Tx};

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
        Close,
        Hang,
    }

    /// A node that answers as it is told.
    #[derive(Clone, Debug)]
    pub(super) struct Fake {
        pub url: String,
        script: Arc<Mutex<HashMap<String, Reply>>>,
        calls: Arc<Mutex<Vec<(String, Value)>>>,
    }

    impl Fake {
        pub(super) async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/v3/APIKEY", listener.local_addr().unwrap());
            let fake = Self { url, script: Arc::default(), calls: Arc::default() };
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
            let node = SecretUrl::parse(url).unwrap();
            let chain = Chain { id: 1, node, timeout: TIMEOUT, finality: 3, max_answer: MAX_ANSWER };
            Upstream::new(&chain, clock.clone()).unwrap()
        }

        async fn converse(&self, socket: TcpStream) {
            let mut socket = BufReader::new(socket);
            while let Some(call) = read_call(&mut socket).await {
                let (method, params) = (call["method"].as_str().unwrap().to_owned(), call["params"].clone());
                let words = params.as_array().into_iter().flatten().filter_map(Value::as_str);
                let whole = std::iter::once(method.as_str()).chain(words).collect::<Vec<_>>().join(" ");
                self.calls.lock().unwrap().push((method.clone(), params));
                let reply = {
                    let script = self.script.lock().unwrap();
                    script.get(&whole).or_else(|| script.get(&method)).cloned()
                };
                let id = &call["id"];
                let answer = match reply {
                    Some(Reply::Result(result)) => {
                        ok(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
                    }
                    Some(Reply::Error(code, message)) => {
                        let error = json!({ "code": code, "message": message });
                        ok(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
                    }
                    None => {
                        let error = json!({ "code": -32601, "message": "no such method" });
                        ok(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
                    }
                    Some(Reply::Raw(status, body)) => http(status, &body.replace("ID", &id.to_string())),
                    Some(Reply::Close) => return,
                    Some(Reply::Hang) => std::future::pending().await,
                    Some(endless) => {
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n").await.unwrap();
                        while socket.write_all(b" ").await.is_ok() && socket.flush().await.is_ok() {
                            if matches!(endless, Reply::Drip) {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                        }
                        return;
                    }
                };
                if socket.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn read_call(socket: &mut BufReader<TcpStream>) -> Option<Value> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        socket.read_exact(&mut body).await.ok()?;
        Some(serde_json::from_slice(&body).unwrap())
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
            max_open: 20,
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
        ledger.record(reserved.seal(&raw.to_bytes().into()).unwrap()).await.unwrap()
    }

    async fn read(upstream: &Upstream) -> Result<Answer, UpstreamError> {
        upstream.forward("eth_blockNumber", None).await
    }

    #[tokio::test]
    async fn inv_12_reads_at_once_are_bounded_and_keep_nothing_else_from_the_node() {
        let fake = Fake::start().await;
        let mut upstream = fake.upstream(&still());
        Arc::get_mut(&mut upstream.0).unwrap().reads = Semaphore::new(5);
        fake.on("eth_blockNumber", Reply::Hang);
        fake.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        upstream.pinned().await.unwrap();
        let reads = futures_util::future::join_all((0..8).map(|_| read(&upstream)));
        let own = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            (fake.calls("eth_blockNumber").len(), upstream.knows(B256::ZERO).await)
        };
        let (reads, (asked, own)) = tokio::join!(reads, own);
        assert_eq!(asked, 5);
        assert!(!own.unwrap(), "what a signature needs goes on");
        assert!(reads.iter().all(Result::is_err));
        assert_eq!(fake.calls("eth_blockNumber").len(), 8, "the others had their turn");
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
        fake.on("eth_blockNumber", Reply::Flood);
        assert!(matches!(read(&upstream).await, Err(UpstreamError::TooLarge(MAX_ANSWER))));
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
