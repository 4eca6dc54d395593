//! Certificate revocation lists (RFC 5280, section 5): read, proved to be of a CA that we trust, and never older than before.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::clock::Timestamp;
use crate::listener::tls::{TlsError, wrong};

/// One list, with what is compared of it.
#[derive(Clone, Debug)]
pub(in crate::listener) struct Crl {
    pub file: PathBuf,
    pub der: CertificateRevocationListDer<'static>,
    /// The issuer's name, as it stands there.
    pub issuer: Vec<u8>,
    number: Option<Vec<u8>>,
    this_update: Timestamp,
    /// From here on the list proves nothing.
    pub next_update: Timestamp,
}

const FIX: &str = "it must hold certificate revocation lists of the CAs in `client_ca`, in PEM or DER";

/// The lists of one file, which are all signed by one of these CAs.
pub(in crate::listener) fn read(
    file: &Path,
    bytes: &[u8],
    cas: &[CertificateDer<'_>],
) -> Result<Vec<Crl>, TlsError> {
    let bad = |why: &dyn std::fmt::Display| wrong(file, why, FIX);
    let is_pem = bytes.windows(11).any(|part| part == b"-----BEGIN ");
    let ders: Vec<CertificateRevocationListDer<'static>> = if is_pem {
        CertificateRevocationListDer::pem_slice_iter(bytes)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&format_args!("{e}: is it whole?")))?
    } else {
        vec![bytes.to_vec().into()]
    };
    if bytes.is_empty() || ders.is_empty() {
        return Err(bad(&"there is no list in it"));
    }
    ders.into_iter().map(|der| Crl::of(file, der, cas)).collect()
}

impl Crl {
    fn of(
        file: &Path,
        der: CertificateRevocationListDer<'static>,
        cas: &[CertificateDer<'_>],
    ) -> Result<Self, TlsError> {
        let bad = |why: &dyn std::fmt::Display| wrong(file, why, FIX);
        let (rest, list) = CertificateRevocationList::from_der(&der)
            .map_err(|_| bad(&"it cannot be read as a revocation list: is it whole?"))?;
        if !rest.is_empty() {
            return Err(bad(&"something stands behind the list"));
        }
        let issuer = list.issuer().as_raw().to_vec();
        let is_signed_by = |ca: &CertificateDer<'_>| {
            X509Certificate::from_der(ca).is_ok_and(|(_, ca)| {
                let may_sign =
                    ca.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()));
                may_sign
                    && ca.subject().as_raw() == issuer.as_slice()
                    && list.verify_signature(ca.public_key()).is_ok()
            })
        };
        if !cas.iter().any(is_signed_by) {
            let why = format!("no CA in `client_ca` has signed the list of {}", list.issuer());
            return Err(wrong(
                file,
                &why,
                "add the CA that signs the list to `client_ca`, or take the list out",
            ));
        }
        let next_update = list.next_update().ok_or_else(|| bad(&"the list has no nextUpdate"))?;
        let number = list.crl_number().map(x509_parser::num_bigint::BigUint::to_bytes_be);
        let (this_update, next_update) = (timestamp(list.last_update()), timestamp(next_update));
        Ok(Self { file: file.to_owned(), issuer, number, this_update, next_update, der })
    }

    /// Refuses a list that is older than the one in use: whoever can put an old one back could let the revoked in again.
    pub fn must_follow(&self, before: &[Self]) -> Result<(), TlsError> {
        let Some(last) = before.iter().find(|list| list.issuer == self.issuer) else { return Ok(()) };
        let is_older = match (&self.number, &last.number) {
            (Some(number), Some(last)) => (number.len(), number) < (last.len(), last),
            _ => self.this_update < last.this_update,
        };
        if is_older {
            let why = "the list is older than the one in use (by its number, or its date)";
            let fix = "put the newest one there; only a restart goes back to an older one";
            return Err(wrong(&self.file, &why, fix));
        }
        Ok(())
    }
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}
