//! Whether a request was made before under the same name: asked before anything else is done for it, and once more
//! inside the commit of its reservation.

use std::sync::Arc;

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::ledger::apply;
use crate::ledger::audit::Body;
use crate::ledger::beside;
use crate::ledger::command::Reply;
use crate::ledger::db::{Sql, SqlError};
use crate::ledger::hands::Hands;
use crate::ledger::keys::{Name, Named, Verdict, judge};
use crate::ledger::life::Word;
use crate::ledger::store::Stored;
use crate::ledger::tally::Tally;
use crate::ledger::writer::{Group, Rules};
use crate::ledger::{Purpose, ReserveError, key_store, store};
use crate::transaction::{Kind as _, Request, Tx};

/// A question for what was recorded under a name.
#[derive(Debug)]
pub(in crate::ledger) struct Repeat {
    pub kind: &'static str,
    pub client: String,
    pub request: String,
    pub name: Name,
    pub intent: B256,
    pub purpose: Purpose,
    pub hands: Hands,
    /// How many rows this client's repeats may still make: they cost it nothing else.
    pub tally: Arc<Tally>,
    pub reply: Reply<Result<Met, ReserveError>>,
}

/// What became of an earlier request of the same name.
#[derive(Debug)]
pub(in crate::ledger) enum Met {
    /// Nothing that answers this one: it goes the whole road.
    Nothing,
    Signing,
    Out(Box<Stored>),
}

/// What a claim gets by its name, and what was reserved under that name last.
pub(in crate::ledger) async fn verdict(
    group: &mut Group<'_>,
    rules: &Rules,
    (client, intent): (&str, B256),
    name: Option<&Name>,
) -> Sql<(Verdict, Option<i64>)> {
    let Some(name) = name else { return Ok((Verdict::Free, None)) };
    let named: Option<Named> = key_store::named(group.db, client, &name.text).await?;
    let mut verdict = judge(named.as_ref(), name, intent, (rules.keys_kept, group.now));
    if let Verdict::Spent { id, .. } = verdict
        && let Some(id) = bumped(group, id).await?
    {
        verdict = Verdict::Out { id };
    }
    Ok((verdict, named.map(|named| named.id)))
}

/// The payload that is, or will be, mined in place of this one and differs from it by its fees only: a bump. Whoever asks
/// again for what was paid by it must not hear that it failed.
async fn bumped(group: &mut Group<'_>, id: i64) -> Sql<Option<i64>> {
    let Some(spent) = store::stored(group.db, id).await? else { return Ok(None) };
    let again = |stored: &Stored| Request::again(&stored.raw, stored.account);
    let Some(request) = again(&spent) else { return Ok(None) };
    let heir = beside::bumped_to(group.db, id).await?;
    Ok(heir.filter(|heir| again(heir).is_some_and(|other| other.does_the_same(&request))).map(|heir| heir.id))
}

/// Writes down that this reservation has this name from now on.
pub(in crate::ledger) async fn remember(
    group: &mut Group<'_>,
    rules: &Rules,
    (client, name): (&str, &Name),
    (id, intent): (i64, B256),
    before: Option<i64>,
) -> Sql<()> {
    key_store::put(group.db, (client, &name.text), (id, intent), before, group.now).await?;
    key_store::prune(group.db, rules.keys_kept, group.now).await
}

impl Repeat {
    pub(in crate::ledger) async fn answer(self, group: &mut Group<'_>, rules: &Rules) -> Sql<()> {
        let asked = (self.client.as_str(), self.intent);
        let (verdict, _) = verdict(group, rules, asked, Some(&self.name)).await?;
        let met = match verdict {
            Verdict::Out { id } => {
                let mut known = store::stored(group.db, id).await?.ok_or(SqlError::NoRow)?;
                if self.kind == Tx::NAME
                    && self.purpose == Purpose::Send
                    && known.word.is_none_or(Word::is_ours)
                {
                    known.hold = self.hands.look(id);
                }
                if known.returned && self.purpose == Purpose::Send {
                    // To send what was only returned so far is more than was allowed then: it is judged.
                    Ok(Met::Nothing)
                } else {
                    if self.tally.admits(&self.client, "repeat", Instant::now()) {
                        let (request, client) = (&self.request, &self.client);
                        group.audit(&Body::Repeat { reservation: id, request, client }).await?;
                    }
                    if self.kind == Tx::NAME && self.purpose == Purpose::Return {
                        apply::handed_out(group, id).await?;
                    }
                    Ok(Met::Out(Box::new(known)))
                }
            }
            Verdict::Signing => Ok(Met::Signing),
            // What a node refused is sent again only if it would be allowed again.
            Verdict::Free | Verdict::Refused { .. } => Ok(Met::Nothing),
            Verdict::Spent { refusal, .. } => Err(ReserveError::Spent { refusal }),
            Verdict::OtherIntent => Err(ReserveError::KeyReused),
        };
        group.answer(self.reply, met);
        Ok(())
    }
}
