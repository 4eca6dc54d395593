//! A JSON-RPC client with a certificate, as good or as bad as a test wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any answer may take (a gateway answers within 8 s).
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the gateway, with connections of its own.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    path: String,
    next_id: AtomicU64,
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Client {
    /// HTTP/2 where the server offers it.
    pub fn new(address: SocketAddr, tls: &ClientConfig) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_only()
            .enable_all_versions()
            .build();
        Self::with(address, tls.clone(), connector)
    }

    /// HTTP/1.1 only.
    pub fn http1(&self) -> Self {
        let tls = ClientConfig::clone(&self.tls);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only().enable_http1().build();
        Self::with(self.address, tls, connector)
    }

    fn with(address: SocketAddr, tls: ClientConfig, connector: HttpsConnector<HttpConnector>) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { address, tls: Arc::new(tls), http, path: "/".to_owned(), next_id: AtomicU64::new(1) }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same at the path of another chain.
    pub fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// One call. Panics where there is no JSON-RPC answer at all.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.post(call.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["id"], id, "{answer}");
        outcome(&answer)
    }

    /// `eth_sendTransaction`.
    pub async fn send(&self, transaction: Value) -> Result<Value, RpcError> {
        self.call("eth_sendTransaction", json!([transaction])).await
    }

    /// `eth_sendTransaction` to a gateway that may be killed meanwhile: `None` if there was no answer.
    pub async fn try_send(&self, transaction: Value) -> Option<Result<Value, RpcError>> {
        let call =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction] });
        let answer = self.request(self.json_request(call.to_string())).await.ok()?;
        Some(outcome(&answer.json()))
    }

    /// Several calls in one body: their answers, in the order of the calls.
    pub async fn batch(&self, calls: &[(&str, Value)]) -> Vec<Result<Value, RpcError>> {
        let body: Vec<_> = (0..)
            .zip(calls)
            .map(|(id, (method, params))| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .collect();
        let answer = self.post(Value::Array(body).to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answers = answer.json();
        let of = |id: usize| {
            let mine = answers.as_array().unwrap().iter().find(|answer| answer["id"] == id);
            outcome(mine.unwrap_or_else(|| panic!("no answer to {id} in {answers}")))
        };
        (0..calls.len()).map(of).collect()
    }

    /// Posts a body as JSON.
    pub async fn post(&self, body: impl Into<Bytes>) -> Answer {
        self.request(self.json_request(body)).await.unwrap()
    }

    /// A request as `post` sends it, still to be spoilt.
    pub fn json_request(&self, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::post(format!("https://{}{}", self.address, self.path))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    /// Any request. The error is the whole chain of causes, down to a TLS alert.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let answer = async {
            let (head, body) = self.http.request(request).await.map_err(|e| causes(&e))?.into_parts();
            let body = body.collect().await.map_err(|e| causes(&e))?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        timeout(PATIENCE, answer).await.map_err(|_| "no answer in time".to_owned())?
    }

    /// Why TLS does not let this client in. In TLS 1.3 a server judges the client's certificate after the client
    /// has finished, so the alert is the first thing to be read.
    pub async fn alert(&self) -> String {
        let mut stream = match self.try_stream().await {
            Ok(stream) => stream,
            Err(e) => return e.to_string(),
        };
        match timeout(PATIENCE, stream.read_u8()).await {
            Ok(Err(e)) => e.to_string(),
            other => panic!("it was let in: {other:?}"),
        }
    }

    /// A TLS connection on which the test writes what it likes.
    pub async fn stream(&self) -> TlsStream<TcpStream> {
        self.try_stream().await.unwrap()
    }

    async fn try_stream(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(self.tls.clone()).connect(name, stream).await
    }

    /// Writes these bytes on a new connection, and gives all that comes back until it is closed or falls silent.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.stream().await;
        // A server may rightly close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(2), stream.read(&mut chunk)).await {
            answer.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The error that the whole body is.
    #[track_caller]
    pub fn error(&self) -> RpcError {
        outcome(&self.json()).expect_err("an error")
    }
}

/// Writes these bytes to an address without TLS, and gives all that comes back until it is closed.
pub async fn plain_raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    drop(timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// One call without TLS: to the node itself, or to the connector.
pub async fn plain(url: &str, method: &str, params: Value) -> Result<Value, String> {
    outcome(&plain_answer(url, method, params).await?).map_err(|e| e.message)
}

/// The same, with the whole answer.
pub async fn plain_answer(url: &str, method: &str, params: Value) -> Result<Value, String> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(call.to_string().into()))
        .unwrap();
    let answer = client.request(request).await.map_err(|e| causes(&e))?;
    let body = answer.into_body().collect().await.map_err(|e| causes(&e))?.to_bytes();
    serde_json::from_slice(&body).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&body)))
}

pub fn outcome(answer: &Value) -> Result<Value, RpcError> {
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    match answer.get("error") {
        None => {
            Ok(answer.get("result").unwrap_or_else(|| panic!("neither result nor error: {answer}")).clone())
        }
        Some(error) => Err(RpcError {
            code: error["code"].as_i64().unwrap(),
            message: error["message"].as_str().unwrap().to_owned(),
            data: error["data"].clone(),
        }),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
