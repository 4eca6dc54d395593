//! `/v1/pauses`, `/v1/pause` and `/v1/resume`: names of the configuration into scopes, and back.

use alloy_primitives::Address;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::api::{Api, ApiError, Asked, Reply};
use crate::config::{self, Config};
use crate::ledger::{Pause, PauseOrder, PauseScope};
use crate::transaction::address;

/// The body of `/v1/pause` and `/v1/resume`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scope: Kind,
    /// An account's name or address, or a client's name; nothing for all.
    name: Option<String>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    All,
    Account,
    Client,
}

/// Characters of a reason.
const MAX_REASON: usize = 200;

pub(in crate::admin) async fn list(api: &Api) -> Reply {
    let pauses = api.ledger().pauses().await?;
    Ok(json!({ "pauses": shown(&pauses, api.config()) }))
}

/// Pauses what this configuration knows: a slip of the pen must not pass for a kill switch.
pub(in crate::admin) async fn pause(api: &Api, asked: &Asked) -> Reply {
    let order = order(asked, |kind, name| known(api.config(), kind, name))?;
    let scope = order.scope.clone();
    let changed = api.ledger().pause(order, asked.by()).await?;
    tracing::warn!(operator = asked.operator.name, person = asked.operator.person, %scope, changed, "paused");
    Ok(json!({ "paused": told(&scope, api.config()), "changed": changed }))
}

/// Also resumes what is in the configuration no longer.
pub(in crate::admin) async fn resume(api: &Api, asked: &Asked) -> Reply {
    let order = order(asked, |kind, name| {
        known(api.config(), kind, name).or_else(|unknown| match kind {
            Kind::Account => address(name).map(PauseScope::Account).map_err(|_| unknown),
            Kind::Client if config::is_name(name) => Ok(PauseScope::Client(name.to_owned())),
            Kind::All | Kind::Client => Err(unknown),
        })
    })?;
    let scope = order.scope.clone();
    if !api.ledger().resume(order, asked.by()).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("{scope} is not paused"))
            .hint("`chancery pause --list` shows what is"));
    }
    tracing::warn!(operator = asked.operator.name, person = asked.operator.person, %scope, "resumed");
    let left = api.ledger().pauses().await?;
    Ok(json!({ "resumed": told(&scope, api.config()), "pauses": shown(&left, api.config()) }))
}

/// Pauses as operators see them: accounts by name and address.
pub(in crate::admin) fn shown(pauses: &[Pause], config: &Config) -> Vec<Value> {
    let one = |pause: &Pause| {
        let mut value = told(&pause.scope, config);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("reason".to_owned(), json!(pause.reason));
            fields.insert("operator".to_owned(), json!(pause.operator));
            fields.insert("person".to_owned(), json!(pause.person));
            fields.insert("since".to_owned(), json!(pause.since.to_string()));
        }
        value
    };
    pauses.iter().map(one).collect()
}

fn order(
    asked: &Asked,
    scope_of: impl Fn(Kind, &str) -> Result<PauseScope, ApiError>,
) -> Result<PauseOrder, ApiError> {
    let Written { scope, name, reason } = asked.body()?;
    let bad = |what| Err(ApiError::new(StatusCode::BAD_REQUEST, what));
    let scope = match (scope, name.as_deref()) {
        (Kind::All, None) => PauseScope::All,
        (Kind::All, Some(_)) => return bad("the scope `all` has no name"),
        (_, None) => return bad("`name` says which account or client"),
        (kind, Some(name)) => scope_of(kind, name)?,
    };
    let is_long = |reason: &String| reason.chars().count() > MAX_REASON;
    // It is shown on terminals.
    if reason.as_ref().is_some_and(|reason| is_long(reason) || reason.chars().any(char::is_control)) {
        return bad("a reason is one line of at most 200 characters");
    }
    Ok(PauseOrder { scope, reason })
}

fn known(config: &Config, kind: Kind, name: &str) -> Result<PauseScope, ApiError> {
    let what = match kind {
        Kind::All => return Ok(PauseScope::All),
        Kind::Account => {
            let by_address: Option<Address> = address(name).ok();
            let found = config.accounts.iter().find(|a| a.name == name || Some(a.address) == by_address);
            if let Some(account) = found {
                return Ok(PauseScope::Account(account.address));
            }
            "[[account]]"
        }
        Kind::Client => {
            if config.clients.iter().any(|client| client.name == name) {
                return Ok(PauseScope::Client(name.to_owned()));
            }
            "[[client]]"
        }
    };
    Err(ApiError::new(StatusCode::NOT_FOUND, format!("the configuration has no {what} `{name}`"))
        .hint("nothing was paused; --all pauses everything"))
}

fn told(scope: &PauseScope, config: &Config) -> Value {
    match scope {
        PauseScope::All => json!({ "scope": "all" }),
        PauseScope::Account(address) => {
            let account = config.accounts.iter().find(|account| account.address == *address);
            json!({ "scope": "account", "name": account.map(|a| &a.name), "address": address })
        }
        PauseScope::Client(name) => json!({ "scope": "client", "name": name }),
    }
}
