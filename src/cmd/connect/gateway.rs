//! The gateway as the local endpoints see it: a body goes in, its answer or the reason for none comes out.
//!
//! A body is sent twice only where it is certain that the first time it was not: a transaction may hang on it.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;

use crate::cmd::Context;
use crate::cmd::connect::credentials::{Presented, Shown};
use crate::cmd::connect::link::{self, Sender};
use crate::cmd::connect::relay::{self, Socket};
use crate::cmd::connect::target::Target;
use crate::cmd::connect::trouble::Trouble;

/// Passed on: what makes a repeat known is for the gateway to say.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Requests under way, of all local connections together.
const MAX_IN_FLIGHT: usize = 256;

/// How long a request waits for one of those places.
const QUEUE_DEADLINE: Duration = Duration::from_secs(20);

/// The gateway answers within seconds; tools have given up long before this.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);

/// The gateway's own bound on a node's answer is 64 MiB; some room for a batch.
const MAX_ANSWER_MIB: usize = 128;
pub const MAX_ANSWER: usize = MAX_ANSWER_MIB * 1024 * 1024;

/// How often a request that was certainly not sent is tried again.
const ATTEMPTS: u32 = 4;

/// The pause after a failed connection, doubled up to the second figure. Requests in it fail at once.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Talks to the gateway over one connection, which is opened when it is needed.
#[derive(Debug)]
pub struct Gateway {
    target: Target,
    context: Context,
    link: Mutex<Link>,
    places: Semaphore,
}

/// The connection, or why there is none. Held while a new one is being opened, so that it is opened once.
#[derive(Debug)]
struct Link {
    /// What the next connection presents.
    tls: Arc<ClientConfig>,
    certificate: Shown,
    sender: Option<Sender>,
    failures: u32,
    last: Option<(Trouble, Instant)>,
}

/// What the gateway answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Body(Bytes),
    /// It answers notifications with nothing.
    Nothing,
}

impl Gateway {
    pub fn new(target: Target, presented: Presented, context: Context) -> Self {
        Self { target, context, link: Mutex::new(Link::of(presented)), places: Semaphore::new(MAX_IN_FLIGHT) }
    }

    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// From now on another certificate is presented. What is under way comes to its end on the connection that it has.
    pub async fn present(&self, presented: Presented) {
        *self.link.lock().await = Link::of(presented);
    }

    /// The certificate that the next connection presents.
    pub async fn certificate(&self) -> Shown {
        self.link.lock().await.certificate.clone()
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.places.available_permits())
    }

    /// Opens the connection now, to know whether it can be.
    pub async fn reach(&self) -> Result<(), Trouble> {
        self.sender().await.map(drop)
    }

    /// Sends a body as it is, with the keys that the tool gave to it, and gives the answer as it is.
    pub async fn call(&self, body: Bytes, keys: &[HeaderValue]) -> Result<Answer, Trouble> {
        let Ok(Ok(_place)) = timeout(QUEUE_DEADLINE, self.places.acquire()).await else {
            return Err(Trouble::Busy);
        };
        self.call_within(ANSWER_DEADLINE, body, keys).await
    }

    async fn call_within(
        &self,
        deadline: Duration,
        body: Bytes,
        keys: &[HeaderValue],
    ) -> Result<Answer, Trouble> {
        let begun = AtomicBool::new(false);
        match timeout(deadline, self.send(body, keys, &begun)).await {
            Ok(answer) => answer,
            Err(_) if begun.load(Ordering::Relaxed) => Err(Trouble::NoAnswer(deadline.as_secs())),
            Err(_) => Err(Trouble::NotTaken(deadline.as_secs())),
        }
    }

    /// Opens a WebSocket on a connection of its own.
    pub async fn socket(&self, offered: &HeaderMap) -> Result<Socket, Trouble> {
        let tls = self.link.lock().await.tls.clone();
        relay::open(&self.target, &tls, offered).await
    }

    /// Opens a WebSocket that we speak ourselves, on a connection of its own.
    pub async fn subscriber(&self) -> Result<WebSocketStream<TokioIo<Upgraded>>, Trouble> {
        let tls = self.link.lock().await.tls.clone();
        relay::subscriber(&self.target, &tls).await
    }

    /// `begun` says whether the gateway may have a request that was sent.
    async fn send(&self, body: Bytes, keys: &[HeaderValue], begun: &AtomicBool) -> Result<Answer, Trouble> {
        for attempt in 0..ATTEMPTS {
            let mut sender = self.sender().await?;
            let mut request = self.target.post(Full::new(body.clone()));
            for key in keys {
                request.headers_mut().append(IDEMPOTENCY_KEY, key.clone());
            }
            begun.store(true, Ordering::Relaxed);
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => return read(response).await,
                Err(failed) => failed,
            };
            // hyper hands a request back only if it never began to write it.
            let unsent = failed.take_message().is_some();
            if !unsent && !was_refused(failed.error()) {
                return Err(Trouble::lost(failed.error()));
            }
            begun.store(false, Ordering::Relaxed);
            sleep(Duration::from_millis(20).saturating_mul(attempt)).await;
        }
        Err(Trouble::Unsent(ATTEMPTS))
    }

    async fn sender(&self) -> Result<Sender, Trouble> {
        let mut link = self.link.lock().await;
        if let Some(sender) = link.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        link.sender = None;
        if let Some((trouble, at)) = &link.last
            && at.elapsed() < pause(link.failures)
        {
            return Err(trouble.clone());
        }
        match link::open(&self.target, link.tls.clone()).await {
            Ok(sender) => {
                if link.last.is_some() {
                    self.context.say(format_args!("connected to {}", self.target));
                }
                link.sender = Some(sender.clone());
                (link.failures, link.last) = (0, None);
                Ok(sender)
            }
            Err(trouble) => {
                // Said once, not with every attempt.
                if link.last.as_ref().is_none_or(|(last, _)| *last != trouble) {
                    self.context.say(format_args!("error: {trouble}\nhint: {}", trouble.hint()));
                }
                link.failures = link.failures.saturating_add(1);
                link.last = Some((trouble.clone(), Instant::now()));
                Err(trouble)
            }
        }
    }
}

impl Link {
    /// One that is still to be opened.
    fn of(Presented { tls, certificate }: Presented) -> Self {
        Self { tls: Arc::new(tls), certificate, sender: None, failures: 0, last: None }
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    PAUSE.0.saturating_mul(doubled).min(PAUSE.1)
}

/// Whether the gateway said that it did not begin with this request (RFC 9113, 8.7): it refused the stream, or its
/// GOAWAY was for streams below this one. For a stream that was taken when the connection ended, the h2 crate reports
/// an I/O error, not the GOAWAY; `inv_10_…` in `tests/blackbox/connect.rs` holds it to that.
fn was_refused(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    h2.filter(|error| error.is_remote()).is_some_and(|error| {
        error.is_go_away() || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

async fn read(response: Response<Incoming>) -> Result<Answer, Trouble> {
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Trouble::TooLarge(MAX_ANSWER_MIB)),
        Err(error) => return Err(Trouble::lost(error.as_ref())),
    };
    match (status, body.is_empty()) {
        (StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT, true) => Ok(Answer::Nothing),
        (StatusCode::OK, false) => Ok(Answer::Body(body)),
        _ => Err(Trouble::Status { status: status.as_u16(), said: first_words(&body) }),
    }
}

/// What an answer says that is none to what was asked.
pub async fn refusal(response: Response<Incoming>) -> Trouble {
    let status = response.status();
    read(response).await.err().unwrap_or(Trouble::Status { status: status.as_u16(), said: first_words(b"") })
}

/// What fits into a sentence of an error body.
fn first_words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..400).unwrap_or(body)).into_owned();
    let line = text.lines().next().unwrap_or_default().trim();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if shown.is_empty() { "nothing more".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inv_10_what_was_never_sent_is_not_said_to_have_an_outcome() {
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let certificate = Shown { subject: String::new(), source: String::new(), not_after: String::new() };
        let target = Target::parse("https://127.0.0.1:9", None).unwrap();
        let gateway = Gateway::new(target, Presented { tls, certificate }, Context::new("x".into(), false));
        // As long as the connection is being opened.
        let _held = gateway.link.lock().await;
        let trouble = gateway.call_within(Duration::from_millis(20), Bytes::from_static(b"{}"), &[]).await;
        let trouble = trouble.unwrap_err();
        assert_eq!((trouble.name(), trouble.hint()), ("gateway_busy", "nothing was sent; try again"));
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let pauses: Vec<_> = (1..8).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pause(u32::MAX), PAUSE.1);
    }

    #[test]
    fn an_error_page_is_shown_as_its_first_line() {
        assert_eq!(first_words(b"no such host\r\n<html>"), "no such host");
        assert_eq!(first_words(b""), "nothing more");
        assert_eq!(first_words(&[b'x'; 5000]).len(), 200);
        assert_eq!(first_words(b"a\x1b[31mb"), "a[31mb");
    }
}
