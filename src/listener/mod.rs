//! Who may connect: the accept loop, TLS, and an orderly end. Everything here has a bound and a deadline.

mod crl;
mod gatekeeper;
mod guard;
mod lifetimes;
mod pass;
mod reload;
mod seats;
mod sources;
mod tls;
mod trust;
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

use crate::clock::Clock;
use crate::config::Limits;
use crate::identity::Person;

pub use pass::{Lapsed, Pass};
pub use sources::Sources;
pub use tls::{Entrance, TlsError};
pub use trust::{Tls, Trust};
pub use visitors::{Visitors, Visits};

use guard::Guarded;
use seats::Seats;

/// A socket that is bound, and nobody let in yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    limits: Limits,
    visitors: Visitors,
}

/// One connection after its handshake.
#[derive(Clone, Debug)]
pub struct Connection {
    pub person: Person,
    /// The name in the certificate.
    pub identity: String,
    pub remote: SocketAddr,
    /// Its right to ask for anything, which ends when its certificate does, or its holder's place here. Each request
    /// asks it already; whoever takes the connection over (a WebSocket) asks it before each message, and ends when it
    /// has lapsed.
    pub pass: Pass,
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
        let visitors = Visitors::new(clock);
        Ok(Self { socket, address, tls, limits: limits.clone(), visitors })
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
            http: http(&self.limits),
            tls: self.tls,
            seats: Seats::new(self.limits.max_connections_per_client),
            limits: self.limits,
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
    tls: Tls,
    http: auto::Builder<TokioExecutor>,
    seats: Arc<Seats>,
    limits: Limits,
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
        // By what holds at this moment.
        let acceptor = TlsAcceptor::from(self.tls.trust.current().server(self.tls.entrance));
        let handshake = timeout(self.limits.handshake_timeout, acceptor.accept(stream).into_fallible());
        // Who is not in yet when the listener ends does not come in.
        let Some(shaken) = self.closing.run_until_cancelled(handshake).await else { return };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                self.refused(remote, reason(&error), &error);
                farewell(stream).await;
                return;
            }
            Err(_) => {
                self.refused(remote, "timeout", &"no handshake in time");
                return;
            }
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let (pass, admitted) =
            match Pass::new(&self.tls, chain.iter().map(|der| der.clone().into_owned()).collect()) {
                Ok(admitted) => admitted,
                Err(error) => {
                    // The handshake has let it in; what was read meanwhile does not.
                    self.refused(remote, gatekeeper::reason(&error), &error);
                    return;
                }
            };
        let (person, identity) = (admitted.person, admitted.identity);
        let Some(_seat) = self.seats.take(person.name()) else {
            self.refused(
                remote,
                "too_many",
                &format_args!("{} has as many connections as it may", person.name()),
            );
            return;
        };
        self.visitors.arrived(&person, &identity, remote);
        let (upgraded, cut) = (TaskTracker::new(), CancellationToken::new());
        let _cut_when_over = cut.clone().drop_guard();
        let connection = Connection {
            person,
            identity,
            remote,
            pass: pass.clone(),
            upgraded: upgraded.clone(),
            closing: self.closing.clone(),
            cut,
        };
        let service = Guarded { inner: (self.service_of)(&connection), pass: pass.clone() };
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
            Lapsed = pass.lapsed() => {}
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

/// Why a handshake failed, out of a fixed set.
fn reason(error: &std::io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.map_or("handshake", gatekeeper::reason)
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
    mod connections;
    mod kit;
    mod trust;
}
