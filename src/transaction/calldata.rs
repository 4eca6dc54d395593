//! Calldata, read strictly: one encoding of the arguments is right, the ABI specification's, and no other.
//!
//! Common decoders follow whatever offset they are given, so that one piece of calldata can be read in several
//! ways, and a small one can unfold into gigabytes. Here every part must stand exactly where an encoder puts it:
//! each byte is read once, and what was decoded encodes to the same bytes again.

use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{Address, B256, I256, Selector, U256};

/// How deep types may nest; deeper ones are refused when an ABI is read.
pub const MAX_TYPE_DEPTH: usize = 16;

/// Why calldata is not the encoding of these arguments. Offsets count from after the selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalldataError {
    #[error("it ends at byte {0}, in the middle of its arguments")]
    Short(usize),
    #[error("{0} bytes are left over after its arguments")]
    Trailing(usize),
    #[error("the offset at byte {at} is {is}; an encoder writes {expected}")]
    Offset { at: usize, is: U256, expected: usize },
    #[error("the length at byte {0} is more than there are bytes")]
    Length(usize),
    #[error("the word at byte {at} is no {ty}")]
    Word { at: usize, ty: String },
    #[error("the padding at byte {0} is not zero")]
    Padding(usize),
    #[error("the string at byte {0} is not UTF-8")]
    NotUtf8(usize),
    #[error("a type is nested too deeply, or has no size")]
    Type,
}

/// The first four bytes, and the arguments behind them; `None` where there are fewer.
pub fn split_selector(calldata: &[u8]) -> Option<(Selector, &[u8])> {
    calldata.split_first_chunk::<4>().map(|(selector, arguments)| (Selector::from(*selector), arguments))
}

/// Reads `arguments` (calldata after its selector) as exactly these types.
pub fn decode(types: &[DynSolType], arguments: &[u8]) -> Result<Vec<DynSolValue>, CalldataError> {
    let (values, end) = Reader(arguments).sequence(types.iter(), 0, 0)?;
    match arguments.len().saturating_sub(end) {
        0 => Ok(values),
        left => Err(CalldataError::Trailing(left)),
    }
}

/// Whether [`decode`] can read this type: not too deep, and without elements of no size (whose number nothing
/// in the calldata would bound).
pub fn is_decodable(ty: &DynSolType) -> bool {
    fn sized(ty: &DynSolType) -> bool {
        match ty {
            DynSolType::Array(item) => sized(item),
            DynSolType::FixedArray(item, size) => *size > 0 && *size <= 1024 && sized(item),
            DynSolType::Tuple(items) => !items.is_empty() && items.iter().all(sized),
            _ => true,
        }
    }
    // The words of a head are bounded too: `uint8[1024][1024][1024]` would need no more than one word of type.
    ty.nesting_depth() <= MAX_TYPE_DEPTH && sized(ty) && ty.minimum_words() <= 65_536
}

struct Reader<'a>(&'a [u8]);

/// A value, and where the next tail begins.
type Read<T> = Result<(T, usize), CalldataError>;

const WORD: usize = 32;

impl<'a> Reader<'a> {
    /// A head of all items at `base`, then the tails of the dynamic ones, in order and without gaps.
    fn sequence<'t>(
        &self,
        types: impl ExactSizeIterator<Item = &'t DynSolType> + Clone,
        base: usize,
        depth: usize,
    ) -> Read<Vec<DynSolValue>> {
        if depth > MAX_TYPE_DEPTH {
            return Err(CalldataError::Type);
        }
        let head = types.clone().try_fold(0_usize, |sum, ty| sum.checked_add(head_size(ty)));
        let mut tail = head.and_then(|head| base.checked_add(head)).ok_or(CalldataError::Type)?;
        if tail > self.0.len() {
            return Err(CalldataError::Short(self.0.len()));
        }
        let mut at = base;
        let mut values = Vec::with_capacity(types.len());
        for ty in types {
            let value = if ty.is_dynamic() {
                let offset = U256::from_be_bytes(self.word(at)?.0);
                let expected = tail.saturating_sub(base);
                if offset != U256::from(expected) {
                    return Err(CalldataError::Offset { at, is: offset, expected });
                }
                let (value, end) = self.dynamic(ty, tail, depth.saturating_add(1))?;
                tail = end;
                value
            } else {
                self.fixed(ty, at, depth.saturating_add(1))?
            };
            at = at.saturating_add(head_size(ty));
            values.push(value);
        }
        Ok((values, tail))
    }

    /// A value whose type has one size, in place.
    fn fixed(&self, ty: &DynSolType, at: usize, depth: usize) -> Result<DynSolValue, CalldataError> {
        match ty {
            DynSolType::Tuple(types) => Ok(DynSolValue::Tuple(self.sequence(types.iter(), at, depth)?.0)),
            DynSolType::FixedArray(item, size) => {
                Ok(DynSolValue::FixedArray(self.sequence(repeat(item, *size), at, depth)?.0))
            }
            _ => {
                let word = self.word(at)?;
                scalar(ty, word).ok_or_else(|| CalldataError::Word { at, ty: ty.sol_type_name().into() })
            }
        }
    }

    /// A value whose size depends on what it is, in the tail.
    fn dynamic(&self, ty: &DynSolType, at: usize, depth: usize) -> Read<DynSolValue> {
        match ty {
            DynSolType::Bytes => {
                let (bytes, end) = self.packed(at)?;
                Ok((DynSolValue::Bytes(bytes.to_vec()), end))
            }
            DynSolType::String => {
                let (bytes, end) = self.packed(at)?;
                let text = std::str::from_utf8(bytes).map_err(|_| CalldataError::NotUtf8(at))?;
                Ok((DynSolValue::String(text.to_owned()), end))
            }
            DynSolType::Array(item) => {
                let size = self.length(at, head_size(item))?;
                let (items, end) = self.sequence(repeat(item, size), at.saturating_add(WORD), depth)?;
                Ok((DynSolValue::Array(items), end))
            }
            DynSolType::FixedArray(item, size) => {
                let (items, end) = self.sequence(repeat(item, *size), at, depth)?;
                Ok((DynSolValue::FixedArray(items), end))
            }
            DynSolType::Tuple(types) => {
                let (items, end) = self.sequence(types.iter(), at, depth)?;
                Ok((DynSolValue::Tuple(items), end))
            }
            _ => Err(CalldataError::Type),
        }
    }

    /// A length, then as many bytes, then zeros to the next word.
    fn packed(&self, at: usize) -> Read<&'a [u8]> {
        let length = self.length(at, 1)?;
        let start = at.saturating_add(WORD);
        let end = start.saturating_add(length);
        let padded = start.saturating_add(length.next_multiple_of(WORD));
        let short = || CalldataError::Short(self.0.len());
        let bytes = self.0.get(start..end).ok_or_else(short)?;
        let padding = self.0.get(end..padded).ok_or_else(short)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(CalldataError::Padding(end));
        }
        Ok((bytes, padded))
    }

    /// A number of items of at least `size` bytes each: no more than can follow.
    fn length(&self, at: usize, size: usize) -> Result<usize, CalldataError> {
        let length = usize::try_from(U256::from_be_bytes(self.word(at)?.0));
        let left = self.0.len().saturating_sub(at.saturating_add(WORD));
        match length {
            Ok(length) if length.checked_mul(size.max(1)).is_some_and(|bytes| bytes <= left) => Ok(length),
            _ => Err(CalldataError::Length(at)),
        }
    }

    fn word(&self, at: usize) -> Result<B256, CalldataError> {
        let word = self.0.get(at..).and_then(|rest| rest.first_chunk::<WORD>());
        word.map(|word| B256::from(*word)).ok_or(CalldataError::Short(self.0.len()))
    }
}

fn repeat(item: &DynSolType, size: usize) -> impl ExactSizeIterator<Item = &DynSolType> + Clone {
    std::iter::repeat_n(item, size)
}

/// What a type takes up in its head: itself, or an offset.
fn head_size(ty: &DynSolType) -> usize {
    if ty.is_dynamic() { WORD } else { ty.minimum_words().saturating_mul(WORD) }
}

/// A word as a value; `None` where a bit is set that its type has no room for.
fn scalar(ty: &DynSolType, word: B256) -> Option<DynSolValue> {
    let number = U256::from_be_bytes(word.0);
    let value = match ty {
        DynSolType::Bool if number <= U256::ONE => DynSolValue::Bool(number == U256::ONE),
        DynSolType::Uint(bits) if number.bit_len() <= *bits => DynSolValue::Uint(number, *bits),
        DynSolType::Int(bits) => {
            let number = I256::from_raw(number);
            // As many bits as `intN` has, its sign among them.
            let fits = usize::try_from(number.bits()).is_ok_and(|needed| needed <= *bits);
            return fits.then_some(DynSolValue::Int(number, *bits));
        }
        DynSolType::Address if number.bit_len() <= 160 => DynSolValue::Address(Address::from_word(word)),
        DynSolType::FixedBytes(size) if word.iter().skip(*size).all(|byte| *byte == 0) => {
            DynSolValue::FixedBytes(word, *size)
        }
        DynSolType::Function if word.iter().skip(24).all(|byte| *byte == 0) => {
            let (function, _) = word.0.split_first_chunk::<24>()?;
            DynSolValue::Function(alloy_primitives::Function::from(*function))
        }
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

    use super::*;
    use alloy_primitives::hex;
    use proptest::prelude::*;

    fn types(text: &str) -> Vec<DynSolType> {
        match DynSolType::parse(text).unwrap() {
            DynSolType::Tuple(types) => types,
            one => vec![one],
        }
    }

    fn words(words: &[&str]) -> Vec<u8> {
        words.iter().flat_map(|word| hex::decode(format!("{word:0>64}")).unwrap()).collect()
    }

    /// How the library's decoder, lenient as it is, and a second encoding of what it read would judge.
    fn by_encoding_again(types: &[DynSolType], data: &[u8]) -> Option<Vec<DynSolValue>> {
        let DynSolValue::Tuple(values) = DynSolType::Tuple(types.to_vec()).abi_decode_sequence(data).ok()?
        else {
            return None;
        };
        let same = DynSolValue::Tuple(values.clone()).abi_encode_sequence()? == data;
        (same && values.iter().all(in_range)).then_some(values)
    }

    /// The library keeps, and writes again, bits that a type has no room for.
    fn in_range(value: &DynSolValue) -> bool {
        match value {
            DynSolValue::Uint(number, bits) => number.bit_len() <= *bits,
            DynSolValue::Int(number, bits) => {
                number.asr(bits - 1).is_zero() || number.asr(bits - 1) == I256::MINUS_ONE
            }
            DynSolValue::FixedBytes(bytes, size) => bytes[*size..].iter().all(|byte| *byte == 0),
            DynSolValue::Array(items) | DynSolValue::FixedArray(items) | DynSolValue::Tuple(items) => {
                items.iter().all(in_range)
            }
            _ => true,
        }
    }

    #[test]
    fn what_an_encoder_does_not_write_is_refused() {
        let transfer = types("(address,uint256)");
        let good = words(&["d8da6bf26964af9d7eed9e03e53415d37aa96045", "01"]);
        assert_eq!(decode(&transfer, &good).unwrap().len(), 2);

        let dirty = words(&["01d8da6bf26964af9d7eed9e03e53415d37aa96045", "01"]);
        assert_eq!(decode(&transfer, &dirty), Err(CalldataError::Word { at: 0, ty: "address".to_owned() }));
        let trailing = [good.as_slice(), &[0]].concat();
        assert_eq!(decode(&transfer, &trailing), Err(CalldataError::Trailing(1)));
        assert_eq!(decode(&transfer, &good[..63]), Err(CalldataError::Short(63)));
        assert_eq!(decode(&transfer, &[]), Err(CalldataError::Short(0)));
        assert_eq!(decode(&[], &[]), Ok(vec![]));

        let bytes = types("(bytes)");
        assert!(decode(&bytes, &words(&["20", "00"])).is_ok());
        let gap = words(&["40", "00", "00"]);
        let expected = CalldataError::Offset { at: 0, is: U256::from(64), expected: 32 };
        assert_eq!(decode(&bytes, &gap), Err(expected));
        let ff = format!("{:0<64}", "ffff");
        assert_eq!(decode(&bytes, &words(&["20", "01", &ff])), Err(CalldataError::Padding(65)));
        assert_eq!(decode(&bytes, &words(&["20", "ffffffffffffffff"])), Err(CalldataError::Length(32)));
        assert_eq!(decode(&types("(string)"), &words(&["20", "02", &ff])), Err(CalldataError::NotUtf8(32)));
        assert!(decode(&types("(bool)"), &words(&["02"])).is_err());
        assert!(decode(&types("(uint8)"), &words(&["0100"])).is_err());
        assert!(decode(&types("(int8)"), &words(&["80"])).is_err(), "128 is no int8");
        assert!(decode(&types("(bytes4)"), &words(&["01"])).is_err());
    }

    #[test]
    fn two_arguments_may_not_share_a_tail() {
        let shared = words(&["40", "40", "00"]);
        assert!(decode(&types("(bytes,bytes)"), &shared).is_err());
        assert!(decode(&types("(bytes,bytes)"), &words(&["40", "60", "00", "00"])).is_ok());
    }

    #[test]
    fn a_small_bomb_does_not_unfold() {
        // Each array's elements all point to the next array: 64^10 elements for a decoder that follows them.
        let mut bomb = words(&["20"]);
        for _ in 0..11 {
            bomb.extend(words(&["40"]));
            bomb.extend((0..64).flat_map(|_| words(&["0800"])));
        }
        let deep = types(&format!("(uint256{})", "[]".repeat(11)));
        assert!(deep.iter().all(is_decodable));
        assert!(matches!(decode(&deep, &bomb), Err(CalldataError::Offset { .. })));
    }

    #[test]
    fn types_without_size_or_bound_are_not_decodable() {
        for text in
            ["uint8[0]", "uint8[1024][1024][1024]", "bytes[2000]", &format!("bool{}", "[]".repeat(17))]
        {
            assert!(!DynSolType::parse(text).is_ok_and(|ty| is_decodable(&ty)), "{text}");
        }
        assert!(!is_decodable(&DynSolType::Array(Box::new(DynSolType::Tuple(vec![])))));
        assert!(is_decodable(&DynSolType::parse("(address,bytes[3],(bool,string)[])[]").unwrap()));
        // The limits themselves: the number of items, and the words of a head.
        let list = |item: &DynSolType, size| DynSolType::FixedArray(Box::new(item.clone()), size);
        let longest = list(&DynSolType::Bool, 1024);
        for (ty, expected) in [
            (list(&DynSolType::Bool, 0), false),
            (list(&DynSolType::Bool, 1), true),
            (longest.clone(), true),
            (list(&DynSolType::Bool, 1025), false),
            (list(&longest, 64), true),
            (list(&longest, 65), false),
        ] {
            assert_eq!(is_decodable(&ty), expected, "{ty}");
        }
    }

    fn some_type() -> impl Strategy<Value = DynSolType> {
        let leaf = prop_oneof![
            Just(DynSolType::Address),
            Just(DynSolType::Bool),
            Just(DynSolType::Bytes),
            Just(DynSolType::String),
            Just(DynSolType::Function),
            (1_usize..=32).prop_map(|n| DynSolType::Uint(n * 8)),
            (1_usize..=32).prop_map(|n| DynSolType::Int(n * 8)),
            (1_usize..=32).prop_map(DynSolType::FixedBytes),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|ty| DynSolType::Array(Box::new(ty))),
                (inner.clone(), 1_usize..4).prop_map(|(ty, n)| DynSolType::FixedArray(Box::new(ty), n)),
                prop::collection::vec(inner, 1..4).prop_map(DynSolType::Tuple),
            ]
        })
    }

    /// A value of the type, drawn from the numbers in `seed`.
    fn value(ty: &DynSolType, seed: &mut impl FnMut() -> u64) -> DynSolValue {
        let word = {
            let mut words = [0; 32];
            words.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&seed().to_be_bytes()));
            U256::from_be_bytes(words)
        };
        match ty {
            DynSolType::Address => DynSolValue::Address(Address::from_word(B256::from(word))),
            DynSolType::Bool => DynSolValue::Bool(word.bit(0)),
            DynSolType::Bytes => DynSolValue::Bytes(vec![7; usize::try_from(seed() % 70).unwrap()]),
            DynSolType::String => DynSolValue::String("ä".repeat(usize::try_from(seed() % 40).unwrap())),
            DynSolType::Uint(bits) => DynSolValue::Uint(word >> (256 - bits), *bits),
            DynSolType::Int(bits) => DynSolValue::Int(I256::from_raw(word).asr(256 - bits), *bits),
            DynSolType::FixedBytes(n) => {
                let mut bytes = B256::from(word);
                bytes[*n..].fill(0);
                DynSolValue::FixedBytes(bytes, *n)
            }
            DynSolType::Function => {
                DynSolValue::Function(alloy_primitives::Function::from_slice(&B256::from(word)[..24]))
            }
            DynSolType::Array(item) => {
                DynSolValue::Array((0..seed() % 4).map(|_| value(item, seed)).collect())
            }
            DynSolType::FixedArray(item, n) => {
                DynSolValue::FixedArray((0..*n).map(|_| value(item, seed)).collect())
            }
            DynSolType::Tuple(types) => DynSolValue::Tuple(types.iter().map(|ty| value(ty, seed)).collect()),
            DynSolType::CustomStruct { .. } => panic!("calldata has no names"),
        }
    }

    /// What the Solidity compiler wrote, of ethers' vectors (`@ethersproject/testcases`), of which these are a part.
    #[test]
    fn what_solidity_encodes_is_read() {
        fn leaves(value: &DynSolValue, found: &mut Vec<String>) {
            match value {
                DynSolValue::Tuple(items) | DynSolValue::Array(items) | DynSolValue::FixedArray(items) => {
                    for item in items {
                        leaves(item, found);
                    }
                }
                DynSolValue::Uint(number, _) => found.push(number.to_string()),
                DynSolValue::Int(number, _) => found.push(number.to_string()),
                DynSolValue::Address(at) => found.push(at.to_string()),
                DynSolValue::Bool(is) => found.push(is.to_string()),
                DynSolValue::String(text) => found.push(text.clone()),
                DynSolValue::Bytes(bytes) => found.push(hex::encode_prefixed(bytes)),
                DynSolValue::FixedBytes(word, size) => found.push(hex::encode_prefixed(&word[..*size])),
                other => panic!("there is no {other:?} among them"),
            }
        }
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/vectors/abi.json")).unwrap();
        for vector in &vectors {
            let (of, data) = (vector["types"].as_str().unwrap(), vector["data"].as_str().unwrap());
            let data = hex::decode(data).unwrap();
            let values = decode(&types(of), &data).unwrap_or_else(|e| panic!("{of}: {e}"));
            let mut found = Vec::new();
            for value in &values {
                leaves(value, &mut found);
            }
            assert_eq!(serde_json::json!(found), vector["values"], "{of}");
            assert!(decode(&types(of), &[&data[..], &[0]].concat()).is_err(), "{of}: a byte more");
            assert!(decode(&types(of), &data[..data.len() - 1]).is_err(), "{of}: a byte less");
        }
        assert!(vectors.len() > 100);
    }

    proptest! {
        #[test]
        fn inv_04_what_an_encoder_writes_is_read_and_nothing_else(
            types in prop::collection::vec(some_type(), 0..5), seed in any::<u64>(),
            at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state ^ (state >> 29)
            };
            let values: Vec<_> = types.iter().map(|ty| value(ty, &mut next)).collect();
            let encoded = DynSolValue::Tuple(values.clone()).abi_encode_sequence().unwrap_or_default();
            prop_assert_eq!(decode(&types, &encoded), Ok(values));

            // One byte changed: either it is another value, written rightly, or it is refused.
            let mut changed = encoded.clone();
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] ^= flip;
            }
            prop_assert_eq!(decode(&types, &changed).ok(), by_encoding_again(&types, &changed));
            prop_assert!(decode(&types, &[encoded.as_slice(), &[0; 32]].concat()).is_err());
        }
    }

    /// As deep as a type may be, and one deeper.
    #[test]
    fn lists_in_lists_are_read_so_deep_and_no_deeper() {
        for depth in 1..=17 {
            let of = (0..depth).fold(DynSolType::Bool, |item, _| DynSolType::Array(Box::new(item)));
            let value = (0..depth).fold(DynSolValue::Bool(true), |item, _| DynSolValue::Array(vec![item]));
            let data = DynSolValue::Tuple(vec![value.clone()]).abi_encode_sequence().unwrap();
            let expected = if depth > MAX_TYPE_DEPTH { Err(CalldataError::Type) } else { Ok(vec![value]) };
            assert_eq!(decode(&[of], &data), expected, "{depth}");
        }
    }
}
