//! A WebSocket (RFC 6455): each message is a body like any other, and is answered through the same road.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use jsonrpsee::types::Id;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::clock::after;
use crate::config::Client;
use crate::methods::{Cause, Outbox, Refusal};
use crate::rpc::calls::{Asking, refuse_body};
use crate::rpc::http::{Answers, Inner};
use crate::rpc::rejection::{Rejection, plain};
use crate::rpc::share::Share;
use crate::rpc::unfinished::{Counted, Spent, Unfinished};
use crate::turns::Line;

/// What a connection's WebSocket lives by.
#[derive(Clone)]
pub struct Life {
    /// The socket is one of these; the connection is not over before it is.
    pub sockets: TaskTracker,
    /// The gateway ends: what was begun is answered, and no more is taken.
    pub closing: CancellationToken,
    /// The connection is cut: nothing is sent any more.
    pub cut: CancellationToken,
    /// Where it waits for its turn beside other clients'.
    pub line: Line,
    /// Asked before each message: whether its client's certificate is still accepted.
    pub may_ask: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").finish_non_exhaustive()
    }
}

/// Messages of one socket that are being answered. While there are so many no more are read.
const MAX_AT_ONCE: usize = 32;

/// A message that is not taken off our hands in this time: its reader is gone, or too slow. A large one has more time, by
/// so many bytes a second.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
const SLOWEST: usize = 256 * 1024;

/// A longer message goes in frames of so many bytes: each is copied on its way, and nobody counts the copy. With its head of
/// four bytes one fills four records of TLS. Not much smaller: there are clients that take 16,384 frames of a message.
const PIECE: usize = 64 * 1024 - 4;

/// What may be copied for a client that does not read: a piece, and answers to its pings, of which the newest is enough.
const MAX_COPIED: usize = 2 * PIECE;

/// Between two pings; a client that answered none of two is gone.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long, and for how many bytes, a client is still listened to after a farewell.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 16 * 1024 * 1024;

/// Whether this asks for a WebSocket at all.
pub(super) fn is_asked_for(head: &Parts) -> bool {
    head.version == Version::HTTP_11 && has(&head.headers, &header::UPGRADE, "websocket")
}

/// The handshake (RFC 6455, section 4.2.1): what is to be answered to this key.
pub(super) fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Rejection> {
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let is_13 = only(&header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = only(&header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    // 16 bytes in base64.
    let key = key.filter(|key| key.len() == 24 && key.ends_with(b"=="));
    let is_empty = !headers.contains_key(header::CONTENT_LENGTH)
        || only(&header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    match key {
        Some(key) if is_13 && is_empty && has(headers, &header::CONNECTION, "upgrade") => {
            HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Rejection::Upgrade)
        }
        _ => Err(Rejection::Upgrade),
    }
}

pub(super) fn switching(accept: HeaderValue) -> Response<Body> {
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, Body::default());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Whether a list in a header has this word.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Who is on a socket, and what answers it.
pub(super) struct Socket<S> {
    pub inner: Arc<Inner<S>>,
    pub route: usize,
    pub client: Arc<Client>,
    pub share: Arc<Share>,
    pub life: Life,
}

/// What is to be written to a socket: as much as was asked for on it, and one item of news.
#[derive(Default)]
struct Letters {
    waiting: VecDeque<Message>,
    /// The one that is being written: kept until its last byte has left, and with it its place in its client's share.
    whole: Bytes,
    /// What of it is not handed over yet.
    rest: Bytes,
    /// By when the one that is being written must be taken off our hands.
    until: Option<Instant>,
}

impl Letters {
    fn push(&mut self, message: Message) {
        self.until = self.until.or_else(|| Some(until_of(&message)));
        self.waiting.push_back(message);
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    const fn are_written(&self) -> bool {
        self.until.is_none()
    }

    fn deadline(&self) -> Instant {
        self.until.unwrap_or_else(Instant::now)
    }

    /// The next frame, where all before it have left.
    fn next(&mut self) -> Option<Message> {
        let is_first = self.rest.is_empty();
        if is_first {
            self.whole = Bytes::new();
            let message = self.waiting.pop_front()?;
            self.until = Some(until_of(&message));
            let Message::Text(text) = message else { return Some(message) };
            self.whole = text.into();
            self.rest = self.whole.clone();
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        let kind = if is_first { Data::Text } else { Data::Continue };
        Some(Message::Frame(Frame::message(piece, OpCode::Data(kind), self.rest.is_empty())))
    }

    /// Until all is written; may be left and come back to at any time.
    async fn write<W>(&mut self, sink: &mut W) -> Result<(), Error>
    where
        W: Sink<Message, Error = Error> + Unpin,
    {
        poll_fn(|context| {
            loop {
                ready!(sink.poll_ready_unpin(context))?;
                ready!(sink.poll_flush_unpin(context))?;
                let Some(next) = self.next() else {
                    self.until = None;
                    return Poll::Ready(Ok(()));
                };
                sink.start_send_unpin(next)?;
            }
        })
        .await
    }
}

fn until_of(message: &Message) -> Instant {
    let seconds = u64::try_from(message.len() / SLOWEST).unwrap_or(u64::MAX);
    after(WRITTEN_WITHIN.saturating_add(Duration::from_secs(seconds)))
}

/// Why a socket is closed by us.
struct Farewell(CloseCode, &'static str);

impl From<Spent> for Farewell {
    fn from(spent: Spent) -> Self {
        match spent {
            Spent::Time => Self(CloseCode::Policy, "a message did not come within `limits.body_timeout`"),
            Spent::Room => {
                Self(CloseCode::Again, "too much of this client is under way; read, and connect again")
            }
        }
    }
}

impl<S: Answers> Socket<S> {
    /// Answers until either side ends it.
    pub(super) async fn serve(self, upgrade: OnUpgrade) {
        let Ok(upgraded) = upgrade.await else { return };
        let open = metrics::gauge!("chancery_sockets_open");
        open.increment(1.0);
        let run = self.life.line.fair(self.run(TokioIo::new(upgraded)));
        // Who is cut is so at once, and not when it is its turn.
        tokio::select! {
            biased;
            () = self.life.cut.cancelled() => {}
            () = run => {}
        }
        open.decrement(1.0);
    }

    pub(super) async fn run<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_COPIED)
            .max_message_size(Some(self.inner.max_body))
            .max_frame_size(Some(self.inner.max_body));
        let unfinished = Arc::<Unfinished>::default();
        let (room, within) = (Arc::clone(self.share.room()), self.inner.body_timeout);
        let stream = Counted::new(io, Arc::clone(&unfinished), room, within);
        let mut stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let Some(Farewell(code, reason)) = self.converse(&mut stream, &unfinished).await else { return };
        tracing::debug!(client = self.client.name, reason, "a WebSocket is closed");
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        drop(timeout(WRITTEN_WITHIN, stream.close(Some(frame))).await);
        // A socket that is closed with bytes unread is reset, which can overtake the reason.
        let mut rest = stream.get_mut().io().take(LINGER_BYTES);
        drop(timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await);
    }

    /// `None`: there is nobody any more to say farewell to.
    async fn converse<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut WebSocketStream<Counted<IO>>,
        unfinished: &Unfinished,
    ) -> Option<Farewell> {
        let (mut sink, mut source) = stream.split();
        let (outbox, mut news, overrun) = Outbox::new(Arc::clone(self.share.room()));
        let mut answers = FuturesUnordered::new();
        let mut letters = Letters::default();
        let mut ping = interval(PING_EVERY);
        ping.reset();
        let mut heard = Instant::now();
        let mut is_closing = false;
        loop {
            if is_closing && answers.is_empty() && letters.are_written() {
                return Some(Farewell(CloseCode::Away, "the gateway ends"));
            }
            let takes_more = !is_closing && answers.len().saturating_add(letters.len()) < MAX_AT_ONCE;
            if !takes_more {
                unfinished.is_paused();
            }
            let (is_writing, deadline) = (!letters.are_written(), letters.deadline());
            tokio::select! {
                // In this order: the name of a subscription goes before its news.
                biased;
                () = overrun.cancelled() => {
                    return Some(Farewell(CloseCode::Policy, "news were not read in time; connect and subscribe again"));
                }
                () = self.life.closing.cancelled(), if !is_closing => is_closing = true,
                // Answers are worked on also while their client does not read: others may wait for the same one.
                Some(answer) = answers.next() => {
                    if let Some(answer) = answer {
                        letters.push(text(answer));
                    }
                }
                written = letters.write(&mut sink), if is_writing => {
                    match written {
                        Ok(()) => {}
                        Err(error) => {
                            // The connection has a bound of its own for what is not read.
                            if matches!(error, Error::Io(error) if error.kind() == ErrorKind::TimedOut) {
                                metrics::counter!("chancery_sockets_overrun_total").increment(1);
                            }
                            return None;
                        }
                    }
                }
                () = sleep_until(deadline), if is_writing => {
                    metrics::counter!("chancery_sockets_overrun_total").increment(1);
                    return None;
                }
                Some(item) = news.recv(), if !is_writing => letters.push(text(item)),
                _ = ping.tick() => {
                    if heard.elapsed() > PING_EVERY.saturating_mul(2) {
                        return None;
                    }
                    letters.push(Message::Ping(Bytes::new()));
                }
                message = source.next(), if takes_more => {
                    heard = Instant::now();
                    if !(self.life.may_ask)() {
                        return None;
                    }
                    let body = match message {
                        Some(Ok(Message::Text(body))) => body.into(),
                        Some(Ok(Message::Binary(body))) => body,
                        Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                            unfinished.is_control(payload.len());
                            continue;
                        }
                        Some(Ok(Message::Frame(_))) => continue,
                        Some(Err(Error::Io(error))) => return Spent::of(&error).map(Farewell::from),
                        Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                            return Some(Farewell(CloseCode::Size, "the message is larger than `limits.max_body`"));
                        }
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    };
                    unfinished.is_whole();
                    answers.push(self.answer(&outbox, body));
                }
            }
        }
    }

    async fn answer(&self, outbox: &Outbox, body: Bytes) -> Option<Bytes> {
        let route = self.inner.routes.get(self.route)?;
        let Some((_slot, place)) = self.inner.enter(&self.share) else {
            let busy = Refusal::new(Cause::Busy, "the gateway is busy; nothing was done, ask again later");
            return Some(refuse_body(&self.client, &Id::Null, &busy));
        };
        let asking = Asking {
            client: &self.client,
            key: None,
            outbox: Some(outbox),
            place: &place,
            may_ask: &self.life.may_ask,
        };
        let answer = route.calls.answer(asking, &body).await;
        // A message is one piece.
        answer.map(|answer| place.answer(answer.into_json()))
    }
}

/// An answer is JSON, and JSON is UTF-8.
fn text(json: Bytes) -> Message {
    match Utf8Bytes::try_from(json) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(header).collect()
    }

    #[test]
    fn a_handshake_is_by_the_letter() {
        // The example of RFC 6455, section 1.3.
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(accept_key(&headers(&good)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (place, bad) in [(0, "close"), (2, "8"), (2, "13, 8"), (3, "short=="), (3, "")] {
            let mut spoilt = good;
            spoilt[place].1 = bad;
            assert_eq!(accept_key(&headers(&spoilt)).unwrap_err(), Rejection::Upgrade, "{bad}");
        }
        let with_body = [&good[..], &[("content-length", "5")]].concat();
        assert!(accept_key(&headers(&with_body)).is_err());
    }
}
