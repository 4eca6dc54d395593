//! `eth_signTypedData_v4` and its older names: typed data by EIP-712, signed if the policy has a rule for it.

use std::sync::Arc;

use alloy_primitives::Bytes;

use crate::identity::Caller;
use crate::methods::road;
use crate::methods::{App, Cause, Refusal};
use crate::transaction::{Structured, TypedData};

/// Answers the 65 bytes r, s, v.
pub(super) async fn sign_typed_data(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<Bytes, Refusal> {
    // Strict: what libraries read in different ways is refused before it is hashed.
    let asked = Structured::parse(params)?;
    let caller = caller.for_account(asked.from())?;
    let asked = asked.for_chain(app.chain_id)?;
    let raw = road::signature::<TypedData>(app, &caller, asked, Cause::TypedDataDenied).await?;
    Ok(Structured::signature(&raw))
}
