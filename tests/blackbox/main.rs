//! Black-box tests: the program as built, against a real token (SoftHSM2), a real node (anvil) and real tools.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test may panic, and the kit is part of the tests"
)]

mod abuse;
mod admin;
mod alerts;
mod audit;
mod blobs;
mod budgets;
mod chains;
mod clock;
mod connect;
mod crashes;
mod created;
mod delegation;
mod doctor;
mod faults;
mod first_steps;
mod idempotency;
mod isolation;
mod json;
mod keys;
mod keystore;
mod kit;
mod ledger;
mod nonces;
mod op_stack;
mod outcome;
mod policy;
mod presigned;
mod reads;
mod reload;
mod replicas;
mod sockets;
mod tls;
mod token;
mod tools;
mod transaction;
mod trust;
mod typed_data;
mod upstream;
