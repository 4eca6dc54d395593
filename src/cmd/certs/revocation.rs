//! The revocation list of the CA for development: read, added to, and written anew with the next number.

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use serde_json::json;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::cmd::certs::authority::{self, Authority};
use crate::cmd::certs::files::{Readers, replace};
use crate::cmd::certs::held::Held;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};

/// Why a certificate is revoked (RFC 5280, section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

/// What a list says.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    number: u64,
    entries: Vec<RevokedCertParams>,
}

/// Puts these certificates on the list; without any, the list is only written anew, to end later.
pub(super) fn revoke(context: &Context, dir: &Path, files: &[PathBuf], reason: Reason, days: u32) -> Done {
    let authority = Authority::load(dir)?;
    let mut revoked = Revoked::read(dir)?;
    let mut added = Vec::new();
    for file in files {
        let held = Held::read(file)?;
        if !held.is_of(&authority) {
            let failure = Failure::new(format_args!("{} is not of this CA", file.display()));
            return Err(failure.with_hint("--dir says where the CA is that signed it").into());
        }
        let serial = held.serial()?;
        if !revoked.has(&serial) {
            revoked.entries.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: authority::now()?,
                reason_code: reason.code(),
                invalidity_date: None,
            });
            added.push(file.display().to_string());
        }
    }
    let list = revoked.write(dir, &authority, days)?;
    let data = json!({ "crl": list, "number": revoked.number, "revoked": revoked.entries.len(), "added": added, "days": days });
    let text = format!(
        "wrote {}, number {}, with {} revoked, in force for {days} days\nA gateway that names it in `crls` \
         takes it within a second.",
        list.display(),
        revoked.number,
        revoked.entries.len()
    );
    context.print(&data, text)?;
    Ok(Success::Done)
}

impl Revoked {
    /// What stands in `ca.crl`; nothing where there is none yet.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join("ca.crl");
        if !file.exists() {
            return Ok(Self::default());
        }
        let damaged = || {
            Failure::new(format_args!("{} cannot be read as a revocation list", file.display())).with_hint(
                "put its last copy back: whom it had revoked would be let in again by a list that begins anew",
            )
        };
        let text = std::fs::read(&file).hint(file.display(), "can it be read?")?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|_| damaged())?;
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| damaged())?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).ok_or_else(damaged)?;
        let entry = |entry: &x509_parser::prelude::RevokedCertificate<'_>| {
            let reason = entry.reason_code().and_then(|(_, code)| reason_of(code.0));
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(entry.raw_serial()),
                revocation_time: authority::at(entry.revocation_date.timestamp())?,
                reason_code: reason,
                invalidity_date: None,
            })
        };
        let entries = list.iter_revoked_certificates().map(entry).collect::<anyhow::Result<_>>()?;
        Ok(Self { number, entries })
    }

    pub fn has(&self, serial: &[u8]) -> bool {
        let bare = |bytes: &[u8]| bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
        self.entries.iter().any(|entry| bare(entry.serial_number.as_ref()) == bare(serial))
    }

    /// Writes the next list.
    pub fn write(&mut self, dir: &Path, authority: &Authority, days: u32) -> anyhow::Result<PathBuf> {
        self.number = self.number.saturating_add(1);
        let (this_update, next_update) = authority::span(days)?;
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: self.number.into(),
            issuing_distribution_point: None,
            revoked_certs: self.entries.clone(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = dir.join("ca.crl");
        replace(&file, &authority.sign(&list)?, Readers::Everyone)?;
        Ok(file)
    }
}

impl Reason {
    const fn code(self) -> Option<RevocationReason> {
        match self {
            // RFC 5280 wants it left out.
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}

const fn reason_of(code: u8) -> Option<RevocationReason> {
    match code {
        1 => Some(RevocationReason::KeyCompromise),
        2 => Some(RevocationReason::CaCompromise),
        3 => Some(RevocationReason::AffiliationChanged),
        4 => Some(RevocationReason::Superseded),
        5 => Some(RevocationReason::CessationOfOperation),
        6 => Some(RevocationReason::CertificateHold),
        9 => Some(RevocationReason::PrivilegeWithdrawn),
        10 => Some(RevocationReason::AaCompromise),
        _ => None,
    }
}
