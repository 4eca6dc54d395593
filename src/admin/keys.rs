//! `/v1/keys/…`: drills, and what an operator says that he did with a key.

use alloy_primitives::Address;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::api::{Api, ApiError, Asked, Reply};
use crate::ledger::{KeyUse, Note};

/// The body of `/v1/keys/drill`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// By name.
    account: String,
}

/// The body of `/v1/keys/record`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Did {
    token: String,
    what: String,
    #[serde(default)]
    keys: Vec<Address>,
    label: Option<String>,
    why: Option<String>,
}

/// Characters of each text in a row.
const MAX_TEXT: usize = 200;

/// Each token of the account signs and is held against its address.
pub(in crate::admin) async fn drill(api: &Api, asked: &Asked) -> Reply {
    let Which { account } = asked.body()?;
    let found = api.config().accounts.iter().find(|found| found.name == account);
    let Some(found) = found else {
        let what = format!("the configuration has no [[account]] named `{account}`");
        return Err(ApiError::new(StatusCode::NOT_FOUND, what));
    };
    // One signer for all chains.
    let Some(app) = api.apps().first() else { return Ok(json!({ "tokens": [] })) };
    let drilled = app.signer.drill(found.address).await;
    for one in &drilled {
        let row = KeyUse {
            keys: vec![found.address],
            label: Some(account.clone()),
            why: one.trouble.clone(),
            ..said_by(asked, &one.token, if one.trouble.is_none() { "drilled" } else { "drill-failed" })
        };
        api.ledger().note(Note::Key(row)).await?;
    }
    let tokens: Vec<Value> = drilled
        .iter()
        .map(|one| json!({ "token": one.token, "primary": one.is_primary, "trouble": one.trouble }))
        .collect();
    Ok(json!({ "account": account, "address": found.address, "tokens": tokens }))
}

/// What was done with a key by a command that ran beside the gateway.
pub(in crate::admin) async fn record(api: &Api, asked: &Asked) -> Reply {
    let did: Did = asked.body()?;
    let Some(what) = KeyUse::DONE.into_iter().find(|known| *known == did.what) else {
        let what = format!("`{}` is nothing that is recorded here", did.what);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, what));
    };
    let texts = [Some(&did.token), did.label.as_ref(), did.why.as_ref()];
    if texts.into_iter().flatten().any(|text| text.chars().count() > MAX_TEXT) || did.keys.len() > 16 {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "too long for a row"));
    }
    let row = KeyUse { keys: did.keys, label: did.label, why: did.why, ..said_by(asked, &did.token, what) };
    api.ledger().note(Note::Key(row)).await?;
    Ok(json!({ "recorded": what }))
}

fn said_by(asked: &Asked, token: &str, what: &'static str) -> KeyUse {
    let operator = &asked.operator;
    KeyUse {
        operator: Some(operator.name.clone()),
        person: Some(operator.person.clone()),
        ..KeyUse::new(token, what)
    }
}
