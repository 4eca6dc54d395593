//! What each worker is told: a token with its keys, or all keystore files together.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::{Account, Config, KeySource, PinSource};
use crate::signer::latch;
use crate::signer::protocol::{KeySetting, SandboxSetting, Settings, SourceSetting};

/// The worker that holds software keys.
const SOFTWARE: &str = "software";

/// How long a worker may take to load its module, log in and prove its keys: as long as several calls may.
const START_CALLS: u32 = 3;
const SHORTEST_START: Duration = Duration::from_secs(2);

/// To decrypt files of keys takes long by intention.
const DECRYPTION: Duration = Duration::from_secs(20);

/// What it takes to end beside a login.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Settings {
    /// How long a call into the module may take.
    pub(super) const fn hang_limit(&self) -> Duration {
        Duration::from_millis(self.hang_limit_ms)
    }

    /// How long a worker may take until it is ready, and so its first login.
    pub(super) fn start_limit(&self) -> Duration {
        match &self.source {
            SourceSetting::Token { .. } => self.hang_limit().saturating_mul(START_CALLS).max(SHORTEST_START),
            SourceSetting::Keystores { .. } => DECRYPTION,
        }
    }

    /// How long a worker may take to end by itself: a login that it has begun is finished.
    pub(super) fn end_limit(&self) -> Duration {
        self.start_limit().saturating_add(A_MOMENT)
    }
}

/// One for each token, and one for software keys where there are any.
pub(super) fn settings_of(config: &Config, state: &Path) -> Vec<Settings> {
    let keys = |wanted: &dyn Fn(&Account) -> Option<String>| -> Vec<KeySetting> {
        let ours = config.accounts.iter().filter_map(|account| Some((wanted(account)?, account)));
        let setting = |((label, account), number): ((String, &Account), u16)| KeySetting {
            number,
            label,
            address: account.address,
            backup: Some(account.backup),
        };
        ours.zip(0..).map(setting).collect()
    };
    let tokens = config.tokens.iter().map(|token| Settings {
        name: token.name.clone(),
        keys: keys(&|account| match &account.key {
            KeySource::Token { tokens, label, .. } if tokens.contains(&token.name) => Some(label.clone()),
            _ => None,
        }),
        source: SourceSetting::Token {
            module: token.module.clone(),
            label: token.label.clone(),
            serial: token.serial.clone(),
            pin_file: match &token.pin {
                PinSource::File(file) => Some(file.clone()),
                PinSource::Descriptor(_) | PinSource::Credential { .. } => None,
            },
            pin_form: token.profile.pin_form,
            latch: latch::path(state, &token.name),
            sessions: token.sessions,
        },
        environment: token.environment.clone(),
        sandbox: token.sandbox.as_ref().map(|sandbox| SandboxSetting {
            network: sandbox.network,
            read: Vec::new(),
            write: sandbox.files.clone(),
        }),
        hang_limit_ms: u64::try_from(config.signer.deadline.as_millis()).unwrap_or(u64::MAX),
        max_stuck: config.signer.max_stuck,
    });
    let mut all: Vec<Settings> = tokens.collect();
    let files: Vec<_> = config
        .accounts
        .iter()
        .filter_map(|account| match &account.key {
            KeySource::Keystore { file, password_file } => Some((file.clone(), password_file.clone())),
            KeySource::Token { .. } => None,
        })
        .collect();
    if !files.is_empty() {
        tracing::warn!(
            accounts = files.len(),
            "SOFTWARE KEYS: these accounts' keys are in files, not in a token; for laptops only"
        );
        all.push(Settings {
            name: SOFTWARE.to_owned(),
            keys: keys(&|account| {
                matches!(account.key, KeySource::Keystore { .. }).then(|| account.name.clone())
            }),
            sandbox: Some(SandboxSetting {
                network: false,
                read: files.iter().flat_map(|(key, password)| [key.clone(), password.clone()]).collect(),
                write: Vec::new(),
            }),
            source: SourceSetting::Keystores { files },
            environment: BTreeMap::new(),
            hang_limit_ms: u64::try_from(config.signer.deadline.as_millis()).unwrap_or(u64::MAX),
            max_stuck: config.signer.max_stuck,
        });
    }
    all
}

/// The tokens of an account by name, the primary first.
pub(super) fn tokens_of(account: &Account) -> Vec<String> {
    match &account.key {
        KeySource::Token { tokens, .. } => tokens.clone(),
        KeySource::Keystore { .. } => vec![SOFTWARE.to_owned()],
    }
}
