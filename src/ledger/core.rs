//! Which nonce a payload gets, or why it gets none. Pure: rows and a bid in, a decision out.

use std::time::Duration;

use alloy_primitives::B256;

use crate::clock::Timestamp;
use crate::ledger::life::{State, Word};
use crate::ledger::places::{Nonces, Place, is_nowhere};
use crate::policy::Replace;
use crate::transaction::{Fees, Slot, Stands};

/// A row of the ledger at one nonce of the account that claims; void ones have no say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Row {
    pub id: i64,
    pub nonce: u64,
    /// When it was reserved.
    pub at: Timestamp,
    pub state: State,
    pub intent: B256,
    pub fees: Fees,
    /// What a node said of it last.
    pub word: Option<Word>,
    /// Whether the client that claims now had this one signed, and for the same purpose.
    pub is_own: bool,
    /// Whether it is an authorization (EIP-7702), which nobody has to hand in.
    pub is_authorization: bool,
}

/// What a claim brings.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct Bid {
    pub slot: Slot,
    pub intent: B256,
    pub replace: Replace,
    /// To nodes, by us.
    pub is_sent: bool,
    /// A mined count that an operator took as true; 0 where none did.
    pub accepted: u64,
    pub now: Timestamp,
}

impl Row {
    /// Whether no node ever took it.
    fn is_nowhere(&self) -> bool {
        is_nowhere(self.state, self.word)
    }
}

/// By how much a node's mined count may stand above what the ledger knows of an account before somebody else than
/// that node has to say so. Whoever believes any count lets a lying node have nonces signed that wait for years.
const MAX_JUMP: u64 = 16;

/// How long a client waits that had as many payloads refused at a nonce as it may: for each more.
const REFUSED_TOO_OFTEN: Duration = Duration::from_secs(600);

/// How many nonces below recorded payloads are filled by ourselves: what is missing beyond that is no accident.
pub const MAX_GAPS: usize = 16;

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Decision {
    Take {
        nonce: u64,
        /// The recorded payload at this nonce that is outbid by it.
        replaces: Option<i64>,
    },
    /// This intent was recorded at this nonce before.
    Known {
        id: i64,
    },
    /// The same intent, or the nonce below, is at the token right now; ask again when that is settled.
    WaitForSignature,
    /// A nonce below is missing; it may be on its way.
    WaitForGap {
        expected: u64,
    },
    Refuse(Refused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Refused {
    Outbid {
        floor: Fees,
    },
    Underpriced,
    NonceTaken {
        why: NotReplaced,
    },
    NonceTooLow {
        mined: u64,
    },
    TooManyOpen,
    /// No node took what this client had signed at the nonce, as often as it may have nonces open.
    NoNodeTakesIt,
    MinedJump {
        mined: u64,
        known: u64,
    },
    /// EIP-2681: a nonce is less than 2^64 - 1; ours also fits a signed 64-bit column.
    NonceTooHigh,
}

/// Why the payload at a nonce keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReplaced {
    /// The chain has decided of this nonce.
    Settled,
    /// The policy does not let this claim replace anything.
    NotAllowed,
    /// Another client had it signed, or it was to be returned and this is to be sent, or the other way round.
    Anothers,
    /// A node refused it, and it may be mined all the same: an authorization pays nothing by which it could outbid it.
    MayBeMined,
    /// Nodes keep transactions with blobs (EIP-4844) in a pool of their own, and an account is in one of the two: one with
    /// blobs takes the place of one with blobs only.
    OtherPool,
}

/// `rows` are this account's on this chain that are not void: those from the highest settled nonce on or from the
/// mined count on, whichever is higher, and those at the wanted nonce.
pub(in crate::ledger) fn decide(rows: &[Row], bid: &Bid, max_open: u32) -> Decision {
    let nonces = Nonces::of(rows, bid.slot.mined, Some(bid.intent));
    if let Some(known) = bid.slot.wanted.and_then(|wanted| repeated(rows, &nonces, wanted, bid.intent)) {
        return known;
    }
    let known = known_count(rows).map(|known| known.max(bid.accepted));
    if let Some(known) = known
        && bid.slot.mined > known.saturating_add(MAX_JUMP)
    {
        return Decision::Refuse(Refused::MinedJump { mined: bid.slot.mined, known });
    }
    let decision = match bid.slot.wanted {
        Some(wanted) => explicit(&nonces, bid, wanted, max_open),
        None => {
            refused_before(rows, &nonces, bid).unwrap_or_else(|| lowest_vacant(&nonces, &bid.slot, max_open))
        }
    };
    match decision {
        Decision::Take { nonce, replaces: None } if was_refused_too_often(rows, bid, nonce, max_open) => {
            Decision::Refuse(Refused::NoNodeTakesIt)
        }
        decision => decision,
    }
}

/// Whether a client had as many payloads signed at a nonce that no node ever took as it may have, and the last of them not
/// long ago: they cost it nothing, and each is a row that all who come after must read.
fn was_refused_too_often(rows: &[Row], bid: &Bid, nonce: u64, max_open: u32) -> bool {
    let is_ordered = matches!(bid.replace, Replace::Only(_) | Replace::Any);
    let refused = || rows.iter().filter(|row| row.nonce == nonce && row.is_own && row.is_nowhere());
    let last = refused().map(|row| row.at).max();
    let is_full = refused().count() >= usize::try_from(max_open).unwrap_or(usize::MAX);
    !is_ordered && is_full && last.is_some_and(|last| bid.now.since(last) < REFUSED_TOO_OFTEN)
}

/// How many transactions the chain can have mined of an account by what we know ourselves. Nothing where we know
/// nothing: then the first node that is asked is believed.
pub(in crate::ledger) fn known_count(rows: &[Row]) -> Option<u64> {
    rows.iter().map(|row| row.nonce.saturating_add(1)).max()
}

/// The open nonces below recorded transactions that nothing lives at, lowest first: those above cannot be mined before
/// somebody fills them. An authorization waits for nothing. No more than one over [`MAX_GAPS`] are told.
pub(in crate::ledger) fn gaps(rows: &[Row], mined: u64) -> Vec<u64> {
    let nonces = Nonces::of(rows, mined, None);
    let is_waiting = |row: &&Row| row.state == State::Recorded && !row.is_authorization;
    let recorded = rows.iter().filter(is_waiting).map(|row| row.nonce).max();
    let mut gaps = Vec::new();
    let mut nonce = nonces.first;
    while recorded.is_some_and(|recorded| nonce < recorded) && gaps.len() <= MAX_GAPS {
        if nonces.at(nonce).live.is_none() {
            gaps.push(nonce);
        }
        nonce = nonce.saturating_add(1);
    }
    gaps
}

/// The nonce that an account's next transaction without a nonce of its own would get.
pub(in crate::ledger) fn next(rows: &[Row], mined: u64) -> u64 {
    Nonces::of(rows, mined, None).lowest_free()
}

/// Whether a payload that no node ever took pays exactly this at this nonce: it may be the very same as the one that comes.
pub(in crate::ledger) fn may_be_there(rows: &[Row], (nonce, fees): (u64, &Fees)) -> bool {
    let pays = |fees: &Fees| (fees.max_per_gas(), fees.max_priority(), fees.max_per_blob_gas());
    rows.iter().any(|row| row.nonce == nonce && row.is_nowhere() && pays(&row.fees) == pays(fees))
}

/// Where the very same was signed at its nonce before: two rows of one hash are nobody's use.
pub(in crate::ledger) fn outbid(slot: &Slot) -> Decision {
    Decision::Refuse(if slot.fees_are_fixed {
        Refused::Underpriced
    } else {
        Refused::Outbid { floor: slot.fees.raised() }
    })
}

/// The same intent at the same explicit nonce is the same transaction, however often it is asked for.
fn repeated(rows: &[Row], nonces: &Nonces<'_>, wanted: u64, intent: B256) -> Option<Decision> {
    let same =
        |state| rows.iter().find(|row| row.nonce == wanted && row.intent == intent && row.state == state);
    if same(State::Reserved).is_some() {
        return Some(Decision::WaitForSignature);
    }
    let known = same(State::Recorded).or_else(|| same(State::Final)).or_else(|| same(State::Outbid));
    // What a node refused is sent again, unless its nonce went to another payload meanwhile.
    let place = nonces.at(wanted);
    let still_does = |row: &&Row| !place.is_taken() && place.is_over_rivals(&row.fees);
    let known = known.or_else(|| same(State::Vacant).filter(still_does));
    known.map(|row| Decision::Known { id: row.id })
}

fn explicit(nonces: &Nonces<'_>, bid: &Bid, wanted: u64, max_open: u32) -> Decision {
    let (slot, place) = (&bid.slot, nonces.at(wanted));
    if i64::try_from(wanted).is_err() {
        return Decision::Refuse(Refused::NonceTooHigh);
    }
    if place.is_settled {
        return Decision::Refuse(Refused::NonceTaken { why: NotReplaced::Settled });
    }
    if let Some(live) = place.live {
        return replacement(nonces, bid, live);
    }
    if wanted < nonces.first {
        return Decision::Refuse(Refused::NonceTooLow { mined: nonces.first });
    }
    if nonces.opens_too_many(wanted, max_open) {
        return Decision::Refuse(Refused::TooManyOpen);
    }
    // Whoever names nonces names an order: nothing is signed above a nonce that may never be filled. Right below an
    // authorization the transaction may come that hands it in.
    let order = if slot.stands.is_authorization() { wanted.saturating_sub(1) } else { wanted };
    match nonces.missing_below(order) {
        Some((_, Place { live: Some(_), .. })) => Decision::WaitForSignature,
        Some((expected, _)) => Decision::WaitForGap { expected },
        None => take(nonces, slot, wanted),
    }
}

/// Another payload at a used nonce is a replacement, where the policy and the fees allow it.
fn replacement(nonces: &Nonces<'_>, bid: &Bid, live: &Row) -> Decision {
    let kept = |why| Decision::Refuse(Refused::NonceTaken { why });
    match bid.replace {
        Replace::Never => return kept(NotReplaced::NotAllowed),
        Replace::Own if !live.is_own => return kept(NotReplaced::Anothers),
        Replace::Own | Replace::Only(_) | Replace::Any => {}
    }
    if live.nonce < nonces.first {
        return Decision::Refuse(Refused::NonceTooLow { mined: nonces.first });
    }
    // What is at the token now may fail, and then there is nothing to outbid.
    if live.state == State::Reserved {
        return Decision::WaitForSignature;
    }
    let has_blobs = |fees: &Fees| fees.max_per_blob_gas().is_some();
    // An operator's order, and what is only returned, does not ask our nodes.
    if bid.is_sent && bid.replace == Replace::Own && has_blobs(&live.fees) != has_blobs(&bid.slot.fees) {
        return kept(NotReplaced::OtherPool);
    }
    match take(nonces, &bid.slot, live.nonce) {
        Decision::Take { nonce, .. } => Decision::Take { nonce, replaces: Some(live.id) },
        refused => refused,
    }
}

/// What a node refused is sent again when it is asked for again, where its fees still do. Signed anew it would have to
/// outbid itself, dearer with every try; and where the node was wrong, it would be paid twice.
fn refused_before(rows: &[Row], nonces: &Nonces<'_>, bid: &Bid) -> Option<Decision> {
    let (nonce, fees) = (nonces.lowest_free(), &bid.slot.fees);
    let place = nonces.at(nonce);
    let again = |row: &&Row| {
        (row.nonce, row.state, row.intent) == (nonce, State::Vacant, bid.intent)
            && row.fees.at_least(fees) == row.fees
            && place.is_over_rivals(&row.fees)
    };
    // One that is asked for again is on its way just now: asked for once more, it is the same.
    let is_underway = |row: &&Row| {
        (row.state, row.intent) == (State::Recorded, bid.intent) && row.word.is_some_and(Word::is_ours)
    };
    let known = rows.iter().rev().find(again).or_else(|| rows.iter().find(is_underway));
    known.map(|row| Decision::Known { id: row.id })
}

/// Payloads without a nonce are signed side by side. One that fails leaves its nonce free below the others, where
/// the next payload takes it, or the filling of gaps does.
fn lowest_vacant(nonces: &Nonces<'_>, slot: &Slot, max_open: u32) -> Decision {
    let nonce = match slot.stands {
        Stands::Authorization { behind: true } => nonces.behind_lowest_free(),
        Stands::Authorization { behind: false } | Stands::Transaction => nonces.lowest_free(),
    };
    if i64::try_from(nonce).is_err() {
        return Decision::Refuse(Refused::NonceTooHigh);
    }
    if nonces.opens_too_many(nonce, max_open) {
        return Decision::Refuse(Refused::TooManyOpen);
    }
    take(nonces, slot, nonce)
}

/// Takes a nonce, if the fees outbid every payload that was ever recorded there.
fn take(nonces: &Nonces<'_>, slot: &Slot, nonce: u64) -> Decision {
    match nonces.at(nonce).floor {
        Some(_) if slot.stands.is_authorization() => {
            Decision::Refuse(Refused::NonceTaken { why: NotReplaced::MayBeMined })
        }
        Some(floor) if slot.fees.at_least(&floor) != slot.fees => {
            // What blobs may cost is its client's word.
            let blob_fee_does =
                slot.fees.max_per_blob_gas().is_none_or(|fee| Some(fee) >= floor.max_per_blob_gas());
            Decision::Refuse(if slot.fees_are_fixed || !blob_fee_does {
                Refused::Underpriced
            } else {
                Refused::Outbid { floor }
            })
        }
        _ => Decision::Take { nonce, replaces: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Final;
    use crate::ledger::life::{heir, settle};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(0);
    const LOW: Fees = Fees::Dynamic { max_fee_per_gas: 100, max_priority_fee_per_gas: 10 };
    const HIGH: Fees = Fees::Dynamic { max_fee_per_gas: 200, max_priority_fee_per_gas: 20 };

    fn row(nonce: u64, state: State, intent: u8) -> Row {
        Row {
            id: i64::from(intent),
            nonce,
            at: Timestamp::from_millis(0),
            state,
            intent: B256::repeat_byte(intent),
            fees: LOW,
            word: Some(Word::Dropped).filter(|_| state == State::Vacant),
            is_own: false,
            is_authorization: false,
        }
    }

    fn slot(wanted: Option<u64>, mined: u64, fees: Fees) -> Slot {
        Slot { chain: 1, wanted, mined, fees, fees_are_fixed: false, stands: Stands::Transaction }
    }

    fn ask(rows: &[Row], slot: &Slot, intent: u8) -> Decision {
        bid(rows, slot, intent, Replace::Never)
    }

    fn bid(rows: &[Row], slot: &Slot, intent: u8, replace: Replace) -> Decision {
        decide(
            rows,
            &Bid {
                slot: *slot,
                intent: B256::repeat_byte(intent),
                replace,
                is_sent: true,
                accepted: 0,
                now: NOW,
            },
            8,
        )
    }

    const fn take(nonce: u64) -> Decision {
        Decision::Take { nonce, replaces: None }
    }

    #[test]
    fn the_lowest_vacant_nonce_is_taken_first() {
        assert_eq!(ask(&[], &slot(None, 5, LOW), 1), take(5));
        let rows = [row(5, State::Recorded, 1), row(7, State::Recorded, 2)];
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 3), take(6));
        assert_eq!((next(&rows, 5), next(&rows, 7)), (6, 8));
        assert_eq!(ask(&rows, &slot(None, 0, LOW), 3), take(0));
        let settled = [row(9, State::Final, 1)];
        assert_eq!(ask(&settled, &slot(None, 3, LOW), 2), take(10), "the node lags");
    }

    #[test]
    fn an_accounts_nonces_are_signed_side_by_side_and_explicit_ones_in_their_order() {
        let rows = [row(5, State::Reserved, 1), row(6, State::Reserved, 2)];
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 3), take(7));
        assert_eq!(ask(&rows[1..], &slot(None, 5, LOW), 3), take(5), "void meanwhile");
        assert_eq!(ask(&rows, &slot(Some(7), 5, LOW), 3), Decision::WaitForSignature);
        assert_eq!(ask(&rows[1..], &slot(Some(7), 5, LOW), 3), Decision::WaitForGap { expected: 5 });
    }

    fn authorization(wanted: Option<u64>, behind: bool) -> Slot {
        let fees = Fees::Dynamic { max_fee_per_gas: 0, max_priority_fee_per_gas: 0 };
        Slot { fees_are_fixed: true, stands: Stands::Authorization { behind }, ..slot(wanted, 5, fees) }
    }

    /// EIP-7702: an authorization uses up a nonce, and where the account hands it in, the transaction before it does too.
    #[test]
    fn inv_02_an_authorization_has_a_nonce_of_its_own_and_leaves_one_for_what_hands_it_in() {
        let fees = authorization(None, false).fees;
        let held = |nonce| Row { is_authorization: true, fees, ..row(nonce, State::Recorded, 9) };
        assert_eq!(ask(&[], &authorization(None, false), 1), take(5));
        assert_eq!(ask(&[], &authorization(None, true), 1), take(6));
        assert_eq!(ask(&[], &authorization(Some(6), true), 1), take(6));
        assert_eq!(ask(&[], &authorization(Some(7), true), 1), Decision::WaitForGap { expected: 5 });
        let pair = [row(5, State::Recorded, 1), row(7, State::Recorded, 2)];
        assert_eq!(ask(&pair, &authorization(None, true), 3), take(9), "6 is free, and 7 is not");

        // No transaction takes it, and the one that hands it in fits below.
        let rows = [held(6)];
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 1), take(5));
        assert_eq!(ask(&rows, &slot(Some(5), 5, LOW), 1), take(5));
        let taken = |why| Decision::Refuse(Refused::NonceTaken { why });
        assert_eq!(ask(&rows, &slot(Some(6), 5, HIGH), 1), taken(NotReplaced::NotAllowed));
        let both = [row(5, State::Recorded, 1), held(6)];
        assert_eq!(ask(&both, &slot(None, 5, LOW), 2), take(7));
        assert_eq!(
            ask(&both, &authorization(Some(6), false), 9),
            Decision::Known { id: 9 },
            "the same again"
        );
        assert_eq!(ask(&both, &authorization(Some(6), false), 8), taken(NotReplaced::NotAllowed));
        // An operator's transfer of nothing uses it up, so that it is good for nothing any more.
        let cancelled = bid(&both, &slot(Some(6), 5, LOW), 2, Replace::Any);
        assert_eq!(cancelled, Decision::Take { nonce: 6, replaces: Some(9) });
        // Nobody has to hand it in, so nothing below it is missing; below a transaction it is.
        assert!(gaps(&rows, 5).is_empty());
        assert_eq!(gaps(&[held(6), row(7, State::Recorded, 1)], 5), [5]);
        // It cannot outbid what may be mined all the same.
        let vacant = [row(5, State::Vacant, 1)];
        assert_eq!(ask(&vacant, &authorization(None, false), 2), taken(NotReplaced::MayBeMined));
    }

    /// What holds for blobs in pools (EIP-4844) holds here: a pool of their own, 100 % more, and a fee that only its client
    /// says.
    #[test]
    fn inv_02_blobs_give_way_to_blobs_that_pay_twice_as_much() {
        let (old, twice) = (Fees::of(100, 10, Some(7)), Fees::of(200, 20, Some(14)));
        let rows = [Row { fees: old, is_own: true, ..row(5, State::Recorded, 1) }];
        let ask = |rows: &[Row], fees, replace| bid(rows, &slot(Some(5), 5, fees), 2, replace);
        let replaced = Decision::Take { nonce: 5, replaces: Some(1) };
        assert_eq!(ask(&rows, twice, Replace::Own), replaced);
        let outbid = Decision::Refuse(Refused::Outbid { floor: twice });
        assert_eq!(ask(&rows, Fees::of(110, 11, Some(14)), Replace::Own), outbid);
        // The node is not asked what blobs cost, and no loop raises it.
        assert_eq!(
            ask(&rows, Fees::of(900, 90, Some(13)), Replace::Own),
            Decision::Refuse(Refused::Underpriced)
        );
        let other = Decision::Refuse(Refused::NonceTaken { why: NotReplaced::OtherPool });
        assert_eq!(ask(&rows, Fees::of(900, 90, None), Replace::Own), other);
        assert_eq!(ask(&rows, Fees::of(200, 20, None), Replace::Any), replaced, "an operator's order");
        let plain = [Row { is_own: true, ..row(5, State::Recorded, 1) }];
        assert_eq!(ask(&plain, Fees::of(900, 90, Some(99)), Replace::Own), other);
        // What a node refused, with blobs and without, is outbid in all.
        let vacant = |intent, fees| Row { fees, ..row(5, State::Vacant, intent) };
        let both = [vacant(1, old), vacant(3, Fees::of(300, 5, None)), vacant(4, LOW)];
        let floor = Fees::of(330, 11, None);
        assert_eq!(ask(&both, old, Replace::Never), Decision::Refuse(Refused::Outbid { floor }));
        assert_eq!(
            ask(&both, Fees::of(330, 11, Some(1)), Replace::Never),
            take(5),
            "no blob fee is in the way"
        );
        assert_eq!(ask(&both, Fees::of(330, 11, None), Replace::Never), take(5));
        // Who has it signed only may need it to hear of its own node what is in the way.
        let returned = |rows: &[Row]| {
            let slot = slot(Some(5), 5, Fees::of(900, 90, None));
            let intent = B256::repeat_byte(2);
            decide(
                rows,
                &Bid { slot, intent, replace: Replace::Own, is_sent: false, accepted: 0, now: NOW },
                8,
            )
        };
        assert_eq!(returned(&rows), replaced);
        let reserved = [Row { state: State::Reserved, ..rows[0] }];
        assert_eq!(ask(&reserved, Fees::of(900, 90, None), Replace::Own), Decision::WaitForSignature);
    }

    #[test]
    fn an_explicit_nonce_is_honoured_and_idempotent() {
        let rows = [row(5, State::Recorded, 1)];
        assert_eq!(ask(&rows, &slot(Some(6), 5, LOW), 2), take(6));
        assert_eq!(ask(&rows, &slot(Some(7), 5, LOW), 2), Decision::WaitForGap { expected: 6 });
        assert_eq!(ask(&rows, &slot(Some(5), 5, LOW), 1), Decision::Known { id: 1 });
        assert_eq!(ask(&rows, &slot(Some(5), 6, LOW), 1), Decision::Known { id: 1 }, "mined meanwhile");
        let taken = Refused::NonceTaken { why: NotReplaced::NotAllowed };
        assert_eq!(ask(&rows, &slot(Some(5), 5, HIGH), 2), Decision::Refuse(taken));
        assert_eq!(
            ask(&rows, &slot(Some(4), 5, LOW), 2),
            Decision::Refuse(Refused::NonceTooLow { mined: 5 })
        );
        assert_eq!(ask(&[row(5, State::Reserved, 1)], &slot(Some(5), 5, LOW), 1), Decision::WaitForSignature);
        for mined in [0, u64::MAX] {
            let far = slot(Some(u64::MAX), mined, LOW);
            assert_eq!(ask(&[], &far, 1), Decision::Refuse(Refused::NonceTooHigh));
        }
        assert_eq!(ask(&[], &slot(None, u64::MAX, LOW), 1), Decision::Refuse(Refused::NonceTooHigh));
    }

    #[test]
    fn a_vacant_nonce_goes_to_whoever_outbids_all_that_was_recorded_there() {
        let rows = [row(5, State::Vacant, 1), Row { fees: HIGH, ..row(5, State::Vacant, 2) }];
        let floor = HIGH.raised();
        assert_eq!(ask(&rows, &slot(None, 5, HIGH), 3), Decision::Refuse(Refused::Outbid { floor }));
        assert_eq!(ask(&rows, &slot(None, 5, floor), 3), take(5));
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 1), Decision::Known { id: 1 }, "asked for again");
        assert_eq!(
            ask(&rows, &slot(None, 5, HIGH), 1),
            Decision::Refuse(Refused::Outbid { floor }),
            "for more"
        );
        let fixed = Slot { fees_are_fixed: true, ..slot(Some(5), 5, HIGH) };
        assert_eq!(ask(&rows, &fixed, 3), Decision::Refuse(Refused::Underpriced));
        assert_eq!(ask(&rows, &fixed, 1), Decision::Known { id: 1 }, "its own bytes are sent again");
    }

    /// Its fees cost its client nothing, and are as high as it liked.
    #[test]
    fn inv_13_what_no_node_ever_took_is_in_nobodys_way() {
        let fees = Fees::Dynamic { max_fee_per_gas: u128::MAX, max_priority_fee_per_gas: u128::MAX };
        let at = |word| [Row { fees, word, ..row(5, State::Vacant, 1) }, row(5, State::Vacant, 2)];
        let authorization = authorization(Some(5), false);
        for word in [Word::Dropped, Word::Unknown, Word::NonceTooLow, Word::Accepted] {
            let rows = at(Some(word));
            let answer = ask(&rows, &slot(None, 5, HIGH), 3);
            assert!(matches!(answer, Decision::Refuse(Refused::Outbid { .. })), "{word:?}: {answer:?}");
        }
        let rows = at(Some(Word::Refused));
        assert_eq!(
            ask(&rows, &slot(None, 5, LOW.raised()), 3),
            take(5),
            "it outbids the one that was dropped"
        );
        assert_eq!(ask(&rows[..1], &slot(None, 5, LOW), 3), take(5));
        assert_eq!(ask(&rows[..1], &authorization, 3), take(5));
        let kept = Decision::Refuse(Refused::NonceTaken { why: NotReplaced::MayBeMined });
        assert_eq!(ask(&rows, &authorization, 3), kept);
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 1), Decision::Known { id: 1 }, "asked for again");
    }

    #[test]
    fn inv_02_what_was_refused_and_is_asked_for_again_twice_is_one_payment() {
        let at = |word| [Row { word, ..row(5, State::Recorded, 1) }];
        for word in [Word::Resent, Word::Again] {
            assert_eq!(ask(&at(Some(word)), &slot(None, 5, LOW), 1), Decision::Known { id: 1 });
            assert_eq!(ask(&at(Some(word)), &slot(None, 5, LOW), 2), take(6), "another intent");
        }
        for word in [None, Some(Word::Accepted), Some(Word::Unknown)] {
            assert_eq!(ask(&at(word), &slot(None, 5, LOW), 1), take(6), "the same paid twice");
        }
    }

    #[test]
    fn inv_12_a_client_has_so_many_refused_at_a_nonce_and_no_more() {
        let refused = |is_own| Row { is_own, word: Some(Word::Refused), ..row(5, State::Vacant, 1) };
        let full = [refused(true); 8];
        let ask = |rows: &[Row], intent, replace| bid(rows, &slot(Some(5), 5, LOW), intent, replace);
        assert_eq!(ask(&full, 3, Replace::Never), Decision::Refuse(Refused::NoNodeTakesIt));
        assert_eq!(ask(&full[1..], 3, Replace::Never), take(5));
        assert_eq!(ask(&[refused(false); 8], 3, Replace::Never), take(5), "another client's");
        assert_eq!(ask(&full, 1, Replace::Never), Decision::Known { id: 1 }, "asked for again");
        assert_eq!(ask(&full, 3, Replace::Any), take(5), "an operator's order");
        // One more every ten minutes: whoever has funds by then gets on without an operator.
        for (seconds, gets_on) in [(599, false), (600, true)] {
            let (slot, intent) = (slot(Some(5), 5, LOW), B256::repeat_byte(3));
            let (replace, now) = (Replace::Never, Timestamp::from_millis(seconds * 1000));
            let bid = Bid { slot, intent, replace, is_sent: true, accepted: 0, now };
            assert_eq!(decide(&full, &bid, 8) == take(5), gets_on, "{seconds}");
        }
        let live = Row { is_own: true, ..row(5, State::Recorded, 9) };
        let over = [&full[..], &[live]].concat();
        let replaced = bid(&over, &slot(Some(5), 5, HIGH), 3, Replace::Own);
        assert_eq!(replaced, Decision::Take { nonce: 5, replaces: Some(9) }, "what stands there is its own");
    }

    /// Its own bytes would be refused for ever, by what came to life again beside it.
    #[test]
    fn inv_13_what_no_longer_outbids_is_not_sent_again_as_it_is() {
        let refused = |intent, word| Row { word: Some(word), ..row(5, State::Vacant, intent) };
        let alone = [refused(1, Word::Refused)];
        let beside = [refused(1, Word::Refused), refused(2, Word::Accepted)];
        let floor = LOW.raised();
        for wanted in [None, Some(5)] {
            let slot = slot(wanted, 5, LOW);
            assert_eq!(ask(&alone, &slot, 1), Decision::Known { id: 1 });
            assert_eq!(ask(&beside, &slot, 1), Decision::Refuse(Refused::Outbid { floor }));
        }
    }

    #[test]
    fn a_payload_whose_nonce_went_to_another_is_not_sent_again() {
        let fixed = slot(Some(5), 5, LOW);
        for (other, mined) in [(State::Reserved, 5), (State::Recorded, 5), (State::Final, 6)] {
            let rows = [row(5, State::Vacant, 1), Row { fees: HIGH, ..row(5, other, 2) }];
            let fixed = Slot { mined, ..fixed };
            let answer = ask(&rows, &fixed, 1);
            assert!(matches!(answer, Decision::Refuse(Refused::NonceTaken { .. })), "{other:?}: {answer:?}");
        }
        let rows = [row(5, State::Replaced, 1), row(5, State::Final, 2)];
        let settled = Refused::NonceTaken { why: NotReplaced::Settled };
        assert_eq!(ask(&rows, &fixed, 1), Decision::Refuse(settled));
        assert_eq!(ask(&rows, &fixed, 2), Decision::Known { id: 2 });
    }

    #[test]
    fn inv_11_a_mined_count_that_jumps_needs_more_than_one_nodes_word() {
        let rows = [row(5, State::Final, 1), row(6, State::Recorded, 2)];
        assert_eq!(ask(&rows, &slot(None, 23, LOW), 3), take(23), "somebody else sent sixteen");
        let jump = Decision::Refuse(Refused::MinedJump { mined: 24, known: 7 });
        for wanted in [None, Some(24)] {
            assert_eq!(ask(&rows, &slot(wanted, 24, LOW), 3), jump);
        }
        assert_eq!(
            ask(&rows, &slot(Some(6), 24, LOW), 2),
            Decision::Known { id: 2 },
            "a repeat signs nothing"
        );
        let bid = |accepted, mined| {
            let bid = Bid {
                slot: slot(None, mined, LOW),
                intent: B256::repeat_byte(3),
                replace: Replace::Never,
                is_sent: true,
                accepted,
                now: NOW,
            };
            decide(&rows, &bid, 8)
        };
        assert_eq!(bid(24, 24), take(24), "an operator said so");
        assert_eq!(bid(24, 41), Decision::Refuse(Refused::MinedJump { mined: 41, known: 24 }));
        assert_eq!(ask(&[], &slot(None, 1000, LOW), 1), take(1000), "an account with a history of its own");
    }

    #[test]
    fn gaps_are_free_nonces_below_recorded_ones() {
        let rows = [
            row(5, State::Final, 1),
            row(7, State::Vacant, 2),
            row(8, State::Recorded, 3),
            row(9, State::Reserved, 4),
            row(11, State::Recorded, 5),
            row(13, State::Reserved, 6),
        ];
        assert_eq!(gaps(&rows, 0), [6, 7, 10]);
        assert_eq!(gaps(&rows, 8), [10]);
        assert!(gaps(&rows, 12).is_empty());
        assert!(gaps(&[row(9, State::Reserved, 1)], 5).is_empty(), "it may fail itself");
        assert_eq!(gaps(&[row(9999, State::Recorded, 1)], 5).len(), MAX_GAPS + 1);
    }

    #[test]
    fn inv_13_as_many_open_nonces_as_there_may_be_do_not_keep_a_gap_below_them_open() {
        let rows: Vec<Row> = (1..9).map(|n| row(n, State::Recorded, 1)).collect();
        assert_eq!(ask(&rows, &slot(None, 0, LOW), 2), take(0));
        assert_eq!(ask(&rows, &slot(Some(0), 0, LOW), 2), take(0));
        assert_eq!(ask(&rows, &slot(None, 1, LOW), 2), Decision::Refuse(Refused::TooManyOpen));
    }

    #[test]
    fn another_payload_replaces_one_that_is_recorded_where_the_rule_and_the_fees_allow_it() {
        let own = Row { is_own: true, ..row(5, State::Recorded, 1) };
        let rows = [own, row(6, State::Recorded, 2)];
        let ask = |nonce, fees, replace| bid(&rows, &slot(Some(nonce), 5, fees), 3, replace);
        let kept = |why| Decision::Refuse(Refused::NonceTaken { why });
        let replaced = |nonce, id| Decision::Take { nonce, replaces: Some(id) };
        assert_eq!(ask(5, HIGH, Replace::Never), kept(NotReplaced::NotAllowed));
        assert_eq!(ask(6, HIGH, Replace::Own), kept(NotReplaced::Anothers));
        assert_eq!(ask(5, HIGH, Replace::Own), replaced(5, 1));
        assert_eq!(ask(6, HIGH, Replace::Any), replaced(6, 2));
        let floor = LOW.raised();
        assert_eq!(ask(5, LOW, Replace::Own), Decision::Refuse(Refused::Outbid { floor }));
        let fixed = Slot { fees_are_fixed: true, ..slot(Some(5), 5, LOW) };
        assert_eq!(bid(&rows, &fixed, 3, Replace::Own), Decision::Refuse(Refused::Underpriced));
        // Nothing that is mined, or only being signed, is replaced.
        let mined = bid(&rows, &slot(Some(5), 6, HIGH), 3, Replace::Own);
        assert_eq!(mined, Decision::Refuse(Refused::NonceTooLow { mined: 6 }));
        let signing = [Row { state: State::Reserved, ..own }];
        let waits = bid(&signing, &slot(Some(5), 5, HIGH), 3, Replace::Own);
        assert_eq!(waits, Decision::WaitForSignature);
    }

    #[test]
    fn what_was_outbid_holds_its_nonce_and_counts_for_the_floor() {
        let rows = [
            Row { is_own: true, ..row(5, State::Outbid, 1) },
            Row { is_own: true, fees: HIGH, ..row(5, State::Recorded, 2) },
        ];
        for rows in [rows, [rows[1], rows[0]]] {
            let answer = bid(&rows, &slot(Some(5), 5, LOW.raised()), 3, Replace::Own);
            assert_eq!(answer, Decision::Refuse(Refused::Outbid { floor: HIGH.raised() }));
            let answer = bid(&rows, &slot(Some(5), 5, HIGH.raised()), 3, Replace::Own);
            assert_eq!(answer, Decision::Take { nonce: 5, replaces: Some(2) });
            assert_eq!(bid(&rows, &slot(Some(5), 5, LOW), 1, Replace::Own), Decision::Known { id: 1 });
        }
        assert_eq!(ask(&rows[..1], &slot(None, 5, HIGH), 3), take(6));
    }

    #[test]
    fn inv_12_the_number_of_open_nonces_is_bounded() {
        let rows: Vec<Row> = (0..8).map(|n| row(n, State::Recorded, 1)).collect();
        assert_eq!(ask(&rows, &slot(None, 0, LOW), 2), Decision::Refuse(Refused::TooManyOpen));
        assert_eq!(ask(&rows, &slot(None, 1, LOW), 2), take(8));
        assert_eq!(
            ask(&rows, &slot(Some(3), 0, LOW), 1),
            Decision::Known { id: 1 },
            "a repeat opens nothing"
        );
        assert_eq!(ask(&rows, &slot(Some(9), 0, LOW), 2), Decision::Refuse(Refused::TooManyOpen), "at once");
        // Many refused payloads at one nonce are one open nonce, and it can be taken again.
        let refused: Vec<Row> = (0..20).map(|i| row(3, State::Vacant, i)).collect();
        assert_eq!(ask(&refused, &slot(None, 3, HIGH), 99), take(3));
        let full: Vec<Row> =
            (0..8).map(|n| row(n, if n == 3 { State::Vacant } else { State::Recorded }, 1)).collect();
        assert_eq!(ask(&full, &slot(None, 0, HIGH), 99), take(3));
    }

    fn fees() -> impl Strategy<Value = Fees> {
        (1_u128..400, 0_u128..50, prop::option::of(1_u128..40))
            .prop_map(|(max, tip, blob)| Fees::of(max, tip, blob))
    }

    /// What pools ask for, said once more: a tenth more, or all again where there are blobs. Of what was refused the blob
    /// fee does not count, and nothing where no node ever took it.
    fn outbids(fees: &Fees, intent: B256, other: &Row) -> bool {
        if (other.state, other.word) == (State::Vacant, Some(Word::Refused)) && other.intent != intent {
            return true;
        }
        let old = other.fees;
        let blob_fee = old.max_per_blob_gas().filter(|_| other.state != State::Vacant);
        let enough = |new: u128, old: u128| {
            let (of_old, of_new) = if blob_fee.is_some() { (2, 1) } else { (11, 10) };
            new.saturating_mul(of_new) >= old.saturating_mul(of_old)
        };
        let is_more = |new, old| new > old && enough(new, old);
        is_more(fees.max_per_gas(), old.max_per_gas())
            && is_more(fees.max_priority(), old.max_priority())
            // What has no blobs pays for none.
            && blob_fee.is_none_or(|old| fees.max_per_blob_gas().is_none_or(|new| is_more(new, old)))
    }

    /// One step of a life: a claim, or something that happens to a row.
    #[derive(Clone, Debug)]
    enum Step {
        Claim { wanted: Option<u64>, intent: u8, fees: Fees, fixed: bool, replace: Replace, is_sent: bool },
        Record(usize),
        Void(usize),
        Refuse(usize, Word),
        Mine,
    }

    fn replace() -> impl Strategy<Value = Replace> {
        prop_oneof![Just(Replace::Never), Just(Replace::Own), Just(Replace::Any)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (prop::option::of(0_u64..6), 0_u8..5, fees(), any::<bool>(), replace(), any::<bool>()).prop_map(
                |(wanted, intent, fees, fixed, replace, is_sent)| {
                    Step::Claim { wanted, intent, fees, fixed, replace, is_sent }
                }
            ),
            3 => any::<prop::sample::Index>().prop_map(|i| Step::Record(i.index(64))),
            1 => any::<prop::sample::Index>().prop_map(|i| Step::Void(i.index(64))),
            2 => (any::<prop::sample::Index>(), prop_oneof![Just(Word::Refused), Just(Word::Dropped)])
                .prop_map(|(i, word)| Step::Refuse(i.index(64), word)),
            1 => Just(Step::Mine),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn inv_02_one_payload_is_live_at_a_nonce_and_every_other_there_was_outbid(
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let (mut rows, mut mined): (Vec<Row>, u64) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Claim { wanted, intent, fees, fixed, replace, is_sent } => {
                        let slot = Slot { fees_are_fixed: fixed, ..slot(wanted, mined, fees) };
                        // The intents 0 and 1 are one client's, the others another's.
                        let mine = |row: &Row| (row.intent[0] < 2) == (intent < 2);
                        let seen = rows.iter().filter(|row| row.state != State::Void);
                        let seen: Vec<Row> = seen.map(|row| Row { is_own: mine(row), ..*row }).collect();
                        let intent = B256::repeat_byte(intent);
                        let bid = Bid { slot, intent, replace, is_sent, accepted: 0, now: NOW };
                        let decision = decide(&seen, &bid, 8);
                        if matches!(decision, Decision::Refuse(Refused::Outbid { .. } | Refused::Underpriced)) {
                            let there = rows.iter().filter(|row| wanted.is_none_or(|wanted| row.nonce == wanted));
                            let mut signed = there.filter(|row| row.state.is_signed() && !row.state.is_settled());
                            prop_assert!(signed.any(|row| !outbids(&fees, intent, row)), "{:?} outbids all that is there", fees);
                        }
                        if let Decision::Take { nonce, replaces } = decision {
                            prop_assert!(nonce >= mined, "below what is mined");
                            prop_assert!(wanted.is_none_or(|wanted| wanted == nonce), "not the nonce that was asked");
                            let live = |nonce: u64| rows.iter().position(|row| row.nonce == nonce && row.state.is_live());
                            // What takes another's place opens no nonce, whatever is missing below.
                            for below in (mined..nonce).filter(|_| replaces.is_none()) {
                                prop_assert!(live(below).is_some(), "a gap at {} below {}", below, nonce);
                            }
                            for other in rows.iter().filter(|row| row.nonce == nonce && row.state.is_signed()) {
                                prop_assert!(outbids(&fees, intent, other), "{:?} does not outbid {:?}", fees, other);
                            }
                            prop_assert_eq!(live(nonce).map(|at| rows[at].id), replaces);
                            if let Some(at) = live(nonce) {
                                let is_allowed = replace == Replace::Any || (replace == Replace::Own && mine(&rows[at]));
                                prop_assert!(is_allowed, "another's was replaced");
                                let have_blobs = [fees, rows[at].fees].map(|fees| fees.max_per_blob_gas().is_some());
                                let is_free = replace == Replace::Any || !is_sent;
                                prop_assert!(is_free || have_blobs[0] == have_blobs[1], "another pool's was replaced");
                                prop_assert_eq!(rows[at].state, State::Recorded);
                                rows[at].state = State::Outbid;
                            }
                            let id = i64::try_from(rows.len()).unwrap();
                            let state = State::Reserved;
                            let (word, is_own, is_authorization) = (None, false, false);
                            let at = NOW;
                            rows.push(Row { id, nonce, at, state, intent, fees, word, is_own, is_authorization });
                        }
                    }
                    Step::Record(i) => {
                        if rows.get(i).is_some_and(|row| row.state == State::Reserved) {
                            turn(&mut rows, i, State::Recorded);
                        }
                    }
                    Step::Void(i) => turn(&mut rows, i, State::Void),
                    Step::Refuse(i, word) => {
                        if let Some(row) = rows.get_mut(i).filter(|row| row.nonce >= mined && row.state.is_signed()) {
                            row.word = Some(word.after(row.word));
                            turn(&mut rows, i, State::Vacant);
                        }
                    }
                    Step::Mine => {
                        let next = |row: &&Row| row.nonce == mined && row.state.is_signed() && !row.state.is_settled();
                        if let Some(row) = rows.iter().rev().find(next).copied() {
                            let others = others(&rows, row.id);
                            let end = Final::Mined { block: 1, succeeded: true };
                            for (id, to) in settle((row.id, row.state), end, &others) {
                                rows[usize::try_from(id).unwrap()].state = to;
                            }
                            mined = mined.saturating_add(1);
                        }
                    }
                }
                for row in &rows {
                    let at = rows.iter().filter(|other| other.nonce == row.nonce);
                    let live = at.filter(|other| other.state.is_live() || other.state == State::Final).count();
                    prop_assert!(live <= 1, "two live payloads at {}", row.nonce);
                    prop_assert!(row.state != State::Outbid || live == 1, "outbid by nothing at {}", row.nonce);
                }
            }
        }
    }

    fn others(rows: &[Row], id: i64) -> Vec<(i64, State)> {
        let nonce = rows[usize::try_from(id).unwrap()].nonce;
        let others = rows.iter().filter(|row| row.id != id && row.nonce == nonce);
        others.map(|row| (row.id, row.state)).collect()
    }

    /// As the writer does it: to void or vacant, and what was outbid is live again.
    fn turn(rows: &mut [Row], at: usize, to: State) {
        if !rows.get(at).is_some_and(|row| row.state.may_become(to)) {
            return;
        }
        rows[at].state = to;
        if let Some(heir) = heir(to, &others(rows, rows[at].id)) {
            rows[usize::try_from(heir).unwrap()].state = State::Recorded;
        }
    }
}
