//! Which rules can match at all, by (kind, chain, target, selector): a decision costs what its target's rules
//! cost, however many there are for others. The index only narrows; every condition is tested all the same.

use std::collections::HashMap;

use alloy_primitives::{Address, Selector};

use crate::policy::call::Call;
use crate::policy::condition::{Called, Condition};
use crate::policy::facts::Subject;
use crate::policy::rule::{Effect, Rule, RuleKind};

#[derive(Debug, Default)]
pub(in crate::policy) struct Index(HashMap<Key, Vec<usize>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: RuleKind,
    /// `None`: any.
    chain: Option<u64>,
    target: Target,
    call: CallKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Target {
    Any,
    /// A creation, or a domain without a contract.
    Nobody,
    At(Address),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CallKey {
    Any,
    Empty,
    Function(Selector),
}

impl Index {
    pub fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            for key in keys(rule) {
                index.0.entry(key).or_default().push(at);
            }
        }
        index
    }

    /// The positions of the rules that may match, in the order of the rules.
    pub fn candidates(&self, subject: &Subject<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for key in keys_of(subject) {
            found.extend(self.0.get(&key).into_iter().flatten());
        }
        found.sort_unstable();
        found
    }
}

/// Every key under which a payload may be looked for.
fn keys_of(subject: &Subject<'_>) -> Vec<Key> {
    let any = |kind| Key { kind, chain: None, target: Target::Any, call: CallKey::Any };
    let transaction = match subject {
        Subject::Transaction(transaction) => transaction,
        Subject::Message(_) => return vec![any(RuleKind::Message)],
        Subject::Authorization(_) => return vec![any(RuleKind::Authorization)],
        Subject::TypedData(typed) => {
            let any = any(RuleKind::TypedData);
            return vec![any, Key { target: typed.to().map_or(Target::Nobody, Target::At), ..any }];
        }
    };
    let exact = transaction.to.map_or(Target::Nobody, Target::At);
    let call = match transaction.call {
        Call::Creation | Call::Short => None,
        Call::Empty => Some(CallKey::Empty),
        Call::Function(selector) => Some(CallKey::Function(selector)),
    };
    let mut keys = Vec::with_capacity(8);
    for chain in [None, Some(transaction.chain)] {
        for target in [Target::Any, exact] {
            for call in [Some(CallKey::Any), call].into_iter().flatten() {
                keys.push(Key { kind: RuleKind::of(subject), chain, target, call });
            }
        }
    }
    keys
}

/// Every key that a rule stands under; a payload meets each rule under one key at most.
fn keys(rule: &Rule) -> Vec<Key> {
    let mut chain = None;
    let mut targets = vec![Target::Any];
    let mut call = CallKey::Any;
    for condition in &rule.conditions {
        match condition {
            Condition::Chain(id) => chain = Some(*id),
            // "any" takes no creation, but the condition itself says so; what was created is nowhere yet.
            Condition::To(to) if !to.any && !to.created => {
                targets = to.addresses.iter().copied().map(Target::At).collect();
                targets.extend(to.nobody.then_some(Target::Nobody));
            }
            Condition::Call(Called::Empty) => call = CallKey::Empty,
            Condition::Call(Called::Function(function)) => call = CallKey::Function(function.selector),
            _ => {}
        }
    }
    let mut keys = Vec::new();
    for kind in RuleKind::ALL {
        match (rule.kind, kind) {
            (Some(only), kind) if only != kind => {}
            (_, RuleKind::Message | RuleKind::Authorization) => {
                keys.push(Key { kind, chain: None, target: Target::Any, call: CallKey::Any });
            }
            // A domain may leave its chain open: the condition itself says what that means.
            (_, RuleKind::TypedData) => {
                let key = |target: &Target| Key { kind, chain: None, target: *target, call: CallKey::Any };
                keys.extend(targets.iter().map(key));
            }
            (_, RuleKind::Transaction | RuleKind::Presigned) => {
                keys.extend(targets.iter().map(|target| Key { kind, chain, target: *target, call }));
            }
        }
    }
    keys
}

/// The rules of one effect among the candidates.
pub(in crate::policy) fn of_effect<'a>(
    rules: &'a [Rule],
    candidates: &'a [usize],
    effect: Effect,
) -> impl Iterator<Item = &'a Rule> {
    candidates.iter().filter_map(|at| rules.get(*at)).filter(move |rule| rule.effect == effect)
}
