//! What a call moves of a token, or lets others move: by what its contract declares, and of tokens by what they are.

use std::borrow::Cow;
use std::sync::Arc;

use alloy_dyn_abi::DynSolValue;
use alloy_primitives::{Address, U256};

use crate::policy::abi::Function;
use crate::policy::call::{Call, TransactionFacts};
use crate::policy::facts::Contract;
use crate::policy::path::{Over, Path};

/// A call that moves a token, as a contract's `spends` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Spend {
    pub function: Arc<Function>,
    pub asset: Asset,
    pub amount: Amount,
    /// A parameter that says whether it is, a flag or an amount other than 0; if not, another pays, or nothing is moved.
    pub only_if: Option<Path>,
    /// A parameter that says who gets it. What comes back to the account, or to its account contract that makes the call, is not spent.
    pub to: Option<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Asset {
    /// The contract that is called.
    Own,
    /// The token that the contract that is called holds for others, where `[contracts]` says which.
    Underlying(Option<Address>),
    Parameter(Path),
    Token(Address),
    /// Whatever there is.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Amount {
    /// Nothing is moved.
    None,
    /// The parameter that is the amount.
    At(Path),
    /// The call does not say how much.
    Unknown,
}

/// The functions of a token that move it, or let another move it, and the parameter that says how much. An approval is
/// an exposure: what it allows counts as spent.
const MOVES: &[(&str, usize)] = &[
    ("transfer(address,uint256)", 1),
    ("transferFrom(address,address,uint256)", 2),
    ("approve(address,uint256)", 1),
    ("increaseAllowance(address,uint256)", 1),
    ("increaseApproval(address,uint256)", 1),
    ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", 2),
    ("burn(uint256)", 0),
    ("withdraw(uint256)", 0),
];

/// The functions of a token that do neither.
const STILL: &[&str] =
    &["deposit()", "decreaseAllowance(address,uint256)", "decreaseApproval(address,uint256)"];

/// Which parameter of a token's own function says how much it moves, or lets others move.
pub(in crate::policy) fn known_move(function: &Function) -> Option<usize> {
    MOVES.iter().find(|(signature, _)| *signature == function.signature).map(|(_, amount)| *amount)
}

/// How much of `token` a call moves, or lets others move.
pub(in crate::policy) fn moved(
    transaction: &TransactionFacts<'_>,
    token: Address,
    account: Address,
) -> Result<U256, String> {
    let Call::Function(selector) = transaction.call else { return Ok(U256::ZERO) };
    let Some(contract) = transaction.contract else { return Ok(U256::ZERO) };
    let declared = contract.spends.iter().filter(|spend| spend.function.selector == selector);
    let mut sum = U256::ZERO;
    let mut is_declared = false;
    for spend in declared {
        is_declared = true;
        if !spend.comes_back(transaction, account)? {
            sum = sum.saturating_add(spend.of(token, contract, transaction)?);
        }
    }
    if is_declared || contract.address != token {
        return Ok(sum);
    }
    let function = contract.abi.as_ref().and_then(|abi| abi.by_selector(selector));
    let Some(function) = function else {
        return Err(format!("selector {selector} is not in the ABI of `{}`", contract.label));
    };
    match known_move(function) {
        Some(amount) => number(transaction, function, &Path::argument(function, amount)),
        None if STILL.contains(&function.signature.as_str()) => Ok(U256::ZERO),
        None => Err(format!("declare what {} moves in `spends` of `{}`", function.signature, contract.label)),
    }
}

impl Spend {
    /// Whether it is the account that gets it, or the account contract that makes the call for it.
    fn comes_back(&self, transaction: &TransactionFacts<'_>, account: Address) -> Result<bool, String> {
        let Some(to) = &self.to else { return Ok(false) };
        let arguments = transaction.arguments(&self.function);
        let arguments = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
        // What a Multicall3 gets, anybody can take.
        let is_own = |who| who == account || (transaction.keeps && who == transaction.sender);
        Ok(to.values(arguments)?.iter().all(|who| who.as_address().is_some_and(is_own)))
    }

    /// Whether somebody else may get what it moves out of the contract, rather than the contract what is ours.
    pub fn gives_out(&self) -> bool {
        self.to.is_some() || self.amount == Amount::Unknown
    }

    /// Whether it is the contract that gets what it moves.
    pub fn takes_in(&self) -> bool {
        self.amount != Amount::None && !self.gives_out()
    }

    /// How much of `token` it moves.
    fn of(
        &self,
        token: Address,
        contract: &Contract,
        transaction: &TransactionFacts<'_>,
    ) -> Result<U256, String> {
        if self.amount == Amount::None {
            return Ok(U256::ZERO);
        }
        if let Some(path) = &self.only_if
            && !holds(transaction, &self.function, path)?
        {
            return Ok(U256::ZERO);
        }
        let arguments = transaction.arguments(&self.function);
        let arguments = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
        let is_token = |asset: &DynSolValue| asset.as_address() == Some(token);
        let moves = match &self.asset {
            Asset::Own => contract.address == token,
            Asset::Token(asset) | Asset::Underlying(Some(asset)) => *asset == token,
            // It holds another token than itself.
            Asset::Underlying(None) if contract.address == token => false,
            // Without an allowance, which was counted, it takes nothing in; what it gives out, or lets others have, may be any
            // token.
            Asset::Underlying(None) if !self.gives_out() => false,
            Asset::Underlying(None) => {
                return Err(format!(
                    "which token `{0}` moves there is not known; state `underlying` of `{0}` in [contracts]",
                    contract.label
                ));
            }
            Asset::Any => true,
            Asset::Parameter(path) if path.over == Over::All => {
                return self.of_each(arguments, path, is_token);
            }
            Asset::Parameter(path) => path.values(arguments)?.iter().any(|asset| is_token(asset)),
        };
        match &self.amount {
            Amount::At(amount) if moves => number(transaction, &self.function, amount),
            Amount::Unknown if moves => Err(self.unknown()),
            _ => Ok(U256::ZERO),
        }
    }

    /// The same of a list of tokens, with an amount for each.
    fn of_each(
        &self,
        arguments: &[DynSolValue],
        assets: &Path,
        is_token: impl Fn(&DynSolValue) -> bool,
    ) -> Result<U256, String> {
        let assets = assets.values(arguments)?;
        let Amount::At(amount) = &self.amount else {
            let moves = assets.iter().any(|asset| is_token(asset));
            return if moves { Err(self.unknown()) } else { Ok(U256::ZERO) };
        };
        let amounts = numbers(arguments, &self.function, amount)?;
        if amounts.len() != assets.len() {
            return Err(format!("there are {} tokens and {} amounts", assets.len(), amounts.len()));
        }
        let of_token = assets.iter().zip(amounts).filter(|(asset, _)| is_token(asset));
        Ok(of_token.fold(U256::ZERO, |sum, (_, amount)| sum.saturating_add(amount)))
    }

    fn unknown(&self) -> String {
        format!("{} does not say how much it moves, or lets another move", self.function.signature)
    }
}

/// The numbers there.
fn numbers(arguments: &[DynSolValue], function: &Function, path: &Path) -> Result<Vec<U256>, String> {
    let none = || format!("`{path}` of {} is no amount", function.signature);
    let number = |value: Cow<'_, DynSolValue>| value.as_uint().map(|(number, _)| number).ok_or_else(none);
    path.values(arguments)?.into_iter().map(number).collect()
}

/// Whether it is true.
fn holds(transaction: &TransactionFacts<'_>, function: &Arc<Function>, path: &Path) -> Result<bool, String> {
    let arguments = transaction.arguments(function);
    let arguments = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
    let is = path.values(arguments)?.first().and_then(|value| match value.as_ref() {
        DynSolValue::Bool(is) => Some(*is),
        DynSolValue::Uint(number, _) => Some(!number.is_zero()),
        _ => None,
    });
    is.ok_or_else(|| format!("`{path}` of {} is neither true nor false", function.signature))
}

/// The number there; of several, their sum.
pub(in crate::policy) fn number(
    transaction: &TransactionFacts<'_>,
    function: &Arc<Function>,
    path: &Path,
) -> Result<U256, String> {
    let arguments = transaction.arguments(function);
    let arguments = arguments.as_ref().as_ref().map_err(ToString::to_string)?;
    Ok(numbers(arguments, function, path)?.into_iter().fold(U256::ZERO, U256::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, caller, policy, transaction, world,
    };
    use crate::policy::{DenialCause, Policy};
    use crate::transaction::Tx;

    const POOL: &str = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2";
    const COMET: &str = "0xc3d688B66703497DAA19211EEdff47f25384cdc3";
    const VAULT: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
    const MULTICALL: &str = "0xcA11bde05977b3631167028862bE2a173976CA11";
    const WALLET: &str = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65";
    const ROUTER: &str = "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D";

    /// Everything is allowed; what it takes from a budget of USDC is asked.
    fn with(underlying: &str) -> Policy {
        asking(underlying, "usdc", "1 USDC")
    }

    /// The same, with a budget of another token.
    fn asking(underlying: &str, asset: &str, max: &str) -> Policy {
        let text = format!(
            r#"{CONTRACTS}
pool   = {{ chain = 1, address = "{POOL}", abi = "aave-v3-pool" }}
comet  = {{ chain = 1, address = "{COMET}", abi = "compound-v3-comet"{underlying}, decimals = 6, symbol = "cUSDCv3" }}
vault  = {{ chain = 1, address = "{VAULT}", abi = "erc4626"{underlying}, decimals = 18, symbol = "V" }}
router = {{ chain = 1, address = "{ROUTER}", abi = "uniswap-v2-router" }}
multi  = {{ chain = 1, address = "{MULTICALL}", abi = "multicall3" }}
wallet = {{ chain = 1, address = "{WALLET}", abi = "erc4337-simple-account" }}

[[rule]]
id = "all"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
call = "any"

[[rule]]
id = "inside"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
call = "any"
via = ["any"]

[[budget]]
id = "day"
asset = "{asset}"
max = "{max}"
window = "24h"
"#
        );
        policy(&text).unwrap_or_else(|e| panic!("{e}"))
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    /// What a call takes; or the reason why that cannot be told.
    fn taken(policy: &Policy, to: &str, signature: &str, args: &[DynSolValue]) -> Result<u64, String> {
        let asked = transaction(&json!({ "to": to, "data": call(signature, args) }));
        match policy.assess::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0)) {
            Ok((_, charges)) => Ok(charges.first().map_or(0, |charge| charge.amount.to::<u64>())),
            Err(denied) => {
                assert_eq!(denied.cause, DenialCause::Undecodable, "{denied}");
                Err(denied.sentence)
            }
        }
    }

    #[test]
    fn inv_03_what_is_withdrawn_to_somebody_else_is_spent_and_what_comes_back_is_not() {
        let policy = with(", underlying = \"usdc\"");
        let (usdc, bob, five) = (|| address(USDC), || address(BOB), || number(5));
        for (who, spent) in [(TREASURY, 0), (ALICE, 5)] {
            let who = || address(who);
            let checks: &[(&str, &str, Vec<DynSolValue>)] = &[
                (POOL, "withdraw(address,uint256,address)", vec![usdc(), five(), who()]),
                (COMET, "withdrawTo(address,address,uint256)", vec![who(), usdc(), five()]),
                (COMET, "withdrawFrom(address,address,address,uint256)", vec![bob(), who(), usdc(), five()]),
                (COMET, "transfer(address,uint256)", vec![who(), five()]),
                (COMET, "transferFrom(address,address,uint256)", vec![bob(), who(), five()]),
                (COMET, "transferAsset(address,address,uint256)", vec![who(), usdc(), five()]),
                (
                    COMET,
                    "transferAssetFrom(address,address,address,uint256)",
                    vec![bob(), who(), usdc(), five()],
                ),
                (VAULT, "withdraw(uint256,address,address)", vec![five(), who(), address(TREASURY)]),
            ];
            for (to, signature, args) in checks {
                assert_eq!(taken(&policy, to, signature, args), Ok(spent), "{signature}");
            }
        }
        let others = [
            (POOL, "withdraw(address,uint256,address)", vec![bob(), five(), address(ALICE)]),
            (COMET, "withdrawTo(address,address,uint256)", vec![address(ALICE), bob(), five()]),
            (COMET, "withdraw(address,uint256)", vec![usdc(), five()]),
        ];
        for (to, signature, args) in &others {
            assert_eq!(
                taken(&policy, to, signature, args),
                Ok(0),
                "another token, or the account's own: {signature}"
            );
        }
        let deposit = [five(), address(ALICE)];
        assert_eq!(taken(&policy, VAULT, "deposit(uint256,address)", &deposit), Ok(5));
        // How much of it so many shares cost, the vault says when it takes it.
        let mint =
            |shares| taken(&policy, VAULT, "mint(uint256,address)", &[number(shares), address(TREASURY)]);
        assert!(mint(5).unwrap_err().contains("does not say how much it moves"));
        assert_eq!(mint(0), Ok(0));
    }

    #[test]
    fn inv_03_what_a_contract_gets_that_anybody_uses_is_spent() {
        let policy = with("");
        let withdraw = |to: &str| {
            let arguments = [address(USDC), number(5), address(to)];
            alloy_primitives::hex::decode(call("withdraw(address,uint256,address)", &arguments)).unwrap()
        };
        let multicall = |to: &str| {
            let one = [address(POOL), DynSolValue::Bool(false), DynSolValue::Bytes(withdraw(to))];
            let calls = DynSolValue::Array(vec![DynSolValue::Tuple(one.to_vec())]);
            taken(&policy, MULTICALL, "aggregate3((address,bool,bytes)[])", &[calls])
        };
        let wallet = |to: &str| {
            let arguments = [address(POOL), number(0), DynSolValue::Bytes(withdraw(to))];
            taken(&policy, WALLET, "execute(address,uint256,bytes)", &arguments)
        };
        assert_eq!((multicall(MULTICALL), multicall(ALICE), multicall(TREASURY)), (Ok(5), Ok(5), Ok(0)));
        assert_eq!((wallet(WALLET), wallet(ALICE), wallet(TREASURY)), (Ok(0), Ok(5), Ok(0)));
    }

    #[test]
    fn inv_03_what_lets_another_move_everything_is_spent() {
        let policy = with(", underlying = \"usdc\"");
        let allow =
            |is| taken(&policy, COMET, "allow(address,bool)", &[address(ALICE), DynSolValue::Bool(is)]);
        assert_eq!(allow(false), Ok(0));
        assert!(allow(true).unwrap_err().contains("does not say how much it moves"));
        let approve =
            |amount| taken(&policy, COMET, "approve(address,uint256)", &[address(ALICE), number(amount)]);
        assert_eq!((approve(0), approve(5)), (Ok(0), Ok(5)));
    }

    /// Whoever has the shares has what they stand for, and the call does not say how much that is.
    #[test]
    fn inv_03_shares_of_a_vault_do_not_leave_past_the_budget_of_what_it_holds() {
        let known = with(", underlying = \"usdc\"");
        let unknown = with("");
        let of_another = with(&format!(", underlying = \"{BOB}\""));
        let checks = |who: &str, shares: u64| {
            let (who, shares) = (|| address(who), || number(shares));
            [
                ("transfer(address,uint256)", vec![who(), shares()]),
                ("transferFrom(address,address,uint256)", vec![address(TREASURY), who(), shares()]),
                ("approve(address,uint256)", vec![who(), shares()]),
            ]
        };
        for (signature, args) in checks(ALICE, 5) {
            let sentence = taken(&known, VAULT, signature, &args).unwrap_err();
            assert!(sentence.contains("does not say how much"), "{signature}: {sentence}");
            let sentence = taken(&unknown, VAULT, signature, &args).unwrap_err();
            assert!(sentence.contains("state `underlying` of `vault`"), "{signature}: {sentence}");
            assert_eq!(taken(&of_another, VAULT, signature, &args), Ok(0), "{signature}");
        }
        for (signature, args) in checks(ALICE, 0) {
            for policy in [&known, &unknown] {
                assert_eq!(taken(policy, VAULT, signature, &args), Ok(0), "nothing is moved: {signature}");
            }
        }
        for (signature, args) in checks(TREASURY, 5).into_iter().take(2) {
            assert_eq!(taken(&known, VAULT, signature, &args), Ok(0), "it comes back: {signature}");
        }
    }

    #[test]
    fn inv_03_shares_count_as_the_token_that_they_are() {
        for underlying in ["", ", underlying = \"usdc\""] {
            let policy = asking(underlying, "vault", "1 V");
            for (signature, args) in [
                ("transfer(address,uint256)", vec![address(ALICE), number(5)]),
                ("transferFrom(address,address,uint256)", vec![address(TREASURY), address(ALICE), number(5)]),
                ("approve(address,uint256)", vec![address(ALICE), number(5)]),
            ] {
                assert_eq!(taken(&policy, VAULT, signature, &args), Ok(5), "{signature}");
            }
        }
    }

    #[test]
    fn inv_03_where_nobody_can_tell_what_somebody_else_gets_it_is_denied() {
        let redeem = |policy: &Policy, to: &str| {
            taken(
                policy,
                VAULT,
                "redeem(uint256,address,address)",
                &[number(5), address(to), address(TREASURY)],
            )
        };
        let known = with(", underlying = \"usdc\"");
        assert_eq!(redeem(&known, TREASURY), Ok(0));
        assert!(redeem(&known, ALICE).unwrap_err().contains("does not say how much"));
        let of_another = with(&format!(", underlying = \"{BOB}\""));
        assert_eq!(redeem(&of_another, ALICE), Ok(0), "it gives out another token");

        let unknown = with("");
        assert_eq!(redeem(&unknown, TREASURY), Ok(0));
        assert!(redeem(&unknown, ALICE).unwrap_err().contains("state `underlying` of `vault`"));
        let transfer = [address(ALICE), number(5)];
        let sentence = taken(&unknown, COMET, "transfer(address,uint256)", &transfer).unwrap_err();
        assert!(sentence.contains("state `underlying` of `comet`"), "{sentence}");
        let warned = |policy: &Policy| {
            policy
                .warnings(&world())
                .iter()
                .filter(|warning| warning.what.contains("has no `underlying`"))
                .count()
        };
        assert_eq!((warned(&known), warned(&unknown)), (0, 2));

        let liquidity = |to: &str| {
            let tokens = [address(USDC), address(BOB)];
            let rest = [number(5), number(1), number(1), address(to), number(9)];
            let signature = "removeLiquidity(address,address,uint256,uint256,uint256,address,uint256)";
            taken(&known, ROUTER, signature, &[&tokens[..], &rest].concat())
        };
        assert_eq!(liquidity(TREASURY), Ok(0));
        assert!(liquidity(ALICE).is_err());
    }

    #[test]
    fn an_underlying_that_is_no_token_of_the_chain_is_a_mistake() {
        for (underlying, why) in [
            ("usdt", "no contract named `usdt`"),
            ("0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "checksum"),
            ("elsewhere", "is on chain 10"),
        ] {
            let text = format!(
                "{CONTRACTS}elsewhere = {{ chain = 10, address = \"{ROUTER}\" }}\n                 vault = {{ chain = 1, address = \"{VAULT}\", abi = \"erc4626\", underlying = \"{underlying}\" }}\n"
            );
            let error = policy(&text).unwrap_err();
            assert!(error.to_string().contains(why), "{underlying}: {error}");
            assert_eq!(error.mistakes[0].line, Some(7));
        }
        let hollow = |underlying: &str, to: &str| {
            let spends = format!(
                "spends = [{{ call = \"deposit\", asset = \"underlying\", amount = \"assets\"{to} }}]"
            );
            let vault = format!(
                "vault = {{ chain = 1, address = \"{VAULT}\", abi = \"erc4626\", {spends}{underlying} }}\n"
            );
            policy(&format!("{CONTRACTS}{vault}")).map(drop).map_err(|error| error.to_string())
        };
        let error = hollow("", "").unwrap_err();
        assert!(error.contains(":6: nothing would be counted: state `underlying`"), "{error}");
        assert_eq!(hollow(", underlying = \"usdc\"", ""), Ok(()));
        assert_eq!(hollow("", ", to = \"receiver\""), Ok(()));
        let idle = CONTRACTS.replace("abi = \"erc20\"", "abi = \"erc20\", underlying = \"alice\"");
        assert!(policy(&idle).unwrap_err().to_string().contains("`underlying` goes with"));
    }

    /// Without an allowance, which was counted, a vault takes nothing in, whichever token it holds; nor does it hold itself.
    #[test]
    fn inv_03_what_a_vault_takes_in_of_nobody_knows_what_was_counted_by_its_approval() {
        let unknown = with("");
        let deposit =
            |policy: &Policy| taken(policy, VAULT, "deposit(uint256,address)", &[number(5), address(ALICE)]);
        assert_eq!(deposit(&unknown), Ok(0));
        assert_eq!(deposit(&with(", underlying = \"usdc\"")), Ok(5));
        assert_eq!(deposit(&with(&format!(", underlying = \"{BOB}\""))), Ok(0));
        let shares = |underlying: &str| deposit(&asking(underlying, "vault", "1 V"));
        assert_eq!((shares(""), shares(", underlying = \"usdc\"")), (Ok(0), Ok(0)));
    }

    #[test]
    fn which_of_a_tokens_own_functions_move_it_is_known() {
        for (signature, at) in [
            ("transfer(address,uint256)", Some(1)),
            ("transferFrom(address,address,uint256)", Some(2)),
            ("approve(address,uint256)", Some(1)),
            ("increaseAllowance(address,uint256)", Some(1)),
            ("increaseApproval(address,uint256)", Some(1)),
            ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", Some(2)),
            ("burn(uint256)", Some(0)),
            ("withdraw(uint256)", Some(0)),
            ("deposit()", None),
            ("decreaseAllowance(address,uint256)", None),
            ("mint(address,uint256)", None),
        ] {
            assert_eq!(known_move(&Function::parse(signature).unwrap()), at, "{signature}");
        }
    }

    #[test]
    fn a_spend_takes_in_or_gives_out() {
        let function = Arc::new(Function::parse("f(address to, uint256 amount)").unwrap());
        let path = |at: usize| Path::argument(&function, at);
        let of = |amount: Amount, to: Option<Path>| Spend {
            function: Arc::clone(&function),
            asset: Asset::Own,
            amount,
            only_if: None,
            to,
        };
        for (spend, gives_out, takes_in) in [
            (of(Amount::At(path(1)), None), false, true),
            (of(Amount::At(path(1)), Some(path(0))), true, false),
            (of(Amount::Unknown, None), true, false),
            (of(Amount::None, None), false, false),
            (of(Amount::None, Some(path(0))), true, false),
        ] {
            assert_eq!((spend.gives_out(), spend.takes_in()), (gives_out, takes_in), "{spend:?}");
        }
    }

    #[test]
    fn a_vault_whose_token_nobody_named_is_warned_of_where_it_is_written() {
        let all = with("").warnings(&world());
        let said: Vec<_> =
            all.iter().map(ToString::to_string).filter(|said| said.contains("`underlying`")).collect();
        let what = "has no `underlying`: what it gives to others cannot be counted, and is denied where a budget of a token asks";
        assert_eq!(
            said,
            [
                format!("policies/policy.toml:8: `comet` {what}"),
                format!("policies/policy.toml:9: `vault` {what}"),
            ]
        );
    }
}
