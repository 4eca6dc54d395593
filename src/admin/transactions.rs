//! `/v1/transactions`: what is open, and what an operator does with it.

use std::sync::Arc;

use alloy_primitives::Address;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::api::{Api, ApiError, Asked, Reply};
use crate::config::Config;
use crate::ledger::{OpenTransaction, Outcome};
use crate::methods::{App, Refusal, Sent};
use crate::transaction::address;

/// The body of `/v1/transactions/bump` and `/v1/transactions/cancel`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// By name or address.
    account: String,
    nonce: u64,
    /// By name or number; where there is one only, it need not be said.
    chain: Option<String>,
}

/// The body of `/v1/transactions/accept`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    account: String,
    mined: u64,
    chain: Option<String>,
}

pub(in crate::admin) async fn list(api: &Api) -> Reply {
    let open = api.ledger().open_transactions().await?;
    let doubts = api.ledger().doubts();
    let doubts = doubts.iter().map(|doubt| {
        json!({
            "account": name_of(doubt.account, api.config()),
            "address": doubt.account,
            "chain": doubt.chain,
            "mined": doubt.mined,
            "known": doubt.known,
        })
    });
    let open: Vec<Value> = open.iter().map(|one| shown(one, api.config())).collect();
    Ok(json!({ "transactions": open, "doubted": doubts.collect::<Vec<_>>() }))
}

pub(in crate::admin) async fn bump(api: &Api, asked: &Asked) -> Reply {
    let (app, account, nonce) = at(api, asked)?;
    answer(app.bump(account, nonce, asked.by()).await, asked, "bumped")
}

pub(in crate::admin) async fn cancel(api: &Api, asked: &Asked) -> Reply {
    let (app, account, nonce) = at(api, asked)?;
    answer(app.cancel(account, nonce, asked.by()).await, asked, "cancelled")
}

/// An operator's word on a mined count, for as long as the ledger knows of less.
pub(in crate::admin) async fn accept(api: &Api, asked: &Asked) -> Reply {
    let Count { account, mined, chain } = asked.body()?;
    let address = account_of(&account, api.config())?;
    let chain = api.app(chain.as_deref())?.chain_id;
    api.ledger().accept_count((chain, address), mined, asked.by()).await?;
    tracing::warn!(
        operator = asked.operator.name,
        person = asked.operator.person,
        account,
        mined,
        "a mined count was taken as true"
    );
    Ok(json!({ "account": name_of(address, api.config()), "address": address, "mined": mined }))
}

fn at<'a>(api: &'a Api, asked: &Asked) -> Result<(&'a Arc<App>, Address, u64), ApiError> {
    let At { account, nonce, chain } = asked.body()?;
    Ok((api.app(chain.as_deref())?, account_of(&account, api.config())?, nonce))
}

fn answer(done: Result<Sent, Refusal>, asked: &Asked, how: &'static str) -> Reply {
    let Sent { hash, fees, outcome } = done.map_err(|refusal| {
        ApiError::new(StatusCode::CONFLICT, refusal.to_string())
            .hint("what is open is as it was; see `chancery tx list`")
    })?;
    let (word, text) = match outcome {
        Outcome::Accepted => ("accepted", String::new()),
        Outcome::Known => ("known", String::new()),
        Outcome::Refused { text, .. } => ("refused", text),
        Outcome::Unknown { text } => ("unknown", text),
    };
    tracing::warn!(operator = asked.operator.name, person = asked.operator.person, %hash, word, text, "a transaction was {how}");
    Ok(json!({
        "done": how,
        "hash": hash,
        "max_fee_per_gas": fees.max_per_gas().to_string(),
        "max_priority_fee_per_gas": fees.max_priority().to_string(),
        "max_fee_per_blob_gas": fees.max_per_blob_gas().map(|fee| fee.to_string()),
        "node": word,
        "node_text": text,
    }))
}

fn shown(one: &OpenTransaction, config: &Config) -> Value {
    json!({
        "kind": one.kind,
        "account": name_of(one.account, config),
        "address": one.account,
        "chain": one.chain,
        "nonce": one.nonce,
        "state": one.state(),
        "hash": one.hash,
        "client": one.client,
        "request": one.request,
        "since": one.at.to_string(),
        // Wei for a unit of gas, as text: JSON's numbers are not exact.
        "max_fee_per_gas": one.fees.max_per_gas().to_string(),
        "max_priority_fee_per_gas": one.fees.max_priority().to_string(),
        "max_fee_per_blob_gas": one.fees.max_per_blob_gas().map(|fee| fee.to_string()),
        "node": one.word(),
        "returned": one.is_returned,
    })
}

fn account_of(written: &str, config: &Config) -> Result<Address, ApiError> {
    let by_address = address(written).ok();
    let found = config.accounts.iter().find(|a| a.name == written || Some(a.address) == by_address);
    found.map(|account| account.address).ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, format!("the configuration has no [[account]] `{written}`"))
    })
}

fn name_of(address: Address, config: &Config) -> Option<&str> {
    config.accounts.iter().find(|account| account.address == address).map(|account| account.name.as_str())
}
