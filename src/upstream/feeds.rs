//! Subscriptions: one at a node for all who want the same, and made anew at another node when theirs fails. What happens
//! between the two is not told: a feed is news, not a record.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, interval, sleep};

use crate::seats::Seats;
use crate::upstream::feed::{Feed, Left, Listener, Parting};
use crate::upstream::node::Node;
use crate::upstream::nodes::Nodes;
use crate::upstream::wire::{Heard, Wire};
use crate::upstream::{NodeError, Upstream, UpstreamError};

/// Subscriptions of one client, on all its sockets together; and different ones of all clients.
const MAX_OF_A_CLIENT: usize = 256;
const MAX_TOPICS: usize = 4096;

/// News that may wait for the slowest of those who listen; one that is further behind has lost some.
const MAX_WAITING: usize = 256;

/// Orders that wait for the hub.
const MAX_ORDERS: usize = 256;

/// How long somebody waits for a subscription.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(8);

/// Between two looks: whether the node lives, and who still listens.
const EVERY: Duration = Duration::from_secs(15);

/// A connection on which nothing came for so long, pings unanswered, is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Between two attempts to connect.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Feeds {
    seats: Arc<Seats<Arc<str>>>,
    left: Arc<Left>,
    /// To the hub, which begins with the first of them.
    orders: OnceLock<mpsc::Sender<Order>>,
}

#[derive(Debug)]
struct Order {
    params: Box<str>,
    who: Listener,
}

impl Upstream {
    /// News for this client, by these parameters of `eth_subscribe`.
    pub async fn subscribe(&self, client: &str, params: &RawValue) -> Result<Feed, UpstreamError> {
        let (nodes, feeds) = (&self.0.nodes, &self.0.feeds);
        let seat = feeds.seats.take(client.into()).ok_or(UpstreamError::Busy)?;
        let orders = feeds.orders.get_or_init(|| {
            let (orders, taken) = mpsc::channel(MAX_ORDERS);
            tokio::spawn(Hub::new(Arc::clone(nodes), taken, Arc::clone(&feeds.left)).run());
            orders
        });
        let (reply, subscribed) = oneshot::channel();
        let seat = Parting { seat: Some(seat), left: Arc::clone(&feeds.left) };
        let order = Order { params: params.get().into(), who: Listener { reply, seat } };
        orders.try_send(order).map_err(|_| UpstreamError::Busy)?;
        match tokio::time::timeout(SUBSCRIBED_WITHIN, subscribed).await {
            Ok(Ok(feed)) => feed,
            Ok(Err(_)) => Err(UpstreamError::Busy),
            Err(_) => Err(UpstreamError::Timeout),
        }
    }
}

impl Default for Feeds {
    fn default() -> Self {
        Self { seats: Seats::new(MAX_OF_A_CLIENT), left: Arc::default(), orders: OnceLock::new() }
    }
}

/// What all feeds of a chain have in common: one connection, to one node at a time.
struct Hub {
    nodes: Arc<Nodes>,
    orders: mpsc::Receiver<Order>,
    /// By their parameters.
    topics: HashMap<Box<str>, Topic>,
    /// What was asked of the node and not answered: by our id, the parameters, and since when.
    asked: HashMap<u64, (Box<str>, Instant)>,
    /// What it gave when nobody wanted it any more, by its names.
    unwanted: Vec<String>,
    left: Arc<Left>,
    next_id: u64,
}

struct Topic {
    feed: broadcast::Sender<Bytes>,
    /// The node's name for it.
    id: Option<String>,
    /// Who is told when the node has it.
    waiting: Vec<Listener>,
}

/// What a node sends.
#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<NodeError>,
    #[serde(borrow)]
    params: Option<Notice<'a>>,
}

#[derive(Deserialize)]
struct Notice<'a> {
    subscription: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

impl Hub {
    fn new(nodes: Arc<Nodes>, orders: mpsc::Receiver<Order>, left: Arc<Left>) -> Self {
        let (topics, asked, unwanted) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { nodes, orders, topics, asked, unwanted, left, next_id: 1 }
    }

    async fn run(mut self) {
        let mut rest = FIRST_REST;
        loop {
            // Nobody listens: no connection is needed.
            if self.topics.is_empty() {
                let Some(order) = self.orders.recv().await else { return };
                self.take(order);
            }
            let (node, mut wire) = match self.connect().await {
                Ok(connected) => connected,
                Err(error) => {
                    self.give_up(&error);
                    sleep(rest).await;
                    rest = rest.saturating_mul(2).min(LONGEST_REST);
                    continue;
                }
            };
            let began = Instant::now();
            let served = self.serve(&node, &mut wire).await;
            self.asked.clear();
            self.unwanted.clear();
            self.topics.values_mut().for_each(|topic| topic.id = None);
            if served.is_ok() || began.elapsed() > LONGEST_REST {
                rest = FIRST_REST;
            }
            match served {
                Ok(()) if self.orders.is_closed() => return,
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(node = node.name, %error, "subscriptions are made anew");
                    metrics::counter!("chancery_feeds_lost_total").increment(1);
                    // A node that takes us in and sends us away again is not asked as fast as it goes.
                    sleep(rest).await;
                    rest = rest.saturating_mul(2).min(LONGEST_REST);
                }
            }
        }
    }

    /// The best node that takes a WebSocket.
    async fn connect(&self) -> Result<(Arc<Node>, Wire), UpstreamError> {
        let mut failed = UpstreamError::Busy;
        for node in self.nodes.readers() {
            match node.socket().open().await {
                Ok(wire) => return Ok((node, wire)),
                Err(error) => {
                    tracing::debug!(node = node.name, %error, "no subscriptions there");
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    /// Until the connection fails, or nobody listens any more.
    async fn serve(&mut self, node: &Arc<Node>, wire: &mut Wire) -> Result<(), UpstreamError> {
        let wanted: Vec<_> = self.topics.keys().cloned().collect();
        for params in wanted {
            self.ask(wire, params).await?;
        }
        let mut look = interval(EVERY);
        look.reset();
        let left = Arc::clone(&self.left);
        let mut heard = Instant::now();
        while !self.topics.is_empty() {
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(order) = order else { return Ok(()) };
                    if let Some(params) = self.take(order) {
                        self.ask(wire, params).await?;
                    }
                }
                message = wire.hear() => {
                    heard = Instant::now();
                    if let Heard::Message(body) = message? {
                        self.hear(&body);
                    }
                }
                () = left.told.notified() => {}
                _ = look.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(UpstreamError::Timeout);
                    }
                    if !self.nodes.well().iter().any(|well| Arc::ptr_eq(well, node)) {
                        return Err(UpstreamError::garbage("it is behind, or failing; another node is not"));
                    }
                    wire.ping().await?;
                    self.sweep(wire).await?;
                }
            }
            for name in self.ended() {
                let (id, name) = (self.call_id(), serde_json::Value::String(name));
                let call =
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"eth_unsubscribe","params":[{name}]}}"#);
                wire.send(call).await?;
            }
        }
        Ok(())
    }

    /// Answers an order that can be answered now. Otherwise it waits; and the parameters are what the node is to be
    /// asked for, if it was not yet.
    fn take(&mut self, order: Order) -> Option<Box<str>> {
        let Order { params, who } = order;
        if let Some(topic) = self.topics.get_mut(&params) {
            if topic.id.is_some() {
                who.gets(topic.feed.subscribe());
            } else {
                topic.waiting.push(who);
            }
            return None;
        }
        if self.topics.len() >= MAX_TOPICS {
            who.misses(UpstreamError::Busy);
            return None;
        }
        let (feed, _) = broadcast::channel(MAX_WAITING);
        self.topics.insert(params.clone(), Topic { feed, id: None, waiting: vec![who] });
        Some(params)
    }

    async fn ask(&mut self, wire: &mut Wire, params: Box<str>) -> Result<(), UpstreamError> {
        let id = self.call_id();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"eth_subscribe","params":{params}}}"#);
        self.asked.insert(id, (params, Instant::now()));
        wire.send(text).await
    }

    fn call_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    fn hear(&mut self, body: &Bytes) {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
            tracing::debug!("a message of a node makes no sense");
            return;
        };
        if let Some(Notice { subscription, result }) = message.params {
            let topic = self.topics.values().find(|topic| topic.id.as_ref() == Some(&subscription));
            if let Some(topic) = topic {
                // Where nobody listens it is ended at the next look.
                drop(topic.feed.send(body.slice_ref(result.get().as_bytes())));
            }
            return;
        }
        let name = message.result.and_then(|result| serde_json::from_str::<String>(result.get()).ok());
        let asked = message.id.and_then(|id| self.asked.remove(&id));
        let topic = asked.and_then(|(params, _)| Some((self.topics.get_mut(&params)?, params)));
        let Some((topic, params)) = topic.filter(|(topic, _)| topic.id.is_none()) else {
            // Too late: it was asked again, or nobody wants it.
            self.unwanted.extend(name);
            return;
        };
        let refused = match (name, message.error) {
            (Some(name), None) => {
                topic.id = Some(name);
                for who in topic.waiting.drain(..) {
                    who.gets(topic.feed.subscribe());
                }
                return;
            }
            (_, Some(NodeError { code, message, data, held, .. })) => {
                UpstreamError::Node { code, message, data, held }
            }
            (None, None) => UpstreamError::garbage("no name for a subscription"),
        };
        for who in topic.waiting.drain(..) {
            who.misses(refused.clone());
        }
        // Those that had it from another node keep it, and this one is asked again.
        if topic.feed.receiver_count() == 0 {
            self.topics.remove(&params);
        }
    }

    /// Nobody has what these want, for now.
    fn give_up(&mut self, why: &UpstreamError) {
        while let Ok(order) = self.orders.try_recv() {
            self.take(order);
        }
        self.topics.retain(|_, topic| {
            for who in topic.waiting.drain(..) {
                who.misses(why.clone());
            }
            topic.feed.receiver_count() > 0
        });
        drop(self.left.take());
    }

    /// Forgets what nobody listens to: the node's names for it, which are to be ended there. Then, and not before, the seats of
    /// those who left are free.
    fn ended(&mut self) -> Vec<String> {
        let left = self.left.take();
        let mut names = std::mem::take(&mut self.unwanted);
        if left.is_empty() {
            return names;
        }
        self.topics.retain(|_, topic| {
            let is_idle = topic.feed.receiver_count() == 0 && topic.waiting.is_empty();
            names.extend(topic.id.take_if(|_| is_idle));
            !is_idle
        });
        names
    }

    /// Forgets who has hung up, and asks again for what the node did not give.
    async fn sweep(&mut self, wire: &mut Wire) -> Result<(), UpstreamError> {
        self.topics.values_mut().for_each(|topic| topic.waiting.retain(|who| !who.is_gone()));
        // Whoever waited for those has gone.
        self.asked.retain(|_, (_, since)| since.elapsed() < SUBSCRIBED_WITHIN);
        let is_asked = |params| self.asked.values().any(|(asked, _)| asked == params);
        let missing = self.topics.iter().filter(|(params, topic)| topic.id.is_none() && !is_asked(*params));
        let missing: Vec<_> = missing.map(|(params, _)| params.clone()).collect();
        for params in missing {
            self.ask(wire, params).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::seats::Seat;
    use crate::upstream::feed::{News, Subscribed};
    use crate::upstream::tests::{Fake, chain_of, still};

    /// A hub whose node was asked for everything that was ordered.
    struct Scene(Hub);

    impl Scene {
        fn new() -> Self {
            let nodes = Nodes::new(&chain_of(&[("a", "http://127.0.0.1:1")]), &still()).unwrap();
            Self(Hub::new(Arc::new(nodes), mpsc::channel(1).1, Arc::default()))
        }

        fn order(&mut self, params: &str) -> oneshot::Receiver<Subscribed> {
            self.order_with(params, None)
        }

        fn order_with(
            &mut self,
            params: &str,
            seat: Option<Seat<Arc<str>>>,
        ) -> oneshot::Receiver<Subscribed> {
            let (reply, subscribed) = oneshot::channel();
            let seat = Parting { seat, left: Arc::clone(&self.0.left) };
            let order = Order { params: params.into(), who: Listener { reply, seat } };
            if let Some(params) = self.0.take(order) {
                let id = self.0.call_id();
                self.0.asked.insert(id, (params, Instant::now()));
            }
            subscribed
        }

        fn hear(&mut self, text: &str) {
            self.0.hear(&Bytes::copy_from_slice(text.as_bytes()));
        }
    }

    #[tokio::test]
    async fn one_subscription_of_the_node_is_for_all_who_want_it() {
        let mut scene = Scene::new();
        let (first, second) = (scene.order(r#"["newHeads"]"#), scene.order(r#"["newHeads"]"#));
        assert_eq!(scene.0.asked.len(), 1);
        scene.hear(r#"{"jsonrpc":"2.0","id":1,"result":"0x9"}"#);
        let third = scene.order(r#"["newHeads"]"#);
        let mut feeds = Vec::new();
        for subscribed in [first, second, third] {
            feeds.push(subscribed.await.unwrap().unwrap());
        }
        scene
            .hear(r#"{"method":"eth_subscription","params":{"subscription":"0x8","result":{"not":"ours"}}}"#);
        scene.hear(r#"{"method":"eth_subscription","params":{"subscription":"0x9","result":{"a":1}}}"#);
        for feed in &mut feeds {
            assert_eq!(feed.next().await, News::Item(Bytes::from_static(br#"{"a":1}"#)));
        }
    }

    #[tokio::test]
    async fn a_nodes_refusal_is_told_and_nothing_stays_of_it() {
        let mut scene = Scene::new();
        for (id, answer) in [
            (1, r#"{"id":1,"error":{"code":-32602,"message":"no such topic"}}"#),
            (2, r#"{"id":2,"result":5}"#),
        ] {
            let refused = scene.order(r#"["logs",{}]"#);
            assert!(scene.0.asked.contains_key(&id));
            scene.hear(answer);
            assert!(refused.await.unwrap().is_err(), "{answer}");
            assert!(scene.0.topics.is_empty());
        }
        for nonsense in ["", "[]", "{}", r#"{"id":77,"result":"0x1"}"#] {
            scene.hear(nonsense);
        }
    }

    #[tokio::test]
    async fn where_no_node_is_there_those_that_wait_are_told_and_those_that_have_it_keep_it() {
        let mut scene = Scene::new();
        let had = scene.order(r#"["newHeads"]"#);
        scene.hear(r#"{"id":1,"result":"0x9"}"#);
        let _feed = had.await.unwrap().unwrap();
        let waits = scene.order(r#"["syncing"]"#);
        scene.0.give_up(&UpstreamError::Timeout);
        assert!(waits.await.unwrap().is_err());
        assert_eq!(scene.0.topics.len(), 1);
    }

    #[tokio::test]
    async fn those_that_had_it_keep_it_where_the_next_node_refuses_and_it_is_asked_again() {
        let mut scene = Scene::new();
        let had = scene.order(r#"["newHeads"]"#);
        scene.hear(r#"{"id":1,"result":"0x9"}"#);
        let mut feed = had.await.unwrap().unwrap();
        // As after a node is lost: the topic has no name any more, and another node is asked.
        scene.0.topics.values_mut().for_each(|topic| topic.id = None);
        scene.0.asked.insert(7, (r#"["newHeads"]"#.into(), Instant::now()));
        let joins = scene.order(r#"["newHeads"]"#);
        scene.hear(r#"{"id":7,"error":{"code":-32601,"message":"not here"}}"#);
        assert!(joins.await.unwrap().is_err(), "who came meanwhile is told");
        assert_eq!(scene.0.topics.len(), 1, "who had it still listens");
        scene.0.asked.insert(8, (r#"["newHeads"]"#.into(), Instant::now()));
        scene.hear(r#"{"id":8,"result":"0xa"}"#);
        scene.hear(r#"{"method":"eth_subscription","params":{"subscription":"0xa","result":{"a":1}}}"#);
        assert_eq!(feed.next().await, News::Item(Bytes::from_static(br#"{"a":1}"#)));
    }

    #[tokio::test]
    async fn inv_12_one_client_cannot_have_all_subscriptions() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        let params = RawValue::from_string(r#"["newHeads"]"#.to_owned()).unwrap();
        let seats = &upstream.0.feeds.seats;
        let held: Vec<_> = (0..MAX_OF_A_CLIENT).map(|_| seats.take("ada".into()).unwrap()).collect();
        assert!(matches!(upstream.subscribe("ada", &params).await, Err(UpstreamError::Busy)));
        // This node takes no WebSocket.
        let other = upstream.subscribe("bob", &params).await;
        assert!(matches!(other, Err(UpstreamError::Unreachable(_) | UpstreamError::Timeout)), "{other:?}");
        drop(held);
        let again = upstream.subscribe("ada", &params).await;
        assert!(!matches!(again, Err(UpstreamError::Busy)), "{again:?}");
    }

    #[tokio::test]
    async fn inv_12_who_subscribes_and_leaves_keeps_nobody_else_from_it() {
        let (mut scene, seats) = (Scene::new(), Seats::new(2));
        for n in 0..MAX_TOPICS + 8 {
            let seat = seats.take("ada".into()).expect("free, for what was there is ended");
            let subscribed = scene.order_with(&format!("[{n}]"), Some(seat));
            let id = *scene.0.asked.keys().next().unwrap();
            // Some hang up before the node has answered.
            let feed = Some(subscribed).filter(|_| n % 2 == 0);
            scene.hear(&format!(r#"{{"id":{id},"result":"{n}"}}"#));
            drop(feed);
            assert_eq!(scene.0.topics.len(), 1, "the seat is not free before it is gone");
            let told = timeout(Duration::from_secs(1), scene.0.left.told.notified()).await;
            assert!(told.is_ok(), "the hub is told");
            assert_eq!(scene.0.ended(), [n.to_string()]);
        }
        let other = scene.order_with(r#"["newHeads"]"#, seats.take("bob".into()));
        scene.hear(&format!(r#"{{"id":{},"result":"0x1"}}"#, scene.0.next_id - 1));
        let _feed = other.await.unwrap().unwrap();
        assert!(scene.0.ended().is_empty());
    }

    #[tokio::test]
    async fn inv_12_a_seat_is_taken_as_long_as_what_was_subscribed_to_is_there() {
        let (mut scene, seats) = (Scene::new(), Seats::new(1));
        let waits = scene.order_with("[1]", seats.take("ada".into()));
        drop(waits);
        assert!(seats.take("ada".into()).is_none(), "the node was asked, and has not answered");
        scene.hear(r#"{"id":1,"result":"0x1"}"#);
        assert!(seats.take("ada".into()).is_none(), "it is not ended yet");
        assert_eq!(scene.0.ended(), ["0x1"]);
        assert!(seats.take("ada".into()).is_some());
        scene.hear(r#"{"id":77,"result":"0x2"}"#);
        assert_eq!(scene.0.ended(), ["0x2"], "what came too late is ended too");
    }

    #[tokio::test]
    async fn inv_12_there_are_no_more_subscriptions_than_may_be() {
        let mut scene = Scene::new();
        let held: Vec<_> = (0..MAX_TOPICS).map(|n| scene.order(&format!("[{n}]"))).collect();
        assert!(matches!(scene.order("[\"newHeads\"]").await.unwrap(), Err(UpstreamError::Busy)));
        assert_eq!(held.len(), scene.0.topics.len());
    }
}
