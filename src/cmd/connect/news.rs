//! Subscriptions of a tool on the unix socket: its calls about them go to the gateway over a WebSocket of its own, and what
//! comes over that goes to the tool, a line each.
//!
//! A subscription is as old as its WebSocket. When that ends the tool's connection ends too: a tool that goes on
//! listening would take silence for no news.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::cmd::connect::gateway::Gateway;
use crate::cmd::connect::ipc::Lines;
use crate::cmd::connect::trouble::Trouble;

/// Calls that wait for the WebSocket to take them.
const WAITING: usize = 16;

/// After so long without a word the gateway is asked whether it is there, and after as long again it is not.
const QUIET: Duration = Duration::from_secs(30);

/// How long what was asked last may take, when the tool has nothing more to ask.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A tool's WebSocket, opened with its first subscription.
#[derive(Debug)]
pub struct News {
    calls: Mutex<Option<mpsc::Sender<Bytes>>>,
    /// Cancelled when the WebSocket has ended by itself.
    lost: CancellationToken,
}

/// All that is looked at of a call, or of what comes over the WebSocket.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    method: Cow<'a, str>,
}

impl News {
    pub fn new(lost: CancellationToken) -> Self {
        Self { calls: Mutex::new(None), lost }
    }

    /// Sends a call about subscriptions; its answer and all that follows are written to `lines`.
    pub async fn ask(&self, call: Bytes, gateway: &Gateway, lines: &Arc<Lines>) -> Result<(), Trouble> {
        let calls = {
            let mut held = self.calls.lock().await;
            if let Some(calls) = &*held {
                calls.clone()
            } else {
                let stream = gateway.subscriber().await?;
                let (sender, receiver) = mpsc::channel(WAITING);
                let (lines, lost) = (lines.clone(), self.lost.clone());
                tokio::spawn(async move {
                    carry(stream, receiver, &lines).await;
                    lost.cancel();
                });
                held.insert(sender).clone()
            }
        };
        let gone = || Trouble::Lost { why: "the WebSocket for subscriptions has ended".to_owned() };
        calls.send(call).await.map_err(|_| gone())
    }

    /// No more calls; what was asked is still answered.
    pub async fn end(&self) {
        if self.calls.lock().await.take().is_some() {
            drop(timeout(LAST_WORDS, self.lost.cancelled()).await);
        }
    }
}

/// Whether a request, or a call of a batch, is about subscriptions.
pub fn is_about(request: &[u8]) -> bool {
    if memmem::find(request, b"subscribe").is_none() {
        return false;
    }
    let calls = match request.first() {
        Some(b'[') => serde_json::from_slice::<Vec<&RawValue>>(request).unwrap_or_default(),
        _ => serde_json::from_slice::<&RawValue>(request).into_iter().collect(),
    };
    calls.iter().any(|call| matches!(&*method_of(call.get()), "eth_subscribe" | "eth_unsubscribe"))
}

fn method_of(text: &str) -> Cow<'_, str> {
    serde_json::from_str::<Named<'_>>(text).map(|named| named.method).unwrap_or_default()
}

/// Both ways, until one side has ended.
async fn carry(
    mut stream: WebSocketStream<TokioIo<Upgraded>>,
    mut calls: mpsc::Receiver<Bytes>,
    lines: &Lines,
) {
    // Answers that are still to come.
    let mut open = 0_usize;
    let mut more = true;
    let mut asked_for_life = false;
    while more || open > 0 {
        let heard = tokio::select! {
            call = calls.recv(), if more => {
                let Some(call) = call else {
                    more = false;
                    continue;
                };
                let Ok(text) = Utf8Bytes::try_from(call) else { continue };
                if !matches!(timeout(QUIET, stream.send(Message::Text(text))).await, Ok(Ok(()))) {
                    return;
                }
                open = open.saturating_add(1);
                continue;
            }
            heard = timeout(QUIET, stream.next()) => heard,
        };
        match heard {
            Ok(Some(Ok(Message::Text(text)))) => {
                asked_for_life = false;
                if method_of(&text).is_empty() {
                    open = open.saturating_sub(1);
                }
                lines.write(text.into()).await;
            }
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return,
            Ok(Some(Ok(_))) => asked_for_life = false,
            Err(_) if asked_for_life => return,
            Err(_) => {
                asked_for_life = true;
                if !matches!(timeout(QUIET, stream.send(Message::Ping(Bytes::new()))).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
    drop(timeout(LAST_WORDS, stream.close(None)).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_about_subscriptions_take_the_websocket() {
        for (is, request) in [
            (true, r#"{"id":1,"method":"eth_subscribe","params":["newHeads"]}"#),
            (true, r#"{"params":["0x1"],"method":"eth_unsubscribe","id":1}"#),
            (true, r#"[{"id":1,"method":"x"},{"id":2,"method":"eth_subscribe","params":[]}]"#),
            (true, r#"{"method":"eth_\u0073ubscribe","x":"subscribe"}"#),
            (false, r#"{"id":1,"method":"eth_call","params":["eth_subscribe"]}"#),
            (false, r#"{"id":1,"method":"eth_subscribeAll"}"#),
            (false, r#"{"id":1,"params":{"method":"eth_subscribe"}}"#),
            (false, r#"{"subscribe"}"#),
            (false, "[1,\"subscribe\"]"),
        ] {
            assert_eq!(is_about(request.as_bytes()), is, "{request}");
        }
    }
}
