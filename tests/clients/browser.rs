//! A browser: the extension of `deploy/browser/` in Chromium, with pages that use it and pages that should not; and MetaMask's
//! own network stack, in Node and in an extension's worker. Chromium presents the client certificate as a managed policy says.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{FRIEND, Gateway, Node, Process, STRANGER, World, repository, run};
use crate::{script, tools};

/// By the keys of the two manifests.
const EXTENSION: &str = "ofjaknmjpogjhifceahcpjfojhgpcaok";
const METAMASK: &str = "cmenlieghaoidbachjkaklkjclnmjaph";

/// Whom only the pages that should not get through pay.
const PREY: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
/// What anvil gives to everyone, in wei.
const PREY_HAS: &str = "10000000000000000000000";

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
id            = "develop-on-base"
effect        = "allow"
kind          = "transaction"
chain         = 10
clients       = ["trader"]
from          = ["treasury"]
to            = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
call          = "empty"
value         = { max = "1 gwei" }
execution_fee = { max = "0.1 ether" }

[[rule]]
id     = "blocked"
effect = "deny"
kind   = "transaction"
to     = ["0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"]

[[rule]]
id      = "sign-in"
effect  = "allow"
kind    = "message"
clients = ["trader"]
from    = ["treasury", "other"]
text    = { prefix = "Example" }

[[rule]]
id           = "mail"
effect       = "allow"
kind         = "typed_data"
chain        = 31337
clients      = ["trader"]
from         = ["treasury", "other"]
to           = ["0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"]
primary_type = "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
fields       = { "from.wallet" = "any", "to.wallet" = "any" }

[[rule]]
id           = "permit"
effect       = "allow"
kind         = "typed_data"
chain        = 31337
clients      = ["trader"]
from         = ["treasury", "other"]
to           = ["0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"]
primary_type = "Permit"
fields       = { owner = "$from", spender = "0x5B38Da6a701c568545dCfcB03FcB875f56beddC4", value = { max = 3000 } }

[[rule]]
id      = "own-wallet"
effect  = "allow"
kind    = "presigned"
chain   = 31337
clients = ["trader"]
from    = ["0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"]
to      = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
call    = "empty"
value   = { max = "1 gwei" }

[caps]
max_gas      = 5_000_000
max_calldata = 131_072

[caps.chain.31337]
max_fee_per_gas   = "500 gwei"
max_execution_fee = "1 ether"

[caps.chain.10]
max_fee_per_gas   = "500 gwei"
max_execution_fee = "1 ether"
"#;

/// Where Chromium looks for what the machine's administrator has set.
const MANAGED: &str = "/etc/chromium/policies/managed";

/// What the browser is told by the machine's administrator; taken back when this is dropped.
struct ManagedPolicy;

impl ManagedPolicy {
    fn write(policy: &Value) -> Self {
        let young = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&young, policy.to_string()).unwrap();
        // A run that was killed takes nothing back, and the browser would believe it for as long as the machine stands.
        Self::take_back();
        as_root(&["install", "-d", MANAGED]);
        let file = format!("{MANAGED}/chancery-test.json");
        as_root(&["install", "-m", "644", young.path().to_str().unwrap(), &file]);
        Self
    }

    fn take_back() {
        let Ok(files) = std::fs::read_dir(MANAGED) else { return };
        for file in files.map(|file| file.unwrap().path()) {
            if file.file_name().unwrap().to_str().unwrap().starts_with("chancery-test") {
                as_root(&["rm", "-f", file.to_str().unwrap()]);
            }
        }
    }
}

/// Only root may tell Chromium what is managed.
fn as_root(command: &[&str]) {
    let mut words = if rustix::process::geteuid().is_root() { Vec::new() } else { vec!["sudo", "-n"] };
    words.extend(command);
    let done = std::process::Command::new(words[0]).args(&words[1..]).status();
    assert!(done.is_ok_and(|status| status.success()), "root is needed for: {}", words.join(" "));
}

impl Drop for ManagedPolicy {
    fn drop(&mut self) {
        Self::take_back();
    }
}

struct Browser {
    gateway: Gateway,
    _other_chain: Node,
    other: String,
}

impl Browser {
    async fn begin() -> Self {
        let other_chain = Node::start_with(&["--chain-id", "10"]).await;
        let world = World::new().await;
        let other = world.token.generate("other").await;
        for account in [world.treasury(), other] {
            world.node.adopt(account).await;
            other_chain.adopt(account).await;
        }
        let (node, ws) = (world.node.url(), world.node.ws_url());
        let origins =
            format!("origins = [\"chrome-extension://{EXTENSION}\", \"chrome-extension://{METAMASK}\"]");
        let world = world
            .policy(POLICY)
            .replace("[chain]", "[[chain]]")
            .replace(
                "timeout = \"2s\"\n",
                &format!(
                    "timeout = \"2s\"\n[[chain.nodes]]\nname = \"anvil\"\nurl = \"{node}\"\nws = \"{ws}\"\n"
                ),
            )
            .replace(&format!("node = \"{node}\"\n"), "")
            .replace("accounts = [\"treasury\"]", &format!("accounts = [\"treasury\", \"other\"]\n{origins}"))
            .append(&format!(
                "\n[[account]]\nname = \"other\"\naddress = \"{other}\"\ntoken = \"main\"\nkey = \"other\"\n\
                 \n[[chain]]\nname = \"base\"\nid = 10\nnode = \"{}\"\n",
                other_chain.url()
            ));
        Self { gateway: world.start().await, _other_chain: other_chain, other: other.to_string() }
    }

    /// Runs Chromium with the extensions and these URLs of the two chains, and does what `tests/clients/browser/run.cjs` says.
    async fn runs(&self, mode: &str, one: &str, two: &str) {
        let folder = self.gateway.folder().join(mode);
        self.certificates(&folder).await;
        let extensions = [repository().join("deploy/browser"), metamask(&folder).await];
        let mut command = Command::new("node");
        command
            .arg(script("browser/run.cjs"))
            .arg(mode)
            .env("NODE_PATH", tools().join("browser/node_modules"))
            .env("ETHERS", tools().join("clients/node_modules/ethers"))
            .env("DAPP", tools().join("browser/node_modules/@metamask/test-dapp/dist"))
            .env("HOME", &folder)
            .env("EXTENSIONS", extensions.map(|path| path.display().to_string()).join(","))
            .env("IDS", format!("{EXTENSION},{METAMASK}"))
            .env("ONE", one)
            .env("TWO", two)
            .env("NODE_URL", self.gateway.node().url())
            .env("METAMASK", folder.join("metamask/node.js"))
            .env("FROM", self.gateway.treasury().to_string())
            .env("OTHER", &self.other)
            .env("FRIEND", FRIEND)
            .env("STRANGER", STRANGER)
            .env("PREY", PREY);
        let said = run(&mut command).await.well();
        assert!(said.ends_with("all is well\n"), "{said}");
    }

    /// The user's certificate and the gateway's authority, where Chromium looks for them.
    async fn certificates(&self, home: &Path) {
        let store = home.join(".pki/nssdb");
        std::fs::create_dir_all(&store).unwrap();
        let (certificate, key) = self.gateway.world.authority.client("trader").write(home, "trader");
        let container = home.join("trader.p12");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-export", "-passout", "pass:x", "-name", "trader", "-in"]).arg(certificate);
        run(openssl.arg("-inkey").arg(key).arg("-out").arg(&container)).await.well();
        let store = format!("sql:{}", store.display());
        let certutil = |words: &[&str]| {
            let mut command = Command::new("certutil");
            command.args(["-d", &store]).args(words);
            command
        };
        run(&mut certutil(&["-N", "--empty-password"])).await.well();
        let ca = self.gateway.folder().join("ca.pem");
        run(certutil(&["-A", "-n", "authority", "-t", "C,,", "-i"]).arg(ca)).await.well();
        let mut import = Command::new("pk12util");
        run(import.args(["-d", &store, "-W", "x", "-i"]).arg(container)).await.well();
    }

    /// A connector that lets the extensions in, and the URL that it has for them.
    async fn connect(&self, path: &str) -> (Process, String) {
        let (certificate, key) =
            self.gateway.world.authority.client("trader").write(self.gateway.folder(), "trader");
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args(["--json", "connect", &format!("{}{path}", self.gateway.url()), "--http"]);
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
        command.arg("--ca").arg(self.gateway.folder().join("ca.pem"));
        command
            .arg("--socket")
            .arg(self.gateway.folder().join(format!("browser{}.ipc", path.replace('/', "-"))));
        for id in [EXTENSION, METAMASK] {
            command.arg("--allow-origin").arg(format!("chrome-extension://{id}"));
        }
        let mut process = Process::start(&mut command);
        let ready = process.says("http://").await.unwrap_or_else(|end| panic!("{end:?}"));
        let ready: Value = serde_json::from_str(&ready).unwrap();
        (process, ready["http"].as_str().unwrap().to_owned())
    }

    /// Nothing was paid, signed or even judged for a page that was not let in.
    async fn nothing_was_taken(&self) {
        assert_eq!(
            self.gateway.node().balance(PREY).await,
            PREY_HAS.parse::<alloy_primitives::U256>().unwrap()
        );
        let of_prey = |row: &Value| row.to_string().to_lowercase().contains(&PREY[2..].to_lowercase());
        let rows = self.gateway.audit().await;
        assert!(!rows.is_empty() && !rows.iter().any(of_prey), "{rows:#?}");
    }
}

/// MetaMask's network stack as an extension.
async fn metamask(home: &Path) -> PathBuf {
    let folder = home.join("metamask");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(script("browser/metamask/manifest.json"), folder.join("manifest.json")).unwrap();
    bundle("worker.js", "browser", &folder).await;
    bundle("node.js", "node", &folder).await;
    folder
}

/// One file of MetaMask's packages and what it needs.
async fn bundle(source: &str, platform: &str, folder: &Path) {
    let mut esbuild = Command::new(tools().join("browser/node_modules/@esbuild/linux-x64/bin/esbuild"));
    esbuild.arg(script("browser/metamask").join(source)).args(["--bundle", "--log-level=error"]);
    esbuild.arg(format!("--platform={platform}")).arg(format!("--outfile={}", folder.join(source).display()));
    esbuild.env("NODE_PATH", tools().join("browser/node_modules"));
    // Some of them look for Node's globals, as MetaMask's own build gives them; and one could do without `fetch`, by these.
    esbuild.args(["--define:global=globalThis", "--define:process.env={}"]);
    esbuild.args(["http", "https", "zlib", "util", "url"].map(|name| format!("--external:{name}")));
    run(&mut esbuild).await.well();
}

#[tokio::test]
async fn browser() {
    let browser = Browser::begin().await;
    let url = browser.gateway.url();
    let select = json!({ "pattern": url, "filter": { "ISSUER": { "CN": "Throwaway CA" } } }).to_string();
    let gateways = json!([{ "name": "One", "url": url }, { "name": "Two", "url": format!("{url}/base") }]);
    let managed = json!({
        "AutoSelectCertificateForUrls": [select],
        "3rdparty": { "extensions": { EXTENSION: { "gateways": gateways, "announceAsMetaMask": true } } },
    });
    let policy = ManagedPolicy::write(&managed);
    browser.runs("certificate", &url, &format!("{url}/base")).await;
    drop(policy);
    // They got as far as the door: the certificate went along with them.
    assert!(browser.gateway.metric("chancery_rpc_rejected_total{reason=\"origin\"").await > 3.0);
    browser.nothing_was_taken().await;

    // Now the certificate is the connectors', and the browser has none.
    let (_one, one) = browser.connect("").await;
    let (_two, two) = browser.connect("/base").await;
    browser.runs("connector", &one, &two).await;
    browser.nothing_was_taken().await;
    // What is not for pages never came here.
    let calls = async |method: &str| {
        browser.gateway.metric(&format!("chancery_rpc_calls_total{{method=\"{method}\"")).await
    };
    assert!(calls("eth_blockNumber").await > 0.0);
    for method in
        ["eth_config", "eth_sendRawTransactionConditional", "eth_signAuthorization", "chancery_preflight"]
    {
        assert_eq!(calls(method).await, 0.0, "{method}");
    }
    assert_eq!(browser.gateway.chancery(&["audit", "verify"]).await.code, Some(0));
}
