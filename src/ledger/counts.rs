//! What the tables hold of budgets, read once: by all claims of one commit, and, where nobody else writes, by those of all
//! commits after it. What changes a count says so here; after a commit that failed everything is read anew.

use std::collections::BTreeMap;

use alloy_primitives::U256;

use crate::ledger::budget::Used;
use crate::ledger::charges::{self, Place};
use crate::ledger::db::{Db, Sql};

/// How much is known at most when one more scope is read: open payloads, spent buckets, and the scopes themselves.
const MOST: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(in crate::ledger) struct Counts {
    /// By budget and scope.
    known: BTreeMap<(String, String), Used<Place>>,
    /// How much that is.
    size: usize,
}

impl Counts {
    /// What one scope has used of one budget.
    pub(in crate::ledger) async fn read(
        &mut self,
        db: &mut Db,
        (budget, scope): (&str, &str),
    ) -> Sql<&Used<Place>> {
        let key = (budget.to_owned(), scope.to_owned());
        let used = if let Some(known) = self.known.remove(&key) {
            known
        } else {
            if self.size >= MOST {
                self.forget_all();
            }
            let used = charges::used(db, budget, scope).await?;
            self.size = self.size.saturating_add(size(&used));
            used
        };
        Ok(self.known.entry(key).insert_entry(used).into_mut())
    }

    /// A payload's new charge.
    pub(in crate::ledger) fn add(&mut self, (budget, scope): (&str, &str), place: Place, amount: U256) {
        if let Some(used) = self.known.get_mut(&(budget.to_owned(), scope.to_owned())) {
            let before = size(used);
            used.open(place, amount);
            self.size = self.size.saturating_add(size(used)).saturating_sub(before);
        }
    }

    /// A charge is gone, or counts otherwise.
    pub(in crate::ledger) fn forget(&mut self, (budget, scope): (&str, &str)) {
        if let Some(used) = self.known.remove(&(budget.to_owned(), scope.to_owned())) {
            self.size = self.size.saturating_sub(size(&used));
        }
    }

    /// Budgets are counted anew.
    pub(in crate::ledger) fn forget_all(&mut self) {
        *self = Self::default();
    }
}

fn size(used: &Used<Place>) -> usize {
    used.open.len().saturating_add(used.spent.len()).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::kit::{connect, writer};

    impl Counts {
        /// What is known is what would be read now.
        pub(in crate::ledger) async fn compare(&self, db: &mut Db) {
            for ((budget, scope), known) in &self.known {
                let there = charges::used(db, budget, scope).await.unwrap();
                assert_eq!(*known, there, "what is known of {budget:?} for {scope:?}");
            }
            assert_eq!(self.size, self.known.values().map(size).sum::<usize>());
        }
    }

    #[tokio::test]
    async fn inv_12_of_however_many_scopes_no_more_is_known_than_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        drop(writer(&file).await);
        let (mut db, mut counts) = (connect(&file).await, Counts::default());
        for (scope, known) in [("a", 1), ("b", 2)] {
            counts.read(&mut db, ("all", scope)).await.unwrap();
            assert_eq!(counts.known.len(), known);
        }
        for number in 0..i64::try_from(MOST).unwrap() {
            counts.add(("all", "a"), Place::Alone(number), U256::ONE);
        }
        counts.read(&mut db, ("all", "a")).await.unwrap();
        assert_eq!((counts.known.len(), counts.size), (2, MOST + 2), "nothing more was read");
        assert_eq!(counts.read(&mut db, ("all", "c")).await.unwrap(), &Used::default());
        assert_eq!((counts.known.len(), counts.size), (1, 1));
    }
}
