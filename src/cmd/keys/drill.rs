//! `chancery keys drill`: proves that backups can sign, before they have to.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::keys::record::{put_on_record, used};
use crate::cmd::keys::which::{Which, account_of};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success, stop};
use crate::config::{Account, Config, KeySource};
use crate::ledger::{self, KeyUse};
use crate::signer::{self, Drilled, Pins, Signer, StartError};

#[derive(Debug, clap::Args)]
pub(super) struct Drill {
    /// The account, by name [default: every account that has backups]
    account: Option<String>,
    /// The key's label in that token, where it is another than the account's
    #[arg(long, requires = "account")]
    label: Option<String>,
    #[command(flatten)]
    token: Which,
    #[command(flatten)]
    admin: AdminArgs,
}

/// An account's tokens, and how each did; the admin listener answers the same.
#[derive(Deserialize, Serialize)]
struct Answer {
    account: String,
    address: alloy_primitives::Address,
    tokens: Vec<Told>,
}

#[derive(Deserialize, Serialize)]
struct Told {
    token: String,
    primary: bool,
    trouble: Option<String>,
}

impl Drill {
    pub(super) fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        let answers = if self.token.is_given() {
            vec![self.one_token(context, &config)?]
        } else {
            self.groups(context, &config)?
        };
        context.print(&answers, answers.iter().map(lines).collect::<Vec<_>>().join("\n"))?;
        let fine = answers.iter().flat_map(|answer| &answer.tokens).all(|token| token.trouble.is_none());
        Ok(if fine { Success::Done } else { Success::Denied })
    }

    /// The tokens that the configuration has for the account.
    fn groups(&self, context: &Context, config: &Config) -> anyhow::Result<Vec<Answer>> {
        let accounts: Vec<&Account> = match &self.account {
            Some(name) => vec![account_of(config, name)?],
            None => config.accounts.iter().filter(|account| has_backups(account)).collect(),
        };
        if let Some(lone) = accounts.iter().find(|account| !has_backups(account)) {
            let failure = Failure::new(format_args!(
                "account `{}` has no `backups`: a drill proves nothing",
                lone.name
            ));
            return Err(failure
                .with_hint("name the token that holds its backup: --token, or --module, --token-label and --pin-file")
                .into());
        }
        if accounts.is_empty() {
            return Err(Failure::new("no account has `backups`")
                .with_hint("docs/signer.md says how to have some")
                .into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        if ledger::in_use(&config.ledger.path)? {
            // The gateway's own workers are asked: no token is logged in to twice.
            return runtime.block_on(async {
                let mut admin = self.admin.connect(context).await?;
                let mut answers = Vec::with_capacity(accounts.len());
                for account in accounts {
                    answers.push(admin.post("/v1/keys/drill", &json!({ "account": account.name })).await?);
                }
                Ok(answers)
            });
        }
        let pins = Pins::take(config)?;
        let drilled = runtime.block_on(async {
            let stop = stop::on_signal()?;
            let interrupted = || Failure::new("interrupted; no drill is recorded");
            let signer = match Signer::start(config, std::env::current_exe()?, &pins, &stop).await {
                Err(StartError::Stopped) => return Err(interrupted().into()),
                started => started.hint(
                    "the tokens do not start",
                    "`chancery doctor` tries each thing that can be wrong",
                )?,
            };
            let drills = async {
                let mut drilled = Vec::with_capacity(accounts.len());
                for account in &accounts {
                    drilled.push((*account, signer.drill(account.address).await));
                }
                drilled
            };
            let drilled = stop.run_until_cancelled(drills).await;
            signer.stop().await;
            anyhow::Ok(drilled.ok_or_else(interrupted)?)
        });
        runtime.shutdown_background();
        Ok(drilled?
            .into_iter()
            .map(|(account, drilled)| self.recorded(context, config, account, drilled))
            .collect())
    }

    /// A token that may be in nobody's group: a backup that was fetched from its safe.
    fn one_token(&self, context: &Context, config: &Config) -> anyhow::Result<Answer> {
        let Some(name) = &self.account else {
            return Err(Failure::new("which account's key does that token hold?")
                .with_hint("`chancery keys drill ACCOUNT …`")
                .into());
        };
        let account = account_of(config, name)?;
        let label = match (&self.label, &account.key) {
            (Some(label), _) | (None, KeySource::Token { label, .. }) => label,
            (None, KeySource::Keystore { .. }) => &account.name,
        };
        let (token, access) = self.token.access(context)?;
        let trouble =
            signer::drill_token(&access, label, account.address).err().map(|error| error.to_string());
        let drilled = vec![Drilled { token, is_primary: false, trouble }];
        Ok(self.recorded(context, config, account, drilled))
    }

    fn recorded(
        &self,
        context: &Context,
        config: &Config,
        account: &Account,
        drilled: Vec<Drilled>,
    ) -> Answer {
        for one in &drilled {
            let what = if one.trouble.is_none() { "drilled" } else { "drill-failed" };
            let (keys, label, why) = (vec![account.address], Some(account.name.clone()), one.trouble.clone());
            put_on_record(
                context,
                config,
                &self.admin,
                &KeyUse { keys, label, why, ..used(&one.token, what) },
            );
        }
        let told = |one: Drilled| Told { token: one.token, primary: one.is_primary, trouble: one.trouble };
        Answer {
            account: account.name.clone(),
            address: account.address,
            tokens: drilled.into_iter().map(told).collect(),
        }
    }
}

fn has_backups(account: &Account) -> bool {
    matches!(&account.key, KeySource::Token { tokens, .. } if tokens.len() > 1)
}

fn lines(answer: &Answer) -> String {
    let line = |token: &Told| {
        let kind = if token.primary { "primary" } else { "backup" };
        let did = token.trouble.as_ref().map_or_else(
            || format!("it signs for {}", answer.address),
            |trouble| format!("FAILED: {trouble}"),
        );
        format!("{:<16} {kind:<8} token {:<16} {did}", answer.account, token.token)
    };
    answer.tokens.iter().map(line).collect::<Vec<_>>().join("\n")
}
