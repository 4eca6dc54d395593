//! The unit of `deploy/systemd/` under a systemd of this test's own, which looks after a user's services.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio::process::Command;

use super::World;
use super::identities::{card_uri, plug_in};
use crate::kit::{Output, Process, TestToken, Token, eventually, repository, run, test_token};

/// A `systemd --user`; it ends its services with itself.
struct Systemd {
    process: Process,
    runtime: PathBuf,
    config: PathBuf,
}

/// The program runs only on a machine that systemd has started, where mounts are shared: here that is so where nobody else looks.
const SYSTEMD: &str = "mount --make-rshared / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec /usr/lib/systemd/systemd --user";

/// Only root may hide a folder from others.
fn as_root(words: &[&str], environment: &[(&str, &Path)]) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "env"]);
        command
    };
    command.args(environment.iter().map(|(name, value)| format!("{name}={}", value.display())));
    command.args(words);
    command
}

impl Systemd {
    async fn start(folder: &Path) -> Self {
        let (runtime, config) = (folder.join("run"), folder.join("config"));
        for made in [&runtime, &config.join("systemd/user"), &config.join("chancery")] {
            run(&mut as_root(&["install", "-d", "-m", "700", made.to_str().unwrap()], &[])).await.well();
        }
        let environment =
            [("XDG_RUNTIME_DIR", runtime.as_path()), ("XDG_CONFIG_HOME", &config), ("HOME", folder)];
        let process =
            Process::start(&mut as_root(&["unshare", "--mount", "sh", "-c", SYSTEMD], &environment));
        let systemd = Self { process, runtime, config };
        let is_there = async || (systemd.control(&["list-units"]).await.code == Some(0)).then_some(());
        eventually("systemd is there", is_there).await;
        systemd
    }

    /// Puts a file below the configuration, and has it read.
    async fn write(&self, name: &str, text: &str) {
        let young = tempfile::NamedTempFile::new().unwrap();
        fs::write(&young, text).unwrap();
        let to = self.config.join(name);
        let words = ["install", "-D", "-m", "600", young.path().to_str().unwrap(), to.to_str().unwrap()];
        run(&mut as_root(&words, &[])).await.well();
        self.control(&["daemon-reload"]).await.well();
    }

    /// The unit as it stands in the tree, of the program as built, and what a user adds to it.
    async fn knows_the_unit(&self, more: &str) {
        let unit = repository().join("deploy/systemd/chancery-connect@.service");
        let unit = fs::read_to_string(unit).unwrap();
        let there = "ExecStart=/usr/local/bin/chancery ";
        assert!(unit.contains(there));
        let unit = unit.replace(there, &format!("ExecStart={} ", env!("CARGO_BIN_EXE_chancery")));
        self.write("systemd/user/chancery-connect@.service", &unit).await;
        self.write("systemd/user/chancery-connect@desk.service.d/desk.conf", &format!("[Service]\n{more}\n"))
            .await;
    }

    async fn control(&self, words: &[&str]) -> Output {
        let environment = [("XDG_RUNTIME_DIR", self.runtime.as_path())];
        run(&mut as_root(&[&["systemctl", "--user"], words].concat(), &environment)).await
    }

    /// What it says of the connector.
    async fn says(&self, property: &str) -> String {
        let said = self.control(&["show", "--value", "--property", property, "chancery-connect@desk"]).await;
        said.well().trim().to_owned()
    }

    /// Whether the connector reaches its gateway.
    async fn is_connected(&self) -> Option<()> {
        let words = [env!("CARGO_BIN_EXE_chancery"), "connect", "desk", "status"];
        let environment = [("XDG_RUNTIME_DIR", self.runtime.as_path()), ("XDG_CONFIG_HOME", &self.config)];
        let status = run(&mut as_root(&words, &environment)).await;
        (status.code == Some(0)).then_some(())
    }
}

impl Drop for Systemd {
    #[expect(clippy::disallowed_methods, reason = "the test is over, and there is nobody to wait for")]
    fn drop(&mut self) {
        if self.process.has_ended() {
            return;
        }
        // It ends what it has started, which would live on if it were killed.
        self.process.signal(Signal::TERM);
        for _ in 0..100 {
            if self.process.has_ended() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[tokio::test]
async fn the_unit_keeps_a_connector_running_with_credentials_of_systemds() {
    let world = World::new().await;
    let systemd = Systemd::start(world.folder.path()).await;
    let profile = format!(
        "[desk]\nurl = \"{}\"\ncert = \"credential:trader.pem\"\nkey = \"credential:trader.key\"\nca = \"credential:ca.pem\"\n",
        world.url()
    );
    systemd.write("chancery/connect.toml", &profile).await;
    let credentials = ["trader.pem", "trader.key", "ca.pem"]
        .map(|name| format!("LoadCredential={name}:{}", world.file(name).display()));
    systemd.knows_the_unit(&credentials.join("\n")).await;
    systemd.control(&["start", "chancery-connect@desk"]).await.well();
    eventually("it is connected", async || systemd.is_connected().await).await;

    systemd.control(&["kill", "--signal", "KILL", "chancery-connect@desk"]).await.well();
    eventually("it is started anew", async || (systemd.says("NRestarts").await == "1").then_some(())).await;
    eventually("it is connected again", async || systemd.is_connected().await).await;
    systemd.control(&["stop", "chancery-connect@desk"]).await.well();
    assert!(systemd.is_connected().await.is_none());
}

#[tokio::test]
async fn the_unit_does_not_lock_a_card_with_a_wrong_pin() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    plug_in(&world, &token, "01", &rcgen::KeyPair::generate().unwrap()).await;
    token.write_wrong_pin();
    let front = TestToken::in_front(&world.file("front"));
    let systemd = Systemd::start(world.folder.path()).await;
    let profile = format!(
        "[desk]\nurl = \"{}\"\ncert = \"{}\"\npassword_file = \"{}\"\nca = \"{}\"\n",
        world.url(),
        card_uri(test_token::module(), ";id=%01"),
        token.pin_file().display(),
        world.file("ca.pem").display()
    );
    systemd.write("chancery/connect.toml", &profile).await;
    let mut environment = Command::new("true");
    front.tell(environment.env("SOFTHSM2_CONF", token.configuration()));
    let lines = environment
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some(format!("Environment={}={}", name.to_str()?, value?.to_str()?)));
    // Soon, so that a unit that is started again shows it.
    systemd.knows_the_unit(&format!("RestartSec=100ms\n{}", lines.collect::<Vec<_>>().join("\n"))).await;
    systemd.control(&["start", "chancery-connect@desk"]).await;
    let failed = async || (systemd.says("ActiveState").await == "failed").then_some(());
    eventually("it is given up", failed).await;
    assert_eq!(systemd.says("ExecMainStatus").await, "77");
    assert_eq!(systemd.says("NRestarts").await, "0");
    assert_eq!(front.calls("C_Login"), 1);
}
