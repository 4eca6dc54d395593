//! What exactly is asked: strict parsing, filling from a quote, and the bytes that would be signed. Pure.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows who is asking.

mod account_key;
mod again;
mod authorizations;
mod blobs;
pub mod calldata;
mod checkpoint;
mod conditions;
mod delegation;
mod draft;
mod fields;
mod fill;
mod kind;
mod message;
mod presigned;
mod quantity;
mod request;
mod signature;
mod simulation;
mod typed_data;

pub use account_key::{AccountKey, prepare_proofs};
pub use again::digest_of;
pub use authorizations::{Authorizations, AuthorizationsError, Handed};
pub use blobs::{Blobs, BlobsError};
pub use checkpoint::{ChainHead, Checkpoint, SealedText, Statement, checkpoint_digest, is_signed_checkpoint};
pub use conditions::{Conditions, ConditionsError};
pub use delegation::{Authorization, Delegation, DelegationRequest};
pub use draft::Draft;
pub use fill::{FillError, Filled, Quote, QuotedFees, Unsigned};
pub use kind::{Fees, Kind, Sealed, Sendable, Slot, Stands, Tx};
pub use message::{Message, MessageError, Text};
pub use presigned::{Presigned, PresignedError, SignedTransaction};
pub use quantity::{MalformedValue, address, data, quantity};
pub use request::{Request, RequestError};
pub use signature::{NotOurs, Signature, address_of_point, recover, signer_of};
pub use simulation::{Event, Simulation};
pub use typed_data::{Domain, Member, MemberType, StructType, Structured, TypedData, TypedDataError};
