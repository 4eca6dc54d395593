//! Calldata that decodes is the one encoding of what was decoded: nothing hides in it.
#![no_main]

use std::sync::LazyLock;

use alloy_dyn_abi::{DynSolType, DynSolValue};
use chancery::transaction::calldata::{decode, is_decodable};
use libfuzzer_sys::fuzz_target;

/// From plain words to what hides most: nested, dynamic, empty.
static SIGNATURES: LazyLock<Vec<Vec<DynSolType>>> = LazyLock::new(|| {
    [
        "(address,uint256)",
        "(address,address,uint160,uint48)",
        "(bytes)",
        "(bytes[],uint256)",
        "(string,bytes,bool)",
        "((address,uint256,bytes)[],bytes32)",
        "((address[],(uint8,int128)[2])[],string[])",
        "(bytes4,int256,function,uint24[3])",
        "(((bytes)[])[])",
    ]
    .iter()
    .map(|signature| match DynSolType::parse(signature).expect("a type") {
        DynSolType::Tuple(types) => types,
        other => panic!("{other} is no list"),
    })
    .collect()
});

fuzz_target!(|input: &[u8]| {
    let Some((which, arguments)) = input.split_first() else { return };
    let types = &SIGNATURES[usize::from(*which) % SIGNATURES.len()];
    assert!(types.iter().all(is_decodable));
    let Ok(values) = decode(types, arguments) else { return };
    assert_eq!(DynSolValue::Tuple(values).abi_encode_params(), arguments);
});
