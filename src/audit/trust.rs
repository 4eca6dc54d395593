//! Which certificates, CAs, revocation lists and people were taken in, and which were not.

use crate::ledger::{Ledger, Note, TrustRead};
use crate::listener::{Trust, Trusted};

/// Who is trusted, and what was last written of that.
#[derive(Debug)]
pub struct TrustWatch {
    trust: Trust,
    written: Option<(u64, Option<String>)>,
}

impl TrustWatch {
    pub const fn new(trust: Trust) -> Self {
        Self { trust, written: None }
    }

    /// Writes a row where something was read since the last look. Of several reloads between two looks the last one is
    /// told; the generation says how many there were.
    pub(super) async fn look(&mut self, ledger: &Ledger) {
        let now = Some((self.trust.generation(), self.trust.trouble()));
        if self.written == now {
            return;
        }
        let why = self.trust.trouble();
        let Trusted { generation, server, cas, lists, people } = self.trust.trusted();
        let what = if why.is_some() { "refused" } else { "taken" };
        let row = TrustRead { what, why: why.clone(), generation, server, cas, lists, people };
        // One that cannot be written is tried again at the next look.
        if ledger.note(Note::Trust(row)).await.is_ok() {
            self.written = Some((generation, why));
        }
    }
}
