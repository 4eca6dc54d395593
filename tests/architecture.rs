//! The shape of the tree, as a test: who may import whom, where foreign crates
//! may be named, how long a file may be, and that each says what it is for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// A module of `src/`, and the modules it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // leaves
    ("body", &[]),
    ("clock", &[]),
    ("log", &[]),
    ("metrics", &[]),
    ("room", &[]),
    ("seats", &[]),
    ("secret", &[]),
    ("turns", &[]),
    ("config", &["secret", "transaction"]),
    // the path of a request: each takes what the one before it made
    ("listener", &["body", "clock", "config", "identity", "log", "metrics", "seats", "turns"]),
    ("identity", &["clock", "config", "room"]),
    ("rpc", &["body", "clock", "config", "identity", "methods", "metrics", "room", "turns"]),
    (
        "methods",
        &[
            "clock",
            "config",
            "identity",
            "ledger",
            "metrics",
            "policy",
            "room",
            "seats",
            "signer",
            "transaction",
            "upstream",
        ],
    ),
    ("transaction", &[]),
    ("policy", &["clock", "config", "identity", "transaction"]),
    ("ledger", &["clock", "config", "identity", "metrics", "policy", "secret", "transaction"]),
    ("signer", &["clock", "config", "ledger", "log", "metrics", "secret", "transaction"]),
    ("upstream", &["clock", "config", "ledger", "metrics", "room", "seats", "secret", "transaction"]),
    // what watches the path, and what starts it
    (
        "audit",
        &[
            "clock",
            "config",
            "identity",
            "ledger",
            "listener",
            "metrics",
            "policy",
            "secret",
            "signer",
            "transaction",
        ],
    ),
    (
        "admin",
        &[
            "audit",
            "body",
            "clock",
            "config",
            "identity",
            "ledger",
            "listener",
            "methods",
            "metrics",
            "policy",
            "signer",
            "transaction",
            "upstream",
        ],
    ),
    (
        "cmd",
        &[
            "admin",
            "audit",
            "clock",
            "config",
            "identity",
            "ledger",
            "listener",
            "log",
            "methods",
            "metrics",
            "policy",
            "rpc",
            "secret",
            "signer",
            "transaction",
            "upstream",
        ],
    ),
    ("cli", &["cmd"]),
];

/// A foreign crate, and the only places it may be named.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("clap::", &["cli.rs", "cmd/"]),
    ("cryptoki::", &["cmd/connect/card.rs", "signer/"]),
    // Whoever reads it may stand still.
    ("eprint", &["cmd/"]),
    ("io::stderr", &["cmd/", "log.rs"]),
    ("jsonrpsee::", &["methods/", "rpc/", "upstream/"]),
    ("rustls::", &["audit/webhook.rs", "cmd/connect.rs", "cmd/connect/", "listener/", "upstream/"]),
    ("rusqlite::", &["ledger/db/"]),
    ("sqlx::", &["ledger/db/"]),
];

const MAX_LINES: usize = 400;

#[test]
fn imports_follow_the_request() {
    for (file, text) in sources() {
        let module = module_of(&file);
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            panic!("{}: add `{module}` to MAY_IMPORT", file.display());
        };
        for import in text.split("crate::").skip(1) {
            let target = import.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(!target.is_empty(), "{}: one `use crate::a::b` a line", file.display());
            assert!(
                target == module || allowed.contains(&target),
                "{}: `{module}` may not import `{target}`",
                file.display()
            );
        }
        assert!(!text.contains("super::super"), "{}: say `crate::`", file.display());
        assert!(!(file.ends_with("mod.rs") && text.contains("super::")), "{}: say `crate::`", file.display());
    }
}

#[test]
fn foreign_crates_stay_in_their_place() {
    for (file, text) in sources() {
        for (name, places) in ONLY_IN {
            let in_place = places.iter().any(|place| file.starts_with(place));
            assert!(in_place || !text.contains(name), "{}: {name} is not for here", file.display());
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{}: no `//!` first line", file.display());
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines", file.display());
    }
}

fn module_of(file: &Path) -> String {
    let first = file.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Each source file without its tests, which may reach where the program may not.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert!(path.extension().is_some_and(|e| e == "rs"), "{}: only .rs in src", path.display());
            let text = fs::read_to_string(&path).unwrap();
            let file = path.strip_prefix(&root).unwrap().to_owned();
            found.push((file.clone(), without_tests(&file, &text)));
        }
    }
    found
}

/// Cuts the one `mod tests { .. }` off; it must be last, so nothing can hide behind it.
fn without_tests(file: &Path, text: &str) -> String {
    let Some((program, tests)) = text.split_once("#[cfg(test)]") else {
        return text.to_owned();
    };
    let last = tests.starts_with("\nmod tests {") && tests.trim_end().ends_with("\n}");
    assert!(last && tests.matches("\n}").count() == 1, "{}: tests go last", file.display());
    program.to_owned()
}
