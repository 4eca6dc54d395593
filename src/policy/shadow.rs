//! A policy that is to come, judged beside the one in force: what it would have said otherwise is told, and decides nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::identity::AccountCaller;
use crate::policy::judged::Judged;
use crate::policy::{Evidence, Moment, Policy, PolicyError, Simulated, World};

/// The folder of a policy that is tried, and what was read from it last without a mistake.
#[derive(Debug)]
pub(in crate::policy) struct Tried {
    directory: PathBuf,
    now: ArcSwapOption<Policy>,
}

/// How a policy differs from the one in force about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Both allow it, or both deny it.
    None,
    /// It would deny what is allowed: why, and the rule that allows it.
    Stricter { rule: String, why: String },
    /// It would allow what is denied: by which rule, and why it is denied.
    Looser { rule: String, why: String },
}

impl Difference {
    /// As metrics and audit rows call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "same",
            Self::Stricter { .. } => "stricter",
            Self::Looser { .. } => "looser",
        }
    }
}

impl Tried {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), now: ArcSwapOption::empty() }
    }

    pub fn now(&self) -> Option<Arc<Policy>> {
        self.now.load_full()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads its folder again. A mistake keeps the last good one, and is nobody else's matter.
    pub fn read_again(&self, world: &World) -> Result<(), PolicyError> {
        self.now.store(Some(Arc::new(Policy::load(&self.directory, world)?)));
        Ok(())
    }
}

impl Policy {
    /// What this policy says otherwise about a request than the one that decided about it, by the rule that allows it or the
    /// sentence that denies it. Rates, budgets and `outcome` are not asked.
    pub fn differs<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        evidence: Evidence,
        decided: Result<&str, &str>,
    ) -> Difference {
        let evidence = Evidence { outcome: Simulated::Then, ..evidence };
        let moment = Moment { now: self.clock.now(), evidence };
        match (decided, self.judge::<K>(caller, asked, moment)) {
            (Ok(rule), Err(denied)) => Difference::Stricter { rule: rule.to_owned(), why: denied.sentence },
            (Err(why), Ok(rule)) => Difference::Looser { rule: rule.to_string(), why: why.to_owned() },
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => Difference::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, PAY, caller, policy, transaction, transfer, world};
    use crate::transaction::Tx;

    #[test]
    fn what_another_policy_would_have_said_is_told() {
        let active = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        let differs = |other: &str, to: &str| {
            let other = policy(&format!("{CONTRACTS}{other}")).unwrap();
            let asked = transaction(&json!({ "data": transfer(to, 1) }));
            let decided = active.decide::<Tx>(&caller("ann"), asked.clone(), Evidence::default());
            other.differs::<Tx>(
                &caller("ann"),
                &asked,
                Evidence::default(),
                decided
                    .as_ref()
                    .map(crate::policy::Permitted::rule)
                    .map_err(|denied| denied.sentence.as_str()),
            )
        };
        assert_eq!(differs(PAY, ALICE), Difference::None);
        assert_eq!(differs(PAY, crate::policy::tests::TREASURY), Difference::None, "both deny it");
        let narrow = PAY.replace("[\"alice\", \"bob\"]", "[\"alice\"]");
        let stricter = differs(&narrow, BOB);
        assert!(
            matches!(&stricter, Difference::Stricter { rule, why } if rule == "pay" && why.contains("args.to")),
            "{stricter:?}"
        );
        let wide = PAY.replace("[\"alice\", \"bob\"]", "\"any\"").replace("\"pay\"", "\"wide\"");
        let looser = differs(&wide, crate::policy::tests::TREASURY);
        assert!(matches!(&looser, Difference::Looser { rule, .. } if rule == "wide"), "{looser:?}");
        // Nobody is asked what a transaction would do for the sake of a policy that decides nothing.
        let tried = PAY.replace("execution_fee", "outcome = {}\nexecution_fee");
        assert_eq!(differs(&tried, ALICE), Difference::None);
    }

    #[test]
    fn a_policy_that_is_tried_keeps_its_last_good_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.toml");
        let tried = Tried::new(folder.path());
        assert!(tried.now().is_none());
        std::fs::write(&file, format!("{CONTRACTS}{PAY}")).unwrap();
        tried.read_again(&world()).unwrap();
        let first = tried.now().unwrap().hash();
        std::fs::write(&file, "[[rule").unwrap();
        assert!(tried.read_again(&world()).is_err());
        assert_eq!(tried.now().unwrap().hash(), first);
    }
}
