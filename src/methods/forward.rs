//! Reads: the call is written anew with our own id and sent to a node, and the node's answer is passed on.

use serde_json::value::RawValue;

use crate::identity::Caller;
use crate::methods::{App, Refusal};
use crate::upstream::Answer;

pub(super) async fn forward(
    app: &App,
    caller: &Caller,
    method: &'static str,
    params: Option<&RawValue>,
) -> Result<Answer, Refusal> {
    Ok(app.upstream.forward(caller.room(), method, params).await?)
}

/// `eth_newFilter` and its relatives: the filter is this client's alone, and stays with the node that made it.
pub(super) async fn new_filter(
    app: &App,
    caller: &Caller,
    method: &'static str,
    params: Option<&RawValue>,
) -> Result<Answer, Refusal> {
    Ok(app.upstream.new_filter((&caller.client().name, caller.room()), method, params).await?)
}

/// What is asked of a filter that is there.
pub(super) async fn filter(
    app: &App,
    caller: &Caller,
    method: &'static str,
    params: Option<&RawValue>,
) -> Result<Answer, Refusal> {
    Ok(app.upstream.filter((&caller.client().name, caller.room()), method, params).await?)
}
