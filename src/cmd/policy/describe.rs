//! `chancery policy describe`: a policy in sentences, and the table of who may have what signed.

use std::fmt::Write as _;
use std::path::PathBuf;

use alloy_primitives::B256;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::cmd::audit::time;
use crate::cmd::policy::world::{WorldFlags, folder};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::Config;
use crate::ledger::in_force;
use crate::policy::{Cell, Description, Policy, World};

/// Say in sentences what a policy allows, and who may call what by which account
#[derive(Debug, clap::Args)]
pub struct Describe {
    /// The policy folder [default: the configuration's, or `policies`]
    directory: Option<PathBuf>,
    /// Only what is about this client
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Of what was in force then, as the ledger keeps it: 2026-01-31, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "directory")]
    at: Option<Timestamp>,
    #[command(flatten)]
    world: WorldFlags,
}

/// A policy that was in force, in sentences.
#[derive(Serialize)]
struct Then {
    policy: B256,
    /// When it came into force, or a gateway started with it, for the last time until then.
    since: String,
    #[serde(flatten)]
    told: Description,
}

impl Describe {
    pub fn run(self, context: &Context) -> Done {
        let Some(then) = self.at else {
            let (world, configured) = self.world.read(context, None)?;
            let directory = folder(self.directory.as_deref(), configured);
            let policy = Policy::load(&directory, &world)
                .hint("the policy has mistakes", "`chancery policy check` lists them")?;
            let told = self.tell(&policy, &world)?;
            context.print(&told, show(&told)?)?;
            return Ok(Success::Done);
        };
        let config = Config::load(context.config())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let was = runtime
            .block_on(in_force(&config.ledger, then))
            .hint("the ledger cannot be read", "it is there once `chancery serve` has run")?;
        let was = was.ok_or_else(|| {
            Failure::new(format_args!("the audit has no policy of {then} or before"))
                .with_hint(
                "`chancery audit show --kind policy` lists when each came into force; rows that were archived are in their files",
            )
        })?;
        let (policy, world) = Policy::archived(&was.text, &config.clients)
            .hint("the policy of then cannot be read", "the version of Chancery that ran then can read it")?;
        let told = self.tell(&policy, &world)?;
        context.say("note: which clients there were, and their roles, is not kept: they are those of the configuration now");
        let text = format!("Policy {}, since {}\n{}", was.hash, was.since, show(&told)?);
        context.print(&Then { policy: was.hash, since: was.since.to_string(), told }, text)?;
        Ok(Success::Done)
    }

    fn tell(&self, policy: &Policy, world: &World) -> anyhow::Result<Description> {
        let mut told = policy.describe(world);
        if let Some(client) = &self.client {
            if !world.clients.iter().any(|known| known.name == *client) {
                let known: Vec<_> = world.clients.iter().map(|client| client.name.as_str()).collect();
                return Err(Failure::new(format_args!("there is no client named `{client}`"))
                    .with_hint(format_args!("there are: {}", known.join(", ")))
                    .into());
            }
            told.matrix.retain(|cell| cell.client == *client);
            // What is forbidden may be forbidden to everybody.
            told.rules.retain(|rule| {
                rule.effect == "deny" || told.matrix.iter().any(|cell| cell.rules.contains(&rule.rule))
            });
        }
        Ok(told)
    }
}

fn show(told: &Description) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for (effect, title) in [("allow", "Allowed:"), ("deny", "Forbidden, whatever is allowed:")] {
        let rules: Vec<_> = told.rules.iter().filter(|rule| rule.effect == effect).collect();
        if !rules.is_empty() {
            writeln!(text, "{title}")?;
        }
        for rule in rules {
            writeln!(text, "  {}: {} ({}:{})", rule.rule, rule.text, rule.file, rule.line)?;
        }
    }
    writeln!(text, "Limits:")?;
    for limit in &told.limits {
        writeln!(text, "  {limit}")?;
    }
    write!(text, "Who may have what signed:{}", table(&told.matrix))?;
    Ok(text)
}

/// The table, in columns as wide as what stands in them.
fn table(cells: &[Cell]) -> String {
    if cells.is_empty() {
        return " nobody, anything".to_owned();
    }
    let list =
        |items: &std::collections::BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut rows = vec![["CLIENT", "ACCOUNT", "CONTRACT", "RULES", "WHAT"].map(str::to_owned)];
    rows.extend(cells.iter().map(|cell| {
        [
            cell.client.clone(),
            cell.account.clone(),
            cell.contract.clone(),
            list(&cell.rules),
            list(&cell.what),
        ]
    }));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let [.., what] = row;
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("\n  {}  {what}", padded.collect::<Vec<_>>().join("  "))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cmd::policy::world::WorldFlags;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        world: WorldFlags,
    }

    fn described(name: &str) -> Description {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name);
        let file = std::fs::read_dir(folder.join("tests")).unwrap().next().unwrap().unwrap().path();
        let line = <Line as clap::Parser>::parse_from(["line", "--world", file.to_str().unwrap()]);
        let (world, _) =
            line.world.read(&Context::new(PathBuf::from("no-such-file.toml"), false), None).unwrap();
        Policy::load(&folder, &world).unwrap().describe(&world)
    }

    #[test]
    fn a_policy_is_told_in_sentences_and_a_table() {
        let told = described("payments");
        let text = show(&told).unwrap();
        for line in [
            "  pay-usdc: finance may call transfer(address to, uint256 amount) at usdc on chain 1 from treasury, \
             if `to` is payroll or supplier, and `amount` is at most 250000 USDC, and no ether goes along, and the most that execution can cost is at most 0.05 ether (",
            "  no-approvals: any client may not call approve(address, uint256) from treasury (",
            "  health-check: robot may have messages signed from treasury, if the text begins with \"example.com health check \" (",
            "  explorer-login: finance may have messages signed from treasury, if it signs in to explorer.example.com on chain 1, \
             and ends within 60m (",
        ] {
            let spaced = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let found = text
                .split('\n')
                .any(|said| said.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&spaced));
            assert!(found, "{line}\n{text}");
        }
        assert!(
            text.contains("budget `usdc-per-day`: at most")
                && text.contains("every transaction on chain 1: at most")
        );
        let cell = told.matrix.iter().find(|cell| cell.client == "ann" && cell.contract == "usdc").unwrap();
        assert_eq!((cell.account.as_str(), cell.rules.len()), ("treasury", 1));
        assert!(cell.what.contains("call transfer(address to, uint256 amount)"), "{cell:?}");
        assert!(!told.matrix.iter().any(|cell| cell.client == "robot" && cell.contract == "usdc"));
        assert!(text.contains("CLIENT") && !text.lines().any(|line| line.ends_with(' ')), "{text}");
    }

    /// Whoever adds a condition to the language gives it words.
    #[test]
    fn every_example_can_be_told() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let folders = std::fs::read_dir(policies).unwrap().map(|entry| entry.unwrap());
        let folders = folders.filter(|entry| entry.path().join("tests").is_dir());
        let names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(names.len() >= 6, "{names:?}");
        for name in &names {
            let told = described(name);
            assert!(told.rules.iter().all(|rule| !rule.text.contains("what the rule says")), "{name}");
            assert!(!show(&told).unwrap().is_empty());
        }
        assert!(described("read-only").matrix.is_empty());
    }
}
