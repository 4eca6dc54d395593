//! Says who a certificate is, as the gateway would read it.

use std::path::Path;

use serde::Serialize;

use crate::clock::Clock;
use crate::cmd::certs::held::Held;
use crate::cmd::{Context, Done, Success};
use crate::config::IdentityKind;
use crate::identity::Certificate;

#[derive(Serialize)]
struct Report {
    identity: Option<String>,
    /// Why the gateway would refuse it as a client's.
    refused: Option<String>,
    /// In hexadecimal, as revocation lists name it.
    serial: String,
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
    let held = Held::read(file)?;
    let certificate = held.parsed()?;
    let now = i64::try_from(Clock::system().now().seconds())?;
    let usage = certificate.extended_key_usage().ok().flatten();
    let identity = Certificate::read(held.der(), kind);
    let days_left = held.days_left(now)?;
    let expired = (days_left < 0).then(|| "it has expired".to_owned());
    let report = Report {
        refused: identity.as_ref().err().map(ToString::to_string).or(expired),
        identity: identity.ok().map(|certificate| certificate.identity),
        serial: certificate.raw_serial_as_string(),
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
        "{who}\nserial      {}\nsubject     {}\nissuer      {}\nvalid       {} to {} ({} days left)\nused as     {}",
        report.serial,
        report.subject,
        report.issuer,
        report.not_before,
        report.not_after,
        report.days_left,
        uses.join(", ")
    )
}
