//! Swaps and pools that name two tokens, or a list of them: of which of them each amount is.

use crate::policy::abi::Function;
use crate::policy::path::Path;

/// A function; the token that is paid and the one that comes out; the amounts of the one and of the other.
type Swap = (&'static str, [&'static str; 2], [Option<&'static str>; 2]);

/// By number: a rule may have other names for them than an ABI.
const SWAPS: &[Swap] = &[
    (
        "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))",
        ["0.0", "0.1"],
        [Some("0.4"), Some("0.5")],
    ),
    (
        "exactOutputSingle((address,address,uint24,address,uint256,uint256,uint160))",
        ["0.0", "0.1"],
        [Some("0.5"), Some("0.4")],
    ),
    // The same with a deadline.
    (
        "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
        ["0.0", "0.1"],
        [Some("0.5"), Some("0.6")],
    ),
    (
        "exactOutputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
        ["0.0", "0.1"],
        [Some("0.6"), Some("0.5")],
    ),
    // SwapRouter02's own, and Router02's.
    ("swapExactTokensForTokens(uint256,uint256,address[],address)", IN_THIRD, IN_THEN_OUT),
    ("swapTokensForExactTokens(uint256,uint256,address[],address)", IN_THIRD, OUT_THEN_IN),
    ("swapExactTokensForTokens(uint256,uint256,address[],address,uint256)", IN_THIRD, IN_THEN_OUT),
    ("swapTokensForExactTokens(uint256,uint256,address[],address,uint256)", IN_THIRD, OUT_THEN_IN),
    ("swapExactTokensForETH(uint256,uint256,address[],address,uint256)", IN_THIRD, IN_THEN_OUT),
    ("swapTokensForExactETH(uint256,uint256,address[],address,uint256)", IN_THIRD, OUT_THEN_IN),
    ("swapExactETHForTokens(uint256,address[],address,uint256)", IN_SECOND, [None, Some("0")]),
    ("swapETHForExactTokens(uint256,address[],address,uint256)", IN_SECOND, [None, Some("0")]),
    (
        "swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
        IN_THIRD,
        IN_THEN_OUT,
    ),
    (
        "swapExactTokensForETHSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
        IN_THIRD,
        IN_THEN_OUT,
    ),
    (
        "swapExactETHForTokensSupportingFeeOnTransferTokens(uint256,address[],address,uint256)",
        IN_SECOND,
        [None, Some("0")],
    ),
    // What goes into a pool of two tokens, or comes out of it: of each, what is wanted and the least.
    (
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        BOTH,
        [Some("2"), Some("3")],
    ),
    (
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        BOTH,
        [Some("4"), Some("5")],
    ),
    (
        "removeLiquidity(address,address,uint256,uint256,uint256,address,uint256)",
        BOTH,
        [Some("3"), Some("4")],
    ),
    // The Universal Router's commands.
    ("V2_SWAP_EXACT_IN(address,uint256,uint256,address[],bool)", ["3[0]", "3[-1]"], [Some("1"), Some("2")]),
    ("V2_SWAP_EXACT_OUT(address,uint256,uint256,address[],bool)", ["3[0]", "3[-1]"], [Some("2"), Some("1")]),
];

const BOTH: [&str; 2] = ["0", "1"];
const IN_SECOND: [&str; 2] = ["1[0]", "1[-1]"];
const IN_THIRD: [&str; 2] = ["2[0]", "2[-1]"];
const IN_THEN_OUT: [Option<&str>; 2] = [Some("0"), Some("1")];
const OUT_THEN_IN: [Option<&str>; 2] = [Some("1"), Some("0")];

/// The place of the token of which an amount of this function is.
pub(in crate::policy) fn token_of(function: &Function, amount: &Path) -> Option<Path> {
    let path = |text: &str| Path::parse(function, text).ok().map(|(path, _)| path);
    let is_it = |text: Option<&str>| text.and_then(path).is_some_and(|path| path.is_same(amount));
    let of = |(_, tokens, amounts): &Swap| {
        let at = amounts.iter().position(|text| is_it(*text))?;
        tokens.get(at).and_then(|token| path(token))
    };
    SWAPS.iter().filter(|(signature, ..)| *signature == function.signature).find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::abi::Abi;
    use crate::policy::registry;
    use crate::policy::tests::{CONTRACTS, policy};

    /// What is listed here is what the built-in ABIs have, and every swap of theirs by such a list or pair is listed.
    #[test]
    fn every_swap_of_the_built_in_abis_is_known() {
        let mut found = 0;
        for name in ["uniswap-v2-router", "uniswap-v3-router", "uniswap-v3-router-02", "universal-router"] {
            let abi = Abi::parse(registry::built_in(name).unwrap()).unwrap();
            for function in abi.functions() {
                let has = |part: &str| function.describe().contains(part);
                if function.name.ends_with("Single") || (has("amount") && has("address[] path")) {
                    let swap = SWAPS.iter().find(|(signature, ..)| *signature == function.signature);
                    let (_, tokens, amounts) = swap.unwrap_or_else(|| panic!("{}", function.describe()));
                    for text in tokens.iter().copied().chain(amounts.iter().flatten().copied()) {
                        Path::parse(function, text)
                            .unwrap_or_else(|e| panic!("{}: {e}", function.describe()));
                    }
                    found += 1;
                }
            }
        }
        assert_eq!(found, 17);
    }

    /// A limit in the unit of the other token would be a trillion times what was meant.
    #[test]
    fn inv_04_an_amount_of_a_swap_is_in_the_unit_of_its_own_token() {
        let contracts = CONTRACTS.replace("bob   = {", "bob = { decimals = 18, symbol = \"BOB\",")
            + "three = { chain = 1, address = \"0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45\", abi = \"uniswap-v3-router-02\" }\n\
               two = { chain = 1, address = \"0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D\", abi = \"uniswap-v2-router\" }\n";
        let single =
            "\"params.tokenIn\" = \"usdc\", \"params.tokenOut\" = \"bob\", \"params.recipient\" = \"$from\"";
        let list = "\"path[0]\" = \"usdc\", \"path[-1]\" = \"bob\", \"all(path)\" = [\"usdc\", \"bob\"], to = \"$from\"";
        let pool = "tokenA = \"usdc\", tokenB = \"bob\", to = \"$from\"";
        for (to, call, pinned, amount, refused) in [
            ("three", "exactInputSingle", single, "\"params.amountIn\" = { max = \"1 USDC\" }", None),
            (
                "three",
                "exactInputSingle",
                single,
                "\"params.amountIn\" = { max = \"1 BOB\" }",
                Some("params.tokenIn"),
            ),
            ("three", "exactInputSingle", single, "\"params.amountOutMinimum\" = { min = \"1 BOB\" }", None),
            (
                "three",
                "exactInputSingle",
                single,
                "\"params.amountOutMinimum\" = { min = \"1 USDC\" }",
                Some("params.tokenOut"),
            ),
            (
                "three",
                "exactOutputSingle",
                single,
                "\"params.amountInMaximum\" = { max = \"1 BOB\" }",
                Some("params.tokenIn"),
            ),
            ("three", "exactOutputSingle", single, "\"params.amountOut\" = \"1 BOB\"", None),
            ("two", "swapExactTokensForTokens", list, "amountIn = { max = \"1 USDC\" }", None),
            ("two", "swapExactTokensForTokens", list, "amountIn = { max = \"1 BOB\" }", Some("path[0]")),
            ("two", "swapTokensForExactTokens", list, "amountOut = \"1 USDC\"", Some("path[-1]")),
            ("two", "swapTokensForExactTokens", list, "amountInMax = { max = \"1 USDC\" }", None),
            ("two", "swapExactETHForTokens", list, "amountOutMin = { min = \"1 USDC\" }", Some("path[-1]")),
            ("three", "exactInputSingle", single, "\"params.amountIn\" = { max = 1_000_000 }", None),
            ("two", "addLiquidity", pool, "amountADesired = { max = \"1 USDC\" }", None),
            ("two", "addLiquidity", pool, "amountADesired = { max = \"1 BOB\" }", Some("tokenA")),
            ("two", "addLiquidity", pool, "amountBDesired = { max = \"1 USDC\" }", Some("tokenB")),
            ("two", "addLiquidity", pool, "amountAMin = { min = \"1 BOB\" }", Some("tokenA")),
            ("two", "addLiquidity", pool, "amountBMin = { min = \"1 USDC\" }", Some("tokenB")),
            ("two", "removeLiquidity", pool, "amountAMin = { min = \"1 BOB\" }", Some("tokenA")),
            ("two", "removeLiquidity", pool, "amountBMin = { min = \"1 BOB\" }", None),
        ] {
            let rule = format!(
                "[[rule]]\nid = \"swap\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
                 from = [\"treasury\"]\nto = [\"{to}\"]\ncall = \"{call}\"\nargs = {{ {pinned}, {amount} }}\n"
            );
            let read = policy(&format!("{contracts}{rule}")).map(drop).map_err(|e| e.to_string());
            match (read, refused) {
                (Ok(()), None) => {}
                (Err(error), Some(token)) => {
                    assert!(error.contains(&format!("is of the token that `{token}` names")), "{error}");
                }
                (read, _) => panic!("{call} {amount}: {read:?}"),
            }
        }
    }
}
