//! The decision: deny beats allow, order means nothing, and what no rule allows is denied.

use std::sync::Arc;

use alloy_primitives::B256;

use crate::clock::{Clock, Timestamp};
use crate::identity::AccountCaller;
use crate::policy::caps::Caps;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Book, Call, Facts, Subject};
use crate::policy::index::{Index, of_effect};
use crate::policy::judged::{Judged, facts};
use crate::policy::permitted::Permitted;
use crate::policy::rate::Rates;
use crate::policy::rule::{Effect, Failure, Rule};
use crate::policy::wrapper::Wrappers;

/// All files of a policy folder, read and checked. The default has no rule, and denies everything.
#[derive(Debug)]
pub struct Policy {
    /// By id, so that which rule is named does not depend on the order in which they are written.
    pub(in crate::policy) rules: Vec<Rule>,
    pub(in crate::policy) index: Index,
    pub(in crate::policy) caps: Caps,
    pub(in crate::policy) rates: Rates,
    pub(in crate::policy) book: Book,
    pub(in crate::policy) wrappers: Wrappers,
    pub(in crate::policy) hash: B256,
    pub(in crate::policy) text: String,
    pub(in crate::policy) clock: Clock,
}

impl Policy {
    /// Decides, and counts what it permits on its rates.
    pub fn decide<K: Judged>(&self, caller: &AccountCaller, asked: K::Asked) -> Result<Permitted<K>, Denied> {
        self.permit(caller, asked, true)
    }

    /// Decides anew about a request that was permitted and counted before, and had to change or to wait (its
    /// fees had to rise; the policy was replaced): the rates do not count it again.
    pub fn decide_again<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: K::Asked,
    ) -> Result<Permitted<K>, Denied> {
        self.permit(caller, asked, false)
    }

    /// The rule that allows it, or the refusal. Pure: the same policy, caller, payload and time give the same
    /// answer, and nothing is counted.
    pub fn judge<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        now: Timestamp,
    ) -> Result<Arc<str>, Denied> {
        same_account::<K>(caller, asked)?;
        self.verdict(&facts::<K>(caller, asked, &self.book, now))
    }

    /// Names this policy: the hash of [`Policy::text`].
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Everything that was read, in one text: the accounts, every file and every ABI by name.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the time from another clock than the machine's. (Rates go by the machine's monotonic clock.)
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    fn permit<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: K::Asked,
        count: bool,
    ) -> Result<Permitted<K>, Denied> {
        same_account::<K>(caller, &asked)?;
        let facts = facts::<K>(caller, &asked, &self.book, self.clock.now());
        let rule = self.verdict(&facts)?;
        if count {
            self.rates.charge(&facts, &rule)?;
        }
        drop(facts);
        Ok(Permitted::new(asked, caller.clone(), rule, self.hash))
    }

    pub(in crate::policy) fn verdict(&self, facts: &Facts<'_>) -> Result<Arc<str>, Denied> {
        let candidates = self.index.candidates(&facts.subject);
        if let Some(rule) = of_effect(&self.rules, &candidates, Effect::Deny).find(|rule| rule.matches(facts))
        {
            let sentence =
                format!("rule `{}` forbids client `{}` to {}", rule.id, facts.client, facts.describe());
            return Err(Denied::new(DenialCause::Rule, sentence).by(&rule.id, None));
        }
        self.refuse_unread(facts)?;
        let Some(rule) = of_effect(&self.rules, &candidates, Effect::Allow).find(|rule| rule.matches(facts))
        else {
            return Err(no_rule(facts, of_effect(&self.rules, &candidates, Effect::Allow)));
        };
        if let Subject::Transaction(transaction) = &facts.subject {
            self.caps.check(transaction, facts)?;
        }
        Ok(Arc::clone(&rule.id))
    }

    /// What nobody can judge is refused before any allow rule is asked.
    fn refuse_unread(&self, facts: &Facts<'_>) -> Result<(), Denied> {
        let Subject::Transaction(transaction) = &facts.subject else { return Ok(()) };
        let refused = |why: &str| format!("client `{}` may not {}: {why}", facts.client, facts.describe());
        if let Call::Function(selector, _) = transaction.call
            && let Some(signature) = self.wrappers.find(selector)
        {
            let why = format!(
                "{signature} carries other calls inside it, which this version does not judge; send them one by one"
            );
            return Err(Denied::new(DenialCause::Wrapper, refused(&why)));
        }
        match transaction.undecodable() {
            Some(why) => Err(Denied::new(DenialCause::Undecodable, refused(&why))),
            None => Ok(()),
        }
    }
}

/// The payload must be from the very account for which the caller was admitted.
fn same_account<K: Judged>(caller: &AccountCaller, asked: &K::Asked) -> Result<(), Denied> {
    if K::from(asked) == caller.account() {
        return Ok(());
    }
    let sentence = format!(
        "client `{}` asked for account {}, and the payload is from another",
        caller.client().name,
        caller.account()
    );
    Err(Denied::new(DenialCause::Account, sentence))
}

/// Names the allow rule that came nearest, among those that are for this client and this account: whom other
/// rules are for is nobody else's business.
fn no_rule<'a>(facts: &Facts<'_>, allowing: impl Iterator<Item = &'a Rule>) -> Denied {
    let who = format!("client `{}` may not {}", facts.client, facts.describe());
    let nearest = allowing
        .map(|rule| (rule, rule.failures(facts)))
        .filter(|(_, failures)| !failures.iter().any(Failure::is_about_who))
        .min_by_key(|(_, failures)| failures.len());
    match nearest {
        None => Denied::new(DenialCause::NoRule, format!("{who}: no rule allows it")),
        Some((rule, failures)) => {
            let whys = failures.iter().map(|failure| format!("`{}`: {}", failure.condition, failure.why));
            let whys = whys.collect::<Vec<_>>().join("; ");
            let sentence = format!("{who}: rule `{}` comes nearest, but {whys}", rule.id);
            let condition = failures.first().map(|failure| failure.condition.as_str());
            Denied::new(DenialCause::NoRule, sentence).by(&rule.id, condition)
        }
    }
}
