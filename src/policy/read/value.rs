//! Values of a rule that are bounds or texts: `value`, `execution_fee`, `text`.

use alloy_primitives::U256;
use toml::{Table, Value};

use crate::config::units;
use crate::policy::amount::Range;
use crate::policy::hours::Hours;
use crate::policy::messages::TextTest;

/// `"any"`, an amount that it must be, or `{ min, max }`; `None` is any.
pub(super) fn bounds(value: &Value) -> Result<Option<Range>, String> {
    match value {
        Value::String(text) if text == "any" => Ok(None),
        Value::Table(table) => range(table, wei).map(Some),
        value => wei(value).map(|exactly| Some(Range::exactly(exactly))),
    }
}

/// `"any"`, a number, or `{ min, max }`; `None` is any.
pub(super) fn counts(value: &Value) -> Result<Option<Range>, String> {
    let count = |value: &Value| match value {
        Value::Integer(count) if *count >= 0 => Ok(U256::from(count.unsigned_abs())),
        other => Err(format!("{other} is no number; write for example {{ max = 6 }}")),
    };
    match value {
        Value::String(text) if text == "any" => Ok(None),
        Value::Table(table) => range(table, count).map(Some),
        value => count(value).map(|exactly| Some(Range::exactly(exactly))),
    }
}

/// `{ min, max }`, with at least one of them.
fn range(table: &Table, read: impl Fn(&Value) -> Result<U256, String>) -> Result<Range, String> {
    let mut range = Range::default();
    for (key, value) in table {
        let end = match key.as_str() {
            "min" => &mut range.min,
            "max" => &mut range.max,
            other => return Err(format!("`{other}` is not a bound; write {{ min = …, max = … }}")),
        };
        *end = Some(read(value)?);
    }
    if range == Range::default() {
        return Err("write { min = …, max = … }, or \"any\"".to_owned());
    }
    if range.is_empty() {
        return Err("`min` is more than `max`, so nothing can match".to_owned());
    }
    Ok(range)
}

/// An amount of the chain's own coin.
fn wei(value: &Value) -> Result<U256, String> {
    match value {
        Value::String(text) => units::wei(text).map_err(|e| e.to_string()),
        Value::Integer(0) => Ok(U256::ZERO),
        _ => Err("an amount is text with its unit, such as \"0.05 ether\" (only 0 may be bare)".to_owned()),
    }
}

/// `"any"`, `{ prefix = "…" }` or `{ equals = "…" }`
pub(super) fn text(value: &Value) -> Result<TextTest, String> {
    let wrong = || Err("write text = { prefix = \"…\" }, { equals = \"…\" } or \"any\"".to_owned());
    match value {
        Value::String(text) if text == "any" => Ok(TextTest::Any),
        Value::Table(table) => match (table.get("prefix"), table.get("equals"), table.len()) {
            (Some(Value::String(prefix)), None, 1) if prefix.is_empty() => {
                Err("every text begins with nothing: write \"any\" if that is meant".to_owned())
            }
            (Some(Value::String(prefix)), None, 1) => Ok(TextTest::Prefix(prefix.clone())),
            (None, Some(Value::String(text)), 1) => Ok(TextTest::Equals(text.clone())),
            _ => wrong(),
        },
        _ => wrong(),
    }
}

/// One span of a week, or several.
pub(super) fn hours(value: &Value) -> Result<Vec<Hours>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Hours::parse(text),
        other => Err(format!("{other}: write hours = \"Mon-Fri 08:00-20:00 UTC\", or a list of such texts")),
    };
    match value {
        Value::Array(list) if list.is_empty() => Err("the list is empty, so nothing can match".to_owned()),
        Value::Array(list) => list.iter().map(one).collect(),
        value => one(value).map(|hours| vec![hours]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_any_or_has_a_condition() {
        let of = |written: &str| {
            let table: Table = toml::from_str(&format!("text = {written}")).unwrap();
            text(&table["text"])
        };
        let wrong = "write text = { prefix = \"…\" }, { equals = \"…\" } or \"any\"";
        for (written, read) in [
            ("\"any\"", Ok(TextTest::Any)),
            ("{ prefix = \"a\" }", Ok(TextTest::Prefix("a".to_owned()))),
            ("{ equals = \"a\" }", Ok(TextTest::Equals("a".to_owned()))),
            ("{ equals = \"\" }", Ok(TextTest::Equals(String::new()))),
            ("\"hello\"", Err(wrong)),
            ("5", Err(wrong)),
            ("{}", Err(wrong)),
            ("{ prefix = \"a\", equals = \"a\" }", Err(wrong)),
            ("{ prefix = \"a\", more = 1 }", Err(wrong)),
            ("{ prefix = 5 }", Err(wrong)),
            ("{ prefix = \"\" }", Err("every text begins with nothing: write \"any\" if that is meant")),
        ] {
            assert_eq!(of(written), read.map_err(str::to_owned), "{written}");
        }
    }

    #[test]
    fn a_bound_is_any_or_a_range() {
        let of = |read: fn(&Value) -> Result<Option<Range>, String>, written: &str| {
            let table: Table = toml::from_str(&format!("it = {written}")).unwrap();
            read(&table["it"]).map(|range| range.map(|range| range.describe(|number| number.to_string())))
        };
        for (written, read) in [
            ("\"any\"", Ok(None)),
            ("0", Ok(Some("exactly 0"))),
            ("\"5 wei\"", Ok(Some("exactly 5"))),
            ("{ min = \"1 wei\", max = \"2 wei\" }", Ok(Some("from 1 to 2"))),
            ("{ max = 0 }", Ok(Some("at most 0"))),
            ("5", Err("an amount is text with its unit, such as \"0.05 ether\" (only 0 may be bare)")),
            ("{ most = 5 }", Err("`most` is not a bound; write { min = …, max = … }")),
        ] {
            let read = read.map(|text| text.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(of(bounds, written), read, "{written}");
        }
        for (written, read) in [
            ("\"any\"", Ok(None)),
            ("0", Ok(Some("exactly 0"))),
            ("6", Ok(Some("exactly 6"))),
            ("{ min = 1 }", Ok(Some("at least 1"))),
            ("-1", Err("-1 is no number; write for example { max = 6 }")),
            ("\"6\"", Err("\"6\" is no number; write for example { max = 6 }")),
            ("{}", Err("write { min = …, max = … }, or \"any\"")),
        ] {
            let read = read.map(|text| text.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(of(counts, written), read, "{written}");
        }
    }
}
