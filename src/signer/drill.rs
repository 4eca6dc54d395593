//! A drill: every token of an account shows that it can sign for it, not only the one that is asked first.

use std::sync::atomic::Ordering;

use alloy_primitives::Address;
use futures_util::future::join_all;

use crate::signer::link::Link;
use crate::signer::share::Share;
use crate::signer::{PROBE, Signer, alarm, probe_digest};
use crate::transaction::recover;

/// How one token did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    pub token: String,
    /// It is the one that is named first.
    pub is_primary: bool,
    /// Why it gave no signature of the account's key.
    pub trouble: Option<String>,
}

impl Signer {
    /// Has each token of the account sign a value that can be no transaction and no message, and recovers the address
    /// from what it gives.
    pub async fn drill(&self, account: Address) -> Vec<Drilled> {
        let seats = self.0.groups.get(&account).map(|group| group.seats().to_vec()).unwrap_or_default();
        let drills = seats.into_iter().enumerate().filter_map(|(place, (link, key))| {
            let link = self.0.links.get(link)?;
            Some(async move {
                let trouble = self.drill_one(link, account, key).await.err();
                Drilled { token: link.name().to_owned(), is_primary: place == 0, trouble }
            })
        });
        join_all(drills).await
    }

    async fn drill_one(&self, link: &Link, account: Address, key: u16) -> Result<(), String> {
        let digest = probe_digest();
        self.0.probes.fetch_add(1, Ordering::Relaxed);
        let signed = link.sign(PROBE, key, digest, Share::of_drill(self.0.deadline)).await;
        let (raw, life) = signed.map_err(|error| error.to_string())?;
        let proved = recover(digest, &raw, account).map(drop);
        proved.map_err(|error| alarm(link, life, error).to_string())
    }
}
