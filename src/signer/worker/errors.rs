//! From a module's error code to what can be done about it.

use cryptoki::error::{Error, RvError};

use crate::signer::protocol::Class;
use crate::signer::worker::pool::Failure;

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
        // Device errors, a token or slot that is gone, and every code of a vendor's own.
        _ => Class::Down,
    }
}

/// The code and the function, as a vendor's support wants them; the long prose of the specification is left out.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function:?}: {code:?}"),
        other => other.to_string(),
    }
}

pub(super) fn failure(error: &Error) -> Failure {
    Failure { class: class_of(error), why: said(error) }
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
        assert_eq!(class(RvError::SessionHandleInvalid), Class::Session);
        assert_eq!(class(RvError::FunctionFailed), Class::Busy);
        assert_eq!(class(RvError::PinIncorrect), Class::Credentials);
        assert_eq!(class(RvError::DataLenRange), Class::Request);
        assert_eq!(class_of(&Error::NullFunctionPointer), Class::Down);
    }
}
