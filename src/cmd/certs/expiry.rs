//! How many days everything that says who may connect has left.

use std::path::{Path, PathBuf};

use serde::Serialize;
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::Config;

#[derive(Serialize)]
struct End {
    file: PathBuf,
    what: String,
    ends: String,
    days_left: i64,
}

/// Of these files, or of those that the configuration names. The answer is no where one ends within `within` days.
pub(super) fn expiry(context: &Context, files: Vec<PathBuf>, within: i64) -> Done {
    let files = if files.is_empty() { configured(context)? } else { files };
    let now = i64::try_from(Clock::system().now().seconds())?;
    let mut all = Vec::new();
    for file in &files {
        all.extend(read(file, now)?);
    }
    all.sort_by_key(|end| end.days_left);
    let line =
        |end: &End| format!("{:>6} days  {}  {} ({})", end.days_left, end.ends, end.file.display(), end.what);
    context.print(&all, all.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    let is_soon = all.iter().any(|end| end.days_left < within);
    Ok(if is_soon { Success::Denied } else { Success::Done })
}

fn configured(context: &Context) -> anyhow::Result<Vec<PathBuf>> {
    let config = Config::load(context.config())?;
    let of_issuers = config.gateway.issuers.into_iter().flat_map(|issuer| {
        let mut files = vec![issuer.client_ca];
        files.extend(issuer.crls);
        files
    });
    Ok(std::iter::once(config.gateway.certificate).chain(of_issuers).collect())
}

fn read(file: &Path, now: i64) -> anyhow::Result<Vec<End>> {
    let bytes = std::fs::read(file).hint(file.display(), "name certificates or revocation lists")?;
    let mut found = Vec::new();
    let mut add = |what: String, ends: x509_parser::time::ASN1Time| {
        let days_left = ends.timestamp().saturating_sub(now).div_euclid(86_400);
        found.push(End { file: file.to_owned(), what, ends: ends.to_string(), days_left });
    };
    let list = |der: &[u8]| {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        Some((format!("revocation list of {}", list.issuer()), list.next_update()?))
    };
    for pem in Pem::iter_from_buffer(&bytes).filter_map(Result::ok) {
        if let Some((what, ends)) = list(&pem.contents) {
            add(what, ends);
        } else if let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) {
            let kind = if certificate.is_ca() { "CA" } else { "certificate" };
            add(format!("{kind} {}", certificate.subject()), certificate.validity().not_after);
        }
    }
    if let Some((what, ends)) = list(&bytes) {
        add(what, ends);
    }
    if found.is_empty() {
        let failure = Failure::new(format_args!("{} holds no certificate and no list", file.display()));
        return Err(failure.with_hint("PEM, or a revocation list in DER").into());
    }
    Ok(found)
}
