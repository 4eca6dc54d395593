//! An end in the middle of a login: it is waited for, or not begun, and a PIN that is right is never latched by it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use crate::kit::{Process, TestToken, World, eventually};

/// Its first login may take three seconds, and any other call one.
const QUICK: &str = "\n[signer]\ndeadline = \"1s\"\n";

/// A login may take longer than a service is started, and longer than any other call may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_first_login_waits_for_it_and_latches_nothing() {
    for (verb, code) in [("serve", 0), ("doctor", 1)] {
        let (world, token) = TestToken::before(World::new().await.append(QUICK));
        token.faults(&["on = \"C_Login\"; delay_us = 2500000"]);
        let process = world.begin_to(&[verb]);
        eventually("it logs in", async || (token.calls("C_Login") > 0).then_some(())).await;
        interrupt(&process);
        let end = process.ends().await;
        assert_eq!(end.code, Some(code), "{verb}: {end:?}");
        let said = if verb == "serve" { "stopped" } else { "error: interrupted" };
        assert!(end.stderr.contains(said) && !end.stderr.contains("ERROR"), "{verb}: {}", end.stderr);
        assert_nothing_is_latched(world, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_has_not_begun_at_the_stop_is_not_begun() {
    let (world, token) = TestToken::before(World::new().await.append(QUICK));
    token.faults(&["on = \"C_OpenSession\"; delay_us = 1500000"]);
    let process = world.begin();
    eventually("it opens a session", async || (token.calls("C_OpenSession") > 0).then_some(())).await;
    interrupt(&process);
    let end = process.ends().await;
    assert_eq!(end.code, Some(0), "{end:?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(token.calls("C_Login"), 0);
    assert_nothing_is_latched(world, &token).await;
}

/// The tokens are ready before the port is opened, and their sessions still log in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_waits_for_its_logins() {
    let (world, token) = TestToken::before(World::new().await.append(QUICK));
    // Such a module is asked for a login by each session.
    token.faults(&[
        "on = \"C_GetSessionInfo\"; code = \"CKR_FUNCTION_FAILED\"",
        "on = \"C_Login\"; delay_us = 700000",
    ]);
    let other = TcpListener::bind(world.address()).unwrap();
    let end = world.begin().ends().await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains(&world.address().to_string()), "{}", end.stderr);
    assert!(token.calls("C_Login") >= 2, "no session logged in");
    drop(other);
    assert_nothing_is_latched(world, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_where_it_listens_does_not_keep_it_from_ending() {
    let world = World::new().await;
    // A pipe that is full, and that it holds open itself.
    let world = world.shell("mkfifo full\nexec 3<>full\nhead -c 65536 /dev/zero >&3\nexec >&3");
    let process = world.begin();
    eventually("it listens", async || TcpStream::connect(world.address()).ok()).await;
    sleep(Duration::from_millis(200)).await;
    process.signal(Signal::TERM);
    let end = process.ends().await;
    assert_eq!(end.code, Some(0), "{end:?}");
}

/// As from a terminal: to all of them.
fn interrupt(process: &Process) {
    for worker in process.children() {
        kill_process(worker, Signal::INT).unwrap();
    }
    process.signal(Signal::INT);
}

/// Also where the PIN stands in another file by now, of which nobody knows that it was right before.
async fn assert_nothing_is_latched(world: World, token: &TestToken) {
    replace_pin_file(&world.token.pin_file());
    token.lift();
    let gateway = world.start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

/// The same PIN in another file, as of systemd's credentials after a restart.
pub fn replace_pin_file(file: &Path) {
    let copy = file.with_extension("copy");
    std::fs::copy(file, &copy).unwrap();
    std::fs::rename(copy, file).unwrap();
}
