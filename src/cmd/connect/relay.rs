//! A tool's WebSocket, carried to the gateway on a connection of its own: byte by byte, once both sides have agreed to it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::cmd::connect::gateway;
use crate::cmd::connect::target::Target;
use crate::cmd::connect::trouble::Trouble;

/// From the first packet to the gateway's word.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a handshake is made of; nothing else goes through, either way.
const OFFERED: [HeaderName; 4] =
    [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];
const AGREED: [HeaderName; 3] = [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];

/// The gateway's half, and its part of the handshake.
#[derive(Debug)]
pub struct Socket {
    pub headers: HeaderMap,
    pub stream: Upgraded,
}

/// Whether a request asks for a WebSocket.
pub fn is_asked_for(head: &request::Parts) -> bool {
    let wanted = head.headers.get(UPGRADE).and_then(|to| to.to_str().ok());
    head.method == Method::GET && wanted.is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
}

/// Asks the gateway for one that we speak ourselves.
pub async fn subscriber(
    target: &Target,
    tls: &ClientConfig,
) -> Result<WebSocketStream<TokioIo<Upgraded>>, Trouble> {
    let key = generate_key();
    let mut offered = HeaderMap::new();
    let value = HeaderValue::try_from(&key).map_err(|error| Trouble::Tls { why: error.to_string() })?;
    offered.insert(SEC_WEBSOCKET_KEY, value);
    offered.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let Socket { headers, stream } = open(target, tls, &offered).await?;
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Trouble::Tls { why: "what answers there speaks no WebSocket".to_owned() });
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(gateway::MAX_ANSWER))
        .max_frame_size(Some(gateway::MAX_ANSWER));
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, Some(config)).await)
}

/// Asks the gateway for one, with what the tool has offered.
pub async fn open(target: &Target, tls: &ClientConfig, offered: &HeaderMap) -> Result<Socket, Trouble> {
    let (host, port) = target.address();
    let at = format!("{host}:{port}");
    timeout(DEADLINE, handshake(target, tls, &at, offered)).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", DEADLINE.as_secs());
        Err(Trouble::Unreachable { at, why })
    })
}

async fn handshake(
    target: &Target,
    tls: &ClientConfig,
    at: &str,
    offered: &HeaderMap,
) -> Result<Socket, Trouble> {
    let trouble = |error: io::Error| Trouble::of_io(at, &error);
    let stream = TcpStream::connect(target.address()).await.map_err(trouble)?;
    stream.set_nodelay(true).map_err(trouble)?;
    // A WebSocket begins as HTTP/1.1.
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(target.server_name().clone(), stream).await.map_err(trouble)?;
    let failed = |error: hyper::Error| of_hyper(at, &error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection.with_upgrades());
    let mut request = target.upgrade(Empty::<Bytes>::new());
    copy(&OFFERED, offered, request.headers_mut());
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(gateway::refusal(response).await);
    }
    let mut headers = HeaderMap::new();
    copy(&AGREED, response.headers(), &mut headers);
    let stream = hyper::upgrade::on(response).await.map_err(failed)?;
    Ok(Socket { headers, stream })
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

/// Nothing of a tool's was sent yet. A certificate that is not taken shows when the answer is read.
fn of_hyper(at: &str, error: &hyper::Error) -> Trouble {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) => Trouble::of_io(at, cause),
        None => Trouble::Unreachable { at: at.to_owned(), why: error.to_string() },
    }
}
