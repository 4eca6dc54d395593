//! Checkpoints: now and then the end of the chain is signed by a key of its own, on the road that every signature
//! takes, and handed out of the house. A token that is down makes them late, and stops nothing.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::audit::push::Outbox;
use crate::clock::Clock;
use crate::config;
use crate::identity::RequestId;
use crate::ledger::{Claim, LastCheckpoint, Ledger, Location, Note, Purpose, SealedRow, Watch};
use crate::policy::ActivePolicy;
use crate::signer::Signer;
use crate::transaction::{ChainHead, SealedText, Statement, checkpoint_digest};

/// The rows that a checkpoint writes itself: its intent, its signature, and the row that shows both.
const OWN_ROWS: i64 = 3;

/// After a failure, doubled up to [`LONGEST_REST`]: each attempt writes rows too.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Why the checkpoint that is due is not made; nothing while none is late. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Late(Arc<ArcSwapOption<String>>);

impl Late {
    pub fn why(&self) -> Option<String> {
        self.0.load_full().map(|why| why.as_ref().clone())
    }
}

/// Makes checkpoints when they are due.
#[derive(Debug)]
pub struct Checkpoints {
    config: config::Audit,
    policy: Arc<ActivePolicy>,
    signer: Signer,
    clock: Clock,
    watch: Watch,
    outbox: Outbox,
    /// The newest one of the chain. Not read at first, and read again after every failure.
    last: Option<LastCheckpoint>,
    is_read: bool,
    /// When this process made one last.
    made: Option<Instant>,
    rest: Option<(Instant, Duration)>,
    late: Late,
}

impl Checkpoints {
    pub fn new(
        config: config::Audit,
        ledger: Location,
        policy: Arc<ActivePolicy>,
        signer: Signer,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let outbox = Outbox::open(&config)?;
        let watch = Watch::new(ledger);
        Ok(Self {
            config,
            policy,
            signer,
            clock,
            watch,
            outbox,
            last: None,
            is_read: false,
            made: None,
            rest: None,
            late: Late::default(),
        })
    }

    pub fn late(&self) -> Late {
        self.late.clone()
    }

    /// Makes one if it is due; with `end`, if there is anything that the last one does not cover.
    pub(super) async fn look(&mut self, ledger: &Ledger, end: bool) {
        if !ledger.leads() {
            // Another seals the chain; what it adds is read when this is the one.
            self.is_read = false;
            return;
        }
        let now = Instant::now();
        if !end && self.rest.is_some_and(|(until, _)| now < until) {
            return;
        }
        let made = self.make_if_due(ledger, now, end).await;
        self.outbox.flush().await;
        let failed = made.err();
        if let Some(why) = &failed {
            let wait = self.rest.map_or(FIRST_REST, |(_, wait)| wait.saturating_mul(2).min(LONGEST_REST));
            self.rest = now.checked_add(wait).map(|until| (until, wait));
            self.is_read = false;
            tracing::warn!(why, "a checkpoint of the audit chain is late");
            metrics::counter!("chancery_checkpoint_failures_total").increment(1);
        } else {
            self.rest = None;
        }
        metrics::gauge!("chancery_checkpoint_late").set(if failed.is_some() { 1.0 } else { 0.0 });
        self.late.0.store(failed.map(Arc::new));
    }

    async fn make_if_due(&mut self, ledger: &Ledger, now: Instant, end: bool) -> Result<(), String> {
        if !self.is_read {
            self.read_last().await?;
        }
        let last = self.last.clone();
        let heads = self.watch.heads().await.map_err(|e| e.to_string())?;
        let fresh = fresh_rows(&heads, last.as_ref());
        let waited = self.made.is_none_or(|made| now.saturating_duration_since(made) >= self.config.every);
        let many = u64::try_from(fresh).is_ok_and(|fresh| fresh >= self.config.every_rows);
        if fresh > 0 && (end || waited || many) {
            self.make(ledger, heads, last).await?;
            self.made = Some(now);
        }
        Ok(())
    }

    /// The newest checkpoint of the chain. What a crash kept from being pushed is pushed now.
    async fn read_last(&mut self) -> Result<(), String> {
        let last = self.watch.last_checkpoint().await.map_err(|e| e.to_string())?;
        let known = last.as_ref().map_or(0, |last| last.statement.checkpoint);
        if self.outbox.in_file().is_some_and(|number| number > known) {
            metrics::counter!("chancery_ledger_older_than_checkpoints_total").increment(1);
            tracing::error!(
                "ALARM: the file of checkpoints knows of later ones than the ledger, which seems to be an older copy; \
                 `chancery audit verify --checkpoints` says where they part"
            );
        }
        let from = self.outbox.newest().map_or(0, |number| number.saturating_add(1));
        for row in self.watch.checkpoints_from(from).await.map_err(|e| e.to_string())? {
            self.outbox.push(&row);
        }
        self.last = last;
        self.is_read = true;
        Ok(())
    }

    /// The road of every signature: reserved, signed, recorded; then shown in the chain, then pushed.
    async fn make(
        &mut self,
        ledger: &Ledger,
        heads: Vec<ChainHead>,
        last: Option<LastCheckpoint>,
    ) -> Result<(), String> {
        let (number, previous) =
            last.map_or((0, B256::ZERO), |last| (last.statement.checkpoint, last.digest));
        let at = self.clock.now().to_string();
        let statement = Statement { checkpoint: number.saturating_add(1), at, heads, previous };
        let sealed = SealedText::new(self.config.key, &statement).map_err(|e| e.to_string())?;
        let text = sealed.text().to_owned();
        let request = RequestId::random().map_err(|e| e.to_string())?;
        let permitted = self.policy.now().own_checkpoint(sealed, request).ok_or("no permission was made")?;
        let claim = ledger.reserve(permitted, Purpose::Return).await.map_err(|e| e.to_string())?;
        let recorded = match claim {
            Claim::Known(recorded) => recorded,
            Claim::Fresh(reserved) => {
                let id = reserved.id();
                match self.signer.sign(config::OWN_NAME, reserved, None).await {
                    Ok(signed) => ledger.record(signed).await.map_err(|e| e.to_string())?,
                    Err(error) => {
                        let why = error.to_string();
                        // Where even this fails, the ledger voids it by itself.
                        drop(ledger.void(id, &why).await);
                        return Err(why);
                    }
                }
            }
        };
        let row = SealedRow::new(&text, &recorded);
        ledger.note(Note::Checkpoint(row.clone())).await.map_err(|e| e.to_string())?;
        metrics::counter!("chancery_checkpoints_total").increment(1);
        self.last = Some(LastCheckpoint { digest: checkpoint_digest(&text), statement });
        self.outbox.push(&row);
        Ok(())
    }
}

/// How many rows the last checkpoint does not cover, without its own.
fn fresh_rows(heads: &[ChainHead], last: Option<&LastCheckpoint>) -> i64 {
    let stated = |writer| {
        let heads = last.map_or(&[][..], |last| &last.statement.heads);
        heads.iter().find(|head| head.writer == writer).map_or(0, |head| head.seq)
    };
    let all = heads
        .iter()
        .fold(0_i64, |sum, head| sum.saturating_add(head.seq.saturating_sub(stated(head.writer))));
    if last.is_some() { all.saturating_sub(OWN_ROWS) } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_rows_make_no_checkpoint_due() {
        let head = |seq| ChainHead { writer: 0, seq, hash: B256::ZERO };
        let statement =
            Statement { checkpoint: 1, at: String::new(), heads: vec![head(7)], previous: B256::ZERO };
        let last = LastCheckpoint { statement, digest: B256::ZERO };
        assert_eq!(fresh_rows(&[head(7)], None), 7);
        assert_eq!(fresh_rows(&[head(10)], Some(&last)), 0);
        assert_eq!(fresh_rows(&[head(12)], Some(&last)), 2);
        let second = ChainHead { writer: 1, ..head(5) };
        assert_eq!(fresh_rows(&[head(10), second], Some(&last)), 5, "a new writer's rows are all fresh");
    }
}
