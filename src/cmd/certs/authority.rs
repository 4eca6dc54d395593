//! A certificate authority for development: P-256, one level, files with mode 0600.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::cmd::{Failure, HintExt as _};

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

const DAY: u64 = 86_400;

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
                params.subject_alt_names = vec![SanType::URI(name(uri)?)];
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Holder::Dns(dns) => {
                params.subject_alt_names = vec![SanType::DnsName(name(dns)?)];
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Holder::Server(hosts) => {
                let host = |host: &String| -> anyhow::Result<SanType> {
                    Ok(match host.parse() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(name(host)?),
                    })
                };
                params.subject_alt_names = hosts.iter().map(host).collect::<Result<_, _>>()?;
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
    /// NAME.pem for everyone, NAME.key for its owner.
    pub fn write(&self, dir: &Path, name: &str) -> anyhow::Result<()> {
        let certificate = dir.join(format!("{name}.pem"));
        std::fs::write(&certificate, &self.certificate)
            .hint(certificate.display(), "can the folder be written?")?;
        write_private(&dir.join(format!("{name}.key")), &self.key)
    }
}

/// Writes a secret that only its owner may read.
fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let hint = "can the folder be written?";
    // A file that was there keeps its mode, so it is made anew.
    drop(std::fs::remove_file(file));
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).hint(file.display(), hint)?;
    out.write_all(text.as_bytes()).hint(file.display(), hint)
}

/// From a minute ago, for clocks that are a little behind.
#[expect(clippy::arithmetic_side_effects, reason = "the year 2100 and a few decades fit")]
fn params(days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = Duration::from_secs(Clock::system().now().seconds());
    let start = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = start + now.saturating_sub(Duration::from_secs(60));
    params.not_after = start + now.saturating_add(Duration::from_secs(DAY.saturating_mul(days.into())));
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
