//! The tokens that hold one account's key: which is asked first, and which when that one fails.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::Address;

use crate::config::Order;
use crate::signer::link::Link;
use crate::transaction::AccountKey;

/// Where one account's key is.
#[derive(Debug)]
pub(super) struct Group {
    /// By which all of its tokens' signatures are proved.
    key: AccountKey,
    /// Link and the key's number there, the primary first.
    seats: Vec<(usize, u16)>,
    order: Order,
    turn: AtomicUsize,
}

impl Group {
    pub(super) const fn new(account: Address, order: Order) -> Self {
        let key = AccountKey::new(account);
        Self { key, seats: Vec::new(), order, turn: AtomicUsize::new(0) }
    }

    pub(super) const fn key(&self) -> &AccountKey {
        &self.key
    }

    pub(super) fn add(&mut self, link: usize, key: u16) {
        self.seats.push((link, key));
    }

    pub(super) fn seats(&self) -> &[(usize, u16)] {
        &self.seats
    }

    /// The tokens in the order in which they are to be asked: those that are well first.
    pub(super) fn candidates<'a>(&self, links: &'a [Link]) -> Vec<(&'a Link, u16)> {
        let seat = |(link, key): &(usize, u16)| Some((links.get(*link)?, *key));
        let mut seats: Vec<_> = self.seats.iter().filter_map(seat).collect();
        if seats.len() > 1 {
            if self.order == Order::RoundRobin {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let middle = turn.checked_rem(seats.len()).unwrap_or(0);
                seats.rotate_left(middle);
            }
            seats.sort_by_key(|(link, _)| Reverse(link.is_well()));
        }
        seats
    }

    /// How many of its tokens share a request's time.
    pub(super) fn of_use(&self, links: &[Link]) -> usize {
        self.seats.iter().filter_map(|(link, _)| links.get(*link)).filter(|link| link.is_of_use()).count()
    }

    /// Whether another token than this one could sign now.
    pub(super) fn has_other(&self, links: &[Link], link: usize) -> bool {
        let mut others = self.seats.iter().filter(|(other, _)| *other != link);
        others.any(|(other, _)| links.get(*other).is_some_and(Link::is_well))
    }
}

/// Accounts with several tokens, of which no two are known to stand at different sites.
pub(super) fn at_one_site<'a>(
    accounts: impl Iterator<Item = (Address, Vec<Option<&'a str>>)>,
) -> Vec<Address> {
    let one = |sites: &[Option<&str>]| {
        let mut known = sites.iter().flatten();
        let first = known.next();
        sites.len() > 1 && known.all(|site| Some(site) == first)
    };
    accounts.filter(|(_, sites)| one(sites)).map(|(account, _)| account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_at_one_site_are_noticed() {
        let account = |byte| Address::repeat_byte(byte);
        let accounts = [
            (account(1), vec![Some("east")]),
            (account(2), vec![Some("east"), Some("east")]),
            (account(3), vec![Some("east"), Some("west")]),
            (account(4), vec![None, None]),
            (account(5), vec![Some("east"), None]),
            (account(6), vec![None, Some("east")]),
            (account(7), vec![None, Some("east"), Some("west")]),
        ];
        assert_eq!(at_one_site(accounts.into_iter()), [2, 4, 5, 6].map(account));
    }
}
