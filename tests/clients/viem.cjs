'use strict';
const {
  createPublicClient, createWalletClient, http, recoverMessageAddress, recoverTypedDataAddress, webSocket,
} = require('viem');
const { anvil } = require('viem/chains');
const { version } = require('viem/package.json');
const scenario = require('./scenario.cjs');

(async () => {
  // As it comes; batched, as desks run it; or all of it over a WebSocket.
  const { URL: url, BY } = process.env;
  const socketUrl = url.replace('http', 'ws');
  const transport = BY === 'WebSocket' ? webSocket(socketUrl) : http(url, { batch: BY === 'batches' });
  const reader = createPublicClient({ chain: anvil, transport, pollingInterval: 200 });
  const wallet = createWalletClient({ chain: anvil, transport, account: process.env.FROM });
  const pay = (to, value, data) => wallet.sendTransaction({ to, value: BigInt(value), data });
  const mined = (hash) => reader.waitForTransactionReceipt({ hash });
  await scenario({
    name: BY ? `viem, ${BY}` : 'viem',
    version,
    accounts: () => wallet.getAddresses(),
    pay: async (to, wei, data) => ((await mined(await pay(to, wei, data))).status === 'success' ? 1 : 0),
    deploy: async (code) => (await mined(await wallet.deployContract({ abi: [], bytecode: code }))).contractAddress,
    call: async (to, data) => (await reader.call({ to, data })).data,
    many: (to, count) =>
      Promise.all(Array.from({ length: count }, async () => (await mined(await pay(to, 1))).transactionHash)),
    sign: (message) => wallet.signMessage({ message }),
    signer: (message, signature) => recoverMessageAddress({ message, signature }),
    typed: (data) => wallet.signTypedData(data),
    typedSigner: (data, signature) => recoverTypedDataAddress({ ...data, signature }),
    hears: async (contract, act) => {
      const socket = createPublicClient({ chain: anvil, transport: webSocket(socketUrl) });
      let stop;
      const heard = new Promise((resolve, reject) => {
        stop = socket.watchEvent({ address: contract, onLogs: ([log]) => resolve(log.address), onError: reject });
      });
      // The subscription is on its way, before this answers on the same socket.
      await socket.getBlockNumber();
      await act();
      const address = await heard;
      stop();
      return address;
    },
    trouble: ({ from, to }) => wallet.sendTransaction({ account: from, to, value: 1n }),
  });
  // Its WebSocket keeps it alive.
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
