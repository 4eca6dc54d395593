//! Where what is counted stands in the file `counts`: an array of 64-bit numbers, little-endian. Also read by the
//! test kit.

/// The functions that are watched, each at its own number.
pub const FUNCTIONS: &[&str] = &[
    "C_Initialize",
    "C_Finalize",
    "C_GetInfo",
    "C_GetSlotList",
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_OpenSession",
    "C_CloseSession",
    "C_CloseAllSessions",
    "C_GetSessionInfo",
    "C_Login",
    "C_Logout",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_GenerateKeyPair",
    "C_SignInit",
    "C_Sign",
    "C_GenerateRandom",
    "C_CreateObject",
];

/// Logins with a wrong PIN, ever.
pub const WRONG_PINS: u64 = 64;
/// And since the last right one: what locks the token.
pub const WRONG_PINS_IN_A_ROW: u64 = 65;
/// Signatures that left the module.
pub const SIGNATURES: u64 = 66;
/// The process that initialised the module last.
pub const PROCESS: u64 = 67;
/// Sessions that are open, in a token of our own.
pub const SESSIONS: u64 = 68;

/// How many calls a fault of the control file has seen. Each control file has a number of its own, so that counting
/// goes on where a worker dies in the middle, and begins anew with another file.
/// There are at most eight faults at a time.
pub const fn fault(control: u64, index: u64) -> u64 {
    128 + (control % 100_000) * 16 + index
}

/// The process that met a fault first.
pub const fn process(control: u64, index: u64) -> u64 {
    fault(control, index) + 8
}
