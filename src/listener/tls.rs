//! TLS 1.3 with a client certificate, always: no tickets, no resumption, and a name that is in the directory. Read from all
//! files together, or not at all.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::hex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::time_provider::TimeProvider;
use rustls::{Error, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, ConfigError, Issuer, Revocation};
use crate::identity::Directory;
use crate::listener::crl::{self, Crl};
use crate::listener::gatekeeper::{Gatekeeper, Named, Vetted};
use crate::listener::lifetimes::Lifetimes;
use crate::listener::proofs::Proofs;
use crate::listener::sources::Sources;

/// Who may come in by this door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The gateway: an operator's certificate is refused in the handshake.
    Clients,
    /// The admin listener: its service tells a client that it may not.
    Everyone,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {why}; {fix}")]
    File { file: String, why: String, fix: &'static str },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] Error),
}

/// All that was read together, for both listeners.
#[derive(Debug)]
pub(in crate::listener) struct Snapshot {
    pub generation: u64,
    pub keeper: Arc<Gatekeeper>,
    pub proofs: Proofs,
    pub lifetimes: Lifetimes,
    /// The fingerprint of its certificate.
    pub server: String,
    clients: Arc<ServerConfig>,
    everyone: Arc<ServerConfig>,
}

/// TLS goes by our clock, so that a test can say otherwise.
#[derive(Debug)]
struct ByOurClock(Clock);

const OWN_FIX: &str = "it must hold the server's certificate and its chain, in PEM";
const CA_FIX: &str = "it must hold the CA that signs your clients' certificates, in PEM";

impl Snapshot {
    /// Reads every file. `before` is what a reload would take the place of.
    pub fn load(sources: &Sources, clock: &Clock, before: Option<&Self>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&sources.certificate, OWN_FIX)?;
        let key = key(&sources.key)?;
        let mut lifetimes = Lifetimes::default();
        lifetimes.add("server", chain.first().into_iter());

        let (mut issuers, mut all) = (Vec::new(), Vec::new());
        let mut hints = Vec::new();
        for issuer in &sources.issuers {
            let cas = certificates(&issuer.client_ca, CA_FIX)?;
            if cas.iter().any(|ca| all.contains(ca)) {
                let why = "a CA in it is another issuer's as well, and its clients would be both's";
                return Err(wrong(&issuer.client_ca, &why, "each CA belongs to one issuer"));
            }
            lifetimes.add("client_ca", cas.iter());
            let vetted = vet(issuer, &cas, &provider)?;
            if let Some(before) = before.and_then(|before| before.keeper.issuer(&issuer.name)) {
                vetted.crls.iter().try_for_each(|crl| crl.must_follow(&before.crls))?;
            }
            lifetimes.add_crls(&vetted.crls);
            hints.extend_from_slice(vetted.chain.root_hint_subjects());
            issuers.push(vetted);
            all.extend(cas);
        }
        let people = match &sources.config {
            Some(file) if before.is_some() => {
                sources.people.without_those_not_in(&Directory::new(&Config::load(file)?))
            }
            _ => sources.people.clone(),
        };
        let algorithms = provider.signature_verification_algorithms;
        let keeper = Arc::new(Gatekeeper { issuers, people, algorithms, hints });
        let server = |entrance| -> Result<Arc<ServerConfig>, TlsError> {
            let verifier = Arc::new(Named { keeper: Arc::clone(&keeper), entrance });
            let mut config = ServerConfig::builder_with_details(
                Arc::clone(&provider),
                Arc::new(ByOurClock(clock.clone())),
            )
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| wrong(&sources.certificate, &e, "its key must be the one in [gateway] key"))?;
            // rustls does not look at a client's certificate again when it resumes: nothing is ever resumed.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config.max_early_data_size = 0;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        };
        let (clients, everyone) = (server(Entrance::Clients)?, server(Entrance::Everyone)?);
        let generation = before.map_or(1, |before| before.generation.saturating_add(1));
        let own = chain.first().map(|own| fingerprint(own)).unwrap_or_default();
        let proofs = Proofs::default();
        Ok(Self { generation, keeper, proofs, lifetimes, server: own, clients, everyone })
    }

    pub fn server(&self, entrance: Entrance) -> Arc<ServerConfig> {
        Arc::clone(match entrance {
            Entrance::Clients => &self.clients,
            Entrance::Everyone => &self.everyone,
        })
    }
}

impl TimeProvider for ByOurClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

/// SHA-256, as `openssl` and browsers show it of a certificate, in hexadecimal.
pub(in crate::listener) fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

pub(in crate::listener) const fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_millis(at.millis()))
}

pub(in crate::listener) fn wrong(file: &Path, why: &dyn std::fmt::Display, fix: &'static str) -> TlsError {
    TlsError::File { file: file.display().to_string(), why: why.to_string(), fix }
}

/// An issuer's CAs and lists, as a verifier.
fn vet(
    issuer: &Issuer,
    cas: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Vetted, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone()).map_err(|e| wrong(&issuer.client_ca, &e, "it must hold CA certificates"))?;
    }
    let (roots, mut crls) = (Arc::new(roots), Vec::<Crl>::new());
    let builder = || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
    for file in &issuer.crls {
        let fix = "name a file of revocation lists, or take it out of `crls`";
        let bytes = std::fs::read(file).map_err(|e| wrong(file, &e, fix))?;
        for crl in crl::read(file, &bytes, cas)? {
            // rustls looks at the first list of an issuer only: what stands in a second one would not be revoked.
            if crls.iter().any(|other| other.issuer == crl.issuer) {
                let why = "it holds a second list of the same CA";
                return Err(wrong(file, &why, "give one complete list for each CA: no deltas, no parts"));
            }
            // Alone, so that the file can be named which holds what rustls does not take.
            build(builder(), std::slice::from_ref(&crl), issuer.revocation).map_err(|e| {
                wrong(file, &e, "give a complete list of version 2: no delta, not indirect, not by reason")
            })?;
            crls.push(crl);
        }
    }
    let chain = build(builder(), &crls, issuer.revocation)
        .map_err(|e| wrong(&issuer.client_ca, &e, "it must hold CA certificates"))?;
    if issuer.revocation == Revocation::Required && crls.len() < cas.len() {
        tracing::warn!(
            issuer = issuer.name,
            cas = cas.len(),
            lists = crls.len(),
            "not every CA has a revocation list: who is signed by one that has none is refused"
        );
    }
    let cas = cas.iter().map(|ca| fingerprint(ca)).collect();
    Ok(Vetted { name: issuer.name.clone(), kind: issuer.identity, chain, cas, crls })
}

fn build(
    verifier: ClientCertVerifierBuilder,
    crls: &[Crl],
    mode: Revocation,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let verifier = verifier.with_crls(crls.iter().map(|crl| crl.der.clone())).enforce_revocation_expiration();
    match mode {
        Revocation::Required => verifier,
        Revocation::Optional | Revocation::Unchecked => verifier.allow_unknown_revocation_status(),
    }
    .build()
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const FIX: &str = "it must hold the server's private key, in PEM";
    let bytes = Zeroizing::new(std::fs::read(file).map_err(|e| wrong(file, &e, FIX))?);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| wrong(file, &e, FIX))
}

fn certificates(file: &Path, fix: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = std::fs::read(file).map_err(|e| wrong(file, &e, fix))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| wrong(file, &e, fix))?;
    if found.is_empty() {
        return Err(wrong(file, &"there is no certificate in it", fix));
    }
    Ok(found)
}
