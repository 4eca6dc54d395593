//! The program with everything around it.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use alloy_primitives::Address;
use rustix::process::{Pid, Signal};
use rustls::version::TLS13;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::authority::{Authority, Identity, tls};
use super::client::{Answer, Client, RpcError};
use super::node::{CHAIN_ID, Node};
use super::process::{Output, Process, run};
use super::token::{self, Token};
use super::tools::softhsm_module;
use super::{FRIEND, POLICY, eventually};

/// The people of these tests: the trader may use the treasury, the intern may only look, the others operate.
const CLIENTS: &[(&str, &[&str])] = &[("trader", &["treasury"]), ("intern", &[])];
const OPERATORS: &[(&str, &str)] = &[("admin", "admin"), ("auditor", "auditor")];

/// A running gateway. Dropping it kills it, and removes everything that it wrote.
pub struct Gateway {
    process: Option<Process>,
    pub world: World,
}

/// Another process beside a gateway.
pub struct Replica {
    pub process: Process,
    pub address: SocketAddr,
}

/// What is around the program, and what it is told: good for a start, until a test changes it.
pub struct World {
    pub authority: Authority,
    pub token: Token,
    pub node: Node,
    treasury: Address,
    folder: TempDir,
    port: u16,
    admin_port: u16,
    config: String,
    /// What the shell does that `serve` is started by.
    prelude: String,
}

impl Gateway {
    /// The program as most tests want it.
    pub async fn start() -> Self {
        World::new().await.start().await
    }

    /// With another policy than [`POLICY`].
    pub async fn with_policy(policy: &str) -> Self {
        World::new().await.policy(policy).start().await
    }

    /// Someone with a good certificate, by name: `trader`, `intern`, or one that nobody knows.
    pub fn client(&self, name: &str) -> Client {
        self.visitor(Some(&self.world.authority.client(name)))
    }

    /// Someone at the admin listener's door.
    pub fn admin_visitor(&self, name: &str) -> Client {
        let address = SocketAddr::from(([127, 0, 0, 1], self.world.admin_port));
        Client::new(address, &tls(&self.world.authority, Some(&self.world.authority.client(name)), &TLS13))
    }

    /// Someone with any certificate, or none.
    pub fn visitor(&self, identity: Option<&Identity>) -> Client {
        Client::new(self.world.address(), &tls(&self.world.authority, identity, &TLS13))
    }

    /// A GET on the admin listener.
    pub async fn admin(&self, name: &str, path: &str) -> Result<Answer, String> {
        self.world.ask_admin(name, path).await
    }

    /// A sum of the metrics whose line begins so.
    pub async fn metric(&self, prefix: &str) -> f64 {
        let page = self.admin("admin", "/metrics").await.unwrap().body;
        let of = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        page.lines().filter(|line| line.starts_with(prefix)).map(of).sum()
    }

    pub const fn treasury(&self) -> Address {
        self.world.treasury
    }

    pub const fn node(&self) -> &Node {
        &self.world.node
    }

    pub fn folder(&self) -> &Path {
        self.world.folder()
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.world.address())
    }

    /// A transaction that the policy allows.
    pub fn payment(&self, wei: u64) -> Value {
        json!({ "from": self.treasury(), "to": FRIEND, "value": format!("{wei:#x}") })
    }

    /// Sends all of these at the same time, each as the trader on a connection of its own.
    pub async fn send_at_once(
        &self,
        transactions: impl IntoIterator<Item = Value>,
    ) -> Vec<Result<Value, RpcError>> {
        let send = |transaction| {
            let trader = self.client("trader");
            tokio::spawn(async move { trader.send(transaction).await })
        };
        let running: Vec<_> = transactions.into_iter().map(send).collect();
        let mut answers = Vec::new();
        for one in running {
            answers.push(one.await.unwrap());
        }
        answers
    }

    /// `chancery connect` as someone, without its last arguments.
    pub fn connector(&self, name: &str) -> Command {
        let (certificate, key) = self.world.authority.client(name).write(self.folder(), name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.arg("connect").arg(self.url()).arg("--cert").arg(certificate).arg("--key").arg(key);
        command.arg("--ca").arg(self.folder().join("ca.pem"));
        command.arg("--socket").arg(self.folder().join(format!("{name}.ipc")));
        command
    }

    /// A connector that stays, and the URL that it has for tools.
    pub async fn connect(&self, name: &str) -> (Process, String) {
        let mut process = Process::start(self.connector(name).args(["--http", "0", "--json"]));
        let line = process.says("http://").await.unwrap_or_else(|end| panic!("{end:?}"));
        let url = line.split('"').find(|part| part.starts_with("http://")).unwrap().to_owned();
        (process, url)
    }

    /// Another verb of the program, on this gateway's configuration.
    pub async fn chancery(&self, arguments: &[&str]) -> Output {
        self.world.chancery(arguments).await
    }

    /// A verb that asks the admin listener, as this operator (or whoever else has a certificate).
    pub async fn operate(&self, name: &str, arguments: &[&str]) -> Output {
        let (certificate, _) = self.world.authority.client(name).write(self.folder(), name);
        let certificate = certificate.display().to_string();
        self.chancery(&[arguments, &["--cert", &certificate]].concat()).await
    }

    /// A POST of JSON to the admin listener.
    pub async fn admin_post(&self, name: &str, path: &str, body: &Value) -> Answer {
        let request = http::Request::post(format!("https://127.0.0.1:{}{path}", self.world.admin_port))
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(body.to_string().into()));
        self.admin_visitor(name).request(request.unwrap()).await.unwrap()
    }

    /// What `audit show --json` has: one row a line.
    pub async fn audit(&self) -> Vec<Value> {
        let text = self.chancery(&["audit", "show", "--last", "1000", "--json"]).await.well();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the program has logged since it was started.
    pub fn log(&self) -> String {
        self.process().stderr()
    }

    /// Waits until it has logged this.
    pub async fn logs(&self, what: &str) {
        eventually(what, async || self.log().contains(what).then_some(())).await;
    }

    /// All that it has logged, to its end.
    pub async fn whole_log(mut self) -> String {
        self.signal(Signal::TERM);
        self.ends().await.stderr
    }

    /// Whether anybody reads its log from now on.
    pub fn log_is_read(&self, is_read: bool) {
        self.process().listen(is_read);
    }

    /// Waits until the only budget has counted each of so many transactions once, which are all that were asked for: of fewer,
    /// more would be spent than is allowed, and of more, less.
    pub async fn has_counted(&self, transactions: u64) {
        let used = async || -> Value {
            let row = self.chancery(&["limits", "--json"]).await.well();
            serde_json::from_str::<Value>(&row).unwrap()["used"].take()
        };
        let (expected, first) = (json!(transactions.to_string()), used().await);
        let what = format!("{expected} transactions are counted, and {first} were at first");
        eventually(&what, async || (used().await == expected).then_some(())).await;
    }

    /// Every transaction that is signed and not final, as `tx list` tells it.
    pub async fn not_final(&self) -> Vec<Value> {
        let listed = self.operate("auditor", &["tx", "list", "--json"]).await.well();
        let mut listed: Value = serde_json::from_str(&listed).unwrap();
        serde_json::from_value(listed["transactions"].take()).unwrap()
    }

    /// Waits until every transaction that is signed is mined, also those above a nonce that stays free: such a gap is filled
    /// by a transfer of nothing.
    pub async fn settled(&self) {
        eventually("every nonce is mined", async || {
            let waiting: Vec<u64> = self
                .not_final()
                .await
                .iter()
                .filter(|one| one["state"] == "recorded")
                .map(|one| one["nonce"].as_u64().expect("a nonce"))
                .collect();
            let mined = self.node().mined(self.treasury()).await;
            waiting.iter().all(|nonce| *nonce < mined).then_some(())
        })
        .await;
    }

    /// Starts a second gateway on the same ledger, which must not run; and says why it does not.
    pub async fn rival(&self) -> Output {
        let file = self.folder().join("rival.toml");
        let (port, admin_port) = (self.world.port.to_string(), self.world.admin_port.to_string());
        let config = self.world.config.replace(&port, &free_port().to_string());
        std::fs::write(&file, config.replace(&admin_port, &free_port().to_string())).unwrap();
        run(Command::new(env!("CARGO_BIN_EXE_chancery")).arg("--config").arg(file).arg("serve")).await
    }

    /// Starts another process for the same accounts, clients and policy, where nothing but the node, the token and what
    /// the configuration shares is shared.
    pub async fn replica(&self, name: &str) -> Replica {
        self.replica_with(name, |config| config).await
    }

    /// The same, with a configuration that is changed once more.
    pub async fn replica_with(&self, name: &str, change: impl FnOnce(String) -> String) -> Replica {
        let (port, admin_port) = (free_port(), free_port());
        let config = self.world.config.replace(&self.world.port.to_string(), &port.to_string());
        let config = config.replace(&self.world.admin_port.to_string(), &admin_port.to_string());
        let config = config.replace("path = \"", &format!("path = \"{name}/"));
        let file = self.folder().join(format!("{name}.toml"));
        std::fs::write(&file, change(config)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.arg("--config").arg(file).current_dir(self.folder()).args(["serve", "--json"]);
        let mut process = Process::start(&mut command);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        process.says(&address.to_string()).await.unwrap_or_else(|end| panic!("{end:?}"));
        Replica { process, address }
    }

    /// Someone with a good certificate, at another address that is in front of this gateway or of a replica.
    pub fn client_at(&self, address: SocketAddr, name: &str) -> Client {
        Client::new(address, &tls(&self.world.authority, Some(&self.world.authority.client(name)), &TLS13))
    }

    /// The program's process.
    pub fn pid(&self) -> Pid {
        self.process().pid()
    }

    /// The signer workers.
    pub fn workers(&self) -> Vec<Pid> {
        self.process().children()
    }

    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits for the program to end by itself.
    pub async fn ends(&mut self) -> Output {
        self.process.take().expect("it runs").ends().await
    }

    /// `kill -9`, as a power cut would.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ends().await;
    }

    /// Starts it again after an end.
    pub async fn restart(&mut self) {
        self.process = Some(self.world.serve().await.unwrap_or_else(|end| panic!("{end:?}")));
    }

    const fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with_node(Node::start().await).await
    }

    pub async fn with_node(node: Node) -> Self {
        let folder = TempDir::with_prefix("chancery-").unwrap();
        let token = Token::create(&folder.path().join("token")).await;
        let treasury = token.generate("treasury").await;
        node.adopt(treasury).await;
        let authority = Authority::new();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        authority.server().write(folder.path(), "server");
        let (port, admin_port) = (free_port(), free_port());
        let config = config(&token, treasury, &node.url(), port, admin_port);
        let world = Self {
            authority,
            token,
            node,
            treasury,
            folder,
            port,
            admin_port,
            config,
            prelude: String::new(),
        };
        world.policy(POLICY)
    }

    /// Replaces the policy.
    pub fn policy(self, text: &str) -> Self {
        let policies = self.folder().join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        std::fs::write(policies.join("main.toml"), text).unwrap();
        self
    }

    /// With a budget that has room for every transaction, for [`Gateway::has_counted`].
    pub fn counting(self) -> Self {
        let budget = "[[budget]]\nid = \"all\"\nsum = \"count\"\nmax = 1_000_000\nwindow = \"24h\"\n\
                      match = { kind = \"transaction\" }\n";
        let file = self.folder().join("policies/main.toml");
        let policy = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, policy + budget).unwrap();
        self
    }

    /// Changes the configuration; `from` must stand in it.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "there is no `{from}` in\n{}", self.config);
        self.config = self.config.replacen(from, to, 1);
        self
    }

    /// Adds to the configuration.
    pub fn append(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    /// Lets the token's module write here; without the network, which no module of these tests needs.
    pub fn lets_write(self, folder: &Path) -> Self {
        let more = format!("[[token]]\nfiles = [\"{}\"]", folder.display());
        self.replace("[[token]]", &more)
    }

    /// Has the shell do something before it becomes `serve`: its arguments are the command.
    pub fn shell(mut self, prelude: &str) -> Self {
        prelude.clone_into(&mut self.prelude);
        self
    }

    /// Has the signer worker load another module than SoftHSM2 itself, with these variables for it.
    pub fn module(self, module: &Path, environment: &[(&str, &str)]) -> Self {
        let mut text = format!("module = \"{}\"\n", module.display());
        for (name, value) in environment {
            writeln!(text, "environment.{name} = \"{value}\"").unwrap();
        }
        let module = format!("module = \"{}\"\n", softhsm_module().display());
        self.replace(&module, &text)
    }

    pub async fn start(self) -> Gateway {
        self.try_start().await.unwrap_or_else(|end| panic!("it does not start: {end:#?}"))
    }

    pub async fn try_start(self) -> Result<Gateway, Output> {
        let process = self.serve().await?;
        Ok(Gateway { process: Some(process), world: self })
    }

    /// What it says where it either does not start, or starts and cannot sign.
    pub async fn refuses_or_is_not_ready(&self) -> String {
        match self.serve().await {
            Err(end) => end.stderr,
            Ok(_running) => {
                let answer = self.ask_admin("admin", "/readyz").await.unwrap();
                assert_eq!(answer.status, http::StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
                answer.body
            }
        }
    }

    pub const fn treasury(&self) -> Address {
        self.treasury
    }

    async fn ask_admin(&self, name: &str, path: &str) -> Result<Answer, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.admin_port));
        let identity = self.authority.client(name);
        let client = Client::new(address, &tls(&self.authority, Some(&identity), &TLS13));
        let request =
            http::Request::get(format!("https://{address}{path}")).body(http_body_util::Full::default());
        client.request(request.unwrap()).await
    }

    /// Why it does not start.
    pub async fn refuses_to_start(&self) -> Output {
        match self.serve().await {
            Ok(process) => panic!("it starts: {}", process.stdout()),
            Err(end) => {
                assert!(end.code.is_some_and(|code| code != 0), "{end:?}");
                end
            }
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), self.port)
    }

    pub async fn chancery(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments)).await
    }

    fn command(&self) -> Command {
        let file = self.folder().join("chancery.toml");
        std::fs::write(&file, &self.config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.arg("--config").arg(file).current_dir(self.folder());
        command
    }

    /// Starts the program, and does not wait until it listens.
    pub fn begin(&self) -> Process {
        self.begin_to(&["serve", "--json"])
    }

    /// Starts another verb of it.
    pub fn begin_to(&self, arguments: &[&str]) -> Process {
        // The signal that a file has grown too large is ignored, so that the write fails as on a full disk.
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ\n{}\nexec \"$@\"", self.prelude);
        shell.args(["-c", &script, "sh"]).current_dir(self.folder());
        let command = self.command();
        shell.arg(command.as_std().get_program()).args(command.as_std().get_args()).args(arguments);
        Process::start(&mut shell)
    }

    async fn serve(&self) -> Result<Process, Output> {
        let mut process = self.begin();
        process.says(&self.address().to_string()).await?;
        Ok(process)
    }
}

/// A port that nobody has: below those that the system hands out by itself, and each only once in this process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 97).unwrap() * 200;
    loop {
        let port = 10_240 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn config(token: &Token, treasury: Address, node: &str, port: u16, admin_port: u16) -> String {
    let mut text = format!(
        r#"
[gateway]
listen = "127.0.0.1:{port}"
hosts = ["127.0.0.1:{port}", "localhost:{port}"]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
drain = "5s"

[admin]
listen = "127.0.0.1:{admin_port}"

[chain]
id = {CHAIN_ID}
node = "{node}"
timeout = "2s"

[policy]
directory = "policies"

[ledger]
path = "ledger.sqlite"

[[token]]
network = false
name = "main"
label = "{label}"
pin_file = "{pin_file}"
module = "{module}"
environment.SOFTHSM2_CONF = "{softhsm}"

[[account]]
name = "treasury"
address = "{treasury}"
token = "main"
key = "treasury"
"#,
        label = token::LABEL,
        pin_file = token.pin_file().display(),
        module = softhsm_module().display(),
        softhsm = token.configuration().display(),
    );
    for (name, accounts) in CLIENTS {
        writeln!(
            text,
            "\n[[client]]\nname = \"{name}\"\nidentity = \"spiffe://chancery/{name}\"\naccounts = {accounts:?}"
        )
        .unwrap();
    }
    for (name, role) in OPERATORS {
        writeln!(
            text,
            "\n[[operator]]\nname = \"{name}\"\nidentity = \"spiffe://chancery/{name}\"\nrole = \"{role}\"\nperson = \"{name}\""
        )
        .unwrap();
    }
    text
}
