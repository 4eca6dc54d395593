//! A value of a condition, as the type that it is compared with: addresses by name, amounts in a token's unit, times.

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{B256, I256, Sign, U256};
use toml::Value;

use crate::config::units;
use crate::policy::amount::Unit;
use crate::policy::argument::{ArgumentTest, Operand, order};
use crate::policy::read::names::Names;

/// Reads the tests of one value.
pub(super) struct Reader<'a> {
    pub names: &'a Names<'a>,
    pub chain: Option<u64>,
    pub ty: &'a DynSolType,
    pub units: &'a [Unit],
}

impl Reader<'_> {
    /// A value, a list of alternatives, or `{ equals, not, min, max, prefix, within }`; nothing for "any".
    pub fn tests(&self, value: &Value) -> Result<Vec<ArgumentTest>, String> {
        if is_any(value) {
            return Ok(Vec::new());
        }
        if matches!(self.ty, DynSolType::Array(_) | DynSolType::FixedArray(..) | DynSolType::Tuple(_)) {
            return Err(format!(
                "a {} is no single value: name its parts, such as \"params.recipient\", \"path[0]\" or \"all(amounts)\", or write \"any\"",
                self.ty.sol_type_name()
            ));
        }
        let Value::Table(table) = value else {
            let (operands, unit) = self.operands(value)?;
            return Ok(vec![ArgumentTest::OneOf(operands, unit)]);
        };
        let mut tests = Vec::new();
        let mut from_now = false;
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
                    let (bound, unit) = self.bound(value)?;
                    ArgumentTest::Min(bound, unit)
                }
                "max" => {
                    let (bound, unit) = self.bound(value)?;
                    ArgumentTest::Max(bound, unit)
                }
                "prefix" => self.prefix(value)?,
                "within" => {
                    from_now = true;
                    self.within(value)?
                }
                other => {
                    return Err(format!(
                        "`{other}` is not a condition; write equals, not, min, max, prefix or within"
                    ));
                }
            });
        }
        if tests.is_empty() {
            return Err("there is no condition in { }; write \"any\" if that is meant".to_owned());
        }
        if from_now {
            tests.push(ArgumentTest::Min(Operand::Now(0), None));
        }
        let least = tests
            .iter()
            .filter_map(|test| if let ArgumentTest::Min(value, _) = test { Some(value) } else { None });
        for least in least {
            let most = tests
                .iter()
                .filter_map(|test| if let ArgumentTest::Max(value, _) = test { Some(value) } else { None });
            for most in most {
                if is_more(least, most) {
                    return Err("`min` is more than `max`, so nothing can match".to_owned());
                }
            }
        }
        Ok(tests)
    }

    fn operands(&self, value: &Value) -> Result<(Vec<Operand>, Option<Unit>), String> {
        let Value::Array(list) = value else { return self.alternatives(value) };
        if list.is_empty() {
            return Err("the list is empty".to_owned());
        }
        if list.iter().any(is_any) {
            return Err("\"any\" stands alone, not in a list".to_owned());
        }
        let mut operands = Vec::new();
        let mut unit = None;
        for value in list {
            let (found, of) = self.alternatives(value)?;
            operands.extend(found);
            unit = unit.or(of);
        }
        Ok((operands, unit))
    }

    /// What one text stands for: of `@list`, every address in it.
    fn alternatives(&self, value: &Value) -> Result<(Vec<Operand>, Option<Unit>), String> {
        if let (DynSolType::Address, Value::String(text)) = (self.ty, value)
            && !matches!(text.as_str(), "$from" | "$sender" | "$created")
        {
            let found = self.names.find_all(text, self.chain)?;
            return Ok((
                found.into_iter().map(|at| Operand::Value(DynSolValue::Address(at))).collect(),
                None,
            ));
        }
        let (operand, unit) = self.operand(value)?;
        Ok((vec![operand], unit))
    }

    fn operand(&self, value: &Value) -> Result<(Operand, Option<Unit>), String> {
        if let DynSolType::Uint(_) | DynSolType::Int(_) = self.ty {
            return self.bound(value);
        }
        let plain = |value| Ok((Operand::Value(value), None));
        match (self.ty, value) {
            (DynSolType::Address, Value::String(text)) if text == "$sender" => Ok((Operand::Sender, None)),
            (DynSolType::Address, Value::String(text)) if text == "$created" => Ok((Operand::Created, None)),
            (DynSolType::Address, Value::String(_)) => Ok((Operand::From, None)),
            (DynSolType::Bool, Value::Boolean(value)) => plain(DynSolValue::Bool(*value)),
            (DynSolType::String, Value::String(text)) if text == "$client" => Ok((Operand::Client, None)),
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
                    DynSolType::Address =>
                        "write a label, an account's name, an address, \"@list\", \"$from\", \"$sender\" or \"$created\"",
                    DynSolType::Bool => "write true or false",
                    DynSolType::String => "write text",
                    DynSolType::Bytes | DynSolType::FixedBytes(_) => "write \"0x…\"",
                    _ => "only \"any\" can be said of it",
                }
            )),
        }
    }

    /// A number, or a time from now.
    fn bound(&self, value: &Value) -> Result<(Operand, Option<Unit>), String> {
        match (self.ty, value) {
            (DynSolType::Uint(_), Value::String(text)) if text.starts_with("$now") => {
                self.time(text).map(|time| (time, None))
            }
            _ => self.number(value).map(|(number, unit)| (Operand::Value(number), unit)),
        }
    }

    /// `$now`, `$now + 1h`, `$now - 5m`.
    fn time(&self, text: &str) -> Result<Operand, String> {
        if !matches!(self.ty, DynSolType::Uint(_)) {
            return Err(format!(
                "`within` is for times, which are uints; this is a {}",
                self.ty.sol_type_name()
            ));
        }
        let wrong = || format!("`{text}`: write \"$now\", \"$now + 1h\" or \"$now - 5m\"");
        let rest = text.strip_prefix("$now").ok_or_else(wrong)?.trim();
        if rest.is_empty() {
            return Ok(Operand::Now(0));
        }
        let (later, length) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
            (Some(length), _) => (true, length),
            (_, Some(length)) => (false, length),
            _ => return Err(wrong()),
        };
        let seconds = seconds(length.trim()).map_err(|why| format!("{}: {why}", wrong()))?;
        Ok(Operand::Now(if later { seconds } else { seconds.saturating_neg() }))
    }

    /// At most so long from now. (That it is not over is a test of its own.)
    fn within(&self, value: &Value) -> Result<ArgumentTest, String> {
        let Value::String(text) = value else {
            return Err(format!("{value} is no length of time; write for example \"1h\""));
        };
        self.time("$now")?;
        Ok(ArgumentTest::Max(Operand::Now(seconds(text)?), None))
    }

    fn prefix(&self, value: &Value) -> Result<ArgumentTest, String> {
        let Value::String(text) = value else { return Err(format!("{value} is no text")) };
        let (prefix, length) = match self.ty {
            DynSolType::String => (DynSolValue::String(text.clone()), text.len()),
            DynSolType::Bytes | DynSolType::FixedBytes(_) => {
                let prefix = bytes(text)?;
                let length = prefix.len();
                (DynSolValue::Bytes(prefix), length)
            }
            other => {
                return Err(format!("`prefix` is for bytes and text, not for a {}", other.sol_type_name()));
            }
        };
        if let DynSolType::FixedBytes(size) = self.ty
            && length > *size
        {
            return Err(format!("`{text}` is longer than a bytes{size}, so nothing can match"));
        }
        if length == 0 {
            return Err("everything begins with nothing: write \"any\" if that is meant".to_owned());
        }
        Ok(ArgumentTest::Prefix(prefix))
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

/// Whether nothing can be at least the one and at most the other.
fn is_more(least: &Operand, most: &Operand) -> bool {
    match (least, most) {
        (Operand::Value(least), Operand::Value(most)) => {
            order(least, most).is_some_and(std::cmp::Ordering::is_gt)
        }
        (Operand::Now(least), Operand::Now(most)) => least > most,
        _ => false,
    }
}

fn seconds(text: &str) -> Result<i64, String> {
    let length = units::duration(text).map_err(|e| e.to_string())?;
    i64::try_from(length.as_secs()).map_err(|_| format!("`{text}` is too long"))
}

fn is_any(value: &Value) -> bool {
    matches!(value, Value::String(text) if text == "any")
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    crate::transaction::data(text).map(|bytes| bytes.to_vec()).map_err(|e| format!("`{text}` {e}"))
}
