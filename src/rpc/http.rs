//! How a request must look before its body is read: one function of rules, then the bounds, then the body.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode, Version};
use jsonrpsee::MethodResponse;
use jsonrpsee::core::middleware::RpcServiceT;
use jsonrpsee::types::Id;
use tokio::sync::Semaphore;

use crate::config::{Client, Limits};
use crate::methods::{Cause, Refusal};
use crate::rpc::calls::{Calls, refuse};
use crate::rpc::envelope::Bounds;
use crate::rpc::rejection::{Rejection, plain};

/// JSON-RPC over HTTP in front of a service. Cheap to clone.
pub struct Rpc<S>(Arc<Inner<S>>);

struct Inner<S> {
    calls: Calls<S>,
    /// Without the port 443.
    hosts: Vec<String>,
    max_body: usize,
    body_timeout: Duration,
    in_flight: Arc<Semaphore>,
    max_in_flight_per_client: usize,
    /// By the client's name: all its connections share one. Clients come from the configuration, so it is small.
    per_client: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl<S> Rpc<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Send + Sync + 'static,
{
    /// `hosts`: the names that are ours, with port where it is not 443. `is_ordered`: whether calls of a method
    /// keep their order within a batch.
    pub fn new(service: S, limits: &Limits, hosts: Vec<String>, is_ordered: fn(&str) -> bool) -> Self {
        let bounds = Bounds { max_batch: limits.max_batch, max_depth: limits.max_depth };
        Self(Arc::new(Inner {
            calls: Calls { service, bounds, is_ordered },
            hosts: hosts.into_iter().map(|host| without_port(&host).to_owned()).collect(),
            max_body: limits.max_body,
            body_timeout: limits.body_timeout,
            in_flight: Arc::new(Semaphore::new(limits.max_in_flight)),
            max_in_flight_per_client: limits.max_in_flight_per_client,
            per_client: Mutex::default(),
        }))
    }

    /// The service of one connection of `client`.
    pub fn connection<B>(
        &self,
        client: Arc<Client>,
    ) -> impl Service<
        Request<B>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
    > + Clone
    + use<S, B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let inner = self.0.clone();
        let slots = inner.slots_of(&client);
        service_fn(move |request: Request<B>| {
            let (inner, client, slots) = (inner.clone(), client.clone(), slots.clone());
            async move { Ok(inner.respond(&client, &slots, request).await) }
        })
    }
}

impl<S> Inner<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Send + Sync + 'static,
{
    async fn respond<B>(
        &self,
        client: &Arc<Client>,
        slots: &Semaphore,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: HttpBody<Data = Bytes> + Send,
    {
        let (head, body) = request.into_parts();
        if let Err(rejection) = self.rules(client, &head) {
            return rejection.response(client, head.version);
        }
        // Taken before the body is read, for bodies are what fills the memory. There is no id to echo then. HTTP
        // 429 or 503 would say it better, but most clients answer those with a storm of repeats.
        let (Ok(_slot), Ok(_slot_of_client)) = (self.in_flight.try_acquire(), slots.try_acquire()) else {
            let busy = Refusal::new(Cause::Busy, "the gateway is busy; nothing was done, ask again later");
            return answer(head.version, Some(refuse(client, Id::Null, &busy).into()));
        };
        let _in_flight = InFlight::enter();
        let body = match tokio::time::timeout(self.body_timeout, whole(body, self.max_body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(rejection)) => return rejection.response(client, head.version),
            Err(_elapsed) => return Rejection::TooSlow.response(client, head.version),
        };
        answer(head.version, self.calls.answer(client, &body).await)
    }

    /// The rules, in the order in which they are asked.
    fn rules(&self, client: &Client, head: &Parts) -> Result<(), Rejection> {
        // Where a body ends must not be open to opinion: hyper drops a Content-Length beside Transfer-Encoding
        // before we see it, and what one side takes for a body is the next request to the other.
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(Rejection::TransferEncoding);
        }
        // A page whose own name is rebound to our address still sends its own name.
        if !self.is_for_us(head) {
            return Err(Rejection::Host);
        }
        if head.method != Method::POST {
            return Err(Rejection::Method);
        }
        if head.uri.path_and_query().is_none_or(|path| path != "/") {
            return Err(Rejection::Path);
        }
        // Only browsers send Origin, and they attach the user's certificate for any page that asks.
        if !head.headers.get_all(header::ORIGIN).iter().all(|origin| is_welcome(client, origin)) {
            return Err(Rejection::Origin);
        }
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
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if length.is_some_and(|length| length.parse().map_or(true, |length: usize| length > self.max_body)) {
            return Err(Rejection::TooLarge);
        }
        Ok(())
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

    fn slots_of(&self, client: &Client) -> Arc<Semaphore> {
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(self.max_in_flight_per_client));
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

/// A header stands there twice, or is not ASCII.
struct Unclear;

/// The only value of a header, if it is there.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Unclear> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Unclear);
    }
    first.map(|value| value.to_str().map_err(|_| Unclear)).transpose()
}

fn without_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

fn is_welcome(client: &Client, origin: &HeaderValue) -> bool {
    // Firefox gives an extension another name in each installation.
    let is_extension = origin.as_bytes().starts_with(b"moz-extension://");
    client.origins.iter().any(|listed| {
        listed.as_bytes() == origin.as_bytes() || (listed == "moz-extension://*" && is_extension)
    })
}

/// `application/json`, with no parameter but a charset of UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(value)) = only(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

/// HTTP 200 with JSON, or 204 where nothing is to be answered. No CORS header, whoever asks.
fn answer(version: Version, json: Option<Box<str>>) -> Response<Full<Bytes>> {
    let Some(json) = json else {
        return plain(version, StatusCode::NO_CONTENT, Bytes::new());
    };
    let json = Bytes::from(json.into_string());
    let mut response = plain(version, StatusCode::OK, json);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Counted in `chancery_rpc_in_flight` from its making to its drop, also when the client hangs up.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        metrics::gauge!("chancery_rpc_in_flight").increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("chancery_rpc_in_flight").decrement(1);
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
