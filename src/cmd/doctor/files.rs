//! Secrets, policy and ledger: files that must be there, be ours alone, be right, or be writable.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cmd::doctor::finding::Finding;
use crate::config::{Config, KeySource, PinSource};
use crate::ledger;
use crate::policy::{Policy, World};
use crate::signer;

/// Below the first figure a warning, below the second nothing can be relied on any more. In MiB.
const SPACE: (u64, u64) = (512, 32);

/// A file that holds a secret: there, not empty, and nobody else's to read or replace.
pub fn private(check: &'static str, file: &Path) -> Finding {
    let shown = file.display();
    let found = match fs::metadata(file) {
        Ok(found) => found,
        Err(error) => {
            return Finding::failed(
                check,
                format_args!("{shown}: {error}"),
                "write the file, or correct its path",
            );
        }
    };
    if !found.is_file() || found.len() == 0 {
        return Finding::failed(
            check,
            format_args!("{shown}: not a file with something in it"),
            "write the file",
        );
    }
    if let Err(error) = fs::File::open(file) {
        let fix = "Chancery's user must be able to read it";
        return Finding::failed(check, format_args!("{shown}: {error}"), fix);
    }
    let (mode, fix) = (found.mode() & 0o777, format!("chmod 600 {shown}"));
    if mode & 0o027 != 0 {
        return Finding::failed(check, format_args!("{shown}: others may use it (mode {mode:03o})"), fix);
    }
    if mode & 0o040 != 0 {
        return Finding::warning(
            check,
            format_args!("{shown}: its group can read it (mode {mode:03o})"),
            fix,
        );
    }
    Finding::ok(check, format_args!("{shown}: for its owner only"))
}

/// What the tokens and the keystores need on disk.
pub fn secrets(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for token in &config.tokens {
        let module = token.module.display();
        findings.push(match fs::File::open(&token.module) {
            Ok(_) => Finding::ok("module", format_args!("token {}: {module}", token.name)),
            Err(error) => {
                let usual = token.profile.modules.iter().map(|path| path.display().to_string());
                let usual = usual.reduce(|some, one| format!("{some} or {one}"));
                let usual = usual.map(|paths| format!(", which is usually {paths}")).unwrap_or_default();
                let fix = format!("install the token's PKCS#11 library{usual}, or correct `module`");
                Finding::failed("module", format_args!("token {}: {module}: {error}", token.name), fix)
            }
        });
        // The others are tried when the token is.
        if let PinSource::File(file) = &token.pin {
            findings.push(private("pin", file));
        }
        let latch = signer::latch_path(state_folder(config), &token.name);
        match signer::is_latched(&latch) {
            Ok(false) => {}
            Ok(true) => findings.push(Finding::failed(
                "pin",
                format_args!(
                    "token {}: this PIN was refused once, and is not tried again by itself",
                    token.name
                ),
                format_args!("correct {}, then `chancery keys unlatch {}`", token.pin, token.name),
            )),
            Err(error) => findings.push(Finding::failed(
                "pin",
                format_args!("token {}: whether its PIN is latched cannot be seen: {error}", token.name),
                "run this as the gateway's user, or as root",
            )),
        }
    }
    for account in &config.accounts {
        if let KeySource::Keystore { file, password_file } = &account.key {
            let what = format!("account {}: its key is in a file, not in a token", account.name);
            findings.push(Finding::warning(
                "keystore",
                what,
                "keep it for tests: use a token where money is",
            ));
            findings.extend([private("keystore", file), private("keystore", password_file)]);
        }
    }
    findings
}

/// Whether anybody can do anything.
pub fn people(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.accounts.is_empty() {
        let fix = "`chancery keys generate` makes a key and prints its [[account]]";
        findings.push(Finding::warning("accounts", "there is no [[account]]: nothing can be signed", fix));
    }
    if config.clients.is_empty() {
        let fix = "add a [[client]] with the identity of its certificate";
        findings.push(Finding::warning("clients", "there is no [[client]]: nobody can connect", fix));
    }
    for account in &config.accounts {
        if !config.clients.iter().any(|client| client.accounts.contains(&account.address)) {
            let what = format!("no [[client]] may use account {}", account.name);
            findings.push(Finding::warning("clients", what, "name it in `accounts` of a [[client]]"));
        }
    }
    findings
}

pub fn policy(config: &Config) -> Vec<Finding> {
    let world = World::new(config);
    match Policy::load(&config.policies, &world) {
        Ok(policy) => {
            let ok = Finding::ok("policy", format_args!("{}: {}", config.policies.display(), policy.hash()));
            let look = "`chancery policy explain` shows what a request would meet";
            let warnings = policy.warnings(&world);
            std::iter::once(ok).chain(warnings.iter().map(|w| Finding::warning("policy", w, look))).collect()
        }
        Err(error) => {
            let fix = "correct the file; `chancery policy check` says the same";
            error.mistakes.iter().map(|mistake| Finding::failed("policy", mistake, fix)).collect()
        }
    }
}

/// Whether the ledger's folder takes writes, and has room for them. The ledger itself is not opened.
pub fn ledger(config: &Config) -> Vec<Finding> {
    let folder = nearest(state_folder(config));
    let shown = folder.display();
    let written = tempfile::NamedTempFile::new_in(&folder).and_then(|file| file.as_file().sync_all());
    if let Err(error) = written {
        let fix = "Chancery's user must be able to write there; is the disk full?";
        return vec![Finding::failed("ledger", format_args!("{shown}: {error}"), fix)];
    }
    let path = config.ledger.path.display();
    if let Some(url) = &config.ledger.url {
        let what = format!("{url}: shared by replicas; `chancery audit verify` reads all of it");
        return vec![Finding::ok("ledger", what)];
    }
    let mut findings = vec![match ledger::in_use(&config.ledger.path) {
        Ok(true) => Finding::ok("ledger", format_args!("{path}: a gateway has it open")),
        Ok(false) if config.ledger.path.exists() => {
            Finding::ok("ledger", format_args!("{path}: `chancery audit verify` reads all of it"))
        }
        Ok(false) => Finding::ok("ledger", format_args!("{path}: it will be made")),
        Err(error) => {
            let fix = "Chancery's user must be able to write the ledger's files";
            Finding::failed("ledger", format_args!("{path}: {error}"), fix)
        }
    }];
    match rustix::fs::statvfs(&folder) {
        Err(error) => {
            findings.push(Finding::warning("space", format_args!("{shown}: {error}"), "look at the disk"));
        }
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize).div_euclid(1024 * 1024);
            let what = format!("{shown}: {free} MiB free");
            let fix = "without room for the ledger nothing is signed: free some";
            findings.push(match free {
                _ if free < SPACE.1 => Finding::failed("space", what, fix),
                _ if free < SPACE.0 => Finding::warning("space", what, fix),
                _ => Finding::ok("space", what),
            });
        }
    }
    findings
}

fn state_folder(config: &Config) -> &Path {
    config.ledger.path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// The folder itself, or where it would be made.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|folder| folder.is_dir());
    there.filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::doctor::finding::State;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pin");
        assert_eq!(private("pin", &file).state, State::Failed);
        fs::write(&file, "").unwrap();
        assert_eq!(private("pin", &file).state, State::Failed);
        fs::write(&file, "1234").unwrap();
        for (mode, state) in [
            (0o600, State::Ok),
            (0o400, State::Ok),
            (0o640, State::Warning),
            (0o644, State::Failed),
            (0o660, State::Failed),
            (0o602, State::Failed),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(private("pin", &file).state, state, "{mode:o}");
        }
        assert_eq!(private("pin", folder.path()).state, State::Failed);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_for_above() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest(Path::new("no-such-folder/x")), Path::new("."));
    }
}
