//! What more than one node must say before it is believed.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use futures_util::future::join_all;

use crate::upstream::node::Node;
use crate::upstream::{Upstream, UpstreamError};

/// How many nodes must say that a mined count which jumped is true.
const ENOUGH: usize = 2;

impl Upstream {
    /// The nodes that say the chain has mined at least so many transactions of this account, where that are enough to
    /// be believed: two, each asked by itself.
    pub async fn who_confirms(&self, account: Address, mined: u64) -> Option<Vec<String>> {
        let nodes = self.0.nodes.readers();
        if nodes.len() < ENOUGH {
            return None;
        }
        let says = async |node: Arc<Node>| {
            let count = node.mined_at_latest(account).await;
            count.is_ok_and(|count| count >= mined).then(|| node.name.clone())
        };
        let names: Vec<String> = join_all(nodes.into_iter().map(says)).await.into_iter().flatten().collect();
        (names.len() >= ENOUGH).then_some(names)
    }

    /// Whether any node has a transaction of this hash, in its pool or in a block. Where one does not say, none of them
    /// is taken to say no.
    pub(super) async fn knows(&self, hash: B256) -> Result<bool, UpstreamError> {
        let nodes = self.0.nodes.well();
        let answers = join_all(nodes.iter().map(|node| node.knows(hash))).await;
        if answers.iter().any(|answer| matches!(answer, Ok(true))) {
            return Ok(true);
        }
        answers.into_iter().find_map(Result::err).map_or(Ok(false), Err)
    }

    /// Whether every node that is well says that another transaction was mined at this nonce, in a block that is final,
    /// and has never heard of ours. It decides for good, so one node's word is not enough where there are several.
    pub(super) async fn was_replaced(
        &self,
        (account, nonce, hash): (Address, u64, B256),
        finalized: u64,
    ) -> Result<bool, UpstreamError> {
        let says = async |node: Arc<Node>| {
            Ok(node.mined_at(account, finalized).await? > nonce && !node.knows(hash).await?)
        };
        let answers = join_all(self.0.nodes.well().into_iter().map(says)).await;
        let mut all = true;
        for answer in answers {
            all &= answer?;
        }
        Ok(all)
    }
}
