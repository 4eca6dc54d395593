//! Budgets over real files: what is recorded never exceeds a limit, through crashes, refusals and changes of policy.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, and fails")]

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;

use crate::clock::{Clock, Timestamp};
use crate::ledger::db::query;
use crate::ledger::tests::kit::{ASK, Ask, PATIENT, START, config, connect, fresh, policy, sign, sql};
use crate::ledger::{
    Claim, Filter, Final, Ledger, LedgerError, Outcome, OverBudget, Purpose, RecordError, Recorded,
    RefusalClass, ReserveError, Reserved,
};
use crate::ledger::{Location, usage};
use crate::policy::{Evidence, Policy};
use crate::transaction::{Fees, Message, Tx};

/// Ten wei and their fees: the fee of the kit's transfer is 21,000 gas at 207 wei.
const FEE: u64 = 21_000 * 207;

const MINUTE: &str = "id = \"b\"\nwindow = \"60s\"\n";

struct Bank {
    ledger: Ledger,
    policy: Arc<Policy>,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Bank {
    async fn open(budget: &str) -> Self {
        Self::at(tempfile::tempdir().unwrap(), budget, Clock::set_to(START)).await
    }

    async fn at(folder: tempfile::TempDir, budget: &str, clock: Clock) -> Self {
        let file = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open(&config(&file), PATIENT, clock.clone()).await.unwrap();
        let policy = policy(&format!("[[budget]]\n{MINUTE}{budget}"));
        ledger.activate(Arc::clone(&policy)).await.unwrap();
        Self { ledger, policy, clock, folder }
    }

    /// As after an orderly end, under another policy.
    async fn reopen(self, budget: &str) -> Self {
        self.ledger.close().await;
        Self::at(self.folder, budget, self.clock).await
    }

    async fn reserve(&self, ask: Ask) -> Result<Reserved<Tx>, Box<OverBudget>> {
        match self.ledger.reserve(ask.judged(&self.policy), Purpose::Send).await {
            Ok(claim) => Ok(fresh(claim)),
            Err(ReserveError::OverBudget(over)) => Err(over),
            Err(other) => panic!("{other}"),
        }
    }

    async fn send(&self, ask: Ask) -> Result<Recorded<Tx>, Box<OverBudget>> {
        let reserved = self.reserve(ask).await?;
        Ok(self.ledger.record(sign(reserved)).await.unwrap())
    }

    async fn settle(&self, sent: &Recorded<Tx>, last: Final) {
        self.ledger.settled(sent.id(), last).await.unwrap();
    }

    /// The sum of everything that counts, as it stands in the tables.
    async fn counted(&self) -> U256 {
        let mut db = connect(&self.folder.path().join("ledger.sqlite")).await;
        let rows = query("SELECT amount FROM spent UNION ALL SELECT amount FROM charge");
        let rows = rows.fetch_all(&mut db).await.unwrap();
        rows.iter().map(|row| U256::from_be_slice(row.get::<&[u8]>("amount").unwrap())).sum()
    }
}

const MINED: Final = Final::Mined { block: 1, succeeded: true };

fn ether(payments: u64) -> String {
    format!("asset = \"ether\"\nmax = \"{} wei\"\n", payments * (FEE + 10))
}

const TEN: Ask = Ask { value: 10, ..ASK };

#[tokio::test]
async fn inv_03_what_does_not_fit_is_refused_until_something_leaves_the_window() {
    let bank = Bank::open(&ether(2)).await;
    for mined in 0..2 {
        let sent = bank.send(Ask { mined, ..TEN }).await.unwrap();
        bank.settle(&sent, MINED).await;
        bank.clock.advance(Duration::from_secs(20));
    }
    let over = bank.send(Ask { mined: 2, ..TEN }).await.unwrap_err();
    assert_eq!((over.budget.as_str(), over.left.as_str()), ("b", "0 ether"));
    // The first leaves when its whole bucket has: a second more than the window.
    assert_eq!(over.room_in, Some(Duration::from_secs(21)));
    bank.clock.advance(Duration::from_secs(20));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap_err();
    bank.clock.advance(Duration::from_secs(1));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap();
}

/// A token takes its time: what leaves does so then, and not when it was asked for.
#[tokio::test]
async fn inv_03_what_is_signed_late_counts_from_its_record_on() {
    let bank = Bank::open(&ether(1)).await;
    let reserved = bank.reserve(TEN).await.unwrap();
    bank.clock.advance(Duration::from_secs(30));
    let sent = bank.ledger.record(sign(reserved)).await.unwrap();
    bank.settle(&sent, MINED).await;
    let over = bank.send(Ask { mined: 1, ..TEN }).await.unwrap_err();
    assert_eq!(over.room_in, Some(Duration::from_secs(61)));
    bank.clock.advance(Duration::from_secs(60));
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap_err();
    bank.clock.advance(Duration::from_secs(1));
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();
}

/// A machine starts before its clock is set, signs, has its clock set, and starts again.
#[tokio::test]
async fn inv_03_what_is_charged_while_the_clock_is_behind_counts_from_when_it_is_right() {
    let later = |hours: u64| Clock::set_to(Timestamp::from_millis(START.millis() + hours * 3_600_000));
    let bank = Bank::at(tempfile::tempdir().unwrap(), &ether(2), later(1)).await;
    let bank = Bank { clock: later(0), ..bank }.reopen(&ether(2)).await;
    let [first, second] = [0, 1].map(|mined| bank.send(Ask { mined, ..TEN }));
    bank.settle(&first.await.unwrap(), MINED).await;
    let second = second.await.unwrap();
    bank.clock.step(7_200_000);
    bank.settle(&second, MINED).await;

    let bank = Bank { clock: later(2), ..bank }.reopen(&ether(2)).await;
    bank.clock.advance(Duration::from_secs(60));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap_err();
    bank.clock.advance(Duration::from_secs(1));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap();
    let clock = Filter { kind: Some("clock".to_owned()), ..Filter::default() };
    let rows = crate::ledger::show(&bank.folder.path().join("ledger.sqlite"), &clock).await.unwrap();
    assert!(matches!(&rows[..], [row] if row.body.ends_with(r#""payloads":2}"#)), "{rows:?}");
}

/// A payload that a node refused, and takes after all; the machine starts twice before its clock is set.
#[tokio::test]
async fn inv_03_what_is_taken_after_all_while_the_clock_is_behind_counts_from_when_it_is_right() {
    let later = |hours: u64| Clock::set_to(Timestamp::from_millis(START.millis() + hours * 3_600_000));
    let bank = Bank::at(tempfile::tempdir().unwrap(), &ether(2), later(1)).await;
    let sent = bank.send(TEN).await.unwrap();
    let no = Outcome::Refused { class: RefusalClass::InsufficientFunds, text: String::new() };
    bank.ledger.outcome(&sent, no).await.unwrap();
    let bank = Bank { clock: later(0), ..bank }.reopen(&ether(2)).await;
    bank.ledger.outcome(&sent, Outcome::Accepted).await.unwrap();
    let bank = Bank { clock: later(0), ..bank }.reopen(&ether(2)).await;
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();

    let bank = Bank { clock: later(2), ..bank }.reopen(&ether(2)).await;
    bank.settle(&sent, MINED).await;
    bank.clock.advance(Duration::from_secs(60));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap_err();
    bank.clock.advance(Duration::from_secs(1));
    bank.send(Ask { mined: 2, ..TEN }).await.unwrap();
}

#[tokio::test]
async fn inv_03_senders_at_once_get_exactly_what_fits() {
    let bank = Arc::new(Bank::open(&ether(3)).await);
    let sends = (0..12_u64).map(|number| {
        let bank = Arc::clone(&bank);
        tokio::spawn(async move {
            bank.send(Ask { client: "alice", request: u128::from(number), ..TEN }).await.is_ok()
        })
    });
    let mut passed = 0;
    for send in sends.collect::<Vec<_>>() {
        passed += usize::from(send.await.unwrap());
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn inv_03_an_open_transaction_counts_whatever_its_age() {
    let bank = Bank::open(&ether(1)).await;
    let sent = bank.send(TEN).await.unwrap();
    bank.clock.advance(Duration::from_secs(86_400));
    assert_eq!(bank.send(TEN).await.unwrap_err().room_in, None, "nobody knows when it is mined");
    bank.settle(&sent, MINED).await;
    bank.send(Ask { mined: 1, ..TEN }).await.expect("it was recorded a day ago");
}

#[tokio::test]
async fn inv_10_a_nodes_refusal_releases_nothing_and_another_final_payload_does() {
    let bank = Bank::open(&ether(1)).await;
    let sent = bank.send(TEN).await.unwrap();
    let no = Outcome::Refused { class: RefusalClass::InsufficientFunds, text: String::new() };
    bank.ledger.outcome(&sent, no).await.unwrap();
    assert_eq!(bank.counted().await, U256::from(FEE + 10), "the refused one counts still");
    // Its nonce is another's for more fee, and what that is more is over the limit.
    let dearer = Ask { floor: Some(Fees::GasPrice(300)), ..TEN };
    bank.send(dearer).await.unwrap_err();
    bank.settle(&sent, Final::Replaced).await;
    assert_eq!(bank.counted().await, U256::ZERO);
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();
}

#[tokio::test]
async fn what_is_voided_is_free_again() {
    let bank = Bank::open(&ether(1)).await;
    let reserved = bank.reserve(TEN).await.unwrap();
    bank.reserve(TEN).await.unwrap_err();
    bank.ledger.void(reserved.id(), "the token is gone").await.unwrap();
    bank.send(TEN).await.unwrap();
}

#[tokio::test]
async fn inv_03_a_crash_keeps_what_was_recorded_and_frees_what_was_not() {
    let bank = Bank::open(&ether(2)).await;
    bank.send(TEN).await.unwrap();
    let _never_signed = bank.reserve(TEN).await.unwrap();
    bank.send(TEN).await.unwrap_err();
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(bank.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let after = Bank::at(copy, &ether(2), bank.clock.clone()).await;
    assert_eq!(after.counted().await, U256::from(FEE + 10));
    after.send(TEN).await.unwrap();
    after.send(TEN).await.unwrap_err();
}

#[tokio::test]
async fn inv_03_a_changed_budget_is_counted_anew_from_what_was_signed() {
    let bank = Bank::open("sum = \"count\"\nmax = 9\n").await;
    let first = bank.send(TEN).await.unwrap();
    bank.settle(&first, MINED).await;
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();
    // Another limit is the same count.
    let bank = bank.reopen("sum = \"count\"\nmax = 3\n").await;
    assert_eq!(bank.counted().await, U256::from(2));
    // Something else that is counted, from the same payloads: one final, one open.
    let bank = bank.reopen(&ether(2)).await;
    assert_eq!(bank.counted().await, U256::from(2 * (FEE + 10)));
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap_err();
    // A budget that was away did not count meanwhile, and is counted anew.
    let bank = bank.reopen(&ether(3).replace("\"b\"", "\"other\"")).await;
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();
    let bank = bank.reopen(&ether(3)).await;
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap_err();
}

#[tokio::test]
async fn inv_03_what_is_at_the_token_when_a_budget_comes_into_force_is_void() {
    let mut bank = Bank::open("sum = \"count\"\nmax = 9\n").await;
    let signing = bank.reserve(TEN).await.unwrap();
    bank.policy = policy(&format!("[[budget]]\n{MINUTE}{}", ether(1)));
    bank.ledger.activate(Arc::clone(&bank.policy)).await.unwrap();
    bank.send(TEN).await.unwrap();
    let late = bank.ledger.record(sign(signing)).await;
    assert!(matches!(late, Err(RecordError::Void)), "the new budget does not know of it: {late:?}");
    bank.send(TEN).await.unwrap_err();
}

/// What one policy cannot make of an old payload is no reason to refuse everybody else.
#[tokio::test]
async fn inv_09_a_policy_that_cannot_count_what_was_signed_is_refused_alone() {
    let bank = Bank::open(&ether(3)).await;
    bank.send(TEN).await.unwrap();
    let before = bank.counted().await;
    sql(&bank.folder.path().join("ledger.sqlite"), "UPDATE reservation SET raw = X'00'").await;
    let (next, other) =
        (policy(&format!("[[budget]]\n{MINUTE}sum = \"count\"\nmax = 9\n")), bank.reserve(TEN));
    // Both in one group, as far as that can be had.
    let (refused, reserved) = tokio::join!(bank.ledger.activate(Arc::clone(&next)), other);
    let error = refused.unwrap_err();
    assert!(matches!(error, LedgerError::Uncountable { payload: 1, .. }), "{error}");
    assert!(error.to_string().contains("it is no transaction; the policy before stays in force"), "{error}");
    bank.ledger.record(sign(reserved.unwrap())).await.unwrap();
    assert_eq!(bank.counted().await, before * U256::from(2), "and counts on");
    assert!(bank.ledger.activate(next).await.is_err());
    bank.send(TEN).await.unwrap();
    bank.send(TEN).await.unwrap_err();
}

#[tokio::test]
async fn scopes_are_counted_apart_and_several_budgets_charge_all_or_nothing() {
    let two = "sum = \"count\"\nmax = 1\nper = [\"client\"]\n[[budget]]\nid = \"total\"\nwindow = \"60s\"\nsum = \"count\"\nmax = 1\n";
    let bank = Bank::open(two).await;
    bank.send(TEN).await.unwrap();
    assert_eq!(bank.send(TEN).await.unwrap_err().budget, "b");
    assert_eq!(bank.send(Ask { client: "bob", ..TEN }).await.unwrap_err().budget, "total");
    assert_eq!(bank.counted().await, U256::from(2), "what one refuses is charged to none");
}

#[tokio::test]
async fn what_is_left_can_be_read_beside_the_writer() {
    let bank = Bank::open("sum = \"count\"\nmax = 3\nper = [\"client\"]\n").await;
    let file = bank.folder.path().join("ledger.sqlite");
    let look =
        || async { usage(&Location::from(&file), bank.policy.limits(), bank.clock.now()).await.unwrap() };
    assert_eq!(look().await[0].left(), U256::from(3));
    let sent = bank.send(TEN).await.unwrap();
    bank.settle(&sent, MINED).await;
    bank.send(Ask { mined: 1, ..TEN }).await.unwrap();
    let [one] = look().await.try_into().unwrap();
    assert_eq!(
        (one.scope.as_str(), one.used, one.open, one.left()),
        ("client=alice", U256::from(2), U256::ONE, U256::ONE)
    );
    assert_eq!(one.frees_in, Some(Duration::from_secs(61)));
}

#[tokio::test]
async fn messages_count_from_their_record_on() {
    let bank = Bank::open("sum = \"count\"\nmax = 1\nmatch = { kind = \"message\" }\n").await;
    let say = || async {
        let asked = ASK.message("hello").into_asked();
        let permitted = bank.policy.decide::<Message>(&ASK.caller(), asked, Evidence::default()).unwrap();
        bank.ledger.reserve(permitted, Purpose::Return).await
    };
    let Ok(Claim::Fresh(reserved)) = say().await else { panic!("it is the first") };
    bank.ledger.record(sign(reserved)).await.unwrap();
    assert!(matches!(say().await, Err(ReserveError::OverBudget(_))));
    bank.send(TEN).await.expect("a transaction is no message");
    bank.clock.advance(Duration::from_secs(62));
    assert!(say().await.is_ok());
}

#[tokio::test]
async fn inv_03_a_clock_that_is_set_frees_nothing_before_its_time() {
    let bank = Bank::open(&ether(1)).await;
    let sent = bank.send(TEN).await.unwrap();
    bank.settle(&sent, MINED).await;
    let next = Ask { mined: 1, ..TEN };
    bank.clock.step(7_200_000);
    bank.send(next).await.expect_err("two hours on, says a clock that somebody set");
    bank.clock.step(-14_400_000);
    bank.send(next).await.unwrap_err();
    bank.clock.advance(Duration::from_secs(62));
    bank.send(next).await.unwrap_err();
    bank.clock.step(7_200_000);
    bank.send(next).await.expect("a minute has passed, and the clock is right again");
}

#[tokio::test]
async fn inv_03_what_is_recorded_while_the_clock_is_behind_counts_from_its_true_time_on() {
    let bank = Bank::open(&ether(1)).await;
    bank.clock.step(-7_200_000);
    bank.clock.advance(Duration::from_secs(3600));
    let sent = bank.send(TEN).await.unwrap();
    bank.settle(&sent, MINED).await;
    bank.clock.step(7_200_000);
    bank.clock.advance(Duration::from_secs(30));
    let next = Ask { mined: 1, ..TEN };
    bank.send(next).await.expect_err("half a minute has passed");
    bank.clock.advance(Duration::from_secs(32));
    bank.send(next).await.unwrap();
}
