//! The other side of `scripts/bench`: a static node, clients that ask as fast as they are answered, and a bare loop
//! of `C_Sign`. Not part of the program; it prints one line of JSON for each measurement.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for measuring may stop where it stands, and says what it found"
)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use bytes::Bytes;
use clap::Parser;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// As the program's: what measures takes its time from what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Load {
    /// A node that answers at once: every transaction is mined and final as soon as it comes
    Node { address: SocketAddr },
    /// Calls of one method by so many callers, for so many seconds
    Call {
        #[command(flatten)]
        to: To,
        /// Each `SEQUENCE` in it is another number in each call
        #[arg(long)]
        body: String,
        /// With HTTP/1.1 each caller has one; with HTTP/2 sixteen share one
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long)]
        http2: bool,
        /// How long each caller rests after a call
        #[arg(long, default_value_t = 0)]
        pause_ms: u64,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Opens so many connections, asks once on each, says so, and holds them for a while
    Hold {
        #[command(flatten)]
        to: To,
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// Each becomes a WebSocket, on which nothing is asked
        #[arg(long)]
        websockets: bool,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// `C_Sign` in a bare loop, by so many sessions
    Sign {
        #[arg(long)]
        module: PathBuf,
        #[arg(long)]
        pin_file: PathBuf,
        #[arg(long, default_value_t = 4)]
        sessions: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// Where, and as whom.
#[derive(Clone, clap::Args)]
struct To {
    address: SocketAddr,
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

/// How long each call took, in microseconds, of one that got what it wanted and those that did not.
#[derive(Default)]
struct Measured {
    took: Vec<u64>,
    failed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    match Load::parse() {
        Load::Node { address } => node(address).await,
        Load::Call { to, body, connections, http2, pause_ms, seconds } => {
            call(&to, &body, (connections, http2), Duration::from_millis(pause_ms), seconds).await;
        }
        Load::Hold { to, connections, websockets: false, seconds } => hold(&to, connections, seconds).await,
        Load::Hold { to, connections, websockets: true, seconds } => {
            hold_sockets(&to, connections, seconds).await;
        }
        Load::Sign { module, pin_file, sessions, seconds } => sign(&module, &pin_file, sessions, seconds),
    }
}

async fn call(to: &To, body: &str, (callers, http2): (usize, bool), pause: Duration, seconds: u64) {
    let tls = to.tls(http2);
    let sequence = Arc::new(AtomicU64::new(0x1000_0000));
    let mut connections = Vec::new();
    for caller in 0..callers {
        if http2 && caller % 16 > 0 {
            connections.push(connections.last().map(Connection::again).unwrap());
        } else {
            connections.push(to.connect(&tls, http2).await);
        }
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut running = Vec::new();
    for mut connection in connections {
        let (host, body, sequence) = (to.address.to_string(), body.to_owned(), Arc::clone(&sequence));
        running.push(tokio::spawn(async move {
            let mut measured = Measured::default();
            while Instant::now() < until {
                let number = sequence.fetch_add(1, Ordering::Relaxed);
                let body = Bytes::from(body.replace("SEQUENCE", &format!("{number:08x}")));
                let start = Instant::now();
                let answer = connection.ask(&host, body).await;
                // All of a large answer is not read again: the clients share their cores with what is measured.
                let head = String::from_utf8_lossy(answer.get(..80).unwrap_or(&answer)).into_owned();
                if head.contains("\"result\":") {
                    measured.took.push(u64::try_from(start.elapsed().as_micros()).unwrap());
                } else {
                    measured.failed += 1;
                }
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            measured
        }));
    }
    let mut all = Measured::default();
    for one in running {
        let one = one.await.unwrap();
        all.took.extend(one.took);
        all.failed += one.failed;
    }
    all.print(seconds);
}

async fn hold(to: &To, connections: usize, seconds: u64) {
    let tls = to.tls(false);
    let host = to.address.to_string();
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#);
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut connection = to.connect(&tls, false).await;
        connection.ask(&host, body.clone()).await;
        held.push(connection);
    }
    println!("{}", json!({ "held": held.len() }));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn hold_sockets(to: &To, sockets: usize, seconds: u64) {
    let tls = to.tls(false);
    let mut held = Vec::new();
    for _ in 0..sockets {
        held.push(to.open_socket(&tls).await);
    }
    println!("{}", json!({ "held": held.len() }));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn sign(module: &Path, pin_file: &Path, sessions: usize, seconds: u64) {
    let module = Pkcs11::new(module).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let pin = AuthPin::new(std::fs::read_to_string(pin_file).unwrap().trim().to_owned().into());
    let login = module.open_ro_session(slot).unwrap();
    login.login(UserType::User, Some(&pin)).unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let measured = Mutex::new(Measured::default());
    std::thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                let session = module.open_ro_session(slot).unwrap();
                let key = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0];
                let mut took = Vec::new();
                while Instant::now() < until {
                    let start = Instant::now();
                    session.sign(&Mechanism::Ecdsa, key, &[7; 32]).unwrap();
                    took.push(u64::try_from(start.elapsed().as_micros()).unwrap());
                }
                measured.lock().unwrap().took.extend(took);
            });
        }
    });
    measured.into_inner().unwrap().print(seconds);
}

impl Measured {
    fn print(mut self, seconds: u64) {
        self.took.sort_unstable();
        let at = |percent: usize| self.took.get(self.took.len() * percent / 100).copied().unwrap_or_default();
        let per_second = self.took.len() as f64 / seconds as f64;
        println!(
            "{}",
            json!({
                "per_second": per_second.round(), "p50_us": at(50), "p99_us": at(99), "count": self.took.len(),
                "failed": self.failed,
            })
        );
    }
}

impl To {
    fn tls(&self, http2: bool) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&self.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&self.key).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        TlsConnector::from(Arc::new(config))
    }

    async fn stream(&self, tls: &TlsConnector) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    async fn open_socket(&self, tls: &TlsConnector) -> TlsStream<TcpStream> {
        let mut stream = self.stream(tls).await;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101"), "no WebSocket: {answer}");
        stream
    }

    async fn connect(&self, tls: &TlsConnector, http2: bool) -> Connection {
        let stream = TokioIo::new(self.stream(tls).await);
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            return Connection::Two(sender);
        }
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Connection::One(sender)
    }
}

enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// For another caller; of HTTP/2 only.
    fn again(&self) -> Self {
        match self {
            Self::Two(sender) => Self::Two(sender.clone()),
            Self::One(_) => panic!("a connection of HTTP/1.1 has one caller"),
        }
    }

    async fn ask(&mut self, host: &str, body: Bytes) -> Bytes {
        let request = Request::post(match self {
            Self::One(_) => "/".to_owned(),
            Self::Two(_) => format!("https://{host}/"),
        });
        let request = request.header("content-type", "application/json");
        let answer = match self {
            Self::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request.header("host", host).body(Full::new(body)).unwrap()).await
            }
            Self::Two(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request.body(Full::new(body)).unwrap()).await
            }
        };
        answer.unwrap().into_body().collect().await.unwrap().to_bytes()
    }
}

/// What the static node remembers.
struct Chain {
    /// A block of 2 KB, and logs of 200 KB.
    block: Bytes,
    logs: Bytes,
    mined: AtomicU64,
    hashes: Mutex<HashSet<B256>>,
}

/// Read in place: this node shares its processors with what is measured.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

async fn node(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let chain = Arc::new(Chain::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let chain = Arc::clone(&chain);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let chain = Arc::clone(&chain);
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = if body.starts_with(b"[") {
                        let calls: Vec<Asked<'_>> = serde_json::from_slice(&body).unwrap();
                        let answers: Vec<_> = calls.iter().map(|call| chain.answer(call)).collect();
                        Bytes::from([b"[", &*answers.join(&b","[..]), b"]"].concat())
                    } else {
                        chain.answer(&serde_json::from_slice(&body).unwrap()).into()
                    };
                    let response = Response::builder().header("content-type", "application/json");
                    Ok::<_, Infallible>(response.body(Full::new(answer)).unwrap())
                }
            });
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

impl Chain {
    fn new() -> Self {
        let hash = format!("0x{}", "ab".repeat(32));
        let block = json!({
            "hash": hash, "parentHash": hash, "stateRoot": hash, "number": "0x1000000", "gasUsed": "0x1c9c380",
            "transactions": vec![&hash; 24],
        });
        let log = json!({
            "address": format!("0x{}", "cd".repeat(20)), "topics": [hash, hash, hash], "data": hash, "blockHash": hash,
            "blockNumber": "0x1000000", "transactionHash": hash, "transactionIndex": "0x1", "logIndex": "0x2",
            "removed": false,
        });
        let logs = Value::from(vec![log; 310]);
        Self {
            block: block.to_string().into(),
            logs: logs.to_string().into(),
            mined: AtomicU64::default(),
            hashes: Mutex::default(),
        }
    }

    fn answer(&self, call: &Asked<'_>) -> Vec<u8> {
        // In the order in which nodes write it.
        let head = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":", call.id);
        let result = self.ready(call).unwrap_or_else(|| self.result(call).to_string().into());
        [head.as_bytes(), &result, b"}"].concat()
    }

    /// What need not be made anew for each call.
    fn ready(&self, call: &Asked<'_>) -> Option<Bytes> {
        match &*call.method {
            "eth_getBlockByHash" => Some(self.block.clone()),
            "eth_getLogs" => Some(self.logs.clone()),
            _ => None,
        }
    }

    fn result(&self, call: &Asked<'_>) -> Value {
        let params = || call.params.unwrap().get();
        match &*call.method {
            "eth_chainId" => json!("0x7a69"),
            "eth_blockNumber" => json!("0x1000000"),
            "eth_estimateGas" => json!("0x5208"),
            "eth_gasPrice" => json!("0x77359400"),
            "eth_maxPriorityFeePerGas" => json!("0x1"),
            "eth_getBalance" => json!("0x56bc75e2d63100000"),
            "eth_feeHistory" => {
                json!({ "oldestBlock": "0x1", "baseFeePerGas": ["0x3b9aca00", "0x3b9aca00"], "gasUsedRatio": [0.5] })
            }
            "eth_getBlockByNumber" => json!({ "number": "0x1000000" }),
            "eth_getTransactionCount" => json!(format!("{:#x}", self.mined.load(Ordering::SeqCst))),
            "eth_getTransactionReceipt" => {
                let [hash]: [B256; 1] = serde_json::from_str(params()).unwrap();
                if self.hashes.lock().unwrap().contains(&hash) {
                    json!({ "blockNumber": "0x1", "transactionHash": hash, "status": "0x1" })
                } else {
                    Value::Null
                }
            }
            "eth_sendRawTransaction" => {
                let [raw]: [alloy_primitives::Bytes; 1] = serde_json::from_str(params()).unwrap();
                let hash = keccak256(raw);
                if self.hashes.lock().unwrap().insert(hash) {
                    self.mined.fetch_add(1, Ordering::SeqCst);
                }
                json!(hash)
            }
            _ => Value::Null,
        }
    }
}
