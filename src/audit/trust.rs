//! Which certificates, CAs, revocation lists and people were taken in, and which were not.

use std::collections::VecDeque;

use crate::ledger::{Ledger, Note, TrustRead};
use crate::listener::{Reading, Trust};

/// Rows that wait for a ledger that cannot be written.
const WAITING: usize = 256;

/// Who is trusted, and what is still to be written of that.
#[derive(Debug)]
pub struct TrustWatch {
    trust: Trust,
    waiting: VecDeque<TrustRead>,
}

impl TrustWatch {
    pub const fn new(trust: Trust) -> Self {
        Self { trust, waiting: VecDeque::new() }
    }

    /// Writes a row for each reading since the last look.
    pub(super) async fn look(&mut self, ledger: &Ledger) {
        self.waiting.extend(self.trust.take_readings().into_iter().map(row));
        while self.waiting.len() > WAITING {
            tracing::warn!(row = ?self.waiting.pop_front(), "an audit row is lost: the ledger cannot be written");
        }
        while let Some(row) = self.waiting.front() {
            if ledger.note(Note::Trust(row.clone())).await.is_err() {
                break;
            }
            self.waiting.pop_front();
        }
    }
}

fn row(Reading { refused: why, generation, server, cas, lists, people }: Reading) -> TrustRead {
    let what = if why.is_some() { "refused" } else { "taken" };
    TrustRead { what, why, generation, server, cas, lists, people }
}
