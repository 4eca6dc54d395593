//! One HTTP client for the node: pooled, bounded in bytes and time, with ids of our own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::config::Chain;
use crate::secret::SecretUrl;
use crate::upstream::{Answer, UpstreamError};

/// Idle connections that are kept; more are opened when they are needed, and closed again.
const MAX_IDLE: usize = 256;

pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// May hold an API key: never shown.
    uri: Uri,
    shown: SecretUrl,
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
        let builder = HttpsConnectorBuilder::new();
        let builder = if uri.scheme() == Some(&Scheme::HTTPS) {
            builder.with_native_roots().map_err(|e| {
                UpstreamError::Unreachable(format!("the system's CA certificates cannot be read: {e}"))
            })?
        } else {
            // A node in the next room needs no CA, and a small image may have none.
            let trusts_nobody = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
            builder.with_tls_config(trusts_nobody.with_no_client_auth())
        };
        let https = builder.https_or_http().enable_http1().enable_http2().wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(Self {
            http,
            uri,
            shown: chain.node.clone(),
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
        let asked = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.post(body)).await;
        let answer =
            answer.unwrap_or(Err(UpstreamError::Timeout)).and_then(|(status, body)| read(status, &body, id));
        metrics::histogram!("chancery_node_seconds").record(asked.elapsed());
        if let Err(error) = &answer {
            metrics::counter!("chancery_node_errors_total", "kind" => error.label()).increment(1);
        }
        answer
    }

    async fn post(&self, body: Vec<u8>) -> Result<(StatusCode, Bytes), UpstreamError> {
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
        Ok((status, body.to_bytes()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("node", &self.shown).finish_non_exhaustive()
    }
}

/// Some nodes send JSON-RPC errors with a status of failure; a body that is JSON-RPC counts, an error page does
/// not, and a result comes with success only. A redirect is not followed, whatever is in it.
fn read(status: StatusCode, body: &[u8], id: u64) -> Result<Answer, UpstreamError> {
    if status.is_success() {
        return Answer::read(body, id);
    }
    match Answer::read(body, id) {
        Ok(Answer::Error(error)) if !status.is_redirection() => Ok(Answer::Error(error)),
        _ => Err(UpstreamError::Garbage(format!("HTTP status {}", status.as_u16()))),
    }
}

/// Takes `user:password@` out of a URL, for the header that stands for it.
fn without_credentials(whole: &Uri) -> Option<(Uri, Option<HeaderValue>)> {
    let authority = whole.authority()?.as_str();
    let Some((credentials, host)) = authority.rsplit_once('@') else { return Some((whole.clone(), None)) };
    // A URL writes an `@` in a password as %40; the header wants it as it is.
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let credentials =
        [user, password].map(|part| Zeroizing::new(percent_decode_str(part).collect::<Vec<u8>>()));
    let credentials = Zeroizing::new(credentials.each_ref().map(|part| part.as_slice()).join(&b':'));
    let header = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*credentials)));
    let mut header = HeaderValue::try_from(header.as_str()).ok()?;
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
        assert_eq!(header.unwrap(), format!("Basic {}", STANDARD.encode("ada:pa ss")).as_str());
        let (uri, header) = without_credentials(&"http://ada%3A:p%40%3a@node".parse().unwrap()).unwrap();
        assert_eq!((uri.host(), header.unwrap()), (Some("node"), "Basic YWRhOjpwQDo=".parse().unwrap()));
        let (_, header) = without_credentials(&"http://key@node/".parse().unwrap()).unwrap();
        assert_eq!(header.unwrap(), format!("Basic {}", STANDARD.encode("key:")).as_str());
        assert_eq!(without_credentials(&"http://node/".parse().unwrap()).unwrap().1, None);
    }
}
