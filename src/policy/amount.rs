//! Amounts and bounds: what a policy says about a number, and how a number is shown to a person.

use std::time::Duration;

use alloy_primitives::U256;

/// A token's unit: `"1.5 USDC"` is 1.5 times ten to the power of its decimals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Unit {
    pub symbol: String,
    pub decimals: u8,
}

/// What a number may be; a missing end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Range {
    pub min: Option<U256>,
    pub max: Option<U256>,
}

impl Range {
    pub const fn exactly(number: U256) -> Self {
        Self { min: Some(number), max: Some(number) }
    }

    pub fn contains(&self, number: U256) -> bool {
        self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }

    pub fn is_empty(&self) -> bool {
        matches!((self.min, self.max), (Some(min), Some(max)) if min > max)
    }

    /// Such as `at most 0.05 ether`.
    pub fn describe(&self, show: impl Fn(U256) -> String) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min == max => format!("exactly {}", show(min)),
            (Some(min), Some(max)) => format!("from {} to {}", show(min), show(max)),
            (Some(min), None) => format!("at least {}", show(min)),
            (None, Some(max)) => format!("at most {}", show(max)),
            (None, None) => "any".to_owned(),
        }
    }
}

/// Wei as a person reads them.
pub(in crate::policy) fn show_wei(wei: U256) -> String {
    let gwei = U256::from(1_000_000_000_u64);
    // A thousandth of an ether is where gwei stop to be readable.
    match wei {
        wei if wei.is_zero() => "0 ether".to_owned(),
        wei if wei < U256::from(1_000_000_u64) => format!("{wei} wei"),
        wei if wei < gwei.saturating_mul(U256::from(1_000_000_u64)) => {
            format!("{} gwei", show_decimal(wei, 9))
        }
        wei => format!("{} ether", show_decimal(wei, 18)),
    }
}

/// Such as `1.5 USDC`.
pub(in crate::policy) fn show_unit(amount: U256, unit: &Unit) -> String {
    format!("{} {}", show_decimal(amount, unit.decimals), unit.symbol)
}

/// Such as `24h`: in the largest unit that it is a whole number of, but hours rather than a single day.
pub(in crate::policy) fn show_window(window: Duration) -> String {
    let millis = window.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = |(size, _): &(u128, &str)| millis.is_multiple_of(*size) && millis > *size;
    match units.into_iter().find(whole) {
        Some((size, unit)) => format!("{}{unit}", millis.checked_div(size).unwrap_or_default()),
        None => format!("{millis}ms"),
    }
}

/// A number of steps of 10^-`decimals`, without trailing zeros.
fn show_decimal(number: U256, decimals: u8) -> String {
    let width = usize::from(decimals).saturating_add(1);
    let digits = format!("{:0>width$}", number.to_string());
    let (whole, part) = digits.split_at(digits.len().saturating_sub(usize::from(decimals)));
    match part.trim_end_matches('0') {
        "" => whole.to_owned(),
        part => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        for (wei, text) in [
            (0_u64, "0 ether"),
            (1, "1 wei"),
            (999_999, "999999 wei"),
            (1_000_000, "0.001 gwei"),
            (1_500_000_000, "1.5 gwei"),
            (999_999_000_000_000, "999999 gwei"),
            (1_000_000_000_000_000, "0.001 ether"),
            (50_000_000_000_000_000, "0.05 ether"),
            (1_000_000_000_000_000_000, "1 ether"),
        ] {
            assert_eq!(show_wei(U256::from(wei)), text);
        }
        let usdc = Unit { symbol: "USDC".to_owned(), decimals: 6 };
        assert_eq!(show_unit(U256::from(250_000_500_000_u64), &usdc), "250000.5 USDC");
        let whole = Unit { symbol: "NFT".to_owned(), decimals: 0 };
        assert_eq!(show_unit(U256::from(10), &whole), "10 NFT");
    }

    #[test]
    fn windows_read_as_people_write_them() {
        for (seconds, text) in [(60, "60s"), (90, "90s"), (600, "10m"), (86_400, "24h"), (604_800, "7d")] {
            assert_eq!(show_window(Duration::from_secs(seconds)), text);
        }
        assert_eq!(show_window(Duration::from_millis(60_001)), "60001ms");
    }

    #[test]
    fn a_range_holds_its_ends() {
        let range = Range { min: Some(U256::from(2)), max: Some(U256::from(3)) };
        let inside: Vec<u64> = (0..6).filter(|n| range.contains(U256::from(*n))).collect();
        assert_eq!(inside, [2, 3]);
        assert!(Range { min: Some(U256::from(2)), max: Some(U256::ONE) }.is_empty());
        assert!(!Range::exactly(U256::from(2)).is_empty());
    }

    #[test]
    fn a_range_says_which_ends_it_has() {
        let (two, three) = (Some(U256::from(2)), Some(U256::from(3)));
        for (min, max, text) in [
            (two, two, "exactly 2"),
            (two, three, "from 2 to 3"),
            (two, None, "at least 2"),
            (None, three, "at most 3"),
            (None, None, "any"),
        ] {
            assert_eq!(Range { min, max }.describe(|number| number.to_string()), text);
        }
    }
}
