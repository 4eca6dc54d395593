//! One connection, from its first byte to its last: handshake, places, requests, and an orderly end.

use std::convert::Infallible;
use std::future::{Future as _, pending, poll_fn};
use std::net::{IpAddr, SocketAddr, TcpStream as Accepted};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::config::{Limits, Network};
use crate::identity::Person;
use crate::listener::guard::Guarded;
use crate::listener::household::household;
use crate::listener::protocol::Http;
use crate::listener::strangers::{Strangers, Turn};
use crate::listener::wire::{Talk, Wire};
use crate::listener::{Lapsed, Pass, Tls, Visitors, gatekeeper, proxy};
use crate::seats::Seats;
use crate::turns::{Line, Turns};

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
    /// Where its tasks wait for their turn beside other clients'.
    pub line: Line,
}

/// For how long, and for how many bytes, a refused client is still listened to.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// How long a stop waits for the first request of a new connection.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// What all connections of a listener share.
pub(super) struct House<F> {
    pub tls: Tls,
    pub http: Http,
    pub strangers: Strangers,
    /// Of those who were let in.
    pub connections: Arc<Semaphore>,
    pub of_addresses: Arc<Seats<IpAddr>>,
    pub of_people: Arc<Seats<String>>,
    pub balancers: Vec<Network>,
    pub limits: Limits,
    pub visitors: Visitors,
    pub service_of: F,
}

/// What happens to a connection beside its requests.
enum Event {
    /// It is to end as soon as what was begun is done.
    Stop,
    /// It is over at once.
    Cut,
}

impl<F> House<F> {
    pub async fn welcome<S>(
        &self,
        stream: Accepted,
        peer: SocketAddr,
        (handshake, turns): (OwnedSemaphorePermit, Option<Turns>),
        draining: CancellationToken,
    ) where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        F: Fn(&Connection) -> S,
    {
        let Ok(mut stream) = TcpStream::from_std(stream) else { return };
        // Without it every small answer would wait for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        let Some(remote) = self.origin(&mut stream, peer).await else { return };
        let Some(_seat) = self.of_addresses.take(household(remote.ip())) else {
            self.refused(remote, "too_many_of_address", &"this address has as many connections as it may");
            return;
        };
        let Some((stream, turn)) = self.handshake(stream, remote, handshake).await else { return };
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
        drop(turn);
        // Whoever is known waits a while where all places are taken.
        let waited = timeout(self.limits.handshake_timeout, Arc::clone(&self.connections).acquire_owned());
        let Ok(Ok(_connection)) = waited.await else {
            self.refused(remote, "full", &"as many connections are open as may be");
            return;
        };
        self.visitors.arrived(&person, &identity, remote);
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let talk = Talk::new(is_http_2, &self.limits);
        let stream = TokioIo::new(Wire::new(stream, talk.clone(), &self.limits));
        let line = turns.map_or(Line::FREE, |turns| turns.of(person.name()));
        let mut turn = line.turn();
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
            line: line.clone(),
        };
        let asked = CancellationToken::new();
        let guarded = Guarded::new((self.service_of)(&connection), pass.clone(), talk, asked.clone());
        let service = service_fn(move |request| guarded.call(request));
        let mut serving = pin!(if is_http_2 {
            Either::Left(self.http.two(line).serve_connection(stream, service))
        } else {
            Either::Right(self.http.one.serve_connection(stream, service).with_upgrades())
        });
        // Who has come just now has a request under way, and is not sent away without an answer.
        let is_time_to_go = async {
            draining.cancelled().await;
            drop(timeout(FIRST_REQUEST, asked.cancelled()).await);
            Event::Stop
        };
        // Over HTTP/1.1 every request has its time (`Wire`); over HTTP/2 there are pings, and the time of the first.
        let is_silent = async {
            if !is_http_2 || timeout(self.limits.idle_timeout, asked.cancelled()).await.is_ok() {
                pending::<()>().await;
            }
        };
        let is_over = async {
            tokio::select! {
                () = is_silent => {}
                Lapsed = pass.lapsed() => {}
            }
            Event::Cut
        };
        // Looked at when they have something to say, and not at every byte.
        let mut events = FuturesUnordered::from_iter([Either::Left(is_time_to_go), Either::Right(is_over)]);
        loop {
            tokio::select! {
                // In this order: whoever has always something to ask must not keep them from being heard.
                biased;
                Some(event) = events.next() => match (event, serving.as_mut().as_pin_mut()) {
                    (Event::Cut, _) => return,
                    (Event::Stop, Either::Left(serving)) => serving.graceful_shutdown(),
                    (Event::Stop, Either::Right(serving)) => serving.graceful_shutdown(),
                },
                result = poll_fn(|context| turn.poll(context, |context| serving.as_mut().poll(context))) => {
                    if let Err(error) = result {
                        tracing::debug!(%remote, %error, "the connection ended with an error");
                    }
                    break;
                }
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

impl<F> House<F> {
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

    async fn handshake(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<(TlsStream<TcpStream>, Turn)> {
        let Some(turn) = self.strangers.turn(household(remote.ip()), place).await else {
            let why = "too many connections of this address have shown no certificate yet";
            self.refused(remote, "too_many_handshakes", &why);
            return None;
        };
        // By what holds at this moment.
        let acceptor = TlsAcceptor::from(self.tls.trust.current().server(self.tls.entrance));
        let handshake = acceptor.accept(stream).into_fallible();
        match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => return Some((stream, turn)),
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
