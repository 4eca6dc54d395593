//! A gateway that answers what a test wants, over mutual TLS and HTTP/2, and counts what really reached it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::kit::Authority;

/// What it does with a request, once it has read the body of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Resets the stream as one that it did not begin with; without reading the body.
    RefuseStream,
    /// Resets the stream for another reason.
    ResetStream,
    /// Says goodbye properly and closes the connection, without an answer.
    GoAway,
    /// Closes the connection without a word.
    Vanish,
    /// Answers, and tells the client to open no more streams here.
    AnswerAndRetire,
    /// Answers with an HTTP status.
    Status(u16, &'static str),
}

/// The stand-in. It is gone when dropped, with all its connections.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Seen {
    bodies: Mutex<Vec<String>>,
    authorities: Mutex<Vec<String>>,
    connections: Mutex<usize>,
    deeds: Mutex<VecDeque<Deed>>,
}

/// How one connection is told to end.
#[derive(Debug, Default)]
struct Ending {
    told: Notify,
    how: Mutex<Option<Deed>>,
}

impl StandIn {
    pub async fn start(authority: &Authority) -> Self {
        Self::start_at(authority, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(authority: &Authority, address: SocketAddr) -> Self {
        Self::listen(TcpListener::bind(address).await.unwrap(), tls(authority, &["h2"]))
    }

    /// One that offers these protocols instead of HTTP/2.
    pub async fn start_speaking(authority: &Authority, protocols: &[&str]) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls(authority, protocols))
    }

    fn listen(listener: TcpListener, tls: TlsAcceptor) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let task = tokio::spawn(accept(listener, tls, seen.clone())).abort_handle();
        Self { address, seen, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to do with the next requests, in this order; all others are answered.
    pub fn does(&self, deeds: impl IntoIterator<Item = Deed>) {
        self.seen.deeds.lock().unwrap().extend(deeds);
    }

    /// The bodies that it read to their end.
    pub fn bodies(&self) -> Vec<String> {
        self.seen.bodies.lock().unwrap().clone()
    }

    /// Whom the requests were addressed to.
    pub fn authorities(&self) -> Vec<String> {
        self.seen.authorities.lock().unwrap().clone()
    }

    /// TLS connections whose client certificate was taken.
    pub fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tls(authority: &Authority, protocols: &[&str]) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let server = authority.server();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), seen.clone()));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, seen: Arc<Seen>) {
    let stream = match tls.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // As the gateway does it: a socket that is closed with bytes unread resets the connection, and the alert with it.
            drop(stream.shutdown().await);
            let mut nowhere = tokio::io::sink();
            let rest = tokio::io::copy(&mut stream, &mut nowhere);
            drop(tokio::time::timeout(Duration::from_secs(1), rest).await);
            return;
        }
    };
    *seen.connections.lock().unwrap() += 1;
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let ending = Arc::<Ending>::default();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(stream_of(request, respond, seen.clone(), ending.clone()));
                }
                _ => return,
            },
            () = ending.told.notified() => match *ending.how.lock().unwrap() {
                Some(Deed::GoAway) => connection.abrupt_shutdown(Reason::NO_ERROR),
                Some(Deed::AnswerAndRetire) => connection.graceful_shutdown(),
                _ => return,
            },
        }
    }
}

async fn stream_of(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Arc<Seen>,
    ending: Arc<Ending>,
) {
    let deed = seen.deeds.lock().unwrap().pop_front();
    if deed == Some(Deed::RefuseStream) {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let authority = request.uri().authority().unwrap().to_string();
    seen.authorities.lock().unwrap().push(authority);
    let mut incoming = request.into_body();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = incoming.data().await {
        body.extend_from_slice(&chunk);
        incoming.flow_control().release_capacity(chunk.len()).unwrap();
    }
    let body = String::from_utf8(body).unwrap();
    seen.bodies.lock().unwrap().push(body.clone());
    let end = |how| {
        *ending.how.lock().unwrap() = Some(how);
        ending.told.notify_one();
    };
    match deed {
        Some(Deed::ResetStream) => respond.send_reset(Reason::INTERNAL_ERROR),
        Some(how @ (Deed::GoAway | Deed::Vanish)) => {
            end(how);
            // The stream stays open until the connection is gone.
            sleep(Duration::from_secs(60)).await;
        }
        Some(Deed::Status(status, text)) => send(&mut respond, status, text.to_owned()),
        Some(how @ Deed::AnswerAndRetire) => {
            send(&mut respond, 200, answer(&body).await);
            end(how);
        }
        _ => {
            let answer = answer(&body).await;
            send(&mut respond, if answer.is_empty() { 204 } else { 200 }, answer);
        }
    }
}

fn send(respond: &mut SendResponse<Bytes>, status: u16, body: String) {
    let head = Response::builder().status(status).body(()).unwrap();
    // The client may be gone.
    let Ok(mut stream) = respond.send_response(head, body.is_empty()) else { return };
    if !body.is_empty() {
        let _ = stream.send_data(body.into(), true);
    }
}

/// `eth_blockNumber` is 16, `test_sleep` takes the milliseconds that it is given, `test_large` answers as many bytes,
/// `test_lines` an answer over several lines; anything else is answered with its parameters.
async fn answer(body: &str) -> String {
    let Ok(call) = serde_json::from_str::<Value>(body) else {
        return json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32700, "message": "not JSON" } })
            .to_string();
    };
    if let Some(batch) = call.as_array() {
        let answers: Vec<_> = batch
            .iter()
            .map(|call| json!({ "jsonrpc": "2.0", "id": call["id"], "result": call["params"] }))
            .collect();
        return Value::Array(answers).to_string();
    }
    if call.get("id").is_none() {
        return String::new();
    }
    let number = call["params"][0].as_u64().unwrap_or_default();
    let result = match call["method"].as_str() {
        Some("eth_blockNumber") => json!("0x10"),
        Some("test_sleep") => {
            sleep(Duration::from_millis(number)).await;
            json!(number)
        }
        Some("test_large") => json!("x".repeat(number.try_into().unwrap())),
        Some("test_lines") => {
            return format!(
                "{{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": {},\n  \"result\": \"a\\nb\"\n}}\n",
                call["id"]
            );
        }
        _ => call["params"].clone(),
    };
    json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }).to_string()
}
