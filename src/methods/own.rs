//! What is signed without a client: gaps are filled, and what is stuck is bumped or cancelled. The same road as
//! everything else; only the permission is another.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};

use crate::config::{Client, OWN_NAME};
use crate::identity::{AccountCaller, Caller, RequestId};
use crate::ledger::{Administration, OpenTransaction, Outcome, Purpose};
use crate::methods::road::{self, Stop};
use crate::methods::send_transaction::broadcast;
use crate::methods::{App, Cause, Refusal};
use crate::policy::Own;
use crate::transaction::{Fees, FillError, Quote, Request};

/// What was signed and handed to the network.
#[derive(Clone, Debug)]
pub struct Sent {
    pub hash: B256,
    pub fees: Fees,
    pub outcome: Outcome,
}

/// What bounds the fee of something of our own, beside the policy's `[caps]`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    None,
    /// In wei, all of it.
    Execution(U256),
    /// In wei for a unit of gas, and for one of blob gas.
    PerGas(u128),
}

impl App {
    /// Has the recorded transaction at this nonce mined sooner, for at least 10 % more (with blobs: 100 %): an operator's
    /// order.
    pub async fn bump(
        self: &Arc<Self>,
        account: Address,
        nonce: u64,
        by: Administration,
    ) -> Result<Sent, Refusal> {
        let open = self.open_at(account, nonce).await?;
        let live = live(&open, nonce)?.clone();
        let detail = serde_json::json!({ "account": account, "nonce": nonce, "hash": live.hash });
        self.ledger.administered(by.clone(), "bump", detail).await?;
        self.bump_by(&live, &open, 10, (Some(by), Bound::None)).await
    }

    /// Uses the nonce up by a transfer of nothing in place of what is recorded there, or was refused, with a blob of zeros
    /// where what is recorded has blobs: an operator's order.
    pub async fn cancel(
        self: &Arc<Self>,
        account: Address,
        nonce: u64,
        by: Administration,
    ) -> Result<Sent, Refusal> {
        let open = self.open_at(account, nonce).await?;
        let live = open.iter().find(|one| one.is_live());
        // What was refused holds its nonce as long as nothing is mined there.
        let Some(named) = live.or(open.last()) else { return Err(nothing_waits(nonce)) };
        let detail = serde_json::json!({ "account": account, "nonce": nonce, "hash": named.hash });
        self.ledger.administered(by.clone(), "cancel", detail).await?;
        let caller = caller(OWN_NAME, account, Some(by))?;
        let (nothing, market) = self.nothing(account, nonce).await?;
        let fees = floor(&open, is_ours).map_or(market, |floor| market.highest(&floor));
        // What may be in a pool is in that of blobs, or in the other.
        let pooled = live.or(open.iter().rev().find(|one| one.least_over().is_some()));
        let request = match pooled {
            Some(pooled) if pooled.fees.max_per_blob_gas().is_some() => {
                Request::nothing_with_a_blob(account, nonce, Request::again(&pooled.raw, account).as_ref())
            }
            _ => nothing,
        };
        self.own_road(Ordered::Cancel, caller, request.paying(&fees), Bound::None).await
    }

    /// Uses a free nonce up. `over`: the fees to pay at least, where a node found the last ones too low.
    pub(super) async fn fill_gap(
        self: &Arc<Self>,
        (account, nonce): (Address, u64),
        cap: U256,
        raise: bool,
    ) -> Result<Sent, Refusal> {
        let caller = caller(OWN_NAME, account, None)?;
        let (mut request, market) = self.nothing(account, nonce).await?;
        // Without fees of its own it is the same intent as before, whose bytes are sent again; with them it is not.
        if raise {
            let open = self.open_at(account, nonce).await?;
            request = request.paying(&floor(&open, is_ours).map_or(market, |floor| market.at_least(&floor)));
        }
        self.own_road(Ordered::FillGap, caller, request, Bound::Execution(cap)).await
    }

    /// The same payload for at least `step` per cent more, and no less than what outbids all that is `open` at its nonce and
    /// what the node suggests now.
    pub(super) async fn bump_by(
        self: &Arc<Self>,
        live: &OpenTransaction,
        open: &[OpenTransaction],
        step: u32,
        (by, bound): (Option<Administration>, Bound),
    ) -> Result<Sent, Refusal> {
        if live.is_returned {
            return Err(refused(
                "it was returned to its client, and is the client's to send; it can be cancelled",
            ));
        }
        let is_ordered = by.is_some();
        // It stays the client's transaction, and goes on its account.
        let caller = caller(&live.client, live.account, by)?;
        let again = Request::again(&live.raw, live.account);
        let Some(request) = again.filter(|request| request.nonce() == Some(live.nonce)) else {
            return Err(refused(
                "what is recorded there hands authorizations in, is there without its blobs, or is not what this account \
                 signed at this nonce: its client has to replace it",
            ));
        };
        let quote = self.quoted(&request).await?;
        let market = request.clone().fill(&quote, None)?.fees();
        let mut fees = market.at_least(&stepped(&live.fees, step));
        if let Some(floor) = floor(open, |_| false) {
            fees = fees.at_least(&floor);
        }
        // What was refused for just this is not signed anew for it. What its client was refused for more is no bound.
        let was_tried = |fees: Fees| open.iter().any(|one| one.client == live.client && one.fees == fees);
        for _ in open {
            if was_tried(as_kept(&fees)) {
                fees = fees.raised();
            }
        }
        let (of, hash) = (request.clone(), live.hash);
        let order = if is_ordered { Ordered::Bump { of, hash } } else { Ordered::AutoBump { of, hash } };
        self.own_road(order, caller, request.paying(&fees), bound).await
    }

    async fn open_at(&self, account: Address, nonce: u64) -> Result<Vec<OpenTransaction>, Refusal> {
        let open = self.ledger.open_transactions().await?;
        let place = (self.chain_id, account, nonce);
        Ok(open.into_iter().filter(|one| (one.chain, one.account, one.nonce) == place).collect())
    }

    /// A transfer of nothing, as this chain writes it, and what it would pay now.
    async fn nothing(&self, account: Address, nonce: u64) -> Result<(Request, Fees), Refusal> {
        let dynamic = Request::nothing(account, nonce, true);
        let quote = self.quoted(&dynamic).await?;
        match dynamic.clone().fill(&quote, None) {
            Ok(filled) => Ok((dynamic, filled.fees())),
            Err(FillError::NoBaseFee) => {
                let legacy = Request::nothing(account, nonce, false);
                let fees = legacy.clone().fill(&quote, None)?.fees();
                Ok((legacy, fees))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn quoted(&self, request: &Request) -> Result<Quote, Refusal> {
        road::in_time(road::answer_by(), self.upstream.quote(request), Cause::NodeUnavailable).await
    }

    /// Permits, reserves, signs, records and sends; in a task of its own, which `serve` waits for when it ends.
    async fn own_road(
        self: &Arc<Self>,
        order: Ordered,
        caller: AccountCaller,
        request: Request,
        bound: Bound,
    ) -> Result<Sent, Refusal> {
        let app = Arc::clone(self);
        let run = async move {
            let answer_by = road::answer_by();
            let quote = app.quoted(&request).await?;
            let mut floor: Option<Fees> = None;
            for _ in 0..3 {
                let filled = request.clone().fill(&quote, floor.as_ref())?;
                let fees = filled.fees();
                bound.check(&fees, filled.max_execution_fee())?;
                let permitted = app.policy.now().permit_own(order.own(), &caller, filled);
                let permitted = permitted.map_err(|no| Refusal::denied(no, Cause::TransactionDenied))?;
                match road::record(&app, permitted, Purpose::Send, answer_by).await {
                    Ok(recorded) => {
                        let hash = recorded.hash();
                        let outcome = broadcast(Arc::clone(&app), recorded).await;
                        return Ok(Sent { hash, fees, outcome });
                    }
                    Err(Stop::Outbid(least)) => floor = Some(least),
                    Err(Stop::PolicyChanged) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(Stop::Moved) => {
                        return Err(refused(
                            "what waits at this nonce is not what was to be bumped any more; see `chancery tx list`",
                        ));
                    }
                    Err(Stop::Confirmed) => {}
                    Err(Stop::Refused(refusal)) => return Err(refusal),
                }
            }
            Err(Refusal::unsettled())
        };
        self.tasks.spawn(run).await.map_err(|error| {
            tracing::error!(%error, "a task of our own ended without an answer");
            Refusal::internal()
        })?
    }
}

/// An [`Own`] that holds what it speaks of.
#[derive(Clone, Debug)]
enum Ordered {
    FillGap,
    Cancel,
    Bump { of: Request, hash: B256 },
    AutoBump { of: Request, hash: B256 },
}

impl Ordered {
    const fn own(&self) -> Own<'_> {
        match self {
            Self::FillGap => Own::FillGap,
            Self::Cancel => Own::Cancel,
            Self::Bump { of, hash } => Own::Bump { of, hash: *hash },
            Self::AutoBump { of, hash } => Own::AutoBump { of, hash: *hash },
        }
    }
}

impl Bound {
    fn check(self, fees: &Fees, execution: U256) -> Result<(), Refusal> {
        let holds = match self {
            Self::None => true,
            Self::Execution(cap) => execution <= cap,
            Self::PerGas(cap) => fees.max_per_gas().max(fees.max_per_blob_gas().unwrap_or_default()) <= cap,
        };
        if holds {
            Ok(())
        } else {
            Err(refused("it would cost more than its cap in the configuration allows"))
        }
    }
}

/// What outbids every payload that was recorded there and may be in a pool, and those that were `tried` in vain: the same for
/// the same fees is the same intent, which no ledger signs anew.
fn floor(open: &[OpenTransaction], tried: impl Fn(&OpenTransaction) -> bool) -> Option<Fees> {
    let raised = |one: &OpenTransaction| tried(one).then(|| one.fees.raised());
    let least = open.iter().filter_map(|one| one.least_over().or_else(|| raised(one)));
    least.reduce(|floor, fees| fees.highest(&floor))
}

/// As the ledger has them, whatever kind of transaction they are of.
fn as_kept(fees: &Fees) -> Fees {
    Fees::of(fees.max_per_gas(), fees.max_priority(), fees.max_per_blob_gas())
}

fn is_ours(one: &OpenTransaction) -> bool {
    one.client == OWN_NAME
}

fn live(open: &[OpenTransaction], nonce: u64) -> Result<&OpenTransaction, Refusal> {
    open.iter().find(|one| one.is_live()).ok_or_else(|| nothing_waits(nonce))
}

fn nothing_waits(nonce: u64) -> Refusal {
    refused(format!(
        "nothing of this account is waiting to be mined at nonce {nonce}; see `chancery tx list`"
    ))
}

/// `step` per cent more of each figure, and never less than a pool asks for.
fn stepped(fees: &Fees, step: u32) -> Fees {
    let more = |fee: u128| fee.saturating_add(fee.saturating_mul(u128::from(step)).div_ceil(100));
    fees.each(more).highest(&fees.raised())
}

fn refused(why: impl Into<String>) -> Refusal {
    Refusal::new(Cause::TransactionDenied, why)
}

/// A caller for one account, in nobody's name but ours, or in a client's on an operator's order.
fn caller(name: &str, account: Address, by: Option<Administration>) -> Result<AccountCaller, Refusal> {
    let client = Client {
        name: name.to_owned(),
        identity: String::new(),
        issuer: crate::config::OWN_ISSUER.to_owned(),
        role: None,
        person: by.as_ref().map(|by| by.person.clone()),
        accounts: vec![account],
        origins: Vec::new(),
        repeat_window: None,
    };
    let request = match by {
        Some(by) => RequestId::parse(&by.request),
        None => RequestId::random().map_err(|_| Refusal::internal())?,
    };
    Ok(Caller::new(Arc::new(client), request).for_account(account)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_never_less_than_a_pool_asks_for() {
        let fees = Fees::Dynamic { max_fee_per_gas: 1000, max_priority_fee_per_gas: 1 };
        for (step, max) in [(10, 1100), (15, 1150), (100, 2000)] {
            let more = stepped(&fees, step);
            assert_eq!(more.max_per_gas(), max);
            assert!(more.outbids(&fees), "{more:?}");
        }
        let blobs = Fees::of(1000, 10, Some(7));
        for (step, expected) in [(10, Fees::of(2000, 20, Some(14))), (200, Fees::of(3000, 30, Some(21)))] {
            assert_eq!(stepped(&blobs, step), expected);
        }
    }

    #[test]
    fn inv_12_nothing_of_our_own_costs_more_than_its_cap() {
        let fees = Fees::GasPrice(100);
        let check = |bound: Bound, execution: u64| bound.check(&fees, U256::from(execution)).is_ok();
        assert!(check(Bound::Execution(U256::from(7)), 7) && !check(Bound::Execution(U256::from(7)), 8));
        assert!(check(Bound::PerGas(100), 8) && !check(Bound::PerGas(99), 8));
        let blobs = |fee| Bound::PerGas(100).check(&Fees::of(1, 1, Some(fee)), U256::ZERO).is_ok();
        assert!(blobs(100) && !blobs(101), "blobs are doubled with each bump");
    }
}
