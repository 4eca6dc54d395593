//! The three hex forms of Ethereum's JSON-RPC, read by the letter of the execution API's specification.
//!
//! The common libraries are lenient (`""`, `"0x"`, `"0X1"`, `"0x01"`, JSON numbers), each in its own way. What
//! two readers can read differently is refused here, before any other type is built from it.

use alloy_primitives::{Address, Bytes, U256};

/// A value that is not in its one canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedValue {
    #[error("must be a string, a QUANTITY such as \"0x1a\"")]
    NotAString,
    #[error("must begin with 0x")]
    NoPrefix,
    #[error("is empty; zero is \"0x0\"")]
    Empty,
    #[error("has leading zeros; a QUANTITY is written without them, zero as \"0x0\"")]
    LeadingZero,
    #[error("has a character that is not a hexadecimal digit")]
    NotHex,
    #[error("has an odd number of hexadecimal digits")]
    OddLength,
    #[error("is larger than {0} bits")]
    TooLarge(usize),
    #[error("must be an address: 0x and 40 hexadecimal digits")]
    NotAnAddress,
    #[error("has a wrong EIP-55 checksum (capital letters): it was mistyped or cut; expected {0}")]
    Checksum(Address),
}

/// A QUANTITY of at most 256 bits.
pub fn quantity(text: &str) -> Result<U256, MalformedValue> {
    let digits = text.strip_prefix("0x").ok_or(MalformedValue::NoPrefix)?;
    if digits.is_empty() {
        return Err(MalformedValue::Empty);
    }
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(MalformedValue::NotHex);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(MalformedValue::LeadingZero);
    }
    U256::from_str_radix(digits, 16).map_err(|_| MalformedValue::TooLarge(256))
}

/// DATA: bytes, two digits each; `0x` is none.
pub fn data(text: &str) -> Result<Bytes, MalformedValue> {
    let digits = text.strip_prefix("0x").ok_or(MalformedValue::NoPrefix)?;
    if !digits.len().is_multiple_of(2) {
        return Err(MalformedValue::OddLength);
    }
    // The decoder would take a second 0x for a prefix.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(MalformedValue::NotHex);
    }
    alloy_primitives::hex::decode(digits).map(Bytes::from).map_err(|_| MalformedValue::NotHex)
}

/// An address, in lower case, upper case, or with a right EIP-55 checksum.
pub fn address(text: &str) -> Result<Address, MalformedValue> {
    let digits = text.strip_prefix("0x").ok_or(MalformedValue::NotAnAddress)?;
    let mut bytes = [0; 20];
    if digits.len() != 40
        || !digits.bytes().all(|b| b.is_ascii_hexdigit())
        || alloy_primitives::hex::decode_to_slice(digits, &mut bytes).is_err()
    {
        return Err(MalformedValue::NotAnAddress);
    }
    let address = Address::from(bytes);
    let lower = digits.bytes().any(|b| b.is_ascii_lowercase());
    let upper = digits.bytes().any(|b| b.is_ascii_uppercase());
    if lower && upper && address.to_checksum(None) != text {
        return Err(MalformedValue::Checksum(address));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_has_one_form() {
        assert_eq!(quantity("0x0"), Ok(U256::ZERO));
        assert_eq!(quantity("0xdE0b6b3a7640000"), Ok(U256::from(10_u64.pow(18))));
        assert_eq!(quantity(&format!("0x{}", "f".repeat(64))), Ok(U256::MAX));
        for (text, why) in [
            ("", MalformedValue::NoPrefix),
            ("1", MalformedValue::NoPrefix),
            ("0X1", MalformedValue::NoPrefix),
            ("-0x1", MalformedValue::NoPrefix),
            ("0x", MalformedValue::Empty),
            ("0x00", MalformedValue::LeadingZero),
            ("0x01", MalformedValue::LeadingZero),
            ("0x+1", MalformedValue::NotHex),
            ("0x1_0", MalformedValue::NotHex),
            ("0x1 ", MalformedValue::NotHex),
            (&format!("0x1{}", "0".repeat(64)), MalformedValue::TooLarge(256)),
        ] {
            assert_eq!(quantity(text), Err(why), "{text}");
        }
    }

    #[test]
    fn data_comes_in_whole_bytes() {
        assert_eq!(data("0x"), Ok(Bytes::new()));
        assert_eq!(data("0x00fF"), Ok(Bytes::from_static(&[0, 255])));
        assert_eq!(data("0x0"), Err(MalformedValue::OddLength));
        assert_eq!(data("00"), Err(MalformedValue::NoPrefix));
        assert_eq!(data(""), Err(MalformedValue::NoPrefix));
        assert_eq!(data("0x0x"), Err(MalformedValue::NotHex));
    }

    #[test]
    fn an_address_with_capitals_must_have_the_right_ones() {
        let vitalik = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
        let parsed = address(vitalik).unwrap();
        assert_eq!(address(&vitalik.to_lowercase()), Ok(parsed));
        let mistyped = vitalik.replace("dA6BF", "da6BF");
        assert_eq!(address(&mistyped), Err(MalformedValue::Checksum(parsed)));
        let twice = vitalik.replacen("0xd8", "0x0x", 1);
        for text in
            ["", "0x", "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA9604", &twice, &vitalik.replacen("0x", "", 1)]
        {
            assert_eq!(address(text), Err(MalformedValue::NotAnAddress), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said() {
        let vitalik = address("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045").unwrap();
        for (why, says) in [
            (MalformedValue::NotAString, "must be a string, a QUANTITY such as \"0x1a\""),
            (MalformedValue::Empty, "is empty; zero is \"0x0\""),
            (MalformedValue::TooLarge(64), "is larger than 64 bits"),
            (
                MalformedValue::Checksum(vitalik),
                "has a wrong EIP-55 checksum (capital letters): it was mistyped or cut; expected 0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
            ),
        ] {
            assert_eq!(why.to_string(), says);
        }
        let upper = format!("0x{}", "d8dA6BF26964aF9D7eEd9e03E53415D37aA96045".to_uppercase());
        assert_eq!(address(&upper), Ok(vitalik), "all capitals say nothing");
        assert_eq!(address(&upper.replace('D', "d")), Err(MalformedValue::Checksum(vitalik)));
        assert_eq!(quantity("0xg"), Err(MalformedValue::NotHex));
        assert_eq!(data("0xgg"), Err(MalformedValue::NotHex));
        assert_eq!(address("0xg8dA6BF26964aF9D7eEd9e03E53415D37aA96045"), Err(MalformedValue::NotAnAddress));
    }
}
