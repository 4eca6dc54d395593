//! A PKCS#11 token: opened, logged in once, and every key proved before the first request.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{B256, keccak256};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session as Handle, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::config::PinForm;
use crate::signer::latch;
use crate::signer::pin::Pin;
use crate::signer::protocol::{Class, KeySetting, Settings, SourceSetting, Status};
use crate::signer::worker::errors::{class_of_login, failure, said};
use crate::signer::worker::prove::{Unproved, private_key, prove};
use crate::signer::worker::session::{Failure, Session, Source};
use crate::signer::worker::tally::Tally;

/// Hashed, it is the digest of no transaction and of no message.
const KEPT_ALIVE: &[u8] = b"chancery keep-alive probe";

/// A token that is logged in, and holds what the configuration says.
pub(super) struct Token {
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    keys: Vec<KeySetting>,
    sessions: usize,
    latch: PathBuf,
    tally: Arc<Tally>,
    /// Logs in one session at a time, so that a PIN that is refused is refused once.
    gate: Mutex<Gate>,
}

struct Gate {
    /// Kept open and unused: a token forgets its login with its last session.
    anchor: Option<Handle>,
    refused: Option<Failure>,
}

/// One session, with the handles that its keys have in it.
pub(super) struct TokenSession {
    session: Handle,
    keys: Vec<(u16, ObjectHandle)>,
}

impl Token {
    /// `handed` is the PIN's file, where it came over the socketpair.
    pub(super) fn open(settings: &Settings, handed: Option<File>, tally: Arc<Tally>) -> Result<Self, Status> {
        let SourceSetting::Token { module, label, serial, pin_file, pin_form, latch, sessions } =
            &settings.source
        else {
            return Err(Status::Down("these are no settings of a token".to_owned()));
        };
        let source = match (pin_file, handed) {
            (Some(path), _) => Pin::File(path.clone()),
            (None, Some(file)) => Pin::Open(file),
            (None, None) => return Err(Status::Down("its PIN was not handed over".to_owned())),
        };
        if let Some(why) = latch::closed(latch, &source).map_err(|e| Status::Down(e.to_string()))? {
            return Err(Status::Latched(why));
        }
        let pin = read_pin(&source, *pin_form)?;
        let module = load(module)?;
        let slot = find(&module, label, serial.as_deref())?;
        let info = module.get_token_info(slot).map_err(|e| Status::Down(said(&e)))?;
        let anchor = module.open_rw_session(slot).map_err(|e| Status::Down(said(&e)))?;
        log_in_once(&anchor, &pin, &source, latch)?;
        tally.login();
        for key in &settings.keys {
            prove(&anchor, key)?;
            tally.proof();
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
        let gate = Mutex::new(Gate { anchor: Some(anchor), refused: None });
        let (keys, latch) = (settings.keys.clone(), latch.clone());
        Ok(Self { module, slot, pin, keys, sessions, latch, tally, gate })
    }

    pub(super) const fn sessions(&self) -> usize {
        self.sessions
    }
}

impl Token {
    /// Login is the application's on most tokens, which then say so, and the session's on some (NetHSM). A PIN that
    /// was right once may have been changed since: it is refused once as well, and latched, as is one that nobody knows of what
    /// it was answered. Of a session that is in already the PIN is asked by no token, and the latch stays as it is.
    fn log_in(&self, session: &Handle) -> Result<(), Failure> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = &gate.refused {
            return Err(refused.clone());
        }
        let unknown = |error: std::io::Error| {
            let why = format!("the PIN latch cannot be read or written: {error}");
            Failure { class: Class::Down, why, label: "latch".to_owned(), closed: false }
        };
        let attempt = latch::attempt(&self.latch).map_err(unknown)?;
        // By another process, in the meantime.
        if let Some(why) = latch::refused(&self.latch).map_err(unknown)? {
            let failure =
                Failure { class: Class::Credentials, why, label: "latched".to_owned(), closed: false };
            gate.refused = Some(failure.clone());
            return Err(failure);
        }
        let is_in = is_logged_in(session);
        // Of an attempt of another process, maybe with another PIN: ours says nothing of it.
        let before = latch::reason(&self.latch).map_err(unknown)?;
        if is_in { latch::begins() } else { latch::close(&self.latch) }.map_err(unknown)?;
        let answer = session.login(UserType::User, Some(&self.pin));
        let refused = match &answer {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => false,
            Err(error) => class_of_login(error) == Class::Credentials,
        };
        if !is_in && !refused {
            latch::leave(&self.latch, before.as_deref()).map_err(unknown)?;
        }
        let answer = match answer {
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => return Ok(()),
            Ok(()) => Ok(()),
            Err(error) => Err(Failure { class: class_of_login(&error), ..failure(&error) }),
        };
        if let (true, Err(failure)) = (refused, &answer) {
            self.refused(&failure.why);
            gate.refused = Some(failure.clone());
        }
        // What came of it is written: who ends us need not wait for the rest.
        drop(attempt);
        if answer.is_ok() {
            self.tally.login();
            self.keep_anchor(&mut gate);
        }
        answer
    }

    /// The handles of all keys, by number.
    fn keys_in(&self, session: &Handle) -> Result<Vec<(u16, ObjectHandle)>, Failure> {
        self.log_in(session)?;
        let found = |key: &KeySetting| {
            // Looked for twice: another thread may have logged in again between the first look and the question.
            let looked = private_key(session, &key.label).or_else(|_| private_key(session, &key.label));
            match looked {
                Ok(handle) => Ok((key.number, handle)),
                Err(Unproved::Token(error)) => Err(failure(&error)),
                // Without the login no key is seen. It was lost since, maybe with the session, whose number is another's
                // then.
                Err(Unproved::Mismatch(why)) if !is_logged_in(session) => {
                    Err(Failure { class: Class::Session, closed: true, ..Failure::down(why) })
                }
                // It was there when the worker started. Nothing less than the whole proof will do now.
                Err(Unproved::Mismatch(why)) => Err(Failure { class: Class::Gone, ..Failure::down(why) }),
            }
        };
        self.keys.iter().map(found).collect()
    }

    /// A login that was lost may have been lost with every session, and with the anchor. A handle of one that is gone
    /// is not closed: its number may be another session's by now.
    fn keep_anchor(&self, gate: &mut Gate) {
        let holds = gate.anchor.as_ref().is_some_and(|anchor| anchor.get_session_info().is_ok());
        if !holds && let Ok(anchor) = self.module.open_rw_session(self.slot) {
            std::mem::forget(gate.anchor.replace(anchor));
        }
    }
}

impl Source for Token {
    type Session = TokenSession;

    fn open(&self) -> Result<TokenSession, Failure> {
        // Read-write, because some modules have no other sessions (AWS CloudHSM SDK 5).
        let session = self.module.open_rw_session(self.slot).map_err(|e| failure(&e))?;
        match self.keys_in(&session) {
            Ok(keys) => Ok(TokenSession { session, keys }),
            Err(failure) => {
                // The token has closed it already: its number may be another thread's session by now.
                if failure.closed {
                    std::mem::forget(session);
                }
                Err(failure)
            }
        }
    }

    /// The worker ends after this, and the next one finds the latch.
    fn refused(&self, why: &str) {
        if let Err(error) = latch::refuse(&self.latch, why) {
            tracing::error!(%error, "the PIN latch cannot be written");
        }
    }
}

impl Session for TokenSession {
    fn sign(&mut self, key: u16, digest: &B256) -> Result<[u8; 64], Failure> {
        let handle = self.keys.iter().find(|(number, _)| *number == key).map(|(_, handle)| *handle);
        let handle = handle.ok_or_else(|| Failure::request("the worker has no key of this number"))?;
        sign(&self.session, handle, digest).map_err(|error| failure(&error))
    }

    /// By a signature of a value that no request has: what is asked of less is answered without the token by some modules.
    fn keep_alive(&mut self) -> Result<bool, Failure> {
        let Some((_, key)) = self.keys.first() else { return Ok(false) };
        sign(&self.session, *key, &keccak256(KEPT_ALIVE)).map(|_| true).map_err(|error| failure(&error))
    }

    fn forget(self) {
        std::mem::forget(self.session);
    }
}

fn is_logged_in(session: &Handle) -> bool {
    let state = session.get_session_info().map(|info| info.session_state());
    matches!(state, Ok(SessionState::RwUser | SessionState::RoUser))
}

/// `CKM_ECDSA` over exactly 32 bytes: modules also sign 0 or 1,000, so the type is the check.
pub(super) fn sign(session: &Handle, key: ObjectHandle, digest: &B256) -> Result<[u8; 64], Error> {
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

pub(super) fn read_pin(source: &Pin, form: PinForm) -> Result<AuthPin, Status> {
    let pin = source.read().map_err(|e| Status::Down(format!("{source} cannot be read: {e}")))?;
    let text = secrecy::ExposeSecret::expose_secret(&pin);
    if text.is_empty() {
        return Err(Status::Down(format!("{source} is empty")));
    }
    match form.mistake(text) {
        Some(mistake) => Err(Status::Down(format!(
            "what {source} holds cannot be this token's PIN, and was not tried: {mistake}"
        ))),
        None => Ok(pin),
    }
}

/// The one attempt that a PIN gets.
pub(super) fn log_in_once(session: &Handle, pin: &AuthPin, source: &Pin, latch: &Path) -> Result<(), Status> {
    let io = |e: std::io::Error| Status::Down(format!("the PIN latch cannot be read or written: {e}"));
    let _attempt = latch::attempt(latch).map_err(io)?;
    // Another process may have been refused since it was looked at.
    if let Some(why) = latch::closed(latch, source).map_err(io)? {
        return Err(Status::Latched(why));
    }
    latch::close(latch).map_err(io)?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            latch::accept(latch, source).map_err(io)
        }
        Err(error) if matches!(class_of_login(&error), Class::Credentials) => {
            let why = said(&error);
            latch::refuse(latch, &why).map_err(io)?;
            Err(Status::Latched(why))
        }
        Err(error) => {
            latch::open(latch).map_err(io)?;
            Err(Status::Down(said(&error)))
        }
    }
}
