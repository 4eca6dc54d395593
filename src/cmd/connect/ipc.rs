//! The unix socket: what a tool writes goes to the gateway value by value, and each answer comes back when it is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cmd::connect::frames::{Frames, Unreadable};
use crate::cmd::connect::gateway::{Answer, Gateway};
use crate::cmd::connect::news::{self, News};
use crate::cmd::connect::reply::Reply;

/// Tools that are connected at once.
const MAX_CONNECTIONS: usize = 256;

/// Requests under way on one connection (forge fires up to a hundred); the next ones are read when there is room.
const MAX_IN_FLIGHT: usize = 128;

/// How long the rest of a value that has begun may take, and how long a tool may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tool that is connected.
struct Tool {
    gateway: Arc<Gateway>,
    lines: Arc<Lines>,
    news: Arc<News>,
    calls: TaskTracker,
}

/// Where a tool's answers are written to, each whole.
#[derive(Debug)]
pub struct Lines(Mutex<OwnedWriteHalf>);

/// Serves tools until `stop`; then no new one, and no new request of those that are there.
pub async fn serve(listener: UnixListener, gateway: Arc<Gateway>, stop: CancellationToken) {
    let tools = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let user = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: some will come free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // The socket's mode lets nobody else in; this holds even where a file system knows no modes.
        let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == user || peer.uid() == 0);
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        if ours {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            tools.spawn(async move {
                tool(stream, gateway, stop).await;
                drop(place);
            });
        }
    }
    tools.close();
    tools.wait().await;
}

/// One tool, from its connection to its last answer.
async fn tool(stream: UnixStream, gateway: Arc<Gateway>, stop: CancellationToken) {
    let (reader, writer) = stream.into_split();
    let lost = CancellationToken::new();
    let tool = Tool {
        gateway,
        lines: Arc::new(Lines(Mutex::new(writer))),
        news: Arc::new(News::new(lost.clone())),
        calls: TaskTracker::new(),
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        // Its subscriptions are gone, and it is to know.
        () = lost.cancelled() => Ok(()),
        ended = tool.requests(reader) => ended,
    };
    // What it asked is answered, even if it was the last thing that it wanted to say.
    tool.calls.close();
    tool.calls.wait().await;
    tool.news.end().await;
    if let Err(unreadable) = ended {
        let (code, name) = match unreadable {
            Unreadable::TooLarge => (-32600, "request_too_large"),
            _ => (-32700, "parse_error"),
        };
        let message = format!("{unreadable}; the connection is closed");
        if let Some(answer) = (Reply { code, message, name, hint: None }).to_nobody() {
            tool.lines.write(answer).await;
        }
    }
}

impl Tool {
    async fn requests(&self, mut reader: OwnedReadHalf) -> Result<(), Unreadable> {
        let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut frames = Frames::default();
        loop {
            while let Some(request) = frames.next()? {
                let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
                let (gateway, lines, news) = (self.gateway.clone(), self.lines.clone(), self.news.clone());
                self.calls.spawn(async move {
                    let answer = if news::is_about(&request) {
                        let asked = news.ask(request.clone(), &gateway, &lines).await;
                        asked.err().and_then(|trouble| Reply::from(&trouble).to(&request))
                    } else {
                        answer(&gateway, request, &[]).await
                    };
                    if let Some(answer) = answer {
                        lines.write(answer).await;
                    }
                    drop(place);
                });
            }
            frames.buffer().reserve(16 * 1024);
            let read = if frames.in_value() {
                timeout(PATIENCE, reader.read_buf(frames.buffer())).await.unwrap_or(Ok(0))
            } else {
                reader.read_buf(frames.buffer()).await
            };
            if !matches!(read, Ok(1..)) {
                return Ok(());
            }
        }
    }
}

impl Lines {
    /// Writes an answer on a line of its own: some tools (web3.py) read line by line.
    pub async fn write(&self, answer: Bytes) {
        let mut line = BytesMut::with_capacity(answer.len().saturating_add(1));
        // In JSON a line break can only be white space: within strings it is written as an escape.
        line.extend(answer.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        line.put_u8(b'\n');
        let mut writer = self.0.lock().await;
        // A tool that does not read any more has nothing to be told; half an answer must not be followed by another.
        if !matches!(timeout(PATIENCE, writer.write_all(&line)).await, Ok(Ok(()))) {
            drop(writer.shutdown().await);
        }
    }
}

/// The gateway's answer, or the error that stands for it.
pub async fn answer(gateway: &Gateway, request: Bytes, keys: &[HeaderValue]) -> Option<Bytes> {
    match gateway.call(request.clone(), keys).await {
        Ok(Answer::Body(body)) => Some(body),
        Ok(Answer::Nothing) => None,
        Err(trouble) => Reply::from(&trouble).to(&request),
    }
}
