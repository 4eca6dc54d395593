//! What each call does, one file a method, and the one table in which a refusal becomes an answer.

mod refusal;

pub use refusal::{Cause, Refusal, TABLE};
