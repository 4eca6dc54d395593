//! Which nonce a claim gets, how long it waits for it, and when it is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::identity::RequestId;
use crate::ledger::tests::kit::{ASK, Ask, CHAIN, Desk, PATIENT, START, address, fresh, known, sign};
use crate::ledger::{
    Administration, Doubt, Final, Outcome, Purpose, Recorded, RefusalClass, ReserveError, Voided,
};
use crate::policy::Replace;
use crate::transaction::Tx;

const REFUSED: RefusalClass = RefusalClass::InsufficientFunds;

fn refused(class: RefusalClass) -> Outcome {
    Outcome::Refused { class, text: "the node's words".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_02_many_senders_at_once_get_a_nonce_each() {
    let desk = Desk::open(PATIENT).await;
    let sends = (0..40).map(|value| desk.send(Ask { value, mined: 3, ..ASK }));
    let nonces = join_all(sends).await.into_iter().map(|sent| sent.unwrap().nonce().unwrap());
    assert_eq!(nonces.collect::<BTreeSet<u64>>(), (3..43).collect());
}

#[tokio::test]
async fn inv_13_a_node_that_lied_about_the_mined_count_does_not_block_an_account() {
    let desk = Desk::open(PATIENT).await;
    for value in 0..64 {
        desk.send(Ask { mined: 1_000_000, value, ..ASK }).await.unwrap();
    }
    let more = desk.send(Ask { mined: 1_000_000, value: 64, ..ASK }).await;
    assert!(matches!(more, Err(ReserveError::TooManyOpen { max: 64 })), "{more:?}");
    assert_eq!(
        desk.send(Ask { value: 65, ..ASK }).await.unwrap().nonce(),
        Some(0),
        "the truth is told again"
    );
}

#[tokio::test]
async fn accounts_do_not_wait_for_each_other() {
    let desk = Desk::open(PATIENT).await;
    let one = desk.reserve(ASK).await;
    let other = desk.reserve(Ask { seed: 2, ..ASK }).await;
    assert_eq!((one.from(), other.from()), (address(1), address(2)));
}

#[tokio::test]
async fn an_accounts_payloads_are_at_the_token_side_by_side() {
    let desk = Desk::open(PATIENT).await;
    let mut signing = Vec::new();
    for value in 0..4 {
        signing.push(desk.reserve(Ask { value, ..ASK }).await);
    }
    // The last is ready first, and the second never is.
    desk.ledger.record(sign(signing.remove(3))).await.unwrap();
    let failed = signing.remove(1);
    desk.ledger.void(failed.id(), "the token did not answer").await.unwrap();
    for reserved in signing {
        desk.ledger.record(sign(reserved)).await.unwrap();
    }
    assert_eq!(desk.states().await, ["recorded", "void", "recorded", "recorded"]);
    let nonces = [desk.send(ASK).await, desk.send(ASK).await].map(|sent| sent.unwrap().nonce().unwrap());
    assert_eq!(nonces, [1, 4], "the next payload closes the gap");
}

#[tokio::test]
async fn a_burst_of_explicit_nonces_in_reverse_is_taken() {
    let desk = Desk::open(PATIENT).await;
    let send = |nonce: u64| {
        let desk = &desk;
        async move {
            sleep(Duration::from_millis(60_u64.saturating_sub(nonce.saturating_mul(20)))).await;
            desk.send(Ask { nonce: Some(nonce), ..ASK }).await.unwrap().nonce().unwrap()
        }
    };
    assert_eq!(tokio::join!(send(2), send(1), send(0)), (2, 1, 0));
}

#[tokio::test]
async fn a_burst_that_takes_longer_than_a_gap_may_is_taken_all_the_same() {
    let desk = Desk::open(PATIENT).await;
    let sends = (0..6).rev().map(|nonce| {
        let desk = &desk;
        async move {
            let reserved = fresh(
                desk.ledger.reserve(Ask { nonce: Some(nonce), ..ASK }.permitted(), Purpose::Send).await?,
            );
            sleep(Duration::from_millis(450)).await; // a slow token
            desk.ledger.record(sign(reserved)).await.unwrap();
            Ok::<_, ReserveError>(())
        }
    });
    for sent in join_all(sends).await {
        sent.unwrap();
    }
}

#[tokio::test]
async fn a_gap_that_is_at_the_token_is_none() {
    let desk = Desk::open(PATIENT).await;
    let late = async {
        sleep(Duration::from_millis(1300)).await;
        let reserved = desk.reserve(Ask { nonce: Some(0), ..ASK }).await;
        sleep(Duration::from_millis(1300)).await; // a slow token
        desk.ledger.void(reserved.id(), "a fault").await.unwrap();
        sleep(Duration::from_millis(500)).await;
        desk.send(Ask { nonce: Some(0), ..ASK }).await.unwrap();
    };
    let (above, ()) = tokio::join!(desk.send(Ask { nonce: Some(1), ..ASK }), late);
    assert_eq!(above.unwrap().nonce(), Some(1));
}

#[tokio::test]
async fn a_nonce_above_a_gap_waits_two_seconds_and_is_refused() {
    let desk = Desk::open(PATIENT).await;
    let began = Instant::now();
    let refused = desk.send(Ask { nonce: Some(5), mined: 4, ..ASK }).await.unwrap_err();
    assert!(matches!(refused, ReserveError::Gap { nonce: 5, expected: 4 }), "{refused:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_millis(3500), "{took:?}");
}

#[tokio::test]
async fn inv_10_the_same_intent_at_an_explicit_nonce_is_signed_once() {
    let desk = Desk::open(PATIENT).await;
    let ask = Ask { nonce: Some(0), ..ASK };
    let reserved = desk.reserve(ask).await;
    let again = desk.ledger.reserve(Ask { request: 2, ..ask }.permitted(), Purpose::Send);
    let first = async {
        sleep(Duration::from_millis(150)).await;
        desk.ledger.record(sign(reserved)).await.unwrap()
    };
    let (again, first) = tokio::join!(again, first);
    assert_eq!(known(again.unwrap()).raw(), first.raw(), "while it was being signed");

    let later = known(desk.ledger.reserve(ask.permitted(), Purpose::Send).await.unwrap());
    assert_eq!((later.id(), later.hash(), later.raw()), (first.id(), first.hash(), first.raw()));
    desk.ledger.settled(first.id(), Final::Mined { block: 9, succeeded: true }).await.unwrap();
    let mined = known(desk.ledger.reserve(Ask { mined: 1, ..ask }.permitted(), Purpose::Send).await.unwrap());
    assert_eq!(mined.raw(), first.raw(), "when it is long final");
}

#[tokio::test]
async fn a_repeat_takes_the_place_of_what_was_voided() {
    let desk = Desk::open(PATIENT).await;
    let ask = Ask { nonce: Some(0), ..ASK };
    let reserved = desk.reserve(ask).await;
    let void = async {
        sleep(Duration::from_millis(100)).await;
        desk.ledger.void(reserved.id(), "the token did not answer").await.unwrap()
    };
    let (again, voided) = tokio::join!(desk.ledger.reserve(ask.permitted(), Purpose::Send), void);
    assert_eq!(voided, Voided::Void);
    assert_eq!(desk.ledger.record(sign(fresh(again.unwrap()))).await.unwrap().nonce(), Some(0));
}

#[tokio::test]
async fn another_intent_at_a_used_nonce_is_refused() {
    let desk = Desk::open(PATIENT).await;
    let ask = Ask { nonce: Some(0), ..ASK };
    desk.send(ask).await.unwrap();
    for other in [Ask { value: 2, ..ask }, Ask { client: "bob", ..ask }, Ask { fee: Some(900), ..ask }] {
        let refused = desk.send(other).await.unwrap_err();
        assert!(matches!(refused, ReserveError::NonceTaken { nonce: 0, .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_nonce_that_the_chain_has_mined_is_too_low_and_is_skipped() {
    let desk = Desk::open(PATIENT).await;
    let refused = desk.send(Ask { nonce: Some(3), mined: 7, ..ASK }).await.unwrap_err();
    assert!(matches!(refused, ReserveError::NonceTooLow { nonce: 3, mined: 7 }), "{refused:?}");
    assert_eq!(desk.send(Ask { mined: 7, ..ASK }).await.unwrap().nonce(), Some(7));
    assert_eq!(desk.send(Ask { mined: 12, ..ASK }).await.unwrap().nonce(), Some(12), "somebody else sent");
    assert_eq!(desk.ledger.next_nonce(CHAIN, address(1), 12).await.unwrap(), 13);
    assert_eq!(desk.ledger.next_nonce(CHAIN, address(1), 20).await.unwrap(), 20);
}

/// An operator, or the account's `auto_bump`, means the payload that was looked at, and no other that came meanwhile.
#[tokio::test]
async fn inv_02_a_bump_takes_the_place_of_the_payload_that_it_was_for_and_of_no_other() {
    let bump = |of: &Recorded<Tx>, fee| {
        let replace = Replace::Only(of.hash());
        Ask { request: 2, nonce: Some(0), fee: Some(fee), replace, ..ASK }
    };
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(Ask { fee: Some(1000), ..OWN }).await.unwrap();
    let cancelled = Ask { value: 0, fee: Some(2000), replace: Replace::Any, ..OWN };
    let cancelled = desk.send(cancelled).await.unwrap();
    let moved = desk.send(bump(&first, 4000)).await.unwrap_err();
    assert!(matches!(moved, ReserveError::Moved), "{moved:?}");
    assert_eq!(desk.states().await, ["outbid", "recorded"], "the cancellation stands");
    let bumped = desk.send(bump(&cancelled, 4000)).await.unwrap();
    assert_eq!((bumped.nonce(), desk.states().await[1].as_str()), (Some(0), "outbid"));
    // Nor a place that is empty by now.
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(Ask { fee: Some(1000), ..OWN }).await.unwrap();
    desk.ledger.outcome(&first, refused(REFUSED)).await.unwrap();
    let moved = desk.send(bump(&first, 4000)).await.unwrap_err();
    assert!(matches!(moved, ReserveError::Moved), "{moved:?}");
}

#[tokio::test]
async fn a_nonce_that_a_node_calls_too_low_is_given_to_nobody() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(ASK).await.unwrap();
    desk.ledger.outcome(&sent, refused(RefusalClass::NonceTooLow)).await.unwrap();
    assert_eq!(desk.states().await, ["recorded"], "it may be this very payload that is mined");
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(1));
}

#[tokio::test]
async fn inv_10_an_unknown_outcome_keeps_the_nonce() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(ASK).await.unwrap();
    desk.ledger.outcome(&sent, Outcome::Unknown { text: "time-out".to_owned() }).await.unwrap();
    assert_eq!(desk.live().await[0].hash(), sent.hash());
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(1));
}

#[tokio::test]
async fn what_is_final_ends_every_other_payload_at_its_nonce() {
    let desk = Desk::open(PATIENT).await;
    let floor = |error: ReserveError| match error {
        ReserveError::Outbid { floor } => floor,
        other => panic!("{other:?}"),
    };
    let lied_of = desk.send(ASK).await.unwrap();
    for outcome in [Outcome::Accepted, refused(REFUSED)] {
        desk.ledger.outcome(&desk.again(&lied_of).await, outcome).await.unwrap();
    }
    let higher = floor(desk.send(Ask { value: 2, ..ASK }).await.unwrap_err());
    let second = desk.send(Ask { value: 2, floor: Some(higher), ..ASK }).await.unwrap();
    for outcome in [Outcome::Known, refused(REFUSED)] {
        desk.ledger.outcome(&desk.again(&second).await, outcome).await.unwrap();
    }
    let highest = floor(desk.send(Ask { value: 3, ..ASK }).await.unwrap_err());
    let signing = desk.reserve(Ask { value: 3, floor: Some(highest), ..ASK }).await;

    desk.ledger.settled(lied_of.id(), Final::Mined { block: 1, succeeded: true }).await.unwrap();
    assert_eq!(desk.states().await, ["final", "replaced", "void"]);
    assert!(desk.ledger.record(sign(signing)).await.is_err(), "its signature is worth nothing");
    // A node that lags does not bring the nonce back.
    assert_eq!(desk.send(Ask { value: 5, mined: 0, ..ASK }).await.unwrap().nonce(), Some(1));
    assert!(crate::ledger::verify(&desk.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn what_somebody_else_sent_is_written_down_when_it_is_final() {
    let desk = Desk::open(PATIENT).await;
    let final_at = |block| Final::Mined { block, succeeded: true };
    let first = desk.send(Ask { mined: 1000, ..ASK }).await.unwrap();
    desk.ledger.settled(first.id(), final_at(1)).await.unwrap();
    // Two nonces by somebody else, one of ours, and one of ours that somebody else was faster at.
    let second = desk.send(Ask { mined: 1003, ..ASK }).await.unwrap();
    let third = desk.send(Ask { mined: 1003, value: 3, ..ASK }).await.unwrap();
    assert_eq!((second.nonce(), third.nonce()), (Some(1003), Some(1004)));
    assert!(desk.external().await.is_empty(), "mined, and may be undone");
    desk.ledger.settled(second.id(), final_at(2)).await.unwrap();
    assert_eq!(desk.external().await, [(1001, 1002)]);
    desk.ledger.settled(third.id(), Final::Replaced).await.unwrap();
    assert_eq!(desk.external().await, [(1001, 1002), (1004, 1004)]);
    assert!(crate::ledger::verify(&desk.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn inv_11_a_jump_of_the_mined_count_is_refused_until_an_operator_takes_it_as_true() {
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    let jump = Ask { mined: 18, value: 2, ..ASK };
    let refused = desk.send(jump).await.unwrap_err();
    assert!(matches!(refused, ReserveError::MinedJump { mined: 18, known: 1 }), "{refused:?}");
    let doubt = Doubt { chain: CHAIN, account: address(1), mined: 18, known: 1 };
    assert_eq!(desk.ledger.doubts(), [doubt]);
    desk.send(Ask { seed: 2, mined: 900, ..ASK }).await.unwrap();
    let by = Administration {
        operator: "ops".to_owned(),
        person: "Grace".to_owned(),
        request: RequestId::from_number(9).to_string(),
    };
    desk.ledger.accept_count((CHAIN, address(1)), 18, by).await.unwrap();
    assert_eq!(desk.ledger.doubts(), []);
    // Also after a restart.
    let desk = Desk::at(desk.close().await, PATIENT, START).await.unwrap();
    assert_eq!(desk.send(jump).await.unwrap().nonce(), Some(18));
    assert!(crate::ledger::verify(&desk.file).await.unwrap().is_ok());
}

/// What a client asks for at a nonce of its own, by a rule with `replace = "own"`.
const OWN: Ask = Ask { nonce: Some(0), replace: Replace::Own, ..ASK };

#[tokio::test]
async fn a_replacement_outbids_and_one_of_the_two_becomes_final() {
    for first_wins in [true, false] {
        let desk = Desk::open(PATIENT).await;
        let first = desk.send(OWN).await.unwrap();
        let ReserveError::Outbid { floor } = desk.send(Ask { value: 2, ..OWN }).await.unwrap_err() else {
            panic!()
        };
        let second = desk.send(Ask { value: 2, floor: Some(floor), ..OWN }).await.unwrap();
        assert_eq!(
            (second.nonce(), desk.states().await),
            (Some(0), vec!["outbid".into(), "recorded".into()])
        );
        assert_eq!(desk.live().await[0].hash(), second.hash(), "only the second is sent");
        // Each is still answered to whoever asks for it again.
        for (ask, sent) in [(OWN, &first), (Ask { value: 2, ..OWN }, &second)] {
            let again = known(desk.ledger.reserve(ask.permitted(), Purpose::Send).await.unwrap());
            assert_eq!((again.hash(), again.raw()), (sent.hash(), sent.raw()));
        }
        let (winner, states) =
            if first_wins { (&first, ["final", "replaced"]) } else { (&second, ["replaced", "final"]) };
        let mined = Final::Mined { block: 1, succeeded: true };
        desk.ledger.settled(winner.id(), mined).await.unwrap();
        assert_eq!(desk.states().await, states);
        assert!(crate::ledger::verify(&desk.file).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn what_a_replacement_outbid_is_live_again_when_it_fails() {
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(OWN).await.unwrap();
    let more = Ask { value: 2, fee: Some(1000), ..OWN };
    let failed = desk.reserve(more).await;
    assert_eq!(desk.states().await, ["outbid", "reserved"]);
    desk.ledger.void(failed.id(), "the token did not answer").await.unwrap();
    assert_eq!(desk.states().await, ["recorded", "void"]);
    // A crash while it is signed comes to the same.
    let _lost = desk.reserve(more).await;
    let desk = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    assert_eq!(desk.states().await, ["recorded", "void", "void"]);
    // So does a node that refuses it for good.
    let second = desk.send(more).await.unwrap();
    desk.ledger.outcome(&second, refused(REFUSED)).await.unwrap();
    assert_eq!(desk.states().await, ["recorded", "void", "void", "vacant"]);
    assert_eq!(desk.live().await[0].hash(), first.hash());
    assert_eq!(desk.send(ASK).await.unwrap().nonce(), Some(1), "the nonce is not free");
    assert!(crate::ledger::verify(&desk.file).await.unwrap().is_ok());
}

#[tokio::test]
async fn only_ones_own_for_the_same_purpose_is_replaced_and_never_below_ten_per_cent() {
    let desk = Desk::open(PATIENT).await;
    desk.send(Ask { fee: Some(1000), ..OWN }).await.unwrap();
    let dear = Ask { fee: Some(2000), ..OWN };
    for (ask, why) in [
        (Ask { replace: Replace::Never, ..dear }, "must say replace"),
        (Ask { client: "bob", ..dear }, "another client's"),
        (Ask { fee: Some(1099), ..dear }, "underpriced"),
        (Ask { mined: 1, ..dear }, "nonce too low"),
    ] {
        let refused = desk.send(ask).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let returned = desk.ledger.reserve(dear.permitted(), Purpose::Return).await;
    assert!(matches!(returned, Err(ReserveError::NonceTaken { .. })), "{returned:?}");
    desk.send(Ask { fee: Some(1100), ..dear }).await.unwrap();
}

#[tokio::test]
async fn inv_12_open_nonces_of_an_account_are_bounded() {
    let desk = Desk::open(PATIENT).await;
    for value in 0..64 {
        desk.send(Ask { value, ..ASK }).await.unwrap();
    }
    let refused = desk.send(ASK).await.unwrap_err();
    assert!(matches!(refused, ReserveError::TooManyOpen { max: 64 }), "{refused:?}");
    desk.send(Ask { seed: 2, ..ASK }).await.unwrap();
    desk.send(Ask { mined: 1, ..ASK }).await.unwrap();
}

#[tokio::test]
async fn a_message_takes_no_nonce_and_waits_for_nobody() {
    let desk = Desk::open(PATIENT).await;
    let _signing = desk.reserve(ASK).await;
    let message = fresh(desk.ledger.reserve(ASK.message("hello"), Purpose::Send).await.unwrap());
    let recorded = desk.ledger.record(sign(message)).await.unwrap();
    assert_eq!((recorded.nonce(), recorded.raw().len()), (None, 65));
    assert!(desk.live().await.is_empty(), "it is not broadcast");
}
