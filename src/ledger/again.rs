//! What is recorded already and is to be sent once more: for its client, or because it is open.

use crate::ledger::apply;
use crate::ledger::db::Sql;
use crate::ledger::hands::{Hands, Hold};
use crate::ledger::life::{State, Word, heard};
use crate::ledger::store::{self, Stored};
use crate::ledger::writer::Group;

/// Its client asks once more to have it sent. What nodes have refused is live again, and handed over by whoever asks; what was its
/// client's to send so far is handed over, too; all else is on its way, and is looked after.
pub(in crate::ledger) async fn asked_again(
    group: &mut Group<'_>,
    stored: &mut Stored,
    hands: &Hands,
) -> Sql<()> {
    if stored.returned {
        handed_in(group, stored, hands).await?;
    } else if stored.state == State::Vacant {
        stored.hold = hands.take(stored.id);
    } else if stored.word.is_none_or(Word::is_ours) {
        stored.hold = hands.look(stored.id);
    }
    match stored.hold {
        // Where another task has just heard that it is refused, that is what this one hears.
        Hold::Mine(_) if stored.state == State::Vacant => revive(group, stored).await,
        _ => Ok(()),
    }
}

/// What nodes have refused has its nonce again, where no other has that, and is looked after until a node speaks.
async fn revive(group: &mut Group<'_>, stored: &mut Stored) -> Sql<()> {
    let word = Word::Resent.after(stored.word);
    let Some((state, others)) = group.at_nonce_of(stored.id).await? else { return Ok(()) };
    let others: Vec<State> = others.into_iter().map(|(_, state)| state).collect();
    if heard(state, word, &others) != Some(State::Recorded) {
        stored.hold = Hold::None;
        return Ok(());
    }
    apply::hear(group, stored.id, word, "").await?;
    (stored.word, stored.state) = (Some(word), State::Recorded);
    Ok(())
}

/// Nobody took what was live again, and it was handed to no node since.
pub(in crate::ledger) async fn put_back(group: &mut Group<'_>, id: i64, left: Word) -> Sql<()> {
    if store::word_of(group.db, id).await? == Some(left) {
        apply::hear(group, id, Word::Refused.after(Some(left)), "nobody was there to send it again").await?;
    }
    Ok(())
}

/// Its client has the bytes, and asks to have it sent.
pub(in crate::ledger) async fn handed_in(
    group: &mut Group<'_>,
    stored: &mut Stored,
    hands: &Hands,
) -> Sql<()> {
    stored.hold = hands.take(stored.id);
    // What came signed and is at a node is its client's own, and nobody's nonce hangs on it.
    if stored.nonce.is_none() && !matches!(stored.hold, Hold::Mine(_)) {
        return Ok(());
    }
    // Before it is handed to a node: a kill keeps that from being told.
    apply::handed_out(group, stored.id).await?;
    stored.word = store::word_of(group.db, stored.id).await?;
    Ok(())
}

/// What is open is handed to a node again. Where no node's word of it is known, which may be under way in another replica, a refusal
/// of that says from now on no more that no node has it.
pub(in crate::ledger) async fn sent_again(group: &mut Group<'_>, stored: &mut Stored) -> Sql<()> {
    if stored.word.is_none_or(Word::is_ours) {
        apply::hear(group, stored.id, Word::Unknown, "it is sent again, and no node's word of it is known")
            .await?;
        stored.word = Some(Word::Unknown);
    }
    Ok(())
}
