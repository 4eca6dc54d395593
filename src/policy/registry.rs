//! The ABIs that are built in, by name: well-known contracts, and what their calls move.
//!
//! A line is a function with the names of its parameters, and after ` : ` what it moves: `none`, or pairs of an asset
//! (`self`, `underlying`, `any`, or where its address stands) and where the amount stands (or `unknown`); with ` to ` and
//! where it stands who gets it, since what comes back is not spent; with ` if ` and where it stands whether it is: a flag, or a number other than 0. A number before it makes it a command inside
//! `execute` of a Universal Router. What a contract has besides is not listed, so that nothing else of it is called without
//! somebody having looked at it.

use std::collections::BTreeMap;

use alloy_json_abi::JsonAbi;

use crate::policy::signature;

/// The first line of each.
const MARK: &str = "# chancery abi";

const BUILT_IN: &[(&str, &str)] = &[
    ("aave-v3-pool", include_str!("../../abis/aave-v3-pool.abi")),
    ("compound-v3-comet", include_str!("../../abis/compound-v3-comet.abi")),
    ("erc1155", include_str!("../../abis/erc1155.abi")),
    ("erc20", include_str!("../../abis/erc20.json")),
    ("erc4337-entry-point", include_str!("../../abis/erc4337-entry-point.abi")),
    ("erc4337-simple-account", include_str!("../../abis/erc4337-simple-account.abi")),
    ("erc4626", include_str!("../../abis/erc4626.abi")),
    ("erc721", include_str!("../../abis/erc721.abi")),
    ("multicall3", include_str!("../../abis/multicall3.abi")),
    ("multisend", include_str!("../../abis/multisend.abi")),
    ("permit2", include_str!("../../abis/permit2.abi")),
    ("safe", include_str!("../../abis/safe.abi")),
    ("uniswap-v2-router", include_str!("../../abis/uniswap-v2-router.abi")),
    ("uniswap-v3-router", include_str!("../../abis/uniswap-v3-router.abi")),
    ("uniswap-v3-router-02", include_str!("../../abis/uniswap-v3-router-02.abi")),
    ("universal-router", include_str!("../../abis/universal-router.abi")),
    ("weth", include_str!("../../abis/weth.abi")),
];

/// What a call of a built-in ABI moves, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Move {
    pub call: String,
    /// `self`, `underlying`, `any`, or a path to the address.
    pub asset: String,
    /// A path, `none` or `unknown`.
    pub amount: String,
    /// A path to who gets it.
    pub to: Option<String>,
    /// A path to what says whether it is moved.
    pub only_if: Option<String>,
}

/// An ABI that is built in, as it is written.
#[derive(Debug, Default)]
pub(in crate::policy) struct BuiltIn {
    pub abi: JsonAbi,
    pub moves: Vec<Move>,
    /// Their signatures, by their number.
    pub commands: BTreeMap<u8, String>,
}

/// The text of an ABI that is built in.
pub(in crate::policy) fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names of all, for a sentence.
pub(in crate::policy) fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Reads the lines of a built-in ABI; `None` where the text is no such thing.
pub(in crate::policy) fn parse(text: &str) -> Option<Result<BuiltIn, String>> {
    let lines = text.strip_prefix(MARK)?;
    let mut built_in = BuiltIn::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (call, what) = line.split_once(" : ").map_or((line, None), |(call, what)| (call, Some(what)));
        let command = call.strip_prefix("0x").and_then(|rest| rest.split_once(' '));
        let (number, call) = match command.map(|(number, call)| (u8::from_str_radix(number, 16), call)) {
            Some((Ok(number), call)) => (Some(number), call),
            Some(_) => return Some(Err(call.to_owned())),
            None => (None, call),
        };
        let Some(function) = signature::parse(call) else { return Some(Err(call.to_owned())) };
        for one in what.into_iter().flat_map(|what| what.split(';')) {
            let (one, only_if) = one.split_once(" if ").map_or((one, None), |(one, when)| (one, Some(when)));
            let (one, to) = one.split_once(" to ").map_or((one, None), |(one, to)| (one, Some(to)));
            let one = one.trim();
            let (asset, amount) = if one == "none" { ("self", "none") } else { one.split_once(' ')? };
            let (call, asset, amount) = (function.signature(), asset.to_owned(), amount.trim().to_owned());
            let [only_if, to] = [only_if, to].map(|path| path.map(|path| path.trim().to_owned()));
            built_in.moves.push(Move { call, asset, amount, to, only_if });
        }
        built_in.commands.extend(number.map(|number| (number, function.signature())));
        built_in.abi.functions.entry(function.name.clone()).or_default().push(function);
    }
    Some(Ok(built_in))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::abi::Abi;

    /// Selectors as block explorers and the contracts' own documentation name them.
    const SELECTORS: &[(&str, &[(&str, &str)])] = &[
        ("erc20", &[("a9059cbb", "transfer"), ("095ea7b3", "approve"), ("23b872dd", "transferFrom")]),
        (
            "erc721",
            &[
                ("42842e0e", "safeTransferFrom"),
                ("b88d4fde", "safeTransferFrom"),
                ("a22cb465", "setApprovalForAll"),
                ("23b872dd", "transferFrom"),
                ("095ea7b3", "approve"),
            ],
        ),
        (
            "erc1155",
            &[
                ("f242432a", "safeTransferFrom"),
                ("2eb2c2d6", "safeBatchTransferFrom"),
                ("a22cb465", "setApprovalForAll"),
            ],
        ),
        (
            "erc4626",
            &[
                ("6e553f65", "deposit"),
                ("94bf804d", "mint"),
                ("b460af94", "withdraw"),
                ("ba087652", "redeem"),
            ],
        ),
        ("weth", &[("d0e30db0", "deposit"), ("2e1a7d4d", "withdraw")]),
        (
            "permit2",
            &[
                ("87517c45", "approve"),
                ("2b67b570", "permit"),
                ("2a2d80d1", "permit"),
                ("36c78516", "transferFrom"),
                ("0d58b1db", "transferFrom"),
                ("30f28b7a", "permitTransferFrom"),
                ("cc53287f", "lockdown"),
                ("65d9723c", "invalidateNonces"),
            ],
        ),
        (
            "multicall3",
            &[
                ("82ad56cb", "aggregate3"),
                ("174dea71", "aggregate3Value"),
                ("252dba42", "aggregate"),
                ("bce38bd7", "tryAggregate"),
                ("c3077fa9", "blockAndAggregate"),
                ("399542e9", "tryBlockAndAggregate"),
            ],
        ),
        ("multisend", &[("8d80ff0a", "multiSend")]),
        (
            "safe",
            &[
                ("6a761202", "execTransaction"),
                ("d4d9bdcd", "approveHash"),
                ("0d582f13", "addOwnerWithThreshold"),
                ("f8dc5dd9", "removeOwner"),
                ("e318b52b", "swapOwner"),
                ("694e80c3", "changeThreshold"),
                ("610b5925", "enableModule"),
                ("e009cfde", "disableModule"),
                ("e19a9dd9", "setGuard"),
                ("f08a0323", "setFallbackHandler"),
            ],
        ),
        (
            "uniswap-v2-router",
            &[
                ("38ed1739", "swapExactTokensForTokens"),
                ("8803dbee", "swapTokensForExactTokens"),
                ("7ff36ab5", "swapExactETHForTokens"),
                ("4a25d94a", "swapTokensForExactETH"),
                ("18cbafe5", "swapExactTokensForETH"),
                ("fb3bdb41", "swapETHForExactTokens"),
                ("5c11d795", "swapExactTokensForTokensSupportingFeeOnTransferTokens"),
                ("b6f9de95", "swapExactETHForTokensSupportingFeeOnTransferTokens"),
                ("791ac947", "swapExactTokensForETHSupportingFeeOnTransferTokens"),
                ("e8e33700", "addLiquidity"),
                ("f305d719", "addLiquidityETH"),
                ("baa2abde", "removeLiquidity"),
                ("02751cec", "removeLiquidityETH"),
            ],
        ),
        (
            "uniswap-v3-router",
            &[
                ("414bf389", "exactInputSingle"),
                ("c04b8d59", "exactInput"),
                ("db3e2198", "exactOutputSingle"),
                ("f28c0498", "exactOutput"),
                ("ac9650d8", "multicall"),
                ("49404b7c", "unwrapWETH9"),
                ("12210e8a", "refundETH"),
                ("df2ab5bb", "sweepToken"),
            ],
        ),
        (
            "uniswap-v3-router-02",
            &[
                ("04e45aaf", "exactInputSingle"),
                ("b858183f", "exactInput"),
                ("5023b4df", "exactOutputSingle"),
                ("09b81346", "exactOutput"),
                ("472b43f3", "swapExactTokensForTokens"),
                ("42712a67", "swapTokensForExactTokens"),
                ("5ae401dc", "multicall"),
                ("1f0464d1", "multicall"),
                ("49616997", "unwrapWETH9"),
                ("e90a182f", "sweepToken"),
                ("1c58db4f", "wrapETH"),
                ("f2d5d56b", "pull"),
            ],
        ),
        ("universal-router", &[("3593564c", "execute"), ("24856bc3", "execute")]),
        (
            "aave-v3-pool",
            &[
                ("617ba037", "supply"),
                ("02c205f0", "supplyWithPermit"),
                ("69328dec", "withdraw"),
                ("a415bcad", "borrow"),
                ("573ade81", "repay"),
                ("ee3e210b", "repayWithPermit"),
                ("2dad97d4", "repayWithATokens"),
                ("5a3b74b9", "setUserUseReserveAsCollateral"),
                ("28530a47", "setUserEMode"),
            ],
        ),
        (
            "compound-v3-comet",
            &[
                ("f2b9fdb8", "supply"),
                ("4232cd63", "supplyTo"),
                ("90323177", "supplyFrom"),
                ("f3fef3a3", "withdraw"),
                ("c3b35a7e", "withdrawTo"),
                ("26441318", "withdrawFrom"),
                ("439e2e45", "transferAsset"),
                ("110496e5", "allow"),
                ("bb24d994", "allowBySig"),
            ],
        ),
        (
            "erc4337-entry-point",
            &[
                ("1fad948c", "handleOps"),
                ("765e827f", "handleOps"),
                ("b760faf9", "depositTo"),
                ("205c2878", "withdrawTo"),
                ("0396cb60", "addStake"),
                ("bb9fe6bf", "unlockStake"),
                ("c23a5cea", "withdrawStake"),
                ("0bd28e3b", "incrementNonce"),
            ],
        ),
        (
            "erc4337-simple-account",
            &[
                ("b61d27f6", "execute"),
                ("18dfb3c7", "executeBatch"),
                ("47e1da2a", "executeBatch"),
                ("34fcd5be", "executeBatch"),
                ("4a58db19", "addDeposit"),
                ("4d44560d", "withdrawDepositTo"),
            ],
        ),
    ];

    #[test]
    fn the_functions_have_the_selectors_that_are_on_chain() {
        assert_eq!(SELECTORS.len(), BUILT_IN.len());
        for (name, selectors) in SELECTORS {
            let abi = Abi::parse(built_in(name).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (selector, function) in *selectors {
                let found = abi.by_selector(selector.parse().unwrap());
                assert_eq!(found.map(|found| found.name.as_str()), Some(*function), "{name} {selector}");
            }
        }
    }

    /// Whoever adds a function says what it moves of tokens, `none` where that is nothing.
    #[test]
    fn every_function_that_is_built_in_says_what_it_moves() {
        // Things that are no amounts; who signs for an account; ether, which is counted where it is sent.
        const NO_TOKENS: &[&str] =
            &["erc1155", "erc4337-entry-point", "erc4337-simple-account", "erc721", "safe"];
        let wrappers = crate::policy::wrapper::Wrappers::known();
        let mut said = 0;
        for (name, text) in BUILT_IN.iter().filter(|(name, _)| !NO_TOKENS.contains(name)) {
            let Some(built_in) = parse(text) else { continue };
            let BuiltIn { abi, moves, .. } = built_in.unwrap();
            for function in abi.functions() {
                let is_said = moves.iter().any(|one| one.call == function.signature());
                // What carries calls moves what they move.
                let carries = wrappers.find(function.selector()).is_some();
                assert!(is_said || carries, "{name}: {}", function.signature());
                said += usize::from(is_said);
            }
        }
        assert!(said > 60, "{said}");
    }
}
