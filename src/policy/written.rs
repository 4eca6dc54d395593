//! Policy files as they are written: every key that may stand in them, and no other.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

pub(super) type Text = Spanned<String>;
pub(super) type List = Spanned<Vec<Text>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Followed before the files are read.
    #[serde(default, rename = "include")]
    pub _include: Vec<Text>,
    #[serde(default)]
    pub contracts: BTreeMap<Text, Contract>,
    #[serde(default)]
    pub lists: BTreeMap<Text, AddressList>,
    #[serde(default)]
    pub rule: Vec<Rule>,
    pub caps: Option<Spanned<Caps>>,
    #[serde(default)]
    pub rate: Vec<Rate>,
    #[serde(default)]
    pub budget: Vec<Budget>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contract {
    pub chain: Spanned<u64>,
    pub address: Text,
    pub abi: Option<Text>,
    pub decimals: Option<Spanned<u8>>,
    pub symbol: Option<Text>,
    pub underlying: Option<Text>,
    #[serde(default)]
    pub spends: Vec<Spend>,
}

/// Addresses in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressList {
    pub file: Text,
    pub sha256: Text,
}

/// What a call of a contract moves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spend {
    pub call: Text,
    pub asset: Text,
    pub amount: Text,
    pub to: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub id: Text,
    pub effect: Text,
    pub kind: Option<Text>,
    pub chain: Option<Spanned<u64>>,
    pub clients: Option<List>,
    pub from: Option<List>,
    pub to: Option<List>,
    pub via: Option<List>,
    pub delegatecall: Option<Spanned<bool>>,
    pub call: Option<Text>,
    pub args: Option<Spanned<BTreeMap<Text, Spanned<Value>>>>,
    pub value: Option<Spanned<Value>>,
    pub execution_fee: Option<Spanned<Value>>,
    pub blobs: Option<Spanned<Value>>,
    pub blob_fee: Option<Spanned<Value>>,
    pub delegates: Option<List>,
    pub text: Option<Spanned<Value>>,
    pub siwe: Option<Spanned<Siwe>>,
    pub replace: Option<Text>,
    pub hours: Option<Spanned<Value>>,
    pub primary_type: Option<Text>,
    pub fields: Option<Spanned<BTreeMap<Text, Spanned<Value>>>>,
    pub domain: Option<Spanned<Domain>>,
    pub outcome: Option<Spanned<Outcome>>,
}

/// What a transaction may do, by a node's simulation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outcome {
    #[serde(default)]
    pub max_out: Vec<Text>,
    pub approvals: Option<Text>,
}

/// What the domain of typed data says besides its chain and contract.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Domain {
    pub name: Option<String>,
    pub version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Siwe {
    pub domain: Option<List>,
    pub chain_id: Option<u64>,
    pub expires_within: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caps {
    pub max_fee_per_gas: Option<Text>,
    pub max_fee_per_blob_gas: Option<Text>,
    pub max_gas: Option<u64>,
    pub max_execution_fee: Option<Text>,
    pub max_calldata: Option<u64>,
    /// By chain id.
    #[serde(default)]
    pub chain: BTreeMap<Text, ChainCaps>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys as they are written")]
pub(super) struct ChainCaps {
    pub max_fee_per_gas: Option<Text>,
    pub max_fee_per_blob_gas: Option<Text>,
    pub max_gas: Option<u64>,
    pub max_execution_fee: Option<Text>,
    pub max_calldata: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub id: Text,
    pub max: Spanned<u32>,
    pub window: Text,
    #[serde(default)]
    pub per: Vec<Text>,
    pub r#match: Option<Match>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub id: Text,
    pub asset: Option<Text>,
    pub sum: Option<Text>,
    pub max: Spanned<Value>,
    pub window: Text,
    #[serde(default)]
    pub per: Vec<Text>,
    pub r#match: Option<Match>,
}

/// A rule's matchers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    pub kind: Option<Text>,
    pub chain: Option<Spanned<u64>>,
    pub clients: Option<List>,
    pub from: Option<List>,
    pub to: Option<List>,
    pub call: Option<Text>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::File;

    /// Whoever adds a key to the language adds it to the schema, and the other way round.
    #[test]
    fn the_schema_has_the_keys_that_are_read_and_no_others() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../assets/policy.schema.json")).unwrap();
        for (text, place) in [
            ("zz = 1", ""),
            ("[contracts]\na = { zz = 1 }", "/$defs/contract"),
            ("[contracts]\na = { spends = [{ zz = 1 }] }", "/$defs/spend"),
            ("[lists]\na = { zz = 1 }", "/$defs/list"),
            ("[[rule]]\nzz = 1", "/$defs/rule"),
            ("[[rule]]\ndomain = { zz = 1 }", "/$defs/domain"),
            ("[[rule]]\nsiwe = { zz = 1 }", "/$defs/siwe"),
            ("[[rule]]\noutcome = { zz = 1 }", "/$defs/outcome"),
            ("[caps]\nzz = 1", "/$defs/caps"),
            ("[caps.chain.1]\nzz = 1", "/$defs/chain_caps"),
            ("[[rate]]\nzz = 1", "/$defs/rate"),
            ("[[rate]]\nmatch = { zz = 1 }", "/$defs/match"),
            ("[[budget]]\nzz = 1", "/$defs/budget"),
        ] {
            let error = toml::from_str::<File>(text).err().unwrap().to_string();
            let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("{text}: {error}"));
            let read: BTreeSet<_> = expected.split('`').skip(1).step_by(2).collect();
            let told = schema.pointer(&format!("{place}/properties")).unwrap().as_object().unwrap();
            assert_eq!(told.keys().map(String::as_str).collect::<BTreeSet<_>>(), read, "{place}");
            let table = schema.pointer(place).unwrap();
            assert_eq!(table["additionalProperties"], false, "{place}");
        }
    }
}
