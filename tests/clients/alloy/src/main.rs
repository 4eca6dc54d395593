//! What every client must be able to do, unchanged, with alloy, which presents our certificate by itself: see `scenario.cjs`.

use std::env;
use std::error::Error;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, Signature, U256, eip191_hash_message};
use alloy::providers::{Provider, ProviderBuilder, WsConnect};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::sol;
use alloy::sol_types::{SolStruct as _, eip712_domain};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const RECOVERS: &str = "0x60168060093d393df33d3da0363d3d3760203d363d60015afa5060206000f3";

sol! {
    #[derive(serde::Serialize)]
    struct Order {
        address maker;
        uint256 amount;
        string note;
    }
}

type Answer<T> = Result<T, Box<dyn Error>>;

struct Client<P> {
    provider: P,
    from: Address,
}

impl<P: Provider> Client<P> {
    async fn mined(&self, transaction: TransactionRequest) -> Answer<alloy::rpc::types::TransactionReceipt> {
        let sent = self.provider.send_transaction(transaction.with_from(self.from)).await?;
        Ok(sent.get_receipt().await?)
    }

    /// By the library, and by a contract.
    async fn verify(&self, contract: Address, digest: B256, signature: &Value) -> Answer<()> {
        let bytes: Bytes = serde_json::from_value(signature.clone())?;
        let signature = Signature::from_raw(&bytes)?;
        assert_eq!(signature.recover_address_from_prehash(&digest)?, self.from);
        let v = U256::from(u64::from(signature.v()) + 27);
        let data =
            [digest.0, v.to_be_bytes(), signature.r().to_be_bytes(), signature.s().to_be_bytes()].concat();
        let call = TransactionRequest::default().with_to(contract).with_input(data);
        let said = self.provider.call(call).await?;
        assert_eq!(Address::from_slice(&said[12..]), self.from);
        Ok(())
    }

    /// Its WebSockets present no certificate, and so go through the connector.
    async fn hears(&self, contract: Address) -> Answer<()> {
        let url = env::var("URL")?.replacen("http", "ws", 1);
        let socket = ProviderBuilder::new().connect_ws(WsConnect::new(url)).await?;
        let mut logs = socket.subscribe_logs(&Filter::new().address(contract)).await?.into_stream();
        self.mined(TransactionRequest::default().with_to(contract)).await?;
        assert_eq!(logs.next().await.ok_or("the subscription has ended")?.address(), contract);
        Ok(())
    }

    async fn ask(&self, method: &'static str, params: Value) -> Answer<Value> {
        Ok(self.provider.raw_request(method.into(), params).await?)
    }
}

#[tokio::main]
async fn main() -> Answer<()> {
    let read = |name: &str| Ok::<_, Box<dyn Error>>(std::fs::read(env::var(name)?)?);
    let pair = [read("CERT")?, read("KEY")?].concat();
    let http = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&read("CA")?)?])
        .identity(reqwest::Identity::from_pem(&pair)?)
        .build()?;
    let url = env::var("WSS")?.replacen("wss", "https", 1).parse()?;
    let provider = ProviderBuilder::new().connect_reqwest(http, url);
    let address = |name: &str| Ok::<Address, Box<dyn Error>>(env::var(name)?.parse()?);
    let pay = |to| TransactionRequest::default().with_to(to).with_value(U256::from(1));
    if env::var("TROUBLE").is_ok() {
        let refused = provider.send_transaction(pay(address("PAYEE")?).with_from(address("PAYER")?)).await;
        println!("{}", refused.err().ok_or("this should have failed")?);
        return Ok(());
    }

    let (from, friend) = (address("FROM")?, address("FRIEND")?);
    let client = Client { provider, from };
    assert_eq!(client.provider.get_accounts().await?, [from, address("OTHER")?]);
    assert!(client.mined(pay(friend)).await?.status());
    let code = TransactionRequest::default().with_deploy_code(RECOVERS.parse::<Bytes>()?);
    let contract = client.mined(code).await?.contract_address.ok_or("nothing was created")?;
    assert!(client.mined(TransactionRequest::default().with_to(contract)).await?.status());

    // Its nonces are its own: it counts on from what is pending, for all that it sends at once.
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.push(client.provider.send_transaction(pay(friend).with_from(from)).await?);
    }
    for one in sent {
        assert!(one.get_receipt().await?.status());
    }

    let signature = client.ask("personal_sign", json!([Bytes::from("hello alloy"), from])).await?;
    client.verify(contract, eip191_hash_message("hello alloy"), &signature).await?;
    let amount: U256 = "123456789012345678901234567890".parse()?;
    let order = Order { maker: from, amount, note: "hello".to_owned() };
    let domain =
        eip712_domain! { name: "Chancery", version: "1", chain_id: 31337, verifying_contract: friend, };
    let typed = alloy::dyn_abi::TypedData::from_struct(&order, Some(domain.clone()));
    let signature = client.ask("eth_signTypedData_v4", json!([from, typed])).await?;
    client.verify(contract, order.eip712_signing_hash(&domain), &signature).await?;

    client.hears(contract).await?;

    let done = ["accounts", "transfer", "deploy", "call", "parallel", "message", "typed data", "events"];
    println!("{}", json!({ "name": "alloy", "version": version()?, "done": done }));
    Ok(())
}

/// As it was locked.
fn version() -> Answer<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let (_, ours) = lock.split_once("name = \"alloy\"\nversion = \"").ok_or("alloy is not in the lock")?;
    Ok(ours.split_once('"').ok_or("its version has no end")?.0)
}
