//! The token of `tests/token/`, which fails on demand: alone, or in front of SoftHSM2.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, hex};
use tokio::process::Command;

use super::authority::write_private;
use super::gateway::World;
use super::process::{Output, run};
use super::token::{LABEL, PIN};
use super::tools::softhsm_module;

#[allow(dead_code, reason = "shared with the module, which uses the rest")]
#[path = "../../token/src/codes.rs"]
pub mod codes;
#[allow(dead_code, reason = "shared with the module, which uses the rest")]
#[path = "../../token/src/places.rs"]
pub mod places;

/// A folder that the module finds by its environment.
#[derive(Debug)]
pub struct TestToken {
    folder: PathBuf,
    /// Of the control file, so that each counts its own calls.
    number: AtomicU64,
}

/// A private key that only tests know.
#[derive(Clone, Debug)]
pub struct TestKey {
    pub address: Address,
    secret: [u8; 32],
}

impl TestKey {
    pub fn random() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let key = k256::ecdsa::SigningKey::from_slice(&secret).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        Self { address: Address::from_raw_public_key(&point.as_bytes()[1..]), secret }
    }

    pub fn secret(&self) -> String {
        hex::encode(self.secret)
    }

    /// The table of `token.toml` that holds it, with what is odd about it.
    pub fn named(&self, label: &str, odd: &str) -> String {
        format!(
            "[[key]]\nlabel = \"{label}\"\nid = \"{}\"\nsecret = \"{}\"\n{odd}\n",
            hex::encode(label),
            self.secret()
        )
    }
}

impl TestToken {
    /// A token of its own; `settings` is what `token.toml` has beside its label and PIN.
    pub fn alone(folder: &Path, settings: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        write_private(&folder.join("pin"), PIN);
        let token = Self { folder: folder.to_owned(), number: AtomicU64::new(0) };
        token.holds(settings);
        token
    }

    /// Instead of a world's SoftHSM2 token, with a key that its test knows.
    pub fn instead(world: World) -> (World, Self, TestKey) {
        let key = TestKey::random();
        let token = Self::alone(&world.folder().join("test-token"), &key.named("treasury", ""));
        let folder = token.folder.display().to_string();
        let pinned = format!("address = \"{}\"", world.treasury());
        let world = world
            .replace(&pinned, &format!("address = \"{}\"", key.address))
            .module(module(), &[("CHANCERY_TEST_TOKEN", &folder)])
            .lets_write(&token.folder);
        (world, token, key)
    }

    /// Changes what `token.toml` has beside label and PIN, for workers that start from now on.
    pub fn holds(&self, settings: &str) {
        let text = format!("label = \"{LABEL}\"\npin = \"{PIN}\"\n{settings}");
        std::fs::write(self.folder.join("token.toml"), text).unwrap();
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts one in front of a world's SoftHSM2 token.
    pub fn before(world: World) -> (World, Self) {
        let folder = world.folder().join("test-token");
        std::fs::create_dir_all(&folder).unwrap();
        let environment = [
            ("CHANCERY_TEST_TOKEN", folder.display().to_string()),
            ("CHANCERY_TEST_TOKEN_MODULE", softhsm_module().display().to_string()),
        ];
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
        let world = world.module(module(), &environment).lets_write(&folder);
        (world, Self { folder, number: AtomicU64::new(0) })
    }

    /// Puts one in front of a module, for a program that is told of it by [`TestToken::tell`].
    pub fn in_front(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self { folder: folder.to_owned(), number: AtomicU64::new(0) }
    }

    /// Tells a program that loads the module where it is, and that SoftHSM2 stands behind it.
    pub fn tell(&self, command: &mut Command) {
        command.env("CHANCERY_TEST_TOKEN", &self.folder);
        command.env("CHANCERY_TEST_TOKEN_MODULE", softhsm_module());
    }

    /// The `[[token]]` table of a configuration.
    pub fn table(&self, name: &str, sessions: usize) -> String {
        format!(
            "[[token]]\nname = \"{name}\"\nlabel = \"{LABEL}\"\nmodule = \"{}\"\npin_file = \"{}\"\n\
             sessions = {sessions}\nenvironment.CHANCERY_TEST_TOKEN = \"{}\"\nfiles = [\"{}\"]\n",
            module().display(),
            self.pin_file().display(),
            self.folder.display(),
            self.folder.display(),
        )
    }

    /// `chancery keys …` on this token, which no configuration names.
    pub async fn keys(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.env("CHANCERY_TEST_TOKEN", &self.folder).args(["keys", verb, "--token-label", LABEL]);
        command.arg("--module").arg(module()).arg("--pin-file").arg(self.pin_file()).args(rest);
        run(&mut command).await
    }

    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// From now on, and until others take their place, these faults happen: each an inline table of `control.toml`.
    pub fn faults(&self, faults: &[&str]) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = format!("number = {number}\n");
        for fault in faults {
            writeln!(text, "[[fault]]\n{}", fault.replace("; ", "\n")).unwrap();
        }
        let new = self.folder.join("control.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join("control.toml")).unwrap();
    }

    pub fn lift(&self) {
        self.faults(&[]);
    }

    /// What came of what the module was to try, once it has.
    pub fn tried(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("tried")).ok()
    }

    /// How often a function was called, over all processes.
    pub fn calls(&self, function: &str) -> u64 {
        let place = places::FUNCTIONS.iter().position(|name| *name == function).expect(function);
        self.count(place.try_into().unwrap())
    }

    /// What stands at one of the [`places`].
    pub fn count(&self, place: u64) -> u64 {
        let Ok(file) = std::fs::File::open(self.folder.join("counts")) else { return 0 };
        let mut bytes = [0; 8];
        // What was never counted is zero.
        let _ = file.read_exact_at(&mut bytes, place * 8);
        u64::from_le_bytes(bytes)
    }
}

/// The module; built once, as it is no part of the program.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_chancery")).parent().unwrap();
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args(["build", "--package", "chancery-test-token", "--locked", "--quiet"]);
        build.args(folder.ends_with("release").then_some("--release"));
        build.arg("--target-dir").arg(folder.parent().unwrap());
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the test token does not build");
        folder.join("libchancery_test_token.so")
    })
}
