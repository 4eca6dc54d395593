//! Tells what a policy that is tried would have said otherwise. It decides nothing, and nobody waits for it.

use std::sync::Arc;

use crate::identity::AccountCaller;
use crate::ledger::{Note, Tried};
use crate::methods::App;
use crate::policy::{AllCompare, Comparison, Denied, Difference, Evidence, Judged, Permitted, Policy};

/// What a decision is to be compared with, if anything. Where as many comparisons are under way as there may be, this one is
/// left out.
pub(super) fn begin(app: &App) -> Option<Comparison> {
    let begun = app.policy.to_compare()?;
    begun
        .inspect_err(|AllCompare| {
            metrics::counter!("chancery_policy_shadow_total", "verdict" => "left_out").increment(1);
        })
        .ok()
}

/// Compares one decision with what the policy that is tried says, in a task of its own.
pub(super) fn compare<K: Judged>(
    app: &Arc<App>,
    (caller, asked): (&AccountCaller, K::Asked),
    decided: Result<&Permitted<K>, &Denied>,
    with: Comparison,
) {
    let (comparing, caller) = (Arc::clone(app), caller.clone());
    let decided = match decided {
        Ok(permitted) => Ok(permitted.rule().to_owned()),
        Err(denied) => Err(denied.sentence.clone()),
    };
    app.tasks.spawn(async move {
        let decided = decided.as_ref().map(String::as_str).map_err(String::as_str);
        compared::<K>(&comparing, (&caller, &asked), decided, with.policy()).await;
        // Until here it holds its place.
        drop(with);
    });
}

async fn compared<K: Judged>(
    app: &Arc<App>,
    (caller, asked): (&AccountCaller, &K::Asked),
    decided: Result<&str, &str>,
    tried: &Policy,
) {
    let looked_up = tried.inquire::<K>(caller, asked).created;
    // A ledger in trouble says so elsewhere.
    let created = app.ledger.created((app.chain_id, caller.account()), looked_up).await.unwrap_or_default();
    let evidence = Evidence { created, ..Evidence::default() };
    let difference = tried.differs::<K>(caller, asked, evidence, decided);
    metrics::counter!("chancery_policy_shadow_total", "verdict" => difference.name()).increment(1);
    let (Difference::Stricter { rule, why } | Difference::Looser { rule, why }) = &difference else { return };
    let note = Tried {
        verdict: difference.name(),
        client: caller.client().name.clone(),
        request: caller.request().to_string(),
        kind: K::NAME,
        rule: rule.clone(),
        why: why.chars().take(1024).collect(),
        policy: tried.hash(),
    };
    tracing::info!(
        verdict = note.verdict,
        client = note.client,
        request = note.request,
        rule,
        why,
        "the policy that is tried would say otherwise"
    );
    // What is not written down is counted all the same.
    if app.policy.has_room_to_tell()
        && let Err(error) = app.ledger.note(Note::Tried(note)).await
    {
        tracing::warn!(%error, "what the policy that is tried says could not be written down");
    }
}
