//! `outcome`: what a transaction may do to its account, by a node's simulation of it.
//!
//! It only narrows what the rest of its rule allows: a node that lies makes it as if it was not written. Balances are compared
//! for what a rule names; that nothing else leaves, and nobody is let take something, is read from what contracts say.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, b256};

use crate::identity::AccountCaller;
use crate::policy::amount::show_wei;
use crate::policy::budget::Measure;
use crate::policy::condition::{Condition, Holds};
use crate::policy::decide::Policy;
use crate::policy::evidence::{Evidence, Moment};
use crate::policy::facts::Facts;
use crate::policy::judged::{Judged, facts, filled};
use crate::policy::rule::Rule;
use crate::policy::wrapper::Whole;
use crate::transaction::{Event, Filled, Simulation};

/// What is known of what a transaction would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Simulated {
    /// No node was asked.
    #[default]
    Never,
    /// No node could say.
    Failed(String),
    Seen(Simulation),
    /// It was judged by it when it was signed, and what was seen is not kept.
    Then,
}

/// `outcome` of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct OutcomeTest {
    /// In wei.
    pub ether: U256,
    /// The most of each token that may leave; of any other, nothing.
    pub tokens: BTreeMap<Address, (U256, Measure)>,
    /// Whether others may be let take something.
    pub approvals: bool,
}

// The events that tell of what leaves an account, and of who may take something.
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
const TRANSFER_SINGLE: B256 = b256!("c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62");
const TRANSFER_BATCH: B256 = b256!("4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb");
const APPROVAL: B256 = b256!("8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925");
const APPROVAL_FOR_ALL: B256 = b256!("17307eab39ab6107e8899845ad3d59bd9653f200f220920489ca2b5937696c31");
/// ERC-6909's, of one of its many tokens.
const ERC6909_TRANSFER: B256 = b256!("1b3d7edb2e9c0b0e7c525b20aaaef0f5940d2ed71663c7d39266ecafac728859");
const ERC6909_APPROVAL: B256 = b256!("b3fd5071835887567a0671151121894ddccc2842f1d10bedad13e0d17cace9a7");
const OPERATOR_SET: B256 = b256!("ceb576d9f15e4e200fdb5096d64d5dfd667e16def20c1eefd14256d8e3faa267");
/// ERC-777's.
const SENT: B256 = b256!("06b541ddaa720db2b10a4d0cdac39b8d360425fc073085fac19bc82614677987");
const AUTHORIZED_OPERATOR: B256 = b256!("f4caeb2d6ca8932a215a353d0703c326ec2d81fc68170f320eb2ab49e9df61f9");
/// Permit2's.
const PERMIT2_APPROVAL: B256 = b256!("da9fa7c1b00402c17d0161b249b1ab8bbec047c5a52207b9c112deffd817036b");
const PERMIT2_PERMIT: B256 = b256!("c6a377bfc4eb120024a8ac08eef205be16b817020812c73223e81d1bdb9708ec");
/// Aave's, of credit.
const BORROW_ALLOWANCE: B256 = b256!("da919360433220e13b51e8c211e490d148e61a3bd53de8c097194e458b97f3e1");

/// Under this address nodes write transfers of ether as if it was a token.
const ETHER: Address = Address::new([0xee; 20]);

impl Policy {
    /// The transaction that a node has to try out before the decision, and the tokens whose balances are to be looked at. None
    /// is asked where it is denied, or allowed, whatever it would say.
    pub fn inquire_outcome<'a, K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &'a K::Asked,
        evidence: &Evidence,
    ) -> Option<(&'a Filled, Vec<Address>)> {
        let filled = filled::<K>(asked).filter(|_| self.asks_outcome)?;
        let moment = Moment { now: self.clock.now(), evidence: evidence.clone() };
        let whole = Whole::open(facts::<K>(caller, asked, &self.book, &moment), &self.wrappers);
        whole.is_open().ok()?;
        let mut tokens: Option<Vec<Address>> = None;
        for facts in whole.each() {
            let candidates = self.index.candidates(&facts.subject);
            self.forbidden(facts, &candidates).ok()?;
            if self.allowing(facts, &candidates).next().is_some() {
                continue;
            }
            let mut lacks = false;
            let lacking = self.naming(facts, &candidates).filter(|rule| lacks_nothing_else(rule, facts));
            for test in lacking.filter_map(test_of) {
                lacks = true;
                tokens.get_or_insert_default().extend(test.tokens.keys());
            }
            if !lacks {
                return None;
            }
        }
        let mut tokens = tokens?;
        tokens.sort_unstable();
        tokens.dedup();
        Some((filled, tokens))
    }
}

impl Policy {
    /// A simulation as a test case tells it: what leaves the account (amounts of ether, and of tokens by their symbols), whether
    /// somebody is let take something, and whether it reverts.
    pub fn pretend(
        &self,
        (chain, account): (u64, Address),
        out: &[String],
        (approves, reverts): (bool, bool),
    ) -> Result<Simulation, String> {
        let units = || self.book.contracts.values().filter(|contract| contract.chain == chain);
        let units = || units().filter_map(|contract| Some((contract.address, contract.unit.as_ref()?)));
        let mut seen = Simulation {
            reverts: reverts.then(|| "execution reverted".to_owned()),
            tokens: units().map(|(token, _)| (token, (U256::MAX, U256::MAX))).collect(),
            ..Simulation::default()
        };
        let event = |address, topic, data| Event {
            address,
            topics: vec![topic, account.into_word(), B256::with_last_byte(1)],
            data,
        };
        for text in out {
            let value = toml::Value::String(text.clone());
            let token = units().find(|(_, unit)| text.split_whitespace().nth(1) == Some(&unit.symbol));
            let Some((token, unit)) = token else {
                seen.ether = (Measure::Wei.read(&value)?, U256::ZERO);
                continue;
            };
            let amount = Measure::Token(unit.clone()).read(&value)?;
            if let Some((_, (_, after))) = seen.tokens.iter_mut().find(|(at, _)| *at == token) {
                *after = after.saturating_sub(amount);
            }
            seen.logs.push(event(token, TRANSFER, B256::from(amount).into()));
        }
        if approves {
            seen.logs.push(event(Address::ZERO, APPROVAL, B256::with_last_byte(1).into()));
        }
        Ok(seen)
    }
}

/// Whether a rule speaks of what a transaction does.
pub(in crate::policy) fn asks_outcome(rule: &Rule) -> bool {
    test_of(rule).is_some()
}

fn test_of(rule: &Rule) -> Option<&OutcomeTest> {
    rule.conditions.iter().find_map(|condition| match condition {
        Condition::Outcome(test) => Some(test),
        _ => None,
    })
}

fn lacks_nothing_else(rule: &Rule, facts: &Facts<'_>) -> bool {
    rule.failures(facts).iter().all(|failure| failure.condition == "outcome")
}

impl OutcomeTest {
    pub fn test(&self, facts: &Facts<'_>) -> Holds {
        let seen = match &facts.evidence.outcome {
            Simulated::Then => return Holds::Yes,
            Simulated::Never => return Holds::Unclear("no node was asked what it would do".to_owned()),
            Simulated::Failed(why) => {
                return Holds::Unclear(format!("no node could say what it would do: {why}"));
            }
            Simulated::Seen(seen) => seen,
        };
        match self.objection(seen, facts.account) {
            Ok(None) => Holds::Yes,
            Ok(Some(why)) => Holds::No(why),
            Err(why) => Holds::Unclear(why),
        }
    }

    /// What speaks against it; `Err` where what was seen does not say enough.
    fn objection(&self, seen: &Simulation, account: Address) -> Result<Option<String>, String> {
        if let Some(why) = &seen.reverts {
            return Ok(Some(format!("it would revert: {why}")));
        }
        let out = |(before, after): (U256, U256)| before.saturating_sub(after);
        let ether = out(seen.ether);
        if ether > self.ether {
            return Ok(Some(format!(
                "it would take {} from the account, and may take {}",
                show_wei(ether),
                show_wei(self.ether)
            )));
        }
        for (token, (most, unit)) in &self.tokens {
            let balances = seen.tokens.iter().find(|(at, _)| at == token);
            let Some((_, balances)) = balances else {
                return Err(format!("nobody looked at the account's balance of {token}"));
            };
            if out(*balances) > *most {
                return Ok(Some(format!(
                    "it would take {} from the account, and may take {}",
                    unit.show(out(*balances)),
                    unit.show(*most)
                )));
            }
        }
        Ok(self.unnamed(seen, account).or_else(|| self.granted(seen, account)))
    }

    /// A token that leaves the account, and that the rule does not name.
    fn unnamed(&self, seen: &Simulation, account: Address) -> Option<String> {
        let mut sums = BTreeMap::<Address, (U256, U256)>::new();
        for event in &seen.logs {
            match Moved::by(event, account) {
                Moved::Nothing => {}
                Moved::Single => {
                    return Some(format!(
                        "it would take something of {} from the account that is no amount",
                        event.address
                    ));
                }
                Moved::Out(amount) => {
                    let (out, _) = sums.entry(event.address).or_default();
                    *out = out.saturating_add(amount);
                }
                Moved::In(amount) => {
                    let (_, back) = sums.entry(event.address).or_default();
                    *back = back.saturating_add(amount);
                }
            }
        }
        let leaves =
            |(at, (out, back)): &(Address, (U256, U256))| out > back && !self.tokens.contains_key(at);
        let (at, _) = sums.into_iter().find(leaves)?;
        Some(format!("it would take of the token at {at} from the account, which the rule does not name"))
    }

    /// Somebody who may take something of the account's from then on.
    fn granted(&self, seen: &Simulation, account: Address) -> Option<String> {
        let granted = seen.logs.iter().find(|event| !self.approvals && grants(event, account))?;
        Some(format!("it would let another take from the account, by an approval of {}", granted.address))
    }
}

/// What an event says of the account's tokens.
enum Moved {
    Nothing,
    Out(U256),
    In(U256),
    /// One that is a thing of its own, or several of many kinds.
    Single,
}

impl Moved {
    fn by(event: &Event, account: Address) -> Self {
        let is = |topic: &B256| is_account(topic, account);
        // The balance says it better.
        if event.address == ETHER {
            return Self::Nothing;
        }
        let single = |from: &B256, to: &B256| {
            if is(from) && !is(to) { Self::Single } else { Self::Nothing }
        };
        match event.topics.as_slice() {
            [TRANSFER, from, to] | [SENT, _, from, to] => match (is(from), is(to), word(event, 0)) {
                (true, false, Some(amount)) => Self::Out(amount),
                (false, true, Some(amount)) => Self::In(amount),
                (true, false, None) => Self::Single,
                _ => Self::Nothing,
            },
            // ERC-721, and others that are of one thing or of one kind.
            [TRANSFER | ERC6909_TRANSFER, from, to, _] | [TRANSFER_SINGLE | TRANSFER_BATCH, _, from, to] => {
                single(from, to)
            }
            // Of before ERC-721: nothing is indexed.
            [TRANSFER] if event.data.len() == 96 => match (word(event, 0), word(event, 1)) {
                (Some(from), Some(to)) => single(&from.into(), &to.into()),
                _ => Self::Nothing,
            },
            [TRANSFER | ERC6909_TRANSFER | TRANSFER_SINGLE | TRANSFER_BATCH | SENT, ..]
                if mentions(event, account) =>
            {
                Self::Single
            }
            _ => Self::Nothing,
        }
    }
}

/// Whether it lets another take something of the account's.
fn grants(event: &Event, account: Address) -> bool {
    let by = |owner: &B256| is_account(owner, account);
    let is_some = |place: usize| word(event, place).is_none_or(|word| !word.is_zero());
    match event.topics.as_slice() {
        [APPROVAL | APPROVAL_FOR_ALL | OPERATOR_SET, owner, _]
        | [PERMIT2_APPROVAL | PERMIT2_PERMIT | BORROW_ALLOWANCE | ERC6909_APPROVAL, owner, _, _] => {
            by(owner) && is_some(0)
        }
        // Of one thing: nobody may take it where it is approved to nobody.
        [APPROVAL, owner, whom, _] => by(owner) && !whom.is_zero(),
        // As it was before Aave v3.
        [BORROW_ALLOWANCE, owner, _] => by(owner) && is_some(1),
        [AUTHORIZED_OPERATOR, _, holder] => by(holder),
        // Events of these names whose parts stand elsewhere.
        [
            APPROVAL | APPROVAL_FOR_ALL | OPERATOR_SET | PERMIT2_APPROVAL | PERMIT2_PERMIT | BORROW_ALLOWANCE
            | ERC6909_APPROVAL | AUTHORIZED_OPERATOR,
            ..,
        ] => mentions(event, account),
        _ => false,
    }
}

/// Whether the account stands anywhere in it.
fn mentions(event: &Event, account: Address) -> bool {
    let word = account.into_word();
    event.topics.contains(&word) || event.data.chunks(32).any(|part| part == word.as_slice())
}

fn is_account(word: &B256, account: Address) -> bool {
    *word == account.into_word()
}

/// A word of an event's data.
fn word(event: &Event, place: usize) -> Option<U256> {
    let start = place.checked_mul(32)?;
    U256::try_from_be_slice(event.data.get(start..start.checked_add(32)?)?)
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::DynSolValue;
    use alloy_primitives::{Bytes, keccak256};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, BOB, CONTRACTS, PAY, TREASURY, USDC, call, caller, policy, transaction, transfer, world,
    };
    use crate::policy::{Denied, Policy};
    use crate::transaction::Tx;

    fn with(outcome: &str) -> Policy {
        let rule = PAY.replace("execution_fee", &format!("outcome = {{ {outcome} }}\nexecution_fee"));
        policy(&format!("{CONTRACTS}{rule}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn paid() -> Value {
        json!({ "data": transfer(ALICE, 5) })
    }

    fn judge(policy: &Policy, outcome: Simulated) -> Result<(), Denied> {
        let evidence = Evidence { outcome, ..Evidence::default() };
        let moment = Moment { now: Timestamp::from_millis(0), evidence };
        policy.judge::<Tx>(&caller("ann"), &transaction(&paid()), moment).map(drop)
    }

    fn why(policy: &Policy, outcome: Simulated) -> String {
        judge(policy, outcome).map_or_else(|denied| denied.sentence, |()| String::new())
    }

    fn event(address: &str, signature: &str, topics: &[&str], data: &[u64]) -> Event {
        let topic = |at: &&str| at.parse::<Address>().unwrap().into_word();
        let words = data.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect::<Vec<_>>();
        let topics = std::iter::once(keccak256(signature)).chain(topics.iter().map(topic)).collect();
        Event { address: address.parse().unwrap(), topics, data: Bytes::from(words) }
    }

    /// Nothing but the events; 9 USDC of 10 are left.
    fn seen(logs: Vec<Event>) -> Simulation {
        let usdc = USDC.parse().unwrap();
        let balances = (U256::from(10_000_000), U256::from(9_000_000));
        Simulation { tokens: vec![(usdc, balances)], logs, ..Simulation::default() }
    }

    const MOVED: &str = "Transfer(address,address,uint256)";

    type Change = fn(&mut Simulation);

    #[test]
    fn inv_04_what_leaves_the_account_is_what_the_rule_names() {
        let rule = with("max_out = [\"1 USDC\", \"7 wei\"]");
        let ok = |change: &dyn Fn(&mut Simulation)| {
            let mut seen = seen(vec![event(USDC, MOVED, &[TREASURY, ALICE], &[1_000_000])]);
            change(&mut seen);
            why(&rule, Simulated::Seen(seen))
        };
        let number = |number: u64| U256::from(number);
        assert_eq!(ok(&|_| {}), "");
        assert_eq!(ok(&|seen| seen.ether = (number(9), number(2))), "");
        assert_eq!(ok(&|seen| seen.ether = (number(1), number(900))), "", "what comes in is no matter");
        let objections: [(Change, &str); 5] = [
            (|seen| seen.ether = (U256::from(9), U256::ONE), "take 8 wei"),
            (
                |seen| seen.tokens[0].1.1 = U256::from(8_999_999),
                "take 1.000001 USDC from the account, and may take 1 USDC",
            ),
            (|seen| seen.tokens.clear(), "nobody looked at the account's balance"),
            (|seen| seen.reverts = Some("no".to_owned()), "it would revert: no"),
            (|seen| seen.logs.push(event(BOB, MOVED, &[TREASURY, ALICE], &[1])), "the rule does not name"),
        ];
        for (change, expected) in objections {
            let sentence = ok(&change);
            assert!(sentence.contains(expected), "{expected}: {sentence}");
        }
        // What comes back is not lost.
        let back = [event(BOB, MOVED, &[TREASURY, ALICE], &[5]), event(BOB, MOVED, &[ALICE, TREASURY], &[5])];
        assert_eq!(ok(&|seen| seen.logs.extend(back.clone())), "");
        // Of others' tokens, and of a transfer to itself, nothing leaves.
        let others = [event(BOB, MOVED, &[ALICE, BOB], &[5]), event(BOB, MOVED, &[TREASURY, TREASURY], &[5])];
        assert_eq!(ok(&|seen| seen.logs.extend(others.clone())), "");
    }

    #[test]
    fn inv_04_things_and_permissions_do_not_leave_unnoticed() {
        let (none, any) =
            (with("max_out = [\"1 USDC\"]"), with("max_out = [\"1 USDC\"], approvals = \"any\""));
        let one = "0x0000000000000000000000000000000000000001";
        for (event, is_approval) in [
            (event(BOB, MOVED, &[TREASURY, ALICE, one], &[]), false),
            (event(BOB, MOVED, &[], &[0]), false),
            (
                event(
                    BOB,
                    "TransferSingle(address,address,address,uint256,uint256)",
                    &[ALICE, TREASURY, ALICE],
                    &[1, 1],
                ),
                false,
            ),
            (
                event(
                    BOB,
                    "TransferBatch(address,address,address,uint256[],uint256[])",
                    &[ALICE, TREASURY, ALICE],
                    &[1],
                ),
                false,
            ),
            (event(USDC, "Approval(address,address,uint256)", &[TREASURY, ALICE], &[1]), true),
            (event(BOB, "Approval(address,address,uint256)", &[TREASURY, ALICE, one], &[]), true),
            (event(BOB, "ApprovalForAll(address,address,bool)", &[TREASURY, ALICE], &[1]), true),
            (
                event(
                    BOB,
                    "Approval(address,address,address,uint160,uint48)",
                    &[TREASURY, USDC, ALICE],
                    &[1, 1],
                ),
                true,
            ),
            (
                event(
                    BOB,
                    "Permit(address,address,address,uint160,uint48,uint48)",
                    &[TREASURY, USDC, ALICE],
                    &[1, 1, 1],
                ),
                true,
            ),
            (
                event(
                    BOB,
                    "BorrowAllowanceDelegated(address,address,address,uint256)",
                    &[TREASURY, ALICE, USDC],
                    &[1],
                ),
                true,
            ),
            (
                event(
                    BOB,
                    "BorrowAllowanceDelegated(address,address,address,uint256)",
                    &[TREASURY, ALICE],
                    &[1, 1],
                ),
                true,
            ),
            (event(USDC, "Approval(address,address,uint256)", &[TREASURY, ALICE], &[]), true),
        ] {
            let mut event = event;
            if event.topics.len() == 1 {
                // Not indexed, as contracts of before ERC-721 are.
                event.data = TREASURY.parse::<Address>().unwrap().into_word().into();
            }
            let seen = Simulated::Seen(seen(vec![event.clone()]));
            assert!(judge(&none, seen.clone()).is_err(), "{event:?}");
            assert_eq!(judge(&any, seen).is_ok(), is_approval, "{event:?}");
        }
        for nothing in [
            event(USDC, "Approval(address,address,uint256)", &[TREASURY, ALICE], &[0]),
            event(USDC, "Approval(address,address,uint256)", &[ALICE, BOB], &[1]),
            event(BOB, "ApprovalForAll(address,address,bool)", &[TREASURY, ALICE], &[0]),
            event(
                BOB,
                "Approval(address,address,uint256)",
                &[TREASURY, "0x0000000000000000000000000000000000000000", one],
                &[],
            ),
            event("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE", MOVED, &[TREASURY, ALICE], &[7]),
        ] {
            assert_eq!(why(&none, Simulated::Seen(seen(vec![nothing.clone()]))), "", "{nothing:?}");
        }
    }

    /// Of before ERC-721, as the first of such tokens have it: from whom, to whom, and which one, none of them indexed.
    #[test]
    fn inv_04_a_thing_of_before_erc_721_leaves_as_others_do() {
        let kitty = |from: &str, to: &str| {
            let word = |at: &str| at.parse::<Address>().unwrap().into_word();
            let data = [word(from), word(to), U256::from(7).into()].concat();
            Event { data: data.into(), ..event(BOB, MOVED, &[], &[]) }
        };
        let policy = with("max_out = [\"1 USDC\"]");
        let judged = |from, to| judge(&policy, Simulated::Seen(seen(vec![kitty(from, to)])));
        assert!(judged(TREASURY, ALICE).unwrap_err().sentence.contains("that is no amount"));
        for (from, to) in [(ALICE, TREASURY), (TREASURY, TREASURY), (ALICE, BOB)] {
            assert!(judged(from, to).is_ok(), "{from} {to}");
        }
    }

    /// ERC-6909, ERC-777, and names that are known in layouts that are not.
    #[test]
    fn inv_04_what_newer_and_stranger_tokens_say_is_heard() {
        let (none, any) =
            (with("max_out = [\"1 USDC\"]"), with("max_out = [\"1 USDC\"], approvals = \"any\""));
        let one = "0x0000000000000000000000000000000000000001";
        for (event, is_approval) in [
            (
                event(
                    BOB,
                    "Transfer(address,address,address,uint256,uint256)",
                    &[TREASURY, ALICE, one],
                    &[1, 1],
                ),
                false,
            ),
            (event(BOB, "Approval(address,address,uint256,uint256)", &[TREASURY, ALICE, one], &[1]), true),
            (event(BOB, "OperatorSet(address,address,bool)", &[TREASURY, ALICE], &[1]), true),
            (
                event(
                    BOB,
                    "Sent(address,address,address,uint256,bytes,bytes)",
                    &[ALICE, TREASURY, ALICE],
                    &[1],
                ),
                false,
            ),
            (event(BOB, "AuthorizedOperator(address,address)", &[ALICE, TREASURY], &[]), true),
            // Names that are known, in layouts that are not.
            (event(BOB, MOVED, &[TREASURY], &[1, 1]), false),
            (event(BOB, MOVED, &[ALICE, BOB, one, TREASURY], &[]), false),
            (event(USDC, "Approval(address,address,uint256)", &[TREASURY], &[1, 1]), true),
            (event(BOB, "Permit(address,address,address,uint160,uint48,uint48)", &[TREASURY], &[1]), true),
        ] {
            let seen = Simulated::Seen(seen(vec![event.clone()]));
            assert!(judge(&none, seen.clone()).is_err(), "{event:?}");
            assert_eq!(judge(&any, seen).is_ok(), is_approval, "{event:?}");
        }
        for nothing in [
            event(USDC, "Approval(address,address,uint256)", &[ALICE, TREASURY], &[1]),
            event(BOB, "AuthorizedOperator(address,address)", &[TREASURY, ALICE], &[]),
            event(BOB, MOVED, &[ALICE], &[1, 1]),
            // A thing that comes in, goes back to where it is, or is others'.
            event(BOB, MOVED, &[ALICE, TREASURY, one], &[]),
            event(BOB, MOVED, &[TREASURY, TREASURY, one], &[]),
            event(BOB, MOVED, &[ALICE, BOB, one], &[]),
        ] {
            assert_eq!(why(&none, Simulated::Seen(seen(vec![nothing.clone()]))), "", "{nothing:?}");
        }
    }

    #[test]
    fn inv_04_a_node_that_cannot_say_allows_nothing() {
        let rule = with("max_out = [\"1 USDC\"]");
        for (outcome, expected) in [
            (Simulated::Never, "no node was asked"),
            (
                Simulated::Failed("the method does not exist".to_owned()),
                "no node could say what it would do: the method",
            ),
            (Simulated::Then, ""),
        ] {
            let sentence = why(&rule, outcome);
            assert!(sentence.contains(expected) && sentence.is_empty() == expected.is_empty(), "{sentence}");
        }
    }

    /// A simulation is asked for where it decides, and nowhere else.
    #[test]
    fn a_node_is_asked_only_where_nothing_else_is_missing() {
        let asked = |policy: &Policy, fields: &Value| {
            let filled = transaction(fields);
            let inquiry = policy.inquire_outcome::<Tx>(&caller("ann"), &filled, &Evidence::default());
            inquiry.map(|(_, tokens)| tokens)
        };
        let rule = with("max_out = [\"1 USDC\"]");
        assert_eq!(asked(&rule, &paid()), Some(vec![USDC.parse().unwrap()]));
        assert_eq!(asked(&rule, &json!({ "data": transfer(TREASURY, 5) })), None);
        assert_eq!(asked(&policy(&format!("{CONTRACTS}{PAY}")).unwrap(), &paid()), None);
        let other = format!(
            "{CONTRACTS}{PAY}{}",
            PAY.replace("\"pay\"", "\"tried\"").replace("execution_fee", "outcome = {}\nexecution_fee")
        );
        assert_eq!(asked(&policy(&other).unwrap(), &paid()), None, "another rule allows it as it is");
        assert_eq!(asked(&with(""), &paid()), Some(vec![]));
        // What is denied whatever it would say costs no node anything.
        let tried = PAY.replace("execution_fee", "outcome = {}\nexecution_fee");
        let asks = |more: &str| asked(&policy(&format!("{CONTRACTS}{tried}{more}")).unwrap(), &paid());
        assert_eq!(asks(""), Some(vec![]));
        assert_eq!(asks("[[rule]]\nid = \"no\"\neffect = \"deny\"\nkind = \"transaction\"\n"), None);
        assert_eq!(asks("[caps]\nmax_gas = 99_999\n"), None);
        // One that does not allow this, since it has to name what is called and does not, is not enough.
        let on_bob = |id: &str, more: &str| {
            let head = "effect = \"allow\"\nkind = \"transaction\"\nchain = 1\nclients = [\"trader\"]\nfrom = [\"treasury\"]";
            format!("[[rule]]\nid = \"{id}\"\n{head}\nto = [\"bob\"]\n{more}\n")
        };
        let any = on_bob("any", "call = \"any\"");
        let named = on_bob("named", "call = \"approveHash\"\noutcome = {}");
        let contracts = CONTRACTS.replace("bob   = {", "bob = { abi = \"safe\",");
        let both = policy(&format!("{contracts}{any}{named}")).unwrap();
        let data = call("approveHash(bytes32)", &[DynSolValue::FixedBytes(B256::ZERO, 32)]);
        assert_eq!(asked(&both, &json!({ "to": BOB, "data": data })), Some(vec![]));
    }

    #[test]
    fn mistakes_in_an_outcome_are_named() {
        let rule =
            |outcome: &str| PAY.replace("execution_fee", &format!("outcome = {outcome}\nexecution_fee"));
        for (text, what) in [
            (rule("{ max_out = [\"1 USDT\"] }"), "`USDT`"),
            (rule("{ max_out = [\"1 USDC\", \"2 USDC\"] }"), "names this twice"),
            (rule("{ max_out = [\"1 ether\", \"2 gwei\"] }"), "names this twice"),
            (rule("{ approvals = \"some\" }"), "expected \"none\" or \"any\""),
            (rule("{ max_in = [] }"), "unknown field `max_in`"),
            (rule("{}").replace("\"allow\"", "\"deny\""), "`outcome` goes with effect"),
            (
                rule("{}").replace("execution_fee", "via = [\"bob\"]\nexecution_fee"),
                "with `via` another contract",
            ),
            (
                rule("{}").replace("\"transaction\"", "\"presigned\"").replace("[\"treasury\"]", "[\"bob\"]"),
                "`outcome` goes with kind",
            ),
        ] {
            let error = policy(&format!("{CONTRACTS}{text}")).unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
        let twice = CONTRACTS.replace(
            "alice = { chain = 1,",
            "alice = { chain = 1, abi = \"erc20\", decimals = 6, symbol = \"USDC\",",
        );
        let error =
            policy(&format!("{twice}{}", rule("{ max_out = [\"1 USDC\"] }"))).unwrap_err().to_string();
        assert!(error.contains("is the symbol of"), "{error}");
        let told = with("max_out = [\"1 USDC\", \"2 gwei\"]").describe(&world());
        let says = "a node that tries it out finds that it takes at most 1 USDC, 2 gwei and nothing else, and lets nobody take anything";
        assert!(told.rules[0].text.contains(says), "{}", told.rules[0].text);
    }

    /// What a test case tells of a simulation is what a node would have said.
    #[test]
    fn a_simulation_can_be_told() {
        let policy = with("max_out = [\"1 USDC\", \"7 wei\"]");
        let account: Address = TREASURY.parse().unwrap();
        let pretend = |chain: u64, out: &[&str], flags: (bool, bool)| {
            let out: Vec<_> = out.iter().map(|text| (*text).to_owned()).collect();
            policy.pretend((chain, account), &out, flags)
        };
        let judged = |out: &[&str], flags: (bool, bool)| {
            why(&policy, Simulated::Seen(pretend(1, out, flags).unwrap()))
        };
        assert_eq!(judged(&[], (false, false)), "");
        assert_eq!(judged(&["1 USDC", "7 wei"], (false, false)), "");
        for (out, flags, says) in [
            (
                vec!["1.000001 USDC"],
                (false, false),
                "it would take 1.000001 USDC from the account, and may take 1 USDC",
            ),
            (vec!["8 wei"], (false, false), "it would take 8 wei from the account, and may take 7 wei"),
            (
                vec![],
                (true, false),
                "it would let another take from the account, by an approval of 0x0000000000000000000000000000000000000000",
            ),
            (vec![], (false, true), "it would revert: execution reverted"),
        ] {
            let said = judged(&out, flags);
            assert!(said.ends_with(&format!("`outcome`: {says}")), "{said}");
        }
        assert!(pretend(1, &["1 DAI"], (false, false)).is_err());
        assert!(pretend(5, &["1 USDC"], (false, false)).is_err(), "of a token of another chain");
        let nothing = with("");
        let paid = pretend(1, &["1 USDC"], (false, false)).unwrap();
        let said = why(&nothing, Simulated::Seen(paid));
        assert!(
            said.ends_with(&format!(
                "it would take of the token at {USDC} from the account, which the rule does not name"
            )),
            "{said}"
        );
    }
}
