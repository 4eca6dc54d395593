//! A PKCS#11 module for tests, which fails on demand. `CHANCERY_TEST_TOKEN` names its folder:
//!
//! - `token.toml` says what the token is and holds, unless `CHANCERY_TEST_TOKEN_MODULE` names another module, which is
//!   then asked instead;
//! - `control.toml` says what goes wrong now; it may change at any time;
//! - `tried` has what came of what it was to try as if it had been taken over;
//! - `counts` has how often each function was called, over all processes.
//!
//! Keys lie in clear in `token.toml`: this protects nothing, and is no part of the program.

#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    reason = "a module for tests, on 64 bits only, written against a C interface"
)]

mod attempts;
mod codes;
mod control;
mod counts;
mod front;
mod own;
mod places;
mod settings;
mod token;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use control::Watched;
use counts::Counts;

pub use front::C_GetFunctionList;

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::var_os("CHANCERY_TEST_TOKEN");
        folder.expect("CHANCERY_TEST_TOKEN names the test token's folder").into()
    })
}

fn counts() -> &'static Counts {
    static COUNTS: OnceLock<Counts> = OnceLock::new();
    COUNTS.get_or_init(|| Counts::open(folder()))
}

fn control() -> &'static Watched {
    static CONTROL: OnceLock<Watched> = OnceLock::new();
    CONTROL.get_or_init(|| Watched::new(folder()))
}
