//! `chancery keys conformance`: tries the whole contract on a token, and prints a report.

use std::time::Duration;

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::keys::record::{put_on_record, used};
use crate::cmd::keys::which::Which;
use crate::cmd::{Context, Done, Failure, Success};
use crate::config::Config;
use crate::ledger::{self, KeyUse};
use crate::signer::{self, Report, Trial, Verdict};

#[derive(Debug, clap::Args)]
pub(super) struct Conformance {
    #[command(flatten)]
    token: Which,
    /// Sign with this key of the token; without it a key is made, and destroyed at the end
    #[arg(long, value_name = "LABEL")]
    key: Option<String>,
    /// How many signatures are made by one session, and once more by several
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    signatures: u32,
    /// How many sessions sign at once [default: the configuration's or the profile's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=128))]
    sessions: Option<u32>,
    /// Also initialise the module anew under an open session: the last thing that is done, as some modules crash
    #[arg(long)]
    lose_sessions: bool,
    /// How long one rule may take, in seconds, before the module counts as hung
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    patience: u64,
    /// Go on although a gateway is using the configuration's tokens: its signatures have to wait
    #[arg(long)]
    beside_the_gateway: bool,
}

impl Conformance {
    pub(super) fn run(self, context: &Context) -> Done {
        let (name, access) = self.token.access(context)?;
        let config = if self.token.module.is_none() { Some(Config::load(context.config())?) } else { None };
        if let Some(config) = &config
            && !self.beside_the_gateway
            && ledger::in_use(&config.ledger.path).unwrap_or(false)
        {
            let failure = Failure::new(
                "a gateway is running on this configuration, and its signatures would have to wait",
            );
            return Err(failure.with_hint("stop it, or say --beside-the-gateway").into());
        }
        let configured = config.as_ref().and_then(|config| config.token(&name)).map(|token| token.sessions);
        let sessions = self.sessions.and_then(|sessions| usize::try_from(sessions).ok());
        let trial = Trial {
            key: self.key,
            signatures: usize::try_from(self.signatures)?,
            sessions: sessions.or(configured).unwrap_or(access.profile.sessions),
            lose_sessions: self.lose_sessions,
            patience: Duration::from_secs(self.patience),
        };
        let report = signer::conformance(&access, &trial, |rule| {
            if !context.json() {
                context.say(rule);
            }
        });
        context.print(&report, text(&report))?;
        if let Some(config) = &config
            && report.key.address.is_some()
        {
            let label = Some(report.key.label.clone());
            let why = Some(if report.passed { "passed" } else { "failed" }.to_owned());
            let row =
                KeyUse { keys: report.key.address.into_iter().collect(), label, why, ..used(&name, "tried") };
            put_on_record(context, config, &AdminArgs::default(), &row);
        }
        Ok(if report.passed { Success::Done } else { Success::Denied })
    }
}

/// The whole report, to be read and to be sent.
fn text(report: &Report) -> String {
    let mut lines = vec![format!("chancery {}, profile {}", report.chancery, report.profile)];
    let mut section = |title: &str, facts: &mut dyn Iterator<Item = (String, &String)>| {
        lines.push(format!("\n{title}"));
        lines.extend(facts.map(|(name, value)| format!("  {name:<30} {value}")));
    };
    section("module", &mut report.module.iter().map(|(name, value)| ((*name).to_owned(), value)));
    section("token", &mut report.token.iter().map(|(name, value)| ((*name).to_owned(), value)));
    section("key", &mut report.key.attributes.iter().map(|(name, value)| (name.clone(), value)));
    lines.push(format!("\nmechanisms\n  {}", report.mechanisms.join(" ")));
    lines.push("\nrules".to_owned());
    lines.extend(report.rules.iter().map(|rule| format!("  {}", rule.to_string().replace('\n', "\n  "))));
    let count = |verdict| report.rules.iter().filter(|rule| rule.verdict == verdict).count();
    let (passed, noted, failed) = (count(Verdict::Pass), count(Verdict::Note), count(Verdict::Fail));
    let verdict = if report.passed {
        "this token does what Chancery needs"
    } else {
        "this token cannot be used as it is"
    };
    lines.push(format!("\n{passed} passed, {noted} noted, {failed} failed: {verdict}"));
    lines.join("\n")
}
