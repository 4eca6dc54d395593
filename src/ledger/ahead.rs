//! The chain and the table of reservations, read page by page while somebody else lives through what was read before.

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::ledger::audit::Entry;
use crate::ledger::db::{Db, DbRow, Query, Sql};
use crate::ledger::reader::{self, Reservation, reservation};
use crate::ledger::store::entry;

const PAGE: usize = 250;

/// How many rows one statement gives: they come in one stream, so that a database goes on while its rows are looked at, but
/// some servers bound how long one may take.
const STATEMENT: i64 = 20_000;

/// How many pages are read ahead.
const AHEAD: usize = 2;

/// A row, and whether its content is what its hash was made over.
pub(in crate::ledger) type Seen = (Entry, bool);

type Batch<T> = Sql<Vec<T>>;

/// First the one, then the other, by a thread of its own, and what is hashed of them by another: reading, hashing and living
/// through what they stand for take about as long each.
pub(in crate::ledger) struct Ahead {
    pub rows: mpsc::Receiver<Batch<Seen>>,
    pub table: mpsc::Receiver<Batch<Reservation>>,
    /// Gives the database back at the end.
    pub reader: JoinHandle<Db>,
}

impl Ahead {
    pub(in crate::ledger) fn of(mut db: Db, after: i64) -> Self {
        let ((to_rows, rows), (to_table, table)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        let ((to_hash, read_rows), (to_make, read_table)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        drop(spawn_blocking(move || {
            make_each(read_rows, &to_rows, |row| entry(row).map(seen));
            make_each(read_table, &to_table, reservation);
        }));
        let runtime = Handle::current();
        let read = async move || {
            if hand_on(&mut db, to_hash, after, ("seq", reader::chain)).await {
                hand_on(&mut db, to_make, 0, ("id", reader::reservations)).await;
            }
            db
        };
        Self { rows, table, reader: spawn_blocking(move || runtime.block_on(read())) }
    }
}

/// What asks for a table's rows after one and at most so many, in the order of this column.
type Ask = (&'static str, fn(i64, i64) -> Query<'static>);

/// Page by page, to an empty one or to what goes wrong; whether somebody listened to the end.
async fn hand_on(db: &mut Db, to: mpsc::Sender<Batch<DbRow>>, after: i64, ask: Ask) -> bool {
    let last = match read(db, &to, after, ask).await {
        Ok(false) => return false,
        Ok(true) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    to.send(last).await.is_ok()
}

/// Whether somebody listened to the end.
async fn read(db: &mut Db, to: &mpsc::Sender<Batch<DbRow>>, mut after: i64, (column, ask): Ask) -> Sql<bool> {
    loop {
        let before = after;
        let is_heard = ask(after, STATEMENT).pages(db, PAGE, async |page| {
            after = page.last().map_or(Ok(after), |last| last.get(column))?;
            Ok(to.send(Ok(page)).await.is_ok())
        });
        if !is_heard.await? {
            return Ok(false);
        }
        if after == before {
            return Ok(true);
        }
    }
}

/// What is made of each row. Where the reader falls, nothing comes after its last page here either.
fn make_each<T>(
    mut read: mpsc::Receiver<Batch<DbRow>>,
    to: &mpsc::Sender<Batch<T>>,
    make: impl Fn(&DbRow) -> Sql<T>,
) {
    while let Some(page) = read.blocking_recv() {
        let all = page.and_then(|page| page.iter().map(&make).collect());
        if to.blocking_send(all).is_err() {
            return;
        }
    }
}

/// The next page, and nothing after the last. A reader that falls leaves no empty page: what it had not read yet is not
/// taken for what is not there.
pub(in crate::ledger) async fn next<T>(pages: &mut mpsc::Receiver<Batch<T>>) -> Sql<Option<Vec<T>>> {
    let fell = || Err(std::io::Error::other("the thread that reads fell before its end").into());
    let page = pages.recv().await.unwrap_or_else(fell)?;
    Ok(Some(page).filter(|page| !page.is_empty()))
}

pub(in crate::ledger) fn seen(entry: Entry) -> Seen {
    let is_whole = entry.is_whole();
    (entry, is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::db::{Location, query};
    use crate::ledger::tests::server::Server;
    use crate::secret::SecretUrl;

    const ROWS: i64 = 2 * STATEMENT + 260;

    fn numbers(after: i64, count: i64) -> Query<'static> {
        let numbers =
            "WITH RECURSIVE numbers (one) AS (SELECT 1 UNION ALL SELECT one + 1 FROM numbers WHERE one < ?3)
            SELECT CAST(one AS BIGINT) AS one FROM numbers WHERE one > ?1 ORDER BY one LIMIT ?2";
        query(numbers).bind(after).bind(count).bind(ROWS)
    }

    /// As `numbers`, with one of which nothing can be made.
    fn broken_numbers(after: i64, count: i64) -> Query<'static> {
        let numbers =
            "WITH RECURSIVE numbers (one) AS (SELECT 1 UNION ALL SELECT one + 1 FROM numbers WHERE one < ?3)
            SELECT abs(CASE WHEN one = 600 THEN -9223372036854775807 - 1 ELSE CAST(one AS BIGINT) END) AS one
            FROM numbers WHERE one > ?1 LIMIT ?2";
        query(numbers).bind(after).bind(count).bind(ROWS)
    }

    async fn both(folder: &std::path::Path) -> [(Location, Db); 2] {
        let server = Server::shared();
        let url = SecretUrl::parse_database(&server.url(&server.database())).unwrap();
        let (file, server) = (Location::File(folder.join("file")), Location::Server(url));
        let dbs = (file.connect().await.unwrap(), server.connect().await.unwrap());
        [(file, dbs.0), (server, dbs.1)]
    }

    /// What is heard, and how it ends.
    async fn heard(db: &mut Db, ask: fn(i64, i64) -> Query<'static>) -> (Vec<i64>, Sql<()>) {
        let (to_make, read) = mpsc::channel(AHEAD);
        let (to, mut pages) = mpsc::channel(AHEAD);
        drop(spawn_blocking(move || make_each(read, &to, |row| row.get::<i64>("one"))));
        let listen = async {
            let mut heard = Vec::new();
            loop {
                match next(&mut pages).await {
                    Ok(Some(page)) => {
                        assert!(page.len() <= PAGE);
                        heard.extend(page);
                    }
                    Ok(None) => return (heard, Ok(())),
                    Err(error) => return (heard, Err(error)),
                }
            }
        };
        tokio::join!(listen, hand_on(db, to_make, 0, ("one", ask))).0
    }

    #[tokio::test]
    async fn each_row_is_read_once_and_in_order_by_however_many_statements() {
        let (folder, _server) = (tempfile::tempdir().unwrap(), Server::shared());
        for (at, mut db) in both(folder.path()).await {
            let (all, end) = heard(&mut db, numbers).await;
            end.unwrap();
            assert!(all.into_iter().eq(1..=ROWS), "{at}");

            // Who has heard enough, in the middle of a statement.
            let (to, mut pages) = mpsc::channel::<Batch<DbRow>>(1);
            let listen = async move { pages.recv().await.unwrap().unwrap().len() };
            let ask: Ask = ("one", numbers);
            assert_eq!(tokio::join!(listen, hand_on(&mut db, to, 0, ask)), (PAGE, false), "{at}");
        }
    }

    #[tokio::test]
    async fn what_goes_wrong_in_the_middle_is_neither_the_end_nor_damage() {
        let (folder, _server) = (tempfile::tempdir().unwrap(), Server::shared());
        for (at, mut db) in both(folder.path()).await {
            let (some, end) = heard(&mut db, broken_numbers).await;
            assert!(some.iter().copied().eq(1..=500), "{at}: {}", some.len());
            assert!(end.is_err_and(|error| !error.is_damage()), "{at}");
        }
    }

    #[tokio::test]
    async fn rows_that_are_large_come_a_few_at_a_time() {
        let large =
            "WITH RECURSIVE numbers (one) AS (SELECT 1 UNION ALL SELECT one + 1 FROM numbers WHERE one < 20)
            SELECT CAST(one AS BIGINT) AS one, replace('                ', ' ', ?1) AS large FROM numbers";
        let (folder, _server) = (tempfile::tempdir().unwrap(), Server::shared());
        for (at, mut db) in both(folder.path()).await {
            let mut counts = Vec::new();
            let large = query(large).bind("x".repeat(20_000)).pages(&mut db, PAGE, async |page| {
                counts.push(page.len());
                Ok(true)
            });
            assert!(large.await.unwrap());
            assert_eq!(counts, [4; 5], "{at}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_falls_is_not_taken_for_the_end() {
        for (falls, expected) in [(false, Ok(None)), (true, Err(()))] {
            let (to_make, read) = mpsc::channel(AHEAD);
            let (to, mut pages) = mpsc::channel(AHEAD);
            drop(spawn_blocking(move || make_each(read, &to, |row| row.get::<i64>("one"))));
            let folder = tempfile::tempdir().unwrap();
            let mut db = Location::File(folder.path().join("file")).connect().await.unwrap();
            let page = query("SELECT 1 AS one").fetch_all(&mut db).await;
            to_make.send(page).await.unwrap();
            if !falls {
                to_make.send(Ok(Vec::new())).await.unwrap();
            }
            drop(to_make);
            assert_eq!(next(&mut pages).await.unwrap(), Some(vec![1]));
            let last = next(&mut pages).await;
            assert!(last.as_ref().err().is_none_or(|error| !error.is_damage()), "{last:?}");
            assert_eq!(last.map_err(|_| ()), expected);
        }
    }
}
