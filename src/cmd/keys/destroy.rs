//! `chancery keys destroy`: takes a key out of its token for good, after everything that speaks against it.

use std::io::{BufRead as _, IsTerminal as _};

use alloy_primitives::Address;
use serde_json::json;

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::keys::record::{on_record, put_on_record, used};
use crate::cmd::keys::which::Which;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::{Account, Config, KeySource};
use crate::ledger::{self, KeyUse};
use crate::signer::{self, KeyInfo};

#[derive(Debug, clap::Args)]
pub(super) struct Destroy {
    /// The key's label
    label: String,
    #[command(flatten)]
    token: Which,
    /// Do not ask: this is the address of the key that is to be destroyed
    #[arg(long, value_name = "ADDRESS")]
    yes: Option<String>,
    /// Destroy it although the configuration still has an account with this key
    #[arg(long)]
    still_configured: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Destroy {
    pub(super) fn run(self, context: &Context) -> Done {
        let (name, access) = self.token.access(context)?;
        let config = match Config::load(context.config()) {
            Ok(config) => Some(config),
            // Where one is there that cannot be read, it would have something to say.
            Err(_) if self.token.module.is_some() && matches!(context.config().try_exists(), Ok(false)) => {
                None
            }
            Err(error) => return Err(error.into()),
        };
        let keys = signer::list(&access)
            .hint("the keys cannot be read", "is the module right, and the token there?")?;
        let mut found = keys.into_iter().filter(|key| key.label == self.label);
        let (Some(key), None) = (found.next(), found.next()) else {
            let failure =
                Failure::new(format_args!("the token has no key labelled `{}`, or several", self.label));
            return Err(failure.with_hint("`chancery keys list` shows all").into());
        };
        match &config {
            Some(config) => self.may_go(config, &name, &key)?,
            None => context.say("there is no configuration: its accounts and its ledger were not looked at"),
        }
        self.confirmed(context, &name, &key)?;

        let row = |what| KeyUse {
            keys: key.address.into_iter().collect(),
            label: Some(key.label.clone()),
            ..used(&name, what)
        };
        if let Some(config) = &config {
            // What cannot be written down is not done.
            on_record(context, config, &self.admin, &row("destroying")).hint(
                "nothing was destroyed, as it cannot be written down",
                "stop the gateway, or give an operator's certificate",
            )?;
        }
        signer::destroy(&access, &key.label, key.address)
            .hint("the key was not destroyed", "`chancery keys list` shows what there is")?;
        if let Some(config) = &config {
            put_on_record(context, config, &self.admin, &row("destroyed"));
        }
        let done = json!({ "destroyed": key.label, "address": key.address, "token": name });
        let text = format!(
            "destroyed key `{}` in token {name}{}\nCopies of it in other tokens and in backups are as they were.",
            key.label,
            key.address.map(|address| format!(", address {address}")).unwrap_or_default(),
        );
        context.print(&done, text)?;
        Ok(Success::Done)
    }

    /// What speaks against it.
    fn may_go(&self, config: &Config, token: &str, key: &KeyInfo) -> anyhow::Result<()> {
        let uses = |account: &&Account| {
            let by_label = matches!(&account.key, KeySource::Token { tokens, label, .. }
                if *label == key.label && tokens.iter().any(|name| name == token));
            by_label || Some(account.address) == key.address
        };
        if let Some(account) = config.accounts.iter().find(uses)
            && !self.still_configured
        {
            let failure = Failure::new(format_args!(
                "the configuration still has account `{}` with this key",
                account.name
            ));
            return Err(failure
                .with_hint("take the account out and restart the gateway first, or say --still-configured: what is at its address can be moved by another copy of the key only")
                .into());
        }
        let Some(address) = key.address else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let open = runtime.block_on(ledger::open_of(&config.ledger, address));
        let open = open
            .hint("the ledger cannot be read", "nothing was destroyed: `chancery audit verify` says more")?;
        if open > 0 {
            let failure = Failure::new(format_args!("{open} transactions of {address} are not final"));
            return Err(failure
                .with_hint("`chancery tx list` shows them: a transaction that is stuck can be replaced by its key only")
                .into());
        }
        Ok(())
    }

    /// The whole address, typed or given: no slip of the pen destroys a key.
    fn confirmed(&self, context: &Context, token: &str, key: &KeyInfo) -> anyhow::Result<()> {
        let expected = key.address.map_or_else(|| key.label.clone(), |address| address.to_string());
        let said = match &self.yes {
            Some(said) => said.clone(),
            None if std::io::stdin().is_terminal() => {
                context.say(format_args!(
                    "This destroys key `{}` in token {token} for good. What is at its address can be moved by a copy of \
                     the key only.\nType {expected} to go on:",
                    key.label
                ));
                let mut said = String::new();
                std::io::stdin().lock().read_line(&mut said)?;
                said
            }
            None => {
                let failure = Failure::new("nothing was destroyed: nobody can be asked");
                return Err(failure
                    .with_hint(format_args!("--yes {expected} says that this key is meant"))
                    .into());
            }
        };
        let said = said.trim();
        let is_meant = match key.address {
            Some(address) => said.parse::<Address>().is_ok_and(|said| said == address),
            None => said == expected,
        };
        if is_meant {
            return Ok(());
        }
        Err(Failure::new(format_args!("nothing was destroyed: `{said}` is not {expected}")).into())
    }
}
