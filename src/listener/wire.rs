//! The decrypted bytes of one connection, with what HTTP itself does not bound: how long a client may leave what is written to it
//! unread, how long its next request may take to come (HTTP/1.1), and how much it may send beside its requests over HTTP/2
//! (floods of PING, SETTINGS, empty DATA, and the next one).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::clock::{Alarm, later};
use crate::config::Limits;
use crate::listener::protocol::MAX_STREAMS;

/// A connection's bytes.
#[derive(Debug)]
pub(in crate::listener) struct Wire<IO> {
    io: IO,
    talk: Talk,
    patience: Patience,
    /// Since nothing more can be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// When something was written last.
    wrote: Instant,
    /// When the head of a request began that is not whole yet.
    head_began: Option<Instant>,
    /// For what does not come.
    alarm: Alarm,
}

/// For how long nothing may happen.
#[derive(Clone, Copy, Debug)]
struct Patience {
    write: Duration,
    idle: Duration,
    head: Duration,
}

/// Which HTTP is spoken, and what is kept of that by those who read bytes and those who see requests.
#[derive(Clone, Debug)]
pub(in crate::listener) enum Talk {
    Http1(Arc<Turn>),
    Http2(Arc<Meter>),
}

/// Whose turn it is to speak: the client's, until all of a request's head has come, and ours, until it is answered.
#[derive(Debug, Default)]
pub(in crate::listener) struct Turn {
    is_ours: AtomicBool,
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

impl Talk {
    pub fn new(is_http_2: bool, limits: &Limits) -> Self {
        if is_http_2 {
            return Self::Http2(Arc::new(Meter::new(limits.max_body, MAX_STREAMS)));
        }
        Self::Http1(Arc::default())
    }

    /// A request has come. Of HTTP/1.1: it is our turn now.
    pub fn request(&self, headers: &HeaderMap) -> Option<Arc<Turn>> {
        match self {
            Self::Http1(turn) => {
                turn.is_ours.store(true, Ordering::Relaxed);
                Some(Arc::clone(turn))
            }
            Self::Http2(meter) => {
                meter.request(headers);
                None
            }
        }
    }
}

impl Turn {
    /// The answer is there: the next request may come.
    pub fn is_theirs(&self) {
        self.is_ours.store(false, Ordering::Relaxed);
    }
}

impl Meter {
    fn new(max_body: usize, streams: u32) -> Self {
        let max_body = u64::try_from(max_body).unwrap_or(u64::MAX);
        let most = max_body.saturating_add(BESIDE).saturating_mul(streams.into()).saturating_add(LARGEST);
        Self { left: AtomicU64::new(START), most, max_body }
    }

    /// A request has come, which may bring a body.
    fn request(&self, headers: &HeaderMap) {
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
    pub fn new(io: IO, talk: Talk, limits: &Limits) -> Self {
        let patience =
            Patience { write: limits.write_timeout, idle: limits.idle_timeout, head: limits.head_timeout };
        let (wrote, alarm) = (Instant::now(), Alarm::default());
        Self { io, talk, patience, stalled: None, wrote, head_began: None, alarm }
    }

    /// HTTP/1.1: something came, or nothing is there yet. An error where a request is overdue.
    fn heard(&mut self, cx: &mut Context<'_>, is_more: bool) -> Poll<io::Result<()>> {
        match &self.talk {
            Talk::Http1(turn) if !turn.is_ours.load(Ordering::Relaxed) => {}
            _ => {
                self.head_began = None;
                return if is_more { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
        if is_more {
            // A byte now and then does not make it any younger.
            self.head_began.get_or_insert_with(Instant::now);
            return Poll::Ready(Ok(()));
        }
        let (since, patience, reason) = match self.head_began {
            Some(began) => (began, self.patience.head, "slow_head"),
            None => (self.wrote, self.patience.idle, "idle"),
        };
        ready!(self.alarm.poll(later(since, patience), cx));
        metrics::counter!("chancery_connections_cut_total", "reason" => reason).increment(1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time")))
    }

    /// We speak: whatever came before it was whole.
    fn speak(&mut self) {
        self.wrote = Instant::now();
        self.head_began = None;
    }

    /// An error where nothing could be written for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let patience = self.patience.write;
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
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) else {
            return self.heard(cx, false);
        };
        read?;
        match &self.talk {
            Talk::Http1(_) => self.heard(cx, true),
            Talk::Http2(meter) => Poll::Ready(meter.spend(buf.filled().len().saturating_sub(before))),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.speak();
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.speak();
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    fn wire(io: DuplexStream, limits: &Limits) -> Wire<DuplexStream> {
        Wire::new(io, Talk::new(false, limits), limits)
    }

    #[tokio::test]
    async fn inv_12_who_does_not_read_is_cut_and_who_reads_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut wire = wire(near, &Limits { write_timeout: Duration::from_millis(500), ..Limits::default() });
        let writing = tokio::spawn(async move { wire.write_all(&[0; 64]).await });
        for _ in 0..3 {
            sleep(Duration::from_millis(250)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        assert!(writing.await.unwrap().is_ok());

        let (near, _far) = tokio::io::duplex(16);
        let mut wire =
            self::wire(near, &Limits { write_timeout: Duration::from_millis(100), ..Limits::default() });
        let stuck = wire.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn inv_12_a_request_has_its_time_to_begin_and_its_time_to_be_whole() {
        let limits = Limits {
            idle_timeout: Duration::from_millis(600),
            head_timeout: Duration::from_millis(200),
            ..Limits::default()
        };
        let (near, mut far) = tokio::io::duplex(16);
        let mut wire = wire(near, &limits);
        let began = Instant::now();
        assert_eq!(wire.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(600), "nothing was asked");

        wire.write_u8(1).await.unwrap();
        far.write_u8(b'G').await.unwrap();
        wire.read_u8().await.unwrap();
        let began = Instant::now();
        assert_eq!(wire.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(
            began.elapsed() < Duration::from_millis(600),
            "a head that was begun is not waited for so long"
        );

        // While it is our turn they may be silent, and after it they have their time again.
        let turn = wire.talk.request(&HeaderMap::new()).unwrap();
        let silent = tokio::time::timeout(Duration::from_secs(1), wire.read_u8()).await;
        assert!(silent.is_err());
        turn.is_theirs();
        wire.write_u8(1).await.unwrap();
        let began = Instant::now();
        assert_eq!(wire.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(600));
    }

    #[tokio::test]
    async fn inv_12_what_is_sent_beside_requests_is_counted() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let meter = Arc::new(Meter::new(100, 10));
        let mut wire = Wire::new(far, Talk::Http2(Arc::clone(&meter)), &Limits::default());
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
