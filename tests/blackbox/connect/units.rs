//! The units of `deploy/systemd/`: as systemd reads them; and the connector's as a user starts it, unchanged, under a systemd of
//! this test's own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rcgen::KeyPair;
use tokio::process::Command;

use super::World;
use super::identities::{card_uri, plug_in};
use crate::kit::{Output, TestToken, Token, Tool, eventually, repository, run, test_token, tool};

/// Of the one connector that there is.
const UNIT: &str = "chancery-connect@desk";

/// A `systemd --user` with a configuration of its own; it ends its services with itself.
struct Systemd {
    script: Child,
    folder: PathBuf,
    log: PathBuf,
}

/// Only root may mount.
fn as_root(words: &[&str]) -> Command {
    let root: &[&str] = if rustix::process::geteuid().is_root() { &["env"] } else { &["sudo", "-n", "env"] };
    let mut command = Command::new(root[0]);
    command.args(&root[1..]).args(words);
    command
}

impl Systemd {
    /// With the unit as it stands in the tree, what its user adds to it, and these files beside his profiles.
    async fn start(world: &World, more: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let folder = world.file("systemd");
        let write = |name: &str, content: &[u8]| {
            let file = folder.join("config").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let unit = fs::read(repository().join("deploy/systemd/chancery-connect@.service")).unwrap();
        write("systemd/user/chancery-connect@.service", &unit);
        write(&format!("systemd/user/{UNIT}.service.d/override.conf"), more.as_bytes());
        for (name, content) in files {
            write(&format!("chancery/{name}"), content);
        }
        let log = world.file("systemd.log");
        let script = repository().join("tests/blackbox/connect/systemd.sh");
        let words =
            ["sh", script.to_str().unwrap(), folder.to_str().unwrap(), env!("CARGO_BIN_EXE_chancery")];
        let mut command = as_root(&words).into_std();
        command.stdin(Stdio::piped()).stdout(fs::File::create(&log).unwrap());
        let script = command.stderr(fs::File::options().append(true).open(&log).unwrap()).spawn().unwrap();
        let mut systemd = Self { script, folder, log };
        let is_there = async || {
            assert!(systemd.script.try_wait().unwrap().is_none(), "root is needed, who may mount");
            let pid =
                fs::read_to_string(systemd.folder.join("pid")).ok().filter(|pid| pid.ends_with('\n'))?;
            let words = ["systemctl", "--user", "list-units"];
            (run(&mut within(&systemd.folder, pid.trim(), &words)).await.code == Some(0)).then_some(())
        };
        eventually("systemd is there", is_there).await;
        systemd
    }

    /// What one of its user's commands says.
    async fn user(&self, words: &[&str]) -> Output {
        let pid = fs::read_to_string(self.folder.join("pid")).unwrap();
        run(&mut within(&self.folder, pid.trim(), words)).await
    }

    async fn control(&self, words: &[&str]) -> Output {
        self.user(&[&["systemctl", "--user"], words].concat()).await
    }

    /// What it says of the connector.
    async fn says(&self, property: &str) -> String {
        let said = self.control(&["show", "--value", "--property", property, UNIT]).await;
        said.well().trim().to_owned()
    }

    /// Whether the connector reaches its gateway.
    async fn is_connected(&self) -> bool {
        self.user(&["/usr/local/bin/chancery", "connect", "desk", "status"]).await.code == Some(0)
    }

    async fn connects(&self) {
        eventually("it is connected", async || self.is_connected().await.then_some(())).await;
    }
}

/// A command of its user's, where it looks.
fn within(folder: &Path, pid: &str, words: &[&str]) -> Command {
    let mut command = as_root(&["-u", "CREDENTIALS_DIRECTORY"]);
    command.arg(format!("XDG_RUNTIME_DIR={}", folder.join("run").display()));
    command.arg(format!("XDG_CONFIG_HOME={}", folder.join("config").display()));
    command.arg(format!("HOME={}", folder.display()));
    command.args(["nsenter", "--mount", "--target", pid]).args(words);
    command
}

impl Drop for Systemd {
    #[expect(clippy::print_stdout, reason = "whose test failed wants to know")]
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let ended = self.script.wait();
        if std::thread::panicking() {
            println!("{ended:?}: {}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn profile(world: &World, identity: &str) -> Vec<u8> {
    format!("[desk]\nurl = \"{}\"\nca = \"ca.pem\"\n{identity}\n", world.url()).into_bytes()
}

#[tokio::test]
async fn the_unit_keeps_a_connector_running_with_credentials_of_systemds() {
    let world = World::new().await;
    world.container(&[]).await;
    let read = |name: &str| fs::read(world.file(name)).unwrap();
    let identity = "cert = \"credential:desk.p12\"\npassword_file = \"credential:desk.password\"";
    let files = [
        ("connect.toml", profile(&world, identity)),
        ("desk.p12", read("trader.p12")),
        ("desk.password", read("password")),
        ("ca.pem", read("ca.pem")),
    ];
    let more = "[Service]\nLoadCredential=desk.p12:%E/chancery/desk.p12\n\
                LoadCredential=desk.password:%E/chancery/desk.password\n";
    let systemd = Systemd::start(&world, more, &files).await;
    systemd.control(&["enable", "--now", UNIT]).await.well();
    systemd.connects().await;
    let socket = systemd.folder.join("run/chancery/desk.ipc");
    let cast = tool(Tool::Cast);
    let ask = [cast.to_str().unwrap(), "block-number", "--rpc-url", socket.to_str().unwrap()];
    assert_eq!(systemd.user(&ask).await.well().trim(), "16");

    systemd.control(&["kill", "--signal", "KILL", UNIT]).await.well();
    eventually("it is started anew", async || (systemd.says("NRestarts").await == "1").then_some(())).await;
    systemd.connects().await;
    systemd.control(&["stop", UNIT]).await.well();
    assert!(!systemd.is_connected().await);
    assert_eq!(systemd.says("Result").await, "success");
}

#[tokio::test]
async fn the_unit_does_not_lock_a_card_with_a_wrong_pin() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    plug_in(&world, &token, "01", &KeyPair::generate().unwrap()).await;
    token.write_wrong_pin();
    let front = TestToken::in_front(&world.file("front"));
    let card = card_uri(test_token::module(), ";id=%01");
    let identity = format!("cert = \"{card}\"\npassword_file = \"{}\"", token.pin_file().display());
    let files =
        [("connect.toml", profile(&world, &identity)), ("ca.pem", fs::read(world.file("ca.pem")).unwrap())];
    let mut told = Command::new("true");
    front.tell(told.env("SOFTHSM2_CONF", token.configuration()));
    // Soon, so that a unit that is started again shows it.
    let mut more = "[Service]\nRestartSec=100ms\n".to_owned();
    for (name, value) in told.as_std().get_envs() {
        let (name, value) = (name.to_str().unwrap(), value.unwrap().to_str().unwrap());
        writeln!(more, "Environment={name}={value}").unwrap();
    }
    let systemd = Systemd::start(&world, &more, &files).await;
    systemd.control(&["start", UNIT]).await;
    let given_up = async || (systemd.says("ActiveState").await == "failed").then_some(());
    eventually("it is given up", given_up).await;
    assert_eq!(systemd.says("ExecMainStatus").await, "77");
    assert_eq!(systemd.says("NRestarts").await, "0");
    assert_eq!(front.calls("C_Login"), 1);
}

/// What it does not know it skips, with a word on stderr: also what would have kept somebody out.
#[tokio::test]
async fn systemd_understands_every_line_of_the_units() {
    let folder = tempfile::TempDir::with_prefix("chancery-units-").unwrap();
    let mut units = Vec::new();
    for entry in fs::read_dir(repository().join("deploy/systemd")).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        // It wants the program to be there.
        let text = text.replace("/usr/local/bin/chancery", env!("CARGO_BIN_EXE_chancery"));
        let unit = folder.path().join(entry.file_name());
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    assert!(units.len() >= 5, "{units:?}");
    let (users, systems): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|unit| unit.to_str().unwrap().contains('@'));
    for (whose, units) in [("--user", users), ("--system", systems)] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args([whose, "verify", "--man=no", "--recursive-errors=no"]).args(units);
        let said = run(analyze.env("XDG_RUNTIME_DIR", folder.path())).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let ours: Vec<_> = said.stderr.lines().filter(|line| line.contains("chancery")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}
