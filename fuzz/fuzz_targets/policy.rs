//! A policy file, however broken: it loads, or every mistake is named with its file.
#![no_main]

use std::cell::LazyCell;

use chancery::policy::Policy;
use chancery_fuzz::WORLD;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> =
        LazyCell::new(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder"));
}

fuzz_target!(|text: &str| {
    FOLDER.with(|folder| {
        std::fs::write(folder.path().join("rules.toml"), text).expect("a file");
        match Policy::load(folder.path(), &WORLD) {
            Ok(policy) => {
                let again = Policy::load(folder.path(), &WORLD).expect("it loads again");
                assert_eq!(policy.hash(), again.hash());
                let _ = policy.warnings(&WORLD);
            }
            Err(error) => assert!(error.to_string().contains("rules.toml"), "{error}"),
        }
    });
});
