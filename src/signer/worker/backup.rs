//! Keys that leave their token wrapped (PKCS#11 v3.1, section 5.18.3), and come into another: AES key wrap with padding
//! (NIST SP 800-38F, RFC 5649) under a key that both tokens trust. The wrapping key comes from custodians, each of whom has
//! a part that says nothing by itself.

use alloy_primitives::{Address, Bytes, keccak256};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Backup;
use crate::signer::protocol::{KeySetting, Status};
use crate::signer::worker::attributes::SECP256K1;
use crate::signer::worker::destroy::destroy_pair;
use crate::signer::worker::errors::said;
use crate::signer::worker::keys::{
    KeyError, TokenAccess, is_new, private_attributes, session, status, token,
};
use crate::signer::worker::prove::{fit_to_sign, private_key, prove, public_address};
use crate::signer::worker::token::{find, load};

/// A custodian's part of a wrapping key, or the key itself: 256 bits.
pub type Component = Zeroizing<[u8; 32]>;

/// A key as it lies in a safe: of no use without the wrapping key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// Of the file.
    pub version: u32,
    pub label: String,
    pub address: Address,
    /// `CKA_EC_POINT`, as its token has it.
    pub point: Bytes,
    /// What it is wrapped under, by the label there.
    pub wrapping_key: String,
    pub mechanism: String,
    pub wrapped: Bytes,
}

pub const WRAPPED_VERSION: u32 = 1;
const MECHANISM: &str = "CKM_AES_KEY_WRAP_PAD";

/// The key that the components make together, whatever their order.
pub fn combined(components: &[Component]) -> Component {
    let mut key = Component::default();
    for component in components {
        for (byte, part) in key.iter_mut().zip(component.iter()) {
            *byte ^= part;
        }
    }
    key
}

/// Three bytes by which custodians compare a component or a key without seeing it.
pub fn check_value(key: &Component) -> String {
    let mut named = Zeroizing::new(b"chancery check value 1".to_vec());
    named.extend_from_slice(key.as_slice());
    alloy_primitives::hex::encode(keccak256(named.as_slice()).split_at(3).0)
}

/// Brings a wrapping key into a token, as its security officer, who alone can say that it is trusted. It is no private
/// object in the sense of PKCS#11, since a security officer sees none; its value can be read by nobody.
pub fn import_wrapping_key(
    access: &TokenAccess,
    label: &str,
    key: &Component,
    so_pin: &SecretString,
) -> Result<(), KeyError> {
    let module = load(&access.module).map_err(status)?;
    let slot = find(&module, &access.label, access.serial.as_deref()).map_err(status)?;
    let session = module.open_rw_session(slot).map_err(token)?;
    session.login(UserType::So, Some(so_pin)).map_err(|error| KeyError::Pin(said(&error)))?;
    let same = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.as_bytes().to_vec())];
    if !session.find_objects(&same).map_err(token)?.is_empty() {
        return Err(KeyError::Exists(label.to_owned()));
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Trusted(true),
        Attribute::Value(key.to_vec()),
    ];
    let made = session.create_object(&template);
    drop(zeroized(template));
    let made = made.map_err(token)?;
    if let Err(why) = fit_to_wrap(&session, made) {
        drop(session.destroy_object(made));
        return Err(KeyError::Unfit(why));
    }
    Ok(())
}

/// Takes a key out, wrapped. The token refuses where the wrapping key is not trusted, or the key may not leave.
pub fn wrap(access: &TokenAccess, label: &str, under: &str) -> Result<WrappedKey, KeyError> {
    let session = session(access)?;
    let key = private_key(&session, label).map_err(unclear)?;
    fit_to_sign(&session, key, Some(Backup::Wrapped)).map_err(unclear)?;
    let wrapping = wrapping_key(&session, under)?;
    let address = public_address(&session, key).map_err(token)?;
    let address =
        address.ok_or_else(|| KeyError::Unfit("its public key cannot be read (CKA_EC_POINT)".to_owned()))?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, wrapping, key).map_err(token)?;
    Ok(WrappedKey {
        version: WRAPPED_VERSION,
        label: label.to_owned(),
        address,
        point: point(&session, key).unwrap_or_default(),
        wrapping_key: under.to_owned(),
        mechanism: MECHANISM.to_owned(),
        wrapped: wrapped.into(),
    })
}

/// Brings a wrapped key into another token and has it prove its address there. One that cannot is not left. It may be there without
/// its public key, and the reason is told.
pub fn unwrap(access: &TokenAccess, wrapped: &WrappedKey, under: &str) -> Result<Option<String>, KeyError> {
    if (wrapped.version, wrapped.mechanism.as_str()) != (WRAPPED_VERSION, MECHANISM) {
        return Err(KeyError::Token(format!(
            "the file is of version {}, by {}; this program reads version {WRAPPED_VERSION}, by {MECHANISM}",
            wrapped.version, wrapped.mechanism
        )));
    }
    let session = session(access)?;
    is_new(&session, &wrapped.label)?;
    let unwrapping = wrapping_key(&session, under)?;
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(|e| KeyError::Token(e.to_string()))?;
    let name = [
        Attribute::Token(true),
        Attribute::Label(wrapped.label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::KeyType(KeyType::EC),
    ];
    let private =
        [&name[..], &[Attribute::Class(ObjectClass::PRIVATE_KEY)], &private_attributes(Backup::Wrapped)]
            .concat();
    let key = session
        .unwrap_key(&Mechanism::AesKeyWrapPad, unwrapping, &wrapped.wrapped, &private)
        .map_err(|error| KeyError::Token(format!("it cannot be unwrapped: {}", said(&error))))?;
    let setting = KeySetting {
        number: 0,
        label: wrapped.label.clone(),
        address: wrapped.address,
        backup: Some(Backup::Wrapped),
    };
    if let Err(Status::Mismatch(why) | Status::Down(why)) = prove(&session, &setting) {
        drop(destroy_pair(&session, key));
        return Err(KeyError::Unfit(why));
    }
    if wrapped.point.is_empty() {
        return Ok(Some("the file has none".to_owned()));
    }
    let public = [
        &name[..],
        &[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(SECP256K1.to_vec()),
            Attribute::EcPoint(wrapped.point.to_vec()),
        ],
    ]
    .concat();
    // The key is there, has proved itself, and signs. What is missing beside it keeps nobody from using it.
    Ok(session.create_object(&public).err().map(|error| said(&error)))
}

/// The one wrapping key of this label.
fn wrapping_key(session: &Session, label: &str) -> Result<ObjectHandle, KeyError> {
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.as_bytes().to_vec())];
    match session.find_objects(&template).map_err(token)?.as_slice() {
        [key] => fit_to_wrap(session, *key).map(|()| *key).map_err(KeyError::Token),
        [] => Err(KeyError::Token(format!("the token has no wrapping key labelled `{label}`"))),
        _ => Err(KeyError::Token(format!("the token has several secret keys labelled `{label}`"))),
    }
}

/// Whoever can read a wrapping key, or use it to decrypt, has every key that was ever wrapped under it.
fn fit_to_wrap(session: &Session, key: ObjectHandle) -> Result<(), String> {
    let wanted = [
        (Attribute::KeyType(KeyType::AES), "it is no AES key"),
        (Attribute::Sensitive(true), "CKA_SENSITIVE is not true: its value can be read"),
        (Attribute::Extractable(false), "CKA_EXTRACTABLE is not false: it can be taken out of the token"),
        (Attribute::Wrap(true), "CKA_WRAP is not true"),
        (Attribute::Unwrap(true), "CKA_UNWRAP is not true"),
        (Attribute::Decrypt(false), "CKA_DECRYPT is not false: it would show what it wrapped"),
        (Attribute::Trusted(true), "CKA_TRUSTED is not true: its security officer has not vouched for it"),
    ];
    let asked: Vec<AttributeType> = wanted.iter().map(|(attribute, _)| attribute.attribute_type()).collect();
    let found = session.get_attributes(key, &asked).map_err(|error| said(&error))?;
    let wrong = wanted.iter().find(|(attribute, _)| !found.contains(attribute));
    wrong.map_or(Ok(()), |(_, why)| Err(format!("the wrapping key is not fit: {why}")))
}

fn point(session: &Session, private: ObjectHandle) -> Option<Bytes> {
    let id = session.get_attributes(private, &[AttributeType::Id]).ok()?;
    let template: Vec<Attribute> =
        std::iter::once(Attribute::Class(ObjectClass::PUBLIC_KEY)).chain(id).collect();
    let [public] = session.find_objects(&template).ok()?[..] else { return None };
    session.get_attributes(public, &[AttributeType::EcPoint]).ok()?.into_iter().find_map(
        |found| match found {
            Attribute::EcPoint(point) => Some(point.into()),
            _ => None,
        },
    )
}

/// The template's own copy of the key.
fn zeroized<const N: usize>(template: [Attribute; N]) -> Vec<Zeroizing<Vec<u8>>> {
    let secret = |attribute| match attribute {
        Attribute::Value(value) => Some(Zeroizing::new(value)),
        _ => None,
    };
    template.into_iter().filter_map(secret).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unclear(error: crate::signer::worker::prove::Unproved) -> KeyError {
    KeyError::Token(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_make_one_key_in_any_order_and_none_of_them_says_what_it_is() {
        let parts = [[0x11_u8; 32], [0x2e; 32], [0xc0; 32]].map(Zeroizing::new);
        let key = combined(&parts);
        assert_eq!(*key, [0x11 ^ 0x2e ^ 0xc0; 32]);
        let [a, b, c] = parts;
        assert_eq!(combined(&[c.clone(), a, b]), key);
        assert_eq!(check_value(&key).len(), 6);
        assert_ne!(check_value(&key), check_value(&c));
    }
}
