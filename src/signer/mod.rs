//! The signature: PKCS#11 in a process of its own, one for each token, watched and started anew.
//!
//! **Invariant:** this process never holds a PIN nor a PKCS#11 handle; only `worker/` names `cryptoki`, and
//! `worker/` runs in `chancery signer-worker` alone. The worker is a blind signer for whoever owns the socket.
//!
//! **Invariant:** what comes back from a worker is 64 bytes of no standing; `Reserved::seal` makes a `Signed` of
//! them, or refuses.

mod alerts;
mod count;
mod drill;
mod group;
mod keeper;
mod latch;
mod launch;
mod link;
mod pending;
mod pin;
mod protocol;
mod queue;
mod settings;
mod share;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, keccak256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::after;
use crate::config::{Account, Config, KeySource, Order};
use crate::ledger::{Reserved, Signed};
use crate::transaction::{AccountKey, Kind, NotOurs, prepare_proofs};

pub use count::Count;
pub use drill::Drilled;
pub use latch::{is_closed as is_latched, path as latch_path, unlatch, wait_for};
pub use link::TokenState;
pub use pin::Pins;
pub use protocol::Confinement;
pub use worker::backup::{Component, WrappedKey, check_value, combined, import_wrapping_key, unwrap, wrap};
pub use worker::conformance::{Report, Rule, Trial, Verdict, conformance};
pub use worker::destroy::destroy;
pub use worker::drill::drill as drill_token;
pub use worker::errors::is_refused_pin;
pub use worker::keys::{GeneratedKey, KeyError, KeyInfo, TokenAccess, generate, list};
pub use worker::run as run_worker;

use group::{Group, at_one_site};
use launch::{Ids, Launch};
use link::Link;
use protocol::{Settings, SourceSetting};
use settings::{settings_of, tokens_of};
use share::Share;

/// The line in which probes wait, beside the clients' own. No client's name has a space.
const PROBE: &str = "a probe";

/// How often tokens are looked after, and after how long without a signature one is asked for a probe. Some close
/// sessions that were idle for 30 s.
const TEND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(20);

/// Every account's key, wherever it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Vec<Link>,
    /// Each account's tokens.
    groups: HashMap<Address, Group>,
    deadline: Duration,
    probes: AtomicU64,
    stop: CancellationToken,
}

/// What is known of one token.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    pub token: String,
    pub state: TokenState,
    /// What the kernel keeps from its worker; nothing before one was ready.
    pub confinement: Option<Confinement>,
    /// It failed several times in a row, and has signed nothing for some seconds.
    pub fails: bool,
    /// While it is down, another token signs for each of its accounts.
    pub is_covered: bool,
}

/// Why there is no signer.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Wrong(String),
    /// No worker of it runs any more, and none was ended in its login.
    #[error("stopped before the tokens were ready")]
    Stopped,
}

/// Why there is no signature. Nothing left the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the token did not sign in time; nothing was sent")]
    Timeout,
    #[error("token {token} has as many requests as it can take")]
    Busy { token: String },
    #[error("token {token} is not available: {why}")]
    Down { token: String, why: String },
    #[error("token {token} refused to sign: {why}")]
    Refused { token: String, why: String },
    #[error("token {token} answered with a signature of another key; it is not used")]
    BadSignature { token: String },
    #[error("no token has a key for account {0}")]
    NoKey(Address),
}

impl Signer {
    /// Starts a worker for each token and waits until each has shown what it holds, or that it is not there.
    ///
    /// A token that is down is tried again and again; one that is there and holds another key than the
    /// configuration pins ends the start, and so does `stop`. Who starts it has to `stop` it: a worker that goes down with
    /// its gateway may be in a session's login.
    pub async fn start(
        config: &Config,
        executable: PathBuf,
        pins: &Pins,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let state = config.ledger.path.parent().unwrap_or(Path::new(".")).to_owned();
        let mut groups = groups_of(config);
        let mut workers = Vec::new();
        for mut settings in settings_of(config, &state) {
            let launch = launch(config, &state, &mut settings, &executable, pins)?;
            workers.push((settings, launch));
        }
        let mut seats = HashMap::new();
        for (number, (settings, _)) in workers.iter().enumerate() {
            for key in &settings.keys {
                seats.insert((key.address, settings.name.clone()), (number, key.number));
            }
        }
        tokio::task::spawn_blocking(prepare_proofs);
        // From here on there are workers, and no way out but by their end.
        let links: Vec<Link> =
            workers.into_iter().map(|(settings, launch)| Link::start(settings, launch)).collect();
        // The primary first, in the order of the configuration.
        for account in &config.accounts {
            let group = groups.get_mut(&account.address);
            let seats = tokens_of(account).into_iter().filter_map(|name| seats.get(&(account.address, name)));
            if let Some(group) = group {
                seats.for_each(|(link, key)| group.add(*link, *key));
            }
        }
        // Every worker is heard before any error ends the process: one that dies in the middle of its login leaves
        // its PIN latched.
        let heard = async {
            let mut heard = Ok(());
            for link in &links {
                heard = heard.and(link.first_answer().await);
            }
            heard
        };
        let heard = stop.run_until_cancelled(heard).await.unwrap_or(Err(StartError::Stopped));
        if let Err(error) = heard {
            stop_all(&links).await;
            return Err(error);
        }
        let (deadline, stop) = (config.signer.deadline, CancellationToken::new());
        let signer =
            Self(Arc::new(Inner { links, groups, deadline, probes: AtomicU64::new(0), stop: stop.clone() }));
        tokio::spawn(stop.run_until_cancelled_owned(signer.clone().tend()));
        Ok(signer)
    }

    /// Has the account's key sign for a client, and proves that it did; within `[signer] deadline`, and no later than
    /// the client waits, if one does.
    pub async fn sign<K: Kind>(
        &self,
        client: &str,
        reserved: Reserved<K>,
        client_waits_until: Option<Instant>,
    ) -> Result<Signed<K>, SignError> {
        let (group, by) = (self.group(reserved.from())?, after(self.0.deadline));
        let by = client_waits_until.map_or(by, |until| by.min(until));
        let (link, raw, life) = self.raw(client, group, reserved.digest(), by).await?;
        reserved.seal(&raw, group.key()).map_err(|error| alarm(link, life, error))
    }

    /// Signs a value that can be no transaction and no message, to see that the key is there and works.
    pub async fn probe(&self, account: Address) -> Result<(), SignError> {
        let (group, digest) = (self.group(account)?, probe_digest());
        self.0.probes.fetch_add(1, Ordering::Relaxed);
        let (link, raw, life) = self.raw(PROBE, group, digest, after(self.0.deadline)).await?;
        group.key().prove(digest, &raw).map(drop).map_err(|error| alarm(link, life, error))
    }

    /// How often each token was asked and signed.
    pub fn counts(&self) -> Vec<(String, Count)> {
        self.0.links.iter().map(|link| (link.name().to_owned(), link.count())).collect()
    }

    /// How many of the requests were probes.
    pub fn probes(&self) -> u64 {
        self.0.probes.load(Ordering::Relaxed)
    }

    pub fn readiness(&self) -> Vec<TokenStatus> {
        let Inner { links, groups, .. } = &*self.0;
        let status = |(number, link): (usize, &Link)| {
            let has = |group: &&Group| group.seats().iter().any(|(seat, _)| *seat == number);
            let ours: Vec<&Group> = groups.values().filter(has).collect();
            let is_covered = !ours.is_empty() && ours.iter().all(|group| group.has_other(links, number));
            let (token, state) = (link.name().to_owned(), link.state());
            let (confinement, fails) = (link.confinement(), link.fails());
            TokenStatus { token, state, confinement, fails, is_covered }
        };
        links.iter().enumerate().map(status).collect()
    }

    /// Signs a probe where a token has signed nothing for a while, or does not sign: the one keeps its sessions alive,
    /// the other closes its breaker again. A probe that failed is forgotten; the breaker has learnt from it.
    async fn tend(self) {
        let Inner { links, groups, deadline, probes: asked, .. } = &*self.0;
        let mut every = tokio::time::interval(TEND);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let probes = links.iter().enumerate().filter(|(_, link)| link.wants_probe(IDLE)).filter_map(
                |(number, link)| {
                    let seats = groups.values().filter_map(|group| {
                        let seat = group.seats().iter().find(|(link, _)| *link == number);
                        seat.map(|(_, key)| (group, *key, group.of_use(links)))
                    });
                    // The account with the most tokens, which leaves it the least time: what is too slow for that comes last there.
                    let (group, key, tokens) =
                        seats.max_by_key(|(group, _, tokens)| (*tokens, group.key().address()))?;
                    asked.fetch_add(1, Ordering::Relaxed);
                    Some(probe(link, group.key(), key, Share::of_probe(*deadline, tokens)))
                },
            );
            futures_util::future::join_all(probes).await;
        }
    }

    /// Ends the workers.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        stop_all(&self.0.links).await;
    }

    fn group(&self, account: Address) -> Result<&Group, SignError> {
        self.0.groups.get(&account).ok_or(SignError::NoKey(account))
    }

    async fn raw(
        &self,
        client: &str,
        group: &Group,
        digest: B256,
        by: Instant,
    ) -> Result<(&Link, [u8; 64], u64), SignError> {
        let mut failed = None;
        let candidates = group.candidates(&self.0.links);
        // One that is down says so at once, and takes no time of the others.
        let mut rest = candidates.iter().filter(|(link, _)| link.is_of_use()).count();
        let tokens = rest;
        for (left_over, (link, key)) in (0..candidates.len()).rev().zip(candidates) {
            // What a token signs after its share is thrown away, so only one signature is ever seen.
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed.unwrap_or(SignError::Timeout));
            }
            let share = Share::of(left, rest, (self.0.deadline, tokens));
            if link.is_of_use() {
                rest = rest.saturating_sub(1);
            }
            failed = match link.sign(client, key, digest, share).await {
                Ok((raw, life)) => return Ok((link, raw, life)),
                Err(error) if error.is_tokens_own() => Some(error),
                Err(error) => return Err(error),
            };
            if left_over > 0 {
                let token = link.name().to_owned();
                metrics::counter!("chancery_sign_failovers_total", "token" => token).increment(1);
            }
        }
        Err(failed.unwrap_or(SignError::NoKey(group.key().address())))
    }
}

/// One that hangs keeps none of the others waiting.
async fn stop_all(links: &[Link]) {
    futures_util::future::join_all(links.iter().map(Link::stop)).await;
}

/// A signature of one token that nobody needs but the one who watches it.
async fn probe(link: &Link, account: &AccountKey, key: u16, share: Share) {
    let digest = probe_digest();
    metrics::counter!("chancery_token_probes_total", "token" => link.name().to_owned()).increment(1);
    if let Ok((raw, life)) = link.sign(PROBE, key, digest, share).await
        && let Err(error) = account.prove(digest, &raw)
    {
        alarm(link, life, error);
    }
}

/// A group for each account, still empty.
fn groups_of(config: &Config) -> HashMap<Address, Group> {
    let site = |name: &String| config.token(name).and_then(|token| token.site.as_deref());
    let sites = config.accounts.iter().map(|a| (a.address, tokens_of(a).iter().map(site).collect()));
    for account in at_one_site(sites) {
        metrics::gauge!("chancery_account_one_site", "account" => account.to_string()).set(1.0);
        tracing::warn!(%account, "ALERT: all tokens of this account stand at one site, or `site` does not say where");
    }
    let order = |account: &Account| match &account.key {
        KeySource::Token { order, .. } => *order,
        KeySource::Keystore { .. } => Order::PrimaryBackup,
    };
    config
        .accounts
        .iter()
        .map(|account| (account.address, Group::new(account.address, order(account))))
        .collect()
}

/// What was signed is thrown away, and so is the worker that gave it.
fn alarm(link: &Link, life: u64, error: NotOurs) -> SignError {
    let token = link.name().to_owned();
    tracing::error!(%token, %error, "ALARM: a token signed with a key that is not the account's");
    metrics::counter!("chancery_bad_signatures_total", "token" => token.clone()).increment(1);
    link.distrust(life);
    SignError::BadSignature { token }
}

/// As whom a worker is started, and with what. It writes its latch in a folder of its own: beside the ledger it may be
/// somebody else's, and is kept from it.
fn launch(
    config: &Config,
    state: &Path,
    settings: &mut Settings,
    executable: &Path,
    pins: &Pins,
) -> Result<Launch, StartError> {
    let token = config.token(&settings.name);
    let user = token.map_or(config.signer.user.as_ref(), |token| token.user.as_ref());
    let as_user = user.map(|user| Ids::of(user)).transpose()?;
    if let SourceSetting::Token { latch, .. } = &mut settings.source {
        let ids = as_user.unwrap_or_else(Ids::ours);
        *latch = latch::give_to(state, &settings.name, (ids.user, ids.group), as_user.is_some()).map_err(
            |error| {
                StartError::Wrong(format!(
                    "token {}: the folder of its PIN latch cannot be made: {error}",
                    settings.name
                ))
            },
        )?;
    }
    Ok(Launch { executable: executable.to_owned(), as_user, pin: pins.of(&settings.name) })
}

/// No transaction (its digest is a Keccak-256 of RLP) and no message (EIP-191) hashes to this but by a collision.
/// Randomness keeps two probes apart; where the system has none left, a fixed probe does as well.
fn probe_digest() -> B256 {
    let mut value = *b"chancery probe\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let (_, random) = value.split_at_mut(14);
    let _ = getrandom::fill(random);
    keccak256(value)
}

impl fmt::Display for TokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.token, self.state)
    }
}
