//! Making and listing a token's keys, for `chancery keys`: in that command's own process, never in the gateway's.

use std::path::PathBuf;

use alloy_primitives::Address;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use serde::Serialize;

use crate::config::{Backup, Profile};
use crate::signer::latch;
use crate::signer::pin::Pin;
use crate::signer::protocol::{Class, Status};
use crate::signer::worker::attributes::SECP256K1;
use crate::signer::worker::errors::{class_of_login, said};
use crate::signer::worker::prove::{fit_to_sign, private_key, public_address};
use crate::signer::worker::token::{find, load, log_in_once, read_pin};

/// A token and how to get in.
#[derive(Clone, Debug)]
pub struct TokenAccess {
    pub module: PathBuf,
    pub label: String,
    pub serial: Option<String>,
    pub pin_file: PathBuf,
    pub profile: &'static Profile,
    /// Where a refused PIN is remembered; `None` where no configuration says.
    pub latch: Option<PathBuf>,
}

/// A key that was just made, its attributes read back and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GeneratedKey {
    pub label: String,
    pub id: String,
    pub address: Address,
}

/// A key as it stands in the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    pub label: String,
    pub id: String,
    pub address: Option<Address>,
    /// Why Chancery would not use it.
    pub trouble: Option<String>,
    /// Made in this token, and never readable or extractable since.
    pub born_here: bool,
}

/// Why a key could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    Token(String),
    #[error(
        "the token refuses the PIN ({0}); it is not tried again, most tokens lock themselves after a few"
    )]
    Pin(String),
    #[error("its PIN was refused before ({0}); set it right, then run `chancery keys unlatch`")]
    Latched(String),
    #[error("the token has a key labelled `{0}` already; labels must be unique")]
    Exists(String),
    #[error("the key was made, but {0}; it is not fit for use")]
    Unfit(String),
}

/// Makes a secp256k1 key pair that never leaves the token, and asserts afterwards that it is so.
pub fn generate(access: &TokenAccess, label: &str, backup: Backup) -> Result<GeneratedKey, KeyError> {
    make(&session(access)?, label, backup)
}

/// The same in an open session.
pub(super) fn make(session: &Session, label: &str, backup: Backup) -> Result<GeneratedKey, KeyError> {
    is_new(session, label)?;
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(|e| KeyError::Token(e.to_string()))?;
    let name =
        [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), Attribute::Id(id.to_vec())];
    let public = [
        &name[..],
        &[
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(SECP256K1.to_vec()),
        ],
    ]
    .concat();
    let private = [&name[..], &private_attributes(backup)].concat();
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map_err(token)?;
    let key = private_key(session, label).map_err(|e| KeyError::Token(e.to_string()))?;
    fit_to_sign(session, key, Some(backup)).map_err(|e| KeyError::Unfit(e.to_string()))?;
    // Of a key that may be wrapped the token cannot say that it never left.
    if backup != Backup::Wrapped && !born_here(session, key) {
        return Err(KeyError::Unfit(
            "the token does not say that it was made here and never left".to_owned(),
        ));
    }
    let address = public_address(session, key)
        .map_err(token)?
        .ok_or_else(|| KeyError::Unfit("its public key cannot be read (CKA_EC_POINT)".to_owned()))?;
    Ok(GeneratedKey { label: label.to_owned(), id: alloy_primitives::hex::encode(id), address })
}

/// No private key has this label yet.
pub(super) fn is_new(session: &Session, label: &str) -> Result<(), KeyError> {
    let same = [Attribute::Label(label.as_bytes().to_vec()), Attribute::Class(ObjectClass::PRIVATE_KEY)];
    if session.find_objects(&same).map_err(token)?.is_empty() {
        return Ok(());
    }
    Err(KeyError::Exists(label.to_owned()))
}

/// What a private key may do, and who may take it out of its token.
pub(super) fn private_attributes(backup: Backup) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(backup == Backup::Wrapped),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
    ];
    if backup == Backup::Wrapped {
        attributes.push(Attribute::WrapWithTrusted(true));
    }
    // The last one: SoftHSM2 sets no other after it.
    attributes.push(Attribute::Modifiable(false));
    attributes
}

/// Every private elliptic-curve key in the token.
pub fn list(access: &TokenAccess) -> Result<Vec<KeyInfo>, KeyError> {
    let session = session(access)?;
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::EC)];
    let keys = session.find_objects(&template).map_err(token)?;
    let mut list: Vec<KeyInfo> = keys.into_iter().map(|key| info(&session, key)).collect();
    list.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(list)
}

fn info(session: &Session, key: ObjectHandle) -> KeyInfo {
    let (mut label, mut id) = (String::new(), String::new());
    for attribute in
        session.get_attributes(key, &[AttributeType::Label, AttributeType::Id]).unwrap_or_default()
    {
        match attribute {
            Attribute::Label(text) => label = String::from_utf8_lossy(&text).into_owned(),
            Attribute::Id(bytes) => id = alloy_primitives::hex::encode(bytes),
            _ => {}
        }
    }
    let trouble = fit_to_sign(session, key, None).and_then(|()| private_key(session, &label).map(drop)).err();
    let trouble = trouble.map(|trouble| trouble.to_string());
    let address = public_address(session, key).unwrap_or_default();
    KeyInfo { address, trouble, born_here: born_here(session, key), label, id }
}

pub(super) fn born_here(session: &Session, key: ObjectHandle) -> bool {
    let asked = [AttributeType::Local, AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
    let found = session.get_attributes(key, &asked).unwrap_or_default();
    [Attribute::Local(true), Attribute::AlwaysSensitive(true), Attribute::NeverExtractable(true)]
        .iter()
        .all(|wanted| found.contains(wanted))
}

pub(super) fn session(access: &TokenAccess) -> Result<Session, KeyError> {
    not_latched(access)?;
    let pin = read_pin(&source(access), access.profile.pin_form).map_err(status)?;
    let module = load(&access.module).map_err(status)?;
    let slot = find(&module, &access.label, access.serial.as_deref()).map_err(status)?;
    let session = module.open_rw_session(slot).map_err(token)?;
    log_in(access, &session, &pin)?;
    Ok(session)
}

/// Where a person on the command line has the PIN.
pub(super) fn source(access: &TokenAccess) -> Pin {
    Pin::File(access.pin_file.clone())
}

/// A PIN that was refused before is not tried.
pub(super) fn not_latched(access: &TokenAccess) -> Result<(), KeyError> {
    let Some(latch) = &access.latch else { return Ok(()) };
    let io = |error: std::io::Error| KeyError::Token(error.to_string());
    // While another logs in it looks closed.
    let _attempt = latch::attempt(latch).map_err(io)?;
    let closed = latch::closed(latch, &source(access)).map_err(io)?;
    closed.map_or(Ok(()), |why| Err(KeyError::Latched(why)))
}

/// The one attempt that a PIN gets, where it is not known to be right.
pub(super) fn log_in(access: &TokenAccess, session: &Session, pin: &AuthPin) -> Result<(), KeyError> {
    if let Some(latch) = &access.latch {
        return log_in_once(session, pin, &source(access), latch).map_err(|refused| match refused {
            Status::Latched(why) => KeyError::Pin(why),
            other => status(other),
        });
    }
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) if matches!(class_of_login(&error), Class::Credentials) => {
            Err(KeyError::Pin(said(&error)))
        }
        Err(error) => Err(token(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn token(error: Error) -> KeyError {
    KeyError::Token(said(&error))
}

pub(super) fn status(status: Status) -> KeyError {
    match status {
        Status::Down(why) | Status::Mismatch(why) => KeyError::Token(why),
        Status::Latched(why) => KeyError::Latched(why),
        Status::Ready { .. } => KeyError::Token("the token is ready".to_owned()),
    }
}
