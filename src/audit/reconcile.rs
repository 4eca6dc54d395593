//! What the tokens signed, held against what the ledger knows of: a signature that nobody asked the ledger for shows.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ledger::{Ledger, LedgerError, Location, Note, Reconciliation, TokenCount, Watch};
use crate::signer::{Count, Signer};

/// Between two rows, where there was anything to count.
const EVERY: Duration = Duration::from_secs(3600);

/// How long the last row waits for what the workers tell once a second.
const LAST_WORD: Duration = Duration::from_millis(1500);

/// Compares, from the moment when it was begun.
#[derive(Debug)]
pub struct Reconciler {
    signer: Signer,
    /// Others that share the ledger have tokens of their own.
    writer: String,
    watch: Watch,
    /// The last row that was counted.
    counted: i64,
    intents: u64,
    signatures: u64,
    /// What was written last, and when.
    written: Option<Reconciliation>,
    at: Instant,
}

impl Reconciler {
    /// Begun before the first request is taken.
    pub async fn begin(ledger: &Ledger, at: Location, signer: Signer) -> Result<Self, LedgerError> {
        let writer = ledger.writer().to_owned();
        let mut watch = Watch::new(at);
        let counted = watch.heads().await?.iter().map(|head| head.seq).sum();
        let at = Instant::now();
        Ok(Self { signer, writer, watch, counted, intents: 0, signatures: 0, written: None, at })
    }

    pub(super) async fn look(&mut self, ledger: &Ledger, end: bool) {
        if end {
            let until = Instant::now().checked_add(LAST_WORD);
            let silent = |(_, count): &(String, Count)| count.calls < count.handed;
            while self.signer.counts().iter().any(silent) && until.is_some_and(|until| Instant::now() < until)
            {
                sleep(Duration::from_millis(50)).await;
            }
        }
        let found = match self.compare().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the tokens' signatures could not be held against the ledger");
                return;
            }
        };
        metrics::gauge!("chancery_reconciliation_mismatch").set(if found.agrees { 0.0 } else { 1.0 });
        let said = self.written.as_ref();
        let is_news = said.is_none_or(|said| said.agrees != found.agrees);
        let is_due = end || self.at.elapsed() >= EVERY;
        if said == Some(&found) || !((is_news && !found.agrees) || is_due) {
            return;
        }
        if !found.agrees {
            tracing::error!(?found, "ALARM: the tokens' signatures and the ledger's do not agree");
        }
        if ledger.note(Note::Reconciliation(found.clone())).await.is_ok() {
            self.written = Some(found);
            self.at = Instant::now();
        }
    }

    /// The order matters: what is recorded was answered before, and what is answered was intended before.
    async fn compare(&mut self) -> Result<Reconciliation, LedgerError> {
        self.count().await?;
        let recorded = self.signatures;
        let (counts, probes) = (self.signer.counts(), self.signer.probes());
        self.count().await?;
        let intents = self.intents;
        let sum = |of: fn(&Count) -> u64| counts.iter().map(|(_, count)| of(count)).sum::<u64>();
        let agrees = agrees(
            (intents, recorded),
            (sum(|count| count.handed), sum(|count| count.again)),
            (sum(|count| count.answered), sum(|count| count.made)),
            probes,
            u64::try_from(counts.len()).unwrap_or(u64::MAX),
        );
        let tokens = counts.into_iter().map(|(token, count)| TokenCount {
            token,
            lives: count.lives,
            handed: count.handed,
            again: count.again,
            answered: count.answered,
            calls: count.calls,
            made: count.made,
            proofs: count.proofs,
        });
        Ok(Reconciliation { intents, recorded, probes, tokens: tokens.collect(), agrees })
    }

    async fn count(&mut self) -> Result<(), LedgerError> {
        let (last, intents, signatures) = self.watch.count_after(self.counted, &self.writer).await?;
        self.counted = last;
        self.intents = self.intents.saturating_add(intents);
        self.signatures = self.signatures.saturating_add(signatures);
        Ok(())
    }
}

/// Nothing is recorded that did not come back; no token signed what it was not handed; and nothing was handed to each
/// of the tokens that was not intended or a probe.
fn agrees(
    (intents, recorded): (u64, u64),
    (handed, again): (u64, u64),
    (answered, made): (u64, u64),
    probes: u64,
    tokens: u64,
) -> bool {
    recorded <= answered
        && made <= handed.saturating_add(again)
        && handed <= intents.saturating_add(probes).saturating_mul(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_nobody_asked_for_and_one_that_nobody_made_are_found() {
        assert!(agrees((0, 0), (0, 0), (0, 0), 0, 1));
        assert!(agrees((5, 3), (5, 0), (4, 5), 0, 1), "one came late, one was not recorded");
        assert!(agrees((5, 5), (7, 0), (7, 7), 2, 1), "with probes");
        assert!(agrees((5, 5), (5, 1), (5, 6), 0, 1), "one outlived its worker");
        assert!(!agrees((5, 5), (5, 0), (5, 6), 0, 1), "the worker signed what it was not handed");
        assert!(!agrees((5, 6), (5, 0), (5, 5), 0, 1), "the ledger has one that did not come back");
        assert!(!agrees((4, 4), (5, 0), (5, 5), 0, 1), "signed without an intent");
    }
}
