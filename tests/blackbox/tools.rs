//! Real tools, which know nothing of Chancery: cast and forge, through `chancery connect`.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::kit::{
    FRIEND, Gateway, Output, POLICY, Process, STRANGER, Tool, eventually, plain, plain_raw, repository, run,
    tool,
};

/// What a developer may do on a test network: everything, in small.
const DEVELOPER: &str = r#"
[[rule]]
id            = "deploy"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["trader"]
from          = ["treasury"]
to            = ["create", "any"]
call          = "any"
value         = { max = "1 gwei" }
execution_fee = { max = "0.1 ether" }
"#;

/// How a tool reaches the connector.
#[derive(Clone, Copy, Debug)]
enum By {
    Socket,
    Http,
}

#[tokio::test]
async fn cast_sends_and_shows_what_was_mined() {
    let gateway = Gateway::start().await;
    let from = gateway.treasury().to_string();
    for (by, balance) in [(By::Socket, "1"), (By::Http, "2")] {
        let send = ["send", "--unlocked", "--from", &from, FRIEND, "--value", "1", "--json"];
        let receipt = cast(&gateway, by, &send).await.well();
        let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
        assert_eq!(receipt["status"], "0x1", "{by:?}");
        let paid = gateway.node().balance(FRIEND).await % alloy_primitives::U256::from(10);
        assert_eq!(paid.to_string(), balance, "{by:?}");
    }
}

#[tokio::test]
async fn cast_shows_why_it_was_refused() {
    let gateway = Gateway::start().await;
    let from = gateway.treasury().to_string();
    let refused =
        cast(&gateway, By::Socket, &["send", "--unlocked", "--from", &from, STRANGER, "--value", "1"]).await;
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(
        refused.stderr.contains("-32003") && refused.stderr.contains("transaction_denied"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn cast_verifies_a_signed_message() {
    let gateway = Gateway::start().await;
    let from = gateway.treasury().to_string();
    let signature = cast(&gateway, By::Http, &["rpc", "personal_sign", "0x68656c6c6f", &from]).await.well();
    let signature = signature.trim().trim_matches('"');
    let verify = ["wallet", "verify", "--address", &from, "hello", signature];
    run(Command::new(tool(Tool::Cast)).args(verify)).await.well();
    let another = ["wallet", "verify", "--address", &from, "hullo", signature];
    assert_ne!(run(Command::new(tool(Tool::Cast)).args(another)).await.code, Some(0));
}

#[tokio::test]
async fn forge_broadcasts_three_transactions_over_the_socket() {
    three_transactions(By::Socket).await;
}

#[tokio::test]
async fn forge_broadcasts_three_transactions_over_http() {
    three_transactions(By::Http).await;
}

async fn three_transactions(by: By) {
    let gateway = Gateway::with_policy(DEVELOPER).await;
    let project = project();
    let mut forge = Command::new(tool(Tool::Forge));
    forge.args(["script", "script/Three.s.sol", "--broadcast", "--unlocked", "--sender"]);
    forge
        .arg(gateway.treasury().to_string())
        .current_dir(project.path())
        .env("FOUNDRY_SOLC", tool(Tool::Solc));
    let done = through(&gateway, by, &forge).await;
    assert!(done.stdout.contains("ONCHAIN EXECUTION COMPLETE & SUCCESSFUL"), "{done:#?}");

    let sent = gateway.node().sent_by(gateway.treasury()).await;
    assert_eq!(sent.len(), 3, "{sent:#?}");
    let till = gateway.node().receipt(&sent[0]["hash"]).await["contractAddress"].clone();
    assert_eq!((&sent[1]["to"], &sent[2]["to"], &sent[2]["value"]), (&till, &till, &json!("0x1")));
    let payments = json!([{ "to": till, "data": "0xa6d23e10" }, "latest"]);
    assert_eq!(gateway.node().ask("eth_call", payments).await, format!("0x{:064x}", 2));
    assert_eq!(gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_refused_transaction_in_the_middle_of_a_burst_leaves_no_gap_and_costs_nothing() {
    // The first and the third of them may be sent: the call without value is not in here.
    let create = DEVELOPER.replace("to            = [\"create\", \"any\"]", "to            = [\"create\"]");
    let pay = DEVELOPER
        .replace("\"deploy\"", "\"pay\"")
        .replace("[\"create\", \"any\"]", "[\"any\"]")
        .replace("call          = \"any\"", "call          = \"empty\"");
    let budget = "[[budget]]\nid = \"two\"\nsum = \"count\"\nmax = 2\nwindow = \"1h\"\nmatch = { kind = \"transaction\" }\n";
    // The contract, the third of them as often as forge asks, and the payment; the second as often would be too many.
    let rate =
        "[[rate]]\nid = \"seven-an-hour\"\nmax = 7\nwindow = \"1h\"\nmatch = { kind = \"transaction\" }\n";
    let gateway = Gateway::with_policy(&format!("{create}{pay}{budget}{rate}")).await;
    let project = project();
    let mut forge = Command::new(tool(Tool::Forge));
    forge.args(["script", "script/Three.s.sol", "--broadcast", "--unlocked", "--sender"]);
    forge
        .arg(gateway.treasury().to_string())
        .current_dir(project.path())
        .env("FOUNDRY_SOLC", tool(Tool::Solc));
    let done = through(&gateway, By::Socket, &forge).await;
    assert_ne!(done.code, Some(0), "{done:#?}");

    assert_eq!(
        gateway.node().sent_by(gateway.treasury()).await.len(),
        1,
        "the contract, and nothing behind the gap"
    );
    // It asks five times for what is refused, which takes nothing of a budget or a rate, and is no alarm.
    let denied = |row: &&serde_json::Value| row.to_string().contains("transaction_denied");
    assert_eq!(gateway.audit().await.iter().filter(denied).count(), 5);
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    gateway.node().mines(gateway.treasury(), 2).await;
    let limits = gateway.chancery(&["limits", "--json"]).await.well();
    let rows: Vec<serde_json::Value> = limits.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["used"], &rows[0]["left"]), (1, &json!("2"), &json!("0")), "{limits}");
    let log = gateway.whole_log().await;
    assert!(!log.contains("ALARM") && !log.contains("ALERT"), "{log}");
}

#[tokio::test]
async fn a_script_that_would_be_refused_is_told_so_before_the_first_is_sent() {
    // The first and the third of them, as above.
    let policy = DEVELOPER.replace("to            = [\"create\", \"any\"]", "to            = [\"create\"]");
    let gateway = Gateway::with_policy(&format!("{policy}{}", POLICY.split("[caps]").next().unwrap())).await;
    let project = project();
    let treasury = gateway.treasury().to_string();
    let preflight = async |gateway: &Gateway, more: &[&str]| {
        let mut connect = gateway.connector("trader");
        connect.args(["run", "--preflight", "--"]).arg(tool(Tool::Forge));
        connect.args(["script", "script/Three.s.sol", "--broadcast", "--unlocked", "--sender", &treasury]);
        run(connect.args(more).current_dir(project.path()).env("FOUNDRY_SOLC", tool(Tool::Solc))).await
    };
    let told = preflight(&gateway, &[]).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    assert!(told.stderr.contains("  1 ok     to a new contract (rule `deploy`)"), "{told:#?}");
    assert!(told.stderr.contains("  2 DENIED to 0x"), "{told:#?}");
    assert!(told.stderr.contains("preflight: 2 of 3 would be refused; nothing was sent"), "{told:#?}");
    assert!(gateway.node().sent_by(gateway.treasury()).await.is_empty());
    let noted: Vec<_> = gateway
        .audit()
        .await
        .into_iter()
        .filter(|row| row.to_string().contains("chancery_preflight"))
        .collect();
    assert_eq!(noted.len(), 1, "once, however many of them: {noted:#?}");
    assert!(!project.path().join("broadcast").exists(), "nothing is left in the project");

    // Another function than `run`, for which forge gives its file another name.
    let script = project.path().join("script/Three.s.sol");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("function run()", "function go()")).unwrap();
    let told = preflight(&gateway, &["--sig", "go()"]).await;
    assert_eq!(told.code, Some(3), "{told:#?}");
    assert!(told.stderr.contains("preflight: 2 of 3 would be refused; nothing was sent"), "{told:#?}");
    assert!(gateway.node().sent_by(gateway.treasury()).await.is_empty());
    std::fs::write(&script, &text).unwrap();

    // A dry run that fails is the end of it; and so is one that sends nothing.
    let failed = preflight(&gateway, &["--sig", "nowhere()"]).await;
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    let sends = text.split("VM.startBroadcast();").next().unwrap().to_owned();
    std::fs::write(&script, format!("{sends}}}\n}}\n")).unwrap();
    let nothing = preflight(&gateway, &[]).await;
    assert!(nothing.code == Some(0) && nothing.stderr.contains("and is not run again"), "{nothing:#?}");
    std::fs::write(&script, text).unwrap();

    let gateway = Gateway::with_policy(DEVELOPER).await;
    let treasury = gateway.treasury().to_string();
    let mut connect = gateway.connector("trader");
    connect.args(["run", "--preflight", "--"]).arg(tool(Tool::Forge));
    connect.args(["script", "script/Three.s.sol", "--broadcast", "--unlocked", "--sender", &treasury]);
    let done = run(connect.current_dir(project.path()).env("FOUNDRY_SOLC", tool(Tool::Solc))).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert!(done.stderr.contains("preflight: all 3 would be signed"), "{done:#?}");
    assert_eq!(gateway.node().sent_by(gateway.treasury()).await.len(), 3);
}

#[tokio::test]
async fn a_preflight_says_what_a_send_would_be_answered_and_counts_nothing() {
    let policy = format!(
        "{POLICY}\n[[budget]]\nid = \"a-day\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"24h\"\nmatch = {{ from = [\"treasury\"] }}\n"
    );
    let gateway = Gateway::with_policy(&policy).await;
    let ask = async |client: &str, list: serde_json::Value| {
        gateway.client(client).call("chancery_preflight", json!([list])).await
    };
    let pay = |to: &str, value: &str| json!({ "from": gateway.treasury(), "to": to, "value": value, "gas": "0x5208", "nonce": "0x7" });
    let most = "0x8ac7230489e80000"; // 10 ether
    let half = "0x8e1bc9bf0400000"; // 0.64 ether
    let (fine, much, stranger) = (pay(FRIEND, half), pay(FRIEND, most), pay(STRANGER, "0x1"));
    let mut no_gas = fine.clone();
    no_gas.as_object_mut().unwrap().remove("gas");
    let said = ask(
        "trader",
        json!([fine, fine, much, stranger, no_gas, { "from": FRIEND, "to": FRIEND, "gas": "0x1" }, 5]),
    )
    .await;
    let said = said.unwrap();
    let all = said["transactions"].as_array().unwrap();
    assert_eq!((&all[0]["allowed"], &all[0]["rule"]), (&json!(true), &json!("pay-friend")));
    let code = |place: usize| all[place]["error"]["data"]["code"].as_str().unwrap().to_owned();
    let codes: Vec<_> = (2..7).map(code).collect();
    assert_eq!(
        codes,
        [
            "transaction_denied",
            "transaction_denied",
            "invalid_params",
            "account_not_available",
            "invalid_params"
        ]
    );
    let sent = gateway.client("trader").send(stranger).await.unwrap_err();
    assert_eq!(sent.message, all[3]["error"]["message"].as_str().unwrap(), "the words of a send");
    let budget = &said["budgets"][0];
    assert_eq!(
        (&budget["budget"], &budget["over"]),
        (&json!("a-day"), &json!(true)),
        "both together: {budget}"
    );

    // Nothing of it was taken, and nobody asks for another's account.
    gateway.client("trader").send(gateway.payment(0x8e1_bc9b_f040_0000)).await.unwrap();
    let intern = ask("intern", json!([fine])).await.unwrap();
    assert_eq!(intern["transactions"][0]["error"]["data"]["code"], "account_not_available");
    let many = ask("trader", json!(vec![&fine; 257])).await.unwrap_err();
    assert_eq!(many.code, -32602, "{many:?}");
    gateway.operate("admin", &["pause", "--all"]).await.well();
    let paused = ask("trader", json!([fine])).await.unwrap();
    assert_eq!(paused["transactions"][0]["error"]["data"]["code"], "paused");
}

#[tokio::test]
async fn inv_12_a_preflight_costs_nothing_for_an_account_that_is_not_the_clients() {
    let gateway = Gateway::with_policy(POLICY).await;
    let trader = gateway.client("trader");
    let asked = |from: &str, count: usize| {
        let nobodys = json!({
            "chainId": "0x7a69", "address": FRIEND, "nonce": "0x1", "yParity": "0x0", "r": "0x1", "s": "0x0",
        });
        json!({
            "from": from, "to": FRIEND, "gas": "0x186a0", "nonce": "0x7", "authorizationList": vec![nobodys; count],
        })
    };
    let node = gateway.node();
    let fees = || node.calls_of("eth_gasPrice").len() + node.calls_of("eth_feeHistory").len();
    let before = fees();
    let said =
        trader.call("chancery_preflight", json!([[asked(FRIEND, 32), asked(FRIEND, 32)]])).await.unwrap();
    for verdict in said["transactions"].as_array().unwrap() {
        assert_eq!(verdict["error"]["data"]["code"], "account_not_available", "{verdict}");
    }
    assert_eq!(fees(), before, "the node is asked for those only who may use the account");

    let treasury = gateway.treasury().to_string();
    let one = trader.call("chancery_preflight", json!([[asked(&treasury, 1)]])).await.unwrap();
    assert_eq!(one["transactions"][0]["error"]["data"]["code"], "invalid_params", "signed by nobody: {one}");
    let many = json!([[asked(&treasury, 17), asked(&treasury, 16)]]);
    let refused = trader.call("chancery_preflight", many).await.unwrap_err();
    assert!(refused.message.contains("33 authorizations are more than 32"), "{refused:?}");
}

#[tokio::test]
async fn a_page_or_a_neighbour_does_not_get_through_the_connector() {
    let gateway = Gateway::start().await;
    let (connector, url) = gateway.connect("trader").await;
    assert_eq!(plain(&url, "eth_chainId", json!([])).await, Ok(json!("0x7a69")));

    let host = url.trim_start_matches("http://").split('/').next().unwrap();
    let without_token = format!("http://{host}/");
    assert!(plain(&without_token, "eth_chainId", json!([])).await.is_err(), "without the token");
    let path = url.trim_start_matches("http://").trim_start_matches(host);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_accounts"}"#;
    for (why, header) in [
        ("rebound", "Host: evil.example\r\nContent-Type: application/json".to_owned()),
        ("a page", format!("Host: {host}\r\nContent-Type: application/json\r\nOrigin: https://evil.example")),
        ("a form", format!("Host: {host}\r\nContent-Type: text/plain")),
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\n{header}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = plain_raw(host, &request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{why}: {answer}");
    }
    connector.signal(Signal::TERM);
    connector.ends().await;
}

#[tokio::test]
async fn a_websocket_goes_through_the_connector_both_ways() {
    let gateway = Gateway::start().await;
    let (connector, url) = gateway.connect("trader").await;
    let url = url.replacen("http", "ws", 1);
    let from = gateway.treasury().to_string();
    let mut cast = Command::new(tool(Tool::Cast));
    cast.args(["send", "--unlocked", "--json", "--rpc-url", &url, "--from", &from, FRIEND, "--value", "1"]);
    let receipt: serde_json::Value = serde_json::from_str(&run(&mut cast).await.well()).unwrap();
    assert_eq!(receipt["status"], "0x1");
    gateway.node().mines(gateway.treasury(), 1).await;

    let (host, path) = url.trim_start_matches("ws://").split_once('/').unwrap();
    let handshake = |more: &str| {
        format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{more}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let page = plain_raw(host, handshake("Origin: https://evil.example\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 403"), "{page}");
    // What is open ends with the connector.
    let open = tokio::spawn({
        let (host, handshake) = (host.to_owned(), handshake(""));
        async move { plain_raw(&host, handshake).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!open.is_finished());
    let told = tokio::time::Instant::now();
    connector.signal(Signal::TERM);
    assert_eq!(connector.ends().await.code, Some(0));
    assert!(told.elapsed() < std::time::Duration::from_secs(8), "it is not waited for, as a request is");
    let tool = open.await.unwrap();
    assert!(tool.starts_with("HTTP/1.1 101") && tool.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{tool}");
}

#[tokio::test]
async fn a_websocket_that_the_gateway_does_not_take_is_refused_with_its_reason() {
    let gateway = Gateway::start().await;
    let extension = "chrome-extension://abcdefghijklmnopabcdefghijklmnop";
    let asked = async |more: &[&str], headers: &str| {
        let mut command = gateway.connector("trader");
        let mut connector = Process::start(command.args(["--json", "--http"]).args(more));
        let ready = connector.says("http://").await.unwrap_or_else(|end| panic!("{end:?}"));
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let (host, path) = ready["http"].as_str().unwrap()["http://".len()..].split_once('/').unwrap();
        let handshake = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = tokio::spawn({
            let host = host.to_owned();
            async move { plain_raw(&host, handshake).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        connector.signal(Signal::TERM);
        connector.ends().await;
        answer.await.unwrap()
    };
    // What lets somebody in here is not for the gateway, whose own list it is not on.
    let taken = asked(&["--allow-origin", extension], &format!("Origin: {extension}\r\n")).await;
    assert!(taken.starts_with("HTTP/1.1 101"), "{taken}");
    let elsewhere = asked(&["--server-name", "elsewhere.example"], "").await;
    assert!(
        elsewhere.starts_with("HTTP/1.1 502") && elsewhere.contains("it is for another server"),
        "{elsewhere}"
    );
    let unknown = asked(&["--server-name", "localhost:1"], "").await;
    assert!(unknown.starts_with("HTTP/1.1 502") && unknown.contains("HTTP 421"), "{unknown}");
}

#[tokio::test]
async fn a_renewed_certificate_is_picked_up_and_half_of_one_is_not() {
    let gateway = Gateway::start().await;
    let (connector, url) = gateway.connect("trader").await;
    let accounts = async || plain(&url, "eth_accounts", json!([])).await.unwrap().as_array().unwrap().len();
    assert_eq!(accounts().await, 1);

    // Another client's, to tell the two apart. First its certificate alone, whose key is not there yet.
    let key = std::fs::read(gateway.folder().join("trader.key")).unwrap();
    let (_, new_key) = gateway.world.authority.client("intern").write(gateway.folder(), "trader");
    let new = std::fs::read(&new_key).unwrap();
    std::fs::write(&new_key, key).unwrap();
    eventually("the half is seen", async || connector.stderr().contains("is not used").then_some(())).await;
    assert_eq!(accounts().await, 1, "the one before is used on");
    std::fs::write(&new_key, new).unwrap();
    eventually("the whole is used", async || (accounts().await == 0).then_some(())).await;
}

#[tokio::test]
async fn nodes_own_fetch_presents_the_certificate_by_the_preload_to_the_gateway_alone() {
    let gateway = Gateway::start().await;
    let script = run(gateway.connector("trader").arg("preload")).await.well();
    let file = gateway.folder().join("preload.cjs");
    std::fs::write(&file, &script).unwrap();
    assert!(!script.contains("PRIVATE KEY"), "it names the key and does not hold it: {script}");
    let ask = async |url: &str| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_accounts"}"#;
        let fetch = format!(
            "fetch('{url}', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: '{body}' }})\
             .then((answer) => answer.json()).then((answer) => console.log(answer.result.length))"
        );
        let mut node = Command::new("node");
        run(node.arg("--require").arg(&file).args(["-e", &fetch])).await
    };
    assert_eq!(ask(&gateway.url()).await.well().trim(), "1");
    // The same gateway by another name is another server, to which nothing is presented, and which is not trusted.
    let other = ask(&gateway.url().replace("127.0.0.1", "localhost")).await;
    assert!(other.code != Some(0) && other.stderr.contains("fetch failed"), "{other:?}");
}

async fn cast(gateway: &Gateway, by: By, arguments: &[&str]) -> Output {
    through(gateway, by, Command::new(tool(Tool::Cast)).args(arguments)).await
}

/// Runs a tool by `chancery connect run`, as the trader.
async fn through(gateway: &Gateway, by: By, command: &Command) -> Output {
    let mut connect = gateway.connector("trader");
    if matches!(by, By::Http) {
        connect.args(["--http", "0"]);
    }
    connect.args(["run", "--"]).arg(command.as_std().get_program()).args(command.as_std().get_args());
    if let Some(folder) = command.as_std().get_current_dir() {
        connect.current_dir(folder);
    }
    for (name, value) in command.as_std().get_envs() {
        connect.env(name, value.unwrap());
    }
    run(&mut connect).await
}

/// The project of these tests, copied to where forge may write.
fn project() -> TempDir {
    let folder = TempDir::with_prefix("chancery-foundry-").unwrap();
    copy(&repository().join("tests/blackbox/foundry"), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
