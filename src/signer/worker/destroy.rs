//! Taking a key out of a token, for good.

use alloy_primitives::Address;
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::signer::worker::keys::{KeyError, TokenAccess, session, token};
use crate::signer::worker::prove::{private_key, public_address};

/// Destroys the one key of this label, if it is still the one that was meant: `address` is what was shown of it.
pub fn destroy(access: &TokenAccess, label: &str, address: Option<Address>) -> Result<(), KeyError> {
    let session = session(access)?;
    let unclear = |error: &dyn std::fmt::Display| KeyError::Token(error.to_string());
    let key = private_key(&session, label).map_err(|error| unclear(&error))?;
    if public_address(&session, key).map_err(token)? != address {
        return Err(unclear(&"the key is another than before; nothing was destroyed"));
    }
    destroy_pair(&session, key).map_err(token)?;
    match private_key(&session, label) {
        Ok(_) => Err(unclear(&"the token says that it destroyed the key, and still has it")),
        Err(_) => Ok(()),
    }
}

/// Destroys a private key, and the public key that belongs to it.
pub(super) fn destroy_pair(session: &Session, private: ObjectHandle) -> Result<(), Error> {
    // Public keys first: if that fails, the key is still whole and can be found again.
    for public in public_keys(session, private)? {
        session.destroy_object(public)?;
    }
    session.destroy_object(private)
}

/// Those with the private key's label and `CKA_ID`: an id alone may be shared.
fn public_keys(session: &Session, private: ObjectHandle) -> Result<Vec<ObjectHandle>, Error> {
    let found = session.get_attributes(private, &[AttributeType::Label, AttributeType::Id])?;
    let has_id = found.iter().any(|attribute| matches!(attribute, Attribute::Id(id) if !id.is_empty()));
    if found.len() < 2 || !has_id {
        return Ok(Vec::new());
    }
    let class = Attribute::Class(ObjectClass::PUBLIC_KEY);
    session.find_objects(&std::iter::once(class).chain(found).collect::<Vec<_>>())
}
