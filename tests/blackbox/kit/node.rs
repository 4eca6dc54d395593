//! The node: anvil, reached through a recorder by the program and directly by the test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::client;
use super::process::Process;
use super::recorder::{Call, Fault, Recorder};
use super::tools::{Tool, tool};

pub const CHAIN_ID: u64 = 31337;

/// An anvil whose accounts are all unlocked, behind a tripwire: the test fails if a call that needs a key, or one
/// that only the node's owner may make, ever comes through it.
#[derive(Debug)]
pub struct Node {
    anvil: Option<Process>,
    direct: String,
    recorder: Recorder,
    care: AbortHandle,
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further arguments for anvil, such as `--no-mining`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let mut anvil = Process::start(Command::new(tool(Tool::Anvil)).args(["--port", "0"]).args(arguments));
        let line = anvil.says("Listening on ").await.unwrap_or_else(|end| panic!("anvil: {end:?}"));
        let address = line.rsplit(' ').next().unwrap();
        let recorder = Recorder::start(address).await;
        let direct = format!("http://{address}");
        let care = tokio::spawn(look_after(direct.clone())).abort_handle();
        Self { anvil: Some(anvil), direct, recorder, care }
    }

    /// Where the program finds it.
    pub fn url(&self) -> String {
        self.recorder.url()
    }

    /// Where its subscriptions are: past the recorder, which knows only calls.
    pub fn ws_url(&self) -> String {
        self.direct.replacen("http", "ws", 1)
    }

    /// Asks the node itself, past the recorder.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        client::plain(&self.direct, method, params).await.unwrap()
    }

    /// The same, with its whole answer, which may be an error.
    pub async fn ask_raw(&self, method: &str, params: Value) -> Value {
        client::plain_answer(&self.direct, method, params).await.unwrap()
    }

    /// Gives `account` a hundred ether, and has the node ready to send for it: so that what gets through would work.
    pub async fn adopt(&self, account: Address) {
        let hundred = U256::from(100) * U256::from(10).pow(U256::from(18));
        self.ask("anvil_setBalance", json!([account, hundred])).await;
        self.ask("anvil_impersonateAccount", json!([account])).await;
        // forge looks at the newest block, which must know of it.
        self.ask("evm_mine", json!([])).await;
    }

    pub async fn balance(&self, account: &str) -> U256 {
        let balance = self.ask("eth_getBalance", json!([account, "latest"])).await;
        serde_json::from_value(balance).unwrap()
    }

    /// Waits until `count` transactions of `account` are mined, and no more: a node mines a moment after it answers.
    pub async fn mines(&self, account: Address, count: u64) {
        let mut mined = 0;
        super::eventually("they are mined", async || {
            mined = self.mined(account).await;
            (mined >= count).then_some(())
        })
        .await;
        assert_eq!(mined, count);
    }

    /// How many transactions of `account` are mined.
    pub async fn mined(&self, account: Address) -> u64 {
        let count = self.ask("eth_getTransactionCount", json!([account, "latest"])).await;
        serde_json::from_value::<U256>(count).unwrap().to()
    }

    /// Every mined transaction of `account`, in order.
    pub async fn sent_by(&self, account: Address) -> Vec<Value> {
        let last: U256 = serde_json::from_value(self.ask("eth_blockNumber", json!([])).await).unwrap();
        let mut sent = Vec::new();
        for number in 1..=last.to::<u64>() {
            let block = self.ask("eth_getBlockByNumber", json!([format!("{number:#x}"), true])).await;
            let from = |transaction: &&Value| transaction["from"].as_str().unwrap().parse() == Ok(account);
            sent.extend(block["transactions"].as_array().unwrap().iter().filter(from).cloned());
        }
        sent
    }

    pub async fn transaction(&self, hash: &Value) -> Value {
        self.ask("eth_getTransactionByHash", json!([hash])).await
    }

    pub async fn receipt(&self, hash: &Value) -> Value {
        self.ask("eth_getTransactionReceipt", json!([hash])).await
    }

    /// Every call that the program made, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.recorder.calls()
    }

    /// The calls of one method that the program made.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// The bodies that the program sent, letter by letter.
    pub fn bodies(&self) -> Vec<String> {
        self.recorder.bodies()
    }

    /// How many calls wait for a delayed answer.
    pub fn waiting(&self) -> usize {
        self.recorder.waiting()
    }

    /// From now on answers `method` (`"*"`: every method) in this way.
    pub fn fail(&self, method: &str, fault: Fault) {
        self.recorder.fail(method, fault);
    }

    /// From now on answers as it should.
    pub fn heal(&self) {
        self.recorder.heal();
    }

    /// Ends the node for good.
    pub fn stop(&mut self) {
        self.anvil = None;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.care.abort();
    }
}

/// What comes while a block is made stays in anvil's queue for ever, now and then, as if a nonce below it were missing
/// (foundry issue 10122 is of that kind). All that its account has in the pool is taken out and put in again, in order:
/// one alone cannot be, `anvil_dropTransaction` does not see the queue.
async fn look_after(anvil: String) {
    let mut stuck_before = BTreeSet::new();
    loop {
        sleep(Duration::from_millis(500)).await;
        let Ok(pool) = client::plain(&anvil, "txpool_content", json!([])).await else { continue };
        let mut stuck = BTreeSet::new();
        for (account, queued) in pool["queued"].as_object().into_iter().flatten() {
            let mined = client::plain(&anvil, "eth_getTransactionCount", json!([account, "latest"])).await;
            let Ok(next) = mined else { continue };
            let next = serde_json::from_value::<U256>(next).unwrap_or_default();
            let Some(hash) = queued[&next.to_string()]["hash"].as_str() else { continue };
            // Looked at twice, it is not on its way.
            if stuck_before.contains(hash) {
                put_in_again(&anvil, account, queued).await;
            }
            stuck.insert(hash.to_owned());
        }
        stuck_before = stuck;
    }
}

/// What comes meanwhile and gets lost with the others is sent again by who sent it.
async fn put_in_again(anvil: &str, account: &str, queued: &Value) {
    let ask = async |method: &str, params: Value| client::plain(anvil, method, params).await.ok();
    let mut raw = BTreeMap::new();
    for (nonce, transaction) in queued.as_object().into_iter().flatten() {
        let bytes = ask("eth_getRawTransactionByHash", json!([transaction["hash"]])).await;
        raw.insert(nonce.parse::<u64>().unwrap(), bytes);
    }
    ask("anvil_removePoolTransactions", json!([account])).await;
    for bytes in raw.into_values().flatten() {
        ask("eth_sendRawTransaction", json!([bytes])).await;
    }
}
