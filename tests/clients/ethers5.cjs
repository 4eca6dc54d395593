'use strict';
const { ethers } = require('ethers5');
const scenario = require('./scenario.cjs');

(async () => {
  const provider = new ethers.providers.JsonRpcProvider(process.env.URL);
  provider.pollingInterval = 200;
  const signer = provider.getSigner();
  const pay = (to, value, data) => signer.sendTransaction({ to, value, data });
  await scenario({
    name: 'ethers 5',
    version: ethers.version.replace('ethers/', ''),
    accounts: () => provider.listAccounts(),
    pay: async (to, wei, data) => (await (await pay(to, wei, data)).wait()).status,
    deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
    call: (to, data) => provider.call({ to, data }),
    many: (to, count) =>
      Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).transactionHash)),
    sign: (text) => signer.signMessage(text),
    signer: (text, signature) => ethers.utils.verifyMessage(text, signature),
    typed: ({ domain, types, message }) => signer._signTypedData(domain, types, message),
    typedSigner: ({ domain, types, message }, signature) => ethers.utils.verifyTypedData(domain, types, message, signature),
    hears: async (contract, act) => {
      const socket = new ethers.providers.WebSocketProvider(process.env.URL.replace('http', 'ws'));
      const heard = new Promise((resolve) => socket.on({ address: contract }, (log) => resolve(log.address)));
      // The subscription is on its way, before this answers on the same socket.
      await socket.getBlockNumber();
      await act();
      const address = await heard;
      await socket.destroy();
      return address;
    },
    trouble: ({ from, to }) => provider.getSigner(from).sendTransaction({ to, value: 1 }),
  });
})().catch((error) => { console.error(error); process.exit(1); });
