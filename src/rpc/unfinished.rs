//! The bytes of a WebSocket, of which those of a message that is not whole yet are counted: against the room of their client,
//! and by the time that a body may take.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::clock::{Alarm, later};
use crate::room::{Meter, Room};

/// What a socket reads from and writes to.
#[derive(Debug)]
pub(super) struct Counted<IO> {
    io: IO,
    unfinished: Arc<Unfinished>,
    /// When the message began that is not whole.
    began: Instant,
    within: Duration,
    alarm: Alarm,
    meter: Meter<Arc<Room>>,
}

/// How much has come since the last whole message. Shared with who takes the messages.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    bytes: AtomicUsize,
    /// We have not read for a while: that is not the client's time.
    was_paused: AtomicBool,
}

/// Why no more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Time,
    Room,
}

/// So much is not counted, and more in steps of it; in bytes.
const STEP: usize = 64 * 1024;

/// Of a client's frame that is no part of a message: its head is as long as this, for what it carries is short.
const CONTROL_HEAD: usize = 6;

impl Unfinished {
    /// All that came was a message. What came in the same piece behind it is not counted: no more than is read at a time.
    pub(super) fn is_whole(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// A ping or a pong came, which may stand in the middle of a message.
    pub(super) fn is_control(&self, payload: usize) {
        let less = |bytes: usize| Some(bytes.saturating_sub(payload.saturating_add(CONTROL_HEAD)));
        // It always changes: the closure never says no.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Nothing is read for now.
    pub(super) fn is_paused(&self) {
        self.was_paused.store(true, Ordering::Relaxed);
    }
}

impl Spent {
    /// Whether an error says so.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl<IO> Counted<IO> {
    pub(super) fn new(io: IO, unfinished: Arc<Unfinished>, room: Arc<Room>, within: Duration) -> Self {
        let (began, alarm) = (Instant::now(), Alarm::default());
        Self { io, unfinished, began, within, alarm, meter: Meter::new(room, STEP) }
    }

    /// Without counting.
    pub(super) const fn io(&mut self) -> &mut IO {
        &mut self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = this.unfinished.bytes.load(Ordering::Relaxed);
        let was_paused = this.unfinished.was_paused.swap(false, Ordering::Relaxed);
        if before == 0 || was_paused {
            this.began = Instant::now();
        }
        if before == 0 {
            this.meter.begin_again();
        }
        let filled = buf.filled().len();
        let until = later(this.began, this.within);
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let came = buf.filled().len().saturating_sub(filled);
                let bytes = before.saturating_add(came);
                this.unfinished.bytes.store(bytes, Ordering::Relaxed);
                if !this.meter.count(bytes) {
                    return Poll::Ready(Err(io::Error::other(Spent::Room)));
                }
                if before > 0 && Instant::now() >= until {
                    return Poll::Ready(Err(io::Error::other(Spent::Time)));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if before > 0 && this.alarm.poll(until, cx).is_ready() => {
                Poll::Ready(Err(io::Error::other(Spent::Time)))
            }
            other => other,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "a message did not come within `limits.body_timeout`",
            Self::Room => "too much of this client is on its way, or not read yet",
        })
    }
}

impl std::error::Error for Spent {}
