//! Trying a transaction out (`eth_simulateV1`): what it would do to its account on the chain as it is now.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transaction::{Event, Filled, Simulation};
use crate::upstream::classify::shortened;
use crate::upstream::node::Node;
use crate::upstream::quote::call_of;
use crate::upstream::{Answer, Upstream, UpstreamError};

/// Gas for each look at a balance: tokens that lend need more than others.
const GAS_FOR_A_LOOK: &str = "0x7a120";

/// A block that was simulated, as far as we read it.
#[derive(Deserialize)]
struct Block {
    calls: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    status: String,
    return_data: Bytes,
    /// None of one that reverts.
    logs: Option<Vec<Log>>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Upstream {
    /// Has a node try out a transaction that is its account's next, by its mined count, with a look before and after at what the
    /// account has, of ether and of these tokens.
    pub async fn simulate(
        &self,
        of: &Filled,
        (mined, tokens): (u64, &[Address]),
    ) -> Result<Simulation, UpstreamError> {
        let teller = teller()?;
        let params = params(of, tokens, teller);
        let simulate = |node: Arc<Node>| {
            let params = params.clone();
            Box::pin(async move {
                // Before, not after: what it knows of then, it tries the transaction out on.
                if node.mined_at_latest(of.from()).await? != mined {
                    return Err(UpstreamError::garbage(
                        "it knows of another number of the account's transactions",
                    ));
                }
                read(node.ask("eth_simulateV1", Some(params)).await?, (mined, tokens))
            })
        };
        self.0.nodes.first(simulate).await
    }
}

/// Where the code stands, in the simulation only, that says what the account has. Another each time, so that no contract can
/// know it and act otherwise where it is.
fn teller() -> Result<Address, UpstreamError> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| UpstreamError::garbage(format!("no randomness: {error}")))?;
    Ok(bytes.into())
}

fn params(of: &Filled, tokens: &[Address], teller: Address) -> Value {
    let account = of.from();
    // PUSH20 account, BALANCE, and the word on top is returned.
    let code = [&[0x73][..], account.as_slice(), &[0x31, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]].concat();
    // balanceOf(address)
    let balance_of = Bytes::from([&[0x70, 0xa0, 0x82, 0x31][..], account.into_word().as_slice()].concat());
    let look =
        |at: &Address, data: &Bytes| json!({ "to": at, "data": data, "input": data, "gas": GAS_FOR_A_LOOK });
    let mut looks = vec![look(&teller, &Bytes::new())];
    looks.extend(tokens.iter().map(|token| look(token, &balance_of)));
    let mut transaction = call_of(of.request());
    if let Value::Object(transaction) = &mut transaction {
        transaction.insert("gas".to_owned(), json!(format!("{:#x}", of.gas())));
    }
    let calls = [looks.clone(), vec![transaction], looks].concat();
    let overrides = json!({ teller.to_string(): { "code": Bytes::from(code) } });
    json!([{ "blockStateCalls": [{ "stateOverrides": overrides, "calls": calls }] }, "latest"])
}

fn read(answer: Answer, (nonce, tokens): (u64, &[Address])) -> Result<Simulation, UpstreamError> {
    let blocks: Vec<Block> = answer.shape()?;
    let [Block { calls }] = blocks.as_slice() else {
        return Err(UpstreamError::garbage("it simulated another number of blocks"));
    };
    let looks = tokens.len().saturating_add(1);
    let (before, rest) = calls.split_at_checked(looks).unwrap_or_default();
    let Some((transaction, after)) = rest.split_first().filter(|(_, after)| after.len() == looks) else {
        return Err(UpstreamError::garbage("it simulated another number of calls"));
    };
    let balance = |call: &Call| {
        let word = Some(&call.return_data).filter(|data| call.succeeded() && data.len() == 32);
        let word = word.and_then(|data| U256::try_from_be_slice(data));
        word.ok_or_else(|| UpstreamError::garbage("a balance could not be looked at"))
    };
    let mut balances = Vec::with_capacity(looks);
    for (before, after) in before.iter().zip(after) {
        balances.push((balance(before)?, balance(after)?));
    }
    let mut balances = balances.into_iter();
    let event =
        |log: &Log| Event { address: log.address, topics: log.topics.clone(), data: log.data.clone() };
    let logs = match &transaction.logs {
        Some(logs) => logs.as_slice(),
        None if !transaction.succeeded() => &[],
        None => return Err(UpstreamError::garbage("it left out what the contracts said")),
    };
    Ok(Simulation {
        nonce,
        reverts: (!transaction.succeeded()).then(|| transaction.why()),
        ether: balances.next().unwrap_or_default(),
        tokens: tokens.iter().copied().zip(balances).collect(),
        logs: logs.iter().map(event).collect(),
    })
}

impl Call {
    fn succeeded(&self) -> bool {
        self.status == "0x1"
    }

    fn why(&self) -> String {
        let said = self.error.as_ref().map(|error| shortened(&error.message));
        said.filter(|said| !said.is_empty()).unwrap_or_else(|| "the node does not say why".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;

    use super::*;
    use crate::transaction::{Quote, QuotedFees, Request};
    use crate::upstream::tests::{ACCOUNT, Fake, Reply, still};

    const TOKEN: Address = address!("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48");

    fn filled() -> Filled {
        let asked =
            json!([{ "from": ACCOUNT, "to": TOKEN, "value": "0x7", "data": "0x1234", "gasPrice": "0x9" }]);
        let fees = QuotedFees { base_fee: Some(1), max_priority_fee: 1, gas_price: 1 };
        let quote = Quote { chain_id: 1, mined: 0, gas: Some(50_000), fees: Some(fees) };
        Request::parse(Some(&asked.to_string())).unwrap().fill(&quote, None).unwrap()
    }

    fn word(number: u64) -> Value {
        json!(B256::from(U256::from(number)))
    }

    fn call(data: &Value) -> Value {
        json!({ "status": "0x1", "returnData": data, "gasUsed": "0x1", "logs": [] })
    }

    #[tokio::test]
    async fn what_a_transaction_does_is_read_between_two_looks() {
        let fake = Fake::start().await;
        fake.on("eth_getTransactionCount", Reply::Result(json!("0x3")));
        let topic = B256::repeat_byte(1);
        let log = json!({ "address": TOKEN, "topics": [topic], "data": "0x05", "logIndex": "0x0" });
        let tried = json!({ "status": "0x1", "returnData": "0x", "logs": [log] });
        let calls = [call(&word(9)), call(&word(8)), tried, call(&word(2)), call(&word(10))];
        fake.on("eth_simulateV1", Reply::Result(json!([{ "number": "0x1", "calls": calls }])));
        let seen = fake.upstream(&still()).simulate(&filled(), (3, &[TOKEN])).await.unwrap();
        let event = Event { address: TOKEN, topics: vec![topic], data: Bytes::from_static(&[5]) };
        let pair = |a: u64, b: u64| (U256::from(a), U256::from(b));
        let expected = Simulation {
            nonce: 3,
            reverts: None,
            ether: pair(9, 2),
            tokens: vec![(TOKEN, pair(8, 10))],
            logs: vec![event],
        };
        assert_eq!(seen, expected);
        let [asked] = &fake.calls("eth_simulateV1")[..] else { panic!("asked once") };
        let tried = &asked[0]["blockStateCalls"][0]["calls"][2];
        assert_eq!(
            (&tried["value"], &tried["gas"], &tried["data"]),
            (&json!("0x7"), &json!("0xc350"), &json!("0x1234"))
        );
        assert!(tried.get("gasPrice").is_none(), "fees are judged elsewhere, and would be taken for a loss");
        assert_eq!(asked[1], "latest");
        // The account's balance is told by code at an address that nobody can foresee.
        fake.upstream(&still()).simulate(&filled(), (3, &[TOKEN])).await.unwrap();
        let tellers: Vec<_> = fake
            .calls("eth_simulateV1")
            .iter()
            .map(|asked| asked[0]["blockStateCalls"][0]["calls"][0]["to"].clone())
            .collect();
        assert_ne!(tellers[0], tellers[1]);
    }

    /// What stands behind others is tried out on a chain that it will never meet.
    #[tokio::test]
    async fn inv_11_a_node_that_knows_of_other_transactions_tries_nothing_out() {
        let fake = Fake::start().await;
        for count in ["0x2", "0x4"] {
            fake.on("eth_getTransactionCount", Reply::Result(json!(count)));
            let tried = fake.upstream(&still()).simulate(&filled(), (3, &[TOKEN])).await;
            let error = tried.unwrap_err().to_string();
            assert!(error.contains("another number of the account's transactions"), "{error}");
        }
        assert!(fake.calls("eth_simulateV1").is_empty());
    }

    /// A node that leaves something out has not said that it does not happen.
    #[tokio::test]
    async fn inv_11_what_is_not_told_in_full_is_no_answer() {
        let fake = Fake::start().await;
        fake.on("eth_getTransactionCount", Reply::Result(json!("0x3")));
        let good = [call(&word(9)), call(&word(8)), call(&json!("0x")), call(&word(2)), call(&word(10))];
        let of = |calls: &[Value]| json!([{ "calls": calls }]);
        let mut short = good.clone();
        short[4] = call(&json!("0x0a"));
        let mut failed = good.clone();
        failed[0]["status"] = json!("0x0");
        let mut silent = good.clone();
        silent[2].as_object_mut().unwrap().remove("logs");
        let mut reverted = good.clone();
        reverted[2] = json!({ "status": "0x0", "returnData": "0x", "error": { "code": 3, "message": "execution reverted: no" } });
        let upstream = fake.upstream(&still());
        for (answer, why) in [
            (of(&good[..4]), "another number of calls"),
            (of(&[]), "another number of calls"),
            (json!([]), "another number of blocks"),
            (json!([{ "calls": good }, { "calls": [] }]), "another number of blocks"),
            (of(&short), "could not be looked at"),
            (of(&failed), "could not be looked at"),
            (of(&silent), "left out what the contracts said"),
        ] {
            fake.on("eth_simulateV1", Reply::Result(answer));
            let error = upstream.simulate(&filled(), (3, &[TOKEN])).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fake.on("eth_simulateV1", Reply::Result(of(&reverted)));
        let seen = upstream.simulate(&filled(), (3, &[TOKEN])).await.unwrap();
        assert_eq!(seen.reverts.as_deref(), Some("execution reverted: no"));
        fake.on("eth_simulateV1", Reply::Error(-32601, "the method does not exist"));
        assert!(upstream.simulate(&filled(), (3, &[TOKEN])).await.is_err());
    }
}
