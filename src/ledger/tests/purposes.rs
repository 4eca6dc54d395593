//! What is signed for whom to send: by us, or by the client that had it returned.

use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, fresh, known, sign};
use crate::ledger::{Purpose, Voided};

#[tokio::test]
async fn what_a_client_had_returned_is_the_clients_to_send_until_we_are_asked() {
    let desk = Desk::open(PATIENT).await;
    let ask = Ask { nonce: Some(0), ..ASK };
    let returned = fresh(desk.ledger.reserve(ask.permitted(), Purpose::Return).await.unwrap());
    assert!(!desk.ledger.record(sign(returned)).await.unwrap().is_ours_to_send());
    let open = desk.live().await;
    assert!(!open[0].is_ours_to_send());

    let asked = known(desk.ledger.reserve(ask.permitted(), Purpose::Send).await.unwrap());
    assert!(asked.is_ours_to_send());
    let open = desk.live().await;
    assert!(open[0].is_ours_to_send(), "durable before it is sent");
}

#[tokio::test]
async fn voiding_what_is_recorded_changes_nothing() {
    let desk = Desk::open(PATIENT).await;
    let recorded = desk.send(ASK).await.unwrap();
    assert_eq!(desk.ledger.void(recorded.id(), "a doubt").await.unwrap(), Voided::Recorded);
    assert_eq!(desk.states().await, ["recorded"]);
}
