//! The names that a policy is read against: from the command line, from a file, or from the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use serde::Deserialize;

use crate::cmd::{Context, Failure, HintExt as _};
use crate::config::{Client, Config};
use crate::policy::World;
use crate::transaction::address;

/// Chain, accounts and clients, where they are not to be read from the configuration.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WorldFlags {
    /// A TOML file with a [world] table, such as a file of test cases
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// The chain id
    #[arg(long, value_name = "ID")]
    chain: Option<u64>,
    /// An account that has a key; may be repeated
    #[arg(long, value_name = "NAME=ADDRESS")]
    account: Vec<String>,
    /// A client that may use every account; may be repeated
    #[arg(long = "with-client", value_name = "NAME[:ROLE]")]
    with_client: Vec<String>,
}

/// A `[world]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenWorld {
    pub chain: u64,
    #[serde(default)]
    pub other_chains: Vec<u64>,
    #[serde(default)]
    pub accounts: BTreeMap<String, String>,
    #[serde(default)]
    pub clients: Vec<WrittenClient>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenClient {
    name: String,
    role: Option<String>,
    /// Omitted: all.
    accounts: Option<Vec<String>>,
}

impl WorldFlags {
    /// Whether the command line says anything of it.
    fn is_given(&self) -> bool {
        self.world.is_some()
            || self.chain.is_some()
            || !self.account.is_empty()
            || !self.with_client.is_empty()
    }

    /// The world, and the policy folder of the configuration if that was read: flags, else `[world]` of the
    /// case file, else the configuration.
    pub fn read(
        &self,
        context: &Context,
        of_file: Option<&WrittenWorld>,
    ) -> anyhow::Result<(World, Option<PathBuf>)> {
        if self.is_given() {
            return Ok((self.meant()?, None));
        }
        if let Some(written) = of_file {
            return Ok((written.meant()?, None));
        }
        let config = Config::load(context.config()).hint(
            "the configuration says which accounts and clients there are, and cannot be read",
            "name another by --config, or say it by --world FILE, or by --chain, --account and --with-client",
        )?;
        Ok((World::new(&config), Some(config.policies)))
    }

    fn meant(&self) -> anyhow::Result<World> {
        let mut written = match &self.world {
            Some(file) => read_world(file)?,
            None => WrittenWorld { chain: 1, ..WrittenWorld::default() },
        };
        if let Some(chain) = self.chain {
            written.chain = chain;
        }
        for account in &self.account {
            let (name, address) = account
                .split_once('=')
                .ok_or_else(|| Failure::new(format_args!("`{account}`: write --account NAME=ADDRESS")))?;
            written.accounts.insert(name.to_owned(), address.to_owned());
        }
        for client in &self.with_client {
            let (name, role) = client.split_once(':').map_or((client.as_str(), None), |(n, r)| (n, Some(r)));
            written.clients.push(WrittenClient {
                name: name.to_owned(),
                role: role.map(str::to_owned),
                accounts: None,
            });
        }
        written.meant()
    }
}

impl WrittenWorld {
    fn meant(&self) -> anyhow::Result<World> {
        let mut accounts = BTreeMap::<String, Address>::new();
        for (name, text) in &self.accounts {
            let address = address(text).map_err(|e| Failure::new(format_args!("account `{name}` {e}")))?;
            accounts.insert(name.clone(), address);
        }
        let clients = self.clients.iter().map(|client| {
            let named = match &client.accounts {
                None => accounts.values().copied().collect(),
                Some(names) => names
                    .iter()
                    .map(|name| {
                        accounts.get(name).copied().ok_or_else(|| {
                            Failure::new(format_args!(
                                "client `{}`: there is no account named `{name}`",
                                client.name
                            ))
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?,
            };
            Ok(Client {
                name: client.name.clone(),
                identity: client.name.clone(),
                issuer: crate::config::OWN_ISSUER.to_owned(),
                role: client.role.clone(),
                person: None,
                accounts: named,
                origins: Vec::new(),
                repeat_window: None,
            })
        });
        let clients = clients.collect::<Result<_, Failure>>()?;
        let chains = std::iter::once(self.chain).chain(self.other_chains.iter().copied()).collect();
        Ok(World { chains, accounts, clients })
    }
}

/// The policy folder: the one that was named, the configuration's, or `policies`.
pub(super) fn folder(named: Option<&Path>, configured: Option<PathBuf>) -> PathBuf {
    named.map(Path::to_owned).or(configured).unwrap_or_else(|| PathBuf::from("policies"))
}

/// The `[world]` of a file, whatever else stands in it.
fn read_world(file: &Path) -> anyhow::Result<WrittenWorld> {
    #[derive(Deserialize)]
    struct Only {
        world: WrittenWorld,
    }
    let text =
        std::fs::read_to_string(file).map_err(|e| Failure::new(format_args!("{}: {e}", file.display())))?;
    let only: Only = toml::from_str(&text)
        .map_err(|e| crate::config::ConfigError::of_toml(file, &text, &e))
        .hint("no [world] could be read", "write [world] with chain, accounts and clients")?;
    Ok(only.world)
}
