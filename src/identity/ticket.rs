//! What a call for a signature holds to its end, which may come after its client has hung up.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The right to ask, and a place among the calls of its client. Cheap to clone; the place is free when the last clone is gone.
#[derive(Clone)]
pub struct Ticket {
    may_ask: Arc<dyn Fn() -> bool + Send + Sync>,
    _place: Arc<dyn Any + Send + Sync>,
}

impl Ticket {
    /// `may_ask`: whether the client's certificate is accepted now.
    pub fn new(may_ask: Arc<dyn Fn() -> bool + Send + Sync>, place: Arc<dyn Any + Send + Sync>) -> Self {
        Self { may_ask, _place: place }
    }

    /// Whether whoever asked may still ask.
    pub fn is_good(&self) -> bool {
        (self.may_ask)()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}
