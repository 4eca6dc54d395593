//! A WebSocket to one node, for its subscriptions.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::config::{Chain, Node};
use crate::secret::SecretUrl;
use crate::upstream::auth::{self, Credentials};
use crate::upstream::pool::{Pool, root_of};
use crate::upstream::{Answer, UpstreamError};

/// Where a node's subscriptions are.
pub(super) struct Socket {
    credentials: Credentials,
    connector: HttpsConnector<HttpConnector>,
    /// With the scheme `ws` or `wss`.
    uri: Uri,
    chain_id: u64,
    max_message: usize,
    within: Duration,
}

/// One that is open, to a node on our chain.
pub(super) struct Wire {
    stream: WebSocketStream<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>,
    within: Duration,
}

/// What comes over it.
pub(super) enum Heard {
    Message(Bytes),
    /// A sign of life.
    Other,
}

impl Socket {
    pub(super) fn new(chain: &Chain, node: &Node, clock: Clock) -> Result<Self, UpstreamError> {
        let not_a_url = || UpstreamError::Unreachable(format!("{} is not a URL", node.ws));
        let as_http = node.ws.expose().replacen("ws", "http", 1);
        let as_http = SecretUrl::parse(&as_http).map_err(|_| not_a_url())?;
        let credentials = Credentials::new(&as_http, &node.auth, clock)?;
        let mut parts = credentials.uri.clone().into_parts();
        let is_encrypted = Pool::is_encrypted(&credentials.uri);
        parts.scheme = if is_encrypted { "wss" } else { "ws" }.parse().ok();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = auth::tls(&node.auth, is_encrypted)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Ok(Self {
            connector: https.wrap_connector(tcp),
            uri: Uri::from_parts(parts).map_err(|_| not_a_url())?,
            credentials,
            chain_id: chain.id,
            max_message: chain.max_answer,
            within: chain.timeout,
        })
    }

    /// Opens it, and asks for the chain before anything else.
    pub(super) async fn open(&self) -> Result<Wire, UpstreamError> {
        timeout(self.within, self.connect()).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn connect(&self) -> Result<Wire, UpstreamError> {
        let stream = self.connector.clone().oneshot(self.credentials.uri.clone()).await;
        let stream = stream.map_err(|e| UpstreamError::Unreachable(root_of(&*e)))?;
        let mut request = Request::new(());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = self.credentials.headers();
        headers.remove(CONTENT_TYPE);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        let key = HeaderValue::try_from(generate_key()).map_err(UpstreamError::garbage)?;
        headers.insert("sec-websocket-key", key);
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message));
        let opened = client_async_with_config(request, TokioIo::new(stream), Some(config)).await;
        let (stream, _) = opened.map_err(|error| {
            use tokio_tungstenite::tungstenite::Error;
            UpstreamError::Unreachable(match error {
                Error::Http(answer) => {
                    format!("no WebSocket there: HTTP status {}", answer.status().as_u16())
                }
                // Of a URL or a header it may say what stands in it.
                Error::Io(error) => error.to_string(),
                _ => "no WebSocket there".to_owned(),
            })
        })?;
        let mut wire = Wire { stream, within: self.within };
        wire.send(r#"{"jsonrpc":"2.0","id":0,"method":"eth_chainId","params":[]}"#.to_owned()).await?;
        loop {
            if let Heard::Message(body) = wire.hear().await? {
                let found: u64 = Answer::read(body, 0)?.number()?;
                let ours = self.chain_id;
                return if found == ours { Ok(wire) } else { Err(UpstreamError::OtherChain { found, ours }) };
            }
        }
    }
}

impl Wire {
    pub(super) async fn send(&mut self, text: String) -> Result<(), UpstreamError> {
        self.put(Message::text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), UpstreamError> {
        self.put(Message::Ping(Bytes::new())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), UpstreamError> {
        match timeout(self.within, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(UpstreamError::Unreachable("the WebSocket broke off".to_owned())),
            Err(_) => Err(UpstreamError::Timeout),
        }
    }

    /// The next that comes. Given up without loss.
    pub(super) async fn hear(&mut self) -> Result<Heard, UpstreamError> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Heard::Message(text.into())),
            Some(Ok(Message::Binary(body))) => Ok(Heard::Message(body)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Heard::Other),
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                Err(UpstreamError::Unreachable("the WebSocket broke off".to_owned()))
            }
        }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}
