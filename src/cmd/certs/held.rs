//! A certificate that was issued before: who holds it, for how long, and by which CA.

use std::path::{Path, PathBuf};

use rcgen::SanType;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::cmd::certs::authority::{Authority, Holder};
use crate::cmd::{Failure, HintExt as _};

/// One certificate, read from the first PEM block of a file.
#[derive(Debug)]
pub(super) struct Held {
    file: PathBuf,
    der: Vec<u8>,
}

impl Held {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(file).hint(file.display(), "name a certificate in PEM")?;
        let der = first(&bytes)
            .ok_or_else(|| Failure::new(format_args!("{} holds no certificate in PEM", file.display())))?;
        let held = Self { file: file.to_owned(), der };
        held.parsed()?;
        Ok(held)
    }

    /// The first certificate of a text in PEM.
    pub fn of(pem: &str) -> anyhow::Result<Self> {
        let der = first(pem.as_bytes()).ok_or_else(|| Failure::new("no certificate in PEM"))?;
        Ok(Self { file: PathBuf::from("ca.pem"), der })
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn parsed(&self) -> anyhow::Result<X509Certificate<'_>> {
        let parsed = X509Certificate::from_der(&self.der);
        Ok(parsed.hint(self.file.display(), "it is no X.509 certificate")?.1)
    }

    pub fn serial(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.parsed()?.raw_serial().to_vec())
    }

    /// Whether this CA's key signed it.
    pub fn is_of(&self, authority: &Authority) -> bool {
        let Ok(ca) = authority.held() else { return false };
        let (Ok(ca), Ok(leaf)) = (ca.parsed(), self.parsed()) else { return false };
        leaf.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// Days from its beginning to its end.
    pub fn days(&self) -> anyhow::Result<u32> {
        let validity = self.parsed()?.validity().clone();
        let seconds = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
        Ok(u32::try_from(seconds.div_euclid(86_400))?.max(1))
    }

    /// Whole days that are left; negative once it has ended.
    pub fn days_left(&self, now: i64) -> anyhow::Result<i64> {
        Ok(self.parsed()?.validity().not_after.timestamp().saturating_sub(now).div_euclid(86_400))
    }

    /// The same names and the same purpose, for a new one.
    pub fn holder(&self) -> anyhow::Result<Holder> {
        let parsed = self.parsed()?;
        let usage =
            parsed.extended_key_usage()?.map(|usage| (usage.value.client_auth, usage.value.server_auth));
        let names = parsed.subject_alternative_name()?;
        let names: Vec<_> = names.iter().flat_map(|names| &names.value.general_names).collect();
        let own = |name: &&GeneralName<'_>| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                v4.or(v6).ok()
            }
            _ => None,
        };
        match (usage, &names[..]) {
            (Some((false, true)), names) => {
                let hosts: Vec<_> = names.iter().filter_map(own).collect();
                if hosts.is_empty() || hosts.len() != names.len() {
                    return Err(self.unlike_ours());
                }
                Ok(Holder::Server(hosts))
            }
            (Some((true, false)), [GeneralName::URI(uri)]) => Ok(Holder::Uri((*uri).to_owned())),
            (Some((true, false)), [GeneralName::DNSName(dns)]) => Ok(Holder::Dns((*dns).to_owned())),
            _ => Err(self.unlike_ours()),
        }
    }

    fn unlike_ours(&self) -> anyhow::Error {
        let what = format!("{} has other names or purposes than `certs issue` gives", self.file.display());
        Failure::new(what).with_hint("issue a new one with the names that it should have").into()
    }
}

fn first(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut blocks = Pem::iter_from_buffer(bytes).filter_map(Result::ok);
    blocks.find(|pem| pem.label == "CERTIFICATE").map(|pem| pem.contents)
}

/// A name of a certificate in the making.
pub(super) fn san(text: &str) -> Result<SanType, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let name = text.to_owned().try_into();
    name.map(SanType::DnsName).map_err(|_| Failure::new(format_args!("`{text}` is no name")))
}
