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
    /// It wants a lower nonce first.
    Gap,
    Unknown,
}

/// The longest text of a node that is kept and passed on, in characters.
const MAX_TEXT: usize = 256;

const KNOWN: &[&str] =
    &["already known", "known transaction", "already imported", "alreadyknown", "same hash"];

/// Contains a text of `KNOWN` and means its opposite.
const NOT_KNOWN: &str = "unknown transaction";

/// A class, what geth says in its place, and the nodes' texts. Where a text has two parts, both must be there.
type Row = (RefusalClass, &'static str, &'static [(&'static str, &'static str)]);

const REFUSED: &[Row] = &[
    (RefusalClass::NonceTooLow, "nonce too low", &[("nonce too low", ""), ("oldnonce", "")]),
    (
        RefusalClass::ReplacementUnderpriced,
        "replacement transaction underpriced",
        &[("replacement ", "underpriced"), ("replacementnotallowed", ""), ("could not replace", "")],
    ),
    (
        RefusalClass::InsufficientFunds,
        "insufficient funds for gas * price + value",
        &[("insufficient funds", ""), ("upfront cost exceeds", ""), ("insufficientfunds", "")],
    ),
    (
        RefusalClass::IntrinsicGas,
        "insufficient gas for floor data gas cost",
        &[("insufficient gas for floor data", "")],
    ),
    (
        RefusalClass::IntrinsicGas,
        "intrinsic gas too low",
        &[("intrinsic gas too low", ""), ("intrinsic gas exceeds gas limit", ""), ("intrinsicgas", "")],
    ),
    (RefusalClass::GasLimit, "transaction gas limit too high", &[("transaction gas limit too high", "")]),
    (
        RefusalClass::GasLimit,
        "exceeds block gas limit",
        &[
            ("exceeds block gas limit", ""),
            ("intrinsic gas too high", ""),
            ("exceeds max transaction gas limit", ""),
            ("gas limit reached", ""),
            ("gas limit is too high", ""),
        ],
    ),
    (
        RefusalClass::FeeCap,
        "tx fee exceeds the configured cap",
        &[("exceeds the configured cap", ""), ("transaction fee cap exceeded", "")],
    ),
    (
        RefusalClass::Underpriced,
        "max fee per gas less than block base fee",
        &[("max fee per gas less than block base fee", ""), ("gas price below current base fee", "")],
    ),
    (
        RefusalClass::Underpriced,
        "transaction gas price below minimum",
        &[("transaction gas price below minimum", "")],
    ),
    (
        RefusalClass::Underpriced,
        "transaction underpriced",
        &[("underpriced", ""), ("gas price below", ""), ("fee too low", ""), ("feetoolow", "")],
    ),
    (
        RefusalClass::ChainId,
        "only replay-protected (EIP-155) transactions allowed over RPC",
        &[("only replay-protected", ""), ("chainid is required", "")],
    ),
    (
        RefusalClass::ChainId,
        "invalid chain id for signer",
        &[("invalid chain id", ""), ("wrong chainid", "")],
    ),
    (
        RefusalClass::Undecodable,
        "",
        &[
            ("failed to decode", ""),
            ("invalid transaction params", ""),
            ("rlp:", ""),
            ("typed transaction too short", ""),
            ("transaction type not supported", ""),
        ],
    ),
    // Of the bytes alone, so that no node of this chain will ever take them.
    (RefusalClass::TooLarge, "oversized data", &[("oversized data", "")]),
    (RefusalClass::TooLarge, "max initcode size exceeded", &[("initcode size", "exceed")]),
];

/// A nonce below is missing at the node. It may be on its way, so this says nothing of the transaction.
const GAP: &[&str] = &["nonce too high", "noncegap", "too distant", "too far in future", "gapped"];

pub(super) fn classify(text: &str) -> Verdict {
    let lower = text.to_ascii_lowercase();
    let has = |part: &str| lower.contains(part);
    if !has(NOT_KNOWN) && KNOWN.iter().any(|known| has(known)) {
        return Verdict::Known;
    }
    if GAP.iter().any(|gap| has(gap)) {
        return Verdict::Gap;
    }
    let row = REFUSED.iter().find(|(_, _, texts)| texts.iter().any(|(one, other)| has(one) && has(other)));
    row.map_or(Verdict::Unknown, |(class, words, _)| Verdict::Refused(*class, in_geths_words(text, words)))
}

/// The node's own figures (balance, cost) are worth keeping where it speaks like geth anyway.
fn in_geths_words(text: &str, words: &str) -> String {
    match text.split_at_checked(words.len()) {
        Some((said, figures)) if said.eq_ignore_ascii_case(words) => shortened(&format!("{words}{figures}")),
        // geth's own words for a fee above its cap have the fee in the middle.
        _ if words.starts_with("tx fee") && text.starts_with("tx fee (") => shortened(text),
        _ => words.to_owned(),
    }
}

/// A node's text, no longer than anybody needs, in one line. A contract chooses why it reverts: nothing in it may move a
/// terminal's cursor, or turn around what stands beside it.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if is_unseen(c) { ' ' } else { c }).collect()
}

/// Whether it is no letter, but tells whoever shows it what to do.
fn is_unseen(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use RefusalClass::{
        ChainId, FeeCap, GasLimit, InsufficientFunds, IntrinsicGas, NonceTooLow, ReplacementUnderpriced,
        TooLarge, Undecodable, Underpriced,
    };

    #[test]
    fn what_a_contract_says_when_it_reverts_moves_no_terminal() {
        let said = shortened("execution reverted: \u{1b}[2J\u{9b}1mpaid\r\nall\u{202e}well \u{e9}\u{4e2d}");
        assert_eq!(said, "execution reverted:  [2J 1mpaid  all well \u{e9}\u{4e2d}");
    }

    /// The texts of the nodes as measured or read in their sources.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
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
                    "transaction type not supported",
                ],
            ),
            (
                TooLarge,
                &[
                    "oversized data: transaction size 131200, limit 131072",
                    "max initcode size exceeded: code size 50000, limit 49152",
                    "Initcode size of 50000 exceeds maximum size of 49152",
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

    /// Payloads are signed side by side: what is missing below is on its way, so this is no refusal.
    #[test]
    fn inv_10_a_node_that_misses_a_lower_nonce_has_refused_nothing() {
        for text in [
            "Nonce too high",
            "nonce too high",
            "nonce too high: tx nonce 9, gapped nonce 5",
            "Transaction nonce is too distant from current sender nonce",
            "nonce too far in future",
            "NonceGap, Future nonce. Expected nonce: 5",
            "gapped-nonce tx from delegated accounts",
        ] {
            assert_eq!(classify(text), Verdict::Gap, "{text}");
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
            "in-flight transaction limit reached for delegated accounts",
            "pending sub-pool is full",
            "The transaction was added to the transaction pool but wasn't processed in 20s",
            "unknown transaction",
            "Unknown transaction type",
            "internal error",
            "daily request count exceeded, request rate limited",
            "future transaction tries to replace pending",
        ] {
            assert_eq!(classify(text), Verdict::Unknown, "{text}");
        }
    }

    #[test]
    fn a_refusal_reads_as_geth_would_have_said_it() {
        for (said, words) in [
            ("Upfront cost exceeds account balance", "insufficient funds for gas * price + value"),
            ("insufficient funds", "insufficient funds for gas * price + value"),
            // Figures stay, capitals do not: clients look for geth's own letters.
            (
                "Insufficient funds for gas * price + value: have 1 want 2",
                "insufficient funds for gas * price + value: have 1 want 2",
            ),
            ("Nonce too low", "nonce too low"),
            ("OldNonce, Current nonce: 5", "nonce too low"),
            ("ReplacementNotAllowed", "replacement transaction underpriced"),
            (
                "transaction gas limit too high (cap: 16777216, tx: 3)",
                "transaction gas limit too high (cap: 16777216, tx: 3)",
            ),
            ("Transaction gas limit exceeds block gas limit", "exceeds block gas limit"),
            (
                "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)",
                "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)",
            ),
            ("Transaction fee cap exceeded", "tx fee exceeds the configured cap"),
            ("Gas price below current base fee", "max fee per gas less than block base fee"),
            ("FeeTooLow, MaxFeePerGas too low", "transaction underpriced"),
            ("Wrong chainId", "invalid chain id for signer"),
            ("Failed to decode transaction", "Failed to decode transaction"),
        ] {
            assert!(matches!(classify(said), Verdict::Refused(_, found) if found == words), "{said}");
        }
        let endless = format!("nonce too low: {}", "é".repeat(1_000));
        assert!(matches!(classify(&endless), Verdict::Refused(_, text) if text.chars().count() == MAX_TEXT));
    }
}
