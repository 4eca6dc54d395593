//! A token of our own: slots, sessions, objects and signatures, as hard on its user as the standard allows. Numbers of
//! sessions are used again at once, and objects get other numbers with each login, so that a stale handle is not
//! invalid but *another* session or key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki_sys::*;
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};

use crate::counts::Counts;
use crate::places;
use crate::settings::{Curve, Key, LoginOf, Point, Settings, from_hex, to_hex};

pub type Answer<T> = Result<T, CK_RV>;

/// 1.3.132.0.10 and 1.2.840.10045.3.1.7.
const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

pub struct Token {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    initialised: bool,
    logins: usize,
    logged_in: bool,
    sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
}

#[derive(Default)]
struct Session {
    slot: CK_SLOT_ID,
    logged_in: bool,
    found: Option<Vec<CK_OBJECT_HANDLE>>,
    signs_with: Option<SecretKey>,
}

/// One half of a key pair.
#[derive(Clone, Copy)]
struct Object<'a> {
    key: &'a Key,
    private: bool,
}

/// What a template asks for.
pub type Wanted = Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>;

impl Token {
    pub fn new(folder: &Path) -> Self {
        let state = State {
            settings: Settings::read(folder),
            initialised: false,
            logins: 0,
            logged_in: false,
            sessions: BTreeMap::new(),
        };
        Self { folder: folder.to_owned(), state: Mutex::new(state) }
    }

    pub fn initialise(&self) -> Answer<()> {
        let mut state = self.lock();
        if state.initialised {
            return Err(CKR_CRYPTOKI_ALREADY_INITIALIZED);
        }
        *state = State {
            settings: Settings::read(&self.folder),
            initialised: true,
            logins: 0,
            logged_in: false,
            sessions: BTreeMap::new(),
        };
        Ok(())
    }

    pub fn finalise(&self) -> Answer<()> {
        self.ready()?.initialised = false;
        Ok(())
    }

    pub fn slots(&self) -> Answer<Vec<CK_SLOT_ID>> {
        Ok((1..=self.ready()?.settings.slots).collect())
    }

    pub fn token_info(&self, slot: CK_SLOT_ID, counts: &Counts) -> Answer<CK_TOKEN_INFO> {
        let state = self.ready()?;
        state.slot(slot)?;
        let limit = state.settings.session_limit.filter(|_| state.settings.announce_limit);
        let open = CK_ULONG::try_from(state.sessions.len()).unwrap_or(CK_ULONG::MAX);
        let locked = counts.read(places::WRONG_PINS_IN_A_ROW) >= state.settings.pin_tries;
        Ok(CK_TOKEN_INFO {
            label: padded(&state.settings.label),
            manufacturerID: padded("Chancery"),
            model: padded("test token"),
            serialNumber: padded(&state.settings.serial),
            flags: CKF_TOKEN_INITIALIZED
                | CKF_LOGIN_REQUIRED
                | CKF_USER_PIN_INITIALIZED
                | if locked { CKF_USER_PIN_LOCKED } else { 0 }
                | if state.settings.final_try { CKF_USER_PIN_FINAL_TRY } else { 0 },
            ulMaxSessionCount: limit.unwrap_or(CK_EFFECTIVELY_INFINITE),
            ulMaxRwSessionCount: limit.unwrap_or(CK_EFFECTIVELY_INFINITE),
            ulSessionCount: open,
            ulRwSessionCount: open,
            ulMaxPinLen: 64,
            ulMinPinLen: 4,
            ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
            hardwareVersion: CK_VERSION { major: 1, minor: 0 },
            firmwareVersion: CK_VERSION { major: 1, minor: 0 },
            utcTime: [0; 16],
        })
    }

    pub fn check_slot(&self, slot: CK_SLOT_ID) -> Answer<()> {
        self.ready()?.slot(slot)
    }

    pub fn open(&self, slot: CK_SLOT_ID, flags: CK_FLAGS, counts: &Counts) -> Answer<CK_SESSION_HANDLE> {
        let mut state = self.ready()?;
        state.slot(slot)?;
        if flags & CKF_SERIAL_SESSION == 0 {
            return Err(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
        }
        let open = u64::try_from(state.sessions.len()).unwrap_or(u64::MAX);
        if state.settings.session_limit.is_some_and(|limit| open >= limit) {
            return Err(CKR_SESSION_COUNT);
        }
        let free = (1..).find(|number| !state.sessions.contains_key(number)).ok_or(CKR_SESSION_COUNT)?;
        state.sessions.insert(free, Session { slot, ..Session::default() });
        counts.set(places::SESSIONS, open + 1);
        Ok(free)
    }

    pub fn close(&self, session: CK_SESSION_HANDLE, counts: &Counts) -> Answer<()> {
        let mut state = self.ready()?;
        state.sessions.remove(&session).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        if state.sessions.is_empty() {
            state.logged_in = false;
        }
        counts.set(places::SESSIONS, u64::try_from(state.sessions.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    pub fn close_all(&self, slot: CK_SLOT_ID, counts: &Counts) -> Answer<()> {
        let mut state = self.ready()?;
        state.slot(slot)?;
        state.sessions.clear();
        state.logged_in = false;
        counts.set(places::SESSIONS, 0);
        Ok(())
    }

    pub fn session_info(&self, session: CK_SESSION_HANDLE) -> Answer<CK_SESSION_INFO> {
        let mut state = self.ready()?;
        let logged_in = state.logged_in_at(session)?;
        let slot = state.session(session)?.slot;
        let flags = CKF_RW_SESSION | CKF_SERIAL_SESSION;
        Ok(CK_SESSION_INFO { slotID: slot, state: if logged_in { 3 } else { 2 }, flags, ulDeviceError: 0 })
    }

    pub fn login(
        &self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: &[u8],
        counts: &Counts,
    ) -> Answer<()> {
        let mut state = self.ready()?;
        if state.logged_in_at(session)? {
            // The PIN is not even looked at.
            return Err(CKR_USER_ALREADY_LOGGED_IN);
        }
        if user != CKU_USER {
            return Err(CKR_USER_TYPE_INVALID);
        }
        if counts.read(places::WRONG_PINS_IN_A_ROW) >= state.settings.pin_tries {
            return Err(CKR_PIN_LOCKED);
        }
        if pin != state.settings.pin.as_bytes() {
            counts.add(places::WRONG_PINS);
            counts.add(places::WRONG_PINS_IN_A_ROW);
            return Err(CKR_PIN_INCORRECT);
        }
        counts.set(places::WRONG_PINS_IN_A_ROW, 0);
        state.logins += 1;
        match state.settings.login {
            LoginOf::Application => state.logged_in = true,
            LoginOf::Session => state.session(session)?.logged_in = true,
        }
        Ok(())
    }

    pub fn logout(&self, session: CK_SESSION_HANDLE) -> Answer<()> {
        let mut state = self.ready()?;
        if !state.logged_in_at(session)? {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        state.logged_in = false;
        state.session(session)?.logged_in = false;
        Ok(())
    }

    pub fn find_init(&self, session: CK_SESSION_HANDLE, wanted: &Wanted) -> Answer<()> {
        let mut state = self.ready()?;
        let logged_in = state.logged_in_at(session)?;
        let open = state.session(session)?;
        if open.found.is_some() || open.signs_with.is_some() {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let found = state.objects().filter(|(_, object)| {
            (logged_in || !object.private)
                && wanted.iter().all(|(kind, value)| object.attribute(*kind).as_ref() == Ok(value))
        });
        let found = found.map(|(handle, _)| handle).collect();
        state.session(session)?.found = Some(found);
        Ok(())
    }

    pub fn find(&self, session: CK_SESSION_HANDLE, most: usize) -> Answer<Vec<CK_OBJECT_HANDLE>> {
        let mut state = self.ready()?;
        let found = state.session(session)?.found.as_mut().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        let most = most.min(found.len());
        Ok(found.drain(..most).collect())
    }

    pub fn find_final(&self, session: CK_SESSION_HANDLE) -> Answer<()> {
        let mut state = self.ready()?;
        state.session(session)?.found.take().map(drop).ok_or(CKR_OPERATION_NOT_INITIALIZED)
    }

    /// Each attribute, or why it cannot be had.
    pub fn attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kinds: &[CK_ATTRIBUTE_TYPE],
    ) -> Answer<Vec<Answer<Vec<u8>>>> {
        let mut state = self.ready()?;
        let logged_in = state.logged_in_at(session)?;
        let (_, object) =
            state.objects().find(|(handle, _)| *handle == object).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        if object.private && !logged_in {
            return Err(CKR_OBJECT_HANDLE_INVALID);
        }
        Ok(kinds.iter().map(|kind| object.attribute(*kind)).collect())
    }

    pub fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        private: &Wanted,
    ) -> Answer<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let mut state = self.ready()?;
        if !state.logged_in_at(session)? {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        let of = |kind| private.iter().find(|(k, _)| *k == kind).map(|(_, v)| v.as_slice());
        let is = |kind, otherwise: bool| of(kind).map_or(otherwise, |value| value == [CK_TRUE]);
        let key = Key {
            label: String::from_utf8_lossy(of(CKA_LABEL).unwrap_or_default()).into_owned(),
            id: to_hex(of(CKA_ID).unwrap_or_default()),
            secret: to_hex(&fresh().to_secret_bytes()),
            shown: None,
            point: Point::Der,
            point_on_private: false,
            curve: Curve::Secp256k1,
            sign: is(CKA_SIGN, true),
            sensitive: is(CKA_SENSITIVE, true),
            extractable: is(CKA_EXTRACTABLE, false),
            always_authenticate: is(CKA_ALWAYS_AUTHENTICATE, false),
            local: true,
        };
        state.settings.keys.push(key);
        state.settings.write(&self.folder);
        let last = state.settings.keys.len() - 1;
        Ok((state.handle(last, false), state.handle(last, true)))
    }

    pub fn sign_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
    ) -> Answer<()> {
        let mut state = self.ready()?;
        let logged_in = state.logged_in_at(session)?;
        let open = state.session(session)?;
        if open.found.is_some() || open.signs_with.is_some() {
            return Err(CKR_OPERATION_ACTIVE);
        }
        if mechanism != CKM_ECDSA {
            return Err(CKR_MECHANISM_INVALID);
        }
        if !logged_in {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        let (_, object) = state.objects().find(|(handle, _)| *handle == key).ok_or(CKR_KEY_HANDLE_INVALID)?;
        if !object.private {
            return Err(CKR_KEY_HANDLE_INVALID);
        }
        if !object.key.sign {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
        }
        let secret = secret(&object.key.secret);
        state.session(session)?.signs_with = Some(secret);
        Ok(())
    }

    /// The key that a signature is now to be made with; an end of the operation where `ends`.
    pub fn signs_with(&self, session: CK_SESSION_HANDLE, ends: bool) -> Answer<SecretKey> {
        let mut state = self.ready()?;
        let open = state.session(session)?;
        let key = if ends { open.signs_with.take() } else { open.signs_with };
        key.ok_or(CKR_OPERATION_NOT_INITIALIZED)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> Answer<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.initialised { Ok(state) } else { Err(CKR_CRYPTOKI_NOT_INITIALIZED) }
    }
}

/// Signs 32 bytes. As with real tokens, every signature differs, and half of them are high-s.
pub fn sign(key: &SecretKey, digest: &[u8]) -> Answer<[u8; 64]> {
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| CKR_DATA_LEN_RANGE)?;
    let mut noise = [0; 32];
    getrandom::fill(&mut noise).map_err(|_| CKR_RANDOM_NO_RNG)?;
    let signature = ecdsa::sign_with_noncedata(Message::from_digest(digest), key, &noise);
    let low = signature.serialize_compact();
    Ok(if noise[0].is_multiple_of(2) { other_s(low) } else { low })
}

/// The same signature with n - s.
pub fn other_s(mut signature: [u8; 64]) -> [u8; 64] {
    let mut borrow = 0_i16;
    for (byte, n) in signature[32..].iter_mut().zip(secp256k1::constants::CURVE_ORDER).rev() {
        let difference = i16::from(n) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    signature
}

/// A key that nobody knows.
pub fn fresh() -> SecretKey {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("randomness");
        if let Ok(key) = SecretKey::from_secret_bytes(bytes) {
            return key;
        }
    }
}

impl State {
    fn slot(&self, slot: CK_SLOT_ID) -> Answer<()> {
        if (1..=self.settings.slots).contains(&slot) { Ok(()) } else { Err(CKR_SLOT_ID_INVALID) }
    }

    fn session(&mut self, session: CK_SESSION_HANDLE) -> Answer<&mut Session> {
        self.sessions.get_mut(&session).ok_or(CKR_SESSION_HANDLE_INVALID)
    }

    fn logged_in_at(&mut self, session: CK_SESSION_HANDLE) -> Answer<bool> {
        let of_session = self.session(session)?.logged_in;
        Ok(self.logged_in || of_session)
    }

    /// Every half of a pair with its number.
    fn objects(&self) -> impl Iterator<Item = (CK_OBJECT_HANDLE, Object<'_>)> {
        self.settings.keys.iter().enumerate().flat_map(|(index, key)| {
            let private = (self.handle(index, true), Object { key, private: true });
            let public = (self.handle(index, false), Object { key, private: false });
            let shown = key.point != Point::Absent;
            [Some(private), shown.then_some(public)].into_iter().flatten()
        })
    }

    /// With each login the private keys change places.
    fn handle(&self, index: usize, private: bool) -> CK_OBJECT_HANDLE {
        let keys = self.settings.keys.len();
        let place = if private { (index + self.logins) % keys } else { keys + index };
        CK_OBJECT_HANDLE::try_from(place + 1).expect("a small number")
    }
}

impl Object<'_> {
    fn attribute(&self, kind: CK_ATTRIBUTE_TYPE) -> Answer<Vec<u8>> {
        let key = self.key;
        let yes = |value: bool| Ok(vec![u8::from(value)]);
        let number = |value: CK_ULONG| Ok(value.to_ne_bytes().to_vec());
        match kind {
            CKA_CLASS => number(if self.private { CKO_PRIVATE_KEY } else { CKO_PUBLIC_KEY }),
            CKA_KEY_TYPE => number(CKK_EC),
            CKA_LABEL => Ok(key.label.clone().into_bytes()),
            CKA_ID => Ok(key.id()),
            CKA_TOKEN => yes(true),
            CKA_PRIVATE => yes(self.private),
            CKA_EC_PARAMS => Ok(match key.curve {
                Curve::Secp256k1 => SECP256K1.to_vec(),
                Curve::P256 => P256.to_vec(),
            }),
            CKA_EC_POINT if !self.private || key.point_on_private => Ok(self.point()),
            CKA_VERIFY if !self.private => yes(true),
            CKA_SIGN if self.private => yes(key.sign),
            CKA_SENSITIVE if self.private => yes(key.sensitive),
            CKA_EXTRACTABLE if self.private => yes(key.extractable),
            CKA_ALWAYS_AUTHENTICATE if self.private => yes(key.always_authenticate),
            CKA_LOCAL => yes(key.local),
            CKA_ALWAYS_SENSITIVE if self.private => yes(key.local && key.sensitive),
            CKA_NEVER_EXTRACTABLE if self.private => yes(key.local && !key.extractable),
            CKA_VALUE if self.private => Err(CKR_ATTRIBUTE_SENSITIVE),
            _ => Err(CKR_ATTRIBUTE_TYPE_INVALID),
        }
    }

    fn point(&self) -> Vec<u8> {
        let shown = self.key.shown.as_ref().unwrap_or(&self.key.secret);
        let key = PublicKey::from_secret_key(&secret(shown));
        let point = key.serialize_uncompressed();
        match self.key.point {
            Point::Der | Point::Absent => [&[0x04, 0x41], &point[..]].concat(),
            Point::Raw => point.to_vec(),
            Point::Compressed => key.serialize().to_vec(),
            Point::BitString => [&[0x03, 0x42, 0x00], &point[..]].concat(),
            Point::Bare => point[1..].to_vec(),
            Point::Nonsense => vec![0x04; 67],
        }
    }
}

fn secret(hex: &str) -> SecretKey {
    let bytes = <[u8; 32]>::try_from(from_hex(hex)).expect("32 bytes");
    SecretKey::from_secret_bytes(bytes).expect("a private key")
}

/// As PKCS#11 has its strings.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [b' '; N];
    for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    bytes
}
