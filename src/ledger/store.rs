//! The tables: reading and writing rows, no decisions. The same SQL for all databases.

use std::sync::LazyLock;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};

use crate::clock::Timestamp;
use crate::ledger::audit::Entry;
use crate::ledger::core::Row;
use crate::ledger::db::{Db, DbRow, Sql, SqlError, query};
use crate::ledger::hands::{Hold, Revived};
use crate::ledger::life::{State, Word};
use crate::transaction::{Authorization, Fees, Kind as _};

/// What a new row holds.
#[derive(Debug)]
pub(in crate::ledger) struct NewRow<'a> {
    pub kind: &'a str,
    pub client: &'a str,
    pub request: &'a str,
    pub account: Address,
    /// Chain, nonce and fees, for kinds that use a nonce.
    pub slot: Option<(u64, u64, Fees)>,
    pub intent: B256,
    pub returned: bool,
    pub at: Timestamp,
    /// From when on any writer may void it.
    pub void_at: Timestamp,
    pub rule: &'a str,
    /// From when on budgets count it.
    pub charged_at: Timestamp,
}

/// A row at a nonce, in nobody's eyes; whose it is, and whether it was to be returned.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Held {
    pub row: Row,
    pub client: String,
    pub returned: bool,
}

/// What was recorded under an id.
#[derive(Debug)]
pub(in crate::ledger) struct Stored {
    pub id: i64,
    pub request: String,
    pub chain: Option<u64>,
    pub account: Address,
    pub nonce: Option<u64>,
    pub returned: bool,
    pub state: State,
    /// The last word of it.
    pub word: Option<Word>,
    /// Who hands it to nodes, where that was asked.
    pub hold: Hold,
    /// Where it is live again, until it is taken.
    pub revived: Option<Revived>,
    pub raw: Bytes,
    pub hash: B256,
}

/// The rows of an account that have a say: those from the last settled nonce or the mined count on, whichever is
/// higher, the wanted nonce's, and the highest. All are ranges of one index, however long the history is.
pub(in crate::ledger) async fn rows_of(
    db: &mut Db,
    (chain, account): (u64, Address),
    (mined, wanted): (u64, Option<u64>),
) -> Sql<Vec<Held>> {
    let rows = query(
        "SELECT id, kind, nonce, reserved_at, state, intent, max_fee, max_tip, max_blob_fee, outcome, client, returned FROM reservation
         WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND nonce >= ?3 AND nonce >= coalesce(
             (SELECT nonce FROM reservation
              WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND open = 0
              ORDER BY nonce DESC LIMIT 1), 0)
         UNION
         SELECT id, kind, nonce, reserved_at, state, intent, max_fee, max_tip, max_blob_fee, outcome, client, returned FROM reservation
         WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND nonce = ?4
         UNION
         SELECT * FROM (SELECT id, kind, nonce, reserved_at, state, intent, max_fee, max_tip, max_blob_fee, outcome, client, returned FROM reservation
         WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL AND open = 0
         ORDER BY nonce DESC LIMIT 1) AS settled
         UNION
         SELECT * FROM (SELECT id, kind, nonce, reserved_at, state, intent, max_fee, max_tip, max_blob_fee, outcome, client, returned FROM reservation
         WHERE chain = ?1 AND account = ?2 AND live IS NOT NULL
         ORDER BY nonce DESC LIMIT 1) AS highest",
    )
    .bind(signed(chain))
    .bind(account.as_slice())
    .bind(signed(mined))
    .bind(wanted.map(signed))
    .fetch_all(&mut *db)
    .await?;
    rows.iter().map(held).collect()
}

pub(in crate::ledger) async fn insert(db: &mut Db, new: &NewRow<'_>) -> Sql<i64> {
    query(
        "INSERT INTO reservation (kind, state, live, open, client, request, account, chain, nonce, intent, max_fee, max_tip, max_blob_fee, returned, reserved_at, void_at, rule, charged_at)
         VALUES (?1, 'reserved', 1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )
    .bind(new.kind)
    .bind(new.client)
    .bind(new.request)
    .bind(new.account.as_slice())
    .bind(new.slot.map(|(chain, ..)| signed(chain)))
    .bind(new.slot.map(|(_, nonce, _)| signed(nonce)))
    .bind(new.intent.as_slice())
    .bind(new.slot.map(|(_, _, fees)| fees.max_per_gas().to_be_bytes().to_vec()))
    .bind(new.slot.map(|(_, _, fees)| fees.max_priority().to_be_bytes().to_vec()))
    .bind(new.slot.and_then(|(_, _, fees)| fees.max_per_blob_gas()).map(|fee| fee.to_be_bytes().to_vec()))
    .bind(i64::from(new.returned))
    .bind(millis(new.at))
    .bind(millis(new.void_at))
    .bind(new.rule)
    .bind(millis(new.charged_at))
    .insert(&mut *db)
    .await
}

/// Moves a row to another state; false where it may not go there from where it is.
pub(in crate::ledger) async fn turn(db: &mut Db, id: i64, to: State, now: Timestamp) -> Sql<bool> {
    let Some((_, statements)) = TURNS.iter().find(|(state, _)| *state == to) else { return Ok(false) };
    for sql in statements {
        let row = query(sql.as_str()).bind(id);
        let row = if to == State::Recorded { row.bind(millis(now)) } else { row };
        if row.execute(&mut *db).await? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The statements that move a row to each state. An index is written anew where a column that it has a say in is among
/// those that are set, whatever it is set to; so each statement sets no more than changes.
static TURNS: LazyLock<[(State, Vec<String>); State::ALL.len()]> = LazyLock::new(|| {
    State::ALL.map(|to| {
        let changes = |from: &State| (from.live() != to.live(), from.is_open() != to.is_open());
        let mut before: Vec<_> = State::ALL.into_iter().filter(|from| from.may_become(to)).collect();
        before.sort_by_key(changes);
        let statement = |before: &[State]| {
            let (live, open) = before.first().map(changes).unwrap_or_default();
            let live = match to.live().filter(|_| live) {
                Some(number) => format!(", live = {number}"),
                None if live => ", live = NULL".to_owned(),
                None => String::new(),
            };
            let open = if open { format!(", open = {}", i64::from(to.is_open())) } else { String::new() };
            // Budgets count it from its record on.
            let again = if to == State::Recorded { RECORDED_AT } else { "" };
            // A list of more than two would be a table to SQLite, made each time.
            let before: Vec<_> = before.iter().map(|from| format!("state = '{}'", from.name())).collect();
            let before = before.join(" OR ");
            format!(
                "UPDATE reservation SET state = '{}'{live}{open}{again} WHERE id = ?1 AND ({before})",
                to.name()
            )
        };
        (to, before.chunk_by(|one, other| changes(one) == changes(other)).map(statement).collect())
    })
});

/// A charge never moves back in time.
const RECORDED_AT: &str = ", charged_at = CASE WHEN charged_at < ?2 THEN ?2 ELSE charged_at END";

pub(in crate::ledger) async fn state_of(db: &mut Db, id: i64) -> Sql<Option<State>> {
    let row = query("SELECT state FROM reservation WHERE id = ?1").bind(id).fetch_optional(&mut *db).await?;
    row.as_ref().map(state_in).transpose()
}

/// Records a signature under a live reservation; false where it is live no longer.
pub(in crate::ledger) async fn record(
    db: &mut Db,
    (id, has_nonce): (i64, bool),
    (raw, hash): (&Bytes, B256),
    now: Timestamp,
) -> Sql<bool> {
    let [with_nonce, without] = &*RECORD;
    let row = query(if has_nonce { with_nonce } else { without });
    let row = row.bind(id).bind(millis(now)).bind(raw.as_ref()).bind(hash.as_slice());
    Ok(row.execute(&mut *db).await? == 1)
}

/// With a nonce, of which the chain decides, and without.
static RECORD: LazyLock<[String; 2]> = LazyLock::new(|| {
    [("", "NOT NULL"), (", open = 0", "NULL")].map(|(open, nonce)| {
        format!("UPDATE reservation SET state = 'recorded'{open}, raw = ?3, hash = ?4{RECORDED_AT} WHERE id = ?1 AND state = 'reserved' AND nonce IS {nonce}")
    })
});

pub(in crate::ledger) async fn stored(db: &mut Db, id: i64) -> Sql<Option<Stored>> {
    let row = query("SELECT * FROM reservation WHERE id = ?1 AND raw IS NOT NULL").bind(id);
    row.fetch_optional(&mut *db).await?.map(|row| stored_row(&row)).transpose()
}

/// What an account has signed under this hash: a transaction of kind `ours` at its nonce, or one that was handed in.
pub(in crate::ledger) async fn signed_as(
    db: &mut Db,
    ((chain, account, nonce), hash): ((u64, Address, u64), B256),
    (ours, handed_in): (&str, &str),
) -> Sql<Option<(String, Stored)>> {
    let at_nonce = query(
        "SELECT * FROM reservation WHERE chain = ?1 AND account = ?2 AND nonce = ?3 AND live IS NOT NULL
           AND hash = ?4 AND kind = ?5 ORDER BY id DESC LIMIT 1",
    );
    let at_nonce = at_nonce.bind(signed(chain)).bind(account.as_slice()).bind(signed(nonce));
    let mut row = at_nonce.bind(hash.as_slice()).bind(ours).fetch_optional(&mut *db).await?;
    if row.is_none() {
        let by_hash = query(
            "SELECT * FROM reservation WHERE hash = ?1 AND nonce IS NULL AND account = ?2 AND kind = ?3
             ORDER BY id DESC LIMIT 1",
        );
        let by_hash = by_hash.bind(hash.as_slice()).bind(account.as_slice()).bind(handed_in);
        row = by_hash.fetch_optional(&mut *db).await?;
    }
    row.map(|row| Ok((row.get("kind")?, stored_row(&row)?))).transpose()
}

/// The reservations without a record, oldest first.
pub(in crate::ledger) async fn unrecorded(db: &mut Db) -> Sql<Vec<i64>> {
    let rows = query("SELECT id FROM reservation WHERE open = 1 AND state = 'reserved' ORDER BY id");
    rows.fetch_all(&mut *db).await?.iter().map(|row| row.get("id")).collect()
}

/// A reservation without a record.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct Unrecorded {
    pub id: i64,
    /// From when on anybody may void it, and how long that is from its reservation on.
    pub void_at: Timestamp,
    pub span: Duration,
}

/// All of them, whoever made them.
pub(in crate::ledger) async fn reserved(db: &mut Db) -> Sql<Vec<Unrecorded>> {
    let rows = query(
        "SELECT id, void_at, void_at - reserved_at AS span FROM reservation
         WHERE open = 1 AND state = 'reserved' ORDER BY id",
    );
    let unrecorded = |row: &DbRow| {
        let void_at = Timestamp::from_millis(unsigned(row, "void_at")?);
        let span = Duration::from_millis(unsigned(row, "span")?);
        Ok(Unrecorded { id: row.get("id")?, void_at, span })
    };
    rows.fetch_all(db).await?.iter().map(unrecorded).collect()
}

/// Makes a payload that was returned to its client ours to send.
pub(in crate::ledger) async fn adopt(db: &mut Db, id: i64) -> Sql<()> {
    let done = query("UPDATE reservation SET returned = 0 WHERE id = ?1").bind(id);
    done.execute(&mut *db).await.map(drop)
}

/// What a node said of it last.
pub(in crate::ledger) async fn word_of(db: &mut Db, id: i64) -> Sql<Option<Word>> {
    let row =
        query("SELECT outcome FROM reservation WHERE id = ?1").bind(id).fetch_optional(&mut *db).await?;
    row.as_ref().map_or(Ok(None), word_in)
}

/// Notes what a node said last; false where that is what it said before.
pub(in crate::ledger) async fn note(db: &mut Db, id: i64, outcome: &str) -> Sql<bool> {
    let done = query(
        "UPDATE reservation SET outcome = ?1 WHERE id = ?2 AND raw IS NOT NULL AND outcome IS DISTINCT FROM ?1",
    );
    Ok(done.bind(outcome).bind(id).execute(&mut *db).await? == 1)
}

/// Writes a page to the disk. What it holds must change, or SQLite would leave the page as it is.
pub(in crate::ledger) async fn probe(db: &mut Db, at: Timestamp) -> Sql<()> {
    query(
        "INSERT INTO probe (one, at) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET at = CASE WHEN probe.at >= ?1 THEN probe.at + 1 ELSE ?1 END",
    )
    .bind(millis(at))
    .execute(&mut *db)
    .await
    .map(drop)
}

/// Whether another policy has this serial, or a higher one.
pub(in crate::ledger) async fn has_later_policy(db: &mut Db, hash: B256, serial: u64) -> Sql<bool> {
    let row = query("SELECT hash FROM policy WHERE serial >= ?1 AND hash <> ?2 LIMIT 1");
    Ok(row.bind(signed(serial)).bind(hash.as_slice()).fetch_optional(&mut *db).await?.is_some())
}

pub(in crate::ledger) async fn archive_policy(
    db: &mut Db,
    (hash, text, serial): (B256, &str, Option<u64>),
    at: Timestamp,
) -> Sql<()> {
    query("INSERT INTO policy (hash, text, first_at, serial) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (hash) DO NOTHING")
        .bind(hash.as_slice())
        .bind(text)
        .bind(millis(at))
        .bind(serial.map(signed))
        .execute(&mut *db)
        .await
        .map(drop)
}

fn held(row: &DbRow) -> Sql<Held> {
    let (client, returned) = (row.get("client")?, row.is_set("returned")?);
    let row = Row {
        id: row.get("id")?,
        nonce: unsigned(row, "nonce")?,
        at: Timestamp::from_millis(unsigned(row, "reserved_at")?),
        state: state_in(row)?,
        intent: word(row, "intent")?,
        fees: fees(row)?,
        word: word_in(row)?,
        is_own: false,
        is_authorization: row.get::<&str>("kind")? == Authorization::NAME,
    };
    Ok(Held { row, client, returned })
}

pub(in crate::ledger) fn fees(row: &DbRow) -> Sql<Fees> {
    let fee = |bytes: &[u8]| Sql::Ok(u128::from_be_bytes(bytes.try_into().map_err(malformed)?));
    let blob_fee = row.get::<Option<&[u8]>>("max_blob_fee")?.map(fee).transpose()?;
    Ok(Fees::of(fee(row.get("max_fee")?)?, fee(row.get("max_tip")?)?, blob_fee))
}

pub(in crate::ledger) fn state_in(row: &DbRow) -> Sql<State> {
    state_named(row.get("state")?)
}

/// What a node said last.
pub(in crate::ledger) fn word_in(row: &DbRow) -> Sql<Option<Word>> {
    let word = |name| Word::named(name).ok_or_else(|| SqlError::decode(format!("no node says {name}")));
    row.get::<Option<&str>>("outcome")?.map(word).transpose()
}

pub(in crate::ledger) fn state_named(name: &str) -> Sql<State> {
    State::named(name).ok_or_else(|| SqlError::decode(format!("no state is called {name}")))
}

pub(in crate::ledger) fn stored_row(row: &DbRow) -> Sql<Stored> {
    let number = |name| -> Sql<Option<u64>> {
        row.get::<Option<i64>>(name)?.map(u64::try_from).transpose().map_err(malformed)
    };
    Ok(Stored {
        id: row.get("id")?,
        request: row.get("request")?,
        chain: number("chain")?,
        account: address(row)?,
        nonce: number("nonce")?,
        returned: row.is_set("returned")?,
        state: state_in(row)?,
        word: word_in(row)?,
        hold: Hold::None,
        revived: None,
        raw: Bytes::from(row.get::<Vec<u8>>("raw")?),
        hash: word(row, "hash")?,
    })
}

pub(in crate::ledger) fn entry(row: &DbRow) -> Sql<Entry> {
    Ok(Entry {
        seq: row.get("seq")?,
        at: Timestamp::from_millis(unsigned(row, "at")?),
        kind: row.get("kind")?,
        body: row.get("body")?,
        previous: word(row, "previous")?,
        hash: word(row, "hash")?,
    })
}

pub(in crate::ledger) fn word(row: &DbRow, name: &str) -> Sql<B256> {
    B256::try_from(row.get::<&[u8]>(name)?).map_err(malformed)
}

pub(in crate::ledger) fn address(row: &DbRow) -> Sql<Address> {
    Address::try_from(row.get::<&[u8]>("account")?).map_err(malformed)
}

pub(in crate::ledger) fn unsigned(row: &DbRow, name: &str) -> Sql<u64> {
    u64::try_from(row.get::<i64>(name)?).map_err(malformed)
}

/// Chains and nonces are checked to fit before they come here; a time does for 292 million years.
pub(in crate::ledger) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(in crate::ledger) fn millis(at: Timestamp) -> i64 {
    signed(at.millis())
}

pub(in crate::ledger) fn malformed<E: std::error::Error + Send + Sync + 'static>(error: E) -> SqlError {
    SqlError::Decode(Box::new(error))
}
