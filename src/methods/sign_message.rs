//! `personal_sign` and `eth_sign`: a message by EIP-191, signed if the policy has a rule for it.

use std::sync::Arc;

use alloy_primitives::Bytes;

use crate::identity::Caller;
use crate::methods::road;
use crate::methods::{App, Cause, Refusal};
use crate::transaction::{Message, Text};

/// Answers the 65 bytes r, s, v.
pub(super) async fn sign_message(app: &Arc<App>, caller: &Caller, text: Text) -> Result<Bytes, Refusal> {
    let caller = caller.for_account(text.from())?;
    road::signature::<Message>(app, &caller, text, Cause::MessageDenied).await
}
