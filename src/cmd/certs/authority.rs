//! A certificate authority for development: P-256, one level, files with mode 0600.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::cmd::certs::files::{Readers, replace};
use crate::cmd::certs::held::{Held, san};
use crate::cmd::{Failure, HintExt as _};
use crate::config::spiffe;

/// The CA, with its key.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Whose certificate it is.
#[derive(Clone, Debug)]
pub enum Holder {
    Uri(String),
    Dns(String),
    Server(Vec<String>),
}

/// A certificate and its key, in PEM.
pub struct Pair {
    certificate: String,
    key: Zeroizing<String>,
}

const DAY: i64 = 86_400;

/// Ten years: whoever still uses a CA for development then should look at it again.
const CA_DAYS: u32 = 3650;

impl Authority {
    pub fn generate() -> anyhow::Result<Self> {
        let mut params = params(CA_DAYS)?;
        params.distinguished_name.push(DnType::CommonName, "Chancery development CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Reads ca.pem and ca.key.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let file = dir.join(name);
            let hint = "`chancery certs init` makes a CA for development; --dir says where it is";
            std::fs::read_to_string(&file).hint(file.display(), hint)
        };
        let certificate = read("ca.pem")?;
        let key = KeyPair::from_pem(&Zeroizing::new(read("ca.key")?))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }

    pub fn pair(&self) -> anyhow::Result<Pair> {
        Ok(Pair {
            certificate: self.certificate.clone(),
            key: Zeroizing::new(self.issuer.key().serialize_pem()),
        })
    }

    /// Its certificate, to be looked into.
    pub(super) fn held(&self) -> anyhow::Result<Held> {
        Held::of(&self.certificate)
    }

    /// A revocation list, in PEM.
    pub(super) fn sign(&self, list: &CertificateRevocationListParams) -> anyhow::Result<String> {
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    pub fn issue(&self, holder: &Holder, days: u32) -> anyhow::Result<Pair> {
        let mut params = params(days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        let name = |text: &str| {
            text.to_owned().try_into().map_err(|_| Failure::new(format_args!("`{text}` is no name")))
        };
        let usage = match holder {
            Holder::Uri(uri) => {
                if !uri.contains("://") || uri.contains('*') || !uri.bytes().all(|b| b.is_ascii_graphic()) {
                    let failure = Failure::new(format_args!("`{uri}` is no URI"));
                    return Err(failure.with_hint("for example spiffe://chancery/trader").into());
                }
                if spiffe::is_meant(uri) {
                    spiffe::check(uri)
                        .hint(format_args!("`{uri}`"), "for example spiffe://chancery/trader")?;
                }
                params.subject_alt_names = vec![SanType::URI(name(uri)?)];
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Holder::Dns(dns) => {
                params.subject_alt_names = vec![SanType::DnsName(name(dns)?)];
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Holder::Server(hosts) => {
                params.subject_alt_names =
                    hosts.iter().map(|host| san(host)).collect::<Result<_, Failure>>()?;
                ExtendedKeyUsagePurpose::ServerAuth
            }
        };
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }
}

impl Pair {
    /// NAME.pem for everyone, NAME.key for its owner. The key first: who reads both in between has a certificate that
    /// is still good.
    pub fn write(&self, dir: &Path, name: &str) -> anyhow::Result<()> {
        replace(&dir.join(format!("{name}.key")), &self.key, Readers::Owner)?;
        replace(&dir.join(format!("{name}.pem")), &self.certificate, Readers::Everyone)
    }
}

/// The time now.
pub(super) fn now() -> anyhow::Result<OffsetDateTime> {
    at(i64::try_from(Clock::system().now().seconds())?)
}

/// A second since 1970.
#[expect(clippy::arithmetic_side_effects, reason = "the years that certificates have fit")]
pub(super) fn at(seconds: i64) -> anyhow::Result<OffsetDateTime> {
    let since = Duration::from_secs(u64::try_from(seconds)?);
    Ok(rcgen::date_time_ymd(1970, 1, 1) + since)
}

/// From a minute ago, for clocks that are a little behind, for so many days.
pub(super) fn span(days: u32) -> anyhow::Result<(OffsetDateTime, OffsetDateTime)> {
    let now = i64::try_from(Clock::system().now().seconds())?;
    Ok((at(now.saturating_sub(60))?, at(now.saturating_add(DAY.saturating_mul(days.into())))?))
}

fn params(days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = span(days)?;
    Ok(params)
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}
