//! Says who a certificate is, as the gateway would read it.

use std::path::Path;

use serde::Serialize;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::cmd::{Context, Done, Failure, HintExt as _, Success};
use crate::config::IdentityKind;
use crate::identity::Certificate;

#[derive(Serialize)]
struct Report {
    identity: Option<String>,
    /// Why the gateway would refuse it as a client's.
    refused: Option<String>,
    subject: String,
    issuer: String,
    not_before: String,
    not_after: String,
    days_left: i64,
    ca: bool,
    client_auth: bool,
    server_auth: bool,
}

pub(super) fn inspect(context: &Context, file: &Path, kind: IdentityKind) -> Done {
    let bytes = std::fs::read(file).hint(file.display(), "name a certificate in PEM")?;
    let pem = Pem::iter_from_buffer(&bytes)
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .ok_or_else(|| Failure::new(format_args!("{} holds no certificate in PEM", file.display())))?;
    let (_, certificate) =
        X509Certificate::from_der(&pem.contents).hint(file.display(), "it is no X.509 certificate")?;
    let now = i64::try_from(Clock::system().now().seconds())?;
    let usage = certificate.extended_key_usage().ok().flatten();
    let identity = Certificate::read(&pem.contents, kind);
    let days_left = certificate.validity().not_after.timestamp().saturating_sub(now).div_euclid(86_400);
    let expired = (days_left < 0).then(|| "it has expired".to_owned());
    let report = Report {
        refused: identity.as_ref().err().map(ToString::to_string).or(expired),
        identity: identity.ok().map(|certificate| certificate.identity),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.to_string(),
        not_after: certificate.validity().not_after.to_string(),
        days_left,
        ca: certificate.is_ca(),
        client_auth: usage.as_ref().is_some_and(|usage| usage.value.client_auth),
        server_auth: usage.as_ref().is_some_and(|usage| usage.value.server_auth),
    };
    // A server's or a CA's certificate is fine as what it is.
    let denied = report.refused.is_some() && !report.ca && !report.server_auth;
    context.print(&report, text(&report))?;
    Ok(if denied { Success::Denied } else { Success::Done })
}

fn text(report: &Report) -> String {
    let who = match (&report.identity, &report.refused) {
        (Some(identity), None) => format!("identity    {identity}"),
        (_, Some(why)) => format!("as a client it would be refused: {why}"),
        (None, None) => "no identity".to_owned(),
    };
    let uses = [(report.ca, "CA"), (report.client_auth, "clientAuth"), (report.server_auth, "serverAuth")];
    let uses: Vec<&str> = uses.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    format!(
        "{who}\nsubject     {}\nissuer      {}\nvalid       {} to {} ({} days left)\nused as     {}",
        report.subject,
        report.issuer,
        report.not_before,
        report.not_after,
        report.days_left,
        uses.join(", ")
    )
}
