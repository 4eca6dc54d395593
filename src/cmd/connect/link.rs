//! One connection to the gateway: TCP, TLS with our certificate, HTTP/2, and proof that the gateway took it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cmd::connect::target::Target;
use crate::cmd::connect::trouble::Trouble;

/// Sends requests on a connection; closed when the connection is.
pub type Sender = SendRequest<Full<Bytes>>;

/// From the first packet to the first word of the gateway.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How often a connection is asked whether it still lives, and how long it may take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Opens a connection. Whatever goes wrong here, no request was sent.
pub async fn open(target: &Target, tls: Arc<ClientConfig>) -> Result<Sender, Trouble> {
    let (host, port) = target.address();
    let at = format!("{host}:{port}");
    let opened = timeout(CONNECT_DEADLINE, handshake(target, tls, &at)).await;
    opened.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", CONNECT_DEADLINE.as_secs());
        Err(Trouble::Unreachable { at, why })
    })
}

async fn handshake(target: &Target, tls: Arc<ClientConfig>, at: &str) -> Result<Sender, Trouble> {
    let trouble = |error: io::Error| Trouble::of_io(at, &error);
    let stream = TcpStream::connect(target.address()).await.map_err(trouble)?;
    stream.set_nodelay(true).map_err(trouble)?;
    let stream =
        TlsConnector::from(tls).connect(target.server_name().clone(), stream).await.map_err(trouble)?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Trouble::NotHttp2);
    }
    let (heard, mut first_word) = watch::channel(false);
    let failure = Arc::new(OnceLock::new());
    let stream = Watched { stream, at: at.to_owned(), heard, failure: failure.clone() };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .max_header_list_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Trouble::Tls { why: error.to_string() })?;
    tokio::spawn(connection);
    // In TLS 1.3 a client is through before the server has looked at its certificate: only when the server
    // speaks HTTP/2 is it known that it took it. Until then no request may be sent, or its fate were unknown.
    match first_word.wait_for(|heard| *heard).await {
        Ok(_) => Ok(sender),
        Err(_) => Err(failure.get().cloned().unwrap_or_else(|| Trouble::Unreachable {
            at: at.to_owned(),
            why: "it closed the connection before saying anything".to_owned(),
        })),
    }
}

/// A stream that tells when the first bytes came, and remembers why reading failed. Dropped with its connection.
struct Watched<S> {
    stream: S,
    at: String,
    heard: watch::Sender<bool>,
    failure: Arc<OnceLock<Trouble>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        match &read {
            Ok(()) => {
                let some = buffer.filled().len() > before;
                self.heard.send_if_modified(|heard| some && !std::mem::replace(heard, true));
            }
            // Only the first failure tells the reason; nobody minds if it was told before.
            Err(error) => drop(self.failure.set(Trouble::of_io(&self.at, error))),
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
