//! The chain and the table of reservations, read page by page while somebody else lives through what was read before.

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::ledger::audit::Entry;
use crate::ledger::db::{Db, Sql};
use crate::ledger::reader::{self, Reservation};

const PAGE: i64 = 250;

/// How many pages are read ahead.
const AHEAD: usize = 2;

/// A row, and whether its content is what its hash was made over.
pub(in crate::ledger) type Seen = (Entry, bool);

/// First the one, then the other, by a thread of its own, and the hashes of the chain by another: reading, making sure of
/// hashes and living through what they stand for take about as long each.
pub(in crate::ledger) struct Ahead {
    pub rows: mpsc::Receiver<Sql<Vec<Seen>>>,
    pub table: mpsc::Receiver<Sql<Vec<Reservation>>>,
    /// Gives the database back at the end.
    pub reader: JoinHandle<Db>,
}

impl Ahead {
    pub(in crate::ledger) fn of(mut db: Db, mut after: i64) -> Self {
        let ((to_hash, read_rows), (to_rows, rows)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        let (to_table, table) = mpsc::channel(AHEAD);
        drop(spawn_blocking(move || make_sure(read_rows, &to_rows)));
        let runtime = Handle::current();
        let read = async move || {
            hand_on(to_hash, async || {
                let page = reader::entries(&mut db, after, PAGE).await?;
                after = page.last().map_or(after, |last| last.seq);
                Ok(page)
            })
            .await;
            after = 0;
            hand_on(to_table, async || {
                let page = reader::reservations(&mut db, after, PAGE).await?;
                after = page.last().map_or(after, |last| last.id);
                Ok(page)
            })
            .await;
            db
        };
        Self { rows, table, reader: spawn_blocking(move || runtime.block_on(read())) }
    }
}

/// Page by page, to an empty one or to what goes wrong, as long as somebody listens.
async fn hand_on<T>(to: mpsc::Sender<Sql<Vec<T>>>, mut next: impl AsyncFnMut() -> Sql<Vec<T>>) {
    loop {
        let page = next().await;
        let is_last = !page.as_ref().is_ok_and(|page| !page.is_empty());
        if to.send(page).await.is_err() || is_last {
            return;
        }
    }
}

/// Hashes what was read. Where the reader falls, nothing comes after its last page here either.
fn make_sure(mut read: mpsc::Receiver<Sql<Vec<Entry>>>, to: &mpsc::Sender<Sql<Vec<Seen>>>) {
    while let Some(page) = read.blocking_recv() {
        if to.blocking_send(page.map(|page| page.into_iter().map(seen).collect())).is_err() {
            return;
        }
    }
}

/// The next page, and nothing after the last. A reader that falls leaves no empty page: what it had not read yet is not
/// taken for what is not there.
pub(in crate::ledger) async fn next<T>(pages: &mut mpsc::Receiver<Sql<Vec<T>>>) -> Sql<Option<Vec<T>>> {
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

    #[tokio::test]
    async fn a_reader_that_falls_is_not_taken_for_the_end() {
        for (falls, expected) in [(false, Ok(None)), (true, Err(()))] {
            let (to, mut pages) = mpsc::channel(AHEAD);
            let mut count = 0;
            let reading = tokio::spawn(hand_on(to, async move || {
                count += 1;
                assert!(!falls || count < 2, "it falls");
                Ok(if count < 2 { vec![count] } else { Vec::new() })
            }));
            assert_eq!(next(&mut pages).await.unwrap(), Some(vec![1]));
            let last = next(&mut pages).await;
            assert!(last.as_ref().err().is_none_or(|error| !error.is_damage()), "{last:?}");
            assert_eq!(last.map_err(|_| ()), expected);
            assert_eq!(reading.await.is_err(), falls);
        }
    }
}
