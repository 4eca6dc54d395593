//! `chancery keys`: makes, lists and shows keys in a token, and opens a PIN latch.

mod attest;
mod backup;
mod conformance;
mod destroy;
mod drill;
mod record;
mod rotate;
mod which;

use serde_json::json;

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success, harden};
use crate::config::{Backup, Config};
use crate::ledger::KeyUse;
use crate::signer::{self, KeyInfo};

use record::{put_on_record, used};
use which::{Which, state_of};

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
        /// How it will be backed up: `vendor`, `wrapped` (it may leave under a trusted wrapping key) or `none`
        #[arg(long, value_name = "KIND", default_value = "vendor", value_parser = kind)]
        backup: Backup,
        #[command(flatten)]
        admin: AdminArgs,
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
    Backup(backup::Backup),
    Restore(backup::Restore),
    WrappingKey(backup::WrappingKey),
    Component(backup::MakeComponent),
    #[command(subcommand)]
    Rotate(rotate::Rotate),
    /// Lead to the vendor's proof that a key was made in its hardware
    Attest(attest::Attest),
    /// Try everything that Chancery asks of a token, and print a report that can be sent to us
    Conformance(conformance::Conformance),
    /// Destroy a key for good: refused while its transactions are open, or an account still has it
    Destroy(destroy::Destroy),
    /// Prove that an account's backups can sign, and write that into the audit chain
    Drill(drill::Drill),
    /// Say that a token's PIN is right now, after it was refused once
    Unlatch {
        /// The token's name in the configuration
        token: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

impl Keys {
    pub fn run(self, context: &Context) -> Done {
        harden()?;
        match self.verb {
            Verb::Generate { token, label, backup, admin } => {
                generate(context, &token, &label, backup, &admin)
            }
            Verb::Backup(backup) => backup.run(context),
            Verb::Restore(restore) => restore.run(context),
            Verb::WrappingKey(wrapping_key) => wrapping_key.run(context),
            Verb::Component(component) => component.run(context),
            Verb::List { token } => list(context, &token),
            Verb::Show { token, label } => show(context, &token, &label),
            Verb::Conformance(conformance) => conformance.run(context),
            Verb::Rotate(rotate) => rotate.run(context),
            Verb::Attest(attest) => attest.run(context),
            Verb::Destroy(destroy) => destroy.run(context),
            Verb::Drill(drill) => drill.run(context),
            Verb::Unlatch { token, admin } => unlatch(context, &token, &admin),
        }
    }
}

fn kind(text: &str) -> Result<Backup, String> {
    match text {
        "vendor" => Ok(Backup::Vendor),
        "wrapped" => Ok(Backup::Wrapped),
        "none" => Ok(Backup::None),
        _ => Err("vendor, wrapped or none".to_owned()),
    }
}

fn generate(context: &Context, which: &Which, label: &str, backup: Backup, admin: &AdminArgs) -> Done {
    let (name, access) = which.access(context)?;
    let hint = format!(
        "is the module right, and the token there? `chancery keys list` tries without changing anything. secp256k1: {}",
        access.profile.curve
    );
    let key = signer::generate(&access, label, backup).hint("no key was made", hint)?;
    // A key that is made where there is no configuration belongs to no ledger yet.
    if which.module.is_none() {
        let config = Config::load(context.config())?;
        let label = Some(label.to_owned());
        let row = KeyUse { keys: vec![key.address], label, ..used(&name, "generated") };
        put_on_record(context, &config, admin, &row);
    }
    context.say(format_args!("made key `{label}`, address {}; for the configuration:", key.address));
    // Can be put at the end of it as it is.
    let text = format!(
        "\n[[account]]\nname    = \"{label}\"\naddress = \"{address}\"\ntoken   = \"{name}\"\n\
         key     = \"{label}\"{kind}",
        address = key.address,
        kind = match backup {
            Backup::Vendor => "",
            Backup::Wrapped => "\nbackup  = \"wrapped\"",
            Backup::None => "\nbackup  = \"none\"",
        }
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

fn unlatch(context: &Context, token: &str, admin: &AdminArgs) -> Done {
    let config = Config::load(context.config())?;
    if config.token(token).is_none() {
        return Err(Failure::new(format_args!("there is no [[token]] named `{token}`")).into());
    }
    let was =
        signer::unlatch(state_of(&config), token).hint("the latch cannot be opened", "whose file is it?")?;
    if was {
        put_on_record(context, &config, admin, &used(token, "unlatched"));
    }
    let text = if was {
        "unlatched; `serve` tries the PIN once more, within a second"
    } else {
        "nothing was latched"
    };
    context.print(&json!({ "token": token, "was_latched": was }), text)?;
    Ok(Success::Done)
}

fn line(key: &KeyInfo) -> String {
    let address = key.address.map_or_else(|| "(no public key)".to_owned(), |address| address.to_string());
    let born = if key.born_here { "made in this token" } else { "came into this token" };
    let fit =
        key.trouble.as_deref().map_or_else(|| "fit to sign".to_owned(), |why| format!("NOT FIT: {why}"));
    format!("{:<24} {address}  {born}, {fit}", key.label)
}
