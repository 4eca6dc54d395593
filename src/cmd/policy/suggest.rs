//! `chancery policy suggest`: the narrowest rule that would have allowed a request that was refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::cmd::policy::case::{Asked, caller};
use crate::cmd::policy::world::folder;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::{Filter, show};
use crate::policy::{Policy, World};

/// Write the narrowest rule that would have allowed a refused request, and say whether it is enough
#[derive(Debug, clap::Args)]
pub struct Suggest {
    /// The request's id: `request_id` of the refusal, as its client and `audit show` have it
    request: String,
    /// The policy folder [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
}

/// The audit row of a refusal, as far as it is read.
#[derive(Deserialize)]
struct Refusal {
    client: String,
    method: String,
    asked: String,
    sentence: String,
}

#[derive(Serialize)]
struct Suggestion {
    /// To be put into the policy, once somebody has read it.
    rules: String,
    /// Whether the policy allows the request with them.
    allows: bool,
    /// What else speaks against it.
    why: Option<String>,
}

impl Suggest {
    pub fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        let (world, directory) =
            (World::new(&config), folder(self.policy.as_deref(), Some(config.policies.clone())));
        let policy = Policy::load(&directory, &world)
            .hint("the policy has mistakes", "`chancery policy check` lists them")?;
        let refusal = self.refusal(&config)?;
        let params: Value = serde_json::from_str(&refusal.asked).hint(
            "what was asked is not in the audit as a whole: it keeps 4 KiB",
            "`chancery policy explain` says of the request itself what it lacks",
        )?;
        let request = json!({ "method": refusal.method, "params": params });
        let none = "no rule helps: the gateway refuses it before the policy is asked";
        let asked = Asked::of_json(&request, &world).hint(none, "mend the request")?;
        let by = caller(&world, &refusal.client, &asked).hint(none, "see [[client]] in the configuration")?;
        let now = Clock::system().now();
        let id = format!("allow-{}", self.request.chars().take(8).collect::<String>());
        let rules = asked.suggest(&policy, &by, (now, &id)).map_err(Failure::new)?;
        let wider = Policy::load_with(&directory, &world, &rules)
            .hint("the rule cannot be read: this is a fault of Chancery's", "please report it")?;
        let denied = asked.assess(&wider, &by, now.into()).err().map(|denied| denied.sentence);
        let rules = format!("# {}\n{rules}", in_one_line(&refusal.sentence));
        let suggestion = Suggestion { allows: denied.is_none(), why: denied, rules };
        match &suggestion.why {
            None => context
                .say("note: with these rules it is allowed; they allow what was asked, and nothing else"),
            Some(why) => context.say(format!("note: even with these rules it is denied: {why}")),
        }
        let text = suggestion.rules.trim_end().to_owned();
        context.print(&suggestion, text)?;
        Ok(if suggestion.allows { Success::Done } else { Success::Denied })
    }

    fn refusal(&self, config: &Config) -> anyhow::Result<Refusal> {
        let filter = Filter {
            request: Some(self.request.clone()),
            kind: Some("refusal".to_owned()),
            ..Filter::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rows = runtime
            .block_on(show(&config.ledger, &filter))
            .hint("the ledger cannot be read", "it is there once `chancery serve` has run")?;
        let row = rows.last().ok_or_else(|| {
            Failure::new(format_args!("the audit has no refusal of request {}", self.request))
                .with_hint("`chancery audit show --kind refusal` lists them")
        })?;
        Ok(serde_json::from_str(&row.body)?)
    }
}

/// A sentence as a comment: nothing in it ends the line, or moves a terminal's cursor.
fn in_one_line(sentence: &str) -> String {
    sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_stays_in_its_comment() {
        assert_eq!(in_one_line("denied:\r[[rule]]\nid\u{1b}[0m"), "denied: [[rule]] id [0m");
    }
}
