//! One client's trial: what it can do, what its user gets to see when something is wrong, and how often it asks then.
//! The first is a row of `docs/clients.md`, the rest a file in `golden/`; with `CHANCERY_BLESS=1` both are written anew.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{FRIEND, Fault, Gateway, Process, STRANGER, TestToken, World, eventually, repository, run};

/// Who is paid once an hour, and no more.
const LIMITED: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
/// An account that nobody has here.
const NOBODY: &str = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65";

const POLICY: &str = r#"
[[rule]]
id            = "develop"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["trader"]
from          = ["treasury", "other"]
to            = ["create", "any"]
call          = "any"
value         = { max = "1 gwei" }
execution_fee = { max = "0.1 ether" }

[[rule]]
id     = "blocked"
effect = "deny"
kind   = "transaction"
to     = ["0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"]

[[rule]]
id      = "greet"
effect  = "allow"
kind    = "message"
clients = ["trader"]
from    = ["treasury"]
text    = { prefix = "hello" }

[[rule]]
id           = "order"
effect       = "allow"
kind         = "typed_data"
chain        = 31337
clients      = ["trader"]
from         = ["treasury"]
to           = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
primary_type = "Order(address maker,uint256 amount,string note)"
fields       = { maker = "$from" }

[[rate]]
id     = "once-an-hour"
max    = 1
window = "1h"
match  = { kind = "transaction", to = ["0x90F79bf6EB2c4f870365E785982E1f101E93b906"] }
"#;

/// The columns of the table, by the names that clients give to what they have done.
const COLUMNS: [&str; 8] =
    ["accounts", "transfer", "deploy", "call", "parallel", "message", "typed data", "events"];

/// What is wrong, whose account pays whom then, and how often asking again and again is no storm.
const TROUBLES: [(&str, Trouble); 5] = [
    ("the policy denies it", Trouble::Denied),
    ("the account is nobody's", Trouble::UnknownAccount),
    ("a rate is used up", Trouble::RateLimit),
    ("the node is down", Trouble::NodeDown),
    ("the token is down", Trouble::TokenDown),
];

#[derive(Clone, Copy)]
enum Trouble {
    Denied,
    UnknownAccount,
    RateLimit,
    NodeDown,
    TokenDown,
}

/// What a client says when it has done everything.
#[derive(Deserialize)]
pub struct Report {
    pub name: String,
    pub version: String,
    pub done: Vec<String>,
}

pub struct Trial {
    pub gateway: Gateway,
    /// Where the connector listens, for tools that present no certificate.
    pub url: String,
    pub from: String,
    /// A second account of the same client.
    pub other: String,
    pub token: TestToken,
    _connector: Process,
}

impl Trial {
    pub async fn begin() -> Self {
        let (world, token) = TestToken::before(World::new().await);
        let other = world.token.generate("other").await;
        world.node.adopt(other).await;
        let (node, ws) = (world.node.url(), world.node.ws_url());
        let world = world
            .policy(POLICY)
            .replace(
                "timeout = \"2s\"\n",
                &format!(
                    "timeout = \"2s\"\n[[chain.nodes]]\nname = \"anvil\"\nurl = \"{node}\"\nws = \"{ws}\"\n"
                ),
            )
            .replace(&format!("node = \"{node}\"\n"), "")
            .replace("accounts = [\"treasury\"]", "accounts = [\"treasury\", \"other\"]")
            .append(&format!(
                "\n[[account]]\nname = \"other\"\naddress = \"{other}\"\ntoken = \"main\"\nkey = \"other\"\n"
            ));
        let gateway = world.start().await;
        let (connector, url) = gateway.connect("trader").await;
        let from = gateway.treasury().to_string();
        Self { gateway, url, from, other: other.to_string(), token, _connector: connector }
    }

    /// Puts a program through everything that is asked of it by its environment.
    pub async fn passes(&self, by: &str, command: impl Fn() -> Command) {
        let mut program = command();
        let said = run(self.equip(&mut program)).await.well();
        let report = said.lines().last().and_then(|line| serde_json::from_str::<Report>(line).ok());
        let report = report.unwrap_or_else(|| panic!("it did not come to its end: {said}"));
        self.meets_trouble(&report.name, false, async |from, to| {
            let mut program = command();
            self.equip(&mut program).env("TROUBLE", "yes").env("PAYER", from).env("PAYEE", to);
            run(&mut program).await.well()
        })
        .await;
        certify(&report, by);
    }

    /// What every program is told.
    pub fn equip<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let folder = self.gateway.folder();
        let tools = repository().join(".tools");
        command
            .env("URL", &self.url)
            .env("WSS", self.gateway.url().replacen("https", "wss", 1))
            .env("CA", folder.join("ca.pem"))
            .env("CERT", folder.join("trader.pem"))
            .env("KEY", folder.join("trader.key"))
            .env("FROM", &self.from)
            .env("OTHER", &self.other)
            .env("FRIEND", FRIEND)
            .env("NODE_PATH", tools.join("clients/node_modules"))
            .env("FORCE_COLOR", "0")
    }

    /// Has `pay` fail for each reason, and compares what it gives with the golden file of this name; and how often it asks.
    /// One that sends several at once asks another number of times each time, and of a rate hears this or that.
    pub async fn meets_trouble(&self, name: &str, burst: bool, pay: impl AsyncFn(&str, &str) -> String) {
        let mut text = String::new();
        for (why, trouble) in TROUBLES {
            if burst && matches!(trouble, Trouble::RateLimit) {
                continue;
            }
            text.push_str(&self.meets(name, (why, trouble), burst, &pay).await);
        }
        self.token.lift();
        eventually("the token is back", async || {
            let ready = self.gateway.admin("admin", "/readyz").await.ok()?;
            ready.status.is_success().then_some(())
        })
        .await;
        golden(name, &text);
    }

    /// What one that otherwise sends several at once gives, and how often it asks, when a rate is used up and it sends one.
    pub async fn meets_rate(&self, name: &str, pay: impl AsyncFn(&str, &str) -> String) {
        golden(name, &self.meets(name, TROUBLES[2], false, &pay).await);
    }

    async fn meets(
        &self,
        name: &str,
        (why, trouble): (&str, Trouble),
        burst: bool,
        pay: &impl AsyncFn(&str, &str) -> String,
    ) -> String {
        let (from, to) = self.make(trouble).await;
        let before = self.refusals().await;
        let began = std::time::Instant::now();
        let said = pay(from, to).await;
        println!("{name}: {why}: after {:.1} s", began.elapsed().as_secs_f32());
        self.gateway.node().heal();
        let asked = self.refusals().await - before;
        let asked = if burst { String::new() } else { format!(": asked {}", times(asked)) };
        format!("== {why}{asked}\n\n{}\n\n", self.masked(&said))
    }

    async fn make(&self, trouble: Trouble) -> (&str, &str) {
        match trouble {
            Trouble::Denied => return (&self.from, STRANGER),
            Trouble::UnknownAccount => return (NOBODY, FRIEND),
            Trouble::RateLimit => {
                let payment = json!({ "from": self.from, "to": LIMITED, "value": "0x1" });
                // The one of this hour, if it is still to be had.
                let _ = self.gateway.client("trader").send(payment).await;
                return (&self.from, LIMITED);
            }
            Trouble::NodeDown => self.gateway.node().fail("*", Fault::Drop),
            Trouble::TokenDown => self.token.faults(&["on = \"*\"; code = \"CKR_DEVICE_REMOVED\""]),
        }
        (&self.from, FRIEND)
    }

    /// How many requests for a signature were refused so far: what a tool repeats is counted by it. But not those that
    /// came behind a refused one with a nonce of their own.
    async fn refusals(&self) -> usize {
        let counts = |row: &&Value| row["kind"] == "refusal" && !row.to_string().contains("nonce_gap");
        self.gateway.audit().await.iter().filter(counts).count()
    }

    /// Without what is another in each run.
    fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&self.url, "<url>").replace(&self.url.replacen("http", "ws", 1), "<url>");
        for (account, name) in [(&self.from, "<treasury>"), (&self.other, "<other>")] {
            text = text.replace(account.as_str(), name).replace(&account.to_lowercase(), name);
        }
        let text = runs(&text, |c| c.is_ascii_hexdigit(), |run| (run.len() == 32).then_some("<request id>"));
        // That a token is gone is noticed by whichever call comes first, of a worker that works or of one that starts.
        let text = text
            .replace(" (in a sandbox: `files`, `network` and `sandbox` of [[token]] say what it may use)", "")
            .replace("C_Initialize CKR", "<call> CKR")
            .replace("C_SignInit CKR", "<call> CKR");
        // Of the rate, whose hour has begun some seconds ago.
        let seconds = |run: &str| (run.len() == 4 && ("3500".."3601").contains(&run)).then_some("<seconds>");
        let text = runs(&text, |c| c.is_ascii_digit(), seconds);
        let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        lines.trim().to_owned()
    }
}

/// Compares, or writes.
fn golden(name: &str, text: &str) {
    let file = repository()
        .join("tests/clients/golden")
        .join(format!("{}.txt", name.replace(", ", "-").replace(' ', "-")));
    if blessing() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{} is another; CHANCERY_BLESS=1 writes it anew", file.display());
}

/// A client's row in the table of `docs/clients.md` is what it has shown.
pub fn certify(report: &Report, by: &str) {
    static FILE: Mutex<()> = Mutex::new(());
    let unknown: Vec<_> = report.done.iter().filter(|done| !COLUMNS.contains(&done.as_str())).collect();
    assert!(unknown.is_empty(), "no column for {unknown:?}");
    let done = COLUMNS.map(|column| if report.done.iter().any(|done| done == column) { "✓" } else { "" });
    let start = format!("| {} |", report.name);
    let row = format!("{start} {} | {by} | {} |", report.version, done.join(" | "));
    let _one_at_a_time = FILE.lock();
    let file: PathBuf = repository().join("docs/clients.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) =
        text.split_once("<!-- the table, by tests/clients -->\n").expect("the table's start");
    let (table, behind) = rest.split_once("<!-- the end of the table -->\n").expect("the table's end");
    let mut rows: Vec<_> = table.lines().collect();
    if blessing() {
        rows.retain(|row| !row.starts_with(&start));
        let head = rows.iter().position(|row| row.starts_with("|---")).expect("the table's head") + 1;
        let place = rows[head..].iter().position(|other| *other > row.as_str()).unwrap_or(rows.len() - head);
        rows.insert(head + place, &row);
        let table = rows.join("\n");
        let text = format!(
            "{before}<!-- the table, by tests/clients -->\n{table}\n<!-- the end of the table -->\n{behind}"
        );
        std::fs::write(&file, text).unwrap();
    } else {
        let found = rows.into_iter().find(|row| row.starts_with(&start));
        assert_eq!(
            found,
            Some(row.as_str()),
            "docs/clients.md says something else; CHANCERY_BLESS=1 writes it anew"
        );
    }
}

fn blessing() -> bool {
    std::env::var_os("CHANCERY_BLESS").is_some()
}

fn times(number: usize) -> String {
    match number {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

/// Replaces runs of such characters.
fn runs(text: &str, of: impl Fn(char) -> bool, replace: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(&of) {
        let (before, tail) = rest.split_at(start);
        let (run, after) = tail.split_at(tail.find(|c| !of(c)).unwrap_or(tail.len()));
        out.push_str(before);
        out.push_str(replace(run).unwrap_or(run));
        rest = after;
    }
    out.push_str(rest);
    out
}
