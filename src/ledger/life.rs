//! The life of a payload: which state may follow which, and what one payload's end means for the others at its
//! nonce. Pure: the writer, the replay of the audit chain and the model of the ledger all ask here.

use crate::ledger::{Final, Outcome, RefusalClass};

/// Where a payload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::ledger) enum State {
    /// May be signed.
    Reserved,
    /// Signed and durable: may leave.
    Recorded,
    /// Another payload was recorded, or is being signed, in its place; either may be mined.
    Outbid,
    /// A node refused it for good: its nonce is free for a payload that outbids it.
    Vacant,
    /// Never signed, or signed too late: its signature is worth nothing.
    Void,
    /// In a block that cannot be undone.
    Final,
    /// Another payload at its nonce is final.
    Replaced,
}

impl State {
    pub(in crate::ledger) const ALL: [Self; 7] =
        [Self::Reserved, Self::Recorded, Self::Outbid, Self::Vacant, Self::Void, Self::Final, Self::Replaced];

    pub(in crate::ledger) const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Recorded => "recorded",
            Self::Outbid => "outbid",
            Self::Vacant => "vacant",
            Self::Void => "void",
            Self::Final => "final",
            Self::Replaced => "replaced",
        }
    }

    pub(in crate::ledger) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub(in crate::ledger) const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Reserved, Self::Recorded | Self::Void)
                | (Self::Recorded, Self::Outbid | Self::Vacant | Self::Final | Self::Replaced)
                | (Self::Outbid, Self::Recorded | Self::Vacant | Self::Final | Self::Replaced)
                | (Self::Vacant, Self::Recorded | Self::Final | Self::Replaced)
        )
    }

    /// Of these there is at most one at a nonce, and nobody else gets it.
    pub(in crate::ledger) const fn is_live(self) -> bool {
        matches!(self, Self::Reserved | Self::Recorded)
    }

    /// As the tables have it: 1 for the payload that its nonce is given to, 0 for one in whose place another came or may
    /// come, nothing for one that is void.
    pub(in crate::ledger) const fn live(self) -> Option<i64> {
        match self {
            Self::Reserved | Self::Recorded | Self::Final => Some(1),
            Self::Outbid | Self::Vacant | Self::Replaced => Some(0),
            Self::Void => None,
        }
    }

    /// The chain has not decided of it, where it has a nonce.
    pub(in crate::ledger) const fn is_open(self) -> bool {
        matches!(self, Self::Reserved | Self::Recorded | Self::Outbid | Self::Vacant)
    }

    /// The chain has decided of its nonce.
    pub(in crate::ledger) const fn is_settled(self) -> bool {
        matches!(self, Self::Final | Self::Replaced)
    }

    /// Its signature is durable.
    pub(in crate::ledger) const fn is_signed(self) -> bool {
        !matches!(self, Self::Reserved | Self::Void)
    }
}

/// A node's word, as the audit chain keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ledger) enum Word {
    Accepted,
    Known,
    /// The nonce is used up, by this very payload or by another: the chain will tell. It is not given away.
    NonceTooLow,
    /// No node ever took it: it is in no pool.
    Refused,
    /// Refused for what it is: no node of this chain can ever have taken it.
    Invalid,
    /// Refused as well, but a node took it before, or may have: it may be in the pools of others yet.
    Dropped,
    /// No node ever took it, its client asks for it again, and it is handed to one once more, whose word is not known.
    Resent,
    /// The same of what may be in pools: it was dropped.
    Again,
    Unknown,
}

impl Word {
    pub(in crate::ledger) const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Known,
        Self::NonceTooLow,
        Self::Refused,
        Self::Invalid,
        Self::Dropped,
        Self::Resent,
        Self::Again,
        Self::Unknown,
    ];

    pub(in crate::ledger) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::NonceTooLow => "nonce_too_low",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Dropped => "dropped",
            Self::Resent => "resent",
            Self::Again => "again",
            Self::Unknown => "unknown",
        }
    }

    pub(in crate::ledger) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == name)
    }

    pub(in crate::ledger) const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::Invalid | Self::Dropped)
    }

    /// Whether it is our own: it is handed to a node, and that one has not spoken.
    pub(in crate::ledger) const fn is_ours(self) -> bool {
        matches!(self, Self::Resent | Self::Again)
    }

    /// This word of a payload of which `before` was the last.
    #[must_use]
    pub(in crate::ledger) const fn after(self, before: Option<Self>) -> Self {
        match (self, before) {
            (Self::Refused, None | Some(Self::Refused | Self::Invalid | Self::Resent)) => Self::Refused,
            (Self::Resent, Some(Self::Refused | Self::Invalid)) => Self::Resent,
            (Self::Resent, _) => Self::Again,
            (Self::Refused, Some(_))
            | (Self::Invalid, Some(Self::Accepted | Self::Known | Self::Dropped | Self::Again)) => {
                Self::Dropped
            }
            (word, _) => word,
        }
    }
}

impl From<&Outcome> for Word {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted => Self::Accepted,
            Outcome::Known => Self::Known,
            Outcome::Refused { class: RefusalClass::NonceTooLow, .. } => Self::NonceTooLow,
            // Not what is too large for our nodes' pools.
            Outcome::Refused {
                class: RefusalClass::ChainId | RefusalClass::IntrinsicGas | RefusalClass::Undecodable,
                ..
            } => Self::Invalid,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::Unknown { .. } => Self::Unknown,
        }
    }
}

/// What a node's word makes of a payload, if anything; `others` are the states of those at its nonce.
///
/// A definite refusal frees the nonce for a payload that outbids this one; anything else keeps it live.
pub(in crate::ledger) fn heard(state: State, word: Word, others: &[State]) -> Option<State> {
    match (word, state) {
        (word, State::Recorded | State::Outbid) if word.is_refusal() => Some(State::Vacant),
        // It is sent again, or was and is taken now, unless its nonce went to another meanwhile.
        (Word::Accepted | Word::Known | Word::Resent | Word::Again, State::Vacant)
            if !others.iter().any(|other| other.is_live() || other.is_settled()) =>
        {
            Some(State::Recorded)
        }
        _ => None,
    }
}

/// Which payload is live again when the live one at its nonce turns void or vacant: the last that it had outbid.
pub(in crate::ledger) fn heir(turned: State, others: &[(i64, State)]) -> Option<i64> {
    let is_free = !others.iter().any(|(_, other)| other.is_live() || other.is_settled());
    if !matches!(turned, State::Void | State::Vacant) || !is_free {
        return None;
    }
    others.iter().filter(|(_, other)| *other == State::Outbid).map(|(id, _)| *id).max()
}

/// What becomes of a payload that the chain has decided of, and of the others at its nonce: once one is final, they
/// can never be. Rows that change nothing are left out.
pub(in crate::ledger) fn settle(
    (id, state): (i64, State),
    last: Final,
    others: &[(i64, State)],
) -> Vec<(i64, State)> {
    let to = match last {
        Final::Mined { .. } | Final::Past { .. } => State::Final,
        Final::Replaced => State::Replaced,
    };
    if !state.may_become(to) {
        return Vec::new();
    }
    let rivals = others.iter().filter(|_| to == State::Final).filter_map(|(rival, state)| {
        let end = if *state == State::Reserved { State::Void } else { State::Replaced };
        state.may_become(end).then_some((*rival, end))
    });
    rivals.chain([(id, to)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINED: Final = Final::Mined { block: 9, succeeded: true };

    #[test]
    fn every_state_and_every_word_has_its_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
        for word in Word::ALL {
            assert_eq!(Word::named(word.name()), Some(word));
        }
        assert_eq!((State::named("Reserved"), Word::named("")), (None, None));
        let text = String::new();
        let refused = |class| Outcome::Refused { class, text: text.clone() };
        assert_eq!(Word::from(&refused(RefusalClass::NonceTooLow)), Word::NonceTooLow);
        assert_eq!(Word::from(&refused(RefusalClass::InsufficientFunds)), Word::Refused);
        assert_eq!(Word::from(&refused(RefusalClass::IntrinsicGas)), Word::Invalid);
    }

    #[test]
    fn what_a_node_took_once_is_not_refused_any_more_but_dropped() {
        let never = [Word::Refused, Word::Invalid, Word::Resent];
        for before in never.map(Some).into_iter().chain([None]) {
            assert_eq!(Word::Refused.after(before), Word::Refused);
        }
        for before in Word::ALL.into_iter().filter(|word| !never.contains(word)) {
            assert_eq!(Word::Refused.after(Some(before)), Word::Dropped, "{before:?}");
        }
        for word in Word::ALL.into_iter().filter(|word| !never.contains(word)) {
            assert_eq!(word.after(Some(Word::Accepted)), word);
        }
        for before in Word::ALL {
            let is_resent = matches!(before, Word::Refused | Word::Invalid);
            assert_eq!(Word::Resent.after(Some(before)) == Word::Resent, is_resent, "{before:?}");
        }
        assert_eq!(Word::Invalid.after(Some(Word::Unknown)), Word::Invalid, "its fees are in nobody's way");
        assert_eq!(Word::Invalid.after(Some(Word::Known)), Word::Dropped, "who is to be believed?");
    }

    #[test]
    fn what_is_void_or_settled_stays_so_and_only_what_is_reserved_is_signed() {
        for next in State::ALL {
            for end in [State::Void, State::Final, State::Replaced] {
                assert!(!end.may_become(next), "{end:?} became {next:?}");
            }
            assert_eq!(State::Reserved.may_become(next), matches!(next, State::Recorded | State::Void));
            assert!(!next.may_become(State::Reserved));
            assert_eq!(next.may_become(State::Outbid), next == State::Recorded);
        }
    }

    #[test]
    fn every_state_holds_its_nonce_or_gives_it_away() {
        for (state, is_live, is_settled, is_signed) in [
            (State::Reserved, true, false, false),
            (State::Recorded, true, false, true),
            (State::Outbid, false, false, true),
            (State::Vacant, false, false, true),
            (State::Void, false, false, false),
            (State::Final, false, true, true),
            (State::Replaced, false, true, true),
        ] {
            let is = (state.is_live(), state.is_settled(), state.is_signed());
            assert_eq!(is, (is_live, is_settled, is_signed), "{state:?}");
        }
    }

    #[test]
    fn inv_10_only_a_definite_refusal_frees_a_nonce() {
        assert_eq!(heard(State::Recorded, Word::Refused, &[]), Some(State::Vacant));
        assert_eq!(heard(State::Recorded, Word::Dropped, &[]), Some(State::Vacant));
        assert_eq!(heard(State::Recorded, Word::Invalid, &[]), Some(State::Vacant));
        assert_eq!(heard(State::Outbid, Word::Refused, &[State::Recorded]), Some(State::Vacant));
        for word in [Word::NonceTooLow, Word::Unknown, Word::Accepted, Word::Known] {
            assert_eq!(heard(State::Recorded, word, &[]), None, "{word:?}");
        }
        for state in [State::Reserved, State::Void, State::Final, State::Replaced, State::Vacant] {
            assert_eq!(heard(state, Word::Refused, &[]), None, "{state:?}");
        }
    }

    #[test]
    fn a_refused_payload_that_is_taken_after_all_lives_again_while_its_nonce_is_free() {
        assert_eq!(heard(State::Vacant, Word::Accepted, &[]), Some(State::Recorded));
        assert_eq!(heard(State::Vacant, Word::Known, &[State::Vacant]), Some(State::Recorded));
        for other in [State::Reserved, State::Recorded, State::Final, State::Replaced] {
            assert_eq!(heard(State::Vacant, Word::Accepted, &[State::Vacant, other]), None, "{other:?}");
        }
    }

    #[test]
    fn what_was_outbid_is_live_again_when_nothing_else_is() {
        let outbid = [(1, State::Outbid), (2, State::Outbid), (3, State::Vacant)];
        for turned in State::ALL {
            let expected = matches!(turned, State::Void | State::Vacant).then_some(2);
            assert_eq!(heir(turned, &outbid), expected, "{turned:?}");
        }
        for other in [State::Reserved, State::Recorded, State::Final, State::Replaced] {
            assert_eq!(heir(State::Void, &[(1, State::Outbid), (9, other)]), None, "{other:?}");
        }
        assert_eq!(heir(State::Void, &[(1, State::Vacant), (2, State::Void)]), None);
    }

    #[test]
    fn one_final_payload_ends_the_others_at_its_nonce() {
        let others = [
            (2, State::Reserved),
            (3, State::Recorded),
            (4, State::Vacant),
            (5, State::Void),
            (6, State::Outbid),
        ];
        let ends = [
            (2, State::Void),
            (3, State::Replaced),
            (4, State::Replaced),
            (6, State::Replaced),
            (1, State::Final),
        ];
        assert_eq!(settle((1, State::Recorded), MINED, &others), ends);
        assert_eq!(settle((1, State::Vacant), Final::Replaced, &others), [(1, State::Replaced)]);
        for state in [State::Reserved, State::Void, State::Final, State::Replaced] {
            assert_eq!(settle((1, state), MINED, &others), []);
        }
    }
}
