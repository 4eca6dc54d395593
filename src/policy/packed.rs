//! Paths of Uniswap v3: bytes that are tokens with fees between them. Which arguments are such a path, and what an allow rule
//! has to say of one.

use alloy_primitives::{Address, U256};

use crate::policy::abi::Function;
use crate::policy::argument::{ArgumentTest, Operand};
use crate::policy::path::{Over, Path, Step};

/// A token, and the fee of the pool behind it.
const TOKEN: usize = 20;
const HOP: usize = 23;

/// The longest path through one pool. What is longer goes through two.
pub(in crate::policy) const ONE_POOL: usize = TOKEN + HOP;

/// The functions that take one, by signature, since parameters are called as anybody likes; and where it stands.
const PATHS: &[(&str, usize, &[Step])] = &[
    ("exactInput((bytes,address,uint256,uint256,uint256))", 0, &[Step::Part(0)]),
    ("exactInput((bytes,address,uint256,uint256))", 0, &[Step::Part(0)]),
    ("exactOutput((bytes,address,uint256,uint256,uint256))", 0, &[Step::Part(0)]),
    ("exactOutput((bytes,address,uint256,uint256))", 0, &[Step::Part(0)]),
    ("V3_SWAP_EXACT_IN(address,uint256,uint256,bytes,bool)", 3, &[]),
    ("V3_SWAP_EXACT_OUT(address,uint256,uint256,bytes,bool)", 3, &[]),
];

/// The tokens of a path. A router reads from its beginning and does not mind what is left over, so bytes of any other length
/// have another end than they seem to: they are no path.
pub(in crate::policy) fn tokens(bytes: &[u8]) -> Option<Vec<Address>> {
    let (hops, last) = bytes.split_at_checked(bytes.len().checked_sub(TOKEN)?)?;
    let hops = hops.chunks(HOP);
    if hops.len() == 0 || hops.clone().any(|hop| hop.len() != HOP) {
        return None;
    }
    let token = |bytes: &[u8]| bytes.first_chunk::<TOKEN>().map(|token| Address::from(*token));
    hops.chain(std::iter::once(last)).map(token).collect()
}

/// Where a function takes a path.
fn place(function: &Function) -> Option<Path> {
    let (_, at, steps) = PATHS.iter().find(|(signature, ..)| *signature == function.signature)?;
    let whole = Path::argument(function, *at);
    let part = |steps: &[Step]| match steps {
        [Step::Part(part)] => Some(format!("{}.{}", whole.text, function.part_label(*at, *part))),
        _ => None,
    };
    Some(Path { text: part(steps).unwrap_or_else(|| whole.text.clone()), steps: steps.to_vec(), ..whole })
}

/// The ends of a function's path of which nothing is said: from which token to which it leads.
pub(in crate::policy) fn unsaid(function: &Function, said: &[(Path, Vec<ArgumentTest>)]) -> Vec<String> {
    let Some(place) = place(function) else { return Vec::new() };
    let said = |over: Over| {
        let wanted = place.looked_at(over);
        said.iter().filter(move |(path, _)| path.is_same(&wanted))
    };
    // That the whole is "any" must be written, and what it equals says both ends; how it begins says one.
    let is_whole = |tests: &[ArgumentTest]| {
        tests.is_empty() || tests.iter().any(|test| matches!(test, ArgumentTest::OneOf(..)))
    };
    if said(Over::One).any(|(_, tests)| is_whole(tests)) || said(Over::Tokens).next().is_some() {
        return Vec::new();
    }
    let missing = [Over::Head, Over::Tail].into_iter().filter(|over| said(*over).next().is_none());
    missing.map(|over| place.looked_at(over).text).collect()
}

/// Whether a function's path may lead through tokens of which nothing is said; then, what to write.
pub(in crate::policy) fn through_any<'t>(
    function: &Function,
    tests: &(impl Iterator<Item = (&'t Path, &'t ArgumentTest)> + Clone),
) -> Option<String> {
    let place = place(function)?;
    let is_said = |over: Over, is: fn(&ArgumentTest) -> bool| {
        let said = place.looked_at(over);
        tests.clone().any(|(path, test)| path.is_same(&said) && is(test))
    };
    let has_one_pool = |test: &ArgumentTest| match test {
        ArgumentTest::OneOf(lengths, _) => lengths.iter().all(is_one_pool),
        ArgumentTest::Max(length, _) => is_one_pool(length),
        _ => false,
    };
    let bound = is_said(Over::One, |test| matches!(test, ArgumentTest::OneOf(..)))
        || is_said(Over::Tokens, |_| true)
        || is_said(Over::Length, has_one_pool);
    (!bound).then(|| {
        let (tokens, length) = (place.looked_at(Over::Tokens).text, place.looked_at(Over::Length).text);
        format!(
            "through which tokens `args.{place}` leads is not said: write \"{tokens}\" = [...], or \"{length}\" = {ONE_POOL} for one pool"
        )
    })
}

fn is_one_pool(length: &Operand) -> bool {
    let most = U256::from(ONE_POOL.saturating_add(HOP));
    matches!(length, Operand::Value(value) if value.as_uint().is_some_and(|(length, _)| length < most))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;
    use serde_json::json;

    use super::*;
    use crate::policy::tests::{ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, decide, policy, world};
    use crate::policy::{Denied, Policy};
    use alloy_dyn_abi::DynSolValue;

    const ROUTER: &str = "0x68b3465833fb72A70ecDF485E0e4C7bD8665Fc45";
    const INPUT: &str = "exactInput((bytes,address,uint256,uint256))";
    const OUTPUT: &str = "exactOutput((bytes,address,uint256,uint256))";

    fn with(call: &str, args: &str) -> Result<Policy, String> {
        let args = if args.is_empty() { String::new() } else { format!(", {args}") };
        let text = format!(
            "{CONTRACTS}router = {{ chain = 1, address = \"{ROUTER}\", abi = \"uniswap-v3-router-02\" }}\n\
             [[rule]]\nid = \"swap\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"treasury\"]\nto = [\"router\"]\ncall = \"{call}\"\nargs = {{ \"params.recipient\" = \"$from\"{args} }}\n"
        );
        policy(&text).map_err(|e| e.to_string())
    }

    fn path(tokens: &[&str], more: &[u8]) -> Vec<u8> {
        let tokens: Vec<_> = tokens.iter().map(|token| hex::decode(token).unwrap()).collect();
        [tokens.join(&[0, 1, 244][..]), more.to_vec()].concat()
    }

    fn swap(policy: &Policy, signature: &str, path: Vec<u8>) -> Result<String, Denied> {
        let number = DynSolValue::Uint(U256::from(5), 256);
        let params = vec![DynSolValue::Bytes(path), address(TREASURY), number.clone(), number];
        let data = call(signature, &[DynSolValue::Tuple(params)]);
        decide(policy, "ann", &json!({ "to": ROUTER, "data": data }))
    }

    #[test]
    fn inv_04_an_allow_rule_says_where_a_path_begins_and_ends() {
        for call in ["exactInput", "exactOutput", INPUT] {
            for (args, missing) in [
                ("", Some("`head(params.path)`, `tail(params.path)` of")),
                ("\"head(params.path)\" = \"usdc\"", Some("`tail(params.path)` of")),
                ("\"tail(params.path)\" = \"usdc\"", Some("`head(params.path)` of")),
                ("\"len(params.path)\" = 43", Some("`head(params.path)`, `tail(params.path)` of")),
                (
                    "\"params.path\" = { prefix = \"0xa0b86991\" }",
                    Some("`head(params.path)`, `tail(params.path)` of"),
                ),
                ("\"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"any\"", None),
                ("\"params.path\" = \"any\"", None),
                ("\"params.path\" = \"0x00\"", None),
                ("\"tokens(params.path)\" = [\"usdc\", \"bob\"]", None),
            ] {
                let read = with(call, args);
                match (&read, missing) {
                    (Ok(_), None) => {}
                    (Err(error), Some(missing)) => assert!(error.contains(missing), "{args}: {error}"),
                    _ => panic!("{args}: {read:?}"),
                }
            }
        }
        // The names are those of a rule's own signature, where it has some.
        let unnamed = with(INPUT, "").map(drop).unwrap_err();
        assert!(unnamed.contains("params.path"), "{unnamed}");
    }

    #[test]
    fn the_tokens_between_the_ends_are_said_or_warned_of() {
        let ends = "\"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"bob\"";
        for (more, warned) in [
            ("", true),
            (", \"len(params.path)\" = 43", false),
            (", \"len(params.path)\" = { max = 65 }", false),
            (", \"len(params.path)\" = [43, 66]", true),
            (", \"tokens(params.path)\" = [\"usdc\", \"bob\"]", false),
            (", \"params.path\" = \"any\"", true),
        ] {
            let policy = with("exactInput", &format!("{ends}{more}")).unwrap();
            let warnings = policy.warnings(&world());
            let is = warnings
                .iter()
                .any(|warning| warning.what.contains("through which tokens `args.params.path` leads"));
            assert_eq!(is, warned, "{more}: {warnings:?}");
        }
        let each = with("exactInput", "\"tokens(params.path)\" = [\"usdc\", \"bob\"]").unwrap();
        assert!(swap(&each, INPUT, path(&[USDC, BOB], &[])).is_ok());
        assert!(swap(&each, INPUT, path(&[USDC, BOB, USDC], &[])).is_ok());
        let denied = swap(&each, INPUT, path(&[USDC, ALICE, BOB], &[])).unwrap_err();
        assert_eq!(denied.condition.as_deref(), Some("args.tokens(params.path)"));
    }

    /// A router swaps along the first pools of a path and does not look at what is left over.
    #[test]
    fn inv_04_bytes_behind_a_path_hide_no_token() {
        let args = "\"head(params.path)\" = \"usdc\", \"tail(params.path)\" = \"bob\"";
        let input = with("exactInput", args).unwrap();
        assert!(swap(&input, INPUT, path(&[USDC, BOB], &[])).is_ok());
        assert!(swap(&input, INPUT, path(&[USDC, ALICE, BOB], &[])).is_ok());
        let bob = hex::decode(BOB).unwrap();
        for hidden in
            [path(&[USDC, ALICE], &bob), path(&[USDC, ALICE, USDC], &bob), path(&[USDC], &[]), bob.clone()]
        {
            assert!(swap(&input, INPUT, hidden.clone()).is_err(), "{}", hex::encode(&hidden));
            let tail = "\"tail(params.path)\" = \"bob\", \"head(params.path)\" = \"any\"";
            assert!(swap(&with("exactInput", tail).unwrap(), INPUT, hidden).is_err());
        }
        // In doubt a deny rule matches.
        let open = "\"params.path\" = \"any\"";
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"router\"]\ncall = \"exactOutput\"\nargs = { \"tail(params.path)\" = \"alice\" }\n";
        let text = format!(
            "{CONTRACTS}router = {{ chain = 1, address = \"{ROUTER}\", abi = \"uniswap-v3-router-02\" }}\n\
             [[rule]]\nid = \"swap\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\n\
             from = [\"treasury\"]\nto = [\"router\"]\ncall = \"exactOutput\"\nargs = {{ \"params.recipient\" = \"$from\", {open} }}\n{deny}"
        );
        let policy = policy(&text).unwrap();
        assert!(swap(&policy, OUTPUT, path(&[BOB, USDC], &[])).is_ok());
        let denied = swap(&policy, OUTPUT, path(&[BOB, ALICE], &bob)).unwrap_err();
        assert_eq!(denied.rule.as_deref(), Some("no"));
    }

    #[test]
    fn a_path_is_tokens_with_fees_between_them() {
        let token = |text: &str| text.parse::<Address>().unwrap();
        assert_eq!(tokens(&path(&[USDC, BOB], &[])), Some(vec![token(USDC), token(BOB)]));
        assert_eq!(
            tokens(&path(&[USDC, BOB, ALICE], &[])),
            Some(vec![token(USDC), token(BOB), token(ALICE)])
        );
        for no_path in [vec![], vec![1; 19], vec![1; 20], vec![1; 23], vec![1; 42], vec![1; 44], vec![1; 63]]
        {
            assert_eq!(tokens(&no_path), None, "{}", no_path.len());
        }
    }
}
