//! `[ledger]`: where it is, and what it keeps to.

use std::time::Duration;

use alloy_primitives::U256;

use crate::config::read::{Read, Reader};
use crate::config::{Ledger, units, written};
use crate::secret::{self, SecretUrl};

/// 0.01 ether: 21,000 gas at up to 476 gwei.
const FILL_GAPS_MAX_FEE: u64 = 10_000_000_000_000_000;

impl Reader<'_> {
    pub(super) fn ledger(&self, written: &written::Ledger, keys_kept: Duration) -> Read<Ledger> {
        Ok(Ledger {
            path: self.path(&written.path),
            url: self.database(written)?,
            max_open: written.max_open.unwrap_or(64),
            fill_gaps: self.fill_gaps(written)?,
            min_free: self.size(written.min_free.as_ref(), 64 << 20)?,
            show_pause_reason: written.show_pause_reason,
            keys_kept,
        })
    }

    fn database(&self, written: &written::Ledger) -> Read<Option<SecretUrl>> {
        let (url, span) = match (&written.url, &written.url_file) {
            (None, None) => return Ok(None),
            (Some(url), None) => (SecretUrl::parse_database(url.get_ref()), url.span()),
            (None, Some(file)) => {
                let path = self.path(file);
                let url = secret::read_file(&path)
                    .map_err(|e| self.at(&file.span(), format_args!("{}: {e}", path.display())))?;
                (SecretUrl::parse_database(secrecy::ExposeSecret::expose_secret(&url)), file.span())
            }
            (Some(url), Some(_)) => {
                let both = "[ledger] takes `url` or `url_file` (a file that holds it), not both";
                return Err(self.at(&url.span(), both));
            }
        };
        let url = url.map_err(|e| self.at(&span, e))?;
        if !is_safe_to_reach(url.expose()) {
            let open = "whoever is between could read and change the ledger: add `?sslmode=verify-full` (and \
                        `&sslrootcert=FILE`, where the server's authority is your own)";
            return Err(self.at(&span, open));
        }
        Ok(Some(url))
    }

    fn fill_gaps(&self, written: &written::Ledger) -> Read<Option<U256>> {
        let cap = match &written.fill_gaps_max_fee {
            Some(cap) => units::wei(cap.get_ref()).map_err(|e| self.at(&cap.span(), e))?,
            None => U256::from(FILL_GAPS_MAX_FEE),
        };
        Ok(written.fill_gaps.unwrap_or(true).then_some(cap))
    }
}

/// Whether the server proves who it is, or is on this machine. sqlx would talk to any other in the clear, where that does
/// not offer TLS.
fn is_safe_to_reach(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let is_proved =
        options.split('&').any(|option| matches!(option, "sslmode=verify-full" | "sslmode=verify-ca"));
    let socket = options.split('&').find_map(|option| option.strip_prefix("host="));
    let authority = place.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = host.strip_prefix('[').map_or_else(
        || host.split(':').next().unwrap_or_default(),
        |bracketed| bracketed.split(']').next().unwrap_or_default(),
    );
    let at_home = |name: &str| matches!(name, "localhost" | "127.0.0.1" | "::1");
    is_proved || socket.map_or(at_home(name), |socket| socket.starts_with('/') || socket.starts_with("%2F"))
}

#[cfg(test)]
mod tests {
    use super::is_safe_to_reach;

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        for (url, is_safe) in [
            ("postgres://db.example/chancery", false),
            ("postgres://db.example/chancery?sslmode=require", false),
            ("postgres://localhost@db.example/chancery", false),
            ("postgres://u:localhost@db.example:5432/chancery?x=y", false),
            ("postgres://localhost/chancery?host=db.example", false),
            ("postgres://127.0.0.1.example/chancery", false),
            ("postgres://db.example/chancery?sslmode=verify-full", true),
            ("postgres://db.example/chancery?x=y&sslmode=verify-ca&sslrootcert=ca.pem", true),
            ("postgres://u:p@localhost:5432/chancery", true),
            ("postgres://u@127.0.0.1/chancery", true),
            ("postgres://[::1]:5432/chancery", true),
            ("postgres://db/chancery?host=/run/postgresql", true),
        ] {
            assert_eq!(is_safe_to_reach(url), is_safe, "{url}");
        }
    }
}
