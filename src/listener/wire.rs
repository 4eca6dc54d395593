//! The decrypted bytes of one connection, with what HTTP itself does not bound: how long a client may leave what is written to it
//! unread, and how much it may send over HTTP/2 beside its requests (floods of PING, SETTINGS, empty DATA, and the next one).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection's bytes.
#[derive(Debug)]
pub(in crate::listener) struct Wire<IO> {
    io: IO,
    /// Of HTTP/2 only: HTTP/1.1 has nothing but requests.
    meter: Option<Arc<Meter>>,
    write_timeout: Duration,
    /// Since nothing more can be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Bytes that a client may still send.
#[derive(Debug)]
pub(in crate::listener) struct Meter {
    left: AtomicU64,
    /// The most that may be left, which is what so many requests at once may need.
    most: u64,
    max_body: u64,
}

/// A connection begins with it, and keeps what it does not use: a PING in every second for weeks is fine.
const START: u64 = 4 << 20;

/// For each request beside its body: its head, the frames around it, window updates and a few pings.
const BESIDE: u64 = 64 << 10;

/// So much of a body that is too large is read and thrown away, so that its sender reads why.
const LARGEST: u64 = 64 << 20;

impl Meter {
    pub fn new(max_body: usize, streams: u32) -> Self {
        let max_body = u64::try_from(max_body).unwrap_or(u64::MAX);
        let most = max_body.saturating_add(BESIDE).saturating_mul(streams.into()).saturating_add(LARGEST);
        Self { left: AtomicU64::new(START), most, max_body }
    }

    /// A request has come, which may bring a body.
    pub fn request(&self, headers: &HeaderMap) {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let more = length.unwrap_or(self.max_body).min(LARGEST).saturating_add(BESIDE);
        let add = |left: u64| Some(left.saturating_add(more).min(self.most));
        // It always adds: the closure never says no.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(bytes);
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if spent.is_err() {
            metrics::counter!("chancery_connections_cut_total", "reason" => "flood").increment(1);
            return Err(io::Error::other("more was sent than its requests need"));
        }
        Ok(())
    }
}

impl<IO> Wire<IO> {
    pub const fn new(io: IO, meter: Option<Arc<Meter>>, write_timeout: Duration) -> Self {
        Self { io, meter, write_timeout, stalled: None }
    }

    /// An error where nothing could be written for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let patience = self.write_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        metrics::counter!("chancery_connections_cut_total", "reason" => "unread").increment(1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        match &self.meter {
            Some(meter) => Poll::Ready(meter.spend(buf.filled().len().saturating_sub(before))),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_flush(cx);
        self.written(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_shutdown(cx);
        self.written(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn inv_12_who_does_not_read_is_cut_and_who_reads_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut wire = Wire::new(near, None, Duration::from_millis(500));
        let writing = tokio::spawn(async move { wire.write_all(&[0; 64]).await });
        for _ in 0..3 {
            sleep(Duration::from_millis(250)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        assert!(writing.await.unwrap().is_ok());

        let (near, _far) = tokio::io::duplex(16);
        let mut wire = Wire::new(near, None, Duration::from_millis(100));
        let stuck = wire.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn inv_12_what_is_sent_beside_requests_is_counted() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let meter = Arc::new(Meter::new(100, 10));
        let mut wire = Wire::new(far, Some(Arc::clone(&meter)), Duration::from_secs(30));
        let mut more = async |bytes: u64| {
            let mut rest = vec![0; usize::try_from(bytes).unwrap()];
            for piece in rest.chunks_mut(1 << 19) {
                near.write_all(piece).await.unwrap();
                wire.read_exact(piece).await?;
            }
            io::Result::Ok(())
        };
        more(START).await.unwrap();
        let mut headers = HeaderMap::new();
        meter.request(&headers);
        more(BESIDE + 100).await.unwrap();
        headers.insert(header::CONTENT_LENGTH, 5000.into());
        meter.request(&headers);
        more(BESIDE + 5000).await.unwrap();
        assert!(more(1).await.is_err());
        for _ in 0..100_000 {
            meter.request(&headers);
        }
        assert_eq!(meter.left.load(Ordering::Relaxed), meter.most);
    }
}
