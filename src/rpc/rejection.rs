//! The plain HTTP errors, for what does not speak JSON-RPC as it must.

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode, Version};

use crate::body::Body;
use crate::config::Client;

/// Why a request gets a plain HTTP error: it comes from a browser page, from a confused proxy, or from nobody
/// who speaks JSON-RPC. Those who do get HTTP 200 and an error object, for clients hide the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    TransferEncoding,
    Host,
    Method,
    Path,
    Origin,
    ContentType,
    ContentEncoding,
    IdempotencyKey,
    Upgrade,
    TooLarge,
    TooSlow,
    Broken,
}

impl Rejection {
    /// The answer, which ends an HTTP/1.1 connection.
    pub fn response(self, client: &Client, version: Version) -> Response<Body> {
        let (status, reason, sentence) = self.row();
        metrics::counter!("chancery_rpc_rejected_total", "reason" => reason).increment(1);
        tracing::info!(client = client.name, status = status.as_u16(), reason, "rejected");
        let mut response = plain(status, Bytes::from_static(sentence.as_bytes()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self == Self::Method {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        // What is left of the body must not be read as the next request, nor waited for. (In HTTP/2 a stream
        // ends by itself, and the header is forbidden.)
        if version < Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Status, name in the metrics, and the sentence in the body.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::TransferEncoding => (
                StatusCode::LENGTH_REQUIRED,
                "transfer_encoding",
                "Send the body with a Content-Length; Transfer-Encoding is not taken.\n",
            ),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "host",
                "Name the gateway in exactly one Host header, as in `gateway.hosts` of its configuration.\n",
            ),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "JSON-RPC calls are sent with POST, or over a WebSocket.\n",
            ),
            Self::Path => (
                StatusCode::NOT_FOUND,
                "path",
                "There is no chain at this path: JSON-RPC is at `/`, and at `/NAME` or `/ID` of each [[chain]].\n",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "origin",
                "Requests of web pages are refused; list this Origin in `origins` of the client to allow it.\n",
            ),
            Self::ContentType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", "Send Content-Type: application/json.\n")
            }
            Self::ContentEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", "Send the body uncompressed.\n")
            }
            Self::IdempotencyKey => (
                StatusCode::BAD_REQUEST,
                "idempotency_key",
                "Send one Idempotency-Key of 1 to 128 visible ASCII characters, or none; nothing was done.\n",
            ),
            Self::Upgrade => (
                StatusCode::BAD_REQUEST,
                "upgrade",
                "A WebSocket is opened by one Sec-WebSocket-Key and Sec-WebSocket-Version: 13 (RFC 6455).\n",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is larger than `limits.max_body`; nothing of it was done.\n",
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                "The body did not come within `limits.body_timeout`; nothing of it was done.\n",
            ),
            Self::Broken => {
                (StatusCode::BAD_REQUEST, "broken", "The body broke off; nothing of it was done.\n")
            }
        }
    }
}

/// An answer with the headers that every answer has.
pub fn plain(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
