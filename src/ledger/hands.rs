//! Who hands a payload to nodes: of this process's tasks one at a time. Were two at it, one could be refused and the other taken,
//! and one client would pay again on what it hears. Whoever asks beside the one hears what that one is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::ledger::again;
use crate::ledger::command::{Command, Reply};
use crate::ledger::db::Sql;
use crate::ledger::life::{State, Word};
use crate::ledger::store::{self, Stored};
use crate::ledger::writer::Group;
use crate::ledger::{Ledger, LedgerError, Outcome, Recorded, ReservationId};
use crate::transaction::Kind;

/// The payloads that are being handed over. Lives as long as the process; bounded by its tasks.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct Hands(Arc<Mutex<HashMap<i64, Ear>>>);

/// What is told of a payload at last, if anything.
type Ear = watch::Receiver<Option<Outcome>>;

/// While this is there, no other task of this process hands its payload to a node.
#[derive(Debug)]
pub(in crate::ledger) struct Hand {
    hands: Hands,
    id: i64,
    told: watch::Sender<Option<Outcome>>,
}

/// Who has a payload in hand, as far as that was asked.
#[derive(Debug, Default)]
pub(in crate::ledger) enum Hold {
    /// Nobody that is known of.
    #[default]
    None,
    Mine(Hand),
    Anothers(Ear),
}

/// A payload that is live again for one who asks once more, on its way to that one. Where nobody takes it, because nobody waits
/// any more, it is refused as it was: whoever is told that nothing was sent pays again.
#[derive(Debug)]
pub(in crate::ledger) struct Revived {
    id: i64,
    /// Nothing once it is taken.
    word: Option<Word>,
    /// Weak: an answer on its way does not keep the writer running.
    commands: mpsc::WeakSender<Command>,
}

/// What is open and is to be handed over again.
#[derive(Debug)]
pub(in crate::ledger) struct Taking {
    id: i64,
    hands: Hands,
    reply: Reply<Result<Option<Stored>, LedgerError>>,
}

impl Hands {
    /// Takes it, unless another task has it.
    pub(in crate::ledger) fn take(&self, id: i64) -> Hold {
        let mut held = self.lock();
        if let Some(ear) = held.get(&id) {
            return Hold::Anothers(ear.clone());
        }
        let (told, ear) = watch::channel(None);
        held.insert(id, ear);
        Hold::Mine(Hand { hands: self.clone(), id, told })
    }

    /// Whether another task has it.
    pub(in crate::ledger) fn look(&self, id: i64) -> Hold {
        self.lock().get(&id).cloned().map_or(Hold::None, Hold::Anothers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Ear>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revived {
    /// Nothing where it was live before.
    pub(in crate::ledger) fn of(stored: &Stored, commands: mpsc::WeakSender<Command>) -> Option<Self> {
        let word = stored.word.filter(|word| word.is_ours());
        let is_mine = matches!(stored.hold, Hold::Mine(_));
        word.filter(|_| is_mine).map(|word| Self { id: stored.id, word: Some(word), commands })
    }

    /// It is the taker's from now on.
    pub(in crate::ledger) fn take(mut self) {
        self.word = None;
    }
}

impl Drop for Revived {
    fn drop(&mut self) {
        if let (Some(left), Some(commands)) = (self.word, self.commands.upgrade()) {
            let _ = commands.try_send(Command::PutBack { id: self.id, left });
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.hands.lock().remove(&self.id);
    }
}

impl<K: Kind> Recorded<K> {
    /// Whether whoever has this is the one to hand it to nodes.
    pub const fn is_in_hand(&self) -> bool {
        matches!(self.hold(), Hold::Mine(_))
    }

    /// Says what is told of it to those who ask beside.
    pub fn tell(&self, told: &Outcome) {
        if let Hold::Mine(hand) = self.hold() {
            hand.told.send_replace(Some(told.clone()));
        }
    }

    /// What the task is told that has it in hand. Where none has, or that one is told nothing, it is looked after, and nobody knows.
    pub async fn overhear(&self) -> Outcome {
        let told = match self.hold() {
            Hold::Anothers(ear) => {
                ear.clone().wait_for(Option::is_some).await.ok().and_then(|told| told.clone())
            }
            Hold::None | Hold::Mine(_) => None,
        };
        told.unwrap_or_else(|| Outcome::Unknown { text: "it is on its way already".to_owned() })
    }
}

impl Ledger {
    /// What is recorded under this id, as it stands at this moment, for one who means to hand it to a node again: it is written
    /// before that a node may have it. Nothing where another task has it in hand, or where it is not to be mined any more.
    pub async fn take_up<K: Kind>(&self, id: ReservationId) -> Result<Option<Recorded<K>>, LedgerError> {
        let (id, hands) = (id.0, self.hands.clone());
        let stored = self.ask(|reply| Command::TakeUp(Taking { id, hands, reply })).await??;
        let recorded: Option<Recorded<K>> = stored.map(Into::into);
        Ok(recorded.filter(Recorded::is_in_hand))
    }
}

impl Taking {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>) -> Sql<()> {
        let mut stored = store::stored(group.db, self.id).await?;
        // What is refused or settled meanwhile is in nobody's way: its client's repeat would wait for a word in vain.
        if let Some(stored) = stored.as_mut().filter(|stored| stored.state == State::Recorded) {
            stored.hold = self.hands.take(self.id);
            if matches!(stored.hold, Hold::Mine(_)) {
                again::sent_again(group, stored).await?;
            }
        }
        group.answer(self.reply, Ok(stored));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_has_it_until_it_lets_go() {
        let hands = Hands::default();
        let one = hands.take(1);
        assert!(matches!(one, Hold::Mine(_)));
        assert!(matches!((hands.take(1), hands.look(1)), (Hold::Anothers(_), Hold::Anothers(_))));
        assert!(matches!(hands.take(2), Hold::Mine(_)));
        assert!(matches!(hands.look(2), Hold::None));
        drop(one);
        assert!(matches!(hands.take(1), Hold::Mine(_)));
    }
}
