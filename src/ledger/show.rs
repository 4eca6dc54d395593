//! Reading the audit chain back, row by row. Opens the file for reading only, so it works beside a running gateway and
//! on a copy.

use std::collections::{HashSet, VecDeque};

use alloy_primitives::Address;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::ledger::audit::Entry;
use crate::ledger::db::{self, Location};
use crate::ledger::verify::not_opened;
use crate::ledger::{LedgerError, archive, chain_store, reader};

const PAGE: i64 = 1000;

/// Which rows to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The newest so many.
    pub last: Option<usize>,
    /// Those of this request, from its intent to its end.
    pub request: Option<String>,
    /// Those of what this account signed or was asked to sign.
    pub account: Option<Address>,
    /// Those of this kind.
    pub kind: Option<String>,
    /// Those from this time on, and before that one.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// The rows that the filter lets through, oldest first.
pub async fn show(at: impl Into<Location>, filter: &Filter) -> Result<Vec<Entry>, LedgerError> {
    let mut found = VecDeque::new();
    let each = |entry| {
        found.push_back(entry);
        if filter.last.is_some_and(|last| found.len() > last) {
            found.pop_front();
        }
        Ok(())
    };
    export(at, filter, each, &mut |_, _| {}).await?;
    Ok(found.into())
}

/// Hands every row that the filter lets through to `each`, oldest first, as one snapshot has them; an error of it
/// ends it all. `progress` hears of rows read, and of all there are. How many were let through.
pub async fn export(
    at: impl Into<Location>,
    filter: &Filter,
    mut each: impl FnMut(Entry) -> std::io::Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, LedgerError> {
    let at = at.into();
    let failed = |error| not_opened(&at, &error);
    let mut db = at.read().await.map_err(failed)?;
    db::snapshot(&mut db).await.map_err(failed)?;
    let all = chain_store::head(&mut db).await.map_err(failed)?.0.seq;
    let mut chosen = Chosen { filter, reservations: HashSet::new() };
    // Of those that were taken out, a few are still there, for the gateway.
    let after = archive::last(&mut db).await.map_err(failed)?;
    let (mut after, mut written) = (after.map_or(0, |last| last.seq), 0_u64);
    loop {
        let page = reader::entries(&mut db, after, PAGE).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for entry in page {
            if chosen.takes(&entry) {
                written = written.saturating_add(1);
                each(entry).map_err(|error| LedgerError::Unavailable(error.to_string()))?;
            }
        }
        progress(after.unsigned_abs(), all.unsigned_abs());
    }
    Ok(written)
}

/// A row's fields that a filter goes by.
#[derive(Deserialize)]
struct Fields {
    reservation: Option<i64>,
    request: Option<String>,
    account: Option<Address>,
    asked: Option<String>,
}

/// A filter at work: the rows that follow an intent name its reservation only.
struct Chosen<'a> {
    filter: &'a Filter,
    reservations: HashSet<i64>,
}

impl Chosen<'_> {
    fn takes(&mut self, entry: &Entry) -> bool {
        let Filter { request, account, kind, since, until, .. } = self.filter;
        if request.is_some() || account.is_some() {
            let Ok(fields) = serde_json::from_str::<Fields>(&entry.body) else { return false };
            let follows = fields.reservation.is_some_and(|id| self.reservations.contains(&id));
            let asked_by = request.is_none() || fields.request == *request;
            let about = account.is_none_or(|account| {
                let account_of_asked = || {
                    let asked = fields.asked.as_deref().unwrap_or_default().to_lowercase();
                    asked.contains(&account.to_string().to_lowercase())
                };
                fields.account == Some(account) || account_of_asked()
            });
            if !(follows || asked_by && about) {
                return false;
            }
            self.reservations.extend(fields.reservation);
        }
        kind.as_ref().is_none_or(|kind| *kind == entry.kind)
            && since.is_none_or(|since| entry.at >= since)
            && until.is_none_or(|until| entry.at < until)
    }
}
