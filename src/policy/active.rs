//! The policy in force, and the files that the next one is read from.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, Timestamp};
use crate::config::Officers;
use crate::policy::shadow::Tried;
use crate::policy::{Policy, PolicyError, World};

/// What requests are judged by. It is replaced as a whole; who holds the one before keeps it to the end of its request,
/// and the ledger has such a request judged again.
#[derive(Debug)]
pub struct ActivePolicy {
    now: ArcSwap<Policy>,
    directory: PathBuf,
    world: World,
    officers: Officers,
    /// What is judged beside it.
    tried: Option<Tried>,
    /// When rows about differences may be written again, and how many more until then.
    telling: Mutex<(Timestamp, u32)>,
    /// How many more decisions may be compared at once. Whoever compares holds one to the end of it.
    comparing: Arc<Semaphore>,
    clock: Clock,
}

/// How many differences have a row in the audit, in a minute.
const TOLD: u32 = 60;
const MINUTE: u64 = 60_000;

/// How many decisions are compared at once with what the policy that is tried says.
const COMPARED: usize = 64;

/// The policy that is tried, and a place among those who compare with it: nothing is compared without one.
#[derive(Debug)]
pub struct Comparison {
    policy: Arc<Policy>,
    /// Given back on drop, when the comparison is over.
    _place: OwnedSemaphorePermit,
}

impl Comparison {
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// As many comparisons are under way as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllCompare;

/// The files of a policy at one look: when each was changed last, and which file it is. Equal where nothing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<[i128; 4]>)>);

impl ActivePolicy {
    /// Reads the folder.
    pub fn load(directory: &Path, world: World, officers: Officers) -> Result<Self, PolicyError> {
        let policy = Policy::load_signed(directory, &world, &officers)?;
        Ok(Self {
            now: ArcSwap::from_pointee(policy),
            directory: directory.to_owned(),
            world,
            officers,
            tried: None,
            telling: Mutex::new((Timestamp::from_millis(0), TOLD)),
            comparing: Arc::new(Semaphore::new(COMPARED)),
            clock: Clock::system(),
        })
    }

    /// The same, with a policy of another folder judged beside it.
    #[must_use]
    pub fn trying(self, directory: Option<&Path>) -> Self {
        Self { tried: directory.map(Tried::new), ..self }
    }

    /// What one more decision is to be compared with, if a policy is tried that could be read.
    pub fn to_compare(&self) -> Option<Result<Comparison, AllCompare>> {
        let policy = self.tried.as_ref()?.now()?;
        let place = Arc::clone(&self.comparing).try_acquire_owned();
        Some(place.map(|place| Comparison { policy, _place: place }).map_err(|_| AllCompare))
    }

    /// Reads the policy that is tried again.
    pub fn read_tried(&self) -> Result<(), PolicyError> {
        self.tried.as_ref().map_or(Ok(()), |tried| tried.read_again(&self.world))
    }

    /// Whether one more difference may have a row: a policy that says otherwise about everything fills no disk.
    pub fn has_room_to_tell(&self) -> bool {
        let now = self.clock.now();
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if now.millis() >= telling.0.millis().saturating_add(MINUTE) {
            *telling = (now, TOLD);
        }
        let has_room = telling.1 > 0;
        telling.1 = telling.1.saturating_sub(1);
        has_room
    }

    pub fn now(&self) -> Arc<Policy> {
        self.now.load_full()
    }

    /// Reads the folder again; nothing where it says what is in force. A mistake in any file is one of the whole.
    pub fn read_again(&self) -> Result<Option<Arc<Policy>>, PolicyError> {
        let policy = Policy::load_signed(&self.directory, &self.world, &self.officers)?;
        Ok((policy.hash() != self.now().hash()).then(|| Arc::new(policy)))
    }

    /// Judges by this one from now on. The ledger has agreed.
    pub fn replace(&self, policy: Arc<Policy>) {
        self.now.store(policy);
    }

    /// Looks at the files of the folder, and at those that the policy in force names.
    pub fn stamp(&self) -> Stamp {
        let mut paths: Vec<_> = self.now().files.iter().map(|name| self.directory.join(name)).collect();
        // What cannot be listed is told when it is read.
        let mut list = |directory: &Path| {
            let listed =
                std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
            paths.extend(listed.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        };
        list(&self.directory);
        if let Some(tried) = &self.tried {
            list(tried.directory());
            let named = tried.now().map(|policy| policy.files.clone()).unwrap_or_default();
            paths.extend(named.iter().map(|name| tried.directory().join(name)));
        }
        paths.sort();
        paths.dedup();
        let look = |path: PathBuf| {
            let found = std::fs::metadata(&path).ok().map(|found| {
                [found.mtime().into(), found.mtime_nsec().into(), found.size().into(), found.ino().into()]
            });
            (path, found)
        };
        Stamp(paths.into_iter().map(look).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{CONTRACTS, PAY, world};

    #[test]
    fn inv_09_a_policy_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("contracts.toml", CONTRACTS);
        write("pay.toml", PAY);
        let active = ActivePolicy::load(folder.path(), world(), Officers::default()).unwrap();
        let (first, stamp) = (active.now().hash(), active.stamp());
        assert_eq!(active.stamp(), stamp);
        assert!(active.read_again().unwrap().is_none(), "nothing changed");

        // One good change and one mistake: neither is taken.
        write("more.toml", &PAY.replace("\"pay\"", "\"more\""));
        write("pay.toml", "[[rule");
        assert_ne!(active.stamp(), stamp);
        let mistakes = active.read_again().unwrap_err();
        assert!(mistakes.to_string().contains("pay.toml:1"), "{mistakes}");
        assert_eq!(active.now().hash(), first);

        write("pay.toml", PAY);
        let next = active.read_again().unwrap().unwrap();
        assert_eq!(active.now().hash(), first, "not before somebody says so");
        active.replace(Arc::clone(&next));
        assert_eq!((active.now().hash(), active.now().size().0), (next.hash(), 2));
    }

    #[test]
    fn inv_12_few_differences_are_written_down() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pay.toml"), format!("{CONTRACTS}{PAY}")).unwrap();
        let active = ActivePolicy::load(folder.path(), world(), Officers::default()).unwrap();
        let told = |active: &ActivePolicy| (0..100).filter(|_| active.has_room_to_tell()).count();
        let at = Timestamp::from_millis(1_000_000);
        let active = ActivePolicy { clock: Clock::set_to(at), ..active };
        assert_eq!((told(&active), told(&active)), (60, 0));
        let later = Timestamp::from_millis(1_060_000);
        let active = ActivePolicy { clock: Clock::set_to(later), ..active };
        assert_eq!(told(&active), 60);
    }

    #[test]
    fn inv_12_few_decisions_are_compared_at_once() {
        let (folder, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("pay.toml"), format!("{CONTRACTS}{PAY}")).unwrap();
        let active = || ActivePolicy::load(folder.path(), world(), Officers::default()).unwrap();
        assert!(active().to_compare().is_none(), "no policy is tried");
        let active = active().trying(Some(next.path()));
        assert!(active.to_compare().is_none(), "it was not read yet");
        active.read_tried().unwrap();
        let mut under_way: Vec<_> = (0..COMPARED).map(|_| active.to_compare().unwrap().unwrap()).collect();
        assert_ne!(under_way[0].policy().hash(), active.now().hash());
        assert_eq!(active.to_compare().unwrap().unwrap_err(), AllCompare);
        under_way.pop();
        under_way.push(active.to_compare().unwrap().unwrap());
        assert!(active.to_compare().unwrap().is_err());
    }

    /// Files beside the policy are looked at too, and a file that another one takes the place of is another.
    #[test]
    fn every_file_that_a_policy_names_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("abis")).unwrap();
        write("abis/Token.json", "[]");
        write("contracts.toml", &CONTRACTS.replace("\"erc20\"", "\"abis/Token.json\""));
        let active = ActivePolicy::load(folder.path(), world(), Officers::default()).unwrap();
        let before = active.stamp();
        write("abis/Other.json", "[]");
        assert_eq!(active.stamp(), before);
        std::fs::rename(folder.path().join("abis/Other.json"), folder.path().join("abis/Token.json"))
            .unwrap();
        let exchanged = active.stamp();
        assert_ne!(exchanged, before);
        std::fs::remove_file(folder.path().join("contracts.toml")).unwrap();
        assert_ne!(active.stamp(), exchanged);
    }

    /// What comes into the folder is looked at where it is a policy file.
    #[test]
    fn a_file_that_comes_is_seen_and_a_note_is_not() {
        let (folder, tried) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |at: &Path, name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
        write(folder.path(), "pay.toml", &format!("{CONTRACTS}{PAY}"));
        let active = ActivePolicy::load(folder.path(), world(), Officers::default())
            .unwrap()
            .trying(Some(tried.path()));
        let mut before = active.stamp();
        for (at, name, is_seen) in [
            (folder.path(), "notes.md", false),
            (folder.path(), "more.toml", true),
            (tried.path(), "notes.md", false),
            (tried.path(), "next.toml", true),
        ] {
            write(at, name, "");
            let after = active.stamp();
            assert_eq!(after != before, is_seen, "{name}");
            before = after;
        }
    }

    /// Whatever is wrong with the next policy, it is said in which file and line, what, and what to write; and the old one stays.
    #[test]
    fn inv_09_no_bad_input_takes_the_place_of_a_good_policy() {
        let overloaded = r#"[{"type":"function","name":"f","inputs":[],"outputs":[],"stateMutability":"view"},
            {"type":"function","name":"f","inputs":[{"name":"a","type":"uint8"}],"outputs":[],"stateMutability":"view"}]"#;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", &format!("{CONTRACTS}{PAY}"));
        write("f.json", overloaded);
        let active = ActivePolicy::load(folder.path(), world(), Officers::default()).unwrap();
        let good = active.now().hash();
        let again = |right: &str, wrong: &str| {
            assert!(PAY.contains(right), "{right}");
            PAY.replace("\"pay\"", "\"again\"").replacen(right, wrong, 1)
        };
        let thing = "[contracts]\nthing = { chain = 1, address = \"0x90F79bf6EB2c4f870365E785982E1f101E93b906\", abi = \"f.json\" }\n";
        let of_thing = |call: &str| {
            let rule = "[[rule]]\nid = \"f\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"thing\"]";
            format!("{thing}{rule}\ncall = \"{call}\"\n")
        };
        let huge = "9".repeat(78);
        for (text, says) in [
            (
                "#".repeat(10 * 1024 * 1024),
                " the file is larger than 1048576 bytes: write it as several files, and addresses by the hundred as a list ([lists])",
            ),
            (
                "include = [\n  \"b.toml\",\n]\n".to_owned(),
                "2: a cycle of includes: `b.toml` includes `b.toml`",
            ),
            (PAY.to_owned(), "3: the id `pay` stands there twice: give one of them another"),
            (
                again("1_000 USDC", &format!("{huge} USDC")),
                &format!("11: `{huge}` does not fit into 256 bits"),
            ),
            (again("0.05 ether", "0.05 eth"), "12: `eth` is not a unit here; expected wei, gwei or ether"),
            (
                again("1_000 USDC", "1_000 USD"),
                "11: an amount in USD needs its token pinned by the same rule, in `to` or as an address argument, with `symbol` and \
                 `decimals` in [contracts]; pinned here: USDC",
            ),
            (of_thing("g"), "8: the ABI of `thing`: it has no function `g`; it has `f()`, `f(uint8)`"),
            (
                of_thing("f"),
                "8: the ABI of `thing`: it has several functions named `f`; write one of `f()`, `f(uint8)`",
            ),
            (again("[\"trader\"]", "[\"trader\"]\nclient = 5"), "8: unknown field `client`, expected one of"),
        ] {
            write("b.toml", &text);
            let said = active.read_again().unwrap_err().to_string();
            let place = format!("{}:", folder.path().join("b.toml").display());
            let what = said.strip_prefix(&place).unwrap_or_else(|| panic!("{said}"));
            assert!(what.starts_with(says), "{what}\n{says}");
            assert_eq!(active.now().hash(), good);
        }
    }

    /// What is no mistake and yet wrong, `policy check` says of the file and line.
    #[test]
    fn what_cannot_match_and_what_looks_alike_is_said_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", &format!("{CONTRACTS}{PAY}"));
        let twin: alloy_primitives::Address = "0x7099000000000000000000000000000000dc79c8".parse().unwrap();
        let never = "[[rule]]\nid = \"never\"\neffect = \"deny\"\nkind = \"transaction\"\nchain = 5\n";
        write("b.toml", &format!("[contracts]\ntwin = {{ chain = 1, address = \"{twin}\" }}\n{never}"));
        let policy = Policy::load(folder.path(), &world()).unwrap();
        let said: Vec<_> = policy.warnings(&world()).iter().map(ToString::to_string).collect();
        for (line, what) in [
            (2, "look alike: compare each with its source"),
            (4, "rule `never`: it is for chain 5, and this gateway is for chain 1"),
        ] {
            let place = format!("{}:{line}: ", folder.path().join("b.toml").display());
            let is_it = |said: &String| said.starts_with(&place) && said.ends_with(what);
            assert!(said.iter().any(is_it), "{place}{what}: {said:?}");
        }
    }
}
