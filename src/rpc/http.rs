//! How a request must look before its body is read: one function of rules, then the bounds, then the body.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use jsonrpsee::core::middleware::RpcServiceT;
use jsonrpsee::types::Id;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::Body;
use crate::config::{Client, Limits};
use crate::methods::{Cause, Refusal, Reply, Text};
use crate::room::Room;
use crate::rpc::calls::{Asking, Calls, refuse_body};
use crate::rpc::envelope::Bounds;
use crate::rpc::head::{declared_length, is_json, is_welcome, key, only, without_port};
use crate::rpc::rejection::{Rejection, plain};
use crate::rpc::share::{MAX_OF_A_CLIENT, MAX_OF_ALL, Place, Share};
use crate::rpc::socket::{self, Life, Socket};
use crate::rpc::tally::Tally;

/// JSON-RPC over HTTP in front of a service for each chain. Cheap to clone.
pub struct Rpc<S>(Arc<Inner<S>>);

/// What answers for one chain, and the names by which its path is known.
pub(super) struct Route<S> {
    names: Vec<String>,
    pub calls: Calls<S>,
}

/// What answers calls.
pub(super) trait Answers:
    RpcServiceT<MethodResponse = Reply, BatchResponse = Vec<Reply>> + Send + Sync + 'static
{
}

impl<S> Answers for S where
    S: RpcServiceT<MethodResponse = Reply, BatchResponse = Vec<Reply>> + Send + Sync + 'static
{
}

pub(super) struct Inner<S> {
    /// The first is at `/`.
    pub routes: Vec<Route<S>>,
    /// Without the port 443.
    hosts: Vec<String>,
    pub max_body: usize,
    pub body_timeout: Duration,
    in_flight: Semaphore,
    in_flight_count: metrics::Gauge,
    max_in_flight_per_client: usize,
    /// By the client's name: all its connections share one. Clients come from the configuration, so it is small.
    per_client: Mutex<HashMap<String, Arc<Share>>>,
    /// For the large answers of all of them.
    room: Arc<Room>,
}

/// Bytes of answers to reads that one batch may gather: 100 calls for the largest answer would fill the memory.
const MAX_BATCH_ANSWER: usize = 32 * 1024 * 1024;

/// After that no further call of a batch is begun: the least patient client gives up at ten seconds.
const BEGIN_WITHIN: Duration = Duration::from_secs(8);

/// How long, and how much, a body that is refused is read and thrown away before that is answered. A connection
/// closed with bytes unread is reset, and most clients then tell of a broken pipe and not of the reason.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A body up to this size is in the socket's buffers already, or soon: nobody is left writing.
const UNREAD: usize = 16 * 1024;

#[expect(private_bounds, reason = "the bound is only a shorter name for others")]
impl<S: Answers> Rpc<S> {
    /// `chains`: what answers for each, at `/` followed by one of these names; the first also at `/` alone. `hosts`: the
    /// names that are ours, with port where it is not 443. `is_ordered`: whether calls of a method keep their order
    /// within a batch.
    pub fn new(
        chains: Vec<(Vec<String>, S)>,
        limits: &Limits,
        hosts: Vec<String>,
        is_ordered: fn(&str) -> bool,
    ) -> Self {
        let bounds = Bounds { max_batch: limits.max_batch, max_depth: limits.max_depth };
        let route = |(names, service)| {
            let (max_batch_answer, begin_within) = (MAX_BATCH_ANSWER, BEGIN_WITHIN);
            let tally = Tally::default();
            Route {
                names,
                calls: Calls { service, bounds, is_ordered, max_batch_answer, begin_within, tally },
            }
        };
        Self(Arc::new(Inner {
            routes: chains.into_iter().map(route).collect(),
            hosts: hosts.into_iter().map(|host| without_port(&host).to_owned()).collect(),
            max_body: limits.max_body,
            body_timeout: limits.body_timeout,
            in_flight: Semaphore::new(limits.max_in_flight),
            in_flight_count: metrics::gauge!("chancery_rpc_in_flight"),
            max_in_flight_per_client: limits.max_in_flight_per_client,
            per_client: Mutex::default(),
            room: Arc::new(Room::new(MAX_OF_ALL, None)),
        }))
    }

    /// The service of one connection of `client`, which may become a WebSocket with this life.
    pub fn connection<B>(
        &self,
        client: Arc<Client>,
        life: Life,
    ) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + use<S, B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let inner = self.0.clone();
        let share = inner.share_of(&client);
        service_fn(move |request: Request<B>| {
            let (inner, client, share, life) = (inner.clone(), client.clone(), share.clone(), life.clone());
            async move { Ok(inner.respond(&client, &share, life, request).await) }
        })
    }
}

impl<S: Answers> Inner<S> {
    async fn respond<B>(
        self: Arc<Self>,
        client: &Arc<Client>,
        share: &Arc<Share>,
        life: Life,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
    {
        let (mut head, body) = request.into_parts();
        if socket::is_asked_for(&head) {
            let switched = self.socket_rules(client, &head).map(|(route, accept)| {
                let (inner, client, share) = (Arc::clone(&self), Arc::clone(client), Arc::clone(share));
                let socket = Socket { inner, route, client, share, life: life.clone() };
                if let Some(upgrade) = head.extensions.remove::<OnUpgrade>() {
                    life.sockets.spawn(socket.serve(upgrade));
                }
                socket::switching(accept)
            });
            return switched.unwrap_or_else(|rejection| rejection.response(client, head.version));
        }
        let found = self.rules(client, &head).and_then(|route| Ok((route, key(&head.headers)?)));
        let (route, key) = match found {
            Ok(found) => found,
            Err(rejection) => {
                let asks_first = head.headers.contains_key(header::EXPECT);
                if !asks_first && declared_length(&head.headers).is_some_and(|length| length > UNREAD) {
                    let _ = tokio::time::timeout(LINGER, discard(body, LINGER_BYTES)).await;
                }
                return rejection.response(client, head.version);
            }
        };
        // Taken before the body is read, for bodies are what fills the memory. There is no id to echo then. HTTP
        // 429 or 503 would say it better, but most clients answer those with a storm of repeats.
        let Some((_slot, place)) = self.enter(share) else {
            let busy = Refusal::new(Cause::Busy, "the gateway is busy; nothing was done, ask again later");
            return json(refuse_body(client, &Id::Null, &busy));
        };
        let body = match tokio::time::timeout(self.body_timeout, whole(body, self.max_body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(rejection)) => return rejection.response(client, head.version),
            Err(_elapsed) => return Rejection::TooSlow.response(client, head.version),
        };
        let asking =
            Asking { client, key: key.as_ref(), outbox: None, place: &place, may_ask: &life.may_ask };
        answer(route.calls.answer(asking, &body).await, place)
    }

    /// A call's place among those of all clients and of its own, if there is one.
    pub fn enter(&self, share: &Arc<Share>) -> Option<(Slot<'_>, Place)> {
        let (permit, place) = (self.in_flight.try_acquire().ok()?, share.enter()?);
        self.in_flight_count.increment(1);
        Some((Slot { _permit: permit, count: &self.in_flight_count }, place))
    }

    /// The rules of a WebSocket; whose calls come over it, and what is answered to its handshake.
    fn socket_rules(&self, client: &Client, head: &Parts) -> Result<(usize, HeaderValue), Rejection> {
        self.door(client, head)?;
        if head.method != Method::GET {
            return Err(Rejection::Method);
        }
        Ok((self.place_of(head).ok_or(Rejection::Path)?, socket::accept_key(&head.headers)?))
    }

    /// The rules of whatever a connection brings.
    fn door(&self, client: &Client, head: &Parts) -> Result<(), Rejection> {
        // Where a body ends must not be open to opinion: hyper drops a Content-Length beside Transfer-Encoding
        // before we see it, and what one side takes for a body is the next request to the other.
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(Rejection::TransferEncoding);
        }
        // A page whose own name is rebound to our address still sends its own name.
        if !self.is_for_us(head) {
            return Err(Rejection::Host);
        }
        // Only browsers send Origin, and they attach the user's certificate for any page that asks.
        if !head.headers.get_all(header::ORIGIN).iter().all(|origin| is_welcome(client, origin)) {
            return Err(Rejection::Origin);
        }
        Ok(())
    }

    /// The rules of a call, in the order in which they are asked; and which chain it is for.
    fn rules(&self, client: &Client, head: &Parts) -> Result<&Route<S>, Rejection> {
        self.door(client, head)?;
        if head.method != Method::POST {
            return Err(Rejection::Method);
        }
        let route = self.place_of(head).and_then(|place| self.routes.get(place)).ok_or(Rejection::Path)?;
        // What a page can send without being asked first (forms, beacons, `no-cors`) is never of this type.
        if !is_json(&head.headers) {
            return Err(Rejection::ContentType);
        }
        match only(&head.headers, &header::CONTENT_ENCODING) {
            Ok(None) => {}
            Ok(Some(coding)) if coding.eq_ignore_ascii_case("identity") => {}
            _ => return Err(Rejection::ContentEncoding),
        }
        // Said before the body is sent; a body that only turns out too large is noticed while it is read.
        if declared_length(&head.headers).is_some_and(|length| length > self.max_body) {
            return Err(Rejection::TooLarge);
        }
        Ok(route)
    }

    /// The chain that the path names, letter by letter and without a query.
    fn place_of(&self, head: &Parts) -> Option<usize> {
        let name = head.uri.path_and_query()?.as_str().strip_prefix('/')?;
        if name.is_empty() {
            return Some(0);
        }
        self.routes.iter().position(|route| route.names.iter().any(|known| known == name))
    }

    /// One name and no other, and it is ours. HTTP/2 may say it as `:authority`, as `Host`, or as both alike.
    fn is_for_us(&self, head: &Parts) -> bool {
        let Ok(host) = only(&head.headers, &header::HOST) else {
            return false;
        };
        let authority = head.uri.authority().map(Authority::as_str);
        let name = match (host, authority) {
            (Some(host), None) => host,
            (None, Some(authority)) if head.version == Version::HTTP_2 => authority,
            (Some(host), Some(authority)) if head.version == Version::HTTP_2 && host == authority => host,
            // Also the absolute form of HTTP/1.1, which names a host in the request line.
            _ => return false,
        };
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(without_port(name)))
    }

    fn share_of(&self, client: &Client) -> Arc<Share> {
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let max_calls = self.max_in_flight_per_client;
            let room = Room::new(MAX_OF_A_CLIENT, Some(Arc::clone(&self.room))).awaiting(max_calls);
            Arc::new(Share::new(max_calls, Arc::new(room)))
        };
        per_client.entry(client.name.clone()).or_insert_with(new).clone()
    }
}

/// The body, if it is not larger than `max`. One that came in one piece is not copied.
async fn whole<B>(body: B, max: usize) -> Result<Bytes, Rejection>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut whole = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::Broken)?.into_data() else {
            continue;
        };
        let length = whole.len().max(gathered.len());
        if data.len() > max.saturating_sub(length) {
            return Err(Rejection::TooLarge);
        }
        if length == 0 {
            whole = data;
            continue;
        }
        if gathered.is_empty() {
            gathered.extend_from_slice(&whole);
        }
        gathered.extend_from_slice(&data);
    }
    Ok(if gathered.is_empty() { whole } else { gathered.freeze() })
}

async fn discard<B>(body: B, max: usize)
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut left = max;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// HTTP 200 with JSON, or 204 where nothing is to be answered.
fn answer(answer: Option<Text>, place: Place) -> Response<Body> {
    match answer {
        Some(answer) => json(place.body(answer)),
        None => plain(StatusCode::NO_CONTENT, Body::default()),
    }
}

/// No CORS header, whoever asks.
fn json(json: impl Into<Body>) -> Response<Body> {
    let mut response = plain(StatusCode::OK, json);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// One of the requests that may be answered at once, until it is dropped, also when the client hangs up.
pub(super) struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    count: &'a metrics::Gauge,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.count.decrement(1);
    }
}

impl<S> Clone for Rpc<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> std::fmt::Debug for Rpc<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpc").field("hosts", &self.0.hosts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::{Frame, Incoming};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto;
    use jsonrpsee::core::middleware::{Batch, Notification, Request as Call};
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Piece;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":[]}"#;

    /// Answers `wait` when it is told to, and everything else at once.
    #[derive(Clone, Default)]
    struct Answering {
        began: Arc<Notify>,
        go_on: Arc<Notify>,
    }

    impl RpcServiceT for Answering {
        type MethodResponse = Reply;
        type NotificationResponse = ();
        type BatchResponse = Vec<Reply>;

        fn call<'a>(&self, request: Call<'a>) -> impl Future<Output = Reply> + Send + 'a {
            let this = self.clone();
            async move {
                if request.method == "wait" {
                    this.began.notify_one();
                    this.go_on.notified().await;
                }
                if request.method == "much" {
                    return Reply::result(&request.id, &"x".repeat(1 << 20));
                }
                Reply::result(&request.id, "done")
            }
        }

        fn batch<'a>(&self, _: Batch<'a>) -> impl Future<Output = Vec<Reply>> + Send + 'a {
            std::future::ready(Vec::new())
        }

        fn notification<'a>(&self, _: Notification<'a>) -> impl Future<Output = ()> + Send + 'a {
            std::future::ready(())
        }
    }

    fn client(name: &str, origins: &[&str]) -> Arc<Client> {
        Arc::new(Client {
            name: name.to_owned(),
            identity: format!("{name}.example"),
            issuer: crate::config::OWN_ISSUER.to_owned(),
            role: None,
            person: None,
            accounts: Vec::new(),
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            repeat_window: None,
        })
    }

    /// Of a connection that nobody ends.
    fn life() -> Life {
        let (closing, cut) = Default::default();
        Life {
            sockets: tokio_util::task::TaskTracker::new(),
            closing,
            cut,
            may_ask: Arc::new(|| true),
            line: crate::turns::Line::FREE,
        }
    }

    fn rpc(limits: &Limits) -> Rpc<Answering> {
        let hosts = vec!["gateway.example:8545".to_owned(), "gateway.example:443".to_owned()];
        let chains = ["mainnet", "10"].map(|name| (vec![name.to_owned()], Answering::default()));
        Rpc::new(chains.into(), limits, hosts, |_| false)
    }

    /// A request that is answered, to be spoilt in one place.
    fn good() -> http::request::Builder {
        Request::post("/").header("host", "gateway.example:8545").header("content-type", "application/json")
    }

    async fn ask(rpc: &Rpc<Answering>, client: Arc<Client>, request: Request<Full<Bytes>>) -> Response<Body> {
        let Ok(response) = rpc.connection(client, life()).call(request).await;
        response
    }

    async fn status(request: http::request::Builder, origins: &[&str]) -> u16 {
        let request = request.body(Full::from(CALL)).unwrap();
        let response = ask(&rpc(&Limits::default()), client("trader", origins), request).await;
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
        assert!(!response.headers().contains_key("retry-after"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        response.status().as_u16()
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    async fn read(response: Response<Body>) -> Value {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_str(&text(response).await).unwrap()
    }

    /// What a real connection answers to these bytes, until it closes.
    async fn raw(limits: &Limits, bytes: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let service = rpc(limits).connection(client("trader", &[]), life());
        let server = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(far), service);
        let server = tokio::spawn(server);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        let _ = server.await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn post(headers: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\n{headers}Content-Type: application/json\r\n\r\n{body}")
    }

    fn sized(host: &str, body: &str) -> String {
        post(&format!("{host}Content-Length: {}\r\n", body.len()), body)
    }

    const HOST: &str = "Host: gateway.example:8545\r\n";

    #[tokio::test]
    async fn a_good_request_is_answered_and_the_connection_goes_on() {
        let one = sized(HOST, CALL);
        let answer = raw(&Limits::default(), format!("{one}{one}").as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(answer.matches(r#"{"jsonrpc":"2.0","id":1,"result":"done"}"#).count(), 2, "{answer}");
    }

    #[tokio::test]
    async fn the_host_is_ours_and_there_is_one() {
        for host in ["gateway.example:8545", "GATEWAY.example:8545", "gateway.example", "gateway.example:443"]
        {
            let answer = raw(&Limits::default(), sized(&format!("Host: {host}\r\n"), CALL).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        }
        let bad = [
            String::new(),
            "Host:\r\n".to_owned(),
            "Host: evil.example\r\n".to_owned(),
            "Host: gateway.example:8546\r\n".to_owned(),
            "Host: gateway.example:8545.evil.example\r\n".to_owned(),
            "Host: evil@gateway.example:8545\r\n".to_owned(),
            "Host: gateway.example:8545, evil.example\r\n".to_owned(),
            format!("{HOST}{HOST}"),
            format!("{HOST}Host: evil.example\r\n"),
        ];
        for host in bad {
            let answer = raw(&Limits::default(), sized(&host, CALL).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
        }
    }

    #[tokio::test]
    async fn the_request_line_of_http_1_names_no_host() {
        for target in ["https://gateway.example:8545/", "http://evil.example/"] {
            for host in [HOST, ""] {
                let request = sized(host, CALL).replacen("POST / ", &format!("POST {target} "), 1);
                let answer = raw(&Limits::default(), request.as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 421"), "{target}: {answer}");
            }
        }
    }

    #[tokio::test]
    async fn http_2_names_the_host_as_its_authority() {
        let over_2 = |uri: &str| {
            Request::post(uri).version(Version::HTTP_2).header("content-type", "application/json")
        };
        let ours = "https://gateway.example:8545/";
        assert_eq!(status(over_2(ours), &[]).await, 200);
        assert_eq!(status(over_2(ours).header("host", "gateway.example:8545"), &[]).await, 200);
        assert_eq!(status(over_2("/").header("host", "gateway.example:8545"), &[]).await, 200);
        assert_eq!(status(over_2("/"), &[]).await, 421);
        assert_eq!(status(over_2("https://evil.example/"), &[]).await, 421);
        assert_eq!(
            status(over_2("https://evil.example/").header("host", "gateway.example:8545"), &[]).await,
            421
        );
        assert_eq!(
            status(over_2(ours).header("host", "gateway.example"), &[]).await,
            421,
            "ours, but two names"
        );
        assert_eq!(status(over_2("https://x@gateway.example:8545/"), &[]).await, 421);
    }

    /// What the listener asks of a service.
    fn for_the_listener<S>(service: S) -> S
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        service
    }

    #[tokio::test]
    async fn many_requests_share_one_http_2_connection() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let limits = Limits { max_body: 100, ..Limits::default() };
        let service = for_the_listener(rpc(&limits).connection(client("trader", &[]), life()));
        tokio::spawn(async move {
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service).await;
        });
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let ask = |uri: &'static str, body: String| {
            let mut sender = sender.clone();
            let request = Request::post(uri).header("content-type", "application/json");
            async move {
                let response =
                    sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
                let status = response.status().as_u16();
                (status, response.into_body().collect().await.unwrap().to_bytes())
            }
        };
        let ours = "https://gateway.example:8545/";
        let (good, foreign, large) = tokio::join!(
            ask(ours, CALL.to_owned()),
            ask("https://evil.example/", CALL.to_owned()),
            ask(ours, " ".repeat(101)),
        );
        assert_eq!((good.0, foreign.0, large.0), (200, 421, 413));
        assert_eq!(good.1, r#"{"jsonrpc":"2.0","id":1,"result":"done"}"#);
        assert_eq!(ask(ours, CALL.to_owned()).await.0, 200, "the connection outlives what was refused on it");
    }

    #[tokio::test]
    async fn a_transfer_encoding_is_refused_and_nothing_after_it_is_a_request() {
        let second = sized(HOST, CALL);
        let length = CALL.len();
        for headers in [
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "transfer-encoding: CHUNKED\r\n".to_owned(),
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
            "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        ] {
            for host in [HOST, "Host: evil.example\r\n", ""] {
                let body = format!("{length:x}\r\n{CALL}\r\n0\r\n\r\n{second}");
                let answer =
                    raw(&Limits::default(), post(&format!("{host}{headers}"), &body).as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 411"), "{headers}: {answer}");
                assert!(answer.contains("connection: close"), "{headers}: {answer}");
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
            }
        }
    }

    #[tokio::test]
    async fn only_a_post_to_the_root_is_taken() {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"] {
            let request = good().method(method).body(Full::from(CALL)).unwrap();
            let response = ask(&rpc(&Limits::default()), client("trader", &[]), request).await;
            assert_eq!(response.status(), 405, "{method}");
            assert_eq!(response.headers()["allow"], "POST");
        }
        for path in ["/mainnet", "/10"] {
            assert_eq!(status(good().uri(path), &[]).await, 200, "{path}");
        }
        for path in
            ["/x", "//", "/?a=b", "/?", "/1", "/%2f", "/Mainnet", "/mainnet/", "/mainnet?", "/010", "//10"]
        {
            assert_eq!(status(good().uri(path), &[]).await, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_web_page_is_refused_unless_its_origin_is_listed() {
        let from = |origin: &str| good().header("origin", origin);
        let extension = "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn";
        let listed = &[extension, "moz-extension://*"][..];
        assert_eq!(status(from(extension), listed).await, 200);
        assert_eq!(status(from("moz-extension://0b8fa1f0-3e8c-4b0e-9c4b-7f6a5d4c3b2a"), listed).await, 200);
        assert_eq!(status(from(extension).header("origin", "https://evil.example"), listed).await, 403);
        for origin in [
            "https://evil.example",
            "null",
            "",
            "*",
            "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn/",
            "chrome-extension://NKBIHFBEOGAEAOEHLEFNKODBEFGPGKNN",
            "https://gateway.example:8545",
            "https://moz-extension://x",
        ] {
            assert_eq!(status(from(origin), listed).await, 403, "{origin}");
            assert_eq!(status(from(origin), &[]).await, 403, "{origin}");
        }
        assert_eq!(status(from(extension), &["chrome-extension://*"]).await, 403, "no other pattern");
    }

    #[tokio::test]
    async fn the_content_type_is_json_in_utf_8() {
        let typed = |kind: &str| {
            Request::post("/").header("host", "gateway.example:8545").header("content-type", kind)
        };
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "application/json; charset=\"utf-8\"",
        ] {
            assert_eq!(status(typed(kind), &[]).await, 200, "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "text/plain; application/json",
            "text/plain, application/json",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "application/jsonp",
            "application/json; charset=utf-7",
            "application/json; charset=utf-16",
            "application/json; boundary=x",
            "application/json;",
        ] {
            assert_eq!(status(typed(kind), &[]).await, 415, "{kind}");
        }
        assert_eq!(status(good().header("content-type", "text/plain"), &[]).await, 415, "two of them");
        assert_eq!(status(Request::post("/").header("host", "gateway.example"), &[]).await, 415, "none");
    }

    #[tokio::test]
    async fn a_key_is_one_word_of_visible_ascii_and_there_is_one() {
        let named = |key: &str| good().header("idempotency-key", key);
        let longest = "k".repeat(128);
        for key in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", &longest] {
            assert_eq!(status(named(key), &[]).await, 200, "{key}");
        }
        for key in ["", "a b", "\u{e9}", &format!("{longest}k")] {
            assert_eq!(status(named(key), &[]).await, 400, "{key}");
        }
        assert_eq!(status(named("a").header("idempotency-key", "a"), &[]).await, 400, "two of them");
    }

    /// A socket of the trader's with this share, as its client has it.
    async fn socket(limits: &Limits, share: &Arc<Share>) -> WebSocketStream<tokio::io::DuplexStream> {
        narrow_socket(1 << 16, limits, share).await
    }

    /// One on whose way there is room for so many bytes.
    async fn narrow_socket(
        room: usize,
        limits: &Limits,
        share: &Arc<Share>,
    ) -> WebSocketStream<tokio::io::DuplexStream> {
        let (near, far) = tokio::io::duplex(room);
        let (inner, client, share) = (rpc(limits).0, client("trader", &[]), Arc::clone(share));
        let socket = Socket { inner, route: 0, client, share, life: life() };
        tokio::spawn(async move { socket.run(far).await });
        WebSocketStream::from_raw_socket(near, Role::Client, None).await
    }

    fn share_with(room: usize) -> Arc<Share> {
        Arc::new(Share::new(10, Arc::new(Room::new(room, None))))
    }

    /// The first part of a message whose rest does not come.
    fn fragment(bytes: usize) -> Message {
        Message::Frame(Piece::message(vec![b' '; bytes], OpCode::Data(Data::Text), false))
    }

    /// Why it is closed, while its client pings.
    async fn end_of(socket: &mut WebSocketStream<tokio::io::DuplexStream>) -> CloseCode {
        loop {
            let next = tokio::time::timeout(Duration::from_millis(50), socket.next()).await;
            match next {
                Err(_) => socket.send(Message::Ping(Bytes::from_static(b"still here"))).await.unwrap(),
                Ok(Some(Ok(Message::Close(Some(frame))))) => return frame.code,
                Ok(Some(Ok(_))) => {}
                Ok(end) => panic!("{end:?}"),
            }
        }
    }

    #[tokio::test]
    async fn inv_12_a_message_in_pieces_has_its_time_whatever_comes_between_them() {
        let limits = Limits { body_timeout: Duration::from_millis(300), ..Limits::default() };
        let mut socket = socket(&limits, &share_with(1 << 20)).await;
        // Pings alone are no message, and have all the time that there is.
        let idle = tokio::time::timeout(Duration::from_millis(600), end_of(&mut socket)).await;
        assert!(idle.is_err(), "{idle:?}");
        socket.send(Message::text(CALL)).await.unwrap();
        while !matches!(socket.next().await, Some(Ok(Message::Text(_)))) {}
        socket.send(fragment(10)).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(3), end_of(&mut socket)).await;
        assert_eq!(end.expect("it is closed"), CloseCode::Policy);
    }

    #[tokio::test]
    async fn inv_12_messages_in_pieces_take_the_room_of_their_client() {
        let (limits, share) = (Limits::default(), share_with(600_000));
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let mut socket = socket(&limits, &share).await;
            socket.send(fragment(250_000)).await.unwrap();
            sockets.push(socket);
        }
        let mut last = sockets.pop().unwrap();
        let end = tokio::time::timeout(Duration::from_secs(3), end_of(&mut last)).await;
        assert_eq!(end.expect("it is closed"), CloseCode::Again);
        drop((last, sockets));
        let mut socket = socket(&limits, &share).await;
        let rest = Piece::message(vec![b' '; 250_000], OpCode::Data(Data::Continue), true);
        socket.send(fragment(250_000)).await.unwrap();
        socket.send(Message::Frame(rest)).await.unwrap();
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("an answer") };
        assert!(answer.contains("-32700"), "{answer}");
        socket.send(Message::Ping(Bytes::new())).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Pong(_)))));
        assert_eq!(share.enter().unwrap().room().used(), 0, "what is whole is not counted here");
    }

    #[tokio::test]
    async fn inv_12_an_answer_on_a_socket_goes_in_pieces_and_is_under_way_until_it_is_read() {
        let share = Arc::new(Share::new(1, Arc::new(Room::new(1 << 30, None))));
        let mut whole = socket(&Limits::default(), &share).await;
        whole.send(Message::text(CALL.replace("echo", "much"))).await.unwrap();
        let (mut near, mut head) = (whole.into_inner(), [0; 4]);
        near.read_exact(&mut head).await.unwrap();
        assert_eq!(head, [0x01, 126, 0xff, 0xfc], "a text that goes on, 64 KiB with its head");
        assert!(share.enter().is_none(), "most of it is not read");
        let mut socket = WebSocketStream::from_partially_read(near, head.to_vec(), Role::Client, None).await;
        socket.send(Message::Ping(Bytes::new())).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Pong(_)))), "between two pieces");
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("an answer") };
        assert!(answer.len() > 1 << 20);
        assert!(share.enter().is_some());
    }

    /// What is handed over and has not left is copied, and takes its place all the same.
    #[tokio::test]
    async fn inv_12_an_answer_on_a_socket_is_under_way_until_its_last_byte_has_left() {
        let share = Arc::new(Share::new(1, Arc::new(Room::new(1 << 20, None))));
        let mut socket = narrow_socket(16, &Limits::default(), &share).await;
        socket.send(Message::text(CALL)).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(share.enter().is_none(), "it is longer than what is on its way");
        assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))));
        let is_free = async {
            while share.enter().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), is_free).await.unwrap();
    }

    #[tokio::test]
    async fn inv_12_who_pings_and_does_not_read_is_not_answered_each_time() {
        let mut socket = socket(&Limits::default(), &share_with(1 << 20)).await;
        for _ in 0..4000 {
            socket.send(Message::Ping(Bytes::from_static(&[0; 125]))).await.unwrap();
        }
        socket.send(Message::text(CALL)).await.unwrap();
        let mut pongs = 0;
        while !matches!(socket.next().await, Some(Ok(Message::Text(_)))) {
            pongs += 1;
        }
        assert!(pongs < 3000, "{pongs}");
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused() {
        assert_eq!(status(good().header("content-encoding", "identity"), &[]).await, 200);
        for coding in ["gzip", "br", "identity, gzip", ""] {
            assert_eq!(status(good().header("content-encoding", coding), &[]).await, 415, "{coding}");
        }
    }

    #[tokio::test]
    async fn inv_12_a_body_that_says_it_is_too_large_is_not_kept() {
        let limits = Limits { max_body: 100, ..Limits::default() };
        let answer = raw(&limits, post(&format!("{HOST}Content-Length: 101\r\n"), "{}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        let full = format!("{CALL}{}", " ".repeat(100 - CALL.len()));
        let answer = raw(&limits, sized(HOST, &full).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// What a client reads that writes all before it reads.
    async fn after_writing(request: String) -> String {
        // Over a real socket: closed with bytes unread it would be reset, and the client's writing would fail.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let service = rpc(&Limits::default()).connection(client("trader", &[]), life());
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        };
        let sending = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.expect("it is taken, and thrown away");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(server, sending).1
    }

    #[tokio::test]
    async fn who_sends_much_that_is_refused_gets_to_read_why() {
        let much = " ".repeat(10 << 20);
        for (request, status) in [
            (sized(HOST, &much), "413"),
            (sized("Host: evil.example\r\n", &much), "421"),
            (sized(&format!("{HOST}Origin: https://evil.example\r\n"), &much), "403"),
        ] {
            let answer = after_writing(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    #[tokio::test]
    async fn who_asks_before_sending_too_much_is_not_told_to_go_on() {
        let headers = format!("{HOST}Expect: 100-continue\r\nContent-Length: 10000000\r\n");
        let answer = raw(&Limits::default(), post(&headers, "").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        let headers = format!("{HOST}Expect: 100-continue\r\nContent-Length: {}\r\n", CALL.len());
        let answer = raw(&Limits::default(), post(&headers, CALL).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn inv_12_a_body_that_turns_out_too_large_is_dropped() {
        let limits = Limits { max_body: 100, ..Limits::default() };
        for sizes in [&[101][..], &[100, 1], &[1; 101], &[60, 0, 60]] {
            let frames = sizes.iter().map(|&size| Ok::<_, Infallible>(Frame::data(vec![b' '; size].into())));
            let body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
            let Ok(response) =
                rpc(&limits).connection(client("trader", &[]), life()).call(good().body(body).unwrap()).await;
            assert_eq!(response.status(), 413, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_read_whole() {
        for size in [1, 7, 1000] {
            let frames: Vec<_> = CALL
                .as_bytes()
                .chunks(size)
                .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
                .collect();
            let request = good().body(StreamBody::new(stream::iter(frames))).unwrap();
            let Ok(response) =
                rpc(&Limits::default()).connection(client("trader", &[]), life()).call(request).await;
            assert_eq!(read(response).await["result"], "done");
        }
    }

    #[tokio::test]
    async fn inv_12_a_body_that_does_not_come_is_not_waited_for() {
        let limits = Limits { body_timeout: Duration::from_millis(20), ..Limits::default() };
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let Ok(response) =
            rpc(&limits).connection(client("trader", &[]), life()).call(good().body(body).unwrap()).await;
        assert_eq!(response.status(), 408);
        assert_eq!(response.headers()["connection"], "close");
    }

    #[tokio::test]
    async fn inv_12_past_the_bounds_in_flight_there_is_a_clear_error_at_once() {
        let limits = Limits { max_in_flight: 2, max_in_flight_per_client: 1, ..Limits::default() };
        let rpc = rpc(&limits);
        let wait = || good().body(Full::from(CALL.replace("echo", "wait"))).unwrap();
        let call = || good().body(Full::from(CALL)).unwrap();
        let service = rpc.0.routes[0].calls.service.clone();
        let spawn = |name: &'static str| {
            let rpc = rpc.clone();
            tokio::spawn(async move { ask(&rpc, client(name, &[]), wait()).await })
        };

        let first = spawn("one");
        service.began.notified().await;
        let refused = read(ask(&rpc, client("one", &[]), call()).await).await;
        assert_eq!((&refused["error"]["data"]["code"], &refused["id"]), (&"busy".into(), &Value::Null));
        assert_eq!(read(ask(&rpc, client("two", &[]), call()).await).await["result"], "done");

        let second = spawn("two");
        service.began.notified().await;
        let refused = read(ask(&rpc, client("three", &[]), call()).await).await;
        assert_eq!(refused["error"]["code"], -32603);

        service.go_on.notify_one();
        service.go_on.notify_one();
        first.abort();
        let _ = first.await;
        service.go_on.notify_one();
        assert_eq!(read(second.await.unwrap()).await["result"], "done");
        assert_eq!(read(ask(&rpc, client("one", &[]), call()).await).await["result"], "done");
    }

    #[tokio::test]
    async fn inv_12_an_answer_that_is_not_read_is_still_in_flight() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let limits = Limits { max_in_flight_per_client: 1, ..Limits::default() };
        let service = for_the_listener(rpc(&limits).connection(client("trader", &[]), life()));
        tokio::spawn(async move {
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service).await;
        });
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 16)
            .handshake(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut ask = async |method: &str| {
            let request = Request::post("https://gateway.example:8545/")
                .header("content-type", "application/json")
                .body(Full::<Bytes>::from(CALL.replace("echo", method)))
                .unwrap();
            sender.send_request(request).await.unwrap().into_body()
        };
        let busy = async |body: Incoming| {
            let body = body.collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&body).unwrap()["error"]["data"]["code"] == "busy"
        };
        let much = ask("much").await;
        assert!(busy(ask("echo").await).await, "a stream's window is far smaller than the answer");
        assert!(!busy(much).await, "it is still whole");
        // The last window's bytes leave the server when its client has asked for them.
        let free = async { while busy(ask("echo").await).await {} };
        tokio::time::timeout(Duration::from_secs(5), free).await.unwrap();
    }

    #[tokio::test]
    async fn a_notification_gets_no_body() {
        let note = r#"{"jsonrpc":"2.0","method":"echo"}"#;
        let request = good().body(Full::from(note)).unwrap();
        let response = ask(&rpc(&Limits::default()), client("trader", &[]), request).await;
        assert_eq!(response.status(), 204);
        assert_eq!(text(response).await, "");
    }

    #[tokio::test]
    async fn what_is_no_json_rpc_is_answered_with_200_and_an_error() {
        for (body, code) in [("", -32700), ("{", -32700), ("[]", -32600), ("{}", -32600), ("[1]", -32600)] {
            let request = good().body(Full::from(body)).unwrap();
            let answer = read(ask(&rpc(&Limits::default()), client("trader", &[]), request).await).await;
            let error = answer.get(0).unwrap_or(&answer);
            assert_eq!(error["error"]["code"], code, "{body}");
        }
    }
}
