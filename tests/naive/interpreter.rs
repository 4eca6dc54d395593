//! What `docs/policy.md` says, by the letter.

use std::collections::BTreeMap;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256};

use crate::keys::authorizations;
use crate::others::{SAFE_TX, SAFE_TX_OF_OLD, Typed, delegates, is_for, is_in_hours};
use crate::requests::{Asked, EXEC, Tried, What, decode, selector};
use crate::rules::{
    Budget, CONTRACTS, Called, Eyes, FUNCTIONS, MULTICALL, MULTISEND, Of, Outcome, ROUTER, Rule, SAFE,
    SIGNERS, USDC, World, path,
};

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Allowed { rule: String, charges: BTreeMap<(String, String), U256> },
    Denied { cause: String },
}

/// A call, and what it carries.
struct Call {
    sender: Address,
    to: Option<Address>,
    value: U256,
    data: Vec<u8>,
    inside: bool,
    delegated: bool,
    /// It is made by its carrier's target on itself, or as delegated code: no ether is sent with it.
    sends: bool,
    /// What its sender gets stays ours: it is the account, or a contract that acts for one account only.
    keeps: bool,
    carries: Vec<Call>,
    /// Why what it carries cannot be told.
    broken: bool,
}

/// The canonical form of a signature whose parameters are named.
fn canonical(signature: &str) -> String {
    let mut out = String::new();
    let mut name = false;
    for c in signature.chars() {
        match c {
            ' ' => name = !out.ends_with(','),
            ',' | ')' | '(' | '[' => {
                name = false;
                out.push(c);
            }
            c if !name => out.push(c),
            _ => {}
        }
    }
    out
}

fn types(canonical: &str) -> &str {
    &canonical[canonical.find('(').unwrap()..]
}

pub fn label(at: Address) -> Option<&'static str> {
    CONTRACTS.iter().find(|(_, known, _)| *known == at).map(|(label, ..)| *label)
}

fn has_abi(at: Option<Address>) -> bool {
    CONTRACTS.iter().any(|(_, known, abi)| Some(*known) == at && !abi.is_empty())
}

/// The function of the contract's ABI, of those that are ever called here.
fn known(at: Option<Address>, data: &[u8]) -> Option<usize> {
    let label = label(at?).filter(|_| has_abi(at))?;
    let is = |signature: &str| data.get(..4) == Some(&selector(&canonical(signature))[..]);
    FUNCTIONS.iter().position(|function| function.of.contains(&label) && is(function.signature))
}

fn read(function: usize, data: &[u8]) -> Option<Vec<DynSolValue>> {
    let signature = canonical(FUNCTIONS[function].signature);
    if data.get(..4)? != selector(&signature) {
        return None;
    }
    decode(types(&signature), &data[4..])
}

impl Call {
    /// Opens what it carries. `count` goes over the whole.
    fn open(&mut self, depth: usize, count: &mut usize) {
        let Some(values) = known(self.to, &self.data).and_then(|function| read(function, &self.data)) else {
            return;
        };
        let Some(calls) = self.carried(&values) else { return };
        self.broken = true;
        let Some(calls) = calls else { return };
        *count += calls.len();
        if calls.is_empty() || *count > 64 || depth >= 4 {
            return;
        }
        self.broken = false;
        self.carries = calls;
        for call in &mut self.carries {
            call.open(depth + 1, count);
        }
    }

    /// Nothing where it carries none; nothing inside where they cannot be told.
    fn carried(&self, values: &[DynSolValue]) -> Option<Option<Vec<Self>>> {
        let is = |at: Address, signature: &str| self.to == Some(at) && self.data[..4] == selector(signature);
        let acts = if self.delegated { self.sender } else { self.to.unwrap() };
        let bytes = |value: &DynSolValue| value.as_bytes().unwrap().to_vec();
        let sent = |operation: u64, to: Address, value: U256, data: Vec<u8>| Self {
            sender: acts,
            to: Some(to),
            value: if operation == 1 { self.value } else { value },
            data,
            inside: true,
            delegated: operation == 1,
            sends: operation == 0,
            keeps: if acts == self.sender { self.keeps } else { is(SAFE, EXEC) },
            carries: Vec::new(),
            broken: false,
        };
        if is(ROUTER, "multicall(bytes[])") && !self.delegated {
            let on_itself = |data| Self {
                sender: self.sender,
                value: self.value,
                delegated: false,
                sends: false,
                keeps: self.keeps,
                to: self.to,
                ..sent(0, Address::ZERO, U256::ZERO, bytes(data))
            };
            return Some(Some(values[0].as_array().unwrap().iter().map(on_itself).collect()));
        }
        if is(MULTICALL, "aggregate3((address,bool,bytes)[])") {
            let each = values[0].as_array().unwrap().iter().map(|tuple| {
                let parts = tuple.as_tuple().unwrap();
                sent(0, parts[0].as_address().unwrap(), U256::ZERO, bytes(&parts[2]))
            });
            return Some(Some(each.collect()));
        }
        let small = |value: &DynSolValue| u64::try_from(value.as_uint().unwrap().0).unwrap();
        if is(SAFE, EXEC) {
            let (value, operation, price) = (values[1].as_uint().unwrap().0, small(&values[3]), &values[6]);
            if operation > 1 || (operation == 1 && !value.is_zero()) || !price.as_uint().unwrap().0.is_zero()
            {
                return Some(None);
            }
            return Some(Some(vec![sent(
                operation,
                values[0].as_address().unwrap(),
                value,
                bytes(&values[2]),
            )]));
        }
        if is(MULTISEND, "multiSend(bytes)") {
            let mut calls = Vec::new();
            let mut rest = values[0].as_bytes().unwrap();
            while !rest.is_empty() {
                if rest.len() < 85 {
                    return Some(None);
                }
                let (head, after) = rest.split_at(85);
                let length = U256::from_be_slice(&head[53..]);
                let to = Address::from_slice(&head[1..21]);
                let value = U256::from_be_slice(&head[21..53]);
                if length > U256::from(after.len()) || head[0] > 1 || to.is_zero() {
                    return Some(None);
                }
                if head[0] == 1 && !value.is_zero() {
                    return Some(None);
                }
                let (data, after) = after.split_at(usize::try_from(length).unwrap());
                calls.push(sent(u64::from(head[0]), to, value, data.to_vec()));
                rest = after;
            }
            return Some(Some(calls));
        }
        None
    }

    /// A wrapper by its selector that is not opened here.
    fn is_closed_wrapper(&self) -> bool {
        let wrappers = ["multicall(bytes[])", "aggregate3((address,bool,bytes)[])", EXEC, "multiSend(bytes)"];
        let is_wrapper =
            wrappers.iter().any(|signature| self.data.get(..4) == Some(&selector(signature)[..]));
        self.to.is_some()
            && is_wrapper
            && (known(self.to, &self.data).is_none() || (self.delegated && self.to == Some(ROUTER)))
    }

    fn is_undecodable(&self) -> bool {
        let is_self_call = self.inside && !self.sends && !self.delegated;
        if !has_abi(self.to) || (self.data.is_empty() && !is_self_call) {
            return false;
        }
        known(self.to, &self.data).and_then(|function| read(function, &self.data)).is_none()
    }

    fn all<'c>(&'c self, found: &mut Vec<&'c Self>) {
        found.push(self);
        self.carries.iter().for_each(|call| call.all(found));
    }
}

fn within(range: Option<(Option<u64>, Option<u64>)>, number: U256) -> bool {
    range.is_none_or(|(min, max)| {
        min.is_none_or(|min| number >= U256::from(min)) && max.is_none_or(|max| number <= U256::from(max))
    })
}

fn labels(list: &[&str], at: Address) -> bool {
    label(at).is_some_and(|label| list.contains(&label))
}

/// Whether what a node found is what a rule lets happen. What was found then, and is not kept, was.
fn holds_out(most: &Outcome, tried: Tried) -> bool {
    match tried {
        Tried::Never | Tried::Failed => false,
        Tried::Then => true,
        Tried::Seen { reverts, wei, usdc, other, approves } => {
            let within = wei <= most.wei.unwrap_or(0) && usdc <= most.usdc.unwrap_or(0);
            !reverts && within && !other && (most.approvals || !approves)
        }
    }
}

/// Whether a rule matches. A deny rule matches what it cannot read.
fn matches(rule: &Rule, call: &Call, asked: &Asked) -> bool {
    let is_signer = |at: &usize| SIGNERS.get(*at).is_none_or(|signer| *signer == asked.account);
    let (of, from) = match rule.of {
        Of::Presigned => (true, rule.from.as_ref().is_none_or(|list| list.iter().any(is_signer))),
        Of::Transaction | Of::All => (false, is_for(None, rule.from.as_deref(), asked)),
    };
    if rule.of != Of::All && of != matches!(asked.what, What::Presigned) {
        return false;
    }
    if !from || !is_for(rule.clients.as_deref(), None, asked) || rule.chain.is_some_and(|is| is != 1) {
        return false;
    }
    if let Some(list) = &rule.to {
        let holds = match call.to {
            None => list.contains(&"create") || (rule.deny && list.contains(&"any")),
            Some(to) => {
                let is_own = list.contains(&"$created") && asked.created.contains(&to);
                list.contains(&"any") || is_own || labels(list, to)
            }
        };
        if !holds {
            return false;
        }
    }
    let is_own = call.sender == asked.account;
    let holds = match &rule.via {
        None => rule.deny || is_own,
        Some(list) => list.contains(&"any") || (!is_own && labels(list, call.sender)),
    };
    let wanted = if rule.deny { rule.delegatecall } else { Some(rule.delegatecall.unwrap_or(false)) };
    if !holds || wanted.is_some_and(|is| is != call.delegated) {
        return false;
    }
    let value = if rule.deny { rule.value } else { Some(rule.value.unwrap_or((Some(0), Some(0)))) };
    if !within(value, call.value) || !within(rule.fee, asked.fee()) {
        return false;
    }
    // An allow rule that does not speak of blobs is for transactions that have none.
    let blobs = if rule.deny { rule.blobs } else { Some(rule.blobs.unwrap_or((Some(0), Some(0)))) };
    if !within(blobs, U256::from(if asked.is_sent() { asked.blobs } else { 0 })) {
        return false;
    }
    if !sets(rule, asked) || (rule.hours && !is_in_hours(asked)) {
        return false;
    }
    if rule.outcome.is_some_and(|outcome| !holds_out(&outcome, asked.tried)) {
        return false;
    }
    let is_self_call = call.inside && !call.sends && !call.delegated;
    match rule.called {
        None | Some(Called::Any) => true,
        Some(Called::Empty) => call.to.is_some() && call.data.is_empty() && !is_self_call,
        Some(Called::Function(at)) => {
            let signature = canonical(FUNCTIONS[at].signature);
            if call.to.is_none() || call.data.get(..4) != Some(&selector(&signature)[..]) {
                return false;
            }
            let eyes = Eyes {
                account: asked.account,
                sender: call.sender,
                client: asked.client,
                now: asked.now,
                deny: rule.deny,
            };
            read(at, &call.data)
                .map_or(rule.deny, |values| rule.args.iter().all(|(_, test)| test(&values, &eyes)))
        }
    }
}

/// Whether a rule lets the codes be set that a transaction sets; one that allows must name all, and one that denies any.
fn sets(rule: &Rule, asked: &Asked) -> bool {
    let handed = if asked.is_sent() { &asked.handed[..] } else { &[] };
    let mut codes = handed.iter().map(|at| authorizations()[*at].delegate);
    match &rule.delegates {
        None => rule.deny || handed.is_empty(),
        Some(list) if rule.deny => codes.any(|delegate| delegates(list, delegate)),
        Some(list) => codes.all(|delegate| delegates(list, delegate)),
    }
}

/// The rule that allows one call, or the cause that forbids it.
fn one<'w>(world: &'w World, call: &Call, asked: &Asked) -> Result<&'w str, &'static str> {
    if world.rules.iter().any(|rule| rule.deny && matches(rule, call, asked)) {
        return Err("rule");
    }
    if call.is_closed_wrapper() {
        return Err("wrapper");
    }
    if call.is_undecodable() {
        return Err("undecodable");
    }
    let must_be_named = call.inside && !has_abi(call.to) && !call.data.is_empty();
    let allowing = world.rules.iter().filter(|rule| !rule.deny && matches(rule, call, asked));
    let allowing: Vec<_> = allowing.collect();
    let named =
        allowing.iter().filter(|rule| !must_be_named || matches!(rule.called, Some(Called::Function(_))));
    let Some(rule) = named.map(|rule| rule.id.as_str()).min() else {
        return Err(if allowing.is_empty() { "no_rule" } else { "wrapper" });
    };
    // Of a Safe's transaction, whoever hands it in pays.
    let over = asked.is_sent() && over(world, asked);
    if over { Err("cap") } else { Ok(rule) }
}

fn over(world: &World, asked: &Asked) -> bool {
    world.max_gas.is_some_and(|max| asked.gas > max)
        || world.max_calldata.is_some_and(|max| asked.data.len() as u64 > max)
}

/// What is decided, and how many there are that it is decided about: the payload, and the calls in it.
pub fn judge(world: &World, asked: &Asked) -> (Answer, usize) {
    let Roots { payload, calls: mut roots, broken } = roots(asked);
    let mut count = usize::from(payload && !roots.is_empty());
    for call in &mut roots {
        call.open(count, &mut count);
    }
    let mut calls = Vec::new();
    roots.iter().for_each(|call| call.all(&mut calls));
    let all = calls.len() + usize::from(payload);
    let denied = |cause: &str| (Answer::Denied { cause: cause.to_owned() }, all);
    if asked.is_sent() && asked.handed.iter().any(|at| authorizations()[*at].is_foreign) {
        return denied("foreign_signature");
    }
    let mut rules = Vec::new();
    if payload {
        match other(world, asked) {
            Ok(rule) => rules.push(rule),
            Err(cause) => return denied(cause),
        }
    }
    let first = rules.len();
    for call in &calls {
        match one(world, call, asked) {
            Ok(rule) => rules.push(rule),
            Err(cause) => return denied(cause),
        }
    }
    if broken || calls.iter().any(|call| call.broken) {
        return denied("wrapper");
    }
    let mut charges = BTreeMap::new();
    for budget in &world.budgets {
        let is_covered = |to: Option<Address>| budget.to.is_none_or(|is| to.and_then(label) == Some(is));
        // Those with a `to` are for transactions.
        let covers = |call: &Call| {
            is_covered(call.to) && (budget.to.is_none() || !matches!(asked.what, What::Presigned))
        };
        if payload && budget.to.is_none() {
            let (to, amount) = match (&asked.what, budget.of) {
                (What::Authorization(delegate), of) => {
                    if of != "count" && !delegate.is_zero() {
                        return denied("undecodable");
                    }
                    (Some(*delegate), Some(U256::from(of == "count")))
                }
                (What::Typed(typed), "usdc") => (typed.to, typed.moves()),
                (What::Typed(typed), of) => (typed.to, Some(U256::from(of == "count"))),
                (_, of) => (None, Some(U256::from(of == "count"))),
            };
            let Some(amount) = amount else { return denied("undecodable") };
            if !amount.is_zero() {
                charges.insert((budget.id.to_owned(), scope(budget, to, rules[0], asked)), amount);
            }
        }
        if budget.of == "ether" {
            for (scope, sum) in sent(&roots, (budget, covers), &rules[first..], asked) {
                if !sum.is_zero() {
                    charges.insert((budget.id.to_owned(), scope), sum);
                }
            }
            continue;
        }
        for (call, rule) in calls.iter().zip(&rules[first..]).filter(|(call, _)| covers(call)) {
            let amount = if budget.of == "count" { Some(U256::ONE) } else { tokens(call, asked.account) };
            let Some(amount) = amount else { return denied("undecodable") };
            if !amount.is_zero() {
                let sum: &mut U256 =
                    charges.entry((budget.id.to_owned(), scope(budget, call.to, rule, asked))).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    (Answer::Allowed { rule: rules[0].to_owned(), charges }, all)
}

/// What is judged at first.
struct Roots {
    /// Whether it is no transaction itself.
    payload: bool,
    /// The transaction, or what a Safe is to do.
    calls: Vec<Call>,
    /// Whether nobody can tell what a Safe is to do.
    broken: bool,
}

fn roots(asked: &Asked) -> Roots {
    match &asked.what {
        What::Transaction | What::Presigned => {
            let whole = Call {
                sender: asked.account,
                to: asked.to,
                value: U256::from(asked.value),
                data: asked.data.clone(),
                inside: false,
                delegated: false,
                sends: true,
                keeps: true,
                carries: Vec::new(),
                broken: false,
            };
            Roots { payload: false, calls: vec![whole], broken: false }
        }
        What::Typed(typed) if typed.ty.encoded.starts_with("SafeTx(") => {
            let call = of_a_safe(typed);
            Roots { payload: true, broken: call.is_none(), calls: call.into_iter().collect() }
        }
        What::Typed(_) | What::Message(_) | What::Authorization(_) => {
            Roots { payload: true, calls: Vec::new(), broken: false }
        }
    }
}

/// The call that a Safe makes once its owners have signed; nothing where that cannot be told.
fn of_a_safe(typed: &Typed) -> Option<Call> {
    if ![SAFE_TX, SAFE_TX_OF_OLD].contains(&typed.ty.encoded) {
        return None;
    }
    let (_, safe) = typed.chain.zip(typed.to)?;
    let number = |at: usize| typed.values[at].as_uint().unwrap().0;
    let (value, operation) = (number(1), number(3));
    let delegated = operation == U256::ONE;
    if operation > U256::ONE || (delegated && !value.is_zero()) || !number(6).is_zero() {
        return None;
    }
    Some(Call {
        sender: safe,
        to: typed.values[0].as_address(),
        value,
        data: typed.values[2].as_bytes().unwrap().to_vec(),
        inside: true,
        delegated,
        sends: !delegated,
        keeps: true,
        carries: Vec::new(),
        broken: false,
    })
}

/// The rule that allows what is no transaction, or the cause that forbids it.
fn other<'w>(world: &'w World, asked: &Asked) -> Result<&'w str, &'static str> {
    let all =
        |rule: &Rule| rule.of == Of::All && is_for(rule.clients.as_deref(), rule.from.as_deref(), asked);
    let forbids = |rule: &Rule| all(rule) && (!rule.hours || is_in_hours(asked));
    let matching = |deny| world.others.iter().filter(move |rule| rule.deny == deny && rule.matches(asked));
    if world.rules.iter().any(forbids) || matching(true).next().is_some() {
        return Err("rule");
    }
    matching(false).map(|rule| rule.id.as_str()).min().ok_or("no_rule")
}

/// The ether that leaves, by scope, with what its execution can cost.
fn sent(
    roots: &[Call],
    (budget, covers): (&Budget, impl Fn(&Call) -> bool),
    rules: &[&str],
    asked: &Asked,
) -> BTreeMap<String, U256> {
    let mut sums = BTreeMap::new();
    let mut at = 0;
    for call in roots {
        for (scope, (along, on)) in ether(call, (budget, &covers), rules, &mut at, asked) {
            sums.insert(scope, along.max(on) + asked.fee());
        }
    }
    sums
}

fn scope(budget: &Budget, to: Option<Address>, rule: &str, asked: &Asked) -> String {
    let text = match (budget.per, to) {
        ("from", _) => format!("from={}", asked.account),
        ("client", _) => format!("client={}", asked.client),
        ("rule", _) => format!("rule={rule}"),
        ("to", Some(to)) => format!("to={to}"),
        _ => String::new(),
    };
    match (budget.of, text.is_empty()) {
        ("ether", true) => "chain=1".to_owned(),
        ("ether", false) => format!("chain=1 {text}"),
        _ => text,
    }
}

/// What is sent by scope: what comes along with a call and with all that runs as it, and what is sent on from there.
fn ether(
    call: &Call,
    (budget, covers): (&Budget, &impl Fn(&Call) -> bool),
    rules: &[&str],
    at: &mut usize,
    asked: &Asked,
) -> BTreeMap<String, (U256, U256)> {
    let rule = rules[*at];
    *at += 1;
    let mut sums = BTreeMap::<String, (U256, U256)>::new();
    for inner in &call.carries {
        for (scope, (along, on)) in ether(inner, (budget, covers), rules, at, asked) {
            let sum = sums.entry(scope).or_default();
            if inner.sends {
                sum.1 += along.max(on);
            } else {
                *sum = (sum.0.max(along), sum.1 + on);
            }
        }
    }
    if covers(call) {
        let sum = sums.entry(scope(budget, call.to, rule, asked)).or_default();
        sum.0 = sum.0.max(call.value);
    }
    sums
}

/// How much USDC a call moves, or lets others move; nothing where that cannot be told.
fn tokens(call: &Call, account: Address) -> Option<U256> {
    let Some(function) = known(call.to, &call.data) else { return Some(U256::ZERO) };
    let values = read(function, &call.data).unwrap();
    let name = FUNCTIONS[function].signature.split('(').next().unwrap();
    let is_usdc = |value: &DynSolValue| value.as_address() == Some(USDC);
    let amount = |value: &DynSolValue| value.as_uint().unwrap().0;
    Some(match name {
        "transfer" | "approve" => amount(&values[1]),
        "pull" if is_usdc(&values[0]) => amount(&values[1]),
        "withdraw" if is_usdc(&values[0]) => {
            let to = values[2].as_address().unwrap();
            let comes_back = to == account || (call.keeps && to == call.sender);
            if comes_back { U256::ZERO } else { amount(&values[1]) }
        }
        "exactInput" => {
            let params = values[0].as_tuple().unwrap();
            if path(&params[0])?[0] == USDC { amount(&params[2]) } else { U256::ZERO }
        }
        _ => U256::ZERO,
    })
}
