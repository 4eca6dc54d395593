//! A PKCS#11 token: opened, logged in once, and every key proved before the first request.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{Address, B256, keccak256};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session as Handle, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::secret;
use crate::signer::latch;
use crate::signer::protocol::{Class, KeySetting, Settings, SourceSetting, Status};
use crate::signer::worker::attributes::{SECP256K1, address_of};
use crate::signer::worker::errors::{class_of, failure, said};
use crate::signer::worker::pool::{Failure, Session, Source};
use crate::transaction::recover;

/// A token that is logged in, and holds what the configuration says.
pub(super) struct Token {
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    keys: Vec<KeySetting>,
    sessions: usize,
    /// Logs in one session at a time, so that a PIN that is refused is refused once.
    gate: Mutex<Gate>,
}

struct Gate {
    /// Kept open and unused: a token forgets its login with its last session.
    _anchor: Handle,
    latch: PathBuf,
    refused: Option<Failure>,
}

/// One session, with the handles that its keys have in it.
pub(super) struct TokenSession {
    session: Handle,
    keys: Vec<(u16, ObjectHandle)>,
}

impl Token {
    pub(super) fn open(settings: &Settings) -> Result<Self, Status> {
        let SourceSetting::Token { module, label, serial, pin_file, latch, sessions } = &settings.source
        else {
            return Err(Status::Down("these are no settings of a token".to_owned()));
        };
        if let Some(why) = latch::reason(latch).map_err(|e| Status::Down(e.to_string()))? {
            return Err(Status::Latched(why));
        }
        let pin = read_pin(pin_file)?;
        let module = load(module)?;
        let slot = find(&module, label, serial.as_deref())?;
        let info = module.get_token_info(slot).map_err(|e| Status::Down(said(&e)))?;
        let anchor = module.open_rw_session(slot).map_err(|e| Status::Down(said(&e)))?;
        log_in_once(&anchor, &pin, latch)?;
        for key in &settings.keys {
            prove(&anchor, key)?;
        }
        // One session is the anchor's.
        let room = match info.max_rw_session_count() {
            cryptoki::slot::Limit::Max(max) => usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(1),
            _ => usize::MAX,
        };
        let sessions = (*sessions).min(room);
        if sessions == 0 {
            return Err(Status::Down("it allows one session only; two are needed".to_owned()));
        }
        let gate = Mutex::new(Gate { _anchor: anchor, latch: latch.clone(), refused: None });
        Ok(Self { module, slot, pin, keys: settings.keys.clone(), sessions, gate })
    }

    pub(super) const fn sessions(&self) -> usize {
        self.sessions
    }
}

impl Token {
    /// Login is the application's on most tokens, which then say so, and the session's on some (NetHSM). A PIN that
    /// was right once may have been changed since: it is refused once as well, and latched.
    fn log_in(&self, session: &Handle) -> Result<(), Failure> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = &gate.refused {
            return Err(refused.clone());
        }
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) if matches!(class_of(&error), Class::Credentials) => {
                let why = said(&error);
                if let Err(error) = latch::close(&gate.latch, &why) {
                    tracing::error!(%error, "the PIN latch cannot be written");
                }
                // The worker ends, and the next one finds the latch.
                let refused = Failure { class: Class::Down, why };
                gate.refused = Some(refused.clone());
                Err(refused)
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

impl Source for Token {
    type Session = TokenSession;

    fn open(&self) -> Result<TokenSession, Failure> {
        // Read-write, because some modules have no other sessions (AWS CloudHSM SDK 5).
        let session = self.module.open_rw_session(self.slot).map_err(|e| failure(&e))?;
        self.log_in(&session)?;
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let handle =
                private_key(&session, &key.label).map_err(|why| Failure { class: Class::Down, why })?;
            keys.push((key.number, handle));
        }
        Ok(TokenSession { session, keys })
    }
}

impl Session for TokenSession {
    fn sign(&mut self, key: u16, digest: &B256) -> Result<[u8; 64], Failure> {
        let handle = self.keys.iter().find(|(number, _)| *number == key).map(|(_, handle)| *handle);
        let handle = handle.ok_or_else(|| Failure {
            class: Class::Request,
            why: "the worker has no key of this number".to_owned(),
        })?;
        sign(&self.session, handle, digest).map_err(|error| failure(&error))
    }
}

/// `CKM_ECDSA` over exactly 32 bytes: modules also sign 0 or 1,000, so the type is the check.
fn sign(session: &Handle, key: ObjectHandle, digest: &B256) -> Result<[u8; 64], Error> {
    let raw = session.sign(&Mechanism::Ecdsa, key, digest.as_slice())?;
    <[u8; 64]>::try_from(raw.as_slice()).map_err(Error::TryFromSlice)
}

/// Loads and initialises a module, and never unloads it: destructors of several modules crash.
pub(super) fn load(path: &Path) -> Result<Pkcs11, Status> {
    let module = Pkcs11::new(path)
        .map_err(|e| Status::Down(format!("the PKCS#11 module {} cannot be loaded: {e}", path.display())))?;
    // Without OS locking, SoftHSM crashes within seconds under several threads.
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(Status::Down(said(&error))),
    }
    std::mem::forget(module.clone());
    Ok(module)
}

/// The slot of the token with this label (and serial): slot numbers change when a token is initialised.
pub(super) fn find(module: &Pkcs11, label: &str, serial: Option<&str>) -> Result<Slot, Status> {
    let slots = module.get_slots_with_token().map_err(|e| Status::Down(said(&e)))?;
    let mut found = Vec::new();
    for slot in slots {
        let Ok(info) = module.get_token_info(slot) else { continue };
        if info.label().trim_end() == label
            && serial.is_none_or(|serial| info.serial_number().trim_end() == serial)
        {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(Status::Down(format!("the module has no token labelled `{label}`"))),
        _ => Err(Status::Mismatch(format!(
            "the module has {} tokens labelled `{label}`: add `serial`",
            found.len()
        ))),
    }
}

pub(super) fn read_pin(file: &Path) -> Result<AuthPin, Status> {
    let pin = secret::read_file(file)
        .map_err(|e| Status::Down(format!("the PIN file {} cannot be read: {e}", file.display())))?;
    if secrecy::ExposeSecret::expose_secret(&pin).is_empty() {
        return Err(Status::Down(format!("the PIN file {} is empty", file.display())));
    }
    Ok(pin)
}

/// The one attempt that a PIN gets.
fn log_in_once(session: &Handle, pin: &AuthPin, latch: &Path) -> Result<(), Status> {
    let io =
        |e: std::io::Error| Status::Down(format!("the PIN latch {} cannot be written: {e}", latch.display()));
    latch::close(latch, "the process ended while it logged in").map_err(io)?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => latch::open(latch).map_err(io),
        Err(error) if matches!(class_of(&error), Class::Credentials) => {
            let why = said(&error);
            latch::close(latch, &why).map_err(io)?;
            Err(Status::Latched(why))
        }
        Err(error) => {
            latch::open(latch).map_err(io)?;
            Err(Status::Down(said(&error)))
        }
    }
}

/// Exactly one private key of this label: labels are not unique, and the first of two may be another account's.
pub(super) fn private_key(session: &Handle, label: &str) -> Result<ObjectHandle, String> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
    let found = session.find_objects(&template).map_err(|e| said(&e))?;
    match found.as_slice() {
        [key] => Ok(*key),
        [] => Err(format!("it has no private key labelled `{label}`")),
        _ => Err(format!("it has {} private keys labelled `{label}`; labels must be unique", found.len())),
    }
}

/// Everything that must be true of a key before it is used, the last being a signature that recovers to its address.
fn prove(session: &Handle, key: &KeySetting) -> Result<(), Status> {
    let wrong = |why: String| Status::Mismatch(format!("key `{}`: {why}", key.label));
    let handle = private_key(session, &key.label).map_err(wrong)?;
    fit_to_sign(session, handle).map_err(wrong)?;
    let found = public_address(session, handle);
    if let Some(found) = found
        && found != key.address
    {
        return Err(wrong(format!("its address is {found}, the configuration pins {}", key.address)));
    }
    let digest = keccak256(b"chancery start-up probe");
    let raw = sign(session, handle, &digest).map_err(|e| match class_of(&e) {
        Class::Request => wrong(said(&e)),
        _ => Status::Down(said(&e)),
    })?;
    recover(digest, &raw, key.address).map(drop).map_err(|_| {
        wrong(format!("its signature is not by {}, the address that the configuration pins", key.address))
    })
}

/// The attributes that a signing key must have. Missing ones count as wrong where they protect the key.
pub(super) fn fit_to_sign(session: &Handle, key: ObjectHandle) -> Result<(), String> {
    let asked = [
        AttributeType::KeyType,
        AttributeType::EcParams,
        AttributeType::Sign,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::AlwaysAuthenticate,
    ];
    let found = session.get_attributes(key, &asked).map_err(|e| said(&e))?;
    let has = |wanted: &Attribute| found.contains(wanted);
    let curve = found.iter().any(|a| matches!(a, Attribute::EcParams(oid) if oid.as_slice() == SECP256K1));
    for (fine, why) in [
        (has(&Attribute::KeyType(KeyType::EC)), "it is no elliptic-curve key"),
        (curve, "its curve is not secp256k1 (1.3.132.0.10)"),
        (has(&Attribute::Sign(true)), "CKA_SIGN is not true: it may not sign"),
        (has(&Attribute::Sensitive(true)), "CKA_SENSITIVE is not true: its value can be read"),
        (
            has(&Attribute::Extractable(false)),
            "CKA_EXTRACTABLE is not false: it can be taken out of the token",
        ),
        (
            !has(&Attribute::AlwaysAuthenticate(true)),
            "CKA_ALWAYS_AUTHENTICATE is true: it wants the PIN for each signature, which is not supported",
        ),
    ] {
        if !fine {
            return Err(why.to_owned());
        }
    }
    Ok(())
}

/// The address by the public key, which stands on an object of its own with the same `CKA_ID`, or on the private key.
pub(super) fn public_address(session: &Handle, private: ObjectHandle) -> Option<Address> {
    let point = |object: ObjectHandle| {
        session.get_attributes(object, &[AttributeType::EcPoint]).ok()?.into_iter().find_map(|a| match a {
            Attribute::EcPoint(point) => address_of(&point),
            _ => None,
        })
    };
    let id = session.get_attributes(private, &[AttributeType::Id]).ok()?.into_iter().find_map(|a| match a {
        Attribute::Id(id) if !id.is_empty() => Some(id),
        _ => None,
    });
    let public = id.and_then(|id| {
        let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id)];
        let found = session.find_objects(&template).ok()?;
        // Two public keys of one id tell nothing.
        if let [one] = found.as_slice() { point(*one) } else { None }
    });
    public.or_else(|| point(private))
}
