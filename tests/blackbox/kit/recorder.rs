//! Stands between the program and its node: writes down every call, trips over those that must never come, and
//! fails on demand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// Methods that need a key of the node's, or that are for the node's owner only. None may ever come from the program.
const FORBIDDEN: &[&str] = &[
    "eth_accounts",
    "eth_coinbase",
    "eth_requestAccounts",
    "eth_resend",
    "eth_sendTransaction",
    "eth_sendTransactionSync",
    "eth_sign",
    "eth_signTransaction",
    "eth_signTypedData",
    "eth_signTypedData_v3",
    "eth_signTypedData_v4",
];
const FORBIDDEN_SPACES: &[&str] =
    &["admin_", "anvil_", "engine_", "evm_", "hardhat_", "miner_", "personal_", "wallet_"];

/// A call that the program made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Value,
}

/// How a node can be bad.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Closes the connection without doing anything.
    Drop,
    /// Does what it is asked, and closes the connection instead of answering.
    LoseAnswer,
    /// Answers with bytes that are not JSON.
    Garbage,
    /// Answers with a result of this kind, whatever was asked.
    Answer(Value),
    /// Answers with an error.
    Refuse { code: i64, message: &'static str },
    /// Takes its time, then does what it is asked.
    Delay(Duration),
    /// Answers with this many bytes and no end.
    Flood(usize),
}

/// The recorder. Panics when dropped if it was tripped.
#[derive(Debug)]
pub struct Recorder {
    address: String,
    record: Arc<Record>,
    server: AbortHandle,
}

#[derive(Debug)]
struct Record {
    node: String,
    client: Client<HttpConnector, Full<Bytes>>,
    bodies: Mutex<Vec<String>>,
    calls: Mutex<Vec<Call>>,
    tripped: Mutex<Vec<String>>,
    faults: Mutex<HashMap<String, Fault>>,
    /// One for each call that waits here.
    waiting: Arc<()>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

impl Recorder {
    /// Passes everything on to `node` (an address and port).
    pub async fn start(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let record = Arc::new(Record {
            node: format!("http://{node}/"),
            client: Client::builder(TokioExecutor::new()).build_http(),
            bodies: Mutex::default(),
            calls: Mutex::default(),
            tripped: Mutex::default(),
            faults: Mutex::default(),
            waiting: Arc::default(),
        });
        let server = tokio::spawn(serve(listener, record.clone())).abort_handle();
        Self { address, record, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.record.calls.lock().unwrap().clone()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.record.bodies.lock().unwrap().clone()
    }

    /// How many calls wait for a delayed answer.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.record.waiting) - 1
    }

    pub fn fail(&self, method: &str, fault: Fault) {
        self.record.faults.lock().unwrap().insert(method.to_owned(), fault);
    }

    pub fn heal(&self) {
        self.record.faults.lock().unwrap().clear();
    }

    /// What it tripped over; nothing any more afterwards.
    pub fn disarm(&self) -> Vec<String> {
        std::mem::take(&mut *self.record.tripped.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
        let tripped = self.disarm();
        // A second panic would hide the first one.
        if !std::thread::panicking() {
            assert!(tripped.is_empty(), "the node was sent what it must never see: {tripped:#?}");
        }
    }
}

impl Record {
    /// Writes down what is in a body, and gives the fault that is due, if any.
    fn note(&self, body: &[u8]) -> Option<Fault> {
        self.bodies.lock().unwrap().push(String::from_utf8_lossy(body).into_owned());
        let calls = match serde_json::from_slice(body) {
            Ok(Value::Array(batch)) => batch,
            Ok(one) => vec![one],
            Err(e) => {
                self.trip(format!("not JSON ({e}): {}", String::from_utf8_lossy(body)));
                return None;
            }
        };
        let mut due = None;
        for call in calls {
            let method = call["method"].as_str().unwrap_or_default();
            if FORBIDDEN.contains(&method) || FORBIDDEN_SPACES.iter().any(|space| method.starts_with(space)) {
                self.trip(call.to_string());
            }
            let faults = self.faults.lock().unwrap();
            due = due.or_else(|| faults.get(method).or_else(|| faults.get("*")).cloned());
            let call = Call { method: method.to_owned(), params: call["params"].clone() };
            self.calls.lock().unwrap().push(call);
        }
        due
    }

    fn trip(&self, over: String) {
        self.tripped.lock().unwrap().push(over);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let body = request.into_body().collect().await.map_err(|_| NoAnswer)?.to_bytes();
        match self.note(&body) {
            None => self.pass_on(body).await,
            Some(Fault::Drop) => Err(NoAnswer),
            Some(Fault::LoseAnswer) => {
                self.pass_on(body).await?;
                Err(NoAnswer)
            }
            Some(Fault::Garbage) => Ok(bytes("<html>502 Bad Gateway</html>")),
            Some(Fault::Answer(result)) => Ok(each(&body, &json!({ "result": result }))),
            Some(Fault::Refuse { code, message }) => {
                Ok(each(&body, &json!({ "error": { "code": code, "message": message } })))
            }
            Some(Fault::Delay(wait)) => {
                let _waits = Arc::clone(&self.waiting);
                sleep(wait).await;
                self.pass_on(body).await
            }
            Some(Fault::Flood(size)) => Ok(bytes("[".repeat(size))),
        }
    }

    async fn pass_on(&self, body: Bytes) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.node)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .unwrap();
        let (head, body) = self.client.request(request).await.map_err(|_| NoAnswer)?.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
        let mut response = bytes(body);
        *response.status_mut() = head.status;
        Ok(response)
    }
}

async fn serve(listener: TcpListener, record: Arc<Record>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, record.clone()));
    }
}

async fn connection(stream: TcpStream, record: Arc<Record>) -> Result<(), Infallible> {
    let service = service_fn(|request| {
        let record = record.clone();
        async move { record.answer(request).await }
    });
    // An error here is a fault that was asked for, or a program that was killed.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    Ok(())
}

/// The same answer to each call of a body, with its id.
fn each(body: &[u8], answer: &Value) -> Response<Full<Bytes>> {
    let with_id = |call: &Value| {
        let mut answer = answer.clone();
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = call["id"].clone();
        answer
    };
    let answer = match serde_json::from_slice(body).unwrap() {
        Value::Array(batch) => Value::Array(batch.iter().map(with_id).collect()),
        one => with_id(&one),
    };
    bytes(answer.to_string())
}

fn bytes(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", "application/json").body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn the_tripwire_trips() {
    let recorder = Recorder::start("127.0.0.1:9").await;
    for method in ["eth_sendTransaction", "eth_signTypedData_v4", "personal_sign", "anvil_setBalance"] {
        super::client::plain(&recorder.url(), method, json!([])).await.unwrap_err();
    }
    assert_eq!(recorder.disarm().len(), 4);
    super::client::plain(&recorder.url(), "eth_sendRawTransaction", json!(["0x"])).await.unwrap_err();
    assert!(recorder.disarm().is_empty());
    assert_eq!(recorder.calls().len(), 5);
}
