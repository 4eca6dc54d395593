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

/// First the one, then the other, by a thread of its own: making sure of hashes takes about as long as living through what
/// they stand for.
pub(in crate::ledger) struct Ahead {
    pub rows: mpsc::Receiver<Sql<Vec<Seen>>>,
    pub table: mpsc::Receiver<Sql<Vec<Reservation>>>,
    /// Gives the database back at the end.
    pub reader: JoinHandle<Db>,
}

impl Ahead {
    pub(in crate::ledger) fn of(mut db: Db, mut after: i64) -> Self {
        let ((to_rows, rows), (to_table, table)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        let runtime = Handle::current();
        let read = async move || {
            hand_on(to_rows, async || {
                let page = reader::entries(&mut db, after, PAGE).await?;
                after = page.last().map_or(after, |last| last.seq);
                Ok(page.into_iter().map(seen).collect())
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

/// Page by page, to the end or to what goes wrong, as long as somebody listens.
async fn hand_on<T>(to: mpsc::Sender<Sql<Vec<T>>>, mut next: impl AsyncFnMut() -> Sql<Vec<T>>) {
    loop {
        let page = next().await;
        if page.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        let is_last = page.is_err();
        if to.send(page).await.is_err() || is_last {
            return;
        }
    }
}

pub(in crate::ledger) fn seen(entry: Entry) -> Seen {
    let is_whole = entry.is_whole();
    (entry, is_whole)
}
