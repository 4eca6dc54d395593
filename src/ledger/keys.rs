//! What a repeat under a name gets: the name is a client's `Idempotency-Key`, or, within its `repeat_window`, the
//! intent itself. Pure: a row and an intent in, a verdict out.

use std::time::Duration;

use alloy_primitives::B256;

use crate::clock::Timestamp;
use crate::identity::IdempotencyKey;
use crate::ledger::life::{State, Word};

/// The name of a claim, and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Name {
    pub text: String,
    /// A window of the client's configuration; `None` for a key of its own, which holds as long as keys are kept.
    pub window: Option<Duration>,
}

/// What was reserved under a name last.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Named {
    pub id: i64,
    pub intent: B256,
    pub at: Timestamp,
    pub state: State,
    /// What a node said of it last.
    pub word: Option<Word>,
    /// The states of the other payloads at its nonce.
    pub others: Vec<State>,
    pub has_nonce: bool,
    /// In what words a node refused it for good.
    pub refusal: Option<String>,
}

/// What a claim under a name may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Verdict {
    /// Nothing was signed under it, or so long ago that it is forgotten.
    Free,
    /// It is being signed.
    Signing,
    /// It was signed, and is out.
    Out { id: i64 },
    /// A node refused it for good, and its nonce is still its own: the same bytes are sent again.
    Refused { id: i64 },
    /// Its nonce went to another payload: it will not be sent again, nor anything else under this name. Where that other
    /// is a bump of it, it is what the name stands for.
    Spent { id: i64, refusal: Option<String> },
    /// The name stands for something else.
    OtherIntent,
}

impl Name {
    /// The name of a claim: its client's key, or the intent where the client has a window; nothing else has one.
    pub(in crate::ledger) fn of(
        key: Option<&IdempotencyKey>,
        window: Option<Duration>,
        intent: B256,
    ) -> Option<Self> {
        match (key, window) {
            (Some(key), _) => Some(Self { text: key.as_str().to_owned(), window: None }),
            // Begins with a space, as no key does.
            (None, Some(_)) => Some(Self { text: format!(" {intent:#x}"), window }),
            (None, None) => None,
        }
    }

    /// The client's own key, for the audit.
    pub(in crate::ledger) fn key(&self) -> Option<&str> {
        self.window.is_none().then_some(self.text.as_str())
    }
}

impl Named {
    /// `kept` is how long a client's own key holds. It never ends while its payload may still be signed, or while the
    /// chain has not decided of what was; a window does end then: who pays the same again later means it.
    fn is_forgotten(&self, name: &Name, kept: Duration, now: Timestamp) -> bool {
        let is_undecided = self.has_nonce && self.state.is_signed() && !self.state.is_settled();
        let is_open = self.state == State::Reserved || (name.window.is_none() && is_undecided);
        !is_open && now.since(self.at) >= name.window.unwrap_or(kept)
    }
}

/// What a claim to this intent gets under `name`, where `named` was reserved under it last.
pub(in crate::ledger) fn judge(
    named: Option<&Named>,
    name: &Name,
    intent: B256,
    (kept, now): (Duration, Timestamp),
) -> Verdict {
    let Some(named) = named.filter(|named| !named.is_forgotten(name, kept, now)) else {
        return Verdict::Free;
    };
    if named.intent != intent {
        return Verdict::OtherIntent;
    }
    let is_lost = named.others.iter().any(|other| other.is_live() || other.is_settled());
    match named.state {
        State::Reserved => Verdict::Signing,
        State::Void => Verdict::Free,
        State::Vacant if !is_lost => Verdict::Refused { id: named.id },
        // A node took it after all, or may have, and it may be mined although its nonce was given away.
        State::Vacant if named.word.is_some_and(|word| !word.is_refusal()) => Verdict::Out { id: named.id },
        // What is at the token may fail, and then the nonce is its own again.
        State::Vacant if named.others.contains(&State::Reserved) => Verdict::Signing,
        State::Vacant | State::Replaced => Verdict::Spent { id: named.id, refusal: named.refusal.clone() },
        _ => Verdict::Out { id: named.id },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(86_400);
    const START: Timestamp = Timestamp::from_millis(1_000_000);
    const OURS: B256 = B256::repeat_byte(1);

    fn named(state: State) -> Named {
        Named {
            id: 7,
            intent: OURS,
            at: START,
            state,
            word: Some(Word::Refused).filter(|_| state == State::Vacant),
            others: Vec::new(),
            has_nonce: true,
            refusal: Some("insufficient funds".to_owned()),
        }
    }

    fn key() -> Name {
        Name { text: "k".to_owned(), window: None }
    }

    fn after(seconds: u64) -> Timestamp {
        Timestamp::from_millis(START.millis().saturating_add(seconds.saturating_mul(1000)))
    }

    fn now(named: &Named) -> Verdict {
        judge(Some(named), &key(), OURS, (KEPT, START))
    }

    #[test]
    fn a_repeat_gets_what_its_first_got() {
        assert_eq!(judge(None, &key(), OURS, (KEPT, START)), Verdict::Free);
        assert_eq!(now(&named(State::Reserved)), Verdict::Signing);
        assert_eq!(now(&named(State::Recorded)), Verdict::Out { id: 7 });
        assert_eq!(now(&named(State::Outbid)), Verdict::Out { id: 7 });
        assert_eq!(now(&named(State::Final)), Verdict::Out { id: 7 });
        assert_eq!(now(&named(State::Outbid)), Verdict::Out { id: 7 }, "it may still be mined");
        assert_eq!(now(&named(State::Void)), Verdict::Free, "never signed");
        assert_eq!(now(&named(State::Vacant)), Verdict::Refused { id: 7 });
        let spent = Verdict::Spent { id: 7, refusal: Some("insufficient funds".to_owned()) };
        assert_eq!(now(&named(State::Replaced)), spent);
        let beside = |other| Named { others: vec![State::Void, other], ..named(State::Vacant) };
        for other in [State::Recorded, State::Final, State::Replaced] {
            assert_eq!(now(&beside(other)), spent, "{other:?}");
        }
        assert_eq!(now(&beside(State::Reserved)), Verdict::Signing, "which may fail");
        for word in [Word::Accepted, Word::Known, Word::Unknown, Word::NonceTooLow] {
            let taken = Named { word: Some(word), ..beside(State::Recorded) };
            assert_eq!(now(&taken), Verdict::Out { id: 7 }, "{word:?}");
        }
        assert_eq!(now(&Named { word: Some(Word::Dropped), ..beside(State::Recorded) }), spent);
        let free = Named { others: vec![State::Vacant, State::Void], ..named(State::Vacant) };
        assert_eq!(now(&free), Verdict::Refused { id: 7 });
    }

    #[test]
    fn a_key_stands_for_one_intent_whatever_became_of_it() {
        for state in State::ALL {
            let other = judge(Some(&named(state)), &key(), B256::ZERO, (KEPT, START));
            assert_eq!(other, Verdict::OtherIntent, "{state:?}");
        }
    }

    #[test]
    fn a_key_is_forgotten_after_its_time_but_not_while_its_payload_is_open() {
        let late = |state, has_nonce| {
            let named = Named { has_nonce, ..named(state) };
            judge(Some(&named), &key(), OURS, (KEPT, after(86_400)))
        };
        for state in [State::Final, State::Replaced, State::Void] {
            assert_eq!(late(state, true), Verdict::Free, "{state:?}");
        }
        assert_eq!(late(State::Recorded, false), Verdict::Free, "a message");
        assert_eq!(late(State::Recorded, true), Verdict::Out { id: 7 });
        assert_eq!(late(State::Vacant, true), Verdict::Refused { id: 7 }, "a node may be wrong");
        assert_eq!(late(State::Reserved, false), Verdict::Signing);
        let soon = judge(Some(&named(State::Final)), &key(), OURS, (KEPT, after(86_399)));
        assert_eq!(soon, Verdict::Out { id: 7 });
    }

    #[test]
    fn a_window_ends_in_time_also_for_what_is_not_mined() {
        let window = Name::of(None, Some(Duration::from_secs(60)), OURS).unwrap();
        let at = |seconds, state| judge(Some(&named(state)), &window, OURS, (KEPT, after(seconds)));
        assert_eq!(at(59, State::Recorded), Verdict::Out { id: 7 });
        assert_eq!(at(60, State::Recorded), Verdict::Free);
        assert_eq!(at(60, State::Reserved), Verdict::Signing);
    }

    #[test]
    fn a_clients_own_key_goes_before_its_window_and_neither_can_be_the_other() {
        let own = IdempotencyKey::parse(format!("{OURS:#x}").as_bytes()).unwrap();
        let window = Some(Duration::from_secs(60));
        let (by_key, by_window) = (Name::of(Some(&own), window, OURS), Name::of(None, window, OURS));
        assert_eq!(by_key.as_ref().and_then(Name::key), Some(own.as_str()));
        assert_eq!(by_window.as_ref().and_then(Name::key), None);
        assert_ne!(by_key.unwrap().text, by_window.unwrap().text);
        assert_eq!(Name::of(None, None, OURS), None);
    }
}
