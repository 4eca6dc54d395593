//! A drill of a token that no account names: a backup that lies in a safe, and was fetched for this.

use alloy_primitives::Address;

use crate::signer::protocol::{KeySetting, Status};
use crate::signer::worker::keys::{KeyError, TokenAccess, session, status};
use crate::signer::worker::prove::prove;

/// The same proof that a token gives at a start: one key of this label, fit to sign, which signs for this address.
pub fn drill(access: &TokenAccess, label: &str, address: Address) -> Result<(), KeyError> {
    let session = session(access)?;
    let key = KeySetting { number: 0, label: label.to_owned(), address, backup: None };
    prove(&session, &key).map_err(|refused| match refused {
        Status::Mismatch(why) => KeyError::Token(why),
        other => status(other),
    })
}
