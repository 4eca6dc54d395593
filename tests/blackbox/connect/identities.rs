//! As whom `connect` speaks: by a profile, a PKCS#12 file, a key in a token, a credential of systemd's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{PATIENCE, World, call};
use crate::connect::stand_in::{Deed, StandIn};
use crate::kit::{LABEL, PIN, TestToken, Token, Tool, eventually, run, softhsm_module, test_token, tool};

const PASSWORD: &str = "open sésame";

impl World {
    /// `chancery connect …` as nobody: the certificate is for the test to say.
    pub fn bare(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.env("XDG_RUNTIME_DIR", self.folder.path()).env("CHANCERY_CA", self.file("ca.pem"));
        command.env_remove("XDG_CONFIG_HOME").arg("--json").arg("connect").args(words);
        command
    }

    /// The trader's certificate and key in one file.
    pub async fn container(&self, more: &[&str]) {
        fs::write(self.file("password"), PASSWORD).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-export", "-passout"]).arg(format!("pass:{PASSWORD}"));
        openssl.arg("-in").arg(self.file("trader.pem")).arg("-inkey").arg(self.file("trader.key"));
        run(openssl.arg("-out").arg(self.file("trader.p12")).args(more)).await.well();
    }

    async fn answers(&self, command: &mut Command) {
        let connector = self.start(command).await;
        let answer = connector.call(call(1, "x", json!([1]))).await;
        assert_eq!(answer["result"], json!([1]), "{answer}");
        assert_eq!(connector.stop().await.code, Some(0));
    }
}

#[tokio::test]
async fn a_pkcs12_file_is_opened_by_its_password() {
    let world = World::new().await;
    let url = world.url();
    let file = world.file("trader.p12").display().to_string();
    // As OpenSSL 3 writes it; as Windows and older programs do; with the authority in it.
    let ca = world.file("ca.pem").display().to_string();
    for more in [
        &[][..],
        &["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        &["-certfile", &ca, "-name", "desk"],
    ] {
        world.container(more).await;
        let mut command = world.bare(&[&url, "--cert", &file]);
        world.answers(command.env("CHANCERY_PASSWORD_FILE", world.file("password"))).await;
    }
    fs::write(world.file("password"), "sesame").unwrap();
    let mut command = world.bare(&[&url, "--cert", &file]);
    let output = run(command.env("CHANCERY_PASSWORD_FILE", world.file("password"))).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("its password the right one"), "{}", output.stderr);
    fs::set_permissions(world.file("password"), fs::Permissions::from_mode(0o620)).unwrap();
    let mut command = world.bare(&[&url, "--cert", &file]);
    let output = run(command.env("CHANCERY_PASSWORD_FILE", world.file("password"))).await;
    assert!(output.stderr.contains("others can replace this password (mode 620)"), "{}", output.stderr);
    fs::set_permissions(world.file("password"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(world.file("trader.p12"), fs::Permissions::from_mode(0o620)).unwrap();
    let mut command = world.bare(&[&url, "--cert", &file]);
    let output = run(command.env("CHANCERY_PASSWORD_FILE", world.file("password"))).await;
    assert!(output.stderr.contains("others can replace this key (mode 620)"), "{}", output.stderr);
    fs::set_permissions(world.file("trader.p12"), fs::Permissions::from_mode(0o600)).unwrap();
    // Nobody can be asked here, and a certificate in PEM is not one in PKCS#12.
    let mut alone = Command::new("setsid");
    let command = world.bare(&[&url, "--cert", &file]);
    alone.arg("-w").arg(command.as_std().get_program()).args(command.as_std().get_args());
    let output = run(alone.env("CHANCERY_CA", world.file("ca.pem"))).await;
    assert!(output.stderr.contains("there is no terminal"), "{}", output.stderr);
    let output = run(&mut world.bare(&[&url, "--cert", world.file("trader.pem").to_str().unwrap()])).await;
    assert!(output.stderr.contains("a certificate in PEM needs its key"), "{}", output.stderr);
}

/// Somebody at a terminal, where one command runs.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    fn runs(world: &World, command: &str, tell: impl FnOnce(&mut Command)) -> Self {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
        script.env("XDG_RUNTIME_DIR", world.folder.path()).env("CHANCERY_CA", world.file("ca.pem"));
        tell(&mut script);
        let mut child =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keys, screen, seen: String::new() }
    }

    async fn shows(&mut self, what: &str) {
        let mut bytes = [0; 1024];
        let shown = async {
            while !self.seen.contains(what) {
                let read = self.screen.read(&mut bytes).await.unwrap();
                assert!(read > 0, "it has ended: {}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        };
        assert!(timeout(PATIENCE, shown).await.is_ok(), "{what} is not shown: {}", self.seen);
    }

    async fn types(&mut self, line: &str) {
        // What was typed before the question is thrown away.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.keys.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Whether it ended well, and all that was shown.
    async fn ends(mut self) -> (bool, String) {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.screen.read_to_end(&mut rest)).await.expect("it ends").unwrap();
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        (self.child.wait().await.unwrap().success(), self.seen)
    }
}

#[tokio::test]
async fn inv_07_a_password_is_asked_for_at_the_terminal_and_not_shown() {
    let world = World::new().await;
    world.container(&[]).await;
    let command = format!(
        "{} connect {} --cert {} run -- echo done",
        env!("CARGO_BIN_EXE_chancery"),
        world.url(),
        world.file("trader.p12").display(),
    );
    let mut terminal = Terminal::runs(&world, &command, |_| {});
    terminal.shows("trader.p12: ").await;
    terminal.types(PASSWORD).await;
    let (well, seen) = terminal.ends().await;
    assert!(well && seen.contains("done") && !seen.contains("sésame"), "{seen}");
}

#[tokio::test]
async fn a_pin_that_was_typed_is_tried_once_and_not_again_when_the_token_has_another() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    plug_in(&world, &token, "01", &KeyPair::generate().unwrap()).await;
    let front = TestToken::in_front(&world.file("front"));
    let command = format!(
        "{} --json connect {} --cert '{}'",
        env!("CARGO_BIN_EXE_chancery"),
        world.url(),
        card_uri(test_token::module(), ";id=%01"),
    );
    let mut terminal = Terminal::runs(&world, &command, |script| {
        front.tell(script.env("SOFTHSM2_CONF", token.configuration()));
    });
    terminal.shows(&format!("PIN of {LABEL}: ")).await;
    terminal.types(PIN).await;
    terminal.shows(".ipc\"").await;
    let address = world.gateway.address();
    let socket = world.file("chancery").join(format!("{}-{}.ipc", address.ip(), address.port()));
    let ask = async || {
        let (reader, mut writer) = UnixStream::connect(&socket).await.unwrap().into_split();
        writer.write_all(call(1, "x", json!([1])).to_string().as_bytes()).await.unwrap();
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).await.unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(ask().await["result"], json!([1]));

    let logins = front.calls("C_Login");
    let changed = "on = \"C_Login\"; code = \"CKR_PIN_INCORRECT\"";
    front.faults(&[changed, "on = \"C_Sign\"; times = 1; lose = \"sessions\""]);
    is_refused_once(&world, ask).await;
    assert_eq!(front.calls("C_Login"), logins + 1, "a few wrong PINs lock a card for good");
}

/// The token is needed anew, and it is asked on and on although it refuses the PIN now.
async fn is_refused_once(world: &World, ask: impl AsyncFn() -> Value) {
    world.gateway.does([Deed::AnswerAndRetire]);
    ask().await;
    let error =
        eventually("it fails", async || Some(ask().await["error"].clone()).filter(Value::is_object)).await;
    assert_eq!(error["data"]["code"], "certificate_key_unavailable", "{error}");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask().await;
    }
}

#[tokio::test]
async fn the_last_try_of_a_token_is_not_ours_to_make() {
    let world = World::new().await;
    let token = TestToken::alone(&world.file("last"), "final_try = true\n");
    let mut command = world.bare(&[&world.url(), "--cert", &card_uri(test_token::module(), "")]);
    command.env("CHANCERY_TEST_TOKEN", token.folder()).env("CHANCERY_PASSWORD_FILE", token.pin_file());
    let output = run(&mut command).await;
    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(output.stderr.contains("one more wrong PIN locks the token"), "{}", output.stderr);
    assert_eq!(token.calls("C_Login"), 0);
}

#[tokio::test]
async fn a_profile_says_where_the_gateway_is_and_who_we_are() {
    let mut world = World::new().await;
    let file = world.file("connect.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let profile =
        format!("url = \"{}\"\ncert = \"trader.pem\"\nkey = \"trader.key\"\nca = \"ca.pem\"\n", world.url());
    write(&format!("[default]\n{profile}\n[desk]\n{profile}http = 0\n"));
    let command = |words: &[&str]| {
        let mut command = world.bare(words);
        command.env_remove("CHANCERY_CA").env("CHANCERY_PROFILES", &file);
        command
    };
    world.answers(&mut command(&[])).await;
    let desk = world.start(&mut command(&["desk"])).await;
    assert_eq!(desk.socket.file_name().unwrap(), "desk.ipc");
    assert!(desk.http.as_ref().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(desk.call(call(1, "x", json!([1]))).await["result"], json!([1]));

    // Beside each other, each under its name; and each says how it is.
    let other = world.start(&mut command(&["default"])).await;
    let asked = run(&mut command(&["status"])).await;
    assert_eq!(asked.code, Some(0), "{asked:?}");
    let all: Vec<Value> = asked.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 2, "{asked:?}");
    let (status, token) = (&all[1], desk.http.as_ref().unwrap().rsplit_once('/').unwrap().1);
    assert_eq!((&status["connected"], &status["under_way"]), (&json!(true), &json!(0)));
    assert_eq!(status["socket"], desk.socket.to_str().unwrap());
    assert_eq!(status["certificate"]["subject"], "CN=trader");
    assert!(!asked.stdout.contains(token), "the URL is a password");
    other.stop().await;

    // One that does not reach its gateway is told, and one that was killed is none.
    let address = world.gateway.address();
    world.gateway = StandIn::start(&world.authority).await;
    // It finds out a moment later that its connection is lost.
    let told = async || {
        let asked = run(world.bare(&["desk", "status"]).env("CHANCERY_PROFILES", &file)).await;
        (asked.code == Some(3)).then_some(asked)
    };
    let asked = eventually("it is told", told).await;
    let status: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!(status["trouble"]["code"], "gateway_unreachable");
    let _back = StandIn::start_at(&world.authority, address).await;
    desk.process.signal(Signal::KILL);
    desk.process.ends().await;
    let asked = run(&mut world.bare(&["status"])).await;
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.stderr.contains("no connector of yours is running"), "{}", asked.stderr);
}

#[tokio::test]
async fn what_is_wrong_in_a_profile_is_told_with_its_line() {
    let world = World::new().await;
    let file = world.file("connect.toml");
    for (text, what) in [
        ("[desk]\nurl = \"https://gw\"\nkay = \"x\"\n", "connect.toml:3: unknown field `kay`"),
        ("[dusk]\nurl = \"https://gw\"\n", "there is no profile `desk`; there is: dusk"),
        (
            "[desk]\nurl = \"https://gw\"\n[status]\nurl = \"https://gw\"\n",
            "`status` cannot be a profile's name",
        ),
        ("[desk]\nurl = \"https://gw\"\n", "there is no client certificate"),
        ("[desk]\nurl = \"gw\"\n", "`gw` is no URL of a gateway"),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(world.bare(&["desk"]).env("CHANCERY_PROFILES", &file)).await;
        assert_eq!(output.code, Some(1), "{text}: {output:?}");
        assert!(output.stderr.contains(what) && output.stderr.contains("hint: "), "{}", output.stderr);
    }
    let output = run(world.bare(&["desk"]).env("HOME", world.folder.path())).await;
    assert!(output.stderr.contains(".config/chancery/connect.toml"), "{}", output.stderr);
}

#[tokio::test]
async fn credentials_of_systemd_are_taken_by_their_names() {
    let world = World::new().await;
    let folder = world.file("credentials");
    fs::create_dir(&folder).unwrap();
    for name in ["trader.pem", "trader.key", "ca.pem"] {
        fs::copy(world.file(name), folder.join(name)).unwrap();
    }
    let url = world.url();
    let words = [
        &url,
        "--cert",
        "credential:trader.pem",
        "--key",
        "credential:trader.key",
        "--ca",
        "credential:ca.pem",
    ];
    world.answers(world.bare(&words).env("CREDENTIALS_DIRECTORY", &folder)).await;
    let output = run(world.bare(&words).env_remove("CREDENTIALS_DIRECTORY")).await;
    assert!(output.stderr.contains("$CREDENTIALS_DIRECTORY is not set"), "{}", output.stderr);
}

/// A supervisor starts us again and again.
#[tokio::test]
async fn a_wrong_pin_is_tried_once_by_all_processes_together() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    plug_in(&world, &token, "01", &KeyPair::generate().unwrap()).await;
    let front = TestToken::in_front(&world.file("front"));
    let started = || {
        let mut command = by_card(&world, &token, test_token::module(), ";id=%01");
        front.tell(&mut command);
        command
    };
    let refused = async |logins: u64, why: &str| {
        let output = run(&mut started()).await;
        assert_eq!(output.code, Some(77), "the unit is not started again for this: {output:?}");
        assert!(output.stderr.contains(why), "{}", output.stderr);
        assert_eq!(front.calls("C_Login"), logins, "a few wrong PINs lock a card for good");
    };
    token.write_wrong_pin();
    refused(1, "is this the PIN of this token? It is tried once").await;
    refused(1, "refused the PIN in").await;
    refused(1, "refused the PIN in").await;
    // Several at once, as after a machine's start.
    token.write_wrong_pin();
    let all = futures_util::future::join_all((0..4).map(|_| async { run(&mut started()).await })).await;
    // SoftHSM2 cannot tell what token it is, or that there is one, while another process writes down there that a PIN was wrong.
    let is_disturbed = |output: &crate::kit::Output| {
        let said = ["GetTokenInfo", "there is no token"];
        output.code == Some(1) && said.iter().any(|said| output.stderr.contains(said))
    };
    assert!(all.iter().all(|output| output.code == Some(77) || is_disturbed(output)), "{all:#?}");
    assert!(!all.iter().all(is_disturbed), "{all:#?}");
    assert_eq!(front.calls("C_Login"), 2);
    token.write_right_pin();
    world.answers(&mut started()).await;

    // A vendor's own word may be one for a wrong PIN; a device that fails says nothing of it.
    front.faults(&["on = \"C_Login\"; times = 1; code = \"CKR_OF_A_VENDOR\""]);
    let logins = front.calls("C_Login");
    refused(logins + 1, "It is tried once").await;
    refused(logins + 1, "refused the PIN in").await;
    token.write_right_pin();
    front.faults(&["on = \"C_Login\"; times = 1; code = \"CKR_DEVICE_ERROR\""]);
    assert_eq!(run(&mut started()).await.code, Some(1));
    world.answers(&mut started()).await;
}

/// A token as a smart card is one: a certificate and its key, under the same number.
pub async fn plug_in(world: &World, token: &Token, id: &str, key: &KeyPair) {
    let key_file = certify(world, token, id, key).await;
    let mut import = Command::new(tool(Tool::SofthsmUtil));
    import.env("SOFTHSM2_CONF", token.configuration()).arg("--import").arg(&key_file);
    run(import.args(["--token", LABEL, "--pin", PIN, "--label", "PIV AUTH key", "--id", id])).await.well();
}

/// The same with a key that wants the PIN for each signature, as a PIV card's for documents does.
async fn insist_on_the_pin(world: &World, token: &Token, id: &str) {
    let key_file = certify(world, token, id, &KeyPair::generate().unwrap()).await;
    let der = world.file("insists.der");
    let mut openssl = Command::new("openssl");
    run(openssl.args(["ec", "-outform", "der", "-in"]).arg(key_file).arg("-out").arg(&der)).await.well();
    write_object(token, &der, &["--type", "privkey", "--always-auth", "--id", id]).await;
}

/// Puts a certificate of the trader's for this key into the token; the key's file.
async fn certify(world: &World, token: &Token, id: &str, key: &KeyPair) -> PathBuf {
    let name = format!("card-{id}");
    let (certificate, key_file) =
        world.authority.leaf("trader").issue_for(key).write(world.folder.path(), &name);
    let der = world.file(&format!("{name}.der"));
    let mut openssl = Command::new("openssl");
    run(openssl.args(["x509", "-outform", "der", "-in"]).arg(certificate).arg("-out").arg(&der)).await.well();
    let label = "Certificate for PIV Authentication";
    write_object(token, &der, &["--type", "cert", "--id", id, "--label", label]).await;
    key_file
}

async fn write_object(token: &Token, der: &Path, what: &[&str]) {
    let mut write = Command::new(tool(Tool::CardWriter));
    write.env("SOFTHSM2_CONF", token.configuration()).arg("--module").arg(softhsm_module());
    write.args(["--token-label", LABEL, "--login", "--pin", PIN]).args(what);
    run(write.arg("--write-object").arg(der)).await.well();
}

/// Of a certificate in a token.
pub fn card_uri(module: &Path, more: &str) -> String {
    format!("pkcs11:token={LABEL}{more}?module-path={}", module.display())
}

/// `chancery connect` with a certificate in this token.
fn by_card(world: &World, token: &Token, module: &Path, more: &str) -> Command {
    let mut command = world.bare(&[&world.url(), "--cert", &card_uri(module, more)]);
    command.env("SOFTHSM2_CONF", token.configuration()).env("CHANCERY_PASSWORD_FILE", token.pin_file());
    command
}

#[tokio::test]
async fn a_key_in_a_token_proves_who_we_are_and_never_leaves_it() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    let module = softhsm_module();
    let started = async |more: &str| {
        let output = run(&mut by_card(&world, &token, &module, more)).await;
        (output.code, output.stderr)
    };
    let refused = async |more: &str| {
        let (code, said) = started(more).await;
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let none = refused("").await;
    assert!(none.contains("no such certificate with its key in the token"), "{none}");
    for (id, algorithm) in
        [("01", &PKCS_ECDSA_P256_SHA256), ("02", &PKCS_ECDSA_P384_SHA384), ("03", &PKCS_RSA_SHA256)]
    {
        plug_in(&world, &token, id, &KeyPair::generate_for(algorithm).unwrap()).await;
        world.answers(&mut by_card(&world, &token, &module, &format!(";id=%{id}"))).await;
    }
    let several = refused("").await;
    assert!(
        several.contains("several certificates fit") && several.contains("id=%02 (CN=trader)"),
        "{several}"
    );
    for other in [";manufacturer=none", ";model=none"] {
        assert!(refused(other).await.contains("no token fits"), "{other}");
    }
    assert!(refused(";object=none").await.contains("no such certificate"));
    let elsewhere = format!("pkcs11:token=elsewhere?module-path={}", module.display());
    let mut command = world.bare(&[&world.url(), "--cert", &elsewhere]);
    command.env("SOFTHSM2_CONF", token.configuration()).env("CHANCERY_PASSWORD_FILE", token.pin_file());
    assert!(run(&mut command).await.stderr.contains("no token fits"));
    let other = refused(";serial=none").await;
    assert!(other.contains("no token fits") && other.contains(&format!("token={LABEL};serial=")), "{other}");
    assert!(refused(";id=%09").await.contains("no such certificate"));
    certify(&world, &token, "05", &KeyPair::generate().unwrap()).await;
    assert!(refused(";id=%05").await.contains("no such certificate with its key in the token"));
    insist_on_the_pin(&world, &token, "04").await;
    let each = refused(";id=%04").await;
    assert!(each.contains("wants the PIN for each signature") && each.contains("slot 9a"), "{each}");

    fs::set_permissions(token.pin_file(), fs::Permissions::from_mode(0o620)).unwrap();
    assert!(refused(";id=%01").await.contains("others can replace this PIN (mode 620)"));
    fs::set_permissions(token.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
    token.write_wrong_pin();
    let (code, wrong) = started(";id=%01").await;
    assert_eq!(code, Some(77), "{wrong}");
    assert!(wrong.contains("is this the PIN of this token? It is tried once"), "{wrong}");
    assert!(!wrong.contains("00000000"), "{wrong}");
}

#[tokio::test]
async fn a_token_that_was_taken_out_is_used_again_and_a_wrong_pin_is_tried_once() {
    let world = World::new().await;
    let token = Token::create(&world.file("softhsm")).await;
    plug_in(&world, &token, "01", &KeyPair::generate().unwrap()).await;
    let front = TestToken::in_front(&world.file("front"));
    let mut command = by_card(&world, &token, test_token::module(), ";id=%01");
    front.tell(&mut command);
    let connector = world.start(&mut command).await;
    let answers = async || connector.call(call(1, "x", json!([1]))).await;
    let first = answers().await;
    assert_eq!(first["result"], json!([1]), "{first}");

    // Every session is gone, and with it the login; and so is the connection, so that the token is needed anew.
    front.faults(&["on = \"C_Sign\"; times = 1; lose = \"sessions\""]);
    world.gateway.does([Deed::AnswerAndRetire]);
    answers().await;
    eventually("it is used again", async || (answers().await["result"] == json!([1])).then_some(())).await;

    // One that loses its sessions each time is not logged into again and again for one connection.
    let logins = front.calls("C_Login");
    front.faults(&["on = \"C_Sign\"; lose = \"sessions\""]);
    world.gateway.does([Deed::AnswerAndRetire]);
    answers().await;
    let failed =
        async || (answers().await["error"]["data"]["code"] == "certificate_key_unavailable").then_some(());
    eventually("it fails", failed).await;
    assert!(front.calls("C_Login") < logins + 20);
    front.lift();
    eventually("it works again", async || (answers().await["result"] == json!([1])).then_some(())).await;

    // The PIN was changed meanwhile.
    token.write_wrong_pin();
    let logins = front.calls("C_Login");
    front.faults(&["on = \"C_Sign\"; times = 1; lose = \"sessions\""]);
    is_refused_once(&world, answers).await;
    assert_eq!(front.calls("C_Login"), logins + 1, "a few wrong PINs lock a card for good");
}
