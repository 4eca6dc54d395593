//! What a decision has to know beside its payload, looked up before it is made.

use std::time::Duration;

use alloy_primitives::Address;
use tokio::time::{Instant, sleep, timeout};

use crate::identity::AccountCaller;
use crate::methods::{App, Refusal};
use crate::policy::{Evidence, Judged, Policy, Simulated};
use crate::transaction::{Filled, Slot};

/// How long a call waits for the transaction that creates its target, where that has a lower nonce: tools send a script's
/// transactions all at once, in any order.
const CREATION: Duration = Duration::from_secs(2);

/// How long a node may take to try a transaction out.
const SIMULATION: Duration = Duration::from_secs(3);

/// Between two looks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many nonces below its own may create what it calls.
const BELOW: u64 = 128;

/// Finds out what the policy wants to know.
pub(super) async fn found_out<K: Judged>(
    app: &App,
    policy: &Policy,
    caller: &AccountCaller,
    asked: &K::Asked,
) -> Result<Evidence, Refusal> {
    let inquiry = policy.inquire::<K>(caller, asked);
    let created = created(app, caller.account(), inquiry.created, K::slot(asked)).await?;
    let mut evidence = Evidence { created, outcome: Simulated::Never };
    if let Some((filled, tokens)) = policy.inquire_outcome::<K>(caller, asked, &evidence) {
        evidence.outcome = match K::slot(asked) {
            Some(slot) if stands_first(app, caller.account(), slot).await? => {
                simulated(app, filled, (slot.mined, &tokens)).await
            }
            _ => Simulated::Failed(BEHIND_OTHERS.to_owned()),
        };
    }
    Ok(evidence)
}

/// Why nothing is tried out that will not meet the chain as it is now.
const BEHIND_OTHERS: &str =
    "payloads of this account are not mined yet, or not sent; ask again once they are";

/// Whether it is what the chain takes next of its account. Others before it, perhaps signed and held back by whoever asked for
/// them, would change what it does.
async fn stands_first(app: &App, account: Address, slot: Slot) -> Result<bool, Refusal> {
    let nonce = match slot.wanted {
        Some(wanted) => wanted,
        None => app.ledger.next_nonce(slot.chain, account, slot.mined).await?,
    };
    Ok(nonce == slot.mined)
}

/// What a node says that a transaction would do. Where none can say, that is no reason to ask again: it is denied.
async fn simulated(app: &App, filled: &Filled, at: (u64, &[Address])) -> Simulated {
    let seen = match timeout(SIMULATION, app.upstream.simulate(filled, at)).await {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not answer within {} s", SIMULATION.as_secs())),
    };
    let outcome = if seen.is_ok() { "seen" } else { "failed" };
    metrics::counter!("chancery_simulations_total", "outcome" => outcome).increment(1);
    match seen {
        Ok(seen) => Simulated::Seen(seen),
        Err(why) => {
            tracing::warn!(why, from = %filled.from(), "a transaction could not be tried out, and is denied where `outcome` asks");
            Simulated::Failed(why)
        }
    }
}

/// Which of these addresses the account created.
async fn created(
    app: &App,
    account: Address,
    addresses: Vec<Address>,
    slot: Option<Slot>,
) -> Result<Vec<Address>, Refusal> {
    let below = to_come(account, &addresses, slot);
    let started = Instant::now();
    let mut created = app.ledger.created((app.chain_id, account), addresses).await?;
    loop {
        let missing: Vec<_> = below.iter().copied().filter(|address| !created.contains(address)).collect();
        if missing.is_empty() || started.elapsed() >= CREATION {
            return Ok(created);
        }
        sleep(LOOK_AGAIN).await;
        created.extend(app.ledger.created((app.chain_id, account), missing).await?);
    }
}

/// Those of these addresses where the account itself would create a contract by a nonce below this one: nobody else can.
fn to_come(account: Address, addresses: &[Address], slot: Option<Slot>) -> Vec<Address> {
    let Some((mined, wanted)) = slot.and_then(|slot| Some((slot.mined, slot.wanted?))) else {
        return Vec::new();
    };
    if addresses.is_empty() {
        return Vec::new();
    }
    let nonces = mined.max(wanted.saturating_sub(BELOW))..wanted;
    nonces.map(|nonce| account.create(nonce)).filter(|created| addresses.contains(created)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{Fees, Stands};

    #[test]
    fn what_a_lower_nonce_creates_is_waited_for_and_nothing_else() {
        let account = Address::repeat_byte(1);
        let slot = |wanted| {
            let fees = Fees::GasPrice(1);
            let stands = Stands::Transaction;
            Some(Slot { chain: 1, wanted, mined: 5, fees, fees_are_fixed: true, stands })
        };
        let addresses = [4, 5, 6, 7].map(|nonce| account.create(nonce));
        assert_eq!(to_come(account, &addresses, slot(Some(7))), addresses[1..3]);
        assert!(to_come(account, &addresses, slot(None)).is_empty());
        assert!(to_come(account, &[], slot(Some(7))).is_empty());
        assert!(to_come(Address::ZERO, &addresses, slot(Some(7))).is_empty());
        let far = to_come(account, &addresses, slot(Some(u64::MAX)));
        assert!(far.is_empty(), "nobody counts through all of them");
    }
}
