//! `[caps]`, and `[caps.chain.…]` where there are several chains.

use std::collections::BTreeMap;

use alloy_primitives::U256;

use crate::config::units;
use crate::policy::caps::{Caps, ChainCaps};
use crate::policy::read::File;
use crate::policy::world::World;
use crate::policy::written::{self, Text};

pub(super) fn read(file: &mut File<'_>, written: &written::Caps, world: &World) -> Caps {
    let fees = [
        ("max_fee_per_gas", &written.max_fee_per_gas),
        ("max_fee_per_blob_gas", &written.max_fee_per_blob_gas),
        ("max_execution_fee", &written.max_execution_fee),
    ];
    if world.chains.len() > 1 {
        for (key, fee) in fees.into_iter().filter_map(|(key, fee)| Some((key, fee.as_ref()?))) {
            let chains: Vec<_> = world.chains.iter().map(|chain| format!("[caps.chain.{chain}]")).collect();
            let what = format!(
                "`{key}` is an amount of one chain's coin, and there are several chains: write it in {}",
                chains.join(", ")
            );
            file.wrong(&fee.span(), what);
        }
    }
    let others = ChainCaps {
        fee_per_gas: fee_per_gas(file, written.max_fee_per_gas.as_ref()),
        fee_per_blob_gas: fee_per_gas(file, written.max_fee_per_blob_gas.as_ref()),
        execution_fee: execution_fee(
            file,
            written.max_execution_fee.as_ref(),
            ChainCaps::default().execution_fee,
        ),
        gas: written.max_gas,
        calldata: written.max_calldata,
    };
    let mut of_chain = BTreeMap::new();
    for (id, written) in &written.chain {
        let chain = id.get_ref().parse().ok().filter(|chain: &u64| chain.to_string() == *id.get_ref());
        let Some(chain) = chain else {
            file.wrong(&id.span(), format_args!("`{}` is no chain id; write [caps.chain.1]", id.get_ref()));
            continue;
        };
        let caps = ChainCaps {
            fee_per_gas: fee_per_gas(file, written.max_fee_per_gas.as_ref()).or(others.fee_per_gas),
            fee_per_blob_gas: fee_per_gas(file, written.max_fee_per_blob_gas.as_ref())
                .or(others.fee_per_blob_gas),
            execution_fee: execution_fee(file, written.max_execution_fee.as_ref(), others.execution_fee),
            gas: written.max_gas.or(others.gas),
            calldata: written.max_calldata.or(others.calldata),
        };
        of_chain.insert(chain, caps);
    }
    Caps { others, of_chain }
}

fn fee_per_gas(file: &mut File<'_>, written: Option<&Text>) -> Option<U256> {
    written.and_then(|text| file.right(&text.span(), units::wei(text.get_ref())))
}

/// `None` where it says "any".
fn execution_fee(file: &mut File<'_>, written: Option<&Text>, unsaid: Option<U256>) -> Option<U256> {
    let Some(written) = written else { return unsaid };
    if written.get_ref() == "any" {
        return None;
    }
    file.right(&written.span(), units::wei(written.get_ref()))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use serde_json::json;

    use crate::clock::Timestamp;
    use crate::policy::Denied;
    use crate::policy::Policy;
    use crate::policy::load::Source;
    use crate::policy::tests::{ALICE, TREASURY, built_in_only, caller, world};
    use crate::transaction::{Quote, QuotedFees, Request, Tx};

    const ANY: &str = "[[rule]]\nid = \"ID\"\neffect = \"allow\"\nkind = \"transaction\"\nchain = ID\nclients = [\"any\"]\nfrom = [\"any\"]\nto = [\"any\"]\ncall = \"any\"\n";

    fn with(caps: &str, chains: &[u64]) -> Result<Policy, String> {
        let rules = [1, 137, 10].map(|chain| ANY.replace("ID", &chain.to_string())).concat();
        let source =
            Source { name: "p.toml".to_owned(), path: "p.toml".into(), text: format!("{caps}{rules}") };
        let world = crate::policy::World { chains: chains.to_vec(), ..world() };
        Policy::of_sources(&[source], &world, built_in_only).map_err(|e| e.to_string())
    }

    /// A transaction of 100,000 gas on a chain.
    fn judge(policy: &Policy, chain: u64, gwei: u32) -> Result<(), Denied> {
        let price = format!("{:#x}", U256::from(gwei).saturating_mul(U256::from(1_000_000_000)));
        let request = json!([{ "from": TREASURY, "to": ALICE, "gasPrice": price }]);
        let fees = QuotedFees { base_fee: Some(1), max_priority_fee: 1, gas_price: 1 };
        let quote = Quote { chain_id: chain, mined: 0, gas: Some(100_000), fees: Some(fees) };
        let asked = Request::parse(Some(&request.to_string())).unwrap().fill(&quote, None).unwrap();
        policy.judge::<Tx>(&caller("ann"), &asked, Timestamp::from_millis(0)).map(drop)
    }

    #[test]
    fn inv_11_each_chain_has_caps_in_its_own_coin() {
        let caps = "[caps]\nmax_gas = 100_000\n[caps.chain.1]\nmax_execution_fee = \"0.01 ether\"\n\
                    [caps.chain.137]\nmax_execution_fee = \"10 ether\"\nmax_fee_per_gas = \"90_000 gwei\"\nmax_gas = 99_999\n";
        let policy = with(&caps.replace("max_gas = 99_999\n", ""), &[1, 137]).unwrap();
        let condition = |chain, gwei| judge(&policy, chain, gwei).err().and_then(|denied| denied.condition);
        assert_eq!(condition(1, 100), None);
        assert_eq!(condition(1, 101).as_deref(), Some("caps.max_execution_fee"));
        assert_eq!(condition(137, 90_000), None);
        assert_eq!(condition(137, 90_001).as_deref(), Some("caps.max_fee_per_gas"));
        assert_eq!(condition(10, 10_000), None, "of a chain that has none: one of its coin");
        assert_eq!(condition(10, 10_001).as_deref(), Some("caps.max_execution_fee"));
        let policy = with(caps, &[1, 137]).unwrap();
        assert_eq!(judge(&policy, 137, 1).unwrap_err().condition.as_deref(), Some("caps.max_gas"));
        assert!(judge(&policy, 1, 1).is_ok());
    }

    #[test]
    fn a_cap_in_a_coin_needs_its_chain_where_there_are_several() {
        let one = "[caps]\nmax_fee_per_gas = \"5 gwei\"\nmax_execution_fee = \"any\"\n";
        assert!(with(one, &[1]).is_ok());
        let error = with(one, &[1, 137]).unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(
            lines[0].starts_with("p.toml:2: `max_fee_per_gas` is an amount of one chain's coin"),
            "{error}"
        );
        assert!(
            lines[1].starts_with("p.toml:3: `max_execution_fee`") && lines[1].contains("[caps.chain.137]")
        );
        for (wrong, what) in [("mainnet", "is no chain id"), ("01", "is no chain id")] {
            let error = with(&format!("[caps.chain.{wrong}]\nmax_gas = 5\n"), &[1]).unwrap_err();
            assert!(error.contains("p.toml:1") && error.contains(what), "{error}");
        }
        assert!(with("[caps.chain.1]\nmax_gaz = 5\n", &[1]).unwrap_err().contains("unknown field `max_gaz`"));
        let other = with("[caps.chain.5]\nmax_gas = 5\n", &[1]).unwrap();
        let warnings = other.warnings(&world());
        assert!(warnings.iter().any(|one| one.what.contains("[caps.chain.5]")), "{warnings:?}");
    }
}
