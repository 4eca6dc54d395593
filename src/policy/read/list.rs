//! `[lists]`: addresses by the hundred, each list in a file of its own that is pinned by its hash.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alloy_primitives::Address;
use sha2::{Digest as _, Sha256};

use crate::config::is_name;
use crate::policy::load::Beside;
use crate::policy::read::File;
use crate::policy::read::names::{Names, checksummed};
use crate::policy::written::{AddressList, Text};

pub(super) fn read(
    file: &mut File<'_>,
    written: &BTreeMap<Text, AddressList>,
    names: &mut Names<'_>,
    beside: &impl Fn(Beside<'_>) -> Result<String, String>,
) {
    for (name, list) in written {
        if !is_name(name.get_ref()) {
            file.wrong(&name.span(), "a list's name has 1 to 64 letters, digits, `-`, `_` or `.`");
            continue;
        }
        if names.lists.contains_key(name.get_ref()) {
            file.wrong(&name.span(), format_args!("the list `{}` stands there twice", name.get_ref()));
            continue;
        }
        let Some(text) = file.right(&list.file.span(), beside(Beside::List(list.file.get_ref()))) else {
            continue;
        };
        let is = sha256(&text);
        if *list.sha256.get_ref() != is {
            let what = format!(
                "`{}` has another SHA-256 than stands here; look at what has changed in it, then write {is}",
                list.file.get_ref()
            );
            file.wrong(&list.sha256.span(), what);
            continue;
        }
        if let Some(addresses) = file.right(&list.file.span(), addresses(list.file.get_ref(), &text)) {
            names.lists.insert(name.get_ref().clone(), addresses);
            names.list_files.insert(list.file.get_ref().clone(), text);
        }
    }
}

/// One address in a line; after `#` any text.
fn addresses(file: &str, text: &str) -> Result<Vec<Address>, String> {
    let mut found = Vec::new();
    for (at, all) in text.lines().enumerate() {
        let line = at.saturating_add(1);
        // As in TOML. The ledger keeps the text, and no database has a place for a NUL.
        if let Some(control) = all.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!("{file}:{line}: the character {control:?} may not stand in a list"));
        }
        let written = all.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let address = checksummed(written).map_err(|why| format!("{file}:{line}: {why}"))?;
        if found.contains(&address) {
            return Err(format!("{file}:{line}: `{written}` stands there twice"));
        }
        found.push(address);
    }
    if found.is_empty() {
        return Err(format!("{file} has no address, so nothing can match"));
    }
    Ok(found)
}

/// As `sha256sum` prints it.
fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::policy::Policy;
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, PAY, TREASURY, decide, transfer, world};

    const LIST: &str = "# who is paid\n0x70997970C51812dc3A010C7d01b50e0d17dc79C8 # alice\n\n0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC\n";
    const HASH: &str = "HASH";

    fn load(list: &str, lists: &str, whom: &str) -> Result<Policy, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("payees.txt"), list).unwrap();
        let lists = lists.replace(HASH, &super::sha256(LIST));
        let pay = PAY.replace("[\"alice\", \"bob\"]", whom);
        std::fs::write(folder.path().join("p.toml"), format!("[lists]\n{lists}\n{CONTRACTS}{pay}")).unwrap();
        Policy::load(folder.path(), &world()).map_err(|e| e.to_string())
    }

    const PINNED: &str = "payees = { file = \"payees.txt\", sha256 = \"HASH\" }";

    #[test]
    fn a_list_stands_for_its_addresses() {
        for whom in ["\"@payees\"", "[\"@payees\"]"] {
            let policy = load(LIST, PINNED, whom).unwrap();
            assert!(policy.text().contains("# who is paid"), "it is archived");
            for (to, paid) in [(ALICE, true), (BOB, true), (TREASURY, false)] {
                assert_eq!(decide(&policy, "ann", &json!({ "data": transfer(to, 1) })).is_ok(), paid, "{to}");
            }
        }
        let not = load(LIST, PINNED, "{ not = \"@payees\" }").unwrap();
        assert!(decide(&not, "ann", &json!({ "data": transfer(BOB, 1) })).is_err());
        assert!(decide(&not, "ann", &json!({ "data": transfer(TREASURY, 1) })).is_ok());
    }

    #[test]
    fn inv_04_a_list_that_changed_is_no_list() {
        assert_eq!(super::sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let more = format!("{LIST}{TREASURY}\n");
        let pinned = |of: &str| PINNED.replace(HASH, &super::sha256(of));
        for (list, lists, line, why) in [
            (more.as_str(), PINNED.to_owned(), 2, "has another SHA-256"),
            (LIST, PINNED.replace("payees.txt", "paid.txt"), 2, "paid.txt: No such file"),
            (LIST, PINNED.replace(", sha256 = \"HASH\"", ""), 2, "missing field `sha256`"),
            (LIST, PINNED.replace("payees =", "\"pay ees\" ="), 2, "a list's name"),
            ("# none\n", pinned("# none\n"), 2, "has no address"),
            ("0x12\n", pinned("0x12\n"), 2, "payees.txt:1: `0x12`"),
            ("# \0\n", pinned("# \0\n"), 2, "payees.txt:1: the character '\\0' may not"),
        ] {
            let error = load(list, &lists, "\"@payees\"").unwrap_err();
            assert!(error.contains(&format!("p.toml:{line}: ")) && error.contains(why), "{lists}: {error}");
        }
        let twice = format!("{LIST}{ALICE}\n");
        assert!(load(&twice, &pinned(&twice), "\"@payees\"").unwrap_err().contains("stands there twice"));
        let lower = LIST.to_lowercase();
        assert!(load(&lower, &pinned(&lower), "\"@payees\"").unwrap_err().contains("EIP-55"));
        assert!(load(LIST, PINNED, "\"@payers\"").unwrap_err().contains("no list named `payers`"));
    }
}
