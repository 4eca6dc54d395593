//! Calls that carry other calls. What is inside is not judged yet, so they are refused, whatever a rule says.

use std::collections::HashMap;

use alloy_primitives::{Selector, keccak256};

/// By signature, since that is what anyone can check.
const SIGNATURES: &[&str] = &[
    // multicall of routers, vaults and name services, with their deadlines and block hashes
    "multicall(bytes[])",
    "multicall(uint256,bytes[])",
    "multicall(bytes32,bytes[])",
    "batch(bytes[])",
    "batch(bytes[],bool)",
    // Multicall, Multicall2, Multicall3
    "aggregate((address,bytes)[])",
    "tryAggregate(bool,(address,bytes)[])",
    "blockAndAggregate((address,bytes)[])",
    "tryBlockAndAggregate(bool,(address,bytes)[])",
    "aggregate3((address,bool,bytes)[])",
    "aggregate3Value((address,bool,uint256,bytes)[])",
    // Safe and its modules
    "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
    "execTransactionFromModule(address,uint256,bytes,uint8)",
    "execTransactionFromModuleReturnData(address,uint256,bytes,uint8)",
    "multiSend(bytes)",
    // Universal Router
    "execute(bytes,bytes[])",
    "execute(bytes,bytes[],uint256)",
    // ERC-4337 and ERC-7579 accounts, and the entry point (0.6, 0.7 and later)
    "execute(address,uint256,bytes)",
    "execute(bytes32,bytes)",
    "executeBatch(address[],bytes[])",
    "executeBatch(address[],uint256[],bytes[])",
    "executeBatch((address,uint256,bytes)[])",
    "executeUserOp((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes),bytes32)",
    "handleOps((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address)",
    "handleOps((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address)",
    "handleAggregatedOps(((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address,bytes)[],address)",
    "handleAggregatedOps(((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address,bytes)[],address)",
    // DSProxy, access managers, and accounts of other making
    "execute(address,bytes)",
    "execute(address,uint256,bytes,uint8)",
    "execute((address,uint256,bytes)[])",
];

/// The known wrappers by selector.
#[derive(Debug)]
pub(in crate::policy) struct Wrappers(HashMap<Selector, &'static str>);

impl Wrappers {
    pub fn known() -> Self {
        let selector = |signature: &&'static str| {
            let hash = keccak256(signature.as_bytes());
            let selector = hash.first_chunk::<4>().copied().unwrap_or_default();
            (Selector::from(selector), *signature)
        };
        Self(SIGNATURES.iter().map(selector).collect())
    }

    /// The wrapper's signature.
    pub fn find(&self, selector: Selector) -> Option<&'static str> {
        self.0.get(&selector).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::abi::Function;

    #[test]
    fn the_selectors_are_those_that_are_on_chain() {
        let wrappers = Wrappers::known();
        for (selector, signature) in [
            ("ac9650d8", "multicall(bytes[])"),
            ("5ae401dc", "multicall(uint256,bytes[])"),
            ("1f0464d1", "multicall(bytes32,bytes[])"),
            ("252dba42", "aggregate((address,bytes)[])"),
            ("82ad56cb", "aggregate3((address,bool,bytes)[])"),
            ("174dea71", "aggregate3Value((address,bool,uint256,bytes)[])"),
            ("bce38bd7", "tryAggregate(bool,(address,bytes)[])"),
            ("8d80ff0a", "multiSend(bytes)"),
            ("24856bc3", "execute(bytes,bytes[])"),
            ("3593564c", "execute(bytes,bytes[],uint256)"),
            ("b61d27f6", "execute(address,uint256,bytes)"),
            ("47e1da2a", "executeBatch(address[],uint256[],bytes[])"),
            ("34fcd5be", "executeBatch((address,uint256,bytes)[])"),
            ("18dfb3c7", "executeBatch(address[],bytes[])"),
            ("e9ae5c53", "execute(bytes32,bytes)"),
            ("1cff79cd", "execute(address,bytes)"),
        ] {
            let selector: Selector = selector.parse().unwrap();
            assert_eq!(wrappers.find(selector), Some(signature));
        }
        assert!(
            wrappers.find("6a761202".parse().unwrap()).is_some_and(|s| s.starts_with("execTransaction("))
        );
        assert!(wrappers.find("1fad948c".parse().unwrap()).is_some_and(|s| s.starts_with("handleOps(")));
        assert!(wrappers.find("765e827f".parse().unwrap()).is_some_and(|s| s.starts_with("handleOps(")));
        assert_eq!(wrappers.find("a9059cbb".parse().unwrap()), None);
    }

    #[test]
    fn every_signature_is_one_and_they_differ() {
        for signature in SIGNATURES {
            assert_eq!(Function::parse(signature).unwrap().signature, *signature);
        }
        assert_eq!(Wrappers::known().0.len(), SIGNATURES.len());
    }
}
