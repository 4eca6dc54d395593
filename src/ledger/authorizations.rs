//! Authorizations (EIP-7702) that were signed here: whether one that is handed in is one of them.

use crate::ledger::command::{Command, Reply};
use crate::ledger::db::Sql;
use crate::ledger::store;
use crate::ledger::writer::Group;
use crate::ledger::{Ledger, LedgerError};
use crate::transaction::{Authorization, Handed, Kind as _};

/// Which of these are in the ledger.
#[derive(Debug)]
pub(in crate::ledger) struct HandedIn {
    handed: Vec<Handed>,
    reply: Reply<Result<Vec<Handed>, LedgerError>>,
}

impl Ledger {
    /// Those of them that were signed here, and recorded, byte for byte: of what is signed here there is one signature.
    pub async fn authorized(&self, handed: Vec<Handed>) -> Result<Vec<Handed>, LedgerError> {
        if handed.is_empty() {
            return Ok(handed);
        }
        self.ask(|reply| Command::Handed(HandedIn { handed, reply })).await?
    }
}

impl HandedIn {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>) -> Sql<()> {
        let Self { mut handed, reply } = self;
        let mut known = Vec::new();
        while let Some(one) = handed.pop() {
            let kinds = (Authorization::NAME, Authorization::NAME);
            let place = (one.chain, one.authority, one.nonce);
            let found = store::signed_as(group.db, (place, one.digest), kinds).await?;
            if found.is_some_and(|(_, stored)| stored.raw == one.raw) {
                known.push(one);
            }
        }
        group.answer(reply, Ok(known));
        Ok(())
    }
}
