//! The kinds of payload that a policy can judge.

use crate::identity::AccountCaller;
use crate::policy::Moment;
use crate::policy::call::TransactionFacts;
use crate::policy::facts::{Book, Facts, MessageFacts, Subject};
use crate::policy::typed::TypedFacts;
use crate::transaction::{Authorization, Filled, Kind, Message, Presigned, Tx, TypedData};

/// A kind that rules can be written for. Sealed: no other module can add one, so nothing is judged by accident.
pub trait Judged: Kind + sealed::Readable {}

impl<K: sealed::Readable> Judged for K {}

mod sealed {
    use crate::transaction::{Delegation, Filled, Kind, Structured, Text};

    #[derive(Debug)]
    pub enum View<'a> {
        Transaction(&'a Filled),
        Message(&'a Text),
        TypedData(&'a Structured),
        Presigned(&'a Filled),
        Authorization(&'a Delegation),
    }

    pub trait Readable: Kind {
        /// Whether it brings its signature, and asks for none.
        const IS_SIGNED: bool = false;

        fn view(asked: &Self::Asked) -> View<'_>;
    }
}

impl sealed::Readable for Tx {
    fn view(asked: &Self::Asked) -> sealed::View<'_> {
        sealed::View::Transaction(asked)
    }
}

impl sealed::Readable for Message {
    fn view(asked: &Self::Asked) -> sealed::View<'_> {
        sealed::View::Message(asked)
    }
}

impl sealed::Readable for TypedData {
    fn view(asked: &Self::Asked) -> sealed::View<'_> {
        sealed::View::TypedData(asked)
    }
}

impl sealed::Readable for Authorization {
    fn view(asked: &Self::Asked) -> sealed::View<'_> {
        sealed::View::Authorization(asked)
    }
}

impl sealed::Readable for Presigned {
    const IS_SIGNED: bool = true;

    fn view(asked: &Self::Asked) -> sealed::View<'_> {
        sealed::View::Presigned(asked.filled())
    }
}

/// Whether a payload of this kind is for such a caller: who has a signature may not have another made by it.
pub(in crate::policy) fn is_for<K: Judged>(caller: &AccountCaller) -> bool {
    K::IS_SIGNED == caller.presents()
}

/// The transaction that is to be signed, where it is one.
pub(in crate::policy) fn filled<K: Judged>(asked: &K::Asked) -> Option<&Filled> {
    match K::view(asked) {
        sealed::View::Transaction(filled) => Some(filled),
        _ => None,
    }
}

/// Reads a payload for its conditions.
pub(in crate::policy) fn facts<'a, K: Judged>(
    caller: &'a AccountCaller,
    asked: &'a K::Asked,
    book: &'a Book,
    moment: &'a Moment,
) -> Facts<'a> {
    let subject = match K::view(asked) {
        sealed::View::Transaction(asked) => Subject::Transaction(TransactionFacts::new(asked, book)),
        sealed::View::Message(asked) => Subject::Message(MessageFacts::new(asked)),
        sealed::View::Presigned(asked) => {
            Subject::Transaction(TransactionFacts::new(asked, book).came_signed())
        }
        sealed::View::TypedData(asked) => Subject::TypedData(TypedFacts { asked }),
        sealed::View::Authorization(asked) => Subject::Authorization(asked),
    };
    let client = caller.client();
    Facts {
        client: &client.name,
        role: client.role.as_deref(),
        account: caller.account(),
        own: &client.accounts,
        now: moment.now,
        evidence: &moment.evidence,
        book,
        subject,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy_primitives::Address;
    use k256::ecdsa::SigningKey;
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::identity::{Caller, RequestId};
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, TREASURY, transaction, world};
    use crate::policy::{DenialCause, Denied, Past, Policy};
    use crate::transaction::{SignedTransaction, address_of_point, recover};

    fn key() -> (SigningKey, Address) {
        let key = SigningKey::from_slice(&[0x46; 32]).unwrap();
        let signer = address_of_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap();
        (key, signer)
    }

    /// A payment to an address, signed by the key that nobody has here.
    fn payment(to: &str, wei: u64) -> SignedTransaction {
        let (key, signer) = key();
        let fields = json!({ "from": signer, "to": to, "value": format!("{wei:#x}"), "nonce": "0x0" });
        let unsigned = Tx::assign(transaction(&fields), Some(0));
        let (raw, _) = key.sign_prehash_recoverable(Tx::digest(&unsigned).as_slice()).unwrap();
        let signature = recover(Tx::digest(&unsigned), &raw.to_bytes().into(), signer).unwrap();
        SignedTransaction::decode(Tx::seal(&unsigned, signature).raw).unwrap()
    }

    fn rules() -> String {
        format!(
            "{CONTRACTS}[[rule]]\nid = \"hot\"\neffect = \"allow\"\nkind = \"presigned\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"{}\"]\nto = [\"alice\"]\ncall = \"empty\"\nvalue = {{ max = \"9 wei\" }}\n",
            key().1
        )
    }

    fn presenting(signer: Address) -> AccountCaller {
        let client = world().clients.into_iter().find(|client| client.name == "ann").unwrap();
        Caller::new(Arc::new(client), RequestId::from_number(1)).presenting(signer)
    }

    fn judge(policy: &Policy, asked: &SignedTransaction) -> Result<(), Denied> {
        policy.judge::<Presigned>(&presenting(asked.from()), asked, Timestamp::from_millis(0)).map(drop)
    }

    #[test]
    fn what_came_signed_has_rules_of_its_own() {
        let policy = Policy::of_text(&rules(), &world());
        assert_eq!(judge(&policy, &payment(ALICE, 9)), Ok(()));
        let much = judge(&policy, &payment(ALICE, 10)).unwrap_err();
        assert_eq!((much.rule.as_deref(), much.condition.as_deref()), (Some("hot"), Some("value")));
        assert!(much.sentence.contains("may not pass on a transaction to send 10 wei to"), "{much}");
        assert!(judge(&policy, &payment(BOB, 1)).is_err());
        // A rule for what is signed here is none for this.
        let here = rules().replace("\"presigned\"", "\"transaction\"").replace(&key().1.to_string(), "any");
        assert_eq!(
            judge(&Policy::of_text(&here, &world()), &payment(ALICE, 1)).unwrap_err().cause,
            DenialCause::NoRule
        );
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\n";
        for (kind, denied) in
            [("", true), ("kind = \"presigned\"\n", true), ("kind = \"transaction\"\n", false)]
        {
            let policy = Policy::of_text(&format!("{}{deny}{kind}", rules()), &world());
            assert_eq!(judge(&policy, &payment(ALICE, 1)).is_err(), denied, "{kind}");
        }
        let own = rules().replace(&key().1.to_string(), "treasury");
        let error = crate::policy::tests::policy(&own).unwrap_err().to_string();
        assert!(error.contains("is an account of ours"), "{error}");
    }

    /// Who brings a signature may not have another made by it, nor the other way round.
    #[test]
    fn inv_04_a_caller_that_presents_may_use_no_key() {
        let any = rules().replace(&format!("[\"{}\"]", key().1), "[\"any\"]");
        let policy = Policy::of_text(
            &format!(
                "{any}{}",
                any.split("[[rule]]")
                    .last()
                    .map(|rule| {
                        format!(
                            "[[rule]]{}",
                            rule.replace("\"hot\"", "\"here\"").replace("\"presigned\"", "\"transaction\"")
                        )
                    })
                    .unwrap()
            ),
            &world(),
        );
        let treasury: Address = TREASURY.parse().unwrap();
        let asked = transaction(&json!({ "to": ALICE, "value": "0x1" }));
        let now = Timestamp::from_millis(0);
        assert!(policy.judge::<Tx>(&crate::policy::tests::caller("ann"), &asked, now).is_ok());
        let refused = policy.judge::<Tx>(&presenting(treasury), &asked, now).unwrap_err();
        assert_eq!(refused.cause, DenialCause::Account);
        let signed = payment(ALICE, 1);
        assert!(policy.judge::<Presigned>(&presenting(signed.from()), &signed, now).is_ok());
        let other = policy.judge::<Presigned>(&presenting(treasury), &signed, now).unwrap_err();
        assert_eq!(other.cause, DenialCause::Account);
    }

    #[test]
    fn inv_03_what_came_signed_is_counted_and_counted_again() {
        let budget = "[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"1h\"\nmatch = { kind = \"presigned\" }\n";
        let policy = Policy::of_text(&format!("{}{budget}", rules()), &world());
        let signed = payment(ALICE, 9);
        let (caller, now) = (presenting(signed.from()), Timestamp::from_millis(0));
        let (_, charges) = policy.assess::<Presigned>(&caller, &signed, now).unwrap();
        assert_eq!(charges.len(), 1);
        let past = Past {
            client: "ann",
            account: signed.from(),
            rule: "hot",
            kind: Presigned::NAME,
            at: now,
            raw: signed.raw(),
        };
        assert_eq!(policy.charges_of(&past).unwrap(), charges);
    }
}
