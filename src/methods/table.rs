//! Every method there is. What is not listed is refused and never forwarded.

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    // Answered here.
    Accounts,
    Coinbase,
    ChainId,
    NetVersion,
    ClientVersion,
    // Judged here, and nothing more.
    Preflight,
    // Signed here, or signed elsewhere and judged here.
    SendTransaction,
    SendTransactionSync,
    SendRaw,
    SendRawSync,
    SendRawConditional,
    SignTransaction,
    PersonalSign,
    Sign,
    SignTypedData,
    SignAuthorization,
    // Asked of the node.
    TransactionCount,
    Forward(&'static str),
    NewFilter(&'static str),
    Filter(&'static str),
    // News of the node, for WebSockets.
    Subscribe,
    Unsubscribe,
}

/// Methods that the node answers as they are: the standard reads.
const READS: &[&str] = &[
    "eth_blobBaseFee",
    "eth_blockNumber",
    "eth_call",
    "eth_config",
    "eth_createAccessList",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_fillTransaction",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getBlockTransactionCountByHash",
    "eth_getBlockTransactionCountByNumber",
    "eth_getCode",
    "eth_getLogs",
    "eth_getProof",
    "eth_getStorageAt",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
    "eth_getUncleByBlockHashAndIndex",
    "eth_getUncleByBlockNumberAndIndex",
    "eth_getUncleCountByBlockHash",
    "eth_getUncleCountByBlockNumber",
    "eth_maxPriorityFeePerGas",
    "eth_protocolVersion",
    "eth_simulateV1",
    "eth_syncing",
    "net_listening",
    "net_peerCount",
    "web3_sha3",
];

/// Methods that make a filter.
const NEW_FILTERS: &[&str] = &["eth_newBlockFilter", "eth_newFilter", "eth_newPendingTransactionFilter"];

/// Methods that ask a filter.
const FILTERS: &[&str] = &["eth_getFilterChanges", "eth_getFilterLogs", "eth_uninstallFilter"];

impl Method {
    /// Exact match on the decoded name.
    pub fn find(name: &str) -> Option<Self> {
        Some(match name {
            "eth_accounts" | "eth_requestAccounts" => Self::Accounts,
            "eth_coinbase" => Self::Coinbase,
            "eth_chainId" => Self::ChainId,
            "net_version" => Self::NetVersion,
            // The second is what the OP Stack's signer client asks first.
            "web3_clientVersion" | "health_status" => Self::ClientVersion,
            "chancery_preflight" => Self::Preflight,
            "eth_sendTransaction" => Self::SendTransaction,
            "eth_sendTransactionSync" => Self::SendTransactionSync,
            "eth_sendRawTransaction" => Self::SendRaw,
            "eth_sendRawTransactionSync" => Self::SendRawSync,
            "eth_sendRawTransactionConditional" => Self::SendRawConditional,
            "eth_signTransaction" => Self::SignTransaction,
            "personal_sign" => Self::PersonalSign,
            "eth_sign" => Self::Sign,
            "eth_signTypedData" | "eth_signTypedData_v3" | "eth_signTypedData_v4" => Self::SignTypedData,
            "eth_signAuthorization" => Self::SignAuthorization,
            "eth_getTransactionCount" => Self::TransactionCount,
            "eth_subscribe" => Self::Subscribe,
            "eth_unsubscribe" => Self::Unsubscribe,
            other => {
                let listed = |in_list: &'static [&str]| in_list.iter().find(|known| **known == other);
                None.or_else(|| listed(READS).map(|name| Self::Forward(name)))
                    .or_else(|| listed(NEW_FILTERS).map(|name| Self::NewFilter(name)))
                    .or_else(|| listed(FILTERS).map(|name| Self::Filter(name)))?
            }
        })
    }

    /// Its name, the same for its aliases: a label for metrics, which are to have no more of them than there are
    /// methods.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accounts => "eth_accounts",
            Self::Coinbase => "eth_coinbase",
            Self::ChainId => "eth_chainId",
            Self::NetVersion => "net_version",
            Self::ClientVersion => "web3_clientVersion",
            Self::Preflight => "chancery_preflight",
            Self::SendTransaction => "eth_sendTransaction",
            Self::SendTransactionSync => "eth_sendTransactionSync",
            Self::SendRaw => "eth_sendRawTransaction",
            Self::SendRawSync => "eth_sendRawTransactionSync",
            Self::SendRawConditional => "eth_sendRawTransactionConditional",
            Self::SignTransaction => "eth_signTransaction",
            Self::PersonalSign => "personal_sign",
            Self::Sign => "eth_sign",
            Self::SignTypedData => "eth_signTypedData_v4",
            Self::SignAuthorization => "eth_signAuthorization",
            Self::TransactionCount => "eth_getTransactionCount",
            Self::Subscribe => "eth_subscribe",
            Self::Unsubscribe => "eth_unsubscribe",
            Self::Forward(name) | Self::NewFilter(name) | Self::Filter(name) => name,
        }
    }

    /// Whether the node answers it as it is, so that several go there together.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Forward(_))
    }

    /// Whether it asks a key for a signature, or brings one: each leaves a row in the audit.
    pub const fn signs(self) -> bool {
        matches!(
            self,
            Self::SendTransaction
                | Self::SendTransactionSync
                | Self::SendRaw
                | Self::SendRawSync
                | Self::SendRawConditional
                | Self::SignTransaction
                | Self::PersonalSign
                | Self::Sign
                | Self::SignTypedData
                | Self::SignAuthorization
        )
    }
}

/// Whether calls of this method in one batch are done one after the other, in their order: two sends without
/// nonces must get them in the order in which they stand.
pub fn is_ordered(method: &str) -> bool {
    Method::find(method).is_some_and(Method::signs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_04_what_is_not_listed_does_not_exist() {
        for name in [
            "",
            "ETH_ACCOUNTS",
            "eth_accounts ",
            "eth_sendTransactio",
            "eth_signTypedData_v1",
            "eth_resend",
            "eth_subscribeNewHeads",
            "wallet_sendTransaction",
            "personal_unlockAccount",
            "personal_sendTransaction",
            "anvil_nodeInfo",
            "anvil_impersonateAccount",
            "hardhat_metadata",
            "evm_mine",
            "engine_newPayloadV4",
            "admin_addPeer",
            "debug_traceTransaction",
            "miner_start",
            "txpool_content",
        ] {
            assert_eq!(Method::find(name), None, "{name}");
        }
    }

    #[test]
    fn the_reads_are_sorted_and_none_of_them_signs() {
        assert!(READS.is_sorted());
        for name in READS {
            assert_eq!(Method::find(name), Some(Method::Forward(name)));
            assert!(!is_ordered(name));
        }
        for name in
            ["eth_accounts", "eth_coinbase", "eth_chainId", "personal_sign", "eth_getTransactionCount"]
        {
            assert_eq!(Method::find(name).unwrap().label(), name);
        }
        assert!(is_ordered("eth_sendTransaction") && is_ordered("eth_signAuthorization"));
    }
}
