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
mod stop;
pub mod tx;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

pub use output::{Context, Done, Failure, HintExt, Success};

/// Keys, PINs and signatures that have not left yet are in this process: no core dump has them, and no other process of this
/// user may look.
fn harden() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
