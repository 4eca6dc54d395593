// MetaMask's own network controller with a custom network, as its users add one. Runs in Node and in a service worker.
import { Messenger } from '@metamask/base-controller';
import { NetworkController } from '@metamask/network-controller';

/** A way to the network at this URL, through all that MetaMask has between its interface and the wire. */
export async function custom(rpcUrl, chainId) {
  const root = new Messenger();
  root.registerActionHandler('ErrorReportingService:captureException', (error) => console.error(error));
  const messenger = root.getRestricted({
    name: 'NetworkController',
    allowedActions: ['ErrorReportingService:captureException'],
    allowedEvents: [],
  });
  const controller = new NetworkController({
    messenger,
    infuraProjectId: 'none',
    getRpcServiceOptions: () => ({ fetch: globalThis.fetch.bind(globalThis), btoa: globalThis.btoa.bind(globalThis) }),
    getBlockTrackerOptions: () => ({ pollingInterval: 500 }),
  });
  const added = controller.addNetwork({
    chainId,
    name: 'Desk',
    nativeCurrency: 'ETH',
    blockExplorerUrls: [],
    defaultRpcEndpointIndex: 0,
    rpcEndpoints: [{ type: 'custom', url: rpcUrl, name: 'Chancery' }],
  });
  const { networkClientId } = added.rpcEndpoints[0];
  await controller.setActiveNetwork(networkClientId);
  const { provider, blockTracker } = controller.getNetworkClientById(networkClientId);
  return { controller, provider, blockTracker };
}

/** What MetaMask does on such a network: it looks, and sends what it has signed itself. Errors are told, not thrown. */
export async function trial({ url, chainId, account, allowed, denied }) {
  const { provider, blockTracker } = await custom(url, chainId);
  const ask = async (method, params = []) => {
    try {
      return { result: await provider.request({ method, params }) };
    } catch (error) {
      const inner = error.data?.cause ?? error.data ?? {};
      return { code: error.code, message: error.message, inner };
    }
  };
  const said = {
    version: await ask('net_version'),
    block: await blockTracker.getLatestBlock(),
    balance: await ask('eth_getBalance', [account, 'latest']),
    count: await ask('eth_getTransactionCount', [account, 'pending']),
    gas: await ask('eth_estimateGas', [{ from: account, to: account, value: '0x1' }]),
    allowed: await ask('eth_sendRawTransaction', [allowed]),
    denied: await ask('eth_sendRawTransaction', [denied]),
  };
  await blockTracker.destroy();
  return said;
}
