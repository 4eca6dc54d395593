//! `[[rule]]` and `[[rate]]`, with what an allow rule must state.

use std::num::NonZeroU32;

use alloy_primitives::U256;
use toml::Spanned;

use crate::config::units;
use crate::policy::amount::Range;
use crate::policy::condition::{Condition, Delegates, DomainTest};
use crate::policy::evidence::asks_created;
use crate::policy::messages::SiweTest;
use crate::policy::rate::Rate;
use crate::policy::read::matcher::Matchers;
use crate::policy::read::names::Names;
use crate::policy::read::{File, argument, matcher, outcome, value};
use crate::policy::rule::{Effect, Rule, RuleKind};
use crate::policy::scope::{Per, Reach};
use crate::policy::written::{self, Match, Text};

pub(super) fn read(file: &mut File<'_>, written: &written::Rule, names: &mut Names<'_>) -> Option<Rule> {
    let id = names.id(file, &written.id);
    let effect = effect(file, &written.effect);
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
    for (kinds, keys) in keys(written) {
        for (key, span) in keys {
            file.only_with(key, span, (meant.kind, kinds));
        }
    }
    match meant.kind {
        Some(RuleKind::Transaction | RuleKind::Presigned) => {
            transaction(file, written, &mut meant, names, allow);
        }
        Some(RuleKind::Message) => message(file, written, &mut meant),
        Some(RuleKind::TypedData) => typed_data(file, written, &mut meant, names, allow),
        Some(RuleKind::Authorization) => delegates(file, written, &mut meant, names, allow),
        None => {}
    }
    if let Some(written) = &written.hours
        && let Some(hours) = file.right(&written.span(), value::hours(written.get_ref()))
    {
        meant.conditions.push(Condition::Hours(hours));
    }
    let conditions = meant.conditions;
    let replaces_own = replaces_own(file, written.replace.as_ref(), allow);
    let place = file.place(&written.id.span());
    let rule = Rule { id: id?.into(), effect: effect?, kind: meant.kind, conditions, replaces_own, place };
    if asks_created(&rule) && rule.kind != Some(RuleKind::Transaction) {
        file.wrong(
            &written.id.span(),
            "`$created` goes with kind = \"transaction\" only: nothing else is known of what an account created",
        );
    }
    Some(rule)
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
    let created = |to: &&written::List| to.get_ref().iter().any(|to| to.get_ref() == "$created");
    if let Some(to) = matchers.and_then(|written| written.to.as_ref()).filter(created) {
        file.wrong(
            &to.span(),
            "`$created` goes with rules only: what was created later would be counted anew",
        );
    }
    let meant = matchers.map(|written| matcher::read(file, written, names, false));
    let Matchers { kind, conditions, .. } = meant.unwrap_or_default();
    Reach { per, kind, conditions }
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

/// What an allow rule must state, so that nothing is allowed by silence.
fn demand(file: &mut File<'_>, written: &written::Rule) {
    let kind = written.kind.as_ref().map_or("transaction", |kind| kind.get_ref().as_str());
    let keys: &[(&str, bool)] = &[
        ("kind", written.kind.is_some()),
        ("chain", written.chain.is_some()),
        ("clients", written.clients.is_some()),
        ("from", written.from.is_some()),
        ("to", written.to.is_some()),
        ("call", written.call.is_some()),
        ("primary_type", written.primary_type.is_some()),
        ("siwe` or `text", written.siwe.is_some() || written.text.is_some()),
        ("delegates", written.delegates.is_some()),
    ];
    let (wanted, all): (&[&str], _) = match kind {
        "message" => {
            (&["kind", "clients", "from", "siwe` or `text"], "kind, clients, from and one of siwe and text")
        }
        "typed_data" => (
            &["kind", "chain", "clients", "from", "to", "primary_type"],
            "kind, chain, clients, from, to (the verifying contract) and primary_type",
        ),
        "authorization" => {
            (&["kind", "chain", "clients", "from", "delegates"], "kind, chain, clients, from and delegates")
        }
        _ => (&["kind", "chain", "clients", "from", "to", "call"], "kind, chain, clients, from, to and call"),
    };
    let missing = keys.iter().filter(|(key, stated)| !stated && wanted.contains(key));
    let missing: Vec<_> = missing.map(|(key, _)| format!("`{key}`")).collect();
    if !missing.is_empty() {
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
        Some(list) => {
            let carriers = matcher::addresses(file, ("via", list), names, meant.chain);
            meant.conditions.extend(carriers.map(Condition::Via));
        }
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
    later_types(file, written, meant, names, allow);
    if let Some(outcome) = &written.outcome {
        if !allow {
            file.wrong(
                &outcome.span(),
                "`outcome` goes with effect = \"allow\" only: a node's word forbids nothing",
            );
        }
        if let (true, Some(_)) = (allow, &written.via) {
            file.wrong(
                &outcome.span(),
                "`outcome` looks at what the account has that signs, and with `via` another contract makes the call and spends what \
                 it has itself: leave one of them out",
            );
        }
        meant.conditions.push(Condition::Outcome(outcome::read(file, outcome, names, meant.chain)));
    }
}

/// What only transactions of types 3 and 4 have: an allow rule that does not speak of it is for none of them.
fn later_types(
    file: &mut File<'_>,
    written: &written::Rule,
    meant: &mut Matchers,
    names: &Names<'_>,
    allow: bool,
) {
    match &written.blobs {
        Some(bound) => {
            if let Some(Some(range)) = file.right(&bound.span(), value::counts(bound.get_ref())) {
                meant.conditions.push(Condition::Blobs(range));
            }
        }
        None if allow => meant.conditions.push(Condition::Blobs(Range::exactly(U256::ZERO))),
        None => {}
    }
    if let Some(bound) = &written.blob_fee
        && let Some(Some(range)) = file.right(&bound.span(), value::bounds(bound.get_ref()))
    {
        meant.conditions.push(Condition::BlobFee(range));
    }
    delegates(file, written, meant, names, allow);
}

/// Whose code may act as accounts.
fn delegates(
    file: &mut File<'_>,
    written: &written::Rule,
    meant: &mut Matchers,
    names: &Names<'_>,
    allow: bool,
) {
    match &written.delegates {
        Some(list) => {
            let of = matcher::delegates(file, list, names, meant.chain);
            if !(allow && of.is_none()) {
                meant.conditions.push(Condition::Delegates(Delegates { of, all: allow }));
            }
        }
        None if allow => {
            meant.conditions.push(Condition::Delegates(Delegates { of: Some(Vec::new()), all: true }));
        }
        None => {}
    }
}

fn typed_data(
    file: &mut File<'_>,
    written: &written::Rule,
    meant: &mut Matchers,
    names: &Names<'_>,
    allow: bool,
) {
    let (fields, primary) = (written.fields.as_ref(), written.primary_type.as_ref());
    argument::read_fields(file, fields, meant, primary, names, allow);
    if let Some(domain) = &written.domain {
        let written::Domain { name, version } = domain.get_ref();
        if name.is_none() && version.is_none() {
            file.wrong(
                &domain.span(),
                "write domain = { name = \"…\", version = \"…\" }, one of them or both",
            );
        }
        let test = DomainTest { name: name.clone(), version: version.clone() };
        meant.conditions.push(Condition::Domain(test));
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

/// A key, and where it stands.
type Key = (&'static str, Option<std::ops::Range<usize>>);

/// The keys that go with one kind only.
fn keys(written: &written::Rule) -> [(&'static [RuleKind], Vec<Key>); 5] {
    let transaction = vec![
        ("via", written.via.as_ref().map(Spanned::span)),
        ("delegatecall", written.delegatecall.as_ref().map(Spanned::span)),
        ("args", written.args.as_ref().map(Spanned::span)),
        ("value", written.value.as_ref().map(Spanned::span)),
        ("execution_fee", written.execution_fee.as_ref().map(Spanned::span)),
        ("blobs", written.blobs.as_ref().map(Spanned::span)),
        ("blob_fee", written.blob_fee.as_ref().map(Spanned::span)),
    ];
    let delegates = vec![("delegates", written.delegates.as_ref().map(Spanned::span))];
    let signed_here = vec![
        ("replace", written.replace.as_ref().map(Spanned::span)),
        ("outcome", written.outcome.as_ref().map(Spanned::span)),
    ];
    let message = vec![
        ("text", written.text.as_ref().map(Spanned::span)),
        ("siwe", written.siwe.as_ref().map(Spanned::span)),
    ];
    let typed_data = vec![
        ("primary_type", written.primary_type.as_ref().map(Spanned::span)),
        ("fields", written.fields.as_ref().map(Spanned::span)),
        ("domain", written.domain.as_ref().map(Spanned::span)),
    ];
    [
        (&[RuleKind::Transaction, RuleKind::Presigned], transaction),
        (&[RuleKind::Transaction, RuleKind::Presigned, RuleKind::Authorization], delegates),
        (&[RuleKind::Transaction], signed_here),
        (&[RuleKind::Message], message),
        (&[RuleKind::TypedData], typed_data),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::clock::Timestamp;
    use crate::policy::tests::{ALICE, CONTRACTS, caller, decide, policy, transaction, world};
    use crate::policy::{DenialCause, Policy};
    use crate::transaction::Tx;

    const BATCHES: &str = r#"
[[rule]]
id = "batches"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["trader"]
from = ["treasury"]
to = ["alice"]
call = "any"
"#;

    fn with(more: &str) -> Policy {
        policy(&format!("{CONTRACTS}{BATCHES}{more}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn blobs(count: usize, gwei: u64) -> Value {
        let hash = format!("0x01{}", "a1".repeat(31));
        let fee = format!("{:#x}", gwei.saturating_mul(1_000_000_000));
        json!({ "to": ALICE, "maxFeePerBlobGas": fee, "blobVersionedHashes": vec![hash; count] })
    }

    fn failed(policy: &Policy, fields: &Value) -> Option<String> {
        let denied = decide(policy, "ann", fields).err()?;
        Some(denied.condition.unwrap_or_else(|| denied.cause.name().to_owned()))
    }

    #[test]
    fn inv_04_blobs_need_a_rule_that_speaks_of_them() {
        let plain = json!({ "to": ALICE });
        for (more, fields, failure) in [
            ("", plain.clone(), None),
            ("", blobs(1, 1), Some("blobs")),
            ("blobs = { max = 2 }\n", plain.clone(), None),
            ("blobs = { max = 2 }\n", blobs(2, 1), None),
            ("blobs = { max = 2 }\n", blobs(3, 1), Some("blobs")),
            ("blobs = { min = 1 }\n", plain, Some("blobs")),
            ("blobs = 3\n", blobs(3, 1), None),
            ("blobs = \"any\"\n", blobs(9, 1), None),
            ("blobs = { max = 2 }\nblob_fee = { max = \"0.001 ether\" }\n", blobs(2, 3), None),
            ("blobs = { max = 2 }\nblob_fee = { max = \"0.001 ether\" }\n", blobs(2, 4), Some("blob_fee")),
            ("blobs = { max = 2 }\nexecution_fee = { max = \"0.01 ether\" }\n", blobs(1, 70), None),
            (
                "blobs = { max = 2 }\nexecution_fee = { max = \"0.01 ether\" }\n",
                blobs(1, 80),
                Some("execution_fee"),
            ),
        ] {
            assert_eq!(failed(&with(more), &fields).as_deref(), failure, "{more} {fields}");
        }
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nblobs = { min = 2 }\n";
        let policy = with(&format!("blobs = \"any\"\n{deny}"));
        assert_eq!(
            (failed(&policy, &blobs(1, 1)), failed(&policy, &blobs(2, 1)).as_deref()),
            (None, Some("rule"))
        );
        let caps = with("blobs = \"any\"\n[caps]\nmax_fee_per_blob_gas = \"5 gwei\"\n");
        assert_eq!(failed(&caps, &blobs(1, 5)), None);
        assert_eq!(failed(&caps, &blobs(1, 6)).as_deref(), Some("caps.max_fee_per_blob_gas"));
        // The cap on what execution may cost is over blobs as well, whether anybody thought of them or not.
        assert_eq!(
            failed(&with("blobs = \"any\"\n"), &blobs(6, 2000)).as_deref(),
            Some("caps.max_execution_fee")
        );
    }

    #[test]
    fn inv_03_what_blobs_can_cost_is_charged() {
        let policy = with(
            "blobs = 1\n[[budget]]\nid = \"b\"\nasset = \"ether\"\nmax = \"1 ether\"\nwindow = \"1h\"\n",
        );
        let mut asked = blobs(1, 1000);
        asked["maxFeePerGas"] = json!("0x3b9aca00");
        asked["maxPriorityFeePerGas"] = json!("0x0");
        let now = Timestamp::from_millis(0);
        let (_, charges) = policy.assess::<Tx>(&caller("ann"), &transaction(&asked), now).unwrap();
        // 100,000 gas at 1 gwei, and 131,072 blob gas at 1,000.
        assert_eq!(charges[0].limit.show(charges[0].amount), "0.131172 ether");
    }

    const DELEGATE: &str = "0x3535353535353535353535353535353535353535";

    /// An account that is nobody's here lets the delegate act as itself; signed with ethers 6.
    fn delegation() -> Value {
        json!({
            "to": ALICE,
            "authorizationList": [{
                "chainId": "0x1", "address": DELEGATE, "nonce": "0x3", "yParity": "0x0",
                "r": "0x6f27dcb1e53b91098be827edb511840bf7290b0c6165963e2c9cadc6d0a0d7ac",
                "s": "0x7f18d6db768cf49aa97c880b71c42347cd80cb1ead1ec7521c8a98f704a5ddf4",
            }],
        })
    }

    #[test]
    fn inv_04_setting_code_needs_a_rule_that_names_the_delegate() {
        let named = format!("delegates = [\"{DELEGATE}\"]\n");
        let named = named.as_str();
        for (more, failure) in [
            ("", Some("delegates")),
            (named, None),
            ("delegates = [\"bob\"]\n", Some("delegates")),
            ("delegates = [\"any\"]\n", None),
        ] {
            assert_eq!(failed(&with(more), &delegation()).as_deref(), failure, "{more}");
        }
        assert_eq!(failed(&with(named), &json!({ "to": ALICE })), None, "it also allows what sets no code");
        let deny = |delegates: &str| {
            let rule = format!(
                "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\ndelegates = [\"{delegates}\"]\n"
            );
            with(&format!("{named}{rule}"))
        };
        assert_eq!(failed(&deny("any"), &delegation()).as_deref(), Some("rule"));
        assert_eq!(failed(&deny("any"), &json!({ "to": ALICE })), None);
        assert_eq!(failed(&deny("bob"), &delegation()), None);
        // An authorization of an account whose key is here was signed elsewhere, or would have used up a nonce here.
        let authority = "0xb595B18c88b1f651cA387489067f855b5C8E6720".parse().unwrap();
        let mut world_of_it = world();
        world_of_it.accounts.insert("second".to_owned(), authority);
        let policy = Policy::of_text(&format!("{CONTRACTS}{BATCHES}{named}"), &world_of_it);
        let denied = decide(&policy, "ann", &delegation()).unwrap_err();
        assert_eq!(denied.cause, DenialCause::ForeignSignature { by: authority });
        assert!(denied.sentence.contains("was not signed here"), "{denied}");
        // A rule that denies it all the same does not hide that somebody has the key.
        let no = "[[rule]]\nid = \"no\"\neffect = \"deny\"\n";
        let policy = Policy::of_text(&format!("{CONTRACTS}{BATCHES}{named}{no}"), &world_of_it);
        let denied = decide(&policy, "ann", &delegation()).unwrap_err();
        assert_eq!(denied.cause, DenialCause::ForeignSignature { by: authority });
        let warnings = with("delegates = [\"any\"]\nblobs = \"any\"\n").warnings(&world());
        for what in ["`delegates` is \"any\"", "`blobs` is \"any\""] {
            assert!(warnings.iter().any(|one| one.what.contains(what)), "{what}: {warnings:?}");
        }
    }
}
