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
        .map_err(|error| reason(&failure).unwrap_or_else(|| Trouble::Tls { why: error.to_string() }))?;
    tokio::spawn(connection);
    // In TLS 1.3 a client is through before the server has looked at its certificate: only when the server
    // speaks HTTP/2 is it known that it took it. Until then no request may be sent, or its fate were unknown.
    match first_word.wait_for(|heard| *heard).await {
        Ok(_) => Ok(sender),
        Err(_) => Err(reason(&failure).unwrap_or_else(|| Trouble::Unreachable {
            at: at.to_owned(),
            why: "it closed the connection before saying anything".to_owned(),
        })),
    }
}

fn reason(failure: &OnceLock<Trouble>) -> Option<Trouble> {
    failure.get().cloned()
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

impl<S: AsyncRead + Unpin> Watched<S> {
    /// A server that refuses a certificate says why and closes, perhaps while we write: then it is writing that fails
    /// first, and the reason waits to be read.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(written, Poll::Ready(Err(_))) && !*self.heard.borrow() {
            let mut scratch = [0; 1024];
            // What it finds it remembers; the connection is over either way.
            let _ = Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut scratch));
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustls::AlertDescription;
    use tokio::io::AsyncWriteExt as _;

    /// What is left of a connection that the server has refused and closed: an alert to read, and nobody to write to.
    struct Refused;

    impl AsyncRead for Refused {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Refused {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_reason_for_a_refusal_is_read_although_writing_failed_first() {
        let failure = Arc::new(OnceLock::new());
        let (heard, _) = watch::channel(false);
        let mut stream =
            Watched { stream: Refused, at: "gateway:8545".to_owned(), heard, failure: failure.clone() };
        assert_eq!(stream.write_all(b"PRI").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(reason(&failure).unwrap().name(), "certificate_refused");
    }
}
