//! Profiles: gateways by name, with what each needs, in a file of the user's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::cmd::connect::credentials::Given;
use crate::cmd::{Failure, HintExt as _};

/// Taken where neither a URL nor a name is said.
pub const DEFAULT: &str = "default";

/// Names that are verbs.
const TAKEN: [&str; 3] = ["preload", "run", "status"];

/// What stands in the file under one name. Paths start at the file's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub url: String,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    pub server_name: Option<String>,
    pub socket: Option<PathBuf>,
    pub http: Option<u16>,
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_origin: Vec<String>,
}

impl Profile {
    /// The one of this name in `file`.
    pub fn read(file: &Path, name: &str) -> Result<Self> {
        let hint = "give a URL, such as https://gateway:8545, or another file with --profiles";
        let text =
            fs::read_to_string(file).hint(format_args!("profile `{name}`: {}", file.display()), hint)?;
        let mode = fs::metadata(file).hint(file.display(), hint)?.permissions().mode();
        // It says which gateway is believed, and as whom.
        if mode & 0o022 != 0 {
            let what =
                format!("{}: others can write to this file (mode {:03o})", file.display(), mode & 0o777);
            return Err(Failure::new(what).with_hint(format_args!("chmod 600 {}", file.display())).into());
        }
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::find(&text, name).map(|profile| profile.in_folder(folder)).map_err(|(line, what)| {
            let place = line.map_or_else(String::new, |line| format!(":{line}"));
            Failure::new(format_args!("{}{place}: {what}", file.display()))
                .with_hint("see docs/connect.md")
                .into()
        })
    }

    fn find(text: &str, name: &str) -> Result<Self, (Option<usize>, String)> {
        let mut all: BTreeMap<String, Self> = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| before.matches('\n').count().saturating_add(1));
            (line, error.message().to_owned())
        })?;
        let unusable = |name: &&String| {
            TAKEN.contains(&name.as_str())
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                || name.starts_with(['-', '.'])
                || name.is_empty()
        };
        if let Some(name) = all.keys().find(unusable) {
            let what = format!(
                "`{name}` cannot be a profile's name: letters, digits, `-`, `_` and `.` can, verbs cannot"
            );
            return Err((None, what));
        }
        all.remove(name).ok_or_else(|| {
            let names: Vec<_> = all.keys().map(String::as_str).collect();
            (None, format!("there is no profile `{name}`; there is: {}", names.join(", ")))
        })
    }

    fn in_folder(self, folder: &Path) -> Self {
        let place = |path: Option<PathBuf>| {
            path.map(|path| {
                let is_name = path
                    .to_str()
                    .is_some_and(|text| text.starts_with("pkcs11:") || text.starts_with("credential:"));
                if is_name { path } else { folder.join(path) }
            })
        };
        Self {
            cert: place(self.cert),
            key: place(self.key),
            password_file: place(self.password_file),
            ca: place(self.ca),
            socket: place(self.socket),
            token_file: place(self.token_file),
            ..self
        }
    }

    pub fn given(&self) -> Given {
        Given {
            cert: self.cert.clone(),
            key: self.key.clone(),
            password_file: self.password_file.clone(),
            ca: self.ca.clone(),
            ..Given::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "[desk]\nurl = \"https://gw:8545\"\ncert = \"desk.pem\"\nkey = \"/keys/desk.key\"\nhttp = 8547\n\n\
                       [card]\nurl = \"https://gw\"\ncert = \"pkcs11:?module-path=/m.so\"\nca = \"credential:ca\"\n";

    #[test]
    fn a_profile_is_found_by_its_name_and_its_paths_start_at_its_file() {
        let find = |name| Profile::find(TWO, name).unwrap().in_folder(Path::new("/home/ada"));
        let desk = find("desk");
        assert_eq!((desk.url.as_str(), desk.http), ("https://gw:8545", Some(8547)));
        assert_eq!(desk.cert, Some("/home/ada/desk.pem".into()));
        assert_eq!(desk.key, Some("/keys/desk.key".into()));
        let card = find("card");
        assert_eq!(card.cert, Some("pkcs11:?module-path=/m.so".into()));
        assert_eq!(card.ca, Some("credential:ca".into()));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let wrong = |text: &str, name| Profile::find(text, name).unwrap_err();
        assert_eq!(wrong(TWO, "dusk").1, "there is no profile `dusk`; there is: card, desk");
        let (line, what) = wrong("[desk]\nurl = \"https://gw\"\nkay = \"x\"\n", "desk");
        assert_eq!(line, Some(3), "{what}");
        assert!(what.contains("kay"), "{what}");
        assert_eq!(wrong("[desk]\ncert = \"x\"\n", "desk").0, Some(1));
        for name in ["run", "a/b", "\"\"", "\"-x\"", "\"..\""] {
            let name = if name.contains('/') { "\"a/b\"" } else { name };
            let (_, what) = wrong(&format!("[{name}]\nurl = \"https://gw\"\n"), "x");
            assert!(what.contains("cannot be a profile's name"), "{what}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_to_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("connect.toml");
        fs::write(&file, TWO).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(Profile::read(&file, "desk").unwrap_err().to_string().contains("others can write"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Profile::read(&file, "desk").unwrap().key, Some("/keys/desk.key".into()));
    }
}
