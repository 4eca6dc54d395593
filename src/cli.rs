//! The command line: which verbs there are, and where each is done.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cmd::{self, Context};

/// A mutual-TLS reverse proxy for Ethereum JSON-RPC that checks a policy and signs in a hardware security module.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    /// The configuration file
    #[arg(long, short, global = true, env = "CHANCERY_CONFIG", default_value = "chancery.toml")]
    config: PathBuf,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 failed; 2 wrong use; 3 denied, or a check found something wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    Init(cmd::init::Init),
    Serve(cmd::serve::Serve),
    Connect(cmd::connect::Connect),
    Certs(cmd::certs::Certs),
    Keys(cmd::keys::Keys),
    Policy(cmd::policy::Policy),
    Pause(cmd::pause::Pause),
    Resume(cmd::pause::Resume),
    #[command(subcommand, name = "tx")]
    Transactions(cmd::tx::Transactions),
    Audit(cmd::audit::Audit),
    Limits(cmd::limits::Limits),
    Doctor(cmd::doctor::Doctor),
    #[command(hide = true)]
    SignerWorker(cmd::signer_worker::SignerWorker),
}

/// Reads the arguments, does what they say, and turns a failure into its sentence, hint and exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.config, cli.json);
    let done: cmd::Done = match cli.verb {
        Verb::Init(verb) => verb.run(&context),
        Verb::Serve(verb) => verb.run(&context),
        Verb::Connect(verb) => verb.run(&context),
        Verb::Certs(verb) => verb.run(&context),
        Verb::Keys(verb) => verb.run(&context),
        Verb::Policy(verb) => verb.run(&context),
        Verb::Pause(verb) => verb.run(&context),
        Verb::Resume(verb) => verb.run(&context),
        Verb::Transactions(verb) => verb.run(&context),
        Verb::Audit(verb) => verb.run(&context),
        Verb::Limits(verb) => verb.run(&context),
        Verb::Doctor(verb) => verb.run(&context),
        Verb::SignerWorker(verb) => verb.run(&context),
    };
    context.finish(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }
}
