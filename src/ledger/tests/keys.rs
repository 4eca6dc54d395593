//! The same request under the same key is one payload: while it is signed, after a crash, and as long as keys are kept.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::ledger::db::query;
use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, START, fresh, known, sign};
use crate::ledger::{
    Earlier, Filter, Final, Outcome, Purpose, Recorded, RefusalClass, ReserveError, Reserved, show, verify,
};
use crate::policy::Replace;
use crate::transaction::{Kind as _, Message, Tx};

const KEYED: Ask = Ask { key: Some("order-17"), ..ASK };
const WINDOW: Ask = Ask { window: Some(60), ..ASK };
const DAY: Duration = Duration::from_secs(86_400);

fn later(by: Duration) -> Timestamp {
    Timestamp::from_millis(START.millis().saturating_add(u64::try_from(by.as_millis()).unwrap()))
}

impl Desk {
    async fn earlier(&self, ask: Ask, purpose: Purpose) -> Result<Earlier<Tx>, ReserveError> {
        let permitted = ask.permitted();
        let slot = Tx::slot(permitted.asked()).unwrap();
        let intent = Tx::intent(permitted.asked());
        self.ledger.earlier(&ask.caller(), (Some(slot.chain), &intent), purpose).await
    }

    async fn met(&self, ask: Ask) -> Option<Recorded<Tx>> {
        match self.earlier(ask, Purpose::Send).await.unwrap() {
            Earlier::Recorded(recorded) => Some(recorded),
            Earlier::Nothing => None,
            Earlier::Signing => panic!("it is being signed"),
        }
    }

    async fn refuse(&self, sent: &Recorded<Tx>) {
        let no = Outcome::Refused {
            class: RefusalClass::InsufficientFunds,
            text: "insufficient funds".to_owned(),
        };
        self.ledger.outcome(sent, no).await.unwrap();
    }

    async fn names(&self) -> i64 {
        let mut db = crate::ledger::tests::kit::connect(&self.file).await;
        query("SELECT count(*) FROM idempotency").number(&mut db).await.unwrap()
    }
}

#[tokio::test]
async fn inv_10_a_repeat_under_its_key_is_the_same_transaction_and_another_key_is_another() {
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(KEYED).await.unwrap();
    let again = Ask { request: 2, ..KEYED };
    assert_eq!(desk.met(again).await.unwrap().raw(), first.raw());
    assert_eq!(desk.send(again).await.unwrap().raw(), first.raw(), "also where nobody looked before");
    let other = desk.send(Ask { key: Some("order-18"), ..KEYED }).await.unwrap();
    assert_eq!((first.nonce(), other.nonce()), (Some(0), Some(1)));
    assert_eq!(desk.send(ASK).await.unwrap().nonce(), Some(2), "without a key it is a new payment");
    let bobs = Ask { client: "bob", ..KEYED };
    assert_eq!(desk.send(bobs).await.unwrap().nonce(), Some(3), "a key is its client's own");
    verify(&desk.file).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_stands_for_one_request_only() {
    let desk = Desk::open(PATIENT).await;
    let void = desk.reserve(KEYED).await;
    let dearer = Ask { value: 2, ..KEYED };
    for _ in 0..2 {
        let reused = desk.earlier(dearer, Purpose::Send).await;
        assert!(matches!(reused, Err(ReserveError::KeyReused)), "{reused:?}");
        let reused = desk.send(dearer).await;
        assert!(matches!(reused, Err(ReserveError::KeyReused)), "{reused:?}");
        let message = desk.ledger.reserve(KEYED.message("hello"), Purpose::Return).await;
        assert!(matches!(message, Err(ReserveError::KeyReused)), "{message:?}");
        // Also after nothing came of it.
        desk.ledger.void(void.id(), "a test").await.unwrap();
    }
}

#[tokio::test]
async fn inv_02_a_repeat_waits_while_its_first_is_at_the_token() {
    let desk = Desk::open(PATIENT).await;
    let first = desk.reserve(KEYED).await;
    assert!(matches!(desk.earlier(KEYED, Purpose::Send).await, Ok(Earlier::Signing)));
    let (ledger, repeat) = (desk.ledger.clone(), Ask { request: 2, ..KEYED }.permitted());
    let waiting = tokio::spawn(async move { ledger.reserve(repeat, Purpose::Send).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = desk.ledger.record(sign(first)).await.unwrap();
    assert_eq!(known(waiting.await.unwrap().unwrap()).raw(), first.raw());
}

#[tokio::test]
async fn inv_02_what_was_never_signed_is_tried_again_under_its_key() {
    let desk = Desk::open(PATIENT).await;
    let late: Reserved<Tx> = desk.reserve(KEYED).await;
    desk.ledger.void(late.id(), "the token did not answer").await.unwrap();
    assert!(desk.met(KEYED).await.is_none());
    let second = desk.send(KEYED).await.unwrap();
    assert_eq!(second.nonce(), Some(0));
    assert!(desk.ledger.record(sign(late)).await.is_err(), "the first try is worth nothing");
    assert_eq!(desk.met(KEYED).await.unwrap().raw(), second.raw());
}

#[tokio::test]
async fn inv_10_a_key_is_known_after_kill_9_whether_it_was_recorded_or_not() {
    let desk = Desk::open(PATIENT).await;
    let recorded = desk.send(KEYED).await.unwrap();
    let reserved = Ask { key: Some("order-18"), value: 2, ..ASK };
    desk.reserve(reserved).await;
    let again = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    assert_eq!(again.met(KEYED).await.unwrap().raw(), recorded.raw());
    assert_eq!(again.send(KEYED).await.unwrap().raw(), recorded.raw());
    assert_eq!(again.send(reserved).await.unwrap().nonce(), Some(1), "signed for the first time");
    assert_eq!(again.states().await, ["recorded", "void", "recorded"]);
    verify(&again.file).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_payload_is_sent_again_until_its_nonce_is_anothers_and_then_its_refusal_stands() {
    let desk = Desk::open(PATIENT).await;
    let refused = desk.send(KEYED).await.unwrap();
    desk.refuse(&refused).await;
    assert!(desk.met(KEYED).await.is_none(), "it is judged again before it is sent again");
    let again = desk.send(KEYED).await.unwrap();
    assert_eq!(again.raw(), refused.raw());
    desk.refuse(&again).await;
    desk.send(Ask { value: 2, fee: Some(1000), ..ASK }).await.unwrap();
    for _ in 0..2 {
        let spent = desk.send(KEYED).await.unwrap_err();
        assert!(matches!(spent, ReserveError::Spent { .. }), "{spent:?}");
        assert_eq!(spent.to_string(), "insufficient funds");
        let spent = desk.earlier(KEYED, Purpose::Send).await.unwrap_err();
        assert_eq!(spent.to_string(), "insufficient funds");
    }
}

/// By an operator, or by itself: it was paid.
#[tokio::test]
async fn inv_10_a_repeat_of_what_was_bumped_gets_what_is_mined_in_its_place_and_never_hears_that_it_failed() {
    for is_final in [false, true] {
        let desk = Desk::open(PATIENT).await;
        let first = desk.send(KEYED).await.unwrap();
        let bump = Ask {
            nonce: Some(0),
            fee: Some(1000),
            replace: Replace::Only(first.hash()),
            is_bump: true,
            request: 2,
            ..ASK
        };
        let dearer = desk.send(bump).await.unwrap();
        assert_eq!(desk.met(KEYED).await.unwrap().hash(), first.hash(), "either may be mined");
        desk.ledger.outcome(&dearer, Outcome::Accepted).await.unwrap();
        if is_final {
            let mined = Final::Mined { block: 1, succeeded: true };
            desk.ledger.settled(dearer.id(), mined).await.unwrap();
            assert_eq!(desk.states().await, ["replaced", "final"]);
        } else {
            desk.refuse(&first).await;
            assert_eq!(desk.states().await, ["vacant", "recorded"]);
        }
        assert_eq!(desk.met(KEYED).await.unwrap().hash(), dearer.hash());
        for _ in 0..2 {
            assert_eq!(desk.send(Ask { request: 3, ..KEYED }).await.unwrap().hash(), dearer.hash());
        }
        assert_eq!(desk.states().await.len(), 2, "nothing was paid twice");
        let reused = desk.send(Ask { value: 2, ..KEYED }).await;
        assert!(matches!(reused, Err(ReserveError::KeyReused)), "{reused:?}");
        verify(&desk.file).await.unwrap().unwrap();
    }
    // What does something else in its place is not what it asked for; nor what another client asked for, nor itself once more.
    for (value, client, is_bump) in [(2, "alice", true), (1, "bob", true), (1, "alice", false)] {
        let desk = Desk::open(PATIENT).await;
        desk.send(KEYED).await.unwrap();
        let over = Ask { client, value, is_bump, request: 2, ..ASK };
        let other = Ask { nonce: Some(0), fee: Some(1000), replace: Replace::Any, ..over };
        let other = desk.send(other).await.unwrap();
        desk.ledger.settled(other.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
        let spent = desk.send(KEYED).await.unwrap_err();
        assert!(matches!(spent, ReserveError::Spent { refusal: None, .. }), "{spent:?}");
    }
}

/// The last refusal is told, whatever was said in between.
#[tokio::test]
async fn what_is_refused_once_more_says_so() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(KEYED).await.unwrap();
    desk.refuse(&sent).await;
    desk.ledger.outcome(&sent, Outcome::Unknown { text: "time-out".to_owned() }).await.unwrap();
    desk.refuse(&desk.again(&sent).await).await;
    desk.send(Ask { value: 2, fee: Some(1000), ..ASK }).await.unwrap();
    assert_eq!(desk.send(KEYED).await.unwrap_err().to_string(), "insufficient funds");
}

/// The refusal is true until a node takes it after all.
#[tokio::test]
async fn what_a_node_took_after_all_is_not_said_to_be_refused() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(KEYED).await.unwrap();
    desk.refuse(&sent).await;
    desk.ledger.outcome(&sent, Outcome::Accepted).await.unwrap();
    let over = Ask { value: 2, nonce: Some(0), fee: Some(1000), replace: Replace::Any, ..ASK };
    let over = desk.send(over).await.unwrap();
    desk.ledger.settled(over.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
    let told = desk.send(KEYED).await.unwrap_err().to_string();
    assert!(told.contains("another transaction is mined"), "{told}");
}

/// Its nonce was given away, and a node has it all the same: either may be mined.
#[tokio::test]
async fn inv_10_what_a_node_took_after_its_nonce_was_given_away_is_not_said_to_be_refused() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(KEYED).await.unwrap();
    desk.refuse(&sent).await;
    let over = desk.send(Ask { client: "bob", value: 2, ..ASK }).await.unwrap();
    assert_eq!(over.nonce(), Some(0));
    let told = desk.send(KEYED).await.unwrap_err();
    assert_eq!(told.to_string(), "insufficient funds");
    desk.ledger.outcome(&sent, Outcome::Accepted).await.unwrap();
    assert_eq!(desk.met(KEYED).await.unwrap().hash(), sent.hash());
    assert_eq!(desk.states().await, ["vacant", "recorded"]);
    desk.ledger.settled(over.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
    let told = desk.send(KEYED).await.unwrap_err().to_string();
    assert!(told.contains("another transaction is mined"), "{told}");
}

#[tokio::test]
async fn a_key_and_a_nonce_are_both_honoured() {
    let desk = Desk::open(PATIENT).await;
    let by_nonce = Ask { nonce: Some(0), ..ASK };
    let first = desk.send(by_nonce).await.unwrap();
    let both = Ask { nonce: Some(0), ..KEYED };
    assert!(desk.met(both).await.is_none(), "nobody knows the key yet");
    assert_eq!(desk.send(both).await.unwrap().raw(), first.raw());
    assert_eq!(desk.met(both).await.unwrap().raw(), first.raw());
    let other = desk.send(Ask { nonce: Some(1), ..both }).await;
    assert!(matches!(other, Err(ReserveError::KeyReused)), "another nonce is another request: {other:?}");
}

#[tokio::test]
async fn the_same_message_under_the_same_key_has_one_signature() {
    let desk = Desk::open(PATIENT).await;
    let claim = desk.ledger.reserve(KEYED.message("hello"), Purpose::Return).await.unwrap();
    let first = desk.ledger.record(sign(fresh(claim))).await.unwrap();
    let again = desk.ledger.reserve(KEYED.message("hello"), Purpose::Return).await.unwrap();
    assert_eq!(known(again).raw(), first.raw());
    let text = KEYED.message("hello");
    let intent = Message::intent(text.asked());
    let met =
        desk.ledger.earlier::<Message>(&KEYED.caller(), (None, &intent), Purpose::Return).await.unwrap();
    assert!(matches!(met, Earlier::Recorded(met) if met.raw() == first.raw()));
}

#[tokio::test]
async fn what_was_only_returned_is_judged_before_it_is_sent() {
    let desk = Desk::open(PATIENT).await;
    let claim = desk.ledger.reserve(KEYED.permitted(), Purpose::Return).await.unwrap();
    let signed = desk.ledger.record(sign(fresh(claim))).await.unwrap();
    assert!(matches!(desk.earlier(KEYED, Purpose::Return).await, Ok(Earlier::Recorded(_))));
    assert!(desk.met(KEYED).await.is_none());
    assert_eq!(desk.send(KEYED).await.unwrap().raw(), signed.raw());
    assert!(desk.met(KEYED).await.is_some(), "now it is ours to send");
}

#[tokio::test]
async fn inv_12_a_client_that_repeats_itself_does_not_fill_the_disk() {
    let desk = Desk::open(PATIENT).await;
    desk.send(KEYED).await.unwrap();
    for _ in 0..300 {
        assert!(desk.met(KEYED).await.is_some());
    }
    let repeats = Filter { kind: Some("repeat".to_owned()), ..Filter::default() };
    let rows = show(&desk.file, &repeats).await.unwrap().len();
    assert!((100..120).contains(&rows), "{rows}: all of the first, then a trickle");
}

#[tokio::test]
async fn within_its_clients_window_the_same_request_is_the_same_transaction() {
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(WINDOW).await.unwrap();
    assert_eq!(desk.met(WINDOW).await.unwrap().raw(), first.raw());
    assert_eq!(desk.send(WINDOW).await.unwrap().raw(), first.raw());
    assert_eq!(desk.send(Ask { value: 2, ..WINDOW }).await.unwrap().nonce(), Some(1), "another request");
    assert_eq!(desk.send(Ask { key: Some("own"), ..WINDOW }).await.unwrap().nonce(), Some(2));
    let folder = desk.close().await;
    let desk = Desk::at(folder, PATIENT, later(Duration::from_secs(59))).await.unwrap();
    assert_eq!(desk.send(WINDOW).await.unwrap().raw(), first.raw());
    let desk = Desk::at(desk.close().await, PATIENT, later(Duration::from_secs(60))).await.unwrap();
    assert!(desk.met(WINDOW).await.is_none());
    assert_eq!(desk.send(WINDOW).await.unwrap().nonce(), Some(3), "whoever asks later means it");
}

#[tokio::test]
async fn inv_12_keys_are_kept_as_long_as_is_said_and_those_of_open_transactions_longer() {
    let desk = Desk::open(PATIENT).await;
    let open = desk.send(Ask { seed: 2, ..KEYED }).await.unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        let settled = desk.send(Ask { key: Some(key), ..ASK }).await.unwrap();
        desk.ledger.settled(settled.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
    }
    assert_eq!(desk.names().await, 6);
    let desk = Desk::at(desk.close().await, PATIENT, later(DAY)).await.unwrap();
    assert_eq!(desk.met(Ask { seed: 2, ..KEYED }).await.unwrap().raw(), open.raw(), "it may still be mined");
    let new = desk.send(Ask { key: Some("a"), ..ASK }).await.unwrap();
    assert_eq!(new.nonce(), Some(5), "its first is forgotten");
    assert_eq!(desk.names().await, 2, "and so are the others");
    verify(&desk.file).await.unwrap().unwrap();
}
