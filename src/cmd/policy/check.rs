//! `chancery policy check`: every mistake with its line, and what is worth a second look.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::cmd::policy::world::{WorldFlags, folder};
use crate::cmd::{Context, Done, Success};
use crate::policy::{Policy, Warning};

/// Read a policy folder and report every mistake, and what is worth a second look
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The policy folder [default: the configuration's, or `policies`]
    directory: Option<PathBuf>,
    /// Exit with 3 on warnings too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    world: WorldFlags,
}

#[derive(Serialize)]
struct Report {
    directory: PathBuf,
    valid: bool,
    rules: usize,
    rates: usize,
    budgets: usize,
    /// Absent where there are mistakes.
    hash: Option<String>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

#[derive(Serialize)]
struct Mistake {
    file: PathBuf,
    line: Option<usize>,
    what: String,
}

impl Check {
    pub fn run(self, context: &Context) -> Done {
        let (world, configured) = self.world.read(context, None)?;
        let directory = folder(self.directory.as_deref(), configured);
        let mut report = Report {
            directory: directory.clone(),
            valid: true,
            rules: 0,
            rates: 0,
            budgets: 0,
            hash: None,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        let mut text = String::new();
        match Policy::load(&directory, &world) {
            Ok(policy) => {
                (report.rules, report.rates, report.budgets) = policy.size();
                report.hash = Some(policy.hash().to_string());
                report.warnings = policy.warnings(&world);
                for warning in &report.warnings {
                    writeln!(text, "warning: {warning}")?;
                }
                write!(
                    text,
                    "{}: {}, {}, {}, {}, policy {}",
                    directory.display(),
                    count(report.rules, "rule"),
                    count(report.rates, "rate"),
                    count(report.budgets, "budget"),
                    count(report.warnings.len(), "warning"),
                    policy.hash()
                )?;
            }
            Err(error) => {
                report.valid = false;
                for mistake in &error.mistakes {
                    writeln!(text, "{mistake}")?;
                }
                let mistakes = count(error.mistakes.len(), "mistake");
                write!(text, "{}: {mistakes}; not to be used", directory.display())?;
                let mistakes = error.mistakes.into_iter();
                report.mistakes =
                    mistakes.map(|m| Mistake { file: m.file, line: m.line, what: m.what }).collect();
            }
        }
        context.print(&report, text)?;
        let denied = !report.valid || (self.strict && !report.warnings.is_empty());
        Ok(if denied { Success::Denied } else { Success::Done })
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        check: Check,
    }

    fn run(arguments: &[&str]) -> Done {
        let line = <Line as clap::Parser>::parse_from([&["check"], arguments].concat());
        line.check.run(&Context::new(PathBuf::from("no-such-file.toml"), true))
    }

    #[test]
    fn an_example_is_without_mistakes_and_warnings_and_a_wrong_world_is_not() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let farming = policies.join("yield-farming");
        let (farming, world) = (farming.to_str().unwrap(), farming.join("tests/yield-farming.toml"));
        let strictly = [farming, "--strict", "--world", world.to_str().unwrap()];
        assert_eq!(run(&strictly).unwrap(), Success::Done);
        let policy = policies.join("payments");
        let (policy, world) = (policy.to_str().unwrap(), policy.join("tests/payments.toml"));
        let world = world.to_str().unwrap();
        assert_eq!(run(&[policy, "--strict", "--world", world]).unwrap(), Success::Done);
        assert_eq!(run(&[policy, "--strict", "--world", world, "--chain", "10"]).unwrap(), Success::Denied);
        assert_eq!(
            run(&[policy, "--world", world, "--chain", "10"]).unwrap(),
            Success::Done,
            "only warnings"
        );
        assert_eq!(
            run(&[policy, "--with-client", "finance"]).unwrap(),
            Success::Denied,
            "no account `treasury`"
        );
        let none = run(&[policy]).unwrap_err();
        assert!(none.to_string().contains("the configuration"), "{none}");
    }
}
