//! Which token a verb is about, and how to get into it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cmd::{Context, Failure};
use crate::config::{Account, Config, Profile, Token};
use crate::signer::{self, TokenAccess};

/// Which token: one of the configuration, or one that is described here.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The token's name in the configuration; not needed where there is one only
    #[arg(long, conflicts_with = "module")]
    token: Option<String>,
    /// The PKCS#11 module, where there is no configuration yet
    #[arg(long, requires = "token_label", requires = "pin_file")]
    pub(super) module: Option<PathBuf>,
    /// With --module: the token's label
    #[arg(long, requires = "module")]
    token_label: Option<String>,
    /// With --module: the file that holds the PIN
    #[arg(long, requires = "module")]
    pin_file: Option<PathBuf>,
    /// With --module: whose token it is, by the name of its profile, such as `luna`
    #[arg(long, requires = "module")]
    profile: Option<String>,
}

impl Which {
    /// Whether any was named.
    pub(super) const fn is_given(&self) -> bool {
        self.token.is_some() || self.module.is_some()
    }

    /// Its name, and how to get in.
    pub(super) fn access(&self, context: &Context) -> anyhow::Result<(String, TokenAccess)> {
        if let (Some(module), Some(label), Some(pin_file)) = (&self.module, &self.token_label, &self.pin_file)
        {
            let access = TokenAccess {
                module: module.clone(),
                label: label.clone(),
                serial: None,
                pin_file: pin_file.clone(),
                profile: self.profile()?,
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
        Ok((token.name.clone(), access_to(&config, token)))
    }

    fn profile(&self) -> anyhow::Result<&'static Profile> {
        let Some(name) = &self.profile else { return Ok(Profile::generic()) };
        Profile::named(name).ok_or_else(|| {
            let known: Vec<&str> = Profile::all().iter().map(|profile| profile.name.as_str()).collect();
            let failure = Failure::new(format_args!("there is no profile `{name}`"));
            failure.with_hint(format_args!("--profile, one of: {}", known.join(", "))).into()
        })
    }
}

/// An account by its name.
pub(super) fn account_of<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a Account> {
    config.accounts.iter().find(|account| account.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.accounts.iter().map(|account| account.name.as_str()).collect();
        let failure = Failure::new(format_args!("there is no [[account]] named `{name}`"));
        failure.with_hint(format_args!("there are: {}", names.join(", "))).into()
    })
}

/// How to get into a token of the configuration.
pub(super) fn access_to(config: &Config, token: &Token) -> TokenAccess {
    TokenAccess {
        module: token.module.clone(),
        label: token.label.clone(),
        serial: token.serial.clone(),
        pin_file: token.pin.path(),
        profile: token.profile,
        latch: Some(signer::latch_path(state_of(config), &token.name)),
    }
}

/// A module reads its settings from the environment when it is loaded. Where the configuration sets some for the
/// worker, this verb starts anew with them.
pub(super) fn in_environment_of(token: &Token) -> anyhow::Result<()> {
    let is_set = |(name, value): (&String, &String)| std::env::var_os(name).is_some_and(|set| set == **value);
    if token.environment.iter().all(is_set) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    let error = again.args(std::env::args_os().skip(1)).envs(&token.environment).exec();
    Err(Failure::new(format_args!("the token's environment cannot be set: {error}")).into())
}

/// Where the ledger is, and the latches beside it.
pub(super) fn state_of(config: &Config) -> &Path {
    config.ledger.path.parent().unwrap_or(Path::new("."))
}
