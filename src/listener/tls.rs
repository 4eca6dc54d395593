//! TLS 1.3 with a client certificate, always: no tickets, no resumption, and a name that is in the directory.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};

use crate::config::{Gateway, IdentityKind};
use crate::identity::{Certificate, Directory, Person};

/// Who may come in by this door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The gateway: an operator's certificate is refused in the handshake.
    Clients,
    /// The admin listener: its service tells a client that it may not.
    Everyone,
}

/// A server's side of TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(in crate::listener) config: Arc<ServerConfig>,
    pub(in crate::listener) directory: Arc<Directory>,
    pub(in crate::listener) kind: IdentityKind,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {why}; {fix}")]
    File { file: String, why: String, fix: &'static str },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] Error),
}

impl Tls {
    pub fn load(gateway: &Gateway, directory: Arc<Directory>, entrance: Entrance) -> Result<Self, TlsError> {
        let chain = certificates(
            &gateway.certificate,
            "it must hold the server's certificate and its chain, in PEM",
        )?;
        let key = PrivateKeyDer::from_pem_file(&gateway.key)
            .map_err(|e| wrong(&gateway.key, &e, "it must hold the server's private key, in PEM"))?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(
            &gateway.client_ca,
            "it must hold the CA that signs your clients' certificates, in PEM",
        )? {
            roots.add(ca).map_err(|e| wrong(&gateway.client_ca, &e, "it must hold CA certificates"))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| wrong(&gateway.client_ca, &e, "it must hold CA certificates"))?;
        let verifier = Named {
            chain: chain_verifier,
            directory: Arc::clone(&directory),
            kind: gateway.identity,
            entrance,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key)
            .map_err(|e| wrong(&gateway.certificate, &e, "its key must be the one in [gateway] key"))?;
        // rustls does not look at a client's certificate again when it resumes: nothing is ever resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), directory, kind: gateway.identity })
    }

    /// Who holds the certificate of a finished handshake.
    pub(in crate::listener) fn holder(&self, leaf: &CertificateDer<'_>) -> Option<(Person, Certificate)> {
        let certificate = Certificate::read(leaf, self.kind).ok()?;
        Some((self.directory.find(&certificate.identity)?.clone(), certificate))
    }
}

/// Verifies the chain as rustls does, then the name as we do.
#[derive(Debug)]
struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    directory: Arc<Directory>,
    kind: IdentityKind,
    entrance: Entrance,
}

/// A certificate of our CA whose name may not come in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotWelcome(String);

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        let refused = |why: String| {
            tracing::warn!(why, "a client certificate of our CA is refused");
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotWelcome(why)))))
        };
        let certificate = Certificate::read(leaf, self.kind).map_err(|e| refused(e.to_string()))?;
        match (self.directory.find(&certificate.identity), self.entrance) {
            (Some(Person::Client(_)), _) | (Some(Person::Operator(_)), Entrance::Everyone) => Ok(verified),
            (Some(Person::Operator(operator)), Entrance::Clients) => {
                Err(refused(format!("operator `{}` may use the admin listener only", operator.name)))
            }
            (None, _) => {
                tracing::warn!(identity = %certificate.identity, "no [[client]] or [[operator]] has this identity");
                // The alert access_denied: the certificate is fine, its holder is not known here.
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
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
        self.chain.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Why a handshake failed, out of a fixed set.
pub(in crate::listener) fn reason(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => "no_certificate",
        Some(Error::InvalidCertificate(why)) => match why {
            CertificateError::ApplicationVerificationFailure => "unknown_name",
            CertificateError::Other(_) => "not_welcome",
            CertificateError::UnknownIssuer => "unknown_issuer",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::Revoked => "revoked",
            _ => "bad_certificate",
        },
        _ => "handshake",
    }
}

fn certificates(file: &Path, fix: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|e| wrong(file, &e, fix))?.collect();
    let found = found.map_err(|e| wrong(file, &e, fix))?;
    if found.is_empty() {
        return Err(wrong(file, &"there is no certificate in it", fix));
    }
    Ok(found)
}

fn wrong(file: &Path, why: &dyn std::fmt::Display, fix: &'static str) -> TlsError {
    TlsError::File { file: file.display().to_string(), why: why.to_string(), fix }
}
