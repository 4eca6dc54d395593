//! Reads: the call is written anew with our own id and sent to the node, and the node's answer is passed on.

use serde_json::value::RawValue;

use crate::methods::{App, Refusal};
use crate::upstream::Answer;

pub(super) async fn forward(app: &App, method: &str, params: Option<&RawValue>) -> Result<Answer, Refusal> {
    Ok(app.upstream.forward(method, params).await?)
}
