//! `[[rule]]`, `[[rate]]` and `[caps]`, with what an allow rule must state.

use std::num::NonZeroU32;

use alloy_primitives::U256;
use toml::Spanned;

use crate::config::units;
use crate::policy::amount::Range;
use crate::policy::caps::Caps;
use crate::policy::condition::{Condition, SiweTest};
use crate::policy::rate::Rate;
use crate::policy::read::matcher::Matchers;
use crate::policy::read::names::Names;
use crate::policy::read::{File, argument, matcher, value};
use crate::policy::rule::{Effect, Rule, RuleKind};
use crate::policy::scope::{Per, Reach};
use crate::policy::written::{self, Match, Text};

pub(super) fn read(file: &mut File<'_>, written: &written::Rule, names: &mut Names<'_>) -> Option<Rule> {
    let id = names.id(file, &written.id);
    let effect = effect(file, &written.effect);
    refuse_later(file, written);
    let allow = effect != Some(Effect::Deny);
    if allow {
        demand(file, written);
    }
    let matchers = Match {
        kind: written.kind.clone(),
        chain: written.chain.clone(),
        clients: written.clients.clone(),
        from: written.from.clone(),
        to: written.to.clone(),
        call: written.call.clone(),
    };
    let mut meant = matcher::read(file, &matchers, names, allow);
    if meant.kind == Some(RuleKind::Transaction) {
        transaction(file, written, &mut meant, names, allow);
    } else {
        only_with(file, RuleKind::Transaction, &transaction_keys(written));
    }
    if meant.kind == Some(RuleKind::Message) {
        message(file, written, &mut meant);
    } else {
        only_with(file, RuleKind::Message, &message_keys(written));
    }
    if let Some(written) = &written.hours
        && let Some(hours) = file.right(&written.span(), value::hours(written.get_ref()))
    {
        meant.conditions.push(Condition::Hours(hours));
    }
    let replaces_own = replaces_own(file, written.replace.as_ref(), allow);
    let place = file.place(&written.id.span());
    let (kind, conditions) = (meant.kind, meant.conditions);
    Some(Rule { id: id?.into(), effect: effect?, kind, conditions, replaces_own, place })
}

pub(super) fn read_rate(file: &mut File<'_>, written: &written::Rate, names: &mut Names<'_>) -> Option<Rate> {
    let id = names.id(file, &written.id);
    let max = NonZeroU32::new(*written.max.get_ref());
    if max.is_none() {
        file.wrong(&written.max.span(), "`max` is at least 1; to allow nothing, write a deny rule");
    }
    let window = file.right(&written.window.span(), units::duration(written.window.get_ref()));
    if let (Some(window), Some(max)) = (window, max)
        && (window < std::time::Duration::from_millis(1).saturating_mul(max.get()))
    {
        file.wrong(&written.window.span(), "`window` is too short for `max`: at least 1 ms for each request");
        return None;
    }
    let reach = read_reach(file, (&written.per, written.r#match.as_ref()), names);
    Some(Rate { id: id?, max: max?, window: window?, reach })
}

/// `per` and `match`, of a rate or a budget.
pub(super) fn read_reach(
    file: &mut File<'_>,
    (per, matchers): (&[Text], Option<&Match>),
    names: &Names<'_>,
) -> Reach {
    let per = per.iter().filter_map(|per| match per.get_ref().as_str() {
        "client" => Some(Per::Client),
        "from" => Some(Per::From),
        "to" => Some(Per::To),
        "rule" => Some(Per::Rule),
        other => {
            file.wrong(
                &per.span(),
                format_args!("`{other}`: expected \"client\", \"from\", \"to\" or \"rule\""),
            );
            None
        }
    });
    let per = per.collect();
    let meant = matchers.map(|written| matcher::read(file, written, names, false));
    let Matchers { kind, conditions, .. } = meant.unwrap_or_default();
    Reach { per, kind, conditions }
}

pub(super) fn read_caps(file: &mut File<'_>, written: &written::Caps) -> Caps {
    let mut wei = |text: &Option<Text>| -> Option<U256> {
        let text = text.as_ref()?;
        file.right(&text.span(), units::wei(text.get_ref()))
    };
    let is_any = written.max_execution_fee.as_ref().is_some_and(|text| text.get_ref() == "any");
    Caps {
        fee_per_gas: wei(&written.max_fee_per_gas),
        execution_fee: if is_any {
            None
        } else {
            wei(&written.max_execution_fee).or(Caps::default().execution_fee)
        },
        gas: written.max_gas,
        calldata: written.max_calldata,
    }
}

fn effect(file: &mut File<'_>, written: &Text) -> Option<Effect> {
    match written.get_ref().as_str() {
        "allow" => return Some(Effect::Allow),
        "deny" => return Some(Effect::Deny),
        "needs_approval" => {
            file.wrong(
                &written.span(),
                "\"needs_approval\" is not read by this version: there is nobody to ask yet",
            );
        }
        other => file.wrong(&written.span(), format_args!("`{other}`: expected \"allow\" or \"deny\"")),
    }
    None
}

fn replaces_own(file: &mut File<'_>, written: Option<&Text>, allow: bool) -> bool {
    let Some(written) = written else { return false };
    if !allow {
        file.wrong(&written.span(), "`replace` goes with effect = \"allow\" only: it is no condition");
    }
    match written.get_ref().as_str() {
        "own" => true,
        "never" => false,
        other => {
            file.wrong(&written.span(), format_args!("`{other}`: expected \"own\" or \"never\""));
            false
        }
    }
}

fn refuse_later(file: &mut File<'_>, written: &written::Rule) {
    for (key, value) in
        [("outcome", &written.outcome), ("primary_type", &written.primary_type), ("fields", &written.fields)]
    {
        if let Some(value) = value {
            file.wrong(&value.span(), format_args!("`{key}` is not read by this version"));
        }
    }
}

/// What an allow rule must state, so that nothing is allowed by silence.
fn demand(file: &mut File<'_>, written: &written::Rule) {
    let transaction = written.kind.as_ref().is_none_or(|kind| kind.get_ref() != "message");
    let mut missing = Vec::new();
    let mut must = |key: &'static str, stated: bool| {
        if !stated {
            missing.push(format!("`{key}`"));
        }
    };
    must("kind", written.kind.is_some());
    must("clients", written.clients.is_some());
    must("from", written.from.is_some());
    if transaction {
        must("chain", written.chain.is_some());
        must("to", written.to.is_some());
        must("call", written.call.is_some());
    } else {
        must("siwe` or `text", written.siwe.is_some() || written.text.is_some());
    }
    if !missing.is_empty() {
        let all = if transaction {
            "kind, chain, clients, from, to and call"
        } else {
            "kind, clients, from and one of siwe and text"
        };
        let what = format!(
            "rule `{}`: an allow rule must state {all} (\"any\" where any is meant); missing: {}",
            written.id.get_ref(),
            missing.join(", ")
        );
        file.wrong(&written.id.span(), what);
    }
}

fn transaction(
    file: &mut File<'_>,
    written: &written::Rule,
    meant: &mut Matchers,
    names: &Names<'_>,
    allow: bool,
) {
    argument::read(file, written.args.as_ref(), meant, written.call.as_ref(), names, allow);
    match &written.via {
        Some(list) => meant.conditions.extend(matcher::via(file, list, names, meant.chain)),
        // What contracts do for the account is a permission of its own.
        None if allow => meant.conditions.push(Condition::Via(Vec::new())),
        None => {}
    }
    let delegatecall = written.delegatecall.as_ref().map(|is| *is.get_ref()).or(allow.then_some(false));
    meant.conditions.extend(delegatecall.map(Condition::Delegatecall));
    match &written.value {
        Some(bound) => {
            if let Some(Some(range)) = file.right(&bound.span(), value::bounds(bound.get_ref())) {
                meant.conditions.push(Condition::Value(range));
            }
        }
        // What an allow rule does not mention is not sent along.
        None if allow => meant.conditions.push(Condition::Value(Range::exactly(U256::ZERO))),
        None => {}
    }
    if let Some(bound) = &written.execution_fee
        && let Some(Some(range)) = file.right(&bound.span(), value::bounds(bound.get_ref()))
    {
        meant.conditions.push(Condition::ExecutionFee(range));
    }
}

fn message(file: &mut File<'_>, written: &written::Rule, meant: &mut Matchers) {
    if let (Some(text), Some(_)) = (&written.text, &written.siwe) {
        file.wrong(&text.span(), "`text` and `siwe` do not go together; write two rules");
    }
    if let Some(text) = &written.text
        && let Some(test) = file.right(&text.span(), value::text(text.get_ref()))
    {
        meant.conditions.push(Condition::Text(test));
    }
    if let Some(siwe) = &written.siwe {
        let test = sign_in(file, siwe, written.effect.get_ref() != "deny");
        meant.conditions.push(Condition::Siwe(test));
    }
}

fn sign_in(file: &mut File<'_>, written: &Spanned<written::Siwe>, allow: bool) -> SiweTest {
    let siwe = written.get_ref();
    if allow && (siwe.domain.is_none() || siwe.chain_id.is_none()) {
        file.wrong(&written.span(), "`siwe` in an allow rule must state `domain` and `chain_id`");
    }
    let mut domains = Vec::new();
    if let Some(list) = &siwe.domain {
        if list.get_ref().is_empty() {
            file.wrong(&list.span(), "`domain` names nobody, so nothing can match");
        }
        for domain in list.get_ref() {
            let name = domain.get_ref();
            if name.is_empty() || name.contains('/') || name.contains('*') || name == "any" {
                file.wrong(
                    &domain.span(),
                    "a domain is a host, with its port where it has one: \"app.example.com\"",
                );
            }
            domains.push(name.clone());
        }
    }
    let within = siwe.expires_within.as_ref();
    let expires_within = within.and_then(|text| file.right(&text.span(), units::duration(text.get_ref())));
    SiweTest { domains, chain: siwe.chain_id, expires_within }
}

type Keys = Vec<(&'static str, Option<std::ops::Range<usize>>)>;

fn transaction_keys(written: &written::Rule) -> Keys {
    vec![
        ("via", written.via.as_ref().map(Spanned::span)),
        ("delegatecall", written.delegatecall.as_ref().map(Spanned::span)),
        ("args", written.args.as_ref().map(Spanned::span)),
        ("value", written.value.as_ref().map(Spanned::span)),
        ("execution_fee", written.execution_fee.as_ref().map(Spanned::span)),
        ("replace", written.replace.as_ref().map(Spanned::span)),
    ]
}

fn message_keys(written: &written::Rule) -> Keys {
    vec![
        ("text", written.text.as_ref().map(Spanned::span)),
        ("siwe", written.siwe.as_ref().map(Spanned::span)),
    ]
}

fn only_with(file: &mut File<'_>, kind: RuleKind, keys: &Keys) {
    for (key, span) in keys {
        if let Some(span) = span {
            file.wrong(span, format_args!("`{key}` goes with kind = \"{}\" only", kind.name()));
        }
    }
}
