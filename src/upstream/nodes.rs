//! Which of a chain's nodes is asked: the first that is well, and another where it fails or takes too long.

use std::cmp::Reverse;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Chain;
use crate::upstream::UpstreamError;
use crate::upstream::node::{Condition, Node};

/// The nodes of one chain.
#[derive(Debug)]
pub(super) struct Nodes {
    all: Vec<Arc<Node>>,
    /// Those that are read from, by their place in `all`: whom to ask first.
    order: ArcSwap<Vec<usize>>,
    broadcast: Vec<usize>,
    max_lag: u64,
    /// When a second node is asked beside the first.
    patience: Duration,
    chain: String,
}

/// How well a node is; the lower the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Good,
    /// Far slower than another.
    Slow,
    /// Behind the foremost by more than it may be.
    Lagging,
    Failing,
}

/// Between two looks at the nodes, where there are several.
const EVERY: Duration = Duration::from_secs(2);

/// What makes a node slow: so many times what the quickest takes, and this beside.
const SLOWER: u32 = 4;
const SLOWER_BY: Duration = Duration::from_millis(50);

impl Nodes {
    pub(super) fn new(chain: &Chain, clock: &Clock) -> Result<Self, UpstreamError> {
        let all = chain
            .nodes
            .iter()
            .map(|node| Node::new(chain, node, clock.clone()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let order = (0..all.len()).filter(|place| all.get(*place).is_some_and(|node| node.reads)).collect();
        Ok(Self {
            all,
            order: ArcSwap::from_pointee(order),
            broadcast: chain.broadcast.clone(),
            max_lag: chain.max_lag,
            patience: chain.timeout.div_f32(2.0),
            chain: chain.name.clone(),
        })
    }

    /// The nodes that are read from, the best first.
    pub(super) fn readers(&self) -> Vec<Arc<Node>> {
        self.order.load().iter().filter_map(|place| self.all.get(*place).cloned()).collect()
    }

    /// Those of them that are not known to be away or behind; all of them where none is left.
    pub(super) fn well(&self) -> Vec<Arc<Node>> {
        let mut readers = self.readers();
        let standings = standings(&conditions(&readers), self.max_lag);
        let mut standing = standings.iter();
        if standings.iter().any(|standing| *standing < Standing::Lagging) {
            readers.retain(|_| standing.next().is_some_and(|standing| *standing < Standing::Lagging));
        }
        readers
    }

    /// Those that signed transactions are sent to.
    pub(super) fn broadcast(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.broadcast.iter().filter_map(|place| self.all.get(*place))
    }

    pub(super) fn place_of(&self, node: &Arc<Node>) -> Option<usize> {
        self.all.iter().position(|other| Arc::ptr_eq(other, node))
    }

    pub(super) fn at(&self, place: usize) -> Option<&Arc<Node>> {
        self.all.get(place)
    }

    pub(super) const fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Asks the best node, and the next one where that fails in a way that another may not, or where it takes too long;
    /// then the first good answer counts. What is asked must be no harm if two nodes are asked it.
    pub(super) async fn first<T, F>(&self, ask: impl Fn(Arc<Node>) -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let order = self.order.load_full();
        let node = |place: &usize| self.all.get(*place).cloned();
        if let [only] = order.as_slice()
            && let Some(node) = node(only)
        {
            return ask(node).await;
        }
        let mut next = order.iter().filter_map(node);
        let mut asked = FuturesUnordered::new();
        let mut failed = None;
        let mut is_next_wanted = true;
        loop {
            if std::mem::take(&mut is_next_wanted) {
                asked.extend(next.next().map(&ask));
            }
            let has_more = next.size_hint().1 != Some(0);
            tokio::select! {
                answer = asked.next() => match answer {
                    Some(Err(error)) if error.may_differ_elsewhere() => {
                        self.rank();
                        // The first node's reason is told: it is the one that was meant to answer.
                        failed.get_or_insert(error);
                        is_next_wanted = true;
                    }
                    Some(answer) => return answer,
                    None => return Err(failed.unwrap_or(UpstreamError::Busy)),
                },
                () = tokio::time::sleep(self.patience), if has_more && !asked.is_empty() => is_next_wanted = true,
            }
        }
    }

    /// Looks at the nodes until `stop`. One alone is what is asked anyway.
    pub(super) async fn watch(&self, stop: CancellationToken) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.are_several() && stop.run_until_cancelled(every.tick()).await.is_some() {
            if stop.run_until_cancelled(self.look()).await.is_none() {
                return;
            }
        }
    }

    /// One look at all of them, side by side.
    pub(super) async fn look(&self) {
        let looks = self.all.iter().map(async |node| (node, node.look().await));
        for (node, head) in futures_util::future::join_all(looks).await {
            if let Err(error) = head {
                tracing::debug!(chain = self.chain, node = node.name, %error, "a node is not well");
            }
        }
        self.rank();
    }

    /// Decides anew whom to ask first.
    fn rank(&self) {
        let before = self.order.load_full();
        let mut places: Vec<usize> = before.as_ref().clone();
        places.sort_unstable();
        let nodes: Vec<_> = places.iter().filter_map(|place| self.all.get(*place).cloned()).collect();
        let standings = standings(&conditions(&nodes), self.max_lag);
        let mut ranked: Vec<(Standing, usize)> = standings.into_iter().zip(places).collect();
        ranked.sort_unstable();
        let order: Vec<usize> = ranked.iter().map(|(_, place)| *place).collect();
        if order == *before {
            return;
        }
        if let (Some((standing, first)), true) = (ranked.first(), order.first() != before.first())
            && let Some(node) = self.all.get(*first)
        {
            tracing::warn!(chain = self.chain, node = node.name, ?standing, "another node is asked first");
        }
        self.order.store(Arc::new(order));
    }
}

fn conditions(nodes: &[Arc<Node>]) -> Vec<Condition> {
    nodes.iter().map(|node| node.condition()).collect()
}

/// Each by comparison with the others: head with the foremost, latency with the quickest of those that are neither
/// failing nor behind.
fn standings(conditions: &[Condition], max_lag: u64) -> Vec<Standing> {
    let up = || conditions.iter().filter(|node| !node.is_failing);
    let foremost = up().map(|node| node.head).max().unwrap_or(0);
    let is_behind = |node: &Condition| node.head.saturating_add(max_lag) < foremost;
    let measured = up().filter(|node| !is_behind(node) && node.latency > Duration::ZERO);
    let quickest = measured.map(|node| Reverse(node.latency)).max().map_or(Duration::ZERO, |Reverse(it)| it);
    let slow = quickest.saturating_mul(SLOWER).saturating_add(SLOWER_BY);
    let standing = |node: &Condition| match node {
        node if node.is_failing => Standing::Failing,
        node if is_behind(node) => Standing::Lagging,
        node if node.latency > slow => Standing::Slow,
        _ => Standing::Good,
    };
    conditions.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::Standing::{Failing, Good, Lagging, Slow};
    use super::*;

    #[test]
    fn a_node_stands_by_comparison_with_the_others() {
        let node =
            |is_failing, head, millis| Condition { is_failing, head, latency: Duration::from_millis(millis) };
        for (nodes, expected) in [
            (&[node(false, 0, 0), node(false, 0, 0)][..], &[Good, Good][..]),
            (&[node(false, 10, 5), node(false, 13, 1)], &[Good, Good]),
            (&[node(false, 10, 5), node(false, 14, 1)], &[Lagging, Good]),
            (&[node(false, 10, 5), node(true, 14, 1)], &[Good, Failing]),
            (&[node(false, 10, 100), node(false, 10, 10), node(false, 10, 80)], &[Slow, Good, Good]),
            // One that is behind is no measure of what is slow.
            (&[node(false, 100, 100), node(false, 10, 1)], &[Good, Lagging]),
            (&[node(true, 100, 100)], &[Failing]),
        ] {
            assert_eq!(standings(nodes, 3), expected, "{nodes:?}");
        }
    }
}
