//! An end in the middle of a login: it is waited for, or not begun, and a PIN that is right is never latched by it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use chancery::signer::TokenState;
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use crate::faults::bench::Parts;
use crate::kit::{Process, TestToken, World, eventually};

/// Its first login may take six seconds, and any other call two.
const QUICK: &str = "\n[signer]\ndeadline = \"2s\"\n";

/// A login may take longer than a service is started, and longer than any other call may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_first_login_waits_for_it_and_latches_nothing() {
    for (verb, signal, code, said) in [
        (&["serve", "--json"][..], Signal::INT, Some(0), "\"stopped\""),
        (&["doctor"], Signal::TERM, Some(1), "error: interrupted"),
    ] {
        let (world, token) = TestToken::before(World::new().await.append(QUICK));
        token.faults(&["on = \"C_Login\"; delay_us = 3000000"]);
        let process = world.begin_to(verb);
        eventually("it logs in", async || (token.calls("C_Login") > 0).then_some(())).await;
        tell_all(&process, signal);
        let end = process.ends().await;
        assert_eq!(end.code, code, "{verb:?}: {end:?}");
        assert!(end.stderr.contains(said) && !end.stderr.contains("ERROR"), "{verb:?}: {}", end.stderr);
        assert_nothing_is_latched(world, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_has_not_begun_at_the_stop_is_not_begun() {
    let (world, token) = TestToken::before(World::new().await.append(QUICK));
    token.faults(&["on = \"C_OpenSession\"; delay_us = 3000000"]);
    let process = world.begin();
    eventually("it opens a session", async || (token.calls("C_OpenSession") > 0).then_some(())).await;
    tell_all(&process, Signal::INT);
    let end = process.ends().await;
    assert_eq!(end.code, Some(0), "{end:?}");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(token.calls("C_Login"), 0);
    assert_nothing_is_latched(world, &token).await;
}

/// The calls that wait for a login hang before the login does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gives_up_waits_for_its_login() {
    let parts = Parts::of(1, "", 4, "deadline = \"2s\"\nmax_stuck = 1");
    let token = &parts.lanes[0].token;
    let faults = |login: &str| {
        let session = "on = \"C_GetSessionInfo\"; code = \"CKR_FUNCTION_FAILED\"";
        token.faults(&[session, &format!("on = \"C_Login\"; delay_us = {login}")]);
    };
    faults("1000000");
    let bench = parts.start_again().await;
    // The second session's login.
    faults("4500000");
    let is_ready = || matches!(bench.signer.readiness()[0].state, TokenState::Ready { .. });
    assert!(is_ready());
    replace_pin_file(&token.pin_file());
    eventually("it gives up", async || (!is_ready()).then_some(())).await;
    assert_eq!(token.calls("C_Initialize"), 1, "it was called ready until its worker had ended");
    eventually("another worker", async || (token.calls("C_Initialize") > 1).then_some(())).await;
    token.lift();
    bench.recovers(0).await;
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
    // A session's login may not have begun yet when the port is tried.
    eventually("a session's login", async || {
        let before = token.calls("C_Login");
        let end = world.begin().ends().await;
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.contains(&world.address().to_string()), "{}", end.stderr);
        (token.calls("C_Login") > before + 1).then_some(())
    })
    .await;
    drop(other);
    assert_nothing_is_latched(world, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_where_it_listens_does_not_keep_it_from_ending() {
    let world = World::new().await;
    // A pipe that is full, however large, and that it holds open itself.
    let fill = "timeout 0.5 head -c 16777216 /dev/zero >&3";
    let world = world.shell(&format!("mkfifo full\nexec 3<>full\n{fill}\nexec >&3"));
    let process = world.begin();
    eventually("it listens", async || TcpStream::connect(world.address()).ok()).await;
    sleep(Duration::from_millis(200)).await;
    process.signal(Signal::TERM);
    let end = process.ends().await;
    assert_eq!(end.code, Some(0), "{end:?}");
}

/// As from a terminal or a supervisor: to all of them.
fn tell_all(process: &Process, signal: Signal) {
    for worker in process.children() {
        kill_process(worker, signal).unwrap();
    }
    process.signal(signal);
}

/// Also where the PIN stands in another file by now, of which nobody knows that it was right before.
async fn assert_nothing_is_latched(world: World, token: &TestToken) {
    replace_pin_file(&world.token.pin_file());
    token.lift();
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    // A slow machine may need another try; a latch does not open by itself.
    eventually("a payment", async || trader.send(gateway.payment(1)).await.ok()).await;
}

/// The same PIN in another file, as of systemd's credentials after a restart.
pub fn replace_pin_file(file: &Path) {
    let copy = file.with_extension("copy");
    std::fs::copy(file, &copy).unwrap();
    std::fs::rename(copy, file).unwrap();
}
