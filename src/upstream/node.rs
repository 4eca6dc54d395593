//! One node of a chain: asked only while it says that it is on that chain, and within its places.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::Address;
use serde_json::Value;
use serde_json::value::to_raw_value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config;
use crate::room::{MAX_AWAITED, Room};
use crate::transaction::QuotedFees;
use crate::upstream::client::{Batched, Call, Client};
use crate::upstream::together::Together;
use crate::upstream::wire::Socket;
use crate::upstream::{Answer, UpstreamError};

#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    pub reads: bool,
    chain: String,
    client: Client,
    socket: Socket,
    chain_id: u64,
    clock: Clock,
    /// Reads of clients, and what a signature needs, are bounded apart: nobody's reads keep others from signing.
    places: Places,
    /// For the answers to questions of our own.
    room: Arc<Room>,
    /// What many signatures need to know at once.
    counts: Mutex<HashMap<Address, Arc<Together<u64>>>>,
    fees: Together<QuotedFees>,
    chain_says: Together<u64>,
    /// When it last said that it is on the pinned chain, in milliseconds; 0 where it did not, or failed since.
    on_chain: AtomicU64,
    is_failing: AtomicBool,
    /// In milliseconds.
    no_batch_before: AtomicU64,
    /// How many questions of our own go in one body: half as many after they took too long, and more again with time.
    own_batch: AtomicUsize,
    /// Its newest block when it was last looked at.
    head: AtomicU64,
    /// What a small question takes, smoothed, in microseconds.
    latency: AtomicU64,
}

#[derive(Debug)]
struct Places {
    reads: Semaphore,
    own: Semaphore,
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// With its room for the answer; without one it is counted with ours.
    Clients(Option<&'a Arc<Room>>),
    Own,
}

/// How a node does, as it was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub is_failing: bool,
    pub head: u64,
    pub latency: Duration,
}

/// How long a node's chain id is believed. A node does not change its chain, but the address behind a URL can.
pub(super) const CHAIN_ID_HOLDS: Duration = Duration::from_secs(10);

/// After a batch that was not answered as one.
const NO_BATCH_FOR: Duration = Duration::from_secs(60);

/// Calls to a node that are under way at once: each may need a connection of its own. Of reads four times what one client may
/// have by default: none fills them alone.
const READS: usize = 4 * MAX_AWAITED;
const OWN: usize = 256;

/// What answers to questions of our own may fill while they come, in bytes.
const OWN_ROOM: usize = 256 * 1024 * 1024;

/// Questions of our own that go in one body, at most.
const OWN_BATCH: usize = 32;

/// Of how many accounts the counts are asked together; a gateway has far fewer.
const MAX_COUNTS: usize = 4096;

/// How long a call waits for its place.
const PLACE_WITHIN: Duration = Duration::from_secs(2);

impl<'a> Whose<'a> {
    /// A client's own place, for each answer that it is to get: to be taken before anything that others wait for, too.
    pub(super) async fn place(self) -> Result<Option<SemaphorePermit<'a>>, UpstreamError> {
        let Whose::Clients(Some(room)) = self else { return Ok(None) };
        place(room.awaited()).await.map(Some).ok_or(UpstreamError::NoRoom)
    }
}

impl Places {
    async fn take(&self, whose: Whose<'_>) -> Result<SemaphorePermit<'_>, UpstreamError> {
        let places = match whose {
            Whose::Clients(_) => &self.reads,
            Whose::Own => &self.own,
        };
        place(places).await.ok_or(UpstreamError::Busy)
    }
}

async fn place(places: &Semaphore) -> Option<SemaphorePermit<'_>> {
    if let Ok(place) = places.try_acquire() {
        return Some(place);
    }
    tokio::time::timeout(PLACE_WITHIN, places.acquire()).await.ok()?.ok()
}

impl Node {
    pub(super) fn new(
        chain: &config::Chain,
        node: &config::Node,
        clock: Clock,
    ) -> Result<Self, UpstreamError> {
        Ok(Self {
            name: node.name.clone(),
            reads: node.reads,
            chain: chain.name.clone(),
            client: Client::new(chain, node, clock.clone())?,
            socket: Socket::new(chain, node, clock.clone())?,
            chain_id: chain.id,
            clock,
            places: Places { reads: Semaphore::new(READS), own: Semaphore::new(OWN) },
            room: Arc::new(Room::new(OWN_ROOM, None)),
            counts: Mutex::default(),
            fees: Together::default(),
            chain_says: Together::default(),
            on_chain: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            no_batch_before: AtomicU64::new(0),
            own_batch: AtomicUsize::new(OWN_BATCH),
            head: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        })
    }

    /// A read, passed on with the node's own word. A client's has its client's place already.
    pub(super) async fn read(&self, call: Call<'_>, whose: Whose<'_>) -> Result<Answer, UpstreamError> {
        let _place = self.places.take(whose).await?;
        self.pinned().await?;
        let answer = self.client.call(call, self.room_of(whose)).await;
        match whose {
            Whose::Clients(_) => self.noticed_of_clients(answer),
            Whose::Own => self.noticed(answer),
        }
    }

    /// Several reads in one body.
    pub(super) async fn put_batch(
        &self,
        calls: &[Call<'_>],
        whose: Whose<'_>,
    ) -> Result<Batched, UpstreamError> {
        let _place = self.places.take(whose).await?;
        self.pinned().await?;
        // Ours are large, and are asked for in other ways where they take too long.
        self.noticed_of_clients(self.client.batch(calls, self.room_of(whose)).await)
    }

    fn room_of<'a>(&'a self, whose: Whose<'a>) -> &'a Arc<Room> {
        match whose {
            Whose::Clients(Some(room)) => room,
            Whose::Clients(None) | Whose::Own => &self.room,
        }
    }

    pub(super) fn takes_batches(&self) -> bool {
        self.clock.now().millis() >= self.no_batch_before.load(Ordering::Relaxed)
    }

    /// It answered a small one as it should not, and is asked one by one for a while.
    pub(super) fn takes_no_batch(&self) {
        tracing::info!(node = self.name, "the node takes no batches: it is asked one by one");
        let rest = u64::try_from(NO_BATCH_FOR.as_millis()).unwrap_or(u64::MAX);
        self.no_batch_before.store(self.clock.now().millis().saturating_add(rest), Ordering::Relaxed);
    }

    /// How many questions of our own it is asked in one body.
    pub(super) fn own_batch(&self) -> usize {
        self.own_batch.load(Ordering::Relaxed)
    }

    /// So many were too many. Those who find that out at the same time say it once.
    pub(super) fn takes_fewer_than(&self, count: usize) {
        self.own_batch.fetch_min((count / 2).max(1), Ordering::Relaxed);
    }

    /// It may have got faster: a try costs one wait where it has not.
    pub(super) fn may_take_more(&self) {
        let more = |count: usize| Some(count.saturating_mul(2).min(OWN_BATCH));
        // It always changes: the closure never says no.
        let _ = self.own_batch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// A question of our own.
    pub(super) async fn ask(
        &self,
        method: &'static str,
        params: Option<Value>,
    ) -> Result<Answer, UpstreamError> {
        let _place = self.places.take(Whose::Own).await?;
        self.pinned().await?;
        self.put(method, params).await
    }

    /// How many transactions of an account are mined.
    pub(super) fn count_of(&self, account: Address) -> Arc<Together<u64>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_COUNTS {
            counts.clear();
        }
        Arc::clone(counts.entry(account).or_default())
    }

    pub(super) const fn fees_of_all(&self) -> &Together<QuotedFees> {
        &self.fees
    }

    /// Whether it is on the pinned chain; asked again when its last word on that is too old.
    pub(super) async fn pinned(&self) -> Result<(), UpstreamError> {
        let now = self.clock.now().millis();
        let at = self.on_chain.load(Ordering::Relaxed);
        let holds = u64::try_from(CHAIN_ID_HOLDS.as_millis()).unwrap_or(u64::MAX);
        if at != 0 && at <= now && now.saturating_sub(at) < holds {
            return Ok(());
        }
        self.on_chain.store(0, Ordering::Relaxed);
        // Once for all who need to know: each read does when the last word gets too old.
        let ask = || Box::pin(async { self.put("eth_chainId", None).await?.number::<u64>() });
        let found = self.chain_says.ask(ask).await?;
        if found != self.chain_id {
            return self.noticed(Err(UpstreamError::OtherChain { found, ours: self.chain_id }));
        }
        self.on_chain.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at it: chain, newest block, and how long it takes to say so.
    pub(super) async fn look(&self) -> Result<u64, UpstreamError> {
        let head = self.sound_out().await;
        let gauge = |metric| {
            let labels = [("chain", self.chain.clone()), ("node", self.name.clone())];
            metrics::gauge!(metric, &labels)
        };
        gauge("chancery_node_up").set(if head.is_ok() { 1.0 } else { 0.0 });
        if let Ok(head) = &head {
            #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a gauge is a float")]
            gauge("chancery_node_head").set(*head as f64);
        }
        head
    }

    async fn sound_out(&self) -> Result<u64, UpstreamError> {
        self.on_chain.store(0, Ordering::Relaxed);
        self.pinned().await?;
        let asked = Instant::now();
        let head = self.put("eth_blockNumber", None).await?.number()?;
        let latest = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.latency.load(Ordering::Relaxed);
        let smoothed = if before == 0 { latest } else { before.saturating_mul(3).saturating_add(latest) / 4 };
        self.latency.store(smoothed, Ordering::Relaxed);
        self.head.store(head, Ordering::Relaxed);
        self.is_failing.store(false, Ordering::Relaxed);
        Ok(head)
    }

    pub(super) fn condition(&self) -> Condition {
        Condition {
            is_failing: self.is_failing.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            latency: Duration::from_micros(self.latency.load(Ordering::Relaxed)),
        }
    }

    async fn put(&self, method: &'static str, params: Option<Value>) -> Result<Answer, UpstreamError> {
        let params =
            params.map(|params| to_raw_value(&params)).transpose().map_err(UpstreamError::garbage)?;
        self.noticed(self.client.call(Call { method, params: params.as_deref() }, &self.room).await)
    }

    /// After a failure there may be another node behind the same URL.
    fn noticed<T>(&self, answer: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        if let Err(error) = &answer {
            metrics::counter!("chancery_node_errors_total", "kind" => error.label()).increment(1);
            if error.is_about_the_node() {
                self.on_chain.store(0, Ordering::Relaxed);
                self.is_failing.store(true, Ordering::Relaxed);
            }
        }
        answer
    }

    /// The same, where what is asked may be what takes so long: a node does not fail because somebody asks it for too much.
    fn noticed_of_clients<T>(&self, answer: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        match &answer {
            Err(UpstreamError::Timeout) => {
                metrics::counter!("chancery_node_errors_total", "kind" => "timeout").increment(1);
                answer
            }
            _ => self.noticed(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::upstream::Upstream;
    use crate::upstream::tests::{Fake, Reply, still};

    #[tokio::test]
    async fn inv_12_reads_at_once_are_bounded_and_keep_nothing_else_from_the_node() {
        let fake = Fake::start().await;
        let chain = fake.chain();
        let mut node = Node::new(&chain, &chain.nodes[0], still()).unwrap();
        node.places.reads = Semaphore::new(5);
        fake.on("eth_blockNumber", Reply::Hang);
        fake.on("eth_getTransactionByHash", Reply::Result(Value::Null));
        node.pinned().await.unwrap();
        let call = Call { method: "eth_blockNumber", params: None };
        let reads = futures_util::future::join_all((0..8).map(|_| node.read(call, Whose::Clients(None))));
        let own = async {
            tokio::time::sleep(chain.timeout / 2).await;
            (fake.calls("eth_blockNumber").len(), node.ask("eth_getTransactionByHash", None).await)
        };
        let (reads, (asked, own)) = tokio::join!(reads, own);
        assert_eq!(asked, 5);
        assert!(own.is_ok(), "what a signature needs goes on");
        assert!(reads.iter().all(Result::is_err));
        assert_eq!(fake.calls("eth_blockNumber").len(), 8, "the others had their turn");
    }

    #[tokio::test]
    async fn inv_12_one_client_has_a_part_of_a_nodes_places() {
        let fake = Fake::start().await;
        let mut chain = fake.chain();
        // So many connect at once that some may have to try twice.
        chain.timeout = Duration::from_secs(10);
        let upstream = Upstream::new(&chain, &still()).unwrap();
        fake.on("eth_blockNumber", Reply::Hang);
        fake.on("eth_gasPrice", Reply::Result(json!("0x1")));
        let [ada, bob] = [(); 2].map(|()| Arc::new(Room::new(1 << 20, None)));
        upstream.forward(Some(&bob), "eth_gasPrice", None).await.unwrap();
        let node = Arc::clone(upstream.0.nodes.at(0).unwrap());
        node.takes_no_batch();
        // Each sixteen at once, or as many as there are places for.
        let batches =
            (0..READS / 8).map(|_| upstream.forward_batch(Some(&ada), &[("eth_blockNumber", None); 16]));
        let mut hanging = Box::pin(futures_util::future::join_all(batches));
        assert!(futures_util::poll!(&mut hanging).is_pending());
        assert_eq!(node.places.reads.available_permits(), READS - MAX_AWAITED);
        upstream.forward(Some(&bob), "eth_gasPrice", None).await.unwrap();
        drop(hanging);
        assert_eq!(ada.awaited().available_permits(), MAX_AWAITED, "whoever hangs up waits for nothing");
    }

    #[tokio::test]
    async fn the_chain_is_asked_for_once_by_all_who_need_to_know() {
        let fake = Fake::start().await;
        let chain = fake.chain();
        let node = Node::new(&chain, &chain.nodes[0], still()).unwrap();
        let all = futures_util::future::join_all((0..50).map(|_| node.pinned())).await;
        assert!(all.iter().all(Result::is_ok));
        assert!(fake.calls("eth_chainId").len() <= 2, "{:?}", fake.calls("eth_chainId"));
    }

    #[tokio::test]
    async fn a_look_tells_its_head_and_how_long_it_takes() {
        let fake = Fake::start().await;
        let chain = fake.chain();
        let node = Node::new(&chain, &chain.nodes[0], still()).unwrap();
        fake.on("eth_blockNumber", Reply::Result(json!("0x10")));
        assert_eq!(node.look().await.unwrap(), 16);
        let seen = node.condition();
        assert!(seen.head == 16 && !seen.is_failing && seen.latency > Duration::ZERO);
        fake.on("eth_blockNumber", Reply::Close);
        assert!(node.look().await.is_err());
        assert!(node.condition().is_failing);
    }
}
