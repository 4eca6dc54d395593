//! Which nonce a payload gets, or why it gets none. Pure: rows and a bid in, a decision out.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use crate::ledger::life::State;
use crate::transaction::{Fees, Slot};

/// A row of the ledger at one nonce of the account that claims; void ones have no say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Row {
    pub id: i64,
    pub nonce: u64,
    pub state: State,
    pub intent: B256,
    pub fees: Fees,
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Decision {
    Take {
        nonce: u64,
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
    NonceTaken,
    NonceTooLow {
        mined: u64,
    },
    TooManyOpen,
    /// EIP-2681: a nonce is less than 2^64 - 1; ours also fits a signed 64-bit column.
    NonceTooHigh,
}

/// `rows` are this account's on this chain that are not void: those from the highest settled nonce on or from the
/// mined count on, whichever is higher, and those at the wanted nonce.
pub(in crate::ledger) fn decide(rows: &[Row], slot: &Slot, intent: B256, max_open: u32) -> Decision {
    let nonces = Nonces::of(rows, slot.mined);
    match slot.wanted {
        Some(wanted) => repeated(rows, &nonces, wanted, intent)
            .unwrap_or_else(|| explicit(&nonces, slot, wanted, max_open)),
        None => lowest_vacant(&nonces, slot, max_open),
    }
}

/// The nonce that an account's next transaction without a nonce of its own would get.
pub(in crate::ledger) fn next(rows: &[Row], mined: u64) -> u64 {
    Nonces::of(rows, mined).lowest_free()
}

/// An account's rows by their nonces: read once, so that a decision is linear in them.
struct Nonces<'a> {
    /// The lowest nonce that can still be used. A node that lags, or lies, says less than what is known to be settled.
    first: u64,
    places: BTreeMap<u64, Place<'a>>,
}

/// What stands at one nonce.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    live: Option<&'a Row>,
    is_settled: bool,
    /// The least that outbids every payload that was recorded here and may still be mined.
    floor: Option<Fees>,
}

impl<'a> Nonces<'a> {
    fn of(rows: &'a [Row], mined: u64) -> Self {
        let (mut first, mut places) = (mined, BTreeMap::new());
        for row in rows {
            let place: &mut Place<'a> = places.entry(row.nonce).or_default();
            if row.state.is_settled() {
                place.is_settled = true;
                first = first.max(row.nonce.saturating_add(1));
            } else if row.state.is_signed() {
                let raised = row.fees.raised();
                place.floor = Some(place.floor.map_or(raised, |floor| raised.at_least(&floor)));
            }
            if row.state.is_live() {
                place.live = Some(row);
            }
        }
        Self { first, places }
    }

    fn at(&self, nonce: u64) -> Place<'a> {
        self.places.get(&nonce).copied().unwrap_or_default()
    }

    fn lowest_free(&self) -> u64 {
        let mut nonce = self.first;
        for (taken, _) in self.places.range(nonce..).filter(|(_, place)| place.live.is_some()) {
            if *taken != nonce {
                break;
            }
            nonce = nonce.saturating_add(1);
        }
        nonce
    }

    /// The lowest open nonce below `wanted` that is not recorded, and what is there.
    fn missing_below(&self, wanted: u64) -> Option<(u64, Place<'a>)> {
        let mut nonce = self.first;
        while nonce < wanted {
            let place = self.at(nonce);
            if place.live.is_none_or(|row| row.state == State::Reserved) {
                return Some((nonce, place));
            }
            nonce = nonce.saturating_add(1);
        }
        None
    }

    /// Whether `nonce` would be one open nonce more than an account may have. A refused payload keeps its nonce open,
    /// and another payload at that nonce opens none.
    fn opens_too_many(&self, nonce: u64, max_open: u32) -> bool {
        let is_open = |place: &Place<'_>| !place.is_settled;
        let open = self.places.range(self.first..).filter(|(_, place)| is_open(place)).count();
        let is_another = !self.places.get(&nonce).is_some_and(is_open);
        is_another && open >= usize::try_from(max_open).unwrap_or(usize::MAX)
    }
}

impl Place<'_> {
    const fn is_taken(&self) -> bool {
        self.live.is_some() || self.is_settled
    }
}

/// The same intent at the same explicit nonce is the same transaction, however often it is asked for.
fn repeated(rows: &[Row], nonces: &Nonces<'_>, wanted: u64, intent: B256) -> Option<Decision> {
    let same =
        |state| rows.iter().find(|row| row.nonce == wanted && row.intent == intent && row.state == state);
    if same(State::Reserved).is_some() {
        return Some(Decision::WaitForSignature);
    }
    let known = same(State::Recorded).or_else(|| same(State::Final));
    // What a node refused is sent again, unless its nonce went to another payload meanwhile.
    let known = known.or_else(|| same(State::Vacant).filter(|_| !nonces.at(wanted).is_taken()));
    known.map(|row| Decision::Known { id: row.id })
}

fn explicit(nonces: &Nonces<'_>, slot: &Slot, wanted: u64, max_open: u32) -> Decision {
    if i64::try_from(wanted).is_err() {
        return Decision::Refuse(Refused::NonceTooHigh);
    }
    if nonces.at(wanted).is_taken() {
        return Decision::Refuse(Refused::NonceTaken);
    }
    if wanted < nonces.first {
        return Decision::Refuse(Refused::NonceTooLow { mined: nonces.first });
    }
    if nonces.opens_too_many(wanted, max_open) {
        return Decision::Refuse(Refused::TooManyOpen);
    }
    // Whoever names nonces names an order: nothing is signed above a nonce that may never be filled.
    match nonces.missing_below(wanted) {
        Some((_, Place { live: Some(_), .. })) => Decision::WaitForSignature,
        Some((expected, _)) => Decision::WaitForGap { expected },
        None => take(nonces, slot, wanted),
    }
}

/// Payloads without a nonce are signed side by side. One that fails leaves its nonce free below the others, where
/// the next payload takes it, or the filling of gaps does.
fn lowest_vacant(nonces: &Nonces<'_>, slot: &Slot, max_open: u32) -> Decision {
    let nonce = nonces.lowest_free();
    if i64::try_from(nonce).is_err() {
        return Decision::Refuse(Refused::NonceTooHigh);
    }
    if nonces.opens_too_many(nonce, max_open) {
        return Decision::Refuse(Refused::TooManyOpen);
    }
    take(nonces, slot, nonce)
}

/// Takes a nonce that is free, if the fees outbid every payload that was ever recorded there.
fn take(nonces: &Nonces<'_>, slot: &Slot, nonce: u64) -> Decision {
    match nonces.at(nonce).floor {
        Some(floor) if slot.fees.at_least(&floor) != slot.fees => Decision::Refuse(if slot.fees_are_fixed {
            Refused::Underpriced
        } else {
            Refused::Outbid { floor }
        }),
        _ => Decision::Take { nonce },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: Fees = Fees::Dynamic { max_fee_per_gas: 100, max_priority_fee_per_gas: 10 };
    const HIGH: Fees = Fees::Dynamic { max_fee_per_gas: 200, max_priority_fee_per_gas: 20 };

    fn row(nonce: u64, state: State, intent: u8) -> Row {
        Row { id: i64::from(intent), nonce, state, intent: B256::repeat_byte(intent), fees: LOW }
    }

    fn slot(wanted: Option<u64>, mined: u64, fees: Fees) -> Slot {
        Slot { chain: 1, wanted, mined, fees, fees_are_fixed: false }
    }

    fn ask(rows: &[Row], slot: &Slot, intent: u8) -> Decision {
        decide(rows, slot, B256::repeat_byte(intent), 8)
    }

    #[test]
    fn the_lowest_vacant_nonce_is_taken_first() {
        assert_eq!(ask(&[], &slot(None, 5, LOW), 1), Decision::Take { nonce: 5 });
        let rows = [row(5, State::Recorded, 1), row(7, State::Recorded, 2)];
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 3), Decision::Take { nonce: 6 });
        assert_eq!(ask(&rows, &slot(None, 0, LOW), 3), Decision::Take { nonce: 0 });
        let settled = [row(9, State::Final, 1)];
        assert_eq!(ask(&settled, &slot(None, 3, LOW), 2), Decision::Take { nonce: 10 }, "the node lags");
    }

    #[test]
    fn an_accounts_nonces_are_signed_side_by_side_and_explicit_ones_in_their_order() {
        let rows = [row(5, State::Reserved, 1), row(6, State::Reserved, 2)];
        assert_eq!(ask(&rows, &slot(None, 5, LOW), 3), Decision::Take { nonce: 7 });
        assert_eq!(ask(&rows[1..], &slot(None, 5, LOW), 3), Decision::Take { nonce: 5 }, "void meanwhile");
        assert_eq!(ask(&rows, &slot(Some(7), 5, LOW), 3), Decision::WaitForSignature);
        assert_eq!(ask(&rows[1..], &slot(Some(7), 5, LOW), 3), Decision::WaitForGap { expected: 5 });
    }

    #[test]
    fn an_explicit_nonce_is_honoured_and_idempotent() {
        let rows = [row(5, State::Recorded, 1)];
        assert_eq!(ask(&rows, &slot(Some(6), 5, LOW), 2), Decision::Take { nonce: 6 });
        assert_eq!(ask(&rows, &slot(Some(7), 5, LOW), 2), Decision::WaitForGap { expected: 6 });
        assert_eq!(ask(&rows, &slot(Some(5), 5, LOW), 1), Decision::Known { id: 1 });
        assert_eq!(ask(&rows, &slot(Some(5), 6, LOW), 1), Decision::Known { id: 1 }, "mined meanwhile");
        assert_eq!(ask(&rows, &slot(Some(5), 5, HIGH), 2), Decision::Refuse(Refused::NonceTaken));
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
        assert_eq!(ask(&rows, &slot(None, 5, floor), 3), Decision::Take { nonce: 5 });
        let fixed = Slot { fees_are_fixed: true, ..slot(Some(5), 5, HIGH) };
        assert_eq!(ask(&rows, &fixed, 3), Decision::Refuse(Refused::Underpriced));
        assert_eq!(ask(&rows, &fixed, 1), Decision::Known { id: 1 }, "its own bytes are sent again");
    }

    #[test]
    fn a_payload_whose_nonce_went_to_another_is_not_sent_again() {
        let fixed = slot(Some(5), 5, LOW);
        for (other, mined) in [(State::Reserved, 5), (State::Recorded, 5), (State::Final, 6)] {
            let rows = [row(5, State::Vacant, 1), Row { fees: HIGH, ..row(5, other, 2) }];
            let fixed = Slot { mined, ..fixed };
            assert_eq!(ask(&rows, &fixed, 1), Decision::Refuse(Refused::NonceTaken), "{other:?}");
        }
        let rows = [row(5, State::Replaced, 1), row(5, State::Final, 2)];
        assert_eq!(ask(&rows, &fixed, 1), Decision::Refuse(Refused::NonceTaken));
        assert_eq!(ask(&rows, &fixed, 2), Decision::Known { id: 2 });
    }

    #[test]
    fn inv_12_the_number_of_open_nonces_is_bounded() {
        let rows: Vec<Row> = (0..8).map(|n| row(n, State::Recorded, 1)).collect();
        assert_eq!(ask(&rows, &slot(None, 0, LOW), 2), Decision::Refuse(Refused::TooManyOpen));
        assert_eq!(ask(&rows, &slot(None, 1, LOW), 2), Decision::Take { nonce: 8 });
        assert_eq!(
            ask(&rows, &slot(Some(3), 0, LOW), 1),
            Decision::Known { id: 1 },
            "a repeat opens nothing"
        );
        assert_eq!(ask(&rows, &slot(Some(9), 0, LOW), 2), Decision::Refuse(Refused::TooManyOpen), "at once");
        // Many refused payloads at one nonce are one open nonce, and it can be taken again.
        let refused: Vec<Row> = (0..20).map(|i| row(3, State::Vacant, i)).collect();
        assert_eq!(ask(&refused, &slot(None, 3, HIGH), 99), Decision::Take { nonce: 3 });
        let full: Vec<Row> =
            (0..8).map(|n| row(n, if n == 3 { State::Vacant } else { State::Recorded }, 1)).collect();
        assert_eq!(ask(&full, &slot(None, 0, HIGH), 99), Decision::Take { nonce: 3 });
    }

    fn fees() -> impl Strategy<Value = Fees> {
        (1_u128..400, 0_u128..50)
            .prop_map(|(max, tip)| Fees::Dynamic { max_fee_per_gas: max, max_priority_fee_per_gas: tip })
    }

    /// One step of a life: a claim, or something that happens to a row.
    #[derive(Clone, Debug)]
    enum Step {
        Claim { wanted: Option<u64>, intent: u8, fees: Fees, fixed: bool },
        Record(usize),
        Void(usize),
        Refuse(usize),
        Mine,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (prop::option::of(0_u64..6), 0_u8..5, fees(), any::<bool>())
                .prop_map(|(wanted, intent, fees, fixed)| Step::Claim { wanted, intent, fees, fixed }),
            3 => any::<prop::sample::Index>().prop_map(|i| Step::Record(i.index(64))),
            1 => any::<prop::sample::Index>().prop_map(|i| Step::Void(i.index(64))),
            2 => any::<prop::sample::Index>().prop_map(|i| Step::Refuse(i.index(64))),
            1 => Just(Step::Mine),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn inv_02_one_payload_is_live_at_a_nonce_and_a_second_only_outbids_a_vacant_one(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let (mut rows, mut mined): (Vec<Row>, u64) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Claim { wanted, intent, fees, fixed } => {
                        let slot = Slot { chain: 1, wanted, mined, fees, fees_are_fixed: fixed };
                        let intent = B256::repeat_byte(intent);
                        if let Decision::Take { nonce } = decide(&rows, &slot, intent, 8) {
                            prop_assert!(nonce >= mined, "below what is mined");
                            prop_assert!(wanted.is_none_or(|wanted| wanted == nonce), "not the nonce that was asked");
                            let is_live = |nonce| rows.iter().any(|row| row.nonce == nonce && row.state.is_live());
                            prop_assert!(!is_live(nonce), "two live payloads at {}", nonce);
                            for below in mined..nonce {
                                prop_assert!(is_live(below), "a gap at {} below {}", below, nonce);
                            }
                            for other in rows.iter().filter(|row| row.nonce == nonce) {
                                prop_assert!(fees.outbids(&other.fees), "does not outbid");
                            }
                            let id = i64::try_from(rows.len()).unwrap();
                            rows.push(Row { id, nonce, state: State::Reserved, intent, fees });
                        }
                    }
                    Step::Record(i) => {
                        if let Some(row) = rows.get_mut(i).filter(|row| row.state == State::Reserved) {
                            row.state = State::Recorded;
                        }
                    }
                    Step::Void(i) => {
                        if rows.get(i).is_some_and(|row| row.state == State::Reserved) {
                            rows.remove(i);
                        }
                    }
                    Step::Refuse(i) => {
                        if let Some(row) = rows.get_mut(i).filter(|row| row.state == State::Recorded && row.nonce >= mined) {
                            row.state = State::Vacant;
                        }
                    }
                    Step::Mine => {
                        if let Some(row) = rows.iter_mut().find(|row| row.nonce == mined && row.state == State::Recorded) {
                            row.state = State::Final;
                            mined = mined.saturating_add(1);
                        }
                    }
                }
            }
        }
    }
}
