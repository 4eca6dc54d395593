//! What Chancery has signed without a client: it seals the audit chain and fills gaps by itself, and bumps and cancels
//! for an operator.
//!
//! No rule is asked, so what may be signed here is little: nothing at all at a nonce, or what a rule allowed before,
//! for more. The `[caps]` hold, and what is bumped is charged to the budgets as what it takes the place of.

use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::config::{Client, OWN_NAME};
use crate::identity::{AccountCaller, Caller, RequestId};
use crate::policy::Policy;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Facts, Subject};
use crate::policy::judged::facts;
use crate::policy::permitted::{Permitted, Replace};
use crate::policy::wrapper::Whole;
use crate::transaction::{Blobs, Checkpoint, Filled, Kind, Request, SealedText, Tx};

/// In place of a rule's id; no rule can be called so.
const CHECKPOINT: &str = "own:checkpoint";
const FILL_GAP: &str = "chancery: fill gap";
const CANCEL: &str = "chancery: cancel";
const BUMP: &str = "chancery: bump";
const AUTO_BUMP: &str = "chancery: auto bump";

/// Whether what was signed for this is charged to no budget.
pub(in crate::policy) fn takes_nothing(rule: &str) -> bool {
    matches!(rule, CHECKPOINT | FILL_GAP | CANCEL)
}

/// Whether what was signed for this is charged as what it took the place of.
pub fn is_for_another(rule: &str) -> bool {
    matches!(rule, BUMP | AUTO_BUMP)
}

/// Whether it was signed without a rule.
pub fn is_own(rule: &str) -> bool {
    rule.contains(':')
}

/// What is to be done at a nonce.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    /// Use a nonce up that is free below others, which wait for it.
    FillGap,
    /// Use a nonce up in place of what is recorded there.
    Cancel,
    /// Have this very transaction, which has this hash, mined sooner.
    Bump { of: &'a Request, hash: B256 },
    /// The same, by the account's `auto_bump`.
    AutoBump { of: &'a Request, hash: B256 },
}

impl Policy {
    /// A checkpoint of the audit chain, by the key that the configuration names for nothing else.
    pub fn own_checkpoint(
        &self,
        checkpoint: SealedText,
        request: RequestId,
    ) -> Option<Permitted<Checkpoint>> {
        let caller = own_caller::<Checkpoint>(&checkpoint, request)?;
        Some(Permitted::new(checkpoint, caller, CHECKPOINT.into(), self.hash))
    }

    /// Permits what Chancery needs itself, or an operator orders.
    pub fn permit_own(
        &self,
        own: Own<'_>,
        caller: &AccountCaller,
        asked: Filled,
    ) -> Result<Permitted<Tx>, Denied> {
        let is_as_named = match own {
            Own::FillGap => does_nothing(&asked) && asked.blobs().is_none(),
            // What has blobs gives way to blobs only.
            Own::Cancel => does_nothing(&asked) && asked.blobs().is_none_or(Blobs::is_one_of_zeros),
            Own::Bump { of, .. } | Own::AutoBump { of, .. } => asked.request().does_the_same(of),
        };
        if asked.from() != caller.account() || asked.request().nonce().is_none() || !is_as_named {
            let sentence = format!("this is no {}: it does something else", own.name());
            return Err(Denied::new(DenialCause::NoRule, sentence));
        }
        let moment = self.clock.now().into();
        let facts = facts::<Tx>(caller, &asked, &self.book, &moment);
        if let Subject::Transaction(transaction) = &facts.subject {
            self.caps.check(transaction, &facts)?;
        }
        let role = self.book.roles.get(facts.client).map(String::as_str);
        let whole = Whole::open(Facts { role, ..facts }, &self.wrappers);
        let charges = match own {
            Own::FillGap | Own::Cancel => Vec::new(),
            Own::Bump { .. } | Own::AutoBump { .. } => {
                whole.is_open()?;
                self.charges(&whole, &vec![own.name().into(); whole.each().len()])?
            }
        };
        drop(whole);
        let replace = match own {
            Own::FillGap => Replace::Never,
            Own::Cancel => Replace::Any,
            Own::Bump { hash, .. } | Own::AutoBump { hash, .. } => Replace::Only(hash),
        };
        let permitted = Permitted::new(asked, caller.clone(), own.name().into(), self.hash);
        Ok(permitted.replacing(replace).charging(charges))
    }
}

impl Own<'_> {
    /// In place of a rule's id; no rule can be called so.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FillGap => FILL_GAP,
            Self::Cancel => CANCEL,
            Self::Bump { .. } => BUMP,
            Self::AutoBump { .. } => AUTO_BUMP,
        }
    }
}

/// The gateway as the caller of its own request, with the one account that this is about.
fn own_caller<K: Kind>(asked: &K::Asked, request: RequestId) -> Option<AccountCaller> {
    let account = K::from(asked);
    let client = Client {
        name: OWN_NAME.to_owned(),
        identity: String::new(),
        issuer: crate::config::OWN_ISSUER.to_owned(),
        role: None,
        person: None,
        accounts: vec![account],
        repeat_window: None,
        origins: Vec::new(),
    };
    Caller::new(Arc::new(client), request).for_account(account).ok()
}

/// A transfer of nothing to itself, whatever blobs it has.
fn does_nothing(asked: &Filled) -> bool {
    asked.to() == Some(asked.from())
        && asked.value() == U256::ZERO
        && asked.data().is_empty()
        && asked.access_list().is_empty()
        && asked.gas() == 21_000
        && asked.authorizations().is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::tests::{ALICE, CONTRACTS, PAY, TREASURY, caller, policy, transaction};

    const CAPS: &str = "[caps]\nmax_fee_per_gas = \"10 gwei\"\n";

    #[test]
    fn inv_04_without_a_rule_only_nothing_and_what_was_allowed_is_signed() {
        let policy = policy(&format!("{CONTRACTS}{PAY}{CAPS}")).unwrap();
        let nothing = json!({ "to": TREASURY, "gas": "0x5208", "nonce": "0x5" });
        let with = |key: &str, value: &str| {
            let mut changed = nothing.clone();
            changed[key] = json!(value);
            transaction(&changed)
        };
        let permit = |own, asked| policy.permit_own(own, &caller("ann"), asked);
        for (own, replace) in [(Own::FillGap, Replace::Never), (Own::Cancel, Replace::Any)] {
            let permitted = permit(own, transaction(&nothing)).unwrap();
            assert_eq!((permitted.rule(), permitted.replace()), (own.name(), replace));
            for (key, value) in [("to", ALICE), ("value", "0x1"), ("data", "0x00"), ("gas", "0x5209")] {
                assert!(permit(own, with(key, value)).is_err(), "{own:?} {key}");
            }
            let hash = format!("0x01{}", "a1".repeat(31));
            // Signed with ethers 6.
            let authorization = json!({
                "chainId": "0x1", "address": "0x3535353535353535353535353535353535353535", "nonce": "0x3", "yParity": "0x0",
                "r": "0x6f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7ac",
                "s": "0x7f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf4",
            });
            for more in [
                json!({ "maxFeePerBlobGas": "0x1", "blobVersionedHashes": [hash] }),
                json!({ "authorizationList": [authorization] }),
            ] {
                let mut changed = nothing.clone();
                changed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                assert!(permit(own, transaction(&changed)).is_err(), "{own:?} {more}");
            }
            let denied = permit(own, with("gasPrice", "0x2540be401")).unwrap_err();
            assert_eq!(denied.condition.as_deref(), Some("caps.max_fee_per_gas"));
        }
        // A blob of zeros uses up a nonce at which blobs are, and fills no gap.
        let about = |hashes: &[&str]| {
            let mut changed = nothing.clone();
            changed["maxFeePerBlobGas"] = json!("0x1");
            changed["blobVersionedHashes"] = json!(hashes);
            transaction(&changed)
        };
        let zeros = "0x010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014";
        assert!(
            permit(Own::Cancel, about(&[zeros])).is_ok() && permit(Own::FillGap, about(&[zeros])).is_err()
        );
        assert!(permit(Own::Cancel, about(&[zeros, zeros])).is_err(), "one does");
        let unnamed = transaction(&json!({ "to": TREASURY, "gas": "0x5208" }));
        assert!(permit(Own::FillGap, unnamed).is_err());

        let first = with("value", "0x7");
        let (of, hash) = (first.request(), B256::repeat_byte(7));
        assert!(permit(Own::Bump { of, hash }, with("value", "0x7")).is_ok());
        for (key, value) in [("to", ALICE), ("value", "0x8"), ("data", "0x00"), ("nonce", "0x6")] {
            assert!(permit(Own::Bump { of, hash }, with(key, value)).is_err(), "{key}");
        }
    }

    #[test]
    fn what_was_signed_without_a_rule_is_told_by_its_name() {
        for (rule, own, is_free) in [
            (CHECKPOINT, true, true),
            (Own::FillGap.name(), true, true),
            (Own::Cancel.name(), true, true),
            ("chancery: bump", true, false),
            ("chancery: auto bump", true, false),
            ("pay", false, false),
            ("own-checkpoint", false, false),
        ] {
            assert_eq!((is_own(rule), takes_nothing(rule)), (own, is_free), "{rule}");
        }
    }

    #[test]
    fn a_checkpoint_is_the_gateways_own() {
        let key: alloy_primitives::Address = ALICE.parse().unwrap();
        let statement = crate::transaction::Statement {
            checkpoint: 1,
            at: "2026-01-01T00:00:00.000Z".to_owned(),
            heads: Vec::new(),
            previous: B256::ZERO,
        };
        let sealed = SealedText::new(key, &statement).unwrap();
        let policy = policy("").unwrap();
        let permitted = policy.own_checkpoint(sealed.clone(), RequestId::from_number(9)).unwrap();
        assert_eq!(
            (permitted.client(), permitted.from(), permitted.rule()),
            (OWN_NAME, key, "own:checkpoint")
        );
        assert_eq!((permitted.asked(), permitted.policy()), (&sealed, policy.hash()));
        assert_eq!((permitted.replace(), permitted.charges().len()), (Replace::Never, 0));
        assert_eq!(permitted.request(), RequestId::from_number(9));
    }

    #[test]
    fn inv_03_what_is_bumped_is_charged_and_a_gap_is_not() {
        let count = "[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = 9\nwindow = \"24h\"\nper = [\"rule\"]\n";
        let policy = policy(&format!("{CONTRACTS}{PAY}{count}")).unwrap();
        let nothing = json!({ "to": TREASURY, "gas": "0x5208", "nonce": "0x5" });
        let first = transaction(&json!({ "to": ALICE, "nonce": "0x5" }));
        let (of, hash) = (first.request(), B256::repeat_byte(7));
        for (own, asked, scope, replace) in [
            (Own::FillGap, &nothing, None, Replace::Never),
            (Own::Cancel, &nothing, None, Replace::Any),
            (
                Own::Bump { of, hash },
                &json!({ "to": ALICE, "nonce": "0x5" }),
                Some("rule=chancery: bump"),
                Replace::Only(hash),
            ),
            (
                Own::AutoBump { of, hash },
                &json!({ "to": ALICE, "nonce": "0x5" }),
                Some("rule=chancery: auto bump"),
                Replace::Only(hash),
            ),
        ] {
            let permitted = policy.permit_own(own, &caller("ann"), transaction(asked)).unwrap();
            let scopes: Vec<_> = permitted.charges().iter().map(|charge| charge.scope.as_str()).collect();
            assert_eq!((scopes, permitted.replace()), (scope.into_iter().collect(), replace), "{own:?}");
        }
    }

    #[test]
    fn inv_04_what_is_signed_without_a_rule_is_the_accounts_own() {
        let policy = policy(&format!("{CONTRACTS}{PAY}")).unwrap();
        let others = json!({ "from": ALICE, "to": ALICE, "gas": "0x5208", "nonce": "0x5" });
        let listed = json!({ "to": TREASURY, "gas": "0x5208", "nonce": "0x5", "accessList": [{ "address": ALICE, "storageKeys": [] }] });
        for asked in [others, listed] {
            let denied = policy.permit_own(Own::Cancel, &caller("ann"), transaction(&asked)).unwrap_err();
            assert_eq!(denied.cause, DenialCause::NoRule);
            assert_eq!(denied.to_string(), "this is no chancery: cancel: it does something else");
        }
    }
}
