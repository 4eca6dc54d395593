//! A client's part in a subscription: its news, its seat, and who waits for one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast, oneshot};

use crate::seats::Seat;
use crate::upstream::UpstreamError;

pub(super) type Subscribed = Result<Feed, UpstreamError>;

/// One subscription, as one client has it.
#[derive(Debug)]
pub struct Feed {
    news: broadcast::Receiver<Bytes>,
    /// Dropped behind `news`.
    _seat: Parting,
}

/// A client's seat, which is free again when the hub has ended what nobody listens to: whoever subscribes and leaves, again and
/// again, has no more of the node's subscriptions than whoever stays.
#[derive(Debug)]
pub(super) struct Parting {
    pub seat: Option<Seat<Arc<str>>>,
    pub left: Arc<Left>,
}

/// Who does not listen any more.
#[derive(Debug, Default)]
pub(super) struct Left {
    seats: Mutex<Vec<Seat<Arc<str>>>>,
    pub told: Notify,
}

/// What a feed has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The node's own JSON.
    Item(Bytes),
    /// Some of it was lost: whoever listens was too slow.
    Lost,
    /// There will be no more.
    Over,
}

/// Who waits for a subscription.
#[derive(Debug)]
pub(super) struct Listener {
    pub reply: oneshot::Sender<Subscribed>,
    /// Taken before the node is asked, and held also where its client has hung up.
    pub seat: Parting,
}

impl Feed {
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Ok(item) => News::Item(item),
            Err(broadcast::error::RecvError::Lagged(_)) => News::Lost,
            Err(broadcast::error::RecvError::Closed) => News::Over,
        }
    }
}

impl Listener {
    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn gets(self, news: broadcast::Receiver<Bytes>) {
        // Whoever does not wait any more has hung up, and what he would have got is dropped here.
        drop(self.reply.send(Ok(Feed { news, _seat: self.seat })));
    }

    pub(super) fn misses(self, why: UpstreamError) {
        drop(self.reply.send(Err(why)));
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        self.left.seats.lock().unwrap_or_else(PoisonError::into_inner).extend(self.seat.take());
        self.left.told.notify_one();
    }
}

impl Left {
    pub(super) fn take(&self) -> Vec<Seat<Arc<str>>> {
        std::mem::take(&mut *self.seats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Feed {
        /// A feed without a node.
        pub fn for_test() -> (broadcast::Sender<Bytes>, Self) {
            let (send, news) = broadcast::channel(16);
            (send, Self { news, _seat: Parting { seat: None, left: Arc::default() } })
        }
    }
}
