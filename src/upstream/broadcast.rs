//! Handing a recorded transaction to the network, and telling what became of it.

use std::sync::Arc;

use alloy_primitives::B256;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ledger::{Outcome, Recorded, RefusalClass};
use crate::transaction::{Conditions, Sendable};
use crate::upstream::classify::{Verdict, classify, shortened};
use crate::upstream::node::Node;
use crate::upstream::{Answer, Upstream};

/// What a sequencer includes under conditions only (EIP-7796).
const CONDITIONAL: &str = "eth_sendRawTransactionConditional";

/// A recorded transaction as a node is handed it.
#[derive(Debug)]
struct Parcel {
    method: &'static str,
    params: Value,
    hash: B256,
}

impl Upstream {
    /// Sends the recorded bytes to every node that transactions are sent to. Whatever is not a definite refusal, by all
    /// of them, counts as sent.
    pub async fn broadcast<K: Sendable>(&self, recorded: &Recorded<K>) -> Outcome {
        self.broadcast_if(recorded, None).await
    }

    /// The same, to be included under these conditions only.
    pub async fn broadcast_if<K: Sendable>(
        &self,
        recorded: &Recorded<K>,
        conditions: Option<&Conditions>,
    ) -> Outcome {
        let params = match conditions {
            None => json!([recorded.raw()]),
            Some(conditions) => json!([recorded.raw(), conditions.json()]),
        };
        let method = if conditions.is_some() { CONDITIONAL } else { "eth_sendRawTransaction" };
        let parcel = Parcel { method, params, hash: recorded.hash() };
        self.0.flights.sent();
        let nodes: Vec<_> = self.0.nodes.broadcast().cloned().collect();
        let outcome = match &nodes[..] {
            [only] => self.hand(only, &parcel).await,
            _ => self.hand_to_all(nodes, parcel).await,
        };
        self.0.flights.sent();
        metrics::counter!("chancery_broadcasts_total", "outcome" => label(&outcome)).increment(1);
        outcome
    }

    /// The first that takes it decides; the others are still handed it.
    async fn hand_to_all(&self, nodes: Vec<Arc<Node>>, parcel: Parcel) -> Outcome {
        let (mut hands, parcel) = (JoinSet::new(), Arc::new(parcel));
        for node in nodes {
            let (upstream, parcel) = (self.clone(), Arc::clone(&parcel));
            hands.spawn(async move { upstream.hand(&node, &parcel).await });
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = hands.join_next().await {
            match outcome {
                Ok(Outcome::Accepted) => {
                    // Each ends by its own deadline.
                    hands.detach_all();
                    return Outcome::Accepted;
                }
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => outcomes.push(Outcome::Unknown { text: error.to_string() }),
            }
        }
        together(outcomes)
    }

    async fn hand(&self, node: &Node, parcel: &Parcel) -> Outcome {
        let Parcel { method, params, hash } = parcel;
        let hash = *hash;
        match node.ask(method, Some(params.clone())).await {
            Ok(Answer::Result(result)) => match serde_json::from_slice::<B256>(result.bytes()) {
                Ok(found) if found == hash => Outcome::Accepted,
                answer => {
                    let theirs = answer.map_or_else(|_| "no hash".to_owned(), |hash| hash.to_string());
                    tracing::error!(node = node.name, ours = %hash, theirs, "the node lies: it was sent one transaction and names another");
                    metrics::counter!("chancery_node_lies_total").increment(1);
                    Outcome::Unknown { text: "the node answered with another hash".to_owned() }
                }
            },
            // Which call it could not read it does not say: nothing definite.
            Ok(Answer::Error(error)) if !error.names_its_call => {
                Outcome::Unknown { text: shortened(&error.message) }
            }
            Ok(Answer::Error(error)) => self.judge(&error.message, hash).await,
            Err(error) => Outcome::Unknown { text: error.to_string() },
        }
    }

    async fn judge(&self, text: &str, hash: B256) -> Outcome {
        match classify(text) {
            Verdict::Known => Outcome::Known,
            Verdict::Refused(class, text) if class.is_of_its_bytes() => Outcome::Refused { class, text },
            // Our own transaction, mined or pooled meanwhile, is in its own way, or is not paid for a second time. Where
            // a node does not tell whether it is that, nothing is definite.
            Verdict::Refused(class, text) => match self.knows(hash).await {
                Ok(true) => Outcome::Known,
                Ok(false) => Outcome::Refused { class, text },
                Err(error) => Outcome::Unknown { text: format!("{text}; {error}") },
            },
            Verdict::Gap => {
                // Payloads are signed side by side, so a higher nonce can be ready first: sent again soon.
                self.0.above_a_gap.notify_one();
                Outcome::Unknown { text: shortened(text) }
            }
            Verdict::Unknown => Outcome::Unknown { text: shortened(text) },
        }
    }
}

/// What several nodes' words come to, none of which took it: known if one of them has it; a refusal if all of them
/// refuse, by the first that did.
fn together(outcomes: Vec<Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Accepted => 0,
        Outcome::Known => 1,
        Outcome::Unknown { .. } => 2,
        // Of a nonce that is used up nothing follows for it: the least definite of refusals goes first.
        Outcome::Refused { class: RefusalClass::NonceTooLow, .. } => 3,
        Outcome::Refused { .. } => 4,
    };
    let none = || Outcome::Unknown { text: "no node was asked".to_owned() };
    outcomes.into_iter().min_by_key(rank).unwrap_or_else(none)
}

const fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Known => "known",
        Outcome::Refused { .. } => "refused",
        Outcome::Unknown { .. } => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_10_only_a_refusal_by_all_nodes_is_one() {
        let refused = |class| Outcome::Refused { class, text: String::new() };
        let funds = || refused(RefusalClass::InsufficientFunds);
        let low = || refused(RefusalClass::NonceTooLow);
        let unknown = || Outcome::Unknown { text: String::new() };
        for (outcomes, expected) in [
            (vec![funds(), funds()], funds()),
            (vec![funds(), low()], low()),
            (vec![funds(), unknown()], unknown()),
            (vec![unknown(), Outcome::Known, funds()], Outcome::Known),
            (vec![Outcome::Accepted, Outcome::Known], Outcome::Accepted),
        ] {
            assert_eq!(together(outcomes), expected);
        }
        assert!(matches!(together(Vec::new()), Outcome::Unknown { .. }));
    }
}
