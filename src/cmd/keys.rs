//! `chancery keys`: makes, lists and shows keys in a token, and opens a PIN latch.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::clock::Clock;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::{Config, Token};
use crate::ledger::{self, KeyUse, Note};
use crate::signer::{self, KeyInfo, TokenAccess};

/// Make and inspect keys in a token
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a secp256k1 key that never leaves its token
    Generate {
        #[command(flatten)]
        token: Which,
        /// The key's label; unique in its token
        #[arg(long)]
        label: String,
    },
    /// List a token's keys and whether each is fit to sign
    List {
        #[command(flatten)]
        token: Which,
    },
    /// Show one key
    Show {
        #[command(flatten)]
        token: Which,
        /// The key's label
        label: String,
    },
    /// Say that a token's PIN is right now, after it was refused once
    Unlatch {
        /// The token's name in the configuration
        token: String,
    },
}

/// Which token: one of the configuration, or one that is described here.
#[derive(Debug, clap::Args)]
struct Which {
    /// The token's name in the configuration; not needed where there is one only
    #[arg(long, conflicts_with = "module")]
    token: Option<String>,
    /// The PKCS#11 module, where there is no configuration yet
    #[arg(long, requires = "token_label", requires = "pin_file")]
    module: Option<PathBuf>,
    /// With --module: the token's label
    #[arg(long, requires = "module")]
    token_label: Option<String>,
    /// With --module: the file that holds the PIN
    #[arg(long, requires = "module")]
    pin_file: Option<PathBuf>,
}

impl Keys {
    pub fn run(self, context: &Context) -> Done {
        match self.verb {
            Verb::Generate { token, label } => generate(context, &token, &label),
            Verb::List { token } => list(context, &token),
            Verb::Show { token, label } => show(context, &token, &label),
            Verb::Unlatch { token } => unlatch(context, &token),
        }
    }
}

fn generate(context: &Context, which: &Which, label: &str) -> Done {
    let (name, access) = which.access(context)?;
    let key = signer::generate(&access, label).hint(
        "no key was made",
        "is the module right, and the token there? `chancery keys list` tries without changing anything",
    )?;
    // A key that is made where there is no configuration belongs to no ledger yet.
    if which.module.is_none() {
        let config = Config::load(context.config())?;
        let label = Some(label.to_owned());
        put_on_record(
            context,
            &config,
            KeyUse { keys: vec![key.address], label, ..used(&name, "generated") },
        )?;
    }
    let text = format!(
        "made key `{label}`, address {address}\n\nFor the configuration:\n\n[[account]]\nname    = \"{label}\"\n\
         address = \"{address}\"\ntoken   = \"{name}\"\nkey     = \"{label}\"",
        address = key.address
    );
    context.print(&key, text)?;
    Ok(Success::Done)
}

fn list(context: &Context, which: &Which) -> Done {
    let (_, access) = which.access(context)?;
    let keys =
        signer::list(&access).hint("the keys cannot be read", "is the module right, and the token there?")?;
    let text = if keys.is_empty() {
        "the token has no elliptic-curve keys; `chancery keys generate` makes one".to_owned()
    } else {
        keys.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    context.print(&keys, text)?;
    Ok(Success::Done)
}

fn show(context: &Context, which: &Which, label: &str) -> Done {
    let (_, access) = which.access(context)?;
    let keys =
        signer::list(&access).hint("the keys cannot be read", "is the module right, and the token there?")?;
    let found: Vec<&KeyInfo> = keys.iter().filter(|key| key.label == label).collect();
    if found.is_empty() {
        let failure = Failure::new(format_args!("the token has no key labelled `{label}`"));
        return Err(failure.with_hint("`chancery keys list` shows all").into());
    }
    context.print(&found, found.iter().map(|key| line(key)).collect::<Vec<_>>().join("\n"))?;
    let fine = found.iter().all(|key| key.trouble.is_none());
    Ok(if fine { Success::Done } else { Success::Denied })
}

fn unlatch(context: &Context, token: &str) -> Done {
    let config = Config::load(context.config())?;
    if config.token(token).is_none() {
        return Err(Failure::new(format_args!("there is no [[token]] named `{token}`")).into());
    }
    let was =
        signer::unlatch(state_of(&config), token).hint("the latch cannot be opened", "whose file is it?")?;
    if was {
        put_on_record(context, &config, used(token, "unlatched"))?;
    }
    let text = if was {
        "unlatched; `serve` tries the PIN once more, within a second"
    } else {
        "nothing was latched"
    };
    context.print(&json!({ "token": token, "was_latched": was }), text)?;
    Ok(Success::Done)
}

fn used(token: &str, what: &'static str) -> KeyUse {
    let user = Some(rustix::process::getuid().as_raw());
    KeyUse { token: token.to_owned(), what, keys: Vec::new(), label: None, why: None, user }
}

/// Into the audit chain, where there is one that nobody has open.
fn put_on_record(context: &Context, config: &Config, used: KeyUse) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let note = Note::Key(used);
    match runtime.block_on(ledger::note_offline(&config.ledger, Clock::system(), &note)) {
        Ok(true) => {}
        Ok(false) => {
            context.say("not in the audit chain: there is no ledger, or a running gateway has it open");
        }
        Err(error) => context.say(format_args!("not in the audit chain: {error}")),
    }
    Ok(())
}

fn line(key: &KeyInfo) -> String {
    let address = key.address.map_or_else(|| "(no public key)".to_owned(), |address| address.to_string());
    let born = if key.born_here { "made in this token" } else { "came into this token" };
    let fit =
        key.trouble.as_deref().map_or_else(|| "fit to sign".to_owned(), |why| format!("NOT FIT: {why}"));
    format!("{:<24} {address}  {born}, {fit}", key.label)
}

impl Which {
    fn access(&self, context: &Context) -> anyhow::Result<(String, TokenAccess)> {
        if let (Some(module), Some(label), Some(pin_file)) = (&self.module, &self.token_label, &self.pin_file)
        {
            let access = TokenAccess {
                module: module.clone(),
                label: label.clone(),
                serial: None,
                pin_file: pin_file.clone(),
                latch: None,
            };
            return Ok((label.clone(), access));
        }
        let config = Config::load(context.config())?;
        let token = match (&self.token, config.tokens.as_slice()) {
            (Some(name), _) => config.token(name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let token = token.ok_or_else(|| {
            let names: Vec<&str> = config.tokens.iter().map(|token| token.name.as_str()).collect();
            Failure::new("which token?").with_hint(format_args!("--token, one of: {}", names.join(", ")))
        })?;
        in_environment_of(token)?;
        let access = TokenAccess {
            module: token.module.clone(),
            label: token.label.clone(),
            serial: token.serial.clone(),
            pin_file: token.pin_file.clone(),
            latch: Some(signer::latch_path(state_of(&config), &token.name)),
        };
        Ok((token.name.clone(), access))
    }
}

/// A module reads its settings from the environment when it is loaded. Where the configuration sets some for the
/// worker, this verb starts anew with them.
fn in_environment_of(token: &Token) -> anyhow::Result<()> {
    let is_set = |(name, value): (&String, &String)| std::env::var_os(name).is_some_and(|set| set == **value);
    if token.environment.iter().all(is_set) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    let error = again.args(std::env::args_os().skip(1)).envs(&token.environment).exec();
    Err(Failure::new(format_args!("the token's environment cannot be set: {error}")).into())
}

/// Where the ledger is, and the latches beside it.
fn state_of(config: &Config) -> &Path {
    config.ledger.path.parent().unwrap_or(Path::new("."))
}
