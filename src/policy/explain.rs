//! Why a decision is as it is: every rule that is for this client and account, and what kept it from matching.

use alloy_primitives::Address;
use serde::Serialize;

use crate::identity::AccountCaller;
use crate::policy::Moment;
use crate::policy::argument::show_value;
use crate::policy::budget::Charge;
use crate::policy::decide::Policy;
use crate::policy::denied::Denied;
use crate::policy::facts::{Facts, Subject};
use crate::policy::judged::{Judged, facts};
use crate::policy::rule::{Effect, Failure, Rule};
use crate::policy::typed::TypedFacts;
use crate::policy::wrapper::Whole;

/// A decision taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What the payload was read as.
    pub asked: String,
    /// The calls that it carries.
    pub inside: Vec<String>,
    /// The arguments of the call by name, where the contract's ABI is known, or the members of typed data.
    pub arguments: Vec<(String, String)>,
    pub allowed: bool,
    /// The rule that allows or forbids it, or comes nearest.
    pub rule: Option<String>,
    /// The refusal as the client reads it.
    pub sentence: Option<String>,
    /// What it takes from budgets, if it is allowed. Whether they have it, the ledger knows.
    pub charges: Vec<ChargeReport>,
    /// Rules for this client and account: those that match first, then by the number of failed conditions.
    pub rules: Vec<RuleReport>,
    /// How many rules are for other clients, accounts or kinds of payload.
    pub others: usize,
}

/// What is taken from one budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChargeReport {
    pub budget: String,
    /// Whose count it is; empty where there is one for all.
    pub scope: String,
    /// As a person reads it, as are the others.
    pub amount: String,
    pub max: String,
    pub window: String,
}

/// How one rule sees the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    pub rule: String,
    pub effect: &'static str,
    pub file: String,
    pub line: usize,
    pub matches: bool,
    /// Each condition that does not hold, and why.
    pub failures: Vec<(String, String)>,
}

impl Policy {
    /// Takes a decision apart. Rates, and what is left of budgets, are not looked at.
    pub fn explain<K: Judged>(
        &self,
        caller: &AccountCaller,
        asked: &K::Asked,
        at: impl Into<Moment>,
    ) -> Explanation {
        let moment = at.into();
        let (decision, charges) = match self.assess::<K>(caller, asked, moment.clone()) {
            Ok((rule, charges)) => (Ok(rule), charges),
            Err(denied) => (Err(denied), Vec::new()),
        };
        let whole = Whole::open(facts::<K>(caller, asked, &self.book, &moment), &self.wrappers);
        let facts = facts::<K>(caller, asked, &self.book, &moment);
        // Every rule is asked, not only those that the index finds.
        let judged: Vec<_> = self.rules.iter().map(|rule| (rule, rule.failures(&facts))).collect();
        let about = |failures: &[Failure]| {
            !failures.iter().any(|failure| failure.is_about_who() || failure.condition == "kind")
        };
        let mut rules: Vec<_> = judged.iter().filter(|(_, failures)| about(failures)).collect();
        rules.sort_by_key(|(_, failures)| failures.len());
        Explanation {
            asked: facts.describe(),
            inside: whole.each().skip(1).map(Facts::describe).collect(),
            arguments: arguments(&facts),
            allowed: decision.is_ok(),
            rule: match &decision {
                Ok(rule) => Some(rule.to_string()),
                Err(denied) => denied.rule.clone(),
            },
            sentence: decision.err().map(|denied: Denied| denied.sentence),
            charges: charges.iter().map(ChargeReport::from).collect(),
            others: judged.len().saturating_sub(rules.len()),
            rules: rules.into_iter().map(|(rule, failures)| report(rule, failures)).collect(),
        }
    }

    /// The address that a label of `[contracts]` or an account's name means.
    pub fn address_of(&self, name: &str) -> Option<Address> {
        let contract = self.book.contracts.values().find(|contract| contract.label == name);
        let account = || self.book.accounts.iter().find(|(_, known)| *known == name).map(|(at, _)| *at);
        contract.map(|contract| contract.address).or_else(account)
    }

    /// The symbol and decimals of the token at an address, if they are the same on all of these chains that have one.
    pub fn unit_at(&self, chains: &[u64], address: Address) -> Option<(&str, u8)> {
        let contracts = chains.iter().filter_map(|chain| self.book.contract(*chain, address));
        let mut units = contracts.filter_map(|contract| contract.unit.as_ref());
        let unit = units.next()?;
        units.all(|other| other == unit).then_some((unit.symbol.as_str(), unit.decimals))
    }

    /// How many rules, rates and budgets there are.
    pub const fn size(&self) -> (usize, usize, usize) {
        (self.rules.len(), self.rates.len(), self.budgets.len())
    }
}

impl From<&Charge> for ChargeReport {
    fn from(charge: &Charge) -> Self {
        let limit = &charge.limit;
        Self {
            budget: limit.id.clone(),
            scope: charge.scope.clone(),
            amount: limit.show(charge.amount),
            max: limit.show(limit.max),
            window: limit.show_window(),
        }
    }
}

fn report(rule: &Rule, failures: &[Failure]) -> RuleReport {
    RuleReport {
        rule: rule.id.to_string(),
        effect: match rule.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        },
        file: rule.place.file.display().to_string(),
        line: rule.place.line,
        matches: failures.is_empty(),
        failures: failures.iter().map(|failure| (failure.condition.clone(), failure.why.clone())).collect(),
    }
}

fn members(typed: &TypedFacts<'_>, facts: &Facts<'_>) -> Vec<(String, String)> {
    let chain = typed.chain().unwrap_or_default();
    let members = typed.asked.ty().members().iter().zip(typed.asked.values());
    members.map(|(member, value)| (member.name.clone(), show_value(value, None, facts, chain))).collect()
}

fn arguments(facts: &Facts<'_>) -> Vec<(String, String)> {
    let transaction = match &facts.subject {
        Subject::Transaction(transaction) => transaction,
        Subject::TypedData(typed) => return members(typed, facts),
        Subject::Authorization(asked) => {
            let delegate = facts.delegate(asked.chain_id(), asked.delegate());
            return vec![("delegate".to_owned(), delegate)];
        }
        Subject::Message(_) => return Vec::new(),
    };
    let Some(function) = transaction.function() else { return Vec::new() };
    let chain = transaction.chain;
    match transaction.arguments(function).as_ref() {
        Ok(values) => values
            .iter()
            .enumerate()
            .map(|(at, value)| (function.label(at), show_value(value, None, facts, chain)))
            .collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::tests::{
        ALICE, CONTRACTS, PAY, TREASURY, USDC, caller, policy, structured, template, transaction, transfer,
    };
    use crate::transaction::{Authorization, DelegationRequest, Message, Text, Tx, TypedData};

    #[test]
    fn a_tokens_unit_is_known_where_it_is_the_same_on_each_chain() {
        let usdc: Address = USDC.parse().unwrap();
        let one = policy(CONTRACTS).unwrap();
        assert_eq!(one.unit_at(&[1], usdc), Some(("USDC", 6)));
        assert_eq!((one.unit_at(&[10], usdc), one.unit_at(&[1], ALICE.parse().unwrap())), (None, None));
        let there = format!(
            "there = {{ chain = 10, address = \"{USDC}\", abi = \"erc20\", decimals = 18, symbol = \"USDC\" }}\n"
        );
        let two = policy(&format!("{CONTRACTS}{there}")).unwrap();
        assert_eq!((two.unit_at(&[10], usdc), two.unit_at(&[1, 10], usdc)), (Some(("USDC", 18)), None));
        assert_eq!((two.address_of("usdc"), two.address_of("nobody")), (Some(usdc), None));
    }

    fn explained(policy: &Policy, fields: &serde_json::Value) -> Explanation {
        policy.explain::<Tx>(&caller("ann"), &transaction(fields), Timestamp::from_millis(0))
    }

    #[test]
    fn a_decision_is_taken_apart_to_the_last_word() {
        let more = "[[rule]]\nid = \"a-deny\"\neffect = \"deny\"\nkind = \"transaction\"\nto = [\"bob\"]\n\
                    [[budget]]\nid = \"day\"\nasset = \"usdc\"\nmax = \"9 USDC\"\nwindow = \"24h\"\nper = [\"client\"]\n";
        let policy = policy(&format!("{CONTRACTS}{PAY}{more}")).unwrap();
        let told = explained(&policy, &json!({ "data": transfer(ALICE, 5_000_000) }));
        assert_eq!(
            told.asked,
            format!("call transfer(address,uint256) of `usdc` ({USDC}) from `treasury` ({TREASURY})")
        );
        assert_eq!((told.allowed, told.rule.as_deref(), told.sentence.as_deref()), (true, Some("pay"), None));
        let argument = |name: &str, value: String| (name.to_owned(), value);
        assert_eq!(
            told.arguments,
            [argument("to", format!("`alice` ({ALICE})")), argument("amount", "5000000".to_owned())]
        );
        let charge = ChargeReport {
            budget: "day".to_owned(),
            scope: "client=ann".to_owned(),
            amount: "5 USDC".to_owned(),
            max: "9 USDC".to_owned(),
            window: "24h".to_owned(),
        };
        assert_eq!((told.charges, told.others, told.inside), (vec![charge], 0, vec![]));
        let [pay, deny] = told.rules.as_slice() else { panic!("{:?}", told.rules) };
        assert_eq!((pay.rule.as_str(), pay.effect, pay.matches, pay.line), ("pay", "allow", true, 8));
        assert_eq!((deny.rule.as_str(), deny.effect, deny.matches), ("a-deny", "deny", false));
        let why = format!("the target is `usdc` ({USDC}), which is not among those of the rule");
        assert_eq!(deny.failures, [("to".to_owned(), why)]);
        assert_eq!(policy.size(), (2, 0, 1));
    }

    #[test]
    fn the_members_of_typed_data_and_the_delegate_are_shown() {
        let policy = policy(CONTRACTS).unwrap();
        let message =
            json!({ "owner": TREASURY, "spender": ALICE, "value": "7", "nonce": "0", "deadline": "9" });
        let asked = structured(&template("Permit", USDC, message));
        let told = policy.explain::<TypedData>(&caller("ann"), &asked, Timestamp::from_millis(0));
        let shown: Vec<_> = told.arguments.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let (owner, spender) =
            (format!("owner `treasury` ({TREASURY})"), format!("spender `alice` ({ALICE})"));
        assert_eq!(shown, [&owner, &spender, "value 7", "nonce 0", "deadline 9"]);
        for (delegate, is, asks) in [
            (
                ALICE,
                format!("`alice` ({ALICE})"),
                format!("sign that the code of `alice` ({ALICE}) may act as `treasury` ({TREASURY})"),
            ),
            (
                "0x0000000000000000000000000000000000000000",
                "\"none\" (the zero address)".to_owned(),
                format!("sign that no contract's code acts as `treasury` ({TREASURY}) any more"),
            ),
        ] {
            let asked = json!([{ "from": TREASURY, "address": delegate }]).to_string();
            let asked = DelegationRequest::parse(Some(&asked)).unwrap().fill(1, 0).unwrap();
            let told = policy.explain::<Authorization>(&caller("ann"), &asked, Timestamp::from_millis(0));
            assert_eq!((told.asked, told.arguments), (asks, vec![("delegate".to_owned(), is)]));
        }
        let text = Text::new(TREASURY.parse().unwrap(), alloy_primitives::Bytes::from_static(b"hello"));
        let told = policy.explain::<Message>(&caller("ann"), &text, Timestamp::from_millis(0));
        assert_eq!(told.asked, format!("sign this message of 5 bytes with `treasury` ({TREASURY})"));
        assert_eq!((told.arguments, told.others), (vec![], 0));
    }

    /// What is for another kind of payload, for other clients or other accounts is counted, and not shown.
    #[test]
    fn rules_for_others_are_counted_only() {
        let rules = "[[rule]]\nid = \"talk\"\neffect = \"deny\"\nkind = \"message\"\n\
                     [[rule]]\nid = \"bens\"\neffect = \"deny\"\nclients = [\"ben\"]\n\
                     [[rule]]\nid = \"anns\"\neffect = \"deny\"\nclients = [\"ann\"]\nkind = \"typed_data\"\n";
        let policy = policy(&format!("{CONTRACTS}{PAY}{rules}")).unwrap();
        let told = explained(&policy, &json!({ "data": transfer(ALICE, 1) }));
        let shown: Vec<_> = told.rules.iter().map(|rule| rule.rule.as_str()).collect();
        assert_eq!((shown, told.others), (vec!["pay"], 3));
    }
}
