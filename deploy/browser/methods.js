// Every method there is for a page, by its exact name, and what is done with it. What is not listed is refused, and no gateway
// hears of it. The gateway's tests compare these lists with its own (`src/methods/table.rs`): each method of its stands in one.

/** What the extension answers itself. */
export const OWN = new Set([
  'eth_accounts',
  'eth_chainId',
  'eth_coinbase',
  'eth_requestAccounts',
  'net_version',
  'wallet_addEthereumChain',
  'wallet_getPermissions',
  'wallet_requestPermissions',
  'wallet_revokePermissions',
  'wallet_switchEthereumChain',
]);

/** What the user is asked about before the gateway is, and where the account stands in its parameters. */
export const SIGNS = new Map([
  ['eth_sendTransaction', ([transaction]) => transaction?.from],
  ['eth_sendTransactionSync', ([transaction]) => transaction?.from],
  ['eth_sign', ([account]) => account],
  ['eth_signTransaction', ([transaction]) => transaction?.from],
  ['eth_signTypedData', ([account]) => account],
  ['eth_signTypedData_v3', ([account]) => account],
  ['eth_signTypedData_v4', ([account]) => account],
  ['personal_sign', ([, account]) => account],
]);

/** What brings a signature of its own: it may be made once only, and the same bytes are the same transaction. */
export const RAW = new Set(['eth_sendRawTransaction', 'eth_sendRawTransactionSync']);

/** Reads, which go to the gateway as they are. */
export const PASSED = new Set([
  'eth_blobBaseFee',
  'eth_blockNumber',
  'eth_call',
  'eth_createAccessList',
  'eth_estimateGas',
  'eth_feeHistory',
  'eth_fillTransaction',
  'eth_gasPrice',
  'eth_getBalance',
  'eth_getBlockByHash',
  'eth_getBlockByNumber',
  'eth_getBlockReceipts',
  'eth_getBlockTransactionCountByHash',
  'eth_getBlockTransactionCountByNumber',
  'eth_getCode',
  'eth_getFilterChanges',
  'eth_getFilterLogs',
  'eth_getLogs',
  'eth_getProof',
  'eth_getStorageAt',
  'eth_getTransactionByBlockHashAndIndex',
  'eth_getTransactionByBlockNumberAndIndex',
  'eth_getTransactionByHash',
  'eth_getTransactionCount',
  'eth_getTransactionReceipt',
  'eth_getUncleByBlockHashAndIndex',
  'eth_getUncleByBlockNumberAndIndex',
  'eth_getUncleCountByBlockHash',
  'eth_getUncleCountByBlockNumber',
  'eth_maxPriorityFeePerGas',
  'eth_newBlockFilter',
  'eth_newFilter',
  'eth_newPendingTransactionFilter',
  'eth_protocolVersion',
  'eth_simulateV1',
  'eth_syncing',
  'eth_uninstallFilter',
  'net_listening',
  'net_peerCount',
  'web3_clientVersion',
  'web3_sha3',
]);

/** What goes over the page's WebSocket. */
export const NEWS = new Set(['eth_subscribe', 'eth_unsubscribe']);

/**
 * What a gateway knows and a page does not get: nobody could ask the user about an authorization (EIP-7702), and the rest is for
 * programs of the desk's own.
 */
export const NOT_FOR_PAGES = new Set([
  'chancery_preflight',
  'eth_config',
  'eth_sendRawTransactionConditional',
  'eth_signAuthorization',
  'health_status',
]);
