//! Ears between the writer and whoever asks it: what it answers is known here, also where nobody else hears of it.

use alloy_primitives::{B256, Bytes};
use tokio::sync::oneshot;

use crate::ledger::claims::Claimed;
use crate::ledger::command::{Command, Reply};
use crate::ledger::store::Stored;
use crate::ledger::tests::simulation::steps::End;
use crate::ledger::{Final, LedgerError, Outcome, RecordError, RefusalClass, ReserveError};

/// An answer that the writer owes, and whom it owes it to.
pub enum Owed {
    Record { id: i64, raw: Bytes, hash: B256, answer: Owe<(), RecordError> },
    Outcome { id: i64, is_refusal: bool, answer: Owe<bool, LedgerError> },
    Settled { id: i64, last: Final, answer: Owe<(), LedgerError> },
    Policy { policy: usize, answer: Owe<(), LedgerError> },
    Unsettled { answer: Owe<Vec<Stored>, LedgerError> },
    Claim { answer: Owe<Claimed, ReserveError> },
}

pub struct Owe<T, E> {
    to: Reply<Result<T, E>>,
    heard: oneshot::Receiver<Result<T, E>>,
}

/// Puts an ear between the writer and whoever asked.
fn listen<T, E>(to: Reply<Result<T, E>>) -> (Reply<Result<T, E>>, Owe<T, E>) {
    let (reply, heard) = oneshot::channel();
    (reply, Owe { to, heard })
}

impl<T, E> Owe<T, E> {
    /// What was answered is passed on, unless nobody is to hear of it.
    pub fn pass(mut self, end: End, hear: impl FnOnce(&T)) {
        let Ok(answer) = self.heard.try_recv() else { return };
        if let Ok(value) = &answer {
            hear(value);
        }
        if end != End::Unheard {
            drop(self.to.send(answer));
        }
    }
}

/// A command whose answer we hear as well.
pub fn heard(command: Command, end: End, number: impl Fn(B256) -> usize, owed: &mut Vec<Owed>) -> Command {
    match command {
        Command::Record { id, kind, has_nonce, raw, hash, reply } => {
            let (reply, answer) = listen(reply);
            owed.push(Owed::Record { id, raw: raw.clone(), hash, answer });
            Command::Record { id, kind, has_nonce, raw, hash, reply }
        }
        Command::Outcome { id, outcome, sender, left, reply } => {
            let (reply, answer) = listen(reply);
            owed.push(Owed::Outcome { id, is_refusal: is_refusal(&outcome), answer });
            Command::Outcome { id, outcome, sender, left, reply }
        }
        Command::Settled { id, last, reply } => {
            let (reply, answer) = listen(reply);
            owed.push(Owed::Settled { id, last, answer });
            Command::Settled { id, last, reply }
        }
        Command::Policy { hash, text, policy, reply } => {
            let (reply, answer) = listen(reply);
            let number = number(hash);
            owed.push(Owed::Policy { policy: number, answer });
            Command::Policy { hash, text, policy, reply }
        }
        Command::Unsettled { kind, chain, after, upto, reply } => {
            let (reply, answer) = listen(reply);
            owed.push(Owed::Unsettled { answer });
            Command::Unsettled { kind, chain, after, upto, reply }
        }
        Command::Reserve(mut reserve) if end == End::Unheard => {
            let (reply, heard) = oneshot::channel();
            let to = std::mem::replace(&mut reserve.reply, reply);
            owed.push(Owed::Claim { answer: Owe { to, heard } });
            Command::Reserve(reserve)
        }
        other => other,
    }
}

fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { class, .. } if *class != RefusalClass::NonceTooLow)
}
