//! Nothing of a paused scope is signed, from the pause's own commit on.

use crate::identity::RequestId;
use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, START, address, fresh, sign, sql};
use crate::ledger::{
    Administration, Claim, Outcome, Pause, PauseOrder, PauseScope, Purpose, RecordError, RefusalClass,
    ReserveError, verify,
};

fn by() -> Administration {
    Administration {
        operator: "ops".to_owned(),
        person: "Grace".to_owned(),
        request: RequestId::from_number(99).to_string(),
    }
}

fn order(scope: PauseScope) -> PauseOrder {
    PauseOrder { scope, reason: Some("a drill".to_owned()) }
}

fn client(name: &str) -> PauseScope {
    PauseScope::Client(name.to_owned())
}

impl Desk {
    async fn pause(&self, scope: PauseScope) -> bool {
        self.ledger.pause(order(scope), by()).await.unwrap()
    }

    async fn resume(&self, scope: PauseScope) -> bool {
        self.ledger.resume(order(scope), by()).await.unwrap()
    }

    async fn holds(&self) {
        verify(&self.file).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_pause_holds_for_its_account_its_client_or_all_until_it_is_resumed() {
    let desk = Desk::open(PATIENT).await;
    let bob = Ask { client: "bob", seed: 2, ..ASK };
    for (scope, alice_may, bob_may) in [
        (PauseScope::All, false, false),
        (PauseScope::Account(address(1)), false, true),
        (client("alice"), false, true),
        (client("carol"), true, true),
    ] {
        assert!(desk.pause(scope.clone()).await);
        assert!(!desk.pause(scope.clone()).await, "it is paused");
        for (ask, may) in [(ASK, alice_may), (bob, bob_may)] {
            let sent = desk.send(ask).await;
            assert_eq!(sent.is_ok(), may, "{} under {scope}: {sent:?}", ask.client);
            let message = desk.ledger.reserve(ask.message("hello"), Purpose::Return).await;
            match message {
                Ok(claim) if may => drop(desk.ledger.record(sign(fresh(claim))).await.unwrap()),
                Err(ReserveError::Paused(paused)) if !may => assert_eq!(paused.reason, None),
                other => panic!("{} under {scope}: {other:?}", ask.client),
            }
        }
        assert!(desk.resume(scope.clone()).await);
        assert!(!desk.resume(scope).await, "it is not paused");
        desk.send(ASK).await.unwrap();
        desk.send(bob).await.unwrap();
    }
    assert_eq!(desk.ledger.pauses().await.unwrap(), []);
    desk.holds().await;
}

#[tokio::test]
async fn what_is_being_signed_when_the_pause_comes_is_void_and_its_nonce_free() {
    let desk = Desk::open(PATIENT).await;
    let (ours, other) = (desk.reserve(ASK).await, desk.reserve(Ask { seed: 2, ..ASK }).await);
    desk.pause(PauseScope::Account(address(1))).await;
    let late = desk.ledger.record(sign(ours)).await;
    assert!(matches!(late, Err(RecordError::Paused(_))), "{late:?}");
    desk.ledger.record(sign(other)).await.unwrap();
    desk.resume(PauseScope::Account(address(1))).await;
    assert_eq!(desk.send(Ask { value: 2, ..ASK }).await.unwrap().nonce(), Some(0));
    desk.holds().await;
}

#[tokio::test]
async fn who_waits_for_a_signature_is_told_at_once() {
    let desk = Desk::open(PATIENT).await;
    let _signing = desk.reserve(Ask { client: "bob", ..ASK }).await;
    let (ledger, waits) = (desk.ledger.clone(), Ask { nonce: Some(1), ..ASK }.permitted());
    let waiting = tokio::spawn(async move { ledger.reserve(waits, Purpose::Send).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    desk.pause(client("alice")).await;
    let told = tokio::time::timeout(std::time::Duration::from_millis(500), waiting).await.unwrap().unwrap();
    assert!(matches!(told, Err(ReserveError::Paused(_))), "{told:?}");
}

#[tokio::test]
async fn a_repeat_of_what_has_left_is_answered_and_nothing_else_leaves() {
    let desk = Desk::open(PATIENT).await;
    let first = Ask { nonce: Some(0), ..ASK };
    let sent = desk.send(first).await.unwrap();
    let returned = Ask { nonce: Some(1), value: 2, ..ASK };
    let claim = desk.ledger.reserve(returned.permitted(), Purpose::Return).await.unwrap();
    desk.ledger.record(sign(fresh(claim))).await.unwrap();
    let refused = Ask { nonce: Some(2), value: 3, fee: Some(500), ..ASK };
    let vacant = desk.send(refused).await.unwrap();
    let no =
        Outcome::Refused { class: RefusalClass::InsufficientFunds, text: "insufficient funds".to_owned() };
    desk.ledger.outcome(&vacant, no).await.unwrap();

    desk.pause(PauseScope::All).await;
    assert_eq!(desk.send(first).await.unwrap().hash(), sent.hash());
    let again = desk.ledger.reserve(returned.permitted(), Purpose::Return).await.unwrap();
    assert!(matches!(again, Claim::Known(_)));
    let to_send = desk.send(returned).await;
    assert!(
        matches!(to_send, Err(ReserveError::Paused(_))),
        "a returned one becomes ours to send: {to_send:?}"
    );
    let revived = desk.send(refused).await;
    assert!(matches!(revived, Err(ReserveError::Paused(_))), "a refused one is sent again: {revived:?}");
    desk.holds().await;
}

#[tokio::test]
async fn a_pause_survives_kill_9_and_says_who_made_it() {
    let desk = Desk::open(PATIENT).await;
    desk.pause(client("alice")).await;
    let again = Desk::at(desk.killed(), PATIENT, START).await.unwrap();
    let (scope, operator, person) = (client("alice"), "ops".to_owned(), "Grace".to_owned());
    let pause = Pause { scope, reason: Some("a drill".to_owned()), operator, person, since: START };
    assert_eq!(again.ledger.pauses().await.unwrap(), [pause]);
    assert!(matches!(again.send(ASK).await, Err(ReserveError::Paused(_))));
    again.holds().await;
}

#[tokio::test]
async fn inv_14_a_pause_that_was_taken_out_of_the_table_is_noticed() {
    for (edit, why) in [
        ("DELETE FROM pause", "client alice"),
        ("INSERT INTO pause VALUES ('all', '', NULL, 'x', 'y', 0)", "everything"),
    ] {
        let desk = Desk::open(PATIENT).await;
        desk.pause(client("alice")).await;
        sql(&desk.file, edit).await;
        let broken = verify(&desk.file).await.unwrap().unwrap_err();
        assert!(broken.why.contains(why), "{}", broken.why);
    }
    // Who takes it out, has something signed and puts it back leaves a signature while the chain says paused.
    let desk = Desk::open(PATIENT).await;
    desk.pause(client("alice")).await;
    sql(&desk.file, "CREATE TABLE away AS SELECT * FROM pause; DELETE FROM pause").await;
    desk.send(ASK).await.unwrap();
    sql(&desk.file, "INSERT INTO pause SELECT * FROM away").await;
    let broken = verify(&desk.file).await.unwrap().unwrap_err();
    assert!(broken.why.contains("while client alice was paused"), "{}", broken.why);
}
