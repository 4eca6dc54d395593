//! What each call does, one file a method, and the one table in which a refusal becomes an answer.
//!
//! Start with `send_transaction.rs`: it is the whole product.

mod accounts;
mod app;
mod causes;
mod chain;
mod evidence;
mod forward;
mod own;
mod preflight;
mod receipt;
mod refusal;
mod reload;
mod reply;
mod road;
mod send_raw;
mod send_transaction;
mod service;
mod shadow;
mod sign_authorization;
mod sign_message;
mod sign_transaction;
mod sign_typed_data;
mod subscribe;
mod table;
mod transaction_count;
mod upkeep;

pub use app::App;
pub use own::Sent;
pub use preflight::Preflights;
pub use refusal::{Cause, Refusal, Row, TABLE};
pub use reload::PolicyReload;
pub use reply::{Reply, Text};
pub use service::{Service, TooLate};
pub use subscribe::Outbox;
pub use table::{Method, is_ordered};
pub use upkeep::Upkeep;
