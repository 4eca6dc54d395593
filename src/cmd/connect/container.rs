//! A certificate and its key out of a PKCS#12 file (RFC 7292), as browsers and `openssl pkcs12` write it.

use std::path::Path;

use anyhow::Result;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;

use crate::cmd::connect::password::Password;
use crate::cmd::{Failure, HintExt as _};

/// The chain, leaf first and without its root, and the key.
pub fn open(
    bytes: &[u8],
    password: &Password,
    file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let password = password.read(&format!("password of {}", file.display()))?;
    let store = KeyStore::from_pkcs12(bytes, password.expose_secret(), Pkcs12ImportPolicy::Relaxed)
        .hint(file.display(), "is it a PKCS#12 file, and its password the right one?")?;
    let (_, chain) = store.private_key_chain().ok_or_else(|| {
        Failure::new(format_args!("{}: there is no certificate with its key in it", file.display()))
            .with_hint("export it with its private key")
    })?;
    let certificates: Vec<_> =
        chain.certs().iter().map(|one| CertificateDer::from(one.as_der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    Ok((certificates, key.into()))
}
