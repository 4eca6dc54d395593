//! One verb a file. Data goes to stdout, talk to stderr; every foreseeable mistake carries a hint.

pub mod admin_client;
pub mod audit;
pub mod certs;
pub mod connect;
pub mod doctor;
pub mod init;
pub mod keys;
pub mod limits;
mod output;
pub mod pause;
pub mod policy;
mod progress;
pub mod serve;
pub mod signer_worker;
pub mod tx;

pub use output::{Context, Done, Failure, HintExt, Success};
