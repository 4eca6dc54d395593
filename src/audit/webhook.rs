//! Posts each checkpoint to a URL: one after the other, tried again for a while, never waited for.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config;
use crate::secret;

/// For one attempt.
const ANSWER: Duration = Duration::from_secs(10);

/// How often one checkpoint is tried; then the next one is, which tells of it by its digest.
const ATTEMPTS: u32 = 12;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Webhook {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    shown: String,
    secret: Option<HeaderValue>,
}

impl Webhook {
    pub(super) fn new(config: &config::Webhook) -> io::Result<Self> {
        let uri = config.url.expose().parse().map_err(|_| io::Error::other("the webhook is no URL"))?;
        let secret = match &config.secret_file {
            Some(file) => Some(header(file)?),
            None => None,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(ANSWER));
        // Plain HTTP is for this machine; the configuration has seen to that.
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new()).build(https);
        Ok(Self { http, uri, shown: config.url.to_string(), secret })
    }

    /// Posts what comes, until nothing can come any more.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<String>) {
        while let Some(line) = queue.recv().await {
            let body = Bytes::from(line);
            let mut pause = FIRST_PAUSE;
            let mut posted = Err(String::new());
            for _ in 0..ATTEMPTS {
                posted = self.post(body.clone()).await;
                if posted.is_ok() {
                    break;
                }
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            if let Err(why) = posted {
                metrics::counter!("chancery_checkpoints_unposted_total").increment(1);
                tracing::error!(webhook = self.shown, why, "a checkpoint could not be posted");
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = &self.secret {
            request.headers_mut().insert(AUTHORIZATION, secret.clone());
        }
        // The answer's body is not read: its status says it all.
        match timeout(ANSWER, self.http.request(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("HTTP status {}", answer.status().as_u16())),
            Ok(Err(error)) if error.is_connect() => Err("it cannot be reached".to_owned()),
            Ok(Err(_)) => Err("the connection broke".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

fn header(file: &std::path::Path) -> io::Result<HeaderValue> {
    let named = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", file.display()));
    let secret = secret::read_file(file).map_err(|e| named(&e))?;
    let text = zeroize::Zeroizing::new(format!("Bearer {}", secret.expose_secret()));
    let mut header = HeaderValue::try_from(text.as_str()).map_err(|_| named(&"no header can hold it"))?;
    header.set_sensitive(true);
    Ok(header)
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhook({})", self.shown)
    }
}
