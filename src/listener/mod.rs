//! Who may connect: the accept loop, TLS, and an orderly end. Everything here has a bound and a deadline.

mod connection;
mod crl;
mod gatekeeper;
mod guard;
mod household;
mod inherited;
mod lifetimes;
mod pass;
mod proofs;
mod protocol;
mod proxy;
mod reload;
mod sources;
mod strangers;
mod threads;
mod tls;
mod trust;
mod visitors;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::clock::Clock;
use crate::config::{Limits, Network};
use crate::seats::Seats;

pub use connection::Connection;
pub use inherited::{Inherited, InheritedError};
pub use pass::{Lapsed, Pass};
pub use sources::Sources;
pub use threads::Threads;
pub use tls::{Entrance, TlsError};
pub use trust::{Reading, Tls, Trust};
pub use visitors::{Visitors, Visits};

use connection::House;
use protocol::Http;
use strangers::Strangers;

/// A socket that is bound, and nobody let in yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    limits: Limits,
    visitors: Visitors,
    balancers: Vec<Network>,
    threads: Option<Arc<Threads>>,
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

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 1024;

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
        let (visitors, balancers, threads) = (Visitors::new(clock), Vec::new(), None);
        Ok(Self { socket, address, tls, limits: limits.clone(), visitors, balancers, threads })
    }

    /// What comes from these begins with a PROXY header, which says whose connection it is.
    #[must_use]
    pub fn behind(mut self, balancers: &[Network]) -> Self {
        self.balancers = balancers.to_vec();
        self
    }

    /// Its connections are served by these, and else by whoever runs it.
    #[must_use]
    pub fn on(mut self, threads: Arc<Threads>) -> Self {
        self.threads = Some(threads);
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
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        F: Fn(&Connection) -> S + Send + Sync + 'static,
    {
        let strangers = Strangers::new(self.limits.max_handshakes, self.limits.handshake_timeout);
        let handshakes = strangers.handshakes();
        let (tasks, draining, stop) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let house = Arc::new(House {
            http: Http::new(&self.limits),
            tls: self.tls,
            strangers,
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
            // Whoever serves it is told of its bytes, and nobody else.
            let accepted = accepted.and_then(|(stream, remote)| Ok((stream.into_std()?, remote)));
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let home = self.threads.as_ref().and_then(|threads| threads.idlest());
            let (home, turns) =
                home.map_or_else(|| (Handle::current(), None), |(home, turns)| (home, Some(turns)));
            let (house, draining, stop) = (Arc::clone(&house), draining.clone(), stop.clone());
            let serve = async move {
                let open = metrics::gauge!("chancery_connections_open");
                open.increment(1.0);
                // Looked at when it has something to say, and not at every byte.
                let mut stopped = FuturesUnordered::from_iter([stop.cancelled()]);
                tokio::select! {
                    biased;
                    _ = stopped.next() => {}
                    () = house.welcome(stream, remote, (permit, turns), draining) => {}
                }
                open.decrement(1.0);
            };
            tasks.spawn_on(serve, &home);
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

/// As tokio does it: a restarted program gets its address back at once.
fn open(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    mod connections;
    mod floods;
    pub mod kit;
    mod trust;
}
