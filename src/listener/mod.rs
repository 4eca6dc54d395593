//! Who may connect: the accept loop, TLS, and an orderly end. Everything here has a bound and a deadline.

mod seats;
mod tls;
mod visitors;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp};
use crate::config::Limits;
use crate::identity::Person;

pub use tls::{Entrance, Tls, TlsError};
pub use visitors::{Visitors, Visits};

use seats::Seats;

/// A socket that is bound, and nobody let in yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    limits: Limits,
    clock: Clock,
    visitors: Visitors,
}

/// One connection after its handshake.
#[derive(Clone, Debug)]
pub struct Connection {
    pub person: Person,
    /// The name in the certificate.
    pub identity: String,
    pub remote: SocketAddr,
    /// The certificate's end; requests after it are refused on connections that are still open.
    pub not_after: Timestamp,
    /// What the connection turns into: it is not over before they are.
    pub upgraded: TaskTracker,
    /// The listener ends: what was begun is finished, and nothing more is taken.
    pub closing: CancellationToken,
    /// The connection is over, or cut off.
    pub cut: CancellationToken,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}")]
pub struct BindError {
    address: SocketAddr,
    why: std::io::Error,
}

/// Between two attempts to accept, where the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// For how long, and for how many bytes, a refused client is still listened to.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 250;

/// Header fields of one request.
const MAX_HEADERS: usize = 64;

impl Listener {
    pub async fn bind(
        address: SocketAddr,
        tls: Tls,
        limits: &Limits,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let failed = |why| BindError { address, why };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let visitors = Visitors::new(clock.clone());
        Ok(Self { socket, address, tls, limits: limits.clone(), clock, visitors })
    }

    /// Where it listens, the port that the system chose included.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who comes, as it counts them.
    pub fn visitors(&self) -> Visitors {
        self.visitors.clone()
    }

    /// Accepts until `shutdown`, then lets open requests end for at most `drain`.
    pub async fn run<S, F>(self, service_of: F, drain: Duration, shutdown: impl Future<Output = ()>)
    where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        F: Fn(&Connection) -> S + Send + Sync + 'static,
    {
        let permits = Arc::new(Semaphore::new(self.limits.max_connections));
        let graceful = GracefulShutdown::new();
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(Arc::clone(&self.tls.config)),
            http: http(&self.limits),
            tls: self.tls,
            seats: Seats::new(self.limits.max_connections_per_client),
            limits: self.limits,
            clock: self.clock,
            visitors: self.visitors,
            closing: closing.clone(),
            service_of,
        });
        let mut shutdown = pin!(shutdown);
        loop {
            // The permit comes first: who cannot be served waits in the kernel's queue, which has a bound too.
            let permit = tokio::select! {
                () = &mut shutdown => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (shared, watcher, stop) = (Arc::clone(&shared), graceful.watcher(), stop.clone());
            connections.spawn(async move {
                let open = metrics::gauge!("chancery_connections_open");
                open.increment(1.0);
                tokio::select! {
                    () = shared.serve(stream, remote, watcher) => {}
                    () = stop.cancelled() => {}
                }
                open.decrement(1.0);
                // Given back when the connection is gone, not before.
                drop(permit);
            });
        }
        drop(self.socket);
        closing.cancel();
        connections.close();
        let drained = async { tokio::join!(graceful.shutdown(), connections.wait()) };
        if timeout(drain, drained).await.is_err() {
            tracing::warn!("requests that are still open after the drain time are cut off");
        }
        stop.cancel();
    }
}

struct Shared<F> {
    acceptor: TlsAcceptor,
    tls: Tls,
    http: auto::Builder<TokioExecutor>,
    seats: Arc<Seats>,
    limits: Limits,
    clock: Clock,
    visitors: Visitors,
    closing: CancellationToken,
    service_of: F,
}

impl<F> Shared<F> {
    async fn serve<S>(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        F: Fn(&Connection) -> S,
    {
        // Without it every small answer would wait for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        let handshake = self.acceptor.accept(stream).into_fallible();
        let handshake = timeout(self.limits.handshake_timeout, handshake);
        // Who is not in yet when the listener ends does not come in.
        let Some(shaken) = self.closing.run_until_cancelled(handshake).await else { return };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                self.refused(remote, tls::reason(&error), &error);
                farewell(stream).await;
                return;
            }
            Err(_) => {
                self.refused(remote, "timeout", &"no handshake in time");
                return;
            }
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some((person, certificate)) = leaf.and_then(|leaf| self.tls.holder(leaf)) else {
            // The handshake has verified all of this; a directory that changed meanwhile may have lost the name.
            self.refused(remote, "unknown_name", &"nobody has this certificate's name");
            return;
        };
        let (identity, not_after) = (certificate.identity, certificate.not_after);
        let Some(_seat) = self.seats.take(&identity) else {
            self.refused(remote, "too_many", &format_args!("{identity} has as many connections as it may"));
            return;
        };
        self.visitors.arrived(&person, &identity, remote);
        let (upgraded, cut) = (TaskTracker::new(), CancellationToken::new());
        let _cut_when_over = cut.clone().drop_guard();
        let closing = self.closing.clone();
        let connection =
            Connection { person, identity, remote, not_after, upgraded: upgraded.clone(), closing, cut };
        let valid_for = not_after.since(self.clock.now());
        let service = (self.service_of)(&connection);
        let connected = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let serving = watcher.watch(connected.into_owned());
        let until_over = async {
            if let Err(error) = serving.await {
                tracing::debug!(%remote, %error, "the connection ended with an error");
            }
            upgraded.close();
            upgraded.wait().await;
        };
        tokio::select! {
            () = until_over => {}
            () = tokio::time::sleep(valid_for) => {
                tracing::info!(identity = %connection.identity, "a client certificate expired; its connection is cut");
            }
        }
    }
}

impl<F> Shared<F> {
    fn refused(&self, remote: SocketAddr, reason: &'static str, why: &dyn std::fmt::Display) {
        self.visitors.refused(remote, reason);
        metrics::counter!("chancery_handshakes_refused_total", "reason" => reason).increment(1);
        tracing::info!(%remote, why = %why, "a connection was refused");
    }
}

/// Lets the client read why it was refused. In TLS 1.3 it may be sending already, and a socket that is closed with bytes
/// unread resets the connection, which can overtake the alert.
async fn farewell(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    drop(timeout(FAREWELL, drain).await);
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without timers the deadlines below would do nothing.
    http.http1()
        .timer(TokioTimer::new())
        // From the end of one request to the whole head of the next; also the longest time that a kept-alive connection may be idle between two requests.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.max_header.max(8 * 1024))
        .max_headers(MAX_HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(100))
        .keep_alive_interval(Some(limits.idle_timeout.div_f32(2.0)))
        .keep_alive_timeout(Duration::from_secs(20))
        .adaptive_window(true);
    http
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use hyper::service::service_fn;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        SanType,
    };
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use crate::config::{Client, Gateway, IdentityKind, Operator, OperatorRole};
    use crate::identity::Directory;

    /// A CA, and a gateway that trusts it.
    struct Door {
        _folder: tempfile::TempDir,
        ca: Issuer<'static, KeyPair>,
        ca_pem: String,
        gateway: Gateway,
    }

    fn authority() -> (Issuer<'static, KeyPair>, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    /// What `certs issue` makes for the trader; each test changes what it is about.
    fn trader() -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![uri("spiffe://desk/trader")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.to_owned().try_into().unwrap())
    }

    fn file(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    }

    impl Door {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (ca, ca_pem) = authority();
            let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let key = KeyPair::generate().unwrap();
            let certificate = server.signed_by(&key, &ca).unwrap().pem();
            let gateway = Gateway {
                listen: "127.0.0.1:0".parse().unwrap(),
                hosts: vec!["localhost".to_owned()],
                certificate: file(folder.path(), "server.pem", &certificate),
                key: file(folder.path(), "server.key", &key.serialize_pem()),
                client_ca: file(folder.path(), "ca.pem", &ca_pem),
                identity: IdentityKind::Uri,
                drain: Duration::from_secs(2),
            };
            Self { _folder: folder, ca, ca_pem, gateway }
        }

        fn tls(&self, entrance: Entrance) -> Tls {
            let client = Client {
                name: "trader".to_owned(),
                identity: "spiffe://desk/trader".to_owned(),
                role: None,
                person: None,
                accounts: Vec::new(),
                origins: Vec::new(),
                repeat_window: None,
            };
            let operator = Operator {
                name: "ops".to_owned(),
                identity: "spiffe://desk/ops".to_owned(),
                role: OperatorRole::Admin,
                person: "Ada".to_owned(),
            };
            Tls::load(&self.gateway, Arc::new(Directory::of(vec![client], vec![operator])), entrance).unwrap()
        }

        async fn open(&self, entrance: Entrance, limits: Limits, clock: Clock) -> Open {
            let listener =
                Listener::bind(self.gateway.listen, self.tls(entrance), &limits, clock).await.unwrap();
            let (address, stop) = (listener.local_addr(), CancellationToken::new());
            let answer = |connection: &Connection| {
                let name = connection.identity.clone();
                service_fn(move |request: Request<Incoming>| {
                    let name = name.clone();
                    async move {
                        if request.uri().path() == "/slow" {
                            tokio::time::sleep(Duration::from_millis(600)).await;
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(name))))
                    }
                })
            };
            let ended =
                tokio::spawn(listener.run(answer, self.gateway.drain, stop.clone().cancelled_owned()));
            Open { address, stop, ended }
        }

        fn issue(
            &self,
            params: &CertificateParams,
        ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
            issue_by(&self.ca, params)
        }

        fn client(
            &self,
            identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        ) -> ClientConfig {
            self.client_of(identity, &[&rustls::version::TLS13])
        }

        fn client_of(
            &self,
            identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
            versions: &[&'static SupportedProtocolVersion],
        ) -> ClientConfig {
            use rustls::pki_types::pem::PemObject as _;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config =
                ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
            let config = config.with_root_certificates(roots);
            match identity {
                Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
                None => config.with_no_client_auth(),
            }
        }
    }

    fn issue_by(
        ca: &Issuer<'static, KeyPair>,
        params: &CertificateParams,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    struct Open {
        address: SocketAddr,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Open {
        async fn connect(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
            let stream = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        }

        /// One request over HTTP/1.1: the answer's last line, or the alert.
        async fn ask(&self, config: ClientConfig) -> Result<String, String> {
            let mut stream = self.connect(config).await.map_err(|e| e.to_string())?;
            ask(&mut stream, "/").await
        }
    }

    async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> Result<String, String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn a_client_is_known_by_its_one_name() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        assert_eq!(open.ask(door.client(Some(door.issue(&trader())))).await.unwrap(), "spiffe://desk/trader");
    }

    #[tokio::test]
    async fn http_2_is_spoken_to_whoever_asks_for_it() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        let mut config = door.client(Some(door.issue(&trader())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = open.connect(config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://localhost/").body(Full::new(Bytes::new())).unwrap();
        assert_eq!(send.send_request(request).await.unwrap().status(), 200);
    }

    /// Each certificate is wrong in one way.
    #[tokio::test]
    async fn whoever_has_no_right_certificate_gets_an_alert() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        let changed = |change: fn(&mut CertificateParams)| {
            let mut params = trader();
            change(&mut params);
            params
        };
        for (what, params, alert) in [
            ("expired", changed(|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)), "Expired"),
            ("not valid yet", changed(|p| p.not_before = rcgen::date_time_ymd(2090, 1, 1)), "Expired"),
            ("no extended key usage", changed(|p| p.extended_key_usages.clear()), "Certificate"),
            (
                "any usage",
                changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
                "Certificate",
            ),
            (
                "a server's",
                changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
                "Certificate",
            ),
            (
                "no signature usage",
                changed(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
                "Certificate",
            ),
            ("a CA", changed(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "Certificate"),
            ("two names", changed(|p| p.subject_alt_names.push(uri("spiffe://desk/other"))), "Certificate"),
            (
                "the same name twice",
                changed(|p| p.subject_alt_names.push(uri("spiffe://desk/trader"))),
                "Certificate",
            ),
            ("a wildcard", changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/*")]), "Certificate"),
            (
                "a name of another kind",
                changed(|p| {
                    p.subject_alt_names = vec![SanType::DnsName("trader".to_owned().try_into().unwrap())];
                }),
                "Certificate",
            ),
            (
                "a common name only",
                changed(|p| {
                    p.subject_alt_names.clear();
                    p.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://desk/trader");
                }),
                "Certificate",
            ),
            (
                "nobody's name",
                changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/stranger")]),
                "AccessDenied",
            ),
            (
                "a name in other letters",
                changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/Trader")]),
                "AccessDenied",
            ),
            (
                "an operator's",
                changed(|p| p.subject_alt_names = vec![uri("spiffe://desk/ops")]),
                "Certificate",
            ),
        ] {
            let refused = open.ask(door.client(Some(door.issue(&params)))).await.expect_err(what);
            assert!(refused.contains(alert), "{what}: {refused}");
        }
        let none = open.ask(door.client(None)).await.unwrap_err();
        assert!(none.contains("CertificateRequired"), "{none}");
        let (stranger, _) = authority();
        let other = open.ask(door.client(Some(issue_by(&stranger, &trader())))).await.unwrap_err();
        assert!(
            other.contains("UnknownCa") || other.contains("UnknownCA") || other.contains("Decrypt"),
            "{other}"
        );
    }

    #[tokio::test]
    async fn whoever_is_refused_while_writing_can_still_read_why() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        let mut stream = open.connect(door.client(None)).await.unwrap();
        for _ in 0..3 {
            stream.write_all(&[0; 1024]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refused = stream.read_u8().await.unwrap_err().to_string();
        assert!(refused.contains("CertificateRequired"), "{refused}");
    }

    #[tokio::test]
    async fn operators_come_in_at_their_own_door() {
        let door = Door::new();
        let open = door.open(Entrance::Everyone, Limits::default(), Clock::system()).await;
        let mut ops = trader();
        ops.subject_alt_names = vec![uri("spiffe://desk/ops")];
        assert_eq!(open.ask(door.client(Some(door.issue(&ops)))).await.unwrap(), "spiffe://desk/ops");
        assert!(open.ask(door.client(Some(door.issue(&trader())))).await.is_ok());
    }

    #[tokio::test]
    async fn nothing_older_than_tls_1_3_and_nothing_is_resumed() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        let identity = || Some(door.issue(&trader()));
        assert!(open.ask(door.client_of(identity(), &[&rustls::version::TLS12])).await.is_err());
        let config = door.client(identity());
        for _ in 0..2 {
            let mut stream = open.connect(config.clone()).await.unwrap();
            ask(&mut stream, "/").await.unwrap();
            let connection: &ClientConnection = stream.get_ref().1;
            assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
            assert_eq!(connection.tls13_tickets_received(), 0);
        }
    }

    #[tokio::test]
    async fn inv_08_a_certificate_that_expires_ends_its_open_connection() {
        let door = Door::new();
        let mut params = trader();
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        // Our clock stands half a second before that.
        let end = 3_786_912_000_000;
        let clock = Clock::set_to(Timestamp::from_millis(end - 500));
        let open = door.open(Entrance::Clients, Limits::default(), clock).await;
        let mut stream = open.connect(door.client(Some(door.issue(&params)))).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let cut = timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(cut.is_ok() && rest.starts_with(b"HTTP/1.1 200"), "still open");
    }

    #[tokio::test]
    async fn inv_12_a_handshake_that_stalls_is_cut_and_connections_are_bounded() {
        let door = Door::new();
        let limits =
            Limits { max_connections: 2, handshake_timeout: Duration::from_millis(300), ..Limits::default() };
        let open = door.open(Entrance::Clients, limits, Clock::system()).await;
        let mut mute = [
            TcpStream::connect(open.address).await.unwrap(),
            TcpStream::connect(open.address).await.unwrap(),
        ];
        // Both permits are held by clients that say nothing; a third waits until they are cut.
        let begun = tokio::time::Instant::now();
        open.ask(door.client(Some(door.issue(&trader())))).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(250), "more connections than permits");
        for stream in &mut mute {
            let read = timeout(Duration::from_secs(1), stream.read(&mut [0; 16])).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)), "the silent connection is still open");
        }
    }

    #[tokio::test]
    async fn inv_12_one_client_cannot_have_all_connections() {
        let door = Door::new();
        let limits = Limits { max_connections_per_client: 2, ..Limits::default() };
        let open = door.open(Entrance::Everyone, limits, Clock::system()).await;
        let (config, mut ops) = (door.client(Some(door.issue(&trader()))), trader());
        ops.subject_alt_names = vec![uri("spiffe://desk/ops")];
        let hold = async || {
            let mut stream = open.connect(config.clone()).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream
        };
        let is_served = async || open.ask(config.clone()).await.is_ok_and(|said| !said.is_empty());
        let (one, mut two) = (hold().await, hold().await);
        assert!(!is_served().await, "a third connection of the same client");
        assert!(open.ask(door.client(Some(door.issue(&ops)))).await.is_ok(), "others come in");
        ask(&mut two, "/").await.expect("what is open goes on");
        drop((one, two));
        // Their places are free as soon as the gateway has seen their end.
        let again = async { while !is_served().await {} };
        timeout(Duration::from_secs(3), again).await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_lets_open_requests_end_and_nobody_else_in() {
        let door = Door::new();
        let open = door.open(Entrance::Clients, Limits::default(), Clock::system()).await;
        let config = door.client(Some(door.issue(&trader())));
        let mut stream = open.connect(config.clone()).await.unwrap();
        let slow = tokio::spawn(async move { ask(&mut stream, "/slow").await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        open.stop.cancel();
        assert_eq!(slow.await.unwrap().unwrap(), "spiffe://desk/trader");
        assert!(open.ask(config).await.is_err());
        timeout(Duration::from_secs(3), open.ended).await.unwrap().unwrap();
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        let mut door = Door::new();
        let load = |gateway: &Gateway| {
            let directory = Arc::new(Directory::default());
            Tls::load(gateway, directory, Entrance::Clients).unwrap_err().to_string()
        };
        let folder = tempfile::tempdir().unwrap();
        let right = door.gateway.clone();
        door.gateway.key = file(folder.path(), "other.key", &KeyPair::generate().unwrap().serialize_pem());
        assert!(
            load(&door.gateway).contains("its key must be the one in [gateway] key"),
            "{}",
            load(&door.gateway)
        );
        door.gateway = Gateway { client_ca: file(folder.path(), "empty.pem", ""), ..right.clone() };
        assert!(load(&door.gateway).contains("empty.pem"), "{}", load(&door.gateway));
        door.gateway = Gateway { certificate: folder.path().join("missing.pem"), ..right };
        assert!(load(&door.gateway).contains("missing.pem"), "{}", load(&door.gateway));
    }
}
