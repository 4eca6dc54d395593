//! A connection's service, which asks the pass before each request.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::service::Service;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::listener::pass::{Lapsed, Pass};
use crate::listener::wire::Talk;

#[derive(Debug)]
pub(in crate::listener) struct Guarded<S> {
    pass: Pass,
    inner: S,
    talk: Talk,
    /// Set by the first request.
    asked: CancellationToken,
    has_asked: AtomicBool,
}

impl<S> Guarded<S> {
    pub const fn new(inner: S, pass: Pass, talk: Talk, asked: CancellationToken) -> Self {
        Self { pass, inner, talk, asked, has_asked: AtomicBool::new(false) }
    }

    pub fn call<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<S, B>
    where
        S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    {
        if !self.has_asked.swap(true, Ordering::Relaxed) {
            self.asked.cancel();
        }
        let turn = self.talk.request(request.headers());
        let answer = match self.pass.check() {
            Ok(()) => Either::Right(self.inner.call(request)),
            // The connection is about to be cut; this is for whoever can still read it.
            Err(lapsed) => {
                Either::Left(ready(Ok(refusal(lapsed, request.version() < http::Version::HTTP_2))))
            }
        };
        // Not in an `async` block: that would have room for the answer's future twice, and move it once more.
        answer.inspect(move |response| {
            // What becomes a WebSocket is no matter of HTTP any more.
            let is_over =
                response.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SWITCHING_PROTOCOLS);
            if let Some(turn) = turn.filter(|_| !is_over) {
                turn.is_theirs();
            }
        })
    }
}

fn refusal(lapsed: Lapsed, is_http_1: bool) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(format!("{lapsed}\n"))));
    *response.status_mut() = StatusCode::FORBIDDEN;
    if is_http_1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
