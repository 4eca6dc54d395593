//! What a policy file can call by name: contracts, accounts, clients, and ids that stand once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::Address;

use crate::config::Client;
use crate::policy::facts::{Book, Contract};
use crate::policy::read::File;
use crate::policy::world::World;
use crate::policy::wrapper::Wrappers;
use crate::policy::written::Text;
use crate::transaction::address;

/// Words with a meaning of their own.
const RESERVED: &[&str] = &["any", "create", "created", "empty", "from", "client", "now", "none"];

pub(super) struct Names<'a> {
    pub world: &'a World,
    pub wrappers: Wrappers,
    /// Where each label is, before its contract is read.
    pub written: BTreeMap<String, (u64, Address)>,
    pub contracts: BTreeMap<String, Arc<Contract>>,
    pub book: Book,
    pub abis: BTreeMap<String, String>,
    pub lists: BTreeMap<String, Vec<Address>>,
    /// The texts of their files, by path.
    pub list_files: BTreeMap<String, String>,
    ids: BTreeSet<String>,
}

impl<'a> Names<'a> {
    pub fn new(world: &'a World) -> Self {
        let accounts = world.accounts.iter().map(|(name, address)| (*address, name.clone())).collect();
        let role = |client: &Client| Some((client.name.clone(), client.role.clone()?));
        let roles = world.clients.iter().filter_map(role).collect();
        Self {
            world,
            wrappers: Wrappers::known(),
            written: BTreeMap::new(),
            contracts: BTreeMap::new(),
            book: Book { accounts, roles, ..Book::default() },
            abis: BTreeMap::new(),
            lists: BTreeMap::new(),
            list_files: BTreeMap::new(),
            ids: BTreeSet::new(),
        }
    }

    pub fn into_book(self) -> Book {
        self.book
    }

    /// An id of a rule or a rate.
    pub fn id(&mut self, file: &mut File<'_>, id: &Text) -> Option<String> {
        if !is_name(id.get_ref()) {
            file.wrong(&id.span(), "an id has 1 to 64 letters, digits, `-`, `_` or `.`");
            return None;
        }
        if !self.ids.insert(id.get_ref().clone()) {
            file.wrong(&id.span(), format_args!("the id `{}` stands there twice", id.get_ref()));
            return None;
        }
        Some(id.get_ref().clone())
    }

    /// A name for a contract, which nothing else has.
    pub fn label(&mut self, file: &mut File<'_>, label: &Text) -> bool {
        let name = label.get_ref().as_str();
        let wrong = if !is_name(name) {
            "a label has 1 to 64 letters, digits, `-`, `_` or `.`".to_owned()
        } else if RESERVED.contains(&name) || name.starts_with("0x") {
            format!("`{name}` has a meaning of its own in rules; choose another label")
        } else if self.contracts.contains_key(name) {
            format!("the label `{name}` stands there twice")
        } else if self.world.accounts.contains_key(name) {
            format!("`{name}` is the name of an account; choose another label")
        } else {
            return true;
        };
        file.wrong(&label.span(), wrong);
        false
    }

    /// The contract that a label, read or not, or an address means on a chain.
    pub fn written_at(&self, text: &str, chain: u64) -> Result<Address, String> {
        match self.written.get(text) {
            Some((of, _)) if *of != chain => {
                Err(format!("`{text}` is on chain {of}, this contract on chain {chain}"))
            }
            Some((_, address)) => Ok(*address),
            None if text.starts_with("0x") => checksummed(text),
            None => Err(format!("there is no contract named `{text}`")),
        }
    }

    /// The addresses that a label, an account's name, an address or a list (`@name`) means on a chain.
    pub fn find_all(&self, text: &str, chain: Option<u64>) -> Result<Vec<Address>, String> {
        let Some(list) = text.strip_prefix('@') else { return self.find(text, chain).map(|one| vec![one]) };
        let none = || format!("there is no list named `{list}` in [lists]");
        self.lists.get(list).cloned().ok_or_else(none)
    }

    fn find(&self, text: &str, chain: Option<u64>) -> Result<Address, String> {
        if let Some(contract) = self.contracts.get(text) {
            return match chain {
                Some(chain) if chain != contract.chain => {
                    Err(format!("`{text}` is on chain {}, the rule is for chain {chain}", contract.chain))
                }
                _ => Ok(contract.address),
            };
        }
        if let Some(account) = self.world.accounts.get(text) {
            return Ok(*account);
        }
        if text.starts_with("0x") {
            return checksummed(text);
        }
        if text.starts_with('$') {
            return Err(format!("`{text}` is not read here by this version"));
        }
        let known = self.contracts.keys().chain(self.world.accounts.keys());
        let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(format!("there is no contract or account named `{text}`; known are {known}"))
    }

    /// The contract of `[contracts]` at an address; without a chain, on the one we are configured for.
    pub fn contract(&self, chain: Option<u64>, at: Address) -> Option<&Arc<Contract>> {
        self.book.contracts.get(&(chain.unwrap_or(self.world.chain), at))
    }
}

/// An address that was written with its EIP-55 checksum, so that a slip of the hand shows.
pub(super) fn checksummed(text: &str) -> Result<Address, String> {
    let address = address(text).map_err(|e| format!("`{text}` {e}"))?;
    let written = address.to_checksum(None);
    if text == written {
        Ok(address)
    } else {
        Err(format!("`{text}` has no EIP-55 checksum; compare it with its source, then write {written}"))
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}
