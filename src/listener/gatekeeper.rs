//! Whom a certificate makes its holder: the chain as rustls verifies it, revocation, and then the name as we do.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;
use crate::config::IdentityKind;
use crate::identity::{Certificate, Directory, Person};
use crate::listener::crl::Crl;
use crate::listener::tls::Entrance;

/// Everyone who may sign certificates, and everyone who may connect: the same for both listeners.
#[derive(Debug)]
pub(in crate::listener) struct Gatekeeper {
    pub issuers: Vec<Vetted>,
    pub people: Directory,
    pub algorithms: WebPkiSupportedAlgorithms,
    /// The names of all CAs, which clients choose their certificate by.
    pub hints: Vec<DistinguishedName>,
}

/// An issuer whose files were read.
#[derive(Debug)]
pub(in crate::listener) struct Vetted {
    pub name: String,
    pub kind: IdentityKind,
    pub chain: Arc<dyn ClientCertVerifier>,
    /// Fingerprints.
    pub cas: Vec<String>,
    pub crls: Vec<Crl>,
}

/// Who holds a certificate, and for how long that is so at most while nothing changes.
#[derive(Clone, Debug)]
pub(in crate::listener) struct Admitted {
    pub person: Person,
    pub identity: String,
    /// Then a certificate of the chain or a revocation list ends, and it must be asked anew.
    pub until: Timestamp,
}

/// One listener's side of it, for rustls.
#[derive(Debug)]
pub(in crate::listener) struct Named {
    pub keeper: Arc<Gatekeeper>,
    pub entrance: Entrance,
}

/// A certificate of our CA whose name may not come in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotWelcome(String);

impl Gatekeeper {
    pub fn issuer(&self, name: &str) -> Option<&Vetted> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }

    /// The whole question, and the same one in the handshake and whenever something has changed.
    pub fn admit(
        &self,
        entrance: Entrance,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Admitted, Error> {
        let issuer = self.issuer_of(leaf, intermediates, now)?;
        let certificate = Certificate::read(leaf, issuer.kind).map_err(|e| refused(e.to_string()))?;
        let person = match (self.people.find(&issuer.name, &certificate.identity), entrance) {
            (Some(Person::Operator(operator)), Entrance::Clients) => {
                return Err(refused(format!("operator `{}` may use the admin listener only", operator.name)));
            }
            (Some(person), _) => person.clone(),
            (None, _) => {
                tracing::warn!(
                    identity = %certificate.identity, issuer = issuer.name,
                    "no [[client]] or [[operator]] has this identity under this issuer"
                );
                // The alert access_denied: the certificate is fine, its holder is not known here.
                return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
            }
        };
        let now = Timestamp::from_millis(now.as_secs().saturating_mul(1000));
        let ends = intermediates.iter().map(not_after).chain([certificate.not_after]);
        // Valid in its last second as well.
        let ends = ends.map(|end| Timestamp::from_millis(end.millis().saturating_add(1000)));
        let ends = ends.chain(issuer.crls.iter().map(|crl| crl.next_update));
        let until = ends.filter(|end| *end > now).min().unwrap_or(now);
        Ok(Admitted { person, identity: certificate.identity, until })
    }

    /// The one issuer whose CAs have signed it. Two of them would make it two clients.
    fn issuer_of(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<&Vetted, Error> {
        let (mut found, mut failed) = (None, None);
        for issuer in &self.issuers {
            match issuer.chain.verify_client_cert(leaf, intermediates, now) {
                Ok(_) if found.is_some() => {
                    return Err(refused("more than one issuer vouches for it".to_owned()));
                }
                Ok(_) => found = Some(issuer),
                // What an issuer says of its own certificate tells more than that the others do not know it.
                Err(error) if is_unknown(&error) => _ = failed.get_or_insert(error),
                Err(error) => failed = Some(error),
            }
        }
        found.ok_or_else(|| failed.unwrap_or(Error::InvalidCertificate(CertificateError::UnknownIssuer)))
    }
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.keeper.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.keeper.admit(self.entrance, leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.keeper.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.keeper.algorithms.supported_schemes()
    }
}

/// Why somebody is not let in, out of a fixed set.
pub(in crate::listener) const fn reason(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(why) => match why {
            CertificateError::ApplicationVerificationFailure => "unknown_name",
            CertificateError::Other(_) => "not_welcome",
            CertificateError::UnknownIssuer => "unknown_issuer",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::Revoked => "revoked",
            CertificateError::UnknownRevocationStatus => "revocation_unknown",
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => "crl_expired",
            _ => "bad_certificate",
        },
        _ => "handshake",
    }
}

const fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

fn refused(why: String) -> Error {
    tracing::warn!(why, "a client certificate of our CA is refused");
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotWelcome(why)))))
}

/// The end of a certificate that was verified just now; one that cannot be read ends at once.
fn not_after(der: &CertificateDer<'_>) -> Timestamp {
    let end = X509Certificate::from_der(der).map_or(0, |(_, ca)| ca.validity().not_after.timestamp());
    Timestamp::from_millis(u64::try_from(end).unwrap_or(0).saturating_mul(1000))
}
