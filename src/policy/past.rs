//! What was signed before, looked at again: for budgets that are counted anew.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes};

use crate::clock::Timestamp;
use crate::policy::budget::{Charge, Limit};
use crate::policy::call::TransactionFacts;
use crate::policy::decide::Policy;
use crate::policy::facts::{Facts, MessageFacts, Subject};
use crate::policy::typed::TypedFacts;
use crate::policy::wrapper::Whole;
use crate::transaction::{Filled, Kind as _, Presigned, Structured, Text, Tx, TypedData};

/// A payload as the ledger keeps it.
#[derive(Debug)]
pub struct Past<'a> {
    pub client: &'a str,
    pub account: Address,
    /// The rule that allowed it.
    pub rule: &'a str,
    pub kind: &'a str,
    /// A transaction's signed bytes, or a signature with its typed data; of a message only the signature is kept.
    pub raw: &'a Bytes,
}

impl Policy {
    /// The budgets, by id.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.budgets.iter().map(|budget| &budget.limit)
    }

    /// What a payload takes from each budget of this policy.
    pub fn charges_of(&self, past: &Past<'_>) -> Result<Vec<Charge>, String> {
        let presigned = past.kind == Presigned::NAME;
        let filled = (presigned || past.kind == Tx::NAME)
            .then(|| Filled::signed(past.account, past.raw).ok_or("it is no transaction"))
            .transpose()?;
        // What budgets match on says nothing of a message's text.
        let text = Text::new(past.account, Bytes::new());
        let typed = (past.kind == TypedData::NAME)
            .then(|| Structured::signed(past.account, past.raw).ok_or("it is no typed data"))
            .transpose()?;
        let subject = match (&filled, &typed) {
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
            now: Timestamp::from_millis(0),
            book: &self.book,
            subject,
        };
        let rule: Arc<str> = past.rule.into();
        // The ledger knows the rule of the whole; of a call inside, the one that would allow it now is the best guess.
        let rule_of = |call: &Facts<'_>| match &call.subject {
            Subject::Transaction(transaction) if transaction.is_inner() => {
                self.verdict_of_one(call).unwrap_or_else(|_| Arc::clone(&rule))
            }
            _ => Arc::clone(&rule),
        };
        let whole = Whole::open(facts, &self.wrappers);
        whole.is_open().map_err(|denied| denied.to_string())?;
        let rules: Vec<_> = whole.each().map(rule_of).collect();
        self.charges(&whole, &rules).map_err(|denied| denied.to_string())
    }
}
