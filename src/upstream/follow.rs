//! Follows what was recorded until the chain has decided: sends the same bytes again, looks for the receipt,
//! and tells the ledger what is final. Never signs.

use std::collections::HashMap;
use std::time::Duration;

use alloy_primitives::{Address, B256, U64};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Final, Ledger, Recorded};
use crate::transaction::Tx;
use crate::upstream::answer::read_number;
use crate::upstream::{Answer, Upstream, UpstreamError};

/// Between two rounds; a round also begins at start.
const EVERY: Duration = Duration::from_secs(5);

/// After a round in which the node did not answer.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    block_number: Option<String>,
    transaction_hash: B256,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Block {
    number: Option<String>,
}

/// How many accounts are followed side by side.
const AT_ONCE: usize = 8;

/// Runs until `stop`.
pub async fn follow(upstream: Upstream, ledger: Ledger, stop: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        let next = async {
            tokio::time::sleep(wait).await;
            round(&upstream, &ledger).await
        };
        // What a round had begun, the next start begins again.
        wait = match stop.run_until_cancelled(next).await {
            None => return,
            Some(Ok(())) => EVERY,
            Some(Err(error)) => {
                tracing::warn!(%error, "open transactions could not be followed; the next round tries again");
                AFTER_FAILURE
            }
        };
    }
}

/// Looks at every open transaction once. One that makes trouble does not keep the others from being followed;
/// only a node that is not there ends the round.
async fn round(upstream: &Upstream, ledger: &Ledger) -> Result<(), UpstreamError> {
    let open = match ledger.open_transactions().await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be read");
            return Ok(());
        }
    };
    if open.is_empty() {
        return Ok(());
    }
    upstream.pinned().await?;
    let finalized = upstream.finalized().await?;
    // An account's transactions go out in the order of their nonces.
    let mut accounts: HashMap<Address, Vec<Recorded<Tx>>> = HashMap::new();
    for recorded in open {
        accounts.entry(recorded.from()).or_default().push(recorded);
    }
    stream::iter(accounts)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, async |(account, open)| {
            follow_account(upstream, ledger, account, &open, finalized).await
        })
        .await
}

async fn follow_account(
    upstream: &Upstream,
    ledger: &Ledger,
    account: Address,
    open: &[Recorded<Tx>],
    finalized: u64,
) -> Result<(), UpstreamError> {
    let mined = match upstream.mined_at_latest(account).await {
        Ok(mined) => mined,
        Err(error) if error.is_about_the_node() => return Err(error),
        Err(error) => {
            tracing::warn!(%error, %account, "its transactions are followed in the next round");
            return Ok(());
        }
    };
    for recorded in open {
        match settle(upstream, ledger, recorded, mined, finalized).await {
            Err(error) if error.is_about_the_node() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, hash = %recorded.hash(), "what became of it is asked in the next round");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn settle(
    upstream: &Upstream,
    ledger: &Ledger,
    recorded: &Recorded<Tx>,
    mined: u64,
    finalized: u64,
) -> Result<(), UpstreamError> {
    let done = if recorded.nonce().is_some_and(|nonce| nonce < mined) {
        match upstream.receipt(recorded.hash()).await? {
            Some((block, succeeded)) if block <= finalized => {
                ledger.settled(recorded.id(), Final::Mined { block, succeeded }).await
            }
            None if upstream.mined_at(recorded.from(), finalized).await?
                > recorded.nonce().unwrap_or(u64::MAX) =>
            {
                ledger.settled(recorded.id(), Final::Replaced).await
            }
            // Not final yet: the chain may still turn.
            _ => return Ok(()),
        }
    } else if !recorded.is_ours_to_send() {
        return Ok(());
    } else {
        let outcome = upstream.broadcast(recorded).await;
        ledger.outcome(recorded.id(), outcome).await
    };
    if let Err(error) = done {
        tracing::warn!(%error, hash = %recorded.hash(), "what became of it could not be written; asked again later");
    }
    Ok(())
}

impl Upstream {
    async fn mined_at_latest(&self, account: Address) -> Result<u64, UpstreamError> {
        self.ask("eth_getTransactionCount", Some(json!([account, "latest"]))).await?.number()
    }

    async fn mined_at(&self, account: Address, block: u64) -> Result<u64, UpstreamError> {
        let params = json!([account, U64::from(block)]);
        self.ask("eth_getTransactionCount", Some(params)).await?.number()
    }

    /// The block and success of a transaction of this hash, if one is mined.
    async fn receipt(&self, hash: B256) -> Result<Option<(u64, bool)>, UpstreamError> {
        let answer = self.ask("eth_getTransactionReceipt", Some(json!([hash]))).await?;
        let receipt: Option<Receipt> = answer.shape()?;
        let Some(Receipt { block_number: Some(block), transaction_hash, status }) = receipt else {
            return Ok(None);
        };
        if transaction_hash != hash {
            return Err(UpstreamError::garbage("the receipt is another transaction's"));
        }
        Ok(Some((read_number(&block)?, status.as_deref() == Some("0x1"))))
    }

    /// The newest block that cannot be undone: the chain's own word, or the configured depth where it has none.
    async fn finalized(&self) -> Result<u64, UpstreamError> {
        let tag = self.ask("eth_getBlockByNumber", Some(json!(["finalized", false]))).await?;
        match tag {
            Answer::Result(block) => {
                let block: Option<Block> = Answer::Result(block).shape()?;
                if let Some(number) = block.and_then(|block| block.number) {
                    return read_number(&number);
                }
            }
            Answer::Error(_) => {}
        }
        let head: u64 = self.ask("eth_blockNumber", None).await?.number()?;
        Ok(head.saturating_sub(self.0.finality))
    }
}
