//! The kinds of payload that a policy can judge.

use crate::clock::Timestamp;
use crate::identity::AccountCaller;
use crate::policy::call::TransactionFacts;
use crate::policy::facts::{Book, Facts, MessageFacts, Subject};
use crate::transaction::{Kind, Message, Tx};

/// A kind that rules can be written for. Sealed: no other module can add one, so nothing is judged by accident.
pub trait Judged: Kind + sealed::Readable {}

impl<K: sealed::Readable> Judged for K {}

mod sealed {
    use crate::transaction::{Filled, Kind, Text};

    #[derive(Debug)]
    pub enum View<'a> {
        Transaction(&'a Filled),
        Message(&'a Text),
    }

    pub trait Readable: Kind {
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

/// Reads a payload for its conditions.
pub(in crate::policy) fn facts<'a, K: Judged>(
    caller: &'a AccountCaller,
    asked: &'a K::Asked,
    book: &'a Book,
    now: Timestamp,
) -> Facts<'a> {
    let subject = match K::view(asked) {
        sealed::View::Transaction(asked) => Subject::Transaction(TransactionFacts::new(asked, book)),
        sealed::View::Message(asked) => Subject::Message(MessageFacts::new(asked)),
    };
    let client = caller.client();
    Facts {
        client: &client.name,
        role: client.role.as_deref(),
        account: caller.account(),
        own: &client.accounts,
        now,
        book,
        subject,
    }
}
