//! The decision: deny beats allow, order means nothing, and what no rule allows is denied.

use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{Address, B256};

use crate::clock::Clock;
use crate::identity::AccountCaller;
use crate::policy::budget::{Budget, Charge};
use crate::policy::call::Call;
use crate::policy::caps::Caps;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Book, Facts, Subject};
use crate::policy::index::{Index, of_effect};
use crate::policy::judged::{Judged, facts, is_for};
use crate::policy::permitted::{Permitted, Replace};
use crate::policy::rate::Rates;
use crate::policy::rule::{Effect, Failure, Rule};
use crate::policy::wrapper::{Whole, Wrappers};
use crate::policy::{Evidence, Moment};
use crate::transaction::{Authorizations, Filled};

/// All files of a policy folder, read and checked. The default has no rule, and denies everything.
#[derive(Debug)]
pub struct Policy {
    /// By id, so that which rule is named does not depend on the order in which they are written.
    pub(in crate::policy) rules: Vec<Rule>,
    pub(in crate::policy) index: Index,
    pub(in crate::policy) caps: Caps,
    pub(in crate::policy) rates: Rates,
    /// By id.
    pub(in crate::policy) budgets: Vec<Budget>,
    pub(in crate::policy) book: Book,
    pub(in crate::policy) wrappers: Wrappers,
    pub(in crate::policy) hash: B256,
    pub(in crate::policy) text: String,
    /// What was read, by its path from the folder. (Of ABIs that are built in, there is no such file.)
    pub(in crate::policy) files: Vec<PathBuf>,
    /// The serial of the manifest that officers signed.
    pub(in crate::policy) serial: Option<u64>,
    pub(in crate::policy) clock: Clock,
    /// Whether some rule speaks of what its account created.
    pub(in crate::policy) asks_created: bool,
    /// Whether some rule speaks of what a transaction would do.
    pub(in crate::policy) asks_outcome: bool,
}

impl Policy {
    /// Decides by what was found out ([`Policy::inquire`]), and counts what it permits on its rates.
    pub fn decide<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: K::Asked,
        evidence: Evidence,
    ) -> Result<Permitted<K>, Denied> {
        self.permit(caller, asked, (evidence, true))
    }

    /// Decides anew about a request that was permitted and counted before, and had to change or to wait (its
    /// fees had to rise; the policy was replaced): the rates do not count it again.
    pub fn decide_again<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: K::Asked,
        evidence: Evidence,
    ) -> Result<Permitted<K>, Denied> {
        self.permit(caller, asked, (evidence, false))
    }

    /// The rule that allows it, or the refusal. Pure: the same policy, caller, payload and time give the same
    /// answer, and nothing is counted. Without evidence, by the time alone.
    pub fn judge<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        at: impl Into<Moment>,
    ) -> Result<Arc<str>, Denied> {
        self.assess::<K>(caller, asked, at).map(|(rule, _)| rule)
    }

    /// As [`Policy::judge`], with what it would take from each budget. Whether they have it, the ledger knows.
    pub fn assess<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        at: impl Into<Moment>,
    ) -> Result<(Arc<str>, Vec<Charge>), Denied> {
        same_account::<K>(caller, asked)?;
        let moment = at.into();
        let whole = Whole::open(facts::<K>(caller, asked, &self.book, &moment), &self.wrappers);
        let (rule, rules) = self.verdict(&whole)?;
        let charges = self.charges(&whole, &rules)?;
        Ok((rule, charges))
    }

    /// As [`Policy::assess`], at this moment. Nothing is counted.
    pub fn assess_now<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        evidence: Evidence,
    ) -> Result<(Arc<str>, Vec<Charge>), Denied> {
        self.assess::<K>(caller, asked, Moment { now: self.clock.now(), evidence })
    }

    /// Whether this is an account of ours.
    pub fn has_account(&self, address: Address) -> bool {
        self.book.accounts.contains_key(&address)
    }

    /// Names this policy: the hash of [`Policy::text`].
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The serial that officers signed, where their signatures are asked for. It only grows.
    pub const fn serial(&self) -> Option<u64> {
        self.serial
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
        (evidence, count): (Evidence, bool),
    ) -> Result<Permitted<K>, Denied> {
        same_account::<K>(caller, &asked)?;
        let moment = Moment { now: self.clock.now(), evidence };
        let whole = Whole::open(facts::<K>(caller, &asked, &self.book, &moment), &self.wrappers);
        let (rule, rules) = self.verdict(&whole)?;
        let charges = self.charges(&whole, &rules)?;
        if count {
            self.rates.charge(&whole, &rules)?;
        }
        let replace = self.replaces(&whole);
        drop(whole);
        let permitted = Permitted::new(asked, caller.clone(), rule, self.hash);
        Ok(permitted.replacing(replace).charging(charges).only_at(moment.evidence.nonce()))
    }

    /// What it takes from each budget, by itself and by each call that it carries, of which each is counted under its own
    /// rule; whether the budgets have it is the ledger's to say.
    pub(in crate::policy) fn charges(
        &self,
        whole: &Whole<'_>,
        rules: &[Arc<str>],
    ) -> Result<Vec<Charge>, Denied> {
        let mut charges = Vec::new();
        for budget in &self.budgets {
            charges.extend(budget.charges(whole, rules)?);
        }
        Ok(charges)
    }

    /// Whether some rule that allows this lets it replace; which rule is named does not matter.
    fn replaces(&self, whole: &Whole<'_>) -> Replace {
        let names_a_nonce =
            |asked: Option<&Filled>| asked.is_some_and(|asked| asked.request().nonce().is_some());
        let mut all = true;
        for facts in whole.each() {
            let Subject::Transaction(transaction) = &facts.subject else { return Replace::Never };
            let candidates = self.index.candidates(&facts.subject);
            all &= names_a_nonce(transaction.asked)
                && self.allowing(facts, &candidates).any(|rule| rule.replaces_own);
        }
        if all { Replace::Own } else { Replace::Never }
    }

    /// The rule that allows it, if every call that it carries is allowed by some rule as well; and the rules of all.
    pub(in crate::policy) fn verdict(&self, whole: &Whole<'_>) -> Result<(Arc<str>, Vec<Arc<str>>), Denied> {
        let rules = whole.each().map(|facts| self.verdict_of_one(facts)).collect::<Result<Vec<_>, _>>()?;
        whole.is_open()?;
        self.to_look_up(whole)?;
        let none = || Denied::new(DenialCause::NoRule, "there is nothing to judge".to_owned());
        Ok((rules.first().cloned().ok_or_else(none)?, rules))
    }

    pub(in crate::policy) fn verdict_of_one(&self, facts: &Facts<'_>) -> Result<Arc<str>, Denied> {
        let candidates = self.index.candidates(&facts.subject);
        self.denied(facts, &candidates)?;
        let allowing = || of_effect(&self.rules, &candidates, Effect::Allow);
        let Some(rule) = self.allowing(facts, &candidates).next() else {
            return Err(match self.must_be_named(facts) {
                Some(why) if allowing().any(|rule| rule.matches(facts)) => refused(facts, why),
                _ => no_rule(facts, allowing()),
            });
        };
        if let Subject::Transaction(transaction) = &facts.subject {
            self.caps.check(transaction, facts)?;
        }
        Ok(Arc::clone(&rule.id))
    }

    /// What is denied whatever allows it, before an allow rule is asked.
    fn denied(&self, facts: &Facts<'_>, candidates: &[usize]) -> Result<(), Denied> {
        self.refuse_foreign(facts)?;
        if let Some(rule) = of_effect(&self.rules, candidates, Effect::Deny).find(|rule| rule.matches(facts))
        {
            let sentence =
                format!("rule `{}` forbids client `{}` to {}", rule.id, facts.client, facts.describe());
            return Err(Denied::new(DenialCause::Rule, sentence).by(&rule.id, None));
        }
        self.refuse_unread(facts)
    }

    /// The same, and by the caps, which are told last.
    pub(in crate::policy) fn forbidden(&self, facts: &Facts<'_>, candidates: &[usize]) -> Result<(), Denied> {
        self.denied(facts, candidates)?;
        match &facts.subject {
            Subject::Transaction(transaction) => self.caps.check(transaction, facts),
            Subject::TypedData(_) | Subject::Message(_) | Subject::Authorization(_) => Ok(()),
        }
    }

    /// The rules that allow one call.
    pub(in crate::policy) fn allowing<'a>(
        &'a self,
        facts: &'a Facts<'_>,
        candidates: &'a [usize],
    ) -> impl Iterator<Item = &'a Rule> {
        self.naming(facts, candidates).filter(|rule| rule.matches(facts))
    }

    /// The allow rules that say enough of what is called to allow it.
    pub(in crate::policy) fn naming<'a>(
        &'a self,
        facts: &Facts<'_>,
        candidates: &'a [usize],
    ) -> impl Iterator<Item = &'a Rule> + use<'a> {
        let must_be_named = self.must_be_named(facts).is_some();
        let allowing = of_effect(&self.rules, candidates, Effect::Allow);
        allowing.filter(move |rule| !must_be_named || rule.names_function())
    }

    /// Why a rule must name what is called: `call = "any"` is not enough for what is not known and not opened.
    fn must_be_named(&self, facts: &Facts<'_>) -> Option<&'static str> {
        let Subject::Transaction(transaction) = &facts.subject else { return None };
        let is_opened =
            |selector| self.wrappers.find(selector).is_some_and(|(_, form)| form.opens(transaction));
        match transaction.call {
            Call::Function(selector) if is_opened(selector) => None,
            _ => transaction.must_be_named(),
        }
    }

    /// What a key of ours signs is recorded here. An authorization that the ledger does not know is proof that somebody else has
    /// the key, whatever the rules say.
    fn refuse_foreign(&self, facts: &Facts<'_>) -> Result<(), Denied> {
        let Subject::Transaction(transaction) = &facts.subject else { return Ok(()) };
        let is_ours = |account| self.has_account(account);
        let own = transaction.authorizations().and_then(|all: &Authorizations| all.unrecognised(is_ours));
        let Some(by) = own else { return Ok(()) };
        let why = format!("an authorization is signed by {by}, whose key is here, and was not signed here");
        let sentence = format!("client `{}` may not {}: {why}", facts.client, facts.describe());
        Err(Denied::new(DenialCause::ForeignSignature { by }, sentence))
    }

    /// What nobody can judge is refused before any allow rule is asked.
    fn refuse_unread(&self, facts: &Facts<'_>) -> Result<(), Denied> {
        let Subject::Transaction(transaction) = &facts.subject else { return Ok(()) };
        if let Call::Function(selector) = transaction.call
            && let Some((signature, form)) = self.wrappers.find(selector)
            && !form.opens(transaction)
        {
            return Err(refused(
                facts,
                &format!(
                    "{signature} carries other calls inside it, which are not judged here; send them one by one"
                ),
            ));
        }
        match transaction.undecodable() {
            Some(why) => {
                let sentence = format!("client `{}` may not {}: {why}", facts.client, facts.describe());
                Err(Denied::new(DenialCause::Undecodable, sentence))
            }
            None => Ok(()),
        }
    }
}

/// A refusal for what a call carries, or may carry.
fn refused(facts: &Facts<'_>, why: &str) -> Denied {
    let sentence = format!("client `{}` may not {}: {why}", facts.client, facts.describe());
    Denied::new(DenialCause::Wrapper, sentence)
}

/// The payload must be from the very account for which the caller was admitted.
fn same_account<K: Judged>(caller: &AccountCaller, asked: &K::Asked) -> Result<(), Denied> {
    if K::from(asked) == caller.account() && is_for::<K>(caller) {
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
        .min_by_key(|(_, failures)| (failures.iter().any(Failure::is_about_what), failures.len()));
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

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::U256;
    use proptest::prelude::*;
    use proptest::sample::{Index as Pick, select};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, USDC, address, call, caller, policy_of, transaction, transfer,
    };
    use crate::transaction::Tx;

    /// A rule as it would be written, in parts that a property can change.
    #[derive(Clone, Debug)]
    struct Written {
        allow: bool,
        clients: &'static str,
        to: &'static str,
        call: &'static str,
        args: &'static str,
        amount: Option<u64>,
        value: Option<u64>,
    }

    impl Written {
        fn text(&self, id: usize) -> String {
            let effect = if self.allow { "allow" } else { "deny" };
            let amount = self.amount.map(|max| format!(", amount = {{ max = {max} }}")).unwrap_or_default();
            let args = match self.args {
                "" => String::new(),
                args => format!("args = {{ {args}{amount} }}\n"),
            };
            let value =
                self.value.map(|max| format!("value = {{ max = \"{max} wei\" }}\n")).unwrap_or_default();
            format!(
                "[[rule]]\nid = \"r{id}\"\neffect = \"{effect}\"\nkind = \"transaction\"\nchain = 1\nclients = [{}]\n\
                 from = [\"treasury\"]\nto = [{}]\ncall = \"{}\"\n{args}{value}\n",
                self.clients, self.to, self.call,
            )
        }
    }

    fn some_rule(allow: impl Strategy<Value = bool>) -> impl Strategy<Value = Written> {
        let clients = select(vec!["\"ann\"", "\"trader\"", "\"ben\"", "\"any\"", "\"ann\", \"ben\""]);
        let signature = "transfer(address to, uint256 amount)";
        let target = select(vec![
            ("\"usdc\"", "transfer", "to = [\"alice\", \"bob\"]"),
            ("\"usdc\"", "transfer", "to = { not = \"bob\" }"),
            ("\"usdc\"", "transfer", "to = \"any\""),
            ("\"usdc\"", "approve(address spender, uint256 amount)", "spender = \"any\""),
            ("\"usdc\"", "any", ""),
            ("\"usdc\"", "empty", ""),
            ("\"bob\", \"alice\"", signature, "to = \"any\""),
            ("\"bob\"", "any", ""),
            ("\"bob\", \"usdc\"", "empty", ""),
            ("\"any\"", signature, "to = \"$from\""),
            ("\"any\"", "any", ""),
            ("\"create\"", "any", ""),
        ]);
        let limit = || prop::option::of(select(vec![0_u64, 10, 1000]));
        (allow, clients, target, limit(), limit()).prop_map(
            |(allow, clients, (to, call, args), amount, value)| Written {
                allow,
                clients,
                to,
                call,
                args,
                amount,
                value,
            },
        )
    }

    fn some_request() -> impl Strategy<Value = (&'static str, Value)> {
        let amount = || select(vec![0_u64, 10, 500, 1000, 5000]);
        let data = prop_oneof![
            (select(vec![ALICE, BOB, crate::policy::tests::TREASURY]), amount())
                .prop_map(|(to, n)| transfer(to, n)),
            amount().prop_map(|n| call(
                "approve(address,uint256)",
                &[address(ALICE), DynSolValue::Uint(U256::from(n), 256)]
            )),
            Just("0x".to_owned()),
            Just("0x01".to_owned()),
            Just(format!("{}00", transfer(ALICE, 1))),
            Just("0xa9059cbb".to_owned()),
            Just("0xdeadbeef".to_owned()),
            Just("0xac9650d8".to_owned()),
        ];
        let to = select(vec![json!(USDC), json!(ALICE), json!(BOB), Value::Null]);
        let value = select(vec!["0x0", "0xa", "0x64"]);
        (select(vec!["ann", "ben"]), to, data, value).prop_map(|(who, to, data, value)| {
            // Without `to` there must be code.
            let data = if to.is_null() && data == "0x" { "0x00".to_owned() } else { data };
            (who, json!({ "to": to, "data": data, "value": value }))
        })
    }

    fn load(rules: &[Written]) -> Policy {
        let texts: Vec<_> = rules.iter().enumerate().map(|(id, rule)| rule.text(id)).collect();
        policy_of(&[("a.toml", CONTRACTS), ("b.toml", &texts.concat())]).unwrap_or_else(|e| panic!("{e}"))
    }

    fn judge(policy: &Policy, (who, fields): &(&str, Value)) -> Result<Arc<str>, Denied> {
        policy.judge::<Tx>(&caller(who), &transaction(fields), Timestamp::from_millis(0))
    }

    /// With no index, and no order: what the semantics say, by the letter.
    fn naively(policy: &Policy, (who, fields): &(&str, Value)) -> bool {
        let (caller, asked) = (caller(who), transaction(fields));
        let moment = Timestamp::from_millis(0).into();
        let facts = facts::<Tx>(&caller, &asked, &policy.book, &moment);
        let any = |effect| policy.rules.iter().any(|rule| rule.effect == effect && rule.matches(&facts));
        !any(Effect::Deny) && policy.refuse_unread(&facts).is_ok() && any(Effect::Allow)
    }

    proptest! {
        #[test]
        fn inv_04_without_an_allow_rule_everything_is_denied(
            denies in prop::collection::vec(some_rule(Just(false)), 0..6), request in some_request(),
        ) {
            prop_assert!(judge(&load(&denies), &request).is_err());
        }

        #[test]
        fn inv_04_deny_beats_allow(
            allows in prop::collection::vec(some_rule(Just(true)), 0..6), deny in some_rule(Just(false)),
            request in some_request(),
        ) {
            let alone = judge(&load(std::slice::from_ref(&deny)), &request).unwrap_err();
            let all: Vec<_> = allows.into_iter().chain([deny]).collect();
            let together = judge(&load(&all), &request);
            if alone.cause == DenialCause::Rule {
                prop_assert_eq!(together.unwrap_err().cause, DenialCause::Rule);
            } else {
                prop_assert!(together.err().is_none_or(|denied| denied.cause != DenialCause::Rule));
            }
        }

        #[test]
        fn inv_04_order_means_nothing_and_the_index_finds_all(
            rules in prop::collection::vec(some_rule(any::<bool>()), 0..8), request in some_request(), cut in any::<Pick>(),
        ) {
            let policy = load(&rules);
            let expected = judge(&policy, &request);
            prop_assert_eq!(naively(&policy, &request), expected.is_ok());
            prop_assert_eq!(judge(&policy, &request), expected.clone(), "the same again");

            let mut texts: Vec<_> = rules.iter().enumerate().map(|(id, rule)| rule.text(id)).collect();
            texts.reverse();
            let (one, other) = texts.split_at(cut.index(texts.len().saturating_add(1)));
            let files = [("a.toml", one.concat()), ("b.toml", CONTRACTS.to_owned()), ("c.toml", other.concat())];
            let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
            prop_assert_eq!(judge(&policy_of(&files).unwrap(), &request), expected);
        }

        #[test]
        fn inv_04_a_deny_more_or_an_allow_less_never_allows_more(
            rules in prop::collection::vec(some_rule(any::<bool>()), 1..8), deny in some_rule(Just(false)),
            request in some_request(), at in any::<Pick>(),
        ) {
            let before = judge(&load(&rules), &request);
            let mut more = rules.clone();
            more.push(deny);
            prop_assert!(before.is_ok() || judge(&load(&more), &request).is_err());
            let mut less = rules.clone();
            let at = at.index(less.len());
            if less[at].allow {
                less.remove(at);
                prop_assert!(before.is_ok() || judge(&load(&less), &request).is_err());
            }
        }

        #[test]
        fn inv_04_a_lower_budget_never_allows_more(
            rules in prop::collection::vec(some_rule(any::<bool>()), 1..6), request in some_request(),
            max in 0_u64..6000, less in 0_u64..6000,
        ) {
            let fits = |max: u64| {
                let texts: Vec<_> = rules.iter().enumerate().map(|(id, rule)| rule.text(id)).collect();
                let max = format!("0.{max:06} USDC");
                let budget = format!("[[budget]]\nid = \"b\"\nasset = \"usdc\"\nmax = \"{max}\"\nwindow = \"24h\"\n");
                let files = [("a.toml", CONTRACTS), ("b.toml", &texts.concat()), ("c.toml", &budget)];
                let policy = policy_of(&files).unwrap_or_else(|e| panic!("{e}"));
                let (who, fields) = &request;
                let assessed = policy.assess::<Tx>(&caller(who), &transaction(fields), Timestamp::from_millis(0));
                assessed.is_ok_and(|(_, charges)| charges.iter().all(|charge| charge.amount <= charge.limit.max))
            };
            prop_assert!(fits(max) || !fits(max.saturating_sub(less)));
        }

        #[test]
        fn inv_04_a_lower_limit_never_allows_more(
            rules in prop::collection::vec(some_rule(Just(true)), 1..6), request in some_request(), at in any::<Pick>(),
        ) {
            let before = judge(&load(&rules), &request);
            let mut lower = rules.clone();
            let at = at.index(lower.len());
            lower[at].amount = Some(lower[at].amount.map_or(2000, |limit| limit / 2));
            // An allow rule that says nothing of `value` allows none: there is nothing to lower.
            lower[at].value = lower[at].value.map(|value| value / 2);
            prop_assert!(before.is_ok() || judge(&load(&lower), &request).is_err());
        }
    }

    /// Another clock is all that changes.
    #[test]
    fn a_policy_goes_by_the_clock_that_it_is_given() {
        let rule = "[[rule]]\nid = \"r\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                    to = [\"alice\"]\ncall = \"empty\"\nvalue = \"any\"\nhours = \"Sat 12:00-13:00 UTC\"\n";
        let at = |seconds: u64| {
            let clock = Clock::set_to(Timestamp::from_millis(seconds * 1000));
            let policy = policy_of(&[("a.toml", CONTRACTS), ("b.toml", rule)]).unwrap().with_clock(clock);
            let asked = transaction(&json!({ "to": ALICE, "value": "0x1" }));
            let now = policy.assess_now::<Tx>(&caller("ann"), &asked, Evidence::default()).is_ok();
            assert_eq!(policy.decide::<Tx>(&caller("ann"), asked, Evidence::default()).is_ok(), now);
            now
        };
        let noon = crate::policy::tests::NOW;
        assert_eq!([at(noon - 1), at(noon), at(noon + 3599), at(noon + 3600)], [false, true, true, false]);
    }

    /// Of the rules that come near, one for this very call is nearer than one that lacks less.
    #[test]
    fn the_nearest_rule_is_one_for_the_same_call() {
        let rule = |id: &str, clients: &str, call: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"{clients}\"]\nfrom = [\"treasury\"]\n\
                 to = [\"usdc\"]\ncall = \"{call}\"\n{more}\n"
            )
        };
        let rules = [
            rule("a-send", "ann", "empty", ""),
            rule("b-bens", "ben", "transfer", "args = { to = \"any\" }"),
            rule("c-two", "ann", "transfer", "args = { to = \"bob\", amount = { max = 0 } }"),
            rule("d-one", "ann", "transfer", "args = { to = \"alice\", amount = { max = 0 } }"),
        ];
        let policy = policy_of(&[("a.toml", CONTRACTS), ("b.toml", &rules.concat())]).unwrap();
        let asked = (("ann"), json!({ "data": transfer(ALICE, 1) }));
        let denied = judge(&policy, &asked).unwrap_err();
        assert_eq!(
            (denied.rule.as_deref(), denied.condition.as_deref()),
            (Some("d-one"), Some("args.amount"))
        );
        let two = judge(
            &policy,
            &("ann", json!({ "data": transfer(crate::policy::tests::TREASURY, 1), "value": "0x1" })),
        )
        .unwrap_err();
        assert!(two.sentence.contains("`value`: ") && two.sentence.contains("; `"), "{two}");
        let other = Policy::default();
        assert!(judge(&other, &asked).unwrap_err().sentence.ends_with(": no rule allows it"));
        assert!(policy.has_account(crate::policy::tests::TREASURY.parse().unwrap()));
        assert!(!policy.has_account(ALICE.parse().unwrap()));
        assert_eq!(
            (policy.serial(), policy.hash() == alloy_primitives::keccak256(policy.text())),
            (None, true)
        );
    }
}
