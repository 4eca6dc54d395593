//! A SoftHSM2 token of its own, in a folder of its own.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

use super::authority::write_private;
use super::eventually;
use super::process::{Output, Process, run};
use super::tools::{Tool, softhsm_module, tool};

pub const LABEL: &str = "chancery";
/// What no log, no variable and no command line may show.
pub const PIN: &str = "24681357";

/// The token behind a socket, as a stand-in for one on the network: it can hang and go away.
#[derive(Debug)]
pub struct RemoteToken {
    server: Process,
    socket: PathBuf,
}

/// A token. Its folder belongs to the world that it was made for.
#[derive(Debug)]
pub struct Token {
    folder: PathBuf,
}

impl Token {
    pub async fn create(folder: &Path) -> Self {
        let token = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(folder.join("tokens")).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.join("tokens").display()
        );
        std::fs::write(token.configuration(), configuration).unwrap();
        write_private(&token.pin_file(), PIN);
        let mut init = Command::new(tool(Tool::SofthsmUtil));
        init.env("SOFTHSM2_CONF", token.configuration());
        init.args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN]);
        run(&mut init).await.well();
        token
    }

    /// Has the program make a key, and gives its address.
    pub async fn generate(&self, label: &str) -> Address {
        let text = self.keys(&["generate", "--label", label, "--json"]).await.well();
        let made: Value = serde_json::from_str(&text).expect(&text);
        made["address"].as_str().expect(&text).parse().unwrap()
    }

    /// `chancery keys …` on this token.
    pub async fn keys(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.env("SOFTHSM2_CONF", self.configuration());
        command.args(["keys", verb, "--token-label", LABEL]);
        command.arg("--module").arg(softhsm_module());
        command.arg("--pin-file").arg(self.pin_file()).args(rest);
        run(&mut command).await
    }

    /// Serves this token on a socket, by `p11-kit server`.
    pub async fn serve(&self) -> RemoteToken {
        let socket = self.folder.join("token.sock");
        drop(std::fs::remove_file(&socket));
        let mut command = Command::new(tool(Tool::P11Kit));
        command.args(["server", "--foreground", "--name"]).arg(&socket);
        command.arg("--provider").arg(softhsm_module()).arg(format!("pkcs11:token={LABEL}"));
        command.env("SOFTHSM2_CONF", self.configuration());
        let server = Process::start(&mut command);
        eventually("the token's socket", async || socket.exists().then_some(())).await;
        RemoteToken { server, socket }
    }

    /// Its `softhsm2.conf`.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// Puts another PIN into the file, not into the token.
    pub fn write_wrong_pin(&self) {
        write_private(&self.pin_file(), "00000000");
    }

    pub fn write_right_pin(&self) {
        write_private(&self.pin_file(), PIN);
    }
}

impl RemoteToken {
    /// What the module needs to know.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }

    /// Sends a signal to those who do the server's work, one for each connection.
    pub fn signal(&self, signal: Signal) {
        for child in self.server.children() {
            kill_process(child, signal).unwrap();
        }
    }

    /// Is gone, in the middle of everything.
    pub async fn vanish(self) {
        self.signal(Signal::KILL);
        self.server.signal(Signal::KILL);
        self.server.ends().await;
    }
}
