//! A connection's service, which asks the pass before each request.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::Service;
use tokio_util::sync::CancellationToken;

use crate::listener::pass::{Lapsed, Pass};
use crate::listener::wire::Meter;

#[derive(Debug)]
pub(in crate::listener) struct Guarded<S> {
    pub pass: Pass,
    pub inner: S,
    /// Of HTTP/2, told of each request.
    pub meter: Option<Arc<Meter>>,
    /// Set by the first request.
    pub asked: CancellationToken,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Self::Response, Infallible>>, S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.asked.cancel();
        if let Some(meter) = &self.meter {
            meter.request(request.headers());
        }
        match self.pass.check() {
            Ok(()) => Either::Right(self.inner.call(request)),
            // The connection is about to be cut; this is for whoever can still read it.
            Err(lapsed) => {
                Either::Left(ready(Ok(refusal(lapsed, request.version() < http::Version::HTTP_2))))
            }
        }
    }
}

fn refusal(lapsed: Lapsed, is_http_1: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{lapsed}\n"))));
    *response.status_mut() = StatusCode::FORBIDDEN;
    if is_http_1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
