//! A rule as it is meant: an effect, and the conditions that must all hold for it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::policy::condition::{Called, Condition, Holds, Targets};
use crate::policy::facts::{Facts, Subject};

/// One `[[rule]]`.
#[derive(Debug)]
pub(in crate::policy) struct Rule {
    pub id: Arc<str>,
    pub effect: Effect,
    /// `None` only in deny rules that say nothing of it: every kind.
    pub kind: Option<RuleKind>,
    /// What the rule does not say is either no condition (deny) or was filled in when it was read (allow).
    pub conditions: Vec<Condition>,
    /// Whether what it allows may take the place of what the same client had signed at the same nonce.
    pub replaces_own: bool,
    pub place: Place,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) struct Place {
    pub file: PathBuf,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum RuleKind {
    Transaction,
    Message,
    TypedData,
    /// A transaction that came signed.
    Presigned,
    /// That a contract's code may act as the account (EIP-7702).
    Authorization,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Failure {
    /// The key of the rule, such as `args.amount`.
    pub condition: String,
    /// What is so, and what would have to be.
    pub why: String,
}

impl Failure {
    /// Whether the rule is for other clients or accounts, whatever is asked.
    pub fn is_about_who(&self) -> bool {
        matches!(self.condition.as_str(), "clients" | "from")
    }

    /// Whether the rule is for other calls or types, whatever stands in this one.
    pub fn is_about_what(&self) -> bool {
        matches!(self.condition.as_str(), "call" | "primary_type")
    }
}

impl RuleKind {
    pub const ALL: [Self; 5] =
        [Self::Transaction, Self::Message, Self::TypedData, Self::Presigned, Self::Authorization];

    /// As `kind` is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Message => "message",
            Self::TypedData => "typed_data",
            Self::Presigned => "presigned",
            Self::Authorization => "authorization",
        }
    }

    pub const fn of(subject: &Subject<'_>) -> Self {
        match subject {
            Subject::Transaction(transaction) if transaction.presigned => Self::Presigned,
            Subject::Transaction(_) => Self::Transaction,
            Subject::Message(_) => Self::Message,
            Subject::TypedData(_) => Self::TypedData,
            Subject::Authorization(_) => Self::Authorization,
        }
    }
}

impl Rule {
    /// Deny beats doubt: a deny rule matches what it cannot read, an allow rule does not.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.is_for(facts)
            && self.conditions.iter().all(|condition| match (condition.test(facts), self.effect) {
                (Holds::Yes, _) | (Holds::Unclear(_), Effect::Deny) => true,
                (Holds::No(_), _) | (Holds::Unclear(_), Effect::Allow) => false,
            })
    }

    /// Every condition that keeps the rule from matching.
    pub fn failures(&self, facts: &Facts<'_>) -> Vec<Failure> {
        if !self.is_for(facts) {
            let why = "the rule is for another kind of payload".to_owned();
            return vec![Failure { condition: "kind".to_owned(), why }];
        }
        let failure = |condition: &Condition| match (condition.test(facts), self.effect) {
            (Holds::Yes, _) | (Holds::Unclear(_), Effect::Deny) => None,
            (Holds::No(why), _) | (Holds::Unclear(why), Effect::Allow) => {
                Some(Failure { condition: condition.key(), why })
            }
        };
        let mut failures: Vec<Failure> = self.conditions.iter().filter_map(failure).collect();
        // Of what is inside there is nothing to say where it is another call or type, or none that can be read.
        for (whole, inside) in [("call", "args."), ("primary_type", "fields.")] {
            if failures.iter().any(|failure| failure.condition == whole) {
                failures.retain(|failure| !failure.condition.starts_with(inside));
            }
        }
        failures
    }

    /// Whether it speaks of the very function that is called.
    pub fn names_function(&self) -> bool {
        let names = |condition: &Condition| matches!(condition, Condition::Call(Called::Function(_)));
        self.conditions.iter().any(names)
    }

    /// The chain that it is for, where it says so.
    pub fn chain(&self) -> Option<u64> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Chain(chain) => Some(*chain),
            _ => None,
        })
    }

    /// What it says of whom is called.
    pub fn to(&self) -> Option<&Targets> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::To(to) => Some(to),
            _ => None,
        })
    }

    fn is_for(&self, facts: &Facts<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == RuleKind::of(&facts.subject))
    }
}
