//! Finds the programs that the tests use. What is missing fails the test and says how to get it; nothing is skipped.

use std::env;
use std::path::{Path, PathBuf};

/// A program that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Anvil,
    Cast,
    Forge,
    /// The Solidity compiler for forge: npm's `solc` behind a small command-line shim.
    Solc,
    SofthsmUtil,
    /// Serves a module over a socket.
    P11Kit,
    /// Writes certificates into tokens.
    CardWriter,
    /// Looks at a TLS server from outside.
    Sslyze,
}

impl Tool {
    const fn program(self) -> &'static str {
        match self {
            Self::Anvil => "anvil",
            Self::Cast => "cast",
            Self::Forge => "forge",
            Self::Solc => "solc",
            Self::SofthsmUtil => "softhsm2-util",
            Self::P11Kit => "p11-kit",
            Self::CardWriter => "pkcs11-tool",
            Self::Sslyze => "sslyze",
        }
    }

    /// The variable that names the program outright.
    const fn variable(self) -> &'static str {
        match self {
            Self::Anvil => "ANVIL",
            Self::Cast => "CAST",
            Self::Forge => "FORGE",
            Self::Solc => "SOLC",
            Self::SofthsmUtil => "SOFTHSM2_UTIL",
            Self::P11Kit => "P11_KIT",
            Self::CardWriter => "PKCS11_TOOL",
            Self::Sslyze => "SSLYZE",
        }
    }
}

/// Where `tool` is: by its variable, else where `scripts/setup` puts it, else on the PATH.
pub fn tool(tool: Tool) -> PathBuf {
    if let Some(named) = env::var_os(tool.variable()) {
        return PathBuf::from(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(repository().join(".tools/bin"))
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(tool.program()))
        .find(|program| program.is_file())
        .unwrap_or_else(|| missing(tool.program(), tool.variable()))
}

/// The SoftHSM2 module.
pub fn softhsm_module() -> PathBuf {
    library(
        "SOFTHSM2_MODULE",
        &[
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/opt/homebrew/lib/softhsm/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        ],
    )
}

/// OpenSC's module that writes down every call and passes it on.
pub fn spy_module() -> PathBuf {
    library(
        "PKCS11_SPY_MODULE",
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
            "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
            "/usr/lib64/pkcs11-spy.so",
            "/opt/homebrew/lib/pkcs11-spy.so",
        ],
    )
}

/// The module that reaches another one behind `p11-kit server`.
pub fn remote_module() -> PathBuf {
    library(
        "P11_KIT_CLIENT_MODULE",
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
            "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
            "/usr/lib64/pkcs11/p11-kit-client.so",
            "/opt/homebrew/lib/pkcs11/p11-kit-client.so",
        ],
    )
}

/// The root of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn library(variable: &str, places: &[&str]) -> PathBuf {
    if let Some(named) = env::var_os(variable) {
        return PathBuf::from(named);
    }
    places
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .unwrap_or_else(|| missing(places[0], variable))
}

fn missing(what: &str, variable: &str) -> ! {
    panic!("{what} is not installed. `scripts/setup` installs it; or set {variable} to where it is.")
}
