//! `personal_sign`: a message by EIP-191, signed if the policy has a rule for it.

use std::sync::Arc;

use alloy_primitives::Bytes;
use tokio::time::Instant;

use crate::identity::Caller;
use crate::ledger::{Purpose, Recorded};
use crate::methods::road::{self, Round, Stop};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Kind as _, Message, Text};

/// Answers the 65 bytes r, s, v.
pub(super) async fn personal_sign(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<Bytes, Refusal> {
    let answer_by = road::answer_by();
    let text = Text::parse(params)?;
    let caller = caller.for_account(text.from())?;
    let judge = |round: Round| round.decide::<Message>(app, &caller, text.clone(), Cause::MessageDenied);
    let fresh = road::travel(app, judge, |app, permitted| sign(app, permitted, answer_by));
    let intent = (None, Message::intent(&text));
    let known = |recorded: Recorded<Message>| recorded.raw().clone();
    road::once(app, &caller, intent, (Purpose::Return, answer_by), known, fresh).await
}

async fn sign(app: Arc<App>, permitted: Permitted<Message>, answer_by: Instant) -> Result<Bytes, Stop> {
    Ok(road::record(&app, permitted, Purpose::Return, answer_by).await?.raw().clone())
}
