//! `connect`: what tools say on the socket and the port arrives once and unchanged, and trouble is told in words.

mod identities;
mod stand_in;
mod units;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::connect::stand_in::{Deed, StandIn};
use crate::kit::{Authority, Output, Process, Tool, eventually, plain, run, tool};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, a stand-in for the gateway, and the files of a client.
struct World {
    folder: TempDir,
    authority: Authority,
    gateway: StandIn,
}

/// A running `chancery connect`.
struct Connector {
    process: Process,
    socket: PathBuf,
    http: Option<String>,
}

/// A tool on the socket.
struct Ipc {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let gateway = StandIn::start(&authority).await;
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        authority.client("trader").write(folder.path(), "trader");
        Self { folder, authority, gateway }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://{}", self.gateway.address())
    }

    /// `chancery connect URL …`, with `more` behind it.
    fn command(&self, more: &[&str]) -> Command {
        self.command_with(&["--json"], more)
    }

    fn command_with(&self, first: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("CHANCERY_CERT", self.file("trader.pem"))
            .env("CHANCERY_KEY", self.file("trader.key"))
            .env("CHANCERY_CA", self.file("ca.pem"))
            .args(first)
            .args(["connect", &self.url()])
            .args(more);
        command
    }

    async fn connect(&self, more: &[&str]) -> Connector {
        self.start(&mut self.command(more)).await
    }

    async fn start(&self, command: &mut Command) -> Connector {
        let mut process = Process::start(command);
        let ready = process.says("\"socket\"").await.unwrap_or_else(|ended| panic!("{ended:?}"));
        let ready: Value = serde_json::from_str(&ready).unwrap();
        Connector {
            process,
            socket: ready["socket"].as_str().unwrap().into(),
            http: ready["http"].as_str().map(ToOwned::to_owned),
        }
    }
}

impl Connector {
    async fn ipc(&self) -> Ipc {
        let (reader, writer) = UnixStream::connect(&self.socket).await.unwrap().into_split();
        Ipc { lines: BufReader::new(reader), writer }
    }

    /// One call over the socket, on a connection of its own.
    async fn call(&self, call: Value) -> Value {
        let mut tool = self.ipc().await;
        tool.write(call.to_string()).await;
        tool.answer().await
    }

    async fn stop(self) -> Output {
        self.process.signal(Signal::TERM);
        self.process.ends().await
    }
}

impl Ipc {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer; each is a line.
    async fn answer(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.lines.read_line(&mut line)).await.expect("an answer").unwrap();
        line
    }
}

#[expect(clippy::needless_pass_by_value, reason = "calls are read more often than written")]
fn call(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

#[tokio::test]
async fn values_may_come_in_pieces_or_many_at_once() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let (one, two) =
        (r#"{"id":1,"method":"x","params":["}]\"é"]}"#, r#"{"id":"two","method":"x","params":[2]}"#);
    let batch = r#"[{"id":3,"method":"x","params":[3]},{"id":4,"method":"x","params":[4]}]"#;

    let mut tool = connector.ipc().await;
    for byte in one.bytes() {
        tool.write([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(tool.answer().await["result"], json!(["}]\"é"]));

    tool.write(format!("{one}{two}\n\n {batch}")).await;
    let mut answers = [tool.answer().await, tool.answer().await, tool.answer().await];
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(answers[0]["id"], "two");
    assert_eq!(answers[1]["id"], 1);
    assert_eq!(
        answers[2],
        json!([
            { "jsonrpc": "2.0", "id": 3, "result": [3] },
            { "jsonrpc": "2.0", "id": 4, "result": [4] },
        ])
    );

    let mut bodies = world.gateway.bodies();
    bodies.sort();
    assert_eq!(bodies, [batch, two, one, one], "bodies are passed on as they are");
}

#[tokio::test]
async fn answers_come_when_they_are_ready_and_over_one_connection() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let mut tool = connector.ipc().await;
    tool.write(call("slow", "test_sleep", json!([700])).to_string()).await;
    tool.write(call("quick", "x", json!([])).to_string()).await;
    assert_eq!(tool.answer().await["id"], "quick");
    assert_eq!(tool.answer().await["id"], "slow");

    // More at once than may be under way on a connection.
    let all: String = (0..300).map(|id| call(id, "test_sleep", json!([20])).to_string()).collect();
    tool.write(all).await;
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(tool.answer().await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    assert_eq!(world.gateway.connections(), 1);
}

#[tokio::test]
async fn an_answer_is_one_line_and_a_notification_gets_none() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let mut tool = connector.ipc().await;
    tool.write(r#"{"jsonrpc":"2.0","method":"x"}"#).await;
    tool.write(call(1, "test_lines", json!([])).to_string()).await;
    assert_eq!(tool.answer().await, json!({ "jsonrpc": "2.0", "id": 1, "result": "a\nb" }));

    tool.write(call(2, "test_large", json!([5_000_000])).to_string()).await;
    assert_eq!(tool.answer().await["result"].as_str().unwrap().len(), 5_000_000);
}

#[tokio::test]
async fn what_a_tool_asked_last_is_still_answered() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let mut tool = connector.ipc().await;
    tool.write(call(1, "test_sleep", json!([200])).to_string()).await;
    tool.writer.shutdown().await.unwrap();
    assert_eq!(tool.answer().await["id"], 1);
    assert_eq!(tool.line().await, "", "then the connection is closed");
}

#[tokio::test]
async fn inv_12_garbage_and_huge_values_get_an_error_and_the_connection_is_closed() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let huge = format!("[\"{}\"]", "x".repeat(2 * 1024 * 1024));
    for (sent, code) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), -32700),
        ("{\"id\":1]".to_owned(), -32700),
        ("[".repeat(2_000_000), -32700),
        (huge, -32600),
    ] {
        let mut tool = connector.ipc().await;
        // It need not wait until all of it is there.
        let _ = tool.writer.write_all(sent.as_bytes()).await;
        let answer = tool.answer().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)));
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, tool.lines.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(rest.is_empty());
    }
    assert_eq!(world.gateway.bodies(), [""; 0]);
    assert_eq!(connector.call(call(1, "x", json!([1]))).await["result"], json!([1]));
}

#[tokio::test]
async fn the_port_serves_who_knows_its_url_and_no_web_page() {
    let world = World::new().await;
    let connector = world.connect(&["--http"]).await;
    let url = connector.http.clone().unwrap();
    assert_eq!(plain(&url, "eth_blockNumber", json!([])).await.unwrap(), "0x10");

    let (address, token) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    assert!(token.len() >= 22, "128 bits and more");
    let json = "content-type: application/json";
    let good = format!("{{\"id\":1,\"method\":\"x\",\"params\":[{}]}}", "7");
    for (status, path, headers) in [
        ("200", token, format!("host: {address}\r\n{json}")),
        ("421", token, format!("host: evil.example\r\n{json}")),
        ("403", token, format!("host: {address}\r\n{json}\r\norigin: https://evil.example")),
        ("415", token, format!("host: {address}\r\ncontent-type: text/plain")),
        ("404", "", format!("host: {address}\r\n{json}")),
    ] {
        let answer = raw(
            address,
            &format!(
                "POST /{path} HTTP/1.1\r\n{headers}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{good}",
                good.len()
            ),
        )
        .await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
        assert!(status == "200" || !answer.contains(token), "{answer}");
    }
    // One by plain(), one by hand.
    assert_eq!(world.gateway.bodies().len(), 2);

    // A body over the bound, whether it says so or not.
    let head = format!("POST /{token} HTTP/1.1\r\nhost: {address}\r\n{json}\r\nconnection: close\r\n");
    let answer = raw(address, &format!("{head}content-length: 2097153\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(33);
    let answer = raw(address, &format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(world.gateway.bodies().len(), 2);
}

#[tokio::test]
async fn inv_12_connections_have_a_bound_on_the_port_and_on_the_socket() {
    let world = World::new().await;
    let connector = world.connect(&["--http"]).await;
    let address =
        connector.http.as_ref().unwrap().strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut held: Vec<Box<dyn AsyncRead + Unpin>> = Vec::new();
    for _ in 0..256 {
        held.push(Box::new(TcpStream::connect(address).await.unwrap()));
        held.push(Box::new(UnixStream::connect(&connector.socket).await.unwrap()));
    }
    let over: [Box<dyn AsyncRead + Unpin>; 2] = [
        Box::new(TcpStream::connect(address).await.unwrap()),
        Box::new(UnixStream::connect(&connector.socket).await.unwrap()),
    ];
    for mut one in over {
        // Who says nothing is closed as well, after 10 s.
        let read = timeout(Duration::from_secs(5), one.read(&mut [0])).await.expect("it is closed at once");
        assert!(!matches!(read, Ok(1..)));
    }
    drop(held);
    let served = async || {
        let mut tool = connector.ipc().await;
        tool.writer.write_all(call(1, "x", json!([1])).to_string().as_bytes()).await.ok()?;
        let mut line = String::new();
        tool.lines.read_line(&mut line).await.ok()?;
        (!line.is_empty()).then_some(())
    };
    eventually("there is room again", served).await;
}

#[tokio::test]
async fn inv_12_requests_under_way_have_a_bound_for_each_tool_and_for_all() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let under_way = async || {
        let socket = connector.socket.to_str().unwrap();
        let said = run(&mut world.command(&["--socket", socket, "status"])).await.well();
        serde_json::from_str::<Value>(&said).unwrap()["under_way"].as_u64().unwrap()
    };
    let calls: String = (0..200).map(|id| call(id, "test_sleep", json!([20_000])).to_string()).collect();
    let mut tools = Vec::new();
    for bound in [128, 256, 256] {
        let mut tool = connector.ipc().await;
        tool.write(&calls).await;
        tools.push(tool);
        eventually("they are under way", async || (under_way().await >= bound).then_some(())).await;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(under_way().await, bound, "of {}", tools.len());
    }
}

#[tokio::test]
async fn inv_12_an_answer_has_a_bound() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let error = connector.call(call(1, "test_large", json!([129 << 20]))).await["error"].clone();
    assert_eq!(error["data"]["code"], "answer_too_large", "{error}");
}

#[tokio::test]
async fn what_speaks_no_http_2_is_no_gateway() {
    let world = World::new().await;
    let other = StandIn::start_speaking(&world.authority, &[]).await;
    let url = format!("https://{}", other.address());
    let mut command = world.bare(&[&url]);
    command.env("CHANCERY_CERT", world.file("trader.pem")).env("CHANCERY_KEY", world.file("trader.key"));
    let connector = world.start(&mut command).await;
    let error = connector.call(call(1, "x", json!([]))).await["error"].clone();
    assert_eq!(error["data"]["code"], "gateway_unreachable", "{error}");
    assert!(error["message"].as_str().unwrap().contains("does not speak HTTP/2"), "{error}");
    assert_eq!(other.bodies(), [""; 0]);
}

#[tokio::test]
async fn a_kept_token_gives_the_same_url_again() {
    let world = World::new().await;
    let token = world.file("token");
    let flags = ["--http", "--token-file", token.to_str().unwrap()];
    let path =
        |connector: &Connector| connector.http.as_ref().unwrap().rsplit_once('/').unwrap().1.to_owned();
    let first = world.connect(&flags).await;
    let kept = path(&first);
    assert_eq!(first.stop().await.code, Some(0));
    assert_eq!(path(&world.connect(&flags).await), kept);
}

#[tokio::test]
async fn inv_07_the_token_of_the_url_is_not_written_into_a_log() {
    let world = World::new().await;
    let (token, ready) = (world.file("token"), world.file("ready"));
    let words = ["--http", "--token-file", token.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    // As a supervisor starts it: with nobody at a terminal.
    let process = Process::start(&mut world.command_with(&[], &words));
    eventually("it is ready", async || process.stderr().contains("connected to").then_some(())).await;
    let kept = fs::read_to_string(&token).unwrap();
    assert!(fs::read_to_string(&ready).unwrap().contains(kept.trim()));
    let said = process.stderr() + &process.stdout();
    assert!(!said.contains(kept.trim()), "{said}");
    assert!(said.contains("/… (its token is not written into a log") && said.contains(".ipc"), "{said}");
}

#[tokio::test]
async fn a_port_that_somebody_else_took_may_have_been_told_the_token() {
    let world = World::new().await;
    let token = world.file("token");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let output = run(&mut world.command(&["--http", &port, "--token-file", token.to_str().unwrap()])).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let hint = format!("may have been told this token: remove {}", token.display());
    assert!(output.stderr.contains(&hint), "{}", output.stderr);
    let output = run(&mut world.command(&["--http", &port])).await;
    assert!(output.stderr.contains("hint: give another port"), "{}", output.stderr);
    let output = run(&mut world.command(&["--token-file", token.to_str().unwrap()])).await;
    assert!(output.stderr.contains("--token-file and --allow-origin are for the loopback URL"), "{output:?}");
}

#[tokio::test]
async fn without_a_gateway_each_call_gets_an_error_with_its_own_id() {
    let mut world = World::new().await;
    let address = world.gateway.address();
    let flags = ["--http"];
    let connector = world.connect(&flags).await;
    assert_eq!(connector.call(call(1, "x", json!([1]))).await["result"], json!([1]));

    // It goes away …
    let authority = Authority::new();
    world.gateway = StandIn::start(&authority).await;
    let answer = loop {
        let answer = connector.call(call("mine", "x", json!([]))).await;
        // The first call may find out that the old connection is dead.
        if answer["error"]["data"]["code"] != "outcome_unknown" {
            break answer;
        }
    };
    assert_eq!(answer["id"], "mine");
    assert_eq!(answer["error"]["code"], -32603);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(&address.to_string()) && message.contains("efused"), "{message}");
    assert_eq!(answer["error"]["data"]["code"], "gateway_unreachable");
    let batch = connector.call(json!([call(1, "x", json!([])), call("b", "x", json!([]))])).await;
    assert_eq!((&batch[0]["id"], &batch[1]["id"]), (&json!(1), &json!("b")));
    // … over HTTP it is a JSON-RPC error as well, not a status that tools hide or repeat …
    let error = plain(connector.http.as_ref().unwrap(), "x", json!([])).await.unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");

    // … which is said once, however often it is tried …
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        connector.call(call(3, "x", json!([]))).await;
    }
    let said = connector.process.stderr();
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");

    // … and comes back.
    let _back = StandIn::start_at(&world.authority, address).await;
    let recovered = timeout(PATIENCE, async {
        while connector.call(call(2, "x", json!([2]))).await["result"] != json!([2]) {
            sleep(Duration::from_millis(50)).await;
        }
    });
    recovered.await.expect("it reconnects by itself");
}

/// Tools ask on and on: a gateway that is being started again is not to be busy with them.
#[tokio::test]
async fn a_gateway_that_does_not_answer_is_asked_less_and_less_often() {
    let mut world = World::new().await;
    let address = world.gateway.address();
    let connector = world.connect(&[]).await;
    assert_eq!(connector.call(call(1, "x", json!([1]))).await["result"], json!([1]));
    world.gateway = StandIn::start(&world.authority).await;
    let silent = eventually("its port is free", async || TcpListener::bind(address).await.ok()).await;
    let visits = tokio::spawn(async move {
        let mut visits = 0;
        while timeout(Duration::from_secs(4), silent.accept()).await.is_ok() {
            visits += 1;
        }
        visits
    });
    let began = tokio::time::Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let answer = connector.call(call(2, "x", json!([]))).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
        asked += 1;
    }
    // After 0.1, 0.2, 0.4 and 0.8 s; and once before.
    let visits = visits.await.unwrap();
    assert!((2..=7).contains(&visits) && asked > 20, "{visits} of {asked}");
}

#[tokio::test]
async fn inv_10_a_request_that_may_have_been_taken_is_never_sent_again() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    for (number, deed) in [Deed::ResetStream, Deed::GoAway, Deed::Vanish].repeat(5).into_iter().enumerate() {
        world.gateway.does([deed]);
        let request = call(number, "eth_sendTransaction", json!([{ "value": "0x1" }]));
        let sent = request.to_string();
        let answer = connector.call(request).await;
        assert_eq!(answer["id"], number);
        assert_eq!(answer["error"]["code"], -32603, "{deed:?}: {answer}");
        assert_eq!(answer["error"]["data"]["code"], "outcome_unknown", "{deed:?}: {answer}");
        // A second one would come at once.
        sleep(Duration::from_millis(100)).await;
        let times = world.gateway.bodies().iter().filter(|body| **body == sent).count();
        assert_eq!(times, 1, "{deed:?}");
    }
}

#[tokio::test]
async fn a_request_that_was_certainly_not_taken_is_sent_again() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    world.gateway.does([Deed::RefuseStream, Deed::RefuseStream]);
    assert_eq!(connector.call(call(1, "x", json!([1]))).await["result"], json!([1]));
    assert_eq!(world.gateway.bodies().len(), 1);

    world.gateway.does([Deed::RefuseStream; 4]);
    let answer = connector.call(call(2, "x", json!([]))).await;
    assert_eq!(answer["error"]["data"]["code"], "gateway_busy", "{answer}");
    assert_eq!(world.gateway.bodies().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_restarts_in_good_order_loses_nothing() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    // Often enough that a call meets each moment of a goodbye.
    for id in 0..60 {
        world.gateway.does([Deed::AnswerAndRetire]);
        let answer = connector.call(call(id, "x", json!([id]))).await;
        assert_eq!(answer["result"], json!([id]), "{answer}");
    }
    assert_eq!(world.gateway.bodies().len(), 60);
    assert!(world.gateway.connections() > 20);
}

#[tokio::test]
async fn what_the_gateway_says_in_http_is_told_in_json_rpc() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    world.gateway.does([Deed::Status(421, "127.0.0.1:1 is not served here\n<secret page>")]);
    let error = connector.call(call(1, "x", json!([]))).await["error"].clone();
    assert_eq!(error["code"], -32603);
    assert_eq!(error["message"], "the gateway answered HTTP 421: 127.0.0.1:1 is not served here");
    assert!(error["data"]["hint"].as_str().unwrap().contains("`hosts`"), "{error}");
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_taken_is_told_so_and_nothing_is_sent() {
    let world = World::new().await;
    let stranger = Authority::new().client("trader");
    stranger.write(world.folder.path(), "stranger");
    let (cert, key) = (world.file("stranger.pem"), world.file("stranger.key"));
    let flags = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let connector = world.connect(&flags).await;
    let error = connector.call(call(1, "x", json!([]))).await["error"].clone();
    assert_eq!(error["data"]["code"], "certificate_refused", "{error}");
    assert_eq!(
        error["message"],
        "the gateway refused this client's certificate: its issuer has the name of the gateway's client CA, but another key"
    );
    assert_eq!(world.gateway.connections(), 0);

    // A tool is not even started.
    let marker = world.file("ran");
    let more = [&flags[..], &["run", "--", "touch", marker.to_str().unwrap()]].concat();
    let output = run(&mut world.command(&more)).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("refused this client's certificate"), "{}", output.stderr);
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_gateway_that_is_not_trusted_gets_nothing() {
    let world = World::new().await;
    fs::write(world.file("other.pem"), Authority::new().pem()).unwrap();
    let other = world.file("other.pem");
    for (flags, why) in [
        (["--ca", other.to_str().unwrap()], "the given CA did not issue it, but one of the same name"),
        (["--server-name", "elsewhere.example"], "it is for another server"),
    ] {
        let connector = world.connect(&flags).await;
        let error = connector.call(call(1, "x", json!([]))).await["error"].clone();
        assert_eq!(error["data"]["code"], "gateway_not_trusted", "{error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    assert_eq!(world.gateway.bodies(), [""; 0]);
}

#[tokio::test]
async fn through_a_tunnel_the_gateway_is_called_by_its_own_name() {
    let world = World::new().await;
    let connector = world.connect(&["--server-name", "localhost:8545"]).await;
    assert_eq!(connector.call(call(1, "x", json!([1]))).await["result"], json!([1]));
    assert_eq!(world.gateway.authorities(), ["localhost:8545"]);
}

#[tokio::test]
async fn bad_files_are_named_before_anything_starts() {
    let world = World::new().await;
    world.authority.leaf("old").expired().issue().write(world.folder.path(), "old");
    world.authority.leaf("young").of_the_future().issue().write(world.folder.path(), "young");
    world.authority.client("other").write(world.folder.path(), "other");
    world.authority.client("open").write(world.folder.path(), "open");
    fs::set_permissions(world.file("open.key"), fs::Permissions::from_mode(0o620)).unwrap();
    fs::write(world.file("empty.pem"), "").unwrap();
    fs::copy(world.file("ca.pem"), world.file("open.ca")).unwrap();
    fs::set_permissions(world.file("open.ca"), fs::Permissions::from_mode(0o664)).unwrap();
    for (cert, key, ca, what) in [
        ("none.pem", "trader.key", "ca.pem", "none.pem"),
        ("empty.pem", "trader.key", "ca.pem", "empty.pem: there is no certificate in it"),
        ("trader.key", "trader.key", "ca.pem", "there is no certificate in it"),
        ("trader.pem", "trader.pem", "ca.pem", "trader.pem"),
        ("trader.pem", "other.key", "ca.pem", "is "),
        ("trader.pem", "trader.key", "empty.pem", "empty.pem: there is no certificate in it"),
        ("old.pem", "old.key", "ca.pem", "old.pem: expired on"),
        ("young.pem", "young.key", "ca.pem", "young.pem: not valid before"),
        ("trader.pem", "trader.key", "open.ca", "open.ca: others can replace this authority (mode 664)"),
        ("open.pem", "open.key", "ca.pem", "open.key: others can replace this key (mode 620)"),
    ] {
        let mut command = world.command(&[]);
        command.env("CHANCERY_CERT", world.file(cert));
        command.env("CHANCERY_KEY", world.file(key));
        command.env("CHANCERY_CA", world.file(ca));
        let output = run(&mut command).await;
        assert_eq!(output.code, Some(1), "{cert} {key} {ca}: {output:?}");
        assert!(output.stderr.contains(what) && output.stderr.contains("hint: "), "{}", output.stderr);
        assert!(!output.stderr.contains("PRIVATE"), "{}", output.stderr);
    }
    fs::set_permissions(world.file("trader.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let connector = world.connect(&[]).await;
    assert!(
        connector.process.stderr().contains("warning: others can read"),
        "{}",
        connector.process.stderr()
    );
}

#[tokio::test]
async fn the_socket_is_this_users_and_gone_in_the_end() {
    let world = World::new().await;
    let ready_file = world.file("ready.json");
    let connector = world.connect(&["--ready-file", ready_file.to_str().unwrap()]).await;
    let socket = connector.socket.clone();
    assert!(socket.starts_with(world.file("chancery")), "{}", socket.display());
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&world.file("chancery"))), (0o600, 0o700));
    assert_eq!(mode(&ready_file), 0o600);
    let ready: Value = serde_json::from_slice(&fs::read(&ready_file).unwrap()).unwrap();
    assert_eq!(ready["socket"], socket.to_str().unwrap());

    // A second one at the same place is refused.
    let output = run(&mut world.command(&[])).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("another connector is listening there"), "{}", output.stderr);

    // What is under way is answered before the end.
    let mut tool = connector.ipc().await;
    tool.write(call(1, "test_sleep", json!([500])).to_string()).await;
    sleep(Duration::from_millis(200)).await;
    let (ended, answer) = tokio::join!(connector.stop(), tool.answer());
    assert_eq!((ended.code, &answer["result"]), (Some(0), &json!(500)));
    assert!(!socket.exists() && !ready_file.exists());
}

#[tokio::test]
async fn the_socket_of_a_dead_connector_is_replaced() {
    let world = World::new().await;
    let connector = world.connect(&[]).await;
    let socket = connector.socket.clone();
    connector.process.signal(Signal::KILL);
    connector.process.ends().await;
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let next = world.connect(&[]).await;
    assert_eq!(next.socket, socket);
    assert_eq!(next.call(call(1, "x", json!([1]))).await["result"], json!([1]));
}

#[tokio::test]
async fn a_tool_is_run_with_its_endpoint_and_its_exit_code_is_ours() {
    let world = World::new().await;
    let cast = tool(Tool::Cast);
    let script = format!(
        "{} block-number && echo $ETH_RPC_URL && test $FOUNDRY_ETH_RPC_URL = $ETH_RPC_URL && exit 7",
        cast.display()
    );
    for flags in [&[][..], &["--http"]] {
        let more = [flags, &["run", "--", "sh", "-c", &script]].concat();
        let output = run(&mut world.command(&more)).await;
        assert_eq!(output.code, Some(7), "{output:?}");
        let (number, endpoint) = output.stdout.trim().split_once('\n').unwrap();
        assert_eq!(number, "16");
        assert_eq!(endpoint.starts_with("http://127.0.0.1:"), !flags.is_empty(), "{endpoint}");
        assert_eq!(fs::read_dir(world.file("chancery")).unwrap().count(), 0, "nothing is left behind");
    }
    let output = run(&mut world.command(&["run", "--", "no-such-tool"])).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("no-such-tool"), "{}", output.stderr);
}

#[tokio::test]
async fn signals_are_passed_on_to_the_tool() {
    let world = World::new().await;
    let script = "trap 'echo told; exit 5' TERM; echo waiting; while :; do sleep 0.05; done";
    let mut process = Process::start(&mut world.command(&["run", "--", "sh", "-c", script]));
    process.says("waiting").await.unwrap();
    process.signal(Signal::TERM);
    process.says("told").await.unwrap();
    assert_eq!(process.ends().await.code, Some(5));

    let output = run(&mut world.command(&["run", "--", "sh", "-c", "kill -KILL $$"])).await;
    assert_eq!(output.code, Some(128 + 9));
}

#[tokio::test]
async fn cast_speaks_to_the_socket_and_to_the_port() {
    let world = World::new().await;
    let connector = world.connect(&["--http"]).await;
    for endpoint in [connector.socket.to_str().unwrap(), connector.http.as_ref().unwrap()] {
        let mut cast = Command::new(tool(Tool::Cast));
        assert_eq!(run(cast.args(["block-number", "--rpc-url", endpoint])).await.well().trim(), "16");
    }
}

/// What comes back for these bytes until the other side closes.
async fn raw(address: &str, bytes: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let bytes = bytes.to_owned();
    // It may rightly close before it has read everything.
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(bytes.as_bytes()).await;
        writer
    });
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("it closes");
    drop(writing);
    String::from_utf8_lossy(&answer).into_owned()
}
