//! A signed transaction that is handed in: whether it is one that the ledger knows.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use tokio::time::Instant;

use crate::identity::Caller;
use crate::ledger::again;
use crate::ledger::audit::Body;
use crate::ledger::command::{Command, Reply};
use crate::ledger::db::Sql;
use crate::ledger::hands::Hands;
use crate::ledger::pause::stops;
use crate::ledger::store::{self, Stored};
use crate::ledger::tally::Tally;
use crate::ledger::writer::{Group, Rules};
use crate::ledger::{Ledger, Recorded, ReserveError, pauses};
use crate::transaction::{Kind as _, Presigned, Tx};

/// A signed transaction that is in the ledger.
#[derive(Debug)]
pub enum Presented {
    /// An account of ours signed it.
    Ours(Recorded<Tx>),
    /// It was handed in before, and let through.
    Before(Recorded<Presigned>),
}

/// The question for it.
#[derive(Debug)]
pub(in crate::ledger) struct Inquest {
    hash: B256,
    /// Chain, account and nonce.
    place: (u64, Address, u64),
    client: String,
    request: String,
    hands: Hands,
    /// How many rows this client's repeats may still make: they cost it nothing else. None, where it gets no answer.
    tally: Option<Arc<Tally>>,
    reply: Reply<Result<Option<(String, Stored)>, ReserveError>>,
}

impl Ledger {
    /// What was recorded under this hash at its chain, account and nonce, if anything. What has not left yet does not leave while it is paused.
    pub async fn presented(
        &self,
        caller: &Caller,
        (place, hash): ((u64, Address, u64), B256),
        answers: bool,
    ) -> Result<Option<Presented>, ReserveError> {
        let (client, request) = (caller.client().name.clone(), caller.request().to_string());
        let (hands, tally) = (self.hands.clone(), answers.then(|| self.repeats()));
        let found = self.ask(|reply| {
            Command::Presented(Box::new(Inquest { hash, place, client, request, hands, tally, reply }))
        });
        Ok(found.await??.map(|(kind, stored)| {
            if kind == Tx::NAME { Presented::Ours(stored.into()) } else { Presented::Before(stored.into()) }
        }))
    }
}

impl Inquest {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>, rules: &Rules) -> Sql<()> {
        let kinds = (Tx::NAME, Presigned::NAME);
        let Some((kind, mut known)) = store::signed_as(group.db, (self.place, self.hash), kinds).await?
        else {
            group.answer(self.reply, Ok(None));
            return Ok(());
        };
        let paused = pauses::all(group.db).await?;
        if let Some(pause) = stops(&paused, &self.client, self.place.1)
            && known.returned
        {
            let refusal = pause.refusal(rules.show_pause_reason);
            group.answer(self.reply, Err(refusal.into()));
            return Ok(());
        }
        if let Some(tally) = self.tally {
            if tally.admits(&self.client, "repeat", Instant::now()) {
                let (request, client) = (&self.request, &self.client);
                group.audit(&Body::Repeat { reservation: known.id, request, client }).await?;
            }
            again::handed_in(group, &mut known, &self.hands).await?;
        }
        group.answer(self.reply, Ok(Some((kind, known))));
        Ok(())
    }
}
