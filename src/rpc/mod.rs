//! How it is asked: HTTP by its rules, one strict scan of the body, and the calls in it handed on one by one.

mod budget;
mod calls;
mod envelope;
mod head;
mod http;
mod rejection;
mod scan;
mod share;
mod socket;
mod tally;
mod unfinished;

pub use envelope::{Body, BodyError, Bounds, Entry, EntryError, Envelope, Fault};
pub use http::Rpc;
pub use socket::Life;
