//! The audit chain shows what was done to it, and to the tables beside it.

use std::path::Path;

use alloy_primitives::{B256, Bytes, U128, keccak256};

use crate::identity::RequestId;
use crate::ledger::audit::{Body, Head, Intent};
use crate::ledger::db::query;
use crate::ledger::replay::Replay;
use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, POLICY, START, address, connect, sign, sql};
use crate::ledger::{Broken, Entry, Filter, Final, Outcome, RefusalClass, RefusedRow, show, verify};

const UNLOCK: &str = "DROP TRIGGER audit_is_append_only; DROP TRIGGER audit_keeps_every_row;";

/// A ledger with something of everything in it, closed.
async fn ledger() -> Desk {
    let desk = Desk::open(PATIENT).await;
    let sent = desk.send(ASK).await.unwrap();
    desk.ledger.outcome(&sent, Outcome::Accepted).await.unwrap();
    let void = desk.reserve(Ask { request: 2, value: 2, ..ASK }).await;
    desk.ledger.void(void.id(), "the token did not answer").await.unwrap();
    let refused = desk.send(Ask { request: 3, value: 3, ..ASK }).await.unwrap();
    let no =
        Outcome::Refused { class: RefusalClass::InsufficientFunds, text: "insufficient funds".to_owned() };
    desk.ledger.outcome(&refused, no).await.unwrap();
    desk.ledger.settled(sent.id(), Final::Mined { block: 3, succeeded: true }).await.unwrap();
    desk.ledger.refused(refusal("a sentence".to_owned())).await.unwrap();
    desk.ledger.close().await;
    desk
}

fn refusal(sentence: String) -> RefusedRow {
    RefusedRow {
        client: "mallory".to_owned(),
        request: RequestId::from_number(4),
        method: "eth_sendTransaction".to_owned(),
        cause: "transaction_denied",
        rule: None,
        condition: None,
        sentence,
        asked: format!(r#"[{{"from":"{}"}}]"#, address(2)),
    }
}

async fn broken(file: &Path) -> Broken {
    verify(file).await.unwrap().expect_err("the chain should not hold")
}

async fn row_of(file: &Path, kind: &str) -> Entry {
    let filter = Filter { kind: Some(kind.to_owned()), ..Filter::default() };
    show(file, &filter).await.unwrap().remove(0)
}

#[tokio::test]
async fn inv_14_a_chain_that_nobody_touched_holds() {
    let desk = ledger().await;
    let verified = verify(&desk.file).await.unwrap().unwrap();
    assert_eq!((verified.intents, verified.signatures), (3, 2));
    let rows = show(&desk.file, &Filter::default()).await.unwrap();
    assert_eq!((verified.rows, verified.head), (rows.last().unwrap().seq, rows.last().unwrap().hash));
}

#[tokio::test]
async fn inv_14_every_edit_of_the_chain_is_found_where_it_was_made() {
    for (edit, seq, why) in [
        ("UPDATE audit SET body = replace(body, 'alice', 'carol') WHERE seq = 3", 3, "edited"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 4", 4, "edited"),
        ("UPDATE audit SET kind = 'refusal' WHERE seq = 5", 5, "edited"),
        ("UPDATE audit SET hash = previous WHERE seq = 2", 2, "edited"),
        ("UPDATE audit SET previous = hash WHERE seq = 6", 6, "does not follow"),
        ("DELETE FROM audit WHERE seq = 4", 5, "missing"),
        ("DELETE FROM audit WHERE seq = 1", 2, "missing"),
        (
            "UPDATE audit SET seq = 99 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4;
             UPDATE audit SET seq = 4 WHERE seq = 99",
            3,
            "does not follow",
        ),
        ("DELETE FROM audit WHERE seq > 9", 9, "cut off"),
        ("DELETE FROM audit", 0, "cut off"),
        ("DELETE FROM head", 13, "not by the gateway"),
        (
            "INSERT INTO audit SELECT seq + 1, at, kind, body, hash, previous FROM audit WHERE seq = 13",
            14,
            "edited",
        ),
        ("PRAGMA ignore_check_constraints = on; UPDATE audit SET hash = x'00' WHERE seq = 7", 1, "damaged"),
    ] {
        let desk = ledger().await;
        sql(&desk.file, UNLOCK).await;
        sql(&desk.file, edit).await;
        let broken = broken(&desk.file).await;
        assert_eq!(broken.seq, seq, "{edit}: {}", broken.why);
        assert!(broken.why.contains(why), "{edit}: {}", broken.why);
    }
}

#[tokio::test]
async fn inv_14_every_edit_of_the_tables_is_found() {
    for (edit, why) in [
        ("UPDATE reservation SET raw = x'02' WHERE id = 1", "signature"),
        ("UPDATE reservation SET hash = zeroblob(32) WHERE id = 1", "signature"),
        ("UPDATE reservation SET state = 'recorded', live = 1 WHERE id = 3", "chain as vacant"),
        ("UPDATE reservation SET state = 'reserved', live = 1, open = 1 WHERE id = 2", "chain as void"),
        ("UPDATE reservation SET nonce = 7 WHERE id = 1", "nonce"),
        ("UPDATE reservation SET account = zeroblob(20) WHERE id = 1", "account"),
        ("UPDATE reservation SET client = 'bob' WHERE id = 3", "client"),
        ("UPDATE reservation SET rule = 'another' WHERE id = 3", "rule"),
        ("UPDATE reservation SET max_fee = zeroblob(16) WHERE id = 3", "fee"),
        ("UPDATE reservation SET max_tip = NULL WHERE id = 3", "fee"),
        ("UPDATE reservation SET max_blob_fee = zeroblob(16) WHERE id = 3", "fee"),
        ("DELETE FROM reservation WHERE id = 2", "lost reservation 2"),
        (
            "INSERT INTO reservation (kind, state, open, client, request, account, intent, returned, reserved_at,
                                      void_at, rule, charged_at)
             SELECT kind, 'void', 0, client, request, account, intent, 0, reserved_at, void_at, rule, charged_at FROM reservation WHERE id = 1",
            "that the chain has not",
        ),
        (
            "INSERT INTO reservation (id, kind, state, open, client, request, account, intent, returned, reserved_at,
                                      void_at, rule, charged_at)
             SELECT -9223372036854775807 - 1, kind, 'void', 0, client, request, account, intent, 0, reserved_at, void_at, rule, charged_at FROM reservation WHERE id = 1",
            "that the chain has not",
        ),
        ("INSERT INTO audit SELECT 0, at, kind, body, previous, hash FROM audit WHERE seq = 1", "before the first row"),
        ("UPDATE reservation SET id = 0 WHERE id = 2", "that the chain has not"),
        // Cut off so that the chain itself holds: the tables remember.
        (
            "DROP TRIGGER audit_keeps_every_row; DELETE FROM audit WHERE seq > 11;
             UPDATE head SET seq = 11, hash = (SELECT hash FROM audit WHERE seq = 11)",
            "",
        ),
        (
            "DROP TRIGGER audit_keeps_every_row; DELETE FROM audit WHERE seq > 8;
             UPDATE head SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)",
            "the chain as recorded",
        ),
    ] {
        let desk = ledger().await;
        sql(&desk.file, edit).await;
        if why.is_empty() {
            // What came after the last signature can be cut off unseen: hence a copy of the head elsewhere.
            assert!(verify(&desk.file).await.unwrap().is_ok());
            continue;
        }
        let broken = broken(&desk.file).await;
        assert!(broken.why.contains(why), "{edit}: {}", broken.why);
    }
}

#[tokio::test]
async fn a_file_that_is_no_ledger_any_more_is_broken_and_one_that_is_not_there_is_not() {
    let desk = ledger().await;
    let mut bytes = std::fs::read(&desk.file).unwrap();
    for page in bytes.chunks_mut(4096).skip(2) {
        page.fill(0xff);
    }
    std::fs::write(&desk.file, bytes).unwrap();
    assert!(broken(&desk.file).await.why.contains("damaged"));
    assert!(verify(&desk.file.with_file_name("other")).await.is_err());
}

#[tokio::test]
async fn it_is_verified_while_the_gateway_writes_and_as_a_lone_copy() {
    let desk = Desk::open(PATIENT).await;
    let signing = desk.reserve(ASK).await;
    assert!(verify(&desk.file).await.unwrap().is_ok());
    desk.ledger.record(sign(signing)).await.unwrap();
    let rows = verify(&desk.file).await.unwrap().unwrap().rows;

    let folder = desk.close().await;
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("copy");
    std::fs::copy(folder.path().join("ledger.sqlite"), &file).unwrap();
    assert_eq!(verify(&file).await.unwrap().unwrap().rows, rows + 1, "and the row that says stopped");
}

#[tokio::test]
async fn a_gateway_does_not_start_on_a_chain_whose_end_was_touched() {
    for edit in [
        "DELETE FROM audit WHERE seq = 13",
        "UPDATE audit SET kind = 'refusal' WHERE seq = 13",
        "UPDATE head SET seq = 12",
        "DELETE FROM head",
    ] {
        let desk = ledger().await;
        sql(&desk.file, UNLOCK).await;
        sql(&desk.file, edit).await;
        let started = Desk::at(desk.close().await, PATIENT, START).await;
        assert!(matches!(started, Err(crate::ledger::LedgerError::Broken(_))), "{edit}");
    }
}

#[tokio::test]
async fn a_requests_whole_story_is_shown() {
    let desk = ledger().await;
    let story = |filter: Filter| {
        let file = desk.file.clone();
        async move {
            let rows = show(&file, &filter).await.unwrap();
            rows.into_iter().map(|row| row.kind).collect::<Vec<String>>()
        }
    };
    let of =
        |number| Filter { request: Some(RequestId::from_number(number).to_string()), ..Filter::default() };
    assert_eq!(story(of(1)).await, ["intent", "signature", "outcome", "final"]);
    assert_eq!(story(of(2)).await, ["intent", "void"]);
    assert_eq!(story(of(4)).await, ["refusal"]);
    assert!(story(of(5)).await.is_empty());
    let account = |seed| Filter { account: Some(address(seed)), ..Filter::default() };
    assert_eq!(story(account(1)).await.len(), 9);
    assert_eq!(story(account(2)).await, ["refusal"], "it is in what was asked");
    let last = Filter { last: Some(1), account: Some(address(1)), ..Filter::default() };
    assert_eq!(story(last).await, ["final"]);
    assert_eq!(row_of(&desk.file, "policy").await.seq, 2);
}

#[tokio::test]
async fn inv_12_nobody_writes_more_than_a_bound_into_a_row() {
    let desk = Desk::open(PATIENT).await;
    let mut row = refusal("é".repeat(100_000));
    row.asked = "x".repeat(1_000_000);
    desk.ledger.refused(row).await.unwrap();
    let written = row_of(&desk.file, "refusal").await;
    assert!(written.body.len() < 10_000, "{}", written.body.len());
}

#[tokio::test]
async fn the_chain_is_append_only_for_honest_mistakes_too() {
    let desk = ledger().await;
    let mut db = connect(&desk.file).await;
    for mistake in ["UPDATE audit SET kind = 'x'", "DELETE FROM audit"] {
        let refused = query(mistake).execute(&mut db).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

/// A chain made by hand, with all its hashes right: what it says must be possible as well.
struct Forged {
    /// Of what is told of next.
    blob_fee: Option<u64>,
    head: Head,
    replay: Replay,
}

impl Forged {
    fn new() -> Self {
        let mut forged = Self { blob_fee: None, head: Head::START, replay: Replay::new() };
        forged.say(&Body::Started { version: "1", writer: "w", voided: 0, shared: false }).unwrap();
        forged.say(&Body::Policy { policy: POLICY }).unwrap();
        forged
    }

    fn say(&mut self, body: &Body<'_>) -> Result<(), String> {
        let entry = self.head.next(START, body).unwrap();
        self.head = Head::from(&entry);
        self.replay.step(&entry, entry.is_whole())
    }

    fn intent(&mut self, reservation: i64, nonce: u64, fee: u64, policy: B256) -> Result<(), String> {
        self.bid((reservation, None), nonce, fee, policy)
    }

    fn bid(
        &mut self,
        (reservation, replaces): (i64, Option<i64>),
        nonce: u64,
        fee: u64,
        policy: B256,
    ) -> Result<(), String> {
        self.say(&Body::Intent(Box::new(Intent {
            reservation,
            writer: "w",
            request: "1",
            client: "alice",
            person: None,
            kind: "transaction",
            account: address(1),
            chain: Some(1),
            nonce: Some(nonce),
            max_fee: Some(U128::from(fee)),
            max_tip: Some(U128::from(fee)),
            max_blob_fee: self.blob_fee.map(U128::from),
            returned: false,
            replaces,
            rule: "test",
            policy,
            key: None,
            charges: Vec::new(),
            unsigned: Bytes::new(),
            digest: B256::ZERO,
        })))
    }

    fn sign(&mut self, reservation: i64) -> Result<(), String> {
        let raw = Bytes::from_static(b"raw");
        self.say(&Body::Signature { reservation, writer: "w", hash: keccak256(&raw), raw: &raw })
    }

    fn outcome(&mut self, reservation: i64, outcome: &str) -> Result<(), String> {
        self.say(&Body::Outcome { reservation, outcome, text: "" })
    }
}

#[test]
fn inv_02_a_chain_whose_blobs_pay_less_than_twice_as_much_does_not_hold() {
    for (blob_fee, fee, holds) in [(Some(14), 200, true), (Some(13), 200, false), (Some(14), 199, false)] {
        let mut forged = Forged::new();
        forged.blob_fee = Some(7);
        forged.intent(1, 0, 100, POLICY).unwrap();
        forged.sign(1).unwrap();
        forged.blob_fee = blob_fee;
        assert_eq!(forged.bid((2, Some(1)), 0, fee, POLICY).is_ok(), holds, "{blob_fee:?} {fee}");
    }
}

#[test]
fn inv_02_a_chain_that_tells_of_two_payloads_at_one_nonce_does_not_hold() {
    let mut forged = Forged::new();
    forged.intent(1, 0, 100, POLICY).unwrap();
    assert!(forged.intent(2, 0, 900, POLICY).unwrap_err().contains("given away twice"));
    forged.sign(1).unwrap();
    assert!(forged.intent(3, 0, 900, POLICY).unwrap_err().contains("given away twice"));
    forged.outcome(1, "accepted").unwrap();
    assert!(forged.outcome(1, "refused").unwrap_err().contains("as if no node had taken"));
    assert!(forged.outcome(1, "resent").unwrap_err().contains("as if no node had taken"));
    forged.outcome(1, "dropped").unwrap();
    forged.outcome(1, "again").unwrap();
    assert!(forged.intent(4, 0, 900, POLICY).unwrap_err().contains("given away twice"));
    forged.outcome(1, "dropped").unwrap();
    assert!(forged.intent(4, 0, 109, POLICY).unwrap_err().contains("outbid"));
    forged.intent(5, 0, 110, POLICY).unwrap();
    forged.outcome(1, "accepted").unwrap();
    forged.sign(5).unwrap();
    let second = Body::Final { reservation: 1, block: Some(1), succeeded: None };
    forged.say(&second).unwrap();
    assert!(forged.intent(6, 0, 999, POLICY).unwrap_err().contains("given away twice"));
}

#[test]
fn inv_01_a_chain_that_tells_of_a_signature_without_an_intent_does_not_hold() {
    let mut forged = Forged::new();
    assert!(forged.sign(1).unwrap_err().contains("no intent"));
    forged.intent(1, 0, 100, POLICY).unwrap();
    forged.say(&Body::Void { reservation: 1, why: "" }).unwrap();
    assert!(forged.sign(1).unwrap_err().contains("was void"));
    forged.intent(2, 0, 100, POLICY).unwrap();
    forged.sign(2).unwrap();
    assert!(forged.sign(2).unwrap_err().contains("was recorded"));
    assert!(forged.say(&Body::Void { reservation: 2, why: "" }).unwrap_err().contains("was recorded"));
    assert!(forged.intent(2, 1, 100, POLICY).unwrap_err().contains("two intents"));
    let other = B256::repeat_byte(8);
    assert!(forged.intent(3, 1, 100, other).unwrap_err().contains("not in force"));
    forged.outcome(2, "refused").unwrap();
    assert!(forged.sign(2).unwrap_err().contains("was vacant"));
    forged.intent(4, 1, 100, POLICY).unwrap();
    assert!(
        forged
            .say(&Body::Started { version: "1", writer: "w", voided: 0, shared: false })
            .unwrap_err()
            .contains("does not void")
    );
}

#[test]
fn inv_02_a_replacement_that_the_rules_do_not_know_does_not_hold() {
    let mut forged = Forged::new();
    forged.intent(1, 0, 100, POLICY).unwrap();
    let unsigned = forged.bid((2, Some(1)), 0, 900, POLICY).unwrap_err();
    assert!(unsigned.contains("was reserved, and cannot become outbid"), "{unsigned}");
    forged.sign(1).unwrap();
    assert!(forged.bid((3, Some(1)), 1, 900, POLICY).unwrap_err().contains("not at its nonce"));
    forged.bid((4, Some(1)), 0, 110, POLICY).unwrap();
    assert!(forged.bid((5, Some(1)), 0, 900, POLICY).unwrap_err().contains("was outbid"));
    // The replacement fails, and what it had outbid is live again.
    forged.say(&Body::Void { reservation: 4, why: "" }).unwrap();
    assert!(forged.bid((6, None), 0, 900, POLICY).unwrap_err().contains("given away twice"));

    let mut forged = Forged::new();
    forged.intent(1, 0, 100, POLICY).unwrap();
    forged.sign(1).unwrap();
    assert!(forged.bid((2, Some(1)), 0, 109, POLICY).unwrap_err().contains("outbid"));
}
