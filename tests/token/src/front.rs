//! What the program loads: every function counted, its faults done, and the token behind it asked, be it our own or
//! another module.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::time::Duration;

use cryptoki_sys::*;

use crate::attempts;
use crate::control::{Bad, Fault, Hang, Lose};
use crate::token::{fresh, other_s, sign};
use crate::{control, counts, own, places};

/// Names another module, which is then asked in the place of a token of our own.
const BEHIND: &str = "CHANCERY_TEST_TOKEN_MODULE";

/// `CK_FUNCTION_LIST` as C has it.
#[repr(C)]
struct Plain {
    version: CK_VERSION,
    functions: [Option<unsafe extern "C" fn() -> CK_RV>; 68],
}

/// Every function is there, and does nothing.
pub const UNSUPPORTED: CK_FUNCTION_LIST = {
    let plain = Plain { version: CK_VERSION { major: 2, minor: 40 }, functions: [Some(unsupported); 68] };
    // SAFETY: the same size and layout; a C function that takes nothing may be called with any arguments.
    unsafe { std::mem::transmute::<Plain, CK_FUNCTION_LIST>(plain) }
};

unsafe extern "C" fn unsupported() -> CK_RV {
    CKR_FUNCTION_NOT_SUPPORTED
}

/// The only function that a PKCS#11 module must show by name.
///
/// # Safety
/// `place` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(place: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    static LIST: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    if place.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let list: *const CK_FUNCTION_LIST = LIST.get_or_init(|| watched(*behind()));
    // SAFETY: valid, as the caller says. Nobody writes to the list.
    unsafe { place.write(list.cast_mut()) };
    CKR_OK
}

/// The token behind.
fn behind() -> &'static CK_FUNCTION_LIST {
    static BEHIND_IT: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    BEHIND_IT.get_or_init(|| {
        std::env::var_os(BEHIND).map_or(own::FUNCTIONS, |path| {
            type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
            let mut list = std::ptr::null_mut();
            // SAFETY: a PKCS#11 module, as whoever set the variable says; it stays loaded.
            unsafe {
                let module =
                    libloading::Library::new(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let get = module.get::<GetFunctionList>(b"C_GetFunctionList").expect("a PKCS#11 module");
                assert_eq!(get(&mut list), CKR_OK, "{} has no function list", path.display());
                std::mem::forget(module);
                *list
            }
        })
    })
}

/// Does what a call's faults say, around the call.
fn around(place: usize, real: impl FnOnce() -> CK_RV) -> CK_RV {
    let name = places::FUNCTIONS.get(place).copied().unwrap_or_default();
    counts().add(place as u64);
    let control = control().now();
    let faults = control.faults(name, counts());
    for fault in faults.iter().filter(|fault| !fault.after) {
        if let Some(code) = befall(fault, control.number) {
            return code;
        }
    }
    let result = real();
    for fault in faults.iter().filter(|fault| fault.after) {
        if let Some(code) = befall(fault, control.number) {
            return code;
        }
    }
    result
}

fn befall(fault: &Fault, number: u64) -> Option<CK_RV> {
    if let Some(delay) = fault.delay {
        std::thread::sleep(delay);
    }
    match fault.hang {
        Some(Hang::ForEver) => loop {
            std::thread::park();
        },
        Some(Hang::UntilLifted) => {
            while control().now().number == number {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        None => {}
    }
    attempts::make(&fault.attempts);
    if fault.abort {
        std::process::abort();
    }
    if let Some(what) = fault.lose {
        lose(what);
    }
    fault.code
}

/// As after a restart of the token, or of a service between.
fn lose(what: Lose) {
    let list = behind();
    let (Some(slots), Some(close_all), Some(open), Some(logout), Some(close)) =
        (list.C_GetSlotList, list.C_CloseAllSessions, list.C_OpenSession, list.C_Logout, list.C_CloseSession)
    else {
        return;
    };
    let (mut found, mut length) = ([0; 16], 16);
    // SAFETY: as the standard has these functions.
    unsafe {
        if slots(CK_TRUE, found.as_mut_ptr(), &raw mut length) != CKR_OK {
            return;
        }
        for slot in found.into_iter().take(length as usize) {
            let mut session = 0;
            match what {
                Lose::Sessions => drop(close_all(slot)),
                Lose::Login => {
                    let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
                    if open(slot, flags, std::ptr::null_mut(), None, &raw mut session) == CKR_OK {
                        logout(session);
                        close(session);
                    }
                }
            }
        }
    }
}

macro_rules! watch {
    ($($place:literal $name:ident ($($argument:ident: $kind:ty),*);)*) => {
        $(
            #[allow(non_snake_case, reason = "as PKCS#11 has it")]
            unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
                around($place, || match behind().$name {
                    // SAFETY: the caller's arguments, passed on.
                    Some(function) => unsafe { function($($argument),*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                })
            }
            const _: () = assert!(same(places::FUNCTIONS[$place], stringify!($name)));
        )*

        /// The token's functions, those that we watch replaced.
        fn watched(list: CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST {
                C_GetFunctionList: Some(C_GetFunctionList),
                C_Sign: Some(C_Sign),
                C_Initialize: Some(C_Initialize),
                $($name: Some($name),)*
                ..list
            }
        }
    };
}

watch! {
    1 C_Finalize(reserved: *mut c_void);
    2 C_GetInfo(place: *mut CK_INFO);
    3 C_GetSlotList(present: CK_BBOOL, place: *mut CK_SLOT_ID, length: *mut CK_ULONG);
    4 C_GetSlotInfo(slot: CK_SLOT_ID, place: *mut CK_SLOT_INFO);
    5 C_GetTokenInfo(slot: CK_SLOT_ID, place: *mut CK_TOKEN_INFO);
    6 C_GetMechanismList(slot: CK_SLOT_ID, place: *mut CK_MECHANISM_TYPE, length: *mut CK_ULONG);
    7 C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, place: *mut CK_MECHANISM_INFO);
    8 C_OpenSession(
        slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY,
        place: *mut CK_SESSION_HANDLE
    );
    9 C_CloseSession(session: CK_SESSION_HANDLE);
    10 C_CloseAllSessions(slot: CK_SLOT_ID);
    11 C_GetSessionInfo(session: CK_SESSION_HANDLE, place: *mut CK_SESSION_INFO);
    12 C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    13 C_Logout(session: CK_SESSION_HANDLE);
    14 C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, length: CK_ULONG);
    15 C_FindObjects(
        session: CK_SESSION_HANDLE, place: *mut CK_OBJECT_HANDLE, most: CK_ULONG, length: *mut CK_ULONG
    );
    16 C_FindObjectsFinal(session: CK_SESSION_HANDLE);
    17 C_GetAttributeValue(
        session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, length: CK_ULONG
    );
    18 C_GenerateKeyPair(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE,
        public_length: CK_ULONG, private: *mut CK_ATTRIBUTE, private_length: CK_ULONG,
        public_place: *mut CK_OBJECT_HANDLE, private_place: *mut CK_OBJECT_HANDLE
    );
    19 C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    21 C_GenerateRandom(session: CK_SESSION_HANDLE, place: *mut CK_BYTE, length: CK_ULONG);
    22 C_CreateObject(
        session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, length: CK_ULONG, place: *mut CK_OBJECT_HANDLE
    );
}

#[allow(non_snake_case, reason = "as PKCS#11 has it")]
unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    counts().set(places::PROCESS, u64::from(std::process::id()));
    around(0, || match behind().C_Initialize {
        // SAFETY: the caller's arguments, passed on.
        Some(function) => unsafe { function(arguments) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    })
}

/// Beside its faults, its signature may be spoilt.
#[allow(non_snake_case, reason = "as PKCS#11 has it")]
unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    place: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    around(20, || {
        let Some(function) = behind().C_Sign else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the caller's arguments, passed on.
        let result = unsafe { function(session, data, data_length, place, length) };
        if result != CKR_OK || place.is_null() {
            return result;
        }
        counts().add(places::SIGNATURES);
        let control = control().now();
        for bad in control.faults("signature", counts()).into_iter().filter_map(|fault| fault.signature) {
            // SAFETY: the call went well: there are 64 bytes of signature, and the data that was signed.
            unsafe {
                let digest = std::slice::from_raw_parts(data, data_length as usize);
                spoil(std::slice::from_raw_parts_mut(place, 64), digest, bad, &mut *length);
            }
        }
        CKR_OK
    })
}

fn spoil(signature: &mut [u8], digest: &[u8], bad: Bad, length: &mut CK_ULONG) {
    let Ok(was) = <[u8; 64]>::try_from(&*signature) else { return };
    match bad {
        // Of s and n - s, the one that begins with a set bit.
        Bad::HighS if was[32] < 0x80 => signature.copy_from_slice(&other_s(was)),
        Bad::HighS => {}
        Bad::WrongKey => {
            if let Ok(other) = sign(&fresh(), digest) {
                signature.copy_from_slice(&other);
            }
        }
        Bad::FlippedBit => {
            let bit = getrandom::u32().map_or(0, |random| random as usize % 512);
            signature[bit / 8] ^= 1 << (bit % 8);
        }
        Bad::Zero => signature.fill(0),
        Bad::Short => *length = 63,
    }
}

/// Whether two names are the same, at compile time.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
