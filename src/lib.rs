//! Chancery: a mutual-TLS reverse proxy for Ethereum JSON-RPC that signs in a hardware security module.
//!
//! A request walks through the folders in this order, and each stage takes what the one before it made:
//!
//! 1. [`listener`] accepts a TLS connection, and refuses whoever has no certificate of ours.
//! 2. [`identity`] turns the certificate into a client: its name, its role, its accounts.
//! 3. [`rpc`] reads the body strictly and finds out which calls are in it.
//! 4. [`methods`] does what each call asks; `send_transaction.rs` is the whole product in ten lines.
//! 5. [`transaction`] says what exactly is asked, without doubt or default.
//! 6. [`policy`] decides whether this client may have that signed: a `Permitted`, or a refusal with its rule.
//! 7. [`ledger`] makes it so that it happens once: a nonce, an audit intent, one durable commit: a `Reserved`.
//! 8. [`signer`] has the token sign it, and proves the signature by recovery: a `Signed`, then a `Recorded`.
//! 9. [`upstream`] hands a `Recorded`, and nothing else, to the network.
//!
//! [`admin`] watches, [`audit`] makes the record provable, [`config`] says how, [`cmd`] starts it all.

pub mod admin;
pub mod audit;
pub mod body;
pub mod cli;
pub mod clock;
pub mod cmd;
pub mod config;
pub mod identity;
pub mod ledger;
pub mod listener;
pub mod log;
pub mod methods;
pub mod metrics;
pub mod policy;
pub mod room;
pub mod rpc;
pub mod seats;
pub mod secret;
pub mod signer;
pub mod transaction;
pub mod turns;
pub mod upstream;
