//! `eth_signTransaction`: the same road as a send, up to the record. A signed transaction can be sent by anyone
//! who has it, so it is judged, reserved and recorded all the same.

use std::sync::Arc;

use alloy_primitives::Bytes;
use tokio::time::Instant;

use crate::identity::Caller;
use crate::ledger::{Purpose, Recorded};
use crate::methods::road::{self, Round, Stop};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Draft, Tx};

/// Answers the signed transaction's EIP-2718 bytes.
pub(super) async fn sign_transaction(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<Bytes, Refusal> {
    let answer_by = road::answer_by();
    let request = Draft::parse(params)?;
    let caller = caller.for_account(request.from())?;
    let request = request.recovered()?;
    let known = road::signed_here(app, request.authorizations()).await?;
    let request = request.recognising(&known)?;
    let fresh = Box::pin(async {
        let quote = road::quote(app, &request, answer_by).await?;
        let fill = |round: Round| Ok(request.clone().fill(&quote, round.floor.as_ref())?);
        let by = (&caller, Cause::TransactionDenied);
        road::travel(app, by, fill, |app, permitted| sign(app, permitted, answer_by)).await
    });
    let intent = (Some(app.chain_id), request.intent());
    let known = |recorded: Recorded<Tx>| recorded.raw().clone();
    road::once(app, &caller, intent, (Purpose::Return, answer_by), known, fresh).await
}

async fn sign(app: Arc<App>, permitted: Permitted<Tx>, answer_by: Instant) -> Result<Bytes, Stop> {
    Ok(road::record(&app, permitted, Purpose::Return, answer_by).await?.raw().clone())
}
