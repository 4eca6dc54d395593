//! What a node means by its refusal: told by the text, not by the code, which each node chooses freely.
//!
//! The table holds the texts of geth, reth, Besu, Nethermind, Erigon and anvil; its order matters, because some
//! texts contain others. What is not in it is unknown, and an unknown outcome counts as sent.

use crate::ledger::RefusalClass;

/// The meaning of a refusal's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The node has this very transaction.
    Known,
    /// It will never take it as it is; the text is in geth's words.
    Refused(RefusalClass, String),
    Unknown,
}

/// What geth would have said; `None` keeps the node's own text.
type Words = Option<&'static str>;

const KNOWN: &[&str] =
    &["already known", "known transaction", "already imported", "alreadyknown", "same hash"];

const REFUSED: &[(RefusalClass, Words, &[&str])] = &[
    (RefusalClass::NonceTooLow, Some("nonce too low"), &["nonce too low", "oldnonce"]),
    (
        RefusalClass::ReplacementUnderpriced,
        Some("replacement transaction underpriced"),
        &["replacement transaction underpriced", "replacementnotallowed", "could not replace"],
    ),
    (
        RefusalClass::InsufficientFunds,
        Some("insufficient funds for gas * price + value"),
        &["insufficient funds", "upfront cost exceeds", "insufficientfunds"],
    ),
    (
        RefusalClass::IntrinsicGas,
        Some("intrinsic gas too low"),
        &[
            "intrinsic gas too low",
            "intrinsic gas exceeds gas limit",
            "intrinsicgas",
            "insufficient gas for floor data",
        ],
    ),
    (
        RefusalClass::GasLimit,
        Some("exceeds block gas limit"),
        &[
            "exceeds block gas limit",
            "intrinsic gas too high",
            "transaction gas limit too high",
            "exceeds max transaction gas limit",
            "gas limit reached",
            "gas limit is too high",
        ],
    ),
    (RefusalClass::FeeCap, None, &["exceeds the configured cap", "transaction fee cap exceeded"]),
    (
        RefusalClass::Underpriced,
        Some("transaction underpriced"),
        &[
            "transaction underpriced",
            "gas price below",
            "max fee per gas less than block base fee",
            "fee too low",
            "feetoolow",
            "underpriced",
        ],
    ),
    (
        RefusalClass::ChainId,
        Some("invalid chain id for signer"),
        &["invalid chain id", "wrong chainid", "chainid is required", "only replay-protected"],
    ),
    (
        RefusalClass::Undecodable,
        None,
        &["failed to decode", "invalid transaction params", "rlp:", "typed transaction too short"],
    ),
];

pub(super) fn classify(text: &str) -> Verdict {
    let lower = text.to_lowercase();
    if KNOWN.iter().any(|known| lower.contains(known)) {
        return Verdict::Known;
    }
    let row = REFUSED.iter().find(|(_, _, texts)| texts.iter().any(|part| lower.contains(part)));
    row.map_or(Verdict::Unknown, |(class, words, _)| {
        // The node's own figures (balance, cost) are worth keeping where it speaks like geth anyway.
        let words = words.filter(|words| !lower.starts_with(words));
        Verdict::Refused(*class, words.map_or_else(|| text.chars().take(256).collect(), str::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use RefusalClass::{
        ChainId, FeeCap, GasLimit, InsufficientFunds, IntrinsicGas, NonceTooLow, ReplacementUnderpriced,
        Undecodable, Underpriced,
    };

    /// The texts of the nodes as measured or read in their sources.
    #[test]
    fn every_nodes_text_is_understood() {
        for (class, texts) in [
            (
                NonceTooLow,
                &["nonce too low: next nonce 5, tx nonce 4", "Nonce too low", "OldNonce, Current nonce: 5"][..],
            ),
            (
                ReplacementUnderpriced,
                &[
                    "replacement transaction underpriced",
                    "Replacement transaction underpriced",
                    "replacement transaction underpriced: new tx gas fee cap 1 <= 2 queued",
                    "ReplacementNotAllowed",
                    "could not replace existing tx",
                ],
            ),
            (
                InsufficientFunds,
                &[
                    "Insufficient funds for gas * price + value",
                    "insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1",
                    "insufficient funds for gas * price + value: have 1 want 2",
                    "Upfront cost exceeds account balance",
                    "InsufficientFunds, Account balance: 1, cumulative cost: 2",
                    "insufficient funds",
                ],
            ),
            (
                IntrinsicGas,
                &[
                    "intrinsic gas too low",
                    "intrinsic gas too low: gas 1, minimum needed 21000",
                    "Intrinsic gas exceeds gas limit",
                    "IntrinsicGas",
                    "insufficient gas for floor data gas cost: gas 1, minimum needed 2",
                ],
            ),
            (
                GasLimit,
                &[
                    "intrinsic gas too high -- tx.gas_limit > env.block.gas_limit",
                    "exceeds block gas limit",
                    "transaction gas limit too high (cap: 16777216, tx: 30000000)",
                    "exceeds max transaction gas limit",
                    "Transaction gas limit exceeds block gas limit",
                    "gas limit reached",
                    "gas limit is too high",
                ],
            ),
            (
                FeeCap,
                &[
                    "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)",
                    "tx fee (2 wei) exceeds the configured cap (1 wei)",
                    "Transaction fee cap exceeded",
                ],
            ),
            (
                Underpriced,
                &[
                    "transaction underpriced",
                    "transaction gas price below minimum: gas tip cap 0, minimum needed 1",
                    "Gas price below configured minimum gas price",
                    "Gas price below current base fee",
                    "max fee per gas less than block base fee",
                    "FeeTooLow, MaxFeePerGas too low",
                    "fee too low",
                    "underpriced",
                ],
            ),
            (
                ChainId,
                &[
                    "invalid chain id for signer",
                    "invalid sender: invalid chain id for signer: have 1 want 2",
                    "invalid chain ID",
                    "Wrong chainId",
                    "ChainId is required",
                    "only replay-protected (EIP-155) transactions allowed over RPC",
                ],
            ),
            (
                Undecodable,
                &[
                    "Failed to decode transaction",
                    "failed to decode signed transaction",
                    "rlp: expected input list for types.LegacyTx",
                    "Invalid transaction params (missing or incorrect)",
                ],
            ),
        ] {
            for text in texts {
                assert!(matches!(classify(text), Verdict::Refused(found, _) if found == class), "{text}");
            }
        }
    }

    #[test]
    fn a_transaction_that_the_node_has_is_known() {
        for text in [
            "already known",
            "transaction already imported",
            "Known transaction",
            "AlreadyKnown",
            "existing txn with same hash",
        ] {
            assert_eq!(classify(text), Verdict::Known, "{text}");
        }
    }

    /// Whatever else a node says, the transaction may be on its way.
    #[test]
    fn inv_10_what_is_not_recognised_is_unknown() {
        for text in [
            "",
            "txpool is full",
            "address already reserved",
            "account limit exceeded: pooled 64 txs",
            "nonce too high",
            "gapped-nonce tx from delegated accounts",
            "internal error",
            "daily request count exceeded, request rate limited",
            "future transaction tries to replace pending",
        ] {
            assert_eq!(classify(text), Verdict::Unknown, "{text}");
        }
    }

    #[test]
    fn a_refusal_reads_as_geth_would_have_said_it() {
        let besu = classify("Upfront cost exceeds account balance");
        let geth = "insufficient funds for gas * price + value";
        assert_eq!(besu, Verdict::Refused(InsufficientFunds, geth.to_owned()));
        let own = "insufficient funds for gas * price + value: have 1 want 2";
        assert_eq!(classify(own), Verdict::Refused(InsufficientFunds, own.to_owned()));
    }
}
