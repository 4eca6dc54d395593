//! Handing a recorded transaction to the network, and telling what became of it.

use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::json;

use crate::ledger::{Outcome, Recorded, RefusalClass};
use crate::transaction::{Conditions, Sendable};
use crate::upstream::classify::{Verdict, classify, shortened};
use crate::upstream::{Answer, Upstream, UpstreamError};

impl Upstream {
    /// Sends the recorded bytes. Whatever is not a definite refusal counts as sent.
    pub async fn broadcast<K: Sendable>(&self, recorded: &Recorded<K>) -> Outcome {
        self.broadcast_if(recorded, None).await
    }

    /// The same, to be included under these conditions only.
    pub async fn broadcast_if<K: Sendable>(
        &self,
        recorded: &Recorded<K>,
        conditions: Option<&Conditions>,
    ) -> Outcome {
        if let Err(error) = self.pinned().await {
            return Outcome::Unknown { text: error.to_string() };
        }
        let (method, params) = match conditions {
            None => ("eth_sendRawTransaction", json!([recorded.raw()])),
            Some(conditions) => {
                ("eth_sendRawTransactionConditional", json!([recorded.raw(), conditions.json()]))
            }
        };
        let answer = self.ask(method, Some(params)).await;
        let outcome = match answer {
            Ok(Answer::Result(result)) => match serde_json::from_str::<B256>(result.get()) {
                Ok(hash) if hash == recorded.hash() => Outcome::Accepted,
                answer => {
                    let theirs = answer.map_or_else(|_| "no hash".to_owned(), |hash| hash.to_string());
                    tracing::error!(ours = %recorded.hash(), theirs, "the node lies: it was sent one transaction and names another");
                    metrics::counter!("chancery_node_lies_total").increment(1);
                    Outcome::Unknown { text: "the node answered with another hash".to_owned() }
                }
            },
            Ok(Answer::Error(error)) => self.judge(&error.message, recorded.hash()).await,
            Err(error) => Outcome::Unknown { text: error.to_string() },
        };
        metrics::counter!("chancery_broadcasts_total", "outcome" => label(&outcome)).increment(1);
        outcome
    }

    async fn judge(&self, text: &str, hash: B256) -> Outcome {
        match classify(text) {
            Verdict::Known => Outcome::Known,
            // Our own transaction, mined or pooled meanwhile, is in its own way. Where the node does not tell
            // whether it is that, nothing is definite.
            Verdict::Refused(
                class @ (RefusalClass::NonceTooLow | RefusalClass::ReplacementUnderpriced),
                text,
            ) => match self.knows(hash).await {
                Ok(true) => Outcome::Known,
                Ok(false) => Outcome::Refused { class, text },
                Err(error) => Outcome::Unknown { text: format!("{text}; {error}") },
            },
            Verdict::Refused(class, text) => Outcome::Refused { class, text },
            Verdict::Gap => {
                // Payloads are signed side by side, so a higher nonce can be ready first: sent again soon.
                self.0.above_a_gap.notify_one();
                Outcome::Unknown { text: shortened(text) }
            }
            Verdict::Unknown => Outcome::Unknown { text: shortened(text) },
        }
    }

    /// Whether the node has a transaction of this hash, in its pool or in a block.
    pub(super) async fn knows(&self, hash: B256) -> Result<bool, UpstreamError> {
        let answer = self.ask("eth_getTransactionByHash", Some(json!([hash]))).await?;
        match answer.shape::<Option<Transaction>>()? {
            Some(found) if found.hash != hash => Err(UpstreamError::garbage("another transaction")),
            found => Ok(found.is_some()),
        }
    }
}

/// A transaction as the node has it, as far as we read it.
#[derive(Deserialize)]
struct Transaction {
    hash: B256,
}

const fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Known => "known",
        Outcome::Refused { .. } => "refused",
        Outcome::Unknown { .. } => "unknown",
    }
}
