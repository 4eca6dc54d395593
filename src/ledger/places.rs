//! An account's nonces, and what stands at each. Pure.

use alloy_primitives::B256;

use crate::ledger::core::Row;
use crate::ledger::life::{State, Word};
use crate::transaction::Fees;

/// An account's rows by their nonces: read once, so that a decision is linear in them.
pub(in crate::ledger) struct Nonces<'a> {
    /// The lowest nonce that can still be used. A node that lags, or lies, says less than what is known to be settled.
    pub first: u64,
    /// Lowest nonce first.
    places: Vec<(u64, Place<'a>)>,
}

/// What stands at one nonce.
#[derive(Clone, Copy, Default)]
pub(in crate::ledger) struct Place<'a> {
    pub live: Option<&'a Row>,
    pub is_settled: bool,
    /// The least that outbids every payload that was recorded here and may still be mined.
    pub floor: Option<Fees>,
    /// The least that outbids what a node took last that it was handed here, or may have, but for the intent that is asked for.
    rivals: Option<Fees>,
}

impl<'a> Nonces<'a> {
    /// `intent`: whose floors are asked for.
    pub fn of(rows: &'a [Row], mined: u64, intent: Option<B256>) -> Self {
        let mut sorted: Vec<&Row> = rows.iter().collect();
        // They come nearly in this order.
        sorted.sort_by_key(|row| row.nonce);
        let (mut first, mut places) = (mined, Vec::with_capacity(sorted.len()));
        for at_nonce in sorted.chunk_by(|one, other| one.nonce == other.nonce) {
            let mut place = Place::default();
            for row in at_nonce {
                place.add(row, intent);
            }
            let Some(nonce) = at_nonce.first().map(|row| row.nonce) else { continue };
            if place.is_settled {
                first = first.max(nonce.saturating_add(1));
            }
            places.push((nonce, place));
        }
        Self { first, places }
    }

    pub fn at(&self, nonce: u64) -> Place<'a> {
        let found = self.places.binary_search_by_key(&nonce, |(nonce, _)| *nonce);
        found.ok().and_then(|at| self.places.get(at)).map(|(_, place)| *place).unwrap_or_default()
    }

    pub fn lowest_free(&self) -> u64 {
        let mut nonce = self.first;
        let from = self.places.partition_point(|(below, _)| *below < nonce);
        for (taken, _) in self.places.iter().skip(from).filter(|(_, place)| place.live.is_some()) {
            if *taken != nonce {
                break;
            }
            nonce = nonce.saturating_add(1);
        }
        nonce
    }

    /// The nonce right behind the lowest that is free together with it.
    pub fn behind_lowest_free(&self) -> u64 {
        let mut nonce = self.lowest_free();
        let is_free = |nonce| self.at(nonce).live.is_none();
        while !(is_free(nonce) && is_free(nonce.saturating_add(1))) {
            nonce = nonce.saturating_add(1);
        }
        nonce.saturating_add(1)
    }

    /// The lowest open nonce below `wanted` that is not recorded, and what is there.
    pub fn missing_below(&self, wanted: u64) -> Option<(u64, Place<'a>)> {
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

    /// Whether `nonce` is further from the lowest open one than an account may have open. Payloads far above, where a
    /// node once said that the account was, take no room: it would have none until the chain comes there.
    pub fn opens_too_many(&self, nonce: u64, max_open: u32) -> bool {
        nonce.saturating_sub(self.first) >= u64::from(max_open)
    }
}

impl<'a> Place<'a> {
    fn add(&mut self, row: &'a Row, intent: Option<B256>) {
        if row.state.is_settled() {
            self.is_settled = true;
        } else if row.state.is_signed() {
            // The same intent is not signed anew for what it paid before: it is sent again, or is what it was.
            let word = if intent == Some(row.intent) { None } else { row.word };
            let least = least_over(&row.fees, row.state, word);
            let raise =
                |to: Option<Fees>| least.into_iter().chain(to).reduce(|one, other| one.highest(&other));
            self.floor = raise(self.floor);
            if intent != Some(row.intent) && !row.word.is_some_and(Word::is_refusal) {
                self.rivals = raise(self.rivals);
            }
        }
        // What was outbid holds its nonce as well; the one that outbid it has the say.
        if row.state.is_live() || (row.state == State::Outbid && self.live.is_none()) {
            self.live = Some(row);
        }
    }

    /// Whether our nodes may take what was signed for these fees, whatever else was signed here.
    pub fn is_over_rivals(&self, fees: &Fees) -> bool {
        self.rivals.is_none_or(|rivals| fees.at_least(&rivals) == *fees)
    }

    pub const fn is_taken(&self) -> bool {
        self.live.is_some() || self.is_settled
    }
}

/// The least that outbids a signed payload; nothing where none has to. What no node ever took is in no pool, and may say
/// any fees, which cost its client nothing: were it in the way of what comes, an account would stand still, or pay what
/// another client wrote. What was dropped may be in pools that we do not see; its blob fee is no bound all the same, or an
/// account that sends blobs would have to pay more with every refusal.
pub(in crate::ledger) fn least_over(fees: &Fees, state: State, word: Option<Word>) -> Option<Fees> {
    match state {
        _ if is_nowhere(state, word) => None,
        State::Vacant => Some(Fees::of(fees.max_per_gas(), fees.max_priority(), None).raised()),
        _ => Some(fees.raised()),
    }
}

/// Whether no node ever took a payload: each that it was handed to refused it for good, each time, or for what it is.
pub(in crate::ledger) fn is_nowhere(state: State, word: Option<Word>) -> bool {
    state == State::Vacant && matches!(word, Some(Word::Refused | Word::Invalid))
}
