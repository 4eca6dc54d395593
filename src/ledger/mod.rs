//! May it be signed *now*: nonces, idempotency and audit, in one durable commit before the token is asked and
//! one before anything leaves.
//!
//! `core.rs` decides and is pure, as are `life.rs`, which says what may become of a payload, `keys.rs` and `pause.rs`; `claims.rs` holds what
//! waits for a decision; `writer.rs` is the one task that writes, `apply.rs` what it writes, `store.rs` the tables, `db.rs` the database;
//! `replay.rs` lives the audit chain through again, and is pure.
//!
//! **Invariant:** nothing but this module makes a `Reserved` or a `Recorded`, and only after its commit.

mod accounts;
mod again;
mod agreed;
mod ahead;
mod apply;
mod archive;
mod audit;
mod authorizations;
mod beside;
mod budget;
mod chain_store;
mod charges;
mod claims;
mod command;
mod core;
mod counts;
mod creations;
mod db;
mod deeds;
mod doubts;
mod error;
mod gather;
mod group;
mod handle;
mod handover;
mod hands;
mod headroom;
mod in_force;
mod key_rows;
mod key_store;
mod keys;
mod lag;
mod life;
mod lines;
mod lock;
mod nonce_store;
mod note;
mod offline;
mod open;
mod others;
mod outcome;
mod pause;
mod pauses;
mod places;
mod presented;
mod reader;
mod recount;
mod repeats;
mod replay;
mod reserved;
mod rules;
mod said;
mod seals;
mod show;
mod standing;
mod store;
mod tally;
mod usage;
mod verify;
mod watermark;
mod writer;

pub use self::core::{MAX_GAPS, NotReplaced};
pub use archive::{ArchiveError, Archived, oldest};
pub use audit::{Administration, Entry, RefusedRow};
pub use db::Location;
pub use deeds::{Deed, deeds};
pub use doubts::Doubt;
pub use error::{LedgerError, OverBudget, RecordError, ReserveError};
pub use handle::{Earlier, Ledger};
pub use in_force::{InForce, in_force};
pub use key_rows::{KeyRow, key_rows, open_of};
pub use lock::in_use;
pub use note::{
    Access, Configuration, KeyUse, Note, Reconciliation, Refusals, SealedRow, TokenCount, Tried, TrustRead,
};
pub use offline::note_offline;
pub use open::{OpenTransaction, Pages};
pub use outcome::{Final, Outcome, RefusalClass, Voided};
pub use pause::{Pause, PauseOrder, PauseScope, Paused};
pub use presented::Presented;
pub use reserved::{Claim, Purpose, Recorded, ReservationId, Reserved, Signed, Standing};
pub use show::{Filter, export, show};
pub use standing::{LastCheckpoint, Watch};
pub use usage::{Usage, usage};
pub use verify::{Against, Broken, Verified, verify, verify_against};

#[cfg(test)]
mod tests {
    mod archive;
    mod batches;
    mod budgets;
    mod chain;
    mod databases;
    mod durable;
    mod faults;
    mod hands;
    mod keys;
    pub(in crate::ledger) mod kit;
    mod model;
    mod nonces;
    mod pauses;
    mod promises;
    mod purposes;
    mod refused;
    mod replicas;
    pub(in crate::ledger) mod server;
    mod simulation;
    mod spending;
    mod taken;
}
