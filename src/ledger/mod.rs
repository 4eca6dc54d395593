//! May it be signed *now*: nonces, idempotency and audit, in one durable commit before the token is asked and
//! one before anything leaves.
//!
//! `core.rs` decides and is pure, as are `life.rs`, which says what may become of a payload, `keys.rs` and `pause.rs`; `claims.rs` holds what
//! waits for a decision; `writer.rs` is the one task that writes, `apply.rs` what it writes, `store.rs` the tables;
//! `replay.rs` lives the audit chain through again, and is pure.
//!
//! **Invariant:** nothing but this module makes a `Reserved` or a `Recorded`, and only after its commit.

mod apply;
mod audit;
mod claims;
mod core;
mod doubts;
mod error;
mod handle;
mod headroom;
mod key_store;
mod keys;
mod life;
mod nonce_store;
mod note;
mod open;
mod outcome;
mod pause;
mod pauses;
mod reader;
mod repeats;
mod replay;
mod reserved;
mod store;
mod tally;
mod verify;
mod writer;

pub use self::core::{MAX_GAPS, NotReplaced};
pub use audit::{Administration, Entry, RefusedRow};
pub use doubts::Doubt;
pub use error::{LedgerError, RecordError, ReserveError};
pub use handle::{Earlier, Ledger, in_use};
pub use note::{Access, CheckpointRow, Configuration, KeyUse, Note, Reconciliation, Refusals};
pub use open::OpenTransaction;
pub use outcome::{Final, Outcome, RefusalClass, Voided};
pub use pause::{Pause, PauseOrder, PauseScope, Paused};
pub use reserved::{Claim, Purpose, Recorded, ReservationId, Reserved, Signed, Standing};
pub use verify::{Broken, Filter, Verified, show, verify};

#[cfg(test)]
mod tests {
    mod chain;
    mod durable;
    mod faults;
    mod keys;
    mod kit;
    mod model;
    mod nonces;
    mod pauses;
}
