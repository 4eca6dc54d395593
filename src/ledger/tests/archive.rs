//! The oldest rows are taken out, and the chain still shows any edit.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;

use crate::clock::Timestamp;
use crate::ledger::db::query;
use crate::ledger::tests::kit::{ASK, Ask, Desk, PATIENT, START, connect, sql};
use crate::ledger::tests::replicas::{Shared, by};
use crate::ledger::{
    Against, ArchiveError, Archived, Broken, Filter, KeyUse, Note, Verified, oldest, show, verify_against,
};

const HOUR: u64 = 3_600_000;

fn after(hours: u64) -> Timestamp {
    Timestamp::from_millis(START.millis() + hours * HOUR)
}

/// Writes what is older than `until` into a file, and says where it ends.
async fn file_of(ledger: &Path, until: Timestamp, to: &Path) -> Archived {
    let mut file = std::fs::File::create(to).unwrap();
    let each = |row: &crate::ledger::Entry| {
        serde_json::to_writer(&mut file, row)?;
        file.write_all(b"\n")
    };
    let (upto, hash) = oldest(ledger, until, each, &mut |_, _| {}).await.unwrap().unwrap();
    Archived { upto, hash, digest: B256::ZERO }
}

/// A ledger of three days, whose first two are in two files.
async fn desk() -> (Desk, Vec<PathBuf>) {
    let mut desk = Desk::at(tempfile::tempdir().unwrap(), PATIENT, START).await.unwrap();
    let mut files = Vec::new();
    for day in 0..3_u64 {
        if day > 0 {
            desk = Desk::at(desk.close().await, PATIENT, after(48 * day)).await.unwrap();
        }
        desk.send(Ask { request: u128::from(day), value: day + 1, ..ASK }).await.unwrap();
        desk.ledger.note(Note::Key(KeyUse::new("main", "drilled"))).await.unwrap();
        if day > 0 {
            let to = desk.file.with_file_name(format!("{day}.jsonl"));
            let archived = file_of(&desk.file, after(48 * day - 24), &to).await;
            desk.ledger.archive(archived, by()).await.unwrap();
            assert!(desk.ledger.remove_archived().await.unwrap() > 3);
            files.push(to);
        }
    }
    desk.ledger.close().await;
    (desk, files)
}

async fn verified(file: &Path, archives: &[PathBuf]) -> Result<Verified, Broken> {
    let against = Against { archives: archives.to_vec(), ..Against::default() };
    verify_against(file, &against, &mut |_, _| {}).await.unwrap()
}

#[tokio::test]
async fn inv_14_what_is_left_holds_alone_and_all_of_it_with_the_files() {
    let (desk, files) = desk().await;
    let alone = verified(&desk.file, &[]).await.unwrap();
    assert!(alone.not_seen > 0 && alone.intents == 0, "{alone:?}");
    let whole = verified(&desk.file, &files).await.unwrap();
    assert_eq!((whole.not_seen, whole.intents, whole.signatures), (0, 3, 3));
    assert_eq!((whole.rows, whole.head), (alone.rows, alone.head));
    // The gateway's own rows stay, and are shown where they are whole with others.
    let mut db = connect(&desk.file).await;
    let kept = query("SELECT count(*) FROM audit WHERE seq <= (SELECT upto FROM archive)");
    let kept = kept.number(&mut db).await.unwrap();
    assert_eq!(kept, 2, "what was done with keys");
    let shown = show(&desk.file, &Filter::default()).await.unwrap();
    assert_eq!(shown.first().unwrap().seq, alone.not_seen + 1);
    // Nor does the next start take it for an earlier ledger.
    let desk = Desk::at(desk.close().await, PATIENT, after(200)).await.unwrap();
    assert!(desk.ledger.pauses().await.unwrap().is_empty());
    desk.send(Ask { request: 9, value: 9, ..ASK }).await.unwrap();
}

#[tokio::test]
async fn inv_14_files_that_are_missing_edited_or_out_of_order_are_noticed() {
    let (desk, files) = desk().await;
    let [first, second] = files.as_slice() else { panic!("{files:?}") };
    for (archives, why) in [
        (vec![first.clone()], "name them all"),
        (vec![second.clone()], "the row before it is missing"),
        (vec![second.clone(), first.clone()], "the row before it is missing"),
    ] {
        let broken = verified(&desk.file, &archives).await.unwrap_err();
        assert!(broken.why.contains(why), "{archives:?}: {broken:?}");
    }
    let text = std::fs::read_to_string(first).unwrap();
    std::fs::write(first, text.replacen("alice", "carol", 1)).unwrap();
    let broken = verified(&desk.file, &files).await.unwrap_err();
    assert!(broken.why.contains("edited"), "{broken:?}");
}

#[tokio::test]
async fn inv_14_rows_that_nobody_took_out_are_missed() {
    for (edit, why) in [
        // More than was written down, and the mark with it.
        (
            "UPDATE archive SET (upto, hash, at) = (SELECT seq, hash, at FROM audit WHERE seq = upto + 2);
             DELETE FROM audit WHERE seq <= (SELECT upto FROM archive) AND kind <> 'key'",
            "nobody wrote down",
        ),
        ("DELETE FROM archive", "missing"),
        ("UPDATE archive SET upto = 1", "missing"),
        ("UPDATE archive SET hash = zeroblob(32)", "does not follow"),
    ] {
        let (desk, _) = desk().await;
        sql(&desk.file, edit).await;
        let broken = verified(&desk.file, &[]).await.unwrap_err();
        assert!(broken.why.contains(why), "{edit}: {broken:?}");
    }
    // A ledger that was never archived.
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    let folder = desk.close().await;
    let file = folder.path().join("ledger.sqlite");
    sql(
        &file,
        "INSERT INTO archive SELECT 1, seq, hash, at FROM audit WHERE seq = 2; DELETE FROM audit WHERE seq < 3",
    )
    .await;
    let broken = verified(&file, &[]).await.unwrap_err();
    assert!(broken.why.contains("nobody wrote down"), "{broken:?}");
}

#[tokio::test]
async fn what_is_young_or_another_row_stays() {
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    let to = desk.file.with_file_name("rows.jsonl");
    let archived = file_of(&desk.file, after(1), &to).await;
    for (archived, why) in [
        (archived.clone(), "24 hours"),
        (Archived { upto: archived.upto + 1, ..archived.clone() }, "not the last one of the file"),
        (Archived { hash: B256::ZERO, ..archived.clone() }, "not the last one of the file"),
    ] {
        match desk.ledger.archive(archived, by()).await {
            Err(ArchiveError::Refused(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(desk.ledger.remove_archived().await.unwrap(), 0);
    let desk = Desk::at(desk.close().await, PATIENT, after(48)).await.unwrap();
    desk.ledger.archive(archived.clone(), by()).await.unwrap();
    let again = desk.ledger.archive(archived, by()).await.unwrap_err();
    assert!(again.to_string().contains("taken out before"), "{again}");
    assert_eq!(
        oldest(&desk.file, START, |_| Ok(()), &mut |_, _| {}).await.unwrap(),
        None,
        "nothing is so old"
    );
}

#[tokio::test]
async fn inv_14_the_database_itself_keeps_every_row_that_is_not_taken_out() {
    let desk = Desk::open(PATIENT).await;
    desk.send(ASK).await.unwrap();
    let shared = Shared::new();
    let replica = shared.replica().await;
    replica.send(ASK).await.unwrap();
    replica.ledger.note(Note::Key(KeyUse::new("main", "drilled"))).await.unwrap();
    let marked = "INSERT INTO archive (one, upto, hash, at) SELECT 1, seq, hash, at FROM audit WHERE seq = 2";
    let delete = |which: &str| format!("DELETE FROM audit WHERE {which}");
    shared.sql(marked);
    assert!(shared.server.try_psql(&shared.database, &delete("seq = 3")).is_err());
    assert!(shared.server.try_psql(&shared.database, &delete("kind = 'key'")).is_err());
    assert!(shared.server.try_psql(&shared.database, "TRUNCATE audit").is_err());
    assert_eq!(replica.ledger.remove_archived().await.unwrap(), 2);
    replica.close().await;
    let mut db = connect(&desk.file).await;
    query(marked).execute(&mut db).await.unwrap();
    query("DELETE FROM audit WHERE seq = 3").execute(&mut db).await.unwrap_err();
    query("DELETE FROM audit WHERE seq = 2").execute(&mut db).await.unwrap();
}
