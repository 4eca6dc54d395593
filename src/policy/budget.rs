//! `[[budget]]`: how much may be spent in a rolling window. What a payload takes from each budget is worked out here,
//! from its facts alone; the ledger holds the sums.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use toml::Value;

use crate::config::units;
use crate::policy::abi::Function;
use crate::policy::amount::{Unit, show_unit, show_wei, show_window};
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Book, Contract, Facts, Subject};
use crate::policy::path::Path;
use crate::policy::rule::Place;
use crate::policy::scope::Reach;
use crate::policy::spend::{moved, number};
use crate::policy::typed::TypedFacts;
use crate::policy::wrapper::Whole;

/// What a payload takes from one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub limit: Arc<Limit>,
    /// Whose count it is: one text for each.
    pub scope: String,
    pub amount: U256,
}

/// How much a budget has, and of what.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    pub id: String,
    pub max: U256,
    pub window: Duration,
    /// Names what is counted, and how: while it stays the same, so do the sums, whatever `max` becomes.
    pub definition: B256,
    pub(in crate::policy) unit: Measure,
}

/// In what its amounts are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Measure {
    Wei,
    Token(Unit),
    Plain,
}

/// One `[[budget]]` as it is meant.
#[derive(Debug)]
pub(in crate::policy) struct Budget {
    pub limit: Arc<Limit>,
    pub sum: Sum,
    pub reach: Reach,
    pub place: Place,
}

/// What is added up.
#[derive(Debug, PartialEq)]
pub(in crate::policy) enum Sum {
    /// Value, and the most that execution can cost.
    Ether,
    /// What moves this token, or lets another move it.
    Token {
        chain: u64,
        address: Address,
    },
    Count,
    Argument {
        function: Arc<Function>,
        path: Path,
    },
}

impl Limit {
    /// An amount as a person reads it.
    pub fn show(&self, amount: U256) -> String {
        self.unit.show(amount)
    }

    /// The window as a policy writes it.
    pub fn show_window(&self) -> String {
        show_window(self.window)
    }

    /// An amount as a policy writes it.
    pub fn read(&self, written: &Value) -> Result<U256, String> {
        self.unit.read(written)
    }
}

impl Measure {
    pub fn show(&self, amount: U256) -> String {
        match self {
            Self::Wei => show_wei(amount),
            Self::Token(unit) => show_unit(amount, unit),
            Self::Plain => amount.to_string(),
        }
    }

    /// Every amount carries its unit; only 0, and what has no unit, is bare.
    pub fn read(&self, written: &Value) -> Result<U256, String> {
        let text = match (written, self) {
            (Value::Integer(0), _) => return Ok(U256::ZERO),
            (Value::Integer(number), Self::Plain) if *number > 0 => {
                return Ok(U256::from(number.unsigned_abs()));
            }
            (Value::String(text), _) => text.trim(),
            (other, _) => {
                return Err(format!("{other} has no unit; write for example \"10 ether\" or \"1_000 USDC\""));
            }
        };
        let said = |e: units::UnitError| e.to_string();
        match self {
            Self::Wei => units::wei(text).map_err(said),
            Self::Plain => units::decimal(text, 0).map_err(said),
            Self::Token(unit) => match text.split_once(char::is_whitespace) {
                Some((number, symbol)) if symbol.trim() == unit.symbol => {
                    units::decimal(number, unit.decimals).map_err(said)
                }
                _ => Err(format!("`{text}` is not in {}; write \"1_000 {}\"", unit.symbol, unit.symbol)),
            },
        }
    }
}

impl Budget {
    /// What a payload takes from it, with all that it carries; nothing where it is not about them. What cannot be told is
    /// refused.
    pub fn charges(&self, whole: &Whole<'_>, rules: &[Arc<str>]) -> Result<Vec<Charge>, Denied> {
        if let Some(facts) = whole.payload().filter(|facts| self.reach.covers(facts)) {
            self.refuse_delegate(facts)?;
        }
        let mut sums = Vec::<(String, U256)>::new();
        if self.sum == Sum::Ether {
            // Wei of different chains are different coins.
            let scope = |at: usize, facts: &Facts<'_>| {
                let rule = rules.get(at)?;
                let Subject::Transaction(transaction) = &facts.subject else { return None };
                let mut scope = self.reach.covers(facts).then(|| self.reach.scope(facts, rule))?;
                scope.chain = Some(transaction.chain);
                Some(scope.to_string())
            };
            sums = whole.sent(scope);
            // It is executed once, whichever of the calls are counted.
            if let Some(Facts { subject: Subject::Transaction(transaction), .. }) = whole.payload() {
                let fee = transaction.max_execution_fee();
                for (_, sum) in &mut sums {
                    *sum = sum.saturating_add(fee);
                }
            }
        } else {
            for (facts, rule) in whole.each().zip(rules).filter(|(facts, _)| self.reach.covers(facts)) {
                let amount = self.sum.of(facts).map_err(|why| self.unclear(facts, &why))?;
                let scope = self.reach.scope(facts, rule).to_string();
                match sums.iter_mut().find(|(known, _)| *known == scope) {
                    Some((_, sum)) => *sum = sum.saturating_add(amount),
                    None => sums.push((scope, amount)),
                }
            }
        }
        let taken = sums.into_iter().filter(|(_, amount)| !amount.is_zero());
        Ok(taken.map(|(scope, amount)| Charge { limit: Arc::clone(&self.limit), scope, amount }).collect())
    }

    /// Whoever's code acts as the account moves what it likes.
    fn refuse_delegate(&self, facts: &Facts<'_>) -> Result<(), Denied> {
        match (&self.sum, &facts.subject) {
            (Sum::Ether | Sum::Token { .. }, Subject::Authorization(asked))
                if !asked.delegate().is_zero() =>
            {
                let why = "the code that acts as the account may move all there is; \
                           where that is meant, `match` keeps such a budget to other kinds";
                Err(self.unclear(facts, why))
            }
            _ => Ok(()),
        }
    }

    fn unclear(&self, facts: &Facts<'_>, why: &str) -> Denied {
        let sentence = format!(
            "client `{}` may not {}: what it takes from budget `{}` cannot be told: {why}",
            facts.client,
            facts.describe(),
            self.limit.id
        );
        Denied::new(DenialCause::Undecodable, sentence).by(&self.limit.id, None)
    }
}

impl Sum {
    /// What one call takes of it. (Ether is counted over all calls at once.)
    fn of(&self, facts: &Facts<'_>) -> Result<U256, String> {
        match (self, &facts.subject) {
            (Self::Count, _) => Ok(U256::ONE),
            (Self::Token { chain, address }, Subject::Transaction(transaction))
                if transaction.chain == *chain =>
            {
                moved(transaction, *address, facts.account)
            }
            (Self::Token { chain, address }, Subject::TypedData(typed)) => {
                shares_stay(typed, (*chain, *address), facts.book)?;
                typed.moved(*chain, *address)
            }
            // `match` names the function, so whatever else is called is not covered.
            (Self::Argument { function, path }, Subject::Transaction(transaction)) => {
                number(transaction, function, path)
            }
            (Self::Ether | Self::Token { .. } | Self::Argument { .. }, _) => Ok(U256::ZERO),
        }
    }
}

/// Whether a signature lets others have no share of a contract that holds this token: what a share is worth it does not say.
fn shares_stay(typed: &TypedFacts<'_>, (chain, token): (u64, Address), book: &Book) -> Result<(), String> {
    let leaves = |contract: &&Arc<Contract>| {
        let is_share = contract.chain == chain && contract.address != token && contract.gives_out(token);
        is_share && typed.moved(chain, contract.address) != Ok(U256::ZERO)
    };
    // Of several the first by name, so that one question has one answer.
    let left = book.contracts.values().filter(leaves).map(|contract| contract.label.as_str()).min();
    left.map_or(Ok(()), |label| {
        Err(format!("nobody knows how much of it the shares of `{label}` are, which it lets others move"))
    })
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Evidence;
    use crate::policy::Policy;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, TREASURY, USDC, address, call, caller, policy, transaction, transfer,
    };
    use crate::transaction::{Authorization, DelegationRequest, Message, Text, Tx};

    /// Lets everything through, so that only what budgets say of it matters.
    const ALL: &str = r#"
[[rule]]
id = "all"
effect = "allow"
kind = "transaction"
chain = 1
clients = ["any"]
from = ["any"]
to = ["any"]
call = "any"
value = "any"

[[rule]]
id = "talk"
effect = "allow"
kind = "message"
clients = ["any"]
from = ["any"]
text = "any"
"#;

    fn with(budgets: &str) -> Policy {
        policy(&format!("{CONTRACTS}{ALL}{budgets}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn budget(id: &str, what: &str, more: &str) -> String {
        format!("[[budget]]\nid = \"{id}\"\n{what}\nwindow = \"24h\"\n{more}\n")
    }

    fn usdc_per_day() -> Policy {
        with(&budget("day", "asset = \"usdc\"\nmax = \"1_000 USDC\"", ""))
    }

    fn charges(policy: &Policy, fields: &Value) -> Result<Vec<Charge>, Denied> {
        policy
            .decide::<Tx>(&caller("ann"), transaction(fields), Evidence::default())
            .map(|permitted| permitted.charges().to_vec())
    }

    /// What is taken, by budget.
    fn taken(policy: &Policy, fields: &Value) -> Vec<(String, String)> {
        let charges = charges(policy, fields).unwrap_or_else(|e| panic!("{e}"));
        charges.iter().map(|charge| (charge.limit.id.clone(), charge.limit.show(charge.amount))).collect()
    }

    fn number(number: u64) -> DynSolValue {
        DynSolValue::Uint(U256::from(number), 256)
    }

    #[test]
    fn a_tokens_budget_counts_what_moves_it_and_what_lets_others_move_it() {
        let policy = usdc_per_day();
        let permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)";
        let word = || DynSolValue::FixedBytes(B256::ZERO, 32);
        for (data, amount) in [
            (transfer(ALICE, 1_000_000), Some("1 USDC")),
            (
                call(
                    "transferFrom(address,address,uint256)",
                    &[address(TREASURY), address(ALICE), number(2_000_000)],
                ),
                Some("2 USDC"),
            ),
            (call("approve(address,uint256)", &[address(ALICE), number(3_000_000)]), Some("3 USDC")),
            (
                call("increaseAllowance(address,uint256)", &[address(ALICE), number(4_000_000)]),
                Some("4 USDC"),
            ),
            (
                call(
                    permit,
                    &[
                        address(TREASURY),
                        address(ALICE),
                        number(5_000_000),
                        number(9),
                        DynSolValue::Uint(U256::from(27), 8),
                        word(),
                        word(),
                    ],
                ),
                Some("5 USDC"),
            ),
            (call("decreaseAllowance(address,uint256)", &[address(ALICE), number(1)]), None),
            (transfer(ALICE, 0), None),
            ("0x".to_owned(), None),
        ] {
            let expected: Vec<_> =
                amount.map(|amount| ("day".to_owned(), amount.to_owned())).into_iter().collect();
            assert_eq!(taken(&policy, &json!({ "data": data })), expected, "{data}");
        }
        assert_eq!(taken(&policy, &json!({ "to": ALICE, "data": transfer(BOB, 7) })), [], "another contract");
    }

    #[test]
    fn inv_03_what_a_budget_cannot_tell_is_denied() {
        let view = call("balanceOf(address)", &[address(ALICE)]);
        let denied = charges(&usdc_per_day(), &json!({ "data": &view })).unwrap_err();
        assert_eq!((denied.cause, denied.rule.as_deref()), (DenialCause::Undecodable, Some("day")));
        assert!(
            denied.sentence.contains("declare what balanceOf(address) moves in `spends` of `usdc`"),
            "{denied}"
        );
        assert_eq!(taken(&with(""), &json!({ "data": view })), [], "where none asks, none refuses");
        let sum = budget(
            "sum",
            "sum = \"args.amount\"\nmax = 5",
            "match = { kind = \"transaction\", call = \"ping(uint256 amount)\" }",
        );
        let cut = call("ping(uint256)", &[number(1)]);
        let cut = cut.get(..cut.len() - 2).unwrap();
        let denied = charges(&with(&sum), &json!({ "to": ALICE, "data": cut })).unwrap_err();
        assert_eq!((denied.cause, denied.rule.as_deref()), (DenialCause::Undecodable, Some("sum")));
    }

    #[test]
    fn what_a_contract_declares_to_move_counts_for_the_token_that_it_moves() {
        let declared = |spends: &str| {
            let contracts = CONTRACTS.replace(
                &format!("address = \"{ALICE}\" }}"),
                &format!("address = \"{ALICE}\", abi = \"erc20\", spends = [{spends}] }}"),
            );
            assert_ne!(contracts, CONTRACTS);
            let text =
                format!("{contracts}{ALL}{}", budget("day", "asset = \"usdc\"\nmax = \"1_000 USDC\"", ""));
            policy(&text).unwrap_or_else(|e| panic!("{e}"))
        };
        let asked = |to: &str| json!({ "to": ALICE, "data": transfer(to, 7_000_000) });
        let seven = [("day".to_owned(), "7 USDC".to_owned())];
        let by_argument = declared("{ call = \"transfer\", asset = \"to\", amount = \"amount\" }");
        assert_eq!(taken(&by_argument, &asked(USDC)), seven);
        assert_eq!(taken(&by_argument, &asked(BOB)), [], "it moves another token");
        let fixed = format!("{{ call = \"transfer\", asset = \"{USDC}\", amount = \"amount\" }}");
        assert_eq!(taken(&declared(&fixed), &asked(BOB)), seven);
        let twice = declared(&format!("{fixed}, {fixed}"));
        assert_eq!(taken(&twice, &asked(BOB))[0].1, "14 USDC", "all that a call moves is added up");
        let none = declared("{ call = \"transfer\", asset = \"to\", amount = \"none\" }");
        assert_eq!(taken(&none, &asked(USDC)), [], "what is said to move nothing");
        let own = declared("{ call = \"transfer\", asset = \"self\", amount = \"amount\" }");
        assert_eq!(taken(&own, &asked(USDC)), []);
    }

    #[test]
    fn ether_is_value_and_the_most_that_it_can_cost_and_each_chain_has_its_own() {
        let policy = with(&budget("gas", "asset = \"ether\"\nmax = \"1 ether\"", ""));
        let fields = json!({ "to": ALICE, "value": "0xde0b6b3a7640000", "gas": "0x186a0", "maxFeePerGas": "0x3b9aca00" });
        let charge = charges(&policy, &fields).unwrap().remove(0);
        assert_eq!(charge.limit.show(charge.amount), "1.0001 ether");
        assert_eq!(charge.scope, "chain=1");
        let most = format!("{:#x}", U256::MAX);
        let charge = charges(&policy, &json!({ "to": ALICE, "value": most })).unwrap().remove(0);
        assert_eq!(charge.amount, U256::MAX, "what goes beyond 256 bits does not come around");
    }

    #[test]
    fn counts_and_arguments_are_added_up_and_several_budgets_charge_one_request() {
        let policy = with(
            &[
                budget("each", "sum = \"count\"\nmax = 9", ""),
                budget(
                    "sends",
                    "sum = \"count\"\nmax = 9",
                    "match = { kind = \"transaction\", to = [\"bob\"] }",
                ),
                budget("signs", "sum = \"count\"\nmax = 9", "match = { kind = \"message\" }"),
                budget(
                    "pings",
                    "sum = \"args.n\"\nmax = 9",
                    "match = { kind = \"transaction\", call = \"ping(uint8 n)\" }",
                ),
            ]
            .concat(),
        );
        let ping = call("ping(uint8)", &[DynSolValue::Uint(U256::from(7), 8)]);
        let of = |parts: &[(&str, &str)]| -> Vec<(String, String)> {
            parts.iter().map(|(id, amount)| ((*id).to_owned(), (*amount).to_owned())).collect()
        };
        assert_eq!(
            taken(&policy, &json!({ "to": BOB, "data": ping })),
            of(&[("each", "1"), ("pings", "7"), ("sends", "1")])
        );
        assert_eq!(taken(&policy, &json!({ "to": ALICE, "data": "0x01020304" })), of(&[("each", "1")]));
        let text = Text::new(TREASURY.parse().unwrap(), Bytes::from_static(b"hello"));
        let permitted = policy.decide::<Message>(&caller("ann"), text, Evidence::default()).unwrap();
        let ids: Vec<_> = permitted.charges().iter().map(|charge| charge.limit.id.as_str()).collect();
        assert_eq!(ids, ["each", "signs"]);
    }

    /// Nobody knows what the code of a delegate will move; taking it away moves nothing.
    #[test]
    fn inv_03_a_delegate_is_denied_where_a_budget_of_amounts_asks() {
        let rule = "[[rule]]\nid = \"code\"\neffect = \"allow\"\nkind = \"authorization\"\nchain = 1\nclients = [\"any\"]\nfrom = [\"any\"]\n\
                    delegates = [\"alice\", \"none\"]\n";
        let assess = |budget: &str, delegate: &str| {
            let asked = json!([{ "from": TREASURY, "address": delegate }]).to_string();
            let asked = DelegationRequest::parse(Some(&asked)).unwrap().fill(1, 0).unwrap();
            let now = crate::clock::Timestamp::from_millis(0);
            let assessed =
                with(&format!("{rule}{budget}")).assess::<Authorization>(&caller("ann"), &asked, now);
            assessed.map(|(_, charges)| charges.len()).map_err(|denied| (denied.cause, denied.rule))
        };
        let nobody = Address::ZERO.to_string();
        let unclear = Err((DenialCause::Undecodable, Some("b".to_owned())));
        for what in ["asset = \"usdc\"\nmax = \"1 USDC\"", "asset = \"ether\"\nmax = \"1 ether\""] {
            assert_eq!(assess(&budget("b", what, ""), ALICE), unclear);
            assert_eq!(assess(&budget("b", what, ""), &nobody), Ok(0));
            let others = budget("b", what, "match = { kind = \"transaction\" }");
            assert_eq!(assess(&others, ALICE), Ok(0));
        }
        assert_eq!(assess(&budget("b", "sum = \"count\"\nmax = 1", ""), ALICE), Ok(1));
        let none = assess("", BOB).unwrap_err();
        assert_eq!(none, (DenialCause::NoRule, Some("code".to_owned())));
        let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\n";
        for (more, denied) in [("", true), ("delegates = [\"bob\"]\nkind = \"authorization\"\n", false)] {
            assert_eq!(assess(&format!("{deny}{more}"), ALICE).is_err(), denied, "{more}");
        }
        let warnings = |delegates: &str| {
            let rule = rule.replace("\"alice\", \"none\"", delegates);
            let policy = with(&rule);
            let warnings = policy.warnings(&crate::policy::tests::world());
            warnings.iter().any(|one| one.what.contains("any code may act as its accounts"))
        };
        assert!(warnings("\"any\"") && !warnings("\"alice\""));
    }

    #[test]
    fn whose_count_it_is_is_one_text_for_each() {
        for (per, scope) in [
            ("", String::new()),
            ("\"from\"", format!("from={TREASURY}")),
            ("\"to\", \"client\", \"rule\"", format!("client=ann to={BOB} rule=all")),
        ] {
            let policy = with(&budget("b", "sum = \"count\"\nmax = 1", &format!("per = [{per}]")));
            let charge = charges(&policy, &json!({ "to": BOB, "data": "0x" })).unwrap().remove(0);
            assert_eq!(charge.scope, scope);
        }
    }

    #[test]
    fn inv_03_a_definition_changes_with_what_is_counted_and_not_with_the_limit() {
        let definition = |policy: &Policy| policy.limits().next().unwrap().definition;
        let text = budget("b", "asset = \"usdc\"\nmax = \"9 USDC\"", "match = { clients = [\"trader\"] }");
        let before = definition(&with(&text));
        assert_eq!(definition(&with(&text.replace("9 USDC", "8 USDC"))), before);
        for (right, wrong) in [
            ("24h", "23h"),
            ("match = { clients = [\"trader\"] }", ""),
            ("[\"trader\"]", "[\"ann\", \"ben\"]"),
            ("window", "per = [\"from\"]\nwindow"),
            ("asset = \"usdc\"\nmax = \"9 USDC\"", "asset = \"ether\"\nmax = \"9 ether\""),
        ] {
            assert!(text.contains(right), "{right}");
            assert_ne!(definition(&with(&text.replace(right, wrong))), before, "{wrong}");
        }
        let moves = CONTRACTS.replace(
            &format!("address = \"{ALICE}\" }}"),
            &format!(
                "address = \"{ALICE}\", abi = \"erc20\", spends = [{{ call = \"transfer\", asset = \"to\", amount = \"amount\" }}] }}"
            ),
        );
        assert_ne!(definition(&policy(&format!("{moves}{ALL}{text}")).unwrap()), before, "what calls move");
        let mut world = crate::policy::tests::world();
        world.clients[1].role = Some("trader".to_owned());
        let roles = Policy::of_text(&format!("{CONTRACTS}{ALL}{text}"), &world);
        assert_ne!(definition(&roles), before, "whom a role means");
    }

    #[test]
    fn what_built_in_abis_move_is_charged() {
        let number = |number: u64| DynSolValue::Uint(U256::from(number), 256);
        let of = |bits: usize, number: u64| DynSolValue::Uint(U256::from(number), bits);
        let spare = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
        let contracts = CONTRACTS
            .replace("alice = {", "alice = { abi = \"uniswap-v3-router-02\",")
            .replace("bob   = {", "bob = { abi = \"permit2\",")
            + &format!("pool = {{ chain = 1, address = \"{spare}\", abi = \"aave-v3-pool\" }}\n");
        let policy =
            policy(&format!("{contracts}{ALL}{}", budget("b", "asset = \"usdc\"", "max = \"1 USDC\"")))
                .unwrap_or_else(|e| panic!("{e}"));
        let path = |first: &str, last: &str| {
            let parts: [&[u8]; 3] = [
                &first.parse::<Address>().unwrap().into_array(),
                &[0, 1, 244],
                &last.parse::<Address>().unwrap().into_array(),
            ];
            DynSolValue::Bytes(parts.concat())
        };
        let exact_in = |path| {
            let params = DynSolValue::Tuple(vec![path, address(TREASURY), number(7), number(5)]);
            call("exactInput((bytes,address,uint256,uint256))", &[params])
        };
        let exact_out = |path| {
            let params = DynSolValue::Tuple(vec![path, address(TREASURY), number(7), number(9)]);
            call("exactOutput((bytes,address,uint256,uint256))", &[params])
        };
        let batch = |items: &[(&str, u64)]| {
            let item = |(token, amount): &(&str, u64)| {
                DynSolValue::Tuple(vec![address(token), of(160, *amount), of(48, 0), of(48, 0)])
            };
            let details = DynSolValue::Array(items.iter().map(item).collect());
            let permit = DynSolValue::Tuple(vec![details, address(ALICE), number(0)]);
            call(
                "permit(address,((address,uint160,uint48,uint48)[],address,uint256),bytes)",
                &[address(TREASURY), permit, DynSolValue::Bytes(vec![])],
            )
        };
        let supply = |asset: &str| {
            call(
                "supply(address,uint256,address,uint16)",
                &[address(asset), number(11), address(TREASURY), of(16, 0)],
            )
        };
        let now = crate::clock::Timestamp::from_millis(0);
        for (to, data, charged) in [
            (ALICE, exact_in(path(USDC, BOB)), Some(7)),
            (ALICE, exact_in(path(BOB, USDC)), None),
            (ALICE, exact_out(path(BOB, USDC)), Some(9)),
            (ALICE, exact_out(path(USDC, BOB)), None),
            (BOB, batch(&[(USDC, 3), (ALICE, 100), (USDC, 4)]), Some(7)),
            (BOB, batch(&[(ALICE, 100)]), None),
            (spare, supply(USDC), Some(11)),
            (spare, supply(BOB), None),
        ] {
            let asked = transaction(&json!({ "to": to, "data": data }));
            let assessed = policy.assess::<Tx>(&caller("ann"), &asked, now);
            let (_, charges) = assessed.unwrap_or_else(|e| panic!("{e}"));
            let amounts: Vec<_> = charges.iter().map(|charge| charge.amount).collect();
            assert_eq!(amounts, charged.map(U256::from).into_iter().collect::<Vec<_>>(), "{to} {data}");
        }
        // Of a path too short to name a token nobody can say that it is not the budget's.
        let asked = transaction(&json!({ "to": ALICE, "data": exact_in(DynSolValue::Bytes(vec![1])) }));
        let denied = policy.assess::<Tx>(&caller("ann"), &asked, now).unwrap_err();
        assert_eq!(denied.cause, DenialCause::Undecodable, "{denied}");
    }

    #[test]
    fn an_amount_carries_its_unit() {
        let usdc = Measure::Token(Unit { symbol: "USDC".to_owned(), decimals: 6 });
        let text = |text: &str| toml::Value::String(text.to_owned());
        for (measure, written, read) in [
            (&Measure::Wei, toml::Value::Integer(0), Ok(0)),
            (&Measure::Wei, text("2 gwei"), Ok(2_000_000_000)),
            (
                &Measure::Wei,
                toml::Value::Integer(5),
                Err("5 has no unit; write for example \"10 ether\" or \"1_000 USDC\""),
            ),
            (&Measure::Wei, text("5 USDC"), Err("`USDC` is not a unit")),
            (&usdc, toml::Value::Integer(0), Ok(0)),
            (&usdc, text(" 1_000 USDC "), Ok(1_000_000_000)),
            (&usdc, text("0.000001 USDC"), Ok(1)),
            (&usdc, text("5 DAI"), Err("`5 DAI` is not in USDC; write \"1_000 USDC\"")),
            (&usdc, text("5"), Err("`5` is not in USDC; write \"1_000 USDC\"")),
            (
                &usdc,
                toml::Value::Boolean(true),
                Err("true has no unit; write for example \"10 ether\" or \"1_000 USDC\""),
            ),
            (&Measure::Plain, toml::Value::Integer(7), Ok(7)),
            (&Measure::Plain, text("1_000"), Ok(1000)),
            (
                &Measure::Plain,
                toml::Value::Integer(-7),
                Err("-7 has no unit; write for example \"10 ether\" or \"1_000 USDC\""),
            ),
            (&Measure::Plain, text("5 ether"), Err("`5 ether` is not a number")),
        ] {
            match (measure.read(&written), read) {
                (Ok(amount), Ok(read)) => assert_eq!(amount, U256::from(read), "{written}"),
                (Err(why), Err(says)) => assert!(why.starts_with(says), "{why}"),
                (found, _) => panic!("{written}: {found:?}"),
            }
        }
        let amount = U256::from(1_500_000);
        assert_eq!(
            [Measure::Wei.show(amount), usdc.show(amount), Measure::Plain.show(amount)],
            ["0.0015 gwei", "1.5 USDC", "1500000"]
        );
        let limit = Limit {
            id: "b".to_owned(),
            max: amount,
            window: Duration::from_secs(86_400),
            definition: B256::ZERO,
            unit: usdc,
        };
        assert_eq!((limit.show(amount), limit.show_window()), ("1.5 USDC".to_owned(), "24h".to_owned()));
        assert_eq!(limit.read(&text("2 USDC")), Ok(U256::from(2_000_000)));
    }

    /// What is taken on a chain is that chain's; and of a call that is not covered nothing is.
    #[test]
    fn inv_03_a_charge_is_of_its_scope() {
        let policy = with(&budget(
            "b",
            "asset = \"ether\"\nmax = \"1 ether\"",
            "per = [\"to\"]\nmatch = { kind = \"transaction\", to = [\"bob\"] }",
        ));
        let taken =
            charges(&policy, &json!({ "to": BOB, "value": "0x5", "gas": "0x5208", "gasPrice": "0x1" }))
                .unwrap();
        let [charge] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!(
            (charge.scope.as_str(), charge.amount),
            (format!("chain=1 to={BOB}").as_str(), U256::from(21_005))
        );
        assert_eq!(taken_by(&policy, ALICE), 0);
    }

    fn taken_by(policy: &Policy, to: &str) -> usize {
        charges(policy, &json!({ "to": to, "value": "0x5" })).unwrap().len()
    }

    #[test]
    fn inv_03_a_definition_changes_with_what_calls_are_declared_to_move() {
        let declared = |amount: &str| {
            let contracts = CONTRACTS.replace(
                &format!("address = \"{ALICE}\" }}"),
                &format!("address = \"{ALICE}\", abi = \"erc20\", spends = [{{ call = \"transfer\", asset = \"to\", amount = \"{amount}\" }}] }}"),
            );
            let budget = budget("b", "asset = \"usdc\"\nmax = \"1 USDC\"", "");
            policy(&format!("{contracts}{ALL}{budget}")).unwrap().limits().next().unwrap().definition
        };
        assert_eq!(declared("amount"), declared("amount"));
        assert_ne!(declared("amount"), declared("none"));
        // How often something is done does not depend on it.
        let counted = |spends: &str| {
            let alice = format!("address = \"{ALICE}\"");
            let contracts = CONTRACTS.replace(&alice, &format!("{alice}, abi = \"erc20\"{spends}"));
            let policy =
                policy(&format!("{contracts}{ALL}{}", budget("b", "sum = \"count\"\nmax = 1", ""))).unwrap();
            policy.limits().next().unwrap().definition
        };
        let spends = ", spends = [{ call = \"transfer\", asset = \"to\", amount = \"amount\" }]";
        assert_eq!(counted(""), counted(spends));
    }

    #[test]
    fn a_budget_of_a_token_counts_typed_data_too() {
        let of = |what: &str, kind: &str| {
            let text = budget("b", what, &format!("match = {{ kind = \"{kind}\" }}"));
            policy(&format!("{CONTRACTS}{ALL}{text}")).map(drop).map_err(|e| e.to_string())
        };
        let (ether, token, count) = (
            "asset = \"ether\"\nmax = \"1 ether\"",
            "asset = \"usdc\"\nmax = \"1 USDC\"",
            "sum = \"count\"\nmax = 1",
        );
        for (what, kind, is) in [
            (ether, "transaction", true),
            (ether, "presigned", true),
            (ether, "authorization", true),
            (ether, "typed_data", false),
            (ether, "message", false),
            (token, "transaction", true),
            (token, "typed_data", true),
            (token, "message", false),
            (count, "typed_data", true),
            (count, "message", true),
        ] {
            assert_eq!(of(what, kind).is_ok(), is, "{what} {kind}");
        }
        let error = of(ether, "typed_data").unwrap_err();
        assert!(error.ends_with(": typed data moves no ether: write a token, or sum = \"count\""), "{error}");
        let error = of(token, "message").unwrap_err();
        assert!(
            error.ends_with(": a message moves nothing: only sum = \"count\" goes with kind = \"message\""),
            "{error}"
        );
    }

    #[test]
    fn what_a_contract_is_said_to_move_must_be_there() {
        let of = |spends: &str| {
            let alice = format!("alice = {{ chain = 1, address = \"{ALICE}\"{spends} }}\n");
            policy(&format!("[contracts]\n{alice}")).map(drop).map_err(|e| e.to_string())
        };
        let spend =
            |more: &str| of(&format!(", abi = \"erc20\", spends = [{{ call = \"transfer\", {more} }}]"));
        let describe = "transfer(address to, uint256 amount)";
        assert_eq!(spend("asset = \"self\", amount = \"amount\""), Ok(()));
        assert_eq!(spend("asset = \"any\", amount = \"unknown\", to = \"to\""), Ok(()));
        for (more, why) in [
            ("asset = \"amount\", amount = \"amount\"", format!("{describe} has no address `amount`")),
            ("asset = \"self\", amount = \"to\"", format!("{describe} has no amount `to`")),
            (
                "asset = \"self\", amount = \"much\"",
                format!("{describe} has no amount `much`: {describe} has no parameter `much`"),
            ),
            (
                "asset = \"self\", amount = \"amount\", to = \"amount\"",
                format!("{describe} has no address `amount`"),
            ),
            (
                "asset = \"0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48\", amount = \"amount\"",
                "`0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48` has no EIP-55 checksum".to_owned(),
            ),
        ] {
            let error = spend(more).unwrap_err();
            assert!(error.starts_with(&format!("policies/policy.toml:2: {why}")), "{error}");
        }
        let error = of(", spends = [{ call = \"f\", asset = \"self\", amount = \"none\" }]").unwrap_err();
        assert!(error.ends_with(":2: `spends` needs `abi`, where its functions stand"), "{error}");
    }

    /// A parameter may be called as a word that else means something.
    #[test]
    fn a_parameter_named_underlying_is_that_parameter() {
        let abi = r#"[{"type":"function","name":"f","inputs":[{"name":"underlying","type":"address"},{"name":"amount","type":"uint256"}],"outputs":[],"stateMutability":"view"}]"#;
        let text = format!(
            "{}{ALL}{}",
            CONTRACTS.replace("alice = {", "alice = { abi = \"f.json\", spends = [{ call = \"f\", asset = \"underlying\", amount = \"amount\" }],"),
            budget("b", "asset = \"usdc\"\nmax = \"1 USDC\"", "")
        );
        let source = crate::policy::load::Source { name: "p.toml".to_owned(), path: "p.toml".into(), text };
        let policy = Policy::of_sources(&[source], &crate::policy::tests::world(), |beside| match beside {
            crate::policy::load::Beside::Abi("f.json") => Ok(abi.to_owned()),
            other => crate::policy::tests::built_in_only(other),
        })
        .unwrap_or_else(|e| panic!("{e}"));
        for (token, taken) in [(USDC, Some(7)), (BOB, None)] {
            let data = call("f(address,uint256)", &[address(token), number(7)]);
            let amounts: Vec<_> = charges(&policy, &json!({ "to": ALICE, "data": data }))
                .unwrap()
                .iter()
                .map(|charge| charge.amount)
                .collect();
            assert_eq!(amounts, taken.map(U256::from).into_iter().collect::<Vec<_>>(), "{token}");
        }
    }
}
