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
