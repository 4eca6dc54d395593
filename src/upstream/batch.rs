//! Several reads in one body, for nodes that take that; one by one for those that do not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::clock::after;
use crate::room::Room;
use crate::upstream::answer::Written;
use crate::upstream::client::{Batched, Call};
use crate::upstream::node::{Node, Whose};
use crate::upstream::{Answer, Upstream, UpstreamError};

/// How many reads of a batch may be under way at once where they are asked one by one; and how many go in one body where all
/// of them are too much for one.
const LANES: usize = 16;

/// How long a node that takes no batch is asked for what is in one: each call has its own deadline, but there may be
/// many.
const ONE_BY_ONE_WITHIN: Duration = Duration::from_secs(20);

/// How long other nodes are asked for what the first could not answer.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

type Outcome = Result<Answer, UpstreamError>;

impl Upstream {
    /// Asks all of these, and passes each answer on, in their order.
    pub async fn forward_batch(
        &self,
        room: Option<&Arc<Room>>,
        calls: &[(&'static str, Option<&RawValue>)],
    ) -> Vec<Outcome> {
        self.forward_batch_within(room, calls, AGAIN_WITHIN).await
    }

    async fn forward_batch_within(
        &self,
        room: Option<&Arc<Room>>,
        calls: &[(&'static str, Option<&RawValue>)],
        again_within: Duration,
    ) -> Vec<Outcome> {
        let calls: Vec<Call<'_>> =
            calls.iter().map(|(method, params)| Call { method, params: *params }).collect();
        let answers = match self.ask_batch(room, &calls).await {
            Ok(answers) => answers,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        // What this node could not answer, another may.
        let again = self.0.nodes.are_several();
        let mut told = Vec::with_capacity(answers.len());
        let until = after(again_within);
        for (call, answer) in calls.iter().zip(answers) {
            told.push(match answer {
                Err(error) if again && error.may_differ_elsewhere() && Instant::now() < until => {
                    Answer::told(self.forward(room, call.method, call.params).await)
                }
                other => Answer::told(other),
            });
        }
        told
    }

    /// However many nodes are asked, what it takes of its client's places is taken once.
    async fn ask_batch(
        &self,
        room: Option<&Arc<Room>>,
        calls: &[Call<'_>],
    ) -> Result<Vec<Outcome>, UpstreamError> {
        let whose = Whose::Clients(room);
        let _first = whose.place().await?;
        let lanes = Lanes::of(room);
        let read = async |node: Arc<Node>| node.read_batch(calls, whose, &lanes).await;
        self.0.nodes.first(read).await
    }
}

/// How many reads of a batch are under way at once where they are asked one by one.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    places: Option<&'a Semaphore>,
    /// Beside its first.
    more: Mutex<Option<SemaphorePermit<'a>>>,
}

impl<'a> Lanes<'a> {
    /// Of a client, or of ours.
    pub(super) fn of(room: Option<&'a Arc<Room>>) -> Self {
        Self { places: room.map(|room| room.awaited()), more: Mutex::default() }
    }

    /// For so many calls as many as its client has places for by now: nobody waits for one with another in his hand.
    fn count(&self, calls: usize) -> usize {
        let Some(places) = self.places else { return LANES };
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |more: &Option<SemaphorePermit<'_>>| {
            more.as_ref().map_or(0, SemaphorePermit::num_permits).saturating_add(1)
        };
        let missing = calls.min(LANES).saturating_sub(there(&more));
        let free = u32::try_from(places.available_permits().min(missing)).unwrap_or_default();
        if let Some(got) = (free > 0).then(|| places.try_acquire_many(free).ok()).flatten() {
            match &mut *more {
                Some(more) => more.merge(got),
                none => *none = Some(got),
            }
        }
        there(&more)
    }
}

impl Node {
    /// Each with its own answer; an error where there is nobody to ask.
    pub(super) async fn read_batch(
        &self,
        calls: &[Call<'_>],
        whose: Whose<'_>,
        lanes: &Lanes<'_>,
    ) -> Result<Vec<Outcome>, UpstreamError> {
        self.read_batch_within(calls, (whose, lanes), ONE_BY_ONE_WITHIN).await
    }

    async fn read_batch_within(
        &self,
        calls: &[Call<'_>],
        (whose, lanes): (Whose<'_>, &Lanes<'_>),
        one_by_one_within: Duration,
    ) -> Result<Vec<Outcome>, UpstreamError> {
        let is_one = calls.len() == 1 && matches!(whose, Whose::Own);
        // What is too much for one body may fit into several.
        let mut in_pieces = false;
        if self.takes_batches() && !is_one {
            match (self.put_batch(calls, whose).await, whose) {
                (Ok(Batched::Each(answers)), _) => {
                    return Ok(answers.into_iter().map(Answer::or_elsewhere).collect());
                }
                // Ours are larger than clients' are: one that is refused, or takes longer than a call may, says nothing of
                // theirs.
                (Ok(_) | Err(UpstreamError::Timeout), Whose::Own) => self.takes_fewer_than(calls.len()),
                (Ok(_), Whose::Clients(_)) if calls.len() > LANES => in_pieces = true,
                (Ok(Batched::NotThese), Whose::Clients(_)) => {}
                (Ok(Batched::No), Whose::Clients(_)) => self.takes_no_batch(),
                (Err(error), _) => return Err(error),
            }
        }
        let mut answers = Vec::with_capacity(calls.len());
        let until = after(one_by_one_within);
        for some in calls.chunks(LANES) {
            if Instant::now() >= until {
                answers.extend(some.iter().map(|_| Err(UpstreamError::Timeout)));
                continue;
            }
            if in_pieces && self.takes_batches() {
                match self.put_batch(some, whose).await {
                    Ok(Batched::Each(each)) => {
                        answers.extend(each.into_iter().map(Answer::or_elsewhere));
                        continue;
                    }
                    Ok(Batched::NotThese) => {}
                    Ok(Batched::No) => self.takes_no_batch(),
                    Err(error) => {
                        answers.extend(some.iter().map(|_| Err(error.clone())));
                        continue;
                    }
                }
            }
            for some in some.chunks(lanes.count(calls.len())) {
                if Instant::now() >= until {
                    answers.extend(some.iter().map(|_| Err(UpstreamError::Timeout)));
                    continue;
                }
                let some = join_all(some.iter().map(|call| self.read(*call, whose))).await;
                answers.extend(some.into_iter().map(|answer| answer.and_then(Answer::or_elsewhere)));
            }
        }
        Ok(answers)
    }
}

/// The answers to the calls with the ids from this one on, in their order; `None` where that is not what this is. Every
/// letter is looked at: these go into one body with others.
pub(super) fn read(body: &Bytes, first: u64, count: usize) -> Option<Vec<Answer>> {
    let written: Vec<Written<'_>> = serde_json::from_slice(body).ok()?;
    let mut answers: Vec<Option<Answer>> = vec![None; count];
    for one in written {
        let id = one.id()?;
        let place = answers.get_mut(usize::try_from(id.checked_sub(first)?).ok()?)?;
        // Two answers to one call are none.
        if place.replace(one.answer(body, id).ok()?).is_some() {
            return None;
        }
    }
    answers.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::tests::{Fake, Reply, chain_of, still};

    fn answers(text: &str) -> Option<Vec<String>> {
        let shown = |answer: Answer| match answer {
            Answer::Result(json) => String::from_utf8(json.bytes().to_vec()).unwrap(),
            Answer::Error(error) => error.message,
        };
        Some(read(&Bytes::copy_from_slice(text.as_bytes()), 7, 2)?.into_iter().map(shown).collect())
    }

    #[test]
    fn inv_11_a_batch_is_answered_call_by_call_or_not_at_all() {
        let good =
            r#"[{"id":8,"error":{"code":1,"message":"no"}}, {"jsonrpc":"2.0","id":7,"result":{"a":1}}]"#;
        assert_eq!(answers(good).unwrap(), [r#"{"a":1}"#, "no"]);
        for bad in [
            r#"{"id":7,"error":{"code":1,"message":"no batches"}}"#,
            r#"[{"id":7,"result":1}]"#,
            r#"[{"id":7,"result":1},{"id":7,"result":2}]"#,
            r#"[{"id":7,"result":1},{"id":9,"result":2}]"#,
            r#"[{"id":7,"result":1},{"id":6,"result":2}]"#,
            r#"[{"id":7,"result":1},{"id":null,"error":{"code":1,"message":"x"}}]"#,
            r#"[{"id":7,"result":1},{"id":8,"result":[1}]}]"#,
            r#"[{"id":7,"result":1},{"id":8}]"#,
            r#"[{"id":7,"result":1},{"id":8,"result":1},{"id":9,"result":1}]"#,
            "[]",
            "<html>",
        ] {
            assert!(answers(bad).is_none(), "{bad}");
        }
    }

    async fn ask(upstream: &Upstream) -> Vec<Result<Value, String>> {
        let calls = [("eth_blockNumber", None), ("eth_gasPrice", None), ("eth_blobBaseFee", None)];
        let told = |outcome: Outcome| match outcome {
            Ok(Answer::Result(json)) => Ok(serde_json::from_slice(json.bytes()).unwrap()),
            Ok(Answer::Error(error)) => Err(error.message),
            Err(error) => Err(error.label().to_owned()),
        };
        upstream.forward_batch(None, &calls).await.into_iter().map(told).collect()
    }

    #[tokio::test]
    async fn a_node_that_takes_no_batch_is_asked_one_by_one() {
        for takes_batches in [true, false] {
            let fake = Fake::start().await;
            fake.takes_batches(takes_batches);
            fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
            fake.on("eth_gasPrice", Reply::Error(-32000, "too busy"));
            let upstream = fake.upstream(&still());
            let expected = [Ok(json!("0x2")), Err("too busy".to_owned()), Err("no such method".to_owned())];
            assert_eq!(ask(&upstream).await, expected);
            assert_eq!(ask(&upstream).await, expected);
            // The chain, and twice what was asked; or a first batch that is refused, and not tried again.
            assert_eq!(fake.bodies(), if takes_batches { 3 } else { 8 });
        }
    }

    #[tokio::test]
    async fn inv_12_a_batch_that_is_too_large_is_one_by_one_and_the_next_one_is_not() {
        let fake = Fake::start().await;
        fake.on("eth_getLogs", Reply::Result(json!("x".repeat(3000))));
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let upstream = fake.upstream(&still());
        let large = upstream.forward_batch(None, &[("eth_getLogs", None); 3]).await;
        assert!(large.iter().all(Result::is_ok), "{large:?}");
        assert_eq!(fake.bodies(), 5, "the chain, the batch, and each of it");
        let next = upstream.forward_batch(None, &[("eth_blockNumber", None); 3]).await;
        assert!(next.iter().all(Result::is_ok));
        assert_eq!(fake.bodies(), 6, "one body");
    }

    #[tokio::test]
    async fn a_batch_that_is_too_long_goes_in_shorter_ones() {
        let fake = Fake::start().await;
        fake.takes_batches_of(20);
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let upstream = fake.upstream(&still());
        for bodies in [5, 9] {
            let answers = upstream.forward_batch(None, &[("eth_blockNumber", None); 40]).await;
            assert!(answers.len() == 40 && answers.iter().all(Result::is_ok));
            assert_eq!(fake.bodies(), bodies, "the chain, the whole, and three");
        }
    }

    #[tokio::test]
    async fn inv_13_a_node_that_is_slow_with_large_batches_is_asked_in_smaller_ones() {
        let fake = Fake::start().await;
        fake.is_slow_with_batches_of(12);
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let chain = fake.chain();
        let node = Node::new(&chain, &chain.nodes[0], still()).unwrap();
        let calls = vec![Call { method: "eth_blockNumber", params: None }; 32];
        let mut sizes = Vec::new();
        for _ in 0..4 {
            let size = node.own_batch();
            let answers = node.read_batch(&calls[..size], Whose::Own, &Lanes::of(None)).await.unwrap();
            assert!(
                answers.len() == size && answers.iter().all(Result::is_ok),
                "each is answered all the same"
            );
            sizes.push(size);
        }
        assert_eq!(sizes, [32, 16, 8, 8]);
        node.may_take_more();
        assert_eq!(node.own_batch(), 16, "it is tried again");
        node.takes_fewer_than(16);
        node.takes_fewer_than(16);
        assert_eq!(node.own_batch(), 8, "two who say it at once have said it once");
        node.takes_fewer_than(1);
        assert_eq!(node.own_batch(), 1);
        assert!(node.takes_batches(), "clients' are smaller, and it takes them");
    }

    #[tokio::test]
    async fn inv_12_what_is_asked_one_by_one_has_an_end() {
        let fake = Fake::start().await;
        fake.takes_batches(false);
        fake.on("eth_blockNumber", Reply::Result(json!("0x2")));
        let chain = fake.chain();
        let node = Node::new(&chain, &chain.nodes[0], still()).unwrap();
        let calls = vec![Call { method: "eth_blockNumber", params: None }; 3];
        for (within, is_answered) in [(Duration::from_secs(20), true), (Duration::ZERO, false)] {
            let answers = node
                .read_batch_within(&calls, (Whose::Clients(None), &Lanes::of(None)), within)
                .await
                .unwrap();
            assert_eq!(answers.len(), 3);
            assert!(answers.iter().all(|answer| answer.is_ok() == is_answered), "{answers:?}");
        }
        assert_eq!(fake.calls("eth_blockNumber").len(), 3, "what is too late is not asked");
    }

    #[tokio::test]
    async fn inv_12_other_nodes_are_asked_again_for_a_while_only() {
        let (first, second) = (Fake::start().await, Fake::start().await);
        let upstream = Upstream::new(&chain_of(&[("a", &first.url), ("b", &second.url)]), &still()).unwrap();
        second.on("eth_blockNumber", Reply::Result(json!("0xb")));
        let calls = [("eth_blockNumber", None)];
        for (within, is_answered) in [(Duration::from_secs(10), true), (Duration::ZERO, false)] {
            let answers = upstream.forward_batch_within(None, &calls, within).await;
            assert_eq!(matches!(answers[..], [Ok(Answer::Result(_))]), is_answered, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn inv_13_what_one_node_of_several_cannot_answer_another_may() {
        let (first, second) = (Fake::start().await, Fake::start().await);
        let upstream = Upstream::new(&chain_of(&[("a", &first.url), ("b", &second.url)]), &still()).unwrap();
        for method in ["eth_blockNumber", "eth_gasPrice", "eth_blobBaseFee"] {
            second.on(method, Reply::Result(json!("0xb")));
        }
        first.on("eth_blockNumber", Reply::Result(json!("0xa")));
        assert_eq!(ask(&upstream).await, [Ok(json!("0xa")), Ok(json!("0xb")), Ok(json!("0xb"))]);
        first.on("eth_chainId", Reply::Close);
        first.on("eth_blockNumber", Reply::Close);
        assert_eq!(ask(&upstream).await, [Ok(json!("0xb")), Ok(json!("0xb")), Ok(json!("0xb"))]);
    }

    #[tokio::test]
    async fn inv_12_errors_that_are_asked_one_by_one_take_room_until_they_are_told() {
        let fake = Fake::start().await;
        fake.takes_batches(false);
        fake.on("eth_call", Reply::Error(3, "x".repeat(300_000).leak()));
        let mut chain = fake.chain();
        (chain.max_answer, chain.timeout) = (1 << 20, Duration::from_secs(10));
        let upstream = Upstream::new(&chain, &still()).unwrap();
        // Enough for those that are under way at once, and not for all of them.
        let room = Arc::new(Room::new(8 << 20, None));
        let told = upstream.forward_batch(Some(&room), &[("eth_call", None); 40]).await;
        let errors = told.iter().filter(|one| matches!(one, Ok(Answer::Error(_)))).count();
        let refused = told.iter().filter(|one| matches!(one, Err(UpstreamError::NoRoom))).count();
        assert!(errors >= LANES && refused > 0 && errors + refused == 40, "{errors}, {refused}");
        assert!(room.used() > 0);
        drop(told);
        assert_eq!(room.used(), 0);
    }
}
