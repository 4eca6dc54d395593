//! `[[budget]]`, and `spends` of `[contracts]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_dyn_abi::DynSolType;
use alloy_primitives::keccak256;
use toml::Spanned;

use crate::config::{Client, units};
use crate::policy::abi::Abi;
use crate::policy::budget::{Asset, Budget, Limit, Measure, Spend, Sum};
use crate::policy::condition::{Called, Condition};
use crate::policy::facts::Contract;
use crate::policy::read::names::{Names, checksummed};
use crate::policy::read::{File, rule};
use crate::policy::rule::RuleKind;
use crate::policy::scope::Reach;
use crate::policy::written;

/// The shortest and the longest window: the ledger keeps what is spent for as long as the longest.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

pub(super) fn read(file: &mut File<'_>, written: &written::Budget, names: &mut Names<'_>) -> Option<Budget> {
    let id = names.id(file, &written.id);
    let window = file.right(&written.window.span(), units::duration(written.window.get_ref()));
    let window = window.filter(|window| {
        let fits = (SHORTEST..=LONGEST).contains(window);
        if !fits {
            file.wrong(&written.window.span(), "a budget's `window` is from 1 minute to 366 days");
        }
        fits
    });
    let reach = rule::read_reach(file, (&written.per, written.r#match.as_ref()), names);
    let (sum, unit) = sum(file, written, &reach, names)?;
    if reach.kind == Some(RuleKind::Message) && sum != Sum::Count {
        file.wrong(
            &written.id.span(),
            "a message moves nothing: only sum = \"count\" goes with kind = \"message\"",
        );
        return None;
    }
    let max = file.right(&written.max.span(), unit.read(written.max.get_ref()))?;
    let definition = format!("{sum:?} {window:?} {reach:?} {}", beyond(&sum, &reach, names));
    let definition = keccak256(definition.as_bytes());
    let limit = Limit { id: id?, max, window: window?, definition, unit };
    Some(Budget { limit: Arc::new(limit), sum, reach })
}

/// What else decides what is counted: whom a role means, and what calls of contracts are declared to move.
fn beyond(sum: &Sum, reach: &Reach, names: &Names<'_>) -> String {
    let is_about = |client: &Client| {
        reach.conditions.iter().any(|condition| match condition {
            Condition::Clients(meant) => {
                meant.contains(&client.name) || client.role.as_ref().is_some_and(|role| meant.contains(role))
            }
            _ => false,
        })
    };
    let clients: BTreeSet<_> =
        names.world.clients.iter().filter(|client| is_about(client)).map(|client| &client.name).collect();
    let moves = |contract: &&Arc<Contract>| matches!(sum, Sum::Token { .. }) && !contract.spends.is_empty();
    let spends: BTreeMap<_, _> =
        names.contracts.values().filter(moves).map(|c| ((c.chain, c.address), &c.spends)).collect();
    format!("{clients:?} {spends:?}")
}

fn sum(
    file: &mut File<'_>,
    written: &written::Budget,
    reach: &Reach,
    names: &Names<'_>,
) -> Option<(Sum, Measure)> {
    match (&written.asset, &written.sum) {
        (Some(asset), None) if asset.get_ref() == "ether" => Some((Sum::Ether, Measure::Wei)),
        (Some(asset), None) => {
            let Some(contract) = names.contracts.get(asset.get_ref()) else {
                let what = format!(
                    "there is no token named `{}` in [contracts]; or write \"ether\"",
                    asset.get_ref()
                );
                file.wrong(&asset.span(), what);
                return None;
            };
            let (Some(unit), Some(_)) = (&contract.unit, &contract.abi) else {
                file.wrong(
                    &asset.span(),
                    "a budget's token needs `abi`, `symbol` and `decimals` in [contracts]",
                );
                return None;
            };
            let sum = Sum::Token { chain: contract.chain, address: contract.address };
            Some((sum, Measure::Token(unit.clone())))
        }
        (None, Some(sum)) if sum.get_ref() == "count" => Some((Sum::Count, Measure::Plain)),
        (None, Some(sum)) => {
            let Some(name) = sum.get_ref().strip_prefix("args.") else {
                file.wrong(&sum.span(), "expected \"count\" or \"args.<parameter>\"");
                return None;
            };
            let function = reach.conditions.iter().find_map(|condition| match condition {
                Condition::Call(Called::Function(function)) => Some(function),
                _ => None,
            });
            let Some(function) = function else {
                file.wrong(&sum.span(), "`args.…` needs `call` in `match`, which names the function");
                return None;
            };
            let at = function.position(name);
            let Some(at) = at.filter(|at| matches!(function.types.get(*at), Some(DynSolType::Uint(_))))
            else {
                let what = format!("{} has no amount `{name}`", function.describe());
                file.wrong(&sum.span(), what);
                return None;
            };
            Some((Sum::Argument { function: Arc::clone(function), at }, Measure::Plain))
        }
        _ => {
            file.wrong(&written.id.span(), "a budget has either `asset` or `sum`");
            None
        }
    }
}

/// What calls of a contract move.
pub(super) fn spends(file: &mut File<'_>, written: &[written::Spend], abi: Option<&Arc<Abi>>) -> Vec<Spend> {
    let mut spends = Vec::new();
    for spend in written {
        let Some(abi) = abi else {
            file.wrong(&spend.call.span(), "`spends` needs `abi`, where its functions stand");
            continue;
        };
        let Some(function) = file.right(&spend.call.span(), abi.find(spend.call.get_ref())) else { continue };
        let place = |name: &Spanned<String>, is: fn(&DynSolType) -> bool, what: &str| {
            let at = function.position(name.get_ref()).filter(|at| function.types.get(*at).is_some_and(is));
            at.ok_or_else(|| format!("{} has no {what} `{}`", function.describe(), name.get_ref()))
        };
        let amount = match spend.amount.get_ref().as_str() {
            "none" => Ok(None),
            _ => place(&spend.amount, |ty| matches!(ty, DynSolType::Uint(_)), "amount").map(Some),
        };
        let asset = match spend.asset.get_ref().as_str() {
            "self" => Ok(Asset::Own),
            text if text.starts_with("0x") => checksummed(text).map(Asset::Token),
            _ => place(&spend.asset, |ty| *ty == DynSolType::Address, "address").map(Asset::Parameter),
        };
        let amount = file.right(&spend.amount.span(), amount);
        let asset = file.right(&spend.asset.span(), asset);
        if let (Some(amount), Some(asset)) = (amount, asset) {
            spends.push(Spend { function: Arc::clone(function), asset, amount });
        }
    }
    spends
}
