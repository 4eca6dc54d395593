//! Can it do its work right now: sign, write, and speak with the right chain? Each with its reason.

use futures_util::future::join_all;
use serde::Serialize;

use crate::audit::Late;
use crate::ledger::Ledger;
use crate::listener::Trust;
use crate::signer::{Signer, TokenState};
use crate::upstream::Upstream;

/// What health is read from.
#[derive(Clone, Debug)]
pub struct Health {
    ledger: Ledger,
    signer: Signer,
    /// By the names of their chains.
    chains: Vec<(String, Upstream)>,
    late: Late,
    trust: Trust,
}

/// One thing that must work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    /// Why it does not; `None` where it does.
    pub trouble: Option<String>,
}

impl Health {
    pub const fn new(
        ledger: Ledger,
        signer: Signer,
        chains: Vec<(String, Upstream)>,
        late: Late,
        trust: Trust,
    ) -> Self {
        Self { ledger, signer, chains, late, trust }
    }

    /// What must work, and what an operator should know that keeps nobody from working.
    pub async fn checks(&self) -> (Vec<Check>, Vec<String>) {
        let look = self.chains.iter().map(async |(name, upstream)| (name, upstream.health().await));
        let (ledger, nodes) = tokio::join!(self.ledger.ready(), join_all(look));
        let mut checks =
            vec![Check { name: "ledger".to_owned(), trouble: ledger.err().map(|e| e.to_string()) }];
        let late = self.late.why().map(|why| format!("a checkpoint of the audit chain is late: {why}"));
        let stale = self.trust.trouble();
        let stale = stale.map(|why| format!("certificates, CAs and lists are those of before: {why}"));
        let mut remarks: Vec<String> = late.into_iter().chain(stale).collect();
        for (chain, health) in nodes {
            let (name, of_chain) = if self.chains.len() == 1 {
                ("node".to_owned(), String::new())
            } else {
                (format!("node of {chain}"), format!("{chain}: "))
            };
            checks.push(Check { name, trouble: health.trouble() });
            remarks.extend(health.remarks().into_iter().map(|remark| format!("{of_chain}{remark}")));
        }
        checks.extend(self.ledger.doubts().into_iter().map(|doubt| Check {
            name: format!("account {}", doubt.account),
            trouble: Some(format!(
                "the node's mined count {} stands far above the {} that the ledger knows of; see `chancery tx accept`",
                doubt.mined, doubt.known
            )),
        }));
        checks.extend(self.signer.readiness().into_iter().map(|token| Check {
            name: format!("token {}", token.token),
            trouble: match token.state {
                // Its accounts' other tokens sign; its own metric tells.
                _ if token.is_covered => None,
                TokenState::Ready { .. } if token.fails => {
                    Some("it failed several times in a row, and has not signed since".to_owned())
                }
                TokenState::Ready { .. } => None,
                other => Some(other.to_string()),
            },
        }));
        (checks, remarks)
    }
}
