//! A client certificate whose key is in a token, such as a smart card: found once, and asked for each
//! connection's signature. The key never leaves it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256, Sha384};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::cmd::connect::latch::{Attempt, REFUSED};
use crate::cmd::connect::password::Password;
use crate::cmd::connect::pkcs11_uri::Uri;
use crate::cmd::{Failure, HintExt as _};
use crate::signer::is_refused_pin;

/// The token, once it was opened. Its clones are the same.
#[derive(Clone, Debug)]
pub struct Card {
    open: Arc<Mutex<Option<Open>>>,
    /// Where it is kept which PIN was refused.
    latches: PathBuf,
}

/// A module that is loaded, and the session in which its token is used.
#[derive(Debug)]
struct Open {
    module: Pkcs11,
    session: Option<Session>,
    latches: PathBuf,
    /// A PIN that was typed and refused is not tried again: a few tries lock the token for good.
    refused: bool,
}

/// What a key is asked for, and how.
#[derive(Clone, Debug)]
struct Key {
    card: Card,
    uri: Arc<Uri>,
    pin: Password,
    id: Vec<u8>,
    scheme: SignatureScheme,
}

/// Why the token did not sign for a connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotSigned(String);

/// A certificate in the token that has a key there.
struct Found {
    der: Vec<u8>,
    id: Vec<u8>,
    always_asks: bool,
}

impl Card {
    pub fn new(latches: PathBuf) -> Self {
        Self { open: Arc::default(), latches }
    }

    /// The one certificate that the URI fits, and its key.
    pub fn certified(&self, uri: &Arc<Uri>, pin: &Password) -> Result<CertifiedKey> {
        let mut held = self.lock();
        let open = match &mut *held {
            Some(open) => open,
            empty => empty.insert(Open::load(uri, &self.latches)?),
        };
        let found = open.in_session(uri, pin, |session| certificates(session, uri))?;
        let one = match <[Found; 1]>::try_from(found) {
            Ok([one]) => one,
            Err(found) => return Err(not_one(uri, &found).into()),
        };
        if one.always_asks {
            let what = format!("{uri}: this key wants the PIN for each signature");
            return Err(Failure::new(what)
                .with_hint("take another one, such as a PIV card's for authentication (slot 9a, id=%01)")
                .into());
        }
        let scheme = scheme_of(&one.der).ok_or_else(|| {
            Failure::new(format_args!("{uri}: its key is of a kind that is not known here"))
                .with_hint("P-256, P-384 and RSA are")
        })?;
        let key = Key { card: self.clone(), uri: uri.clone(), pin: pin.clone(), id: one.id, scheme };
        Ok(CertifiedKey::new(vec![CertificateDer::from(one.der)], Arc::new(key)))
    }

    /// Lets go of the module, before the program ends: what modules leave to be done at a program's end goes wrong beside
    /// threads that still run. One that hangs is not waited for.
    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime has ended by then, and nothing else is to be done"
    )]
    pub fn close(&self) {
        for _ in 0..10 {
            if let Ok(mut held) = self.open.try_lock() {
                if let Some(Open { module, session, .. }) = held.take() {
                    drop(session);
                    // It was of use, whatever it says now.
                    drop(module.finalize());
                }
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn load(uri: &Uri, latches: &Path) -> Result<Self> {
        let hint = "give the token's PKCS#11 module as `module-path` of the URI";
        let module = Pkcs11::new(&uri.module).hint(uri.module.display(), hint)?;
        module
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .hint(uri.module.display(), hint)?;
        Ok(Self { module, session: None, latches: latches.to_owned(), refused: false })
    }

    /// Does something in a session that is logged in. One that is lost, as by taking the token out, is opened anew once.
    fn in_session<T>(
        &mut self,
        uri: &Uri,
        pin: &Password,
        mut work: impl FnMut(&Session) -> Result<T, Error>,
    ) -> Result<T> {
        loop {
            let had = self.session.is_some();
            if !had {
                self.session = Some(self.log_in(uri, pin)?);
            }
            let Some(session) = &self.session else { continue };
            let error = match work(session) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !is_lost(&error) {
                return Err(said(uri, &error).into());
            }
            // A session that the token has closed has a number that may be another's by now.
            std::mem::forget(self.session.take());
            if !had {
                return Err(said(uri, &error).into());
            }
        }
    }

    fn log_in(&mut self, uri: &Uri, pin: &Password) -> Result<Session> {
        if self.refused {
            let what = format!("{uri}: the token refused the PIN before; it is not tried again");
            return Err(Failure::new(what)
                .with_hint("start anew, with the right one")
                .with_code(REFUSED)
                .into());
        }
        let slot = slot_of(&self.module, uri)?;
        let info = self.module.get_token_info(slot).map_err(|error| said(uri, &error))?;
        let session = self.module.open_ro_session(slot).map_err(|error| said(uri, &error))?;
        if !info.login_required() {
            return Ok(session);
        }
        let mut attempt = None;
        let typed = if info.protected_authentication_path() {
            None
        } else {
            if info.user_pin_final_try() {
                let what = format!("{uri}: one more wrong PIN locks the token");
                let hint = "log in with the right one by another program first";
                return Err(Failure::new(what).with_hint(hint).with_code(REFUSED).into());
            }
            let named = format!("{} {}", info.label(), info.serial_number());
            attempt = pin.file().map(|file| Attempt::begin(&self.latches, &named, file)).transpose()?;
            let pin = pin.read(&format!("PIN of {}", info.label()))?;
            Some(AuthPin::from(pin.expose_secret()))
        };
        let failed = match session.login(UserType::User, typed.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failed.as_ref().filter(|error| is_refused_pin(error)) {
            self.refused = attempt.is_none();
            let what = format!("{uri}: {error}");
            let hint = "is this the PIN of this token? It is tried once";
            return Err(Failure::new(what).with_hint(hint).with_code(REFUSED).into());
        }
        attempt.map_or(Ok(()), Attempt::open)?;
        failed.map_or(Ok(session), |error| Err(said(uri, &error).into()))
    }
}

/// Whether it is the session or its login that is gone; after anything else the session is as good as before.
const fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::CryptokiNotInitialized
                | RvError::DeviceError
                | RvError::DeviceRemoved
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::UserNotLoggedIn,
            _
        )
    )
}

/// The one slot with a token that the URI fits.
fn slot_of(module: &Pkcs11, uri: &Uri) -> Result<Slot> {
    let mut there = Vec::new();
    let mut fitting = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(|error| said(uri, &error))? {
        let Ok(info) = module.get_token_info(slot) else { continue };
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        if fits(&uri.token, info.label())
            && fits(&uri.serial, info.serial_number())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model())
        {
            fitting.push(slot);
        }
        there.push(format!("token={};serial={}", info.label(), info.serial_number()));
    }
    match (fitting.as_slice(), there.is_empty()) {
        ([slot], _) => Ok(*slot),
        ([], true) => {
            Err(Failure::new(format_args!("{uri}: there is no token")).with_hint("is it plugged in?").into())
        }
        (found, _) => {
            let what = if found.is_empty() { "no token fits" } else { "several tokens fit" };
            Err(Failure::new(format_args!("{uri}: {what}"))
                .with_hint(format_args!("there is: {}", there.join(", ")))
                .into())
        }
    }
}

/// The certificates that the URI fits, with the keys that have the same number.
fn certificates(session: &Session, uri: &Uri) -> Result<Vec<Found>, Error> {
    let mut template =
        vec![Attribute::Class(ObjectClass::CERTIFICATE), Attribute::CertificateType(CertificateType::X_509)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec())));
    template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let mut found = Vec::new();
    for handle in session.find_objects(&template)? {
        let (mut der, mut id) = (Vec::new(), Vec::new());
        for attribute in session.get_attributes(handle, &[AttributeType::Value, AttributeType::Id])? {
            match attribute {
                Attribute::Value(value) => der = value,
                Attribute::Id(value) => id = value,
                _ => {}
            }
        }
        if let Some(key) = private_key(session, &id)? {
            // Tokens that do not know the attribute do not ask.
            let asks = session.get_attributes(key, &[AttributeType::AlwaysAuthenticate]).unwrap_or_default();
            let always_asks = asks.contains(&Attribute::AlwaysAuthenticate(true));
            found.push(Found { der, id, always_asks });
        }
    }
    Ok(found)
}

fn private_key(session: &Session, id: &[u8]) -> Result<Option<ObjectHandle>, Error> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.to_vec())];
    Ok(session.find_objects(&template)?.first().copied())
}

fn not_one(uri: &Uri, found: &[Found]) -> Failure {
    if found.is_empty() {
        return Failure::new(format_args!("{uri}: there is no such certificate with its key in the token"))
            .with_hint("`pkcs11-tool --module … --login --list-objects` lists what there is");
    }
    let named = |one: &Found| {
        let id = percent_encode(&one.id, NON_ALPHANUMERIC);
        let subject = X509Certificate::from_der(&one.der).map(|(_, leaf)| leaf.subject().to_string());
        format!("id={id} ({})", subject.unwrap_or_default())
    };
    let all: Vec<_> = found.iter().map(named).collect();
    Failure::new(format_args!("{uri}: several certificates fit"))
        .with_hint(format_args!("add one of: {}", all.join(", ")))
}

fn said(uri: &Uri, error: &Error) -> Failure {
    Failure::new(format_args!("{uri}: {error}"))
        .with_hint("is the token plugged in, and used by nobody else?")
}

/// How the certificate's key signs in TLS 1.3.
fn scheme_of(der: &[u8]) -> Option<SignatureScheme> {
    let (_, leaf) = X509Certificate::from_der(der).ok()?;
    let algorithm = &leaf.public_key().algorithm;
    if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        return Some(SignatureScheme::RSA_PSS_SHA256);
    }
    let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok())?;
    (algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY).then_some(())?;
    match curve {
        curve if curve == OID_EC_P256 => Some(SignatureScheme::ECDSA_NISTP256_SHA256),
        curve if curve == OID_NIST_EC_P384 => Some(SignatureScheme::ECDSA_NISTP384_SHA384),
        _ => None,
    }
}

impl Key {
    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, anyhow::Error> {
        let pss = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        };
        let (mechanism, hash) = match self.scheme {
            SignatureScheme::ECDSA_NISTP384_SHA384 => (Mechanism::Ecdsa, Sha384::digest(message).to_vec()),
            SignatureScheme::RSA_PSS_SHA256 => (Mechanism::RsaPkcsPss(pss), Sha256::digest(message).to_vec()),
            _ => (Mechanism::Ecdsa, Sha256::digest(message).to_vec()),
        };
        let mut held = self.card.lock();
        let open = held.as_mut().ok_or_else(|| Failure::new("the token is not open any more"))?;
        let raw = open.in_session(&self.uri, &self.pin, |session| {
            let gone = Error::Pkcs11(RvError::KeyHandleInvalid, cryptoki::context::Function::FindObjects);
            let key = private_key(session, &self.id)?.ok_or(gone)?;
            session.sign(&mechanism, key, &hash)
        })?;
        Ok(if matches!(mechanism, Mechanism::Ecdsa) { der_of(&raw) } else { raw })
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer: Box<dyn Signer> = Box::new(self.clone());
        offered.contains(&self.scheme).then_some(signer)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => SignatureAlgorithm::RSA,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for Key {
    /// Tokens take their time, and some wait for a touch: others go on meanwhile.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        tokio::task::block_in_place(|| self.ask(message))
            .map_err(|error| rustls::Error::Other(OtherError(Arc::new(NotSigned(format!("{error:#}"))))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Tokens give `r` and `s` one behind the other; TLS wants them as ASN.1 (RFC 8446, 4.2.3).
fn der_of(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let body: Vec<u8> = [r, s].into_iter().flat_map(integer).collect();
    [&[0x30, length(&body)], body.as_slice()].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    // An integer whose first bit is set would be a negative one; none at all would be no integer.
    let pad: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    let digits = [pad, &digits].concat();
    [&[0x02, length(&digits)], digits.as_slice()].concat()
}

/// Of P-256 and P-384 nothing is longer than 104 bytes.
fn length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_written_as_asn_1() {
        assert_eq!(der_of(&[0x00, 0x7f, 0x80, 0x01]), [0x30, 8, 2, 1, 0x7f, 2, 3, 0, 0x80, 1]);
        assert_eq!(der_of(&[0, 0]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        let long = der_of(&[0xff; 96]);
        assert_eq!((long[1], long.len()), (102, 104));
    }
}
