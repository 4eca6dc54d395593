//! Which requests a rate or a budget is about, and whose count each of them is.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::Address;

use crate::policy::condition::{Condition, Holds};
use crate::policy::facts::{Facts, Subject};
use crate::policy::rule::RuleKind;

/// `per`: what is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Per {
    Client,
    From,
    To,
    Rule,
}

/// `match` and `per` together.
#[derive(Debug, Default)]
pub(in crate::policy) struct Reach {
    pub per: Vec<Per>,
    pub kind: Option<RuleKind>,
    pub conditions: Vec<Condition>,
}

/// Whose count it is; a part that is not counted apart is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::policy) struct Scope {
    /// Set where what is counted is a chain's own coin.
    pub chain: Option<u64>,
    pub client: Option<String>,
    pub from: Option<Address>,
    pub to: Option<Address>,
    pub rule: Option<Arc<str>>,
}

impl Reach {
    pub fn covers(&self, facts: &Facts<'_>) -> bool {
        // What cannot be read was refused before; if not, it counts.
        self.kind.is_none_or(|kind| kind == RuleKind::of(&facts.subject))
            && self.conditions.iter().all(|condition| !matches!(condition.test(facts), Holds::No(_)))
    }

    pub fn scope(&self, facts: &Facts<'_>, rule: &Arc<str>) -> Scope {
        let mut scope = Scope::default();
        for per in &self.per {
            match per {
                Per::Client => scope.client = Some(facts.client.to_owned()),
                Per::From => scope.from = Some(facts.account),
                Per::Rule => scope.rule = Some(Arc::clone(rule)),
                Per::To => {
                    scope.to = match &facts.subject {
                        Subject::Transaction(transaction) => transaction.to,
                        Subject::TypedData(typed) => typed.to(),
                        Subject::Authorization(asked) => Some(asked.delegate()),
                        Subject::Message(_) => None,
                    };
                }
            }
        }
        scope
    }
}

impl fmt::Display for Scope {
    /// Such as `chain=1 from=0x…`; nothing for a count of all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.chain.map(|chain| format!("chain={chain}")),
            self.client.as_ref().map(|client| format!("client={client}")),
            self.from.map(|from| format!("from={from}")),
            self.to.map(|to| format!("to={to}")),
            self.rule.as_ref().map(|rule| format!("rule={rule}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}
