//! What Chancery signs for itself. No rule is asked, for no client asked: a permission for it is made here and nowhere
//! else, and everything after it is the same road.

use std::sync::Arc;

use crate::config::{Client, OWN_NAME};
use crate::identity::{AccountCaller, Caller, RequestId};
use crate::policy::{Permitted, Policy};
use crate::transaction::{Checkpoint, Kind, SealedText};

impl Policy {
    /// A checkpoint of the audit chain, by the key that the configuration names for nothing else.
    pub fn own_checkpoint(
        &self,
        checkpoint: SealedText,
        request: RequestId,
    ) -> Option<Permitted<Checkpoint>> {
        let caller = own_caller::<Checkpoint>(&checkpoint, request)?;
        Some(Permitted::new(checkpoint, caller, "own:checkpoint".into(), self.hash))
    }
}

/// The gateway as the caller of its own request, with the one account that this is about.
fn own_caller<K: Kind>(asked: &K::Asked, request: RequestId) -> Option<AccountCaller> {
    let account = K::from(asked);
    let client = Client {
        name: OWN_NAME.to_owned(),
        identity: String::new(),
        role: None,
        person: None,
        accounts: vec![account],
        repeat_window: None,
        origins: Vec::new(),
    };
    Caller::new(Arc::new(client), request).for_account(account).ok()
}
