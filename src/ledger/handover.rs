//! A reservation between its commit and whoever asked for it.

use tokio::sync::{mpsc, oneshot};

use crate::ledger::command::Command;

/// Dropped on its way, because nobody waits any more, or somebody stopped waiting at that very moment, it is void at
/// once. Where even that cannot be said, the ledger voids it when its time is over.
#[derive(Debug)]
pub(in crate::ledger) struct Handover {
    id: Option<i64>,
    /// Weak: a claim in the writer's hands does not keep the writer running.
    commands: mpsc::WeakSender<Command>,
}

impl Handover {
    pub(in crate::ledger) const fn new(id: i64, commands: mpsc::WeakSender<Command>) -> Self {
        Self { id: Some(id), commands }
    }

    /// It is the taker's from now on.
    pub(in crate::ledger) fn take(mut self) -> Option<i64> {
        self.id.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let (Some(id), Some(commands)) = (self.id, self.commands.upgrade()) {
            let (reply, _) = oneshot::channel();
            let why = "nobody was there to take it".to_owned();
            let _ = commands.try_send(Command::Void { id, why, reply });
        }
    }
}
