//! `chancery limits`: what is left of each budget, and when the next part of it frees. Reads the ledger beside a
//! running gateway.

use std::fmt::Write as _;

use serde::Serialize;

use crate::clock::Clock;
use crate::cmd::{Context, Done, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::{self, Usage};
use crate::policy::{Policy, World};

/// Show what is left of each budget
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// This budget only
    #[arg(long, value_name = "ID")]
    budget: Option<String>,
}

#[derive(Serialize)]
struct Row {
    budget: String,
    /// Whose count it is; empty where it is one for all.
    scope: String,
    max: String,
    used: String,
    /// What of `used` waits for the chain to decide.
    open: String,
    left: String,
    window_seconds: u64,
    /// When the oldest part of what is spent leaves the window; missing where nothing is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_frees_in_seconds: Option<u64>,
}

impl Limits {
    pub fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        let policy = Policy::load(&config.policies, &World::new(&config))?;
        let wanted = |id: &str| self.budget.as_deref().is_none_or(|budget| budget == id);
        let limits: Vec<_> = policy.limits().filter(|limit| wanted(&limit.id)).collect();
        if limits.is_empty() {
            let what = self
                .budget
                .map_or("the policy has no budget".to_owned(), |id| format!("there is no budget `{id}`"));
            return Err(anyhow::anyhow!(what))
                .hint("nothing to show", "budgets stand in policy files, as [[budget]]");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let now = Clock::system().now();
        let usage = runtime
            .block_on(ledger::usage(&(&config.ledger).into(), limits, now))
            .hint("the ledger cannot be read", "it is there once `chancery serve` has run")?;
        for usage in &usage {
            let row = Row::of(usage);
            context.print(&row, row.line())?;
        }
        Ok(Success::Done)
    }
}

impl Row {
    fn of(usage: &Usage) -> Self {
        let limit = &usage.limit;
        Self {
            budget: limit.id.clone(),
            scope: usage.scope.clone(),
            max: limit.show(limit.max),
            used: limit.show(usage.used),
            open: limit.show(usage.open),
            left: limit.show(usage.left()),
            window_seconds: limit.window.as_secs(),
            next_frees_in_seconds: usage.frees_in.map(|frees| frees.as_secs()),
        }
    }

    fn line(&self) -> String {
        let Self { budget, scope, max, used, left, window_seconds, .. } = self;
        let mut line = format!("{budget}: {left} left of {max} in {window_seconds} s, {used} used");
        if !scope.is_empty() {
            _ = write!(line, " ({scope})");
        }
        if let Some(seconds) = self.next_frees_in_seconds {
            _ = write!(line, "; the next part frees in {seconds} s");
        }
        line
    }
}
