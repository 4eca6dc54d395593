//! The matchers that rules and rates share: kind, chain, clients, from, to, call.

use std::sync::Arc;

use alloy_primitives::Address;

use crate::policy::abi::{Abi, Function};
use crate::policy::condition::{Called, Condition, Targets};
use crate::policy::facts::Contract;
use crate::policy::read::File;
use crate::policy::read::names::Names;
use crate::policy::rule::RuleKind;
use crate::policy::written::{List, Match, Text};

/// What matchers mean.
#[derive(Default)]
pub(super) struct Matchers {
    pub kind: Option<RuleKind>,
    pub chain: Option<u64>,
    pub conditions: Vec<Condition>,
    /// The addresses that `to` names, where it names nothing else.
    pub targets: Vec<Address>,
    /// The function that `call` names.
    pub function: Option<Arc<Function>>,
    /// Whether `call` allows calldata that is not decoded.
    pub opaque: bool,
}

/// `allow`: "any" stands for every address, but not for none (a creation, or typed data without a contract), which is a
/// permission of its own.
pub(super) fn read(file: &mut File<'_>, written: &Match, names: &Names<'_>, allow: bool) -> Matchers {
    let mut meant = Matchers { kind: kind(file, written.kind.as_ref()), ..Matchers::default() };
    let addressed: &[RuleKind] = &[RuleKind::Transaction, RuleKind::TypedData, RuleKind::Presigned];
    let on_a_chain: &[RuleKind] =
        &[RuleKind::Transaction, RuleKind::TypedData, RuleKind::Presigned, RuleKind::Authorization];
    let kinds = [
        ("chain", written.chain.as_ref().map(toml::Spanned::span), on_a_chain),
        ("to", written.to.as_ref().map(toml::Spanned::span), addressed),
        (
            "call",
            written.call.as_ref().map(toml::Spanned::span),
            &[RuleKind::Transaction, RuleKind::Presigned],
        ),
    ];
    for (key, span, kinds) in kinds {
        file.only_with(key, span, (meant.kind, kinds));
    }
    if let Some(chain) = &written.chain {
        meant.chain = Some(*chain.get_ref());
        meant.conditions.push(Condition::Chain(*chain.get_ref()));
    }
    if let Some(clients) = written.clients.as_ref().and_then(|list| named(file, list, names)) {
        meant.conditions.push(Condition::Clients(clients));
    }
    let is_signed = meant.kind == Some(RuleKind::Presigned);
    let from = written.from.as_ref().and_then(|list| {
        if is_signed { signers(file, list, names, meant.chain) } else { accounts(file, list, names) }
    });
    if let Some(from) = from {
        meant.conditions.push(Condition::From(from));
    }
    let targets = written.to.as_ref().map(|list| targets(file, list, names, (meant.kind, meant.chain)));
    if let Some(targets) = &targets {
        if !targets.any && !targets.nobody && !targets.created {
            meant.targets.clone_from(&targets.addresses);
        }
        if allow || !targets.any {
            meant.conditions.push(Condition::To(targets.clone()));
        }
    }
    if let Some(call) = &written.call {
        call_of(file, call, targets.as_ref(), names, &mut meant);
    }
    meant
}

fn kind(file: &mut File<'_>, written: Option<&Text>) -> Option<RuleKind> {
    let written = written?;
    let found = RuleKind::ALL.into_iter().find(|kind| kind.name() == written.get_ref());
    if found.is_none() {
        let names = RuleKind::ALL.map(|kind| format!("\"{}\"", kind.name())).join(", ");
        file.wrong(
            &written.span(),
            format_args!("`{}` is not a kind; expected one of {names}", written.get_ref()),
        );
    }
    found
}

/// `None` is any.
fn named(file: &mut File<'_>, list: &List, names: &Names<'_>) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let any = each(file, "clients", list, |file, name| {
        if names.world.knows_client(name.get_ref()) {
            found.push(name.get_ref().clone());
        } else {
            let what = format!("there is no client, and no role of a client, named `{}`", name.get_ref());
            file.wrong(&name.span(), what);
        }
    });
    (!any).then_some(found)
}

/// `None` is any.
fn accounts(file: &mut File<'_>, list: &List, names: &Names<'_>) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    let any = each(file, "from", list, |file, name| match names.world.accounts.get(name.get_ref()) {
        Some(account) => found.push(*account),
        None => file.wrong(&name.span(), format_args!("there is no account named `{}`", name.get_ref())),
    });
    (!any).then_some(found)
}

/// Whoever may have signed; `None` is any.
fn signers(file: &mut File<'_>, list: &List, names: &Names<'_>, chain: Option<u64>) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    let any = each(file, "from", list, |file, name| {
        let signers = file.right(&name.span(), names.find_all(name.get_ref(), chain)).unwrap_or_default();
        if let Some(own) =
            signers.iter().find(|signer| names.world.accounts.values().any(|own| own == *signer))
        {
            let what = format!(
                "{own} is an account of ours: what it signs is recorded when it is signed, and no rule is asked again"
            );
            file.wrong(&name.span(), what);
        }
        found.extend(signers);
    });
    (!any).then_some(found)
}

/// Addresses, by whatever names; `None` is any.
pub(super) fn addresses(
    file: &mut File<'_>,
    (key, list): (&str, &List),
    names: &Names<'_>,
    chain: Option<u64>,
) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    let any = each(file, key, list, |file, name| {
        found.extend(file.right(&name.span(), names.find_all(name.get_ref(), chain)).unwrap_or_default());
    });
    (!any).then_some(found)
}

/// `delegates`; `None` is any. "none" is the zero address: no code acts as the account any more.
pub(super) fn delegates(
    file: &mut File<'_>,
    list: &List,
    names: &Names<'_>,
    chain: Option<u64>,
) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    let any = each(file, "delegates", list, |file, name| {
        if name.get_ref() == "none" {
            found.push(Address::ZERO);
            return;
        }
        found.extend(file.right(&name.span(), names.find_all(name.get_ref(), chain)).unwrap_or_default());
    });
    (!any).then_some(found)
}

fn targets(
    file: &mut File<'_>,
    list: &List,
    names: &Names<'_>,
    (kind, chain): (Option<RuleKind>, Option<u64>),
) -> Targets {
    let mut targets = Targets::default();
    targets.any = each(file, "to", list, |file, name| match name.get_ref().as_str() {
        "create" if kind != Some(RuleKind::TypedData) => targets.nobody = true,
        "none" if kind == Some(RuleKind::TypedData) => targets.nobody = true,
        "create" => file.wrong(
            &name.span(),
            "typed data creates nothing; \"none\" is typed data whose domain names no contract",
        ),
        "$created" => targets.created = true,
        _ => {
            let found = file.right(&name.span(), names.find_all(name.get_ref(), chain));
            for address in found.unwrap_or_default() {
                if !targets.addresses.contains(&address) {
                    targets.addresses.push(address);
                }
            }
        }
    });
    targets
}

/// Whether "any" is in the list; the rest is given to `one`.
fn each<'l>(
    file: &mut File<'_>,
    key: &str,
    list: &'l List,
    mut one: impl FnMut(&mut File<'_>, &'l Text),
) -> bool {
    if list.get_ref().is_empty() {
        file.wrong(&list.span(), format_args!("`{key}` names nobody, so nothing can match"));
    }
    let mut any = false;
    for name in list.get_ref() {
        if name.get_ref() == "any" {
            any = true;
        } else {
            one(file, name);
        }
    }
    any
}

fn call_of(
    file: &mut File<'_>,
    call: &Text,
    targets: Option<&Targets>,
    names: &Names<'_>,
    meant: &mut Matchers,
) {
    let creates = targets.is_some_and(|targets| targets.nobody);
    if creates && call.get_ref() != "any" {
        file.wrong(&call.span(), "what `to = [\"create\"]` runs is code, not a call: write call = \"any\"");
        return;
    }
    match call.get_ref().as_str() {
        "any" => meant.opaque = true,
        "empty" => meant.conditions.push(Condition::Call(Called::Empty)),
        text => {
            let function = function(text, targets, names, meant.chain);
            if let Some(function) = file.right(&call.span(), function) {
                meant.conditions.push(Condition::Call(Called::Function(Arc::clone(&function))));
                meant.function = Some(function);
            }
        }
    }
}

/// The one function that `call` means for every target.
fn function(
    call: &str,
    targets: Option<&Targets>,
    names: &Names<'_>,
    chain: Option<u64>,
) -> Result<Arc<Function>, String> {
    let addresses = targets.filter(|targets| !targets.any).map_or(&[][..], |targets| &targets.addresses);
    let is_signature = call.contains('(');
    let mut known: Vec<(&Contract, &Arc<Function>)> = Vec::new();
    for address in addresses {
        let before = known.len();
        for contract in names.contracts_at(chain, *address) {
            if let Some(abi) = &contract.abi {
                known.push((contract, lookup(contract, abi, call)?));
            }
        }
        if known.len() == before && !is_signature {
            return Err(format!(
                "{} has no ABI, so `{call}` must be a full signature, such as \"transfer(address,uint256)\"",
                names.name(chain, *address)
            ));
        }
    }
    if !is_signature && known.is_empty() {
        return Err(format!(
            "without contracts in `to`, `{call}` must be \"any\", \"empty\", or a full signature such as \"transfer(address,uint256)\""
        ));
    }
    if let [(one, function), rest @ ..] = known.as_slice() {
        for (other, same) in rest {
            if same.signature != function.signature
                || same.names != function.names
                || same.parts != function.parts
            {
                return Err(format!(
                    "`{call}` is not the same in `{}` ({}) and `{}` ({}); write a rule for each",
                    one.label,
                    function.describe(),
                    other.label,
                    same.describe()
                ));
            }
        }
    }
    if is_signature {
        let written = Function::parse(call).map_err(|e| e.to_string())?;
        // Names that are written in the rule hold; else those of the ABI.
        if written.is_named() || known.is_empty() {
            return Ok(Arc::new(written));
        }
    }
    known
        .first()
        .map(|(_, function)| Arc::clone(function))
        .ok_or_else(|| format!("`{call}` names no function"))
}

fn lookup<'a>(contract: &Contract, abi: &'a Abi, call: &str) -> Result<&'a Arc<Function>, String> {
    abi.find(call).map_err(|e| format!("the ABI of `{}`: {e}", contract.label))
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{CONTRACTS, policy};

    /// An amount is in a token's unit only where nothing but that token can be the target.
    #[test]
    fn inv_04_a_target_beside_others_pins_no_unit() {
        let transfer = |to: &str| {
            format!(
                "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\nto = [{to}]\n\
                 call = \"transfer(address to, uint256 amount)\"\nargs = {{ to = \"any\", amount = {{ max = \"1 USDC\" }} }}\n"
            )
        };
        let permit = |to: &str| {
            format!(
                "[[rule]]\nid = \"a\"\neffect = \"allow\"\nkind = \"typed_data\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\nto = [{to}]\n\
                 primary_type = \"Permit\"\nfields = {{ owner = \"any\", spender = \"any\", value = {{ max = \"1 USDC\" }} }}\n"
            )
        };
        for (rule, is_pinned) in [
            (transfer("\"usdc\""), true),
            (transfer("\"usdc\", \"usdc\""), true),
            (transfer("\"usdc\", \"any\""), false),
            (transfer("\"usdc\", \"$created\""), false),
            (transfer("\"usdc\", \"alice\""), false),
            (permit("\"usdc\""), true),
            (permit("\"usdc\", \"none\""), false),
            (permit("\"usdc\", \"any\""), false),
        ] {
            let read = policy(&format!("{CONTRACTS}{rule}")).map(drop).map_err(|e| e.to_string());
            match (&read, is_pinned) {
                (Ok(()), true) => {}
                (Err(error), false) => {
                    assert!(error.contains("an amount in USDC needs its token pinned"), "{error}");
                }
                _ => panic!("{rule}: {read:?}"),
            }
        }
    }
}
