//! One request and its answer over a connection to a node (HTTP/1.1, RFC 9112): written in one piece, and read where it
//! stays. Only what a JSON-RPC node does is understood; whatever else comes is an error, and the end of the connection.

use std::future::{Future as _, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use crate::clock::Alarm;
use crate::room::{Held, Meter, Room, SMALL};
use crate::upstream::UpstreamError;

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Channel<S> {
    stream: S,
    alarm: Alarm,
    /// What was asked last is answered, and nothing was said against another question.
    is_free: bool,
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection was closed before all of the request was written: nobody has acted on it.
    Unsent,
    /// It was closed before anything was answered: nobody knows.
    Unanswered(UpstreamError),
    Broken(UpstreamError),
}

/// An answer that has come.
#[derive(Debug)]
pub(super) struct Arrived {
    pub status: StatusCode,
    pub body: Bytes,
    /// What it takes of its asker's room, where it is large.
    pub held: Option<Held>,
}

/// What the head of an answer says of what follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// In bytes, its empty line included.
    pub length: usize,
    pub status: StatusCode,
    pub body: Framing,
    /// The node will take another request on this connection.
    pub is_kept: bool,
}

/// How long a body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    Sized(usize),
    Chunked,
    /// It ends with the connection.
    Open,
}

/// What comes over a connection.
struct Incoming<'a, S> {
    stream: &'a mut S,
    buffer: BytesMut,
    /// What the answer takes of memory while it comes.
    meter: Meter<&'a Arc<Room>>,
}

/// The largest head, also of the trailers behind a body, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// The longest line before a chunk.
const MAX_LINE: usize = 1024;

/// What is reserved for an answer whose length is not known, or not believed yet, in bytes.
const FIRST_PIECE: usize = 4 * 1024;
const LARGEST_FIRST_PIECE: usize = 1024 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, alarm: Alarm::default(), is_free: true }
    }

    /// Whether it can take a request: nothing may come before it is asked for, an end neither.
    pub(super) fn is_open(&mut self) -> bool {
        let (mut space, mut context) = ([0; 1], Context::from_waker(Waker::noop()));
        let mut stream = Pin::new(&mut self.stream);
        // A task that has used up its turn would be told that nothing is there, whatever is.
        let look = poll_fn(|context| {
            Poll::Ready(stream.as_mut().poll_read(context, &mut ReadBuf::new(&mut space)).is_pending())
        });
        self.is_free && pin!(unconstrained(look)).poll(&mut context) == Poll::Ready(true)
    }

    /// The answer to a whole request, which must come until then; of no more than `max` bytes, and if there is room.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        (max, room): (usize, &Arc<Room>),
        until: Instant,
    ) -> Result<Arrived, Failed> {
        self.is_free = false;
        let (stream, alarm) = (&mut self.stream, &mut self.alarm);
        let mut answered = pin!(converse(stream, request, (max, room)));
        let answered = poll_fn(|context| match answered.as_mut().poll(context) {
            Poll::Pending => alarm.poll(until, context).map(|()| Err(UpstreamError::Timeout.into())),
            answered @ Poll::Ready(_) => answered,
        });
        let (is_kept, arrived) = answered.await?;
        self.is_free = is_kept;
        Ok(arrived)
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    (max, room): (usize, &Arc<Room>),
) -> Result<(bool, Arrived), Failed> {
    stream.write_all(request).await.map_err(|_| Failed::Unsent)?;
    stream.flush().await.map_err(broke_off)?;
    let meter = Meter::new(room, SMALL);
    let mut incoming = Incoming { stream, buffer: BytesMut::with_capacity(FIRST_PIECE), meter };
    let head = incoming.head().await?;
    let body = match head.body {
        Framing::Sized(length) if length > max => return Err(UpstreamError::TooLarge(max).into()),
        Framing::Sized(length) => incoming.sized(length).await?,
        Framing::Chunked => incoming.chunks(max).await?,
        Framing::Open => incoming.rest(max).await?,
    };
    // Whoever says more than it was asked is not asked again.
    let is_kept = head.is_kept && incoming.buffer.is_empty();
    Ok((is_kept, Arrived { status: head.status, body, held: incoming.meter.into_held() }))
}

impl<S: AsyncRead + Unpin> Incoming<'_, S> {
    async fn head(&mut self) -> Result<Head, Failed> {
        self.more().await.map_err(|failed| match failed {
            Failed::Broken(error) => Failed::Unanswered(error),
            other => other,
        })?;
        loop {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let Some(head) = Head::read(&self.buffer)? else {
                self.more().await?;
                continue;
            };
            self.buffer.advance(head.length);
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(senseless("nobody asked for another protocol"));
                }
                // `100 Continue`, `103 Early Hints`: the answer follows.
                status if status.is_informational() => {}
                _ => return Ok(head),
            }
        }
    }

    /// What is usual: all of it in one buffer, and never copied.
    async fn sized(&mut self, length: usize) -> Result<Bytes, Failed> {
        let missing = length.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.min(LARGEST_FIRST_PIECE));
        self.count(self.buffer.capacity())?;
        while self.buffer.len() < length {
            self.more().await?;
        }
        if self.buffer.len() == length {
            return Ok(std::mem::take(&mut self.buffer).freeze());
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn chunks(&mut self, max: usize) -> Result<Bytes, Failed> {
        let mut whole = BytesMut::with_capacity(FIRST_PIECE);
        loop {
            let mut left =
                size_of_chunk(&self.line().await?).ok_or_else(|| senseless("a chunk has no size"))?;
            if left == 0 {
                self.trailers().await?;
                return Ok(whole.freeze());
            }
            if left > max.saturating_sub(whole.len()) {
                return Err(UpstreamError::TooLarge(max).into());
            }
            while left > 0 {
                if self.buffer.is_empty() {
                    self.more().await?;
                }
                let piece = self.buffer.split_to(left.min(self.buffer.len()));
                left = left.saturating_sub(piece.len());
                whole.extend_from_slice(&piece);
                self.count(whole.capacity())?;
            }
            if !self.line().await?.is_empty() {
                return Err(senseless("a chunk is longer than it says"));
            }
        }
    }

    /// Everything until the node hangs up.
    async fn rest(&mut self, max: usize) -> Result<Bytes, Failed> {
        while self.read().await? > 0 {
            if self.buffer.len() > max {
                return Err(UpstreamError::TooLarge(max).into());
            }
        }
        if self.buffer.len() > max {
            return Err(UpstreamError::TooLarge(max).into());
        }
        Ok(std::mem::take(&mut self.buffer).freeze())
    }

    /// They say nothing that is wanted.
    async fn trailers(&mut self) -> Result<(), Failed> {
        let mut left = MAX_HEAD;
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            left = left.checked_sub(line.len()).ok_or_else(|| senseless("its trailers are too long"))?;
        }
    }

    /// A line, without its end.
    async fn line(&mut self) -> Result<BytesMut, Failed> {
        loop {
            let start = self.buffer.get(..MAX_LINE).unwrap_or(&self.buffer);
            if let Some(end) = memchr(b'\n', start) {
                let mut line = self.buffer.split_to(end);
                self.buffer.advance(1);
                let length = line.strip_suffix(b"\r").ok_or_else(|| senseless("a line has no end"))?.len();
                line.truncate(length);
                return Ok(line);
            }
            if self.buffer.len() >= MAX_LINE {
                return Err(senseless("a line has no end"));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Failed> {
        match self.read().await? {
            0 => Err(broke_off("the connection was closed")),
            _ => Ok(()),
        }
    }

    /// So much of memory is taken by now.
    fn count(&mut self, bytes: usize) -> Result<(), UpstreamError> {
        if self.meter.count(bytes) { Ok(()) } else { Err(UpstreamError::NoRoom) }
    }

    async fn read(&mut self) -> Result<usize, Failed> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(FIRST_PIECE);
            self.count(self.buffer.capacity())?;
        }
        self.stream.read_buf(&mut self.buffer).await.map_err(broke_off)
    }
}

impl Head {
    /// `None`: there is more of it to come.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, UpstreamError> {
        let garbage = |why: &'static str| UpstreamError::Garbage(why.to_owned());
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let (mut answer, parser) = (httparse::Response::new(&mut []), httparse::ParserConfig::default());
        let length = match parser.parse_response_with_uninit_headers(&mut answer, bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) => return Err(garbage("its HTTP head is too long")),
            Err(error) => return Err(UpstreamError::Garbage(format!("its HTTP head: {error}"))),
        };
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| garbage("its HTTP head has no status"))?;
        let (mut sized, mut is_chunked, mut is_kept) = (None, false, answer.version == Some(1));
        for header in &*answer.headers {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = number(value).ok_or_else(|| garbage("its Content-Length is no number"))?;
                if sized.replace(length).is_some_and(|other| other != length) {
                    return Err(garbage("it has two Content-Lengths"));
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(garbage("its Transfer-Encoding is not `chunked`"));
                }
                is_chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut words = value.split(|byte| *byte == b',');
                is_kept &= !words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
        }
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = match (sized, is_chunked) {
            // Where it ends must not be open to opinion.
            (Some(_), true) => return Err(garbage("it has a Content-Length and is chunked")),
            _ if has_none || status.is_informational() => Framing::Sized(0),
            (Some(length), false) => Framing::Sized(length),
            (None, true) => Framing::Chunked,
            (None, false) => Framing::Open,
        };
        is_kept &= body != Framing::Open;
        Ok(Some(Self { length, status, body, is_kept }))
    }
}

/// Digits and nothing else. What does not fit is larger than anything.
fn number(text: &[u8]) -> Option<usize> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(text).ok()?.parse().ok()).map(|number| number.unwrap_or(usize::MAX))
}

/// Hexadecimal digits, and whatever stands behind a semicolon.
fn size_of_chunk(line: &[u8]) -> Option<usize> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    is_number
        .then(|| usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok())
        .map(|size| size.unwrap_or(usize::MAX))
}

fn senseless(why: impl std::fmt::Display) -> Failed {
    UpstreamError::garbage(why).into()
}

fn broke_off(why: impl std::fmt::Display) -> Failed {
    UpstreamError::Unreachable(format!("no answer: {why}")).into()
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Self {
        Self::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::duplex;
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;
    use crate::clock::after;

    const MAX: usize = 100;

    fn room() -> Arc<Room> {
        Arc::new(Room::new(usize::MAX, None))
    }

    /// What is read of this answer, which comes in pieces of so many bytes; and whether the connection can be used again.
    async fn read(answer: &str, piece: usize) -> Result<(u16, String, bool), UpstreamError> {
        let (near, mut far) = duplex(1 << 16);
        let mut channel = Channel::new(near);
        let says = async {
            let mut request = [0; 4];
            far.read_exact(&mut request).await.unwrap();
            for piece in answer.as_bytes().chunks(piece) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
        };
        let (room, until) = (room(), after(Duration::from_secs(5)));
        match tokio::join!(channel.exchange(b"ask!", (MAX, &room), until), says).0 {
            Ok(Arrived { status, body, .. }) => {
                Ok((status.as_u16(), String::from_utf8(body.to_vec()).unwrap(), channel.is_free))
            }
            Err(Failed::Broken(error) | Failed::Unanswered(error)) => Err(error),
            Err(Failed::Unsent) => panic!("it was sent"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_however_it_comes() {
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{}", "x".repeat(90));
        for (answer, status, body, is_free) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true),
            (&long, 200, &"x".repeat(90), true),
            ("HTTP/1.1 503 No\r\ncontent-length:0\r\nconnection: keep-alive, Close\r\n\r\n", 503, "", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, "hello", false),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n00a;x=y\r\n, chunked \r\n0\r\n\r\n",
                200,
                "hello, chunked ",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\nx: y\r\nz: \r\n\r\n",
                200,
                "hello",
                true,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1",
                200,
                "1",
                true,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and more", 200, "hello", false),
        ] {
            for piece in [1, 7, 1000] {
                // What comes later than the answer is seen when the connection is asked for.
                if piece == 1000 || !answer.ends_with("more") {
                    assert_eq!(
                        read(answer, piece).await.unwrap(),
                        (status, body.to_owned(), is_free),
                        "{answer}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn inv_11_what_is_no_answer_is_not_taken_for_one() {
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(4000));
        let line = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;{}", "x".repeat(2000));
        for answer in [
            "hello\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
            &endless,
            &line,
        ] {
            assert!(matches!(read(answer, 1000).await, Err(UpstreamError::Garbage(_))), "{answer}");
        }
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            assert!(matches!(read(answer, 1000).await, Err(UpstreamError::Unreachable(_))), "{answer}");
        }
    }

    #[tokio::test]
    async fn inv_12_an_answer_is_no_larger_than_it_may_be() {
        let open = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX + 1));
        let chunks = "33\r\n".to_owned() + &"x".repeat(51) + "\r\n";
        let chunks =
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{chunks}0\r\n\r\n");
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            &chunks,
            &open,
        ] {
            assert!(matches!(read(answer, 1000).await, Err(UpstreamError::TooLarge(MAX))), "{answer}");
        }
    }

    #[tokio::test]
    async fn inv_12_an_answer_that_does_not_come_is_not_waited_for() {
        let (near, _far) = duplex(2);
        let mut channel = Channel::new(near);
        let asked =
            channel.exchange(b"more than fits", (MAX, &room()), after(Duration::from_millis(20))).await;
        assert!(matches!(asked, Err(Failed::Broken(UpstreamError::Timeout))));
        assert!(!channel.is_open(), "its answer may still come, and is nobody else's");
    }

    #[tokio::test]
    async fn also_a_task_that_has_used_up_its_turn_sees_that_a_connection_is_closed() {
        let (near, far) = duplex(100);
        let mut channel = Channel::new(near);
        drop(far);
        poll_fn(|context| {
            while has_budget_remaining() {
                let mut turn = pin!(consume_budget());
                let _ = turn.as_mut().poll(context);
            }
            assert!(!channel.is_open());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_talks_unasked_is_not_open() {
        let (near, mut far) = duplex(100);
        let mut channel = Channel::new(near);
        assert!(channel.is_open());
        far.write_all(b"x").await.unwrap();
        assert!(!channel.is_open());
        let (near, far) = duplex(100);
        let mut channel = Channel::new(near);
        drop(far);
        assert!(!channel.is_open());
        let asked = channel.exchange(b"ask!", (MAX, &room()), after(Duration::from_secs(5))).await;
        assert!(matches!(asked, Err(Failed::Unsent)));
    }
}
