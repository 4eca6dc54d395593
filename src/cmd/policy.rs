//! `chancery policy`: is it well written, does it do what was meant, and why does it decide as it does.

mod case;
mod check;
mod describe;
mod explain;
mod preflight;
mod replay;
mod schema;
mod sign;
mod suggest;
mod test;
mod world;

use clap::Subcommand;

use crate::cmd::{Context, Done};

/// Check, test, explain, describe and sign a policy
#[derive(Debug, clap::Args)]
pub struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Check),
    Test(test::Test),
    Explain(explain::Explain),
    Describe(describe::Describe),
    Preflight(preflight::Preflight),
    Replay(replay::Replay),
    Schema(schema::Schema),
    Sign(sign::Sign),
    Suggest(suggest::Suggest),
}

impl Policy {
    pub fn run(self, context: &Context) -> Done {
        match self.verb {
            Verb::Check(verb) => verb.run(context),
            Verb::Test(verb) => verb.run(context),
            Verb::Explain(verb) => verb.run(context),
            Verb::Describe(verb) => verb.run(context),
            Verb::Preflight(verb) => verb.run(context),
            Verb::Replay(verb) => verb.run(context),
            Verb::Schema(schema::Schema {}) => schema::Schema::run(context),
            Verb::Sign(verb) => verb.run(context),
            Verb::Suggest(verb) => verb.run(context),
        }
    }
}
