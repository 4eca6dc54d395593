//! What can go wrong on the way to the gateway, in words that say what to do about it.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::cmd::connect::card::NotSigned;

/// Why there is no answer of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the gateway at {at} cannot be reached: {why}")]
    Unreachable { at: String, why: String },
    #[error("the gateway's certificate is not trusted: {why}")]
    NotTrusted { why: String },
    #[error("the gateway refused this client's certificate: {why}")]
    Refused { why: &'static str },
    #[error("no secure connection to the gateway: {why}")]
    Tls { why: String },
    #[error("the key of the client certificate was not to be used: {why}")]
    NotSigned { why: String },
    #[error("what answers at the gateway's address does not speak HTTP/2")]
    NotHttp2,
    #[error("too many requests are waiting for the gateway")]
    Busy,
    #[error("the gateway took no request on {0} connections in a row")]
    Unsent(u32),
    #[error("the gateway took no request within {0} s")]
    NotTaken(u64),
    #[error("the connection to the gateway was lost before its answer came: {why}")]
    Lost { why: String },
    #[error("the gateway did not answer within {0} s")]
    NoAnswer(u64),
    #[error("the gateway answered HTTP {status}: {said}")]
    Status { status: u16, said: String },
    #[error("the gateway's answer is larger than {0} MiB")]
    TooLarge(usize),
}

impl Trouble {
    /// A stable name, for programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::NotHttp2 | Self::Tls { .. } => "gateway_unreachable",
            Self::NotTrusted { .. } => "gateway_not_trusted",
            Self::Refused { .. } => "certificate_refused",
            Self::NotSigned { .. } => "certificate_key_unavailable",
            Self::Busy | Self::Unsent(_) | Self::NotTaken(_) => "gateway_busy",
            Self::Lost { .. } | Self::NoAnswer(_) => "outcome_unknown",
            Self::Status { .. } => "gateway_refused",
            Self::TooLarge(_) => "answer_too_large",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "nothing was sent; is the gateway running, and is this its address?",
            Self::NotTrusted { .. } => {
                "nothing was sent; `--ca` must be the authority that issued the gateway's certificate, and the URL's host \
                 (or `--server-name`) a name in it"
            }
            Self::Refused { .. } => {
                "nothing was sent; the certificate must come from the gateway's client CA, be valid now, and its name \
                 stand in a [[client]] of the gateway's configuration"
            }
            Self::NotSigned { .. } => {
                "nothing was sent; is the token plugged in, and does it wait to be touched?"
            }
            Self::Tls { .. } | Self::NotHttp2 => {
                "nothing was sent; is this the address of a Chancery gateway?"
            }
            Self::Busy | Self::Unsent(_) | Self::NotTaken(_) => "nothing was sent; try again",
            Self::Lost { .. } | Self::NoAnswer(_) => {
                "if this was a transaction it may have been sent: look at the account before sending it again"
            }
            Self::Status { status: 421, .. } => {
                "add this host and port to `hosts` of [gateway], or give one of them as `--server-name`"
            }
            Self::Status { .. } | Self::TooLarge(_) => "see the gateway's log",
        }
    }

    /// What a failed read, write or handshake means. `at` is the address that was asked for.
    pub fn of_io(at: &str, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(error) => Self::of_tls(error),
            None => Self::Unreachable { at: at.to_owned(), why: error.to_string() },
        }
    }

    pub fn lost(error: &(dyn StdError + 'static)) -> Self {
        Self::Lost { why: causes(error) }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::NotTrusted { why: not_trusted(why) },
            rustls::Error::AlertReceived(alert) => match refused(*alert) {
                Some(why) => Self::Refused { why },
                None if *alert == AlertDescription::NoApplicationProtocol => Self::NotHttp2,
                None => Self::Tls { why: error.to_string() },
            },
            rustls::Error::Other(other) if other.0.is::<NotSigned>() => {
                Self::NotSigned { why: other.0.to_string() }
            }
            other => Self::Tls { why: other.to_string() },
        }
    }
}

/// The text of an error with those of its causes.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // A `String` takes everything.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

fn not_trusted(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "the given CA did not issue it".to_owned(),
        CertificateError::BadSignature => {
            "the given CA did not issue it, but one of the same name; was that CA made anew?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another server ({error})")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is this machine's clock right?".to_owned()
        }
        other => other.to_string(),
    }
}

/// What a server tells a client whose certificate it does not take; `None` for alerts about other things.
const fn refused(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => "it wants one and got none",
        AlertDescription::UnknownCA => "it does not come from the gateway's client CA",
        AlertDescription::CertificateExpired => "it has expired or is not valid yet",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::CertificateUnknown => {
            "its name is not to the gateway's rules; `chancery certs inspect` says what they make of it"
        }
        AlertDescription::AccessDenied => "no [[client]] of the gateway has its name",
        AlertDescription::UnsupportedCertificate => "it is not a certificate for clients",
        AlertDescription::BadCertificate => "it is malformed or not to the gateway's rules",
        AlertDescription::DecryptError => {
            "its issuer has the name of the gateway's client CA, but another key"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_troubles_are_told_apart() {
        let tls = |error| Trouble::of_io("gw:1", &io::Error::new(io::ErrorKind::InvalidData, error)).name();
        let alert = |alert| tls(rustls::Error::AlertReceived(alert));
        assert_eq!(
            tls(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "gateway_not_trusted"
        );
        assert_eq!(alert(AlertDescription::UnknownCA), "certificate_refused");
        assert_eq!(alert(AlertDescription::ProtocolVersion), "gateway_unreachable");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            Trouble::of_io("gw:1", &refused).to_string(),
            "the gateway at gw:1 cannot be reached: connection refused"
        );
    }
}
