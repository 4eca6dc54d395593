//! `[contracts]`: labels for addresses, with what is known of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::abi::Abi;
use crate::policy::amount::Unit;
use crate::policy::facts::Contract;
use crate::policy::load::Beside;
use crate::policy::read::names::{Names, checksummed};
use crate::policy::read::{File, budget};
use crate::policy::spend::Asset;
use crate::policy::written::{self, Text};

pub(super) fn read(
    file: &mut File<'_>,
    written: &BTreeMap<Text, written::Contract>,
    names: &mut Names<'_>,
    beside: &impl Fn(Beside<'_>) -> Result<String, String>,
) {
    for (label, contract) in written {
        let free = names.label(file, label);
        let address = file.right(&contract.address.span(), checksummed(contract.address.get_ref()));
        let abi = contract.abi.as_ref().map(|name| abi(file, name, names, beside));
        let abi = abi.flatten();
        let unit = unit(file, contract);
        let chain = *contract.chain.get_ref();
        let underlying = contract.underlying.as_ref().and_then(|underlying| {
            let found = names.written_at(underlying.get_ref(), chain);
            file.right(&underlying.span(), found)
        });
        let spends = budget::spends(file, (label, &contract.spends), abi.as_ref(), underlying);
        let is_used = spends.iter().any(|spend| matches!(spend.asset, Asset::Underlying(_)));
        if let Some(underlying) = contract.underlying.as_ref().filter(|_| !is_used) {
            let what = "`underlying` goes with an `abi` whose calls move it (erc4626, compound-v3-comet), or with `spends` that name it";
            file.wrong(&underlying.span(), what);
        }
        let Some(address) = address else { continue };
        if let Some(other) = names.book.contracts.get(&(chain, address)) {
            let what = format!("`{}` is this address already; one address has one label", other.label);
            file.wrong(&contract.address.span(), what);
            continue;
        }
        // Also after a mistake above: so that rules that use the label do not all seem wrong.
        if free {
            let contract = Arc::new(Contract {
                label: label.get_ref().clone(),
                chain,
                address,
                abi,
                unit,
                spends,
                place: file.place(&label.span()),
            });
            names.book.insert(Arc::clone(&contract));
            names.contracts.insert(label.get_ref().clone(), contract);
        }
    }
}

/// Notes which labels there are: a contract may speak of one that stands behind it.
pub(super) fn note(written: &BTreeMap<Text, written::Contract>, names: &mut Names<'_>) {
    for (label, contract) in written {
        if let Ok(address) = checksummed(contract.address.get_ref()) {
            names.written.insert(label.get_ref().clone(), (*contract.chain.get_ref(), address));
        }
    }
}

fn abi(
    file: &mut File<'_>,
    name: &Text,
    names: &mut Names<'_>,
    beside: &impl Fn(Beside<'_>) -> Result<String, String>,
) -> Option<Arc<Abi>> {
    let text = file.right(&name.span(), beside(Beside::Abi(name.get_ref())))?;
    let parsed = Abi::parse(&text).map_err(|e| format!("ABI `{}`: {e}", name.get_ref()));
    let abi = file.right(&name.span(), parsed)?;
    names.abis.insert(name.get_ref().clone(), abi.json().to_owned());
    Some(Arc::new(abi))
}

fn unit(file: &mut File<'_>, contract: &written::Contract) -> Option<Unit> {
    let (symbol, decimals) = match (&contract.symbol, &contract.decimals) {
        (Some(symbol), Some(decimals)) => (symbol, decimals),
        (Some(symbol), None) => {
            file.wrong(&symbol.span(), "`symbol` needs `decimals`: amounts are written with both");
            return None;
        }
        (None, Some(decimals)) => {
            file.wrong(&decimals.span(), "`decimals` needs `symbol`: amounts are written with both");
            return None;
        }
        (None, None) => return None,
    };
    let name = symbol.get_ref();
    if name.is_empty() || name.len() > 16 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
        file.wrong(&symbol.span(), "a symbol has 1 to 16 letters, digits or `.`");
        return None;
    }
    if matches!(name.to_ascii_lowercase().as_str(), "wei" | "gwei" | "ether" | "any") {
        file.wrong(&symbol.span(), format_args!("`{name}` has a meaning of its own in amounts"));
        return None;
    }
    if *decimals.get_ref() > 36 {
        file.wrong(&decimals.span(), "`decimals` is at most 36");
        return None;
    }
    Some(Unit { symbol: name.clone(), decimals: *decimals.get_ref() })
}
