//! Bad JSON.
