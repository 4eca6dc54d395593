//! What is left of each budget, read beside a running gateway.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;

use crate::clock::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::charges;
use crate::ledger::db::{self, Location};
use crate::ledger::error::unavailable;
use crate::policy::Limit;

/// What one scope has used of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub limit: Arc<Limit>,
    /// Such as `client=alice`; empty where the budget is one count for all.
    pub scope: String,
    pub used: U256,
    /// What of it takes as long as the chain: it counts until the chain has decided.
    pub open: U256,
    /// When the next part of what is spent leaves the window.
    pub frees_in: Option<Duration>,
}

impl Usage {
    /// What can still be spent now.
    pub fn left(&self) -> U256 {
        self.limit.max.saturating_sub(self.used)
    }
}

/// Every scope that has used something of these budgets; a budget that nobody used has one row.
pub async fn usage<'a>(
    at: &Location,
    limits: impl IntoIterator<Item = &'a Arc<Limit>>,
    now: Timestamp,
) -> Result<Vec<Usage>, LedgerError> {
    let mut db = at.read().await.map_err(unavailable)?;
    db::snapshot(&mut db).await.map_err(unavailable)?;
    let mut all = Vec::new();
    for limit in limits {
        let mut scopes = charges::scopes(&mut db, &limit.id).await.map_err(unavailable)?;
        if scopes.is_empty() {
            scopes.push(String::new());
        }
        for scope in scopes {
            let used = charges::used(&mut db, &limit.id, &scope).await.map_err(unavailable)?;
            all.push(Usage {
                limit: Arc::clone(limit),
                used: used.total(now, limit.window),
                open: used.open.values().copied().fold(U256::ZERO, U256::saturating_add),
                frees_in: used.next_frees(now, limit.window),
                scope,
            });
        }
    }
    Ok(all)
}
