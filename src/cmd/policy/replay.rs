//! `chancery policy replay`: what a policy would have said to what was signed before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use alloy_primitives::Address;
use serde::Serialize;

use crate::clock::{Clock, Timestamp};
use crate::cmd::policy::world::folder;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::config::{Config, units};
use crate::ledger::{Deed, deeds};
use crate::policy::{Again, Evidence, Past, Policy, Simulated, World};
use crate::transaction::{Filled, Kind as _, Tx};

/// Judge what the ledger holds by a policy, each at its own time; exit with 3 if it would deny something
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The policy folder [default: the configuration's]
    directory: Option<PathBuf>,
    /// Only what was recorded within this time, such as `30d`
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    within: Option<std::time::Duration>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// What the rule allows by which it was signed.
    same: u64,
    /// What another rule allows.
    other: Vec<Other>,
    denied: Vec<No>,
    /// Messages, whose text is not kept, and what Chancery signed for itself.
    left_out: u64,
    /// Which contracts an account has created on a chain so far.
    #[serde(skip)]
    created: HashMap<(Option<u64>, Address), Vec<Address>>,
}

#[derive(Debug, Serialize)]
struct Other {
    payload: i64,
    client: String,
    then: String,
    now: String,
}

#[derive(Debug, Serialize)]
struct No {
    payload: i64,
    at: String,
    client: String,
    then: String,
    why: String,
}

impl Replay {
    pub fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        let directory = folder(self.directory.as_deref(), Some(config.policies.clone()));
        let policy = Policy::load(&directory, &World::new(&config))
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        let now = Clock::system().now().millis();
        let within = self.within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let since = Timestamp::from_millis(within.map_or(0, |within| now.saturating_sub(within)));
        let mut report = Report::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime
            .block_on(deeds(&(&config.ledger).into(), since, |deed| report.judge(&policy, deed)))
            .hint("the ledger cannot be read", "it is there once `chancery serve` has run")?;
        context.print(&report, report.show()?)?;
        Ok(if report.denied.is_empty() { Success::Done } else { Success::Denied })
    }
}

impl Report {
    fn judge(&mut self, policy: &Policy, deed: &Deed) {
        let Deed { id, kind, client, account, rule, at, raw } = deed;
        let past = Past { client, account: *account, rule, kind, at: *at, raw };
        let (payload, client, then) = (*id, client.clone(), rule.clone());
        let filled = (kind == Tx::NAME).then(|| Filled::signed(*account, raw)).flatten();
        let place = (filled.as_ref().map(Filled::chain_id), *account);
        let created = self.created.get(&place).cloned().unwrap_or_default();
        let evidence = Evidence { created, outcome: Simulated::Then };
        if let Some(created) = filled.as_ref().and_then(Filled::creates) {
            self.created.entry(place).or_default().push(created);
        }
        match policy.judge_again(&past, &evidence) {
            Again::LeftOut => self.left_out = self.left_out.saturating_add(1),
            Again::Allowed(now) if *now == **rule => self.same = self.same.saturating_add(1),
            Again::Allowed(now) => self.other.push(Other { payload, client, then, now: now.to_string() }),
            Again::Denied(why) => self.denied.push(No { payload, at: at.to_string(), client, then, why }),
        }
    }

    fn show(&self) -> Result<String, std::fmt::Error> {
        let Self { same, other, denied, left_out, .. } = self;
        let mut text = String::new();
        for No { payload, at, then, why, .. } in denied {
            writeln!(text, "denied: payload {payload} of {at}, signed by rule `{then}`: {why}")?;
        }
        for Other { payload, client, then, now } in other {
            writeln!(text, "payload {payload} of client `{client}`: by rule `{now}`, and not `{then}`")?;
        }
        write!(
            text,
            "{same} allowed as they were, {} by another rule, {} denied; {left_out} left out (messages, whose text is not kept, and \
             what Chancery signed for itself)",
            other.len(),
            denied.len()
        )?;
        Ok(text)
    }
}
