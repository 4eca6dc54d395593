//! The test kit. [`Gateway::start`] gives a whole throwaway world: a certificate authority, a token with a key,
//! a node behind a tripwire, and the program itself. Everything is real, and all of it is gone when it is dropped.

mod authority;
mod client;
mod disk;
mod gateway;
mod node;
mod preload;
mod process;
mod recorder;
#[path = "../../../src/ledger/tests/server.rs"]
mod server;
mod socket;
pub mod test_token;
mod token;
mod tools;

pub use authority::{Authority, tls};
pub use client::{Client, RpcError, plain, plain_raw};
pub use disk::SmallDisk;
pub use gateway::{Gateway, World, free_port};
pub use node::Node;
pub use preload::{FailingCalls, WallClock};
pub use process::{Output, Process, run};
pub use recorder::Fault;
pub use server::Server;
pub use socket::Socket;
pub use test_token::{TestKey, TestToken};
pub use token::{LABEL, PIN, RemoteToken, Token};
pub use tools::{Tool, remote_module, repository, softhsm_module, spy_module, tool};

use std::time::Duration;

use alloy_primitives::{Address, B256, Signature};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Tries until there is something, which must be soon.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(Instant::now() < deadline, "{what}: not within 90 s");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends under a key until there is a hash, wherever that comes from; as a careful client does.
pub async fn insist(client: impl Fn() -> Client, transaction: Value, key: String) -> String {
    let began = Instant::now();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction] });
    let mut said = String::new();
    while began.elapsed() < Duration::from_secs(90) {
        let client = client();
        let mut request = client.json_request(call.to_string());
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        if let Ok(answer) = client.request(request).await {
            said = answer.body;
            let answer: Value = serde_json::from_str(&said).unwrap_or_default();
            if let Some(hash) = answer["result"].as_str() {
                return hash.to_owned();
            }
            // Nothing but that it could not be done now: -32603, or what became of it is not known yet, or those before
            // it wait for a gap below them to be filled.
            let why = (&answer["error"]["code"], &answer["error"]["data"]["code"]);
            assert!(*why.0 == -32603 || *why.1 == "too_many_open", "{said}");
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("{key}: {said}");
}

/// How many of something: as the environment says, for a long run, or a few.
pub fn number_of(variable: &str, few: u64) -> u64 {
    let said = std::env::var_os(variable);
    said.map_or(few, |said| said.to_str().and_then(|said| said.parse().ok()).expect("a number"))
}

/// Whose signature it is, by another implementation than the program's own.
pub fn signer_of(digest: B256, signature: &Signature) -> Address {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&signature.as_bytes()[..64]);
    let parity = k256::ecdsa::RecoveryId::new(signature.v(), false);
    let signature = k256::ecdsa::Signature::from_slice(&bytes).unwrap();
    let key = k256::ecdsa::VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, parity).unwrap();
    Address::from_raw_public_key(&key.to_encoded_point(false).as_bytes()[1..])
}

/// Who is paid in these tests: the second of anvil's well-known accounts.
pub const FRIEND: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/// Whom no policy of these tests allows to be paid: the third one.
pub const STRANGER: &str = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc";

/// What the policy allows unless a test brings its own: small payments to [`FRIEND`], and greetings.
pub const POLICY: &str = r#"
[[rule]]
id            = "pay-friend"
effect        = "allow"
kind          = "transaction"
chain         = 31337
clients       = ["trader"]
from          = ["treasury"]
to            = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
call          = "empty"
value         = { max = "1 ether" }
execution_fee = { max = "0.05 ether" }

[[rule]]
id      = "greet"
effect  = "allow"
kind    = "message"
clients = ["trader"]
from    = ["treasury"]
text    = { prefix = "hello" }

[caps]
max_fee_per_gas   = "500 gwei"
max_gas           = 5_000_000
max_execution_fee = "1 ether"
max_calldata      = 131_072
"#;
