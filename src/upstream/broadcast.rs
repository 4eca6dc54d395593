//! Handing a recorded transaction to the network, and telling what became of it.

use alloy_primitives::B256;
use serde_json::{Value, json};

use crate::ledger::{Outcome, Recorded, RefusalClass};
use crate::transaction::Tx;
use crate::upstream::classify::{Verdict, classify};
use crate::upstream::{Answer, Upstream, UpstreamError};

impl Upstream {
    /// Sends the recorded bytes. Whatever is not a definite refusal counts as sent.
    pub async fn broadcast(&self, recorded: &Recorded<Tx>) -> Outcome {
        if let Err(error) = self.pinned().await {
            return Outcome::Unknown { text: error.to_string() };
        }
        let answer = self.0.client.ask("eth_sendRawTransaction", Some(json!([recorded.raw()]))).await;
        let outcome = match answer {
            Ok(Answer::Result(result)) => match serde_json::from_str::<B256>(result.get()) {
                Ok(hash) if hash == recorded.hash() => Outcome::Accepted,
                _ => {
                    tracing::error!(ours = %recorded.hash(), "the node answers with another transaction's hash");
                    Outcome::Unknown { text: "the node answered with another hash".to_owned() }
                }
            },
            Ok(Answer::Error(error)) => self.judge(&error.message, recorded.hash()).await,
            Err(error) => {
                self.unpin();
                Outcome::Unknown { text: error.to_string() }
            }
        };
        metrics::counter!("chancery_broadcasts_total", "outcome" => label(&outcome)).increment(1);
        outcome
    }

    async fn judge(&self, text: &str, hash: B256) -> Outcome {
        match classify(text) {
            Verdict::Known => Outcome::Known,
            // Our own transaction, mined meanwhile, makes its nonce too low as well.
            Verdict::Refused(RefusalClass::NonceTooLow | RefusalClass::ReplacementUnderpriced, _)
                if self.knows(hash).await =>
            {
                Outcome::Known
            }
            Verdict::Refused(class, text) => Outcome::Refused { class, text },
            Verdict::Unknown => Outcome::Unknown { text: text.chars().take(256).collect() },
        }
    }

    async fn knows(&self, hash: B256) -> bool {
        let answer = self.0.client.ask("eth_getTransactionByHash", Some(json!([hash]))).await;
        let found: Result<Value, UpstreamError> = answer.and_then(Answer::shape);
        found.is_ok_and(|found| !found.is_null())
    }
}

const fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Known => "known",
        Outcome::Refused { .. } => "refused",
        Outcome::Unknown { .. } => "unknown",
    }
}
