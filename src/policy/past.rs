//! What was signed before, looked at again: for budgets that are counted anew, and for a policy that is to come.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes};

use crate::clock::Timestamp;
use crate::policy::budget::{Charge, Limit};
use crate::policy::call::TransactionFacts;
use crate::policy::decide::Policy;
use crate::policy::denied::Denied;
use crate::policy::facts::{Facts, MessageFacts, Subject};
use crate::policy::own;
use crate::policy::typed::TypedFacts;
use crate::policy::wrapper::Whole;
use crate::policy::{Evidence, Simulated};
use crate::transaction::{
    Authorization, Checkpoint, Delegation, Filled, Kind as _, Message, Presigned, Structured, Text, Tx,
    TypedData,
};

/// A payload as the ledger keeps it.
#[derive(Debug)]
pub struct Past<'a> {
    pub client: &'a str,
    pub account: Address,
    /// The rule that allowed it.
    pub rule: &'a str,
    pub kind: &'a str,
    /// When it was recorded.
    pub at: Timestamp,
    /// A transaction's signed bytes, or a signature with its typed data; of a message only the signature is kept.
    pub raw: &'a Bytes,
}

/// What a policy says to a payload of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// By which rule.
    Allowed(Arc<str>),
    Denied(String),
    /// No rule was asked for it, or what was signed is not kept.
    LeftOut,
}

impl Policy {
    /// The budgets, by id.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.budgets.iter().map(|budget| &budget.limit)
    }

    /// What a payload takes from each budget of this policy.
    pub fn charges_of(&self, past: &Past<'_>) -> Result<Vec<Charge>, String> {
        if own::takes_nothing(past.rule) {
            return Ok(Vec::new());
        }
        let rule: Arc<str> = past.rule.into();
        // The ledger knows the rule of the whole; of a call inside, the one that would have allowed it then is the best guess.
        let rule_of = |call: &Facts<'_>| match &call.subject {
            Subject::Transaction(transaction) if transaction.is_inner() => {
                self.verdict_of_one(call).unwrap_or_else(|_| Arc::clone(&rule))
            }
            _ => Arc::clone(&rule),
        };
        let evidence = Evidence { outcome: Simulated::Then, ..Evidence::default() };
        self.open_past(past, &evidence, |whole| {
            whole.is_open().map_err(|denied| denied.to_string())?;
            let rules: Vec<_> = whole.each().map(rule_of).collect();
            self.charges(whole, &rules).map_err(|denied| denied.to_string())
        })?
    }

    /// What this policy would have said to it, at its time and by what was so then.
    pub fn judge_again(&self, past: &Past<'_>, evidence: &Evidence) -> Again {
        if past.kind == Message::NAME || past.kind == Checkpoint::NAME || own::is_own(past.rule) {
            return Again::LeftOut;
        }
        let judged = self.open_past(past, evidence, |whole| {
            let (rule, rules) = self.verdict(whole)?;
            self.charges(whole, &rules)?;
            Ok::<_, Denied>(rule)
        });
        match judged {
            Ok(Ok(rule)) => Again::Allowed(rule),
            Ok(Err(denied)) => Again::Denied(denied.sentence),
            Err(why) => Again::Denied(why),
        }
    }

    /// Reads a payload as what it was judged as.
    fn open_past<T>(
        &self,
        past: &Past<'_>,
        evidence: &Evidence,
        look: impl FnOnce(&Whole<'_>) -> T,
    ) -> Result<T, String> {
        let presigned = past.kind == Presigned::NAME;
        let filled = (presigned || past.kind == Tx::NAME)
            .then(|| Filled::signed(past.account, past.raw).ok_or("it is no transaction"))
            .transpose()?
            // What was signed here then was looked up then.
            .map(Filled::recognised);
        // What budgets match on says nothing of a message's text.
        let text = Text::new(past.account, Bytes::new());
        let typed = (past.kind == TypedData::NAME)
            .then(|| Structured::signed(past.account, past.raw).ok_or("it is no typed data"))
            .transpose()?;
        let delegation = (past.kind == Authorization::NAME)
            .then(|| Delegation::signed(past.account, past.raw).ok_or("it is no authorization"))
            .transpose()?;
        let subject = match (&filled, &typed) {
            _ if let Some(delegation) = &delegation => Subject::Authorization(delegation),
            (Some(filled), _) if presigned => {
                Subject::Transaction(TransactionFacts::new(filled, &self.book).came_signed())
            }
            (Some(filled), _) => Subject::Transaction(TransactionFacts::new(filled, &self.book)),
            (None, Some(typed)) => Subject::TypedData(TypedFacts { asked: typed }),
            (None, None) => Subject::Message(MessageFacts::new(&text)),
        };
        let facts = Facts {
            client: past.client,
            role: self.book.roles.get(past.client).map(String::as_str),
            account: past.account,
            own: &[],
            now: past.at,
            evidence,
            book: &self.book,
            subject,
        };
        Ok(look(&Whole::open(facts, &self.wrappers)))
    }
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::hex;
    use k256::ecdsa::SigningKey;
    use serde_json::json;

    use super::*;
    use crate::policy::Own;
    use crate::policy::tests::{ALICE, CONTRACTS, USDC, address, call, policy, transaction, transfer};
    use crate::transaction::{address_of_point, recover};

    /// The signed bytes of a transaction of a key that is nobody's here.
    fn signed(fields: serde_json::Value) -> (Address, Bytes) {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let signer = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        let mut fields = fields;
        fields["from"] = json!(signer);
        let unsigned = Tx::assign(transaction(&fields), Some(0));
        let (raw, _) = key.sign_prehash_recoverable(Tx::digest(&unsigned).as_slice()).unwrap();
        let signature = recover(Tx::digest(&unsigned), &raw.to_bytes().into(), signer).unwrap();
        (signer, Tx::seal(&unsigned, signature).raw)
    }

    const COUNT: &str =
        "[[budget]]\nid = \"b\"\nsum = \"count\"\nmax = 9\nwindow = \"24h\"\nper = [\"rule\"]\n";

    fn scopes(policy: &Policy, past: &Past<'_>) -> Vec<String> {
        policy.charges_of(past).unwrap().into_iter().map(|charge| charge.scope).collect()
    }

    #[test]
    fn inv_03_what_was_signed_is_counted_as_it_was_judged_then() {
        let rule = |id: &str, hours: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 to = [\"usdc\"]\nvia = [\"multicall\"]\ncall = \"transfer\"\nargs = {{ to = \"any\" }}\nhours = \"{hours} 00:00-24:00 UTC\"\n"
            )
        };
        let multicall = "0xcA11bde05977b3631167028862bE2a173976CA11";
        let policy = policy(&format!(
            "{CONTRACTS}multicall = {{ chain = 1, address = \"{multicall}\", abi = \"multicall3\" }}\n{}{}{COUNT}",
            rule("a-week", "Mon-Fri"),
            rule("b-weekend", "Sat,Sun")
        ))
        .unwrap();
        let inner = vec![
            address(USDC),
            DynSolValue::Bool(false),
            DynSolValue::Bytes(hex::decode(transfer(ALICE, 1)).unwrap()),
        ];
        let data = call(
            "aggregate3((address,bool,bytes)[])",
            &[DynSolValue::Array(vec![DynSolValue::Tuple(inner)])],
        );
        let (account, raw) = signed(json!({ "to": multicall, "data": data }));
        let past = |at: u64| Past {
            client: "ann",
            account,
            rule: "many",
            kind: Tx::NAME,
            at: Timestamp::from_millis(at * 1000),
            raw: &raw,
        };
        assert!(
            matches!(policy.judge_again(&past(0), &Evidence::default()), Again::Denied(why) if why.contains("no rule allows it"))
        );
        // Saturday, 2026-01-31, and the Monday after it.
        assert_eq!(scopes(&policy, &past(1_769_860_800)), ["rule=many", "rule=b-weekend"]);
        assert_eq!(scopes(&policy, &past(1_770_033_600)), ["rule=many", "rule=a-week"]);
    }

    /// What a node said then is not kept: that it was allowed by it is.
    #[test]
    fn inv_03_what_was_tried_out_is_counted_under_its_rule() {
        let rule = "[[rule]]\nid = \"refund\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                    to = [\"bob\"]\ncall = \"refundETH\"\noutcome = {}\n";
        let contracts = CONTRACTS.replace("bob   = {", "bob = { abi = \"uniswap-v3-router-02\",");
        let policy = policy(&format!("{contracts}{rule}{COUNT}")).unwrap_or_else(|e| panic!("{e}"));
        let inner = DynSolValue::Bytes(hex::decode(call("refundETH()", &[])).unwrap());
        let data = call("multicall(bytes[])", &[DynSolValue::Array(vec![inner])]);
        let (account, raw) = signed(json!({ "to": crate::policy::tests::BOB, "data": data }));
        let at = Timestamp::from_millis(0);
        let past = Past { client: "ann", account, rule: "many", kind: Tx::NAME, at, raw: &raw };
        assert_eq!(scopes(&policy, &past), ["rule=many", "rule=refund"]);
    }

    #[test]
    fn what_chancery_signs_for_itself_is_counted_no_more_than_when_it_was_signed() {
        let policy = policy(&format!("{CONTRACTS}{COUNT}")).unwrap();
        let (account, raw) = signed(json!({ "to": ALICE }));
        let at = Timestamp::from_millis(0);
        for (rule, counts) in [
            (Own::FillGap.name(), 0),
            (Own::Cancel.name(), 0),
            ("own:checkpoint", 0),
            ("chancery: bump", 1),
            ("pay", 1),
        ] {
            for kind in [Tx::NAME, Message::NAME] {
                let past = Past { client: "ann", account, rule, kind, at, raw: &raw };
                assert_eq!(scopes(&policy, &past).len(), counts, "{rule} {kind}");
            }
        }
    }

    #[test]
    fn what_no_rule_was_asked_about_is_left_out() {
        let policy = policy(&format!("{CONTRACTS}{COUNT}")).unwrap();
        let (account, raw) = signed(json!({ "to": ALICE }));
        let again = |rule: &str, kind: &str| {
            let past = Past { client: "ann", account, rule, kind, at: Timestamp::from_millis(0), raw: &raw };
            policy.judge_again(&past, &Evidence::default())
        };
        for (rule, kind) in [
            ("pay", Message::NAME),
            ("pay", Checkpoint::NAME),
            ("own:checkpoint", Tx::NAME),
            ("chancery: bump", Tx::NAME),
            ("chancery: fill gap", Presigned::NAME),
        ] {
            assert_eq!(again(rule, kind), Again::LeftOut, "{rule} {kind}");
        }
        for kind in [Tx::NAME, Presigned::NAME] {
            assert!(
                matches!(again("pay", kind), Again::Denied(why) if why.contains("no rule allows it")),
                "{kind}"
            );
        }
        for (kind, why) in
            [(TypedData::NAME, "it is no typed data"), (Authorization::NAME, "it is no authorization")]
        {
            assert_eq!(again("pay", kind), Again::Denied(why.to_owned()));
        }
        let cut = raw.slice(..raw.len() - 1);
        let past = Past {
            client: "ann",
            account,
            rule: "pay",
            kind: Tx::NAME,
            at: Timestamp::from_millis(0),
            raw: &cut,
        };
        assert_eq!(
            policy.judge_again(&past, &Evidence::default()),
            Again::Denied("it is no transaction".to_owned())
        );
        assert_eq!(policy.charges_of(&past), Err("it is no transaction".to_owned()));
    }

    /// What came signed is judged by the rules for that, as it was.
    #[test]
    fn what_came_signed_is_judged_again_as_what_it_is() {
        let rule = |id: &str, kind: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nkind = \"{kind}\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                 to = [\"alice\"]\ncall = \"empty\"\nvalue = \"any\"\n"
            )
        };
        let policy =
            policy(&format!("{CONTRACTS}{}{}", rule("own", "transaction"), rule("passed", "presigned")))
                .unwrap();
        let (account, raw) = signed(json!({ "to": ALICE, "value": "0x1" }));
        for (kind, rule) in [(Tx::NAME, "own"), (Presigned::NAME, "passed")] {
            let past = Past {
                client: "ann",
                account,
                rule: "before",
                kind,
                at: Timestamp::from_millis(0),
                raw: &raw,
            };
            assert_eq!(policy.judge_again(&past, &Evidence::default()), Again::Allowed(rule.into()));
        }
    }

    /// Of what was signed, the ledger knows the rule: what would allow it now is not asked.
    #[test]
    fn inv_03_a_payload_is_counted_under_the_rule_that_allowed_it() {
        let pay = "[[rule]]\nid = \"now\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                   to = [\"alice\"]\ncall = \"empty\"\nvalue = \"any\"\n";
        let policy = policy(&format!("{CONTRACTS}{pay}{COUNT}")).unwrap();
        let (account, raw) = signed(json!({ "to": ALICE, "value": "0x1" }));
        let past = Past {
            client: "ann",
            account,
            rule: "then",
            kind: Tx::NAME,
            at: Timestamp::from_millis(0),
            raw: &raw,
        };
        assert_eq!(scopes(&policy, &past), ["rule=then"]);
        assert_eq!(policy.judge_again(&past, &Evidence::default()), Again::Allowed("now".into()));
    }
}
