//! Functions in whose arguments a call may stand that nobody here opens: timelocks, forwarders, routers of routers.

use alloy_dyn_abi::DynSolType;

/// Functions that take bytes in which no call stands: signatures, paths of tokens, and what a token tells its receiver.
const NO_CARRIERS: &[&str] = &[
    // ERC-721, ERC-1155
    "safeTransferFrom(address,address,uint256,bytes)",
    "safeTransferFrom(address,address,uint256,uint256,bytes)",
    "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)",
    // ERC-2612 and EIP-3009 as USDC has them, where a contract may sign
    "permit(address,address,uint256,uint256,bytes)",
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
    "receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
    "cancelAuthorization(address,bytes32,bytes)",
    // Permit2, and the same in a Universal Router
    "permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)",
    "permit(address,((address,uint160,uint48,uint48)[],address,uint256),bytes)",
    "permitTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes)",
    "permitTransferFrom(((address,uint256)[],uint256,uint256),(address,uint256)[],address,bytes)",
    "PERMIT2_PERMIT(((address,uint160,uint48,uint48),address,uint256),bytes)",
    "PERMIT2_PERMIT_BATCH(((address,uint160,uint48,uint48)[],address,uint256),bytes)",
    // Uniswap v3
    "exactInput((bytes,address,uint256,uint256,uint256))",
    "exactInput((bytes,address,uint256,uint256))",
    "exactOutput((bytes,address,uint256,uint256,uint256))",
    "exactOutput((bytes,address,uint256,uint256))",
    "V3_SWAP_EXACT_IN(address,uint256,uint256,bytes,bool)",
    "V3_SWAP_EXACT_OUT(address,uint256,uint256,bytes,bool)",
];

/// Says yes, for a Safe, to whatever has this hash: anybody may then have it done.
const APPROVE_HASH: &str = "approveHash(bytes32)";

/// Whether a call could stand in the arguments: in bytes of any length, wherever they are.
pub(in crate::policy) fn may_carry(signature: &str, types: &[DynSolType]) -> bool {
    signature == APPROVE_HASH || (types.iter().any(holds_bytes) && !NO_CARRIERS.contains(&signature))
}

fn holds_bytes(ty: &DynSolType) -> bool {
    match ty {
        DynSolType::Bytes => true,
        DynSolType::Array(item) | DynSolType::FixedArray(item, _) => holds_bytes(item),
        DynSolType::Tuple(items) => items.iter().any(holds_bytes),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::U256;
    use serde_json::json;

    use super::*;
    use crate::policy::abi::{Abi, Function};
    use crate::policy::load::{Beside, Source};
    use crate::policy::registry::built_in;
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, address, call, decide, world};
    use crate::policy::wrapper::Wrappers;
    use crate::policy::{DenialCause, Policy};

    const SCHEDULE: &str = "schedule(address,uint256,bytes,bytes32,bytes32,uint256)";
    const TIMELOCK: &str = r#"[
        {"type":"function","name":"schedule","inputs":[{"name":"target","type":"address"},{"name":"value","type":"uint256"},{"name":"data","type":"bytes"},{"name":"predecessor","type":"bytes32"},{"name":"salt","type":"bytes32"},{"name":"delay","type":"uint256"}],"outputs":[],"stateMutability":"nonpayable"},
        {"type":"function","name":"cancel","inputs":[{"name":"id","type":"bytes32"}],"outputs":[],"stateMutability":"nonpayable"}]"#;

    /// Alice is a timelock here.
    fn with(rules: &str) -> Result<Policy, String> {
        let contracts = CONTRACTS.replace("alice = {", "alice = { abi = \"timelock\",");
        let source = Source {
            name: "policy.toml".to_owned(),
            path: "policy.toml".into(),
            text: format!("{contracts}{rules}"),
        };
        let beside = |beside: Beside<'_>| match beside {
            Beside::Abi("timelock") => Ok(TIMELOCK.to_owned()),
            Beside::Abi(name) => built_in(name).map(str::to_owned).ok_or_else(|| "no such ABI".to_owned()),
            Beside::List(_) => Err("no such list".to_owned()),
        };
        Policy::of_sources(&[source], &world(), beside).map_err(|e| e.to_string())
    }

    fn rule(more: &str) -> String {
        format!(
            "[[rule]]\nid = \"lock\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"treasury\"]\nto = [\"alice\"]\n{more}\n"
        )
    }

    fn schedule() -> String {
        let number = || DynSolValue::Uint(U256::ZERO, 256);
        let word = || DynSolValue::FixedBytes(U256::ZERO.into(), 32);
        let data = DynSolValue::Bytes(vec![1, 2, 3, 4]);
        call(SCHEDULE, &[address(BOB), number(), data, word(), word(), number()])
    }

    #[test]
    fn inv_04_a_function_that_may_carry_a_call_must_be_named() {
        let asked = |data: &str| json!({ "to": ALICE, "data": data });
        let cancel = call("cancel(bytes32)", &[DynSolValue::FixedBytes(U256::ZERO.into(), 32)]);
        let any = with(&rule("call = \"any\"")).unwrap();
        assert!(decide(&any, "ann", &asked(&cancel)).is_ok());
        let denied = decide(&any, "ann", &asked(&schedule())).unwrap_err();
        assert_eq!(denied.cause, DenialCause::Wrapper);
        assert!(denied.sentence.contains("so a rule has to name it"), "{denied}");
        let warnings = any.warnings(&world());
        let told = "`call` is \"any\", which is not enough for `schedule` of `alice`";
        assert!(warnings.iter().any(|warning| warning.what.contains(told)), "{warnings:?}");

        let silent = with(&rule("call = \"schedule\"\nargs = { target = \"bob\" }")).unwrap_err();
        assert!(silent.contains("each `bytes` is: `data` of schedule("), "{silent}");
        let named = with(&rule("call = \"schedule\"\nargs = { target = \"bob\", data = \"any\" }")).unwrap();
        assert!(decide(&named, "ann", &asked(&schedule())).is_ok());
        let exact =
            with(&rule("call = \"schedule\"\nargs = { target = \"bob\", data = \"0x01020305\" }")).unwrap();
        assert!(decide(&exact, "ann", &asked(&schedule())).is_err());
        let deny = with(
            "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"alice\"]\ncall = \"schedule\"\n",
        );
        assert!(deny.is_ok(), "a deny rule says what it likes");
    }

    #[test]
    fn bytes_in_which_a_call_could_stand_are_found_at_any_depth() {
        for (signature, may) in [
            ("f(bytes)", true),
            ("f(address,bytes)", true),
            ("f(bytes[])", true),
            ("f((uint8,(address,uint256,bytes)[2]))", true),
            ("approveHash(bytes32)", true),
            ("transfer(address,uint256)", false),
            ("f(bytes32[],string)", false),
            ("permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)", false),
        ] {
            assert_eq!(Function::parse(signature).unwrap().may_carry, may, "{signature}");
        }
    }

    /// Whoever adds a function to an ABI that is built in says whether it carries calls.
    #[test]
    fn of_every_function_that_is_built_in_it_is_known_whether_it_carries_calls() {
        let wrappers = Wrappers::known();
        for name in crate::policy::registry::names().split(", ") {
            let abi = Abi::parse(built_in(name).unwrap()).unwrap();
            let open = abi
                .functions()
                .filter(|function| wrappers.find(function.selector).is_none() && function.may_carry);
            let open: Vec<_> = open
                .map(|function| &function.signature)
                .filter(|signature| *signature != APPROVE_HASH)
                .collect();
            assert!(open.is_empty(), "{name}: {open:?}");
        }
    }
}
