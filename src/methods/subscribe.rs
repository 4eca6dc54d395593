//! `eth_subscribe` and `eth_unsubscribe`: news for one WebSocket, under names of ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::identity::Caller;
use crate::methods::{App, Cause, Refusal};
use crate::room::{Kept, Room};
use crate::upstream::{Feed, News};

/// Subscriptions of one WebSocket.
const MAX_SUBSCRIPTIONS: usize = 64;

/// News that wait for one WebSocket, beside what each of its feeds holds.
const MAX_WAITING: usize = 256;

/// The longest filter of logs, in bytes: it is kept for as long as it is subscribed to.
const MAX_PARAMS: usize = 16 * 1024;

/// What nodes have to tell.
const KINDS: [&str; 4] = ["logs", "newHeads", "newPendingTransactions", "syncing"];

/// The subscriptions of one WebSocket, and where their news go. All of them end with the last clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    news: mpsc::Sender<Bytes>,
    open: Arc<Mutex<HashMap<String, Open>>>,
    places: Arc<Semaphore>,
    /// Its client's, for the news that wait.
    room: Arc<Room>,
    /// Its client does not read what it subscribed to.
    overrun: CancellationToken,
}

/// One of them. Its place was taken before the node was asked, so that no more are begun at the same time either.
#[derive(Debug)]
struct Open {
    _delivery: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

/// Where the news of one subscription go.
struct Delivery {
    news: mpsc::Sender<Bytes>,
    room: Arc<Room>,
    overrun: CancellationToken,
}

/// An item that is not sent yet: it counts as what its client has not read.
struct Waiting {
    json: Vec<u8>,
    _kept: Kept,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

impl Outbox {
    /// The outbox, what is to be sent, and a token that says that there is too much of it.
    pub fn new(room: Arc<Room>) -> (Self, mpsc::Receiver<Bytes>, CancellationToken) {
        let (news, sent) = mpsc::channel(MAX_WAITING);
        let overrun = CancellationToken::new();
        let places = Arc::new(Semaphore::new(MAX_SUBSCRIPTIONS));
        (Self { news, open: Arc::default(), places, room, overrun: overrun.clone() }, sent, overrun)
    }

    /// Not the subscriptions: a delivery does not keep itself.
    fn delivery(&self) -> Delivery {
        Delivery { news: self.news.clone(), room: Arc::clone(&self.room), overrun: self.overrun.clone() }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the subscription's name.
pub(super) async fn subscribe(
    app: &App,
    caller: &Caller,
    outbox: Option<&Outbox>,
    params: Option<&RawValue>,
) -> Result<String, Refusal> {
    let outbox = outbox.ok_or_else(no_socket)?;
    let params = params.filter(|params| params.get().len() <= MAX_PARAMS);
    let params = params.filter(|params| kind_of(params).is_some_and(|kind| KINDS.contains(&kind.as_str())));
    let Some(params) = params else {
        let what = format!(
            "eth_subscribe takes one of {}, and for logs a filter of at most 16 KiB",
            KINDS.join(", ")
        );
        return Err(Refusal::new(Cause::InvalidParams, what));
    };
    let Ok(place) = Arc::clone(&outbox.places).try_acquire_owned() else {
        let what = "this WebSocket has as many subscriptions as it may; end those that are not needed";
        return Err(Refusal::new(Cause::Busy, what));
    };
    let name = name()?;
    let feed = app.upstream.subscribe(&caller.client().name, params).await?;
    let delivery = AbortOnDropHandle::new(tokio::spawn(deliver(name.clone(), feed, outbox.delivery())));
    outbox.open().insert(name.clone(), Open { _delivery: delivery, _place: place });
    Ok(name)
}

/// Whether there was one of this name.
pub(super) fn unsubscribe(outbox: Option<&Outbox>, params: Option<&RawValue>) -> Result<bool, Refusal> {
    let outbox = outbox.ok_or_else(no_socket)?;
    let named = params.and_then(|params| serde_json::from_str::<(String,)>(params.get()).ok());
    let Some((name,)) = named else {
        return Err(Refusal::new(Cause::InvalidParams, "eth_unsubscribe takes the name of a subscription"));
    };
    Ok(outbox.open().remove(&name).is_some())
}

async fn deliver(name: String, mut feed: Feed, to: Delivery) {
    let head = format!(
        r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"{name}","result":"#
    );
    loop {
        match feed.next().await {
            News::Item(item) => {
                // It may be a large one, and is written once for each subscription.
                let length = head.len().saturating_add(item.len()).saturating_add(2);
                let Some(kept) = to.room.keep(length) else { break };
                let json = [head.as_bytes(), &item, b"}}"].concat();
                if to.news.try_send(Bytes::from_owner(Waiting { json, _kept: kept })).is_err() {
                    break;
                }
            }
            News::Lost => break,
            News::Over => return,
        }
    }
    // News that were left out would not be noticed: the socket is closed, and its client begins anew.
    metrics::counter!("chancery_sockets_overrun_total").increment(1);
    to.overrun.cancel();
}

fn kind_of(params: &RawValue) -> Option<String> {
    let all: Vec<&RawValue> = serde_json::from_str(params.get()).ok()?;
    let kind = all.first().filter(|_| all.len() <= 2)?;
    serde_json::from_str(kind.get()).ok()
}

fn no_socket() -> Refusal {
    Refusal::new(Cause::MethodNotFound, "notifications not supported: subscribe over a WebSocket")
}

/// As geth writes them.
fn name() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::internal())?;
    Ok(format!("{:#x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kind(params: &str) -> Option<String> {
        kind_of(&RawValue::from_string(params.to_owned()).unwrap())
    }

    #[test]
    fn a_kind_stands_first_with_a_filter_at_most() {
        assert_eq!(kind(r#"["newHeads"]"#).as_deref(), Some("newHeads"));
        assert_eq!(kind(r#"["logs",{"topics":[]}]"#).as_deref(), Some("logs"));
        for bad in ["[]", "{}", "[1]", r#"["logs",{},{}]"#, r#""newHeads""#] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_asked_over_a_socket_is_not_subscribed() {
        let refusal = unsubscribe(None, None).unwrap_err();
        assert_eq!(refusal.cause(), Cause::MethodNotFound);
    }

    #[tokio::test]
    async fn inv_12_who_does_not_read_its_news_is_overrun() {
        let (outbox, waiting, overrun) = Outbox::new(Arc::new(Room::new(1 << 20, None)));
        for _ in 0..MAX_WAITING {
            outbox.news.try_send(Bytes::new()).unwrap();
        }
        let (send, feed) = Feed::for_test();
        let task = tokio::spawn(deliver("0x1".to_owned(), feed, outbox.delivery()));
        send.send("{}".into()).unwrap();
        overrun.cancelled().await;
        task.await.unwrap();
        drop(waiting);
    }

    #[tokio::test]
    async fn inv_12_news_count_as_what_their_client_has_not_read() {
        let room = Arc::new(Room::new(1 << 20, None));
        let (outbox, mut waiting, overrun) = Outbox::new(Arc::clone(&room));
        let (send, feed) = Feed::for_test();
        let task = tokio::spawn(deliver("0x1".to_owned(), feed, outbox.delivery()));
        let large = Bytes::from("1".repeat(300 << 10));
        // As many as there is room for, again and again: read ones count no more.
        for _ in 0..4 {
            send.send(large.clone()).unwrap();
            send.send(large.clone()).unwrap();
            for _ in 0..2 {
                let item = waiting.recv().await.unwrap();
                assert!(item.starts_with(b"{\"jsonrpc\"") && item.ends_with(b"1}}"));
            }
        }
        for _ in 0..4 {
            send.send(large.clone()).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), overrun.cancelled()).await.unwrap();
        task.await.unwrap();
        drop(waiting);
        assert!(room.take(1 << 20), "nothing is held any more");
    }
}
