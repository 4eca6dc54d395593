//! The loopback port: HTTP for tools that know no unix sockets, and for nobody else. Web pages are refused.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cmd::HintExt as _;
use crate::cmd::connect::frames::MAX_VALUE;
use crate::cmd::connect::gateway::{Gateway, IDEMPOTENCY_KEY};
use crate::cmd::connect::ipc;
use crate::cmd::connect::relay::{self, Socket};
use crate::cmd::connect::token::Token;

const MAX_CONNECTIONS: usize = 256;
const MAX_HEADER: usize = 16 * 1024;
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// A port on 127.0.0.1, and the same on `::1` where it is to be had.
#[derive(Debug)]
pub struct Web {
    listeners: Vec<TcpListener>,
    door: Door,
}

/// What a request must bring to be let in.
#[derive(Clone, Debug)]
struct Door {
    port: u16,
    token: Token,
    /// Of browser extensions; nobody else who has an origin is let in.
    origins: Vec<Extension>,
}

/// The origin of a browser's extension, as the browser writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension(String);

/// Why a text is no such origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin of a browser extension: expected chrome-extension://ID or moz-extension://UUID; web pages are never let in"
)]
pub struct NotAnExtension(String);

/// What a tool's connection has for as long as it lasts; its WebSocket too.
#[derive(Clone)]
struct Visit {
    door: Arc<Door>,
    gateway: Arc<Gateway>,
    /// Of [`MAX_CONNECTIONS`]; free again when the last of its holders is gone.
    place: Arc<OwnedSemaphorePermit>,
    tools: TaskTracker,
    stop: CancellationToken,
}

/// A request that is not let in: plain HTTP, as no JSON-RPC client sends such.
type Refusal = (StatusCode, &'static str);

impl Web {
    /// `port` 0 takes a free one. `kept` is the file of a token that was there before.
    pub async fn bind(
        port: u16,
        (token, kept): (Token, Option<&Path>),
        origins: Vec<Extension>,
    ) -> Result<Self> {
        let hint = kept.map_or_else(
            || "give another port with `--http PORT`".to_owned(),
            // Tools went on asking there while we were away.
            |file| {
                let file = file.display();
                format!(
                    "whoever listens there may have been told this token: remove {file}, and give another port with `--http PORT`"
                )
            },
        );
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .hint(format_args!("127.0.0.1:{port}"), &hint)?;
        let port = first.local_addr()?.port();
        let second = match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
            Ok(second) => Some(second),
            // Whoever is there would be told the token by every tool that takes `localhost` for `::1`.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(error).hint(format_args!("[::1]:{port}"), hint);
            }
            // A machine without IPv6.
            Err(_) => None,
        };
        Ok(Self {
            listeners: std::iter::once(first).chain(second).collect(),
            door: Door { port, token, origins },
        })
    }

    /// The URL that tools are given. It holds the token.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.door.port, self.door.token.expose())
    }

    /// The same for those who may not have it.
    pub fn url_without_token(&self) -> String {
        format!("http://127.0.0.1:{}/…", self.door.port)
    }

    /// Serves tools until `stop`; requests that were begun are answered.
    pub async fn serve(self, gateway: Arc<Gateway>, stop: CancellationToken) {
        let door = Arc::new(self.door);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tools = TaskTracker::new();
        for listener in self.listeners {
            let (door, gateway, stop) = (door.clone(), gateway.clone(), stop.clone());
            tools.spawn(accept(listener, door, gateway, places.clone(), tools.clone(), stop));
        }
        tools.close();
        tools.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    gateway: Arc<Gateway>,
    places: Arc<Semaphore>,
    tools: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: some will come free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (door, gateway, place) = (door.clone(), gateway.clone(), Arc::new(place));
        let visit = Visit { door, gateway, place, tools: tools.clone(), stop: stop.clone() };
        tools.spawn(async move {
            // Tools send small requests and wait for each; a failure only makes that slower.
            drop(stream.set_nodelay(true));
            let service = service_fn(|request| visit.answer(request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .max_buf_size(MAX_HEADER)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            // How a tool ends its connection is its own affair.
            tokio::select! {
                ended = connection.as_mut() => drop(ended),
                () = visit.stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
        });
    }
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = self.door.admit(&head) {
            return Ok(refused(refusal));
        }
        if relay::is_asked_for(&head) {
            return Ok(self.relay(Request::from_parts(head, body)).await);
        }
        let body = match whole(body).await {
            Ok(body) => body,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let keys: Vec<_> = head.headers.get_all(IDEMPOTENCY_KEY).iter().cloned().collect();
        let mut response = match ipc::answer(&self.gateway, body, &keys).await {
            Some(answer) => Response::new(Full::new(answer)),
            None => Response::new(Full::default()),
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// Agrees to a WebSocket if the gateway does, and carries it until one side ends it, or we do.
    async fn relay(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Socket { headers, stream } = match self.gateway.socket(request.headers()).await {
            Ok(socket) => socket,
            Err(trouble) => {
                let mut response = refused((StatusCode::BAD_GATEWAY, ""));
                *response.body_mut() = Full::from(format!("{trouble}; {}\n", trouble.hint()));
                return response;
            }
        };
        let (place, stop) = (self.place.clone(), self.stop.clone());
        let tool = hyper::upgrade::on(request);
        self.tools.spawn(async move {
            let Ok(tool) = tool.await else { return };
            let (mut tool, mut gateway) = (TokioIo::new(tool), TokioIo::new(stream));
            tokio::select! {
                done = copy_bidirectional(&mut tool, &mut gateway) => drop(done),
                () = stop.cancelled() => {}
            }
            drop(place);
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response
    }
}

impl FromStr for Extension {
    type Err = NotAnExtension;

    fn from_str(text: &str) -> Result<Self, NotAnExtension> {
        let id = text.strip_prefix("chrome-extension://").or_else(|| text.strip_prefix("moz-extension://"));
        // As browsers write ids: 32 letters, or a UUID.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match id {
            Some(id) if (32..=36).contains(&id.len()) && id.chars().all(plain) => Ok(Self(text.to_owned())),
            _ => Err(NotAnExtension(text.to_owned())),
        }
    }
}

impl Door {
    /// Who does not write our address as host was led here by a name (DNS rebinding); who has an origin is a page.
    fn admit(&self, head: &request::Parts) -> Result<(), Refusal> {
        let is_ours = |host: &str| {
            let name = host.strip_suffix(&format!(":{}", self.port));
            name.is_some_and(|name| {
                ["127.0.0.1", "localhost", "[::1]"].iter().any(|our| name.eq_ignore_ascii_case(our))
            })
        };
        let absolute = head.uri.authority().is_none_or(|authority| is_ours(authority.as_str()));
        if !absolute || !only(&head.headers, HOST).is_some_and(is_ours) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "this is 127.0.0.1, and no other host\n"));
        }
        // One header with one origin, letter by letter. It knows the token too: another extension of this id does not.
        let welcome = |origin: &str| self.origins.iter().any(|Extension(known)| known == origin);
        if head.headers.contains_key(ORIGIN) && !only(&head.headers, ORIGIN).is_some_and(welcome) {
            return Err((StatusCode::FORBIDDEN, "web pages may not use this endpoint\n"));
        }
        if !self.token.is(head.uri.path().strip_prefix('/').unwrap_or_default()) {
            return Err((
                StatusCode::NOT_FOUND,
                "the path is not the token that `chancery connect` printed\n",
            ));
        }
        if relay::is_asked_for(head) {
            return Ok(());
        }
        if head.method != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "JSON-RPC is sent by POST, or on a WebSocket\n"));
        }
        let json = |value: &str| {
            value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        };
        if !only(&head.headers, CONTENT_TYPE).is_some_and(json) {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json\n"));
        }
        Ok(())
    }
}

/// The one value of a header; `None` if there is none, or more than one.
fn only(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// The whole body, within its bounds.
async fn whole(body: Incoming) -> Result<Bytes, Refusal> {
    const TOO_LARGE: Refusal = (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 2 MiB\n");
    let bound = u64::try_from(MAX_VALUE).unwrap_or(u64::MAX);
    if body.size_hint().lower() > bound {
        return Err(TOO_LARGE);
    }
    match timeout(BODY_DEADLINE, Limited::new(body, MAX_VALUE).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(TOO_LARGE),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body broke off\n")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n")),
    }
}

fn refused((status, text): Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_somebody_else_has_on_the_other_loopback_is_not_taken() {
        let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else { return };
        let port = other.local_addr().unwrap().port();
        let refused = Web::bind(port, (Token::random().unwrap(), None), Vec::new()).await.unwrap_err();
        assert!(refused.to_string().contains("::1"), "{refused}");
    }

    const OURS: &str = "chrome-extension://abcdefghijklmnopabcdefghijklmnop";

    #[test]
    fn a_page_is_no_extension() {
        assert!("moz-extension://0e3f5e9c-7a3b-4b6d-9c1a-2f5d8e7c6b4a".parse::<Extension>().is_ok());
        for text in [
            "https://app.example",
            "null",
            "",
            "*",
            "chrome-extension://",
            "chrome-extension://*",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop/",
            "chrome-extension://ABCDEFGHIJKLMNOPabcdefghijklmnop",
            "moz-extension://*",
        ] {
            assert!(text.parse::<Extension>().is_err(), "{text}");
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const SOCKET: (&str, &str) = ("upgrade", "WebSocket");
    const HOME: (&str, &str) = ("host", "127.0.0.1:8547");

    /// The status that `door` answers, 200 for being let in. `{}` in the path is the token.
    fn knock(door: &Door, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path.replace("{}", door.token.expose()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        door.admit(&head).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn only_a_local_tool_that_knows_the_token_is_let_in() {
        let door = Door { port: 8547, token: Token::random().unwrap(), origins: vec![OURS.parse().unwrap()] };
        let other = Token::random().unwrap().expose().to_owned();
        let host = |host| [("host", host), JSON];
        for (status, method, path, headers) in [
            (200, "POST", "/{}", &[HOME, JSON][..]),
            (200, "POST", "/{}", &host("localhost:8547")),
            (200, "POST", "/{}", &host("LocalHost:8547")),
            (200, "POST", "/{}", &host("[::1]:8547")),
            (200, "POST", "http://127.0.0.1:8547/{}", &[HOME, JSON]),
            (200, "POST", "/{}", &[HOME, ("content-type", "Application/JSON; charset=utf-8")]),
            // another host, or none, or two
            (421, "POST", "/{}", &host("evil.example:8547")),
            (421, "POST", "/{}", &host("127.0.0.1")),
            (421, "POST", "/{}", &host("127.0.0.1:8548")),
            (421, "POST", "/{}", &host("127.0.0.1:8547.evil.example")),
            (421, "POST", "/{}", &host("127.0.0.1.evil.example:8547")),
            (421, "POST", "/{}", &host("user@127.0.0.1:8547")),
            (421, "POST", "/{}", &host("")),
            (421, "POST", "/{}", &[JSON]),
            (421, "POST", "/{}", &[HOME, HOME, JSON]),
            (421, "POST", "http://evil.example:8547/{}", &[HOME, JSON]),
            // a page
            (403, "POST", "/{}", &[HOME, JSON, ("origin", "https://evil.example")]),
            (403, "POST", "/{}", &[HOME, JSON, ("origin", "null")]),
            (403, "POST", "/{}", &[HOME, JSON, ("origin", "http://127.0.0.1:8547")]),
            (
                403,
                "POST",
                "/{}",
                &[HOME, JSON, ("origin", "chrome-extension://bcdefghijklmnopabcdefghijklmnopa")],
            ),
            (403, "POST", "/{}", &[HOME, JSON, ("origin", OURS), ("origin", OURS)]),
            (403, "POST", "/{}", &[HOME, JSON, ("origin", OURS), ("origin", "https://evil.example")]),
            // an extension that was named
            (200, "POST", "/{}", &[HOME, JSON, ("origin", OURS)]),
            (200, "GET", "/{}", &[HOME, SOCKET, ("origin", OURS)]),
            (404, "POST", "/", &[HOME, JSON, ("origin", OURS)]),
            (421, "POST", "/{}", &[("host", "evil.example:8547"), JSON, ("origin", OURS)]),
            (403, "OPTIONS", "/{}", &[HOME, ("origin", "https://evil.example")]),
            // not the token
            (404, "POST", "/", &[HOME, JSON]),
            (404, "POST", "//{}", &[HOME, JSON]),
            (404, "POST", "/{}/", &[HOME, JSON]),
            (404, "POST", "/{}x", &[HOME, JSON]),
            (404, "POST", &format!("/{other}"), &[HOME, JSON]),
            (404, "GET", "/", &[HOME]),
            // a WebSocket, of a tool and not of a page
            (200, "GET", "/{}", &[HOME, SOCKET]),
            (421, "GET", "/{}", &[("host", "evil.example:8547"), SOCKET]),
            (403, "GET", "/{}", &[HOME, SOCKET, ("origin", "https://evil.example")]),
            (404, "GET", "/", &[HOME, SOCKET]),
            (405, "GET", "/{}", &[HOME, ("upgrade", "h2c")]),
            // not JSON-RPC
            (405, "GET", "/{}", &[HOME]),
            (405, "PUT", "/{}", &[HOME, JSON]),
            (415, "POST", "/{}", &[HOME]),
            (415, "POST", "/{}", &[HOME, ("content-type", "text/plain")]),
            (415, "POST", "/{}", &[HOME, ("content-type", "text/plain; application/json")]),
            (415, "POST", "/{}", &[HOME, JSON, JSON]),
        ] {
            assert_eq!(knock(&door, method, path, headers), status, "{method} {path} {headers:?}");
        }
    }
}
