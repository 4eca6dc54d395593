//! What stands in arguments or members, as conditions that nothing else fulfils; only of an amount that is known to be moved, less
//! will do.

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{U256, hex};

use crate::policy::abi::{Function, Part, holds_address_or_bytes};
use crate::policy::amount::{Unit, show_unit};
use crate::policy::call::TransactionFacts;
use crate::policy::decide::Policy;
use crate::policy::facts::{Book, Facts};
use crate::policy::path::{Path, Step};
use crate::policy::spend::{Amount, Asset, known_move};
use crate::policy::suggest::quoted;
use crate::policy::typed::{Moves, Template, TypedFacts};

/// Where a function's amounts stand that leave the account, or are let leave it: less of them takes less. Of any other number, such
/// as what must at least come out of a swap, nobody knows what less would do.
pub(in crate::policy) struct Amounts<'a>(Vec<(Path, Option<&'a Unit>)>);

impl<'a> Amounts<'a> {
    pub fn of_call(transaction: &TransactionFacts<'a>, function: &Function) -> Self {
        let Some(contract) = transaction.contract else { return Self(Vec::new()) };
        let unit = contract.unit.as_ref();
        let declared = contract.spends.iter().filter(|spend| spend.function.selector == function.selector);
        let mut is_declared = false;
        let mut found = Vec::new();
        for spend in declared {
            is_declared = true;
            if let Amount::At(path) = &spend.amount {
                found.push((path.clone(), unit.filter(|_| spend.asset == Asset::Own)));
            }
        }
        // Of a token's own functions.
        if let (false, Some(unit), Some(at)) = (is_declared, unit, known_move(function)) {
            found.push((Path::argument(function, at), Some(unit)));
        }
        Self(found)
    }

    pub fn of_typed(typed: &TypedFacts<'_>, ty: &Function, book: &'a Book) -> Self {
        let template = Template::of(&ty.signature);
        let found = template.and_then(|template| Some((template, Path::parse(ty, template.amount?).ok()?)));
        let Some((template, (path, _))) = found else { return Self(Vec::new()) };
        let token = typed.verifier().filter(|_| matches!(template.moves, Moves::Own(_)));
        let token = token.and_then(|(chain, at)| book.contract(chain, at));
        Self(vec![(path, token.and_then(|token| token.unit.as_ref()))])
    }

    /// The condition on an amount that stands there; nothing where it is none.
    fn most(&self, function: &Function, path: &str, number: U256) -> Option<String> {
        let (path, _) = Path::parse(function, path).ok()?;
        let is_it = |step: &Step, of: &Step| step == of || matches!((step, of), (Step::Item(_), Step::Each));
        let is_there = |of: &Path| {
            let same = path.steps.iter().zip(&of.steps).all(|(step, of)| is_it(step, of));
            path.at == of.at && path.steps.len() == of.steps.len() && same
        };
        let (_, unit) = self.0.iter().find(|(of, _)| is_there(of) && !number.is_zero())?;
        let most = unit.map_or_else(|| number.to_string(), |unit| show_unit(number, unit));
        Some(format!("{{ max = {} }}", quoted(&most)))
    }
}

/// Arguments or members that are to be written as conditions.
pub(in crate::policy) struct Places<'a, 'f> {
    pub policy: &'a Policy,
    pub facts: &'a Facts<'f>,
    pub chain: Option<u64>,
    pub amounts: Amounts<'a>,
}

impl Places<'_, '_> {
    /// All of them; an error says what no rule can say.
    pub fn all(&self, function: &Function, values: &[DynSolValue]) -> Result<String, String> {
        let mut found = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let parts = function.parts.get(at).map(Vec::as_slice).unwrap_or_default();
            let ty = function.types.get(at).ok_or("its arguments are not those of its function")?;
            // Of two of one name, only the first has it.
            let name = function.label(at);
            let name = if function.position(&name) == Some(at) { name } else { at.to_string() };
            self.place(function, &name, (value, ty, parts), &mut found)?;
        }
        Ok(format!("{{ {} }}", found.join(", ")))
    }

    fn place(
        &self,
        function: &Function,
        path: &str,
        (value, ty, parts): (&DynSolValue, &DynSolType, &[Part]),
        found: &mut Vec<String>,
    ) -> Result<(), String> {
        match (value, ty) {
            (DynSolValue::Tuple(values), DynSolType::Tuple(types)) => {
                for (at, (value, ty)) in values.iter().zip(types).enumerate() {
                    let path = format!("{path}.{}", name_of(parts, at));
                    self.place(function, &path, (value, ty, parts_of(parts, at)), found)?;
                }
            }
            (DynSolValue::Array(values), DynSolType::Array(item))
            | (DynSolValue::FixedArray(values), DynSolType::FixedArray(item, _)) => {
                if matches!(ty, DynSolType::Array(_)) {
                    found.push(format!("{} = {}", key(&format!("len({path})")), values.len()));
                }
                for (at, value) in values.iter().enumerate() {
                    self.place(function, &format!("{path}[{at}]"), (value, item, parts), found)?;
                }
                // What each may be must be said of addresses, and of bytes, in whichever place they stand.
                if !path.contains('[') {
                    let values: Vec<_> = values.iter().collect();
                    self.each(path, (&values, item, parts), found)?;
                }
            }
            (DynSolValue::Uint(number, _), _) => {
                let most = self.amounts.most(function, path, *number);
                let condition = most.unwrap_or_else(|| quoted(&number.to_string()));
                found.push(format!("{} = {condition}", key(path)));
            }
            (value, _) => found.push(format!("{} = {}", key(path), self.exactly(path, value)?)),
        }
        Ok(())
    }

    /// What all of a list's items are, as far as a rule has to say it.
    fn each(
        &self,
        path: &str,
        (values, ty, parts): (&[&DynSolValue], &DynSolType, &[Part]),
        found: &mut Vec<String>,
    ) -> Result<(), String> {
        if !holds_address_or_bytes(ty) {
            return Ok(());
        }
        match ty {
            DynSolType::Tuple(types) => {
                for (at, ty) in types.iter().enumerate() {
                    let inside: Vec<_> =
                        values.iter().filter_map(|value| value.as_tuple()?.get(at)).collect();
                    let path = format!("{path}.{}", name_of(parts, at));
                    self.each(&path, (&inside, ty, parts_of(parts, at)), found)?;
                }
            }
            DynSolType::Array(item) | DynSolType::FixedArray(item, _) => {
                let items =
                    values.iter().filter_map(|value| value.as_array().or_else(|| value.as_fixed_array()));
                let inside: Vec<_> = items.flatten().collect();
                self.each(path, (&inside, item, parts), found)?;
            }
            _ => {
                let mut each = Vec::new();
                for value in values {
                    each.push(self.exactly(path, value)?);
                }
                each.sort();
                each.dedup();
                let condition =
                    if each.is_empty() { "\"any\"".to_owned() } else { format!("[{}]", each.join(", ")) };
                found.push(format!("{} = {condition}", key(&format!("all({path})"))));
            }
        }
        Ok(())
    }

    /// A value as a condition that nothing else fulfils.
    fn exactly(&self, path: &str, value: &DynSolValue) -> Result<String, String> {
        Ok(match value {
            DynSolValue::Address(at) if *at == self.facts.account => "\"$from\"".to_owned(),
            DynSolValue::Address(at) => self.policy.named(self.facts, self.chain, *at),
            DynSolValue::Bool(is) => is.to_string(),
            DynSolValue::Int(number, _) => quoted(&number.to_dec_string()),
            // Whoever asks chooses it, and some words mean more than themselves.
            DynSolValue::String(text) if text.starts_with('$') => {
                return Err(format!(
                    "`{path}` is a text that begins with `$`, as what stands for something else does in a rule: no rule is suggested"
                ));
            }
            DynSolValue::String(text) => format!("{{ equals = {} }}", quoted(text)),
            DynSolValue::Bytes(bytes) => quoted(&hex::encode_prefixed(bytes)),
            DynSolValue::FixedBytes(word, size) => {
                quoted(&hex::encode_prefixed(word.get(..*size).unwrap_or_default()))
            }
            _ => {
                return Err(format!(
                    "of what stands at `{path}` a rule can only say \"any\": write it yourself"
                ));
            }
        })
    }
}

/// The name of a tuple's part, or its number where it has none of its own.
fn name_of(parts: &[Part], at: usize) -> String {
    let name = parts.get(at).map(|part| part.name.as_str()).filter(|name| !name.is_empty());
    let name = name.filter(|name| parts.iter().position(|part| part.name == *name) == Some(at));
    name.map_or_else(|| at.to_string(), str::to_owned)
}

fn parts_of(parts: &[Part], at: usize) -> &[Part] {
    parts.get(at).map(|part| part.parts.as_slice()).unwrap_or_default()
}

/// A key of a table, in quotes where TOML wants them.
fn key(path: &str) -> String {
    let is_bare = path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_bare { path.to_owned() } else { quoted(path) }
}
