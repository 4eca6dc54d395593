//! The charges of payloads in their tables, and what a budget has left by them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};

use crate::clock::Timestamp;
use crate::ledger::budget::{Fate, Used, bucket, fate, oldest};
use crate::ledger::db::{Db, DbRow, Sql, SqlError, query};
use crate::ledger::life::State;
use crate::ledger::store::{self, address, malformed, signed, unsigned};
use crate::ledger::writer::Group;
use crate::ledger::{OverBudget, ReserveError};
use crate::policy::Charge;

/// Where payloads compete: only one of those at a nonce is ever mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ledger) enum Place {
    Nonce { chain: u64, account: Address, nonce: u64 },
    Alone(i64),
}

impl Place {
    /// Where the payload with this number is, which may have had none when its place was told.
    const fn of(self, id: i64) -> Self {
        match self {
            Self::Nonce { .. } => self,
            Self::Alone(_) => Self::Alone(id),
        }
    }
}

/// Whether every charge fits, for a payload that would stand at `place`; all of them or none.
pub(in crate::ledger) async fn admit(
    group: &mut Group<'_>,
    charges: &[Charge],
    place: Place,
) -> Sql<Result<(), ReserveError>> {
    for charge in charges {
        let limit = &charge.limit;
        let used = group.known.counts.read(group.db, (&limit.id, &charge.scope)).await?;
        let bounds = (limit.max, limit.window);
        if let Err(over) = used.admit(&place, charge.amount, bounds, group.window_time) {
            return Ok(Err(ReserveError::OverBudget(Box::new(OverBudget {
                budget: limit.id.clone(),
                wanted: limit.show(charge.amount),
                left: limit.show(over.left),
                max: limit.show(limit.max),
                window: limit.window,
                room_in: over.room_in,
            }))));
        }
    }
    Ok(Ok(()))
}

/// Puts charges on the very counts that another payload's are on. Where the other has none of that scope (it was allowed by
/// other rules), a charge is put on each that it has of that budget: too much may be counted then, and never too little.
pub(in crate::ledger) async fn on_counts_of(
    db: &mut Db,
    other: i64,
    charges: Vec<Charge>,
) -> Sql<Vec<Charge>> {
    let rows =
        query("SELECT budget, scope, amount FROM charge WHERE reservation = ?1 ORDER BY budget, scope");
    let mut there = Vec::<(String, String, U256)>::new();
    for row in rows.bind(other).fetch_all(&mut *db).await? {
        there.push((row.get("budget")?, row.get("scope")?, amount(&row)?));
    }
    let mut moved = Vec::<Charge>::new();
    for charge in charges {
        let of_budget = there.iter().filter(|(budget, ..)| *budget == charge.limit.id);
        let scopes: Vec<_> = of_budget.map(|(_, scope, _)| scope).collect();
        let stays = scopes.is_empty() || scopes.contains(&&charge.scope);
        let to = if stays { vec![&charge.scope] } else { scopes };
        for scope in to {
            match on(&mut moved, &charge.limit.id, scope) {
                Some(one) => one.amount = one.amount.saturating_add(charge.amount),
                None => moved.push(Charge { scope: scope.clone(), ..charge.clone() }),
            }
        }
    }
    // Once this one is final the other is charged no more: on none of its counts is this one for less than it.
    for (budget, scope, amount) in &there {
        let limit = moved.iter().find(|one| one.limit.id == *budget).map(|one| Arc::clone(&one.limit));
        match (on(&mut moved, budget, scope), limit) {
            (Some(one), _) => one.amount = one.amount.max(*amount),
            (None, Some(limit)) => moved.push(Charge { limit, scope: scope.clone(), amount: *amount }),
            // It takes nothing from this budget, whatever it takes the place of.
            (None, None) => {}
        }
    }
    Ok(moved)
}

/// The charge that is on this count, if one is.
pub(in crate::ledger) fn on<'a>(
    charges: &'a mut [Charge],
    budget: &str,
    scope: &str,
) -> Option<&'a mut Charge> {
    charges.iter_mut().find(|one| one.limit.id == budget && one.scope == scope)
}

/// Writes what a new reservation takes.
pub(in crate::ledger) async fn charge(
    group: &mut Group<'_>,
    (id, place): (i64, Place),
    charges: &[Charge],
) -> Sql<()> {
    for charge in charges {
        insert(group.db, (id, place), charge).await?;
        group.known.counts.add((&charge.limit.id, &charge.scope), place.of(id), charge.amount);
    }
    Ok(())
}

pub(in crate::ledger) async fn insert(db: &mut Db, (id, place): (i64, Place), charge: &Charge) -> Sql<()> {
    let (chain, account, nonce) = match &place {
        Place::Nonce { chain, account, nonce } => {
            (Some(signed(*chain)), Some(account.to_vec()), Some(signed(*nonce)))
        }
        Place::Alone(_) => (None, None, None),
    };
    query(
        "INSERT INTO charge (reservation, budget, scope, chain, account, nonce, amount)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(id)
    .bind(&charge.limit.id)
    .bind(&charge.scope)
    .bind(chain)
    .bind(account)
    .bind(nonce)
    .bind(charge.amount.to_be_bytes_vec())
    .execute(&mut *db)
    .await
    .map(drop)
}

/// Moves a payload to another state, with all that follows from it for budgets; false where it may not go there.
pub(in crate::ledger) async fn turn(group: &mut Group<'_>, id: i64, to: State) -> Sql<bool> {
    if !store::turn(group.db, id, to, group.stamp_time).await? {
        return Ok(false);
    }
    // What has no nonce can only become void; the chain decides of the rest.
    turned(group, id, (to, true)).await?;
    Ok(true)
}

/// Does to a payload's charges what its new state asks for.
pub(in crate::ledger) async fn turned(
    group: &mut Group<'_>,
    id: i64,
    (to, has_nonce): (State, bool),
) -> Sql<()> {
    group.known.accounts.turned(id, to);
    match fate(to, has_nonce) {
        Fate::Open => Ok(()),
        Fate::Released => release(group, id).await.map(drop),
        Fate::Spent => spend(group, id).await,
    }
}

/// Takes a payload's open charges away, and says which they were.
async fn release(group: &mut Group<'_>, id: i64) -> Sql<Vec<DbRow>> {
    let rows = query(
        "SELECT budget, scope, amount, charged_at AS at
         FROM charge JOIN reservation ON reservation.id = charge.reservation WHERE charge.reservation = ?1",
    );
    let rows = rows.bind(id).fetch_all(&mut *group.db).await?;
    if !rows.is_empty() {
        query("DELETE FROM charge WHERE reservation = ?1").bind(id).execute(&mut *group.db).await?;
    }
    for row in &rows {
        group.known.counts.forget((row.get("budget")?, row.get("scope")?));
    }
    Ok(rows)
}

/// Moves a payload's charges from open to spent, at the time of its record.
async fn spend(group: &mut Group<'_>, id: i64) -> Sql<()> {
    for row in release(group, id).await? {
        let (budget, scope): (String, String) = (row.get("budget")?, row.get("scope")?);
        let window = window_of(group.db, &budget).await?;
        let at = Timestamp::from_millis(unsigned(&row, "at")?);
        add(group, (&budget, &scope), bucket(at, window), amount(&row)?).await?;
        let stale = query("DELETE FROM spent WHERE budget = ?1 AND scope = ?2 AND bucket < ?3");
        let stale = stale.bind(&budget).bind(&scope).bind(signed(oldest(group.window_time, window)));
        stale.execute(&mut *group.db).await?;
    }
    Ok(())
}

/// The window of a budget that is counted.
async fn window_of(db: &mut Db, budget: &str) -> Sql<Duration> {
    let row = query("SELECT window_ms FROM budget WHERE id = ?1").bind(budget).fetch_one(&mut *db).await?;
    Ok(Duration::from_millis(unsigned(&row, "window_ms")?))
}

pub(in crate::ledger) async fn add(
    group: &mut Group<'_>,
    (budget, scope): (&str, &str),
    bucket: u64,
    more: U256,
) -> Sql<()> {
    let there = query("SELECT amount FROM spent WHERE budget = ?1 AND scope = ?2 AND bucket = ?3");
    let there = there.bind(budget).bind(scope).bind(signed(bucket)).fetch_optional(&mut *group.db).await?;
    let sum = there.as_ref().map(amount).transpose()?.unwrap_or_default().saturating_add(more);
    query(
        "INSERT INTO spent (budget, scope, bucket, amount) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (budget, scope, bucket) DO UPDATE SET amount = excluded.amount",
    )
    .bind(budget)
    .bind(scope)
    .bind(signed(bucket))
    .bind(sum.to_be_bytes_vec())
    .execute(&mut *group.db)
    .await
    .map(drop)
}

/// Has what is spent in some buckets count in the one of now, for every budget that is counted.
pub(in crate::ledger) async fn move_spent(
    group: &mut Group<'_>,
    buckets: impl Fn(Duration) -> Range<u64>,
) -> Sql<()> {
    for row in query("SELECT id, window_ms FROM budget").fetch_all(&mut *group.db).await? {
        let (budget, window) = (row.get::<&str>("id")?, Duration::from_millis(unsigned(&row, "window_ms")?));
        let Range { start, end } = buckets(window);
        let moved =
            query("SELECT scope, amount FROM spent WHERE budget = ?1 AND bucket >= ?2 AND bucket < ?3");
        let moved =
            moved.bind(budget).bind(signed(start)).bind(signed(end)).fetch_all(&mut *group.db).await?;
        let gone = query("DELETE FROM spent WHERE budget = ?1 AND bucket >= ?2 AND bucket < ?3");
        gone.bind(budget).bind(signed(start)).bind(signed(end)).execute(&mut *group.db).await?;
        group.known.counts.forget_all();
        for row in &moved {
            add(group, (budget, row.get("scope")?), end, amount(row)?).await?;
        }
    }
    Ok(())
}

/// What one scope has used of one budget.
pub(in crate::ledger) async fn used(db: &mut Db, budget: &str, scope: &str) -> Sql<Used<Place>> {
    let mut used = Used::default();
    let spent = query("SELECT bucket, amount FROM spent WHERE budget = ?1 AND scope = ?2");
    for row in spent.bind(budget).bind(scope).fetch_all(&mut *db).await? {
        used.spent.insert(unsigned(&row, "bucket")?, amount(&row)?);
    }
    let open = query(
        "SELECT reservation, chain, account, nonce, amount FROM charge WHERE budget = ?1 AND scope = ?2",
    );
    for row in open.bind(budget).bind(scope).fetch_all(&mut *db).await? {
        used.open(place(&row)?, amount(&row)?);
    }
    Ok(used)
}

/// Every scope that a budget counts.
pub(in crate::ledger) async fn scopes(db: &mut Db, budget: &str) -> Sql<Vec<String>> {
    let rows = query(
        "SELECT scope FROM spent WHERE budget = ?1 UNION SELECT scope FROM charge WHERE budget = ?1 ORDER BY scope",
    );
    rows.bind(budget).fetch_all(&mut *db).await?.iter().map(|row| row.get("scope")).collect()
}

pub(in crate::ledger) fn place(row: &DbRow) -> Sql<Place> {
    let (chain, nonce): (Option<i64>, Option<i64>) = (row.get("chain")?, row.get("nonce")?);
    Ok(match chain.zip(nonce) {
        Some((chain, nonce)) => Place::Nonce {
            chain: u64::try_from(chain).map_err(malformed)?,
            account: address(row)?,
            nonce: u64::try_from(nonce).map_err(malformed)?,
        },
        None => Place::Alone(row.get("reservation")?),
    })
}

fn amount(row: &DbRow) -> Sql<U256> {
    let bytes: &[u8] = row.get("amount")?;
    U256::try_from_be_slice(bytes).ok_or_else(|| SqlError::decode("an amount of more than 256 bits"))
}
