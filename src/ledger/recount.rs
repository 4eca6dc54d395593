//! Budgets that are counted anew from the payloads themselves, when a policy with others comes into force.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{Bytes, U256};

use crate::clock::Timestamp;
use crate::ledger::budget::{Fate, bucket, fate};
use crate::ledger::charges::{add, insert, on, place};
use crate::ledger::db::{Db, DbRow, Sql, SqlError, query};
use crate::ledger::life::State;
use crate::ledger::store::{address, signed, unsigned, word};
use crate::ledger::writer::Group;
use crate::policy::{Charge, Past, Policy, is_for_another, is_own};

/// How many payloads are read at once; one with blobs is a megabyte.
const PAGE: i64 = 64;

/// Why budgets of a policy are not counted: the database, or a payload of which the policy cannot tell what it takes.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum NotCounted {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error("payload {payload}: {why}")]
    Payload { payload: i64, why: String },
}

/// Has the budgets of `policy` counted, and no others. What is new, or counts otherwise than before, is counted from
/// the payloads themselves, as if it had always been there; says whether anything is. What is at the token then is not
/// among them.
pub(in crate::ledger) async fn activate(group: &mut Group<'_>, policy: &Policy) -> Result<bool, NotCounted> {
    group.known.counts.forget_all();
    let limits: BTreeMap<&str, _> = policy.limits().map(|limit| (limit.id.as_str(), limit)).collect();
    let mut counted = BTreeMap::new();
    for row in query("SELECT id, definition FROM budget").fetch_all(&mut *group.db).await? {
        counted.insert(row.get::<String>("id")?, word(&row, "definition")?);
    }
    for (id, definition) in &counted {
        if limits.get(id.as_str()).is_none_or(|limit| limit.definition != *definition) {
            for table in [
                "DELETE FROM budget WHERE id = ?1",
                "DELETE FROM charge WHERE budget = ?1",
                "DELETE FROM spent WHERE budget = ?1",
            ] {
                query(table).bind(id).execute(&mut *group.db).await?;
            }
        }
    }
    let anew = limits.values().filter(|limit| counted.get(&limit.id) != Some(&limit.definition));
    let anew: Vec<_> = anew.map(|limit| (limit.id.as_str(), limit.window)).collect();
    recount(group, policy, &anew).await?;
    for (id, window) in &anew {
        let row = query("INSERT INTO budget (id, definition, window_ms) VALUES (?1, ?2, ?3)").bind(*id);
        let definition = limits.get(id).map(|limit| limit.definition).unwrap_or_default();
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        row.bind(definition.as_slice()).bind(window).execute(&mut *group.db).await?;
    }
    Ok(!anew.is_empty())
}

/// Counts budgets from what was signed within the longest of their windows, or is still open.
async fn recount(
    group: &mut Group<'_>,
    policy: &Policy,
    anew: &[(&str, Duration)],
) -> Result<(), NotCounted> {
    let Some(longest) = anew.iter().map(|(_, window)| *window).max() else { return Ok(()) };
    // One bucket more than the window, as everywhere.
    let longest = longest.saturating_add(longest.checked_div(30).unwrap_or_default());
    let since =
        group.window_time.millis().saturating_sub(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
    let (mut after, mut spent) = (0, Spent::new());
    loop {
        let rows = query(
            "SELECT id AS reservation, kind, client, chain, account, state, raw, nonce, rule, charged_at AS at
             FROM reservation WHERE id > ?1 AND raw IS NOT NULL
               AND (charged_at >= ?2 OR (nonce IS NOT NULL AND open = 1)) ORDER BY id LIMIT ?3",
        );
        let rows = rows.bind(after).bind(signed(since)).bind(PAGE).fetch_all(&mut *group.db).await?;
        let Some(last) = rows.last() else { break };
        after = last.get("reservation")?;
        for row in &rows {
            count_again(group, policy, (anew, &mut spent), row).await?;
        }
    }
    // One row for each, however many payloads they come from.
    for ((budget, scope, bucket), amount) in spent {
        add(group, (&budget, &scope), bucket, amount).await?;
    }
    Ok(())
}

/// By budget, scope and bucket.
type Spent = BTreeMap<(String, String, u64), U256>;

async fn count_again(
    group: &mut Group<'_>,
    policy: &Policy,
    (anew, spent): (&[(&str, Duration)], &mut Spent),
    row: &DbRow,
) -> Result<(), NotCounted> {
    let name: &str = row.get("state")?;
    let state = State::named(name).ok_or_else(|| SqlError::decode(format!("no state {name}")))?;
    let (id, has_nonce): (i64, bool) = (row.get("reservation")?, row.get::<Option<i64>>("nonce")?.is_some());
    if fate(state, has_nonce) == Fate::Released {
        return Ok(());
    }
    let raw = Bytes::from(row.get::<Vec<u8>>("raw")?);
    let (client, kind, rule) = (row.get("client")?, row.get("kind")?, row.get::<&str>("rule")?);
    let at = Timestamp::from_millis(unsigned(row, "at")?);
    let mut charges = Vec::<Charge>::new();
    for rule in rules_of(group.db, (id, rule), row).await? {
        let past = Past { client, kind, rule: &rule, account: address(row)?, at, raw: &raw };
        let taken = policy.charges_of(&past).map_err(|why| NotCounted::Payload { payload: id, why })?;
        for charge in taken {
            match on(&mut charges, &charge.limit.id, &charge.scope) {
                Some(one) => one.amount = one.amount.max(charge.amount),
                None => charges.push(charge),
            }
        }
    }
    for charge in charges {
        let Some((_, window)) = anew.iter().find(|(budget, _)| *budget == charge.limit.id) else {
            continue;
        };
        match fate(state, has_nonce) {
            Fate::Open => insert(group.db, (id, place(row)?), &charge).await?,
            Fate::Spent => {
                let key = (charge.limit.id.clone(), charge.scope, bucket(at, *window));
                let sum = spent.entry(key).or_default();
                *sum = sum.saturating_add(charge.amount);
            }
            Fate::Released => {}
        }
    }
    Ok(())
}

/// The rules on whose counts a payload is: its own, or, where it took the place of another on an operator's order, of those
/// that were signed at its nonce before it: whichever it was, it is not counted for less.
async fn rules_of(db: &mut Db, (id, rule): (i64, &str), row: &DbRow) -> Sql<Vec<String>> {
    let mut rules = Vec::new();
    if is_for_another(rule) {
        let before = query(
            "SELECT DISTINCT rule FROM reservation
             WHERE chain = ?1 AND account = ?2 AND nonce = ?3 AND live IS NOT NULL AND id < ?4 ORDER BY rule",
        );
        let before = before
            .bind(row.get::<Option<i64>>("chain")?)
            .bind(row.get::<&[u8]>("account")?)
            .bind(row.get::<Option<i64>>("nonce")?)
            .bind(id);
        for row in before.fetch_all(db).await? {
            let rule: String = row.get("rule")?;
            if !is_own(&rule) {
                rules.push(rule);
            }
        }
    }
    if rules.is_empty() {
        rules.push(rule.to_owned());
    }
    Ok(rules)
}
