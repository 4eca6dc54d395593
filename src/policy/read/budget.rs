//! `[[budget]]`, and `spends` of `[contracts]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_dyn_abi::DynSolType;
use alloy_primitives::{Address, keccak256};

use crate::config::{Client, units};
use crate::policy::abi::{Abi, Function};
use crate::policy::budget::{Budget, Limit, Measure, Sum};
use crate::policy::condition::{Called, Condition};
use crate::policy::facts::Contract;
use crate::policy::path::{Over, Path};
use crate::policy::read::names::{Names, checksummed};
use crate::policy::read::{File, rule};
use crate::policy::rule::RuleKind;
use crate::policy::scope::Reach;
use crate::policy::spend::{Amount, Asset, Spend};
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
    let moves_nothing = match reach.kind {
        Some(RuleKind::Message) if sum != Sum::Count => {
            Some("a message moves nothing: only sum = \"count\" goes with kind = \"message\"")
        }
        Some(RuleKind::TypedData) if sum == Sum::Ether => {
            Some("typed data moves no ether: write a token, or sum = \"count\"")
        }
        _ => None,
    };
    if let Some(what) = moves_nothing {
        file.wrong(&written.id.span(), what);
        return None;
    }
    let max = file.right(&written.max.span(), unit.read(written.max.get_ref()))?;
    let definition = format!("{sum:?} {window:?} {reach:?} {}", beyond(&sum, &reach, names));
    let definition = keccak256(definition.as_bytes());
    let limit = Limit { id: id?, max, window: window?, definition, unit };
    Some(Budget { limit: Arc::new(limit), sum, reach, place: file.place(&written.id.span()) })
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
            let path = place(function, name, |ty| matches!(ty, DynSolType::Uint(_)), "amount");
            let path = file.right(&sum.span(), path)?;
            Some((Sum::Argument { function: Arc::clone(function), path }, Measure::Plain))
        }
        _ => {
            file.wrong(&written.id.span(), "a budget has either `asset` or `sum`");
            None
        }
    }
}

/// A place in the arguments of a function: an address or an amount, or one for each item (`all(…)`).
fn place(function: &Function, text: &str, is: fn(&DynSolType) -> bool, what: &str) -> Result<Path, String> {
    let none = |why: &str| format!("{} has no {what} `{text}`{why}", function.describe());
    let (path, ty) = Path::parse(function, text).map_err(|why| none(&format!(": {why}")))?;
    if is(&ty) && !matches!(path.over, Over::Some | Over::Tokens) { Ok(path) } else { Err(none("")) }
}

/// What calls of a contract move: as declared, and of other functions as the built-in ABI says.
pub(super) fn spends(
    file: &mut File<'_>,
    (label, written): (&written::Text, &[written::Spend]),
    abi: Option<&Arc<Abi>>,
    underlying: Option<Address>,
) -> Vec<Spend> {
    let asset_of = |function: &Function, text: &str| asset_of(function, text, underlying);
    let mut spends = Vec::<Spend>::new();
    for spend in written {
        let Some(abi) = abi else {
            file.wrong(&spend.call.span(), "`spends` needs `abi`, where its functions stand");
            continue;
        };
        let Some(function) = file.right(&spend.call.span(), abi.find(spend.call.get_ref())) else { continue };
        let amount = file.right(&spend.amount.span(), amount_of(function, spend.amount.get_ref()));
        let asset = file.right(&spend.asset.span(), asset_of(function, spend.asset.get_ref()));
        let to = spend.to.as_ref().and_then(|to| file.right(&to.span(), receiver_of(function, to.get_ref())));
        let (Some(amount), Some(asset)) = (amount, asset) else { continue };
        let is_stated = asset != Asset::Underlying(None);
        let spend = Spend { function: Arc::clone(function), asset, amount, only_if: None, to };
        if !is_stated && spend.takes_in() {
            let what = "nothing would be counted: state `underlying` of this contract, or the token's address as `asset`";
            file.wrong(&label.span(), what);
        }
        spends.push(spend);
    }
    let declared: BTreeSet<_> = spends.iter().map(|spend| spend.function.selector).collect();
    for (abi, known) in abi.iter().flat_map(|abi| abi.moves.iter().map(move |known| (abi, known))) {
        let spend = abi.find(&known.call).map_err(|e| e.to_string()).and_then(|function| {
            let (asset, amount) = (asset_of(function, &known.asset)?, amount_of(function, &known.amount)?);
            let only_if = known.only_if.as_ref();
            let only_if = only_if.map(|text| place(function, text, is_flag, "flag"));
            let to = known.to.as_ref().map(|text| receiver_of(function, text)).transpose()?;
            Ok(Spend { function: Arc::clone(function), asset, amount, only_if: only_if.transpose()?, to })
        });
        let Some(spend) = file.right(&label.span(), spend) else { continue };
        if !declared.contains(&spend.function.selector) {
            spends.push(spend);
        }
    }
    spends
}

fn amount_of(function: &Function, text: &str) -> Result<Amount, String> {
    match text {
        "none" => Ok(Amount::None),
        "unknown" => Ok(Amount::Unknown),
        _ => place(function, text, |ty| matches!(ty, DynSolType::Uint(_)), "amount").map(Amount::At),
    }
}

/// What can say whether something is moved: a flag, or an amount other than 0.
const fn is_flag(ty: &DynSolType) -> bool {
    matches!(ty, DynSolType::Bool | DynSolType::Uint(_))
}

fn receiver_of(function: &Function, text: &str) -> Result<Path, String> {
    place(function, text, |ty| *ty == DynSolType::Address, "address")
}

fn asset_of(function: &Function, text: &str, underlying: Option<Address>) -> Result<Asset, String> {
    match text {
        "self" => Ok(Asset::Own),
        "any" => Ok(Asset::Any),
        // A parameter may be called so, too.
        "underlying" if function.position(text).is_none() => Ok(Asset::Underlying(underlying)),
        _ if text.starts_with("0x") => checksummed(text).map(Asset::Token),
        _ => place(function, text, |ty| *ty == DynSolType::Address, "address").map(Asset::Parameter),
    }
}
