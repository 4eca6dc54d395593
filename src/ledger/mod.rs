//! May it be signed *now*: nonces, idempotency and audit, in one durable commit before the token is asked and
//! one before anything leaves.
//!
//! `core.rs` decides and is pure; `store.rs` is the tables; `writer.rs` is the one task that writes them.
//!
//! **Invariant:** nothing but this module makes a `Reserved` or a `Recorded`, and only after its commit.

mod audit;
mod core;
mod error;
mod handle;
mod outcome;
mod reserved;
mod store;
mod verify;
mod writer;

pub use audit::{Entry, RefusedRow};
pub use error::{LedgerError, RecordError, ReserveError};
pub use handle::Ledger;
pub use outcome::{Final, Outcome, RefusalClass, Voided};
pub use reserved::{Claim, Recorded, ReservationId, Reserved, Signed};
pub use verify::{Broken, Filter, Verified, show, verify};
