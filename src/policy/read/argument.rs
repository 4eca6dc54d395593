//! `args`: what each argument of a call may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{Address, B256, I256, Sign, U256};
use toml::{Spanned, Value};

use crate::config::units;
use crate::policy::abi::holds_address;
use crate::policy::amount::Unit;
use crate::policy::condition::{ArgumentTest, Condition, Operand, order};
use crate::policy::read::File;
use crate::policy::read::matcher::Matchers;
use crate::policy::read::names::Names;
use crate::policy::written::Text;

type Written = BTreeMap<Text, Spanned<Value>>;

/// Reads `args` into conditions. An allow rule must speak of every argument that can hold an address.
pub(super) fn read(
    file: &mut File<'_>,
    written: Option<&Spanned<Written>>,
    meant: &mut Matchers,
    call: Option<&Text>,
    names: &Names<'_>,
    allow: bool,
) {
    let Some(function) = meant.function.clone() else {
        if let (Some(written), false) = (written, call.is_some_and(|call| is_function(call.get_ref()))) {
            file.wrong(&written.span(), "`args` needs a `call` that names a function");
        }
        return;
    };
    let empty = Written::new();
    let args = written.map_or(&empty, Spanned::get_ref);
    let mut said = vec![false; function.types.len()];
    let mut tests = Vec::new();
    // Addresses first: amounts are in units of the tokens that they pin.
    let mut pins = vec![meant.targets.clone()];
    let mut numbers = Vec::new();
    for (name, value) in args {
        let Some(at) = function.position(name.get_ref()) else {
            let what = format!("{} has no parameter `{}`", function.describe(), name.get_ref());
            file.wrong(&name.span(), what);
            continue;
        };
        let (Some(ty), Some(said)) = (function.types.get(at), said.get_mut(at)) else { continue };
        if *said {
            file.wrong(
                &name.span(),
                format_args!("`{}` stands there twice, by name and number", name.get_ref()),
            );
        }
        *said = true;
        if *ty == DynSolType::Address {
            let reader = Reader { names, chain: meant.chain, ty, units: &[] };
            if let Some(found) = file.right(&value.span(), reader.tests(value.get_ref())) {
                pins.extend(found.iter().filter_map(pinned));
                tests.push((at, found));
            }
        } else {
            numbers.push((at, ty, value));
        }
    }
    let units = units_of(&pins, meant.chain, names);
    for (at, ty, value) in numbers {
        let reader = Reader { names, chain: meant.chain, ty, units: &units };
        if let Some(found) = file.right(&value.span(), reader.tests(value.get_ref())) {
            tests.push((at, found));
        }
    }
    if allow {
        let unsaid = function.types.iter().zip(&said).enumerate();
        let unsaid = unsaid.filter(|(_, (ty, said))| holds_address(ty) && !**said);
        let unsaid: Vec<_> = unsaid.map(|(at, _)| format!("`{}`", function.label(at))).collect();
        if !unsaid.is_empty() {
            let span = written.map(Spanned::span).or_else(|| call.map(Spanned::span)).unwrap_or_default();
            let what = format!(
                "an allow rule must say what each address is: {} of {} is missing in `args` (\"any\" if it may be any)",
                unsaid.join(", "),
                function.describe()
            );
            file.wrong(&span, what);
        }
    }
    for (at, found) in tests {
        meant.conditions.extend(found.into_iter().map(|test| Condition::Argument {
            function: Arc::clone(&function),
            at,
            test,
        }));
    }
}

fn is_function(call: &str) -> bool {
    call != "any" && call != "empty"
}

/// The addresses that this argument must be one of.
fn pinned(test: &ArgumentTest) -> Option<Vec<Address>> {
    let ArgumentTest::OneOf(operands, _) = test else { return None };
    let address = |operand: &Operand| match operand {
        Operand::Value(value) => value.as_address(),
        Operand::From => None,
    };
    operands.iter().map(address).collect()
}

/// The units in which the rule's amounts can be written: of tokens that it pins, where all alternatives agree.
fn units_of(pins: &[Vec<Address>], chain: Option<u64>, names: &Names<'_>) -> Vec<Unit> {
    let mut units = Vec::<Unit>::new();
    for alternatives in pins {
        let mut found = alternatives
            .iter()
            .map(|at| names.contract(chain, *at).and_then(|contract| contract.unit.as_ref()));
        let Some(Some(unit)) = found.next() else { continue };
        if found.all(|other| other == Some(unit)) && !units.contains(unit) {
            units.push(unit.clone());
        }
    }
    units
}

/// Reads the tests of one argument.
struct Reader<'a> {
    names: &'a Names<'a>,
    chain: Option<u64>,
    ty: &'a DynSolType,
    units: &'a [Unit],
}

impl Reader<'_> {
    /// A value, a list of alternatives, or `{ equals, min, max, not }`; nothing for "any".
    fn tests(&self, value: &Value) -> Result<Vec<ArgumentTest>, String> {
        if is_any(value) {
            return Ok(Vec::new());
        }
        if matches!(self.ty, DynSolType::Array(_) | DynSolType::FixedArray(..) | DynSolType::Tuple(_)) {
            return Err(format!(
                "conditions do not reach into {} in this version: write \"any\", or leave it out if it holds no address",
                self.ty.sol_type_name()
            ));
        }
        let Value::Table(table) = value else {
            let (operands, unit) = self.operands(value)?;
            return Ok(vec![ArgumentTest::OneOf(operands, unit)]);
        };
        let mut tests = Vec::new();
        for (key, value) in table {
            tests.push(match key.as_str() {
                "equals" => {
                    let (operands, unit) = self.operands(value)?;
                    ArgumentTest::OneOf(operands, unit)
                }
                "not" => {
                    let (operands, unit) = self.operands(value)?;
                    ArgumentTest::NoneOf(operands, unit)
                }
                "min" => {
                    let (bound, unit) = self.number(value)?;
                    ArgumentTest::Min(bound, unit)
                }
                "max" => {
                    let (bound, unit) = self.number(value)?;
                    ArgumentTest::Max(bound, unit)
                }
                other => {
                    return Err(format!("`{other}` is not a condition; write equals, not, min or max"));
                }
            });
        }
        if tests.is_empty() {
            return Err("there is no condition in { }; write \"any\" if that is meant".to_owned());
        }
        let bound = |wanted: fn(&ArgumentTest) -> Option<&DynSolValue>| tests.iter().find_map(wanted);
        let least = bound(|test| if let ArgumentTest::Min(value, _) = test { Some(value) } else { None });
        let most = bound(|test| if let ArgumentTest::Max(value, _) = test { Some(value) } else { None });
        if let (Some(least), Some(most)) = (least, most)
            && order(least, most).is_some_and(std::cmp::Ordering::is_gt)
        {
            return Err("`min` is more than `max`, so nothing can match".to_owned());
        }
        Ok(tests)
    }

    fn operands(&self, value: &Value) -> Result<(Vec<Operand>, Option<Unit>), String> {
        let Value::Array(list) = value else {
            let (operand, unit) = self.operand(value)?;
            return Ok((vec![operand], unit));
        };
        if list.is_empty() {
            return Err("the list is empty".to_owned());
        }
        if list.iter().any(is_any) {
            return Err("\"any\" stands alone, not in a list".to_owned());
        }
        let mut operands = Vec::new();
        let mut unit = None;
        for value in list {
            let (operand, of) = self.operand(value)?;
            operands.push(operand);
            unit = unit.or(of);
        }
        Ok((operands, unit))
    }

    fn operand(&self, value: &Value) -> Result<(Operand, Option<Unit>), String> {
        if let DynSolType::Uint(_) | DynSolType::Int(_) = self.ty {
            let (number, unit) = self.number(value)?;
            return Ok((Operand::Value(number), unit));
        }
        let plain = |value| Ok((Operand::Value(value), None));
        match (self.ty, value) {
            (DynSolType::Address, Value::String(text)) if text == "$from" => Ok((Operand::From, None)),
            (DynSolType::Address, Value::String(text)) => {
                plain(DynSolValue::Address(self.names.find(text, self.chain)?))
            }
            (DynSolType::Bool, Value::Boolean(value)) => plain(DynSolValue::Bool(*value)),
            (DynSolType::String, Value::String(text)) => plain(DynSolValue::String(text.clone())),
            (DynSolType::Bytes, Value::String(text)) => plain(DynSolValue::Bytes(bytes(text)?)),
            (DynSolType::FixedBytes(size), Value::String(text)) => {
                let bytes = bytes(text)?;
                if bytes.len() != *size {
                    return Err(format!("`{text}` has {} bytes, a bytes{size} has {size}", bytes.len()));
                }
                let mut word = B256::ZERO;
                word.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
                plain(DynSolValue::FixedBytes(word, *size))
            }
            (ty, value) => Err(format!(
                "{value} is no {}: {}",
                ty.sol_type_name(),
                match ty {
                    DynSolType::Address => "write a label, an account's name, an address or \"$from\"",
                    DynSolType::Bool => "write true or false",
                    DynSolType::String => "write text",
                    DynSolType::Bytes | DynSolType::FixedBytes(_) => "write \"0x…\"",
                    _ => "only \"any\" can be said of it",
                }
            )),
        }
    }

    /// A number: bare, or as an amount of a token that the rule pins, or of the chain's coin.
    fn number(&self, value: &Value) -> Result<(DynSolValue, Option<Unit>), String> {
        let signed = matches!(self.ty, DynSolType::Int(_));
        if !signed && !matches!(self.ty, DynSolType::Uint(_)) {
            return Err(format!(
                "a {} has no order: `min` and `max` are for numbers",
                self.ty.sol_type_name()
            ));
        }
        let (negative, number, unit) = match value {
            Value::Integer(number) => (*number < 0, U256::from(number.unsigned_abs()), None),
            Value::String(text) => {
                let (negative, rest) = match text.strip_prefix('-') {
                    Some(rest) if signed => (true, rest),
                    _ => (false, text.as_str()),
                };
                let (number, unit) = self.amount(rest)?;
                (negative, number, unit)
            }
            other => return Err(format!("{other} is no number; write digits, or text with a unit")),
        };
        let fits =
            |bits: usize| format!("{value} does not fit into {} ({bits} bits)", self.ty.sol_type_name());
        match self.ty {
            DynSolType::Uint(bits) if !negative && number.bit_len() <= *bits => {
                Ok((DynSolValue::Uint(number, *bits), unit))
            }
            DynSolType::Int(bits) => {
                let sign = if negative { Sign::Negative } else { Sign::Positive };
                let number = I256::checked_from_sign_and_abs(sign, number);
                number
                    .filter(|number| usize::try_from(number.bits()).is_ok_and(|needed| needed <= *bits))
                    .map(|number| (DynSolValue::Int(number, *bits), unit))
                    .ok_or_else(|| fits(*bits))
            }
            DynSolType::Uint(bits) => Err(fits(*bits)),
            _ => Err("it is no number".to_owned()),
        }
    }

    fn amount(&self, text: &str) -> Result<(U256, Option<Unit>), String> {
        let said = |e: units::UnitError| e.to_string();
        let Some((number, symbol)) = text.trim().split_once(char::is_whitespace) else {
            return units::decimal(text, 0).map(|number| (number, None)).map_err(said);
        };
        let symbol = symbol.trim();
        let mut pinned = self.units.iter().filter(|unit| unit.symbol == symbol);
        match (pinned.next(), pinned.next()) {
            (Some(unit), None) => {
                let number = units::decimal(number, unit.decimals).map_err(said)?;
                Ok((number, Some(unit.clone())))
            }
            (Some(_), Some(_)) => Err(format!(
                "the rule pins two tokens with symbol {symbol} and different decimals; write bare numbers"
            )),
            (None, _) if matches!(symbol, "wei" | "gwei" | "ether") => match self.units.first() {
                Some(unit) => Err(format!(
                    "the rule pins {}, so write the amount in {}, not in {symbol}",
                    unit.symbol, unit.symbol
                )),
                None => units::wei(text).map(|number| (number, None)).map_err(said),
            },
            (None, _) => {
                let known: Vec<_> = self.units.iter().map(|unit| unit.symbol.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(format!(
                    "an amount in {symbol} needs its token pinned by the same rule, in `to` or as an address argument, \
                     with `symbol` and `decimals` in [contracts]; pinned here: {known}"
                ))
            }
        }
    }
}

fn is_any(value: &Value) -> bool {
    matches!(value, Value::String(text) if text == "any")
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    crate::transaction::data(text).map(|bytes| bytes.to_vec()).map_err(|e| format!("`{text}` {e}"))
}
