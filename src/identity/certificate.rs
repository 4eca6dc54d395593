//! From a client certificate to its one identity. The chain is rustls's to verify; the name is ours.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use crate::clock::Timestamp;
use crate::config::{IdentityKind, spiffe};

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The one SAN of the configured kind.
    pub identity: String,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("it cannot be read as an X.509 certificate")]
    Malformed,
    #[error("it is a CA's certificate, not a client's")]
    IsCa,
    #[error("it has no extended key usage clientAuth (anyExtendedKeyUsage does not count)")]
    NoClientAuth,
    #[error("its key usage does not include digitalSignature")]
    NoDigitalSignature,
    #[error("it has no {0} in its subject alternative names (the common name is not read)")]
    NoName(&'static str),
    #[error("it has more than one {0} in its subject alternative names")]
    SeveralNames(&'static str),
    #[error("its name has a wildcard or a character that names do not have")]
    NotAName,
    #[error("its name is not a SPIFFE ID: {0}")]
    Spiffe(#[from] spiffe::SpiffeError),
    #[error(
        "a certificate with a SPIFFE ID has a key usage with digitalSignature, and without keyCertSign or cRLSign"
    )]
    NotASvid,
}

impl Certificate {
    /// Reads a leaf: clientAuth, no CA, and exactly one SAN of the kind that the configuration says.
    pub fn read(der: &[u8], kind: IdentityKind) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        if certificate.is_ca() {
            return Err(CertificateError::IsCa);
        }
        let malformed = |_| CertificateError::Malformed;
        let usage = certificate.key_usage().map_err(malformed)?.map(|usage| usage.value);
        if usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(CertificateError::NoDigitalSignature);
        }
        if !certificate.extended_key_usage().map_err(malformed)?.is_some_and(|usage| usage.value.client_auth)
        {
            return Err(CertificateError::NoClientAuth);
        }
        let seconds = certificate.validity().not_after.timestamp();
        let not_after = Timestamp::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let identity = name(&certificate, kind)?;
        if kind == IdentityKind::Uri && spiffe::is_meant(&identity) {
            spiffe::check(&identity)?;
            // X509-SVID, section 4.3: a leaf has a key usage, and it signs no certificates.
            if usage.is_none_or(|usage| usage.key_cert_sign() || usage.crl_sign()) {
                return Err(CertificateError::NotASvid);
            }
        }
        Ok(Self { identity, not_after })
    }
}

fn name(certificate: &X509Certificate<'_>, kind: IdentityKind) -> Result<String, CertificateError> {
    let (what, mut found) = (if kind == IdentityKind::Uri { "URI" } else { "DNS name" }, None);
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            let name = match (kind, name) {
                (IdentityKind::Uri, GeneralName::URI(uri)) => *uri,
                (IdentityKind::Dns, GeneralName::DNSName(dns)) => *dns,
                (_, GeneralName::Invalid(..)) => return Err(CertificateError::Malformed),
                _ => continue,
            };
            if found.replace(name).is_some() {
                return Err(CertificateError::SeveralNames(what));
            }
        }
    }
    let name = found.ok_or(CertificateError::NoName(what))?;
    if name.is_empty() || name.contains('*') || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CertificateError::NotAName);
    }
    Ok(name.to_owned())
}
