//! What many requests take from the budgets together, before any of them is made.

use serde::Serialize;

use crate::policy::Charge;

/// The sums of some charges, one for each count of a budget.
#[derive(Debug, Default)]
pub struct Takings(Vec<Charge>);

/// One of them, as people read it.
#[derive(Debug, Serialize)]
pub struct Taken {
    pub budget: String,
    /// Whose count it is; empty where it is one for all.
    pub scope: String,
    pub amount: String,
    pub max: String,
    /// Whether it is more than the budget ever has.
    pub over: bool,
}

impl Takings {
    pub fn shown(&self) -> Vec<Taken> {
        self.0.iter().map(Taken::from).collect()
    }

    fn add(&mut self, charge: Charge) {
        let same = |other: &&mut Charge| other.limit.id == charge.limit.id && other.scope == charge.scope;
        match self.0.iter_mut().find(same) {
            Some(other) => other.amount = other.amount.saturating_add(charge.amount),
            None => self.0.push(charge),
        }
    }
}

impl Extend<Charge> for Takings {
    fn extend<T: IntoIterator<Item = Charge>>(&mut self, charges: T) {
        for charge in charges {
            self.add(charge);
        }
    }
}

impl From<&Charge> for Taken {
    fn from(charge: &Charge) -> Self {
        let limit = &charge.limit;
        Self {
            budget: limit.id.clone(),
            scope: charge.scope.clone(),
            amount: limit.show(charge.amount),
            max: format!("{} in {}", limit.show(limit.max), limit.show_window()),
            over: charge.amount > limit.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use alloy_primitives::{B256, U256};

    use super::*;
    use crate::policy::budget::{Limit, Measure};

    fn charge(id: &str, scope: &str, amount: u64) -> Charge {
        let limit = Limit {
            id: id.to_owned(),
            max: U256::from(10),
            window: Duration::from_secs(86_400),
            definition: B256::ZERO,
            unit: Measure::Plain,
        };
        Charge { limit: Arc::new(limit), scope: scope.to_owned(), amount: U256::from(amount) }
    }

    #[test]
    fn what_goes_on_one_count_is_added_up() {
        let mut takings = Takings::default();
        takings.extend([charge("a", "from=x", 4), charge("a", "from=y", 10), charge("b", "from=x", 1)]);
        takings.extend([charge("a", "from=x", 7), charge("b", "from=x", 2)]);
        let shown = takings.shown();
        let shown: Vec<_> = shown
            .iter()
            .map(|one| {
                (one.budget.as_str(), one.scope.as_str(), one.amount.as_str(), one.max.as_str(), one.over)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a", "from=x", "11", "10 in 24h", true),
                ("a", "from=y", "10", "10 in 24h", false),
                ("b", "from=x", "3", "10 in 24h", false),
            ]
        );
    }
}
