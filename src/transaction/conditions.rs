//! The conditions of `eth_sendRawTransactionConditional`: in which state of the chain a transaction is to be included.
//! Read strictly and written anew; they say nothing of what is signed.

use serde_json::{Map, Value};

use crate::transaction::{MalformedValue, address, data, quantity};

/// Conditions as they go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions(Value);

/// What stands after the transaction, and is no set of conditions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionsError {
    #[error("expected two parameters, the signed transaction and an object of conditions")]
    Parameters,
    #[error("the conditions have `{0}`, which is not known")]
    Unknown(String),
    #[error("`{0}` {1}")]
    Field(&'static str, MalformedValue),
    #[error(
        "`knownAccounts` holds addresses, each with a storage root or an object of slots; all are 32 bytes"
    )]
    Accounts,
    #[error("`knownAccounts` speaks of more than {MAX_SLOTS} accounts and slots")]
    TooMany,
}

/// More than sequencers take.
const MAX_SLOTS: usize = 1000;

impl Conditions {
    pub fn parse(more: &[Value]) -> Result<Self, ConditionsError> {
        let [Value::Object(given)] = more else { return Err(ConditionsError::Parameters) };
        let mut read = Map::new();
        for (key, value) in given {
            let bound = |name: &'static str| {
                let text = value.as_str().ok_or(ConditionsError::Field(name, MalformedValue::NotAString))?;
                let number = quantity(text).map_err(|why| ConditionsError::Field(name, why))?;
                Ok(Value::String(format!("{number:#x}")))
            };
            let value = match key.as_str() {
                "blockNumberMin" => bound("blockNumberMin")?,
                "blockNumberMax" => bound("blockNumberMax")?,
                "timestampMin" => bound("timestampMin")?,
                "timestampMax" => bound("timestampMax")?,
                "knownAccounts" => accounts(value)?,
                other => return Err(ConditionsError::Unknown(other.chars().take(64).collect())),
            };
            read.insert(key.clone(), value);
        }
        Ok(Self(Value::Object(read)))
    }

    pub const fn json(&self) -> &Value {
        &self.0
    }
}

fn accounts(value: &Value) -> Result<Value, ConditionsError> {
    let given = value.as_object().ok_or(ConditionsError::Accounts)?;
    let mut count = given.len();
    let mut read = Map::new();
    for (account, known) in given {
        let account = address(account).map_err(|_| ConditionsError::Accounts)?;
        let known = match known {
            Value::Object(slots) => {
                count = count.saturating_add(slots.len());
                let slot =
                    |(slot, value): (&String, &Value)| Ok((word(slot)?, text(value).and_then(word)?.into()));
                Value::Object(slots.iter().map(slot).collect::<Result<_, _>>()?)
            }
            root => text(root).and_then(word)?.into(),
        };
        read.insert(account.to_string(), known);
    }
    if count > MAX_SLOTS { Err(ConditionsError::TooMany) } else { Ok(Value::Object(read)) }
}

fn text(value: &Value) -> Result<&str, ConditionsError> {
    value.as_str().ok_or(ConditionsError::Accounts)
}

/// 32 bytes.
fn word(text: &str) -> Result<String, ConditionsError> {
    let bytes = data(text).ok().filter(|bytes| bytes.len() == 32).ok_or(ConditionsError::Accounts)?;
    Ok(bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_read_strictly_and_written_anew() {
        let root = format!("0x{:064x}", 7);
        let at = "0x3535353535353535353535353535353535353535";
        let good = json!({ "blockNumberMax": "0xA", "knownAccounts": { at: { &root: &root } } });
        let read = Conditions::parse(&[good]).unwrap();
        assert_eq!(
            *read.json(),
            json!({ "blockNumberMax": "0xa", "knownAccounts": { at: { &root: &root } } })
        );
        assert!(Conditions::parse(&[json!({ "knownAccounts": { at: root } })]).is_ok());
        for (wrong, why) in [
            (json!(1), "expected two"),
            (json!({ "blocknumbermax": "0x1" }), "`blocknumbermax`, which is not known"),
            (json!({ "blockNumberMax": "0x01" }), "leading zeros"),
            (json!({ "timestampMin": 1 }), "must be a string"),
            (json!({ "knownAccounts": { at: "0x00" } }), "all are 32 bytes"),
            (json!({ "knownAccounts": [] }), "all are 32 bytes"),
        ] {
            assert!(Conditions::parse(&[wrong]).unwrap_err().to_string().contains(why), "{why}");
        }
        assert_eq!(Conditions::parse(&[]), Err(ConditionsError::Parameters));
    }

    #[test]
    fn inv_12_conditions_speak_of_so_many_accounts_and_slots_and_no_more() {
        let word = |at: usize| format!("0x{at:064x}");
        let account = |at: usize| format!("0x{at:040x}");
        // One account with its slots counts as all of them together.
        let slots = |count: usize| {
            let slots: Map<_, _> = (0..count).map(|at| (word(at), Value::String(word(at)))).collect();
            Conditions::parse(&[json!({ "knownAccounts": { account(0): slots } })])
        };
        let roots = |count: usize| {
            let roots: Map<_, _> = (0..count).map(|at| (account(at), Value::String(word(at)))).collect();
            Conditions::parse(&[json!({ "knownAccounts": roots })])
        };
        assert!(slots(MAX_SLOTS - 1).is_ok() && roots(MAX_SLOTS).is_ok());
        assert_eq!(slots(MAX_SLOTS), Err(ConditionsError::TooMany));
        assert_eq!(roots(MAX_SLOTS + 1), Err(ConditionsError::TooMany));
    }

    #[test]
    fn each_bound_is_read_under_its_own_name() {
        for name in ["blockNumberMin", "blockNumberMax", "timestampMin", "timestampMax"] {
            let read = Conditions::parse(&[json!({ name: "0xAb" })]).unwrap();
            assert_eq!(*read.json(), json!({ name: "0xab" }));
            let said = Conditions::parse(&[json!({ name: "5" })]).unwrap_err().to_string();
            assert_eq!(said, format!("`{name}` must begin with 0x"));
        }
        let long = "x".repeat(100);
        let said = Conditions::parse(&[json!({ long: "0x1" })]).unwrap_err();
        assert_eq!(said, ConditionsError::Unknown("x".repeat(64)));
        let lower = "0xcd2a3d9f938e13cd947ec05abc7fe734df8dd826";
        let read =
            Conditions::parse(&[json!({ "knownAccounts": { lower: format!("0x{:064X}", 0xab) } })]).unwrap();
        let expected = json!({ "knownAccounts": { "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826": format!("0x{:064x}", 0xab) } });
        assert_eq!(*read.json(), expected, "written anew");
    }
}
