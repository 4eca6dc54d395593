//! Filters: each lives in the node that made it, and is its client's alone. Clients see names of our own, for two nodes
//! may give the same one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::room::Room;
use crate::seats::{Seat, Seats};
use crate::upstream::client::Call;
use crate::upstream::error::METHOD_NOT_FOUND;
use crate::upstream::node::{Node, Whose};
use crate::upstream::{Answer, NodeError, Upstream, UpstreamError};

/// Filters that one client may have.
const MAX_OF_A_CLIENT: usize = 256;

/// After so long without a question a filter is forgotten; nodes forget theirs after five minutes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// As geth says it.
const NOT_FOUND: (i32, &str) = (-32000, "filter not found");

#[derive(Debug)]
pub(super) struct Filters {
    seats: Arc<Seats<Arc<str>>>,
    all: Mutex<HashMap<String, Filter>>,
}

#[derive(Clone, Debug)]
struct Filter {
    client: Arc<str>,
    /// Taken before the node is asked, so that no more are made at the same time either.
    _seat: Arc<Seat<Arc<str>>>,
    /// The node's place, and its name for the filter.
    node: usize,
    id: Arc<RawValue>,
    used: Instant,
    /// The node is being asked to end it: it is nobody's any more.
    ends: bool,
}

impl Upstream {
    /// Makes a filter for this client: `eth_newFilter` and its relatives. It is made, and counted, whether or not the client
    /// still waits: whoever asks and hangs up, again and again, would have as many of a node's as he likes.
    pub async fn new_filter(
        &self,
        (client, room): (&str, Option<&Arc<Room>>),
        method: &'static str,
        params: Option<&RawValue>,
    ) -> Result<Answer, UpstreamError> {
        let client: Arc<str> = client.into();
        let Some(seat) = self.0.filters.seat(&client) else {
            return Ok(refusal((-32005, "too many filters; uninstall those that are not needed any more")));
        };
        let (upstream, room) = (self.clone(), room.cloned());
        let params = params.map(ToOwned::to_owned);
        let (reply, made) = oneshot::channel();
        tokio::spawn(async move {
            let call = Call { method, params: params.as_deref() };
            let made = upstream.make_filter((client, seat), room.as_ref(), call, || reply.is_closed()).await;
            // Whoever hung up in this moment has one that is forgotten with time.
            drop(reply.send(made));
        });
        made.await.unwrap_or(Err(UpstreamError::Busy))
    }

    async fn make_filter(
        &self,
        (client, seat): (Arc<str>, Seat<Arc<str>>),
        room: Option<&Arc<Room>>,
        call: Call<'_>,
        is_unwanted: impl Fn() -> bool,
    ) -> Result<Answer, UpstreamError> {
        let whose = Whose::Clients(room);
        let _own = whose.place().await?;
        let make = async |node: Arc<Node>| {
            let answer = node.read(call, whose).await.and_then(Answer::or_elsewhere)?;
            Ok((node, answer))
        };
        let (node, result) = match self.0.nodes.first(make).await {
            Ok((node, Answer::Result(result))) => (node, result),
            Ok((_, error)) => return Ok(error),
            Err(error) => return Answer::told(Err(error)),
        };
        let id = serde_json::from_slice::<Box<RawValue>>(result.bytes()).map_err(UpstreamError::garbage)?;
        let node = self.0.nodes.place_of(&node).ok_or(UpstreamError::Busy)?;
        let name = name()?;
        let shown = to_raw_value(&name).map_err(UpstreamError::garbage)?;
        let (seat, used, ends) = (Arc::new(seat), Instant::now(), is_unwanted());
        let filter = Filter { client, _seat: seat, node, id: id.into(), used, ends };
        self.0.filters.put(name.clone(), filter.clone());
        if ends {
            return self.end_filter(&name, filter).await;
        }
        Ok(Answer::Result(shown.into()))
    }

    /// Its seat is free when the node does not have it any more; else when it is forgotten.
    async fn end_filter(&self, name: &str, filter: Filter) -> Result<Answer, UpstreamError> {
        let Some(node) = self.0.nodes.at(filter.node) else { return Ok(refusal(NOT_FOUND)) };
        let params = to_raw_value(&(filter.id,)).map_err(UpstreamError::garbage)?;
        let end = Call { method: "eth_uninstallFilter", params: Some(&params) };
        // That its client has too much under way is no reason to keep it.
        let answer = node.read(end, Whose::Clients(None)).await;
        match &answer {
            Ok(Answer::Result(_)) => self.0.filters.forget(name),
            // Not the method: the filter.
            Ok(Answer::Error(error))
                if error.code != METHOD_NOT_FOUND && error.message.contains("not found") =>
            {
                self.0.filters.forget(name);
            }
            Ok(Answer::Error(_)) | Err(_) => self.0.filters.keep(name),
        }
        answer
    }

    /// Asks the node that has a client's filter: for what is new, for all of it, or to forget it.
    pub async fn filter(
        &self,
        (client, room): (&str, Option<&Arc<Room>>),
        method: &'static str,
        params: Option<&RawValue>,
    ) -> Result<Answer, UpstreamError> {
        let named = params.and_then(|params| serde_json::from_str::<(String,)>(params.get()).ok());
        let filters = &self.0.filters;
        let ends = method == "eth_uninstallFilter";
        let found = named.and_then(|(name,)| Some((filters.of(client, &name, ends)?, name)));
        let Some((filter, name)) = found else {
            // Uninstalling what is not there is answered by no, as the nodes do.
            let is_about_the_end = ends && params.is_some();
            let no = RawValue::from_string("false".to_owned()).map_err(UpstreamError::garbage)?;
            return Ok(if is_about_the_end { Answer::Result(no.into()) } else { refusal(NOT_FOUND) });
        };
        if ends {
            let upstream = self.clone();
            // Whoever hangs up meanwhile has it ended all the same.
            let ended = tokio::spawn(async move { upstream.end_filter(&name, filter).await });
            return ended.await.unwrap_or(Err(UpstreamError::Busy));
        }
        let Some(node) = self.0.nodes.at(filter.node) else { return Ok(refusal(NOT_FOUND)) };
        let params = to_raw_value(&(filter.id,)).map_err(UpstreamError::garbage)?;
        let whose = Whose::Clients(room);
        let _own = whose.place().await?;
        node.read(Call { method, params: Some(&params) }, whose).await
    }
}

impl Default for Filters {
    fn default() -> Self {
        Self { seats: Seats::new(MAX_OF_A_CLIENT), all: Mutex::default() }
    }
}

impl Filters {
    /// Room for one more of this client's.
    fn seat(&self, client: &Arc<str>) -> Option<Seat<Arc<str>>> {
        self.lock().retain(|_, filter| filter.used.elapsed() < FORGOTTEN_AFTER);
        self.seats.take(Arc::clone(client))
    }

    fn put(&self, name: String, filter: Filter) {
        let mut filters = self.lock();
        // A node that was started anew may give a number a second time: it is the newer filter's.
        filters.retain(|_, other| other.node != filter.node || other.id.get() != filter.id.get());
        filters.insert(name, filter);
    }

    /// Nobody learns of another client's filter. With `ends` whoever gets it is to end it, and nobody else does.
    fn of(&self, client: &str, name: &str, ends: bool) -> Option<Filter> {
        let mut filters = self.lock();
        let filter = filters.get_mut(name).filter(|filter| &*filter.client == client && !filter.ends)?;
        (filter.used, filter.ends) = (Instant::now(), ends);
        Some(filter.clone())
    }

    /// It could not be ended: whoever has it may try again.
    fn keep(&self, name: &str) {
        if let Some(filter) = self.lock().get_mut(name) {
            filter.ends = false;
        }
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Filter>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal((code, message): (i32, &str)) -> Answer {
    Answer::Error(NodeError {
        code,
        message: message.to_owned(),
        data: None,
        names_its_call: true,
        held: None,
    })
}

/// As geth writes them: hexadecimal digits of a random number.
fn name() -> Result<String, UpstreamError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| UpstreamError::garbage("the system gives no randomness"))?;
    Ok(format!("{:#x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::tests::{Fake, Reply, chain_of, still};

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    fn text(answer: Result<Answer, UpstreamError>) -> Result<String, String> {
        match answer.unwrap() {
            Answer::Result(json) => Ok(String::from_utf8(json.bytes().to_vec()).unwrap()),
            Answer::Error(error) => Err(error.message),
        }
    }

    #[tokio::test]
    async fn a_filter_stays_with_its_node_and_its_client() {
        let nodes = [Fake::start().await, Fake::start().await];
        let chain = chain_of(&[("one", &nodes[0].url), ("two", &nodes[1].url)]);
        let upstream = Upstream::new(&chain, &still()).unwrap();
        for (node, fake) in nodes.iter().enumerate() {
            // Both give it the same name.
            fake.on("eth_newFilter", Reply::Result(json!("0x1")));
            fake.on("eth_getFilterChanges", Reply::Result(json!([node])));
            fake.on("eth_uninstallFilter", Reply::Result(json!(true)));
        }
        let asked = raw(&json!([{}]));
        let make = || upstream.new_filter(("ada", None), "eth_newFilter", Some(&asked));
        let one = text(make().await).unwrap();
        nodes[0].on("eth_newFilter", Reply::Close);
        let two = text(make().await).unwrap();
        assert_ne!(one, two);
        let params = |name: &str| raw(&json!([serde_json::from_str::<String>(name).unwrap()]));
        let ask = async |client: &str, method: &'static str, name: &str| {
            text(upstream.filter((client, None), method, Some(&params(name))).await)
        };
        assert_eq!(ask("ada", "eth_getFilterChanges", &one).await.unwrap(), "[0]");
        assert_eq!(ask("ada", "eth_getFilterChanges", &two).await.unwrap(), "[1]");
        assert_eq!(nodes[1].calls("eth_getFilterChanges"), [json!(["0x1"])], "by the node's own name");
        assert_eq!(ask("bob", "eth_getFilterChanges", &one).await.unwrap_err(), "filter not found");
        assert_eq!(ask("bob", "eth_uninstallFilter", &one).await.unwrap(), "false");
        assert_eq!(ask("ada", "eth_uninstallFilter", &one).await.unwrap(), "true");
        assert_eq!(ask("ada", "eth_getFilterChanges", &one).await.unwrap_err(), "filter not found");
        assert_eq!(ask("ada", "eth_getFilterChanges", "\"0x1\"").await.unwrap_err(), "filter not found");
    }

    #[tokio::test]
    async fn inv_12_a_client_has_no_more_filters_than_it_may() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        let make = async |client| text(upstream.new_filter((client, None), "eth_newBlockFilter", None).await);
        for number in 0..MAX_OF_A_CLIENT {
            fake.on("eth_newBlockFilter", Reply::Result(json!(format!("{number:#x}"))));
            make("ada").await.unwrap();
        }
        assert!(make("ada").await.unwrap_err().contains("too many"));
        fake.on("eth_newBlockFilter", Reply::Result(json!("0xffff")));
        assert!(make("bob").await.is_ok());
    }

    #[tokio::test]
    async fn inv_12_filters_that_are_made_at_the_same_time_are_no_more_than_may_be() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_newBlockFilter", Reply::Hang);
        let make = || upstream.new_filter(("ada", None), "eth_newBlockFilter", None);
        let seats = &upstream.0.filters.seats;
        let others: Vec<_> = (1..MAX_OF_A_CLIENT).map(|_| seats.take("ada".into()).unwrap()).collect();
        let mut under_way = Box::pin(make());
        assert!(futures_util::poll!(&mut under_way).is_pending());
        assert!(text(make().await).unwrap_err().contains("too many"));
        drop(under_way);
        assert!(seats.take("ada".into()).is_none(), "the node may make it all the same");
        drop(others);
    }

    #[tokio::test]
    async fn inv_12_a_filter_whose_asker_has_hung_up_is_ended_at_its_node() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_newBlockFilter", Reply::Result(json!("0x7")));
        fake.on("eth_uninstallFilter", Reply::Result(json!(true)));
        let mut under_way = Box::pin(upstream.new_filter(("ada", None), "eth_newBlockFilter", None));
        assert!(futures_util::poll!(&mut under_way).is_pending());
        drop(under_way);
        let seats = Arc::clone(&upstream.0.filters.seats);
        tokio::time::timeout(Duration::from_secs(10), async {
            while !seats.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(fake.calls("eth_uninstallFilter"), [json!(["0x7"])]);
        assert!(upstream.0.filters.lock().is_empty());
    }

    #[tokio::test]
    async fn inv_12_a_filter_counts_until_its_node_has_ended_it() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_newBlockFilter", Reply::Result(json!("0x7")));
        let name = text(upstream.new_filter(("ada", None), "eth_newBlockFilter", None).await).unwrap();
        let params = raw(&json!([serde_json::from_str::<String>(&name).unwrap()]));
        let end = || upstream.filter(("ada", None), "eth_uninstallFilter", Some(&params));
        let seats = Arc::clone(&upstream.0.filters.seats);
        fake.on("eth_uninstallFilter", Reply::Close);
        end().await.unwrap_err();
        assert!(!seats.is_empty(), "the node has it still");
        fake.on("eth_uninstallFilter", Reply::Result(json!(true)));
        let mut under_way = Box::pin(end());
        assert!(futures_util::poll!(&mut under_way).is_pending());
        drop(under_way);
        tokio::time::timeout(Duration::from_secs(10), async {
            while !seats.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(text(end().await).unwrap(), "false", "it is gone");
    }

    #[tokio::test]
    async fn a_number_that_a_node_gives_again_after_a_restart_is_the_newer_filters() {
        let fake = Fake::start().await;
        let upstream = fake.upstream(&still());
        fake.on("eth_newBlockFilter", Reply::Result(json!("0x1")));
        fake.on("eth_getFilterChanges", Reply::Result(json!([])));
        let make = async |client| text(upstream.new_filter((client, None), "eth_newBlockFilter", None).await);
        let (of_ada, of_bob) = (make("ada").await.unwrap(), make("bob").await.unwrap());
        let changes = async |client, name: String| {
            let params = to_raw_value(&json!([serde_json::from_str::<String>(&name).unwrap()])).unwrap();
            text(upstream.filter((client, None), "eth_getFilterChanges", Some(&params)).await)
        };
        assert!(changes("ada", of_ada).await.unwrap_err().contains("filter not found"));
        assert_eq!(changes("bob", of_bob).await.unwrap(), "[]");
    }
}
