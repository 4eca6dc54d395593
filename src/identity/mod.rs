//! Who is calling: a client certificate's one name, the client it belongs to, and the accounts that it may use.

mod caller;
mod certificate;
mod directory;
mod key;
mod ticket;

pub use caller::{AccountCaller, Caller, NotAvailable, RequestId};
pub use certificate::{Certificate, CertificateError};
pub use directory::{Directory, Person};
pub use key::IdempotencyKey;
pub use ticket::Ticket;
