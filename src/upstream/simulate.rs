//! Trying a transaction out (`eth_simulateV1`): what it would do to its account on the chain as it is now.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, address};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transaction::{Event, Filled, Simulation};
use crate::upstream::classify::shortened;
use crate::upstream::node::Node;
use crate::upstream::quote::call_of;
use crate::upstream::{Answer, Upstream, UpstreamError};

/// Where the code stands, in the simulation only, that says what the account has: nobody has a key for it.
const TELLER: Address = address!("0x63c8d1c0E6a1C2C9b1B9c2B7D1C4f70bC4a1Ce11");

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
    #[serde(default)]
    logs: Vec<Log>,
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
    /// Has a node try out a transaction, with a look before and after at what the account has, of ether and of these tokens.
    pub async fn simulate(&self, of: &Filled, tokens: &[Address]) -> Result<Simulation, UpstreamError> {
        let params = params(of, tokens);
        let simulate = |node: Arc<Node>| {
            let params = params.clone();
            Box::pin(async move { read(node.ask("eth_simulateV1", Some(params)).await?, tokens) })
        };
        self.0.nodes.first(simulate).await
    }
}

fn params(of: &Filled, tokens: &[Address]) -> Value {
    let account = of.from();
    // PUSH20 account, BALANCE, and the word on top is returned.
    let code = [&[0x73][..], account.as_slice(), &[0x31, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]].concat();
    // balanceOf(address)
    let balance_of = Bytes::from([&[0x70, 0xa0, 0x82, 0x31][..], account.into_word().as_slice()].concat());
    let look =
        |at: &Address, data: &Bytes| json!({ "to": at, "data": data, "input": data, "gas": GAS_FOR_A_LOOK });
    let mut looks = vec![look(&TELLER, &Bytes::new())];
    looks.extend(tokens.iter().map(|token| look(token, &balance_of)));
    let mut transaction = call_of(of.request());
    if let Value::Object(transaction) = &mut transaction {
        transaction.insert("gas".to_owned(), json!(format!("{:#x}", of.gas())));
    }
    let calls = [looks.clone(), vec![transaction], looks].concat();
    let overrides = json!({ TELLER.to_string(): { "code": Bytes::from(code) } });
    json!([{ "blockStateCalls": [{ "stateOverrides": overrides, "calls": calls }] }, "latest"])
}

fn read(answer: Answer, tokens: &[Address]) -> Result<Simulation, UpstreamError> {
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
    Ok(Simulation {
        reverts: (!transaction.succeeded()).then(|| transaction.why()),
        ether: balances.next().unwrap_or_default(),
        tokens: tokens.iter().copied().zip(balances).collect(),
        logs: transaction.logs.iter().map(event).collect(),
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
        let topic = B256::repeat_byte(1);
        let log = json!({ "address": TOKEN, "topics": [topic], "data": "0x05", "logIndex": "0x0" });
        let tried = json!({ "status": "0x1", "returnData": "0x", "logs": [log] });
        let calls = [call(&word(9)), call(&word(8)), tried, call(&word(2)), call(&word(10))];
        fake.on("eth_simulateV1", Reply::Result(json!([{ "number": "0x1", "calls": calls }])));
        let seen = fake.upstream(&still()).simulate(&filled(), &[TOKEN]).await.unwrap();
        let event = Event { address: TOKEN, topics: vec![topic], data: Bytes::from_static(&[5]) };
        let pair = |a: u64, b: u64| (U256::from(a), U256::from(b));
        let expected = Simulation {
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
    }

    /// A node that leaves something out has not said that it does not happen.
    #[tokio::test]
    async fn inv_11_what_is_not_told_in_full_is_no_answer() {
        let fake = Fake::start().await;
        let good = [call(&word(9)), call(&word(8)), call(&json!("0x")), call(&word(2)), call(&word(10))];
        let of = |calls: &[Value]| json!([{ "calls": calls }]);
        let mut short = good.clone();
        short[4] = call(&json!("0x0a"));
        let mut failed = good.clone();
        failed[0]["status"] = json!("0x0");
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
        ] {
            fake.on("eth_simulateV1", Reply::Result(answer));
            let error = upstream.simulate(&filled(), &[TOKEN]).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fake.on("eth_simulateV1", Reply::Result(of(&reverted)));
        let seen = upstream.simulate(&filled(), &[TOKEN]).await.unwrap();
        assert_eq!(seen.reverts.as_deref(), Some("execution reverted: no"));
        fake.on("eth_simulateV1", Reply::Error(-32601, "the method does not exist"));
        assert!(upstream.simulate(&filled(), &[TOKEN]).await.is_err());
    }
}
