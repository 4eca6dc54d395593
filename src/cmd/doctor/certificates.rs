//! The server's certificate and key, and the CA of the clients: there, valid, for our names, and fitting together.

use std::net::IpAddr;
use std::path::Path;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::clock::Clock;
use crate::cmd::doctor::files;
use crate::cmd::doctor::finding::Finding;
use crate::config::{Config, Issuer};
use crate::listener::{Sources, Trust};

/// A renewal should not be a matter of hours.
const SOON_DAYS: i64 = 14;

pub fn check(config: &Config, clock: &Clock) -> Vec<Finding> {
    let gateway = &config.gateway;
    let now = i64::try_from(clock.now().seconds()).unwrap_or(i64::MAX);
    let mut findings = server(config, now);
    findings.push(files::private("key", &gateway.key));
    for issuer in &gateway.issuers {
        findings.extend(client_ca(issuer, now));
        findings.extend(crls(issuer, now));
    }
    // Only now what `serve` itself would say: by then most of its reasons have a finding of their own.
    findings.push(match Trust::load(Sources::new(config), clock.clone()) {
        Ok(_) => Finding::ok("tls", "the certificate, its key, the client CA and its lists go together"),
        Err(error) => Finding::failed("tls", error, "see the files that [gateway] and [[issuer]] name"),
    });
    findings
}

fn server(config: &Config, now: i64) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let file = &config.gateway.certificate;
    let shown = file.display();
    let ders = match read(file) {
        Ok(ders) => ders,
        Err(why) => {
            let fix = "`chancery certs init` makes one for development; [gateway] certificate names it";
            return vec![Finding::failed(CHECK, format_args!("{shown}: {why}"), fix)];
        }
    };
    let Some(Ok((_, leaf))) = ders.first().map(|der| X509Certificate::from_der(der)) else {
        return vec![Finding::failed(
            CHECK,
            format_args!("{shown}: not X.509"),
            "give the leaf first, in PEM",
        )];
    };
    let mut findings = vec![validity(CHECK, file, &leaf, now)];
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        let what = format!("{shown}: it is not for servers (no serverAuth in its extended key usage)");
        findings.push(Finding::failed(CHECK, what, "have one issued with serverAuth"));
    }
    findings.push(names(config, &leaf));
    findings
}

/// Whether clients that call us by the configured names will find them in the certificate.
fn names(config: &Config, leaf: &X509Certificate<'_>) -> Finding {
    let admin = config.admin.iter().flat_map(|admin| &admin.hosts);
    let mut missing: Vec<&str> = Vec::new();
    for host in config.gateway.hosts.iter().chain(admin).map(|host| without_port(host)) {
        if !covers(leaf, host) && !missing.contains(&host) {
            missing.push(host);
        }
    }
    if missing.is_empty() {
        return Finding::ok(
            "hosts",
            format_args!("the certificate is for {}", config.gateway.hosts.join(", ")),
        );
    }
    let flags: Vec<String> = missing.iter().map(|host| format!("--host {host}")).collect();
    Finding::failed(
        "hosts",
        format_args!("the certificate is not for {}, which `hosts` names", missing.join(", ")),
        format_args!(
            "have one issued for all of them (`chancery certs issue server --kind server {}`)",
            flags.join(" ")
        ),
    )
}

fn client_ca(issuer: &Issuer, now: i64) -> Vec<Finding> {
    const CHECK: &str = "client CA";
    let file = &issuer.client_ca;
    let shown = file.display();
    let fix = "`client_ca` names the CA that issues your clients' certificates, in PEM";
    let ders = match read(file) {
        Ok(ders) => ders,
        Err(why) => return vec![Finding::failed(CHECK, format_args!("{shown}: {why}"), fix)],
    };
    let mut findings = Vec::new();
    for der in &ders {
        match X509Certificate::from_der(der) {
            Ok((_, ca)) if ca.is_ca() => findings.push(validity(CHECK, file, &ca, now)),
            Ok((_, leaf)) => {
                let what = format!("{shown}: {} is not a CA's certificate", leaf.subject());
                findings.push(Finding::failed(CHECK, what, fix));
            }
            Err(_) => findings.push(Finding::failed(CHECK, format_args!("{shown}: not X.509"), fix)),
        }
    }
    findings
}

/// Revocation lists end within days: one that was not renewed keeps all clients of its CA out.
fn crls(issuer: &Issuer, now: i64) -> Vec<Finding> {
    const CHECK: &str = "revocation";
    let fix = "have the CA publish a new one, and fetch it regularly; see docs/certificates.md";
    let mut findings = Vec::new();
    for file in &issuer.crls {
        let (shown, bytes) = (file.display(), std::fs::read(file).unwrap_or_default());
        let pems: Vec<_> =
            Pem::iter_from_buffer(&bytes).filter_map(Result::ok).map(|pem| pem.contents).collect();
        for der in if pems.is_empty() { vec![bytes] } else { pems } {
            let end = CertificateRevocationList::from_der(&der).ok().and_then(|(_, list)| list.next_update());
            findings.push(match end {
                None => Finding::failed(CHECK, format_args!("{shown}: no revocation list with an end"), fix),
                Some(end) if end.timestamp() <= now => Finding::failed(
                    CHECK,
                    format_args!("{shown}: the list ended on {end}: its clients are refused"),
                    fix,
                ),
                Some(end) => Finding::ok(CHECK, format_args!("{shown}: in force until {end}")),
            });
        }
    }
    findings
}

fn validity(check: &'static str, file: &Path, certificate: &X509Certificate<'_>, now: i64) -> Finding {
    let (from, to) = (certificate.validity().not_before, certificate.validity().not_after);
    let shown = file.display();
    let days = to.timestamp().saturating_sub(now).div_euclid(86_400);
    if days < 0 {
        return Finding::failed(check, format_args!("{shown}: it expired on {to}"), "have a new one issued");
    }
    if from.timestamp() > now {
        let fix = "is this machine's clock right?";
        return Finding::failed(check, format_args!("{shown}: it is not valid before {from}"), fix);
    }
    let what = format!("{shown}: valid for {days} more days, to {to}");
    if days < SOON_DAYS {
        Finding::warning(check, what, "have a new one issued")
    } else {
        Finding::ok(check, what)
    }
}

/// The certificates of a file; at least one.
fn read(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let ders: Vec<_> = Pem::iter_from_buffer(&bytes)
        .filter_map(Result::ok)
        .filter(|pem| pem.label == "CERTIFICATE")
        .map(|pem| pem.contents)
        .collect();
    if ders.is_empty() { Err("there is no certificate in PEM in it".to_owned()) } else { Ok(ders) }
}

/// As TLS clients compare: addresses by their bytes, names without case, `*` for one first label.
fn covers(leaf: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    names.value.general_names.iter().any(|name| match (name, address) {
        (GeneralName::IPAddress(bytes), Some(IpAddr::V4(ip))) => *bytes == ip.octets(),
        (GeneralName::IPAddress(bytes), Some(IpAddr::V6(ip))) => *bytes == ip.octets(),
        (GeneralName::DNSName(name), None) => match name.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
            None => name.eq_ignore_ascii_case(host),
        },
        _ => false,
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_certificate_is_for_the_names_that_stand_in_it() {
        let names = ["gw.example", "*.pool.example", "127.0.0.1", "::1"].map(str::to_owned);
        let der = CertificateParams::new(names).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, leaf) = X509Certificate::from_der(der.der()).unwrap();
        for (host, covered) in [
            ("gw.example:8545", true),
            ("GW.example", true),
            ("a.pool.example:1", true),
            ("127.0.0.1:8545", true),
            ("[::1]:8545", true),
            ("[::1]", true),
            ("pool.example", false),
            ("a.b.pool.example", false),
            ("other.example", false),
            ("127.0.0.2", false),
            ("localhost:8545", false),
        ] {
            assert_eq!(covers(&leaf, without_port(host)), covered, "{host}");
        }
    }
}
