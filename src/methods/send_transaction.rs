//! `eth_sendTransaction`: the whole product, a stage a line.

use std::sync::Arc;

use alloy_primitives::B256;
use tokio::time::{Instant, timeout_at};

use crate::identity::Caller;
use crate::ledger::{Outcome, Purpose, Recorded};
use crate::methods::road::{self, Stop};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Request, Tx};

/// Answers the transaction's hash.
pub(super) async fn send_transaction(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<B256, Refusal> {
    let answer_by = road::answer_by();
    let request = Request::parse(params)?; // strict: what is not understood is refused
    let caller = caller.for_account(request.from())?; // may this client use this account at all
    let quote = road::in_time(answer_by, app.upstream.quote(&request), Cause::NodeUnavailable).await?; // mined count, gas, fees: asked of the node, not trusted
    let judge = |floor: Option<&_>| {
        let filled = request.clone().fill(&quote, floor)?; // pure; never a field the caller set
        app.policy.decide::<Tx>(&caller, filled).map_err(|no| Refusal::denied(no, Cause::TransactionDenied)) // or the rule that said no
    };
    road::travel(app, judge, |app, permitted| send(app, permitted, answer_by)).await
}

/// From here on the work goes on whether or not the client still waits.
async fn send(app: Arc<App>, permitted: Permitted<Tx>, answer_by: Instant) -> Result<B256, Stop> {
    let recorded = road::record(&app, permitted, Purpose::Send, answer_by).await?; // reserved, signed, recorded: it may leave
    let hash = recorded.hash();
    let broadcast = app.tasks.spawn(broadcast(Arc::clone(&app), recorded));
    // After the record the answer is the hash, or a node's definite refusal, never "try again".
    match timeout_at(answer_by, broadcast).await {
        Ok(Ok(Outcome::Refused { text, .. })) => Err(Stop::Refused(Refusal::new(Cause::NodeRefused, text))),
        _ => Ok(hash),
    }
}

async fn broadcast(app: Arc<App>, recorded: Recorded<Tx>) -> Outcome {
    let outcome = app.upstream.broadcast(&recorded).await;
    if let Err(error) = app.ledger.outcome(recorded.id(), outcome.clone()).await {
        // The raw bytes are durable, and sent again until the chain has decided; so is the outcome asked again.
        tracing::warn!(%error, hash = %recorded.hash(), "the outcome could not be written");
    }
    outcome
}
