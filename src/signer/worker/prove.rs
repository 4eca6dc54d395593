//! What must be true of a key before it is used: exactly one, of the right kind and curve, kept in the token, at the
//! address that the configuration pins, and able to show it by a signature.

use alloy_primitives::{Address, keccak256};
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::config::Backup;
use crate::signer::protocol::{Class, KeySetting, Status};
use crate::signer::worker::attributes::{SECP256K1, address_of};
use crate::signer::worker::errors::{class_of, said};
use crate::signer::worker::token::sign;
use crate::transaction::recover;

/// Why a key is not proved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproved {
    /// The token is in trouble, which says nothing of the key.
    #[error("{}", said(.0))]
    Token(#[from] Error),
    /// It is not what it should be.
    #[error("{0}")]
    Mismatch(String),
}

/// Everything that must be true of a key before it is used, the last being a signature that recovers to its address.
pub(super) fn prove(session: &Session, key: &KeySetting) -> Result<(), Status> {
    proved(session, key).map_err(|unproved| {
        let why = format!("key `{}`: {unproved}", key.label);
        match unproved {
            Unproved::Token(_) => Status::Down(why),
            Unproved::Mismatch(_) => Status::Mismatch(why),
        }
    })
}

fn proved(session: &Session, key: &KeySetting) -> Result<(), Unproved> {
    let handle = private_key(session, &key.label)?;
    fit_to_sign(session, handle, key.backup)?;
    let pinned = key.address;
    if let Some(found) = public_address(session, handle)?
        && found != pinned
    {
        let why = format!("its address is {found}, the configuration pins {pinned}");
        return Err(Unproved::Mismatch(why));
    }
    let digest = keccak256(b"chancery start-up probe");
    let raw = sign(session, handle, &digest).map_err(|error| match class_of(&error) {
        Class::Request => Unproved::Mismatch(said(&error)),
        _ => Unproved::Token(error),
    })?;
    recover(digest, &raw, pinned).map(drop).map_err(|_| {
        let why = format!("its signature is not by {pinned}, the address that the configuration pins");
        Unproved::Mismatch(why)
    })
}

/// Exactly one private key of this label: labels are not unique, and the first of two may be another account's.
pub(super) fn private_key(session: &Session, label: &str) -> Result<ObjectHandle, Unproved> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
    let found = session.find_objects(&template)?;
    match found.as_slice() {
        [key] => Ok(*key),
        [] => Err(Unproved::Mismatch(format!("it has no private key labelled `{label}`"))),
        _ => {
            let why =
                format!("it has {} private keys labelled `{label}`; labels must be unique", found.len());
            Err(Unproved::Mismatch(why))
        }
    }
}

/// The attributes that a signing key must have. Missing ones count as wrong where they protect the key.
pub(super) fn fit_to_sign(
    session: &Session,
    key: ObjectHandle,
    backup: Option<Backup>,
) -> Result<(), Unproved> {
    let asked = [
        AttributeType::KeyType,
        AttributeType::EcParams,
        AttributeType::Sign,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::WrapWithTrusted,
        AttributeType::AlwaysAuthenticate,
    ];
    let found = session.get_attributes(key, &asked)?;
    let has = |wanted: &Attribute| found.contains(wanted);
    let curve = found.iter().any(|a| matches!(a, Attribute::EcParams(oid) if oid.as_slice() == SECP256K1));
    for (fine, why) in [
        (has(&Attribute::KeyType(KeyType::EC)), "it is no elliptic-curve key"),
        (curve, "its curve is not secp256k1 (1.3.132.0.10)"),
        (has(&Attribute::Sign(true)), "CKA_SIGN is not true: it may not sign"),
        (has(&Attribute::Sensitive(true)), "CKA_SENSITIVE is not true: its value can be read"),
        stays(backup, &has),
        (
            !has(&Attribute::AlwaysAuthenticate(true)),
            "CKA_ALWAYS_AUTHENTICATE is true: it wants the PIN for each signature, which is not supported",
        ),
    ] {
        if !fine {
            return Err(Unproved::Mismatch(why.to_owned()));
        }
    }
    Ok(())
}

/// Whether a key leaves its token as its kind of backup demands, or what is wrong with that.
fn stays(backup: Option<Backup>, has: &dyn Fn(&Attribute) -> bool) -> (bool, &'static str) {
    let (is_kept, is_out) = (has(&Attribute::Extractable(false)), has(&Attribute::Extractable(true)));
    let is_wrapped = is_out && has(&Attribute::WrapWithTrusted(true));
    match backup {
        Some(Backup::None | Backup::Vendor) => (
            is_kept,
            "CKA_EXTRACTABLE is not false: it can be taken out of the token (its `backup` is not `wrapped`)",
        ),
        Some(Backup::Wrapped) if is_kept => (
            false,
            "CKA_EXTRACTABLE is false: it can never be wrapped, as its `backup = \"wrapped\"` demands",
        ),
        Some(Backup::Wrapped) | None => (
            is_wrapped || (backup.is_none() && is_kept),
            "CKA_EXTRACTABLE is true and CKA_WRAP_WITH_TRUSTED is not: any key that somebody makes could take it out",
        ),
    }
}

/// The address by the public key, which stands on an object of its own with the same `CKA_ID`, or on the private key;
/// `None` where the token shows neither in a form that is known.
pub(super) fn public_address(session: &Session, private: ObjectHandle) -> Result<Option<Address>, Error> {
    let point = |object: ObjectHandle| -> Result<Option<Address>, Error> {
        let found = session.get_attributes(object, &[AttributeType::EcPoint])?;
        Ok(found.into_iter().find_map(|a| match a {
            Attribute::EcPoint(point) => address_of(&point),
            _ => None,
        }))
    };
    let id = session.get_attributes(private, &[AttributeType::Id])?.into_iter().find_map(|a| match a {
        Attribute::Id(id) if !id.is_empty() => Some(id),
        _ => None,
    });
    if let Some(id) = id {
        let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id)];
        // Two public keys of one id tell nothing.
        if let [one] = session.find_objects(&template)?.as_slice()
            && let Some(address) = point(*one)?
        {
            return Ok(Some(address));
        }
    }
    point(private)
}
