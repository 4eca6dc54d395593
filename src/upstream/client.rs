//! One HTTP client for the node: pooled, bounded in bytes and time, with ids of our own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::Chain;
use crate::upstream::{Answer, UpstreamError};

#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    max_answer: usize,
    next_id: AtomicU64,
}

/// A call as we write it: the client's own bytes are never sent on.
#[derive(Serialize)]
struct Call<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a RawValue,
}

impl Client {
    pub(super) fn new(chain: &Chain) -> Result<Self, UpstreamError> {
        let whole: Uri = chain
            .node
            .expose()
            .parse()
            .map_err(|_| UpstreamError::Unreachable(format!("{} is not a URL", chain.node)))?;
        let (uri, authorization) = without_credentials(&whole)
            .ok_or_else(|| UpstreamError::Unreachable(format!("{} is not a URL", chain.node)))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(chain.timeout));
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|e| {
                UpstreamError::Unreachable(format!("the system's CA certificates cannot be read: {e}"))
            })?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(Self {
            http,
            uri,
            authorization,
            timeout: chain.timeout,
            max_answer: chain.max_answer,
            next_id: AtomicU64::new(1),
        })
    }

    /// A call of our own.
    pub(super) async fn ask(
        &self,
        method: &str,
        params: Option<serde_json::Value>,
    ) -> Result<Answer, UpstreamError> {
        let params = params.unwrap_or_else(|| serde_json::Value::Array(Vec::new()));
        let params = serde_json::value::to_raw_value(&params).map_err(UpstreamError::garbage)?;
        self.call(method, Some(&params)).await
    }

    pub(super) async fn call(
        &self,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<Answer, UpstreamError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let none = RawValue::from_string("[]".to_owned()).map_err(UpstreamError::garbage)?;
        let call = Call { jsonrpc: "2.0", id, method, params: params.unwrap_or(&none) };
        let body = serde_json::to_vec(&call).map_err(UpstreamError::garbage)?;
        let answer = tokio::time::timeout(self.timeout, self.post(body)).await;
        let answer = answer.unwrap_or(Err(UpstreamError::Timeout)).and_then(|body| Answer::read(&body, id));
        if let Err(error) = &answer {
            metrics::counter!("chancery_node_errors_total", "kind" => error.label()).increment(1);
        }
        answer
    }

    async fn post(&self, body: Vec<u8>) -> Result<Bytes, UpstreamError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let response =
            self.http.request(request).await.map_err(|e| UpstreamError::Unreachable(root_of(&e)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.max_answer).collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() {
                UpstreamError::TooLarge(self.max_answer)
            } else {
                UpstreamError::Unreachable("the connection broke in the middle of an answer".to_owned())
            }
        })?;
        let body = body.to_bytes();
        // Some nodes send JSON-RPC errors with other statuses; a body that is JSON-RPC counts, a redirect or an
        // error page does not.
        if !status.is_success() && !body.trim_ascii_start().starts_with(b"{") {
            return Err(UpstreamError::Garbage(format!("HTTP status {}", status.as_u16())));
        }
        Ok(body)
    }
}

/// Takes `user:password@` out of a URL, for the header that stands for it.
fn without_credentials(whole: &Uri) -> Option<(Uri, Option<HeaderValue>)> {
    let authority = whole.authority()?.as_str();
    let Some((credentials, host)) = authority.rsplit_once('@') else { return Some((whole.clone(), None)) };
    let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    header.set_sensitive(true);
    let mut parts = whole.clone().into_parts();
    parts.authority = Some(host.parse().ok()?);
    Some((Uri::from_parts(parts).ok()?, Some(header)))
}

/// The innermost reason (connection refused, certificate unknown), which never names the URL.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_into_a_header_and_out_of_the_url() {
        let (uri, header) = without_credentials(&"http://ada:pa%20ss@node:8545/v3".parse().unwrap()).unwrap();
        assert_eq!(uri, "http://node:8545/v3");
        assert_eq!(header.unwrap(), "Basic YWRhOnBhJTIwc3M=");
    }
}
