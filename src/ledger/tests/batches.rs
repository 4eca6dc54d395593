//! Payloads that are on several counts of one budget: a batch of calls to several contracts, or by several rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::U256;

use crate::clock::Clock;
use crate::ledger::tests::kit::{ASK, Ask, PATIENT, START, config, fresh, policy, sign};
use crate::ledger::{Final, Ledger, Location, Purpose, Recorded, ReserveError, usage};
use crate::policy::{Charge, Permitted, Policy, Replace};
use crate::transaction::Tx;

struct Desk {
    ledger: Ledger,
    policy: Arc<Policy>,
    at: Location,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// One budget of so many.
    async fn open(max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("ledger.sqlite"));
        let ledger = Ledger::open(&config, PATIENT, Clock::set_to(START)).await.unwrap();
        let policy = policy(&format!(
            "[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = {max}\nwindow = \"1h\"\nper = [\"to\"]\n"
        ));
        ledger.activate(Arc::clone(&policy)).await.unwrap();
        Self { ledger, policy, at: Location::from(&config), _folder: folder }
    }

    fn permitted(&self, ask: Ask, takes: &[(&str, u64)]) -> Permitted<Tx> {
        let limit = self.policy.limits().next().unwrap();
        let charge = |(scope, amount): &(&str, u64)| Charge {
            limit: Arc::clone(limit),
            scope: (*scope).to_owned(),
            amount: U256::from(*amount),
        };
        let ask = Ask { policy: self.policy.hash(), ..ask };
        ask.permitted().charging_for_test(takes.iter().map(charge).collect())
    }

    async fn send(&self, ask: Ask, takes: &[(&str, u64)]) -> Result<Recorded<Tx>, ReserveError> {
        let claim = self.ledger.reserve(self.permitted(ask, takes), Purpose::Send).await?;
        Ok(self.ledger.record(sign(fresh(claim))).await.unwrap())
    }

    async fn mined(&self, sent: &Recorded<Tx>) {
        self.ledger.settled(sent.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
    }

    /// What counts now, by scope, and how much of it is open.
    async fn used(&self) -> BTreeMap<String, (u64, u64)> {
        let all = usage(&self.at, self.policy.limits(), Clock::set_to(START).now()).await.unwrap();
        all.into_iter().map(|one| (one.scope, (one.used.to(), one.open.to()))).collect()
    }
}

fn counts<const N: usize>(counts: [(&str, (u64, u64)); N]) -> BTreeMap<String, (u64, u64)> {
    counts.map(|(scope, count)| (scope.to_owned(), count)).into()
}

#[tokio::test]
async fn inv_03_a_batch_is_on_each_of_its_counts_and_fits_into_all_of_them_or_is_refused() {
    let desk = Desk::open(2).await;
    let first = desk.send(ASK, &[("a", 1), ("b", 1)]).await.unwrap();
    assert_eq!(desk.used().await, counts([("a", (1, 1)), ("b", (1, 1))]));
    desk.mined(&first).await;
    desk.send(Ask { mined: 1, ..ASK }, &[("b", 1)]).await.unwrap();
    assert_eq!(desk.used().await, counts([("a", (1, 0)), ("b", (2, 1))]));

    // With others in its commit, who have no part in it.
    let over = desk
        .ledger
        .reserve(desk.permitted(Ask { mined: 1, value: 7, ..ASK }, &[("a", 1), ("b", 1)]), Purpose::Send);
    let beside = desk
        .ledger
        .reserve(desk.permitted(Ask { mined: 1, value: 8, ..ASK }, &[("a", 1), ("c", 1)]), Purpose::Send);
    let (over, beside) = tokio::join!(over, beside);
    assert!(matches!(over, Err(ReserveError::OverBudget(_))), "{over:?}");
    beside.unwrap();
    assert_eq!(desk.used().await, counts([("a", (2, 1)), ("b", (2, 1)), ("c", (1, 1))]));
}

/// An operator's order, under other rules than those that allowed it first.
#[tokio::test]
async fn inv_03_what_takes_a_batchs_place_is_on_all_of_its_counts() {
    let over = |nonce| Ask { nonce: Some(nonce), fee: Some(1000), replace: Replace::Any, ..ASK };
    let desk = Desk::open(9).await;
    desk.send(ASK, &[("a", 1), ("b", 2)]).await.unwrap();
    let same = desk.send(over(0), &[("b", 3), ("a", 1)]).await.unwrap();
    assert_eq!(desk.used().await, counts([("a", (1, 1)), ("b", (3, 3))]), "each in its place, with its most");
    desk.mined(&same).await;
    assert_eq!(desk.used().await, counts([("a", (1, 0)), ("b", (3, 0))]));

    desk.send(Ask { mined: 1, ..ASK }, &[("a", 1), ("b", 2)]).await.unwrap();
    let other = desk.send(Ask { mined: 1, ..over(1) }, &[("bump", 2), ("bump of b", 1)]).await.unwrap();
    desk.mined(&other).await;
    assert_eq!(
        desk.used().await,
        counts([("a", (4, 0)), ("b", (6, 0))]),
        "three on each, and none on its own"
    );

    desk.send(Ask { mined: 2, ..ASK }, &[("a", 1), ("b", 1)]).await.unwrap();
    let less = desk.send(Ask { mined: 2, ..over(2) }, &[("a", 1)]).await.unwrap();
    desk.mined(&less).await;
    assert_eq!(
        desk.used().await,
        counts([("a", (5, 0)), ("b", (7, 0))]),
        "what it leaves out stays as it was"
    );
}

/// It was allowed by the rule of what it does again.
#[tokio::test]
async fn inv_03_what_was_bumped_is_counted_anew_by_the_rule_that_allowed_it() {
    let mut desk = Desk::open(9).await;
    let again = |fee| Ask { nonce: Some(0), fee: Some(fee), replace: Replace::Any, ..ASK };
    let send = async |desk: &Desk, ask: Ask, rule: &str| {
        let permitted = desk.permitted(ask, &[("a", 1)]).by_for_test(rule);
        let claim = desk.ledger.reserve(permitted, Purpose::Send).await.unwrap();
        desk.ledger.record(sign(fresh(claim))).await.unwrap()
    };
    send(&desk, ASK, "pay").await;
    send(&desk, again(1000), "chancery: bump").await;
    let last = send(&desk, again(2000), "chancery: auto bump").await;
    for (budget, count) in [("c", (1, 1)), ("d", (1, 0))] {
        desk.policy = policy(&format!(
            "[[budget]]\nid = \"{budget}\"\nsum = \"count\"\nmax = 9\nwindow = \"1h\"\nper = [\"rule\"]\n"
        ));
        desk.ledger.activate(Arc::clone(&desk.policy)).await.unwrap();
        assert_eq!(desk.used().await, counts([("rule=pay", count)]));
        desk.mined(&last).await;
    }
}
