//! A desk with one client, one account and the payments policy, for the targets that judge.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use alloy_primitives::{Address, address};
use chancery::config::Client;
use chancery::identity::{AccountCaller, Caller, RequestId};
use chancery::policy::{Policy, World};
use chancery::transaction::{Quote, QuotedFees};

pub const TREASURY: Address = address!("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");

pub static WORLD: LazyLock<World> = LazyLock::new(|| World {
    chains: vec![1],
    accounts: [("treasury".to_owned(), TREASURY)].into(),
    clients: ["finance", "robot"].map(client).into(),
});

pub static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/payments");
    Policy::load(&folder, &WORLD).expect("the example policy")
});

pub const QUOTE: Quote = Quote {
    chain_id: 1,
    mined: 7,
    gas: Some(50_000),
    fees: Some(QuotedFees {
        base_fee: Some(1_000_000_000),
        max_priority_fee: 1_000_000,
        gas_price: 1_001_000_000,
    }),
};

pub fn caller() -> AccountCaller {
    let caller = Caller::new(Arc::new(client("finance")), RequestId::from_number(1));
    caller.for_account(TREASURY).expect("its own account")
}

/// The same client, with what another has signed.
pub fn presenting(signer: Address) -> AccountCaller {
    Caller::new(Arc::new(client("finance")), RequestId::from_number(1)).presenting(signer)
}

fn client(name: &str) -> Client {
    Client {
        name: name.to_owned(),
        identity: name.to_owned(),
        issuer: chancery::config::OWN_ISSUER.to_owned(),
        role: None,
        person: None,
        accounts: vec![TREASURY],
        origins: Vec::new(),
        repeat_window: None,
    }
}
