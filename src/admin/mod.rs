//! Who watches: the second mutual-TLS listener, with health that tells the truth, metrics, and the API of operators.

mod api;
mod audit;
mod health;
mod keys;
mod pauses;
mod transactions;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde_json::json;

use crate::admin::api::{NOBODY, Trouble, json_answer};
use crate::body::Body;
use crate::config::Operator;
use crate::identity::Person;
use crate::metrics::Exposition;

pub use api::Api;
pub use health::{Check, Health};

/// The admin endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Vec<String>,
    health: Health,
    metrics: Exposition,
    api: Api,
}

/// One operator's connection.
#[derive(Clone, Debug)]
pub struct Desk {
    admin: Admin,
    operator: Option<Arc<Operator>>,
}

type Answer = Response<Body>;

impl Admin {
    pub fn new(hosts: Vec<String>, health: Health, metrics: Exposition, api: Api) -> Self {
        Self(Arc::new(Inner { hosts, health, metrics, api }))
    }

    /// The service for one connection; a client's certificate gets 403 to everything.
    pub fn connection(&self, person: &Person) -> Desk {
        let operator = match person {
            Person::Operator(operator) => Some(Arc::clone(operator)),
            Person::Client(_) => None,
        };
        Desk { admin: self.clone(), operator }
    }

    async fn answer<B>(self, operator: Option<Arc<Operator>>, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: Into<Trouble>> + Send + 'static,
    {
        let is_api = request.uri().path().starts_with("/v1/");
        let Some(operator) = operator else {
            return if is_api {
                json_answer(StatusCode::FORBIDDEN, &json!({ "error": NOBODY, "hint": null }))
            } else {
                text(StatusCode::FORBIDDEN, format!("{NOBODY}\n"))
            };
        };
        // The same two rules as on the gateway: a browser carries the certificate wherever a page sends it.
        if !self.is_ours(&request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this host is not in [admin] hosts\n");
        }
        if request.headers().contains_key(ORIGIN) {
            return text(StatusCode::FORBIDDEN, "requests from web pages are refused\n");
        }
        if is_api {
            return self.0.api.answer(operator, request).await;
        }
        if request.method() != Method::GET {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => self.readyz().await,
            "/metrics" => text(StatusCode::OK, self.0.metrics.render()),
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /v1/…\n"),
        }
    }

    async fn readyz(&self) -> Answer {
        let (checks, remarks) = self.0.health.checks().await;
        let ready = checks.iter().all(|check| check.trouble.is_none());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // A pause is no trouble: the gateway does what it was told to. Whoever wonders sees it all the same.
        let held = self.0.api.ledger().pauses().await.unwrap_or_default();
        let paused = pauses::shown(&held, self.0.api.config());
        json_answer(
            status,
            &json!({
                "ready": ready, "checks": checks, "paused": paused, "remarks": remarks,
            }),
        )
    }

    /// Exactly one `Host`, or the HTTP/2 authority, and it is one of ours.
    fn is_ours<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next(), request.uri().authority()) {
            (Some(host), None, None) => host.to_str().ok(),
            (None, None, Some(authority)) => Some(authority.as_str()),
            (Some(host), None, Some(authority)) if host == authority.as_str() => Some(authority.as_str()),
            _ => None,
        };
        host.is_some_and(|host| self.0.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)))
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<Trouble>> + Send + 'static> hyper::service::Service<Request<B>>
    for Desk
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (admin, operator) = (self.admin.clone(), self.operator.clone());
        Box::pin(async move { Ok(admin.answer(operator, request).await) })
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
