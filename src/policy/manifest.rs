//! A policy that officers have signed: a manifest of every file with a serial that only grows, and their signatures.
//!
//! The manifest is a text; a signature is what any wallet makes of it as a message (EIP-191). So no key of an officer
//! ever comes near this program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use alloy_primitives::{Address, eip191_hash_message, hex};

use crate::config::{ConfigError, Officers};
use crate::policy::error::PolicyError;
use crate::policy::load::{MAX_FILE, read_bounded};
use crate::transaction::signer_of;

/// What a folder's manifest and the signatures of it are called.
pub const MANIFEST: &str = "manifest.txt";
pub const SIGNATURES: &str = "manifest.sig";

/// What officers sign: the chains, a serial, and the SHA-256 of every file that the policy is read from, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// In order of their numbers.
    pub chains: BTreeSet<u64>,
    pub serial: u64,
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// The text that is signed, to the byte.
    pub fn text(&self) -> String {
        let chains = self.chains.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mut text = format!("chancery policy manifest 1\nchain {chains}\nserial {}", self.serial);
        for (name, hash) in &self.files {
            // Writing to a string does not fail. No newline at the end: `$(cat manifest.txt)` would lose it.
            write!(text, "\n{hash}  {name}").unwrap_or_default();
        }
        text
    }

    /// The serial that a manifest states.
    pub fn serial_of(text: &str) -> Option<u64> {
        let serial = text.lines().nth(2)?.strip_prefix("serial ")?;
        serial.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == serial)
    }

    /// The manifest beside these files, if it is one of exactly them and enough officers have signed it.
    pub(in crate::policy) fn signed(
        directory: &Path,
        (chains, files): (BTreeSet<u64>, BTreeMap<String, String>),
        officers: &Officers,
    ) -> Result<Self, PolicyError> {
        let path = directory.join(MANIFEST);
        let wrong = |path: &Path, why: String| PolicyError::from(ConfigError::new(path, why));
        let sign = "`chancery policy sign` writes it, and says how it is signed";
        let text = read_bounded((&path, MAX_FILE), "it is no manifest")
            .map_err(|why| wrong(&path, format!("{why}; {sign}")))?;
        let serial = Self::serial_of(&text).ok_or_else(|| {
            wrong(&path, format!("its third line must be `serial` and a number from 1; {sign}"))
        })?;
        let manifest = Self { chains, serial, files };
        if manifest.text() != text {
            let stated: BTreeSet<_> = text.lines().skip(3).collect();
            let there = manifest.text();
            let changed = there.lines().skip(3).filter(|line| !stated.contains(line));
            let gone = stated.iter().copied().filter(|line| !there.lines().any(|other| other == *line));
            let names: BTreeSet<_> =
                changed.chain(gone).filter_map(|line| Some(line.split_once("  ")?.1)).collect();
            let what = if names.is_empty() {
                "it is a manifest for other chains than those of the configuration".to_owned()
            } else {
                let names: Vec<_> = names.into_iter().collect();
                format!("what was signed is not what is there: {} changed, came or went", names.join(", "))
            };
            return Err(wrong(&path, format!("{what}; {sign}")));
        }
        let path = directory.join(SIGNATURES);
        let signatures = read_bounded((&path, MAX_FILE), "it holds more than signatures")
            .map_err(|why| wrong(&path, format!("{why}; {sign}")))?;
        let signed = manifest.signers(&signatures).map_err(|why| wrong(&path, why))?;
        let signed = signed.iter().filter(|signer| officers.signers.contains(signer)).count();
        if signed < officers.required {
            let why = format!(
                "{signed} of the signers that [policy] lists have signed the manifest, and {} must",
                officers.required
            );
            return Err(wrong(&path, why));
        }
        Ok(manifest)
    }

    /// Who has signed it: one signature a line.
    pub fn signers(&self, signatures: &str) -> Result<BTreeSet<Address>, String> {
        let lines = signatures.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let one = |(at, line): (usize, &str)| {
            self.signer(line).ok_or_else(|| format!("line {} is no signature", at.saturating_add(1)))
        };
        lines.map(one).collect()
    }

    /// Who made this signature, 65 bytes r, s, v.
    pub fn signer(&self, signature: &str) -> Option<Address> {
        let bytes: [u8; 65] = hex::decode(signature.strip_prefix("0x")?).ok()?.try_into().ok()?;
        let (rs, v) = bytes.split_first_chunk::<64>()?;
        let odd = match v {
            [27 | 0] => false,
            [28 | 1] => true,
            _ => return None,
        };
        signer_of(eip191_hash_message(self.text()), rs, odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{CONTRACTS, PAY, world};
    use crate::policy::{ActivePolicy, Policy};
    use crate::transaction::address_of_point;
    use k256::ecdsa::SigningKey;

    fn officer(seed: u8) -> (SigningKey, Address) {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let address = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        (key, address)
    }

    fn sign(seed: u8, text: &str) -> String {
        let (key, _) = officer(seed);
        let (signature, id) = key.sign_prehash_recoverable(eip191_hash_message(text).as_slice()).unwrap();
        hex::encode_prefixed(
            [signature.to_bytes().as_slice(), &[if id.is_y_odd() { 28 } else { 27 }]].concat(),
        )
    }

    #[test]
    fn inv_09_only_what_enough_officers_signed_is_a_policy() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
        write("contracts.toml", CONTRACTS);
        write("pay.toml", PAY);
        let officers = Officers { signers: vec![officer(1).1, officer(2).1, officer(3).1], required: 2 };
        let load = || Policy::load_signed(at, &world(), &officers).map_err(|e| e.to_string());
        assert!(load().unwrap_err().contains("manifest.txt: No such file"), "nothing is signed yet");

        let manifest = Policy::manifest(at, &world(), 7).unwrap();
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["contracts.toml", "pay.toml"]);
        let text = manifest.text();
        write(MANIFEST, &text);
        assert!(load().unwrap_err().contains("manifest.sig: No such file"));
        for (signatures, signed) in [
            (vec![sign(1, &text)], "1 of the signers"),
            (vec![sign(1, &text), sign(1, &text)], "1 of the signers"),
            (vec![sign(1, &text), sign(9, &text)], "1 of the signers"),
            (vec![sign(1, &text), sign(2, &text.replace("serial 7", "serial 8"))], "1 of the signers"),
            (vec![sign(1, &text), "0x00".to_owned()], "line 2 is no signature"),
        ] {
            write(SIGNATURES, &signatures.join("\n"));
            let error = load().unwrap_err();
            assert!(error.contains(signed), "{error}");
        }
        write(SIGNATURES, &format!("# Grace and Ada\n{}\n{}\n", sign(3, &text), sign(1, &text)));
        let policy = load().unwrap();
        assert_eq!(policy.serial(), Some(7));
        assert!(policy.text().contains("serial 7"), "the archive shows what was signed");

        // Any file that is another, comes or goes.
        for (name, other) in
            [("pay.toml", PAY.replace("1_000", "9_000")), ("more.toml", PAY.replace("\"pay\"", "\"more\""))]
        {
            write(name, &other);
            let error = load().unwrap_err();
            assert!(
                error.contains("what was signed is not what is there") && error.contains(name),
                "{error}"
            );
            write("pay.toml", PAY);
        }
        std::fs::remove_file(at.join("more.toml")).unwrap();
        assert!(load().is_ok());
        let active = ActivePolicy::load(at, world(), officers.clone()).unwrap();
        let stamp = active.stamp();
        write(SIGNATURES, &format!("{}\n{}\n{}\n", sign(3, &text), sign(1, &text), sign(2, &text)));
        assert_ne!(active.stamp(), stamp, "the signatures are looked at as well");
    }

    #[test]
    fn a_serial_is_a_number_from_1_in_one_form() {
        for (line, serial) in
            [("serial 7", Some(7)), ("serial 07", None), ("serial 0", None), ("serial", None)]
        {
            assert_eq!(Manifest::serial_of(&format!("a\nb\n{line}\n")), serial, "{line}");
        }
    }

    /// What is built in is no file; what stands beside the policy is, and its bytes are what is signed.
    #[test]
    fn the_manifest_is_of_every_file_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("abis")).unwrap();
        write("abis/Token.json", "[]");
        write("payees.txt", &format!("{}\n", crate::policy::tests::ALICE));
        let lists =
            |hash: &str| format!("[lists]\npayees = {{ file = \"payees.txt\", sha256 = \"{hash}\" }}\n");
        let contracts = CONTRACTS.replace("alice = {", "alice = { abi = \"abis/Token.json\",");
        write("c.toml", &format!("{}{contracts}", lists("HASH")));
        // The mistake says which hash it is.
        let said = Policy::manifest(folder.path(), &world(), 1).unwrap_err().to_string();
        let (_, is) = said.trim_end().rsplit_once("then write ").unwrap();
        write("c.toml", &format!("{}{contracts}", lists(is)));
        let manifest = Policy::manifest(folder.path(), &world(), 3).unwrap();
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["abis/Token.json", "c.toml", "payees.txt"]);
        assert_eq!(manifest.files["payees.txt"], is);
        let empty = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
        assert_eq!(manifest.files["abis/Token.json"], empty, "as sha256sum says of it");
        let text = manifest.text();
        assert!(
            text.starts_with(&format!(
                "chancery policy manifest 1\nchain 1\nserial 3\n{empty}  abis/Token.json\n"
            )),
            "{text}"
        );
        assert!(!text.ends_with('\n'));
        // As many signatures as are required, by whichever of those that are listed; each in one of two forms.
        let signature = sign(1, &text);
        let signer = officer(1).1;
        assert_eq!(manifest.signer(&signature), Some(signer));
        let v = |v: &str| format!("{}{v}", signature.get(..130).unwrap());
        let (right, wrong) = if signature.ends_with("1b") { ("00", "01") } else { ("01", "00") };
        assert_eq!(manifest.signer(&v(right)), Some(signer));
        assert_ne!(manifest.signer(&v(wrong)), Some(signer));
        for none in
            [v("1d"), v("02"), signature.replacen("0x", "", 1), format!("{signature}00"), String::new()]
        {
            assert_eq!(manifest.signer(&none), None, "{none}");
        }
        assert_eq!(
            manifest.signers(&format!("\n# nobody\n  {signature}  \n\n{signature}")).unwrap(),
            BTreeSet::from([signer])
        );
        assert_eq!(manifest.signers(&format!("{signature}\n\nx")), Err("line 3 is no signature".to_owned()));
    }

    #[test]
    fn a_manifest_of_other_chains_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("pay.toml", "");
        let officers = Officers { signers: vec![officer(1).1], required: 1 };
        let other = crate::policy::World { chains: vec![5], ..world() };
        let text = Policy::manifest(folder.path(), &other, 1).unwrap().text();
        write(MANIFEST, &text);
        write(SIGNATURES, &sign(1, &text));
        let load = |world: &crate::policy::World| {
            Policy::load_signed(folder.path(), world, &officers).map_err(|e| e.to_string())
        };
        assert!(load(&other).is_ok());
        let error = load(&world()).unwrap_err();
        assert!(
            error.contains("it is a manifest for other chains than those of the configuration"),
            "{error}"
        );
        write(MANIFEST, "x\n");
        assert!(load(&other).unwrap_err().contains("its third line must be `serial` and a number from 1"));
    }
}
