//! The client certificate and its key, and the authority that the gateway must come from: files into TLS settings.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;

use crate::clock::Clock;
use crate::cmd::{Context, Failure, HintExt as _};

/// Where they are, in full: for programs that start elsewhere.
#[derive(Debug, Serialize)]
pub struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// The files that prove who we are and who the gateway is.
#[derive(Clone, Debug, clap::Args)]
pub struct Credentials {
    /// The client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "CHANCERY_CERT")]
    cert: PathBuf,
    /// The certificate's private key (PEM); nobody else may be able to read it
    #[arg(long, value_name = "FILE", env = "CHANCERY_KEY")]
    key: PathBuf,
    /// The authority that issued the gateway's certificate (PEM)
    #[arg(long, value_name = "FILE", env = "CHANCERY_CA")]
    ca: PathBuf,
}

impl Credentials {
    pub const fn new(cert: PathBuf, key: PathBuf, ca: PathBuf) -> Self {
        Self { cert, key, ca }
    }

    pub fn files(&self) -> Result<Files> {
        let [ca, cert, key] = self.paths().map(std::path::absolute);
        Ok(Files { ca: ca?, cert: cert?, key: key? })
    }

    pub fn paths(&self) -> [&Path; 3] {
        [&self.ca, &self.cert, &self.key]
    }

    /// TLS 1.3 as this client, towards servers of this authority only, for HTTP/2 only.
    pub fn tls(&self, context: &Context, clock: &Clock) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).hint(self.ca.display(), "give the authority's certificate in PEM")?;
        }
        let chain = certificates(&self.cert)?;
        if let Some(leaf) = chain.first() {
            check_validity(&self.cert, leaf, context, clock)?;
        }
        check_mode(&self.key, context)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .hint(self.key.display(), "give an unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1)")?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .hint(
                self.cert.display(),
                format_args!("is {} the key of this certificate?", self.key.display()),
            )?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        // The gateway gives no tickets: each connection proves itself anew.
        tls.resumption = Resumption::disabled();
        Ok(tls)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let hint = "give one or more certificates in PEM";
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).hint(file.display(), hint)?.collect();
    let read = read.hint(file.display(), hint)?;
    if read.is_empty() {
        return Err(Failure::new(format_args!("{}: there is no certificate in it", file.display()))
            .with_hint(hint)
            .into());
    }
    Ok(read)
}

/// A certificate that has expired is refused by the gateway in fewer words.
fn check_validity(file: &Path, leaf: &CertificateDer<'_>, context: &Context, clock: &Clock) -> Result<()> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf)
        .hint(file.display(), "give the client certificate in PEM, the leaf first")?;
    let now = i64::try_from(clock.now().seconds()).unwrap_or(i64::MAX);
    let validity = leaf.validity();
    let (from, to) = (validity.not_before, validity.not_after);
    if now > to.timestamp() {
        return Err(Failure::new(format_args!("{}: expired on {to}", file.display()))
            .with_hint("have a new certificate issued (`chancery certs issue`)")
            .into());
    }
    if now < from.timestamp() {
        return Err(Failure::new(format_args!("{}: not valid before {from}", file.display()))
            .with_hint("is this machine's clock right?")
            .into());
    }
    let days = to.timestamp().saturating_sub(now) / 86_400;
    if days < 3 {
        context.say(format_args!("warning: {} expires on {to}", file.display()));
    }
    Ok(())
}

fn check_mode(key: &Path, context: &Context) -> Result<()> {
    let mode = std::fs::metadata(key)
        .hint(key.display(), "give the certificate's private key in PEM")?
        .permissions()
        .mode();
    let fix = format!("chmod 600 {}", key.display());
    if mode & 0o022 != 0 {
        let what = format!("{}: others can replace this key (mode {:03o})", key.display(), mode & 0o777);
        return Err(Failure::new(what).with_hint(fix).into());
    }
    if mode & 0o044 != 0 {
        let mode = mode & 0o777;
        context.say(format_args!("warning: others can read {} (mode {mode:03o}); {fix}", key.display()));
    }
    Ok(())
}
