//! Identical reads that come at the same time are asked once.
//!
//! Whoever joins a question that is under way gets what the node found a moment before it was asked. Two rules keep that
//! from being noticed: nobody joins a question that is older than [`FRESH`], nor one from before the gateway sent
//! something to the network; so a client never misses what it did itself. Who may ask, and which chain, is settled before: all
//! that comes here may be read by every client, and each chain has its own.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::upstream::client::Call;
use crate::upstream::{Answer, NodeError, UpstreamError};

/// How old a question may be that is joined: far less than a block.
const FRESH: Duration = Duration::from_millis(50);

/// How long somebody waits for an answer that was asked for by another, before it asks by itself.
const WAITS: Duration = Duration::from_secs(2);

/// Longer parameters are not compared.
const MAX_PARAMS: usize = 16 * 1024;

/// So that readers do not wait for each other's locks; each is held for a look into a map.
const SHARDS: usize = 32;

type Outcome = Result<Answer, UpstreamError>;

#[derive(Debug)]
pub(super) struct Flights {
    shards: Vec<Mutex<HashMap<u64, Arc<Flight>>>>,
    hasher: RandomState,
    /// How often something was sent to the network.
    sent: AtomicU64,
}

/// A question that is under way.
#[derive(Debug)]
struct Flight {
    method: &'static str,
    params: Box<str>,
    since: Instant,
    sent: u64,
    /// Made by the first who joins: most questions nobody else asks.
    answer: OnceLock<watch::Sender<Option<Outcome>>>,
}

/// The first to ask, until it has the answer. Dropped without one (its client hung up), those that wait ask themselves.
struct Lead<'a> {
    flights: &'a Flights,
    key: u64,
    flight: Arc<Flight>,
}

enum Place<'a> {
    Lead(Lead<'a>),
    Join(watch::Receiver<Option<Outcome>>),
    Alone,
}

impl Default for Flights {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), sent: AtomicU64::new(0) }
    }
}

impl Flights {
    /// Something is sent to the network, or was: what is asked before that is no answer to what is asked after it.
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// The answer to this call, asked by `ask` or by somebody else just now.
    pub(super) async fn share<F>(&self, call: Call<'_>, ask: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Outcome>,
    {
        // Those who waited in vain ask together once more.
        for _ in 0..2 {
            match self.place(call) {
                Place::Alone => break,
                Place::Lead(lead) => {
                    let answer = ask().await;
                    return lead.land(answer);
                }
                Place::Join(mut answer) => {
                    // The first may itself be kept waiting, by a client that does not read.
                    if let Ok(Ok(answer)) = timeout(WAITS, answer.wait_for(Option::is_some)).await
                        && let Some(answer) = answer.clone()
                    {
                        metrics::counter!("chancery_reads_shared_total").increment(1);
                        return answer;
                    }
                }
            }
        }
        ask().await
    }

    fn place(&self, call: Call<'_>) -> Place<'_> {
        let params = call.params.map_or("", RawValue::get);
        if params.len() > MAX_PARAMS {
            return Place::Alone;
        }
        let key = self.hasher.hash_one((call.method, params));
        let now = Instant::now();
        let sent = self.sent.load(Ordering::SeqCst);
        let Some(mut shard) = self.shard(key) else { return Place::Alone };
        let new = || {
            let answer = OnceLock::new();
            Arc::new(Flight { method: call.method, params: params.into(), since: now, sent, answer })
        };
        let flight = match shard.entry(key) {
            Entry::Vacant(place) => Arc::clone(place.insert(new())),
            Entry::Occupied(mut place) => {
                let flight = place.get();
                let is_same = flight.method == call.method && *flight.params == *params;
                let is_fresh = flight.sent == sent && now.duration_since(flight.since) < FRESH;
                if is_same && is_fresh {
                    return Place::Join(flight.answer.get_or_init(|| watch::Sender::new(None)).subscribe());
                }
                // The older one goes on for those that wait for it.
                let flight = new();
                place.insert(Arc::clone(&flight));
                flight
            }
        };
        drop(shard);
        Place::Lead(Lead { flights: self, key, flight })
    }

    fn shard(&self, key: u64) -> Option<std::sync::MutexGuard<'_, HashMap<u64, Arc<Flight>>>> {
        let place = usize::try_from(key).unwrap_or_default() % SHARDS;
        Some(self.shards.get(place)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lead<'_> {
    /// Hands the answer to those that wait, and back. Where nobody does it is not shared, and may be changed in place.
    fn land(self, answer: Outcome) -> Outcome {
        self.leave();
        // Others may have room where this client has none. And a large error, unlike a result, is copied by each who gets
        // it, and counted for one: they ask by themselves.
        let is_large = matches!(
            &answer,
            Ok(Answer::Error(NodeError { held: Some(_), .. }))
                | Err(UpstreamError::Node { held: Some(_), .. })
        );
        if is_large || matches!(answer, Err(UpstreamError::NoRoom)) {
            return answer;
        }
        if let Some(others) = self.flight.answer.get().filter(|others| others.receiver_count() > 0) {
            others.send_replace(Some(answer.clone()));
        }
        answer
    }

    /// From here on nobody joins.
    fn leave(&self) {
        if let Some(mut shard) = self.flights.shard(self.key)
            && shard.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            shard.remove(&self.key);
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;
    use serde_json::value::to_raw_value;
    use tokio::sync::Notify;

    use super::*;

    fn call(params: &RawValue) -> Call<'_> {
        Call { method: "eth_call", params: Some(params) }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a node gives")]
    fn answer() -> Outcome {
        Ok(Answer::Result(to_raw_value("0x1").unwrap().into()))
    }

    /// How often the node is asked by these, which all come before the first answer.
    async fn asked_by(flights: &Flights, all: &[Box<RawValue>], between: impl Fn(usize)) -> usize {
        let (asked, go) = (AtomicUsize::new(0), Notify::new());
        let ask = async || {
            asked.fetch_add(1, Ordering::SeqCst);
            go.notified().await;
            go.notify_one();
            answer()
        };
        let reads = all.iter().enumerate().map(async |(i, params)| {
            for _ in 0..i {
                tokio::task::yield_now().await;
            }
            between(i);
            flights.share(call(params), &ask).await
        });
        let start = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            go.notify_one();
        };
        let (answers, ()) = tokio::join!(join_all(reads), start);
        assert!(answers.iter().all(Result::is_ok));
        assert!(
            flights.shards.iter().all(|shard| shard.lock().unwrap().is_empty()),
            "nothing is left behind"
        );
        asked.into_inner()
    }

    fn params(all: &[u8]) -> Vec<Box<RawValue>> {
        all.iter().map(|one| to_raw_value(&[*one]).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_asked_by_several_at_once_is_asked_once() {
        let flights = Flights::default();
        assert_eq!(asked_by(&flights, &params(&[1; 10]), |_| ()).await, 1);
        assert_eq!(asked_by(&flights, &params(&[1, 2, 1, 2, 3]), |_| ()).await, 3);
    }

    #[tokio::test]
    async fn nobody_joins_a_question_from_before_something_was_sent() {
        let flights = Flights::default();
        let send = |i| {
            if i == 3 {
                flights.sent();
            }
        };
        assert_eq!(asked_by(&flights, &params(&[1; 6]), send).await, 2);
    }

    #[tokio::test]
    async fn nobody_joins_a_question_that_is_old() {
        let flights = Flights::default();
        let all = params(&[1]);
        let asked = AtomicUsize::new(0);
        let slow = async || {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(FRESH * 3).await;
            answer()
        };
        let late = async {
            tokio::time::sleep(FRESH).await;
            flights.share(call(&all[0]), &slow).await
        };
        let (first, second) = tokio::join!(flights.share(call(&all[0]), &slow), late);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(asked.into_inner(), 2);
    }

    #[tokio::test]
    async fn who_hangs_up_leaves_the_question_to_those_that_wait() {
        let flights = Flights::default();
        let all = params(&[1]);
        let lead = flights.share(call(&all[0]), std::future::pending);
        let mut lead = Box::pin(lead);
        assert!(futures_util::poll!(lead.as_mut()).is_pending());
        let mut join = Box::pin(flights.share(call(&all[0]), async || answer()));
        assert!(futures_util::poll!(join.as_mut()).is_pending());
        drop(lead);
        assert!(join.await.is_ok());
    }

    #[tokio::test]
    async fn inv_12_who_has_no_room_leaves_the_question_to_those_that_wait() {
        let flights = Flights::default();
        let all = params(&[1]);
        let full = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err(UpstreamError::NoRoom)
        };
        let (lead, join) = tokio::join!(
            flights.share(call(&all[0]), || full),
            flights.share(call(&all[0]), async || answer())
        );
        assert!(matches!(lead, Err(UpstreamError::NoRoom)) && join.is_ok());
    }

    #[tokio::test]
    async fn inv_12_who_is_kept_waiting_keeps_nobody_else() {
        let flights = Flights::default();
        let all = params(&[1]);
        let mut lead = Box::pin(flights.share(call(&all[0]), std::future::pending));
        assert!(futures_util::poll!(lead.as_mut()).is_pending());
        assert!(timeout(WAITS * 10, flights.share(call(&all[0]), async || answer())).await.unwrap().is_ok());
    }
}
