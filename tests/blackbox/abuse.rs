//! What raw sockets try: requests that two readers take for different ones, and a restart in the middle of them all.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::kit::{Fault, Gateway, World, eventually};

const CHAIN_ID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

/// What must never be taken for a request of its own.
const HIDDEN: &str = r#"{"jsonrpc":"2.0","id":2,"method":"eth_blockNumber"}"#;

#[tokio::test]
async fn inv_05_no_request_hides_in_another() {
    let gateway = Gateway::start().await;
    let trader = gateway.client("trader").http1();
    let host = format!("Host: {}", gateway.world.address());
    let json = "Content-Type: application/json";
    let hidden =
        format!("POST / HTTP/1.1\r\n{host}\r\n{json}\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    let (length, whole) = (CHAIN_ID.len(), CHAIN_ID.len() + hidden.len());
    let chunked = format!("{length:x}\r\n{CHAIN_ID}\r\n0\r\n\r\n{hidden}");
    for (why, head, body) in [
        ("CL.TE", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"), &chunked),
        ("TE.CL", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"), &chunked),
        ("TE in capitals", "TRANSFER-ENCODING: chunked".to_owned(), &chunked),
        ("TE behind a tab", "Transfer-Encoding:\tchunked".to_owned(), &chunked),
        ("TE of no kind", "Transfer-Encoding: xchunked".to_owned(), &chunked),
        ("two TE", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked".to_owned(), &chunked),
        ("a space before the colon", format!("Content-Length : {length}"), &format!("{CHAIN_ID}{hidden}")),
        ("a folded head", format!("X: y\r\n Content-Length: {length}"), &format!("{CHAIN_ID}{hidden}")),
        (
            "two lengths",
            format!("Content-Length: {length}\r\nContent-Length: {whole}"),
            &format!("{CHAIN_ID}{hidden}"),
        ),
        ("a list of lengths", format!("Content-Length: {length}, {whole}"), &format!("{CHAIN_ID}{hidden}")),
        ("a signed length", format!("Content-Length: +{length}"), &format!("{CHAIN_ID}{hidden}")),
        ("a length in hex", format!("Content-Length: 0x{length:x}"), &format!("{CHAIN_ID}{hidden}")),
        ("a negative length", "Content-Length: -1".to_owned(), &format!("{CHAIN_ID}{hidden}")),
        ("a length of 20 digits", "Content-Length: 18446744073709551617".to_owned(), &hidden),
        ("a bare carriage return", format!("X: a\rContent-Length: {length}"), &format!("{CHAIN_ID}{hidden}")),
        ("a NUL", format!("X: a\0b\r\nContent-Length: {length}"), &format!("{CHAIN_ID}{hidden}")),
        ("two hosts", format!("{host}\r\nContent-Length: {length}"), &format!("{CHAIN_ID}{hidden}")),
        (
            "an upgrade",
            format!(
                "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {length}\r\nX-Y: z\r\nTransfer-Encoding: chunked"
            ),
            &chunked,
        ),
    ] {
        let before = gateway.node().calls_of("eth_blockNumber").len();
        let request = format!("POST / HTTP/1.1\r\n{host}\r\n{json}\r\n{head}\r\n\r\n{body}");
        let answers = trader.raw(request).await;
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{why}: {answers}");
        assert!(!answers.starts_with("HTTP/1.1 200"), "{why}: {answers}");
        assert_eq!(gateway.node().calls_of("eth_blockNumber").len(), before, "{why}");
    }
    // The same without a trick is two requests.
    let both =
        format!("POST / HTTP/1.1\r\n{host}\r\n{json}\r\nContent-Length: {length}\r\n\r\n{CHAIN_ID}{hidden}");
    assert_eq!(trader.raw(both).await.matches("HTTP/1.1 200").count(), 2);
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused() {
    let gateway = Gateway::start().await;
    for trader in [gateway.client("trader"), gateway.client("trader").http1()] {
        let mut request = trader.json_request("\x1f\u{8b}");
        request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        assert_eq!(trader.request(request).await.unwrap().status, 415);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_behind_a_socket_that_was_handed_over_refuses_nobody() {
    let world = World::new().await;
    // As systemd does it: it holds the socket, and whoever it starts gets it as descriptor 3.
    let socket = std::net::TcpListener::bind(world.address()).unwrap();
    let prelude = hand_over(&socket);
    let mut gateway = world.shell(&prelude).start().await;

    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let visitors: Vec<_> = (0..3)
        .map(|_| {
            let (trader, over, asked) =
                (gateway.client("trader").http1(), Arc::clone(&over), Arc::clone(&asked));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // A connection for each, as `cast` comes.
                    trader.http1().call("eth_chainId", json!([])).await.unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..2 {
        sleep(Duration::from_millis(500)).await;
        gateway.signal(Signal::TERM);
        let end = gateway.ends().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        gateway.restart().await;
    }
    sleep(Duration::from_millis(500)).await;
    over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.expect("nobody is refused");
    }
    assert!(asked.load(Ordering::Relaxed) >= 20, "there was load");
}

#[tokio::test]
async fn inv_12_a_log_that_nobody_reads_stops_nobody() {
    let mut gateway = World::new().await.shell("export CHANCERY_LOG=trace").start().await;
    let trader = gateway.client("trader");
    gateway.log_is_read(false);
    eventually("lines are dropped", async || {
        for _ in 0..50 {
            trader.call("eth_blockNumber", json!([])).await.unwrap();
        }
        (gateway.metric("chancery_log_lines_lost_total").await > 0.0).then_some(())
    })
    .await;
    trader.send(gateway.payment(1)).await.unwrap();
    gateway.log_is_read(true);
    gateway.logs("lines of this log were lost").await;
    gateway.log_is_read(false);
    for _ in 0..50 {
        trader.call("eth_blockNumber", json!([])).await.unwrap();
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ends().await.code, Some(0));
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_no_silent_one() {
    let world = World::new().await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let prelude = hand_over(&socket);
    let end = world.shell(&prelude).refuses_to_start().await;
    assert!(end.stderr.contains("LISTEN_FDS") && end.stderr.contains("ListenStream"), "{}", end.stderr);
}

/// Has the program begin with this socket as its descriptor 3, and the variables that say so.
fn hand_over(socket: &std::net::TcpListener) -> String {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    // Not every `sh` knows descriptors above 9.
    let set_up = format!("exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$", socket.as_raw_fd());
    format!("exec bash -c '{set_up}; exec \"$@\"' bash \"$@\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_12_a_send_counts_to_its_end_although_its_client_hung_up() {
    let world = World::new().await.append("\n[limits]\nmax_in_flight_per_client = 2\n");
    let gateway = world.start().await;
    gateway.node().fail("eth_sendRawTransaction", Fault::Delay(Duration::from_secs(5)));
    for count in 1..=2_usize {
        let (trader, payment) =
            (gateway.client("trader").http1(), gateway.payment(u64::try_from(count).unwrap()));
        let asked = tokio::spawn(async move { trader.send(payment).await });
        let sent = async || (gateway.node().calls_of("eth_sendRawTransaction").len() >= count).then_some(());
        eventually("it is at the node", sent).await;
        asked.abort();
        drop(asked.await);
    }
    let trader = gateway.client("trader");
    // Who is refused before the body is read gets no id.
    let works = async || trader.post(CHAIN_ID.to_owned()).await.json()["result"].as_str().map(str::to_owned);
    sleep(Duration::from_millis(300)).await;
    assert!(works().await.is_none(), "both still count");
    eventually("they are done", works).await;
}

/// What is asked of the node for a send has no bound of its own: who hangs up takes it along.
#[tokio::test(flavor = "multi_thread")]
async fn inv_12_who_sends_and_hangs_up_leaves_no_question_at_the_node() {
    let gateway = World::new().await.start().await;
    gateway.node().fail("eth_estimateGas", Fault::Delay(Duration::from_secs(60)));
    let trader = Arc::new(gateway.client("trader").http1());
    for _ in 0..4 {
        let asked: Vec<_> = (0..32)
            .map(|_| (Arc::clone(&trader), gateway.payment(1)))
            .map(|(trader, payment)| tokio::spawn(async move { trader.send(payment).await }))
            .collect();
        eventually("they wait", async || (gateway.node().waiting() >= 32).then_some(())).await;
        for one in asked {
            one.abort();
            drop(one.await);
        }
        let left = async || (gateway.node().waiting() == 0).then_some(());
        // Left alone they would wait for two seconds.
        tokio::time::timeout(Duration::from_millis(1500), eventually("nothing is left", left)).await.unwrap();
    }
}
