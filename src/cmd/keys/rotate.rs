//! `chancery keys rotate`: from one key to the next, in two steps with an overlap between them. On Ethereum a new key is
//! a new address: nothing moves by itself.

use alloy_primitives::{Address, U256};
use serde_json::json;

use crate::clock::Clock;
use crate::cmd::admin_client::AdminArgs;
use crate::cmd::keys::record::{put_on_record, used};
use crate::cmd::keys::which::{access_to, account_of, in_environment_of};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::{Account, Config, KeySource};
use crate::ledger::{self, KeyUse};
use crate::signer;
use crate::upstream::{Answer, Upstream};

/// Move an account to a new key, which is a new address
#[derive(Debug, clap::Subcommand)]
pub(super) enum Rotate {
    /// Make the new key beside the old one, and say what to do until the old one can go
    Begin {
        /// The account whose key is to be replaced, by name
        account: String,
        /// The new key's label [default: the old one's with today's date]
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Check that nothing needs the old key any more, and write down that it was retired
    Retire {
        /// The account that goes, by name
        account: String,
        /// The account that takes its place, by name
        #[arg(long, value_name = "ACCOUNT")]
        to: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

impl Rotate {
    pub(super) fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        match self {
            Self::Begin { account, label, admin } => begin(context, &config, &account, label, &admin),
            Self::Retire { account, to, admin } => retire(context, &config, &account, &to, &admin),
        }
    }
}

fn begin(context: &Context, config: &Config, name: &str, label: Option<String>, admin: &AdminArgs) -> Done {
    let account = account_of(config, name)?;
    let KeySource::Token { tokens, label: old, .. } = &account.key else {
        let failure = Failure::new(format_args!("account `{name}` has a keystore file, not a token"));
        return Err(failure.with_hint("make a key with `chancery keys generate`").into());
    };
    let primary = tokens.first().and_then(|token| config.token(token));
    let token = primary.ok_or_else(|| Failure::new(format_args!("account `{name}` has no token")))?;
    in_environment_of(token)?;
    let today: String = Clock::system().now().to_string().chars().take("2026-01-01".len()).collect();
    let label = label.unwrap_or_else(|| format!("{old}-{today}"));
    let access = access_to(config, token);
    let hint = format!("the old key is as it was. secp256k1: {}", token.profile.curve);
    let made = signer::generate(&access, &label, account.backup).hint("no new key was made", hint)?;
    let row = KeyUse {
        keys: vec![account.address, made.address],
        label: Some(label.clone()),
        ..used(&token.name, "rotation-begun")
    };
    put_on_record(context, config, admin, &row);
    let done = json!({
        "account": name, "old": account.address, "new": made.address, "token": token.name, "label": label,
    });
    context.print(&done, guide(config, account, tokens, &label, made.address))?;
    Ok(Success::Done)
}

/// What a rotation is on Ethereum, and each step of it.
fn guide(config: &Config, account: &Account, tokens: &[String], label: &str, new: Address) -> String {
    let (name, old) = (&account.name, account.address);
    let clients = config.clients.iter().filter(|client| client.accounts.contains(&old));
    let clients: Vec<&str> = clients.map(|client| client.name.as_str()).collect();
    let clients = if clients.is_empty() { "none".to_owned() } else { clients.join(", ") };
    let (primary, backups) =
        tokens.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let later = if backups.is_empty() {
        String::new()
    } else {
        format!("\n# and, when they hold the new key too:\n# backups = {backups:?}")
    };
    format!(
        "made key `{label}` in token {primary}: {new}\n\
         \n\
         A new key is a new address. Nothing of {old} moves by itself: not its ether, its tokens and positions, its roles in\n\
         contracts, its approvals, its ENS names, nor its place in others' allow-lists. It stays valid for all of them, and\n\
         whoever has a copy of the old key can go on using it.\n\
         \n\
         1. Back the new key up, before it holds anything.\n\
         2. Add it beside the old one, and to the clients of `{name}` ({clients}); restart the gateway:\n\
         \n\
         [[account]]\n\
         name    = \"{label}\"\n\
         address = \"{new}\"\n\
         token   = \"{primary}\"\n\
         key     = \"{label}\"{later}\n\
         \n\
         3. Give the rules of the policy that name `{name}` the new account too; `chancery policy test` shows what changes.\n\
         4. Drill its backups: `chancery keys drill {label}`.\n\
         5. Move what {old} holds, with the old key: roles and approvals first (grant to the new one, then revoke), the\n\
         \u{20}  tokens, and the ether last, as it pays for the rest. Tell whoever pays to the old address.\n\
         6. Take `{name}` from its clients, restart, and wait until nothing of it is open: `chancery tx list`.\n\
         7. `chancery keys rotate retire {name} --to {label}`"
    )
}

fn retire(context: &Context, config: &Config, name: &str, to: &str, admin: &AdminArgs) -> Done {
    let (old, new) = (account_of(config, name)?, account_of(config, to)?);
    if old.address == new.address {
        return Err(Failure::new("the two are one account").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = config.clients.iter().filter(|client| client.accounts.contains(&old.address));
    let clients: Vec<&str> = clients.map(|client| client.name.as_str()).collect();
    if !clients.is_empty() {
        let failure =
            Failure::new(format_args!("these clients may still use `{name}`: {}", clients.join(", ")));
        return Err(failure.with_hint("take it from their `accounts`, and restart the gateway").into());
    }
    let lookup = runtime.block_on(async {
        let rows = ledger::key_rows(&config.ledger, 0).await?;
        let proved = rows.iter().any(|row| row.what == "proved" && row.keys.contains(&new.address));
        anyhow::Ok((proved, ledger::open_of(&config.ledger, old.address).await?))
    });
    let (proved, open) = lookup.hint("the ledger cannot be read", "`chancery audit verify` says more")?;
    if !proved {
        let failure = Failure::new(format_args!("no gateway has run with `{to}` yet: there was no overlap"));
        return Err(failure
            .with_hint("restart the gateway with both accounts, and move what the old one holds")
            .into());
    }
    if open > 0 {
        let failure = Failure::new(format_args!("{open} transactions of `{name}` are not final"));
        return Err(failure.with_hint("`chancery tx list` shows them; wait until they are").into());
    }
    let held = runtime.block_on(balance(config, old.address));
    let token = match &old.key {
        KeySource::Token { tokens, .. } => tokens.first().map_or("", String::as_str),
        KeySource::Keystore { .. } => "",
    };
    let row = KeyUse {
        keys: vec![old.address, new.address],
        label: Some(name.to_owned()),
        ..used(token, "rotation-retired")
    };
    put_on_record(context, config, admin, &row);
    let held_text = match &held {
        Ok(wei) if wei.is_zero() => "It holds no ether, says the node.".to_owned(),
        Ok(wei) => format!("It still holds {wei} wei, says the node."),
        Err(why) => format!("Whether it holds ether is not known: {why}."),
    };
    let text = format!(
        "`{name}` ({old}) is retired; `{to}` ({new}) takes its place\n\
         \n\
         {held_text} Tokens, positions and roles were not looked at: do that before the key goes.\n\
         Take the [[account]] `{name}` out of the configuration and of the policy, and restart. The key stays in its token\n\
         until `chancery keys destroy` takes it out; what reaches the old address after that is lost.",
        old = old.address,
        new = new.address,
    );
    let wei = held.ok().map(|wei| wei.to_string());
    context.print(&json!({ "retired": old.address, "to": new.address, "balance_wei": wei }), text)?;
    Ok(Success::Done)
}

/// On all chains together: one that does not say may hold some.
async fn balance(config: &Config, account: Address) -> Result<U256, String> {
    let mut sum = U256::ZERO;
    for chain in &config.chains {
        let upstream = Upstream::new(chain, &Clock::system()).map_err(|error| error.to_string())?;
        let params = serde_json::value::to_raw_value(&json!([account, "latest"]))
            .map_err(|error| error.to_string())?;
        let answer = upstream.forward(None, "eth_getBalance", Some(&params)).await;
        match answer.map_err(|error| format!("chain {}: {error}", chain.id))? {
            Answer::Result(value) => {
                let balance: U256 =
                    serde_json::from_slice(value.bytes()).map_err(|error| error.to_string())?;
                sum = sum.saturating_add(balance);
            }
            Answer::Error(error) => return Err(format!("chain {}: {}", chain.id, error.message)),
        }
    }
    Ok(sum)
}
