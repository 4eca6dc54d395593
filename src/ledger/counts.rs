//! What the tables hold of budgets, read once: by all claims of one commit, and, where nobody else writes, by those of all
//! commits after it. What changes a count says so here; after a commit that failed everything is read anew.

use std::collections::BTreeMap;

use alloy_primitives::U256;

use crate::ledger::budget::Used;
use crate::ledger::charges::{self, Place};
use crate::ledger::db::{Db, Sql};

/// How much of other scopes is known at most when one more is read: open payloads, spent buckets, and the scopes themselves.
const MOST: usize = 64 * 1024;

/// By budget and scope.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Counts(BTreeMap<(String, String), Used<Place>>);

impl Counts {
    /// What one scope has used of one budget.
    pub(in crate::ledger) async fn read(
        &mut self,
        db: &mut Db,
        (budget, scope): (&str, &str),
    ) -> Sql<&Used<Place>> {
        let key = (budget.to_owned(), scope.to_owned());
        let used = if let Some(known) = self.0.remove(&key) {
            known
        } else {
            if self.0.values().map(size).sum::<usize>() > MOST {
                self.0.clear();
            }
            charges::used(db, budget, scope).await?
        };
        Ok(self.0.entry(key).insert_entry(used).into_mut())
    }

    /// A payload's new charge.
    pub(in crate::ledger) fn add(&mut self, (budget, scope): (&str, &str), place: Place, amount: U256) {
        if let Some(used) = self.0.get_mut(&(budget.to_owned(), scope.to_owned())) {
            used.open(place, amount);
        }
    }

    /// A charge is gone, or counts otherwise.
    pub(in crate::ledger) fn forget(&mut self, (budget, scope): (&str, &str)) {
        self.0.remove(&(budget.to_owned(), scope.to_owned()));
    }

    /// Budgets are counted anew.
    pub(in crate::ledger) fn forget_all(&mut self) {
        self.0.clear();
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
            for ((budget, scope), known) in &self.0 {
                let there = charges::used(db, budget, scope).await.unwrap();
                assert_eq!(*known, there, "what is known of {budget:?} for {scope:?}");
            }
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
            assert_eq!(counts.0.len(), known);
        }
        for number in 0..i64::try_from(MOST).unwrap() {
            counts.add(("all", "a"), Place::Alone(number), U256::ONE);
        }
        counts.read(&mut db, ("all", "a")).await.unwrap();
        assert_eq!(counts.0.len(), 2, "nothing more was read");
        assert_eq!(counts.read(&mut db, ("all", "c")).await.unwrap(), &Used::default());
        assert_eq!(counts.0.len(), 1);
    }
}
