//! A policy as the ledger keeps it: one text of all that it was read from, written when it comes into force, and read back by
//! whoever asks what was in force then. Each part is preceded by its length, so that no text of one can pass for another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use alloy_primitives::{Address, keccak256};

use crate::config::{Client, ConfigError, OWN_ISSUER};
use crate::policy::abi::Abi;
use crate::policy::decide::Policy;
use crate::policy::error::PolicyError;
use crate::policy::load::{Beside, Source};
use crate::policy::manifest::Manifest;
use crate::policy::registry::built_in;
use crate::policy::world::World;
use crate::policy::written;

const FIRST: &str = "chancery policy 1\n";

/// What a decision depends on besides the caller: chains, accounts, files, ABIs, lists.
pub(super) fn write(
    sources: &[Source],
    world: &World,
    abis: &BTreeMap<String, String>,
    lists: &BTreeMap<String, String>,
) -> String {
    let mut text = FIRST.to_owned();
    // Writing to a string does not fail.
    let mut put = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap_or_default();
    for chain in &world.chains {
        put(format_args!("chain {chain}\n"));
    }
    for (name, address) in &world.accounts {
        put(format_args!("account {name} {address}\n"));
    }
    for source in sources {
        put(format_args!("file {} {}\n{}\n", source.text.len(), source.name, source.text));
    }
    for (name, json) in abis {
        put(format_args!("abi {} {name}\n{json}\n", json.len()));
    }
    for (name, list) in lists {
        put(format_args!("list {} {name}\n{list}\n", list.len()));
    }
    text
}

/// The manifest that officers signed, as the last part of such a text.
pub(super) fn write_manifest(text: &mut String, manifest: &str) {
    write!(text, "manifest {}\n{manifest}\n", manifest.len()).unwrap_or_default();
}

/// The parts of such a text.
#[derive(Default)]
struct Parts<'t> {
    chains: Vec<u64>,
    accounts: BTreeMap<String, Address>,
    files: Vec<(&'t str, &'t str)>,
    abis: BTreeMap<&'t str, &'t str>,
    lists: BTreeMap<&'t str, &'t str>,
    manifest: Option<&'t str>,
}

impl Policy {
    /// The policy that was kept as this text, and the world that it was read against. Of clients nothing is kept, so they are those
    /// of today; one that it names and that is no more is a client without accounts.
    pub fn archived(text: &str, clients: &[Client]) -> Result<(Self, World), PolicyError> {
        let parts = parse(text).ok_or_else(|| {
            let what = "the text is none that a policy is kept as; another version may have written it";
            PolicyError::from(ConfigError::new(Path::new("archive"), what))
        })?;
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).to_owned(),
            path: (*name).into(),
            text: (*text).to_owned(),
        };
        let sources: Vec<_> = parts.files.iter().map(source).collect();
        let mut clients = clients.to_vec();
        let is_known =
            |name: &String| clients.iter().any(|one| one.name == *name || one.role.as_ref() == Some(name));
        let gone: Vec<_> = named(&sources).into_iter().filter(|name| !is_known(name)).collect();
        clients.extend(gone.into_iter().map(nobody));
        let world = World { chains: parts.chains, accounts: parts.accounts, clients };
        let beside = |beside: Beside<'_>| match beside {
            Beside::Abi(name) => {
                parts.abis.get(name).map(|json| abi(name, json)).ok_or("it is not in the archive")
            }
            Beside::List(name) => {
                parts.lists.get(name).map(|list| (*list).to_owned()).ok_or("it is not in the archive")
            }
        };
        let read = Self::of_sources(&sources, &world, |wanted| beside(wanted).map_err(str::to_owned))?;
        let serial = parts.manifest.and_then(Manifest::serial_of);
        let policy = Self { hash: keccak256(text.as_bytes()), text: text.to_owned(), serial, ..read };
        Ok((policy, world))
    }
}

fn parse(text: &str) -> Option<Parts<'_>> {
    let mut rest = text.strip_prefix(FIRST)?;
    let mut parts = Parts::default();
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n')?;
        let (what, said) = line.split_once(' ')?;
        rest = match what {
            "chain" => {
                parts.chains.push(said.parse().ok()?);
                after
            }
            "account" => {
                let (name, address) = said.rsplit_once(' ')?;
                parts.accounts.insert(name.to_owned(), address.parse().ok()?);
                after
            }
            kind => {
                let (length, name) = said.split_once(' ').unwrap_or((said, ""));
                let (part, after) = after.split_at_checked(length.parse().ok()?)?;
                match kind {
                    "file" => parts.files.push((name, part)),
                    "abi" => drop(parts.abis.insert(name, part)),
                    "list" => drop(parts.lists.insert(name, part)),
                    "manifest" => parts.manifest = Some(part),
                    _ => return None,
                }
                after.strip_prefix('\n')?
            }
        };
    }
    Some(parts)
}

/// The ABI as it was. What the calls of one that is built in move is not kept: where it is still the same, it is known.
fn abi(name: &str, json: &str) -> String {
    let is_same = |text: &&str| Abi::parse(text).is_ok_and(|abi| abi.json() == json);
    built_in(name).filter(is_same).unwrap_or(json).to_owned()
}

/// The clients and roles that files name.
fn named(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        // What is no policy is a mistake when it is read as one.
        let Ok(written) = toml::from_str::<written::File>(&source.text) else { continue };
        let of_rules = written.rule.iter().filter_map(|rule| rule.clients.as_ref());
        let rates = written.rate.iter().filter_map(|rate| rate.r#match.as_ref());
        let budgets = written.budget.iter().filter_map(|budget| budget.r#match.as_ref());
        let of_matches = rates.chain(budgets).filter_map(|matchers| matchers.clients.as_ref());
        names.extend(
            of_rules.chain(of_matches).flat_map(toml::Spanned::get_ref).map(|name| name.get_ref().clone()),
        );
    }
    names.remove("any");
    names
}

fn nobody(name: String) -> Client {
    Client {
        name,
        identity: String::new(),
        issuer: OWN_ISSUER.to_owned(),
        role: None,
        person: None,
        accounts: Vec::new(),
        repeat_window: None,
        origins: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{ALICE, CONTRACTS, PAY, TREASURY, policy_of, world};

    const MORE: &str = r#"
[contracts]
vault  = { chain = 1, address = "0x90F79bf6EB2c4f870365E785982E1f101E93b906", abi = "erc4626", underlying = "usdc" }
router = { chain = 1, address = "0x66a9893cC07D91D95644AEDD05D03f95e1dBA8Af", abi = "universal-router" }

[[budget]]
id     = "day"
asset  = "usdc"
max    = "5 USDC"
window = "24h"
match  = { clients = ["trader"] }
"#;

    #[test]
    fn inv_14_what_is_kept_is_read_back_as_the_same_policy() {
        let before = policy_of(&[("a.toml", &format!("{CONTRACTS}{PAY}")), ("b.toml", MORE)]).unwrap();
        let (after, of) = Policy::archived(before.text(), &world().clients).unwrap();
        assert_eq!((after.hash(), after.text(), after.size()), (before.hash(), before.text(), before.size()));
        assert_eq!((of.chains, of.accounts), (world().chains, world().accounts));
        assert_eq!(after.describe(&world()), {
            let told = before.describe(&world());
            // Files are named by their path from the folder.
            crate::policy::Description {
                rules: told
                    .rules
                    .into_iter()
                    .map(|one| crate::policy::Sentence { file: "a.toml".to_owned(), ..one })
                    .collect(),
                ..told
            }
        });
        let limit = |policy: &Policy| policy.limits().next().map(|limit| limit.definition);
        assert_eq!(limit(&after), limit(&before), "what calls move is known of what is built in");
    }

    #[test]
    fn who_is_no_client_any_more_has_no_account_in_what_was() {
        let before = policy_of(&[("a.toml", &format!("{CONTRACTS}{PAY}"))]).unwrap();
        let (after, of) = Policy::archived(before.text(), &[]).unwrap();
        assert_eq!(of.clients.iter().map(|client| client.name.as_str()).collect::<Vec<_>>(), ["trader"]);
        let told = after.describe(&of);
        assert!(told.rules[0].text.starts_with("trader may call transfer("), "{:?}", told.rules);
        assert!(told.matrix.is_empty());
        // Those who are still there are who they are: by their name, and by their role.
        let text = PAY.replace("[\"trader\"]", "[\"trader\", \"ben\"]");
        let before = policy_of(&[("a.toml", &format!("{CONTRACTS}{text}"))]).unwrap();
        let clients = |known: &[Client]| {
            let (_, of) = Policy::archived(before.text(), known).unwrap();
            of.clients.into_iter().map(|client| client.name).collect::<Vec<_>>()
        };
        let all = world().clients;
        assert_eq!(clients(&all), ["ann", "ben"]);
        assert_eq!(clients(&all[..1]), ["ann", "ben"]);
        assert_eq!(clients(&all[1..]), ["ben", "trader"]);
    }

    #[test]
    fn files_lists_and_the_manifest_are_kept_as_they_are() {
        let abi = r#"[{"type":"function","name":"f","inputs":[],"outputs":[],"stateMutability":"view"}]"#;
        let list = format!("{ALICE}\n");
        let hash = alloy_primitives::hex::encode(<sha2::Sha256 as sha2::Digest>::digest(list.as_bytes()));
        let text = format!(
            "[lists]\npayees = {{ file = \"payees.txt\", sha256 = \"{hash}\" }}\n[contracts]\nthing = {{ chain = 1, address = \"{ALICE}\", abi = \"f.json\" }}\n\
             [[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"@payees\"]\ncall = \"f()\"\n"
        );
        let source = Source { name: "a.toml".to_owned(), path: "a.toml".into(), text };
        let before = Policy::of_sources(&[source], &world(), |beside| match beside {
            Beside::Abi(_) => Ok(abi.to_owned()),
            Beside::List(_) => Ok(list.clone()),
        })
        .unwrap();
        let mut kept = before.text().to_owned();
        write_manifest(&mut kept, "chancery policy manifest 1\nchain 1\nserial 7");
        let (after, _) = Policy::archived(&kept, &world().clients).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((after.serial(), after.text(), after.hash()), (Some(7), kept.as_str(), keccak256(&kept)));
        assert_eq!(after.describe(&world()).rules, before.describe(&world()).rules);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let kept = policy_of(&[("a.toml", PAY.trim())]).err();
        assert!(kept.is_some(), "its contracts are missing");
        let good = policy_of(&[("a.toml", CONTRACTS)]).unwrap().text().to_owned();
        assert!(Policy::archived(&good, &[]).is_ok());
        for (right, wrong) in [
            ("policy 1\n", "policy 2\n"),
            ("chain 1\n", "chain one\n"),
            (TREASURY, "0x12"),
            ("file ", "folder "),
            ("file ", "file 9"),
            ("abi ", "abi x"),
        ] {
            assert!(good.contains(right), "{right}");
            let error = Policy::archived(&good.replacen(right, wrong, 1), &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("archive: the text is none that a policy is kept as"),
                "{wrong}: {error}"
            );
        }
        assert!(Policy::archived(good.trim_end(), &[]).is_err() && Policy::archived("", &[]).is_err());
    }
}
