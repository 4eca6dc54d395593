//! Keeps what is signed moving, without anybody's asking: fills gaps, and bumps what is not mined in time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, after, later};
use crate::config::{AutoBump, Config};
use crate::ledger::{MAX_GAPS, Outcome, RefusalClass};
use crate::methods::App;
use crate::methods::own::{Bound, Sent};

const EVERY: Duration = Duration::from_secs(1);

/// After so many rounds all that is open of an account is looked at for gaps, and not only what is in memory: a node that once said
/// too much of what was mined must not hide one for good.
const WHOLE_EVERY: u64 = 60;

/// How long a gap may stay before it is filled: the next payload without a nonce, or a client that sends its own
/// once more, closes it better.
const GAP_MAY_STAND: Duration = Duration::from_secs(3);

/// After a gap could not be filled, doubled each time.
const FIRST_REST: Duration = Duration::from_secs(3);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// The task that does it; one for each chain.
#[derive(Debug)]
pub struct Upkeep {
    app: Arc<App>,
    clock: Clock,
    /// The most that closing a gap may cost, in wei; nothing where gaps are left open.
    fill_gaps: Option<U256>,
    auto_bump: BTreeMap<Address, AutoBump>,
    /// The gaps that stand; after a restart they are noticed anew.
    gaps: HashMap<(Address, u64), Standing>,
    /// When a transaction is bumped next at the earliest, where that failed.
    rests: HashMap<(Address, u64), Instant>,
    rounds: u64,
}

/// One gap.
#[derive(Clone, Copy, Debug)]
struct Standing {
    next: Instant,
    rest: Duration,
    /// A node found its filling too cheap: the next one pays more.
    raise: bool,
}

impl Upkeep {
    pub fn new(app: Arc<App>, config: &Config, clock: Clock) -> Self {
        let auto_bump =
            config.accounts.iter().filter_map(|account| Some((account.address, account.auto_bump?)));
        let (auto_bump, fill_gaps) = (auto_bump.collect(), config.ledger.fill_gaps);
        Self { app, clock, fill_gaps, auto_bump, gaps: HashMap::new(), rests: HashMap::new(), rounds: 0 }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut round = tokio::time::interval(EVERY);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(round.tick()).await.is_some() {
            // What a round has begun is finished by its own tasks.
            if stop.run_until_cancelled(Box::pin(self.round())).await.is_none() {
                break;
            }
        }
    }

    async fn round(&mut self) {
        if !self.app.ledger.leads() {
            return;
        }
        // A ledger in trouble says so elsewhere.
        let Ok(accounts) = self.app.ledger.open_accounts(self.app.chain_id).await else { return };
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for account in accounts {
            if self.fill_gaps.is_some() {
                match self.gaps_of(account).await {
                    Some(gaps) => found.extend(gaps.into_iter().map(|nonce| (account, nonce))),
                    None => unknown.push(account),
                }
            }
            if let Some(rule) = self.auto_bump.get(&account).copied() {
                self.bump(account, rule).await;
            }
        }
        self.fill(found, &unknown).await;
        let now = Instant::now();
        self.rests.retain(|_, until| now < *until);
        self.rounds = self.rounds.wrapping_add(1);
    }

    /// The gaps of an account, or nothing where that cannot be told now; the node is asked only where there can be any.
    async fn gaps_of(&self, account: Address) -> Option<Vec<u64>> {
        let (ledger, chain) = (&self.app.ledger, self.app.chain_id);
        // One that stands is looked for whatever is let go of in memory.
        let stands = self.gaps.keys().any(|(other, _)| *other == account);
        let from = (stands || self.rounds.is_multiple_of(WHOLE_EVERY)).then_some(0);
        if ledger.gaps(chain, account, from).await.is_ok_and(|gaps| gaps.is_empty()) {
            return Some(Vec::new());
        }
        let mined = self.app.upstream.mined_count(account).await.ok()?;
        let mut gaps = ledger.gaps(chain, account, Some(mined)).await.ok()?;
        if gaps.len() > MAX_GAPS {
            tracing::error!(%account, mined, first = gaps.first(), "more nonces are missing below recorded transactions than are filled by ourselves; an operator must look");
        }
        gaps.truncate(MAX_GAPS.saturating_add(1));
        Some(gaps)
    }

    /// Those of `unknown` accounts are as they were.
    async fn fill(&mut self, found: Vec<(Address, u64)>, unknown: &[Address]) {
        let now = Instant::now();
        self.gaps.retain(|gap, _| found.contains(gap) || unknown.contains(&gap.0));
        for gap in &found {
            let first = later(now, GAP_MAY_STAND);
            self.gaps.entry(*gap).or_insert(Standing { next: first, rest: FIRST_REST, raise: false });
        }
        let due: Vec<(Address, u64)> = found
            .iter()
            .filter(|gap| self.gaps.get(*gap).is_some_and(|seen| seen.next <= now))
            .copied()
            .collect();
        for (account, nonce) in due {
            let in_account = found.iter().filter(|(other, _)| *other == account).count();
            let filled = match self.fill_gaps {
                Some(cap) if in_account <= MAX_GAPS => self.fill_one((account, nonce), cap).await,
                _ => false,
            };
            if let Some(seen) = self.gaps.get_mut(&(account, nonce))
                && !filled
            {
                seen.next = after(seen.rest);
                seen.rest = seen.rest.saturating_mul(2).min(LONGEST_REST);
                metrics::counter!("chancery_gap_failures_total").increment(1);
            }
        }
        let old = self.gaps.values().filter(|seen| seen.next <= now || seen.rest > FIRST_REST).count();
        metrics::gauge!("chancery_gaps", "chain" => self.app.chain_id.to_string())
            .set(u32::try_from(old).unwrap_or(u32::MAX));
    }

    async fn fill_one(&mut self, (account, nonce): (Address, u64), cap: U256) -> bool {
        let raise = self.gaps.get(&(account, nonce)).is_some_and(|seen| seen.raise);
        match self.app.fill_gap((account, nonce), cap, raise).await {
            Ok(sent) => {
                let too_cheap = matches!(
                    &sent.outcome,
                    Outcome::Refused {
                        class: RefusalClass::Underpriced | RefusalClass::ReplacementUnderpriced,
                        ..
                    }
                );
                if let Some(seen) = self.gaps.get_mut(&(account, nonce)) {
                    seen.raise = too_cheap;
                }
                if let Outcome::Refused { text, .. } = &sent.outcome {
                    tracing::error!(%account, nonce, hash = %sent.hash, text, "a gap could not be filled: the node refuses it; what is above it waits");
                    return false;
                }
                tracing::warn!(%account, nonce, hash = %sent.hash, "a gap was filled by a transfer of nothing");
                metrics::counter!("chancery_gaps_filled_total").increment(1);
                true
            }
            Err(refusal) => {
                tracing::error!(%account, nonce, "a gap could not be filled, and what is above it waits: {refusal}");
                false
            }
        }
    }

    /// Bumps the account's lowest transaction where it waited enough; those above it wait for it.
    async fn bump(&mut self, account: Address, rule: AutoBump) {
        let Ok(at) = self.app.ledger.lowest_open(self.app.chain_id, account).await else { return };
        let live = at.iter().find(|one| one.is_live());
        // Of what is on its way to a node just now its client may yet hear that it is refused, and pay again.
        let Some(live) = live.filter(|one| !one.is_returned && one.is_heard_of()) else { return };
        let place = (account, live.nonce);
        let rests = self.rests.get(&place).is_some_and(|until| Instant::now() < *until);
        if rests || self.clock.now().since(live.at) < rule.after {
            return;
        }
        // Mined, and only not final yet.
        if !self.app.upstream.mined_count(account).await.is_ok_and(|mined| mined <= live.nonce) {
            return;
        }
        let bound = (None, Bound::PerGas(rule.up_to));
        match self.app.bump_by(live, &at, rule.step, bound).await {
            // What a node refuses now it would refuse a second later, too, and each is signed for more.
            Ok(Sent { outcome: Outcome::Refused { text, .. }, .. }) => {
                tracing::warn!(%account, nonce = live.nonce, text, "not mined in time, and its bump was refused");
                metrics::counter!("chancery_auto_bump_failures_total").increment(1);
                self.rests.insert(place, after(rule.after));
            }
            Ok(sent) => {
                tracing::info!(%account, nonce = live.nonce, old = %live.hash, new = %sent.hash, "not mined in time: bumped");
                metrics::counter!("chancery_auto_bumps_total").increment(1);
            }
            Err(refusal) => {
                tracing::warn!(%account, nonce = live.nonce, "not mined in time, and not bumped: {refusal}");
                metrics::counter!("chancery_auto_bump_failures_total").increment(1);
                self.rests.insert(place, after(rule.after));
            }
        }
    }
}
