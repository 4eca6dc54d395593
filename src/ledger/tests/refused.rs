//! What becomes of a nonce that a node's definite refusal made free: whether what comes there has to outbid what was.

use crate::identity::{Caller, RequestId};
use crate::ledger::tests::kit::{
    ASK, Ask, CHAIN, Desk, PATIENT, POLICY, START, address, fresh, known, sign, turn, writer,
};
use crate::ledger::{Claim, Ledger, Outcome, Presented, Purpose, RefusalClass, ReserveError, Standing};
use crate::transaction::Tx;
use futures_util::FutureExt as _;
use std::sync::Arc;

fn refused() -> Outcome {
    Outcome::Refused { class: RefusalClass::InsufficientFunds, text: "the node's words".to_owned() }
}

#[tokio::test]
async fn inv_02_a_nonce_that_was_dropped_goes_only_to_who_outbids() {
    let desk = Desk::open(PATIENT).await;
    let first = desk.send(ASK).await.unwrap();
    desk.ledger.outcome(&first, Outcome::Accepted).await.unwrap();
    desk.ledger.outcome(&desk.again(&first).await, refused()).await.unwrap();
    assert!(desk.live().await.is_empty(), "what was refused is not sent again");

    let fixed = desk.send(Ask { nonce: Some(0), fee: Some(100), ..ASK }).await.unwrap_err();
    assert!(matches!(fixed, ReserveError::Underpriced), "{fixed:?}");
    let ReserveError::Outbid { floor } = desk.send(Ask { value: 2, ..ASK }).await.unwrap_err() else {
        panic!()
    };
    let second = desk.send(Ask { value: 2, floor: Some(floor), ..ASK }).await.unwrap();
    assert_eq!((first.nonce(), second.nonce()), (Some(0), Some(0)));

    // The node takes the first after all, too late: its nonce has gone to another.
    desk.ledger.outcome(&first, Outcome::Accepted).await.unwrap();
    assert_eq!(desk.states().await, ["vacant", "recorded"]);
}

/// Its fees, which cost its client nothing, are in nobody's way, and do not grow with every try.
#[tokio::test]
async fn inv_13_what_no_node_ever_took_is_outbid_by_nobody() {
    let desk = Desk::open(PATIENT).await;
    for value in 1..=3 {
        let sent = desk.send(Ask { value, fee: Some(u64::MAX), ..ASK }).await.unwrap();
        assert_eq!(sent.nonce(), Some(0));
        desk.ledger.outcome(&sent, refused()).await.unwrap();
        assert!(desk.ledger.open_transactions().await.unwrap().iter().all(|one| one.least_over().is_none()));
    }
    let next = desk.send(Ask { client: "bob", value: 4, ..ASK }).await.unwrap();
    assert_eq!((next.nonce(), desk.states().await[3].as_str()), (Some(0), "recorded"));

    // From the first time on that it may be in a pool it has to be outbid, also by what was written before a crash.
    let unknown = Outcome::Unknown { text: "time-out".to_owned() };
    desk.ledger.outcome(&next, refused()).await.unwrap();
    for outcome in [unknown, refused()] {
        desk.ledger.outcome(&desk.again(&next).await, outcome).await.unwrap();
    }
    let desk = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    let cheap = desk.send(Ask { value: 5, ..ASK }).await.unwrap_err();
    assert!(matches!(cheap, ReserveError::Outbid { .. }), "{cheap:?}");
    let words = desk.words().await;
    assert_eq!(words, ["refused", "refused", "refused", "refused", "unknown", "dropped"]);
    crate::ledger::verify(&desk.file).await.unwrap().unwrap();
    desk.sql("UPDATE reservation SET outcome = 'refused' WHERE id = 4").await;
    let told = crate::ledger::verify(&desk.file).await.unwrap().unwrap_err();
    assert!(told.why.contains("another word of a node"), "{told:?}");
}

/// Two clients that ask for the very same make two rows of one hash otherwise, where a token signs the same alike.
#[tokio::test]
async fn inv_02_what_was_signed_and_refused_is_not_signed_once_more_for_another() {
    let desk = Desk::open(PATIENT).await;
    for (nonce, fee) in [(None, None), (Some(0), Some(900))] {
        let ask = Ask { nonce, fee, ..ASK };
        let sent = desk.send(ask).await.unwrap();
        desk.ledger.outcome(&sent, refused()).await.unwrap();
        let bobs = desk.send(Ask { client: "bob", ..ask }).await.unwrap_err();
        let is_told = if fee.is_some() {
            matches!(bobs, ReserveError::Underpriced)
        } else {
            matches!(bobs, ReserveError::Outbid { .. })
        };
        assert!(is_told, "{bobs:?}");
    }
    let other = desk.send(Ask { client: "bob", value: 7, ..ASK }).await.unwrap();
    assert_eq!(other.nonce(), Some(0), "something else for the same fees");
}

#[tokio::test]
async fn a_refused_payload_that_a_node_takes_after_all_is_live_again() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(ASK).await.unwrap();
    for outcome in [Outcome::Accepted, refused(), Outcome::Accepted] {
        desk.ledger.outcome(&desk.again(&sent).await, outcome).await.unwrap();
    }
    assert_eq!(desk.live().await[0].raw(), sent.raw());
    let verified = crate::ledger::verify(&desk.file).await.unwrap();
    assert!(verified.is_ok(), "every turn is in the chain: {verified:?}");
}

/// Whatever was said of it before, and whoever has it: its fees are in nobody's way.
#[tokio::test]
async fn inv_13_what_no_node_can_take_was_never_in_a_pool() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(Ask { fee: Some(u64::MAX), ..ASK }).await.unwrap();
    desk.ledger.outcome(&sent, Outcome::Unknown { text: "time-out".to_owned() }).await.unwrap();
    let invalid = Outcome::Refused { class: RefusalClass::IntrinsicGas, text: String::new() };
    desk.ledger.outcome(&desk.again(&sent).await, invalid).await.unwrap();
    assert_eq!(
        (desk.states().await, desk.words().await),
        (vec!["vacant".to_owned()], vec!["unknown".to_owned(), "invalid".to_owned()])
    );
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(0));
    crate::ledger::verify(&desk.file).await.unwrap().unwrap();
}

/// Whoever hands in once more what a node took: a node that cannot take it is another's mistake.
#[tokio::test]
async fn inv_02_what_a_node_took_stays_so_whatever_is_said_when_its_client_hands_it_in() {
    let invalid = || Outcome::Refused { class: RefusalClass::IntrinsicGas, text: String::new() };
    for handed_in in [false, true] {
        let desk = Desk::open(PATIENT).await;
        let sent = desk.send(Ask { nonce: Some(0), ..ASK }).await.unwrap();
        desk.ledger.outcome(&sent, Outcome::Accepted).await.unwrap();
        if handed_in {
            desk.ledger.outcome_of_client(&desk.again(&sent).await, invalid()).await.unwrap();
            assert_eq!(desk.words().await, ["accepted", "dropped"]);
        } else {
            // Another replica had it taken since this task took it in hand.
            assert!(matches!(desk.ledger.outcome(&sent, invalid()).await, Ok(Outcome::Unknown { .. })));
            assert_eq!(desk.words().await, ["accepted"]);
        }
        crate::ledger::verify(&desk.file).await.unwrap().unwrap();
    }
}

/// A process that was killed may have had it sent, and no word of it written.
#[tokio::test]
async fn inv_10_what_is_sent_again_without_a_word_of_it_may_be_in_a_pool() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(ASK).await.unwrap();
    desk.ledger.outcome(&desk.again(&sent).await, refused()).await.unwrap();
    let told = desk.send(Ask { value: 2, seed: 2, ..ASK }).await.unwrap();
    for _ in 0..2 {
        desk.ledger.outcome(&told, refused()).await.unwrap();
        desk.ledger.outcome(&desk.again(&told).await, refused()).await.unwrap();
    }
    assert_eq!(desk.words().await, ["dropped", "refused"]);
}

/// Its first may have been sent by a process that was killed, or be under way in another replica.
#[tokio::test]
async fn inv_02_a_repeat_that_is_refused_does_not_say_that_its_first_was() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let first = desk.send(named).await.unwrap();
    let repeat = desk.send(named).await.unwrap();
    assert_eq!((repeat.raw(), repeat.is_in_hand()), (first.raw(), false));
    drop((first, repeat));
    let repeat = desk.send(named).await.unwrap();
    assert!(!repeat.is_in_hand(), "it is looked after");
    let again = desk.ledger.take_up::<Tx>(repeat.id()).await.unwrap().unwrap();
    desk.ledger.outcome(&again, refused()).await.unwrap();
    assert_eq!(desk.words().await, ["unknown", "dropped"]);
    let next = desk.send(Ask { value: 2, ..ASK }).await.unwrap_err();
    assert!(matches!(next, ReserveError::Outbid { .. }), "both may be mined else: {next:?}");
}

/// Its client may hand it to whom it likes, whatever our nodes say.
#[tokio::test]
async fn inv_02_what_its_client_has_is_never_held_to_be_nowhere() {
    let named = Ask { nonce: Some(0), ..ASK };
    let returned =
        async |desk: &Desk| match desk.ledger.reserve(named.permitted(), Purpose::Return).await.unwrap() {
            Claim::Fresh(reserved) => desk.ledger.record(sign(reserved)).await.unwrap(),
            Claim::Known(known) => known,
        };
    // Returned first, then sent here; refused first, then returned; handed in with its bytes; refused, and then handed in, which a
    // kill cuts short; returned while it is handed over once more.
    for case in 0..5 {
        let desk = Desk::open(PATIENT).await;
        if case == 0 {
            returned(&desk).await;
        }
        let sent = desk.send(named).await.unwrap();
        if case == 2 {
            desk.ledger.outcome_of_client(&sent, refused()).await.unwrap();
        } else {
            desk.ledger.outcome(&sent, refused()).await.unwrap();
        }
        if case == 1 {
            assert_eq!(returned(&desk).await.raw(), sent.raw());
        }
        if case == 4 {
            let sent_id = sent.id();
            drop(sent);
            let again = desk.send(named).await.unwrap();
            returned(&desk).await;
            let told = desk.ledger.outcome(&again, refused()).await.unwrap();
            assert!(matches!(told, Outcome::Unknown { .. }), "{told:?}");
            drop(again);
            let again = desk.ledger.take_up::<Tx>(sent_id).await.unwrap().unwrap();
            desk.ledger.outcome(&again, refused()).await.unwrap();
        } else if case == 3 {
            let place = (CHAIN, address(ASK.seed), 0);
            let caller = Caller::new(Arc::new(ASK.caller().client().clone()), RequestId::from_number(9));
            let presented = desk.ledger.presented(&caller, (place, sent.hash()), true).await.unwrap();
            assert!(matches!(presented, Some(Presented::Ours(_))), "{presented:?}");
            drop(presented);
        }
        assert_eq!(desk.states().await, ["vacant"], "{case}");
        let cheap = desk.send(Ask { value: 2, ..ASK }).await.unwrap_err();
        assert!(matches!(cheap, ReserveError::Outbid { .. }), "{case}: {cheap:?}");
        crate::ledger::verify(&desk.file).await.unwrap().unwrap();
    }
}

/// Whoever is told pays again. That it is taken after all must not be forgotten either: its nonce would go to another.
#[tokio::test]
async fn inv_02_only_that_a_node_took_what_is_new_is_told_before_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    tokio::join!(ledger.activate_policy(POLICY, "allow all"), turn(&mut writer, &mut queue)).0.unwrap();
    for (nonce, (said, waits)) in (0..).zip([
        (Outcome::Accepted, false),
        (Outcome::Known, false),
        (Outcome::Unknown { text: "time-out".to_owned() }, true),
        (refused(), true),
    ]) {
        let ask = Ask { nonce: Some(nonce), ..ASK };
        let claim = ledger.reserve(ask.permitted(), Purpose::Send);
        let signed = sign(fresh(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap()));
        let sent = tokio::join!(ledger.record(signed), turn(&mut writer, &mut queue)).0.unwrap();
        let claim = ledger.reserve(ask.permitted(), Purpose::Send);
        for (sent, said, waits) in [
            (sent, said, waits),
            (known(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap()), Outcome::Accepted, true),
        ] {
            let mut told = Box::pin(ledger.outcome(&sent, said.clone()));
            let was_told = (&mut told).now_or_never();
            assert_eq!(was_told.is_none(), waits, "{nonce} {said:?}");
            turn(&mut writer, &mut queue).await;
            if waits {
                told.await.unwrap();
            }
        }
    }
}

/// The node's word that made it so was durable before its client had it.
#[tokio::test]
async fn inv_02_what_was_refused_and_is_taken_after_all_keeps_its_nonce_over_a_kill() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let sent = desk.send(named).await.unwrap();
    desk.ledger.outcome(&sent, refused()).await.unwrap();
    drop(sent);
    let repeat = desk.send(named).await.unwrap();
    desk.ledger.outcome(&repeat, Outcome::Accepted).await.unwrap();
    let folder = desk.killed();
    let desk = Desk::at(folder, PATIENT, START).await.unwrap();
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(1));
}

/// A node may have it from the moment on at which it may leave, and a kill keeps that from being told.
#[tokio::test]
async fn inv_02_what_was_refused_and_is_sent_again_may_be_in_a_pool_until_a_node_says_no() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let sent = desk.send(named).await.unwrap();
    desk.ledger.outcome(&sent, refused()).await.unwrap();
    drop(sent);
    let repeat = desk.send(named).await.unwrap();
    let killed = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    let next = killed.send(Ask { value: 2, ..ASK }).await.unwrap();
    assert_eq!(next.nonce(), Some(1), "both may be mined else");
    assert!(!killed.send(named).await.unwrap().is_in_hand(), "it is looked after");
    // Another's refusal after that says nothing of the time before.
    let again = killed.ledger.take_up::<Tx>(repeat.id()).await.unwrap().unwrap();
    killed.ledger.outcome(&again, refused()).await.unwrap();
    assert_eq!(killed.words().await, ["refused", "resent", "unknown", "dropped"]);
    let next = killed.send(Ask { value: 3, ..ASK }).await.unwrap_err();
    assert!(matches!(next, ReserveError::Outbid { .. }), "both may be mined else: {next:?}");
    crate::ledger::verify(&killed.file).await.unwrap().unwrap();

    desk.ledger.outcome(&repeat, refused()).await.unwrap();
    assert_eq!(desk.words().await, ["refused", "resent", "refused"]);
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(0), "it is in nobody's way");
    crate::ledger::verify(&desk.file).await.unwrap().unwrap();
}

#[tokio::test]
async fn inv_02_a_refusal_that_could_not_be_written_is_told_of_nothing_that_is_sent_again() {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(Ask { nonce: Some(0), ..ASK }).await.unwrap();
    desk.sql("CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no more'); END").await;
    desk.ledger.outcome(&sent, refused()).await.unwrap_err();
    assert!(matches!(refused().unwritten(sent.standing()), Outcome::Unknown { .. }));
    desk.sql("DROP TRIGGER broken").await;
    let [live] = &desk.live().await[..] else { panic!("it is sent again") };
    assert_eq!((live.raw(), live.standing()), (sent.raw(), Standing::Live));
    desk.ledger.outcome(&sent, refused()).await.unwrap();
    drop(sent);
    let repeat = desk.send(Ask { nonce: Some(0), ..ASK }).await.unwrap();
    assert!(matches!(refused().unwritten(repeat.standing()), Outcome::Unknown { .. }), "it is live again");
}
