//! The C functions of a token of our own: pointers in, [`Token`] asked, pointers out.

use std::ffi::c_void;
use std::sync::OnceLock;

use cryptoki_sys::*;

use crate::token::{Answer, Token, Wanted, sign};
use crate::{counts, folder};

/// The functions that a token of our own has; every other says `CKR_FUNCTION_NOT_SUPPORTED`.
pub const FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CK_VERSION { major: 2, minor: 40 },
    C_Initialize: Some(initialise),
    C_Finalize: Some(finalise),
    C_GetInfo: Some(info),
    C_GetSlotList: Some(slot_list),
    C_GetSlotInfo: Some(slot_info),
    C_GetTokenInfo: Some(token_info),
    C_GetMechanismList: Some(mechanism_list),
    C_GetMechanismInfo: Some(mechanism_info),
    C_OpenSession: Some(open_session),
    C_CloseSession: Some(close_session),
    C_CloseAllSessions: Some(close_all_sessions),
    C_GetSessionInfo: Some(session_info),
    C_Login: Some(login),
    C_Logout: Some(logout),
    C_FindObjectsInit: Some(find_init),
    C_FindObjects: Some(find),
    C_FindObjectsFinal: Some(find_final),
    C_GetAttributeValue: Some(attribute_value),
    C_GenerateKeyPair: Some(generate_key_pair),
    C_SignInit: Some(sign_init),
    C_Sign: Some(sign_one),
    C_GenerateRandom: Some(generate_random),
    ..crate::front::UNSUPPORTED
};

const MECHANISMS: [CK_MECHANISM_TYPE; 2] = [CKM_EC_KEY_PAIR_GEN, CKM_ECDSA];

fn token() -> &'static Token {
    static TOKEN: OnceLock<Token> = OnceLock::new();
    TOKEN.get_or_init(|| Token::new(folder()))
}

fn code(answer: Answer<()>) -> CK_RV {
    answer.err().unwrap_or(CKR_OK)
}

/// Writes what there is to where the caller wants it.
///
/// # Safety
/// `place` is null or valid for a write.
unsafe fn give<T>(answer: Answer<T>, place: *mut T) -> CK_RV {
    match answer {
        Err(code) => code,
        Ok(_) if place.is_null() => CKR_ARGUMENTS_BAD,
        Ok(value) => {
            // SAFETY: valid, as the caller says.
            unsafe { place.write(value) };
            CKR_OK
        }
    }
}

/// A list by the convention of PKCS#11: without a place its length only.
///
/// # Safety
/// `length` is valid, and `place` is null or valid for as many as `length` says.
unsafe fn give_list<T: Copy>(list: &[T], place: *mut T, length: *mut CK_ULONG) -> CK_RV {
    if length.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: valid, as the caller says.
    unsafe {
        let room = length.read();
        length.write(list.len() as CK_ULONG);
        if place.is_null() {
            return CKR_OK;
        }
        if room < list.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        std::ptr::copy_nonoverlapping(list.as_ptr(), place, list.len());
    }
    CKR_OK
}

/// # Safety
/// `start` is null or valid for `length` elements.
unsafe fn slice<'a, T>(start: *const T, length: CK_ULONG) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: valid, as the caller says.
    unsafe { std::slice::from_raw_parts(start, length as usize) }
}

/// # Safety
/// `start` is null or a template of `length` attributes, each with a valid value.
unsafe fn template(start: *const CK_ATTRIBUTE, length: CK_ULONG) -> Wanted {
    // SAFETY: valid, as the caller says.
    let attributes = unsafe { slice(start, length) };
    let value = |attribute: &CK_ATTRIBUTE| {
        // SAFETY: valid, as the caller says.
        unsafe { slice(attribute.pValue.cast::<u8>(), attribute.ulValueLen) }.to_vec()
    };
    attributes.iter().map(|attribute| (attribute.type_, value(attribute))).collect()
}

unsafe extern "C" fn initialise(arguments: *mut c_void) -> CK_RV {
    // SAFETY: null, or what the standard says.
    let arguments = unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() };
    // Several threads without locking is what SoftHSM crashes of; this one refuses.
    if arguments.is_none_or(|arguments| arguments.flags & CKF_OS_LOCKING_OK == 0) {
        return CKR_CANT_LOCK;
    }
    code(token().initialise())
}

unsafe extern "C" fn finalise(_: *mut c_void) -> CK_RV {
    code(token().finalise())
}

unsafe extern "C" fn info(place: *mut CK_INFO) -> CK_RV {
    let info = CK_INFO { cryptokiVersion: CK_VERSION { major: 2, minor: 40 }, ..CK_INFO::default() };
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().slots().map(|_| info), place) }
}

unsafe extern "C" fn slot_list(_: CK_BBOOL, place: *mut CK_SLOT_ID, length: *mut CK_ULONG) -> CK_RV {
    match token().slots() {
        // SAFETY: the caller's pointers, as the standard says.
        Ok(slots) => unsafe { give_list(&slots, place, length) },
        Err(code) => code,
    }
}

unsafe extern "C" fn slot_info(slot: CK_SLOT_ID, place: *mut CK_SLOT_INFO) -> CK_RV {
    let info = CK_SLOT_INFO { flags: CKF_TOKEN_PRESENT, ..CK_SLOT_INFO::default() };
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().check_slot(slot).map(|()| info), place) }
}

unsafe extern "C" fn token_info(slot: CK_SLOT_ID, place: *mut CK_TOKEN_INFO) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().token_info(slot, counts()), place) }
}

unsafe extern "C" fn mechanism_list(
    slot: CK_SLOT_ID,
    place: *mut CK_MECHANISM_TYPE,
    length: *mut CK_ULONG,
) -> CK_RV {
    match token().check_slot(slot) {
        // SAFETY: the caller's pointers, as the standard says.
        Ok(()) => unsafe { give_list(&MECHANISMS, place, length) },
        Err(code) => code,
    }
}

unsafe extern "C" fn mechanism_info(
    slot: CK_SLOT_ID,
    kind: CK_MECHANISM_TYPE,
    place: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    let info = match kind {
        CKM_ECDSA => Ok(CKF_SIGN),
        CKM_EC_KEY_PAIR_GEN => Ok(CKF_GENERATE_KEY_PAIR),
        _ => Err(CKR_MECHANISM_INVALID),
    };
    let info = info.map(|flags| CK_MECHANISM_INFO { ulMinKeySize: 256, ulMaxKeySize: 256, flags });
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().check_slot(slot).and(info), place) }
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _: *mut c_void,
    _: CK_NOTIFY,
    place: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().open(slot, flags, counts()), place) }
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    code(token().close(session, counts()))
}

unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    code(token().close_all(slot, counts()))
}

unsafe extern "C" fn session_info(session: CK_SESSION_HANDLE, place: *mut CK_SESSION_INFO) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    unsafe { give(token().session_info(session), place) }
}

unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    let pin = unsafe { slice(pin, length) };
    code(token().login(session, user, pin, counts()))
}

unsafe extern "C" fn logout(session: CK_SESSION_HANDLE) -> CK_RV {
    code(token().logout(session))
}

unsafe extern "C" fn find_init(
    session: CK_SESSION_HANDLE,
    wanted: *mut CK_ATTRIBUTE,
    length: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's template, as the standard says.
    let wanted = unsafe { template(wanted, length) };
    code(token().find_init(session, &wanted))
}

unsafe extern "C" fn find(
    session: CK_SESSION_HANDLE,
    place: *mut CK_OBJECT_HANDLE,
    most: CK_ULONG,
    length: *mut CK_ULONG,
) -> CK_RV {
    match token().find(session, most as usize) {
        Err(code) => code,
        Ok(found) => {
            // SAFETY: the caller's pointers, as the standard says.
            unsafe {
                std::ptr::copy_nonoverlapping(found.as_ptr(), place, found.len());
                length.write(found.len() as CK_ULONG);
            }
            CKR_OK
        }
    }
}

unsafe extern "C" fn find_final(session: CK_SESSION_HANDLE) -> CK_RV {
    code(token().find_final(session))
}

unsafe extern "C" fn attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    wanted: *mut CK_ATTRIBUTE,
    length: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's template, as the standard says.
    let wanted = unsafe { std::slice::from_raw_parts_mut(wanted, length as usize) };
    let kinds: Vec<_> = wanted.iter().map(|attribute| attribute.type_).collect();
    let found = match token().attributes(session, object, &kinds) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let mut result = CKR_OK;
    for (attribute, value) in wanted.iter_mut().zip(found) {
        match value {
            Err(code) => {
                attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                result = code;
            }
            Ok(value) if attribute.pValue.is_null() => attribute.ulValueLen = value.len() as CK_ULONG,
            Ok(value) if attribute.ulValueLen < value.len() as CK_ULONG => {
                attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                result = CKR_BUFFER_TOO_SMALL;
            }
            Ok(value) => {
                // SAFETY: the caller says that there is room for `ulValueLen`, and it is enough.
                unsafe {
                    std::ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len());
                }
                attribute.ulValueLen = value.len() as CK_ULONG;
            }
        }
    }
    result
}

unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    _: *mut CK_ATTRIBUTE,
    _: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    length: CK_ULONG,
    public_place: *mut CK_OBJECT_HANDLE,
    private_place: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's pointers, as the standard says.
    unsafe {
        if mechanism.as_ref().is_none_or(|mechanism| mechanism.mechanism != CKM_EC_KEY_PAIR_GEN) {
            return CKR_MECHANISM_INVALID;
        }
        match token().generate(session, &template(private, length)) {
            Err(code) => code,
            Ok((public, private)) => {
                public_place.write(public);
                private_place.write(private);
                CKR_OK
            }
        }
    }
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    let Some(mechanism) = (unsafe { mechanism.as_ref() }) else { return CKR_ARGUMENTS_BAD };
    code(token().sign_init(session, mechanism.mechanism, key))
}

unsafe extern "C" fn sign_one(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    place: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    // Asked for the length, the operation goes on; so it does where the place is too small.
    // SAFETY: the caller's pointers, as the standard says.
    let goes_on = place.is_null() || unsafe { length.read() } < 64;
    let key = match token().signs_with(session, !goes_on) {
        Ok(key) => key,
        Err(code) => return code,
    };
    if goes_on {
        // SAFETY: the caller's pointers, as the standard says.
        return unsafe { give_list(&[0_u8; 64], place, length) };
    }
    // SAFETY: the caller's pointers, as the standard says.
    match sign(&key, unsafe { slice(data, data_length) }) {
        // SAFETY: the caller's pointers, as the standard says.
        Ok(signature) => unsafe { give_list(&signature, place, length) },
        Err(code) => code,
    }
}

unsafe extern "C" fn generate_random(_: CK_SESSION_HANDLE, place: *mut CK_BYTE, length: CK_ULONG) -> CK_RV {
    // SAFETY: the caller's pointer, as the standard says.
    let place = unsafe { std::slice::from_raw_parts_mut(place, length as usize) };
    code(getrandom::fill(place).map_err(|_| CKR_RANDOM_NO_RNG))
}
