//! Who may connect: the accept loop, TLS, and an orderly end. Everything here has a bound and a deadline.

mod crl;
mod gatekeeper;
mod guard;
mod inherited;
mod lifetimes;
mod pass;
mod protocol;
mod proxy;
mod reload;
mod seats;
mod sources;
mod tls;
mod trust;
mod visitors;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Limits, Network};
use crate::identity::Person;

pub use inherited::{Inherited, InheritedError};
pub use pass::{Lapsed, Pass};
pub use sources::Sources;
pub use tls::{Entrance, TlsError};
pub use trust::{Tls, Trust};
pub use visitors::{Visitors, Visits};

use guard::Guarded;
use seats::{Seats, household};
use wire::{Meter, Wire};

/// A socket that is bound, and nobody let in yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    limits: Limits,
    visitors: Visitors,
    balancers: Vec<Network>,
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

/// How long a stop waits for the first request of a new connection.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 1024;

/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 250;

/// Header fields of one request.
const MAX_HEADERS: usize = 64;

impl Listener {
    /// On a socket of our own, or on the one that was handed over for this address.
    pub fn bind(
        address: SocketAddr,
        inherited: &mut Inherited,
        tls: Tls,
        limits: &Limits,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let failed = |why| BindError { address, why };
        let socket = match inherited.socket(address) {
            Some(socket) => socket,
            None => open(address).map_err(failed)?,
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = TcpListener::from_std(socket).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (visitors, balancers) = (Visitors::new(clock), Vec::new());
        Ok(Self { socket, address, tls, limits: limits.clone(), visitors, balancers })
    }

    /// What comes from these begins with a PROXY header, which says whose connection it is.
    #[must_use]
    pub fn behind(mut self, balancers: &[Network]) -> Self {
        self.balancers = balancers.to_vec();
        self
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
        let handshakes = Arc::new(Semaphore::new(self.limits.max_handshakes));
        let (tasks, draining, stop) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let shared = Arc::new(Shared {
            http: protocol::server(&self.limits),
            tls: self.tls,
            connections: Arc::new(Semaphore::new(self.limits.max_connections)),
            of_addresses: Seats::new(self.limits.max_connections_per_address),
            of_people: Seats::new(self.limits.max_connections_per_client),
            balancers: self.balancers,
            limits: self.limits,
            visitors: self.visitors,
            service_of,
        });
        let mut shutdown = pin!(shutdown);
        loop {
            // The permit comes first: for whom there is no time waits in the kernel's queue, which has a bound too.
            // Strangers take part in these only, not in the places of those whom we know.
            let permit = tokio::select! {
                () = &mut shutdown => break,
                permit = Arc::clone(&handshakes).acquire_owned() => permit,
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
            let (shared, draining, stop) = (Arc::clone(&shared), draining.clone(), stop.clone());
            tasks.spawn(async move {
                let open = metrics::gauge!("chancery_connections_open");
                open.increment(1.0);
                tokio::select! {
                    () = shared.serve(stream, remote, permit, draining) => {}
                    () = stop.cancelled() => {}
                }
                open.decrement(1.0);
            });
        }
        drop(self.socket);
        draining.cancel();
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!("requests that are still open after the drain time are cut off");
        }
        stop.cancel();
    }
}

struct Shared<F> {
    tls: Tls,
    http: auto::Builder<TokioExecutor>,
    /// Of those who were let in.
    connections: Arc<Semaphore>,
    of_addresses: Arc<Seats<IpAddr>>,
    of_people: Arc<Seats<String>>,
    balancers: Vec<Network>,
    limits: Limits,
    visitors: Visitors,
    service_of: F,
}

impl<F> Shared<F> {
    async fn serve<S>(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        handshake: OwnedSemaphorePermit,
        draining: CancellationToken,
    ) where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        F: Fn(&Connection) -> S,
    {
        // Without it every small answer would wait for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        let Some(remote) = self.origin(&mut stream, peer).await else { return };
        let Some(_seat) = self.of_addresses.take(household(remote.ip())) else {
            self.refused(remote, "too_many_of_address", &"this address has as many connections as it may");
            return;
        };
        let Some(stream) = self.handshake(stream, remote).await else { return };
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
        let Some(_place) = self.of_people.take(person.name().to_owned()) else {
            self.refused(
                remote,
                "too_many",
                &format_args!("{} has as many connections as it may", person.name()),
            );
            return;
        };
        // Whoever is known waits a while where all places are taken.
        let waited = timeout(self.limits.handshake_timeout, Arc::clone(&self.connections).acquire_owned());
        let Ok(Ok(_connection)) = waited.await else {
            self.refused(remote, "full", &"as many connections are open as may be");
            return;
        };
        drop(handshake);
        self.visitors.arrived(&person, &identity, remote);
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let meter = is_h2.then(|| Arc::new(Meter::new(self.limits.max_body, MAX_STREAMS)));
        let stream = Wire::new(stream, meter.clone(), self.limits.write_timeout);
        let (upgraded, cut) = (TaskTracker::new(), CancellationToken::new());
        let _cut_when_over = cut.clone().drop_guard();
        let connection = Connection {
            person,
            identity,
            remote,
            pass: pass.clone(),
            upgraded: upgraded.clone(),
            closing: draining.clone(),
            cut,
        };
        let asked = CancellationToken::new();
        let inner = (self.service_of)(&connection);
        let service = Guarded { inner, pass: pass.clone(), meter, asked: asked.clone() };
        let mut serving = pin!(self.http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        // Who has come just now has a request under way, and is not sent away without an answer.
        let mut is_time_to_go = pin!(async {
            draining.cancelled().await;
            drop(timeout(FIRST_REQUEST, asked.cancelled()).await);
        });
        // hyper's own deadlines begin with the first bytes.
        let mut is_silent = pin!(timeout(self.limits.idle_timeout, asked.cancelled()));
        let (mut is_going, mut has_asked) = (false, false);
        loop {
            tokio::select! {
                heard = &mut is_silent, if !has_asked => match heard {
                    Ok(()) => has_asked = true,
                    Err(_) => return,
                },
                result = &mut serving => {
                    if let Err(error) = result {
                        tracing::debug!(%remote, %error, "the connection ended with an error");
                    }
                    break;
                }
                () = &mut is_time_to_go, if !is_going => {
                    is_going = true;
                    serving.as_mut().graceful_shutdown();
                }
                Lapsed = pass.lapsed() => return,
            }
        }
        // What became a WebSocket keeps the places that it has.
        upgraded.close();
        tokio::select! {
            () = upgraded.wait() => {}
            Lapsed = pass.lapsed() => {}
        }
    }
}

impl<F> Shared<F> {
    /// Whose connection it is: the peer's, or whom a load balancer of ours speaks for.
    async fn origin(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.balancers.iter().any(|network| network.contains(peer.ip())) {
            return Some(peer);
        }
        match timeout(self.limits.handshake_timeout, proxy::read(stream)).await {
            Ok(Ok(source)) => Some(source.unwrap_or(peer)),
            Ok(Err(error)) => {
                self.refused(peer, "proxy_header", &error);
                None
            }
            Err(_) => {
                self.refused(peer, "timeout", &"no PROXY header in time");
                None
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, remote: SocketAddr) -> Option<TlsStream<TcpStream>> {
        // By what holds at this moment.
        let acceptor = TlsAcceptor::from(self.tls.trust.current().server(self.tls.entrance));
        let handshake = acceptor.accept(stream).into_fallible();
        match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, stream))) => {
                self.refused(remote, reason(&error), &error);
                farewell(stream).await;
            }
            Err(_) => self.refused(remote, "timeout", &"no handshake in time"),
        }
        None
    }

    fn refused(&self, remote: SocketAddr, reason: &'static str, why: &dyn std::fmt::Display) {
        self.visitors.refused(remote, reason);
        metrics::counter!("chancery_handshakes_refused_total", "reason" => reason).increment(1);
        tracing::info!(%remote, why = %why, "a connection was refused");
    }
}

/// As tokio does it: a restarted program gets its address back at once.
fn open(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
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

#[cfg(test)]
mod tests {
    mod connections;
    mod floods;
    mod kit;
    mod trust;
}
