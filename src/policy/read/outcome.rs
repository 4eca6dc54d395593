//! `outcome` of a rule: how much a transaction may take from its account, and whether it may let others take.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use toml::{Spanned, Value};

use crate::policy::budget::Measure;
use crate::policy::outcome::OutcomeTest;
use crate::policy::read::File;
use crate::policy::read::names::Names;
use crate::policy::written::{Outcome, Text};

pub(super) fn read(
    file: &mut File<'_>,
    written: &Spanned<Outcome>,
    names: &Names<'_>,
    chain: Option<u64>,
) -> OutcomeTest {
    let Outcome { max_out, approvals } = written.get_ref();
    let mut test = OutcomeTest { ether: U256::ZERO, tokens: BTreeMap::new(), approvals: false };
    let mut has_ether = false;
    for most in max_out {
        match file.right(&most.span(), amount(most, names, chain)) {
            Some((None, ether)) if !has_ether => (test.ether, has_ether) = (ether, true),
            Some((Some((token, unit)), amount)) if !test.tokens.contains_key(&token) => {
                test.tokens.insert(token, (amount, unit));
            }
            Some(_) => file.wrong(&most.span(), "`max_out` names this twice"),
            None => {}
        }
    }
    match approvals.as_ref().map(|text| text.get_ref().as_str()) {
        None | Some("none") => {}
        Some("any") => test.approvals = true,
        Some(other) => {
            file.wrong(
                &written.span(),
                format_args!("approvals = \"{other}\": expected \"none\" or \"any\""),
            );
        }
    }
    test
}

/// An amount of ether, or of the one token of the rule's chain that has this symbol.
fn amount(
    written: &Text,
    names: &Names<'_>,
    chain: Option<u64>,
) -> Result<(Option<(Address, Measure)>, U256), String> {
    let text = written.get_ref().trim();
    let value = Value::String(text.to_owned());
    let symbol = text.split_once(char::is_whitespace).map(|(_, symbol)| symbol.trim()).unwrap_or_default();
    let is_meant = |of: Option<u64>| chain.is_none() || of == chain;
    let mut tokens = names.contracts.values().filter_map(|contract| {
        let unit = contract.unit.as_ref().filter(|unit| unit.symbol == symbol)?;
        is_meant(Some(contract.chain)).then_some((contract.address, unit))
    });
    match (tokens.next(), tokens.next()) {
        (None, _) => Measure::Wei.read(&value).map(|wei| (None, wei)),
        (Some((token, unit)), None) => {
            let unit = Measure::Token(unit.clone());
            unit.read(&value).map(|amount| (Some((token, unit)), amount))
        }
        (Some((one, _)), Some((other, _))) => Err(format!(
            "`{symbol}` is the symbol of {} and of {}: give one of them another",
            names.name(chain, one),
            names.name(chain, other)
        )),
    }
}
