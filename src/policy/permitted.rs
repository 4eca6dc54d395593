//! The proof that policy allowed one payload for one client.

use std::sync::Arc;

use alloy_primitives::{Address, B256};

use crate::identity::{AccountCaller, RequestId};
use crate::policy::Charge;
use crate::transaction::Kind;

/// What a payload with a nonce of its own may take the place of, where that nonce is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    #[default]
    Never,
    /// What the same client had signed for the same purpose: `replace = "own"`.
    Own,
    /// The recorded payload with this hash, and nothing that may have taken its place meanwhile: a bump.
    Only(B256),
    /// Whatever is there: an operator's cancellation.
    Any,
}

/// A payload that the policy allowed. Made in `policy/` only; the ledger takes nothing else.
#[derive(Clone, Debug)]
pub struct Permitted<K: Kind> {
    asked: K::Asked,
    caller: AccountCaller,
    rule: Arc<str>,
    policy: B256,
    replace: Replace,
    charges: Vec<Charge>,
    only_at: Option<u64>,
}

impl<K: Kind> Permitted<K> {
    pub(in crate::policy) const fn new(
        asked: K::Asked,
        caller: AccountCaller,
        rule: Arc<str>,
        policy: B256,
    ) -> Self {
        Self { asked, caller, rule, policy, replace: Replace::Never, charges: Vec::new(), only_at: None }
    }

    pub(in crate::policy) const fn replacing(mut self, replace: Replace) -> Self {
        self.replace = replace;
        self
    }

    pub(in crate::policy) fn charging(self, charges: Vec<Charge>) -> Self {
        Self { charges, ..self }
    }

    pub(in crate::policy) fn only_at(self, nonce: Option<u64>) -> Self {
        Self { only_at: nonce, ..self }
    }

    /// The only nonce for which it is permitted: what a node tried out was tried out as the account's next. `None`: any.
    pub const fn nonce(&self) -> Option<u64> {
        self.only_at
    }

    /// What it takes from each budget.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// What was judged.
    pub const fn asked(&self) -> &K::Asked {
        &self.asked
    }

    pub fn into_asked(self) -> K::Asked {
        self.asked
    }

    /// The account that is to sign.
    pub fn from(&self) -> Address {
        K::from(&self.asked)
    }

    /// The name of the client that asked.
    pub fn client(&self) -> &str {
        &self.caller.client().name
    }

    pub const fn caller(&self) -> &AccountCaller {
        &self.caller
    }

    pub const fn request(&self) -> RequestId {
        self.caller.request()
    }

    /// The id of the rule that allowed it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it may take the place of.
    pub const fn replace(&self) -> Replace {
        self.replace
    }

    /// The hash of the policy that was in force.
    pub const fn policy(&self) -> B256 {
        self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<K: Kind> Permitted<K> {
        /// A permission without a policy, for the tests of later stages.
        pub(crate) fn for_test(asked: K::Asked, caller: AccountCaller, policy: B256) -> Self {
            Self::new(asked, caller, "test".into(), policy)
        }

        pub(crate) fn only_at_for_test(self, nonce: u64) -> Self {
            self.only_at(Some(nonce))
        }

        pub(crate) fn charging_for_test(self, charges: Vec<Charge>) -> Self {
            self.charging(charges)
        }

        pub(crate) fn by_for_test(self, rule: &str) -> Self {
            Self { rule: rule.into(), ..self }
        }

        pub(crate) fn replacing_for_test(self, replace: Replace) -> Self {
            self.replacing(replace)
        }
    }
}
