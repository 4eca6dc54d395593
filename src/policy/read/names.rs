//! What a policy file can call by name: contracts, accounts, clients, and ids that stand once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::Address;

use crate::config::{Client, is_name};
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
            file.wrong(
                &id.span(),
                format_args!("the id `{}` stands there twice: give one of them another", id.get_ref()),
            );
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
            format!("the label `{name}` stands there twice: give one of them another")
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

    /// An address with the name it has here.
    pub fn name(&self, chain: Option<u64>, at: Address) -> String {
        match self.contracts_at(chain, at).next() {
            Some(contract) => self.book.name(contract.chain, at),
            None => self.book.account(at),
        }
    }

    /// The contracts of `[contracts]` at an address: without a chain, those of all.
    pub fn contracts_at(&self, chain: Option<u64>, at: Address) -> impl Iterator<Item = &Arc<Contract>> {
        self.book.at(chain, at)
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

#[cfg(test)]
mod tests {
    use crate::policy::load::Source;
    use crate::policy::tests::{USDC, built_in_only, world};
    use crate::policy::{Policy, World};

    const OP_USDC: &str = "0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85";

    fn world_of(chains: &[u64]) -> World {
        World { chains: chains.to_vec(), ..world() }
    }

    fn with(text: &str) -> Result<Policy, String> {
        let source = Source { name: "p.toml".to_owned(), path: "p.toml".into(), text: text.to_owned() };
        Policy::of_sources(&[source], &world_of(&[1, 10]), built_in_only).map_err(|e| e.to_string())
    }

    #[test]
    fn what_names_no_chain_is_looked_for_on_all() {
        let contract = |label: &str, chain: u64, at: &str, more: &str| {
            format!("{label} = {{ chain = {chain}, address = \"{at}\"{more} }}\n")
        };
        let token = ", abi = \"erc20\", decimals = 6, symbol = \"USDC\"";
        let rules = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"TO\"]\ncall = \"transfer\"\n\
                     args = { amount = { min = \"5 USDC\" } }\n\
                     [[rate]]\nid = \"r\"\nmax = 5\nwindow = \"1m\"\nmatch = { kind = \"transaction\", to = [\"TO\"], call = \"transfer\" }\n";
        let second = with(&format!(
            "[contracts]\n{}{}",
            contract("op", 10, OP_USDC, token),
            rules.replace("TO", "op")
        ));
        assert!(second.is_ok(), "{second:?}");
        // One address on both chains: the function, and the unit, must be the same.
        let both = |more: &str, rules: &str| {
            let contracts = contract("here", 1, USDC, token) + &contract("there", 10, USDC, more);
            with(&format!("[contracts]\n{contracts}{}", rules.replace("TO", "here")))
        };
        assert!(both(token, rules).is_ok());
        let pool = ", abi = \"aave-v3-pool\"";
        for (more, why) in [
            (token.replace("USDC", "DAI").as_str(), "needs its token pinned"),
            (pool, "it has no function `transfer`"),
            (", abi = \"weth\"", "is not the same in"),
        ] {
            let error = both(more, rules).unwrap_err();
            assert!(error.contains(why), "{more}: {error}");
        }
        let (deny, _) = rules.split_once("[[rate]]").unwrap();
        assert!(both(pool, &deny.replace("to = ", "chain = 1\nto = ")).is_ok(), "a chain is named");
    }

    #[test]
    fn a_manifest_is_of_all_chains() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.toml"), "").unwrap();
        let text = Policy::manifest(folder.path(), &world_of(&[10, 1]), 1).unwrap().text();
        assert!(text.starts_with("chancery policy manifest 1\nchain 1 10\nserial 1"), "{text}");
    }

    #[test]
    fn warnings_speak_of_the_contract_on_the_rules_chain() {
        let text = format!(
            "[contracts]\nhere = {{ chain = 1, address = \"{USDC}\" }}\n\
             there = {{ chain = 10, address = \"{USDC}\", abi = \"erc20\", decimals = 6, symbol = \"USDC\" }}\n\
             [[rule]]\nid = \"pay\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 10\nclients = [\"ann\"]\nfrom = [\"treasury\"]\n\
             to = [\"there\"]\ncall = \"transfer\"\nargs = {{ to = \"$from\" }}\n"
        );
        let warnings = with(&text).unwrap().warnings(&world_of(&[1, 10]));
        assert!(warnings.iter().any(|one| one.what.contains("`args.amount` has no max")), "{warnings:?}");
    }
}
