//! How long what was read is good for, as a metric: whoever watches it renews in time.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;
use crate::listener::crl::Crl;

/// Of each kind of file, the end that comes first.
#[derive(Clone, Debug, Default)]
pub(in crate::listener) struct Lifetimes(Vec<(&'static str, Timestamp)>);

/// Milliseconds in a day.
const DAY: f64 = 86_400_000.0;

impl Lifetimes {
    pub fn add<'a>(&mut self, of: &'static str, certificates: impl Iterator<Item = &'a CertificateDer<'a>>) {
        for der in certificates {
            let Ok((_, certificate)) = X509Certificate::from_der(der) else { continue };
            let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
            self.note(of, Timestamp::from_millis(seconds.saturating_mul(1000)));
        }
    }

    pub fn add_crls(&mut self, crls: &[Crl]) {
        for crl in crls {
            self.note("crl", crl.next_update);
        }
    }

    /// As the gauges `chancery_days_left`; below zero it has ended.
    pub fn show(&self, now: Timestamp) {
        for (of, end) in &self.0 {
            let (left, passed) = (end.since(now).as_secs_f64(), now.since(*end).as_secs_f64());
            metrics::gauge!("chancery_days_left", "of" => *of).set((left - passed) * 1000.0 / DAY);
        }
    }

    fn note(&mut self, of: &'static str, end: Timestamp) {
        match self.0.iter_mut().find(|(kind, _)| *kind == of) {
            Some((_, first)) => *first = (*first).min(end),
            None => self.0.push((of, end)),
        }
    }
}
