//! Who has a certificate and no good intentions: floods over HTTP/2, heads without end, and nothing read.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::listener::tests::kit::*;
use crate::listener::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

/// POST /slow of localhost, in HPACK (RFC 7541) without a table.
const HEAD: &[u8] = b"\x83\x87\x04\x05/slow\x01\x09localhost";

/// More than the gateway takes beside requests, with what lies in buffers between.
const MUCH: usize = 16 << 20;

/// One piece after the other.
type Flood = Box<dyn FnMut() -> Vec<u8>>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn http2(door: &Door, open: &Open) -> TlsStream<TcpStream> {
    let mut config = door.trader();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = open.connect(config).await.unwrap();
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]].concat();
    stream.write_all(&preface).await.unwrap();
    stream
}

/// Sends `first`, then the pieces again and again until the connection is ended: how many bytes were taken.
#[expect(clippy::arithmetic_side_effects, reason = "far below any bound")]
async fn until_cut(stream: TlsStream<TcpStream>, first: &[u8], mut piece: impl FnMut() -> Vec<u8>) -> usize {
    let (mut read, mut write) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let mut taken = 0;
    let writing = async {
        write.write_all(first).await?;
        while taken < MUCH {
            let piece = piece();
            write.write_all(&piece).await?;
            taken += piece.len();
        }
        std::io::Result::Ok(())
    };
    let cut = timeout(Duration::from_secs(30), writing).await.expect("it is cut, or it is read");
    drop(cut);
    reading.abort();
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_12_floods_over_http_2_end_their_connection_and_no_other() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let open_stream = frame(HEADERS, END_HEADERS, 1, HEAD);
    let many = |frame: Vec<u8>| -> Flood { Box::new(move || frame.repeat(500)) };
    let mut next = 1_u32;
    let reset = move || {
        let mut piece = Vec::new();
        for _ in 0..100 {
            piece.extend(frame(HEADERS, END_HEADERS, next, HEAD));
            piece.extend(frame(RST_STREAM, 0, next, &8_u32.to_be_bytes()));
            next = next.wrapping_add(2);
        }
        piece
    };
    let unfinished = frame(HEADERS, 0, 1, HEAD);
    for (what, first, piece) in [
        ("PING", &[][..], many(frame(PING, 0, 0, &[0; 8]))),
        ("SETTINGS", &[][..], many(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]))),
        ("empty DATA", &open_stream[..], many(frame(DATA, 0, 1, &[]))),
        ("CONTINUATION", &unfinished[..], many(frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"))),
        ("empty CONTINUATION", &unfinished[..], many(frame(CONTINUATION, 0, 1, &[]))),
        ("frames of no kind", &[][..], many(frame(0xfa, 0, 0, &[0; 100]))),
        ("streams that are reset", &[][..], Box::new(reset)),
    ] {
        let flood = until_cut(http2(&door, &open).await, first, piece);
        let others = async {
            for _ in 0..3 {
                let asked = timeout(Duration::from_secs(3), open.ask(door.trader())).await;
                assert!(asked.is_ok_and(|said| said.is_ok()), "{what}: others are served meanwhile");
            }
        };
        let (taken, ()) = tokio::join!(flood, others);
        assert!(taken < MUCH, "{what}: it goes on");
    }
}

#[tokio::test]
async fn inv_12_who_floods_and_does_not_read_is_cut() {
    let door = Door::new();
    let limits = Limits { write_timeout: Duration::from_millis(300), ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    // Small buffers, so that it takes little to fill them.
    let mut config = door.trader();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = open.connect(config).await.unwrap();
    let asking = async {
        loop {
            stream.write_all(&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000)).await?;
        }
        #[expect(unreachable_code, reason = "names the type")]
        std::io::Result::Ok(())
    };
    assert!(timeout(Duration::from_secs(30), asking).await.expect("it is cut").is_err());
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let door = Door::new();
    let open = door.open(Entrance::Clients, &Limits::default(), Clock::system());
    let mut stream = open.connect(door.trader()).await.unwrap();
    let many = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(199);
    let last = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(&[&many[..], last].concat()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 200);
}

#[tokio::test]
async fn inv_12_a_head_has_its_bounds_and_its_time() {
    let door = Door::new();
    let limits = Limits { head_timeout: Duration::from_millis(500), ..Limits::default() };
    let open = door.open(Entrance::Clients, &limits, Clock::system());
    for more in [format!("a: {}\r\n", "x".repeat(64 << 10)), "a: b\r\n".repeat(100)] {
        let mut stream = open.connect(door.trader()).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
        drop(stream.write_all(head.as_bytes()).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(answer.starts_with(b"HTTP/1.1 431") || answer.is_empty(), "{answer:?}");
    }
    // A byte now and then does not make it any younger.
    let mut stream = open.connect(door.trader()).await.unwrap();
    let trickling = async {
        for byte in b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ".iter().cycle() {
            stream.write_all(&[*byte]).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::io::Result::Ok(())
    };
    assert!(timeout(Duration::from_secs(5), trickling).await.expect("it is cut").is_err());
}
