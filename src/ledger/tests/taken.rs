//! What a model needs to know of what nodes said of a payload: less than the ledger keeps, so that it has fewer states.

use crate::clock::Timestamp;
use crate::ledger::life::{State, Word};

/// Nothing in a model waits for time to pass by it.
pub const START_OF_TIME: Timestamp = Timestamp::from_millis(0);

/// Whether a node took it, or may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Taken(bool);

impl Taken {
    /// What the ledger would have as the last word.
    pub fn word(self, state: State) -> Option<Word> {
        let refused = Some(Word::Refused).filter(|_| state == State::Vacant);
        if self.0 { Some(Word::Dropped) } else { refused }
    }

    /// A node says something: what the ledger hears.
    pub fn hear(&mut self, said: Word, state: State) -> Word {
        let heard = said.after(self.word(state));
        self.0 |= heard != Word::Refused;
        heard
    }

    /// Whether it may be in a pool.
    pub fn may_be_pooled(self, state: State) -> bool {
        state.is_signed() && self.word(state) != Some(Word::Refused)
    }
}
