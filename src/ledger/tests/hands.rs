//! Who hands a payload to nodes, and what those hear that ask beside it.

use crate::ledger::tests::kit::{ASK, Ask, CHAIN, Desk, PATIENT, POLICY, fresh, known, sign, turn, writer};
use crate::ledger::writer::Writer;
use crate::ledger::{Ledger, Outcome, Purpose, Recorded, RefusalClass, Standing};
use crate::transaction::Tx;
use futures_util::FutureExt as _;

fn refused() -> Outcome {
    Outcome::Refused { class: RefusalClass::InsufficientFunds, text: "the node's words".to_owned() }
}

/// Whoever is told that nothing was sent pays again.
#[tokio::test]
async fn inv_02_what_is_live_again_for_somebody_who_is_gone_is_refused_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("ledger.sqlite")).await;
    let (ledger, mut queue) = Ledger::over(&writer, PATIENT);
    tokio::join!(ledger.activate_policy(POLICY, "allow all"), turn(&mut writer, &mut queue)).0.unwrap();
    let named = Ask { nonce: Some(0), ..ASK };
    let claim = ledger.reserve(named.permitted(), Purpose::Send);
    let signed = sign(fresh(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap()));
    let sent = tokio::join!(ledger.record(signed), turn(&mut writer, &mut queue)).0.unwrap();
    tokio::join!(ledger.outcome(&sent, refused()), turn(&mut writer, &mut queue)).0.unwrap();
    drop(sent);
    // Its commit is done, and nobody has taken the answer.
    let mut claim = Box::pin(ledger.reserve(named.permitted(), Purpose::Send));
    assert!((&mut claim).now_or_never().is_none());
    turn(&mut writer, &mut queue).await;
    let open = async |writer: &mut Writer, queue: &mut _| -> Vec<Recorded<Tx>> {
        tokio::join!(ledger.unsettled(CHAIN), turn(writer, queue)).0.unwrap()
    };
    assert_eq!(open(&mut writer, &mut queue).await[0].standing(), Standing::Live);
    drop(claim);
    assert_eq!(open(&mut writer, &mut queue).await[0].standing(), Standing::Refused);
    let claim = ledger.reserve(named.permitted(), Purpose::Send);
    let again = known(tokio::join!(claim, turn(&mut writer, &mut queue)).0.unwrap());
    assert!(again.is_in_hand());
    assert_eq!(open(&mut writer, &mut queue).await[0].standing(), Standing::Live, "it is taken");
}

/// Two calls of one client must not cost those that come after it ten percent, or an authorization its nonce.
#[tokio::test]
async fn inv_13_repeats_side_by_side_of_what_was_refused_leave_it_in_nobodys_way() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let sent = desk.send(named).await.unwrap();
    desk.ledger.outcome(&sent, refused()).await.unwrap();
    drop(sent);
    let one = desk.send(named).await.unwrap();
    let other = desk.send(named).await.unwrap();
    assert_eq!([&one, &other].map(Recorded::is_in_hand), [true, false]);
    assert!(desk.ledger.take_up::<Tx>(one.id()).await.unwrap().is_none(), "by nobody else either");
    assert!(other.overhear().now_or_never().is_none(), "it waits for the word");
    let told = desk.ledger.outcome(&one, refused()).await.unwrap();
    one.tell(&told);
    assert_eq!(other.overhear().await, refused());
    drop(one);
    let third = desk.send(named).await.unwrap();
    assert!(third.is_in_hand());
    desk.ledger.outcome(&third, refused()).await.unwrap();
    assert_eq!(desk.words().await, ["refused", "resent", "refused", "resent", "refused"]);
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(0));
    crate::ledger::verify(&desk.file).await.unwrap().unwrap();
}

/// Its client would pay again, and both may be mined.
#[tokio::test]
async fn inv_02_no_refusal_is_told_while_another_process_has_it_at_a_node() {
    for heard_before in [false, true] {
        let desk = Desk::open(PATIENT).await;
        let other = desk.ledger.elsewhere();
        let sent = desk.send(ASK).await.unwrap();
        let again = other.take_up::<Tx>(sent.id()).await.unwrap().unwrap();
        assert_eq!((again.raw(), desk.words().await), (sent.raw(), vec!["unknown".to_owned()]));
        if heard_before {
            assert_eq!(other.outcome(&again, refused()).await.unwrap(), refused());
        }
        let told = desk.ledger.outcome(&sent, refused()).await.unwrap();
        assert_eq!(told == refused(), heard_before, "{told:?}");
        if !heard_before {
            assert!(matches!(told, Outcome::Unknown { .. }), "{told:?}");
            assert_eq!(desk.live().await[0].raw(), sent.raw(), "it frees nothing");
            other.outcome(&again, Outcome::Accepted).await.unwrap();
            assert_eq!(desk.live().await[0].raw(), sent.raw());
        }
        crate::ledger::verify(&desk.file).await.unwrap().unwrap();
    }
}

/// Whoever bumps it, or has it sent once more, waits for that word.
#[tokio::test]
async fn inv_02_what_no_node_has_spoken_of_is_not_heard_of() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let is_heard_of = async || desk.ledger.open_transactions().await.unwrap()[0].is_heard_of();
    let sent = desk.send(named).await.unwrap();
    assert!(!is_heard_of().await);
    desk.ledger.outcome(&sent, refused()).await.unwrap();
    drop(sent);
    let repeat = desk.send(named).await.unwrap();
    assert!(!is_heard_of().await, "it is on its way once more");
    desk.ledger.outcome(&repeat, Outcome::Accepted).await.unwrap();
    assert!(is_heard_of().await);
}

/// Its client has the hash, and waits.
#[tokio::test]
async fn inv_10_what_was_returned_and_refused_and_is_to_be_sent_is_looked_after() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let signed = sign(fresh(desk.ledger.reserve(named.permitted(), Purpose::Return).await.unwrap()));
    let returned = desk.ledger.record(signed).await.unwrap();
    desk.ledger.outcome_of_client(&returned, refused()).await.unwrap();
    drop(returned);
    assert!(desk.live().await.is_empty());
    let sent = desk.send(named).await.unwrap();
    assert!(sent.is_in_hand());
    desk.ledger.outcome(&sent, Outcome::Unknown { text: "time-out".to_owned() }).await.unwrap();
    assert!(desk.live().await[0].is_ours_to_send());
    crate::ledger::verify(&desk.file).await.unwrap().unwrap();
}

/// Its client has the hash, and waits.
#[tokio::test]
async fn inv_10_what_was_refused_and_is_asked_for_again_is_sent_until_a_node_speaks() {
    for said in [refused(), Outcome::Accepted] {
        let desk = Desk::open(PATIENT).await;
        let named = Ask { nonce: Some(0), ..ASK };
        let sent = desk.send(named).await.unwrap();
        desk.ledger.outcome(&sent, Outcome::Unknown { text: "time-out".to_owned() }).await.unwrap();
        desk.ledger.outcome(&desk.again(&sent).await, refused()).await.unwrap();
        assert!(desk.live().await.is_empty());
        drop(sent);
        let repeat = desk.send(named).await.unwrap();
        let beside = desk.ledger.elsewhere().take_up::<Tx>(repeat.id()).await.unwrap().unwrap();
        let told = desk.ledger.outcome(&repeat, refused()).await.unwrap();
        assert!(matches!(told, Outcome::Unknown { .. }), "another replica has it at a node: {told:?}");
        assert_eq!(desk.live().await[0].raw(), repeat.raw());
        desk.ledger.outcome(&beside, said.clone()).await.unwrap();
        assert_eq!(desk.live().await.is_empty(), said == refused());
        let words = desk.words().await;
        assert_eq!(words[..4], ["unknown", "dropped", "again", "unknown"]);
        crate::ledger::verify(&desk.file).await.unwrap().unwrap();
    }
}

/// Asked to be returned and then to be sent: its client waits for a node's word, and no other task has it.
#[tokio::test]
async fn what_was_returned_and_is_to_be_sent_is_on_its_way_to_nobody() {
    let desk = Desk::open(PATIENT).await;
    let named = Ask { nonce: Some(0), ..ASK };
    let signed = sign(fresh(desk.ledger.reserve(named.permitted(), Purpose::Return).await.unwrap()));
    desk.ledger.record(signed).await.unwrap();
    assert!(desk.send(named).await.unwrap().is_in_hand());
    let sent = Ask { nonce: Some(1), ..ASK };
    desk.send(sent).await.unwrap();
    assert!(!desk.send(sent).await.unwrap().is_in_hand());
}
