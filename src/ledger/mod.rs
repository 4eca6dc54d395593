//! May it be signed *now*: nonces, idempotency and audit, in one durable commit before the token is asked and
//! one before anything leaves.

mod outcome;
mod reserved;

pub use outcome::{Outcome, RefusalClass};
pub use reserved::{Claim, Recorded, ReservationId, Reserved, Signed};
