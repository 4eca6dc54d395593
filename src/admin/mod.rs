//! Who watches: the second mutual-TLS listener, with health that tells the truth and metrics.

mod health;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::config::OperatorRole;
use crate::identity::Person;
use crate::metrics::Exposition;

pub use health::{Check, Health};

/// The admin endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Vec<String>,
    health: Health,
    metrics: Exposition,
}

/// One operator's connection.
#[derive(Clone, Debug)]
pub struct Desk {
    admin: Admin,
    role: Option<OperatorRole>,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    pub fn new(hosts: Vec<String>, health: Health, metrics: Exposition) -> Self {
        Self(Arc::new(Inner { hosts, health, metrics }))
    }

    /// The service for one connection; a client's certificate gets 403 to everything.
    pub fn connection(&self, person: &Person) -> Desk {
        let role = match person {
            Person::Operator(operator) => Some(operator.role),
            Person::Client(_) => None,
        };
        Desk { admin: self.clone(), role }
    }

    async fn answer<B>(self, role: Option<OperatorRole>, request: Request<B>) -> Answer {
        if role.is_none() {
            return text(StatusCode::FORBIDDEN, "this certificate is not an operator's; see [[operator]]\n");
        }
        // The same two rules as on the gateway: a browser carries the certificate wherever a page sends it.
        if !self.is_ours(&request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this host is not in [admin] hosts\n");
        }
        if request.headers().contains_key(ORIGIN) {
            return text(StatusCode::FORBIDDEN, "requests from web pages are refused\n");
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
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
        }
    }

    async fn readyz(&self) -> Answer {
        let checks = self.0.health.checks().await;
        let ready = checks.iter().all(|check| check.trouble.is_none());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut answer = text(status, json!({ "ready": ready, "checks": checks }).to_string());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
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

impl<B: Send + 'static> hyper::service::Service<Request<B>> for Desk {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (admin, role) = (self.admin.clone(), self.role);
        Box::pin(async move { Ok(admin.answer(role, request).await) })
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
