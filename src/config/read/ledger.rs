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
        match (&written.url, &written.url_file) {
            (None, None) => Ok(None),
            (Some(url), None) => {
                SecretUrl::parse_database(url.get_ref()).map(Some).map_err(|e| self.at(&url.span(), e))
            }
            (None, Some(file)) => {
                let path = self.path(file);
                let url = secret::read_file(&path)
                    .map_err(|e| self.at(&file.span(), format_args!("{}: {e}", path.display())))?;
                SecretUrl::parse_database(secrecy::ExposeSecret::expose_secret(&url))
                    .map(Some)
                    .map_err(|e| self.at(&file.span(), e))
            }
            (Some(url), Some(_)) => {
                Err(self
                    .at(&url.span(), "[ledger] takes `url` or `url_file` (a file that holds it), not both"))
            }
        }
    }

    fn fill_gaps(&self, written: &written::Ledger) -> Read<Option<U256>> {
        let cap = match &written.fill_gaps_max_fee {
            Some(cap) => units::wei(cap.get_ref()).map_err(|e| self.at(&cap.span(), e))?,
            None => U256::from(FILL_GAPS_MAX_FEE),
        };
        Ok(written.fill_gaps.unwrap_or(true).then_some(cap))
    }
}
