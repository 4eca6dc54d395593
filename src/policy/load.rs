//! From a folder to a policy: which files are read, and the one text that they are archived as.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use alloy_primitives::{hex, keccak256};
use sha2::{Digest as _, Sha256};

use crate::config::{ConfigError, Officers};
use crate::policy::archived;
use crate::policy::decide::Policy;
use crate::policy::error::PolicyError;
use crate::policy::include::Files;
use crate::policy::manifest::{MANIFEST, Manifest, SIGNATURES};
use crate::policy::read;
use crate::policy::registry::{self, built_in};
use crate::policy::world::World;

pub(super) const MAX_FILES: usize = 256;
pub(super) const MAX_FILE: u64 = 1024 * 1024;
/// Artifacts carry bytecode and metadata, which is left out when they are archived.
const MAX_ABI: u64 = 8 * 1024 * 1024;

/// A file of the folder.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Source {
    /// As the archive names it: its path from the folder.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// What policy files name that stands beside them.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Beside<'a> {
    /// An ABI, by its name or path.
    Abi(&'a str),
    /// A list of addresses, by its path.
    List(&'a str),
}

impl Policy {
    /// Reads every `*.toml` of the folder, and what they include, as one policy; folders in it are not looked at.
    pub fn load(directory: &Path, world: &World) -> Result<Self, PolicyError> {
        read_folder(directory, world, None).map(|(policy, _)| policy)
    }

    /// The same, as if these rules stood in a file of their own.
    pub fn load_with(directory: &Path, world: &World, rules: &str) -> Result<Self, PolicyError> {
        let (name, text) = ("suggested".to_owned(), rules.to_owned());
        let more = Source { path: directory.join(&name), name, text };
        read_folder(directory, world, Some(more)).map(|(policy, _)| policy)
    }

    /// The same, where so many officers must have signed it.
    pub fn load_signed(directory: &Path, world: &World, officers: &Officers) -> Result<Self, PolicyError> {
        let (mut policy, files) = read_folder(directory, world, None)?;
        if officers.required > 0 {
            let manifest =
                Manifest::signed(directory, (world.chains.iter().copied().collect(), files), officers)?;
            policy.serial = Some(manifest.serial);
            policy.files.extend([MANIFEST, SIGNATURES].map(PathBuf::from));
            archived::write_manifest(&mut policy.text, &manifest.text());
            policy.hash = keccak256(policy.text.as_bytes());
        }
        Ok(policy)
    }

    /// What officers are to sign: the files as they are now.
    pub fn manifest(directory: &Path, world: &World, serial: u64) -> Result<Manifest, PolicyError> {
        let (_, files) = read_folder(directory, world, None)?;
        Ok(Manifest { chains: world.chains.iter().copied().collect(), serial, files })
    }

    /// Reads a policy from the texts of its files; `beside` gives the text of what they name.
    pub(in crate::policy) fn of_sources(
        sources: &[Source],
        world: &World,
        beside: impl Fn(Beside<'_>) -> Result<String, String>,
    ) -> Result<Self, PolicyError> {
        let policy = read::policy(sources, world, beside)?;
        let text = archived::write(sources, world, &policy.abis, &policy.lists);
        let named =
            sources.iter().map(|source| &source.name).chain(policy.abis.keys()).chain(policy.lists.keys());
        let files = named.map(PathBuf::from).collect();
        Ok(Self { hash: keccak256(text.as_bytes()), text, files, ..policy.policy })
    }
}

/// The policy, and the SHA-256 of every file that it was read from, by its path.
fn read_folder(
    directory: &Path,
    world: &World,
    more: Option<Source>,
) -> Result<(Policy, BTreeMap<String, String>), PolicyError> {
    let mut sources = sources(directory)?;
    sources.extend(more);
    let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    let hashes = sources.iter().map(|source| (source.name.clone(), hash(&source.text)));
    let hashes = RefCell::new(hashes.collect::<BTreeMap<_, _>>());
    let policy = Policy::of_sources(&sources, world, |beside| {
        let (name, text) = match beside {
            Beside::Abi(name) if built_in(name).is_some() => return read_abi(directory, name),
            Beside::Abi(name) => (name, read_abi(directory, name)?),
            Beside::List(name) => {
                let path = directory.join(name);
                let read = read_bounded((&path, MAX_FILE), "write it as several lists");
                (name, read.map_err(|why| format!("{}: {why}", path.display()))?)
            }
        };
        hashes.borrow_mut().insert(name.to_owned(), hash(&text));
        Ok(text)
    })?;
    Ok((policy, hashes.into_inner()))
}

fn sources(directory: &Path) -> Result<Vec<Source>, PolicyError> {
    let unreadable = |e: std::io::Error| {
        ConfigError::new(directory, format_args!("{e}; it must be a folder of policy files"))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir() {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        return Err(ConfigError::new(directory, format_args!("more than {MAX_FILES} policy files")).into());
    }
    paths.sort();
    let mut files = Files::default();
    for name in paths.iter().filter_map(|path| path.file_name()) {
        files.read(directory, Path::new(name));
    }
    let Files { sources, mistakes, .. } = files;
    if mistakes.is_empty() { Ok(sources) } else { Err(PolicyError { mistakes }) }
}

fn read_abi(directory: &Path, name: &str) -> Result<String, String> {
    if let Some(text) = built_in(name) {
        return Ok(text.to_owned());
    }
    let path = directory.join(name);
    read_bounded((&path, MAX_ABI), "of an artifact only its `abi` is needed").map_err(|why| {
        format!(
            "{}: {why}; `abi` is a JSON file by its path from the policy folder, or one of {}",
            path.display(),
            registry::names()
        )
    })
}

/// The text of a file that is not larger than this; `instead` says what to do with one that is.
pub(super) fn read_bounded((path, most): (&Path, u64), instead: &str) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    file.take(most.saturating_add(1)).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if u64::try_from(text.len()).map_or(true, |length| length > most) {
        return Err(format!("the file is larger than {most} bytes: {instead}"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{CONTRACTS, PAY, built_in_only, world};

    impl Policy {
        /// A policy of one file, for the tests of later stages.
        pub(crate) fn of_text(text: &str, world: &World) -> Self {
            let source =
                Source { name: "test.toml".to_owned(), path: "test.toml".into(), text: text.to_owned() };
            Self::of_sources(&[source], world, built_in_only).unwrap_or_else(|error| panic!("{error}"))
        }
    }

    #[test]
    fn a_folder_is_one_policy_with_the_abis_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("tests")).unwrap();
        std::fs::create_dir(folder.path().join("abis")).unwrap();
        let artifact = format!(r#"{{"bytecode":"0x00","abi":{}}}"#, built_in("erc20").unwrap());
        write("abis/Token.json", &artifact);
        write("contracts.toml", &CONTRACTS.replace("\"erc20\"", "\"abis/Token.json\""));
        write("pay.toml", PAY);
        write("tests/cases.toml", "this is no policy");
        write("notes.txt", "nor is this");
        let policy = Policy::load(folder.path(), &world()).unwrap();
        assert_eq!(policy.size(), (1, 0, 0));
        assert!(policy.text().contains("abis/Token.json\n[{"), "the ABI by its name");
        assert!(!policy.text().contains("bytecode"), "and nothing but the ABI");

        write("contracts.toml", &CONTRACTS.replace("\"erc20\"", "\"abis/Tokn.json\""));
        let missing = Policy::load(folder.path(), &world()).unwrap_err();
        assert_eq!(missing.mistakes[0].line, Some(3));
        assert!(missing.to_string().contains("abis/Tokn.json: No such file"), "{missing}");
    }

    #[test]
    fn a_folder_that_cannot_be_read_whole_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Policy::load(&folder.path().join("none"), &world()).is_err());
        let file = folder.path().join("p.toml");
        std::fs::write(&file, PAY).unwrap();
        assert!(Policy::load(&file, &world()).is_err(), "a file is no folder");
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(Policy::load(folder.path(), &world()).unwrap_err().to_string().contains("UTF-8"));
        let most = usize::try_from(MAX_FILE).unwrap();
        std::fs::write(&file, "#".repeat(most)).unwrap();
        assert!(Policy::load(folder.path(), &world()).is_ok());
        std::fs::write(&file, "#".repeat(most.saturating_add(1))).unwrap();
        assert!(Policy::load(folder.path(), &world()).unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn inv_12_a_folder_has_so_many_files_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        for at in 0..MAX_FILES {
            write(&format!("{at:03}.toml"), "");
        }
        assert!(Policy::load(folder.path(), &world()).is_ok());
        // One more that is included is one more.
        let more = folder
            .path()
            .parent()
            .unwrap()
            .join(format!("{}.toml", folder.path().file_name().unwrap().to_string_lossy()));
        std::fs::write(&more, "").unwrap();
        write("000.toml", &format!("include = [\"../{}\"]\n", more.file_name().unwrap().to_string_lossy()));
        let error = Policy::load(folder.path(), &world()).unwrap_err().to_string();
        std::fs::remove_file(&more).unwrap();
        assert!(error.ends_with(": more than 256 policy files"), "{error}");
        write("000.toml", "");
        write("more.toml", "");
        let error = Policy::load(folder.path(), &world()).unwrap_err().to_string();
        assert!(error.ends_with(": more than 256 policy files"), "{error}");
    }

    /// What the archive holds tells the files apart, whatever stands in them.
    #[test]
    fn the_archive_says_how_long_each_part_is() {
        let source = |name: &str, text: &str| Source {
            name: name.to_owned(),
            path: name.into(),
            text: text.to_owned(),
        };
        let policy = Policy::of_sources(
            &[source("a.toml", CONTRACTS), source("b.toml", "# b\n")],
            &world(),
            built_in_only,
        )
        .unwrap();
        let abi = Policy::of_sources(&[source("a.toml", CONTRACTS)], &world(), built_in_only).unwrap();
        let begins = format!(
            "chancery policy 1\nchain 1\naccount treasury {}\nfile {} a.toml\n{CONTRACTS}\nfile 4 b.toml\n# b\n\nabi ",
            crate::policy::tests::TREASURY,
            CONTRACTS.len()
        );
        assert!(policy.text().starts_with(&begins), "{}", policy.text());
        assert_ne!(policy.hash(), abi.hash());
        assert_eq!(policy.files, [PathBuf::from("a.toml"), "b.toml".into(), "erc20".into()]);
    }

    #[test]
    fn rules_can_be_tried_beside_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.toml"), CONTRACTS).unwrap();
        assert_eq!(Policy::load(folder.path(), &world()).unwrap().size(), (0, 0, 0));
        assert_eq!(Policy::load_with(folder.path(), &world(), PAY).unwrap().size(), (1, 0, 0));
        let error = Policy::load_with(folder.path(), &world(), "[[rule").unwrap_err().to_string();
        assert!(error.contains("suggested:1:"), "{error}");
    }
}
