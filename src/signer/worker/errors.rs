//! From a module's error code to what can be done about it.

use cryptoki::error::{Error, RvError};

use crate::signer::protocol::Class;
use crate::signer::worker::session::Failure;

/// The class of an error; the codes are those of PKCS#11 section 5.
pub(super) const fn class_of(error: &Error) -> Class {
    let Error::Pkcs11(code, _) = error else { return Class::Down };
    match code {
        RvError::DataLenRange
        | RvError::DataInvalid
        | RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::FunctionRejected
        | RvError::FunctionNotSupported => Class::Request,
        RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::OperationActive
        | RvError::OperationNotInitialized
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::UserNotLoggedIn
        | RvError::FunctionCanceled => Class::Session,
        RvError::FunctionFailed | RvError::SessionCount | RvError::HostMemory | RvError::DeviceMemory => {
            Class::Busy
        }
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized
        | RvError::UserTypeInvalid => Class::Credentials,
        RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::CryptokiNotInitialized => Class::Gone,
        // Device errors, and every code of a vendor's own.
        _ => Class::Down,
    }
}

/// The class of an error of `C_Login`. A code that says nothing of a device, a session or memory may be a vendor's
/// word for a wrong PIN, and a wrong PIN is tried once.
pub(super) const fn class_of_login(error: &Error) -> Class {
    match (class_of(error), error) {
        (
            Class::Down,
            Error::Pkcs11(
                RvError::DeviceError
                | RvError::GeneralError
                | RvError::SessionReadOnlyExists
                | RvError::UserAnotherAlreadyLoggedIn
                | RvError::UserTooManyTypes,
                _,
            ),
        ) => Class::Down,
        (Class::Down | Class::Request, _) => Class::Credentials,
        (class, _) => class,
    }
}

/// Whether a token that answered `C_Login` so may have refused the PIN.
pub const fn is_refused_pin(error: &Error) -> bool {
    matches!(class_of_login(error), Class::Credentials)
}

/// The code and the function, as a vendor's support wants them; the long prose of the specification is left out.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(RvError::VendorDefined(number), _) => format!("{} ({number:#x})", label(error)),
        other => label(other),
    }
}

/// The same without numbers, of which there may be any.
pub(super) fn label(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("C_{function:?} {}", name(*code)),
        other => other.to_string(),
    }
}

pub(super) fn failure(error: &Error) -> Failure {
    let class = class_of(error);
    // To close a session that is gone could close another, live one that has its number by now.
    let closed = matches!(
        error,
        Error::Pkcs11(
            RvError::SessionHandleInvalid | RvError::SessionClosed | RvError::CryptokiNotInitialized,
            _
        )
    );
    Failure { class, why: said(error), label: label(error), closed }
}

/// `SessionHandleInvalid` is `CKR_SESSION_HANDLE_INVALID`.
fn name(code: RvError) -> String {
    let text = format!("{code:?}");
    let text = text.split('(').next().unwrap_or_default();
    let mut name = "CKR".to_owned();
    for letter in text.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    #[test]
    fn what_is_not_known_means_that_the_token_is_down() {
        let class = |code| class_of(&Error::Pkcs11(code, Function::Sign));
        assert_eq!(class(RvError::VendorDefined(0x8000_0123)), Class::Down);
        assert_eq!(class(RvError::DeviceError), Class::Down);
        assert_eq!(class(RvError::GeneralError), Class::Down);
        assert_eq!(class(RvError::DeviceRemoved), Class::Gone);
        assert_eq!(class(RvError::SessionHandleInvalid), Class::Session);
        assert_eq!(class(RvError::FunctionFailed), Class::Busy);
        assert_eq!(class(RvError::PinIncorrect), Class::Credentials);
        assert_eq!(class(RvError::DataLenRange), Class::Request);
        assert_eq!(class_of(&Error::NullFunctionPointer), Class::Down);
    }

    #[test]
    fn a_login_that_fails_for_no_known_reason_counts_as_a_wrong_pin() {
        let class = |code| class_of_login(&Error::Pkcs11(code, Function::Login));
        for code in [RvError::PinIncorrect, RvError::VendorDefined(0x8000_0123), RvError::FunctionRejected] {
            assert_eq!(class(code), Class::Credentials, "{code:?}");
        }
        assert_eq!(class(RvError::DeviceError), Class::Down);
        assert_eq!(class(RvError::TokenNotPresent), Class::Gone);
        assert_eq!(class(RvError::FunctionFailed), Class::Busy);
        assert_eq!(class(RvError::SessionHandleInvalid), Class::Session);
    }

    #[test]
    fn a_code_is_named_as_the_standard_names_it() {
        let error = Error::Pkcs11(RvError::SessionHandleInvalid, Function::SignInit);
        assert_eq!(said(&error), "C_SignInit CKR_SESSION_HANDLE_INVALID");
        assert!(failure(&error).closed);
        let error = Error::Pkcs11(RvError::VendorDefined(0x8000_0123), Function::Sign);
        assert_eq!(said(&error), "C_Sign CKR_VENDOR_DEFINED (0x80000123)");
        assert_eq!(failure(&error).label, "C_Sign CKR_VENDOR_DEFINED");
    }
}
