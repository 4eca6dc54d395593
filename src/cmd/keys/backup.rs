//! `chancery keys backup`, `restore`, `wrapping-key` and `component`: how a key outlives its token.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::hex;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cmd::admin_client::AdminArgs;
use crate::cmd::keys::record::{put_on_record, used};
use crate::cmd::keys::which::{Which, access_to, account_of, in_environment_of};
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::{Account, Backup as Kind, Config, KeySource, Token};
use crate::ledger::KeyUse;
use crate::secret;
use crate::signer::{self, Component, WrappedKey};

/// Have an account's key outlive its token: the vendor's steps, or a file that only a trusted wrapping key opens
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// The account, by name: its `backup` says how
    account: String,
    /// With `backup = "wrapped"`: the label of the wrapping key in the account's token
    #[arg(long, value_name = "LABEL", requires = "output")]
    wrapping_key: Option<String>,
    /// With `backup = "wrapped"`: the file to write, which must not be there yet
    #[arg(long, short, value_name = "FILE", requires = "wrapping_key")]
    output: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Bring a wrapped key into another token, and prove it there
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// What `keys backup` wrote
    file: PathBuf,
    /// The label of the wrapping key in that token
    #[arg(long, value_name = "LABEL")]
    wrapping_key: String,
    #[command(flatten)]
    token: Which,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Bring a wrapping key into a token, from the components of its custodians, as the token's security officer
#[derive(Debug, clap::Args)]
pub(super) struct WrappingKey {
    #[command(flatten)]
    token: Which,
    /// The label that it gets
    #[arg(long)]
    label: String,
    /// A custodian's file, by `keys component`; give it once for each custodian, two or more
    #[arg(long = "component", value_name = "FILE", required = true)]
    components: Vec<PathBuf>,
    /// The file that holds the PIN of the token's security officer
    #[arg(long, value_name = "FILE")]
    so_pin_file: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Make one custodian's component of a wrapping key: 256 random bits, which say nothing without the others
#[derive(Debug, clap::Args)]
pub(super) struct MakeComponent {
    /// The file to write, which must not be there yet: a medium that the custodian takes along
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Bytes of a file with a wrapped key: 72 are wrapped.
const MAX_FILE: u64 = 64 * 1024;

impl Backup {
    pub(super) fn run(self, context: &Context) -> Done {
        let config = Config::load(context.config())?;
        let account = account_of(&config, &self.account)?;
        let KeySource::Token { tokens, label, .. } = &account.key else {
            let failure = Failure::new(format_args!("account `{}` has a keystore file", account.name));
            return Err(failure.with_hint("copy the file; it is encrypted with its password").into());
        };
        let primary = tokens.first().and_then(|name| config.token(name));
        let token = primary.ok_or_else(|| Failure::new("the account has no token"))?;
        match (account.backup, &self.wrapping_key, &self.output) {
            (Kind::None, ..) => Err(Failure::new(format_args!("account `{}` has `backup = \"none\"`", account.name))
                .with_hint("its key is lost with its token: `keys rotate` moves the account to one that can be backed up")
                .into()),
            (Kind::Vendor, None, _) => vendors(context, account, label, token),
            (Kind::Vendor, Some(_), _) => {
                Err(Failure::new(format_args!("account `{}` has `backup = \"vendor\"`: its key cannot leave", account.name))
                    .with_hint("without --wrapping-key this command lists the vendor's steps")
                    .into())
            }
            (Kind::Wrapped, Some(under), Some(output)) => {
                in_environment_of(token)?;
                let mut file = new_file(output)?;
                let wrapped = signer::wrap(&access_to(&config, token), label, under).hint(
                    "the key was not wrapped",
                    "the wrapping key must be in this token and trusted: `chancery keys wrapping-key`",
                );
                let wrapped = match wrapped {
                    Ok(wrapped) => wrapped,
                    Err(error) => {
                        drop(std::fs::remove_file(output));
                        return Err(error);
                    }
                };
                file.write_all(&serde_json::to_vec_pretty(&wrapped)?)?;
                file.sync_all()?;
                let row = KeyUse {
                    keys: vec![wrapped.address],
                    label: Some(label.clone()),
                    ..used(&token.name, "backed-up")
                };
                put_on_record(context, &config, &self.admin, &row);
                let text = format!(
                    "key `{label}` of {} is in {}, wrapped under `{under}`\nIt is a backup once another token has proved \
                     it:\n\n  chancery keys restore {} --wrapping-key {under} --token …",
                    wrapped.address,
                    output.display(),
                    output.display()
                );
                context.print(&wrapped, text)?;
                Ok(Success::Done)
            }
            (Kind::Wrapped, ..) => Err(Failure::new("under which wrapping key, and into which file?")
                .with_hint("--wrapping-key LABEL --output FILE")
                .into()),
        }
    }
}

/// What PKCS#11 has no call for.
fn vendors(context: &Context, account: &Account, label: &str, token: &Token) -> Done {
    let steps: Vec<String> =
        token.profile.backup.iter().zip(1_u32..).map(|(step, number)| format!("{number}. {step}")).collect();
    let text = format!(
        "key `{label}` of account `{}` cannot leave token {} but by its vendor's means ({}):\n\n{}\n\nThen prove it: make the \
         other token a [[token]], add it to the account's `backups`, and run\n\n  chancery keys drill {}",
        account.name,
        token.name,
        token.profile.product,
        steps.join("\n"),
        account.name,
    );
    let steps = json!({ "account": account.name, "token": token.name, "profile": token.profile.name, "steps": token.profile.backup });
    context.print(&steps, text)?;
    Ok(Success::Done)
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Done {
        let (name, access) = self.token.access(context)?;
        let mut text = String::new();
        File::open(&self.file)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .hint(self.file.display(), "name the file that `keys backup` wrote")?;
        let wrapped: WrappedKey = serde_json::from_str(&text)
            .hint(self.file.display(), "it is no file that `keys backup` wrote, or it was changed")?;
        let trouble = signer::unwrap(&access, &wrapped, &self.wrapping_key).hint(
            "the key was not restored",
            "it wants the same wrapping key that it was wrapped under: compare the check values of both tokens",
        )?;
        if self.token.module.is_none() {
            let config = Config::load(context.config())?;
            let row = KeyUse {
                keys: vec![wrapped.address],
                label: Some(wrapped.label.clone()),
                ..used(&name, "restored")
            };
            put_on_record(context, &config, &self.admin, &row);
        }
        let without = trouble.as_ref().map_or_else(String::new, |why| {
            format!("\nIts public key could not be put beside it ({why}): `keys list` does not show its address, and `keys backup` does not take it")
        });
        let text = format!(
            "key `{}` is in token {name} and signs for {}{without}\nFor the configuration: `backups = [\"{name}\"]` in its \
             [[account]]; then `chancery keys drill`, now and every 90 days",
            wrapped.label, wrapped.address
        );
        let told = json!({ "token": name, "label": wrapped.label, "address": wrapped.address, "no_public_key": trouble });
        context.print(&told, text)?;
        Ok(Success::Done)
    }
}

impl WrappingKey {
    pub(super) fn run(self, context: &Context) -> Done {
        let (name, access) = self.token.access(context)?;
        if self.components.len() < 2 {
            return Err(Failure::new("one component alone is the whole key")
                .with_hint("two custodians or more: --component once for each")
                .into());
        }
        let parts = self.components.iter().map(|file| component(file)).collect::<anyhow::Result<Vec<_>>>()?;
        if parts.iter().enumerate().any(|(at, part)| parts.iter().take(at).any(|other| other == part)) {
            return Err(Failure::new("two components are the same, and cancel each other")
                .with_hint("each custodian makes one: `chancery keys component`")
                .into());
        }
        let key = signer::combined(&parts);
        let so_pin = secret::read_file(&self.so_pin_file)
            .hint(self.so_pin_file.display(), "the PIN of the token's security officer, alone in a file")?;
        signer::import_wrapping_key(&access, &self.label, &key, &so_pin).hint(
            "the wrapping key was not made",
            "the PIN of the security officer was tried once; most tokens lock themselves after a few",
        )?;
        let check = signer::check_value(&key);
        if self.token.module.is_none() {
            let config = Config::load(context.config())?;
            let row = KeyUse { label: Some(self.label.clone()), ..used(&name, "wrapping-key-made") };
            put_on_record(context, &config, &self.admin, &row);
        }
        let text = format!(
            "wrapping key `{}` is in token {name}, trusted, check value {check}\nThe other token must show the same check value",
            self.label
        );
        context.print(&json!({ "token": name, "label": self.label, "check_value": check }), text)?;
        Ok(Success::Done)
    }
}

impl MakeComponent {
    pub(super) fn run(self, context: &Context) -> Done {
        let mut part = Component::default();
        getrandom::fill(part.as_mut_slice())
            .map_err(|error| Failure::new(format_args!("no random bytes: {error}")))?;
        let mut file = new_file(&self.output)?;
        let text = Zeroizing::new(format!("{}\n", hex::encode(part.as_slice())));
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let check = signer::check_value(&part);
        let text = format!(
            "{} holds a component, check value {check}: note it, and show the file to nobody",
            self.output.display()
        );
        context.print(&json!({ "file": self.output, "check_value": check }), text)?;
        Ok(Success::Done)
    }
}

fn component(file: &Path) -> anyhow::Result<Component> {
    use secrecy::ExposeSecret as _;
    let hint = "a component is 64 hexadecimal digits: `chancery keys component` makes one";
    let text = secret::read_file(file).hint(file.display(), hint)?;
    let mut part = Component::default();
    hex::decode_to_slice(text.expose_secret(), part.as_mut_slice())
        .map_err(|_| Failure::new(format_args!("{} holds no component", file.display())).with_hint(hint))?;
    Ok(part)
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .hint(path.display(), "name a file that is not there yet")
}
