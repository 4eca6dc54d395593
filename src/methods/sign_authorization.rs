//! `eth_signAuthorization`: that the code of a contract may act as the account (EIP-7702). It takes a nonce as a transaction
//! does, is judged, reserved and recorded like one, and returned: whoever has it may hand it in.

use std::sync::Arc;

use serde_json::Value;

use crate::identity::Caller;
use crate::ledger::{Purpose, Recorded};
use crate::methods::road::{self, Round};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Authorization, Delegation, DelegationRequest};

/// Answers an entry of `authorizationList`.
pub(super) async fn sign_authorization(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<Value, Refusal> {
    let answer_by = road::answer_by();
    let request = DelegationRequest::parse(params)?;
    let caller = caller.for_account(request.from())?;
    // For another chain, nobody is asked.
    request.clone().fill(app.chain_id, 0)?;
    let fresh = Box::pin(async {
        let mined = app.upstream.mined_count(request.from());
        let mined = road::in_time(answer_by, mined, Cause::NodeUnavailable).await?;
        let fill = |_: Round| Ok(request.clone().fill(app.chain_id, mined)?);
        let by = (&caller, Cause::AuthorizationDenied);
        road::travel(app, by, fill, |app, permitted: Permitted<Authorization>| async move {
            Ok(road::record(&app, permitted, Purpose::Return, answer_by).await?.raw().clone())
        })
        .await
    });
    let intent = (Some(app.chain_id), request.intent());
    let known = |recorded: Recorded<Authorization>| recorded.raw().clone();
    let raw = road::once(app, &caller, intent, (Purpose::Return, answer_by), known, fresh).await?;
    Delegation::answer(&raw).ok_or_else(Refusal::internal)
}
