//! `/v1/audit/…`: rows that an operator has in a file by now are taken out of the ledger.

use alloy_primitives::B256;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::admin::api::{Api, ApiError, Asked, Reply};
use crate::ledger::{ArchiveError, Archived};

/// The body of `/v1/audit/archive`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    upto: i64,
    hash: B256,
    digest: B256,
}

/// From the answer on they count as taken out. They are removed beside the requests, which go on.
pub(in crate::admin) async fn archive(api: &Api, asked: &Asked) -> Reply {
    let Written { upto, hash, digest } = asked.body()?;
    let archived = Archived { upto, hash, digest };
    api.ledger().archive(archived, asked.by()).await.map_err(|error| match error {
        ArchiveError::Refused(why) => ApiError::new(StatusCode::CONFLICT, why).hint("nothing was removed"),
        ArchiveError::Ledger(error) => error.into(),
    })?;
    tracing::warn!(
        operator = asked.operator.name,
        person = asked.operator.person,
        upto,
        "audit rows are archived"
    );
    let ledger = api.ledger().clone();
    tokio::spawn(async move {
        match ledger.remove_archived().await {
            Ok(rows) => tracing::info!(rows, "archived rows are removed"),
            Err(error) => {
                tracing::warn!(%error, "archived rows are still there; the next archive removes them");
            }
        }
    });
    Ok(json!({ "archived": { "upto": upto, "hash": hash } }))
}
