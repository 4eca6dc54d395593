//! Amounts and times as people write them: `"0.05 ether"`, `"30 gwei"`, `"24h"`.

use std::time::Duration;

use alloy_primitives::U256;

/// Why a text is no amount or no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` has no unit; write for example \"0.05 ether\" or \"30 gwei\" (only 0 may be bare)")]
    NoUnit(String),
    #[error("`{unit}` is not a unit here; expected {expected}")]
    UnknownUnit { unit: String, expected: &'static str },
    #[error("`{0}` is not a number; write digits, `_` between them, and one point")]
    NotANumber(String),
    #[error("`{text}` has more than {decimals} decimals, the smallest step of its unit")]
    TooFine { text: String, decimals: u8 },
    #[error("`{0}` does not fit into 256 bits")]
    TooLarge(String),
}

/// An amount of a chain's own coin, in wei: `0`, or a number with `wei`, `gwei` or `ether`.
pub fn wei(text: &str) -> Result<U256, UnitError> {
    let Some((number, unit)) = split(text)? else { return Ok(U256::ZERO) };
    let decimals = match unit {
        "wei" => 0,
        "gwei" => 9,
        "ether" => 18,
        unit => {
            return Err(UnitError::UnknownUnit { unit: unit.to_owned(), expected: "wei, gwei or ether" });
        }
    };
    decimal(number, decimals)
}

/// Splits `"250_000 USDC"` into its number and its unit; `None` is a bare zero.
pub fn split(text: &str) -> Result<Option<(&str, &str)>, UnitError> {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        Some((number, unit)) => Ok(Some((number, unit.trim()))),
        None if text == "0" => Ok(None),
        None => Err(UnitError::NoUnit(text.to_owned())),
    }
}

/// A decimal number in steps of 10^-`decimals`, exactly or not at all.
pub fn decimal(text: &str, decimals: u8) -> Result<U256, UnitError> {
    let wrong = || UnitError::NotANumber(text.to_owned());
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !whole.starts_with(|c: char| c.is_ascii_digit())
        || !digits(whole)
        || !digits(part)
        || text.ends_with('.')
    {
        return Err(wrong());
    }
    let part = part.replace('_', "");
    let width = usize::from(decimals);
    if part.len() > width {
        return Err(UnitError::TooFine { text: text.to_owned(), decimals });
    }
    let all = format!("{}{part:0<width$}", whole.replace('_', ""));
    U256::from_str_radix(&all, 10).map_err(|_| UnitError::TooLarge(text.to_owned()))
}

/// A length of time: digits and one of `ms`, `s`, `m`, `h`, `d`.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| UnitError::NotANumber(text.to_owned()))?;
    let milliseconds: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        unit => {
            let expected = "a length of time in ms, s, m, h or d, such as \"30s\"";
            return Err(UnitError::UnknownUnit { unit: unit.to_owned(), expected });
        }
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// A size: a bare 0, or digits and one of `B`, `KiB`, `MiB`, `GiB`.
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    let Some((number, unit)) = split(text)? else { return Ok(0) };
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => {
            let expected = "a size in B, KiB, MiB or GiB, such as \"64 MiB\"";
            return Err(UnitError::UnknownUnit { unit: unit.to_owned(), expected });
        }
    };
    let number = u64::try_from(decimal(number, 0)?).map_err(|_| UnitError::TooLarge(text.to_owned()))?;
    number.checked_mul(1 << shift).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_carries_its_unit_or_is_zero() {
        assert_eq!(wei("0"), Ok(U256::ZERO));
        assert_eq!(wei("0.05 ether"), Ok(U256::from(50_000_000_000_000_000_u64)));
        assert_eq!(wei("1_000.5 gwei"), Ok(U256::from(1_000_500_000_000_u64)));
        assert!(matches!(wei("1"), Err(UnitError::NoUnit(_))));
        assert!(matches!(wei("1 eth"), Err(UnitError::UnknownUnit { .. })));
        assert!(matches!(wei("0.5 wei"), Err(UnitError::TooFine { decimals: 0, .. })));
        for text in
            ["-1 ether", "+1 ether", ".5 ether", "1. ether", "1e3 ether", "0x1 ether", "1,5 ether", "_1 wei"]
        {
            assert!(matches!(wei(text), Err(UnitError::NotANumber(_))), "{text}");
        }
        assert!(matches!(wei(&format!("{} ether", "9".repeat(70))), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn a_size_carries_its_unit_or_is_zero() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("64 MiB"), Ok(64 << 20));
        assert_eq!(bytes("1_000 B"), Ok(1000));
        for text in ["64", "64MB", "64 MB", "1.5 GiB", "99999999999 GiB", "-1 B"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_carries_its_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for text in ["", "10", "s", "1.5h", "-1s", "1 week", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
