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

/// Methods that are done here, and those that need more than to be passed on.
const NAMED: &[(&str, Method)] = &[
    ("eth_accounts", Method::Accounts),
    ("eth_requestAccounts", Method::Accounts),
    ("eth_coinbase", Method::Coinbase),
    ("eth_chainId", Method::ChainId),
    ("net_version", Method::NetVersion),
    ("web3_clientVersion", Method::ClientVersion),
    // What the OP Stack's signer client asks first.
    ("health_status", Method::ClientVersion),
    ("chancery_preflight", Method::Preflight),
    ("eth_sendTransaction", Method::SendTransaction),
    ("eth_sendTransactionSync", Method::SendTransactionSync),
    ("eth_sendRawTransaction", Method::SendRaw),
    ("eth_sendRawTransactionSync", Method::SendRawSync),
    ("eth_sendRawTransactionConditional", Method::SendRawConditional),
    ("eth_signTransaction", Method::SignTransaction),
    ("personal_sign", Method::PersonalSign),
    ("eth_sign", Method::Sign),
    ("eth_signTypedData", Method::SignTypedData),
    ("eth_signTypedData_v3", Method::SignTypedData),
    ("eth_signTypedData_v4", Method::SignTypedData),
    ("eth_signAuthorization", Method::SignAuthorization),
    ("eth_getTransactionCount", Method::TransactionCount),
    ("eth_subscribe", Method::Subscribe),
    ("eth_unsubscribe", Method::Unsubscribe),
];

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
        let listed = |in_list: &'static [&str]| in_list.iter().find(|known| **known == name);
        let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, method)| *method);
        named
            .or_else(|| listed(READS).map(|name| Self::Forward(name)))
            .or_else(|| listed(NEW_FILTERS).map(|name| Self::NewFilter(name)))
            .or_else(|| listed(FILTERS).map(|name| Self::Filter(name)))
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

    /// Whether it leaves something behind that only its answer names.
    pub const fn leaves_a_name(self) -> bool {
        matches!(self, Self::NewFilter(_) | Self::Subscribe)
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

    /// The lists of the browser's extension: each by its name, with the names in it.
    fn of_the_extension() -> Vec<(&'static str, Vec<&'static str>)> {
        let lists = include_str!("../../deploy/browser/methods.js").split("export const ").skip(1);
        let quoted = |list: &'static str| list.split("]);").next().unwrap().split('\'').skip(1).step_by(2);
        lists.map(|list| (list.split(' ').next().unwrap(), quoted(list).collect())).collect()
    }

    #[test]
    fn somebody_decided_of_each_method_what_the_browsers_pages_get() {
        let lists = of_the_extension();
        let names: Vec<_> = lists.iter().map(|(list, _)| *list).collect();
        assert_eq!(names, ["OWN", "SIGNS", "RAW", "PASSED", "NEWS", "NOT_FOR_PAGES"]);
        let ours = NAMED.iter().map(|(name, _)| name).chain(READS).chain(NEW_FILTERS).chain(FILTERS);
        for name in ours {
            let found: Vec<_> =
                lists.iter().filter(|(_, all)| all.contains(name)).map(|(list, _)| *list).collect();
            let [list] = found[..] else {
                panic!("`{name}` stands in {found:?} of deploy/browser/methods.js")
            };
            // Nobody signs without being asked.
            let may = match Method::find(name).unwrap() {
                Method::SendRaw | Method::SendRawSync => &["RAW", "NOT_FOR_PAGES"][..],
                method if method.signs() => &["SIGNS", "NOT_FOR_PAGES"],
                Method::Accounts | Method::Coinbase => &["OWN"],
                Method::Subscribe | Method::Unsubscribe => &["NEWS", "NOT_FOR_PAGES"],
                _ => &["OWN", "PASSED", "NOT_FOR_PAGES"],
            };
            assert!(may.contains(&list), "`{name}` in {list}");
        }
        for (list, all) in lists.iter().filter(|(list, _)| *list != "OWN") {
            for name in all {
                assert!(Method::find(name).is_some(), "the gateway does not know `{name}` of {list}");
            }
        }
    }
}
